//! Small matrices applied from both sides.

use super::super::ir::{Epilogue, Node, SmallMatrix, Transform};
use super::matmul::element;
use super::point::Points;
use super::{EvalError, Machine, advance, store};
use crate::dtype::DType;
use crate::ops::scalar::BinaryOp;
use crate::ops::value::{Scalar, apply_binary, cast};
use crate::tensor::Tensor;
use std::sync::Arc;

impl Machine<'_> {
    pub(super) fn transform(
        &self,
        transform: &Transform,
        operands: &[Arc<Tensor>],
        node: &Node,
    ) -> Result<Tensor, EvalError> {
        let span = node.span;
        let mut out = self.zeros(&node.results[0], span)?;
        let iterate = self.extents(&transform.iterate, span)?;
        let walk = self.walk(&transform.source, span)?;
        let dtype = self.mode.stored(DType::F32);
        let zero = Scalar::zero(dtype);
        let mut epilogue = transform.epilogue.as_ref().map(|Epilogue { exprs, body }| {
            (Points::new(self, exprs, operands, (&transform.iterate, &[]), Some(zero), span), *body)
        });
        let combine = |op, a, b| {
            apply_binary(op, a, b).map_err(|error| EvalError::Invalid { message: error.to_string(), span })
        };
        let SmallMatrix { columns, elements } = transform.matrix;
        let mut point = vec![0; iterate.len()];
        for at in 0..out.elems() {
            let mut value = zero;
            let [a, b] = transform.made.map(|axis| point[axis] as usize * columns);
            for (u, v) in (0..columns).flat_map(|u| (0..columns).map(move |v| (u, v))) {
                let factor = elements[a + u] * elements[b + v];
                if factor == 0.0 {
                    continue;
                }
                let factor = cast(Scalar::F64(factor), dtype);
                let term = element(&operands[0], walk.address(&point, &[u as i64, v as i64]), span)?;
                value = combine(BinaryOp::Add, value, combine(BinaryOp::Mul, factor, term)?)?;
            }
            if let Some((points, body)) = &mut epilogue {
                points.outer().copy_from_slice(&point);
                points.set_accumulator(value);
                value = points.value(*body)?;
            }
            store::write(&mut out, at, value);
            advance(&mut point, &iterate);
        }
        Ok(out)
    }
}
