//! Attention by blocks of queries: which ops of a region's body have a row for each query.
//!
//! Attention that is not attention by tiles (`attend`), because its scores are no single product or
//! because its weights are results as well, still needs its scores for some queries at a time only. Takes
//! the body of a region and says, for one axis of its last op, which axis of every op before it is that
//! one: these ops can run for a block of queries, one block after another, with all that they hold for
//! themselves being as long as a block. What has no such axis runs once, before the first block.

use super::Changed;
use super::regions::{iterate_of, rows_by_index};
use super::walk::{Vars, walk};
use crate::dim::Dim;
use crate::graph::affine::Ranges;
use crate::graph::ir::{Graph, MatMul, Op, Program, RegionKind, Value};
use petgraph::stable_graph::NodeIndex;
use std::collections::BTreeMap;

/// Queries of a block.
pub const BLOCK_QUERIES: i64 = 64;

/// Marks the attention regions that hold whole scores and need not.
pub fn block_attention(program: &mut Program) -> Changed {
    let mut changed = false;
    for function in &mut program.functions {
        walk(&mut function.graph, &Vars::new(), &mut |graph, _| {
            for id in graph.topological() {
                if let Op::Region(region) = &mut graph.dag[id].op
                    && region.kind == RegionKind::Attention
                    && Blocks::find(&region.body).is_some()
                {
                    region.kind = RegionKind::BlockedAttention;
                    changed = true;
                }
            }
        });
    }
    Changed::from(changed)
}

/// The queries in the body of an attention region.
#[derive(Clone, Debug)]
pub struct Blocks {
    /// How many there are.
    pub extent: Dim,
    /// Which axis of each op walks over them.
    pub axes: BTreeMap<NodeIndex, usize>,
}

impl Blocks {
    /// The queries of a body, if what it holds for itself grows with them and blocks make it small.
    pub fn find(body: &Graph) -> Option<Blocks> {
        let order = body.topological();
        let last = *order.iter().rev().find(|id| body.results.iter().any(|r| r.node == **id))?;
        let iterate = iterate_of(&body.node(last).op)?;
        let long = |k: &usize| iterate[*k].extent.as_const().is_none_or(|known| known > BLOCK_QUERIES);
        let candidates = (0..iterate.len()).filter(long).filter_map(|axis| {
            let axes = axes_from(body, &order, last, axis);
            let large = axes.keys().any(|id| *id != last && body.node(*id).results[0].shape.len() > 1);
            large.then(|| Blocks { extent: iterate[axis].extent.clone(), axes })
        });
        candidates.max_by_key(|blocks| blocks.axes.len())
    }
}

/// The ops before `last` that have its axis and are only read along it.
fn axes_from(body: &Graph, order: &[NodeIndex], last: NodeIndex, axis: usize) -> BTreeMap<NodeIndex, usize> {
    let mut axes = BTreeMap::from([(last, axis)]);
    for id in order.iter().rev().filter(|id| **id != last) {
        let users = body.users(*id);
        if users.is_empty() || !matches!(body.node(*id).op, Op::Index(_) | Op::MatMul(_)) {
            continue;
        }
        let value = Value { node: *id, result: 0 };
        let mut found = users.iter().map(|user| read_along(body, *user, value, *axes.get(user)?));
        if let Some(Some(first)) = found.next()
            && found.all(|at| at == Some(first))
        {
            axes.insert(*id, first);
        }
    }
    axes
}

/// The axis of a value that an op reads along one of its own.
fn read_along(body: &Graph, reader: NodeIndex, value: Value, axis: usize) -> Option<usize> {
    let by_index = |indices: Vec<Dim>| {
        let ranges = Ranges { indices, vars: Vars::new() };
        rows_by_index(body, reader, value, &[axis], &ranges).map(|rows| rows[0])
    };
    match &body.node(reader).op {
        Op::Index(index) => by_index(index.extents()),
        Op::MatMul(product) => {
            let operands = body.operands(reader);
            let multiplied = operands[..2].contains(&value);
            let after = operands[2..].contains(&value);
            let indices = || product.iterate.iter().map(|axis| axis.extent.clone()).collect();
            let multiplied =
                if multiplied { Some(by_stride(body, product, &operands, value, axis)?) } else { None };
            let after = if after { Some(by_index(indices())?) } else { None };
            match (multiplied, after) {
                (Some(a), Some(b)) => (a == b).then_some(a),
                (one, other) => one.or(other),
            }
        }
        _ => None,
    }
}

/// The axis of a factor along which a product reads it where it walks along one of its own.
fn by_stride(body: &Graph, product: &MatMul, operands: &[Value], value: Value, axis: usize) -> Option<usize> {
    let view = match (operands[0] == value, operands[1] == value) {
        (true, false) => &product.lhs,
        (false, true) => &product.rhs,
        _ => return None,
    };
    let iterate = iterate_of(&body.node(value.node).op)?;
    let extent = &product.iterate[axis].extent;
    let at = (0..iterate.len()).find(|k| {
        iterate[*k].extent == *extent && stride(body, value, *k).as_ref() == Some(&view.iterate[axis])
    })?;
    (view.offset.is(0) && view.vars.is_empty() && product.pick.is_none()).then_some(at)
}

/// The step along an axis of a dense value.
pub fn stride(body: &Graph, value: Value, axis: usize) -> Option<Dim> {
    Dim::product(&body.ty(value).shape[axis + 1..]).ok()
}
