//! From Cranelift IR to machine code.
//!
//! Cranelift compiles each function by itself, and that takes most of the time of code generation. So
//! functions are compiled by other threads while further ones are emitted, and defined in the order in
//! which they were emitted: the module does not depend on threads.

use super::super::error::CodeError;
use super::super::target::Compilers;
use cranelift_codegen::Context;
use cranelift_codegen::control::ControlPlane;
use cranelift_codegen::entity::EntitySet;
use cranelift_codegen::ir::Function;
use cranelift_codegen::isa::TargetIsa;
use cranelift_module::{FuncId, Module, ModuleError, ModuleReloc};
use std::collections::BTreeMap;
use std::num::NonZero;
use std::panic::resume_unwind;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

/// Instructions that are worth a further thread: some milliseconds of work.
const INSTS_PER_THREAD: usize = 2000;
/// Instructions from which on no more are gathered, for all of them are in memory.
const MOST_INSTS: usize = 200_000;
/// # Units
/// Bytes of stack of a thread: as much as a main thread has.
const STACK_BYTES: usize = 8 << 20;

/// Functions that are emitted and have yet to be defined in the module.
pub(super) struct Backlog {
    compilers: Compilers,
    queue: Arc<Queue>,
    helpers: Vec<JoinHandle<()>>,
    /// How many functions and instructions were added since the last definition.
    jobs: usize,
    insts: usize,
    /// # Units
    /// Bytes of machine code that came from each function of the program.
    code_bytes: Vec<usize>,
}

/// What the threads share.
#[derive(Default)]
struct Queue {
    jobs: Mutex<Jobs>,
    /// Signalled when there is a job, or will be no more.
    changed: Condvar,
}

/// Functions by when they were emitted.
#[derive(Default)]
struct Jobs {
    /// Those that no thread has taken, the one with the most instructions last.
    waiting: BTreeMap<(usize, usize), Job>,
    finished: BTreeMap<usize, Job>,
    /// Whether no more will come.
    closed: bool,
}

struct Job {
    id: FuncId,
    name: String,
    /// Which function of the program it belongs to.
    owner: Option<usize>,
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

impl Queue {
    fn lock(&self) -> MutexGuard<'_, Jobs> {
        // A thread that panics holds no lock; if it did, its panic is passed on when it is joined.
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Compiles jobs until there are no more and will be none.
    fn work(&self, compilers: &Compilers) {
        loop {
            let mut jobs = self.lock();
            let ((_, k), mut job) = loop {
                match jobs.waiting.pop_last() {
                    Some(taken) => break taken,
                    None if jobs.closed => return,
                    None => jobs = self.changed.wait(jobs).unwrap_or_else(PoisonError::into_inner),
                }
            };
            drop(jobs);
            job.compile(compilers.of(has_loops(&job.context.func)));
            self.lock().finished.insert(k, job);
        }
    }
}

impl Backlog {
    pub(super) fn new(compilers: Compilers) -> Self {
        let queue = Arc::new(Queue::default());
        Backlog { compilers, queue, helpers: Vec::new(), jobs: 0, insts: 0, code_bytes: Vec::new() }
    }

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
        let job = Job { id, name: name.to_string(), owner, context, failed: None };
        self.queue.lock().waiting.insert((insts, self.jobs), job);
        self.queue.changed.notify_one();
        self.jobs += 1;
        self.insts += insts;
        self.start_helpers();
        if self.insts > MOST_INSTS {
            self.define(module)?;
        }
        Ok(insts)
    }

    /// Starts as many threads as the instructions are worth, beside the one that emits.
    fn start_helpers(&mut self) {
        let wanted = self.insts / INSTS_PER_THREAD;
        if wanted <= self.helpers.len() {
            return;
        }
        let others = thread::available_parallelism().map_or(1, NonZero::get) - 1;
        while self.helpers.len() < wanted.min(others) {
            let (queue, compilers) = (Arc::clone(&self.queue), self.compilers.clone());
            let helper = thread::Builder::new().stack_size(STACK_BYTES).spawn(move || queue.work(&compilers));
            match helper {
                Ok(helper) => self.helpers.push(helper),
                // What is left to do is done by the others.
                Err(_) => break,
            }
        }
    }

    /// Waits until all that was added is compiled, with a part in the work.
    fn finish(&mut self) -> BTreeMap<usize, Job> {
        self.queue.lock().closed = true;
        self.queue.changed.notify_all();
        self.queue.work(&self.compilers);
        for helper in self.helpers.drain(..) {
            if let Err(panic) = helper.join() {
                resume_unwind(panic);
            }
        }
        (self.jobs, self.insts) = (0, 0);
        std::mem::take(&mut *self.queue.lock()).finished
    }

    /// Compiles and defines what there is.
    ///
    /// # Errors
    /// Limits of Cranelift: those of the function that was emitted first.
    pub(super) fn define(&mut self, module: &mut dyn Module) -> Result<(), CodeError> {
        for mut job in self.finish().into_values() {
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

impl Drop for Backlog {
    /// After an error there may be jobs left, which nobody wants.
    fn drop(&mut self) {
        let mut jobs = self.queue.lock();
        jobs.waiting.clear();
        jobs.closed = true;
        drop(jobs);
        self.queue.changed.notify_all();
        for helper in self.helpers.drain(..) {
            // Its panic, if there was one, has been reported, and this may run because of another.
            let _ = helper.join();
        }
    }
}

/// Whether some code of a function runs more than once in a call: it branches to a block before it, or
/// to its own.
fn has_loops(func: &Function) -> bool {
    let mut before = EntitySet::new();
    func.layout.blocks().any(|block| {
        before.insert(block);
        func.block_successors(block).any(|next| before.contains(next))
    })
}
