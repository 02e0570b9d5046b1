//! Why code cannot be generated.

use crate::diag::{Diagnostic, Fault};
use crate::dtype::DType;
use cranelift_codegen::CodegenError;
use cranelift_module::ModuleError;

/// A failure of code generation.
#[derive(Debug, thiserror::Error)]
pub enum CodeError {
    /// The processor lacks what all generated code needs.
    #[error("this processor lacks {}, which the compiled code would need", .missing.join(", "))]
    Cpu {
        /// Names of the features, as in `/proc/cpuinfo`.
        missing: Vec<&'static str>,
    },
    /// A level of processors lacks what the kernels that were asked for need.
    #[error("{level} lacks {}, which {kernels} kernels would need", .missing.join(", "))]
    Level {
        /// Its name.
        level: &'static str,
        /// Which kernels.
        kernels: &'static str,
        /// Names of the features.
        missing: Vec<&'static str>,
    },
    /// No back end for this kind of processor.
    #[error("there is no back end for this processor: {0}")]
    Target(String),
    /// A function is larger than the back end can hold.
    #[error("the function `{function}` is too large to be compiled: {reason}")]
    TooLarge {
        /// Its name.
        function: String,
        /// Which limit.
        reason: String,
    },
    /// An element type that is not computed with.
    #[error("tensors of {0} are not supported; convert to f32")]
    Unsupported(DType),
    /// Memory for the code cannot be had.
    #[error("no memory for the compiled code: {0}")]
    Memory(String),
    /// A file cannot be made.
    #[error("{0}")]
    File(String),
    /// A fault of our own.
    #[error("code generation failed in `{function}`: {reason}")]
    Internal {
        /// Where.
        function: String,
        /// What Cranelift says.
        reason: String,
    },
}

impl CodeError {
    /// The error of defining `function`.
    pub(crate) fn of_module(function: &str, error: &ModuleError) -> Self {
        let function = function.to_string();
        match error {
            ModuleError::Compilation(CodegenError::ImplLimitExceeded | CodegenError::CodeTooLarge) => {
                CodeError::TooLarge { function, reason: error.to_string() }
            }
            ModuleError::Allocation { err } => CodeError::Memory(err.to_string()),
            ModuleError::Compilation(CodegenError::Verifier(errors)) => {
                CodeError::Internal { function, reason: errors.to_string() }
            }
            _ => CodeError::Internal { function, reason: error.to_string() },
        }
    }

    /// As a diagnostic.
    pub fn to_diagnostic(&self) -> Diagnostic {
        let (code, fault) = match self {
            CodeError::Cpu { .. } | CodeError::Level { .. } => ("cpu-unsupported", Fault::Abi),
            CodeError::Target(_) => ("target-unsupported", Fault::Abi),
            CodeError::TooLarge { .. } => ("function-too-large", Fault::Limit),
            CodeError::Memory(_) => ("out-of-memory", Fault::Limit),
            CodeError::Unsupported(_) => ("dtype-unsupported", Fault::User),
            CodeError::File(_) => ("cannot-write", Fault::File),
            CodeError::Internal { .. } => ("codegen-failed", Fault::Internal),
        };
        Diagnostic::error(code, self.to_string()).fault(fault)
    }
}

impl From<CodeError> for Diagnostic {
    fn from(error: CodeError) -> Self {
        error.to_diagnostic()
    }
}
