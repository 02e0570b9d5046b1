//! What `run` and `bench` share: a model with weights and inputs as the options say, compiled, and the
//! first call of it that suits.

use super::args::{CallArgs, DataArgs};
use super::data::{Inputs, Mapped, draw_inputs, read_inputs, read_weights};
use super::sizes::{Sizes, choices};
use super::{compiler, plain};
use crate::diag::{Diagnostic, Fault};
use crate::dim::Symbol;
use crate::driver::{Cache, Error, Outline, Start, Unit};
use crate::files::NamedTensors;
use crate::graph::dims::DimEnv;
use crate::graph::ir::Signature;
use crate::runtime::{Model, Outputs, Threads, Weights};
use crate::source::SourceMap;
use serde_json::json;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Instant;

/// Everything a call needs, before compilation.
pub struct Loaded {
    pub start: Start,
    pub outline: Outline,
    pub weights: Weights,
    pub mapped: Option<Mapped>,
    pub choices: Choices,
    /// What it took to read the files of weights and inputs.
    ///
    /// # Units
    /// Seconds.
    pub read_seconds: f64,
}

/// Reads the files, elaborates or finds what was compiled before, and chooses sizes.
pub fn load(args: &CallArgs, cache: Option<Cache>) -> Result<Loaded, Error> {
    let CallArgs { model, code, data, .. } = args;
    let started = Instant::now();
    let inputs = read_inputs(&data.inputs)?;
    let file = match &data.weights {
        Some(path) => Some(read_weights(path, data.map.as_deref())?),
        None => None,
    };
    let read_seconds = started.elapsed().as_secs_f64();
    let at_hand = inputs.iter().fold(code.of(compiler(model)), |c, (name, t)| c.given(name, t.shape()));
    let at_hand = match cache {
        Some(cache) => at_hand.cache(cache),
        None => at_hand,
    };
    let (start, outline) = at_hand.start_file(&model.file)?;
    let signature = &outline.signature;
    let known = |name: &String| signature.inputs.iter().any(|p| p.name == *name);
    if let Some(name) = inputs.keys().find(|name| !known(name)) {
        let names: Vec<&str> = signature.inputs.iter().map(|p| p.name.as_str()).collect();
        let title = format!("the entry has no input `{name}`; its inputs are {}", names.join(", "));
        return Err(plain("unknown-input", Fault::User, title));
    }
    let choices = Choices { all: choices(&outline, &inputs), given: inputs, seed: data.seed };
    let (weights, mapped) = match file {
        Some((tensors, mapped)) => {
            let weights = Weights::from_tensors(tensors);
            let partial = |weights: Weights| weights.fill_missing(data.seed).allow_extra();
            (if data.partial { partial(weights) } else { weights }, mapped)
        }
        None => (Weights::initialised(data.seed), None),
    };
    Ok(Loaded { start, outline, weights, mapped, choices, read_seconds })
}

/// A model that can be called, and what it took to get there.
///
/// # Units
/// Seconds.
pub struct Bound {
    pub model: Model,
    /// By stage.
    pub stages: Vec<(&'static str, f64)>,
    pub bind_seconds: f64,
}

/// Compiles and binds.
pub fn bind(start: &mut Start, weights: &Weights, threads: &Threads) -> Result<Bound, Error> {
    let (compiled, times) = start.code()?;
    let stages = times.into_iter().map(|(stage, time)| (stage, time.as_secs_f64())).collect();
    let started = Instant::now();
    let model = compiled.with_threads(threads).bind(weights);
    let model = model.map_err(|e| at(start.sources(), e.to_diagnostic()))?;
    Ok(Bound { model, stages, bind_seconds: started.elapsed().as_secs_f64() })
}

impl Bound {
    /// # Units
    /// Seconds of all stages.
    pub fn compile_seconds(&self) -> f64 {
        self.stages.iter().map(|(_, seconds)| seconds).sum()
    }

    /// Whether nothing was compiled.
    pub fn is_cached(&self) -> bool {
        self.stages.iter().any(|(stage, _)| *stage == "cache")
    }
}

/// Calls a model with all its inputs.
pub fn call(model: &Model, inputs: &Inputs<'_>) -> Result<Outputs, Diagnostic> {
    let ports = &model.signature().inputs;
    let named = ports.iter().map(|port| (port.name.as_str(), inputs[&port.name].view()));
    model.call(named).map_err(|e| e.to_diagnostic())
}

/// Seconds of all stages so far.
pub fn seconds(unit: &Unit) -> f64 {
    unit.times.iter().map(|(_, time)| time.as_secs_f64()).sum()
}

/// A diagnostic with the sources it points into.
pub fn at(sources: &SourceMap, diagnostic: Diagnostic) -> Error {
    Error { sources: sources.clone(), diagnostics: vec![diagnostic] }
}

/// What a call may be made with.
pub struct Choices {
    /// In order of preference.
    all: Vec<Sizes>,
    given: NamedTensors,
    seed: u64,
}

/// A call that went through.
pub struct Suited<'a, T> {
    pub result: T,
    /// # Units
    /// Seconds of that call.
    pub call_seconds: f64,
    pub inputs: Inputs<'a>,
    pub env: DimEnv,
    pub made_up: MadeUp,
}

/// What nobody gave.
pub struct MadeUp {
    pub sizes: Vec<(Symbol, i64)>,
    /// Inputs, in words.
    pub inputs: Vec<String>,
}

impl Choices {
    /// The first call that goes through, and what it was made with. A call may find what no condition on
    /// sizes says, such as an index that only longer axes hold; then the next sizes are tried. If none
    /// suit, the first failure is the one to report.
    pub fn first_that_suits<T>(
        &self,
        sources: &SourceMap,
        signature: &Signature,
        call: &dyn Fn(&Inputs<'_>) -> Result<T, Diagnostic>,
    ) -> Result<Suited<'_, T>, Error> {
        let mut first = None;
        for Sizes { env, chosen } in &self.all {
            let (inputs, drawn) = draw_inputs(signature, &self.given, env, self.seed)?;
            let started = Instant::now();
            let diagnostic = match call(&inputs) {
                Ok(result) => {
                    let call_seconds = started.elapsed().as_secs_f64();
                    let made_up = MadeUp { sizes: chosen.clone(), inputs: drawn };
                    return Ok(Suited { result, call_seconds, inputs, env: env.clone(), made_up });
                }
                Err(diagnostic) if chosen.is_empty() => return Err(at(sources, diagnostic)),
                Err(diagnostic) => diagnostic,
            };
            let is_of_sizes = diagnostic.fault == Fault::User;
            let sizes: Vec<String> = chosen.iter().map(|(s, size)| format!("{}={size}", s.name())).collect();
            let help = format!("{} was chosen; give other sizes with --dim, or an input", sizes.join(", "));
            first.get_or_insert(diagnostic.help(help));
            if !is_of_sizes {
                break;
            }
        }
        let diagnostic = first.expect("invariant: there is a choice of sizes");
        Err(at(sources, diagnostic))
    }
}

impl MadeUp {
    /// The sizes, by name.
    pub fn sizes_json(&self) -> serde_json::Value {
        let sizes: BTreeMap<&str, i64> = self.sizes.iter().map(|(s, size)| (s.name(), *size)).collect();
        json!(sizes)
    }
}

/// The first lines of what `run` and `bench` print: the model, and what it was called with.
pub fn heading(model: &str, data: &DataArgs, mapped: Option<&Mapped>, made_up: &MadeUp) -> String {
    let mut text = format!("{model}\n");
    if data.weights.is_none() {
        let _ = writeln!(text, "  weights      declared initialisers, seed {}", data.seed);
    }
    if let Some(mapped) = mapped {
        let _ = writeln!(text, "  map          {}", mapped.summary());
    }
    if !made_up.sizes.is_empty() {
        let sizes: Vec<String> =
            made_up.sizes.iter().map(|(s, size)| format!("{}={size}", s.name())).collect();
        let _ = writeln!(text, "  sizes        {} (fix them with --dim)", sizes.join(", "));
    }
    for input in &made_up.inputs {
        let _ = writeln!(text, "  drawn        {input}, seed {}", data.seed);
    }
    text
}
