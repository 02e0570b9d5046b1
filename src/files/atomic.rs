//! Files that are replaced whole or not at all.
//!
//! The content goes to a temporary file in the same folder, is forced to the disk, and takes the name of
//! the old file in one step; then the folder is forced to the disk, so that the new name survives a loss
//! of power. Up to the renaming every failure leaves the old file as it was and removes the temporary
//! one; a process killed in between leaves the temporary file behind, never a torn one under the name.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

/// Where content is written to.
pub type Output<'a> = BufWriter<&'a mut File>;

/// Writes `path` by what `content` writes. A link is followed, so that it stays a link; the permissions
/// of a file that is replaced are kept.
///
/// # Errors
/// What the system or `content` reports; where `path` is something other than a regular file,
/// [`io::ErrorKind::InvalidInput`].
pub fn write_atomically(
    path: &Path,
    content: impl FnOnce(&mut Output<'_>) -> io::Result<()>,
) -> io::Result<()> {
    let (target, old) = resolve(path)?;
    let folder = match target.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let mut builder = tempfile::Builder::new();
    builder.prefix(".mdlc-").suffix(".tmp");
    #[cfg(unix)]
    if old.is_none() {
        use std::os::unix::fs::PermissionsExt;
        // The mode any new file asks for; the umask of the process takes its part away.
        builder.permissions(fs::Permissions::from_mode(0o666));
    }
    // Removed when dropped, which every early return below relies on.
    let mut temporary = builder.tempfile_in(folder)?;
    {
        let mut out = BufWriter::with_capacity(1 << 16, temporary.as_file_mut());
        content(&mut out)?;
        out.flush()?;
    }
    if let Some(old) = old {
        temporary.as_file().set_permissions(old)?;
    }
    temporary.as_file().sync_all()?;
    temporary.persist(&target).map_err(|e| e.error)?;
    sync_folder(folder)
}

/// The file that `path` leads to, and its permissions where it is there already.
fn resolve(path: &Path) -> io::Result<(PathBuf, Option<fs::Permissions>)> {
    match fs::metadata(path) {
        Ok(meta) if meta.is_file() => Ok((fs::canonicalize(path)?, Some(meta.permissions()))),
        Ok(_) => {
            let text = "it is there and is not a regular file";
            Err(io::Error::new(io::ErrorKind::InvalidInput, text))
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok((path.to_owned(), None)),
        Err(e) => Err(e),
    }
}

#[cfg(unix)]
fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Folders cannot be opened as files here; the renaming is as durable as the system makes it.
#[cfg(not(unix))]
fn sync_folder(_folder: &Path) -> io::Result<()> {
    Ok(())
}
