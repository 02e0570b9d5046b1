//! Bounds: which reads are inside their operand, and why.
//!
//! An index is an affine form over loop indices, enclosing positions and opaque expressions
//! ([`crate::graph::affine`]). In a loop that runs at all an index lies in `0..extent`, and sizes
//! are never negative; beyond that, *facts* are known: conditions under which the read happens (a
//! guard, a filter, the branch of a selection). A form is proved non-negative by its range, or
//! by being at least a form that a fact says is non-negative: under `s <= t`, `t - s >= 0`.
//!
//! A form is exact and what is computed wraps, so a proof about a form says something of an index only
//! where the two are equal. An index that is proved inside at both ends is equal to its form whatever
//! wraps on the way. Everything else a proof rests on must be computed without wrapping: its bounds are
//! *assumed* to fit, which is checked once per call. What comes from a tensor has no bounds, and only a
//! comparison in which it stands alone says anything of it.
//!
//! A proof only uses the ranges of indices that occur in the form, so it also holds where the
//! expression is moved out of a loop whose index it does not mention.

use crate::dim::Dim;
use crate::graph::affine::{Affine, Interval, Leaf, Ranges, affine};
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

/// What facts say.
#[derive(Clone, Default)]
pub(super) struct Known {
    /// Forms that are at least 0.
    pub forms: Vec<Affine>,
    /// Bounds that must not wrap for that.
    pub assumed: Vec<Dim>,
}

/// The knowledge a proof draws on.
pub(super) struct Bounds<'a> {
    pub exprs: &'a Exprs,
    pub ranges: Ranges,
}

impl Bounds<'_> {
    /// Judges an index against the extent of its axis, given facts. Also returns the bounds that are
    /// assumed, those of the facts aside, and whether the index has bounds at all.
    pub(super) fn judge(&self, index: ExprId, extent: &Dim, known: &Known) -> (Verdict, Vec<Dim>, bool) {
        let open = Verdict::Open { below: true, above: true };
        let Some(form) = affine(self.exprs, index) else { return (open, Vec::new(), false) };
        let (range, assumed) = self.ranges.of_affine_traced(self.exprs, &form);
        let bounded = range.low.is_some() && range.high.is_some();
        let slack =
            form.scale(&Dim::from(-1)).and_then(|f| f.add(&Affine::constant(extent.sub(&Dim::ONE).ok()?)));
        let inside_below = self.at_least_zero(&form, known);
        let inside_above = slack.as_ref().is_some_and(|slack| self.at_least_zero(slack, known));
        let verdict = if inside_below && inside_above {
            Verdict::Inside
        } else if self.negative(&form) || slack.as_ref().is_some_and(|slack| self.negative(slack)) {
            Verdict::Outside
        } else if bounded || is_alone(&form) {
            Verdict::Open { below: !inside_below, above: !inside_above }
        } else {
            // It may wrap from one end to the other.
            open
        };
        (verdict, assumed, bounded)
    }

    fn at_least_zero(&self, form: &Affine, known: &Known) -> bool {
        let by_range = |form: &Affine| {
            self.ranges.of_affine(self.exprs, form).low.is_some_and(|low| low.is_non_negative())
        };
        by_range(form)
            || known.forms.iter().any(|fact| {
                let rest = fact.scale(&Dim::from(-1)).and_then(|minus| form.add(&minus));
                rest.is_some_and(|rest| by_range(&rest))
            })
    }

    fn negative(&self, form: &Affine) -> bool {
        let high = self.ranges.of_affine(self.exprs, form).high;
        high.is_some_and(|high| high.range().1.is_some_and(|h| h < 0))
    }

    /// The bounds that are assumed where an integer is known not to be zero; `None` where it is not.
    pub(super) fn is_nonzero(&self, id: ExprId, known: &Known) -> Option<Vec<Dim>> {
        if let Expr::Const(Literal::Int(value)) = self.exprs.get(id) {
            return (*value != 0).then(Vec::new);
        }
        let form = affine(self.exprs, id)?;
        let less_one = form.add(&Affine::constant(Dim::from(-1)))?;
        let (range, assumed) = self.ranges.of_affine_traced(self.exprs, &form);
        let exact = (range.low.is_some() && range.high.is_some()) || is_alone(&form);
        (exact && (self.at_least_zero(&less_one, known) || self.negative(&form))).then_some(assumed)
    }

    /// What facts say.
    pub(super) fn known(&self, facts: &[Fact]) -> Known {
        let mut known = Known::default();
        let mut pending: Vec<Fact> = facts.to_vec();
        while let Some((id, holds)) = pending.pop() {
            match (self.exprs.get(id), holds) {
                (Expr::Unary(UnaryOp::Not, a), _) => pending.push((*a, !holds)),
                (Expr::Binary(BinaryOp::And, a, b), true) | (Expr::Binary(BinaryOp::Or, a, b), false) => {
                    pending.extend([(*a, holds), (*b, holds)]);
                }
                (Expr::Select(c, a, b), _) => {
                    if is_bool(self.exprs, *b, !holds) {
                        pending.extend([(*c, true), (*a, holds)]);
                    } else if is_bool(self.exprs, *a, !holds) {
                        pending.extend([(*c, false), (*b, holds)]);
                    }
                }
                (Expr::Binary(op, a, b), _) => self.compare(*op, holds, *a, *b, &mut known),
                _ => {}
            }
        }
        known
    }

    fn compare(&self, op: BinaryOp, holds: bool, a: ExprId, b: ExprId, known: &mut Known) {
        let (Some(a), Some(b)) = (affine(self.exprs, a), affine(self.exprs, b)) else { return };
        let (Some(left), Some(right)) = (self.exact(&a), self.exact(&b)) else { return };
        let minus = |x: &Affine, y: &Affine, less: i64| {
            x.add(&y.scale(&Dim::from(-1))?)?.add(&Affine::constant(Dim::from(-less)))
        };
        let found = match (op, holds) {
            (BinaryOp::Ge, true) | (BinaryOp::Lt, false) => vec![minus(&a, &b, 0)],
            (BinaryOp::Gt, true) | (BinaryOp::Le, false) => vec![minus(&a, &b, 1)],
            (BinaryOp::Le, true) | (BinaryOp::Gt, false) => vec![minus(&b, &a, 0)],
            (BinaryOp::Lt, true) | (BinaryOp::Ge, false) => vec![minus(&b, &a, 1)],
            (BinaryOp::Eq, true) | (BinaryOp::Ne, false) => vec![minus(&a, &b, 0), minus(&b, &a, 0)],
            _ => return,
        };
        known.forms.extend(found.into_iter().flatten());
        known.assumed.extend(left.into_iter().chain(right));
    }

    /// The bounds that must not wrap for a side of a comparison to mean what it says; `None` where it
    /// has none and does not stand alone.
    fn exact(&self, form: &Affine) -> Option<Vec<Dim>> {
        let (range, assumed) = self.ranges.of_affine_traced(self.exprs, form);
        ((range.low.is_some() && range.high.is_some()) || is_alone(form)).then_some(assumed)
    }

    /// Whether a leaf has bounds; what is read from a tensor has none.
    pub(super) fn is_bounded(&self, leaf: Leaf) -> bool {
        let form = Affine { constant: Dim::ZERO, terms: [(leaf, Dim::ONE)].into() };
        let Interval { low, high } = self.ranges.of_affine(self.exprs, &form);
        low.is_some() && high.is_some()
    }
}

/// Whether a form is a leaf and nothing else, so that nothing is computed that could wrap.
fn is_alone(form: &Affine) -> bool {
    form.as_leaf().is_some()
}

fn is_bool(exprs: &Exprs, id: ExprId, value: bool) -> bool {
    matches!(exprs.get(id), Expr::Const(Literal::Bool(known)) if *known == value)
}
