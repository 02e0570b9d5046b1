//! The error function.

use super::arith::{Arith, at_most, horner, num, with_sign_of};
use super::exp::exp_normal;
use super::format::Format;

/// `erf(x)`: `x + x P(x^2)` below 1; beyond, `1 - exp(-x^2) Q(x)` with `Q` the scaled
/// complement, whose relative error hardly matters since `erfc(1)` is already 0.16.
pub(super) fn erf<A: Arith>(a: &mut A, x: A::F) -> A::F {
    let size = a.abs(x);
    let square = a.mul(size, size);
    let p = horner(a, square, A::S::ERF);
    let near = a.fma(size, p, size);

    let limited = at_most(a, size, A::S::ERF_HIGH);
    let minus = a.neg(limited);
    let exponent = a.mul(minus, limited);
    let e = exp_normal(a, exponent);
    let centre = a.f(A::S::ERF_CENTRE);
    let t = a.sub(limited, centre);
    let q = horner(a, t, A::S::ERFCX);
    let one = num(a, 1.0);
    let minus = a.neg(e);
    let far = a.fma(minus, q, one);

    let is_near = a.lt(size, one);
    let y = a.select(is_near, near, far);
    with_sign_of(a, y, x)
}
