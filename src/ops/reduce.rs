//! Reductions.

use crate::dtype::DType;

/// How the points of a reduction are combined.
///
/// `mean`, `logsumexp` and the normalisers of the language are written with these.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reducer {
    /// Sum, in any fixed order.
    Sum,
    /// Product, in any fixed order.
    Prod,
    /// Greatest; NaN wins.
    Max,
    /// Least; NaN wins.
    Min,
    /// Any true.
    Any,
    /// All true.
    All,
    /// Row-major position of the first greatest; NaN wins.
    ArgMax,
    /// Row-major position of the first least; NaN wins.
    ArgMin,
}

impl Reducer {
    /// Whether the reduction is defined for terms of a type.
    pub fn accepts(self, term: DType) -> bool {
        match self {
            Reducer::Any | Reducer::All => term == DType::Bool,
            _ => term.is_float() || term.is_int(),
        }
    }

    /// The type of the result for a term type.
    pub fn result(self, term: DType) -> DType {
        match self {
            Reducer::ArgMax | Reducer::ArgMin => DType::I64,
            _ => term,
        }
    }

    /// Name in the language.
    pub const fn name(self) -> &'static str {
        match self {
            Reducer::Sum => "sum",
            Reducer::Prod => "prod",
            Reducer::Max => "max",
            Reducer::Min => "min",
            Reducer::Any => "any",
            Reducer::All => "all",
            Reducer::ArgMax => "argmax",
            Reducer::ArgMin => "argmin",
        }
    }
}
