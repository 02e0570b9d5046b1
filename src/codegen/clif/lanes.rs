//! Expressions of four iterations at once.
//!
//! The value of an expression in four consecutive iterations is a [`Lane`]: the same scalar in
//! all, four f32 in a vector, a mask, an index that grows evenly, or, as what remains, four
//! scalars. Every operation has a form on scalars, so anything can be evaluated in lanes; what
//! is f32 or a comparison is so in vectors. Loads and stores that step by one element move
//! vectors, others move one element per lane.

use super::super::error::CodeError;
use super::function::{FuncCx, internal};
use super::scalar::{Place, int_condition};
use crate::dtype::DType;
use crate::loops::ir::{BufferId, Local, LoopVar, Scalar, ScalarId};
use crate::ops::scalar::{BinaryOp, UnaryOp};
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{ConstantData, Endianness, InstBuilder, MemFlagsData, Type, Value, types};
use std::collections::{BTreeSet, HashMap};

/// Iterations that run at once.
pub(super) const LANES: i64 = 4;

/// Steps between lanes up to this size are compared in 32 bits.
const MAX_COMPARED_STEP: i64 = 1 << 16;

/// The value of an expression in each of four iterations.
#[derive(Clone, Copy, Debug)]
pub(super) enum Lane {
    /// The same in all.
    Uniform(Value),
    /// F32X4.
    F32(Value),
    /// I32X4, all bits of a lane or none.
    Mask(Value),
    /// An index, i64.
    Linear(Linear),
    /// One scalar each, of the expression's type; never f32.
    Each([Value; 4]),
}

/// `base + plus + lane * step`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Linear {
    pub base: Value,
    pub plus: i64,
    pub step: i64,
}

/// What differs between lanes, and the values of four iterations.
#[derive(Default)]
pub(super) struct Lanes {
    /// Variables that grow with the lane.
    pub vars: HashMap<LoopVar, Linear>,
    /// Locals that have been set in these iterations.
    pub locals: HashMap<Local, Lane>,
    /// Values of the current statement.
    pub memo: HashMap<ScalarId, Lane>,
    /// Whether an expression differs between lanes; holds for the whole loop.
    pub varying: HashMap<ScalarId, bool>,
}

impl Lanes {
    /// Decides for all expressions under `roots` whether they differ between lanes, given the
    /// variables and locals that do.
    pub(super) fn classify(
        &mut self,
        cx: &FuncCx<'_, '_>,
        roots: &[ScalarId],
        vars: &[LoopVar],
        locals: &BTreeSet<Local>,
    ) -> BTreeSet<ScalarId> {
        let scalars = &cx.env.func.scalars;
        let (mut found, mut pending) = (BTreeSet::new(), roots.to_vec());
        while let Some(id) = pending.pop() {
            if found.insert(id) {
                pending.extend(scalars.operands(id));
            }
        }
        for id in &found {
            let varies = match scalars.get(*id) {
                Scalar::Var(var) => vars.contains(var),
                Scalar::Local(local) => locals.contains(local),
                _ => scalars.operands(*id).any(|operand| self.varying.get(&operand) == Some(&true)),
            };
            self.varying.insert(*id, varies);
        }
        found
    }

    fn varies(&self, id: ScalarId) -> bool {
        self.varying.get(&id).copied().unwrap_or(true)
    }
}

impl FuncCx<'_, '_> {
    /// Emits an expression for four iterations.
    pub(super) fn lane(&mut self, lanes: &mut Lanes, root: ScalarId) -> Result<Lane, CodeError> {
        let (mut needed, mut pending) = (BTreeSet::new(), vec![root]);
        while let Some(id) = pending.pop() {
            if !lanes.memo.contains_key(&id) && needed.insert(id) && lanes.varies(id) {
                pending.extend(self.inputs(id));
            }
        }
        for id in needed {
            let value =
                if lanes.varies(id) { self.lane_node(lanes, id)? } else { Lane::Uniform(self.scalar(id)?) };
            lanes.memo.insert(id, value);
        }
        self.operand(lanes, root)
    }

    fn operand(&self, lanes: &Lanes, id: ScalarId) -> Result<Lane, CodeError> {
        let found = lanes.memo.get(&id).copied();
        found.ok_or_else(|| internal(self.env.func, "an operand in lanes follows its user"))
    }

    fn lane_node(&mut self, lanes: &Lanes, id: ScalarId) -> Result<Lane, CodeError> {
        let func = self.env.func;
        let dtype = func.scalars.dtype(id);
        match func.scalars.get(id) {
            Scalar::Const(_) | Scalar::Dim(_) => Ok(Lane::Uniform(self.scalar(id)?)),
            Scalar::Var(var) => match lanes.vars.get(var) {
                Some(linear) => Ok(Lane::Linear(*linear)),
                None => Ok(Lane::Uniform(self.var(*var)?)),
            },
            Scalar::Local(local) => match lanes.locals.get(local) {
                Some(lane) => Ok(*lane),
                None => Err(internal(func, "a local is used in lanes before it is set")),
            },
            Scalar::Load(buffer, index) => {
                let (rest, disp) = self.split_index(*buffer, *index);
                let index = rest.map(|rest| self.operand(lanes, rest)).transpose()?;
                self.lane_load(*buffer, index, disp)
            }
            Scalar::Unary(op, a) => {
                let a = self.operand(lanes, *a)?;
                self.lane_unary(*op, dtype, a)
            }
            Scalar::Binary(op, a, b) => {
                let scale = (self.int_const(*a), self.int_const(*b));
                let operand = func.scalars.dtype(*a);
                let (a, b) = (self.operand(lanes, *a)?, self.operand(lanes, *b)?);
                self.lane_binary(*op, operand, (a, b), scale)
            }
            Scalar::Select(c, a, b) => {
                let (c, a, b) =
                    (self.operand(lanes, *c)?, self.operand(lanes, *a)?, self.operand(lanes, *b)?);
                self.lane_select(dtype, c, a, b)
            }
            Scalar::Cast(a) => {
                let from = func.scalars.dtype(*a);
                let a = self.operand(lanes, *a)?;
                self.lane_cast(from, dtype, a)
            }
        }
    }

    fn lane_unary(&mut self, op: UnaryOp, dtype: DType, a: Lane) -> Result<Lane, CodeError> {
        match a {
            Lane::Uniform(a) => Ok(Lane::Uniform(self.unary(op, dtype, a)?)),
            Lane::F32(a) => Ok(Lane::F32(self.unary(op, dtype, a)?)),
            Lane::Mask(a) if op == UnaryOp::Not => Ok(Lane::Mask(self.builder.ins().bnot(a))),
            other => {
                let a = self.each(other);
                self.four(dtype, |cx, k| cx.unary(op, dtype, a[k]))
            }
        }
    }

    /// `scale` holds the values of operands that are integer literals.
    fn lane_binary(
        &mut self,
        op: BinaryOp,
        operand: DType,
        (a, b): (Lane, Lane),
        scale: (Option<i64>, Option<i64>),
    ) -> Result<Lane, CodeError> {
        if let (Lane::Uniform(a), Lane::Uniform(b)) = (a, b) {
            return Ok(Lane::Uniform(self.binary(op, operand, a, b)?));
        }
        if operand == DType::F32 {
            let (a, b) = (self.packed(a), self.packed(b));
            let value = self.binary(op, operand, a, b)?;
            return Ok(if op.is_comparison() { Lane::Mask(value) } else { Lane::F32(value) });
        }
        if operand == DType::Bool
            && let Some(mask) = self.mask_binary(op, a, b)?
        {
            return Ok(mask);
        }
        if operand == DType::I64
            && let Some(lane) = self.linear_binary(op, (a, b), scale)?
        {
            return Ok(lane);
        }
        let (a, b) = (self.each(a), self.each(b));
        self.four(op.result(operand), |cx, k| cx.binary(op, operand, a[k], b[k]))
    }

    /// Truth values as masks, where one side is one already.
    fn mask_binary(&mut self, op: BinaryOp, a: Lane, b: Lane) -> Result<Option<Lane>, CodeError> {
        if !matches!((a, b), (Lane::Mask(_), _) | (_, Lane::Mask(_))) {
            return Ok(None);
        }
        let (a, b) = (self.mask(a), self.mask(b));
        Ok(match op {
            BinaryOp::And => Some(Lane::Mask(self.builder.ins().band(a, b))),
            BinaryOp::Or => Some(Lane::Mask(self.builder.ins().bor(a, b))),
            BinaryOp::Ne => Some(Lane::Mask(self.builder.ins().bxor(a, b))),
            BinaryOp::Eq => {
                let differ = self.builder.ins().bxor(a, b);
                Some(Lane::Mask(self.builder.ins().bnot(differ)))
            }
            _ => None,
        })
    }

    /// Index arithmetic that stays even, and comparisons of it.
    fn linear_binary(
        &mut self,
        op: BinaryOp,
        (a, b): (Lane, Lane),
        scale: (Option<i64>, Option<i64>),
    ) -> Result<Option<Lane>, CodeError> {
        let (Some(x), Some(y)) = (linear(a), linear(b)) else { return Ok(None) };
        if let Some(cc) = int_condition(op) {
            return self.compare_linear(cc, x, y);
        }
        let steps = match op {
            BinaryOp::Add => x.step.checked_add(y.step),
            BinaryOp::Sub => x.step.checked_sub(y.step),
            _ => None,
        };
        let value = match (op, steps, scale) {
            (BinaryOp::Add, Some(step), (_, Some(c))) => {
                x.plus.checked_add(c).map(|plus| Linear { base: x.base, plus, step })
            }
            (BinaryOp::Add, Some(step), (Some(c), _)) => {
                y.plus.checked_add(c).map(|plus| Linear { base: y.base, plus, step })
            }
            (BinaryOp::Add, Some(step), _) => x.plus.checked_add(y.plus).map(|plus| Linear {
                base: self.builder.ins().iadd(x.base, y.base),
                plus,
                step,
            }),
            (BinaryOp::Sub, Some(step), (_, Some(c))) => {
                x.plus.checked_sub(c).map(|plus| Linear { base: x.base, plus, step })
            }
            (BinaryOp::Sub, Some(step), _) => x.plus.checked_sub(y.plus).map(|plus| Linear {
                base: self.builder.ins().isub(x.base, y.base),
                plus,
                step,
            }),
            (BinaryOp::Mul, _, (_, Some(c))) => self.scaled(x, c),
            (BinaryOp::Mul, _, (Some(c), _)) => self.scaled(y, c),
            _ => None,
        };
        Ok(value.map(Lane::Linear))
    }

    fn scaled(&mut self, x: Linear, by: i64) -> Option<Linear> {
        let (plus, step) = (x.plus.checked_mul(by)?, x.step.checked_mul(by)?);
        Some(Linear { base: self.builder.ins().imul_imm_s(x.base, by), plus, step })
    }

    /// `x cc y` is `lane * (x.step - y.step) cc y.base - x.base`, whose right side can be clamped
    /// to 32 bits without changing the outcome.
    fn compare_linear(&mut self, cc: IntCC, x: Linear, y: Linear) -> Result<Option<Lane>, CodeError> {
        let (left, right) = (self.lane_value(x, 0), self.lane_value(y, 0));
        let Some(step) = x.step.checked_sub(y.step).filter(|step| step.abs() <= MAX_COMPARED_STEP) else {
            return Ok(None);
        };
        if step == 0 {
            return Ok(Some(Lane::Uniform(self.builder.ins().icmp(cc, left, right))));
        }
        let bound = self.builder.ins().isub(right, left);
        let (low, high) = (
            self.builder.ins().iconst(types::I64, -8 * MAX_COMPARED_STEP),
            self.builder.ins().iconst(types::I64, 8 * MAX_COMPARED_STEP),
        );
        let bound = self.builder.ins().smax(bound, low);
        let bound = self.builder.ins().smin(bound, high);
        let bound = self.builder.ins().ireduce(types::I32, bound);
        let bound = self.builder.ins().splat(types::I32X4, bound);
        let bytes: Vec<u8> = (0..LANES).flat_map(|lane| ((lane * step) as i32).to_le_bytes()).collect();
        let steps = self.vector_constant(types::I32X4, bytes);
        Ok(Some(Lane::Mask(self.builder.ins().icmp(cc, steps, bound))))
    }

    fn lane_select(&mut self, dtype: DType, c: Lane, a: Lane, b: Lane) -> Result<Lane, CodeError> {
        match (dtype, c) {
            (DType::F32, Lane::Uniform(c)) => {
                let (a, b) = (self.packed(a), self.packed(b));
                Ok(Lane::F32(self.builder.ins().select(c, a, b)))
            }
            (DType::F32, _) => {
                let (c, a, b) = (self.mask(c), self.packed(a), self.packed(b));
                let c = self.retype(types::F32X4, c);
                Ok(Lane::F32(self.builder.ins().bitselect(c, a, b)))
            }
            (DType::Bool, Lane::Mask(c)) => {
                let (a, b) = (self.mask(a), self.mask(b));
                Ok(Lane::Mask(self.builder.ins().bitselect(c, a, b)))
            }
            _ => {
                let (c, a, b) = (self.each(c), self.each(a), self.each(b));
                self.four(dtype, |cx, k| Ok(cx.builder.ins().select(c[k], a[k], b[k])))
            }
        }
    }

    fn lane_cast(&mut self, from: DType, to: DType, a: Lane) -> Result<Lane, CodeError> {
        match (to, a) {
            (_, Lane::Uniform(a)) => Ok(Lane::Uniform(self.cast(from, to, a)?)),
            (DType::F32, Lane::Mask(mask)) => {
                let one = self.builder.ins().f32const(1.0);
                let one = self.builder.ins().splat(types::F32X4, one);
                let mask = self.retype(types::F32X4, mask);
                Ok(Lane::F32(self.builder.ins().band(mask, one)))
            }
            (DType::Bool, Lane::F32(a)) => {
                let zero = self.builder.ins().f32const(0.0);
                let zero = self.builder.ins().splat(types::F32X4, zero);
                Ok(Lane::Mask(self.binary(BinaryOp::Ne, DType::F32, a, zero)?))
            }
            _ => {
                let a = self.each(a);
                self.four(to, |cx, k| cx.cast(from, to, a[k]))
            }
        }
    }

    /// Loads four elements of a buffer.
    fn lane_load(&mut self, buffer: BufferId, index: Option<Lane>, disp: i64) -> Result<Lane, CodeError> {
        let dtype = self.buffer_dtype(buffer);
        match index {
            None => {
                let place = self.place_at(buffer, None, disp)?;
                Ok(Lane::Uniform(self.load(place, dtype)?))
            }
            Some(Lane::Uniform(index)) => {
                let place = self.place_at(buffer, Some(index), disp)?;
                Ok(Lane::Uniform(self.load(place, dtype)?))
            }
            Some(Lane::Linear(index)) if index.step == 1 => {
                let place = self.linear_place(buffer, index, disp)?;
                match dtype {
                    DType::F32 => Ok(Lane::F32(self.load_vector(place))),
                    DType::Bool => Ok(self.load_mask(place)),
                    _ => {
                        let size = dtype.size_bytes() as i32;
                        self.four(dtype, |cx, k| {
                            cx.load(Place { disp: place.disp + k as i32 * size, ..place }, dtype)
                        })
                    }
                }
            }
            Some(index) => {
                let index = self.each(index);
                self.four(dtype, |cx, k| {
                    let place = cx.place_at(buffer, Some(index[k]), disp)?;
                    cx.load(place, dtype)
                })
            }
        }
    }

    /// Stores four elements.
    pub(super) fn lane_store(
        &mut self,
        lanes: &mut Lanes,
        buffer: BufferId,
        index: ScalarId,
        value: Lane,
    ) -> Result<(), CodeError> {
        let (rest, disp) = self.split_index(buffer, index);
        let dtype = self.buffer_dtype(buffer);
        let index = rest.map(|rest| self.lane(lanes, rest)).transpose()?;
        if let (DType::F32, Some(Lane::Linear(index))) = (dtype, index)
            && index.step == 1
        {
            let (place, value) = (self.linear_place(buffer, index, disp)?, self.packed(value));
            self.store_vector(place, value);
            return Ok(());
        }
        let values = self.each(value);
        match index {
            Some(Lane::Linear(index)) if index.step == 1 => {
                let place = self.linear_place(buffer, index, disp)?;
                for (k, value) in values.into_iter().enumerate() {
                    let disp = place.disp + (k * dtype.size_bytes()) as i32;
                    self.store(Place { disp, ..place }, value);
                }
            }
            // Lanes in order, so that the last of equal addresses wins, as in a scalar loop.
            Some(index) => {
                for (index, value) in self.each(index).into_iter().zip(values) {
                    let place = self.place_at(buffer, Some(index), disp)?;
                    self.store(place, value);
                }
            }
            None => {
                let place = self.place_at(buffer, None, disp)?;
                self.store(place, values[3]);
            }
        }
        Ok(())
    }

    fn linear_place(&mut self, buffer: BufferId, index: Linear, disp: i64) -> Result<Place, CodeError> {
        let plus = index.plus.saturating_mul(self.buffer_dtype(buffer).size_bytes() as i64);
        match disp.checked_add(plus).filter(|sum| sum.abs() < 1 << 30) {
            Some(disp) => self.place_at(buffer, Some(index.base), disp),
            None => {
                let first = self.lane_value(index, 0);
                self.place_at(buffer, Some(first), disp)
            }
        }
    }

    /// Loads F32X4 from any element's address.
    pub(super) fn load_vector(&mut self, place: Place) -> Value {
        self.builder.ins().load(types::F32X4, place.flags(false), place.address, place.disp)
    }

    /// Stores F32X4 to any element's address.
    pub(super) fn store_vector(&mut self, place: Place, value: Value) {
        self.builder.ins().store(place.flags(false), value, place.address, place.disp);
    }

    /// Four bytes, widened to lanes.
    fn load_mask(&mut self, place: Place) -> Lane {
        let bytes = self.builder.ins().load(types::I32, place.flags(false), place.address, place.disp);
        let bytes = self.builder.ins().scalar_to_vector(types::I32X4, bytes);
        let bytes = self.retype(types::I8X16, bytes);
        let halves = self.builder.ins().uwiden_low(bytes);
        let words = self.builder.ins().uwiden_low(halves);
        let zero = self.vector_constant(types::I32X4, vec![0; 16]);
        Lane::Mask(self.builder.ins().icmp(IntCC::NotEqual, words, zero))
    }

    /// As F32X4.
    pub(super) fn packed(&mut self, lane: Lane) -> Value {
        match lane {
            Lane::F32(value) => value,
            Lane::Uniform(value) => self.builder.ins().splat(types::F32X4, value),
            Lane::Mask(value) => self.retype(types::F32X4, value),
            Lane::Each(values) => self.pack(types::F32X4, values),
            Lane::Linear(linear) => {
                let values = self.each(Lane::Linear(linear));
                let values = values.map(|value| self.builder.ins().fcvt_from_sint(types::F32, value));
                self.pack(types::F32X4, values)
            }
        }
    }

    /// As a mask.
    fn mask(&mut self, lane: Lane) -> Value {
        match lane {
            Lane::Mask(value) => value,
            Lane::Uniform(value) => {
                let value = self.builder.ins().bmask(types::I32, value);
                self.builder.ins().splat(types::I32X4, value)
            }
            other => {
                let values = self.each(other).map(|value| self.builder.ins().bmask(types::I32, value));
                self.pack(types::I32X4, values)
            }
        }
    }

    /// Four scalars as a vector.
    pub(super) fn pack(&mut self, ty: Type, values: [Value; 4]) -> Value {
        let [first, rest @ ..] = values;
        let mut vector = self.builder.ins().splat(ty, first);
        for (k, value) in rest.into_iter().enumerate() {
            vector = self.builder.ins().insertlane(vector, value, k as u8 + 1);
        }
        vector
    }

    /// As four scalars.
    fn each(&mut self, lane: Lane) -> [Value; 4] {
        match lane {
            Lane::Uniform(value) => [value; 4],
            Lane::Each(values) => values,
            Lane::F32(value) => [0, 1, 2, 3].map(|k| self.builder.ins().extractlane(value, k)),
            Lane::Mask(value) => [0, 1, 2, 3].map(|k| {
                let lane = self.builder.ins().extractlane(value, k);
                let lane = self.builder.ins().ireduce(types::I8, lane);
                self.builder.ins().band_imm_u(lane, 1)
            }),
            Lane::Linear(linear) => [0, 1, 2, 3].map(|k| self.lane_value(linear, k)),
        }
    }

    fn lane_value(&mut self, linear: Linear, lane: i64) -> Value {
        match linear.plus.wrapping_add(linear.step.wrapping_mul(lane)) {
            0 => linear.base,
            plus => self.builder.ins().iadd_imm_s(linear.base, plus),
        }
    }

    /// Four scalars of a type, in the form that the type has in lanes.
    fn four(
        &mut self,
        dtype: DType,
        mut of: impl FnMut(&mut Self, usize) -> Result<Value, CodeError>,
    ) -> Result<Lane, CodeError> {
        let values = [of(self, 0)?, of(self, 1)?, of(self, 2)?, of(self, 3)?];
        Ok(match dtype {
            DType::F32 => Lane::F32(self.pack(types::F32X4, values)),
            _ => Lane::Each(values),
        })
    }

    fn retype(&mut self, ty: Type, value: Value) -> Value {
        let flags = MemFlagsData::new().with_endianness(Endianness::Little);
        self.builder.ins().bitcast(ty, flags, value)
    }

    fn vector_constant(&mut self, ty: Type, bytes: Vec<u8>) -> Value {
        let constant = self.builder.func.dfg.constants.insert(ConstantData::from(bytes));
        self.builder.ins().vconst(ty, constant)
    }
}

/// A value that grows evenly; a uniform one grows by nothing.
fn linear(lane: Lane) -> Option<Linear> {
    match lane {
        Lane::Linear(linear) => Some(linear),
        Lane::Uniform(base) => Some(Linear { base, plus: 0, step: 0 }),
        _ => None,
    }
}
