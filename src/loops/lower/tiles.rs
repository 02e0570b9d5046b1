//! Which tiles of pairs take part in attention: all of a tile's pairs, none of them, or some.
//!
//! Takes a condition over a query and a key and emits, for a tile, whether it *may* hold for a pair
//! and whether it *must* hold for all: interval arithmetic over the bounds of the tile, as scalar
//! code. What a call reads of its tensors is bounded too: at positions of queries once per tile of
//! queries; at positions of keys in tables, made before everything else in one pass over the keys;
//! in a table over both, as of blocks, over the part that the tile reaches. Anything else may hold
//! and need not, so that its tile is computed with exact evaluation of every pair.
//!
//! Tables are asked for groups of tiles first, so that what is far from a window costs nothing.
//! Integers are followed as far as they provably fit in 64 bits; a value from a tensor that is too
//! large for that makes its comparison undecided. Reads that fail are errors of the call: a tile
//! where one may fail is computed, and fails there.

use super::expr::Env;
use super::{FuncCx, Lowered};
use crate::dim::Dim;
use crate::dtype::DType;
use crate::graph::expr::{Expr, ExprId, Literal, Read};
use crate::loops::ir::{BufferId, Local, LoopKind, ScalarId, Stmt};
use crate::ops::scalar::{BinaryOp, UnaryOp};
use crate::passes::attend::Attend;
use std::collections::BTreeMap;

/// Tiles of keys that are asked for together first.
const GROUP: i64 = 16;
/// Bits of indices, sizes and what tensors hold, as far as they are followed.
const LEAF_BITS: u32 = 40;
/// Bits that sums and products may have.
const MAX_BITS: u32 = 62;
/// Elements of a table over queries and keys that one tile looks at.
const MAX_LOOKED_AT: i64 = 1 << 14;
/// Expressions that the walk over one condition looks at.
const MAX_VISITS: u32 = 400;

/// An axis in tiles; the last one may be shorter.
pub(super) struct Axis {
    extent: Dim,
    /// Points of a whole tile.
    pub size: i64,
    /// Number of tiles.
    pub count: ScalarId,
}

impl Axis {
    pub(super) fn new(cx: &mut FuncCx<'_>, extent: &Dim, size: i64) -> Axis {
        let size = extent.as_const().map_or(size, |known| known.clamp(1, size));
        let (points, step) = (cx.dim(extent), cx.int(size));
        let rounded = match extent.as_const() {
            Some(known) => cx.int((known + size - 1).div_euclid(size)),
            None => {
                let more = cx.int(size - 1);
                let points = cx.add(points, more);
                cx.binary(BinaryOp::FloorDiv, points, step)
            }
        };
        Axis { extent: extent.clone(), size, count: rounded }
    }

    /// The same axis in groups of tiles.
    pub(super) fn coarse(&self, cx: &mut FuncCx<'_>) -> Axis {
        let size = self.size * GROUP;
        let more = cx.int(GROUP - 1);
        let (count, group) = (cx.add(self.count, more), cx.int(GROUP));
        let count = match cx.as_int(self.count) {
            Some(known) => cx.int((known + GROUP - 1) / GROUP),
            None => cx.binary(BinaryOp::FloorDiv, count, group),
        };
        Axis { extent: self.extent.clone(), size, count }
    }

    /// The first tile of a group, and how many tiles it has.
    pub(super) fn inner(&self, cx: &mut FuncCx<'_>, group: ScalarId, fine: &Axis) -> (ScalarId, ScalarId) {
        let most = cx.int(GROUP);
        let first = cx.mul(group, most);
        let left = cx.binary(BinaryOp::Sub, fine.count, first);
        (first, cx.binary(BinaryOp::Min, left, most))
    }

    /// The first point of a tile.
    pub(super) fn first(&self, cx: &mut FuncCx<'_>, tile: ScalarId) -> ScalarId {
        let size = cx.int(self.size);
        cx.mul(tile, size)
    }

    /// The number of points of a tile.
    pub(super) fn points(&self, cx: &mut FuncCx<'_>, tile: ScalarId) -> ScalarId {
        let size = cx.int(self.size);
        if self.extent.as_const().is_some_and(|known| known % self.size == 0) {
            return size;
        }
        let (extent, first) = (cx.dim(&self.extent), self.first(cx, tile));
        let left = cx.binary(BinaryOp::Sub, extent, first);
        cx.binary(BinaryOp::Min, left, size)
    }

    /// The last point of a tile that has points.
    fn last(&self, cx: &mut FuncCx<'_>, tile: ScalarId) -> ScalarId {
        let (first, points, one) = (self.first(cx, tile), self.points(cx, tile), cx.int(1));
        let end = cx.add(first, points);
        cx.binary(BinaryOp::Sub, end, one)
    }

    /// More than the number of tiles.
    fn room(&self) -> Lowered<Dim> {
        Ok(self.extent.floor_div(&Dim::from(self.size))?.add(&Dim::ONE)?)
    }
}

/// What is known of a condition on a tile.
#[derive(Clone, Copy)]
pub(super) struct Truth {
    /// Whether it may hold for a pair.
    pub may: ScalarId,
    /// Whether it holds for all pairs.
    pub must: ScalarId,
    /// Whether evaluating it may fail.
    fails: ScalarId,
}

/// Bounds of an integer on a tile.
#[derive(Clone, Copy)]
struct Span {
    low: ScalarId,
    high: ScalarId,
    /// Both are below two to the power of this, where `ok` holds.
    bits: u32,
    ok: ScalarId,
}

/// Least and greatest value of an expression per tile of keys, and per group of tiles.
struct Table {
    fine: [BufferId; 2],
    coarse: [BufferId; 2],
}

/// What tiles of one attention share.
pub(super) struct Classes {
    queries: usize,
    keys: usize,
    /// Whether each expression depends on the query, on the key, and on what a tensor holds.
    depends: Vec<[bool; 3]>,
    tables: BTreeMap<ExprId, Table>,
    /// Bounds that hold for all tiles of keys: of points, and of rows of a tile of queries.
    fixed: BTreeMap<ExprId, [ScalarId; 2]>,
}

/// Where code goes: before all tiles, before the tiles of keys, and here.
type Sinks<'a> = (&'a mut Vec<Stmt>, &'a mut Vec<Stmt>, &'a mut Vec<Stmt>);

impl Classes {
    pub(super) fn new(attend: &Attend) -> Classes {
        let mut depends: Vec<[bool; 3]> = Vec::with_capacity(attend.exprs.len());
        for (id, expr, _) in attend.exprs.iter() {
            let mut mine = match expr {
                Expr::Index(k) => [*k as usize == attend.queries, *k as usize == attend.keys, false],
                Expr::Read(_) => [false, false, true],
                _ => [false; 3],
            };
            for operand in attend.exprs.operands(id) {
                for (mine, theirs) in mine.iter_mut().zip(depends[operand.0 as usize]) {
                    *mine |= theirs;
                }
            }
            depends.push(mine);
        }
        let (queries, keys) = (attend.queries, attend.keys);
        Classes { queries, keys, depends, tables: BTreeMap::new(), fixed: BTreeMap::new() }
    }

    /// Emits what is known of a condition on the tile of queries and a tile of keys, or, unless it
    /// is `fine`, a group of them.
    #[expect(clippy::too_many_arguments, reason = "two tiles, and three places for code")]
    pub(super) fn classify(
        &mut self,
        cx: &mut FuncCx<'_>,
        env: &Env<'_>,
        condition: ExprId,
        (queries, tile): (&Axis, ScalarId),
        (keys, block): (&Axis, ScalarId),
        blocks: &Axis,
        (before, once, out): Sinks<'_>,
        fine: bool,
    ) -> Lowered<Truth> {
        let (query, key) = (queries.first(cx, tile), keys.first(cx, block));
        let (query_end, key_end) = (queries.last(cx, tile), keys.last(cx, block));
        let mut walk = Walk {
            classes: self,
            env,
            queries,
            tile,
            blocks,
            block,
            query: (query, query_end),
            key: (key, key_end),
            fine,
            before,
            once,
            visits: MAX_VISITS,
        };
        let truth = walk.truth(cx, condition, out)?;
        // Where something may fail, the tile is computed pair by pair.
        let safe = cx.not(truth.fails);
        let (may, must) = (cx.or(truth.may, truth.fails), cx.and(truth.must, safe));
        let (may, must) = (cx.set("may", may, out), cx.set("must", must, out));
        Ok(Truth { may: cx.local(may), must: cx.local(must), fails: truth.fails })
    }
}

struct Walk<'a, 'e> {
    classes: &'a mut Classes,
    env: &'a Env<'e>,
    queries: &'a Axis,
    tile: ScalarId,
    blocks: &'a Axis,
    block: ScalarId,
    query: (ScalarId, ScalarId),
    key: (ScalarId, ScalarId),
    fine: bool,
    before: &'a mut Vec<Stmt>,
    once: &'a mut Vec<Stmt>,
    visits: u32,
}

impl Walk<'_, '_> {
    fn truth(&mut self, cx: &mut FuncCx<'_>, id: ExprId, out: &mut Vec<Stmt>) -> Lowered<Truth> {
        if self.visits == 0 {
            return Ok(self.unknown(cx, id));
        }
        self.visits -= 1;
        let is = |id: ExprId, value: bool| matches!(self.env.exprs.get(id), Expr::Const(Literal::Bool(known)) if *known == value);
        match *self.env.exprs.get(id) {
            Expr::Const(Literal::Bool(value)) => {
                let (value, never) = (cx.bool(value), cx.bool(false));
                Ok(Truth { may: value, must: value, fails: never })
            }
            Expr::Unary(UnaryOp::Not, a) => {
                let a = self.truth(cx, a, out)?;
                Ok(Truth { may: cx.not(a.must), must: cx.not(a.may), fails: a.fails })
            }
            Expr::Binary(op @ (BinaryOp::And | BinaryOp::Or), a, b) => {
                self.joined(cx, op, (a, b), false, out)
            }
            Expr::Select(c, a, b) if is(b, false) => self.joined(cx, BinaryOp::And, (c, a), true, out),
            Expr::Select(c, a, b) if is(a, true) => self.joined(cx, BinaryOp::Or, (c, b), true, out),
            Expr::Select(c, a, b) => self.chosen(cx, c, a, b, out),
            Expr::Binary(op, a, b) if self.env.exprs.dtype(a) == DType::I64 && is_comparison(op) => {
                match (self.span(cx, a, out)?, self.span(cx, b, out)?) {
                    (Some(left), Some(right)) => {
                        let fails = self.may_fail(cx, id);
                        Ok(Truth { fails, ..compare(cx, op, left, right) })
                    }
                    _ => self.leaf(cx, id),
                }
            }
            Expr::Read(ref read) => match self.looked_up(cx, id, read, out)? {
                Some(([low, high], ok)) => {
                    let fails = self.may_fail(cx, id);
                    let open = cx.not(ok);
                    Ok(Truth { may: cx.or(high, open), must: cx.and(low, ok), fails })
                }
                None => self.leaf(cx, id),
            },
            _ => self.leaf(cx, id),
        }
    }

    /// What is known of a condition that nothing is derived of.
    fn unknown(&self, cx: &mut FuncCx<'_>, id: ExprId) -> Truth {
        let fails = self.may_fail(cx, id);
        Truth { may: cx.bool(true), must: cx.bool(false), fails }
    }

    fn may_fail(&self, cx: &mut FuncCx<'_>, id: ExprId) -> ScalarId {
        let may = self.classes.depends[id.0 as usize][2] && !cx.cannot_fail(self.env, &[id]);
        cx.bool(may)
    }

    /// A conjunction or disjunction; with `lazy`, the right side is only evaluated where the left one does
    /// not decide.
    fn joined(
        &mut self,
        cx: &mut FuncCx<'_>,
        op: BinaryOp,
        (a, b): (ExprId, ExprId),
        lazy: bool,
        out: &mut Vec<Stmt>,
    ) -> Lowered<Truth> {
        let left = self.truth(cx, a, out)?;
        let open = if op == BinaryOp::And { left.may } else { cx.not(left.must) };
        let right = self.only_if(cx, open, b, out)?;
        let fails = if lazy { cx.and(open, right.fails) } else { right.fails };
        Ok(Truth {
            may: cx.binary(op, left.may, right.may),
            must: cx.binary(op, left.must, right.must),
            fails: cx.or(left.fails, fails),
        })
    }

    fn chosen(
        &mut self,
        cx: &mut FuncCx<'_>,
        c: ExprId,
        a: ExprId,
        b: ExprId,
        out: &mut Vec<Stmt>,
    ) -> Lowered<Truth> {
        let c = self.truth(cx, c, out)?;
        let (never, open) = (cx.not(c.may), cx.not(c.must));
        let (a, b) = (self.truth(cx, a, out)?, self.truth(cx, b, out)?);
        let (then, otherwise) = (cx.and(c.may, a.may), cx.and(open, b.may));
        let may = cx.or(then, otherwise);
        let (then, otherwise) = (cx.or(never, a.must), cx.or(c.must, b.must));
        let must = cx.and(then, otherwise);
        let (then, otherwise) = (cx.and(c.may, a.fails), cx.and(open, b.fails));
        let fails = cx.or(then, otherwise);
        Ok(Truth { may, must, fails: cx.or(c.fails, fails) })
    }

    /// What is known of a condition, which does not matter unless `wanted` holds.
    fn only_if(
        &mut self,
        cx: &mut FuncCx<'_>,
        wanted: ScalarId,
        id: ExprId,
        out: &mut Vec<Stmt>,
    ) -> Lowered<Truth> {
        let mut body = Vec::new();
        let truth = self.truth(cx, id, &mut body)?;
        if body.is_empty() || cx.as_bool(wanted) == Some(true) {
            out.extend(body);
            return Ok(truth);
        }
        let no = cx.bool(false);
        let locals = ["may", "must"].map(|name| cx.set(name, no, out));
        for (local, value) in locals.into_iter().zip([truth.may, truth.must]) {
            body.push(Stmt::Set { local, value });
        }
        cx.branch(wanted, body, Vec::new(), out);
        let [may, must] = locals.map(|local| cx.local(local));
        Ok(Truth { may, must, fails: truth.fails })
    }

    /// A condition that is evaluated where it has no more than one index, and else unknown.
    fn leaf(&mut self, cx: &mut FuncCx<'_>, id: ExprId) -> Lowered<Truth> {
        match self.extremes(cx, id)? {
            Some([low, high]) => Ok(Truth { may: high, must: low, fails: self.may_fail(cx, id) }),
            None => Ok(self.unknown(cx, id)),
        }
    }

    /// Least and greatest value of a truth value or integer that has no more than one index.
    fn extremes(&mut self, cx: &mut FuncCx<'_>, id: ExprId) -> Lowered<Option<[ScalarId; 2]>> {
        if !matches!(self.env.exprs.dtype(id), DType::Bool | DType::I64) {
            return Ok(None);
        }
        match self.classes.depends[id.0 as usize] {
            [true, true, _] => Ok(None),
            [false, true, _] => self.of_keys(cx, id).map(Some),
            [of_queries, false, _] => {
                if let Some(known) = self.classes.fixed.get(&id) {
                    return Ok(Some(*known));
                }
                let found = if of_queries { self.of_queries(cx, id)? } else { self.of_point(cx, id)? };
                self.classes.fixed.insert(id, found);
                Ok(Some(found))
            }
        }
    }

    /// The value of an expression at an index of queries or keys, made safe and nothing more.
    fn value(&self, cx: &mut FuncCx<'_>, id: ExprId, at: Option<(usize, ScalarId)>) -> Lowered<ScalarId> {
        let mut env = Env { quiet: true, conditional: true, ..self.env.clone() };
        if let Some((axis, index)) = at {
            env.index[axis] = index;
        }
        Ok(cx.eval(&env, &[id])?.values[0])
    }

    fn of_point(&mut self, cx: &mut FuncCx<'_>, id: ExprId) -> Lowered<[ScalarId; 2]> {
        let value = self.value(cx, id, None)?;
        let local = cx.set("known", value, self.before);
        let value = cx.local(local);
        Ok([value; 2])
    }

    fn of_queries(&mut self, cx: &mut FuncCx<'_>, id: ExprId) -> Lowered<[ScalarId; 2]> {
        let dtype = self.env.exprs.dtype(id);
        let (points, axis) = (self.queries.points(cx, self.tile), self.classes.queries);
        let mut code = Vec::new();
        let locals = start(cx, dtype, &mut code);
        cx.for_each("row", points, LoopKind::Serial, &mut code, |cx, row, out| {
            let at = cx.add(self.query.0, row);
            let value = self.value(cx, id, Some((axis, at)))?;
            fold(&locals, dtype, [value; 2], out);
            Ok(())
        })?;
        self.once.extend(code);
        Ok(locals.map(|local| cx.local(local)))
    }

    fn of_keys(&mut self, cx: &mut FuncCx<'_>, id: ExprId) -> Lowered<[ScalarId; 2]> {
        if !self.classes.tables.contains_key(&id) {
            let table = self.table(cx, id)?;
            self.classes.tables.insert(id, table);
        }
        let table = &self.classes.tables[&id];
        let buffers = if self.fine { table.fine } else { table.coarse };
        Ok(buffers.map(|buffer| cx.load(buffer, self.block)))
    }

    /// Bounds of an expression for all tiles of keys, in one pass over the keys.
    fn table(&mut self, cx: &mut FuncCx<'_>, id: ExprId) -> Lowered<Table> {
        let dtype = self.env.exprs.dtype(id);
        let axis = self.classes.keys;
        let groups = self.blocks.coarse(cx);
        let names = ["least", "greatest"];
        let buffers = |cx: &mut FuncCx<'_>, axis: &Axis| -> Lowered<[BufferId; 2]> {
            let room = axis.room()?;
            let mut of = |name: &str| -> Lowered<BufferId> {
                Ok(cx.temp(Some(name), dtype, std::slice::from_ref(&room))?.buffer)
            };
            Ok([of(names[0])?, of(names[1])?])
        };
        let (fine, coarse) = (buffers(cx, self.blocks)?, buffers(cx, &groups)?);
        let mut code = Vec::new();
        let blocks = self.blocks;
        cx.for_each("block", blocks.count, LoopKind::Serial, &mut code, |cx, block, out| {
            let locals = start(cx, dtype, out);
            let (first, points) = (blocks.first(cx, block), blocks.points(cx, block));
            cx.for_each("key", points, LoopKind::Serial, out, |cx, key, out| {
                let at = cx.add(first, key);
                let value = self.value(cx, id, Some((axis, at)))?;
                fold(&locals, dtype, [value; 2], out);
                Ok(())
            })?;
            keep(cx, locals, fine, block, out);
            Ok(())
        })?;
        cx.for_each("group", groups.count, LoopKind::Serial, &mut code, |cx, group, out| {
            let locals = start(cx, dtype, out);
            let (first, left) = groups.inner(cx, group, blocks);
            cx.for_each("block", left, LoopKind::Serial, out, |cx, block, out| {
                let at = cx.add(first, block);
                let values = fine.map(|buffer| cx.load(buffer, at));
                fold(&locals, dtype, values, out);
                Ok(())
            })?;
            keep(cx, locals, coarse, group, out);
            Ok(())
        })?;
        self.before.extend(code);
        Ok(Table { fine, coarse })
    }

    /// Least and greatest element of a table over queries and keys that the tile reaches, and
    /// whether all it reaches was looked at.
    fn looked_up(
        &mut self,
        cx: &mut FuncCx<'_>,
        id: ExprId,
        read: &Read,
        out: &mut Vec<Stmt>,
    ) -> Lowered<Option<([ScalarId; 2], ScalarId)>> {
        let dtype = self.env.exprs.dtype(id);
        let of_both = matches!(self.classes.depends[id.0 as usize], [true, true, _]);
        let plain = read.otherwise.is_none() && !self.env.is_accumulator(read);
        if !self.fine || !of_both || !plain || !matches!(dtype, DType::Bool | DType::I64) {
            return Ok(None);
        }
        let place = &self.env.ports[read.port as usize];
        let mut ok = cx.bool(true);
        let (mut spans, mut size) = (Vec::new(), cx.int(1));
        for (index, extent) in read.index.iter().zip(&place.shape) {
            let Some(span) = self.span(cx, *index, out)? else { return Ok(None) };
            let (zero, one, extent) = (cx.int(0), cx.int(1), cx.dim(extent));
            let inside = [
                cx.binary(BinaryOp::Ge, span.low, zero),
                cx.binary(BinaryOp::Lt, span.high, extent),
                span.ok,
            ];
            ok = inside.into_iter().fold(ok, |all, one| cx.and(all, one));
            let points = cx.binary(BinaryOp::Sub, span.high, span.low);
            let points = cx.add(points, one);
            // So many that their product with others fits.
            let most = cx.int(MAX_LOOKED_AT + 1);
            let capped = cx.binary(BinaryOp::Min, points, most);
            size = cx.mul(size, capped);
            size = cx.binary(BinaryOp::Min, size, most);
            spans.push((span, points));
        }
        let most = cx.int(MAX_LOOKED_AT);
        let few = cx.binary(BinaryOp::Le, size, most);
        let ok = cx.and(ok, few);
        let ok = cx.set("reached", ok, out);
        let ok = cx.local(ok);
        let locals = start(cx, dtype, out);
        let mut body = Vec::new();
        let mut at = place.offset;
        let mut loops = Vec::new();
        for ((span, points), stride) in spans.iter().zip(&place.strides) {
            let stride = cx.dim(stride);
            let index = if span.low == span.high {
                span.low
            } else {
                let var = cx.new_var("at");
                loops.push((var, *points));
                let step = cx.var(var);
                cx.add(span.low, step)
            };
            at = cx.place_at(index, stride, at);
        }
        let value = cx.load(place.buffer, at);
        fold(&locals, dtype, [value; 2], &mut body);
        for (var, extent) in loops.into_iter().rev() {
            body = vec![Stmt::For { var, extent, reverse: false, kind: LoopKind::Serial, body }];
        }
        cx.branch(ok, body, Vec::new(), out);
        Ok(Some((locals.map(|local| cx.local(local)), ok)))
    }

    fn span(&mut self, cx: &mut FuncCx<'_>, id: ExprId, out: &mut Vec<Stmt>) -> Lowered<Option<Span>> {
        if self.visits == 0 || self.env.exprs.dtype(id) != DType::I64 {
            return Ok(None);
        }
        self.visits -= 1;
        let always = cx.bool(true);
        let exact = |value, bits| Some(Span { low: value, high: value, bits, ok: always });
        let [of_query, of_key, reads] = self.classes.depends[id.0 as usize];
        let span = match *self.env.exprs.get(id) {
            Expr::Const(Literal::Int(value)) => {
                exact(cx.int(value), 64 - value.unsigned_abs().leading_zeros())
            }
            Expr::Index(k) if k as usize == self.classes.queries => {
                Some(Span { low: self.query.0, high: self.query.1, bits: LEAF_BITS, ok: always })
            }
            Expr::Index(k) if k as usize == self.classes.keys => {
                Some(Span { low: self.key.0, high: self.key.1, bits: LEAF_BITS, ok: always })
            }
            Expr::Index(k) => exact(self.env.index[k as usize], LEAF_BITS),
            Expr::Var(_) => exact(self.value(cx, id, None)?, LEAF_BITS),
            _ if !of_query && !of_key => self.bounded(cx, id)?,
            Expr::Read(ref read) if of_query && of_key => {
                let found = self.looked_up(cx, id, read, out)?;
                found.map(|([low, high], ok)| small(cx, low, high, ok))
            }
            _ if reads && !(of_query && of_key) => self.bounded(cx, id)?,
            Expr::Unary(op, a) => match self.span(cx, a, out)? {
                Some(a) => unary(cx, op, a),
                None => None,
            },
            Expr::Binary(op, a, b) => match (self.span(cx, a, out)?, self.span(cx, b, out)?) {
                (Some(a), Some(b)) => binary(cx, op, a, b),
                _ => None,
            },
            Expr::Select(_, a, b) => match (self.span(cx, a, out)?, self.span(cx, b, out)?) {
                (Some(a), Some(b)) => Some(Span {
                    low: cx.binary(BinaryOp::Min, a.low, b.low),
                    high: cx.binary(BinaryOp::Max, a.high, b.high),
                    bits: a.bits.max(b.bits),
                    ok: cx.and(a.ok, b.ok),
                }),
                _ => None,
            },
            _ => None,
        };
        Ok(span.filter(|span| span.bits <= MAX_BITS))
    }

    /// The bounds of an integer that has no more than one index, where they are small.
    fn bounded(&mut self, cx: &mut FuncCx<'_>, id: ExprId) -> Lowered<Option<Span>> {
        let always = cx.bool(true);
        Ok(self.extremes(cx, id)?.map(|[low, high]| small(cx, low, high, always)))
    }
}

fn is_comparison(op: BinaryOp) -> bool {
    use BinaryOp::{Eq, Ge, Gt, Le, Lt, Ne};
    matches!(op, Eq | Ne | Lt | Le | Gt | Ge)
}

/// Bounds that count where they are small.
fn small(cx: &mut FuncCx<'_>, low: ScalarId, high: ScalarId, ok: ScalarId) -> Span {
    let (least, greatest) = (cx.int(-(1 << LEAF_BITS)), cx.int(1 << LEAF_BITS));
    let above = cx.binary(BinaryOp::Gt, low, least);
    let below = cx.binary(BinaryOp::Lt, high, greatest);
    let both = cx.and(above, below);
    Span { low, high, bits: LEAF_BITS, ok: cx.and(ok, both) }
}

/// Locals for the least and greatest of nothing.
fn start(cx: &mut FuncCx<'_>, dtype: DType, out: &mut Vec<Stmt>) -> [Local; 2] {
    let (low, high) = match dtype {
        DType::Bool => (cx.bool(true), cx.bool(false)),
        _ => (cx.int(i64::MAX), cx.int(i64::MIN)),
    };
    [cx.set("least", low, out), cx.set("greatest", high, out)]
}

/// Adds values to a least and a greatest one.
fn fold(locals: &[Local; 2], dtype: DType, values: [ScalarId; 2], out: &mut Vec<Stmt>) {
    let ops = match dtype {
        DType::Bool => [BinaryOp::And, BinaryOp::Or],
        _ => [BinaryOp::Min, BinaryOp::Max],
    };
    for ((local, op), value) in locals.iter().zip(ops).zip(values) {
        out.push(Stmt::Reduce { local: *local, op, value });
    }
}

fn keep(
    cx: &mut FuncCx<'_>,
    locals: [Local; 2],
    buffers: [BufferId; 2],
    index: ScalarId,
    out: &mut Vec<Stmt>,
) {
    for (buffer, local) in buffers.into_iter().zip(locals) {
        let value = cx.local(local);
        out.push(Stmt::Store { buffer, index, value });
    }
}

fn compare(cx: &mut FuncCx<'_>, op: BinaryOp, a: Span, b: Span) -> Truth {
    let ok = cx.and(a.ok, b.ok);
    let (may, must) = match op {
        BinaryOp::Lt | BinaryOp::Le => (cx.binary(op, a.low, b.high), cx.binary(op, a.high, b.low)),
        BinaryOp::Gt | BinaryOp::Ge => (cx.binary(op, a.high, b.low), cx.binary(op, a.low, b.high)),
        _ => {
            let meet = [cx.binary(BinaryOp::Le, a.low, b.high), cx.binary(BinaryOp::Le, b.low, a.high)];
            let meet = cx.and(meet[0], meet[1]);
            let ends = [cx.binary(BinaryOp::Eq, a.low, b.high), cx.binary(BinaryOp::Eq, a.high, b.low)];
            let same = cx.and(ends[0], ends[1]);
            match op {
                BinaryOp::Eq => (meet, same),
                _ => (cx.not(same), cx.not(meet)),
            }
        }
    };
    let (open, never) = (cx.not(ok), cx.bool(false));
    Truth { may: cx.or(may, open), must: cx.and(must, ok), fails: never }
}

fn unary(cx: &mut FuncCx<'_>, op: UnaryOp, a: Span) -> Option<Span> {
    let zero = cx.int(0);
    let (minus_high, minus_low) =
        (cx.binary(BinaryOp::Sub, zero, a.high), cx.binary(BinaryOp::Sub, zero, a.low));
    match op {
        UnaryOp::Neg => Some(Span { low: minus_high, high: minus_low, ..a }),
        UnaryOp::Abs => {
            let low = cx.binary(BinaryOp::Max, a.low, minus_high);
            let low = cx.binary(BinaryOp::Max, low, zero);
            Some(Span { low, high: cx.binary(BinaryOp::Max, minus_low, a.high), ..a })
        }
        _ => None,
    }
}

fn binary(cx: &mut FuncCx<'_>, op: BinaryOp, a: Span, b: Span) -> Option<Span> {
    let ok = cx.and(a.ok, b.ok);
    let wider = a.bits.max(b.bits) + 1;
    let (low, high, bits) = match op {
        BinaryOp::Add => (cx.add(a.low, b.low), cx.add(a.high, b.high), wider),
        BinaryOp::Sub => (cx.binary(op, a.low, b.high), cx.binary(op, a.high, b.low), wider),
        BinaryOp::Min | BinaryOp::Max => {
            (cx.binary(op, a.low, b.low), cx.binary(op, a.high, b.high), wider - 1)
        }
        BinaryOp::Mul => {
            let (by, of) = if b.low == b.high { (b.low, a) } else { (a.low, b) };
            if a.low != a.high && b.low != b.high {
                return None;
            }
            let (x, y) = (cx.mul(of.low, by), cx.mul(of.high, by));
            (cx.binary(BinaryOp::Min, x, y), cx.binary(BinaryOp::Max, x, y), a.bits + b.bits)
        }
        BinaryOp::FloorDiv | BinaryOp::Mod if b.low == b.high => return divide(cx, op, a, b),
        _ => return None,
    };
    Some(Span { low, high, bits, ok })
}

/// The quotient or remainder by one number, which counts where that is positive.
fn divide(cx: &mut FuncCx<'_>, op: BinaryOp, a: Span, by: Span) -> Option<Span> {
    let one = cx.int(1);
    let positive = match cx.as_int(by.low) {
        Some(known) if known <= 0 => return None,
        Some(_) => cx.bool(true),
        None => {
            let zero = cx.int(0);
            cx.binary(BinaryOp::Gt, by.low, zero)
        }
    };
    let divisor = cx.select(positive, by.low, one);
    let ok = cx.and(a.ok, by.ok);
    let ok = cx.and(ok, positive);
    let quotients = [a.low, a.high].map(|end| cx.binary(BinaryOp::FloorDiv, end, divisor));
    if op == BinaryOp::FloorDiv {
        return Some(Span { low: quotients[0], high: quotients[1], bits: a.bits, ok });
    }
    let rests = [a.low, a.high].map(|end| cx.binary(BinaryOp::Mod, end, divisor));
    let together = cx.binary(BinaryOp::Eq, quotients[0], quotients[1]);
    let (zero, most) = (cx.int(0), cx.binary(BinaryOp::Sub, divisor, one));
    let (low, high) = (cx.select(together, rests[0], zero), cx.select(together, rests[1], most));
    Some(Span { low, high, bits: by.bits, ok })
}

impl FuncCx<'_> {
    /// A branch, or the side that is always taken.
    pub(super) fn branch(
        &mut self,
        condition: ScalarId,
        then: Vec<Stmt>,
        otherwise: Vec<Stmt>,
        out: &mut Vec<Stmt>,
    ) {
        match self.as_bool(condition) {
            Some(true) => out.extend(then),
            Some(false) => out.extend(otherwise),
            None if then.is_empty() && otherwise.is_empty() => {}
            None => out.push(Stmt::If { condition, then, otherwise }),
        }
    }
}
