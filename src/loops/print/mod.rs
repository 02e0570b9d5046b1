//! The printed form of the loop IR: what `--emit loops` shows.
//!
//! A function is a header of its buffers and then its statements, each group named by the source
//! line of the value it computes:
//!
//! ```text
//! func ffn.forward
//!   arg 0  x: f32[B*512]
//!   result 0  y: f32[B*512]
//!
//!   # ffn.mdl:12
//!   parallel for b in 0..B
//!     vector for o in 0..512
//!       y[b*512 + o] = max(x[b*512 + o], 0)
//! ```

mod scalar;

use super::ir::{
    Buffer, BufferId, BufferKind, Edge, Gemm, Kernel, LoopFunc, LoopKind, LoopProgram, Matrix, Pointer, Stmt,
};
use super::walk::{Defined, roots};
use crate::ops::scalar::BinaryOp;
use crate::source::SourceMap;
use scalar::Names;
use std::fmt::Write;

/// A program as text; places are looked up in `sources`, where given.
pub fn print(program: &LoopProgram, sources: Option<&SourceMap>) -> String {
    let mut out = String::new();
    for (at, func) in program.functions.iter().enumerate() {
        let role = if at == program.entry {
            "entry "
        } else if program.bind == Some(at) {
            "bind "
        } else {
            ""
        };
        let mut printer =
            Printer { program, func, sources, names: Names::new(func, &shown(func)), out: &mut out };
        printer.header(role);
        printer.body(&func.body, 1);
    }
    for (at, site) in program.sites.iter().enumerate() {
        let place = sources.map_or_else(String::new, |s| format!("  # {}", s.place(site.span)));
        let _ = writeln!(out, "site {at} {}: {}{place}", site.code, site.message);
    }
    out
}

/// The buffers of a function, less temporaries that nothing is stored to.
fn shown(func: &LoopFunc) -> Vec<BufferId> {
    let mut defined = Defined::default();
    defined.add(&func.body);
    let all = (0..func.buffers.len() as u32).map(BufferId);
    let is_temp = |id: &BufferId| matches!(func.buffers[id.0 as usize].kind, BufferKind::Temp);
    all.filter(|id| !is_temp(id) || defined.stored.contains(id)).collect()
}

struct Printer<'a> {
    program: &'a LoopProgram,
    func: &'a LoopFunc,
    sources: Option<&'a SourceMap>,
    names: Names<'a>,
    out: &'a mut String,
}

impl Printer<'_> {
    fn line(&mut self, depth: usize, text: &str) {
        let _ = writeln!(self.out, "{}{text}", "  ".repeat(depth));
    }

    fn header(&mut self, role: &str) {
        self.line(0, &format!("{role}func {}", self.func.name));
        for id in shown(self.func) {
            let Buffer { name, dtype, elems, kind, .. } = &self.func.buffers[id.0 as usize];
            let kind = match kind {
                BufferKind::Arg(k) => format!("arg {k}"),
                BufferKind::Result(k) => format!("result {k}"),
                BufferKind::Temp => "temp".into(),
                BufferKind::Const(_) => "const".into(),
            };
            self.line(1, &format!("{kind}  {name}: {dtype}[{elems}]"));
        }
        self.out.push('\n');
    }

    /// The statements of a function, with the source line wherever another value begins.
    fn body(&mut self, stmts: &[Stmt], depth: usize) {
        let mut place = None;
        for stmt in stmts {
            let mut defined = Defined::default();
            defined.add(std::slice::from_ref(stmt));
            if let (Some(sources), Some(buffer)) = (self.sources, defined.stored.first()) {
                let here = sources.place(self.func.buffers[buffer.0 as usize].span);
                if place.as_ref() != Some(&here) {
                    self.line(depth, &format!("# {here}"));
                    place = Some(here);
                }
            }
            self.stmt(stmt, depth);
        }
        self.out.push('\n');
    }

    fn list(&mut self, stmts: &[Stmt], depth: usize) {
        for stmt in stmts {
            self.stmt(stmt, depth);
        }
    }

    fn stmt(&mut self, stmt: &Stmt, depth: usize) {
        let shared = self.names.share(&roots(stmt));
        for line in shared {
            self.line(depth, &line);
        }
        match stmt {
            Stmt::For { var, extent, reverse, kind, body } => {
                let kind = match kind {
                    LoopKind::Serial => "",
                    LoopKind::Vector => "vector ",
                    LoopKind::Parallel => "parallel ",
                };
                let order = if *reverse { " reversed" } else { "" };
                let (var, extent) = (self.names.var(*var), self.names.text(*extent));
                self.line(depth, &format!("{kind}for {var} in 0..{extent}{order}"));
                self.list(body, depth + 1);
            }
            Stmt::Set { local, value } => {
                let text = format!("{} = {}", self.names.local(*local), self.names.text(*value));
                self.line(depth, &text);
            }
            Stmt::Reduce { local, op, value } => {
                let (local, value) = (self.names.local(*local), self.names.text(*value));
                let text = match op {
                    BinaryOp::Min | BinaryOp::Max => format!("{local} = {}({local}, {value})", op.name()),
                    _ => format!("{local} {}= {value}", op.name()),
                };
                self.line(depth, &text);
            }
            Stmt::Store { buffer, index, value } => {
                let element = self.element(*buffer, &self.names.text(*index));
                let text = format!("{element} = {}", self.names.text(*value));
                self.line(depth, &text);
            }
            Stmt::If { condition, then, otherwise } => {
                self.line(depth, &format!("if {}", self.names.text(*condition)));
                self.list(then, depth + 1);
                if !otherwise.is_empty() {
                    self.line(depth, "else");
                    self.list(otherwise, depth + 1);
                }
            }
            Stmt::Fail { condition, site, values } => {
                let values: Vec<String> = values.iter().map(|v| self.names.text(*v)).collect();
                let condition = self.names.text(*condition);
                self.line(depth, &format!("fail site {} ({}) if {condition}", site.0, values.join(", ")));
            }
            Stmt::Call { func, args, results } => {
                let (args, results) = (self.pointers(args), self.pointers(results));
                let callee = &self.program.functions[*func].name;
                self.line(depth, &format!("{results} = call {callee}({args})"));
            }
            Stmt::Kernel(kernel) => {
                let Kernel::Gemm(gemm) = kernel.as_ref();
                self.gemm(gemm, depth);
            }
            Stmt::Mark { mark, edge: Edge::Begin } => self.line(depth, &format!("mark {} begins", mark.0)),
            Stmt::Mark { mark, edge: Edge::End } => self.line(depth, &format!("mark {} ends", mark.0)),
        }
        self.names.forget();
    }

    fn gemm(&mut self, gemm: &Gemm, depth: usize) {
        let [m, n, k] = [gemm.m, gemm.n, gemm.k].map(|id| self.names.text(id));
        let outer: Vec<[String; 3]> = gemm
            .outer
            .iter()
            .map(|axis| [axis.extent, axis.lhs, axis.rhs].map(|id| self.names.text(id)))
            .collect();
        let matrix = |Matrix { at, strides }: &Matrix, names: &Names<'_>| {
            let (slow, fast) = (names.text(strides.0), names.text(strides.1));
            let offset = names.text(at.offset);
            format!("{}[{offset}; {slow}, {fast}]", self.func.buffers[at.buffer.0 as usize].name)
        };
        let [lhs, rhs, out] = [&gemm.lhs, &gemm.rhs, &gemm.out].map(|x| matrix(x, &self.names));
        self.line(depth, &format!("gemm {m} x {n} x {k}: {out} = {lhs} * {rhs}"));
        for [extent, lhs, rhs] in outer {
            self.line(depth + 1, &format!("over {extent}: +{lhs}, +{rhs}"));
        }
        if let Some(epilogue) = &gemm.epilogue {
            let (row, column) = (self.names.var(epilogue.row), self.names.var(epilogue.column));
            let (acc, value) = (self.names.local(epilogue.acc), self.names.text(epilogue.value));
            self.line(depth + 1, &format!("each {row}, {column}, {acc}: {value}"));
        }
    }

    fn element(&self, buffer: BufferId, index: &str) -> String {
        format!("{}[{index}]", self.func.buffers[buffer.0 as usize].name)
    }

    fn pointers(&self, pointers: &[Pointer]) -> String {
        let texts: Vec<String> = pointers
            .iter()
            .map(|p| {
                let name = &self.func.buffers[p.buffer.0 as usize].name;
                match self.names.text(p.offset).as_str() {
                    "0" => name.clone(),
                    offset => format!("{name}[{offset}..]"),
                }
            })
            .collect();
        texts.join(", ")
    }
}
