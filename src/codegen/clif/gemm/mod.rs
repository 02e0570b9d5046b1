//! The product kernel: `out[i, j] = epilogue(sum over p of lhs[i, p] * rhs[p, j])`.
//!
//! A product is brought into one of two forms, if need be by computing its transpose:
//!
//! - [`mod@rows`]: the right operand is contiguous along columns. A tile of `rows x vectors`
//!   accumulators stays in registers over the whole contraction; each step loads a vector per four
//!   columns, spreads one element per row, and multiplies and adds. Sums run in order of `p`.
//!   A single row of a wide product is [`mod@line`]'s.
//! - [`dot`]: both operands are contiguous along `p`. Each accumulator holds four partial sums,
//!   which are added at the end in a fixed order.
//!
//! Other layouts take the first form with one column at a time. Tiles of fewer rows and columns
//! do what is left over; sizes known at compile time decide which tiles exist at all. A tile's
//! accumulators go through the epilogue before they are stored ([`finish`]).

mod dot;
mod finish;
mod line;
mod rows;

use super::super::error::CodeError;
use super::function::FuncCx;
use super::lanes::{LANES, Lanes};
use super::units::Span;
use crate::loops::ir::{Contracted, Gemm, GemmEpilogue, Matrix, ScalarId};
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{AliasRegion, BlockArg, InstBuilder, MemFlagsData, Value, types};
use std::collections::BTreeSet;

/// Rows of a unit of work: a multiple of the rows of all tiles.
const UNIT_ROWS: i64 = 12;
/// Epilogues of more expressions, or with functions, run over the tile in a loop.
const MAX_INLINE_NODES: usize = 16;

/// A size or stride, known at compile time or not.
#[derive(Clone, Copy)]
pub(super) struct Extent {
    pub value: Value,
    pub known: Option<i64>,
}

impl Extent {
    pub fn is(self, value: i64) -> bool {
        self.known == Some(value)
    }
}

/// A strided matrix: the address of its first element, strides in elements.
#[derive(Clone, Copy)]
pub(super) struct Operand {
    pub pointer: Value,
    pub region: AliasRegion,
    pub slow: Extent,
    pub fast: Extent,
}

impl Operand {
    pub fn transposed(self) -> Self {
        Operand { slow: self.fast, fast: self.slow, ..self }
    }

    fn flags(self, aligned: bool) -> MemFlagsData {
        let flags = MemFlagsData::new().with_notrap().with_alias_region(Some(self.region));
        if aligned { flags.with_aligned() } else { flags }
    }
}

/// A product in one of its two orientations.
#[derive(Clone)]
pub(super) struct Sides {
    pub m: Extent,
    pub n: Extent,
    pub k: Extent,
    pub outer: Vec<Outer>,
    pub lhs: Operand,
    pub rhs: Operand,
    pub out: Operand,
    /// Whether it is the transposed product, whose rows are the columns of the program's.
    pub flipped: bool,
}

impl Sides {
    /// The transposed product.
    pub fn flipped(&self) -> Sides {
        let outer = self.outer.iter().map(|axis| Outer { lhs: axis.rhs, rhs: axis.lhs, ..*axis });
        Sides {
            outer: outer.collect(),
            m: self.n,
            n: self.m,
            k: self.k,
            lhs: self.rhs.transposed(),
            rhs: self.lhs.transposed(),
            out: self.out.transposed(),
            flipped: !self.flipped,
        }
    }
}

/// A product in the orientation in which it is computed.
struct Product<'g> {
    sides: Sides,
    epilogue: Option<Epilogue<'g>>,
    /// Those that are computed, if not all.
    rows: Option<Span>,
}

/// How a product is computed without wide kernels.
struct Narrow {
    /// As its transpose.
    transposed: bool,
    /// With vectors along the contracted axis.
    dots: bool,
}

fn narrow(sides: &Sides) -> Narrow {
    let dots = sides.outer.is_empty() && sides.lhs.fast.is(1) && sides.rhs.slow.is(1);
    // One column alone is a product of a row with the transpose.
    let transposed =
        if sides.n.is(1) { !sides.m.is(1) } else { !sides.rhs.fast.is(1) && sides.lhs.slow.is(1) };
    let fast = if transposed { sides.lhs.slow } else { sides.rhs.fast };
    Narrow { transposed, dots: dots && !fast.is(1) }
}

/// A contracted axis around `k`, with what a step moves each operand by.
#[derive(Clone, Copy)]
pub(super) struct Outer {
    pub extent: Extent,
    pub lhs: Extent,
    pub rhs: Extent,
}

struct Epilogue<'g> {
    of: &'g GemmEpilogue,
    /// Whether `i` of the product is the epilogue's column.
    transposed: bool,
    lanes: Lanes,
    heavy: bool,
}

/// Rows `from..to` in tiles of `rows`.
#[derive(Clone, Copy)]
struct Band {
    from: Value,
    to: Value,
    rows: usize,
}

impl FuncCx<'_, '_> {
    /// Emits a product, of all its units or of some.
    pub(super) fn gemm(&mut self, gemm: &Gemm, units: Option<Span>) -> Result<(), CodeError> {
        self.memo.clear();
        let sides = self.sides(gemm)?;
        if self.wide_product(gemm, &sides, units)? {
            return Ok(());
        }
        let form = narrow(&sides);
        let sides = if form.transposed { sides.flipped() } else { sides };
        let rows = units.map(|units| self.span_of(units, UNIT_ROWS, sides.m.value));
        let epilogue = gemm.epilogue.as_ref().map(|of| self.epilogue(of, form.transposed));
        let mut product = Product { sides, epilogue, rows };
        if form.dots { self.dots(&mut product) } else { self.rows(&mut product) }
    }

    /// The number of units that a product consists of, which tasks may compute in any order and by any thread:
    /// whatever is computed at once lies in one of them.
    pub(super) fn gemm_units(&mut self, gemm: &Gemm) -> Result<Extent, CodeError> {
        let sides = self.form(gemm)?;
        if let Some(units) = self.wide_units(gemm, &sides) {
            return Ok(units);
        }
        let m = if narrow(&sides).transposed { sides.n } else { sides.m };
        Ok(self.in_units(m, UNIT_ROWS))
    }

    fn sides(&mut self, gemm: &Gemm) -> Result<Sides, CodeError> {
        let (m, n, k) = (self.extent(gemm.m)?, self.extent(gemm.n)?, self.extent(gemm.k)?);
        let (lhs, rhs) = (self.matrix(&gemm.lhs)?, self.matrix(&gemm.rhs)?);
        let out = self.matrix(&gemm.out)?;
        let mut outer = Vec::with_capacity(gemm.outer.len());
        for axis in &gemm.outer {
            let (lhs, rhs) = (self.extent(axis.lhs)?, self.extent(axis.rhs)?);
            outer.push(Outer { extent: self.extent(axis.extent)?, lhs, rhs });
        }
        Ok(Sides { m, n, k, outer, lhs, rhs, out, flipped: false })
    }

    /// A product without the values of anything but rows and columns, which need not be known yet.
    fn form(&mut self, gemm: &Gemm) -> Result<Sides, CodeError> {
        let (m, n, zero) = (self.extent(gemm.m)?, self.extent(gemm.n)?, self.int(0));
        let extent = |id: ScalarId| Extent { value: zero, known: self.int_const(id) };
        let matrix = |matrix: &Matrix| -> Result<Operand, CodeError> {
            let (slow, fast) = (extent(matrix.strides.0), extent(matrix.strides.1));
            Ok(Operand { pointer: zero, region: self.base(matrix.at.buffer)?.region, slow, fast })
        };
        let outer = |axis: &Contracted| Outer {
            extent: extent(axis.extent),
            lhs: extent(axis.lhs),
            rhs: extent(axis.rhs),
        };
        let (lhs, rhs, out) = (matrix(&gemm.lhs)?, matrix(&gemm.rhs)?, matrix(&gemm.out)?);
        let (k, outer) = (extent(gemm.k), gemm.outer.iter().map(outer).collect());
        Ok(Sides { m, n, k, outer, lhs, rhs, out, flipped: false })
    }

    pub(super) fn extent(&mut self, id: ScalarId) -> Result<Extent, CodeError> {
        Ok(Extent { known: self.int_const(id), value: self.scalar(id)? })
    }

    fn matrix(&mut self, matrix: &Matrix) -> Result<Operand, CodeError> {
        let place = self.place(matrix.at.buffer, matrix.at.offset)?;
        let pointer = self.builder.ins().iadd_imm_s(place.address, i64::from(place.disp));
        let (slow, fast) = (self.extent(matrix.strides.0)?, self.extent(matrix.strides.1)?);
        Ok(Operand { pointer, region: place.region, slow, fast })
    }

    fn epilogue<'g>(&mut self, of: &'g GemmEpilogue, transposed: bool) -> Epilogue<'g> {
        let mut lanes = Lanes::default();
        let along = if transposed { of.row } else { of.column };
        let nodes = lanes.classify(self, &[of.value], &[along], &BTreeSet::from([of.acc]));
        let varying: Vec<_> = nodes.into_iter().filter(|id| lanes.varying[id]).collect();
        let functions = varying.iter().any(|id| super::vector::is_function(self.env.func.scalars.get(*id)));
        let heavy = functions || varying.len() > MAX_INLINE_NODES;
        Epilogue { of, transposed, lanes, heavy }
    }

    /// Splits the rows into a band of full tiles and one of what is left; where not all are computed, gives
    /// of each band what is. Units of rows hold full tiles, so no tile is divided.
    fn bands(&mut self, product: &Product<'_>, full: i64) -> Vec<Band> {
        let mut bands = self.all_bands(product.sides.m, full);
        if let Some(rows) = product.rows {
            for band in &mut bands {
                band.from = self.builder.ins().smax(band.from, rows.from);
                band.to = self.builder.ins().smin(band.to, rows.to);
            }
        }
        bands
    }

    fn all_bands(&mut self, m: Extent, full: i64) -> Vec<Band> {
        let zero = self.builder.ins().iconst(types::I64, 0);
        match m.known {
            Some(m) if m <= full => vec![Band { from: zero, to: self.int(m), rows: m.max(0) as usize }],
            Some(m) => {
                let split = self.int(m - m % full);
                let mut bands = vec![Band { from: zero, to: split, rows: full as usize }];
                if m % full != 0 {
                    bands.push(Band { from: split, to: self.int(m), rows: (m % full) as usize });
                }
                bands
            }
            None => {
                let size = self.builder.ins().smax(m.value, zero);
                let turns = self.builder.ins().udiv_imm_u(size, full);
                let split = self.builder.ins().imul_imm_s(turns, full);
                let rest = Band { from: split, to: size, rows: 1 };
                vec![Band { from: zero, to: split, rows: full as usize }, rest]
            }
        }
    }

    /// Columns in strips of `widths`, widest first, each strip for what the one before left over;
    /// strips that a known size never needs are left out.
    fn strips(
        &mut self,
        n: Extent,
        widths: &[i64],
        mut strip: impl FnMut(&mut Self, i64, Value) -> Result<(), CodeError>,
    ) -> Result<(), CodeError> {
        let mut from = self.builder.ins().iconst(types::I64, 0);
        let size = self.builder.ins().smax(n.value, from);
        let mut left = n.known;
        for width in widths {
            if left.is_some_and(|left| left < *width) {
                continue;
            }
            left = left.map(|left| left % width);
            self.looped(from, size, *width, false, |cx, at| strip(cx, *width, at))?;
            // Each width divides the one before, or the strip starts where that one ended.
            let span = self.builder.ins().isub(size, from);
            let turns = self.builder.ins().udiv_imm_u(span, *width);
            let done = self.builder.ins().imul_imm_s(turns, *width);
            from = self.builder.ins().iadd(from, done);
        }
        Ok(())
    }

    pub(super) fn int(&mut self, value: i64) -> Value {
        self.builder.ins().iconst(types::I64, value)
    }

    /// `index * stride` in bytes.
    pub(super) fn bytes(&mut self, index: Value, stride: Extent) -> Value {
        match stride.known {
            Some(stride) => self.builder.ins().imul_imm_s(index, stride.wrapping_mul(4)),
            None => {
                let elems = self.builder.ins().imul(index, stride.value);
                self.builder.ins().ishl_imm_u(elems, 2)
            }
        }
    }

    /// Addresses `pointer + k * stride` for `k < count`, as addresses with displacements.
    fn walk(&mut self, pointer: Value, stride: Extent, count: usize) -> Vec<(Value, i32)> {
        let disp = |k: usize| {
            let bytes = stride.known?.checked_mul(4 * k as i64)?;
            i32::try_from(bytes).ok().filter(|bytes| bytes.unsigned_abs() < 1 << 29)
        };
        (0..count)
            .map(|k| match disp(k) {
                Some(disp) => (pointer, disp),
                None => {
                    let at = self.int(k as i64);
                    let bytes = self.bytes(at, stride);
                    (self.builder.ins().iadd(pointer, bytes), 0)
                }
            })
            .collect()
    }

    /// A loop of `turns` turns over carried values, with pointers that move by `steps` bytes each
    /// turn; gives the carried values and pointers at its end.
    fn carried(
        &mut self,
        turns: Value,
        pointers: &[(Value, Value)],
        carried: &[Value],
        body: impl FnOnce(&mut Self, &[Value], &[Value]) -> Vec<Value>,
    ) -> (Vec<Value>, Vec<Value>) {
        let (head, exit) = (self.builder.create_block(), self.builder.create_block());
        let count = self.builder.append_block_param(head, types::I64);
        let start: Vec<Value> = pointers.iter().map(|(at, _)| *at).chain(carried.iter().copied()).collect();
        let (mut inner, mut ended) = (Vec::new(), Vec::new());
        for value in &start {
            let ty = self.builder.func.dfg.value_type(*value);
            inner.push(self.builder.append_block_param(head, ty));
            ended.push(self.builder.append_block_param(exit, ty));
        }
        let to_exit: Vec<BlockArg> = start.iter().map(|value| BlockArg::Value(*value)).collect();
        let to_head: Vec<BlockArg> =
            std::iter::once(BlockArg::Value(turns)).chain(to_exit.iter().copied()).collect();
        let runs = self.builder.ins().icmp_imm_s(IntCC::SignedGreaterThan, turns, 0);
        self.builder.ins().brif(runs, head, &to_head, exit, &to_exit);
        self.builder.switch_to_block(head);
        let (at, values) = inner.split_at(pointers.len());
        let values = body(self, at, values);
        let mut next: Vec<BlockArg> = Vec::with_capacity(start.len());
        for (at, (_, step)) in at.iter().zip(pointers) {
            next.push(BlockArg::Value(self.builder.ins().iadd(*at, *step)));
        }
        next.extend(values.into_iter().map(BlockArg::Value));
        let left = self.builder.ins().iadd_imm_s(count, -1);
        let again: Vec<BlockArg> =
            std::iter::once(BlockArg::Value(left)).chain(next.iter().copied()).collect();
        let more = self.builder.ins().icmp_imm_s(IntCC::SignedGreaterThan, left, 0);
        self.builder.ins().brif(more, head, &again, exit, &next);
        self.builder.seal_block(head);
        self.builder.seal_block(exit);
        self.builder.switch_to_block(exit);
        let values = ended.split_off(pointers.len());
        (ended, values)
    }

    /// The sums over `k` and the axes around it: `body` adds one term to each, at the two pointers.
    fn contracted(
        &mut self,
        (outer, k): (&[Outer], Value),
        (left, right): (Value, Value),
        steps: (Value, Value),
        sums: &[Value],
        body: &mut dyn FnMut(&mut Self, &[Value], &[Value]) -> Vec<Value>,
    ) -> Vec<Value> {
        let Some((axis, inner)) = outer.split_first() else {
            return self.carried(k, &[(left, steps.0), (right, steps.1)], sums, body).1;
        };
        let one = self.int(1);
        let moves = (self.bytes(one, axis.lhs), self.bytes(one, axis.rhs));
        let pointers = [(left, moves.0), (right, moves.1)];
        self.carried(axis.extent.value, &pointers, sums, |cx, at, sums| {
            cx.contracted((inner, k), (at[0], at[1]), steps, sums, body)
        })
        .1
    }

    /// Zero vectors or scalars.
    fn zeros(&mut self, vectors: bool, count: usize) -> Vec<Value> {
        let zero = self.builder.ins().f32const(0.0);
        let zero = if vectors { self.builder.ins().splat(types::F32X4, zero) } else { zero };
        vec![zero; count]
    }

    /// A scalar in all lanes of a vector, or as it is.
    fn spread(&mut self, vectors: bool, value: Value) -> Value {
        if vectors { self.builder.ins().splat(types::F32X4, value) } else { value }
    }
}

/// The number of elements of an accumulator.
fn lanes_of(vectors: bool) -> i64 {
    if vectors { LANES } else { 1 }
}
