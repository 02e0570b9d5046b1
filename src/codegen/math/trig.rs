//! `sin`, `cos` and `tan` of a moderate argument.
//!
//! `x = q pi/2 + r` is taken with `pi/2` in three words (Cody and Waite), fused, and the
//! remainder is kept in two words. Beyond `TRIG_LIMIT` the result has no meaning and the
//! caller uses [`super::reduce`], which ends in the same [`finish`].

use super::arith::{Arith, Pair, fast_two_sum, horner, num, two_product, two_sum};
use super::exp::argument_if_tiny;
use super::format::Format;

/// Which trigonometric function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trig {
    Sin,
    Cos,
    Tan,
}

/// `x` less a multiple of a quarter turn, and that multiple modulo 4 in the low bits.
pub(super) struct Quadrant<F, I> {
    pub r: Pair<F>,
    pub q: I,
}

fn reduce_moderate<A: Arith>(a: &mut A, x: A::F) -> Quadrant<A::F, A::I> {
    let magic = a.f(A::S::MAGIC);
    let two_over_pi = num(a, std::f64::consts::FRAC_2_PI);
    let shifted = a.fma(x, two_over_pi, magic);
    let n = a.sub(shifted, magic);
    let minus = a.neg(n);
    let [first, second, third] = A::S::PIO2;
    let (first, second, third) = (a.f(first), a.f(second), a.f(third));
    let r1 = a.fma(minus, first, x);
    // Near a multiple of pi/2 the second product can be larger than r1, and what cancels there
    // must cancel exactly.
    let product = two_product(a, minus, second);
    let r = two_sum(a, r1, product.hi);
    let lo = a.add(r.lo, product.lo);
    let lo = a.fma(minus, third, lo);
    Quadrant { r: Pair { hi: r.hi, lo }, q: a.to_bits(shifted) }
}

/// The sine of a reduced argument in two words, the second not small.
fn sin_reduced<A: Arith>(a: &mut A, r: &Pair<A::F>) -> (A::F, A::F) {
    let z = a.mul(r.hi, r.hi);
    let p = horner(a, z, A::S::SIN);
    let cube = a.mul(r.hi, z);
    (r.hi, a.fma(cube, p, r.lo))
}

/// The cosine of a reduced argument in two words, `1 - z/2` and the rest.
fn cos_reduced<A: Arith>(a: &mut A, r: &Pair<A::F>) -> (A::F, A::F) {
    let z = a.mul(r.hi, r.hi);
    let p = horner(a, z, A::S::COS);
    let (half, one) = (num(a, 0.5), num(a, 1.0));
    let half_z = a.mul(half, z);
    let w = a.sub(one, half_z);
    let lost = a.sub(one, w);
    let lost = a.sub(lost, half_z);
    let minus = a.neg(r.hi);
    let rest = a.fma(minus, r.lo, lost);
    let square = a.mul(z, z);
    (w, a.fma(square, p, rest))
}

/// The function's value from the reduced argument.
pub(super) fn finish<A: Arith>(a: &mut A, trig: Trig, x: &Quadrant<A::F, A::I>) -> A::F {
    let sin = sin_reduced(a, &x.r);
    let cos = cos_reduced(a, &x.r);
    let (one, zero) = (a.i(1), a.i(0));
    let low = a.iand(x.q, one);
    let even = a.ieq(low, zero);
    if trig == Trig::Tan {
        let sin = fast_two_sum(a, sin.0, sin.1);
        let cos = fast_two_sum(a, cos.0, cos.1);
        return tangent(a, even, &sin, &cos);
    }
    let sin = a.add(sin.0, sin.1);
    let cos = a.add(cos.0, cos.1);
    let (y, turn) = match trig {
        Trig::Cos => (a.select(even, cos, sin), a.iadd(x.q, one)),
        _ => (a.select(even, sin, cos), x.q),
    };
    // Bit 1 of the (shifted) quadrant is the sign.
    let two = a.i(2);
    let turn = a.iand(turn, two);
    let plus = a.ieq(turn, zero);
    let minus = a.neg(y);
    a.select(plus, y, minus)
}

/// `sin/cos` in even quadrants and `-cos/sin` in odd ones, with the quotient corrected once.
fn tangent<A: Arith>(a: &mut A, even: A::M, sin: &Pair<A::F>, cos: &Pair<A::F>) -> A::F {
    let (minus_hi, minus_lo) = (a.neg(sin.hi), a.neg(sin.lo));
    let top = Pair { hi: a.select(even, sin.hi, cos.hi), lo: a.select(even, sin.lo, cos.lo) };
    let bottom = Pair { hi: a.select(even, cos.hi, minus_hi), lo: a.select(even, cos.lo, minus_lo) };
    let one = num(a, 1.0);
    let inverse = a.div(one, bottom.hi);
    let quotient = a.mul(top.hi, inverse);
    let minus = a.neg(quotient);
    let rest = a.fma(minus, bottom.hi, top.hi);
    let low = a.fma(minus, bottom.lo, top.lo);
    let rest = a.add(rest, low);
    a.fma(rest, inverse, quotient)
}

/// The function for `|x| <= TRIG_LIMIT`.
pub(super) fn moderate<A: Arith>(a: &mut A, trig: Trig, x: A::F) -> A::F {
    let reduced = reduce_moderate(a, x);
    let y = finish(a, trig, &reduced);
    match trig {
        Trig::Cos => y,
        _ => argument_if_tiny(a, x, y),
    }
}
