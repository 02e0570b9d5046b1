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

#[test]
fn fields_are_listed_in_closed_form() {
    let shown: Vec<String> = [
        ["models/convolution.mdl", "--model", "alexnet_stack"],
        ["models/convolution.mdl", "--model", "conv_transpose1d"],
        ["models/primer.mdl", "--model", "primer"],
        ["models/seq2seq.mdl", "--model", "bahdanau"],
    ]
    .iter()
    .map(|model| analyze(&[&model[..], &["--show", "fields"]].concat()))
    .collect();
    insta::assert_snapshot!(shown.join("\n"));
}

/// Kernel, stride and dilation that are free dimensions stay in the formulas.
#[test]
fn fields_and_lengths_may_be_formulas() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("m.mdl");
    let text = "
use std.conv.{conv1d, window_count}
module Filter(s, d, p) {
    forward(x: [B, C, L], w: [O, C, K]) -> y: [B, O, window_count(L, K, s, d, p, p)] = conv1d(x, w, s, d, p, p)
}
model filter = Filter(3, 2, 1)
";
    std::fs::write(&file, text).unwrap();
    let report = json(&[file.to_str().unwrap(), "--show", "fields"]);
    // (L + 2 - 2 (K - 1) - 1)//3 + 1 in normal form: what the divisor divides stands outside.
    assert_eq!(report["outputs"][0]["type"], "f32[B, O, ((L + K)//3) - K + 2]");
    let of_x =
        report["fields"].as_array().unwrap().iter().find(|f| f["input"] == "x" && f["input_axis"] == 2);
    let of_x = of_x.unwrap();
    assert_eq!((&of_x["size"], &of_x["start"]), (&"2*K - 1".into(), &"-1".into()));
    assert_eq!(of_x["jump"], serde_json::json!(["3"]));
    assert_eq!(of_x["positions"], "3*p - 1 .. 3*p + 2*K - 3");
}

/// A measured table that the analysis contradicts fails its case, as do rows and columns that nothing
/// looks at.
#[test]
fn measured_tables_are_compared_row_by_row() {
    let folder = tempfile::tempdir().unwrap();
    let base = folder.path();
    std::fs::create_dir(base.join("lengths")).unwrap();
    let verify = |length: &str, extra: &str| {
        let case = format!(
            r#"{{ "tables": {{ "conv": {{ "columns": ["n", "k", "out"], "rows": [[9, 3, 7], [9, 4, {length}], [9, 12, null]] }} }} }}"#
        );
        std::fs::write(base.join("lengths/case.json"), case).unwrap();
        let table = format!(
            "[[case]]\nname = \"lengths\"\n[[case.table]]\nname = \"conv\"\nfile = \"models/convolution.mdl\"\n\
             model = \"conv1d_layer\"\nargs = {{ I = 1, O = 1, padding = 0 }}\ncolumns = {{ k = \"k\" }}\n\
             dims = {{ B = 1, L = \"n\" }}\nexpect = [{{ what = \"length\", output = \"y.2\", column = \"out\" }}]\n{extra}"
        );
        std::fs::write(base.join("cases.toml"), table).unwrap();
        let mut command = Command::cargo_bin("mdlc").unwrap();
        command.current_dir(env!("CARGO_MANIFEST_DIR")).args(["verify", "--cases"]);
        let output = command.arg(base.join("cases.toml")).assert().get_output().clone();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        (output.status.code().unwrap(), text)
    };
    let (code, text) = verify("6", "");
    assert_eq!(code, 0, "{text}");
    let (code, text) = verify("5", "");
    assert!(code != 0 && text.contains("1 differ: Length of y.2 is 6, is to be 5"), "{text}");
    let (code, text) = verify("6", "rows = { k = 3 }");
    assert!(code != 0 && text.contains("nothing compares row 1 of `conv`"), "{text}");
}
