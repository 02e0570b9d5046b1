//! Powers: `x^y = 2^(y log2 |x|)`, with the logarithm in two words.
//!
//! The exponent can reach 150 (1075 in f64), so the logarithm must be good to 8 (11) bits more
//! than the format has. The first two terms of `atanh(s) = s + s^3/3 + s^5 Q(s^2)` are therefore
//! carried in two words; the third is below `2^-12` of the first and needs one.

use super::arith::{Arith, Pair, fast_two_sum, horner, num, two_product, with_sign_of};
use super::exp::exp2_pair;
use super::format::Format;
use super::log::{Split, split};

/// `s = (m - 1) / (m + 1)` in two words.
fn atanh_argument<A: Arith>(a: &mut A, m: A::F) -> Pair<A::F> {
    let one = num(a, 1.0);
    let f = a.sub(m, one);
    let denominator = a.add(m, one);
    // Exact for m between sqrt(1/2) and sqrt 2.
    let back = a.sub(denominator, one);
    let denominator_low = a.sub(m, back);
    let hi = a.div(f, denominator);
    let minus = a.neg(hi);
    let rest = a.fma(minus, denominator, f);
    let rest = a.fma(minus, denominator_low, rest);
    let lo = a.div(rest, denominator);
    Pair { hi, lo }
}

/// The product of two pairs, without the term that both low words make.
fn multiply<A: Arith>(a: &mut A, x: &Pair<A::F>, y: &Pair<A::F>) -> Pair<A::F> {
    let p = two_product(a, x.hi, y.hi);
    let lo = a.fma(x.hi, y.lo, p.lo);
    let lo = a.fma(x.lo, y.hi, lo);
    Pair { hi: p.hi, lo }
}

/// The sum of two pairs where the first is the larger, or zero.
fn sum<A: Arith>(a: &mut A, x: &Pair<A::F>, y: &Pair<A::F>) -> Pair<A::F> {
    let s = fast_two_sum(a, x.hi, y.hi);
    let low = a.add(x.lo, y.lo);
    let low = a.add(s.lo, low);
    fast_two_sum(a, s.hi, low)
}

fn constant<A: Arith>(a: &mut A, [hi, lo]: [A::S; 2]) -> Pair<A::F> {
    Pair { hi: a.f(hi), lo: a.f(lo) }
}

/// `log2 x` of a positive finite number in two words.
fn log2_pair<A: Arith>(a: &mut A, x: A::F) -> Pair<A::F> {
    let Split { m, k, .. } = split(a, x);
    let s = atanh_argument(a, m);
    let z = multiply(a, &s, &s);
    let q = horner(a, z.hi, A::S::POW_LOG);
    let zero = num(a, 0.0);
    let third_term = Pair { hi: a.mul(z.hi, q), lo: zero };
    let third = constant(a, A::S::THIRD);
    let c = sum(a, &third, &third_term);
    let w = multiply(a, &z, &c);
    let v = multiply(a, &s, &w);
    let half_log = sum(a, &s, &v);
    let scale = constant(a, A::S::TWO_LOG2E);
    let fraction = multiply(a, &half_log, &scale);
    sum(a, &Pair { hi: k, lo: zero }, &fraction)
}

/// Where `y` is an integer, and where an odd one; infinities count as even.
fn parity<A: Arith>(a: &mut A, y: A::F) -> (A::M, A::M) {
    let rounded = a.nearest(y);
    let integer = a.eq(rounded, y);
    let half = num(a, 0.5);
    let half = a.mul(y, half);
    let rounded = a.nearest(half);
    let even = a.eq(rounded, half);
    let not_even = a.not(even);
    (integer, a.both(integer, not_even))
}

/// `x^y` with every special case of IEEE 754-2019, 9.2.1.
pub(super) fn pow<A: Arith>(a: &mut A, x: A::F, y: A::F) -> A::F {
    let (zero, one, infinity) = (num(a, 0.0), num(a, 1.0), num(a, f64::INFINITY));
    let size = a.abs(x);
    let log = log2_pair(a, size);
    let is_zero = a.eq(size, zero);
    let minus_infinity = a.neg(infinity);
    let hi = a.select(is_zero, minus_infinity, log.hi);
    let finite = a.lt(size, infinity);
    // This also hands on a NaN in x.
    let hi = a.select(finite, hi, size);

    let product = two_product(a, y, hi);
    let lo = a.fma(y, log.lo, product.lo);
    let magnitude = exp2_pair(a, Pair { hi: product.hi, lo });

    let (integer, odd) = parity(a, y);
    let signed = with_sign_of(a, magnitude, x);
    let power = a.select(odd, signed, magnitude);

    let negative = a.lt(x, zero);
    let fractional = a.not(integer);
    let undefined = a.both(negative, fractional);
    let undefined = a.both(undefined, finite);
    let nan = num(a, f64::NAN);
    let power = a.select(undefined, nan, power);

    let exponent_zero = a.eq(y, zero);
    let base_one = a.eq(x, one);
    let size_one = a.eq(size, one);
    let exponent_size = a.abs(y);
    let exponent_infinite = a.eq(exponent_size, infinity);
    let unit = a.both(size_one, exponent_infinite);
    let is_one = a.either(exponent_zero, base_one);
    let is_one = a.either(is_one, unit);
    a.select(is_one, one, power)
}
