//! The loops: which tiles, in which order.
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
//!   Of rows of at most [`NARROW_ELEMS`] it may be more, [`PACKED_TERMS`].
//! - For many tiles a strip of [`PACKED_TERMS`] rows is copied first ([`Pack`]), into the first
//!   cache, where its vectors are aligned; the copy costs about 3 in `m` of the time.
//! - Sums of a part are stored to the result and loaded by the next, so their order stays the same.
//! - Tiles ask for the rows of the strip that comes next, into the second cache.
//! - A panel has at most [`PANEL_ROWS`] rows, and a last one some more: with the terms of a part it stays
//!   in about half a second cache of 1 MiB, the smallest around.
//! - Where rows of the left operand are a multiple of 4 KiB apart, they fall into the same sets of
//!   the first cache, so tiles are lower and wider.
//! - A right operand that is contiguous along the terms is transposed as it is copied: for all
//!   numbers of rows, so that the order of a sum does not depend on it.
//! - Rows are divided evenly into tiles rather than into full tiles and a small rest, for small
//!   tiles wait for the latency of the multiplication, or for the matrix.

use super::super::super::super::error::CodeError;
use super::super::super::super::vector::kernels::Shape;
use super::super::super::super::vector::line::Line;
use super::super::super::super::vector::pack::Pack;
use super::super::super::super::vector::tile::{Tile, UNROLLED, slot, tallest, widest};
use super::super::super::units::{Span, overlap, part_of_row, rows_of};
use super::{Footprint, MacroCx, MacroKernel, Product, frame};
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{FuncRef, InstBuilder, MemFlagsData, Value, types};

/// # Units
/// Bytes of a right operand that is read in place.
const COMPACT_BYTES: i64 = 1 << 20;
/// Terms of a part whose strips are copied, and of one whose strips are read in place.
const PACKED_TERMS: i64 = 256;
const PLACED_TERMS: i64 = 64;
/// Rows from which on strips are copied: of a right operand that is not compact, and of any.
const MIN_PACKED_ROWS: i64 = 40;
const MIN_PACKED_NARROW_ROWS: i64 = 112;
const ALWAYS_PACKED_ROWS: i64 = 192;
/// Elements between rows of a right operand that are near each other: at most a page.
const NARROW_ELEMS: i64 = 768;
/// Vectors of a strip that is transposed: what its copy needs, the stack must hold.
const MAX_TRANSPOSED_VECTORS: usize = 4;
/// Elements between rows that are 4 KiB apart, and rows of tiles then.
const CROWDED_ELEMS: i64 = 1024;
const LOW_ROWS: usize = 7;
/// Lower tiles wait for loads as it is, and are left alone with what comes next.
const MIN_AHEAD_ROWS: usize = 4;
/// Rows of a panel: full tiles of any height.
pub(in super::super) const PANEL_ROWS: i64 = 504;
/// Rows by which the last panel may be higher.
const MAX_MORE_ROWS: i64 = 126;
/// Columns of a unit of work of single rows: what is read in order of each row of the matrix.
pub(in super::super) const LINE_COLUMNS: i64 = 512;
/// Single rows of products with more vectors of columns than this read the matrix in order.
const MAX_STRIP_VECTORS: i64 = 16;

/// Rows in tiles of `rows` each, from `from` on in their panel.
#[derive(Clone, Copy)]
struct Band {
    from: Value,
    tiles: Value,
    rows: usize,
    /// The number of tiles, or one that it is not below.
    least: i64,
}

/// `count` panels of rows from `from` on, each divided into the same bands of equal widths.
struct Panels {
    from: Value,
    count: Value,
    bands: Vec<Band>,
}

/// The contraction in parts.
#[derive(Clone, Copy)]
struct Parts {
    /// Terms of a part.
    terms: Value,
    /// Whether strips are copied: known, or a truth value.
    packed: Choice,
}

#[derive(Clone, Copy)]
enum Choice {
    Never,
    Always,
    If(Value),
}

/// The right operand in a part of the contraction.
#[derive(Clone, Copy)]
struct Right {
    start: Value,
    terms: Value,
    /// Of a strip: one per term, and per point of the axes around the terms.
    rows: Value,
    /// Where the next part starts.
    next: Value,
}

/// Rows of the next strip that tiles of a panel's first band ask for in every few steps, so that all
/// are asked for by the time the band is done.
fn ahead(of: &MacroKernel, band: &Band) -> usize {
    if of.transposed || !of.even || band.rows < MIN_AHEAD_ROWS {
        return 0;
    }
    (UNROLLED as u64).div_ceil(band.least.max(1) as u64) as usize
}

/// Columns from `from` on, in strips of one width.
#[derive(Clone, Copy)]
struct Strips {
    from: Value,
    count: Value,
    /// The first that is taken, if not all are; `count` then says where they end.
    first: Option<Value>,
    vectors: usize,
    /// Columns of the last vector, if it is not full.
    partial: Option<Value>,
}

impl MacroKernel {
    /// Of a right operand with so many terms and elements between its rows.
    pub(in super::super) fn footprint(terms: i64, row: i64) -> Footprint {
        let row = row.saturating_abs();
        if terms.saturating_mul(row).saturating_mul(4) <= COMPACT_BYTES {
            return Footprint::Compact;
        }
        if row <= NARROW_ELEMS { Footprint::Narrow } else { Footprint::Wide }
    }

    /// Of a left operand with so many elements between its rows.
    pub(in super::super) fn is_crowded(row: i64) -> bool {
        row != 0 && row % CROWDED_ELEMS == 0
    }
}

impl MacroCx<'_, '_> {
    /// Emits all panels of a product, or the shares of them that the frame names.
    pub(super) fn schedule(&mut self, product: &Product<'_>) -> Result<(), CodeError> {
        let all = self.panels(product);
        if !product.of.divided {
            return all.iter().try_for_each(|panels| self.rows(product, panels, None));
        }
        let mut total = self.int(0);
        let mut counted = Vec::with_capacity(all.len());
        for panels in all {
            let own = self.units(product, &panels)?;
            let units = self.builder.ins().imul(own, panels.count);
            counted.push((panels, own, total, units));
            total = self.builder.ins().iadd(total, units);
        }
        let first = product.of.frame();
        let [from, to, shares] = [frame::FROM, frame::TO, frame::SHARES].map(|at| self.read(first + at));
        let one = self.int(1);
        let shares = self.builder.ins().smax(shares, one);
        let [from, to] = [from, to].map(|share| {
            let units = self.builder.ins().imul(total, share);
            self.builder.ins().udiv(units, shares)
        });
        for (panels, own, before, units) in counted {
            let inside = overlap(&mut self.builder, Span { from, to }, before, units);
            self.rows(product, &panels, Some((inside, own)))?;
        }
        Ok(())
    }

    /// Units of work of one panel: its strips, or blocks of columns where rows are taken singly. A unit is
    /// computed in the same way whatever units are computed beside it.
    fn units(&mut self, product: &Product<'_>, panels: &Panels) -> Result<Value, CodeError> {
        if self.line(product, panels)?.is_some() {
            let above = self.builder.ins().iadd_imm_s(product.n, LINE_COLUMNS - 1);
            return Ok(self.builder.ins().udiv_imm_u(above, LINE_COLUMNS));
        }
        let zero = self.int(0);
        let strips = self.strips(product, panels.bands[0].rows);
        Ok(strips.iter().fold(zero, |sum, strip| self.builder.ins().iadd(sum, strip.count)))
    }

    /// The kernel for rows that are taken singly, each reading the whole matrix in order, where they are.
    fn line(&mut self, product: &Product<'_>, panels: &Panels) -> Result<Option<FuncRef>, CodeError> {
        let lanes = self.isa.lanes() as i64;
        let wide = product.of.columns.is_none_or(|n| n > MAX_STRIP_VECTORS * lanes);
        if panels.bands[0].rows != 1 || !wide || product.of.transposed || product.of.outer > 0 {
            return Ok(None);
        }
        self.kernel(Shape::Line(Line { tail: product.of.tail.clone() }))
    }

    /// Rows in full panels, and what is left over in tiles of two heights that differ by one, or,
    /// where the number of rows is not known, of a few heights.
    fn panels(&mut self, product: &Product<'_>) -> Vec<Panels> {
        let tall = if product.of.crowded { tallest(self.isa).min(LOW_ROWS) } else { tallest(self.isa) };
        let most = tall as i64;
        let zero = self.int(0);
        let least = PANEL_ROWS / most;
        let full = Band { from: zero, tiles: self.int(least), rows: tall, least };
        let Some(m) = product.of.rows else {
            let count = self.builder.ins().udiv_imm_u(product.m, PANEL_ROWS);
            let mut all = vec![Panels { from: zero, count, bands: vec![full] }];
            let mut from = self.builder.ins().imul_imm_s(count, PANEL_ROWS);
            // Powers of two after the full tiles.
            let mut rows = most;
            while rows > 0 {
                let left = self.builder.ins().isub(product.m, from);
                let tiles = self.builder.ins().udiv_imm_u(left, rows);
                let one = self.int(1);
                let count = self.builder.ins().smin(tiles, one);
                all.push(Panels {
                    from,
                    count,
                    bands: vec![Band { from: zero, tiles, rows: rows as usize, least: 1 }],
                });
                let done = self.builder.ins().imul_imm_s(tiles, rows);
                from = self.builder.ins().iadd(from, done);
                rows = if rows == most { 1 << (most - 1).ilog2() } else { rows / 2 };
            }
            return all;
        };
        let mut all = Vec::new();
        // A few rows more make the last panel higher, for one of their own would read all strips again.
        let full_panels = match m % PANEL_ROWS {
            1..=MAX_MORE_ROWS => (m / PANEL_ROWS - 1).max(0),
            _ => m / PANEL_ROWS,
        };
        if full_panels > 0 {
            all.push(Panels { from: zero, count: self.int(full_panels), bands: vec![full] });
        }
        let start = full_panels * PANEL_ROWS;
        let m = m - start;
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
            let (start_at, count) = (self.int(from), self.int(tiles));
            let mut band = Band { from: start_at, tiles: count, rows: rows as usize, least: tiles };
            let width = |rows: usize| widest(self.isa, rows);
            match all.last_mut() {
                Some(panels) if from > 0 && width(panels.bands[0].rows) == width(band.rows) => {
                    panels.bands.push(band);
                }
                _ => {
                    band.from = zero;
                    let (start, one) = (self.int(start + from), self.int(1));
                    all.push(Panels { from: start, count: one, bands: vec![band] });
                }
            }
            from += tiles * rows;
        }
        all
    }

    /// The panels of a kind over all their strips; or, of so many units each, some.
    fn rows(
        &mut self,
        product: &Product<'_>,
        panels: &Panels,
        units: Option<(Span, Value)>,
    ) -> Result<(), CodeError> {
        if let Some(kernel) = self.line(product, panels)? {
            return self.lines(product, panels, kernel, units.map(|(span, _)| span));
        }
        let rows = panels.bands[0].rows;
        let parts = self.parts(product, rows);
        let strips = self.strips(product, rows);
        let (zero, one) = (self.int(0), self.int(1));
        // No terms are one part all the same, for the sums must be made zero.
        let k = self.builder.ins().smax(product.k, one);
        let panel = |cx: &mut Self, panel: Value, strips: &[Strips]| {
            let passed = cx.builder.ins().imul_imm_s(panel, PANEL_ROWS);
            let row = cx.builder.ins().iadd(panels.from, passed);
            cx.looped((zero, k, parts.terms), |cx, term| cx.part(product, panels, (row, term), parts, strips))
        };
        let Some((span, own)) = units else {
            return self.times(panels.count, |cx, at| panel(cx, at, &strips));
        };
        let (rows, own) = rows_of(&mut self.builder, span, own);
        self.looped((rows.from, rows.to, one), |cx, at| {
            let inside = part_of_row(&mut cx.builder, span, own, at);
            let strips = cx.strips_within(&strips, inside);
            panel(cx, at, &strips)
        })
    }

    /// Strips of which only those of some units are taken.
    fn strips_within(&mut self, strips: &[Strips], units: Span) -> Vec<Strips> {
        let mut before = self.int(0);
        let mut all = Vec::with_capacity(strips.len());
        for strip in strips {
            let taken = overlap(&mut self.builder, units, before, strip.count);
            all.push(Strips { first: Some(taken.from), count: taken.to, ..*strip });
            before = self.builder.ins().iadd(before, strip.count);
        }
        all
    }

    /// How the contraction is divided for tiles of so many rows.
    fn parts(&mut self, product: &Product<'_>, rows: usize) -> Parts {
        let of = product.of;
        if of.transposed {
            return Parts { terms: self.int(PACKED_TERMS), packed: Choice::Always };
        }
        let one = self.int(1);
        let all = self.builder.ins().smax(product.k, one);
        if of.outer > 0 {
            // All terms at once, for parts could not be told apart from here.
            return Parts { terms: all, packed: Choice::Never };
        }
        let tall = rows >= tallest(self.isa).min(LOW_ROWS) - 1;
        if let (Some(m), Some(footprint)) = (of.rows, of.footprint) {
            let least = match footprint {
                Footprint::Compact => ALWAYS_PACKED_ROWS,
                Footprint::Narrow => MIN_PACKED_NARROW_ROWS,
                Footprint::Wide => MIN_PACKED_ROWS,
            };
            let packed = tall && m >= least;
            let terms = match (packed, footprint) {
                (true, _) | (false, Footprint::Narrow) => self.int(PACKED_TERMS),
                (false, Footprint::Compact) => all,
                (false, Footprint::Wide) => self.int(PLACED_TERMS),
            };
            return Parts { terms, packed: if packed { Choice::Always } else { Choice::Never } };
        }
        let bytes = self.builder.ins().imul(product.k, product.rhs_row);
        let large = self.builder.ins().icmp_imm_s(IntCC::SignedGreaterThan, bytes, COMPACT_BYTES);
        let (packed_terms, placed_terms) = (self.int(PACKED_TERMS), self.int(PLACED_TERMS));
        let placed = self.builder.ins().select(large, placed_terms, all);
        if !tall || of.rows.is_some_and(|m| m < MIN_PACKED_ROWS) {
            return Parts { terms: placed, packed: Choice::Never };
        }
        let (some, many) = (self.int(MIN_PACKED_ROWS), self.int(ALWAYS_PACKED_ROWS));
        let least = self.builder.ins().select(large, some, many);
        let packed = self.builder.ins().icmp(IntCC::SignedGreaterThanOrEqual, product.m, least);
        let terms = self.builder.ins().select(packed, packed_terms, placed);
        Parts { terms, packed: Choice::If(packed) }
    }

    /// All strips of a panel, for the terms of a part.
    fn part(
        &mut self,
        product: &Product<'_>,
        panels: &Panels,
        (row, term): (Value, Value),
        parts: Parts,
        strips: &[Strips],
    ) -> Result<(), CodeError> {
        let zero = self.int(0);
        let left = self.builder.ins().isub(product.k, term);
        let terms = self.builder.ins().smin(left, parts.terms);
        // A negative size has no terms.
        let terms = self.builder.ins().smax(terms, zero);
        let ends = self.builder.ins().icmp(IntCC::SignedLessThanOrEqual, left, parts.terms);
        let ends = self.builder.ins().uextend(types::I64, ends);
        for (slot, value) in [(slot::TERMS, terms), (slot::RESUMES, term), (slot::ENDS, ends)] {
            self.pass(slot, value);
        }
        let left = self.moved(product.lhs, row, product.lhs_row);
        let left = self.moved(left, term, product.lhs_step);
        let right = self.moved(product.rhs, term, product.rhs_row);
        let next = self.moved(right, parts.terms, product.rhs_row);
        // All rows of a strip, those of the axes around the terms included.
        let outer = if product.of.even { product.of.outer as i32 } else { 0 };
        let rows = (0..outer).fold(terms, |rows, axis| {
            let points = self.read(slot::OUTER + slot::OUTER_SLOTS * axis);
            self.builder.ins().imul(rows, points)
        });
        let right = Right { start: right, terms, rows, next };
        for strip in strips {
            self.strip(product, panels, (row, left), right, parts.packed, *strip)?;
        }
        Ok(())
    }

    /// Says what the tiles over a strip ask for ahead: the rows of the strip that comes next, which is the
    /// first of the next part where there is no other.
    fn look_ahead(&mut self, product: &Product<'_>, right: Right, after: Value) {
        let beside = self.moved(right.start, after, product.rhs_step);
        let more = self.builder.ins().icmp(IntCC::SignedLessThan, after, product.n);
        let next = self.builder.ins().select(more, beside, right.next);
        let passed = self.builder.ins().iadd_imm_s(right.rows, -1);
        let last = self.moved(next, passed, product.rhs_row);
        for (slot, value) in [(slot::NEXT, next), (slot::NEXT_ROW, product.rhs_row), (slot::NEXT_LAST, last)]
        {
            self.pass(slot, value);
        }
    }

    /// All bands of a panel over strips of one width.
    fn strip(
        &mut self,
        product: &Product<'_>,
        panels: &Panels,
        (row, left): (Value, Value),
        right: Right,
        packed: Choice,
        strip: Strips,
    ) -> Result<(), CodeError> {
        let mut kernels = Vec::new();
        for (at, band) in panels.bands.iter().enumerate() {
            let tile = Tile {
                rows: band.rows,
                vectors: strip.vectors,
                masked: strip.partial.is_some(),
                unit: product.of.unit,
                outer: product.of.outer,
                ahead: if at == 0 { ahead(product.of, band) } else { 0 },
                tail: product.of.tail.clone(),
            };
            let kernel = self.kernel(Shape::Tile(tile))?;
            kernels.push((band, kernel.ok_or_else(|| self.fault("a tile has no kernel"))?));
        }
        if let Some(columns) = strip.partial {
            self.pass(slot::COLUMNS, columns);
        }
        let width = strip.vectors as i64 * self.isa.lanes() as i64;
        let looks_ahead = ahead(product.of, &panels.bands[0]) > 0;
        let one_strip = |cx: &mut Self, at: Value| {
            let passed = cx.builder.ins().imul_imm_s(at, width);
            let column = cx.builder.ins().iadd(strip.from, passed);
            if looks_ahead {
                let after = cx.builder.ins().iadd_imm_s(column, width);
                cx.look_ahead(product, right, after);
            }
            let start = cx.moved(right.start, column, product.rhs_step);
            cx.place_strip(product, strip, (start, right.terms), packed)?;
            for (band, kernel) in kernels {
                cx.band(product, band, kernel, (row, column), left);
            }
            Ok(())
        };
        match strip.first {
            None => self.times(strip.count, one_strip),
            Some(first) => {
                let one = self.int(1);
                self.looped((first, strip.count, one), one_strip)
            }
        }
    }

    /// Passes where a strip of the right operand lies, and how far its rows are apart.
    fn place_strip(
        &mut self,
        product: &Product<'_>,
        strip: Strips,
        (right, terms): (Value, Value),
        packed: Choice,
    ) -> Result<(), CodeError> {
        if !matches!(packed, Choice::Always) {
            self.pass(slot::RHS, right);
            self.pass(slot::RHS_ROW, product.rhs_row);
        }
        match packed {
            Choice::Never => Ok(()),
            Choice::Always => self.pack_strip(product, strip, right, terms),
            Choice::If(condition) => {
                let (on, done) = (self.builder.create_block(), self.builder.create_block());
                self.builder.ins().brif(condition, on, &[], done, &[]);
                self.builder.seal_block(on);
                self.builder.switch_to_block(on);
                self.pack_strip(product, strip, right, terms)?;
                self.builder.ins().jump(done, &[]);
                self.builder.seal_block(done);
                self.builder.switch_to_block(done);
                Ok(())
            }
        }
    }

    fn pack_strip(
        &mut self,
        product: &Product<'_>,
        strip: Strips,
        right: Value,
        terms: Value,
    ) -> Result<(), CodeError> {
        let transposed = product.of.transposed;
        let pack = Pack { vectors: strip.vectors, masked: strip.partial.is_some(), transposed };
        let kernel = self.kernel(Shape::Pack(pack))?;
        let kernel = kernel.ok_or_else(|| self.fault("a strip cannot be packed"))?;
        let row_bytes = strip.vectors as i64 * i64::from(self.isa.bytes());
        let to = self.packing_space(PACKED_TERMS * row_bytes);
        let columns = strip.partial.map(|last| {
            // A strip that is transposed is counted whole.
            let full = if transposed { (strip.vectors - 1) * self.isa.lanes() } else { 0 };
            self.builder.ins().iadd_imm_s(last, full as i64)
        });
        let stride = if transposed { product.rhs_step } else { product.rhs_row };
        let block = self.block(slot::BODY as usize);
        let passed = [(slot::RHS, right), (slot::OUT, to), (slot::TERMS, terms), (slot::RHS_ROW, stride)];
        for (slot, value) in passed.into_iter().chain(columns.map(|n| (slot::COLUMNS, n))) {
            self.builder.ins().store(MemFlagsData::trusted(), value, block, 8 * slot);
        }
        self.call(kernel, block);
        self.pass(slot::RHS, to);
        let stride = self.int(row_bytes);
        self.pass(slot::RHS_ROW, stride);
        Ok(())
    }

    /// The tiles of a band over a strip that starts at `column`, in a panel that starts at `row`.
    fn band(
        &mut self,
        product: &Product<'_>,
        band: &Band,
        kernel: FuncRef,
        (row, column): (Value, Value),
        left: Value,
    ) {
        let left = self.moved(left, band.from, product.lhs_row);
        self.pass(slot::LHS, left);
        self.pass(slot::COUNT, band.tiles);
        let row = self.builder.ins().iadd(row, band.from);
        let result = self.moved(product.out, row, product.out_row);
        let along = self.builder.ins().ishl_imm_u(column, 2);
        let result = self.builder.ins().iadd(result, along);
        self.pass(slot::OUT, result);
        self.pass_moving(product, row, column);
        self.call(kernel, self.block);
    }

    /// Columns in strips: of the greatest width, then of what is left over.
    fn strips(&mut self, product: &Product<'_>, rows: usize) -> Vec<Strips> {
        let lanes = self.isa.lanes() as i64;
        let mut most = widest(self.isa, rows);
        if product.of.transposed {
            most = most.min(MAX_TRANSPOSED_VECTORS);
        }
        if let Some(n) = product.of.columns {
            return self.known_strips(n, most as i64);
        }
        let (mut all, mut from) = (Vec::new(), self.int(0));
        let mut widths = vec![most];
        while let Some(last) = widths.last().filter(|last| **last > 1) {
            let next = if *last > 4 { last / 2 } else { 1 };
            widths.push(next);
        }
        for vectors in widths {
            let left = self.builder.ins().isub(product.n, from);
            let width = vectors as i64 * lanes;
            let count = self.builder.ins().udiv_imm_u(left, width);
            all.push(Strips { from, count, first: None, vectors, partial: None });
            let done = self.builder.ins().imul_imm_s(count, width);
            from = self.builder.ins().iadd(from, done);
        }
        let left = self.builder.ins().isub(product.n, from);
        let one = self.int(1);
        // One strip if there is something left.
        let count = self.builder.ins().smin(left, one);
        all.push(Strips { from, count, first: None, vectors: 1, partial: Some(left) });
        all
    }

    /// As few strips as possible, of widths as even as possible; the last may be partial.
    fn known_strips(&mut self, n: i64, most: i64) -> Vec<Strips> {
        let lanes = self.isa.lanes() as i64;
        let vectors = (n + lanes - 1) / lanes;
        let strips = (vectors + most - 1) / most;
        let (wide, narrow) = ((vectors + strips - 1) / strips, vectors / strips);
        let many = vectors - narrow * strips;
        let mut all = Vec::new();
        let mut from = 0;
        let mut add = |cx: &mut Self, count: i64, vectors: i64, partial: Option<i64>| {
            if count > 0 && vectors > 0 {
                let partial = partial.map(|columns| cx.int(columns));
                let (start, each) = (cx.int(from), vectors as usize);
                let count_value = cx.int(count);
                all.push(Strips { from: start, count: count_value, first: None, vectors: each, partial });
                from += count * vectors * lanes;
            }
        };
        let partial = Some(n % lanes).filter(|rest| *rest != 0);
        // The last strip is a narrow one where there are two widths.
        let (wides, narrows) = if wide == narrow { (0, strips) } else { (many, strips - many) };
        add(self, wides, wide, None);
        add(self, narrows - i64::from(partial.is_some()), narrow, None);
        add(self, i64::from(partial.is_some()), narrow, partial);
        all
    }

    /// Single rows one by one, each reading the whole matrix in order, or some of its columns.
    fn lines(
        &mut self,
        product: &Product<'_>,
        panels: &Panels,
        kernel: FuncRef,
        units: Option<Span>,
    ) -> Result<(), CodeError> {
        let zero = self.int(0);
        // Bands of single rows are one panel, whatever its count says.
        let all = panels.bands[0].tiles;
        let (first, columns, rows) = match units {
            None => (zero, product.n, all),
            Some(units) => {
                let [from, to] =
                    [units.from, units.to].map(|unit| self.builder.ins().imul_imm_s(unit, LINE_COLUMNS));
                let to = self.builder.ins().smin(to, product.n);
                let columns = self.builder.ins().isub(to, from);
                let some = self.builder.ins().icmp_imm_s(IntCC::SignedGreaterThan, columns, 0);
                (from, columns, self.builder.ins().select(some, all, zero))
            }
        };
        let right = self.moved(product.rhs, first, product.rhs_step);
        let fixed = [
            (slot::TERMS, product.k),
            (slot::RHS_ROW, product.rhs_row),
            (slot::COLUMNS, columns),
            (slot::RHS, right),
        ];
        for (slot, value) in fixed {
            self.pass(slot, value);
        }
        let along = self.builder.ins().ishl_imm_u(first, 2);
        let out = self.builder.ins().iadd(product.out, along);
        self.times(rows, |cx, at| {
            let row = cx.builder.ins().iadd(panels.from, at);
            let left = cx.moved(product.lhs, row, product.lhs_row);
            cx.pass(slot::LHS, left);
            let result = cx.moved(out, row, product.out_row);
            cx.pass(slot::OUT, result);
            cx.pass_moving(product, row, first);
            cx.call(kernel, cx.block);
            Ok(())
        })
    }
}
