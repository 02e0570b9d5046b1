//! Damaged sources through the whole compiler: code or errors with places, never a panic, never slow.
//!
//! `MDLC_ROBUSTNESS=50 cargo test --release --test robustness sources -- --nocapture` makes many more
//! and prints the 99th percentile of the time that elaboration takes.

use super::corpus::{Source, sources};
use super::effort;
use super::stages::compile;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::time::Duration;

/// One damage; positions are fractions of what is there, so that shrinking keeps them valid.
#[derive(Clone, Debug)]
enum Edit {
    Delete(f64),
    Swap(f64, f64),
    Repeat(f64, f64),
    Insert(f64, &'static str),
    Replace(f64, &'static str),
    /// Bytes instead of words from here on: what is no UTF-8 afterwards is replaced.
    Byte(f64, u8),
    Cut(f64),
    /// A stretch of words, moved elsewhere.
    Move(f64, f64, usize),
    /// Another word of its kind: a number, a name that stands near, an operator, a reducer. What
    /// comes out mostly parses, and reaches the later stages more often.
    Like(f64, usize),
}

/// What is put in: marks, words and numbers that parse, and some that do not.
const PIECES: &[&str] = &[
    "(",
    ")",
    "[",
    "]",
    "{",
    "}",
    "`",
    "\"",
    "#",
    "=",
    "==",
    ":",
    "..",
    ",",
    ";",
    "-",
    "->",
    "**",
    "//",
    "%",
    ".",
    "\n",
    "é",
    "\u{0}",
    "@",
    "if ",
    "else ",
    "let ",
    "for ",
    "recur ",
    "init ",
    "sum[i] ",
    "max[",
    "softmax[i] ",
    "mean",
    "where ",
    "when ",
    "not ",
    "module ",
    "fn ",
    "0",
    "1",
    "2",
    "-1",
    "7",
    "1e38",
    "1e-300",
    "99999999999999999999",
    "9223372036854775807",
    "2147483648",
    "4294967296",
    "0.5",
    "inf",
    "pi",
    "`a{b}`",
    "in ",
    "self",
    "self.",
    "use ",
    "tie ",
    "param ",
    "bool",
    "i64",
    "i64[]",
    "f64(",
    "true",
    "B",
    "T",
    "x",
    "t",
    "i",
    " + ",
    " * ",
    " / 0",
    " // 0",
    " % 0",
    " and ",
    "..S",
    "[..]",
    ":",
    "entry ",
    "flat ",
    "require ",
    "pattern ",
    "x[0]",
    "x[9]",
    "x[-1]",
    "[x, x]",
    "top_k(x, 2)",
    "len(",
    "stack([x, x])",
    "concat([x, x])",
    "split(x, 2)",
    "else 0",
    ".T",
    "id",
    "causal",
    "full",
];

fn edit() -> impl Strategy<Value = Edit> {
    let at = || 0.0..1.0f64;
    let piece = || prop::sample::select(PIECES);
    prop_oneof![
        3 => at().prop_map(Edit::Delete),
        3 => (at(), at()).prop_map(|(a, b)| Edit::Swap(a, b)),
        3 => (at(), at()).prop_map(|(a, b)| Edit::Repeat(a, b)),
        4 => (at(), piece()).prop_map(|(a, p)| Edit::Insert(a, p)),
        8 => (at(), piece()).prop_map(|(a, p)| Edit::Replace(a, p)),
        1 => (at(), any::<u8>()).prop_map(|(a, b)| Edit::Byte(a, b)),
        1 => at().prop_map(Edit::Cut),
        1 => (at(), at(), 2..40usize).prop_map(|(a, b, n)| Edit::Move(a, b, n)),
        40 => (at(), 0..1000usize).prop_map(|(a, n)| Edit::Like(a, n)),
    ]
}

/// Words, numbers, and every other character by itself.
fn words(text: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    let mut in_word = false;
    for c in text.chars() {
        let is_word = c.is_ascii_alphanumeric() || c == '_';
        match words.last_mut().filter(|_| is_word && in_word) {
            Some(word) => word.push(c),
            None => words.push(c.to_string()),
        }
        in_word = is_word;
    }
    words
}

/// The place of the `at`-th of the words that are more than blanks.
fn place(words: &[String], at: f64) -> usize {
    let count = words.iter().filter(|w| !w.trim().is_empty()).count();
    let wanted = (at * count as f64) as usize;
    let mut full = words.iter().enumerate().filter(|(_, w)| !w.trim().is_empty());
    full.nth(wanted).map_or(0, |(place, _)| place)
}

/// Kinds of words that can stand for each other.
const KINDS: &[&[&str]] = &[
    &["0", "1", "2", "3", "4", "7", "64", "1000", "0.5", "1e-3", "2147483648", "9223372036854775807"],
    &["+", "-", "*", "/", "%"],
    &["<", ">"],
    &["and", "or"],
    &["sum", "prod", "mean", "max", "min", "any", "all", "argmax", "argmin", "logsumexp"],
    &["softmax", "log_softmax"],
    &["relu", "tanh", "sigmoid", "exp", "sqrt", "log", "floor", "abs", "sin", "sign", "i64", "bool", "f64"],
    &["where", "else", "in", "for", "if", "let", "init", "recur"],
    &["i64", "bool", "f64", "i32"],
    &["true", "false"],
];

/// A word like the one at `at`.
fn like(words: &[String], at: usize, n: usize) -> String {
    let word = words[at].as_str();
    let is_number = word.starts_with(|c: char| c.is_ascii_digit());
    let kind = KINDS.iter().find(|kind| kind.contains(&word) || (is_number && kind[0] == "0"));
    if let Some(kind) = kind {
        return kind[n % kind.len()].to_owned();
    }
    let is_name = |w: &&String| w.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    if !is_name(&&words[at]) {
        return word.to_owned();
    }
    let near = &words[at.saturating_sub(60)..(at + 60).min(words.len())];
    let names: Vec<&String> = near.iter().filter(is_name).collect();
    names[n % names.len()].clone()
}

fn damaged(text: &str, edits: &[Edit]) -> String {
    let mut words = words(text);
    for edit in edits {
        if words.is_empty() {
            break;
        }
        let at = |position: &f64| place(&words, *position);
        match edit {
            Edit::Delete(a) => drop(words.remove(at(a))),
            Edit::Swap(a, b) => {
                let (a, b) = (at(a), at(b));
                words.swap(a, b);
            }
            Edit::Repeat(a, b) => {
                let word = words[at(b)].clone();
                let a = at(a);
                words.insert(a, word);
            }
            Edit::Insert(a, piece) => {
                let a = at(a);
                words.insert(a, (*piece).into());
            }
            Edit::Replace(a, piece) => {
                let a = at(a);
                words[a] = (*piece).into();
            }
            Edit::Byte(a, byte) => {
                let a = at(a);
                words[a] = String::from_utf8_lossy(&[*byte]).into_owned();
            }
            Edit::Cut(a) => {
                let a = at(a).max(1);
                words.truncate(a);
            }
            Edit::Move(a, b, n) => {
                let (a, b) = (at(a), at(b));
                let taken: Vec<String> = words.drain(a..(a + n).min(words.len())).collect();
                let b = b.min(words.len());
                words.splice(b..b, taken);
            }
            Edit::Like(a, n) => {
                let a = at(a);
                words[a] = like(&words, a, *n);
            }
        }
    }
    words.concat()
}

/// Runs `trial` on damaged copies of all sources; fails with every kind of breach, shrunk.
fn trials(sources: &[Source], count: u32, trial: impl Fn(&Source) -> Result<(), String>) {
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let strategy = (0..sources.len(), prop::collection::vec(edit(), 1..4));
    let run = |(k, edits): (usize, Vec<Edit>)| {
        let source = Source { text: damaged(&sources[k].text, &edits), ..sources[k].clone() };
        trial(&source).map_err(|why| {
            let kind = why.lines().take(2).collect::<Vec<_>>().join(" ");
            (kind, format!("{} {:?}\n{why}\n{}", source.name, source.compiler, source.text))
        })
    };
    let mut breaches: BTreeMap<String, String> = BTreeMap::new();
    for _ in 0..count {
        let mut tree = strategy.new_tree(&mut runner).unwrap();
        let Err((kind, mut told)) = run(tree.current()) else { continue };
        if breaches.contains_key(&kind) {
            continue;
        }
        let mut going = tree.simplify();
        for _ in 0..100 {
            if !going {
                break;
            }
            match run(tree.current()) {
                Err((same, smaller)) if same == kind => {
                    told = smaller;
                    going = tree.simplify();
                }
                _ => going = tree.complicate(),
            }
        }
        breaches.insert(kind, told);
    }
    let told: Vec<&str> = breaches.values().map(String::as_str).collect();
    assert!(breaches.is_empty(), "{} kinds of breach\n{}", breaches.len(), told.join("\n------\n"));
}

#[test]
fn damaged_sources_give_code_or_errors() {
    let sources = sources();
    let times: RefCell<Vec<Duration>> = RefCell::default();
    let compiled = RefCell::new(0);
    trials(&sources, 600 * effort(), |source| {
        let outcome = compile(source)?;
        times.borrow_mut().push(outcome.elaboration);
        *compiled.borrow_mut() += u32::from(outcome.result.is_ok());
        Ok(())
    });
    let mut times = times.into_inner();
    times.sort();
    let (slow, slowest) = (times[times.len() * 99 / 100], times[times.len() - 1]);
    let compiled = compiled.into_inner();
    println!(
        "{} texts, {compiled} compiled; elaboration: 99th percentile {slow:?}, slowest {slowest:?}",
        times.len()
    );
    assert!(compiled > times.len() as u32 / 20, "the damage is too great to reach the later stages");
}

#[test]
fn undamaged_sources_compile() {
    let sources = sources();
    let mut failed = Vec::new();
    let right = |name: &str| !name.starts_with("tests/diagnostics") && !name.contains("mdl-error");
    for source in sources.iter().filter(|source| right(&source.name)) {
        let outcome = compile(source).unwrap_or_else(|why| panic!("{}: {why}", source.name));
        failed.extend(outcome.result.err().map(|error| format!("{}: {error}", source.name)));
    }
    // Some want a `--shape`.
    assert!(failed.len() < 20, "{}", failed.join("\n"));
}
