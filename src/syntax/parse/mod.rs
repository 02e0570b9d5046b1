//! From text to tree.
//!
//! Takes the text of a file, gives an [`ast::File`] or all syntax errors found, at most
//! [`MAX_ERRORS`]. Each declaration is parsed by itself, so an error in one does not hide those in
//! the next. Only this module and those below it know the parser generator.
//!
//! The generated parser recurses, and so does the builder: the scan bounds the nesting before
//! either runs, and both run on threads whose stacks are known to hold that depth.

mod errors;
mod expressions;
mod items;
mod names;
mod operators;
mod statements;

use super::ast;
use super::scan::{self, Comment, Scan, Stretch};
use crate::diag::{Diagnostic, Fault};
use crate::span::{FileId, Span};
use pest::Parser as _;
use pest::error::ErrorVariant;
use std::num::NonZero;
use std::ops::Range;
use std::thread::{self, ScopedJoinHandle};

/// The generated parser.
mod grammar {
    #[derive(pest_derive::Parser)]
    #[grammar = "../grammar/mdl.pest"]
    pub(super) struct Grammar;
}

pub(super) use errors::foreign_word;
use grammar::{Grammar, Rule};

type Pair<'t> = pest::iterators::Pair<'t, Rule>;

/// # Units
/// Bytes of the longest text that is accepted.
pub const MAX_TEXT_BYTES: usize = 1 << 20;

/// Most syntax errors that are reported for one file.
pub const MAX_ERRORS: usize = 20;

/// # Units
/// Bytes of text that are worth a further thread: some hundreds of microseconds of work.
const BYTES_PER_THREAD: usize = 1 << 10;

/// Stack for [`scan::MAX_NESTING`] levels of the parser and the builder, several times over.
const STACK_BYTES: usize = 64 << 20;

/// Parses a file.
///
/// # Errors
/// All syntax errors found, in the order of the text; or the one limit that the text passes.
pub fn parse(file: FileId, text: &str) -> Result<ast::File, Vec<Diagnostic>> {
    if text.len() > MAX_TEXT_BYTES {
        let title = format!("a source file may hold {MAX_TEXT_BYTES} bytes; this one holds {}", text.len());
        return Err(vec![Diagnostic::error("file-too-long", title).fault(Fault::Limit)]);
    }
    let Scan { stretches, comments, mut errors } = scan::scan(file, text).map_err(|limit| vec![limit])?;
    let mut items = Vec::with_capacity(stretches.len());
    thread::scope(|scope| {
        let mut workers = Vec::new();
        for part in shares(&stretches) {
            let worker = thread::Builder::new().name("mdl parser".into()).stack_size(STACK_BYTES);
            let before = part.start.checked_sub(1).map(|k| &stretches[k]);
            let (part, comments) = (&stretches[part], &comments);
            workers.push(
                worker
                    .spawn_scoped(scope, move || Builder::new(file, text, comments).stretches(before, part)),
            );
        }
        for worker in workers {
            match worker.map(ScopedJoinHandle::join) {
                Ok(Ok((parsed, faults))) => {
                    items.extend(parsed);
                    errors.extend(faults);
                }
                Ok(Err(_)) => errors.push(
                    Diagnostic::error("internal", "the parser failed on this file").fault(Fault::Internal),
                ),
                Err(error) => errors.push(
                    Diagnostic::error("no-thread", format!("the parser's thread cannot be started: {error}"))
                        .fault(Fault::Limit),
                ),
            }
        }
    });
    if errors.is_empty() {
        return Ok(ast::File { items, span: Span::new(file, 0, text.len()) });
    }
    errors.sort_by_key(|e| e.labels.first().map_or(0, |l| l.span.start));
    errors.truncate(MAX_ERRORS);
    Err(errors)
}

/// Which declarations each thread parses: as many threads as the text is worth, each with about as many
/// bytes of it.
fn shares(stretches: &[Stretch]) -> Vec<Range<usize>> {
    let bytes = stretches.last().map_or(0, |s| s.end);
    let cores = thread::available_parallelism().map_or(1, NonZero::get);
    let threads = cores.min(bytes / BYTES_PER_THREAD).max(1);
    let cut = |k: usize| stretches.partition_point(|s| s.end <= bytes * k / threads);
    let mut cuts: Vec<usize> = (1..threads).map(cut).collect();
    cuts.push(stretches.len());
    let mut start = 0;
    cuts.into_iter().map(|end| std::mem::replace(&mut start, end)..end).collect()
}

/// Builds the tree of one declaration after the other.
///
/// What a user can get wrong is recorded in `errors` and building goes on with some value in its
/// place; such a tree never leaves [`parse`].
struct Builder<'t> {
    file: FileId,
    text: &'t str,
    comments: &'t [Comment],
    /// Where the text that the current pairs count from begins in the file.
    base: usize,
    /// How many expressions the current one lies under.
    depth: usize,
    errors: Vec<Diagnostic>,
}

impl<'t> Builder<'t> {
    fn new(file: FileId, text: &'t str, comments: &'t [Comment]) -> Self {
        Builder { file, text, comments, base: 0, depth: 0, errors: Vec::new() }
    }

    /// Parses declarations, of which the first follows `before`; gives them, and what is wrong in others.
    fn stretches(
        mut self,
        mut before: Option<&'t Stretch>,
        stretches: &'t [Stretch],
    ) -> (Vec<ast::Item>, Vec<Diagnostic>) {
        let mut items = Vec::with_capacity(stretches.len());
        for stretch in stretches {
            if self.errors.len() >= MAX_ERRORS {
                break;
            }
            if !stretch.faulty {
                let doc_start = before.map_or(0, |s| self.trimmed(s.start, s.end));
                items.extend(self.stretch(stretch, doc_start));
            }
            before = Some(stretch);
        }
        (items, self.errors)
    }

    /// Parses one declaration; comments from `doc_start` on may be its documentation.
    fn stretch(&mut self, stretch: &Stretch, doc_start: usize) -> Option<ast::Item> {
        self.base = stretch.start;
        let text = &self.text[stretch.start..stretch.end];
        match Grammar::parse(Rule::single, text) {
            Ok(pairs) => {
                let pair = pairs.flat_map(Pair::into_inner).next()?;
                Some(self.item(pair, doc_start))
            }
            Err(error) => {
                let error = match error.variant {
                    // Its own guard of the stack, which the scan's limits keep from being reached.
                    ErrorVariant::CustomError { .. } => scan::too_deep(
                        Span::new(self.file, self.base, self.base + 1),
                        "constructs are nested",
                    ),
                    ErrorVariant::ParsingError { .. } => errors::explain(self.file, self.base, text),
                };
                self.errors.push(error);
                None
            }
        }
    }

    fn error(&mut self, span: Span, title: impl Into<String>) {
        self.errors.push(Diagnostic::error("syntax", title).at(span, ""));
    }

    fn error_with_help(&mut self, span: Span, title: impl Into<String>, help: impl Into<String>) {
        self.errors.push(Diagnostic::error("syntax", title).at(span, "").help(help));
    }

    /// The place of a pair, without the blanks and comments that a rule may end in.
    fn span(&self, pair: &Pair<'_>) -> Span {
        let span = pair.as_span();
        let (start, end) = (self.base + span.start(), self.base + span.end());
        Span::new(self.file, start, self.trimmed(start, end))
    }

    /// The end of a text without the blanks and comments there.
    fn trimmed(&self, start: usize, mut end: usize) -> usize {
        loop {
            end = start + self.text[start..end].trim_end().len();
            let last = self.comments.partition_point(|c| c.start < end);
            match last.checked_sub(1).map(|i| &self.comments[i]) {
                Some(c) if c.start > start && c.end >= end => end = c.start,
                _ => return end,
            }
        }
    }

    /// The doc comments that end right before `start` and begin at `from` or later.
    fn docs(&self, from: usize, start: usize) -> Vec<String> {
        let last = self.comments.partition_point(|c| c.end <= start);
        let first = self.comments[..last].partition_point(|c| c.start < from);
        let docs = self.comments[first..last].iter().filter(|c| c.doc);
        docs.map(|c| {
            let line = &self.text[c.start + 2..c.end];
            line.strip_prefix(' ').unwrap_or(line).trim_end().to_owned()
        })
        .collect()
    }
}

/// The children of a pair, without its keywords.
struct Parts<'t>(
    std::iter::Peekable<std::iter::Filter<pest::iterators::Pairs<'t, Rule>, fn(&Pair<'t>) -> bool>>,
);

impl<'t> Parts<'t> {
    fn of(pair: Pair<'t>) -> Self {
        Parts(pair.into_inner().filter((|p| !is_keyword(p.as_rule())) as fn(&Pair<'t>) -> bool).peekable())
    }

    /// The next child, which the grammar demands.
    fn next(&mut self) -> Pair<'t> {
        self.0.next().expect("invariant: the grammar demands this part")
    }

    /// The next child if it is of this rule.
    fn take(&mut self, rule: Rule) -> Option<Pair<'t>> {
        self.0.next_if(|p| p.as_rule() == rule)
    }

    /// The one child of the next child if that is of this rule.
    fn take_inner(&mut self, rule: Rule) -> Option<Pair<'t>> {
        self.take(rule).map(|p| Parts::of(p).next())
    }

    fn rest(self) -> impl Iterator<Item = Pair<'t>> {
        self.0
    }
}

fn is_keyword(rule: Rule) -> bool {
    use Rule::{
        eq, kw_as, kw_buffer, kw_by, kw_else, kw_entry, kw_fn, kw_for, kw_forward, kw_if, kw_in, kw_init,
        kw_let, kw_model, kw_module, kw_param, kw_pattern, kw_recur, kw_require, kw_tie, kw_use, kw_when,
        kw_where,
    };
    matches!(
        rule,
        eq | kw_as
            | kw_buffer
            | kw_by
            | kw_else
            | kw_entry
            | kw_fn
            | kw_for
            | kw_forward
            | kw_if
            | kw_in
            | kw_init
            | kw_let
            | kw_model
            | kw_module
            | kw_param
            | kw_pattern
            | kw_recur
            | kw_require
            | kw_tie
            | kw_use
            | kw_when
            | kw_where
    )
}
