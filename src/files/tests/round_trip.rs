use std::fs;
use std::path::Path;

use super::*;
use crate::diag::Fault;
use crate::files::read_tensors;

#[test]
fn every_type_comes_back_from_archives() {
    for extension in ["safetensors", "npz"] {
        let (_folder, path) = place(extension);
        write(&path, &samples()).unwrap();
        let found = read_tensors(&path).unwrap();
        assert_eq!(found.len(), samples().len());
        for (name, tensor) in samples() {
            let bits = tensor.to_le_bytes_vec();
            assert_eq!((found[&name].shape(), found[&name].dtype()), (tensor.shape(), tensor.dtype()));
            assert_eq!(found[&name].to_le_bytes_vec(), bits, "{name} in {extension}");
        }
    }
}

#[test]
fn every_type_comes_back_from_single_arrays() {
    for (name, tensor) in samples() {
        let (_folder, path) = place("npy");
        write_tensors(&path, [(name, tensor.view())]).unwrap();
        assert_eq!(read_tensors(&path).unwrap(), NamedTensors::from([("t".to_owned(), tensor)]));
    }
}

#[test]
fn archives_without_tensors_come_back() {
    for extension in ["safetensors", "npz"] {
        let (_folder, path) = place(extension);
        write(&path, &NamedTensors::new()).unwrap();
        assert_eq!(read_tensors(&path).unwrap(), NamedTensors::new());
    }
}

#[test]
fn the_same_tensors_make_the_same_bytes() {
    for extension in ["safetensors", "npz"] {
        assert_eq!(file_bytes(extension, &samples()), file_bytes(extension, &samples()));
    }
}

#[test]
fn an_array_file_holds_one_array() {
    let (_folder, path) = place("npy");
    for (tensors, found) in [(NamedTensors::new(), 0), (small(), 2)] {
        let error = write(&path, &tensors).unwrap_err();
        assert!(error.to_string().ends_with(&format!("holds one array, not {found}")), "{error}");
        assert!(!path.exists());
    }
}

#[test]
fn what_is_not_a_file_is_refused_with_code_3() {
    let folder = tempfile::tempdir().unwrap();
    let named = folder.path().join("folder.npz");
    fs::create_dir(&named).unwrap();
    for path in [named.as_path(), Path::new("/no/such/folder/x.npy")] {
        let diagnostic = read_tensors(path).unwrap_err().to_diagnostic();
        assert_eq!((diagnostic.fault, diagnostic.exit_code()), (Fault::File, 3), "{}", diagnostic.title);
    }
}

#[cfg(unix)]
#[test]
fn a_device_is_refused_before_it_is_opened() {
    let folder = tempfile::tempdir().unwrap();
    let link = folder.path().join("zero.safetensors");
    std::os::unix::fs::symlink("/dev/zero", &link).unwrap();
    assert!(matches!(read_tensors(&link), Err(FileError::NotRegular { .. })));
}

#[test]
fn a_sparse_file_past_the_limit_is_refused_with_code_4() {
    let (_folder, path) = place("npz");
    let file = fs::File::create(&path).unwrap();
    if file.set_len(crate::files::MAX_FILE_BYTES + 1).is_ok() {
        assert_eq!(read_tensors(&path).unwrap_err().to_diagnostic().exit_code(), 4);
    }
}

#[test]
fn an_unknown_extension_is_the_users_fault() {
    let diagnostic = read_tensors("weights.bin").unwrap_err().to_diagnostic();
    assert_eq!((diagnostic.code, diagnostic.exit_code()), ("file-format-unknown", 1));
    assert_eq!(diagnostic.help, ["name it .safetensors, .npy or .npz"]);
}

/// Files that other programs wrote, with tensors of every shape.
#[test]
fn the_weights_of_the_oracles_are_read() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/oracles");
    let Ok(cases) = fs::read_dir(folder) else { return };
    for case in cases {
        let path = case.unwrap().path().join("inputs.safetensors");
        if path.exists() {
            assert!(!read_tensors(&path).unwrap().is_empty(), "{}", path.display());
        }
    }
}
