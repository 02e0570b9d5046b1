//! Declared types against actual values.
//!
//! Names in declared shapes that are not bound yet stand for fresh symbols while the axes are
//! evaluated; matching then solves for them: lone names first, then groups and sums with one
//! unknown, by repeated passes. What is left is compared, and decided, refuted or checked by the
//! call.

use super::Elaborator;
use super::env::{Env, Unknowns};
use super::errors::{Eval, Reported};
use super::value::{TensorValue, Value, type_text};
use crate::diag::{Diagnostic, counted};
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
    /// For each match, its declared shape and the lengths of its runs of axes, or the names in it
    /// that nothing decides; none where it is the length of a `..`.
    pub shapes: Vec<Result<(Vec<Dim>, Vec<usize>), Vec<Symbol>>>,
    /// All names that nothing decides.
    pub open: Vec<Symbol>,
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
                let open = formal.symbols().into_iter().filter(|s| unknowns.values().any(|(u, _)| u == s));
                let names: Vec<String> = open.map(|s| format!("`{s}`")).collect();
                let names = names.join(", ");
                let title = format!("{names} in {} do not follow from one size, {}", m.what, pair.actual);
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
        let mut open: Vec<Symbol> = unknowns.into_values().map(|(symbol, _)| symbol).collect();
        open.retain(|symbol| !solved.values.contains_key(symbol));
        let mut shapes = Vec::new();
        for (formal, m) in formals.iter().zip(matches) {
            let mut undecided = Vec::new();
            for axis in formal {
                if let Axis::Dim(dim, _) = axis {
                    undecided.extend(dim.symbols().into_iter().filter(|s| open.contains(s)));
                }
            }
            let shape = self.declared_shape(env, formal, &solved.values, m.ty.span);
            shapes.push(match shape {
                Ok(shape) if undecided.is_empty() => Ok(shape),
                _ => Err(undecided),
            });
        }
        Ok(Matched { solved: solved.values, shapes, open })
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

    /// The lengths of the runs of axes of a tensor in a declared type, `..S` of a static list
    /// counted as one run. A type without `..` has none, and one with a single `..` does not say,
    /// so the tensor keeps its own.
    pub fn declared_segments(
        &mut self,
        env: &mut Env,
        ty: &ast::TensorType,
        tensor: &TensorValue,
    ) -> Option<Arc<[usize]>> {
        match ty.axes.iter().filter(|a| matches!(a.kind, ast::AxisKind::Multi(_))).count() {
            0 => return None,
            1 => return tensor.segments.clone(),
            _ => {}
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
        (runs.iter().sum::<usize>() == tensor.rank()).then(|| runs.into())
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
