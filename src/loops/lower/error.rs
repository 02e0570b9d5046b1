//! What can be wrong with a program that only its lowering finds out.

use crate::diag::{Diagnostic, Fault};
use crate::dim::{Dim, DimError};
use crate::span::Span;

/// Why a program cannot be lowered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LowerError {
    /// A size or stride cannot be computed.
    #[error("{0}")]
    Size(#[from] DimError),
    /// A read lies outside its operand for all sizes.
    #[error("`{operand}` is read outside its bounds on axis {axis}")]
    OutOfRange {
        /// The user's name for what is read.
        operand: String,
        /// Which axis.
        axis: usize,
        /// Least index.
        low: Dim,
        /// Greatest index.
        high: Dim,
        /// Size of the axis.
        extent: Dim,
    },
}

impl LowerError {
    /// The report for an error at a place.
    pub fn at(&self, span: Span) -> Diagnostic {
        match self {
            LowerError::Size(error) => Diagnostic::error("size-limit", format!("{error}"))
                .fault(Fault::Limit)
                .at(span, "a size or stride of this cannot be computed"),
            LowerError::OutOfRange { operand, axis, low, high, extent } => {
                let title = format!(
                    "`{operand}` is read at {low} to {high} on axis {axis}, which has {extent} elements"
                );
                Diagnostic::error("index-out-of-range", title)
                    .at(span, "outside")
                    .help("write `else` in the brackets to say what is read outside")
            }
        }
    }
}
