//! `pack` and `split-bind`.

use crate::harness::{Trace, module, products, trace};
use mdlc::graph::ir::{FuncId, Op, Program};

const B: &[&[(&str, i64)]] = &[&[("B", 3)], &[("B", 1)], &[("B", 0)]];

/// One result over `x: [B, 4]`, `z: [6, 4]` and the weights `w: [6, 4]`, `u: [4, 6]`, `c: [6]`.
fn layer(body: &str) -> Trace {
    let members = "param w: [6, 4] = normal(1.0)\nparam u: [4, 6] = normal(1.0)\nparam c: [6] = normal(1.0)";
    trace(&module(members, &format!("(x: [B, 4], z: [6, 4]) {{ {body} }}")), B)
}

/// Whether the right operand of the only product has a result axis of stride 1.
fn contiguous(program: &Program) -> usize {
    products(program).iter().filter(|p| p.rhs.iterate.iter().any(|stride| stride.is(1))).count()
}

/// Nodes of a function but arguments.
fn work(program: &Program, id: Option<FuncId>) -> usize {
    let graph = id.map(|id| &program.function(id).graph);
    graph.map_or(0, |g| g.dag.node_weights().filter(|node| !matches!(node.op, Op::Arg(_))).count())
}

#[test]
fn a_weight_that_lies_the_other_way_round_is_packed_when_bound() {
    let found = layer("x @ w.T");
    found.expect_change("pack", contiguous, 0, 1);
    found.expect("split-bind", |p| work(p, p.bind), 1);
    found.expect("split-bind", |p| work(p, Some(p.entry)), 1);
}

#[test]
fn a_weight_that_lies_right_is_not_packed() {
    let found = layer("x @ u");
    found.expect_unchanged("pack");
    found.expect("pack", contiguous, 1);
    found.expect("split-bind", |p| work(p, p.bind), 0);
}

#[test]
fn an_input_on_the_right_is_not_packed() {
    let found = layer("x @ z.T");
    found.expect_unchanged("pack");
    found.expect("pack", contiguous, 0);
}

#[test]
fn a_weight_on_the_left_is_not_packed() {
    let found = layer("let y[o, b] = sum[i] w[o, i] * x[b, i]  y");
    found.expect_unchanged("pack");
}

#[test]
fn a_weight_inside_a_recurrence_is_packed_outside() {
    let text = module(
        "param w: [3, 3] = normal(0.5)",
        "(x: [B, T, 3]) {
            recur t in 0..T {
                init h[:, t - 1]: [B, 3] = 0
                h[:, t] = tanh(x[:, t] + h[:, t - 1] @ w.T)
            }
            h
        }",
    );
    let found = trace(&text, &[&[("B", 2), ("T", 3)], &[("B", 1), ("T", 1)], &[("B", 1), ("T", 0)]]);
    found.expect_change("pack", contiguous, 0, 1);
    found.expect("split-bind", |p| work(p, p.bind), 1);
}

#[test]
fn what_depends_on_weights_alone_runs_when_they_are_bound() {
    let found = layer("x @ (w * exp(c[0])).T");
    assert!(found.before("split-bind").bind.is_none());
    found.expect("split-bind", |p| usize::from(work(p, p.bind) >= 1), 1);
    found.expect("split-bind", |p| work(p, Some(p.entry)), 1);
}

#[test]
fn a_weight_times_an_input_runs_at_every_call() {
    let found = layer("let y[b, i] = x[b, i] * u[i, 0]  y");
    found.expect("split-bind", |p| work(p, p.bind), 0);
    found.expect("split-bind", |p| work(p, Some(p.entry)), 1);
}

#[test]
fn what_has_a_free_size_runs_at_every_call() {
    let found = layer("let y[b: B, i] = exp(c[i]) + b  x[:, 0..1] * 1 + y");
    found.expect("split-bind", |p| usize::from(work(p, Some(p.entry)) >= 1), 1);
    let bound = found.last().bind.unwrap();
    let free = |id: FuncId| {
        let graph = &found.last().function(id).graph;
        graph
            .dag
            .node_weights()
            .flat_map(|n| &n.results)
            .flat_map(|t| &t.shape)
            .any(|d| d.as_const().is_none())
    };
    assert!(!free(bound));
    assert!(free(found.last().entry));
}

#[test]
fn a_model_without_weights_has_nothing_to_bind() {
    let found = trace(&module("", "(x: [B, 4]) { x + 1 }"), B);
    assert!(found.last().bind.is_none());
}

#[test]
fn a_called_function_is_split_into_two() {
    let text = "module Part {
            param w: [4, 4] = normal(0.5)
            param c: [4] = normal(1.0)
            forward(x: [B, 4]) -> [B, 4] {
                x = tanh(x @ w.T + c) * 0.5 + x
                x = tanh(x @ w.T + c) * 0.5 + x
                x = tanh(x @ w.T + c) * 0.5 + x
                x
            }
        }
        module M {
            parts = [Part(); 3]
            forward(x: [B, 4]) -> [B, 4] = parts(x)
        }";
    let found = trace(text, B);
    let calls = |id: FuncId| {
        let graph = &found.last().function(id).graph;
        graph.dag.node_weights().filter(|node| matches!(node.op, Op::Call(_))).count()
    };
    found.expect("split-bind", |p| p.functions.len(), 4);
    assert_eq!(calls(found.last().entry), 3);
    assert_eq!(calls(found.last().bind.unwrap()), 3);
}
