//! `mdlc bench`: how long a model takes, alone.
//!
//! A round is calls in a row, after some that are not timed. One round is measured and
//! summed up; with `--on-request` a round is measured whenever the other side of standard input asks
//! for one, so that several engines can take turns without compiling again:
//!
//! ```text
//! mdlc   {"model": ..., "compile_seconds": ..., ...}      ready to be asked
//! other  go
//! mdlc   {"seconds": [0.00121, 0.00119, ...], "peak_bytes": 81264640}
//! ...
//! other  (end of input)
//! ```

use super::args::BenchArgs;
use super::call::{Bound, Loaded, MadeUp, Suited, at, bind, heading, load};
use super::data::Mapped;
use super::{plain, print, print_json};
use crate::diag::{Fault, counted};
use crate::dim::Dim;
use crate::driver::Error;
use crate::files::write_tensors;
use crate::graph::cost::Cost;
use crate::graph::dims::DimEnv;
use crate::runtime::Model;
use crate::source::SourceMap;
use crate::tensor::TensorView;
use serde_json::{Map, Value as Json, json};
use std::fmt::Write as _;
use std::io::BufRead;
use std::process::ExitCode;
use std::time::Instant;

/// The share of a round that warms up; a call that takes longer needs none.
const WARM_UP: f64 = 0.2;
/// Calls that warm up at most.
const MAX_WARM_UP: u32 = 20;
/// Calls that are timed, however long they take: of the one round, and of one of many.
const MIN_RUNS: (usize, usize) = (3, 1);
/// Calls that are timed at most, so that a round of a tiny model stays a short line.
const MAX_RUNS: usize = 10_000;

/// Compiles, binds, calls for a while, and says how long it took.
pub fn bench(args: &BenchArgs) -> Result<ExitCode, Error> {
    let loaded = load(&args.call, args.cache.open())?;
    let Loaded { mut start, outline, weights, mapped, choices, read_seconds } = loaded;
    let threads = args.call.threads.start()?;
    let bound = bind(&mut start, &weights, &threads)?;
    let sources = start.sources();
    drop(weights);
    let signature = bound.model.signature();
    let suited =
        choices.first_that_suits(sources, signature, &|inputs| super::call::call(&bound.model, inputs))?;
    let Suited { result, call_seconds, inputs, env, made_up } = suited;
    if let Some(path) = &args.output {
        write_tensors(path, result.iter().map(|(name, tensor)| (name, tensor.view())))?;
    }
    let views: Vec<(&str, TensorView<'_>)> =
        signature.inputs.iter().map(|port| (port.name.as_str(), inputs[&port.name].view())).collect();
    let round = Round { model: &bound.model, views: &views, args, first_call_seconds: call_seconds };
    let amounts = outline.cost.and_then(|cost| Amounts::of(&cost, &env));
    let ready = Ready {
        args,
        bound: &bound,
        mapped: mapped.as_ref(),
        made_up: &made_up,
        amounts,
        threads: threads.count(),
    };
    let ready = ready.json(read_seconds, call_seconds);
    if args.on_request {
        return round.on_request(&ready, sources);
    }
    let times = Times::of(round.measure(sources)?);
    if args.json {
        print_json(&merged(ready, times.json(amounts)))
    } else {
        let head = heading(&signature.name, &args.call.data, mapped.as_ref(), &made_up);
        print(&as_text(head, &ready, &times, amounts))
    }
}

/// What one call computes and moves, by the cost model.
#[derive(Clone, Copy, Debug)]
struct Amounts {
    flops: i64,
    multiply_adds: i64,
    transcendentals: i64,
    size_bytes: i64,
}

impl Amounts {
    /// `None` where a number is too large to be told.
    fn of(cost: &Cost, env: &DimEnv) -> Option<Amounts> {
        let at = |amount: &Dim| env.eval(amount).ok();
        Some(Amounts {
            flops: at(&cost.flops)?,
            multiply_adds: at(&cost.multiply_adds)?,
            transcendentals: at(&cost.transcendentals)?,
            size_bytes: at(&cost.size_bytes)?,
        })
    }
}

/// What is known before the first round.
struct Ready<'a> {
    args: &'a BenchArgs,
    bound: &'a Bound,
    mapped: Option<&'a Mapped>,
    made_up: &'a MadeUp,
    amounts: Option<Amounts>,
    threads: usize,
}

impl Ready<'_> {
    fn json(&self, read_seconds: f64, first_call_seconds: f64) -> Json {
        let stages: Map<String, Json> =
            self.bound.stages.iter().map(|(stage, seconds)| ((*stage).into(), json!(seconds))).collect();
        let amount = |of: fn(Amounts) -> i64| self.amounts.map(of);
        json!({
            "model": self.bound.model.signature().name,
            "backend": self.args.call.code.name(),
            "threads": self.threads,
            "initialised": self.args.call.data.weights.is_none(),
            "seed": self.args.call.data.seed,
            "map": self.mapped.map(Mapped::json),
            "sizes": self.made_up.sizes_json(),
            "drawn": self.made_up.inputs,
            "read_seconds": read_seconds,
            "compile_seconds": self.bound.compile_seconds(),
            "cached": self.bound.is_cached(),
            "stages": stages,
            "bind_seconds": self.bound.bind_seconds,
            "first_call_seconds": first_call_seconds,
            "weight_bytes": self.bound.model.weight_bytes(),
            "flops": amount(|a| a.flops),
            "multiply_adds": amount(|a| a.multiply_adds),
            "transcendentals": amount(|a| a.transcendentals),
            "bytes": amount(|a| a.size_bytes),
        })
    }
}

/// What is called, and how often.
struct Round<'a> {
    model: &'a Model,
    views: &'a [(&'a str, TensorView<'a>)],
    args: &'a BenchArgs,
    first_call_seconds: f64,
}

impl Round<'_> {
    /// Seconds of each call, in order. Outputs are made anew and freed within the time.
    fn measure(&self, sources: &SourceMap) -> Result<Vec<f64>, Error> {
        let mut call = || -> Result<f64, Error> {
            let started = Instant::now();
            let outputs = self.model.call(self.views.iter().copied());
            drop(outputs.map_err(|e| at(sources, e.to_diagnostic()))?);
            Ok(started.elapsed().as_secs_f64())
        };
        self.warm_up(&mut call)?;
        let (alone, one_of_many) = MIN_RUNS;
        let min_runs = if self.args.on_request { one_of_many } else { alone };
        let started = Instant::now();
        let mut seconds = Vec::new();
        let goes_on = |done: usize| match self.args.runs {
            Some(runs) => done < runs as usize,
            None => {
                let within = started.elapsed().as_secs_f64() < self.args.seconds;
                done < min_runs || (within && done < MAX_RUNS)
            }
        };
        while goes_on(seconds.len()) {
            seconds.push(call()?);
        }
        Ok(seconds)
    }

    fn warm_up(&self, call: &mut dyn FnMut() -> Result<f64, Error>) -> Result<(), Error> {
        if let Some(runs) = self.args.runs {
            return (0..runs.min(MAX_WARM_UP)).try_for_each(|_| call().map(drop));
        }
        let limit = WARM_UP * self.args.seconds;
        let started = Instant::now();
        let mut calls = 0;
        while self.first_call_seconds < limit
            && calls < MAX_WARM_UP
            && started.elapsed().as_secs_f64() < limit
        {
            call()?;
            calls += 1;
        }
        Ok(())
    }

    /// Measures a round for every line `go`, until the input ends.
    fn on_request(&self, ready: &Json, sources: &SourceMap) -> Result<ExitCode, Error> {
        print(&format!("{ready}\n"))?;
        for line in std::io::stdin().lock().lines() {
            let line = line.map_err(|e| {
                plain("unreadable", Fault::File, format!("standard input cannot be read: {e}"))
            })?;
            match line.trim() {
                "" => {}
                "go" => {
                    let seconds = self.measure(sources)?;
                    let answer = json!({ "seconds": seconds, "peak_bytes": peak_bytes() });
                    print(&format!("{answer}\n"))?;
                }
                other => {
                    let title = format!("`{}` is no request; the only one is `go`", other.escape_debug());
                    return Err(plain("unknown-request", Fault::User, title));
                }
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Times of calls, sorted.
#[derive(Debug)]
struct Times(Vec<f64>);

impl Times {
    fn of(mut seconds: Vec<f64>) -> Self {
        seconds.sort_by(f64::total_cmp);
        Times(seconds)
    }

    /// The time that a part of the calls does not exceed: the one nearest to that rank.
    fn quantile(&self, part: f64) -> f64 {
        let last = self.0.len().saturating_sub(1);
        let rank = (part * last as f64).round() as usize;
        self.0.get(rank.min(last)).copied().unwrap_or(f64::NAN)
    }

    fn json(&self, amounts: Option<Amounts>) -> Json {
        json!({
            "runs": self.0.len(),
            "seconds": {
                "min": self.quantile(0.0),
                "p10": self.quantile(0.1),
                "p50": self.quantile(0.5),
                "p90": self.quantile(0.9),
                "max": self.quantile(1.0),
            },
            "gflops_per_second": amounts.map(|a| self.gflops_per_second(a)),
            "peak_bytes": peak_bytes(),
        })
    }

    fn gflops_per_second(&self, amounts: Amounts) -> f64 {
        amounts.flops as f64 / self.quantile(0.5) / 1e9
    }
}

/// The most memory that this process has had resident, where the system tells.
fn peak_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

fn merged(mut first: Json, second: Json) -> Json {
    if let (Json::Object(into), Json::Object(from)) = (&mut first, second) {
        into.extend(from);
    }
    first
}

fn as_text(mut text: String, ready: &Json, times: &Times, amounts: Option<Amounts>) -> String {
    let milliseconds = |field: &str| ready[field].as_f64().unwrap_or(f64::NAN) * 1e3;
    for (what, field) in [
        ("read", "read_seconds"),
        ("compile", "compile_seconds"),
        ("bind", "bind_seconds"),
        ("first call", "first_call_seconds"),
    ] {
        let cached = field == "compile_seconds" && ready["cached"] == true;
        let note = if cached { "  (from the cache)" } else { "" };
        let _ = writeln!(text, "  {what:12} {:.3} ms{note}", milliseconds(field));
    }
    let at = |part: f64| times.quantile(part) * 1e3;
    let _ = writeln!(
        text,
        "  call         {:.4} ms  (p10 {:.4}, p90 {:.4}, least {:.4}, {} calls, {})",
        at(0.5),
        at(0.1),
        at(0.9),
        at(0.0),
        times.0.len(),
        counted(ready["threads"].as_u64().unwrap_or(1) as usize, "thread", "threads")
    );
    if let Some(amounts) = amounts {
        let (flops, bytes) = (amounts.flops as f64, amounts.size_bytes as f64);
        let speed = times.gflops_per_second(amounts);
        let _ =
            writeln!(text, "  speed        {speed:.2} GFLOP/s  ({:.4} GFLOP by the cost model)", flops / 1e9);
        let traffic = bytes / times.quantile(0.5) / 1e9;
        let _ = writeln!(text, "  traffic      {traffic:.2} GB/s  ({:.3} MB at least)", bytes / 1e6);
    }
    if let Some(peak) = peak_bytes() {
        let _ = writeln!(text, "  memory       {:.1} MB at most", peak as f64 / 1e6);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_times_that_were_measured() {
        let times = Times::of(vec![5.0, 1.0, 4.0, 2.0, 3.0]);
        assert_eq!([0.0, 0.1, 0.5, 0.9, 1.0].map(|part| times.quantile(part)), [1.0, 1.0, 3.0, 5.0, 5.0]);
        assert_eq!(Times::of(vec![7.0]).quantile(0.9), 7.0);
        assert!(Times::of(Vec::new()).quantile(0.5).is_nan());
    }
}
