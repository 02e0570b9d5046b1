//! A persistent pool of threads.
//!
//! A job is a number of tasks, numbered from zero, of which each is run once by whoever is free: the
//! thread that brings the job, and the pool's workers. A worker that has nothing to do spins for a
//! while, for the next product of a call follows within microseconds, and then sleeps. Whoever brings
//! a job waits for no worker that has not begun: a sleeping or preempted one costs nothing but its
//! help.
//!
//! One job runs at a time. Who brings another meanwhile, be it a second thread or a task of the first
//! job, runs its tasks alone, in order; so nothing ever waits for a turn, and nothing can lock up.
//!
//! # Why it is sound
//!
//! All rests on one word, [`Shared::state`]: whether a job is open, its number, and how many workers
//! are inside.
//!
//! - The cell of the job is written by the holder of [`Shared::busy`] only, while no job is open and
//!   nobody is inside, and before the store that opens the job (release).
//! - A worker reads the cell only after it has entered, by a compare-and-swap (acquire) that succeeds
//!   only while a job is open. So what the cell holds, and all that the bringer wrote before, such as
//!   the inputs of the tasks, happens before what the worker does.
//! - The bringer closes the job, so nobody enters any more, and returns only when nobody is inside.
//!   Workers leave by a decrement (release), which the bringer's load reads (acquire): each
//!   decrement continues the release sequence of the others, so what all workers did happens before
//!   the return. Nobody holds the job's closure any longer, whose borrow may end.
//! - A task is taken by incrementing [`Shared::next`], so by one thread. Its value is reset before the
//!   job is opened and read after entering; it needs no order of its own.
#![expect(unsafe_code, reason = "a job is borrowed by threads that outlive it")]

use crate::codegen::abi::{Exec, Task};
use std::any::Any;
use std::cell::UnsafeCell;
use std::ffi::c_void;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long a worker looks for the next job before it sleeps.
const SPIN: Duration = Duration::from_micros(50);
/// Looks at the clock come after so many turns.
const TURNS_PER_LOOK: u32 = 32;
/// Turns that who brought a job waits for workers before it offers its processor to them.
const PATIENCE: u32 = 1 << 12;

/// Tasks use the memory of calls; what lies on the stack are tiles and strips.
const STACK_BYTES: usize = 2 << 20;

const OPEN: u64 = 1 << 63;
const INSIDE: u64 = (1 << 32) - 1;
/// A number that no job has.
const NO_JOB: u64 = u64::MAX;

/// What a task is called with: its number.
pub(super) type Work<'a> = &'a (dyn Fn(u64) + Sync);

/// Threads that wait for jobs. Dropping it ends them.
pub(super) struct Pool {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
}

#[derive(Clone, Copy)]
struct Job {
    work: *const (dyn Fn(u64) + Sync + 'static),
    count: u64,
}

/// A cache line of its own for what threads write all the time.
#[repr(align(128))]
struct Line<T>(T);

struct Shared {
    /// [`OPEN`], the number of the job in the bits below, the workers inside in [`INSIDE`].
    state: Line<AtomicU64>,
    /// The next task that nobody has taken.
    next: Line<AtomicU64>,
    job: UnsafeCell<Option<Job>>,
    /// Whether somebody has brought a job and has not returned yet.
    busy: AtomicBool,
    /// What the first task that panicked said.
    panic: Mutex<Option<Box<dyn Any + Send>>>,
    stops: AtomicBool,
    asleep: AtomicUsize,
    bed: Mutex<()>,
    alarm: Condvar,
}

// SAFETY: the one field that is not `Sync` or `Send` by itself is the cell with a pointer to a `Sync` closure. Who writes and
// who reads it, and why never both at once, is told in the documentation of this module.
unsafe impl Sync for Shared {}
// SAFETY: as above.
unsafe impl Send for Shared {}

impl Pool {
    /// A pool of as many as `workers` threads beside the one that brings a job; of fewer where the
    /// system gives no more.
    pub(super) fn new(workers: usize) -> Pool {
        let shared = Arc::new(Shared::new());
        let mut started = Vec::with_capacity(workers);
        for k in 1..=workers {
            let of_worker = Arc::clone(&shared);
            let builder = std::thread::Builder::new().name(format!("mdlc-{k}")).stack_size(STACK_BYTES);
            match builder.spawn(move || of_worker.serve()) {
                Ok(worker) => started.push(worker),
                Err(_) => break,
            }
        }
        Pool { shared, workers: started }
    }

    /// Threads that can run tasks, with the one that brings them.
    pub(super) fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Runs tasks `0..count` and returns when all have ended.
    ///
    /// A panic of a task is passed on once nobody works on the job any more; tasks that had not begun
    /// by then are left out.
    pub(super) fn run(&self, count: u64, work: Work<'_>) {
        let shared = &*self.shared;
        let alone = count < 2 || self.workers.is_empty();
        if alone || shared.busy.swap(true, Ordering::Acquire) {
            (0..count).for_each(work);
            return;
        }
        // SAFETY: only the lifetime changes. The job is closed and left by all workers before this function returns,
        // and it does not unwind in between: panics of tasks are caught.
        let work: Work<'static> = unsafe { std::mem::transmute::<Work<'_>, Work<'static>>(work) };
        // SAFETY: this thread holds `busy`, and its former holder closed its job and saw nobody inside, so
        // nobody else has access to the cell until the job is opened.
        unsafe { *shared.job.get() = Some(Job { work, count }) };
        shared.open(count);
        shared.tasks(work, count);
        shared.close();
        // SAFETY: as above: the job is closed and nobody is inside.
        unsafe { *shared.job.get() = None };
        let panic = lock(&shared.panic).take();
        shared.busy.store(false, Ordering::Release);
        if let Some(panic) = panic {
            resume_unwind(panic);
        }
    }

    /// The pool as generated code knows it; valid while the pool lives.
    pub(super) fn exec(&self) -> Exec {
        Exec { this: (&raw const *self).cast_mut().cast(), workers: self.threads() as u64, run: run_native }
    }
}

/// The data of native tasks, which the code that made it shares between threads.
struct Data(*mut c_void);

// SAFETY: the caller of `run_native` promises that tasks may run on any thread.
unsafe impl Sync for Data {}

impl Data {
    fn pointer(&self) -> *mut c_void {
        self.0
    }
}

/// [`Exec::run`].
///
/// # Safety
/// `this` is from [`Pool::exec`] of a pool that lives; `task` may be called with `data` and all numbers below
/// `count`, once each, at the same time on any thread, until this function returns.
unsafe extern "C" fn run_native(this: *mut c_void, task: Task, data: *mut c_void, count: u64) {
    let data = Data(data);
    // SAFETY: `this` points to a pool, which is shared only.
    let pool = unsafe { &*this.cast_const().cast::<Pool>() };
    // SAFETY: the caller's promise on tasks.
    pool.run(count, &|k| unsafe { task(data.pointer(), k) });
}

impl Shared {
    fn new() -> Shared {
        Shared {
            state: Line(AtomicU64::new(0)),
            next: Line(AtomicU64::new(0)),
            job: UnsafeCell::new(None),
            busy: AtomicBool::new(false),
            panic: Mutex::new(None),
            stops: AtomicBool::new(false),
            asleep: AtomicUsize::new(0),
            bed: Mutex::new(()),
            alarm: Condvar::new(),
        }
    }

    /// Opens a job that lies in the cell, and wakes whom it can use.
    fn open(&self, count: u64) {
        self.next.0.store(0, Ordering::Relaxed);
        let number = self.state.0.load(Ordering::Relaxed).wrapping_add(INSIDE + 1) & !OPEN & !INSIDE;
        // Either the worker that goes to sleep sees this store, or it is seen asleep below: both sides
        // store before they load, in the one order of sequentially consistent operations.
        self.state.0.store(OPEN | number, Ordering::SeqCst);
        let asleep = self.asleep.load(Ordering::SeqCst) as u64;
        if asleep > 0 {
            // A worker that has said it sleeps holds the bed until it does.
            drop(lock(&self.bed));
            for _ in 0..asleep.min(count - 1) {
                self.alarm.notify_one();
            }
        }
    }

    /// Takes tasks until none are left. A panic ends the job.
    fn tasks(&self, work: Work<'_>, count: u64) {
        let taken = || self.next.0.fetch_add(1, Ordering::Relaxed);
        let all = || {
            let mut task = taken();
            while task < count {
                work(task);
                task = taken();
            }
        };
        if let Err(panic) = catch_unwind(AssertUnwindSafe(all)) {
            self.next.0.store(count, Ordering::Relaxed);
            lock(&self.panic).get_or_insert(panic);
        }
    }

    /// Closes the job and waits for the workers inside.
    fn close(&self) {
        let mut turns = 0;
        let mut state = self.state.0.fetch_and(!OPEN, Ordering::AcqRel);
        while state & INSIDE != 0 {
            turns += 1;
            if turns < PATIENCE {
                std::hint::spin_loop();
            } else {
                std::thread::yield_now();
            }
            state = self.state.0.load(Ordering::Acquire);
        }
    }

    /// The life of a worker.
    fn serve(&self) {
        let mut served = NO_JOB;
        while let Some(number) = self.next_job(served) {
            // SAFETY: this thread is inside an open job, so the cell was written before and is not written until it leaves.
            if let Some(job) = unsafe { *self.job.get() } {
                // SAFETY: who brought the job holds the closure borrowed until this thread has left.
                self.tasks(unsafe { &*job.work }, job.count);
            }
            served = number;
            self.state.0.fetch_sub(1, Ordering::Release);
        }
    }

    /// Enters a job other than the one served last; `None` when the pool ends.
    fn next_job(&self, served: u64) -> Option<u64> {
        loop {
            let started = Instant::now();
            while started.elapsed() < SPIN {
                for _ in 0..TURNS_PER_LOOK {
                    if let Some(number) = self.enter(served) {
                        return Some(number);
                    }
                    std::hint::spin_loop();
                }
            }
            if self.stops.load(Ordering::Acquire) {
                return None;
            }
            self.sleep(served);
        }
    }

    /// The number of the open job in a state, if it is not the one served last.
    fn open_job(state: u64, served: u64) -> Option<u64> {
        let number = state & !OPEN & !INSIDE;
        (state & OPEN != 0 && number != served).then_some(number)
    }

    fn enter(&self, served: u64) -> Option<u64> {
        let state = self.state.0.load(Ordering::Relaxed);
        let number = Self::open_job(state, served)?;
        let entered = self.state.0.compare_exchange(state, state + 1, Ordering::Acquire, Ordering::Relaxed);
        entered.is_ok().then_some(number)
    }

    /// Sleeps until there may be a job.
    fn sleep(&self, served: u64) {
        let mut bed = lock(&self.bed);
        self.asleep.fetch_add(1, Ordering::SeqCst);
        while Self::open_job(self.state.0.load(Ordering::SeqCst), served).is_none()
            && !self.stops.load(Ordering::Acquire)
        {
            bed = self.alarm.wait(bed).unwrap_or_else(PoisonError::into_inner);
        }
        self.asleep.fetch_sub(1, Ordering::SeqCst);
        drop(bed);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.stops.store(true, Ordering::Release);
        drop(lock(&self.shared.bed));
        self.shared.alarm.notify_all();
        for worker in self.workers.drain(..) {
            // Panics of tasks have been passed on; a worker has none of its own.
            let _ = worker.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How often each task of a job has run.
    fn counted(pool: &Pool, count: u64) -> Vec<u64> {
        let runs: Vec<AtomicU64> = (0..count).map(|_| AtomicU64::new(0)).collect();
        pool.run(count, &|k| {
            runs[k as usize].fetch_add(1, Ordering::Relaxed);
        });
        runs.into_iter().map(AtomicU64::into_inner).collect()
    }

    #[test]
    fn every_task_runs_once() {
        for workers in [0, 1, 2, 5] {
            let pool = Pool::new(workers);
            assert_eq!(pool.threads(), workers + 1);
            for count in [0, 1, 2, 3, 7, 100] {
                assert_eq!(counted(&pool, count), vec![1; count as usize], "{workers} workers");
            }
        }
    }

    /// What a job computes is seen by the next, whoever ran the tasks.
    #[test]
    fn jobs_follow_each_other() {
        let pool = Pool::new(3);
        let values: Vec<AtomicU64> = (0..8).map(|_| AtomicU64::new(0)).collect();
        for turn in 0..20_000 {
            pool.run(8, &|k| {
                let sum: u64 = values.iter().map(|v| v.load(Ordering::Relaxed) / 8).sum();
                // No task of this job has counted beyond `turn + 1`.
                assert!(sum <= 8 * (turn + 1));
                values[k as usize].fetch_add(8, Ordering::Relaxed);
            });
            assert!(values.iter().all(|v| v.load(Ordering::Relaxed) == 8 * (turn + 1)));
        }
    }

    #[test]
    fn sleepers_wake() {
        let pool = Pool::new(2);
        let wanted = Duration::from_secs(20);
        for _ in 0..20 {
            std::thread::sleep(4 * SPIN);
            // Two tasks that wait for each other can only be run by two threads.
            let met = AtomicU64::new(0);
            let started = Instant::now();
            pool.run(2, &|_| {
                met.fetch_add(1, Ordering::SeqCst);
                while met.load(Ordering::SeqCst) < 2 && started.elapsed() < wanted {
                    std::thread::yield_now();
                }
            });
            assert!(started.elapsed() < wanted, "a worker slept through a job");
        }
    }

    #[test]
    fn several_threads_bring_jobs() {
        let pool = Pool::new(2);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for count in 0..500 {
                        assert_eq!(counted(&pool, count % 9), vec![1; (count % 9) as usize]);
                    }
                });
            }
        });
    }

    #[test]
    fn a_task_may_bring_a_job() {
        let pool = Pool::new(2);
        let inner = AtomicU64::new(0);
        pool.run(4, &|_| {
            pool.run(5, &|_| {
                inner.fetch_add(1, Ordering::Relaxed);
            });
        });
        assert_eq!(inner.into_inner(), 20);
    }

    #[test]
    fn a_panic_is_passed_on_and_the_pool_goes_on() {
        let pool = Pool::new(2);
        for bad in [0, 3, 63] {
            let result = catch_unwind(AssertUnwindSafe(|| {
                pool.run(64, &|k| assert!(k != bad, "task {k} fails"));
            }));
            let said = result.unwrap_err();
            assert_eq!(said.downcast_ref::<String>().unwrap(), &format!("task {bad} fails"));
            assert_eq!(counted(&pool, 64), vec![1; 64]);
        }
    }

    #[test]
    fn dropping_ends_all_workers() {
        for pause in [Duration::ZERO, 4 * SPIN] {
            let pool = Pool::new(3);
            counted(&pool, 10);
            std::thread::sleep(pause);
            let shared = Arc::downgrade(&pool.shared);
            drop(pool);
            assert_eq!(shared.strong_count(), 0);
        }
    }
}
