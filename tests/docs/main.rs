//! The documents are true: examples compile, commands run, links and paths lead somewhere, and
//! tables say what the code says.
//!
//! `INSTA_UPDATE=always cargo test --test docs` writes the parts of `docs/` that are made from
//! the code, as it blesses snapshots; read the difference.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod examples;
mod library;
mod links;
mod lists;
mod markdown;
mod models;

use std::fs;
use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Files below a folder of the project whose names end in `ending`, in order; paths from the root.
fn files(folder: &str, ending: &str) -> Vec<PathBuf> {
    fn collect(folder: &Path, ending: &str, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                collect(&path, ending, found);
            } else if path.to_string_lossy().ends_with(ending) {
                found.push(path.strip_prefix(root()).unwrap().to_path_buf());
            }
        }
    }
    let mut found = Vec::new();
    collect(&root().join(folder), ending, &mut found);
    found.sort();
    found
}

/// A document and its path from the root.
struct Document {
    path: PathBuf,
    text: String,
}

fn document(path: impl Into<PathBuf>) -> Document {
    let path = path.into();
    let text = fs::read_to_string(root().join(&path)).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    Document { path, text }
}

/// Everything that people read, in order.
fn documents() -> Vec<Document> {
    let top = fs::read_dir(root()).unwrap().map(|entry| PathBuf::from(entry.unwrap().file_name()));
    let mut paths: Vec<PathBuf> = top.filter(|path| path.extension().is_some_and(|e| e == "md")).collect();
    for folder in ["docs", "examples", "src"] {
        paths.extend(files(folder, ".md"));
    }
    paths.sort();
    assert!(paths.len() > 5, "{paths:?}");
    paths.into_iter().map(document).collect()
}

/// Compares a document with what it should be, or writes it where snapshots are blessed.
fn assert_current(path: &str, wanted: &str) {
    if std::env::var("INSTA_UPDATE").is_ok_and(|how| how == "always") {
        fs::write(root().join(path), wanted).unwrap();
        return;
    }
    let found = document(path).text;
    let differing = found.lines().zip(wanted.lines()).position(|(a, b)| a != b);
    let at = differing.unwrap_or(found.lines().count().min(wanted.lines().count()));
    let line = |text: &str| text.lines().nth(at).unwrap_or("(the end)").to_string();
    assert!(
        found == wanted,
        "{path}:{}: it says\n    {}\nwhere the code makes it\n    {}\n\
         `INSTA_UPDATE=always cargo test --test docs` writes it anew",
        at + 1,
        line(&found),
        line(wanted)
    );
}

fn mdlc() -> assert_cmd::Command {
    let mut command = assert_cmd::Command::cargo_bin("mdlc").unwrap();
    command.current_dir(root());
    command.env("MDLC_CACHE_DIR", concat!(env!("CARGO_TARGET_TMPDIR"), "/cache"));
    command
}
