use std::io::{Cursor, Write};

use flate2::Compression;
use flate2::write::DeflateEncoder;
use npyz::WriterBuilder;

use super::*;
use crate::files::npz::{NpzError, decode_npz};
use crate::files::zip::ZipError;

/// Offset of a field in the directory's first record.
const METHOD: usize = 10;
const CHECKSUM: usize = 16;
const COMPRESSED: usize = 20;
const SIZE: usize = 24;
const LOCAL: usize = 42;

/// An archive of one entry, its compressed bytes and its claim given; nothing needs to be true.
fn one_entry(name: &str, method: u16, content: &[u8], size: u32) -> Vec<u8> {
    let mut local = b"PK\x03\x04".to_vec();
    local.extend([20, 0, 0, 0]);
    local.extend(method.to_le_bytes());
    local.extend([0; 16]);
    local.extend((name.len() as u16).to_le_bytes());
    local.extend([0, 0]);
    local.extend(name.as_bytes());
    local.extend(content);

    let mut central = b"PK\x01\x02".to_vec();
    central.extend([20, 0, 20, 0, 0, 0]);
    central.extend(method.to_le_bytes());
    central.extend([0; 8]);
    central.extend((content.len() as u32).to_le_bytes());
    central.extend(size.to_le_bytes());
    central.extend((name.len() as u16).to_le_bytes());
    central.extend([0; 16]);
    central.extend(name.as_bytes());
    archive_of(&local, &central, 1)
}

fn archive_of(locals: &[u8], centrals: &[u8], entries: u16) -> Vec<u8> {
    let mut bytes = [locals, centrals].concat();
    bytes.extend(b"PK\x05\x06\0\0\0\0");
    bytes.extend(entries.to_le_bytes());
    bytes.extend(entries.to_le_bytes());
    bytes.extend((centrals.len() as u32).to_le_bytes());
    bytes.extend((locals.len() as u32).to_le_bytes());
    bytes.extend([0, 0]);
    bytes
}

/// An archive as NumPy's `savez_compressed` and others make them.
fn deflated() -> Vec<u8> {
    let mut out = npyz::npz::NpzWriter::new(Cursor::new(Vec::new()));
    for (name, values) in [("a", vec![1.0f32; 300]), ("b", vec![2.0, 3.0])] {
        let mut array = out
            .array::<f32>(name, Default::default())
            .unwrap()
            .default_dtype()
            .shape(&[values.len() as u64])
            .begin_nd()
            .unwrap();
        array.extend(values).unwrap();
        array.finish().unwrap();
    }
    out.zip_writer().finish().unwrap().into_inner()
}

fn says(bytes: &[u8]) -> String {
    decode_npz(bytes).unwrap_err().to_string()
}

#[test]
fn an_independent_reader_reads_what_we_write() {
    let bytes = file_bytes("npz", &samples());
    let mut theirs = npyz::npz::NpzArchive::new(Cursor::new(bytes)).unwrap();
    assert_eq!(theirs.zip_archive().len(), samples().len());
    for (name, tensor) in samples() {
        let array = theirs.by_name(&name).unwrap().unwrap();
        let shape: Vec<usize> = array.shape().iter().map(|&d| d as usize).collect();
        assert_eq!(shape, tensor.shape(), "{name}");
        if let Some(expected) = tensor.as_f32() {
            assert_eq!(array.into_vec::<f32>().unwrap(), expected);
        }
    }
}

#[test]
fn compressed_archives_are_read_in_their_order() {
    let found = decode_npz(&deflated()).unwrap();
    assert!(found.keys().eq(["a", "b"]));
    assert_eq!(found["a"].as_f32(), Some(&[1.0; 300][..]));
    assert_eq!(found["b"].as_f32(), Some(&[2.0, 3.0][..]));
}

#[test]
fn a_file_cut_at_any_byte_is_refused() {
    for bytes in [file_bytes("npz", &small()), deflated()] {
        for length in 0..bytes.len() {
            assert!(decode_npz(&bytes[..length]).is_err(), "{length} bytes");
        }
    }
}

#[test]
fn no_changed_byte_makes_it_panic_or_changes_an_element() {
    let expected = small();
    for_each_mutant(&file_bytes("npz", &expected), |at, mutant| {
        if let Ok(found) = decode_npz(mutant) {
            assert!(found.values().eq(expected.values()), "byte {at}");
        }
    });
    for_each_mutant(&deflated(), |_, mutant| drop(decode_npz(mutant)));
}

#[test]
fn many_changed_bytes_do_not_make_it_panic() {
    let originals = [file_bytes("npz", &small()), deflated()];
    let mut state = 1u64;
    let mut random = |n: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 33) as usize % n
    };
    for _ in 0..4000 {
        let mut mutant = originals[random(2)].clone();
        for _ in 0..=random(4) {
            let at = random(mutant.len());
            mutant[at] = random(256) as u8;
        }
        drop(decode_npz(&mutant));
    }
}

#[test]
fn claims_that_the_bytes_cannot_hold_are_refused() {
    let bomb = one_entry("a.npy", 8, &[0; 100], u32::MAX - 1);
    assert!(says(&bomb).contains("which its 100 compressed bytes cannot hold"));
    let stored = one_entry("a.npy", 0, &[0; 100], 101);
    assert!(says(&stored).contains("which its 100 compressed bytes cannot hold"));
}

#[test]
fn a_stream_that_inflates_past_its_claim_is_stopped() {
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(&vec![0; 50 << 20]).unwrap();
    let stream = encoder.finish().unwrap();
    for claim in [0, 1, 65_535, 65_536, (50 << 20) - 1, (50 << 20) + 1] {
        let error = says(&one_entry("a.npy", 8, &stream, claim));
        assert!(error.contains("array `a`: its compressed bytes are damaged"), "{claim}: {error}");
    }
}

#[test]
fn archives_that_inflate_too_far_are_a_limit() {
    // Five megabytes of compressed bytes may claim over four gigabytes; nothing is inflated to see it.
    let bomb = one_entry("a.npy", 8, &vec![0; 4 << 20], u32::MAX - 1);
    let (_folder, path) = place("npz");
    // Two of them, one after the other.
    let local_bytes = bomb.len() - 22 - 46 - "a.npy".len();
    let (local, central) = (&bomb[..local_bytes], &bomb[local_bytes..bomb.len() - 22]);
    let mut second = central.to_vec();
    second[LOCAL..LOCAL + 4].copy_from_slice(&(local.len() as u32).to_le_bytes());
    let both = archive_of(&[local, local].concat(), &[central, &second].concat(), 2);
    std::fs::write(&path, both).unwrap();
    let diagnostic = crate::files::read_tensors(&path).unwrap_err().to_diagnostic();
    assert_eq!(diagnostic.exit_code(), 4, "{}", diagnostic.title);
    assert_eq!(diagnostic.help, ["store the arrays uncompressed, with `numpy.savez`"]);
}

#[test]
fn entries_that_share_bytes_are_refused() {
    let one = one_entry("a.npy", 0, &[0; 8], 8);
    let local_bytes = one.len() - 22 - 46 - "a.npy".len();
    let (local, central) = (&one[..local_bytes], &one[local_bytes..one.len() - 22]);
    let both = archive_of(local, &central.repeat(2), 2);
    assert!(matches!(decode_npz(&both), Err(NpzError::Zip(ZipError::Overlap))));
    let mut second = central.to_vec();
    second[LOCAL..LOCAL + 4].copy_from_slice(&(local.len() as u32).to_le_bytes());
    let twice = archive_of(&local.repeat(2), &[central, &second].concat(), 2);
    assert!(matches!(decode_npz(&twice), Err(NpzError::Duplicate { .. })));
}

#[test]
fn each_wrong_field_of_the_directory_is_refused() {
    let good = file_bytes("npz", &small());
    let record = good.windows(4).position(|w| w == b"PK\x01\x02").unwrap();
    let end64 = good.windows(4).position(|w| w == b"PK\x06\x06").unwrap();
    let end = good.windows(4).position(|w| w == b"PK\x05\x06").unwrap();
    let with = |at: usize, value: &[u8]| {
        let mut bytes = good.clone();
        bytes[at..at + value.len()].copy_from_slice(value);
        says(&bytes)
    };
    assert!(with(record + METHOD, &[12, 0]).contains("compressed by method 12"));
    assert!(with(record + METHOD, &[99, 0]).contains("compressed by method 99"));
    assert!(with(record + METHOD - 2, &[1, 0]).contains("encrypted"));
    assert!(with(record + CHECKSUM, &[0; 4]).contains("array `w`: its checksum is wrong"));
    assert!(with(record + COMPRESSED, &[8, 0, 0, 0]).contains("cannot hold"));
    assert!(with(record + SIZE, &[8, 0, 0, 0]).contains("cannot hold"));
    assert!(with(record + LOCAL, &[1, 0, 0, 0]).contains("local header"));
    assert!(with(record + LOCAL, &[0xfe, 0xff, 0xff, 0xff]).contains("local header"));
    assert!(with(4 + 4, &[8, 0]).contains("local header"), "its own method");
    assert!(with(end64 + 32, &[0xff; 8]).contains("several"), "number of entries");
    assert!(with(end64 + 24, &[0xff; 16]).contains("damaged"), "both numbers of entries");
    assert!(with(end64 + 40, &[0xff; 8]).contains("damaged"), "size of the directory");
    assert!(with(end64 + 48, &[0; 8]).contains("damaged"), "start of the directory");
    assert!(with(end - 12, &[0; 8]).contains("damaged"), "place of the 64-bit record");
    assert!(with(end + 20, &[1, 0]).contains("no zip directory"), "length of the comment");
}

#[test]
fn bytes_before_the_archive_are_refused_and_a_comment_is_not() {
    let good = deflated();
    assert!(says(&[b"#!", &good[..]].concat()).contains("directory is damaged"));
    let mut commented = good.clone();
    let at = good.len() - 2;
    commented[at..].copy_from_slice(&5u16.to_le_bytes());
    commented.extend(b"hello");
    assert!(decode_npz(&commented).is_ok());
}

#[test]
fn what_is_not_an_array_is_refused_and_named() {
    assert!(says(&one_entry("a.txt", 0, b"x", 1)).contains("the entry `a.txt` is not an npy file"));
    // The checksum of nothing is 0.
    assert!(says(&one_entry("a.npy", 0, b"", 0)).contains("the array `a`: not an npy file"));
}

#[test]
fn names_that_cannot_be_written_are_refused() {
    let (_folder, path) = place("npz");
    let t = Tensor::scalar_f32(1.0);
    let long = "n".repeat(65_532);
    for (names, expected) in [(["w", "w"], "occurs twice"), (["w", &long], "too long")] {
        let error = write_tensors(&path, names.map(|n| (n, t.view()))).unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
        assert!(!path.exists());
    }
}
