//! Element types: exact numbers take the type of what they meet, nothing else converts.

use super::Elaborator;
use super::build::Emission;
use super::errors::Eval;
use super::scalar::{IndexVar, Scalar};
use super::value::{Repr, TensorValue, Value};
use crate::diag::Diagnostic;
use crate::dim::Dim;
use crate::dtype::DType;
use crate::span::Span;
use crate::tensor::Tensor;

impl Elaborator<'_> {
    /// A value as a tensor: static numbers and truths become lazy scalars, lists of numbers
    /// constants.
    ///
    /// # Errors
    /// Values of other kinds, with the place.
    pub fn as_tensor(&mut self, value: &Value, span: Span) -> Eval<TensorValue> {
        match value {
            Value::Tensor(t) => Ok(t.clone()),
            Value::Int(d) => Ok(TensorValue::lazy(Scalar::dim(d), true)),
            Value::Float(v) => Ok(TensorValue::lazy(Scalar::real(*v, DType::F64), true)),
            Value::Bool(v) => Ok(TensorValue::lazy(Scalar::bool(*v), true)),
            Value::List(_) => self.constant_list(value, span),
            Value::Poison => Err(super::errors::Reported),
            Value::Sequence(sequence) => self.whole_too_early(*sequence, span),
            other => {
                let title = format!("a tensor or number is wanted here, but this is {}", other.kind_text());
                let help = match other {
                    Value::Pattern(_) => "a pattern is read at positions: `if mask[i, j] { … } else { … }`",
                    Value::Fn(_) | Value::Module(_) | Value::Instance(_) => "call it: `f(x)`",
                    Value::Tuple(_) => "take it apart: `let (a, b) = …`",
                    _ => return self.error("not-a-tensor", title, span),
                };
                self.error_help("not-a-tensor", title, span, help)
            }
        }
    }

    /// A list of numbers, or of lists of equal length, as a constant: exact i64, exact f64 or bool.
    ///
    /// # Errors
    /// Elements that are no known numbers, and ragged lists.
    pub fn constant_list(&mut self, value: &Value, span: Span) -> Eval<TensorValue> {
        let mut flat = Vec::new();
        let mut shape = Vec::new();
        if !flatten(value, 0, &mut shape, &mut flat) || flat.len() != shape.iter().product::<usize>() {
            return self.error_help(
                "not-a-tensor",
                "a tensor is wanted here, but this list does not hold numbers alone",
                span,
                "lists of tensors become one tensor by `stack` or `concat`",
            );
        }
        let ints: Option<Vec<i64>> =
            flat.iter().map(|v| if let Value::Int(d) = v { d.as_const() } else { None }).collect();
        let bools: Option<Vec<bool>> =
            flat.iter().map(|v| if let Value::Bool(b) = v { Some(*b) } else { None }).collect();
        let reals: Option<Vec<f64>> = flat
            .iter()
            .map(|v| match v {
                Value::Float(f) => Some(*f),
                Value::Int(d) => d.as_const().map(|i| i as f64),
                _ => None,
            })
            .collect();
        let tensor = match (ints, bools, reals) {
            (Some(data), ..) => Tensor::new(shape, data),
            (_, Some(data), _) => Tensor::new(shape, data),
            (_, _, Some(data)) => Tensor::new(shape, data),
            _ => {
                return self.error(
                    "not-a-tensor",
                    "the numbers of this list are not all known or of one kind",
                    span,
                );
            }
        };
        match tensor {
            Ok(tensor) => {
                let mut constant = self.constant(tensor, span)?;
                constant.exact = true;
                Ok(constant)
            }
            Err(error) => self.error("not-a-tensor", error.to_string(), span),
        }
    }

    /// The type that operands of an elementwise operation meet in.
    ///
    /// # Errors
    /// Two stored types that differ, or an exact real that meets integers.
    pub fn common_dtype(&mut self, operands: &[&TensorValue], span: Span) -> Eval<(DType, bool)> {
        let mut stored: Option<DType> = None;
        for t in operands.iter().filter(|t| !t.exact) {
            match stored {
                Some(d) if d != t.dtype => {
                    let title = format!("operands of one type are wanted, but these are {d} and {}", t.dtype);
                    return self.error_help(
                        "type-mismatch",
                        title,
                        span,
                        format!("convert one of them: `{d}(…)` or `{}(…)`", t.dtype),
                    );
                }
                _ => stored = Some(t.dtype),
            }
        }
        let exact: Vec<DType> = operands.iter().filter(|t| t.exact).map(|t| t.dtype).collect();
        let bools = exact.iter().filter(|d| **d == DType::Bool).count();
        match stored {
            Some(d) => {
                for e in exact {
                    if !fits(e, d) {
                        let title = format!("{} meets a tensor of type {d}", exact_text(e));
                        let help = match e {
                            DType::Bool => format!("convert it: `{d}(…)` of a truth value is 0 or 1"),
                            _ => "convert the tensor: `f32(…)`".into(),
                        };
                        return self.error_help("type-mismatch", title, span, help);
                    }
                }
                Ok((d, false))
            }
            None if bools == exact.len() && bools > 0 => Ok((DType::Bool, true)),
            None if bools > 0 => self.error("type-mismatch", "a truth value meets a number", span),
            None if exact.contains(&DType::F64) => Ok((DType::F64, true)),
            None => Ok((DType::I64, true)),
        }
    }

    /// An exact value in the type it meets; others must have it already.
    ///
    /// # Errors
    /// A stored value of another type, and exact reals where integers are wanted.
    pub fn coerce(&mut self, tensor: &TensorValue, dtype: DType, span: Span) -> Eval<TensorValue> {
        if tensor.dtype == dtype {
            return Ok(TensorValue { exact: false, ..tensor.clone() });
        }
        if !tensor.exact {
            let title = format!("{dtype} is wanted, but this is {}", tensor.dtype);
            return self.error_help("type-mismatch", title, span, format!("convert it: `{dtype}(…)`"));
        }
        if !fits(tensor.dtype, dtype) {
            let title = format!("{dtype} is wanted, but this is {}", exact_text(tensor.dtype));
            return self.error("type-mismatch", title, span);
        }
        self.convert(tensor, dtype, span)
    }

    /// The value converted, elementwise.
    ///
    /// # Errors
    /// As [`Elaborator::emit`].
    pub fn convert(&mut self, tensor: &TensorValue, dtype: DType, span: Span) -> Eval<TensorValue> {
        if matches!(dtype, DType::F16 | DType::BF16) {
            return self.unsupported_dtype(dtype, span);
        }
        if tensor.dtype == dtype {
            return Ok(TensorValue { exact: false, ..tensor.clone() });
        }
        if let (DType::I32, Some(value)) = (dtype, tensor.as_lazy().and_then(Scalar::as_dim))
            && tensor.exact
            && value.as_const().is_some_and(|v| i32::try_from(v).is_err())
        {
            return self.error("out-of-range", format!("{value} does not fit in {dtype}"), span);
        }
        match &tensor.repr {
            Repr::Lazy(scalar) => Ok(TensorValue::lazy(scalar.clone().cast(dtype), false)),
            Repr::Node(_) => {
                let axes = self.axes_of(&tensor.shape);
                let position: Vec<Scalar> = axes.iter().map(Scalar::index).collect();
                let body = self.element(tensor, &position, span).cast(dtype);
                self.emit(Emission { axes: &axes, shape: None, reduce: None, body, span, name: None })
            }
        }
    }

    /// A value as it is stored: exact reals as f32, exact integers as i64.
    ///
    /// # Errors
    /// As [`Elaborator::emit`].
    pub fn stored(&mut self, tensor: &TensorValue, span: Span) -> Eval<TensorValue> {
        if !tensor.exact {
            return Ok(tensor.clone());
        }
        let dtype = if tensor.dtype == DType::F64 { DType::F32 } else { tensor.dtype };
        self.convert(tensor, dtype, span)
    }

    /// The error for an element type that is part of the language, but that nothing computes with.
    ///
    /// # Errors
    /// Always.
    pub(super) fn unsupported_dtype<T>(&mut self, dtype: DType, span: Span) -> Eval<T> {
        let title = format!("{dtype} can be written but is not computed with yet");
        self.error_help("not-supported", title, span, "use f32, to which the weights can be converted")
    }

    /// A new index variable for each axis of a shape.
    pub fn axes_of(&mut self, shape: &[Dim]) -> Vec<IndexVar> {
        const NAMES: [&str; 8] = ["i", "j", "k", "l", "m", "n", "p", "q"];
        shape.iter().enumerate().map(|(k, d)| self.fresh_index(NAMES[k % NAMES.len()], d.clone())).collect()
    }

    /// What a shape mismatch says.
    pub fn shape_mismatch(title: String, span: Span, other: Option<(Span, String)>) -> Diagnostic {
        let diagnostic = Diagnostic::error("shape-mismatch", title).at(span, "");
        match other {
            Some((place, text)) => diagnostic.at(place, text),
            None => diagnostic,
        }
    }
}

fn flatten(value: &Value, depth: usize, shape: &mut Vec<usize>, flat: &mut Vec<Value>) -> bool {
    let items = match value {
        Value::List(items) => items,
        Value::Int(_) | Value::Float(_) | Value::Bool(_) if depth == shape.len() && depth > 0 => {
            flat.push(value.clone());
            return true;
        }
        _ => return false,
    };
    if depth == shape.len() && flat.is_empty() && depth < crate::tensor::MAX_RANK {
        shape.push(items.len());
    }
    shape.get(depth) == Some(&items.len()) && items.iter().all(|item| flatten(item, depth + 1, shape, flat))
}

/// Whether an exact number of type `exact` may take the type `dtype`.
pub(super) fn fits(exact: DType, dtype: DType) -> bool {
    match exact {
        DType::Bool => dtype == DType::Bool,
        DType::F64 => dtype.is_float(),
        _ => dtype != DType::Bool,
    }
}

fn exact_text(dtype: DType) -> &'static str {
    match dtype {
        DType::Bool => "a truth value",
        DType::F64 => "a real number",
        _ => "an integer",
    }
}
