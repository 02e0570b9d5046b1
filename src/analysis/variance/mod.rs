//! Mean and spread of every value at initialisation, without running.
//!
//! Weights are drawn by their declared initialisers, inputs are standard normal and independent,
//! truths are true. Each value is a [form](form::Form): a sum of products of functions of single
//! variables. What is read twice is one variable, so that `Var(x * x)` is 2 and not 1.
//!
//! - A sum over an axis needs the covariance of two of its terms; a product of independent factors
//!   has `Var(XY) = Var X Var Y + (E X)^2 Var Y + (E Y)^2 Var X`. Both follow from
//!   [moments](moments::Moments) by sets of axes.
//! - Factors count as independent where they share no input and no weight, or where one is linear in
//!   weights of its own with mean zero, whose signs make them uncorrelated.
//! - A function of a variable is averaged over a normal one of the same mean and variance.
//! - Norms and softmax are [recognised](patterns) by what they compute.
//!
//! A number says what was assumed for it; where there is none, the row says why. Sizes are numbers
//! here, since a spread is one.

mod coord;
mod elements;
mod expect;
mod form;
mod fun;
mod measure;
mod moments;
mod normal;
mod patterns;
pub(super) mod probe;
mod steps;
mod unroll;
mod walk;
mod world;

pub use measure::Measured;
pub use world::Notes;

use crate::graph::dims::DimEnv;
use crate::graph::ir::{FuncId, Program, Value};

/// One value of one run: the calls and recurrences around it, outermost first, and the value.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Site {
    /// First results of the nodes around it.
    pub at: Vec<Value>,
    /// The value in the graph of the last of them.
    pub value: Value,
}

/// Mean and standard deviation of a random element of a value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    /// Mean; NaN where it is not known.
    pub mean: f64,
    /// Standard deviation; NaN where it is not known.
    pub deviation: f64,
}

impl Default for Spread {
    fn default() -> Self {
        Spread { mean: f64::NAN, deviation: f64::NAN }
    }
}

/// A named value, or an output of a module.
#[derive(Clone, Debug)]
pub struct Row {
    /// The module's function.
    pub function: FuncId,
    /// How many calls lie around the module.
    pub depth: usize,
    /// Where the module is in the model.
    pub path: String,
    /// The name of the value; empty for an output of the module.
    pub name: String,
    /// Which output of the module it is.
    pub output: Option<usize>,
    /// Which value it is.
    pub site: Site,
    /// What is predicted; over all steps, inside a recurrence.
    pub spread: Spread,
    /// Standard deviation over that of the module's first input of reals.
    pub ratio: Option<f64>,
    /// What was assumed.
    pub notes: Notes,
    /// Why nothing is known.
    pub why: Option<String>,
}

/// The rows of a program for given sizes: modules in order of execution, their values behind them.
pub fn variances(program: &Program, dims: &DimEnv) -> Vec<Row> {
    walk::rows(program, dims)
}
