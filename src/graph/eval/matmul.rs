//! Matrix products over views.

use super::super::ir::{Epilogue, MatMul, Node, Pick, View};
use super::point::Points;
use super::{EvalError, Machine, advance, store};
use crate::dim::Dim;
use crate::dtype::DType;
use crate::ops::scalar::BinaryOp;
use crate::ops::value::{Scalar, apply_binary};
use crate::span::Span;
use crate::tensor::Tensor;
use std::sync::Arc;

impl Machine<'_> {
    pub(super) fn matmul(
        &self,
        product: &MatMul,
        operands: &[Arc<Tensor>],
        node: &Node,
    ) -> Result<Tensor, EvalError> {
        let span = node.span;
        let mut out = self.zeros(&node.results[0], span)?;
        let iterate = self.extents(&product.iterate, span)?;
        let contract = self.extents(&product.contract, span)?;
        let walks = [self.walk(&product.lhs, span)?, self.walk(&product.rhs, span)?];
        let picks = match &product.pick {
            Some(pick) => Some(self.picks(pick, span)?),
            None => None,
        };
        let zero = Scalar::zero(self.mode.stored(DType::F32));
        let mut epilogue = product.epilogue.as_ref().map(|Epilogue { exprs, body }| {
            (Points::new(self, exprs, operands, (&product.iterate, &[]), Some(zero), span), *body)
        });
        let terms = super::points(&contract, span)?;
        let (mut point, mut depth) = (vec![0; iterate.len()], vec![0; contract.len()]);
        for at in 0..out.elems() {
            let mut value = zero;
            let picked = match &picks {
                Some(picks) if terms > 0 => picks.offset(&operands[2], &point, span)?,
                _ => 0,
            };
            for _ in 0..terms {
                let moved = [0, picked];
                let factor =
                    |k: usize| element(&operands[k], walks[k].address(&point, &depth) + moved[k], span);
                value = apply_binary(BinaryOp::Mul, factor(0)?, factor(1)?)
                    .and_then(|term| apply_binary(BinaryOp::Add, value, term))
                    .map_err(|error| EvalError::Invalid { message: error.to_string(), span })?;
                advance(&mut depth, &contract);
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

    fn picks(&self, pick: &Pick, span: Span) -> Result<Picks, EvalError> {
        let (extent, stride) = (self.position(&pick.extent, span)?, self.position(&pick.stride, span)?);
        Ok(Picks { at: self.walk(&pick.at, span)?, extent, stride, span: pick.source.span })
    }

    pub(super) fn walk(&self, view: &View, span: Span) -> Result<Walk, EvalError> {
        let mut offset = self.position(&view.offset, span)?;
        for (var, stride) in &view.vars {
            let position = self.vars.get(var).copied().unwrap_or_default();
            offset = offset.wrapping_add(position.wrapping_mul(self.position(stride, span)?));
        }
        let strides = |dims: &[Dim]| dims.iter().map(|d| self.position(d, span)).collect();
        let iterate: Result<Vec<i64>, EvalError> = strides(&view.iterate);
        let contract: Result<Vec<i64>, EvalError> = strides(&view.contract);
        Ok(Walk { offset, iterate: iterate?, contract: contract? })
    }
}

/// A view with its numbers.
pub(super) struct Walk {
    offset: i64,
    iterate: Vec<i64>,
    contract: Vec<i64>,
}

impl Walk {
    /// The element at a point.
    pub(super) fn address(&self, point: &[i64], depth: &[i64]) -> i64 {
        let steps = point.iter().zip(&self.iterate).chain(depth.iter().zip(&self.contract));
        steps.fold(self.offset, |at, (position, stride)| at.wrapping_add(position.wrapping_mul(*stride)))
    }
}

/// Which matrix each row picks, with its numbers.
struct Picks {
    at: Walk,
    extent: i64,
    stride: i64,
    span: Span,
}

impl Picks {
    /// What the pick at a point adds to the right operand's address.
    fn offset(&self, picks: &Tensor, point: &[i64], span: Span) -> Result<i64, EvalError> {
        let pick = element(picks, self.at.address(point, &[]), span)?.as_i64().unwrap_or(-1);
        if !(0..self.extent).contains(&pick) {
            let extents = vec![usize::try_from(self.extent).unwrap_or_default()];
            return Err(EvalError::OutOfRange { index: vec![pick], extents, span: self.span });
        }
        Ok(pick * self.stride)
    }
}

pub(super) fn element(tensor: &Tensor, at: i64, span: Span) -> Result<Scalar, EvalError> {
    let inside = usize::try_from(at).ok().filter(|at| *at < tensor.elems());
    match inside {
        Some(at) => Ok(store::read(tensor, at)),
        None => Err(EvalError::OutOfRange { index: vec![at], extents: vec![tensor.elems()], span }),
    }
}
