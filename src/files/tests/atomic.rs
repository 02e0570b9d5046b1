use std::fs;
use std::io::{Error, Write};
use std::path::Path;

use super::*;
use crate::files::atomic::write_atomically;

/// The names in a folder.
fn listing(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_failure_halfway_leaves_the_old_file_and_nothing_else() {
    let (folder, path) = place("bin");
    fs::write(&path, "old").unwrap();
    let result = write_atomically(&path, |out| {
        out.write_all(&[7; 1 << 20])?;
        Err(Error::other("disk full"))
    });
    assert_eq!(result.unwrap_err().to_string(), "disk full");
    assert_eq!(fs::read(&path).unwrap(), b"old");
    assert_eq!(listing(folder.path()), ["t.bin"]);
}

#[test]
fn a_panic_halfway_leaves_the_old_file_and_nothing_else() {
    let (folder, path) = place("bin");
    fs::write(&path, "old").unwrap();
    let result =
        std::panic::catch_unwind(|| write_atomically(&path, |_| std::panic::resume_unwind(Box::new(()))));
    assert!(result.is_err());
    assert_eq!(fs::read(&path).unwrap(), b"old");
    assert_eq!(listing(folder.path()), ["t.bin"]);
}

#[test]
fn success_replaces_the_whole_file() {
    let (folder, path) = place("bin");
    fs::write(&path, "a longer old text").unwrap();
    write_atomically(&path, |out| out.write_all(b"new")).unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"new");
    assert_eq!(listing(folder.path()), ["t.bin"]);
}

#[test]
fn a_folder_of_that_name_is_left_alone() {
    let (folder, path) = place("safetensors");
    fs::create_dir(&path).unwrap();
    let error = write(&path, &small()).unwrap_err();
    assert_eq!(error.to_diagnostic().exit_code(), 3);
    assert!(path.is_dir());
    assert_eq!(listing(folder.path()), ["t.safetensors"]);
}

#[test]
fn folders_that_cannot_be_written_to_are_code_3() {
    let (folder, _) = place("npz");
    let missing = folder.path().join("missing").join("t.npz");
    for path in [missing.as_path(), Path::new("/proc/t.npz"), Path::new("/dev/null/t.npz")] {
        assert_eq!(write(path, &small()).unwrap_err().to_diagnostic().exit_code(), 3);
    }
    assert!(listing(folder.path()).is_empty());
}

#[cfg(unix)]
#[test]
fn links_stay_links_and_permissions_stay() {
    use std::os::unix::fs::PermissionsExt;
    let (folder, path) = place("bin");
    fs::write(&path, "old").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    let link = folder.path().join("link");
    std::os::unix::fs::symlink(&path, &link).unwrap();
    write_atomically(&link, |out| out.write_all(b"new")).unwrap();
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert_eq!(fs::read(&path).unwrap(), b"new");
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
}

#[cfg(unix)]
#[test]
fn a_folder_without_permission_keeps_the_old_file() {
    use std::os::unix::fs::PermissionsExt;
    let (folder, path) = place("bin");
    fs::write(&path, "old").unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o555)).unwrap();
    // The superuser may write all the same; then there is nothing to see.
    let may_write = fs::write(folder.path().join("probe"), "").is_ok();
    let result = write_atomically(&path, |out| out.write_all(b"new"));
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    if !may_write {
        assert!(result.is_err());
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(listing(folder.path()), ["t.bin"]);
    }
}
