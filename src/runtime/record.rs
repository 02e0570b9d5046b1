//! Recording: when the marks of a call were passed, and on which threads its tasks ran.
//!
//! Code with marks ([`crate::loops::marks`]) calls a hook at each of them. The hook keeps a tree of calls: a node
//! is a mark under the node of the call that led to it, so each instance of a shared function has
//! its own. Tasks are timed where they are handed to the threads.
#![expect(unsafe_code, reason = "native code calls back here")]

use crate::codegen::abi::{Exec, Hook, Task};
use crate::loops::ir::MarkId;
use std::ffi::c_void;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::ThreadId;
use std::time::Instant;

/// Spans that are kept at most: a trace of more is of no use to anyone.
const MAX_SPANS: usize = 1 << 20;
/// The node that all others are under.
const ROOT: usize = 0;

/// What calls were seen to do. Filled by [`Model::call_recorded`](super::Model::call_recorded), one call after another.
#[derive(Debug)]
pub struct Recorder {
    started: Instant,
    state: Mutex<State>,
}

/// A mark, at one place in the tree of calls.
#[derive(Clone, Debug)]
pub struct Node {
    /// The node of the call around it, if there is one.
    pub parent: Option<usize>,
    /// The mark.
    pub mark: MarkId,
    /// How often it ran.
    pub runs: u64,
    /// # Units
    /// Nanoseconds of all runs.
    pub nanoseconds: u64,
}

/// Something that took time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Which node; `None` for a whole call.
    pub node: Option<usize>,
    /// 0 is the thread that called; tasks also ran on others.
    pub thread: usize,
    /// Whether it is one of several tasks of the node.
    pub task: bool,
    /// # Units
    /// Nanoseconds since the recorder was made.
    pub begin: u64,
    /// # Units
    /// Nanoseconds since the recorder was made.
    pub end: u64,
}

#[derive(Debug, Default)]
struct State {
    /// The root, which is no mark, in front.
    nodes: Vec<Node>,
    children: Vec<Vec<usize>>,
    /// Nodes that have begun, and when.
    open: Vec<(usize, u64)>,
    passed: u64,
    keeps_spans: bool,
    spans: Vec<Span>,
    dropped: u64,
    /// Of which the first is the one that calls.
    threads: Vec<ThreadId>,
}

impl Default for Recorder {
    fn default() -> Self {
        Self::new()
    }
}

impl Recorder {
    /// Nothing recorded.
    pub fn new() -> Self {
        let root = Node { parent: None, mark: MarkId(u32::MAX), runs: 0, nanoseconds: 0 };
        let state = State { nodes: vec![root], children: vec![Vec::new()], ..State::default() };
        Recorder { started: Instant::now(), state: Mutex::new(state) }
    }

    /// Whether calls from now on also leave their spans.
    pub fn keep_spans(&mut self, keeps: bool) {
        self.lock().keeps_spans = keeps;
    }

    /// The tree of calls, parents before children.
    pub fn nodes(&self) -> Vec<Node> {
        let state = self.lock();
        let moved = |node: &Node| Node {
            parent: node.parent.filter(|parent| *parent != ROOT).map(|parent| parent - 1),
            ..node.clone()
        };
        state.nodes.iter().skip(1).map(moved).collect()
    }

    /// Spans in the order in which they ended, and how many more there were than are kept.
    pub fn spans(&self) -> (Vec<Span>, u64) {
        let state = self.lock();
        let moved =
            |span: &Span| Span { node: span.node.filter(|node| *node != ROOT).map(|node| node - 1), ..*span };
        (state.spans.iter().map(moved).collect(), state.dropped)
    }

    /// How many marks were passed, beginnings and ends.
    pub fn passed(&self) -> u64 {
        self.lock().passed
    }

    /// Calls and nanoseconds of all recorded calls.
    pub fn calls(&self) -> (u64, u64) {
        let state = self.lock();
        (state.nodes[ROOT].runs, state.nodes[ROOT].nanoseconds)
    }

    /// Runs a call, with the hook and the threads that it is to be given.
    pub(super) fn around<T>(&mut self, exec: Option<Exec>, call: impl FnOnce(Option<Exec>, &Hook) -> T) -> T {
        let this: &Recorder = self;
        let begin = {
            let mut state = this.lock();
            let caller = std::thread::current().id();
            if state.threads.first() != Some(&caller) {
                state.threads = vec![caller];
            }
            state.open.clear();
            this.now()
        };
        let hook = Hook { this: std::ptr::from_ref(this).cast_mut().cast(), mark };
        let threads = exec.map(|exec| Threads { recorder: this, exec });
        let timed = threads.as_ref().map(|threads| Exec {
            this: std::ptr::from_ref(threads).cast_mut().cast(),
            workers: threads.exec.workers,
            run,
        });
        let result = call(timed, &hook);
        let end = this.now();
        let mut state = this.lock();
        state.ran(ROOT, begin, end);
        result
    }

    fn now(&self) -> u64 {
        self.started.elapsed().as_nanos() as u64
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn pass(&self, event: u64) {
        if event & 1 == 0 {
            let mut state = self.lock();
            let node = state.child(MarkId((event >> 1) as u32));
            // Last of all, so that what the recorder does is not counted.
            let now = self.now();
            state.open.push((node, now));
        } else {
            let now = self.now();
            let mut state = self.lock();
            if let Some((node, begin)) = state.open.pop() {
                state.ran(node, begin, now);
            }
        }
    }
}

impl State {
    /// The node of a mark under what has begun.
    fn child(&mut self, mark: MarkId) -> usize {
        self.passed += 1;
        let parent = self.open.last().map_or(ROOT, |(node, _)| *node);
        let known = self.children[parent].iter().copied().find(|child| self.nodes[*child].mark == mark);
        known.unwrap_or_else(|| {
            self.nodes.push(Node { parent: Some(parent), mark, runs: 0, nanoseconds: 0 });
            self.children.push(Vec::new());
            self.children[parent].push(self.nodes.len() - 1);
            self.nodes.len() - 1
        })
    }

    fn ran(&mut self, node: usize, begin: u64, end: u64) {
        self.passed += 1;
        self.nodes[node].runs += 1;
        self.nodes[node].nanoseconds += end.saturating_sub(begin);
        self.span(Span { node: Some(node), thread: 0, task: false, begin, end });
    }

    fn span(&mut self, span: Span) {
        if !self.keeps_spans {
            return;
        }
        if self.spans.len() < MAX_SPANS {
            self.spans.push(span);
        } else {
            self.dropped += 1;
        }
    }

    fn thread(&mut self, id: ThreadId) -> usize {
        self.threads.iter().position(|known| *known == id).unwrap_or_else(|| {
            self.threads.push(id);
            self.threads.len() - 1
        })
    }
}

/// [`Hook::mark`].
///
/// # Safety
/// `this` points to a recorder that lives.
unsafe extern "C" fn mark(this: *mut c_void, event: u64) {
    // SAFETY: the caller's promise; a recorder is shared only.
    let recorder = unsafe { &*this.cast_const().cast::<Recorder>() };
    recorder.pass(event);
}

/// Threads whose tasks are timed.
struct Threads<'a> {
    recorder: &'a Recorder,
    exec: Exec,
}

/// Tasks that are timed.
struct Timed<'a> {
    recorder: &'a Recorder,
    node: usize,
    task: Task,
    data: *mut c_void,
}

/// [`Exec::run`] of threads whose tasks are timed.
///
/// # Safety
/// `this` points to [`Threads`] that live; `task`, `data` and `count` are as [`Exec::run`] wants them.
unsafe extern "C" fn run(this: *mut c_void, task: Task, data: *mut c_void, count: u64) {
    // SAFETY: the caller's promise; the threads are shared only.
    let threads = unsafe { &*this.cast_const().cast::<Threads<'_>>() };
    let recorder = threads.recorder;
    let node = recorder.lock().open.last().map_or(ROOT, |(node, _)| *node);
    let timed = Timed { recorder, node, task, data };
    let exec = threads.exec;
    // SAFETY: `exec` is that of threads that are borrowed for the call; `timed` lives until all tasks have returned, and they
    // may run on any thread, as the tasks inside may.
    unsafe { (exec.run)(exec.this, run_timed, std::ptr::from_ref(&timed).cast_mut().cast(), count) };
}

/// A task around a task.
///
/// # Safety
/// `data` points to [`Timed`] tasks that live, of which number `k` may run.
unsafe extern "C" fn run_timed(data: *mut c_void, k: u64) {
    // SAFETY: the caller's promise; what several threads share is only read.
    let timed = unsafe { &*data.cast_const().cast::<Timed<'_>>() };
    let begin = timed.recorder.now();
    // SAFETY: the caller's promise on task `k`.
    unsafe { (timed.task)(timed.data, k) };
    let end = timed.recorder.now();
    let mut state = timed.recorder.lock();
    if state.keeps_spans {
        let thread = state.thread(std::thread::current().id());
        state.span(Span { node: Some(timed.node), thread, task: true, begin, end });
    }
}
