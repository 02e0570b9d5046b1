//! When each temporary is live.
//!
//! Statements are numbered in preorder. A temporary is live from the first to the last of the
//! statements that use it *in the innermost list that holds all its uses*: what is used in two
//! places of a loop's surroundings, and in the loop, is live for the whole loop; what is used only
//! within one iteration is live within the iteration (the loop IR promises that it carries nothing
//! over).

use crate::loops::ir::{BufferId, Kernel, LoopFunc, Scalar, ScalarId, Stmt};
use crate::loops::walk::{bodies, roots};
use std::collections::BTreeMap;

/// First and last statement at which something is live.
pub(crate) type Span = (usize, usize);

/// What is live when.
#[derive(Default)]
pub(crate) struct Live {
    pub buffers: BTreeMap<BufferId, Span>,
    /// By called function.
    pub callees: BTreeMap<usize, Span>,
}

/// A use: the statement at each depth around it, as its span.
struct Uses<T> {
    /// Common path of all uses so far, outermost first: first and last span at each depth.
    path: BTreeMap<T, Vec<(Span, Span)>>,
}

impl<T: Ord + Copy> Uses<T> {
    /// Notes a use inside the statements `around`, outermost first.
    fn note(&mut self, what: T, around: &[Span]) {
        let Some(path) = self.path.get_mut(&what) else {
            self.path.insert(what, around.iter().map(|span| (*span, *span)).collect());
            return;
        };
        let shared =
            path.iter().zip(around).take_while(|((first, last), span)| first == last && last == *span);
        let depth = shared.count().min(path.len() - 1).min(around.len() - 1);
        path.truncate(depth + 1);
        path[depth].1 = path[depth].1.max(around[depth]);
        path[depth].0 = path[depth].0.min(around[depth]);
    }

    fn spans(self) -> BTreeMap<T, Span> {
        let whole = |path: Vec<(Span, Span)>| path.last().map(|(first, last)| (first.0, last.1));
        self.path.into_iter().filter_map(|(what, path)| Some((what, whole(path)?))).collect()
    }
}

/// Finds when everything is live.
pub(crate) fn live(func: &LoopFunc) -> Live {
    let mut finder = Finder {
        func,
        next: 0,
        buffers: Uses { path: BTreeMap::new() },
        callees: Uses { path: BTreeMap::new() },
    };
    finder.list(&func.body, &mut Vec::new());
    Live { buffers: finder.buffers.spans(), callees: finder.callees.spans() }
}

struct Finder<'f> {
    func: &'f LoopFunc,
    next: usize,
    buffers: Uses<BufferId>,
    callees: Uses<usize>,
}

impl Finder<'_> {
    fn list(&mut self, stmts: &[Stmt], around: &mut Vec<Span>) {
        for stmt in stmts {
            let first = self.next;
            let last = first + count(stmt) - 1;
            self.next += 1;
            around.push((first, last));
            self.own(stmt, around);
            for body in bodies(stmt) {
                self.list(body, around);
            }
            around.pop();
        }
    }

    fn own(&mut self, stmt: &Stmt, around: &[Span]) {
        for root in roots(stmt) {
            self.loads(root, around);
        }
        match stmt {
            Stmt::Store { buffer, .. } => self.buffers.note(*buffer, around),
            Stmt::Call { func, args, results } => {
                self.callees.note(*func, around);
                for pointer in args.iter().chain(results) {
                    self.buffers.note(pointer.buffer, around);
                }
            }
            Stmt::Kernel(kernel) => {
                let Kernel::Gemm(gemm) = kernel.as_ref();
                for matrix in [gemm.lhs, gemm.rhs, gemm.out] {
                    self.buffers.note(matrix.at.buffer, around);
                }
            }
            _ => {}
        }
    }

    fn loads(&mut self, root: ScalarId, around: &[Span]) {
        let mut seen = std::collections::BTreeSet::new();
        let mut pending = vec![root];
        while let Some(id) = pending.pop() {
            if !seen.insert(id) {
                continue;
            }
            if let Scalar::Load(buffer, _) = self.func.scalars.get(id) {
                self.buffers.note(*buffer, around);
            }
            pending.extend(self.func.scalars.operands(id));
        }
    }
}

/// Number of statements in a statement, itself included.
fn count(stmt: &Stmt) -> usize {
    1 + bodies(stmt).flatten().map(count).sum::<usize>()
}
