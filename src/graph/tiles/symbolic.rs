//! The pass of bounds as expressions: what generated code tests before a tile.
//!
//! Takes a condition and, for each index that varies within a tile, expressions for its least and
//! greatest value (over loop positions, other indices and free dimensions); gives two truth values in
//! the same arena. `any` is false only where no point of the tile satisfies the condition, `all` is
//! true only where every point does. Both can be evaluated anywhere that the condition can: they read
//! nothing at positions that may be outside, and divide by nothing that may be zero.

use super::domain::{Domain, Ends, Known, evaluate};
use super::steps::{Steps, bit};
use crate::dim::Dim;
use crate::dtype::DType;
use crate::graph::expr::{Expr, ExprId, Exprs, Literal, Read, VarId};
use crate::ops::scalar::{BinaryOp, UnaryOp};
use std::collections::BTreeMap;

/// What is asked of a tile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tests {
    /// Whether some point may satisfy the condition.
    pub any: ExprId,
    /// Whether every point must.
    pub all: ExprId,
}

/// Adds the tests of a condition to its arena. `ranges` are the inclusive ends of the indices that vary
/// within a tile, which is not empty.
pub fn tests(exprs: &mut Exprs, condition: ExprId, ranges: &BTreeMap<u32, (ExprId, ExprId)>) -> Tests {
    let steps = Steps::new(exprs, condition);
    let varying = ranges.keys().fold(0, |set, k| set | bit(*k));
    let repeatable = repeatable(exprs);
    let mut terms = Terms { exprs, ranges, varying, repeatable };
    match evaluate(&steps, &mut terms) {
        Known::Truth { must, may } => Tests { any: may, all: must },
        // Not a condition: nothing is known of it.
        Known::Int { .. } => Tests { any: terms.exprs.bool(true), all: terms.exprs.bool(false) },
    }
}

/// For each expression, whether it may be evaluated where the condition would not: its reads give a
/// value at any position, and it divides by constants only.
fn repeatable(exprs: &Exprs) -> Vec<bool> {
    let mut safe: Vec<bool> = Vec::with_capacity(exprs.len());
    for (id, expr, _) in exprs.iter() {
        let own = match expr {
            Expr::Read(read) => read.otherwise.is_some(),
            Expr::Binary(BinaryOp::FloorDiv | BinaryOp::Mod, _, by) => {
                matches!(exprs.get(*by), Expr::Const(Literal::Int(value)) if *value != 0)
            }
            _ => true,
        };
        let operands = exprs.operands(id).into_iter().all(|operand| safe[operand.0 as usize]);
        safe.push(own && operands);
    }
    safe
}

/// Bounds as expressions of the arena.
struct Terms<'a> {
    exprs: &'a mut Exprs,
    ranges: &'a BTreeMap<u32, (ExprId, ExprId)>,
    varying: u64,
    repeatable: Vec<bool>,
}

impl Terms<'_> {
    fn constant(&self, id: ExprId) -> Option<i64> {
        match self.exprs.get(id) {
            Expr::Const(Literal::Int(value)) => Some(*value),
            _ => None,
        }
    }
}

impl Domain for Terms<'_> {
    type Int = ExprId;
    type Truth = ExprId;

    fn fixed(&mut self, expr: ExprId, depends: u64) -> Option<Known<Self>> {
        if depends & self.varying != 0 || !self.repeatable[expr.0 as usize] {
            return None;
        }
        match self.exprs.dtype(expr) {
            DType::I64 => Some(Known::Int { low: Some(expr), high: Some(expr) }),
            DType::Bool => Some(Known::Truth { must: expr, may: expr }),
            _ => None,
        }
    }

    fn index(&mut self, k: u32) -> Ends<Self> {
        match self.ranges.get(&k) {
            Some((low, high)) => (Some(*low), Some(*high)),
            None => {
                let index = self.exprs.index(k as usize);
                (Some(index), Some(index))
            }
        }
    }

    fn var(&mut self, var: VarId) -> Ends<Self> {
        let position = self.exprs.add(Expr::Var(var), DType::I64);
        (Some(position), Some(position))
    }

    fn dim(&mut self, dim: &Dim) -> Option<ExprId> {
        Some(self.exprs.dim(dim))
    }

    fn read(&mut self, _read: &Read, _index: &[Ends<Self>], dtype: DType) -> (Known<Self>, Option<bool>) {
        let value = match dtype {
            DType::Bool => Known::Truth { must: self.exprs.bool(false), may: self.exprs.bool(true) },
            _ => Known::Int { low: None, high: None },
        };
        (value, None)
    }

    fn int(&mut self, value: i64) -> ExprId {
        self.exprs.int(value)
    }

    fn binary(&mut self, op: BinaryOp, a: &ExprId, b: &ExprId) -> Option<ExprId> {
        use BinaryOp::{Add, FloorDiv, Max, Min, Mul, Sub};
        let (a, b) = (*a, *b);
        Some(match (op, self.constant(a), self.constant(b)) {
            (_, Some(x), Some(y)) => self.exprs.int(super::number(op, x, y)?),
            (Min | Max, ..) if a == b => a,
            (Sub, ..) if a == b => self.exprs.int(0),
            (Add | Sub, _, Some(0)) | (Mul | FloorDiv, _, Some(1)) => a,
            (Add, Some(0), _) | (Mul, Some(1), _) => b,
            (Mul, Some(0), _) | (Mul, _, Some(0)) => self.exprs.int(0),
            _ => self.exprs.binary(op, a, b),
        })
    }

    fn choose(&mut self, condition: &ExprId, then: &ExprId, otherwise: &ExprId) -> ExprId {
        match self.decided(condition) {
            Some(true) => *then,
            Some(false) => *otherwise,
            None if then == otherwise => *then,
            None => self.exprs.select(*condition, *then, *otherwise),
        }
    }

    fn non_zero(&mut self, divisor: &ExprId) -> Option<ExprId> {
        if let Some(value) = self.constant(*divisor) {
            return (value != 0).then_some(*divisor);
        }
        let one = self.exprs.int(1);
        if self.is_non_negative(divisor) == Some(true) {
            return Some(self.exprs.binary(BinaryOp::Max, *divisor, one));
        }
        let zero = self.exprs.int(0);
        let is_zero = self.exprs.binary(BinaryOp::Eq, *divisor, zero);
        Some(self.exprs.select(is_zero, one, *divisor))
    }

    fn at_most(&mut self, a: &ExprId, b: &ExprId) -> ExprId {
        match (self.constant(*a), self.constant(*b)) {
            (Some(a), Some(b)) => self.exprs.bool(a <= b),
            _ if a == b => self.exprs.bool(true),
            _ => self.exprs.binary(BinaryOp::Le, *a, *b),
        }
    }

    fn truth(&mut self, value: bool) -> ExprId {
        self.exprs.bool(value)
    }

    fn and(&mut self, a: &ExprId, b: &ExprId) -> ExprId {
        match (self.decided(a), self.decided(b)) {
            (Some(false), _) | (_, Some(true)) => *a,
            (Some(true), _) | (_, Some(false)) => *b,
            _ if a == b => *a,
            _ => self.exprs.binary(BinaryOp::And, *a, *b),
        }
    }

    fn or(&mut self, a: &ExprId, b: &ExprId) -> ExprId {
        match (self.decided(a), self.decided(b)) {
            (Some(true), _) | (_, Some(false)) => *a,
            (Some(false), _) | (_, Some(true)) => *b,
            _ if a == b => *a,
            _ => self.exprs.binary(BinaryOp::Or, *a, *b),
        }
    }

    fn not(&mut self, a: &ExprId) -> ExprId {
        match (self.decided(a), self.exprs.get(*a)) {
            (Some(value), _) => self.exprs.bool(!value),
            (_, Expr::Unary(UnaryOp::Not, inner)) => *inner,
            _ => self.exprs.unary(UnaryOp::Not, *a),
        }
    }

    fn decided(&self, truth: &ExprId) -> Option<bool> {
        match self.exprs.get(*truth) {
            Expr::Const(Literal::Bool(value)) => Some(*value),
            _ => None,
        }
    }

    fn same(&self, a: &ExprId, b: &ExprId) -> bool {
        a == b
    }

    fn is_non_negative(&self, value: &ExprId) -> Option<bool> {
        match self.exprs.get(*value) {
            Expr::Const(Literal::Int(value)) => Some(*value >= 0),
            Expr::Dim(dim) if dim.is_non_negative() => Some(true),
            Expr::Index(_) => Some(true),
            _ => None,
        }
    }
}
