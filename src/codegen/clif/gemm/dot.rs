//! Products whose operands are both contiguous along the contracted axis: vectors of terms.

use super::super::super::error::CodeError;
use super::super::function::FuncCx;
use super::super::lanes::LANES;
use super::{Band, Operand, Product};
use cranelift_codegen::ir::{Endianness, InstBuilder, MemFlagsData, Value, types};

const FULL_ROWS: i64 = 3;
/// Columns of a tile with one row: as many accumulators as hide the latency.
const SINGLE_ROW_COLUMNS: i64 = 8;

/// Bytes of two vectors in a shuffle: 32-bit and 64-bit interleavings of their halves.
const LOW_32: [u8; 16] = [0, 1, 2, 3, 16, 17, 18, 19, 4, 5, 6, 7, 20, 21, 22, 23];
const HIGH_32: [u8; 16] = [8, 9, 10, 11, 24, 25, 26, 27, 12, 13, 14, 15, 28, 29, 30, 31];
const LOW_64: [u8; 16] = [0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23];
const HIGH_64: [u8; 16] = [8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 26, 27, 28, 29, 30, 31];

/// A tile of the result.
#[derive(Clone, Copy)]
struct Tile {
    rows: usize,
    columns: usize,
}

/// The pointers of a tile: to its first row and column, and how rows and columns lie from there.
struct Walks {
    left: Value,
    right: Value,
    rows: Vec<(Value, i32)>,
    columns: Vec<(Value, i32)>,
    zero: Value,
}

impl FuncCx<'_, '_> {
    /// Emits a product with vectors along the contracted axis.
    pub(super) fn dots(&mut self, product: &mut Product<'_>) -> Result<(), CodeError> {
        for band in self.bands(product, FULL_ROWS) {
            if band.rows == 0 {
                continue;
            }
            let widths = if band.rows == 1 { vec![SINGLE_ROW_COLUMNS, LANES, 1] } else { vec![LANES, 1] };
            self.strips(product.sides.n, &widths, |cx, width, column| {
                cx.looped(band.from, band.to, band.rows as i64, false, |cx, row| {
                    cx.dot_tile(product, band, width, row, column)
                })
            })?;
        }
        Ok(())
    }

    fn dot_tile(
        &mut self,
        product: &mut Product<'_>,
        band: Band,
        width: i64,
        row: Value,
        column: Value,
    ) -> Result<(), CodeError> {
        self.check_size()?;
        let tile = Tile { rows: band.rows, columns: width as usize };
        let (lhs, rhs) = (product.sides.lhs, product.sides.rhs);
        let from = self.bytes(row, lhs.slow);
        let left = self.builder.ins().iadd(lhs.pointer, from);
        let from = self.bytes(column, rhs.fast);
        let right = self.builder.ins().iadd(rhs.pointer, from);
        let zero = self.int(0);
        let rows = self.walk(zero, lhs.slow, tile.rows);
        let columns = self.walk(zero, rhs.fast, tile.columns);
        let mut walks = Walks { left, right, rows, columns, zero };
        let partial = self.vector_terms(product, tile, &mut walks);
        let vectors = tile.columns > 1;
        let mut sums = Vec::with_capacity(tile.rows * tile.columns.div_ceil(4));
        for of_row in partial.chunks(tile.columns) {
            if vectors {
                for four in of_row.chunks(4) {
                    sums.push(self.add_across(four));
                }
            } else {
                sums.push(self.add_lanes(of_row[0]));
            }
        }
        if product.sides.k.known.is_none_or(|k| k % LANES != 0) {
            sums = self.last_terms(product, tile, &walks, &sums);
        }
        self.finish(product, vectors, (row, column), &sums, tile.columns.div_ceil(4))
    }

    /// Four terms at a time; leaves the pointers at the first term that is left over.
    fn vector_terms(&mut self, product: &Product<'_>, tile: Tile, walks: &mut Walks) -> Vec<Value> {
        let (lhs, rhs) = (product.sides.lhs, product.sides.rhs);
        let turns = self.builder.ins().sshr_imm_u(product.sides.k.value, 2);
        let step = self.int(4 * LANES);
        let sums = self.zeros(true, tile.rows * tile.columns);
        let pointers = [(walks.left, step), (walks.right, step)];
        let (ended, sums) = self.carried(turns, &pointers, &sums, |cx, at, sums| {
            let mut vector = |operand: Operand, from: Value, place: (Value, i32)| {
                let address = if place.0 == walks.zero { from } else { cx.builder.ins().iadd(from, place.0) };
                cx.builder.ins().load(types::F32X4, operand.flags(false), address, place.1)
            };
            let rows: Vec<Value> = walks.rows.iter().map(|place| vector(lhs, at[0], *place)).collect();
            let columns: Vec<Value> = walks.columns.iter().map(|place| vector(rhs, at[1], *place)).collect();
            let mut next = Vec::with_capacity(sums.len());
            for (r, row) in rows.iter().enumerate() {
                for (c, column) in columns.iter().enumerate() {
                    next.push(cx.builder.ins().fma(*row, *column, sums[r * tile.columns + c]));
                }
            }
            next
        });
        (walks.left, walks.right) = (ended[0], ended[1]);
        sums
    }

    /// The terms that do not fill a vector, one at a time, added to sums per column.
    fn last_terms(&mut self, product: &Product<'_>, tile: Tile, walks: &Walks, sums: &[Value]) -> Vec<Value> {
        let (lhs, rhs) = (product.sides.lhs, product.sides.rhs);
        let vectors = tile.columns > 1;
        let turns = self.builder.ins().band_imm_s(product.sides.k.value, LANES - 1);
        // A negative size has no terms, though its last bits may be set.
        let none = self.builder.ins().smin(product.sides.k.value, turns);
        let step = self.int(4);
        let pointers = [(walks.left, step), (walks.right, step)];
        let (_, sums) = self.carried(none, &pointers, sums, |cx, at, sums| {
            let mut element = |operand: Operand, from: Value, place: (Value, i32)| {
                let address = if place.0 == walks.zero { from } else { cx.builder.ins().iadd(from, place.0) };
                cx.builder.ins().load(types::F32, operand.flags(true), address, place.1)
            };
            let rows: Vec<Value> = walks.rows.iter().map(|place| element(lhs, at[0], *place)).collect();
            let columns: Vec<Value> = walks.columns.iter().map(|place| element(rhs, at[1], *place)).collect();
            let columns: Vec<Value> = if vectors {
                columns
                    .chunks(4)
                    .map(|four| cx.pack(types::F32X4, [four[0], four[1], four[2], four[3]]))
                    .collect()
            } else {
                columns
            };
            let mut next = Vec::with_capacity(sums.len());
            for (r, row) in rows.into_iter().enumerate() {
                let row = cx.spread(vectors, row);
                for (c, column) in columns.iter().enumerate() {
                    next.push(cx.builder.ins().fma(row, *column, sums[r * columns.len() + c]));
                }
            }
            next
        });
        sums
    }

    /// The sums of the lanes of four vectors, as one vector.
    fn add_across(&mut self, four: &[Value]) -> Value {
        let mut halves = |a: Value, b: Value, masks: [[u8; 16]; 2]| {
            let [low, high] = masks.map(|mask| self.shuffled(a, b, mask));
            self.builder.ins().fadd(low, high)
        };
        let first = halves(four[0], four[1], [LOW_32, HIGH_32]);
        let second = halves(four[2], four[3], [LOW_32, HIGH_32]);
        halves(first, second, [LOW_64, HIGH_64])
    }

    /// The sum of the lanes of a vector, in the order of [`FuncCx::add_across`].
    fn add_lanes(&mut self, vector: Value) -> Value {
        let lanes = [0, 1, 2, 3].map(|k| self.builder.ins().extractlane(vector, k));
        let even = self.builder.ins().fadd(lanes[0], lanes[2]);
        let odd = self.builder.ins().fadd(lanes[1], lanes[3]);
        self.builder.ins().fadd(even, odd)
    }

    fn shuffled(&mut self, a: Value, b: Value, mask: [u8; 16]) -> Value {
        let flags = MemFlagsData::new().with_endianness(Endianness::Little);
        let [a, b] = [a, b].map(|value| self.builder.ins().bitcast(types::I8X16, flags, value));
        let mask = self.builder.func.dfg.immediates.push(mask.to_vec().into());
        let bytes = self.builder.ins().shuffle(a, b, mask);
        self.builder.ins().bitcast(types::F32X4, flags, bytes)
    }
}
