//! Diagnostics as text with carets.
//!
//! Names and sources are somebody's: what would move a terminal's cursor, or turn the direction of a
//! line, is shown and not sent.

use super::{Diagnostic, Severity};
use crate::source::SourceMap;
use codespan_reporting::diagnostic as cs;
use codespan_reporting::files::SimpleFiles;
use codespan_reporting::term::{self, termcolor};
use std::borrow::Cow;

/// Writes diagnostics with carets to a terminal or buffer that may have colours.
///
/// # Errors
/// Those of the writer.
pub fn render(
    writer: &mut dyn termcolor::WriteColor,
    sources: &SourceMap,
    diagnostics: &[Diagnostic],
) -> std::io::Result<()> {
    let mut files = SimpleFiles::new();
    for file in sources.files() {
        files.add(escaped(&file.name), blanked(&file.text));
    }
    let config = term::Config::default();
    for diagnostic in diagnostics {
        let severity = match diagnostic.severity {
            Severity::Error => cs::Severity::Error,
            Severity::Warning => cs::Severity::Warning,
        };
        let labels = diagnostic.labels.iter().enumerate().map(|(i, label)| {
            let range = label.span.start as usize..label.span.end as usize;
            let style = if i == 0 { cs::LabelStyle::Primary } else { cs::LabelStyle::Secondary };
            cs::Label::new(style, label.span.file.0 as usize, range).with_message(escaped(&label.text))
        });
        let help = diagnostic.help.iter().map(|h| format!("help: {h}"));
        let notes = diagnostic.notes.iter().cloned().chain(help).map(|note| escaped(&note).into_owned());
        let message = cs::Diagnostic::new(severity)
            .with_code(diagnostic.code)
            .with_message(escaped(&diagnostic.title))
            .with_labels(labels.collect())
            .with_notes(notes.collect());
        term::emit_to_write_style(writer, &config, &files, &message).map_err(std::io::Error::other)?;
    }
    Ok(())
}

/// Whether a terminal obeys a character instead of showing it.
fn is_obeyed(c: char) -> bool {
    let turns = matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    turns || (c.is_control() && !matches!(c, '\n' | '\r' | '\t'))
}

/// A text with such characters written out.
fn escaped(text: &str) -> Cow<'_, str> {
    if !text.contains(is_obeyed) {
        return Cow::Borrowed(text);
    }
    let shown = text.chars().map(|c| if is_obeyed(c) { c.escape_unicode().to_string() } else { c.into() });
    Cow::Owned(shown.collect())
}

/// A source with such characters replaced, byte for byte, so that places stay where they are.
fn blanked(text: &str) -> Cow<'_, str> {
    if !text.contains(is_obeyed) {
        return Cow::Borrowed(text);
    }
    let shown = text.chars().map(|c| if is_obeyed(c) { "?".repeat(c.len_utf8()) } else { c.into() });
    Cow::Owned(shown.collect())
}

/// The same as plain text, for tests and `--json`.
pub fn render_plain(sources: &SourceMap, diagnostics: &[Diagnostic]) -> String {
    let mut buffer = termcolor::NoColor::new(Vec::new());
    match render(&mut buffer, sources, diagnostics) {
        Ok(()) => String::from_utf8_lossy(&buffer.into_inner()).into_owned(),
        Err(error) => format!("diagnostics cannot be rendered: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::span::Span;

    #[test]
    fn what_a_terminal_obeys_is_shown() {
        let mut sources = SourceMap::new();
        let file = sources.add("a\u{1b}[2J.mdl", "x = \u{1b}[31m y\u{9b}z\u{202e} here");
        let at = sources.file(file).text.find("here").unwrap();
        let diagnostic = Diagnostic::error("e", "name `\u{1b}]0;w\u{7}`")
            .at(Span::new(file, at, at + 4), "l\u{8}")
            .help("h\u{202e}");
        let text = render_plain(&sources, &[diagnostic]);
        assert!(!text.contains(is_obeyed), "{text:?}");
        assert!(text.contains("`\\u{1b}]0;w\\u{7}`") && text.contains("x = ?[31m y??z??? here"), "{text}");
    }
}
