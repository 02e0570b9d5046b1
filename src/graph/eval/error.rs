//! Why an evaluation fails.

use crate::diag::{Diagnostic, Fault};
use crate::dim::DimError;
use crate::span::Span;
use crate::tensor::{ShapeText, TensorError};

/// Why an evaluation fails.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EvalError {
    /// Not as many inputs or weights as the signature has.
    #[error("the program takes {expected} {kind}s, {found} were given")]
    Count {
        /// `input` or `weight`.
        kind: &'static str,
        /// Those of the signature.
        expected: usize,
        /// Those given.
        found: usize,
    },
    /// A tensor of another type than declared.
    #[error("{name} wants {expected}, it is {found}")]
    Passed {
        /// The tensor.
        name: String,
        /// Its declared type.
        expected: String,
        /// What it is.
        found: String,
        /// The declaration.
        span: Span,
    },
    /// A read outside its operand, without `else`.
    #[error("the index {index:?} is outside the shape {}", ShapeText(.extents))]
    OutOfRange {
        /// The position.
        index: Vec<i64>,
        /// The shape of the operand.
        extents: Vec<usize>,
        /// The read.
        span: Span,
    },
    /// An integer division by zero.
    #[error("integer division by zero")]
    DivisionByZero {
        /// The definition.
        span: Span,
    },
    /// `top_k` of a row that is too short.
    #[error("top_k takes {k} of {elems} elements")]
    TopK {
        /// Elements wanted.
        k: usize,
        /// Elements there are.
        elems: usize,
        /// The call.
        span: Span,
    },
    /// A size that cannot be computed, or is negative.
    #[error("{error}")]
    Size {
        /// Why.
        error: DimError,
        /// The definition.
        span: Span,
    },
    /// A tensor that cannot be made.
    #[error("{error}")]
    Tensor {
        /// Why.
        error: TensorError,
        /// The definition.
        span: Span,
    },
    /// The graph is not valid: it was not verified.
    #[error("the graph cannot be evaluated: {message}")]
    Invalid {
        /// What was found.
        message: String,
        /// The definition.
        span: Span,
    },
}

impl EvalError {
    /// As a diagnostic.
    pub fn to_diagnostic(&self) -> Diagnostic {
        let title = self.to_string();
        match self {
            EvalError::Count { .. } => Diagnostic::error("input-count", title),
            EvalError::Passed { span, .. } => {
                Diagnostic::error("shape-mismatch", title).at(*span, "declared here")
            }
            EvalError::OutOfRange { span, .. } => {
                Diagnostic::error("index-out-of-range", title).at(*span, "read here")
            }
            EvalError::DivisionByZero { span } => Diagnostic::error("division-by-zero", title).at(*span, ""),
            EvalError::TopK { span, .. } => Diagnostic::error("top-k", title).at(*span, ""),
            EvalError::Size { span, .. } => Diagnostic::error("invalid-size", title).at(*span, ""),
            EvalError::Tensor { span, .. } => {
                Diagnostic::error("too-large", title).fault(Fault::Limit).at(*span, "")
            }
            EvalError::Invalid { span, .. } => {
                Diagnostic::error("internal-graph", title).fault(Fault::Internal).at(*span, "")
            }
        }
    }
}
