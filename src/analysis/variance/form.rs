//! Values as sums of products of functions, each of one variable.
//!
//! A [`Form`] says what an element is, in terms of elements of *bases*: inputs, weights, sums, and
//! functions that cannot be taken apart. What is read more than once stays one variable, so that
//! `x * x` is a function of `x` and no product of independent factors.

use super::coord::Coord;
use super::fun::{Fun, Funs};
use super::moments::Axes;
use crate::ops::scalar::BinaryOp;
use std::collections::BTreeMap;

/// Something with elements whose moments are known: an entry of the table of bases.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct BaseId(pub u32);

/// An element of a base: a random variable.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Variable {
    pub base: BaseId,
    /// One for each axis of the base.
    pub at: Vec<Coord>,
}

impl Variable {
    /// The axes of the reader that it moves with.
    pub fn axes(&self) -> Axes {
        self.at.iter().fold(0, |axes, c| axes | c.axes())
    }

    /// The variable where the reader's own axes are read at `at`.
    pub fn read_at(&self, at: &[Coord], sizes: &[i64]) -> Variable {
        Variable { base: self.base, at: self.at.iter().map(|c| c.read_at(at, sizes)).collect() }
    }
}

/// A product of functions of different variables, in order.
pub(super) type Product = Vec<(Variable, Fun)>;

/// `sum(coefficient * product)`; the empty product is 1.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Form {
    pub terms: Vec<(Product, f64)>,
}

/// Terms that one form may have.
pub(super) const MAX_TERMS: usize = 48;

impl Form {
    /// A number.
    pub fn constant(value: f64) -> Self {
        let terms = if value == 0.0 { Vec::new() } else { vec![(Vec::new(), value)] };
        Form { terms }
    }

    /// A variable.
    pub fn of(variable: Variable) -> Self {
        Form::product(vec![(variable, Fun::IDENTITY)], 1.0)
    }

    /// One product.
    pub fn product(product: Product, coefficient: f64) -> Self {
        Form { terms: vec![(product, coefficient)] }
    }

    fn collect(terms: impl IntoIterator<Item = (Product, f64)>) -> Self {
        let mut sums: BTreeMap<Product, f64> = BTreeMap::new();
        for (product, coefficient) in terms {
            *sums.entry(product).or_insert(0.0) += coefficient;
        }
        Form { terms: sums.into_iter().filter(|(_, c)| *c != 0.0).collect() }
    }

    /// The number that it is, if it is one.
    pub fn as_constant(&self) -> Option<f64> {
        match &self.terms[..] {
            [] => Some(0.0),
            [(product, c)] if product.is_empty() => Some(*c),
            _ => None,
        }
    }

    /// The variable that it is, if it is one.
    pub fn as_variable(&self) -> Option<&Variable> {
        match &self.terms[..] {
            [(product, 1.0)] => match &product[..] {
                [(variable, Fun::IDENTITY)] => Some(variable),
                _ => None,
            },
            _ => None,
        }
    }

    /// The variables, each once.
    pub fn variables(&self) -> Vec<&Variable> {
        let mut all: Vec<&Variable> = self.terms.iter().flat_map(|(p, _)| p.iter().map(|(v, _)| v)).collect();
        all.sort_unstable();
        all.dedup();
        all
    }

    /// The axes of the reader that it moves with.
    pub fn axes(&self) -> Axes {
        self.variables().iter().fold(0, |axes, v| axes | v.axes())
    }

    /// The sum with a multiple of another.
    pub fn plus(&self, other: &Form, times: f64) -> Form {
        let scaled = other.terms.iter().map(|(p, c)| (p.clone(), c * times));
        Form::collect(self.terms.iter().cloned().chain(scaled))
    }

    /// A multiple.
    pub fn times(&self, factor: f64) -> Form {
        Form::default().plus(self, factor)
    }

    /// The product; `None` where it has too many terms.
    pub fn by(&self, other: &Form, funs: &mut Funs) -> Option<Form> {
        if self.terms.len() * other.terms.len() > MAX_TERMS * 4 {
            return None;
        }
        let mut terms = Vec::new();
        for (p, c) in &self.terms {
            for (q, d) in &other.terms {
                terms.push((multiplied(p, q, funs), c * d));
            }
        }
        Some(Form::collect(terms)).filter(|form| form.terms.len() <= MAX_TERMS)
    }

    /// As a function of one variable, if it has no other.
    pub fn univariate(&self, variable: &Variable, funs: &mut Funs) -> Option<Fun> {
        let mut sum = funs.constant(0.0);
        for (product, coefficient) in &self.terms {
            let mut term = funs.constant(*coefficient);
            for (of, f) in product {
                if of != variable {
                    return None;
                }
                term = funs.binary(BinaryOp::Mul, term, *f);
            }
            sum = funs.binary(BinaryOp::Add, sum, term);
        }
        Some(sum)
    }

    /// The form where the reader's own axes are read at `at`.
    pub fn read_at(&self, at: &[Coord], sizes: &[i64], funs: &mut Funs) -> Form {
        let mut terms = Vec::with_capacity(self.terms.len());
        for (product, coefficient) in &self.terms {
            let moved: Product = product.iter().map(|(v, f)| (v.read_at(at, sizes), *f)).collect();
            // Variables that were apart may have met.
            terms.push((multiplied(&moved, &[], funs), *coefficient));
        }
        Form::collect(terms)
    }
}

/// The product of products: functions of one variable are one function.
fn multiplied(p: &[(Variable, Fun)], q: &[(Variable, Fun)], funs: &mut Funs) -> Product {
    let mut factors: BTreeMap<Variable, Fun> = BTreeMap::new();
    for (variable, f) in p.iter().chain(q) {
        let both = match factors.get(variable) {
            Some(known) => funs.binary(BinaryOp::Mul, *known, *f),
            None => *f,
        };
        factors.insert(variable.clone(), both);
    }
    factors.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn x(offset: i64) -> Form {
        Form::of(Variable { base: BaseId(0), at: vec![Coord::axis(0).plus(&Coord::fixed(offset), 1)] })
    }

    #[test]
    fn a_square_is_a_function_and_no_product() {
        let mut funs = Funs::new();
        let square = x(0).by(&x(0), &mut funs).unwrap();
        assert_eq!((square.terms.len(), square.terms[0].0.len()), (1, 1));
        assert_eq!(funs.at(square.terms[0].0[0].1, 3.0), 9.0);
        let apart = x(0).by(&x(1), &mut funs).unwrap();
        assert_eq!(apart.terms[0].0.len(), 2);
        // Where both axes are one, so are the variables.
        let y = |axis| Form::of(Variable { base: BaseId(1), at: vec![Coord::axis(axis)] });
        let pair = y(0).by(&y(1), &mut funs).unwrap();
        let met = pair.read_at(&[Coord::axis(0), Coord::axis(0)], &[3], &mut funs);
        assert_eq!((pair.terms[0].0.len(), met.terms[0].0.len()), (2, 1));
    }

    #[test]
    fn sums_cancel_and_products_distribute() {
        let mut funs = Funs::new();
        assert_eq!(x(0).plus(&x(0), -1.0), Form::default());
        let sum = x(0).plus(&Form::constant(2.0), 1.0);
        let product = sum.by(&x(1), &mut funs).unwrap();
        assert_eq!(product.terms.len(), 2);
        assert!(sum.univariate(x(0).as_variable().unwrap(), &mut funs).is_some());
        assert!(product.univariate(x(0).as_variable().unwrap(), &mut funs).is_none());
    }
}
