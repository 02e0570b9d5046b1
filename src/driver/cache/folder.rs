//! The folder that a cache keeps its files in.
//!
//! Code that is read from it runs with the rights of this process, so nobody else may have put it there: the
//! folder and every file must belong to the user of the process, and nobody else may write to them.
//! Files appear whole, under a temporary name first, so any number of processes may read and write at once;
//! of two that write the same file, the later wins. When a file makes the folder too large, those
//! that were used longest ago are removed.

use std::fs::{self, File, Metadata};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// What files of a cache end in.
const SUFFIX: &str = ".mdlcache";
/// What files end in that are being written.
const TEMPORARY: &str = ".tmp";
/// A file that is still being written after so long has nobody to write it.
const ABANDONED: Duration = Duration::from_secs(3600);

/// A folder of the user's own.
#[derive(Clone, Debug)]
pub(super) struct Folder {
    path: PathBuf,
    limit_bytes: u64,
}

impl Folder {
    /// Makes the folder where it is not there yet, for its owner alone.
    pub(super) fn open(path: PathBuf, limit_bytes: u64) -> Result<Folder, String> {
        make(&path).map_err(|error| format!("it cannot be made: {error}"))?;
        let found = fs::metadata(&path).map_err(|error| error.to_string())?;
        if !found.is_dir() {
            return Err("it is not a folder".into());
        }
        if !is_own(&found).map_err(|error| error.to_string())? {
            return Err("it belongs to another user, or others may write to it".into());
        }
        Ok(Folder { path, limit_bytes })
    }

    pub(super) fn limit(self, limit_bytes: u64) -> Folder {
        Folder { limit_bytes, ..self }
    }

    /// The content of a file; `None` where there is none that can be trusted. It then counts as used now.
    pub(super) fn read(&self, name: &str) -> Option<Vec<u8>> {
        let mut file = File::open(self.file(name)).ok()?;
        let found = file.metadata().ok()?;
        if !found.is_file() || found.len() > self.limit_bytes || !is_own(&found).ok()? {
            return None;
        }
        let mut bytes = Vec::with_capacity(usize::try_from(found.len()).ok()?);
        file.read_to_end(&mut bytes).ok()?;
        // Where the time cannot be set, the file is merely removed earlier.
        let _ = file.set_modified(SystemTime::now());
        Some(bytes)
    }

    /// Writes a file, and removes others where there are too many.
    pub(super) fn write(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        if bytes.len() as u64 > self.limit_bytes {
            return Ok(());
        }
        // Open to its owner only, and removed when dropped.
        let mut temporary =
            tempfile::Builder::new().prefix(".mdlc-").suffix(TEMPORARY).tempfile_in(&self.path)?;
        temporary.write_all(bytes)?;
        temporary.persist(self.file(name)).map_err(|error| error.error)?;
        self.tidy(name)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.path.join(format!("{name}{SUFFIX}"))
    }

    fn tidy(&self, newest: &str) -> io::Result<()> {
        let (now, newest) = (SystemTime::now(), self.file(newest));
        let mut files: Vec<(SystemTime, PathBuf, u64)> = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            // What another process has just removed is no concern.
            let Ok((path, found)) = entry.and_then(|entry| Ok((entry.path(), entry.metadata()?))) else {
                continue;
            };
            let used = found.modified().unwrap_or(SystemTime::UNIX_EPOCH);
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            let old = now.duration_since(used).is_ok_and(|age| age > ABANDONED);
            if name.ends_with(TEMPORARY) && name.starts_with(".mdlc-") && old {
                let _ = fs::remove_file(&path);
            } else if name.ends_with(SUFFIX) {
                files.push((used, path, found.len()));
            }
        }
        files.sort();
        let mut total: u64 = files.iter().map(|(_, _, len)| len).sum();
        for (_, path, len) in files.into_iter().filter(|(_, path, _)| *path != newest) {
            if total <= self.limit_bytes {
                break;
            }
            let _ = fs::remove_file(&path);
            total = total.saturating_sub(len);
        }
        Ok(())
    }
}

#[cfg(unix)]
fn make(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

#[cfg(not(unix))]
fn make(path: &Path) -> io::Result<()> {
    fs::create_dir_all(path)
}

/// Whether something belongs to the user of this process, and nobody else may write to it.
#[cfg(unix)]
fn is_own(found: &Metadata) -> io::Result<bool> {
    use std::os::unix::fs::MetadataExt;
    const WRITABLE_BY_OTHERS: u32 = 0o022;
    Ok(found.uid() == user()? && found.mode() & WRITABLE_BY_OTHERS == 0)
}

/// Elsewhere folders below a user's own are the user's.
#[cfg(not(unix))]
fn is_own(_: &Metadata) -> io::Result<bool> {
    Ok(true)
}

/// The user whom new files of this process belong to.
#[cfg(unix)]
fn user() -> io::Result<u32> {
    use std::os::unix::fs::MetadataExt;
    match fs::metadata("/proc/self") {
        Ok(found) => Ok(found.uid()),
        Err(_) => Ok(tempfile::tempfile()?.metadata()?.uid()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(path: &Path) -> Vec<String> {
        let entries = fs::read_dir(path).unwrap();
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    #[test]
    fn the_files_used_longest_ago_make_room() {
        let place = tempfile::tempdir().unwrap();
        let folder = Folder::open(place.path().join("a/b"), 250).unwrap();
        let past = |seconds: u64| SystemTime::now() - Duration::from_secs(seconds);
        for (name, age) in [("first", 300), ("second", 200)] {
            folder.write(name, &[1; 100]).unwrap();
            File::open(folder.file(name)).unwrap().set_modified(past(age)).unwrap();
        }
        // Used now, so that the second is the older one.
        assert_eq!(folder.read("first").unwrap(), [1; 100]);
        folder.write("third", &[3; 100]).unwrap();
        assert_eq!(names(&folder.path), ["first.mdlcache", "third.mdlcache"]);
        // Too large for the folder, so not kept and nothing removed for it.
        folder.write("huge", &[4; 300]).unwrap();
        assert_eq!(names(&folder.path).len(), 2);
        // As large as the folder: alone.
        folder.write("large", &[5; 250]).unwrap();
        assert_eq!(names(&folder.path), ["large.mdlcache"]);
    }

    #[test]
    fn what_nobody_finishes_is_removed_in_time() {
        let place = tempfile::tempdir().unwrap();
        let folder = Folder::open(place.path().to_owned(), 1000).unwrap();
        let left = folder.path.join(".mdlc-x.tmp");
        fs::write(&left, "half").unwrap();
        folder.write("a", b"whole").unwrap();
        assert!(left.exists(), "somebody may be writing it");
        let long_ago = SystemTime::now() - 2 * ABANDONED;
        File::options().write(true).open(&left).unwrap().set_modified(long_ago).unwrap();
        folder.write("a", b"whole again").unwrap();
        assert_eq!(names(&folder.path), ["a.mdlcache"]);
    }

    #[test]
    #[cfg(unix)]
    fn what_others_may_write_is_not_trusted() {
        use std::os::unix::fs::PermissionsExt;
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("cache");
        let folder = Folder::open(path.clone(), 1000).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
        folder.write("a", b"ours").unwrap();
        assert_eq!(fs::metadata(folder.file("a")).unwrap().permissions().mode() & 0o777, 0o600);
        fs::set_permissions(folder.file("a"), fs::Permissions::from_mode(0o666)).unwrap();
        assert_eq!(folder.read("a"), None);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).unwrap();
        assert!(Folder::open(path.clone(), 1000).unwrap_err().contains("others may write"));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        assert!(Folder::open(path, 1000).is_ok());
        let file = place.path().join("file");
        fs::write(&file, "").unwrap();
        assert!(Folder::open(file, 1000).is_err());
    }
}
