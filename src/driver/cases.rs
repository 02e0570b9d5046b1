//! Verification: models against tensors that others computed.
//!
//! A case passes if its calls together produce every expected tensor, within its tolerance, by
//! each back end asked for. The reference evaluator runs on the graph before any pass, native
//! code on everything after. Measured tables are compared with what the analysis says, row by row.

use super::compare::{Comparison, Tolerance, compare};
use super::measured::compare_tables;
use super::table::{Call, Case, CaseFile, MeasuredTable, expression};
use super::{Cache, Compiler, Error, Unit, reference};
use crate::codegen::target::Kernels;
use crate::codegen::vector::Isa;
use crate::diag::{Diagnostic, Fault};
use crate::files::{NamedTensors, read_tensors};
use crate::loops::ir::LoopProgram;
use crate::runtime::{Compiled, Threads, Weights};
use crate::tensor::{Tensor, TensorError};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// What computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// The reference evaluator, f64.
    Reference,
    /// Native code, with these kernels.
    Native(Kernels),
}

/// Everything that one verification needs.
#[derive(Debug)]
pub struct Check {
    /// The `.mdl` file.
    pub file: PathBuf,
    /// The model.
    pub model: Option<String>,
    /// Static arguments, as expressions.
    pub set: Vec<(String, String)>,
    /// Static arguments of every entry called, as expressions.
    pub arguments: Vec<(String, String)>,
    /// Fixed dimensions.
    pub dims: Vec<(String, i64)>,
    /// Calls.
    pub calls: Vec<Call>,
    /// Weights by name.
    pub weights: Weights,
    /// Inputs by name.
    pub inputs: NamedTensors,
    /// Expected outputs by name.
    pub expected: NamedTensors,
    /// Tolerance per expected tensor, and for all others.
    pub tolerances: BTreeMap<String, Tolerance>,
    /// The tolerance of outputs that have none of their own.
    pub default: Tolerance,
    /// How measured tables are compared.
    pub tables: Vec<MeasuredTable>,
    /// The measured tables.
    pub measured: CaseFile,
    /// What calls divide their work between.
    pub threads: Option<Threads>,
    /// Where native code is kept and looked for.
    pub cache: Option<Cache>,
}

/// One call of a check, ready to be made.
#[derive(Debug)]
pub struct Prepared {
    /// The program, before any pass.
    pub unit: Unit,
    /// The inputs in the order of the signature, each with the name of its tensor.
    pub inputs: Vec<(String, Tensor)>,
    /// The weights in the order of the signature.
    pub weights: Vec<Tensor>,
}

impl Check {
    /// The check of a case of a table in folder `base`.
    ///
    /// # Errors
    /// Files that cannot be read.
    pub fn of_case(case: &Case, base: &Path) -> Result<Check, Error> {
        let folder = case.folder(base);
        let read = |name: &str| Ok::<_, Error>(read_tensors(folder.join(name))?);
        let set = case.args.iter().map(|(name, value)| Ok((name.clone(), expression(value)?)));
        let set = set.collect::<Result<_, String>>().map_err(|e| user("bad-table", e))?;
        let about = folder.join("case.json");
        let file = if about.exists() { CaseFile::read(&about)? } else { CaseFile::default() };
        if case.file.is_none() && case.tables.is_empty() {
            return Err(user("bad-table", format!("`{}` names neither a file nor a table", case.name)));
        }
        let tensors = |name: &str| if case.file.is_some() { read(name) } else { Ok(NamedTensors::new()) };
        Ok(Check {
            file: case.file.clone().unwrap_or_default(),
            model: case.model.clone(),
            set,
            arguments: Vec::new(),
            dims: case.dims.iter().map(|(n, v)| (n.clone(), *v)).collect(),
            calls: case.calls(),
            weights: Weights::from_tensors(tensors("weights.safetensors")?),
            inputs: tensors("inputs.safetensors")?,
            expected: tensors("outputs.safetensors")?,
            tolerances: file.tolerances(),
            default: Tolerance { rtol: 1e-5, atol: 1e-6 },
            tables: case.tables.clone(),
            measured: file,
            threads: None,
            cache: None,
        })
    }

    /// The same check, whose native code is kept in `cache` and looked for there.
    #[must_use]
    pub fn with_cache(self, cache: Option<Cache>) -> Self {
        Check { cache, ..self }
    }

    /// The same check, whose calls divide their work between `threads`.
    #[must_use]
    pub fn with_threads(self, threads: &Threads) -> Self {
        Check { threads: Some(threads.clone()), ..self }
    }

    /// Runs all calls by all back ends.
    ///
    /// # Errors
    /// Whatever keeps a call from being made, and expected tensors that no call produces.
    pub fn run(&self, backends: &[Backend]) -> Result<Vec<Comparison>, Error> {
        let mut comparisons = Vec::new();
        let (mut produced, mut taken) = (BTreeSet::new(), BTreeSet::new());
        for call in &self.calls {
            comparisons.extend(self.run_call(call, backends, &mut produced, &mut taken)?);
        }
        if let Some(missing) = self.expected.keys().find(|name| !produced.contains(*name)) {
            return Err(user("not-produced", format!("no call produces the expected tensor `{missing}`")));
        }
        if let Some(unused) = self.inputs.keys().find(|name| !taken.contains(*name)) {
            return Err(user("not-taken", format!("no call takes the input `{unused}`")));
        }
        if !self.tables.is_empty() {
            comparisons.extend(compare_tables(&self.tables, &self.measured)?);
        }
        Ok(comparisons)
    }

    fn compiler(&self, call: &Call) -> Result<Compiler, Error> {
        let mut compiler = Compiler::new();
        if let Some(cache) = &self.cache {
            compiler = compiler.cache(cache.clone());
        }
        if let Some(model) = &self.model {
            compiler = compiler.model(model);
        }
        if let Some(entry) = &call.entry {
            compiler = compiler.entry(entry);
        }
        for (name, value) in &self.set {
            compiler = compiler.set(name, value);
        }
        for (name, value) in &self.arguments {
            compiler = compiler.argument(name, value);
        }
        for (name, value) in &call.set {
            compiler = compiler.argument(name, expression(value).map_err(|e| user("bad-table", e))?);
        }
        Ok(self.dims.iter().fold(compiler, |compiler, (name, value)| compiler.dim(name, *value)))
    }

    /// Elaborates what a call asks for and finds its inputs and weights.
    ///
    /// # Errors
    /// Whatever is wrong with the model, and tensors that are missing.
    pub fn prepare(&self, call: &Call) -> Result<Prepared, Error> {
        let tensor_of = |name: &str| call.inputs.get(name).map_or(name, String::as_str).to_string();
        // Tensors that the call takes under another name, then all others under their own.
        let renamed = call.inputs.iter().filter_map(|(name, of)| Some((name, self.inputs.get(of)?)));
        let own = self.inputs.iter().filter(|(name, _)| !call.inputs.contains_key(*name));
        let at_hand = renamed.chain(own);
        let compiler = at_hand.fold(self.compiler(call)?, |c, (name, t)| c.given(name, t.shape()));
        let unit = compiler.elaborate_file(&self.file)?;
        let mut inputs = Vec::new();
        for port in &unit.program.signature.inputs {
            let name = tensor_of(&port.name);
            let tensor = self.inputs.get(&name).ok_or_else(|| {
                user("missing-input", format!("the inputs hold no tensor `{name}` for `{}`", port.name))
            })?;
            inputs.push((name, copied(tensor)?));
        }
        let weights = self.weights.ordered(&unit.program.signature);
        let weights = weights.map_err(|e| with_sources(&unit.sources, e.to_diagnostic()))?;
        let weights = weights.iter().map(|tensor| copied(tensor)).collect::<Result<_, _>>()?;
        Ok(Prepared { unit, inputs, weights })
    }

    fn run_call(
        &self,
        call: &Call,
        backends: &[Backend],
        produced: &mut BTreeSet<String>,
        taken: &mut BTreeSet<String>,
    ) -> Result<Vec<Comparison>, Error> {
        let Prepared { mut unit, inputs, weights } = self.prepare(call)?;
        taken.extend(inputs.iter().map(|(name, _)| name.clone()));
        let inputs: Vec<Tensor> = inputs.into_iter().map(|(_, tensor)| tensor).collect();
        let mut results: Vec<(&'static str, Vec<Tensor>)> = Vec::new();
        if backends.contains(&Backend::Reference) {
            let outputs = reference(&unit.program, &inputs, &weights)
                .map_err(|diagnostic| with_sources(&unit.sources, *diagnostic))?;
            results.push(("reference", outputs));
        }
        let signature = unit.program.signature.clone();
        let native: Vec<Kernels> = backends.iter().filter_map(|backend| backend.kernels()).collect();
        let mut loops: Option<LoopProgram> = None;
        for kernels in native {
            let isa = kernels.isa().map_err(|e| Error::plain(e.to_diagnostic()))?;
            unit.options.kernels = kernels;
            let compiled = match (unit.cached(), &loops) {
                (Some(compiled), _) => compiled,
                (None, Some(loops)) => unit.generate_kept(loops.clone())?,
                (None, None) => {
                    unit.optimise(None)?;
                    let lowered = loops.insert(unit.lower()?).clone();
                    unit.generate_kept(lowered)?
                }
            };
            results.push((isa.map_or("clif", Isa::name), self.run_native(&unit, compiled, &inputs)?));
        }
        let mut comparisons = Vec::new();
        for (backend, outputs) in results {
            for (port, got) in signature.outputs.iter().zip(outputs) {
                let name = call.outputs.get(&port.name).unwrap_or(&port.name);
                let Some(want) = self.expected.get(name) else {
                    return Err(user("not-expected", format!("`{name}` is computed but not expected")));
                };
                produced.insert(name.clone());
                let allowed = self.tolerances.get(name).copied().unwrap_or(self.default);
                comparisons.push(compare(name, backend, &got, want, allowed));
            }
        }
        Ok(comparisons)
    }
}

impl Check {
    fn run_native(
        &self,
        unit: &Unit,
        mut compiled: Compiled,
        inputs: &[Tensor],
    ) -> Result<Vec<Tensor>, Error> {
        let sources = &unit.sources;
        if let Some(threads) = &self.threads {
            compiled = compiled.with_threads(threads);
        }
        let model = compiled.bind(&self.weights).map_err(|e| with_sources(sources, e.to_diagnostic()))?;
        let ports = &unit.program.signature.inputs;
        let named = ports.iter().zip(inputs).map(|(p, t)| (p.name.as_str(), t.view()));
        let outputs = model.call(named).map_err(|e| with_sources(sources, e.to_diagnostic()))?;
        Ok(outputs.into_tensors().into_values().collect())
    }
}

impl Backend {
    fn kernels(self) -> Option<Kernels> {
        match self {
            Backend::Reference => None,
            Backend::Native(kernels) => Some(kernels),
        }
    }
}

fn user(code: &'static str, title: impl Into<String>) -> Error {
    Error::plain(Diagnostic::error(code, title.into()).fault(Fault::User))
}

fn copied(tensor: &Tensor) -> Result<Tensor, Error> {
    let short = |e: TensorError| Diagnostic::error("out-of-memory", e.to_string()).fault(Fault::Limit);
    tensor.try_clone().map_err(|e| Error::plain(short(e)))
}

fn with_sources(sources: &crate::source::SourceMap, diagnostic: Diagnostic) -> Error {
    Error { sources: sources.clone(), diagnostics: vec![diagnostic] }
}
