//! Every third-party case of `tests/oracles/cases.toml` as `mdlc verify --cases` runs it: by the
//! reference evaluator and by native code, with every expected tensor produced and every input
//! taken. `not_passing.toml` names the cases that are known to fail, with the reason: the test fails
//! when one of them passes, and when any other fails.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test fails by panicking and shows a table")]

use mdlc::driver::Error;
use mdlc::driver::cases::{Backend, Check};
use mdlc::driver::compare::Comparison;
use mdlc::driver::table::Table;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::PathBuf;

type Outcome = Result<Vec<Comparison>, Error>;

fn row(name: &str, outcome: &Outcome) -> String {
    let worst = |backend: &str| {
        let all = outcome.as_deref().unwrap_or_default();
        let of = all.iter().filter(|c| c.backend == backend).map(|c| c.tolerances);
        of.reduce(f64::max).map_or_else(|| "-".into(), |worst| format!("{worst:.3}"))
    };
    let verdict = if reason(outcome).is_none() { "ok" } else { "FAIL" };
    format!("{verdict:<5}{name:<36}{:>12}{:>12}", worst("reference"), worst("clif"))
}

/// Why a case fails, if it does.
fn reason(outcome: &Outcome) -> Option<String> {
    let all = match outcome {
        Ok(all) => all,
        Err(error) => return Some(error.to_string()),
    };
    let failures: Vec<String> = all
        .iter()
        .filter_map(|c| c.failure.as_ref().map(|why| format!("    {} ({}): {why}", c.output, c.backend)))
        .collect();
    (!failures.is_empty()).then(|| failures.join("\n"))
}

#[test]
fn the_cases_agree() {
    let base = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/oracles");
    let read = |name: &str| std::fs::read_to_string(base.join(name)).unwrap();
    let table: Table = toml::from_str(&read("cases.toml")).unwrap();
    let known: BTreeMap<String, String> = toml::from_str(&read("not_passing.toml")).unwrap();
    let mut wrong = String::new();
    println!("{:<41}{:>12}{:>12}", "worst difference, in tolerances", "reference", "native");
    for case in &table.cases {
        let backends = [Backend::Reference, Backend::Clif];
        let outcome = Check::of_case(case, &base).and_then(|check| check.run(&backends));
        println!("{}", row(&case.name, &outcome));
        let name = &case.name;
        match (reason(&outcome), known.contains_key(name)) {
            (None, true) => writeln!(wrong, "{name} passes: take it off not_passing.toml").unwrap(),
            (Some(why), false) => writeln!(wrong, "{name} fails:\n{why}").unwrap(),
            _ => {}
        }
    }
    for name in known.keys().filter(|name| table.cases.iter().all(|case| case.name != **name)) {
        writeln!(wrong, "not_passing.toml names {name}, which is not in the table").unwrap();
    }
    assert!(wrong.is_empty(), "{wrong}");
}
