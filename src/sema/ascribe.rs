//! Values in declared types: results, `let` annotations and arguments.
//!
//! Takes a value and what it is declared to be; gives it in that type. Shapes are matched (see
//! [`super::shapes`]) and bind new names, scalars fill shapes, exact numbers take the element type,
//! static kinds are checked. Nothing is converted silently.

use super::Elaborator;
use super::coerce::fits;
use super::env::{Env, Unknowns};
use super::errors::{Eval, Reported};
use super::shapes::Match;
use super::value::{TensorValue, TupleValue, Value};
use crate::diag::{Diagnostic, counted};
use crate::dim::{Dim, Symbol};
use crate::span::Span;
use crate::syntax::ast;
use std::sync::Arc;

impl Elaborator<'_> {
    /// A value in a declared type: shapes are matched and new names bound, scalars fill, exact
    /// numbers take the type, static kinds are checked.
    ///
    /// # Errors
    /// Values that do not have the type.
    pub fn ascribe(&mut self, env: &mut Env, ty: &ast::Type, value: Value, span: Span) -> Eval<Value> {
        match &ty.kind {
            ast::TypeKind::Kind(kind) => self.of_kind(value, *kind, "the value", span, Some(ty.span)),
            ast::TypeKind::Tensor(tensor) => {
                let mut values = self.ascribe_all(env, vec![(tensor, value, span, "the value".into())])?;
                values.pop().ok_or(Reported)
            }
        }
    }

    /// Several values in their declared types, matched together.
    ///
    /// # Errors
    /// As [`Elaborator::ascribe`].
    pub fn ascribe_all(
        &mut self,
        env: &mut Env,
        items: Vec<(&ast::TensorType, Value, Span, String)>,
    ) -> Eval<Vec<Value>> {
        let mut tensors = Vec::new();
        for (_, value, span, _) in &items {
            tensors.push(self.as_tensor(value, *span)?);
        }
        let matches: Vec<Match<'_>> = items
            .iter()
            .zip(&tensors)
            .map(|((ty, _, span, what), t)| Match {
                ty,
                actual: (t.rank() > 0 || ty.axes.is_empty()).then(|| t.shape.to_vec()),
                dtype: t.dtype,
                span: *span,
                what: what.clone(),
            })
            .collect();
        let outer = env.unknowns.replace(Unknowns::new());
        let block = env.blocks.len() - 1;
        let matched = self.match_shapes(env, &matches, block);
        env.unknowns = outer;
        let matched = matched?;
        let mut values = Vec::new();
        for (k, (ty, _, span, what)) in items.iter().enumerate() {
            let shape = matched.shapes[k].as_ref().map(|(s, _)| s.as_slice()).map_err(Vec::as_slice);
            let tensor = self.conform(env, &tensors[k], ty, shape, *span, what)?;
            values.push(Value::Tensor(tensor));
        }
        Ok(values)
    }

    /// A tensor in a declared type whose shape has been matched: exact numbers are stored in its
    /// type, scalars fill its shape, and its axes run as declared.
    pub(super) fn conform(
        &mut self,
        env: &mut Env,
        tensor: &TensorValue,
        ty: &ast::TensorType,
        shape: Result<&[Dim], &[Symbol]>,
        span: Span,
        what: &str,
    ) -> Eval<TensorValue> {
        if tensor.dtype != ty.dtype && !(tensor.exact && fits(tensor.dtype, ty.dtype)) {
            let title =
                format!("{what} has elements of type {}, but this is {}", ty.dtype, tensor.kind_text());
            let diagnostic = Diagnostic::error("type-mismatch", title)
                .at(span, "")
                .at(ty.span, "declared here")
                .help(format!("convert it: `{}(…)`", ty.dtype));
            return Err(self.report(diagnostic));
        }
        let mut typed = self.coerce(tensor, ty.dtype, span)?;
        if typed.rank() > 0 || ty.axes.is_empty() {
            typed.segments = self.declared_segments(env, ty, &typed);
            return Ok(typed);
        }
        match shape {
            Ok(shape) => self.fill(&typed, shape, span),
            Err(_) if ty.axes.iter().all(|a| matches!(a.kind, ast::AxisKind::Multi(_))) => Ok(typed),
            Err(open) => {
                let names: Vec<String> = open.iter().map(|s| format!("`{s}`")).collect();
                let unknown = if names.is_empty() { "the shape".to_string() } else { names.join(", ") };
                let title = format!("{what} is a scalar that fills a shape, but nothing decides {unknown}");
                let diagnostic = Diagnostic::error("shape-unsolved", title)
                    .at(span, "")
                    .at(ty.span, "declared here")
                    .help("name sizes that an input has, or statics");
                Err(self.report(diagnostic))
            }
        }
    }

    /// A value as one of a static kind.
    ///
    /// # Errors
    /// Values of other kinds.
    pub fn of_kind(
        &mut self,
        value: Value,
        kind: ast::Kind,
        what: &str,
        span: Span,
        declared: Option<Span>,
    ) -> Eval<Value> {
        use ast::Kind as K;
        let fits = match (kind, &value) {
            (_, Value::Poison) => return Err(Reported),
            (K::Int, Value::Int(_)) | (K::Float, Value::Float(_)) | (K::Bool, Value::Bool(_)) => true,
            (K::Float, Value::Int(d)) => match d.as_const() {
                Some(v) => return Ok(Value::Float(v as f64)),
                None => true,
            },
            (K::Int | K::Float | K::Bool, Value::Tensor(t)) => t.exact || kind == K::Float && t.rank() == 0,
            (K::Str, Value::Str(_)) | (K::List, Value::List(_) | Value::Tuple(_)) => true,
            (K::Fn, Value::List(_)) => true,
            (K::Fn, v) => v.is_callable(),
            (K::Module, Value::Module(_) | Value::Instance(_)) => true,
            (K::Pattern, Value::Pattern(_) | Value::Tensor(_) | Value::Bool(_)) => {
                return self.as_pattern(&value, span).map(Value::Pattern);
            }
            _ => false,
        };
        if fits {
            return Ok(value);
        }
        let title = format!("{what} is of kind {}, but this is {}", kind.name(), value.kind_text());
        let mut diagnostic = Diagnostic::error("type-mismatch", title).at(span, "");
        if let Some(place) = declared {
            diagnostic = diagnostic.at(place, "declared here");
        }
        match (kind, &value) {
            (K::Int, Value::Float(_)) => {
                diagnostic = diagnostic.help("`//` divides integers; `int(…)` converts a real number");
            }
            (K::Fn, Value::Str(name)) => {
                diagnostic = diagnostic.help(format!("a function is named without quotes: `{name}`"));
            }
            _ => {}
        }
        Err(self.report(diagnostic))
    }

    /// The result of a call in its declared type; outputs keep their names.
    ///
    /// # Errors
    /// Results that do not have it.
    pub fn ascribe_result(
        &mut self,
        env: &mut Env,
        ret: Option<&ast::Ret>,
        value: Value,
        span: Span,
    ) -> Eval<Value> {
        let Some(ret) = ret else { return Ok(value) };
        let single = ret.outs.len() == 1;
        let values = match &value {
            Value::Tuple(tuple) if !single || tuple.values.len() == 1 => self.ordered(tuple, ret, span)?,
            _ if single => vec![value.clone()],
            other => {
                let title = format!(
                    "{} are declared, but this is {}",
                    counted(ret.outs.len(), "result", "results"),
                    other.kind_text()
                );
                return Err(self.report(
                    Diagnostic::error("type-mismatch", title).at(span, "").at(ret.span, "declared here"),
                ));
            }
        };
        let mut results: Vec<Option<Value>> = vec![None; ret.outs.len()];
        let (mut items, mut places) = (Vec::new(), Vec::new());
        for (k, (out, value)) in ret.outs.iter().zip(values).enumerate() {
            let name = out.name.as_ref().and_then(ast::Name::as_plain);
            let what = name.map_or_else(|| "the result".to_string(), |n| format!("the result `{n}`"));
            match &out.ty.kind {
                ast::TypeKind::Kind(kind) => {
                    results[k] = Some(self.of_kind(value, *kind, &what, span, Some(out.ty.span))?);
                }
                ast::TypeKind::Tensor(ty) => {
                    if self.is_static_call(&value, ty) {
                        results[k] = Some(value);
                    } else {
                        places.push(k);
                        items.push((ty, value, span, what));
                    }
                }
            }
        }
        for (k, value) in places.into_iter().zip(self.ascribe_all(env, items)?) {
            results[k] = Some(value);
        }
        let mut results: Vec<Value> = results.into_iter().flatten().collect();
        if single {
            return results.pop().ok_or(Reported);
        }
        let names =
            ret.outs.iter().map(|o| o.name.as_ref().and_then(ast::Name::as_plain).map(Into::into)).collect();
        Ok(Value::Tuple(Arc::new(TupleValue { values: results, names, literal: false })))
    }

    /// Whether a known number stands where `[..]` is declared: it stays static.
    pub(super) fn is_static_call(&self, value: &Value, ty: &ast::TensorType) -> bool {
        let any_shape =
            !ty.axes.is_empty() && ty.axes.iter().all(|a| matches!(a.kind, ast::AxisKind::Multi(_)));
        any_shape && matches!(value, Value::Int(_) | Value::Float(_) | Value::Bool(_))
    }

    fn ordered(&mut self, tuple: &TupleValue, ret: &ast::Ret, span: Span) -> Eval<Vec<Value>> {
        if tuple.values.len() != ret.outs.len() {
            let title = format!(
                "{} are declared, but these are {}",
                counted(ret.outs.len(), "result", "results"),
                tuple.values.len()
            );
            return Err(self.report(
                Diagnostic::error("type-mismatch", title).at(span, "").at(ret.span, "declared here"),
            ));
        }
        let wanted: Vec<Option<&str>> =
            ret.outs.iter().map(|o| o.name.as_ref().and_then(ast::Name::as_plain)).collect();
        if !tuple.literal
            || tuple.names.iter().any(Option::is_none)
            || tuple.names.is_empty()
            || wanted.iter().any(Option::is_none)
        {
            return Ok(tuple.values.clone());
        }
        let mut values = Vec::new();
        for name in wanted {
            match tuple.names.iter().position(|n| n.as_deref() == name) {
                Some(k) => values.push(tuple.values[k].clone()),
                None => {
                    let title = format!("the result has no part `{}`", name.unwrap_or("?"));
                    let diagnostic =
                        Diagnostic::error("type-mismatch", title).at(span, "").at(ret.span, "declared here");
                    return Err(self.report(diagnostic));
                }
            }
        }
        Ok(values)
    }
}
