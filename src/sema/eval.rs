//! Expressions.

use super::Elaborator;
use super::call::{Argument, result_span};
use super::env::Env;
use super::errors::{Eval, Reported};
use super::limits::{MAX_DEPTH, MAX_LIST, MAX_TURNS};
use super::scalar::Scalar;
use super::value::{TupleValue, Value};
use crate::diag::{Diagnostic, counted};
use crate::dim::Symbol;
use crate::ops::scalar::UnaryOp;
use crate::span::Span;
use crate::syntax::ast::{self, ExprKind};
use std::sync::Arc;

impl Elaborator<'_> {
    /// The value of an expression.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn eval(&mut self, env: &mut Env, expr: &ast::Expr) -> Eval<Value> {
        self.charge(1, expr.span)?;
        if self.depth >= MAX_DEPTH {
            return self
                .limit("expressions are nested too deep here, counting those of all open calls", expr.span);
        }
        self.depth += 1;
        let value = self.eval_kind(env, expr);
        self.depth -= 1;
        value
    }

    fn eval_kind(&mut self, env: &mut Env, expr: &ast::Expr) -> Eval<Value> {
        let span = expr.span;
        match &*expr.kind {
            ExprKind::Int(v) => Ok(Value::int(*v)),
            ExprKind::Float(v) => Ok(Value::Float(*v)),
            ExprKind::Str(s) => Ok(Value::Str(s.as_str().into())),
            ExprKind::Bool(v) => Ok(Value::Bool(*v)),
            ExprKind::SelfRef => match &env.owner {
                Some(owner) => Ok(Value::Instance(owner.clone())),
                None => self.error("unknown-name", "`self` is known in entries only", span),
            },
            ExprKind::Name(name) => self.name_value_of(env, name),
            ExprKind::List(items) => {
                let values = self.eval_all(env, items.iter())?;
                self.made(values, span)
            }
            ExprKind::Repeat { value, count } => self.repeat(env, value, count),
            ExprKind::Comprehension { pat, range, value } => {
                let mut values = Vec::new();
                self.unrolled(env, range, |s, env, turn| {
                    env.push();
                    let result = s.bind_pattern(env, pat, turn).and_then(|()| s.eval(env, value));
                    env.pop();
                    values.push(result?);
                    Ok(())
                })?;
                self.made(values, span)
            }
            ExprKind::Tuple(args) => self.tuple(env, args, span),
            ExprKind::Call { callee, args } => self.call_expr(env, callee, args, span),
            ExprKind::Index { base, index, otherwise } => {
                self.index_expr(env, base, index, otherwise.as_ref(), span)
            }
            ExprKind::Field { base, name } => {
                let base = self.eval_callee(env, base)?;
                self.field(env, &base, name, span)
            }
            ExprKind::If { cond, then, otherwise } => self.if_expr(env, cond, then, otherwise, span),
            ExprKind::Unary { op, operand } => {
                let value = self.eval(env, operand)?;
                self.unary(*op, &value, span)
            }
            ExprKind::Binary { op, left, right, op_span } => {
                self.binary_expr(env, *op, (left, right), (span, *op_span))
            }
            ExprKind::Reduce(reduce) => self.reduction(env, reduce, span),
        }
    }

    /// The value of an expression that is called or whose member is taken: a bare name there
    /// never is an unknown dimension.
    pub(super) fn eval_callee(&mut self, env: &mut Env, expr: &ast::Expr) -> Eval<Value> {
        match &*expr.kind {
            ExprKind::Name(name) => self.callee_value(env, name),
            _ => self.eval(env, expr),
        }
    }

    fn repeat(&mut self, env: &mut Env, value: &ast::Expr, count: &ast::Expr) -> Eval<Value> {
        let n = self.known_int(env, count, "the length of a list")?;
        if !(0..=MAX_LIST as i64).contains(&n) {
            if n < 0 {
                return self.error("size", format!("a list cannot have {n} elements"), count.span);
            }
            return self
                .limit(format!("a list may have {MAX_LIST} elements; this one would have {n}"), count.span);
        }
        let values: Eval<Vec<Value>> = (0..n).map(|_| self.eval(env, value)).collect();
        self.made(values?, count.span)
    }

    /// The values of several expressions, each of which is evaluated even if others fail.
    fn eval_all<'e>(
        &mut self,
        env: &mut Env,
        exprs: impl Iterator<Item = &'e ast::Expr>,
    ) -> Eval<Vec<Value>> {
        let values: Vec<Eval<Value>> = exprs.map(|e| self.eval(env, e)).collect();
        values.into_iter().collect()
    }

    fn tuple(&mut self, env: &mut Env, args: &[ast::Arg], span: Span) -> Eval<Value> {
        let values = self.eval_all(env, args.iter().map(|a| &a.value))?;
        let names = if args.iter().any(|a| a.name.is_some()) {
            let names: Eval<Vec<Option<Arc<str>>>> =
                args.iter().map(|a| a.name.as_ref().map(|n| self.name_text(env, n)).transpose()).collect();
            names?
        } else {
            Vec::new()
        };
        let value = Value::Tuple(Arc::new(TupleValue { values, names, literal: true }));
        self.refuse_bulk(&value, span)?;
        Ok(value)
    }

    fn call_expr(&mut self, env: &mut Env, callee: &ast::Expr, args: &[ast::Arg], span: Span) -> Eval<Value> {
        let callee_value = self.eval_callee(env, callee);
        let mut arguments = Vec::with_capacity(args.len());
        let mut failed = false;
        for arg in args {
            let name = arg.name.as_ref().map(|n| self.name_text(env, n)).transpose()?;
            match self.eval(env, &arg.value) {
                Ok(value) => {
                    let name_span = arg.name.as_ref().map(|n| n.span);
                    arguments.push(Argument { name, name_span, value, span: arg.value.span });
                }
                Err(Reported) => failed = true,
            }
        }
        let callee_value = callee_value?;
        if failed {
            return Err(Reported);
        }
        self.call(&callee_value, arguments, span)
    }

    fn index_expr(
        &mut self,
        env: &mut Env,
        base: &ast::Expr,
        index: &[ast::Ix],
        otherwise: Option<&ast::Expr>,
        span: Span,
    ) -> Eval<Value> {
        let base = self.eval_callee(env, base)?;
        let items = match &base {
            Value::List(items) => Arc::clone(items),
            Value::Tuple(tuple) => Arc::new(tuple.values.clone()),
            _ => return self.read(env, base, index, otherwise, span),
        };
        match index {
            [ast::Ix { kind: ast::IxKind::Index(at), .. }] => {
                let position = self.eval(env, at)?;
                let Value::Int(dim) = &position else {
                    return self.read(env, base, index, otherwise, span);
                };
                let Some(k) = dim.as_const() else {
                    return self.read(env, base, index, otherwise, span);
                };
                match usize::try_from(k).ok().and_then(|k| items.get(k)) {
                    Some(Value::Poison) => Err(Reported),
                    Some(value) => Ok(value.clone()),
                    None => match otherwise {
                        Some(e) => self.eval(env, e),
                        None => {
                            let count = counted(items.len(), "element", "elements");
                            let title = format!("position {k} lies outside a list of {count}");
                            self.error_help(
                                "out-of-range",
                                title,
                                at.span,
                                "positions count from 0 and never from the end",
                            )
                        }
                    },
                }
            }
            [ast::Ix { kind: ast::IxKind::Range(from, to), .. }] if matches!(base, Value::List(_)) => {
                let (a, b) = (self.known_int(env, from, "a bound")?, self.known_int(env, to, "a bound")?);
                if 0 <= a && a <= b && b <= items.len() as i64 {
                    return self.made(items[a as usize..b as usize].to_vec(), span);
                }
                let count = counted(items.len(), "element", "elements");
                self.error("out-of-range", format!("{a}..{b} is no part of a list of {count}"), span)
            }
            _ => self.read(env, base, index, otherwise, span),
        }
    }

    fn binary_expr(
        &mut self,
        env: &mut Env,
        op: ast::BinaryOp,
        (left, right): (&ast::Expr, &ast::Expr),
        (span, operator): (Span, Span),
    ) -> Eval<Value> {
        let a = self.eval(env, left);
        let decides = matches!(op, ast::BinaryOp::And | ast::BinaryOp::Or);
        if decides && let Ok(value) = &a {
            let and = op == ast::BinaryOp::And;
            match value {
                Value::Bool(v) if *v != and => return Ok(Value::Bool(*v)),
                Value::Tensor(t) if t.as_lazy().is_some_and(|s| s.as_bool().is_none()) => {
                    let scalar = t.as_lazy().cloned().unwrap_or_else(|| Scalar::bool(true));
                    let guard = if and { scalar } else { Scalar::unary(UnaryOp::Not, scalar) };
                    let b = self.guarded(guard, |s| s.eval(env, right))?;
                    let operands = [(left.span, value), (right.span, &b)];
                    return self.showing(span, operator, &operands, |s| s.logical(and, value, &b, span));
                }
                _ => {}
            }
        }
        let b = self.eval(env, right);
        let (a, b) = (a?, b?);
        let operands = [(left.span, &a), (right.span, &b)];
        self.showing(span, operator, &operands, |s| s.binary(op, &a, &b, span))
    }

    /// What `work` gives while `condition` guards emission.
    pub fn guarded<T>(&mut self, condition: Scalar, work: impl FnOnce(&mut Self) -> T) -> T {
        self.guards.push(condition);
        let result = work(self);
        self.guards.pop();
        result
    }

    fn if_expr(
        &mut self,
        env: &mut Env,
        cond: &ast::Expr,
        then: &ast::Block,
        otherwise: &ast::Block,
        span: Span,
    ) -> Eval<Value> {
        let condition = self.eval(env, cond)?;
        if let Value::Bool(c) = condition {
            return self.eval_block(env, if c { then } else { otherwise });
        }
        let truth = self.truth(&condition, cond.span)?;
        if env.unknowns.is_some() {
            return self.error("not-static", "this condition must be known at compile time", cond.span);
        }
        self.refuse_rebinding(then)?;
        self.refuse_rebinding(otherwise)?;
        let (a, b) = match truth.as_lazy().cloned() {
            Some(scalar) => {
                let not = Scalar::unary(UnaryOp::Not, scalar.clone());
                let a = self.guarded(scalar, |s| s.eval_block(env, then));
                (a, self.guarded(not, |s| s.eval_block(env, otherwise)))
            }
            None => (self.eval_block(env, then), self.eval_block(env, otherwise)),
        };
        let (a, b) = (a?, b?);
        let (first, second) = (result_span(then), result_span(otherwise));
        self.showing(span, second, &[(second, &b), (first, &a)], |s| s.select(&truth, &a, &b, span))
    }

    /// Both branches of a run-time choice are evaluated, so neither may rebind what is outside.
    fn refuse_rebinding(&mut self, block: &ast::Block) -> Eval<()> {
        let mut own: Vec<&str> = Vec::new();
        for stmt in &block.stmts {
            match &stmt.kind {
                ast::StmtKind::Let(def) => own.extend(def.pat.names().iter().filter_map(ast::Name::as_plain)),
                ast::StmtKind::Define(def) => own.extend(def.name.as_plain()),
                ast::StmtKind::Assign { pat, .. } => {
                    let outer = pat.names().iter().find(|n| n.as_plain().is_some_and(|t| !own.contains(&t)));
                    if let Some(name) = outer {
                        return self.error_help(
                            "not-static",
                            "a choice made at run time cannot rebind a name outside it",
                            name.span,
                            "give the choice a value: `x = if c { a } else { b }`",
                        );
                    }
                }
                ast::StmtKind::For { body, .. } => self.refuse_rebinding(body)?,
                _ => {}
            }
        }
        Ok(())
    }

    /// A known integer.
    ///
    /// # Errors
    /// Other kinds, and integers that depend on free dimensions; `what` names its part.
    pub fn known_int(&mut self, env: &mut Env, expr: &ast::Expr, what: &str) -> Eval<i64> {
        let value = self.eval(env, expr)?;
        self.int_of(&value, what, expr.span)
    }

    /// A value as a known integer.
    ///
    /// # Errors
    /// As [`Elaborator::known_int`].
    pub fn int_of(&mut self, value: &Value, what: &str, span: Span) -> Eval<i64> {
        match value {
            Value::Int(d) => match self.resolved(d).as_const() {
                Some(v) => Ok(v),
                None => {
                    let symbols = self.resolved(d).symbols();
                    let title =
                        format!("{what} must be known at compile time, but {}", Self::free_text(&symbols));
                    let name = symbols.first().map_or("", |s| s.name());
                    let help = format!("fix it with --dim {name}=…, or make it a static parameter");
                    let diagnostic = Diagnostic::error("not-static", title).at(span, "").help(help);
                    let diagnostic = self.with_origins(diagnostic, &symbols);
                    Err(self.report(diagnostic))
                }
            },
            Value::Poison => Err(Reported),
            Value::Float(v) if v.fract() == 0.0 => self.error_help(
                "type-mismatch",
                format!("{what} is an integer, but this is a real number"),
                span,
                "`int(…)` converts it",
            ),
            other => {
                let title = format!(
                    "{what} must be an integer known at compile time, but this is {}",
                    other.kind_text()
                );
                self.error("not-static", title, span)
            }
        }
    }

    /// A value as a known truth.
    ///
    /// # Errors
    /// Anything else.
    pub fn bool_of(&mut self, value: &Value, what: &str, span: Span) -> Eval<bool> {
        match value {
            Value::Bool(v) => Ok(*v),
            Value::Poison => Err(Reported),
            other => {
                if let Some(dims) = Self::free_dims_of(other) {
                    return self.undecided_condition(what, &dims, span);
                }
                let title = format!(
                    "{what} must be a truth value known at compile time, but this is {}",
                    other.kind_text()
                );
                self.error("not-static", title, span)
            }
        }
    }

    /// The free dimensions that a truth about sizes depends on.
    pub(super) fn free_dims_of(value: &Value) -> Option<Vec<Symbol>> {
        let Value::Tensor(t) = value else { return None };
        let condition = t.as_lazy().and_then(Self::dim_condition)?;
        let mut symbols = Vec::new();
        condition.symbols(&mut symbols);
        symbols.sort();
        symbols.dedup();
        Some(symbols)
    }

    /// The error for a condition that free dimensions leave open.
    pub(super) fn undecided_condition<T>(&mut self, what: &str, dims: &[Symbol], span: Span) -> Eval<T> {
        let title = format!("{what} must be known at compile time, but {}", Self::free_text(dims));
        let diagnostic = Diagnostic::error("not-static", title).at(span, "");
        let name = dims.first().map_or("", |s| s.name());
        let diagnostic = self.with_origins(diagnostic, dims).help(format!(
            "fix it with --dim {name}=…, or let `if` choose between values: `x = if c {{ a }} else {{ b }}`"
        ));
        Err(self.report(diagnostic))
    }

    /// The values that a loop runs over.
    ///
    /// # Errors
    /// Bounds that are not known, and what is no list.
    pub fn turns(&mut self, env: &mut Env, range: &ast::Range) -> Eval<Vec<Value>> {
        let turns = match &range.end {
            Some(end) => {
                let a = self.known_int(env, &range.start, "the bound of a loop")?;
                let b = self.known_int(env, end, "the bound of a loop")?;
                if b.saturating_sub(a) > MAX_TURNS as i64 {
                    return self.limit(format!("this loop takes {} turns", b.saturating_sub(a)), range.span);
                }
                (a..b).map(Value::int).collect()
            }
            None => match self.eval(env, &range.start)? {
                Value::List(items) => items.to_vec(),
                Value::Tuple(tuple) => tuple.values.clone(),
                Value::Poison => return Err(Reported),
                other => {
                    let title =
                        format!("a loop runs over a range or a list, but this is {}", other.kind_text());
                    let help = match other {
                        Value::Tensor(_) => {
                            "what is done for each element stands in index notation: `let y[i] = …`"
                        }
                        _ => "a range is written `0..n`",
                    };
                    return self.error_help("type-mismatch", title, range.span, help);
                }
            },
        };
        self.turn_count += turns.len();
        if self.turn_count > MAX_TURNS {
            return self.limit(
                format!("loops take more than {MAX_TURNS} turns in all; the last is this one"),
                range.span,
            );
        }
        Ok(turns)
    }

    /// Binds the names of a pattern in the innermost block.
    ///
    /// # Errors
    /// Tuples of another length.
    pub fn bind_pattern(&mut self, env: &mut Env, pat: &ast::Pat, value: Value) -> Eval<()> {
        match &pat.kind {
            ast::PatKind::Name(name) => {
                let text = self.name_text(env, name)?;
                if let Value::Tensor(t) = &value {
                    self.name_value(t, &text);
                }
                env.bind(text, value, name.span);
                Ok(())
            }
            ast::PatKind::Tuple(names) => {
                let values = self.parts(&value, names.len(), pat.span);
                for (k, name) in names.iter().enumerate() {
                    let part = values.as_ref().map_or(Value::Poison, |v| v[k].clone());
                    let text = self.name_text(env, name)?;
                    if let Value::Tensor(t) = &part {
                        self.name_value(t, &text);
                    }
                    env.bind(text, part, name.span);
                }
                values.map(|_| ())
            }
        }
    }

    /// The parts of a tuple or list of a given length.
    ///
    /// # Errors
    /// Another length or kind.
    pub fn parts(&mut self, value: &Value, count: usize, span: Span) -> Eval<Vec<Value>> {
        let values = match value {
            Value::Tuple(tuple) => tuple.values.clone(),
            Value::List(items) => items.to_vec(),
            Value::Poison => return Err(Reported),
            other => {
                let title = format!("{count} names take a tuple apart, but this is {}", other.kind_text());
                return self.error("type-mismatch", title, span);
            }
        };
        if values.len() == count {
            return Ok(values);
        }
        let title = format!("{count} names for {}", counted(values.len(), "value", "values"));
        self.error("type-mismatch", title, span)
    }
}
