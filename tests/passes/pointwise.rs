//! `inline`, `simplify`, `cse`, `fuse` and `dce`.

use crate::harness::{Trace, calls, collect, index_count, indices, module, nodes, recurs, reductions, trace};
use mdlc::graph::expr::{Expr, Exprs};
use mdlc::graph::ir::{Op, Program};
use mdlc::ops::scalar::BinaryOp;

const B: &[&[(&str, i64)]] = &[&[("B", 3)], &[("B", 1)], &[("B", 0)]];
const B_T: &[&[(&str, i64)]] = &[&[("B", 2), ("T", 3)], &[("B", 1), ("T", 1)], &[("B", 2), ("T", 0)]];

/// Two modules that are built alike, each with `layers` products.
fn twice(layers: usize) -> String {
    let body: String = (0..layers).map(|_| "x = tanh(x @ weight.T + self.bias) * 0.5 + x\n").collect();
    format!(
        "module Part {{
            param weight: [3, 3] = normal(0.5)
            param bias: [3] = normal(1.0)
            forward(x: [B, 3]) -> [B, 3] {{ {body} x }}
        }}
        module M {{
            a = Part()
            b = Part()
            forward(x: [B, 3]) -> [B, 3] = b(a(x))
        }}"
    )
}

#[test]
fn a_small_function_takes_the_place_of_its_calls() {
    let found = trace(&twice(1), B);
    found.expect_change("inline", calls, 2, 0);
    found.expect("inline", |p| p.functions.len(), 1);
}

#[test]
fn a_function_called_once_takes_the_place_of_its_call() {
    let text = twice(5).replace("b(a(x))", "a(x)");
    trace(&text, B).expect_change("inline", calls, 1, 0);
}

#[test]
fn a_large_function_called_twice_stays_a_call() {
    let found = trace(&twice(5), B);
    found.expect_unchanged("inline");
    found.expect("inline", calls, 2);
    found.expect("inline", |p| p.functions.len(), 2);
}

fn expressions(program: &Program, wanted: impl Fn(&Exprs, &Expr) -> bool) -> usize {
    indices(program)
        .iter()
        .flat_map(|i| i.exprs.iter().map(|(_, e, _)| (&i.exprs, e)))
        .filter(|(all, e)| wanted(all, e))
        .count()
}

fn guarded_reads(program: &Program) -> usize {
    expressions(program, |_, e| matches!(e, Expr::Read(read) if read.otherwise.is_some()))
}

fn real_ops(program: &Program, wanted: BinaryOp) -> usize {
    expressions(
        program,
        |all, e| matches!(e, Expr::Binary(op, a, _) if *op == wanted && all.dtype(*a).is_float()),
    )
}

#[test]
fn reads_that_are_always_inside_lose_their_else() {
    let inside = module("", "(x: [B, T]) { let y[b, t: T] = x[b, (t + 3) - 3 else 1]  y }");
    trace(&inside, B_T).expect_change("simplify", guarded_reads, 1, 0);
    let outside = module("", "(x: [B, T]) { let y[b, t: T] = x[b, t + T else 1]  y }");
    let found = trace(&outside, B_T);
    found.expect_change("simplify", guarded_reads, 1, 0);
    found.expect("simplify", |p| expressions(p, |_, e| matches!(e, Expr::Read(_))), 0);
}

#[test]
fn a_condition_stays_where_an_index_is_read_under_it() {
    let value = "if t + 1 < T { x[b, t + 1, ids[t + 1] % 5] } else { 0.25 }";
    let text = module("", &format!("(x: [B, T, 5], ids: i64[T]) {{ let y[b, t: T] = {value}  y }}"));
    trace(&text, B_T).expect_change("simplify", guarded_reads, 0, 0);
}

#[test]
fn a_condition_that_a_read_is_inside_is_its_else() {
    for value in [
        "if t - 1 >= 0 and t - 1 < T { x[b, t - 1] } else { 0.0 }",
        "if t >= 1 { x[b, t - 1] } else { 2.0 }",
        "if t + 1 > 1 and t <= T { x[b, t - 1] } else { 0.0 }",
        "if t + 2 < T and t + 2 >= 0 { x[b, t + 2] } else { 0.0 }",
    ] {
        let text = module("", &format!("(x: [B, T]) {{ let y[b, t: T] = {value}  y }}"));
        trace(&text, B_T).expect_change("simplify", guarded_reads, 0, 1);
    }
}

#[test]
fn other_conditions_of_a_read_stay() {
    for value in [
        // Further than the read asks, less far, or about something else.
        "if t >= 2 { x[b, t - 1] } else { 0.0 }",
        "if t >= 1 and b == 0 { x[b, t - 1] } else { 0.0 }",
        "if t >= 1 or b == 0 { x[b, max(t - 1, 0)] } else { 0.0 }",
        "if t != 0 { x[b, t - 1] } else { 0.0 }",
        "if t >= 1 { x[b, t - 1] } else { x[b, t] }",
    ] {
        let text = module("", &format!("(x: [B, T]) {{ let y[b, t: T] = {value}  y }}"));
        trace(&text, B_T).expect("simplify", guarded_reads, 0);
    }
}

#[test]
fn reads_that_may_be_outside_keep_their_else() {
    for index in ["t + 1", "t - 1", "2 * t", "T - t", "i64(0) * t + t // 2 - 1"] {
        let text = module("", &format!("(x: [B, T]) {{ let y[b, t: T] = x[b, {index} else 1]  y }}"));
        trace(&text, B_T).expect("simplify", guarded_reads, 1);
    }
}

#[test]
fn arithmetic_that_changes_no_bit_goes() {
    let gone = module("", "(x: [B]) { let y = (x * 1.0 - 0.0) / 1.0  y }");
    trace(&gone, B).expect("fuse", |p| expressions(p, |_, e| matches!(e, Expr::Binary(..))), 0);
    let power_of_two = module("", "(x: [B]) { let y = x / 4.0  y }");
    let found = trace(&power_of_two, B);
    found.expect_change("simplify", |p| real_ops(p, BinaryOp::Div), 1, 0);
    found.expect("simplify", |p| real_ops(p, BinaryOp::Mul), 1);
}

#[test]
fn arithmetic_that_may_change_a_bit_stays() {
    // `-0.0 + 0.0` is `0.0`, `0 * -1` is `-0.0`, and a third is no f32.
    for (text, op) in [("x + 0.0", BinaryOp::Add), ("x * 0.0", BinaryOp::Mul), ("x / 3.0", BinaryOp::Div)] {
        let text = module("", &format!("(x: [B]) {{ let y = {text}  y }}"));
        trace(&text, B).expect("simplify", |p| real_ops(p, op), 1);
    }
}

/// `y` and `z` as two definitions, and their difference.
fn two_sums(first: &str, second: &str) -> Trace {
    let text = module(
        "",
        &format!(
            "(x: [B, T], z: [B, T], m: bool[B, T]) {{
                let p[b] = {first}
                let q[b] = {second}
                p - 2 * q
            }}"
        ),
    );
    trace(&text, B_T)
}

#[test]
fn equal_definitions_are_computed_once() {
    let found = two_sums("sum[i] x[b, i] * z[b, i]", "sum[j] x[b, j] * z[b, j]");
    found.expect_change("cse", reductions, 2, 1);
}

#[test]
fn definitions_that_differ_are_both_computed() {
    let pairs = [
        // Only the order of the branches differs.
        (
            "sum[i] (if m[b, i] { x[b, i] } else { z[b, i] })",
            "sum[i] (if m[b, i] { z[b, i] } else { x[b, i] })",
        ),
        ("sum[i] (x[b, i] - z[b, i])", "sum[i] (z[b, i] - x[b, i])"),
        ("sum[i] x[b, i]", "max[i] x[b, i]"),
        ("sum[i] x[b, i]", "sum[i where m[b, i]] x[b, i]"),
        ("sum[i where m[b, i]] x[b, i]", "sum[i where not m[b, i]] x[b, i]"),
        ("max[i else 1] x[b, i]", "max[i else 2] x[b, i]"),
        ("sum[i: T] x[b, i - 1 else 0]", "sum[i: T] x[b, i - 1 else 1]"),
    ];
    for (first, second) in pairs {
        let found = two_sums(first, second);
        found.expect_change("cse", reductions, 2, 2);
    }
}

#[test]
fn pointwise_chains_become_one_definition() {
    let text = module("", "(x: [B, T]) { let y = exp(x * 2 + 1)  let z = y * x  tanh(z) - 1 }");
    trace(&text, B_T).expect("fuse", index_count, 1);
}

#[test]
fn views_are_substituted_through_groups() {
    let text = module(
        "",
        "(x: [B, T, 6]) {
            let q[b, h: 2, t, d: 3] = x[b, t, (h, d)]
            let m[b, t, (h, d)] = 2 * q[b, h, t, d]
            m[:, :, 1..4]
        }",
    );
    trace(&text, B_T).expect("fuse", index_count, 1);
}

#[test]
fn what_a_reader_broadcasts_is_computed_once() {
    let text = module("", "(x: [B, T], a: [T], c: [T]) { let s = a + c  let y[b, t] = x[b, t] * s[t]  y }");
    trace(&text, B_T).expect("fuse", index_count, 2);
}

#[test]
fn what_windows_read_is_computed_once() {
    let of = |at: &str, count: &str| {
        let body =
            format!("let a[b, l] = x[b, l] * 2 + 1  let y[b, l: {count}] = sum[u: 3] a[b, {at}] * k[u]  y");
        trace(&module("param k: [3] = normal(1.0)", &format!("(x: [B, 9]) {{ {body} }}")), B)
    };
    of("l + u", "7").expect("fuse", index_count, 2);
    of("l * 2 + u", "4").expect("fuse", index_count, 2);
    // Windows side by side read each element once.
    of("l * 3 + u", "3").expect("fuse", index_count, 1);
    of("l + u * 3", "3").expect("fuse", index_count, 1);
}

#[test]
fn what_is_costly_and_read_twice_is_computed_once() {
    let text = module("", "(x: [B, T]) { let s = exp(x)  (s * 2, s + 1) }");
    trace(&text, B_T).expect("fuse", index_count, 3);
    let cheap = module("", "(x: [B, T]) { let s = x + 1  (s * 2, s + 1) }");
    trace(&cheap, B_T).expect("fuse", index_count, 2);
}

#[test]
fn reductions_and_outputs_stay() {
    let reduction = module("", "(x: [B, T]) { let s[b] = sum[t] x[b, t]  s + 1 }");
    trace(&reduction, B_T).expect("fuse", index_count, 2);
    let output = module("", "(x: [B, T]) -> (y: [B, T], z: [B, T]) { let y = x + 1  (y, y * 2) }");
    trace(&output, B_T).expect("fuse", index_count, 2);
}

#[test]
fn a_copy_of_what_was_computed_gives_way_to_it() {
    let copy = module("", "(x: [B, T]) -> (y: [B]) { let y[b] = sum[t] x[b, t]  y }");
    trace(&copy, B_T).expect_change("fuse", index_count, 2, 1);
}

#[test]
fn copies_that_are_no_other_value_stay() {
    // A copy of an argument, a second result, and a permutation.
    for (copy, left) in [
        ("(x: [B, T]) { let y[b, t] = x[b, t]  y }", 1),
        ("(x: [B, T]) -> (y: [B], z: [B]) { let y[b] = sum[t] x[b, t]  let z[b] = y[b]  (y, z) }", 2),
        ("(x: [B, T]) { let s[b, t: T] = sum[u: T] x[b, u] * t  let y[t, b] = s[b, t]  y }", 2),
    ] {
        trace(&module("", copy), B_T).expect("fuse", index_count, left);
    }
}

#[test]
fn a_read_that_fails_is_not_substituted_into_a_branch() {
    // The gather may fail; where it is written it fails for all elements.
    let text =
        module("", "(x: [B, T], k: i64[B]) { let g[b] = x[b, max(k[b], 0) % 1]  let y[b] = g[b] + 1  y }");
    trace(&text, &[&[("B", 2), ("T", 3)], &[("B", 0), ("T", 2)]]).expect("fuse", index_count, 1);
}

/// A recurrence that reads `x` only through a product, which hoisting takes out.
const PROJECTED: &str = "(x: [B, T, 3], w: [3, 3]) {
    recur t in 0..T {
        init h[:, t - 1]: [B, 3] = 0
        h[:, t] = tanh(x[:, t] @ w + h[:, t - 1])
    }
    h
}";

#[test]
fn captures_that_nothing_reads_go() {
    let found = trace(&module("", PROJECTED), B_T);
    let captures = |p: &Program| recurs(p)[0].captures;
    found.expect_change("dce", captures, 3, 1);
}

#[test]
fn captures_that_are_read_stay() {
    let text = PROJECTED.replace("h[:, t - 1])", "h[:, t - 1]) * x[:, t]");
    let found = trace(&module("", &text), B_T);
    let captures = |p: &Program| recurs(p)[0].captures;
    found.expect("dce", captures, 2);
}

#[test]
fn what_reaches_no_output_goes() {
    let text = module("", "(x: [B, T]) { let s[b] = sum[t] exp(x[b, t])  let u = s * 2  x + 1 }");
    let found = trace(&text, B_T);
    found.expect("dce", nodes, 1);
    let used = module("", "(x: [B, T]) { let s[b] = sum[t] exp(x[b, t])  let u = s * 2  u + 1 }");
    trace(&used, B_T).expect("dce", nodes, 2);
    assert!(
        collect(found.last(), |op| matches!(op, Op::Index(i) if i.reduce.is_some()).then_some(())).is_empty()
    );
}
