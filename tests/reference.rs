//! Third-party cases against the reference evaluator, which is what the language and its
//! elaboration mean, and against compiled code, which is all of it.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test fails by panicking and may speak")]

use mdlc::diag::render_plain;
use mdlc::files::read_tensors;
use mdlc::graph::dims::bind_dims;
use mdlc::graph::eval::{Mode, evaluate};
use mdlc::graph::ir::Program;
use mdlc::graph::verify::verify;
use mdlc::runtime::{Compiled, Weights};
use mdlc::sema::{Request, elaborate, library::FolderLoader};
use mdlc::source::SourceMap;
use mdlc::tensor::Tensor;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

type Table = toml::Table;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// A TOML value as an expression of the language.
fn expression(value: &toml::Value) -> String {
    match value {
        toml::Value::String(s) => format!("\"{s}\""),
        toml::Value::Float(f) => {
            let text = f.to_string();
            if text.contains(['.', 'e']) { text } else { format!("{text}.0") }
        }
        toml::Value::Array(items) => {
            format!("[{}]", items.iter().map(expression).collect::<Vec<_>>().join(", "))
        }
        other => other.to_string(),
    }
}

fn strings(table: Option<&toml::Value>) -> BTreeMap<String, String> {
    let entries = table.and_then(toml::Value::as_table).into_iter().flatten();
    entries.map(|(k, v)| (k.clone(), v.as_str().unwrap_or_default().to_string())).collect()
}

fn pairs(table: Option<&toml::Value>) -> Vec<(String, String)> {
    let entries = table.and_then(toml::Value::as_table).into_iter().flatten();
    entries.map(|(k, v)| (k.clone(), expression(v))).collect()
}

fn program(case: &Table, request: &Request) -> Result<Program, String> {
    let path = root().join(case["file"].as_str().unwrap());
    let mut sources = SourceMap::new();
    let file = sources.add(path.file_name().unwrap().to_string_lossy(), fs::read_to_string(&path).unwrap());
    let request = Request { file: Some(file), ..request.clone() };
    let loader = FolderLoader::new(path.parent().unwrap());
    let program =
        elaborate(&request, &mut sources, &loader).map_err(|errors| render_plain(&sources, &errors))?;
    verify(&program).map_err(|error| render_plain(&sources, &[error.to_diagnostic()]))?;
    Ok(program)
}

fn request(case: &Table, call: &Table) -> Request {
    let dims = case.get("dims").and_then(toml::Value::as_table).into_iter().flatten();
    Request {
        model: Some(case["model"].as_str().unwrap().into()),
        entry: call.get("entry").and_then(toml::Value::as_str).map(Into::into),
        set: pairs(case.get("args")),
        dims: dims.map(|(k, v)| (k.clone(), v.as_integer().unwrap())).collect(),
        arguments: pairs(call.get("set")),
        ..Request::default()
    }
}

fn reals(tensor: &Tensor) -> Vec<f64> {
    let view = tensor.data().view();
    let from_f32 = view.as_f32().map(|d| d.iter().map(|v| f64::from(*v)).collect());
    from_f32
        .or_else(|| view.as_f64().map(<[f64]>::to_vec))
        .or_else(|| view.as_i64().map(|d| d.iter().map(|v| *v as f64).collect()))
        .or_else(|| view.as_bool().map(|d| d.iter().map(|v| f64::from(u8::from(*v))).collect()))
        .unwrap_or_default()
}

/// Which of the ways to compute a program.
#[derive(Clone, Copy)]
enum Computed {
    ByReference,
    Natively,
}

/// All passes, loops, and machine code.
fn natively(program: &Program, inputs: &[Tensor], weights: &[Tensor]) -> Result<Vec<Tensor>, String> {
    let mut program = program.clone();
    mdlc::passes::run(&mut program, None, &mut |pass, program| {
        verify(program).map_err(|e| format!("after {}: {}", pass.name, e.to_diagnostic().title))
    })?;
    let loops = mdlc::loops::lower::lower(&program).map_err(|errors| format!("{errors:?}"))?;
    let paths = loops.signature.weights.iter().map(|weight| weight.path.clone());
    let weights = Weights::from_tensors(paths.zip(weights.iter().cloned()));
    let names: Vec<String> = loops.signature.inputs.iter().map(|port| port.name.clone()).collect();
    let model = Compiled::new(loops).map_err(|e| e.to_string())?;
    let model = model.bind(&weights).map_err(|e| format!("{:?}", e.to_diagnostic()))?;
    let outputs = model.call(names.iter().zip(inputs.iter().map(Tensor::view))).map_err(|e| e.to_string())?;
    Ok(outputs.into_tensors().into_values().collect())
}

/// Runs one call of a case and compares its outputs; gives what is wrong.
fn run(case: &Table, call: &Table, folder: &Path, computed: Computed) -> Result<(), String> {
    let load = |name: &str| -> BTreeMap<String, Tensor> {
        let path = folder.join(name);
        if !path.exists() {
            return BTreeMap::new();
        }
        read_tensors(&path).unwrap().into_iter().collect()
    };
    let (inputs, weights, outputs) =
        (load("inputs.safetensors"), load("weights.safetensors"), load("outputs.safetensors"));
    let renamed = strings(call.get("inputs"));
    let tensor_of = |param: &str| inputs.get(renamed.get(param).map_or(param, |n| n.as_str()));
    let mut request = request(case, call);
    let plain = program(case, &request)?;
    request.with = plain.signature.omitted.iter().filter(|name| tensor_of(name).is_some()).cloned().collect();
    let program = if request.with.is_empty() { plain } else { program(case, &request)? };
    let signature = &program.signature;
    let mut given = Vec::new();
    for port in &signature.inputs {
        given.push(tensor_of(&port.name).ok_or(format!("there is no tensor for `{}`", port.name))?.clone());
    }
    let mut loaded = Vec::new();
    for weight in &signature.weights {
        let names = std::iter::once(&weight.path).chain(&weight.aliases);
        let tensor = names.filter_map(|n| weights.get(n)).next();
        loaded.push(tensor.ok_or(format!("there is no weight {}", weight.path))?.clone());
    }
    let results = match computed {
        Computed::ByReference => {
            let shapes: Vec<&[usize]> = given.iter().map(Tensor::shape).collect();
            let dims = bind_dims(signature, &program.checks, &shapes).map_err(|e| e.to_string())?;
            evaluate(&program, &given, &loaded, &dims, Mode::F64).map_err(|e| e.to_string())?
        }
        Computed::Natively => natively(&program, &given, &loaded)?,
    };
    let text = fs::read_to_string(folder.join("case.json")).unwrap();
    let described: serde_json::Value = serde_json::from_str(&text).unwrap();
    let renamed = strings(call.get("outputs"));
    let mut wrong = Vec::new();
    for (port, result) in signature.outputs.iter().zip(&results) {
        let name = renamed.get(&port.name).unwrap_or(&port.name);
        let Some(expected) = outputs.get(name) else {
            wrong.push(format!("`{name}` is not expected"));
            continue;
        };
        let tolerance = |key: &str| described["outputs"][name][key].as_f64().unwrap_or(1e-5);
        let (rtol, atol) = (tolerance("rtol"), tolerance("atol"));
        if result.shape() != expected.shape() {
            wrong.push(format!("`{name}` is {:?}, expected {:?}", result.shape(), expected.shape()));
            continue;
        }
        let close =
            |a: f64, b: f64| a == b || (a.is_nan() && b.is_nan()) || (a - b).abs() <= atol + rtol * b.abs();
        let (found, wanted) = (reals(result), reals(expected));
        if let Some(k) = (0..found.len()).find(|k| !close(found[*k], wanted[*k])) {
            wrong.push(format!("`{name}` at {k} is {}, expected {}", found[k], wanted[k]));
        }
    }
    if wrong.is_empty() { Ok(()) } else { Err(wrong.join("; ")) }
}

/// Cases kept elsewhere are run with `MDL_CASES=folder`, which holds a `cases.toml`.
/// `MDL_CASE=lstm cargo test --test reference` runs the cases whose names hold that text.
#[test]
fn third_party_cases_agree_with_the_reference_evaluator() {
    compare_all(Computed::ByReference);
}

#[test]
fn third_party_cases_agree_with_compiled_code() {
    compare_all(Computed::Natively);
}

fn compare_all(computed: Computed) {
    let only = std::env::var("MDL_CASE").unwrap_or_default();
    let folder = std::env::var("MDL_CASES").map_or_else(|_| root().join("tests/oracles"), PathBuf::from);
    let text = fs::read_to_string(folder.join("cases.toml")).unwrap();
    let table: Table = text.parse().unwrap();
    let mut failed = Vec::new();
    let mut count = 0;
    for case in table["case"].as_array().unwrap().iter().filter_map(toml::Value::as_table) {
        let name = case["name"].as_str().unwrap();
        if !case.contains_key("model") {
            continue;
        }
        if !name.contains(&only) {
            continue;
        }
        let folder = folder.join(name);
        let calls = case.get("call").and_then(toml::Value::as_array).cloned();
        let calls = calls.unwrap_or_else(|| vec![toml::Value::Table(Table::new())]);
        for call in calls.iter().filter_map(toml::Value::as_table) {
            count += 1;
            let start = std::time::Instant::now();
            let result = run(case, call, &folder, computed);
            if !only.is_empty() {
                eprintln!("{name}: {:?}", start.elapsed());
            }
            if let Err(why) = result {
                failed.push(format!("{name}: {why}"));
            }
        }
    }
    assert!(failed.is_empty(), "{} of {count} fail\n{}", failed.len(), failed.join("\n"));
}
