//! Axes that reads take apart into digits.
//!
//! Heads that lie behind each other are read as `o[b, k // 64, t, k % 64]`. Over two axes in place of
//! `k` the read is `o[b, h, t, d]`, affine like any other, so that sums over it are matrix products and
//! loops need no division. The result's points keep their order. What conditions look up, such as
//! which blocks of pairs take part, is no part of a product, and its axes stay.
//!
//! Where query heads share key heads, as in `sum[d] q[b, h, i, d] * k[b, h // 4, j, d]`, scores and
//! weighted sums take `h` apart in this way, and the softmax between them reads it whole. An axis that
//! both what a value comes from and what it ends in take apart alike is taken apart in between as well,
//! so that all of it has the same axes.

use super::Changed;
use super::fuse::axis_groups;
use super::simplify::simplify_index;
use super::walk::{Vars, for_each_graph};
use crate::dim::Dim;
use crate::dtype::DType;
use crate::graph::affine::{Affine, Leaf, Ranges, affine};
use crate::graph::expr::{Expr, ExprId, Exprs, Literal, Read};
use crate::graph::ir::{Axis, Graph, Index, Op, Program, TensorType};
use crate::ops::scalar::BinaryOp;
use petgraph::stable_graph::NodeIndex;
use std::collections::BTreeMap;

/// Splits axes whose digits are indices of reads, in every graph.
pub fn split_axes(program: &mut Program) -> Changed {
    let mut changed = false;
    for_each_graph(program, &mut |graph, vars| {
        for id in graph.topological() {
            while let Some((axis, outer, inner)) = index_of(graph, id).and_then(digits) {
                split_node(graph, id, axis, (outer, inner), vars);
                changed = true;
            }
        }
        changed |= split_between(graph, vars);
    });
    Changed::from(changed)
}

fn index_of(graph: &Graph, id: NodeIndex) -> Option<&Index> {
    match &graph.node(id).op {
        Op::Index(index) => Some(index),
        _ => None,
    }
}

/// Makes two axes of one of an index op's.
fn split_node(graph: &mut Graph, id: NodeIndex, axis: usize, (outer, inner): (Dim, Dim), vars: &Vars) {
    let types: Vec<TensorType> =
        graph.operands(id).into_iter().map(|value| graph.ty(value).clone()).collect();
    let Op::Index(index) = &mut graph.dag[id].op else { return };
    split(index, axis, outer, inner);
    let ranges = Ranges { indices: index.extents(), vars: vars.clone() };
    simplify_index(index, &ranges, &types);
}

/// An axis of an index op's result, and the extents of its two digits.
type Digits = BTreeMap<NodeIndex, (usize, Dim, Dim)>;

/// Takes apart what lies between ops that take one axis apart alike.
fn split_between(graph: &mut Graph, vars: &Vars) -> bool {
    let order = graph.topological();
    let from = split_before(graph, &order);
    let mut wanted: Vec<NodeIndex> = Vec::new();
    for id in order.iter().rev() {
        let Some((axis, outer, inner)) = from.get(id) else { continue };
        let apart = |user: &NodeIndex| {
            let Some(index) = index_of(graph, *user) else { return false };
            let reads = reads_of(graph, *user, index, *id);
            let whole = from.get(user).filter(|_| wanted.contains(user)).map(|(at, ..)| *at);
            reads.iter().any(|read| {
                let at = read.index[*axis];
                spells(index, at, outer, inner) || (whole.is_some() && lone_index(index, at) == whole)
            })
        };
        if graph.users(*id).iter().any(apart) {
            wanted.push(*id);
        }
    }
    for id in &wanted {
        let (axis, outer, inner) = from[id].clone();
        split_node(graph, *id, axis, (outer, inner), vars);
    }
    !wanted.is_empty()
}

/// The ops that read, point by point along one of their axes, what takes that axis apart.
fn split_before(graph: &Graph, order: &[NodeIndex]) -> Digits {
    let mut found = Digits::new();
    for id in order {
        let Some(index) = index_of(graph, *id) else { continue };
        let shape = &graph.node(*id).results[0].shape;
        if index.iterate.len() != shape.len() {
            continue;
        }
        let axis = graph.operands(*id).iter().find_map(|value| {
            let (axis, outer, inner) =
                found.get(&value.node).cloned().or_else(|| taken_apart(graph, value.node))?;
            let reads = reads_of(graph, *id, index, value.node);
            let mut at = reads.iter().map(|read| lone_index(index, read.index[axis]));
            let first = at.next()??;
            (first < shape.len() && at.all(|k| k == Some(first))).then_some((first, outer, inner))
        });
        found.extend(axis.map(|axis| (*id, axis)));
    }
    found
}

/// The axis of a node's value that it computes as two.
fn taken_apart(graph: &Graph, id: NodeIndex) -> Option<(usize, Dim, Dim)> {
    let iterate = &index_of(graph, id)?.iterate;
    let groups = axis_groups(iterate, &graph.node(id).results[0].shape)?;
    groups.iter().enumerate().find_map(|(axis, group)| match &iterate[group.clone()] {
        [outer, inner] if !outer.extent.is(1) && !inner.extent.is(1) => {
            Some((axis, outer.extent.clone(), inner.extent.clone()))
        }
        _ => None,
    })
}

/// How an op reads a node's only value.
fn reads_of<'g>(graph: &Graph, id: NodeIndex, index: &'g Index, of: NodeIndex) -> Vec<&'g Read> {
    let operands = graph.operands(id);
    let live = index.exprs.reachable(&index.roots());
    let reads = index.exprs.iter().filter(|(id, ..)| live[id.0 as usize]);
    reads
        .filter_map(|(_, expr, _)| match expr {
            Expr::Read(read) if operands[read.port as usize].node == of => Some(read),
            _ => None,
        })
        .collect()
}

fn lone_index(index: &Index, at: ExprId) -> Option<usize> {
    match index.exprs.get(at) {
        Expr::Index(k) => Some(*k as usize),
        _ => None,
    }
}

/// Whether an index is `high * inner + low` of two neighbouring axes with these extents.
fn spells(index: &Index, at: ExprId, outer: &Dim, inner: &Dim) -> bool {
    let Some(Affine { constant, terms }) = affine(&index.exprs, at) else { return false };
    let terms: Vec<(&Leaf, &Dim)> = terms.iter().collect();
    let [(Leaf::Index(high), step), (Leaf::Index(low), one)] = terms[..] else { return false };
    let extents = index.extents();
    constant.is(0)
        && one.is(1)
        && step == inner
        && low == &(high + 1)
        && extents[*high as usize] == *outer
        && extents[*low as usize] == *inner
}

/// An axis that a read divides evenly, and the extents of both digits.
fn digits(index: &Index) -> Option<(usize, Dim, Dim)> {
    let (exprs, extents) = (&index.exprs, index.extents());
    let live = exprs.reachable(&index.roots());
    let reads =
        exprs.iter().filter(|(id, ..)| live[id.0 as usize]).filter_map(|(_, expr, dtype)| match expr {
            Expr::Read(read) if dtype.is_float() => Some(read.index.as_slice()),
            _ => None,
        });
    let indices: Vec<ExprId> = reads.flatten().copied().collect();
    let used = exprs.reachable(&indices);
    exprs.iter().filter(|(id, ..)| used[id.0 as usize]).find_map(|(_, expr, _)| {
        let Expr::Binary(BinaryOp::FloorDiv | BinaryOp::Mod, a, b) = expr else { return None };
        let Expr::Index(k) = exprs.get(*a) else { return None };
        let inner = match exprs.get(*b) {
            Expr::Const(Literal::Int(value)) if *value > 1 => Dim::from(*value),
            Expr::Dim(dim) => dim.clone(),
            _ => return None,
        };
        let outer = extents[*k as usize].exact_div(&inner).filter(|outer| !outer.is(1))?;
        Some((*k as usize, outer, inner))
    })
}

/// Makes two axes of one, of which the second is the faster.
pub(super) fn split(index: &mut Index, axis: usize, outer: Dim, inner: Dim) {
    let mut exprs = Exprs::new();
    let roots = exprs.import(&index.exprs, &index.roots(), &mut |out, leaf, _| match leaf {
        Expr::Index(k) if *k as usize == axis => {
            let (high, low, by) = (out.index(axis), out.index(axis + 1), out.dim(&inner));
            let high = out.binary(BinaryOp::Mul, high, by);
            Some(out.binary(BinaryOp::Add, high, low))
        }
        Expr::Index(k) if *k as usize > axis => Some(out.add(Expr::Index(k + 1), DType::I64)),
        _ => None,
    });
    index.set_roots(exprs, &roots);
    let count = index.iterate.len();
    let (axes, at) = match &mut index.reduce {
        Some(reduce) if axis >= count => (&mut reduce.axes, axis - count),
        _ => (&mut index.iterate, axis),
    };
    axes[at].extent = outer;
    let name = axes[at].name.clone();
    axes.insert(at + 1, Axis::new(inner, &name));
}
