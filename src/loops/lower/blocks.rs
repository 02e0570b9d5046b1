//! Attention by blocks of queries: the ops of a region's body, for some queries at a time.
//!
//! The body is lowered as it is, with the axis of the queries as long as a block: a size that is known
//! only when a block runs, since the last one may be shorter. Formulas with it become arithmetic
//! ([`FuncCx::dim`]), buffers have room for a whole block, and an index of a query counts from the
//! block's first. What the body holds for itself then does not grow with the number of queries.

use super::place::Place;
use super::tiles::Axis as Tiled;
use super::{FuncCx, Lowered, Position, Work};
use crate::dim::{Atom, Dim, DimError, Symbol};
use crate::dtype::DType;
use crate::graph::affine::Interval;
use crate::graph::expr::{Expr, ExprId, Exprs, VarId};
use crate::graph::ir::{Graph, Index, MatMul, Op, Value, View};
use crate::loops::ir::{LoopKind, ScalarId, Stmt};
use crate::ops::scalar::BinaryOp;
use crate::passes::blocks::{BLOCK_QUERIES, Blocks, stride};
use petgraph::stable_graph::NodeIndex;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The position of a block's first query; no pass hands it out.
const FIRST: VarId = VarId(u32::MAX);

/// The block that is being lowered.
pub(super) struct Block {
    /// What its length is called in shapes.
    length: Symbol,
    /// Its length.
    points: ScalarId,
    /// The length of all blocks but perhaps the last.
    most: i64,
    /// Of all blocks together.
    whole: Dim,
}

impl Block {
    /// A formula at the greatest length.
    pub(super) fn most(&self, dim: &Dim) -> Result<Dim, DimError> {
        dim.substitute(&|symbol| (*symbol == self.length).then(|| Dim::from(self.most)))
    }

    fn is_in(&self, dim: &Dim) -> bool {
        dim.as_const().is_none() && dim.symbols().contains(&self.length)
    }
}

impl FuncCx<'_> {
    /// Emits the body of a region block by block.
    pub(super) fn by_blocks(
        &mut self,
        body: &Graph,
        blocks: &Blocks,
        args: &[Place],
        dests: &[Place],
        out: &mut Vec<Stmt>,
    ) -> Lowered<()> {
        let mut wanted: BTreeMap<Value, Place> = BTreeMap::new();
        for (value, dest) in body.results.iter().zip(dests) {
            wanted.entry(*value).or_insert_with(|| dest.clone());
        }
        let mut values: BTreeMap<Value, Place> = BTreeMap::new();
        for (arg, place) in body.args.iter().zip(args) {
            values.insert(Value { node: *arg, result: 0 }, place.clone());
        }
        let order: Vec<NodeIndex> =
            body.topological().into_iter().filter(|id| !body.args.contains(id)).collect();
        for id in order.iter().filter(|id| !blocks.axes.contains_key(id)) {
            self.block_node(body, *id, &wanted, &mut values, out)?;
        }
        let tiled = Tiled::new(self, &blocks.extent, BLOCK_QUERIES);
        let length = Symbol::new("queries", u32::MAX);
        let inner = in_block(body, blocks, &length)?;
        let rows = Dim::symbol(length.clone());
        self.for_each("block", tiled.count, LoopKind::Serial, out, |cx, block, out| {
            let (first, points) = (tiled.first(cx, block), tiled.points(cx, block));
            cx.block = Some(Block { length, points, most: tiled.size, whole: blocks.extent.clone() });
            // A whole block's points follow the first one.
            let room = blocks.extent.sub(&rows)?;
            let extent = room.add(&Dim::ONE)?;
            let name: Arc<str> = "block".into();
            cx.positions.insert(FIRST, Position { scalar: first, start: Dim::ZERO, extent, name });
            cx.ranges.insert(FIRST, Interval { low: Some(Dim::ZERO), high: Some(room) });
            for (value, dest) in &mut wanted {
                if let Some(axis) = blocks.axes.get(&value.node) {
                    let step = dest.strides[*axis].clone();
                    dest.offset = cx.stepped(dest.offset, first, &step);
                    dest.shape[*axis] = rows.clone();
                }
            }
            for id in order.iter().filter(|id| blocks.axes.contains_key(id)) {
                cx.block_node(&inner, *id, &wanted, &mut values, out)?;
            }
            cx.positions.remove(&FIRST);
            cx.ranges.remove(&FIRST);
            cx.block = None;
            Ok(())
        })
    }

    /// Emits what is to stand before all blocks, as what is checked once per call: as if all queries were
    /// one block.
    pub(super) fn as_one_block<T>(&mut self, emit: impl FnOnce(&mut Self) -> T) -> T {
        let Some(whole) = self.block.as_ref().map(|block| block.whole.clone()) else { return emit(self) };
        let (all, zero) = (self.whole_dim(&whole), self.int(0));
        let exchange = |cx: &mut Self, points: ScalarId, first: ScalarId, extent: Dim| {
            let old = cx.block.as_mut().map(|block| std::mem::replace(&mut block.points, points));
            let position = cx.positions.get_mut(&FIRST).map(|position| {
                let old = (position.scalar, position.extent.clone());
                (position.scalar, position.extent) = (first, extent);
                old
            });
            old.zip(position)
        };
        let saved = exchange(self, all, zero, Dim::ONE);
        let emitted = emit(self);
        if let Some((points, (first, extent))) = saved {
            exchange(self, points, first, extent);
        }
        emitted
    }

    fn block_node(
        &mut self,
        graph: &Graph,
        id: NodeIndex,
        wanted: &BTreeMap<Value, Place>,
        values: &mut BTreeMap<Value, Place>,
        out: &mut Vec<Stmt>,
    ) -> Lowered<()> {
        let node = graph.node(id);
        self.span = node.span;
        let value = Value { node: id, result: 0 };
        let operands = graph.operands(id).iter().map(|v| values[v].clone()).collect();
        let dest = wanted.get(&value).cloned();
        let mut places = self.node(&Work { graph, node: id, operands, dests: vec![dest.clone()] }, out)?;
        let mut place = places.pop().expect("invariant: an op of a body has one result");
        if let Some(dest) = dest.filter(|dest| (place.buffer, place.offset) != (dest.buffer, dest.offset)) {
            self.copy(&place, &dest, out)?;
            place = dest;
        }
        place.name = node.name.clone().or(place.name);
        values.insert(value, place);
        Ok(())
    }

    /// A formula in which a block's length may occur.
    pub(super) fn dim(&mut self, dim: &Dim) -> ScalarId {
        match &self.block {
            Some(block) if block.is_in(dim) => self.dim_in_block(dim),
            _ => self.whole_dim(dim),
        }
    }

    fn dim_in_block(&mut self, dim: &Dim) -> ScalarId {
        let mut sum = self.int(0);
        for (monomial, coefficient) in dim.terms() {
            let mut product = self.int(*coefficient);
            for (atom, exponent) in monomial {
                let factor = self.atom_in_block(atom);
                for _ in 0..*exponent {
                    product = self.mul(product, factor);
                }
            }
            sum = self.add(sum, product);
        }
        sum
    }

    fn atom_in_block(&mut self, atom: &Atom) -> ScalarId {
        let (op, a, b) = match atom {
            Atom::Symbol(symbol) => {
                return match &self.block {
                    Some(block) if block.length == *symbol => block.points,
                    _ => self.whole_dim(&Dim::symbol(symbol.clone())),
                };
            }
            Atom::FloorDiv(a, b) => (BinaryOp::FloorDiv, a, b),
            Atom::Mod(a, b) => (BinaryOp::Mod, a, b),
            Atom::Min(a, b) => (BinaryOp::Min, a, b),
            Atom::Max(a, b) => (BinaryOp::Max, a, b),
        };
        let (a, b) = (self.dim(a), self.dim(b));
        self.binary(op, a, b)
    }
}

/// The body with the queries of a block in place of all.
fn in_block(body: &Graph, blocks: &Blocks, length: &Symbol) -> Lowered<Graph> {
    let mut inner = body.clone();
    let rows = Dim::symbol(length.clone());
    for (id, axis) in &blocks.axes {
        let operands = body.operands(*id);
        let op = match &body.node(*id).op {
            Op::Index(index) => Op::Index(index_in_block(index, *axis, &operands, blocks, &rows)),
            Op::MatMul(product) => {
                Op::MatMul(Box::new(product_in_block(body, product, *axis, &operands, blocks, &rows)?))
            }
            other => other.clone(),
        };
        let node = &mut inner.dag[*id];
        node.op = op;
        node.results[0].shape[*axis] = rows.clone();
    }
    Ok(inner)
}

fn index_in_block(index: &Index, axis: usize, operands: &[Value], blocks: &Blocks, rows: &Dim) -> Index {
    let (exprs, roots) = exprs_in_block(&index.exprs, &index.roots(), axis, operands, blocks);
    let mut inner = index.clone();
    inner.iterate[axis].extent = rows.clone();
    inner.set_roots(exprs, &roots);
    inner
}

/// Expressions whose query counts from the block's first: what all queries have is read behind that one,
/// and what only the block has from its start.
fn exprs_in_block(
    source: &Exprs,
    roots: &[ExprId],
    axis: usize,
    operands: &[Value],
    blocks: &Blocks,
) -> (Exprs, Vec<ExprId>) {
    let mut exprs = Exprs::new();
    let roots = exprs.map(source, roots, &mut |out, expr, dtype| match expr {
        Expr::Index(k) if k as usize == axis => {
            let (first, index) = (out.add(Expr::Var(FIRST), DType::I64), out.index(axis));
            out.binary(BinaryOp::Add, first, index)
        }
        Expr::Read(mut read) => {
            let inside = operands.get(read.port as usize).and_then(|value| blocks.axes.get(&value.node));
            if let Some(at) = inside.and_then(|along| read.index.get_mut(*along)) {
                *at = out.index(axis);
            }
            out.add(Expr::Read(read), dtype)
        }
        other => out.add(other, dtype),
    });
    (exprs, roots)
}

fn product_in_block(
    body: &Graph,
    product: &MatMul,
    axis: usize,
    operands: &[Value],
    blocks: &Blocks,
    rows: &Dim,
) -> Lowered<MatMul> {
    let mut inner = product.clone();
    inner.iterate[axis].extent = rows.clone();
    for (view, value) in [&mut inner.lhs, &mut inner.rhs].into_iter().zip(operands) {
        match blocks.axes.get(&value.node) {
            Some(along) => shorten(view, body, *value, *along, blocks, rows)?,
            None if !view.iterate[axis].is(0) => view.vars.push((FIRST, view.iterate[axis].clone())),
            None => {}
        }
    }
    if let Some(epilogue) = &mut inner.epilogue {
        let (exprs, roots) = exprs_in_block(&epilogue.exprs, &[epilogue.body], axis, operands, blocks);
        (epilogue.exprs, epilogue.body) = (exprs, roots[0]);
    }
    Ok(inner)
}

/// Steps over a value whose queries are those of a block: along the axes around these they are shorter.
fn shorten(
    view: &mut View,
    body: &Graph,
    value: Value,
    along: usize,
    blocks: &Blocks,
    rows: &Dim,
) -> Lowered<()> {
    let Some(step) = stride(body, value, along) else { return Ok(()) };
    let (whole, short) = (step.mul(&blocks.extent)?, step.mul(rows)?);
    for stride in view.iterate.iter_mut().chain(&mut view.contract) {
        if let Some(times) = stride.exact_div(&whole) {
            *stride = times.mul(&short)?;
        }
    }
    Ok(())
}
