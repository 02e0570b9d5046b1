//! From Cranelift IR to machine code.
//!
//! Cranelift compiles each function by itself, and that takes most of the time of code generation. So
//! functions are emitted one after another, compiled side by side, and defined in the order in which they
//! were emitted: the module does not depend on threads.

use super::super::error::CodeError;
use cranelift_codegen::Context;
use cranelift_codegen::control::ControlPlane;
use cranelift_codegen::isa::TargetIsa;
use cranelift_module::{FuncId, Module, ModuleError, ModuleReloc};
use std::cmp::Reverse;
use std::num::NonZero;
use std::sync::Mutex;
use std::thread;

/// Instructions that are worth a further thread: some milliseconds of work.
const INSTS_PER_THREAD: usize = 2000;
/// Instructions from which on no more are gathered, for all of them are in memory.
const MOST_INSTS: usize = 200_000;
/// # Units
/// Bytes of stack of a thread: as much as a main thread has.
const STACK_BYTES: usize = 8 << 20;

/// Functions that are emitted and have yet to become machine code.
#[derive(Default)]
pub(super) struct Backlog {
    jobs: Vec<Job>,
    insts: usize,
    /// # Units
    /// Bytes of machine code that came from each function of the program.
    code_bytes: Vec<usize>,
}

struct Job {
    id: FuncId,
    name: String,
    /// Which function of the program it belongs to.
    owner: Option<usize>,
    insts: usize,
    context: Context,
    failed: Option<CodeError>,
}

impl Job {
    fn compile(&mut self, isa: &dyn TargetIsa) {
        if let Err(error) = self.context.compile(isa, &mut ControlPlane::default()) {
            let error = ModuleError::Compilation(error.inner);
            self.failed = Some(CodeError::of_module(&self.name, &error));
        }
    }
}

impl Backlog {
    /// Takes an emitted function, and leaves an empty context; gives the number of its instructions.
    ///
    /// # Errors
    /// As [`Backlog::define`], of functions before it.
    pub(super) fn add(
        &mut self,
        module: &mut dyn Module,
        (id, name, owner): (FuncId, &str, Option<usize>),
        context: &mut Context,
    ) -> Result<usize, CodeError> {
        let context = std::mem::replace(context, module.make_context());
        let insts = context.func.dfg.num_insts();
        self.insts += insts;
        self.jobs.push(Job { id, name: name.to_string(), owner, insts, context, failed: None });
        if self.insts > MOST_INSTS {
            self.define(module)?;
        }
        Ok(insts)
    }

    /// Compiles and defines what there is.
    ///
    /// # Errors
    /// Limits of Cranelift: those of the function that was emitted first.
    pub(super) fn define(&mut self, module: &mut dyn Module) -> Result<(), CodeError> {
        let mut jobs = std::mem::take(&mut self.jobs);
        compile(&mut jobs, std::mem::take(&mut self.insts), module.isa());
        for mut job in jobs {
            if let Some(failed) = job.failed.take() {
                return Err(failed);
            }
            let Some(code) = job.context.compiled_code() else { continue };
            let func = &job.context.func;
            let relocs = code.buffer.relocs().iter();
            let relocs: Vec<_> = relocs.map(|r| ModuleReloc::from_mach_reloc(r, func, job.id)).collect();
            // As Cranelift's modules align what they compile themselves.
            let isa = module.isa();
            let align = code.buffer.alignment.max(isa.function_alignment().minimum);
            let defined = module.define_function_bytes(job.id, u64::from(align), code.code_buffer(), &relocs);
            defined.map_err(|error| CodeError::of_module(&job.name, &error))?;
            if let Some(owner) = job.owner {
                if self.code_bytes.len() <= owner {
                    self.code_bytes.resize(owner + 1, 0);
                }
                self.code_bytes[owner] += code.code_buffer().len();
            }
        }
        Ok(())
    }

    /// # Units
    /// Bytes of machine code that a function of the program has become.
    pub(super) fn code_bytes(&self, owner: usize) -> usize {
        self.code_bytes.get(owner).copied().unwrap_or(0)
    }
}

/// Compiles jobs, the longest first, with as many threads as they are worth and can be had.
fn compile(jobs: &mut [Job], insts: usize, isa: &dyn TargetIsa) {
    let cores = thread::available_parallelism().map_or(1, NonZero::get);
    let threads = cores.min(insts / INSTS_PER_THREAD).min(jobs.len());
    let mut order: Vec<&mut Job> = jobs.iter_mut().collect();
    order.sort_by_key(|job| Reverse(job.insts));
    let queue = Mutex::new(order.into_iter());
    let work = || {
        loop {
            let job = queue.lock().ok().and_then(|mut queue| queue.next());
            let Some(job) = job else { break };
            job.compile(isa);
        }
    };
    thread::scope(|scope| {
        for _ in 1..threads {
            let helper = thread::Builder::new().stack_size(STACK_BYTES).spawn_scoped(scope, work);
            if helper.is_err() {
                // What is left to do is done here.
                break;
            }
        }
        work();
    });
}
