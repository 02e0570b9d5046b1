//! Grey pictures as PNG files: what a mask is drawn into.
//!
//! # Source
//! Portable Network Graphics, third edition: one `IHDR`, one `IDAT` of unfiltered rows, `IEND`.

use super::{FileError, write_bytes};
use flate2::write::ZlibEncoder;
use flate2::{Compression, Crc};
use std::io::{self, Write};
use std::path::Path;

const SIGNATURE: [u8; 8] = [0x89, b'P', b'N', b'G', b'\r', b'\n', 0x1A, b'\n'];
const BIT_DEPTH: u8 = 8;
const GREYSCALE: u8 = 0;

/// Writes a picture, `width` pixels a row, black as 0 and white as 255; the file is replaced whole or
/// left alone.
///
/// # Errors
/// [`FileError::Unwritable`] where the system refuses, or where there are no pixels, no whole number of
/// rows, or more than the format counts.
pub fn write_png(path: impl AsRef<Path>, width: usize, pixels: &[u8]) -> Result<(), FileError> {
    write_bytes(path.as_ref(), |out| {
        let invalid = |text: &str| io::Error::new(io::ErrorKind::InvalidInput, text);
        if width == 0 || pixels.is_empty() || !pixels.len().is_multiple_of(width) {
            return Err(invalid("the picture has no pixels, or no whole rows"));
        }
        // The format counts to 2^31 - 1.
        let side = |n: usize| i32::try_from(n).map_err(|_| invalid("the picture is too large"));
        let (width_pixels, height_pixels) = (side(width)?, side(pixels.len() / width)?);
        let mut header = Vec::new();
        header.extend(width_pixels.to_be_bytes());
        header.extend(height_pixels.to_be_bytes());
        header.extend([BIT_DEPTH, GREYSCALE, 0, 0, 0]);
        let mut data = ZlibEncoder::new(Vec::new(), Compression::default());
        for row in pixels.chunks(width) {
            // Each row says how it is filtered: not at all.
            data.write_all(&[0])?;
            data.write_all(row)?;
        }
        out.write_all(&SIGNATURE)?;
        write_chunk(out, *b"IHDR", &header)?;
        write_chunk(out, *b"IDAT", &data.finish()?)?;
        write_chunk(out, *b"IEND", &[])
    })
}

fn write_chunk(out: &mut impl Write, kind: [u8; 4], data: &[u8]) -> io::Result<()> {
    let length = u32::try_from(data.len())
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "the picture is too large"))?;
    let mut crc = Crc::new();
    crc.update(&kind);
    crc.update(data);
    out.write_all(&length.to_be_bytes())?;
    out.write_all(&kind)?;
    out.write_all(data)?;
    out.write_all(&crc.sum().to_be_bytes())
}
