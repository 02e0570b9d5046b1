//! Maps of weight names from outside: published names onto the models of `models/`, the listing of
//! `mdlc weights`, files that are renamed and named back, and what is refused.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use assert_cmd::Command;
use mdlc::files::{NamedTensors, read_tensors, safetensors, write_tensors};
use mdlc::{Compiler, NameMap, Tensor, Weights};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};

const BERT: &str = "models/maps/bert_pretraining.toml";
const DENSENET: &str = "models/maps/densenet_published.toml";
const BERT_ARGS: &[&str] = &["V=53", "P=20", "K=2", "D=24", "heads=3", "F=37", "n=2"];

const PAIR: &str = "
module Pair(C) {
    first = Linear(C, C)
    second = Linear(C, C)
    forward(x: [B, C]) -> (y: [B, C]) = second(first(x))
}
model pair = Pair(2)
";

fn mdlc() -> Command {
    let mut command = Command::cargo_bin("mdlc").unwrap();
    command.current_dir(env!("CARGO_MANIFEST_DIR"));
    command.env("MDLC_CACHE_DIR", concat!(env!("CARGO_TARGET_TMPDIR"), "/cache"));
    command
}

fn case(name: &str, file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/oracles").join(name).join(file)
}

fn write(path: &Path, tensors: &NamedTensors) {
    write_tensors(path, tensors.iter().map(|(name, tensor)| (name, tensor.view()))).unwrap();
}

/// The weights of a case under other names.
fn published(name: &str, rename: &dyn Fn(&str) -> String, path: &Path) -> NamedTensors {
    let tensors = read_tensors(case(name, "weights.safetensors")).unwrap();
    let tensors: NamedTensors = tensors.into_iter().map(|(name, t)| (rename(&name), t)).collect();
    write(path, &tensors);
    tensors
}

fn first_bert(name: &str) -> String {
    let name =
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta");
    format!("bert.{name}")
}

fn first_densenet(name: &str) -> String {
    let inside = name.contains("denselayer");
    let dotted = ["norm1", "norm2", "conv1", "conv2"].iter().fold(name.to_string(), |name, part| {
        let (word, digit) = part.split_at(4);
        name.replace(&format!("{part}."), &format!("{word}.{digit}."))
    });
    if inside { dotted } else { name.to_string() }
}

fn pair_file(folder: &Path, names: &[&str]) -> (String, String) {
    let model = folder.join("pair.mdl");
    fs::write(&model, PAIR).unwrap();
    let weights = folder.join("weights.safetensors");
    let tensor = |name: &str| {
        let shape: &[usize] = if name.ends_with("bias") { &[2] } else { &[2, 2] };
        (name.to_string(), Tensor::new(shape, vec![1.0_f32; shape.iter().product()]).unwrap())
    };
    write(&weights, &names.iter().map(|name| tensor(name)).collect());
    (model.to_string_lossy().into_owned(), weights.to_string_lossy().into_owned())
}

fn text_of(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn published_bert_names_load_and_verify() {
    let folder = tempfile::tempdir().unwrap();
    let weights = folder.path().join("weights.safetensors");
    let mut tensors = published("s60_bert_tiny", &first_bert, &weights);
    // What the published files hold besides.
    tensors.insert("cls.predictions.bias".into(), Tensor::new([3], vec![0.0_f32; 3]).unwrap());
    tensors.insert("bert.embeddings.position_ids".into(), Tensor::new([1, 2], vec![0_i64, 1]).unwrap());
    write(&weights, &tensors);
    let mut verify = mdlc();
    verify.args(["verify", "models/bert.mdl", "--model", "bert_base", "--map", BERT]);
    verify.args(BERT_ARGS.iter().flat_map(|arg| ["--set", arg]));
    verify.arg("--weights").arg(&weights);
    verify.arg("--inputs").arg(case("s60_bert_tiny", "inputs.safetensors"));
    verify.arg("--expect").arg(case("s60_bert_tiny", "outputs.safetensors"));
    verify.arg("--case").arg(case("s60_bert_tiny", "case.json"));
    verify.assert().code(0);
}

#[test]
fn published_densenet_names_fit_and_come_back() {
    let folder = tempfile::tempdir().unwrap();
    let (old, new) = (folder.path().join("old.safetensors"), folder.path().join("new.safetensors"));
    let tensors = published("s35_densenet_small", &first_densenet, &old);
    let metadata = [("format".to_string(), "pt".to_string())].into_iter().collect();
    let views = tensors.iter().map(|(name, tensor)| (name, tensor.view()));
    safetensors::write_safetensors(&old, views, &metadata).unwrap();
    let weights = |file: &Path| {
        let mut command = mdlc();
        command.args(["weights", "models/densenet.mdl", "--model", "densenet_small", "--map", DENSENET]);
        command.arg(file);
        command
    };
    let there = weights(&old).arg("--output").arg(&new).assert().code(0);
    let text = text_of(&there.get_output().stdout);
    // Seven dense layers, with two norms of five tensors and two convolutions of one.
    assert!(
        text.starts_with("    70  features.denseblock{b:int}.denselayer{l:int}.norm.{n:int}.{p} -> "),
        "{text}"
    );
    assert!(text.contains("\n    14  features.denseblock{b:int}.denselayer{l:int}.conv."), "{text}");
    assert!(text.contains("\n    25  as they are\nall weights of `"), "{text}");
    let expected = read_tensors(case("s35_densenet_small", "weights.safetensors")).unwrap();
    let renamed = read_tensors(&new).unwrap();
    assert!(expected.iter().all(|(name, tensor)| renamed.get(name) == Some(tensor)));
    assert_eq!(expected.len(), renamed.len());

    let back = folder.path().join("back.safetensors");
    weights(&new).arg("--inverse").arg("--output").arg(&back).assert().code(0);
    assert_eq!(fs::read(&back).unwrap(), fs::read(&old).unwrap(), "the same bytes, metadata included");
}

#[test]
fn the_library_renames_too() {
    let folder = tempfile::tempdir().unwrap();
    let weights = folder.path().join("weights.safetensors");
    published("s35_densenet_small", &first_densenet, &weights);
    let map = NameMap::open(Path::new(env!("CARGO_MANIFEST_DIR")).join(DENSENET)).unwrap();
    let compiler = Compiler::new().model("densenet_small");
    let compiled =
        compiler.compile_file(Path::new(env!("CARGO_MANIFEST_DIR")).join("models/densenet.mdl")).unwrap();
    let weights = Weights::open(&weights).unwrap();
    assert!(compiled.bind(&weights).is_err());
    let renamed = weights.renamed(&map).unwrap();
    assert!(renamed.differences(compiled.signature()).unwrap().is_empty());
    assert!(compiled.bind(&renamed).is_ok());
}

#[test]
fn run_says_what_the_map_did() {
    let folder = tempfile::tempdir().unwrap();
    let (model, weights) =
        pair_file(folder.path(), &["l_1.weight", "l_1.bias", "second.weight", "second.bias"]);
    let map = folder.path().join("map.toml");
    fs::write(
        &map,
        "[[rule]]\nfrom = 'l_1.{p}'\nto = 'first.{p}'\n[[rule]]\nfrom = 'l_2.{p}'\nto = 'third.{p}'\n",
    )
    .unwrap();
    let run = || {
        let mut command = mdlc();
        command.args(["run", &model, "--weights", &weights, "--map"]).arg(&map);
        command
    };
    let shown = run().assert().code(0);
    let (out, err) = (text_of(&shown.get_output().stdout), text_of(&shown.get_output().stderr));
    assert!(out.contains("map          2 tensors renamed, 2 as they are, 0 ignored"), "{out}");
    assert!(err.contains("warning[idle-rule]") && err.contains("map.toml:5:"), "{err}");
    let value: Value =
        serde_json::from_slice(&run().arg("--json").assert().code(0).get_output().stdout).unwrap();
    assert_eq!(value["map"]["rules"][0]["matched"], 2);
    assert_eq!(value["map"]["kept"][1], "second.bias");
}

#[test]
fn differences_are_listed_a_line_each() {
    let folder = tempfile::tempdir().unwrap();
    let (model, weights) = pair_file(folder.path(), &["l1.weight", "second.weight", "third.bias"]);
    let map = folder.path().join("map.toml");
    fs::write(&map, "[[rule]]\nfrom = 'l1.weight'\nto = 'first.bias'\n").unwrap();
    let list = mdlc().args(["weights", &model, "--weights", &weights, "--map"]).arg(&map).assert().code(1);
    let expected = "     1  l1.weight -> first.bias
     2  as they are
missing     first.weight: f32[2, 2]
missing     second.bias: f32[2]
unexpected  third.bias: f32[2]
differs     first.bias: the model has f32[2], given is f32[2, 2]
";
    assert_eq!(text_of(&list.get_output().stdout), expected);
    assert_eq!(text_of(&list.get_output().stderr), "");
    let list = mdlc().args(["weights", &model, &weights, "--json"]).assert().code(1);
    let value: Value = serde_json::from_slice(&list.get_output().stdout).unwrap();
    assert_eq!((&value["fits"], &value["differences"][0]["kind"]), (&false.into(), &"missing".into()));
    assert_eq!(value["differences"][0]["name"], "first.weight");
}

#[test]
fn wrong_maps_are_refused_with_places_and_nothing_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let (model, weights) = pair_file(folder.path(), &["a.x", "b.x"]);
    let (map, out) = (folder.path().join("map.toml"), folder.path().join("out.safetensors"));
    fs::write(&out, "old").unwrap();
    let refused = |text: &str, code: &str, place: &str| {
        fs::write(&map, text).unwrap();
        let mut command = mdlc();
        command.args(["weights", &model, &weights, "--map"]).arg(&map).arg("--output").arg(&out);
        let shown = command.assert().code(1);
        let err = text_of(&shown.get_output().stderr);
        assert!(err.contains(&format!("error[{code}]")) && err.contains(place), "{err}");
        assert_eq!(fs::read(&out).unwrap(), b"old");
    };
    refused("[[rule]\nfrom = 'a'", "bad-map", "map.toml:1:");
    refused("[[rule]]\nfrom = 'a.{p}'\nto = '{q}'\n", "rule-holes", "map.toml:2:");
    refused("[[rule]]\nfrom = '{a}{b}'\nto = '{a}.{b}'\n", "bad-pattern", "map.toml:2:");
    refused(
        "[[rule]]\nfrom = 'a.{p}'\nto = '{p}'\n[[rule]]\nfrom = 'b.{p}'\nto = '{p}'\n",
        "rename-collision",
        "map.toml:2:",
    );
    refused("[[rule]]\nfrom = 'c.{p}'\nto = 'a.{p}'\n", "rename-not-invertible", "map.toml:2:");
    // Files and usage have codes of their own.
    mdlc().args(["weights", &model, &weights, "--map", "no-such.toml"]).assert().code(3);
    mdlc().args(["weights", &model, "--map", BERT]).assert().code(2);
    mdlc().args(["weights", &model, &weights, "--inverse"]).assert().code(2);
    mdlc().args(["run", &model, "--map", BERT]).assert().code(2);
}
