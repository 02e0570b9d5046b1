//! Operations on scalars, as PyTorch and ONNX name them.

use crate::dtype::DType;

/// A function of one scalar. The result has the operand's type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum UnaryOp {
    /// `-x`; integers wrap.
    Neg,
    /// Logical negation of a bool.
    Not,
    /// Absolute value; integers wrap.
    Abs,
    /// -1, 0 or 1; NaN and signed zeros stay.
    Sign,
    /// Square root, correctly rounded.
    Sqrt,
    /// `1 / sqrt(x)`, two roundings.
    Rsqrt,
    /// Natural exponential.
    Exp,
    /// Two to the power of x.
    Exp2,
    /// `exp(x) - 1`.
    Expm1,
    /// Natural logarithm.
    Log,
    /// Logarithm to base 2.
    Log2,
    /// `log(1 + x)`.
    Log1p,
    /// Sine, radians.
    Sin,
    /// Cosine, radians.
    Cos,
    /// Tangent, radians.
    Tan,
    /// Hyperbolic tangent.
    Tanh,
    /// `1 / (1 + exp(-x))`.
    Sigmoid,
    /// Error function.
    Erf,
    /// Towards minus infinity.
    Floor,
    /// Towards plus infinity.
    Ceil,
    /// To nearest, ties to even.
    Round,
    /// Towards zero.
    Trunc,
}

/// A function of two scalars of one type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum BinaryOp {
    /// Sum; integers wrap.
    Add,
    /// Difference; integers wrap.
    Sub,
    /// Product; integers wrap.
    Mul,
    /// Real quotient; floats only.
    Div,
    /// Quotient rounded down; integers only. A zero divisor is an error of the call.
    FloorDiv,
    /// Remainder with the divisor's sign; integers only. A zero divisor is an error of the call.
    Mod,
    /// Power; floats only, as IEEE `pow`.
    Pow,
    /// The smaller; NaN wins, negative zero is below zero.
    Min,
    /// The larger; NaN wins, negative zero is below zero.
    Max,
    /// Equal.
    Eq,
    /// Not equal.
    Ne,
    /// Less.
    Lt,
    /// At most.
    Le,
    /// Greater.
    Gt,
    /// At least.
    Ge,
    /// Both; bools only.
    And,
    /// Either; bools only.
    Or,
}

impl UnaryOp {
    /// Every operation, in the order of the declaration.
    pub const ALL: [UnaryOp; 22] = [
        UnaryOp::Neg,
        UnaryOp::Not,
        UnaryOp::Abs,
        UnaryOp::Sign,
        UnaryOp::Sqrt,
        UnaryOp::Rsqrt,
        UnaryOp::Exp,
        UnaryOp::Exp2,
        UnaryOp::Expm1,
        UnaryOp::Log,
        UnaryOp::Log2,
        UnaryOp::Log1p,
        UnaryOp::Sin,
        UnaryOp::Cos,
        UnaryOp::Tan,
        UnaryOp::Tanh,
        UnaryOp::Sigmoid,
        UnaryOp::Erf,
        UnaryOp::Floor,
        UnaryOp::Ceil,
        UnaryOp::Round,
        UnaryOp::Trunc,
    ];

    /// Whether the op is defined for operands of a type.
    pub fn accepts(self, operand: DType) -> bool {
        match self {
            UnaryOp::Not => operand == DType::Bool,
            UnaryOp::Neg | UnaryOp::Abs | UnaryOp::Sign => operand.is_float() || operand.is_int(),
            _ => operand.is_float(),
        }
    }

    /// The type of the result for an operand type.
    pub fn result(self, operand: DType) -> DType {
        operand
    }

    /// Name as printed and as written in the language.
    pub const fn name(self) -> &'static str {
        match self {
            UnaryOp::Neg => "neg",
            UnaryOp::Not => "not",
            UnaryOp::Abs => "abs",
            UnaryOp::Sign => "sign",
            UnaryOp::Sqrt => "sqrt",
            UnaryOp::Rsqrt => "rsqrt",
            UnaryOp::Exp => "exp",
            UnaryOp::Exp2 => "exp2",
            UnaryOp::Expm1 => "expm1",
            UnaryOp::Log => "log",
            UnaryOp::Log2 => "log2",
            UnaryOp::Log1p => "log1p",
            UnaryOp::Sin => "sin",
            UnaryOp::Cos => "cos",
            UnaryOp::Tan => "tan",
            UnaryOp::Tanh => "tanh",
            UnaryOp::Sigmoid => "sigmoid",
            UnaryOp::Erf => "erf",
            UnaryOp::Floor => "floor",
            UnaryOp::Ceil => "ceil",
            UnaryOp::Round => "round",
            UnaryOp::Trunc => "trunc",
        }
    }
}

impl BinaryOp {
    /// Whether the op is defined for operands of a type.
    pub fn accepts(self, operand: DType) -> bool {
        match self {
            BinaryOp::And | BinaryOp::Or => operand == DType::Bool,
            BinaryOp::Div | BinaryOp::Pow => operand.is_float(),
            BinaryOp::FloorDiv | BinaryOp::Mod => operand.is_int(),
            BinaryOp::Eq | BinaryOp::Ne => true,
            _ => operand.is_float() || operand.is_int(),
        }
    }

    /// The type of the result for operands of one type.
    pub fn result(self, operand: DType) -> DType {
        if self.is_comparison() { DType::Bool } else { operand }
    }

    /// Whether the result is a truth value of ordered operands.
    pub const fn is_comparison(self) -> bool {
        matches!(
            self,
            BinaryOp::Eq | BinaryOp::Ne | BinaryOp::Lt | BinaryOp::Le | BinaryOp::Gt | BinaryOp::Ge
        )
    }

    /// Name as printed; operators as written.
    pub const fn name(self) -> &'static str {
        match self {
            BinaryOp::Add => "+",
            BinaryOp::Sub => "-",
            BinaryOp::Mul => "*",
            BinaryOp::Div => "/",
            BinaryOp::FloorDiv => "//",
            BinaryOp::Mod => "%",
            BinaryOp::Pow => "**",
            BinaryOp::Min => "min",
            BinaryOp::Max => "max",
            BinaryOp::Eq => "==",
            BinaryOp::Ne => "!=",
            BinaryOp::Lt => "<",
            BinaryOp::Le => "<=",
            BinaryOp::Gt => ">",
            BinaryOp::Ge => ">=",
            BinaryOp::And => "and",
            BinaryOp::Or => "or",
        }
    }
}
