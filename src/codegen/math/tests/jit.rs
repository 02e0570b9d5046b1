//! Compiles a loop over one function, as the code generator would use it.

use cranelift_codegen::ir::{
    AbiParam, BlockArg, FuncRef, Function, InstBuilder, MemFlagsData, Signature, Type, Value,
    condcodes::IntCC, types,
};
use cranelift_codegen::settings::{self, Configurable};
use cranelift_frontend::{FunctionBuilder, FunctionBuilderContext};
use cranelift_jit::{JITBuilder, JITModule};
use cranelift_module::{Linkage, Module, default_libcall_names};

use super::super::emit::{self, Placement};
use super::super::{BinaryFn, MathFn};

/// `fn(x, y, out, vectors)`, over arrays of vectors of one type; `y` is read by binary functions.
type Loop = unsafe extern "C" fn(*const u8, *const u8, *mut u8, usize);

/// What to compile.
#[derive(Clone, Copy)]
pub enum Func {
    Unary(MathFn),
    Binary(BinaryFn),
}

/// A compiled loop, which keeps its code.
pub struct Compiled {
    code: Loop,
    lanes: usize,
    bytes: usize,
    /// Instructions of the function itself, before optimisation.
    pub insts: usize,
    _module: JITModule,
}

// SAFETY: the code is immutable and holds no state.
#[expect(unsafe_code, reason = "finished code may be called from any thread")]
unsafe impl Sync for Compiled {}

impl Compiled {
    /// Compiles `func` on values of type `ty`, inlined or called as its placement says.
    pub fn new(func: Func, ty: Type) -> Self {
        let mut module = new_module();
        let convention = module.isa().default_call_conv();
        let config = module.target_config();
        let mut scratch = FunctionBuilderContext::new();
        let mut context = module.make_context();
        let (placement, name, arity) = match func {
            Func::Unary(f) => (f.placement(ty), f.symbol(ty), 1),
            Func::Binary(f) => (f.placement(ty), f.symbol(ty), 2),
        };
        let signature = emit::signature(arity, ty, convention);
        let body = module.declare_function(&name, Linkage::Local, &signature).unwrap();
        match func {
            Func::Unary(f) => emit::define_unary(&mut context, &mut scratch, config, f, ty, convention),
            Func::Binary(f) => emit::define_binary(&mut context, &mut scratch, config, f, ty, convention),
        }
        let insts = context.func.dfg.num_insts();
        module.define_function(body, &mut context).unwrap();

        let element = |b: &mut FunctionBuilder, callee: FuncRef, x, y| match (placement, func) {
            (Placement::Inline, Func::Unary(f)) => emit::emit_unary(b, f, x),
            (Placement::Inline, Func::Binary(f)) => emit::emit_binary(b, f, x, y),
            (Placement::Call, _) => {
                let call = b.ins().call(callee, &[x, y][..arity]);
                b.inst_results(call)[0]
            }
        };
        Self::finish(module, ty, insts, |module, b, x, y| {
            let callee = module.declare_func_in_func(body, b.func);
            element(b, callee, x, y)
        })
    }

    /// Compiles what `element` emits for two values of type `ty`.
    pub fn inline(ty: Type, element: impl FnOnce(&mut FunctionBuilder, Value, Value) -> Value) -> Self {
        Self::finish(new_module(), ty, 0, |_, b, x, y| element(b, x, y))
    }

    fn finish(
        mut module: JITModule,
        ty: Type,
        insts: usize,
        element: impl FnOnce(&mut JITModule, &mut FunctionBuilder, Value, Value) -> Value,
    ) -> Self {
        let mut context = module.make_context();
        let mut signature = Signature::new(module.isa().default_call_conv());
        signature.params.extend([AbiParam::new(types::I64); 4]);
        let id = module.declare_function("loop", Linkage::Local, &signature).unwrap();
        context.func = Function::with_name_signature(context.func.name.clone(), signature);
        let mut scratch = FunctionBuilderContext::new();
        let mut builder = FunctionBuilder::new(&mut context.func, &mut scratch);
        emit_loop(&mut builder, ty, |b, x, y| element(&mut module, b, x, y));
        builder.seal_all_blocks();
        builder.finalize(module.target_config());
        module.define_function(id, &mut context).unwrap();
        module.finalize_definitions().unwrap();
        let address = module.get_finalized_function(id);
        // SAFETY: the function was declared above with the signature that `Loop` describes.
        #[expect(unsafe_code, reason = "the address of finished code becomes a function")]
        let code = unsafe { std::mem::transmute::<*const u8, Loop>(address) };
        Self {
            code,
            lanes: ty.lane_count() as usize,
            bytes: ty.lane_type().bytes() as usize,
            insts,
            _module: module,
        }
    }

    /// Applies the function to every element; lengths must be equal and multiples of the lanes.
    pub fn apply<T: Copy>(&self, x: &[T], y: &[T], out: &mut [T]) {
        assert_eq!(size_of::<T>(), self.bytes);
        assert!(x.len() == out.len() && y.len() == out.len() && x.len().is_multiple_of(self.lanes));
        // SAFETY: the three arrays have equal lengths in whole vectors of the element size that the
        // code was compiled for, as asserted, and loads and stores assume no alignment.
        #[expect(unsafe_code, reason = "the call of compiled code")]
        unsafe {
            (self.code)(x.as_ptr().cast(), y.as_ptr().cast(), out.as_mut_ptr().cast(), x.len() / self.lanes);
        }
    }
}

/// A module for this machine, optimised as the compiler's own modules are.
fn new_module() -> JITModule {
    let mut flags = settings::builder();
    flags.set("opt_level", "speed").unwrap();
    flags.set("is_pic", "false").unwrap();
    let isa = cranelift_native::builder().unwrap().finish(settings::Flags::new(flags)).unwrap();
    JITModule::new(JITBuilder::with_isa(isa, default_libcall_names()))
}

fn emit_loop(
    builder: &mut FunctionBuilder,
    ty: Type,
    element: impl FnOnce(&mut FunctionBuilder, Value, Value) -> Value,
) {
    let (entry, head, body, exit) =
        (builder.create_block(), builder.create_block(), builder.create_block(), builder.create_block());
    builder.append_block_params_for_function_params(entry);
    let index = builder.append_block_param(head, types::I64);
    builder.switch_to_block(entry);
    let [x, y, out, count] = builder.block_params(entry)[..] else { panic!("four parameters") };
    let zero = builder.ins().iconst(types::I64, 0);
    builder.ins().jump(head, &[BlockArg::Value(zero)]);

    builder.switch_to_block(head);
    let more = builder.ins().icmp(IntCC::UnsignedLessThan, index, count);
    builder.ins().brif(more, body, &[], exit, &[]);

    builder.switch_to_block(body);
    let size = builder.ins().iconst(types::I64, i64::from(ty.bytes()));
    let offset = builder.ins().imul(index, size);
    let flags = MemFlagsData::new();
    let mut load = |base| {
        let address = builder.ins().iadd(base, offset);
        builder.ins().load(ty, flags, address, 0)
    };
    let (x, y) = (load(x), load(y));
    let value = element(builder, x, y);
    let address = builder.ins().iadd(out, offset);
    builder.ins().store(flags, value, address, 0);
    let one = builder.ins().iconst(types::I64, 1);
    let next = builder.ins().iadd(index, one);
    builder.ins().jump(head, &[BlockArg::Value(next)]);

    builder.switch_to_block(exit);
    builder.ins().return_(&[]);
}
