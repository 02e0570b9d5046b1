//! Memory aligned for vectors: arenas and packed weights.
//!
//! What is large lies in huge pages where the system has them: weights are read once per call, in strips
//! that touch a page per row, and small pages of a few megabytes are more than a processor remembers.
#![expect(unsafe_code, reason = "the global allocator is asked for an alignment")]

use crate::loops::buffers::ALIGN_BYTES;
use memmap2::MmapMut;
use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::ops::Range;
use std::ptr::NonNull;

/// # Units
/// Bytes of a huge page, from which on memory is asked for in huge pages.
const HUGE_BYTES: usize = 2 << 20;

/// Bytes, initialised, that start at a multiple of [`ALIGN_BYTES`].
#[derive(Debug)]
pub(crate) enum AlignedBytes {
    Small(Allocation),
    /// The bytes of a mapping, from the first that starts a huge page.
    Large(MmapMut, Range<usize>),
}

impl AlignedBytes {
    /// Zeroed memory of at least one byte; `None` where it cannot be had.
    pub(crate) fn zeroed(len_bytes: usize) -> Option<Self> {
        if len_bytes < HUGE_BYTES {
            return Allocation::zeroed(len_bytes).map(AlignedBytes::Small);
        }
        let map = MmapMut::map_anon(len_bytes.checked_add(HUGE_BYTES)?).ok()?;
        // Where there are none, small pages do as well.
        #[cfg(target_os = "linux")]
        let _ = map.advise(memmap2::Advice::HugePage);
        let from = map.as_ptr().align_offset(HUGE_BYTES);
        // An offset may be unknown, in theory; a mapping starts with a page, which suffices.
        let from = if from < HUGE_BYTES { from } else { 0 };
        Some(AlignedBytes::Large(map, from..from + len_bytes))
    }

    /// # Units
    /// Bytes.
    pub(crate) fn len(&self) -> usize {
        self.bytes().len()
    }

    /// The first byte.
    pub(crate) fn as_mut_ptr(&mut self) -> *mut u8 {
        self.bytes_mut().as_mut_ptr()
    }

    /// All bytes.
    pub(crate) fn bytes(&self) -> &[u8] {
        match self {
            AlignedBytes::Small(memory) => memory.bytes(),
            AlignedBytes::Large(map, range) => &map[range.clone()],
        }
    }

    /// All bytes, to write to.
    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        match self {
            AlignedBytes::Small(memory) => memory.bytes_mut(),
            AlignedBytes::Large(map, range) => &mut map[range.clone()],
        }
    }
}

/// Memory of the global allocator.
#[derive(Debug)]
pub(crate) struct Allocation {
    start: NonNull<u8>,
    layout: Layout,
}

// SAFETY: the memory is owned by this value alone and plain bytes.
unsafe impl Send for Allocation {}
// SAFETY: shared access only reads.
unsafe impl Sync for Allocation {}

impl Allocation {
    fn zeroed(len_bytes: usize) -> Option<Self> {
        let layout = Layout::from_size_align(len_bytes.max(1), ALIGN_BYTES as usize).ok()?;
        // SAFETY: the layout has a size that is not zero.
        let start = NonNull::new(unsafe { alloc_zeroed(layout) })?;
        Some(Allocation { start, layout })
    }

    fn bytes(&self) -> &[u8] {
        // SAFETY: the memory is valid for its layout's size, initialised, and borrowed with `self`.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.layout.size()) }
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as for `bytes`; `self` is borrowed mutably.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.layout.size()) }
    }
}

impl Drop for Allocation {
    fn drop(&mut self) {
        // SAFETY: allocated in `zeroed` with this layout, and not freed since.
        unsafe { dealloc(self.start.as_ptr(), self.layout) };
    }
}

#[cfg(test)]
mod tests {
    use super::{ALIGN_BYTES, AlignedBytes, HUGE_BYTES};

    #[test]
    fn memory_is_zeroed_and_aligned_at_every_size() {
        for len in [0, 1, 4097, HUGE_BYTES - 1, HUGE_BYTES, 2 * HUGE_BYTES + 3] {
            let mut memory = AlignedBytes::zeroed(len).unwrap();
            assert_eq!(memory.len(), len.max(1));
            let align = if len < HUGE_BYTES { ALIGN_BYTES as usize } else { HUGE_BYTES };
            assert_eq!(memory.as_mut_ptr().align_offset(align), 0, "{len} bytes");
            assert!(memory.bytes().iter().all(|byte| *byte == 0));
            memory.bytes_mut().fill(7);
            assert!(memory.bytes().iter().all(|byte| *byte == 7));
        }
    }

    #[test]
    fn memory_that_there_is_not_is_refused() {
        assert!(AlignedBytes::zeroed(usize::MAX).is_none());
        assert!(AlignedBytes::zeroed(usize::MAX - 4 * HUGE_BYTES).is_none());
    }
}
