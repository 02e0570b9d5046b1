//! Patterns of names: text with holes, told apart in one way only.
//!
//! A [`Pattern`] describes a set of names; matching gives one value per hole, and filling the holes
//! with those values gives the name back. That is what makes a rule invertible, so a pattern whose
//! holes could be told apart in two ways is refused when it is made, never when it is used.
//!
//! | hole | stands for |
//! | --- | --- |
//! | `{p}` | one or more characters other than `.` and `/` |
//! | `{i:int}` | a decimal number without leading zeros |
//! | `{i + 1}` | the same, one more than the `i` of the other side |
//! | `{rest...}` | any text that is not empty |
//!
//! `{{` and `}}` are braces.
//!
//! # Matching
//! A hole *ends by itself* if text follows whose first character it cannot hold: it is then exactly the
//! longest run of its characters. Likewise it *begins by itself* if text precedes whose last character it
//! cannot hold. A pattern is unambiguous if for some place every hole before it ends by itself and
//! every hole after it begins by itself: the part at that place, the pivot, is what remains between.

use std::fmt;

/// What a hole may stand for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// One or more characters other than `.` and `/`.
    Word,
    /// A decimal number without leading zeros.
    Int,
    /// Any text that is not empty.
    Path,
}

impl Kind {
    fn holds(self, c: char) -> bool {
        match self {
            Kind::Word => c != '.' && c != '/',
            Kind::Int => c.is_ascii_digit(),
            Kind::Path => true,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Word => "a word",
            Kind::Int => "a number",
            Kind::Path => "any text",
        })
    }
}

/// What is wrong with one pattern.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// No text at all.
    #[error("the pattern is empty")]
    Empty,
    /// A brace that is not closed, or closes nothing.
    #[error("a brace is not paired; a brace itself is written `{{{{` or `}}}}`")]
    Brace,
    /// Something in braces that is no hole.
    #[error("`{{{text}}}` is no hole; write `{{name}}`, `{{name:int}}`, `{{name + 1}}` or `{{name...}}`")]
    Hole {
        /// What stands between the braces.
        text: String,
    },
    /// A hole that occurs twice.
    #[error("`{{{name}}}` is there twice")]
    Twice {
        /// Its name.
        name: String,
    },
    /// Holes that could be told apart in more than one way.
    #[error("where `{{{first}}}` ends and `{{{second}}}` begins is not clear")]
    Ambiguous {
        /// The hole whose end is not clear.
        first: String,
        /// The hole whose beginning is not clear.
        second: String,
    },
}

/// A hole as it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Hole {
    pub name: String,
    /// What the text says that it stands for, if it says.
    pub kind: Option<Kind>,
    /// What is added to a number when the hole is filled.
    offset: i64,
}

/// A piece of a pattern; two texts are never neighbours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Text(String),
    Hole(Hole),
}

/// Reads a pattern; kinds that the text leaves open are decided by the rule.
pub(super) fn parts(text: &str) -> Result<Vec<Part>, PatternError> {
    let mut parts: Vec<Part> = Vec::new();
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let doubled = rest.starts_with("{{") || rest.starts_with("}}");
        if c == '{' && !doubled {
            let end = rest.find('}').ok_or(PatternError::Brace)?;
            let hole = hole(&rest[1..end])?;
            let same = |p: &Part| matches!(p, Part::Hole(other) if other.name == hole.name);
            if parts.iter().any(same) {
                return Err(PatternError::Twice { name: hole.name });
            }
            parts.push(Part::Hole(hole));
            rest = &rest[end + 1..];
            continue;
        }
        if c == '}' && !doubled {
            return Err(PatternError::Brace);
        }
        match parts.last_mut() {
            Some(Part::Text(text)) => text.push(c),
            _ => parts.push(Part::Text(c.to_string())),
        }
        rest = &rest[if doubled { 2 } else { c.len_utf8() }..];
    }
    if parts.is_empty() { Err(PatternError::Empty) } else { Ok(parts) }
}

fn hole(text: &str) -> Result<Hole, PatternError> {
    let wrong = || PatternError::Hole { text: text.to_string() };
    let trimmed = text.trim();
    let end = trimmed.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(trimmed.len());
    let (name, rest) = trimmed.split_at(end);
    if name.is_empty() {
        return Err(wrong());
    }
    let rest = rest.trim();
    let shift = |digits: &str| digits.trim().parse::<u32>().map(i64::from).map_err(|_| wrong());
    let (kind, offset) = match rest.chars().next() {
        None => (None, 0),
        Some('.') if rest == "..." => (Some(Kind::Path), 0),
        Some(':') if rest[1..].trim() == "int" => (Some(Kind::Int), 0),
        Some('+') => (Some(Kind::Int), shift(&rest[1..])?),
        Some('-') => (Some(Kind::Int), -shift(&rest[1..])?),
        _ => return Err(wrong()),
    };
    Ok(Hole { name: name.to_string(), kind, offset })
}

/// A pattern whose holes have kinds and are numbered by the rule.
#[derive(Clone, Debug)]
pub(super) struct Pattern {
    pieces: Vec<Piece>,
    pivot: usize,
    holes: usize,
}

#[derive(Clone, Debug)]
enum Piece {
    Text(String),
    Hole { number: usize, kind: Kind, offset: i64 },
}

/// What a hole stands for in one name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Capture {
    Text(String),
    Int(i64),
}

impl Pattern {
    /// A pattern; `resolve` gives number and kind of a hole by its name.
    pub(super) fn new(
        parts: &[Part],
        resolve: &dyn Fn(&Hole) -> (usize, Kind),
    ) -> Result<Pattern, PatternError> {
        let piece = |part: &Part| match part {
            Part::Text(text) => Piece::Text(text.clone()),
            Part::Hole(hole) => {
                let (number, kind) = resolve(hole);
                Piece::Hole { number, kind, offset: hole.offset }
            }
        };
        let pieces: Vec<Piece> = parts.iter().map(piece).collect();
        let holes = pieces.iter().filter(|p| matches!(p, Piece::Hole { .. })).count();
        // The pivot lies at or before the first hole that does not end by itself, and at or after the
        // last one that does not begin by itself.
        let first = (0..pieces.len()).find(|&at| !ends_by_itself(&pieces, at));
        let last = (0..pieces.len()).rev().find(|&at| !begins_by_itself(&pieces, at));
        let pivot = match (first, last) {
            (Some(first), Some(last)) if last > first => {
                let name = |at: usize| match &parts[at] {
                    Part::Hole(hole) => hole.name.clone(),
                    Part::Text(text) => text.clone(),
                };
                return Err(PatternError::Ambiguous { first: name(first), second: name(last) });
            }
            (Some(first), _) => first,
            (None, last) => last.unwrap_or(0),
        };
        Ok(Pattern { pieces, pivot, holes })
    }

    /// The values of the holes by their numbers, if the name is of this form.
    pub(super) fn captures(&self, name: &str) -> Option<Vec<Capture>> {
        let mut captures = vec![Capture::Int(0); self.holes];
        let mut rest = name;
        for piece in &self.pieces[..self.pivot] {
            rest = match piece {
                Piece::Text(text) => rest.strip_prefix(text.as_str())?,
                Piece::Hole { number, kind, offset } => {
                    let end = rest.find(|c| !kind.holds(c)).unwrap_or(rest.len());
                    captures[*number] = capture(&rest[..end], *kind, *offset)?;
                    &rest[end..]
                }
            };
        }
        for piece in self.pieces[self.pivot + 1..].iter().rev() {
            rest = match piece {
                Piece::Text(text) => rest.strip_suffix(text.as_str())?,
                Piece::Hole { number, kind, offset } => {
                    let start = rest.trim_end_matches(|c| kind.holds(c)).len();
                    captures[*number] = capture(&rest[start..], *kind, *offset)?;
                    &rest[..start]
                }
            };
        }
        match &self.pieces[self.pivot] {
            Piece::Text(text) => (rest == text).then_some(captures),
            Piece::Hole { number, kind, offset } => {
                captures[*number] = capture(rest, *kind, *offset)?;
                Some(captures)
            }
        }
    }

    /// The name that these values make; `None` where a number would be negative.
    pub(super) fn filled(&self, captures: &[Capture]) -> Option<String> {
        let mut name = String::new();
        for piece in &self.pieces {
            match piece {
                Piece::Text(text) => name.push_str(text),
                Piece::Hole { number, offset, .. } => match captures.get(*number)? {
                    Capture::Text(text) => name.push_str(text),
                    Capture::Int(value) => {
                        let shifted = value.checked_add(*offset).filter(|v| *v >= 0)?;
                        name.push_str(&shifted.to_string());
                    }
                },
            }
        }
        Some(name)
    }
}

fn ends_by_itself(pieces: &[Piece], at: usize) -> bool {
    let Piece::Hole { kind, .. } = &pieces[at] else { return true };
    match pieces.get(at + 1) {
        Some(Piece::Text(text)) => !text.starts_with(|c| kind.holds(c)),
        _ => false,
    }
}

fn begins_by_itself(pieces: &[Piece], at: usize) -> bool {
    let Piece::Hole { kind, .. } = &pieces[at] else { return true };
    match at.checked_sub(1).map(|before| &pieces[before]) {
        Some(Piece::Text(text)) => !text.ends_with(|c| kind.holds(c)),
        _ => false,
    }
}

/// The value that `text` is for a hole, if it is one.
fn capture(text: &str, kind: Kind, offset: i64) -> Option<Capture> {
    if text.is_empty() || !text.chars().all(|c| kind.holds(c)) {
        return None;
    }
    if kind != Kind::Int {
        return Some(Capture::Text(text.to_string()));
    }
    if text.len() > 1 && text.starts_with('0') {
        return None;
    }
    let value = text.parse::<i64>().ok()?.checked_sub(offset)?;
    (value >= 0).then_some(Capture::Int(value))
}
