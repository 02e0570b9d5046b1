//! Writes an archive of stored entries.
//!
//! Sizes and offsets are written as 64-bit values always, so that no length depends on another.

use std::io::{self, Write};

use super::{
    CENTRAL_MAGIC, END_MAGIC, END64_BYTES, END64_MAGIC, EXTRA_ZIP64, IN_EXTRA, LOCAL_MAGIC, LOCATOR64_MAGIC,
    METHOD_STORED, ZipError,
};

/// Flag of names in UTF-8.
const FLAG_UTF8: u16 = 1 << 11;

/// What the directory will say of an entry that has been written.
struct Written {
    name: String,
    size_bytes: u64,
    checksum: u32,
    local_at: u64,
}

/// Writes an archive of stored entries. The time of every entry is the earliest the format knows, so that
/// the same content makes the same bytes.
pub(in crate::files) struct Writer<W> {
    out: Counted<W>,
    entries: Vec<Written>,
}

/// 1 January 1980, 00:00.
const DOS_TIME: [u8; 4] = [0, 0, 0x21, 0];
/// A reader must know 64-bit sizes.
const VERSION: u16 = 45;

impl<W: Write> Writer<W> {
    pub(in crate::files) fn new(out: W) -> Self {
        Writer { out: Counted { out, count: 0 }, entries: Vec::new() }
    }

    /// Writes the header of an entry, and gives the place to write its content to: exactly `size_bytes`
    /// bytes of that checksum.
    pub(in crate::files) fn start_entry(
        &mut self,
        name: &str,
        size_bytes: u64,
        checksum: u32,
    ) -> io::Result<&mut impl Write> {
        let local_at = self.out.count;
        let entry = Written { name: name.to_owned(), size_bytes, checksum, local_at };
        let mut header = Vec::new();
        header.extend(LOCAL_MAGIC.to_le_bytes());
        header.extend(VERSION.to_le_bytes());
        entry.extend_common(&mut header);
        header.extend(name_length(name)?.to_le_bytes());
        // Sizes stand in the extra field always, so that the header's length does not depend on them.
        header.extend(20u16.to_le_bytes());
        header.extend(name.as_bytes());
        header.extend(EXTRA_ZIP64.to_le_bytes());
        header.extend(16u16.to_le_bytes());
        header.extend(size_bytes.to_le_bytes());
        header.extend(size_bytes.to_le_bytes());
        self.out.write_all(&header)?;
        self.entries.push(entry);
        Ok(&mut self.out)
    }

    /// Writes the directory.
    pub(in crate::files) fn finish(mut self) -> io::Result<()> {
        let start = self.out.count;
        for entry in &self.entries {
            let mut record = Vec::new();
            record.extend(CENTRAL_MAGIC.to_le_bytes());
            record.extend(VERSION.to_le_bytes());
            record.extend(VERSION.to_le_bytes());
            entry.extend_common(&mut record);
            record.extend(name_length(&entry.name)?.to_le_bytes());
            record.extend(28u16.to_le_bytes());
            record.extend([0; 10]); // comment, disk, attributes
            record.extend(IN_EXTRA.to_le_bytes());
            record.extend(entry.name.as_bytes());
            record.extend(EXTRA_ZIP64.to_le_bytes());
            record.extend(24u16.to_le_bytes());
            record.extend(entry.size_bytes.to_le_bytes());
            record.extend(entry.size_bytes.to_le_bytes());
            record.extend(entry.local_at.to_le_bytes());
            self.out.write_all(&record)?;
        }
        let end = self.out.count;
        let entries = self.entries.len() as u64;
        self.out.write_all(&end_records(start, end, entries))
    }
}

impl Written {
    /// What local header and directory have in common: from the flags to the sizes.
    fn extend_common(&self, header: &mut Vec<u8>) {
        let flags = if self.name.is_ascii() { 0 } else { FLAG_UTF8 };
        header.extend(flags.to_le_bytes());
        header.extend(METHOD_STORED.to_le_bytes());
        header.extend(DOS_TIME);
        header.extend(self.checksum.to_le_bytes());
        header.extend(IN_EXTRA.to_le_bytes());
        header.extend(IN_EXTRA.to_le_bytes());
    }
}

/// The 64-bit end record, its locator, and the end record that points readers to them where a value does
/// not fit.
fn end_records(start: u64, end: u64, entries: u64) -> Vec<u8> {
    let mut record = Vec::new();
    record.extend(END64_MAGIC.to_le_bytes());
    record.extend((END64_BYTES as u64 - 12).to_le_bytes());
    record.extend(VERSION.to_le_bytes());
    record.extend(VERSION.to_le_bytes());
    record.extend([0; 8]); // disks
    record.extend(entries.to_le_bytes());
    record.extend(entries.to_le_bytes());
    record.extend((end - start).to_le_bytes());
    record.extend(start.to_le_bytes());

    record.extend(LOCATOR64_MAGIC.to_le_bytes());
    record.extend([0; 4]); // disk
    record.extend(end.to_le_bytes());
    record.extend(1u32.to_le_bytes());

    let short = u16::try_from(entries).unwrap_or(u16::MAX);
    record.extend(END_MAGIC.to_le_bytes());
    record.extend([0; 4]); // disks
    record.extend(short.to_le_bytes());
    record.extend(short.to_le_bytes());
    record.extend(u32::try_from(end - start).unwrap_or(IN_EXTRA).to_le_bytes());
    record.extend(u32::try_from(start).unwrap_or(IN_EXTRA).to_le_bytes());
    record.extend([0; 2]); // comment
    record
}

fn name_length(name: &str) -> io::Result<u16> {
    u16::try_from(name.len()).map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, ZipError::Name))
}

/// Knows how much has been written.
struct Counted<W> {
    out: W,
    count: u64,
}

impl<W: Write> Write for Counted<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.out.write(bytes)?;
        self.count += n as u64;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
