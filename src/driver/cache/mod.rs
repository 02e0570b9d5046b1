//! Compiled programs, kept from one process to the next.
//!
//! A program is found again by everything that decides its code: the text of its root file, what was asked for
//! (model, entry, static arguments, dimensions, shapes), the processor and its features, the kernels, the grain, and the
//! build of mdlc itself, by the file of the executable. All of that is the *key*, which an entry holds in full. The
//! texts that the root file imports are in the entry too, and are read again and compared, so that no
//! change of a file goes unnoticed. What does not fit, is damaged or cannot be trusted is no entry; it is
//! replaced when the program has been compiled. Failures to write are passed over: they cost time only.

mod entry;
mod folder;

use super::Outline;
use crate::codegen::target::{Options, host_features};
use crate::diag::{Diagnostic, Fault};
use crate::dim::Dim;
use crate::graph::cost::Cost;
use crate::runtime::{Compiled, Stored};
use crate::sema::library::{self, FolderLoader};
use crate::sema::{COMMAND_LINE, Loader, Request};
use crate::source::SourceMap;
use entry::{Entry, hash};
use folder::Folder;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// # Units
/// Bytes of all files of a cache, unless another limit is set.
const LIMIT_BYTES: u64 = 256 << 20;

/// A folder of compiled programs.
///
/// Programs are the same whether they come from a cache or not. Any number of processes may use a folder.
/// It must belong to the user, and nobody else may write to it, for what is read from it is run.
///
/// ```
/// use mdlc::{Cache, Compiler};
///
/// let folder = std::env::temp_dir().join(format!("mdlc-cache-{}", std::process::id()));
/// let compiler = Compiler::new().cache(Cache::open(&folder)?);
/// let source = "module Double { forward(x: [N]) -> [N] = 2 * x }";
/// let first = compiler.compile_source("double.mdl", source)?;
/// let again = compiler.compile_source("double.mdl", source)?; // read, not compiled
/// assert_eq!(first.signature().name, again.signature().name);
/// # std::fs::remove_dir_all(folder)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Cache {
    folder: Folder,
}

/// A folder that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CacheError {
    path: PathBuf,
    why: String,
}

impl fmt::Display for CacheError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "compiled programs cannot be kept in `{}`: {}", self.path.display(), self.why)
    }
}

impl std::error::Error for CacheError {}

impl CacheError {
    /// As a warning.
    pub fn to_diagnostic(&self) -> Diagnostic {
        Diagnostic::warning("cache-unusable", self.to_string())
            .fault(Fault::File)
            .help("MDLC_CACHE_DIR names another folder; --no-cache does without")
    }
}

impl Cache {
    /// A cache in a folder, which is made where it is not there.
    ///
    /// # Errors
    /// [`CacheError`]: it cannot be made, or is not the user's alone.
    pub fn open(path: impl AsRef<Path>) -> Result<Cache, CacheError> {
        let path = path.as_ref();
        match Folder::open(path.to_owned(), LIMIT_BYTES) {
            Ok(folder) => Ok(Cache { folder }),
            Err(why) => Err(CacheError { path: path.to_owned(), why }),
        }
    }

    /// The same with another limit to the bytes of all files, 256 MiB by default.
    #[must_use]
    pub fn with_limit(self, limit_bytes: u64) -> Cache {
        Cache { folder: self.folder.limit(limit_bytes) }
    }

    /// Where the user's programs are kept: `$MDLC_CACHE_DIR`, else `mdlc` in `$XDG_CACHE_HOME`, else
    /// `.cache/mdlc` in the home folder; `None` where there is none of them.
    pub fn user_folder() -> Option<PathBuf> {
        let of = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        of("MDLC_CACHE_DIR")
            .or_else(|| of("XDG_CACHE_HOME").filter(|path| path.is_absolute()).map(|path| path.join("mdlc")))
            .or_else(|| of("HOME").map(|home| home.join(".cache").join("mdlc")))
    }
}

/// Where a program belongs in a cache: all of its key but the options.
#[derive(Clone, Debug)]
pub(super) struct Slot {
    cache: Cache,
    /// As the user wrote it: places in messages are named by it.
    name: String,
    text: String,
    folder: PathBuf,
    request: Request,
}

/// What was found.
pub(super) struct Found {
    pub sources: SourceMap,
    pub outline: Outline,
    pub compiled: Compiled,
}

/// The text of an entry.
#[derive(Serialize, Deserialize)]
struct Text<P> {
    /// Names and texts of all files, the root first.
    sources: Vec<(String, String)>,
    axes: Vec<Dim>,
    cost: Option<Cost>,
    program: P,
}

impl Slot {
    pub(super) fn new(cache: &Cache, name: &str, text: &str, folder: &Path, request: &Request) -> Slot {
        let (cache, name, text) = (cache.clone(), name.to_string(), text.to_string());
        Slot { cache, name, text, folder: folder.to_owned(), request: request.clone() }
    }

    /// The program of these options, if it is there.
    pub(super) fn find(&self, options: Options) -> Option<Found> {
        let key = self.key(options)?;
        let bytes = self.cache.folder.read(&file_name(&key))?;
        let entry = Entry::of(&bytes).filter(|entry| entry.key == key)?;
        let text: Text<Stored> = serde_json::from_slice(entry.text).ok()?;
        if !self.is_current(&text.sources) {
            return None;
        }
        let compiled = text.program.restore(entry.code.to_vec(), options.cpu).ok()?;
        let mut sources = SourceMap::new();
        for (name, text) in text.sources {
            sources.add(name, text);
        }
        let outline = Outline {
            signature: compiled.signature().clone(),
            checks: compiled.checks().to_vec(),
            axes: text.axes,
            cost: text.cost,
        };
        Some(Found { sources, outline, compiled })
    }

    /// Keeps a program.
    pub(super) fn keep(
        &self,
        options: Options,
        sources: &SourceMap,
        outline: &Outline,
        (program, code): (Stored, Vec<u8>),
    ) {
        let Some(key) = self.key(options) else { return };
        let files = sources.files().iter().map(|file| (file.name.clone(), file.text.clone()));
        let (axes, cost) = (outline.axes.clone(), outline.cost.clone());
        let text = Text { sources: files.collect(), axes, cost, program };
        let Ok(text) = serde_json::to_vec(&text) else { return };
        let bytes = Entry { key: &key, text: &text, code: &code }.to_bytes();
        // A full disk must not keep anyone from running a program that is compiled.
        let _ = self.cache.folder.write(&file_name(&key), &bytes);
    }

    /// Whether all files that a program was made from are as they were.
    fn is_current(&self, sources: &[(String, String)]) -> bool {
        let Some(((name, text), imported)) = sources.split_first() else { return false };
        let loader = FolderLoader::new(&self.folder);
        let same = |(name, text): &(String, String)| {
            let of_library = library::text(name).map(|of_library| of_library == text);
            match loader.load(name) {
                // A file of the user's may have the name of one that is not: then both are as they were.
                Ok(own) => own == *text && of_library != Some(false),
                // Texts of options are in the key.
                Err(_) => of_library.unwrap_or(name == COMMAND_LINE),
            }
        };
        *name == self.name && *text == self.text && imported.iter().all(same)
    }

    /// Everything that decides the code; `None` where that cannot be told, or there will be none.
    fn key(&self, options: Options) -> Option<Vec<u8>> {
        let kernels = options.kernels.on(options.cpu).ok()?;
        let Request { file: _, model, entry, set, dims, with, shapes, given, arguments } = &self.request;
        let key = json!({
            "mdlc": env!("CARGO_PKG_VERSION"),
            "build": build()?,
            "file": self.name,
            "folder": self.folder.to_str()?,
            "text": self.text,
            "model": model,
            "entry": entry,
            "set": set,
            "dims": dims,
            "with": with,
            "shapes": shapes,
            "given": given,
            "arguments": arguments,
            "cpu": options.cpu.name(),
            "features": options.cpu.features(),
            "host": host_features(),
            "kernels": kernels.map(crate::codegen::vector::Isa::name),
            "grain": options.grain.nanoseconds,
        });
        serde_json::to_vec(&key).ok()
    }
}

fn file_name(key: &[u8]) -> String {
    format!("{:032x}", hash(key))
}

/// What tells this build from all others.
fn build() -> Option<&'static str> {
    static BUILD: OnceLock<Option<String>> = OnceLock::new();
    BUILD.get_or_init(|| identity(&std::env::current_exe().ok()?)).as_deref()
}

/// What no other content of a file has: where it is, its size, and when it became what it is. A file cannot be changed,
/// replaced or be given another time without a new time of change, which is the system's alone to set.
#[cfg(unix)]
fn identity(path: &Path) -> Option<String> {
    use std::os::unix::fs::MetadataExt;
    let found = std::fs::metadata(path).ok()?;
    let modified = (found.mtime(), found.mtime_nsec());
    let changed = (found.ctime(), found.ctime_nsec());
    Some(format!("{} {} {} {modified:?} {changed:?}", found.dev(), found.ino(), found.len()))
}

/// Elsewhere its content.
#[cfg(not(unix))]
fn identity(path: &Path) -> Option<String> {
    let bytes = std::fs::read(path).ok()?;
    Some(format!("{:032x} {}", hash(&bytes), bytes.len()))
}
