//! Real files: the design's examples, the standard library and the models.

use super::{round_trip, tree};
use std::fs;
use std::path::{Path, PathBuf};

/// Name and text of every `.mdl` file of the project, in order.
pub(super) fn all() -> Vec<(PathBuf, String)> {
    fn collect(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                collect(&path, found);
            } else if path.extension().is_some_and(|e| e == "mdl") {
                found.push(path);
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    for folder in ["tests/fixtures/design", "std", "models"] {
        collect(&root.join(folder), &mut found);
    }
    found.sort();
    found.into_iter().map(|path| (path.clone(), fs::read_to_string(path).unwrap())).collect()
}

#[test]
fn every_file_of_the_project_parses() {
    let files = all();
    assert!(files.len() >= 4);
    for (path, text) in files {
        println!("{}", path.display());
        assert!(!tree(&text).items.is_empty());
    }
}

#[test]
fn every_file_of_the_project_prints_to_itself() {
    for (path, text) in all() {
        println!("{}", path.display());
        round_trip(&text);
    }
}
