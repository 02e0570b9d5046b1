//! Products by wide kernels: what their macro-kernels are told.

use super::super::super::error::CodeError;
use super::super::super::vector::Isa;
use super::super::super::vector::body::{Affine, Argument, Extraction, Poly};
use super::super::super::vector::tile::{MAX_OUTER, Tail, slot};
use super::super::function::FuncCx;
use super::super::gemm::{Extent, Sides};
use super::super::units::Span;
use super::macro_kernel::{Along, LINE_COLUMNS, MacroKernel, Moving, PANEL_ROWS, frame};
use super::{Block, Start};
use crate::loops::ir::{BufferId, Gemm};
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{InstBuilder, Value};

/// Columns that a strip is taken to have, where shares of a product are counted.
const STRIP_COLUMNS: i64 = 32;

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

/// Whether a product is known to have no elements.
fn is_empty(product: &Sides) -> bool {
    [product.m, product.n].iter().any(|size| size.known.is_some_and(|size| size <= 0))
}

/// A product in the orientation in which kernels do it.
struct Form {
    product: Sides,
    tail: Option<Tail>,
    arguments: Vec<Argument>,
}

impl FuncCx<'_, '_> {
    /// Emits a product by kernels, of all its shares or of some, or says that there are none for it.
    pub(in super::super) fn wide_product(
        &mut self,
        gemm: &Gemm,
        sides: &Sides,
        shares: Option<Span>,
    ) -> Result<bool, CodeError> {
        let Some(Form { product, tail, arguments }) = self.wide_form(gemm, sides) else { return Ok(false) };
        if is_empty(&product) {
            return Ok(true);
        }
        let kernel = macro_kernel(&product, tail, &arguments, shares.is_some());
        let (first, slots) = (kernel.frame(), kernel.slots());
        let place = self.place_of(gemm.out.at.buffer);
        let id = self.macro_kernels.function(self.module, kernel, place)?;
        let some_rows = self.builder.ins().icmp_imm_s(IntCC::SignedGreaterThan, product.m.value, 0);
        let some_columns = self.builder.ins().icmp_imm_s(IntCC::SignedGreaterThan, product.n.value, 0);
        let some = self.builder.ins().band(some_rows, some_columns);
        self.only_if(some, |cx| {
            let block = cx.block(slots);
            cx.strides(block, &product);
            cx.pass_fixed(block, slot::BODY, &arguments)?;
            cx.pass_frame(block, first, &product);
            if let Some(Span { from, to }) = shares {
                let of = cx.shares(&product).value;
                for (at, value) in [(frame::FROM, from), (frame::TO, to), (frame::SHARES, of)] {
                    cx.pass(block, first + at, value);
                }
            }
            cx.pass_moved(block, first + frame::MOVING, &arguments)?;
            let function = cx.import(id);
            cx.call_kernel(function, block);
            Ok(())
        })?;
        Ok(true)
    }

    /// The number of shares in which a product by kernels can be done; `None` where there are none for it.
    pub(in super::super) fn wide_units(&mut self, gemm: &Gemm, sides: &Sides) -> Option<Extent> {
        let Form { product, .. } = self.wide_form(gemm, sides)?;
        Some(if is_empty(&product) { self.fixed(0) } else { self.shares(&product) })
    }

    /// About as many shares as the macro-kernel has units of work.
    fn shares(&mut self, product: &Sides) -> Extent {
        let rows = self.in_units(product.m, PANEL_ROWS);
        let columns = if product.m.is(1) { LINE_COLUMNS } else { STRIP_COLUMNS };
        let columns = self.in_units(product.n, columns);
        self.times(rows, columns)
    }

    /// Whether there are kernels for a product, in which orientation, and what they apply to sums.
    fn wide_form(&self, gemm: &Gemm, sides: &Sides) -> Option<Form> {
        let isa = self.kernels.isa()?;
        let product = oriented(sides).filter(|product| product.outer.len() <= MAX_OUTER)?;
        let Some(of) = gemm.epilogue.as_ref().filter(|_| !is_empty(&product)) else {
            return Some(Form { product, tail: None, arguments: Vec::new() });
        };
        let (row, column) = if product.flipped { (of.column, of.row) } else { (of.row, of.column) };
        let mut extraction = Extraction::new(self.env.func, Some(row), column, Some(of.acc));
        let result = extraction.node(of.value)?;
        let body = extraction.body;
        if isa == Isa::Avx2 && body.has_truth_access() {
            return None;
        }
        Some(Form { product, tail: Some(Tail { body, result }), arguments: extraction.arguments })
    }

    /// Passes what the kernels themselves move by.
    fn strides(&mut self, block: Block, product: &Sides) {
        let Sides { ref outer, lhs, rhs, out, k, .. } = *product;
        let (one, zero) = (self.int(1), self.int(0));
        let strides = [(slot::LHS_ROW, lhs.slow), (slot::LHS_STEP, lhs.fast), (slot::OUT_ROW, out.slow)];
        for (slot, stride) in strides {
            let bytes = self.bytes(one, stride);
            self.pass(block, slot, bytes);
        }
        // What all inside an axis moves by, which a step of the axis takes back.
        let terms = self.builder.ins().smax(k.value, zero);
        let (left, right) = (self.bytes(terms, lhs.fast), self.bytes(terms, rhs.slow));
        let mut inside = [left, right];
        for (k, axis) in outer.iter().enumerate().rev() {
            let points = self.builder.ins().smax(axis.extent.value, zero);
            let first = slot::OUTER + slot::OUTER_SLOTS * k as i32;
            self.pass(block, first, points);
            for (side, stride) in [axis.lhs, axis.rhs].into_iter().enumerate() {
                let step = self.bytes(one, stride);
                let back = self.builder.ins().isub(step, inside[side]);
                self.pass(block, first + 1 + side as i32, back);
                inside[side] = self.builder.ins().imul(points, step);
            }
        }
    }

    /// Passes where the operands lie and how large they are.
    fn pass_frame(&mut self, block: Block, first: i32, product: &Sides) {
        let Sides { m, n, k, lhs, rhs, out, .. } = *product;
        let one = self.int(1);
        let (row, step) = (self.bytes(one, rhs.slow), self.bytes(one, rhs.fast));
        let words = [
            (frame::LHS, lhs.pointer),
            (frame::RHS, rhs.pointer),
            (frame::OUT, out.pointer),
            (frame::ROWS, m.value),
            (frame::COLUMNS, n.value),
            (frame::TERMS, k.value),
            (frame::RHS_ROW, row),
            (frame::RHS_STEP, step),
        ];
        for (at, value) in words {
            self.pass(block, first + at, value);
        }
    }

    /// Passes what the arguments that move are in the first row and column, and what they grow by.
    fn pass_moved(&mut self, block: Block, first: i32, arguments: &[Argument]) -> Result<(), CodeError> {
        let mut words: Vec<Value> = Vec::new();
        for argument in arguments {
            match argument {
                Argument::Pointer { buffer, at } => {
                    let base = self.affine(at, Start::default())?;
                    let place = self.place_at(*buffer, Some(base), 0)?;
                    words.push(self.builder.ins().iadd_imm_s(place.address, i64::from(place.disp)));
                    self.growth(at, self.buffer_dtype(*buffer).size_bytes(), &mut words)?;
                }
                Argument::Bound { left, right } => {
                    for side in [left, right] {
                        words.push(self.affine(side, Start::default())?);
                        self.growth(side, 1, &mut words)?;
                    }
                }
                Argument::Scalar(_) | Argument::Stride { .. } | Argument::BoundStride(_) => {}
            }
        }
        for (k, word) in words.into_iter().enumerate() {
            self.pass(block, first + k as i32, word);
        }
        Ok(())
    }

    fn growth(&mut self, of: &Affine, unit: usize, words: &mut Vec<Value>) -> Result<(), CodeError> {
        for by in [&of.by_row, &of.by_column] {
            if by.known() != Some(0) {
                let by = self.poly(by)?;
                words.push(self.builder.ins().imul_imm_s(by, unit as i64));
            }
        }
        Ok(())
    }

    /// Where a buffer's value is in the source, if the code is to be printed.
    pub(super) fn place_of(&self, buffer: BufferId) -> Option<String> {
        let buffer = &self.env.func.buffers[buffer.0 as usize];
        self.env.sources.map(|sources| format!("{}, {}", buffer.name, sources.place(buffer.span)))
    }
}

/// Whether rows of the right operand are known to lie evenly over the terms and the axes around them.
fn is_even(product: &Sides) -> bool {
    let mut inside = product.k.known.zip(product.rhs.slow.known).and_then(|(k, row)| k.checked_mul(row));
    for axis in product.outer.iter().rev() {
        if inside.is_none() || axis.rhs.known != inside {
            return false;
        }
        inside = inside.zip(axis.extent.known).and_then(|(inside, points)| inside.checked_mul(points));
    }
    true
}

/// What of a product its code depends on.
fn macro_kernel(product: &Sides, tail: Option<Tail>, arguments: &[Argument], divided: bool) -> MacroKernel {
    let grows = |by: &Poly| by.known() != Some(0);
    let along = |of: &Affine| Along { row: grows(&of.by_row), column: grows(&of.by_column) };
    let moving = |argument: &Argument| match argument {
        Argument::Pointer { at, .. } => Some(Moving::Pointer(along(at))),
        Argument::Bound { left, right } => Some(Moving::Bound { left: along(left), right: along(right) }),
        Argument::Scalar(_) | Argument::Stride { .. } | Argument::BoundStride(_) => None,
    };
    let Sides { m, n, k, lhs, rhs, .. } = *product;
    let size = k.known.zip(rhs.slow.known).filter(|_| m.known.is_some());
    MacroKernel {
        rows: m.known,
        columns: n.known,
        footprint: size.map(|(terms, row)| MacroKernel::footprint(terms, row)),
        crowded: lhs.slow.known.is_some_and(MacroKernel::is_crowded),
        unit: lhs.fast.is(1),
        transposed: !rhs.fast.is(1),
        outer: product.outer.len(),
        even: is_even(product),
        divided,
        tail,
        arguments: arguments.iter().map(moving).collect(),
    }
}
