//! Running reductions: one step after another, rows in any order.
//!
//! Where the scanned axis is the last, the sum so far is a local; otherwise it is the row of results
//! before, so that what lies behind the axis runs in lanes.

use super::place::Place;
use super::scalar::combiner;
use super::{FuncCx, Lowered, Work};
use crate::graph::ir::Scan;
use crate::loops::ir::{LoopKind, LoopVar, ScalarId, Stmt};
use crate::ops::scalar::BinaryOp;

/// The address of an element: of the source and of the result.
#[derive(Clone, Copy)]
struct At {
    source: ScalarId,
    result: ScalarId,
}

impl FuncCx<'_> {
    pub(super) fn scan(&mut self, work: &Work<'_>, scan: &Scan, out: &mut Vec<Stmt>) -> Lowered<Place> {
        let source = work.operands[0].clone();
        let dest = self.dest(work, 0)?;
        let op = combiner(scan.reducer).expect("invariant: extreme positions are not scanned");
        let mut at = At { source: source.offset, result: dest.offset };
        let mut loops = Vec::new();
        for axis in 0..scan.axis {
            at = self.walked(&source, &dest, axis, "row", at, &mut loops);
        }
        let mut body = Vec::new();
        if source.shape[scan.axis + 1..].iter().all(|extent| extent.is(1)) {
            self.scan_row(work, scan, op, (&source, &dest), at, &mut body);
        } else {
            self.scan_rows(scan, op, (&source, &dest), at, &mut body);
        }
        for (k, (var, extent)) in loops.into_iter().enumerate().rev() {
            let kind = if k == 0 { LoopKind::Parallel } else { LoopKind::Serial };
            body = vec![Stmt::For { var, extent, reverse: false, kind, body }];
        }
        out.extend(body);
        Ok(dest)
    }

    /// A loop along an axis that has more than one point.
    fn walked(
        &mut self,
        source: &Place,
        dest: &Place,
        axis: usize,
        name: &str,
        at: At,
        loops: &mut Vec<(LoopVar, ScalarId)>,
    ) -> At {
        if source.shape[axis].is(1) {
            return at;
        }
        let var = self.new_var(name);
        loops.push((var, self.dim(&source.shape[axis])));
        let step = self.var(var);
        self.along(source, dest, axis, at, step)
    }

    fn along(&mut self, source: &Place, dest: &Place, axis: usize, at: At, by: ScalarId) -> At {
        At {
            source: self.stepped(at.source, by, &source.strides[axis]),
            result: self.stepped(at.result, by, &dest.strides[axis]),
        }
    }

    /// One row, with the sum in a local.
    fn scan_row(
        &mut self,
        work: &Work<'_>,
        scan: &Scan,
        op: BinaryOp,
        (source, dest): (&Place, &Place),
        at: At,
        out: &mut Vec<Stmt>,
    ) {
        let dtype = work.graph.node(work.node).results[0].dtype;
        let sum = self.new_local("sum", dtype);
        let value = self.identity(scan.reducer, dtype);
        out.push(Stmt::Set { local: sum, value });
        let (var, extent) = (self.new_var("t"), self.dim(&source.shape[scan.axis]));
        let step = self.var(var);
        let at = self.along(source, dest, scan.axis, at, step);
        let (so_far, term) = (self.local(sum), self.load(source.buffer, at.source));
        let value = self.binary(op, so_far, term);
        let so_far = self.local(sum);
        let body = vec![
            Stmt::Set { local: sum, value },
            Stmt::Store { buffer: dest.buffer, index: at.result, value: so_far },
        ];
        out.push(Stmt::For { var, extent, reverse: scan.reverse, kind: LoopKind::Serial, body });
    }

    /// Rows of one step behind each other: the first is copied, each of the others adds to the one before.
    fn scan_rows(
        &mut self,
        scan: &Scan,
        op: BinaryOp,
        (source, dest): (&Place, &Place),
        at: At,
        out: &mut Vec<Stmt>,
    ) {
        let one = self.int(1);
        let extent = self.dim(&source.shape[scan.axis]);
        let others = self.binary(BinaryOp::Sub, extent, one);
        let var = self.new_var("t");
        let step = self.var(var);
        // Of the steps behind the first: where they are, and the one before.
        let next = self.add(step, one);
        let (current, before) = if scan.reverse { (step, next) } else { (next, step) };
        let zero = self.int(0);
        let first = if scan.reverse { others } else { zero };
        let some = self.none_empty([&source.shape[scan.axis]]);
        let start = self.along(source, dest, scan.axis, at, first);
        let copy = self.inner(scan, (source, dest), start, &mut |cx, at| cx.load(source.buffer, at.source));
        let here = self.along(source, dest, scan.axis, at, current);
        let last = self.along(source, dest, scan.axis, at, before);
        let back = self.binary(BinaryOp::Sub, last.result, here.result);
        let body = self.inner(scan, (source, dest), here, &mut |cx, at| {
            let before = cx.add(at.result, back);
            let (so_far, term) = (cx.load(dest.buffer, before), cx.load(source.buffer, at.source));
            cx.binary(op, so_far, term)
        });
        let steps = Stmt::For { var, extent: others, reverse: scan.reverse, kind: LoopKind::Serial, body };
        let then: Vec<Stmt> = copy.into_iter().chain([steps]).collect();
        match self.as_bool(some) {
            Some(true) => out.extend(then),
            Some(false) => {}
            None => out.push(Stmt::If { condition: some, then, otherwise: Vec::new() }),
        }
    }

    /// A value for every point behind the scanned axis, the last axis in lanes.
    fn inner(
        &mut self,
        scan: &Scan,
        (source, dest): (&Place, &Place),
        mut at: At,
        value: &mut dyn FnMut(&mut Self, At) -> ScalarId,
    ) -> Vec<Stmt> {
        let mut loops = Vec::new();
        for axis in scan.axis + 1..source.shape.len() {
            at = self.walked(source, dest, axis, "i", at, &mut loops);
        }
        let value = value(self, at);
        let mut body = vec![Stmt::Store { buffer: dest.buffer, index: at.result, value }];
        for (k, (var, extent)) in loops.into_iter().rev().enumerate() {
            let kind = if k == 0 { LoopKind::Vector } else { LoopKind::Serial };
            body = vec![Stmt::For { var, extent, reverse: false, kind, body }];
        }
        body
    }
}
