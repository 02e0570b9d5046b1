//! Byte-addressed memory of one run.

use super::RunError;
use crate::dtype::DType;
use crate::ops::value::Scalar;
use crate::tensor::Tensor;

/// Unwritten bytes: NaN, -1, true.
const PATTERN: u8 = 0xFF;
/// Bytes past the end of every region that may be loaded.
const PADDING: usize = 64;

/// One allocation.
pub(super) struct Region {
    bytes: Vec<u8>,
}

/// Where a buffer of a frame lies.
#[derive(Clone, Copy, Debug)]
pub(super) struct Home {
    pub region: usize,
    /// Bytes from the start of the region.
    pub base: usize,
    pub elems: i64,
    pub dtype: DType,
}

/// All allocations.
#[derive(Default)]
pub(super) struct Memory {
    regions: Vec<Region>,
}

impl Memory {
    /// A region of unwritten bytes.
    pub fn allocate(&mut self, size: usize) -> Result<usize, RunError> {
        let mut bytes = Vec::new();
        let total = size.saturating_add(PADDING);
        bytes
            .try_reserve_exact(total)
            .map_err(|_| RunError::Invalid(format!("out of memory: {total} bytes")))?;
        bytes.resize(total, PATTERN);
        self.regions.push(Region { bytes });
        Ok(self.regions.len() - 1)
    }

    /// A region that holds a tensor.
    pub fn hold(&mut self, tensor: &Tensor) -> usize {
        let mut bytes = tensor.to_le_bytes_vec();
        bytes.resize(bytes.len() + PADDING, PATTERN);
        self.regions.push(Region { bytes });
        self.regions.len() - 1
    }

    /// The elements of a buffer as a tensor of one axis.
    pub fn tensor(&self, home: Home) -> Result<Tensor, RunError> {
        let count = usize::try_from(home.elems).map_err(|_| invalid("a negative size"))?;
        let size = count * home.dtype.size_bytes();
        let bytes = &self.regions[home.region].bytes[home.base..home.base + size];
        Ok(Tensor::from_le_bytes(home.dtype, [count], bytes)?)
    }

    /// Element `index` of a buffer; index 0 of an empty buffer is padding.
    pub fn load(&self, home: Home, index: i64) -> Result<Scalar, RunError> {
        let bytes = &self.regions[home.region].bytes;
        let at = place(home, index, home.elems.max(1))?;
        let elem = bytes.get(at..at + home.dtype.size_bytes());
        decode(home.dtype, elem.ok_or_else(|| invalid("a load outside its region"))?)
    }

    /// Sets element `index` of a buffer.
    pub fn store(&mut self, home: Home, index: i64, value: Scalar) -> Result<(), RunError> {
        if value.dtype() != home.dtype {
            return Err(invalid("a store of another type than the buffer's"));
        }
        let at = place(home, index, home.elems)?;
        let bytes = &mut self.regions[home.region].bytes;
        let elem = bytes.get_mut(at..at + home.dtype.size_bytes());
        encode(value, elem.ok_or_else(|| invalid("a store outside its region"))?);
        Ok(())
    }
}

fn invalid(what: &str) -> RunError {
    RunError::Invalid(what.into())
}

fn place(home: Home, index: i64, elems: i64) -> Result<usize, RunError> {
    if index < 0 || index >= elems {
        return Err(RunError::Invalid(format!("element {index} of a buffer of {} elements", home.elems)));
    }
    Ok(home.base + index as usize * home.dtype.size_bytes())
}

fn decode(dtype: DType, bytes: &[u8]) -> Result<Scalar, RunError> {
    let four = || bytes.try_into().map_err(|_| invalid("an element of the wrong size"));
    let eight = || bytes.try_into().map_err(|_| invalid("an element of the wrong size"));
    Ok(match dtype {
        DType::F32 => Scalar::F32(f32::from_le_bytes(four()?)),
        DType::I32 => Scalar::I32(i32::from_le_bytes(four()?)),
        DType::F64 => Scalar::F64(f64::from_le_bytes(eight()?)),
        DType::I64 => Scalar::I64(i64::from_le_bytes(eight()?)),
        DType::Bool => Scalar::Bool(bytes.first().is_some_and(|b| *b != 0)),
        DType::F16 | DType::BF16 => return Err(invalid("half precision")),
    })
}

fn encode(value: Scalar, bytes: &mut [u8]) {
    match value {
        Scalar::F32(x) => bytes.copy_from_slice(&x.to_le_bytes()),
        Scalar::F64(x) => bytes.copy_from_slice(&x.to_le_bytes()),
        Scalar::I32(x) => bytes.copy_from_slice(&x.to_le_bytes()),
        Scalar::I64(x) => bytes.copy_from_slice(&x.to_le_bytes()),
        Scalar::Bool(x) => bytes.copy_from_slice(&[u8::from(x)]),
    }
}
