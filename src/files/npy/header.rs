//! The header of an `.npy` file.
//!
//! It is read by a parser that knows this one dictionary, takes time linear in its length and does not
//! recurse: a general parser of Python literals can be sent into deep recursion by brackets, and readers
//! that multiply the shape unchecked can be made to overflow.

use crate::dtype::DType;
use crate::tensor::{DataView, TensorView};

use super::{MAX_HEADER_BYTES, NpyError};

/// What every file begins with, before the version.
const MAGIC: &[u8; 6] = b"\x93NUMPY";

/// The data starts at a multiple of this many bytes in the files we write.
const ALIGN_BYTES: usize = 64;

/// Header and data, the header's length having been checked.
pub(super) fn split_header(bytes: &[u8]) -> Result<(&[u8], &[u8]), NpyError> {
    let rest = bytes.strip_prefix(MAGIC).ok_or(NpyError::NotNpy)?;
    let (&[major, minor], rest) = rest.split_first_chunk().ok_or(NpyError::NotNpy)?;
    let (claimed, rest) = match (major, minor) {
        (1, 0) => rest.split_first_chunk().map(|(n, rest)| (usize::from(u16::from_le_bytes(*n)), rest)),
        (2 | 3, 0) => rest.split_first_chunk().map(|(n, rest)| (u32::from_le_bytes(*n) as usize, rest)),
        _ => return Err(NpyError::Version { major, minor }),
    }
    .ok_or(NpyError::NotNpy)?;
    if claimed > MAX_HEADER_BYTES {
        return Err(NpyError::HeaderLength { claimed, available: rest.len() });
    }
    rest.split_at_checked(claimed).ok_or(NpyError::HeaderLength { claimed, available: rest.len() })
}

/// The element type of a type string such as `<f4`, and whether its bytes are in big-endian order.
pub(super) fn element_type(descr: &str) -> Result<(DType, bool), NpyError> {
    let unsupported = || NpyError::Unsupported { descr: descr.to_owned() };
    let (order, name) = match descr.split_at_checked(1) {
        Some((order @ ("<" | ">" | "|"), name)) => (order, name),
        _ => return Err(unsupported()),
    };
    let dtype = match name {
        "f4" => DType::F32,
        "f8" => DType::F64,
        "i4" => DType::I32,
        "i8" => DType::I64,
        "b1" => DType::Bool,
        _ => return Err(unsupported()),
    };
    // `|` says that there is no order, which is so for single bytes only.
    if order == "|" && dtype.size_bytes() > 1 {
        return Err(unsupported());
    }
    Ok((dtype, order == ">"))
}

/// Magic, version and header of an array in C order, padded so that the data is aligned.
pub(super) fn header_bytes(tensor: TensorView<'_>) -> Vec<u8> {
    let descr = match tensor.data() {
        DataView::F32(_) => "<f4",
        DataView::F64(_) => "<f8",
        DataView::I32(_) => "<i4",
        DataView::I64(_) => "<i8",
        DataView::Bool(_) => "|b1",
    };
    let axes: Vec<String> = tensor.shape().iter().map(ToString::to_string).collect();
    let comma = if axes.len() == 1 { "," } else { "" };
    let mut text =
        format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ({}{comma}), }}", axes.join(", "));
    let prefix_bytes = MAGIC.len() + 4;
    let total = (prefix_bytes + text.len() + 1).next_multiple_of(ALIGN_BYTES);
    text.extend(std::iter::repeat_n(' ', total - prefix_bytes - text.len() - 1));
    text.push('\n');

    let length = u16::try_from(text.len()).expect("invariant: eight axes take far less than 64 KiB");
    let mut bytes = Vec::with_capacity(total);
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&[1, 0]);
    bytes.extend_from_slice(&length.to_le_bytes());
    bytes.extend_from_slice(text.as_bytes());
    bytes
}

/// The dictionary of a plain array.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) descr: String,
    pub(super) fortran_order: bool,
    pub(super) shape: Vec<usize>,
}

/// Parses `{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }`, keys in any order.
pub(super) fn parse_header(bytes: &[u8]) -> Result<Header, NpyError> {
    let mut cursor = Cursor { bytes, at: 0 };
    let (mut descr, mut fortran_order, mut shape) = (None, None, None);
    cursor.take(b'{', "`{`")?;
    while !cursor.next_is(b'}') {
        let start = cursor.at;
        let known = match cursor.string()?.as_str() {
            "descr" => {
                cursor.take(b':', "`:`")?;
                descr.replace(cursor.descr()?).is_none()
            }
            "fortran_order" => {
                cursor.take(b':', "`:`")?;
                fortran_order.replace(cursor.boolean()?).is_none()
            }
            "shape" => {
                cursor.take(b':', "`:`")?;
                shape.replace(cursor.shape()?).is_none()
            }
            _ => false,
        };
        if !known {
            let expected = "one each of 'descr', 'fortran_order' and 'shape'";
            return Err(NpyError::Header { at: start, expected });
        }
        if !cursor.next_is(b',') {
            cursor.take(b'}', "`,` or `}`")?;
            return cursor.end(descr, fortran_order, shape);
        }
        cursor.take(b',', "`,`")?;
    }
    cursor.take(b'}', "`}`")?;
    cursor.end(descr, fortran_order, shape)
}

/// A place in a header.
struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Cursor<'_> {
    fn expected<T>(&self, expected: &'static str) -> Result<T, NpyError> {
        Err(NpyError::Header { at: self.at, expected })
    }

    /// The next byte that is not a space.
    fn peek(&mut self) -> Option<u8> {
        while matches!(self.bytes.get(self.at), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
        self.bytes.get(self.at).copied()
    }

    fn next_is(&mut self, byte: u8) -> bool {
        self.peek() == Some(byte)
    }

    fn take(&mut self, byte: u8, name: &'static str) -> Result<(), NpyError> {
        if !self.next_is(byte) {
            return self.expected(name);
        }
        self.at += 1;
        Ok(())
    }

    /// A string without escapes, which no key and no plain element type has.
    fn string(&mut self) -> Result<String, NpyError> {
        let quote = match self.peek() {
            Some(quote @ (b'\'' | b'"')) => quote,
            _ => return self.expected("a string"),
        };
        let rest = &self.bytes[self.at + 1..];
        let Some(length) = rest.iter().position(|&b| b == quote) else {
            return self.expected("a string that ends");
        };
        let text = &rest[..length];
        if !text.iter().all(|&b| (b' '..=b'~').contains(&b) && b != b'\\') {
            return self.expected("a string of plain characters");
        }
        self.at += length + 2;
        Ok(text.iter().map(|&b| char::from(b)).collect())
    }

    fn descr(&mut self) -> Result<String, NpyError> {
        if self.next_is(b'[') {
            return Err(NpyError::Records);
        }
        self.string()
    }

    fn boolean(&mut self) -> Result<bool, NpyError> {
        self.peek();
        let rest = &self.bytes[self.at..];
        for (word, value) in [(&b"True"[..], true), (b"False", false)] {
            if rest.starts_with(word) {
                self.at += word.len();
                return Ok(value);
            }
        }
        self.expected("`True` or `False`")
    }

    /// `()`, `(2,)` or `(2, 3)`.
    fn shape(&mut self) -> Result<Vec<usize>, NpyError> {
        let mut axes = Vec::new();
        self.take(b'(', "`(`")?;
        while !self.next_is(b')') {
            axes.push(self.integer()?);
            if self.next_is(b',') {
                self.at += 1;
            } else if axes.len() == 1 || !self.next_is(b')') {
                // `(2)` is a number in Python, not a tuple.
                return self.expected("`,`");
            }
        }
        self.at += 1;
        Ok(axes)
    }

    fn integer(&mut self) -> Result<usize, NpyError> {
        self.peek();
        let digits = self.bytes[self.at..].iter().take_while(|b| b.is_ascii_digit()).count();
        if digits == 0 {
            return self.expected("an axis that is not negative");
        }
        let value = self.bytes[self.at..self.at + digits]
            .iter()
            .try_fold(0usize, |n, &b| n.checked_mul(10)?.checked_add(usize::from(b - b'0')));
        let Some(value) = value else {
            return self.expected("an axis of at most 64 bits");
        };
        self.at += digits;
        // Python 2 marked its long integers.
        if self.bytes.get(self.at) == Some(&b'L') {
            self.at += 1;
        }
        Ok(value)
    }

    fn end(
        mut self,
        descr: Option<String>,
        fortran_order: Option<bool>,
        shape: Option<Vec<usize>>,
    ) -> Result<Header, NpyError> {
        if self.peek().is_some() {
            return self.expected("the end of the header");
        }
        Ok(Header {
            descr: descr.ok_or(NpyError::MissingKey { key: "descr" })?,
            fortran_order: fortran_order.ok_or(NpyError::MissingKey { key: "fortran_order" })?,
            shape: shape.ok_or(NpyError::MissingKey { key: "shape" })?,
        })
    }
}
