//! Units of work: what a statement that threads may divide consists of.
//!
//! A unit is whatever the code computes at once: an iteration of a loop, some vectors of lanes, a panel
//! over a strip of a product. Units are numbered; any range of them may be computed by any thread, and
//! each gives the same bits wherever it is computed, for nothing in it depends on the range.

use super::function::FuncCx;
use super::gemm::Extent;
use cranelift_codegen::ir::{InstBuilder, Value, types};
use cranelift_frontend::FunctionBuilder;

/// Iterations of a unit of a loop in lanes: several vectors of any kind, and several cache lines.
pub(super) const LANE_UNIT: i64 = 64;

/// Units, rows or iterations `from..to`.
#[derive(Clone, Copy)]
pub(super) struct Span {
    pub from: Value,
    pub to: Value,
}

/// Those of `count` units behind the first `before` that lie in a span, counted from `before`.
pub(super) fn overlap(builder: &mut FunctionBuilder<'_>, span: Span, before: Value, count: Value) -> Span {
    let zero = builder.ins().iconst(types::I64, 0);
    let [from, to] = [span.from, span.to].map(|end| {
        let passed = builder.ins().isub(end, before);
        let passed = builder.ins().smax(passed, zero);
        builder.ins().smin(passed, count)
    });
    Span { from, to }
}

/// The rows, of `own` units each, that have any in a span; and `own` made at least one.
pub(super) fn rows_of(builder: &mut FunctionBuilder<'_>, span: Span, own: Value) -> (Span, Value) {
    // Rows without units are not looked at, but nothing is divided by zero for them.
    let one = builder.ins().iconst(types::I64, 1);
    let own = builder.ins().smax(own, one);
    let from = builder.ins().udiv(span.from, own);
    let above = builder.ins().iadd(span.to, own);
    let above = builder.ins().iadd_imm_s(above, -1);
    let to = builder.ins().udiv(above, own);
    (Span { from, to }, own)
}

/// Which units of a row lie in a span.
pub(super) fn part_of_row(builder: &mut FunctionBuilder<'_>, span: Span, own: Value, row: Value) -> Span {
    let before = builder.ins().imul(row, own);
    overlap(builder, span, before, own)
}

impl FuncCx<'_, '_> {
    /// A size that is known.
    pub(super) fn fixed(&mut self, value: i64) -> Extent {
        Extent { value: self.int(value), known: Some(value) }
    }

    /// A size that is not known.
    pub(super) fn open(&self, value: Value) -> Extent {
        Extent { value, known: None }
    }

    pub(super) fn times(&mut self, a: Extent, b: Extent) -> Extent {
        match (a.known, b.known) {
            (Some(a), Some(b)) => self.fixed(a.saturating_mul(b)),
            _ => Extent { value: self.builder.ins().imul(a.value, b.value), known: None },
        }
    }

    /// A size in units of so much, the last perhaps not full; none of a negative size.
    pub(super) fn in_units(&mut self, size: Extent, of: i64) -> Extent {
        if let Some(size) = size.known {
            return self.fixed(size.max(0).saturating_add(of - 1) / of);
        }
        let zero = self.int(0);
        let size = self.builder.ins().smax(size.value, zero);
        let above = self.builder.ins().iadd_imm_s(size, of - 1);
        let units = self.builder.ins().udiv_imm_u(above, of);
        self.open(units)
    }

    /// What units of so much span, of something that ends at `end`.
    pub(super) fn span_of(&mut self, units: Span, of: i64, end: Value) -> Span {
        let from = self.builder.ins().imul_imm_s(units.from, of);
        let to = self.builder.ins().imul_imm_s(units.to, of);
        Span { from, to: self.builder.ins().smin(to, end) }
    }
}
