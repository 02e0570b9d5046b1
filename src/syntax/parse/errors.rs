//! What a user is told where the grammar does not match.
//!
//! Takes the text of one declaration that does not parse and gives the diagnostic for it: the
//! furthest place the grammar reached, what it could have gone on with, and what stands there
//! instead. Frequent slips from other languages are recognised by what stands there.

use super::super::scan::{declaration_expected, is_word_byte, word_end};
use super::grammar::{Grammar, Rule};
use crate::diag::Diagnostic;
use crate::dtype::DType;
use crate::span::{FileId, Span};
use pest::{Parser as _, set_error_detail};
use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

/// Words that cannot be names.
const RESERVED: &[&str] = &[
    "module",
    "fn",
    "pattern",
    "model",
    "use",
    "as",
    "param",
    "buffer",
    "tie",
    "flat",
    "require",
    "entry",
    "forward",
    "let",
    "recur",
    "init",
    "by",
    "for",
    "in",
    "if",
    "else",
    "when",
    "where",
    "and",
    "or",
    "not",
    "true",
    "false",
    "self",
    "sum",
    "prod",
    "mean",
    "any",
    "all",
    "argmax",
    "argmin",
    "softmax",
    "log_softmax",
    "logsumexp",
];

/// Those of them that reduce; `max` and `min` do so only before `[`.
const REDUCERS: &[&str] = &[
    "sum",
    "prod",
    "mean",
    "any",
    "all",
    "argmax",
    "argmin",
    "softmax",
    "log_softmax",
    "logsumexp",
    "max",
    "min",
];

/// Operators of other languages, and what is written for them here.
const FOREIGN_OPERATORS: &[(&str, &str)] = &[
    ("&&", "write `and`"),
    ("&", "write `and`"),
    ("||", "write `or`"),
    ("|", "write `or`"),
    ("!", "write `not`"),
    ("^", "a power is written `**`"),
];

/// Words of other languages, and what is written for them here.
const FOREIGN_WORDS: &[(&str, &str)] = &[
    ("return", "the last expression of a block is its value"),
    ("class", "a module begins with `module Name(statics) {`"),
    ("struct", "a module begins with `module Name(statics) {`"),
    ("def", "a function is written `fn name(x: [..]) -> [..] = …`, an entry of a module `entry name(…)`"),
    (
        "function",
        "a function is written `fn name(x: [..]) -> [..] = …`, an entry of a module `entry name(…)`",
    ),
    ("func", "a function is written `fn name(x: [..]) -> [..] = …`, an entry of a module `entry name(…)`"),
    ("import", "files and libraries are imported by `use`"),
    ("from", "files and libraries are imported by `use`"),
    ("var", "a local is made by `let`"),
    ("const", "a local is made by `let`"),
    ("while", "`for` repeats a known number of times, `recur` runs over positions"),
];

/// What is written here for a word of another language.
pub(in super::super) fn foreign_word(word: &str) -> Option<&'static str> {
    FOREIGN_WORDS.iter().find(|(w, _)| *w == word).map(|(_, help)| *help)
}

/// Whether a word is reserved and so no plain name.
fn is_reserved(word: &str) -> bool {
    RESERVED.contains(&word)
}

/// The diagnostic for a declaration that does not parse; `base` is where it begins in the file.
pub(super) fn explain(file: FileId, base: usize, text: &str) -> Diagnostic {
    let (pos, expected) = furthest(text);
    let fault = Fault { text, pos, expected: Expected::of(&expected) };
    let (start, end) = fault.place();
    let span = Span::new(file, base + start, base + end);
    if let Some(diagnostic) = fault.known(span) {
        return diagnostic;
    }
    let found = match text.get(start..end) {
        Some(found) if pos < text.len() && !found.trim().is_empty() => format!("`{found}`"),
        _ => "the end of the declaration".to_owned(),
    };
    if start == 0 {
        return declaration_expected(span, found.trim_matches('`'));
    }
    let title = format!("expected {}, found {found}", fault.expected.words());
    fault.advise(Diagnostic::error("syntax", title).at(span, ""))
}

/// How far the grammar came, and what could have stood there.
///
/// The parser generator keeps this only when a setting of the whole process says so; it costs
/// time, so it is set just for this second run over a text that is known to be wrong.
fn furthest(text: &str) -> (usize, BTreeSet<String>) {
    static DETAIL: Mutex<()> = Mutex::new(());
    let guard = DETAIL.lock().unwrap_or_else(PoisonError::into_inner);
    set_error_detail(true);
    let parsed = Grammar::parse(Rule::single, text);
    set_error_detail(false);
    drop(guard);
    let Err(error) = parsed else { return (text.len(), BTreeSet::new()) };
    let fallback = match error.location {
        pest::error::InputLocation::Pos(pos) | pest::error::InputLocation::Span((pos, _)) => pos,
    };
    let Some(attempts) = error.parse_attempts() else { return (fallback, BTreeSet::new()) };
    // The type of these tokens has no public name; ranges of characters read `a..z`.
    let tokens = attempts.expected_tokens().into_iter().map(|token| token.to_string());
    let tokens = tokens.filter(|t| t != "BUILTIN_RULE" && !(t.len() == 4 && t.get(1..3) == Some("..")));
    (attempts.max_position.max(fallback), tokens.collect())
}

/// What the grammar could have gone on with, in the language's terms.
struct Expected {
    /// An expression could begin.
    expression: bool,
    /// An expression had ended and could have gone on.
    operator: bool,
    /// A name could stand.
    name: bool,
    statement: bool,
    member: bool,
    ty: bool,
    /// Brackets, marks and keywords.
    exact: Vec<String>,
}

impl Expected {
    fn of(tokens: &BTreeSet<String>) -> Expected {
        let has = |token: &str| tokens.contains(token);
        let expression = has("true");
        let operator = has("**");
        let statement = has("recur");
        let member = has("tie");
        let name = has("`");
        let ty = has("bf16");
        let swallowed = |token: &str| {
            let begins = ["(", "[", "\"", "`", "-", "for", "if"].contains(&token) || is_reserved(token);
            let continues = [
                "==", "!=", "<=", ">=", "<", ">", "++", "+", "-", "**", "*", "//", "/", "%", "@", "or", "and",
            ]
            .contains(&token);
            let blank = token.trim().is_empty() || ["#", "_", "E"].contains(&token);
            let starts_value = expression || statement || member;
            let adjacent = operator && ["(", "[", "."].contains(&token);
            let of_type = ty && (token == "[" || token.bytes().all(|b| b.is_ascii_alphanumeric()));
            blank
                || (starts_value && begins)
                || (operator && continues)
                || adjacent
                || of_type
                || ((expression || name) && ["max", "min", "`"].contains(&token))
        };
        let exact = tokens.iter().filter(|t| !swallowed(t)).cloned().collect();
        Expected { expression, operator, name, statement, member, ty, exact }
    }

    /// Whether nothing is known.
    fn is_empty(&self) -> bool {
        let any = self.expression || self.operator || self.name || self.statement || self.member || self.ty;
        !any && self.exact.is_empty()
    }

    fn words(&self) -> String {
        let mut words = Vec::new();
        if self.member {
            words.push("a member".to_owned());
        } else if self.statement {
            words.push("a statement".to_owned());
        } else if self.expression {
            words.push("an expression".to_owned());
        } else if self.name {
            words.push("a name".to_owned());
        }
        if self.ty {
            words.push("a type".to_owned());
        }
        words.extend(self.exact.iter().take(4).map(|t| match t.as_str() {
            "\"" => "a string".to_owned(),
            t => format!("`{t}`"),
        }));
        if words.is_empty() && self.operator {
            words.push("an operator".to_owned());
        }
        match words.pop() {
            None => "the next declaration".to_owned(),
            Some(only) if words.is_empty() => only,
            Some(last) => format!("{} or {last}", words.join(", ")),
        }
    }
}

/// A text that does not parse, and where.
struct Fault<'t> {
    text: &'t str,
    pos: usize,
    expected: Expected,
}

impl Fault<'_> {
    /// The word, number or mark at the place; at the end, the last mark of the text.
    fn place(&self) -> (usize, usize) {
        let mut pos = self.pos.min(self.text.len());
        while !self.text.is_char_boundary(pos) {
            pos -= 1;
        }
        let word = word_end(self.text, pos);
        if word > pos {
            return (pos, word);
        }
        const PAIRS: [&str; 8] = ["//", "->", "=>", "==", "&&", "||", "..", "::"];
        let rest = &self.text[pos..];
        if let Some(mark) = PAIRS.iter().find(|m| rest.starts_with(**m)) {
            return (pos, pos + mark.len());
        }
        if let Some(c) = rest.chars().next() {
            return (pos, pos + c.len_utf8());
        }
        let last = self.text.trim_end();
        (last.len() - last.chars().next_back().map_or(0, char::len_utf8), last.len())
    }

    /// The text before the place, without blanks at the end of it all.
    fn before(&self) -> &str {
        let text = self.text.trim_end();
        if self.pos >= text.len() { text } else { &self.text[..self.place().0] }
    }

    /// The word that ends right before the place, and where it begins.
    fn word_before(&self) -> (&str, usize) {
        let text = self.before().trim_end();
        let start = text.bytes().rposition(|b| !is_word_byte(b)).map_or(0, |i| i + 1);
        (&text[start..], start)
    }

    /// Slips that have an error of their own.
    fn known(&self, span: Span) -> Option<Diagnostic> {
        let (start, end) = self.place();
        let at = |start: usize, end: usize| {
            let offset = span.start as usize - self.place().0;
            Span::new(span.file, offset + start, offset + end)
        };
        let found = self.text.get(start..end).unwrap_or("");
        let before = self.before();
        let digit_before = |text: &str| text.ends_with(|c: char| c.is_ascii_digit());
        let (word, word_start) = self.word_before();
        let word_span = at(word_start, word_start + word.len());
        if REDUCERS.contains(&word) && self.expected.exact.iter().any(|t| t == "[") {
            return Some(reducer_alone(word, word_span));
        }
        if self.expected.is_empty() && self.declares_in_module(word, word_start) {
            let title = format!("`{word}` cannot stand in a module");
            let error = Diagnostic::error("syntax", title).at(word_span, "");
            return Some(error.help("declarations stand at the top level of a file"));
        }
        if self.expected.is_empty() && is_reserved(word) {
            return Some(reserved(word, word_span));
        }
        if before.strip_suffix('.').is_some_and(digit_before) {
            return Some(
                bad_number(span).help("a number has digits on both sides of its point; `0..n` is a range"),
            );
        }
        if self.pos >= self.text.trim_end().len() {
            return None;
        }
        if digit_before(before) && (found == "." || is_word(found)) {
            return Some(
                bad_number(span).help("numbers are written `12`, `0.5`, `1e-5`; no name begins with a digit"),
            );
        }
        if found == "." && self.text[end..].starts_with(|c: char| c.is_ascii_digit()) {
            let whole = at(start, word_end(self.text, end));
            return Some(bad_number(whole).help("a number has digits on both sides of its point: `0.5`"));
        }
        if let Some((_, help)) = FOREIGN_OPERATORS.iter().find(|(op, _)| *op == found) {
            let error = Diagnostic::error("syntax", format!("there is no operator `{found}`")).at(span, "");
            return Some(error.help(*help));
        }
        if let Some(help) = foreign_word(word) {
            let error = Diagnostic::error("syntax", format!("there is no `{word}`")).at(word_span, "");
            return Some(error.help(help));
        }
        if found == "=" && before[..word_start].trim_end().ends_with("entry") {
            let rest = self.text[end..].trim_start();
            let derived = &rest[..word_end(rest, 0)];
            if ["step", "backward"].contains(&derived) {
                let start = self.text.len() - rest.len();
                return Some(not_derived(derived, at(start, start + derived.len())));
            }
        }
        if found == "=" && before.ends_with(['+', '-', '*', '/']) {
            let op = &before[before.len() - 1..];
            let error =
                Diagnostic::error("syntax", format!("there is no `{op}=`")).at(at(start - 1, end), "");
            return Some(error.help(format!("write `x = x {op} …`")));
        }
        if (self.expected.expression || self.expected.name) && REDUCERS.contains(&found) {
            return Some(reducer_alone(found, span));
        }
        if self.expected.name && is_reserved(found) {
            return Some(reserved(found, span));
        }
        let c = found.chars().next().unwrap_or(' ');
        (!c.is_ascii()).then(|| {
            let error =
                Diagnostic::error("syntax", format!("the character `{c}` cannot stand here")).at(span, "");
            error.help("plain names are of ASCII letters, digits and `_`; back-quotes make any text a name")
        })
    }

    /// Whether a word begins a declaration among the members of a module.
    fn declares_in_module(&self, word: &str, start: usize) -> bool {
        let after = self.text[start + word.len()..].trim_start();
        ["fn", "module", "pattern", "model", "use"].contains(&word)
            && start > 0
            && self.text.starts_with("module")
            && after.starts_with(|c: char| c.is_alphabetic() || c == '_')
    }

    /// Adds how to mend what stands there.
    fn advise(&self, diagnostic: Diagnostic) -> Diagnostic {
        let (start, end) = self.place();
        let after = &self.text[end..];
        let help = match self.text.get(start..end).unwrap_or("") {
            ";" => "a new line begins a statement; `;` stands in `[value; count]` only",
            "//" => "`#` begins a comment; `//` is floor division",
            "/" if after.starts_with('*') => "`#` begins a comment",
            "'" => "strings stand in double quotes",
            "=" if self.expected.operator => "`==` compares",
            _ if DType::from_name(self.word_before().0).is_some() => {
                "a scalar tensor is written `f32[]`, `i64[]`"
            }
            _ => return diagnostic,
        };
        diagnostic.help(help)
    }
}

fn reserved(word: &str, span: Span) -> Diagnostic {
    Diagnostic::error("reserved-word", format!("`{word}` is a reserved word"))
        .at(span, "")
        .help(format!("as a name it stands in back-quotes: `` `{word}` ``"))
}

fn reducer_alone(word: &str, span: Span) -> Diagnostic {
    Diagnostic::error("reserved-word", format!("`{word}` is a reducer and wants its indices"))
        .at(span, "")
        .help(format!("write `{word}[i] x[i]`, with no blank before `[`"))
}

fn not_derived(what: &str, span: Span) -> Diagnostic {
    Diagnostic::error("not-supported", format!("entries cannot be derived by `{what}` yet"))
        .at(span, "")
        .help("write the entry out, with its parameters and a body")
}

fn bad_number(span: Span) -> Diagnostic {
    Diagnostic::error("bad-number", "this is not a number").at(span, "")
}

fn is_word(text: &str) -> bool {
    text.bytes().next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_here_are_those_of_the_grammar() {
        for word in RESERVED {
            let found = explain(FileId(0), 0, &format!("model {word} = a"));
            assert!(matches!(found.code, "reserved-word"), "{word}: {}", found.title);
        }
        let grammar = include_str!("../../../grammar/mdl.pest");
        let rule = grammar.split("\nreserved ").nth(1).and_then(|r| r.split("~ !idc").next()).unwrap();
        let words: Vec<&str> = rule.split('"').skip(1).step_by(2).collect();
        assert_eq!(words, RESERVED);
    }
}
