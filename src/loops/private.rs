//! Temporaries that the iterations of a loop do not share.
//!
//! A temporary whose uses all lie inside a loop carries nothing from one iteration to the next. In a
//! serial loop one copy serves all iterations; where a parallel loop is divided, each task has copies of
//! its own. They lie on its stack, so only few bytes of known size can be private.

use super::buffers::ALIGN_BYTES;
use super::ir::{BufferId, BufferKind, Kernel, LoopFunc, Scalar, Stmt};
use super::walk::{bodies, roots};
use std::collections::{BTreeMap, BTreeSet};

/// # Units
/// Bytes of stack that the private temporaries of a task take at most.
const MAX_PRIVATE_BYTES: i64 = 256 << 10;

/// How many statements use each buffer.
#[derive(Clone, Debug, Default)]
pub struct Uses {
    counts: BTreeMap<BufferId, usize>,
}

impl Uses {
    /// Of statements of a function, at any depth.
    pub fn of(func: &LoopFunc, stmts: &[Stmt]) -> Self {
        let mut uses = Uses::default();
        uses.add(func, stmts);
        uses
    }

    fn add(&mut self, func: &LoopFunc, stmts: &[Stmt]) {
        for stmt in stmts {
            let mut used: BTreeSet<BufferId> = BTreeSet::new();
            for root in roots(stmt) {
                for id in func.scalars.unknown(root, |_| false) {
                    if let Scalar::Load(buffer, _) = func.scalars.get(id) {
                        used.insert(*buffer);
                    }
                }
            }
            match stmt {
                Stmt::Store { buffer, .. } => {
                    used.insert(*buffer);
                }
                Stmt::Call { args, results, .. } => {
                    used.extend(args.iter().chain(results).map(|p| p.buffer));
                }
                Stmt::Kernel(kernel) => {
                    let Kernel::Gemm(gemm) = kernel.as_ref();
                    used.extend([gemm.lhs, gemm.rhs, gemm.out].map(|matrix| matrix.at.buffer));
                }
                _ => {}
            }
            for buffer in used {
                *self.counts.entry(buffer).or_insert(0) += 1;
            }
            for body in bodies(stmt) {
                self.add(func, body);
            }
        }
    }

    /// The temporaries all of whose uses, these being those of the whole function, lie in some statements.
    pub fn only_in(&self, func: &LoopFunc, stmts: &[Stmt]) -> Vec<BufferId> {
        let inside = Uses::of(func, stmts);
        let temporary = |id: &BufferId| matches!(func.buffers[id.0 as usize].kind, BufferKind::Temp);
        let all_inside = inside.counts.iter().filter(|(id, count)| self.counts.get(id) == Some(count));
        all_inside.map(|(id, _)| *id).filter(temporary).collect()
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
