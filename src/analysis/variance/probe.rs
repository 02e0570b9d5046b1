//! What one step of a recurrence is, recognised from its form.
//!
//! The states are variables of their own, and so are all weights, whatever fills them. A step is
//! *vanilla* if it is one function of a sum, in which the state occurs once, linearly, through one
//! matrix of weights.

use super::coord::{Atom, Coord};
use super::form::{Form, Variable};
use super::fun::{Fun, Funs};
use super::walk::Walk;
use super::world::{Kind, World};
use crate::analysis::recurrence::{Matrix, Recurrence, Slope, Step};
use crate::graph::dims::DimEnv;
use crate::graph::ir::Program;
use crate::ops::scalar::{BinaryOp, UnaryOp};

/// All recurrences of a program.
pub(in crate::analysis) fn recurrences(program: &Program, dims: &DimEnv) -> Vec<Recurrence> {
    Walk::probe(program, dims)
}

/// The state that a step is looked at with.
pub(super) struct State<'a> {
    /// Its leaf.
    pub leaf: u32,
    /// Sizes of a slice.
    pub slice: &'a [i64],
    /// Number of inputs: weights come behind them.
    pub inputs: u32,
}

impl World {
    /// What a step is, of which this is the next state.
    pub(super) fn step(&mut self, next: &Form, state: &State<'_>) -> Step {
        self.vanilla(next, state).unwrap_or_else(Step::Other)
    }

    fn depends(&self, v: &Variable, state: &State<'_>) -> bool {
        self.sources(v, state.slice).has_leaf(state.leaf)
    }

    fn vanilla(&mut self, next: &Form, state: &State<'_>) -> Result<Step, String> {
        let next = self.flattened(next, state);
        if let Some(why) = next.variables().into_iter().find_map(|v| match self.base(v.base).kind {
            Kind::Unknown => self.base(v.base).why.clone(),
            _ => None,
        }) {
            return Err(why.to_string());
        }
        let (act, inner) = self.outer_function(&next, state)?;
        let inner = self.flattened(&inner, state);
        let mut product = None;
        for (factors, c) in &inner.terms {
            if !factors.iter().any(|(v, _)| self.depends(v, state)) {
                continue;
            }
            let [(v, Fun::IDENTITY)] = &factors[..] else {
                return Err("the state is multiplied by what is no weight".into());
            };
            if product.replace((v.clone(), *c)).is_some() {
                return Err("the state enters through several summands".into());
            }
        }
        let (v, c) = product.ok_or("a step does not depend on the state")?;
        let matrix = self.matrix(&v, c, state)?;
        let (act, slope) = described(&mut self.funs, act);
        Ok(Step::Vanilla { matrix, act, slope })
    }

    /// The form with sums that are one variable in it written out.
    fn flattened(&mut self, form: &Form, state: &State<'_>) -> Form {
        let mut flat = Form::default();
        let mut changed = false;
        for (product, c) in &form.terms {
            let part = match &product[..] {
                [(v, Fun::IDENTITY)] => match &self.base(v.base).kind {
                    Kind::Of { form, f: Fun::IDENTITY } => Some((form.clone(), v.at.clone())),
                    _ => None,
                },
                _ => None,
            };
            flat = match part {
                Some((inner, at)) => {
                    changed = true;
                    flat.plus(&inner.read_at(&at, state.slice, &mut self.funs), *c)
                }
                None => flat.plus(&Form::product(product.clone(), *c), 1.0),
            };
        }
        if changed { self.flattened(&flat, state) } else { flat }
    }

    /// The function that a step applies last, and to what.
    fn outer_function(&mut self, next: &Form, state: &State<'_>) -> Result<(Fun, Form), String> {
        let all: Vec<Variable> = next.variables().into_iter().cloned().collect();
        let dependent: Vec<&Variable> = all.iter().filter(|v| self.depends(v, state)).collect();
        if dependent.is_empty() {
            return Err("a step does not depend on the state".into());
        }
        if let [v] = all[..].iter().collect::<Vec<_>>()[..]
            && let Some(f) = next.univariate(v, &mut self.funs)
        {
            return Ok(match self.base(v.base).kind.clone() {
                Kind::Of { form, f: inner } => {
                    let form = form.read_at(&v.at, state.slice, &mut self.funs);
                    (self.funs.compose(f, inner), form)
                }
                _ => (f, Form::of(v.clone())),
            });
        }
        // A sum without a function around it has a sum's variables only.
        let is_linear = |v: &&Variable| !matches!(self.base(v.base).kind, Kind::Of { .. });
        let plain = next.terms.iter().all(|(p, _)| matches!(p[..], [(_, Fun::IDENTITY)]));
        if plain && dependent.iter().all(is_linear) {
            return Ok((Fun::IDENTITY, next.clone()));
        }
        Err("a step is more than one function of a sum, such as gates or a shortcut".into())
    }

    /// The matrix that a sum multiplies the state by.
    fn matrix(&mut self, sum: &Variable, c: f64, state: &State<'_>) -> Result<Matrix, String> {
        let no_product = || "the state does not go through a matrix of weights".to_string();
        let Kind::Sum { form, kept, inner } = self.base(sum.base).kind.clone() else {
            return Err(no_product());
        };
        let [(factors, k)] = &form.terms[..] else { return Err(no_product()) };
        let [(a, Fun::IDENTITY), (b, Fun::IDENTITY)] = &factors[..] else { return Err(no_product()) };
        let leaf = |v: &Variable| self.base(v.base).only_leaf();
        let (h, w) = if leaf(a) == Some(state.leaf) { (a, b) } else { (b, a) };
        let weight = leaf(w).and_then(|leaf| leaf.checked_sub(state.inputs));
        let Some(weight) = weight.filter(|_| leaf(h) == Some(state.leaf) && w.base != h.base) else {
            return Err(no_product());
        };
        if inner.len() != kept + 1 {
            return Err("the state is summed over several axes, or none".into());
        }
        // By the axes of the slice, the summed one behind them.
        let rank = state.slice.len();
        let mut at = sum.at.clone();
        at.push(Coord::axis(rank));
        let mut sizes = state.slice.to_vec();
        sizes.push(inner[kept]);
        let (h, w) = (h.read_at(&at, &sizes), w.read_at(&at, &sizes));
        let axis = h.at.iter().position(|c| *c == Coord::axis(rank)).ok_or_else(no_product)?;
        // Along an axis of size 1 there is one position only.
        let same = |(k, c): (usize, &Coord)| k == axis || *c == Coord::axis(k) || state.slice[k] == 1;
        if !h.at.iter().enumerate().all(same) {
            return Err("the state is read at other places than it is written".into());
        }
        let side = |wanted: usize| {
            w.at.iter().position(|c| matches!(&c.terms[..], [(Atom::Axis(k), 1)] if *k == wanted))
        };
        let (Some(row), Some(column)) = (side(axis), side(rank)) else {
            return Err("no square matrix maps the state to the next".into());
        };
        let fixed = w.at.iter().enumerate().all(|(k, c)| k == row || k == column || c.as_fixed().is_some());
        let begin: Option<Vec<usize>> = w.at.iter().map(|c| usize::try_from(c.offset).ok()).collect();
        let size = usize::try_from(inner[kept]).ok().filter(|_| state.slice[axis] == inner[kept]);
        match (begin, size) {
            (Some(begin), Some(size)) if fixed => {
                Ok(Matrix { weight: weight as usize, factor: c * k, size, axes: (row, column), begin })
            }
            _ => Err("no square matrix maps the state to the next".into()),
        }
    }
}

/// A function with its name and greatest slope.
type Known = (Fun, &'static str, f64);

/// Functions whose greatest slope is known.
fn known(funs: &mut Funs) -> Vec<Known> {
    let zero = funs.constant(0.0);
    vec![
        (Fun::IDENTITY, "identity", 1.0),
        (funs.unary(UnaryOp::Tanh, Fun::IDENTITY), "tanh", 1.0),
        (funs.binary(BinaryOp::Max, Fun::IDENTITY, zero), "relu", 1.0),
        (funs.unary(UnaryOp::Sigmoid, Fun::IDENTITY), "sigmoid", 0.25),
        (funs.unary(UnaryOp::Sin, Fun::IDENTITY), "sin", 1.0),
        (funs.unary(UnaryOp::Erf, Fun::IDENTITY), "erf", std::f64::consts::FRAC_2_SQRT_PI),
        (funs.unary(UnaryOp::Abs, Fun::IDENTITY), "abs", 1.0),
    ]
}

/// Name and greatest slope of a function: of a known one exactly, of others the greatest that is found
/// between -10 and 10.
fn described(funs: &mut Funs, f: Fun) -> (String, Slope) {
    let found = known(funs).into_iter().find_map(|(g, name, slope)| match multiple(funs, f, g) {
        Some(1.0) => Some((name.to_string(), slope)),
        Some(c) => Some((format!("{c} {name}"), c.abs() * slope)),
        None => None,
    });
    if let Some((name, greatest)) = found {
        return (name, Slope { greatest, proven: true });
    }
    let (points, step) = (20_000, 1e-3);
    let xs: Vec<f64> = (0..=points).map(|k| (f64::from(k) - f64::from(points) / 2.0) * step).collect();
    let values = funs.tabulate(f, &xs);
    let slopes = values.windows(2).map(|pair| ((pair[1] - pair[0]) / step).abs());
    ("another function".to_string(), Slope { greatest: slopes.fold(0.0, f64::max), proven: false })
}

/// The factor by which a function is a multiple of another, as their expressions show.
fn multiple(funs: &mut Funs, f: Fun, g: Fun) -> Option<f64> {
    if f == g {
        return Some(1.0);
    }
    let (c, part) = funs.as_multiple(f)?;
    Some(c * multiple(funs, part, g)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slopes_are_known_or_tried_out() {
        let mut funs = Funs::new();
        let sigmoid = funs.unary(UnaryOp::Sigmoid, Fun::IDENTITY);
        let (name, slope) = described(&mut funs, sigmoid);
        assert_eq!((name.as_str(), slope), ("sigmoid", Slope { greatest: 0.25, proven: true }));
        let two = funs.constant(2.0);
        let tanh = funs.unary(UnaryOp::Tanh, Fun::IDENTITY);
        let double = funs.binary(BinaryOp::Mul, two, tanh);
        let (name, slope) = described(&mut funs, double);
        assert_eq!((name.as_str(), slope), ("2 tanh", Slope { greatest: 2.0, proven: true }));
        // Inside, a factor is no factor of the whole.
        let inside = funs.binary(BinaryOp::Mul, two, Fun::IDENTITY);
        let steep = funs.compose(tanh, inside);
        let (_, slope) = described(&mut funs, steep);
        assert!(!slope.proven && (slope.greatest - 2.0).abs() < 1e-3, "{slope:?}");
        // What looks like relu around zero, and is not.
        let one = funs.constant(1.0);
        let shifted = funs.binary(BinaryOp::Max, Fun::IDENTITY, one);
        assert!(!described(&mut funs, shifted).1.proven);
    }
}
