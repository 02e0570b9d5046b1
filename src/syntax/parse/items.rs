//! Declarations and the members of modules.

use super::super::ast::{
    EntryDecl, Expr, FnDecl, Item, ItemKind, Member, MemberKind, ModelDecl, ModuleDecl, Name, Out, Param,
    PatternDecl, Place, PlaceStep, Require, Ret, StaticParam, UseDecl, WeightDecl,
};
use super::names::kind;
use super::statements::Bound;
use super::{Builder, Pair, Parts, Rule};
use crate::span::Span;
use std::sync::Arc;

impl Builder<'_> {
    pub(super) fn item(&mut self, pair: Pair<'_>, doc_start: usize) -> Item {
        let span = self.span(&pair);
        let doc = self.docs(doc_start, span.start as usize);
        let kind = match pair.as_rule() {
            Rule::use_ => ItemKind::Use(self.use_decl(pair)),
            Rule::module => ItemKind::Module(Arc::new(self.module(pair, span))),
            Rule::fn_ => ItemKind::Fn(Arc::new(self.function(pair, span))),
            Rule::pattern => ItemKind::Pattern(Arc::new(self.pattern(pair, span))),
            _ => ItemKind::Model(Arc::new(self.model(pair, span))),
        };
        Item { doc, kind, span }
    }

    fn use_decl(&mut self, pair: Pair<'_>) -> UseDecl {
        let inner = Parts::of(pair).next();
        let rule = inner.as_rule();
        let mut parts = Parts::of(inner);
        let first = parts.next();
        if rule == Rule::use_file {
            let path = self.string(&first);
            let alias = parts.take(Rule::name).map(|p| self.plain_name(p));
            return UseDecl::File { path, path_span: self.span(&first), alias };
        }
        let names =
            parts.take(Rule::use_names).map(|p| Parts::of(p).rest().map(|n| self.plain_name(n)).collect());
        UseDecl::Path { path: self.path(&first), names }
    }

    /// The words of a dotted path.
    fn path(&self, pair: &Pair<'_>) -> Vec<Name> {
        let mut start = self.span(pair).start as usize;
        let mut names = Vec::new();
        for word in pair.as_str().split('.') {
            names.push(Name::plain(word, Span::new(self.file, start, start + word.len())));
            start += word.len() + 1;
        }
        names
    }

    fn module(&mut self, pair: Pair<'_>, span: Span) -> ModuleDecl {
        let mut parts = Parts::of(pair);
        let name = self.plain_name(parts.next());
        let statics = parts
            .take(Rule::statics)
            .map(|p| Parts::of(p).rest().map(|s| self.static_param(s)).collect())
            .unwrap_or_default();
        ModuleDecl { name, statics, members: self.members(parts.next()), span }
    }

    fn static_param(&mut self, pair: Pair<'_>) -> StaticParam {
        let span = self.span(&pair);
        let mut parts = Parts::of(pair);
        let name = self.plain_name(parts.next());
        let kind = parts.take(Rule::kind).map(|p| kind(&p));
        StaticParam { name, kind, default: self.default(&mut parts), span }
    }

    /// `= e`, if it is there.
    fn default(&mut self, parts: &mut Parts<'_>) -> Option<Expr> {
        parts.take_inner(Rule::default).map(|p| self.expr(p))
    }

    fn function(&mut self, pair: Pair<'_>, span: Span) -> FnDecl {
        let mut parts = Parts::of(pair);
        let name = self.plain_name(parts.next());
        let params = self.params(parts.next());
        let ret = parts.take(Rule::ret).map(|p| self.ret(p));
        FnDecl { name, params, ret, body: self.body(parts.next()), span }
    }

    fn params(&mut self, pair: Pair<'_>) -> Vec<Param> {
        Parts::of(pair).rest().map(|p| self.param(p)).collect()
    }

    fn param(&mut self, pair: Pair<'_>) -> Param {
        let span = self.span(&pair);
        let mut parts = Parts::of(pair);
        let name = self.plain_name(parts.next());
        let ty = parts.take(Rule::type_).map(|p| self.type_(p));
        Param { name, ty, default: self.default(&mut parts), span }
    }

    fn ret(&mut self, pair: Pair<'_>) -> Ret {
        let span = self.span(&pair);
        let outs: Vec<Out> = Parts::of(pair).rest().map(|p| self.out(p)).collect();
        // The rule begins at the arrow, which is no part of the type.
        let start = outs.first().map_or(span.start, |o| o.span.start);
        Ret { outs, span: Span { start, ..span } }
    }

    fn out(&mut self, pair: Pair<'_>) -> Out {
        let span = self.span(&pair);
        let mut parts = Parts::of(pair);
        let name = parts.take(Rule::name).map(|p| self.plain_name(p));
        Out { name, ty: self.type_(parts.next()), span }
    }

    fn pattern(&mut self, pair: Pair<'_>, span: Span) -> PatternDecl {
        let mut parts = Parts::of(pair);
        let name = self.plain_name(parts.next());
        let params = parts.take(Rule::params).map(|p| self.params(p)).unwrap_or_default();
        let indices = Parts::of(parts.next()).rest().map(|p| self.plain_name(p)).collect();
        PatternDecl { name, params, indices, body: self.body(parts.next()), span }
    }

    fn model(&mut self, pair: Pair<'_>, span: Span) -> ModelDecl {
        let mut parts = Parts::of(pair);
        ModelDecl { name: self.plain_name(parts.next()), value: self.expr(parts.next()), span }
    }

    fn members(&mut self, pair: Pair<'_>) -> Vec<Member> {
        let mut end = self.span(&pair).start as usize;
        let mut members = Vec::new();
        for pair in Parts::of(pair).rest() {
            let span = self.span(&pair);
            let doc = self.docs(end, span.start as usize);
            end = span.end as usize;
            members.push(Member { doc, kind: self.member(pair, span), span });
        }
        members
    }

    fn member(&mut self, pair: Pair<'_>, span: Span) -> MemberKind {
        let rule = pair.as_rule();
        match rule {
            Rule::require => return MemberKind::Require(self.require(pair)),
            Rule::let_ => {
                return match self.let_(pair) {
                    Bound::Let(bound) => MemberKind::Let(bound),
                    Bound::Define(definition) => MemberKind::Define(definition),
                };
            }
            Rule::entry => return MemberKind::Entry(Arc::new(self.entry(pair, span))),
            Rule::member_if => return self.member_if(pair, span),
            _ => {}
        }
        let mut parts = Parts::of(pair);
        match rule {
            Rule::param => MemberKind::Param(self.weight(parts.next())),
            Rule::buffer => MemberKind::Buffer(self.weight(parts.next())),
            Rule::tie => {
                let (left, right) = (self.place(parts.next()), self.place(parts.next()));
                MemberKind::Tie { left, right, when: self.when(&mut parts) }
            }
            Rule::member_for => {
                let (pat, range) = (self.pat(parts.next()), self.range(parts.next()));
                MemberKind::For { pat, range, members: Arc::new(self.members(parts.next())) }
            }
            _ => {
                let flat = parts.take(Rule::flat).is_some();
                let (name, value) = (self.name(parts.next()), self.expr(parts.next()));
                MemberKind::Sub { flat, name, value, when: self.when(&mut parts) }
            }
        }
    }

    fn when(&mut self, parts: &mut Parts<'_>) -> Option<Expr> {
        parts.take_inner(Rule::when).map(|p| self.expr(p))
    }

    fn weight(&mut self, pair: Pair<'_>) -> WeightDecl {
        let mut parts = Parts::of(pair);
        let (name, ty) = (self.name(parts.next()), self.tensor(parts.next()));
        let init = self.default(&mut parts);
        WeightDecl { name, ty, init, when: self.when(&mut parts) }
    }

    fn place(&mut self, pair: Pair<'_>) -> Place {
        let span = self.span(&pair);
        let mut parts = Parts::of(pair);
        let name = self.name(parts.next());
        let steps = parts
            .rest()
            .map(|p| match p.as_rule() {
                Rule::place_index => {
                    let number = Parts::of(p).next();
                    let span = self.span(&number);
                    PlaceStep::Index(self.int(number.as_str(), span), span)
                }
                _ => PlaceStep::Field(self.name(p)),
            })
            .collect();
        Place { name, steps, span }
    }

    pub(super) fn require(&mut self, pair: Pair<'_>) -> Require {
        let mut parts = Parts::of(pair);
        let cond = self.expr(parts.next());
        Require { cond, message: parts.take(Rule::str).map(|p| self.string(&p)) }
    }

    fn entry(&mut self, pair: Pair<'_>, span: Span) -> EntryDecl {
        let start = span.start as usize;
        let mut parts = Parts::of(pair);
        let name = match parts.take(Rule::name) {
            Some(name) => self.plain_name(name),
            None => Name::plain("forward", Span::new(self.file, start, start + "forward".len())),
        };
        let params = self.params(parts.next());
        let ret = parts.take(Rule::ret).map(|p| self.ret(p));
        EntryDecl { name, params, ret, body: self.body(parts.next()), span }
    }

    fn member_if(&mut self, pair: Pair<'_>, span: Span) -> MemberKind {
        let mut parts: Vec<Pair<'_>> = Parts::of(pair).rest().collect();
        if !self.holds_arms(parts.len() / 2, span) {
            parts.truncate(2);
        }
        let mut arms = Vec::new();
        let mut otherwise = None;
        let mut rest = parts.into_iter();
        while let Some(first) = rest.next() {
            match rest.next() {
                Some(members) => {
                    let start = self.span(&first);
                    arms.push((self.expr(first), Arc::new(self.members(members)), start));
                }
                None => otherwise = Some(Arc::new(self.members(first))),
            }
        }
        let mut made = None;
        for (cond, then, start) in arms.into_iter().rev() {
            if let Some(inner) = made.take() {
                let (kind, start) = inner;
                let span = Span { end: span.end, ..start };
                otherwise = Some(Arc::new(vec![Member { doc: Vec::new(), kind, span }]));
            }
            made = Some((MemberKind::If { cond, then, otherwise: otherwise.take() }, start));
        }
        made.expect("invariant: an `if` has a condition").0
    }
}
