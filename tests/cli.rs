//! The program from outside: exit codes, JSON, and files that are written whole or not at all.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use assert_cmd::Command;
use mdlc::codegen::target::Kernels;
use mdlc::codegen::vector::Isa;
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
    command.env("MDLC_CACHE_DIR", concat!(env!("CARGO_TARGET_TMPDIR"), "/cache"));
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
fn check_warns_of_sizes_that_must_be_equal() {
    let folder = tempfile::tempdir().unwrap();
    let text = "module M { forward(x: [B, 3], y: [B]) -> [B, 3] = x + y }";
    let narrow = model(folder.path(), text);
    let checked = mdlc().args(["check", &narrow]).assert().code(0);
    let told = String::from_utf8_lossy(&checked.get_output().stderr).into_owned();
    assert!(told.contains("warning[assumed-size]: this is right only where B is 3"), "{told}");
    let output = mdlc().args(["check", "--json", &narrow]).assert().code(0).get_output().stdout.clone();
    let value: Value = serde_json::from_slice(&output).unwrap();
    assert_eq!(value["diagnostics"][0]["severity"], "warning");
}

/// The levels of processors: what they lack is not in their code, and what they have asks for its kernels.
#[test]
fn code_is_made_for_the_processors_that_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let source = "module M() { forward(x: [64]) -> [64] = tanh(x) }\nmodel m = M()\n";
    let good = model(folder.path(), source);
    let out = folder.path().join("m.o");
    for (cpu, register, needs, lacks) in [
        ("baseline", "", "fma", "avx2"),
        ("x86-64-v3", "ymm", "avx2", "avx512f"),
        ("x86-64-v4", "zmm", "avx512vl", "avx512vbmi"),
    ] {
        let shown = mdlc().args(["dump", &good, "--emit", "asm", "--target-cpu", cpu]).assert().code(0);
        let text = String::from_utf8(shown.get_output().stdout.clone()).unwrap();
        assert_eq!(text.is_empty(), register.is_empty(), "{cpu}");
        assert!(text.contains(register), "{cpu}:\n{text}");
        mdlc().args(["compile", &good, "--target-cpu", cpu, "-o"]).arg(&out).assert().code(0);
        let header = fs::read_to_string(folder.path().join("m.h")).unwrap();
        assert!(header.contains(needs) && !header.contains(lacks), "{cpu}:\n{header}");
        let object = fs::read(&out).unwrap();
        let holds = |text: &str| object.windows(text.len()).any(|w| w == text.as_bytes());
        assert!(holds(&format!("\"{needs}\"")) && !holds(&format!("\"{lacks}\"")), "{cpu}");
    }
    let here = mdlc().args(["run", &good, "--json", "--target-cpu", "baseline"]).assert().code(0);
    let value: Value = serde_json::from_slice(&here.get_output().stdout).unwrap();
    assert_eq!(value["backend"], "clif");
    // Kernels that the level has no instructions for.
    let args = ["dump", &good, "--emit", "asm", "--backend", "avx512", "--target-cpu", "x86-64-v3"];
    let refused = mdlc().args(args).assert().code(5);
    let told = String::from_utf8_lossy(&refused.get_output().stderr).into_owned();
    assert!(told.contains("x86-64-v3 lacks avx512f, avx512bw, avx512dq, avx512vl"), "{told}");
    // On a processor without AVX-512 the same code is looked at, and not run.
    let runs = mdlc().args(["run", &good, "--target-cpu", "x86-64-v4"]).output().unwrap();
    let can = Kernels::Of(Isa::Avx512).isa().is_ok();
    assert_eq!(runs.status.code(), Some(if can { 0 } else { 5 }));
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
fn back_ends_are_chosen_and_their_kernels_shown() {
    let folder = tempfile::tempdir().unwrap();
    let source = "module M() { forward(x: [64]) -> [64] = tanh(x) }\nmodel m = M()\n";
    let good = model(folder.path(), source);
    let shown = |backend: &str| {
        let args = ["dump", &good, "--emit", "asm", "--backend", backend];
        let output = mdlc().args(args).output().unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    assert_eq!(shown("clif"), (Some(0), String::new()));
    for (isa, register) in [(Isa::Avx2, "ymm"), (Isa::Avx512, "zmm")] {
        let (code, text) = shown(isa.name());
        if Kernels::Of(isa).isa().is_err() {
            eprintln!("{} is skipped: this processor lacks it", isa.name());
            assert_eq!(code, Some(5));
            continue;
        }
        assert_eq!(code, Some(0));
        for part in ["loop_", "vfmadd", register, "vzeroupper", "ret", "m.mdl:1"] {
            assert!(text.contains(part), "{part} in\n{text}");
        }
        let run = mdlc().args(["run", &good, "--json", "--backend", isa.name()]).assert().code(0);
        let value: Value = serde_json::from_slice(&run.get_output().stdout).unwrap();
        assert_eq!(value["backend"], isa.name());
    }
}

/// Tiles ask for the strip of the right operand that comes next, but for those so low that they wait for
/// loads as it is.
#[test]
fn products_ask_for_weights_ahead() {
    if Kernels::Of(Isa::Avx512).isa().is_err() {
        return eprintln!("skipped: this processor lacks AVX-512");
    }
    let folder = tempfile::tempdir().unwrap();
    let good = model(
        folder.path(),
        "module M() {\n    l = Linear(256, 128)\n    forward(x: [B, 256]) -> [B, 128] = l(x)\n}\nmodel m = M()\n",
    );
    // Four tiles of eight rows ask for one row of two lines in four steps, one tile for four rows.
    for (rows, lines) in [("56", 2), ("14", 8), ("3", 0)] {
        let args = ["dump", &good, "--emit", "asm", "--backend", "avx512", "--dim"];
        let output = mdlc().args(args).arg(format!("B={rows}")).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(text.contains("product_"), "{rows} rows:\n{text}");
        assert_eq!(text.matches("prefetcht1").count(), lines, "{rows} rows:\n{text}");
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

const OPEN: &str = "
module Open(D) {
    forward(x: [.., D], mask: bool[B] = true, twice: bool = false) -> (y: [.., D], z: [B]) {
        let z[b] = if mask[b] { 1.0 } else { 0.0 }
        (if twice { x + x } else { x }, z)
    }
}
model open = Open(2)
";

/// The bundle of `OPEN` with an input of rank three and the optional mask.
fn open_bundle(folder: &Path, y: f32) -> std::path::PathBuf {
    let path = folder.join("bundle.safetensors");
    let x = mdlc::Tensor::new([3, 1, 2], vec![1.0_f32; 6]).unwrap();
    let mask = mdlc::Tensor::new([2], vec![true, false]).unwrap();
    let (y, z) = (
        mdlc::Tensor::new([3, 1, 2], vec![y; 6]).unwrap(),
        mdlc::Tensor::new([2], vec![1.0_f32, 0.0]).unwrap(),
    );
    let tensors = [("input.x", &x), ("input.mask", &mask), ("output.y", &y), ("output.z", &z)];
    mdlc::files::write_tensors(&path, tensors.map(|(name, t)| (name, t.view()))).unwrap();
    path
}

#[test]
fn tensors_decide_open_ranks_and_optional_inputs() {
    let folder = tempfile::tempdir().unwrap();
    let good = model(folder.path(), OPEN);
    let verify = |y: f32, more: &[&str]| {
        let mut command = mdlc();
        command.args(["verify", &good, "--bundle"]).arg(open_bundle(folder.path(), y)).args(more);
        command
    };
    verify(1.0, &[]).assert().code(0);
    verify(2.0, &[]).assert().code(1);
    verify(2.0, &["--arg", "twice=true"]).assert().code(0);
    let x = folder.path().join("x.npy");
    let one = mdlc::Tensor::new([2], vec![1.0_f32; 2]).unwrap();
    mdlc::files::write_tensors(&x, [("x", one.view())]).unwrap();
    let run =
        mdlc().args(["run", &good, "--json", "--input"]).arg(&x).args(["--with", "mask"]).assert().code(0);
    let value: Value = serde_json::from_slice(&run.get_output().stdout).unwrap();
    assert_eq!((&value["outputs"][0]["shape"], &value["sizes"]["B"]), (&serde_json::json!([2]), &2.into()));
    // The mask is drawn all true.
    assert_eq!(value["outputs"][1]["min"], 1.0);
    // Too few axes for what is declared.
    fs::write(&good, OPEN.replace("x: [.., D]", "x: [.., 1, 1, D]").replace("y: [.., D]", "y: [..]"))
        .unwrap();
    let shown = mdlc().args(["run", &good, "--input"]).arg(&x).assert().code(1);
    let text = String::from_utf8(shown.get_output().stderr.clone()).unwrap();
    assert!(text.contains("`x` has at least 3 axes, the tensor given has 1"), "{text}");
}

#[test]
fn verify_tells_what_is_wrong_by_its_exit_code() {
    let folder = tempfile::tempdir().unwrap();
    let good = model(folder.path(), OPEN);
    mdlc().args(["verify", &good, "--bundle", "no-such.safetensors"]).assert().code(3);
    let bundle = open_bundle(folder.path(), 1.0);
    mdlc().args(["verify", "no-such.mdl", "--bundle"]).arg(&bundle).assert().code(3);
    mdlc().args(["verify", &good, "--case", "no-such.json", "--bundle"]).arg(&bundle).assert().code(3);
    mdlc().args(["verify", &good, "--dim", "Z=3", "--bundle"]).arg(&bundle).assert().code(1);
    // One case that differs and one without files: the greater code, and both are reported.
    let table = folder.path().join("table.toml");
    let case = |name: &str| format!("[[case]]\nname = '{name}'\nfile = '{good}'\n");
    fs::write(&table, case("absent") + &case("differs")).unwrap();
    let differs = folder.path().join("differs");
    fs::create_dir(&differs).unwrap();
    let (x, y) = (
        mdlc::Tensor::new([2], vec![1.0_f32; 2]).unwrap(),
        mdlc::Tensor::new([2], vec![1.5_f32; 2]).unwrap(),
    );
    let (mask, z) =
        (mdlc::Tensor::new([1], vec![true]).unwrap(), mdlc::Tensor::new([1], vec![1.0_f32]).unwrap());
    let none: [(&str, mdlc::TensorView<'_>); 0] = [];
    mdlc::files::write_tensors(differs.join("weights.safetensors"), none).unwrap();
    mdlc::files::write_tensors(differs.join("inputs.safetensors"), [("x", x.view()), ("mask", mask.view())])
        .unwrap();
    mdlc::files::write_tensors(differs.join("outputs.safetensors"), [("y", y.view()), ("z", z.view())])
        .unwrap();
    let shown = mdlc().args(["verify", "--cases"]).arg(&table).assert().code(3);
    let text = String::from_utf8(shown.get_output().stdout.clone()).unwrap();
    assert!(
        text.contains("FAIL absent") && text.contains("FAIL differs") && text.contains("0 passed, 2 failed"),
        "{text}"
    );
    mdlc().args(["verify", "--only", "differs", "--cases"]).arg(&table).assert().code(1);
}

#[test]
fn the_reference_computes_what_native_code_does() {
    let folder = tempfile::tempdir().unwrap();
    let outputs = ["native", "reference"].map(|name| {
        let out = folder.path().join(format!("{name}.safetensors"));
        let mut command = mdlc();
        command
            .args(["run", "models/lstm.mdl", "--model", "lstm", "--set", "I=3", "--set", "H=4", "-o"])
            .arg(&out);
        if name == "reference" {
            command.arg("--reference");
        }
        let shown = command.assert().code(0);
        let text = String::from_utf8(shown.get_output().stdout.clone()).unwrap();
        assert_eq!(text.contains("evaluated by the reference"), name == "reference", "{text}");
        assert!(text.contains("sizes        B=2, T=5"), "{text}");
        mdlc::files::read_tensors(&out).unwrap()
    });
    assert!(!outputs[0].is_empty());
    for (name, native) in &outputs[0] {
        let reference = &outputs[1][name];
        assert_eq!(native.shape(), reference.shape());
        let pairs = native.as_f32().unwrap().iter().zip(reference.as_f32().unwrap());
        assert!(pairs.into_iter().all(|(a, b)| (a - b).abs() < 1e-5), "{name}");
    }
}

#[test]
fn sizes_that_a_model_refuses_are_not_drawn() {
    let folder = tempfile::tempdir().unwrap();
    let text = "module M { forward(x: [A, B]) -> (y: [A, B]) { require A == B and A >= 8, \"square\" x } }";
    let good = model(folder.path(), text);
    let run = mdlc().args(["run", &good, "--json"]).assert().code(0);
    let value: Value = serde_json::from_slice(&run.get_output().stdout).unwrap();
    assert_eq!(value["outputs"][0]["shape"], serde_json::json!([8, 8]));
}

#[test]
fn sizes_under_which_a_call_fails_are_replaced() {
    let folder = tempfile::tempdir().unwrap();
    // Only the call finds that the third axis must be long, and a mean over nothing is no error.
    let text = "module M { forward(x: [A, B, C], i: i64[D]) -> (y: [A], z: [D]) {
        let y[a] = mean[b: B - 6] x[a, b, 0]
        let z[d] = x[0, 0, i[d] + 6]
        (y, z) } }";
    let good = model(folder.path(), text);
    for backend in [&["--json"][..], &["--json", "--reference"]] {
        let run = mdlc().args(["run", &good]).args(backend).assert().code(0);
        let value: Value = serde_json::from_slice(&run.get_output().stdout).unwrap();
        let size = |name: &str| value["sizes"][name].as_i64().unwrap();
        assert!(size("B") > 6 && size("C") > 7, "{value}");
        assert!(value["outputs"][0]["mean"].is_f64(), "{value}");
    }
}

#[test]
fn sizes_that_cannot_be_found_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let good =
        model(folder.path(), "module M { forward(x: [A]) -> (y: [A]) { require A * A == 7, \"odd\" x } }");
    let run = mdlc().args(["run", &good]).assert().code(1);
    let text = String::from_utf8(run.get_output().stderr.clone()).unwrap();
    assert!(text.contains("A=2 was chosen; give other sizes with --dim, or an input"), "{text}");
}

#[test]
fn bench_times_calls_and_says_what_they_compute() {
    let folder = tempfile::tempdir().unwrap();
    let good = model(folder.path(), SCALE);
    let out = folder.path().join("y.safetensors");
    let run = ["bench", &good, "--dim", "B=4", "--threads", "3", "--runs", "7", "--json", "-o"];
    let shown = mdlc().args(run).arg(&out).assert().code(0).get_output().stdout.clone();
    let value: Value = serde_json::from_slice(&shown).unwrap();
    assert_eq!(
        (&value["model"], &value["runs"], &value["threads"]),
        (&"scale.forward".into(), &7.into(), &3.into())
    );
    // One product for each of 4 x 3 elements; weight, input and output are moved once.
    assert_eq!((&value["flops"], &value["bytes"]), (&12.into(), &(4 * (3 + 12 + 12)).into()));
    let seconds = |part: &str| value["seconds"][part].as_f64().unwrap();
    let parts = ["min", "p10", "p50", "p90", "max"].map(seconds);
    assert!(parts[0] > 0.0 && parts.is_sorted(), "{parts:?}");
    for field in
        ["read_seconds", "compile_seconds", "bind_seconds", "first_call_seconds", "gflops_per_second"]
    {
        assert!(value[field].as_f64().is_some(), "{field}");
    }
    assert_eq!(value["peak_bytes"].as_u64().is_some(), cfg!(target_os = "linux"));
    assert_eq!(mdlc::files::read_tensors(&out).unwrap()["y"].shape(), [4, 3]);
    let alone = ["bench", &good, "--seconds", "0", "--threads", "1"];
    let text = mdlc().args(alone).assert().code(0).get_output().stdout.clone();
    let text = String::from_utf8(text).unwrap();
    assert!(text.contains("3 calls, 1 thread") && text.contains("GFLOP/s"), "{text}");
}

#[test]
fn numbers_of_threads_that_nobody_means_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let good = model(folder.path(), SCALE);
    for command in ["run", "bench", "verify"] {
        for count in ["0", "1025", "-1", "many"] {
            let run = mdlc().args([command, &good, &format!("--threads={count}")]).assert().code(2);
            let text = String::from_utf8(run.get_output().stderr.clone()).unwrap();
            assert!(text.contains("--threads"), "{text}");
        }
    }
    // More than there are cores.
    mdlc().args(["run", &good, "--threads", "64"]).assert().code(0);
}

#[test]
fn bench_measures_a_round_for_every_request() {
    let folder = tempfile::tempdir().unwrap();
    let good = model(folder.path(), SCALE);
    let on_request = |requests: &str| {
        let mut command = mdlc();
        command.args(["bench", &good, "--on-request", "--runs", "2"]).write_stdin(requests.to_string());
        command.assert()
    };
    let shown = on_request("go\n\ngo\n").code(0).get_output().stdout.clone();
    let lines: Vec<Value> =
        String::from_utf8(shown).unwrap().lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert_eq!(lines.len(), 3);
    assert_eq!(lines[0]["model"], "scale.forward");
    assert!(lines[1..].iter().all(|line| line["seconds"].as_array().unwrap().len() == 2));
    let wrong = on_request("go\nstop\n").code(1).get_output().stderr.clone();
    assert!(String::from_utf8_lossy(&wrong).contains("`stop` is no request"));
}

#[test]
fn bench_refuses_what_it_cannot_measure() {
    let folder = tempfile::tempdir().unwrap();
    let good = model(folder.path(), SCALE);
    for options in [
        &["--runs", "0"][..],
        &["--seconds", "-1"],
        &["--seconds", "nan"],
        &["--runs", "2", "--seconds", "1"],
        &["--on-request", "--json"],
        &["--partial"],
    ] {
        mdlc().args(["bench", &good]).args(options).assert().code(2);
    }
}

/// Two layers of the library, large enough to stay functions.
const MODEL: [&str; 10] =
    ["models/gpt2.mdl", "--model", "GPT2", "--dim", "B=1", "--dim", "T=8", "--runs", "2", "--threads=2"];

#[test]
fn a_profile_says_where_the_time_went() {
    let folder = tempfile::tempdir().unwrap();
    let trace = folder.path().join("trace.json");
    let small = ["V=50", "P=16", "D=32", "heads=2", "F=64", "n=3"].map(|set| format!("--set={set}"));
    let profile = |more: &[&str]| {
        let output = mdlc().arg("profile").args(MODEL).args(&small).args(more).assert().code(0);
        String::from_utf8(output.get_output().stdout.clone()).unwrap()
    };
    let value: Value =
        serde_json::from_str(&profile(&["--json", "--trace", trace.to_str().unwrap()])).unwrap();
    let kernels = value["kernels"].as_array().unwrap();
    let shares: f64 = kernels.iter().map(|kernel| kernel["share"].as_f64().unwrap()).sum();
    let between = value["seconds_between_kernels"].as_f64().unwrap();
    let whole = shares + between / value["seconds_with_marks"].as_f64().unwrap();
    assert!((whole - 1.0).abs() < 1e-6, "{whole}");
    let named = |what: &str, module: &str| {
        kernels.iter().find(|kernel| kernel["what"] == what && kernel["module"] == module)
    };
    let product = named("product 8x96x32", "transformer.h.1.attn.c_attn").unwrap();
    assert_eq!(product["place"], "models/gpt2.mdl:9");
    assert_eq!(product["flops"], 2.0 * 8.0 * 96.0 * 32.0);
    assert_eq!(product["bytes"], 4.0 * (8.0 * 32.0 + 32.0 * 96.0 + 8.0 * 96.0));
    assert_eq!(product["runs"], 1.0);
    assert!(product["roofline"].as_f64().unwrap() > 0.0);

    let events: Value = serde_json::from_str(&fs::read_to_string(&trace).unwrap()).unwrap();
    let events = events["traceEvents"].as_array().unwrap();
    let complete: Vec<&Value> = events.iter().filter(|event| event["ph"] == "X").collect();
    assert_eq!(complete.iter().filter(|event| event["cat"] == "call").count(), 3);
    assert_eq!(complete.iter().filter(|event| event["cat"] == "kernel").count(), kernels.len());
    let number = |event: &Value, field: &str| event[field].as_f64().unwrap();
    let call = complete.iter().find(|event| event["cat"] == "model").unwrap();
    let end = number(call, "ts") + number(call, "dur");
    assert!(complete.iter().all(|event| number(event, "ts") + number(event, "dur") <= end + 1e-6));

    let merged: Value = serde_json::from_str(&profile(&["--json", "--merge"])).unwrap();
    let merged = merged["kernels"].as_array().unwrap();
    assert!(merged.len() < kernels.len() / 2);
    let all = merged.iter().find(|kernel| kernel["what"] == "product 8x96x32").unwrap();
    assert_eq!((&all["instances"], &all["runs"]), (&Value::from(3), &Value::from(3.0)));
    assert_eq!(all["module"], "transformer.h");

    let text = profile(&["--top", "2"]);
    for part in ["GFLOP/s", "this machine", "models/gpt2.mdl:", "other kernels", "between kernels"] {
        assert!(text.contains(part), "{part} in\n{text}");
    }
}
