//! Recognition of reductions by key.
//!
//! `reduce[e where key(e) == n and rest] body` for every `n` is one pass over `e` that adds to
//! element `key(e)`, instead of the product of both ranges; [`keys`](crate::graph::keys) says which
//! equalities qualify.

use super::Changed;
use super::walk::for_each_graph;
use crate::graph::affine::build;
use crate::graph::ir::{Index, Op, Program, Segment};
use crate::graph::keys::{Key, conjuncts, keys};
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
    let key = keys(index, &[]).next()?;
    Some(with_key(index, &key))
}

/// The reduction without the equality, whose place the key takes.
fn with_key(index: &Index, key: &Key) -> Segment {
    let mut rest = conjuncts(index);
    rest.remove(key.conjunct);
    let mut index = index.clone();
    let value = build(&mut index.exprs, &key.value);
    let filter = rest.into_iter().reduce(|all, condition| index.exprs.binary(BinaryOp::And, all, condition));
    if let Some(reduce) = &mut index.reduce {
        reduce.filter = filter;
    }
    Segment { index, axis: key.axis, key: value }
}
