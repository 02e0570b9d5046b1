//! Blocks and statements.
//!
//! A line is an expression, or an expression with `= e` behind it: here it becomes a tail, a
//! rebinding or a sequence, by what it looks like and where it stands.

use super::super::ast::{
    Block, Expr, ExprKind, IndexDef, IxKind, Let, Name, Pat, PatKind, Recur, SequenceRead, Stmt, StmtKind,
};
use super::names::only_child;
use super::{Builder, Pair, Parts, Rule};
use crate::span::Span;
use std::sync::Arc;

/// What a block is for, which decides what may stand in it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// It has a value: a body, or a branch of an `if` that is used as one.
    Value,
    /// It belongs to a `for` or an `if` statement.
    Statement,
    /// It belongs to a `recur`, directly or through such statements.
    Recur,
}

/// A `let`, in one of its two forms.
pub(super) enum Bound {
    Let(Let),
    Define(IndexDef),
}

/// What stands left of `=`.
enum Target {
    Pat(Pat),
    Sequence { targets: Vec<SequenceRead>, tuple: bool },
}

/// One part of a left side.
enum Part {
    Name(Name),
    Read(SequenceRead),
}

impl Builder<'_> {
    pub(super) fn body(&mut self, pair: Pair<'_>) -> Arc<Block> {
        let inner = Parts::of(pair).next();
        if inner.as_rule() == Rule::block {
            return Arc::new(self.block(inner, Place::Value));
        }
        let tail = self.expr(inner);
        let span = tail.span;
        Arc::new(Block { stmts: Vec::new(), tail: Some(tail), span })
    }

    pub(super) fn block(&mut self, pair: Pair<'_>, place: Place) -> Block {
        let span = self.span(&pair);
        let mut block = Block { stmts: Vec::new(), tail: None, span };
        let mut lines = Parts::of(pair).rest().peekable();
        while let Some(pair) = lines.next() {
            let last = lines.peek().is_none();
            if pair.as_rule() == Rule::line && pair.as_str().is_empty() {
                continue;
            }
            let span = self.span(&pair);
            match self.statement(pair, place, last) {
                Line::Stmt(kind) => block.stmts.push(Stmt { kind, span }),
                Line::Tail(value) => block.tail = Some(value),
            }
        }
        block
    }

    fn statement(&mut self, pair: Pair<'_>, place: Place, last: bool) -> Line {
        let rule = pair.as_rule();
        Line::Stmt(match rule {
            Rule::let_ => match self.let_(pair) {
                Bound::Let(bound) => StmtKind::Let(bound),
                Bound::Define(definition) => StmtKind::Define(definition),
            },
            Rule::require => StmtKind::Require(self.require(pair)),
            Rule::recur => StmtKind::Recur(self.recur(pair)),
            Rule::init => self.init(pair, place),
            Rule::for_ => {
                let mut parts = Parts::of(pair);
                let (pat, range) = (self.pat(parts.next()), self.range(parts.next()));
                let body = Arc::new(self.block(parts.next(), place.of_statement()));
                StmtKind::For { pat, range, body }
            }
            _ => return self.line(pair, place, last),
        })
    }

    pub(super) fn let_(&mut self, pair: Pair<'_>) -> Bound {
        let mut parts = Parts::of(pair);
        let head = parts.next();
        let head_span = self.span(&head);
        let mut binds = None;
        let pat = if head.as_rule() == Rule::ixhead {
            let mut head = Parts::of(head);
            let name = self.plain_name(head.next());
            binds = head.take(Rule::ixbinds).map(|p| Parts::of(p).rest().map(|b| self.bind(b)).collect());
            Pat { kind: PatKind::Name(name), span: head_span }
        } else {
            self.pat(head)
        };
        let annotation = parts.take(Rule::annotation);
        let annotated = annotation.as_ref().map(|p| self.span(p));
        let ty = annotation.map(|p| self.type_(Parts::of(p).next()));
        let value = self.expr(parts.next());
        match (binds, pat) {
            (Some(binds), Pat { kind: PatKind::Name(name), .. }) => {
                if let Some(span) = annotated {
                    self.error_with_help(
                        span,
                        "a definition in index notation has no type",
                        "its axes are the indices, its element type is that of its value",
                    );
                }
                Bound::Define(IndexDef { name, binds, value })
            }
            (_, pat) => Bound::Let(Let { pat, ty, value }),
        }
    }

    fn recur(&mut self, pair: Pair<'_>) -> Recur {
        let mut parts = Parts::of(pair);
        let (index, range) = (self.plain_name(parts.next()), self.range(parts.next()));
        let by = parts.take_inner(Rule::by).map(|p| self.expr(p));
        Recur { index, range, by, body: Arc::new(self.block(parts.next(), Place::Recur)) }
    }

    fn init(&mut self, pair: Pair<'_>, place: Place) -> StmtKind {
        let span = self.span(&pair);
        if place != Place::Recur {
            self.error(span, "`init` stands in a `recur` only");
        }
        let mut parts = Parts::of(pair);
        let left = parts.next();
        let left_span = self.span(&left);
        let target = match self.target_part(left) {
            Some(Part::Read(read)) => read,
            _ => {
                self.error_with_help(
                    left_span,
                    "`init` wants a sequence at the position before its first",
                    "write it with its axes: `init h[:, t - 1] = h0`",
                );
                SequenceRead { name: Name::plain("", left_span), index: Vec::new(), span: left_span }
            }
        };
        let ty = parts.take_inner(Rule::annotation).map(|p| self.type_(p));
        StmtKind::Init { target, ty, value: self.expr(parts.next()) }
    }

    fn line(&mut self, pair: Pair<'_>, place: Place, last: bool) -> Line {
        let span = self.span(&pair);
        let mut parts = Parts::of(pair);
        let left = parts.next();
        if let Some(value) = parts.0.next() {
            let target = self.target(left);
            let value = self.expr(value);
            return Line::Stmt(match target {
                Target::Pat(pat) => StmtKind::Assign { pat, value },
                Target::Sequence { targets, tuple } => {
                    if place != Place::Recur {
                        self.error_with_help(
                            span,
                            "only the lines of a `recur` define a sequence",
                            "outside, a tensor is defined in index notation with `let`, and no element is changed later",
                        );
                    }
                    StmtKind::Sequence { targets, tuple, value }
                }
            });
        }
        if let Some(branches) = if_alone(&left) {
            return self.if_line(branches, place, last);
        }
        let value = self.expr(left);
        if place != Place::Value || !last {
            self.unused(value.span, place);
        }
        Line::Tail(value)
    }

    /// A value on a line where none is wanted.
    fn unused(&mut self, span: Span, place: Place) {
        let comment = self.text[..span.start as usize].rsplit('\n').next().is_some_and(|l| l.contains("//"));
        let help = if comment {
            "`#` begins a comment; `//` is floor division"
        } else if &self.text[span.start as usize..span.end as usize] == "return" {
            "there is no `return`: the last line of a block is its value"
        } else if place == Place::Value {
            "only the last line of a block is its value; `let name = …` names one"
        } else {
            "the block of a `for`, `recur` or `if` statement has no value; `x = …` gives an existing name a new one"
        };
        self.error_with_help(span, "the value of this line is not used", help);
    }

    /// An `if` that is a whole line: the block's value if its branches have one, else a statement.
    fn if_line(&mut self, pair: Pair<'_>, place: Place, last: bool) -> Line {
        let first = branches(&pair).next();
        let valued = last && place == Place::Value && first.is_some_and(|b| has_tail(&b));
        if valued {
            return Line::Tail(self.if_value(pair));
        }
        let span = self.span(&pair);
        let arms = self.arms(pair, place.of_statement());
        let (mut made, mut otherwise) = (None, arms.otherwise);
        for (cond, then, start) in arms.arms.into_iter().rev() {
            if let Some(kind) = made.take() {
                let (kind, start): (StmtKind, Span) = kind;
                let span = Span { end: span.end, ..start };
                otherwise = Some(Arc::new(Block { stmts: vec![Stmt { kind, span }], tail: None, span }));
            }
            made = Some((StmtKind::If { cond, then, otherwise: otherwise.take() }, start));
        }
        Line::Stmt(made.expect("invariant: an `if` has a condition").0)
    }

    /// An `if` that is used as a value.
    pub(super) fn if_value(&mut self, pair: Pair<'_>) -> Expr {
        let span = self.span(&pair);
        let arms = self.arms(pair, Place::Value);
        let missing = arms.arms.iter().map(|(_, b, _)| b).chain(&arms.otherwise).find(|b| b.tail.is_none());
        if let Some(block) = missing {
            let span = block.span;
            self.error(span, "this branch has no value, but the `if` is used as one");
        }
        let Some(mut otherwise) = arms.otherwise else {
            self.error_with_help(
                span,
                "an `if` that is used as a value has an `else`",
                "write the value where the condition does not hold: `if c { a } else { b }`",
            );
            return Expr::new(ExprKind::Bool(false), span);
        };
        let mut made = None;
        for (cond, then, start) in arms.arms.into_iter().rev() {
            if let Some(tail) = made.take() {
                let tail: Expr = tail;
                let span = tail.span;
                otherwise = Arc::new(Block { stmts: Vec::new(), tail: Some(tail), span });
            }
            let kind = ExprKind::If { cond, then, otherwise: otherwise.clone() };
            made = Some(Expr::new(kind, Span { end: span.end, ..start }));
        }
        made.expect("invariant: an `if` has a condition")
    }

    /// Conditions with their blocks, and the block of the `else`.
    fn arms(&mut self, pair: Pair<'_>, place: Place) -> Arms {
        let span = self.span(&pair);
        let mut arms = Arms { arms: Vec::new(), otherwise: None };
        let mut start = span;
        let mut parts: Vec<Pair<'_>> = pair.into_inner().collect();
        let levels = parts.iter().filter(|p| p.as_rule() == Rule::kw_if).count();
        if !self.holds_arms(levels, span) {
            parts.truncate(3);
        }
        self.depth += levels;
        let mut cond = None;
        for part in parts {
            match part.as_rule() {
                Rule::kw_if => start = self.span(&part),
                Rule::expr => cond = Some(self.expr(part)),
                Rule::block => {
                    let block = Arc::new(self.block(part, place));
                    match cond.take() {
                        Some(cond) => arms.arms.push((cond, block, start)),
                        None => arms.otherwise = Some(block),
                    }
                }
                _ => {}
            }
        }
        self.depth -= levels;
        arms
    }

    fn target(&mut self, pair: Pair<'_>) -> Target {
        let span = self.span(&pair);
        let Some(postfix) = only_child(&pair) else {
            self.not_a_target(span);
            return Target::Pat(Pat { kind: PatKind::Tuple(Vec::new()), span });
        };
        let elements = only_child(&postfix).filter(|p| p.as_rule() == Rule::parens);
        let tuple = elements.is_some();
        let parts: Vec<Pair<'_>> = match elements {
            Some(parens) => parens.into_inner().filter(|p| p.as_rule() == Rule::element).collect(),
            None => vec![pair],
        };
        let (mut names, mut targets) = (Vec::new(), Vec::new());
        for part in parts {
            let part_span = self.span(&part);
            let part = if tuple { only_child(&part) } else { Some(part) };
            match part.and_then(|p| only_child(&p)).and_then(|p| self.target_part(p)) {
                Some(Part::Name(name)) => names.push(name),
                Some(Part::Read(read)) => targets.push(read),
                None => self.not_a_target(part_span),
            }
        }
        if !names.is_empty() && !targets.is_empty() {
            self.error_with_help(
                span,
                "a line defines sequences or rebinds names, not both",
                "take the tuple apart with `let`, then define the sequence on a line of its own",
            );
        }
        if !targets.is_empty() {
            return Target::Sequence { targets, tuple };
        }
        for name in names.iter().filter(|n| n.as_plain().is_none()) {
            self.errors.push(
                crate::diag::Diagnostic::error("syntax", "a name with `{…}` cannot be rebound")
                    .at(name.span, ""),
            );
        }
        match (tuple, names.pop()) {
            (false, Some(name)) => Target::Pat(Pat { kind: PatKind::Name(name), span }),
            (_, last) => {
                names.extend(last);
                Target::Pat(Pat { kind: PatKind::Tuple(names), span })
            }
        }
    }

    fn not_a_target(&mut self, span: Span) {
        self.error_with_help(
            span,
            "this cannot stand left of `=`",
            "`=` rebinds a name, `(a, b)`, or in a `recur` defines `h[:, t]`; `==` compares",
        );
    }

    /// A name, or a name with axes.
    fn target_part(&mut self, postfix: Pair<'_>) -> Option<Part> {
        let span = self.span(&postfix);
        if postfix.as_rule() != Rule::postfix {
            return None;
        }
        let mut parts = Parts::of(postfix);
        let name = self.name(parts.take(Rule::name)?);
        let Some(index) = parts.take(Rule::index) else {
            return parts.rest().next().is_none().then_some(Part::Name(name));
        };
        if parts.rest().next().is_some() {
            return None;
        }
        let (index, otherwise) = self.index(index);
        if let Some(otherwise) = otherwise {
            self.error(otherwise.span, "the left side of `=` has no `else`");
        }
        if index.iter().any(|ix| matches!(ix.kind, IxKind::Range(..))) {
            self.error(span, "a line of a `recur` defines one position, not a range of them");
        }
        Some(Part::Read(SequenceRead { name, index, span }))
    }
}

/// What a line turned out to be.
enum Line {
    Stmt(StmtKind),
    Tail(Expr),
}

/// The parts of an `if`.
struct Arms {
    arms: Vec<(Expr, Arc<Block>, Span)>,
    otherwise: Option<Arc<Block>>,
}

impl Place {
    /// The place of blocks of statements within.
    fn of_statement(self) -> Place {
        if self == Place::Recur { Place::Recur } else { Place::Statement }
    }
}

/// The `if` that is all of an expression.
fn if_alone<'t>(expr: &Pair<'t>) -> Option<Pair<'t>> {
    only_child(&only_child(expr)?).filter(|p| p.as_rule() == Rule::if_)
}

fn branches<'t>(if_: &Pair<'t>) -> impl Iterator<Item = Pair<'t>> {
    if_.clone().into_inner().filter(|p| p.as_rule() == Rule::block)
}

/// Whether a block ends in a value.
fn has_tail(block: &Pair<'_>) -> bool {
    let mut block = block.clone();
    loop {
        let Some(last) = block.into_inner().last().filter(|p| p.as_rule() == Rule::line) else {
            return false;
        };
        let mut parts = Parts::of(last);
        let value = parts.next();
        if parts.rest().next().is_some() {
            return false;
        }
        // An `if` that ends the block has a value where its own branches do.
        match if_alone(&value) {
            None => return true,
            Some(inner) => match branches(&inner).next() {
                Some(first) => block = first,
                None => return false,
            },
        }
    }
}
