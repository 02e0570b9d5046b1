//! `mdlc run`

use super::args::RunArgs;
use super::data::{Mapped, draw_inputs, read_inputs, read_weights};
use super::{compiler, plain, print, print_json};
use crate::diag::Fault;
use crate::driver::Error;
use crate::files::write_tensors;
use crate::runtime::Weights;
use crate::tensor::{Data, Tensor};
use serde_json::json;
use std::fmt::Write as _;
use std::process::ExitCode;
use std::time::Instant;

/// Compiles, binds, calls, and says what came out.
pub fn run(args: &RunArgs) -> Result<ExitCode, Error> {
    let mut inputs = read_inputs(&args.inputs)?;
    let mut model_args = args.model.clone();
    // An optional input that is given need not be announced by --with.
    let plain_unit = compiler(&model_args).elaborate_file(&model_args.file)?;
    let omitted = &plain_unit.program.signature.omitted;
    model_args.with.extend(inputs.keys().filter(|name| omitted.contains(name)).cloned());
    let mut unit = compiler(&model_args).elaborate_file(&model_args.file)?;
    let signature = unit.program.signature.clone();
    let known = |name: &String| signature.inputs.iter().any(|p| p.name == *name);
    if let Some(name) = inputs.keys().find(|name| !known(name)) {
        let names: Vec<&str> = signature.inputs.iter().map(|p| p.name.as_str()).collect();
        let title = format!("the entry has no input `{name}`; its inputs are {}", names.join(", "));
        return Err(plain("unknown-input", Fault::User, title));
    }
    let drawn = draw_inputs(&signature, &mut inputs, args.seed)?;
    unit.optimise(None)?;
    let loops = unit.lower()?;
    let sources = unit.sources.clone();
    let at = |d: crate::diag::Diagnostic| Error { sources: sources.clone(), diagnostics: vec![d] };
    let compiled = unit.generate(loops, false)?;
    let compile_seconds: f64 = unit.times.iter().map(|(_, t)| t.as_secs_f64()).sum();
    let (weights, mapped) = match &args.weights {
        Some(path) => {
            let (tensors, mapped) = read_weights(path, args.map.as_deref())?;
            let weights = Weights::from_tensors(tensors);
            let partial = |weights: Weights| weights.fill_missing(args.seed).allow_extra();
            (if args.partial { partial(weights) } else { weights }, mapped)
        }
        None => (Weights::initialised(args.seed), None),
    };
    let model = compiled.bind(&weights).map_err(|e| at(e.to_diagnostic()))?;
    let started = Instant::now();
    let named = signature.inputs.iter().map(|p| (p.name.as_str(), inputs[&p.name].view()));
    let outputs = model.call(named).map_err(|e| at(e.to_diagnostic()))?;
    let call_seconds = started.elapsed().as_secs_f64();
    if let Some(path) = &args.output {
        let tensors = outputs.iter().map(|(name, tensor)| (name, tensor.view()));
        write_tensors(path, tensors)?;
    }
    if args.json {
        let one = |(name, tensor): (&str, &Tensor)| {
            let (low, high, mean) = summary(tensor);
            json!({ "name": name, "dtype": tensor.dtype(), "shape": tensor.shape(), "min": low, "max": high, "mean": mean })
        };
        return print_json(&json!({
            "model": signature.name,
            "initialised": args.weights.is_none(),
            "seed": args.seed,
            "map": mapped.as_ref().map(Mapped::json),
            "drawn": drawn,
            "compile_seconds": compile_seconds,
            "call_seconds": call_seconds,
            "outputs": outputs.iter().map(one).collect::<Vec<_>>(),
        }));
    }
    let mut text = format!("{}\n", signature.name);
    if args.weights.is_none() {
        let _ = writeln!(text, "  weights      declared initialisers, seed {}", args.seed);
    }
    if let Some(mapped) = &mapped {
        let _ = writeln!(text, "  map          {}", mapped.summary());
    }
    for input in &drawn {
        let _ = writeln!(text, "  drawn        {input}, seed {}", args.seed);
    }
    for (name, tensor) in outputs.iter() {
        let (low, high, mean) = summary(tensor);
        let (dtype, shape) = (tensor.dtype(), tensor.shape());
        let _ = writeln!(text, "  {name}: {dtype} {shape:?}  min {low:.6}  mean {mean:.6}  max {high:.6}");
    }
    let _ = writeln!(
        text,
        "  compiled in {:.1} ms, called in {:.3} ms",
        compile_seconds * 1e3,
        call_seconds * 1e3
    );
    if let Some(path) = &args.output {
        let _ = writeln!(text, "  wrote        {}", path.display());
    }
    print(&text)
}

/// Least, greatest and mean element; NaN of nothing.
fn summary(tensor: &Tensor) -> (f64, f64, f64) {
    let values: Vec<f64> = match tensor.data() {
        Data::F32(v) => v.iter().map(|x| f64::from(*x)).collect(),
        Data::F64(v) => v.clone(),
        Data::I32(v) => v.iter().map(|x| f64::from(*x)).collect(),
        Data::I64(v) => v.iter().map(|x| *x as f64).collect(),
        Data::Bool(v) => v.iter().map(|x| f64::from(u8::from(*x))).collect(),
    };
    let low = values.iter().copied().fold(f64::NAN, f64::min);
    let high = values.iter().copied().fold(f64::NAN, f64::max);
    (low, high, values.iter().sum::<f64>() / values.len() as f64)
}
