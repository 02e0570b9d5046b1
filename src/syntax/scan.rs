//! A look over the text before it is parsed.
//!
//! Takes the text of a file and gives where its declarations begin, its comments, and what is wrong
//! with its brackets, strings and back-quotes. Afterwards the text is known to be no deeper than
//! [`MAX_NESTING`], so the recursive parser may run on it. One loop over the bytes with a stack of open
//! brackets: no recursion, whatever the input. It knows words and brackets, not the grammar.

use super::parse::foreign_word;
use crate::diag::{Diagnostic, Fault};
use crate::span::{FileId, Span};

/// Deepest nesting of brackets, braces, parentheses and name holes that is accepted; also of prefix
/// operators, powers and `else if`.
pub const MAX_NESTING: usize = 128;

/// A comment, `start..end` without its line's end.
pub(super) struct Comment {
    pub start: usize,
    pub end: usize,
    /// Whether it begins with exactly two marks.
    pub doc: bool,
}

/// One declaration's stretch of text: from its keyword to the next one's.
pub(super) struct Stretch {
    pub start: usize,
    pub end: usize,
    /// Whether a fault was already reported in it, so that parsing it would only repeat that.
    pub faulty: bool,
}

/// What the scan found.
pub(super) struct Scan {
    pub stretches: Vec<Stretch>,
    pub comments: Vec<Comment>,
    pub errors: Vec<Diagnostic>,
}

/// Scans a whole file.
///
/// # Errors
/// The limit that the text passes: nothing else is known of such a text.
pub(super) fn scan(file: FileId, text: &str) -> Result<Scan, Diagnostic> {
    let mut scanner = Scanner {
        file,
        text,
        pos: 0,
        open: Vec::new(),
        depth: 0,
        conditions: 0,
        before: b'\n',
        faulty: false,
        misaligned: None,
        found: Scan { stretches: Vec::new(), comments: Vec::new(), errors: Vec::new() },
    };
    scanner.run()?;
    Ok(scanner.found)
}

/// Whether a byte may continue a plain name.
pub(super) fn is_word_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// The end of the word that begins at `start`.
pub(super) fn word_end(text: &str, start: usize) -> usize {
    let rest = text.as_bytes().get(start..).unwrap_or(&[]);
    start + rest.iter().take_while(|b| is_word_byte(**b)).count()
}

struct Scanner<'t> {
    file: FileId,
    text: &'t str,
    pos: usize,
    /// Open brackets and where they are. A back-quote is one, and a brace in it begins a hole.
    open: Vec<(u8, usize)>,
    /// Open brackets without the back-quotes.
    depth: usize,
    /// Words `if` that still want their block: conditions can hold conditions without a bracket.
    conditions: usize,
    /// The last byte that is neither blank nor comment.
    before: u8,
    /// Whether the current declaration has a fault.
    faulty: bool,
    /// The first brace that was closed by one on a line further left than its own, and that one:
    /// where a closing brace is missing, it mostly is that of this pair.
    misaligned: Option<(usize, usize)>,
    found: Scan,
}

impl Scanner<'_> {
    fn run(&mut self) -> Result<(), Diagnostic> {
        let bytes = self.text.as_bytes();
        if self.text.starts_with('\u{feff}') {
            self.pos = '\u{feff}'.len_utf8();
        }
        while let Some(&byte) = bytes.get(self.pos) {
            if self.open.last().is_some_and(|(b, _)| *b == b'`') {
                self.quoted(byte)?;
                continue;
            }
            match byte {
                b' ' | b'\t' | b'\r' | b'\n' => self.pos += 1,
                b'#' => self.comment(),
                b'"' => self.string(),
                b'`' | b'(' | b'[' | b'{' => self.push(byte)?,
                b')' | b']' | b'}' => self.close(byte),
                b'0'..=b'9' => self.skip_to(word_end(self.text, self.pos)),
                _ if is_word_byte(byte) => self.word()?,
                _ => self.skip_to(self.pos + 1),
            }
        }
        self.unclosed();
        self.finish_stretch(self.text.len());
        Ok(())
    }

    fn skip_to(&mut self, end: usize) {
        self.before = self.text.as_bytes()[end - 1];
        self.pos = end;
    }

    fn span(&self, start: usize, end: usize) -> Span {
        Span::new(self.file, start, end)
    }

    /// Reports the first fault of a declaration; those after it mostly follow from it.
    fn error(&mut self, diagnostic: Diagnostic) {
        if !self.faulty {
            self.found.errors.push(diagnostic);
        }
        self.faulty = true;
    }

    fn comment(&mut self) {
        let rest = &self.text[self.pos..];
        let line = rest.split('\n').next().unwrap_or(rest).trim_end_matches('\r');
        let (start, end) = (self.pos, self.pos + line.len());
        let doc = line.starts_with("##") && !line.starts_with("###");
        self.found.comments.push(Comment { start, end, doc });
        self.pos = end;
    }

    fn string(&mut self) {
        let bytes = self.text.as_bytes();
        let mut end = self.pos + 1;
        loop {
            match bytes.get(end) {
                Some(b'"') => return self.skip_to(end + 1),
                Some(b'\\') if bytes.get(end + 1).is_some_and(|b| *b != b'\n') => end += 2,
                None | Some(b'\n') => break,
                Some(_) => end += 1,
            }
        }
        let span = self.span(self.pos, self.pos + 1);
        self.error(
            Diagnostic::error("unterminated-string", "this string does not end on its line")
                .at(span, "begins here")
                .help("a string ends with `\"`; `\\\"` is a quote within it, `\\n` a new line"),
        );
        self.skip_to(end);
    }

    fn quoted(&mut self, byte: u8) -> Result<(), Diagnostic> {
        match byte {
            b'{' => return self.push(byte),
            b'`' => {
                self.open.pop();
            }
            b'\n' => {
                if let Some((_, start)) = self.open.pop() {
                    let span = self.span(start, start + 1);
                    self.error(
                        Diagnostic::error(
                            "unterminated-name",
                            "this back-quoted name does not end on its line",
                        )
                        .at(span, "begins here"),
                    );
                }
            }
            _ => {}
        }
        self.skip_to(self.pos + 1);
        Ok(())
    }

    fn push(&mut self, byte: u8) -> Result<(), Diagnostic> {
        self.depth += usize::from(byte != b'`');
        if self.depth > MAX_NESTING {
            let span = self.span(self.pos, self.pos + 1);
            return Err(too_deep(span, "brackets are nested"));
        }
        if byte == b'{' && self.open.last().is_none_or(|(b, _)| *b != b'`') {
            self.conditions = self.conditions.saturating_sub(1);
        }
        self.open.push((byte, self.pos));
        self.skip_to(self.pos + 1);
        Ok(())
    }

    fn close(&mut self, byte: u8) {
        let here = self.span(self.pos, self.pos + 1);
        let wanted = opener(byte);
        match self.open.last().copied() {
            Some((open, start)) if open == wanted => {
                if byte == b'}' && self.misaligned.is_none() && self.closes_further_left(start) {
                    self.misaligned = Some((start, self.pos));
                }
                self.open.pop();
                self.depth -= 1;
            }
            Some((open, start)) => {
                let span = self.span(start, start + 1);
                let title = format!("`{}` is not closed before this `{}`", open as char, byte as char);
                self.error(
                    Diagnostic::error("unclosed-delimiter", title)
                        .at(here, format!("expected `{}` first", closer(open)))
                        .at(span, "opened here"),
                );
                // A closing bracket that fits further out ends everything in between.
                if let Some(outer) = self.open.iter().rposition(|(b, _)| *b == wanted) {
                    self.open.truncate(outer);
                    self.depth = self.open.iter().filter(|(b, _)| *b != b'`').count();
                }
            }
            None => {
                let title = format!("this `{}` closes nothing", byte as char);
                self.error(Diagnostic::error("unclosed-delimiter", title).at(here, ""));
            }
        }
        self.skip_to(self.pos + 1);
    }

    /// Whether the brace here is the first thing on its line, and that line begins further left
    /// than the one that the brace at `open` stands on.
    fn closes_further_left(&self, open: usize) -> bool {
        let indent = |at: usize| {
            let start = self.text[..at].rfind('\n').map_or(0, |end| end + 1);
            let blanks = self.text[start..at].bytes().take_while(|b| matches!(b, b' ' | b'\t')).count();
            (blanks, start + blanks == at)
        };
        let (here, first) = indent(self.pos);
        first && here < indent(open).0
    }

    /// A word: at the top level, or at the beginning of a line, a keyword of declarations begins one.
    fn word(&mut self) -> Result<(), Diagnostic> {
        let end = word_end(self.text, self.pos);
        let word = &self.text[self.pos..end];
        let declares = matches!(word, "use" | "module" | "fn" | "pattern" | "model");
        // `x: fn`, `-> module` and `std.use` are kinds and path parts.
        if declares && !matches!(self.before, b':' | b'>' | b'.') {
            let line_start = self.pos == 0 || self.text.as_bytes()[self.pos - 1] == b'\n';
            if line_start {
                self.unclosed();
            }
            if self.open.is_empty() {
                self.begin_stretch();
            }
        }
        if word == "if" {
            self.conditions += 1;
            if self.conditions > MAX_NESTING {
                return Err(too_deep(self.span(self.pos, end), "conditions are nested"));
            }
        }
        self.skip_to(end);
        Ok(())
    }

    fn begin_stretch(&mut self) {
        let start = self.pos;
        if self.found.stretches.is_empty() {
            self.stray(start);
        } else {
            self.finish_stretch(start);
        }
        self.found.stretches.push(Stretch { start, end: start, faulty: false });
        self.conditions = 0;
        self.faulty = false;
        self.misaligned = None;
    }

    /// Text before the first declaration is a fault of its own.
    fn stray(&mut self, end: usize) {
        if self.before == b'\n' {
            return;
        }
        let mut start = if self.text.starts_with('\u{feff}') { 3 } else { 0 };
        for comment in &self.found.comments {
            if !self.text[start..comment.start].trim().is_empty() {
                break;
            }
            start = comment.end;
        }
        let rest = &self.text[start..end];
        let start = start + rest.len() - rest.trim_start().len();
        let length = self.text[start..].chars().next().map_or(0, char::len_utf8);
        let stop = word_end(self.text, start).max(start + length);
        let found = self.text[start..stop].to_owned();
        let span = self.span(start, stop);
        self.error(declaration_expected(span, &found));
    }

    fn finish_stretch(&mut self, end: usize) {
        let faulty = self.faulty;
        match self.found.stretches.last_mut() {
            Some(stretch) => {
                stretch.end = end;
                stretch.faulty = faulty;
            }
            None => self.stray(end),
        }
    }

    /// Reports the innermost bracket that is still open, and forgets all of them.
    fn unclosed(&mut self) {
        if let Some((byte, start)) = self.open.last().copied() {
            let span = self.span(start, start + 1);
            let (code, title) = match byte {
                b'`' => ("unterminated-name", "this back-quoted name does not end on its line".to_owned()),
                _ => ("unclosed-delimiter", format!("`{}` is never closed", byte as char)),
            };
            let mut error = Diagnostic::error(code, title).at(span, "opened here");
            if let Some((open, close)) = self.misaligned.filter(|(open, _)| byte == b'{' && *open > start) {
                error = error
                    .at(self.span(open, open + 1), "perhaps it is this one that lacks its `}`")
                    .at(self.span(close, close + 1), "which is closed here, further left than it begins");
            }
            self.error(error);
        }
        self.open.clear();
        self.misaligned = None;
        self.depth = 0;
    }
}

/// The error for text where a declaration should begin.
pub(super) fn declaration_expected(span: Span, found: &str) -> Diagnostic {
    let error = Diagnostic::error("syntax", format!("expected a declaration, found `{found}`"))
        .at(span, "")
        .help("a file holds `use`, `module`, `fn`, `pattern` and `model` declarations");
    match found {
        "/" => error.help("`#` begins a comment"),
        word => match foreign_word(word) {
            Some(help) => error.help(help),
            None => error,
        },
    }
}

/// The error for a construct that is nested too deep.
pub(super) fn too_deep(span: Span, what: &str) -> Diagnostic {
    Diagnostic::error("nesting-too-deep", format!("{what} more than {MAX_NESTING} deep"))
        .fault(Fault::Limit)
        .at(span, "")
        .help("give the inner part a name with `let`, or move it into a function")
}

fn opener(closer: u8) -> u8 {
    match closer {
        b')' => b'(',
        b']' => b'[',
        _ => b'{',
    }
}

fn closer(opener: u8) -> char {
    match opener {
        b'(' => ')',
        b'[' => ']',
        b'`' => '`',
        _ => '}',
    }
}
