//! Whether gradients of a recurrence can last: the criterion of Pascanu, Mikolov and Bengio.
//!
//! For `h_t = act(W h_{t-1} + ...)` each step back multiplies a gradient by `W' diag(act')`, whose
//! norm is at most `s g`, with `s` the greatest singular value of `W` and `g` the greatest slope of
//! `act`. So `s g < 1` is sufficient for gradients to vanish, and `s g > 1` is necessary for them to
//! explode, not sufficient. Other recurrences have other Jacobians, and the criterion says nothing.
//!
//! The form is recognised from what a step computes, never from names.
//!
//! # Source
//! Pascanu, Mikolov and Bengio, "On the difficulty of training recurrent neural networks", ICML 2013,
//! section 2.1.

mod singular;

use crate::graph::dims::DimEnv;
use crate::graph::ir::{FuncId, Program};
use crate::tensor::{Data, Tensor};
use std::borrow::Borrow;

/// What a step is.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// `act(W h + what the state has no part in)`.
    Vanilla {
        /// `W`.
        matrix: Matrix,
        /// The name of `act`.
        act: String,
        /// Its greatest slope.
        slope: Slope,
    },
    /// Something else, in words.
    Other(String),
}

/// The greatest slope of a function.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Slope {
    /// The greatest absolute value of the derivative.
    pub greatest: f64,
    /// Whether that is proven, or only the greatest that was found.
    pub proven: bool,
}

/// A square matrix in a weight.
#[derive(Clone, Debug, PartialEq)]
pub struct Matrix {
    /// Which weight of the signature.
    pub weight: usize,
    /// What its elements are multiplied by.
    pub factor: f64,
    /// Rows and columns.
    pub size: usize,
    /// Which axes of the weight are rows and columns.
    pub axes: (usize, usize),
    /// Where the matrix begins along each axis of the weight.
    pub begin: Vec<usize>,
}

impl Matrix {
    /// The places of the elements in a weight of some shape, row by row; `None` where it is too small.
    fn elements(&self, shape: &[usize]) -> Option<Vec<usize>> {
        if shape.len() != self.begin.len() {
            return None;
        }
        let length = |axis: usize| if axis == self.axes.0 || axis == self.axes.1 { self.size } else { 1 };
        if !(0..shape.len()).all(|axis| self.begin[axis] + length(axis) <= shape[axis]) {
            return None;
        }
        let stride = |axis: usize| shape[axis + 1..].iter().product::<usize>();
        let start: usize = self.begin.iter().enumerate().map(|(axis, at)| at * stride(axis)).sum();
        let (down, right) = (stride(self.axes.0), stride(self.axes.1));
        let places =
            (0..self.size).flat_map(|row| (0..self.size).map(move |k| start + row * down + k * right));
        Some(places.collect())
    }
}

/// One recurrence of a program.
#[derive(Clone, Debug)]
pub struct Recurrence {
    /// The function that it stands in.
    pub function: FuncId,
    /// Where the module is in the model.
    pub path: String,
    /// Names of the sequences that it carries.
    pub states: Vec<String>,
    /// Whether it runs from the end.
    pub reverse: bool,
    /// What its step is.
    pub kind: Step,
}

/// All recurrences, in order of execution.
pub fn recurrences(program: &Program, dims: &DimEnv) -> Vec<Recurrence> {
    super::variance::probe::recurrences(program, dims)
}

/// What the criterion says of a vanilla recurrence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Gradients vanish: the product is below 1.
    Vanish,
    /// Gradients may explode: the product is above 1.
    MayExplode,
    /// The product is 1, as far as f64 tells, or the slope is not known well enough.
    Undecided,
}

/// The criterion on given weights.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Criterion {
    /// The greatest singular value of the recurrent matrix.
    pub sigma: f64,
    /// Its product with the greatest slope of the activation.
    pub product: f64,
    /// What follows.
    pub verdict: Verdict,
}

/// Relative distance from 1 that counts as none: more than rounding makes of any matrix that is tried.
const ROUNDING: f64 = 1e-12;
/// The longest side of a matrix that is tried.
const MAX_SIDE: usize = 4096;

/// Judges a vanilla recurrence on weights in the order of the signature.
///
/// # Errors
/// In words, what is wrong with the matrix.
pub fn judge(matrix: &Matrix, slope: Slope, weights: &[impl Borrow<Tensor>]) -> Result<Criterion, String> {
    let weight = weights.get(matrix.weight).ok_or("the weight is not there")?;
    let elements = matrix.elements(weight.borrow().shape()).ok_or("the matrix lies outside its weight")?;
    if matrix.size > MAX_SIDE {
        return Err(format!("the matrix is larger than {MAX_SIDE} by {MAX_SIDE}"));
    }
    let at: Box<dyn Fn(usize) -> f64> = match weight.borrow().data() {
        Data::F32(v) => Box::new(|k| f64::from(v[k])),
        Data::F64(v) => Box::new(|k| v[k]),
        _ => return Err("the weight does not hold reals".into()),
    };
    let values: Vec<f64> = elements.into_iter().map(|k| matrix.factor * at(k)).collect();
    let sigma =
        singular::greatest(&values, matrix.size).ok_or("the matrix has elements that are not finite")?;
    Ok(criterion(sigma, slope))
}

fn criterion(sigma: f64, slope: Slope) -> Criterion {
    let product = sigma * slope.greatest;
    let verdict = match product {
        p if p > 1.0 + ROUNDING => Verdict::MayExplode,
        // A slope that was only tried out may be greater elsewhere.
        p if p < 1.0 - ROUNDING && slope.proven => Verdict::Vanish,
        _ => Verdict::Undecided,
    };
    Criterion { sigma, product, verdict }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_matrix_may_be_a_part_of_its_weight() {
        let matrix = Matrix { weight: 0, factor: 1.0, size: 2, axes: (1, 0), begin: vec![0, 3] };
        // Rows of the matrix run down the columns of the weight.
        assert_eq!(matrix.elements(&[2, 5]), Some(vec![3, 8, 4, 9]));
        assert_eq!(matrix.elements(&[2, 4]), None);
        assert_eq!(matrix.elements(&[2, 5, 1]), None);
    }

    #[test]
    fn the_two_directions_are_not_mixed_up() {
        let slope = |greatest, proven| Slope { greatest, proven };
        let verdict = |sigma, slope| criterion(sigma, slope).verdict;
        assert_eq!(verdict(0.99, slope(1.0, true)), Verdict::Vanish);
        assert_eq!(verdict(1.01, slope(1.0, true)), Verdict::MayExplode);
        assert_eq!(verdict(1.0, slope(1.0, true)), Verdict::Undecided);
        // The logistic function shrinks by four.
        assert_eq!(verdict(3.9, slope(0.25, true)), Verdict::Vanish);
        assert_eq!(verdict(4.0, slope(0.25, true)), Verdict::Undecided);
        assert_eq!(verdict(4.1, slope(0.25, true)), Verdict::MayExplode);
        assert_eq!(verdict(0.5, slope(1.0, false)), Verdict::Undecided);
        assert_eq!(verdict(1.5, slope(1.0, false)), Verdict::MayExplode);
    }
}
