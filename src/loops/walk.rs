//! Walking statements: which expressions, variables and buffers they involve.

use super::ir::{BufferId, Contracted, Kernel, Local, LoopVar, Matrix, Pointer, ScalarId, Stmt};
use std::collections::BTreeSet;

/// What a list of statements defines and writes, at any depth.
#[derive(Clone, Debug, Default)]
pub struct Defined {
    /// Loop variables.
    pub vars: BTreeSet<LoopVar>,
    /// Locals that are set or reduced into.
    pub locals: BTreeSet<Local>,
    /// Buffers that are stored to.
    pub stored: BTreeSet<BufferId>,
}

impl Defined {
    /// Adds what statements define.
    pub fn add(&mut self, stmts: &[Stmt]) {
        for stmt in stmts {
            match stmt {
                Stmt::For { var, .. } => {
                    self.vars.insert(*var);
                }
                Stmt::Set { local, .. } | Stmt::Reduce { local, .. } => {
                    self.locals.insert(*local);
                }
                Stmt::Store { buffer, .. } => {
                    self.stored.insert(*buffer);
                }
                Stmt::Call { results, .. } => self.stored.extend(results.iter().map(|p| p.buffer)),
                Stmt::Kernel(kernel) => {
                    let Kernel::Gemm(gemm) = kernel.as_ref();
                    self.stored.insert(gemm.out.at.buffer);
                    if let Some(epilogue) = &gemm.epilogue {
                        self.vars.extend([epilogue.row, epilogue.column]);
                        self.locals.insert(epilogue.acc);
                    }
                }
                Stmt::If { .. } | Stmt::Fail { .. } | Stmt::Mark { .. } => {}
            }
            for inner in bodies(stmt) {
                self.add(inner);
            }
        }
    }
}

/// The statement lists inside a statement.
pub fn bodies(stmt: &Stmt) -> impl Iterator<Item = &Vec<Stmt>> {
    let (first, second) = match stmt {
        Stmt::For { body, .. } => (Some(body), None),
        Stmt::If { then, otherwise, .. } => (Some(then), Some(otherwise)),
        _ => (None, None),
    };
    first.into_iter().chain(second)
}

/// Replaces the expressions that a statement itself evaluates, not those of statements inside it.
/// The value of a product's epilogue, which is evaluated per element, is not among them.
pub fn map_roots(stmt: &mut Stmt, map: &mut dyn FnMut(ScalarId) -> ScalarId) {
    match stmt {
        Stmt::For { extent, .. } => *extent = map(*extent),
        Stmt::Set { value, .. } | Stmt::Reduce { value, .. } => *value = map(*value),
        Stmt::Store { index, value, .. } => {
            *index = map(*index);
            *value = map(*value);
        }
        Stmt::If { condition, .. } => *condition = map(*condition),
        Stmt::Fail { condition, values, .. } => {
            *condition = map(*condition);
            values.iter_mut().for_each(|value| *value = map(*value));
        }
        Stmt::Call { args, results, .. } => {
            for Pointer { offset, .. } in args.iter_mut().chain(results) {
                *offset = map(*offset);
            }
        }
        Stmt::Kernel(kernel) => {
            let Kernel::Gemm(gemm) = kernel.as_mut();
            let axes = gemm.outer.iter_mut().flat_map(|Contracted { extent, lhs, rhs }| [extent, lhs, rhs]);
            for id in [&mut gemm.m, &mut gemm.n, &mut gemm.k].into_iter().chain(axes) {
                *id = map(*id);
            }
            for Matrix { at, strides } in [&mut gemm.lhs, &mut gemm.rhs, &mut gemm.out] {
                at.offset = map(at.offset);
                *strides = (map(strides.0), map(strides.1));
            }
        }
        Stmt::Mark { .. } => {}
    }
}

/// The expressions that a statement itself evaluates, a product's epilogue included.
pub fn roots(stmt: &Stmt) -> Vec<ScalarId> {
    let mut found = Vec::new();
    let mut shell = match stmt {
        Stmt::For { var, extent, reverse, kind, .. } => {
            Stmt::For { var: *var, extent: *extent, reverse: *reverse, kind: *kind, body: Vec::new() }
        }
        Stmt::If { condition, .. } => {
            Stmt::If { condition: *condition, then: Vec::new(), otherwise: Vec::new() }
        }
        other => other.clone(),
    };
    map_roots(&mut shell, &mut |id| {
        found.push(id);
        id
    });
    if let Stmt::Kernel(kernel) = stmt {
        let Kernel::Gemm(gemm) = kernel.as_ref();
        found.extend(gemm.epilogue.as_ref().map(|epilogue| epilogue.value));
    }
    found
}
