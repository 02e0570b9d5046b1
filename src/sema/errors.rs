//! How faults are collected during elaboration.
//!
//! A fault is recorded once, where it is found; what unwinds is [`Reported`], which says nothing
//! more. Statements and members catch it and go on, with poison in place of the values they
//! would have bound.

use super::Elaborator;
use crate::diag::{Diagnostic, Fault};
use crate::dim::DimError;
use crate::span::Span;

/// Says that a diagnostic has been recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reported;

/// A result whose error has been recorded.
pub type Eval<T> = Result<T, Reported>;

/// Most diagnostics that are kept.
pub const MAX_DIAGNOSTICS: usize = 20;

impl Elaborator<'_> {
    /// Records a diagnostic.
    pub fn report(&mut self, mut diagnostic: Diagnostic) -> Reported {
        if let Some(place) = self.users_place(&diagnostic) {
            diagnostic = diagnostic.at(place, "in what is called here");
        }
        self.faults += 1;
        if diagnostic.fault == Fault::Limit {
            self.fatal = true;
        }
        if self.diagnostics.len() < MAX_DIAGNOSTICS && !self.diagnostics.contains(&diagnostic) {
            self.diagnostics.push(diagnostic);
        }
        Reported
    }

    /// What `work` gives, with the faults it finds forgotten: for looking ahead at what is going
    /// to be evaluated again.
    pub fn tentatively<T>(&mut self, work: impl FnOnce(&mut Self) -> T) -> T {
        let (kept, faults, fatal) = (self.diagnostics.len(), self.faults, self.fatal);
        let result = work(self);
        self.diagnostics.truncate(kept);
        self.faults = faults;
        self.fatal = fatal;
        result
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
        Err(self.report(Diagnostic::error("limit", title).at(span, "").fault(Fault::Limit)))
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

/// The candidate nearest to a name, if one is near enough to be what was meant.
pub fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let allowed = (name.chars().count() / 3).max(1);
    candidates
        .into_iter()
        .map(|c| (edit_distance(name, c), c))
        .filter(|(d, _)| *d <= allowed)
        .min_by_key(|(d, c)| (*d, c.len()))
        .map(|(_, c)| c)
}

/// Levenshtein's distance; letters that differ in case only count as one edit.
fn edit_distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, cb) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(ca != *cb);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_offered_only_if_it_is_near() {
        assert_eq!(nearest("Linaer", ["Linear", "LSTM"]), Some("Linear"));
        assert_eq!(nearest("x", ["Linear", "LSTM"]), None);
    }
}
