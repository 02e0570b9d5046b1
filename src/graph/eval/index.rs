//! Index ops, segments as the one pass that their definition allows, and scans.

use super::super::ir::{Axis, Index, Node, Scan, Segment};
use super::point::Points;
use super::{EvalError, Machine, advance, store};
use crate::dtype::DType;
use crate::ops::reduce::Reducer;
use crate::ops::scalar::BinaryOp;
use crate::ops::value::{OpError, Scalar, apply_binary, displaces, over_nothing, wins};
use crate::span::Span;
use crate::tensor::{Tensor, TensorError};
use std::cmp::Ordering;
use std::sync::Arc;

impl Machine<'_> {
    pub(super) fn index(
        &self,
        index: &Index,
        operands: &[Arc<Tensor>],
        node: &Node,
    ) -> Result<Tensor, EvalError> {
        let mut out = self.zeros(&node.results[0], node.span)?;
        let iterate = self.extents(&index.iterate, node.span)?;
        let reduced = index.reduce.as_ref().map_or(&[][..], |r| &r.axes);
        let reduce = self.extents(reduced, node.span)?;
        let mut points =
            Points::new(self, &index.exprs, operands, (&index.iterate, reduced), None, node.span);
        for at in 0..out.elems() {
            // An element under a false guard stays zero.
            if points.holds(index.guard)? {
                let value = match &index.reduce {
                    None => points.value(index.body)?,
                    Some(_) => self.reduction(index, &reduce, &mut points, node.span)?,
                };
                store::write(&mut out, at, value);
            }
            advance(points.outer(), &iterate);
        }
        Ok(out)
    }

    /// The reduction at one result point; the reduced indices are left at zero.
    fn reduction(
        &self,
        index: &Index,
        extents: &[usize],
        points: &mut Points,
        span: Span,
    ) -> Result<Scalar, EvalError> {
        let Some(reduce) = &index.reduce else { return points.value(index.body) };
        let mut sum = Accumulator::new(reduce.reducer, self.term(index));
        let count = super::points(extents, span)?;
        for position in 0..count {
            if points.holds(reduce.filter)? {
                let term = points.value(index.body)?;
                sum.add(term, position).map_err(|error| invalid(error, span))?;
            }
            advance(points.inner(), extents);
        }
        match reduce.otherwise {
            Some(otherwise) if sum.is_empty() => points.value(otherwise),
            _ => Ok(sum.result()),
        }
    }

    /// The definition, with the loops exchanged: for each reduced point the one element that its
    /// key selects. Each element still sees its points in row-major order.
    pub(super) fn segment(
        &self,
        segment: &Segment,
        operands: &[Arc<Tensor>],
        node: &Node,
    ) -> Result<Tensor, EvalError> {
        let Segment { index, axis, key } = segment;
        let Some(reduce) = &index.reduce else { return self.index(index, operands, node) };
        let mut out = self.zeros(&node.results[0], node.span)?;
        let iterate = self.extents(&index.iterate, node.span)?;
        let extents = self.extents(&reduce.axes, node.span)?;
        // The selected index is the key's to move, so it counts as one of extent 1.
        let mut others = iterate.clone();
        others[*axis] = 1;
        let mut sums = Vec::new();
        sums.try_reserve_exact(out.elems()).map_err(|_| {
            let size_bytes = out.elems().saturating_mul(size_of::<Accumulator>());
            let (dtype, shape) = (out.dtype(), out.shape().to_vec());
            EvalError::Tensor {
                error: TensorError::OutOfMemory { dtype, shape, size_bytes },
                span: node.span,
            }
        })?;
        sums.resize(out.elems(), Accumulator::new(reduce.reducer, self.term(index)));
        let mut points =
            Points::new(self, &index.exprs, operands, (&index.iterate, &reduce.axes), None, node.span);
        let rows = super::points(&others, node.span)?;
        let count = super::points(&extents, node.span)?;
        for _ in 0..rows {
            for position in 0..count {
                let selected = usize::try_from(points.int(*key)?).ok().filter(|k| *k < iterate[*axis]);
                if let Some(selected) = selected {
                    points.outer()[*axis] = selected as i64;
                    let at = row_major(points.outer(), &iterate);
                    if points.holds(index.guard)? && points.holds(reduce.filter)? {
                        let term = points.value(index.body)?;
                        sums[at].add(term, position).map_err(|error| invalid(error, node.span))?;
                    }
                    points.outer()[*axis] = 0;
                }
                advance(points.inner(), &extents);
            }
            advance(points.outer(), &others);
        }
        for (at, sum) in sums.iter().enumerate() {
            if points.holds(index.guard)? {
                let value = match reduce.otherwise {
                    Some(otherwise) if sum.is_empty() => points.value(otherwise)?,
                    _ => sum.result(),
                };
                store::write(&mut out, at, value);
            }
            advance(points.outer(), &iterate);
        }
        Ok(out)
    }

    /// Each row along the axis step by step.
    pub(super) fn scan(
        &self,
        scan: Scan,
        operands: &[Arc<Tensor>],
        node: &Node,
    ) -> Result<Tensor, EvalError> {
        let terms = &operands[0];
        let mut out = self.zeros(&node.results[0], node.span)?;
        let (outer, inner) = terms.shape().split_at(scan.axis);
        let (steps, inner) = inner.split_first().map_or((1, inner), |(steps, inner)| (*steps, inner));
        let behind: usize = inner.iter().product();
        for row in 0..outer.iter().product() {
            for column in 0..behind {
                let mut sum = Accumulator::new(scan.reducer, terms.dtype());
                for step in 0..steps {
                    let t = if scan.reverse { steps - 1 - step } else { step };
                    let at = (row * steps + t) * behind + column;
                    let term = store::read(terms, at);
                    sum.add(term, t).map_err(|error| invalid(error, node.span))?;
                    store::write(&mut out, at, sum.result());
                }
            }
        }
        Ok(out)
    }

    /// The type in which the terms of an op are held.
    fn term(&self, index: &Index) -> DType {
        self.mode.stored(index.exprs.dtype(index.body))
    }

    pub(super) fn extents(&self, axes: &[Axis], span: Span) -> Result<Vec<usize>, EvalError> {
        axes.iter().map(|axis| self.size(&axis.extent, span)).collect()
    }
}

/// A reduction under way.
#[derive(Clone)]
struct Accumulator {
    reducer: Reducer,
    /// The sum so far; of `argmax` and `argmin`, the extreme term.
    value: Scalar,
    /// The result over nothing, and later the position of the extreme term.
    result: Scalar,
    empty: bool,
}

impl Accumulator {
    fn new(reducer: Reducer, term: DType) -> Self {
        let nothing = over_nothing(reducer, term);
        Accumulator { reducer, value: nothing, result: nothing, empty: true }
    }

    fn add(&mut self, term: Scalar, position: usize) -> Result<(), OpError> {
        let wanted = match self.reducer {
            Reducer::Max | Reducer::ArgMax => Ordering::Greater,
            _ => Ordering::Less,
        };
        match self.reducer {
            Reducer::Sum => self.value = apply_binary(BinaryOp::Add, self.value, term)?,
            Reducer::Prod => self.value = apply_binary(BinaryOp::Mul, self.value, term)?,
            Reducer::Any => self.value = apply_binary(BinaryOp::Or, self.value, term)?,
            Reducer::All => self.value = apply_binary(BinaryOp::And, self.value, term)?,
            Reducer::Max | Reducer::Min => {
                if self.empty || displaces(term, self.value, wanted) {
                    self.value = term;
                }
            }
            Reducer::ArgMax | Reducer::ArgMin => {
                if self.empty || wins(term, self.value, wanted) {
                    self.value = term;
                    self.result = Scalar::I64(position as i64);
                }
            }
        }
        self.empty = false;
        Ok(())
    }

    fn is_empty(&self) -> bool {
        self.empty
    }

    fn result(&self) -> Scalar {
        match self.reducer {
            Reducer::ArgMax | Reducer::ArgMin => self.result,
            _ => self.value,
        }
    }
}

fn row_major(index: &[i64], extents: &[usize]) -> usize {
    index.iter().zip(extents).fold(0, |at, (position, extent)| at * extent + *position as usize)
}

fn invalid(error: OpError, span: Span) -> EvalError {
    EvalError::Invalid { message: error.to_string(), span }
}
