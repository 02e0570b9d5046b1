//! Code in the memory of this process.
//!
//! One reservation of address space holds the code and constants of a program; pages are written
//! first and then made executable or read-only, never both writable and executable. [`Code`] owns
//! the memory together with the addresses into it and frees it when dropped.
#![expect(unsafe_code, reason = "executable memory is owned and freed here")]

use super::abi::Entry;
use super::clif::{self, Compiled, Definitions, Summary};
use super::error::CodeError;
use super::image::{Capture, Damaged, Image, Refused};
use super::target::{Cpu, Options, Placement};
use super::vector::kernels::Defined;
use crate::loops::buffers::Plan;
use crate::loops::ir::LoopProgram;
use crate::source::SourceMap;
use cranelift_codegen::ir::LibCall;
use cranelift_codegen::isa::OwnedTargetIsa;
use cranelift_jit::{ArenaMemoryProvider, JITBuilder, JITModule};
use serde::{Deserialize, Serialize};
use std::fmt;

/// # Units
/// Bytes of address space beyond the constants: what is tried first, and where trying ends.
const FIRST_RESERVE_BYTES: usize = 16 << 20;
const LAST_RESERVE_BYTES: usize = 1 << 30;

/// Code apart from its addresses and bytes, to be placed in another process.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Kept {
    image: Image,
    functions: Vec<Summary>,
    /// Name, bytes of code and places of each kernel.
    kernels: Vec<(String, usize, Vec<String>)>,
}

impl Kept {
    /// How many functions of a program there are.
    pub fn functions(&self) -> usize {
        self.functions.len()
    }

    fn of(image: Image, definitions: &Definitions) -> (Kept, Vec<u8>) {
        let mut bytes = image.bytes().to_vec();
        let mut kernels = Vec::with_capacity(definitions.kernels.len());
        for Defined { name, code, places } in &definitions.kernels {
            bytes.extend_from_slice(code);
            kernels.push((name.clone(), code.len(), places.clone()));
        }
        let functions = definitions.functions.iter().map(Compiled::summary).collect();
        (Kept { image: image.with_bytes(Vec::new()), functions, kernels }, bytes)
    }

    /// Takes the bytes apart.
    fn take(self, mut bytes: Vec<u8>) -> Result<(Image, Definitions), Damaged> {
        let of_kernels = self.kernels.iter().try_fold(0usize, |sum, (_, len, _)| sum.checked_add(*len));
        let split = of_kernels.and_then(|of_kernels| bytes.len().checked_sub(of_kernels)).ok_or(Damaged)?;
        let mut rest = bytes.split_off(split);
        let mut kernels = Vec::with_capacity(self.kernels.len());
        for (name, len, places) in self.kernels {
            let after = rest.split_off(len.min(rest.len()));
            kernels.push(Defined { name, code: std::mem::replace(&mut rest, after), places });
        }
        let functions = self.functions.into_iter().map(Compiled::of_summary).collect();
        Ok((self.image.with_bytes(bytes), Definitions { functions, kernels }))
    }
}

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
    /// As [`clif::define`] and [`Cpu::compilers`]; [`CodeError::Memory`] where the code finds no room.
    pub fn new(
        program: &LoopProgram,
        plan: &Plan,
        options: Options,
        sources: Option<&SourceMap>,
    ) -> Result<Code, CodeError> {
        Self::build(program, plan, options, sources, false).map(|(code, _)| code)
    }

    /// As [`Code::new`]; where it is to be kept, also gives what to keep, with its bytes.
    ///
    /// # Errors
    /// As [`Code::new`].
    pub fn build(
        program: &LoopProgram,
        plan: &Plan,
        options: Options,
        sources: Option<&SourceMap>,
        keep: bool,
    ) -> Result<(Code, Option<(Kept, Vec<u8>)>), CodeError> {
        let constants = program.functions.iter().flat_map(|func| &func.buffers).map(clif::constant_bytes);
        let constants = constants.fold(0usize, usize::saturating_add);
        let mut reserve = FIRST_RESERVE_BYTES;
        loop {
            match Self::within(program, plan, options, sources, keep, constants.saturating_add(reserve)) {
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
        keep: bool,
        reserve_bytes: usize,
    ) -> Result<(Code, Option<(Kept, Vec<u8>)>), CodeError> {
        let compilers = options.cpu.compilers(Placement::Memory)?;
        let mut code = Code::empty(options.cpu, compilers.target(), reserve_bytes)?;
        let Some(module) = code.module.as_mut() else { return Ok((code, None)) };
        let mut kept = None;
        if keep {
            let mut capture = Capture::new(module);
            code.definitions = clif::define(&mut capture, compilers, program, plan, options, sources)?;
            kept = capture.image().map(|image| Kept::of(image, &code.definitions));
        } else {
            code.definitions = clif::define(module, compilers, program, plan, options, sources)?;
        }
        code.finish()?;
        Ok((code, kept))
    }

    /// Places code that was kept. It is taken to be what [`Code::build`] gave, for the same processor.
    ///
    /// # Errors
    /// [`CodeError::Internal`] for parts that do not belong together; as [`Code::new`] where there is no memory.
    pub(crate) fn restore(kept: Kept, bytes: Vec<u8>, cpu: Cpu) -> Result<Code, CodeError> {
        let damaged = |_: Damaged| {
            let function = "a stored program".to_string();
            CodeError::Internal { function, reason: Damaged.to_string() }
        };
        let (image, definitions) = kept.take(bytes).map_err(damaged)?;
        if definitions.functions.iter().any(|function| !image.defines(function.id)) {
            return Err(damaged(Damaged));
        }
        // Each piece may be moved to a page of its own by its alignment at most.
        let reserve = image.bytes().len().saturating_mul(2).saturating_add(FIRST_RESERVE_BYTES);
        let target = cpu.compilers(Placement::Memory)?.target();
        let mut code = Code::empty(cpu, target, reserve)?;
        code.definitions = definitions;
        let Some(module) = code.module.as_mut() else { return Ok(code) };
        image.define(module).map_err(|refused| match refused {
            Refused::Damaged(error) => damaged(error),
            Refused::Module(error) => CodeError::of_module("a stored program", &error),
        })?;
        code.finish()?;
        Ok(code)
    }

    /// Memory for code.
    fn empty(cpu: Cpu, target: OwnedTargetIsa, reserve_bytes: usize) -> Result<Code, CodeError> {
        let memory = ArenaMemoryProvider::new_with_size(reserve_bytes)
            .map_err(|error| CodeError::Memory(error.to_string()))?;
        let mut builder = JITBuilder::with_isa(target, Box::new(no_library));
        builder.memory_provider(Box::new(memory));
        let (definitions, missing) = (Definitions::default(), cpu.missing_here());
        // The guard frees the memory, whatever happens.
        Ok(Code { module: Some(JITModule::new(builder)), entries: Vec::new(), definitions, missing })
    }

    /// Makes what is defined executable.
    fn finish(&mut self) -> Result<(), CodeError> {
        if let Some(module) = self.module.as_mut() {
            module.finalize_definitions().map_err(|error| CodeError::of_module("the program", &error))?;
            self.entries = self.definitions.functions.iter().map(|f| entry(module, f)).collect();
        }
        Ok(())
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
