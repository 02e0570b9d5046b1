//! Functions of the standard library against their definitions, natively, on numbers that others'
//! cases leave out: thresholds, infinities, NaN.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use mdlc::{Compiler, Tensor, Weights};

/// `expression` of x, in native code.
fn computed(expression: &str, x: &[f32]) -> Vec<f32> {
    let source = format!("module M {{ forward(x: [N]) -> [N] = {expression} }}\nmodel m = M()");
    let compiled = Compiler::new().compile_source("m.mdl", &source).unwrap();
    let model = compiled.bind(&Weights::initialised(0)).unwrap();
    let x = Tensor::new([x.len()], x.to_vec()).unwrap();
    model.call([("x", x.view())]).unwrap().get("y").unwrap().as_f32().unwrap().to_vec()
}

/// Equal bits; any NaN is a NaN.
fn assert_same(expression: &str, x: &[f32], wanted: &[f32]) {
    let found = computed(expression, x);
    let bits =
        |v: &[f32]| v.iter().map(|v| if v.is_nan() { u32::MAX } else { v.to_bits() }).collect::<Vec<_>>();
    assert_eq!(bits(&found), bits(wanted), "{expression} of {x:?}: {found:?}");
}

const INF: f32 = f32::INFINITY;
const NAN: f32 = f32::NAN;

#[test]
fn shrinking_keeps_what_is_large() {
    let x = [-INF, -2.0, -0.5, -0.25, 0.0, 0.5, 0.75, INF, NAN];
    assert_same("hardshrink(x)", &x, &[-INF, -2.0, 0.0, 0.0, 0.0, 0.0, 0.75, INF, NAN]);
    assert_same("hardshrink(x, 1.0)", &x, &[-INF, -2.0, 0.0, 0.0, 0.0, 0.0, 0.0, INF, NAN]);
    assert_same("softshrink(x)", &x, &[-INF, -1.5, 0.0, 0.0, 0.0, 0.0, 0.25, INF, NAN]);
    let found = computed("tanhshrink(x)", &[-0.25])[0];
    assert!((f64::from(found) - (-0.25 - (-0.25_f64).tanh())).abs() < 1e-7, "{found}");
    assert_same("tanhshrink(x)", &[INF, NAN], &[INF, NAN]);
}

#[test]
fn powers_and_logarithms_of_two_are_exact() {
    let x = [-149.0, -1.0, 0.0, 3.0, 127.0, 128.0, -INF, NAN];
    let powers = [f32::from_bits(1), 0.5, 1.0, 8.0, f32::from_bits(0x7f00_0000), INF, 0.0, NAN];
    assert_same("exp2(x)", &x, &powers);
    assert_same("log2(x)", &powers[..6], &[-149.0, -1.0, 0.0, 3.0, 127.0, INF]);
    assert_same("log2(x)", &[0.0, -1.0, NAN], &[-INF, NAN, NAN]);
}
