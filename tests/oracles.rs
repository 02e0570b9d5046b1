//! Every third-party case of `tests/oracles/cases.toml` as `mdlc verify --cases` runs it: by the
//! reference evaluator and by native code with each kind of kernels, with every expected tensor
//! produced and every input taken. `not_passing.toml` names the cases that are known to fail, with
//! the reason: the test fails when one of them passes, and when any other fails.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test fails by panicking and shows a table")]

use mdlc::codegen::target::Kernels;
use mdlc::codegen::vector::Isa;
use mdlc::diag::Fault;
use mdlc::dim::Symbol;
use mdlc::driver::Error;
use mdlc::driver::cases::{Backend, Check, Prepared};
use mdlc::driver::compare::Comparison;
use mdlc::driver::table::Table;
use mdlc::dtype::DType;
use mdlc::graph::dims::{DimEnv, bind_dims};
use mdlc::graph::eval::{Mode, evaluate};
use mdlc::ops::init::{Init, initialise};
use mdlc::runtime::Compiled;
use mdlc::tensor::{Data, Tensor};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::PathBuf;

type Outcome = Result<Vec<Comparison>, Error>;

/// Cranelift alone, and the kinds of kernels that this processor has; says which it lacks.
fn native() -> Vec<(&'static str, Kernels)> {
    let mut found = vec![("clif", Kernels::None)];
    for isa in Isa::ALL {
        match Kernels::Of(isa).isa() {
            Ok(_) => found.push((isa.name(), Kernels::Of(isa))),
            Err(error) => println!("{} is skipped: {error}", isa.name()),
        }
    }
    found
}

fn row(name: &str, outcome: &Outcome, native: &[(&'static str, Kernels)]) -> String {
    let worst = |backend: &str| {
        let all = outcome.as_deref().unwrap_or_default();
        let of = all.iter().filter(|c| c.backend == backend).map(|c| c.tolerances);
        of.reduce(f64::max).map_or_else(|| "-".into(), |worst| format!("{worst:.3}"))
    };
    let verdict = if reason(outcome).is_none() { "ok" } else { "FAIL" };
    let mut row = format!("{verdict:<5}{name:<36}{:>12}", worst("reference"));
    for (name, _) in native {
        write!(row, "{:>12}", worst(name)).unwrap();
    }
    row
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
    let native = native();
    let mut backends = vec![Backend::Reference];
    backends.extend(native.iter().map(|(_, kernels)| Backend::Native(*kernels)));
    let names: String = native.iter().map(|(name, _)| format!("{name:>12}")).collect();
    println!("{:<41}{:>12}{names}", "worst difference, in tolerances", "reference");
    for case in &table.cases {
        let outcome = Check::of_case(case, &base).and_then(|check| check.run(&backends));
        println!("{}", row(&case.name, &outcome, &native));
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

/// Other sizes for the free dimensions of a call: what each of them becomes, by its size in the case.
/// The first two that a model accepts are tried; they stay small, for the reference walks every point.
const OTHER_SIZES: [fn(i64) -> i64; 6] =
    [|n| n + 1, |n| (n - 1).max(1), |n| (n / 2).max(1), |n| n.min(2), |n| n + 2, |n| 2 * n];

/// Inputs of other sizes; `None` where they do not go together.
fn resized(prepared: &Prepared, change: fn(i64) -> i64) -> Option<(Vec<Tensor>, DimEnv)> {
    let program = &prepared.unit.program;
    let given: Vec<&[usize]> = prepared.inputs.iter().map(|(_, t)| t.shape()).collect();
    let case = bind_dims(&program.signature, &program.checks, &given).ok()?;
    let size = |symbol: &Symbol| case.get(symbol).map(change);
    let mut inputs = Vec::new();
    for (port, (name, old)) in program.signature.inputs.iter().zip(&prepared.inputs) {
        let shape = port.ty.shape.iter().map(|d| d.eval(&size).ok().and_then(|n| usize::try_from(n).ok()));
        let shape: Vec<usize> = shape.collect::<Option<_>>()?;
        let count: usize = shape.iter().product();
        // Whole numbers are lengths, ids and edges: small ones of the case are right anywhere.
        let tensor = match old.data() {
            Data::I64(values) => {
                let limit = values.iter().copied().min().unwrap_or(0).max(0);
                Tensor::new(shape, vec![limit; count]).ok()?
            }
            Data::Bool(_) => {
                Tensor::new(shape, (0..count).map(|k| k % 3 != 1).collect::<Vec<bool>>()).ok()?
            }
            _ => initialise(&Init::Normal(0.7), DType::F32, &shape, name, 7).ok()?,
        };
        inputs.push(tensor);
    }
    let shapes: Vec<&[usize]> = inputs.iter().map(Tensor::shape).collect();
    let dims = bind_dims(&program.signature, &program.checks, &shapes).ok()?;
    Some((inputs, dims))
}

fn close(reference: &Tensor, native: &Tensor) -> bool {
    let (Data::F64(want), Data::F32(got)) = (reference.data(), native.data()) else {
        return reference == native;
    };
    let scale = want.iter().filter(|v| v.is_finite()).fold(1.0f64, |m, v| m.max(v.abs()));
    reference.shape() == native.shape()
        && want.iter().zip(got).all(|(w, g)| {
            let g = f64::from(*g);
            *w as f32 == g as f32
                || (w.is_nan() && g.is_nan())
                || (w - g).abs() <= 1e-4 * w.abs() + 2e-5 * scale
        })
}

/// The code of every case serves other sizes: the same function, compiled once, against the reference.
#[test]
fn the_cases_agree_at_other_sizes() {
    let base = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/oracles");
    let table: Table = toml::from_str(&std::fs::read_to_string(base.join("cases.toml")).unwrap()).unwrap();
    let (mut wrong, mut tried, mut fixed) = (String::new(), 0, 0);
    for case in &table.cases {
        let check = Check::of_case(case, &base).unwrap();
        for call in &check.calls {
            let mut prepared = check.prepare(call).unwrap();
            if prepared.unit.program.signature.dims.is_empty() {
                fixed += 1;
                continue;
            }
            let sizes: Vec<(Vec<Tensor>, DimEnv)> =
                OTHER_SIZES.iter().filter_map(|change| resized(&prepared, *change)).take(2).collect();
            let program = prepared.unit.program.clone();
            prepared.unit.optimise(None).unwrap();
            let loops = prepared.unit.lower().unwrap();
            let compiled = Compiled::new(loops).unwrap();
            let model = compiled.bind(&check.weights).unwrap();
            for (inputs, dims) in &sizes {
                let want = evaluate(&program, inputs, &prepared.weights, dims, Mode::F64);
                let named =
                    program.signature.inputs.iter().zip(inputs).map(|(p, t)| (p.name.as_str(), t.view()));
                let (want, got) = match (want, model.call(named)) {
                    (Ok(want), Ok(got)) => (want, got.into_tensors()),
                    // Sizes may not suit a model: then both say so.
                    (Err(a), Err(b)) if a.to_diagnostic().fault == b.to_diagnostic().fault => continue,
                    (a, b) => {
                        let fault: Option<Fault> = a.as_ref().err().map(|e| e.to_diagnostic().fault);
                        writeln!(
                            wrong,
                            "{}: reference {fault:?}, native {:?}",
                            case.name,
                            b.err().map(|e| e.to_string())
                        )
                        .unwrap();
                        continue;
                    }
                };
                tried += 1;
                for (want, (name, got)) in want.iter().zip(&got) {
                    if !close(want, got) {
                        writeln!(wrong, "{}: `{name}` differs at {:?}", case.name, got.shape()).unwrap();
                    }
                }
            }
        }
    }
    println!("{tried} calls at other sizes; {fixed} calls without free dimensions");
    assert!(wrong.is_empty(), "{wrong}");
    assert!(tried > table.cases.len(), "too few calls were made: {tried}");
}
