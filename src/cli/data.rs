//! Weights and inputs: read, renamed, drawn.

use super::{plain, warn};
use crate::diag::Fault;
use crate::driver::Error;
use crate::dtype::DType;
use crate::files::rename::{NameMap, Renaming};
use crate::files::{NamedTensors, read_tensors};
use crate::graph::ir::Signature;
use crate::ops::init::{Init, initialise};
use crate::tensor::Tensor;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;

/// The size that a dimension takes where inputs are drawn and nothing fixes it.
const DRAWN_SIZE: usize = 4;

/// What a map made of a weights file.
pub struct Mapped {
    /// The map.
    pub map: NameMap,
    /// The names.
    pub renaming: Renaming,
}

impl Mapped {
    /// In a few words.
    pub fn summary(&self) -> String {
        let (renamed, kept) = (self.renaming.matched.iter().sum::<usize>(), self.renaming.kept.len());
        let ignored = self.renaming.ignored.len();
        format!("{renamed} tensors renamed, {kept} as they are, {ignored} ignored")
    }

    /// Rules with the number of names that each matched, and the names that none did.
    pub fn json(&self) -> Value {
        let rules = self.map.rules().iter().zip(&self.renaming.matched);
        let rules =
            rules.map(|(rule, matched)| json!({ "from": rule.from, "to": rule.to, "matched": matched }));
        json!({
            "rules": rules.collect::<Vec<_>>(),
            "kept": self.renaming.kept,
            "ignored": self.renaming.ignored,
        })
    }
}

/// Renames tensors by the map of a file; warns of rules that match nothing.
pub fn rename(tensors: NamedTensors, map: &Path, inverse: bool) -> Result<(NamedTensors, Mapped), Error> {
    let map = NameMap::open(map)?;
    let names = tensors.keys().map(String::as_str);
    let renaming = if inverse { map.restore(names)? } else { map.rename(names)? };
    warn(map.sources(), &map.warnings(&renaming));
    Ok((renaming.apply(tensors), Mapped { map, renaming }))
}

/// Reads weights under the model's names.
pub fn read_weights(path: &Path, map: Option<&Path>) -> Result<(NamedTensors, Option<Mapped>), Error> {
    let tensors = read_tensors(path)?;
    match map {
        None => Ok((tensors, None)),
        Some(map) => rename(tensors, map, false).map(|(tensors, mapped)| (tensors, Some(mapped))),
    }
}

/// Reads `NAME=FILE` and `FILE` options.
pub fn read_inputs(options: &[String]) -> Result<NamedTensors, Error> {
    let mut inputs = NamedTensors::new();
    for option in options {
        let (name, path) = match option.split_once('=') {
            Some((name, path)) => (Some(name), path),
            None => (None, option.as_str()),
        };
        let tensors = read_tensors(Path::new(path))?;
        match name {
            Some(name) => {
                let count = tensors.len();
                let by_name = tensors.get(name).cloned();
                let only = tensors.into_values().next().filter(|_| count == 1);
                let tensor = by_name.or(only).ok_or_else(|| {
                    let title = format!("`{path}` holds {count} tensors and none is called `{name}`");
                    plain("missing-input", Fault::User, title)
                })?;
                inputs.insert(name.to_string(), tensor);
            }
            None => inputs.extend(tensors),
        }
    }
    Ok(inputs)
}

/// Draws the inputs that are not given: floats from a standard normal, integers and truths zero.
/// Returns what was drawn, in words.
pub fn draw_inputs(
    signature: &Signature,
    inputs: &mut NamedTensors,
    seed: u64,
) -> Result<Vec<String>, Error> {
    let mut sizes: BTreeMap<u32, usize> = BTreeMap::new();
    for port in &signature.inputs {
        let Some(tensor) = inputs.get(&port.name) else { continue };
        for (dim, size) in port.ty.shape.iter().zip(tensor.shape()) {
            if let Some(symbol) = dim.as_symbol() {
                sizes.insert(symbol.id(), *size);
            }
        }
    }
    let mut drawn = Vec::new();
    for port in &signature.inputs {
        if inputs.contains_key(&port.name) {
            continue;
        }
        let lookup = |s: &crate::dim::Symbol| Some(*sizes.get(&s.id()).unwrap_or(&DRAWN_SIZE) as i64);
        let shape = port.ty.shape.iter().map(|d| d.eval(&lookup).map(|n| n.max(0) as usize));
        let shape: Vec<usize> = shape
            .collect::<Result<_, _>>()
            .map_err(|e| plain("size", Fault::Limit, format!("the shape of `{}`: {e}", port.name)))?;
        let init = if port.ty.dtype.is_float() { Init::Normal(1.0) } else { Init::Fill(0.0) };
        let failed = |e: String| plain("limit", Fault::Limit, e);
        let tensor = match port.ty.dtype {
            DType::F32 | DType::F64 => initialise(&init, port.ty.dtype, &shape, &port.name, seed)
                .map_err(|e| failed(e.to_string()))?,
            dtype => Tensor::zeros(dtype, shape.clone()).map_err(|e| failed(e.to_string()))?,
        };
        drawn.push(format!("{} {} {shape:?}", port.name, port.ty.dtype));
        inputs.insert(port.name.clone(), tensor);
    }
    Ok(drawn)
}
