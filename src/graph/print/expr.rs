//! Scalar expressions as infix text with as few parentheses as their meaning needs.
//!
//! An expression DAG printed as a tree can be exponentially longer than itself. Shared
//! sub-expressions above a small size, and everything that would nest too deeply, are therefore
//! bound by `let` first; the text is linear in the DAG and the recursion here is bounded.

use super::super::expr::{Expr, ExprId, Exprs, Literal, VarId};
use crate::dim::Dim;
use crate::dtype::DType;
use crate::ops::scalar::{BinaryOp, UnaryOp};
use std::collections::BTreeMap;
use std::fmt::Write;

/// A shared expression of at most this many nodes is printed each time it is used.
const SHARED_NODES: usize = 8;
/// An expression of this many nodes is given a name even when it is used once.
const MOST_NODES: usize = 80;
/// An expression of this height is given a name.
const MOST_HEIGHT: usize = 24;

/// How tightly an expression binds, loosest first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Level {
    Or,
    And,
    Not,
    Compare,
    Add,
    Mul,
    Unary,
    Pow,
    Primary,
}

/// What the leaves of an op's expressions are called.
pub(super) struct Scope<'a> {
    /// By index.
    pub indices: Vec<String>,
    /// By operand port.
    pub operands: Vec<String>,
    /// Enclosing positions.
    pub vars: &'a BTreeMap<VarId, String>,
    /// The port that is the accumulator of a product, read without indices.
    pub accumulator: Option<u32>,
}

/// The expressions of one op as text.
pub(super) struct Printed {
    /// `let` lines, in the order of their use.
    pub lets: Vec<(String, String)>,
    /// The roots, in the order they were asked for, with their level.
    pub roots: Vec<(String, Level)>,
}

impl Printed {
    /// Root `k`, in parentheses where it binds more loosely than `level`.
    pub fn root(&self, k: usize, level: Level) -> String {
        wrap(self.roots[k].clone(), level)
    }
}

/// Prints `roots` and whatever they share.
pub(super) fn print(exprs: &Exprs, roots: &[ExprId], scope: &Scope) -> Printed {
    let named = named(exprs, roots);
    let mut names = BTreeMap::new();
    let mut lets = Vec::new();
    for id in named {
        let text = Printer { exprs, scope, names: &names }.define(id).0;
        let name = format!("u{}", lets.len());
        lets.push((name.clone(), text));
        names.insert(id, name);
    }
    let printer = Printer { exprs, scope, names: &names };
    Printed { lets, roots: roots.iter().map(|id| printer.text(*id)).collect() }
}

/// The expressions to bind by `let`, operands first.
fn named(exprs: &Exprs, roots: &[ExprId]) -> Vec<ExprId> {
    let needed = exprs.reachable(roots);
    let mut uses = vec![0usize; exprs.len()];
    let mut shape = vec![(1usize, 0usize); exprs.len()];
    let mut named = Vec::new();
    for (id, _, _) in exprs.iter().filter(|(id, ..)| needed[id.0 as usize]) {
        for operand in exprs.operands(id) {
            uses[operand.0 as usize] += 1;
        }
    }
    for (id, _, _) in exprs.iter().filter(|(id, ..)| needed[id.0 as usize]) {
        let (mut nodes, mut height) = (1, 0);
        for operand in exprs.operands(id) {
            let (n, h) = shape[operand.0 as usize];
            nodes += n;
            height = height.max(h + 1);
        }
        let shared = uses[id.0 as usize] > 1 && nodes > SHARED_NODES;
        let bind = shared || nodes > MOST_NODES || height > MOST_HEIGHT;
        if bind && uses[id.0 as usize] > 0 {
            named.push(id);
            (nodes, height) = (1, 0);
        }
        shape[id.0 as usize] = (nodes, height);
    }
    named
}

struct Printer<'a> {
    exprs: &'a Exprs,
    scope: &'a Scope<'a>,
    names: &'a BTreeMap<ExprId, String>,
}

impl Printer<'_> {
    fn text(&self, id: ExprId) -> (String, Level) {
        match self.names.get(&id) {
            Some(name) => (name.clone(), Level::Primary),
            None => self.define(id),
        }
    }

    fn at(&self, id: ExprId, level: Level) -> String {
        wrap(self.text(id), level)
    }

    fn define(&self, id: ExprId) -> (String, Level) {
        match self.exprs.get(id) {
            Expr::Const(literal) => literal_text(*literal, self.exprs.dtype(id)),
            Expr::Index(k) => (self.index(*k), Level::Primary),
            Expr::Var(var) => {
                (self.scope.vars.get(var).cloned().unwrap_or_else(|| format!("?v{}", var.0)), Level::Primary)
            }
            Expr::Dim(dim) => dim_text(dim),
            Expr::Read(read) if self.scope.accumulator == Some(read.port) => ("acc".into(), Level::Primary),
            Expr::Read(read) => {
                let mut text = self.operand(read.port);
                if !read.index.is_empty() {
                    let index: Vec<_> = read.index.iter().map(|i| self.at(*i, Level::Or)).collect();
                    let _ = write!(text, "[{}", index.join(", "));
                    if let Some(otherwise) = read.otherwise {
                        let _ = write!(text, " else {}", self.at(otherwise, Level::Or));
                    }
                    text.push(']');
                }
                (text, Level::Primary)
            }
            Expr::Unary(op, a) => self.unary(*op, *a),
            Expr::Binary(op, a, b) => self.binary(*op, *a, *b),
            Expr::Select(c, a, b) => {
                let (c, a, b) = (self.at(*c, Level::Or), self.at(*a, Level::Or), self.at(*b, Level::Or));
                (format!("if {c} {{ {a} }} else {{ {b} }}"), Level::Primary)
            }
            Expr::Cast(a) => {
                (format!("{}({})", self.exprs.dtype(id), self.at(*a, Level::Or)), Level::Primary)
            }
        }
    }

    fn unary(&self, op: UnaryOp, a: ExprId) -> (String, Level) {
        match op {
            UnaryOp::Neg => (format!("-{}", self.at(a, Level::Pow)), Level::Unary),
            UnaryOp::Not => (format!("not {}", self.at(a, Level::Not)), Level::Not),
            _ => (format!("{}({})", op.name(), self.at(a, Level::Or)), Level::Primary),
        }
    }

    fn binary(&self, op: BinaryOp, a: ExprId, b: ExprId) -> (String, Level) {
        let (level, left, right) = match op {
            BinaryOp::Or => (Level::Or, Level::Or, Level::And),
            BinaryOp::And => (Level::And, Level::And, Level::Not),
            BinaryOp::Add | BinaryOp::Sub => (Level::Add, Level::Add, Level::Mul),
            BinaryOp::Mul | BinaryOp::Div | BinaryOp::FloorDiv | BinaryOp::Mod => {
                (Level::Mul, Level::Mul, Level::Unary)
            }
            BinaryOp::Pow => (Level::Pow, Level::Primary, Level::Unary),
            BinaryOp::Min | BinaryOp::Max => {
                let (a, b) = (self.at(a, Level::Or), self.at(b, Level::Or));
                return (format!("{}({a}, {b})", op.name()), Level::Primary);
            }
            _ => (Level::Compare, Level::Add, Level::Add),
        };
        (format!("{} {} {}", self.at(a, left), op.name(), self.at(b, right)), level)
    }

    fn index(&self, k: u32) -> String {
        self.scope.indices.get(k as usize).cloned().unwrap_or_else(|| format!("?i{k}"))
    }

    fn operand(&self, port: u32) -> String {
        self.scope.operands.get(port as usize).cloned().unwrap_or_else(|| format!("?p{port}"))
    }
}

fn wrap((text, level): (String, Level), least: Level) -> String {
    if level < least { format!("({text})") } else { text }
}

fn literal_text(literal: Literal, dtype: DType) -> (String, Level) {
    let text = match literal {
        Literal::Bool(value) => value.to_string(),
        Literal::Int(value) => value.to_string(),
        Literal::Real(bits) => real_text(f64::from_bits(bits), dtype),
    };
    let level = if text.starts_with('-') { Level::Unary } else { Level::Primary };
    (text, level)
}

/// The shortest text that reads back as the same number of that type.
pub(super) fn real_text(value: f64, dtype: DType) -> String {
    if dtype == DType::F32 { format!("{:?}", value as f32) } else { format!("{value:?}") }
}

fn dim_text(dim: &Dim) -> (String, Level) {
    let level = match dim.terms() {
        [] => Level::Primary,
        [_] if dim.as_symbol().is_some() => Level::Primary,
        [(_, coefficient)] if *coefficient < 0 => Level::Unary,
        [_] => Level::Mul,
        _ => Level::Add,
    };
    (dim.to_string(), if dim.as_const().is_some_and(|v| v < 0) { Level::Unary } else { level })
}
