//! `mdlc profile`: where the time of a call goes.
//!
//! The model is compiled twice, without marks and with them. The calls of the first say how long a call
//! takes; those of the second, how that time is shared, and what the marks themselves cost.

mod probe;
mod table;
mod trace;

use super::args::ProfileArgs;
use super::call::{Loaded, MadeUp, Suited, at, load};
use super::{plain, print, print_json};
use crate::diag::Fault;
use crate::dim::Symbol;
use crate::driver::{Error, Start, Unit};
use crate::files::atomic::write_atomically;
use crate::loops::ir::{LoopProgram, MarkId};
use crate::loops::marks::{self, Mark, Owners, module_of};
use crate::runtime::{Model, Node, Recorder, Threads, Weights};
use crate::tensor::TensorView;
use indicatif::ProgressBar;
use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};
use table::{Report, Row};

/// The share of the time that is spent on calls without marks.
const PLAIN: f64 = 0.3;
/// Calls that are timed at least, of each kind.
const MIN_RUNS: usize = 3;
/// Calls that are timed at most, of each kind.
const MAX_RUNS: usize = 10_000;
/// Turns of the sign of life.
const TICK: Duration = Duration::from_millis(120);

/// Compiles, binds, calls with marks, and says what took how long.
pub fn profile(args: &ProfileArgs) -> Result<ExitCode, Error> {
    let progress = ProgressBar::new_spinner();
    progress.enable_steady_tick(TICK);
    progress.set_message("compiling");
    let Loaded { start, weights, mapped, choices, .. } = load(&args.call, None)?;
    let Start::Graph(mut unit) = start else {
        return Err(plain("no-graph", Fault::Internal, "a profile wants a graph"));
    };
    let threads = args.call.threads.start()?;
    unit.optimise(None)?;
    let unmarked = unit.lower()?;
    let mut marked = unmarked.clone();
    let table = marks::mark(&mut marked);
    let model = bound(&mut unit, unmarked, &weights, &threads)?;
    progress.set_message("measuring what this machine can do");
    let rates = probe::rates(&args.call.code, &threads)?;
    progress.set_message("calling");
    let suited = choices
        .first_that_suits(&unit.sources, model.signature(), &|inputs| super::call::call(&model, inputs))?;
    let Suited { inputs, env, made_up, .. } = suited;
    let ports = unit.program.signature.inputs.clone();
    let views: Vec<(&str, TensorView<'_>)> =
        ports.iter().map(|port| (port.name.as_str(), inputs[&port.name].view())).collect();
    let limit = |part: f64| Limit { seconds: args.seconds * part, runs: args.runs };
    let mut call =
        || model.call(views.iter().copied()).map(drop).map_err(|e| at(&unit.sources, e.to_diagnostic()));
    let seconds = median(limit(PLAIN).times(&mut call)?);
    // Two blobs of weights would be one too many.
    drop(model);
    progress.set_message("compiling with marks");
    let model = bound(&mut unit, marked.clone(), &weights, &threads)?;
    drop(weights);
    progress.set_message("calling with marks");
    let limit = limit(1.0 - PLAIN);
    let (recorder, traced) = recorded(&model, &views, &unit, limit, args.trace.is_some())?;
    progress.set_message("summing up");
    let dims = |symbol: &Symbol| env.get(symbol);
    let nodes = Nodes { program: &marked, marks: &table, dims: &dims, unit: &unit };
    let report = Report {
        args,
        model: &unit.program.signature.name,
        mapped: mapped.as_ref(),
        made_up: &made_up,
        threads: threads.count(),
        rates,
        seconds,
        rows: nodes.rows(&recorder, args.merge),
        recorder: &recorder,
    };
    if let (Some(path), Some(traced)) = (&args.trace, &traced) {
        write_trace(path, &trace::text(traced, &nodes.names(&traced.nodes()), report.model))?;
    }
    progress.finish_and_clear();
    if args.json { print_json(&report.json()) } else { print(&report.text()) }
}

fn write_trace(path: &Path, text: &str) -> Result<(), Error> {
    write_atomically(path, |out| out.write_all(text.as_bytes())).map_err(|error| {
        plain("unwritable", Fault::File, format!("cannot write `{}`: {error}", path.display()))
    })
}

fn bound(unit: &mut Unit, loops: LoopProgram, weights: &Weights, threads: &Threads) -> Result<Model, Error> {
    let compiled = unit.generate(loops, false)?.with_threads(threads);
    compiled.bind(weights).map_err(|error| at(&unit.sources, error.to_diagnostic()))
}

/// How long to call.
#[derive(Clone, Copy)]
struct Limit {
    seconds: f64,
    runs: Option<u32>,
}

impl Limit {
    /// Seconds of calls in a row, after one that warms up.
    fn times(self, call: &mut dyn FnMut() -> Result<(), Error>) -> Result<Vec<f64>, Error> {
        call()?;
        let (started, mut seconds) = (Instant::now(), Vec::new());
        let goes_on = |done: usize| match self.runs {
            Some(runs) => done < runs as usize,
            None => done < MIN_RUNS || (started.elapsed().as_secs_f64() < self.seconds && done < MAX_RUNS),
        };
        while goes_on(seconds.len()) {
            let started = Instant::now();
            call()?;
            seconds.push(started.elapsed().as_secs_f64());
        }
        Ok(seconds)
    }
}

fn median(mut seconds: Vec<f64>) -> f64 {
    seconds.sort_by(f64::total_cmp);
    seconds.get(seconds.len() / 2).copied().unwrap_or(f64::NAN)
}

/// What calls with marks leave; and one more call with its spans, where they are wanted.
fn recorded(
    model: &Model,
    views: &[(&str, TensorView<'_>)],
    unit: &Unit,
    limit: Limit,
    spans: bool,
) -> Result<(Recorder, Option<Recorder>), Error> {
    let one = |recorder: &mut Recorder| {
        let outputs = model.call_recorded(views.iter().copied(), recorder);
        outputs.map(drop).map_err(|error| at(&unit.sources, error.to_diagnostic()))
    };
    let (mut recorder, mut warm) = (Recorder::new(), false);
    limit.times(&mut || {
        if !std::mem::replace(&mut warm, true) {
            return one(&mut Recorder::new());
        }
        one(&mut recorder)
    })?;
    let mut traced = None;
    if spans {
        let mut last = Recorder::new();
        last.keep_spans(true);
        one(&mut last)?;
        traced = Some(last);
    }
    Ok((recorder, traced))
}

/// What the nodes of a recorder stand for.
struct Nodes<'a> {
    program: &'a LoopProgram,
    marks: &'a [Mark],
    dims: &'a dyn Fn(&Symbol) -> Option<i64>,
    unit: &'a Unit,
}

/// The name of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Name {
    /// `file:line`.
    place: String,
    what: String,
    /// The instance of a module whose weights it reads; empty if there is none.
    module: String,
    is_call: bool,
}

impl Nodes<'_> {
    fn names(&self, nodes: &[Node]) -> Vec<Name> {
        let (owners, whats) = (Owners::new(self.program), marks::describe(self.program, self.dims));
        let weights = &self.program.signature.weights;
        let mut paths: Vec<Vec<MarkId>> = Vec::with_capacity(nodes.len());
        let mut names = Vec::with_capacity(nodes.len());
        for node in nodes {
            let mut path = node.parent.map_or_else(Vec::new, |parent| paths[parent].clone());
            path.push(node.mark);
            let (number, mark) = (node.mark.0 as usize, &self.marks[node.mark.0 as usize]);
            names.push(Name {
                place: self.unit.sources.place(mark.span),
                what: whats[number].clone(),
                module: module_of(owners.weights(&path).iter().map(|k| weights[*k].path.as_str())),
                is_call: mark.callee.is_some(),
            });
            paths.push(path);
        }
        names
    }

    /// A row for each kernel, the slowest first; or for each mark, whatever instance it runs for.
    fn rows(&self, recorder: &Recorder, merge: bool) -> Vec<Row> {
        let nodes = recorder.nodes();
        let names = self.names(&nodes);
        let work = marks::work(self.program, self.marks.len(), self.dims);
        let calls = recorder.calls().0.max(1) as f64;
        let mut rows: Vec<(MarkId, Row)> = Vec::new();
        for (node, name) in nodes.iter().zip(names).filter(|(_, name)| !name.is_call) {
            let entered = node.parent.map_or(calls, |parent| nodes[parent].runs as f64);
            let work = work[node.mark.0 as usize].map(|work| work.times(entered / calls));
            let (runs, seconds) = (node.runs as f64 / calls, node.nanoseconds as f64 * 1e-9 / calls);
            let row = Row { name, instances: 1, runs, seconds, work };
            match rows.iter_mut().find(|(mark, _)| merge && *mark == node.mark) {
                Some((_, sum)) => sum.add(row),
                None => rows.push((node.mark, row)),
            }
        }
        let mut rows: Vec<Row> = rows.into_iter().map(|(_, row)| row).collect();
        rows.sort_by(|a, b| b.seconds.total_cmp(&a.seconds));
        rows
    }
}

impl Report<'_> {
    /// Who was called with what, as `run` and `bench` say it.
    fn heading(&self) -> String {
        let made_up: &MadeUp = self.made_up;
        super::call::heading(self.model, &self.args.call.data, self.mapped, made_up)
    }
}
