//! Products whose right operand is contiguous along columns: vectors of columns.

use super::super::super::error::CodeError;
use super::super::function::FuncCx;
use super::super::lanes::LANES;
use super::{Band, Product, lanes_of, line};
use cranelift_codegen::ir::{InstBuilder, Value, types};

/// Vectors per row of a tile, by its number of rows: what 16 registers hold beside the operands,
/// and enough independent sums to hide the latency of the multiply-add.
const VECTORS: [i64; 5] = [0, 8, 6, 4, 3];
const FULL_ROWS: i64 = 4;

impl FuncCx<'_, '_> {
    /// Emits a product with vectors along columns, or, where the right operand is not contiguous
    /// there, with single columns.
    pub(super) fn rows(&mut self, product: &mut Product<'_>) -> Result<(), CodeError> {
        for band in self.bands(product, FULL_ROWS) {
            if band.rows == 0 {
                continue;
            }
            if band.rows == 1 && line::suits(product) {
                self.looped(band.from, band.to, 1, false, |cx, row| cx.line(product, row))?;
                continue;
            }
            let widths = widths(product, band.rows);
            self.strips(product.sides.n, &widths, |cx, width, column| {
                cx.looped(band.from, band.to, band.rows as i64, false, |cx, row| {
                    cx.row_tile(product, band, width, row, column)
                })
            })?;
        }
        Ok(())
    }

    fn row_tile(
        &mut self,
        product: &mut Product<'_>,
        band: Band,
        width: i64,
        row: Value,
        column: Value,
    ) -> Result<(), CodeError> {
        self.check_size()?;
        let vectors = width >= LANES;
        let across = (width / lanes_of(vectors)) as usize;
        let (lhs, rhs) = (product.sides.lhs, product.sides.rhs);
        let from = self.bytes(row, lhs.slow);
        let left = self.builder.ins().iadd(lhs.pointer, from);
        let from = self.bytes(column, rhs.fast);
        let right = self.builder.ins().iadd(rhs.pointer, from);
        let one = self.int(1);
        let steps = (self.bytes(one, lhs.fast), self.bytes(one, rhs.slow));
        let zero = self.int(0);
        let offsets = self.walk(zero, lhs.slow, band.rows);
        let sums = self.zeros(vectors, band.rows * across);
        let ty = if vectors { types::F32X4 } else { types::F32 };
        let contracted = (product.sides.outer.as_slice(), product.sides.k.value);
        let sums = self.contracted(contracted, (left, right), steps, &sums, &mut |cx, at, sums| {
            let columns: Vec<Value> = (0..across)
                .map(|v| cx.builder.ins().load(ty, rhs.flags(!vectors), at[1], 16 * v as i32))
                .collect();
            let mut next = Vec::with_capacity(sums.len());
            for (r, (offset, disp)) in offsets.iter().enumerate() {
                let address = if *offset == zero { at[0] } else { cx.builder.ins().iadd(at[0], *offset) };
                let value = cx.builder.ins().load(types::F32, lhs.flags(true), address, *disp);
                let value = cx.spread(vectors, value);
                for (v, column) in columns.iter().enumerate() {
                    next.push(cx.builder.ins().fma(value, *column, sums[r * across + v]));
                }
            }
            next
        });
        self.finish(product, vectors, (row, column), &sums, across)
    }
}

/// The widths of strips of columns, widest first.
fn widths(product: &Product<'_>, rows: usize) -> Vec<i64> {
    if !product.sides.rhs.fast.is(1) {
        return vec![1];
    }
    let most = VECTORS[rows];
    let across = match product.sides.n.known.map(|n| n / LANES) {
        // As many as there are, or one fewer where that leaves less over.
        Some(there) if there > 0 => {
            let wide = most.min(there);
            let narrow = (wide - 1).max(1);
            if wide > 2 && there % narrow < there % wide { narrow } else { wide }
        }
        _ => most,
    };
    let mut widths = vec![across * LANES];
    if across > 1 {
        widths.push(LANES);
    }
    widths.push(1);
    widths
}
