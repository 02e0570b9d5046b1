//! What can be said of a model without running it: shapes and cost by module, receptive fields,
//! the spread of values at initialisation, and whether gradients of a recurrence can last.
//!
//! Takes the elaborated [`Program`], before any pass: its calls are still the modules of the
//! source, and only the ops that elaboration emits occur. Nothing here looks at a name except to
//! print it. Everything that holds for all sizes is given as a formula of the free dimensions;
//! what needs numbers says which it assumed.

pub mod field;
pub mod modules;
pub mod recurrence;
pub mod text;
pub mod variance;

use crate::diag::{Diagnostic, Fault};
use crate::dim::DimError;
use crate::graph::ir::Program;

/// Why an analysis gave nothing.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum AnalysisError {
    /// A formula that left what a dimension can hold.
    #[error("a formula of the analysis cannot be written: {0}")]
    Formula(#[from] DimError),
}

impl AnalysisError {
    /// As a message for the user.
    pub fn to_diagnostic(&self) -> Diagnostic {
        Diagnostic::error("analysis", self.to_string()).fault(Fault::Limit)
    }
}

/// The name of a function without the number that tells it from others of its name.
pub fn plain_name(program: &Program, function: crate::graph::ir::FuncId) -> &str {
    let name = &*program.function(function).name;
    match name.rsplit_once('.') {
        Some((plain, number)) if number.bytes().all(|b| b.is_ascii_digit()) => plain,
        _ => name,
    }
}
