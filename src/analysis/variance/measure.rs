//! Mean and spread of every value of runs by the reference evaluator.

use super::{Site, Spread};
use crate::graph::dims::DimEnv;
use crate::graph::eval::{EvalError, Mode, evaluate_watched};
use crate::graph::ir::Program;
use crate::tensor::{Data, Tensor};
use std::borrow::Borrow;
use std::cell::RefCell;
use std::collections::BTreeMap;

/// What runs have shown so far.
#[derive(Clone, Debug, Default)]
pub struct Measured {
    sums: BTreeMap<Site, Sum>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Sum {
    count: f64,
    sum: f64,
    squares: f64,
}

impl Measured {
    /// Runs the program once more, in f64, and adds up what its values are.
    ///
    /// # Errors
    /// As [`evaluate_watched`].
    pub fn run(
        &mut self,
        program: &Program,
        inputs: &[impl Borrow<Tensor>],
        weights: &[impl Borrow<Tensor>],
        dims: &DimEnv,
    ) -> Result<(), EvalError> {
        let sums = RefCell::new(std::mem::take(&mut self.sums));
        let watch = |at: &[crate::graph::ir::Value], value, tensor: &Tensor| {
            if let Data::F64(elements) = tensor.data() {
                let mut sums = sums.borrow_mut();
                let sum = sums.entry(Site { at: at.to_vec(), value }).or_default();
                for x in elements {
                    sum.count += 1.0;
                    sum.sum += x;
                    sum.squares += x * x;
                }
            }
        };
        let done = evaluate_watched(program, inputs, weights, dims, Mode::F64, Some(&watch));
        self.sums = sums.into_inner();
        done.map(|_| ())
    }

    /// Mean and spread over all elements, runs, and steps of recurrences; `None` for what no run had.
    pub fn spread(&self, site: &Site) -> Option<Spread> {
        let Sum { count, sum, squares } = self.sums.get(site)?;
        let mean = sum / count;
        Some(Spread { mean, deviation: (squares / count - mean * mean).max(0.0).sqrt() })
    }
}
