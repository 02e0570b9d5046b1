//! Attention by tiles: no more scores at a time than a tile of queries has with a tile of keys.
//!
//! For each tile of queries the keys go by in tiles. Each row keeps the greatest score so far `m`,
//! the sum `l` of exponentials below it, and their weighted sum of values `o`; where a tile raises
//! `m`, both sums are scaled by `exp(old - new)`. At the end the row is `o / l`. The rows of a tile
//! need nothing of other tiles.
//!
//! Tiles in which no pair takes part are skipped, and those in which all do are not masked
//! ([`super::tiles`] says which). What follows is what the definition gives:
//!
//! - `exp(m - m)` is never taken of an infinite `m`: scores of minus infinity weigh nothing beside
//!   others, and a row that has no others divides zero by zero;
//! - a row without allowed pairs has weighed nothing, and is that instead of a quotient;
//! - a value that is not finite makes NaN of all rows that weigh it by zero, so where there is one
//!   no tile is skipped.

use super::expr::{Env, push_fail};
use super::masks::Masks;
use super::matmul::Operand;
use super::place::Place;
use super::tiles::{Axis as Tiled, Classes};
use super::{FuncCx, Lowered, Work};
use crate::dim::Dim;
use crate::dtype::DType;
use crate::graph::expr::Literal;
use crate::graph::ir::{Graph, MatMul, Op, Value};
use crate::loops::ir::{BufferId, Gemm, Kernel, Local, LoopKind, Matrix, Pointer, Scalar, ScalarId, Stmt};
use crate::ops::scalar::{BinaryOp, UnaryOp};
use crate::passes::attend::{Attend, Quotient};
use std::collections::BTreeMap;

/// Queries of a tile.
pub(super) const TILE_QUERIES: i64 = 64;
/// Keys of a tile where pairs are left out.
pub(super) const TILE_KEYS: i64 = 128;
/// Keys of a tile where all pairs take part.
const TILE_ALL_KEYS: i64 = 512;

/// What the tiles of one attention share.
struct Tiles<'a> {
    attend: &'a Attend,
    /// The values of the expressions' reads; port 0 is never read.
    ports: Vec<Place>,
    /// Index values of the loops around the tiles.
    index: Vec<ScalarId>,
    extents: Vec<Dim>,
    queries: Tiled,
    keys: Tiled,
    q: Strided,
    k: Strided,
    v: Strided,
    /// Contracted size of the scores, and columns of the values.
    depth: Dim,
    width: Dim,
    rows: Rows,
}

/// An operand at the first query or key: steps along it, and along the depth or width.
struct Strided {
    at: Pointer,
    along: ScalarId,
    across: ScalarId,
}

/// A tile of queries and one of keys: where both begin, and how many there are.
pub(super) struct Tile {
    pub query: ScalarId,
    pub key: ScalarId,
    pub rows: ScalarId,
    pub columns: ScalarId,
}

/// What a tile of queries keeps.
struct Rows {
    scores: BufferId,
    most: BufferId,
    sum: BufferId,
    scale: BufferId,
    seen: Option<BufferId>,
    weighted: BufferId,
    /// The product of one tile of keys.
    part: BufferId,
}

impl FuncCx<'_> {
    /// Emits the core of an attention body; `values` has all that the core reads.
    pub(super) fn attend(
        &mut self,
        graph: &Graph,
        attend: &Attend,
        values: &mut BTreeMap<Value, Place>,
        dest: Option<Place>,
        out: &mut Vec<Stmt>,
    ) -> Lowered<Place> {
        let (Op::MatMul(product), Op::MatMul(weighted)) =
            (&graph.node(attend.scores).op, &graph.node(attend.weighted).op)
        else {
            unreachable!("invariant: both are products")
        };
        let operands = |id| graph.operands(id);
        let work = Work { graph, node: attend.weighted, operands: Vec::new(), dests: vec![dest] };
        let dest = self.dest(&work, 0)?;
        let of = |id: Value| values[&id].clone();
        let (score_ports, result_ports) = (operands(attend.scores), operands(attend.weighted));
        let (query, key) = (of(score_ports[attend.query_port]), of(score_ports[1 - attend.query_port]));
        let value = of(result_ports[attend.value_port]);
        // What lies between the products has no place, and nothing reads it.
        let port = |v: &Value| values.get(v).unwrap_or(&query).clone();
        let ports: Vec<Place> = attend.operands.iter().map(port).collect();
        let (query_view, key_view) = match attend.query_port {
            0 => (&product.lhs, &product.rhs),
            _ => (&product.rhs, &product.lhs),
        };
        let value_view = if attend.value_port == 0 { &weighted.lhs } else { &weighted.rhs };
        let query = self.operand(&query, query_view, product, out)?;
        let key = self.operand(&key, key_view, product, out)?;
        let value = self.operand(&value, value_view, weighted, out)?;
        let sums = if attend.quotient == Quotient::After {
            let sum = Value { node: attend.sum, result: 0 };
            let place = self.temp(Some("sum"), DType::F32, &graph.ty(sum).shape)?;
            values.insert(sum, place.clone());
            Some(place)
        } else {
            None
        };
        let mut cx = Emission { graph, attend, product, weighted, sums };
        cx.emit(self, (query, key, value), ports, values, &dest, out)?;
        Ok(dest)
    }

    /// `for var in 0..extent`, with what `emit` gives for the variable.
    pub(super) fn for_each(
        &mut self,
        name: &str,
        extent: ScalarId,
        kind: LoopKind,
        out: &mut Vec<Stmt>,
        emit: impl FnOnce(&mut Self, ScalarId, &mut Vec<Stmt>) -> Lowered<()>,
    ) -> Lowered<()> {
        let mut body = Vec::new();
        if self.as_int(extent) == Some(1) && kind != LoopKind::Vector {
            let zero = self.int(0);
            emit(self, zero, &mut body)?;
            out.extend(body);
            return Ok(());
        }
        let var = self.new_var(name);
        let value = self.var(var);
        emit(self, value, &mut body)?;
        out.push(Stmt::For { var, extent, reverse: false, kind, body });
        Ok(())
    }

    /// A new local with a value.
    pub(super) fn set(&mut self, name: &str, value: ScalarId, out: &mut Vec<Stmt>) -> Local {
        let local = self.new_local(name, self.func.scalars.dtype(value));
        out.push(Stmt::Set { local, value });
        local
    }

    pub(super) fn real(&mut self, value: f64) -> ScalarId {
        self.scalar(Scalar::Const(Literal::Real(value.to_bits())), DType::F32)
    }

    fn exp(&mut self, value: ScalarId) -> ScalarId {
        self.scalar(Scalar::Unary(UnaryOp::Exp, value), DType::F32)
    }

    /// `a * by + b`
    pub(super) fn place_at(&mut self, a: ScalarId, by: ScalarId, b: ScalarId) -> ScalarId {
        let product = self.mul(a, by);
        self.add(product, b)
    }

    fn buffer_of(&mut self, name: &str, elems: &[Dim]) -> Lowered<BufferId> {
        Ok(self.temp(Some(name), DType::F32, elems)?.buffer)
    }
}

/// The graph side of an emission.
struct Emission<'a> {
    graph: &'a Graph,
    attend: &'a Attend,
    product: &'a MatMul,
    weighted: &'a MatMul,
    /// Where the sums of the exponentials go, if something reads them.
    sums: Option<Place>,
}

impl Emission<'_> {
    fn emit(
        &mut self,
        cx: &mut FuncCx<'_>,
        (query, key, value): (Operand, Operand, Operand),
        ports: Vec<Place>,
        values: &BTreeMap<Value, Place>,
        dest: &Place,
        out: &mut Vec<Stmt>,
    ) -> Lowered<()> {
        let attend = self.attend;
        let extents: Vec<Dim> = attend.axes.iter().map(|axis| axis.extent.clone()).collect();
        let zero = cx.int(0);
        let mut index = vec![zero; extents.len()];
        // Rows that are not the tiles' own are loops, as of heads that share keys.
        let mut loops = Vec::new();
        for k in 0..extents.len() {
            if k != attend.keys && k != attend.queries && !extents[k].is(1) {
                let var = cx.new_var(&attend.axes[k].name);
                index[k] = cx.var(var);
                loops.push((var, cx.dim(&extents[k])));
            }
        }
        let mut body = Vec::new();
        let masked = attend.condition.is_some();
        let (rows, columns) = (&extents[attend.queries], &extents[attend.keys]);
        let queries = Tiled::new(cx, rows, TILE_QUERIES);
        let keys = Tiled::new(cx, columns, if masked { TILE_KEYS } else { TILE_ALL_KEYS });
        let depth = self.product.contract.iter().position(|axis| !axis.extent.is(1));
        let wide = (0..attend.result_axes.len())
            .find(|k| attend.result_axes[*k].is_none() && !self.weighted.iterate[*k].extent.is(1));
        let contracted = self.weighted.contract.iter().position(|axis| !axis.extent.is(1)).unwrap_or(0);
        let at_score = |axis: usize| attend.score_axes.iter().position(|k| *k == Some(axis));
        let step = |strides: &[Dim], at: Option<usize>| at.map_or(Dim::ZERO, |k| strides[k].clone());
        let mut strided = |operand: &Operand, along: Dim, across: Dim, by: &[(usize, Dim)]| {
            let mut at = operand.at;
            for (axis, stride) in by {
                let stride = cx.dim(stride);
                at.offset = cx.place_at(index[*axis], stride, at.offset);
            }
            Strided { at, along: cx.dim(&along), across: cx.dim(&across) }
        };
        let around: Vec<(usize, Dim)> = (0..extents.len())
            .filter(|k| *k != attend.keys && *k != attend.queries)
            .map(|k| (k, step(&query.iterate, at_score(k))))
            .collect();
        let q = strided(
            &query,
            step(&query.iterate, at_score(attend.queries)),
            step(&query.contract, depth),
            &around,
        );
        let k = strided(&key, step(&key.iterate, at_score(attend.keys)), step(&key.contract, depth), &[]);
        let v = strided(&value, value.contract[contracted].clone(), step(&value.iterate, wide), &[]);
        let extent_of = |axes: &[crate::graph::ir::Axis], at: Option<usize>| {
            at.map_or(Dim::ONE, |k| axes[k].extent.clone())
        };
        let depth = extent_of(&self.product.contract, depth);
        let width = extent_of(&self.weighted.iterate, wide);
        let (high, across) = (Dim::from(queries.size), Dim::from(keys.size));
        let rows = Rows {
            scores: cx.buffer_of("scores", &[high.clone(), across])?,
            most: cx.buffer_of("most", std::slice::from_ref(&high))?,
            sum: cx.buffer_of("sum", std::slice::from_ref(&high))?,
            scale: cx.buffer_of("scale", std::slice::from_ref(&high))?,
            seen: match masked {
                true => Some(cx.buffer_of("seen", std::slice::from_ref(&high))?),
                false => None,
            },
            weighted: cx.buffer_of("weighted", &[high.clone(), width.clone()])?,
            part: cx.buffer_of("part", &[high, width.clone()])?,
        };
        let tiles = Tiles { attend, ports, index, extents, queries, keys, q, k, v, depth, width, rows };
        let mut classes = Classes::new(attend);
        let masks = match masked {
            true => Some(Masks::new(cx, attend, &tiles.env(), (tiles.queries.size, tiles.keys.size))?),
            false => None,
        };
        let finite = match masked {
            true => Some(tiles.all_finite(cx, &mut body)?),
            false => None,
        };
        let count = tiles.queries.count;
        let mut before = Vec::new();
        let mut each = Vec::new();
        cx.for_each("tile", count, LoopKind::Serial, &mut each, |cx, tile, out| {
            let mut walk = Vec::new();
            tiles.clear(cx, tile, &mut walk)?;
            let mut once = Vec::new();
            let chosen = (&mut classes, masks.as_ref(), finite);
            tiles.walk_keys(cx, tile, chosen, (&mut before, &mut once), &mut walk)?;
            self.finish(cx, &tiles, tile, values, dest, &mut walk)?;
            out.extend(once);
            out.extend(walk);
            Ok(())
        })?;
        body.extend(before);
        body.extend(each);
        for (var, extent) in loops.into_iter().rev() {
            body = vec![Stmt::For { var, extent, reverse: false, kind: LoopKind::Serial, body }];
        }
        out.extend(body);
        Ok(())
    }

    /// Stores the rows of a tile: their quotients, after the product's epilogue.
    fn finish(
        &self,
        cx: &mut FuncCx<'_>,
        tiles: &Tiles<'_>,
        tile: ScalarId,
        values: &BTreeMap<Value, Place>,
        dest: &Place,
        out: &mut Vec<Stmt>,
    ) -> Lowered<()> {
        let attend = tiles.attend;
        let iterate = &self.weighted.iterate;
        let dense;
        let (target, strides) = match dest.strides_over(iterate)? {
            Some(strides) => (dest, strides),
            None => {
                dense = cx.temp(dest.name.as_deref(), DType::F32, &dest.shape)?;
                let strides = super::place::dense_strides(iterate.iter().map(|axis| &axis.extent))?;
                (&dense, strides)
            }
        };
        let (first, rows) = (tiles.queries.first(cx, tile), tiles.queries.points(cx, tile));
        let ports: Vec<Place> = {
            let operands = self.graph.operands(attend.weighted);
            let none = dest.clone();
            // The first two are the product's own and are not read.
            let port = |(k, v): (usize, &Value)| if k < 2 { none.clone() } else { values[v].clone() };
            operands.iter().enumerate().map(port).collect()
        };
        cx.for_each("row", rows, LoopKind::Serial, out, |cx, row, out| {
            let query = cx.add(first, row);
            let sum = cx.load(tiles.rows.sum, row);
            if let Some(place) = &self.sums {
                // One element per row, rows in the order of their axes.
                let mut at = place.offset;
                for (axis, stride) in attend.row_axes.iter().zip(&place.strides) {
                    let Some(axis) = *axis else { continue };
                    let value = if axis == attend.queries { query } else { tiles.index[axis] };
                    let stride = cx.dim(stride);
                    at = cx.place_at(value, stride, at);
                }
                out.push(Stmt::Store { buffer: place.buffer, index: at, value: sum });
            }
            let none = match (attend.quotient, tiles.rows.seen) {
                (Quotient::Masked, Some(seen)) => {
                    let (seen, zero) = (cx.load(seen, row), cx.real(0.0));
                    cx.binary(BinaryOp::Eq, seen, zero)
                }
                _ => {
                    let (keys, zero) = (cx.dim(&tiles.extents[attend.keys]), cx.int(0));
                    cx.binary(BinaryOp::Le, keys, zero)
                }
            };
            let wide = cx.dim(&tiles.width);
            let mut fails = Vec::new();
            let mut inner = Vec::new();
            cx.for_each("column", wide, LoopKind::Vector, &mut inner, |cx, column, out| {
                let at = cx.place_at(row, wide, column);
                let weighed = cx.load(tiles.rows.weighted, at);
                let value = match attend.quotient {
                    Quotient::After => weighed,
                    Quotient::Plain | Quotient::Masked => {
                        let mean = cx.binary(BinaryOp::Div, weighed, sum);
                        cx.select(none, weighed, mean)
                    }
                };
                let zero = cx.int(0);
                let mut index = Vec::with_capacity(iterate.len());
                let mut store = target.offset;
                for (k, axis) in iterate.iter().enumerate() {
                    let value = match attend.result_axes[k] {
                        Some(row) if row == attend.queries => query,
                        Some(row) => tiles.index[row],
                        None if axis.extent.is(1) => zero,
                        None => column,
                    };
                    index.push(value);
                    let stride = cx.dim(&strides[k]);
                    store = cx.place_at(value, stride, store);
                }
                let value = match &self.weighted.epilogue {
                    None => value,
                    Some(epilogue) => {
                        let accumulated = cx.set("acc", value, out);
                        let extents = iterate.iter().map(|axis| axis.extent.clone()).collect();
                        let mut env = Env::new(&epilogue.exprs, index, extents, &ports);
                        env.accumulator = Some(cx.local(accumulated));
                        cx.eval(&env, &[epilogue.body])?.checked(&mut fails)
                    }
                };
                out.push(Stmt::Store { buffer: target.buffer, index: store, value });
                Ok(())
            })?;
            cx.checked_loop(fails, &mut inner);
            out.extend(inner);
            Ok(())
        })?;
        if target != dest {
            cx.copy(target, dest, out)?;
        }
        Ok(())
    }
}

impl FuncCx<'_> {
    /// Puts checks of each iteration into the loop that `stmts` ends in, which is then no longer one
    /// of lanes.
    fn checked_loop(&mut self, fails: Vec<Stmt>, stmts: &mut [Stmt]) {
        if let (false, Some(Stmt::For { kind, body, .. })) = (fails.is_empty(), stmts.last_mut()) {
            *kind = LoopKind::Serial;
            // Behind the value that they may depend on.
            body.splice(1..1, fails);
        }
    }
}

impl Tiles<'_> {
    /// Makes the rows of a tile new.
    fn clear(&self, cx: &mut FuncCx<'_>, tile: ScalarId, out: &mut Vec<Stmt>) -> Lowered<()> {
        let rows = self.queries.points(cx, tile);
        let (zero, low) = (cx.real(0.0), cx.real(f64::NEG_INFINITY));
        let state = [(Some(self.rows.most), low), (Some(self.rows.sum), zero), (self.rows.seen, zero)];
        for (buffer, value) in state {
            let Some(buffer) = buffer else { continue };
            cx.for_each("row", rows, LoopKind::Vector, out, |_, index, out| {
                out.push(Stmt::Store { buffer, index, value });
                Ok(())
            })?;
        }
        let width = cx.dim(&self.width);
        let elems = cx.mul(rows, width);
        cx.for_each("at", elems, LoopKind::Vector, out, |_, index, out| {
            out.push(Stmt::Store { buffer: self.rows.weighted, index, value: zero });
            Ok(())
        })
    }

    /// Whether all values are finite: zero times each of them is zero.
    fn all_finite(&self, cx: &mut FuncCx<'_>, out: &mut Vec<Stmt>) -> Lowered<Local> {
        let zero = cx.real(0.0);
        let total = cx.set("total", zero, out);
        let (keys, width) = (cx.dim(&self.extents[self.attend.keys]), cx.dim(&self.width));
        let gathered = self.v.along == width && cx.as_int(self.v.across) == Some(1);
        let (slow, fast) = match gathered {
            true => (cx.int(1), cx.mul(keys, width)),
            false => (keys, width),
        };
        cx.for_each("key", slow, LoopKind::Serial, out, |cx, key, out| {
            let start = cx.place_at(key, self.v.along, self.v.at.offset);
            cx.for_each("column", fast, LoopKind::Vector, out, |cx, column, out| {
                let at = cx.place_at(column, self.v.across, start);
                let value = cx.load(self.v.at.buffer, at);
                let value = cx.binary(BinaryOp::Mul, value, zero);
                out.push(Stmt::Reduce { local: total, op: BinaryOp::Add, value });
                Ok(())
            })
        })?;
        let total = cx.local(total);
        let finite = cx.binary(BinaryOp::Eq, total, zero);
        Ok(cx.set("finite", finite, out))
    }

    /// All tiles of keys that a tile of queries needs.
    fn walk_keys(
        &self,
        cx: &mut FuncCx<'_>,
        tile: ScalarId,
        (classes, masks, finite): (&mut Classes, Option<&Masks>, Option<Local>),
        (before, once): (&mut Vec<Stmt>, &mut Vec<Stmt>),
        out: &mut Vec<Stmt>,
    ) -> Lowered<()> {
        let Some(condition) = self.attend.condition else {
            return cx.for_each("block", self.keys.count, LoopKind::Serial, out, |cx, block, out| {
                self.visit(cx, (tile, block), None, out)
            });
        };
        let finite = finite.map(|local| cx.local(local));
        let wanted = |cx: &mut FuncCx<'_>, may: ScalarId| match finite {
            Some(finite) => {
                let all = cx.not(finite);
                cx.or(may, all)
            }
            None => may,
        };
        let env = self.env();
        let coarse = self.keys.coarse(cx);
        cx.for_each("group", coarse.count, LoopKind::Serial, out, |cx, group, out| {
            let truth = classes.classify(
                cx,
                &env,
                condition,
                (&self.queries, tile),
                (&coarse, group),
                &self.keys,
                (before, once, out),
                false,
            )?;
            let may = wanted(cx, truth.may);
            let (first, left) = coarse.inner(cx, group, &self.keys);
            let mut inside = Vec::new();
            cx.for_each("block", left, LoopKind::Serial, &mut inside, |cx, block, out| {
                let block = cx.add(first, block);
                let truth = classes.classify(
                    cx,
                    &env,
                    condition,
                    (&self.queries, tile),
                    (&self.keys, block),
                    &self.keys,
                    (before, once, out),
                    true,
                )?;
                let may = wanted(cx, truth.may);
                let mut body = Vec::new();
                self.visit(cx, (tile, block), masks.map(|masks| (masks, truth.must)), &mut body)?;
                cx.branch(may, body, Vec::new(), out);
                Ok(())
            })?;
            cx.branch(may, inside, Vec::new(), out);
            Ok(())
        })
    }

    /// The expressions' environment at the first pair.
    fn env(&self) -> Env<'_> {
        Env::new(&self.attend.exprs, self.index.clone(), self.extents.clone(), &self.ports)
    }

    /// One tile of keys: scores, exponentials, and both sums.
    fn visit(
        &self,
        cx: &mut FuncCx<'_>,
        (tile, block): (ScalarId, ScalarId),
        masks: Option<(&Masks, ScalarId)>,
        out: &mut Vec<Stmt>,
    ) -> Lowered<()> {
        let tile = Tile {
            query: self.queries.first(cx, tile),
            key: self.keys.first(cx, block),
            rows: self.queries.points(cx, tile),
            columns: self.keys.points(cx, block),
        };
        let Tile { query, key, rows, columns } = tile;
        let (zero, one) = (cx.int(0), cx.int(1));
        let pitch = cx.int(self.keys.size);
        let width = cx.dim(&self.width);
        let depth = cx.dim(&self.depth);
        let start = |cx: &mut FuncCx<'_>, operand: &Strided, at: ScalarId| {
            let offset = cx.place_at(at, operand.along, operand.at.offset);
            Pointer { buffer: operand.at.buffer, offset }
        };
        let inside = |buffer: BufferId, strides| Matrix { at: Pointer { buffer, offset: zero }, strides };
        let scores = Gemm {
            m: rows,
            n: columns,
            k: depth,
            outer: Vec::new(),
            lhs: Matrix { at: start(cx, &self.q, query), strides: (self.q.along, self.q.across) },
            rhs: Matrix { at: start(cx, &self.k, key), strides: (self.k.across, self.k.along) },
            out: inside(self.rows.scores, (pitch, one)),
            epilogue: None,
        };
        out.push(Stmt::Kernel(Box::new(Kernel::Gemm(scores))));
        let mut whole = Vec::new();
        self.softmax(cx, &tile, None, &mut whole)?;
        match masks {
            Some((masks, full)) => {
                let mut partial = Vec::new();
                masks.fill(cx, self.attend, &self.env(), &tile, &mut partial)?;
                self.softmax(cx, &tile, Some(masks), &mut partial)?;
                cx.branch(full, whole, partial, out);
            }
            None => out.extend(whole),
        }
        let part = Gemm {
            m: rows,
            n: width,
            k: columns,
            outer: Vec::new(),
            lhs: inside(self.rows.scores, (pitch, one)),
            rhs: Matrix { at: start(cx, &self.v, key), strides: (self.v.along, self.v.across) },
            out: inside(self.rows.part, (width, one)),
            epilogue: None,
        };
        out.push(Stmt::Kernel(Box::new(Kernel::Gemm(part))));
        cx.for_each("row", rows, LoopKind::Serial, out, |cx, row, out| {
            let scale = cx.load(self.rows.scale, row);
            cx.for_each("column", width, LoopKind::Vector, out, |cx, column, out| {
                let index = cx.place_at(row, width, column);
                let (old, new) = (cx.load(self.rows.weighted, index), cx.load(self.rows.part, index));
                let old = cx.binary(BinaryOp::Mul, old, scale);
                let value = cx.binary(BinaryOp::Add, old, new);
                out.push(Stmt::Store { buffer: self.rows.weighted, index, value });
                Ok(())
            })
        })
    }

    /// The rows of a tile: scores become exponentials.
    fn softmax(
        &self,
        cx: &mut FuncCx<'_>,
        tile: &Tile,
        masks: Option<&Masks>,
        out: &mut Vec<Stmt>,
    ) -> Lowered<()> {
        let attend = self.attend;
        let pitch = cx.int(self.keys.size);
        cx.for_each("row", tile.rows, LoopKind::Serial, out, |cx, row, out| {
            let old = cx.load(self.rows.most, row);
            let old = cx.set("old", old, out);
            let old_value = cx.local(old);
            let most = cx.set("most", old_value, out);
            let seen = match (self.rows.seen, masks) {
                (Some(seen), Some(_)) => {
                    let value = cx.load(seen, row);
                    Some((cx.set("seen", value, out), seen))
                }
                _ => None,
            };
            let mut fails = Vec::new();
            let mut inner = Vec::new();
            cx.for_each("column", tile.columns, LoopKind::Vector, &mut inner, |cx, column, out| {
                let index = cx.place_at(row, pitch, column);
                let mut env = self.env();
                env.index[attend.queries] = cx.add(tile.query, row);
                env.index[attend.keys] = cx.add(tile.key, column);
                env.accumulator = Some(cx.load(self.rows.scores, index));
                env.conditional = true;
                let roots = match masks {
                    Some(masks) => {
                        (env.exprs, env.ports) = (&masks.exprs, &masks.ports);
                        masks.at(cx, &mut env, row, column);
                        vec![masks.masked_score, masks.taken]
                    }
                    None => {
                        env.known.extend(attend.condition.map(|condition| (condition, true)));
                        vec![attend.score]
                    }
                };
                let found = cx.eval(&env, &roots)?;
                for fail in found.fails {
                    push_fail(&mut fails, fail);
                }
                let same = env.accumulator == Some(found.values[0]);
                let value = cx.set("score", found.values[0], out);
                let value = cx.local(value);
                if !same {
                    out.push(Stmt::Store { buffer: self.rows.scores, index, value });
                }
                out.push(Stmt::Reduce { local: most, op: BinaryOp::Max, value });
                if let Some((seen, _)) = seen {
                    out.push(Stmt::Reduce { local: seen, op: BinaryOp::Max, value: found.values[1] });
                }
                Ok(())
            })?;
            cx.checked_loop(fails, &mut inner);
            out.extend(inner);
            match (seen, self.rows.seen) {
                (Some((seen, buffer)), _) => {
                    let value = cx.local(seen);
                    out.push(Stmt::Store { buffer, index: row, value });
                }
                (None, Some(buffer)) => {
                    let value = cx.real(1.0);
                    out.push(Stmt::Store { buffer, index: row, value });
                }
                (None, None) => {}
            }
            self.exponentials(cx, row, (old_value, most), (tile.columns, pitch), out)
        })
    }

    /// One row: its exponentials, their sum, and what earlier sums are scaled by.
    fn exponentials(
        &self,
        cx: &mut FuncCx<'_>,
        row: ScalarId,
        (old, most): (ScalarId, Local),
        (columns, pitch): (ScalarId, ScalarId),
        out: &mut Vec<Stmt>,
    ) -> Lowered<()> {
        let (low, zero) = (cx.real(f64::NEG_INFINITY), cx.real(0.0));
        let most = cx.local(most);
        out.push(Stmt::Store { buffer: self.rows.most, index: row, value: most });
        let none = cx.binary(BinaryOp::Eq, most, low);
        let base = cx.select(none, zero, most);
        let base = cx.set("base", base, out);
        let base = cx.local(base);
        let total = cx.set("total", zero, out);
        cx.for_each("column", columns, LoopKind::Vector, out, |cx, column, out| {
            let index = cx.place_at(row, pitch, column);
            let score = cx.load(self.rows.scores, index);
            let below = cx.binary(BinaryOp::Sub, score, base);
            let value = cx.exp(below);
            let value = cx.set("weight", value, out);
            let value = cx.local(value);
            out.push(Stmt::Store { buffer: self.rows.scores, index, value });
            out.push(Stmt::Reduce { local: total, op: BinaryOp::Add, value });
            Ok(())
        })?;
        let below = cx.binary(BinaryOp::Sub, old, base);
        let scale = cx.exp(below);
        let scale = cx.set("scale", scale, out);
        let scale = cx.local(scale);
        out.push(Stmt::Store { buffer: self.rows.scale, index: row, value: scale });
        let sum = cx.load(self.rows.sum, row);
        let sum = cx.binary(BinaryOp::Mul, sum, scale);
        let total = cx.local(total);
        let value = cx.binary(BinaryOp::Add, sum, total);
        out.push(Stmt::Store { buffer: self.rows.sum, index: row, value });
        Ok(())
    }
}
