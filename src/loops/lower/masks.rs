//! Masks of tiles, from tables.
//!
//! The parts of a condition over pairs are mostly no functions of pairs: a window, a dilation, a
//! stride and causality depend on the difference of query and key, padding on the key. Such a part
//! is evaluated once per difference or key of a tile, into a table of ones and zeros, and the rows of
//! the tile load from it what kernels compute in lanes. What does depend on both is evaluated for
//! each pair, and what depends on the query once per row.

use super::attend::Tile;
use super::expr::Env;
use super::place::Place;
use super::{FuncCx, Lowered};
use crate::dim::Dim;
use crate::dtype::DType;
use crate::graph::affine::{Affine, Leaf, affine};
use crate::graph::expr::{Expr, ExprId, Exprs, Read};
use crate::loops::ir::{BufferId, LoopKind, ScalarId, Stmt};
use crate::ops::scalar::BinaryOp;
use crate::passes::attend::Attend;

/// What a part of a condition depends on, of queries and keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Over {
    Nothing,
    Queries,
    Keys,
    /// The query less the key.
    Differences,
    Pairs,
}

impl Over {
    fn join(self, other: Over) -> Over {
        match (self, other) {
            (Over::Nothing, over) | (over, Over::Nothing) => over,
            (a, b) if a == b => a,
            _ => Over::Pairs,
        }
    }
}

/// A part of a condition and its values on a tile.
struct Table {
    part: ExprId,
    over: Over,
    buffer: BufferId,
}

/// A masked score whose condition is looked up.
pub(super) struct Masks {
    /// Expressions over the indices of pairs, then the place in tables over differences, then that
    /// in tables over keys.
    pub exprs: Exprs,
    /// As [`Attend::masked_score`].
    pub masked_score: ExprId,
    /// As [`Attend::taken`].
    pub taken: ExprId,
    /// What the expressions read.
    pub ports: Vec<Place>,
    tables: Vec<Table>,
    /// Queries and keys of a whole tile.
    size: (i64, i64),
}

impl Masks {
    /// The masked score over tables for tiles of so many queries and keys.
    pub(super) fn new(
        cx: &mut FuncCx<'_>,
        attend: &Attend,
        env: &Env<'_>,
        size: (i64, i64),
    ) -> Lowered<Masks> {
        let mut masks = Masks {
            exprs: attend.exprs.clone(),
            masked_score: attend.masked_score,
            taken: attend.taken,
            ports: env.ports.to_vec(),
            tables: Vec::new(),
            size,
        };
        let Some(condition) = attend.condition else { return Ok(masks) };
        let parts = parts(cx, attend, env, condition);
        if parts.is_empty() {
            return Ok(masks);
        }
        for (part, over) in &parts {
            let size = if *over == Over::Keys { size.1 } else { size.0 + size.1 - 1 };
            let mut place = cx.temp(Some("mask"), DType::F32, &[Dim::from(size)])?;
            place.trusted = true;
            masks.tables.push(Table { part: *part, over: *over, buffer: place.buffer });
            masks.ports.push(place);
        }
        let looked_up = masks.substituted(attend);
        let (masked_score, taken) = (looked_up.1[0], looked_up.1[1]);
        // What is only known to be inside because the condition holds must see the condition.
        let mut inner = Env { exprs: &looked_up.0, ports: &masks.ports, ..env.clone() };
        masks.extend(cx, &mut inner);
        if !cx.cannot_fail(&inner, &[masked_score]) && cx.cannot_fail(env, &[attend.masked_score]) {
            masks.tables.clear();
            return Ok(masks);
        }
        (masks.exprs, masks.masked_score, masks.taken) = (looked_up.0, masked_score, taken);
        Ok(masks)
    }

    /// The expressions with reads of tables in place of their parts.
    fn substituted(&self, attend: &Attend) -> (Exprs, Vec<ExprId>) {
        let source = &attend.exprs;
        let roots = [attend.masked_score, attend.taken];
        let needed = source.reachable(&roots);
        let mut order = source.iter().map(|(id, ..)| id).filter(|id| needed[id.0 as usize]);
        let first = attend.operands.len();
        let mut out = Exprs::new();
        let moved = out.map(source, &roots, &mut |out, expr, dtype| {
            // Each expression that is needed comes once, in order.
            let id = order.next();
            let Some(k) = self.tables.iter().position(|table| Some(table.part) == id) else {
                return out.add(expr, dtype);
            };
            let at = attend.axes.len() + usize::from(self.tables[k].over == Over::Keys);
            let index = vec![out.index(at)];
            let span = source.iter().find_map(|(_, expr, _)| match expr {
                Expr::Read(read) => Some(read.span),
                _ => None,
            });
            let span = span.expect("invariant: the score reads the product");
            let read = Read { port: (first + k) as u32, index, otherwise: None, span };
            let value = out.add(Expr::Read(read), DType::F32);
            let zero = out.real(0.0, DType::F32);
            out.binary(BinaryOp::Ne, value, zero)
        });
        (out, moved)
    }

    /// Adds places in tables to an environment, both 0.
    fn extend(&self, cx: &mut FuncCx<'_>, env: &mut Env<'_>) {
        let zero = cx.int(0);
        for size in [self.size.0 + self.size.1 - 1, self.size.1] {
            env.index.push(zero);
            env.extents.push(Dim::from(size));
            env.order.push(env.order.len());
        }
    }

    /// Adds the places in tables of a row and column of the tile to an environment.
    pub(super) fn at(&self, cx: &mut FuncCx<'_>, env: &mut Env<'_>, row: ScalarId, column: ScalarId) {
        self.extend(cx, env);
        let count = env.index.len();
        let last = cx.int(self.size.0 - 1);
        let start = cx.binary(BinaryOp::Sub, last, row);
        env.index[count - 2] = cx.add(start, column);
        env.index[count - 1] = column;
    }

    /// Fills the tables for a tile.
    pub(super) fn fill(
        &self,
        cx: &mut FuncCx<'_>,
        attend: &Attend,
        env: &Env<'_>,
        tile: &Tile,
        out: &mut Vec<Stmt>,
    ) -> Lowered<()> {
        let (one, zero) = (cx.real(1.0), cx.real(0.0));
        for table in &self.tables {
            let (count, start) = match table.over {
                Over::Keys => (tile.columns, tile.key),
                _ => {
                    let before = cx.int(self.size.0 - 1);
                    (cx.int(self.size.0 + self.size.1 - 1), cx.binary(BinaryOp::Sub, tile.key, before))
                }
            };
            cx.for_each("at", count, LoopKind::Vector, out, |cx, index, out| {
                let mut env = Env { quiet: true, conditional: true, ..env.clone() };
                env.index[attend.queries] = tile.query;
                env.index[attend.keys] = cx.add(start, index);
                let holds = cx.eval(&env, &[table.part])?.values[0];
                let value = cx.select(holds, one, zero);
                out.push(Stmt::Store { buffer: table.buffer, index, value });
                Ok(())
            })?;
        }
        Ok(())
    }
}

/// The parts of a condition that tables are worth: the largest ones over differences or keys.
fn parts(cx: &FuncCx<'_>, attend: &Attend, env: &Env<'_>, condition: ExprId) -> Vec<(ExprId, Over)> {
    let exprs = &attend.exprs;
    let over = dependences(attend);
    let mut found: Vec<(ExprId, Over)> = Vec::new();
    let mut seen = vec![false; exprs.len()];
    let mut pending = vec![condition];
    while let Some(id) = pending.pop() {
        if std::mem::replace(&mut seen[id.0 as usize], true) || exprs.dtype(id) != DType::Bool {
            continue;
        }
        let mine = over[id.0 as usize];
        let tabled = matches!(mine, Over::Differences | Over::Keys);
        if tabled && !is_bound(exprs, id) && cx.cannot_fail(env, &[id]) {
            found.push((id, mine));
        } else if !tabled {
            pending.extend(exprs.operands(id).into_iter().rev());
        }
    }
    found
}

/// Whether kernels compare it in lanes: both sides are sums of indices.
fn is_bound(exprs: &Exprs, id: ExprId) -> bool {
    let plain = |id: ExprId| affine(exprs, id).is_some_and(|form| form.is_transparent());
    matches!(exprs.get(id), Expr::Binary(_, a, b) if plain(*a) && plain(*b))
}

/// What each expression depends on.
fn dependences(attend: &Attend) -> Vec<Over> {
    let exprs = &attend.exprs;
    let mut all: Vec<Over> = Vec::with_capacity(exprs.len());
    for (id, expr, dtype) in exprs.iter() {
        let operands = || {
            let operands = exprs.operands(id).into_iter();
            operands.fold(Over::Nothing, |sum, operand| sum.join(all[operand.0 as usize]))
        };
        let mine = match expr {
            Expr::Index(k) if *k as usize == attend.queries => Over::Queries,
            Expr::Index(k) if *k as usize == attend.keys => Over::Keys,
            Expr::Read(read) if read.port == 0 && read.index.is_empty() => Over::Pairs,
            // An index that is inside for pairs need not be for every difference.
            Expr::Read(_) if operands() == Over::Differences => Over::Pairs,
            Expr::Binary(_, a, b) if dtype == DType::Bool && exprs.dtype(*a) == DType::I64 => {
                let (left, right) = (affine(exprs, *a), affine(exprs, *b));
                let less = |form: Affine| form.scale(&Dim::from(-1));
                let difference = left.zip(right.and_then(less)).and_then(|(a, b)| a.add(&b));
                difference.map_or_else(operands, |form| of_form(attend, &form, &all))
            }
            _ if dtype == DType::I64 => match affine(exprs, id) {
                Some(form) if form.as_leaf() != Some(Leaf::Opaque(id)) => of_form(attend, &form, &all),
                _ => operands(),
            },
            _ => operands(),
        };
        all.push(mine);
    }
    all
}

/// What a sum depends on.
fn of_form(attend: &Attend, form: &Affine, all: &[Over]) -> Over {
    let by = |axis: usize| form.coefficient(Leaf::Index(axis as u32));
    let (queries, keys) = (by(attend.queries), by(attend.keys));
    let own = match (queries.is(0), keys.is(0)) {
        (true, true) => Over::Nothing,
        (true, false) => Over::Keys,
        (false, true) => Over::Queries,
        (false, false) if queries.add(&keys).is_ok_and(|sum| sum.is(0)) => Over::Differences,
        (false, false) => Over::Pairs,
    };
    form.terms.keys().fold(own, |sum, leaf| match leaf {
        Leaf::Opaque(id) => sum.join(all[id.0 as usize]),
        _ => sum,
    })
}
