//! Logarithms: `log`, `log2`, `log1p`.
//!
//! All split `x = 2^k (1 + f)` with `1 + f` between `sqrt(1/2)` and `sqrt 2`, and take
//! `log(1 + f) = f - t` with `t` from `s = f / (2 + f)`, so that nothing cancels where the
//! result is small.

use super::arith::{Arith, fast_two_sum, horner, num, two_sum};
use super::exp::argument_if_tiny;
use super::format::{Format, power_of_two};

/// `x = 2^k m`, with `k` as a float and as the biased integer.
pub(super) struct Split<F, I> {
    pub m: F,
    pub k: F,
    biased: I,
}

/// Splits a positive normal number; anything else gives numbers without meaning.
fn split_normal<A: Arith>(a: &mut A, x: A::F) -> Split<A::F, A::I> {
    let one = A::S::BIAS << A::S::MANTISSA;
    let root = A::S::SQRT_HALF.bits();
    let bits = a.to_bits(x);
    let offset = a.i(one - root);
    let bits = a.iadd(bits, offset);
    let biased = a.ushr(bits, A::S::MANTISSA);
    let mask = a.i((1 << A::S::MANTISSA) - 1);
    let fraction = a.iand(bits, mask);
    let root = a.i(root);
    let m = a.iadd(fraction, root);
    let m = a.of_bits(m);
    // An integer added to the bits of MAGIC is MAGIC plus that integer.
    let magic = a.i(A::S::MAGIC.bits());
    let shifted = a.iadd(biased, magic);
    let shifted = a.of_bits(shifted);
    let magic = A::S::from_bits(A::S::MAGIC.bits() + A::S::BIAS);
    let magic = a.f(magic);
    let k = a.sub(shifted, magic);
    Split { m, k, biased }
}

/// Splits a positive finite number, subnormal ones included.
pub(super) fn split<A: Arith>(a: &mut A, x: A::F) -> Split<A::F, A::I> {
    let raise = f64::from(A::S::MANTISSA + 1);
    let min = a.f(A::S::MIN_NORMAL);
    let subnormal = a.lt(x, min);
    let factor = num(a, power_of_two(A::S::MANTISSA.cast_signed() + 1));
    let raised = a.mul(x, factor);
    let x = a.select(subnormal, raised, x);
    let split = split_normal(a, x);
    let lowered = num(a, raise);
    let lowered = a.sub(split.k, lowered);
    let k = a.select(subnormal, lowered, split.k);
    Split { k, ..split }
}

/// The `t` of `log(1 + f) = f - t`: `f^2/2 - s (f^2/2 + R(s^2))`.
fn log_tail<A: Arith>(a: &mut A, f: A::F) -> A::F {
    let two = num(a, 2.0);
    let denominator = a.add(two, f);
    let s = a.div(f, denominator);
    let z = a.mul(s, s);
    let p = horner(a, z, A::S::LOG);
    let half = num(a, 0.5);
    let half_f = a.mul(half, f);
    let half_square = a.mul(half_f, f);
    let inner = a.fma(z, p, half_square);
    let minus = a.neg(s);
    a.fma(minus, inner, half_square)
}

/// Puts right what the splitting does not see: `y` is kept for `0 < x < inf`.
fn log_specials<A: Arith>(a: &mut A, x: A::F, y: A::F) -> A::F {
    let infinity = num(a, f64::INFINITY);
    let below = a.lt(x, infinity);
    let y = a.select(below, y, x);
    let zero = num(a, 0.0);
    let negative = a.lt(x, zero);
    let nan = num(a, f64::NAN);
    let y = a.select(negative, nan, y);
    let is_zero = a.eq(x, zero);
    let minus = num(a, f64::NEG_INFINITY);
    a.select(is_zero, minus, y)
}

/// `k ln 2 + (f - (tail - low))`, with the first product exact.
fn assemble<A: Arith>(a: &mut A, k: A::F, f: A::F, tail: A::F, low: Option<A::F>) -> A::F {
    let [hi, lo] = A::S::LN2;
    let (hi, lo) = (a.f(hi), a.f(lo));
    let minus = a.neg(k);
    let rest = a.fma(minus, lo, tail);
    let rest = match low {
        Some(low) => a.sub(rest, low),
        None => rest,
    };
    let y = a.sub(f, rest);
    a.fma(k, hi, y)
}

/// The natural logarithm.
pub(super) fn log<A: Arith>(a: &mut A, x: A::F) -> A::F {
    let Split { m, k, .. } = split(a, x);
    let one = num(a, 1.0);
    let f = a.sub(m, one);
    let tail = log_tail(a, f);
    let y = assemble(a, k, f, tail, None);
    log_specials(a, x, y)
}

/// The logarithm to base 2; exact for powers of two.
pub(super) fn log2<A: Arith>(a: &mut A, x: A::F) -> A::F {
    let Split { m, k, .. } = split(a, x);
    let one = num(a, 1.0);
    let f = a.sub(m, one);
    let tail = log_tail(a, f);
    let [hi, lo] = A::S::LOG2E;
    let (hi, lo) = (a.f(hi), a.f(lo));
    let small = a.mul(tail, hi);
    let minus = a.neg(small);
    let small = a.fma(f, lo, minus);
    let y = a.fma(f, hi, small);
    let y = a.add(k, y);
    log_specials(a, x, y)
}

/// `log(1 + x)`: the logarithm of the rounded `u = 1 + x`, with the rounding error put back into `f`.
pub(super) fn log1p<A: Arith>(a: &mut A, x: A::F) -> A::F {
    let one = num(a, 1.0);
    let u = two_sum(a, one, x);

    let Split { m, k, biased } = split_normal(a, u.hi);
    let f = a.sub(m, one);
    // Beyond 2^60 the error is far below the last bit, and 2^-k may be subnormal.
    let twice = a.i(2 * A::S::BIAS);
    let negated = a.isub(twice, biased);
    let power = a.ishl(negated, A::S::MANTISSA);
    let power = a.of_bits(power);
    let scaled = a.mul(u.lo, power);
    let (limit, zero) = (num(a, power_of_two(60)), num(a, 0.0));
    let moderate = a.lt(x, limit);
    let scaled = a.select(moderate, scaled, zero);
    let f = fast_two_sum(a, f, scaled);

    let tail = log_tail(a, f.hi);
    let y = assemble(a, k, f.hi, tail, Some(f.lo));
    let y = argument_if_tiny(a, x, y);
    let infinity = num(a, f64::INFINITY);
    let below = a.lt(x, infinity);
    let y = a.select(below, y, x);
    let minus_one = num(a, -1.0);
    let outside = a.lt(x, minus_one);
    let nan = num(a, f64::NAN);
    let y = a.select(outside, nan, y);
    let edge = a.eq(x, minus_one);
    let minus = num(a, f64::NEG_INFINITY);
    a.select(edge, minus, y)
}
