//! Whether gradients of recurrences can last, as a table and as JSON.

use super::Report;
use crate::analysis::plain_name;
use crate::analysis::recurrence::{Criterion, Recurrence, Step, Verdict, judge, recurrences};
use crate::analysis::text::{Align, Table};
use crate::cli::args::AnalyzeArgs;
use crate::cli::data::read_weights;
use crate::cli::sizes::choices;
use crate::driver::{Error, Outline};
use crate::files::NamedTensors;
use crate::runtime::Weights;
use serde_json::{Value as Json, json};
use std::fmt::Write as _;

/// What is said of a recurrence, for people and for programs.
fn said(judged: Option<&Result<Criterion, String>>) -> (String, Option<&'static str>) {
    match judged {
        None => ("give --weights to judge it".into(), None),
        Some(Err(why)) => (format!("cannot be judged: {why}"), None),
        Some(Ok(criterion)) => match criterion.verdict {
            Verdict::Vanish => ("gradients vanish (below 1 is sufficient)".into(), Some("vanish")),
            Verdict::MayExplode => {
                ("gradients may explode (above 1 is necessary, not sufficient)".into(), Some("may explode"))
            }
            Verdict::Undecided => ("undecided".into(), Some("undecided")),
        },
    }
}

impl Report<'_> {
    pub(super) fn recurrences(&mut self, args: &AnalyzeArgs) -> Result<(), Error> {
        let unit = self.unit;
        let signature = &unit.program.signature;
        let Some(sizes) = choices(&Outline::of(&unit.program), &NamedTensors::new()).pop() else {
            return Ok(());
        };
        let failed = |diagnostic| Error { sources: unit.sources.clone(), diagnostics: vec![diagnostic] };
        let weights = match &args.weights {
            None => None,
            Some(path) => Some(Weights::from_tensors(read_weights(path, args.map.as_deref())?.0)),
        };
        let ordered = match &weights {
            None => None,
            Some(weights) => Some(weights.ordered(signature).map_err(|e| failed(e.to_diagnostic()))?),
        };
        let mut table = Table::new(&[
            ("state", Align::Left),
            ("module", Align::Left),
            ("at", Align::Left),
            ("", Align::Left),
            ("matrix", Align::Left),
            ("act", Align::Left),
            ("sigma", Align::Right),
            ("slope", Align::Right),
            ("product", Align::Right),
            ("verdict", Align::Left),
        ]);
        let mut list = Vec::new();
        for recurrence in recurrences(&unit.program, &sizes.env) {
            let judged = match (&recurrence.kind, &ordered) {
                (Step::Vanilla { matrix, slope, .. }, Some(weights)) => Some(judge(matrix, *slope, weights)),
                _ => None,
            };
            table.row(self.recurrence_cells(&recurrence, judged.as_ref()));
            list.push(self.recurrence_json(&recurrence, judged.as_ref()));
        }
        let none = if list.is_empty() { "  none\n" } else { "" };
        let _ = write!(
            self.text,
            "\nrecurrences\n{}{none}",
            if list.is_empty() { String::new() } else { table.text(2) }
        );
        self.json["recurrences"] = json!(list);
        Ok(())
    }

    fn recurrence_cells(&self, of: &Recurrence, judged: Option<&Result<Criterion, String>>) -> [String; 10] {
        let program = &self.unit.program;
        let direction = if of.reverse { "backwards" } else { "" };
        let (matrix, act, slope, verdict) = match &of.kind {
            Step::Vanilla { matrix, act, slope } => {
                let least = if slope.proven { "" } else { "at least " };
                let path = program.signature.weights[matrix.weight].path.clone();
                (path, act.clone(), format!("{least}{}", number(slope.greatest)), said(judged).0)
            }
            Step::Other(why) => {
                (String::new(), String::new(), String::new(), format!("the criterion does not apply: {why}"))
            }
        };
        let known = judged.and_then(|judged| judged.as_ref().ok());
        let of_known = |f: fn(&Criterion) -> f64| known.map_or_else(String::new, |c| number(f(c)));
        [
            of.states.join(", "),
            plain_name(program, of.function).to_string(),
            of.path.clone(),
            direction.to_string(),
            matrix,
            act,
            of_known(|c| c.sigma),
            slope,
            of_known(|c| c.product),
            verdict,
        ]
    }

    fn recurrence_json(&self, of: &Recurrence, judged: Option<&Result<Criterion, String>>) -> Json {
        let program = &self.unit.program;
        let mut row = json!({
            "states": of.states,
            "module": plain_name(program, of.function),
            "path": of.path,
            "reverse": of.reverse,
        });
        match &of.kind {
            Step::Vanilla { matrix, act, slope } => {
                row["matrix"] = json!(program.signature.weights[matrix.weight].path);
                row["act"] = json!(act);
                row["slope"] = json!(slope.greatest);
                row["slope_proven"] = json!(slope.proven);
                if let Some(Ok(criterion)) = judged {
                    row["sigma"] = json!(criterion.sigma);
                    row["product"] = json!(criterion.product);
                }
                row["verdict"] = json!(said(judged).1);
            }
            Step::Other(why) => row["does_not_apply"] = json!(why),
        }
        row
    }
}

/// A number with six digits behind the point, less the zeros at its end.
fn number(x: f64) -> String {
    let text = format!("{x:.6}");
    text.trim_end_matches('0').trim_end_matches('.').to_string()
}
