//! `mdlc analyze` from outside: what it prints, and that what it says is true.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use assert_cmd::Command;
use serde_json::Value;

fn analyze(args: &[&str]) -> String {
    let mut command = Command::cargo_bin("mdlc").unwrap();
    command.current_dir(env!("CARGO_MANIFEST_DIR")).arg("analyze").args(args);
    String::from_utf8(command.assert().code(0).get_output().stdout.clone()).unwrap()
}

fn json(args: &[&str]) -> Value {
    serde_json::from_str(&analyze(&[args, &["--json"]].concat())).unwrap()
}

#[test]
fn modules_are_listed_with_formulas() {
    insta::assert_snapshot!(analyze(&["models/convolution.mdl", "--model", "text_cnn", "--show", "modules"]));
    insta::assert_snapshot!(analyze(&[
        "models/densenet.mdl",
        "--model",
        "densenet_small",
        "--show",
        "modules",
        "--depth",
        "1"
    ]));
}

#[test]
fn modules_are_numbers_where_sizes_are_given() {
    let args = ["models/rnn.mdl", "--model", "rnn", "--dim", "B=2", "--dim", "T=7", "--show", "modules"];
    let report = json(&args);
    let model = &report["modules"][0];
    // Two matrices and two vectors of one layer; sums of both products, the biases, and the tanh.
    assert_eq!(model["parameters"], (24 * 10 + 24 * 24 + 24 + 24).to_string());
    assert_eq!(model["flops"], (2 * 7 * 24 * (2 * 10 + 2 * 24 + 2) + 24).to_string());
    assert_eq!(model["transcendentals"], (2 * 7 * 24).to_string());
    assert_eq!(report["dims"], serde_json::json!([]));
}

/// What a module of a recurrence costs counts for every step.
#[test]
fn what_runs_in_a_recurrence_is_repeated() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("m.mdl");
    let text = "
module Cell(H) {
    lin = Linear(H, H, bias = false)
    forward(x: [T, B, H]) -> [T, B, H] {
        recur t in 0..T {
            init h[t - 1]: [B, H] = 0
            h[t] = tanh(lin(h[t - 1]) + x[t])
        }
        h
    }
}
model cell = Cell(5)
";
    std::fs::write(&file, text).unwrap();
    let report = json(&[file.to_str().unwrap(), "--show", "modules"]);
    let inner = &report["modules"][1];
    assert_eq!((&inner["path"], &inner["runs"]), (&"lin".into(), &"T".into()));
    assert_eq!(inner["flops"], "50*B*T");
    assert_eq!(inner["parameters"], "25");
}
