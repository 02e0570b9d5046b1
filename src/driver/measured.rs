//! Measured tables against the analysis: lengths and fields that others measured, row by row.
//!
//! Every row of every table must be compared by some entry of the case, and every column must be
//! used: as an argument, a size, something expected, or a label. A model is elaborated once for
//! equal static arguments, with its dimensions free; a row evaluates the formulas.

use super::compare::Comparison;
use super::table::{CaseFile, Column, Expectation, MeasuredTable, Quantity, expression};
use super::{Compiler, Error};
use crate::analysis::field::{AxisField, fields};
use crate::diag::{Diagnostic, Fault};
use crate::graph::dims::{DimEnv, bind_dims};
use crate::graph::ir::{Port, Program};
use serde_json::{Map, Value as Json};
use std::collections::{BTreeMap, BTreeSet};

/// A row by the names of its columns.
type Row = Map<String, Json>;

/// Compares all rows; one comparison for each entry, which fails with the first rows that differ.
///
/// # Errors
/// Tables and columns that do not exist, rows and columns that nothing compares.
pub fn compare_tables(tables: &[MeasuredTable], measured: &CaseFile) -> Result<Vec<Comparison>, Error> {
    let measured = measured.measured();
    if let Some(absent) = tables.iter().find(|t| measured.iter().all(|(name, _)| *name != t.name.as_deref()))
    {
        return Err(wrong(format!("the case has no table `{}`", absent.name.as_deref().unwrap_or("table"))));
    }
    let mut comparisons = Vec::new();
    for (name, rows) in &measured {
        let entries: Vec<&MeasuredTable> = tables.iter().filter(|t| t.name.as_deref() == *name).collect();
        let title = name.unwrap_or("table");
        let mut left: BTreeSet<usize> = (0..rows.len()).collect();
        for entry in entries {
            let chosen: Vec<usize> = (0..rows.len()).filter(|k| is_chosen(entry, &rows[*k])).collect();
            left.retain(|k| !chosen.contains(k));
            if let Some(unused) = chosen.iter().find_map(|k| unused_column(entry, &rows[*k])) {
                return Err(wrong(format!("nothing uses the column `{unused}` of `{title}`")));
            }
            comparisons.push(compare_rows(entry, title, chosen.iter().map(|k| &rows[*k]))?);
        }
        if let Some(row) = left.first() {
            return Err(wrong(format!("nothing compares row {row} of `{title}`")));
        }
    }
    Ok(comparisons)
}

fn is_chosen(entry: &MeasuredTable, row: &Row) -> bool {
    let same = |(column, value): (&String, &toml::Value)| {
        row.get(column).is_some_and(|found| serde_json::to_value(value).is_ok_and(|value| value == *found))
    };
    entry.rows.iter().all(same)
}

fn unused_column<'a>(entry: &MeasuredTable, row: &'a Row) -> Option<&'a String> {
    let used = |name: &String| {
        entry.rows.contains_key(name)
            || entry.labels.contains(name)
            || entry.columns.values().any(|column| column.name() == name)
            || entry.dims.values().any(|size| size.as_str() == Some(name))
            || entry.expect.iter().any(|e| e.column == *name)
    };
    row.keys().find(|name| !used(name))
}

/// What a model says for one set of static arguments: nothing where it is refused.
struct Said {
    program: Program,
    fields: Vec<AxisField>,
}

fn compare_rows<'a>(
    entry: &MeasuredTable,
    title: &str,
    rows: impl Iterator<Item = &'a Row>,
) -> Result<Comparison, Error> {
    let mut known: BTreeMap<Vec<(String, String)>, Result<Said, Error>> = BTreeMap::new();
    let mut differences = Vec::new();
    let mut count = 0usize;
    for row in rows {
        count += 1;
        let arguments = arguments(entry, row)?;
        let said = known.entry(arguments).or_insert_with_key(|arguments| {
            let unit = compiler(entry, arguments).elaborate_file(&entry.file)?;
            let fields = fields(&unit.program);
            Ok(Said { program: unit.program, fields })
        });
        let found = match said {
            Ok(said) => values(entry, said, row)?,
            // A model that cannot be built at all refuses its rows; what is wrong with it shows.
            Err(error) if error.exit_code() == 1 => Err(error.to_string()),
            Err(error) => return Err(wrong(error.to_string())),
        };
        for (k, expected) in entry.expect.iter().enumerate() {
            let want = row.get(&expected.column).filter(|value| !value.is_null()).and_then(Json::as_i64);
            let got = found.as_ref().map(|values| values[k]).map_err(String::as_str);
            if want != got.ok() {
                differences.push(difference(expected, want, got, row));
            }
        }
    }
    if count == 0 {
        return Err(wrong(format!("`{title}` has no row that the entry chooses")));
    }
    let shown = differences.iter().take(3).cloned().collect::<Vec<_>>().join("; ");
    let failure = (!differences.is_empty()).then(|| format!("{} differ: {shown}", differences.len()));
    Ok(Comparison {
        output: format!("{title}, {count} rows"),
        backend: "analysis",
        tolerances: if failure.is_some() { f64::INFINITY } else { 0.0 },
        ulps: None,
        failure,
    })
}

fn difference(expected: &Expectation, want: Option<i64>, got: Result<i64, &str>, row: &Row) -> String {
    let want = want.map_or_else(|| "is to be refused".to_string(), |want| format!("is to be {want}"));
    let got = got.map_or_else(|why| format!("is refused: {why}"), |got| format!("is {got}"));
    format!("{:?} of {} {got}, {want}, in {}", expected.what, expected.output, Json::Object(row.clone()))
}

fn compiler(entry: &MeasuredTable, arguments: &[(String, String)]) -> Compiler {
    let mut compiler = Compiler::new();
    if let Some(model) = &entry.model {
        compiler = compiler.model(model);
    }
    if let Some(name) = &entry.entry {
        compiler = compiler.entry(name);
    }
    arguments.iter().fold(compiler, |compiler, (name, value)| compiler.set(name, value))
}

/// The static arguments of a row, as expressions.
fn arguments(entry: &MeasuredTable, row: &Row) -> Result<Vec<(String, String)>, Error> {
    let fixed = entry.args.iter().map(|(name, value)| Ok((name.clone(), expression(value).map_err(wrong)?)));
    let own = entry.columns.iter().map(|(name, column)| {
        let value = cell(row, column.name())?;
        let text = match column {
            Column::Plain(_) => static_text(value),
            Column::Records { fields, .. } => records_text(value, fields),
        };
        let text = text.ok_or_else(|| wrong(format!("`{value}` cannot be a static argument")))?;
        Ok((name.clone(), text))
    });
    fixed.chain(own).collect()
}

fn cell<'a>(row: &'a Row, column: &str) -> Result<&'a Json, Error> {
    row.get(column).ok_or_else(|| wrong(format!("there is no column `{column}`")))
}

fn static_text(value: &Json) -> Option<String> {
    match value {
        Json::Bool(_) | Json::Number(_) | Json::String(_) => Some(value.to_string()),
        Json::Array(items) => {
            let items: Option<Vec<String>> = items.iter().map(static_text).collect();
            Some(format!("[{}]", items?.join(", ")))
        }
        Json::Null | Json::Object(_) => None,
    }
}

fn records_text(value: &Json, fields: &[String]) -> Option<String> {
    let tuple = |record: &Json| {
        let parts: Option<Vec<String>> = fields.iter().map(|name| static_text(record.get(name)?)).collect();
        Some(format!("({})", parts?.join(", ")))
    };
    let tuples: Option<Vec<String>> = value.as_array()?.iter().map(tuple).collect();
    Some(format!("[{}]", tuples?.join(", ")))
}

/// What is expected of a row, in order; or why its sizes are refused.
fn values(entry: &MeasuredTable, said: &Said, row: &Row) -> Result<Result<Vec<i64>, String>, Error> {
    let signature = &said.program.signature;
    let mut env = DimEnv::new();
    for (name, size) in &entry.dims {
        let size = match size {
            toml::Value::Integer(size) => *size,
            toml::Value::String(column) => {
                cell(row, column)?.as_i64().ok_or_else(|| wrong(format!("`{column}` holds no size")))?
            }
            other => return Err(wrong(format!("`{other}` is neither a size nor a column"))),
        };
        let symbol = signature.dims.iter().find(|symbol| symbol.name() == name);
        env.set(symbol.ok_or_else(|| wrong(format!("`{name}` is no free dimension")))?.clone(), size);
    }
    let formula = |e: crate::dim::DimError| wrong(e.to_string());
    let shapes = signature.inputs.iter().map(|port| env.shape(&port.ty.shape));
    let shapes: Vec<Vec<usize>> = shapes.collect::<Result<_, _>>().map_err(formula)?;
    let shapes: Vec<&[usize]> = shapes.iter().map(Vec::as_slice).collect();
    if let Err(error) = bind_dims(signature, &said.program.checks, &shapes) {
        return Ok(Err(error.to_string()));
    }
    let mut values = Vec::new();
    for expected in &entry.expect {
        values.push(value(expected, said, &env)?);
    }
    Ok(Ok(values))
}

fn value(expected: &Expectation, said: &Said, env: &DimEnv) -> Result<i64, Error> {
    let signature = &said.program.signature;
    let (output, axis) = axis_of(&signature.outputs, &expected.output)?;
    let formula = |e: crate::dim::DimError| wrong(e.to_string());
    if expected.what == Quantity::Length {
        return env.eval(&signature.outputs[output].ty.shape[axis]).map_err(formula);
    }
    let from = expected.input.as_deref().ok_or_else(|| wrong("a field is of an input".into()))?;
    let (input, input_axis) = axis_of(&signature.inputs, from)?;
    let mut fields =
        said.fields.iter().filter(|f| (f.output, f.input, f.axis) == (output, input, input_axis));
    let field =
        fields.next().ok_or_else(|| wrong(format!("`{}` does not depend on `{from}`", expected.output)))?;
    if fields.next().is_some() {
        return Err(wrong(format!("the field of `{}` is not the same everywhere", expected.output)));
    }
    let open = || wrong(format!("the field of `{}` is {}", expected.output, field.formula()));
    if field.drivers() != [axis] {
        return Err(wrong(format!("the field does not move with `{}` alone", expected.output)));
    }
    match expected.what {
        Quantity::Touched => field.touched().ok_or_else(open),
        _ => env.eval(&field.size().ok_or_else(open)?).map_err(formula),
    }
}

/// The port and axis that `name.axis` names.
fn axis_of(ports: &[Port], text: &str) -> Result<(usize, usize), Error> {
    let parts = text.rsplit_once('.').and_then(|(name, axis)| Some((name, axis.parse::<usize>().ok()?)));
    let found = parts.and_then(|(name, axis)| {
        let port = ports.iter().position(|port| port.name == name)?;
        (axis < ports[port].ty.shape.len()).then_some((port, axis))
    });
    found.ok_or_else(|| wrong(format!("`{text}` is no axis of the entry")))
}

fn wrong(title: String) -> Error {
    Error::plain(Diagnostic::error("bad-table", title).fault(Fault::User))
}
