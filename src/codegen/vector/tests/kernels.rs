//! Whole kernels: every remainder, and nothing written outside.

use super::super::body::{Access, Body, Node};
use super::super::isa::Isa;
use super::super::kernels::Defined;
use super::super::lanes::{COUNT_SLOT, LaneLoop};
use super::super::line::Line;
use super::super::pack::Pack;
use super::super::text::kernel_text;
use super::super::tile::{Tile, slot, tallest, widest};
use super::run::{Kernel, widths};
use crate::ops::scalar::BinaryOp;
use std::time::{Duration, Instant};

/// What lies outside, and must stay.
const FENCE: f32 = -77.0;

fn numbers(count: usize, seed: usize) -> Vec<f32> {
    (0..count).map(|k| ((k * 7 + seed * 13) % 23) as f32 - 11.0).collect()
}

/// A product with odd strides between rows; all numbers are small integers, so sums are exact.
struct Operands {
    size: (usize, usize, usize),
    strides: (usize, usize, usize),
    lhs: Vec<f32>,
    rhs: Vec<f32>,
    out: Vec<f32>,
}

impl Operands {
    fn new(m: usize, n: usize, k: usize) -> Self {
        let strides = (k + 3, n + 5, n + 7);
        let (lhs, rhs) = (numbers(m * strides.0, 1), numbers(k * strides.1, 2));
        Operands { size: (m, n, k), strides, lhs, rhs, out: vec![FENCE; m * strides.2] }
    }

    fn arguments(&mut self) -> Vec<i64> {
        let mut all = vec![0i64; slot::BODY as usize];
        let bytes = |elems: usize| 4 * elems as i64;
        let passed = [
            (slot::LHS, self.lhs.as_ptr() as i64),
            (slot::RHS, self.rhs.as_ptr() as i64),
            (slot::OUT, self.out.as_mut_ptr() as i64),
            (slot::COUNT, 1),
            (slot::TERMS, self.size.2 as i64),
            (slot::LHS_ROW, bytes(self.strides.0)),
            (slot::LHS_STEP, 4),
            (slot::RHS_ROW, bytes(self.strides.1)),
            (slot::OUT_ROW, bytes(self.strides.2)),
            (slot::COLUMNS, self.size.1 as i64),
            (slot::ENDS, 1),
        ];
        for (slot, value) in passed {
            all[slot as usize] = value;
        }
        all
    }

    fn check(&self, what: &str) {
        let (m, n, k) = self.size;
        for i in 0..m {
            for j in 0..self.strides.2 {
                let sum = (0..k).map(|p| self.lhs[i * self.strides.0 + p] * self.rhs[p * self.strides.1 + j]);
                let wanted = if j < n { sum.sum() } else { FENCE };
                let found = self.out[i * self.strides.2 + j];
                assert_eq!(found, wanted, "{what}, {:?}: [{i}, {j}]", self.size);
            }
        }
    }
}

/// All tiles of rows and vectors that products use, with every number of columns in the last vector.
#[test]
fn tiles_are_right_for_all_remainders() {
    for isa in widths() {
        for m in 1..=tallest(isa) {
            for vectors in 1..=widest(isa, m) {
                for last in [1, 2, isa.lanes() / 2 + 1, isa.lanes() - 1, isa.lanes()] {
                    let tile = Tile {
                        rows: m,
                        vectors,
                        masked: last < isa.lanes(),
                        unit: true,
                        outer: 0,
                        // What is asked for ahead need not be memory.
                        ahead: m % 5,
                        tail: None,
                    };
                    let kernel = Kernel::new(&tile.assemble(isa).unwrap());
                    for k in 0..=5 {
                        let n = (vectors - 1) * isa.lanes() + last;
                        let mut operands = Operands::new(m, n, k);
                        let mut arguments = operands.arguments();
                        arguments[slot::COLUMNS as usize] = last as i64;
                        kernel.call(&mut arguments);
                        operands.check(isa.name());
                    }
                }
            }
        }
    }
}

/// Panels of several tiles, a left operand that is not contiguous, and sums that are taken up again.
#[test]
fn panels_and_parts_are_right() {
    for isa in widths() {
        let rows = tallest(isa);
        for unit in [true, false] {
            let tile = Tile { rows, vectors: 2, masked: false, unit, outer: 0, ahead: 0, tail: None };
            let kernel = Kernel::new(&tile.assemble(isa).unwrap());
            for k in [1usize, 6, 9] {
                let mut operands = Operands::new(3 * rows, 2 * isa.lanes(), k);
                for (from, terms) in [(0, k / 2), (k / 2, k - k / 2)] {
                    let mut arguments = operands.arguments();
                    arguments[slot::COUNT as usize] = 3;
                    arguments[slot::TERMS as usize] = terms as i64;
                    arguments[slot::LHS as usize] += 4 * from as i64;
                    arguments[slot::RHS as usize] += (4 * from * operands.strides.1) as i64;
                    arguments[slot::RESUMES as usize] = i64::from(from > 0);
                    kernel.call(&mut arguments);
                }
                if k > 1 {
                    operands.check(isa.name());
                }
            }
        }
    }
}

/// Each turn of the loop over terms asks for all lines of so many rows.
#[test]
fn tiles_ask_for_the_strip_that_comes_next() {
    for isa in widths() {
        for (vectors, ahead) in [(2, 1), (3, 2), (2, 4)] {
            let tile = Tile { rows: 6, vectors, masked: false, unit: true, outer: 0, ahead, tail: None };
            let code = tile.assemble(isa).unwrap();
            let lines = (vectors * isa.bytes() as usize).div_ceil(64);
            let kernel = Defined { name: String::new(), code, places: Vec::new() };
            let printed = kernel_text(&kernel);
            assert_eq!(printed.matches("prefetcht1").count(), ahead * lines, "{printed}");
        }
    }
}

#[test]
fn single_rows_are_right_for_all_widths() {
    for isa in widths() {
        let kernel = Kernel::new(&Line { tail: None }.assemble(isa).unwrap());
        for n in 1..=5 * isa.lanes() + 1 {
            for k in [0, 1, 7, 8, 17] {
                let mut operands = Operands::new(1, n, k);
                let mut arguments = operands.arguments();
                kernel.call(&mut arguments);
                operands.check(isa.name());
            }
        }
    }
}

#[test]
fn strips_are_copied_and_transposed() {
    for isa in widths() {
        for (vectors, transposed) in [(1, false), (2, false), (3, false), (1, true), (2, true), (4, true)] {
            for last in [1, isa.lanes() - 1, isa.lanes()] {
                let pack = Pack { vectors, masked: last < isa.lanes(), transposed };
                let kernel = Kernel::new(&pack.assemble(isa).unwrap());
                let n = (vectors - 1) * isa.lanes() + last;
                for k in [0usize, 1, 4, 7, 9] {
                    strip(isa, &kernel, pack, (n, last, k));
                }
            }
        }
    }
}

fn strip(isa: Isa, kernel: &Kernel, pack: Pack, (n, last, k): (usize, usize, usize)) {
    let (stride, width) = (if pack.transposed { k } else { n } + 3, pack.vectors * isa.lanes());
    let matrix = numbers(stride * if pack.transposed { n } else { k }, 3);
    let mut out = vec![FENCE; (k + 1) * width];
    let mut arguments = vec![0i64; slot::BODY as usize];
    arguments[slot::RHS as usize] = matrix.as_ptr() as i64;
    arguments[slot::OUT as usize] = out.as_mut_ptr() as i64;
    arguments[slot::TERMS as usize] = k as i64;
    arguments[slot::RHS_ROW as usize] = 4 * stride as i64;
    arguments[slot::COLUMNS as usize] = if pack.transposed { n } else { last } as i64;
    kernel.call(&mut arguments);
    for p in 0..k {
        for j in 0..n {
            let at = if pack.transposed { j * stride + p } else { p * stride + j };
            assert_eq!(out[p * width + j], matrix[at], "{pack:?} of {n}, {k}: [{p}, {j}]");
        }
    }
    assert!(out[k * width..].iter().all(|x| *x == FENCE), "{pack:?} writes behind its strip");
}

/// `out[i] = x[i] * x[i]` with the sum of all, for every number of iterations.
#[test]
fn loops_are_right_for_all_lengths() {
    let access = |argument| Access { argument, behind: 0, along: true, by_row: false, truth: false };
    let nodes = vec![
        Node::Load(access(0)),
        Node::Binary(BinaryOp::Mul, 0, 0),
        Node::Store(access(1), 1),
        Node::Reduce(0, BinaryOp::Add, 1),
    ];
    let shape = LaneLoop { body: Body { nodes }, reductions: vec![BinaryOp::Add] };
    for isa in widths() {
        let kernel = Kernel::new(&shape.assemble(isa).unwrap());
        for count in 0..=6 * isa.lanes() + 3 {
            let x = numbers(count, 4);
            let mut out = vec![FENCE; count + isa.lanes()];
            let mut arguments = vec![count as i64, 0, x.as_ptr() as i64, out.as_mut_ptr() as i64];
            kernel.call(&mut arguments);
            assert_eq!(arguments[COUNT_SLOT as usize], count as i64);
            let sum = f32::from_bits(arguments[LaneLoop::result_slot(0) as usize] as u32);
            let (inside, outside) = out.split_at(count);
            assert!(inside.iter().zip(&x).all(|(y, x)| *y == x * x), "{count} with {}", isa.name());
            assert!(outside.iter().all(|x| *x == FENCE), "{count} with {}", isa.name());
            assert_eq!(sum, inside.iter().sum::<f32>(), "{count} with {}", isa.name());
        }
    }
}

/// What there is to reach: a tile that finds all it needs in the first cache.
#[test]
#[ignore = "a measurement"]
fn speed_of_a_tile() {
    for isa in widths() {
        let rows = tallest(isa);
        let tile = Tile { rows, vectors: 2, masked: false, unit: true, outer: 0, ahead: 0, tail: None };
        let kernel = Kernel::new(&tile.assemble(isa).unwrap());
        let k = 128;
        let mut operands = Operands::new(rows, 2 * isa.lanes(), k);
        let mut arguments = operands.arguments();
        let (mut best, started) = (Duration::MAX, Instant::now());
        while started.elapsed() < Duration::from_millis(500) {
            let turn = Instant::now();
            for _ in 0..100 {
                kernel.call(&mut arguments);
            }
            best = best.min(turn.elapsed());
        }
        let flops = 100.0 * 2.0 * (rows * 2 * isa.lanes() * k) as f64;
        eprintln!("{}: {:.1} GFLOP/s", isa.name(), flops / best.as_nanos() as f64);
    }
}
