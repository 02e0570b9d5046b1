//! The spread of values at initialisation, as a table and as JSON.

use super::Report;
use crate::analysis::plain_name;
use crate::analysis::text::{Align, Table};
use crate::analysis::variance::{Measured, Notes, Row, variances};
use crate::cli::args::AnalyzeArgs;
use crate::cli::data::draw_inputs;
use crate::cli::sizes::{Sizes, choices};
use crate::driver::{Error, Outline, Unit};
use crate::files::NamedTensors;
use crate::runtime::Weights;
use crate::tensor::Tensor;
use serde_json::json;
use std::fmt::Write as _;

/// The notes with the letters that stand for them.
const LETTERS: [(char, fn(&Notes) -> bool, &str); 4] = [
    ('n', |notes| notes.normal, "what a function is applied to counts as normal"),
    ('i', |notes| notes.independent, "factors that are uncorrelated count as independent"),
    ('s', |notes| notes.steps, "recurrent weights and biases count as independent of the state"),
    ('g', |notes| notes.gathered, "rows that are gathered count as different ones"),
];

/// The sizes that the numbers are for: the largest that are chosen, so that there is something to add up.
fn sizes(unit: &Unit) -> Option<Sizes> {
    choices(&Outline::of(&unit.program), &NamedTensors::new()).pop()
}

/// Runs of the reference evaluator on drawn weights and inputs.
fn measure(unit: &Unit, sizes: &Sizes, args: &AnalyzeArgs) -> Result<Option<Measured>, Error> {
    let Some(samples) = args.samples else { return Ok(None) };
    let signature = &unit.program.signature;
    let failed = |diagnostic| Error { sources: unit.sources.clone(), diagnostics: vec![diagnostic] };
    let mut measured = Measured::default();
    for seed in (0..u64::from(samples)).map(|k| args.seed.wrapping_add(k)) {
        let weights = Weights::initialised(seed);
        let weights = weights.ordered(signature).map_err(|e| failed(e.to_diagnostic()))?;
        let none = NamedTensors::new();
        let (inputs, _) = draw_inputs(signature, &none, &sizes.env, seed)?;
        let inputs: Vec<&Tensor> = signature.inputs.iter().map(|port| &*inputs[&port.name]).collect();
        let run = measured.run(&unit.program, &inputs, &weights, &sizes.env);
        run.map_err(|e| failed(e.to_diagnostic()))?;
    }
    Ok(Some(measured))
}

/// A number with four significant digits; nothing for what is not known.
fn number(x: f64) -> String {
    match x {
        x if x.is_nan() => String::new(),
        0.0 => "0".to_string(),
        x if x.abs() >= 1e5 || x.abs() < 1e-3 => format!("{x:.3e}"),
        x => {
            let digits = (3 - x.abs().log10().floor() as i32).clamp(0, 6);
            format!("{x:.*}", usize::try_from(digits).unwrap_or(0))
        }
    }
}

impl Report<'_> {
    pub(super) fn variance(&mut self, args: &AnalyzeArgs) -> Result<(), Error> {
        let program = &self.unit.program;
        let Some(sizes) = sizes(self.unit) else { return Ok(()) };
        let rows = variances(program, &sizes.env);
        let measured = measure(self.unit, &sizes, args)?;
        let chosen: Vec<String> =
            sizes.chosen.iter().map(|(symbol, size)| format!("{}={size}", symbol.name())).collect();
        let mut table = Table::new(&[
            ("value", Align::Left),
            ("at", Align::Left),
            ("mean", Align::Right),
            ("std", Align::Right),
            ("of input", Align::Right),
            ("measured", Align::Right),
            ("assumed", Align::Left),
            ("", Align::Left),
        ]);
        let mut list = Vec::new();
        let mut used = Notes::default();
        for row in rows.iter().filter(|row| self.shows(row.depth)) {
            let seen = measured.as_ref().and_then(|measured| measured.spread(&row.site));
            let letters: String = LETTERS
                .iter()
                .filter(|(_, holds, _)| holds(&row.notes))
                .map(|(letter, ..)| *letter)
                .collect();
            used = used.or(row.notes);
            let why = row.why.as_ref().map_or_else(String::new, |why| format!("not known: {why}"));
            let known = |text: String| if row.why.is_some() { String::new() } else { text };
            table.row([
                self.label(row),
                if row.output.is_some() { row.path.clone() } else { String::new() },
                number(if row.spread.mean.abs() < 1e-9 * row.spread.deviation {
                    0.0
                } else {
                    row.spread.mean
                }),
                number(row.spread.deviation),
                row.ratio.map_or_else(String::new, number),
                seen.map_or_else(String::new, |seen| number(seen.deviation)),
                known(letters.clone()),
                why,
            ]);
            let real = |x: f64| if x.is_nan() { json!(null) } else { json!(x) };
            list.push(json!({
                "module": plain_name(program, row.function),
                "path": row.path,
                "depth": row.depth,
                "name": row.name,
                "output": row.output,
                "mean": real(row.spread.mean),
                "std": real(row.spread.deviation),
                "ratio": row.ratio,
                "measured_mean": seen.map(|seen| real(seen.mean)),
                "measured_std": seen.map(|seen| real(seen.deviation)),
                "assumed": letters.chars().map(|c| LETTERS.iter().find(|(l, ..)| *l == c).map(|(.., text)| *text)).collect::<Vec<_>>(),
                "not_known": row.why,
            }));
        }
        let at = if chosen.is_empty() { String::new() } else { format!(", for {}", chosen.join(", ")) };
        let _ = write!(self.text, "\nspread at initialisation{at}\n{}", table.text(2));
        for (letter, holds, text) in &LETTERS {
            if holds(&used) {
                let _ = writeln!(self.text, "  {letter}: {text}");
            }
        }
        let chosen = sizes.chosen.iter().map(|(symbol, size)| (symbol.name().to_string(), json!(size)));
        self.json["variance"] = json!({
            "sizes": chosen.collect::<serde_json::Map<_, _>>(),
            "samples": args.samples,
            "values": list,
        });
        Ok(())
    }

    fn label(&self, row: &Row) -> String {
        let program = &self.unit.program;
        let indent = "  ".repeat(row.depth);
        match row.output {
            None => format!("{indent}  {}", row.name),
            Some(k) if row.depth == 0 => format!("  {}", program.signature.outputs[k].name),
            Some(k) => {
                let name = plain_name(program, row.function);
                let several = program.function(row.function).graph.results.len() > 1;
                if several { format!("{indent}{name} output {k}") } else { format!("{indent}{name}") }
            }
        }
    }
}
