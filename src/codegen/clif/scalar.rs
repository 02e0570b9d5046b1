//! Scalar expressions, and loads and stores of one element.
//!
//! Emission goes over the arena in order, operands first, so its depth does not depend on the
//! depth of an expression.

use super::super::error::CodeError;
use super::super::math::emit::{Placement, emit_binary, emit_unary};
use super::super::math::integer::{emit_float_to_int, emit_floor_div, emit_floor_mod};
use super::super::math::{BinaryFn, MathFn};
use super::bodies::Body;
use super::clif_type;
use super::function::{FuncCx, internal};
use crate::dtype::DType;
use crate::graph::expr::Literal;
use crate::loops::ir::{BufferId, Scalar, ScalarId};
use crate::ops::scalar::{BinaryOp, UnaryOp};
use cranelift_codegen::ir::condcodes::{FloatCC, IntCC};
use cranelift_codegen::ir::{AliasRegion, InstBuilder, MemFlagsData, Type, Value, types};
use std::collections::BTreeSet;

/// The address of an element.
#[derive(Clone, Copy)]
pub(super) struct Place {
    pub address: Value,
    /// # Units
    /// Bytes to add.
    pub disp: i32,
    pub region: AliasRegion,
}

impl Place {
    /// Flags of an access here.
    pub(super) fn flags(self, aligned: bool) -> MemFlagsData {
        let flags = MemFlagsData::new().with_notrap().with_alias_region(Some(self.region));
        if aligned { flags.with_aligned() } else { flags }
    }
}

impl FuncCx<'_, '_> {
    /// Emits an expression that does not depend on a lane.
    pub(super) fn scalar(&mut self, root: ScalarId) -> Result<Value, CodeError> {
        if let Some(known) = self.known(root) {
            return Ok(known);
        }
        let mut needed = BTreeSet::new();
        let mut pending = vec![root];
        while let Some(id) = pending.pop() {
            if self.known(id).is_none() && needed.insert(id) {
                pending.extend(self.inputs(id));
            }
        }
        for id in needed {
            let value = self.node(id)?;
            if self.pure[id.0 as usize] {
                if let Some(scope) = self.scopes.last_mut() {
                    scope.insert(id, value);
                }
            } else {
                self.memo.insert(id, value);
            }
        }
        self.known(root).ok_or_else(|| internal(self.env.func, "an expression was not emitted"))
    }

    fn known(&self, id: ScalarId) -> Option<Value> {
        if self.pure[id.0 as usize] {
            self.scopes.iter().rev().find_map(|scope| scope.get(&id)).copied()
        } else {
            self.memo.get(&id).copied()
        }
    }

    fn emitted(&self, id: ScalarId) -> Result<Value, CodeError> {
        self.known(id).ok_or_else(|| internal(self.env.func, "an operand follows its user"))
    }

    /// The expressions whose values the emission of `id` uses: its operands, with constants that
    /// become displacements left out.
    pub(super) fn inputs(&self, id: ScalarId) -> Vec<ScalarId> {
        match self.env.func.scalars.get(id) {
            Scalar::Load(buffer, index) => self.split_index(*buffer, *index).0.into_iter().collect(),
            _ => self.env.func.scalars.operands(id).collect(),
        }
    }

    fn node(&mut self, id: ScalarId) -> Result<Value, CodeError> {
        let func = self.env.func;
        let dtype = func.scalars.dtype(id);
        match func.scalars.get(id) {
            Scalar::Const(literal) => self.literal(*literal, dtype),
            Scalar::Dim(dim) => match self.sizes.get(dim) {
                Some(value) => Ok(value),
                None => Err(internal(func, format!("the size {dim} was not computed"))),
            },
            Scalar::Var(var) => self.var(*var),
            Scalar::Local(local) => {
                let variable = self.local(*local)?;
                Ok(self.builder.use_var(variable))
            }
            Scalar::Load(buffer, index) => {
                let place = self.place(*buffer, *index)?;
                self.load(place, dtype)
            }
            Scalar::Unary(op, a) => {
                let a = self.emitted(*a)?;
                self.unary(*op, dtype, a)
            }
            Scalar::Binary(op, a, b) => {
                let operand = func.scalars.dtype(*a);
                if let Some(divisor) = self.int_const(*b)
                    && let Some(value) = self.by_power_of_two(*op, *a, divisor)?
                {
                    return Ok(value);
                }
                let (a, b) = (self.emitted(*a)?, self.emitted(*b)?);
                self.binary(*op, operand, a, b)
            }
            Scalar::Select(c, a, b) => {
                let (c, a, b) = (self.emitted(*c)?, self.emitted(*a)?, self.emitted(*b)?);
                Ok(self.builder.ins().select(c, a, b))
            }
            Scalar::Cast(a) => {
                let from = func.scalars.dtype(*a);
                let a = self.emitted(*a)?;
                self.cast(from, dtype, a)
            }
        }
    }

    /// A literal of a type.
    pub(super) fn literal(&mut self, literal: Literal, dtype: DType) -> Result<Value, CodeError> {
        let ty = clif_type(dtype)?;
        Ok(match (literal, dtype) {
            (Literal::Real(bits), DType::F32) => self.builder.ins().f32const(f64::from_bits(bits) as f32),
            (Literal::Real(bits), _) => self.builder.ins().f64const(f64::from_bits(bits)),
            (Literal::Int(value), DType::I32) => self.builder.ins().iconst(ty, i64::from(value as u32)),
            (Literal::Int(value), _) => self.builder.ins().iconst(ty, value),
            (Literal::Bool(value), _) => self.builder.ins().iconst(ty, i64::from(value)),
        })
    }

    /// The value of an integer literal.
    pub(super) fn int_const(&self, id: ScalarId) -> Option<i64> {
        match self.env.func.scalars.get(id) {
            Scalar::Const(Literal::Int(value)) => Some(*value),
            Scalar::Dim(dim) => dim.as_const(),
            _ => None,
        }
    }

    /// Floored division and remainder by a power of two: a shift and a mask.
    fn by_power_of_two(
        &mut self,
        op: BinaryOp,
        a: ScalarId,
        divisor: i64,
    ) -> Result<Option<Value>, CodeError> {
        if !matches!(op, BinaryOp::FloorDiv | BinaryOp::Mod) || divisor.count_ones() != 1 || divisor < 0 {
            return Ok(None);
        }
        let a = self.emitted(a)?;
        Ok(Some(if op == BinaryOp::Mod {
            self.builder.ins().band_imm_s(a, divisor - 1)
        } else {
            self.builder.ins().sshr_imm_u(a, i64::from(divisor.trailing_zeros()))
        }))
    }

    /// Splits an index into an expression and a displacement in bytes that fits an address.
    pub(super) fn split_index(&self, buffer: BufferId, index: ScalarId) -> (Option<ScalarId>, i64) {
        let size = self.buffer_dtype(buffer).size_bytes() as i64;
        let fits = |elems: i64| elems.checked_mul(size).is_some_and(|bytes| bytes.abs() < 1 << 30);
        let (mut rest, mut elems) = (index, 0i64);
        loop {
            if let Some(value) = self.int_const(rest) {
                return match elems.checked_add(value).filter(|sum| fits(*sum)) {
                    Some(sum) => (None, sum * size),
                    None => (Some(rest), elems * size),
                };
            }
            let Scalar::Binary(BinaryOp::Add, a, b) = self.env.func.scalars.get(rest) else { break };
            let (inner, value) = match (self.int_const(*a), self.int_const(*b)) {
                (_, Some(value)) => (*a, value),
                (Some(value), _) => (*b, value),
                _ => break,
            };
            match elems.checked_add(value).filter(|sum| fits(*sum)) {
                Some(sum) => (rest, elems) = (inner, sum),
                None => break,
            }
        }
        (Some(rest), elems * size)
    }

    /// The address of an element of a buffer.
    pub(super) fn place(&mut self, buffer: BufferId, index: ScalarId) -> Result<Place, CodeError> {
        let (rest, disp) = self.split_index(buffer, index);
        let rest = rest.map(|rest| self.scalar(rest)).transpose()?;
        self.place_at(buffer, rest, disp)
    }

    /// The address `index` elements and `disp` bytes into a buffer.
    pub(super) fn place_at(
        &mut self,
        buffer: BufferId,
        index: Option<Value>,
        disp: i64,
    ) -> Result<Place, CodeError> {
        let base = self.base(buffer)?;
        let shift = self.buffer_dtype(buffer).size_bytes().trailing_zeros();
        let mut address = base.pointer;
        if let Some(index) = index {
            let bytes = match shift {
                0 => index,
                _ => self.builder.ins().ishl_imm_u(index, i64::from(shift)),
            };
            address = self.builder.ins().iadd(address, bytes);
        }
        let total = base.disp + disp;
        let disp = match i32::try_from(total) {
            Ok(disp) => disp,
            Err(_) => {
                address = self.builder.ins().iadd_imm_s(address, total);
                0
            }
        };
        Ok(Place { address, disp, region: base.region })
    }

    /// Loads one element.
    pub(super) fn load(&mut self, place: Place, dtype: DType) -> Result<Value, CodeError> {
        let ty = clif_type(dtype)?;
        Ok(self.builder.ins().load(ty, place.flags(true), place.address, place.disp))
    }

    /// Stores one element.
    pub(super) fn store(&mut self, place: Place, value: Value) {
        self.builder.ins().store(place.flags(true), value, place.address, place.disp);
    }

    /// A unary operation; on floats `a` may hold several lanes.
    pub(super) fn unary(&mut self, op: UnaryOp, dtype: DType, a: Value) -> Result<Value, CodeError> {
        if let Some(func) = MathFn::of(op).filter(|_| dtype.is_float()) {
            let ty = self.builder.func.dfg.value_type(a);
            return match func.placement(ty) {
                Placement::Inline => Ok(emit_unary(&mut self.builder, func, a)),
                Placement::Call => self.call_body(Body::Unary(func, ty), &[a]),
            };
        }
        match op {
            UnaryOp::Not => Ok(self.builder.ins().bxor_imm_u(a, 1)),
            UnaryOp::Neg => Ok(self.builder.ins().ineg(a)),
            UnaryOp::Abs => Ok(self.builder.ins().iabs(a)),
            UnaryOp::Sign => {
                let positive = self.builder.ins().icmp_imm_s(IntCC::SignedGreaterThan, a, 0);
                let negative = self.builder.ins().icmp_imm_s(IntCC::SignedLessThan, a, 0);
                let sign = self.builder.ins().isub(positive, negative);
                Ok(self.builder.ins().sextend(clif_type(dtype)?, sign))
            }
            // Rounding leaves integers as they are.
            UnaryOp::Floor | UnaryOp::Ceil | UnaryOp::Round | UnaryOp::Trunc => Ok(a),
            _ => Err(internal(self.env.func, format!("{} of {dtype}", op.name()))),
        }
    }

    /// A binary operation on operands of one type; on floats they may hold several lanes.
    pub(super) fn binary(
        &mut self,
        op: BinaryOp,
        operand: DType,
        a: Value,
        b: Value,
    ) -> Result<Value, CodeError> {
        if operand.is_float() {
            return self.float_binary(op, operand, a, b);
        }
        if let Some(cc) = int_condition(op) {
            let cc = if operand == DType::Bool { cc.unsigned() } else { cc };
            return Ok(self.builder.ins().icmp(cc, a, b));
        }
        let ins = self.builder.ins();
        Ok(match (op, operand == DType::Bool) {
            (BinaryOp::And | BinaryOp::Min | BinaryOp::Mul, true) => ins.band(a, b),
            (BinaryOp::Or | BinaryOp::Max, true) => ins.bor(a, b),
            (BinaryOp::Add, false) => ins.iadd(a, b),
            (BinaryOp::Sub, false) => ins.isub(a, b),
            (BinaryOp::Mul, false) => ins.imul(a, b),
            (BinaryOp::Min, false) => ins.smin(a, b),
            (BinaryOp::Max, false) => ins.smax(a, b),
            (BinaryOp::FloorDiv, false) => emit_floor_div(&mut self.builder, a, b),
            (BinaryOp::Mod, false) => emit_floor_mod(&mut self.builder, a, b),
            _ => return Err(internal(self.env.func, format!("{} of {operand}", op.name()))),
        })
    }

    fn float_binary(&mut self, op: BinaryOp, operand: DType, a: Value, b: Value) -> Result<Value, CodeError> {
        if let Some(cc) = float_condition(op) {
            return Ok(self.builder.ins().fcmp(cc, a, b));
        }
        Ok(match op {
            BinaryOp::Add => self.builder.ins().fadd(a, b),
            BinaryOp::Sub => self.builder.ins().fsub(a, b),
            BinaryOp::Mul => self.builder.ins().fmul(a, b),
            BinaryOp::Div => self.builder.ins().fdiv(a, b),
            BinaryOp::Min => emit_binary(&mut self.builder, BinaryFn::Min, a, b),
            BinaryOp::Max => emit_binary(&mut self.builder, BinaryFn::Max, a, b),
            BinaryOp::Pow => {
                let ty = self.builder.func.dfg.value_type(a);
                return self.call_body(Body::Binary(BinaryFn::Pow, ty), &[a, b]);
            }
            _ => return Err(internal(self.env.func, format!("{} of {operand}", op.name()))),
        })
    }

    /// A conversion of a scalar.
    pub(super) fn cast(&mut self, from: DType, to: DType, a: Value) -> Result<Value, CodeError> {
        let ty = clif_type(to)?;
        let ins = self.builder.ins();
        Ok(match (from, to) {
            _ if from == to => a,
            (DType::F32, DType::F64) => ins.fpromote(ty, a),
            (DType::F64, DType::F32) => ins.fdemote(ty, a),
            (DType::F32 | DType::F64, DType::Bool) => {
                let zero = self.zero(from)?;
                self.builder.ins().fcmp(FloatCC::NotEqual, a, zero)
            }
            (DType::F32 | DType::F64, _) => emit_float_to_int(&mut self.builder, ty, a),
            (DType::I32 | DType::I64, DType::Bool) => ins.icmp_imm_s(IntCC::NotEqual, a, 0),
            (DType::I32 | DType::I64, DType::F32 | DType::F64) => ins.fcvt_from_sint(ty, a),
            (DType::I32, _) => ins.sextend(ty, a),
            (DType::I64, _) => ins.ireduce(ty, a),
            (_, DType::F32 | DType::F64) => {
                let wide = ins.uextend(types::I32, a);
                self.builder.ins().fcvt_from_sint(ty, wide)
            }
            _ => ins.uextend(ty, a),
        })
    }

    /// Zero of a type.
    pub(super) fn zero(&mut self, dtype: DType) -> Result<Value, CodeError> {
        let ty: Type = clif_type(dtype)?;
        Ok(match dtype {
            DType::F32 => self.builder.ins().f32const(0.0),
            DType::F64 => self.builder.ins().f64const(0.0),
            _ => self.builder.ins().iconst(ty, 0),
        })
    }
}

/// The condition of a comparison of integers.
pub(super) fn int_condition(op: BinaryOp) -> Option<IntCC> {
    Some(match op {
        BinaryOp::Eq => IntCC::Equal,
        BinaryOp::Ne => IntCC::NotEqual,
        BinaryOp::Lt => IntCC::SignedLessThan,
        BinaryOp::Le => IntCC::SignedLessThanOrEqual,
        BinaryOp::Gt => IntCC::SignedGreaterThan,
        BinaryOp::Ge => IntCC::SignedGreaterThanOrEqual,
        _ => return None,
    })
}

fn float_condition(op: BinaryOp) -> Option<FloatCC> {
    Some(match op {
        BinaryOp::Eq => FloatCC::Equal,
        BinaryOp::Ne => FloatCC::NotEqual,
        BinaryOp::Lt => FloatCC::LessThan,
        BinaryOp::Le => FloatCC::LessThanOrEqual,
        BinaryOp::Gt => FloatCC::GreaterThan,
        BinaryOp::Ge => FloatCC::GreaterThanOrEqual,
        _ => return None,
    })
}
