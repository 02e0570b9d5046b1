//! The invariants of the loop IR, checked as far as they can be without running it.
//!
//! Types of expressions and statements; locals set before use in the scope that sees them; loop
//! variables used inside their loop only; arguments and constants never stored to; what vector and
//! parallel loops promise of their bodies; calls go to earlier functions. An error is a fault of the
//! compiler.

use super::ir::{
    BufferKind, Kernel, Local, LoopFunc, LoopKind, LoopProgram, LoopVar, Scalar, ScalarId, Stmt,
};
use super::marks::has_marks;
use super::walk::{Defined, bodies, roots};
use crate::dtype::DType;
use crate::graph::expr::Literal;
use std::collections::BTreeSet;

/// What is wrong, and in which function.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("in {func}: {what}")]
pub struct VerifyError {
    /// The function.
    pub func: String,
    /// The broken invariant.
    pub what: String,
}

/// Checks a program.
///
/// # Errors
/// The first broken invariant.
pub fn verify(program: &LoopProgram) -> Result<(), VerifyError> {
    for (at, func) in program.functions.iter().enumerate() {
        let mut verifier = Verifier { program, at, func, vars: BTreeSet::new(), locals: BTreeSet::new() };
        let checked = verifier.scalars().and_then(|()| verifier.list(&func.body));
        checked.map_err(|what| VerifyError { func: func.name.to_string(), what })?;
    }
    Ok(())
}

type Checked = Result<(), String>;

struct Verifier<'a> {
    program: &'a LoopProgram,
    at: usize,
    func: &'a LoopFunc,
    vars: BTreeSet<LoopVar>,
    locals: BTreeSet<Local>,
}

impl Verifier<'_> {
    /// Types of all expressions.
    fn scalars(&self) -> Checked {
        for (id, scalar, dtype) in self.func.scalars.iter() {
            self.scalar(id, scalar, dtype).map_err(|what| format!("{what}: {scalar:?}"))?;
        }
        Ok(())
    }

    fn scalar(&self, id: ScalarId, scalar: &Scalar, dtype: DType) -> Checked {
        let of = |id: ScalarId| self.func.scalars.dtype(id);
        if self.func.scalars.operands(id).any(|operand| operand >= id) {
            return Err("an operand comes after its user".into());
        }
        let right = match scalar {
            Scalar::Const(Literal::Real(_)) => dtype.is_float(),
            Scalar::Const(Literal::Int(_)) => dtype.is_int(),
            Scalar::Const(Literal::Bool(_)) => dtype == DType::Bool,
            Scalar::Dim(_) | Scalar::Var(_) => dtype == DType::I64,
            Scalar::Local(local) => self.func.locals[local.0 as usize].1 == dtype,
            Scalar::Load(buffer, index) => {
                self.func.buffers[buffer.0 as usize].dtype == dtype && of(*index) == DType::I64
            }
            Scalar::Unary(op, a) => op.accepts(of(*a)) && op.result(of(*a)) == dtype,
            Scalar::Binary(op, a, b) => of(*a) == of(*b) && op.accepts(of(*a)) && op.result(of(*a)) == dtype,
            Scalar::Select(c, a, b) => of(*c) == DType::Bool && of(*a) == dtype && of(*b) == dtype,
            Scalar::Cast(_) => true,
        };
        if right { Ok(()) } else { Err("types do not fit".into()) }
    }

    fn list(&mut self, stmts: &[Stmt]) -> Checked {
        let declared = self.locals.clone();
        for stmt in stmts {
            self.stmt(stmt)?;
        }
        self.locals = declared;
        Ok(())
    }

    fn stmt(&mut self, stmt: &Stmt) -> Checked {
        if !matches!(stmt, Stmt::Kernel(_)) {
            for root in roots(stmt) {
                self.in_scope(root)?;
            }
        }
        let of = |id: ScalarId| self.func.scalars.dtype(id);
        match stmt {
            Stmt::For { var, extent, kind, body, .. } => {
                expect(of(*extent) == DType::I64, "an extent is i64")?;
                expect(self.vars.insert(*var), "a loop variable belongs to one loop")?;
                self.promises(*kind, body)?;
                self.list(body)?;
                self.vars.remove(var);
            }
            Stmt::Set { local, value } => {
                expect(self.func.locals[local.0 as usize].1 == of(*value), "a local keeps its type")?;
                self.locals.insert(*local);
            }
            Stmt::Reduce { local, op, value } => {
                let term = of(*value);
                expect(self.locals.contains(local), "a local is set before it is reduced into")?;
                expect(op.accepts(term) && op.result(term) == term, "a reduction keeps its type")?;
                expect(self.func.locals[local.0 as usize].1 == term, "a local keeps its type")?;
            }
            Stmt::Store { buffer, index, value } => {
                self.written(*buffer)?;
                let dtype = self.func.buffers[buffer.0 as usize].dtype;
                expect(of(*index) == DType::I64 && of(*value) == dtype, "a store has its buffer's type")?;
            }
            Stmt::If { condition, then, otherwise } => {
                expect(of(*condition) == DType::Bool, "a condition is bool")?;
                self.list(then)?;
                self.list(otherwise)?;
            }
            Stmt::Fail { condition, site, values } => {
                expect(of(*condition) == DType::Bool, "a condition is bool")?;
                expect((site.0 as usize) < self.program.sites.len(), "a site exists")?;
                let ints = values.iter().all(|v| of(*v) == DType::I64);
                expect(values.len() <= 8 && ints, "a failure records at most 8 i64 values")?;
            }
            Stmt::Call { func, results, .. } => {
                expect(*func < self.at, "a call goes to an earlier function")?;
                results.iter().try_for_each(|pointer| self.written(pointer.buffer))?;
            }
            Stmt::Kernel(kernel) => self.kernel(kernel)?,
            Stmt::Mark { .. } => {}
        }
        Ok(())
    }

    fn kernel(&mut self, kernel: &Kernel) -> Checked {
        let Kernel::Gemm(gemm) = kernel;
        self.written(gemm.out.at.buffer)?;
        let f32s = [gemm.lhs, gemm.rhs, gemm.out]
            .iter()
            .all(|m| self.func.buffers[m.at.buffer.0 as usize].dtype == DType::F32);
        expect(f32s, "a product is of f32")?;
        let axes = gemm.outer.iter().flat_map(|axis| [axis.extent, axis.lhs, axis.rhs]);
        for root in [gemm.m, gemm.n, gemm.k].into_iter().chain(axes) {
            self.in_scope(root)?;
        }
        for matrix in [gemm.lhs, gemm.rhs, gemm.out] {
            for root in [matrix.at.offset, matrix.strides.0, matrix.strides.1] {
                self.in_scope(root)?;
            }
        }
        if let Some(epilogue) = &gemm.epilogue {
            self.vars.extend([epilogue.row, epilogue.column]);
            self.locals.insert(epilogue.acc);
            self.in_scope(epilogue.value)?;
            expect(self.func.scalars.dtype(epilogue.value) == DType::F32, "a product is of f32")?;
            self.vars.remove(&epilogue.row);
            self.vars.remove(&epilogue.column);
            self.locals.remove(&epilogue.acc);
        }
        Ok(())
    }

    fn written(&self, buffer: super::ir::BufferId) -> Checked {
        let kind = &self.func.buffers[buffer.0 as usize].kind;
        let writable = matches!(kind, BufferKind::Temp | BufferKind::Result(_));
        expect(writable, "only temporaries and results are written")
    }

    /// Every variable and local of an expression is in scope.
    fn in_scope(&self, root: ScalarId) -> Checked {
        let mut seen = BTreeSet::new();
        let mut pending = vec![root];
        while let Some(id) = pending.pop() {
            if !seen.insert(id) {
                continue;
            }
            match self.func.scalars.get(id) {
                Scalar::Var(var) => {
                    expect(self.vars.contains(var), "a loop variable is used inside its loop")?;
                }
                Scalar::Local(local) if !self.locals.contains(local) => {
                    let name = &self.func.locals[local.0 as usize].0;
                    return Err(format!("local {name}.{} is set before it is used", local.0));
                }
                _ => {}
            }
            pending.extend(self.func.scalars.operands(id));
        }
        Ok(())
    }

    /// What a loop kind promises of its body.
    fn promises(&self, kind: LoopKind, body: &[Stmt]) -> Checked {
        let outer_set = |stmts: &[Stmt]| {
            let mut defined = Defined::default();
            defined.add(stmts);
            defined.locals.iter().any(|local| self.locals.contains(local))
        };
        match kind {
            LoopKind::Serial => Ok(()),
            LoopKind::Vector => {
                let simple =
                    |s: &Stmt| matches!(s, Stmt::Set { .. } | Stmt::Reduce { .. } | Stmt::Store { .. });
                expect(body.iter().all(simple), "a vector loop holds simple statements")?;
                let sets = |s: &Stmt| matches!(s, Stmt::Set { local, .. } if self.locals.contains(local));
                expect(!body.iter().any(sets), "a vector loop sets its own locals only")
            }
            LoopKind::Parallel => {
                expect(!outer_set(body), "a parallel loop changes its own locals only")?;
                expect(!calls(body), "a parallel loop calls nothing")?;
                expect(!has_marks(body), "a parallel loop has no marks inside")
            }
        }
    }
}

fn calls(stmts: &[Stmt]) -> bool {
    stmts.iter().any(|stmt| matches!(stmt, Stmt::Call { .. }) || bodies(stmt).any(|body| calls(body)))
}

fn expect(holds: bool, what: &str) -> Checked {
    if holds { Ok(()) } else { Err(format!("{what}: broken")) }
}
