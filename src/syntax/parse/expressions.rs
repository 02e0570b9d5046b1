//! Operands: literals, reads, calls, lists, tuples and reducers' heads.

use super::super::ast::{
    Arg, Expr, ExprKind, GroupPart, GroupPartKind, Ix, IxKind, Name, NamePart, Reduce, Reducer,
};
use super::super::scan::{MAX_NESTING, too_deep};
use super::names::as_group;
use super::{Builder, Pair, Parts, Rule};
use crate::diag::Diagnostic;
use crate::span::Span;
use crate::syntax::MAX_TREE_DEPTH;

impl Builder<'_> {
    /// The one expression in a pair.
    pub(super) fn only_expr(&mut self, pair: Pair<'_>) -> Expr {
        self.expr(Parts::of(pair).next())
    }

    /// Whether a chain of `else if` is short enough to build; reports it if not.
    pub(super) fn holds_arms(&mut self, arms: usize, span: Span) -> bool {
        let holds = arms <= MAX_NESTING;
        if !holds {
            self.errors.push(too_deep(span, "`else if` follow each other"));
        }
        holds
    }

    /// An operand with the calls, reads and fields behind it.
    pub(super) fn postfix(&mut self, pair: Pair<'_>) -> Expr {
        let whole = self.span(&pair);
        let mut parts = Parts::of(pair);
        let first = parts.next();
        let start = self.span(&first);
        let rest: Vec<Pair<'_>> = parts.rest().collect();
        let outer = self.depth;
        self.depth += rest.len();
        if self.depth > MAX_TREE_DEPTH {
            self.depth = outer;
            return self.too_long(whole);
        }
        let mut value = self.primary(first);
        for pair in rest {
            let span = start.to(self.span(&pair));
            let kind = match pair.as_rule() {
                Rule::call => ExprKind::Call { callee: value, args: self.arguments(pair) },
                Rule::index => {
                    let (index, otherwise) = self.index(pair);
                    ExprKind::Index { base: value, index, otherwise }
                }
                _ => ExprKind::Field { base: value, name: self.name(Parts::of(pair).next()) },
            };
            value = Expr::new(kind, span);
        }
        self.depth = outer;
        value
    }

    fn primary(&mut self, pair: Pair<'_>) -> Expr {
        let span = self.span(&pair);
        let kind = match pair.as_rule() {
            Rule::num => self.number(pair.as_str(), span),
            Rule::str => ExprKind::Str(self.string(&pair)),
            Rule::if_ => return self.if_value(pair),
            Rule::list => self.list(pair),
            Rule::parens => return self.parens(pair, span),
            Rule::true_ => ExprKind::Bool(true),
            Rule::false_ => ExprKind::Bool(false),
            Rule::self_ => ExprKind::SelfRef,
            _ => ExprKind::Name(self.name(pair)),
        };
        Expr::new(kind, span)
    }

    fn number(&mut self, text: &str, span: Span) -> ExprKind {
        if text.bytes().all(|b| b.is_ascii_digit()) {
            return ExprKind::Int(self.int(text, span));
        }
        match text.parse::<f64>() {
            Ok(value) if value.is_finite() => ExprKind::Float(value),
            _ => {
                self.errors.push(
                    Diagnostic::error("bad-number", format!("{text} is larger than any number"))
                        .at(span, "")
                        .help("`inf` is a constant"),
                );
                ExprKind::Float(0.0)
            }
        }
    }

    pub(super) fn int(&mut self, text: &str, span: Span) -> i64 {
        text.parse().unwrap_or_else(|_| {
            let title = format!("{text} is not a whole number from 0 to {}", i64::MAX);
            self.errors.push(Diagnostic::error("bad-number", title).at(span, ""));
            0
        })
    }

    fn list(&mut self, pair: Pair<'_>) -> ExprKind {
        let mut parts = Parts::of(pair);
        if let Some(inner) = parts.take(Rule::comprehension) {
            let mut parts = Parts::of(inner);
            let (pat, range) = (self.pat(parts.next()), self.range(parts.next()));
            return ExprKind::Comprehension { pat, range, value: self.expr(parts.next()) };
        }
        let mut values = Vec::new();
        for part in parts.rest() {
            if part.as_rule() != Rule::count {
                values.push(self.expr(part));
            } else if let Some(value) = values.pop() {
                return ExprKind::Repeat { value, count: self.only_expr(part) };
            }
        }
        ExprKind::List(values)
    }

    /// Parentheses: a tuple, or nothing but grouping.
    fn parens(&mut self, pair: Pair<'_>, span: Span) -> Expr {
        let mut elements = Vec::new();
        let mut trailing = false;
        for part in Parts::of(pair).rest() {
            if part.as_rule() == Rule::trailing {
                trailing = true;
                continue;
            }
            let mut parts = Parts::of(part);
            let value = parts.next();
            elements.push(match parts.rest().next() {
                Some(extent) if extent.as_rule() == Rule::extent => {
                    let span = self.span(&extent);
                    self.error_with_help(
                        span,
                        "an extent cannot stand here",
                        "a group `(h: 8, d)` is a whole index of a read; a tuple names an element with `=`",
                    );
                    Arg { name: None, value: self.expr(value) }
                }
                named => self.argument(value, named),
            });
        }
        match &elements[..] {
            [Arg { name: None, value }] if !trailing => value.clone(),
            _ => Expr::new(ExprKind::Tuple(elements), span),
        }
    }

    fn arguments(&mut self, pair: Pair<'_>) -> Vec<Arg> {
        let mut args: Vec<Arg> = Vec::new();
        for part in Parts::of(pair).rest() {
            let mut parts = Parts::of(part);
            let value = parts.next();
            let arg = self.argument(value, parts.rest().next());
            if arg.name.is_none() && args.last().is_some_and(|a| a.name.is_some()) {
                self.error_with_help(
                    arg.value.span,
                    "a positional argument cannot follow a named one",
                    "name this one too, or move it forward",
                );
            }
            args.push(arg);
        }
        args
    }

    /// `value`, or `name = value` where the first part is the name.
    fn argument(&mut self, first: Pair<'_>, named: Option<Pair<'_>>) -> Arg {
        let span = self.span(&first);
        let first = self.expr(first);
        let Some(named) = named else { return Arg { name: None, value: first } };
        let value = self.only_expr(named);
        match &*first.kind {
            ExprKind::Name(name) if name.as_plain().is_some() && first.span == span => {
                Arg { name: Some(name.clone()), value }
            }
            _ => {
                self.error_with_help(span, "only a name can stand left of `=` here", "`==` compares");
                Arg { name: None, value }
            }
        }
    }

    /// The indices of a read, and what holds outside.
    pub(super) fn index(&mut self, pair: Pair<'_>) -> (Vec<Ix>, Option<Expr>) {
        let mut index = Vec::new();
        let mut otherwise = None;
        for part in Parts::of(pair).rest() {
            match part.as_rule() {
                Rule::otherwise => otherwise = Some(self.only_expr(part)),
                _ => index.push(self.ix(part)),
            }
        }
        (index, otherwise)
    }

    fn ix(&mut self, pair: Pair<'_>) -> Ix {
        let span = self.span(&pair);
        let mut parts = Parts::of(pair);
        let first = parts.next();
        let kind = match first.as_rule() {
            Rule::multi => IxKind::Multi(self.multi(&first)),
            Rule::full => IxKind::Full,
            _ => match (as_group(&first), parts.take_inner(Rule::range_end)) {
                (Some(elements), None) => IxKind::Group(self.group(elements)),
                (_, None) => IxKind::Index(self.expr(first)),
                (_, Some(end)) => IxKind::Range(self.expr(first), self.expr(end)),
            },
        };
        Ix { kind, span }
    }

    fn group(&mut self, elements: Vec<Pair<'_>>) -> Vec<GroupPart> {
        elements.into_iter().map(|e| self.group_part(e)).collect()
    }

    fn group_part(&mut self, pair: Pair<'_>) -> GroupPart {
        let span = self.span(&pair);
        let mut parts = Parts::of(pair);
        let value = parts.next();
        let extra = parts.rest().next();
        if let Some(named) = extra.as_ref().filter(|p| p.as_rule() == Rule::named) {
            let span = self.span(named);
            self.error_with_help(
                span,
                "`=` cannot stand in an index",
                "`:` gives a part its extent: `(h: 8, d)`",
            );
        }
        let kind = match (as_group(&value), extra.filter(|p| p.as_rule() == Rule::extent)) {
            (Some(elements), None) => GroupPartKind::Group(self.group(elements)),
            (_, None) => GroupPartKind::Index(self.expr(value)),
            (_, Some(extent)) => {
                let value = self.expr(value);
                let extent = self.only_expr(extent);
                GroupPartKind::Sized(self.index_name(&value), extent)
            }
        };
        GroupPart { kind, span }
    }

    /// The index whose extent is given.
    fn index_name(&mut self, value: &Expr) -> Name {
        match &*value.kind {
            ExprKind::Name(name) if name.as_plain().is_some() => name.clone(),
            _ => {
                self.error(value.span, "only an index can be given an extent");
                Name { parts: [NamePart::Text(String::new())].into(), quoted: true, span: value.span }
            }
        }
    }

    /// What a reducer's head says; it wants its term.
    pub(super) fn reducer(&mut self, pair: Pair<'_>) -> Box<dyn FnOnce(Expr) -> Reduce> {
        let mut parts = Parts::of(pair);
        let word = parts.next();
        let reducer_span = self.span(&word);
        let reducer = Reducer::ALL.into_iter().find(|r| r.name() == word.as_str()).unwrap_or(Reducer::Sum);
        let (mut binds, mut filter, mut otherwise) = (Vec::new(), None, None);
        for part in Parts::of(parts.next()).rest() {
            match part.as_rule() {
                Rule::where_ => filter = Some(self.only_expr(part)),
                Rule::otherwise => otherwise = Some(self.only_expr(part)),
                _ => binds.push(self.bind(part)),
            }
        }
        Box::new(move |term| Reduce { reducer, reducer_span, binds, filter, otherwise, term })
    }
}
