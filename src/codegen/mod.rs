//! Code generation.
//!
//! Takes a loop program and the plan of its temporaries; gives machine code, in memory ([`jit`])
//! or in files ([`object`]). Both hold the same code, emitted by [`clif`]; [`target`] says for
//! which processor, [`abi`] what the code and its callers agree on. Nothing above this module
//! knows Cranelift.

pub mod abi;
pub mod clif;
pub mod error;
pub mod jit;
pub mod math;
pub mod target;
