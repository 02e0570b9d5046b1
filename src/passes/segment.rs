//! Recognition of reductions by key.
//!
//! `reduce[e where key(e) == n and rest] body` for every `n` is one pass over `e` that adds to
//! element `key(e)`, instead of the product of both ranges; [`keys`](crate::graph::keys) says which
//! equalities qualify. The equality need not come first: the rest keeps its
//! order, and is only evaluated where the key is inside.

use super::Changed;
use super::walk::{Vars, for_each_graph};
use crate::dim::Dim;
use crate::graph::affine::{Ranges, build};
use crate::graph::expr::{Expr, ExprId};
use crate::graph::ir::{Index, Op, Program, Segment, TensorType};
use crate::graph::keys::{Key, conjuncts, keys};
use crate::ops::reduce::Reducer;
use crate::ops::scalar::BinaryOp;

/// Turns filtered reductions into [`Op::Segment`], in every graph.
pub fn recognise_segments(program: &mut Program) -> Changed {
    let mut changed = false;
    for_each_graph(program, &mut |graph, vars| {
        for id in graph.topological() {
            let Op::Index(index) = &graph.node(id).op else { continue };
            let types: Vec<&TensorType> = graph.operands(id).into_iter().map(|v| graph.ty(v)).collect();
            if let Some(segment) = recognise(index, &types, vars) {
                graph.dag[id].op = Op::Segment(Box::new(segment));
                changed = true;
            }
        }
    });
    Changed::from(changed)
}

fn recognise(index: &Index, types: &[&TensorType], vars: &Vars) -> Option<Segment> {
    let reduce = index.reduce.as_ref()?;
    if matches!(reduce.reducer, Reducer::ArgMax | Reducer::ArgMin) || index.guard.is_some() {
        return None;
    }
    let ranges = Ranges { indices: index.extents(), vars: vars.clone() };
    let sure = |condition: ExprId| cannot_fail(index, condition, types, &ranges);
    let key = keys(index, &[], &sure).next()?;
    Some(with_key(index, &key))
}

/// Whether an expression can be evaluated anywhere: it divides by nothing and reads inside only.
pub(super) fn cannot_fail(index: &Index, expression: ExprId, types: &[&TensorType], ranges: &Ranges) -> bool {
    let needed = index.exprs.reachable(&[expression]);
    index.exprs.iter().filter(|(id, ..)| needed[id.0 as usize]).all(|(_, expr, _)| match expr {
        Expr::Read(read) => {
            let inside = |(at, extent): (&ExprId, &Dim)| ranges.of(&index.exprs, *at).is_within(extent);
            read.otherwise.is_some() || read.index.iter().zip(&types[read.port as usize].shape).all(inside)
        }
        Expr::Binary(BinaryOp::FloorDiv | BinaryOp::Mod, ..) => false,
        _ => true,
    })
}

/// The reduction without the equality, whose place the key takes.
fn with_key(index: &Index, key: &Key) -> Segment {
    let mut rest = conjuncts(index);
    rest.remove(key.conjunct);
    let mut index = index.clone();
    let value = build(&mut index.exprs, &key.value);
    let filter = rest.into_iter().reduce(|all, condition| {
        let never = index.exprs.bool(false);
        index.exprs.select(all, condition, never)
    });
    if let Some(reduce) = &mut index.reduce {
        reduce.filter = filter;
    }
    Segment { index, axis: key.axis, key: value }
}
