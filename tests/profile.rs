//! Marked programs: the same bits, every piece told apart by instance, and its work counted.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use mdlc::codegen::target::{Grain, Kernels, Options};
use mdlc::dim::Symbol;
use mdlc::driver::{Compiler, Unit};
use mdlc::loops::ir::{LoopProgram, MarkId};
use mdlc::loops::marks::{self, Mark, Owners, Work, module_of};
use mdlc::runtime::{Compiled, Recorder};
use mdlc::{Model, Tensor, Threads, Weights};
use std::path::Path;

fn unit(compiler: Compiler, source: &str) -> Unit {
    let mut unit = compiler.elaborate_source("m.mdl", source, Path::new(".")).unwrap();
    unit.optimise(None).unwrap();
    unit
}

/// A program with and without marks.
fn both(compiler: Compiler, source: &str) -> (LoopProgram, LoopProgram, Vec<Mark>) {
    let plain = unit(compiler, source).lower().unwrap();
    let mut marked = plain.clone();
    let table = marks::mark(&mut marked);
    mdlc::loops::verify::verify(&marked).unwrap();
    assert!(marks::is_marked(&marked) && !marks::is_marked(&plain));
    (plain, marked, table)
}

fn model(program: &LoopProgram, options: Options) -> Model {
    Compiled::with(program.clone(), options, None).unwrap().bind(&Weights::initialised(3)).unwrap()
}

fn numbers(shape: &[usize]) -> Tensor {
    let count: usize = shape.iter().product();
    let data: Vec<f32> = (0..count).map(|k| ((k * 37 % 101) as f32 - 50.0) / 40.0).collect();
    Tensor::new(shape.to_vec(), data).unwrap()
}

/// Two layers that share a function, and what comes before and after.
const LAYERS: &str = "
module Layer(C, F) {
    up = Linear(C, F)
    down = Linear(F, C)
    norm = LayerNorm([C])
    forward(x: [B, C]) -> [B, C] = norm(x + down(relu(up(x))) + down(tanh(up(x * 2))) + down(sigmoid(up(x * 3))) + down(gelu(up(x * 4))))
}
module Stack(C, F, n) {
    layers = [Layer(C, F); n]
    head = Linear(C, 3)
    forward(x: [B, C]) -> [B, 3] {
        for layer in layers {
            x = layer(x)
        }
        head(x)
    }
}
model stack = Stack(8, 24, 3)
";

#[test]
fn marks_change_no_bits_and_tell_instances_apart() {
    let (plain, marked, table) = both(Compiler::new(), LAYERS);
    let x = numbers(&[5, 8]);
    let wanted = model(&plain, Options::default()).call([("x", x.view())]).unwrap();
    let model = model(&marked, Options::default());
    let mut recorder = Recorder::new();
    for _ in 0..2 {
        assert_eq!(model.call_recorded([("x", x.view())], &mut recorder).unwrap(), wanted);
    }
    // Without a recorder the marks do nothing.
    assert_eq!(model.call([("x", x.view())]).unwrap(), wanted);
    let nodes = recorder.nodes();
    assert_eq!(recorder.calls().0, 2);
    assert!(nodes.iter().all(|node| node.runs == 2), "each piece runs once in each call: {nodes:?}");
    assert_eq!(recorder.passed(), 2 + 4 * nodes.len() as u64);
    let calls: Vec<_> = nodes.iter().filter(|node| table[node.mark.0 as usize].callee.is_some()).collect();
    assert_eq!(calls.len(), 3, "a call for each layer");
    let owners = Owners::new(&marked);
    let weights = &marked.signature.weights;
    let mut modules = Vec::new();
    for node in &nodes {
        let path: Vec<MarkId> = node.parent.map(|p| nodes[p].mark).into_iter().chain([node.mark]).collect();
        let owned = owners.weights(&path);
        modules.push(module_of(owned.iter().map(|k| weights[*k].path.as_str())));
    }
    for module in ["layers.0", "layers.1.up", "layers.2.down", "layers.2.norm", "head"] {
        assert!(modules.iter().any(|found| found == module), "{module} in {modules:?}");
    }
}

#[test]
fn objects_have_no_marks() {
    let (_, marked, _) = both(Compiler::new(), LAYERS);
    let plan = mdlc::loops::buffers::plan(&marked).unwrap();
    let error = mdlc::codegen::object::compile(&marked, &plan, Options::default(), "m").unwrap_err();
    assert!(error.to_string().contains("objects have no marks"), "{error}");
}

/// What and how much of each mark, for `B = 6`.
fn work(source: &str) -> Vec<(String, Option<Work>)> {
    let (_, marked, table) = both(Compiler::new().kernels(Kernels::None), source);
    let dims = |symbol: &Symbol| (symbol.name() == "B").then_some(6);
    let whats = marks::describe(&marked, &dims);
    whats.into_iter().zip(marks::work(&marked, table.len(), &dims)).collect()
}

fn amount(flops: f64, transcendentals: f64, size_bytes: f64) -> Option<Work> {
    Some(Work { flops, transcendentals, size_bytes })
}

#[test]
fn work_is_counted_as_the_loops_do_it() {
    let product = "module M { forward(x: [B, 4], w: [4, 5]) -> [B, 5] = x @ w }";
    let wanted = amount(2.0 * 6.0 * 4.0 * 5.0, 0.0, 4.0 * (24.0 + 20.0 + 30.0));
    assert_eq!(work(product), [("product 6x5x4".to_string(), wanted)]);

    let pointwise = "module M { forward(x: [B, 40]) -> [B, 40] = exp(x) * 2 + x }";
    let wanted = amount(2.0 * 240.0, 240.0, 4.0 * 480.0);
    assert_eq!(work(pointwise), [("loop 6x40".to_string(), wanted)]);

    let sum = "module M { forward(x: [B, 7]) -> [B] { let y[i] = sum[j] x[i, j]\n y } }";
    assert_eq!(work(sum), [("reduction 6x7".to_string(), amount(42.0, 0.0, 4.0 * 48.0))]);

    // Only the terms that the condition lets pass: 1 + 2 + ... + 6.
    let prefix =
        "module M { forward(x: [B, B]) -> [B] { let y[i] = sum[j where j <= i] x[i, j] * x[j, i]\n y } }";
    let found = work(prefix);
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].1.map(|work| work.flops), Some(2.0 * 21.0));
}

/// A step of a recurrence is many pieces, each of which runs at every step.
#[test]
fn steps_are_recorded_one_by_one() {
    let mut unit =
        Compiler::new().model("lstm").set("H", "16").elaborate_file(Path::new("models/lstm.mdl")).unwrap();
    unit.optimise(None).unwrap();
    let mut marked = unit.lower().unwrap();
    let table = marks::mark(&mut marked);
    let model = model(&marked, Options::default());
    let signature = model.signature();
    let (b, t) = (3, 9);
    let shape: Vec<usize> = signature.inputs[0]
        .ty
        .shape
        .iter()
        .map(|dim| {
            dim.as_const().map_or_else(|| if dim.to_string() == "B" { b } else { t }, |size| size as usize)
        })
        .collect();
    let x = numbers(&shape);
    let mut recorder = Recorder::new();
    model.call_recorded([(signature.inputs[0].name.as_str(), x.view())], &mut recorder).unwrap();
    let steps = recorder.nodes().iter().filter(|node| node.runs == t as u64).count();
    assert!(steps >= 2, "a product and a loop at every step: {:?}", recorder.nodes());
    assert!(table.len() > steps);
}

#[test]
fn tasks_lie_within_the_pieces_that_they_are_of() {
    let (_, marked, _) = both(Compiler::new(), LAYERS);
    let threads = Threads::new(3).unwrap();
    let options = Options { grain: Grain::FINEST, ..Options::default() };
    let model = model(&marked, options).with_threads(&threads);
    let x = numbers(&[64, 8]);
    let mut recorder = Recorder::new();
    recorder.keep_spans(true);
    model.call_recorded([("x", x.view())], &mut recorder).unwrap();
    let (spans, dropped) = recorder.spans();
    assert_eq!(dropped, 0);
    let tasks: Vec<_> = spans.iter().filter(|span| span.task).collect();
    assert!(tasks.len() > 10, "{} tasks", tasks.len());
    for task in tasks {
        assert!(task.begin <= task.end && task.thread < 3);
        let piece = spans.iter().find(|span| !span.task && span.node == task.node).unwrap();
        assert!(piece.begin <= task.begin && task.end <= piece.end, "{task:?} in {piece:?}");
    }
    let whole = spans.iter().find(|span| span.node.is_none()).unwrap();
    assert!(spans.iter().all(|span| whole.begin <= span.begin && span.end <= whole.end));
}

/// A call that fails in the middle leaves nothing open for the next.
#[test]
fn a_failed_call_leaves_the_recorder_in_order() {
    let source = "module M { forward(k: i64[B], x: [9]) -> [B] { let y[i] = x[k[i]] + 1\n y } }";
    let (_, marked, _) = both(Compiler::new(), source);
    let model = model(&marked, Options::default());
    let x = numbers(&[9]);
    let mut recorder = Recorder::new();
    for (index, fails) in [(4, false), (99, true), (5, false)] {
        let k = Tensor::new([2], vec![index, 1_i64]).unwrap();
        let called = model.call_recorded([("k", k.view()), ("x", x.view())], &mut recorder);
        assert_eq!(called.is_err(), fails);
    }
    assert!(recorder.nodes().iter().all(|node| node.parent.is_none()), "{:?}", recorder.nodes());
    assert_eq!(recorder.calls().0, 3);
}
