//! Names, words, patterns, types and what binds indices.

use super::super::ast::{
    Axis, AxisKind, Bind, BindKind, Kind, Name, NamePart, Pat, PatKind, Range, TensorType, Type, TypeKind,
};
use super::{Builder, Pair, Parts, Rule};
use crate::diag::Diagnostic;
use crate::dtype::DType;
use std::sync::Arc;

impl Builder<'_> {
    /// A name that may have holes.
    pub(super) fn name(&mut self, pair: Pair<'_>) -> Name {
        let span = self.span(&pair);
        let inner = Parts::of(pair).next();
        if inner.as_rule() == Rule::plain {
            return Name::plain(inner.as_str(), span);
        }
        let parts: Vec<NamePart> = Parts::of(inner)
            .rest()
            .map(|part| match part.as_rule() {
                Rule::hole => NamePart::Hole(self.only_expr(part)),
                _ => NamePart::Text(part.as_str().to_owned()),
            })
            .collect();
        Name { parts: Arc::from(parts), quoted: true, span }
    }

    /// A name without holes.
    pub(super) fn plain_name(&mut self, pair: Pair<'_>) -> Name {
        let name = self.name(pair);
        if name.as_plain().is_none() {
            self.error_with_help(
                name.span,
                "a name with `{…}` cannot stand here",
                "only members, sequences of a `recur` and what follows `self.` have computed names",
            );
        }
        name
    }

    /// The name of `..name`, if it has one.
    pub(super) fn multi(&self, pair: &Pair<'_>) -> Option<Name> {
        let mut span = self.span(pair);
        span.start += 2;
        pair.as_str().strip_prefix("..").filter(|n| !n.is_empty()).map(|n| Name::plain(n, span))
    }

    pub(super) fn pat(&mut self, pair: Pair<'_>) -> Pat {
        let span = self.span(&pair);
        match pair.as_rule() {
            Rule::pat => {
                let inner = Parts::of(pair).next();
                self.pat(inner)
            }
            Rule::tuple_pat => {
                let names = Parts::of(pair).rest().map(|p| self.plain_name(p)).collect();
                Pat { kind: PatKind::Tuple(names), span }
            }
            _ => Pat { kind: PatKind::Name(self.plain_name(pair)), span },
        }
    }

    pub(super) fn range(&mut self, pair: Pair<'_>) -> Range {
        let span = self.span(&pair);
        let mut parts = Parts::of(pair);
        let start = self.expr(parts.next());
        let end = parts.take_inner(Rule::range_end).map(|p| self.expr(p));
        Range { start, end, span }
    }

    pub(super) fn type_(&mut self, pair: Pair<'_>) -> Type {
        let span = self.span(&pair);
        let inner = Parts::of(pair).next();
        let kind = match inner.as_rule() {
            Rule::tensor => TypeKind::Tensor(self.tensor(inner)),
            _ => TypeKind::Kind(kind(&inner)),
        };
        Type { kind, span }
    }

    pub(super) fn tensor(&mut self, pair: Pair<'_>) -> TensorType {
        let span = self.span(&pair);
        let mut parts = Parts::of(pair);
        let dtype = parts.take(Rule::dtype).and_then(|p| DType::from_name(p.as_str())).unwrap_or(DType::F32);
        let axes = Parts::of(parts.next()).rest().map(|p| self.axis(p)).collect();
        TensorType { dtype, axes, span }
    }

    fn axis(&mut self, pair: Pair<'_>) -> Axis {
        let span = self.span(&pair);
        let inner = Parts::of(pair).next();
        match inner.as_rule() {
            Rule::multi => Axis { kind: AxisKind::Multi(self.multi(&inner)), span },
            _ => self.dimension(inner),
        }
    }

    /// A dimension, or a group of them, written as an expression.
    fn dimension(&mut self, pair: Pair<'_>) -> Axis {
        let span = self.span(&pair);
        let Some(elements) = as_group(&pair) else {
            return Axis { kind: AxisKind::Dim(self.expr(pair)), span };
        };
        let mut axes = Vec::with_capacity(elements.len());
        for element in elements {
            let mut parts = Parts::of(element);
            axes.push(self.dimension(parts.next()));
            if let Some(extra) = parts.rest().next() {
                let span = self.span(&extra);
                self.error(span, "a group of axes holds dimensions only");
            }
        }
        Axis { kind: AxisKind::Group(axes), span }
    }

    pub(super) fn bind(&mut self, pair: Pair<'_>) -> Bind {
        let span = self.span(&pair);
        let mut parts = Parts::of(pair);
        let first = parts.next();
        let kind = match first.as_rule() {
            Rule::multi => BindKind::Multi(self.multi(&first)),
            Rule::ixgroup => BindKind::Group(Parts::of(first).rest().map(|p| self.bind(p)).collect()),
            _ => {
                let name = self.plain_name(first);
                let extent = parts.take_inner(Rule::extent).map(|p| self.expr(p));
                BindKind::Index { name, extent }
            }
        };
        Bind { kind, span }
    }

    /// The text of a string, escapes resolved.
    pub(super) fn string(&mut self, pair: &Pair<'_>) -> String {
        let span = self.span(pair);
        let quoted = pair.as_str();
        let inner = quoted.get(1..quoted.len() - 1).unwrap_or("");
        let mut text = String::with_capacity(inner.len());
        let mut chars = inner.chars();
        while let Some(c) = chars.next() {
            if c != '\\' {
                text.push(c);
                continue;
            }
            match chars.next() {
                Some('n') => text.push('\n'),
                Some('t') => text.push('\t'),
                Some(c @ ('"' | '\\')) => text.push(c),
                other => self.errors.push(
                    Diagnostic::error("bad-escape", format!("unknown escape `\\{}`", other.unwrap_or(' ')))
                        .at(span, "")
                        .help("the escapes are `\\\"`, `\\\\`, `\\n` and `\\t`"),
                ),
            }
        }
        text
    }
}

/// The static kind that a word names.
pub(super) fn kind(pair: &Pair<'_>) -> Kind {
    match pair.as_str() {
        "float" => Kind::Float,
        "bool" => Kind::Bool,
        "str" => Kind::Str,
        "list" => Kind::List,
        "fn" => Kind::Fn,
        "module" => Kind::Module,
        "pattern" => Kind::Pattern,
        _ => Kind::Int,
    }
}

/// The elements of an expression that is nothing but parentheses with two parts or more, so that it
/// is a group where an axis or an index stands.
pub(super) fn as_group<'t>(pair: &Pair<'t>) -> Option<Vec<Pair<'t>>> {
    let mut pair = pair.clone();
    loop {
        let parens = only_child(&only_child(&pair)?).filter(|p| p.as_rule() == Rule::parens)?;
        let elements: Vec<Pair<'t>> = parens.into_inner().collect();
        match &elements[..] {
            [_, trailing] if trailing.as_rule() == Rule::trailing => return None,
            [one] => pair = only_child(one)?,
            _ => return Some(elements.into_iter().filter(|p| p.as_rule() == Rule::element).collect()),
        }
    }
}

/// The child of a pair that has one only.
pub(super) fn only_child<'t>(pair: &Pair<'t>) -> Option<Pair<'t>> {
    let mut inner = pair.clone().into_inner();
    let first = inner.next()?;
    inner.next().is_none().then_some(first)
}
