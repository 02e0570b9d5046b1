//! mdlc: a declarative model compiler.

pub mod cli;
pub mod codegen;
pub mod diag;
pub mod dim;
pub mod driver;
pub mod dtype;
pub mod files;
pub mod graph;
pub mod loops;
pub mod ops;
pub mod passes;
pub mod runtime;
pub mod sema;
pub mod source;
pub mod span;
pub mod syntax;
pub mod tensor;
