//! Reducers and normalisers.
//!
//! What the language offers is written here with the reducers of the graph: a mean is a sum and
//! a count, `logsumexp` and `softmax` are maximum, exponential and sum. Recognition puts them
//! together again.

use super::super::Elaborator;
use super::super::build::{Emission, Reduction};
use super::super::env::Env;
use super::super::errors::Eval;
use super::super::limits::MAX_TURNS;
use super::super::scalar::{IndexVar, Scalar, ScalarKind};
use super::super::value::{TensorValue, Value};
use super::{Bound, multi_name};
use crate::dtype::DType;
use crate::ops::reduce::Reducer;
use crate::ops::scalar::{BinaryOp, UnaryOp};
use crate::span::Span;
use crate::syntax::ast::{self, BindKind};

/// A reduction whose parts are evaluated.
struct Parts {
    axes: Vec<IndexVar>,
    filter: Option<Scalar>,
    term: TensorValue,
    span: Span,
}

impl Elaborator<'_> {
    /// A reducer or normaliser, in index notation or over static lists.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn reduction(&mut self, env: &mut Env, reduce: &ast::Reduce, span: Span) -> Eval<Value> {
        use ast::Reducer as R;
        if matches!(reduce.reducer, R::Softmax | R::LogSoftmax) {
            return self.normaliser(env, reduce, span);
        }
        let mut bound = self.bound(env, &reduce.binds)?;
        let exprs: Vec<&ast::Expr> = reduce.filter.iter().chain([&reduce.term]).collect();
        let is_static = self.infer(env, &mut bound, &exprs)?;
        if is_static && let Some(value) = self.static_reduction(env, reduce, &bound)? {
            return Ok(value);
        }
        env.push();
        let parts = self.reduction_parts(env, reduce, &bound, span);
        env.pop();
        let parts = parts?;
        let otherwise = match &reduce.otherwise {
            Some(expr) => {
                let value = self.eval(env, expr)?;
                Some((self.as_tensor(&value, expr.span)?, expr.span))
            }
            None => None,
        };
        match reduce.reducer {
            R::Sum => self.plain(Reducer::Sum, parts, otherwise),
            R::Prod => self.plain(Reducer::Prod, parts, otherwise),
            R::Max => self.plain(Reducer::Max, parts, otherwise),
            R::Min => self.plain(Reducer::Min, parts, otherwise),
            R::Any => self.plain(Reducer::Any, parts, otherwise),
            R::All => self.plain(Reducer::All, parts, otherwise),
            R::ArgMax => self.plain(Reducer::ArgMax, parts, otherwise),
            R::ArgMin => self.plain(Reducer::ArgMin, parts, otherwise),
            R::Mean => self.mean(parts, otherwise),
            R::LogSumExp | R::Softmax | R::LogSoftmax => self.log_sum_exp(parts, otherwise),
        }
        .map(Value::Tensor)
    }

    fn reduction_parts(
        &mut self,
        env: &mut Env,
        reduce: &ast::Reduce,
        bound: &Bound,
        span: Span,
    ) -> Eval<Parts> {
        let opened = self.open(env, bound)?;
        let filter = self.filter_of(env, reduce.filter.as_ref())?;
        let term = self.under(filter.as_ref(), |s| {
            let value = s.eval(env, &reduce.term)?;
            s.as_tensor(&value, reduce.term.span)
        })?;
        Ok(Parts { axes: opened.axes, filter, term, span })
    }

    fn filter_of(&mut self, env: &mut Env, filter: Option<&ast::Expr>) -> Eval<Option<Scalar>> {
        let Some(expr) = filter else { return Ok(None) };
        let value = self.eval(env, expr)?;
        let truth = match &value {
            Value::Pattern(_) => {
                return self.error_help(
                    "type-mismatch",
                    "`where` takes a truth value, but this is a pattern",
                    expr.span,
                    "read it at its indices: `mask[b, h, i, j]`",
                );
            }
            value => self.truth(value, expr.span)?,
        };
        if truth.rank() != 0 {
            return self.error("rank", "`where` takes one truth value", expr.span);
        }
        let scalar = self.element(&truth, &[], expr.span);
        Ok((scalar.as_bool() != Some(true)).then_some(scalar))
    }

    /// Runs `work` under a filter, if there is one.
    fn under<T>(&mut self, filter: Option<&Scalar>, work: impl FnOnce(&mut Self) -> T) -> T {
        match filter {
            Some(filter) => self.guarded(filter.clone(), work),
            None => work(self),
        }
    }

    /// One node: the reduction of a term, which may keep axes of its own.
    fn reduced(&mut self, reducer: Reducer, parts: &Parts, otherwise: Option<Scalar>) -> Eval<TensorValue> {
        let kept = self.axes_of(&parts.term.shape);
        let position: Vec<Scalar> = kept.iter().map(Scalar::index).collect();
        let body = self.element(&parts.term, &position, parts.span);
        let reduce =
            Some(Reduction { reducer, axes: parts.axes.clone(), filter: parts.filter.clone(), otherwise });
        let mut result =
            self.emit(Emission { axes: &kept, shape: None, reduce, body, span: parts.span, name: None })?;
        result.exact = parts.term.exact && !matches!(reducer, Reducer::ArgMax | Reducer::ArgMin);
        Ok(result)
    }

    fn plain(
        &mut self,
        reducer: Reducer,
        parts: Parts,
        otherwise: Option<(TensorValue, Span)>,
    ) -> Eval<TensorValue> {
        let logical = matches!(reducer, Reducer::Any | Reducer::All);
        if logical != (parts.term.dtype == DType::Bool) {
            let (wanted, found) =
                if logical { ("truth values", "a number") } else { ("numbers", "a truth value") };
            let title = format!("`{}` is over {wanted}, but this is {found}", reducer.name());
            return self.error("type-mismatch", title, parts.span);
        }
        let otherwise = match otherwise {
            Some((value, span)) => {
                let dtype = reducer.result(parts.term.dtype);
                Some(self.scalar_as(&value, dtype, span)?)
            }
            None => None,
        };
        self.reduced(reducer, &parts, otherwise)
    }

    fn scalar_as(&mut self, value: &TensorValue, dtype: DType, span: Span) -> Eval<Scalar> {
        if value.rank() != 0 {
            return self.error("rank", "the value over nothing is a scalar", span);
        }
        let value = self.coerce(value, dtype, span)?;
        Ok(self.element(&value, &[], span))
    }

    /// A term of a real type: exact numbers become reals.
    fn real_term(&mut self, parts: Parts, what: &str) -> Eval<Parts> {
        let term = &parts.term;
        if term.exact && term.dtype == DType::I64 {
            let term = self.convert(term, DType::F64, parts.span)?;
            return Ok(Parts { term: TensorValue { exact: true, ..term }, ..parts });
        }
        if !term.dtype.is_float() {
            let title = format!("`{what}` is over reals, but this is {}", term.dtype);
            return self.error_help("type-mismatch", title, parts.span, "convert it: `f32(…)`");
        }
        Ok(parts)
    }

    fn mean(&mut self, parts: Parts, otherwise: Option<(TensorValue, Span)>) -> Eval<TensorValue> {
        let parts = self.real_term(parts, "mean")?;
        let (dtype, exact, span) = (parts.term.dtype, parts.term.exact, parts.span);
        let total = self.reduced(Reducer::Sum, &parts, None)?;
        let count = if parts.filter.is_some() {
            let one = TensorValue::lazy(Scalar::real(1.0, dtype), false);
            let counted = Parts { axes: parts.axes.clone(), filter: parts.filter.clone(), term: one, span };
            self.reduced(Reducer::Sum, &counted, None)?
        } else {
            let points = crate::dim::Dim::product(parts.axes.iter().map(IndexVar::extent));
            let points = self.sized(points, span)?;
            TensorValue::lazy(Scalar::dim(&points).cast(dtype), false)
        };
        let otherwise = match otherwise {
            Some((value, span)) => Some(self.scalar_as(&value, dtype, span)?),
            None => None,
        };
        let quotient = self.elementwise(&[total, count], span, &mut |s| {
            let quotient = Scalar::binary(BinaryOp::Div, s[0].clone(), s[1].clone());
            match &otherwise {
                Some(value) => {
                    let empty = Scalar::binary(BinaryOp::Eq, s[1].clone(), Scalar::real(0.0, dtype));
                    Scalar::select(empty, value.clone(), quotient)
                }
                None => quotient,
            }
        })?;
        let mut result = self.as_tensor(&quotient, span)?;
        result.exact = exact;
        Ok(result)
    }

    fn log_sum_exp(&mut self, parts: Parts, otherwise: Option<(TensorValue, Span)>) -> Eval<TensorValue> {
        let parts = self.real_term(parts, "logsumexp")?;
        let span = parts.span;
        if parts.term.rank() != 0 {
            return self.error("rank", "the term of `logsumexp` is a scalar", span);
        }
        let dtype = parts.term.dtype;
        let x = self.shared(&parts.term, parts.filter.as_ref(), span)?;
        let term = |scalar: Scalar| TensorValue::lazy(scalar, false);
        let scored =
            Parts { term: term(x.clone()), axes: parts.axes.clone(), filter: parts.filter.clone(), span };
        let greatest = self.reduced(Reducer::Max, &scored, None)?;
        let greatest = self.element(&greatest, &[], span);
        // Infinite maxima are not subtracted: inf - inf would hide them.
        let infinite = Scalar::binary(
            BinaryOp::Eq,
            Scalar::unary(UnaryOp::Abs, greatest.clone()),
            Scalar::real(f64::INFINITY, dtype),
        );
        let shift = Scalar::select(infinite, Scalar::real(0.0, dtype), greatest);
        let raised = Scalar::unary(UnaryOp::Exp, Scalar::binary(BinaryOp::Sub, x, shift.clone()));
        let raised =
            Parts { term: term(raised), axes: parts.axes.clone(), filter: parts.filter.clone(), span };
        let total = self.reduced(Reducer::Sum, &raised, None)?;
        let total = self.element(&total, &[], span);
        let mut result = Scalar::binary(BinaryOp::Add, shift, Scalar::unary(UnaryOp::Log, total));
        if let Some((value, place)) = otherwise {
            let value = self.scalar_as(&value, dtype, place)?;
            let truth = term(Scalar::bool(true));
            let some = Parts { term: truth, axes: parts.axes, filter: parts.filter, span };
            let some = self.reduced(Reducer::Any, &some, None)?;
            result = Scalar::select(self.element(&some, &[], span), result, value);
        }
        Ok(TensorValue::lazy(result, parts.term.exact))
    }

    /// A scalar that several nodes read: a node of its own unless it is a plain read.
    fn shared(&mut self, term: &TensorValue, filter: Option<&Scalar>, span: Span) -> Eval<Scalar> {
        if let Some(scalar) = term.as_lazy()
            && !matches!(scalar.kind(), ScalarKind::Read(_))
        {
            let body = scalar.clone();
            let emitted = self.under(filter, |s| {
                s.emit(Emission { axes: &[], shape: None, reduce: None, body, span, name: None })
            })?;
            return Ok(self.element(&emitted, &[], span));
        }
        Ok(self.element(term, &[], span))
    }

    /// `softmax[j where c] x`: names indices in scope and divides by the sum over them.
    fn normaliser(&mut self, env: &mut Env, reduce: &ast::Reduce, span: Span) -> Eval<Value> {
        let vars = self.named_indices(env, &reduce.binds)?;
        let filter = self.filter_of(env, reduce.filter.as_ref())?;
        let term = self.under(filter.as_ref(), |s| {
            let value = s.eval(env, &reduce.term)?;
            s.as_tensor(&value, reduce.term.span)
        })?;
        if term.rank() != 0 {
            return self.error("rank", "the term of a normaliser is a scalar", reduce.term.span);
        }
        let term = if term.exact { self.coerce(&term, DType::F32, reduce.term.span)? } else { term };
        if !term.dtype.is_float() {
            let title = format!("`{}` is over reals, but this is {}", reduce.reducer.name(), term.dtype);
            return self.error("type-mismatch", title, reduce.term.span);
        }
        let log = reduce.reducer == ast::Reducer::LogSoftmax;
        self.normalised(&vars, filter, &term, log, span)
    }

    fn normalised(
        &mut self,
        vars: &[IndexVar],
        filter: Option<Scalar>,
        term: &TensorValue,
        log: bool,
        span: Span,
    ) -> Eval<Value> {
        let dtype = term.dtype;
        let fresh: Vec<IndexVar> =
            vars.iter().map(|v| self.fresh_index(v.name(), v.extent().clone())).collect();
        let over = |scalar: &Scalar| {
            let replaced = |v: &IndexVar| vars.iter().position(|w| w == v).map(|k| Scalar::index(&fresh[k]));
            scalar.substitute(&replaced)
        };
        let lazy = |scalar: Scalar| TensorValue::lazy(scalar, false);
        let score = self.shared(term, filter.as_ref(), span)?;
        let scores =
            Parts { axes: fresh.clone(), filter: filter.as_ref().map(&over), term: lazy(over(&score)), span };
        let greatest = self.reduced(Reducer::Max, &scores, None)?;
        let greatest = self.element(&greatest, &[], span);
        let shifted = Scalar::binary(BinaryOp::Sub, score, greatest);
        let masked = |value: Scalar, outside: f64| match &filter {
            Some(filter) => Scalar::select(filter.clone(), value, Scalar::real(outside, dtype)),
            None => value,
        };
        let raised = masked(Scalar::unary(UnaryOp::Exp, shifted.clone()), 0.0);
        let raised =
            self.emit(Emission { axes: &[], shape: None, reduce: None, body: raised, span, name: None })?;
        let raised = self.element(&raised, &[], span);
        let sum = Parts { axes: fresh.clone(), filter: None, term: lazy(over(&raised)), span };
        let total = self.reduced(Reducer::Sum, &sum, None)?;
        let total = self.element(&total, &[], span);
        let result = if log {
            let shift = Scalar::unary(UnaryOp::Log, total);
            masked(Scalar::binary(BinaryOp::Sub, shifted, shift), f64::NEG_INFINITY)
        } else {
            masked(Scalar::binary(BinaryOp::Div, raised, total), 0.0)
        };
        Ok(Value::Tensor(lazy(result)))
    }

    /// The indices in scope that a normaliser names.
    fn named_indices(&mut self, env: &mut Env, binds: &[ast::Bind]) -> Eval<Vec<IndexVar>> {
        let mut vars = Vec::new();
        for bind in binds {
            let text = match &bind.kind {
                BindKind::Index { name, extent: None } => self.name_text(env, name)?,
                BindKind::Multi(name) => multi_name(name.as_ref()),
                BindKind::Group(parts) => {
                    vars.extend(self.named_indices(env, parts)?);
                    continue;
                }
                BindKind::Index { .. } => {
                    return self.error_help(
                        "syntax",
                        "a normaliser binds nothing, so its index takes no range",
                        bind.span,
                        "give the range on the left of the definition",
                    );
                }
            };
            let value = env.local(&text).map(|b| b.value.clone());
            match value {
                Some(Value::Indices(run)) => vars.extend(run.iter().cloned()),
                Some(Value::Tensor(t)) => match t.as_lazy().map(Scalar::kind) {
                    Some(ScalarKind::Index(var)) => vars.push(var.clone()),
                    _ => return self.not_an_index(&text, bind.span),
                },
                _ => return self.not_an_index(&text, bind.span),
            }
        }
        Ok(vars)
    }

    fn not_an_index<T>(&mut self, name: &str, span: Span) -> Eval<T> {
        self.error_help(
            "unknown-index",
            format!("`{name}` is no index in scope"),
            span,
            "a normaliser names an index of the definition it stands in",
        )
    }

    /// The value over static lists, if all that it takes is static.
    fn static_reduction(
        &mut self,
        env: &mut Env,
        reduce: &ast::Reduce,
        bound: &Bound,
    ) -> Eval<Option<Value>> {
        if !bound.multis.is_empty() {
            return Ok(None);
        }
        let sizes: Option<Vec<i64>> = bound
            .singles
            .iter()
            .map(|s| s.extent.as_ref().and_then(|d| self.resolved(d).as_const()))
            .collect();
        let Some(sizes) = sizes else { return Ok(None) };
        let total = sizes.iter().try_fold(1i64, |acc, n| acc.checked_mul(*n)).unwrap_or(i64::MAX);
        if total > MAX_TURNS as i64 {
            return Ok(None);
        }
        let mut terms = Vec::new();
        for flat in 0..total {
            env.push();
            let mut rest = flat;
            for (single, size) in bound.singles.iter().zip(&sizes).rev() {
                env.bind(std::sync::Arc::clone(&single.name), Value::int(rest % size), single.span);
                rest /= size;
            }
            let taken = match &reduce.filter {
                Some(filter) => self.eval(env, filter),
                None => Ok(Value::Bool(true)),
            };
            let term = match &taken {
                Ok(Value::Bool(true)) => Some(self.eval(env, &reduce.term)),
                _ => None,
            };
            env.pop();
            match (taken?, term.transpose()?) {
                (Value::Bool(false), _) => {}
                (Value::Bool(true), Some(term @ (Value::Int(_) | Value::Float(_) | Value::Bool(_)))) => {
                    terms.push((flat, term));
                }
                _ => return Ok(None),
            }
        }
        self.fold_static(env, reduce, terms)
    }

    fn fold_static(
        &mut self,
        env: &mut Env,
        reduce: &ast::Reduce,
        terms: Vec<(i64, Value)>,
    ) -> Eval<Option<Value>> {
        use ast::Reducer as R;
        let span = reduce.term.span;
        if terms.is_empty() {
            if let Some(expr) = &reduce.otherwise {
                return self.eval(env, expr).map(Some);
            }
            return Ok(Some(match reduce.reducer {
                R::Sum => Value::int(0),
                R::Prod => Value::int(1),
                R::Any => Value::Bool(false),
                R::All => Value::Bool(true),
                R::ArgMax | R::ArgMin => Value::int(0),
                R::Max | R::LogSumExp => Value::Float(f64::NEG_INFINITY),
                R::Min => Value::Float(f64::INFINITY),
                R::Mean | R::Softmax | R::LogSoftmax => Value::Float(f64::NAN),
            }));
        }
        let op = match reduce.reducer {
            R::Sum | R::Mean => ast::BinaryOp::Add,
            R::Prod => ast::BinaryOp::Mul,
            R::Any => ast::BinaryOp::Or,
            R::All => ast::BinaryOp::And,
            R::Max | R::ArgMax => ast::BinaryOp::Gt,
            R::Min | R::ArgMin => ast::BinaryOp::Lt,
            R::LogSumExp | R::Softmax | R::LogSoftmax => return Ok(None),
        };
        let count = terms.len() as i64;
        let mut terms = terms.into_iter();
        let Some((mut at, mut best)) = terms.next() else { return Ok(None) };
        for (flat, term) in terms {
            let compares = matches!(op, ast::BinaryOp::Gt | ast::BinaryOp::Lt);
            let (a, b) = if compares { (&term, &best) } else { (&best, &term) };
            match (compares, self.binary(op, a, b, span)?) {
                (true, Value::Bool(true)) => (at, best) = (flat, term),
                (true, Value::Bool(false)) => {}
                (true, _) => return Ok(None),
                (false, value) => best = value,
            }
        }
        Ok(Some(match reduce.reducer {
            R::ArgMax | R::ArgMin => Value::int(at),
            R::Mean => self.binary(ast::BinaryOp::Div, &best, &Value::int(count), span)?,
            _ => best,
        }))
    }
}
