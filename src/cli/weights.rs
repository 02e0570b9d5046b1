//! `mdlc weights`

use super::args::WeightsArgs;
use super::{compiler, print, print_json};
use crate::driver::Error;
use crate::files::read_tensors;
use crate::graph::print::type_text;
use crate::runtime::Weights;
use serde_json::json;
use std::fmt::Write as _;
use std::process::ExitCode;

/// Lists weights, or compares them with a file.
pub fn weights(args: &WeightsArgs) -> Result<ExitCode, Error> {
    let mut unit = compiler(&args.model).elaborate_file(&args.model.file)?;
    if let Some(path) = &args.weights {
        let tensors = read_tensors(path).map_err(|e| Error::plain(e.to_diagnostic()))?;
        let count = tensors.len();
        unit.optimise(None)?;
        let loops = unit.lower()?;
        let sources = unit.sources.clone();
        let compiled = unit.generate(loops, false)?;
        if let Err(error) = compiled.bind(&Weights::from_tensors(tensors)) {
            return Err(Error { sources, diagnostics: vec![error.to_diagnostic()] });
        }
        if args.json {
            return print_json(&json!({ "fits": true, "tensors": count }));
        }
        return print(&format!("all {count} tensors of `{}` fit\n", path.display()));
    }
    let weights = &unit.program.signature.weights;
    if args.json {
        let one = |w: &crate::graph::ir::Weight| json!({ "name": w.path, "aliases": w.aliases, "type": type_text(&w.ty), "buffer": w.buffer });
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
