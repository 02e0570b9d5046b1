//! Weights and inputs that are damaged: a clear error that names the file or the tensor, never a fault.
//! What the formats themselves refuse is tested beside them; here the whole program is.

use super::process::Mdlc;
use mdlc::files::{read_tensors, write_tensors};
use mdlc::tensor::Tensor;
use mdlc::{Compiler, Weights};
use std::fs;
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

const MODEL: &str = "
module Two {
    param w: [3, 2] = zeros()
    param b: [3] = zeros()
    buffer n: i64[] = zeros()
    forward(x: [B, 2]) -> [B, 3] = x @ w.T + b + f32(n)
}
model two = Two()
";

fn tensors() -> Vec<(&'static str, Tensor)> {
    vec![
        ("w", Tensor::new([3, 2], vec![1.0f32, 2.0, 3.0, 4.0, 5.0, 6.0]).unwrap()),
        ("b", Tensor::new([3], vec![0.5f32, 0.25, 0.125]).unwrap()),
        ("n", Tensor::new([], vec![7i64]).unwrap()),
    ]
}

fn written(folder: &Path, extension: &str) -> (PathBuf, Vec<u8>) {
    let path = folder.join(format!("w.{extension}"));
    write_tensors(&path, tensors().iter().map(|(name, t)| (*name, t.view()))).unwrap();
    let bytes = fs::read(&path).unwrap();
    (path, bytes)
}

/// Whether an error says which file or which tensor is wrong.
fn names_its_subject(text: &str, path: &Path) -> bool {
    let name = path.file_name().unwrap().to_string_lossy().into_owned();
    text.contains(&name) || ["`w`", "`b`", "`n`", "w.npy", "b.npy", "n.npy"].iter().any(|n| text.contains(n))
}

/// Every byte cut, flipped, zeroed and raised, through the reader and the binding. Whatever still reads
/// binds or is told as a difference of weights, and a call of what binds gives a result.
#[test]
fn damaged_weights_are_refused_or_read() {
    let folder = tempfile::tempdir().unwrap();
    let compiled = Compiler::new().compile_source("two.mdl", MODEL).unwrap();
    let x = Tensor::new([1, 2], vec![1.0f32, 1.0]).unwrap();
    let (mut bound, mut refused) = (0, 0);
    let mut check = |path: &Path, bytes: &[u8], what: &str| {
        fs::write(path, bytes).unwrap();
        match read_tensors(path) {
            Err(error) => {
                let diagnostic = error.to_diagnostic();
                assert!(matches!(diagnostic.exit_code(), 1 | 3 | 4), "{what}: {error}");
                assert!(names_its_subject(&diagnostic.title, path), "{what}: {error}");
                refused += 1;
            }
            Ok(read) => match compiled.bind(&Weights::from_tensors(read)) {
                Err(error) => {
                    assert_eq!(error.to_diagnostic().exit_code(), 1, "{what}: {error}");
                    refused += 1;
                }
                Ok(model) => {
                    model.call([("x", x.view())]).unwrap();
                    bound += 1;
                }
            },
        }
    };
    for extension in ["safetensors", "npz"] {
        let (path, bytes) = written(folder.path(), extension);
        for length in 0..bytes.len() {
            check(&path, &bytes[..length], &format!("{extension} of {length} bytes"));
        }
        for at in 0..bytes.len() {
            for value in [0, 0xff, bytes[at] ^ 1, bytes[at].wrapping_add(1), b'9', b'"', b'{'] {
                let mut mutant = bytes.clone();
                mutant[at] = value;
                check(&path, &mutant, &format!("{extension} with byte {at} = {value}"));
            }
        }
    }
    println!("{bound} bound, {refused} refused");
    assert!(bound > 100 && refused > 1000, "{bound} bound, {refused} refused");
}

fn safetensors(header: &str, data: usize) -> Vec<u8> {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes.resize(bytes.len() + data, 0);
    bytes
}

/// Lies in headers, through the program: code 1, and the name of the tensor or of the file.
#[test]
fn lies_are_told_with_their_names() {
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("two.mdl");
    fs::write(&model, MODEL).unwrap();
    let entry = |name: &str, dtype: &str, shape: &str, from: u64, to: u64| {
        format!(r#""{name}":{{"dtype":"{dtype}","shape":{shape},"data_offsets":[{from},{to}]}}"#)
    };
    let w = entry("w", "F32", "[3,2]", 0, 24);
    let b = entry("b", "F32", "[3]", 24, 36);
    let n = entry("n", "I64", "[]", 36, 44);
    let good = format!("{{{w},{b},{n}}}");
    let many = (0..20_000).map(|k| entry(&format!("t{k}"), "F32", "[0]", 0, 0)).collect::<Vec<_>>().join(",");
    let deep = format!("{{\"w\":{}1{}}}", "[".repeat(100_000), "]".repeat(100_000));
    for (what, bytes, says) in [
        ("nothing wrong", safetensors(&good, 44), None),
        ("an overlap", safetensors(&good.replace("[24,36]", "[20,32]"), 44), Some("`b`")),
        ("a gap", safetensors(&good.replace("[36,44]", "[40,48]"), 48), Some("`n`")),
        ("offsets that run backwards", safetensors(&good.replace("[24,36]", "[36,24]"), 44), Some("`b`")),
        (
            "offsets past the end",
            safetensors(&good.replace("[36,44]", "[36,9223372036854775807]"), 44),
            Some("`n`"),
        ),
        ("a wrong type", safetensors(&good.replace("I64", "F64"), 44), Some("n: the model has i64[]")),
        ("a type that is none", safetensors(&good.replace("I64", "X64"), 44), Some("`n`")),
        ("a wrong shape", safetensors(&good.replace("[3,2]", "[2,3]"), 44), Some("w")),
        ("a huge shape", safetensors(&good.replace("[3,2]", "[4611686018427387904,4]"), 44), Some("`w`")),
        ("a name twice", safetensors(&good.replace("\"b\"", "\"w\""), 44), Some("`w`")),
        ("a name too many", safetensors(&good.replace("\"b\"", "\"c\""), 44), Some("c")),
        (
            "no text",
            {
                let mut bytes = safetensors(&good, 44);
                bytes[20] = 0xff;
                bytes
            },
            Some("lie.safetensors"),
        ),
        (
            "a length that lies",
            {
                let mut bytes = safetensors(&good, 44);
                bytes[..8].copy_from_slice(&u64::MAX.to_le_bytes());
                bytes
            },
            Some("lie.safetensors"),
        ),
        ("a deep header", safetensors(&deep, 0), Some("lie.safetensors")),
        ("many empty tensors", safetensors(&format!("{{{many}}}"), 0), Some("w")),
        (
            "control characters in a name",
            safetensors(&good.replace("\"b\"", "\"\\u001b[2J\\u0000\""), 44),
            Some("b"),
        ),
    ] {
        let path = folder.path().join("lie.safetensors");
        fs::write(&path, &bytes).unwrap();
        let run = Mdlc::new(["run"]).arg(&model).arg("--weights").arg(&path).run();
        match says {
            None => assert_eq!(run.code, 0, "{what}: {}", run.stderr),
            Some(words) => {
                assert_eq!(run.code, 1, "{what}: {}", run.stderr);
                assert!(run.stderr.contains(words), "{what}: {}", run.stderr);
                assert!(!run.stderr.contains('\u{1b}'), "{what}: what is shown moves the cursor");
            }
        }
    }
}

/// Paths that are no files, and files of other kinds, for everything that is read.
#[test]
fn what_is_no_file_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("two.mdl");
    fs::write(&model, MODEL).unwrap();
    let pipe = folder.path().join("pipe.safetensors");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let text = folder.path().join("text.npz");
    fs::write(&text, "not an archive").unwrap();
    let empty = folder.path().join("empty.npy");
    fs::write(&empty, "").unwrap();
    let loops = folder.path().join("loop.safetensors");
    std::os::unix::fs::symlink(&loops, &loops).unwrap();
    for option in ["--weights", "--input"] {
        for (path, codes) in [
            (folder.path().join("absent.safetensors"), &[3][..]),
            (folder.path().to_owned(), &[1, 3]),
            (text.clone(), &[1]),
            (empty.clone(), &[1]),
            (loops.clone(), &[3]),
            (pipe.clone(), &[3]),
            (PathBuf::from("/dev/zero"), &[1, 3]),
        ] {
            let run = Mdlc::new(["run"]).arg(&model).arg(option).arg(&path).run();
            assert!(codes.contains(&run.code), "{option} {}: {} {}", path.display(), run.code, run.stderr);
        }
    }
    for source in ["/dev/zero", "/dev/null", "/proc/self/mem", "/", "/proc/self/maps"] {
        let run = Mdlc::new(["check", source]).run();
        assert!(matches!(run.code, 1 | 3 | 4), "{source}: {} {}", run.code, run.stderr);
    }
}

/// A file that is cut and grows again while it is read: an error or the weights, never a fault.
#[test]
fn a_file_that_shrinks_while_it_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("big.safetensors");
    let big = Tensor::new([1 << 20], vec![1.0f32; 1 << 20]).unwrap();
    write_tensors(&path, [("big", big.view())]).unwrap();
    let bytes = fs::read(&path).unwrap();
    let done = AtomicBool::new(false);
    let (mut read, mut refused) = (0, 0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut file = fs::OpenOptions::new().write(true).open(&path).unwrap();
            let mut length = 1;
            while !done.load(Ordering::Relaxed) {
                length = (length * 7919 + 13) % bytes.len();
                file.set_len(length as u64).unwrap();
                file.seek(SeekFrom::Start(0)).unwrap();
                file.write_all(&bytes).unwrap();
                std::thread::sleep(std::time::Duration::from_millis(2));
            }
        });
        for _ in 0..200 {
            match read_tensors(&path) {
                Ok(tensors) => {
                    assert_eq!(tensors["big"].shape(), [1 << 20]);
                    read += 1;
                }
                Err(error) => {
                    assert!(matches!(error.to_diagnostic().exit_code(), 1 | 3), "{error}");
                    refused += 1;
                }
            }
        }
        done.store(true, Ordering::Relaxed);
    });
    println!("{read} read, {refused} refused");
}

/// An import is a file below the root file's folder, by whatever way it is written or linked.
#[test]
fn imports_stay_below_the_root() {
    let folder = tempfile::tempdir().unwrap();
    let (inside, outside) = (folder.path().join("inside"), folder.path().join("outside"));
    fs::create_dir_all(&inside).unwrap();
    fs::create_dir_all(&outside).unwrap();
    fs::write(outside.join("two.mdl"), MODEL).unwrap();
    fs::write(inside.join("own.mdl"), MODEL).unwrap();
    let absolute = outside.join("two.mdl").display().to_string();
    std::os::unix::fs::symlink(outside.join("two.mdl"), inside.join("link.mdl")).unwrap();
    std::os::unix::fs::symlink(&outside, inside.join("linked")).unwrap();
    std::os::unix::fs::symlink(inside.join("own.mdl"), inside.join("near.mdl")).unwrap();
    let root = inside.join("root.mdl");
    for (import, code) in [
        ("own.mdl", 0),
        ("near.mdl", 0),
        ("link.mdl", 3),
        ("linked/two.mdl", 3),
        (absolute.as_str(), 1),
        ("../outside/two.mdl", 1),
    ] {
        fs::write(&root, format!("use \"{import}\" as other\nmodel m = other.Two()\n")).unwrap();
        let run = Mdlc::new(["check"]).arg(&root).run();
        assert_eq!(run.code, code, "{import}: {}", run.stderr);
        assert!(code == 0 || run.stderr.contains(import), "{import}: {}", run.stderr);
    }
}
