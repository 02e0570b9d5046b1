//! From text to tree.
//!
//! Takes the text of a file, gives an [`ast::File`] or all syntax errors found, at most
//! [`MAX_ERRORS`]. Each declaration is parsed by itself, so an error in one does not hide those in
//! the next. Only this module and those below it know the parser generator.
//!
//! The generated parser recurses, and so does the builder: the scan bounds the nesting before
//! either runs, and both run on a thread whose stack is known to hold that depth.

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
use std::thread;

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
    let scan = scan::scan(file, text).map_err(|limit| vec![limit])?;
    let parsed = thread::scope(|scope| {
        let worker = thread::Builder::new().name("mdl parser".into()).stack_size(STACK_BYTES);
        match worker.spawn_scoped(scope, || parse_scanned(file, text, scan)) {
            Ok(handle) => handle.join().unwrap_or_else(|_| Err(vec![parser_failed()])),
            Err(error) => Err(vec![
                Diagnostic::error("no-thread", format!("the parser's thread cannot be started: {error}"))
                    .fault(Fault::Limit),
            ]),
        }
    });
    parsed.map_err(|mut errors| {
        errors.sort_by_key(|e| e.labels.first().map_or(0, |l| l.span.start));
        errors.truncate(MAX_ERRORS);
        errors
    })
}

fn parser_failed() -> Diagnostic {
    Diagnostic::error("internal", "the parser failed on this file").fault(Fault::Internal)
}

fn parse_scanned(file: FileId, text: &str, scan: Scan) -> Result<ast::File, Vec<Diagnostic>> {
    let Scan { stretches, comments, errors } = scan;
    let mut builder = Builder::new(file, text, &comments, errors);
    let mut items = Vec::with_capacity(stretches.len());
    let mut end = 0;
    for stretch in stretches.iter().filter(|s| !s.faulty) {
        if builder.errors.len() >= MAX_ERRORS {
            break;
        }
        if let Some(item) = builder.stretch(stretch, end) {
            end = item.span.end as usize;
            items.push(item);
        }
    }
    if builder.errors.is_empty() {
        Ok(ast::File { items, span: Span::new(file, 0, text.len()) })
    } else {
        Err(builder.errors)
    }
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
    fn new(file: FileId, text: &'t str, comments: &'t [Comment], errors: Vec<Diagnostic>) -> Self {
        Builder { file, text, comments, base: 0, depth: 0, errors }
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
        let (start, mut end) = (self.base + span.start(), self.base + span.end());
        loop {
            end = start + self.text[start..end].trim_end().len();
            let last = self.comments.partition_point(|c| c.start < end);
            match last.checked_sub(1).map(|i| &self.comments[i]) {
                Some(c) if c.start > start && c.end >= end => end = c.start,
                _ => return Span::new(self.file, start, end),
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
