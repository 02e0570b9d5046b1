//! A single row times a matrix whose rows are contiguous.
//!
//! Such a product is bound by reading the matrix, and walking down a narrow strip of a wide one
//! touches a new page at each step. So the matrix is read in order, some rows at a time, and the
//! sums lie in the result. Each sum still runs in order of `p`.

use super::super::super::error::CodeError;
use super::super::function::FuncCx;
use super::super::lanes::LANES;
use super::{Operand, Product};
use cranelift_codegen::ir::{InstBuilder, Value, types};

/// Rows of the matrix per pass over the result.
const FULL_TERMS: i64 = 8;
/// Matrices of fewer columns than this are narrow: a strip of them is read almost in order.
const MIN_COLUMNS: i64 = 64;

/// Some rows of the matrix and the factors they are taken with.
struct Terms {
    scalars: Vec<Value>,
    vectors: Vec<Value>,
    rows: Vec<(Value, i32)>,
}

/// Whether single rows of a product are best computed this way.
pub(super) fn suits(product: &Product<'_>) -> bool {
    product.sides.outer.is_empty()
        && product.sides.rhs.fast.is(1)
        && product.sides.out.fast.is(1)
        && product.sides.n.known.is_none_or(|n| n >= MIN_COLUMNS)
}

impl FuncCx<'_, '_> {
    /// Emits one row of a product.
    pub(super) fn line(&mut self, product: &mut Product<'_>, row: Value) -> Result<(), CodeError> {
        self.check_size()?;
        let (lhs, out, n, k) = (product.sides.lhs, product.sides.out, product.sides.n, product.sides.k);
        let from = self.bytes(row, lhs.slow);
        let left = self.builder.ins().iadd(lhs.pointer, from);
        let from = self.bytes(row, out.slow);
        let sums = self.builder.ins().iadd(out.pointer, from);
        self.strips(n, &[LANES, 1], |cx, width, column| {
            let zero = cx.zeros(width == LANES, 1)[0];
            cx.element_store(out, sums, column, width == LANES, 0, zero);
            Ok(())
        })?;
        self.strips(k, &[FULL_TERMS, 1], |cx, count, term| {
            let terms = cx.terms(product, left, term, count as usize);
            cx.strips(n, &[2 * LANES, LANES, 1], |cx, width, column| {
                for part in 0..(width / LANES).max(1) {
                    cx.add_terms(product, &terms, sums, column, width >= LANES, 16 * part as i32);
                }
                Ok(())
            })
        })?;
        if product.epilogue.is_none() {
            return Ok(());
        }
        self.strips(n, &[LANES, 1], |cx, width, column| {
            let vectors = width == LANES;
            let sum = cx.element(out, sums, column, vectors, 0);
            cx.finish(product, vectors, (row, column), &[sum], 1)
        })
    }

    /// Factors `term..term + count` of the left row, and the rows of the matrix they belong to.
    fn terms(&mut self, product: &Product<'_>, left: Value, term: Value, count: usize) -> Terms {
        let (lhs, rhs) = (product.sides.lhs, product.sides.rhs);
        let from = self.bytes(term, lhs.fast);
        let left = self.builder.ins().iadd(left, from);
        let scalars: Vec<Value> = self
            .walk(left, lhs.fast, count)
            .into_iter()
            .map(|(address, disp)| self.builder.ins().load(types::F32, lhs.flags(true), address, disp))
            .collect();
        let vectors = scalars.iter().map(|value| self.spread(true, *value)).collect();
        let from = self.bytes(term, rhs.slow);
        let first = self.builder.ins().iadd(rhs.pointer, from);
        Terms { scalars, vectors, rows: self.walk(first, rhs.slow, count) }
    }

    fn add_terms(
        &mut self,
        product: &Product<'_>,
        terms: &Terms,
        sums: Value,
        column: Value,
        vectors: bool,
        disp: i32,
    ) {
        let factors = if vectors { &terms.vectors } else { &terms.scalars };
        let mut sum = self.element(product.sides.out, sums, column, vectors, disp);
        for (factor, (row, at)) in factors.iter().zip(&terms.rows) {
            let value = self.element(product.sides.rhs, *row, column, vectors, at + disp);
            sum = self.builder.ins().fma(*factor, value, sum);
        }
        self.element_store(product.sides.out, sums, column, vectors, disp, sum);
    }

    fn element(&mut self, of: Operand, line: Value, column: Value, vectors: bool, disp: i32) -> Value {
        let bytes = self.builder.ins().ishl_imm_u(column, 2);
        let address = self.builder.ins().iadd(line, bytes);
        let ty = if vectors { types::F32X4 } else { types::F32 };
        self.builder.ins().load(ty, of.flags(!vectors), address, disp)
    }

    fn element_store(
        &mut self,
        of: Operand,
        line: Value,
        column: Value,
        vectors: bool,
        disp: i32,
        value: Value,
    ) {
        let bytes = self.builder.ins().ishl_imm_u(column, 2);
        let address = self.builder.ins().iadd(line, bytes);
        self.builder.ins().store(of.flags(!vectors), value, address, disp);
    }
}
