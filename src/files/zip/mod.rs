//! As much of the zip format as `.npz` files need: stored and deflated entries, with 64-bit sizes.
//!
//! [`Directory`] reads an archive, [`Writer`] writes one. Neither knows what the entries hold.
//!
//! # Source
//! APPNOTE.TXT 6.3, sections 4.3.7, 4.3.12, 4.3.14 to 4.3.16 and 4.5.3.

mod read;
mod write;

pub(super) use read::Directory;
pub(super) use write::Writer;

const LOCAL_MAGIC: u32 = 0x0403_4b50;
const CENTRAL_MAGIC: u32 = 0x0201_4b50;
const END_MAGIC: u32 = 0x0605_4b50;
const END64_MAGIC: u32 = 0x0606_4b50;
const LOCATOR64_MAGIC: u32 = 0x0706_4b50;

const END64_BYTES: usize = 56;

/// The extra field that holds the sizes which do not fit into 32 bits.
const EXTRA_ZIP64: u16 = 1;
/// Stands in a 32-bit field whose value is in the extra field.
const IN_EXTRA: u32 = u32::MAX;
const METHOD_STORED: u16 = 0;

/// # Units
/// Bytes of the longest name.
pub(super) const MAX_NAME_BYTES: usize = u16::MAX as usize;

/// Why bytes are not an archive that can be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ZipError {
    /// No end record where the bytes end.
    #[error("no zip directory at its end")]
    NoEnd,
    /// A directory that does not lie where the end record says, or not only there.
    #[error("its zip directory is damaged")]
    Directory,
    /// Several disks.
    #[error("it is one part of several")]
    Disks,
    /// A name that is not UTF-8 or too long.
    #[error("a name in its zip directory is not UTF-8 or too long")]
    Name,
    /// A local header that is not there or disagrees with the directory.
    #[error("its local header disagrees with the zip directory")]
    Local,
    /// Encryption.
    #[error("it is encrypted")]
    Encrypted,
    /// A compression other than deflate.
    #[error("it is compressed by method {method}, only stored and deflated entries are supported")]
    Method {
        /// As the format counts them.
        method: u16,
    },
    /// A size that the compressed bytes cannot have.
    #[error("it claims {size_bytes} bytes, which its {compressed_bytes} compressed bytes cannot hold")]
    Size {
        /// The claim.
        size_bytes: u64,
        /// What is there.
        compressed_bytes: u64,
    },
    /// Entries that share bytes.
    #[error("its entries overlap")]
    Overlap,
    /// A deflate stream that is not one, or has another length than claimed.
    #[error("its compressed bytes are damaged")]
    Damaged,
    /// Bytes that do not have the checksum.
    #[error("its checksum is wrong")]
    Checksum,
    /// Memory is short.
    #[error("out of memory")]
    OutOfMemory,
}
