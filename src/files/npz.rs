//! NumPy's `.npz` format: a zip archive of `.npy` files, stored or deflated.
//!
//! Takes a path, gives tensors by name. The archive's directory is checked whole before the first array
//! is unpacked, see [`super::zip`]; arrays that are compressed are inflated step by step, so that memory
//! follows what is really there and not what is claimed.

use std::collections::HashSet;
use std::io::Write;
use std::path::Path;

use flate2::Crc;

use crate::tensor::TensorView;

use super::error::shown;
use super::npy::{NpyError, decode_npy, encode_npy, encoded_bytes};
use super::zip::{self, Directory, Writer, ZipError};
use super::{FileError, MAX_INFLATED_BYTES, NamedTensors, read_bytes, write_bytes};

/// The end of every entry's name; the array's name is what stands before it.
const SUFFIX: &str = ".npy";

/// What is wrong with the content of an `.npz` file.
#[derive(Debug, thiserror::Error)]
pub enum NpzError {
    /// Not a zip archive that can be read.
    #[error("not an npz file: {0}")]
    Zip(#[from] ZipError),
    /// Something in the archive that is not an array.
    #[error("the entry {} is not an npy file", shown(name))]
    NotAnArray {
        /// Its name.
        name: String,
    },
    /// A name that occurs twice.
    #[error("the array {} occurs twice", shown(name))]
    Duplicate {
        /// The name.
        name: String,
    },
    /// Compressed arrays that would take too much room.
    #[error("the compressed arrays inflate to {size_bytes} bytes, more than the limit of {limit_bytes}")]
    InflatesTooFar {
        /// What the archive says they inflate to.
        size_bytes: u64,
        /// The most that is inflated.
        limit_bytes: u64,
    },
    /// Memory is short.
    #[error("out of memory: the array {} takes {size_bytes} bytes", shown(name))]
    OutOfMemory {
        /// The array.
        name: String,
        /// Bytes asked for.
        size_bytes: u64,
    },
    /// An entry whose bytes are not what the archive says.
    #[error("the array {}: {source}", shown(name))]
    Entry {
        /// The array.
        name: String,
        /// What is wrong.
        source: ZipError,
    },
    /// An entry that is not what an `.npy` file may hold.
    #[error("the array {}: {source}", shown(name))]
    Array {
        /// The array.
        name: String,
        /// What is wrong.
        source: NpyError,
    },
}

/// Reads all arrays, in the order of the archive's directory.
///
/// # Errors
/// [`FileError`] where the file cannot be read, is not a plain zip archive, holds something else than
/// arrays, or an array is not valid.
pub fn read_npz(path: impl AsRef<Path>) -> Result<NamedTensors, FileError> {
    let path = path.as_ref();
    let bytes = read_bytes(path)?;
    decode_npz(&bytes).map_err(|source| FileError::Npz { path: path.to_owned(), source })
}

/// Writes arrays without compression; the file is replaced whole or left alone. The same tensors make the
/// same bytes: there is no time in the archive.
///
/// # Errors
/// [`FileError::Unwritable`] where the system refuses, [`FileError::Npz`] where a name occurs twice or is
/// too long.
pub fn write_npz<'a, N: AsRef<str>>(
    path: impl AsRef<Path>,
    tensors: impl IntoIterator<Item = (N, TensorView<'a>)>,
) -> Result<(), FileError> {
    let path = path.as_ref();
    let tensors: Vec<(N, TensorView<'a>)> = tensors.into_iter().collect();
    check_names(&tensors).map_err(|source| FileError::Npz { path: path.to_owned(), source })?;
    write_bytes(path, |out| {
        let mut archive = Writer::new(out);
        for (name, tensor) in &tensors {
            let mut sum = CrcWriter(Crc::new());
            encode_npy(*tensor, &mut sum)?;
            let name = format!("{}{SUFFIX}", name.as_ref());
            let size_bytes = encoded_bytes(*tensor);
            encode_npy(*tensor, archive.start_entry(&name, size_bytes, sum.0.sum())?)?;
        }
        archive.finish()
    })
}

fn check_names<N: AsRef<str>>(tensors: &[(N, TensorView<'_>)]) -> Result<(), NpzError> {
    let mut seen = HashSet::new();
    for (name, _) in tensors {
        let name = name.as_ref();
        if name.len() + SUFFIX.len() > zip::MAX_NAME_BYTES {
            return Err(ZipError::Name.into());
        }
        if !seen.insert(name) {
            return Err(NpzError::Duplicate { name: name.to_owned() });
        }
    }
    Ok(())
}

pub(super) fn decode_npz(bytes: &[u8]) -> Result<NamedTensors, NpzError> {
    let directory = Directory::parse(bytes)?;
    let inflated = directory.inflated_bytes();
    if inflated > MAX_INFLATED_BYTES {
        return Err(NpzError::InflatesTooFar { size_bytes: inflated, limit_bytes: MAX_INFLATED_BYTES });
    }
    // All names before the first array, so that a wrong archive costs nothing.
    let mut names = HashSet::new();
    for entry in directory.entries() {
        let name = entry
            .name
            .strip_suffix(SUFFIX)
            .ok_or_else(|| NpzError::NotAnArray { name: entry.name.to_owned() })?;
        if !names.insert(name) {
            return Err(NpzError::Duplicate { name: name.to_owned() });
        }
    }
    let mut tensors = NamedTensors::new();
    for entry in directory.entries() {
        let name = entry.name.strip_suffix(SUFFIX).unwrap_or(entry.name).to_owned();
        let content = match entry.content() {
            Ok(content) => content,
            Err(ZipError::OutOfMemory) => {
                return Err(NpzError::OutOfMemory { name, size_bytes: entry.size_bytes });
            }
            Err(source) => return Err(NpzError::Entry { name, source }),
        };
        match decode_npy(&content) {
            Ok(tensor) => tensors.insert(name, tensor),
            Err(source) => return Err(NpzError::Array { name, source }),
        };
    }
    Ok(tensors)
}

/// Takes the checksum of what is written to it, and nothing else.
struct CrcWriter(Crc);

impl Write for CrcWriter {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
