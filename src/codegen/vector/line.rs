//! A single row times a wide matrix whose rows are contiguous.
//!
//! Such a product is bound by reading the matrix, and walking down a narrow strip of a wide one
//! touches a new page at each step. So the matrix is read in order, eight rows at a time, and the
//! sums lie in the result. Each sum still runs in order of the contracted axis.

use super::build::Builder;
use super::encode::{AssembleError, assemble};
use super::ir::{Condition, Mem, Op, Operand, Reg};
use super::isa::Isa;
use super::lower::{Lowering, Position, as_float};
use super::tile::{Tail, slot};

/// Rows of the matrix per pass over the result.
const FULL_TERMS: usize = 8;
/// Rows of the matrix that one base register reaches.
const ROWS_PER_BASE: usize = 5;
/// Vectors per turn of the inner loop.
const VECTORS: usize = 2;

/// The kernel; its arguments are those of [`slot`], with all columns in one call.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Line {
    pub tail: Option<Tail>,
}

/// What a pass over the result reads.
struct Pass {
    factors: Vec<Reg>,
    /// To the matrix's rows.
    bases: Vec<Reg>,
    stride: Reg,
    thrice: Reg,
    out: Reg,
}

impl Line {
    /// The machine code.
    pub(super) fn assemble(&self, isa: Isa) -> Result<Vec<u8>, AssembleError> {
        let mut b = Builder::new(isa);
        let args = b.argument();
        let arg = |b: &mut Builder, slot: i32| b.load_int(Mem::at(args, 8 * slot));
        clear(&mut b, args);
        let (lhs, rhs) = (arg(&mut b, slot::LHS), arg(&mut b, slot::RHS));
        let (step, stride) = (arg(&mut b, slot::LHS_STEP), arg(&mut b, slot::RHS_ROW));
        let thrice = b.int(Op::MulInt, stride, Operand::Imm(3));
        let terms = arg(&mut b, slot::TERMS);
        for count in [FULL_TERMS, 1] {
            b.repeat(terms, count as i32, |b| {
                let mut factors = Vec::with_capacity(count);
                for _ in 0..count {
                    factors.push(b.broadcast(Mem::at(lhs, 0)));
                    b.update_int(Op::AddInt, lhs, step);
                }
                let mut bases = vec![b.move_int(rhs)];
                while bases.len() * ROWS_PER_BASE < count {
                    let rows = (bases.len() * ROWS_PER_BASE) as i32;
                    let far = b.int(Op::MulInt, stride, Operand::Imm(rows));
                    bases.push(b.int(Op::AddInt, far, rhs));
                }
                let out = b.load_int(Mem::at(args, 8 * slot::OUT));
                add_terms(b, args, &Pass { factors, bases, stride, thrice, out });
                let passed = b.int(Op::MulInt, stride, Operand::Imm(count as i32));
                b.update_int(Op::AddInt, rhs, passed);
            });
        }
        if let Some(tail) = &self.tail {
            finish(&mut b, args, tail);
        }
        assemble(b.code, isa)
    }
}

/// Runs `body` for each group of `VECTORS` vectors of columns, each vector, and what is left over.
fn columns(b: &mut Builder, args: Reg, mut body: impl FnMut(&mut Builder, usize, Option<Reg>)) {
    let lanes = b.isa.lanes() as i32;
    let left = b.load_int(Mem::at(args, 8 * slot::COLUMNS));
    b.repeat(left, VECTORS as i32 * lanes, |b| body(b, VECTORS, None));
    b.repeat(left, lanes, |b| body(b, 1, None));
    let done = b.label();
    b.branch(left, Condition::LessEqual, Operand::Imm(0), done);
    let mask = b.first_lanes(left);
    body(b, 1, Some(mask));
    b.place(done);
}

/// Makes the result zero.
fn clear(b: &mut Builder, args: Reg) {
    let out = b.load_int(Mem::at(args, 8 * slot::OUT));
    let zero = b.carried(Operand::Splat(0));
    columns(b, args, |b, vectors, mask| {
        for v in 0..vectors as i32 {
            b.store(Mem::at(out, v * b.isa.bytes()), zero.into(), mask);
        }
        b.update_int(Op::AddInt, out, Operand::Imm(vectors as i32 * b.isa.bytes()));
    });
}

/// Adds some rows of the matrix, each times its factor, to the result.
fn add_terms(b: &mut Builder, args: Reg, pass: &Pass) {
    columns(b, args, |b, vectors, mask| {
        let bytes = b.isa.bytes();
        for v in 0..vectors as i32 {
            let sum = b.load(Mem::at(pass.out, v * bytes), mask);
            for (k, factor) in pass.factors.iter().enumerate() {
                let index = match k % ROWS_PER_BASE {
                    0 => None,
                    3 => Some((pass.thrice, 1)),
                    k => Some((pass.stride, k as u8)),
                };
                let row = Mem { base: pass.bases[k / ROWS_PER_BASE], index, disp: v * bytes };
                let row = b.load(row, mask);
                b.accumulate(sum, *factor, row);
            }
            b.store(Mem::at(pass.out, v * bytes), sum.into(), mask);
        }
        let moved = Operand::Imm(vectors as i32 * bytes);
        for pointer in pass.bases.iter().chain([&pass.out]) {
            b.update_int(Op::AddInt, *pointer, moved);
        }
    });
}

/// Puts the sums through the tail.
fn finish(b: &mut Builder, args: Reg, tail: &Tail) {
    let out = b.load_int(Mem::at(args, 8 * slot::OUT));
    let lowering = Lowering::new(b, &tail.body, (args, slot::BODY), false);
    let index = b.move_int(Operand::Imm(0));
    columns(b, args, |b, vectors, mask| {
        for vector in 0..vectors as i32 {
            let place = Mem { base: out, index: Some((index, 4)), disp: vector * b.isa.bytes() };
            let sum = b.load(place, mask);
            let at = Position { index: Some(index), vector, mask };
            let values = lowering.emit(b, at, Some(sum.into()), &mut |_, _, _, _| {});
            let value = as_float(b, values[tail.result as usize]);
            b.store(place, value, mask);
        }
        b.update_int(Op::AddInt, index, Operand::Imm((vectors * b.isa.lanes()) as i32));
    });
}
