//! Round trips, files that lie, and writes that fail.

mod atomic;
mod npy;
mod npz;
mod png;
mod round_trip;
mod safetensors;

use std::path::PathBuf;

use tempfile::TempDir;

use super::{FileError, NamedTensors, write_tensors};
use crate::tensor::Tensor;

/// One tensor of every type, a scalar, and empty ones.
fn samples() -> NamedTensors {
    [
        ("f32", Tensor::new([2, 3], vec![1.5f32, -0.0, f32::INFINITY, 1e-45, -2.0, 3.0]).unwrap()),
        ("f64", Tensor::new([3], vec![1.5f64, -2.0, 5e-324]).unwrap()),
        ("layer.0/i32", Tensor::new([1, 2, 1], vec![i32::MIN, 7]).unwrap()),
        ("i64", Tensor::new([2, 1], vec![i64::MAX, -7]).unwrap()),
        ("bool", Tensor::new([3], vec![true, false, true]).unwrap()),
        ("empty", Tensor::new([0, 4], Vec::<f32>::new()).unwrap()),
        ("empty bool", Tensor::new([2, 0], Vec::<bool>::new()).unwrap()),
        ("größe", Tensor::scalar_f32(3.0)),
        ("rank 8", Tensor::new([1, 2, 1, 1, 2, 1, 1, 1], vec![1i32, 2, 3, 4]).unwrap()),
    ]
    .into_iter()
    .map(|(name, tensor)| (name.to_owned(), tensor))
    .collect()
}

/// A few tensors that make a small file.
fn small() -> NamedTensors {
    [("w", Tensor::new([2], vec![1.0f32, 2.0]).unwrap()), ("m", Tensor::new([1], vec![true]).unwrap())]
        .into_iter()
        .map(|(name, tensor)| (name.to_owned(), tensor))
        .collect()
}

/// The bytes that are written for some tensors.
fn file_bytes(extension: &str, tensors: &NamedTensors) -> Vec<u8> {
    let (_folder, path) = place(extension);
    write(&path, tensors).unwrap();
    std::fs::read(path).unwrap()
}

/// A name in a fresh folder that goes when it is dropped.
fn place(extension: &str) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(format!("t.{extension}"));
    (folder, path)
}

fn write(path: &std::path::Path, tensors: &NamedTensors) -> Result<(), FileError> {
    write_tensors(path, tensors.iter().map(|(name, t)| (name, t.view())))
}

/// Every file that differs from `bytes` in one byte, by a few telling values each.
fn for_each_mutant(bytes: &[u8], mut check: impl FnMut(usize, &[u8])) {
    let mut mutant = bytes.to_vec();
    for at in 0..bytes.len() {
        let byte = bytes[at];
        for value in [0, 0xff, byte ^ 1, byte ^ 0x80, byte.wrapping_add(1), b'9', b'[', b'"'] {
            if value != byte {
                mutant[at] = value;
                check(at, &mutant);
            }
        }
        mutant[at] = byte;
    }
}
