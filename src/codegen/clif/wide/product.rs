//! Products by wide kernels: which tiles, in which order.
//!
//! # Cost model
//!
//! A kernel does a panel of rows over one strip of columns. The strip of the right operand is read
//! once per tile of the panel, the panel of the left operand once per strip. Per step of the
//! contraction a tile of 14 rows by 2 vectors of 16 lanes reads 128 bytes of the strip and 56 of
//! the panel for 14 cycles of multiplications, so both may lie in the second cache, and need not
//! be packed. Strips are narrow enough to stay there at any contracted size in use; panels are
//! made as high as half of it holds. The contracted axis is never divided.
//!
//! Rows are divided evenly into tiles rather than into full tiles and a small rest, for small
//! tiles wait for the latency of the multiplication, or for the matrix.

use super::super::super::error::CodeError;
use super::super::super::vector::Isa;
use super::super::super::vector::body::{Argument, Extraction};
use super::super::super::vector::kernels::Shape;
use super::super::super::vector::line::Line;
use super::super::super::vector::tile::{MAX_OUTER, Tail, Tile, slot, tallest, widest};
use super::super::function::FuncCx;
use super::super::gemm::{Extent, Product};
use super::{Block, Start};
use crate::loops::ir::{BufferId, Gemm};
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{InstBuilder, Value};

/// # Units
/// Bytes of a panel of the left operand: half of a second cache of 1 MiB, the smallest around.
const PANEL_BYTES: i64 = 512 << 10;
/// Single rows of products with more vectors of columns than this read the matrix in order.
const MAX_STRIP_VECTORS: i64 = 16;

/// The parts of a product that do not change between its kernels.
struct Plan<'p, 'g> {
    product: &'p Product<'g>,
    isa: Isa,
    block: Block,
    tail: Option<Tail>,
    arguments: Vec<Argument>,
    /// Whose lines the printed kernels name.
    out: BufferId,
}

/// Rows from `from` on, in tiles of `rows` each.
#[derive(Clone, Copy)]
struct Band {
    from: Value,
    tiles: Extent,
    rows: usize,
}

/// Columns from `from` on, in strips.
#[derive(Clone, Copy)]
struct Strips {
    from: Value,
    count: Extent,
    vectors: usize,
    /// Columns of the last vector, if it is not full.
    partial: Option<Value>,
}

impl FuncCx<'_, '_> {
    /// Emits a product by kernels, or says that there are none for it.
    pub(in super::super) fn wide_product(
        &mut self,
        gemm: &Gemm,
        product: &Product<'_>,
    ) -> Result<bool, CodeError> {
        let Some(isa) = self.kernels.isa() else { return Ok(false) };
        let contiguous = product.rhs.fast.is(1) && product.out.fast.is(1);
        if !contiguous || product.n.is(1) || product.outer.len() > MAX_OUTER {
            return Ok(false);
        }
        if product.m.known.is_some_and(|m| m <= 0) || product.n.known.is_some_and(|n| n <= 0) {
            return Ok(true);
        }
        let (tail, arguments) = match &product.epilogue {
            None => (None, Vec::new()),
            Some(epilogue) => {
                let of = epilogue.of;
                let (row, column) =
                    if epilogue.transposed { (of.column, of.row) } else { (of.row, of.column) };
                let mut extraction = Extraction::new(self.env.func, Some(row), column, Some(of.acc));
                let Some(result) = extraction.node(of.value) else { return Ok(false) };
                let body = extraction.body;
                if isa == Isa::Avx2 && body.has_truth_access() {
                    return Ok(false);
                }
                (Some(Tail { body, result }), extraction.arguments)
            }
        };
        let some_rows = self.builder.ins().icmp_imm_s(IntCC::SignedGreaterThan, product.m.value, 0);
        let some_columns = self.builder.ins().icmp_imm_s(IntCC::SignedGreaterThan, product.n.value, 0);
        let some = self.builder.ins().band(some_rows, some_columns);
        let (on, done) = (self.builder.create_block(), self.builder.create_block());
        self.builder.ins().brif(some, on, &[], done, &[]);
        self.builder.seal_block(on);
        self.builder.switch_to_block(on);
        self.scoped(|cx| {
            let block = cx.block(slot::BODY as usize + arguments.len());
            let plan = Plan { product, isa, block, tail, arguments, out: gemm.out.at.buffer };
            cx.fixed_arguments(&plan)?;
            for band in cx.wide_bands(&plan) {
                cx.wide_band(&plan, band)?;
            }
            Ok(())
        })?;
        self.builder.ins().jump(done, &[]);
        self.builder.seal_block(done);
        self.builder.switch_to_block(done);
        Ok(true)
    }

    fn fixed_arguments(&mut self, plan: &Plan<'_, '_>) -> Result<(), CodeError> {
        let Product { ref outer, lhs, rhs, out, k, .. } = *plan.product;
        let one = self.int(1);
        let zero = self.int(0);
        // A negative size has no terms.
        let terms = self.builder.ins().smax(k.value, zero);
        self.pass(plan.block, slot::TERMS, terms);
        let strides = [
            (slot::LHS_ROW, lhs.slow),
            (slot::LHS_STEP, lhs.fast),
            (slot::RHS_ROW, rhs.slow),
            (slot::OUT_ROW, out.slow),
        ];
        for (slot, stride) in strides {
            let bytes = self.bytes(one, stride);
            self.pass(plan.block, slot, bytes);
        }
        // What all inside an axis moves by, which a step of the axis takes back.
        let (left, right) = (self.bytes(terms, lhs.fast), self.bytes(terms, rhs.slow));
        let mut inside = [left, right];
        for (k, axis) in outer.iter().enumerate().rev() {
            let points = self.builder.ins().smax(axis.extent.value, zero);
            let first = slot::OUTER + slot::OUTER_SLOTS * k as i32;
            self.pass(plan.block, first, points);
            for (side, stride) in [axis.lhs, axis.rhs].into_iter().enumerate() {
                let step = self.bytes(one, stride);
                let back = self.builder.ins().isub(step, inside[side]);
                self.pass(plan.block, first + 1 + side as i32, back);
                inside[side] = self.builder.ins().imul(points, step);
            }
        }
        self.pass_fixed(plan.block, slot::BODY, &plan.arguments)
    }

    /// Rows in tiles: of two heights that differ by one where their number is known.
    fn wide_bands(&mut self, plan: &Plan<'_, '_>) -> Vec<Band> {
        let (m, most) = (plan.product.m, tallest(plan.isa) as i64);
        let zero = self.int(0);
        if let Some(m) = m.known {
            let tiles = (m + most - 1) / most;
            let rows = (m + tiles - 1) / tiles;
            let lower = tiles * rows - m;
            let mut bands = Vec::new();
            let mut from = 0;
            for (tiles, rows) in [(tiles - lower, rows), (lower, rows - 1)] {
                if tiles > 0 {
                    let tiles = Extent { value: self.int(tiles), known: Some(tiles) };
                    bands.push(Band { from: self.int(from), tiles, rows: rows as usize });
                    from += tiles.known.unwrap_or(0) * rows;
                }
            }
            return bands;
        }
        let (mut bands, mut from, mut rows) = (Vec::new(), zero, most);
        while rows > 0 {
            let left = self.builder.ins().isub(m.value, from);
            let tiles = self.builder.ins().udiv_imm_u(left, rows);
            bands.push(Band { from, tiles: Extent { value: tiles, known: None }, rows: rows as usize });
            let done = self.builder.ins().imul_imm_s(tiles, rows);
            from = self.builder.ins().iadd(from, done);
            // Powers of two after the full tiles.
            rows = if rows == most { 1 << (most - 1).ilog2() } else { rows / 2 };
        }
        bands
    }

    fn wide_band(&mut self, plan: &Plan<'_, '_>, band: Band) -> Result<(), CodeError> {
        let lanes = plan.isa.lanes() as i64;
        let n = plan.product.n;
        let in_order = n.known.is_none_or(|n| n > MAX_STRIP_VECTORS * lanes);
        if band.rows == 1 && in_order && plan.product.outer.is_empty() && self.wide_lines(plan, band)? {
            return Ok(());
        }
        let panel = self.panel_tiles(plan, band);
        let strips = self.wide_strips(plan, band.rows);
        let end = band.tiles.value;
        let zero = self.int(0);
        // Panels of at most `panel` tiles; usually there is one.
        let whole = matches!((band.tiles.known, panel.known), (Some(tiles), Some(panel)) if tiles <= panel);
        if whole {
            return self.wide_panel(plan, band, &strips, zero, end);
        }
        self.looped_by(zero, end, panel.value, |cx, at| {
            let left = cx.builder.ins().isub(end, at);
            let tiles = cx.builder.ins().smin(left, panel.value);
            cx.wide_panel(plan, band, &strips, at, tiles)
        })
    }

    /// Tiles of a panel that the cache holds.
    fn panel_tiles(&mut self, plan: &Plan<'_, '_>, band: Band) -> Extent {
        let row_bytes = 4 * band.rows as i64;
        if let Some(k) = plan.product.k.known {
            let tiles = (PANEL_BYTES / row_bytes / k.max(1)).max(1);
            return Extent { value: self.int(tiles), known: Some(tiles) };
        }
        let all = self.int(PANEL_BYTES / row_bytes);
        let one = self.int(1);
        let k = self.builder.ins().smax(plan.product.k.value, one);
        let tiles = self.builder.ins().udiv(all, k);
        Extent { value: self.builder.ins().smax(tiles, one), known: None }
    }

    /// All strips over tiles `at..at + tiles` of a band.
    fn wide_panel(
        &mut self,
        plan: &Plan<'_, '_>,
        band: Band,
        strips: &[Strips],
        at: Value,
        tiles: Value,
    ) -> Result<(), CodeError> {
        let Product { lhs, rhs, out, .. } = *plan.product;
        let passed = self.builder.ins().imul_imm_s(at, band.rows as i64);
        let row = self.builder.ins().iadd(band.from, passed);
        let from = self.bytes(row, lhs.slow);
        let left = self.builder.ins().iadd(lhs.pointer, from);
        self.pass(plan.block, slot::LHS, left);
        self.pass(plan.block, slot::COUNT, tiles);
        let from = self.bytes(row, out.slow);
        let result = self.builder.ins().iadd(out.pointer, from);
        for strip in strips {
            let tile = Tile {
                rows: band.rows,
                vectors: strip.vectors,
                masked: strip.partial.is_some(),
                unit: lhs.fast.is(1),
                outer: plan.product.outer.len(),
                tail: plan.tail.clone(),
            };
            let Some(kernel) = self.kernel(Shape::Tile(tile), Some(plan.out))? else {
                return Err(super::super::function::internal(self.env.func, "a tile has no kernel"));
            };
            if let Some(columns) = strip.partial {
                self.pass(plan.block, slot::COLUMNS, columns);
            }
            let width = strip.vectors as i64 * plan.isa.lanes() as i64;
            let zero = self.int(0);
            self.looped(zero, strip.count.value, 1, false, |cx, k| {
                let passed = cx.builder.ins().imul_imm_s(k, width);
                let column = cx.builder.ins().iadd(strip.from, passed);
                let bytes = cx.builder.ins().ishl_imm_u(column, 2);
                let right = cx.builder.ins().iadd(rhs.pointer, bytes);
                cx.pass(plan.block, slot::RHS, right);
                let result = cx.builder.ins().iadd(result, bytes);
                cx.pass(plan.block, slot::OUT, result);
                let start = Start { row: Some(row), column: Some(column) };
                cx.pass_moving(plan.block, slot::BODY, &plan.arguments, start)?;
                cx.call_kernel(kernel, plan.block);
                Ok(())
            })?;
        }
        Ok(())
    }

    /// Columns in strips: of the greatest width, then of what is left over.
    fn wide_strips(&mut self, plan: &Plan<'_, '_>, rows: usize) -> Vec<Strips> {
        let (n, lanes) = (plan.product.n, plan.isa.lanes() as i64);
        let most = widest(plan.isa, rows);
        let zero = self.int(0);
        if let Some(n) = n.known {
            let vectors = (n + lanes - 1) / lanes;
            let strips = (vectors + most as i64 - 1) / most as i64;
            // As few strips as possible, of widths as even as possible; the last may be partial.
            let (wide, narrow) = ((vectors + strips - 1) / strips, vectors / strips);
            let many = vectors - narrow * strips;
            let mut all = Vec::new();
            let mut from = 0;
            let mut add = |cx: &mut Self, count: i64, vectors: i64, partial: Option<i64>| {
                if count > 0 && vectors > 0 {
                    let start = cx.int(from);
                    let known = Extent { value: cx.int(count), known: Some(count) };
                    let partial = partial.map(|columns| cx.int(columns));
                    let vectors_each = vectors as usize;
                    all.push(Strips { from: start, count: known, vectors: vectors_each, partial });
                    from += count * vectors * lanes;
                }
            };
            let partial = Some(n % lanes).filter(|rest| *rest != 0);
            // The last strip is a narrow one where there are two widths.
            let (wides, narrows) = if wide == narrow { (0, strips) } else { (many, strips - many) };
            add(self, wides, wide, None);
            add(self, narrows - i64::from(partial.is_some()), narrow, None);
            add(self, i64::from(partial.is_some()), narrow, partial);
            return all;
        }
        let (mut all, mut from) = (Vec::new(), zero);
        let mut widths = vec![most];
        while let Some(last) = widths.last().filter(|last| **last > 1) {
            let next = if *last > 4 { last / 2 } else { 1 };
            widths.push(next);
        }
        for vectors in widths {
            let left = self.builder.ins().isub(n.value, from);
            let width = vectors as i64 * lanes;
            let count = self.builder.ins().udiv_imm_u(left, width);
            all.push(Strips { from, count: Extent { value: count, known: None }, vectors, partial: None });
            let done = self.builder.ins().imul_imm_s(count, width);
            from = self.builder.ins().iadd(from, done);
        }
        let left = self.builder.ins().isub(n.value, from);
        let one = self.int(1);
        // One strip if there is something left.
        let count = self.builder.ins().smin(left, one);
        let count = Extent { value: count, known: None };
        all.push(Strips { from, count, vectors: 1, partial: Some(left) });
        all
    }

    /// The rows of a band one by one, each reading the whole matrix in order.
    fn wide_lines(&mut self, plan: &Plan<'_, '_>, band: Band) -> Result<bool, CodeError> {
        let line = Line { tail: plan.tail.clone() };
        let Some(kernel) = self.kernel(Shape::Line(line), Some(plan.out))? else { return Ok(false) };
        let Product { lhs, rhs, out, n, .. } = *plan.product;
        self.pass(plan.block, slot::COLUMNS, n.value);
        self.pass(plan.block, slot::RHS, rhs.pointer);
        let zero = self.int(0);
        self.looped(zero, band.tiles.value, 1, false, |cx, at| {
            let row = cx.builder.ins().iadd(band.from, at);
            let from = cx.bytes(row, lhs.slow);
            let left = cx.builder.ins().iadd(lhs.pointer, from);
            cx.pass(plan.block, slot::LHS, left);
            let from = cx.bytes(row, out.slow);
            let result = cx.builder.ins().iadd(out.pointer, from);
            cx.pass(plan.block, slot::OUT, result);
            let start = Start { row: Some(row), column: None };
            cx.pass_moving(plan.block, slot::BODY, &plan.arguments, start)?;
            cx.call_kernel(kernel, plan.block);
            Ok(())
        })?;
        Ok(true)
    }
}
