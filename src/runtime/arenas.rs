//! Arenas that calls in flight borrow.

use super::aligned::AlignedBytes;
use std::sync::{Mutex, PoisonError};

/// Arenas kept beyond this number are freed.
const MAX_IDLE: usize = 16;

/// Idle arenas of one model.
#[derive(Debug, Default)]
pub(super) struct Arenas {
    idle: Mutex<Vec<AlignedBytes>>,
}

impl Arenas {
    /// Runs `work` with an arena of at least `len_bytes`; `None` where there is no memory.
    pub(super) fn with<T>(&self, len_bytes: usize, work: impl FnOnce(&mut AlignedBytes) -> T) -> Option<T> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut arena = match idle.filter(|arena| arena.len() >= len_bytes) {
            Some(arena) => arena,
            None => AlignedBytes::zeroed(len_bytes)?,
        };
        let result = work(&mut arena);
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < MAX_IDLE {
            idle.push(arena);
        }
        Some(result)
    }
}
