//! mdlc: a declarative model compiler.

pub mod diag;
pub mod dim;
pub mod dtype;
pub mod source;
pub mod span;
