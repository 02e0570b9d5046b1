//! Loops whose iterations run in lanes, with reductions.
//!
//! A kernel runs a [`Body`] over all iterations, some vectors of them per turn; iterations that do
//! not fill a vector run under a mask. A reduction keeps as many vectors of partial values as a
//! turn has; at the end these are combined pairwise, then their lanes, so the order depends on the
//! number of iterations alone.

use super::body::Body;
use super::build::Builder;
use super::encode::{AssembleError, assemble};
use super::ir::{Condition, Mem, Op, Operand, Reg};
use super::isa::Isa;
use super::lower::{Lowering, Position};
use crate::ops::scalar::BinaryOp;

/// The slot of the number of iterations; the results of reductions follow, then the body's
/// arguments.
pub(crate) const COUNT_SLOT: i32 = 0;
/// Bodies of at most this many operations, none of them a function, run several vectors per turn.
const LIGHT_NODES: usize = 12;

/// The kernel of a loop.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct LaneLoop {
    pub body: Body,
    /// The operation of each reduction.
    pub reductions: Vec<BinaryOp>,
}

/// What a reduction starts from without changing anything, signs of zeros included.
pub(crate) fn identity(op: BinaryOp) -> Option<f32> {
    match op {
        BinaryOp::Add => Some(-0.0),
        BinaryOp::Mul => Some(1.0),
        BinaryOp::Max => Some(f32::NEG_INFINITY),
        BinaryOp::Min => Some(f32::INFINITY),
        _ => None,
    }
}

impl LaneLoop {
    /// The slot of the result of reduction `k`.
    pub(crate) fn result_slot(k: usize) -> i32 {
        COUNT_SLOT + 1 + k as i32
    }

    /// The slot of the body's first argument.
    pub(crate) fn body_slot(&self) -> i32 {
        Self::result_slot(self.reductions.len())
    }

    /// Whether the kernel runs iterations that do not fill a vector; otherwise they are left to
    /// the caller, at the end.
    pub(crate) fn is_whole(&self, isa: Isa) -> bool {
        isa == Isa::Avx512 || !self.body.has_truth_access()
    }

    fn vectors_per_turn(&self) -> usize {
        let light = !self.body.is_heavy() && self.body.nodes.len() <= LIGHT_NODES;
        match (light, self.reductions.is_empty()) {
            (true, true) => 2,
            (true, false) => 4,
            (false, _) => 1,
        }
    }

    /// The machine code.
    pub(super) fn assemble(&self, isa: Isa) -> Result<Vec<u8>, AssembleError> {
        let mut b = Builder::new(isa);
        let args = b.argument();
        let count = b.load_int(Mem::at(args, 8 * COUNT_SLOT));
        let lowering = Lowering::new(&mut b, &self.body, (args, self.body_slot()), true);
        let index = b.move_int(Operand::Imm(0));
        let vectors = self.vectors_per_turn();
        let partials: Vec<Vec<Reg>> =
            self.reductions.iter().map(|op| (0..vectors).map(|_| b.carried(start(*op))).collect()).collect();
        let lanes = isa.lanes() as i32;
        let turns: &[usize] = if vectors == 1 { &[1] } else { &[vectors, 1] };
        for turn in turns {
            b.repeat(count, *turn as i32 * lanes, |b| {
                for vector in 0..*turn {
                    self.emit(b, &lowering, &partials, index, vector, None);
                }
                b.update_int(Op::AddInt, index, Operand::Imm(*turn as i32 * lanes));
            });
        }
        if self.is_whole(isa) {
            let done = b.label();
            b.branch(count, Condition::LessEqual, Operand::Imm(0), done);
            let mask = b.first_lanes(count);
            self.emit(&mut b, &lowering, &partials, index, 0, Some(mask));
            b.place(done);
        }
        for (k, (op, partials)) in self.reductions.iter().zip(partials).enumerate() {
            let mut values: Vec<Operand> = partials.into_iter().map(Operand::Reg).collect();
            while values.len() > 1 {
                let half = values.len() / 2;
                values = (0..half).map(|i| b.reduce(*op, values[i], values[i + half])).collect();
            }
            let total = b.combine(*op, values[0]);
            b.store_first(Mem::at(args, 8 * Self::result_slot(k)), total);
        }
        assemble(b.code, isa)
    }

    /// The iterations of one vector.
    fn emit(
        &self,
        b: &mut Builder,
        lowering: &Lowering<'_>,
        partials: &[Vec<Reg>],
        index: Reg,
        vector: usize,
        mask: Option<Reg>,
    ) {
        let at = Position { index: Some(index), vector: vector as i32, mask };
        lowering.emit(b, at, None, &mut |b, k, op, value| {
            let partial = partials[k as usize][vector];
            let value = match mask {
                Some(mask) => b.select(mask, value, start(op)),
                None => value,
            };
            let folded = b.reduce(op, partial.into(), value);
            b.assign(partial, folded);
        });
    }
}

fn start(op: BinaryOp) -> Operand {
    Builder::real(identity(op).unwrap_or(0.0))
}
