//! Attention by tiles against the definition: random patterns, masks and scores, at lengths round
//! the tiles, with all kernels of this processor; and that its memory grows with the length only.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod random;

use mdlc::codegen::target::Kernels;
use mdlc::driver::{Compiler, Unit};
use mdlc::graph::dims::bind_dims;
use mdlc::graph::eval::{Mode, evaluate};
use mdlc::graph::ir::{Op, RegionKind};
use mdlc::loops::buffers;
use mdlc::runtime::{Compiled, Weights};
use mdlc::tensor::{Data, Tensor};
use random::Random;
use std::fmt::Write;
use std::path::Path;

/// Conditions on a query and a key, over the inputs of [`program`].
const PATTERNS: [&str; 24] = [
    "j <= i",
    "j < i",
    "abs(i - j) <= 3",
    "abs(i - j) <= 70",
    "abs(i - j) < 1",
    "i - j <= 40 and j - i <= 9",
    "(i - j) % 3 == 0",
    "j % 50 == 7",
    "(i - j) % (h + 2) == 0",
    "i // 8 == j // 8",
    "i // 64 == j // 128",
    "j % 16 >= 13",
    "keep[b, j]",
    "asks[b, i]",
    "shared[i, j]",
    "part[b, i] == seg[b, j]",
    "seg[b, j] < 2",
    "abs(i - j) <= far[h]",
    "abs(i - j) <= 6 * far[h]",
    "blocks[h, i // 32, j // 32]",
    "count[h, i // 32, j // 32] > 1",
    "weight[b, j] > 0",
    "max(i, j) < 90",
    "h == 0",
];

/// A random condition.
fn pattern(random: &mut Random, depth: usize) -> String {
    if depth == 0 || random.below(5) == 0 {
        return format!("({})", random.pick(&PATTERNS));
    }
    let (a, b) = (pattern(random, depth - 1), pattern(random, depth - 1));
    match random.below(5) {
        0 | 1 => format!("({a} and {b})"),
        2 | 3 => format!("({a} or {b})"),
        _ => format!("(not {a})"),
    }
}

const SCORES: [&str; 6] = [
    "s[b, h, i, j] / 2",
    "s[b, h, i, j]",
    "s[b, h, i, j] / 2 + bias[b, h, i, j]",
    "s[b, h, i, j] - 0.1 * f32(abs(i - j))",
    "tanh(s[b, h, i, j]) * 3",
    "s[b, h, i, j] + (if keep[b, j] { 0.0 } else { -10000.0 })",
];

/// A module that attends where a condition holds.
fn program(condition: Option<&str>, score: &str) -> String {
    let filter = condition.map_or(String::new(), |c| format!(" where {c}"));
    let mut text = String::new();
    let inputs = "q: [B, H, T, 4], k: [B, H, S, 4], v: [B, H, S, 5], keep: bool[B, S], asks: bool[B, T], \
                  seg: i64[B, S], part: i64[B, T], shared: bool[T, S], far: i64[H], blocks: bool[H, N, N], \
                  count: i64[H, N, N], weight: [B, S], bias: [B, H, T, S]";
    writeln!(text, "module M() {{\n    forward({inputs}) -> [B, H, T, 5] {{").unwrap();
    writeln!(text, "        let s[b, h, i, j] = sum[d] q[b, h, i, d] * k[b, h, j, d]").unwrap();
    writeln!(text, "        let a[b, h, i, j] = softmax[j{filter}] ({score})").unwrap();
    writeln!(text, "        let y[b, h, i, c] = sum[j] a[b, h, i, j] * v[b, h, j, c]").unwrap();
    writeln!(text, "        y\n    }}\n}}").unwrap();
    text
}

fn elaborate(text: &str) -> Unit {
    Compiler::new()
        .elaborate_source("attention.mdl", text, Path::new("."))
        .unwrap_or_else(|error| panic!("{text}\n{error}"))
}

/// Whether a region of the program goes by tiles.
fn is_tiled(unit: &Unit) -> bool {
    unit.program
        .functions
        .iter()
        .flat_map(|f| f.graph.dag.node_weights())
        .any(|node| matches!(&node.op, Op::Region(region) if region.kind == RegionKind::TiledAttention))
}

fn reals(random: &mut Random, shape: &[usize]) -> Tensor {
    let data = (0..shape.iter().product()).map(|_| random.real()).collect();
    Tensor::new(shape.to_vec(), Data::F32(data)).unwrap()
}

fn truths(random: &mut Random, shape: &[usize], percent: usize) -> Tensor {
    let data = (0..shape.iter().product()).map(|_| random.below(100) < percent).collect();
    Tensor::new(shape.to_vec(), Data::Bool(data)).unwrap()
}

fn ints(random: &mut Random, shape: &[usize], most: usize) -> Tensor {
    let data = (0..shape.iter().product()).map(|_| random.below(most) as i64).collect();
    Tensor::new(shape.to_vec(), Data::I64(data)).unwrap()
}

/// Positions in runs of one value, as of documents behind each other.
fn runs(random: &mut Random, shape: &[usize]) -> Tensor {
    let mut value = 0;
    let mut next = || {
        value += i64::from(random.below(60) == 0);
        value
    };
    let data = (0..shape.iter().product()).map(|_| next()).collect();
    Tensor::new(shape.to_vec(), Data::I64(data)).unwrap()
}

/// The inputs of a program, by name.
fn inputs(random: &mut Random, t: usize, s: usize) -> Vec<(&'static str, Tensor)> {
    let (b, h) = (1 + random.below(2), 2);
    let n = t.max(s).max(1).div_ceil(32);
    let percent = [0, 3, 50, 97, 100][random.below(5)];
    vec![
        ("q", reals(random, &[b, h, t, 4])),
        ("k", reals(random, &[b, h, s, 4])),
        ("v", reals(random, &[b, h, s, 5])),
        ("keep", truths(random, &[b, s], percent)),
        ("asks", truths(random, &[b, t], 70)),
        ("seg", runs(random, &[b, s])),
        ("part", runs(random, &[b, t])),
        ("shared", truths(random, &[t, s], percent)),
        ("far", ints(random, &[h], 30)),
        ("blocks", truths(random, &[h, n, n], 40)),
        ("count", ints(random, &[h, n, n], 3)),
        ("weight", reals(random, &[b, s])),
        ("bias", reals(random, &[b, h, t, s])),
    ]
}

/// The inputs that a program takes, in its order.
fn taken(unit: &Unit, given: &[(&'static str, Tensor)]) -> Vec<(&'static str, Tensor)> {
    let find = |name: &str| given.iter().find(|(n, _)| *n == name).unwrap().clone();
    unit.program.signature.inputs.iter().map(|port| find(&port.name)).collect()
}

fn reference(unit: &Unit, inputs: &[(&'static str, Tensor)]) -> Tensor {
    let tensors: Vec<Tensor> = inputs.iter().map(|(_, t)| t.clone()).collect();
    let shapes: Vec<&[usize]> = tensors.iter().map(Tensor::shape).collect();
    let dims = bind_dims(&unit.program.signature, &unit.program.checks, &shapes).unwrap();
    evaluate(&unit.program, &tensors, &Vec::<Tensor>::new(), &dims, Mode::Declared).unwrap().remove(0)
}

/// The program by each kind of kernels that this processor has.
fn compiled(unit: &mut Unit) -> Vec<Compiled> {
    unit.optimise(None).unwrap();
    let loops = unit.lower().unwrap();
    let all = mdlc::codegen::vector::Isa::ALL.into_iter().map(Kernels::Of);
    std::iter::once(Kernels::None)
        .chain(all)
        .filter(|kernels| kernels.isa().is_ok())
        .map(|kernels| Compiled::with(loops.clone(), kernels, None).unwrap())
        .collect()
}

fn call(compiled: &Compiled, inputs: &[(&'static str, Tensor)]) -> Tensor {
    let model = compiled.bind(&Weights::from_tensors(Vec::new())).unwrap();
    let outputs = model.call(inputs.iter().map(|(n, t)| (*n, t.view()))).unwrap();
    outputs.into_tensors().into_values().next().unwrap()
}

fn assert_close(expected: &Tensor, found: &Tensor, context: &str) {
    assert_eq!(expected.shape(), found.shape(), "{context}");
    let (Data::F32(e), Data::F32(f)) = (expected.data(), found.data()) else { panic!("not f32") };
    for (at, (e, f)) in e.iter().zip(f).enumerate() {
        let same = e == f || (e.is_nan() && f.is_nan()) || (e - f).abs() <= 1e-4 * (1.0 + e.abs());
        assert!(same, "element {at}: {f}, expected {e}\n{context}");
    }
}

/// Lengths of queries and keys: none, one, and round the tiles of both.
const LENGTHS: [(usize, usize); 10] =
    [(0, 5), (5, 0), (1, 1), (3, 200), (63, 64), (64, 128), (65, 129), (130, 130), (200, 70), (300, 300)];

#[test]
fn random_patterns_agree_with_the_definition() {
    let count: u64 = std::env::var("MDLC_PROGRAMS").ok().and_then(|n| n.parse().ok()).unwrap_or(60);
    for seed in 0..count {
        let mut random = Random(seed);
        let condition = (seed % 8 != 7).then(|| pattern(&mut random, (seed % 4) as usize));
        let text = program(condition.as_deref(), random.pick(&SCORES));
        let mut unit = elaborate(&text);
        let cases: Vec<_> = (0..3)
            .map(|k| {
                let (t, s) = LENGTHS[(seed as usize * 3 + k) % LENGTHS.len()];
                taken(&unit, &inputs(&mut random, t, s))
            })
            .collect();
        let expected: Vec<Tensor> = cases.iter().map(|inputs| reference(&unit, inputs)).collect();
        let all = compiled(&mut unit);
        assert!(is_tiled(&unit), "not by tiles:\n{text}");
        for (inputs, expected) in cases.iter().zip(&expected) {
            for (which, compiled) in all.iter().enumerate() {
                let context = format!("seed {seed}, back end {which}, {:?}\n{text}", inputs[0].1.shape());
                assert_close(expected, &call(compiled, inputs), &context);
            }
        }
    }
}

/// A module of one head over given definitions, which end in `y`.
fn module(inputs: &str, body: &str) -> String {
    format!("module M() {{\n    forward({inputs}) -> [B, H, T, 5] {{\n{body}\n        y\n    }}\n}}\n")
}

const PLAIN: &str = "q: [B, H, T, 4], k: [B, H, S, 4], v: [B, H, S, 5], keep: bool[B, S], bias: [B, H, T, S]";
const SCORED: &str = "let s[b, h, i, j] = sum[d] q[b, h, i, d] * k[b, h, j, d]\n";

/// Compares all back ends with the definition at some lengths.
fn agrees(text: &str, wanted: bool, cases: &[Vec<(&'static str, Tensor)>]) {
    let mut unit = elaborate(text);
    let cases: Vec<_> = cases.iter().map(|given| taken(&unit, given)).collect();
    let expected: Vec<Tensor> = cases.iter().map(|inputs| reference(&unit, inputs)).collect();
    let all = compiled(&mut unit);
    assert_eq!(is_tiled(&unit), wanted, "{text}");
    for (inputs, expected) in cases.iter().zip(&expected) {
        for (which, compiled) in all.iter().enumerate() {
            assert_close(expected, &call(compiled, inputs), &format!("back end {which}\n{text}"));
        }
    }
}

fn usual(seed: u64) -> Vec<Vec<(&'static str, Tensor)>> {
    let mut random = Random(seed);
    [(0, 3), (4, 0), (70, 140)].map(|(t, s)| inputs(&mut random, t, s)).into()
}

#[test]
fn other_ways_to_write_it_go_by_tiles_too() {
    let ways = [
        // The quotient behind the sum.
        "let m[b, h, i] = max[j] s[b, h, i, j]
         let e[b, h, i, j] = exp(s[b, h, i, j] - m[b, h, i])
         let l[b, h, i] = sum[j] e[b, h, i, j]
         let y[b, h, i, c] = (sum[j] e[b, h, i, j] * v[b, h, j, c]) / l[b, h, i]",
        // Values first, and a function of the result.
        "let a[b, h, i, j] = softmax[j where keep[b, j]] s[b, h, i, j]
         let y[b, h, i, c] = tanh(sum[j] v[b, h, j, c] * a[b, h, i, j])",
        // A mask that is added.
        "let z[b, h, i, j] = s[b, h, i, j] / 2 + (if keep[b, j] { 0.0 } else { -inf })
         let a[b, h, i, j] = softmax[j] z[b, h, i, j]
         let y[b, h, i, c] = sum[j] a[b, h, i, j] * v[b, h, j, c]",
        // Queries of one sequence, values of the other way round.
        "let z[b, h, j, i] = sum[d] k[b, h, j, d] * q[b, h, i, d]
         let a[b, h, i, j] = softmax[j where j <= i] z[b, h, j, i]
         let y[b, h, i, c] = sum[j] a[b, h, i, j] * v[b, h, j, c]",
    ];
    for (seed, way) in ways.into_iter().enumerate() {
        agrees(&module(PLAIN, &format!("{SCORED}{way}")), true, &usual(seed as u64));
    }
}

/// Heads that share keys: how many there are, and how many of keys.
const GROUPS: [(usize, usize); 4] = [(4, 2), (6, 2), (3, 1), (2, 2)];

#[test]
fn query_heads_that_share_keys_go_by_tiles() {
    for (seed, (heads, groups)) in GROUPS.into_iter().enumerate() {
        for filter in ["", " where j <= i", " where keep[b, j] and abs(i - j) <= far[h]"] {
            let each = heads / groups;
            let text = format!(
                "module M() {{
                    forward(q: [B, {heads}, T, 4], k: [B, {groups}, S, 4], v: [B, {groups}, S, 5], keep: bool[B, S],
                            far: i64[{heads}], W: [3, {heads} * 5]) -> [B, T, 3] {{
                        let s[b, h, i, j] = sum[d] q[b, h, i, d] * k[b, h // {each}, j, d]
                        let a[b, h, i, j] = softmax[j{filter}] (s[b, h, i, j] / 2)
                        let y[b, h, i, c] = sum[j] a[b, h, i, j] * v[b, h // {each}, j, c]
                        let z[b, i, o] = sum[h, c] y[b, h, i, c] * W[o, 5 * h + c]
                        z
                    }}
                }}"
            );
            let mut random = Random(seed as u64);
            let cases = [(0, 3), (4, 0), (1, 1), (70, 140)].map(|(t, s)| {
                vec![
                    ("q", reals(&mut random, &[2, heads, t, 4])),
                    ("k", reals(&mut random, &[2, groups, s, 4])),
                    ("v", reals(&mut random, &[2, groups, s, 5])),
                    ("keep", truths(&mut random, &[2, s], 60)),
                    ("far", ints(&mut random, &[heads], 30)),
                    ("W", reals(&mut random, &[3, heads * 5])),
                ]
            });
            agrees(&text, true, &cases);
        }
    }
}

#[test]
fn attention_without_batch_and_heads_goes_by_tiles() {
    let text = "module M() {
        forward(q: [T, 4], k: [S, 4], v: [S, 5]) -> [T, 5] {
            let s[i, j] = sum[d] q[i, d] * k[j, d]
            let a[i, j] = softmax[j where j <= i + 3] s[i, j]
            a @ v
        }
    }";
    let mut random = Random(3);
    let cases = [(0, 3), (4, 0), (1, 1), (70, 140)].map(|(t, s)| {
        let (q, k) = (reals(&mut random, &[t, 4]), reals(&mut random, &[s, 4]));
        vec![("q", q), ("k", k), ("v", reals(&mut random, &[s, 5]))]
    });
    agrees(text, true, &cases);
}

#[test]
fn a_table_over_blocks_may_be_computed() {
    let text = "module M() {
        forward(q: [B, 2, 192, 4], k: [B, 2, 192, 4], v: [B, 2, 192, 5], count: i64[2, N, N]) -> [B, 2, 192, 5] {
            let seen[h: 2, I: 3, J: 3] = count[h, I, J] > 1 or abs(I - J) == 2
            let s[b, h, i, j] = sum[d] q[b, h, i, d] * k[b, h, j, d]
            let a[b, h, i, j] = softmax[j where seen[h, i // 64, j // 64]] s[b, h, i, j]
            let y[b, h, i, c] = sum[j] a[b, h, i, j] * v[b, h, j, c]
            y
        }
    }";
    agrees(text, true, &[inputs(&mut Random(5), 192, 192)]);
}

#[test]
fn near_misses_keep_all_their_scores() {
    let misses = [
        // The probabilities are used twice.
        "let a[b, h, i, j] = softmax[j] s[b, h, i, j]
         let t[b, h, i] = max[j] a[b, h, i, j]
         let y[b, h, i, c] = (sum[j] a[b, h, i, j] * v[b, h, j, c]) + t[b, h, i]",
        // The sum leaves out what the maximum takes.
        "let m[b, h, i] = max[j] s[b, h, i, j]
         let e[b, h, i, j] = exp(s[b, h, i, j] - m[b, h, i])
         let l[b, h, i] = sum[j where keep[b, j]] e[b, h, i, j]
         let y[b, h, i, c] = sum[j] (e[b, h, i, j] / l[b, h, i]) * v[b, h, j, c]",
        // The probabilities are changed before they weigh.
        "let a[b, h, i, j] = softmax[j] s[b, h, i, j]
         let y[b, h, i, c] = sum[j] (a[b, h, i, j] * a[b, h, i, j]) * v[b, h, j, c]",
        // A base that is not e.
        "let m[b, h, i] = max[j] s[b, h, i, j]
         let e[b, h, i, j] = exp2(s[b, h, i, j] - m[b, h, i])
         let l[b, h, i] = sum[j] e[b, h, i, j]
         let y[b, h, i, c] = sum[j] (e[b, h, i, j] / l[b, h, i]) * v[b, h, j, c]",
        // Another maximum than that of the row.
        "let m[b, h, i] = max[j where keep[b, j]] s[b, h, i, j]
         let e[b, h, i, j] = exp(s[b, h, i, j] - m[b, h, i])
         let l[b, h, i] = sum[j] e[b, h, i, j]
         let y[b, h, i, c] = sum[j] (e[b, h, i, j] / l[b, h, i]) * v[b, h, j, c]",
        // Normalised over queries.
        "let a[b, h, i, j] = softmax[i] s[b, h, i, j]
         let y[b, h, i, c] = sum[j] a[b, h, i, j] * v[b, h, j, c]",
    ];
    for (seed, miss) in misses.into_iter().enumerate() {
        agrees(&module(PLAIN, &format!("{SCORED}{miss}")), false, &usual(seed as u64)[2..]);
    }
}

#[test]
fn what_is_not_finite_spreads_as_defined() {
    let body = "let a[b, h, i, j] = softmax[j where abs(i - j) <= 20 and keep[b, j]] (s[b, h, i, j] + bias[b, h, i, j])
         let y[b, h, i, c] = sum[j] a[b, h, i, j] * v[b, h, j, c]";
    let text = module(PLAIN, &format!("{SCORED}{body}"));
    let (t, s) = (200, 300);
    let cases = (0..10).map(|which| {
        let mut random = Random(which);
        let mut given = inputs(&mut random, t, s);
        given[3].1 = truths(&mut random, &[given[0].1.shape()[0], s], 80);
        let special = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY][which as usize % 3];
        // In queries, keys, values, single scores; rows and tiles of scores.
        let (name, many) = [("q", 2), ("k", 2), ("v", 2), ("bias", 9), ("bias", 20_000)][which as usize / 2];
        let at = given.iter().position(|(n, _)| *n == name).unwrap();
        let Data::F32(mut data) = given[at].1.data().clone() else { panic!("not f32") };
        let shape = given[at].1.shape().to_vec();
        for _ in 0..many {
            let place = random.below(data.len());
            data[place] = special;
        }
        if which == 9 {
            data.fill(f32::NEG_INFINITY);
        }
        given[at].1 = Tensor::new(shape, Data::F32(data)).unwrap();
        given
    });
    agrees(&text, true, &cases.collect::<Vec<_>>());
}

#[test]
fn memory_grows_with_the_length() {
    let windowed = "softmax[j where abs(i - j) <= 9 and keep[b, j]] (s[b, h, i, j] / 2)";
    let body =
        format!("let a[b, h, i, j] = {windowed}\n let y[b, h, i, c] = sum[j] a[b, h, i, j] * v[b, h, j, c]");
    let inputs = "q: [B, H, T, 4], k: [B, H, T, 4], v: [B, H, T, 5], keep: bool[B, T]";
    let mut unit = elaborate(&module(inputs, &format!("{SCORED}{body}")));
    unit.optimise(None).unwrap();
    let loops = unit.lower().unwrap();
    let plan = buffers::plan(&loops).unwrap();
    let bytes = |length: i64| {
        let size = |name: &str| if name == "T" { length } else { 1 };
        plan.evaluate(&|symbol| Some(size(symbol.name()))).unwrap().entry_bytes
    };
    let (one, two) = (bytes(1 << 16), bytes(1 << 17));
    assert!(two <= 2 * one, "{one} bytes, then {two}");
    assert!(one < 64 * (1 << 16), "{one} bytes");
}

/// A module that attends in a way that is no single product of queries and keys, or whose weights are results too.
fn blocked(inputs: &str, results: &str, body: &str, last: &str) -> String {
    format!("module M() {{\n    forward({inputs}) -> {results} {{\n{body}\n        {last}\n    }}\n}}\n")
}

const ONE: &str = "[B, H, T, 5]";
const BOTH: &str = "(y: [B, H, T, 5], a: [B, H, T, S])";

/// Attention that holds scores for some queries at a time: what it takes, gives and does.
fn ways_by_blocks() -> Vec<String> {
    let relative = "q: [B, H, T, 4], k: [B, H, T, 4], v: [B, H, T, 5], p: [H, 2 * T - 1, 4], u: [H, 4]";
    let tables = "q: [B, H, T, 4], k: [B, H, T, 4], v: [B, H, T, 5], aK: [7, 4], aV: [7, 5]";
    let heads = "q: [B, 6, T, 4], k: [B, 2, S, 4], v: [B, 2, S, 5], keep: bool[B, S]";
    let softmax = "let a[b, h, i, j] = softmax[j] s[b, h, i, j]";
    let sum = "let y[b, h, i, c] = sum[j] a[b, h, i, j] * v[b, h, j, c]";
    let xl = "let content[b, h, i, j] = sum[d] (q[b, h, i, d] + u[h, d]) * k[b, h, j, d]
         let place[b, h, i: T, j: T] = sum[d] (q[b, h, i, d] - u[h, d]) * p[h, T - 1 - i + j, d]
         let s[b, h, i, j] = (content[b, h, i, j] + place[b, h, i, j]) / 2";
    let shaw = "let r[i: T, j: T] = clamp(j - i, -3, 3) + 3
         let s[b, h, i, j] = (sum[d] q[b, h, i, d] * (k[b, h, j, d] + aK[r[i, j], d])) / 2";
    let additive = "let s[b, h, i, j] = sum[d] k[b, h, j, d] * tanh(q[b, h, i, d] + k[b, h, j, d])";
    let far = "let y[b, h, i, c] = sum[j] a[b, h, i, j] * (v[b, h, j, c] + aV[r[i, j], c])";
    let grouped = "let s[b, h, i, j] = sum[d] q[b, h, i, d] * k[b, h // 3, j, d]
         let a[b, h, i, j] = softmax[j where keep[b, j] or j < i] s[b, h, i, j]
         let y[b, h, i, c] = sum[j] a[b, h, i, j] * v[b, h // 3, j, c]";
    let masked =
        "let a[b, h, i, j] = softmax[j where keep[b, j] and j <= i + 3] (s[b, h, i, j] + bias[b, h, i, j])
         let y[b, h, i, c] = tanh(sum[j] a[b, h, i, j] * v[b, h, j, c])";
    vec![
        blocked(PLAIN, BOTH, &format!("{SCORED}{masked}"), "(y, a)"),
        blocked(relative, ONE, &format!("{xl}\n{softmax}\n{sum}"), "y"),
        blocked(tables, ONE, &format!("{shaw}\n{softmax}\n{sum}"), "y"),
        blocked(tables, ONE, &format!("{shaw}\n{softmax}\n{far}"), "y"),
        blocked(PLAIN, ONE, &format!("{additive}\n{softmax}\n{sum}"), "y"),
        blocked(heads, "(y: [B, 6, T, 5], a: [B, 6, T, S])", grouped, "(y, a)"),
    ]
}

fn blocked_inputs(random: &mut Random, t: usize, s: usize, grouped: bool) -> Vec<(&'static str, Tensor)> {
    let (b, h, groups) = if grouped { (2, 6, 2) } else { (2, 3, 3) };
    vec![
        ("q", reals(random, &[b, h, t, 4])),
        ("k", reals(random, &[b, groups, s, 4])),
        ("v", reals(random, &[b, groups, s, 5])),
        ("keep", truths(random, &[b, s], 60)),
        ("bias", reals(random, &[b, h, t, s])),
        ("p", reals(random, &[h, (2 * t).saturating_sub(1), 4])),
        ("u", reals(random, &[h, 4])),
        ("aK", reals(random, &[7, 4])),
        ("aV", reals(random, &[7, 5])),
    ]
}

#[test]
fn other_attention_goes_by_blocks_of_queries() {
    for (seed, text) in ways_by_blocks().into_iter().enumerate() {
        let mut random = Random(seed as u64);
        let mut unit = elaborate(&text);
        let (grouped, square) = (text.contains("h // 3"), !text.contains("S, 4]"));
        let lengths = [(1, 1), (63, 20), (64, 64), (65, 3), (150, 130)];
        let cases = lengths.map(|(t, s)| {
            let s = if square { t } else { s };
            taken(&unit, &blocked_inputs(&mut random, t, s, grouped))
        });
        let expected: Vec<Tensor> = cases.iter().map(|inputs| reference(&unit, inputs)).collect();
        let all = compiled(&mut unit);
        let kinds: Vec<RegionKind> = unit
            .program
            .functions
            .iter()
            .flat_map(|f| f.graph.dag.node_weights())
            .filter_map(|node| if let Op::Region(region) = &node.op { Some(region.kind) } else { None })
            .collect();
        assert_eq!(kinds, [RegionKind::BlockedAttention], "{text}");
        let (one, two) =
            (arena_bytes(&unit.lower().unwrap(), 1 << 14), arena_bytes(&unit.lower().unwrap(), 1 << 15));
        assert!(two <= 2 * one, "{one} bytes, then {two}\n{text}");
        for (inputs, expected) in cases.iter().zip(&expected) {
            for (which, compiled) in all.iter().enumerate() {
                assert_close(expected, &call(compiled, inputs), &format!("back end {which}\n{text}"));
            }
        }
    }
}

/// Bytes that a call needs beside its inputs and outputs, at a length of all sequences.
fn arena_bytes(loops: &mdlc::loops::ir::LoopProgram, length: i64) -> u64 {
    let plan = buffers::plan(loops).unwrap();
    let size = |name: &str| if ["T", "S"].contains(&name) { length } else { 1 };
    plan.evaluate(&|symbol| Some(size(symbol.name()))).unwrap().entry_bytes
}

/// Entries of models that need memory for all pairs of positions beside what they give, and why.
const PAIRS: [(&str, &str, &str); 9] = [
    ("bigbird", "counted", "the weights of all copies, of which those of one are given"),
    // The mean of the weights over all heads is given.
    ("multihead_attention", "forward", "the sum of the weights over heads"),
    ("multihead_attention", "scored", "the sum of the weights over heads"),
    ("multihead_attention", "time_first", "the sum of the weights over heads"),
    ("multihead_attention", "to_itself", "the sum of the weights over heads"),
    ("shaw", "forward", "the energies that are given are scaled, the sums that they come from are not"),
    // Four attentions, of which two give their weights, over one product of queries and keys.
    ("sparse_fixed", "forward", "scores that four softmaxes share"),
    ("sparse_strided", "forward", "scores that four softmaxes share"),
    // The mask is a tensor over all pairs itself.
    ("transformer", "forward", "the negated mask that six layers read"),
];

#[test]
fn no_model_holds_all_pairs() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let document = std::fs::read_to_string(root.join("docs/models.md")).unwrap();
    let (mut file, mut tried, mut found) = (String::new(), 0, Vec::new());
    for line in document.lines() {
        if let Some(rest) = line.strip_prefix("[models/") {
            file = format!("models/{}", rest.split_once(']').unwrap().0);
        }
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let [_, name, _, _, entries, sizes, ..] = cells[..] else { continue };
        if !name.starts_with('`')
            || !sizes.split(['`', ' ']).any(|s| s.starts_with("T=") || s.starts_with("S="))
        {
            continue;
        }
        for entry in entries.split(", ").map(|entry| entry.trim_matches('`')) {
            let name = name.trim_matches('`');
            let shapes = sizes.trim_matches('`').split(' ').filter_map(|size| size.split_once('='));
            let compiler = shapes
                .filter(|(_, axes)| axes.contains(','))
                .fold(Compiler::new().model(name).entry(entry), |compiler, (input, axes)| {
                    compiler.shape(input, axes.split(','))
                });
            let mut unit = compiler.elaborate_file(&root.join(&file)).unwrap();
            let ready = unit.optimise(None).and_then(|()| unit.lower());
            let loops = ready.unwrap_or_else(|error| panic!("{name} {entry}: {error}"));
            let (one, two) = (arena_bytes(&loops, 1 << 16), arena_bytes(&loops, 1 << 17));
            tried += 1;
            if two > 2 * one + 4096 {
                found.push((name.to_string(), entry.to_string()));
            }
        }
    }
    assert!(tried > 50, "{tried} entries of docs/models.md");
    let known: Vec<(String, String)> = PAIRS.iter().map(|(m, e, _)| ((*m).into(), (*e).into())).collect();
    found.sort();
    assert_eq!(found, known, "entries whose memory grows with the square of the length");
}
