//! Code that trusts nobody: sizes with overflow, and the checks of what C hosts pass in.

use super::super::abi::{Status, tensor};
use super::super::math::integer::{emit_floor_div, emit_floor_mod};
use crate::dim::{Atom, Dim, Symbol};
use crate::graph::ir::DimCondition;
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{Block, BlockArg, InstBuilder, MemFlagsData, Value, types};
use cranelift_frontend::FunctionBuilder;

/// A function that returns a status, under construction.
pub(super) struct Checks<'b> {
    pub builder: FunctionBuilder<'b>,
    /// Returns its argument.
    exit: Block,
}

impl<'b> Checks<'b> {
    /// Starts a function whose signature is set; gives its parameters.
    pub(super) fn new(mut builder: FunctionBuilder<'b>) -> (Self, Vec<Value>) {
        let entry = builder.create_block();
        builder.append_block_params_for_function_params(entry);
        builder.switch_to_block(entry);
        builder.seal_block(entry);
        let exit = builder.create_block();
        let result = builder.func.signature.returns[0].value_type;
        builder.append_block_param(exit, result);
        builder.set_cold_block(exit);
        let params = builder.block_params(entry).to_vec();
        (Checks { builder, exit }, params)
    }

    /// Returns `status` where the condition holds.
    pub(super) fn fail_if(&mut self, condition: Value, status: Status) {
        let status = self.builder.ins().iconst(types::I32, status as i64);
        self.leave_if(condition, status);
    }

    /// Returns a status if it is not zero.
    pub(super) fn fail_with(&mut self, status: Value) {
        self.leave_if(status, status);
    }

    fn leave_if(&mut self, condition: Value, status: Value) {
        let on = self.builder.create_block();
        self.builder.ins().brif(condition, self.exit, &[BlockArg::Value(status)], on, &[]);
        self.builder.seal_block(on);
        self.builder.switch_to_block(on);
    }

    /// Ends the function with a status.
    pub(super) fn finish(
        mut self,
        status: Option<Value>,
        config: cranelift_codegen::isa::TargetFrontendConfig,
    ) {
        let status = status.unwrap_or_else(|| self.builder.ins().iconst(types::I32, 0));
        self.builder.ins().return_(&[status]);
        self.builder.switch_to_block(self.exit);
        let status = self.builder.block_params(self.exit)[0];
        self.builder.ins().return_(&[status]);
        self.builder.seal_all_blocks();
        self.builder.finalize(config);
    }

    /// `for at in 0..count`
    fn each(&mut self, count: Value, body: impl FnOnce(&mut Self, Value)) {
        let (head, inner, exit) =
            (self.builder.create_block(), self.builder.create_block(), self.builder.create_block());
        let at = self.builder.append_block_param(head, types::I64);
        let zero = self.builder.ins().iconst(types::I64, 0);
        self.builder.ins().jump(head, &[BlockArg::Value(zero)]);
        self.builder.switch_to_block(head);
        let more = self.builder.ins().icmp(IntCC::SignedLessThan, at, count);
        self.builder.ins().brif(more, inner, &[], exit, &[]);
        self.builder.seal_block(inner);
        self.builder.switch_to_block(inner);
        body(self, at);
        let next = self.builder.ins().iadd_imm_s(at, 1);
        self.builder.ins().jump(head, &[BlockArg::Value(next)]);
        self.builder.seal_block(head);
        self.builder.seal_block(exit);
        self.builder.switch_to_block(exit);
    }

    fn load(&mut self, ty: cranelift_codegen::ir::Type, from: Value, at: i32) -> Value {
        self.builder.ins().load(ty, MemFlagsData::trusted(), from, at)
    }

    /// The body of a check of one tensor `(tensor, dtype, rank, shape, element bytes)`.
    pub(super) fn tensor(&mut self, params: &[Value]) {
        let &[arg, dtype, rank, shape, size] = params else { return };
        let found = self.load(types::I32, arg, tensor::DTYPE);
        let other = self.builder.ins().icmp(IntCC::NotEqual, found, dtype);
        self.fail_if(other, Status::DType);
        let found = self.load(types::I32, arg, tensor::RANK);
        let other = self.builder.ins().icmp(IntCC::NotEqual, found, rank);
        self.fail_if(other, Status::Rank);
        let elems = self.builder.declare_var(types::I64);
        let one = self.builder.ins().iconst(types::I64, 1);
        self.builder.def_var(elems, one);
        let axes = self.builder.ins().sextend(types::I64, rank);
        self.each(axes, |cx, axis| {
            let at = cx.builder.ins().ishl_imm_u(axis, 3);
            let (wanted, given) = (cx.builder.ins().iadd(shape, at), cx.builder.ins().iadd(arg, at));
            let (wanted, given) = (cx.load(types::I64, wanted, 0), cx.load(types::I64, given, tensor::SHAPE));
            let other = cx.builder.ins().icmp(IntCC::NotEqual, wanted, given);
            cx.fail_if(other, Status::Shape);
            let so_far = cx.builder.use_var(elems);
            let product = cx.builder.ins().imul(so_far, wanted);
            cx.builder.def_var(elems, product);
        });
        let elems = self.builder.use_var(elems);
        let bytes = self.builder.ins().imul(elems, size);
        let found = self.load(types::I64, arg, tensor::BYTES);
        let other = self.builder.ins().icmp(IntCC::NotEqual, found, bytes);
        self.fail_if(other, Status::Bytes);
        let data = self.load(types::I64, arg, tensor::DATA);
        let holds = self.builder.ins().icmp_imm_s(IntCC::NotEqual, elems, 0);
        let null = self.builder.ins().icmp_imm_s(IntCC::Equal, data, 0);
        let null = self.builder.ins().band(null, holds);
        self.fail_if(null, Status::Null);
        let mask = self.builder.ins().iadd_imm_s(size, -1);
        let odd = self.builder.ins().band(data, mask);
        let odd = self.builder.ins().icmp_imm_s(IntCC::NotEqual, odd, 0);
        let odd = self.builder.ins().band(odd, holds);
        self.fail_if(odd, Status::Alignment);
    }

    /// The body of a check of all outputs against all inputs and each other
    /// `(outputs, count, inputs, count)`.
    pub(super) fn overlaps(&mut self, params: &[Value]) {
        let &[outputs, count, inputs, input_count] = params else { return };
        self.each(count, |cx, k| {
            let at = cx.builder.ins().imul_imm_s(k, i64::from(tensor::SIZE));
            let output = cx.builder.ins().iadd(outputs, at);
            cx.apart(output, inputs, input_count);
            cx.apart(output, outputs, k);
        });
    }

    fn apart(&mut self, one: Value, others: Value, count: Value) {
        self.each(count, |cx, k| {
            let at = cx.builder.ins().imul_imm_s(k, i64::from(tensor::SIZE));
            let other = cx.builder.ins().iadd(others, at);
            let [(a, a_bytes), (b, b_bytes)] = [one, other]
                .map(|arg| (cx.load(types::I64, arg, tensor::DATA), cx.load(types::I64, arg, tensor::BYTES)));
            let (a_end, b_end) = (cx.builder.ins().iadd(a, a_bytes), cx.builder.ins().iadd(b, b_bytes));
            let mut meets = cx.builder.ins().icmp(IntCC::UnsignedLessThan, a, b_end);
            let conditions = [
                cx.builder.ins().icmp(IntCC::UnsignedLessThan, b, a_end),
                cx.builder.ins().icmp_imm_s(IntCC::NotEqual, a_bytes, 0),
                cx.builder.ins().icmp_imm_s(IntCC::NotEqual, b_bytes, 0),
            ];
            for condition in conditions {
                meets = cx.builder.ins().band(meets, condition);
            }
            cx.fail_if(meets, Status::Overlap);
        });
    }
}

/// Sizes whose computation notices overflow and division by zero.
pub(super) struct CheckedSizes<'a> {
    pub order: &'a [Symbol],
    pub dims: Value,
    /// Whether anything has gone wrong so far, I8.
    pub wrong: Value,
}

impl CheckedSizes<'_> {
    /// The value of a size.
    pub(super) fn emit(&mut self, builder: &mut FunctionBuilder, dim: &Dim) -> Value {
        let mut sum = match dim.as_const() {
            Some(value) => return builder.ins().iconst(types::I64, value),
            None => builder.ins().iconst(types::I64, 0),
        };
        for (monomial, coefficient) in dim.terms() {
            let mut product = builder.ins().iconst(types::I64, *coefficient);
            for (atom, exponent) in monomial {
                let factor = self.atom(builder, atom);
                for _ in 0..*exponent {
                    let (value, overflow) = builder.ins().smul_overflow(product, factor);
                    (product, self.wrong) = (value, builder.ins().bor(self.wrong, overflow));
                }
            }
            let (value, overflow) = builder.ins().sadd_overflow(sum, product);
            (sum, self.wrong) = (value, builder.ins().bor(self.wrong, overflow));
        }
        sum
    }

    /// The value of a size, which must not be negative.
    pub(super) fn size(&mut self, builder: &mut FunctionBuilder, dim: &Dim) -> Value {
        let value = self.emit(builder, dim);
        self.not_negative(builder, value);
        value
    }

    /// The number of elements of a shape, each axis of which must not be negative.
    pub(super) fn elems(&mut self, builder: &mut FunctionBuilder, shape: &[Dim], size_bytes: usize) -> Value {
        let mut elems = builder.ins().iconst(types::I64, 1);
        for dim in shape {
            let axis = self.size(builder, dim);
            let (value, overflow) = builder.ins().smul_overflow(elems, axis);
            (elems, self.wrong) = (value, builder.ins().bor(self.wrong, overflow));
        }
        let size = builder.ins().iconst(types::I64, size_bytes as i64);
        let (_, overflow) = builder.ins().smul_overflow(elems, size);
        self.wrong = builder.ins().bor(self.wrong, overflow);
        elems
    }

    fn not_negative(&mut self, builder: &mut FunctionBuilder, value: Value) {
        let negative = builder.ins().icmp_imm_s(IntCC::SignedLessThan, value, 0);
        self.wrong = builder.ins().bor(self.wrong, negative);
    }

    /// Free dimensions are sizes.
    pub(super) fn symbols(&mut self, builder: &mut FunctionBuilder) {
        for k in 0..self.order.len() {
            let value = builder.ins().load(types::I64, MemFlagsData::trusted(), self.dims, 8 * k as i32);
            self.not_negative(builder, value);
        }
    }

    fn atom(&mut self, builder: &mut FunctionBuilder, atom: &Atom) -> Value {
        let (a, b) = match atom {
            Atom::Symbol(symbol) => {
                let Some(at) = self.order.iter().position(|known| known == symbol) else {
                    self.wrong = builder.ins().iconst(types::I8, 1);
                    return builder.ins().iconst(types::I64, 0);
                };
                return builder.ins().load(types::I64, MemFlagsData::trusted(), self.dims, 8 * at as i32);
            }
            Atom::FloorDiv(a, b) | Atom::Mod(a, b) | Atom::Min(a, b) | Atom::Max(a, b) => {
                (self.emit(builder, a), self.emit(builder, b))
            }
        };
        if matches!(atom, Atom::FloorDiv(..) | Atom::Mod(..)) {
            let by_zero = builder.ins().icmp_imm_s(IntCC::Equal, b, 0);
            self.wrong = builder.ins().bor(self.wrong, by_zero);
        }
        match atom {
            Atom::FloorDiv(..) => emit_floor_div(builder, a, b),
            Atom::Mod(..) => emit_floor_mod(builder, a, b),
            Atom::Min(..) => builder.ins().smin(a, b),
            _ => builder.ins().smax(a, b),
        }
    }

    /// Whether a condition holds, I8.
    pub(super) fn holds(&mut self, builder: &mut FunctionBuilder, condition: &DimCondition) -> Value {
        let mut compare = |cx: &mut Self, cc, a: &Dim, b: &Dim| {
            let (a, b) = (cx.emit(builder, a), cx.emit(builder, b));
            builder.ins().icmp(cc, a, b)
        };
        match condition {
            DimCondition::Eq(a, b) => compare(self, IntCC::Equal, a, b),
            DimCondition::Le(a, b) => compare(self, IntCC::SignedLessThanOrEqual, a, b),
            DimCondition::Lt(a, b) => compare(self, IntCC::SignedLessThan, a, b),
            DimCondition::Not(a) => {
                let a = self.holds(builder, a);
                builder.ins().bxor_imm_u(a, 1)
            }
            DimCondition::And(a, b) => {
                let (a, b) = (self.holds(builder, a), self.holds(builder, b));
                builder.ins().band(a, b)
            }
            DimCondition::Or(a, b) => {
                let (a, b) = (self.holds(builder, a), self.holds(builder, b));
                builder.ins().bor(a, b)
            }
        }
    }
}
