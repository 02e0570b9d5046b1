//! What this machine can do: two rates, measured through compiled code at the start of a profile.
//!
//! Peak arithmetic is that of a product whose operands stay in cache, by the same kernels and threads as
//! the model's; reading is that of a sum over more memory than caches hold. A roofline of
//! them says what a kernel could reach in practice, and not what a data sheet says.

use super::super::args::CodeArgs;
use crate::driver::{Compiler, Error};
use crate::runtime::{Threads, Weights};
use crate::tensor::{Tensor, TensorView};
use std::time::Instant;

/// Rows, columns and terms of the product.
const SIDE: usize = 512;
/// Rows that threads divide, and columns.
const READ: (usize, usize) = (64, 1 << 19);
/// Calls of which the best counts.
const CALLS: usize = 8;

const PRODUCT: &str = "
module Product {
    forward(a: [M, K], b: [K, N]) -> [M, N] {
        let y[i, j] = sum[k] a[i, k] * b[k, j]
        y
    }
}
";
const SUM: &str = "
module Sum {
    forward(a: [M, K]) -> [M] {
        let y[i] = sum[k] a[i, k]
        y
    }
}
";

/// What the machine can do.
#[derive(Clone, Copy, Debug)]
pub struct Rates {
    /// # Units
    /// FLOPs in a second.
    pub flops: f64,
    /// # Units
    /// Bytes in a second.
    pub bytes: f64,
}

/// Measures both, in a fraction of a second.
pub fn rates(code: &CodeArgs, threads: &Threads) -> Result<Rates, Error> {
    let side = SIDE as f64;
    let square = ones([SIDE, SIDE])?;
    let product = best(code, threads, PRODUCT, &[("a", square.view()), ("b", square.view())])?;
    let (rows, columns) = READ;
    let long = ones([rows, columns])?;
    let sum = best(code, threads, SUM, &[("a", long.view())])?;
    Ok(Rates { flops: 2.0 * side * side * side / product, bytes: (4 * rows * columns) as f64 / sum })
}

fn ones(shape: [usize; 2]) -> Result<Tensor, Error> {
    Tensor::new(shape, vec![1.0_f32; shape[0] * shape[1]]).map_err(|error| internal(&error.to_string()))
}

/// Seconds of the fastest of some calls.
fn best(
    code: &CodeArgs,
    threads: &Threads,
    text: &str,
    inputs: &[(&str, TensorView<'_>)],
) -> Result<f64, Error> {
    let compiled = code.of(Compiler::new()).compile_source("probe.mdl", text)?.with_threads(threads);
    let model = compiled.bind(&Weights::new()).map_err(|error| Error::plain(error.to_diagnostic()))?;
    let mut least = f64::INFINITY;
    for _ in 0..CALLS {
        let started = Instant::now();
        let outputs = model.call(inputs.iter().copied());
        least = least.min(started.elapsed().as_secs_f64());
        outputs.map_err(|error| Error::plain(error.to_diagnostic()))?;
    }
    Ok(least)
}

fn internal(what: &str) -> Error {
    super::super::plain("probe-failed", crate::diag::Fault::Internal, what)
}
