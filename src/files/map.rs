//! The bytes of a file, owned or mapped.
//!
//! A mapping is opt-in: if the file shrinks while it is mapped, reading past its new end ends the process
//! with a signal that no check can prevent, and if it is written to, validated bytes may change.

use std::fs::File;
use std::io;
use std::ops::Deref;

/// Bytes that stay where they are.
#[derive(Debug)]
pub(super) enum Bytes {
    Owned(Vec<u8>),
    Mapped(memmap2::Mmap),
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Bytes::Owned(bytes) => bytes,
            Bytes::Mapped(map) => map,
        }
    }
}

/// Maps a whole file, for reading only.
///
/// # Errors
/// What the system reports.
#[expect(unsafe_code, reason = "mapping a file is a promise about what others do with it")]
pub(super) fn map_file(file: &File) -> io::Result<Bytes> {
    // SAFETY: the caller opted in to the promise, stated at `Archive::open_mapped`, that nobody shortens
    // or writes the file while the archive lives. The mapping is private and read-only, and the bytes
    // are only ever read as `u8` and copied out, so no invariant of a type rests on their values.
    unsafe { memmap2::Mmap::map(file) }.map(Bytes::Mapped)
}
