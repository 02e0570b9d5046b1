//! `choose-layouts`, `split-axes` and `pad-windows`.

use crate::harness::{Trace, collect, module, products, trace};
use mdlc::graph::expr::{Expr, Read};
use mdlc::graph::ir::{Node, Op, Program};
use mdlc::ops::scalar::BinaryOp;

const SIZES: &[&[(&str, i64)]] =
    &[&[("B", 2), ("H", 5), ("W", 7)], &[("B", 1), ("H", 1), ("W", 2)], &[("B", 0), ("H", 3), ("W", 3)]];
const MEMBERS: &str = "
    c1 = Conv2d(3, 8, 3, padding = 1)
    c2 = Conv2d(8, 6, 3, padding = 1, stride = 2)
    wide = Conv2d(8, 6, 3)
    depthwise = Conv2d(8, 8, 3, padding = 1, groups = 8)
    grouped = Conv2d(8, 12, 3, padding = 2, dilation = 2, groups = 4)";

fn plane(body: &str) -> Trace {
    plane_of(&format!("= {body}"))
}

fn plane_of(body: &str) -> Trace {
    trace(&module(MEMBERS, &format!("(x: [B, 3, H, W]) {body}")), SIZES)
}

/// The names of the axes of each reduction or product that the entry keeps, in order.
fn axes(program: &Program) -> Vec<String> {
    collect(program, |op| match op {
        Op::Index(index) if index.reduce.is_some() => {
            Some(index.iterate.iter().map(|axis| &*axis.name).collect::<Vec<_>>().join(" "))
        }
        _ => None,
    })
}

/// Reads of reductions that have a value outside.
fn checked(program: &Program) -> usize {
    let found = collect(program, |op| match op {
        Op::Index(index) if index.reduce.is_some() => {
            let outside = |expr: &Expr| matches!(expr, Expr::Read(Read { otherwise: Some(_), .. }));
            Some(index.exprs.iter().filter(|(_, expr, _)| outside(expr)).count())
        }
        _ => None,
    });
    found.into_iter().sum()
}

#[test]
fn what_lies_between_convolutions_has_its_channels_last() {
    let found = plane("c2(relu(c1(x)))");
    assert!(found.changed("choose-layouts"));
    assert_eq!(axes(found.before("choose-layouts")), ["b g o i j"; 2]);
    assert_eq!(axes(found.after("choose-layouts")), ["b g i j o"; 2]);
}

#[test]
fn the_layout_goes_through_what_computes_point_by_point() {
    let found = plane_of("{ let y = c1(x)  let z = sigmoid(y) * y + y  c2(z + gelu(z)) }");
    let pointwise = |program: &Program| -> Vec<String> {
        collect(program, |op| match op {
            Op::Index(index) if index.reduce.is_none() => {
                Some(index.iterate.last().map(|axis| axis.extent.to_string()).unwrap_or_default())
            }
            _ => None,
        })
    };
    assert!(pointwise(found.before("choose-layouts")).iter().all(|last| last != "8"));
    assert!(pointwise(found.after("choose-layouts")).iter().any(|last| last == "8"));
}

#[test]
fn repeated_blocks_agree_on_the_layout_of_what_they_pass_on() {
    let block = "module Block { c1 = Conv2d(8, 8, 3, padding = 1)  c2 = Conv2d(8, 8, 3, padding = 1)
        c3 = Conv2d(8, 8, 3, padding = 1)
        forward(x: [B, 8, H, W]) = x + relu(c3(gelu(c2(tanh(c1(x)))))) + 0.5 * sigmoid(x) }\n";
    let members = "first = Conv2d(3, 8, 1)\n blocks = [for i in 0..4: Block()]\n last = Conv2d(8, 1, 1)";
    let text = format!("{block}{}", module(members, "(x: [B, 3, H, W]) = last(blocks(first(x)))"));
    let found = trace(&text, SIZES);
    let channels = |program: &Program| -> Vec<Vec<usize>> {
        let calls = program.functions.iter().flat_map(|f| f.graph.dag.node_weights());
        let of = |node: &Node| {
            let shape = &node.results[0].shape;
            matches!(node.op, Op::Call(_)).then(|| (0..4).filter(|k| shape[*k].is(8)).collect())
        };
        calls.filter_map(of).collect()
    };
    assert_eq!(channels(found.before("choose-layouts")), [[1]; 4]);
    assert_eq!(channels(found.after("choose-layouts")), [[3]; 4]);
}

#[test]
fn what_a_user_sees_stays_as_it_is_written() {
    // The layout of what the convolutions compute is free; the bias is added into the user's.
    let found = plane_of("{ let y = c1(x)  (y, c2(y)) }");
    let results = |program: &Program| -> Vec<Vec<String>> {
        let graph = &program.function(program.entry).graph;
        graph
            .results
            .iter()
            .map(|value| graph.ty(*value).shape.iter().map(ToString::to_string).collect())
            .collect()
    };
    assert_eq!(results(found.last()), results(found.before("choose-layouts")));
}

#[test]
fn sums_without_windows_keep_their_layout() {
    let text = module("l = Linear(4, 4)", "(x: [B, H, 4]) = l(tanh(l(x)) * l(x))");
    assert!(!trace(&text, &[&[("B", 2), ("H", 3)]]).changed("choose-layouts"));
}

#[test]
fn merged_heads_are_no_windows() {
    let scores = "let s[b, h: 2, t: H, u: H] = sum[d: 3] q[b, t, 3 * h + d] * k[b, u, 3 * h + d]  s";
    let forward = format!("(x: [B, H, 6]) {{ let q = query(x)  let k = key(x)  {scores} }}");
    let text = module("query = Linear(6, 6)\n key = Linear(6, 6)", &forward);
    assert!(!trace(&text, &[&[("B", 2), ("H", 3)]]).changed("choose-layouts"));
    // One more point a head, and heads share what they read.
    let shared = text.replace("d: 3", "d: 4").replace("+ d]", "+ d else 0.0]");
    assert!(trace(&shared, &[&[("B", 2), ("H", 3)]]).changed("choose-layouts"));
}

#[test]
fn a_padded_convolution_is_a_product_over_a_copy() {
    for body in ["c1(x)", "c2(c1(x))", "grouped(c1(x))", "depthwise(c1(x))"] {
        let found = plane(body);
        assert!(found.changed("pad-windows"), "{body}");
        assert!(checked(found.before("pad-windows")) > 0, "{body}");
        found.expect("pad-windows", checked, 0);
        let convolutions = body.matches('(').count();
        found.expect("recognise-products", |p| products(p).len(), convolutions);
    }
}

#[test]
fn windows_that_stay_inside_are_not_copied() {
    assert!(!trace(&module(MEMBERS, "(x: [B, 8, H + 2, W + 2]) = wide(x)"), SIZES).changed("pad-windows"));
    // A shift is no window.
    let shift = module("", "(x: [B, H]) { let y[b, h: H] = x[b, h - 1 else 0.0] * 2  y }");
    assert!(!trace(&shift, SIZES).changed("pad-windows"));
}

#[test]
fn pooling_reads_a_copy_with_its_own_border() {
    let found = plane("max_pool2d(x, 3, stride = 2, padding = 1)");
    found.expect("pad-windows", checked, 0);
}

/// Sums over what lies in groups behind each other: `x` is `[B, 4, H, 6]`.
fn merged(body: &str) -> Trace {
    let members = "param w: [24, 5] = normal(1.0)\n param v: [4, 6, 5] = normal(1.0)";
    trace(
        &module(members, &format!("(x: [B, 4, H, 6]) {{ {body} }}")),
        &[&[("B", 2), ("H", 3)], &[("B", 1), ("H", 0)]],
    )
}

#[test]
fn a_sum_over_merged_heads_is_a_product() {
    let found = merged("let y[b, t, k: 24] = x[b, k // 6, t, k % 6]  y @ w");
    assert!(found.changed("split-axes"));
    found.expect("recognise-products", |p| products(p).len(), 1);
}

#[test]
fn merged_heads_are_copied_without_division() {
    let found = merged("let y[b, t, k: 24] = tanh(x[b, k // 6, t, k % 6])  y");
    let divisions = |program: &Program| -> usize {
        let found = collect(program, |op| match op {
            Op::Index(index) => {
                let divides =
                    |expr: &Expr| matches!(expr, Expr::Binary(BinaryOp::FloorDiv | BinaryOp::Mod, ..));
                Some(index.exprs.iter().filter(|(_, expr, _)| divides(expr)).count())
            }
            _ => None,
        });
        found.into_iter().sum()
    };
    found.expect_change("split-axes", divisions, 2, 0);
}

#[test]
fn axes_that_no_read_divides_evenly_stay() {
    assert!(!merged("let y[b, t, k: 23] = x[b, k // 6, t, k % 6]  y").changed("split-axes"));
    // Divided in the value and not in an index.
    assert!(!merged("let y[b, t, k: 24] = x[b, 0, t, 0] * (k % 2)  y").changed("split-axes"));
    assert!(!merged("let y[b, t, o] = sum[h, d] x[b, h, t, d] * v[h, d, o]  y").changed("split-axes"));
}

#[test]
fn a_convolution_behind_a_pool_is_a_product() {
    let found = plane_of("{ let y = max_pool2d(relu(c1(x)), 2)  c2(y) }");
    assert_eq!(checked(found.before("pad-windows")), 2);
    assert_eq!(products(found.last()).len(), 2);
}
