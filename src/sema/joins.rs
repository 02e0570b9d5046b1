//! Builtins that join, split and sort tensors.

use super::Elaborator;
use super::build::Emission;
use super::errors::Eval;
use super::scalar::{IndexVar, Scalar};
use super::value::{NodeRef, Repr, TensorValue, Value};
use crate::diag::Diagnostic;
use crate::dim::Dim;
use crate::dtype::DType;
use crate::graph::ir::{self, Node, Op, TensorType};
use crate::ops::scalar::BinaryOp;
use crate::span::Span;

impl Elaborator<'_> {
    /// Tensors one behind the other along an axis.
    ///
    /// # Errors
    /// Ranks, types or other axes that differ.
    pub fn concat_tensors(&mut self, tensors: &[TensorValue], axis: i64, span: Span) -> Eval<TensorValue> {
        let tensors = self.one_type(tensors, span)?;
        let rank = tensors[0].rank();
        let axis = self.axis_position(axis, rank, span)?;
        let mut total = Dim::ZERO;
        for t in &tensors {
            self.same_but(&tensors[0], t, Some(axis), "concat", span)?;
            total = self.sized(total.add(&t.shape[axis]), span)?;
        }
        if let [only] = tensors.as_slice() {
            return Ok(only.clone());
        }
        let mut shape = tensors[0].shape.to_vec();
        shape[axis] = total;
        let axes = self.axes_of(&shape);
        let mut ends = Vec::new();
        let mut end = Dim::ZERO;
        for t in &tensors {
            let start = end.clone();
            end = self.sized(end.add(&t.shape[axis]), span)?;
            ends.push((start, end.clone()));
        }
        let mut body: Option<Scalar> = None;
        for (t, (start, end)) in tensors.iter().zip(&ends).rev() {
            let mut position: Vec<Scalar> = axes.iter().map(Scalar::index).collect();
            let at = position[axis].clone();
            position[axis] = Scalar::binary(BinaryOp::Sub, at.clone(), Scalar::dim(start));
            let element = self.element(t, &position, span);
            body = Some(match body {
                None => element,
                Some(later) => {
                    let inside = Scalar::binary(BinaryOp::Lt, at, Scalar::dim(end));
                    Scalar::select(inside, element, later)
                }
            });
        }
        let body = body.unwrap_or_else(|| Scalar::zero(tensors[0].dtype));
        self.emit(Emission { axes: &axes, shape: None, reduce: None, body, span, name: None })
    }

    /// Tensors of one shape along a new axis.
    ///
    /// # Errors
    /// Types or shapes that differ.
    pub fn stack_tensors(&mut self, tensors: &[TensorValue], axis: i64, span: Span) -> Eval<TensorValue> {
        let tensors = self.one_type(tensors, span)?;
        let axis = self.axis_position(axis, tensors[0].rank() + 1, span)?;
        for t in &tensors {
            self.same_but(&tensors[0], t, None, "stack", span)?;
        }
        let mut shape = tensors[0].shape.to_vec();
        shape.insert(axis, Dim::from(tensors.len() as i64));
        let axes = self.axes_of(&shape);
        let rest: Vec<Scalar> =
            axes.iter().enumerate().filter(|(k, _)| *k != axis).map(|(_, v)| Scalar::index(v)).collect();
        let mut body: Option<Scalar> = None;
        for (k, t) in tensors.iter().enumerate().rev() {
            let element = self.element(t, &rest, span);
            body = Some(match body {
                None => element,
                Some(later) => {
                    let here =
                        Scalar::binary(BinaryOp::Eq, Scalar::index(&axes[axis]), Scalar::int(k as i64));
                    Scalar::select(here, element, later)
                }
            });
        }
        let body = body.unwrap_or_else(|| Scalar::zero(tensors[0].dtype));
        self.emit(Emission { axes: &axes, shape: None, reduce: None, body, span, name: None })
    }

    /// `n` equal parts, or parts of given sizes, along an axis.
    ///
    /// # Errors
    /// Sizes that do not add up.
    pub fn split_tensor(&mut self, t: &TensorValue, sizes: &Value, axis: i64, span: Span) -> Eval<Value> {
        let axis = self.axis_position(axis, t.rank(), span)?;
        let whole = t.shape[axis].clone();
        let sizes: Vec<Dim> = match sizes {
            Value::List(items) => {
                let sizes: Eval<Vec<Dim>> = items.iter().map(|v| self.size_of(v, span)).collect();
                sizes?
            }
            other => {
                let n = self.int_of(other, "the number of parts", span)?;
                if !(1..=10_000).contains(&n) {
                    return self.error("arguments", format!("`split` makes 1 to 10000 parts, not {n}"), span);
                }
                vec![self.equal_parts(&whole, &Dim::from(n), span)?; n as usize]
            }
        };
        let mut start = Dim::ZERO;
        let mut parts = Vec::new();
        for size in &sizes {
            let mut shape = t.shape.to_vec();
            shape[axis] = size.clone();
            let axes = self.axes_of(&shape);
            let mut position: Vec<Scalar> = axes.iter().map(Scalar::index).collect();
            position[axis] = position[axis].clone().plus(Scalar::dim(&start));
            let body = self.element(t, &position, span);
            let part =
                self.emit(Emission { axes: &axes, shape: None, reduce: None, body, span, name: None })?;
            parts.push(Value::Tensor(TensorValue { exact: t.exact, ..part }));
            start = self.sized(start.add(size), span)?;
        }
        self.equate(&start, &whole, span, || {
            Diagnostic::error(
                "shape-mismatch",
                format!("the parts of this split have {start} in all, but the axis has size {whole}"),
            )
            .at(span, "")
        })?;
        Ok(Value::list(parts))
    }

    /// The `k` greatest of the last axis, and where they stood.
    ///
    /// # Errors
    /// A `k` beyond the axis.
    pub fn top_k(&mut self, t: &TensorValue, k: &Dim, span: Span) -> Eval<Value> {
        let t = self.stored(t, span)?;
        let Some(last) = t.shape.last().cloned() else {
            return self.error(
                "shape-mismatch",
                "`top_k` takes a tensor with an axis, but this is a scalar",
                span,
            );
        };
        match super::scalar::compare_dims(BinaryOp::Le, k, &last) {
            Some(crate::dim::Truth::Yes) => {}
            Some(crate::dim::Truth::No) => {
                return self.error("out-of-range", format!("`top_k` takes {k} of an axis of {last}"), span);
            }
            _ => {
                let condition = ir::DimCondition::Le(k.clone(), last.clone());
                self.check(
                    condition,
                    "out-of-range",
                    format!("`top_k` takes {k} of an axis of {last}"),
                    span,
                );
            }
        }
        let mut shape = t.shape.to_vec();
        shape.pop();
        shape.push(k.clone());
        let physical: Vec<Dim> =
            t.mapped.iter().map(|v| v.extent().clone()).chain(shape.iter().cloned()).collect();
        let results = vec![TensorType::new(t.dtype, physical.clone()), TensorType::new(DType::I64, physical)];
        let Repr::Node(source) = t.repr else {
            return self.error(
                "shape-mismatch",
                "`top_k` takes a tensor with an axis, but this is a scalar",
                span,
            );
        };
        self.charge_node(span)?;
        let operand = self.import(source);
        let frame = self.frame();
        let node = frame.graph.add(Node { op: Op::TopK(k.clone()), results, span, name: None }, &[operand]);
        let id = frame.id;
        let result = |result: u32, dtype: DType| {
            let value = ir::Value { node, result };
            Value::Tensor(TensorValue::node(
                NodeRef { frame: id, value },
                dtype,
                shape.clone(),
                t.mapped.to_vec(),
            ))
        };
        Ok(Value::tuple(vec![result(0, t.dtype), result(1, DType::I64)]))
    }

    fn one_type(&mut self, tensors: &[TensorValue], span: Span) -> Eval<Vec<TensorValue>> {
        let references: Vec<&TensorValue> = tensors.iter().collect();
        let (dtype, exact) = self.common_dtype(&references, span)?;
        let dtype = if exact && dtype == DType::F64 { DType::F32 } else { dtype };
        tensors.iter().map(|t| self.coerce(t, dtype, span)).collect()
    }

    /// That two tensors have one shape, but for one axis.
    fn same_but(
        &mut self,
        a: &TensorValue,
        b: &TensorValue,
        axis: Option<usize>,
        what: &str,
        span: Span,
    ) -> Eval<()> {
        let title = format!("`{what}` of shapes that differ: {} and {}", a.type_text(), b.type_text());
        if a.rank() != b.rank() {
            return self.error("shape-mismatch", title, span);
        }
        for (k, (x, y)) in a.shape.iter().zip(b.shape.iter()).enumerate() {
            if Some(k) != axis {
                self.equate(x, y, span, || Self::shape_mismatch(title.clone(), span, None))?;
            }
        }
        Ok(())
    }

    /// Positions along axes as scalars.
    pub fn positions(axes: &[IndexVar]) -> Vec<Scalar> {
        axes.iter().map(Scalar::index).collect()
    }
}
