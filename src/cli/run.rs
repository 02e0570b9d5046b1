//! `mdlc run`

use super::args::RunArgs;
use super::call::{Choices, Loaded, MadeUp, Suited, at, bind, call, heading, load, seconds};
use super::data::Mapped;
use super::{print, print_json};
use crate::diag::Fault;
use crate::driver::{Error, Start, reference};
use crate::files::write_tensors;
use crate::runtime::{Threads, Weights};
use crate::tensor::{Data, Tensor};
use indexmap::IndexMap;
use serde_json::json;
use std::fmt::Write as _;
use std::process::ExitCode;

/// Compiles, binds, calls, and says what came out.
pub fn run(args: &RunArgs) -> Result<ExitCode, Error> {
    let cache = if args.reference { None } else { args.cache.open() };
    let Loaded { mut start, outline, weights, mapped, choices, .. } = load(&args.call, cache)?;
    let name = outline.signature.name;
    let (computed, made_up) = if args.reference {
        by_reference(&start, &weights, &choices)?
    } else {
        natively(&mut start, &weights, &choices, &args.call.threads.start()?)?
    };
    if let Some(path) = &args.output {
        write_tensors(path, computed.outputs.iter().map(|(name, tensor)| (name, tensor.view())))?;
    }
    if args.json {
        print_json(&as_json(args, &name, mapped.as_ref(), &made_up, &computed))
    } else {
        print(&as_text(args, &name, mapped.as_ref(), &made_up, &computed))
    }
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
    json!({
        "model": model,
        "backend": if args.reference { "reference" } else { args.call.code.name() },
        "initialised": args.call.data.weights.is_none(),
        "seed": args.call.data.seed,
        "map": mapped.map(Mapped::json),
        "sizes": made_up.sizes_json(),
        "drawn": made_up.inputs,
        "compile_seconds": computed.compile_seconds,
        "cached": computed.cached,
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
    let mut text = heading(model, &args.call.data, mapped, made_up);
    for (name, tensor) in &computed.outputs {
        let (low, high, mean) = summary(tensor);
        let (dtype, shape) = (tensor.dtype(), tensor.shape());
        let _ = writeln!(text, "  {name}: {dtype} {shape:?}  min {low:.6}  mean {mean:.6}  max {high:.6}");
    }
    let (compiled, called) = (computed.compile_seconds * 1e3, computed.call_seconds * 1e3);
    let _ = if args.reference {
        writeln!(text, "  elaborated in {compiled:.1} ms, evaluated by the reference in {called:.3} ms")
    } else {
        let done = if computed.cached { "found" } else { "compiled" };
        writeln!(text, "  {done} in {compiled:.1} ms, called in {called:.3} ms")
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
    cached: bool,
    call_seconds: f64,
}

fn natively(
    start: &mut Start,
    weights: &Weights,
    choices: &Choices,
    threads: &Threads,
) -> Result<(Computed, MadeUp), Error> {
    let bound = bind(start, weights, threads)?;
    let (compile_seconds, cached) = (bound.compile_seconds(), bound.is_cached());
    let signature = bound.model.signature();
    let Suited { result, call_seconds, made_up, .. } =
        choices.first_that_suits(start.sources(), signature, &|inputs| call(&bound.model, inputs))?;
    Ok((Computed { outputs: result.into_tensors(), compile_seconds, cached, call_seconds }, made_up))
}

fn by_reference(start: &Start, weights: &Weights, choices: &Choices) -> Result<(Computed, MadeUp), Error> {
    let Start::Graph(unit) = start else {
        return Err(super::plain("no-graph", Fault::Internal, "the reference evaluator wants a graph"));
    };
    let signature = &unit.program.signature;
    let weights = weights.ordered(signature).map_err(|e| at(&unit.sources, e.to_diagnostic()))?;
    let Suited { result, call_seconds, made_up, .. } =
        choices.first_that_suits(&unit.sources, signature, &|inputs| {
            let given: Vec<&Tensor> = signature.inputs.iter().map(|p| &*inputs[&p.name]).collect();
            reference(&unit.program, &given, &weights).map_err(|diagnostic| *diagnostic)
        })?;
    let outputs = signature.outputs.iter().map(|port| port.name.clone()).zip(result).collect();
    let compile_seconds = seconds(unit);
    Ok((Computed { outputs, compile_seconds, cached: false, call_seconds }, made_up))
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
