//! `mdlc verify`

use super::args::{Backend as Wanted, VerifyArgs};
use super::data::rename;
use super::{plain, print, print_json};
use crate::codegen::target::Kernels;
use crate::codegen::vector::Isa;
use crate::diag::Fault;
use crate::driver::Error;
use crate::driver::cases::{Backend, Check};
use crate::driver::compare::{Comparison, Tolerance};
use crate::driver::table::{Call, CaseFile, Table};
use crate::files::{NamedTensors, read_tensors};
use crate::runtime::Weights;
use indicatif::ProgressBar;
use serde_json::json;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Verifies one case or a table of them. The exit code is 1 if anything differs; where a case cannot be
/// tried, it is the greatest of the codes that say why.
pub fn verify(args: &VerifyArgs) -> Result<ExitCode, Error> {
    let backends = match args.backend {
        None => vec![Backend::Reference, Backend::Native(Kernels::Widest)],
        Some(Wanted::Reference) => vec![Backend::Reference],
        Some(Wanted::Clif) => vec![Backend::Native(Kernels::None)],
        Some(Wanted::Avx2) => vec![Backend::Native(Kernels::Of(Isa::Avx2))],
        Some(Wanted::Avx512) => vec![Backend::Native(Kernels::Of(Isa::Avx512))],
    };
    let checks = match &args.cases {
        Some(table) => table_checks(table, args.only.as_deref())?,
        None => vec![(single_name(args), Ok(single_check(args)?))],
    };
    let threads = args.threads.start()?;
    let cache = args.cache.open();
    let progress = ProgressBar::new(checks.len() as u64);
    let mut results: Vec<(String, Result<Vec<Comparison>, Error>)> = Vec::new();
    for (name, check) in checks {
        progress.inc(1);
        // A case whose files are missing is one that fails; the others still run.
        results.push((
            name,
            check.and_then(|check| check.with_threads(&threads).with_cache(cache.clone()).run(&backends)),
        ));
    }
    progress.finish_and_clear();
    let passes = |r: &Result<Vec<Comparison>, Error>| {
        r.as_ref().is_ok_and(|all| all.iter().all(|c| c.failure.is_none()))
    };
    let passed = results.iter().filter(|(_, r)| passes(r)).count();
    let codes = results.iter().map(|(_, result)| match result {
        Ok(comparisons) => u8::from(comparisons.iter().any(|c| c.failure.is_some())),
        Err(error) => error.exit_code(),
    });
    let code = ExitCode::from(codes.max().unwrap_or(0));
    if args.json {
        let one = |(name, result): &(String, Result<Vec<Comparison>, Error>)| match result {
            Ok(comparisons) => json!({ "case": name, "passed": passes(result), "outputs": comparisons }),
            Err(error) => json!({ "case": name, "passed": false, "error": error.to_string() }),
        };
        let failed = results.len() - passed;
        print_json(
            &json!({ "passed": passed, "failed": failed, "cases": results.iter().map(one).collect::<Vec<_>>() }),
        )?;
        return Ok(code);
    }
    let mut text = String::new();
    for (name, result) in &results {
        match result {
            Err(error) => {
                let _ = writeln!(text, "FAIL {name}\n{error}");
            }
            Ok(comparisons) => line(&mut text, name, comparisons, args.cases.is_none()),
        }
    }
    let _ = writeln!(text, "{passed} passed, {} failed", results.len() - passed);
    print(&text)?;
    Ok(code)
}

/// One line for a case, and one per output where there is a single case or a failure.
fn line(text: &mut String, name: &str, comparisons: &[Comparison], detailed: bool) {
    let worst = comparisons.iter().map(|c| c.tolerances).fold(0.0, f64::max);
    let failed = comparisons.iter().any(|c| c.failure.is_some());
    let word = if failed { "FAIL" } else { "ok  " };
    let _ = writeln!(text, "{word} {name}: largest difference {worst:.3} tolerances");
    for c in comparisons.iter().filter(|c| detailed || c.failure.is_some()) {
        let ulps = c.ulps.map_or(String::new(), |u| format!(", {u} ULP"));
        let why = c.failure.as_ref().map_or(String::new(), |f| format!(": {f}"));
        let _ =
            writeln!(text, "       {:9} {}: {:.3} tolerances{ulps}{why}", c.backend, c.output, c.tolerances);
    }
}

fn table_checks(path: &Path, only: Option<&str>) -> Result<Vec<(String, Result<Check, Error>)>, Error> {
    let text = crate::driver::read_source(path)?;
    let table: Table = toml::from_str(&text)
        .map_err(|e| plain("bad-table", Fault::User, format!("`{}`: {e}", path.display())))?;
    let base = path.parent().map_or_else(PathBuf::new, Path::to_path_buf);
    let wanted = table.cases.iter().filter(|case| only.is_none_or(|only| case.name.contains(only)));
    let checks: Vec<_> = wanted.map(|case| (case.name.clone(), Check::of_case(case, &base))).collect();
    if checks.is_empty() {
        return Err(plain("no-cases", Fault::User, "the table has no such case"));
    }
    Ok(checks)
}

fn single_name(args: &VerifyArgs) -> String {
    args.file.as_ref().map_or_else(String::new, |f| f.display().to_string())
}

fn single_check(args: &VerifyArgs) -> Result<Check, Error> {
    let read = |path: &Option<PathBuf>| match path {
        Some(path) => Ok::<_, Error>(read_tensors(path)?),
        None => Ok(NamedTensors::new()),
    };
    let (mut weights, mut inputs, mut expected) =
        (read(&args.weights)?, read(&args.inputs)?, read(&args.expect)?);
    for (name, tensor) in read(&args.bundle)? {
        if let Some(name) = name.strip_prefix("input.") {
            inputs.insert(name.to_string(), tensor);
        } else if let Some(name) = name.strip_prefix("output.") {
            expected.insert(name.to_string(), tensor);
        } else {
            weights.insert(name, tensor);
        }
    }
    if let Some(map) = &args.map {
        (weights, _) = rename(weights, map, false)?;
    }
    if expected.is_empty() {
        return Err(plain(
            "nothing-expected",
            Fault::User,
            "give --expect or --bundle with expected outputs",
        ));
    }
    let default = Tolerance { rtol: args.rtol, atol: args.atol };
    let file = args.case.as_deref().map(CaseFile::read).transpose()?.unwrap_or_default();
    Ok(Check {
        file: args.file.clone().unwrap_or_default(),
        model: args.model.clone(),
        set: args.set.clone(),
        arguments: args.arg.clone(),
        dims: args.dims.clone(),
        calls: vec![Call { entry: Some(args.entry.clone()), ..Call::default() }],
        weights: Weights::from_tensors(weights),
        inputs,
        expected,
        tolerances: file.tolerances(),
        default,
        tables: Vec::new(),
        measured: file,
        threads: None,
        cache: None,
    })
}
