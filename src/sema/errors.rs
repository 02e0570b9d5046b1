//! How faults are collected during elaboration.
//!
//! A fault is recorded once, where it is found; what unwinds is [`Reported`], which says nothing
//! more. Statements and members catch it and go on, with poison in place of the values they
//! would have bound.

use super::Elaborator;
use super::value::Value;
use crate::diag::{Diagnostic, Fault, Label};
use crate::dim::{DimError, Symbol};
use crate::span::Span;

/// Says that a diagnostic has been recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reported;

/// A result whose error has been recorded.
pub type Eval<T> = Result<T, Reported>;

/// Most diagnostics that are kept.
pub const MAX_DIAGNOSTICS: usize = 20;

impl Elaborator<'_> {
    /// Records a diagnostic. One that is found again, in another turn of a loop or another call, is
    /// recorded once.
    pub fn report(&mut self, mut diagnostic: Diagnostic) -> Reported {
        if let Some(place) = self.users_place(&diagnostic) {
            let text = if diagnostic.labels[0].text.is_empty() { "in this call" } else { "called here" };
            diagnostic.labels.insert(0, Label { span: place, text: text.into() });
        }
        self.faults += 1;
        if diagnostic.fault == Fault::Limit {
            self.fatal = true;
        }
        let place = diagnostic.labels.first().map(|l| l.span);
        let found = (diagnostic.code, diagnostic.title.clone(), place);
        if self.diagnostics.len() < MAX_DIAGNOSTICS && !self.found.contains(&found) {
            self.diagnostics.push(diagnostic);
            self.found.push(found);
        }
        Reported
    }

    /// What `work` gives, with the faults it finds forgotten: for looking ahead at what is going
    /// to be evaluated again.
    pub fn tentatively<T>(&mut self, work: impl FnOnce(&mut Self) -> T) -> T {
        let (kept, faults, fatal) = (self.diagnostics.len(), self.faults, self.fatal);
        let result = work(self);
        self.diagnostics.truncate(kept);
        self.found.truncate(kept);
        self.faults = faults;
        self.fatal = fatal;
        result
    }

    /// What `work` gives. The faults it finds with `code` that give no advice get this one.
    pub(super) fn advising<T>(&mut self, code: &str, help: &str, work: impl FnOnce(&mut Self) -> T) -> T {
        let kept = self.diagnostics.len();
        let result = work(self);
        for diagnostic in self.diagnostics.iter_mut().skip(kept) {
            if diagnostic.code == code && diagnostic.help.is_empty() && !help.is_empty() {
                diagnostic.help.push(help.into());
            }
        }
        result
    }

    /// What `work`, an operation written at `span`, gives. The faults it finds there are shown at
    /// `operator`, with what the operands are.
    pub(super) fn showing<T>(
        &mut self,
        span: Span,
        operator: Span,
        operands: &[(Span, &Value)],
        work: impl FnOnce(&mut Self) -> T,
    ) -> T {
        let kept = self.diagnostics.len();
        let result = work(self);
        for diagnostic in self.diagnostics.iter_mut().skip(kept) {
            let of_limit = diagnostic.fault == Fault::Limit;
            let label = diagnostic.labels.first_mut().filter(|l| l.span == span && !of_limit);
            let Some(label) = label else { continue };
            label.span = operator;
            for (place, value) in operands {
                let label = Label { span: *place, text: format!("this is {}", value.kind_text()) };
                if !diagnostic.labels.contains(&label) {
                    diagnostic.labels.push(label);
                }
            }
        }
        result
    }

    /// Adds where free dimensions are bound.
    pub(super) fn with_origins(&self, diagnostic: Diagnostic, symbols: &[Symbol]) -> Diagnostic {
        symbols.iter().fold(diagnostic, |d, symbol| match self.symbol_places.get(symbol) {
            Some(place) => d.at(*place, format!("`{symbol}` is bound here")),
            None => d,
        })
    }

    /// What a size is, where it depends on free dimensions: "`T` is a free dimension".
    pub(super) fn free_text(dims: &[Symbol]) -> String {
        match dims {
            [only] => format!("`{only}` is a free dimension"),
            many => {
                let names: Vec<String> = many.iter().map(|s| format!("`{s}`")).collect();
                format!("{} are free dimensions", names.join(", "))
            }
        }
    }

    /// Where the user's own source called into the library, for a fault that shows up there.
    fn users_place(&self, diagnostic: &Diagnostic) -> Option<Span> {
        let library = |span: &Span| self.sources.file(span.file).name.starts_with("std/");
        let in_library = !diagnostic.labels.is_empty() && diagnostic.labels.iter().all(|l| library(&l.span));
        let place = self.call_places.iter().rev().find(|place| !library(place));
        place.copied().filter(|_| in_library)
    }

    /// Records an error at one place.
    pub fn error<T>(&mut self, code: &'static str, title: impl Into<String>, span: Span) -> Eval<T> {
        Err(self.report(Diagnostic::error(code, title).at(span, "")))
    }

    /// Records an error at one place, with advice.
    pub fn error_help<T>(
        &mut self,
        code: &'static str,
        title: impl Into<String>,
        span: Span,
        help: impl Into<String>,
    ) -> Eval<T> {
        Err(self.report(Diagnostic::error(code, title).at(span, "").help(help)))
    }

    /// Records that a limit was reached, and ends the elaboration.
    pub fn limit<T>(&mut self, title: impl Into<String>, span: Span) -> Eval<T> {
        let mut diagnostic = Diagnostic::error("limit", title).at(span, "").fault(Fault::Limit);
        for place in self.open_loops.iter().rev().take(3) {
            diagnostic = diagnostic.at(*place, "in this loop");
        }
        Err(self.report(diagnostic))
    }

    /// The result of arithmetic on sizes.
    pub fn sized<T>(&mut self, result: Result<T, DimError>, span: Span) -> Eval<T> {
        result.or_else(|error| {
            let code = match error {
                DimError::DivisionByZero => "division-by-zero",
                _ => "size",
            };
            self.error(code, error.to_string(), span)
        })
    }
}
