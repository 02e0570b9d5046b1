//! The rules of the house that a compiler does not check: floors, file sizes, unsafe code.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Modules by floor: a module may use those of its own floor and below.
const FLOORS: &[&[&str]] = &[
    &["span", "source", "dtype", "tensor", "diag", "dim"],
    &["syntax", "ops", "files"],
    &["graph"],
    &["sema"],
    &["passes"],
    &["analysis"],
    &["loops"],
    &["codegen", "runtime"],
    &["driver"],
    &["cli"],
];

/// Where native code is made and called; nothing else may contain unsafe code.
const UNSAFE_MODULES: &[&str] = &[
    "src/codegen/jit.rs",
    "src/runtime/aligned.rs",
    "src/runtime/call.rs",
    "src/runtime/pool.rs",
    "src/runtime/record.rs",
    "src/files/map.rs",
];

const MAX_LINES: usize = 800;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn relative(path: &Path) -> String {
    path.strip_prefix(root()).unwrap().to_string_lossy().into_owned()
}

fn is_test(name: &str) -> bool {
    name.contains("/tests")
}

/// Name and text of every source file, in order.
fn sources() -> Vec<(String, String)> {
    fn collect(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                collect(&path, found);
            } else if path.extension().is_some_and(|e| e == "rs") {
                found.push(path);
            }
        }
    }
    let mut found = Vec::new();
    collect(&root().join("src"), &mut found);
    found.sort();
    found.iter().map(|path| (relative(path), fs::read_to_string(path).unwrap())).collect()
}

#[test]
fn imports_go_downwards() {
    let floor: BTreeMap<&str, usize> =
        FLOORS.iter().enumerate().flat_map(|(n, names)| names.iter().map(move |name| (*name, n))).collect();
    let mut wrong = Vec::new();
    for (name, text) in sources().iter().filter(|(name, _)| !is_test(name)) {
        let module = name.split('/').nth(1).unwrap().trim_end_matches(".rs");
        let Some(mine) = floor.get(module) else {
            assert!(matches!(module, "lib" | "main"), "{name} has no floor in this test");
            continue;
        };
        // Unit tests may look anywhere.
        let text = text.split("#[cfg(test)]").next().unwrap_or("");
        for (n, line) in text.lines().enumerate().filter(|(_, l)| !l.trim_start().starts_with("//")) {
            for part in line.split("crate::").skip(1) {
                let used: String = part.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
                if floor.get(used.as_str()).is_some_and(|theirs| theirs > mine) {
                    wrong.push(format!("{name}:{}: {module} uses {used}, which lies above it", n + 1));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn files_stay_readable() {
    let long: Vec<String> = sources()
        .iter()
        .map(|(name, text)| (name, text.lines().count()))
        .filter(|(_, lines)| *lines > MAX_LINES)
        .map(|(name, lines)| format!("{name} has {lines} lines"))
        .collect();
    assert!(long.is_empty(), "split by op family or invariant:\n{}", long.join("\n"));
}

#[test]
fn every_module_says_what_it_is() {
    let silent: Vec<String> = sources()
        .into_iter()
        .filter(|(name, text)| !text.starts_with("//!") && !is_test(name))
        .map(|(name, _)| name)
        .collect();
    assert!(silent.is_empty(), "no module docs:\n{}", silent.join("\n"));
}

#[test]
fn unsafe_stays_where_native_code_is_called() {
    let has_unsafe = |text: &str| {
        let code = text.lines().map(str::trim_start).filter(|l| !l.starts_with("//"));
        code.into_iter().any(|l| ["unsafe {", "unsafe fn", "unsafe impl"].iter().any(|u| l.contains(u)))
    };
    let wrong: Vec<String> = sources()
        .into_iter()
        .filter(|(name, text)| has_unsafe(text) && !UNSAFE_MODULES.contains(&name.as_str()) && !is_test(name))
        .map(|(name, _)| name)
        .collect();
    assert!(wrong.is_empty(), "unsafe code outside the modules for it:\n{}", wrong.join("\n"));
}

/// pest, Cranelift and clap are each known in one place; petgraph where graphs are rewritten.
#[test]
fn dependencies_are_known_where_they_belong() {
    let homes: &[(&str, &[&str])] = &[
        ("pest", &["src/syntax/"]),
        ("petgraph", &["src/graph/", "src/passes/", "src/loops/lower/", "src/sema/"]),
        ("cranelift", &["src/codegen/"]),
        ("iced_x86", &["src/codegen/vector/"]),
        ("clap", &["src/cli/", "src/main.rs"]),
    ];
    let mut wrong = Vec::new();
    for (name, text) in sources() {
        for (dependency, folders) in homes {
            let used = text.lines().any(|l| l.trim_start().starts_with(&format!("use {dependency}")));
            if used && !folders.iter().any(|folder| name.starts_with(folder)) {
                wrong.push(format!("{name} uses {dependency}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
