//! What can be wrong with weights and inputs.

use crate::codegen::abi::MAX_VALUES;
use crate::codegen::error::CodeError;
use crate::diag::{Diagnostic, Fault, counted, nearest};
use crate::dtype::DType;
use crate::graph::dims;
use crate::loops::buffers::LimitError;
use crate::loops::ir::Site;
use crate::tensor::{ShapeText, TensorError};
use std::fmt;

/// One difference between the weights a model has and those it is given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WeightFault {
    /// A weight that is not there.
    Missing {
        /// Its path.
        path: String,
        /// Its type.
        expected: String,
    },
    /// A tensor that the model has no use for.
    Unexpected {
        /// Its name.
        name: String,
        /// Its element type and shape.
        found: (DType, Vec<usize>),
    },
    /// A tensor of another element type or shape.
    Differs {
        /// The weight's path.
        path: String,
        /// Its type.
        expected: String,
        /// Element type and shape of the tensor given.
        found: (DType, Vec<usize>),
    },
    /// Two names of one tensor that hold different values.
    Tied {
        /// The weight's path.
        path: String,
        /// The other name.
        alias: String,
    },
}

impl WeightFault {
    /// What kind of difference it is, in a word.
    pub fn kind(&self) -> &'static str {
        match self {
            WeightFault::Missing { .. } => "missing",
            WeightFault::Unexpected { .. } => "unexpected",
            WeightFault::Differs { .. } => "differs",
            WeightFault::Tied { .. } => "tied",
        }
    }

    /// The name of the weight, or of the tensor that is none.
    pub fn name(&self) -> &str {
        match self {
            WeightFault::Unexpected { name, .. } => name,
            WeightFault::Missing { path, .. }
            | WeightFault::Differs { path, .. }
            | WeightFault::Tied { path, .. } => path,
        }
    }
}

/// One line: the kind of the difference, the name, and what is there and what is not.
impl fmt::Display for WeightFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WeightFault::Missing { path, expected } => write!(f, "missing     {path}: {expected}"),
            WeightFault::Unexpected { name, found: (dtype, shape) } => {
                write!(f, "unexpected  {name}: {dtype}{}", ShapeText(shape))
            }
            WeightFault::Differs { path, expected, found: (dtype, shape) } => {
                write!(
                    f,
                    "differs     {path}: the model has {expected}, given is {dtype}{}",
                    ShapeText(shape)
                )
            }
            WeightFault::Tied { path, alias } => {
                write!(f, "tied        {path}: the model has one tensor for it and {alias}, given are two")
            }
        }
    }
}

/// Why a model cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// All the ways in which the weights are not the model's.
    #[error("the weights do not fit `{model}`: {}", counted(.faults.len(), "difference", "differences"))]
    Weights {
        /// The model.
        model: String,
        /// In the order of the model's weights, then of the names given.
        faults: Vec<WeightFault>,
    },
    /// A weight that cannot be filled by its initialiser.
    #[error("`{path}`: {error}")]
    Init {
        /// The weight's path.
        path: String,
        /// Why.
        error: TensorError,
    },
    /// Sizes that cannot be computed.
    #[error(transparent)]
    Limit(#[from] LimitError),
    /// No memory.
    #[error("out of memory: {size_bytes} bytes for packed weights")]
    OutOfMemory {
        /// # Units
        /// Bytes.
        size_bytes: usize,
    },
    /// The code is for another processor.
    #[error("this processor lacks {}, which the compiled code needs", .missing.join(", "))]
    Cpu {
        /// Names of the features.
        missing: Vec<&'static str>,
    },
    /// A check of the program failed on the weights.
    #[error("{}", .0.message)]
    Failed(FailedSite),
    /// A fault of our own.
    #[error("packing the weights failed: {0}")]
    Internal(&'static str),
}

impl BindError {
    /// As a diagnostic.
    pub fn to_diagnostic(&self) -> Diagnostic {
        let title = self.to_string();
        match self {
            BindError::Weights { faults, .. } => {
                let diagnostic = Diagnostic::error("weights-mismatch", title);
                faults.iter().fold(diagnostic, |d, fault| d.note(fault.to_string()))
            }
            BindError::Init { .. } => Diagnostic::error("invalid-size", title).fault(Fault::Limit),
            BindError::Limit(_) => Diagnostic::error("too-large", title).fault(Fault::Limit),
            BindError::OutOfMemory { .. } => Diagnostic::error("out-of-memory", title).fault(Fault::Limit),
            BindError::Cpu { .. } => Diagnostic::error("cpu-unsupported", title).fault(Fault::Abi),
            BindError::Failed(failed) => failed.to_diagnostic(),
            BindError::Internal(_) => Diagnostic::error("runtime-failed", title).fault(Fault::Internal),
        }
    }
}

/// A check of the program that failed, with its message filled in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailedSite {
    /// A stable slug.
    pub code: &'static str,
    /// What happened, with the values that were found.
    pub message: String,
    span: Option<crate::span::Span>,
}

impl FailedSite {
    /// Fills the recorded values into a site's message.
    pub(super) fn new(sites: &[Site], site: i64, values: &[i64; MAX_VALUES]) -> Self {
        let Some(site) = usize::try_from(site).ok().and_then(|at| sites.get(at)) else {
            let message = format!("the compiled code failed at an unknown place ({site})");
            return FailedSite { code: "runtime-failed", message, span: None };
        };
        let mut message = site.message.clone();
        for (k, value) in values.iter().enumerate() {
            message = message.replace(&format!("{{{k}}}"), &value.to_string());
        }
        FailedSite { code: site.code, message, span: Some(site.span) }
    }

    fn to_diagnostic(&self) -> Diagnostic {
        let diagnostic = Diagnostic::error(self.code, self.message.clone());
        match self.span {
            Some(span) if self.code == "index-out-of-range" => diagnostic
                .at(span, "")
                .help("positions count from 0; `x[… else e]` gives a value where there is none"),
            Some(span) => diagnostic.at(span, ""),
            None => diagnostic.fault(Fault::Internal),
        }
    }
}

/// Why a call gives no outputs.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// A name that no input has.
    #[error("`{model}` has no input `{name}`; its inputs are {}", .inputs.join(", "))]
    UnknownInput {
        /// The model.
        model: String,
        /// The name given.
        name: String,
        /// The names there are.
        inputs: Vec<String>,
        /// Whether it is an optional input that was left out when the model was compiled.
        omitted: bool,
    },
    /// An input that was given twice.
    #[error("the input `{0}` is given twice")]
    Duplicate(String),
    /// Inputs that were not given.
    #[error("inputs that are missing: {}", .0.join(", "))]
    Missing(Vec<String>),
    /// An input of another element type.
    #[error("the input `{name}` is {expected}, the tensor given is {found}")]
    DType {
        /// The input.
        name: String,
        /// Its element type.
        expected: DType,
        /// The element type given.
        found: DType,
    },
    /// Shapes that do not fit.
    #[error(transparent)]
    Shape(#[from] dims::BindError),
    /// Sizes that cannot be computed.
    #[error(transparent)]
    Limit(#[from] LimitError),
    /// An output that cannot be allocated.
    #[error("the output `{name}`: {error}")]
    Output {
        /// The output.
        name: String,
        /// Why.
        error: TensorError,
    },
    /// No memory for temporaries.
    #[error("out of memory: {size_bytes} bytes for temporaries")]
    OutOfMemory {
        /// # Units
        /// Bytes.
        size_bytes: usize,
    },
    /// A check of the program failed, such as an index out of range.
    #[error("{}", .0.message)]
    Failed(FailedSite),
    /// A fault of our own.
    #[error("the call failed: {0}")]
    Internal(&'static str),
}

impl CallError {
    /// As a diagnostic.
    pub fn to_diagnostic(&self) -> Diagnostic {
        let title = self.to_string();
        match self {
            CallError::UnknownInput { name, inputs, omitted, .. } => {
                let diagnostic = Diagnostic::error("unknown-input", title);
                match nearest(name, inputs.iter().map(String::as_str)) {
                    _ if *omitted => diagnostic.help(format!(
                        "it is optional, and was left out when the model was compiled: add --with {name}"
                    )),
                    Some(near) => diagnostic.help(format!("did you mean `{near}`?")),
                    None => diagnostic,
                }
            }
            CallError::Duplicate(_) => Diagnostic::error("duplicate-input", title),
            CallError::Missing(_) => Diagnostic::error("missing-input", title),
            CallError::DType { .. } => Diagnostic::error("dtype-mismatch", title),
            CallError::Shape(error) => error.to_diagnostic(),
            CallError::Limit(_) => Diagnostic::error("too-large", title).fault(Fault::Limit),
            CallError::Output { .. } | CallError::OutOfMemory { .. } => {
                Diagnostic::error("out-of-memory", title).fault(Fault::Limit)
            }
            CallError::Failed(failed) => failed.to_diagnostic(),
            CallError::Internal(_) => Diagnostic::error("runtime-failed", title).fault(Fault::Internal),
        }
    }
}

/// Why a program cannot be compiled to memory.
#[derive(Debug, thiserror::Error)]
pub enum CompileError {
    /// Code generation failed.
    #[error(transparent)]
    Code(#[from] CodeError),
    /// The temporaries cannot be laid out.
    #[error(transparent)]
    Limit(#[from] LimitError),
    /// A fault of our own.
    #[error("the loop program is not a whole: {0}")]
    Internal(&'static str),
}

impl CompileError {
    /// As a diagnostic.
    pub fn to_diagnostic(&self) -> Diagnostic {
        match self {
            CompileError::Code(error) => error.to_diagnostic(),
            CompileError::Limit(error) => {
                Diagnostic::error("too-large", error.to_string()).fault(Fault::Limit)
            }
            CompileError::Internal(_) => {
                Diagnostic::error("codegen-failed", self.to_string()).fault(Fault::Internal)
            }
        }
    }
}
