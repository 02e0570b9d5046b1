//! Renaming the tensors of a file to a model's names, and back.
//!
//! Takes a map, TOML with rules in order, and names; gives the new names, how many names each rule
//! matched, or everything that is wrong at once, with its place in the map. A rule has the same holes on
//! both sides and each side can be told apart in one way ([`pattern`]), so a rule is invertible by
//! construction. Rules together are checked on the names at hand: no two names become one, and every
//! new name leads back to the old one. So renaming and then restoring is the identity on what is not
//! ignored.
//!
//! ```
//! use mdlc::files::rename::NameMap;
//!
//! let text = r#"
//!     ignore = ["cls.{rest...}"]
//!     [[rule]]
//!     from = "encoder.layer.{i}.attention.self.query.{p}"
//!     to = "layers.{i}.attn.q_proj.{p}"
//! "#;
//! let map = NameMap::parse("rules.toml", text)?;
//! let renaming = map.rename(["encoder.layer.7.attention.self.query.bias", "cls.bias"])?;
//! assert_eq!(renaming.new_name("encoder.layer.7.attention.self.query.bias"), Some("layers.7.attn.q_proj.bias"));
//! assert_eq!(renaming.ignored, ["cls.bias"]);
//! # Ok::<(), mdlc::files::rename::RenameError>(())
//! ```

mod error;
pub mod pattern;
#[cfg(test)]
mod tests;

pub use error::{RenameError, RenameFault};

use self::pattern::{Capture, Hole, Kind, Part, Pattern, PatternError, parts};
use super::{FileError, NamedTensors, open_regular, read_bytes};
use crate::diag::Diagnostic;
use crate::source::SourceMap;
use crate::span::{FileId, Span};
use crate::tensor::Tensor;
use indexmap::IndexMap;
use serde::Deserialize;
use std::collections::HashMap;
use std::ops::Range;
use std::path::Path;
use toml::Spanned;

/// # Units
/// Bytes of the longest map that is read.
pub const MAX_MAP_BYTES: u64 = 1 << 24;

/// Rules from the names of a file to those of a model.
#[derive(Clone, Debug)]
pub struct NameMap {
    sources: SourceMap,
    rules: Vec<Rule>,
    ignored: Vec<Pattern>,
}

/// One rule.
#[derive(Clone, Debug)]
pub struct Rule {
    /// The pattern of the file's names, as written.
    pub from: String,
    /// The pattern of the model's names, as written.
    pub to: String,
    span: Span,
    file_side: Pattern,
    model_side: Pattern,
}

/// What a map makes of the names of one file.
#[derive(Clone, Debug, Default)]
pub struct Renaming {
    names: IndexMap<String, String>,
    /// Number of names that each rule matched, in the order of the rules.
    pub matched: Vec<usize>,
    /// Names that no rule matched: they stay as they are.
    pub kept: Vec<String>,
    /// Names that the map ignores: they have no new name.
    pub ignored: Vec<String>,
}

/// Which way names are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    ToModel,
    ToFile,
}

/// The text of a map.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MapText {
    #[serde(default, rename = "rule")]
    rules: Vec<RuleText>,
    #[serde(default)]
    ignore: Vec<Spanned<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RuleText {
    from: Spanned<String>,
    to: Spanned<String>,
}

impl NameMap {
    /// Reads a map from a file.
    ///
    /// # Errors
    /// A file that cannot be read; all that is wrong with the map.
    pub fn open(path: impl AsRef<Path>) -> Result<NameMap, RenameError> {
        let path = path.as_ref();
        let (_, size_bytes) = open_regular(path)?;
        if size_bytes > MAX_MAP_BYTES {
            let path = path.to_owned();
            return Err(FileError::TooLarge { path, size_bytes, limit_bytes: MAX_MAP_BYTES }.into());
        }
        let text = String::from_utf8(read_bytes(path)?);
        let text = text.map_err(|error| FileError::NotText { path: path.to_owned(), source: error })?;
        NameMap::parse(&path.to_string_lossy(), &text)
    }

    /// Reads a map from its text; `name` is what errors call it.
    ///
    /// # Errors
    /// All that is wrong with it, each with its place.
    pub fn parse(name: &str, text: &str) -> Result<NameMap, RenameError> {
        let mut sources = SourceMap::new();
        let file = sources.add(name, text);
        let span = |range: Range<usize>| Span::new(file, range.start, range.end);
        let map: MapText = match toml::from_str(text) {
            Ok(map) => map,
            Err(error) => {
                let place = error.span().map(span);
                let fault = RenameFault::Malformed { reason: error.message().to_string(), place };
                return Err(RenameError::Map { sources, faults: vec![fault] });
            }
        };
        let (mut rules, mut ignored, mut faults) = (Vec::new(), Vec::new(), Vec::new());
        for rule in &map.rules {
            match Rule::new(file, rule) {
                Ok(rule) => rules.push(rule),
                Err(fault) => faults.push(fault),
            }
        }
        for text in &map.ignore {
            match lone(text.get_ref()) {
                Ok(pattern) => ignored.push(pattern),
                Err(problem) => faults.push(RenameFault::Pattern { problem, place: span(text.span()) }),
            }
        }
        if faults.is_empty() {
            Ok(NameMap { sources, rules, ignored })
        } else {
            Err(RenameError::Map { sources, faults })
        }
    }

    /// The rules, in order.
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// The text of the map, which warnings point into.
    pub fn sources(&self) -> &SourceMap {
        &self.sources
    }

    /// The model's names for the names of a file. The first rule that matches decides; a name that none
    /// matches stays.
    ///
    /// # Errors
    /// All names that become one with another, and all that would not come back.
    pub fn rename<'a>(&self, names: impl IntoIterator<Item = &'a str>) -> Result<Renaming, RenameError> {
        self.take(names, Way::ToModel)
    }

    /// The file's names for the names of a model: the inverse of [`NameMap::rename`].
    ///
    /// # Errors
    /// As [`NameMap::rename`]: all names that the map leads no name of a file to.
    pub fn restore<'a>(&self, names: impl IntoIterator<Item = &'a str>) -> Result<Renaming, RenameError> {
        self.take(names, Way::ToFile)
    }

    /// Warnings for rules that matched nothing.
    pub fn warnings(&self, renaming: &Renaming) -> Vec<Diagnostic> {
        let idle = self.rules.iter().zip(&renaming.matched).filter(|(_, matched)| **matched == 0);
        idle.map(|(rule, _)| {
            Diagnostic::warning("idle-rule", "the rule matches no tensor").at(rule.span, "matches nothing")
        })
        .collect()
    }

    fn take<'a>(&self, names: impl IntoIterator<Item = &'a str>, way: Way) -> Result<Renaming, RenameError> {
        let mut renaming = Renaming { matched: vec![0; self.rules.len()], ..Renaming::default() };
        let mut steps: Vec<(&str, String, Option<usize>)> = Vec::new();
        for name in names {
            if way == Way::ToModel && self.ignores(name) {
                renaming.ignored.push(name.to_string());
                continue;
            }
            let (new, by) = self.step(name, way);
            match by {
                Some(rule) => renaming.matched[rule] += 1,
                None => renaming.kept.push(name.to_string()),
            }
            steps.push((name, new, by));
        }
        let mut faults = Vec::new();
        let mut firsts: HashMap<&str, usize> = HashMap::new();
        let mut alone = vec![true; steps.len()];
        for (at, (name, new, by)) in steps.iter().enumerate() {
            let first = *firsts.entry(new).or_insert(at);
            if first != at {
                (alone[first], alone[at]) = (false, false);
                faults.push(RenameFault::Collision {
                    first: steps[first].0.to_string(),
                    second: (*name).to_string(),
                    new: new.clone(),
                    places: self.places([steps[first].2, *by]),
                });
            }
        }
        // Of names that become one, all but one would not come back: that is said already.
        for (name, new, by) in steps.iter().zip(&alone).filter(|(_, alone)| **alone).map(|(step, _)| step) {
            let (back, back_by) = self.step(new, way.other());
            let lost = way == Way::ToFile && self.ignores(new);
            if back != *name || lost {
                faults.push(RenameFault::NotInvertible {
                    name: (*name).to_string(),
                    new: new.clone(),
                    back: (!lost).then_some(back),
                    places: self.places([*by, back_by]),
                });
            }
        }
        renaming.names = steps.into_iter().map(|(name, new, _)| (name.to_string(), new)).collect();
        if faults.is_empty() {
            Ok(renaming)
        } else {
            Err(RenameError::Map { sources: self.sources.clone(), faults })
        }
    }

    /// Where a name goes, and by which rule. On the way back a rule counts only if it is the one that
    /// decides on the way there.
    fn step(&self, name: &str, way: Way) -> (String, Option<usize>) {
        let decides = |at: usize, file_name: &str| {
            self.rules.iter().position(|rule| rule.apply(file_name, Way::ToModel).is_some()) == Some(at)
        };
        for (at, rule) in self.rules.iter().enumerate() {
            match rule.apply(name, way) {
                Some(new) if way == Way::ToModel || decides(at, &new) => return (new, Some(at)),
                _ => {}
            }
        }
        (name.to_string(), None)
    }

    fn ignores(&self, name: &str) -> bool {
        self.ignored.iter().any(|pattern| pattern.captures(name).is_some())
    }

    /// The places of rules, each once.
    fn places(&self, rules: [Option<usize>; 2]) -> Vec<Span> {
        let mut places: Vec<Span> = Vec::new();
        for rule in rules.into_iter().flatten() {
            let span = self.rules[rule].span;
            if !places.contains(&span) {
                places.push(span);
            }
        }
        places
    }
}

impl Rule {
    fn new(file: FileId, text: &RuleText) -> Result<Rule, RenameFault> {
        let span = |range: Range<usize>| Span::new(file, range.start, range.end);
        let (from_span, to_span) = (span(text.from.span()), span(text.to.span()));
        let (from, to) = (text.from.get_ref(), text.to.get_ref());
        let at = |place: Span| move |problem: PatternError| RenameFault::Pattern { problem, place };
        let (from_parts, to_parts) = (parts(from).map_err(at(from_span))?, parts(to).map_err(at(to_span))?);
        let (from_holes, to_holes) = (holes(&from_parts), holes(&to_parts));
        let only = |mine: &[&Hole], theirs: &[&Hole]| {
            let names = mine.iter().filter(|h| theirs.iter().all(|o| o.name != h.name));
            names.map(|h| h.name.clone()).collect::<Vec<_>>()
        };
        let (only_from, only_to) = (only(&from_holes, &to_holes), only(&to_holes, &from_holes));
        if !only_from.is_empty() || !only_to.is_empty() {
            return Err(RenameFault::Holes { only_from, only_to, from: from_span, to: to_span });
        }
        let mut kinds: Vec<(&str, Kind)> = Vec::new();
        for hole in &from_holes {
            let other = to_holes.iter().find(|o| o.name == hole.name).and_then(|o| o.kind);
            if let (Some(mine), Some(theirs)) = (hole.kind, other)
                && mine != theirs
            {
                let name = hole.name.clone();
                return Err(RenameFault::Kinds { name, kinds: [mine, theirs], from: from_span, to: to_span });
            }
            kinds.push((&hole.name, hole.kind.or(other).unwrap_or(Kind::Word)));
        }
        let resolve = |hole: &Hole| {
            let number = kinds.iter().position(|(name, _)| *name == hole.name);
            let number = number.expect("invariant: both sides have the same holes");
            (number, kinds[number].1)
        };
        Ok(Rule {
            file_side: Pattern::new(&from_parts, &resolve).map_err(at(from_span))?,
            model_side: Pattern::new(&to_parts, &resolve).map_err(at(to_span))?,
            from: from.clone(),
            to: to.clone(),
            span: from_span,
        })
    }

    /// Where the rule takes a name, if it matches.
    fn apply(&self, name: &str, way: Way) -> Option<String> {
        let (here, there) = match way {
            Way::ToModel => (&self.file_side, &self.model_side),
            Way::ToFile => (&self.model_side, &self.file_side),
        };
        let captures: Vec<Capture> = here.captures(name)?;
        there.filled(&captures)
    }
}

impl Renaming {
    /// The new name of a name, if it has one.
    pub fn new_name(&self, name: &str) -> Option<&str> {
        self.names.get(name).map(String::as_str)
    }

    /// Old and new names, in the order of the file.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &str)> {
        self.names.iter().map(|(old, new)| (old.as_str(), new.as_str()))
    }

    /// The tensors under their new names, without those that are ignored.
    pub fn apply(&self, tensors: NamedTensors) -> NamedTensors {
        let renamed = tensors.into_iter().filter_map(|(name, tensor): (String, Tensor)| {
            self.new_name(&name).map(|new| (new.to_string(), tensor))
        });
        renamed.collect()
    }
}

impl Way {
    fn other(self) -> Way {
        match self {
            Way::ToModel => Way::ToFile,
            Way::ToFile => Way::ToModel,
        }
    }
}

fn holes(parts: &[Part]) -> Vec<&Hole> {
    fn hole(part: &Part) -> Option<&Hole> {
        match part {
            Part::Hole(hole) => Some(hole),
            Part::Text(_) => None,
        }
    }
    parts.iter().filter_map(hole).collect()
}

/// A pattern that belongs to no rule.
fn lone(text: &str) -> Result<Pattern, PatternError> {
    let parts = parts(text)?;
    let names: Vec<String> = holes(&parts).iter().map(|hole| hole.name.clone()).collect();
    let number = |hole: &Hole| {
        let found = names.iter().position(|name| *name == hole.name);
        found.expect("invariant: the holes are those of the pattern itself")
    };
    Pattern::new(&parts, &|hole| (number(hole), hole.kind.unwrap_or(Kind::Word)))
}
