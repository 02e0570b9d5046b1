//! Products by wide kernels: which tiles, in which order.
//!
//! # Cost model
//!
//! A kernel does tiles of a panel of rows over one strip of columns. The strip of the right operand
//! is read once per tile, the panel of the left operand once per strip. Per step of the contraction
//! a tile of 14 rows by 2 vectors of 16 lanes reads 128 bytes of the strip and 56 of the panel for
//! 14 cycles of multiplications: little enough to come from the second cache. What a strip costs is
//! its shape. Its rows lie as far apart as the matrix is wide, each in another page, and at
//! distances of a power of two in a few sets of the caches. So:
//!
//! - A right operand of at most [`COMPACT_BYTES`] is read in place, all terms in one go.
//! - A greater one is read in parts of the contraction. For few tiles parts of [`PLACED_TERMS`]
//!   rows are read in place: so many pages are known at once, and the next strip finds them known.
//! - For many tiles a strip of [`PACKED_TERMS`] rows is copied first ([`Pack`]), into the first
//!   cache, where its vectors are aligned; the copy costs about 3 in `m` of the time.
//! - Sums of a part are stored to the result and loaded by the next, so their order stays the same.
//! - A panel has at most [`PANEL_ROWS`] rows: with the terms of a part it stays in half a second
//!   cache of 1 MiB, the smallest around.
//! - Where rows of the left operand are a multiple of 4 KiB apart, they fall into the same sets of
//!   the first cache, so tiles are lower and wider.
//! - A right operand that is contiguous along the terms is transposed as it is copied: for all
//!   numbers of rows, so that the order of a sum does not depend on it.
//! - Rows are divided evenly into tiles rather than into full tiles and a small rest, for small
//!   tiles wait for the latency of the multiplication, or for the matrix.

use super::super::super::error::CodeError;
use super::super::super::vector::Isa;
use super::super::super::vector::body::{Argument, Extraction};
use super::super::super::vector::kernels::Shape;
use super::super::super::vector::line::Line;
use super::super::super::vector::pack::Pack;
use super::super::super::vector::tile::{MAX_OUTER, Tail, Tile, slot, tallest, widest};
use super::super::function::{FuncCx, internal};
use super::super::gemm::{Extent, Sides};
use super::{Block, Start};
use crate::loops::ir::{BufferId, Gemm};
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{FuncRef, InstBuilder, Value, types};

/// # Units
/// Bytes of a right operand that is read in place.
const COMPACT_BYTES: i64 = 1 << 20;
/// Terms of a part whose strips are copied, and of one whose strips are read in place.
const PACKED_TERMS: i64 = 256;
const PLACED_TERMS: i64 = 64;
/// Rows from which on strips are copied: of a right operand that is not compact, and of any.
const MIN_PACKED_ROWS: i64 = 40;
const ALWAYS_PACKED_ROWS: i64 = 112;
/// Vectors of a strip that is transposed: what its copy needs, the stack must hold.
const MAX_TRANSPOSED_VECTORS: usize = 4;
/// Elements between rows that are 4 KiB apart, and rows of tiles then.
const CROWDED_ELEMS: i64 = 1024;
const LOW_ROWS: usize = 7;
/// Rows of a panel: full tiles of any height.
const PANEL_ROWS: i64 = 504;
/// Single rows of products with more vectors of columns than this read the matrix in order.
const MAX_STRIP_VECTORS: i64 = 16;

/// The orientation in which there are kernels for a product: one in which result and right operand are
/// contiguous along columns, or else one in which the right operand is contiguous along the terms.
fn oriented(sides: &Sides) -> Option<Sides> {
    let both = [sides.clone(), sides.flipped()];
    let stores = |of: &&Sides| of.out.fast.is(1) && !of.n.is(1);
    let direct = both.iter().filter(stores).find(|of| of.rhs.fast.is(1));
    // A single row reads the right operand once, which is cheaper than copying it.
    let copied = |of: &&Sides| of.rhs.slow.is(1) && !of.m.is(1) && of.outer.is_empty();
    direct.or_else(|| both.iter().filter(stores).find(copied)).cloned()
}

/// The parts of a product that do not change between its kernels.
struct Plan {
    product: Sides,
    isa: Isa,
    block: Block,
    tail: Option<Tail>,
    arguments: Vec<Argument>,
    /// Whose lines the printed kernels name.
    out: BufferId,
}

/// Rows in tiles of `rows` each, from `from` on in their panel.
#[derive(Clone, Copy)]
struct Band {
    from: Value,
    tiles: Extent,
    rows: usize,
}

/// `count` panels of rows from `from` on, each divided into the same bands of equal widths.
struct Panels {
    from: Value,
    count: Extent,
    bands: Vec<Band>,
}

/// The contraction in parts.
#[derive(Clone, Copy)]
struct Parts {
    /// Terms of a part.
    terms: Extent,
    /// Whether strips are copied: known, or a truth value.
    packed: Choice,
}

#[derive(Clone, Copy)]
enum Choice {
    Never,
    Always,
    If(Value),
}

/// Columns from `from` on, in strips of one width.
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
    pub(in super::super) fn wide_product(&mut self, gemm: &Gemm, sides: &Sides) -> Result<bool, CodeError> {
        let Some(isa) = self.kernels.isa() else { return Ok(false) };
        let Some(product) = oriented(sides) else { return Ok(false) };
        if product.outer.len() > MAX_OUTER {
            return Ok(false);
        }
        if product.m.known.is_some_and(|m| m <= 0) || product.n.known.is_some_and(|n| n <= 0) {
            return Ok(true);
        }
        let (tail, arguments) = match &gemm.epilogue {
            None => (None, Vec::new()),
            Some(of) => {
                let (row, column) = if product.flipped { (of.column, of.row) } else { (of.row, of.column) };
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
        self.only_if(some, |cx| {
            let block = cx.block(slot::BODY as usize + arguments.len());
            let plan = Plan { product, isa, block, tail, arguments, out: gemm.out.at.buffer };
            cx.fixed_arguments(&plan)?;
            for panels in cx.wide_panels(&plan) {
                cx.wide_rows(&plan, &panels)?;
            }
            Ok(())
        })?;
        Ok(true)
    }

    fn fixed_arguments(&mut self, plan: &Plan) -> Result<(), CodeError> {
        let Sides { ref outer, lhs, rhs, out, k, .. } = plan.product;
        let (one, zero) = (self.int(1), self.int(0));
        let strides = [(slot::LHS_ROW, lhs.slow), (slot::LHS_STEP, lhs.fast), (slot::OUT_ROW, out.slow)];
        for (slot, stride) in strides {
            let bytes = self.bytes(one, stride);
            self.pass(plan.block, slot, bytes);
        }
        // What all inside an axis moves by, which a step of the axis takes back.
        let terms = self.builder.ins().smax(k.value, zero);
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

    /// Rows in full panels, and what is left over in tiles of two heights that differ by one, or,
    /// where the number of rows is not known, of a few heights.
    fn wide_panels(&mut self, plan: &Plan) -> Vec<Panels> {
        let (m, most) = (plan.product.m, self.tallest(plan) as i64);
        let zero = self.int(0);
        let tiles = Extent { value: self.int(PANEL_ROWS / most), known: Some(PANEL_ROWS / most) };
        let full = Band { from: zero, tiles, rows: most as usize };
        let Some(m) = m.known else {
            let count = self.builder.ins().udiv_imm_u(m.value, PANEL_ROWS);
            let count = Extent { value: count, known: None };
            let mut all = vec![Panels { from: zero, count, bands: vec![full] }];
            let mut from = self.builder.ins().imul_imm_s(count.value, PANEL_ROWS);
            // Powers of two after the full tiles.
            let mut rows = most;
            while rows > 0 {
                let left = self.builder.ins().isub(m.value, from);
                let tiles = self.builder.ins().udiv_imm_u(left, rows);
                let one = self.int(1);
                let count = Extent { value: self.builder.ins().smin(tiles, one), known: None };
                let tiles = Extent { value: tiles, known: None };
                all.push(Panels {
                    from,
                    count,
                    bands: vec![Band { from: zero, tiles, rows: rows as usize }],
                });
                let done = self.builder.ins().imul_imm_s(tiles.value, rows);
                from = self.builder.ins().iadd(from, done);
                rows = if rows == most { 1 << (most - 1).ilog2() } else { rows / 2 };
            }
            return all;
        };
        let mut all = Vec::new();
        if m >= PANEL_ROWS {
            let count = Extent { value: self.int(m / PANEL_ROWS), known: Some(m / PANEL_ROWS) };
            all.push(Panels { from: zero, count, bands: vec![full] });
        }
        let (start, m) = (m - m % PANEL_ROWS, m % PANEL_ROWS);
        if m == 0 {
            return all;
        }
        let tiles = (m + most - 1) / most;
        let rows = (m + tiles - 1) / tiles;
        let lower = tiles * rows - m;
        let mut from = 0;
        for (tiles, rows) in [(tiles - lower, rows), (lower, rows - 1)] {
            if tiles == 0 {
                continue;
            }
            let known = Extent { value: self.int(tiles), known: Some(tiles) };
            let mut band = Band { from: self.int(from), tiles: known, rows: rows as usize };
            let width = |rows: usize| widest(plan.isa, rows);
            match all.last_mut() {
                Some(panels) if from > 0 && width(panels.bands[0].rows) == width(band.rows) => {
                    panels.bands.push(band);
                }
                _ => {
                    band.from = zero;
                    let (start, one) = (self.int(start + from), self.int(1));
                    let count = Extent { value: one, known: Some(1) };
                    all.push(Panels { from: start, count, bands: vec![band] });
                }
            }
            from += tiles * rows;
        }
        all
    }

    /// Rows of full tiles.
    fn tallest(&self, plan: &Plan) -> usize {
        let crowded = plan.product.lhs.slow.known.is_some_and(|row| row != 0 && row % CROWDED_ELEMS == 0);
        if crowded { tallest(plan.isa).min(LOW_ROWS) } else { tallest(plan.isa) }
    }

    fn wide_rows(&mut self, plan: &Plan, panels: &Panels) -> Result<(), CodeError> {
        let lanes = plan.isa.lanes() as i64;
        let n = plan.product.n;
        let wide = n.known.is_none_or(|n| n > MAX_STRIP_VECTORS * lanes);
        let in_order = wide && plan.product.rhs.fast.is(1) && plan.product.outer.is_empty();
        if panels.bands[0].rows == 1 && in_order && self.wide_lines(plan, panels)? {
            return Ok(());
        }
        let rows = panels.bands[0].rows;
        let parts = self.parts(plan, rows);
        let strips = self.wide_strips(plan, rows);
        let zero = self.int(0);
        // No terms are one part all the same, for the sums must be made zero.
        let one = self.int(1);
        let k = self.builder.ins().smax(plan.product.k.value, one);
        self.looped(zero, panels.count.value, 1, false, |cx, panel| {
            let passed = cx.builder.ins().imul_imm_s(panel, PANEL_ROWS);
            let row = cx.builder.ins().iadd(panels.from, passed);
            cx.looped_by(zero, k, parts.terms.value, |cx, term| {
                cx.wide_part(plan, panels, (row, term), parts, &strips)
            })
        })
    }

    /// How the contraction is divided for tiles of so many rows.
    fn parts(&mut self, plan: &Plan, rows: usize) -> Parts {
        let Sides { m, k, rhs, .. } = plan.product;
        if !plan.product.rhs.fast.is(1) {
            let terms = Extent { value: self.int(PACKED_TERMS), known: Some(PACKED_TERMS) };
            return Parts { terms, packed: Choice::Always };
        }
        if !plan.product.outer.is_empty() {
            // All terms at once, for parts could not be told apart from here.
            let one = self.int(1);
            let value = self.builder.ins().smax(k.value, one);
            return Parts { terms: Extent { value, known: None }, packed: Choice::Never };
        }
        let tall = rows >= tallest(plan.isa).min(LOW_ROWS) - 1;
        if let (Some(m), Some(k), Some(row)) = (m.known, k.known, rhs.slow.known) {
            let compact = k.saturating_mul(row.saturating_abs()).saturating_mul(4) <= COMPACT_BYTES;
            let packed = tall && m >= if compact { ALWAYS_PACKED_ROWS } else { MIN_PACKED_ROWS };
            let terms = match (packed, compact) {
                (true, _) => PACKED_TERMS,
                (false, true) => k.max(1),
                (false, false) => PLACED_TERMS,
            };
            let packed = if packed { Choice::Always } else { Choice::Never };
            return Parts { terms: Extent { value: self.int(terms), known: Some(terms) }, packed };
        }
        let bytes = self.bytes(k.value, rhs.slow);
        let large = self.builder.ins().icmp_imm_s(IntCC::SignedGreaterThan, bytes, COMPACT_BYTES);
        let one = self.int(1);
        let all = self.builder.ins().smax(k.value, one);
        let (packed_terms, placed_terms) = (self.int(PACKED_TERMS), self.int(PLACED_TERMS));
        if !tall || m.known.is_some_and(|m| m < MIN_PACKED_ROWS) {
            let value = self.builder.ins().select(large, placed_terms, all);
            return Parts { terms: Extent { value, known: None }, packed: Choice::Never };
        }
        let (some, many) = (self.int(MIN_PACKED_ROWS), self.int(ALWAYS_PACKED_ROWS));
        let least = self.builder.ins().select(large, some, many);
        let packed = self.builder.ins().icmp(IntCC::SignedGreaterThanOrEqual, m.value, least);
        let placed = self.builder.ins().select(large, placed_terms, all);
        let value = self.builder.ins().select(packed, packed_terms, placed);
        Parts { terms: Extent { value, known: None }, packed: Choice::If(packed) }
    }

    /// All strips of a panel, for the terms of a part.
    fn wide_part(
        &mut self,
        plan: &Plan,
        panels: &Panels,
        (row, term): (Value, Value),
        parts: Parts,
        strips: &[Strips],
    ) -> Result<(), CodeError> {
        let Sides { lhs, rhs, k, .. } = plan.product;
        let zero = self.int(0);
        let left = self.builder.ins().isub(k.value, term);
        let terms = self.builder.ins().smin(left, parts.terms.value);
        // A negative size has no terms.
        let terms = self.builder.ins().smax(terms, zero);
        let ends = self.builder.ins().icmp(IntCC::SignedLessThanOrEqual, left, parts.terms.value);
        let ends = self.builder.ins().uextend(types::I64, ends);
        for (slot, value) in [(slot::TERMS, terms), (slot::RESUMES, term), (slot::ENDS, ends)] {
            self.pass(plan.block, slot, value);
        }
        let (down, along) = (self.bytes(row, lhs.slow), self.bytes(term, lhs.fast));
        let left = self.builder.ins().iadd(lhs.pointer, down);
        let left = self.builder.ins().iadd(left, along);
        let down = self.bytes(term, rhs.slow);
        let right = self.builder.ins().iadd(rhs.pointer, down);
        for strip in strips {
            self.wide_strip(plan, panels, (row, left), (right, terms), parts.packed, *strip)?;
        }
        Ok(())
    }

    /// All bands of a panel over strips of one width.
    fn wide_strip(
        &mut self,
        plan: &Plan,
        panels: &Panels,
        (row, left): (Value, Value),
        (right, terms): (Value, Value),
        packed: Choice,
        strip: Strips,
    ) -> Result<(), CodeError> {
        let lhs = plan.product.lhs;
        let mut kernels = Vec::new();
        for band in &panels.bands {
            let tile = Tile {
                rows: band.rows,
                vectors: strip.vectors,
                masked: strip.partial.is_some(),
                unit: lhs.fast.is(1),
                outer: plan.product.outer.len(),
                tail: plan.tail.clone(),
            };
            let kernel = self.kernel(Shape::Tile(tile), Some(plan.out))?;
            kernels.push((band, kernel.ok_or_else(|| internal(self.env.func, "a tile has no kernel"))?));
        }
        if let Some(columns) = strip.partial {
            self.pass(plan.block, slot::COLUMNS, columns);
        }
        let width = strip.vectors as i64 * plan.isa.lanes() as i64;
        let zero = self.int(0);
        self.looped(zero, strip.count.value, 1, false, |cx, at| {
            let passed = cx.builder.ins().imul_imm_s(at, width);
            let column = cx.builder.ins().iadd(strip.from, passed);
            let bytes = cx.bytes(column, plan.product.rhs.fast);
            let right = cx.builder.ins().iadd(right, bytes);
            cx.place_strip(plan, strip, (right, terms), packed)?;
            for (band, kernel) in kernels {
                cx.wide_band(plan, band, kernel, (row, column), left)?;
            }
            Ok(())
        })
    }

    /// Passes where a strip of the right operand lies, and how far its rows are apart.
    fn place_strip(
        &mut self,
        plan: &Plan,
        strip: Strips,
        (right, terms): (Value, Value),
        packed: Choice,
    ) -> Result<(), CodeError> {
        let rhs = plan.product.rhs;
        let one = self.int(1);
        if !matches!(packed, Choice::Always) {
            let stride = self.bytes(one, rhs.slow);
            self.pass(plan.block, slot::RHS, right);
            self.pass(plan.block, slot::RHS_ROW, stride);
        }
        match packed {
            Choice::Never => Ok(()),
            Choice::Always => self.pack_strip(plan, strip, right, terms),
            Choice::If(condition) => self.only_if(condition, |cx| cx.pack_strip(plan, strip, right, terms)),
        }
    }

    fn pack_strip(
        &mut self,
        plan: &Plan,
        strip: Strips,
        right: Value,
        terms: Value,
    ) -> Result<(), CodeError> {
        let rhs = plan.product.rhs;
        let transposed = !plan.product.rhs.fast.is(1);
        let pack = Pack { vectors: strip.vectors, masked: strip.partial.is_some(), transposed };
        let Some(kernel) = self.kernel(Shape::Pack(pack), Some(plan.out))? else {
            return Err(internal(self.env.func, "a strip cannot be packed"));
        };
        let row_bytes = strip.vectors as i64 * i64::from(plan.isa.bytes());
        let to = self.packing_space(PACKED_TERMS * row_bytes);
        let one = self.int(1);
        let stride = self.bytes(one, if transposed { rhs.fast } else { rhs.slow });
        let columns = strip.partial.map(|last| {
            // A strip that is transposed is counted whole.
            let full = if transposed { (strip.vectors - 1) * plan.isa.lanes() } else { 0 };
            self.builder.ins().iadd_imm_s(last, full as i64)
        });
        let block = self.block(slot::BODY as usize);
        let passed = [(slot::RHS, right), (slot::OUT, to), (slot::TERMS, terms), (slot::RHS_ROW, stride)];
        for (slot, value) in passed.into_iter().chain(columns.map(|n| (slot::COLUMNS, n))) {
            self.pass(block, slot, value);
        }
        self.call_kernel(kernel, block);
        self.pass(plan.block, slot::RHS, to);
        let stride = self.int(row_bytes);
        self.pass(plan.block, slot::RHS_ROW, stride);
        Ok(())
    }

    /// The tiles of a band over a strip that starts at `column`, in a panel that starts at `row`.
    fn wide_band(
        &mut self,
        plan: &Plan,
        band: &Band,
        kernel: FuncRef,
        (row, column): (Value, Value),
        left: Value,
    ) -> Result<(), CodeError> {
        let Sides { lhs, out, .. } = plan.product;
        let down = self.bytes(band.from, lhs.slow);
        let left = self.builder.ins().iadd(left, down);
        self.pass(plan.block, slot::LHS, left);
        self.pass(plan.block, slot::COUNT, band.tiles.value);
        let row = self.builder.ins().iadd(row, band.from);
        let (down, along) = (self.bytes(row, out.slow), self.builder.ins().ishl_imm_u(column, 2));
        let result = self.builder.ins().iadd(out.pointer, down);
        let result = self.builder.ins().iadd(result, along);
        self.pass(plan.block, slot::OUT, result);
        let start = Start { row: Some(row), column: Some(column) };
        self.pass_moving(plan.block, slot::BODY, &plan.arguments, start)?;
        self.call_kernel(kernel, plan.block);
        Ok(())
    }

    /// Columns in strips: of the greatest width, then of what is left over.
    fn wide_strips(&mut self, plan: &Plan, rows: usize) -> Vec<Strips> {
        let (n, lanes) = (plan.product.n, plan.isa.lanes() as i64);
        let mut most = widest(plan.isa, rows);
        if !plan.product.rhs.fast.is(1) {
            most = most.min(MAX_TRANSPOSED_VECTORS);
        }
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

    /// Single rows one by one, each reading the whole matrix in order.
    fn wide_lines(&mut self, plan: &Plan, panels: &Panels) -> Result<bool, CodeError> {
        let line = Line { tail: plan.tail.clone() };
        let Some(kernel) = self.kernel(Shape::Line(line), Some(plan.out))? else { return Ok(false) };
        let Sides { lhs, rhs, out, n, k, .. } = plan.product;
        self.pass(plan.block, slot::TERMS, k.value);
        let (one, band) = (self.int(1), panels.bands[0]);
        let stride = self.bytes(one, rhs.slow);
        self.pass(plan.block, slot::RHS_ROW, stride);
        self.pass(plan.block, slot::COLUMNS, n.value);
        self.pass(plan.block, slot::RHS, rhs.pointer);
        let zero = self.int(0);
        // Bands of single rows are one panel, whatever its count says.
        self.looped(zero, band.tiles.value, 1, false, |cx, at| {
            let row = cx.builder.ins().iadd(panels.from, at);
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
