//! Products: a panel of rows times a strip of columns.
//!
//! The right operand is contiguous along columns. A tile of `rows x vectors` accumulators stays in
//! registers over the whole contraction: each step loads the vectors of one row of the right
//! operand, spreads one element per row of the left operand, and multiplies and adds. So every sum
//! runs in order of the contracted axis, whatever the tile. A kernel does all tiles of a panel,
//! one below the other, over the same strip, which stays in the cache.

use super::body::{Body, NodeId};
use super::build::Builder;
use super::encode::{AssembleError, assemble};
use super::ir::{Class, Condition, Inst, Mem, Op, Operand, Reg};
use super::isa::Isa;
use super::lower::{Lowering, Position, as_float};

/// Slots of the arguments of a product's kernels; those of the epilogue's body follow.
pub(crate) mod slot {
    /// The first element of the panel.
    pub(crate) const LHS: i32 = 0;
    /// The first element of the strip.
    pub(crate) const RHS: i32 = 1;
    /// The first element of the result.
    pub(crate) const OUT: i32 = 2;
    /// Tiles in the panel, or rows.
    pub(crate) const COUNT: i32 = 3;
    /// The contracted size.
    pub(crate) const TERMS: i32 = 4;
    /// Bytes between rows of the left operand, and between its columns.
    pub(crate) const LHS_ROW: i32 = 5;
    pub(crate) const LHS_STEP: i32 = 6;
    /// Bytes between rows of the right operand.
    pub(crate) const RHS_ROW: i32 = 7;
    /// Bytes between rows of the result.
    pub(crate) const OUT_ROW: i32 = 8;
    /// Columns: of the last vector of a strip, or of all.
    pub(crate) const COLUMNS: i32 = 9;
    /// Of a contraction in parts: 0 in the first, which starts from zero; the others go on with the
    /// sums that lie in the result.
    pub(crate) const RESUMES: i32 = 10;
    /// 0 in all parts but the last: the sums are stored as they are.
    pub(crate) const ENDS: i32 = 11;
    /// What is asked for ahead: the first row of a strip, the bytes between its rows, and its last row.
    pub(crate) const NEXT: i32 = 12;
    pub(crate) const NEXT_ROW: i32 = 13;
    pub(crate) const NEXT_LAST: i32 = 14;
    /// Of each contracted axis around the terms, slowest first: its points, and the bytes that the left
    /// and the right operand move by once all inside it has been passed.
    pub(crate) const OUTER: i32 = 15;
    pub(crate) const OUTER_SLOTS: i32 = 3;
    /// The first argument of the epilogue's body.
    pub(crate) const BODY: i32 = OUTER + OUTER_SLOTS * super::MAX_OUTER as i32;
}

/// What is done with an accumulator before it is stored.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Tail {
    pub body: Body,
    pub result: NodeId,
}

/// The shape of a kernel for products.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Tile {
    pub rows: usize,
    /// Vectors of columns.
    pub vectors: usize,
    /// Whether the last vector has lanes that are no columns.
    pub masked: bool,
    /// Whether the left operand is contiguous along the contracted axis.
    pub unit: bool,
    /// Contracted axes around it.
    pub outer: usize,
    /// Rows of the strip that comes next that are asked for in every [`UNROLLED`] steps.
    pub ahead: usize,
    pub tail: Option<Tail>,
}

/// Contracted axes around the terms that a kernel has room for.
pub(crate) const MAX_OUTER: usize = 3;
/// Steps of the contraction per turn of the main loop.
pub(crate) const UNROLLED: i32 = 4;
/// # Units
/// Bytes of a line of the caches.
const LINE_BYTES: usize = 64;
/// Rows that one base register reaches with the stride and its triple.
const ROWS_PER_BASE: usize = 5;
/// Longer tails are emitted once per tile, not once per accumulator.
const MAX_REPEATED_NODES: usize = 12;

/// Vectors of columns that a tile of so many rows has at most.
pub(crate) fn widest(isa: Isa, rows: usize) -> usize {
    match (isa, rows) {
        (Isa::Avx512, 0..=3) => 8,
        (Isa::Avx512, 4) => 6,
        (Isa::Avx512, 5) => 5,
        (Isa::Avx512, 6) => 4,
        (Isa::Avx512, 7..=9) => 3,
        (Isa::Avx512, _) => 2,
        (Isa::Avx2, 1) => 8,
        (Isa::Avx2, 2) => 5,
        (Isa::Avx2, 3) => 4,
        (Isa::Avx2, 4) => 3,
        (Isa::Avx2, _) => 2,
    }
}

/// Rows of the tile that is used most.
pub(crate) fn tallest(isa: Isa) -> usize {
    match isa {
        Isa::Avx512 => 14,
        Isa::Avx2 => 6,
    }
}

/// Where a tile is in the operands.
struct Pointers {
    lhs: Vec<Reg>,
    rhs: Reg,
}

impl Tile {
    /// The machine code.
    pub(super) fn assemble(&self, isa: Isa) -> Result<Vec<u8>, AssembleError> {
        let mut b = Builder::new(isa);
        let args = b.argument();
        let arg = |b: &mut Builder, slot: i32| b.load_int(Mem::at(args, 8 * slot));
        let lhs = arg(&mut b, slot::LHS);
        let out = arg(&mut b, slot::OUT);
        let tiles = arg(&mut b, slot::COUNT);
        let lowering =
            self.tail.as_ref().map(|tail| Lowering::new(&mut b, &tail.body, (args, slot::BODY), false));
        let mask = self.masked.then(|| {
            let columns = arg(&mut b, slot::COLUMNS);
            b.first_lanes(columns)
        });
        let next = (self.ahead > 0).then(|| arg(&mut b, slot::NEXT));
        b.repeat(tiles, 1, |b| {
            let sums = self.sums(b, args, (lhs, out), mask, next);
            match (&self.tail, &lowering) {
                (Some(tail), Some(lowering)) => {
                    let (raw, done) = (b.label(), b.label());
                    let ends = b.load_int(Mem::at(args, 8 * slot::ENDS));
                    b.branch(ends, Condition::LessEqual, Operand::Imm(0), raw);
                    self.finish(b, args, out, tail, lowering, &sums, mask);
                    b.jump(done);
                    b.place(raw);
                    self.store(b, args, out, &sums, mask);
                    b.place(done);
                }
                _ => self.store(b, args, out, &sums, mask),
            }
            let stride = b.load_int(Mem::at(args, 8 * slot::LHS_ROW));
            let panel = b.int(Op::MulInt, stride, Operand::Imm(self.rows as i32));
            b.update_int(Op::AddInt, lhs, panel);
        });
        assemble(b.code, isa)
    }

    /// The accumulators of a tile whose first row is at `lhs`, row by row.
    fn sums(
        &self,
        b: &mut Builder,
        args: Reg,
        (lhs, out): (Reg, Reg),
        mask: Option<Reg>,
        next: Option<Reg>,
    ) -> Vec<Reg> {
        let rhs = b.load_int(Mem::at(args, 8 * slot::RHS));
        let rhs_row = b.load_int(Mem::at(args, 8 * slot::RHS_ROW));
        let stride = b.load_int(Mem::at(args, 8 * slot::LHS_ROW));
        let step = (!self.unit).then(|| b.load_int(Mem::at(args, 8 * slot::LHS_STEP)));
        let thrice = (self.rows > 3).then(|| b.int(Op::MulInt, stride, Operand::Imm(3)));
        let mut bases = vec![b.move_int(lhs)];
        while bases.len() * ROWS_PER_BASE < self.rows {
            let far = b.int(Op::MulInt, stride, Operand::Imm((bases.len() * ROWS_PER_BASE) as i32));
            bases.push(b.int(Op::AddInt, far, lhs));
        }
        let sums: Vec<Reg> = (0..self.rows * self.vectors).map(|_| b.carried(Operand::Splat(0))).collect();
        self.resume(b, args, out, mask, &sums);
        let turn = |b: &mut Builder, steps: i32| {
            for k in 0..steps {
                let disp = if self.unit { 4 * k } else { 0 };
                self.step(b, &bases, (stride, thrice), disp, rhs, mask, &sums);
                b.update_int(Op::AddInt, rhs, rhs_row);
                if let Some(step) = step {
                    bases.iter().for_each(|base| b.update_int(Op::AddInt, *base, step));
                }
            }
            if self.unit {
                bases.iter().for_each(|base| b.update_int(Op::AddInt, *base, Operand::Imm(4 * steps)));
            }
        };
        let pointers = Pointers { lhs: bases.clone(), rhs };
        self.around(b, args, 0, &pointers, &|b| {
            let terms = b.load_int(Mem::at(args, 8 * slot::TERMS));
            b.repeat(terms, UNROLLED, |b| {
                turn(b, UNROLLED);
                next.iter().for_each(|next| self.look_ahead(b, args, *next));
            });
            b.repeat(terms, 1, |b| turn(b, 1));
        });
        sums
    }

    /// The loops over the outer contracted axes from `axis` on, around `inner`.
    fn around(
        &self,
        b: &mut Builder,
        args: Reg,
        axis: usize,
        pointers: &Pointers,
        inner: &dyn Fn(&mut Builder),
    ) {
        if axis == self.outer {
            return inner(b);
        }
        let first = slot::OUTER + slot::OUTER_SLOTS * axis as i32;
        let points = b.load_int(Mem::at(args, 8 * first));
        b.repeat(points, 1, |b| {
            self.around(b, args, axis + 1, pointers, inner);
            let [left, right] = [1, 2].map(|k| b.load_int(Mem::at(args, 8 * (first + k))));
            pointers.lhs.iter().for_each(|base| b.update_int(Op::AddInt, *base, left));
            b.update_int(Op::AddInt, pointers.rhs, right);
        });
    }

    /// Asks for some rows of the strip that comes next; those after the last one are the last one again.
    fn look_ahead(&self, b: &mut Builder, args: Reg, next: Reg) {
        let bytes = self.vectors as i32 * b.isa.bytes();
        let [stride, last] =
            [slot::NEXT_ROW, slot::NEXT_LAST].map(|slot| b.load_int(Mem::at(args, 8 * slot)));
        for _ in 0..self.ahead {
            (0..bytes).step_by(LINE_BYTES).for_each(|line| b.prefetch(Mem::at(next, line)));
            b.update_int(Op::AddInt, next, stride);
        }
        b.update_int(Op::MinInt, next, last);
    }

    /// Takes the sums of an earlier part of the contraction.
    fn resume(&self, b: &mut Builder, args: Reg, out: Reg, mask: Option<Reg>, sums: &[Reg]) {
        let first = b.label();
        let resumes = b.load_int(Mem::at(args, 8 * slot::RESUMES));
        b.branch(resumes, Condition::LessEqual, Operand::Imm(0), first);
        let out_row = b.load_int(Mem::at(args, 8 * slot::OUT_ROW));
        let from = b.move_int(out);
        for row in sums.chunks(self.vectors) {
            for (v, sum) in row.iter().enumerate() {
                let mask = mask.filter(|_| v + 1 == self.vectors);
                b.load_into(*sum, Mem::at(from, v as i32 * b.isa.bytes()), mask);
            }
            b.update_int(Op::AddInt, from, out_row);
        }
        b.place(first);
    }

    /// One step of the contraction.
    fn step(
        &self,
        b: &mut Builder,
        bases: &[Reg],
        (stride, thrice): (Reg, Option<Reg>),
        disp: i32,
        rhs: Reg,
        mask: Option<Reg>,
        sums: &[Reg],
    ) {
        let bytes = b.isa.bytes();
        let element = |r: usize| {
            let index = match (r % ROWS_PER_BASE, thrice) {
                (0, _) => None,
                (3, Some(thrice)) => Some((thrice, 1)),
                (k, _) => Some((stride, k as u8)),
            };
            Mem { base: bases[r / ROWS_PER_BASE], index, disp }
        };
        let vector = |b: &mut Builder, v: usize| {
            let last = v + 1 == self.vectors;
            b.load(Mem::at(rhs, v as i32 * bytes), mask.filter(|_| last))
        };
        // The smaller of both sides is kept in registers while the other passes.
        if self.rows < self.vectors {
            let row: Vec<Reg> = (0..self.rows).map(|r| b.broadcast(element(r))).collect();
            for v in 0..self.vectors {
                let column = vector(b, v);
                for (r, value) in row.iter().enumerate() {
                    b.accumulate(sums[r * self.vectors + v], *value, column);
                }
            }
        } else {
            let columns: Vec<Reg> = (0..self.vectors).map(|v| vector(b, v)).collect();
            for r in 0..self.rows {
                let value = b.broadcast(element(r));
                for (v, column) in columns.iter().enumerate() {
                    b.accumulate(sums[r * self.vectors + v], value, *column);
                }
            }
        }
    }

    fn store(&self, b: &mut Builder, args: Reg, out: Reg, sums: &[Reg], mask: Option<Reg>) {
        let out_row = b.load_int(Mem::at(args, 8 * slot::OUT_ROW));
        for row in sums.chunks(self.vectors) {
            self.store_row(b, out, row.iter().map(|sum| Operand::Reg(*sum)), mask);
            b.update_int(Op::AddInt, out, out_row);
        }
    }

    fn store_row(&self, b: &mut Builder, out: Reg, row: impl Iterator<Item = Operand>, mask: Option<Reg>) {
        let bytes = b.isa.bytes();
        for (v, value) in row.enumerate() {
            let last = v + 1 == self.vectors;
            b.store(Mem::at(out, v as i32 * bytes), value, mask.filter(|_| last));
        }
    }

    /// Puts the accumulators through the tail and stores them; leaves pointers at the next tile.
    fn finish(
        &self,
        b: &mut Builder,
        args: Reg,
        out: Reg,
        tail: &Tail,
        lowering: &Lowering<'_>,
        sums: &[Reg],
        mask: Option<Reg>,
    ) {
        let out_row = b.load_int(Mem::at(args, 8 * slot::OUT_ROW));
        let heavy = tail.body.is_heavy() || tail.body.nodes.len() > MAX_REPEATED_NODES;
        if !heavy || self.rows == 1 {
            for row in sums.chunks(self.vectors) {
                self.finish_row(b, out, tail, lowering, row, mask);
                b.update_int(Op::AddInt, out, out_row);
                lowering.next_row(b);
            }
            return;
        }
        let bytes = b.isa.bytes();
        let tile = b.scratch(sums.len() as i32 * bytes);
        for (k, sum) in sums.iter().enumerate() {
            b.store(Mem::at(tile, k as i32 * bytes), (*sum).into(), None);
        }
        let rows = b.code.reg(Class::Int);
        b.push(Inst::new(Op::MoveInt, Some(rows), &[Operand::Imm(self.rows as i32)]));
        b.repeat(rows, 1, |b| {
            let row: Vec<Reg> =
                (0..self.vectors).map(|v| b.load(Mem::at(tile, v as i32 * bytes), None)).collect();
            self.finish_row(b, out, tail, lowering, &row, mask);
            b.update_int(Op::AddInt, tile, Operand::Imm(self.vectors as i32 * bytes));
            b.update_int(Op::AddInt, out, out_row);
            lowering.next_row(b);
        });
    }

    fn finish_row(
        &self,
        b: &mut Builder,
        out: Reg,
        tail: &Tail,
        lowering: &Lowering<'_>,
        row: &[Reg],
        mask: Option<Reg>,
    ) {
        for (v, sum) in row.iter().enumerate() {
            let mask = mask.filter(|_| v + 1 == self.vectors);
            let at = Position { index: None, vector: v as i32, mask };
            let values = lowering.emit(b, at, Some((*sum).into()), &mut |_, _, _, _| {});
            let value = as_float(b, values[tail.result as usize]);
            b.store(Mem::at(out, v as i32 * b.isa.bytes()), value, mask);
        }
    }
}
