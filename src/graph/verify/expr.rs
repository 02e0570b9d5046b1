//! The invariants of scalar expressions.

use super::super::expr::{Expr, ExprId, Exprs, Literal};
use super::super::ir::TensorType;
use super::{Check, Verifier, ensure};
use crate::dtype::DType;

/// What the expressions of an op may use.
pub(super) struct Uses<'a> {
    /// Number of indices.
    pub indices: usize,
    /// Types of the operands.
    pub operands: &'a [&'a TensorType],
    /// The accumulator of a product: port 0, read without indices, of this type.
    pub accumulator: Option<DType>,
}

impl Verifier<'_> {
    /// Checks all that the roots reach.
    pub(super) fn exprs(&self, exprs: &Exprs, roots: &[ExprId], uses: &Uses) -> Check {
        for root in roots {
            ensure!((root.0 as usize) < exprs.len(), "expression {} does not exist", root.0);
        }
        // Operands are checked to precede their users before anything walks over them.
        for (id, _, _) in exprs.iter() {
            let ordered = exprs.operands(id).iter().all(|operand| *operand < id);
            ensure!(ordered, "expression {} uses one that does not precede it", id.0);
        }
        let needed = exprs.reachable(roots);
        for (id, expr, dtype) in exprs.iter().filter(|(id, ..)| needed[id.0 as usize]) {
            self.expr(exprs, expr, dtype, uses).map_err(|m| format!("{m} (expression {})", id.0))?;
        }
        Ok(())
    }

    fn expr(&self, exprs: &Exprs, expr: &Expr, dtype: DType, uses: &Uses) -> Check {
        let half = matches!(dtype, DType::F16 | DType::BF16);
        ensure!(!half, "{dtype} is not computed with");
        match expr {
            Expr::Const(literal) => literal_type(*literal, dtype),
            Expr::Index(k) => {
                ensure!((*k as usize) < uses.indices, "index {k} of an op that has {}", uses.indices);
                is_i64("an index", dtype)
            }
            Expr::Var(var) => {
                ensure!(self.scope.contains(var), "position {} is used outside its region", var.0);
                is_i64("a position", dtype)
            }
            Expr::Dim(dim) => {
                self.dim(dim)?;
                is_i64("a size", dtype)
            }
            Expr::Read(read) => self.read(exprs, read, dtype, uses),
            Expr::Unary(op, a) => {
                let operand = exprs.dtype(*a);
                ensure!(op.accepts(operand), "`{}` of {operand}", op.name());
                let result = op.result(operand);
                ensure!(dtype == result, "`{}` of {operand} has type {dtype}", op.name());
                Ok(())
            }
            Expr::Binary(op, a, b) => {
                let (left, right) = (exprs.dtype(*a), exprs.dtype(*b));
                ensure!(left == right, "`{}` of {left} and {right}", op.name());
                ensure!(op.accepts(left), "`{}` of {left}", op.name());
                ensure!(dtype == op.result(left), "`{}` of {left} has type {dtype}", op.name());
                Ok(())
            }
            Expr::Select(condition, a, b) => {
                let (c, a, b) = (exprs.dtype(*condition), exprs.dtype(*a), exprs.dtype(*b));
                ensure!(c == DType::Bool, "the condition of a selection is {c}");
                ensure!(a == b, "a selection between {a} and {b}");
                ensure!(a == dtype, "a selection of {a} has type {dtype}");
                Ok(())
            }
            Expr::Cast(_) => Ok(()),
        }
    }

    fn read(&self, exprs: &Exprs, read: &super::super::expr::Read, dtype: DType, uses: &Uses) -> Check {
        let port = read.port;
        if let (0, Some(accumulator)) = (port, uses.accumulator) {
            ensure!(read.index.is_empty(), "the accumulator is read with indices");
            ensure!(dtype == accumulator, "the accumulator of {accumulator} is read as {dtype}");
            return Ok(());
        }
        let Some(operand) = uses.operands.get(port as usize) else {
            return Err(format!("a read of operand {port}, of {}", uses.operands.len()));
        };
        let (given, rank) = (read.index.len(), operand.shape.len());
        ensure!(given == rank, "a read of operand {port} gives {given} indices for {rank} axes");
        ensure!(operand.dtype == dtype, "a read of {} has type {dtype}", operand.dtype);
        for index in &read.index {
            is_i64("an index of a read", exprs.dtype(*index))?;
        }
        if let Some(otherwise) = read.otherwise {
            let otherwise = exprs.dtype(otherwise);
            ensure!(otherwise == dtype, "a read of {dtype} gives {otherwise} outside");
        }
        Ok(())
    }
}

/// Checks that a root has a type and uses no index from `first` on.
pub(super) fn over_iterate(what: &str, exprs: &Exprs, root: ExprId, first: usize) -> Check {
    let uses = exprs.contain(&[root], |e| matches!(e, Expr::Index(k) if *k as usize >= first));
    ensure!(!uses, "{what} uses a reduced index");
    Ok(())
}

/// Whether a root uses index `k`.
pub(super) fn uses_index(exprs: &Exprs, root: ExprId, k: usize) -> bool {
    exprs.contain(&[root], |e| *e == Expr::Index(k as u32))
}

/// Checks that a root is a truth value.
pub(super) fn is_bool(what: &str, exprs: &Exprs, root: ExprId) -> Check {
    let dtype = exprs.dtype(root);
    ensure!(dtype == DType::Bool, "{what} is {dtype}, not bool");
    Ok(())
}

fn is_i64(what: &str, dtype: DType) -> Check {
    ensure!(dtype == DType::I64, "{what} is {dtype}, not i64");
    Ok(())
}

fn literal_type(literal: Literal, dtype: DType) -> Check {
    let fits = match literal {
        Literal::Real(bits) => {
            let value = f64::from_bits(bits);
            let is_f32 = value.is_nan() || f64::from(value as f32) == value;
            dtype == DType::F64 || dtype == DType::F32 && is_f32
        }
        Literal::Int(value) => dtype == DType::I64 || dtype == DType::I32 && i32::try_from(value).is_ok(),
        Literal::Bool(_) => dtype == DType::Bool,
    };
    ensure!(fits, "{literal:?} is no literal of type {dtype}");
    Ok(())
}
