//! `hoist` and `fuse-slices`.

use crate::harness::{in_bodies, module, reductions, trace};
use mdlc::graph::ir::{Op, Program};

const SIZES: &[&[(&str, i64)]] =
    &[&[("B", 2), ("T", 4)], &[("B", 1), ("T", 1)], &[("B", 2), ("T", 0)], &[("B", 0), ("T", 2)]];

fn heavy_inside(program: &Program) -> usize {
    in_bodies(program, |op| matches!(op, Op::Index(index) if index.reduce.is_some()))
}

fn nodes_inside(program: &Program) -> usize {
    in_bodies(program, |op| !matches!(op, Op::Arg(_)))
}

/// A recurrence over `t` with this range whose step is `step`.
fn recurrence(range: &str, lag: &str, step: &str) -> String {
    module(
        "param w: [3, 3] = normal(0.5)\nparam u: [3, 3] = normal(0.5)",
        &format!(
            "(x: [B, T, 3], k: i64[T]) {{
                recur t in {range} {{
                    init h[:, {lag}]: [B, 3] = 1
                    h[:, t] = {step}
                }}
                h
            }}"
        ),
    )
}

#[test]
fn a_product_of_the_input_moves_out() {
    for (range, lag) in [("0..T", "t - 1"), ("0..T by -1", "t + 1")] {
        let text = recurrence(range, lag, &format!("tanh(x[:, t] @ w.T + h[:, {lag}])"));
        let found = trace(&text, SIZES);
        found.expect_change("hoist", heavy_inside, 1, 0);
        found.expect("recognise-products", crate::harness::product_count, 1);
        // The slice that hoisting left goes into the step, the transposed weight into the product.
        let left = nodes_inside(found.after("hoist"));
        found.expect("fuse-slices", nodes_inside, left - 1);
    }
}

#[test]
fn a_product_of_the_carried_state_stays() {
    let text = recurrence("0..T", "t - 1", "tanh(x[:, t] + h[:, t - 1] @ u.T)");
    let found = trace(&text, SIZES);
    found.expect_unchanged("hoist");
    found.expect("hoist", heavy_inside, 1);
}

#[test]
fn of_two_products_only_that_of_the_input_moves_out() {
    let text = recurrence("0..T", "t - 1", "tanh(x[:, t] @ w.T + h[:, t - 1] @ u.T)");
    let found = trace(&text, SIZES);
    found.expect_change("hoist", heavy_inside, 2, 1);
    found.expect("hoist", reductions, 2);
}

#[test]
fn what_does_not_depend_on_the_position_moves_out_as_it_is() {
    let text = recurrence("0..T", "t - 1", "tanh(x[:, 0] @ w.T + h[:, t - 1])");
    let text = text.replace("x[:, 0] @ w.T", "w[0, :] @ u");
    let found = trace(&text, SIZES);
    found.expect_change("hoist", heavy_inside, 1, 0);
    found.expect("hoist", reductions, 1);
}

#[test]
fn what_may_fail_stays_where_it_is_asked_for() {
    // With no steps, the first row is never read: hoisting must not make that an error.
    let text = recurrence("0..T", "t - 1", "tanh(x[:, 0] @ w.T + h[:, t - 1])");
    let found = trace(&text, SIZES);
    found.expect_unchanged("hoist");
    found.expect("hoist", heavy_inside, 1);
}

#[test]
fn light_work_stays() {
    let text = recurrence("0..T", "t - 1", "x[:, t] * 2 + h[:, t - 1]");
    let found = trace(&text, SIZES);
    found.expect_unchanged("hoist");
    // Nothing was hoisted, so there is no slice of a hoisted sequence to fuse.
    found.expect_unchanged("fuse-slices");
}
