//! A slow, fully checked interpreter of the loop IR.
//!
//! Takes a [`LoopProgram`] with its [`Plan`], tensors and sizes; gives the outputs or the failure
//! that the call records. Temporaries lie in one arena at the plan's offsets, so a wrong layout
//! shows as a wrong result. Every load and store is checked against its buffer; one outside is a
//! fault of the compiler. The arena begins as a pattern that is NaN and true, so what is used
//! unwritten shows as well. Scalar operations are those of [`crate::ops::value`], in the declared
//! types, in program order; a product accumulates with fused multiply-add.

mod machine;
mod memory;

use super::buffers::{LimitError, Plan};
use super::ir::LoopProgram;
use crate::diag::{Diagnostic, Fault};
use crate::dim::{Dim, Symbol};
use crate::ops::value::OpError;
use crate::span::Span;
use crate::tensor::{Tensor, TensorError};
use machine::Machine;

/// The failure that a call records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Index into [`LoopProgram::sites`].
    pub site: usize,
    /// The values recorded with it.
    pub values: Vec<i64>,
}

/// Why a run gives no outputs.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum RunError {
    /// The call fails, as compiled code would.
    #[error("{message}")]
    Failed {
        /// What is recorded.
        failure: Failure,
        /// The site's message with the values in it.
        message: String,
        /// The site's code.
        code: &'static str,
        /// The site's place.
        span: Span,
    },
    /// The memory cannot be computed for these sizes.
    #[error(transparent)]
    Limit(#[from] LimitError),
    /// A tensor cannot be made.
    #[error(transparent)]
    Tensor(#[from] TensorError),
    /// An operation without a value: the program is not valid.
    #[error("{0}")]
    Op(#[from] OpError),
    /// The program breaks a promise of the loop IR.
    #[error("the loop program is not valid: {0}")]
    Invalid(String),
}

impl RunError {
    /// The report.
    pub fn to_diagnostic(&self) -> Diagnostic {
        match self {
            RunError::Failed { message, code, span, .. } => {
                Diagnostic::error(code, message.clone()).at(*span, "")
            }
            RunError::Limit(_) => Diagnostic::error("size-limit", self.to_string()).fault(Fault::Limit),
            RunError::Tensor(_) => Diagnostic::error("tensor", self.to_string()),
            RunError::Op(_) | RunError::Invalid(_) => {
                Diagnostic::error("internal", self.to_string()).fault(Fault::Internal)
            }
        }
    }
}

/// How loops run that may run in any order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// First to last.
    #[default]
    Forwards,
    /// Vector and parallel loops from the last iteration to the first, to find false promises.
    Backwards,
}

/// The outputs of a call, binding the weights first.
///
/// # Errors
/// [`RunError`]; `inputs` and `weights` must fit the signature.
pub fn run(
    program: &LoopProgram,
    plan: &Plan,
    inputs: &[Tensor],
    weights: &[Tensor],
    dims: &dyn Fn(&Symbol) -> Option<i64>,
    order: Order,
) -> Result<Vec<Tensor>, RunError> {
    let frames = plan.evaluate(dims)?;
    let mut machine = Machine::new(program, &frames, dims, order);
    let parts = match program.bind {
        Some(bind) => machine.enter(bind, weights, frames.bind_bytes)?,
        None => weights.to_vec(),
    };
    let args: Vec<Tensor> = inputs.iter().cloned().chain(parts).collect();
    let flat = machine.enter(program.entry, &args, frames.entry_bytes)?;
    let shaped = flat.into_iter().zip(&program.signature.outputs).map(|(tensor, port)| {
        let shape: Vec<usize> =
            port.ty.shape.iter().map(|d| size(d, dims)).collect::<Result<_, RunError>>()?;
        Ok(tensor.reshaped(shape)?)
    });
    shaped.collect()
}

fn size(dim: &Dim, dims: &dyn Fn(&Symbol) -> Option<i64>) -> Result<usize, RunError> {
    let value = dim.eval(dims).map_err(LimitError)?;
    usize::try_from(value).map_err(|_| RunError::Limit(LimitError(crate::dim::DimError::Negative(value))))
}
