//! Code generation.

pub mod math;
