//! Compiles a feed-forward network, fills its weights by their initialisers, and calls it.
//!
//! Run it with `cargo run --example run_ffn` from the root of the project.

use mdlc::{Compiler, Tensor, Weights};
use std::error::Error;
use std::io::Write;

/// Calls it for two batch sizes.
pub fn main() -> Result<(), Box<dyn Error>> {
    let compiled = Compiler::new()
        .model("ffn_gelu")
        .set("D", "16")
        .set("F", "64")
        .compile_file("models/feed_forward.mdl")?;
    let model = compiled.bind(&Weights::initialised(0))?;
    // Batch and time were left free: each call brings its own sizes.
    for (batch, time) in [(1, 1), (2, 5)] {
        let x = Tensor::new([batch, time, 16], vec![0.5_f32; batch * time * 16])?;
        let outputs = model.call([("x", x.view())])?;
        for (name, tensor) in outputs.iter() {
            writeln!(std::io::stdout(), "{name}: {:?}", tensor.shape())?;
        }
    }
    Ok(())
}
