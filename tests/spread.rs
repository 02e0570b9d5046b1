//! `mdlc analyze --show variance` and `--show recurrences`: what is predicted is what runs give, and
//! verdicts say no more than is known.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use assert_cmd::Command;
use mdlc::files::write_tensors;
use mdlc::tensor::Tensor;
use serde_json::Value;
use std::path::Path;

fn analyze(args: &[&str]) -> String {
    let mut command = Command::cargo_bin("mdlc").unwrap();
    command.current_dir(env!("CARGO_MANIFEST_DIR")).arg("analyze").args(args);
    String::from_utf8(command.assert().code(0).get_output().stdout.clone()).unwrap()
}

fn values(args: &[&str]) -> Vec<Value> {
    let all = [args, &["--show", "variance", "--json"]].concat();
    let report: Value = serde_json::from_str(&analyze(&all)).unwrap();
    report["variance"]["values"].as_array().unwrap().clone()
}

/// The outputs of the model, in order.
fn outputs(text: &str, more: &[&str]) -> Vec<Value> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("m.mdl");
    std::fs::write(&file, text).unwrap();
    let rows = values(&[&[file.to_str().unwrap()], more].concat());
    rows.into_iter().filter(|row| row["depth"] == 0 && row["output"].is_number()).collect()
}

fn deviation(row: &Value) -> f64 {
    row["std"].as_f64().unwrap_or_else(|| panic!("not known: {row}"))
}

fn close(got: f64, want: f64, tolerance: f64) {
    assert!((got - want).abs() <= tolerance * want.abs(), "{got} is not {want}");
}

/// Every predicted deviation against runs; values that are constant must be so in both.
fn agrees_with_samples(args: &[&str], samples: &str, tolerance: f64) {
    let rows = values(&[args, &["--samples", samples]].concat());
    assert!(rows.len() > 2);
    for row in &rows {
        assert!(row["not_known"].is_null(), "{args:?}: {row}");
        let (predicted, measured) = (deviation(row), row["measured_std"].as_f64().unwrap());
        assert!((predicted - measured).abs() <= tolerance * measured, "{args:?}: {row}");
        let (mean, seen) = (row["mean"].as_f64().unwrap(), row["measured_mean"].as_f64().unwrap());
        assert!((mean - seen).abs() <= 2.0 * tolerance * measured, "{args:?}: {row}");
    }
}

/// Tolerances are the noise of so few draws of the weights, and where factors share an input what
/// independence leaves out at these widths.
#[test]
fn feed_forward_networks_agree_with_samples() {
    for (model, tolerance) in [("ffn_relu", 0.05), ("ffn_gelu", 0.05), ("ffn_swiglu", 0.08)] {
        let args =
            ["models/feed_forward.mdl", "--model", model, "--set", "D=24", "--set", "F=48", "--dim", "B=4"];
        agrees_with_samples(&args, "40", tolerance);
    }
}

#[test]
fn highway_networks_agree_with_samples() {
    for model in ["highway", "highway_tanh", "highway_fused"] {
        let args = ["models/highway.mdl", "--model", model, "--set", "D=24", "--set", "depth=3"];
        agrees_with_samples(&args, "20", 0.06);
    }
}

#[test]
fn attention_agrees_with_samples() {
    for model in ["dot_attention", "scaled_dot_attention"] {
        agrees_with_samples(&["models/attention.mdl", "--model", model], "20", 0.05);
    }
    for model in ["additive_attention", "bilinear_attention"] {
        agrees_with_samples(&["models/attention.mdl", "--model", model], "40", 0.1);
    }
}

#[test]
fn causal_attention_agrees_with_samples() {
    let args = ["models/attention.mdl", "--model", "scaled_dot_product", "--entry", "causal_mask"];
    agrees_with_samples(&[&args[..], &["--dim", "B=4", "--dim", "H=2"]].concat(), "20", 0.05);
}

#[test]
fn recurrences_agree_with_samples() {
    let sizes = ["--set", "I=16", "--set", "H=32", "--dim", "B=4", "--dim", "T=6"];
    let lstm = ["models/lstm.mdl", "--model", "lstm_gates"];
    agrees_with_samples(&[&lstm[..], &sizes].concat(), "30", 0.06);
    let rnn = ["models/rnn.mdl", "--model", "birnn"];
    agrees_with_samples(&[&rnn[..], &sizes].concat(), "60", 0.08);
}

/// Attention of each position to itself is a little stronger than independence says.
#[test]
fn an_encoder_layer_agrees_with_samples() {
    let args = ["models/transformer.mdl", "--model", "encoder_layer_pre", "--set", "D=64"];
    let sizes = ["--set", "heads=4", "--set", "F=96", "--dim", "B=2"];
    agrees_with_samples(&[&args[..], &sizes].concat(), "12", 0.12);
}

#[test]
fn padding_and_pooling_agree_with_samples() {
    let text = "
use std.conv.{conv2d}
module Block() {
    conv = Conv2d(3, 8, 3, padding = 1)
    forward(x: [B, 3, H, W]) -> list {
        let y = conv(x)
        let least[b, c, i] = min[j] (1 - exp(0.3 * x[b, c, i, j]))
        [y, max_pool2d(x, 2), max_pool2d(relu(x), 3, padding = 1), max_pool2d(-2 * tanh(x), 2), least]
    }
}
model block = Block()
";
    let rows = outputs(text, &["--dim", "B=2", "--dim", "H=8", "--dim", "W=8", "--samples", "60"]);
    for row in &rows {
        close(deviation(row), row["measured_std"].as_f64().unwrap(), 0.06);
    }
    // At the borders products with padding are missing: 22 of 24 are there along each axis.
    close(deviation(&rows[0]).powi(2), (22.0f64 / 24.0).powi(2) / 3.0, 1e-9);
}

/// Scores of two random vectors have the variance d; that is why they are divided by its root.
#[test]
fn scores_need_their_scale() {
    let of = |model| {
        let rows = values(&["models/attention.mdl", "--model", model, "--dim", "D=64"]);
        deviation(rows.iter().find(|row| row["name"] == "" && row["output"] == 0).unwrap()).powi(2)
    };
    close(of("dot_attention"), 64.0, 1e-12);
    close(of("scaled_dot_attention"), 1.0, 1e-6);
}

/// Glorot's uniform distribution halves the variance of ReLU networks at every layer, He's keeps it.
#[test]
fn deep_stacks_drift_or_stay() {
    let stack = |init: &str| {
        let text = format!(
            "
module Layer(D) {{
    param weight: [D, D] = {init}
    forward(x: [B, D]) -> [B, D] = relu(x) @ weight.T
}}
module Stack(D, depth) {{
    layers = [Layer(D); depth]
    forward(x: [B, D]) -> [B, D] {{
        for layer in layers {{ x = layer(x) }}
        x
    }}
}}
model stack = Stack(64, 12)
"
        );
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("m.mdl");
        std::fs::write(&file, text).unwrap();
        let rows = values(&[file.to_str().unwrap()]);
        let layers: Vec<f64> = rows
            .iter()
            .filter(|row| row["module"] == "Layer.forward")
            .map(|r| deviation(r).powi(2))
            .collect();
        assert_eq!(layers.len(), 12);
        let ratios = rows.iter().filter(|row| row["module"] == "Layer.forward" && row["output"] == 0);
        assert!(ratios.map(|row| row["ratio"].as_f64().unwrap()).all(|ratio| ratio > 0.0));
        layers
    };
    for (k, variance) in stack("xavier_uniform()").into_iter().enumerate() {
        close(variance, 0.5f64.powi(k as i32 + 1), 1e-9);
    }
    for variance in stack("normal(sqrt(2 / D))") {
        close(variance, 1.0, 1e-9);
    }
}

/// The formula for products holds for independent factors only.
#[test]
fn a_square_is_no_product_of_independent_factors() {
    let text = "
module M() {
    forward(x: [B, D], y: [B, D]) -> list {
        let twice = x
        let m[b] = mean[d] x[b, d]
        let mixed[b, d] = x[b, d] * m[b]
        let shifted[b, d: D] = x[b, d] + x[b, (d + 1) % D]
        [x * x, x * twice, x * y, x + x, x + y, x - x, shifted, x * x * y, mixed]
    }
}
model m = M()
";
    let rows = outputs(text, &[]);
    let want = [2.0, 2.0, 1.0, 4.0, 2.0, 0.0, 2.0, 3.0];
    for (row, want) in rows.iter().zip(want) {
        close(deviation(row).powi(2), want, 1e-9);
    }
    // x takes part in its own mean.
    assert!(rows[8]["std"].is_null() && rows[8]["not_known"].is_string(), "{}", rows[8]);
}

/// Weights used twice are not weights of its own.
#[test]
fn a_weight_that_is_used_twice_is_seen() {
    let text = |second: &str| {
        format!(
            "
module M(D) {{
    param a: [D, D] = xavier_uniform()
    param b: [D, D] = xavier_uniform()
    forward(x: [B, D]) -> [B, D] {{
        let h = x @ a.T
        h + tanh(h) @ {second}.T
    }}
}}
model m = M(8)
"
        )
    };
    assert!(outputs(&text("a"), &[])[0]["std"].is_null());
    assert!(deviation(&outputs(&text("b"), &[])[0]) > 1.0);
}

/// A gate that is fed by another recurrence sees nearly the same from step to step: what it gates is not
/// independent of it, however often the weights are drawn.
#[test]
fn gates_of_stacked_recurrences_are_not_known() {
    let report = |layers: &str| {
        let layers = format!("layers={layers}");
        let all = values(&["models/gru.mdl", "--model", "gru", "--set", &layers, "--dim", "T=20"]);
        all.into_iter().find(|row| row["name"] == "" && row["depth"] == 0).unwrap()
    };
    assert!(deviation(&report("1")) > 0.2);
    assert!(report("2")["std"].is_null());
    // Pre-activations add up all the same.
    let rnn = values(&["models/rnn.mdl", "--model", "rnn", "--set", "layers=2"]);
    assert!(rnn.iter().all(|row| row["std"].is_number()), "{rnn:?}");
    // Rows that are gathered by different positions are different ones.
    let embedded = values(&["models/seq2seq.mdl", "--model", "bahdanau", "--dim", "S=20"]);
    let encoder = embedded.iter().find(|row| row["name"] == "" && row["path"] == "encoder").unwrap();
    assert!(deviation(encoder) > 0.0);
}

/// Norms are what they compute: not their names, and not what nearly looks like one.
#[test]
fn norms_are_recognised_by_what_they_compute() {
    let text = "
module M(D) {
    forward(x: [B, D]) -> list {
        let z = 3 * x
        let m[b] = (sum[d] z[b, d]) / D
        let centred[b, d] = z[b, d] - m[b]
        let v[b] = (sum[d] centred[b, d] * centred[b, d]) / D
        let norm[b, d] = centred[b, d] * (v[b] + 1e-9) ** -0.5
        let size[b] = sqrt(sum[d] z[b, d] ** 2)
        let unit[b, d] = z[b, d] / size[b]
        let other[b, d] = z[b, d] / (sum[e] abs(z[b, e]))
        [centred, norm, unit, other]
    }
}
model m = M(32)
";
    let rows = outputs(text, &[]);
    close(deviation(&rows[0]).powi(2), 9.0 * 31.0 / 32.0, 1e-9);
    close(deviation(&rows[1]), 1.0, 1e-6);
    close(deviation(&rows[2]).powi(2), 1.0 / 32.0, 1e-6);
    assert!(rows[3]["std"].is_null(), "{}", rows[3]);
}

#[test]
fn spreads_are_listed() {
    insta::assert_snapshot!(analyze(&[
        "models/attention.mdl",
        "--model",
        "dot_attention",
        "--show",
        "variance"
    ]));
    let highway = ["models/highway.mdl", "--model", "highway", "--set", "depth=2", "--show", "variance"];
    insta::assert_snapshot!(analyze(&highway));
    insta::assert_snapshot!(analyze(&["models/graph.mdl", "--model", "sage_conv", "--show", "variance"]));
}

/// Rows of a recurrence's JSON for weights that are multiples of rotations and of given sizes.
fn judged(
    model: &[&str],
    matrices: &[(&str, Vec<f32>, [usize; 2])],
    others: &[(&str, Vec<usize>)],
) -> Vec<Value> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("w.safetensors");
    let mut tensors: Vec<(String, Tensor)> = Vec::new();
    for (name, values, shape) in matrices {
        tensors.push(((*name).to_string(), Tensor::new(*shape, values.clone()).unwrap()));
    }
    for (name, shape) in others {
        let count = shape.iter().product();
        tensors.push(((*name).to_string(), Tensor::new(shape.clone(), vec![1f32; count]).unwrap()));
    }
    write_tensors(&file, tensors.iter().map(|(name, tensor)| (name, tensor.view()))).unwrap();
    let all = [model, &["--show", "recurrences", "--json", "--weights", file.to_str().unwrap()]].concat();
    let report: Value = serde_json::from_str(&analyze(&all)).unwrap();
    report["recurrences"].as_array().unwrap().clone()
}

fn scaled_rotation(scale: f32) -> Vec<f32> {
    vec![0.0, -scale, scale, 0.0]
}

#[test]
fn verdicts_follow_the_criterion() {
    let vanilla =
        ["models/rnn.mdl", "--model", "rnn_vanilla", "--set", "I=3", "--set", "H=2", "--set", "O=2"];
    let verdict = |act: &str, scale: f32| {
        let model = [&vanilla[..], &["--set", act]].concat();
        let others = [("W_in", vec![2, 3]), ("W_out", vec![2, 2])];
        let rows = judged(&model, &[("W_rec", scaled_rotation(scale), [2, 2])], &others);
        close(rows[0]["sigma"].as_f64().unwrap(), f64::from(scale), 1e-12);
        rows[0]["verdict"].as_str().unwrap().to_string()
    };
    assert_eq!(verdict("act=tanh", 0.99), "vanish");
    assert_eq!(verdict("act=tanh", 1.0), "undecided");
    assert_eq!(verdict("act=relu", 1.01), "may explode");
    assert_eq!(verdict("act=sigmoid", 3.9), "vanish");
    assert_eq!(verdict("act=sigmoid", 4.0), "undecided");
    assert_eq!(verdict("act=sigmoid", 4.1), "may explode");
}

#[test]
fn both_directions_and_all_layers_are_judged() {
    let model = ["models/rnn.mdl", "--model", "birnn", "--set", "I=3", "--set", "H=2", "--set", "layers=2"];
    let mut matrices = Vec::new();
    let mut others = Vec::new();
    let names: Vec<[String; 4]> = ["l0", "l0_reverse", "l1", "l1_reverse"]
        .map(|at| ["weight_hh", "weight_ih", "bias_hh", "bias_ih"].map(|name| format!("{name}_{at}")))
        .to_vec();
    for (k, [hh, ih, bias_hh, bias_ih]) in names.iter().enumerate() {
        matrices.push((hh.as_str(), scaled_rotation(0.5 * (k + 1) as f32), [2, 2]));
        others.push((ih.as_str(), vec![2, if k < 2 { 3 } else { 4 }]));
        others.push((bias_hh.as_str(), vec![2]));
        others.push((bias_ih.as_str(), vec![2]));
    }
    let rows = judged(&model, &matrices, &others);
    let of = |key: &str| rows.iter().map(|row| row[key].clone()).collect::<Vec<_>>();
    assert_eq!(of("verdict"), ["vanish", "undecided", "may explode", "may explode"]);
    assert_eq!(of("reverse"), [false, true, false, true]);
    assert_eq!(of("matrix"), names.iter().map(|[hh, ..]| hh.as_str()).collect::<Vec<_>>());
}

/// By hand, in another layout, and in a part of a weight; and what is none.
#[test]
fn a_vanilla_recurrence_is_recognised_by_what_it_computes() {
    let step = |step: &str| {
        let text = format!(
            "
module M(H) {{
    param W: [H, H] = eye()
    param V: [H, 2 * H] = zeros()
    param u: [H] = ones()
    forward(x: [T, B, H]) -> [T, B, H] {{
        recur t in 0..T {{
            init h[t - 1]: [B, H] = 0
            {step}
        }}
        h
    }}
}}
model m = M(4)
"
        );
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("m.mdl");
        std::fs::write(&file, text).unwrap();
        let all = [file.to_str().unwrap(), "--show", "recurrences", "--json"];
        let report: Value = serde_json::from_str(&analyze(&all)).unwrap();
        report["recurrences"][0].clone()
    };
    let by_hand = step(
        "let p = h[t - 1]\n let a[b, i] = sum[k] W[i, k] * p[b, k]\n let z = a + x[t] * u\n h[t] = tanh(z)",
    );
    assert_eq!((&by_hand["matrix"], &by_hand["act"]), (&"W".into(), &"tanh".into()), "{by_hand}");
    let part = step("let (left, right) = split(V, 2)\n h[t] = relu(h[t - 1] @ right + x[t] @ left)");
    assert_eq!((&part["matrix"], &part["act"]), (&"V".into(), &"relu".into()), "{part}");
    let linear = step("h[t] = h[t - 1] @ W + x[t]");
    assert_eq!(linear["act"], "identity", "{linear}");
    let double = step("h[t] = 2 * tanh(h[t - 1] @ W)");
    assert_eq!((&double["act"], &double["slope"]), (&"2 tanh".into(), &2.0.into()), "{double}");
    for other in [
        "h[t] = h[t - 1] + tanh(h[t - 1] @ W)",
        "h[t] = sigmoid(x[t]) * tanh(h[t - 1] @ W)",
        "h[t] = tanh(h[t - 1] @ W + h[t - 1])",
        "h[t] = tanh(h[t - 1] * u + x[t])",
        "h[t] = tanh(tanh(h[t - 1] @ W) @ W)",
        "h[t] = tanh(x[t])",
    ] {
        let row = step(other);
        assert!(row["does_not_apply"].is_string() && row["matrix"].is_null(), "{other}: {row}");
    }
}

#[test]
fn recurrences_are_listed() {
    let shown: Vec<String> = [
        ["models/rnn.mdl", "--model", "birnn"],
        ["models/gru.mdl", "--model", "gru"],
        ["models/lstm.mdl", "--model", "bilstm"],
        ["models/feed_forward.mdl", "--model", "ffn_relu"],
    ]
    .iter()
    .map(|model| analyze(&[&model[..], &["--show", "recurrences"]].concat()))
    .collect();
    insta::assert_snapshot!(shown.join("\n"));
}

/// Weights that do not fit are an error, as in `run`.
#[test]
fn weights_are_checked() {
    let folder = tempfile::tempdir().unwrap();
    let file: &Path = &folder.path().join("w.safetensors");
    let tensor = Tensor::new([1], vec![1f32]).unwrap();
    write_tensors(file, [("nothing", tensor.view())]).unwrap();
    let mut command = Command::cargo_bin("mdlc").unwrap();
    let args = ["analyze", "models/rnn.mdl", "--model", "rnn", "--show", "recurrences", "--weights"];
    command.current_dir(env!("CARGO_MANIFEST_DIR")).args(args).arg(file).assert().code(1);
}
