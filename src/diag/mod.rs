//! The one form in which a fault of the user's is reported.
//!
//! Each stage has its own error enum with structured data and turns it into a [`Diagnostic`];
//! only the command line prints. Codes are stable slugs (`shape-mismatch`) that a user can
//! search for and a test can pin.

mod render;
mod words;

pub use render::{render, render_plain};
pub use words::{counted, nearest};

use crate::span::Span;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Compilation fails.
    Error,
    /// Compilation goes on.
    Warning,
}

/// What kind of failure it is, which decides the exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Fault {
    /// Wrong source or data: exit code 1.
    User,
    /// A file cannot be read or written: exit code 3.
    File,
    /// A limit was reached: exit code 4.
    Limit,
    /// Code and processor, or code and runtime, do not fit: exit code 5.
    Abi,
    /// Our own fault: exit code 70.
    Internal,
}

/// A place with a word on why it matters. The first label of a diagnostic is the primary one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Label {
    /// Where.
    pub span: Span,
    /// What is there; may be empty.
    pub text: String,
}

/// One error or warning, in the user's own names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// A stable slug.
    pub code: &'static str,
    /// Error or warning.
    pub severity: Severity,
    /// Kind of failure.
    pub fault: Fault,
    /// One sentence: what was expected and what was found.
    pub title: String,
    /// Places, the primary one first; empty where there is no source.
    pub labels: Vec<Label>,
    /// Facts, one line each.
    pub notes: Vec<String>,
    /// How to mend it, where that can be said.
    pub help: Vec<String>,
}

impl Diagnostic {
    /// An error in source or data.
    pub fn error(code: &'static str, title: impl Into<String>) -> Self {
        Diagnostic {
            code,
            severity: Severity::Error,
            fault: Fault::User,
            title: title.into(),
            labels: Vec::new(),
            notes: Vec::new(),
            help: Vec::new(),
        }
    }

    /// A warning.
    pub fn warning(code: &'static str, title: impl Into<String>) -> Self {
        Diagnostic { severity: Severity::Warning, ..Self::error(code, title) }
    }

    /// Sets the kind of failure.
    pub fn fault(mut self, fault: Fault) -> Self {
        self.fault = fault;
        self
    }

    /// Adds a place.
    pub fn at(mut self, span: Span, text: impl Into<String>) -> Self {
        self.labels.push(Label { span, text: text.into() });
        self
    }

    /// Adds a fact, on a line of its own.
    pub fn note(mut self, text: impl Into<String>) -> Self {
        self.notes.push(text.into());
        self
    }

    /// Adds advice.
    pub fn help(mut self, text: impl Into<String>) -> Self {
        self.help.push(text.into());
        self
    }

    /// # Units
    /// The process exit code of this failure.
    pub fn exit_code(&self) -> u8 {
        match self.fault {
            Fault::User => 1,
            Fault::File => 3,
            Fault::Limit => 4,
            Fault::Abi => 5,
            Fault::Internal => 70,
        }
    }
}
