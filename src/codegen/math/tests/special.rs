//! Special cases by value: zeros, infinities, NaN, and integers.

use super::super::integer::{floor_div_i32, floor_div_i64, floor_mod_i32, floor_mod_i64};
use super::super::{BinaryFn, MathFn, host};
use super::{same_f32, same_f64};

const INF: f32 = f32::INFINITY;
const NAN: f32 = f32::NAN;

/// IEEE 754-2019, 9.2.1.
const POWERS: &[(f32, f32, f32)] = &[
    (NAN, 0.0, 1.0),
    (INF, -0.0, 1.0),
    (0.0, 0.0, 1.0),
    (1.0, NAN, 1.0),
    (1.0, INF, 1.0),
    (-1.0, INF, 1.0),
    (-1.0, -INF, 1.0),
    (NAN, 1.0, NAN),
    (2.0, NAN, NAN),
    (-0.0, -3.0, -INF),
    (0.0, -3.0, INF),
    (-0.0, -2.0, INF),
    (-0.0, -2.5, INF),
    (0.0, -INF, INF),
    (-0.0, -INF, INF),
    (-0.0, 3.0, -0.0),
    (-0.0, 2.0, 0.0),
    (-0.0, 2.5, 0.0),
    (0.0, INF, 0.0),
    (0.5, INF, 0.0),
    (-0.5, INF, 0.0),
    (2.0, INF, INF),
    (-2.0, INF, INF),
    (0.5, -INF, INF),
    (-2.0, -INF, 0.0),
    (INF, 0.5, INF),
    (INF, -0.5, 0.0),
    (-INF, 3.0, -INF),
    (-INF, 2.0, INF),
    (-INF, 2.5, INF),
    (-INF, -3.0, -0.0),
    (-INF, -2.0, 0.0),
    (-INF, -2.5, 0.0),
    (-INF, INF, INF),
    (-INF, -INF, 0.0),
    (-8.0, 3.0, -512.0),
    (-8.0, -1.0, -0.125),
    (-8.0, 0.5, NAN),
    (-8.0, 2.0, 64.0),
    (10.0, 3.0, 1000.0),
    (2.0, -149.0, 1e-45),
    (2.0, 128.0, INF),
    (-2.0, 16_777_217.0, INF),
    (1e-45, 1.0, 1e-45),
    (3.402_823_5e38, 1.0, 3.402_823_5e38),
];

#[test]
fn powers_follow_the_standard() {
    for &(x, y, expected) in POWERS {
        let z = host::binary_f32(BinaryFn::Pow, x, y);
        assert!(same_f32(z, expected), "{x:e} ^ {y:e} = {z:e}, expected {expected:e}");
        if expected.is_normal() || expected == 0.0 || expected.is_nan() {
            let z = host::binary_f64(BinaryFn::Pow, f64::from(x), f64::from(y));
            assert!(same_f64(z, f64::from(expected)), "f64: {x:e} ^ {y:e} = {z:e}, expected {expected:e}");
        }
    }
}

#[test]
fn f64_functions_treat_zeros_infinities_and_nan() {
    let inf = f64::INFINITY;
    let nan = f64::NAN;
    let cases: &[(MathFn, f64, f64)] = &[
        (MathFn::Exp, inf, inf),
        (MathFn::Exp, -inf, 0.0),
        (MathFn::Exp, 710.0, inf),
        (MathFn::Exp, -745.2, 0.0),
        (MathFn::Exp, -745.0, 5e-324),
        (MathFn::Exp, nan, nan),
        (MathFn::Exp2, -1074.0, 5e-324),
        (MathFn::Exp2, 1024.0, inf),
        (MathFn::Expm1, -0.0, -0.0),
        (MathFn::Expm1, -inf, -1.0),
        (MathFn::Expm1, inf, inf),
        (MathFn::Expm1, 5e-324, 5e-324),
        (MathFn::Log, 0.0, -inf),
        (MathFn::Log, -0.0, -inf),
        (MathFn::Log, -1.0, nan),
        (MathFn::Log, -inf, nan),
        (MathFn::Log, inf, inf),
        (MathFn::Log, 1.0, 0.0),
        (MathFn::Log2, 5e-324, -1074.0),
        (MathFn::Log2, f64::MIN_POSITIVE, -1022.0),
        (MathFn::Log1p, -0.0, -0.0),
        (MathFn::Log1p, -1.0, -inf),
        (MathFn::Log1p, -2.0, nan),
        (MathFn::Log1p, inf, inf),
        (MathFn::Tanh, -0.0, -0.0),
        (MathFn::Tanh, -inf, -1.0),
        (MathFn::Tanh, nan, nan),
        (MathFn::Sigmoid, -inf, 0.0),
        (MathFn::Sigmoid, inf, 1.0),
        (MathFn::Sigmoid, 0.0, 0.5),
        (MathFn::Erf, -inf, -1.0),
        (MathFn::Erf, -0.0, -0.0),
        (MathFn::Erf, nan, nan),
        (MathFn::Sin, -0.0, -0.0),
        (MathFn::Sin, inf, nan),
        (MathFn::Cos, 0.0, 1.0),
        (MathFn::Cos, -inf, nan),
        (MathFn::Tan, -0.0, -0.0),
        (MathFn::Tan, nan, nan),
        (MathFn::Rsqrt, 0.0, inf),
        (MathFn::Rsqrt, inf, 0.0),
        (MathFn::Sign, -0.0, -0.0),
        (MathFn::Sign, -3.0, -1.0),
        (MathFn::Round, 2.5, 2.0),
        (MathFn::Round, -0.5, -0.0),
    ];
    for &(func, x, expected) in cases {
        let y = host::unary_f64(func, x);
        assert!(same_f64(y, expected), "{func:?}({x:e}) = {y:e}, expected {expected:e}");
    }
}

#[test]
fn minimum_and_maximum_let_nan_win_and_order_zeros() {
    assert!(host::binary_f32(BinaryFn::Min, 1.0, NAN).is_nan());
    assert!(host::binary_f32(BinaryFn::Max, NAN, INF).is_nan());
    assert!(same_f32(host::binary_f32(BinaryFn::Min, 0.0, -0.0), -0.0));
    assert!(same_f32(host::binary_f32(BinaryFn::Max, -0.0, 0.0), 0.0));
    assert_eq!(host::binary_f32(BinaryFn::Min, -INF, 3.0), -INF);
}

#[test]
fn integer_division_is_floored_and_total() {
    for (x, y, q, r) in
        [(7, 2, 3, 1), (-7, 2, -4, 1), (7, -2, -4, -1), (-7, -2, 3, -1), (6, -3, -2, 0), (5, 0, 0, 0)]
    {
        assert_eq!((floor_div_i64(x, y), floor_mod_i64(x, y)), (q, r), "{x} by {y}");
        assert_eq!(
            (floor_div_i32(x as i32, y as i32), floor_mod_i32(x as i32, y as i32)),
            (q as i32, r as i32)
        );
    }
    assert_eq!((floor_div_i64(i64::MIN, -1), floor_mod_i64(i64::MIN, -1)), (i64::MIN, 0));
    assert_eq!((floor_div_i32(i32::MIN, -1), floor_mod_i32(i32::MIN, -1)), (i32::MIN, 0));
}
