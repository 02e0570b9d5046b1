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
    /// The `.mdl` file, relative to the folder that holds `models` (the working directory). Not needed
    /// where all that the case has to say is in measured tables.
    pub file: Option<PathBuf>,
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
    /// Measured tables that the analysis must agree with.
    #[serde(default, rename = "table")]
    pub tables: Vec<MeasuredTable>,
}

/// How a measured table of `case.json` is compared with what the analysis says of a model.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MeasuredTable {
    /// Its name among `tables`; left out for `table`.
    pub name: Option<String>,
    /// Only the rows that have these values.
    #[serde(default)]
    pub rows: BTreeMap<String, toml::Value>,
    /// The `.mdl` file.
    pub file: PathBuf,
    /// The model or module.
    pub model: Option<String>,
    /// The entry; `forward` by default.
    pub entry: Option<String>,
    /// Static arguments that are the same for all rows.
    #[serde(default)]
    pub args: BTreeMap<String, toml::Value>,
    /// Static arguments that a column holds.
    #[serde(default)]
    pub columns: BTreeMap<String, Column>,
    /// Sizes of free dimensions: a number, or the column that holds them.
    #[serde(default)]
    pub dims: BTreeMap<String, toml::Value>,
    /// What is compared. A row whose value is null is one that must be refused.
    pub expect: Vec<Expectation>,
    /// Columns that say nothing to compare: names, for people.
    #[serde(default)]
    pub labels: Vec<String>,
}

/// A column as a static argument.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub enum Column {
    /// Its value.
    Plain(String),
    /// A list of records, each as the tuple of these fields.
    Records {
        /// The column.
        column: String,
        /// Fields in the order of the tuple.
        fields: Vec<String>,
    },
}

/// A quantity of the analysis and the column it must equal.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expectation {
    /// What is compared.
    pub what: Quantity,
    /// Output and axis, `y.2`.
    pub output: String,
    /// Input and axis, of fields.
    pub input: Option<String>,
    /// The column.
    pub column: String,
}

/// What the analysis says of an axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Quantity {
    /// The output's length.
    Length,
    /// The span of its field.
    Size,
    /// How many positions of the field are touched.
    Touched,
}

impl Column {
    /// Its name.
    pub fn name(&self) -> &str {
        match self {
            Column::Plain(column) | Column::Records { column, .. } => column,
        }
    }
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

/// What `case.json` says of tolerances, and its measured tables; the rest of it is for people.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct CaseFile {
    /// Per expected tensor.
    #[serde(default)]
    pub outputs: BTreeMap<String, ExpectedOutput>,
    /// Measured tables by name.
    #[serde(default)]
    pub tables: BTreeMap<String, Measured>,
    /// A measured table as records.
    #[serde(default)]
    pub table: Vec<serde_json::Map<String, serde_json::Value>>,
}

/// A measured table.
#[derive(Clone, Debug, Deserialize)]
pub struct Measured {
    /// Names of the columns.
    pub columns: Vec<String>,
    /// Rows of as many values.
    pub rows: Vec<Vec<serde_json::Value>>,
}

impl CaseFile {
    /// The measured tables as records; the one without a name last.
    pub fn measured(&self) -> Vec<(Option<&str>, Vec<serde_json::Map<String, serde_json::Value>>)> {
        let record = |columns: &[String], row: &Vec<serde_json::Value>| {
            columns.iter().cloned().zip(row.iter().cloned()).collect()
        };
        let named = self.tables.iter().map(|(name, table)| {
            (Some(name.as_str()), table.rows.iter().map(|row| record(&table.columns, row)).collect())
        });
        let plain = (!self.table.is_empty()).then(|| (None, self.table.clone()));
        named.chain(plain).collect()
    }
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

    /// The calls, at least one where there is a file.
    pub fn calls(&self) -> Vec<Call> {
        if self.file.is_none() {
            Vec::new()
        } else if self.calls.is_empty() {
            vec![Call::default()]
        } else {
            self.calls.clone()
        }
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
