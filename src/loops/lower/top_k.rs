//! The greatest elements of each row, by insertion into the result row.
//!
//! A row of results is kept sorted while the operand is walked once, so ties stay in order of
//! index and a NaN comes first. A term that is not better than the last of a full row costs one
//! comparison.

use super::place::Place;
use super::{FuncCx, Lowered, Work};
use crate::dim::Dim;
use crate::dtype::DType;
use crate::loops::ir::{LoopKind, ScalarId, Stmt};
use crate::ops::scalar::BinaryOp;

/// The result rows at one point.
struct Rows {
    values: (Place, ScalarId),
    indices: (Place, ScalarId),
}

impl FuncCx<'_> {
    pub(super) fn top_k(&mut self, work: &Work<'_>, k: &Dim, out: &mut Vec<Stmt>) -> Lowered<Vec<Place>> {
        let source = work.operands[0].clone();
        let (values, indices) = (self.dest(work, 0)?, self.dest(work, 1)?);
        let rank = source.shape.len() - 1;
        let (mut at, mut at_values, mut at_indices) = (source.offset, values.offset, indices.offset);
        let mut loops = Vec::new();
        for axis in (0..rank).filter(|axis| !source.shape[*axis].is(1)) {
            let var = self.new_var("row");
            let row = self.var(var);
            at = self.stepped(at, row, &source.strides[axis]);
            at_values = self.stepped(at_values, row, &values.strides[axis]);
            at_indices = self.stepped(at_indices, row, &indices.strides[axis]);
            loops.push((var, self.dim(&source.shape[axis])));
        }
        let rows = Rows { values: (values.clone(), at_values), indices: (indices.clone(), at_indices) };
        let mut body = self.row(&source, at, &rows, k);
        for (var, extent) in loops.into_iter().rev() {
            body = vec![Stmt::For { var, extent, reverse: false, kind: LoopKind::Serial, body }];
        }
        let some = self.none_empty([k]);
        match self.as_bool(some) {
            Some(true) => out.extend(body),
            Some(false) => {}
            None => out.push(Stmt::If { condition: some, then: body, otherwise: Vec::new() }),
        }
        Ok(vec![values, indices])
    }

    fn row(&mut self, source: &Place, at: ScalarId, rows: &Rows, k: &Dim) -> Vec<Stmt> {
        let last = source.shape.len() - 1;
        let var = self.new_var("i");
        let i = self.var(var);
        let address = self.stepped(at, i, &source.strides[last]);
        let loaded = self.load(source.buffer, address);
        let dtype = self.func.scalars.dtype(loaded);
        let term = self.new_local("term", dtype);
        let enters = self.new_local("enters", DType::Bool);
        let (k_value, one, yes) = (self.dim(k), self.int(1), self.bool(true));
        let full = self.binary(BinaryOp::Ge, i, k_value);
        let lowest = self.binary(BinaryOp::Sub, k_value, one);
        let lowest = self.element(&rows.values, lowest);
        let term_value = self.local(term);
        let better = self.wins(BinaryOp::Gt, term_value, lowest);
        let enters_value = self.local(enters);
        let insertion = self.insertion(rows, i, term_value, k_value);
        let body = vec![
            Stmt::Set { local: term, value: loaded },
            Stmt::Set { local: enters, value: yes },
            Stmt::If {
                condition: full,
                then: vec![Stmt::Set { local: enters, value: better }],
                otherwise: Vec::new(),
            },
            Stmt::If { condition: enters_value, then: insertion, otherwise: Vec::new() },
        ];
        let extent = self.dim(&source.shape[last]);
        vec![Stmt::For { var, extent, reverse: false, kind: LoopKind::Serial, body }]
    }

    /// Finds the place of a term among the first `min(i, k)` and moves what comes after it.
    fn insertion(&mut self, rows: &Rows, i: ScalarId, term: ScalarId, k: ScalarId) -> Vec<Stmt> {
        let position = self.new_local("position", DType::I64);
        let (zero, one) = (self.int(0), self.int(1));
        let held = self.binary(BinaryOp::Min, i, k);
        let scan = self.new_var("j");
        let j = self.var(scan);
        let other = self.element(&rows.values, j);
        let better = self.wins(BinaryOp::Gt, term, other);
        let counted = self.select(better, zero, one);
        let count = Stmt::Reduce { local: position, op: BinaryOp::Add, value: counted };
        let below = self.binary(BinaryOp::Sub, k, one);
        let kept = self.binary(BinaryOp::Min, i, below);
        let first = self.local(position);
        let moved = self.binary(BinaryOp::Sub, kept, first);
        let shift = self.new_var("j");
        let steps = self.var(shift);
        let from = self.add(first, steps);
        let to = self.add(from, one);
        let mut shifts = Vec::new();
        for row in [&rows.values, &rows.indices] {
            let value = self.element(row, from);
            shifts.push(self.put(row, to, value));
        }
        vec![
            Stmt::Set { local: position, value: zero },
            Stmt::For { var: scan, extent: held, reverse: false, kind: LoopKind::Serial, body: vec![count] },
            Stmt::For { var: shift, extent: moved, reverse: true, kind: LoopKind::Serial, body: shifts },
            self.put(&rows.values, first, term),
            self.put(&rows.indices, first, i),
        ]
    }

    fn element(&mut self, (place, row): &(Place, ScalarId), at: ScalarId) -> ScalarId {
        let stride = place.strides[place.strides.len() - 1].clone();
        let index = self.stepped(*row, at, &stride);
        self.load(place.buffer, index)
    }

    fn put(&mut self, (place, row): &(Place, ScalarId), at: ScalarId, value: ScalarId) -> Stmt {
        let stride = place.strides[place.strides.len() - 1].clone();
        let index = self.stepped(*row, at, &stride);
        Stmt::Store { buffer: place.buffer, index, value }
    }
}
