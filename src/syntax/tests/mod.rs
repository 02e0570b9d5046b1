//! Tests of the whole of syntax.

mod files;

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
