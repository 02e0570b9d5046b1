//! Code generation.
//!
//! Takes a loop program and the plan of its temporaries; gives machine code, in memory ([`jit`])
//! or in files ([`object`]). Both hold the same code, emitted by [`clif`]; [`target`] says for
//! which processor, [`abi`] what the code and its callers agree on. Nothing above this module
//! knows Cranelift.

pub mod abi;
mod archive;
pub mod clif;
mod cpu;
pub mod error;
mod header;
pub mod image;
pub mod jit;
pub mod mangle;
pub mod math;
pub mod object;
pub mod target;
pub mod vector;
