//! What a user is told: one small file per way of being wrong, and a snapshot beside it.
//!
//! A case is `tests/diagnostics/<family>/<name>.mdl`. Comments at its top say what is asked of it,
//! as options of the command line and as tensors:
//!
//! ```text
//! # mdlc check --set D=4 --dim B=1
//! # mdlc run
//! # weight lin.weight: f32[4, 3]
//! # input ids: i64[2] = 0, 9
//! ```
//!
//! Without such a line a case is `mdlc check` of the file. The snapshot holds the exit code, the
//! kind of fault, and the diagnostics without colours. Files that cases import lie one folder
//! deeper, so that they are no cases themselves.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use mdlc::diag::{Fault, Severity};
use mdlc::driver::{Compiler, Error};
use mdlc::dtype::DType;
use mdlc::runtime::Weights;
use mdlc::tensor::{Data, Tensor};
use std::collections::BTreeSet;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Most diagnostics of one run.
const MAX_DIAGNOSTICS: usize = 20;

/// Longest time that a case may take, on a machine that does other things too.
const MAX_TIME: Duration = Duration::from_secs(2);

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/diagnostics")
}

/// What the comments at the top of a case ask for.
struct Case {
    compiler: Compiler,
    /// Whether the model is bound and called, and not checked only.
    run: bool,
    weights: Option<Vec<(String, Tensor)>>,
    inputs: Vec<(String, Tensor)>,
}

impl Case {
    fn of(text: &str) -> Case {
        let mut case = Case { compiler: Compiler::new(), run: false, weights: None, inputs: Vec::new() };
        for line in text.lines().map_while(|line| line.strip_prefix("# ")) {
            if let Some(rest) = line.strip_prefix("mdlc ") {
                let mut words = rest.split_whitespace();
                case.run = words.next() == Some("run");
                case.compiler = options(&words.collect::<Vec<_>>());
            } else if let Some(rest) = line.strip_prefix("weight ") {
                case.weights.get_or_insert_default().push(tensor(rest));
            } else if let Some(rest) = line.strip_prefix("input ") {
                case.inputs.push(tensor(rest));
            } else if line == "no weights" {
                case.weights = Some(Vec::new());
            }
        }
        case
    }

    /// Does what is asked; a case that goes well is none.
    fn error(self, name: &str, text: &str, folder: &Path) -> Error {
        let mut unit = match self.compiler.elaborate_source(name, text, folder) {
            Ok(unit) => unit,
            Err(error) => return error,
        };
        let sources = unit.sources.clone();
        let at = |d| Error { sources: sources.clone(), diagnostics: vec![d] };
        let lowered = unit.optimise(None).and_then(|()| unit.lower());
        let loops = match lowered {
            Ok(loops) => loops,
            Err(error) => return error,
        };
        if !self.run {
            let warned = Error { diagnostics: unit.warnings(), sources };
            assert!(!warned.diagnostics.is_empty(), "{name}: the check finds nothing wrong");
            return warned;
        }
        let compiled = match unit.generate(loops, false) {
            Ok(compiled) => compiled,
            Err(error) => return error,
        };
        let weights = self.weights.map_or_else(|| Weights::initialised(0), Weights::from_tensors);
        let model = match compiled.bind(&weights) {
            Ok(model) => model,
            Err(error) => return at(error.to_diagnostic()),
        };
        match model.call(self.inputs.iter().map(|(name, tensor)| (name.as_str(), tensor.view()))) {
            Ok(_) => panic!("{name}: the call goes well"),
            Err(error) => at(error.to_diagnostic()),
        }
    }
}

/// The options of the command line that say which model of a file is meant.
fn options(words: &[&str]) -> Compiler {
    words.chunks(2).fold(Compiler::new(), |compiler, option| {
        let [option, value] = option else { panic!("{option:?} has no value") };
        let pair = || value.split_once('=').unwrap();
        match *option {
            "--model" => compiler.model(*value),
            "--entry" => compiler.entry(*value),
            "--with" => compiler.with(*value),
            "--set" => compiler.set(pair().0, pair().1),
            "--arg" => compiler.argument(pair().0, pair().1),
            "--dim" => compiler.dim(pair().0, pair().1.parse().unwrap()),
            "--shape" => compiler.shape(pair().0, pair().1.split(',')),
            other => panic!("there is no option {other}"),
        }
    })
}

/// `name: i64[3] = 0, 9, 2`, or `name: f32[2, 3] = 1` everywhere; zeros where nothing is written.
fn tensor(text: &str) -> (String, Tensor) {
    let (name, rest) = text.split_once(": ").unwrap();
    let (ty, elements) = rest.split_once(" = ").unwrap_or((rest, ""));
    let (dtype, axes) = ty.trim_end_matches(']').split_once('[').unwrap();
    let shape: Vec<usize> = axes.split(", ").filter(|a| !a.is_empty()).map(|a| a.parse().unwrap()).collect();
    let dtype = DType::from_name(dtype).unwrap();
    let count: usize = shape.iter().product();
    let tensor = match dtype {
        _ if elements.is_empty() => Tensor::zeros(dtype, shape).unwrap(),
        DType::I64 => {
            let data: Vec<i64> = elements.split(", ").map(|e| e.parse().unwrap()).collect();
            Tensor::new(shape, Data::from(data)).unwrap()
        }
        DType::F32 => Tensor::new(shape, Data::from(vec![elements.parse::<f32>().unwrap(); count])).unwrap(),
        other => panic!("elements of type {other} cannot be written"),
    };
    (name.to_string(), tensor)
}

/// The diagnostics of a case as a user sees them, below what the process would exit with.
fn told(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap();
    let name = path.file_name().unwrap().to_string_lossy().into_owned();
    // The quickest of three: other tests and other programs share the processor.
    let mut quickest = Duration::MAX;
    let mut error = None;
    for _ in 0..3 {
        let started = Instant::now();
        error = Some(Case::of(&text).error(&name, &text, path.parent().unwrap()));
        quickest = quickest.min(started.elapsed());
        if quickest <= MAX_TIME {
            break;
        }
    }
    let error = error.unwrap();
    assert!(quickest <= MAX_TIME, "{name} takes {quickest:?}");
    let found = &error.diagnostics;
    let warns = path.parent().is_some_and(|folder| folder.ends_with("warnings"));
    let severity = if warns { Severity::Warning } else { Severity::Error };
    assert!(found.iter().any(|d| d.severity == severity), "{name}: no {severity:?}");
    assert!(found.len() <= MAX_DIAGNOSTICS, "{name}: {} diagnostics", found.len());
    assert!(found.iter().all(|d| d.fault != Fault::Internal), "{name}: {error}");
    if found.iter().all(|d| d.severity == Severity::Warning) {
        return format!("exit code 0\n\n{error}");
    }
    let faults: BTreeSet<String> = found.iter().map(|d| format!("{:?}", d.fault).to_lowercase()).collect();
    let faults: Vec<String> = faults.into_iter().collect();
    format!("exit code {} ({})\n\n{error}", error.exit_code(), faults.join(", "))
}

/// The cases of a family, in order of their names.
fn cases(family: &str) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = fs::read_dir(root().join(family))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "mdl"))
        .collect();
    found.sort();
    found
}

/// Compares all cases of a family with their snapshots, and says of all of them which differ.
fn family(family: &str) {
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path(root().join(family));
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    let mut failed = Vec::new();
    for path in cases(family) {
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        let compared = catch_unwind(AssertUnwindSafe(|| {
            let told = told(&path);
            settings.bind(|| insta::assert_snapshot!(name.as_str(), told));
        }));
        if compared.is_err() {
            failed.push(name);
        }
    }
    assert!(failed.is_empty(), "{family}: {}", failed.join(", "));
}

macro_rules! families {
    ($($name:ident: $what:literal,)*) => {
        const FAMILIES: &[&str] = &[$(stringify!($name)),*];
        $(
            #[doc = $what]
            #[test]
            fn $name() {
                family(stringify!($name));
            }
        )*
    };
}

families! {
    syntax: "Texts that do not parse.",
    names: "Names that mean nothing, or two things.",
    statics: "Static values and the arguments of modules.",
    modules: "Members, entries, recursion and picks.",
    imports: "Files and libraries that are imported.",
    members: "Requirements, ties, weights and optional members.",
    ranks: "Numbers of axes, results and names.",
    dims: "Sizes that do not go together.",
    dtypes: "Element types and kinds of values.",
    indices: "Index notation: bindings, ranges, reads, reducers.",
    recur: "Recurrences: first values, lags, lines.",
    patterns: "Patterns and what is taken for one.",
    request: "What is asked of a file that it does not have.",
    limits: "Programs that would not end, or be too large.",
    refused: "Parts of the language that nothing computes yet.",
    weights: "Weights that are not the model's.",
    run: "Inputs, sizes and positions of a call.",
    warnings: "What is right, and mostly meant otherwise.",
    many: "Several faults in one file.",
}

#[test]
fn every_folder_is_a_family_and_every_snapshot_has_its_case() {
    let folders: BTreeSet<String> =
        fs::read_dir(root()).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    assert_eq!(folders, FAMILIES.iter().map(ToString::to_string).collect());
    for family in FAMILIES {
        for entry in fs::read_dir(root().join(family)).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|e| e == "snap") {
                assert!(path.with_extension("mdl").exists(), "{} has no case", path.display());
            }
        }
    }
    let count: usize = FAMILIES.iter().map(|f| cases(f).len()).sum();
    assert!(count >= 150, "{count} cases");
}
