//! The report, as a table and as JSON.

use super::super::args::ProfileArgs;
use super::super::call::MadeUp;
use super::super::data::Mapped;
use super::Name;
use super::probe::Rates;
use crate::diag::counted;
use crate::loops::marks::{Work, module_of};
use crate::runtime::Recorder;
use serde_json::{Value as Json, json};
use std::fmt::Write as _;

/// Everything that is told.
pub struct Report<'a> {
    pub args: &'a ProfileArgs,
    pub model: &'a str,
    pub mapped: Option<&'a Mapped>,
    pub made_up: &'a MadeUp,
    pub threads: usize,
    pub rates: Rates,
    /// # Units
    /// Seconds of a call without marks, the median.
    pub seconds: f64,
    pub rows: Vec<Row>,
    pub recorder: &'a Recorder,
}

/// A kernel; all numbers are for one call of the model.
#[derive(Clone, Debug)]
pub struct Row {
    pub name: Name,
    pub instances: usize,
    pub runs: f64,
    pub seconds: f64,
    /// What it does; not known where the values of tensors decide.
    pub work: Option<Work>,
}

impl Row {
    /// Adds another instance of the same kernel.
    pub fn add(&mut self, other: Row) {
        // As of two weights, one in each module.
        let inside = |module: &str| format!("{module}.weight");
        self.name.module = module_of([inside(&self.name.module).as_str(), &inside(&other.name.module)]);
        self.instances += other.instances;
        self.runs += other.runs;
        self.seconds += other.seconds;
        self.work = self.work.zip(other.work).map(|(a, b)| a.plus(b));
    }

    /// The part of the time in which this machine could have done it, and what sets that limit.
    fn roofline(&self, rates: Rates) -> Option<(f64, &'static str)> {
        let work = self.work?;
        let (compute, memory) = (work.flops / rates.flops, work.size_bytes / rates.bytes);
        let limit = if compute >= memory { "compute" } else { "memory" };
        (self.seconds > 0.0).then(|| (compute.max(memory) / self.seconds, limit))
    }
}

impl Report<'_> {
    /// Seconds of a call with marks, on average.
    fn marked_seconds(&self) -> f64 {
        let (calls, nanoseconds) = self.recorder.calls();
        nanoseconds as f64 * 1e-9 / calls.max(1) as f64
    }

    fn in_rows(&self) -> f64 {
        self.rows.iter().map(|row| row.seconds).sum()
    }

    fn marks_per_call(&self) -> f64 {
        self.recorder.passed() as f64 / self.recorder.calls().0.max(1) as f64
    }

    pub fn text(&self) -> String {
        let mut text = self.heading();
        let (calls, marked) = (self.recorder.calls().0 as usize, self.marked_seconds());
        let _ = writeln!(
            text,
            "  call         {:.4} ms  ({:.4} ms with {:.0} marks, {}, {})",
            self.seconds * 1e3,
            marked * 1e3,
            self.marks_per_call(),
            counted(calls, "call", "calls"),
            counted(self.threads, "thread", "threads"),
        );
        let _ = writeln!(
            text,
            "  this machine {:.1} GFLOP/s, {:.1} GB/s, measured before by a product and by a sum",
            self.rates.flops / 1e9,
            self.rates.bytes / 1e9,
        );
        let _ = writeln!(text, "\n       time   share    runs  GFLOP/s     GB/s  roofline  kernel");
        let top = if self.args.top == 0 { self.rows.len() } else { self.args.top as usize };
        for row in self.rows.iter().take(top) {
            self.line(&mut text, row);
        }
        let rest = &self.rows[top.min(self.rows.len())..];
        let share = |seconds: f64| 100.0 * seconds / marked;
        if !rest.is_empty() {
            let seconds: f64 = rest.iter().map(|row| row.seconds).sum();
            let what = counted(rest.len(), "other kernel", "other kernels");
            let blank = " ".repeat(36);
            let _ = writeln!(text, "{:8.4} ms  {:5.1}%{blank}  {what}", seconds * 1e3, share(seconds));
        }
        let between = (marked - self.in_rows()).max(0.0);
        let blank = " ".repeat(36);
        let _ = writeln!(
            text,
            "{:8.4} ms  {:5.1}%{blank}  between kernels: calls, checks, marks",
            between * 1e3,
            share(between)
        );
        text
    }

    fn line(&self, text: &mut String, row: &Row) {
        let rate = |amount: fn(Work) -> f64| {
            row.work.map_or_else(|| "?".into(), |work| format!("{:.1}", amount(work) / row.seconds / 1e9))
        };
        let roofline = row
            .roofline(self.rates)
            .map_or_else(|| "?".to_string(), |(part, limit)| format!("{:.0}% {}", 100.0 * part, &limit[..1]));
        let Name { place, what, module, .. } = &row.name;
        let module = if module.is_empty() { String::new() } else { format!("  {module}") };
        let times = if row.instances > 1 { format!("  x{}", row.instances) } else { String::new() };
        let _ = writeln!(
            text,
            "{:8.4} ms  {:5.1}%  {:6}  {:>7}  {:>7}  {roofline:>8}  {place}  {what}{module}{times}",
            row.seconds * 1e3,
            100.0 * row.seconds / self.marked_seconds(),
            row.runs.round(),
            rate(|work| work.flops),
            rate(|work| work.size_bytes),
        );
    }

    pub fn json(&self) -> Json {
        let marked = self.marked_seconds();
        let row = |row: &Row| {
            let amount = |of: fn(Work) -> f64| row.work.map(of);
            let roofline = row.roofline(self.rates);
            json!({
                "place": row.name.place,
                "what": row.name.what,
                "module": row.name.module,
                "instances": row.instances,
                "runs": row.runs,
                "seconds": row.seconds,
                "share": row.seconds / marked,
                "flops": amount(|work| work.flops),
                "transcendentals": amount(|work| work.transcendentals),
                "bytes": amount(|work| work.size_bytes),
                "gflops_per_second": amount(|work| work.flops).map(|flops| flops / row.seconds / 1e9),
                "gigabytes_per_second": amount(|work| work.size_bytes).map(|bytes| bytes / row.seconds / 1e9),
                "roofline": roofline.map(|(part, _)| part),
                "limit": roofline.map(|(_, limit)| limit),
            })
        };
        json!({
            "model": self.model,
            "backend": self.args.call.code.name(),
            "threads": self.threads,
            "sizes": self.made_up.sizes_json(),
            "drawn": self.made_up.inputs,
            "calls": self.recorder.calls().0,
            "seconds": self.seconds,
            "seconds_with_marks": marked,
            "marks": self.marks_per_call(),
            "peak_flops_per_second": self.rates.flops,
            "peak_bytes_per_second": self.rates.bytes,
            "kernels": self.rows.iter().map(row).collect::<Vec<_>>(),
            "seconds_between_kernels": (marked - self.in_rows()).max(0.0),
        })
    }
}
