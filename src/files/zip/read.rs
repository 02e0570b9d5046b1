//! Reads an archive.
//!
//! Takes the bytes of an archive, gives its entries. [`Directory::parse`] refuses whatever two readers
//! could understand differently: bytes before the archive, a directory that does not fill its place, local
//! headers that disagree with it, entries that overlap, encryption, several disks. The number of entries
//! and every size are bounded by the bytes that are there before anything is allocated: deflate shrinks
//! nothing below one part in [`MAX_RATIO`], and no byte belongs to two entries.

use std::borrow::Cow;
use std::io::Read;

use flate2::Crc;
use flate2::read::DeflateDecoder;

use super::{
    CENTRAL_MAGIC, END_MAGIC, END64_BYTES, END64_MAGIC, EXTRA_ZIP64, IN_EXTRA, LOCAL_MAGIC, LOCATOR64_MAGIC,
    METHOD_STORED, ZipError,
};

const CENTRAL_BYTES: usize = 46;
const END_BYTES: usize = 22;
const LOCATOR64_BYTES: usize = 20;

const METHOD_DEFLATED: u16 = 8;

/// Flag of entries that are encrypted.
const FLAG_ENCRYPTED: u16 = 1;

/// The most bytes that one byte of a deflate stream can stand for: 258 for two bits.
const MAX_RATIO: u64 = 1032;

/// One entry, its bytes in place.
#[derive(Clone, Debug)]
pub(in crate::files) struct Entry<'a> {
    pub(in crate::files) name: &'a str,
    /// Uncompressed.
    pub(in crate::files) size_bytes: u64,
    deflated: bool,
    checksum: u32,
    /// Compressed.
    bytes: &'a [u8],
}

impl<'a> Entry<'a> {
    /// The uncompressed bytes, their length and checksum checked.
    pub(in crate::files) fn content(&self) -> Result<Cow<'a, [u8]>, ZipError> {
        let content = if self.deflated { Cow::Owned(self.inflated()?) } else { Cow::Borrowed(self.bytes) };
        let mut sum = Crc::new();
        sum.update(&content);
        if sum.sum() != self.checksum {
            return Err(ZipError::Checksum);
        }
        Ok(content)
    }

    fn inflated(&self) -> Result<Vec<u8>, ZipError> {
        const STEP_BYTES: usize = 1 << 16;
        let claimed = usize::try_from(self.size_bytes).map_err(|_| ZipError::OutOfMemory)?;
        let mut decoder = DeflateDecoder::new(self.bytes);
        let mut out = Vec::new();
        let mut step = vec![0; STEP_BYTES.min(claimed + 1)];
        loop {
            let n = decoder.read(&mut step).map_err(|_| ZipError::Damaged)?;
            if n == 0 {
                break;
            }
            if n > claimed - out.len() {
                return Err(ZipError::Damaged);
            }
            out.try_reserve(n).map_err(|_| ZipError::OutOfMemory)?;
            out.extend_from_slice(&step[..n]);
        }
        if out.len() != claimed || decoder.total_in() != self.bytes.len() as u64 {
            return Err(ZipError::Damaged);
        }
        Ok(out)
    }
}

/// The entries of an archive, in the order of its directory.
#[derive(Debug)]
pub(in crate::files) struct Directory<'a> {
    entries: Vec<Entry<'a>>,
}

impl<'a> Directory<'a> {
    /// Reads and checks the directory and all local headers.
    pub(in crate::files) fn parse(archive: &'a [u8]) -> Result<Self, ZipError> {
        let place = find_directory(archive)?;
        let body = &archive[..place.start];
        let mut rest = Fields(&archive[place.start..place.end]);
        // Each entry takes at least this much of the directory, which bounds what is reserved.
        if place.entries > (place.end - place.start) as u64 / CENTRAL_BYTES as u64 {
            return Err(ZipError::Directory);
        }
        let mut entries = Vec::with_capacity(place.entries as usize);
        let mut spans = Vec::with_capacity(place.entries as usize);
        for _ in 0..place.entries {
            let central = Central::parse(&mut rest)?;
            let (entry, span) = central.locate(body)?;
            entries.push(entry);
            spans.push(span);
        }
        if !rest.0.is_empty() {
            return Err(ZipError::Directory);
        }
        spans.sort_unstable();
        if spans.windows(2).any(|pair| pair[1].0 < pair[0].1) {
            return Err(ZipError::Overlap);
        }
        Ok(Directory { entries })
    }

    /// All entries.
    pub(in crate::files) fn entries(&self) -> &[Entry<'a>] {
        &self.entries
    }

    /// What all compressed entries together claim to inflate to.
    pub(in crate::files) fn inflated_bytes(&self) -> u64 {
        self.entries.iter().filter(|e| e.deflated).fold(0, |n, e| n.saturating_add(e.size_bytes))
    }
}

/// Where the directory lies.
struct Place {
    start: usize,
    end: usize,
    entries: u64,
}

/// The end record is at the end but for a comment; the directory lies right before it, or before the
/// 64-bit record and its locator where there are these.
fn find_directory(archive: &[u8]) -> Result<Place, ZipError> {
    let last = archive.len().checked_sub(END_BYTES).ok_or(ZipError::NoEnd)?;
    let first = last.saturating_sub(usize::from(u16::MAX));
    let end_at = (first..=last)
        .rev()
        .find(|&at| {
            let comment = archive.len() - at - END_BYTES;
            archive[at..].starts_with(&END_MAGIC.to_le_bytes())
                && archive[at + END_BYTES - 2..].starts_with(&(comment as u16).to_le_bytes())
        })
        .ok_or(ZipError::NoEnd)?;
    let mut end = Fields(&archive[end_at + 4..]);
    let (disk, directory_disk) = (end.u16()?, end.u16()?);
    let (entries_here, entries) = (end.u16()?, end.u16()?);
    let (size, start) = (end.u32()?, end.u32()?);

    let locator_at = end_at.checked_sub(LOCATOR64_BYTES);
    let locator = locator_at.filter(|&at| archive[at..].starts_with(&LOCATOR64_MAGIC.to_le_bytes()));
    if let Some(locator_at) = locator {
        return find_directory64(archive, locator_at);
    }
    if disk != 0 || directory_disk != 0 || entries_here != entries {
        return Err(ZipError::Disks);
    }
    checked_place(start.into(), size.into(), entries.into(), end_at)
}

fn find_directory64(archive: &[u8], locator_at: usize) -> Result<Place, ZipError> {
    let mut locator = Fields(&archive[locator_at + 4..]);
    let (disk, record_at, disks) = (locator.u32()?, locator.u64()?, locator.u32()?);
    if disk != 0 || disks > 1 {
        return Err(ZipError::Disks);
    }
    let expected_at = locator_at.checked_sub(END64_BYTES).ok_or(ZipError::Directory)?;
    let mut record = Fields(&archive[expected_at..]);
    if record_at != expected_at as u64 || record.u32()? != END64_MAGIC {
        return Err(ZipError::Directory);
    }
    let record_bytes = record.u64()?;
    if record_bytes != END64_BYTES as u64 - 12 {
        return Err(ZipError::Directory);
    }
    record.skip(4)?;
    let (disk, directory_disk) = (record.u32()?, record.u32()?);
    let (entries_here, entries) = (record.u64()?, record.u64()?);
    let (size, start) = (record.u64()?, record.u64()?);
    if disk != 0 || directory_disk != 0 || entries_here != entries {
        return Err(ZipError::Disks);
    }
    checked_place(start, size, entries, expected_at)
}

fn checked_place(start: u64, size: u64, entries: u64, end: usize) -> Result<Place, ZipError> {
    if start.checked_add(size) != Some(end as u64) {
        return Err(ZipError::Directory);
    }
    Ok(Place { start: start as usize, end, entries })
}

/// One record of the directory.
struct Central<'a> {
    name: &'a [u8],
    flags: u16,
    method: u16,
    checksum: u32,
    compressed_bytes: u64,
    size_bytes: u64,
    local_at: u64,
}

impl<'a> Central<'a> {
    fn parse(fields: &mut Fields<'a>) -> Result<Self, ZipError> {
        if fields.u32()? != CENTRAL_MAGIC {
            return Err(ZipError::Directory);
        }
        fields.skip(4)?; // versions
        let (flags, method) = (fields.u16()?, fields.u16()?);
        fields.skip(4)?; // time
        let checksum = fields.u32()?;
        let (compressed, size) = (fields.u32()?, fields.u32()?);
        let (name, extra, comment) = (fields.u16()?, fields.u16()?, fields.u16()?);
        let disk = fields.u16()?;
        fields.skip(6)?; // attributes
        let local = fields.u32()?;
        let name = fields.bytes(name.into())?;
        let mut wide = Fields(zip64_extra(fields.bytes(extra.into())?)?);
        fields.skip(comment.into())?;
        if disk != 0 {
            return Err(ZipError::Disks);
        }
        // The order of the extra field.
        let size_bytes = wide.widened(size)?;
        let compressed_bytes = wide.widened(compressed)?;
        let local_at = wide.widened(local)?;
        Ok(Central { name, flags, method, checksum, compressed_bytes, size_bytes, local_at })
    }

    /// The entry, and the bytes of the archive that belong to it.
    fn locate(&self, body: &'a [u8]) -> Result<(Entry<'a>, (usize, usize)), ZipError> {
        if self.flags & FLAG_ENCRYPTED != 0 {
            return Err(ZipError::Encrypted);
        }
        let deflated = match self.method {
            METHOD_STORED => false,
            METHOD_DEFLATED => true,
            method => return Err(ZipError::Method { method }),
        };
        let ratio = if deflated { MAX_RATIO } else { 1 };
        let impossible = self.size_bytes > self.compressed_bytes.saturating_mul(ratio)
            || (!deflated && self.size_bytes != self.compressed_bytes);
        if impossible {
            let (size_bytes, compressed_bytes) = (self.size_bytes, self.compressed_bytes);
            return Err(ZipError::Size { size_bytes, compressed_bytes });
        }
        let name = std::str::from_utf8(self.name).map_err(|_| ZipError::Name)?;
        let start = usize::try_from(self.local_at).map_err(|_| ZipError::Local)?;
        let mut local = Fields(body.get(start..).ok_or(ZipError::Local)?);
        let bytes = self.local_content(&mut local).map_err(|_| ZipError::Local)?;
        let span = (start, body.len() - local.0.len());
        let entry = Entry { name, size_bytes: self.size_bytes, deflated, checksum: self.checksum, bytes };
        Ok((entry, span))
    }

    /// The compressed bytes behind a local header that agrees with this record. Sizes and checksum of the
    /// local header are not looked at: they may be zero, and the directory's are what counts.
    fn local_content(&self, local: &mut Fields<'a>) -> Result<&'a [u8], ZipError> {
        let magic = local.u32()?;
        local.skip(2)?; // version
        let (flags, method) = (local.u16()?, local.u16()?);
        local.skip(16)?; // time, checksum, sizes
        let (name, extra) = (local.u16()?, local.u16()?);
        let name = local.bytes(name.into())?;
        local.skip(extra.into())?;
        let encrypted = flags & FLAG_ENCRYPTED != 0;
        if magic != LOCAL_MAGIC || encrypted || method != self.method || name != self.name {
            return Err(ZipError::Local);
        }
        local.bytes(usize::try_from(self.compressed_bytes).map_err(|_| ZipError::Local)?)
    }
}

/// The content of the 64-bit extra field; nothing where there is none.
fn zip64_extra(extra: &[u8]) -> Result<&[u8], ZipError> {
    let mut fields = Fields(extra);
    // Some writers pad the extra fields with fewer bytes than a field takes.
    while fields.0.len() >= 4 {
        let (kind, length) = (fields.u16()?, fields.u16()?);
        let content = fields.bytes(length.into())?;
        if kind == EXTRA_ZIP64 {
            return Ok(content);
        }
    }
    Ok(&[])
}

/// Little-endian fields, taken from the front; what is not there is an error.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn bytes(&mut self, n: usize) -> Result<&'a [u8], ZipError> {
        let (taken, rest) = self.0.split_at_checked(n).ok_or(ZipError::Directory)?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], ZipError> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(ZipError::Directory)?;
        self.0 = rest;
        Ok(*taken)
    }

    fn skip(&mut self, n: usize) -> Result<(), ZipError> {
        self.bytes(n).map(drop)
    }

    fn u16(&mut self) -> Result<u16, ZipError> {
        self.array().map(u16::from_le_bytes)
    }

    fn u32(&mut self) -> Result<u32, ZipError> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, ZipError> {
        self.array().map(u64::from_le_bytes)
    }

    /// A 32-bit field, or the next 64-bit one where it says that the value is there.
    fn widened(&mut self, narrow: u32) -> Result<u64, ZipError> {
        if narrow == IN_EXTRA { self.u64() } else { Ok(narrow.into()) }
    }
}
