//! Compiled models in this process: bind weights once, call from any thread.
//!
//! ```text
//! LoopProgram -> Compiled -> bind(&Weights) -> Model -> call([("x", view), ..]) -> Outputs
//! ```
//!
//! Everything is checked before native code runs: names, element types, shapes and the conditions
//! of the program. A [`Model`] is immutable; a call borrows an arena of its own, so any
//! number of threads may call at once and get the bits that one thread would. A call may divide its
//! work between [`Threads`]; that changes no bits either. Knows nothing of
//! source text, graphs or Cranelift.

mod aligned;
mod arenas;
mod call;
mod compiled;
mod error;
mod model;
mod pool;
mod record;
mod resolve;
mod stored;
mod threads;
mod weights;

#[cfg(test)]
mod tests;

pub use compiled::Compiled;
pub use error::{BindError, CallError, CompileError, FailedSite, WeightFault};
pub use model::{Model, Outputs};
pub use record::{Node, Recorder, Span};
pub(crate) use stored::Stored;
pub use threads::{Threads, ThreadsError};
pub use weights::Weights;
