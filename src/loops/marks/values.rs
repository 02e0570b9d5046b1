//! Integer expressions of loop programs, in numbers.

use super::super::ir::{Local, LoopFunc, LoopVar, Scalar, ScalarId};
use crate::dim::Symbol;
use crate::dtype::DType;
use crate::graph::expr::Literal;
use crate::ops::value::{Scalar as Value, apply_binary, apply_unary, cast};
use std::collections::HashMap;

/// The sizes of a call, by symbol.
pub(super) type Dims<'a> = &'a dyn Fn(&Symbol) -> Option<i64>;

/// What is known of loop variables and locals at some point of a function.
pub(super) struct Values<'a> {
    func: &'a LoopFunc,
    dims: Dims<'a>,
    vars: Vec<Option<i64>>,
    locals: Vec<Option<Value>>,
}

impl<'a> Values<'a> {
    pub(super) fn new(func: &'a LoopFunc, dims: Dims<'a>) -> Self {
        Values { func, dims, vars: vec![None; func.vars.len()], locals: vec![None; func.locals.len()] }
    }

    pub(super) fn set_var(&mut self, var: LoopVar, value: i64) {
        self.vars[var.0 as usize] = Some(value);
    }

    /// Assigns a local, where its value is an integer or a truth.
    pub(super) fn set_local(&mut self, local: Local, value: ScalarId) {
        let addresses = matches!(self.func.scalars.dtype(value), DType::I64 | DType::Bool);
        self.locals[local.0 as usize] = if addresses { self.value(value) } else { None };
    }

    pub(super) fn forget(&mut self, local: Local) {
        self.locals[local.0 as usize] = None;
    }

    /// An i64; `None` where tensors decide.
    pub(super) fn int(&self, id: ScalarId) -> Option<i64> {
        self.value(id)?.as_i64()
    }

    pub(super) fn truth(&self, id: ScalarId) -> Option<bool> {
        self.value(id)?.as_bool()
    }

    fn value(&self, root: ScalarId) -> Option<Value> {
        let scalars = &self.func.scalars;
        let mut known: HashMap<ScalarId, Option<Value>> = HashMap::new();
        for id in scalars.unknown(root, |_| false) {
            let at = |id: &ScalarId| known.get(id).copied().flatten();
            let value = match scalars.get(id) {
                Scalar::Const(literal) => Some(constant(*literal, scalars.dtype(id))),
                Scalar::Dim(dim) => dim.eval(self.dims).ok().map(Value::I64),
                Scalar::Var(var) => self.vars[var.0 as usize].map(Value::I64),
                Scalar::Local(local) => self.locals[local.0 as usize],
                Scalar::Load(..) => None,
                Scalar::Unary(op, a) => at(a).and_then(|a| apply_unary(*op, a).ok()),
                Scalar::Binary(op, a, b) => at(a).zip(at(b)).and_then(|(a, b)| apply_binary(*op, a, b).ok()),
                Scalar::Select(c, a, b) => match at(c).and_then(Value::as_bool) {
                    Some(true) => at(a),
                    Some(false) => at(b),
                    None => None,
                },
                Scalar::Cast(a) => at(a).map(|a| cast(a, scalars.dtype(id))),
            };
            known.insert(id, value);
        }
        known.get(&root).copied().flatten()
    }
}

fn constant(literal: Literal, dtype: DType) -> Value {
    match literal {
        Literal::Real(bits) => cast(Value::F64(f64::from_bits(bits)), dtype),
        Literal::Int(value) => cast(Value::I64(value), dtype),
        Literal::Bool(value) => Value::Bool(value),
    }
}
