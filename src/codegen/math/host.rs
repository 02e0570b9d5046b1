//! The math functions as plain Rust, for the loop interpreter and for tests.
//!
//! The same operations in the same order as the emitted code, so the same bits. Only the sign
//! and payload of a NaN may differ.

use std::marker::PhantomData;

use super::arith::{Arith, Wide};
use super::format::Format;
use super::trig::{self, Trig};
use super::{BinaryFn, MathFn, apply_unary, pow, reduce};

/// Arithmetic on scalars of the format `S`.
#[derive(Default)]
struct Host<S>(PhantomData<S>);

macro_rules! host_arith {
    ($float:ident, $int:ident) => {
        impl Arith for Host<$float> {
            type S = $float;
            type F = $float;
            type I = $int;
            type M = bool;

            fn f(&mut self, c: $float) -> $float {
                c
            }
            fn i(&mut self, c: i64) -> $int {
                c as $int
            }
            fn add(&mut self, x: $float, y: $float) -> $float {
                x + y
            }
            fn sub(&mut self, x: $float, y: $float) -> $float {
                x - y
            }
            fn mul(&mut self, x: $float, y: $float) -> $float {
                x * y
            }
            fn div(&mut self, x: $float, y: $float) -> $float {
                x / y
            }
            fn fma(&mut self, x: $float, y: $float, z: $float) -> $float {
                x.mul_add(y, z)
            }
            fn neg(&mut self, x: $float) -> $float {
                -x
            }
            fn abs(&mut self, x: $float) -> $float {
                x.abs()
            }
            fn sqrt(&mut self, x: $float) -> $float {
                x.sqrt()
            }
            fn nearest(&mut self, x: $float) -> $float {
                x.round_ties_even()
            }
            fn floor(&mut self, x: $float) -> $float {
                x.floor()
            }
            fn ceil(&mut self, x: $float) -> $float {
                x.ceil()
            }
            fn trunc(&mut self, x: $float) -> $float {
                x.trunc()
            }
            fn lt(&mut self, x: $float, y: $float) -> bool {
                x < y
            }
            fn eq(&mut self, x: $float, y: $float) -> bool {
                x == y
            }
            fn ieq(&mut self, x: $int, y: $int) -> bool {
                x == y
            }
            fn both(&mut self, p: bool, q: bool) -> bool {
                p & q
            }
            fn either(&mut self, p: bool, q: bool) -> bool {
                p | q
            }
            fn not(&mut self, p: bool) -> bool {
                !p
            }
            fn select(&mut self, p: bool, x: $float, y: $float) -> $float {
                if p { x } else { y }
            }
            fn to_bits(&mut self, x: $float) -> $int {
                x.to_bits().cast_signed()
            }
            fn of_bits(&mut self, x: $int) -> $float {
                $float::from_bits(x.cast_unsigned())
            }
            fn iadd(&mut self, x: $int, y: $int) -> $int {
                x.wrapping_add(y)
            }
            fn isub(&mut self, x: $int, y: $int) -> $int {
                x.wrapping_sub(y)
            }
            fn iand(&mut self, x: $int, y: $int) -> $int {
                x & y
            }
            fn ior(&mut self, x: $int, y: $int) -> $int {
                x | y
            }
            fn ishl(&mut self, x: $int, by: u32) -> $int {
                x << by
            }
            fn ushr(&mut self, x: $int, by: u32) -> $int {
                (x.cast_unsigned() >> by).cast_signed()
            }
        }
    };
}

host_arith!(f32, i32);
host_arith!(f64, i64);

impl Wide for Host<f64> {
    fn imul(&mut self, x: i64, y: i64) -> i64 {
        x.wrapping_mul(y)
    }
    fn umulhi(&mut self, x: i64, y: i64) -> i64 {
        let product = u128::from(x.cast_unsigned()) * u128::from(y.cast_unsigned());
        ((product >> 64) as u64).cast_signed()
    }
    fn ishl_by(&mut self, x: i64, by: i64) -> i64 {
        x << by
    }
    fn ushr_by(&mut self, x: i64, by: i64) -> i64 {
        (x.cast_unsigned() >> by).cast_signed()
    }
    fn ult(&mut self, x: i64, y: i64) -> bool {
        x.cast_unsigned() < y.cast_unsigned()
    }
    fn iselect(&mut self, p: bool, x: i64, y: i64) -> i64 {
        if p { x } else { y }
    }
    fn of_int(&mut self, x: i64) -> f64 {
        x as f64
    }
}

fn trig_f32(trig: Trig, x: f32) -> f32 {
    if x.abs() > f32::TRIG_LIMIT {
        reduce::huge(&mut Host::<f64>::default(), trig, f64::from(x)) as f32
    } else {
        trig::moderate(&mut Host::<f32>::default(), trig, x)
    }
}

fn trig_f64(trig: Trig, x: f64) -> f64 {
    let mut a = Host::<f64>::default();
    if x.abs() > f64::TRIG_LIMIT { reduce::huge(&mut a, trig, x) } else { trig::moderate(&mut a, trig, x) }
}

/// A function of one f32.
///
/// # Numerics
/// The bits of the emitted code; see [`MathFn`] for the bounds.
pub fn unary_f32(func: MathFn, x: f32) -> f32 {
    match func.trig() {
        Some(trig) => trig_f32(trig, x),
        None => apply_unary(&mut Host::<f32>::default(), func, x),
    }
}

/// A function of one f64.
///
/// # Numerics
/// The bits of the emitted code; see [`MathFn`] for the bounds.
pub fn unary_f64(func: MathFn, x: f64) -> f64 {
    match func.trig() {
        Some(trig) => trig_f64(trig, x),
        None => apply_unary(&mut Host::<f64>::default(), func, x),
    }
}

/// A function of two f32.
pub fn binary_f32(func: BinaryFn, x: f32, y: f32) -> f32 {
    match func {
        BinaryFn::Pow => pow::pow(&mut Host::<f32>::default(), x, y),
        BinaryFn::Min if x.is_nan() || y.is_nan() => f32::NAN,
        BinaryFn::Max if x.is_nan() || y.is_nan() => f32::NAN,
        // The zeros are ordered, so the order of the arguments never shows.
        BinaryFn::Min => {
            if x.total_cmp(&y).is_le() {
                x
            } else {
                y
            }
        }
        BinaryFn::Max => {
            if x.total_cmp(&y).is_ge() {
                x
            } else {
                y
            }
        }
    }
}

/// A function of two f64.
pub fn binary_f64(func: BinaryFn, x: f64, y: f64) -> f64 {
    match func {
        BinaryFn::Pow => pow::pow(&mut Host::<f64>::default(), x, y),
        BinaryFn::Min if x.is_nan() || y.is_nan() => f64::NAN,
        BinaryFn::Max if x.is_nan() || y.is_nan() => f64::NAN,
        BinaryFn::Min => {
            if x.total_cmp(&y).is_le() {
                x
            } else {
                y
            }
        }
        BinaryFn::Max => {
            if x.total_cmp(&y).is_ge() {
                x
            } else {
                y
            }
        }
    }
}
