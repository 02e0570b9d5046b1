//! The value of expressions at one point of an op.
//!
//! Evaluation is lazy: an operand is evaluated when the value of its user needs it, so reads in a
//! branch that is not taken do not happen. Each expression is evaluated at most once per point;
//! what does not use the reduced indices is kept while they move. There is no recursion, because
//! expressions may be as deep as a program is long: a step that lacks an operand asks for it and
//! is run again.

use super::super::expr::{Expr, ExprId, Exprs, Literal, Read};
use super::super::ir::Axis;
use super::{EvalError, Machine, store};
use crate::ops::value::{OpError, Scalar, apply_binary, apply_unary, cast};
use crate::span::Span;
use crate::tensor::Tensor;
use std::sync::Arc;

/// How long a value lasts.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Lasts {
    /// It uses no index.
    Whole,
    /// It uses iterate indices, or the accumulator of a product.
    Outer,
    /// It uses reduced indices.
    Inner,
}

/// Why a step gives no value.
enum Stop {
    /// An operand is not evaluated yet.
    Needs(ExprId),
    /// It has none.
    Fails(Box<EvalError>),
}

/// Evaluates the expressions of one op.
pub(super) struct Points<'a> {
    machine: &'a Machine<'a>,
    exprs: &'a Exprs,
    operands: &'a [Arc<Tensor>],
    span: Span,
    /// The point: iterate indices, then reduced ones.
    index: Vec<i64>,
    /// Number of iterate indices.
    outer: usize,
    /// The value of port 0 in an epilogue.
    accumulator: Option<Scalar>,
    lasts: Vec<Lasts>,
    /// The latest value of each expression and the tick of its kind at that time.
    memo: Vec<(u64, Scalar)>,
    ticks: [u64; 3],
    pending: Vec<ExprId>,
}

impl<'a> Points<'a> {
    /// An evaluator at the first point. With `accumulator`, port 0 is that value.
    pub fn new(
        machine: &'a Machine<'a>,
        exprs: &'a Exprs,
        operands: &'a [Arc<Tensor>],
        axes: (&[Axis], &[Axis]),
        accumulator: Option<Scalar>,
        span: Span,
    ) -> Self {
        let outer = axes.0.len();
        Points {
            machine,
            exprs,
            operands,
            span,
            index: vec![0; outer + axes.1.len()],
            outer,
            accumulator,
            lasts: lasts(exprs, outer, accumulator.is_some()),
            memo: vec![(0, Scalar::Bool(false)); exprs.len()],
            ticks: [1; 3],
            pending: Vec::new(),
        }
    }

    /// The iterate indices, to be moved.
    pub fn outer(&mut self) -> &mut [i64] {
        self.ticks[1] += 1;
        self.ticks[2] += 1;
        &mut self.index[..self.outer]
    }

    /// The reduced indices, to be moved.
    pub fn inner(&mut self) -> &mut [i64] {
        self.ticks[2] += 1;
        &mut self.index[self.outer..]
    }

    /// Sets what port 0 of an epilogue is at this point.
    pub fn set_accumulator(&mut self, value: Scalar) {
        self.accumulator = Some(value);
    }

    /// The value of an expression at this point.
    pub fn value(&mut self, root: ExprId) -> Result<Scalar, EvalError> {
        self.pending.push(root);
        while let Some(id) = self.pending.last().copied() {
            if self.get(id).is_err() {
                match self.step(id) {
                    Ok(value) => self.memo[id.0 as usize] = (self.tick(id), value),
                    Err(Stop::Needs(operand)) => {
                        self.pending.push(operand);
                        continue;
                    }
                    Err(Stop::Fails(error)) => {
                        self.pending.clear();
                        return Err(*error);
                    }
                }
            }
            self.pending.pop();
        }
        Ok(self.memo[root.0 as usize].1)
    }

    /// The value of a condition at this point.
    pub fn holds(&mut self, condition: Option<ExprId>) -> Result<bool, EvalError> {
        let Some(condition) = condition else { return Ok(true) };
        let value = self.value(condition)?;
        value.as_bool().ok_or_else(|| self.invalid("a condition is not bool"))
    }

    /// The value of an i64 expression at this point.
    pub fn int(&mut self, id: ExprId) -> Result<i64, EvalError> {
        let value = self.value(id)?;
        value.as_i64().ok_or_else(|| self.invalid("an index is not i64"))
    }

    fn tick(&self, id: ExprId) -> u64 {
        self.ticks[self.lasts[id.0 as usize] as usize]
    }

    /// The value of an expression, if it is known.
    fn get(&self, id: ExprId) -> Result<Scalar, Stop> {
        let (tick, value) = self.memo[id.0 as usize];
        if tick == self.tick(id) { Ok(value) } else { Err(Stop::Needs(id)) }
    }

    fn step(&self, id: ExprId) -> Result<Scalar, Stop> {
        let dtype = self.machine.mode.stored(self.exprs.dtype(id));
        match self.exprs.get(id) {
            Expr::Const(Literal::Real(bits)) => Ok(cast(Scalar::F64(f64::from_bits(*bits)), dtype)),
            Expr::Const(Literal::Int(value)) => Ok(cast(Scalar::I64(*value), dtype)),
            Expr::Const(Literal::Bool(value)) => Ok(Scalar::Bool(*value)),
            Expr::Index(k) => Ok(Scalar::I64(self.index[*k as usize])),
            Expr::Var(var) => match self.machine.vars.get(var) {
                Some(position) => Ok(Scalar::I64(*position)),
                None => Err(self.fails(self.invalid("a position is used outside its region"))),
            },
            Expr::Dim(dim) => match self.machine.position(dim, self.span) {
                Ok(value) => Ok(Scalar::I64(value)),
                Err(error) => Err(self.fails(error)),
            },
            Expr::Read(read) => self.read(read),
            Expr::Unary(op, a) => apply_unary(*op, self.get(*a)?).map_err(|e| self.op_error(e)),
            Expr::Binary(op, a, b) => {
                apply_binary(*op, self.get(*a)?, self.get(*b)?).map_err(|e| self.op_error(e))
            }
            Expr::Select(condition, then, otherwise) => match self.get(*condition)? {
                Scalar::Bool(true) => self.get(*then),
                Scalar::Bool(false) => self.get(*otherwise),
                _ => Err(self.fails(self.invalid("a condition is not bool"))),
            },
            Expr::Cast(a) => Ok(cast(self.get(*a)?, dtype)),
        }
    }

    fn read(&self, read: &Read) -> Result<Scalar, Stop> {
        if let (0, Some(accumulator)) = (read.port, self.accumulator) {
            return Ok(accumulator);
        }
        let operand = &self.operands[read.port as usize];
        let (mut at, mut outside) = (0usize, false);
        for (index, extent) in read.index.iter().zip(operand.shape()) {
            let Scalar::I64(position) = self.get(*index)? else {
                return Err(self.fails(self.invalid("an index is not i64")));
            };
            match usize::try_from(position) {
                Ok(position) if position < *extent => at = at * extent + position,
                _ => outside = true,
            }
        }
        match read.otherwise {
            _ if !outside => Ok(store::read(operand, at)),
            Some(otherwise) => self.get(otherwise),
            None => {
                let position = |index: &ExprId| Ok(self.get(*index)?.as_i64().unwrap_or_default());
                let index = read.index.iter().map(position).collect::<Result<_, Stop>>()?;
                let extents = operand.shape().to_vec();
                Err(self.fails(EvalError::OutOfRange { index, extents, span: read.span }))
            }
        }
    }

    fn op_error(&self, error: OpError) -> Stop {
        self.fails(match error {
            OpError::DivisionByZero => EvalError::DivisionByZero { span: self.span },
            OpError::Undefined { .. } => self.invalid(&error.to_string()),
        })
    }

    fn fails(&self, error: EvalError) -> Stop {
        Stop::Fails(Box::new(error))
    }

    fn invalid(&self, message: &str) -> EvalError {
        EvalError::Invalid { message: message.to_string(), span: self.span }
    }
}

fn lasts(exprs: &Exprs, outer: usize, accumulates: bool) -> Vec<Lasts> {
    let mut lasts: Vec<Lasts> = Vec::with_capacity(exprs.len());
    for (id, expr, _) in exprs.iter() {
        let own = match expr {
            Expr::Index(k) if (*k as usize) < outer => Lasts::Outer,
            Expr::Index(_) => Lasts::Inner,
            Expr::Read(read) if accumulates && read.port == 0 => Lasts::Outer,
            _ => Lasts::Whole,
        };
        let operands = exprs.operands(id).into_iter().map(|operand| lasts[operand.0 as usize]);
        lasts.push(operands.fold(own, Ord::max));
    }
    lasts
}
