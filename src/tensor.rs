//! Dense tensors in host memory: what the user passes in, what a file holds, what a call returns.
//!
//! A [`Tensor`] owns its elements, a [`TensorView`] borrows them; both are C-contiguous. It is an
//! invariant of both that the shape has at most [`MAX_RANK`] axes and that the product of the shape
//! equals the number of elements, so nothing downstream has to check it again.
//!
//! Half precision is not computed with, so there is no [`Data`] for it: it is refused where bytes
//! come in. This module knows nothing of files, graphs or devices.

use std::fmt;
use std::io;

use crate::dtype::DType;

/// The most axes a tensor can have.
pub const MAX_RANK: usize = 8;

/// Why a tensor cannot be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TensorError {
    /// More than [`MAX_RANK`] axes.
    #[error("a tensor has at most {MAX_RANK} axes, this one has {rank}")]
    Rank {
        /// Number of axes asked for.
        rank: usize,
    },
    /// The product of the shape, or its size in bytes, does not fit the address space.
    #[error("the shape {} is too large to address", ShapeText(.shape))]
    TooLarge {
        /// The shape asked for.
        shape: Vec<usize>,
    },
    /// Shape and data disagree.
    #[error("the shape {} holds {expected} elements, {found} were given", ShapeText(.shape))]
    ElementCount {
        /// The shape asked for.
        shape: Vec<usize>,
        /// Elements of that shape.
        expected: usize,
        /// Elements given.
        found: usize,
    },
    /// Shape and bytes disagree.
    #[error("{dtype} of shape {} takes {expected} bytes, {found} were given", ShapeText(.shape))]
    ByteCount {
        /// Element type asked for.
        dtype: DType,
        /// The shape asked for.
        shape: Vec<usize>,
        /// Bytes of that shape.
        expected: usize,
        /// Bytes given.
        found: usize,
    },
    /// A boolean stored as something other than 0 or 1.
    #[error("element {index} of a bool tensor is the byte {byte}, not 0 or 1")]
    BoolByte {
        /// Position in C order, counted from 0.
        index: usize,
        /// The byte found.
        byte: u8,
    },
    /// An element type that is not computed with.
    #[error("tensors of {dtype} are not supported; convert to f32")]
    Unsupported {
        /// The element type.
        dtype: DType,
    },
    /// The memory cannot be had.
    #[error("out of memory: {size_bytes} bytes for {dtype} of shape {}", ShapeText(.shape))]
    OutOfMemory {
        /// Element type asked for.
        dtype: DType,
        /// The shape asked for.
        shape: Vec<usize>,
        /// Bytes asked for.
        size_bytes: usize,
    },
}

/// Writes a shape as `[2, 3]`.
pub struct ShapeText<'a>(pub &'a [usize]);

impl fmt::Display for ShapeText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0).finish()
    }
}

/// The number of elements of a shape.
///
/// # Errors
/// [`TensorError::Rank`] past [`MAX_RANK`] axes, [`TensorError::TooLarge`] where the product of the
/// axes that are not zero overflows, so that no partial product of a valid shape can.
pub fn elems(shape: &[usize]) -> Result<usize, TensorError> {
    if shape.len() > MAX_RANK {
        return Err(TensorError::Rank { rank: shape.len() });
    }
    let too_large = || TensorError::TooLarge { shape: shape.to_vec() };
    let product =
        shape.iter().filter(|&&d| d != 0).try_fold(1usize, |n, &d| n.checked_mul(d)).ok_or_else(too_large)?;
    Ok(if shape.contains(&0) { 0 } else { product })
}

/// # Units
/// Bytes of a dense tensor.
///
/// # Errors
/// As [`elems`]; also [`TensorError::TooLarge`] past `isize::MAX` bytes, the largest allocation.
pub fn size_bytes(dtype: DType, shape: &[usize]) -> Result<usize, TensorError> {
    elems(shape)?
        .checked_mul(dtype.size_bytes())
        .filter(|&n| isize::try_from(n).is_ok())
        .ok_or_else(|| TensorError::TooLarge { shape: shape.to_vec() })
}

/// Defines the owned and the borrowed elements, and everything that is the same for each type.
macro_rules! elements {
    ($($variant:ident, $ty:ty, $as:ident, $as_mut:ident, $into:ident, $ctor:ident;)*) => {
        /// Owned elements in C order.
        #[derive(Clone, Debug, PartialEq)]
        pub enum Data {
            $(#[doc = concat!("Elements of type `", stringify!($ty), "`.")] $variant(Vec<$ty>),)*
        }

        /// Borrowed elements in C order.
        #[derive(Clone, Copy, Debug, PartialEq)]
        pub enum DataView<'a> {
            $(#[doc = concat!("Elements of type `", stringify!($ty), "`.")] $variant(&'a [$ty]),)*
        }

        impl Data {
            /// The element type.
            pub fn dtype(&self) -> DType {
                match self { $(Data::$variant(_) => DType::$variant,)* }
            }

            /// The number of elements.
            pub fn len(&self) -> usize {
                match self { $(Data::$variant(v) => v.len(),)* }
            }

            /// Whether there are no elements.
            pub fn is_empty(&self) -> bool {
                self.len() == 0
            }

            /// Borrows the elements.
            pub fn view(&self) -> DataView<'_> {
                match self { $(Data::$variant(v) => DataView::$variant(v),)* }
            }
        }

        impl<'a> DataView<'a> {
            /// The element type.
            pub fn dtype(self) -> DType {
                match self { $(DataView::$variant(_) => DType::$variant,)* }
            }

            /// The number of elements.
            pub fn len(self) -> usize {
                match self { $(DataView::$variant(v) => v.len(),)* }
            }

            /// Whether there are no elements.
            pub fn is_empty(self) -> bool {
                self.len() == 0
            }

            /// The address of the first element, for checks of alignment and overlap.
            pub fn as_ptr(self) -> *const u8 {
                match self { $(DataView::$variant(v) => v.as_ptr().cast(),)* }
            }

            /// Copies the elements.
            pub fn to_data(self) -> Data {
                match self { $(DataView::$variant(v) => Data::$variant(v.to_vec()),)* }
            }

            $(#[doc = concat!("The elements, where they are `", stringify!($ty), "`.")]
            pub fn $as(self) -> Option<&'a [$ty]> {
                match self { DataView::$variant(v) => Some(v), _ => None }
            })*
        }

        $(impl From<Vec<$ty>> for Data {
            fn from(v: Vec<$ty>) -> Self { Data::$variant(v) }
        }
        impl<'a> From<&'a [$ty]> for DataView<'a> {
            fn from(v: &'a [$ty]) -> Self { DataView::$variant(v) }
        }
        impl<'a> From<&'a Vec<$ty>> for DataView<'a> {
            fn from(v: &'a Vec<$ty>) -> Self { DataView::$variant(v) }
        }
        impl<'a, const N: usize> From<&'a [$ty; N]> for DataView<'a> {
            fn from(v: &'a [$ty; N]) -> Self { DataView::$variant(v) }
        })*

        impl Tensor {
            $(#[doc = concat!("The elements, where they are `", stringify!($ty), "`.")]
            pub fn $as(&self) -> Option<&[$ty]> {
                match &self.data { Data::$variant(v) => Some(v), _ => None }
            }
            #[doc = concat!("The elements to write to, where they are `", stringify!($ty), "`.")]
            pub fn $as_mut(&mut self) -> Option<&mut [$ty]> {
                match &mut self.data { Data::$variant(v) => Some(v), _ => None }
            }
            #[doc = concat!("Gives up the elements, where they are `", stringify!($ty), "`.")]
            pub fn $into(self) -> Option<Vec<$ty>> {
                match self.data { Data::$variant(v) => Some(v), _ => None }
            })*
        }

        impl<'a> TensorView<'a> {
            $(#[doc = concat!("Borrows elements of type `", stringify!($ty), "`.\n\n# Errors\nAs [`TensorView::new`].")]
            pub fn $ctor(shape: &'a [usize], data: &'a [$ty]) -> Result<Self, TensorError> {
                TensorView::new(shape, data)
            }
            #[doc = concat!("The elements, where they are `", stringify!($ty), "`.")]
            pub fn $as(&self) -> Option<&'a [$ty]> {
                self.data.$as()
            })*
        }
    };
}

elements! {
    F32, f32, as_f32, as_f32_mut, into_f32, f32;
    F64, f64, as_f64, as_f64_mut, into_f64, f64;
    I32, i32, as_i32, as_i32_mut, into_i32, i32;
    I64, i64, as_i64, as_i64_mut, into_i64, i64;
    Bool, bool, as_bool, as_bool_mut, into_bool, bool;
}

/// A dense tensor that owns its elements. A scalar has the shape `[]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    shape: Vec<usize>,
    data: Data,
}

impl Tensor {
    /// A tensor of given elements, in C order.
    ///
    /// # Errors
    /// [`TensorError`] where the shape is not valid or does not hold as many elements.
    pub fn new(shape: impl Into<Vec<usize>>, data: impl Into<Data>) -> Result<Self, TensorError> {
        let (shape, data) = (shape.into(), data.into());
        check_count(&shape, data.len())?;
        Ok(Tensor { shape, data })
    }

    /// A tensor of shape `[]`.
    pub fn scalar_f32(value: f32) -> Self {
        Tensor { shape: Vec::new(), data: Data::F32(vec![value]) }
    }

    /// A tensor of zeros, or of `false`.
    ///
    /// # Errors
    /// [`TensorError`] where the shape is not valid, the type is not supported, or memory is short.
    pub fn zeros(dtype: DType, shape: impl Into<Vec<usize>>) -> Result<Self, TensorError> {
        let shape = shape.into();
        let n = elems(&shape)?;
        let data = match dtype {
            DType::F32 => Data::F32(filled(dtype, &shape, n, 0.0)?),
            DType::F64 => Data::F64(filled(dtype, &shape, n, 0.0)?),
            DType::I32 => Data::I32(filled(dtype, &shape, n, 0)?),
            DType::I64 => Data::I64(filled(dtype, &shape, n, 0)?),
            DType::Bool => Data::Bool(filled(dtype, &shape, n, false)?),
            DType::F16 | DType::BF16 => return Err(TensorError::Unsupported { dtype }),
        };
        Ok(Tensor { shape, data })
    }

    /// A tensor from little-endian bytes in C order, a bool being one byte, 0 or 1.
    ///
    /// # Errors
    /// [`TensorError`] where the shape is not valid, the number of bytes is not that of the shape, a
    /// bool is neither 0 nor 1, the type is not supported, or memory is short.
    pub fn from_le_bytes(
        dtype: DType,
        shape: impl Into<Vec<usize>>,
        bytes: &[u8],
    ) -> Result<Self, TensorError> {
        let shape = shape.into();
        let expected = size_bytes(dtype, &shape)?;
        if bytes.len() != expected {
            return Err(TensorError::ByteCount { dtype, shape, expected, found: bytes.len() });
        }
        let data = match dtype {
            DType::F32 => Data::F32(decoded(dtype, &shape, bytes, f32::from_le_bytes)?),
            DType::F64 => Data::F64(decoded(dtype, &shape, bytes, f64::from_le_bytes)?),
            DType::I32 => Data::I32(decoded(dtype, &shape, bytes, i32::from_le_bytes)?),
            DType::I64 => Data::I64(decoded(dtype, &shape, bytes, i64::from_le_bytes)?),
            DType::Bool => {
                if let Some(index) = bytes.iter().position(|&b| b > 1) {
                    return Err(TensorError::BoolByte { index, byte: bytes[index] });
                }
                Data::Bool(decoded(dtype, &shape, bytes, |[b]: [u8; 1]| b != 0)?)
            }
            DType::F16 | DType::BF16 => return Err(TensorError::Unsupported { dtype }),
        };
        Ok(Tensor { shape, data })
    }

    /// The element type.
    pub fn dtype(&self) -> DType {
        self.data.dtype()
    }

    /// The axes, outermost first.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The number of elements.
    pub fn elems(&self) -> usize {
        self.data.len()
    }

    /// # Units
    /// Bytes of all elements.
    pub fn size_bytes(&self) -> usize {
        self.elems() * self.dtype().size_bytes()
    }

    /// The elements.
    pub fn data(&self) -> &Data {
        &self.data
    }

    /// Gives up shape and elements.
    pub fn into_parts(self) -> (Vec<usize>, Data) {
        (self.shape, self.data)
    }

    /// Borrows the tensor.
    pub fn view(&self) -> TensorView<'_> {
        TensorView { shape: &self.shape, data: self.data.view() }
    }

    /// The same elements under another shape.
    ///
    /// # Errors
    /// As [`Tensor::new`].
    pub fn reshaped(self, shape: impl Into<Vec<usize>>) -> Result<Self, TensorError> {
        Tensor::new(shape, self.data)
    }

    /// All elements as little-endian bytes in C order.
    pub fn to_le_bytes_vec(&self) -> Vec<u8> {
        self.view().to_le_bytes_vec()
    }

    /// A copy, for tensors whose size a user decides: `clone` ends the process where memory is short.
    ///
    /// # Errors
    /// [`TensorError::OutOfMemory`].
    pub fn try_clone(&self) -> Result<Self, TensorError> {
        let (dtype, shape) = (self.dtype(), self.shape());
        let data = match &self.data {
            Data::F32(v) => Data::F32(copied(dtype, shape, v)?),
            Data::F64(v) => Data::F64(copied(dtype, shape, v)?),
            Data::I32(v) => Data::I32(copied(dtype, shape, v)?),
            Data::I64(v) => Data::I64(copied(dtype, shape, v)?),
            Data::Bool(v) => Data::Bool(copied(dtype, shape, v)?),
        };
        Ok(Tensor { shape: shape.to_vec(), data })
    }

    /// Whether two tensors have one type, one shape and the same bits, NaNs and signs of zero included.
    pub fn same_bits(&self, other: &Tensor) -> bool {
        let same = match (&self.data, &other.data) {
            (Data::F32(a), Data::F32(b)) => a.iter().map(|x| x.to_bits()).eq(b.iter().map(|x| x.to_bits())),
            (Data::F64(a), Data::F64(b)) => a.iter().map(|x| x.to_bits()).eq(b.iter().map(|x| x.to_bits())),
            (a, b) => a == b,
        };
        same && self.shape == other.shape
    }
}

/// A dense tensor that borrows shape and elements.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TensorView<'a> {
    shape: &'a [usize],
    data: DataView<'a>,
}

impl<'a> TensorView<'a> {
    /// Borrows elements in C order.
    ///
    /// # Errors
    /// [`TensorError`] where the shape is not valid or does not hold as many elements.
    pub fn new(shape: &'a [usize], data: impl Into<DataView<'a>>) -> Result<Self, TensorError> {
        let data = data.into();
        check_count(shape, data.len())?;
        Ok(TensorView { shape, data })
    }

    /// The element type.
    pub fn dtype(&self) -> DType {
        self.data.dtype()
    }

    /// The axes, outermost first.
    pub fn shape(&self) -> &'a [usize] {
        self.shape
    }

    /// The number of elements.
    pub fn elems(&self) -> usize {
        self.data.len()
    }

    /// # Units
    /// Bytes of all elements.
    pub fn size_bytes(&self) -> usize {
        self.elems() * self.dtype().size_bytes()
    }

    /// The elements.
    pub fn data(&self) -> DataView<'a> {
        self.data
    }

    /// Copies the elements.
    pub fn to_tensor(&self) -> Tensor {
        Tensor { shape: self.shape.to_vec(), data: self.data.to_data() }
    }

    /// All elements as little-endian bytes in C order.
    pub fn to_le_bytes_vec(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.size_bytes());
        self.write_le_bytes(&mut out).expect("invariant: writing to a Vec does not fail");
        out
    }

    /// Writes all elements as little-endian bytes in C order, in chunks of bounded size, so that a
    /// large tensor needs no second copy in memory.
    ///
    /// # Errors
    /// Whatever `out` reports.
    pub fn write_le_bytes(&self, out: &mut impl io::Write) -> io::Result<()> {
        match self.data {
            DataView::F32(v) => encode(v, f32::to_le_bytes, out),
            DataView::F64(v) => encode(v, f64::to_le_bytes, out),
            DataView::I32(v) => encode(v, i32::to_le_bytes, out),
            DataView::I64(v) => encode(v, i64::to_le_bytes, out),
            DataView::Bool(v) => encode(v, |b| [u8::from(b)], out),
        }
    }
}

impl<'a> From<&'a Tensor> for TensorView<'a> {
    fn from(t: &'a Tensor) -> Self {
        t.view()
    }
}

fn check_count(shape: &[usize], found: usize) -> Result<(), TensorError> {
    let expected = elems(shape)?;
    if expected != found {
        return Err(TensorError::ElementCount { shape: shape.to_vec(), expected, found });
    }
    Ok(())
}

fn reserved<T>(dtype: DType, shape: &[usize], n: usize) -> Result<Vec<T>, TensorError> {
    let mut v = Vec::new();
    v.try_reserve_exact(n).map_err(|_| TensorError::OutOfMemory {
        dtype,
        shape: shape.to_vec(),
        size_bytes: n.saturating_mul(dtype.size_bytes()),
    })?;
    Ok(v)
}

fn filled<T: Clone>(dtype: DType, shape: &[usize], n: usize, value: T) -> Result<Vec<T>, TensorError> {
    let mut v = reserved(dtype, shape, n)?;
    v.resize(n, value);
    Ok(v)
}

fn copied<T: Copy>(dtype: DType, shape: &[usize], from: &[T]) -> Result<Vec<T>, TensorError> {
    let mut v = reserved(dtype, shape, from.len())?;
    v.extend_from_slice(from);
    Ok(v)
}

/// `bytes` must be a whole number of elements, which the caller has checked.
fn decoded<T, const N: usize>(
    dtype: DType,
    shape: &[usize],
    bytes: &[u8],
    from: impl Fn([u8; N]) -> T,
) -> Result<Vec<T>, TensorError> {
    let (chunks, rest) = bytes.as_chunks::<N>();
    debug_assert!(rest.is_empty(), "invariant: whole elements");
    let mut v = reserved(dtype, shape, chunks.len())?;
    v.extend(chunks.iter().map(|&c| from(c)));
    Ok(v)
}

fn encode<T: Copy, const N: usize>(
    values: &[T],
    to: impl Fn(T) -> [u8; N],
    out: &mut impl io::Write,
) -> io::Result<()> {
    const CHUNK_ELEMS: usize = 8192;
    let mut buffer = Vec::with_capacity(CHUNK_ELEMS.min(values.len()) * N);
    for chunk in values.chunks(CHUNK_ELEMS) {
        buffer.clear();
        buffer.extend(chunk.iter().flat_map(|&v| to(v)));
        out.write_all(&buffer)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples() -> Vec<Tensor> {
        vec![
            Tensor::new([2, 2], vec![1.5f32, -0.0, f32::INFINITY, 1e-45]).unwrap(),
            Tensor::new([3], vec![1.5f64, -2.0, 5e-324]).unwrap(),
            Tensor::new([1, 2], vec![i32::MIN, 7]).unwrap(),
            Tensor::new([2, 1], vec![i64::MAX, -7]).unwrap(),
            Tensor::new([3], vec![true, false, true]).unwrap(),
            Tensor::new([0, 4], Vec::<f32>::new()).unwrap(),
            Tensor::scalar_f32(3.0),
        ]
    }

    #[test]
    fn bytes_round_trip_for_every_type() {
        for t in samples() {
            let bytes = t.to_le_bytes_vec();
            assert_eq!(bytes.len(), t.size_bytes());
            assert_eq!(Tensor::from_le_bytes(t.dtype(), t.shape(), &bytes).unwrap(), t);
        }
    }

    #[test]
    fn bytes_round_trip_across_chunks() {
        let t = Tensor::new([3, 8192], (0..3 * 8192).collect::<Vec<i32>>()).unwrap();
        assert_eq!(Tensor::from_le_bytes(DType::I32, t.shape(), &t.to_le_bytes_vec()).unwrap(), t);
    }

    #[test]
    fn counts_are_checked() {
        let found = TensorError::ElementCount { shape: vec![2, 3], expected: 6, found: 5 };
        assert_eq!(Tensor::new([2, 3], vec![0.0f32; 5]), Err(found.clone()));
        assert_eq!(TensorView::f32(&[2, 3], &[0.0; 5]), Err(found.clone()));
        assert_eq!(found.to_string(), "the shape [2, 3] holds 6 elements, 5 were given");
        assert_eq!(TensorView::i64(&[], &[4]).map(|v| v.elems()), Ok(1));
        assert!(Tensor::from_le_bytes(DType::F32, [2], &[0; 7]).is_err());
    }

    #[test]
    fn shapes_that_cannot_be_are_refused_before_allocating() {
        let huge = 1usize << 40;
        assert_eq!(elems(&[1; 9]), Err(TensorError::Rank { rank: 9 }));
        assert!(matches!(elems(&[huge, huge]), Err(TensorError::TooLarge { .. })));
        assert!(matches!(elems(&[0, huge, huge]), Err(TensorError::TooLarge { .. })));
        assert_eq!(elems(&[huge, 0]), Ok(0));
        assert!(matches!(size_bytes(DType::F64, &[1 << 60]), Err(TensorError::TooLarge { .. })));
        assert!(matches!(Tensor::zeros(DType::F32, [1 << 60]), Err(TensorError::OutOfMemory { .. })));
    }

    #[test]
    fn half_precision_and_odd_bools_are_refused() {
        assert_eq!(Tensor::zeros(DType::F16, [1]), Err(TensorError::Unsupported { dtype: DType::F16 }));
        assert_eq!(
            Tensor::from_le_bytes(DType::Bool, [3], &[0, 1, 2]),
            Err(TensorError::BoolByte { index: 2, byte: 2 })
        );
    }

    #[test]
    fn accessors_answer_for_their_own_type_only() {
        let mut t = Tensor::zeros(DType::F32, [2]).unwrap();
        t.as_f32_mut().unwrap()[1] = 2.0;
        assert_eq!((t.as_f32(), t.as_i32()), (Some(&[0.0, 2.0][..]), None));
        assert_eq!(t.view().to_tensor(), t);
        assert_eq!(t.reshaped([2, 1]).unwrap().into_f32(), Some(vec![0.0, 2.0]));
    }
}
