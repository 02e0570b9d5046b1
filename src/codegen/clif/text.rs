//! Cranelift IR as text, with a comment where each statement of the loop program begins.

use crate::loops::ir::{BufferId, Kernel, LoopFunc, LoopProgram, Stmt};
use crate::source::SourceMap;
use crate::span::Span;
use cranelift_codegen::entity::{EntityRef, SecondaryMap};
use cranelift_codegen::ir::{Block, Function, Inst, Value};
use cranelift_codegen::write::{FuncWriter, PlainWriter, decorate_function};
use std::collections::BTreeMap;
use std::fmt;

/// Comments by the number of the instruction they stand before.
#[derive(Debug, Default)]
pub(super) struct Notes {
    notes: BTreeMap<usize, String>,
}

impl Notes {
    /// Notes that a statement begins with instruction `at`.
    pub(super) fn add(
        &mut self,
        at: usize,
        program: &LoopProgram,
        func: &LoopFunc,
        sources: &SourceMap,
        stmt: &Stmt,
    ) {
        let into = |what: &str, id: BufferId| {
            let buffer = &func.buffers[id.0 as usize];
            (format!("{what} {}", buffer.name), Some(buffer.span))
        };
        let (text, span): (String, Option<Span>) = match stmt {
            Stmt::Store { buffer, .. } => into("store", *buffer),
            Stmt::Kernel(kernel) => {
                let Kernel::Gemm(gemm) = kernel.as_ref();
                into("gemm", gemm.out.at.buffer)
            }
            Stmt::For { var, .. } => (format!("for {}", func.vars[var.0 as usize]), None),
            Stmt::Fail { site, .. } => {
                let site = &program.sites[site.0 as usize];
                (format!("check {}", site.code), Some(site.span))
            }
            Stmt::Call { func, .. } => (format!("call {}", program.functions[*func].name), None),
            Stmt::Set { .. } | Stmt::Reduce { .. } | Stmt::If { .. } | Stmt::Mark { .. } => return,
        };
        let text = match span {
            Some(span) => format!("{text}, {}", sources.place(span)),
            None => text,
        };
        self.notes.insert(at, text);
    }
}

/// The text of a function.
pub(super) fn text(name: &str, place: &str, function: &Function, notes: Notes) -> String {
    let mut out = format!("; {name}, {place}\n");
    let written = decorate_function(&mut Commented { notes }, &mut out, function);
    debug_assert!(written.is_ok(), "invariant: strings can be written to");
    out
}

struct Commented {
    notes: Notes,
}

impl FuncWriter for Commented {
    fn write_block_header(
        &mut self,
        w: &mut dyn fmt::Write,
        func: &Function,
        block: Block,
        indent: usize,
    ) -> fmt::Result {
        PlainWriter.write_block_header(w, func, block, indent)
    }

    fn write_instruction(
        &mut self,
        w: &mut dyn fmt::Write,
        func: &Function,
        aliases: &SecondaryMap<Value, Vec<Value>>,
        inst: Inst,
        indent: usize,
    ) -> fmt::Result {
        if let Some(note) = self.notes.notes.get(&inst.index()) {
            writeln!(w, "{:indent$}; {note}", "")?;
        }
        PlainWriter.write_instruction(w, func, aliases, inst, indent)
    }
}
