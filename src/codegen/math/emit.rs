//! Entry points of the code generator: a function at the current place, or as a body of its own.
//!
//! Takes a builder at an unfilled block and values of type F32, F32X4, F64 or F64X2; gives a
//! value of the same type. The trigonometric functions (and nothing else) add blocks, and leave
//! the builder in the last of them; all blocks added are sealed. Knows nothing of the loop IR.

use cranelift_codegen::Context;
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{
    AbiParam, BlockArg, Function, InstBuilder, MemFlagsData, Signature, StackSlotData, StackSlotKind, Type,
    Value, types,
};
use cranelift_codegen::isa::{CallConv, TargetFrontendConfig};
use cranelift_frontend::{FunctionBuilder, FunctionBuilderContext};

use super::arith::Arith;
use super::clif::Clif;
use super::format::Format;
use super::trig::{self, Trig};
use super::{BinaryFn, MathFn, apply_unary, pow, reduce};

/// Where the code of a function should stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placement {
    /// Emitted at each use: the call would cost more than it saves.
    Inline,
    /// Defined once in a module under [`MathFn::symbol`] and called.
    Call,
}

impl MathFn {
    /// Where the code for values of type `ty` should stand.
    ///
    /// Short ones are inlined. Those with a loop for huge arguments, and f64 functions, which
    /// compute tables rather than activations, are called.
    pub fn placement(self, ty: Type) -> Placement {
        use MathFn::*;
        match self {
            Abs | Neg | Sign | Floor | Ceil | Round | Trunc | Sqrt | Rsqrt => Placement::Inline,
            Sin | Cos | Tan => Placement::Call,
            _ if ty.lane_type() == types::F64 => Placement::Call,
            _ => Placement::Inline,
        }
    }

    /// The local name of the body for values of type `ty`, such as `mdlc_sin_f32x4`.
    pub fn symbol(self, ty: Type) -> String {
        format!("mdlc_{}_{ty}", self.name())
    }
}

impl BinaryFn {
    /// Where the code should stand.
    pub fn placement(self, _ty: Type) -> Placement {
        match self {
            Self::Pow => Placement::Call,
            Self::Min | Self::Max => Placement::Inline,
        }
    }

    /// The local name of the body for values of type `ty`.
    pub fn symbol(self, ty: Type) -> String {
        format!("mdlc_{}_{ty}", self.name())
    }
}

/// The signature of a body: `arity` values of type `ty` to one.
pub fn signature(arity: usize, ty: Type, call_conv: CallConv) -> Signature {
    let mut signature = Signature::new(call_conv);
    signature.params.extend(std::iter::repeat_n(AbiParam::new(ty), arity));
    signature.returns.push(AbiParam::new(ty));
    signature
}

/// Emits a function of one value and returns its result.
pub fn emit_unary(builder: &mut FunctionBuilder, func: MathFn, x: Value) -> Value {
    let ty = builder.func.dfg.value_type(x);
    match func.trig() {
        Some(trig) if ty.lane_type() == types::F32 => emit_trig::<f32>(builder, trig, x, ty),
        Some(trig) => emit_trig::<f64>(builder, trig, x, ty),
        None if ty.lane_type() == types::F32 => apply_unary(&mut Clif::<f32>::new(builder, ty), func, x),
        None => apply_unary(&mut Clif::<f64>::new(builder, ty), func, x),
    }
}

/// Emits a function of two values of one type and returns its result.
pub fn emit_binary(builder: &mut FunctionBuilder, func: BinaryFn, x: Value, y: Value) -> Value {
    let ty = builder.func.dfg.value_type(x);
    match func {
        BinaryFn::Pow if ty.lane_type() == types::F32 => pow::pow(&mut Clif::<f32>::new(builder, ty), x, y),
        BinaryFn::Pow => pow::pow(&mut Clif::<f64>::new(builder, ty), x, y),
        BinaryFn::Min => builder.ins().fmin(x, y),
        BinaryFn::Max => builder.ins().fmax(x, y),
    }
}

/// Fills `context` with the body of a function of one value, ready to be defined in a module.
pub fn define_unary(
    context: &mut Context,
    scratch: &mut FunctionBuilderContext,
    config: TargetFrontendConfig,
    func: MathFn,
    ty: Type,
    call_conv: CallConv,
) {
    define(context, scratch, config, signature(1, ty, call_conv), |b, x| emit_unary(b, func, x[0]));
}

/// Fills `context` with the body of a function of two values, ready to be defined in a module.
pub fn define_binary(
    context: &mut Context,
    scratch: &mut FunctionBuilderContext,
    config: TargetFrontendConfig,
    func: BinaryFn,
    ty: Type,
    call_conv: CallConv,
) {
    define(context, scratch, config, signature(2, ty, call_conv), |b, x| emit_binary(b, func, x[0], x[1]));
}

fn define(
    context: &mut Context,
    scratch: &mut FunctionBuilderContext,
    config: TargetFrontendConfig,
    signature: Signature,
    body: impl FnOnce(&mut FunctionBuilder, &[Value]) -> Value,
) {
    context.func = Function::with_name_signature(context.func.name.clone(), signature);
    let mut builder = FunctionBuilder::new(&mut context.func, scratch);
    let entry = builder.create_block();
    builder.append_block_params_for_function_params(entry);
    builder.switch_to_block(entry);
    builder.seal_block(entry);
    let params = builder.block_params(entry).to_vec();
    let result = body(&mut builder, &params);
    builder.ins().return_(&[result]);
    builder.finalize(config);
}

/// The moderate kernel for all lanes; where a lane lies beyond its range, a loop over the lanes
/// replaces those results with exactly reduced ones.
fn emit_trig<S: Format>(builder: &mut FunctionBuilder, trig: Trig, x: Value, ty: Type) -> Value {
    let mut a = Clif::<S>::new(builder, ty);
    let y = trig::moderate(&mut a, trig, x);
    let size = a.abs(x);
    let limit = a.f(S::TRIG_LIMIT);
    let beyond = a.lt(limit, size);
    let any = if ty.is_vector() { builder.ins().vany_true(beyond) } else { beyond };

    let (rare, done) = (builder.create_block(), builder.create_block());
    builder.append_block_param(done, ty);
    builder.set_cold_block(rare);
    builder.ins().brif(any, rare, &[], done, &[BlockArg::Value(y)]);
    builder.seal_block(rare);
    builder.switch_to_block(rare);
    let exact = if ty.is_vector() {
        emit_huge_lanes::<S>(builder, trig, x, y, ty)
    } else {
        emit_huge(builder, trig, x)
    };
    builder.ins().jump(done, &[BlockArg::Value(exact)]);
    builder.seal_block(done);
    builder.switch_to_block(done);
    builder.block_params(done)[0]
}

/// The exactly reduced function of one scalar, computed in f64.
fn emit_huge(builder: &mut FunctionBuilder, trig: Trig, x: Value) -> Value {
    let single = builder.func.dfg.value_type(x) == types::F32;
    let wide = if single { builder.ins().fpromote(types::F64, x) } else { x };
    let y = reduce::huge(&mut Clif::<f64>::new(builder, types::F64), trig, wide);
    if single { builder.ins().fdemote(types::F32, y) } else { y }
}

/// Goes over the lanes of `x` through a stack slot, so that the long reduction is emitted once.
fn emit_huge_lanes<S: Format>(
    builder: &mut FunctionBuilder,
    trig: Trig,
    x: Value,
    y: Value,
    ty: Type,
) -> Value {
    let lane = ty.lane_type();
    let slot = |builder: &mut FunctionBuilder| {
        builder.create_sized_stack_slot(StackSlotData::new(StackSlotKind::ExplicitSlot, ty.bytes(), 4))
    };
    let (xs, ys) = (slot(builder), slot(builder));
    let flags = MemFlagsData::trusted();
    let (xs, ys) = (builder.ins().stack_addr(types::I64, xs, 0), builder.ins().stack_addr(types::I64, ys, 0));
    builder.ins().store(flags, x, xs, 0);
    builder.ins().store(flags, y, ys, 0);

    let (head, exact, next, done) =
        (builder.create_block(), builder.create_block(), builder.create_block(), builder.create_block());
    let offset = builder.append_block_param(head, types::I64);
    let start = builder.ins().iconst(types::I64, 0);
    builder.ins().jump(head, &[BlockArg::Value(start)]);

    builder.switch_to_block(head);
    let source = builder.ins().iadd(xs, offset);
    let element = builder.ins().load(lane, flags, source, 0);
    let mut a = Clif::<S>::new(builder, lane);
    let size = a.abs(element);
    let limit = a.f(S::TRIG_LIMIT);
    let beyond = a.lt(limit, size);
    builder.ins().brif(beyond, exact, &[], next, &[]);
    builder.seal_block(exact);

    builder.switch_to_block(exact);
    let value = emit_huge(builder, trig, element);
    let target = builder.ins().iadd(ys, offset);
    builder.ins().store(flags, value, target, 0);
    builder.ins().jump(next, &[]);
    builder.seal_block(next);

    builder.switch_to_block(next);
    let step = builder.ins().iconst(types::I64, i64::from(lane.bytes()));
    let offset = builder.ins().iadd(offset, step);
    let end = builder.ins().iconst(types::I64, i64::from(ty.bytes()));
    let finished = builder.ins().icmp(IntCC::Equal, offset, end);
    builder.ins().brif(finished, done, &[], head, &[BlockArg::Value(offset)]);
    builder.seal_block(head);
    builder.seal_block(done);
    builder.switch_to_block(done);
    builder.ins().load(ty, flags, ys, 0)
}
