//! Lists in the documents are those of the code: passes, folders, commands, options, names.

use super::{document, files, mdlc, root};
use std::collections::BTreeSet;
use std::fs;

/// The names under `Commands:` of a help text.
pub fn commands(help: &str) -> Vec<&str> {
    let lines = help.lines().skip_while(|line| !line.starts_with("Commands:")).skip(1);
    let lines = lines.take_while(|line| !line.is_empty());
    // Names are indented by two; what they say goes on further right.
    let names =
        lines.filter(|line| !line.starts_with("   ")).filter_map(|line| line.split_whitespace().next());
    names.filter(|name| *name != "help").collect()
}

#[test]
fn the_command_line_is_described_whole() {
    let page = document("docs/cli.md").text;
    let help = String::from_utf8(mdlc().arg("help").output().unwrap().stdout).unwrap();
    let mut missing = BTreeSet::new();
    assert!(commands(&help).len() >= 8, "{help}");
    for command in commands(&help) {
        if !page.contains(&format!("`mdlc {command}")) {
            missing.insert(format!("mdlc {command}"));
        }
        let help = String::from_utf8(mdlc().args(["help", command]).output().unwrap().stdout).unwrap();
        for line in help.lines().map(str::trim_start) {
            // `--long` or `-s, --long`; possible values are listed with `- value`.
            let words = line.split_whitespace().take(2);
            let option = words.filter(|_| line.starts_with('-')).find(|word| word.starts_with("--"));
            let Some(option) = option else { continue };
            if !matches!(option, "--help" | "--version") && !page.contains(option) {
                missing.insert(format!("mdlc {command} {option}"));
            }
        }
    }
    assert!(missing.is_empty(), "docs/cli.md does not name {missing:?}");
}

#[test]
fn every_name_that_is_built_in_is_described() {
    let page = document("docs/language.md").text;
    let words: BTreeSet<&str> = page.split(|c: char| !c.is_alphanumeric() && c != '_').collect();
    let missing: Vec<&str> =
        mdlc::sema::builtins::Builtin::names().filter(|name| !words.contains(name)).collect();
    assert!(missing.is_empty(), "docs/language.md does not name {missing:?}");
}

#[test]
fn reserved_words_are_those_of_the_grammar() {
    let grammar = fs::read_to_string(root().join("grammar/mdl.pest")).unwrap();
    let rule = grammar.split("\nreserved ").nth(1).and_then(|rest| rest.split("~ !idc").next()).unwrap();
    let words: BTreeSet<&str> = rule.split('"').skip(1).step_by(2).collect();
    let page = document("docs/language.md").text;
    let listed = page.split("Reserved words:").nth(1).and_then(|rest| rest.split("`. `max`").next()).unwrap();
    let listed = listed.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|word| !word.is_empty());
    let mut listed: BTreeSet<&str> = listed.collect();
    for word in ["and", "the", "reducers"] {
        if !words.contains(word) {
            listed.remove(word);
        }
    }
    assert_eq!(listed, words);
}

#[test]
fn the_pass_table_is_the_pipeline() {
    let page = document("ARCHITECTURE.md").text;
    let rows: Vec<String> =
        mdlc::passes::PIPELINE.iter().map(|pass| format!("| `{}` | {} |", pass.name, pass.purpose)).collect();
    let table = rows.join("\n");
    assert!(page.contains(&table), "ARCHITECTURE.md lacks this table:\n{table}");
}

/// A newcomer finds each folder of the sources, and each file that is not in one, by name.
#[test]
fn every_folder_is_on_the_map() {
    let page = document("ARCHITECTURE.md").text;
    let mut missing = BTreeSet::new();
    for path in files("src", ".rs") {
        let path = path.strip_prefix("src").unwrap();
        let parts: Vec<String> = path.iter().map(|part| part.to_string_lossy().into_owned()).collect();
        if parts.iter().any(|part| part == "tests" || part == "tests.rs") {
            continue;
        }
        let name = match parts.len() {
            1 => parts[0].clone(),
            n => format!("{}/", parts[n - 2]),
        };
        if !page.contains(&name) {
            missing.insert(format!("src/{}", path.display()));
        }
    }
    assert!(missing.is_empty(), "ARCHITECTURE.md does not name {missing:?}");
}
