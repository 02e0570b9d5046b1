//! Examples compile and commands run.
//!
//! Fenced blocks are checked by their info string:
//!
//! | info | what is checked |
//! | --- | --- |
//! | `mdl` | a whole file: every `model` of it runs natively on drawn weights and inputs |
//! | `mdl-fragment` | part of a file: it parses |
//! | `mdl-error` | refused with the code in its first line, `# error[code]` |
//! | `sh` | a shell runs it, with `mdlc` and `cargo run` standing for the program under test |
//! | `console` | each `$ command` prints what stands below it |
//!
//! `rust` blocks of the README are tests of the crate's documentation (see `src/lib.rs`).

#[path = "../../examples/run_ffn.rs"]
mod run_ffn;

use super::markdown::{Block, blocks};
use super::{documents, mdlc, root};
use mdlc::source::SourceMap;
use mdlc::syntax::ast::ItemKind;
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

const INFOS: [&str; 11] =
    ["mdl", "mdl-fragment", "mdl-error", "sh", "console", "rust", "c", "toml", "text", "json", "diff"];

/// What documents call stands for the program under test; other steps of a build do nothing here.
/// The table of all cases is a test of its own, so one case of it is enough.
const SHELL: &str = r#"
set -e
mdlc() {
    case "$*" in
        *"--only "*) ;;
        *"verify --cases "*) set -- "$@" --only s22_lstm_1layer ;;
    esac
    "$MDLC" "$@"
}
cargo() {
    case "$*" in
        "run --release -- "*) shift 3; mdlc "$@" ;;
        "run --example "* | "test"* | "build"* | "doc"* | "fmt"* | "clippy"* | "install"*) ;;
        *) echo "no such cargo command: $*" >&2; exit 1 ;;
    esac
}
just() { :; }
"#;

/// Every block with one of these info strings, and where it stands.
fn each(infos: &[&str], check: &mut dyn FnMut(&str, &Block<'_>)) -> usize {
    let mut count = 0;
    for document in documents() {
        for block in blocks(&document.text).iter().filter(|block| infos.contains(&block.info)) {
            check(&format!("{}:{}", document.path.display(), block.line), block);
            count += 1;
        }
    }
    count
}

#[test]
fn blocks_say_what_they_are() {
    for document in documents() {
        for block in blocks(&document.text) {
            let at = format!("{}:{}", document.path.display(), block.line - 1);
            assert!(INFOS.contains(&block.info), "{at}: a block of kind `{}`", block.info);
        }
    }
}

#[test]
fn files_compile_and_run() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("example.mdl");
    let count = each(&["mdl"], &mut |at, block| {
        std::fs::write(&path, &block.text).unwrap();
        let file = SourceMap::new().add("example.mdl", block.text.as_str());
        let tree = mdlc::syntax::parse(file, &block.text).unwrap_or_else(|e| panic!("{at}: {e:?}"));
        let models = tree.items.iter().filter_map(|item| match &item.kind {
            ItemKind::Model(model) => model.name.as_plain(),
            _ => None,
        });
        let models: Vec<&str> = models.collect();
        assert!(!models.is_empty(), "{at}: a whole file declares a model, or else it is `mdl-fragment`");
        for model in models {
            let output = mdlc().arg("run").arg(&path).args(["--model", model]).output().unwrap();
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{at}: model `{model}`\n{said}");
            let output = mdlc().arg("check").arg(&path).args(["--model", model, "--json"]).output().unwrap();
            let value: Value = serde_json::from_slice(&output.stdout).unwrap();
            assert_eq!(value["diagnostics"], Value::Array(vec![]), "{at}: model `{model}`");
        }
    });
    assert!(count >= 8, "only {count} examples");
}

#[test]
fn fragments_parse() {
    each(&["mdl-fragment"], &mut |at, block| {
        let file = SourceMap::new().add("example.mdl", block.text.as_str());
        let result = mdlc::syntax::parse(file, &block.text);
        assert!(result.is_ok(), "{at}: {:?}", result.err());
    });
}

#[test]
fn wrong_files_are_refused_for_the_reason_given() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("example.mdl");
    let count = each(&["mdl-error"], &mut |at, block| {
        let code =
            block.text.lines().next().and_then(|line| line.strip_prefix("# error[")?.strip_suffix(']'));
        let code = code.unwrap_or_else(|| panic!("{at}: the first line is not `# error[code]`"));
        std::fs::write(&path, &block.text).unwrap();
        let output = mdlc().arg("check").arg(&path).arg("--json").output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{at}");
        let value: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(value["diagnostics"][0]["code"], code, "{at}");
    });
    assert!(count > 0);
}

/// A folder that looks like the project's and may be written to.
fn project() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for part in ["models", "tests", "examples", "std", "docs"] {
        std::os::unix::fs::symlink(root().join(part), folder.path().join(part)).unwrap();
    }
    folder
}

/// Runs a script as a reader would who stands in the project's folder.
fn shell(script: &str, folder: &Path) -> std::process::Output {
    let mdlc = assert_cmd::cargo::cargo_bin("mdlc");
    let script = format!("{SHELL}\n{script}");
    Command::new("sh")
        .arg("-c")
        .arg(script)
        .env("MDLC", mdlc)
        .env("MDLC_CACHE_DIR", folder.join("cache"))
        .current_dir(folder)
        .output()
        .unwrap()
}

#[test]
fn commands_run() {
    let count = each(&["sh"], &mut |at, block| {
        let folder = project();
        let output = shell(&block.text, folder.path());
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{at}:\n{out}{err}");
    });
    assert!(count >= 2, "only {count} blocks of commands");
}

#[test]
fn shown_output_is_what_is_printed() {
    let folder = project();
    let mut count = 0;
    for document in documents() {
        let mut wanted = document.text.clone();
        for block in blocks(&document.text).iter().filter(|block| block.info == "console") {
            let at = format!("{}:{}", document.path.display(), block.line);
            let commands = block.text.lines().filter_map(|line| line.strip_prefix("$ "));
            let mut printed = String::new();
            for command in commands {
                let output = shell(&format!("{command} 2>&1"), folder.path());
                let found = String::from_utf8_lossy(&output.stdout);
                assert!(!found.is_empty(), "{at}: `{command}` prints nothing");
                printed.push_str(&format!("$ {command}\n{}\n", found.trim_end()));
            }
            let fenced = |text: &str| format!("```console\n{text}```\n");
            wanted = wanted.replacen(&fenced(&block.text), &fenced(&printed), 1);
            count += 1;
        }
        super::assert_current(&document.path.to_string_lossy(), &wanted);
    }
    assert!(count > 0);
}

/// What `--help` shows: examples name files of the project, and those that name no others run.
#[test]
fn examples_of_the_help_run() {
    let help = String::from_utf8(mdlc().arg("help").output().unwrap().stdout).unwrap();
    let commands: BTreeSet<&str> = super::lists::commands(&help).into_iter().collect();
    let mut ran = 0;
    for command in commands {
        let help = String::from_utf8(mdlc().args(["help", command]).output().unwrap().stdout).unwrap();
        for line in help.lines().map(str::trim).filter(|line| line.starts_with("mdlc ")) {
            let line = line.split("  ").next().unwrap();
            let words: Vec<&str> = line.split_whitespace().collect();
            let names = words.iter().filter(|word| word.starts_with("models/") || word.starts_with("tests/"));
            let mut own = 0;
            for name in names {
                assert!(root().join(name).exists(), "`mdlc help {command}` names `{name}`");
                own += 1;
            }
            // A file of the reader's, or one that is written outside the project.
            let others = words.iter().any(|word| {
                let endings = [".safetensors", ".npy", ".toml"];
                endings.iter().any(|e| word.ends_with(e))
                    && !word.starts_with("models/")
                    && !word.starts_with("tests/")
            });
            if own == 0 || others {
                continue;
            }
            let folder = project();
            let output = shell(line, folder.path());
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "`mdlc help {command}` shows `{line}`:\n{said}");
            ran += 1;
        }
    }
    assert!(ran >= 6, "only {ran} examples were complete");
}

#[test]
fn the_rust_example_runs() {
    run_ffn::main().unwrap();
}
