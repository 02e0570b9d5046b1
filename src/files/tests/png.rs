//! Pictures, read back by hand.

use crate::files::FileError;
use crate::files::png::write_png;
use flate2::Crc;
use flate2::read::ZlibDecoder;
use std::io::Read;

/// The chunks of a file, with their checksums checked.
fn chunks(bytes: &[u8]) -> Vec<(String, Vec<u8>)> {
    let (signature, mut rest) = bytes.split_at(8);
    assert_eq!(signature, b"\x89PNG\r\n\x1a\n");
    let mut found = Vec::new();
    while !rest.is_empty() {
        let length = u32::from_be_bytes(rest[..4].try_into().unwrap()) as usize;
        let (covered, crc) = (&rest[4..8 + length], &rest[8 + length..12 + length]);
        let mut sum = Crc::new();
        sum.update(covered);
        assert_eq!(crc, sum.sum().to_be_bytes());
        found.push((String::from_utf8(covered[..4].to_vec()).unwrap(), covered[4..].to_vec()));
        rest = &rest[12 + length..];
    }
    found
}

#[test]
fn a_picture_is_its_rows() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.png");
    write_png(&path, 3, &[0, 128, 255, 7, 8, 9]).unwrap();
    let chunks = chunks(&std::fs::read(&path).unwrap());
    let kinds: Vec<&str> = chunks.iter().map(|(kind, _)| kind.as_str()).collect();
    assert_eq!(kinds, ["IHDR", "IDAT", "IEND"]);
    assert_eq!(chunks[0].1, [0, 0, 0, 3, 0, 0, 0, 2, 8, 0, 0, 0, 0]);
    let mut rows = Vec::new();
    ZlibDecoder::new(chunks[1].1.as_slice()).read_to_end(&mut rows).unwrap();
    assert_eq!(rows, [0, 0, 128, 255, 0, 7, 8, 9]);
}

#[test]
fn a_picture_without_whole_rows_is_refused_and_nothing_written() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.png");
    for (width, pixels) in [(0, &[1_u8, 2][..]), (3, &[1, 2]), (2, &[])] {
        assert!(matches!(write_png(&path, width, pixels), Err(FileError::Unwritable { .. })));
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}
