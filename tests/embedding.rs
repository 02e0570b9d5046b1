//! The programs of `examples/` do what they say: the C ones give the bits that the Rust API gives.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use mdlc::{Compiler, Tensor, Weights};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// As the C programs make them.
fn numbers(shape: &[usize]) -> Tensor {
    let count = shape.iter().product::<usize>();
    let number = |k: usize| (k as i64 % 7 - 3) as f32 * 0.1;
    Tensor::new(shape.to_vec(), (0..count).map(number).collect::<Vec<f32>>()).unwrap()
}

fn succeeded(command: &mut Command) -> Output {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output
}

/// Compiles the feed-forward network to an archive in `folder` and builds a program of `examples/c` with it;
/// `None` on a machine without a C compiler.
fn built(folder: &Path, source: &str, (width, hidden): (usize, usize)) -> Option<PathBuf> {
    Command::new("cc").arg("--version").output().ok()?;
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let archive = folder.join("ffn.a");
    succeeded(
        Command::new(env!("CARGO_BIN_EXE_mdlc"))
            .args(["compile", "models/feed_forward.mdl", "--model", "ffn_gelu"])
            .args(["--set", &format!("D={width}"), "--set", &format!("F={hidden}"), "-o"])
            .arg(&archive)
            .current_dir(root),
    );
    let program = folder.join("program");
    succeeded(
        Command::new("cc")
            .args(["-std=c11", "-O2", "-Wall", "-Wextra", "-Werror", "-I"])
            .arg(folder)
            .arg(root.join("examples/c").join(source))
            .arg(&archive)
            .args(["-lpthread", "-o"])
            .arg(&program),
    );
    Some(program)
}

fn printed(output: &Output) -> Vec<f32> {
    String::from_utf8_lossy(&output.stdout).lines().map(|line| line.parse().unwrap()).collect()
}

/// What the Rust API gives for the made-up weights and an input of `shape`.
fn by_rust(shape: &[usize; 3], hidden: usize) -> Vec<f32> {
    let width = shape[2];
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let compiler = Compiler::new().model("ffn_gelu").set("D", width.to_string()).set("F", hidden.to_string());
    let compiled = compiler.compile_file(root.join("models/feed_forward.mdl")).unwrap();
    let weights = [
        ("0.weight", vec![hidden, width]),
        ("0.bias", vec![hidden]),
        ("2.weight", vec![width, hidden]),
        ("2.bias", vec![width]),
    ];
    let weights = weights.map(|(name, shape)| (name.to_string(), numbers(&shape)));
    let model = compiled.bind(&Weights::from_tensors(weights)).unwrap();
    let x = numbers(shape);
    let outputs = model.call([("x", x.view())]).unwrap();
    outputs.get("y").unwrap().as_f32().unwrap().to_vec()
}

#[test]
fn the_c_example_gives_the_bits_of_the_rust_api() {
    let folder = tempfile::tempdir().unwrap();
    let Some(program) = built(folder.path(), "ffn.c", (16, 64)) else { return };
    let ran = succeeded(&mut Command::new(program));
    assert_eq!(by_rust(&[2, 3, 16], 64), printed(&ran));
}

/// The host's pool is asked to run tasks, and the bits stay.
#[test]
fn the_example_with_pthreads_gives_the_same_bits_on_any_number_of_threads() {
    let folder = tempfile::tempdir().unwrap();
    let Some(program) = built(folder.path(), "threads.c", (64, 256)) else { return };
    let want = by_rust(&[1, 256, 64], 256);
    for threads in [1, 2, 3, 8] {
        let ran = succeeded(Command::new(&program).arg(threads.to_string()));
        assert_eq!(want, printed(&ran), "with {threads} threads");
        let said = String::from_utf8_lossy(&ran.stderr);
        let jobs: u64 = said.split(' ').next().unwrap().parse().unwrap();
        assert_eq!(jobs > 0, threads > 1, "{said}");
    }
}
