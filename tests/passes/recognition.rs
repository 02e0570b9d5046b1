//! `recognise-segments`, `recognise-scans`, `recognise-products`, `fuse-epilogues` and `form-regions`, and that they
//! go by meaning: what is written in other words becomes the same graph.

use crate::harness::{
    Trace, index_count, kinds, module, product_count, products, regions, scan_count, segment_count, segments,
    trace,
};
use mdlc::graph::ir::{Op, Program, RegionKind, Role};
use mdlc::graph::print::{Options, print};
use mdlc::source::SourceMap;

const B: &[&[(&str, i64)]] = &[&[("B", 3)], &[("B", 1)], &[("B", 0)]];
const GRAPH: &[&[(&str, i64)]] =
    &[&[("N", 3), ("E", 7)], &[("N", 1), ("E", 4)], &[("N", 4), ("E", 0)], &[("N", 0), ("E", 2)]];

/// One definition over nodes `n` and edges `e`.
fn message(definition: &str) -> Trace {
    let text = module(
        "",
        &format!("(x: [N, 2], a: [E], dst: i64[E], key: i64[N], m: bool[E]) {{ let {definition}  y }}"),
    );
    trace(&text, GRAPH)
}

#[test]
fn reductions_by_key_are_segments() {
    for definition in [
        "y[n: N] = sum[e where dst[e] == n] a[e]",
        "y[n: N] = sum[e where n == dst[e]] a[e]",
        "y[n: N] = max[e where dst[e] == n and e % 2 == 0] a[e]",
        "y[n: N] = prod[e where dst[e] + 1 == n] a[e]",
        "y[n: N] = min[e where dst[e] - n == 0 else 7] a[e]",
        "y[n: N] = sum[e where 3 - n == dst[e]] a[e]",
        // A mask that is read, before and behind the equality, of edges and of nodes.
        "y[n: N] = sum[e where dst[e] == n and m[e]] a[e]",
        "y[n: N] = sum[e where m[e] and dst[e] == n] a[e]",
        "y[n: N] = max[e where m[e] and a[e] > 0 and dst[e] == n and key[n] > 0 else -3] a[e]",
        "y[n: N] = sum[e where dst[e] == n and x[dst[e], 1] > 0 and not m[e]] a[e] * x[n, 0]",
    ] {
        message(definition).expect_change("recognise-segments", segment_count, 0, 1);
    }
}

#[test]
fn the_rest_of_the_condition_stays_a_filter() {
    let found = message("y[n: N] = sum[e where dst[e] == n and e % 2 == 0] a[e]");
    let program = found.after("recognise-segments");
    assert!(segments(program)[0].index.reduce.as_ref().unwrap().filter.is_some());
    let found = message("y[n: N] = sum[e where dst[e] == n] a[e]");
    let program = found.after("recognise-segments");
    assert!(segments(program)[0].index.reduce.as_ref().unwrap().filter.is_none());
}

#[test]
fn a_key_that_only_a_mask_makes_safe_stays_where_it_is() {
    // Without the mask the key would be read outside.
    let found = message("y[n: N] = sum[e: E where key[0] > e and key[e] == n] a[e]");
    assert_eq!(segment_count(found.after("recognise-segments")), 0);
}

/// One definition over steps `s` and `t`.
fn running(definition: &str) -> Trace {
    let forward = format!("(x: [B, S], m: bool[S], w: [S, S]) {{ let {definition}  y }}");
    trace(&module("", &forward), &[&[("B", 2), ("S", 5)], &[("B", 1), ("S", 1)], &[("B", 1), ("S", 0)]])
}

#[test]
fn reductions_up_to_a_step_are_scans() {
    for definition in [
        "y[b, t: S] = sum[s where s <= t] x[b, s]",
        "y[b, t: S] = sum[s where s < t] x[b, s]",
        "y[b, t: S] = max[s where t - 2 >= s] x[b, s]",
        "y[b, t: S] = sum[s where s >= t] x[b, s]",
        "y[b, t: S] = prod[s where t < s - 1] x[b, s]",
        "y[b, t: 7] = sum[s where s <= t] x[b, s] * 2",
        "y[b, t: S] = any[s where s <= t and x[b, s] > 0] m[s]",
        "y[b, t: S] = sum[s where s <= t and m[s]] (if m[s] { x[b, s] } else { 1.0 })",
    ] {
        running(definition).expect_change("recognise-scans", scan_count, 0, 1);
    }
}

#[test]
fn other_reductions_are_no_scans() {
    for definition in [
        // What is reduced knows the step.
        "y[b, t: S] = sum[s where s <= t] x[b, s] * w[t, s]",
        "y[b, t: S] = sum[s where s <= t and w[s, t] > 0] x[b, s]",
        // More than one term comes with the first step, or with each.
        "y[b, t: S] = sum[s where s <= t + 1] x[b, s]",
        "y[b, t: S] = sum[s where s <= 2 * t] x[b, s]",
        "y[b, t: 7] = sum[s where s >= t] x[b, s]",
        // A window, in which terms go as others come.
        "y[b, t: S] = sum[s where s <= t and s > t - 2] x[b, s]",
        "y[b, t: S] = sum[s where s <= t or m[s]] x[b, s]",
        "y[b, t: S] = sum[s where s <= t else 5.0] x[b, s]",
        "y[b, t: S] = argmax[s where s <= t] x[b, s]",
    ] {
        let found = running(definition);
        found.expect_unchanged("recognise-scans");
        found.expect("recognise-scans", scan_count, 0);
    }
}

#[test]
fn other_filters_are_not_segments() {
    for definition in [
        // No reduced index enters the equality.
        "y[n: N] = sum[e where key[n] == n] a[e]",
        "y[n: N] = sum[e where n == 0] a[e]",
        // The result would be a position, which a pass over the keys does not know.
        "y[n: N] = argmax[e where dst[e] == n] a[e]",
        // Not every key has a result.
        "y[n: N] = sum[e where 2 * n == dst[e]] a[e]",
        "y[n: N] = sum[e where n // 2 == dst[e]] a[e]",
        // The key depends on the result.
        "y[n: N] = sum[e where dst[e] + key[n] == n] a[e]",
        // Other comparisons and other connectives.
        "y[n: N] = sum[e where dst[e] <= n] a[e]",
        "y[n: N] = sum[e where not (dst[e] == n)] a[e]",
        "y[n: N] = sum[e where dst[e] == n or m[e]] a[e]",
        "y[n: N] = sum[e] (if dst[e] == n { a[e] } else { 1 })",
    ] {
        let found = message(definition);
        found.expect_unchanged("recognise-segments");
        found.expect("recognise-segments", segment_count, 0);
    }
}

/// One definition over `x: [B, 4]`, `w: [5, 4]`, `s: [4]`, `g: [B, 5]`.
fn contraction(definition: &str) -> Trace {
    let text = module(
        "",
        &format!("(x: [B, 4], w: [5, 4], s: [4], g: [B, 5], m: bool[4]) {{ let {definition}  y }}"),
    );
    trace(&text, B)
}

#[test]
fn sums_of_products_are_products() {
    for definition in [
        "y[b, o] = sum[i] x[b, i] * w[o, i]",
        "y[o, b] = sum[i] x[b, i] * w[o, i]",
        "y[b, o] = sum[i: 3] x[b, i + 1] * w[o, 3 - i]",
        "y[o] = sum[i] w[o, i] * s[i]",
        "y = x @ w.T",
        // What does not depend on the contracted index moves into the epilogue.
        "y[b, o] = sum[i] x[b, i] * w[o, i] * g[b, o]",
        "y[b, o] = sum[i] (2 * x[b, i]) * w[o, i]",
    ] {
        contraction(definition).expect_change("recognise-products", product_count, 0, 1);
    }
}

#[test]
fn factors_free_of_the_contracted_index_are_an_epilogue() {
    let found = contraction("y[b, o] = sum[i] x[b, i] * w[o, i] * g[b, o]");
    assert!(products(found.after("recognise-products"))[0].epilogue.is_some());
    let found = contraction("y[b, o] = sum[i] x[b, i] * w[o, i]");
    assert!(products(found.after("recognise-products"))[0].epilogue.is_none());
}

#[test]
fn axes_in_groups_are_views_of_one_product() {
    let text = module(
        "",
        "(x: [B, (3, 4)], w: [(3, 5), 4]) {
            let y[b, (g, o)] = sum[i: 4] x[b, (g: 3, i)] * w[(g, o: 5), i]
            y
        }",
    );
    let found = trace(&text, B);
    found.expect("recognise-products", product_count, 1);
    let product = products(found.after("recognise-products"))[0];
    assert_eq!(product.roles, [Role::M, Role::Batch, Role::N]);
}

#[test]
fn other_sums_are_not_products() {
    for definition in [
        "y[b, o] = sum[i where m[i]] x[b, i] * w[o, i]",
        "y[b, o] = sum[i where i <= o] x[b, i] * w[o, i]",
        // A third factor under the sum.
        "y[b, o] = sum[i] x[b, i] * w[o, i] * s[i]",
        // Reads that may both be outside.
        "y[b, o] = sum[i: 4] x[b, i + 1 else 0] * w[o, i - 1 else 0]",
        // Another reducer, another value over nothing, another body.
        "y[b, o] = max[i] x[b, i] * w[o, i]",
        "y[b, o] = sum[i] (x[b, i] + w[o, i])",
        // Nothing but batch axes, or a sum over one factor alone.
        "y[b] = sum[i] x[b, i] * x[b, i]",
        "y[b, o] = sum[i, j] x[b, i] * w[o, j]",
        // Factors that are computed, over all points of the product, from a window, and where the other
        // factor has few rows only.
        "y[b, o] = sum[i] exp(x[b, i] + g[b, o]) * w[o, i]",
        "y[b, o] = sum[i: 2, j: 2] exp(x[b, i + j]) * w[o, 2 * i + j]",
        "y[b, o: 2] = sum[i] exp(x[b, i]) * w[o, i]",
    ] {
        contraction(definition).expect("recognise-products", product_count, 0);
    }
}

#[test]
fn a_computed_factor_is_computed_before_the_product() {
    for definition in [
        "y[b, o] = sum[i] exp(x[b, i]) * w[o, i]",
        "y[b, o] = sum[i] w[o, i] * (x[b, i] + s[i])",
        "y[b, o] = sum[i] (x[b, i] + s[i]) * (w[o, i] - s[i])",
        "y[b, o] = g[b, o] * sum[i] (x[b, 3 - i] * s[i] + 1) * w[o, i]",
    ] {
        let found = contraction(definition);
        found.expect_change("recognise-products", product_count, 0, 1);
        let graph = &found.after("recognise-products").functions[0].graph;
        let computed = graph.dag.node_weights().filter(|node| {
            matches!(&node.op, Op::Index(index) if index.reduce.is_none() && node.results[0].shape.len() == 2)
        });
        assert!((1..=2).contains(&computed.count()), "{definition}");
    }
}

#[test]
fn what_follows_a_product_is_its_epilogue() {
    for follows in ["max(p + c, 0)", "tanh(p + c) * 2", "p * g + c", "p.T"] {
        let text = module(
            "",
            &format!("(x: [B, 4], w: [5, 4], c: [5], g: [B, 5]) {{ let p = x @ w.T  {follows} }}"),
        );
        let found = trace(&text, B);
        found.expect("fuse-epilogues", index_count, 0);
        found.expect("fuse-epilogues", product_count, 1);
    }
}

#[test]
fn heads_are_split_and_merged_by_the_strides_of_a_product() {
    let text = module(
        "",
        "(x: [B, 4], w: [6, 4]) {
            let p = x @ w.T
            let y[h: 2, b, d: 3] = p[b, (h, d)]
            y
        }",
    );
    let found = trace(&text, B);
    found.expect("fuse-epilogues", index_count, 0);
    assert_eq!(products(found.last())[0].iterate.len(), 3);
}

#[test]
fn what_reads_a_product_otherwise_stays() {
    for (follows, left) in [
        // Two readers, an output, a reduction, a part, a read that may be outside.
        ("(exp(p) + 1, tanh(p))", 2),
        ("(p, exp(p))", 1),
        ("let s[b] = max[o] p[b, o]  exp(s)", 2),
        ("exp(p[:, 1..3])", 1),
        ("let y[b, o: 5] = p[b, o + 1 else 0]  y", 1),
        ("let y[b, o, k: 3] = exp(p[b, o]) * g[b, k]  y", 1),
    ] {
        let text = module("", &format!("(x: [B, 4], w: [5, 4], g: [B, 5]) {{ let p = x @ w.T  {follows} }}"));
        let found = trace(&text, B);
        found.expect("fuse-epilogues", index_count, left);
    }
}

const HEADS: &[&[(&str, i64)]] = &[
    &[("B", 2), ("H", 2), ("T", 3), ("S", 4)],
    &[("B", 1), ("H", 1), ("T", 1), ("S", 1)],
    &[("B", 2), ("H", 1), ("T", 0), ("S", 2)],
    &[("B", 1), ("H", 2), ("T", 2), ("S", 0)],
];

/// Attention with these probabilities, of scores `s`.
fn attention(probabilities: &str) -> String {
    module(
        "",
        &format!(
            "(q: [B, H, T, 3], k: [B, H, S, 3], v: [B, H, S, 2], keep: bool[T, S]) {{
                let s[b, h, i, j] = sum[d] q[b, h, i, d] * k[b, h, j, d]
                {probabilities}
                let y[b, h, i, d] = sum[j] a[b, h, i, j] * v[b, h, j, d]
                y
            }}"
        ),
    )
}

#[test]
fn a_softmax_between_products_is_attention() {
    for probabilities in [
        "let a[b, h, i, j] = softmax[j] s[b, h, i, j]",
        "let a[b, h, i, j] = softmax[j where keep[i, j]] (s[b, h, i, j] / sqrt(3))",
        "let m[b, h, i] = max[j] s[b, h, i, j]
         let e[b, h, i, j] = exp(s[b, h, i, j] - m[b, h, i])
         let z[b, h, i] = sum[j] e[b, h, i, j]
         let a[b, h, i, j] = e[b, h, i, j] / z[b, h, i]",
    ] {
        let found = trace(&attention(probabilities), HEADS);
        assert_eq!(kinds(found.after("form-regions")), [RegionKind::Attention]);
        found.expect("form-regions", |p| regions(p)[0].axes.len(), 2);
        found.expect("form-regions", |p| p.function(p.entry).graph.dag.node_count() - 4, 1);
    }
}

#[test]
fn products_without_a_softmax_between_are_not_attention() {
    for probabilities in [
        "let a = s",
        "let a = max(s, 0)",
        "let a = exp(s)",
        "let z[b, h, i] = sum[j] s[b, h, i, j]
         let a[b, h, i, j] = s[b, h, i, j] / (z[b, h, i] + 9)",
    ] {
        let found = trace(&attention(probabilities), HEADS);
        assert!(!kinds(found.after("form-regions")).contains(&RegionKind::Attention), "{probabilities}");
    }
}

#[test]
fn attention_of_one_sample_and_head_is_a_region_of_one_point() {
    let text = attention("let a[b, h, i, j] = softmax[j] s[b, h, i, j]").replace("[B, H, ", "[1, 1, ");
    let found = trace(&text, &[&[("T", 3), ("S", 4)], &[("T", 1), ("S", 1)], &[("T", 0), ("S", 0)]]);
    assert_eq!(kinds(found.after("form-regions")), [RegionKind::Attention]);
}

#[test]
fn statistics_of_rows_and_what_uses_them_are_one_loop_over_rows() {
    for (body, name) in [
        ("let y[b, i] = softmax[i] x[b, i]  y", "softmax"),
        ("let r[b] = mean[i] x[b, i] ** 2  let y[b, i] = x[b, i] / sqrt(r[b] + 1e-5) * g[i]  y", "RMSNorm"),
        (
            "let m[b] = mean[i] x[b, i]
             let v[b] = mean[i] (x[b, i] - m[b]) ** 2
             let y[b, i] = (x[b, i] - m[b]) / sqrt(v[b] + 1e-5) * g[i]
             y",
            "LayerNorm",
        ),
    ] {
        let found = trace(&module("", &format!("(x: [B, 4], g: [4]) {{ {body} }}")), B);
        assert_eq!(kinds(found.after("form-regions")), [RegionKind::Rows], "{name}");
        found.expect("form-regions", |p| p.function(p.entry).graph.dag.node_count() - 2, 1);
    }
}

#[test]
fn statistics_that_others_need_stay_outside() {
    // The sum is an output of its own; the reader has no axis besides the rows.
    for body in [
        "let s[b] = sum[i] x[b, i]  let y[b, i] = x[b, i] / s[b]  (y, s)",
        "let s[b] = sum[i] x[b, i]  exp(s) + 1",
        "let s = sum[b, i] x[b, i]  let y[b, i] = x[b, i] / s  y",
        // A diagonal of sums has one index where they have two.
        "let s[b, c: B] = sum[i] x[b, i] * x[c, i]  let y[b, i] = x[b, i] / s[b, b]  y",
    ] {
        let found = trace(&module("", &format!("(x: [B, 4], g: [4]) {{ {body} }}")), B);
        assert!(kinds(found.after("form-regions")).is_empty(), "{body}");
    }
}

/// The printed graph after all passes, with the author's names of values and indices erased.
fn anonymous(text: &str, sizes: &[&[(&str, i64)]]) -> String {
    let mut program: Program = trace(text, sizes).last().clone();
    let erase = |graph: &mut mdlc::graph::ir::Graph| {
        let ids: Vec<_> = graph.dag.node_indices().collect();
        for id in ids {
            let node = &mut graph.dag[id];
            if !matches!(node.op, Op::Arg(_)) {
                node.name = None;
            }
            let axes: Vec<&mut mdlc::graph::ir::Axis> = match &mut node.op {
                Op::Index(index) => index
                    .iterate
                    .iter_mut()
                    .chain(index.reduce.iter_mut().flat_map(|r| &mut r.axes))
                    .collect(),
                Op::MatMul(product) => product.iterate.iter_mut().chain(&mut product.contract).collect(),
                Op::Region(region) => region.axes.iter_mut().collect(),
                _ => Vec::new(),
            };
            for (k, axis) in axes.into_iter().enumerate() {
                axis.name = format!("i{k}").into();
            }
        }
    };
    mdlc::passes::walk::for_each_graph(&mut program, &mut |graph, _| erase(graph));
    let printed = print(&program, &SourceMap::new(), Options::default());
    let place = |line: &str| line.split("  #").next().unwrap_or_default().to_string();
    printed.lines().map(place).collect::<Vec<_>>().join("\n")
}

#[test]
fn a_layer_is_the_same_graph_however_it_is_written() {
    let layer = |body: &str| {
        let text = module(
            "param w: [5, 4] = normal(1.0)\nparam c: [5] = normal(1.0)",
            &format!("(x: [B, 4]) -> [B, 5] {{ {body} }}"),
        );
        anonymous(&text, B)
    };
    let usual = layer("max(x @ w.T + c, 0)");
    for other in [
        "let y[b, o] = sum[i] x[b, i] * w[o, i]  max(y + c, 0)",
        "let y[n, k] = sum[m] x[n, m] * w[k, m]  let z[p, q] = max(y[p, q] + c[q], 0)  z",
        "let y[b, o] = sum[i] w[o, i] * x[b, i]  max(y + c, 0)",
        "let u[i, o] = w[o, i]  max(x @ u + c, 0)",
    ] {
        assert_eq!(layer(other), usual, "{other}");
    }
}

#[test]
fn attention_by_hand_and_by_library_give_the_same_regions() {
    let library = "use std.attend.{attend, causal}
        module M {
            forward(q: [B, H, T, 3], k: [B, H, T, 3], v: [B, H, T, 3]) -> [B, H, T, 3] = attend(q, k, v, causal)
        }";
    let hand = module(
        "",
        "(q: [B, H, T, 3], k: [B, H, T, 3], v: [B, H, T, 3]) {
            let score[n, g, t, u] = (sum[e] k[n, g, u, e] * q[n, g, t, e]) / sqrt(3)
            let top[n, g, t] = max[u where u <= t] score[n, g, t, u]
            let power[n, g, t, u] = if u <= t { exp(score[n, g, t, u] - top[n, g, t]) } else { 0 }
            let total[n, g, t] = sum[u where u <= t] power[n, g, t, u]
            let share[n, g, t, u] = power[n, g, t, u] / total[n, g, t]
            let y[n, g, t, e] = sum[u] v[n, g, u, e] * share[n, g, t, u]
            y
        }",
    );
    let sizes: &[&[(&str, i64)]] =
        &[&[("B", 2), ("H", 2), ("T", 3)], &[("B", 1), ("H", 1), ("T", 1)], &[("B", 1), ("H", 2), ("T", 0)]];
    let shapes = |text: &str| -> Vec<(RegionKind, usize, usize)> {
        let found = trace(text, sizes);
        let of = |r: &&mdlc::graph::ir::Region| {
            let products = r.body.dag.node_weights().filter(|n| matches!(n.op, Op::MatMul(_))).count();
            (r.kind, r.axes.len(), products)
        };
        regions(found.last()).iter().map(of).collect()
    };
    assert_eq!(shapes(library), [(RegionKind::TiledAttention, 2, 2)]);
    assert_eq!(shapes(&hand), shapes(library));
}

#[test]
fn attention_whose_scores_nobody_else_reads_goes_by_tiles() {
    let sizes: &[&[(&str, i64)]] = &[&[("B", 2), ("H", 2), ("T", 5)], &[("B", 1), ("H", 2), ("T", 0)]];
    let of = |result: &str, body: &str| {
        let text = format!(
            "use std.attend.{{attend, attention_weights, causal, window, padding}}
            module M {{
                forward(q: [B, H, T, 3], k: [B, H, T, 3], v: [B, H, T, 3], keep: bool[B, T]) -> {result} {{ {body} }}
            }}"
        );
        trace(&text, sizes)
    };
    let tiled =
        |program: &Program| regions(program).iter().filter(|r| r.kind == RegionKind::TiledAttention).count();
    for mask in ["full", "causal", "window(2) and padding(keep)", "not (causal or window(1))"] {
        let found = of("[B, H, T, 3]", &format!("attend(q, k, v, mask = {mask})"));
        found.expect_change("tile-attention", tiled, 0, 1);
    }
    let both = of(
        "([B, H, T, T], [B, H, T, 3])",
        "let a = attention_weights(q, k, mask = causal)
         let y[b, h, i, d] = sum[j] a[b, h, i, j] * v[b, h, j, d]
         (a, y)",
    );
    both.expect_unchanged("tile-attention");
    let scaled = of(
        "[B, H, T, 3]",
        "let a = attention_weights(q, k)
         let y[b, h, i, d] = sum[j] (if keep[b, i] { a[b, h, i, j] } else { 0.5 }) * v[b, h, j, d]
         y",
    );
    scaled.expect_unchanged("tile-attention");
}
