//! Operators and reducers, and how they are written.

/// The words that reduce over indices.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reducer {
    /// `sum`
    Sum,
    /// `prod`
    Prod,
    /// `max`
    Max,
    /// `min`
    Min,
    /// `mean`
    Mean,
    /// `any`
    Any,
    /// `all`
    All,
    /// `argmax`
    ArgMax,
    /// `argmin`
    ArgMin,
    /// `logsumexp`
    LogSumExp,
    /// `softmax`, which binds nothing
    Softmax,
    /// `log_softmax`, which binds nothing
    LogSoftmax,
}

impl Reducer {
    /// All of them.
    pub const ALL: [Reducer; 12] = [
        Reducer::Sum,
        Reducer::Prod,
        Reducer::Max,
        Reducer::Min,
        Reducer::Mean,
        Reducer::Any,
        Reducer::All,
        Reducer::ArgMax,
        Reducer::ArgMin,
        Reducer::LogSumExp,
        Reducer::Softmax,
        Reducer::LogSoftmax,
    ];

    /// The word that is written for it.
    pub fn name(self) -> &'static str {
        match self {
            Reducer::Sum => "sum",
            Reducer::Prod => "prod",
            Reducer::Max => "max",
            Reducer::Min => "min",
            Reducer::Mean => "mean",
            Reducer::Any => "any",
            Reducer::All => "all",
            Reducer::ArgMax => "argmax",
            Reducer::ArgMin => "argmin",
            Reducer::LogSumExp => "logsumexp",
            Reducer::Softmax => "softmax",
            Reducer::LogSoftmax => "log_softmax",
        }
    }

    /// Whether it names an index in scope instead of binding one.
    pub fn is_normaliser(self) -> bool {
        matches!(self, Reducer::Softmax | Reducer::LogSoftmax)
    }
}

/// An operator before its operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum UnaryOp {
    /// `-`
    Neg,
    /// `not`
    Not,
}

/// An operator between two operands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BinaryOp {
    /// `or`
    Or,
    /// `and`
    And,
    /// `==`
    Eq,
    /// `!=`
    Ne,
    /// `<=`
    Le,
    /// `>=`
    Ge,
    /// `<`
    Lt,
    /// `>`
    Gt,
    /// `++`, joins lists
    Concat,
    /// `+`
    Add,
    /// `-`
    Sub,
    /// `//`, floored
    FloorDiv,
    /// `/`
    Div,
    /// `*`
    Mul,
    /// `%`, of the floored division
    Rem,
    /// `@`
    MatMul,
    /// `**`
    Pow,
}

impl BinaryOp {
    /// How it is written.
    pub fn symbol(self) -> &'static str {
        match self {
            BinaryOp::Or => "or",
            BinaryOp::And => "and",
            BinaryOp::Eq => "==",
            BinaryOp::Ne => "!=",
            BinaryOp::Le => "<=",
            BinaryOp::Ge => ">=",
            BinaryOp::Lt => "<",
            BinaryOp::Gt => ">",
            BinaryOp::Concat => "++",
            BinaryOp::Add => "+",
            BinaryOp::Sub => "-",
            BinaryOp::FloorDiv => "//",
            BinaryOp::Div => "/",
            BinaryOp::Mul => "*",
            BinaryOp::Rem => "%",
            BinaryOp::MatMul => "@",
            BinaryOp::Pow => "**",
        }
    }

    /// Whether it gives a truth value from comparing its operands.
    pub fn is_comparison(self) -> bool {
        use BinaryOp::{Eq, Ge, Gt, Le, Lt, Ne};
        matches!(self, Eq | Ne | Le | Ge | Lt | Gt)
    }
}
