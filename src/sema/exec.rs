//! Statements and blocks.
//!
//! A statement that fails leaves poison in the names it would have bound, and the next one is
//! executed, so that all errors of a body come in one run.

use super::Elaborator;
use super::env::Env;
use super::errors::{Eval, Reported};
use super::index::names_in;
use super::value::Value;
use crate::diag::Diagnostic;
use crate::graph::ir::DimCheck;
use crate::span::Span;
use crate::syntax::ast::{self, StmtKind};

impl Elaborator<'_> {
    /// The value of a block, in a scope of its own.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn eval_block(&mut self, env: &mut Env, block: &ast::Block) -> Eval<Value> {
        env.push();
        self.exec_stmts(env, &block.stmts);
        let value = match &block.tail {
            Some(tail) => self.eval(env, tail),
            None => self.error_help(
                "no-value",
                "this block has no value",
                block.span,
                "a block ends in an expression, which is its value",
            ),
        };
        env.pop();
        value
    }

    /// Executes statements one after the other in the innermost scope.
    pub fn exec_stmts(&mut self, env: &mut Env, stmts: &[ast::Stmt]) {
        for stmt in stmts {
            if self.charge(1, stmt.span).is_err() {
                return;
            }
            if self.exec_stmt(env, stmt).is_err() {
                self.poison(env, stmt);
            }
        }
    }

    fn exec_stmt(&mut self, env: &mut Env, stmt: &ast::Stmt) -> Eval<()> {
        match &stmt.kind {
            StmtKind::Let(def) => self.exec_let(env, def),
            StmtKind::Define(def) => self.index_definition(env, def, stmt.span),
            StmtKind::Recur(recur) => self.recurrence(env, recur, stmt.span),
            StmtKind::For { pat, range, body } => self.unrolled(env, range, |s, env, turn| {
                env.push();
                let bound = s.bind_pattern(env, pat, turn);
                if bound.is_ok() {
                    s.exec_stmts(env, &body.stmts);
                }
                env.pop();
                bound
            }),
            StmtKind::If { cond, then, otherwise } => {
                let chosen = self.static_condition(env, cond)?;
                let block = if chosen { Some(then) } else { otherwise.as_ref() };
                if let Some(block) = block {
                    env.push();
                    self.exec_stmts(env, &block.stmts);
                    env.pop();
                }
                Ok(())
            }
            StmtKind::Require(require) => self.require(env, require),
            StmtKind::Assign { pat, value } => {
                let value = self.eval(env, value)?;
                self.assign(env, pat, value)
            }
            StmtKind::Init { .. } | StmtKind::Sequence { .. } => self.recurrence_line(env, stmt),
        }
    }

    /// Does `work` for each turn of a loop, until one fails or a limit is reached.
    ///
    /// # Errors
    /// Those of the range and of `work`.
    pub(super) fn unrolled(
        &mut self,
        env: &mut Env,
        range: &ast::Range,
        mut work: impl FnMut(&mut Self, &mut Env, Value) -> Eval<()>,
    ) -> Eval<()> {
        let turns = self.turns(env, range)?;
        self.open_loops.push(range.span);
        let mut result = Ok(());
        for turn in turns {
            result = work(self, env, turn);
            if result.is_err() || self.fatal {
                break;
            }
        }
        self.open_loops.pop();
        if self.fatal { Err(Reported) } else { result }
    }

    pub(super) fn exec_let(&mut self, env: &mut Env, def: &ast::Let) -> Eval<()> {
        let mut value = self.eval(env, &def.value)?;
        if let Some(ty) = &def.ty {
            value = self.ascribe(env, ty, value, def.value.span)?;
        }
        let shown = [(def.value.span, &value.clone())];
        self.showing(def.pat.span, def.pat.span, &shown, |s| s.bind_pattern(env, &def.pat, value))
    }

    /// The condition of an `if` without a value.
    pub(super) fn static_condition(&mut self, env: &mut Env, cond: &ast::Expr) -> Eval<bool> {
        match self.eval(env, cond)? {
            Value::Bool(v) => Ok(v),
            other => {
                if let Some(dims) = Self::free_dims_of(&other) {
                    return self.undecided_condition("the condition of this `if`", &dims, cond.span);
                }
                let title = format!(
                    "the condition of this `if` must be known at compile time, but this is {}",
                    other.kind_text()
                );
                self.error_help(
                    "not-static",
                    title,
                    cond.span,
                    "at run time, `if` chooses between values: `x = if c { a } else { b }`",
                )
            }
        }
    }

    fn assign(&mut self, env: &mut Env, pat: &ast::Pat, value: Value) -> Eval<()> {
        let (names, values) = match &pat.kind {
            ast::PatKind::Name(name) => (std::slice::from_ref(name), vec![value]),
            ast::PatKind::Tuple(names) => (names.as_slice(), self.parts(&value, names.len(), pat.span)?),
        };
        for (name, value) in names.iter().zip(values) {
            let text = self.name_text(env, name)?;
            if let Value::Tensor(t) = &value {
                self.name_value(t, &text);
            }
            if !env.assign(&text, value, name.span) {
                let title = format!("`{text}` is no local, so it cannot be given a new value");
                return self.error_help(
                    "not-a-local",
                    title,
                    name.span,
                    format!("`let {text} = …` makes a local"),
                );
            }
        }
        Ok(())
    }

    /// `require cond, "why"`: decided now, or recorded as a check of the call.
    ///
    /// # Errors
    /// A condition that does not hold or is no statement about sizes.
    pub fn require(&mut self, env: &mut Env, require: &ast::Require) -> Eval<()> {
        let value = self.eval(env, &require.cond)?;
        let span = require.cond.span;
        let why = || require.message.clone().unwrap_or_else(|| "the condition does not hold".into());
        match &value {
            Value::Bool(true) => Ok(()),
            Value::Bool(false) => {
                let title = format!("requirement not met: {}", why());
                let mut diagnostic = Diagnostic::error("require", title).at(span, "does not hold");
                for (name, value) in known_names(env, &require.cond) {
                    diagnostic = diagnostic.note(format!("`{name}` is {value}"));
                }
                if let Some(place) = self.call_places.last() {
                    diagnostic = diagnostic.at(*place, "asked for here");
                }
                Err(self.report(diagnostic))
            }
            Value::Tensor(t) => match t.as_lazy().and_then(Self::dim_condition) {
                Some(condition) => {
                    self.assume(&condition);
                    self.check(condition, DimCheck::REQUIRED, why(), span);
                    Ok(())
                }
                None => self.error_help(
                    "not-static",
                    "a requirement is about static values and dimensions, not about tensors",
                    span,
                    "sizes and shapes may be required; what tensors hold may not",
                ),
            },
            other => {
                let title = format!("a requirement is a truth value, but this is {}", other.kind_text());
                self.error("type-mismatch", title, span)
            }
        }
    }

    /// Binds poison to what a failed statement would have bound.
    fn poison(&mut self, env: &mut Env, stmt: &ast::Stmt) {
        let spoil = |env: &mut Env, name: &ast::Name, rebinds: bool| {
            let Some(text) = name.as_plain() else { return };
            if !rebinds || !env.assign(text, Value::Poison, name.span) {
                env.bind(text, Value::Poison, name.span);
            }
        };
        match &stmt.kind {
            StmtKind::Let(def) => def.pat.names().iter().for_each(|n| spoil(env, n, false)),
            StmtKind::Assign { pat, .. } => pat.names().iter().for_each(|n| spoil(env, n, true)),
            StmtKind::Define(def) => spoil(env, &def.name, false),
            StmtKind::Recur(recur) => {
                for line in &recur.body.stmts {
                    match &line.kind {
                        StmtKind::Init { target, .. } => spoil(env, &target.name, false),
                        StmtKind::Sequence { targets, .. } => {
                            targets.iter().for_each(|t| spoil(env, &t.name, false));
                        }
                        _ => {}
                    }
                }
            }
            // What is read of it in the body would only repeat the fault.
            StmtKind::Init { target, .. } => {
                let known = target.name.as_plain().is_some_and(|text| env.local(text).is_some());
                if !known {
                    spoil(env, &target.name, false);
                }
            }
            _ => {}
        }
    }

    /// Runs `work` with `span` as the place that asked for it.
    pub(super) fn called_at<T>(&mut self, span: Span, work: impl FnOnce(&mut Self) -> T) -> T {
        self.call_places.push(span);
        let result = work(self);
        self.call_places.pop();
        result
    }
}

/// The sizes and other static values that a condition names, as text.
fn known_names(env: &Env, condition: &ast::Expr) -> Vec<(String, String)> {
    let mut names = Vec::new();
    names_in(condition, &mut names);
    let mut known: Vec<(String, String)> = Vec::new();
    for name in names {
        let value = match env.local_or_static(&name).map(|b| &b.value) {
            Some(Value::Int(d)) => d.to_string(),
            Some(Value::Float(v)) => format!("{v:?}"),
            Some(Value::Bool(v)) => v.to_string(),
            Some(Value::Str(v)) => format!("\"{v}\""),
            _ => continue,
        };
        if known.iter().all(|(n, _)| *n != name) {
            known.push((name, value));
        }
    }
    known
}
