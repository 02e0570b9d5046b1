//! What statements cost: the model by which work is divided between threads.
//!
//! # Cost model
//!
//! Costs are nanoseconds of one core of some gigahertz, right within a factor of a few: enough to tell
//! what takes less than a fork and join from what takes longer. Sizes that only a call decides make a
//! formula that the code evaluates before it divides.
//!
//! | what | nanoseconds |
//! | --- | --- |
//! | a multiply-add of a product by wide kernels, by Cranelift's code | [`WIDE_TERM`], [`NARROW_TERM`] |
//! | an element that a product reads of its operands, and one of its result | [`ELEMENT`] |
//! | an operation, a load or store, a function of one iteration in lanes | [`LANE_OP`], [`LANE_ACCESS`], [`LANE_FUNCTION`] |
//! | the same of a scalar statement | [`OP`], [`ACCESS`], [`FUNCTION`] |
//!
//! A fork and join costs about a microsecond while the threads are awake, and some more where data moves from
//! one core's cache to another's; [`Grain`](super::super::target::Grain) is the least work of a task. Work of less than two tasks is
//! not divided.

use super::super::error::CodeError;
use super::function::FuncCx;
use super::gemm::Extent;
use super::vector::is_function;
use crate::dtype::DType;
use crate::loops::ir::{Gemm, Kernel, LoopKind, Scalar, ScalarId, Stmt};
use crate::loops::walk::roots;
use cranelift_codegen::ir::{InstBuilder, Value, types};
use std::collections::BTreeSet;

const WIDE_TERM: f64 = 0.012;
const NARROW_TERM: f64 = 0.03;
const ELEMENT: f64 = 0.05;
const LANE_OP: f64 = 0.03;
const LANE_ACCESS: f64 = 0.1;
const LANE_FUNCTION: f64 = 0.3;
const OP: f64 = 0.3;
const ACCESS: f64 = 0.6;
const FUNCTION: f64 = 6.0;
/// Iterations of a loop whose extent is not known in front of the work.
const SOME: f64 = 8.0;

/// A number of nanoseconds or of iterations, known or computed in the call.
#[derive(Clone, Copy)]
pub(super) enum Amount {
    Known(f64),
    Open(Value),
}

impl FuncCx<'_, '_> {
    /// What statements cost, once.
    pub(super) fn cost(&mut self, stmts: &[Stmt]) -> Result<Amount, CodeError> {
        let mut sum = Amount::Known(0.0);
        for stmt in stmts {
            let one = self.cost_of(stmt)?;
            sum = self.sum(sum, one);
        }
        Ok(sum)
    }

    /// What a statement costs, once.
    pub(super) fn cost_of(&mut self, stmt: &Stmt) -> Result<Amount, CodeError> {
        match stmt {
            Stmt::For { extent, kind: LoopKind::Vector, body, .. } => {
                let one = body.iter().map(|stmt| self.simple(stmt, true)).sum();
                let turns = self.turns(*extent)?;
                Ok(self.product(turns, Amount::Known(one)))
            }
            Stmt::For { extent, body, .. } => {
                let (one, turns) = (self.cost(body)?, self.turns(*extent)?);
                Ok(self.product(turns, one))
            }
            Stmt::If { then, otherwise, .. } => {
                let (then, otherwise) = (self.cost(then)?, self.cost(otherwise)?);
                let both = self.sum(then, otherwise);
                let half = self.product(both, Amount::Known(0.5));
                Ok(self.sum(half, Amount::Known(self.simple(stmt, false))))
            }
            Stmt::Kernel(kernel) => {
                let Kernel::Gemm(gemm) = kernel.as_ref();
                self.cost_of_product(gemm)
            }
            Stmt::Mark { .. } => Ok(Amount::Known(0.0)),
            Stmt::Set { .. }
            | Stmt::Reduce { .. }
            | Stmt::Store { .. }
            | Stmt::Fail { .. }
            | Stmt::Call { .. } => Ok(Amount::Known(self.simple(stmt, false))),
        }
    }

    fn cost_of_product(&mut self, gemm: &Gemm) -> Result<Amount, CodeError> {
        let (m, n, k) = (self.turns(gemm.m)?, self.turns(gemm.n)?, self.turns(gemm.k)?);
        let mut terms = k;
        for axis in &gemm.outer {
            let points = self.turns(axis.extent)?;
            terms = self.product(terms, points);
        }
        let term = if self.kernels.isa().is_some() { WIDE_TERM } else { NARROW_TERM };
        let last = gemm.epilogue.as_ref().map_or(0.0, |epilogue| self.nodes(&[epilogue.value], true));
        let results = self.product(m, n);
        let mut total = self.product(results, Amount::Known(ELEMENT + last));
        for (a, b, each) in [(results, terms, term), (m, terms, ELEMENT), (n, terms, ELEMENT)] {
            let count = self.product(a, b);
            let cost = self.product(count, Amount::Known(each));
            total = self.sum(total, cost);
        }
        Ok(total)
    }

    /// What a statement costs that has none inside.
    fn simple(&self, stmt: &Stmt, lanes: bool) -> f64 {
        let store = matches!(stmt, Stmt::Store { .. });
        self.nodes(&roots(stmt), lanes)
            + if !store {
                0.0
            } else if lanes {
                LANE_ACCESS
            } else {
                ACCESS
            }
    }

    fn nodes(&self, roots: &[ScalarId], lanes: bool) -> f64 {
        let scalars = &self.env.func.scalars;
        let (mut seen, mut pending, mut total) = (BTreeSet::new(), roots.to_vec(), 0.0);
        while let Some(id) = pending.pop() {
            if !seen.insert(id) {
                continue;
            }
            pending.extend(scalars.operands(id));
            let [op, access, function] =
                if lanes { [LANE_OP, LANE_ACCESS, LANE_FUNCTION] } else { [OP, ACCESS, FUNCTION] };
            total += match scalars.get(id) {
                Scalar::Const(_) | Scalar::Dim(_) | Scalar::Var(_) | Scalar::Local(_) => 0.0,
                Scalar::Load(..) => access,
                // Lanes step along; their addresses cost nothing.
                _ if lanes && scalars.dtype(id) == DType::I64 => 0.0,
                scalar if is_function(scalar) => function,
                _ => op,
            };
        }
        total
    }

    /// The iterations of a loop, as far as they are known here.
    fn turns(&mut self, extent: ScalarId) -> Result<Amount, CodeError> {
        if let Some(known) = self.int_const(extent) {
            return Ok(Amount::Known(known.max(0) as f64));
        }
        if !self.is_known_here(extent) {
            return Ok(Amount::Known(SOME));
        }
        let extent = self.scalar(extent)?;
        Ok(Amount::Open(self.builder.ins().fcvt_from_sint(types::F64, extent)))
    }

    /// Whether the value of an expression depends on sizes and enclosing loops alone.
    pub(super) fn is_known_here(&self, root: ScalarId) -> bool {
        let scalars = &self.env.func.scalars;
        let open = |id: &ScalarId| matches!(scalars.get(*id), Scalar::Var(var) if self.vars[var.0 as usize].is_none());
        self.pure[root.0 as usize] && !scalars.unknown(root, |_| false).iter().any(open)
    }

    fn value_of(&mut self, amount: Amount) -> Value {
        match amount {
            Amount::Known(known) => self.builder.ins().f64const(known),
            Amount::Open(value) => value,
        }
    }

    fn sum(&mut self, a: Amount, b: Amount) -> Amount {
        match (a, b) {
            (Amount::Known(a), Amount::Known(b)) => Amount::Known(a + b),
            (Amount::Known(0.0), other) | (other, Amount::Known(0.0)) => other,
            _ => {
                let (a, b) = (self.value_of(a), self.value_of(b));
                Amount::Open(self.builder.ins().fadd(a, b))
            }
        }
    }

    fn product(&mut self, a: Amount, b: Amount) -> Amount {
        match (a, b) {
            (Amount::Known(a), Amount::Known(b)) => Amount::Known(a * b),
            (Amount::Known(1.0), other) | (other, Amount::Known(1.0)) => other,
            _ => {
                let (a, b) = (self.value_of(a), self.value_of(b));
                Amount::Open(self.builder.ins().fmul(a, b))
            }
        }
    }

    /// How many tasks of at least a grain the work makes, i64; `None` where they are surely less than two.
    pub(super) fn tasks_of(&mut self, work: Amount) -> Option<Extent> {
        let grain_ns = f64::from(self.env.grain.nanoseconds);
        match work {
            Amount::Known(work) if work < 2.0 * grain_ns => None,
            // Without a grain, even of no work.
            Amount::Known(work) => Some(self.fixed((work / grain_ns.max(1e-6)).clamp(2.0, 1e9) as i64)),
            Amount::Open(_) if grain_ns <= 0.0 => Some(self.fixed(1 << 30)),
            Amount::Open(work) => {
                let per_ns = self.builder.ins().f64const(1.0 / grain_ns);
                let tasks = self.builder.ins().fmul(work, per_ns);
                let value = self.builder.ins().fcvt_to_sint_sat(types::I64, tasks);
                Some(self.open(value))
            }
        }
    }
}
