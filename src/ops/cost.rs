//! What one scalar operation costs, on the scale on which costs of whole programs are given.
//!
//! A FLOP is one correctly rounded operation on floats: an addition, a comparison, a square root.
//! Functions that are computed by polynomials count apart, as transcendentals, because their
//! price in FLOPs depends on the processor. Integer arithmetic is free here: almost all of it is
//! addressing, which the code generator removes.

use super::scalar::{BinaryOp, UnaryOp};
use crate::dtype::DType;

/// The cost of one evaluation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ScalarCost {
    /// Operations that hardware has.
    pub flops: i64,
    /// Functions that are computed by polynomials.
    pub transcendentals: i64,
}

const FREE: ScalarCost = ScalarCost { flops: 0, transcendentals: 0 };
const FLOP: ScalarCost = ScalarCost { flops: 1, transcendentals: 0 };
const TRANSCENDENTAL: ScalarCost = ScalarCost { flops: 0, transcendentals: 1 };

/// # Units
/// FLOPs of one unary operation.
pub fn unary_cost_flops(op: UnaryOp, operand: DType) -> ScalarCost {
    use UnaryOp as U;
    if !operand.is_float() {
        return FREE;
    }
    match op {
        U::Not => FREE,
        U::Neg | U::Abs | U::Sign | U::Sqrt | U::Floor | U::Ceil | U::Round | U::Trunc => FLOP,
        U::Rsqrt => ScalarCost { flops: 2, transcendentals: 0 },
        U::Exp
        | U::Exp2
        | U::Expm1
        | U::Log
        | U::Log2
        | U::Log1p
        | U::Sin
        | U::Cos
        | U::Tan
        | U::Tanh
        | U::Sigmoid
        | U::Erf => TRANSCENDENTAL,
    }
}

/// # Units
/// FLOPs of one binary operation.
pub fn binary_cost_flops(op: BinaryOp, operand: DType) -> ScalarCost {
    match op {
        _ if !operand.is_float() => FREE,
        BinaryOp::Pow => TRANSCENDENTAL,
        _ => FLOP,
    }
}
