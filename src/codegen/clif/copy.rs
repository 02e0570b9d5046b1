//! Copies: one function of the module does all of them.
//!
//! A bind function copies every weight that stays as it is, which would be as many loops.

use super::super::error::CodeError;
use super::bodies::Body;
use super::function::FuncCx;
use crate::loops::ir::{LoopVar, Scalar, ScalarId, Stmt};
use cranelift_codegen::Context;
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{
    AbiParam, BlockArg, Function, InstBuilder, MemFlagsData, Signature, Type, Value, types,
};
use cranelift_codegen::isa::{CallConv, TargetFrontendConfig};
use cranelift_frontend::{FunctionBuilder, FunctionBuilderContext};

/// Elements from which on a call is shorter than a loop.
const MIN_ELEMS: i64 = 16;
/// Vectors per turn.
const VECTORS: i32 = 4;

/// Of a function of two addresses and a number of bytes: where to, where from, how many.
pub(super) fn signature(conv: CallConv) -> Signature {
    let mut signature = Signature::new(conv);
    signature.params.extend([AbiParam::new(types::I64); 3]);
    signature
}

/// Fills `context` with the function, ready to be defined in a module.
pub(super) fn define(
    context: &mut Context,
    scratch: &mut FunctionBuilderContext,
    config: TargetFrontendConfig,
    conv: CallConv,
) {
    context.func = Function::with_name_signature(context.func.name.clone(), signature(conv));
    let mut builder = FunctionBuilder::new(&mut context.func, scratch);
    let entry = builder.create_block();
    builder.append_block_params_for_function_params(entry);
    builder.switch_to_block(entry);
    let [to, from, count] = [0, 1, 2].map(|k| builder.block_params(entry)[k]);
    let zero = builder.ins().iconst(types::I64, 0);
    let done = moved(&mut builder, (to, from), (zero, count), types::I8X16, VECTORS);
    moved(&mut builder, (to, from), (done, count), types::I8, 1);
    builder.ins().return_(&[]);
    builder.seal_all_blocks();
    builder.finalize(config);
}

/// Moves `turns` elements of a type at a time while there are as many; gives how many bytes have been.
fn moved(
    builder: &mut FunctionBuilder<'_>,
    (to, from): (Value, Value),
    (start, count): (Value, Value),
    ty: Type,
    turns: i32,
) -> Value {
    let bytes = ty.bytes() as i32;
    let step = i64::from(bytes * turns);
    let (head, body, exit) = (builder.create_block(), builder.create_block(), builder.create_block());
    let at = builder.append_block_param(head, types::I64);
    builder.ins().jump(head, &[BlockArg::Value(start)]);
    builder.switch_to_block(head);
    let end = builder.ins().iadd_imm_s(at, step);
    let more = builder.ins().icmp(IntCC::SignedLessThanOrEqual, end, count);
    builder.ins().brif(more, body, &[], exit, &[]);
    builder.switch_to_block(body);
    let flags = MemFlagsData::new().with_notrap();
    let (source, target) = (builder.ins().iadd(from, at), builder.ins().iadd(to, at));
    let values: Vec<Value> = (0..turns).map(|k| builder.ins().load(ty, flags, source, k * bytes)).collect();
    for (k, value) in values.into_iter().enumerate() {
        builder.ins().store(flags, value, target, k as i32 * bytes);
    }
    builder.ins().jump(head, &[BlockArg::Value(end)]);
    builder.switch_to_block(exit);
    at
}

impl FuncCx<'_, '_> {
    /// Emits a loop that copies a known number of elements to the same places of another buffer, or says
    /// that it is none.
    pub(super) fn copied(
        &mut self,
        var: LoopVar,
        extent: ScalarId,
        body: &[Stmt],
    ) -> Result<bool, CodeError> {
        let scalars = &self.env.func.scalars;
        let [Stmt::Store { buffer, index, value }] = body else { return Ok(false) };
        let Scalar::Load(source, at) = scalars.get(*value) else { return Ok(false) };
        let straight = [index, at].iter().all(|id| *scalars.get(**id) == Scalar::Var(var));
        let dtype = self.buffer_dtype(*buffer);
        let Some(elems) = self.int_const(extent).filter(|elems| *elems >= MIN_ELEMS) else {
            return Ok(false);
        };
        if !straight || source == buffer || self.buffer_dtype(*source) != dtype {
            return Ok(false);
        }
        let mut args = Vec::with_capacity(3);
        for buffer in [*buffer, *source] {
            let place = self.place_at(buffer, None, 0)?;
            args.push(self.builder.ins().iadd_imm_s(place.address, i64::from(place.disp)));
        }
        args.push(self.int(elems.saturating_mul(dtype.size_bytes() as i64)));
        let id = self.bodies.id(self.module, Body::Copy)?;
        let function = self.import(id);
        self.builder.ins().call(function, &args);
        Ok(true)
    }
}
