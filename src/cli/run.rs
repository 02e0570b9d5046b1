//! `mdlc run`

use super::args::RunArgs;
use super::data::{Inputs, Mapped, draw_inputs, read_inputs, read_weights};
use super::sizes::{Sizes, choices};
use super::{compiler, plain, print, print_json};
use crate::diag::{Diagnostic, Fault};
use crate::dim::Symbol;
use crate::driver::{Error, Unit, reference};
use crate::files::{NamedTensors, write_tensors};
use crate::graph::ir::Signature;
use crate::runtime::Weights;
use crate::tensor::{Data, Tensor};
use indexmap::IndexMap;
use serde_json::json;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::process::ExitCode;
use std::time::Instant;

/// Compiles, binds, calls, and says what came out.
pub fn run(args: &RunArgs) -> Result<ExitCode, Error> {
    let inputs = read_inputs(&args.inputs)?;
    let at_hand = inputs.iter().fold(compiler(&args.model), |c, (name, t)| c.given(name, t.shape()));
    let mut unit = at_hand.elaborate_file(&args.model.file)?;
    let signature = unit.program.signature.clone();
    let known = |name: &String| signature.inputs.iter().any(|p| p.name == *name);
    if let Some(name) = inputs.keys().find(|name| !known(name)) {
        let names: Vec<&str> = signature.inputs.iter().map(|p| p.name.as_str()).collect();
        let title = format!("the entry has no input `{name}`; its inputs are {}", names.join(", "));
        return Err(plain("unknown-input", Fault::User, title));
    }
    let (weights, mapped) = match &args.weights {
        Some(path) => {
            let (tensors, mapped) = read_weights(path, args.map.as_deref())?;
            let weights = Weights::from_tensors(tensors);
            let partial = |weights: Weights| weights.fill_missing(args.seed).allow_extra();
            (if args.partial { partial(weights) } else { weights }, mapped)
        }
        None => (Weights::initialised(args.seed), None),
    };
    let choices = Choices { all: choices(&unit.program, &inputs), given: inputs, seed: args.seed };
    let (computed, made_up) = if args.reference {
        by_reference(&unit, &weights, &choices)?
    } else {
        natively(&mut unit, &weights, &choices)?
    };
    if let Some(path) = &args.output {
        write_tensors(path, computed.outputs.iter().map(|(name, tensor)| (name, tensor.view())))?;
    }
    if args.json {
        print_json(&as_json(args, &signature.name, mapped.as_ref(), &made_up, &computed))
    } else {
        print(&as_text(args, &signature.name, mapped.as_ref(), &made_up, &computed))
    }
}

/// What nobody gave.
struct MadeUp {
    sizes: Vec<(Symbol, i64)>,
    /// Inputs, in words.
    inputs: Vec<String>,
}

fn as_json(
    args: &RunArgs,
    model: &str,
    mapped: Option<&Mapped>,
    made_up: &MadeUp,
    computed: &Computed,
) -> serde_json::Value {
    let one = |(name, tensor): (&String, &Tensor)| {
        let (low, high, mean) = summary(tensor);
        json!({ "name": name, "dtype": tensor.dtype(), "shape": tensor.shape(), "min": low, "max": high, "mean": mean })
    };
    let sizes: BTreeMap<&str, i64> = made_up.sizes.iter().map(|(s, size)| (s.name(), *size)).collect();
    json!({
        "model": model,
        "backend": if args.reference { "reference" } else { "clif" },
        "initialised": args.weights.is_none(),
        "seed": args.seed,
        "map": mapped.map(Mapped::json),
        "sizes": sizes,
        "drawn": made_up.inputs,
        "compile_seconds": computed.compile_seconds,
        "call_seconds": computed.call_seconds,
        "outputs": computed.outputs.iter().map(one).collect::<Vec<_>>(),
    })
}

fn as_text(
    args: &RunArgs,
    model: &str,
    mapped: Option<&Mapped>,
    made_up: &MadeUp,
    computed: &Computed,
) -> String {
    let mut text = format!("{model}\n");
    if args.weights.is_none() {
        let _ = writeln!(text, "  weights      declared initialisers, seed {}", args.seed);
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
        let _ = writeln!(text, "  drawn        {input}, seed {}", args.seed);
    }
    for (name, tensor) in &computed.outputs {
        let (low, high, mean) = summary(tensor);
        let (dtype, shape) = (tensor.dtype(), tensor.shape());
        let _ = writeln!(text, "  {name}: {dtype} {shape:?}  min {low:.6}  mean {mean:.6}  max {high:.6}");
    }
    let (compiled, called) = (computed.compile_seconds * 1e3, computed.call_seconds * 1e3);
    let _ = if args.reference {
        writeln!(text, "  elaborated in {compiled:.1} ms, evaluated by the reference in {called:.3} ms")
    } else {
        writeln!(text, "  compiled in {compiled:.1} ms, called in {called:.3} ms")
    };
    if let Some(path) = &args.output {
        let _ = writeln!(text, "  wrote        {}", path.display());
    }
    text
}

/// What a call gives, and how long it took.
struct Computed {
    outputs: IndexMap<String, Tensor>,
    compile_seconds: f64,
    call_seconds: f64,
}

/// Seconds of all stages so far.
fn seconds(unit: &Unit) -> f64 {
    unit.times.iter().map(|(_, time)| time.as_secs_f64()).sum()
}

fn natively(unit: &mut Unit, weights: &Weights, choices: &Choices) -> Result<(Computed, MadeUp), Error> {
    unit.optimise(None)?;
    let loops = unit.lower()?;
    let compiled = unit.generate(loops, false)?;
    let compile_seconds = seconds(unit);
    let model = compiled.bind(weights).map_err(|e| at(unit, e.to_diagnostic()))?;
    let signature = compiled.signature();
    let (outputs, call_seconds, made_up) = choices.first_that_suits(unit, signature, &|inputs| {
        let named = signature.inputs.iter().map(|p| (p.name.as_str(), inputs[&p.name].view()));
        model.call(named).map_err(|e| e.to_diagnostic())
    })?;
    Ok((Computed { outputs: outputs.into_tensors(), compile_seconds, call_seconds }, made_up))
}

fn by_reference(unit: &Unit, weights: &Weights, choices: &Choices) -> Result<(Computed, MadeUp), Error> {
    let signature = &unit.program.signature;
    let weights = weights.ordered(signature).map_err(|e| at(unit, e.to_diagnostic()))?;
    let (outputs, call_seconds, made_up) = choices.first_that_suits(unit, signature, &|inputs| {
        let given: Vec<&Tensor> = signature.inputs.iter().map(|p| &*inputs[&p.name]).collect();
        reference(&unit.program, &given, &weights).map_err(|diagnostic| *diagnostic)
    })?;
    let outputs = signature.outputs.iter().map(|port| port.name.clone()).zip(outputs).collect();
    Ok((Computed { outputs, compile_seconds: seconds(unit), call_seconds }, made_up))
}

fn at(unit: &Unit, diagnostic: Diagnostic) -> Error {
    Error { sources: unit.sources.clone(), diagnostics: vec![diagnostic] }
}

/// What a call may be made with.
struct Choices {
    /// In order of preference.
    all: Vec<Sizes>,
    given: NamedTensors,
    seed: u64,
}

impl Choices {
    /// The first call that goes through, the seconds it took, and what it was made with. A call may
    /// find what no condition on sizes says, such as an index that only longer axes hold; then the next
    /// sizes are tried. If none suit, the first failure is the one to report.
    fn first_that_suits<T>(
        &self,
        unit: &Unit,
        signature: &Signature,
        call: &dyn Fn(&Inputs<'_>) -> Result<T, Diagnostic>,
    ) -> Result<(T, f64, MadeUp), Error> {
        let mut first = None;
        for Sizes { env, chosen } in &self.all {
            let (inputs, drawn) = draw_inputs(signature, &self.given, env, self.seed)?;
            let started = Instant::now();
            let diagnostic = match call(&inputs) {
                Ok(outputs) => {
                    let made_up = MadeUp { sizes: chosen.clone(), inputs: drawn };
                    return Ok((outputs, started.elapsed().as_secs_f64(), made_up));
                }
                Err(diagnostic) if chosen.is_empty() => return Err(at(unit, diagnostic)),
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
        Err(at(unit, diagnostic))
    }
}

/// Least, greatest and mean element; NaN of nothing.
fn summary(tensor: &Tensor) -> (f64, f64, f64) {
    match tensor.data() {
        Data::F32(v) => summary_of(v, f64::from),
        Data::F64(v) => summary_of(v, |x| x),
        Data::I32(v) => summary_of(v, f64::from),
        Data::I64(v) => summary_of(v, |x| x as f64),
        Data::Bool(v) => summary_of(v, |x| f64::from(u8::from(x))),
    }
}

fn summary_of<T: Copy>(elements: &[T], real: impl Fn(T) -> f64) -> (f64, f64, f64) {
    let values = || elements.iter().map(|x| real(*x));
    let (low, high) = (values().fold(f64::NAN, f64::min), values().fold(f64::NAN, f64::max));
    (low, high, values().sum::<f64>() / elements.len() as f64)
}
