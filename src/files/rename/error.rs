//! What can be wrong with a map of names, or with names under it.

use super::pattern::{Kind, PatternError};
use crate::diag::{Diagnostic, render_plain};
use crate::files::FileError;
use crate::files::error::shown;
use crate::source::SourceMap;
use crate::span::Span;
use std::fmt;

/// Why names cannot be renamed.
#[derive(Debug)]
pub enum RenameError {
    /// The map cannot be read.
    File(FileError),
    /// The map is wrong, or wrong for these names.
    Map {
        /// The text of the map.
        sources: SourceMap,
        /// All that is wrong, at least one.
        faults: Vec<RenameFault>,
    },
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RenameFault {
    /// Not TOML, or not the fields of a map.
    Malformed {
        /// What the parser said.
        reason: String,
        /// Where.
        place: Option<Span>,
    },
    /// A pattern that is none.
    Pattern {
        /// What is wrong with it.
        problem: PatternError,
        /// Where.
        place: Span,
    },
    /// Sides of a rule that do not have the same holes.
    Holes {
        /// Holes of the file's side alone.
        only_from: Vec<String>,
        /// Holes of the model's side alone.
        only_to: Vec<String>,
        /// The file's side.
        from: Span,
        /// The model's side.
        to: Span,
    },
    /// A hole that stands for different things on the two sides.
    Kinds {
        /// Its name.
        name: String,
        /// What it stands for in the file's names and in the model's.
        kinds: [Kind; 2],
        /// The file's side.
        from: Span,
        /// The model's side.
        to: Span,
    },
    /// Two names that become one.
    Collision {
        /// The first name.
        first: String,
        /// The second name.
        second: String,
        /// What both become.
        new: String,
        /// The rules that do it.
        places: Vec<Span>,
    },
    /// A name that would not come back.
    NotInvertible {
        /// The name.
        name: String,
        /// What it becomes.
        new: String,
        /// What that would go back to; `None` where the map ignores it.
        back: Option<String>,
        /// The rules that do it.
        places: Vec<Span>,
    },
}

impl RenameError {
    /// All that is wrong, as it is shown.
    pub fn diagnostics(&self) -> Vec<Diagnostic> {
        match self {
            RenameError::File(error) => vec![error.to_diagnostic()],
            RenameError::Map { faults, .. } => faults.iter().map(RenameFault::to_diagnostic).collect(),
        }
    }

    /// The texts that [`RenameError::diagnostics`] point into.
    pub fn sources(&self) -> SourceMap {
        match self {
            RenameError::File(_) => SourceMap::new(),
            RenameError::Map { sources, .. } => sources.clone(),
        }
    }
}

impl fmt::Display for RenameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RenameError::File(error) => error.fmt(f),
            RenameError::Map { sources, .. } => f.write_str(&render_plain(sources, &self.diagnostics())),
        }
    }
}

impl std::error::Error for RenameError {}

impl From<FileError> for RenameError {
    fn from(error: FileError) -> Self {
        RenameError::File(error)
    }
}

impl RenameFault {
    /// As it is shown.
    pub fn to_diagnostic(&self) -> Diagnostic {
        match self {
            RenameFault::Malformed { reason, place } => {
                let diagnostic = Diagnostic::error("bad-map", format!("the map is not valid: {reason}"))
                    .help("a map is `[[rule]]` tables with `from` and `to`, and a list `ignore`");
                place.iter().fold(diagnostic, |d, place| d.at(*place, ""))
            }
            RenameFault::Pattern { problem, place } => {
                let diagnostic = Diagnostic::error("bad-pattern", problem.to_string()).at(*place, "");
                match problem {
                    PatternError::Ambiguous { .. } => diagnostic.help(
                        "put text between them that neither can hold, or say that one is a number: `{i:int}`",
                    ),
                    _ => diagnostic,
                }
            }
            RenameFault::Holes { only_from, only_to, from, to } => {
                let label = |names: &[String]| match names {
                    [] => String::new(),
                    names => format!("only here: {}", braced(names)),
                };
                Diagnostic::error("rule-holes", "both sides of a rule must have the same holes")
                    .at(*from, label(only_from))
                    .at(*to, label(only_to))
            }
            RenameFault::Kinds { name, kinds: [mine, theirs], from, to } => {
                let title =
                    format!("`{{{name}}}` stands for {mine} on one side and for {theirs} on the other");
                Diagnostic::error("rule-holes", title).at(*from, mine.to_string()).at(*to, theirs.to_string())
            }
            RenameFault::Collision { first, second, new, places } => {
                let title = format!("{} and {} both become {}", shown(first), shown(second), shown(new));
                placed(Diagnostic::error("rename-collision", title), places)
            }
            RenameFault::NotInvertible { name, new, back, places } => {
                let becomes = if name == new {
                    format!("{} stays as it is", shown(name))
                } else {
                    format!("{} becomes {}", shown(name), shown(new))
                };
                let title = match back {
                    None => format!("{becomes}, but the map ignores that name"),
                    Some(back) => format!("{becomes}, but on the way back that is {}", shown(back)),
                };
                placed(Diagnostic::error("rename-not-invertible", title), places)
                    .help("the first rule that matches decides: put special rules before general ones")
            }
        }
    }
}

fn placed(diagnostic: Diagnostic, places: &[Span]) -> Diagnostic {
    places.iter().fold(diagnostic, |d, place| d.at(*place, ""))
}

fn braced(names: &[String]) -> String {
    names.iter().map(|name| format!("`{{{name}}}`")).collect::<Vec<_>>().join(", ")
}
