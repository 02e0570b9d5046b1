//! Links and paths lead somewhere.

use super::markdown::{anchor, links, prose, spans, without_code};
use super::{document, documents, root};
use std::path::Path;

const FOLDERS: [&str; 9] =
    ["src/", "tests/", "docs/", "models/", "std/", "grammar/", "examples/", ".ci/", "bench/"];

#[test]
fn relative_links_resolve() {
    let (mut wrong, mut count) = (Vec::new(), 0);
    for found in documents() {
        let folder = found.path.parent().unwrap_or(Path::new(""));
        for (line, text) in prose(&found.text) {
            // `](` inside code is an index that is called, not a link.
            for target in links(&without_code(text)).into_iter().filter(|t| !t.contains("://")) {
                count += 1;
                let (file, section) =
                    target.split_once('#').map_or((target.as_str(), None), |(f, s)| (f, Some(s)));
                let path = if file.is_empty() { found.path.clone() } else { folder.join(file) };
                let there = root().join(&path).exists();
                let there = there
                    && section.is_none_or(|section| {
                        let text = document(path.clone()).text;
                        let headings = prose(&text).into_iter().filter(|(_, line)| line.starts_with('#'));
                        headings.map(|(_, line)| anchor(line)).any(|heading| heading == section)
                    });
                if !there {
                    wrong.push(format!("{}:{line}: {target}", found.path.display()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "links that lead nowhere:\n{}", wrong.join("\n"));
    assert!(count >= 8, "only {count} links");
}

#[test]
fn paths_exist() {
    let mut wrong = Vec::new();
    for found in documents() {
        for (line, text) in prose(&found.text) {
            for path in spans(text).into_iter().filter(|span| FOLDERS.iter().any(|f| span.starts_with(f))) {
                let plain = path.chars().all(|c| c.is_ascii_alphanumeric() || "_-./".contains(c));
                if plain && !root().join(path).exists() {
                    wrong.push(format!("{}:{line}: `{path}`", found.path.display()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "paths that do not exist:\n{}", wrong.join("\n"));
}
