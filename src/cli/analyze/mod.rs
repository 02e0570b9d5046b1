//! `mdlc analyze`

mod recurrence;
mod variance;

use super::args::{AnalyzeArgs, Section};
use super::{compiler, print, print_json};
use crate::analysis::field::{AxisField, fields};
use crate::analysis::modules::{ModuleRow, modules};
use crate::analysis::text::{Align, SizeNames, Table};
use crate::analysis::{AnalysisError, plain_name};
use crate::dim::Symbol;
use crate::driver::{Error, Unit};
use crate::graph::print::type_text;
use serde_json::{Value as Json, json};
use std::fmt::Write as _;
use std::process::ExitCode;

/// Prints what can be said of a model without running it.
pub fn analyze(args: &AnalyzeArgs) -> Result<ExitCode, Error> {
    let wants = |section: Section| args.show.is_empty() || args.show.contains(&section);
    if args.samples.is_some() && !wants(Section::Variance) {
        super::usage("--samples measures what --show variance predicts");
    }
    if args.weights.is_some() && !wants(Section::Recurrences) {
        super::usage("--weights is what --show recurrences judges");
    }
    let unit = compiler(&args.model).elaborate_file(&args.model.file)?;
    let failed =
        |e: AnalysisError| Error { sources: unit.sources.clone(), diagnostics: vec![e.to_diagnostic()] };
    let mut report = Report { unit: &unit, depth: args.depth, text: String::new(), json: json!({}) };
    report.head();
    if wants(Section::Modules) {
        report.modules(&modules(&unit.program).map_err(failed)?);
    }
    if wants(Section::Fields) {
        report.fields(&fields(&unit.program));
    }
    if wants(Section::Variance) {
        report.variance(args)?;
    }
    if wants(Section::Recurrences) {
        report.recurrences(args)?;
    }
    if args.json { print_json(&report.json) } else { print(&report.text) }
}

/// Both forms of what is shown, as they grow.
struct Report<'a> {
    unit: &'a Unit,
    depth: Option<usize>,
    text: String,
    json: Json,
}

impl Report<'_> {
    fn head(&mut self) {
        let signature = &self.unit.program.signature;
        let dims: Vec<&str> = signature.dims.iter().map(Symbol::name).collect();
        let _ = writeln!(self.text, "{}", signature.name);
        for (what, ports) in [("input", &signature.inputs), ("output", &signature.outputs)] {
            for port in ports {
                let _ = writeln!(self.text, "  {what:7}{}: {}", port.name, type_text(&port.ty));
            }
        }
        if !dims.is_empty() {
            let _ = writeln!(self.text, "  free   {}", dims.join(", "));
        }
        let port = |p: &crate::graph::ir::Port| json!({ "name": p.name, "type": type_text(&p.ty) });
        self.json["model"] = json!(signature.name);
        self.json["dims"] = json!(dims);
        self.json["inputs"] = signature.inputs.iter().map(port).collect();
        self.json["outputs"] = signature.outputs.iter().map(port).collect();
    }

    /// Whether a row at this depth is wanted.
    fn shows(&self, depth: usize) -> bool {
        self.depth.is_none_or(|limit| depth <= limit)
    }

    fn modules(&mut self, rows: &[ModuleRow]) {
        let program = &self.unit.program;
        let mut table = Table::new(&[
            ("module", Align::Left),
            ("at", Align::Left),
            ("runs", Align::Right),
            ("outputs", Align::Left),
            ("parameters", Align::Right),
            ("FLOPs", Align::Right),
            ("transcendental", Align::Right),
            ("bytes", Align::Right),
        ]);
        let sizes = rows.iter().flat_map(|row| &row.outputs).flat_map(|ty| &ty.shape);
        let names = SizeNames::of(sizes);
        let mut list = Vec::new();
        for row in rows.iter().filter(|row| self.shows(row.depth)) {
            let outputs: Vec<String> = row.outputs.iter().map(type_text).collect();
            let name = plain_name(program, row.function);
            let amount =
                |d: &crate::dim::Dim| if d.is(0) { String::new() } else { names.shorten(&d.to_string()) };
            table.row([
                format!("{}{name}", "  ".repeat(row.depth)),
                row.path.clone(),
                if row.times.is(1) { String::new() } else { row.times.to_string() },
                names.shorten(&outputs.join(" ")),
                amount(&row.parameters),
                amount(&row.cost.flops),
                amount(&row.cost.transcendentals),
                amount(&row.cost.size_bytes),
            ]);
            list.push(json!({
                "module": name,
                "path": row.path,
                "depth": row.depth,
                "runs": row.times.to_string(),
                "outputs": outputs,
                "parameters": row.parameters.to_string(),
                "flops": row.cost.flops.to_string(),
                "transcendentals": row.cost.transcendentals.to_string(),
                "bytes": row.cost.size_bytes.to_string(),
            }));
        }
        let _ = write!(self.text, "\nmodules\n{}{}", table.text(2), names.legend(2));
        self.json["modules"] = json!(list);
    }
    fn fields(&mut self, all: &[AxisField]) {
        let signature = &self.unit.program.signature;
        let mut table = Table::new(&[
            ("output", Align::Left),
            ("input", Align::Left),
            ("size", Align::Right),
            ("jump", Align::Right),
            ("start", Align::Right),
            ("dilation", Align::Right),
            ("touched", Align::Right),
            ("positions", Align::Left),
            ("where", Align::Left),
            ("", Align::Left),
        ]);
        let mut list = Vec::new();
        for field in all {
            let (output, input) = (&signature.outputs[field.output], &signature.inputs[field.input]);
            let drivers = field.drivers();
            let axes: Vec<String> = drivers.iter().map(ToString::to_string).collect();
            let jumps: Vec<String> =
                drivers.iter().filter_map(|axis| field.jump(*axis)).map(|jump| jump.to_string()).collect();
            let size = field.sizes().map(|(least, most)| {
                if least == most { most.to_string() } else { format!("{least} to {most}") }
            });
            let start = field.start().map(|start| start.to_string()).filter(|_| !drivers.is_empty());
            let dilation = field.dilation().filter(|step| *step > 1);
            let touched = field.touched().filter(|n| field.size().is_some_and(|size| !size.is(*n)));
            let notes = field.notes();
            let remarks: Vec<&str> = [
                (notes.data, "data decide"),
                (notes.bound, "at most"),
                (notes.border, "folded at the borders"),
            ]
            .into_iter()
            .filter(|(holds, _)| *holds)
            .map(|(_, text)| text)
            .collect();
            let at = if axes.is_empty() { String::new() } else { format!("[{}]", axes.join(", ")) };
            table.row([
                format!("{}{at}", output.name),
                format!("{}[{}]", input.name, field.axis),
                size.clone().unwrap_or_default(),
                jumps.join(", "),
                start.clone().unwrap_or_default(),
                dilation.map_or_else(String::new, |step| step.to_string()),
                touched.map_or_else(String::new, |n| n.to_string()),
                field.formula(),
                field.place(),
                remarks.join(", "),
            ]);
            list.push(json!({
                "output": output.name,
                "output_axes": drivers,
                "input": input.name,
                "input_axis": field.axis,
                "size": size,
                "jump": jumps,
                "start": start,
                "dilation": field.dilation(),
                "touched": field.touched(),
                "positions": field.formula(),
                "where": field.place(),
                "remarks": remarks,
            }));
        }
        let _ =
            write!(self.text, "\nreceptive fields, for position p of the output's axis\n{}", table.text(2));
        self.json["fields"] = json!(list);
    }
}
