//! Exact reduction of huge arguments for the trigonometric functions (Payne and Hanek).
//!
//! A double is `m 2^e` with `m` an integer of 53 bits. Those bits of 2/pi that contribute only
//! multiples of 4 to `m 2^e 2/pi` can be dropped; 192 of the following bits times `m` leave two
//! integer bits, the quadrant, and 126 bits of fraction. No double comes closer to a multiple of
//! pi/2 than about `2^-61` of a quarter turn, so at least 64 bits of the fraction are significant.

use super::arith::{Pair, Wide, fast_two_sum, num, two_product};
use super::coeffs64::TWO_OVER_PI;
use super::format::{Format, power_of_two};
use super::trig::{Quadrant, Trig, finish};

/// The function for any finite `|x| >= 2^16`; NaN for infinities and NaN.
pub(super) fn huge<W: Wide>(a: &mut W, trig: Trig, x: W::F) -> W::F {
    let reduced = reduce(a, x);
    let y = finish(a, trig, &reduced);
    let size = a.abs(x);
    let infinity = num(a, f64::INFINITY);
    let finite = a.lt(size, infinity);
    let nan = num(a, f64::NAN);
    a.select(finite, y, nan)
}

fn reduce<W: Wide>(a: &mut W, x: W::F) -> Quadrant<W::F, W::I> {
    let bits = a.to_bits(x);
    let mask = a.i((1 << f64::MANTISSA) - 1);
    let fraction = a.iand(bits, mask);
    let hidden = a.i(1 << f64::MANTISSA);
    let m = a.ior(fraction, hidden);
    let exponent = a.ushr(bits, f64::MANTISSA);
    let mask = a.i(0x7ff);
    let exponent = a.iand(exponent, mask);
    // The table starts with 64 zero bits, so the first bit wanted stands at e + 62.
    let offset = a.i(62 - (f64::BIAS + i64::from(f64::MANTISSA)));
    let position = a.iadd(exponent, offset);

    let (hi, lo) = product(a, m, position);
    let (q, hi) = quadrant(a, hi);
    let r = to_float(a, hi, lo);
    negate_if_negative(a, bits, r, q)
}

/// The 128 leading bits of `m` times the three words of 2/pi at bit `position`.
fn product<W: Wide>(a: &mut W, m: W::I, position: W::I) -> (W::I, W::I) {
    let window = words_at(a, position);
    let mask = a.i(63);
    let by = a.iand(position, mask);
    let mut aligned = [window[0]; 3];
    for (i, slot) in aligned.iter_mut().enumerate() {
        let high = a.ishl_by(window[i], by);
        // Two shifts, since one by 64 - 0 would not be defined.
        let low = a.ushr(window[i + 1], 1);
        let rest = a.isub(mask, by);
        let low = a.ushr_by(low, rest);
        *slot = a.ior(high, low);
    }
    let [first, second, third] = aligned;
    let top = a.imul(m, first);
    let carry = a.umulhi(m, second);
    let hi = a.iadd(top, carry);
    let middle = a.imul(m, second);
    let carry = a.umulhi(m, third);
    let lo = a.iadd(middle, carry);
    let overflow = a.ult(lo, middle);
    let (one, zero) = (a.i(1), a.i(0));
    let carry = a.iselect(overflow, one, zero);
    (a.iadd(hi, carry), lo)
}

/// Four words of the table from word `position / 64`, by halving the table with the bits of the
/// index: the constants are immediates, so no data has to be addressed.
fn words_at<W: Wide>(a: &mut W, position: W::I) -> [W::I; 4] {
    let mut words: Vec<W::I> = TWO_OVER_PI.iter().map(|w| a.i(w.cast_signed())).collect();
    let zero = a.i(0);
    for step in [16usize, 8, 4, 2, 1] {
        let bit = a.i((step as i64) << 6);
        let bit = a.iand(position, bit);
        let stay = a.ieq(bit, zero);
        // After this step the index can still move by step - 1.
        let kept = (step + 3).min(words.len());
        let moved: Vec<W::I> = (0..kept)
            .map(|i| match words.get(i + step).copied() {
                Some(other) => a.iselect(stay, words[i], other),
                None => words[i],
            })
            .collect();
        words = moved;
    }
    [words[0], words[1], words[2], words[3]]
}

/// The nearest quadrant, and the top word less it, in units of `2^-62`.
fn quadrant<W: Wide>(a: &mut W, hi: W::I) -> (W::I, W::I) {
    let half = a.i(1 << 61);
    let rounded = a.iadd(hi, half);
    let q = a.ushr(rounded, 62);
    let whole = a.ishl(q, 62);
    (q, a.isub(hi, whole))
}

/// The signed fraction of a quarter turn as radians in two words.
fn to_float<W: Wide>(a: &mut W, hi: W::I, lo: W::I) -> Pair<W::F> {
    let zero = a.i(0);
    let top = a.ushr(hi, 63);
    let positive = a.ieq(top, zero);
    let negated_lo = a.isub(zero, lo);
    let no_borrow = a.ieq(lo, zero);
    let one = a.i(1);
    let borrow = a.iselect(no_borrow, zero, one);
    let negated_hi = a.isub(zero, hi);
    let negated_hi = a.isub(negated_hi, borrow);
    let hi = a.iselect(positive, hi, negated_hi);
    let lo = a.iselect(positive, lo, negated_lo);

    // Halves of 32 bits convert exactly.
    let parts = [(hi, -30), (hi, -62), (lo, -94), (lo, -126)];
    let mask = a.i(0xffff_ffff);
    let mut converted = [num(a, 0.0); 4];
    for (i, (word, scale)) in parts.into_iter().enumerate() {
        let half = if i % 2 == 0 { a.ushr(word, 32) } else { a.iand(word, mask) };
        let value = a.of_int(half);
        let scale = num(a, power_of_two(scale));
        converted[i] = a.mul(value, scale);
    }
    let high = fast_two_sum(a, converted[0], converted[1]);
    let low = a.add(converted[2], converted[3]);
    let low = a.add(high.lo, low);
    let turn = fast_two_sum(a, high.hi, low);

    let [first, second, _] = f64::PIO2;
    let (first, second) = (a.f(first), a.f(second));
    let p = two_product(a, turn.hi, first);
    let low = a.fma(turn.hi, second, p.lo);
    let low = a.fma(turn.lo, first, low);
    let r = fast_two_sum(a, p.hi, low);
    let (minus_hi, minus_lo) = (a.neg(r.hi), a.neg(r.lo));
    Pair { hi: a.select(positive, r.hi, minus_hi), lo: a.select(positive, r.lo, minus_lo) }
}

/// The reduction of `-|x|` from that of `|x|`.
fn negate_if_negative<W: Wide>(a: &mut W, bits: W::I, r: Pair<W::F>, q: W::I) -> Quadrant<W::F, W::I> {
    let sign = a.ushr(bits, 63);
    let zero = a.i(0);
    let positive = a.ieq(sign, zero);
    let (minus_hi, minus_lo) = (a.neg(r.hi), a.neg(r.lo));
    let hi = a.select(positive, r.hi, minus_hi);
    let lo = a.select(positive, r.lo, minus_lo);
    let negated = a.isub(zero, q);
    Quadrant { r: Pair { hi, lo }, q: a.iselect(positive, q, negated) }
}
