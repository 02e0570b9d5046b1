//! Results do not depend on the number of threads.
//!
//! Every third-party case of `tests/oracles/cases.toml` is called with 1, 2, 3 and 7 threads, by code in which all
//! that can be divided is, however small, and by each kind of kernels. The bits must be those of code in
//! which nothing is divided. Whether the results are right is `tests/oracles.rs`'s to say.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by panicking and shows what it covered"
)]

use mdlc::codegen::target::{Grain, Kernels, Options};
use mdlc::codegen::vector::Isa;
use mdlc::driver::Compiler;
use mdlc::driver::cases::Check;
use mdlc::driver::table::Table;
use mdlc::graph::ir::{Op, RegionKind};
use mdlc::loops::ir::LoopProgram;
use mdlc::runtime::Compiled;
use mdlc::tensor::{Data, Tensor};
use mdlc::{Model, Threads, Weights};
use std::fmt::Write;
use std::path::PathBuf;

fn bits(tensor: &Tensor) -> Vec<u64> {
    match tensor.data() {
        Data::F32(v) => v.iter().map(|x| u64::from(x.to_bits())).collect(),
        Data::F64(v) => v.iter().map(|x| x.to_bits()).collect(),
        Data::I32(v) => v.iter().map(|x| *x as u64).collect(),
        Data::I64(v) => v.iter().map(|x| *x as u64).collect(),
        Data::Bool(v) => v.iter().map(|x| u64::from(*x)).collect(),
    }
}

type Named<'a> = Vec<(&'a str, &'a Tensor)>;

/// The bits of all outputs, or the words of the error.
fn outcome(model: &Model, inputs: &Named<'_>) -> Result<Vec<(String, Vec<u64>)>, String> {
    let outputs = model.call(inputs.iter().map(|(name, tensor)| (*name, tensor.view())));
    let outputs = outputs.map_err(|error| error.to_string())?;
    Ok(outputs.iter().map(|(name, tensor)| (name.to_string(), bits(tensor))).collect())
}

/// Statements that threads may divide.
fn tasks(compiled: &Compiled) -> usize {
    compiled.functions().iter().map(|function| function.stats.tasks).sum()
}

fn kernels() -> Vec<Kernels> {
    let wide = Isa::ALL.into_iter().map(Kernels::Of).filter(|kernels| kernels.isa().is_ok());
    std::iter::once(Kernels::None).chain(wide).collect()
}

fn all_threads() -> Vec<Threads> {
    [1, 2, 3, 7].map(|count| Threads::new(count).unwrap()).into()
}

/// What differs between undivided code and divided code with some threads; also counts divided statements.
fn differences(
    loops: &LoopProgram,
    kernels: Kernels,
    weights: &Weights,
    inputs: &Named<'_>,
    threads: &[Threads],
) -> (Vec<String>, usize) {
    let compiled = |grain| {
        Compiled::with(loops.clone(), Options { kernels, grain, ..Options::default() }, None).unwrap()
    };
    let undivided = compiled(Grain::NEVER);
    assert_eq!(tasks(&undivided), 0);
    let want = outcome(&undivided.bind(weights).unwrap(), inputs);
    let divided = compiled(Grain::FINEST);
    let mut wrong = Vec::new();
    for threads in threads {
        // Binding is divided too.
        let model = divided.clone().with_threads(threads).bind(weights).unwrap();
        for turn in 0..2 {
            let got = outcome(&model, inputs);
            if got != want {
                let places: Vec<&str> = match (&got, &want) {
                    (Ok(got), Ok(want)) => {
                        let pairs = got.iter().zip(want).filter(|(a, b)| a != b);
                        pairs.map(|(a, _)| a.0.as_str()).collect()
                    }
                    _ => vec!["the error"],
                };
                wrong.push(format!(
                    "{} threads, {kernels:?}, call {turn}: {}",
                    threads.count(),
                    places.join(", ")
                ));
            }
        }
    }
    (wrong, tasks(&divided))
}

#[test]
fn every_case_gives_the_same_bits() {
    let base = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/oracles");
    let table: Table = toml::from_str(&std::fs::read_to_string(base.join("cases.toml")).unwrap()).unwrap();
    let threads = all_threads();
    let (mut report, mut calls, mut divided, mut statements) = (String::new(), 0, 0, 0);
    for case in &table.cases {
        let check = Check::of_case(case, &base).unwrap();
        for call in &check.calls {
            let mut prepared = check.prepare(call).unwrap();
            prepared.unit.optimise(None).unwrap();
            let loops = prepared.unit.lower().unwrap();
            let ports = &prepared.unit.program.signature.inputs;
            let inputs: Named<'_> =
                ports.iter().zip(&prepared.inputs).map(|(port, (_, t))| (port.name.as_str(), t)).collect();
            for kernels in kernels() {
                let (wrong, tasks) = differences(&loops, kernels, &check.weights, &inputs, &threads);
                calls += 1;
                divided += usize::from(tasks > 0);
                statements += tasks;
                for wrong in wrong {
                    writeln!(report, "{}: {wrong}", case.name).unwrap();
                }
            }
        }
    }
    println!("{divided} of {calls} programs are divided, at {statements} statements");
    assert!(report.is_empty(), "{report}");
    assert!(divided * 10 > calls * 9, "too few programs are divided");
}

/// Products, softmax over rows and elementwise work, large enough to be divided by the default grain.
const ATTENTION: &str = "
    module Attention(D) {
        param w: [D, D] = uniform(0.2)
        forward(x: [B, T, D]) -> [B, T, D] {
            let q[b, t, e] = sum[d] x[b, t, d] * w[e, d]
            let s[b, i, j] = sum[e] q[b, i, e] * x[b, j, e]
            let p[b, i, j] = softmax[j](s[b, i, j])
            let y[b, i, e] = sum[j] p[b, i, j] * x[b, j, e]
            y
        }
    }
";

/// Attention whose weights are given: by blocks of queries, of which there are several.
const BLOCKS: &str = "
    module Attention(D) {
        param w: [D, D] = uniform(0.2)
        param u: [D] = uniform(0.2)
        forward(x: [B, T, D]) -> (y: [B, T, D], p: [B, T, T]) {
            let q[b, t, e] = sum[d] x[b, t, d] * w[e, d]
            let s[b, i, j] = sum[e] (q[b, i, e] + u[e]) * x[b, j, e]
            let p[b, i, j] = softmax[j where abs(i - j) < 99](s[b, i, j])
            let y[b, i, e] = sum[j] p[b, i, j] * x[b, j, e]
            (y, p)
        }
    }
";

#[test]
fn blocks_of_queries_give_the_same_bits() {
    let x = input([3, 150, 16]);
    // Sizes that are known give each thread its own block.
    for free in [true, false] {
        let compiler = Compiler::new().set("D", "16");
        let compiler = if free { compiler } else { compiler.dim("T", 150) };
        let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
        let mut unit = compiler.elaborate_source("blocks.mdl", BLOCKS, &folder).unwrap();
        unit.optimise(None).unwrap();
        let blocked =
            |op: &Op| matches!(op, Op::Region(region) if region.kind == RegionKind::BlockedAttention);
        let found = {
            let mut nodes = unit.program.functions.iter().flat_map(|f| f.graph.dag.node_weights());
            nodes.any(|node| blocked(&node.op))
        };
        assert!(found, "not by blocks");
        let loops = unit.lower().unwrap();
        for kernels in kernels() {
            let inputs: Named<'_> = vec![("x", &x)];
            let weights = Weights::initialised(0);
            let (wrong, tasks) = differences(&loops, kernels, &weights, &inputs, &all_threads());
            assert!(tasks > 0, "nothing is divided");
            assert!(wrong.is_empty(), "{wrong:?}");
        }
    }
}

fn input(shape: [usize; 3]) -> Tensor {
    let count = shape.iter().product::<usize>();
    Tensor::new(shape, (0..count).map(|k| (k * 37 % 101) as f32 / 101.0).collect::<Vec<f32>>()).unwrap()
}

/// Many threads call one model at once, and some find its threads at work.
#[test]
fn calls_from_many_threads_share_the_pool() {
    let compiled = Compiler::new().set("D", "64").compile_source("attention.mdl", ATTENTION).unwrap();
    assert!(tasks(&compiled) > 0, "nothing is divided");
    let alone = compiled.bind(&Weights::initialised(0)).unwrap();
    let threads = Threads::new(3).unwrap();
    let model = compiled.with_threads(&threads).bind(&Weights::initialised(0)).unwrap();
    std::thread::scope(|scope| {
        for k in 0..16 {
            let (alone, model) = (&alone, &model);
            scope.spawn(move || {
                let x = input([1 + k % 3, 100 + k, 64]);
                let want = outcome(alone, &vec![("x", &x)]);
                for _ in 0..20 {
                    assert_eq!(outcome(model, &vec![("x", &x)]), want);
                }
            });
        }
    });
}

/// Threads outlive neither the model nor its last holder, and a model outlives whoever made them.
#[test]
fn models_share_threads_and_keep_them() {
    let compiled = Compiler::new().set("D", "64").compile_source("attention.mdl", ATTENTION).unwrap();
    let x = input([2, 150, 64]);
    let alone = compiled.bind(&Weights::initialised(0)).unwrap();
    let want = outcome(&alone, &vec![("x", &x)]);
    let models: Vec<Model> = {
        let threads = Threads::new(2).unwrap();
        let model = || compiled.bind(&Weights::initialised(0)).unwrap().with_threads(&threads);
        vec![model(), model()]
    };
    for model in models {
        assert_eq!(outcome(&model, &vec![("x", &x)]), want);
    }
}
