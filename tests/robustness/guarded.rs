//! Calls of native code with every buffer between two pages that fault.
//!
//! Takes a loop program, compiles it, and calls its functions by hand: weights, packed weights, inputs,
//! outputs and the arena each lie in a mapping of their own, flush with the page behind it or with the
//! one before it. A load or store one element outside is a fault, which ends the process after saying
//! in which case it happened. Inputs and weights are read-only while the code runs.
#![allow(unsafe_code, reason = "memory is mapped and native code is called here")]

use mdlc::codegen::abi::{Context, Status};
use mdlc::codegen::jit::Code;
use mdlc::codegen::target::Kernels;
use mdlc::graph::dims::{DimBinder, DimEnv};
use mdlc::loops::buffers::{self, ALIGN_BYTES, BlobLayout, Plan};
use mdlc::loops::ir::{BufferId, LoopFunc, LoopProgram};
use mdlc::tensor::Tensor;
use std::ptr::null_mut;
use std::sync::{Mutex, Once, PoisonError};

/// The page that a buffer touches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flush {
    /// The one behind its last byte.
    End,
    /// The one before its first.
    Start,
}

/// Bytes between two pages that fault.
pub struct Guarded {
    map: *mut u8,
    map_bytes: usize,
    start: *mut u8,
    len_bytes: usize,
}

fn page_bytes() -> usize {
    // SAFETY: no memory is passed.
    usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap()
}

impl Guarded {
    /// Writable memory, filled with a pattern that no result has.
    pub fn new(len_bytes: usize, flush: Flush) -> Self {
        let page = page_bytes();
        let inner = len_bytes.next_multiple_of(page).max(page);
        let map_bytes = inner + 2 * page;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        // SAFETY: a new mapping, of nothing.
        let map = unsafe { libc::mmap(null_mut(), map_bytes, libc::PROT_NONE, flags, -1, 0) };
        assert!(map != libc::MAP_FAILED, "no memory for a guarded buffer of {len_bytes} bytes");
        let map: *mut u8 = map.cast();
        // SAFETY: the pages between the first and the last lie in the mapping.
        let (middle, start) = unsafe {
            let middle = map.add(page);
            (middle, if flush == Flush::End { middle.add(inner - len_bytes) } else { middle })
        };
        protect(middle, inner, libc::PROT_READ | libc::PROT_WRITE);
        let mut guarded = Guarded { map, map_bytes, start, len_bytes };
        guarded.bytes_mut().fill(0xA5);
        guarded
    }

    /// The same with given content, read-only.
    pub fn of(bytes: &[u8], flush: Flush) -> Self {
        let mut guarded = Guarded::new(bytes.len(), flush);
        guarded.bytes_mut().copy_from_slice(bytes);
        guarded.freeze();
        guarded
    }

    /// Makes it read-only.
    pub fn freeze(&mut self) {
        let page = page_bytes();
        // SAFETY: the pages between the first and the last lie in the mapping.
        let middle = unsafe { self.map.add(page) };
        protect(middle, self.map_bytes - 2 * page, libc::PROT_READ);
    }

    pub fn bytes(&self) -> &[u8] {
        // SAFETY: mapped, readable, initialised, and borrowed with `self`.
        unsafe { std::slice::from_raw_parts(self.start, self.len_bytes) }
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: mapped, writable until `freeze`, which ends the uses of this private function.
        unsafe { std::slice::from_raw_parts_mut(self.start, self.len_bytes) }
    }

    pub fn is_untouched(&self) -> bool {
        self.bytes().iter().all(|b| *b == 0xA5)
    }
}

fn protect(start: *mut u8, len_bytes: usize, protection: libc::c_int) {
    // SAFETY: whole pages of a mapping that the caller owns.
    let result = unsafe { libc::mprotect(start.cast(), len_bytes, protection) };
    assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
}

impl Drop for Guarded {
    fn drop(&mut self) {
        // SAFETY: the mapping is this value's own, and no borrow of it is left.
        unsafe { libc::munmap(self.map.cast(), self.map_bytes) };
    }
}

/// Code without wide kernels, and with those that the processor has.
pub const ALL: [Kernels; 2] = [Kernels::None, Kernels::Widest];

/// A program that is called by hand.
pub struct Native {
    program: LoopProgram,
    plan: Plan,
    blob: BlobLayout,
    code: Code,
}

/// How a call ended, and what it left in its outputs.
pub struct Called {
    /// The site that failed, if one did.
    pub failed: Option<usize>,
    pub outputs: Vec<Guarded>,
}

impl Native {
    pub fn new(program: LoopProgram, kernels: Kernels) -> Self {
        report_faults();
        let plan = buffers::plan(&program).unwrap();
        let blob = BlobLayout::new(&program).unwrap();
        let code = Code::new(&program, &plan, kernels.into(), None).unwrap();
        Native { program, plan, blob, code }
    }

    /// The sizes for inputs of given shapes; `None` where they do not go together or do not fit.
    pub fn dims(&self, inputs: &[Tensor], weights: &[Tensor]) -> Option<DimEnv> {
        let signature = &self.program.signature;
        let mut binder = DimBinder::new();
        for (weight, tensor) in signature.weights.iter().zip(weights) {
            binder.tensor(&weight.path, &weight.ty, tensor.shape(), weight.span).ok()?;
        }
        for (port, tensor) in signature.inputs.iter().zip(inputs) {
            binder.tensor(&port.name, &port.ty, tensor.shape(), port.span).ok()?;
        }
        let env = binder.finish(signature, &self.program.checks).ok()?;
        self.plan.evaluate(&|symbol| env.get(symbol)).ok()?;
        Some(env)
    }

    /// The message of a site.
    pub fn site(&self, site: usize) -> &str {
        &self.program.sites[site].message
    }

    /// Packs the weights and calls the entry.
    pub fn call(
        &self,
        case: &str,
        inputs: &[Tensor],
        weights: &[Tensor],
        env: &DimEnv,
        flush: Flush,
    ) -> Called {
        *CASE.lock().unwrap_or_else(PoisonError::into_inner) = format!("{case} ({flush:?})\n");
        let guard = |tensors: &[Tensor]| -> Vec<Guarded> {
            tensors.iter().map(|t| Guarded::of(&at_least_one(t), flush)).collect()
        };
        let mut arguments = guard(inputs);
        if let Some(bind) = self.program.bind {
            let bytes = self.plan.bind_bytes.as_ref().map_or(0, |dim| env.size(dim).unwrap());
            let packed = self.run(bind, guard(weights), bytes, env, flush);
            assert_eq!(packed.failed, None, "{case}: the weights cannot be packed");
            assert_eq!(packed.outputs.len(), self.blob.parts.len());
            for mut part in packed.outputs {
                part.freeze();
                arguments.push(part);
            }
        }
        let bytes = env.size(&self.plan.entry_bytes).unwrap();
        self.run(self.program.entry, arguments, bytes, env, flush)
    }

    fn run(
        &self,
        function: usize,
        arguments: Vec<Guarded>,
        arena_bytes: usize,
        env: &DimEnv,
        flush: Flush,
    ) -> Called {
        let func = &self.program.functions[function];
        let args = buffers::args(func);
        assert_eq!(args.len(), arguments.len());
        let outputs: Vec<Guarded> =
            buffers::results(func).iter().map(|id| Guarded::new(bytes_of(func, *id, env), flush)).collect();
        let arena = Guarded::new(arena_bytes.next_multiple_of(ALIGN_BYTES as usize), flush);
        let pointers: Vec<*mut u8> = arguments.iter().chain(&outputs).map(|g| g.start).collect();
        let dims: Vec<i64> =
            self.program.signature.dims.iter().map(|symbol| env.get(symbol).unwrap_or(0)).collect();
        let mut context = Context::new();
        let entry = self.code.entry(function).unwrap();
        // SAFETY: the pointers are those of the function's arguments and results in order, aligned to
        // their elements and of the sizes that these dimensions give; the arena has the bytes of the
        // plan, aligned to a page or to the end of one. That nothing else is touched is what is tested.
        let status = unsafe { entry(&mut context, dims.as_ptr(), arena.start, pointers.as_ptr()) };
        let failed = (status != Status::Ok as i32).then(|| usize::try_from(context.site).unwrap());
        Called { failed, outputs }
    }
}

/// The loop IR lets one element of every buffer be loaded, empty ones included.
fn bytes_of(func: &LoopFunc, id: BufferId, env: &DimEnv) -> usize {
    let buffer = &func.buffers[id.0 as usize];
    env.size(&buffer.elems).unwrap().max(1) * buffer.dtype.size_bytes()
}

fn at_least_one(tensor: &Tensor) -> Vec<u8> {
    let mut bytes = tensor.to_le_bytes_vec();
    if bytes.is_empty() {
        bytes.resize(tensor.dtype().size_bytes(), 0);
    }
    bytes
}

/// What is being called, for the report of a fault.
static CASE: Mutex<String> = Mutex::new(String::new());

/// A fault says where it happened before it ends the process.
fn report_faults() {
    extern "C" fn report(signal: libc::c_int) {
        let name = CASE.try_lock().map(|case| case.clone()).unwrap_or_default();
        let text = format!("\na fault (signal {signal}) in native code: {name}");
        // SAFETY: the bytes are those of a string, and the process ends here.
        unsafe {
            libc::write(2, text.as_ptr().cast(), text.len());
            libc::_exit(128 + signal);
        }
    }
    static INSTALL: Once = Once::new();
    INSTALL.call_once(|| {
        for signal in [libc::SIGSEGV, libc::SIGBUS] {
            // SAFETY: the handler has the signature that `signal` asks for and does not return.
            unsafe { libc::signal(signal, report as *const () as libc::sighandler_t) };
        }
    });
}
