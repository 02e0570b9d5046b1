//! Declared types against actual values.
//!
//! Names in declared shapes that are not bound yet stand for fresh symbols while the axes are
//! evaluated; matching then solves for them: lone names first, then groups and sums with one
//! unknown, by repeated passes. What is left is compared, and decided, refuted or checked by the
//! call.

use super::Elaborator;
use super::coerce::fits;
use super::env::{Env, Unknowns};
use super::errors::{Eval, Reported, counted};
use super::value::{TensorValue, TupleValue, Value, type_text};
use crate::diag::Diagnostic;
use crate::dim::{Dim, Symbol, Truth, solve_for};
use crate::dtype::DType;
use crate::span::Span;
use crate::syntax::ast;
use indexmap::IndexMap;
use std::sync::Arc;

/// One declared tensor type and the shape it is to have.
pub struct Match<'a> {
    /// The declared type.
    pub ty: &'a ast::TensorType,
    /// The actual shape; `None` where nothing is known yet and the declared one is only evaluated.
    pub actual: Option<Vec<Dim>>,
    /// The element type of the actual value.
    pub dtype: DType,
    /// Place of the actual value.
    pub span: Span,
    /// What the value is, for messages: "`x`".
    pub what: String,
}

/// An evaluated axis of a declared type.
#[derive(Clone, Debug)]
enum Axis {
    Dim(Dim, Span),
    Multi(Arc<str>, Span),
}

/// An axis of a declared type and the one it is to equal.
#[derive(Clone, Debug)]
struct Pair {
    /// Which match it belongs to.
    of: usize,
    /// Which axis of the actual shape.
    axis: usize,
    formal: Dim,
    actual: Dim,
    /// The declaration of the axis.
    declared: Span,
}

/// What the symbols of open names are.
#[derive(Default)]
struct Solved {
    values: IndexMap<Symbol, Dim>,
    /// For each, the match that decided it, and whether it did so without a rest.
    by: IndexMap<Symbol, (usize, bool)>,
}

impl Solved {
    fn decide(&mut self, symbol: &Symbol, value: Dim, of: usize, exact: bool) {
        self.values.insert(symbol.clone(), value);
        self.by.insert(symbol.clone(), (of, exact));
    }
}

/// The local under which the axes of `..name` are kept.
fn multi_key(name: &str) -> String {
    format!("..{name}")
}

/// What matching found.
#[derive(Default)]
pub struct Matched {
    /// Values of the symbols of unknown names.
    pub solved: IndexMap<Symbol, Dim>,
    /// For each match, its declared shape and the lengths of its runs of axes.
    pub shapes: Vec<Option<(Vec<Dim>, Vec<usize>)>>,
}

impl Elaborator<'_> {
    /// Matches declared types with shapes, in an environment whose `unknowns` are open. Names
    /// found are bound as locals of the outermost block that `block` says.
    ///
    /// # Errors
    /// Shapes that cannot be brought together.
    pub fn match_shapes(&mut self, env: &mut Env, matches: &[Match<'_>], block: usize) -> Eval<Matched> {
        let mut formals: Vec<Vec<Axis>> = Vec::new();
        for m in matches {
            formals.push(self.declared_axes(env, m.ty)?);
        }
        let mut pairs: Vec<Pair> = Vec::new();
        let mut failed = false;
        for (k, m) in matches.iter().enumerate() {
            let Some(actual) = &m.actual else { continue };
            match self.pair_axes(env, &formals[k], actual, m, block) {
                Ok(found) => pairs.extend(found.into_iter().map(|pair| Pair { of: k, ..pair })),
                Err(Reported) => failed = true,
            }
        }
        if failed {
            return Err(Reported);
        }
        let unknowns = env.unknowns.clone().unwrap_or_default();
        let solved = self.solve(&unknowns, &pairs);
        for pair in &pairs {
            let m = &matches[pair.of];
            let formal = self.substituted(&pair.formal, &solved.values, pair.declared)?;
            if unknowns.values().any(|(s, _)| formal.symbols().contains(s)) {
                let title = format!("the size {formal} of {} does not follow from {}", m.what, pair.actual);
                let diagnostic = Diagnostic::error("shape-unsolved", title)
                    .at(m.span, "")
                    .at(pair.declared, "declared here")
                    .help("a size is solved for one unknown name; give the others a value of their own");
                self.report(diagnostic);
                failed = true;
                continue;
            }
            failed |= self.check_axis(env, matches, &formals[pair.of], &solved, pair, &formal).is_err();
        }
        if failed {
            return Err(Reported);
        }
        self.bind_solved(env, &solved.values, block);
        let mut shapes = Vec::new();
        for (k, m) in matches.iter().enumerate() {
            shapes.push(self.declared_shape(env, &formals[k], &solved.values, m.ty.span).ok());
        }
        Ok(Matched { solved: solved.values, shapes })
    }

    fn declared_axes(&mut self, env: &mut Env, ty: &ast::TensorType) -> Eval<Vec<Axis>> {
        if matches!(ty.dtype, DType::F16 | DType::BF16) {
            return self.unsupported_dtype(ty.dtype, ty.span);
        }
        let mut axes = Vec::new();
        for axis in &ty.axes {
            match &axis.kind {
                ast::AxisKind::Multi(None) => axes.push(Axis::Multi("".into(), axis.span)),
                ast::AxisKind::Multi(Some(name)) => {
                    let text = self.name_text(env, name)?;
                    match env.local_or_static(&text).map(|b| b.value.clone()) {
                        Some(Value::List(items)) => {
                            for item in items.iter() {
                                axes.push(Axis::Dim(self.size_of(item, axis.span)?, axis.span));
                            }
                        }
                        _ => axes.push(Axis::Multi(text, axis.span)),
                    }
                }
                _ => axes.push(Axis::Dim(self.axis_size(env, axis)?, axis.span)),
            }
        }
        Ok(axes)
    }

    fn axis_size(&mut self, env: &mut Env, axis: &ast::Axis) -> Eval<Dim> {
        match &axis.kind {
            ast::AxisKind::Dim(expr) => {
                let value = self.eval(env, expr)?;
                self.size_of(&value, expr.span)
            }
            ast::AxisKind::Group(parts) => {
                let mut product = Dim::ONE;
                for part in parts {
                    let size = self.axis_size(env, part)?;
                    product = self.sized(product.mul(&size), axis.span)?;
                }
                Ok(product)
            }
            ast::AxisKind::Multi(_) => self.error("syntax", "`..` cannot stand in a group", axis.span),
        }
    }

    /// A value as a size.
    ///
    /// # Errors
    /// What is no integer, and negative ones.
    pub fn size_of(&mut self, value: &Value, span: Span) -> Eval<Dim> {
        match value {
            Value::Int(d) => {
                let d = self.resolved(d);
                if d.range().1.is_some_and(|high| high < 0) {
                    return self.error("size", format!("a size cannot be negative, but this is {d}"), span);
                }
                Ok(d)
            }
            Value::Poison => Err(Reported),
            other => {
                let title = format!("a size is an integer, but this is {}", other.kind_text());
                self.error("type-mismatch", title, span)
            }
        }
    }

    /// Pairs each declared axis with an actual one; `..` takes what is left over.
    fn pair_axes(
        &mut self,
        env: &mut Env,
        formal: &[Axis],
        actual: &[Dim],
        m: &Match<'_>,
        block: usize,
    ) -> Eval<Vec<Pair>> {
        let mut expanded: Vec<Axis> = Vec::new();
        let mut open = None;
        for axis in formal {
            match axis {
                Axis::Multi(name, span) => match env.local(&multi_key(name)).map(|b| b.value.clone()) {
                    Some(Value::List(items)) => {
                        for item in items.iter() {
                            expanded.push(Axis::Dim(self.size_of(item, *span)?, *span));
                        }
                    }
                    _ if open.is_none() => {
                        open = Some(expanded.len());
                        expanded.push(axis.clone());
                    }
                    _ => {
                        let title = "a shape may have one `..` whose length is not known".to_string();
                        return self.error("shape-mismatch", title, *span);
                    }
                },
                Axis::Dim(..) => expanded.push(axis.clone()),
            }
        }
        let fixed = expanded.len() - usize::from(open.is_some());
        if actual.len() < fixed || (open.is_none() && actual.len() != fixed) {
            let title = format!(
                "{} wants {}, but this is {}: {}{} against {}",
                m.what,
                axes_text(m.ty.dtype, &expanded),
                type_text(m.dtype, actual),
                if open.is_some() { "at least " } else { "" },
                counted(fixed, "axis", "axes"),
                actual.len()
            );
            return Err(self.report(
                Diagnostic::error("shape-mismatch", title).at(m.span, "").at(m.ty.span, "declared here"),
            ));
        }
        let run = actual.len() - fixed;
        let mut pairs = Vec::new();
        let mut at = 0;
        for axis in expanded {
            match axis {
                Axis::Multi(name, span) => {
                    let dims: Vec<Value> = actual[at..at + run].iter().cloned().map(Value::Int).collect();
                    at += run;
                    env.blocks[block].bind(multi_key(&name), Value::list(dims), span);
                }
                Axis::Dim(dim, span) => {
                    let actual = actual[at].clone();
                    pairs.push(Pair { of: 0, axis: at, formal: dim, actual, declared: span });
                    at += 1;
                }
            }
        }
        Ok(pairs)
    }

    fn solve(&mut self, unknowns: &Unknowns, pairs: &[Pair]) -> Solved {
        let mut solved = Solved::default();
        for Pair { of, formal, actual, .. } in pairs {
            if let Some(symbol) = formal.as_symbol()
                && unknowns.values().any(|(s, _)| s == symbol)
                && !solved.values.contains_key(symbol)
            {
                solved.decide(symbol, self.resolved(actual), *of, true);
            }
        }
        for exact in [true, false] {
            loop {
                let before = solved.values.len();
                for Pair { of, formal, actual, .. } in pairs {
                    let Ok(formal) = formal.substitute(&|s| solved.values.get(s).cloned()) else { continue };
                    let free: Vec<Symbol> = formal
                        .symbols()
                        .into_iter()
                        .filter(|s| unknowns.values().any(|(u, _)| u == s))
                        .collect();
                    let [unknown] = free.as_slice() else { continue };
                    let actual = self.resolved(actual);
                    let value = solve_for(&formal, unknown, &actual)
                        .or_else(|| if exact { None } else { solve_floored(&formal, unknown, &actual) });
                    if let Some(value) = value {
                        solved.decide(unknown, value, *of, exact);
                    }
                }
                if solved.values.len() == before {
                    break;
                }
            }
        }
        solved
    }

    fn substituted(&mut self, dim: &Dim, solved: &IndexMap<Symbol, Dim>, span: Span) -> Eval<Dim> {
        let result = dim.substitute(&|s| solved.get(s).cloned());
        self.sized(result, span)
    }

    fn check_axis(
        &mut self,
        env: &Env,
        matches: &[Match<'_>],
        axes: &[Axis],
        solved: &Solved,
        pair: &Pair,
        formal: &Dim,
    ) -> Eval<()> {
        if self.same(formal, &pair.actual) == Truth::Yes {
            return Ok(());
        }
        let diagnostic = self.axis_mismatch(env, matches, axes, solved, pair, formal);
        self.equate(formal, &pair.actual, matches[pair.of].span, || diagnostic)
    }

    /// What is said of an axis that differs from its declaration: which, what the names in the
    /// declaration are, and what bound them.
    fn axis_mismatch(
        &self,
        env: &Env,
        matches: &[Match<'_>],
        axes: &[Axis],
        solved: &Solved,
        pair: &Pair,
        formal: &Dim,
    ) -> Diagnostic {
        let m = &matches[pair.of];
        let names = pair.formal.symbols();
        let deciders = || names.iter().filter_map(|s| Some((s, *solved.by.get(s)?)));
        // A name that leaves a rest has no value; the others do.
        let rest = deciders().find(|(_, (_, exact))| !exact).map(|(s, _)| s.clone());
        let shown = |dim: &Dim| {
            let value = |s: &Symbol| solved.values.get(s).filter(|_| rest.as_ref() != Some(s)).cloned();
            dim.substitute(&value).unwrap_or_else(|_| dim.clone())
        };
        let shown_axes: Vec<Axis> = axes
            .iter()
            .map(|axis| match axis {
                Axis::Dim(dim, span) => Axis::Dim(shown(dim), *span),
                multi => multi.clone(),
            })
            .collect();
        let (wanted, actual) = (axes_text(m.ty.dtype, &shown_axes), m.actual.as_deref().unwrap_or(&[]));
        let found = type_text(m.dtype, actual);
        let (title, note) = match &rest {
            Some(symbol) => (
                format!("{} wants {wanted}, but this is {found}", m.what),
                format!(
                    "axis {} is {}, which is {} for no size `{}`",
                    pair.axis,
                    pair.actual,
                    shown(&pair.formal),
                    symbol.name()
                ),
            ),
            None => (
                format!("{} wants {wanted}, but this is {found}", m.what),
                format!("axis {} is {}, not {formal}", pair.axis, pair.actual),
            ),
        };
        let written = self.sources.text(pair.declared);
        let declared = match &rest {
            None if written != formal.to_string() => format!("`{written}` is {formal}"),
            _ => "declared here".into(),
        };
        let mut diagnostic =
            Diagnostic::error("shape-mismatch", title).at(m.span, note).at(pair.declared, declared);
        for (symbol, (of, exact)) in deciders() {
            if of != pair.of && exact {
                let value = solved.values.get(symbol).map_or_else(String::new, ToString::to_string);
                diagnostic =
                    diagnostic.at(matches[of].span, format!("`{}` is {value} from here", symbol.name()));
            }
        }
        let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let of_module = written.split(|c| !is_word(c)).any(|word| env.statics.get(word).is_some());
        match env.owner.as_ref().filter(|_| of_module) {
            Some(owner) => diagnostic.at(owner.instance.span, "made here"),
            None => diagnostic,
        }
    }

    fn bind_solved(&mut self, env: &mut Env, solved: &IndexMap<Symbol, Dim>, block: usize) {
        let unknowns = env.unknowns.clone().unwrap_or_default();
        for (name, (symbol, span)) in &unknowns {
            if let Some(dim) = solved.get(symbol) {
                env.blocks[block].bind(Arc::clone(name), Value::Int(dim.clone()), *span);
            }
        }
    }

    /// A declared shape with everything found put in.
    fn declared_shape(
        &mut self,
        env: &mut Env,
        axes: &[Axis],
        solved: &IndexMap<Symbol, Dim>,
        span: Span,
    ) -> Eval<(Vec<Dim>, Vec<usize>)> {
        let mut shape = Vec::new();
        let mut runs = Vec::new();
        for axis in axes {
            match axis {
                Axis::Dim(dim, span) => {
                    let dim = self.substituted(dim, solved, *span)?;
                    shape.push(self.resolved(&dim));
                    runs.push(1);
                }
                Axis::Multi(name, _) => match env.local(&multi_key(name)).map(|b| b.value.clone()) {
                    Some(Value::List(items)) => {
                        for item in items.iter() {
                            shape.push(self.size_of(item, span)?);
                        }
                        runs.push(items.len());
                    }
                    _ => return Err(Reported),
                },
            }
        }
        Ok((shape, runs))
    }

    /// The lengths of the runs of axes of a declared type, `..S` of a static list counted as one
    /// run; `None` where it has fewer than two `..`.
    pub fn declared_segments(
        &mut self,
        env: &mut Env,
        ty: &ast::TensorType,
        rank: usize,
    ) -> Option<Arc<[usize]>> {
        let multis = ty.axes.iter().filter(|a| matches!(a.kind, ast::AxisKind::Multi(_))).count();
        if multis < 2 {
            return None;
        }
        let mut runs = Vec::new();
        for axis in &ty.axes {
            let ast::AxisKind::Multi(name) = &axis.kind else {
                runs.push(1);
                continue;
            };
            let text = name.as_ref().and_then(ast::Name::as_plain).unwrap_or("");
            let spelled = env.local_or_static(text).or_else(|| env.local(&multi_key(text)));
            match spelled.map(|b| &b.value) {
                Some(Value::List(items)) => runs.push(items.len()),
                _ => return None,
            }
        }
        (runs.iter().sum::<usize>() == rank).then(|| runs.into())
    }

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
            let shape = matched.shapes[k].as_ref().map(|(s, _)| s.as_slice());
            let tensor = self.conform(&tensors[k], ty, shape, *span, what)?;
            values.push(Value::Tensor(tensor));
        }
        Ok(values)
    }

    /// A tensor in a declared type whose shape has been matched: exact numbers are stored in its
    /// type, scalars fill its shape.
    pub(super) fn conform(
        &mut self,
        tensor: &TensorValue,
        ty: &ast::TensorType,
        shape: Option<&[Dim]>,
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
        let typed = self.coerce(tensor, ty.dtype, span)?;
        if typed.rank() > 0 || ty.axes.is_empty() {
            return Ok(typed);
        }
        match shape {
            Some(shape) => self.fill(&typed, shape, span),
            None if ty.axes.iter().all(|a| matches!(a.kind, ast::AxisKind::Multi(_))) => Ok(typed),
            None => {
                let title = format!("{what} is a scalar that fills a shape, but the shape is not known here");
                Err(self.report(
                    Diagnostic::error("shape-unsolved", title).at(span, "").at(ty.span, "declared here"),
                ))
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

/// The floored solution of an equation that is linear in one unknown, for sizes that divide only
/// for some values of the free dimensions; the caller compares afterwards.
fn solve_floored(formula: &Dim, unknown: &Symbol, value: &Dim) -> Option<Dim> {
    let at = |v: Dim| formula.substitute(&|s| (s == unknown).then(|| v.clone())).ok();
    let others = at(Dim::ZERO)?;
    let factor = at(Dim::ONE)?.sub(&others).ok()?;
    let twice = at(Dim::from(2))?.sub(&others).ok()?;
    if factor.is(0) || factor.mul(&Dim::from(2)).ok()? != twice {
        return None;
    }
    value.sub(&others).ok()?.floor_div(&factor).ok()
}

fn axes_text(dtype: DType, axes: &[Axis]) -> String {
    let parts: Vec<String> = axes
        .iter()
        .map(|a| match a {
            Axis::Dim(d, _) => d.to_string(),
            Axis::Multi(name, _) => format!("..{name}"),
        })
        .collect();
    let dtype = if dtype == DType::F32 { "" } else { dtype.name() };
    format!("{dtype}[{}]", parts.join(", "))
}
