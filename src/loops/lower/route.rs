//! Products with a matrix that each row picks when the program runs.
//!
//! The rows are brought in order of what they pick by a counting sort, which is stable and takes time
//! for each row, and for each matrix no more than setting a counter to zero. Products that pick by the
//! same numbers share it. Then the left operand's rows are copied in that order, each matrix that is
//! picked is multiplied once with the rows that pick it, by the ordinary kernel, and every row of the
//! result goes where it belongs, through the epilogue. Copies and products of different rows touch
//! different elements, so each of the three loops may run in threads. Matrices that nobody picks cost
//! their counter. What a row picks is checked before anything is multiplied.

use super::expr::Env;
use super::matmul::{Operand, Walk, dense_over, merge, split};
use super::place::Place;
use super::{FuncCx, Lowered, Work};
use crate::dim::Dim;
use crate::dtype::DType;
use crate::graph::expr::{Expr, Exprs, Read};
use crate::graph::ir::{Axis, MatMul, Pick, Role};
use crate::loops::ir::{BufferId, LoopKind, LoopVar, Pointer, ScalarId, Stmt};
use crate::ops::scalar::BinaryOp;

/// Rows in order of what they pick. All buffers hold i64.
#[derive(Clone)]
pub(super) struct Sorted {
    key: Key,
    /// The matrices that rows pick, in order of first sight; behind them, at `rows`, how many there are.
    picked: BufferId,
    /// For each of these, where its rows begin in `order`.
    starts: BufferId,
    /// For every matrix that is picked, where its rows end in `order`.
    ends: BufferId,
    /// Numbers of rows.
    order: BufferId,
}

/// What decides an order of rows: how the picks are read, and how many matrices there are.
#[derive(Clone, PartialEq)]
struct Key {
    picks: Pointer,
    /// Extent and stride of each axis of rows.
    rows: Vec<(Dim, Dim)>,
    extent: Dim,
}

/// A product with a pick, where its operands lie.
struct Picked<'p> {
    product: &'p MatMul,
    pick: &'p Pick,
    picks: &'p Operand,
    lhs: &'p Operand,
    rhs: &'p Operand,
    out: Pointer,
    /// Of the result, over its axes.
    strides: &'p [Dim],
    /// The result axes that are rows, those of one point aside.
    rows: Vec<usize>,
    /// How many rows there are.
    count: Dim,
}

impl FuncCx<'_> {
    /// Emits a product with a pick; says whether there are kernels for it, after checking the picks.
    pub(super) fn picked(
        &mut self,
        work: &Work<'_>,
        product: &MatMul,
        (lhs, rhs, picks): (&Operand, &Operand, &Operand),
        (dest, strides): (Pointer, &[Dim]),
        out: &mut Vec<Stmt>,
    ) -> Lowered<bool> {
        let Some(pick) = &product.pick else { return Ok(false) };
        let axes = &product.iterate;
        let is_row = |k: &usize| product.roles[*k] == Role::M && !axes[*k].extent.is(1);
        let rows: Vec<usize> = (0..axes.len()).filter(is_row).collect();
        let count = Dim::product(rows.iter().map(|k| &axes[*k].extent))?;
        let of = Picked { product, pick, picks, lhs, rhs, out: dest, strides, rows, count };
        let sorted = self.sorted(work, &of, out)?;
        if !self.is_direct(work, &of) {
            return Ok(false);
        }
        self.sorted_product(work, &of, &sorted, out)
    }

    /// Whether the epilogue needs no checks.
    fn is_direct(&mut self, work: &Work<'_>, of: &Picked<'_>) -> bool {
        let Some(epilogue) = &of.product.epilogue else { return true };
        let env = self.env_of(of.product, &epilogue.exprs, &work.operands);
        self.cannot_fail(&env, &[epilogue.body])
    }

    /// An environment over the result axes, all at 0.
    fn env_of<'a>(&mut self, product: &MatMul, exprs: &'a Exprs, ports: &'a [Place]) -> Env<'a> {
        let zero = self.int(0);
        let extents = product.iterate.iter().map(|axis| axis.extent.clone()).collect();
        let mut env = Env::new(exprs, vec![zero; product.iterate.len()], extents, ports);
        env.accumulator = Some(zero);
        env
    }

    /// The rows in order of what they pick: sorted here, or before for another product.
    fn sorted(&mut self, work: &Work<'_>, of: &Picked<'_>, out: &mut Vec<Stmt>) -> Lowered<Sorted> {
        let row = |k: &usize| (of.product.iterate[*k].extent.clone(), of.picks.iterate[*k].clone());
        let rows = of.rows.iter().map(row).collect();
        let key = Key { picks: of.picks.at, rows, extent: of.pick.extent.clone() };
        if let Some(known) = self.sorted.iter().find(|known| known.key == key) {
            return Ok(known.clone());
        }
        let mut buffer = |name: &str, elems: &Dim| -> Lowered<BufferId> {
            Ok(self.temp(Some(name), DType::I64, std::slice::from_ref(elems))?.buffer)
        };
        let sorted = Sorted {
            key,
            picked: buffer("picked", &of.count.add(&Dim::ONE)?)?,
            starts: buffer("starts", &of.count)?,
            ends: buffer("ends", &of.pick.extent)?,
            order: buffer("order", &of.count)?,
        };
        self.count_picks(work, of, &sorted, out)?;
        self.place_rows(of, &sorted, out);
        self.sorted.push(sorted.clone());
        Ok(sorted)
    }

    /// Counts the rows of each matrix in `ends`, and lists those that have any.
    fn count_picks(
        &mut self,
        work: &Work<'_>,
        of: &Picked<'_>,
        sorted: &Sorted,
        out: &mut Vec<Stmt>,
    ) -> Lowered<()> {
        let (zero, one) = (self.int(0), self.int(1));
        let var = self.new_var("e");
        let (index, extent) = (self.var(var), self.dim(&of.pick.extent));
        let clear = vec![Stmt::Store { buffer: sorted.ends, index, value: zero }];
        out.push(Stmt::For { var, extent, reverse: false, kind: LoopKind::Vector, body: clear });
        let matrices = self.new_local("matrices", DType::I64);
        out.push(Stmt::Set { local: matrices, value: zero });
        let (loops, index) = self.row_loops(of);
        let mut body = Vec::new();
        let value = self.checked_pick(work, of, index, &mut body)?;
        let pick = self.new_local("pick", DType::I64);
        body.push(Stmt::Set { local: pick, value });
        let (pick, known) = (self.local(pick), self.local(matrices));
        let rows = self.load(sorted.ends, pick);
        let condition = self.binary(BinaryOp::Eq, rows, zero);
        let next = self.add(known, one);
        let then = vec![
            Stmt::Store { buffer: sorted.picked, index: known, value: pick },
            Stmt::Set { local: matrices, value: next },
        ];
        body.push(Stmt::If { condition, then, otherwise: Vec::new() });
        let value = self.add(rows, one);
        body.push(Stmt::Store { buffer: sorted.ends, index: pick, value });
        out.extend(nested(loops, body, LoopKind::Serial));
        let end = self.dim(&of.count);
        out.push(Stmt::Store { buffer: sorted.picked, index: end, value: known });
        Ok(())
    }

    /// From counts to starts, and every row to its place.
    fn place_rows(&mut self, of: &Picked<'_>, sorted: &Sorted, out: &mut Vec<Stmt>) {
        let zero = self.int(0);
        let start = self.new_local("start", DType::I64);
        out.push(Stmt::Set { local: start, value: zero });
        let var = self.new_var("g");
        let (group, end) = (self.var(var), self.dim(&of.count));
        let extent = self.load(sorted.picked, end);
        let [pick, rows] = ["pick", "rows"].map(|name| self.new_local(name, DType::I64));
        let value = self.load(sorted.picked, group);
        let mut body = vec![Stmt::Set { local: pick, value }];
        let (pick, so_far) = (self.local(pick), self.local(start));
        let value = self.load(sorted.ends, pick);
        body.push(Stmt::Set { local: rows, value });
        body.push(Stmt::Store { buffer: sorted.starts, index: group, value: so_far });
        body.push(Stmt::Store { buffer: sorted.ends, index: pick, value: so_far });
        let rows = self.local(rows);
        let value = self.add(so_far, rows);
        body.push(Stmt::Set { local: start, value });
        out.push(Stmt::For { var, extent, reverse: false, kind: LoopKind::Serial, body });

        let (loops, index) = self.row_loops(of);
        let (pick, at) = (self.new_local("pick", DType::I64), self.new_local("at", DType::I64));
        let value = self.pick_at(of, &index);
        let mut body = vec![Stmt::Set { local: pick, value }];
        let pick = self.local(pick);
        let value = self.load(sorted.ends, pick);
        body.push(Stmt::Set { local: at, value });
        let (at, row, one) = (self.local(at), self.row_number(of, &index), self.int(1));
        body.push(Stmt::Store { buffer: sorted.order, index: at, value: row });
        let value = self.add(at, one);
        body.push(Stmt::Store { buffer: sorted.ends, index: pick, value });
        out.extend(nested(loops, body, LoopKind::Serial));
    }

    /// Loops over the rows in order, and all result indices, those of columns 0.
    fn row_loops(&mut self, of: &Picked<'_>) -> (Vec<(LoopVar, ScalarId)>, Vec<ScalarId>) {
        let zero = self.int(0);
        let mut index = vec![zero; of.product.iterate.len()];
        let mut loops = Vec::with_capacity(of.rows.len());
        for k in &of.rows {
            let axis = &of.product.iterate[*k];
            let var = self.new_var(&axis.name);
            index[*k] = self.var(var);
            loops.push((var, self.dim(&axis.extent)));
        }
        (loops, index)
    }

    fn row_number(&mut self, of: &Picked<'_>, index: &[ScalarId]) -> ScalarId {
        let mut number = self.int(0);
        for k in &of.rows {
            let extent = self.dim(&of.product.iterate[*k].extent);
            number = self.mul(number, extent);
            number = self.add(number, index[*k]);
        }
        number
    }

    /// What the row at some indices picks, once that is checked.
    fn pick_at(&mut self, of: &Picked<'_>, index: &[ScalarId]) -> ScalarId {
        let at = self.moved(of.picks.at.offset, index, &of.picks.iterate);
        self.load(of.picks.at.buffer, at)
    }

    /// An offset moved by indices.
    fn moved(&mut self, from: ScalarId, index: &[ScalarId], strides: &[Dim]) -> ScalarId {
        index.iter().zip(strides).fold(from, |sum, (index, stride)| self.stepped(sum, *index, stride))
    }

    /// What the row at some indices picks, with the check that it is there.
    fn checked_pick(
        &mut self,
        work: &Work<'_>,
        of: &Picked<'_>,
        index: Vec<ScalarId>,
        out: &mut Vec<Stmt>,
    ) -> Lowered<ScalarId> {
        let mut exprs = Exprs::new();
        let span = of.pick.source.span;
        let flat = self.flat(&mut exprs, &of.picks.iterate);
        let read = |port: u32, index| Expr::Read(Read { port, index, otherwise: None, span });
        let pick = exprs.add(read(0, vec![flat]), DType::I64);
        // The matrices as an operand of which nothing but the picked axis has an extent.
        let mut shape = vec![Dim::ONE; of.pick.source.axis];
        shape.push(of.pick.extent.clone());
        let mut at = vec![exprs.int(0); of.pick.source.axis];
        at.push(pick);
        let matrix = exprs.add(read(1, at), DType::F32);
        let mut picks = Place::dense(of.picks.at.buffer, of.picks.at.offset, &[Dim::ONE])?;
        picks.trusted = true;
        let mut matrices = Place::dense(work.operands[1].buffer, work.operands[1].offset, &shape)?;
        matrices.name.clone_from(&of.pick.source.name);
        let ports = [picks, matrices];
        let axes: Vec<&Axis> = of.product.iterate.iter().chain(&of.product.contract).collect();
        let zero = self.int(0);
        let mut index = index;
        index.resize(axes.len(), zero);
        let extents = axes.into_iter().map(|axis| axis.extent.clone()).collect();
        let env = Env::new(&exprs, index, extents, &ports);
        let evaluated = self.eval(&env, &[pick, matrix])?;
        out.extend(evaluated.fails);
        Ok(evaluated.values[0])
    }

    /// Rows in order, a product for each matrix that is picked, and rows back.
    fn sorted_product(
        &mut self,
        work: &Work<'_>,
        of: &Picked<'_>,
        sorted: &Sorted,
        out: &mut Vec<Stmt>,
    ) -> Lowered<bool> {
        let inner = without_rows(of);
        let kept = |strides: &[Dim], extents: &[Axis]| -> Vec<Axis> {
            let used = |k: usize| !strides[k].is(0) && !of.rows.contains(&k);
            let one = |axis: &Axis| Axis { extent: Dim::ONE, ..axis.clone() };
            (0..extents.len()).map(|k| if used(k) { extents[k].clone() } else { one(&extents[k]) }).collect()
        };
        // The left operand's rows in order, dense over what it walks beside them.
        let mut left_axes = kept(&of.lhs.iterate, &of.product.iterate);
        left_axes.extend(of.product.contract.iter().cloned());
        let right_axes = inner.iterate.clone();
        let width = Dim::product(left_axes.iter().map(|axis| &axis.extent))?;
        let columns = Dim::product(right_axes.iter().map(|axis| &axis.extent))?;
        let left = self.temp(Some("rows"), DType::F32, &[of.count.clone(), width.clone()])?;
        let result = self.temp(Some("products"), DType::F32, &[of.count.clone(), columns.clone()])?;
        let mut strides = dense_over(&left_axes)?;
        for (stride, axis) in strides.iter_mut().zip(&left_axes) {
            if axis.extent.is(1) {
                *stride = Dim::ZERO;
            }
        }
        let contract = strides.split_off(of.product.iterate.len());
        let panel = Operand { at: left.pointer(), iterate: strides, contract };
        let to = dense_over(&right_axes)?;
        let Some(mut split) = split(&inner, &panel, of.rhs, &to)? else { return Ok(false) };
        let any = of.rows.first().copied().unwrap_or(0);
        let extent = of.count.clone();
        split.m = Some(Walk { axes: any..any + 1, extent, lhs: width, rhs: Dim::ZERO, out: columns });
        self.gather_rows(of, sorted, &panel, &left_axes, out)?;
        let body = self.products(work, of, sorted, &inner, (&panel, result.pointer()), split)?;
        out.push(body);
        self.scatter_rows(work, of, sorted, (result.pointer(), &to), out)?;
        Ok(true)
    }

    /// A loop over the rows in order, with the indices of each.
    fn in_order(
        &mut self,
        of: &Picked<'_>,
        sorted: &Sorted,
        emit: impl FnOnce(&mut Self, ScalarId, &[ScalarId], &mut Vec<Stmt>) -> Lowered<()>,
    ) -> Lowered<Stmt> {
        let var = self.new_var("r");
        let (place, extent) = (self.var(var), self.dim(&of.count));
        let row = self.new_local("row", DType::I64);
        let value = self.load(sorted.order, place);
        let mut body = vec![Stmt::Set { local: row, value }];
        let zero = self.int(0);
        let mut index = vec![zero; of.product.iterate.len()];
        let mut rest = self.local(row);
        for k in of.rows.iter().rev() {
            let last = *k == of.rows[0];
            let extent = self.dim(&of.product.iterate[*k].extent);
            let digit = if last { rest } else { self.binary(BinaryOp::Mod, rest, extent) };
            if !last {
                rest = self.binary(BinaryOp::FloorDiv, rest, extent);
            }
            let local = self.new_local(&of.product.iterate[*k].name, DType::I64);
            body.push(Stmt::Set { local, value: digit });
            index[*k] = self.local(local);
        }
        emit(self, place, &index, &mut body)?;
        Ok(Stmt::For { var, extent, reverse: false, kind: LoopKind::Parallel, body })
    }

    fn gather_rows(
        &mut self,
        of: &Picked<'_>,
        sorted: &Sorted,
        panel: &Operand,
        axes: &[Axis],
        out: &mut Vec<Stmt>,
    ) -> Lowered<()> {
        let width = Dim::product(axes.iter().map(|axis| &axis.extent))?;
        let from = of.lhs.iterate.iter().chain(&of.lhs.contract);
        let to = panel.iterate.iter().chain(&panel.contract);
        let walks = axes.iter().zip(from.zip(to)).enumerate();
        let walks = walks.filter(|(_, (axis, _))| !axis.extent.is(1)).map(|(k, (axis, (from, to)))| Walk {
            axes: k..k + 1,
            extent: axis.extent.clone(),
            lhs: from.clone(),
            rhs: from.clone(),
            out: to.clone(),
        });
        let walks = merge(walks.collect())?;
        let body = self.in_order(of, sorted, |cx, place, index, body| {
            let mut source = cx.moved(of.lhs.at.offset, index, &of.lhs.iterate);
            let width = cx.dim(&width);
            let first = cx.mul(place, width);
            let mut target = cx.add(panel.at.offset, first);
            let mut loops = Vec::with_capacity(walks.len());
            for walk in &walks {
                let var = cx.new_var(if walk.axes.end == axes.len() { "k" } else { "b" });
                let value = cx.var(var);
                let (from, to) = (cx.dim(&walk.lhs), cx.dim(&walk.out));
                let (from, to) = (cx.mul(value, from), cx.mul(value, to));
                source = cx.add(source, from);
                target = cx.add(target, to);
                loops.push((var, cx.dim(&walk.extent)));
            }
            let value = cx.load(of.lhs.at.buffer, source);
            let lanes = walks.last().is_some_and(|walk| walk.lhs.is(1) && walk.out.is(1));
            let kind = if lanes { LoopKind::Vector } else { LoopKind::Serial };
            let store = Stmt::Store { buffer: panel.at.buffer, index: target, value };
            body.extend(nested(loops, vec![store], kind));
            Ok(())
        })?;
        out.push(body);
        Ok(())
    }

    /// A product for each matrix that is picked.
    fn products(
        &mut self,
        work: &Work<'_>,
        of: &Picked<'_>,
        sorted: &Sorted,
        inner: &MatMul,
        (left, result): (&Operand, Pointer),
        mut split: super::matmul::Split,
    ) -> Lowered<Stmt> {
        let var = self.new_var("g");
        let (group, end) = (self.var(var), self.dim(&of.count));
        let extent = self.load(sorted.picked, end);
        let [pick, from, rows] = ["pick", "from", "rows"].map(|name| self.new_local(name, DType::I64));
        let value = self.load(sorted.picked, group);
        let mut body = vec![Stmt::Set { local: pick, value }];
        let value = self.load(sorted.starts, group);
        body.push(Stmt::Set { local: from, value });
        let (pick, first) = (self.local(pick), self.local(from));
        let last = self.load(sorted.ends, pick);
        let value = self.binary(BinaryOp::Sub, last, first);
        body.push(Stmt::Set { local: rows, value });
        split.rows = Some(self.local(rows));
        let walk = split.m.clone();
        let step = |of: fn(&Walk) -> &Dim| walk.as_ref().map_or(Dim::ZERO, |walk| of(walk).clone());
        let mut moved = |at: Pointer, by: ScalarId, stride: &Dim| Pointer {
            offset: self.stepped(at.offset, by, stride),
            ..at
        };
        let at_left = moved(left.at, first, &step(|walk| &walk.lhs));
        let at_right = moved(of.rhs.at, pick, &of.pick.stride);
        let at_result = moved(result, first, &step(|walk| &walk.out));
        let kernel = self.kernel(work, inner, (at_left, at_right, at_result), &split)?;
        body.extend(kernel.into_iter().flatten());
        Ok(Stmt::For { var, extent, reverse: false, kind: LoopKind::Parallel, body })
    }

    /// Every row of the products to its place, through the epilogue.
    fn scatter_rows(
        &mut self,
        work: &Work<'_>,
        of: &Picked<'_>,
        sorted: &Sorted,
        (from, strides): (Pointer, &[Dim]),
        out: &mut Vec<Stmt>,
    ) -> Lowered<()> {
        let axes = &of.product.iterate;
        let columns: Vec<usize> =
            (0..axes.len()).filter(|k| !of.rows.contains(k) && !axes[*k].extent.is(1)).collect();
        let width = Dim::product(columns.iter().map(|k| &axes[*k].extent))?;
        let body = self.in_order(of, sorted, |cx, place, index, body| {
            let mut index = index.to_vec();
            let mut loops = Vec::with_capacity(columns.len());
            for k in &columns {
                let var = cx.new_var(&axes[*k].name);
                index[*k] = cx.var(var);
                loops.push((var, cx.dim(&axes[*k].extent)));
            }
            let width = cx.dim(&width);
            let first = cx.mul(place, width);
            let mut source = cx.add(from.offset, first);
            for k in &columns {
                source = cx.stepped(source, index[*k], &strides[*k]);
            }
            let target = cx.moved(of.out.offset, &index, of.strides);
            let mut value = cx.load(from.buffer, source);
            if let Some(epilogue) = &of.product.epilogue {
                let mut env = cx.env_of(of.product, &epilogue.exprs, &work.operands);
                env.index = index;
                env.accumulator = Some(value);
                value = cx.eval(&env, &[epilogue.body])?.values[0];
            }
            let lanes = columns.last().is_some_and(|k| of.strides[*k].is(1));
            let kind = if lanes { LoopKind::Vector } else { LoopKind::Serial };
            let store = Stmt::Store { buffer: of.out.buffer, index: target, value };
            body.extend(nested(loops, vec![store], kind));
            Ok(())
        })?;
        out.push(body);
        Ok(())
    }
}

/// The product of the rows that pick one matrix, but for the rows.
fn without_rows(of: &Picked<'_>) -> MatMul {
    let mut inner = of.product.clone();
    for k in &of.rows {
        inner.iterate[*k].extent = Dim::ONE;
    }
    inner.epilogue = None;
    inner.pick = None;
    inner
}

/// Loops around statements, the innermost of a kind.
fn nested(loops: Vec<(LoopVar, ScalarId)>, mut body: Vec<Stmt>, innermost: LoopKind) -> Vec<Stmt> {
    let mut kind = innermost;
    for (var, extent) in loops.into_iter().rev() {
        body = vec![Stmt::For { var, extent, reverse: false, kind, body }];
        kind = LoopKind::Serial;
    }
    body
}
