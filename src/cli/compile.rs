//! `check`, `compile` and `dump`: what stops at a stage.

use super::args::{CheckArgs, CodeArgs, CompileArgs, DumpArgs, ModelArgs, Stage};
use super::{compiler, diagnostics_json, plain, print, print_json, report, usage};
use crate::codegen::object;
use crate::codegen::target::Options;
use crate::diag::Fault;
use crate::dim::Dim;
use crate::driver::{Error, Unit, read_source};
use crate::files::atomic::write_atomically;
use crate::graph::ir::Port;
use crate::graph::print::type_text;
use crate::loops::buffers;
use serde_json::json;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;

/// `mdlc check`
pub fn check(args: &CheckArgs) -> Result<ExitCode, Error> {
    let checked = compiler(&args.model).elaborate_file(&args.model.file).and_then(|mut unit| {
        unit.optimise(None)?;
        unit.lower().map(|_| unit)
    });
    match checked {
        Ok(unit) => {
            let warned = Error { diagnostics: unit.warnings(), sources: unit.sources };
            if args.json {
                return print_json(&diagnostics_json(&warned));
            }
            if !warned.diagnostics.is_empty() {
                report(&warned);
            }
            print(&format!("{}: no errors\n", unit.program.signature.name))
        }
        Err(error) if args.json => {
            print_json(&diagnostics_json(&error))?;
            Ok(ExitCode::from(error.exit_code()))
        }
        Err(error) => Err(error),
    }
}

/// `mdlc dump`
pub fn dump(args: &DumpArgs) -> Result<ExitCode, Error> {
    if let Some(pass) = &args.after
        && !crate::passes::PIPELINE.iter().any(|p| p.name == pass)
    {
        let names: Vec<&str> = crate::passes::PIPELINE.iter().map(|p| p.name).collect();
        usage(&format!("there is no pass `{pass}`; the passes are {}", names.join(", ")));
    }
    if args.emit == Stage::Mask {
        if args.after.is_some() {
            usage("--after shows a graph; a mask is drawn before all passes");
        }
        return print(&super::mask::mask(args)?);
    }
    if args.pattern.is_some() || args.tile.is_some() || !args.at.is_empty() || args.output.is_some() {
        usage("--pattern, --tile, --at and --output are for --emit mask");
    }
    print(&stage_text(&args.model, &args.code, args.emit, args.after.as_deref())?)
}

fn stage_text(args: &ModelArgs, code: &CodeArgs, stage: Stage, after: Option<&str>) -> Result<String, Error> {
    if stage == Stage::Ast {
        let text = read_source(&args.file)?;
        let mut sources = crate::source::SourceMap::new();
        let file = sources.add(args.file.to_string_lossy(), text.as_str());
        return match crate::syntax::parse(file, &text) {
            Ok(tree) => Ok(crate::syntax::print(&tree)),
            Err(diagnostics) => Err(Error { sources, diagnostics }),
        };
    }
    let mut unit = code.of(compiler(args)).elaborate_file(&args.file)?;
    let graph = |unit: &Unit, cost: bool| {
        crate::graph::print::print(&unit.program, &unit.sources, crate::graph::print::Options { cost })
    };
    if stage == Stage::Graph {
        if after.is_some() {
            unit.optimise(after)?;
        }
        return Ok(graph(&unit, false));
    }
    unit.optimise(after)?;
    if stage == Stage::Fused {
        return Ok(graph(&unit, true));
    }
    let loops = unit.lower()?;
    match stage {
        Stage::Loops => Ok(crate::loops::print::print(&loops, Some(&unit.sources))),
        Stage::Plan => {
            let plan = plan_of(&loops)?;
            Ok(buffers::print(&loops, &plan, None))
        }
        Stage::Asm => Ok(unit.generate(loops, true)?.kernels_text()),
        _ => {
            let compiled = unit.generate(loops, true)?;
            let texts = compiled.functions().iter().filter_map(|f| f.text.as_deref());
            Ok(texts.collect::<Vec<_>>().join("\n"))
        }
    }
}

fn plan_of(loops: &crate::loops::ir::LoopProgram) -> Result<buffers::Plan, Error> {
    buffers::plan(loops).map_err(|error| plain("limit", Fault::Limit, error.to_string()))
}

/// `mdlc compile`
pub fn compile(args: &CompileArgs) -> Result<ExitCode, Error> {
    if let Some(stage) = args.emit {
        if stage == Stage::Mask {
            usage("a mask is drawn by `mdlc dump --emit mask`");
        }
        return print(&stage_text(&args.model, &args.code, stage, None)?);
    }
    let mut unit = args.code.of(compiler(&args.model)).elaborate_file(&args.model.file)?;
    let cost = crate::graph::cost::program(&unit.program);
    unit.optimise(None)?;
    let loops = unit.lower()?;
    let plan = plan_of(&loops)?;
    let written = match &args.output {
        Some(path) => write_object(&loops, &plan, unit.options, path)?,
        None => Vec::new(),
    };
    let compiled = unit.generate(loops, false)?;
    let insts: usize = compiled.functions().iter().map(|f| f.stats.clif_insts).sum();
    let bytes: usize = compiled.functions().iter().map(|f| f.stats.code_bytes).sum();
    let signature = compiled.signature();
    let params: Vec<_> = signature.weights.iter().filter(|w| !w.buffer).collect();
    let count = params.iter().try_fold(Dim::ZERO, |sum, w| sum.add(&Dim::product(&w.ty.shape)?));
    let count = count.map_or_else(|e| e.to_string(), |d| d.to_string());
    let (flops, multiply_adds) = match cost {
        Ok(cost) => (cost.flops.to_string(), cost.multiply_adds.to_string()),
        Err(error) => (error.to_string(), error.to_string()),
    };
    let ports = |ports: &[Port]| -> Vec<(String, String)> {
        ports.iter().map(|p| (p.name.clone(), type_text(&p.ty))).collect()
    };
    let (inputs, outputs) = (ports(&signature.inputs), ports(&signature.outputs));
    if args.json {
        let times: serde_json::Map<String, serde_json::Value> = unit
            .times
            .iter()
            .map(|(stage, time)| ((*stage).to_string(), json!(time.as_secs_f64())))
            .collect();
        return print_json(&json!({
            "model": signature.name,
            "inputs": inputs.iter().map(|(n, t)| json!({ "name": n, "type": t })).collect::<Vec<_>>(),
            "outputs": outputs.iter().map(|(n, t)| json!({ "name": n, "type": t })).collect::<Vec<_>>(),
            "dims": signature.dims.iter().map(super::super::dim::Symbol::name).collect::<Vec<_>>(),
            "weights": signature.weights.len(),
            "parameters": count,
            "flops": flops,
            "multiply_adds": multiply_adds,
            "arena_bytes": plan.entry_bytes.to_string(),
            "functions": compiled.functions().len(),
            "clif_instructions": insts,
            "code_bytes": bytes,
            "seconds": times,
            "written": written,
        }));
    }
    let mut text = format!("{}\n", signature.name);
    for (what, ports) in [("input", &inputs), ("output", &outputs)] {
        for (name, ty) in ports {
            let _ = writeln!(text, "  {what:8}{name}: {ty}");
        }
    }
    if !signature.dims.is_empty() {
        let dims: Vec<&str> = signature.dims.iter().map(crate::dim::Symbol::name).collect();
        let _ = writeln!(text, "  free    {}", dims.join(", "));
    }
    if !signature.omitted.is_empty() {
        let _ = writeln!(text, "  left out {} (give with --with NAME)", signature.omitted.join(", "));
    }
    let _ = writeln!(text, "  parameters   {count} in {} tensors", params.len());
    let _ = writeln!(text, "  FLOPs        {flops}");
    let _ = writeln!(text, "  MACs         {multiply_adds}");
    let _ = writeln!(text, "  arena        {}", arena_text(&plan.entry_bytes));
    let functions = compiled.functions().len();
    let _ = writeln!(text, "  code         {bytes} bytes, {insts} CLIF instructions, {functions} functions");
    for (stage, time) in &unit.times {
        let _ = writeln!(text, "  {stage:12} {:.2} ms", time.as_secs_f64() * 1e3);
    }
    for path in &written {
        let _ = writeln!(text, "  wrote        {path}");
    }
    print(&text)
}

/// Writes code and header; names both.
fn write_object(
    loops: &crate::loops::ir::LoopProgram,
    plan: &buffers::Plan,
    options: Options,
    path: &Path,
) -> Result<Vec<String>, Error> {
    let stem = path.file_stem().map_or_else(|| "model".into(), |s| s.to_string_lossy().into_owned());
    let failed = |error: crate::codegen::error::CodeError| Error::plain(error.to_diagnostic());
    let object = object::compile(loops, plan, options, &stem);
    let object = object.map_err(failed)?;
    let bytes = match path.extension().and_then(|e| e.to_str()) {
        Some("o") => object.bytes.clone(),
        Some("a") => object.to_archive(),
        Some("so") => object.to_shared().map_err(failed)?,
        _ => usage("the output ends in .o, .a or .so"),
    };
    let header = path.with_extension("h");
    for (path, bytes) in [(path, &bytes), (&header, &object.header.clone().into_bytes())] {
        write_atomically(path, |out| out.write_all(bytes)).map_err(|error| {
            plain("unwritable", Fault::File, format!("cannot write `{}`: {error}", path.display()))
        })?;
    }
    Ok(vec![path.display().to_string(), header.display().to_string()])
}

/// Formulas of more characters say less than where to look.
const MAX_FORMULA_CHARS: usize = 120;

fn arena_text(bytes: &Dim) -> String {
    let formula = bytes.to_string();
    if formula.len() <= MAX_FORMULA_CHARS {
        return format!("{formula} bytes");
    }
    let symbols: Vec<String> = bytes.symbols().iter().map(|symbol| symbol.name().to_string()).collect();
    format!("depends on {}; --emit plan shows its slots, --dim fixes them", symbols.join(", "))
}
