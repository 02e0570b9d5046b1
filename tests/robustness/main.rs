//! Nothing that a user writes or passes panics, aborts, faults, hangs or eats the machine.
//!
//! One file per family of faults. A test here damages something (a source, a size, a file, an index,
//! the memory or the disk under a run) and asserts what is promised: a clear error with the exit code
//! of its kind, or the defined result. `MDLC_ROBUSTNESS=N` makes N times as many trials.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by panicking and shows what it measured"
)]

mod alone;
mod bombs;
mod corpus;
mod dims;
mod files;
mod guarded;
mod indices;
mod lattice;
mod memory;
mod process;
mod processes;
mod sources;
mod stages;
mod tricks;
mod written;

/// How many times more trials than the normal suite makes.
fn effort() -> u32 {
    std::env::var("MDLC_ROBUSTNESS").ok().and_then(|n| n.parse().ok()).unwrap_or(1)
}
