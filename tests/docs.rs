//! The documents say what is so: examples compile, links resolve, and the lists of models and of
//! the library are complete and have the right numbers.
//!
//! `MDLC_BLESS=1 cargo test --test docs` writes the lists anew; read the difference.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use mdlc::dim::Symbol;
use mdlc::driver::Compiler;
use mdlc::graph::cost;
use std::fmt::Write;
use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// Files of a folder with this ending, in order.
fn files(folder: &str, ending: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(root().join(folder)).unwrap();
    let mut found: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    found.retain(|path| path.extension().is_some_and(|e| e == ending));
    found.sort();
    found
}

fn documents() -> Vec<PathBuf> {
    [".", "docs", "docs/decisions"].iter().flat_map(|folder| files(folder, "md")).collect()
}

/// Fenced blocks: the line they begin at, what stands behind the fence, and the text.
fn blocks(text: &str) -> Vec<(usize, String, String)> {
    let (mut found, mut open): (Vec<_>, Option<(usize, String, String)>) = (Vec::new(), None);
    for (number, line) in text.lines().enumerate() {
        match (&mut open, line.strip_prefix("```")) {
            (None, Some(info)) => open = Some((number + 1, info.to_string(), String::new())),
            (Some(_), Some(_)) => found.extend(open.take()),
            (Some((_, _, block)), None) => {
                block.push_str(line);
                block.push('\n');
            }
            (None, None) => {}
        }
    }
    assert!(open.is_none(), "a fence is not closed");
    found
}

/// Models that a text declares, in order.
fn models(text: &str) -> Vec<String> {
    let name = |line: &str| Some(line.strip_prefix("model ")?.split([' ', '=']).next()?.to_string());
    text.lines().filter_map(name).collect()
}

/// `mdl` blocks compile, all their models; `mdl-error` blocks fail with the code on their first line.
#[test]
fn examples_compile() {
    let mut compiled = 0;
    for path in documents() {
        for (line, info, text) in blocks(&read(&path)) {
            let place = format!("{}:{line}", path.display());
            let elaborate = |model: &str| {
                Compiler::new().model(model).elaborate_source(&place, &text, &root().join("models"))
            };
            match info.as_str() {
                "mdl" => {
                    assert!(!models(&text).is_empty(), "{place} declares no model");
                    for model in models(&text) {
                        let mut unit = elaborate(&model).unwrap_or_else(|error| panic!("{error}"));
                        unit.optimise(None).unwrap();
                        let loops = unit.lower().unwrap();
                        unit.generate(loops, false).unwrap();
                        compiled += 1;
                    }
                }
                "mdl-error" => {
                    let code =
                        text.lines().next().unwrap().trim_start_matches("# error[").trim_end_matches(']');
                    let error = elaborate(&models(&text)[0]).unwrap_err();
                    assert!(error.diagnostics.iter().any(|d| d.code == code), "{place}: {error}");
                }
                _ => {}
            }
        }
    }
    assert!(compiled >= 10, "{compiled} models in all documents");
}

#[test]
fn links_resolve() {
    let mut wrong = String::new();
    for path in documents() {
        for part in read(&path).split("](").skip(1) {
            let target = part.split([')', '#']).next().unwrap();
            let outside = target.is_empty() || target.contains("://") || target.contains([' ', ',']);
            if !outside && !path.parent().unwrap().join(target).exists() {
                writeln!(wrong, "{}: {target}", path.display()).unwrap();
            }
        }
    }
    assert!(wrong.is_empty(), "links to nothing:\n{wrong}");
}

/// Compares what follows the line `<!-- generated -->` of a document with `wanted`.
fn compare(document: &str, wanted: &str) {
    let path = root().join(document);
    let text = read(&path);
    let (head, found) = text.split_once("<!-- generated -->\n").unwrap();
    if std::env::var("MDLC_BLESS").is_ok_and(|v| v == "1") {
        std::fs::write(&path, format!("{head}<!-- generated -->\n{wanted}")).unwrap();
        return;
    }
    let same = found.lines().zip(wanted.lines()).take_while(|(a, b)| a == b).count();
    let line = wanted.lines().nth(same).unwrap_or("nothing more");
    assert!(found == wanted, "{document} is out of date; expected: {line}\nMDLC_BLESS=1 writes it anew");
}

/// Comment lines at the head of a file.
fn header(text: &str) -> String {
    let lines = text.lines().take_while(|line| line.starts_with('#') && !line.starts_with("##"));
    lines.map(|line| line.trim_start_matches("# ")).collect::<Vec<_>>().join(" ")
}

fn stem(path: &Path) -> &str {
    path.file_stem().unwrap().to_str().unwrap()
}

/// Sizes for formulas that are too long to read.
fn usual(symbol: &Symbol) -> i64 {
    match symbol.name() {
        "B" => 1,
        "H" | "W" => 224,
        _ => 128,
    }
}

/// A formula, or where that is long its value at the usual sizes.
fn short(formula: &mdlc::dim::Dim) -> String {
    let text = formula.to_string();
    if text.len() <= 48 {
        return format!("`{text}`");
    }
    let value = formula.eval(&|symbol| Some(usual(symbol))).unwrap();
    format!("{:.3} G", value as f64 / 1e9)
}

#[test]
fn the_list_of_models_is_right() {
    let mut list = String::new();
    for path in files("models", "mdl") {
        let text = read(&path);
        let lines =
            text.lines().filter(|line| !line.trim().is_empty() && !line.trim().starts_with('#')).count();
        writeln!(list, "\n## {}\n\n{} {lines} lines of MDL.\n", stem(&path), header(&text)).unwrap();
        writeln!(list, "| model | inputs | parameters | multiply-adds | FLOPs |").unwrap();
        writeln!(list, "| --- | --- | ---: | ---: | ---: |").unwrap();
        for model in models(&text) {
            let unit = Compiler::new().model(&model).elaborate_file(&path).unwrap_or_else(|e| panic!("{e}"));
            let signature = &unit.program.signature;
            let inputs = signature
                .inputs
                .iter()
                .map(|port| format!("`{}: {}`", port.name, mdlc::graph::print::type_text(&port.ty)));
            let params = signature.weights.iter().filter(|weight| !weight.buffer);
            let params = params.map(|weight| mdlc::dim::Dim::product(&weight.ty.shape).unwrap());
            let params = params.fold(mdlc::dim::Dim::ZERO, |sum, size| sum.add(&size).unwrap());
            let cost = cost::program(&unit.program).unwrap();
            let inputs = inputs.collect::<Vec<_>>().join(", ");
            let (adds, flops) = (short(&cost.multiply_adds), short(&cost.flops));
            writeln!(list, "| `{model}` | {inputs} | {params} | {adds} | {flops} |").unwrap();
        }
    }
    compare("docs/models.md", &list);
}

/// A declaration without its body.
fn signature(line: &str) -> &str {
    let mut depth = 0;
    for (at, c) in line.char_indices() {
        match c {
            '(' | '[' => depth += 1,
            ')' | ']' => depth -= 1,
            '=' | '{' if depth == 0 => return line[..at].trim_end(),
            _ => {}
        }
    }
    line
}

#[test]
fn the_list_of_the_library_is_right() {
    let mut list = String::new();
    for path in files("std", "mdl") {
        let text = read(&path);
        writeln!(list, "\n## std.{}\n\n{}\n", stem(&path), header(&text)).unwrap();
        let mut note: Vec<&str> = Vec::new();
        for line in text.lines() {
            if let Some(comment) = line.strip_prefix("## ") {
                note.push(comment);
            } else if ["module ", "fn ", "pattern "].iter().any(|word| line.starts_with(word)) {
                let signature = signature(line);
                assert!(!note.is_empty(), "std/{}: no comment above `{signature}`", stem(&path));
                writeln!(list, "- `{signature}`  \n  {}", note.join(" ")).unwrap();
                note.clear();
            } else {
                note.clear();
            }
        }
    }
    compare("docs/std.md", &list);
}

/// What `bench/run.py` compiles, which continuous integration does not run.
#[test]
fn models_of_the_benchmark_compile() {
    let mut compiled = 0;
    for path in files("bench/models", "mdl") {
        for model in models(&read(&path)) {
            let mut unit = Compiler::new().model(&model).elaborate_file(&path).unwrap_or_else(|e| panic!("{e}"));
            unit.optimise(None).unwrap();
            unit.lower().unwrap();
            compiled += 1;
        }
    }
    assert!(compiled >= 20, "{compiled} models");
}
