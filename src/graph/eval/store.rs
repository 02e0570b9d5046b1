//! Elements of stored tensors as scalars.

use super::EvalError;
use crate::dtype::DType;
use crate::ops::value::{Scalar, cast};
use crate::span::Span;
use crate::tensor::{Data, Tensor};

/// Element `at`, counted in row-major order.
pub(super) fn read(tensor: &Tensor, at: usize) -> Scalar {
    match tensor.data() {
        Data::F32(v) => Scalar::F32(v[at]),
        Data::F64(v) => Scalar::F64(v[at]),
        Data::I32(v) => Scalar::I32(v[at]),
        Data::I64(v) => Scalar::I64(v[at]),
        Data::Bool(v) => Scalar::Bool(v[at]),
    }
}

/// Sets element `at`, converting where the types differ, which they do not in a verified graph.
pub(super) fn write(tensor: &mut Tensor, at: usize, value: Scalar) {
    let value = cast(value, tensor.dtype());
    match value {
        Scalar::F32(x) => set(tensor.as_f32_mut(), at, x),
        Scalar::F64(x) => set(tensor.as_f64_mut(), at, x),
        Scalar::I32(x) => set(tensor.as_i32_mut(), at, x),
        Scalar::I64(x) => set(tensor.as_i64_mut(), at, x),
        Scalar::Bool(x) => set(tensor.as_bool_mut(), at, x),
    }
}

fn set<T>(elements: Option<&mut [T]>, at: usize, value: T) {
    if let Some(elements) = elements {
        elements[at] = value;
    }
}

/// The tensor in another type.
pub(super) fn converted(tensor: &Tensor, dtype: DType, span: Span) -> Result<Tensor, EvalError> {
    if tensor.dtype() == dtype {
        return tensor.try_clone().map_err(|error| EvalError::Tensor { error, span });
    }
    let mut out = Tensor::zeros(dtype, tensor.shape()).map_err(|error| EvalError::Tensor { error, span })?;
    for at in 0..tensor.elems() {
        write(&mut out, at, cast(read(tensor, at), dtype));
    }
    Ok(out)
}
