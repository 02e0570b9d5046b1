//! The `mdlc` program.

fn main() {}
