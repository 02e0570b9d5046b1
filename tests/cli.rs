//! The program from outside: exit codes, JSON, and files that are written whole or not at all.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use assert_cmd::Command;
use serde_json::Value;
use std::fs;
use std::path::Path;

const SCALE: &str = "
module Scale(C) {
    param weight: [C] = fill(1.0)
    forward(x: [B, C]) -> [B, C] = weight * x
}
model scale = Scale(3)
";

fn mdlc() -> Command {
    let mut command = Command::cargo_bin("mdlc").unwrap();
    command.current_dir(env!("CARGO_MANIFEST_DIR"));
    command
}

fn model(folder: &Path, text: &str) -> String {
    let path = folder.join("m.mdl");
    fs::write(&path, text).unwrap();
    path.to_string_lossy().into_owned()
}

#[test]
fn exit_codes_say_what_went_wrong() {
    let folder = tempfile::tempdir().unwrap();
    let good = model(folder.path(), SCALE);
    mdlc().args(["check", &good]).assert().code(0);
    mdlc().args(["check", "no-such.mdl"]).assert().code(3);
    mdlc().args(["frobnicate"]).assert().code(2);
    mdlc().args(["check", &good, "--dim", "B=minus"]).assert().code(2);
    mdlc().args(["check", &good, "--model", "absent"]).assert().code(1);
    mdlc().args(["dump", &good, "--after", "absent"]).assert().code(2);
    let bad = model(folder.path(), "module M { forward(x: [B]) -> [B] = y }");
    mdlc().args(["check", &bad]).assert().code(1);
}

#[test]
fn check_reports_places_as_json() {
    let folder = tempfile::tempdir().unwrap();
    let bad = model(folder.path(), "module M {\n    forward(x: [B]) -> [B] = y\n}\n");
    let output = mdlc().args(["check", "--json", &bad]).assert().code(1).get_output().stdout.clone();
    let value: Value = serde_json::from_slice(&output).unwrap();
    assert_eq!(value["diagnostics"][0]["labels"][0]["line"], 2);
}

#[test]
fn run_writes_its_outputs_or_leaves_the_file_alone() {
    let folder = tempfile::tempdir().unwrap();
    let good = model(folder.path(), SCALE);
    let out = folder.path().join("out.safetensors");
    fs::write(&out, "old").unwrap();
    // An input of the wrong shape: nothing is written.
    let x = folder.path().join("x.npy");
    let wrong = mdlc::Tensor::new([2, 4], vec![0.0_f32; 8]).unwrap();
    mdlc::files::write_tensors(&x, [("x", wrong.view())]).unwrap();
    let input = format!("x={}", x.display());
    mdlc().args(["run", &good, "--input", &input, "-o"]).arg(&out).assert().code(1);
    assert_eq!(fs::read(&out).unwrap(), b"old");
    mdlc().args(["run", &good, "-o"]).arg(&out).assert().code(0);
    assert_eq!(mdlc::files::read_tensors(&out).unwrap().len(), 1);
    let left: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(left.len(), 3, "{left:?}");
}

#[test]
fn every_stage_can_be_shown() {
    let folder = tempfile::tempdir().unwrap();
    let good = model(folder.path(), SCALE);
    for stage in ["ast", "graph", "fused", "loops", "plan", "clif"] {
        let shown = mdlc().args(["dump", &good, "--emit", stage]).assert().code(0);
        assert!(!shown.get_output().stdout.is_empty(), "{stage}");
    }
}

#[test]
fn compile_sums_up_and_writes_objects() {
    let folder = tempfile::tempdir().unwrap();
    let good = model(folder.path(), SCALE);
    let object = folder.path().join("scale.o");
    let shown = mdlc().args(["compile", "--json", &good, "-o"]).arg(&object).assert().code(0);
    let value: Value = serde_json::from_slice(&shown.get_output().stdout).unwrap();
    assert_eq!(value["parameters"], "3");
    assert!(object.exists() && object.with_extension("h").exists());
}

#[test]
fn verify_tells_agreement_from_difference() {
    let folder = tempfile::tempdir().unwrap();
    let good = model(folder.path(), SCALE);
    let bundle = |y: f32| {
        let path = folder.path().join("bundle.safetensors");
        let weight = mdlc::Tensor::new([3], vec![2.0_f32; 3]).unwrap();
        let x = mdlc::Tensor::new([1, 3], vec![1.0_f32; 3]).unwrap();
        let y = mdlc::Tensor::new([1, 3], vec![y; 3]).unwrap();
        let tensors = [("weight", weight.view()), ("input.x", x.view()), ("output.y", y.view())];
        mdlc::files::write_tensors(&path, tensors).unwrap();
        path
    };
    let text = SCALE.replace("-> [B, C]", "-> (y: [B, C])");
    fs::write(&good, text).unwrap();
    mdlc().args(["verify", &good, "--bundle"]).arg(bundle(2.0)).assert().code(0);
    mdlc().args(["verify", &good, "--json", "--bundle"]).arg(bundle(2.1)).assert().code(1);
}
