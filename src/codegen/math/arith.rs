//! The operations in which every math function is written once.
//!
//! A function takes an [`Arith`] and works on its values without knowing whether they are
//! numbers ([`super::host`]) or instructions being emitted ([`super::clif`]). It must be
//! straight-line: choices are made by [`Arith::select`], so that the same text serves scalars and
//! vectors. Both instantiations perform the same IEEE operations in the same order, which is why
//! their results agree bit for bit.

use super::format::Format;

/// Values of one float format with the integers and masks that go with them.
///
/// Every float operation rounds once, to nearest even. Integers are as wide as the floats and
/// wrap.
pub trait Arith {
    /// The Rust type of a constant of the format: `f32` or `f64`.
    type S: Format;
    /// A float, or a vector of floats.
    type F: Copy;
    /// An integer, or a vector of integers.
    type I: Copy;
    /// The outcome of a comparison, per lane.
    type M: Copy;

    /// A constant.
    fn f(&mut self, c: Self::S) -> Self::F;
    /// An integer constant; only the low bits of the format's width count.
    fn i(&mut self, c: i64) -> Self::I;

    /// `x + y`.
    fn add(&mut self, x: Self::F, y: Self::F) -> Self::F;
    /// `x - y`.
    fn sub(&mut self, x: Self::F, y: Self::F) -> Self::F;
    /// `x * y`.
    fn mul(&mut self, x: Self::F, y: Self::F) -> Self::F;
    /// `x / y`.
    fn div(&mut self, x: Self::F, y: Self::F) -> Self::F;
    /// `x * y + z`, rounded once.
    fn fma(&mut self, x: Self::F, y: Self::F, z: Self::F) -> Self::F;
    /// `-x`, NaN included.
    fn neg(&mut self, x: Self::F) -> Self::F;
    /// `|x|`, NaN included.
    fn abs(&mut self, x: Self::F) -> Self::F;
    /// The square root.
    fn sqrt(&mut self, x: Self::F) -> Self::F;
    /// The nearest integer, ties to even.
    fn nearest(&mut self, x: Self::F) -> Self::F;
    /// The greatest integer not above.
    fn floor(&mut self, x: Self::F) -> Self::F;
    /// The least integer not below.
    fn ceil(&mut self, x: Self::F) -> Self::F;
    /// The integer part.
    fn trunc(&mut self, x: Self::F) -> Self::F;

    /// `x < y`; false when either is NaN.
    fn lt(&mut self, x: Self::F, y: Self::F) -> Self::M;
    /// `x == y`; false when either is NaN.
    fn eq(&mut self, x: Self::F, y: Self::F) -> Self::M;
    /// Integer equality.
    fn ieq(&mut self, x: Self::I, y: Self::I) -> Self::M;
    /// Both masks.
    fn both(&mut self, p: Self::M, q: Self::M) -> Self::M;
    /// Either mask.
    fn either(&mut self, p: Self::M, q: Self::M) -> Self::M;
    /// The opposite mask.
    fn not(&mut self, p: Self::M) -> Self::M;
    /// `x` where the mask holds, `y` elsewhere.
    fn select(&mut self, p: Self::M, x: Self::F, y: Self::F) -> Self::F;

    /// The bits of a float.
    fn to_bits(&mut self, x: Self::F) -> Self::I;
    /// The float with these bits.
    fn of_bits(&mut self, x: Self::I) -> Self::F;
    /// `x + y`, wrapping.
    fn iadd(&mut self, x: Self::I, y: Self::I) -> Self::I;
    /// `x - y`, wrapping.
    fn isub(&mut self, x: Self::I, y: Self::I) -> Self::I;
    /// Bitwise and.
    fn iand(&mut self, x: Self::I, y: Self::I) -> Self::I;
    /// Bitwise or.
    fn ior(&mut self, x: Self::I, y: Self::I) -> Self::I;
    /// Shift left by a constant below the width.
    fn ishl(&mut self, x: Self::I, by: u32) -> Self::I;
    /// Logical shift right by a constant below the width.
    fn ushr(&mut self, x: Self::I, by: u32) -> Self::I;
}

/// Scalar f64 with the 64-bit integer operations that the exact argument reduction needs.
pub trait Wide: Arith<S = f64> {
    /// The low 64 bits of the product.
    fn imul(&mut self, x: Self::I, y: Self::I) -> Self::I;
    /// The high 64 bits of the unsigned product.
    fn umulhi(&mut self, x: Self::I, y: Self::I) -> Self::I;
    /// Shift left by a value below 64.
    fn ishl_by(&mut self, x: Self::I, by: Self::I) -> Self::I;
    /// Logical shift right by a value below 64.
    fn ushr_by(&mut self, x: Self::I, by: Self::I) -> Self::I;
    /// Unsigned `x < y`.
    fn ult(&mut self, x: Self::I, y: Self::I) -> Self::M;
    /// `x` where the mask holds, `y` elsewhere.
    fn iselect(&mut self, p: Self::M, x: Self::I, y: Self::I) -> Self::I;
    /// The signed integer as a float, rounded to nearest.
    fn of_int(&mut self, x: Self::I) -> Self::F;
}

/// An unevaluated sum `hi + lo` with `|lo|` at most about half an ulp of `hi`.
#[derive(Clone, Copy)]
pub(super) struct Pair<F> {
    pub hi: F,
    pub lo: F,
}

/// A constant given as a double; exact for the few small numbers it is used with.
pub(super) fn num<A: Arith>(a: &mut A, c: f64) -> A::F {
    a.f(A::S::from_f64(c))
}

/// Horner's rule with one fused multiply-add for each coefficient; the constant comes first.
pub(super) fn horner<A: Arith>(a: &mut A, x: A::F, coefficients: &[A::S]) -> A::F {
    let (last, rest) = coefficients.split_last().expect("invariant: a polynomial has a coefficient");
    let mut total = a.f(*last);
    for c in rest.iter().rev() {
        let c = a.f(*c);
        total = a.fma(total, x, c);
    }
    total
}

/// `x` kept within `[low, high]`; NaN stays NaN.
pub(super) fn clamp<A: Arith>(a: &mut A, x: A::F, low: A::S, high: A::S) -> A::F {
    let x = at_most(a, x, high);
    at_least(a, x, low)
}

/// The greater of `x` and `low`; NaN stays NaN.
pub(super) fn at_least<A: Arith>(a: &mut A, x: A::F, low: A::S) -> A::F {
    let low = a.f(low);
    let below = a.lt(x, low);
    a.select(below, low, x)
}

/// The smaller of `x` and `high`; NaN stays NaN.
pub(super) fn at_most<A: Arith>(a: &mut A, x: A::F, high: A::S) -> A::F {
    let high = a.f(high);
    let above = a.lt(high, x);
    a.select(above, high, x)
}

/// The magnitude of `x`, which is not negative, with the sign of `sign`.
pub(super) fn with_sign_of<A: Arith>(a: &mut A, x: A::F, sign: A::F) -> A::F {
    let mask = a.i(A::S::SIGN);
    let sign = a.to_bits(sign);
    let sign = a.iand(sign, mask);
    let bits = a.to_bits(x);
    let bits = a.ior(bits, sign);
    a.of_bits(bits)
}

/// `x + y` as a pair, exact when `|x| >= |y|` or `x` is zero (Dekker's Fast2Sum).
pub(super) fn fast_two_sum<A: Arith>(a: &mut A, x: A::F, y: A::F) -> Pair<A::F> {
    let hi = a.add(x, y);
    let rest = a.sub(x, hi);
    let lo = a.add(rest, y);
    Pair { hi, lo }
}

/// `x + y` as a pair, exact whatever the magnitudes (Knuth's TwoSum).
pub(super) fn two_sum<A: Arith>(a: &mut A, x: A::F, y: A::F) -> Pair<A::F> {
    let hi = a.add(x, y);
    let y_part = a.sub(hi, x);
    let x_part = a.sub(hi, y_part);
    let y_rest = a.sub(y, y_part);
    let x_rest = a.sub(x, x_part);
    Pair { hi, lo: a.add(x_rest, y_rest) }
}

/// `x * y` as a pair, exact where nothing underflows.
pub(super) fn two_product<A: Arith>(a: &mut A, x: A::F, y: A::F) -> Pair<A::F> {
    let hi = a.mul(x, y);
    let minus = a.neg(hi);
    let lo = a.fma(x, y, minus);
    Pair { hi, lo }
}
