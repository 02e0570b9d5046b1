//! Temporaries that the iterations of a loop do not share.
//!
//! A temporary whose uses all lie inside a loop carries nothing from one iteration to the next. In a
//! serial loop one copy serves all iterations; where a parallel loop is divided, each task has copies of
//! its own. They lie on its stack, so only few bytes of known size can be private.

use super::buffers::ALIGN_BYTES;
use super::ir::{BufferId, BufferKind, Kernel, LoopFunc, Scalar, ScalarId, Stmt};
use super::walk::{bodies, roots};
use std::collections::BTreeMap;

/// # Units
/// Bytes of stack that the private temporaries of a task take at most.
const MAX_PRIVATE_BYTES: i64 = 256 << 10;

/// How many statements use each buffer, and which of them an expression reads.
#[derive(Clone, Debug, Default)]
pub struct Uses {
    counts: Counts,
    loads: BTreeMap<ScalarId, Vec<BufferId>>,
}

type Counts = BTreeMap<BufferId, usize>;

impl Uses {
    /// Of statements of a function, at any depth.
    pub fn of(func: &LoopFunc, stmts: &[Stmt]) -> Self {
        let mut uses = Uses::default();
        uses.read(func, stmts);
        uses.counts = uses.counted(stmts);
        uses
    }

    /// Finds what expressions of the statements read.
    fn read(&mut self, func: &LoopFunc, stmts: &[Stmt]) {
        for stmt in stmts {
            for root in roots(stmt) {
                self.loads.entry(root).or_insert_with(|| {
                    let loaded = |id| match func.scalars.get(id) {
                        Scalar::Load(buffer, _) => Some(*buffer),
                        _ => None,
                    };
                    let inside = func.scalars.unknown(root, |_| false).into_iter();
                    let mut loads: Vec<BufferId> = inside.filter_map(loaded).collect();
                    loads.sort_unstable();
                    loads.dedup();
                    loads
                });
            }
            for body in bodies(stmt) {
                self.read(func, body);
            }
        }
    }

    /// How many of some statements, whose expressions are known, use each buffer.
    fn counted(&self, stmts: &[Stmt]) -> Counts {
        let mut counts = Counts::new();
        let mut pending: Vec<&[Stmt]> = vec![stmts];
        while let Some(stmts) = pending.pop() {
            for stmt in stmts {
                let loads = roots(stmt).into_iter().flat_map(|root| &self.loads[&root]).copied();
                let mut used: Vec<BufferId> = loads.collect();
                match stmt {
                    Stmt::Store { buffer, .. } => used.push(*buffer),
                    Stmt::Call { args, results, .. } => {
                        used.extend(args.iter().chain(results).map(|p| p.buffer));
                    }
                    Stmt::Kernel(kernel) => {
                        let Kernel::Gemm(gemm) = kernel.as_ref();
                        used.extend([gemm.lhs, gemm.rhs, gemm.out].map(|matrix| matrix.at.buffer));
                    }
                    _ => {}
                }
                used.sort_unstable();
                used.dedup();
                for buffer in used {
                    *counts.entry(buffer).or_insert(0) += 1;
                }
                pending.extend(bodies(stmt).map(Vec::as_slice));
            }
        }
        counts
    }

    /// The temporaries all of whose uses lie in some of the statements.
    pub fn only_in(&self, func: &LoopFunc, stmts: &[Stmt]) -> Vec<BufferId> {
        let temporary = |id: &BufferId| matches!(func.buffers[id.0 as usize].kind, BufferKind::Temp);
        let inside = self.counted(stmts).into_iter();
        let all_inside = inside.filter(|(id, count)| self.counts.get(id) == Some(count));
        all_inside.map(|(id, _)| id).filter(temporary).collect()
    }
}

/// # Units
/// Bytes of a buffer of known size, whole cache lines and at least one; `None` of others.
pub fn known_bytes(func: &LoopFunc, id: BufferId) -> Option<i64> {
    let buffer = &func.buffers[id.0 as usize];
    let bytes = buffer.elems.as_const()?.checked_mul(buffer.dtype.size_bytes() as i64)?;
    Some((bytes.max(1).checked_add(ALIGN_BYTES - 1)? / ALIGN_BYTES) * ALIGN_BYTES)
}

/// Whether a task can have its own copies of some temporaries.
pub fn fit(func: &LoopFunc, temporaries: &[BufferId]) -> bool {
    let total = temporaries.iter().try_fold(0i64, |sum, id| sum.checked_add(known_bytes(func, *id)?));
    total.is_some_and(|total| total <= MAX_PRIVATE_BYTES)
}
