//! Ranges of indices, from the reads they stand bare in.
//!
//! Every read in the scope of the indices is a source: `x[.., i, ..]` gives `i` the size of its
//! axis, a group with one unknown part divides, `..` takes the axes that are left. Reads with
//! `else` give a range only where no other read does. The rounds end when nothing new is found.

use super::super::Elaborator;
use super::super::env::Env;
use super::super::errors::Eval;
use super::super::value::{Value, type_text};
use super::{Bound, multi_name};
use crate::diag::Diagnostic;
use crate::dim::Dim;
use crate::dtype::DType;
use crate::span::Span;
use crate::syntax::ast::{self, BindKind, ExprKind, GroupPartKind, IxKind, StmtKind};
use std::sync::Arc;

/// A read in the scope of the indices.
pub(super) struct Use<'a> {
    base: &'a ast::Expr,
    index: &'a [ast::Ix],
    span: Span,
    lenient: bool,
    /// Names that are bound again between the indices and this read.
    hidden: Vec<String>,
    /// What is read, once that is known.
    source: Option<Source>,
    /// Whether what is read is wrong by itself.
    failed: bool,
}

struct Source {
    dtype: DType,
    shape: Vec<Dim>,
    segments: Option<Arc<[usize]>>,
    is_static: bool,
}

impl Elaborator<'_> {
    /// Finds the ranges that are not written.
    ///
    /// # Errors
    /// Uses that do not agree. An index that stays without range is reported when it is opened.
    pub(in super::super) fn infer(
        &mut self,
        env: &mut Env,
        bound: &mut Bound,
        exprs: &[&ast::Expr],
    ) -> Eval<bool> {
        let mut uses = Vec::new();
        for expr in exprs {
            self.collect(env, bound, expr, &mut Vec::new(), &mut uses);
        }
        self.find_sources(env, bound, &mut uses, false);
        for lenient in [false, true] {
            self.rounds(env, bound, &uses, lenient)?;
        }
        let open = |bound: &Bound| {
            bound.singles.iter().any(|s| s.extent.is_none())
                || bound.multis.iter().any(|m| m.extents.is_none())
        };
        if open(bound) {
            // What is read may itself be computed from indices whose ranges are known by now.
            self.find_sources(env, bound, &mut uses, true);
            for lenient in [false, true] {
                self.rounds(env, bound, &uses, lenient)?;
            }
        }
        if open(bound) {
            self.explain_open(env, bound, &uses)?;
        }
        self.agree(env, bound, &uses)?;
        Ok(uses.iter().all(|u| u.source.as_ref().is_some_and(|s| s.is_static)))
    }

    /// Reports why a range is missing, where that is because of what is read or how.
    fn explain_open(&mut self, env: &mut Env, bound: &Bound, uses: &[Use<'_>]) -> Eval<()> {
        for usage in uses.iter().filter(|u| u.failed) {
            env.push();
            self.bind_known(env, bound);
            let value = self.eval_callee(env, usage.base);
            env.pop();
            value?;
        }
        for usage in uses {
            if let ExprKind::Name(name) = &*usage.base.kind
                && let Some(single) = bound.singles.iter().find(|s| name.as_plain() == Some(&s.name))
                && !usage.hidden.iter().any(|h| **h == *single.name)
                && env
                    .local(&single.name)
                    .is_some_and(|b| matches!(&b.value, Value::Tensor(t) if t.rank() > 0))
            {
                let title = format!("`{}` is an index here, and has no axes to read", single.name);
                let diagnostic = Diagnostic::error("rank", title)
                    .at(usage.base.span, "")
                    .at(single.span, format!("hides the tensor `{}` within the definition", single.name))
                    .help("give one of them another name");
                return Err(self.report(diagnostic));
            }
            let Some(source) = &usage.source else { continue };
            let singles = usage.index.iter().filter(|ix| !matches!(ix.kind, IxKind::Multi(_))).count();
            let runs = usage.index.len() - singles;
            if singles > source.shape.len() {
                let what = type_text(source.dtype, &source.shape);
                return self.too_many_positions(singles, &what, source.shape.len(), usage.span);
            }
            if runs > 1 && self.coverage(env, bound, usage).is_none() {
                return self.error_help(
                    "rank",
                    "how many axes each `..` of this read stands for is not known",
                    usage.span,
                    "name the axes of all but one",
                );
            }
        }
        Ok(())
    }

    fn rounds(&mut self, env: &mut Env, bound: &mut Bound, uses: &[Use<'_>], lenient: bool) -> Eval<()> {
        loop {
            let mut found = false;
            for usage in uses.iter().filter(|u| lenient || !u.lenient) {
                found |= self.learn(env, bound, usage)?;
            }
            if !found {
                return Ok(());
            }
        }
    }

    /// Evaluates what is read. With `bind`, known indices are in scope.
    fn find_sources(&mut self, env: &mut Env, bound: &Bound, uses: &mut [Use<'_>], bind: bool) {
        env.push();
        if bind {
            self.bind_known(env, bound);
        }
        for usage in uses.iter_mut().filter(|u| u.source.is_none()) {
            let mut mentioned = Vec::new();
            names_in(usage.base, &mut mentioned);
            let unknown = |name: &String| {
                usage.hidden.contains(name)
                    || bound.singles.iter().any(|s| *s.name == **name && (!bind || s.extent.is_none()))
            };
            if mentioned.iter().any(unknown) {
                continue;
            }
            // Only a look: what is wrong is reported where the read is elaborated, if it is.
            match self.tentatively(|s| s.eval_callee(env, usage.base)) {
                Ok(value) => usage.source = self.source_of(&value),
                Err(_) => usage.failed = true,
            }
        }
        env.pop();
    }

    fn bind_known(&mut self, env: &mut Env, bound: &Bound) {
        for single in &bound.singles {
            if let Some(extent) = &single.extent {
                let var = self.fresh_index(&single.name, extent.clone());
                let scalar = super::super::scalar::Scalar::index(&var);
                env.bind(Arc::clone(&single.name), Value::exact(scalar), single.span);
            }
        }
        for multi in &bound.multis {
            if let Some(extents) = &multi.extents {
                let vars: Vec<_> = extents.iter().map(|d| self.fresh_index("r", d.clone())).collect();
                env.bind(Arc::clone(&multi.name), Value::Indices(vars.into()), multi.span);
            }
        }
    }

    fn source_of(&self, value: &Value) -> Option<Source> {
        match value {
            Value::Tensor(t) if t.rank() > 0 => {
                let (shape, segments) = (t.shape.to_vec(), t.segments.clone());
                Some(Source { dtype: t.dtype, shape, segments, is_static: false })
            }
            Value::Sequence(sequence) => {
                let (dtype, shape) = self.sequence_type(*sequence)?;
                Some(Source { dtype, shape, segments: None, is_static: false })
            }
            Value::List(_) => {
                let mut shape = Vec::new();
                let mut level = value;
                while let Value::List(items) = level {
                    shape.push(Dim::from(items.len() as i64));
                    match items.first() {
                        Some(first) => level = first,
                        None => break,
                    }
                }
                let is_static = !matches!(level, Value::Instance(_) | Value::Tensor(_));
                Some(Source { dtype: DType::F32, shape, segments: None, is_static })
            }
            _ => None,
        }
    }

    /// The axes that each position of a read covers.
    fn coverage(&self, env: &Env, bound: &Bound, usage: &Use<'_>) -> Option<Vec<std::ops::Range<usize>>> {
        let source = usage.source.as_ref()?;
        let rank = source.shape.len();
        let mut lengths: Vec<Option<usize>> = Vec::with_capacity(usage.index.len());
        for ix in usage.index {
            lengths.push(match &ix.kind {
                IxKind::Multi(name) => {
                    let name = multi_name(name.as_ref());
                    let mine = bound
                        .multis
                        .iter()
                        .find(|m| m.name == name && !usage.hidden.iter().any(|h| **h == *name));
                    match (mine, env.local(&name).map(|b| &b.value)) {
                        (Some(multi), _) => multi.extents.as_ref().map(Vec::len),
                        (None, Some(Value::Indices(vars))) => Some(vars.len()),
                        _ => None,
                    }
                }
                _ => Some(1),
            });
        }
        let open = lengths.iter().filter(|l| l.is_none()).count();
        let known: usize = lengths.iter().flatten().sum();
        if open == 1 && known <= rank {
            let rest = rank - known;
            lengths.iter_mut().filter(|l| l.is_none()).for_each(|l| *l = Some(rest));
        } else if open > 1 {
            let runs = source.segments.as_ref().filter(|runs| runs.len() == lengths.len())?;
            for (length, run) in lengths.iter_mut().zip(runs.iter()) {
                *length = Some(*run);
            }
        }
        let mut start = 0;
        let mut covered = Vec::with_capacity(lengths.len());
        for length in lengths {
            let end = start + length?;
            covered.push(start..end);
            start = end;
        }
        (start <= rank).then_some(covered)
    }

    fn learn(&mut self, env: &mut Env, bound: &mut Bound, usage: &Use<'_>) -> Eval<bool> {
        let (Some(source), Some(covered)) = (&usage.source, self.coverage(env, bound, usage)) else {
            return Ok(false);
        };
        let mut found = false;
        for (ix, axes) in usage.index.iter().zip(covered) {
            match &ix.kind {
                IxKind::Index(expr) => {
                    if let Some(k) = unresolved(bound, usage, expr) {
                        bound.singles[k].extent = Some(source.shape[axes.start].clone());
                        found = true;
                    }
                }
                IxKind::Multi(name) => {
                    let name = multi_name(name.as_ref());
                    let slot = bound.multis.iter_mut().find(|m| m.name == name && m.extents.is_none());
                    if let Some(slot) = slot {
                        slot.extents = Some(source.shape[axes].to_vec());
                        found = true;
                    }
                }
                IxKind::Group(parts) => {
                    found |=
                        self.learn_group(env, bound, usage, parts, &source.shape[axes.start], ix.span)?;
                }
                IxKind::Full | IxKind::Range(..) => {}
            }
        }
        Ok(found)
    }

    /// A group with one unknown part divides.
    fn learn_group(
        &mut self,
        env: &mut Env,
        bound: &mut Bound,
        usage: &Use<'_>,
        parts: &[ast::GroupPart],
        whole: &Dim,
        span: Span,
    ) -> Eval<bool> {
        let mut known = Dim::ONE;
        let mut open = None;
        let mut found = false;
        for part in parts {
            match &part.kind {
                GroupPartKind::Sized(name, size) => {
                    let value = self.eval(env, size)?;
                    let size = self.size_of(&value, size.span)?;
                    let text = name.as_plain().unwrap_or("");
                    if let Some(single) =
                        bound.singles.iter_mut().find(|s| *s.name == *text && s.extent.is_none())
                    {
                        single.extent = Some(size.clone());
                        found = true;
                    }
                    known = self.sized(known.mul(&size), part.span)?;
                }
                GroupPartKind::Group(_) => return Ok(found),
                GroupPartKind::Index(expr) => match self.part_size(env, bound, usage, expr) {
                    Some(size) => known = self.sized(known.mul(&size), part.span)?,
                    // A part without size (the first may be any position) leaves nothing to divide.
                    None => match (unresolved(bound, usage, expr), open) {
                        (Some(k), None) => open = Some(k),
                        _ => return Ok(found),
                    },
                },
            }
        }
        let Some(k) = open else { return Ok(found) };
        let (whole, known) = (self.resolved(whole), self.resolved(&known));
        let Some(size) = whole.exact_div(&known) else {
            let single = &bound.singles[k];
            let title = format!("an axis of {whole} does not fall into parts of {known}");
            let diagnostic = Diagnostic::error("group-size", title)
                .at(span, format!("`{}` takes what {known} leaves of {whole}", single.name))
                .at(single.span, "bound here")
                .help(format!("choose sizes that divide, or give `{}` its size", single.name));
            return Err(self.report(diagnostic));
        };
        bound.singles[k].extent = Some(size);
        Ok(true)
    }

    /// The size of a part that is a bare index with a known range.
    fn part_size(&self, env: &Env, bound: &Bound, usage: &Use<'_>, expr: &ast::Expr) -> Option<Dim> {
        let ExprKind::Name(name) = &*expr.kind else { return None };
        let text = name.as_plain()?;
        if usage.hidden.iter().any(|h| h == text) {
            return None;
        }
        if let Some(single) = bound.singles.iter().find(|s| *s.name == *text) {
            return single.extent.clone();
        }
        match env.local(text).map(|b| &b.value) {
            Some(Value::Tensor(t)) => match t.as_lazy().map(super::super::scalar::Scalar::kind) {
                Some(super::super::scalar::ScalarKind::Index(var)) => Some(var.extent().clone()),
                _ => None,
            },
            _ => None,
        }
    }

    /// All bare uses of an index without written range have one size.
    fn agree(&mut self, env: &mut Env, bound: &Bound, uses: &[Use<'_>]) -> Eval<()> {
        let mut seen: Vec<(Arc<str>, Span)> = Vec::new();
        for usage in uses.iter().filter(|u| !u.lenient) {
            let (Some(source), Some(covered)) = (&usage.source, self.coverage(env, bound, usage)) else {
                continue;
            };
            for (ix, axes) in usage.index.iter().zip(covered) {
                let IxKind::Index(expr) = &ix.kind else { continue };
                let Some(single) = bare(bound, usage, expr).map(|k| &bound.singles[k]) else { continue };
                let (Some(extent), false) = (single.extent.clone(), single.explicit) else { continue };
                let size = source.shape[axes.start].clone();
                let (name, declared) = (Arc::clone(&single.name), single.span);
                let first = seen.iter().find(|(n, _)| *n == name).map(|(_, place)| *place);
                if first.is_none() {
                    seen.push((Arc::clone(&name), ix.span));
                }
                self.equate(&extent, &size, ix.span, || {
                    let title = format!("index `{name}` runs over {extent}, but this axis has size {size}");
                    let diagnostic = Diagnostic::error("shape-mismatch", title)
                        .at(ix.span, format!("an axis of size {size}"));
                    let diagnostic = match first {
                        Some(place) => diagnostic.at(place, format!("an axis of size {extent}")),
                        None => diagnostic,
                    };
                    diagnostic.at(declared, "bound here")
                })?;
            }
        }
        Ok(())
    }

    /// Collects the reads of an expression with the names hidden at each. Of a choice that is
    /// made at compile time only the branch taken counts.
    fn collect<'a>(
        &mut self,
        env: &mut Env,
        bound: &Bound,
        expr: &'a ast::Expr,
        hidden: &mut Vec<String>,
        uses: &mut Vec<Use<'a>>,
    ) {
        match &*expr.kind {
            ExprKind::Index { base, index, otherwise } => {
                uses.push(Use {
                    base,
                    index,
                    span: expr.span,
                    lenient: otherwise.is_some(),
                    hidden: hidden.clone(),
                    source: None,
                    failed: false,
                });
                self.collect(env, bound, base, hidden, uses);
                for part in index_exprs(index).into_iter().chain(otherwise) {
                    self.collect(env, bound, part, hidden, uses);
                }
            }
            ExprKind::Reduce(reduce) => {
                if let Some(e) = &reduce.otherwise {
                    self.collect(env, bound, e, hidden, uses);
                }
                let depth = hidden.len();
                if !reduce.reducer.is_normaliser() {
                    reduce.binds.iter().for_each(|b| bind_names(b, hidden));
                }
                for e in reduce.filter.iter().chain([&reduce.term]) {
                    self.collect(env, bound, e, hidden, uses);
                }
                hidden.truncate(depth);
            }
            ExprKind::If { cond, then, otherwise } => {
                self.collect(env, bound, cond, hidden, uses);
                let chosen = self.static_choice(env, bound, cond, hidden);
                if chosen != Some(false) {
                    self.collect_block(env, bound, then, hidden, uses);
                }
                if chosen != Some(true) {
                    self.collect_block(env, bound, otherwise, hidden, uses);
                }
            }
            _ => {
                for e in children(expr) {
                    self.collect(env, bound, e, hidden, uses);
                }
            }
        }
    }

    fn collect_block<'a>(
        &mut self,
        env: &mut Env,
        bound: &Bound,
        block: &'a ast::Block,
        hidden: &mut Vec<String>,
        uses: &mut Vec<Use<'a>>,
    ) {
        for stmt in &block.stmts {
            if let StmtKind::Let(def) = &stmt.kind {
                self.collect(env, bound, &def.value, hidden, uses);
            }
        }
        if let Some(tail) = &block.tail {
            self.collect(env, bound, tail, hidden, uses);
        }
    }

    /// What a condition decides at compile time, if it mentions no index.
    fn static_choice(
        &mut self,
        env: &mut Env,
        bound: &Bound,
        cond: &ast::Expr,
        hidden: &[String],
    ) -> Option<bool> {
        let mut mentioned = Vec::new();
        names_in(cond, &mut mentioned);
        let index = |name: &String| hidden.contains(name) || bound.singles.iter().any(|s| *s.name == **name);
        if mentioned.iter().any(index) {
            return None;
        }
        match self.tentatively(|s| s.eval(env, cond)) {
            Ok(Value::Bool(decided)) => Some(decided),
            _ => None,
        }
    }
}

/// The bound index that an expression is, if it is a bare one.
fn bare(bound: &Bound, usage: &Use<'_>, expr: &ast::Expr) -> Option<usize> {
    let ExprKind::Name(name) = &*expr.kind else { return None };
    let text = name.as_plain()?;
    if usage.hidden.iter().any(|h| h == text) {
        return None;
    }
    bound.singles.iter().position(|s| *s.name == *text)
}

fn unresolved(bound: &Bound, usage: &Use<'_>, expr: &ast::Expr) -> Option<usize> {
    bare(bound, usage, expr).filter(|k| bound.singles[*k].extent.is_none())
}

fn children(expr: &ast::Expr) -> Vec<&ast::Expr> {
    match &*expr.kind {
        ExprKind::List(items) => items.iter().collect(),
        ExprKind::Repeat { value, count } => vec![value, count],
        ExprKind::Tuple(args) => args.iter().map(|a| &a.value).collect(),
        ExprKind::Call { callee, args } => {
            std::iter::once(callee).chain(args.iter().map(|a| &a.value)).collect()
        }
        ExprKind::Field { base, .. } => vec![base],
        ExprKind::Unary { operand, .. } => vec![operand],
        ExprKind::Binary { left, right, .. } => vec![left, right],
        _ => Vec::new(),
    }
}

/// The expressions of the positions of a read.
pub(super) fn index_exprs(index: &[ast::Ix]) -> Vec<&ast::Expr> {
    fn parts<'a>(group: &'a [ast::GroupPart], out: &mut Vec<&'a ast::Expr>) {
        for part in group {
            match &part.kind {
                GroupPartKind::Sized(_, size) => out.push(size),
                GroupPartKind::Group(inner) => parts(inner, out),
                GroupPartKind::Index(expr) => out.push(expr),
            }
        }
    }
    let mut out = Vec::new();
    for ix in index {
        match &ix.kind {
            IxKind::Index(expr) => out.push(expr),
            IxKind::Range(from, to) => out.extend([from, to]),
            IxKind::Group(group) => parts(group, &mut out),
            IxKind::Multi(_) | IxKind::Full => {}
        }
    }
    out
}

fn bind_names(bind: &ast::Bind, names: &mut Vec<String>) {
    match &bind.kind {
        BindKind::Index { name, .. } => names.extend(name.as_plain().map(String::from)),
        BindKind::Group(parts) => parts.iter().for_each(|p| bind_names(p, names)),
        BindKind::Multi(name) => names.push(multi_name(name.as_ref()).to_string()),
    }
}

/// All plain names that an expression mentions.
pub(in super::super) fn names_in(expr: &ast::Expr, names: &mut Vec<String>) {
    match &*expr.kind {
        ExprKind::Name(name) => names.extend(name.as_plain().map(String::from)),
        ExprKind::Index { base, index, otherwise } => {
            names_in(base, names);
            index_exprs(index).into_iter().for_each(|e| names_in(e, names));
            otherwise.iter().for_each(|e| names_in(e, names));
        }
        ExprKind::Reduce(reduce) => {
            names_in(&reduce.term, names);
            reduce.filter.iter().for_each(|e| names_in(e, names));
        }
        ExprKind::If { cond, then, otherwise } => {
            names_in(cond, names);
            then.tail.iter().chain(otherwise.tail.iter()).for_each(|e| names_in(e, names));
        }
        _ => children(expr).into_iter().for_each(|e| names_in(e, names)),
    }
}
