//! Bounds: which reads are inside their operand, and why.
//!
//! An index is an affine form over loop indices, enclosing positions and opaque expressions
//! ([`crate::graph::affine`]). In a loop that runs at all an index lies in `0..extent`, and sizes
//! are never negative; beyond that, *facts* are known: conditions under which the read happens (a
//! guard, a filter, the branch of a selection). A form is proved non-negative by its range, or
//! by being at least a form that a fact says is non-negative: under `s <= t`, `t - s >= 0`.
//!
//! A proof only uses the ranges of indices that occur in the form, so it also holds where the
//! expression is moved out of a loop whose index it does not mention.

use crate::dim::Dim;
use crate::graph::affine::{Affine, Ranges, affine};
use crate::graph::expr::{Expr, ExprId, Exprs, Literal};
use crate::ops::scalar::{BinaryOp, UnaryOp};

/// A condition and whether it holds.
pub(super) type Fact = (ExprId, bool);

/// What is known of one index of a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is inside wherever the loops around run.
    Inside,
    /// It may be below 0, or at the extent or above.
    Open { below: bool, above: bool },
    /// It is outside at every point.
    Outside,
}

/// The knowledge a proof draws on.
pub(super) struct Bounds<'a> {
    pub exprs: &'a Exprs,
    pub ranges: Ranges,
}

impl Bounds<'_> {
    /// Judges an index against the extent of its axis, given facts.
    pub(super) fn judge(&self, index: ExprId, extent: &Dim, facts: &[Affine]) -> Verdict {
        let Some(form) = affine(self.exprs, index) else {
            return Verdict::Open { below: true, above: true };
        };
        let slack =
            form.scale(&Dim::from(-1)).and_then(|f| f.add(&Affine::constant(extent.sub(&Dim::ONE).ok()?)));
        let inside_below = self.at_least_zero(&form, facts);
        let inside_above = slack.as_ref().is_some_and(|slack| self.at_least_zero(slack, facts));
        if inside_below && inside_above {
            return Verdict::Inside;
        }
        if self.negative(&form) || slack.as_ref().is_some_and(|slack| self.negative(slack)) {
            return Verdict::Outside;
        }
        Verdict::Open { below: !inside_below, above: !inside_above }
    }

    fn at_least_zero(&self, form: &Affine, facts: &[Affine]) -> bool {
        let by_range = |form: &Affine| {
            self.ranges.of_affine(self.exprs, form).low.is_some_and(|low| low.is_non_negative())
        };
        by_range(form)
            || facts.iter().any(|fact| {
                let rest = fact.scale(&Dim::from(-1)).and_then(|minus| form.add(&minus));
                rest.is_some_and(|rest| by_range(&rest))
            })
    }

    fn negative(&self, form: &Affine) -> bool {
        let high = self.ranges.of_affine(self.exprs, form).high;
        high.is_some_and(|high| high.range().1.is_some_and(|h| h < 0))
    }

    /// Whether an integer is known not to be zero.
    pub(super) fn is_nonzero(&self, id: ExprId, facts: &[Affine]) -> bool {
        if let Expr::Const(Literal::Int(value)) = self.exprs.get(id) {
            return *value != 0;
        }
        let Some(form) = affine(self.exprs, id) else { return false };
        let Some(less_one) = form.add(&Affine::constant(Dim::from(-1))) else { return false };
        self.at_least_zero(&less_one, facts) || self.negative(&form)
    }
}

/// The forms that facts say are at least 0.
pub(super) fn inequalities(exprs: &Exprs, facts: &[Fact]) -> Vec<Affine> {
    let mut found = Vec::new();
    let mut pending: Vec<Fact> = facts.to_vec();
    while let Some((id, holds)) = pending.pop() {
        match (exprs.get(id), holds) {
            (Expr::Unary(UnaryOp::Not, a), _) => pending.push((*a, !holds)),
            (Expr::Binary(BinaryOp::And, a, b), true) | (Expr::Binary(BinaryOp::Or, a, b), false) => {
                pending.extend([(*a, holds), (*b, holds)]);
            }
            (Expr::Select(c, a, b), _) => {
                if is_bool(exprs, *b, !holds) {
                    pending.extend([(*c, true), (*a, holds)]);
                } else if is_bool(exprs, *a, !holds) {
                    pending.extend([(*c, false), (*b, holds)]);
                }
            }
            (Expr::Binary(op, a, b), _) => compare(exprs, *op, holds, *a, *b, &mut found),
            _ => {}
        }
    }
    found
}

fn is_bool(exprs: &Exprs, id: ExprId, value: bool) -> bool {
    matches!(exprs.get(id), Expr::Const(Literal::Bool(known)) if *known == value)
}

fn compare(exprs: &Exprs, op: BinaryOp, holds: bool, a: ExprId, b: ExprId, found: &mut Vec<Affine>) {
    let (Some(a), Some(b)) = (affine(exprs, a), affine(exprs, b)) else { return };
    let minus = |x: &Affine, y: &Affine, less: i64| {
        x.add(&y.scale(&Dim::from(-1))?)?.add(&Affine::constant(Dim::from(-less)))
    };
    match (op, holds) {
        (BinaryOp::Ge, true) | (BinaryOp::Lt, false) => found.extend(minus(&a, &b, 0)),
        (BinaryOp::Gt, true) | (BinaryOp::Le, false) => found.extend(minus(&a, &b, 1)),
        (BinaryOp::Le, true) | (BinaryOp::Gt, false) => found.extend(minus(&b, &a, 0)),
        (BinaryOp::Lt, true) | (BinaryOp::Ge, false) => found.extend(minus(&b, &a, 1)),
        (BinaryOp::Eq, true) | (BinaryOp::Ne, false) => {
            found.extend(minus(&a, &b, 0));
            found.extend(minus(&b, &a, 0));
        }
        _ => {}
    }
}
