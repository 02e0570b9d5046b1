//! Random well-typed programs, from text to native code, against the reference evaluator.
//!
//! A program is a module of a handful of definitions over a few inputs with free dimensions; each
//! definition is drawn from the forms of the language. The reference evaluates the graph before
//! any pass, in the declared types; native code is everything after. Sizes include 0 and 1.
//! `MDLC_PROGRAMS=20000 cargo test --release --test programs -- --nocapture` runs more.
//!
//! That the comparison notices faults is tested too: ten of them are planted in the loop nests.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by panicking and shows what it covered"
)]

mod random;

use mdlc::codegen::target::{Grain, Options};
use mdlc::driver::{Compiler, Unit};
use mdlc::dtype::DType;
use mdlc::graph::dims::bind_dims;
use mdlc::graph::eval::{Mode, evaluate};
use mdlc::graph::expr::Literal;
use mdlc::loops::ir::{LoopProgram, Scalar, ScalarId, Stmt};
use mdlc::ops::scalar::BinaryOp;
use mdlc::runtime::{Compiled, Threads, Weights};
use mdlc::tensor::{Data, Tensor};
use random::Random;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

/// Shapes that values of a program have.
#[derive(Clone, Copy, PartialEq)]
enum Shape {
    /// `[B, T, 6]`
    Full,
    /// `[B, T]`
    Rows,
    /// `[B, 6]`
    Wide,
}

struct Program {
    random: Random,
    lines: Vec<String>,
    values: Vec<(String, Shape)>,
    used: BTreeMap<&'static str, usize>,
}

const HEADER: &str = "\
pattern near(w: int)[i, j] = abs(i - j) <= w
pattern valid(keep: bool[B, S])[b, i, j] = keep[b, j]
module Random() {
    param w: [6, 6] = uniform(0.5)
    param bias: [6] = uniform(0.5)
    param table: [5, 6] = uniform(1.0)
    forward(x: [B, T, 6], y: [B, 6], ids: i64[B, T], keep: bool[B, T]) {
";

impl Program {
    fn draw(seed: u64) -> Self {
        let values = vec![("x".into(), Shape::Full), ("y".into(), Shape::Wide)];
        let mut program = Program { random: Random(seed), lines: Vec::new(), values, used: BTreeMap::new() };
        let count = 2 + program.random.below(6);
        for _ in 0..count {
            program.add();
        }
        program
    }

    fn text(&self) -> String {
        let mut text = String::from(HEADER);
        for line in &self.lines {
            let _ = writeln!(text, "        {line}");
        }
        let results: Vec<&str> = self.values.iter().rev().take(4).map(|(name, _)| name.as_str()).collect();
        let _ = writeln!(text, "        ({})\n    }}\n}}\nmodel random = Random()", results.join(", "));
        text
    }

    fn value(&mut self, shape: Shape) -> String {
        let names: Vec<String> =
            self.values.iter().filter(|(_, s)| *s == shape).map(|(n, _)| n.clone()).collect();
        match names.len() {
            0 => {
                // There is always `x` to make rows from.
                let name = self.name("r");
                self.lines.push(format!("let {name}[b, t] = x[b, t, 0] * 0.5"));
                self.values.push((name.clone(), Shape::Rows));
                name
            }
            n => names[self.random.below(n)].clone(),
        }
    }

    fn name(&self, prefix: &str) -> String {
        format!("{prefix}{}", self.lines.len())
    }

    fn push(&mut self, form: &'static str, name: String, shape: Shape, line: String) {
        *self.used.entry(form).or_insert(0) += 1;
        self.lines.push(line);
        self.values.push((name, shape));
    }

    fn add(&mut self) {
        let a = self.value(Shape::Full);
        let name = self.name("v");
        match self.random.below(24) {
            0 => self.unary(&a, name),
            1 => self.binary(&a, name),
            2 => {
                let line = format!("let {name}[b, t, o] = sum[i] {a}[b, t, i] * w[o, i] * 0.4 + bias[o]");
                self.push("contraction", name, Shape::Full, line);
            }
            3 => {
                let line = format!("let {name} = tanh({a} @ w.T + bias)");
                self.push("matmul", name, Shape::Full, line);
            }
            4 | 5 => self.reduction(&a, name),
            6 => {
                let (outer, filter) = (self.random.pick(&["softmax", "log_softmax"]), self.filter("t"));
                let body = format!("{outer}[t{filter}] {a}[b, t, i]");
                // The log of a masked entry is -inf, which would drown what comes after.
                let line = format!("let {name}[b, t, i] = max({body}, -20.0)");
                self.push("normaliser", name, Shape::Full, line);
            }
            7 => {
                let line = format!("let {name}[b, t, i] = table[ids[b, t], i] + {a}[b, t, i]");
                self.push("gather", name, Shape::Full, line);
            }
            8 => {
                let by = self.random.below(3) as i64 - 1;
                let line = format!("let {name}[b, t: T, i] = {a}[b, t - ({by}), i else 0.25]");
                self.push("shifted read", name, Shape::Full, line);
            }
            9 => {
                let line = format!("let {name}[b, t, (k, g: 2)] = {a}[b, t, (g, k: 3)] * (g + 1)");
                self.push("groups", name, Shape::Full, line);
            }
            10 => self.recurrence(&a, name, "1"),
            11 => self.recurrence(&a, name, "-1"),
            12 => self.attention(&a, name),
            13 => {
                let reducer = self.random.pick(&["sum", "max", "prod", "min"]);
                let (n, s) = (self.name("n"), self.name("s"));
                self.lines.push(format!(
                    "let {s}[b, n: 5, i] = {reducer}[t where ids[b, t] == n else 0.5] {a}[b, t, i]"
                ));
                let line = format!("let {name}[b, {n}: T, i] = {s}[b, {n} % 5, i]");
                self.push("segment", name, Shape::Full, line);
            }
            14 => {
                let line =
                    format!("let {name}[b, t: T, i] = (sum[s: T where s <= t] {a}[b, s, i]) / (t + 1)");
                self.push("prefix sum", name, Shape::Full, line);
            }
            15 => {
                let other = self.value(Shape::Full);
                let condition = self.random.pick(&["t % 2 == 0", "i < 3", "keep[b, t]", "x[b, t, i] > 0.1"]);
                let line = format!(
                    "let {name}[b, t, i] = if {condition} {{ {a}[b, t, i] }} else {{ {other}[b, t, i] }}"
                );
                self.push("selection", name, Shape::Full, line);
            }
            16 => {
                let (values, places) = (self.name("q"), self.name("p"));
                self.lines.push(format!("let ({values}, {places}) = top_k(x, 2)"));
                let line = format!(
                    "let {name}[b, t, i: 6] = {a}[b, t, {places}[b, t, i % 2]] + {values}[b, t, i // 3]"
                );
                self.push("top_k", name, Shape::Full, line);
            }
            17 => {
                let other = self.value(Shape::Full);
                let line = format!("let {name} = split(concat([{a}, {other}]), 2)[{}]", self.random.below(2));
                self.push("concat, split", name, Shape::Full, line);
            }
            18 => {
                let line = format!("let {name}[b, i] = mean[t{}] {a}[b, t, i]", " where keep[b, t] else 0.0");
                self.push("mean over time", name, Shape::Wide, line);
            }
            19 => {
                let wide = self.value(Shape::Wide);
                let line = format!("let {name}[b, t, i] = {a}[b, t, i] * 0.5 + {wide}[b, i]");
                self.push("broadcast", name, Shape::Full, line);
            }
            20 => {
                let row = self.value(Shape::Rows);
                let line = format!("let {name}[b, t, i] = {a}[b, t, i] - {row}[b, t] * i / 6");
                self.push("exact reals", name, Shape::Full, line);
            }
            21 => {
                let m = self.name("m");
                self.lines.push(format!("let {m}[..n] = mean[i: 6] {a}[..n, i]"));
                let line = format!("let {name}[.., i] = ({a}[.., i] - {m}[..]) * bias[i]");
                self.push("any axes", name, Shape::Full, line);
            }
            22 => {
                let other = self.value(Shape::Full);
                let line =
                    format!("let {name}[b, t, i] = stack([{a}, {other}])[{}, b, t, i]", self.random.below(2));
                self.push("stack", name, Shape::Full, line);
            }
            _ => {
                let (k, reducer) = (self.name("k"), self.random.pick(&["argmax", "argmin"]));
                self.lines.push(format!("let {k}[b, t] = {reducer}[i] x[b, t, i]"));
                let line = format!("let {name}[b, t, i: 6] = {a}[b, t, ({k}[b, t] + i) % 6]");
                self.push("argmax", name, Shape::Full, line);
            }
        }
    }

    fn filter(&mut self, index: &str) -> String {
        match (self.random.below(3), index) {
            (0, _) => String::new(),
            (1, "t") => " where keep[b, t]".into(),
            (_, "t") => " where t % 3 != 1".into(),
            (1, _) => " where x[b, t, i] > 0.0".into(),
            _ => " where i != 2".into(),
        }
    }

    fn unary(&mut self, a: &str, name: String) {
        let f = self.random.pick(&[
            "tanh", "sigmoid", "relu", "abs", "sin", "cos", "erf", "gelu", "silu", "floor", "exp", "sqrt",
            "exp2", "log2", "log1p",
        ]);
        let argument = match f {
            "sqrt" | "log1p" => format!("abs({a})"),
            "log2" => format!("abs({a}) + 0.5"),
            "exp" | "exp2" => format!("min({a}, 2.0)"),
            // Rounding is a step: keep away from where the sides could differ.
            "floor" => "x * 3.7".into(),
            _ => a.to_string(),
        };
        self.push("unary", name.clone(), Shape::Full, format!("let {name} = {f}({argument})"));
    }

    fn binary(&mut self, a: &str, name: String) {
        let b = self.value(Shape::Full);
        let e = match self.random.below(6) {
            0 => format!("{a} + {b}"),
            1 => format!("({a} - {b}) * 0.5"),
            2 => format!("{a} * tanh({b})"),
            3 => format!("{a} / (1 + abs({b}))"),
            4 => format!("max({a}, {b})"),
            _ => format!("abs({a}) ** 1.5 * 0.1"),
        };
        self.push("binary", name.clone(), Shape::Full, format!("let {name} = {e}"));
    }

    fn reduction(&mut self, a: &str, name: String) {
        let reducer = self.random.pick(&["sum", "prod", "max", "min", "mean", "logsumexp", "any", "all"]);
        let filter = self.filter("i");
        let otherwise = self.random.pick(&["", " else 0.75"]);
        let line = match reducer {
            "any" | "all" => format!(
                "let {name}[b, t] = if {reducer}[i{filter}] (x[b, t, i] > 0.2) {{ {a}[b, t, 1] }} else {{ 0.5 }}"
            ),
            // Without `else` a maximum over nothing is infinite, and a mean NaN.
            _ => format!("let {name}[b, t] = {reducer}[i{filter} else 0.75] {a}[b, t, i] * 0.7"),
        };
        let line = if reducer == "sum" { line.replace(" else 0.75", otherwise) } else { line };
        self.push(reducer_form(reducer), name, Shape::Rows, line);
    }

    fn recurrence(&mut self, a: &str, name: String, step: &str) {
        let wide = self.value(Shape::Wide);
        let h = self.name("h");
        self.lines.push(format!("recur t in 0..T by {step} {{"));
        self.lines.push(format!("    init {h}[:, t - ({step})] = {wide}"));
        self.lines.push(format!("    let z = sigmoid({a}[:, t] @ w.T + {h}[:, t - ({step})] @ w)"));
        self.lines.push(format!(
            "    {h}[b, t, k] = if keep[b, t] {{ z[b, k] * {h}[b, t - ({step}), k] + 0.1 }} else {{ {h}[b, t - ({step}), k] }}"
        ));
        self.lines.push("}".into());
        let form = if step == "1" { "recur forwards" } else { "recur backwards" };
        self.push(form, name.clone(), Shape::Full, format!("let {name} = {h} * 0.9"));
    }

    fn attention(&mut self, a: &str, name: String) {
        let (s, p) = (self.name("s"), self.name("p"));
        let mask =
            self.random.pick(&["near(1)", "valid(keep)", "near(2) and valid(keep)", "not near(0)", "full"]);
        let m = self.name("m");
        self.lines.push(format!("let {m} = {mask}"));
        self.lines.push(format!("let {s}[b, i, j] = sum[d] {a}[b, i, d] * x[b, j, d]"));
        self.lines.push(format!("let {p}[b, i, j] = softmax[j where {m}[b, i, j]] ({s}[b, i, j] / sqrt(6))"));
        let line = format!("let {name}[b, i, d] = sum[j] {p}[b, i, j] * x[b, j, d]");
        self.push("attention", name, Shape::Full, line);
    }
}

fn reducer_form(reducer: &str) -> &'static str {
    match reducer {
        "sum" => "sum",
        "prod" => "prod",
        "max" => "max",
        "min" => "min",
        "mean" => "mean",
        "logsumexp" => "logsumexp",
        "any" => "any",
        _ => "all",
    }
}

fn inputs(random: &mut Random, b: usize, t: usize) -> Vec<Tensor> {
    let reals = |random: &mut Random, n: usize| -> Vec<f32> { (0..n).map(|_| random.real() * 1.5).collect() };
    let x = reals(random, b * t * 6);
    let y = reals(random, b * 6);
    let ids: Vec<i64> = (0..b * t).map(|_| random.below(5) as i64).collect();
    let keep: Vec<bool> = (0..b * t).map(|_| random.below(4) != 0).collect();
    vec![
        Tensor::new(vec![b, t, 6], x).unwrap(),
        Tensor::new(vec![b, 6], y).unwrap(),
        Tensor::new(vec![b, t], ids).unwrap(),
        Tensor::new(vec![b, t], keep).unwrap(),
    ]
}

fn weights(unit: &Unit, seed: u64) -> Vec<(String, Tensor)> {
    let fill = |w: &mdlc::graph::ir::Weight| {
        let shape: Vec<usize> = w.ty.shape.iter().map(|d| d.as_const().unwrap() as usize).collect();
        let tensor = mdlc::ops::init::initialise(&w.init, w.ty.dtype, &shape, &w.path, seed).unwrap();
        (w.path.clone(), tensor)
    };
    unit.program.signature.weights.iter().map(fill).collect()
}

fn elaborate(text: &str) -> Unit {
    Compiler::new()
        .elaborate_source("random.mdl", text, Path::new("."))
        .unwrap_or_else(|error| panic!("{text}\n{error}"))
}

/// What the definition says, in the declared types.
fn reference(unit: &Unit, inputs: &[Tensor], weights: &[(String, Tensor)]) -> Vec<Tensor> {
    let program = &unit.program;
    let shapes: Vec<&[usize]> = inputs.iter().map(Tensor::shape).collect();
    let dims = bind_dims(&program.signature, &program.checks, &shapes).unwrap();
    let weights: Vec<Tensor> = weights.iter().map(|(_, t)| t.clone()).collect();
    evaluate(program, inputs, &weights, &dims, Mode::Declared).unwrap()
}

fn native(
    compiled: &Compiled,
    inputs: &[Tensor],
    weights: &[(String, Tensor)],
) -> Result<Vec<Tensor>, String> {
    let model = compiled.bind(&Weights::from_tensors(weights.to_vec())).map_err(|e| e.to_string())?;
    let named = ["x", "y", "ids", "keep"].into_iter().zip(inputs).map(|(n, t)| (n, t.view()));
    // A program may not read every input.
    let wanted: Vec<String> = model.signature().inputs.iter().map(|p| p.name.clone()).collect();
    let named = named.filter(|(n, _)| wanted.iter().any(|w| w == n));
    let outputs = model.call(named).map_err(|e| e.to_string())?;
    Ok(outputs.into_tensors().into_values().collect())
}

/// The first difference beyond what another order of sums explains.
fn difference(expected: &[Tensor], found: &[Tensor]) -> Option<String> {
    for (k, (e, f)) in expected.iter().zip(found).enumerate() {
        if e.shape() != f.shape() {
            return Some(format!("output {k} is {:?}, expected {:?}", f.shape(), e.shape()));
        }
        let (Data::F32(e), Data::F32(f)) = (e.data(), f.data()) else {
            return (e != f).then(|| format!("output {k} differs"));
        };
        // Differences of early values grow with the values they are carried into.
        let scale = e.iter().filter(|v| v.is_finite()).fold(1.0f32, |m, v| m.max(v.abs()));
        for (at, (e, f)) in e.iter().zip(f).enumerate() {
            let same = e == f || (e.is_nan() && f.is_nan()) || (e - f).abs() <= 2e-3 * e.abs() + 2e-4 * scale;
            if !same {
                return Some(format!("output {k}, element {at}: {f}, expected {e}"));
            }
        }
    }
    None
}

const SIZES: [(usize, usize); 6] = [(2, 5), (1, 1), (3, 8), (1, 4), (0, 3), (2, 0)];

#[test]
fn native_code_agrees_with_the_reference() {
    let count: u64 = std::env::var("MDLC_PROGRAMS").ok().and_then(|n| n.parse().ok()).unwrap_or(2000);
    let threads = std::thread::available_parallelism().map_or(1, usize::from) as u64;
    // Fewer than bring jobs, so that some find them at work.
    let helpers = Threads::new(3).unwrap();
    let run = |first: u64| {
        let mut used: BTreeMap<&'static str, usize> = BTreeMap::new();
        for seed in (first..count).step_by(threads as usize) {
            let program = Program::draw(seed);
            let text = program.text();
            for (form, n) in &program.used {
                *used.entry(form).or_insert(0) += n;
            }
            let mut unit = elaborate(&text);
            let weights = weights(&unit, seed);
            let mut random = Random(seed ^ 0xda7a);
            let cases: Vec<Vec<Tensor>> = SIZES
                .iter()
                .skip((seed % 3) as usize)
                .step_by(3)
                .map(|(b, t)| inputs(&mut random, *b, *t))
                .collect();
            let expected: Vec<Vec<Tensor>> = cases.iter().map(|i| reference(&unit, i, &weights)).collect();
            unit.optimise(None).unwrap();
            let loops = unit.lower().unwrap_or_else(|error| panic!("{text}\n{error}"));
            let compiled = Compiled::new(loops.clone()).unwrap();
            let finest = Options { grain: Grain::FINEST, ..Options::default() };
            let divided = Compiled::with(loops, finest, None).unwrap().with_threads(&helpers);
            for (inputs, expected) in cases.iter().zip(&expected) {
                let [found, of_threads] = [&compiled, &divided].map(|compiled| {
                    native(compiled, inputs, &weights).unwrap_or_else(|e| panic!("seed {seed}\n{text}\n{e}"))
                });
                // As text, in which NaN equals NaN and the zeros differ.
                if format!("{found:?}") != format!("{of_threads:?}") {
                    panic!("seed {seed}, sizes {:?}: three threads differ\n{text}", inputs[0].shape());
                }
                if let Some(difference) = difference(expected, &found) {
                    panic!("seed {seed}, sizes {:?}: {difference}\n{text}", inputs[0].shape());
                }
            }
        }
        used
    };
    let all = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|k| {
                scope.spawn({
                    let run = &run;
                    move || run(k)
                })
            })
            .collect();
        let mut all: BTreeMap<&'static str, usize> = BTreeMap::new();
        for worker in workers {
            let used = worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            used.into_iter().for_each(|(form, n)| *all.entry(form).or_insert(0) += n);
        }
        all
    });
    println!("{count} programs; definitions by form:");
    all.iter().for_each(|(form, n)| println!("    {n:6} {form}"));
    let wanted =
        ["gather", "segment", "recur forwards", "recur backwards", "attention", "groups", "logsumexp"];
    assert!(count < 500 || wanted.iter().all(|form| all.contains_key(form)), "a form was never drawn");
}

/// A fault planted in the loop nests of a function: returns whether it found a place.
type Plant = fn(&mut LoopProgram) -> bool;

/// Replaces the first expression that `change` accepts, in all functions.
fn rewrite(program: &mut LoopProgram, change: impl Fn(&Scalar, DType) -> Option<Scalar>) -> bool {
    for func in &mut program.functions {
        let old = func.scalars.clone();
        let mut new = mdlc::loops::ir::Scalars::default();
        let mut moved: Vec<ScalarId> = Vec::with_capacity(old.len());
        let mut found = false;
        for id in 0..old.len() as u32 {
            let (scalar, dtype) = (old.get(ScalarId(id)).clone(), old.dtype(ScalarId(id)));
            let at = |s: ScalarId| moved[s.0 as usize];
            let scalar = match scalar {
                Scalar::Load(buffer, index) => Scalar::Load(buffer, at(index)),
                Scalar::Unary(op, a) => Scalar::Unary(op, at(a)),
                Scalar::Binary(op, a, b) => Scalar::Binary(op, at(a), at(b)),
                Scalar::Select(c, a, b) => Scalar::Select(at(c), at(a), at(b)),
                Scalar::Cast(a) => Scalar::Cast(at(a)),
                leaf => leaf,
            };
            let changed = if found { None } else { change(&scalar, dtype) };
            found |= changed.is_some();
            moved.push(new.add(changed.unwrap_or(scalar), dtype));
        }
        if found {
            func.scalars = new;
            let at = |s: &mut ScalarId| *s = moved[s.0 as usize];
            walk(&mut func.body, &mut |stmt| ids(stmt).into_iter().for_each(at));
            return true;
        }
    }
    false
}

fn walk(body: &mut [Stmt], visit: &mut dyn FnMut(&mut Stmt)) {
    for stmt in body {
        visit(stmt);
        match stmt {
            Stmt::For { body, .. } => walk(body, visit),
            Stmt::If { then, otherwise, .. } => {
                walk(then, visit);
                walk(otherwise, visit);
            }
            _ => {}
        }
    }
}

/// The expressions that a statement itself names.
fn ids(stmt: &mut Stmt) -> Vec<&mut ScalarId> {
    match stmt {
        Stmt::For { extent, .. } => vec![extent],
        Stmt::Set { value, .. } | Stmt::Reduce { value, .. } => vec![value],
        Stmt::Store { index, value, .. } => vec![index, value],
        Stmt::If { condition, .. } => vec![condition],
        Stmt::Fail { condition, values, .. } => std::iter::once(condition).chain(values).collect(),
        Stmt::Call { args, results, .. } => args.iter_mut().chain(results).map(|p| &mut p.offset).collect(),
        Stmt::Kernel(kernel) => {
            let mdlc::loops::ir::Kernel::Gemm(gemm) = kernel.as_mut();
            let mut all = vec![&mut gemm.m, &mut gemm.n, &mut gemm.k];
            for matrix in [&mut gemm.lhs, &mut gemm.rhs, &mut gemm.out] {
                all.extend([&mut matrix.at.offset, &mut matrix.strides.0, &mut matrix.strides.1]);
            }
            all.extend(gemm.epilogue.as_mut().map(|e| &mut e.value));
            all
        }
        Stmt::Mark { .. } => Vec::new(),
    }
}

/// Changes the first statement that `change` accepts.
fn restate(program: &mut LoopProgram, mut change: impl FnMut(&mut Stmt) -> bool) -> bool {
    let mut found = false;
    for func in &mut program.functions {
        walk(&mut func.body, &mut |stmt| found = found || change(stmt));
    }
    found
}

fn swapped(from: BinaryOp, to: BinaryOp, float: bool) -> impl Fn(&Scalar, DType) -> Option<Scalar> {
    move |scalar, dtype| match scalar {
        Scalar::Binary(op, a, b) if *op == from && dtype.is_float() == float => {
            Some(Scalar::Binary(to, *a, *b))
        }
        _ => None,
    }
}

/// Ten faults that a lowering could have. None of them leaves a buffer.
const PLANTS: [(&str, Plant); 10] = [
    ("a sum becomes a difference", |p| rewrite(p, swapped(BinaryOp::Add, BinaryOp::Sub, true))),
    ("a product becomes a sum", |p| rewrite(p, swapped(BinaryOp::Mul, BinaryOp::Add, true))),
    ("a maximum becomes a minimum", |p| {
        rewrite(p, swapped(BinaryOp::Max, BinaryOp::Min, true))
            || restate(p, |stmt| match stmt {
                Stmt::Reduce { op, .. } if *op == BinaryOp::Max => {
                    *op = BinaryOp::Min;
                    true
                }
                _ => false,
            })
    }),
    ("the branches of a selection are exchanged", |p| {
        rewrite(p, |s, dtype| match s {
            Scalar::Select(c, a, b) if dtype.is_float() => Some(Scalar::Select(*c, *b, *a)),
            _ => None,
        })
    }),
    ("a constant is off", |p| {
        rewrite(p, |s, dtype| match s {
            Scalar::Const(Literal::Real(bits))
                if dtype == DType::F32 && f64::from_bits(*bits).is_finite() =>
            {
                Some(Scalar::Const(Literal::Real(
                    f64::from((f64::from_bits(*bits) + 0.125) as f32).to_bits(),
                )))
            }
            _ => None,
        })
    }),
    ("a reduction adds twice", |p| {
        restate(p, |stmt| match stmt {
            Stmt::For { body, .. } => {
                match body.iter().position(|s| matches!(s, Stmt::Reduce { op: BinaryOp::Add, .. })) {
                    Some(at) => {
                        body.insert(at, body[at].clone());
                        true
                    }
                    None => false,
                }
            }
            _ => false,
        })
    }),
    ("a recurrence runs the other way", |p| {
        restate(p, |stmt| match stmt {
            Stmt::For { reverse, body, kind, .. }
                if *kind == mdlc::loops::ir::LoopKind::Serial
                    && body.iter().any(|s| matches!(s, Stmt::Kernel(_))) =>
            {
                *reverse = !*reverse;
                true
            }
            _ => false,
        })
    }),
    ("a product lacks its epilogue", |p| {
        restate(p, |stmt| match stmt {
            Stmt::Kernel(kernel) => {
                let mdlc::loops::ir::Kernel::Gemm(gemm) = kernel.as_mut();
                gemm.epilogue.take().is_some()
            }
            _ => false,
        })
    }),
    ("a store is lost", |p| {
        restate(p, |stmt| match stmt {
            Stmt::For { body, .. } => match body.iter().position(|s| matches!(s, Stmt::Store { .. })) {
                Some(at) => {
                    body.remove(at);
                    true
                }
                None => false,
            },
            _ => false,
        })
    }),
    ("a comparison includes its bound", |p| {
        rewrite(p, |s, _| match s {
            Scalar::Binary(BinaryOp::Gt, a, b) => Some(Scalar::Binary(BinaryOp::Le, *a, *b)),
            Scalar::Binary(BinaryOp::Eq, a, b) => Some(Scalar::Binary(BinaryOp::Ne, *a, *b)),
            _ => None,
        })
    }),
];

/// Each planted fault is noticed by some of the first programs it applies to.
#[test]
fn planted_faults_are_caught() {
    for (what, plant) in PLANTS {
        let mut planted = 0;
        let caught = (0..300u64).any(|seed| {
            let text = Program::draw(seed).text();
            let mut unit = elaborate(&text);
            let weights = weights(&unit, seed);
            let inputs = inputs(&mut Random(seed), 2, 5);
            let expected = reference(&unit, &inputs, &weights);
            unit.optimise(None).unwrap();
            let Ok(mut loops) = unit.lower() else { return false };
            if !plant(&mut loops) {
                return false;
            }
            planted += 1;
            let compiled = Compiled::new(loops).unwrap();
            match native(&compiled, &inputs, &weights) {
                Ok(found) => difference(&expected, &found).is_some(),
                Err(_) => true,
            }
        });
        println!("{what}: caught after {planted}");
        assert!(caught, "{what}: planted in {planted} programs and never noticed");
    }
}
