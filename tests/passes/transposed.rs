//! `solve-windows`, and what it makes of transposed convolutions.

use crate::harness::{Trace, index_count, module, product_count, products, reductions, segment_count, trace};
use mdlc::graph::ir::{Op, Program, Role};

const LINE: &[&[(&str, i64)]] = &[&[("B", 2), ("L", 5)], &[("B", 1), ("L", 2)], &[("B", 0), ("L", 3)]];
const PLANE: &[&[(&str, i64)]] = &[&[("B", 2), ("H", 3), ("W", 4)], &[("B", 1), ("H", 2), ("W", 2)]];

fn line(layer: &str) -> Trace {
    trace(&module(&format!("c = ConvTranspose1d(4, 6, {layer})"), "(x: [B, 4, L]) = c(x)"), LINE)
}

fn plane(layer: &str) -> Trace {
    trace(&module(&format!("c = ConvTranspose2d(4, 6, {layer})"), "(x: [B, 4, H, W]) = c(x)"), PLANE)
}

/// One definition over a line `x` and taps `w`.
fn definition(text: &str) -> Trace {
    let entry = format!("(x: [B, 2, L], w: [2, 3, 4], m: [L], n: [B]) {{ let {text}  y }}");
    trace(&module("", &entry), LINE)
}

/// Reductions that keep a filter.
fn filtered(program: &Program) -> usize {
    let all = crate::harness::collect(program, |op| match op {
        Op::Index(index) => index.reduce.as_ref().and_then(|reduce| reduce.filter),
        Op::Segment(_) => panic!("a reduction by key"),
        _ => None,
    });
    all.len()
}

#[test]
fn as_many_taps_as_phases_are_one_product_and_nothing_else() {
    for found in [line("2, stride = 2"), line("3, stride = 3")] {
        found.expect_change("solve-windows", filtered, 1, 0);
        assert_eq!(product_count(found.last()), 1);
        // The bias is in the epilogue.
        assert_eq!((index_count(found.last()), segment_count(found.last())), (0, 0));
    }
    let found = plane("[2, 3], stride = [2, 3]");
    found.expect_change("solve-windows", filtered, 1, 0);
    let all = products(found.last());
    assert_eq!(all.len(), 1);
    assert!(all[0].contract.iter().filter(|axis| !axis.extent.is(1)).count() == 1, "the channels alone");
    assert_eq!(index_count(found.last()), 0);
}

#[test]
fn between_convolutions_the_product_writes_channels_last() {
    let members = "a = Conv2d(4, 8, 3)
                   up = ConvTranspose2d(8, 6, [2, 2], stride = [2, 2])
                   b = Conv2d(6, 4, 3)";
    let found =
        trace(&module(members, "(x: [B, 4, H, W]) = b(relu(up(a(x))))"), &[&[("B", 2), ("H", 5), ("W", 4)]]);
    assert_eq!((product_count(found.last()), segment_count(found.last())), (3, 0));
    let all = products(found.last());
    let up = all.iter().find(|product| product.iterate.len() == 6).unwrap();
    assert_eq!(up.roles, [Role::M, Role::M, Role::N, Role::M, Role::N, Role::N]);
    assert_eq!(up.rhs.iterate[5].as_const(), Some(1), "packed with channels last");
}

#[test]
fn without_gaps_the_sum_runs_over_a_window() {
    for layer in ["3", "3, padding = 1", "3, padding = 2, dilation = 2", "4, dilation = 3"] {
        let found = line(layer);
        found.expect_change("solve-windows", filtered, 1, 0);
        found.expect("solve-windows", reductions, 1);
        assert_eq!(product_count(found.last()), 1, "{layer}");
    }
}

#[test]
fn phases_with_other_numbers_of_taps_are_sums_of_their_own() {
    for (layer, sums) in [
        ("4, stride = 2, padding = 1", 1),
        ("4, stride = 2", 1),
        ("3, stride = 2", 2),
        ("3, stride = 2, padding = 1, output_padding = 1", 2),
        ("5, stride = 3, padding = 2, output_padding = 2", 2),
        ("2, stride = 3", 1),
        ("1, stride = 2, output_padding = 1", 1),
        ("4, stride = 2, padding = 2", 1),
        ("4, stride = 2, padding = 1, groups = 2", 1),
    ] {
        let found = line(layer);
        found.expect_change("solve-windows", filtered, 1, 0);
        found.expect("solve-windows", reductions, sums);
        assert_eq!((product_count(found.last()), segment_count(found.last())), (sums, 0), "{layer}");
    }
}

#[test]
fn both_axes_of_a_plane_are_solved() {
    for (layer, sums) in [
        ("[3, 3], stride = [2, 2], padding = [1, 1], output_padding = [1, 1]", 4),
        ("[4, 4], stride = [2, 2], padding = [1, 1]", 1),
        ("[3, 2], stride = [1, 2], padding = [1, 0]", 1),
        ("[3, 3], stride = [2, 1], dilation = [1, 2]", 2),
        ("[4, 4], stride = [2, 2], padding = [1, 1], groups = 2", 1),
    ] {
        let found = plane(layer);
        found.expect_change("solve-windows", filtered, 1, 0);
        found.expect("solve-windows", reductions, sums);
        assert_eq!((product_count(found.last()), segment_count(found.last())), (sums, 0), "{layer}");
    }
}

#[test]
fn equalities_in_other_words_are_solved_too() {
    for text in [
        "y[b, o, l: 2 * L + 2] = sum[c, i, k where i * 2 + k == l] x[b, c, i] * w[c, o, k]",
        "y[b, o, l: 2 * L + 2] = sum[c, i, k where l - k - 2 * i == 0] w[c, o, k] * x[b, c, i]",
        "y[b, o, l: 2 * L + 1] = sum[c, i, k where k + i + i - 1 == l] x[b, c, i] * w[c, o, k]",
        "y[l: 2 * L + 2, o, b] = sum[k, i, c where l == i * 2 + k] x[b, c, i] * w[c, o, k]",
        // Beyond what any tap reaches there is nothing.
        "y[b, o, l: 2 * L + 9] = sum[c, i, k where i * 2 + k + 3 == l] x[b, c, i] * w[c, o, k]",
    ] {
        definition(text).expect_change("solve-windows", filtered, 1, 0);
    }
}

#[test]
fn other_filters_stay() {
    for text in [
        // Gaps between elements and between taps.
        "y[b, o, l: 3 * L + 6] = sum[c, i, k where i * 3 + 2 * k == l] x[b, c, i] * w[c, o, k]",
        // More than the equality.
        "y[b, o, l: 2 * L] = sum[c, i, k where i * 2 + k == l and k != 1] x[b, c, i] * w[c, o, k]",
        // More than a product of two, or an index that is used again.
        "y[b, o, l: 2 * L] = sum[c, i, k where i * 2 + k == l] x[b, c, i] * w[c, o, k] * m[i]",
        "y[b, o, l: L] = sum[c, i: 3, k where i * 2 + k == l] x[b, c, l] * w[c, o, k]",
        "y[b, o: 3, l: 2 * L] = sum[c, i, k: 4 where i * 2 + k == l] x[b, c, i] * w[c, o, 3 - k]",
        // No sum.
        "y[b, o, l: 2 * L] = max[c, i, k where i * 2 + k == l] x[b, c, i] * w[c, o, k]",
        "y[b, o, l: 2 * L] = sum[c, i, k where i * 2 + k <= l] x[b, c, i] * w[c, o, k]",
    ] {
        definition(text).expect_unchanged("solve-windows");
    }
}
