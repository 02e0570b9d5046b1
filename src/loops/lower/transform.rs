//! Small matrices applied from both sides: all that one tile yields is written out.
//!
//! The tile is loaded into locals, then combined one side after the other. Rows or columns of the
//! matrix that differ in signs alone are combined once for the signs that agree and once for the others.
//! The last axis that the matrix does not make is innermost, in lanes where it is contiguous.

use super::expr::Env;
use super::matmul::{Operand, dense_over};
use super::place::Place;
use super::{FuncCx, Lowered, Work};
use crate::dim::Dim;
use crate::dtype::DType;
use crate::graph::expr::Literal;
use crate::graph::ir::{Axis, SmallMatrix, Transform};
use crate::loops::ir::{LoopKind, LoopVar, Pointer, Scalar, ScalarId, Stmt};
use crate::ops::scalar::BinaryOp;

impl FuncCx<'_> {
    pub(super) fn transform(
        &mut self,
        work: &Work<'_>,
        transform: &Transform,
        out: &mut Vec<Stmt>,
    ) -> Lowered<Place> {
        let dest = self.dest(work, 0)?;
        let Some(strides) = dest.strides_over(&transform.iterate)? else {
            let node = work.graph.node(work.node);
            let dense = self.temp(node.name.as_deref(), node.results[0].dtype, &dest.shape)?;
            let strides = dense_over(&transform.iterate)?;
            self.transform_into(work, transform, (dense.pointer(), &strides), out)?;
            self.copy(&dense, &dest, out)?;
            return Ok(dest);
        };
        self.transform_into(work, transform, (dest.pointer(), &strides), out)?;
        Ok(dest)
    }

    fn transform_into(
        &mut self,
        work: &Work<'_>,
        transform: &Transform,
        (mut to, strides): (Pointer, &[Dim]),
        out: &mut Vec<Stmt>,
    ) -> Lowered<()> {
        let extent = Dim::from(transform.matrix.columns as i64);
        let summed = [Axis::new(extent.clone(), "u"), Axis::new(extent, "v")];
        let mut from =
            self.operand_over(&work.operands[0], &transform.source, (&transform.iterate, &summed), out)?;
        let zero = self.int(0);
        let mut index = vec![zero; transform.iterate.len()];
        let mut loops: Vec<(usize, LoopVar, ScalarId)> = Vec::new();
        for (k, axis) in transform.iterate.iter().enumerate() {
            if axis.extent.is(1) || transform.made.contains(&k) {
                continue;
            }
            let var = self.new_var(&axis.name);
            index[k] = self.var(var);
            loops.push((k, var, self.dim(&axis.extent)));
            from.at.offset = self.stepped(from.at.offset, index[k], &from.iterate[k]);
            to.offset = self.stepped(to.offset, index[k], &strides[k]);
        }
        let mut body = Vec::new();
        let halves = self.halves(transform, &from, &mut body);
        let stored = self.transformed(work, transform, (to, strides), index, &halves, &mut body)?;
        let in_lanes = loops.last().is_some_and(|(k, var, _)| {
            let plain = body.iter().all(|stmt| matches!(stmt, Stmt::Set { .. } | Stmt::Store { .. }));
            let even = plain && stored.iter().all(|value| self.loads_in_lanes(*value, *var));
            from.iterate[*k].is(1) && strides[*k].is(1) && even
        });
        for (at, (_, var, extent)) in loops.iter().copied().enumerate().rev() {
            let kind = match (at + 1 == loops.len(), in_lanes) {
                (true, true) => LoopKind::Vector,
                (true, false) => LoopKind::Serial,
                (false, _) => LoopKind::Parallel,
            };
            body = vec![Stmt::For { var, extent, reverse: false, kind, body }];
        }
        out.extend(body);
        Ok(())
    }

    /// `tile * matrix'`, row by row: few values are wanted at a time.
    fn halves(&mut self, transform: &Transform, from: &Operand, out: &mut Vec<Stmt>) -> Vec<Vec<ScalarId>> {
        let columns = transform.matrix.columns;
        let mut halves = Vec::with_capacity(columns);
        for u in 0..columns {
            let u = self.int(u as i64);
            let start = self.stepped(from.at.offset, u, &from.contract[0]);
            let mut row = Vec::with_capacity(columns);
            for v in 0..columns {
                let v = self.int(v as i64);
                let at = self.stepped(start, v, &from.contract[1]);
                let value = self.load(from.at.buffer, at);
                row.push(self.named_real("x", value, out));
            }
            let combined = self.combined(transform.matrix, &row);
            halves.push(combined.into_iter().map(|value| self.named_real("h", value, out)).collect());
        }
        halves
    }

    /// `matrix * halves` after the epilogue, stored column by column; gives what the epilogue gives.
    fn transformed(
        &mut self,
        work: &Work<'_>,
        transform: &Transform,
        (to, strides): (Pointer, &[Dim]),
        mut index: Vec<ScalarId>,
        halves: &[Vec<ScalarId>],
        out: &mut Vec<Stmt>,
    ) -> Lowered<Vec<ScalarId>> {
        let [row_axis, column_axis] = transform.made;
        let extents: Vec<Dim> = transform.iterate.iter().map(|axis| axis.extent.clone()).collect();
        let mut stored = Vec::new();
        for b in 0..transform.matrix.rows().len() {
            let column: Vec<ScalarId> = halves.iter().map(|row| row[b]).collect();
            let mut stores = Vec::new();
            for (a, value) in self.combined(transform.matrix, &column).into_iter().enumerate() {
                let mut value = self.named_real("y", value, out);
                index[row_axis] = self.int(a as i64);
                index[column_axis] = self.int(b as i64);
                if let Some(epilogue) = &transform.epilogue {
                    let mut env = Env::new(&epilogue.exprs, index.clone(), extents.clone(), &work.operands);
                    env.accumulator = Some(value);
                    let finished = self.eval(&env, &[epilogue.body])?.checked(out);
                    stored.push(finished);
                    value = self.named_real("z", finished, out);
                }
                let at = self.stepped(to.offset, index[row_axis], &strides[row_axis]);
                let at = self.stepped(at, index[column_axis], &strides[column_axis]);
                stores.push(Stmt::Store { buffer: to.buffer, index: at, value });
            }
            out.extend(stores);
        }
        Ok(stored)
    }

    /// Each row of a matrix times some values.
    fn combined(&mut self, matrix: SmallMatrix, values: &[ScalarId]) -> Vec<ScalarId> {
        let rows: Vec<&[f64]> = matrix.rows().collect();
        let opposite = |x: f64, y: f64| x == -y;
        // Columns of equal sizes: their sum and difference serve all rows.
        for k in 1..matrix.columns {
            let both = rows.iter().filter(|row| row[k] != 0.0).count() > 1;
            let alike = |row: &&[f64]| row[k - 1] == row[k] || opposite(row[k - 1], row[k]);
            if both && rows.iter().all(alike) && rows.iter().any(|row| row[k] != row[k - 1]) {
                return self.combined_by_columns(&rows, values);
            }
        }
        let mut made = Vec::with_capacity(rows.len());
        let mut at = 0;
        while at < rows.len() {
            let row = rows[at];
            let next = rows.get(at + 1).copied();
            let pair = next.filter(|next| {
                let alike = row.iter().zip(*next).all(|(x, y)| x == y || opposite(*x, *y));
                alike && row.iter().zip(*next).any(|(x, y)| *x != 0.0 && x == y)
            });
            let Some(next) = pair else {
                let terms: Vec<(f64, ScalarId)> = row.iter().copied().zip(values.iter().copied()).collect();
                made.push(self.sum_of(&terms));
                at += 1;
                continue;
            };
            let all = row.iter().zip(next).zip(values);
            let (same, other): (Vec<_>, Vec<_>) = all.partition(|((x, y), _)| x == y);
            let terms = |of: Vec<((&f64, &f64), &ScalarId)>| -> Vec<(f64, ScalarId)> {
                of.into_iter().map(|((x, _), value)| (*x, *value)).collect()
            };
            let (same, other) = (self.sum_of(&terms(same)), self.sum_of(&terms(other)));
            made.push(self.binary(BinaryOp::Add, same, other));
            made.push(self.binary(BinaryOp::Sub, same, other));
            at += 2;
        }
        made
    }

    /// [`FuncCx::combined`] where neighbouring columns are equal up to signs.
    fn combined_by_columns(&mut self, rows: &[&[f64]], values: &[ScalarId]) -> Vec<ScalarId> {
        let mut terms: Vec<Vec<(f64, ScalarId)>> = vec![Vec::new(); rows.len()];
        let mut at = 0;
        while at < values.len() {
            let paired = at + 1 < values.len()
                && rows.iter().all(|row| row[at].abs() == row[at + 1].abs())
                && rows.iter().any(|row| row[at] != row[at + 1]);
            if paired {
                let sum = self.binary(BinaryOp::Add, values[at], values[at + 1]);
                let difference = self.binary(BinaryOp::Sub, values[at], values[at + 1]);
                for (terms, row) in terms.iter_mut().zip(rows) {
                    terms.push((row[at], if row[at] == row[at + 1] { sum } else { difference }));
                }
                at += 2;
            } else {
                for (terms, row) in terms.iter_mut().zip(rows) {
                    terms.push((row[at], values[at]));
                }
                at += 1;
            }
        }
        terms.iter().map(|terms| self.sum_of(terms)).collect()
    }

    /// A sum of values times constants; zero if there are none.
    fn sum_of(&mut self, terms: &[(f64, ScalarId)]) -> ScalarId {
        let mut terms: Vec<(f64, ScalarId)> = terms.iter().copied().filter(|(by, _)| *by != 0.0).collect();
        let Some(first) = terms.iter().position(|(by, _)| *by > 0.0).or(terms.first().map(|_| 0)) else {
            return self.zero(DType::F32);
        };
        terms.swap(0, first);
        // A size that all have in common is multiplied by once.
        let common = terms[0].0.abs();
        let shared = terms.len() > 1 && terms.iter().all(|(by, _)| by.abs() == common);
        let scale = |by: f64| if shared { by / common } else { by };
        let mut sum = self.scaled(scale(terms[0].0), terms[0].1);
        for (by, value) in &terms[1..] {
            let term = self.scaled(scale(*by).abs(), *value);
            let op = if *by < 0.0 { BinaryOp::Sub } else { BinaryOp::Add };
            sum = self.binary(op, sum, term);
        }
        if shared { self.scaled(common, sum) } else { sum }
    }

    fn scaled(&mut self, by: f64, value: ScalarId) -> ScalarId {
        if by == 1.0 {
            return value;
        }
        let by = self.scalar(Scalar::Const(Literal::Real(f64::from(by as f32).to_bits())), DType::F32);
        self.binary(BinaryOp::Mul, by, value)
    }

    /// A local for a value.
    fn named_real(&mut self, name: &str, value: ScalarId, out: &mut Vec<Stmt>) -> ScalarId {
        let dtype = self.func.scalars.dtype(value);
        let local = self.new_local(name, dtype);
        out.push(Stmt::Set { local, value });
        self.local(local)
    }
}
