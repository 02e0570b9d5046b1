//! The programs of `examples/` do what they say: the C one gives the bits that the Rust API gives.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use mdlc::{Compiler, Tensor, Weights};
use std::path::Path;
use std::process::Command;

/// As the C program makes them.
fn numbers(shape: &[usize]) -> Tensor {
    let count = shape.iter().product::<usize>();
    let number = |k: usize| (k as i64 % 7 - 3) as f32 * 0.1;
    Tensor::new(shape.to_vec(), (0..count).map(number).collect::<Vec<f32>>()).unwrap()
}

#[test]
fn the_c_example_gives_the_bits_of_the_rust_api() {
    if Command::new("cc").arg("--version").output().is_err() {
        return; // A machine without a C compiler cannot build it.
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = tempfile::tempdir().unwrap();
    let archive = folder.path().join("ffn.a");
    let made = Command::new(env!("CARGO_BIN_EXE_mdlc"))
        .args(["compile", "models/feed_forward.mdl", "--model", "ffn_gelu", "--set", "D=16", "--set", "F=64"])
        .arg("-o")
        .arg(&archive)
        .current_dir(root)
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let program = folder.path().join("ffn");
    let built = Command::new("cc")
        .args(["-std=c11", "-O2", "-Wall", "-Wextra", "-Werror", "-I"])
        .arg(folder.path())
        .arg(root.join("examples/c/ffn.c"))
        .arg(&archive)
        .arg("-o")
        .arg(&program)
        .output()
        .unwrap();
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    let ran = Command::new(&program).output().unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    let found: Vec<f32> =
        String::from_utf8(ran.stdout).unwrap().lines().map(|line| line.parse().unwrap()).collect();

    let compiler = Compiler::new().model("ffn_gelu").set("D", "16").set("F", "64");
    let compiled = compiler.compile_file(root.join("models/feed_forward.mdl")).unwrap();
    let weights =
        [("0.weight", vec![64, 16]), ("0.bias", vec![64]), ("2.weight", vec![16, 64]), ("2.bias", vec![16])];
    let weights = weights.map(|(name, shape)| (name.to_string(), numbers(&shape)));
    let model = compiled.bind(&Weights::from_tensors(weights)).unwrap();
    let x = numbers(&[2, 3, 16]);
    let outputs = model.call([("x", x.view())]).unwrap();
    assert_eq!(outputs.get("y").unwrap().as_f32().unwrap(), found);
}
