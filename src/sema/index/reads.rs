//! Reads: elements of tensors, lists, patterns and sequences, and slices that keep axes.

use super::super::Elaborator;
use super::super::build::Emission;
use super::super::call::result_span;
use super::super::env::Env;
use super::super::errors::{Eval, Reported};
use super::super::scalar::{IndexVar, Scalar, ScalarKind};
use super::super::value::{InstanceRef, PatternValue, Pick, Prior, TensorValue, Value};
use super::multi_name;
use crate::diag::{Diagnostic, counted};
use crate::dim::Dim;
use crate::dtype::DType;
use crate::graph::ir::DimCondition;
use crate::ops::scalar::{BinaryOp, UnaryOp};
use crate::span::Span;
use crate::syntax::ast::{self, GroupPartKind, IxKind};
use std::sync::Arc;

/// What stands at one axis.
enum At {
    /// An i64 position.
    Point(Scalar),
    /// `offset..offset + length` is kept.
    Keep(Dim, Dim),
}

impl Elaborator<'_> {
    /// `base[index else otherwise]` of anything but a static list read at static positions.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn read(
        &mut self,
        env: &mut Env,
        base: Value,
        index: &[ast::Ix],
        otherwise: Option<&ast::Expr>,
        span: Span,
    ) -> Eval<Value> {
        match &base {
            Value::Tensor(t) => {
                let t = t.clone();
                self.read_tensor(env, &t, index, otherwise, span)
            }
            Value::List(items) if matches!(items.first(), Some(Value::Instance(_))) => {
                let items = Arc::clone(items);
                self.pick(env, &items, index, span)
            }
            Value::List(_) => {
                let t = self.constant_list(&base, span)?;
                self.read_tensor(env, &t, index, otherwise, span)
            }
            Value::Pattern(_) => {
                let pattern = self.as_pattern(&base, span)?;
                let positions = self.positions_of(env, index)?;
                self.pattern_at(&pattern, &positions, span).map(|s| Value::Tensor(TensorValue::lazy(s, true)))
            }
            Value::Sequence(sequence) => {
                let sequence = *sequence;
                self.read_sequence(env, sequence, index, otherwise, span)
            }
            Value::Poison => Err(Reported),
            other => {
                let title =
                    format!("only tensors, lists and patterns are read, but this is {}", other.kind_text());
                self.error("not-a-tensor", title, span)
            }
        }
    }

    fn read_tensor(
        &mut self,
        env: &mut Env,
        t: &TensorValue,
        index: &[ast::Ix],
        otherwise: Option<&ast::Expr>,
        span: Span,
    ) -> Eval<Value> {
        if t.as_lazy().is_some() && !index.is_empty() {
            let title = "this is an index or scalar, which has no axes to read";
            return self.error_help(
                "rank",
                title,
                span,
                "an index hides what has its name within the definition; rename one of them",
            );
        }
        if let Some(prior) = t.prior.clone()
            && matches!(index.get(prior.axis).map(|ix| &ix.kind), Some(IxKind::Index(_)))
        {
            // The position may be one before the first.
            let Prior { extended, axis, offset } = &*prior;
            return self.read_shifted(env, extended, *axis, offset, index, otherwise, span);
        }
        let at = self.axes_at(env, index, &t.shape, t.type_text(), otherwise.is_none(), span)?;
        let otherwise = self.otherwise_of(env, otherwise, t, span)?;
        self.read_at(t, at, otherwise, span)
    }

    /// A read whose position along one axis is moved by `offset`.
    pub(in super::super) fn read_shifted(
        &mut self,
        env: &mut Env,
        t: &TensorValue,
        axis: usize,
        offset: &Dim,
        index: &[ast::Ix],
        otherwise: Option<&ast::Expr>,
        span: Span,
    ) -> Eval<Value> {
        let mut at = self.axes_at(env, index, &t.shape, t.type_text(), false, span)?;
        if let Some(At::Point(position)) = at.get_mut(axis) {
            let moved = shifted(position, offset);
            if otherwise.is_none() && self.is_outside(&moved, &t.shape[axis]) {
                let place = index.get(axis).map_or(span, |ix| ix.span);
                let title = "this position lies outside the sequence and its first values";
                return self.error("out-of-range", title, place);
            }
            *position = moved;
        }
        let otherwise = self.otherwise_of(env, otherwise, t, span)?;
        self.read_at(t, at, otherwise, span)
    }

    pub(in super::super) fn otherwise_of(
        &mut self,
        env: &mut Env,
        otherwise: Option<&ast::Expr>,
        t: &TensorValue,
        span: Span,
    ) -> Eval<Option<Scalar>> {
        let Some(expr) = otherwise else { return Ok(None) };
        let value = self.eval(env, expr)?;
        let value = self.as_tensor(&value, expr.span)?;
        if value.rank() != 0 {
            return self.error("rank", "the value outside is a scalar", expr.span);
        }
        let value = self.coerce(&value, t.dtype, expr.span)?;
        Ok(Some(self.element(&value, &[], span)))
    }

    /// The element or slice at the given axes.
    fn read_at(
        &mut self,
        t: &TensorValue,
        at: Vec<At>,
        otherwise: Option<Scalar>,
        span: Span,
    ) -> Eval<Value> {
        let mut axes: Vec<IndexVar> = Vec::new();
        let mut position = Vec::with_capacity(at.len());
        for entry in at {
            position.push(match entry {
                At::Point(scalar) => scalar,
                At::Keep(offset, length) => {
                    const NAMES: [&str; 8] = ["i", "j", "k", "l", "m", "n", "p", "q"];
                    let var = self.fresh_index(NAMES[axes.len() % 8], length);
                    axes.push(var.clone());
                    Scalar::index(&var).plus(Scalar::dim(&offset))
                }
            });
        }
        let body = self.element_or(t, &position, otherwise, span);
        if axes.is_empty() {
            return Ok(if t.exact {
                Value::exact(body)
            } else {
                Value::Tensor(TensorValue::lazy(body, false))
            });
        }
        let mut view =
            self.emit(Emission { axes: &axes, shape: None, reduce: None, body, span, name: None })?;
        view.exact = t.exact;
        Ok(Value::Tensor(view))
    }

    /// What a read says of each axis of a shape; axes left out are kept.
    fn axes_at(
        &mut self,
        env: &mut Env,
        index: &[ast::Ix],
        shape: &[Dim],
        what: String,
        strict: bool,
        span: Span,
    ) -> Eval<Vec<At>> {
        let given: usize = self.given(env, index);
        let open = index.iter().filter(|ix| self.run_of(env, ix).is_none()).count();
        if given > shape.len() || open > 1 {
            let title = if open > 1 {
                "a read has at most one `..` whose length is open".to_string()
            } else {
                return self.too_many_positions(given, &what, shape.len(), span);
            };
            return self.error("rank", title, span);
        }
        let rest = shape.len() - given;
        let mut at: Vec<At> = Vec::with_capacity(shape.len());
        for ix in index {
            let axis = at.len();
            match &ix.kind {
                IxKind::Multi(_) => match self.run_of(env, ix) {
                    Some(vars) => at.extend(vars.iter().map(|v| At::Point(Scalar::index(v)))),
                    None => {
                        at.extend(shape[axis..axis + rest].iter().map(|d| At::Keep(Dim::ZERO, d.clone())));
                    }
                },
                IxKind::Full => at.push(At::Keep(Dim::ZERO, shape[axis].clone())),
                IxKind::Range(from, to) => at.push(self.slice(env, from, to, &shape[axis], ix.span)?),
                IxKind::Group(parts) => {
                    let (scalar, _) = self.group_at(env, parts, Some(&shape[axis]), ix.span)?;
                    at.push(At::Point(scalar));
                }
                IxKind::Index(expr) => {
                    let scalar = self.position(env, expr)?;
                    if strict {
                        self.refuse_outside(&scalar, &shape[axis], ix.span)?;
                    }
                    at.push(At::Point(scalar));
                }
            }
        }
        at.extend(shape[at.len()..].iter().map(|d| At::Keep(Dim::ZERO, d.clone())));
        Ok(at)
    }

    /// The error for a read of more axes than there are.
    ///
    /// # Errors
    /// Always.
    pub(super) fn too_many_positions<T>(
        &mut self,
        given: usize,
        what: &str,
        rank: usize,
        span: Span,
    ) -> Eval<T> {
        let positions = counted(given, "position", "positions");
        let title = format!("{positions} for {what}, which has {}", counted(rank, "axis", "axes"));
        self.error("rank", title, span)
    }

    /// The variables of a `..` that index notation has bound; an empty run for anything else.
    fn run_of(&self, env: &Env, ix: &ast::Ix) -> Option<Vec<IndexVar>> {
        let IxKind::Multi(name) = &ix.kind else { return Some(Vec::new()) };
        match env.local(&multi_name(name.as_ref())).map(|b| &b.value) {
            Some(Value::Indices(vars)) => Some(vars.to_vec()),
            _ => None,
        }
    }

    fn given(&self, env: &Env, index: &[ast::Ix]) -> usize {
        let count = |ix: &ast::Ix| match &ix.kind {
            IxKind::Multi(_) => self.run_of(env, ix).map_or(0, |vars| vars.len()),
            _ => 1,
        };
        index.iter().map(count).sum()
    }

    /// A position along an axis.
    pub(in super::super) fn position(&mut self, env: &mut Env, expr: &ast::Expr) -> Eval<Scalar> {
        let help = "an index is bound on the left side of the definition, or by a reducer: `sum[i] x[i]`";
        let value = self.advising("unknown-name", help, |s| s.eval(env, expr))?;
        let t = self.as_tensor(&value, expr.span)?;
        if t.dtype != DType::I64 || t.rank() != 0 {
            let title = format!("a position is an integer, but this is {}", value.kind_text());
            let help = if t.rank() > 0 {
                "gather in index notation: `let y[n, d] = table[ids[n], d]`"
            } else {
                "convert it: `i64(…)`"
            };
            return self.error_help("type-mismatch", title, expr.span, help);
        }
        Ok(self.element(&t, &[], expr.span))
    }

    /// Refuses a position that no size of the dimensions makes right.
    fn refuse_outside(&mut self, scalar: &Scalar, size: &Dim, span: Span) -> Eval<()> {
        if !self.is_outside(scalar, size) {
            return Ok(());
        }
        let at = scalar.as_dim().map_or_else(|| "this".into(), |d| self.resolved(&d).to_string());
        let title = format!("position {at} lies outside an axis of size {}", self.resolved(size));
        self.error_help(
            "out-of-range",
            title,
            span,
            "positions count from 0 and never from the end; `else` gives a value outside",
        )
    }

    /// Whether a position is before the first or behind the last for all sizes.
    fn is_outside(&self, scalar: &Scalar, size: &Dim) -> bool {
        let Some(at) = scalar.as_dim() else { return false };
        let (at, size) = (self.resolved(&at), self.resolved(size));
        let negative = at.range().1.is_some_and(|high| high < 0);
        negative || at.sub(&size).is_ok_and(|d| d.is_non_negative())
    }

    fn slice(&mut self, env: &mut Env, from: &ast::Expr, to: &ast::Expr, size: &Dim, span: Span) -> Eval<At> {
        let (a, b) = (self.eval(env, from)?, self.eval(env, to)?);
        let (a, b) = (self.size_of(&a, from.span)?, self.size_of(&b, to.span)?);
        let (a, b, size) = (self.resolved(&a), self.resolved(&b), self.resolved(size));
        for (low, high) in [(&a, &b), (&b, &size)] {
            let room = self.sized(high.sub(low), span)?;
            let title = format!("{a}..{b} is no part of an axis of size {size}");
            match room.range() {
                (Some(least), _) if least >= 0 => {}
                (_, Some(most)) if most < 0 => return self.error("out-of-range", title, span),
                _ => self.check(DimCondition::Le(low.clone(), high.clone()), "out-of-range", title, span),
            }
        }
        let length = self.sized(b.sub(&a), span)?;
        Ok(At::Keep(a, length))
    }

    /// The position that a group names, and its size where all parts have one.
    fn group_at(
        &mut self,
        env: &mut Env,
        parts: &[ast::GroupPart],
        whole: Option<&Dim>,
        span: Span,
    ) -> Eval<(Scalar, Option<Dim>)> {
        let mut flat: Option<Scalar> = None;
        let mut product = Some(Dim::ONE);
        for (k, part) in parts.iter().enumerate() {
            let (scalar, size) = match &part.kind {
                GroupPartKind::Sized(name, size) => {
                    let value = self.eval(env, size)?;
                    let size = self.size_of(&value, size.span)?;
                    let index = ast::Expr::new(ast::ExprKind::Name(name.clone()), name.span);
                    (self.position(env, &index)?, Some(size))
                }
                GroupPartKind::Group(inner) => self.group_at(env, inner, None, part.span)?,
                GroupPartKind::Index(expr) => {
                    let scalar = self.position(env, expr)?;
                    let size = match scalar.kind() {
                        ScalarKind::Index(var) => Some(var.extent().clone()),
                        _ => None,
                    };
                    (scalar, size)
                }
            };
            if k > 0 && size.is_none() {
                return self.error_help(
                    "group-size",
                    "this part of a group needs a size",
                    part.span,
                    "only the first part needs none; write `name: size`",
                );
            }
            product = match (product, &size) {
                (Some(p), Some(s)) => Some(self.sized(p.mul(s), span)?),
                _ => None,
            };
            flat = Some(match (flat, size) {
                (Some(slow), Some(size)) => slow.times(Scalar::dim(&size)).plus(scalar),
                _ => scalar,
            });
        }
        if let (Some(product), Some(whole)) = (&product, whole) {
            self.equate(whole, product, span, || {
                let title = format!("the parts of this group make {product}, but the axis has size {whole}");
                Self::shape_mismatch(title, span, None)
            })?;
        }
        Ok((flat.unwrap_or_else(|| Scalar::int(0)), product))
    }

    /// The positions of a read whose axes are all points.
    pub(in super::super) fn positions_of(&mut self, env: &mut Env, index: &[ast::Ix]) -> Eval<Vec<Scalar>> {
        let mut positions = Vec::new();
        for ix in index {
            match &ix.kind {
                IxKind::Index(expr) => positions.push(self.position(env, expr)?),
                IxKind::Multi(_) if self.run_of(env, ix).is_some() => {
                    positions.extend(self.run_of(env, ix).unwrap_or_default().iter().map(Scalar::index));
                }
                IxKind::Group(parts) => positions.push(self.group_at(env, parts, None, ix.span)?.0),
                _ => {
                    return self.error_help(
                        "rank",
                        "a pattern is read at positions only",
                        ix.span,
                        "it has no extents, so there is nothing to keep",
                    );
                }
            }
        }
        Ok(positions)
    }

    /// Whether a pattern allows a position, aligned from the right.
    ///
    /// # Errors
    /// Too few positions, and everything that is wrong with the pattern's body.
    pub fn pattern_at(&mut self, pattern: &PatternValue, positions: &[Scalar], span: Span) -> Eval<Scalar> {
        let wanted = match pattern {
            PatternValue::Decl { decl, .. } => decl.indices.len(),
            PatternValue::Tensor(t) => t.rank(),
            _ => positions.len(),
        };
        let Some(first) = positions.len().checked_sub(wanted) else {
            let title = format!(
                "this pattern has {}, but {} given",
                counted(wanted, "index", "indices"),
                if positions.len() == 1 {
                    "1 position is".into()
                } else {
                    format!("{} positions are", positions.len())
                }
            );
            let diagnostic = Diagnostic::error("rank", title).at(span, "");
            return Err(self.report(match pattern {
                PatternValue::Decl { decl, .. } => diagnostic.at(decl.name.span, "declared here"),
                _ => diagnostic,
            }));
        };
        let positions = &positions[first..];
        self.charge(1, span)?;
        match pattern {
            PatternValue::Full => Ok(Scalar::bool(true)),
            PatternValue::Tensor(t) => {
                let point = |(d, s): (&Dim, &Scalar)| if d.is(1) { Scalar::int(0) } else { s.clone() };
                let at: Vec<Scalar> = t.shape.iter().zip(positions).map(point).collect();
                Ok(self.element(t, &at, span))
            }
            PatternValue::Decl { file, decl, bindings } => {
                let mut env = Env::new(*file);
                env.blocks = vec![bindings.as_ref().clone()];
                env.push();
                for (name, position) in decl.indices.iter().zip(positions) {
                    let text = self.name_text(&mut env, name)?;
                    env.bind(text, Value::exact(position.clone()), name.span);
                }
                let name = decl.name.as_plain().unwrap_or("?").to_string();
                self.enter(name, decl.span, span)?;
                let value = self.called_at(span, |s| s.eval_block(&mut env, &decl.body));
                self.leave();
                let place = result_span(&decl.body);
                let truth = self.truth(&value?, place)?;
                if truth.rank() != 0 {
                    return self.error("rank", "a pattern's body is one truth value", place);
                }
                Ok(self.element(&truth, &[], span))
            }
            PatternValue::And(a, b) | PatternValue::Or(a, b) => {
                let op = if matches!(pattern, PatternValue::And(..)) { BinaryOp::And } else { BinaryOp::Or };
                let (a, b) = (self.pattern_at(a, positions, span)?, self.pattern_at(b, positions, span)?);
                Ok(Scalar::binary(op, a, b))
            }
            PatternValue::Not(a) => Ok(Scalar::unary(UnaryOp::Not, self.pattern_at(a, positions, span)?)),
            PatternValue::Unapplied { .. } => {
                self.error("arguments", "this pattern still needs its arguments", span)
            }
        }
    }

    /// One of several equally built modules, by a run-time index.
    fn pick(&mut self, env: &mut Env, items: &[Value], index: &[ast::Ix], span: Span) -> Eval<Value> {
        let [ast::Ix { kind: IxKind::Index(expr), .. }] = index else {
            return self.error("rank", "a list of modules is read at one position", span);
        };
        let scalar = self.position(env, expr)?;
        let mut starts = Vec::with_capacity(items.len());
        let mut first: Option<InstanceRef> = None;
        for item in items {
            let Value::Instance(instance) = item else {
                return self.error("type-mismatch", "a run-time index picks among modules only", span);
            };
            let equal = first
                .as_ref()
                .is_none_or(|f| f.instance.key.is_some() && f.instance.key == instance.instance.key);
            if !equal {
                let title = "a run-time index picks among equally built modules, but these differ";
                let mut diagnostic = Diagnostic::error("not-equal", title)
                    .at(span, "picked here")
                    .help("give all elements of the list the same module and static arguments");
                for different in first.iter().chain([instance]) {
                    diagnostic = diagnostic.at(different.instance.span, "made here");
                }
                return Err(self.report(diagnostic));
            }
            starts.push(instance.instance.weights.0);
            first.get_or_insert_with(|| instance.clone());
        }
        let Some(first) = first else { return Err(Reported) };
        let pick = Pick { starts, index: scalar, span };
        Ok(Value::Instance(InstanceRef { instance: first.instance, pick: Some(Arc::new(pick)) }))
    }
}

/// A position moved by a constant; `var - 1 + 1` is `var`, so that what is read stays visible.
fn shifted(position: &Scalar, offset: &Dim) -> Scalar {
    match position.kind() {
        ScalarKind::Binary(op @ (BinaryOp::Add | BinaryOp::Sub), a, b) => {
            let constant = b.as_dim().and_then(|d| if *op == BinaryOp::Sub { d.neg().ok() } else { Some(d) });
            match constant.and_then(|c| c.add(offset).ok()) {
                Some(sum) => a.clone().plus(Scalar::dim(&sum)),
                None => position.clone().plus(Scalar::dim(offset)),
            }
        }
        _ => position.clone().plus(Scalar::dim(offset)),
    }
}
