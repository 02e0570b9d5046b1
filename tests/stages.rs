//! What every stage prints, pinned: of the small programs in `tests/stages/` all of it, of the
//! models in `models/` all but the CLIF, of which the sizes are pinned.
//!
//! `INSTA_UPDATE=always cargo test --test stages` blesses what has changed; read the difference.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use mdlc::codegen::target::Kernels;
use mdlc::driver::{Compiler, Unit};
use mdlc::graph::print::{Options, print};
use mdlc::loops::buffers;
use mdlc::source::SourceMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The `.mdl` files of a folder of the project, in order.
fn files(folder: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(root().join(folder)).unwrap();
    let mut found: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    found.retain(|path| path.extension().is_some_and(|ending| ending == "mdl"));
    found.sort();
    assert!(!found.is_empty());
    found
}

fn stem(path: &Path) -> &str {
    path.file_stem().unwrap().to_str().unwrap()
}

fn pin(folder: &str, name: &str, text: &str) {
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path(root().join("tests/stages").join(folder));
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_snapshot!(name, text));
}

fn ast(path: &Path) -> String {
    let text = std::fs::read_to_string(path).unwrap();
    let file = SourceMap::new().add("pinned.mdl", text.as_str());
    mdlc::syntax::print(&mdlc::syntax::parse(file, &text).unwrap())
}

/// Shapes for the models whose input has any number of axes.
const OPEN_RANKS: [(&str, &[&str]); 3] =
    [("layer_norm", &["B", "T", "24"]), ("layer_norm_2d", &["B", "5", "7"]), ("rms_norm", &["B", "T", "20"])];

/// Names of files as a user in the project's folder gives them.
fn elaborated(path: &Path, model: &str) -> Unit {
    let text = std::fs::read_to_string(path).unwrap();
    let name = path.strip_prefix(root()).unwrap().to_str().unwrap();
    // Kernels are chosen by the processor at hand; what is pinned is the same everywhere.
    let mut compiler = Compiler::new().model(model).kernels(Kernels::None);
    if let Some((_, shape)) = OPEN_RANKS.iter().find(|(open, _)| *open == model) {
        compiler = compiler.shape("x", shape.iter().copied());
    }
    compiler.elaborate_source(name, &text, path.parent().unwrap()).unwrap_or_else(|e| panic!("{e}"))
}

/// The stages from the graph to the plan, and the code with or without its text.
fn stages(mut unit: Unit, code: bool) -> Vec<(&'static str, String)> {
    let mut texts = vec![("graph", print(&unit.program, &unit.sources, Options::default()))];
    unit.optimise(None).unwrap();
    texts.push(("fused", print(&unit.program, &unit.sources, Options { cost: true })));
    let loops = unit.lower().unwrap();
    texts.push(("loops", mdlc::loops::print::print(&loops, Some(&unit.sources))));
    texts.push(("plan", buffers::print(&loops, &buffers::plan(&loops).unwrap(), None)));
    let compiled = unit.generate(loops, code).unwrap();
    let mut text = String::new();
    for function in compiled.functions() {
        match &function.text {
            Some(clif) => writeln!(text, "{clif}").unwrap(),
            None => writeln!(text, "{}: {} instructions", function.name, function.stats.clif_insts).unwrap(),
        }
    }
    texts.push(("clif", text));
    texts
}

/// Each program shows one thing: its first line says which.
#[test]
fn small_programs() {
    for path in files("tests/stages") {
        pin(stem(&path), "ast", &ast(&path));
        for (stage, text) in stages(elaborated(&path, "main"), true) {
            pin(stem(&path), stage, &text);
        }
    }
}

/// Models that a file declares, in order.
fn models(path: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(path).unwrap();
    let name = |line: &str| Some(line.strip_prefix("model ")?.split([' ', '=']).next()?.to_string());
    text.lines().filter_map(name).collect()
}

#[test]
fn models_of_the_zoo() {
    for path in files("models").iter().chain(&files("models/ops")) {
        pin(&format!("models/{}", stem(path)), "ast", &ast(path));
        let found = models(path);
        assert!(!found.is_empty(), "{} declares no model", path.display());
        for model in found {
            for (stage, text) in stages(elaborated(path, &model), false) {
                pin(&format!("models/{}", stem(path)), &format!("{model}.{stage}"), &text);
            }
        }
    }
}
