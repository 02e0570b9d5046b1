//! Index expressions as affine forms, and what their ranges prove.
//!
//! An i64 expression is `constant + sum(coefficient * leaf)` where constants and coefficients are
//! [`Dim`]s and leaves are indices, enclosing positions, or opaque expressions. Recognition,
//! fusion and bounds proofs all read this form and never the shape of the expression tree.
//!
//! Expressions share parts, so a walk that knows nothing of what it has seen could take forever.
//! Each walk has a budget instead of a memory: what lies beyond is an opaque leaf, or has no bounds.

use super::expr::{Expr, ExprId, Exprs, Literal, VarId};
use crate::dim::Dim;
use crate::dtype::DType;
use crate::ops::scalar::{BinaryOp, UnaryOp};
use std::collections::BTreeMap;

/// What an affine form multiplies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Leaf {
    /// An index of the op.
    Index(u32),
    /// The position of an enclosing recurrence or region.
    Var(VarId),
    /// Anything else: a read, a quotient, a selection.
    Opaque(ExprId),
}

/// `constant + sum(coefficient * leaf)`; coefficients are not zero.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Affine {
    /// The part without leaves.
    pub constant: Dim,
    /// The leaves with their coefficients, in order.
    pub terms: BTreeMap<Leaf, Dim>,
}

impl Affine {
    /// A constant.
    pub fn constant(value: Dim) -> Self {
        Affine { constant: value, terms: BTreeMap::new() }
    }

    /// One leaf.
    pub fn leaf(leaf: Leaf) -> Self {
        Affine { constant: Dim::ZERO, terms: BTreeMap::from([(leaf, Dim::ONE)]) }
    }

    /// The sum; `None` where the arithmetic leaves what a [`Dim`] holds, as for all methods here.
    pub fn add(&self, other: &Affine) -> Option<Affine> {
        let mut terms = self.terms.clone();
        for (leaf, coefficient) in &other.terms {
            let sum = match terms.get(leaf) {
                Some(mine) => mine.add(coefficient).ok()?,
                None => coefficient.clone(),
            };
            if sum.is(0) {
                terms.remove(leaf);
            } else {
                terms.insert(*leaf, sum);
            }
        }
        Some(Affine { constant: self.constant.add(&other.constant).ok()?, terms })
    }

    /// The product with a size.
    pub fn scale(&self, by: &Dim) -> Option<Affine> {
        if by.is(0) {
            return Some(Affine::constant(Dim::ZERO));
        }
        let terms = self.terms.iter().map(|(leaf, c)| Some((*leaf, c.mul(by).ok()?)));
        Some(Affine { constant: self.constant.mul(by).ok()?, terms: terms.collect::<Option<_>>()? })
    }

    /// The coefficient of a leaf, zero if it does not occur.
    pub fn coefficient(&self, leaf: Leaf) -> Dim {
        self.terms.get(&leaf).cloned().unwrap_or(Dim::ZERO)
    }

    /// Whether no opaque leaf occurs.
    pub fn is_transparent(&self) -> bool {
        self.terms.keys().all(|leaf| !matches!(leaf, Leaf::Opaque(_)))
    }

    /// The leaf, if the form is exactly one leaf.
    pub fn as_leaf(&self) -> Option<Leaf> {
        let (leaf, coefficient) = self.terms.first_key_value()?;
        (self.terms.len() == 1 && coefficient.is(1) && self.constant.is(0)).then_some(*leaf)
    }
}

/// Expressions that one walk looks at.
const MAX_VISITS: u32 = 1000;

/// A walk over expressions.
struct Walk {
    /// Expressions that it may still look at.
    left: u32,
    /// The bounds that it found and that depend on sizes, of parts before what they are parts of.
    bounds: Vec<Dim>,
}

impl Walk {
    fn new() -> Self {
        Walk { left: MAX_VISITS, bounds: Vec::new() }
    }

    /// Takes one visit; whether there was one.
    fn visit(&mut self) -> bool {
        let any = self.left > 0;
        self.left = self.left.saturating_sub(1);
        any
    }
}

/// The affine form of an i64 expression.
pub fn affine(exprs: &Exprs, id: ExprId) -> Option<Affine> {
    affine_within(exprs, id, &mut Walk::new())
}

fn affine_within(exprs: &Exprs, id: ExprId, walk: &mut Walk) -> Option<Affine> {
    if exprs.dtype(id) != DType::I64 {
        return None;
    }
    let opaque = || Some(Affine::leaf(Leaf::Opaque(id)));
    let within = walk.visit();
    match exprs.get(id) {
        Expr::Const(Literal::Int(value)) => Some(Affine::constant(Dim::from(*value))),
        Expr::Dim(dim) => Some(Affine::constant(dim.clone())),
        Expr::Index(k) => Some(Affine::leaf(Leaf::Index(*k))),
        Expr::Var(var) => Some(Affine::leaf(Leaf::Var(*var))),
        _ if !within => opaque(),
        Expr::Unary(UnaryOp::Neg, a) => affine_within(exprs, *a, walk)?.scale(&Dim::from(-1)),
        Expr::Binary(op, a, b) => {
            let (left, right) = (affine_within(exprs, *a, walk)?, affine_within(exprs, *b, walk)?);
            let dims = left.terms.is_empty() && right.terms.is_empty();
            match op {
                BinaryOp::Add => left.add(&right),
                BinaryOp::Sub => left.add(&right.scale(&Dim::from(-1))?),
                BinaryOp::Mul if right.terms.is_empty() => left.scale(&right.constant),
                BinaryOp::Mul if left.terms.is_empty() => right.scale(&left.constant),
                BinaryOp::FloorDiv if dims => {
                    left.constant.floor_div(&right.constant).ok().map(Affine::constant)
                }
                BinaryOp::Mod if dims => left.constant.modulo(&right.constant).ok().map(Affine::constant),
                BinaryOp::Min if dims => left.constant.minimum(&right.constant).ok().map(Affine::constant),
                BinaryOp::Max if dims => left.constant.maximum(&right.constant).ok().map(Affine::constant),
                _ => opaque(),
            }
        }
        _ => opaque(),
    }
}

/// Inclusive bounds; `None` is no bound.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interval {
    /// Least value.
    pub low: Option<Dim>,
    /// Greatest value.
    pub high: Option<Dim>,
}

impl Interval {
    /// No bounds.
    pub const UNKNOWN: Interval = Interval { low: None, high: None };

    /// `0..extent`, which is not empty wherever it matters.
    pub fn below(extent: &Dim) -> Interval {
        Interval { low: Some(Dim::ZERO), high: extent.sub(&Dim::ONE).ok() }
    }

    /// Whether every value lies in `0..extent`.
    pub fn is_within(&self, extent: &Dim) -> bool {
        let below =
            |high: &Dim| extent.sub(high).and_then(|d| d.sub(&Dim::ONE)).is_ok_and(|d| d.is_non_negative());
        self.low.as_ref().is_some_and(Dim::is_non_negative) && self.high.as_ref().is_some_and(below)
    }
}

/// What is known of the leaves: extents of the indices and ranges of enclosing positions.
#[derive(Clone, Debug, Default)]
pub struct Ranges {
    /// Extent of each index.
    pub indices: Vec<Dim>,
    /// Bounds of each enclosing position.
    pub vars: BTreeMap<VarId, Interval>,
}

impl Ranges {
    /// Bounds of an i64 expression, assuming that no loop around it is empty.
    pub fn of(&self, exprs: &Exprs, id: ExprId) -> Interval {
        self.of_within(exprs, id, &mut Walk::new())
    }

    /// Bounds of an affine form.
    pub fn of_affine(&self, exprs: &Exprs, form: &Affine) -> Interval {
        self.of_affine_within(exprs, form, &mut Walk::new())
    }

    /// Bounds of an affine form, and every bound that they rest on, their own last. Computed in 64
    /// bits a form means what it says only where none of these wraps.
    pub fn of_affine_traced(&self, exprs: &Exprs, form: &Affine) -> (Interval, Vec<Dim>) {
        let mut walk = Walk::new();
        let interval = self.of_affine_within(exprs, form, &mut walk);
        (interval, walk.bounds)
    }

    fn of_within(&self, exprs: &Exprs, id: ExprId, walk: &mut Walk) -> Interval {
        match affine_within(exprs, id, walk) {
            Some(form) => self.of_affine_within(exprs, &form, walk),
            None => Interval::UNKNOWN,
        }
    }

    fn of_affine_within(&self, exprs: &Exprs, form: &Affine, walk: &mut Walk) -> Interval {
        let start = Interval { low: Some(form.constant.clone()), high: Some(form.constant.clone()) };
        let sum = form.terms.iter().fold(start, |sum, (leaf, coefficient)| {
            let leaf = self.of_leaf(exprs, *leaf, walk);
            let times = |bound: &Option<Dim>| bound.as_ref().and_then(|d| d.mul(coefficient).ok());
            let (low, high) = if coefficient.is_non_negative() {
                (times(&leaf.low), times(&leaf.high))
            } else if coefficient.neg().is_ok_and(|c| c.is_non_negative()) {
                (times(&leaf.high), times(&leaf.low))
            } else {
                (None, None)
            };
            let add = |a: Option<Dim>, b: Option<Dim>| a?.add(&b?).ok();
            Interval { low: add(sum.low, low), high: add(sum.high, high) }
        });
        let symbolic = [&sum.low, &sum.high].into_iter().flatten().filter(|d| d.as_const().is_none());
        walk.bounds.extend(symbolic.cloned());
        sum
    }

    fn of_leaf(&self, exprs: &Exprs, leaf: Leaf, walk: &mut Walk) -> Interval {
        match leaf {
            Leaf::Index(k) => self.indices.get(k as usize).map_or(Interval::UNKNOWN, Interval::below),
            Leaf::Var(var) => self.vars.get(&var).cloned().unwrap_or(Interval::UNKNOWN),
            Leaf::Opaque(id) => self.of_opaque(exprs, id, walk),
        }
    }

    fn of_opaque(&self, exprs: &Exprs, id: ExprId, walk: &mut Walk) -> Interval {
        if !walk.visit() {
            return Interval::UNKNOWN;
        }
        match exprs.get(id) {
            Expr::Binary(BinaryOp::Mod, _, b) => match affine_within(exprs, *b, walk) {
                Some(by) if by.terms.is_empty() && positive(&by.constant) => Interval::below(&by.constant),
                _ => Interval::UNKNOWN,
            },
            Expr::Binary(BinaryOp::FloorDiv, a, b) => {
                let by = affine_within(exprs, *b, walk);
                let Some(by) = by.filter(|f| f.terms.is_empty() && positive(&f.constant)) else {
                    return Interval::UNKNOWN;
                };
                let range = self.of_within(exprs, *a, walk);
                let divide = |d: Option<Dim>| d.and_then(|d| d.floor_div(&by.constant).ok());
                Interval { low: divide(range.low), high: divide(range.high) }
            }
            Expr::Binary(op @ (BinaryOp::Min | BinaryOp::Max), a, b) => {
                let (a, b) = (self.of_within(exprs, *a, walk), self.of_within(exprs, *b, walk));
                extremum(*op, a, b)
            }
            Expr::Select(_, a, b) => {
                let (a, b) = (self.of_within(exprs, *a, walk), self.of_within(exprs, *b, walk));
                let low = extremum(BinaryOp::Min, a.clone(), b.clone()).low;
                let high = extremum(BinaryOp::Max, a, b).high;
                Interval { low, high }
            }
            _ => Interval::UNKNOWN,
        }
    }
}

/// Bounds of a minimum or maximum. One known side suffices for one bound.
fn extremum(op: BinaryOp, a: Interval, b: Interval) -> Interval {
    let pick = |x: Dim, y: Dim| if op == BinaryOp::Min { x.minimum(&y) } else { x.maximum(&y) };
    let both = |x: Option<Dim>, y: Option<Dim>| pick(x?, y?).ok();
    let either = |x: Option<Dim>, y: Option<Dim>| match (x, y) {
        (Some(x), Some(y)) => pick(x, y).ok(),
        (x, y) => x.or(y),
    };
    if op == BinaryOp::Min {
        Interval { low: both(a.low, b.low), high: either(a.high, b.high) }
    } else {
        Interval { low: either(a.low, b.low), high: both(a.high, b.high) }
    }
}

/// A divisor that is a positive constant, or a size: where it is zero the call fails before
/// the quotient matters.
fn positive(dim: &Dim) -> bool {
    dim.as_const().map_or(dim.is_non_negative(), |value| value > 0)
}

/// Writes an affine form back as an expression in canonical order.
pub fn build(exprs: &mut Exprs, form: &Affine) -> ExprId {
    let mut sum: Option<ExprId> = None;
    for (leaf, coefficient) in &form.terms {
        let leaf = match leaf {
            Leaf::Index(k) => exprs.index(*k as usize),
            Leaf::Var(var) => exprs.add(Expr::Var(*var), DType::I64),
            Leaf::Opaque(id) => *id,
        };
        let term = if coefficient.is(1) {
            leaf
        } else {
            let factor = exprs.dim(coefficient);
            exprs.binary(BinaryOp::Mul, leaf, factor)
        };
        sum = Some(match sum {
            Some(left) => exprs.binary(BinaryOp::Add, left, term),
            None => term,
        });
    }
    let Some(sum) = sum else { return exprs.dim(&form.constant) };
    if form.constant.is(0) {
        return sum;
    }
    let constant = exprs.dim(&form.constant);
    exprs.binary(BinaryOp::Add, sum, constant)
}

/// Quotient and remainder of a form by a positive size, where its range decides them.
///
/// `(h*D + d)` by `D` with `0 <= d < D` gives `(h, d)`.
pub fn divide(exprs: &Exprs, ranges: &Ranges, form: &Affine, by: &Dim) -> Option<(Affine, Affine)> {
    if !positive(by) {
        return None;
    }
    let (mut quotient, mut rest) = (Affine::constant(Dim::ZERO), Affine::constant(Dim::ZERO));
    for (leaf, coefficient) in &form.terms {
        match coefficient.exact_div(by) {
            Some(q) => quotient.terms.insert(*leaf, q),
            None => rest.terms.insert(*leaf, coefficient.clone()),
        };
    }
    quotient.constant = form.constant.floor_div(by).ok()?;
    rest.constant = form.constant.modulo(by).ok()?;
    if ranges.of_affine(exprs, &rest).is_within(by) {
        return Some((quotient, rest));
    }
    // The constant may belong to either part: try all of it in the rest.
    let moved = Affine { constant: form.constant.clone(), terms: rest.terms };
    quotient.constant = Dim::ZERO;
    ranges.of_affine(exprs, &moved).is_within(by).then_some((quotient, moved))
}
