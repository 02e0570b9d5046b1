//! Timings, for whoever changes the kernels: `cargo test --lib speed -- --ignored --nocapture`.

use super::{Kit, back_ends, for_loop, noise};
use crate::dim::Dim;
use crate::dtype::DType;
use crate::loops::ir::{Gemm, Kernel, LoopKind, Matrix, Pointer, Stmt};
use crate::ops::scalar::{BinaryOp, UnaryOp};
use crate::runtime::{Compiled, Model, Weights};
use crate::tensor::Tensor;
use std::fmt::Write;
use std::time::{Duration, Instant};

/// The best of many calls.
fn best(model: &Model, inputs: &[(&str, &Tensor)]) -> Duration {
    let mut best = Duration::MAX;
    let start = Instant::now();
    while start.elapsed() < Duration::from_millis(300) {
        let turn = Instant::now();
        model.call(inputs.iter().map(|(name, tensor)| (*name, tensor.view()))).unwrap();
        best = best.min(turn.elapsed());
    }
    best
}

/// Every kind of code that this processor runs.
fn all(kit: Kit, body: Vec<Stmt>) -> Vec<(String, Model)> {
    let program = kit.program(body);
    let compiled = back_ends().into_iter().map(|kernels| {
        let compiled = Compiled::with(program.clone(), kernels, None).unwrap();
        (format!("{kernels:?}"), compiled.bind(&Weights::new()).unwrap())
    });
    compiled.collect()
}

#[test]
#[ignore = "a measurement"]
fn speed_of_products() {
    for (m, n, k, transposed) in [
        (256usize, 256usize, 256usize, false),
        (512, 512, 512, false),
        (1024, 1024, 1024, false),
        (64, 512, 512, false),
        (128, 3072, 768, false),
        (16, 512, 512, false),
        (4, 768, 768, false),
        (1, 512, 2048, false),
        (1, 2048, 512, false),
        (1, 4096, 4096, false),
        (128, 64, 128, false),
        (128, 128, 64, true),
        (1, 1024, 1024, true),
        (256, 256, 256, true),
    ] {
        let mut kit = Kit::new("product");
        let lhs = kit.input("lhs", DType::F32, vec![Dim::from((m * k) as i64)]);
        let rhs = kit.input("rhs", DType::F32, vec![Dim::from((k * n) as i64)]);
        let out = kit.output("out", DType::F32, vec![Dim::from((m * n) as i64)]);
        let zero = kit.int(0);
        let mut matrix = |buffer, strides: (usize, usize)| Matrix {
            at: Pointer { buffer, offset: zero },
            strides: (kit.int(strides.0 as i64), kit.int(strides.1 as i64)),
        };
        let by = if transposed { (1, k) } else { (n, 1) };
        let (lhs, rhs, out) = (matrix(lhs, (k, 1)), matrix(rhs, by), matrix(out, (n, 1)));
        let [m_id, n_id, k_id] = [m, n, k].map(|size| kit.int(size as i64));
        let gemm = Gemm { m: m_id, n: n_id, k: k_id, outer: Vec::new(), lhs, rhs, out, epilogue: None };
        let tensors = [noise(m * k, 1), noise(k * n, 2)].map(|v| Tensor::new([v.len()], v).unwrap());
        let mut rates = String::new();
        for (kernels, model) in all(kit, vec![Stmt::Kernel(Box::new(Kernel::Gemm(gemm)))]) {
            let time = best(&model, &[("lhs", &tensors[0]), ("rhs", &tensors[1])]);
            let rate = 2.0 * (m * n * k) as f64 / time.as_nanos() as f64;
            write!(rates, "  {kernels} {rate:.1}").unwrap();
        }
        eprintln!("{m} x {n} x {k}{}: GFLOP/s{rates}", if transposed { " by dots" } else { "" });
    }
}

#[test]
#[ignore = "a measurement"]
fn speed_of_pointwise_loops_and_reductions() {
    let n = 1usize << 14;
    for op in [UnaryOp::Neg, UnaryOp::Exp, UnaryOp::Tanh, UnaryOp::Sigmoid, UnaryOp::Erf] {
        let mut kit = Kit::new("pointwise");
        let x = kit.input("x", DType::F32, vec![Dim::from(n as i64)]);
        let out = kit.output("out", DType::F32, vec![Dim::from(n as i64)]);
        let (i, iv) = kit.var("i");
        let extent = kit.int(n as i64);
        let element = kit.load(x, iv);
        let value = kit.unary(op, element);
        let store = Stmt::Store { buffer: out, index: iv, value };
        let tensor = Tensor::new([n], noise(n, 1)).unwrap();
        let mut rates = String::new();
        for (kernels, model) in all(kit, vec![for_loop(i, extent, LoopKind::Vector, vec![store])]) {
            let time = best(&model, &[("x", &tensor)]);
            write!(rates, "  {kernels} {:.2}", n as f64 / time.as_nanos() as f64).unwrap();
        }
        eprintln!("{}: elements/ns{rates}", op.name());
    }
    let mut kit = Kit::new("sum");
    let x = kit.input("x", DType::F32, vec![Dim::from(n as i64)]);
    let out = kit.output("out", DType::F32, vec![Dim::ONE]);
    let (sum, sum_value) = kit.local("sum", DType::F32);
    let (i, iv) = kit.var("i");
    let (zero, extent, nothing) = (kit.int(0), kit.int(n as i64), kit.real(0.0));
    let value = kit.load(x, iv);
    let body = vec![
        Stmt::Set { local: sum, value: nothing },
        for_loop(i, extent, LoopKind::Vector, vec![Stmt::Reduce { local: sum, op: BinaryOp::Add, value }]),
        Stmt::Store { buffer: out, index: zero, value: sum_value },
    ];
    let tensor = Tensor::new([n], noise(n, 1)).unwrap();
    let mut rates = String::new();
    for (kernels, model) in all(kit, body) {
        let time = best(&model, &[("x", &tensor)]);
        write!(rates, "  {kernels} {:.2}", n as f64 / time.as_nanos() as f64).unwrap();
    }
    eprintln!("sum: elements/ns{rates}");
}
