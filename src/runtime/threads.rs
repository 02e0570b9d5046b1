//! The threads that calls use: how many, and whose.

use super::pool::Pool;
use crate::codegen::abi::Exec;
use crate::diag::{Diagnostic, Fault};
use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

/// More threads than this are a mistake.
const MAX_THREADS: usize = 1024;

/// Threads that calls divide their work between.
///
/// Clones share the same threads, and so may any number of models. Calls may come from any number
/// of threads: what finds these threads at work runs in its own. They end when the last clone and the
/// last model with them are dropped.
///
/// ```
/// use mdlc::{Compiler, Tensor, Threads, Weights};
///
/// let source = "
///     module Double {
///         forward(x: [N]) -> [N] = 2 * x
///     }
/// ";
/// let threads = Threads::new(Threads::available())?;
/// let model = Compiler::new().compile_source("double.mdl", source)?.bind(&Weights::new())?;
/// let model = model.with_threads(&threads);
/// let x = Tensor::new([3], vec![1.0_f32, 2.0, 3.0])?;
/// let outputs = model.call([("x", x.view())])?;
/// assert_eq!(outputs.get("y").and_then(|y| y.as_f32()), Some(&[2.0, 4.0, 6.0][..]));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Threads {
    pool: Arc<Pool>,
}

/// A number of threads that nobody can mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ThreadsError {
    wanted: usize,
}

impl Threads {
    /// `count` threads, of which the one that calls a model is the first; fewer where the system gives
    /// no more.
    ///
    /// # Errors
    /// [`ThreadsError`]: none, or more than 1024.
    pub fn new(count: usize) -> Result<Threads, ThreadsError> {
        if count == 0 || count > MAX_THREADS {
            return Err(ThreadsError { wanted: count });
        }
        Ok(Threads { pool: Arc::new(Pool::new(count - 1)) })
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.pool.threads()
    }

    /// The number of processor cores that this process may use, at least one and at most 1024. Two threads of
    /// one core count once, for they share the units that multiply.
    pub fn available() -> usize {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let cores = cores().unwrap_or(processors);
        processors.min(cores).clamp(1, MAX_THREADS)
    }

    pub(super) fn exec(&self) -> Exec {
        self.pool.exec()
    }
}

impl fmt::Debug for Threads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Threads").field("count", &self.count()).finish()
    }
}

impl fmt::Display for ThreadsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} threads are asked for: there can be 1 to {MAX_THREADS}", self.wanted)
    }
}

impl std::error::Error for ThreadsError {}

impl ThreadsError {
    /// As the command line tells it.
    pub fn to_diagnostic(self) -> Diagnostic {
        Diagnostic::error("thread-count", self.to_string()).fault(Fault::User)
    }
}

/// The cores that the processors of this process belong to, as Linux tells; `None` where it does not.
fn cores() -> Option<usize> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let allowed = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"))?;
    let mut found = BTreeSet::new();
    for processor in listed(allowed.trim())? {
        let path = format!("/sys/devices/system/cpu/cpu{processor}/topology/thread_siblings_list");
        let siblings = std::fs::read_to_string(path).ok()?;
        found.insert(listed(siblings.trim())?.into_iter().min()?);
    }
    (!found.is_empty()).then_some(found.len())
}

/// The numbers of a list such as `0-3,8`.
fn listed(text: &str) -> Option<Vec<usize>> {
    let mut all = Vec::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (usize, usize) = (first.parse().ok()?, last.parse().ok()?);
        // Kernels are built for some thousands at most.
        if last >= 1 << 16 {
            return None;
        }
        all.extend(first..=last);
    }
    Some(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_checked() {
        assert_eq!(
            Threads::new(0).unwrap_err().to_string(),
            "0 threads are asked for: there can be 1 to 1024"
        );
        assert!(Threads::new(1025).is_err());
        assert_eq!(Threads::new(3).unwrap().count(), 3);
        assert!((1..=1024).contains(&Threads::available()));
    }

    #[test]
    fn lists_of_processors_are_read() {
        assert_eq!(listed("0-2,5,7-8"), Some(vec![0, 1, 2, 5, 7, 8]));
        assert_eq!(listed("3"), Some(vec![3]));
        assert_eq!(listed(""), None);
        assert_eq!(listed("0-99999999"), None);
    }
}
