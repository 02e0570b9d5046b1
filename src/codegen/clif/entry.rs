//! The functions that an object exports: `_init`, `_abi`, `_sizes`, `_pack` and `_forward`.
//!
//! They check what they are given and call the functions of the program, whose callers are
//! trusted. The first thing that `_pack` and `_forward` look at is the version in the context,
//! which only `_init` sets, after it has checked the processor; what runs before is baseline code.

use super::super::abi::{ABI_VERSION, Status, dtype_code, offset, tensor};
use super::super::cpu::init_code;
use super::super::error::CodeError;
use super::super::target::Cpu;
use super::checked::{CheckedSizes, Checks};
use super::dims::Sizes;
use crate::dtype::DType;
use crate::graph::ir::{Signature, TensorType};
use crate::loops::buffers::{ALIGN_BYTES, BlobLayout, Plan};
use crate::loops::ir::LoopProgram;
use cranelift_codegen::Context;
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{
    AbiParam, FuncRef, InstBuilder, MemFlagsData, StackSlotData, StackSlotKind, Type, Value, types,
};
use cranelift_frontend::{FunctionBuilder, FunctionBuilderContext};
use cranelift_module::{DataDescription, FuncId, Linkage, Module};

/// Positions in what `_sizes` writes; the numbers of elements of the outputs follow.
const BLOB_SIZE: i32 = 0;
const SCRATCH_SIZE: i32 = 8;
const FIRST_OUTPUT_SIZE: i32 = 16;

/// What the exported functions are made from.
pub(crate) struct Exports<'a> {
    pub program: &'a LoopProgram,
    pub plan: &'a Plan,
    pub blob: &'a BlobLayout,
    /// The functions of the program in the module.
    pub functions: &'a [FuncId],
    /// What every exported name begins with.
    pub prefix: &'a str,
    /// What `_abi` returns, as text.
    pub description: &'a str,
    /// Which processors `_init` accepts.
    pub cpu: Cpu,
}

/// The names of the exported functions.
pub(crate) fn exported_names(prefix: &str) -> Vec<String> {
    ["init", "abi", "sizes", "pack", "forward"].iter().map(|name| format!("{prefix}_{name}")).collect()
}

struct ExportCx<'a> {
    exports: &'a Exports<'a>,
    module: &'a mut dyn Module,
    scratch: FunctionBuilderContext,
    context: Context,
    sizes: FuncId,
    tensor: FuncId,
    overlap: FuncId,
}

/// Defines the exported functions.
pub(crate) fn define_exports(module: &mut dyn Module, exports: &Exports<'_>) -> Result<(), CodeError> {
    let names = exported_names(exports.prefix);
    let (pointer, status) = (types::I64, types::I32);
    let sizes = declare(module, &names[2], Linkage::Export, &[pointer; 2], status)?;
    let check = [pointer, types::I32, types::I32, pointer, types::I64];
    let tensor = declare(module, "mdlc_check_tensor", Linkage::Local, &check, status)?;
    let overlap = declare(module, "mdlc_check_overlap", Linkage::Local, &[pointer; 4], status)?;
    let (scratch, context) = (FunctionBuilderContext::new(), module.make_context());
    let mut cx = ExportCx { exports, module, scratch, context, sizes, tensor, overlap };
    cx.init(&names[0])?;
    cx.abi(&names[1])?;
    cx.sizes()?;
    cx.function(tensor, "mdlc_check_tensor", |_, checks, params| {
        checks.tensor(params);
        None
    })?;
    cx.function(overlap, "mdlc_check_overlap", |_, checks, params| {
        checks.overlaps(params);
        None
    })?;
    cx.pack(&names[3])?;
    cx.forward(&names[4])
}

fn declare(
    module: &mut dyn Module,
    name: &str,
    linkage: Linkage,
    params: &[Type],
    result: Type,
) -> Result<FuncId, CodeError> {
    let mut signature = module.make_signature();
    signature.params.extend(params.iter().map(|ty| AbiParam::new(*ty)));
    signature.returns.push(AbiParam::new(result));
    module.declare_function(name, linkage, &signature).map_err(|error| CodeError::of_module(name, &error))
}

impl ExportCx<'_> {
    /// Defines a function that returns a status.
    fn function(
        &mut self,
        id: FuncId,
        name: &str,
        body: impl FnOnce(&mut Self, &mut Checks<'_>, &[Value]) -> Option<Value>,
    ) -> Result<(), CodeError> {
        let mut context = std::mem::replace(&mut self.context, self.module.make_context());
        let mut scratch = std::mem::take(&mut self.scratch);
        context.func.signature = self.module.declarations().get_function_decl(id).signature.clone();
        let builder = FunctionBuilder::new(&mut context.func, &mut scratch);
        let (mut checks, params) = Checks::new(builder);
        let status = body(self, &mut checks, &params);
        checks.finish(status, self.module.target_config());
        (self.context, self.scratch) = (context, scratch);
        self.module
            .define_function(id, &mut self.context)
            .map_err(|error| CodeError::of_module(name, &error))?;
        self.module.clear_context(&mut self.context);
        Ok(())
    }

    fn import(&mut self, checks: &mut Checks<'_>, id: FuncId) -> FuncRef {
        self.module.declare_func_in_func(id, checks.builder.func)
    }

    /// `status init(context)`: machine code of its own where the processor is to be checked.
    fn init(&mut self, name: &str) -> Result<(), CodeError> {
        let id = declare(self.module, name, Linkage::Export, &[types::I64], types::I32)?;
        if let Some(code) = init_code(self.exports.cpu) {
            let defined = self.module.define_function_bytes(id, 16, &code, &[]);
            return defined.map_err(|error| CodeError::of_module(name, &error));
        }
        self.function(id, name, |_, checks, params| {
            let null = checks.builder.ins().icmp_imm_s(IntCC::Equal, params[0], 0);
            checks.fail_if(null, Status::Null);
            let flags = MemFlagsData::trusted();
            let fields = [
                (types::I32, i64::from(ABI_VERSION), offset::VERSION),
                (types::I32, 0, offset::RESERVED),
                (types::I64, 0, offset::EXEC),
                (types::I64, -1, offset::SITE),
            ];
            for (ty, value, at) in fields {
                let value = checks.builder.ins().iconst(ty, value);
                checks.builder.ins().store(flags, value, params[0], at);
            }
            None
        })
    }

    /// `const char *abi(void)`
    fn abi(&mut self, name: &str) -> Result<(), CodeError> {
        let failed = |error| CodeError::of_module(name, &error);
        let mut data = DataDescription::new();
        let mut bytes = self.exports.description.as_bytes().to_vec();
        bytes.push(0);
        data.define(bytes.into_boxed_slice());
        let text = self.module.declare_anonymous_data(false, false).map_err(failed)?;
        self.module.define_data(text, &data).map_err(failed)?;
        let id = declare(self.module, name, Linkage::Export, &[], types::I64)?;
        self.function(id, name, |cx, checks, _| {
            let text = cx.module.declare_data_in_func(text, checks.builder.func);
            Some(checks.builder.ins().symbol_value(types::I64, text))
        })
    }

    /// `status sizes(dims, sizes)`
    fn sizes(&mut self) -> Result<(), CodeError> {
        let name = format!("{}_sizes", self.exports.prefix);
        self.function(self.sizes, &name, |cx, checks, params| {
            let &[dims, out] = params else { return None };
            let Exports { program, plan, blob, .. } = cx.exports;
            let signature = &program.signature;
            let mut null = checks.builder.ins().icmp_imm_s(IntCC::Equal, out, 0);
            if !signature.dims.is_empty() {
                let no_dims = checks.builder.ins().icmp_imm_s(IntCC::Equal, dims, 0);
                null = checks.builder.ins().bor(null, no_dims);
            }
            checks.fail_if(null, Status::Null);
            let wrong = checks.builder.ins().iconst(types::I8, 0);
            let mut sizes = CheckedSizes { order: &signature.dims, dims, wrong };
            let builder = &mut checks.builder;
            sizes.symbols(builder);
            for check in &program.checks {
                let holds = sizes.holds(builder, &check.condition);
                let fails = builder.ins().bxor_imm_u(holds, 1);
                sizes.wrong = builder.ins().bor(sizes.wrong, fails);
            }
            let mut values = vec![(BLOB_SIZE, sizes.size(builder, &blob.size_bytes))];
            let mut arena = sizes.size(builder, &plan.entry_bytes);
            if let Some(bytes) = &plan.bind_bytes {
                let bytes = sizes.size(builder, bytes);
                arena = builder.ins().smax(arena, bytes);
            }
            values.push((SCRATCH_SIZE, arena));
            for port in &signature.inputs {
                sizes.elems(builder, &port.ty.shape, port.ty.dtype.size_bytes());
            }
            for (k, port) in signature.outputs.iter().enumerate() {
                let elems = sizes.elems(builder, &port.ty.shape, port.ty.dtype.size_bytes());
                values.push((FIRST_OUTPUT_SIZE + 8 * k as i32, elems));
            }
            let wrong = sizes.wrong;
            checks.fail_if(wrong, Status::Dims);
            for (at, value) in values {
                checks.builder.ins().store(MemFlagsData::trusted(), value, out, at);
            }
            None
        })
    }

    /// Checks what both `_pack` and `_forward` take: context, blob, scratch, tensors, dims.
    fn common(
        &mut self,
        checks: &mut Checks<'_>,
        context: Value,
        blocks: [Value; 2],
        tables: &[Value],
        dims: Value,
    ) {
        let null = checks.builder.ins().icmp_imm_s(IntCC::Equal, context, 0);
        checks.fail_if(null, Status::Null);
        let version =
            checks.builder.ins().load(types::I32, MemFlagsData::trusted(), context, offset::VERSION);
        let other = checks.builder.ins().icmp_imm_u(IntCC::NotEqual, version, i64::from(ABI_VERSION));
        checks.fail_if(other, Status::Version);
        for pointer in blocks.iter().chain(tables) {
            let null = checks.builder.ins().icmp_imm_s(IntCC::Equal, *pointer, 0);
            checks.fail_if(null, Status::Null);
        }
        for pointer in blocks {
            let odd = checks.builder.ins().band_imm_s(pointer, ALIGN_BYTES - 1);
            let odd = checks.builder.ins().icmp_imm_s(IntCC::NotEqual, odd, 0);
            checks.fail_if(odd, Status::Alignment);
        }
        let bytes = FIRST_OUTPUT_SIZE as u32 + 8 * self.exports.program.signature.outputs.len() as u32;
        let out = stack(checks, bytes);
        let sizes = self.import(checks, self.sizes);
        let call = checks.builder.ins().call(sizes, &[dims, out]);
        let status = checks.builder.inst_results(call)[0];
        checks.fail_with(status);
    }

    /// Checks tensors against their types.
    fn tensors(
        &mut self,
        checks: &mut Checks<'_>,
        sizes: &mut Sizes<'_>,
        table: Value,
        expected: &[&TensorType],
    ) {
        let shape = stack(checks, 8 * crate::tensor::MAX_RANK as u32);
        let check = self.import(checks, self.tensor);
        for (k, ty) in expected.iter().enumerate() {
            for (axis, dim) in ty.shape.iter().enumerate() {
                let value = sizes.emit(&mut checks.builder, dim);
                checks.builder.ins().store(MemFlagsData::trusted(), value, shape, 8 * axis as i32);
            }
            let arg = checks.builder.ins().iadd_imm_s(table, k as i64 * i64::from(tensor::SIZE));
            let dtype = checks.builder.ins().iconst(types::I32, i64::from(dtype_code(ty.dtype)));
            let rank = checks.builder.ins().iconst(types::I32, ty.shape.len() as i64);
            let size = checks.builder.ins().iconst(types::I64, ty.dtype.size_bytes() as i64);
            let call = checks.builder.ins().call(check, &[arg, dtype, rank, shape, size]);
            let status = checks.builder.inst_results(call)[0];
            checks.fail_with(status);
        }
    }

    /// Writes the data pointers of a table; an empty tensor's is replaced by one to padding.
    fn pointers(
        &mut self,
        checks: &mut Checks<'_>,
        table: Value,
        count: usize,
        padding: Value,
        to: Value,
        at: usize,
    ) {
        let flags = MemFlagsData::trusted();
        for k in 0..count {
            let from = k as i32 * tensor::SIZE;
            let bytes = checks.builder.ins().load(types::I64, flags, table, from + tensor::BYTES);
            let data = checks.builder.ins().load(types::I64, flags, table, from + tensor::DATA);
            let data = checks.builder.ins().select(bytes, data, padding);
            checks.builder.ins().store(flags, data, to, 8 * (at + k) as i32);
        }
    }

    /// Writes the pointers to the parts of the blob.
    fn parts(&mut self, checks: &mut Checks<'_>, sizes: &mut Sizes<'_>, blob: Value, to: Value, at: usize) {
        for (k, part) in self.exports.blob.parts.iter().enumerate() {
            let offset = sizes.emit(&mut checks.builder, &part.offset_bytes);
            let pointer = checks.builder.ins().iadd(blob, offset);
            checks.builder.ins().store(MemFlagsData::trusted(), pointer, to, 8 * (at + k) as i32);
        }
    }

    fn enter(&mut self, checks: &mut Checks<'_>, function: usize, args: [Value; 4]) -> Value {
        let function = self.import(checks, self.exports.functions[function]);
        let call = checks.builder.ins().call(function, &args);
        checks.builder.inst_results(call)[0]
    }

    /// `status pack(context, weights, blob, dims, scratch)`
    fn pack(&mut self, name: &str) -> Result<(), CodeError> {
        let id = declare(self.module, name, Linkage::Export, &[types::I64; 5], types::I32)?;
        let program = self.exports.program;
        let weights: Vec<&TensorType> = program.signature.weights.iter().map(|weight| &weight.ty).collect();
        self.function(id, name, |cx, checks, params| {
            let &[context, table, blob, dims, scratch] = params else { return None };
            let tables = if weights.is_empty() { Vec::new() } else { vec![table] };
            cx.common(checks, context, [blob, scratch], &tables, dims);
            let mut sizes = Sizes::new(&program.signature.dims, dims);
            cx.tensors(checks, &mut sizes, table, &weights);
            let bind = program.bind?;
            let to = stack(checks, 8 * (weights.len() + cx.exports.blob.parts.len()) as u32);
            cx.pointers(checks, table, weights.len(), scratch, to, 0);
            cx.parts(checks, &mut sizes, blob, to, weights.len());
            Some(cx.enter(checks, bind, [context, dims, scratch, to]))
        })
    }

    /// `status forward(context, blob, inputs, outputs, dims, scratch)`
    fn forward(&mut self, name: &str) -> Result<(), CodeError> {
        let id = declare(self.module, name, Linkage::Export, &[types::I64; 6], types::I32)?;
        let program = self.exports.program;
        let Signature { inputs, outputs, dims: order, .. } = &program.signature;
        let [in_types, out_types] =
            [inputs, outputs].map(|ports| ports.iter().map(|port| &port.ty).collect::<Vec<_>>());
        self.function(id, name, |cx, checks, params| {
            let &[context, blob, in_table, out_table, dims, scratch] = params else { return None };
            let tables = [(in_table, &in_types), (out_table, &out_types)];
            let tables: Vec<Value> = tables.iter().filter(|(_, t)| !t.is_empty()).map(|(v, _)| *v).collect();
            cx.common(checks, context, [blob, scratch], &tables, dims);
            let mut sizes = Sizes::new(order, dims);
            cx.tensors(checks, &mut sizes, in_table, &in_types);
            cx.tensors(checks, &mut sizes, out_table, &out_types);
            let overlap = cx.import(checks, cx.overlap);
            let counts = [out_types.len(), in_types.len()]
                .map(|count| checks.builder.ins().iconst(types::I64, count as i64));
            let call = checks.builder.ins().call(overlap, &[out_table, counts[0], in_table, counts[1]]);
            let status = checks.builder.inst_results(call)[0];
            checks.fail_with(status);
            let parts = cx.exports.blob.parts.len();
            let to = stack(checks, 8 * (in_types.len() + parts + out_types.len()) as u32);
            cx.pointers(checks, in_table, in_types.len(), scratch, to, 0);
            cx.parts(checks, &mut sizes, blob, to, in_types.len());
            cx.pointers(checks, out_table, out_types.len(), scratch, to, in_types.len() + parts);
            Some(cx.enter(checks, program.entry, [context, dims, scratch, to]))
        })
    }
}

/// The address of a slot on the stack.
fn stack(checks: &mut Checks<'_>, bytes: u32) -> Value {
    let slot = StackSlotData::new(StackSlotKind::ExplicitSlot, bytes.max(8), 3);
    let slot = checks.builder.create_sized_stack_slot(slot);
    checks.builder.ins().stack_addr(types::I64, slot, 0)
}

/// Refuses element types that have no code.
pub(crate) fn check_types(signature: &Signature) -> Result<(), CodeError> {
    let ports = signature.inputs.iter().chain(&signature.outputs).map(|port| port.ty.dtype);
    let all = ports.chain(signature.weights.iter().map(|weight| weight.ty.dtype));
    match all.into_iter().find(|dtype| matches!(dtype, DType::F16 | DType::BF16)) {
        Some(dtype) => Err(CodeError::Unsupported(dtype)),
        None => Ok(()),
    }
}
