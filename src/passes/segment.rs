//! Recognition of reductions by key.
//!
//! `reduce[e where key(e) == n and rest] body` for every `n` is one pass over `e` that adds to
//! element `key(e)`, instead of the product of both ranges. Any equality qualifies that can be
//! solved for one result index with coefficient one, be its other side gathered (`dst[e] == n`) or
//! affine (`i * stride + k - pad == l`). An equality that no reduced index enters does not.

use super::Changed;
use super::walk::for_each_graph;
use crate::dim::Dim;
use crate::graph::affine::{Affine, Leaf, affine, build};
use crate::graph::expr::{Expr, ExprId};
use crate::graph::ir::{Index, Op, Program, Segment};
use crate::ops::reduce::Reducer;
use crate::ops::scalar::BinaryOp;

/// Turns filtered reductions into [`Op::Segment`], in every graph.
pub fn recognise_segments(program: &mut Program) -> Changed {
    let mut changed = false;
    for_each_graph(program, &mut |graph, _| {
        for id in graph.topological() {
            let Op::Index(index) = &graph.node(id).op else { continue };
            if let Some(segment) = recognise(index) {
                graph.dag[id].op = Op::Segment(Box::new(segment));
                changed = true;
            }
        }
    });
    Changed::from(changed)
}

fn recognise(index: &Index) -> Option<Segment> {
    let reduce = index.reduce.as_ref()?;
    if matches!(reduce.reducer, Reducer::ArgMax | Reducer::ArgMin) || index.guard.is_some() {
        return None;
    }
    let conditions = conjuncts(index, reduce.filter?);
    for (at, condition) in conditions.iter().enumerate() {
        let Expr::Binary(BinaryOp::Eq, a, b) = index.exprs.get(*condition) else { continue };
        let Some(left) = affine(&index.exprs, *a) else { continue };
        let Some(right) = affine(&index.exprs, *b) else { continue };
        let Some(difference) = right.scale(&Dim::from(-1)).and_then(|r| left.add(&r)) else { continue };
        if let Some((axis, key)) = solve(index, &difference) {
            return Some(with_key(index, axis, &key, &conditions, at));
        }
    }
    None
}

/// The conditions whose conjunction the filter is.
fn conjuncts(index: &Index, filter: ExprId) -> Vec<ExprId> {
    let (mut pending, mut found) = (vec![filter], Vec::new());
    while let Some(id) = pending.pop() {
        match index.exprs.get(id) {
            Expr::Binary(BinaryOp::And, a, b) => pending.extend([*b, *a]),
            _ => found.push(id),
        }
    }
    found
}

/// Solves `difference == 0` for the fastest iterate index that it allows.
fn solve(index: &Index, difference: &Affine) -> Option<(usize, Affine)> {
    let reduced = |leaf: &Leaf| uses(index, leaf, &|k| k as usize >= index.iterate.len());
    if !difference.terms.keys().any(reduced) {
        return None;
    }
    (0..index.iterate.len()).rev().find_map(|axis| {
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
        Leaf::Opaque(id) => {
            let needed = index.exprs.reachable(&[*id]);
            let is_wanted = |expr: &Expr| matches!(expr, Expr::Index(k) if wanted(*k));
            index.exprs.iter().any(|(id, expr, _)| needed[id.0 as usize] && is_wanted(expr))
        }
    }
}

fn with_key(index: &Index, axis: usize, key: &Affine, conditions: &[ExprId], at: usize) -> Segment {
    let mut index = index.clone();
    let key = build(&mut index.exprs, key);
    let rest = conditions.iter().enumerate().filter(|(k, _)| *k != at).map(|(_, id)| *id);
    let filter = rest.fold(None, |filter, condition| match filter {
        Some(so_far) => Some(index.exprs.binary(BinaryOp::And, so_far, condition)),
        None => Some(condition),
    });
    if let Some(reduce) = &mut index.reduce {
        reduce.filter = filter;
    }
    Segment { index, axis, key }
}
