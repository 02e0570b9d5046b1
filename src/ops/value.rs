//! The value of every scalar operation: a slow, obvious reference.
//!
//! Takes and gives [`Scalar`]s. Nothing here is shared with generated code, whose mathematics is
//! its own: functions are those of the Rust standard library and of `libm`.
//!
//! # Numerics
//! On f32, `+ - * /` and the square root are one correctly rounded operation; all other functions
//! are computed in f64 and rounded once, so they are correctly rounded but for about one argument
//! in 10^8. On f64 they are within an ULP or two. Integers wrap.

use super::reduce::Reducer;
use super::scalar::{BinaryOp, UnaryOp};
use crate::dtype::DType;
use std::cmp::Ordering;

/// One element.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Scalar {
    /// IEEE binary32.
    F32(f32),
    /// IEEE binary64.
    F64(f64),
    /// Signed 32-bit integer.
    I32(i32),
    /// Signed 64-bit integer.
    I64(i64),
    /// Truth value.
    Bool(bool),
}

/// Why an operation has no value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpError {
    /// The divisor of an integer division is zero.
    #[error("integer division by zero")]
    DivisionByZero,
    /// The operation is not defined for its operands' types: the graph was not verified.
    #[error("`{op}` is not defined for {operand}")]
    Undefined {
        /// The operation.
        op: &'static str,
        /// Type of its first operand.
        operand: DType,
    },
}

impl Scalar {
    /// The type.
    pub fn dtype(self) -> DType {
        match self {
            Scalar::F32(_) => DType::F32,
            Scalar::F64(_) => DType::F64,
            Scalar::I32(_) => DType::I32,
            Scalar::I64(_) => DType::I64,
            Scalar::Bool(_) => DType::Bool,
        }
    }

    /// Zero, or false.
    pub fn zero(dtype: DType) -> Scalar {
        cast(Scalar::I64(0), dtype)
    }

    /// The truth value, if it is one.
    pub fn as_bool(self) -> Option<bool> {
        if let Scalar::Bool(value) = self { Some(value) } else { None }
    }

    /// The integer, if it is an i64.
    pub fn as_i64(self) -> Option<i64> {
        if let Scalar::I64(value) = self { Some(value) } else { None }
    }

    /// Whether it is a NaN.
    pub fn is_nan(self) -> bool {
        matches!(self, Scalar::F32(x) if x.is_nan()) || matches!(self, Scalar::F64(x) if x.is_nan())
    }
}

/// The value of a unary operation.
///
/// # Errors
/// [`OpError::Undefined`] where [`UnaryOp::accepts`] says no.
pub fn apply_unary(op: UnaryOp, a: Scalar) -> Result<Scalar, OpError> {
    let value = match a {
        Scalar::F32(x) => f32_unary(op, x).map(Scalar::F32),
        Scalar::F64(x) => f64_unary(op, x).map(Scalar::F64),
        Scalar::I32(x) => match op {
            UnaryOp::Neg => Some(Scalar::I32(x.wrapping_neg())),
            UnaryOp::Abs => Some(Scalar::I32(x.wrapping_abs())),
            UnaryOp::Sign => Some(Scalar::I32(x.signum())),
            _ => None,
        },
        Scalar::I64(x) => match op {
            UnaryOp::Neg => Some(Scalar::I64(x.wrapping_neg())),
            UnaryOp::Abs => Some(Scalar::I64(x.wrapping_abs())),
            UnaryOp::Sign => Some(Scalar::I64(x.signum())),
            _ => None,
        },
        Scalar::Bool(x) => (op == UnaryOp::Not).then_some(Scalar::Bool(!x)),
    };
    value.ok_or(OpError::Undefined { op: op.name(), operand: a.dtype() })
}

fn f32_unary(op: UnaryOp, x: f32) -> Option<f32> {
    match op {
        UnaryOp::Sqrt => Some(x.sqrt()),
        UnaryOp::Rsqrt => Some(1.0 / x.sqrt()),
        _ => f64_unary(op, f64::from(x)).map(|y| y as f32),
    }
}

fn f64_unary(op: UnaryOp, x: f64) -> Option<f64> {
    Some(match op {
        UnaryOp::Not => return None,
        UnaryOp::Neg => -x,
        UnaryOp::Abs => x.abs(),
        UnaryOp::Sign if x > 0.0 => 1.0,
        UnaryOp::Sign if x < 0.0 => -1.0,
        UnaryOp::Sign => x,
        UnaryOp::Sqrt => x.sqrt(),
        UnaryOp::Rsqrt => 1.0 / x.sqrt(),
        UnaryOp::Exp => x.exp(),
        UnaryOp::Exp2 => libm::exp2(x),
        UnaryOp::Expm1 => libm::expm1(x),
        UnaryOp::Log => x.ln(),
        UnaryOp::Log2 => libm::log2(x),
        UnaryOp::Log1p => libm::log1p(x),
        UnaryOp::Sin => x.sin(),
        UnaryOp::Cos => x.cos(),
        UnaryOp::Tan => x.tan(),
        UnaryOp::Tanh => libm::tanh(x),
        UnaryOp::Sigmoid if x < 0.0 => {
            // exp(-x) would overflow long before the quotient underflows.
            let e = x.exp();
            e / (1.0 + e)
        }
        UnaryOp::Sigmoid => 1.0 / (1.0 + (-x).exp()),
        UnaryOp::Erf => libm::erf(x),
        UnaryOp::Floor => x.floor(),
        UnaryOp::Ceil => x.ceil(),
        UnaryOp::Round => x.round_ties_even(),
        UnaryOp::Trunc => x.trunc(),
    })
}

/// The value of a binary operation on operands of one type.
///
/// # Errors
/// [`OpError::DivisionByZero`], and [`OpError::Undefined`] where [`BinaryOp::accepts`] says no or
/// the types differ.
pub fn apply_binary(op: BinaryOp, a: Scalar, b: Scalar) -> Result<Scalar, OpError> {
    let undefined = OpError::Undefined { op: op.name(), operand: a.dtype() };
    if a.dtype() != b.dtype() || !op.accepts(a.dtype()) {
        return Err(undefined);
    }
    if op.is_comparison() {
        return Ok(Scalar::Bool(compare(op, a, b)));
    }
    if matches!(op, BinaryOp::Min | BinaryOp::Max) {
        let order = if op == BinaryOp::Min { Ordering::Less } else { Ordering::Greater };
        return Ok(if displaces(b, a, order) { b } else { a });
    }
    match (a, b) {
        (Scalar::F32(x), Scalar::F32(y)) => f32_binary(op, x, y).map(Scalar::F32).ok_or(undefined),
        (Scalar::F64(x), Scalar::F64(y)) => f64_binary(op, x, y).map(Scalar::F64).ok_or(undefined),
        (Scalar::I64(x), Scalar::I64(y)) => i64_binary(op, x, y, undefined).map(Scalar::I64),
        // Wrapping arithmetic modulo 2^64 is also right modulo 2^32, and quotients of i32 fit.
        (Scalar::I32(x), Scalar::I32(y)) => {
            i64_binary(op, i64::from(x), i64::from(y), undefined).map(|z| Scalar::I32(z as i32))
        }
        (Scalar::Bool(x), Scalar::Bool(y)) => match op {
            BinaryOp::And => Ok(Scalar::Bool(x && y)),
            BinaryOp::Or => Ok(Scalar::Bool(x || y)),
            _ => Err(undefined),
        },
        _ => Err(undefined),
    }
}

fn f32_binary(op: BinaryOp, x: f32, y: f32) -> Option<f32> {
    match op {
        BinaryOp::Add => Some(x + y),
        BinaryOp::Sub => Some(x - y),
        BinaryOp::Mul => Some(x * y),
        BinaryOp::Div => Some(x / y),
        BinaryOp::Pow => Some(f64::from(x).powf(f64::from(y)) as f32),
        _ => None,
    }
}

fn f64_binary(op: BinaryOp, x: f64, y: f64) -> Option<f64> {
    match op {
        BinaryOp::Add => Some(x + y),
        BinaryOp::Sub => Some(x - y),
        BinaryOp::Mul => Some(x * y),
        BinaryOp::Div => Some(x / y),
        BinaryOp::Pow => Some(x.powf(y)),
        _ => None,
    }
}

fn i64_binary(op: BinaryOp, x: i64, y: i64, undefined: OpError) -> Result<i64, OpError> {
    match op {
        BinaryOp::Add => Ok(x.wrapping_add(y)),
        BinaryOp::Sub => Ok(x.wrapping_sub(y)),
        BinaryOp::Mul => Ok(x.wrapping_mul(y)),
        BinaryOp::FloorDiv | BinaryOp::Mod if y == 0 => Err(OpError::DivisionByZero),
        BinaryOp::FloorDiv => {
            let (quotient, rest) = (x.wrapping_div(y), x.wrapping_rem(y));
            Ok(if rest != 0 && (rest < 0) != (y < 0) { quotient - 1 } else { quotient })
        }
        BinaryOp::Mod => {
            let rest = x.wrapping_rem(y);
            Ok(if rest != 0 && (rest < 0) != (y < 0) { rest + y } else { rest })
        }
        _ => Err(undefined),
    }
}

/// The order of two values of one type; `None` with a NaN. Zeros of either sign are equal.
pub fn order(a: Scalar, b: Scalar) -> Option<Ordering> {
    match (a, b) {
        (Scalar::F32(x), Scalar::F32(y)) => x.partial_cmp(&y),
        (Scalar::F64(x), Scalar::F64(y)) => x.partial_cmp(&y),
        (Scalar::I32(x), Scalar::I32(y)) => Some(x.cmp(&y)),
        (Scalar::I64(x), Scalar::I64(y)) => Some(x.cmp(&y)),
        (Scalar::Bool(x), Scalar::Bool(y)) => Some(x.cmp(&y)),
        _ => None,
    }
}

fn compare(op: BinaryOp, a: Scalar, b: Scalar) -> bool {
    let order = order(a, b);
    match op {
        BinaryOp::Eq => order == Some(Ordering::Equal),
        BinaryOp::Ne => order != Some(Ordering::Equal),
        BinaryOp::Lt => order == Some(Ordering::Less),
        BinaryOp::Le => matches!(order, Some(Ordering::Less | Ordering::Equal)),
        BinaryOp::Gt => order == Some(Ordering::Greater),
        _ => matches!(order, Some(Ordering::Greater | Ordering::Equal)),
    }
}

/// Whether `new` displaces `best` in a search for the greatest or least: the first NaN beats
/// everything, ties keep what came first.
pub fn wins(new: Scalar, best: Scalar, wanted: Ordering) -> bool {
    !best.is_nan() && (new.is_nan() || order(new, best) == Some(wanted))
}

/// Whether `new` displaces `best` as the greatest or least value: as [`wins`], and zero is above
/// negative zero, so that the result does not depend on the order (IEEE 754-2019, maximum).
pub fn displaces(new: Scalar, best: Scalar, wanted: Ordering) -> bool {
    let negative = |value: Scalar| match value {
        Scalar::F32(x) => x.is_sign_negative(),
        Scalar::F64(x) => x.is_sign_negative(),
        _ => false,
    };
    let zeros = order(new, best) == Some(Ordering::Equal);
    wins(new, best, wanted) || (zeros && negative(best).cmp(&negative(new)) == wanted)
}

/// A conversion. To a float it rounds to nearest even; from a float to an integer it truncates
/// towards zero and saturates, NaN gives 0; i64 to i32 wraps; to bool is `!= 0`.
pub fn cast(a: Scalar, dtype: DType) -> Scalar {
    macro_rules! number {
        ($x:expr) => {
            match dtype {
                // The checker refuses half precision before anything is evaluated.
                DType::F32 | DType::F16 | DType::BF16 => Scalar::F32($x as f32),
                DType::F64 => Scalar::F64($x as f64),
                DType::I32 => Scalar::I32($x as i32),
                DType::I64 => Scalar::I64($x as i64),
                DType::Bool => Scalar::Bool($x as f64 != 0.0),
            }
        };
    }
    match a {
        Scalar::F32(x) => number!(x),
        Scalar::F64(x) => number!(x),
        Scalar::I32(x) => number!(x),
        Scalar::I64(x) => number!(x),
        Scalar::Bool(x) => number!(i32::from(x)),
    }
}

/// What a reduction of terms of type `dtype` over nothing gives.
pub fn over_nothing(reducer: Reducer, dtype: DType) -> Scalar {
    let extreme = |greatest: bool| match dtype {
        DType::I32 => Scalar::I32(if greatest { i32::MAX } else { i32::MIN }),
        DType::I64 => Scalar::I64(if greatest { i64::MAX } else { i64::MIN }),
        _ => cast(Scalar::F64(if greatest { f64::INFINITY } else { f64::NEG_INFINITY }), dtype),
    };
    match reducer {
        Reducer::Sum => Scalar::zero(dtype),
        Reducer::Prod => cast(Scalar::I64(1), dtype),
        Reducer::Max => extreme(false),
        Reducer::Min => extreme(true),
        Reducer::Any => Scalar::Bool(false),
        Reducer::All => Scalar::Bool(true),
        Reducer::ArgMax | Reducer::ArgMin => Scalar::I64(0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn int(op: BinaryOp, a: i64, b: i64) -> Result<Scalar, OpError> {
        apply_binary(op, Scalar::I64(a), Scalar::I64(b))
    }

    #[test]
    fn integer_division_is_floored_and_wraps() {
        for (a, b, q, r) in [(7, 2, 3, 1), (-7, 2, -4, 1), (7, -2, -4, -1), (-7, -2, 3, -1), (6, -3, -2, 0)] {
            assert_eq!(int(BinaryOp::FloorDiv, a, b), Ok(Scalar::I64(q)));
            assert_eq!(int(BinaryOp::Mod, a, b), Ok(Scalar::I64(r)));
        }
        assert_eq!(int(BinaryOp::FloorDiv, i64::MIN, -1), Ok(Scalar::I64(i64::MIN)));
        assert_eq!(int(BinaryOp::Mod, i64::MIN, -1), Ok(Scalar::I64(0)));
        let min = apply_binary(BinaryOp::FloorDiv, Scalar::I32(i32::MIN), Scalar::I32(-1));
        assert_eq!(min, Ok(Scalar::I32(i32::MIN)));
        assert_eq!(int(BinaryOp::Mod, 1, 0), Err(OpError::DivisionByZero));
    }

    #[test]
    fn casts_saturate_truncate_and_wrap() {
        assert_eq!(cast(Scalar::F32(-1.9), DType::I32), Scalar::I32(-1));
        assert_eq!(cast(Scalar::F64(1e30), DType::I64), Scalar::I64(i64::MAX));
        assert_eq!(cast(Scalar::F32(f32::NAN), DType::I64), Scalar::I64(0));
        assert_eq!(cast(Scalar::F32(f32::NAN), DType::Bool), Scalar::Bool(true));
        assert_eq!(cast(Scalar::F32(-0.0), DType::Bool), Scalar::Bool(false));
        assert_eq!(cast(Scalar::I64(1 << 32), DType::I32), Scalar::I32(0));
        assert_eq!(cast(Scalar::I64(1 << 32), DType::Bool), Scalar::Bool(true));
        assert_eq!(cast(Scalar::I64((1 << 24) + 1), DType::F32), Scalar::F32(16_777_216.0));
        assert_eq!(cast(Scalar::Bool(true), DType::F32), Scalar::F32(1.0));
    }

    #[test]
    fn nan_wins_minimum_and_maximum_and_zeros_have_an_order() {
        for op in [BinaryOp::Min, BinaryOp::Max] {
            for (a, b) in [(f32::NAN, 1.0), (1.0, f32::NAN)] {
                assert!(apply_binary(op, Scalar::F32(a), Scalar::F32(b)).unwrap().is_nan());
            }
        }
        for (op, negative) in [(BinaryOp::Min, true), (BinaryOp::Max, false)] {
            for (a, b) in [(-0.0, 0.0), (0.0, -0.0)] {
                let zero = apply_binary(op, Scalar::F32(a), Scalar::F32(b)).unwrap();
                assert!(matches!(zero, Scalar::F32(x) if x == 0.0 && x.is_sign_negative() == negative));
            }
        }
    }

    #[test]
    fn signs_keep_zeros_and_sigmoid_keeps_small_values() {
        let sign = |x: f32| apply_unary(UnaryOp::Sign, Scalar::F32(x)).unwrap();
        assert!(sign(f32::NAN).is_nan());
        assert!(matches!(sign(-0.0), Scalar::F32(x) if x == 0.0 && x.is_sign_negative()));
        let small = apply_unary(UnaryOp::Sigmoid, Scalar::F64(-740.0)).unwrap();
        assert!(matches!(small, Scalar::F64(x) if x > 0.0));
        assert_eq!(apply_unary(UnaryOp::Round, Scalar::F32(2.5)), Ok(Scalar::F32(2.0)));
    }

    #[test]
    fn what_is_not_accepted_has_no_value() {
        let samples =
            [Scalar::F32(1.0), Scalar::F64(1.0), Scalar::I32(1), Scalar::I64(1), Scalar::Bool(true)];
        for a in samples {
            for op in [UnaryOp::Neg, UnaryOp::Not, UnaryOp::Sign, UnaryOp::Exp, UnaryOp::Floor] {
                assert_eq!(apply_unary(op, a).is_ok(), op.accepts(a.dtype()));
            }
            for op in [BinaryOp::Add, BinaryOp::Div, BinaryOp::Mod, BinaryOp::Lt, BinaryOp::Eq, BinaryOp::Or]
            {
                assert_eq!(apply_binary(op, a, a).is_ok(), op.accepts(a.dtype()));
            }
        }
    }
}
