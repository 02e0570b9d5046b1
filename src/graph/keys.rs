//! Reductions by key: result indices that the filter of a reduction fixes.
//!
//! In `reduce[e where key(e) == n and rest] body`, every `e` has one `n` at most, so that what is
//! reduced are the points of `e` and not those of the product of both ranges. Any equality
//! qualifies that can be solved for one result index with coefficient one, be its other side
//! gathered (`dst[e] == n`) or affine (`i * stride + k - pad == l`). An equality that no reduced
//! index enters does not.

use super::affine::{Affine, Leaf, affine};
use super::expr::{Expr, ExprId};
use super::ir::Index;
use crate::dim::Dim;
use crate::ops::scalar::BinaryOp;

/// A result index that a condition fixes.
pub struct Key {
    /// The axis of the result.
    pub axis: usize,
    /// Its index, in terms of the others.
    pub value: Affine,
    /// The place of the equality among the [`conjuncts`] of the filter.
    pub conjunct: usize,
}

/// The conditions whose conjunction the filter of a reduction is, in order of evaluation.
pub fn conjuncts(index: &Index) -> Vec<ExprId> {
    index.exprs.conjuncts(index.reduce.as_ref().and_then(|reduce| reduce.filter))
}

/// The keys of a reduction, no axis twice and none that is among `fixed`. An equality behind other
/// conditions is evaluated where these do not hold as well, which `sure` must allow.
pub fn keys<'i>(
    index: &'i Index,
    fixed: &[usize],
    sure: &'i dyn Fn(ExprId) -> bool,
) -> impl Iterator<Item = Key> + 'i {
    let mut fixed = fixed.to_vec();
    conjuncts(index).into_iter().enumerate().filter_map(move |(conjunct, condition)| {
        let Expr::Binary(BinaryOp::Eq, a, b) = index.exprs.get(condition) else { return None };
        let (left, right) = (affine(&index.exprs, *a)?, affine(&index.exprs, *b)?);
        let difference = left.add(&right.scale(&Dim::from(-1))?)?;
        let (axis, value) = solve(index, &difference, &fixed)?;
        if conjunct > 0 && !sure(condition) {
            return None;
        }
        fixed.push(axis);
        Some(Key { axis, value, conjunct })
    })
}

/// Solves `difference == 0` for the fastest result index that it allows.
fn solve(index: &Index, difference: &Affine, fixed: &[usize]) -> Option<(usize, Affine)> {
    let reduced = |leaf: &Leaf| uses(index, leaf, &|k| k as usize >= index.iterate.len());
    if !difference.terms.keys().any(reduced) {
        return None;
    }
    (0..index.iterate.len()).rev().filter(|axis| !fixed.contains(axis)).find_map(|axis| {
        let leaf = Leaf::Index(axis as u32);
        let sign = difference.coefficient(leaf).as_const().filter(|c| c.abs() == 1)?;
        let mut rest = difference.clone();
        rest.terms.remove(&leaf);
        if rest.terms.keys().any(|leaf| uses(index, leaf, &|k| k as usize == axis)) {
            return None;
        }
        Some((axis, rest.scale(&Dim::from(-sign))?))
    })
}

/// Whether a leaf involves an index that `wanted` accepts.
fn uses(index: &Index, leaf: &Leaf, wanted: &dyn Fn(u32) -> bool) -> bool {
    match leaf {
        Leaf::Index(k) => wanted(*k),
        Leaf::Var(_) => false,
        Leaf::Opaque(id) => index.exprs.contain(&[*id], |expr| matches!(expr, Expr::Index(k) if wanted(*k))),
    }
}
