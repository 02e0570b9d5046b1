//! The mathematical functions of generated code: no libm, no symbols, no data.
//!
//! Each function is written once over [`arith::Arith`] and used twice: [`emit`] turns it into
//! Cranelift instructions for F32, F32X4, F64 and F64X2, and [`host`] computes it in Rust with
//! the same bits. README.md derives the reductions and polynomials; `derive.py` prints the
//! coefficients. [`super::vector`] brings a third arithmetic. The module knows floats and a
//! `FunctionBuilder`, and nothing of the IRs.

pub mod arith;
mod clif;
#[rustfmt::skip]
mod coeffs32;
#[rustfmt::skip]
mod coeffs64;
pub mod emit;
mod erf;
mod exp;
pub mod format;
pub mod host;
pub mod integer;
mod log;
mod pow;
mod reduce;
#[cfg(test)]
mod tests;
mod trig;

use crate::ops::scalar::UnaryOp;
use arith::{Arith, num};
use trig::Trig;

/// A function of one float.
///
/// # Numerics
/// Within 2 ulp of the exact result for every argument of either format, subnormal arguments and
/// results included. The figure at a variant bounds its error in ulp over all f32, every one of which
/// was tried; f64 stayed below 1.5 in samples. Zeros keep their sign where the function is odd. NaN gives NaN.
///
/// # Source
/// README.md beside this file; Cody and Waite 1980; Payne and Hanek 1983; Tang 1992; Muller et al.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MathFn {
    /// `|x|`, exact.
    Abs,
    /// `-x`, exact.
    Neg,
    /// -1, 0 or 1; zeros and NaN are handed on.
    Sign,
    /// The greatest integer not above, exact.
    Floor,
    /// The least integer not below, exact.
    Ceil,
    /// The nearest integer, ties to even, exact.
    Round,
    /// The integer part, exact.
    Trunc,
    /// The square root, correctly rounded.
    Sqrt,
    /// `1 / sqrt(x)`, two roundings; 1.5 ulp.
    Rsqrt,
    /// `e^x`; 1.0 ulp.
    Exp,
    /// `2^x`; 1.0 ulp.
    Exp2,
    /// `e^x - 1`; 1.4 ulp.
    Expm1,
    /// The natural logarithm; -inf at zero, NaN below; 0.9 ulp.
    Log,
    /// The logarithm to base 2, exact for powers of two; 1.1 ulp.
    Log2,
    /// `log(1 + x)`; 1.0 ulp.
    Log1p,
    /// The hyperbolic tangent; 1.5 ulp.
    Tanh,
    /// `1 / (1 + e^-x)`; 1.5 ulp.
    Sigmoid,
    /// The error function; 1.25 ulp.
    Erf,
    /// The sine, of any argument; 0.9 ulp.
    Sin,
    /// The cosine, of any argument; 0.9 ulp.
    Cos,
    /// The tangent, of any argument; 1.25 ulp.
    Tan,
}

/// A function of two floats of one format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BinaryFn {
    /// `x^y` with the special cases of IEEE 754-2019; 1.1 ulp over 2^28 sampled pairs of f32.
    Pow,
    /// The smaller; NaN if either is NaN; -0 is below +0.
    Min,
    /// The greater; NaN if either is NaN; -0 is below +0.
    Max,
}

/// A function of one value over any arithmetic; not the trigonometric ones, which need branches.
pub(super) fn straight_line<A: Arith>(a: &mut A, func: MathFn, x: A::F) -> A::F {
    debug_assert!(func.trig().is_none(), "invariant: a function without branches");
    apply_unary(a, func, x)
}

/// `x^y` over any arithmetic.
pub(super) fn power<A: Arith>(a: &mut A, x: A::F, y: A::F) -> A::F {
    pow::pow(a, x, y)
}

impl MathFn {
    /// The function for an operation on floats.
    pub(super) fn of(op: UnaryOp) -> Option<Self> {
        Some(match op {
            UnaryOp::Neg => MathFn::Neg,
            UnaryOp::Abs => MathFn::Abs,
            UnaryOp::Sign => MathFn::Sign,
            UnaryOp::Sqrt => MathFn::Sqrt,
            UnaryOp::Rsqrt => MathFn::Rsqrt,
            UnaryOp::Exp => MathFn::Exp,
            UnaryOp::Exp2 => MathFn::Exp2,
            UnaryOp::Expm1 => MathFn::Expm1,
            UnaryOp::Log => MathFn::Log,
            UnaryOp::Log2 => MathFn::Log2,
            UnaryOp::Log1p => MathFn::Log1p,
            UnaryOp::Sin => MathFn::Sin,
            UnaryOp::Cos => MathFn::Cos,
            UnaryOp::Tan => MathFn::Tan,
            UnaryOp::Tanh => MathFn::Tanh,
            UnaryOp::Sigmoid => MathFn::Sigmoid,
            UnaryOp::Erf => MathFn::Erf,
            UnaryOp::Floor => MathFn::Floor,
            UnaryOp::Ceil => MathFn::Ceil,
            UnaryOp::Round => MathFn::Round,
            UnaryOp::Trunc => MathFn::Trunc,
            UnaryOp::Not => return None,
        })
    }

    /// Every function, in the order of the declaration.
    pub const ALL: [Self; 21] = [
        Self::Abs,
        Self::Neg,
        Self::Sign,
        Self::Floor,
        Self::Ceil,
        Self::Round,
        Self::Trunc,
        Self::Sqrt,
        Self::Rsqrt,
        Self::Exp,
        Self::Exp2,
        Self::Expm1,
        Self::Log,
        Self::Log2,
        Self::Log1p,
        Self::Tanh,
        Self::Sigmoid,
        Self::Erf,
        Self::Sin,
        Self::Cos,
        Self::Tan,
    ];

    /// The name in lower case.
    pub fn name(self) -> &'static str {
        match self {
            Self::Abs => "abs",
            Self::Neg => "neg",
            Self::Sign => "sign",
            Self::Floor => "floor",
            Self::Ceil => "ceil",
            Self::Round => "round",
            Self::Trunc => "trunc",
            Self::Sqrt => "sqrt",
            Self::Rsqrt => "rsqrt",
            Self::Exp => "exp",
            Self::Exp2 => "exp2",
            Self::Expm1 => "expm1",
            Self::Log => "log",
            Self::Log2 => "log2",
            Self::Log1p => "log1p",
            Self::Tanh => "tanh",
            Self::Sigmoid => "sigmoid",
            Self::Erf => "erf",
            Self::Sin => "sin",
            Self::Cos => "cos",
            Self::Tan => "tan",
        }
    }

    /// The functions that reduce their argument by quarter turns.
    fn trig(self) -> Option<Trig> {
        match self {
            Self::Sin => Some(Trig::Sin),
            Self::Cos => Some(Trig::Cos),
            Self::Tan => Some(Trig::Tan),
            _ => None,
        }
    }
}

impl BinaryFn {
    /// The name in lower case.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pow => "pow",
            Self::Min => "min",
            Self::Max => "max",
        }
    }
}

/// The straight-line functions, over either instantiation.
///
/// The trigonometric functions hold here only up to `TRIG_LIMIT`.
fn apply_unary<A: Arith>(a: &mut A, func: MathFn, x: A::F) -> A::F {
    match func {
        MathFn::Abs => a.abs(x),
        MathFn::Neg => a.neg(x),
        MathFn::Sign => sign(a, x),
        MathFn::Floor => a.floor(x),
        MathFn::Ceil => a.ceil(x),
        MathFn::Round => a.nearest(x),
        MathFn::Trunc => a.trunc(x),
        MathFn::Sqrt => a.sqrt(x),
        MathFn::Rsqrt => {
            let root = a.sqrt(x);
            let one = num(a, 1.0);
            a.div(one, root)
        }
        MathFn::Exp => exp::exp(a, x),
        MathFn::Exp2 => exp::exp2(a, x),
        MathFn::Expm1 => exp::expm1(a, x),
        MathFn::Log => log::log(a, x),
        MathFn::Log2 => log::log2(a, x),
        MathFn::Log1p => log::log1p(a, x),
        MathFn::Tanh => exp::tanh(a, x),
        MathFn::Sigmoid => exp::sigmoid(a, x),
        MathFn::Erf => erf::erf(a, x),
        MathFn::Sin => trig::moderate(a, Trig::Sin, x),
        MathFn::Cos => trig::moderate(a, Trig::Cos, x),
        MathFn::Tan => trig::moderate(a, Trig::Tan, x),
    }
}

fn sign<A: Arith>(a: &mut A, x: A::F) -> A::F {
    let (zero, one, minus_one) = (num(a, 0.0), num(a, 1.0), num(a, -1.0));
    let positive = a.lt(zero, x);
    let negative = a.lt(x, zero);
    let y = a.select(negative, minus_one, x);
    a.select(positive, one, y)
}
