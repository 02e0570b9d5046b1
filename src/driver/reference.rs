//! The reference evaluator as a back end: tensors in, tensors of the declared types out.

use crate::diag::Diagnostic;
use crate::dtype::DType;
use crate::graph::dims::DimBinder;
use crate::graph::eval::{Mode, evaluate};
use crate::graph::ir::Program;
use crate::tensor::{Data, Tensor};
use std::borrow::Borrow;

/// Computes a program by definition. Inputs and weights are in the order of the signature.
///
/// # Numerics
/// f64 throughout; outputs that are declared f32 are rounded once, at the end.
///
/// # Errors
/// Shapes that do not fit, and whatever the program checks on values.
pub fn reference(
    program: &Program,
    inputs: &[impl Borrow<Tensor>],
    weights: &[impl Borrow<Tensor>],
) -> Result<Vec<Tensor>, Box<Diagnostic>> {
    let signature = &program.signature;
    let mut binder = DimBinder::new();
    let shape = |error: crate::graph::dims::BindError| Box::new(error.to_diagnostic());
    for (weight, tensor) in signature.weights.iter().zip(weights) {
        binder.tensor(&weight.path, &weight.ty, tensor.borrow().shape(), weight.span).map_err(shape)?;
    }
    for (port, tensor) in signature.inputs.iter().zip(inputs) {
        binder.tensor(&port.name, &port.ty, tensor.borrow().shape(), port.span).map_err(shape)?;
    }
    let dims = binder.finish(signature, &program.checks).map_err(shape)?;
    let outputs = evaluate(program, inputs, weights, &dims, Mode::F64);
    let outputs = outputs.map_err(|error| Box::new(error.to_diagnostic()))?;
    Ok(outputs.into_iter().zip(&signature.outputs).map(|(out, port)| declared(out, port.ty.dtype)).collect())
}

/// The reference gives f64 where f32 is declared.
fn declared(tensor: Tensor, dtype: DType) -> Tensor {
    if dtype != DType::F32 || tensor.dtype() != DType::F64 {
        return tensor;
    }
    match tensor.into_parts() {
        (shape, Data::F64(values)) => {
            let values: Vec<f32> = values.into_iter().map(|v| v as f32).collect();
            Tensor::new(shape, values).expect("invariant: as many elements as before")
        }
        (shape, data) => Tensor::new(shape, data).expect("invariant: the same tensor"),
    }
}
