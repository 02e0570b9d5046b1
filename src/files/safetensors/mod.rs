//! The safetensors format: a length, a JSON header, and the bytes of all tensors.
//!
//! Takes bytes, gives an [`Archive`] whose every entry has been checked: the type is known, the shape can
//! be addressed, the entries cover the data exactly once. Tensors are decoded when asked for.
//!
//! The `safetensors` crate gives the types of the header. Its own reader is not used because it accepts
//! names that occur twice, adds offsets that may overflow, does not name the tensor it refuses, and
//! writes metadata in the order of a hash map.
//!
//! # Source
//! The format as described in the README of the `safetensors` project.

mod header;

use std::io::Write;
use std::ops::Range;
use std::path::{Path, PathBuf};

use indexmap::IndexMap;
use safetensors::Dtype;
use safetensors::tensor::TensorInfo;

use crate::dtype::DType;
use crate::tensor::{self, Tensor, TensorError, TensorView};

use self::header::{header_bytes, parse_header};
use super::error::shown;
use super::map::{Bytes, map_file};
use super::{FileError, NamedTensors, open_regular, read_bytes, write_bytes};

/// Bytes of the field that says how long the header is.
const LENGTH_BYTES: usize = 8;

/// # Units
/// Bytes of the longest header, as the format has it.
pub const MAX_HEADER_BYTES: u64 = 100_000_000;

/// Free text by name, in the order of the file.
pub type Metadata = IndexMap<String, String>;

/// What is wrong with the content of a `.safetensors` file.
#[derive(Debug, thiserror::Error)]
pub enum SafetensorsError {
    /// Too short for the length of a header.
    #[error("the file has {found} bytes, a safetensors file has at least {LENGTH_BYTES}")]
    NoHeader {
        /// Bytes there are.
        found: usize,
    },
    /// The header would reach past the end of the file, or past the limit of the format.
    #[error("the header claims {claimed} bytes, {available} follow and {MAX_HEADER_BYTES} are allowed")]
    HeaderLength {
        /// Bytes the header claims to have.
        claimed: u64,
        /// Bytes of the file after the length.
        available: usize,
    },
    /// Not UTF-8, not JSON, not the fields of a tensor, or a name that occurs twice.
    #[error("the header is not valid: {reason}")]
    Header {
        /// What the parser said, with line and column.
        reason: String,
    },
    /// The data goes on after the last tensor.
    #[error("the tensors cover {covered} bytes of data, the file has {available}")]
    Uncovered {
        /// Bytes that belong to tensors.
        covered: usize,
        /// Bytes of data.
        available: usize,
    },
    /// Something about one tensor.
    #[error("tensor {}: {problem}", shown(name))]
    Entry {
        /// Its name.
        name: String,
        /// What about it.
        problem: EntryError,
    },
}

/// What is wrong with one tensor of a `.safetensors` file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EntryError {
    /// A shape that cannot be, elements that cannot be, or no memory for them.
    #[error(transparent)]
    Tensor(#[from] TensorError),
    /// Offsets that run backwards or past the data.
    #[error("its data offsets {start}..{end} do not lie in the {available} bytes of data")]
    Offsets {
        /// First byte.
        start: usize,
        /// One past the last byte.
        end: usize,
        /// Bytes of data.
        available: usize,
    },
    /// Offsets that do not go on where the tensor before ends.
    #[error("its data starts at byte {start}, but the data before it ends at byte {expected}")]
    NotAdjacent {
        /// First byte.
        start: usize,
        /// Where the data before it ends.
        expected: usize,
    },
    /// Offsets that do not fit type and shape.
    #[error("{dtype} of this shape takes {expected} bytes, its data offsets span {found}")]
    Size {
        /// Type, as the format names it.
        dtype: String,
        /// Bytes of type and shape.
        expected: usize,
        /// Bytes between the offsets.
        found: usize,
    },
    /// A shape of a type smaller than a byte that ends inside one.
    #[error("{dtype} of this shape does not fill whole bytes")]
    PartialByte {
        /// Type, as the format names it.
        dtype: String,
    },
    /// A type that is not computed with.
    #[error("its type {dtype} is not supported")]
    Unsupported {
        /// Type, as the format names it.
        dtype: String,
    },
    /// Asked for by a name that the archive does not hold.
    #[error("the archive does not hold it")]
    Missing,
    /// Written twice.
    #[error("the name is given twice")]
    Duplicate,
    /// Written under the name that the format uses for metadata.
    #[error("the name is reserved by the format")]
    Reserved,
}

/// One tensor of an archive, checked and not yet decoded.
#[derive(Clone, Debug)]
struct Entry {
    dtype: Dtype,
    shape: Vec<usize>,
    /// Within the bytes of the file.
    bytes: Range<usize>,
}

/// A `.safetensors` file, validated whole; tensors are decoded when asked for.
#[derive(Debug)]
pub struct Archive {
    path: PathBuf,
    bytes: Bytes,
    entries: IndexMap<String, Entry>,
    metadata: Metadata,
}

impl Archive {
    /// Reads a file into memory and checks it.
    ///
    /// # Errors
    /// [`FileError`] where the file cannot be read or breaks a rule of the format.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, FileError> {
        let path = path.as_ref();
        Archive::checked(path, Bytes::Owned(read_bytes(path)?))
    }

    /// Maps a file into memory and checks it, which saves a copy of large files.
    ///
    /// The caller promises that nobody shortens or writes the file while the archive lives. If somebody
    /// shortens it, the process ends with a bus error at the next tensor that is decoded; prefer
    /// [`Archive::open`] for files that are not yours alone.
    ///
    /// # Errors
    /// As [`Archive::open`].
    pub fn open_mapped(path: impl AsRef<Path>) -> Result<Self, FileError> {
        let path = path.as_ref();
        let (file, _) = open_regular(path)?;
        let bytes =
            map_file(&file).map_err(|source| FileError::Unreadable { path: path.to_owned(), source })?;
        Archive::checked(path, bytes)
    }

    /// Checks bytes that are there already; `path` is what errors call them.
    ///
    /// # Errors
    /// [`FileError::Safetensors`] where the bytes break a rule of the format.
    pub fn from_bytes(path: impl AsRef<Path>, bytes: Vec<u8>) -> Result<Self, FileError> {
        Archive::checked(path.as_ref(), Bytes::Owned(bytes))
    }

    fn checked(path: &Path, bytes: Bytes) -> Result<Self, FileError> {
        let (entries, metadata) =
            validate(&bytes).map_err(|source| FileError::Safetensors { path: path.to_owned(), source })?;
        Ok(Archive { path: path.to_owned(), bytes, entries, metadata })
    }

    /// Where it was read from.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The number of tensors.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are no tensors.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The names of all tensors, in the order of the header.
    pub fn names(&self) -> impl ExactSizeIterator<Item = &str> {
        self.entries.keys().map(String::as_str)
    }

    /// The shape of a tensor, without decoding it.
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        self.entries.get(name).map(|e| e.shape.as_slice())
    }

    /// The type of a tensor, where the language has it; half precision is named but cannot be decoded.
    pub fn dtype(&self, name: &str) -> Option<DType> {
        self.entries.get(name).and_then(|e| language_dtype(e.dtype))
    }

    /// The free text that the file carries.
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// Decodes one tensor.
    ///
    /// # Errors
    /// [`FileError::Safetensors`] where the name is not there, the type is not computed with, a bool is
    /// neither 0 nor 1, or memory is short.
    pub fn tensor(&self, name: &str) -> Result<Tensor, FileError> {
        let decoded = self.entries.get(name).ok_or(EntryError::Missing).and_then(|e| self.decode(e));
        decoded.map_err(|problem| FileError::Safetensors {
            path: self.path.clone(),
            source: SafetensorsError::Entry { name: name.to_owned(), problem },
        })
    }

    /// Decodes all tensors.
    ///
    /// # Errors
    /// As [`Archive::tensor`], for the first tensor that fails.
    pub fn read_all(&self) -> Result<NamedTensors, FileError> {
        self.entries.keys().map(|name| Ok((name.clone(), self.tensor(name)?))).collect()
    }

    fn decode(&self, entry: &Entry) -> Result<Tensor, EntryError> {
        let unsupported = || EntryError::Unsupported { dtype: entry.dtype.to_string() };
        match language_dtype(entry.dtype) {
            None | Some(DType::F16 | DType::BF16) => Err(unsupported()),
            Some(dtype) => {
                let bytes = &self.bytes[entry.bytes.clone()];
                Ok(Tensor::from_le_bytes(dtype, entry.shape.as_slice(), bytes)?)
            }
        }
    }
}

fn language_dtype(dtype: Dtype) -> Option<DType> {
    Some(match dtype {
        Dtype::F32 => DType::F32,
        Dtype::F64 => DType::F64,
        Dtype::F16 => DType::F16,
        Dtype::BF16 => DType::BF16,
        Dtype::I32 => DType::I32,
        Dtype::I64 => DType::I64,
        Dtype::BOOL => DType::Bool,
        _ => return None,
    })
}

/// Checks everything that can be checked without decoding; nothing is allocated but the header's own.
fn validate(bytes: &[u8]) -> Result<(IndexMap<String, Entry>, Metadata), SafetensorsError> {
    let Some((length, rest)) = bytes.split_first_chunk::<LENGTH_BYTES>() else {
        return Err(SafetensorsError::NoHeader { found: bytes.len() });
    };
    let claimed = u64::from_le_bytes(*length);
    let too_long = SafetensorsError::HeaderLength { claimed, available: rest.len() };
    if claimed > MAX_HEADER_BYTES || claimed > rest.len() as u64 {
        return Err(too_long);
    }
    let (text, data) = rest.split_at_checked(claimed as usize).ok_or(too_long)?;
    let header = parse_header(text)?;
    check_coverage(&header.tensors, data.len())?;

    let data_start = LENGTH_BYTES + text.len();
    let mut entries = IndexMap::with_capacity(header.tensors.len());
    for (name, info) in header.tensors {
        let (start, end) = info.data_offsets;
        let bytes = data_start + start..data_start + end;
        entries.insert(name, Entry { dtype: info.dtype, shape: info.shape, bytes });
    }
    Ok((entries, header.metadata))
}

/// Each tensor spans as many bytes as its type and shape take, and all of them cover the data once.
fn check_coverage(tensors: &IndexMap<String, TensorInfo>, available: usize) -> Result<(), SafetensorsError> {
    for (name, info) in tensors {
        check_span(info, available)
            .map_err(|problem| SafetensorsError::Entry { name: name.clone(), problem })?;
    }
    let mut by_offset: Vec<(&String, &TensorInfo)> = tensors.iter().collect();
    by_offset.sort_by_key(|(_, info)| info.data_offsets);
    let mut expected = 0;
    for (name, info) in by_offset {
        let (start, end) = info.data_offsets;
        if start != expected {
            let problem = EntryError::NotAdjacent { start, expected };
            return Err(SafetensorsError::Entry { name: name.clone(), problem });
        }
        expected = end;
    }
    if expected != available {
        return Err(SafetensorsError::Uncovered { covered: expected, available });
    }
    Ok(())
}

fn check_span(info: &TensorInfo, available: usize) -> Result<(), EntryError> {
    let dtype = || info.dtype.to_string();
    let (start, end) = info.data_offsets;
    let found = end.checked_sub(start).filter(|_| end <= available).ok_or(EntryError::Offsets {
        start,
        end,
        available,
    })?;
    let bits = tensor::elems(&info.shape)?
        .checked_mul(info.dtype.bitsize())
        .ok_or_else(|| TensorError::TooLarge { shape: info.shape.clone() })?;
    if bits % 8 != 0 {
        return Err(EntryError::PartialByte { dtype: dtype() });
    }
    let expected = bits / 8;
    if expected != found {
        return Err(EntryError::Size { dtype: dtype(), expected, found });
    }
    Ok(())
}

/// Writes tensors and free text; the file is replaced whole or left alone.
///
/// The widest types come first, otherwise the given order is kept, so that every tensor is aligned to its
/// elements and the same tensors make the same bytes.
///
/// # Errors
/// [`FileError::Unwritable`] where the system refuses, [`FileError::Safetensors`] where a name occurs
/// twice or is the one the format reserves.
pub fn write_safetensors<'a, N: AsRef<str>>(
    path: impl AsRef<Path>,
    tensors: impl IntoIterator<Item = (N, TensorView<'a>)>,
    metadata: &Metadata,
) -> Result<(), FileError> {
    let path = path.as_ref();
    let mut tensors: Vec<(N, TensorView<'a>)> = tensors.into_iter().collect();
    tensors.sort_by_key(|(_, t)| std::cmp::Reverse(t.dtype().size_bytes()));
    let header = header_bytes(&tensors, metadata)
        .map_err(|source| FileError::Safetensors { path: path.to_owned(), source })?;
    write_bytes(path, |out| {
        out.write_all(&(header.len() as u64).to_le_bytes())?;
        out.write_all(&header)?;
        tensors.iter().try_for_each(|(_, t)| t.write_le_bytes(out))
    })
}
