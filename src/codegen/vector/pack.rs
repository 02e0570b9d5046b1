//! A strip of a matrix, copied so that its rows follow each other.
//!
//! Down a narrow strip of a wide matrix each row lies in another page, and rows that are a power of
//! two apart share few lines of the caches. A copy costs little where many tiles read it. A matrix
//! whose *columns* are contiguous is transposed by the copy, so that products know one form alone.

use super::build::Builder;
use super::encode::{AssembleError, assemble};
use super::ir::{Binary, Mem, Op, Operand, Reg};
use super::isa::Isa;
use super::tile::slot;

/// The kernel: `TERMS` rows from `RHS`, to `OUT`; rows, or columns, are `RHS_ROW` bytes apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Pack {
    /// Vectors of columns.
    pub vectors: usize,
    /// Whether the last vector has lanes that are no columns; what is copied there is not used.
    pub masked: bool,
    /// Whether columns are contiguous rather than rows. `COLUMNS` is then that of the whole strip.
    pub transposed: bool,
}

/// Rows of a square that is transposed within 128 bits.
const SQUARE: i32 = 4;

impl Pack {
    /// The machine code.
    pub(super) fn assemble(self, isa: Isa) -> Result<Vec<u8>, AssembleError> {
        let mut b = Builder::new(isa);
        let args = b.argument();
        let [from, to, rows, stride] = [slot::RHS, slot::OUT, slot::TERMS, slot::RHS_ROW]
            .map(|slot| b.load_int(Mem::at(args, 8 * slot)));
        match (self.transposed, self.masked) {
            (false, _) => self.copy(&mut b, args, (from, to), (rows, stride)),
            (true, false) => self.transpose(&mut b, (from, to), (rows, stride)),
            (true, true) => {
                let columns = b.load_int(Mem::at(args, 8 * slot::COLUMNS));
                self.elements(&mut b, (from, to), (rows, stride), columns);
            }
        }
        assemble(b.code, isa)
    }

    fn row_bytes(self, isa: Isa) -> i32 {
        self.vectors as i32 * isa.bytes()
    }

    fn copy(self, b: &mut Builder, args: Reg, (from, to): (Reg, Reg), (rows, stride): (Reg, Reg)) {
        let bytes = b.isa.bytes();
        let mask = self.masked.then(|| {
            let columns = b.load_int(Mem::at(args, 8 * slot::COLUMNS));
            b.first_lanes(columns)
        });
        for unrolled in [4, 1] {
            b.repeat(rows, unrolled, |b| {
                for row in 0..unrolled {
                    for v in 0..self.vectors {
                        let mask = mask.filter(|_| v + 1 == self.vectors);
                        let value = b.load(Mem::at(from, v as i32 * bytes), mask);
                        let at = row * self.row_bytes(b.isa) + v as i32 * bytes;
                        b.store(Mem::at(to, at), value.into(), None);
                    }
                    b.update_int(Op::AddInt, from, stride);
                }
                b.update_int(Op::AddInt, to, Operand::Imm(unrolled * self.row_bytes(b.isa)));
            });
        }
    }

    /// Squares of four rows and columns, as many side by side as a vector has; then the last rows.
    fn transpose(self, b: &mut Builder, (from, to): (Reg, Reg), (rows, stride): (Reg, Reg)) {
        let (isa, lanes) = (b.isa, b.isa.lanes());
        let thrice = b.int(Op::MulInt, stride, Operand::Imm(3));
        let square = b.int(Op::MulInt, stride, Operand::Imm(SQUARE));
        b.repeat(rows, SQUARE, |b| {
            let at = b.move_int(from);
            for v in 0..self.vectors as i32 {
                let starts: Vec<Reg> = (0..lanes as i32 / SQUARE)
                    .map(|_| {
                        let start = b.move_int(at);
                        b.update_int(Op::AddInt, at, square);
                        start
                    })
                    .collect();
                let columns = [None, Some((stride, 1)), Some((stride, 2)), Some((thrice, 1))];
                let columns = columns.map(|index| {
                    let places: Vec<Mem> =
                        starts.iter().map(|base| Mem { base: *base, index, disp: 0 }).collect();
                    Operand::Reg(b.load_quarters(&places))
                });
                for (row, value) in transposed(b, columns).into_iter().enumerate() {
                    let disp = row as i32 * self.row_bytes(isa) + v * isa.bytes();
                    b.store(Mem::at(to, disp), value, None);
                }
            }
            b.update_int(Op::AddInt, from, Operand::Imm(4 * SQUARE));
            b.update_int(Op::AddInt, to, Operand::Imm(SQUARE * self.row_bytes(isa)));
        });
        let columns = b.move_int(Operand::Imm((self.vectors * lanes) as i32));
        self.elements(b, (from, to), (rows, stride), columns);
    }

    /// Element by element.
    fn elements(self, b: &mut Builder, (from, to): (Reg, Reg), (rows, stride): (Reg, Reg), columns: Reg) {
        b.repeat(columns, 1, |b| {
            let (source, target) = (b.move_int(from), b.move_int(to));
            let left = b.move_int(rows);
            b.repeat(left, 1, |b| {
                let value = b.broadcast(Mem::at(source, 0));
                b.store_first(Mem::at(target, 0), value.into());
                b.update_int(Op::AddInt, source, Operand::Imm(4));
                b.update_int(Op::AddInt, target, Operand::Imm(self.row_bytes(b.isa)));
            });
            b.update_int(Op::AddInt, from, stride);
            b.update_int(Op::AddInt, to, Operand::Imm(4));
        });
    }
}

/// Four vectors, of which each 128 bits are a column, as four of which they are a row.
fn transposed(b: &mut Builder, columns: [Operand; 4]) -> [Operand; 4] {
    let [a, c, d, e] = columns;
    let low = b.binary(Binary::UnpackLow32, a, c);
    let high = b.binary(Binary::UnpackHigh32, a, c);
    let low_after = b.binary(Binary::UnpackLow32, d, e);
    let high_after = b.binary(Binary::UnpackHigh32, d, e);
    [
        b.binary(Binary::UnpackLow64, low, low_after),
        b.binary(Binary::UnpackHigh64, low, low_after),
        b.binary(Binary::UnpackLow64, high, high_after),
        b.binary(Binary::UnpackHigh64, high, high_after),
    ]
}
