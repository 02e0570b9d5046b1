use npyz::WriterBuilder;

use super::*;
use crate::files::npy::{NpyError, decode_npy};

/// A file of version 1 with this header and this data.
fn with_header(header: &str, data: &[u8]) -> Vec<u8> {
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((header.len() as u16).to_le_bytes());
    bytes.extend(header.as_bytes());
    bytes.extend(data);
    bytes
}

fn header(descr: &str, fortran: &str, shape: &str) -> String {
    format!("{{'descr': '{descr}', 'fortran_order': {fortran}, 'shape': {shape}, }}\n")
}

fn small_bytes() -> Vec<u8> {
    let (_folder, path) = place("npy");
    write_tensors(&path, [("w", Tensor::new([2, 1], vec![1.0f32, 2.0]).unwrap().view())]).unwrap();
    std::fs::read(path).unwrap()
}

#[test]
fn an_independent_reader_reads_what_we_write() {
    let bytes = small_bytes();
    let theirs = npyz::NpyFile::new(&bytes[..]).unwrap();
    assert_eq!((theirs.shape(), theirs.order()), (&[2, 1][..], npyz::Order::C));
    assert_eq!(theirs.into_vec::<f32>().unwrap(), [1.0, 2.0]);
    assert_eq!((bytes.len() - 8) % 64, 0, "the data is aligned");
}

#[test]
fn both_byte_orders_and_both_axis_orders_are_read() {
    for descr in ["<i4", ">i4"] {
        for (order, data) in
            [(npyz::Order::C, [1, 2, 3, 4, 5, 6]), (npyz::Order::Fortran, [1, 4, 2, 5, 3, 6])]
        {
            let mut bytes = Vec::new();
            let mut out = npyz::WriteOptions::<i32>::new()
                .dtype(npyz::DType::Plain(descr.parse().unwrap()))
                .shape(&[2, 3])
                .order(order)
                .writer(&mut bytes)
                .begin_nd()
                .unwrap();
            out.extend(data).unwrap();
            out.finish().unwrap();
            let expected = Tensor::new([2, 3], vec![1, 2, 3, 4, 5, 6]).unwrap();
            assert_eq!(decode_npy(&bytes), Ok(expected), "{descr} {order:?}");
        }
    }
}

#[test]
fn fortran_order_of_three_axes_and_of_none() {
    let data: Vec<u8> = (0..24).map(|i| u8::from(i % 5 == 0)).collect();
    let t = decode_npy(&with_header(&header("|b1", "True", "(2, 3, 4)"), &data)).unwrap();
    for (n, &found) in t.as_bool().unwrap().iter().enumerate() {
        let (i, j, k) = (n / 12, n / 4 % 3, n % 4);
        assert_eq!(found, data[i + 2 * j + 6 * k] == 1);
    }
    for (shape, elems) in [("()", 1), ("(1,)", 1), ("(0, 5)", 0), ("(5, 0, 2)", 0)] {
        let data = vec![0; elems * 8];
        assert_eq!(decode_npy(&with_header(&header(">f8", "True", shape), &data)).unwrap().elems(), elems);
    }
}

#[test]
fn headers_of_other_writers_are_read() {
    let data = 7i64.to_le_bytes();
    for text in [
        r#"{"shape":(1,),"fortran_order":False,"descr":"<i8"}"#,
        "{'descr': '<i8', 'fortran_order': False, 'shape': (1L,), }",
        "  {'descr':'<i8' ,\t'shape':( 1 , 1 ) ,'fortran_order':True}   \n",
    ] {
        assert_eq!(decode_npy(&with_header(text, &data)).unwrap().as_i64(), Some(&[7][..]), "{text}");
    }
    for version in [2, 3] {
        let text = header("<i8", "False", "(1,)");
        let mut bytes = vec![0x93, b'N', b'U', b'M', b'P', b'Y', version, 0];
        bytes.extend((text.len() as u32).to_le_bytes());
        bytes.extend(text.as_bytes());
        bytes.extend(data);
        assert_eq!(decode_npy(&bytes).unwrap().as_i64(), Some(&[7][..]));
    }
}

#[test]
fn a_file_cut_at_any_byte_is_refused() {
    let bytes = small_bytes();
    for length in 0..bytes.len() {
        assert!(decode_npy(&bytes[..length]).is_err(), "{length} bytes");
    }
    let longer = [&bytes[..], &[0]].concat();
    assert_eq!(decode_npy(&longer), Err(NpyError::DataLength { expected: 8, found: 9 }));
}

#[test]
fn no_changed_byte_makes_it_panic() {
    for_each_mutant(&small_bytes(), |_, mutant| drop(decode_npy(mutant)));
    let fortran = with_header(&header(">i4", "True", "(2, 3)"), &[1; 24]);
    for_each_mutant(&fortran, |_, mutant| drop(decode_npy(mutant)));
}

#[test]
fn shapes_that_lie_are_refused_before_anything_is_allocated() {
    let says = |shape: &str| decode_npy(&with_header(&header("<f4", "False", shape), &[0; 8]));
    assert_eq!(says("(1099511627776,)"), Err(NpyError::DataLength { expected: 1 << 42, found: 8 }));
    for shape in ["(4294967296, 4294967296)", "(9223372036854775807,)", "(0, 4294967296, 4294967296)"] {
        assert!(matches!(says(shape), Err(NpyError::Tensor(_))), "{shape}");
    }
    assert!(matches!(says("(1,1,1,1,1,1,1,1,2)"), Err(NpyError::Tensor(_))));
    for shape in
        ["(18446744073709551616,)", "(-1,)", "(2.0,)", "(2)", "(,)", "(2 3)", "(2,,3)", "[2]", "2", "("]
    {
        assert!(matches!(says(shape), Err(NpyError::Header { .. })), "{shape}");
    }
}

#[test]
fn lengths_of_headers_that_lie_are_refused() {
    let mut bytes = b"\x93NUMPY\x02\x00".to_vec();
    bytes.extend(u32::MAX.to_le_bytes());
    bytes.extend([b' '; 64]);
    assert_eq!(decode_npy(&bytes), Err(NpyError::HeaderLength { claimed: u32::MAX as usize, available: 64 }));
    bytes[6] = 4;
    assert_eq!(decode_npy(&bytes), Err(NpyError::Version { major: 4, minor: 0 }));
}

#[test]
fn each_wrong_field_is_refused() {
    let refused = |text: &str| decode_npy(&with_header(text, &[0; 8])).unwrap_err().to_string();
    for (text, expected) in [
        ("", "expected `{`"),
        ("{", "expected a string"),
        ("{'descr': '<f4', 'fortran_order': False}", "lacks 'shape'"),
        ("{'descr': '<f4', 'shape': (2,)}", "lacks 'fortran_order'"),
        ("{'shape': (2,), 'fortran_order': False}", "lacks 'descr'"),
        ("{'descr': '<f4', 'descr': '<f4', 'fortran_order': False, 'shape': (2,)}", "one each of"),
        ("{'descr': '<f4', 'fortran_order': 0, 'shape': (2,)}", "`True` or `False`"),
        ("{'descr': '<f4', 'fortran_order': False, 'shape': (2,), 'x': 1}", "one each of"),
        ("{'descr': '<f4', 'fortran_order': False, 'shape': (2,)} x", "the end of the header"),
        ("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (2,)}", "arrays of records"),
        ("{'descr': '<f4\\x00', 'fortran_order': False, 'shape': (2,)}", "plain characters"),
        ("{'descr': '<f4", "a string that ends"),
    ] {
        assert!(refused(text).contains(expected), "{text}\n{}", refused(text));
    }
    assert!(refused(&"[(".repeat(4000)).contains("expected `{`"));
    assert!(refused(&format!("{{'shape': {}", "(".repeat(9000))).contains("an axis"));
}

#[test]
fn types_that_are_not_computed_with_are_refused_with_advice() {
    for (descr, advice) in [
        ("<f2", "convert it with `.astype(numpy.float32)`"),
        ("|u1", "convert it with `.astype(numpy.int32)` or `.astype(numpy.int64)`"),
        ("<i2", "convert it with `.astype(numpy.int32)` or `.astype(numpy.int64)`"),
        ("|O", "arrays of Python objects hold programs, and are never read"),
        ("<c8", "f4, f8, i4, i8 and b1 are supported"),
        ("|f4", "convert it with `.astype(numpy.float32)`"),
        ("", "f4, f8, i4, i8 and b1 are supported"),
    ] {
        let source = decode_npy(&with_header(&header(descr, "False", "(2,)"), &[0; 8])).unwrap_err();
        assert_eq!(source, NpyError::Unsupported { descr: descr.to_owned() });
        let diagnostic = FileError::Npy { path: "t.npy".into(), source }.to_diagnostic();
        assert_eq!((diagnostic.exit_code(), diagnostic.help), (1, vec![advice.to_owned()]));
    }
}
