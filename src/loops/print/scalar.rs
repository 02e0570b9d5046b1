//! Expressions as text, with names that are unique in their function.

use crate::dim::Dim;
use crate::graph::expr::Literal;
use crate::loops::ir::{BufferId, Local, LoopFunc, LoopVar, Scalar, ScalarId};
use crate::ops::scalar::{BinaryOp, UnaryOp};
use std::collections::{BTreeMap, BTreeSet};

/// Expressions deeper than this are split into lines.
const MAX_DEPTH: usize = 24;

/// How tightly a text binds; a looser one inside a tighter place gets brackets.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Level {
    Or,
    And,
    Compare,
    Add,
    Mul,
    Unary,
    Atom,
}

/// Names of variables, and of expressions that a statement uses more than once.
pub(super) struct Names<'a> {
    func: &'a LoopFunc,
    vars: Vec<String>,
    locals: Vec<String>,
    shared: BTreeMap<ScalarId, String>,
}

impl<'a> Names<'a> {
    /// Names that differ from each other and from those of `buffers`.
    pub fn new(func: &'a LoopFunc, buffers: &[BufferId]) -> Self {
        let name = |id: &BufferId| func.buffers[id.0 as usize].name.clone();
        let mut taken: BTreeSet<String> = buffers.iter().map(name).collect();
        let vars = func.vars.iter().map(|name| unique(&mut taken, name)).collect();
        let locals = func.locals.iter().map(|(name, _)| unique(&mut taken, name)).collect();
        Names { func, vars, locals, shared: BTreeMap::new() }
    }

    pub fn var(&self, var: LoopVar) -> &str {
        &self.vars[var.0 as usize]
    }

    pub fn local(&self, local: Local) -> &str {
        &self.locals[local.0 as usize]
    }

    /// Names what the roots use more than once or what is deep, and gives the lines that say so.
    pub fn share(&mut self, roots: &[ScalarId]) -> Vec<String> {
        let mut uses: BTreeMap<ScalarId, usize> = BTreeMap::new();
        let mut pending = roots.to_vec();
        while let Some(id) = pending.pop() {
            let count = uses.entry(id).or_insert(0);
            *count += 1;
            if *count == 1 {
                pending.extend(self.func.scalars.operands(id));
            }
        }
        let mut lines = Vec::new();
        let mut depths: BTreeMap<ScalarId, usize> = BTreeMap::new();
        for (id, count) in uses {
            let below = self.func.scalars.operands(id).map(|o| depths[&o] + 1).max();
            let deep = below.is_some_and(|depth| depth >= MAX_DEPTH);
            let named = deep || (count > 1 && self.is_worth_a_name(id));
            depths.insert(id, if named { 0 } else { below.unwrap_or(0) });
            if named {
                let text = self.define(id).0;
                let name = format!("%{}", self.shared.len());
                lines.push(format!("{name} = {text}"));
                self.shared.insert(id, name);
            }
        }
        lines
    }

    /// Forgets the names of a statement.
    pub fn forget(&mut self) {
        self.shared.clear();
    }

    fn is_worth_a_name(&self, id: ScalarId) -> bool {
        let scalars = &self.func.scalars;
        match scalars.get(id) {
            Scalar::Const(_) | Scalar::Dim(_) | Scalar::Var(_) | Scalar::Local(_) => false,
            Scalar::Load(_, index) => scalars.operands(*index).next().is_some(),
            _ => scalars.operands(id).any(|o| scalars.operands(o).next().is_some()),
        }
    }

    pub fn text(&self, id: ScalarId) -> String {
        self.at(id, Level::Or)
    }

    fn at(&self, id: ScalarId, least: Level) -> String {
        if let Some(name) = self.shared.get(&id) {
            return name.clone();
        }
        let (text, level) = self.define(id);
        if level < least { format!("({text})") } else { text }
    }

    fn define(&self, id: ScalarId) -> (String, Level) {
        let dtype = self.func.scalars.dtype(id);
        match self.func.scalars.get(id) {
            Scalar::Const(literal) => (literal_text(*literal), Level::Atom),
            Scalar::Dim(dim) => (dim.to_string(), dim_level(dim)),
            Scalar::Var(var) => (self.var(*var).to_owned(), Level::Atom),
            Scalar::Local(local) => (self.local(*local).to_owned(), Level::Atom),
            Scalar::Load(buffer, index) => {
                let name = &self.func.buffers[buffer.0 as usize].name;
                (format!("{name}[{}]", self.text(*index)), Level::Atom)
            }
            Scalar::Unary(UnaryOp::Neg, a) => (format!("-{}", self.at(*a, Level::Unary)), Level::Unary),
            Scalar::Unary(UnaryOp::Not, a) => (format!("not {}", self.at(*a, Level::Unary)), Level::Unary),
            Scalar::Unary(op, a) => (format!("{}({})", op.name(), self.text(*a)), Level::Atom),
            Scalar::Binary(op, a, b) => self.binary(*op, *a, *b),
            Scalar::Select(c, a, b) => {
                let (c, a, b) = (self.text(*c), self.text(*a), self.text(*b));
                (format!("select({c}, {a}, {b})"), Level::Atom)
            }
            Scalar::Cast(a) => (format!("{dtype}({})", self.text(*a)), Level::Atom),
        }
    }

    fn binary(&self, op: BinaryOp, a: ScalarId, b: ScalarId) -> (String, Level) {
        let (level, right) = match op {
            BinaryOp::Or => (Level::Or, Level::And),
            BinaryOp::And => (Level::And, Level::Compare),
            BinaryOp::Add | BinaryOp::Sub => (Level::Add, Level::Mul),
            BinaryOp::Mul | BinaryOp::Div | BinaryOp::FloorDiv | BinaryOp::Mod => (Level::Mul, Level::Unary),
            BinaryOp::Min | BinaryOp::Max | BinaryOp::Pow => {
                let name = if op == BinaryOp::Pow { "pow" } else { op.name() };
                return (format!("{name}({}, {})", self.text(a), self.text(b)), Level::Atom);
            }
            _ => (Level::Compare, Level::Add),
        };
        let left = if level == Level::Compare { Level::Add } else { level };
        let (a, b) = (self.at(a, left), self.at(b, right));
        let tight = level == Level::Mul && matches!(op, BinaryOp::Mul);
        let text = if tight { format!("{a}*{b}") } else { format!("{a} {} {b}", op.name()) };
        (text, level)
    }
}

fn unique(taken: &mut BTreeSet<String>, name: &str) -> String {
    let mut candidate = name.to_owned();
    let mut suffix = 2;
    while !taken.insert(candidate.clone()) {
        candidate = format!("{name}.{suffix}");
        suffix += 1;
    }
    candidate
}

fn dim_level(dim: &Dim) -> Level {
    match dim.terms() {
        [] => Level::Atom,
        [_] if dim.as_symbol().is_some() => Level::Atom,
        [_] => Level::Mul,
        _ => Level::Add,
    }
}

fn literal_text(literal: Literal) -> String {
    match literal {
        Literal::Real(bits) => format!("{:?}", f64::from_bits(bits)),
        Literal::Int(value) => value.to_string(),
        Literal::Bool(value) => value.to_string(),
    }
}
