//! Marks: where a program says that a piece of its work begins and ends.
//!
//! Takes a loop program and gives it back with a pair of [`Stmt::Mark`] around each kernel, each loop nest
//! and each call of a function, and a table of them. Loops that run in order around such pieces, as over the steps of
//! a recurrence, are not pieces themselves: their insides are. What runs on several threads has no marks
//! inside. Nothing else changes, so a marked program computes the same bits; an unmarked one
//! has no trace of any of this.
//!
//! [`work()`] counts what each piece computes and moves, [`owners`] finds whose weights it reads,
//! [`describe()`] says what it is.

mod describe;
mod owners;
mod values;
mod work;

pub use describe::describe;
pub use owners::{Owners, module_of};
pub use work::{Work, work};

use super::ir::{Edge, Kernel, LoopFunc, LoopKind, LoopProgram, MarkId, Stmt};
use super::walk::{Defined, bodies};
use crate::span::Span;
use std::collections::BTreeSet;

/// A piece of work.
#[derive(Clone, Debug)]
pub struct Mark {
    /// The function of the program that it is in.
    pub func: usize,
    /// The source line of what it computes.
    pub span: Span,
    /// The function that it calls, if it is a call.
    pub callee: Option<usize>,
}

/// Marks the entry function and what it calls; gives the marks in the order of their numbers.
pub fn mark(program: &mut LoopProgram) -> Vec<Mark> {
    let mut marks = Vec::new();
    for number in called(program, program.entry) {
        let body = std::mem::take(&mut program.functions[number].body);
        let func = &program.functions[number];
        program.functions[number].body = Marker { func, number, marks: &mut marks }.list(body);
    }
    marks
}

/// A function and those that it calls, directly or not, in the order of the program.
fn called(program: &LoopProgram, first: usize) -> BTreeSet<usize> {
    fn callees(stmts: &[Stmt], found: &mut Vec<usize>) {
        for stmt in stmts {
            if let Stmt::Call { func, .. } = stmt {
                found.push(*func);
            }
            bodies(stmt).for_each(|body| callees(body, found));
        }
    }
    let (mut found, mut open) = (BTreeSet::new(), vec![first]);
    while let Some(number) = open.pop() {
        if found.insert(number) {
            callees(&program.functions[number].body, &mut open);
        }
    }
    found
}

/// Whether a program has marks.
pub fn is_marked(program: &LoopProgram) -> bool {
    program.functions.iter().any(|func| has_marks(&func.body))
}

/// Whether statements hold marks, at any depth.
pub(super) fn has_marks(stmts: &[Stmt]) -> bool {
    stmts.iter().any(|stmt| matches!(stmt, Stmt::Mark { .. }) || bodies(stmt).any(|body| has_marks(body)))
}

struct Marker<'a> {
    func: &'a LoopFunc,
    number: usize,
    marks: &'a mut Vec<Mark>,
}

impl Marker<'_> {
    fn list(&mut self, stmts: Vec<Stmt>) -> Vec<Stmt> {
        let mut out = Vec::with_capacity(stmts.len());
        for stmt in stmts {
            match stmt {
                Stmt::For { var, extent, reverse, kind: LoopKind::Serial, body } if has_pieces(&body) => {
                    let (kind, body) = (LoopKind::Serial, self.list(body));
                    out.push(Stmt::For { var, extent, reverse, kind, body });
                }
                Stmt::If { condition, then, otherwise } if has_pieces(&then) || has_pieces(&otherwise) => {
                    let (then, otherwise) = (self.list(then), self.list(otherwise));
                    out.push(Stmt::If { condition, then, otherwise });
                }
                Stmt::For { .. } | Stmt::If { .. } | Stmt::Call { .. } | Stmt::Kernel(_) => {
                    let mark = self.add(&stmt);
                    out.extend([
                        Stmt::Mark { mark, edge: Edge::Begin },
                        stmt,
                        Stmt::Mark { mark, edge: Edge::End },
                    ]);
                }
                simple => out.push(simple),
            }
        }
        out
    }

    fn add(&mut self, stmt: &Stmt) -> MarkId {
        let mut defined = Defined::default();
        defined.add(std::slice::from_ref(stmt));
        let callee = if let Stmt::Call { func, .. } = stmt { Some(*func) } else { None };
        let stored = defined.stored.first().map(|buffer| self.func.buffers[buffer.0 as usize].span);
        let span = stored.unwrap_or(self.func.span);
        self.marks.push(Mark { func: self.number, span, callee });
        MarkId(self.marks.len() as u32 - 1)
    }
}

/// Whether there is something among statements that is worth a mark of its own.
fn has_pieces(stmts: &[Stmt]) -> bool {
    stmts.iter().any(|stmt| match stmt {
        Stmt::Kernel(_) | Stmt::Call { .. } | Stmt::For { kind: LoopKind::Parallel, .. } => true,
        Stmt::For { kind: LoopKind::Vector, .. } => false,
        other => bodies(other).any(|body| has_pieces(body)),
    })
}

/// The statement of each mark, by number.
fn statements(program: &LoopProgram) -> Vec<(usize, &Stmt)> {
    fn collect<'a>(func: usize, stmts: &'a [Stmt], found: &mut Vec<(usize, &'a Stmt)>) {
        for (k, stmt) in stmts.iter().enumerate() {
            if let (Stmt::Mark { edge: Edge::Begin, .. }, Some(marked)) = (stmt, stmts.get(k + 1)) {
                found.push((func, marked));
            }
            bodies(stmt).for_each(|body| collect(func, body, found));
        }
    }
    let mut found = Vec::new();
    for (number, func) in program.functions.iter().enumerate() {
        collect(number, &func.body, &mut found);
    }
    found
}

/// The products among statements, at any depth.
fn products(stmt: &Stmt) -> Vec<&super::ir::Gemm> {
    let own = if let Stmt::Kernel(kernel) = stmt {
        let Kernel::Gemm(gemm) = kernel.as_ref();
        Some(gemm)
    } else {
        None
    };
    own.into_iter().chain(bodies(stmt).flatten().flat_map(products)).collect()
}
