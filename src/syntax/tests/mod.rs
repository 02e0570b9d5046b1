//! Tests of the whole of syntax.

mod constructs;
mod depth;
mod files;
mod messages;
mod mutations;

use super::{ast, parse};
use crate::diag::{Diagnostic, render_plain};
use crate::source::SourceMap;
use crate::span::FileId;

fn tree(text: &str) -> ast::File {
    match parse(FileId(0), text) {
        Ok(file) => file,
        Err(errors) => panic!("{}", rendered(text, &errors)),
    }
}

fn rendered(text: &str, errors: &[Diagnostic]) -> String {
    let mut sources = SourceMap::new();
    sources.add("test.mdl", text);
    render_plain(&sources, errors)
}

/// A tree without its places, to compare two of them.
fn shape(file: &ast::File) -> String {
    let text = format!("{file:?}");
    let mut shape = String::with_capacity(text.len());
    let mut rest = text.as_str();
    while let Some(at) = rest.find("Span { file: ") {
        shape.push_str(&rest[..at]);
        let end = rest[at..].find('}').unwrap();
        // The `FileId(…)` within has no brace.
        rest = &rest[at + end + 1..];
    }
    shape + rest
}

/// Prints a text, and checks that the print means the same and prints to itself.
fn round_trip(text: &str) -> String {
    let file = tree(text);
    let printed = super::print(&file);
    let again = tree(&printed);
    assert_eq!(shape(&file), shape(&again), "{printed}");
    assert_eq!(super::print(&again), printed);
    printed
}
