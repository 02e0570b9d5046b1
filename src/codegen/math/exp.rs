//! The exponential family: `exp`, `exp2`, `expm1`, `tanh`, `sigmoid`.
//!
//! All reduce to `e^x = 2^n e^r` with `n` an integer and `|r| <= ln 2 / 2`, where `x - n ln 2`
//! is taken with two fused steps, the first of which is exact.

use super::arith::{Arith, Pair, at_least, at_most, clamp, fast_two_sum, horner, num, with_sign_of};
use super::format::Format;

/// An argument split as `x = n ln 2 + r` (or `x = n + r` for powers of two).
struct Reduced<F> {
    r: F,
    /// `n + MAGIC`: its bits are those of MAGIC plus the integer `n`.
    shifted: F,
}

fn reduce<A: Arith>(a: &mut A, x: A::F) -> Reduced<A::F> {
    let magic = a.f(A::S::MAGIC);
    let log2e = a.f(A::S::LOG2E[0]);
    let shifted = a.fma(x, log2e, magic);
    let n = a.sub(shifted, magic);
    let minus = a.neg(n);
    let [hi, lo] = A::S::LN2;
    let hi = a.f(hi);
    let r = a.fma(minus, hi, x);
    let lo = a.f(lo);
    let r = a.fma(minus, lo, r);
    Reduced { r, shifted }
}

/// `2^(n + plus)`, which must be a normal number.
fn power_of_two<A: Arith>(a: &mut A, shifted: A::F, plus: i64) -> A::F {
    let bits = a.to_bits(shifted);
    let offset = a.i((A::S::BIAS + plus).wrapping_sub(A::S::MAGIC.bits()));
    let biased = a.iadd(bits, offset);
    let bits = a.ishl(biased, A::S::MANTISSA);
    a.of_bits(bits)
}

/// `y * 2^n` for any `n` in use, as two factors so that it overflows and underflows gradually.
fn scale<A: Arith>(a: &mut A, y: A::F, shifted: A::F) -> A::F {
    let bits = a.to_bits(shifted);
    let offset = a.i((2 * A::S::BIAS).wrapping_sub(A::S::MAGIC.bits()));
    let total = a.iadd(bits, offset);
    let half = a.ushr(total, 1);
    let rest = a.isub(total, half);
    let half = a.ishl(half, A::S::MANTISSA);
    let rest = a.ishl(rest, A::S::MANTISSA);
    let (half, rest) = (a.of_bits(half), a.of_bits(rest));
    let y = a.mul(y, half);
    a.mul(y, rest)
}

/// `e^r - 1` for a reduced argument, as a sum not yet rounded.
fn expm1_reduced<A: Arith>(a: &mut A, r: A::F) -> (A::F, A::F) {
    let square = a.mul(r, r);
    let p = horner(a, r, A::S::EXP);
    (r, a.mul(square, p))
}

fn exp_reduced<A: Arith>(a: &mut A, r: A::F) -> A::F {
    let (x, y) = expm1_reduced(a, r);
    let sum = a.add(x, y);
    let one = num(a, 1.0);
    a.add(one, sum)
}

/// `e^r` with the sum `1 + r + ...` compensated: two operations more, about 0.3 ulp less.
fn exp_reduced_closely<A: Arith>(a: &mut A, r: A::F) -> A::F {
    let (x, y) = expm1_reduced(a, r);
    let one = num(a, 1.0);
    let sum = fast_two_sum(a, one, x);
    let low = a.add(sum.lo, y);
    a.add(sum.hi, low)
}

/// `e^x`.
pub(super) fn exp<A: Arith>(a: &mut A, x: A::F) -> A::F {
    let [low, high] = A::S::EXP_RANGE;
    let x = clamp(a, x, low, high);
    let reduced = reduce(a, x);
    let y = exp_reduced(a, reduced.r);
    scale(a, y, reduced.shifted)
}

/// `e^x` where the caller knows that the result is a normal number, or that `x` is NaN.
pub(super) fn exp_normal<A: Arith>(a: &mut A, x: A::F) -> A::F {
    let reduced = reduce(a, x);
    let y = exp_reduced(a, reduced.r);
    let power = power_of_two(a, reduced.shifted, 0);
    a.mul(y, power)
}

/// `2^x`.
pub(super) fn exp2<A: Arith>(a: &mut A, x: A::F) -> A::F {
    let zero = num(a, 0.0);
    exp2_pair(a, Pair { hi: x, lo: zero })
}

/// `2^(hi + lo)`, with `lo` ignored where the result is zero or infinite.
pub(super) fn exp2_pair<A: Arith>(a: &mut A, x: Pair<A::F>) -> A::F {
    let [low, high] = A::S::EXP2_RANGE;
    let hi = clamp(a, x.hi, low, high);
    let unclamped = a.eq(hi, x.hi);
    let zero = num(a, 0.0);
    let lo = a.select(unclamped, x.lo, zero);
    let magic = a.f(A::S::MAGIC);
    let shifted = a.add(hi, magic);
    let n = a.sub(shifted, magic);
    let r = a.sub(hi, n);
    let r = a.add(r, lo);
    let p = horner(a, r, A::S::EXP2);
    let one = num(a, 1.0);
    let y = a.fma(r, p, one);
    scale(a, y, shifted)
}

/// `e^x - 1`, as `2 (2^(n-1) (e^r - 1) + (2^(n-1) - 1/2))`: halved so that nothing overflows early.
pub(super) fn expm1<A: Arith>(a: &mut A, x: A::F) -> A::F {
    let clamped = clamp(a, x, A::S::EXPM1_LOW, A::S::EXP_RANGE[1]);
    let reduced = reduce(a, clamped);
    let (r, rest) = expm1_reduced(a, reduced.r);
    let p = fast_two_sum(a, r, rest);
    let power = power_of_two(a, reduced.shifted, -1);
    let half = num(a, 0.5);
    let offset = a.sub(power, half);
    let y = a.fma(power, p.hi, offset);
    let y = a.fma(power, p.lo, y);
    let y = a.add(y, y);
    argument_if_tiny(a, x, y)
}

/// `y`, or `x` itself where `x` is so small that the function equals its argument.
pub(super) fn argument_if_tiny<A: Arith>(a: &mut A, x: A::F, y: A::F) -> A::F {
    let size = a.abs(x);
    let tiny = a.f(A::S::TINY);
    let small = a.lt(size, tiny);
    a.select(small, x, y)
}

/// The hyperbolic tangent: an odd polynomial near zero, `1 - 2 / (e^(2|x|) + 1)` beyond.
pub(super) fn tanh<A: Arith>(a: &mut A, x: A::F) -> A::F {
    let size = a.abs(x);
    let square = a.mul(size, size);
    let p = horner(a, square, A::S::TANH);
    let cube = a.mul(size, square);
    let near = a.fma(cube, p, size);

    let limited = at_most(a, size, A::S::TANH_HIGH);
    let double = a.add(limited, limited);
    let e = exp_normal(a, double);
    let (one, two) = (num(a, 1.0), num(a, 2.0));
    let denominator = a.add(e, one);
    let quotient = a.div(two, denominator);
    let far = a.sub(one, quotient);

    let split = a.f(A::S::TANH_SPLIT);
    let is_near = a.lt(size, split);
    let y = a.select(is_near, near, far);
    with_sign_of(a, y, x)
}

/// `1 / (1 + e^-x)`, from `e^-|x|` so that neither side overflows and the small side keeps its
/// relative accuracy down to the subnormal numbers.
///
/// The quotient is corrected once for the roundings of the denominator and of itself: without
/// that, results just below a power of two would be off by more than 2 ulp.
pub(super) fn sigmoid<A: Arith>(a: &mut A, x: A::F) -> A::F {
    let size = a.abs(x);
    let minus = a.neg(size);
    let exponent = at_least(a, minus, A::S::EXP_RANGE[0]);
    let reduced = reduce(a, exponent);
    let e = exp_reduced_closely(a, reduced.r);
    let e = scale(a, e, reduced.shifted);
    let (zero, one) = (num(a, 0.0), num(a, 1.0));
    let negative = a.lt(x, zero);
    let numerator = a.select(negative, e, one);
    let denominator = fast_two_sum(a, one, e);
    let inverse = a.div(one, denominator.hi);
    let quotient = a.mul(numerator, inverse);
    let minus = a.neg(quotient);
    let rest = a.fma(minus, denominator.hi, numerator);
    let rest = a.fma(minus, denominator.lo, rest);
    a.fma(rest, inverse, quotient)
}
