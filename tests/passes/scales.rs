//! `fold-scales`.

use crate::harness::{Trace, collect, each_node, module, products, trace};
use mdlc::dtype::DType;
use mdlc::graph::expr::{Expr, Exprs};
use mdlc::graph::ir::{Op, Program};
use mdlc::ops::scalar::{BinaryOp, UnaryOp};

const B: &[&[(&str, i64)]] = &[&[("B", 3)], &[("B", 1)], &[("B", 0)]];
const MEMBERS: &str = "
    param w: [6, 4] = normal(1.0)
    param scale: [6] = normal(1.0)
    param shift: [6] = normal(1.0)
    param centre: [6] = normal(1.0)
    param spread: [6] = ones()
    param of_input: [4] = normal(1.0)
    param kernel: [6, 2, 3] = normal(0.5)";

/// One result over `x: [B, 4]` and the weights above.
fn layer(body: &str) -> Trace {
    trace(&module(MEMBERS, &format!("(x: [B, 4]) {{ {body} }}")), B)
}

/// Multiplications, divisions and roots of what runs at every call, but for the products in sums.
fn work(program: &Program) -> usize {
    let count = |exprs: &Exprs| {
        let costs = |(_, expr, dtype): &(_, &Expr, DType)| {
            let op = matches!(
                expr,
                Expr::Binary(BinaryOp::Mul | BinaryOp::Div, ..) | Expr::Unary(UnaryOp::Sqrt, _)
            );
            op && dtype.is_float()
        };
        exprs.iter().filter(costs).count()
    };
    let mut sum = 0;
    for (k, function) in program.functions.iter().enumerate() {
        let bind = function.name.ends_with(".bind") || program.bind.is_some_and(|id| id.0 as usize == k);
        each_node(&function.graph, &mut |node| {
            sum += match &node.op {
                _ if bind => 0,
                Op::Index(index) => count(&index.exprs) - usize::from(index.reduce.is_some()),
                Op::MatMul(product) => product.epilogue.as_ref().map_or(0, |e| count(&e.exprs)),
                _ => 0,
            };
        });
    }
    sum
}

/// Whether a sum of products remains in the entry, of whatever form.
fn sums(program: &Program) -> usize {
    let loops = collect(program, |op| match op {
        Op::Index(index) => index.reduce.is_some().then_some(()),
        _ => None,
    });
    loops.len() + products(program).len()
}

const NORM: &str = "let z[b, o] = (y[b, o] - centre[o]) / sqrt(spread[o] + 1e-3) * scale[o] + shift[o]";

#[test]
fn a_norm_behind_a_product_is_one_addition() {
    let found = layer(&format!("let y = x @ w.T {NORM} relu(z)"));
    assert!(found.changed("fold-scales"));
    assert_eq!(work(found.before("fold-scales")), 3);
    found.expect("split-bind", work, 0);
    found.expect("split-bind", sums, 1);
}

#[test]
fn a_bias_before_the_norm_joins_the_shift() {
    let found = layer(&format!("let y[b, o] = (sum[i] w[o, i] * x[b, i]) + centre[o] * 2 {NORM} relu(z)"));
    found.expect("split-bind", work, 0);
}

#[test]
fn windows_and_groups_do_not_matter() {
    let forward = "(x: [B, 4, L]) {
        let y[b, g: 2, o: 3, l: L] = sum[c: 2, u: 3] x[b, g * 2 + c, l + u - 1 else 0] * kernel[g * 3 + o, c, u]
        let m[b, (g, o), l] = y[b, g, o, l]
        let z[b, o, l] = (m[b, o, l] - centre[o]) / sqrt(spread[o] + 1e-3) * scale[o] + shift[o]
        relu(z)
    }";
    let sizes: &[&[(&str, i64)]] = &[&[("B", 2), ("L", 5)], &[("B", 1), ("L", 1)], &[("B", 1), ("L", 0)]];
    let found = trace(&module(MEMBERS, forward), sizes);
    found.expect("split-bind", work, 0);
    found.expect("split-bind", sums, 1);
}

#[test]
fn a_scale_alone_is_enough() {
    let found = layer("let y = x @ w.T  y * scale");
    assert_eq!(work(found.before("fold-scales")), 1);
    found.expect("split-bind", work, 0);
}

#[test]
fn signs_and_sides_do_not_matter() {
    let found =
        layer("let y = x @ w.T  let z[b, o] = shift[o] - scale[o] * (centre[o] - y[b, o]) / 3  relu(z)");
    found.expect("split-bind", work, 0);
    let found = layer("let y = x @ w.T  let z[b, o] = -(y[b, o] * scale[o] - shift[o])  relu(z)");
    found.expect("split-bind", work, 0);
}

#[test]
fn what_goes_on_with_the_norm_twice_is_no_matter() {
    let found = layer(&format!("let y = x @ w.T {NORM} z * sigmoid(z)"));
    // That of the activation.
    found.expect("split-bind", work, 1);
}

#[test]
fn a_norm_of_what_is_no_sum_is_one_multiplication_and_one_addition() {
    let found = layer("let z[b, i] = (x[b, i] - 1) / sqrt(of_input[i] ** 2 + 1) * of_input[i] + 3  relu(z)");
    assert_eq!(work(found.before("fold-scales")), 4);
    found.expect("split-bind", work, 1);
}

#[test]
fn a_sum_that_something_else_reads_keeps_its_weight() {
    let found = layer(&format!("let y = x @ w.T {NORM} (relu(z), y)"));
    found.expect("split-bind", work, 1);
    let found = layer(&format!("let y = x @ w.T {NORM} z + sigmoid(y)"));
    found.expect("split-bind", work, 1);
}

#[test]
fn a_scale_of_another_axis_stays() {
    // A scale of the contracted axis is no factor of the sum, one of the batch meets no axis of the weight.
    layer("(x * of_input) @ w.T").expect_unchanged("fold-scales");
    let text = module(
        "param w: [6, 4] = normal(1.0)\nparam rows: [3] = normal(1.0)",
        "(x: [3, 4]) { let y[b, o] = sum[i] w[o, i] * x[b, i]  let z[b, o] = y[b, o] * rows[b]  z }",
    );
    trace(&text, &[&[]]).expect_unchanged("fold-scales");
}

#[test]
fn a_scale_that_an_input_decides_stays() {
    layer("let y = x @ w.T  let z[b, o] = y[b, o] * (scale[o] + x[b, 0])  z").expect_unchanged("fold-scales");
    layer("let y = x @ w.T  let z[b, o] = scale[o] / y[b, o]  z").expect_unchanged("fold-scales");
}

#[test]
fn a_maximum_keeps_its_weight() {
    layer("let y[b, o] = max[i] w[o, i] * x[b, i]  let z[b, o] = y[b, o] * scale[o]  z")
        .expect_unchanged("fold-scales");
}

#[test]
fn literals_are_left_to_the_epilogue() {
    layer("let y = x @ w.T  y * 0.3 + 1").expect_unchanged("fold-scales");
}

#[test]
fn repeated_blocks_fold_their_own_weights() {
    let text = "
        module Block {
            first = Linear(5, 5)
            second = Linear(5, 5)
            third = Linear(5, 5)
            norm = BatchNorm(5)
            forward(x: [B, 5]) -> [B, 5] = x + norm(third(relu(norm(second(relu(norm(first(x))))))))
        }
        module M {
            layers = [Block(); 4]
            forward(x: [B, 5]) -> [B, 5] = layers(x)
        }";
    let found = trace(text, B);
    assert!(found.last().functions.len() > 2, "the blocks are a function of their own");
    found.expect("split-bind", work, 0);
}
