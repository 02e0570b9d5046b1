//! Models that are larger than the memory: code 4, never an abort.

use super::process::Mdlc;
use std::fs;
use std::path::{Path, PathBuf};

/// # Units
/// MiB of address space that the program and its stacks take, and a little to work with.
const BASE: usize = 576 + 24 + 104;

const MODELS: &str = "
module Square(N) {
    param w: [N, N] = uniform(0.5)
    forward(x: [B, N]) -> [B, N] = x @ w.T
}
module Outer {
    forward(x: [T]) -> [T, T] {
        let y[i, j] = x[i] * x[j]
        y
    }
}
module Inside {
    forward(x: [T]) -> [T] {
        let y[i, j] = x[i] * x[j]
        let z = y @ y
        z[:, 0]
    }
}
module Stored {
    forward(x: [T]) -> [T] {
        recur t in 0..T {
            init h[:, t - 1] = x
            h[:, t] = h[:, t - 1] * x
        }
        h[:, T - 1]
    }
}
module Table(N) {
    forward(x: [B, 4]) -> [B, N] {
        let y[b: B, i: N] = 10000.0 ** (i / N) * x[b, 0]
        y
    }
}
model square = Square(8)
model outer = Outer()
model inside = Inside()
model stored = Stored()
model table = Table(8)
";

fn models(folder: &Path) -> PathBuf {
    let path = folder.join("models.mdl");
    fs::write(&path, MODELS).unwrap();
    path
}

/// Each needs far more than there is: for weights, inputs, outputs, arena, or a table of constants.
#[test]
fn what_does_not_fit_is_a_limit() {
    let folder = tempfile::tempdir().unwrap();
    let path = models(folder.path());
    for (model, options) in [
        ("square", &["--set", "N=30000"][..]),
        ("square", &["--dim", "B=200000000"]),
        ("square", &["--set", "N=4000", "--dim", "B=100000"]),
        ("outer", &["--dim", "T=100000"]),
        ("inside", &["--dim", "T=100000"]),
        ("stored", &["--dim", "T=100000"]),
        ("table", &["--set", "N=1000000000"]),
        ("table", &["--set", "N=100000", "--dim", "B=100000"]),
    ] {
        let run = Mdlc::new(["run"])
            .arg(&path)
            .arg("--model")
            .arg(model)
            .args(options)
            .address_space(BASE + 256)
            .run();
        assert_eq!(run.code, 4, "{model} {options:?}: {}", run.stderr);
        assert!(run.stderr.starts_with("error["), "{model} {options:?}: {}", run.stderr);
    }
}

/// From a limit under which no thread starts to one under which all fits: a result or code 4. The
/// stacks are given back before the 676 MB of the output are asked for.
#[test]
fn less_and_less_memory_never_aborts() {
    let folder = tempfile::tempdir().unwrap();
    let path = models(folder.path());
    let mut codes = Vec::new();
    for mebibytes in (560..700).step_by(12).chain([1500]) {
        let run = Mdlc::new(["run"])
            .arg(&path)
            .args(&["--model", "outer", "--dim", "T=13000"])
            .address_space(mebibytes)
            .run();
        println!("{mebibytes} MiB: code {} {}", run.code, run.stderr.lines().next().unwrap_or_default());
        codes.push(run.code);
    }
    assert!(codes.contains(&4) && codes.contains(&0), "{codes:?}");
}
