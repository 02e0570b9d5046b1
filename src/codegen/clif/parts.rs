//! Long functions in parts.
//!
//! The time of the register allocator grows faster than the function it works on. A function of
//! many statements therefore becomes several Cranelift functions, called in order by a leading one,
//! which computes sizes and the starts of slots once and hands them on in a table on its stack.
//! Locals do not cross from one part to the next.

use crate::dim::Dim;
use crate::loops::ir::{BufferId, Kernel, Local, LoopFunc, LoopVar, Scalar, ScalarId, Stmt};
use crate::loops::walk::{bodies, roots};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

/// Statements of a part, counted at all depths. Functions of at most twice as many stay whole.
const PART_STMTS: usize = 200;

/// What statements name, at any depth.
#[derive(Default)]
pub(super) struct Uses {
    pub sizes: BTreeSet<Dim>,
    pub buffers: BTreeSet<BufferId>,
    pub callees: BTreeSet<usize>,
    pub locals: BTreeSet<Local>,
    pub vars: BTreeSet<LoopVar>,
    stmts: usize,
    seen: BTreeSet<ScalarId>,
}

impl Uses {
    pub(super) fn of(func: &LoopFunc, stmts: &[Stmt]) -> Self {
        let mut uses = Uses::default();
        uses.add(func, stmts);
        uses
    }

    fn add(&mut self, func: &LoopFunc, stmts: &[Stmt]) {
        for stmt in stmts {
            self.stmts += 1;
            self.own(stmt);
            let mut open = roots(stmt);
            while let Some(id) = open.pop() {
                if self.seen.insert(id) {
                    self.scalar(func.scalars.get(id));
                    open.extend(func.scalars.operands(id));
                }
            }
            for inner in bodies(stmt) {
                self.add(func, inner);
            }
        }
    }

    fn own(&mut self, stmt: &Stmt) {
        match stmt {
            Stmt::Set { local, .. } | Stmt::Reduce { local, .. } => {
                self.locals.insert(*local);
            }
            Stmt::Store { buffer, .. } => {
                self.buffers.insert(*buffer);
            }
            Stmt::Call { func, args, results } => {
                self.callees.insert(*func);
                self.buffers.extend(args.iter().chain(results).map(|pointer| pointer.buffer));
            }
            Stmt::Kernel(kernel) => {
                let Kernel::Gemm(gemm) = kernel.as_ref();
                self.buffers.extend([&gemm.lhs, &gemm.rhs, &gemm.out].map(|matrix| matrix.at.buffer));
                self.locals.extend(gemm.epilogue.as_ref().map(|epilogue| epilogue.acc));
            }
            Stmt::For { .. } | Stmt::If { .. } | Stmt::Fail { .. } | Stmt::Mark { .. } => {}
        }
    }

    fn scalar(&mut self, scalar: &Scalar) {
        match scalar {
            Scalar::Dim(dim) => {
                self.sizes.insert(dim.clone());
            }
            Scalar::Load(buffer, _) => {
                self.buffers.insert(*buffer);
            }
            Scalar::Local(local) => {
                self.locals.insert(*local);
            }
            Scalar::Var(var) => {
                self.vars.insert(*var);
            }
            _ => {}
        }
    }
}

/// The parts of a function as ranges of its statements; one for a function that stays whole.
pub(super) fn cut(func: &LoopFunc) -> Vec<Range<usize>> {
    let uses: Vec<Uses> = func.body.iter().map(|stmt| Uses::of(func, std::slice::from_ref(stmt))).collect();
    if uses.iter().map(|found| found.stmts).sum::<usize>() <= 2 * PART_STMTS {
        return std::iter::once(0..func.body.len()).collect();
    }
    let mut last_use: BTreeMap<Local, usize> = BTreeMap::new();
    for (at, found) in uses.iter().enumerate() {
        last_use.extend(found.locals.iter().map(|local| (*local, at)));
    }
    let (mut parts, mut start, mut count, mut open_until) = (Vec::new(), 0, 0, 0);
    for (at, found) in uses.iter().enumerate() {
        count += found.stmts;
        open_until = found.locals.iter().map(|local| last_use[local]).fold(open_until, usize::max);
        if count >= PART_STMTS && open_until <= at {
            parts.push(start..at + 1);
            (start, count) = (at + 1, 0);
        }
    }
    if start < func.body.len() {
        parts.push(start..func.body.len());
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dtype::DType;
    use crate::graph::expr::Literal;
    use crate::graph::fixture::Fixture;
    use crate::loops::ir::Scalars;

    /// One statement per local.
    fn long(locals: &[u32]) -> LoopFunc {
        let mut scalars = Scalars::default();
        let value = scalars.add(Scalar::Const(Literal::Int(1)), DType::I64);
        let body = locals.iter().map(|local| Stmt::Set { local: Local(*local), value }).collect();
        let of_program = crate::loops::lower::lower(&Fixture::new().program(&[])).unwrap();
        LoopFunc { scalars, body, ..of_program.functions[0].clone() }
    }

    #[test]
    fn short_functions_stay_whole() {
        let locals: Vec<u32> = (0..2 * PART_STMTS as u32).collect();
        assert_eq!(cut(&long(&locals)), vec![0..2 * PART_STMTS]);
    }

    #[test]
    fn parts_cover_a_function_in_order() {
        let locals: Vec<u32> = (0..2 * PART_STMTS as u32 + 1).collect();
        let parts = vec![0..PART_STMTS, PART_STMTS..2 * PART_STMTS, 2 * PART_STMTS..2 * PART_STMTS + 1];
        assert_eq!(cut(&long(&locals)), parts);
    }

    #[test]
    fn a_local_stays_inside_a_part() {
        let mut locals: Vec<u32> = (0..3 * PART_STMTS as u32).collect();
        locals[PART_STMTS + 3] = locals[PART_STMTS - 2];
        assert_eq!(cut(&long(&locals))[0], 0..PART_STMTS + 4);
    }
}
