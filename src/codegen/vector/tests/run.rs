//! Running a kernel.

use super::super::isa::Isa;
use crate::codegen::target::{Cpu, Kernels, Placement};
use cranelift_codegen::ir::{AbiParam, types};
use cranelift_codegen::isa::CallConv;
use cranelift_jit::{JITBuilder, JITModule};
use cranelift_module::{Linkage, Module, default_libcall_names};

/// A kernel in executable memory.
pub struct Kernel {
    code: unsafe extern "sysv64" fn(*mut i64),
    _module: JITModule,
}

impl Kernel {
    /// Places machine code that [`super::super`] assembled.
    #[expect(unsafe_code, reason = "machine code becomes a function")]
    pub fn new(code: &[u8]) -> Self {
        let isa = Cpu::Native.compilers(Placement::Memory).unwrap().target();
        let mut module = JITModule::new(JITBuilder::with_isa(isa, default_libcall_names()));
        let mut signature = module.make_signature();
        signature.call_conv = CallConv::SystemV;
        signature.params.push(AbiParam::new(types::I64));
        let id = module.declare_function("kernel", Linkage::Local, &signature).unwrap();
        module.define_function_bytes(id, 64, code, &[]).unwrap();
        module.finalize_definitions().unwrap();
        let address = module.get_finalized_function(id);
        // SAFETY: a finalized function of one pointer in the System V convention.
        let code = unsafe { std::mem::transmute::<*const u8, unsafe extern "sysv64" fn(*mut i64)>(address) };
        Kernel { code, _module: module }
    }

    /// Calls it with these arguments, among which it may leave results.
    #[expect(unsafe_code, reason = "native code is called")]
    pub fn call(&self, arguments: &mut [i64]) {
        // SAFETY: every test passes pointers to the elements that its kernel touches; that it
        // touches no others is part of what is tested.
        unsafe { (self.code)(arguments.as_mut_ptr()) }
    }
}

/// The widths of this processor; says which it lacks.
pub fn widths() -> Vec<Isa> {
    let has = |isa: &Isa| match Kernels::Of(*isa).isa() {
        Ok(_) => true,
        Err(error) => {
            eprintln!("{} is skipped: {error}", isa.name());
            false
        }
    };
    Isa::ALL.into_iter().filter(has).collect()
}

/// Numbers of all kinds: special ones, and others without a pattern.
pub fn samples(count: usize, seed: u64) -> Vec<f32> {
    let special = [
        0.0,
        -0.0,
        1.0,
        -1.0,
        f32::INFINITY,
        f32::NEG_INFINITY,
        f32::NAN,
        f32::MIN_POSITIVE,
        -1e-40,
        88.8,
        -104.5,
        3.4e38,
    ];
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut draw = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    (0..count)
        .map(|k| match k % 4 {
            0 => special[draw() as usize % special.len()],
            1 => f32::from_bits((draw() >> 32) as u32),
            _ => (draw() >> 40) as f32 / (1u64 << 20) as f32 - 8.0,
        })
        .collect()
}

/// Whether two floats are the same number, zeros apart and NaN together.
pub fn same(a: f32, b: f32) -> bool {
    a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan())
}
