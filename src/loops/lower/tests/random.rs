//! Random programs: reads that are inside, outside, guarded, gathered and padded; reductions with
//! filters and over nothing; sizes known and free, zero among them.

use super::{agree, agree_with, dims};
use crate::dim::Dim;
use crate::dtype::DType;
use crate::graph::eval::{Mode, evaluate};
use crate::graph::expr::{Expr, ExprId, Exprs, Read};
use crate::graph::fixture::{Fixture, f32s, i64s, k, span, sym};
use crate::graph::ir::{Axis, Index, Program, Reduce, Value};
use crate::graph::verify::verify_after;
use crate::ops::reduce::Reducer;
use crate::ops::scalar::{BinaryOp, UnaryOp};
use crate::passes::PIPELINE;
use crate::tensor::Tensor;

/// A linear congruential generator (Knuth's MMIX constants).
pub(super) struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        let mut random = Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        random.below(2);
        random
    }

    pub fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % n
    }

    pub fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    pub fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.below(items.len())]
    }
}

struct Operand {
    value: Value,
    dtype: DType,
    shape: Vec<Dim>,
}

/// One op under construction.
struct Body<'a> {
    random: &'a mut Random,
    exprs: Exprs,
    extents: Vec<Dim>,
    /// Indices that may be used.
    visible: usize,
    operands: &'a [Operand],
}

impl Body<'_> {
    fn index(&mut self) -> ExprId {
        if self.visible == 0 {
            return self.exprs.int(0);
        }
        let k = self.random.below(self.visible);
        self.exprs.index(k)
    }

    fn int(&mut self, depth: usize) -> ExprId {
        let choice = self.random.below(if depth == 0 { 4 } else { 9 });
        match choice {
            0 | 1 => self.index(),
            2 => {
                let value = self.random.below(5) as i64 - 1;
                self.exprs.int(value)
            }
            3 => {
                let dim = self.random.pick(&[sym("B"), sym("T"), k(3)]).clone();
                self.exprs.dim(&dim)
            }
            4 | 5 => {
                let op = *self.random.pick(&[BinaryOp::Add, BinaryOp::Sub, BinaryOp::Min, BinaryOp::Max]);
                let (a, b) = (self.int(depth - 1), self.int(depth - 1));
                self.exprs.binary(op, a, b)
            }
            6 => {
                let op = *self.random.pick(&[BinaryOp::FloorDiv, BinaryOp::Mod, BinaryOp::Mul]);
                let a = self.int(depth - 1);
                let b = if self.random.chance(70) {
                    let value = *self.random.pick(&[1, 2, 3, -2]);
                    self.exprs.int(value)
                } else {
                    self.int(depth - 1)
                };
                self.exprs.binary(op, a, b)
            }
            7 => self.read(DType::I64, depth - 1),
            _ => {
                let (c, a, b) = (self.truth(depth - 1), self.int(depth - 1), self.int(depth - 1));
                self.exprs.select(c, a, b)
            }
        }
    }

    fn truth(&mut self, depth: usize) -> ExprId {
        let choice = self.random.below(if depth == 0 { 3 } else { 6 });
        match choice {
            0..=2 => {
                let ops =
                    [BinaryOp::Lt, BinaryOp::Le, BinaryOp::Gt, BinaryOp::Ge, BinaryOp::Eq, BinaryOp::Ne];
                let op = *self.random.pick(&ops);
                let (a, b) = (self.int(depth / 2), self.int(depth / 2));
                self.exprs.binary(op, a, b)
            }
            3 => {
                let (a, b) = (self.truth(depth - 1), self.truth(depth - 1));
                self.both(a, b)
            }
            4 => {
                let a = self.truth(depth - 1);
                self.exprs.unary(UnaryOp::Not, a)
            }
            _ => {
                let (c, a, no) = (self.truth(depth - 1), self.truth(depth - 1), self.exprs.bool(false));
                self.exprs.select(c, a, no)
            }
        }
    }

    /// Both, as builders write it: lazily where the right side reads.
    fn both(&mut self, a: ExprId, b: ExprId) -> ExprId {
        let reachable = self.exprs.reachable(&[b]);
        let reads = |(id, e, _): (ExprId, &Expr, DType)| {
            reachable[id.0 as usize]
                && matches!(e, Expr::Read(_) | Expr::Binary(BinaryOp::FloorDiv | BinaryOp::Mod, ..))
        };
        if self.exprs.iter().any(reads) {
            let no = self.exprs.bool(false);
            self.exprs.select(a, b, no)
        } else {
            self.exprs.binary(BinaryOp::And, a, b)
        }
    }

    fn real(&mut self, depth: usize) -> ExprId {
        let choice = self.random.below(if depth == 0 { 4 } else { 9 });
        match choice {
            0..=2 => self.read(DType::F32, depth.saturating_sub(1)),
            3 => {
                let value = *self.random.pick(&[0.0, 1.5, -2.0, f64::INFINITY]);
                self.exprs.real(value, DType::F32)
            }
            4 | 5 => {
                let ops = [BinaryOp::Add, BinaryOp::Sub, BinaryOp::Mul, BinaryOp::Max, BinaryOp::Min];
                let op = *self.random.pick(&ops);
                let (a, b) = (self.real(depth - 1), self.real(depth - 1));
                self.exprs.binary(op, a, b)
            }
            6 => {
                let op = *self.random.pick(&[UnaryOp::Neg, UnaryOp::Abs, UnaryOp::Tanh]);
                let a = self.real(depth - 1);
                self.exprs.unary(op, a)
            }
            7 => {
                let a = self.int(depth - 1);
                self.exprs.cast(a, DType::F32)
            }
            _ => {
                let (c, a, b) = (self.truth(depth - 1), self.real(depth - 1), self.real(depth - 1));
                self.exprs.select(c, a, b)
            }
        }
    }

    fn read(&mut self, dtype: DType, depth: usize) -> ExprId {
        let ports: Vec<usize> =
            (0..self.operands.len()).filter(|p| self.operands[*p].dtype == dtype).collect();
        let port = *self.random.pick(&ports);
        let shape = self.operands[port].shape.clone();
        let mut index = Vec::with_capacity(shape.len());
        for extent in &shape {
            let fitting: Vec<usize> = (0..self.visible).filter(|k| self.extents[*k] == *extent).collect();
            index.push(if !fitting.is_empty() && self.random.chance(70) {
                let k = *self.random.pick(&fitting);
                self.exprs.index(k)
            } else {
                self.int(depth)
            });
        }
        let otherwise = self.random.chance(35).then(|| match dtype {
            DType::F32 => self.exprs.real(7.0, DType::F32),
            _ => self.exprs.int(1),
        });
        let guarded = self.random.chance(30);
        let conditions: Vec<ExprId> = if guarded {
            index
                .iter()
                .zip(&shape)
                .flat_map(|(i, extent)| {
                    let (zero, extent) = (self.exprs.int(0), self.exprs.dim(extent));
                    [self.exprs.binary(BinaryOp::Ge, *i, zero), self.exprs.binary(BinaryOp::Lt, *i, extent)]
                })
                .collect()
        } else {
            Vec::new()
        };
        let read = Read { port: port as u32, index, otherwise, span: span() };
        let mut value = self.exprs.add(Expr::Read(read), dtype);
        for condition in conditions {
            let other = match dtype {
                DType::F32 => self.exprs.real(-3.0, DType::F32),
                _ => self.exprs.int(2),
            };
            value = self.exprs.select(condition, value, other);
        }
        value
    }
}

fn axes(random: &mut Random, count: usize) -> Vec<Axis> {
    let pool = [sym("B"), sym("T"), k(1), k(2), k(3), k(5)];
    (0..count).map(|at| Axis::new(random.pick(&pool).clone(), ["b", "t", "d", "s", "e"][at])).collect()
}

fn op(random: &mut Random, operands: &[Operand]) -> Index {
    let count = random.below(4);
    let iterate = axes(random, count);
    let with_reduce = random.chance(60);
    let reduced = if with_reduce { 1 + random.below(2) } else { 0 };
    let bound = axes(random, reduced);
    let extents = iterate.iter().chain(&bound).map(|axis| axis.extent.clone()).collect();
    let mut body = Body { random, exprs: Exprs::new(), extents, visible: count, operands };
    let guard = body.random.chance(20).then(|| body.truth(2));
    let mut reduce = None;
    if with_reduce {
        let reducer = *body.random.pick(&[
            Reducer::Sum,
            Reducer::Sum,
            Reducer::Max,
            Reducer::Min,
            Reducer::Prod,
            Reducer::ArgMax,
            Reducer::ArgMin,
        ]);
        let otherwise = body.random.chance(30).then(|| match reducer {
            Reducer::ArgMax | Reducer::ArgMin => body.int(1),
            _ => body.real(1),
        });
        body.visible = count + reduced;
        let filter = body.random.chance(60).then(|| {
            let first = body.truth(1);
            if body.random.chance(50) {
                let second = body.truth(2);
                body.both(first, second)
            } else {
                first
            }
        });
        reduce = Some(Reduce { reducer, axes: bound, filter, otherwise });
    }
    let root = body.real(3);
    Index { iterate, guard, reduce, exprs: body.exprs, body: root }
}

fn program(random: &mut Random) -> Program {
    let mut f = Fixture::new();
    let mut operands = Vec::new();
    for (name, dtype, shape) in [
        ("x", DType::F32, vec![sym("B"), sym("T")]),
        ("y", DType::F32, vec![k(3)]),
        ("z", DType::F32, vec![k(2), k(5)]),
        ("i", DType::I64, vec![sym("B")]),
        ("j", DType::I64, vec![k(3)]),
    ] {
        operands.push(Operand { value: f.input(name, dtype, &shape), dtype, shape });
    }
    let first = operands.len();
    for _ in 0..1 + random.below(3) {
        let index = op(random, &operands);
        let shape: Vec<Dim> = index.iterate.iter().map(|axis| axis.extent.clone()).collect();
        let dtype = index.result_dtype();
        let values: Vec<Value> = operands.iter().map(|o| o.value).collect();
        operands.push(Operand { value: f.index(index, &values), dtype, shape });
    }
    let results: Vec<Value> = operands[first..].iter().map(|o| o.value).collect();
    f.program(&results)
}

fn inputs(random: &mut Random) -> Vec<Tensor> {
    let (b, t) = (random.below(5), random.below(5));
    let mut reals = |n: usize| -> Vec<f32> {
        (0..n).map(|_| *random.pick(&[0.5, -1.0, 2.0, 3.25, f32::NAN, 0.0, 1.0])).collect()
    };
    let (x, y, z) = (reals(b * t), reals(3), reals(10));
    let mut ids = |n: usize| -> Vec<i64> { (0..n).map(|_| *random.pick(&[0, 1, 2, 0, 1, -1, 4])).collect() };
    let (i, j) = (ids(b), ids(3));
    vec![f32s(&[b, t], &x), f32s(&[3], &y), f32s(&[2, 5], &z), i64s(&[b], &i), i64s(&[3], &j)]
}

/// How many programs to try: more by hand than in every run.
fn rounds(usual: u64) -> u64 {
    std::env::var("MDLC_ROUNDS").ok().and_then(|n| n.parse().ok()).unwrap_or(usual)
}

/// Runs a check on random programs and inputs; gives how many had values and how many failed.
fn try_all(rounds: u64, check: impl Fn(&Program, &[Tensor]) -> bool + std::panic::RefUnwindSafe) -> [u64; 2] {
    let mut counts = [0, 0];
    for seed in 0..rounds {
        let mut random = Random::new(seed);
        let program = program(&mut random);
        for _ in 0..3 {
            let inputs = inputs(&mut random);
            match std::panic::catch_unwind(|| check(&program, &inputs)) {
                Ok(has_value) => counts[usize::from(!has_value)] += 1,
                Err(_) => panic!("seed {seed} with {inputs:?}"),
            }
        }
    }
    counts
}

#[test]
fn random_programs_agree() {
    let [values, failures] = try_all(rounds(400), |program, inputs| agree(program, inputs, &[]).is_ok());
    assert!(values > failures && failures > 0, "{values} gave values, {failures} failed");
}

#[test]
fn random_programs_agree_after_all_passes() {
    let [values, _] = try_all(rounds(200), |program, inputs| {
        let expected = evaluate(program, inputs, &[] as &[Tensor], &dims(program, inputs), Mode::Declared);
        let mut changed = program.clone();
        for pass in PIPELINE {
            (pass.run)(&mut changed);
            verify_after(pass.name, &changed).unwrap();
        }
        // Passes may drop what fails and is not used; they never make a call fail.
        expected.is_ok() && agree_with(program, &changed, inputs, &[]).is_ok()
    });
    assert!(values > 0);
}
