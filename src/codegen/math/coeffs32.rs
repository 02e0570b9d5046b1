//! Constants of the f32 functions, printed by `derive.py f32`; README.md says what each stands for.
#![allow(clippy::approx_constant, reason = "leading words of multi-word constants")]

pub(super) const LN2: [f32; 2] = [0.6931472, -1.9046542e-9];
pub(super) const LOG2E: [f32; 2] = [1.442695, 1.925963e-8];
pub(super) const TWO_LOG2E: [f32; 2] = [2.88539, 3.851926e-8];
pub(super) const THIRD: [f32; 2] = [0.33333334, -9.934108e-9];
pub(super) const PIO2: [f32; 3] = [1.5707964, -4.371139e-8, -1.7151245e-15];

/// Weighted error 2^-31.0 before rounding.
pub(super) const EXP: [f32; 6] = [
    0.5,
    0.16666667,
    0.04166624,
    0.008333286,
    0.0013948593,
    0.00019907585,
];

/// Weighted error 2^-28.0 before rounding.
pub(super) const EXP2: [f32; 6] = [
    0.69314724,
    0.2402265,
    0.055502973,
    0.009618031,
    0.0013410031,
    0.00015469758,
];

/// Weighted error 2^-29.4 before rounding.
pub(super) const LOG: [f32; 3] = [
    0.66666776,
    0.39976087,
    0.29925358,
];

/// Weighted error 2^-44.3 before rounding.
pub(super) const POW_LOG: [f32; 4] = [
    0.19999999,
    0.14285937,
    0.11092507,
    0.097339265,
];

/// Weighted error 2^-29.0 before rounding.
pub(super) const TANH: [f32; 5] = [
    -0.3333332,
    0.13332616,
    -0.05385051,
    0.02105071,
    -0.0062312554,
];

/// Weighted error 2^-36.8 before rounding.
pub(super) const SIN: [f32; 4] = [
    -0.16666667,
    0.008333329,
    -0.00019839253,
    2.7172734e-6,
];

/// Weighted error 2^-32.2 before rounding.
pub(super) const COS: [f32; 3] = [
    0.041666653,
    -0.0013887649,
    2.4463172e-5,
];

/// Weighted error 2^-29.6 before rounding.
pub(super) const ERF: [f32; 7] = [
    0.12837917,
    -0.37612626,
    0.112835996,
    -0.026854401,
    0.005189443,
    -0.00080199394,
    7.885841e-5,
];

/// Weighted error 2^-30.2 before rounding.
pub(super) const ERFCX: [f32; 12] = [
    0.21080637,
    -0.074347265,
    0.02493804,
    -0.008002397,
    0.0024666076,
    -0.0007312465,
    0.00021216345,
    -6.157994e-5,
    1.4772381e-5,
    -2.7935587e-6,
    1.5966887e-6,
    -5.854127e-7,
];
