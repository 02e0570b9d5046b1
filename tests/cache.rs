//! Programs from the cache are the programs that were compiled, or none.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use assert_cmd::cargo::cargo_bin;
use mdlc::{Cache, Compiler, Model, Tensor, Weights};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

const MODEL: &str = "
use \"parts.mdl\"

module Net(C) {
    lin = Linear(C, 4)
    forward(x: [B, C], k: i64[N]) -> (y: [B, 4], p: [N]) {
        require B > 0, \"nothing to do\"
        let y = double(tanh(lin(x)))
        let p[i] = y[0, k[i]]
        (y, p)
    }
}
model net = Net(6)
";
const PARTS: &str = "fn double(x: [..]) = x * 2.0\n";

/// A model of two files beside an empty cache.
struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    fn new() -> Place {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("m.mdl"), MODEL).unwrap();
        fs::write(folder.path().join("parts.mdl"), PARTS).unwrap();
        Place { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn model(&self) -> PathBuf {
        self.path("m.mdl")
    }

    fn cache(&self) -> PathBuf {
        self.path("cache")
    }

    fn command(&self, program: &Path, args: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.args(args).arg(self.model()).env("MDLC_CACHE_DIR", self.cache());
        command
    }

    /// What `run --json` says, and whether it was cached.
    fn run(&self, args: &[&str]) -> (Value, bool) {
        self.run_by(&cargo_bin("mdlc"), args)
    }

    fn run_by(&self, program: &Path, args: &[&str]) -> (Value, bool) {
        let output = self.command(program, &["run", "--json"]).args(args).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let value: Value = serde_json::from_slice(&output.stdout).unwrap();
        let cached = value["cached"].as_bool().unwrap();
        (value["outputs"].clone(), cached)
    }

    fn entries(&self) -> Vec<PathBuf> {
        let Ok(entries) = fs::read_dir(self.cache()) else { return Vec::new() };
        let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        paths
    }

    fn compiler(&self) -> Compiler {
        Compiler::new().cache(Cache::open(self.cache()).unwrap())
    }

    fn bound(&self) -> Model {
        self.compiler().compile_file(self.model()).unwrap().bind(&Weights::initialised(1)).unwrap()
    }
}

#[test]
fn what_is_found_computes_the_same() {
    let place = Place::new();
    let (first, cached) = place.run(&[]);
    assert!(!cached);
    assert_eq!(place.entries().len(), 1);
    assert_eq!(place.run(&[]), (first.clone(), true));
    assert_eq!(place.run(&["--no-cache"]), (first, false));
    let verbose = place.command(&cargo_bin("mdlc"), &["bench", "--runs=1"]).output().unwrap();
    let text = String::from_utf8(verbose.stdout).unwrap();
    assert!(text.contains("(from the cache)") && text.contains("by the cost model"), "{text}");
}

#[test]
fn nothing_is_kept_without_the_cache() {
    let place = Place::new();
    assert!(!place.run(&["--no-cache"]).1);
    assert_eq!(place.entries(), Vec::<PathBuf>::new());
    assert!(!place.cache().exists());
}

#[test]
fn every_change_of_what_decides_the_code_is_noticed() {
    let place = Place::new();
    let hit = |args: &[&str]| {
        let (first, cached) = place.run(args);
        assert!(!cached, "{args:?}");
        assert_eq!(place.run(args), (first, true), "{args:?}");
    };
    hit(&[]);
    for args in [["--dim", "B=3"], ["--set", "C=7"], ["--backend", "clif"], ["--target-cpu", "baseline"]] {
        hit(&args);
    }
    // A file that is imported.
    fs::write(place.path("parts.mdl"), PARTS.replace("2.0", "3.0")).unwrap();
    hit(&[]);
    // And back: the entry of that text was replaced.
    fs::write(place.path("parts.mdl"), PARTS).unwrap();
    hit(&[]);
    fs::write(place.model(), MODEL.replace("tanh", "sin")).unwrap();
    hit(&[]);
    fs::remove_file(place.path("parts.mdl")).unwrap();
    let output = place.command(&cargo_bin("mdlc"), &["run"]).output().unwrap();
    assert_eq!(output.status.code(), Some(3), "a file that is gone is missed");
}

/// The same version in another file, whose size and times of modification may well be the same.
#[test]
fn another_build_compiles_for_itself() {
    let place = Place::new();
    let (outputs, _) = place.run(&[]);
    let other = place.path("mdlc-other");
    fs::copy(cargo_bin("mdlc"), &other).unwrap();
    let modified = fs::metadata(cargo_bin("mdlc")).unwrap().modified().unwrap();
    assert_eq!(place.run_by(&other, &[]), (outputs.clone(), false));
    assert_eq!(place.run_by(&other, &[]), (outputs.clone(), true));
    // Changed in place, and given the time that it had.
    let bytes = fs::read(&other).unwrap();
    fs::write(&other, bytes).unwrap();
    fs::File::open(&other).unwrap().set_modified(modified).unwrap();
    assert_eq!(place.run_by(&other, &[]), (outputs.clone(), false));
    assert_eq!(place.run_by(&other, &[]), (outputs.clone(), true));
    assert_eq!(place.run(&[]), (outputs, true), "both are kept");
}

fn inputs() -> (Tensor, Tensor) {
    let x = Tensor::new([2, 6], (0..12).map(|k| k as f32 / 7.0).collect::<Vec<f32>>()).unwrap();
    (x, Tensor::new([3], vec![0_i64, 3, 1]).unwrap())
}

/// Damaged anywhere, cut anywhere: compiled anew, and the entry is whole again.
#[test]
fn damaged_entries_are_replaced() {
    let place = Place::new();
    let (x, k) = inputs();
    let call = |model: &Model| model.call([("x", x.view()), ("k", k.view())]).unwrap();
    let wanted = call(&place.bound());
    let [entry] = place.entries().try_into().unwrap();
    let whole = fs::read(&entry).unwrap();
    let step = (whole.len() / 20).max(1);
    let mut damages: Vec<Vec<u8>> = (0..whole.len()).step_by(step).map(|at| whole[..at].to_vec()).collect();
    damages.extend((0..whole.len()).step_by(step).map(|at| {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x10;
        bytes
    }));
    damages.push([whole.clone(), b"more".to_vec()].concat());
    damages.push(vec![0; whole.len()]);
    for (number, damaged) in damages.into_iter().enumerate() {
        fs::write(&entry, damaged).unwrap();
        assert_eq!(call(&place.bound()), wanted, "damage {number}");
        assert_eq!(
            fs::read(&entry).unwrap().len(),
            whole.len(),
            "damage {number}: the entry was not replaced"
        );
        assert_eq!(call(&place.bound()), wanted);
    }
}

/// An entry under the name of another is not taken for it.
#[test]
fn entries_say_what_they_are_for() {
    let place = Place::new();
    let (outputs, _) = place.run(&[]);
    let [first] = place.entries().try_into().unwrap();
    place.run(&["--set", "C=7"]);
    let second = place.entries().into_iter().find(|path| *path != first).unwrap();
    fs::copy(&second, &first).unwrap();
    assert_eq!(place.run(&[]), (outputs, false));
}

#[test]
fn processes_may_write_at_once() {
    let place = Place::new();
    let start = |_: usize| -> Child {
        let mut command = place.command(&cargo_bin("mdlc"), &["run", "--json"]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let children: Vec<Child> = (0..6).map(start).collect();
    let mut outputs = Vec::new();
    for child in children {
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let value: Value = serde_json::from_slice(&output.stdout).unwrap();
        outputs.push(value["outputs"].clone());
    }
    assert!(outputs.windows(2).all(|pair| pair[0] == pair[1]));
    assert_eq!(place.entries().len(), 1, "one entry, and no temporary files: {:?}", place.entries());
    assert_eq!(place.run(&[]), (outputs.swap_remove(0), true));
}

/// Failures point into the same lines and say the same, whether compiled or found.
#[test]
fn errors_of_calls_are_the_same() {
    let place = Place::new();
    let k = place.path("k.npy");
    let bad = Tensor::new([2], vec![0_i64, 9]).unwrap();
    mdlc::files::write_tensors(&k, [("k", bad.view())]).unwrap();
    let none = place.path("x.npy");
    let empty = Tensor::new([0, 6], Vec::<f32>::new()).unwrap();
    mdlc::files::write_tensors(&none, [("x", empty.view())]).unwrap();
    let failure = |args: &[String]| {
        let output = place.command(&cargo_bin("mdlc"), &["run"]).args(args).output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8(output.stderr).unwrap()
    };
    for (name, path, told) in [("k", &k, "index-out-of-range"), ("x", &none, "nothing to do")] {
        let input = ["--input".to_string(), format!("{name}={}", path.display())];
        let compiled = failure(&input);
        assert!(compiled.contains(told) && compiled.contains("m.mdl:"), "{compiled}");
        assert_eq!(place.entries().len(), if name == "k" { 1 } else { 2 });
        assert_eq!(failure(&input), compiled);
    }
}

#[test]
#[cfg(unix)]
fn folders_that_others_may_write_are_not_used() {
    use std::os::unix::fs::PermissionsExt;
    let place = Place::new();
    fs::create_dir(place.cache()).unwrap();
    fs::set_permissions(place.cache(), fs::Permissions::from_mode(0o777)).unwrap();
    let output = place.command(&cargo_bin("mdlc"), &["run", "--json"]).output().unwrap();
    assert!(output.status.success());
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(told.contains("warning[cache-unusable]") && told.contains("others may write to it"), "{told}");
    assert_eq!(place.entries(), Vec::<PathBuf>::new());
}

/// All that divides, recurs and loops over constants, found again.
#[test]
fn published_models_come_back() {
    let folder = tempfile::tempdir().unwrap();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for args in [
        &["models/lstm.mdl", "--model", "lstm", "--set", "H=24"][..],
        &[
            "models/gpt2.mdl",
            "--model",
            "GPT2",
            "--set=V=50",
            "--set=P=16",
            "--set=D=32",
            "--set=heads=2",
            "--set=F=64",
            "--set=n=3",
        ],
        &["models/highway.mdl", "--model", "highway"],
    ] {
        let run = || {
            let mut command = Command::new(cargo_bin("mdlc"));
            command.current_dir(root).args(["run", "--json", "--threads=2"]).args(args);
            let output = command.env("MDLC_CACHE_DIR", folder.path().join("cache")).output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            let value: Value = serde_json::from_slice(&output.stdout).unwrap();
            (value["outputs"].clone(), value["cached"].as_bool().unwrap())
        };
        let (compiled, was_cached) = run();
        assert!(!was_cached, "{args:?}");
        assert_eq!(run(), (compiled, true), "{args:?}");
    }
}

#[test]
fn verification_uses_the_cache() {
    let folder = tempfile::tempdir().unwrap();
    let cache = folder.path().join("cache");
    let verify = || {
        let mut command = Command::new(cargo_bin("mdlc"));
        command.current_dir(env!("CARGO_MANIFEST_DIR")).env("MDLC_CACHE_DIR", &cache);
        command.args([
            "verify",
            "--cases",
            "tests/oracles/cases.toml",
            "--only",
            "op_activations",
            "--backend",
            "clif",
        ]);
        assert!(command.output().unwrap().status.success());
        let mut found: Vec<_> = fs::read_dir(&cache).unwrap().map(|entry| entry.unwrap()).collect();
        assert_eq!(found.len(), 1);
        let entry = found.remove(0);
        (entry.file_name(), fs::read(entry.path()).unwrap(), entry.metadata().unwrap().modified().unwrap())
    };
    let (name, bytes, first) = verify();
    let (again, same, second) = verify();
    assert_eq!((name, bytes), (again, same));
    assert!(second > first, "what is used is marked as used");
}
