//! Reading and writing named tensors: `.safetensors`, `.npy` and `.npz`.
//!
//! Takes a path, gives tensors or one [`FileError`]. A file is not trusted: its size, its headers and
//! every length they claim are checked against the bytes that are there before memory is asked for, so
//! a file of n bytes costs memory in proportion to n (to what it truly inflates to, where it is
//! compressed, up to [`MAX_INFLATED_BYTES`]). Files are written whole or not at all ([`atomic`]).
//!
//! This module knows nothing of models: whether the tensors are the ones a module asks for is decided
//! by whoever binds them.

pub mod atomic;
mod error;
mod map;
pub mod npy;
pub mod npz;
pub mod png;
pub mod rename;
pub mod safetensors;
mod zip;

#[cfg(test)]
mod tests;

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use indexmap::IndexMap;

pub use error::FileError;
pub use safetensors::Metadata;

use crate::tensor::{Tensor, TensorView};

/// # Units
/// Bytes of the largest file that is read.
pub const MAX_FILE_BYTES: u64 = 1 << 36;

/// # Units
/// Bytes that the compressed arrays of one archive may inflate to, together.
pub const MAX_INFLATED_BYTES: u64 = 1 << 32;

/// Tensors by name, in the order of their file.
pub type NamedTensors = IndexMap<String, Tensor>;

/// The formats, told apart by the extension of the file's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Safetensors,
    Npy,
    Npz,
}

impl Format {
    fn of(path: &Path) -> Result<Format, FileError> {
        let extension = path.extension().and_then(|e| e.to_str()).map(str::to_ascii_lowercase);
        match extension.as_deref() {
            Some("safetensors") => Ok(Format::Safetensors),
            Some("npy") => Ok(Format::Npy),
            Some("npz") => Ok(Format::Npz),
            _ => Err(FileError::UnknownFormat { path: path.to_owned() }),
        }
    }
}

/// Reads all tensors of a file. The one array of an `.npy` file gets the file's name without extension.
///
/// # Errors
/// [`FileError`] where the file cannot be read, is not what its extension says, or holds a tensor of a
/// type that is not computed with.
pub fn read_tensors(path: impl AsRef<Path>) -> Result<NamedTensors, FileError> {
    read_annotated(path).map(|(tensors, _)| tensors)
}

/// Reads all tensors of a file, and the free text it carries: `.safetensors` alone has any.
///
/// # Errors
/// As [`read_tensors`].
pub fn read_annotated(path: impl AsRef<Path>) -> Result<(NamedTensors, Metadata), FileError> {
    let path = path.as_ref();
    let tensors = match Format::of(path)? {
        Format::Safetensors => {
            let archive = safetensors::Archive::open(path)?;
            return Ok((archive.read_all()?, archive.metadata().clone()));
        }
        Format::Npy => IndexMap::from([(stem(path), npy::read_npy(path)?)]),
        Format::Npz => npz::read_npz(path)?,
    };
    Ok((tensors, Metadata::new()))
}

/// Writes tensors in the format of the path's extension; the file is replaced whole or left alone.
///
/// # Errors
/// [`FileError`] where the file cannot be written or the format cannot hold these tensors: `.npy` holds
/// exactly one, names must be unique.
pub fn write_tensors<'a, N: AsRef<str>>(
    path: impl AsRef<Path>,
    tensors: impl IntoIterator<Item = (N, TensorView<'a>)>,
) -> Result<(), FileError> {
    write_annotated(path, tensors, &Metadata::new())
}

/// Writes tensors and free text; formats that carry no text drop it.
///
/// # Errors
/// As [`write_tensors`].
pub fn write_annotated<'a, N: AsRef<str>>(
    path: impl AsRef<Path>,
    tensors: impl IntoIterator<Item = (N, TensorView<'a>)>,
    metadata: &Metadata,
) -> Result<(), FileError> {
    let path = path.as_ref();
    match Format::of(path)? {
        Format::Safetensors => safetensors::write_safetensors(path, tensors, metadata),
        Format::Npz => npz::write_npz(path, tensors),
        Format::Npy => {
            let mut all = tensors.into_iter();
            match (all.next(), all.count()) {
                (Some((_, one)), 0) => npy::write_npy(path, one),
                (first, more) => Err(FileError::Npy {
                    path: path.to_owned(),
                    source: npy::NpyError::NotOne { found: usize::from(first.is_some()) + more },
                }),
            }
        }
    }
}

fn stem(path: &Path) -> String {
    path.file_stem().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default()
}

/// Opens a regular file of at most [`MAX_FILE_BYTES`], and says how long it is.
///
/// What is not a regular file is refused before it is opened, since opening a pipe can wait for ever.
fn open_regular(path: &Path) -> Result<(File, u64), FileError> {
    let unreadable = |source| FileError::Unreadable { path: path.to_owned(), source };
    if !fs::metadata(path).map_err(unreadable)?.is_file() {
        return Err(FileError::NotRegular { path: path.to_owned() });
    }
    let file = File::open(path).map_err(unreadable)?;
    let size_bytes = file.metadata().map_err(unreadable)?.len();
    if size_bytes > MAX_FILE_BYTES {
        return Err(FileError::TooLarge { path: path.to_owned(), size_bytes, limit_bytes: MAX_FILE_BYTES });
    }
    Ok((file, size_bytes))
}

/// The bytes of a regular file. One that grows meanwhile is cut at the length it had; one that shrinks
/// comes back short, and the format's own checks find it truncated.
fn read_bytes(path: &Path) -> Result<Vec<u8>, FileError> {
    let (file, size_bytes) = open_regular(path)?;
    let mut bytes = Vec::new();
    usize::try_from(size_bytes)
        .ok()
        .and_then(|n| bytes.try_reserve_exact(n).ok())
        .ok_or_else(|| FileError::OutOfMemory { path: path.to_owned(), size_bytes })?;
    file.take(size_bytes)
        .read_to_end(&mut bytes)
        .map_err(|source| FileError::Unreadable { path: path.to_owned(), source })?;
    Ok(bytes)
}

/// Writes a file atomically, naming it in the error.
fn write_bytes(
    path: &Path,
    content: impl FnOnce(&mut atomic::Output<'_>) -> io::Result<()>,
) -> Result<(), FileError> {
    atomic::write_atomically(path, content)
        .map_err(|source| FileError::Unwritable { path: PathBuf::from(path), source })
}
