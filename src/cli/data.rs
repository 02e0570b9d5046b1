//! Weights and inputs: read, renamed, drawn.

use super::{plain, warn};
use crate::diag::Fault;
use crate::driver::Error;
use crate::files::rename::{NameMap, Renaming};
use crate::files::{NamedTensors, read_tensors};
use crate::graph::dims::DimEnv;
use crate::graph::ir::{Port, Signature};
use crate::ops::init::{Init, initialise};
use crate::tensor::{Data, Tensor, TensorError};
use indexmap::IndexMap;
use serde_json::{Value, json};
use std::borrow::Cow;
use std::path::Path;

/// All inputs of a call by name: those given, and those drawn.
pub type Inputs<'a> = IndexMap<String, Cow<'a, Tensor>>;

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
        // A path may hold `=`: a file of that very name wins.
        let (name, path) = match option.split_once('=').filter(|_| !Path::new(option).exists()) {
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

/// Draws the inputs that are not given. Also returns what was drawn, in words.
pub fn draw_inputs<'a>(
    signature: &Signature,
    given: &'a NamedTensors,
    sizes: &DimEnv,
    seed: u64,
) -> Result<(Inputs<'a>, Vec<String>), Error> {
    let mut inputs: Inputs<'a> = given.iter().map(|(name, t)| (name.clone(), Cow::Borrowed(t))).collect();
    let mut drawn = Vec::new();
    for port in &signature.inputs {
        if inputs.contains_key(&port.name) {
            continue;
        }
        let shape = sizes
            .shape(&port.ty.shape)
            .map_err(|e| plain("size", Fault::Limit, format!("the shape of `{}`: {e}", port.name)))?;
        drawn.push(format!("{} {} {shape:?}", port.name, port.ty.dtype));
        let failed = |e: TensorError| plain("limit", Fault::Limit, format!("`{}`: {e}", port.name));
        inputs.insert(port.name.clone(), Cow::Owned(draw(port, shape, seed).map_err(failed)?));
    }
    Ok((inputs, drawn))
}

/// Reals are standard normal, integers 0 and 1 by turns, truths all true, so that ids are in range and
/// masks hide nothing.
fn draw(port: &Port, shape: Vec<usize>, seed: u64) -> Result<Tensor, TensorError> {
    let dtype = port.ty.dtype;
    if dtype.is_float() {
        // Apart from the weights, which may have the same names.
        return initialise(&Init::Normal(1.0), dtype, &shape, &format!("input.{}", port.name), seed);
    }
    let (shape, mut data) = Tensor::zeros(dtype, shape)?.into_parts();
    match &mut data {
        Data::I64(values) => values.iter_mut().enumerate().for_each(|(k, v)| *v = (k % 2) as i64),
        Data::I32(values) => values.iter_mut().enumerate().for_each(|(k, v)| *v = (k % 2) as i32),
        Data::Bool(values) => values.fill(true),
        Data::F32(_) | Data::F64(_) => {}
    }
    Tensor::new(shape, data)
}
