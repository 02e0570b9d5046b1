//! `transform-windows`.

use crate::harness::{collect, module, trace};
use mdlc::graph::ir::{Op, Program, RegionKind, SmallMatrix};

/// The results along a side of each convolution's tiles.
fn tiles(program: &Program) -> Vec<usize> {
    let found = collect(program, |op| match op {
        Op::Region(region) if region.kind == RegionKind::Tiles => {
            let sums = region.body.node(region.body.results[0].node);
            let Op::Transform(transform) = &sums.op else {
                panic!("a region of tiles ends with {:?}", sums.op)
            };
            Some(transform.matrix)
        }
        _ => None,
    });
    found.iter().map(|matrix: &SmallMatrix| matrix.rows().len()).collect()
}

fn expect(members: &str, forward: &str, sizes: &[(&str, i64)], expected: &[usize]) {
    let found = trace(&module(members, forward), &[sizes]);
    assert_eq!(tiles(found.after("transform-windows")), expected, "{members} {forward}");
}

#[test]
fn windows_of_three_by_three_go_by_tiles() {
    let two = "a = Conv2d(3, 32, 1)\n b = Conv2d(32, 32, 3, padding = 1)\n c = Conv2d(32, 3, 1)";
    let forward =
        |h: i64, w: i64| format!("(x: [B, 3, {h}, {w}]) -> [B, 3, {h}, {w}] = c(relu(b(relu(a(x)))))");
    // Planes of whole tiles of four, or of two; several in a batch, or none.
    expect(two, &forward(8, 12), &[("B", 2)], &[4]);
    expect(two, &forward(8, 12), &[("B", 0)], &[4]);
    expect(two, &forward(10, 4), &[("B", 1)], &[2]);
    expect(two, &forward(7, 8), &[("B", 1)], &[]);
    // Without a border the plane is what is left.
    expect(&two.replace(", padding = 1", ""), "(x: [B, 3, 10, 6]) = c(b(a(x)))", &[("B", 1)], &[4]);
}

#[test]
fn what_follows_is_applied_at_each_point() {
    let members = "a = Conv2d(3, 32, 1)\n b = Conv2d(32, 32, 3, padding = 1)\n n = BatchNorm(32)\n c = Conv2d(32, 3, 1)";
    let forward = "(x: [B, 3, 8, 8]) { let y = relu(a(x))  c(relu(n(b(y)) + y)) }";
    let found = trace(&module(members, forward), &[&[("B", 2)]]);
    assert_eq!(tiles(found.last()), [4]);
    // The residual is added by the last transform; nothing is left of it outside.
    let sums = collect(found.last(), |op| match op {
        Op::Transform(transform) => Some(transform.epilogue.is_some()),
        _ => None,
    });
    assert_eq!(sums.iter().filter(|has| **has).count(), 1);
}

#[test]
fn other_windows_stay_as_they_are() {
    let around = |conv: &str| format!("a = Conv2d(3, 32, 1)\n b = {conv}\n c = Conv2d(32, 3, 1)");
    let forward = "(x: [B, 3, 8, 8]) = c(b(a(x)))";
    for conv in [
        "Conv2d(32, 32, 3, padding = 1, stride = 2)",
        "Conv2d(32, 32, 3, padding = 2, dilation = 2)",
        "Conv2d(32, 32, 3, padding = 1, groups = 4)",
        "Conv2d(32, 32, 5, padding = 2)",
        "Conv2d(32, 32, 1)",
    ] {
        expect(&around(conv), forward, &[("B", 1)], &[]);
    }
    // Few channels are not worth a transform.
    expect(
        "a = Conv2d(3, 8, 3, padding = 1)\n b = Conv2d(8, 32, 3, padding = 1)",
        "(x: [B, 3, 8, 8]) = b(a(x))",
        &[("B", 1)],
        &[],
    );
}

#[test]
fn weights_that_are_inputs_are_not_transformed() {
    let forward = "(x: [B, 8, 8, 32], w: [3, 3, 32, 32]) { let p[b, i: 6, j: 6, o] = sum[u, v, c] x[b, i + u, j + v, c] * w[u, v, c, o]  p }";
    expect("", forward, &[("B", 1)], &[]);
}
