//! Tables of cases for `mdlc verify --cases`.
//!
//! A table is TOML. Each `[[case]]` names a folder beside the table that holds
//! `weights.safetensors`, `inputs.safetensors`, `outputs.safetensors` and optionally `case.json`
//! with the tolerance of each output, and says which model computes it and how names differ.

use super::compare::Tolerance;
use super::{Error, read_source};
use crate::diag::Diagnostic;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// A whole table.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Table {
    /// The cases, in order.
    #[serde(default, rename = "case")]
    pub cases: Vec<Case>,
}

/// One case.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    /// The case, and the folder of its files unless `folder` says otherwise.
    pub name: String,
    /// The folder of its files, relative to the table.
    pub folder: Option<PathBuf>,
    /// The `.mdl` file, relative to the folder that holds `models` (the working directory).
    pub file: PathBuf,
    /// The model or module.
    pub model: Option<String>,
    /// Static arguments.
    #[serde(default)]
    pub args: BTreeMap<String, toml::Value>,
    /// Fixed dimensions.
    #[serde(default)]
    pub dims: BTreeMap<String, i64>,
    /// The calls that together produce every expected tensor; one call of `forward` by default.
    #[serde(default, rename = "call")]
    pub calls: Vec<Call>,
}

/// One call of a case.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Call {
    /// The entry; `forward` by default.
    pub entry: Option<String>,
    /// Input name to tensor name, where they differ.
    #[serde(default)]
    pub inputs: BTreeMap<String, String>,
    /// Output name to tensor name, where they differ.
    #[serde(default)]
    pub outputs: BTreeMap<String, String>,
    /// Static arguments of the entry.
    #[serde(default)]
    pub set: BTreeMap<String, toml::Value>,
}

/// What `case.json` says of tolerances; the rest of it is for people.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct CaseFile {
    /// Per expected tensor.
    #[serde(default)]
    pub outputs: BTreeMap<String, ExpectedOutput>,
}

/// How one output is compared.
#[derive(Clone, Debug, Deserialize)]
pub struct ExpectedOutput {
    /// Relative tolerance.
    pub rtol: Option<f64>,
    /// Absolute tolerance.
    pub atol: Option<f64>,
}

impl CaseFile {
    /// Reads a `case.json`.
    ///
    /// # Errors
    /// A file that cannot be read, or that is not of this form.
    pub fn read(path: &Path) -> Result<CaseFile, Error> {
        serde_json::from_str(&read_source(path)?).map_err(|error| {
            Error::plain(Diagnostic::error("bad-case", format!("`{}`: {error}", path.display())))
        })
    }

    /// Tolerances by expected tensor; what is not said is zero.
    pub fn tolerances(&self) -> BTreeMap<String, Tolerance> {
        let of = |output: &ExpectedOutput| Tolerance {
            rtol: output.rtol.unwrap_or(0.0),
            atol: output.atol.unwrap_or(0.0),
        };
        self.outputs.iter().map(|(name, output)| (name.clone(), of(output))).collect()
    }
}

impl Case {
    /// The folder of the case's files for a table in `base`.
    pub fn folder(&self, base: &Path) -> PathBuf {
        base.join(self.folder.clone().unwrap_or_else(|| PathBuf::from(&self.name)))
    }

    /// The calls, at least one.
    pub fn calls(&self) -> Vec<Call> {
        if self.calls.is_empty() { vec![Call::default()] } else { self.calls.clone() }
    }
}

/// A TOML value as a static expression of the language.
///
/// # Errors
/// Dates, and tables, have no counterpart.
pub fn expression(value: &toml::Value) -> Result<String, String> {
    Ok(match value {
        toml::Value::Integer(value) => value.to_string(),
        toml::Value::Boolean(value) => value.to_string(),
        toml::Value::Float(value) => float(*value),
        toml::Value::String(text) => format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"")),
        toml::Value::Array(items) => {
            let items: Result<Vec<String>, String> = items.iter().map(expression).collect();
            format!("[{}]", items?.join(", "))
        }
        other => return Err(format!("`{other}` cannot be a static argument")),
    })
}

fn float(value: f64) -> String {
    let text = format!("{value:?}");
    if text.contains(['.', 'e']) { text } else { format!("{text}.0") }
}
