//! Building scalar expressions, folded where both sides are known.

use super::FuncCx;
use crate::dim::Dim;
use crate::dtype::DType;
use crate::graph::expr::Literal;
use crate::loops::ir::{BufferId, Local, LoopVar, Scalar, ScalarId};
use crate::ops::reduce::Reducer;
use crate::ops::scalar::{BinaryOp, UnaryOp};

impl FuncCx<'_> {
    pub(super) fn scalar(&mut self, scalar: Scalar, dtype: DType) -> ScalarId {
        self.func.scalars.add(scalar, dtype)
    }

    pub(super) fn int(&mut self, value: i64) -> ScalarId {
        self.scalar(Scalar::Const(Literal::Int(value)), DType::I64)
    }

    pub(super) fn bool(&mut self, value: bool) -> ScalarId {
        self.scalar(Scalar::Const(Literal::Bool(value)), DType::Bool)
    }

    /// A formula of the call's sizes.
    pub(super) fn whole_dim(&mut self, dim: &Dim) -> ScalarId {
        match dim.as_const() {
            Some(value) => self.int(value),
            None => self.scalar(Scalar::Dim(dim.clone()), DType::I64),
        }
    }

    pub(super) fn var(&mut self, var: LoopVar) -> ScalarId {
        self.scalar(Scalar::Var(var), DType::I64)
    }

    pub(super) fn local(&mut self, local: Local) -> ScalarId {
        let dtype = self.func.locals[local.0 as usize].1;
        self.scalar(Scalar::Local(local), dtype)
    }

    pub(super) fn load(&mut self, buffer: BufferId, index: ScalarId) -> ScalarId {
        let dtype = self.func.buffers[buffer.0 as usize].dtype;
        self.scalar(Scalar::Load(buffer, index), dtype)
    }

    pub(super) fn as_int(&self, id: ScalarId) -> Option<i64> {
        match self.func.scalars.get(id) {
            Scalar::Const(Literal::Int(value)) => Some(*value),
            _ => None,
        }
    }

    pub(super) fn as_bool(&self, id: ScalarId) -> Option<bool> {
        match self.func.scalars.get(id) {
            Scalar::Const(Literal::Bool(value)) => Some(*value),
            _ => None,
        }
    }

    /// A size that an expression is, if it is one.
    fn as_dim(&self, id: ScalarId) -> Option<Dim> {
        match self.func.scalars.get(id) {
            Scalar::Const(Literal::Int(value)) if self.func.scalars.dtype(id) == DType::I64 => {
                Some(Dim::from(*value))
            }
            Scalar::Dim(dim) => Some(dim.clone()),
            _ => None,
        }
    }

    pub(super) fn binary(&mut self, op: BinaryOp, a: ScalarId, b: ScalarId) -> ScalarId {
        let operand = self.func.scalars.dtype(a);
        if let Some(known) = self.fold_dims(op, a, b).or_else(|| self.fold_bools(op, a, b)) {
            return known;
        }
        if operand == DType::I64 {
            let (left, right) = (self.as_int(a), self.as_int(b));
            match (op, left, right) {
                (BinaryOp::Sub, ..) if a == b => return self.int(0),
                (BinaryOp::Min | BinaryOp::Max, ..) if a == b => return a,
                (BinaryOp::Add, Some(0), _) | (BinaryOp::Mul, Some(1), _) => return b,
                (BinaryOp::Add | BinaryOp::Sub, _, Some(0))
                | (BinaryOp::Mul | BinaryOp::FloorDiv, _, Some(1)) => {
                    return a;
                }
                (BinaryOp::Mul, Some(0), _) | (BinaryOp::Mul, _, Some(0)) | (BinaryOp::Mod, _, Some(1)) => {
                    return self.int(0);
                }
                _ => {}
            }
        }
        self.scalar(Scalar::Binary(op, a, b), op.result(operand))
    }

    /// Folds arithmetic of sizes, and comparisons that hold or fail for all sizes.
    fn fold_dims(&mut self, op: BinaryOp, a: ScalarId, b: ScalarId) -> Option<ScalarId> {
        let (x, y) = (self.as_dim(a)?, self.as_dim(b)?);
        let both = x.as_const().is_some() && y.as_const().is_some();
        let value = match op {
            BinaryOp::Add => x.add(&y).ok()?,
            BinaryOp::Sub => x.sub(&y).ok()?,
            BinaryOp::Mul => x.mul(&y).ok()?,
            BinaryOp::FloorDiv if both => x.floor_div(&y).ok()?,
            BinaryOp::Mod if both => x.modulo(&y).ok()?,
            BinaryOp::Min => x.minimum(&y).ok()?,
            BinaryOp::Max => x.maximum(&y).ok()?,
            _ => {
                let (low, high) = x.sub(&y).ok()?.range();
                let truth = decide(op, low, high)?;
                return Some(self.bool(truth));
            }
        };
        Some(self.dim(&value))
    }

    fn fold_bools(&mut self, op: BinaryOp, a: ScalarId, b: ScalarId) -> Option<ScalarId> {
        let (x, y) = (self.as_bool(a), self.as_bool(b));
        match (op, x, y) {
            (BinaryOp::And, Some(true), _) | (BinaryOp::Or, Some(false), _) => Some(b),
            (BinaryOp::And, _, Some(true)) | (BinaryOp::Or, _, Some(false)) => Some(a),
            (BinaryOp::And, Some(false), _) | (BinaryOp::And, _, Some(false)) => Some(self.bool(false)),
            (BinaryOp::Or, Some(true), _) | (BinaryOp::Or, _, Some(true)) => Some(self.bool(true)),
            _ => None,
        }
    }

    pub(super) fn add(&mut self, a: ScalarId, b: ScalarId) -> ScalarId {
        self.binary(BinaryOp::Add, a, b)
    }

    pub(super) fn mul(&mut self, a: ScalarId, b: ScalarId) -> ScalarId {
        self.binary(BinaryOp::Mul, a, b)
    }

    pub(super) fn and(&mut self, a: ScalarId, b: ScalarId) -> ScalarId {
        self.binary(BinaryOp::And, a, b)
    }

    pub(super) fn or(&mut self, a: ScalarId, b: ScalarId) -> ScalarId {
        self.binary(BinaryOp::Or, a, b)
    }

    pub(super) fn not(&mut self, a: ScalarId) -> ScalarId {
        match self.as_bool(a) {
            Some(known) => self.bool(!known),
            None => self.scalar(Scalar::Unary(UnaryOp::Not, a), DType::Bool),
        }
    }

    pub(super) fn select(&mut self, condition: ScalarId, then: ScalarId, otherwise: ScalarId) -> ScalarId {
        match self.as_bool(condition) {
            Some(true) => then,
            Some(false) => otherwise,
            None if then == otherwise => then,
            None => {
                let dtype = self.func.scalars.dtype(then);
                self.scalar(Scalar::Select(condition, then, otherwise), dtype)
            }
        }
    }

    /// `extent > 0` for all of some sizes.
    pub(super) fn none_empty<'d>(&mut self, extents: impl IntoIterator<Item = &'d Dim>) -> ScalarId {
        let mut all = self.bool(true);
        for extent in extents {
            let (extent, zero) = (self.dim(extent), self.int(0));
            let positive = self.binary(BinaryOp::Gt, extent, zero);
            all = self.and(all, positive);
        }
        all
    }

    /// Zero, or `false`.
    pub(super) fn zero(&mut self, dtype: DType) -> ScalarId {
        match dtype {
            DType::Bool => self.bool(false),
            DType::I32 | DType::I64 => self.scalar(Scalar::Const(Literal::Int(0)), dtype),
            _ => self.scalar(Scalar::Const(Literal::Real(0f64.to_bits())), dtype),
        }
    }

    /// The value of a reduction over nothing.
    pub(super) fn identity(&mut self, reducer: Reducer, term: DType) -> ScalarId {
        self.scalar(Scalar::Const(Literal::over_nothing(reducer, term)), reducer.result(term))
    }
}

/// Whether `x op y` holds for every `x - y` between two bounds, or for none.
fn decide(op: BinaryOp, low: Option<i64>, high: Option<i64>) -> Option<bool> {
    let below = |than: i64| high.is_some_and(|high| high < than);
    let above = |than: i64| low.is_some_and(|low| low > than);
    let known = |yes: bool, no: bool| if yes { Some(true) } else { no.then_some(false) };
    match op {
        BinaryOp::Lt => known(below(0), above(-1)),
        BinaryOp::Ge => known(above(-1), below(0)),
        BinaryOp::Le => known(below(1), above(0)),
        BinaryOp::Gt => known(above(0), below(1)),
        BinaryOp::Eq => known(low == Some(0) && high == Some(0), below(0) || above(0)),
        BinaryOp::Ne => known(below(0) || above(0), low == Some(0) && high == Some(0)),
        _ => None,
    }
}

/// The operation that combines two terms; `None` for positions.
pub(super) fn combiner(reducer: Reducer) -> Option<BinaryOp> {
    match reducer {
        Reducer::Sum => Some(BinaryOp::Add),
        Reducer::Prod => Some(BinaryOp::Mul),
        Reducer::Max => Some(BinaryOp::Max),
        Reducer::Min => Some(BinaryOp::Min),
        Reducer::Any => Some(BinaryOp::Or),
        Reducer::All => Some(BinaryOp::And),
        Reducer::ArgMax | Reducer::ArgMin => None,
    }
}
