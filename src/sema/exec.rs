//! Statements and blocks.
//!
//! A statement that fails leaves poison in the names it would have bound, and the next one is
//! executed, so that all errors of a body come in one run.

use super::Elaborator;
use super::env::Env;
use super::errors::{Eval, Reported};
use super::value::Value;
use crate::diag::Diagnostic;
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
            StmtKind::For { pat, range, body } => {
                for turn in self.turns(env, range)? {
                    env.push();
                    let bound = self.bind_pattern(env, pat, turn);
                    if bound.is_ok() {
                        self.exec_stmts(env, &body.stmts);
                    }
                    env.pop();
                    bound?;
                    if self.fatal {
                        return Err(Reported);
                    }
                }
                Ok(())
            }
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

    pub(super) fn exec_let(&mut self, env: &mut Env, def: &ast::Let) -> Eval<()> {
        let mut value = self.eval(env, &def.value)?;
        if let Some(ty) = &def.ty {
            value = self.ascribe(env, ty, value, def.value.span)?;
        }
        self.bind_pattern(env, &def.pat, value)
    }

    /// The condition of an `if` without a value.
    pub(super) fn static_condition(&mut self, env: &mut Env, cond: &ast::Expr) -> Eval<bool> {
        match self.eval(env, cond)? {
            Value::Bool(v) => Ok(v),
            other => {
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
                if let Some((name, _)) = self.nesting.last() {
                    diagnostic = diagnostic.help(format!("while elaborating `{name}`"));
                }
                if let Some(place) = self.call_places.last() {
                    diagnostic = diagnostic.at(*place, "asked for here");
                }
                Err(self.report(diagnostic))
            }
            Value::Tensor(t) => match t.as_lazy().and_then(Self::dim_condition) {
                Some(condition) => {
                    self.check(condition, why(), span);
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
                    if let StmtKind::Sequence { targets, .. } = &line.kind {
                        targets.iter().for_each(|t| spoil(env, &t.name, false));
                    }
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
