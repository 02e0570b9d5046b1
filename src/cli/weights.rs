//! `mdlc weights`

use super::args::WeightsArgs;
use super::data::{Mapped, rename};
use super::{compiler, print, print_json};
use crate::driver::{Error, Unit};
use crate::files::{read_annotated, write_annotated};
use crate::graph::ir::Weight;
use crate::graph::print::type_text;
use crate::runtime::{WeightFault, Weights};
use serde_json::json;
use std::fmt::Write as _;
use std::path::Path;
use std::process::ExitCode;

/// Lists weights, or compares them with a file.
pub fn weights(args: &WeightsArgs) -> Result<ExitCode, Error> {
    let unit = compiler(&args.model).elaborate_file(&args.model.file)?;
    match args.positional.as_ref().or(args.weights.as_ref()) {
        Some(path) => compare(args, &unit, path),
        None if args.map.is_some() => super::usage("--map renames the tensors of a weights file: give one"),
        None => list(args, &unit.program.signature.weights),
    }
}

fn list(args: &WeightsArgs, weights: &[Weight]) -> Result<ExitCode, Error> {
    if args.json {
        let one = |w: &Weight| json!({ "name": w.path, "aliases": w.aliases, "type": type_text(&w.ty), "buffer": w.buffer });
        return print_json(&json!({ "weights": weights.iter().map(one).collect::<Vec<_>>() }));
    }
    let mut text = String::new();
    for weight in weights {
        let kind = if weight.buffer { "buffer" } else { "param " };
        let _ = write!(text, "{kind} {}: {}", weight.path, type_text(&weight.ty));
        if !weight.aliases.is_empty() {
            let _ = write!(text, " = {}", weight.aliases.join(" = "));
        }
        text.push('\n');
    }
    print(&text)
}

/// Compares a file with the model under the model's names, and writes it under the new ones. What
/// differs is the answer, not an error on the way to it, so that it goes to standard output.
fn compare(args: &WeightsArgs, unit: &Unit, path: &Path) -> Result<ExitCode, Error> {
    let (tensors, metadata) = read_annotated(path)?;
    let count = tensors.len();
    // The names to compare are the model's: those of the file on the way back.
    let signature = &unit.program.signature;
    let compared =
        |weights: &Weights| weights.differences(signature).map_err(|e| Error::plain(e.to_diagnostic()));
    let given = Weights::from_tensors(tensors);
    let as_given = if args.map.is_none() || args.inverse { Some(compared(&given)?) } else { None };
    let tensors = given.into_tensors();
    let (renamed, mapped) = match &args.map {
        None => (tensors, None),
        Some(map) => rename(tensors, map, args.inverse).map(|(renamed, mapped)| (renamed, Some(mapped)))?,
    };
    if let Some(output) = &args.output {
        write_annotated(output, renamed.iter().map(|(name, tensor)| (name, tensor.view())), &metadata)?;
    }
    let differences = match as_given {
        Some(differences) => differences,
        None => compared(&Weights::from_tensors(renamed))?,
    };
    let code = ExitCode::from(u8::from(!differences.is_empty()));
    if args.json {
        let one = |fault: &WeightFault| json!({ "kind": fault.kind(), "name": fault.name(), "text": fault.to_string() });
        print_json(&json!({
            "fits": differences.is_empty(),
            "tensors": count,
            "map": mapped.as_ref().map(Mapped::json),
            "differences": differences.iter().map(one).collect::<Vec<_>>(),
            "written": args.output,
        }))?;
        return Ok(code);
    }
    let mut text = mapped.as_ref().map_or_else(String::new, rules_text);
    if differences.is_empty() {
        let _ = writeln!(text, "all weights of `{}` fit", unit.program.signature.name);
    }
    for fault in &differences {
        let _ = writeln!(text, "{fault}");
    }
    if let Some(output) = &args.output {
        let _ = writeln!(text, "wrote       {}", output.display());
    }
    print(&text)?;
    Ok(code)
}

/// A line for each rule: how many names it matched, and what it does.
fn rules_text(mapped: &Mapped) -> String {
    let mut text = String::new();
    for (rule, matched) in mapped.map.rules().iter().zip(&mapped.renaming.matched) {
        let _ = writeln!(text, "{matched:>6}  {} -> {}", rule.from, rule.to);
    }
    for (names, what) in [(&mapped.renaming.kept, "as they are"), (&mapped.renaming.ignored, "ignored")] {
        if !names.is_empty() {
            let _ = writeln!(text, "{:>6}  {what}", names.len());
        }
    }
    text
}
