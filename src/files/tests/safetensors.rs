use std::collections::HashMap;

use super::*;
use crate::dtype::DType;
use crate::files::safetensors::{Archive, Metadata, write_safetensors};
use ::safetensors::SafeTensors;

fn archive(bytes: Vec<u8>) -> Result<Archive, FileError> {
    Archive::from_bytes("t.safetensors", bytes)
}

/// A file of this header and this many bytes of data.
fn with_header(header: &str, data_bytes: usize) -> Vec<u8> {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes.resize(bytes.len() + data_bytes, 0);
    bytes
}

/// What opening and decoding says, which has to be an error.
fn refusal(header: &str, data_bytes: usize) -> String {
    let error = archive(with_header(header, data_bytes)).and_then(|a| a.read_all().map(drop)).unwrap_err();
    assert_eq!(error.to_diagnostic().exit_code(), 1, "{error}");
    error.to_string()
}

#[test]
fn the_reference_reader_reads_what_we_write() {
    let bytes = file_bytes("safetensors", &samples());
    let theirs = SafeTensors::deserialize(&bytes).unwrap();
    assert_eq!(theirs.len(), samples().len());
    for (name, tensor) in samples() {
        let view = theirs.tensor(&name).unwrap();
        assert_eq!((view.shape(), view.data()), (tensor.shape(), tensor.to_le_bytes_vec().as_slice()));
    }
}

#[test]
fn we_read_what_the_reference_writer_writes() {
    let data: Vec<u8> = (0..24).collect();
    let view = ::safetensors::tensor::TensorView::new(::safetensors::Dtype::F32, vec![3, 2], &data).unwrap();
    let info = HashMap::from([("framework".to_owned(), "pt".to_owned())]);
    let bytes = ::safetensors::serialize([("w", &view)], Some(info)).unwrap();
    let ours = archive(bytes).unwrap();
    assert_eq!(ours.tensor("w").unwrap().to_le_bytes_vec(), data);
    assert_eq!(ours.metadata()["framework"], "pt");
}

#[test]
fn metadata_and_order_come_back() {
    let (_folder, path) = place("safetensors");
    let metadata = Metadata::from([("z".to_owned(), "1".to_owned()), ("a".to_owned(), "ü\n".to_owned())]);
    let tensors = samples();
    write_safetensors(&path, tensors.iter().map(|(n, t)| (n, t.view())), &metadata).unwrap();
    for opened in [Archive::open(&path).unwrap(), Archive::open_mapped(&path).unwrap()] {
        assert!(opened.metadata().iter().eq(metadata.iter()));
        assert_eq!(opened.names().next(), Some("f64"), "the widest come first");
        assert_eq!(opened.shape("f32"), Some(&[2, 3][..]));
        assert_eq!(opened.dtype("bool"), Some(DType::Bool));
        assert_eq!(opened.read_all().unwrap(), tensors);
    }
}

#[test]
fn a_file_cut_at_any_byte_is_refused() {
    let bytes = file_bytes("safetensors", &small());
    for length in 0..bytes.len() {
        assert!(archive(bytes[..length].to_vec()).is_err(), "{length} bytes");
    }
    let mut longer = bytes;
    longer.push(0);
    assert!(archive(longer).is_err());
}

#[test]
fn no_changed_byte_makes_it_panic() {
    for_each_mutant(&file_bytes("safetensors", &small()), |_, mutant| {
        if let Ok(opened) = archive(mutant.to_vec()) {
            let _ = opened.read_all();
        }
    });
}

#[test]
fn lying_lengths_of_the_header_are_refused() {
    for claimed in [u64::MAX, u64::MAX - 7, 1 << 63, 100_000_001, 3] {
        let mut bytes = claimed.to_le_bytes().to_vec();
        bytes.extend(b"{}");
        let text = archive(bytes).unwrap_err().to_string();
        assert!(text.contains(&format!("claims {claimed} bytes, 2 follow")), "{text}");
    }
}

#[test]
fn each_wrong_field_is_refused_and_the_tensor_named() {
    let cases = [
        (r#"{"w":{"dtype":"F17","shape":[2],"data_offsets":[0,8]}}"#, "`w`: unknown variant `F17`"),
        (r#"{"w":{"dtype":"F32","shape":[-1],"data_offsets":[0,8]}}"#, "`w`: invalid value: integer `-1`"),
        (r#"{"w":{"dtype":"F32","shape":[2.0],"data_offsets":[0,8]}}"#, "`w`: invalid type: floating point"),
        (r#"{"w":{"dtype":"F32","shape":[2]}}"#, "`w`: missing field `data_offsets`"),
        (
            r#"{"w":{"dtype":"F32","dtype":"F64","shape":[2],"data_offsets":[0,8]}}"#,
            "`w`: duplicate field `dtype`",
        ),
        (
            r#"{"w":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}}"#,
            "`w`: F32 of this shape takes 12 bytes",
        ),
        (
            r#"{"w":{"dtype":"F64","shape":[2],"data_offsets":[0,8]}}"#,
            "`w`: F64 of this shape takes 16 bytes",
        ),
        (
            r#"{"w":{"dtype":"F32","shape":[2],"data_offsets":[8,0]}}"#,
            "`w`: its data offsets 8..0 do not lie",
        ),
        (
            r#"{"w":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}}"#,
            "`w`: its data offsets 4..12 do not lie",
        ),
        (
            r#"{"w":{"dtype":"F32","shape":[4611686018427387905],"data_offsets":[0,8]}}"#,
            "`w`: the shape [4611686018427387905] is too large",
        ),
        (
            r#"{"w":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,8]}}"#,
            "`w`: the shape [4294967296, 4294967296] is too large",
        ),
        (
            r#"{"w":{"dtype":"F32","shape":[1,1,1,1,1,1,1,1,2],"data_offsets":[0,8]}}"#,
            "`w`: a tensor has at most 8 axes",
        ),
        (r#"{"w":{"dtype":"F4","shape":[15],"data_offsets":[0,8]}}"#, "`w`: F4 of this shape does not fill"),
        (r#"{"w":{"dtype":"F16","shape":[4],"data_offsets":[0,8]}}"#, "`w`: its type F16 is not supported"),
        (r#"{"w":{"dtype":"U8","shape":[8],"data_offsets":[0,8]}}"#, "`w`: its type U8 is not supported"),
        (r#"{"__metadata__":{"a":1}}"#, "`__metadata__`: invalid type: integer `1`"),
        (r#"{"__metadata__":{"a":"","a":""}}"#, "`__metadata__`: `a` occurs twice"),
        (r#"{"__metadata__":{},"__metadata__":{}}"#, "`__metadata__` occurs twice"),
        ("[]", "it does not start with `{`"),
        ("{} x", "trailing characters"),
        ("{}", "the tensors cover 0 bytes of data, the file has 8"),
    ];
    for (header, expected) in cases {
        let text = refusal(header, 8);
        assert!(text.contains(expected), "{header}\n{text}");
    }
}

#[test]
fn entries_must_cover_the_data_once() {
    let two = |a: &str, b: &str| {
        format!(
            r#"{{"a":{{"dtype":"F32","shape":[1],"data_offsets":{a}}},"b":{{"dtype":"F32","shape":[1],"data_offsets":{b}}}}}"#
        )
    };
    assert!(archive(with_header(&two("[4,8]", "[0,4]"), 8)).is_ok());
    let cases = [("[0,4]", "[0,4]", 8, "`b`"), ("[0,4]", "[2,6]", 8, "`b`"), ("[8,12]", "[0,4]", 12, "`a`")];
    for (a, b, data, name) in cases {
        let text = refusal(&two(a, b), data);
        assert!(text.contains(&format!("{name}: its data starts at byte")), "{text}");
    }
    assert!(refusal(&two("[0,4]", "[4,8]"), 9).contains("cover 8 bytes of data, the file has 9"));
    // Offsets whose sum overflows.
    let huge = format!("[4,{}]", u64::MAX);
    assert!(refusal(&two("[0,4]", &huge), 8).contains("`b`: its data offsets"));
}

#[test]
fn a_name_that_occurs_twice_is_refused() {
    let one = r#""w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}"#;
    assert!(refusal(&format!("{{{one},{one}}}"), 8).contains("`w` occurs twice"));
}

#[test]
fn a_header_that_is_not_text_is_refused() {
    let mut bytes = with_header(r#"{"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#, 8);
    let at = bytes.iter().position(|&b| b == b'w').unwrap();
    bytes[at] = 0xff;
    assert!(archive(bytes).unwrap_err().to_string().contains("invalid utf-8"));
    // Nesting is bounded by the parser.
    let deep = format!(r#"{{"w":{}"#, "[".repeat(100_000));
    assert!(archive(with_header(&deep, 0)).is_err());
}

#[test]
fn odd_bools_and_odd_names_are_told() {
    let header = r#"{"a\nb":{"dtype":"BOOL","shape":[1],"data_offsets":[0,1]}}"#;
    let mut bytes = with_header(header, 1);
    *bytes.last_mut().unwrap() = 2;
    let text = archive(bytes).unwrap().read_all().unwrap_err().to_string();
    assert!(text.contains(r"tensor `a\nb`: element 0 of a bool tensor is the byte 2"), "{text}");
}

#[test]
fn names_that_cannot_be_written_are_refused() {
    let (_folder, path) = place("safetensors");
    let t = Tensor::scalar_f32(1.0);
    for (names, expected) in [(["w", "w"], "given twice"), (["w", "__metadata__"], "reserved")] {
        let error = write_tensors(&path, names.map(|n| (n, t.view()))).unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
        assert!(!path.exists());
    }
}

#[test]
fn a_missing_tensor_is_named() {
    let opened = archive(file_bytes("safetensors", &small())).unwrap();
    assert!(opened.tensor("v").unwrap_err().to_string().contains("tensor `v`: the archive does not hold it"));
}
