//! Diagnostics as text with carets.

use super::{Diagnostic, Severity};
use crate::source::SourceMap;
use codespan_reporting::diagnostic as cs;
use codespan_reporting::files::SimpleFiles;
use codespan_reporting::term::{self, termcolor};

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
        files.add(file.name.as_str(), file.text.as_str());
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
            cs::Label::new(style, label.span.file.0 as usize, range).with_message(&label.text)
        });
        let help = diagnostic.help.iter().map(|h| format!("help: {h}"));
        let notes = diagnostic.notes.iter().cloned().chain(help);
        let message = cs::Diagnostic::new(severity)
            .with_code(diagnostic.code)
            .with_message(&diagnostic.title)
            .with_labels(labels.collect())
            .with_notes(notes.collect());
        term::emit_to_write_style(writer, &config, &files, &message).map_err(std::io::Error::other)?;
    }
    Ok(())
}

/// The same as plain text, for tests and `--json`.
pub fn render_plain(sources: &SourceMap, diagnostics: &[Diagnostic]) -> String {
    let mut buffer = termcolor::NoColor::new(Vec::new());
    match render(&mut buffer, sources, diagnostics) {
        Ok(()) => String::from_utf8_lossy(&buffer.into_inner()).into_owned(),
        Err(error) => format!("diagnostics cannot be rendered: {error}"),
    }
}
