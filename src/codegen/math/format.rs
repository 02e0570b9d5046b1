//! What the two float formats differ in: widths, ranges and coefficient tables.

use super::{coeffs32, coeffs64};

/// The constants of a float format, for the functions written over [`super::arith::Arith`].
pub trait Format: Copy + 'static {
    /// Bits of the stored significand.
    const MANTISSA: u32;
    /// Bias of the exponent.
    const BIAS: i64;
    /// The sign bit.
    const SIGN: i64;
    /// `1.5 * 2^MANTISSA`: adding it rounds a small number to an integer, which then stands in
    /// the low bits.
    const MAGIC: Self;
    /// The smallest normal number.
    const MIN_NORMAL: Self;
    /// `sqrt(1/2)`, the low end of the reduced argument of logarithms.
    const SQRT_HALF: Self;
    /// Below this magnitude `expm1`, `log1p`, `sin` and `tan` return their argument.
    const TINY: Self;
    /// `exp` is zero below the first and infinite above the second.
    const EXP_RANGE: [Self; 2];
    /// `exp2` likewise; also where `pow` clamps its exponent.
    const EXP2_RANGE: [Self; 2];
    /// `expm1` is -1 below this.
    const EXPM1_LOW: Self;
    /// `tanh` is 1 above this.
    const TANH_HIGH: Self;
    /// `tanh` is a polynomial below this.
    const TANH_SPLIT: Self;
    /// `erf` is 1 above this.
    const ERF_HIGH: Self;
    /// The point about which `exp(x^2) erfc(x)` is expanded.
    const ERF_CENTRE: Self;
    /// Above this magnitude the trigonometric functions reduce their argument exactly.
    const TRIG_LIMIT: Self;

    /// `ln 2` in two words.
    const LN2: [Self; 2];
    /// `1 / ln 2` in two words.
    const LOG2E: [Self; 2];
    /// `2 / ln 2` in two words.
    const TWO_LOG2E: [Self; 2];
    /// `1 / 3` in two words.
    const THIRD: [Self; 2];
    /// `pi / 2` in three words.
    const PIO2: [Self; 3];

    /// `(e^r - 1 - r) / r^2` on `|r| <= ln 2 / 2`.
    const EXP: &'static [Self];
    /// `(2^r - 1) / r` on `|r| <= 1/2`.
    const EXP2: &'static [Self];
    /// `(2 atanh(s) / s - 2) / z` with `z = s^2`, `s <= 3 - 2 sqrt 2`.
    const LOG: &'static [Self];
    /// `((atanh(s) / s - 1) / z - 1/3) / z`, same range.
    const POW_LOG: &'static [Self];
    /// `(tanh(x) / x - 1) / z` with `z = x^2`, below `TANH_SPLIT`.
    const TANH: &'static [Self];
    /// `(sin(r) / r - 1) / z` with `z = r^2`, `|r| <= pi / 4`.
    const SIN: &'static [Self];
    /// `(cos(r) - 1 + z / 2) / z^2`, same range.
    const COS: &'static [Self];
    /// `erf(x) / x - 1` in `z = x^2`, below 1.
    const ERF: &'static [Self];
    /// `exp(x^2) erfc(x)` in `x - ERF_CENTRE`, from 1 to `ERF_HIGH`.
    const ERFCX: &'static [Self];

    /// The nearest number of the format.
    fn from_f64(c: f64) -> Self;
    /// The bits, zero-extended.
    fn bits(self) -> i64;
    /// The number with these bits.
    fn from_bits(bits: i64) -> Self;
}

/// The tables of one format, which `derive.py` prints under the names of the constants.
macro_rules! tables {
    ($module:ident) => {
        const LN2: [Self; 2] = $module::LN2;
        const LOG2E: [Self; 2] = $module::LOG2E;
        const TWO_LOG2E: [Self; 2] = $module::TWO_LOG2E;
        const THIRD: [Self; 2] = $module::THIRD;
        const PIO2: [Self; 3] = $module::PIO2;
        const EXP: &'static [Self] = &$module::EXP;
        const EXP2: &'static [Self] = &$module::EXP2;
        const LOG: &'static [Self] = &$module::LOG;
        const POW_LOG: &'static [Self] = &$module::POW_LOG;
        const TANH: &'static [Self] = &$module::TANH;
        const SIN: &'static [Self] = &$module::SIN;
        const COS: &'static [Self] = &$module::COS;
        const ERF: &'static [Self] = &$module::ERF;
        const ERFCX: &'static [Self] = &$module::ERFCX;
    };
}

impl Format for f32 {
    const MANTISSA: u32 = 23;
    const BIAS: i64 = 127;
    const SIGN: i64 = 1 << 31;
    const MAGIC: Self = 12_582_912.0;
    const MIN_NORMAL: Self = Self::MIN_POSITIVE;
    const SQRT_HALF: Self = std::f32::consts::FRAC_1_SQRT_2;
    const TINY: Self = 1.0 / (1u64 << 26) as Self;
    const EXP_RANGE: [Self; 2] = [-104.0, 89.0];
    const EXP2_RANGE: [Self; 2] = [-151.0, 129.0];
    const EXPM1_LOW: Self = -20.0;
    const TANH_HIGH: Self = 10.0;
    const TANH_SPLIT: Self = 0.55;
    const ERF_HIGH: Self = 4.0;
    const ERF_CENTRE: Self = 2.5;
    const TRIG_LIMIT: Self = 65536.0;
    tables!(coeffs32);

    fn from_f64(c: f64) -> Self {
        c as Self
    }

    fn bits(self) -> i64 {
        i64::from(self.to_bits())
    }

    fn from_bits(bits: i64) -> Self {
        Self::from_bits(bits as u32)
    }
}

impl Format for f64 {
    const MANTISSA: u32 = 52;
    const BIAS: i64 = 1023;
    const SIGN: i64 = i64::MIN;
    const MAGIC: Self = 6_755_399_441_055_744.0;
    const MIN_NORMAL: Self = Self::MIN_POSITIVE;
    const SQRT_HALF: Self = std::f64::consts::FRAC_1_SQRT_2;
    const TINY: Self = 1.0 / (1u64 << 55) as Self;
    const EXP_RANGE: [Self; 2] = [-746.0, 710.0];
    const EXP2_RANGE: [Self; 2] = [-1076.0, 1025.0];
    const EXPM1_LOW: Self = -40.0;
    const TANH_HIGH: Self = 20.0;
    const TANH_SPLIT: Self = 0.55;
    const ERF_HIGH: Self = 6.0;
    const ERF_CENTRE: Self = 3.5;
    const TRIG_LIMIT: Self = 1_048_576.0;
    tables!(coeffs64);

    fn from_f64(c: f64) -> Self {
        c
    }

    fn bits(self) -> i64 {
        self.to_bits().cast_signed()
    }

    fn from_bits(bits: i64) -> Self {
        Self::from_bits(bits.cast_unsigned())
    }
}

/// `2^n` for the exponent of a normal double.
pub(super) const fn power_of_two(n: i32) -> f64 {
    f64::from_bits(((n + 1023) as u64) << 52)
}
