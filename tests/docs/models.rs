//! `docs/models.md` lists every model of `models/`, with numbers that the compiler gives.
//!
//! A section belongs to a file and has a line `[models/x.mdl](../models/x.mdl), N lines.` and a
//! table. People write what a model is, whose weights it loads and the sizes at which its cost is
//! given; entries, parameters and cost are computed.

use super::markdown::cells;
use super::{assert_current, document, files, root};
use mdlc::dim::Dim;
use mdlc::driver::{Compiler, Unit};
use mdlc::graph::cost;
use mdlc::sema::library::FILES;
use mdlc::source::SourceMap;
use mdlc::syntax::ast::{ExprKind, ItemKind, MemberKind, ModuleDecl, Param, TypeKind};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

const HEAD: &str =
    "| model | what it is | loads the weights of | entries | sizes | parameters | multiply-adds | FLOPs |";
const RULE: &str = "| --- | --- | --- | --- | --- | ---: | ---: | ---: |";

/// What the compiler knows of a model.
struct Facts {
    entries: String,
    parameters: String,
    multiply_adds: String,
    flops: String,
}

/// The models of a file in order, each with the module that it instantiates.
fn models(text: &str) -> Vec<(String, Arc<ModuleDecl>)> {
    let parse = |text: &str| {
        let file = SourceMap::new().add("models.mdl", text);
        mdlc::syntax::parse(file, text).unwrap().items
    };
    let library = FILES.iter().flat_map(|(_, text)| parse(text));
    let items = parse(text);
    let modules: BTreeMap<String, Arc<ModuleDecl>> = library
        .chain(items.clone())
        .filter_map(|item| match item.kind {
            ItemKind::Module(module) => Some((module.name.as_plain()?.to_string(), module)),
            _ => None,
        })
        .collect();
    let found = items.iter().filter_map(|item| match &item.kind {
        ItemKind::Model(model) => Some(model),
        _ => None,
    });
    let module = |value: &ExprKind| match value {
        ExprKind::Call { callee, .. } => match &*callee.kind {
            ExprKind::Name(name) => modules.get(name.as_plain()?).cloned(),
            _ => None,
        },
        _ => None,
    };
    found
        .map(|model| {
            let name = model.name.as_plain().unwrap().to_string();
            let module = module(&model.value.kind).unwrap_or_else(|| panic!("the module of `{name}`"));
            (name, module)
        })
        .collect()
}

/// Entries that can be called without a static argument.
fn entries(module: &ModuleDecl) -> Vec<&str> {
    let is_static = |param: &Param| !matches!(&param.ty, Some(ty) if matches!(ty.kind, TypeKind::Tensor(_)));
    let entries = module.members.iter().filter_map(|member| match &member.kind {
        MemberKind::Entry(entry) => Some(entry),
        _ => None,
    });
    let callable = entries.filter(|e| !e.params.iter().any(|p| p.default.is_none() && is_static(p)));
    callable.filter_map(|entry| entry.name.as_plain()).collect()
}

/// The model at sizes such as `B=1 T=128`, or `x=B,T,24` for an input of open rank.
fn elaborated(path: &Path, model: &str, sizes: &str) -> Result<Unit, String> {
    let mut compiler = Compiler::new().model(model);
    for word in sizes.split_whitespace() {
        let (name, value) = word.split_once('=').ok_or_else(|| format!("`{word}` is no size"))?;
        compiler = match value.parse() {
            Ok(number) => compiler.dim(name, number),
            Err(_) => compiler.shape(name, value.split(',')),
        };
    }
    compiler.elaborate_file(&root().join(path)).map_err(|error| error.to_string())
}

fn facts(path: &Path, model: &str, module: &ModuleDecl, sizes: &str) -> Result<Facts, String> {
    let unit = elaborated(path, model, sizes)?;
    let known =
        |dim: &Dim| dim.as_const().ok_or_else(|| format!("{dim} depends on sizes that are not given"));
    let mut parameters = 0;
    for weight in unit.program.signature.weights.iter().filter(|weight| !weight.buffer) {
        parameters += known(&Dim::product(&weight.ty.shape).map_err(|e| e.to_string())?)?;
    }
    let cost = cost::program(&unit.program).map_err(|e| e.to_string())?;
    Ok(Facts {
        entries: entries(module).iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", "),
        parameters: grouped(parameters),
        multiply_adds: rounded(known(&cost.multiply_adds)?),
        flops: rounded(known(&cost.flops)?),
    })
}

/// `1234567` as `1,234,567`.
fn grouped(number: i64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (k, digit) in digits.chars().enumerate() {
        if k > 0 && (digits.len() - k).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// Three digits and a unit: `22.4 G`.
fn rounded(number: i64) -> String {
    let units = [(1_000_000_000_000, "T"), (1_000_000_000, "G"), (1_000_000, "M"), (1_000, "k")];
    let Some((unit, name)) = units.into_iter().find(|(unit, _)| number >= *unit) else {
        return number.to_string();
    };
    let value = number as f64 / unit as f64;
    let digits = if value >= 100.0 { 0 } else { 2 - usize::from(value >= 10.0) };
    format!("{value:.digits$} {name}")
}

/// Lines that are neither blank nor comments.
fn lines_of_code(text: &str) -> usize {
    text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')).count()
}

/// The section of a file with its numbers computed; complains of what people have to write.
fn section(path: &Path, text: &str, faults: &mut Vec<String>) -> String {
    let source = document(path).text;
    let name = path.display();
    let link = format!("[{name}](../{name}), ");
    let rows: BTreeMap<String, Vec<String>> = text
        .lines()
        .filter_map(cells)
        .filter(|row| row.len() == 8)
        .map(|row| (row[0].clone(), row))
        .collect();
    let mut table = vec![HEAD.to_string(), RULE.to_string()];
    for (model, module) in models(&source) {
        let key = format!("`{model}`");
        let written = rows.get(&key).cloned().unwrap_or_else(|| vec![String::new(); 8]);
        let (what, whose, sizes) = (&written[1], &written[2], &written[4]);
        if what.is_empty() || whose.is_empty() {
            faults.push(format!("{name}: `{model}` is not described"));
        }
        let found = facts(path, &model, &module, sizes.trim_matches('`')).unwrap_or_else(|why| {
            faults.push(format!("{name}: `{model}` at `{sizes}`: {why}"));
            let unknown = String::new;
            Facts { entries: unknown(), parameters: unknown(), multiply_adds: unknown(), flops: unknown() }
        });
        let Facts { entries, parameters, multiply_adds, flops } = found;
        table.push(format!(
            "| {key} | {what} | {whose} | {entries} | {sizes} | {parameters} | {multiply_adds} | {flops} |"
        ));
    }
    let mut out = Vec::new();
    let mut tabled = false;
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix(&link) {
            let rest = rest.split_once(" lines").map_or(rest, |(_, rest)| rest);
            out.push(format!("{link}{} lines{rest}", lines_of_code(&source)));
        } else if cells(line).is_none() {
            out.push(line.to_string());
        } else if !tabled {
            out.append(&mut table);
            tabled = true;
        }
    }
    if !tabled {
        out.append(&mut table);
    }
    out.join("\n")
}

#[test]
fn every_model_is_listed_with_its_numbers() {
    let page = document("docs/models.md").text;
    let mut parts = page.split("\n## ");
    let mut made = vec![parts.next().unwrap().to_string()];
    let sections: Vec<&str> = parts.collect();
    let mut faults = Vec::new();
    let mut left: Vec<_> = files("models", ".mdl");
    for text in sections {
        let at = left.iter().position(|path| text.contains(&format!("[{0}](../{0}), ", path.display())));
        let Some(at) = at else {
            made.push(text.trim_end_matches('\n').to_string());
            continue;
        };
        let path = left.remove(at);
        made.push(section(&path, text.trim_end_matches('\n'), &mut faults));
    }
    faults.extend(left.iter().map(|path| format!("{} has no section", path.display())));
    let wanted = made.iter().map(|part| part.trim_end_matches('\n')).collect::<Vec<_>>().join("\n\n## ");
    assert_current("docs/models.md", &format!("{wanted}\n"));
    assert!(faults.is_empty(), "docs/models.md:\n{}", faults.join("\n"));
}

#[test]
fn numbers_are_written_for_people() {
    assert_eq!([grouped(7), grouped(1234), grouped(109_482_240)], ["7", "1,234", "109,482,240"]);
    assert_eq!(
        [rounded(999), rounded(1040), rounded(38_640), rounded(22_400_000_000)],
        ["999", "1.04 k", "38.6 k", "22.4 G"]
    );
}

/// What `bench/run.py` compiles, which continuous integration does not run.
#[test]
fn the_models_of_the_benchmark_compile() {
    let mut compiled = 0;
    for path in files("bench/models", ".mdl") {
        let text = std::fs::read_to_string(root().join(&path)).unwrap();
        for (model, _) in models(&text) {
            let mut unit = elaborated(&path, &model, "").unwrap_or_else(|error| panic!("{error}"));
            unit.optimise(None).unwrap();
            unit.lower().unwrap();
            compiled += 1;
        }
    }
    assert!(compiled >= 20, "{compiled} models");
}
