//! Values that are put together from others: written in place instead of copied.
//!
//! A concatenation, or a copy with a border, is made of boxes, each a whole value or a constant. What
//! computes such a value may store it in its box at once: the box is a [`Place`] with strides of its own. Then
//! nothing is left of the op but its constants, and values that something keeps from being placed.
//!
//! A value is placed where its producer writes to any place and all others that read it can follow strides:
//! index ops can, products can where rows of a plane are long enough to be products of their own, since
//! rows in a box are no longer one behind the other.

use super::place::Place;
use super::{FuncCx, Lowered};
use crate::dim::Dim;
use crate::graph::affine::{Leaf, affine};
use crate::graph::expr::{Expr, ExprId, Literal};
use crate::graph::ir::{Graph, Index, MatMul, Op, RegionKind, Role, Value};
use crate::loops::ir::{LoopKind, Pointer, Scalar, ScalarId, Stmt};
use crate::ops::scalar::BinaryOp;
use petgraph::stable_graph::NodeIndex;
use std::collections::BTreeMap;

/// Pieces of an op at most.
const MAX_PIECES: usize = 64;
/// Rows that a product should have where those of one row of a plane are all it has at once.
const MIN_ROWS: i64 = 8;

/// A range of each axis of the result: from a constant, so many.
type Bounds = Vec<(i64, Dim)>;

/// What fills a box.
#[derive(Clone, Debug)]
enum Filling {
    /// A constant.
    Constant(Literal),
    /// A whole value; for each of its axes, the axis of the result along which it lies.
    Value(Value, Vec<Option<usize>>),
}

/// A box of a result.
#[derive(Clone, Debug)]
struct Piece {
    bounds: Bounds,
    filling: Filling,
}

/// The ops of a graph that put values together, and which values are written to their places at once.
#[derive(Default)]
pub(super) struct Assembly {
    pieces: BTreeMap<NodeIndex, Vec<Piece>>,
    /// Of a value that is placed: the op, and which piece it is.
    placed: BTreeMap<Value, (NodeIndex, usize)>,
    /// Where results lie that have been given a place before their turn.
    homes: BTreeMap<NodeIndex, Place>,
}

impl Assembly {
    /// Finds them.
    pub(super) fn of(graph: &Graph) -> Assembly {
        let mut assembly = Assembly::default();
        for id in graph.topological() {
            let Op::Index(index) = &graph.node(id).op else { continue };
            let operands = graph.operands(id);
            let Some(pieces) = pieces(graph, index, &graph.node(id).results[0].shape, &operands) else {
                continue;
            };
            let mut any = false;
            for (at, piece) in pieces.iter().enumerate() {
                if let Filling::Value(value, _) = &piece.filling
                    && !assembly.placed.contains_key(value)
                    && may_be_placed(graph, *value, id)
                {
                    assembly.placed.insert(*value, (id, at));
                    any = true;
                }
            }
            if any {
                assembly.pieces.insert(id, pieces);
            }
        }
        assembly
    }
}

/// The boxes that an op without computation is made of.
fn pieces(graph: &Graph, index: &Index, shape: &[Dim], operands: &[Value]) -> Option<Vec<Piece>> {
    let same =
        index.iterate.len() == shape.len() && index.iterate.iter().zip(shape).all(|(a, s)| a.extent == *s);
    if !same || index.reduce.is_some() || index.guard.is_some() {
        return None;
    }
    let whole: Bounds = shape.iter().map(|extent| (0, extent.clone())).collect();
    let mut pending = vec![(index.body, whole)];
    let mut pieces = Vec::new();
    while let Some((id, bounds)) = pending.pop() {
        if pieces.len() >= MAX_PIECES {
            return None;
        }
        match index.exprs.get(id) {
            Expr::Const(value) => pieces.push(Piece { bounds, filling: Filling::Constant(*value) }),
            Expr::Select(condition, then, otherwise) => {
                let (axis, at, below) = threshold(index, *condition)?;
                let (low, high) = cut(&bounds, axis, at)?;
                let (inside, outside) = if below { (low, high) } else { (high, low) };
                pending.push((*otherwise, outside));
                pending.push((*then, inside));
            }
            Expr::Read(read) => {
                let value = operands[read.port as usize];
                let otherwise = match read.otherwise.map(|id| index.exprs.get(id)) {
                    None => None,
                    Some(Expr::Const(value)) => Some(*value),
                    Some(_) => return None,
                };
                boxed(graph, index, &read.index, value, &bounds, otherwise, &mut pieces)?;
            }
            _ => return None,
        }
    }
    Some(pieces)
}

/// `index < at`, or `index >= at` if not `below`.
fn threshold(index: &Index, condition: ExprId) -> Option<(usize, i64, bool)> {
    let Expr::Binary(op, a, b) = index.exprs.get(condition) else { return None };
    let Some(Leaf::Index(axis)) = affine(&index.exprs, *a)?.as_leaf() else { return None };
    let form = affine(&index.exprs, *b)?;
    let at = form.constant.as_const().filter(|_| form.terms.is_empty())?;
    let axis = axis as usize;
    match op {
        BinaryOp::Lt => Some((axis, at, true)),
        BinaryOp::Le => Some((axis, at.checked_add(1)?, true)),
        BinaryOp::Ge => Some((axis, at, false)),
        BinaryOp::Gt => Some((axis, at.checked_add(1)?, false)),
        _ => None,
    }
}

/// The parts of a box below an index and from it on.
fn cut(bounds: &Bounds, axis: usize, at: i64) -> Option<(Bounds, Bounds)> {
    let (from, extent) = &bounds[axis];
    let end = from.checked_add(extent.as_const()?)?;
    if at <= *from || at >= end {
        return None;
    }
    let (mut low, mut high) = (bounds.clone(), bounds.clone());
    low[axis] = (*from, Dim::from(at - from));
    high[axis] = (at, Dim::from(end - at));
    Some((low, high))
}

/// A value in a box, with constants around it.
fn boxed(
    graph: &Graph,
    index: &Index,
    at: &[ExprId],
    value: Value,
    bounds: &Bounds,
    border: Option<Literal>,
    pieces: &mut Vec<Piece>,
) -> Option<()> {
    let shape = &graph.ty(value).shape;
    let mut along = vec![None; shape.len()];
    let mut inside = bounds.clone();
    let mut seen = vec![false; bounds.len()];
    for (k, (expr, extent)) in at.iter().zip(shape).enumerate() {
        let form = affine(&index.exprs, *expr)?;
        let Some((Leaf::Index(axis), one)) = form.terms.first_key_value() else {
            // Of an axis of one point, the point.
            if form.terms.is_empty() && form.constant.is(0) && extent.is(1) {
                continue;
            }
            return None;
        };
        let axis = *axis as usize;
        if form.terms.len() != 1 || !one.is(1) || std::mem::replace(&mut seen[axis], true) {
            return None;
        }
        let first = form.constant.as_const()?.checked_neg()?;
        along[k] = Some(axis);
        let (from, room) = &bounds[axis];
        if first == *from && room == extent {
            continue;
        }
        // Inside along this axis: a border before and behind it.
        let (room, extent) = (room.as_const()?, extent.as_const()?);
        if first < *from || first.checked_add(extent)? > from.checked_add(room)? {
            return None;
        }
        inside[axis] = (first, Dim::from(extent));
    }
    let left_out = |axis: usize| !seen[axis] && !bounds[axis].1.is(1);
    if (0..bounds.len()).any(left_out) {
        return None;
    }
    let mut rest = bounds.clone();
    for axis in 0..bounds.len() {
        if rest[axis] == inside[axis] {
            continue;
        }
        let border = border?;
        let ((from, room), (first, extent)) = (rest[axis].clone(), inside[axis].clone());
        let (end, last) = (from + room.as_const()?, first + extent.as_const()?);
        for (start, stop) in [(from, first), (last, end)] {
            if start < stop {
                let mut part = rest.clone();
                part[axis] = (start, Dim::from(stop - start));
                pieces.push(Piece { bounds: part, filling: Filling::Constant(border) });
            }
        }
        rest[axis] = (first, extent);
    }
    pieces.push(Piece { bounds: inside, filling: Filling::Value(value, along) });
    Some(())
}

/// Whether a value may lie in a box of the result of `target`.
fn may_be_placed(graph: &Graph, value: Value, target: NodeIndex) -> bool {
    let node = graph.node(value.node);
    let empty = node.results[value.result as usize].shape.iter().any(|extent| extent.is(0));
    if graph.results.contains(&value) || node.results.len() != 1 || empty {
        return false;
    }
    let writes = match &node.op {
        // A view of another value is no copy of it.
        Op::Index(index) => !matches!(index.exprs.get(index.body), Expr::Read(_)) || index.reduce.is_some(),
        Op::MatMul(product) => has_long_rows(product),
        Op::Region(region) => region.kind == RegionKind::Tiles,
        _ => false,
    };
    let follows = |user: &NodeIndex| *user == target || matches!(&graph.node(*user).op, Op::Index(_));
    writes && graph.users(value.node).iter().all(follows)
}

/// Whether a product's rows are not fewer than makes sense if those of one axis are all there are at once.
fn has_long_rows(product: &MatMul) -> bool {
    let mut rows = (0..product.iterate.len())
        .filter(|k| product.roles[*k] == Role::M && !product.iterate[*k].extent.is(1))
        .map(|k| product.iterate[k].extent.as_const());
    product.pick.is_none() && rows.next_back().is_some_and(|last| last.is_none_or(|rows| rows >= MIN_ROWS))
}

impl FuncCx<'_> {
    /// Where a result is to be written that is a piece of another one.
    pub(super) fn place_in_box(
        &mut self,
        graph: &Graph,
        assembly: &mut Assembly,
        wanted: &BTreeMap<Value, Place>,
        value: Value,
    ) -> Lowered<Option<Place>> {
        let Some((target, at)) = assembly.placed.get(&value).copied() else { return Ok(None) };
        let home = match assembly.homes.get(&target) {
            Some(home) => home.clone(),
            None => {
                let result = Value { node: target, result: 0 };
                let node = graph.node(target);
                let home = match wanted.get(&result) {
                    Some(place) => place.clone(),
                    None => match self.place_in_box(graph, assembly, wanted, result)? {
                        Some(place) => place,
                        None => {
                            let ty = &node.results[0];
                            self.temp(node.name.as_deref(), ty.dtype, &ty.shape)?
                        }
                    },
                };
                assembly.homes.insert(target, home.clone());
                home
            }
        };
        let piece = assembly.pieces[&target][at].clone();
        let Filling::Value(_, along) = &piece.filling else { return Ok(None) };
        let mut place = home.clone();
        place.offset = self.corner(&home, &piece.bounds)?;
        place.shape.clone_from(&graph.ty(value).shape);
        place.strides =
            along.iter().map(|axis| axis.map_or(Dim::ZERO, |axis| home.strides[axis].clone())).collect();
        place.name.clone_from(&graph.node(value.node).name);
        Ok(Some(place))
    }

    /// What is left to do of an op whose values are in their places, or some of them; `None` where it is not
    /// such an op.
    pub(super) fn assembled(
        &mut self,
        assembly: &Assembly,
        id: NodeIndex,
        values: &BTreeMap<Value, Place>,
        out: &mut Vec<Stmt>,
    ) -> Lowered<Option<Place>> {
        let (Some(home), Some(pieces)) = (assembly.homes.get(&id), assembly.pieces.get(&id)) else {
            return Ok(None);
        };
        for (at, piece) in pieces.iter().enumerate() {
            match &piece.filling {
                Filling::Value(value, _) if assembly.placed.get(value) == Some(&(id, at)) => {}
                Filling::Value(value, along) => {
                    let from = &values[value];
                    let mut strides = vec![Dim::ZERO; home.shape.len()];
                    for (axis, stride) in along.iter().zip(&from.strides) {
                        if let Some(axis) = axis {
                            strides[*axis] = stride.clone();
                        }
                    }
                    self.fill_box(home, &piece.bounds, Source::Elements(from.pointer(), strides), out)?;
                }
                Filling::Constant(value) => {
                    self.fill_box(home, &piece.bounds, Source::Constant(*value), out)?;
                }
            }
        }
        Ok(Some(home.clone()))
    }

    /// The offset of the first element of a box.
    fn corner(&mut self, home: &Place, bounds: &Bounds) -> Lowered<ScalarId> {
        let mut corner = Dim::ZERO;
        for ((from, _), stride) in bounds.iter().zip(&home.strides) {
            corner = corner.add(&stride.mul(&Dim::from(*from))?)?;
        }
        let corner = self.dim(&corner);
        Ok(self.add(home.offset, corner))
    }

    /// Stores a box.
    fn fill_box(
        &mut self,
        home: &Place,
        bounds: &Bounds,
        source: Source,
        out: &mut Vec<Stmt>,
    ) -> Lowered<()> {
        let mut to = self.corner(home, bounds)?;
        let (buffer, mut from, steps) = match source {
            Source::Constant(value) => (
                None,
                self.scalar(Scalar::Const(value), self.func.buffers[home.buffer.0 as usize].dtype),
                Vec::new(),
            ),
            Source::Elements(pointer, steps) => (Some(pointer.buffer), pointer.offset, steps),
        };
        let mut loops = Vec::new();
        let mut even = true;
        for (axis, (_, extent)) in bounds.iter().enumerate().filter(|(_, (_, extent))| !extent.is(1)) {
            let var = self.new_var("i");
            let position = self.var(var);
            to = self.stepped(to, position, &home.strides[axis]);
            even = home.strides[axis].is(1);
            if let Some(step) = steps.get(axis) {
                from = self.stepped(from, position, step);
                even &= step.is(1);
            }
            loops.push((var, self.dim(extent)));
        }
        let value = buffer.map_or(from, |buffer| self.load(buffer, from));
        let mut body = vec![Stmt::Store { buffer: home.buffer, index: to, value }];
        for (at, (var, extent)) in loops.iter().copied().enumerate().rev() {
            let kind = match at + 1 == loops.len() {
                true if even => LoopKind::Vector,
                true => LoopKind::Serial,
                false => LoopKind::Parallel,
            };
            body = vec![Stmt::For { var, extent, reverse: false, kind, body }];
        }
        out.extend(body);
        Ok(())
    }
}

/// What is stored in a box.
enum Source {
    Constant(Literal),
    /// From an element on, with strides over the axes of the result.
    Elements(Pointer, Vec<Dim>),
}
