//! Code in the memory of this process.
//!
//! One reservation of address space holds the code and constants of a program; pages are written
//! first and then made executable or read-only, never both writable and executable. [`Code`] owns
//! the memory together with the addresses into it and frees it when dropped.
#![expect(unsafe_code, reason = "executable memory is owned and freed here")]

use super::abi::Entry;
use super::clif::{self, Compiled, Definitions};
use super::error::CodeError;
use super::target::{Options, Placement};
use super::vector::kernels::Defined;
use crate::loops::buffers::Plan;
use crate::loops::ir::LoopProgram;
use crate::source::SourceMap;
use cranelift_codegen::ir::LibCall;
use cranelift_jit::{ArenaMemoryProvider, JITBuilder, JITModule};
use std::fmt;

/// # Units
/// Bytes of address space beyond the constants: what is tried first, and where trying ends.
const FIRST_RESERVE_BYTES: usize = 16 << 20;
const LAST_RESERVE_BYTES: usize = 1 << 30;

/// The compiled functions of a program.
///
/// The code is immutable and may be run by any number of threads at once.
pub struct Code {
    module: Option<JITModule>,
    entries: Vec<Entry>,
    definitions: Definitions,
    /// What it needs and this processor lacks: if anything, it is looked at and never run.
    missing: Vec<&'static str>,
}

// SAFETY: the module is not touched between construction and drop; the memory that the entries
// point to is immutable in between, and the code in it has no state of its own.
unsafe impl Send for Code {}
// SAFETY: as above: shared access reads immutable memory only.
unsafe impl Sync for Code {}

impl Code {
    /// Compiles a program; given sources, also prints its functions.
    ///
    /// # Errors
    /// As [`clif::define`] and [`Cpu::compilers`](super::target::Cpu::compilers); [`CodeError::Memory`] where the code finds no room.
    pub fn new(
        program: &LoopProgram,
        plan: &Plan,
        options: Options,
        sources: Option<&SourceMap>,
    ) -> Result<Code, CodeError> {
        let constants = program.functions.iter().flat_map(|func| &func.buffers).map(clif::constant_bytes);
        let constants = constants.fold(0usize, usize::saturating_add);
        let mut reserve = FIRST_RESERVE_BYTES;
        loop {
            match Self::within(program, plan, options, sources, constants.saturating_add(reserve)) {
                Err(CodeError::Memory(_)) if reserve < LAST_RESERVE_BYTES => reserve *= 8,
                result => return result,
            }
        }
    }

    fn within(
        program: &LoopProgram,
        plan: &Plan,
        options: Options,
        sources: Option<&SourceMap>,
        reserve_bytes: usize,
    ) -> Result<Code, CodeError> {
        let compilers = options.cpu.compilers(Placement::Memory)?;
        let memory = ArenaMemoryProvider::new_with_size(reserve_bytes)
            .map_err(|error| CodeError::Memory(error.to_string()))?;
        let mut builder = JITBuilder::with_isa(compilers.target(), Box::new(no_library));
        builder.memory_provider(Box::new(memory));
        // From here on the guard frees the memory, whatever happens.
        let module = Some(JITModule::new(builder));
        let (definitions, missing) = (Definitions::default(), options.cpu.missing_here());
        let mut code = Code { module, entries: Vec::new(), definitions, missing };
        let Some(module) = code.module.as_mut() else { return Ok(code) };
        code.definitions = clif::define(module, compilers, program, plan, options, sources)?;
        module.finalize_definitions().map_err(|error| CodeError::of_module("the program", &error))?;
        code.entries = code.definitions.functions.iter().map(|f| entry(module, f)).collect();
        Ok(code)
    }

    /// The machine code of function `k` of the program, valid while this value lives; `None` where this
    /// processor lacks its instructions.
    ///
    /// Calling it is unsafe; [`crate::runtime`] does it with everything checked.
    pub fn entry(&self, k: usize) -> Option<Entry> {
        if self.missing.is_empty() { self.entries.get(k).copied() } else { None }
    }

    /// The features that the code needs and this processor lacks.
    pub fn missing(&self) -> &[&'static str] {
        &self.missing
    }

    /// All functions, in program order.
    pub fn functions(&self) -> &[Compiled] {
        &self.definitions.functions
    }

    /// The kernels that they call.
    pub(crate) fn kernels(&self) -> &[Defined] {
        &self.definitions.kernels
    }
}

fn entry(module: &JITModule, function: &Compiled) -> Entry {
    let address = module.get_finalized_function(function.id);
    // SAFETY: the address is that of a finalized function, which was declared with the signature
    // that `Entry` spells out, in the default calling convention of the host.
    unsafe { std::mem::transmute::<*const u8, Entry>(address) }
}

/// Generated code calls no library: the target has all instructions that it needs.
fn no_library(call: LibCall) -> String {
    format!("mdlc_missing_{call}")
}

impl Drop for Code {
    fn drop(&mut self) {
        self.entries.clear();
        if let Some(module) = self.module.take() {
            // SAFETY: the entries have been private to this value, are lent out by reference to
            // it only, and no reference is left.
            unsafe { module.free_memory() };
        }
    }
}

impl fmt::Debug for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Code").field("functions", &self.definitions.functions).finish_non_exhaustive()
    }
}
