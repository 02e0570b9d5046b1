//! Recognition of running reductions.
//!
//! `reduce[s where s <= t and rest] body` for every `t`, of a body that does not know `t`, takes one term
//! more at each step: the terms `if rest { body } else { nothing }` are computed once each, and scanned.
//! The bound may lie some steps behind (`s < t`, `s <= t - 2`), and `s >= t` runs from the end.

use super::Changed;
use super::simplify::simplify_index;
use super::walk::{Vars, for_each_graph};
use crate::dim::Dim;
use crate::graph::affine::{Affine, Leaf, Ranges, affine};
use crate::graph::expr::{Expr, ExprId, Exprs, Literal};
use crate::graph::ir::{Graph, Index, Op, Program, Scan, TensorType};
use crate::ops::reduce::Reducer;
use crate::ops::scalar::BinaryOp;
use petgraph::stable_graph::NodeIndex;

/// Turns reductions up to a result index into [`Op::Scan`], in every graph.
pub fn recognise_scans(program: &mut Program) -> Changed {
    let mut changed = false;
    for_each_graph(program, &mut |graph, vars| {
        for id in graph.topological() {
            changed |= recognise(graph, id, vars);
        }
    });
    Changed::from(changed)
}

/// How far the reduction goes at step `t`: the last term that it takes is number `t + ahead`.
struct Bound {
    /// The result index `t`.
    axis: usize,
    ahead: i64,
    reverse: bool,
    /// The other conditions.
    rest: Vec<ExprId>,
}

fn recognise(graph: &mut Graph, id: NodeIndex, vars: &Vars) -> bool {
    let Op::Index(index) = &graph.node(id).op else { return false };
    let node = graph.node(id);
    let plain =
        index.guard.is_none() && index.iterate.iter().map(|axis| &axis.extent).eq(&node.results[0].shape);
    let Some(bound) = bound(index).filter(|_| plain) else { return false };
    let Some(reducer) = index.reduce.as_ref().map(|reduce| reduce.reducer) else { return false };
    let operands = graph.operands(id);
    let types: Vec<TensorType> = operands.iter().map(|value| graph.ty(*value).clone()).collect();
    let ranges = Ranges { indices: index.extents(), vars: vars.clone() };
    let mut terms = terms(index, &bound, reducer);
    simplify_index(&mut terms, &ranges, &types);
    let (shape, span) = (node.results[0].shape.clone(), node.span);
    let terms = graph.add_index(terms, shape, &operands, span, Some("terms".into()));
    graph.dag[id].op = Op::Scan(Scan { reducer, axis: bound.axis, reverse: bound.reverse });
    graph.set_operands(id, &[terms]);
    true
}

fn bound(index: &Index) -> Option<Bound> {
    let reduce = index.reduce.as_ref()?;
    let extremes = matches!(reduce.reducer, Reducer::ArgMax | Reducer::ArgMin);
    if extremes || reduce.otherwise.is_some() || reduce.axes.len() != 1 {
        return None;
    }
    let all = index.exprs.conjuncts(reduce.filter);
    all.iter().enumerate().find_map(|(at, condition)| {
        let (axis, ahead, reverse) = step(index, *condition)?;
        let mut rest = all.clone();
        rest.remove(at);
        let roots: Vec<ExprId> = rest.iter().copied().chain([index.body]).collect();
        let knows = index.exprs.contain(&roots, |expr| *expr == Expr::Index(axis as u32));
        (!knows).then_some(Bound { axis, ahead, reverse, rest })
    })
}

/// A condition between the reduced index and a result index: which, how far ahead, and the direction.
fn step(index: &Index, condition: ExprId) -> Option<(usize, i64, bool)> {
    let Expr::Binary(op, a, b) = index.exprs.get(condition) else { return None };
    let (a, b) = (affine(&index.exprs, *a)?, affine(&index.exprs, *b)?);
    let minus = |a: &Affine, b: &Affine| a.add(&b.scale(&Dim::from(-1))?);
    // All of them as `difference <= 0`.
    let difference = match op {
        BinaryOp::Le => minus(&a, &b)?,
        BinaryOp::Ge => minus(&b, &a)?,
        BinaryOp::Lt => minus(&a, &b)?.add(&Affine::constant(Dim::ONE))?,
        BinaryOp::Gt => minus(&b, &a)?.add(&Affine::constant(Dim::ONE))?,
        _ => return None,
    };
    let reduced = index.iterate.len();
    let constant = difference.constant.as_const()?;
    let sign = difference.coefficient(Leaf::Index(reduced as u32)).as_const().filter(|c| c.abs() == 1)?;
    let others = difference.terms.iter().filter(|(leaf, _)| **leaf != Leaf::Index(reduced as u32));
    let mut others = others.filter_map(|(leaf, by)| match leaf {
        Leaf::Index(k) => Some((*k as usize, by.as_const()?)),
        _ => None,
    });
    let (axis, by) = others.next().filter(|_| difference.terms.len() == 2)?;
    if by != -sign {
        return None;
    }
    let (steps, terms) = (&index.iterate[axis].extent, &index.reduce.as_ref()?.axes[0].extent);
    // `s - t + constant <= 0`, or `t - s + constant <= 0`.
    let (ahead, reverse) = if sign > 0 { (constant.checked_neg()?, false) } else { (constant, true) };
    // The first step must take one term at most.
    let starts = if reverse { ahead >= 0 && steps == terms } else { ahead <= 0 };
    starts.then_some((axis, ahead, reverse))
}

/// The term that each step takes.
fn terms(index: &Index, bound: &Bound, reducer: Reducer) -> Index {
    let reduced = index.iterate.len() as u32;
    let dtype = index.exprs.dtype(index.body);
    let mut exprs = Exprs::new();
    let step = exprs.index(bound.axis);
    let ahead = exprs.int(bound.ahead);
    let position = exprs.binary(BinaryOp::Add, step, ahead);
    let roots: Vec<ExprId> = [index.body].into_iter().chain(bound.rest.iter().copied()).collect();
    let moved = exprs
        .import(&index.exprs, &roots, &mut |_, leaf, _| (*leaf == Expr::Index(reduced)).then_some(position));
    let nothing = exprs.add(Expr::Const(Literal::over_nothing(reducer, dtype)), dtype);
    // What stands first is decided first.
    let mut body = moved[0];
    for condition in moved[1..].iter().rev() {
        body = exprs.select(*condition, body, nothing);
    }
    if let Some(reduce) = &index.reduce {
        let (zero, extent) = (exprs.int(0), exprs.dim(&reduce.axes[0].extent));
        let before = exprs.binary(BinaryOp::Ge, position, zero);
        let behind = exprs.binary(BinaryOp::Lt, position, extent);
        for inside in [before, behind] {
            body = exprs.select(inside, body, nothing);
        }
    }
    Index { iterate: index.iterate.clone(), guard: None, reduce: None, exprs, body }
}
