//! What generated code and its callers agree on.
//!
//! Every function of a loop program becomes `i32 f(Context*, const i64 *dims, void *arena,
//! void *const *pointers)`: the free dimensions in the order of the signature, a frame of the
//! size that the plan says, aligned to [`crate::loops::buffers::ALIGN_BYTES`], and the arguments
//! followed by the results. The caller has checked all of it. The return value is a [`Status`].

use crate::dtype::DType;

/// Version of everything in this module; code and caller must have the same.
pub const ABI_VERSION: u32 = 1;

/// The most values that a failed check records.
pub const MAX_VALUES: usize = 8;

/// What a call is given besides its data, and where it reports an error.
#[derive(Clone, Debug)]
#[repr(C)]
pub struct Context {
    /// [`ABI_VERSION`] of the caller.
    pub version: u32,
    /// Zero.
    pub reserved: u32,
    /// Who runs the tasks of parallel loops; null for none.
    pub exec: *const Exec,
    /// Where the call failed: an index into the sites of the program.
    pub site: i64,
    /// What the check at the site recorded.
    pub values: [i64; MAX_VALUES],
}

/// A context with a place for a hook behind it, as code in memory is given it. Objects know nothing of it: their
/// code has no marks, and reads the context alone.
#[derive(Clone, Debug)]
#[repr(C)]
pub struct Recorded {
    /// The context.
    pub context: Context,
    /// What marks call; null for none.
    pub hook: *const Hook,
}

/// What a mark of [`crate::loops::marks`] calls.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Hook {
    /// Handed back to `mark`.
    pub this: *mut std::ffi::c_void,
    /// Called with twice the number of the mark, and one more where it ends.
    pub mark: unsafe extern "C" fn(this: *mut std::ffi::c_void, event: u64),
}

/// One task of several: the data that all share, and its number.
pub type Task = unsafe extern "C" fn(data: *mut std::ffi::c_void, k: u64);

/// Runs tasks on several threads.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Exec {
    /// Handed back to `run`.
    pub this: *mut std::ffi::c_void,
    /// Number of threads, the calling one included. With one or none, all tasks run in the calling thread.
    pub workers: u64,
    /// Calls `task(data, k)` for each `k < n` once, in any order and on any threads, and returns when all
    /// have returned and what they wrote can be seen. Tasks do not wait for each other and bring no
    /// tasks of their own.
    pub run:
        unsafe extern "C" fn(this: *mut std::ffi::c_void, task: Task, data: *mut std::ffi::c_void, n: u64),
}

impl Context {
    /// A context for one serial call.
    pub fn new() -> Self {
        Context {
            version: ABI_VERSION,
            reserved: 0,
            exec: std::ptr::null(),
            site: -1,
            values: [0; MAX_VALUES],
        }
    }
}

impl Default for Context {
    fn default() -> Self {
        Self::new()
    }
}

/// Byte offsets of the fields of [`Context`] that generated code writes, and of the hook behind it.
pub(crate) mod offset {
    use super::{Context, Recorded};
    use std::mem::offset_of;

    pub(crate) const VERSION: i32 = offset_of!(Context, version) as i32;
    pub(crate) const RESERVED: i32 = offset_of!(Context, reserved) as i32;
    pub(crate) const EXEC: i32 = offset_of!(Context, exec) as i32;
    pub(crate) const SITE: i32 = offset_of!(Context, site) as i32;
    pub(crate) const VALUES: i32 = offset_of!(Context, values) as i32;
    pub(crate) const HOOK: i32 = offset_of!(Recorded, hook) as i32;
}

/// Byte offsets of the fields of [`Hook`].
pub(crate) mod hook {
    use super::Hook;
    use std::mem::offset_of;

    pub(crate) const THIS: i32 = offset_of!(Hook, this) as i32;
    pub(crate) const MARK: i32 = offset_of!(Hook, mark) as i32;
}

/// Byte offsets of the fields of [`Exec`].
pub(crate) mod exec {
    use super::Exec;
    use std::mem::offset_of;

    pub(crate) const THIS: i32 = offset_of!(Exec, this) as i32;
    pub(crate) const WORKERS: i32 = offset_of!(Exec, workers) as i32;
    pub(crate) const RUN: i32 = offset_of!(Exec, run) as i32;
}

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum Status {
    /// All outputs hold their values.
    Ok = 0,
    /// A check of the program failed; the context names the site. Outputs are unspecified.
    Failed = 1,
    /// The context has another version. As for all that follow, outputs are untouched.
    Version = 2,
    /// A pointer is null.
    Null = 3,
    /// A pointer is not aligned to its element.
    Alignment = 4,
    /// A tensor has the wrong element type.
    DType = 5,
    /// A tensor has the wrong number of axes.
    Rank = 6,
    /// A tensor has the wrong shape.
    Shape = 7,
    /// A tensor has the wrong number of bytes.
    Bytes = 8,
    /// An output overlaps another tensor.
    Overlap = 9,
    /// The free dimensions are negative, fail a condition of the program, or give sizes that overflow.
    Dims = 10,
    /// The processor lacks instructions that the code uses.
    Cpu = 11,
}

/// A tensor as objects take it from C.
#[derive(Clone, Debug)]
#[repr(C)]
pub struct TensorArg {
    /// First element, C order.
    pub data: *mut std::ffi::c_void,
    /// See [`dtype_code`].
    pub dtype: i32,
    /// Number of axes.
    pub rank: i32,
    /// Sizes, slowest axis first; the first `rank` count.
    pub shape: [i64; crate::tensor::MAX_RANK],
    /// # Units
    /// Bytes of all elements.
    pub bytes: i64,
}

/// Byte offsets of the fields of [`TensorArg`].
pub(crate) mod tensor {
    use super::TensorArg;
    use std::mem::{offset_of, size_of};

    pub(crate) const SIZE: i32 = size_of::<TensorArg>() as i32;
    pub(crate) const DATA: i32 = offset_of!(TensorArg, data) as i32;
    pub(crate) const DTYPE: i32 = offset_of!(TensorArg, dtype) as i32;
    pub(crate) const RANK: i32 = offset_of!(TensorArg, rank) as i32;
    pub(crate) const SHAPE: i32 = offset_of!(TensorArg, shape) as i32;
    pub(crate) const BYTES: i32 = offset_of!(TensorArg, bytes) as i32;
}

/// The number of an element type in a [`TensorArg`].
pub fn dtype_code(dtype: DType) -> i32 {
    match dtype {
        DType::F32 => 1,
        DType::F64 => 2,
        DType::I32 => 3,
        DType::I64 => 4,
        DType::Bool => 5,
        DType::F16 => 6,
        DType::BF16 => 7,
    }
}

/// Signature of the functions of a loop program.
pub type Entry = unsafe extern "C" fn(
    context: *mut Context,
    dims: *const i64,
    arena: *mut u8,
    pointers: *const *mut u8,
) -> i32;
