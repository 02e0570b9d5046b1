//! Memory aligned for vectors: arenas and packed weights.
#![expect(unsafe_code, reason = "the global allocator is asked for an alignment")]

use crate::loops::buffers::ALIGN_BYTES;
use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::ptr::NonNull;

/// Bytes, initialised, that start at a multiple of [`ALIGN_BYTES`].
#[derive(Debug)]
pub(crate) struct AlignedBytes {
    start: NonNull<u8>,
    layout: Layout,
}

// SAFETY: the memory is owned by this value alone and plain bytes.
unsafe impl Send for AlignedBytes {}
// SAFETY: shared access only reads.
unsafe impl Sync for AlignedBytes {}

impl AlignedBytes {
    /// Zeroed memory of at least one byte; `None` where it cannot be had.
    pub(crate) fn zeroed(len_bytes: usize) -> Option<Self> {
        let layout = Layout::from_size_align(len_bytes.max(1), ALIGN_BYTES as usize).ok()?;
        // SAFETY: the layout has a size that is not zero.
        let start = NonNull::new(unsafe { alloc_zeroed(layout) })?;
        Some(AlignedBytes { start, layout })
    }

    /// # Units
    /// Bytes.
    pub(crate) fn len(&self) -> usize {
        self.layout.size()
    }

    /// The first byte.
    pub(crate) fn as_mut_ptr(&mut self) -> *mut u8 {
        self.start.as_ptr()
    }

    /// All bytes.
    pub(crate) fn bytes(&self) -> &[u8] {
        // SAFETY: the memory is valid for its layout's size, initialised, and borrowed with `self`.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.layout.size()) }
    }

    /// All bytes, to write to.
    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as for `bytes`; `self` is borrowed mutably.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.layout.size()) }
    }
}

impl Drop for AlignedBytes {
    fn drop(&mut self) {
        // SAFETY: allocated in `zeroed` with this layout, and not freed since.
        unsafe { dealloc(self.start.as_ptr(), self.layout) };
    }
}
