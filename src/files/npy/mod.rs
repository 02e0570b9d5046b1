//! NumPy's `.npy` format: one array with a header that is the literal of a Python dictionary.
//!
//! Takes bytes, gives a [`Tensor`] in C order whatever order and byte order the file has.
//!
//! # Source
//! NumPy enhancement proposal 1, and the documentation of `numpy.lib.format` for versions 2 and 3.

mod header;

use std::io::{self, Write};
use std::path::Path;

use crate::dtype::DType;
use crate::tensor::{self, MAX_RANK, Tensor, TensorError, TensorView};

use self::header::{Header, element_type, header_bytes, parse_header, split_header};
use super::{FileError, read_bytes, write_bytes};

/// # Units
/// Bytes of the longest header that is read, the limit that NumPy itself has.
pub const MAX_HEADER_BYTES: usize = 10_000;

/// What is wrong with the content of an `.npy` file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NpyError {
    /// Does not begin as the format does.
    #[error("not an npy file")]
    NotNpy,
    /// A version that does not exist.
    #[error("version {major}.{minor} of the npy format is not known")]
    Version {
        /// First number.
        major: u8,
        /// Second number.
        minor: u8,
    },
    /// The header would reach past the end of the file, or past the limit.
    #[error("the header claims {claimed} bytes, {available} follow and {MAX_HEADER_BYTES} are allowed")]
    HeaderLength {
        /// Bytes the header claims to have.
        claimed: usize,
        /// Bytes that follow.
        available: usize,
    },
    /// Not the dictionary of a plain array.
    #[error("the header is not valid at byte {at}: expected {expected}")]
    Header {
        /// Position in the header, counted from 0.
        at: usize,
        /// What should be there.
        expected: &'static str,
    },
    /// A key that is not there.
    #[error("the header lacks '{key}'")]
    MissingKey {
        /// The key.
        key: &'static str,
    },
    /// An array of records.
    #[error("arrays of records are not supported")]
    Records,
    /// An element type that is not computed with, or none at all.
    #[error("the element type '{descr}' is not supported")]
    Unsupported {
        /// As the file has it.
        descr: String,
    },
    /// The data is longer or shorter than type and shape say.
    #[error("type and shape take {expected} bytes, {found} follow the header")]
    DataLength {
        /// Bytes of type and shape.
        expected: usize,
        /// Bytes after the header.
        found: usize,
    },
    /// A shape that cannot be, elements that cannot be, or no memory for them.
    #[error(transparent)]
    Tensor(#[from] TensorError),
    /// Not exactly one tensor to write.
    #[error("an npy file holds one array, not {found}")]
    NotOne {
        /// Tensors given.
        found: usize,
    },
}

impl NpyError {
    /// How to mend it, where that can be said.
    pub(super) fn advice(&self) -> Option<&'static str> {
        let NpyError::Unsupported { descr } = self else {
            return match self {
                NpyError::Records => Some("save each field as an array of its own"),
                NpyError::NotOne { .. } => Some("write an .npz or .safetensors file"),
                _ => None,
            };
        };
        Some(match descr.trim_start_matches(['<', '>', '|', '=']).bytes().next() {
            Some(b'f') => "convert it with `.astype(numpy.float32)`",
            Some(b'i' | b'u') => "convert it with `.astype(numpy.int32)` or `.astype(numpy.int64)`",
            Some(b'O') => "arrays of Python objects hold programs, and are never read",
            _ => "f4, f8, i4, i8 and b1 are supported",
        })
    }
}

/// Reads an array.
///
/// # Errors
/// [`FileError`] where the file cannot be read, breaks a rule of the format, goes on after the array, or
/// has a type that is not computed with.
pub fn read_npy(path: impl AsRef<Path>) -> Result<Tensor, FileError> {
    let path = path.as_ref();
    decode_npy(&read_bytes(path)?).map_err(|source| FileError::Npy { path: path.to_owned(), source })
}

/// Writes an array in C order; the file is replaced whole or left alone.
///
/// # Errors
/// [`FileError::Unwritable`] where the system refuses.
pub fn write_npy(path: impl AsRef<Path>, tensor: TensorView<'_>) -> Result<(), FileError> {
    write_bytes(path.as_ref(), |out| encode_npy(tensor, out))
}

/// The array that the bytes of an `.npy` file hold.
///
/// # Errors
/// [`NpyError`], before memory is asked for unless an element itself is wrong.
pub(super) fn decode_npy(bytes: &[u8]) -> Result<Tensor, NpyError> {
    let (header, data) = split_header(bytes)?;
    let Header { descr, fortran_order, shape } = parse_header(header)?;
    let (dtype, big_endian) = element_type(&descr)?;
    let expected = tensor::size_bytes(dtype, &shape)?;
    if data.len() != expected {
        return Err(NpyError::DataLength { expected, found: data.len() });
    }
    // With one axis longer than 1 at most, both orders are the same.
    let permuted = fortran_order && shape.iter().filter(|&&d| d != 1).count() > 1;
    if !permuted && !big_endian {
        return Ok(Tensor::from_le_bytes(dtype, shape, data)?);
    }
    let bytes = match dtype.size_bytes() {
        8 => rearranged::<8>(dtype, &shape, data, permuted, big_endian)?,
        4 => rearranged::<4>(dtype, &shape, data, permuted, big_endian)?,
        _ => rearranged::<1>(dtype, &shape, data, permuted, big_endian)?,
    };
    Ok(Tensor::from_le_bytes(dtype, shape, &bytes)?)
}

/// Writes an array as the bytes of an `.npy` file.
pub(super) fn encode_npy(tensor: TensorView<'_>, out: &mut impl Write) -> io::Result<()> {
    out.write_all(&header_bytes(tensor))?;
    tensor.write_le_bytes(out)
}

/// # Units
/// Bytes that [`encode_npy`] writes.
pub(super) fn encoded_bytes(tensor: TensorView<'_>) -> u64 {
    header_bytes(tensor).len() as u64 + tensor.size_bytes() as u64
}

/// Elements of `N` bytes in C order and little-endian. The data has as many as the shape holds.
fn rearranged<const N: usize>(
    dtype: DType,
    shape: &[usize],
    data: &[u8],
    permuted: bool,
    big_endian: bool,
) -> Result<Vec<u8>, TensorError> {
    let mut out = Vec::new();
    out.try_reserve_exact(data.len()).map_err(|_| TensorError::OutOfMemory {
        dtype,
        shape: shape.to_vec(),
        size_bytes: data.len(),
    })?;
    let mut push = |mut element: [u8; N]| {
        if big_endian {
            element.reverse();
        }
        out.extend_from_slice(&element);
    };
    let (elements, _) = data.as_chunks::<N>();
    if !permuted {
        elements.iter().for_each(|&e| push(e));
        return Ok(out);
    }
    // The place of each element in Fortran order, kept up to date while the index counts in C order.
    let mut strides = [1usize; MAX_RANK];
    for axis in 1..shape.len() {
        strides[axis] = strides[axis - 1] * shape[axis - 1];
    }
    let mut index = [0usize; MAX_RANK];
    let mut place = 0;
    for _ in 0..elements.len() {
        push(elements[place]);
        for axis in (0..shape.len()).rev() {
            index[axis] += 1;
            place += strides[axis];
            if index[axis] < shape[axis] {
                break;
            }
            place -= strides[axis] * shape[axis];
            index[axis] = 0;
        }
    }
    Ok(out)
}
