//! From a file to a stage: the one place where all stages meet.

mod cache;
pub mod cases;
pub mod compare;
pub mod measured;
mod outline;
mod reference;
pub mod table;

pub use cache::{Cache, CacheError};
pub use outline::Outline;
pub use reference::reference;

use crate::codegen::target::{Cpu, Grain, Kernels, Options};
use crate::diag::{Diagnostic, Fault, render_plain};
use crate::files::FileError;
use crate::files::rename::RenameError;
use crate::graph::ir::Program;
use crate::graph::verify::{verify, verify_after};
use crate::loops::ir::LoopProgram;
use crate::runtime::{CompileError, Compiled};
use crate::sema::library::FolderLoader;
use crate::sema::{Request, elaborate};
use crate::source::SourceMap;
use crate::span::FileId;
use cache::{Found, Slot};
use std::fmt;
use std::path::Path;
use std::time::{Duration, Instant};

/// What was wrong, with the sources it points into.
#[derive(Debug)]
pub struct Error {
    /// The texts.
    pub sources: SourceMap,
    /// At least one diagnostic.
    pub diagnostics: Vec<Diagnostic>,
}

impl Error {
    /// An error without source.
    pub fn plain(diagnostic: Diagnostic) -> Self {
        Error { sources: SourceMap::new(), diagnostics: vec![diagnostic] }
    }

    /// # Units
    /// The process exit code.
    pub fn exit_code(&self) -> u8 {
        self.diagnostics.iter().map(Diagnostic::exit_code).max().unwrap_or(70)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&render_plain(&self.sources, &self.diagnostics))
    }
}

impl std::error::Error for Error {}

impl From<FileError> for Error {
    fn from(error: FileError) -> Self {
        Error::plain(error.to_diagnostic())
    }
}

impl From<RenameError> for Error {
    fn from(error: RenameError) -> Self {
        Error { sources: error.sources(), diagnostics: error.diagnostics() }
    }
}

/// What to compile and with what; see the fields of [`Request`].
///
/// ```
/// use mdlc::driver::Compiler;
/// use mdlc::runtime::Weights;
/// use mdlc::tensor::TensorView;
///
/// let source = "
///     module Scale(D) {
///         param weight: [D] = fill(2.0)
///         forward(x: [B, D]) -> [B, D] = x * weight
///     }
///     model scale = Scale(3)
/// ";
/// let compiled = Compiler::new().compile_source("scale.mdl", source)?;
/// let model = compiled.bind(&Weights::initialised(0))?;
/// let x = [1.0f32, 2.0, 3.0];
/// let outputs = model.call([("x", TensorView::f32(&[1, 3], &x)?)])?;
/// assert_eq!(outputs.get("y").and_then(|y| y.as_f32()), Some(&[2.0, 4.0, 6.0][..]));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Compiler {
    request: Request,
    options: Options,
    cache: Option<Cache>,
}

/// A program with its sources and the time each stage took.
#[derive(Debug)]
pub struct Unit {
    /// The texts.
    pub sources: SourceMap,
    /// The graph.
    pub program: Program,
    /// How native code is generated.
    pub options: Options,
    /// Stages in order.
    pub times: Vec<(&'static str, Duration)>,
    /// Where its code is kept, and what with it.
    kept: Option<(Slot, Outline)>,
}

/// A program to be called, as it stands.
#[derive(Debug)]
pub enum Start {
    /// Its graph.
    Graph(Box<Unit>),
    /// Its code, from a cache.
    Code {
        /// The texts.
        sources: SourceMap,
        /// The code.
        compiled: Compiled,
        /// How long it took to find.
        time: Duration,
    },
}

impl Start {
    /// The texts.
    pub fn sources(&self) -> &SourceMap {
        match self {
            Start::Graph(unit) => &unit.sources,
            Start::Code { sources, .. } => sources,
        }
    }

    /// The code, compiled where it is not there; the time of each stage so far.
    ///
    /// # Errors
    /// Limits, and processors that lack what the code needs.
    pub fn code(&mut self) -> Result<(Compiled, Vec<(&'static str, Duration)>), Error> {
        match self {
            Start::Graph(unit) => {
                unit.optimise(None)?;
                let loops = unit.lower()?;
                let compiled = unit.generate_kept(loops)?;
                Ok((compiled, unit.times.clone()))
            }
            Start::Code { compiled, time, .. } => Ok((compiled.clone(), vec![("cache", *time)])),
        }
    }
}

impl Compiler {
    /// Defaults: the file's only model, its `forward`, all dimensions free.
    pub fn new() -> Self {
        Self::default()
    }

    /// The model or module.
    pub fn model(mut self, name: impl Into<String>) -> Self {
        self.request.model = Some(name.into());
        self
    }

    /// The entry.
    pub fn entry(mut self, name: impl Into<String>) -> Self {
        self.request.entry = Some(name.into());
        self
    }

    /// A static argument of the model, an expression of the language.
    pub fn set(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.request.set.push((name.into(), value.into()));
        self
    }

    /// A static argument of the entry, an expression of the language.
    pub fn argument(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.request.arguments.push((name.into(), value.into()));
        self
    }

    /// Fixes a dimension.
    pub fn dim(mut self, name: impl Into<String>, value: i64) -> Self {
        self.request.dims.push((name.into(), value));
        self
    }

    /// An optional input that will be given.
    pub fn with(mut self, name: impl Into<String>) -> Self {
        self.request.with.push(name.into());
        self
    }

    /// Which processors native code is for; this one by default. Code for others can be written to objects
    /// and printed, and not be bound.
    pub fn cpu(mut self, cpu: Cpu) -> Self {
        self.options.cpu = cpu;
        self
    }

    /// Which wide kernels native code uses; the widest that the processor has by default.
    pub fn kernels(mut self, kernels: Kernels) -> Self {
        self.options.kernels = kernels;
        self
    }

    /// The least work that a thread is asked for; less is worth it where threads are cheap to wake.
    pub fn grain(mut self, grain: Grain) -> Self {
        self.options.grain = grain;
        self
    }

    /// Where compiled programs are kept and looked for; nowhere by default.
    pub fn cache(mut self, cache: Cache) -> Self {
        self.cache = Some(cache);
        self
    }

    /// The shape of an input whose rank is open: names and numbers.
    pub fn shape<S: Into<String>>(
        mut self,
        name: impl Into<String>,
        axes: impl IntoIterator<Item = S>,
    ) -> Self {
        self.request.shapes.push((name.into(), axes.into_iter().map(Into::into).collect()));
        self
    }

    /// A tensor of this shape is at hand for an input: an optional one is then given, and an open
    /// rank is decided. Names that the entry does not have are passed over.
    pub fn given(mut self, name: impl Into<String>, shape: &[usize]) -> Self {
        self.request.given.push((name.into(), shape.to_vec()));
        self
    }

    /// Compiles a file for this processor.
    ///
    /// # Errors
    /// All errors of the file.
    pub fn compile_file(&self, path: impl AsRef<Path>) -> Result<Compiled, Error> {
        let path = path.as_ref();
        self.compile(&path.to_string_lossy(), &read_source(path)?, folder_of(path))
    }

    /// Compiles a text; imports of files are relative to the working directory.
    ///
    /// # Errors
    /// All errors of the text.
    pub fn compile_source(&self, name: &str, text: &str) -> Result<Compiled, Error> {
        self.compile(name, text, Path::new("."))
    }

    fn compile(&self, name: &str, text: &str, folder: &Path) -> Result<Compiled, Error> {
        if let Some(found) = self.find(name, text, folder) {
            return Ok(found.compiled);
        }
        let unit = self.elaborate_source(name, text, folder)?;
        Start::Graph(Box::new(unit)).code().map(|(compiled, _)| compiled)
    }

    /// What is known of a file's program before it is called: its code where the cache has it, else its graph.
    ///
    /// # Errors
    /// All errors of the file.
    pub fn start_file(&self, path: &Path) -> Result<(Start, Outline), Error> {
        let (name, text, folder) = (path.to_string_lossy(), read_source(path)?, folder_of(path));
        let started = Instant::now();
        if let Some(Found { sources, outline, compiled }) = self.find(&name, &text, folder) {
            let time = started.elapsed();
            return Ok((Start::Code { sources, compiled, time }, outline));
        }
        let unit = self.elaborate_source(&name, &text, folder)?;
        let outline = unit.kept.as_ref().map(|(_, outline)| outline.clone());
        let outline = outline.unwrap_or_else(|| Outline::of(&unit.program));
        Ok((Start::Graph(Box::new(unit)), outline))
    }

    fn find(&self, name: &str, text: &str, folder: &Path) -> Option<Found> {
        self.slot(name, text, folder)?.find(self.options)
    }

    fn slot(&self, name: &str, text: &str, folder: &Path) -> Option<Slot> {
        self.cache.as_ref().map(|cache| Slot::new(cache, name, text, folder, &self.request))
    }

    /// The graph of a file.
    ///
    /// # Errors
    /// All errors of the file.
    pub fn elaborate_file(&self, path: &Path) -> Result<Unit, Error> {
        let text = read_source(path)?;
        self.elaborate_source(&path.to_string_lossy(), &text, folder_of(path))
    }

    /// The graph of a text whose imports lie in `folder`.
    ///
    /// # Errors
    /// All errors of the text.
    pub fn elaborate_source(&self, name: &str, text: &str, folder: &Path) -> Result<Unit, Error> {
        let started = Instant::now();
        let mut sources = SourceMap::new();
        let file: FileId = sources.add(name, text);
        let request = Request { file: Some(file), ..self.request.clone() };
        let loader = FolderLoader::new(folder);
        match elaborate(&request, &mut sources, &loader) {
            Ok(program) => {
                let times = vec![("elaborate", started.elapsed())];
                if cfg!(debug_assertions)
                    && let Err(fault) = verify(&program)
                {
                    return Err(Error { sources, diagnostics: vec![fault.to_diagnostic()] });
                }
                let kept = self.slot(name, text, folder).map(|slot| (slot, Outline::of(&program)));
                Ok(Unit { sources, program, options: self.options, times, kept })
            }
            Err(diagnostics) => Err(Error { sources, diagnostics }),
        }
    }
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// The text of a source file.
///
/// # Errors
/// A file that cannot be read, is no regular file, is too long, or is no text.
pub fn read_source(path: &Path) -> Result<String, Error> {
    let failed = |fault: Fault, why: String| {
        let title = format!("`{}` cannot be read: {why}", path.display());
        Error::plain(Diagnostic::error("unreadable", title).fault(fault))
    };
    let unreadable = |error: std::io::Error| {
        let fault = if error.kind() == std::io::ErrorKind::InvalidData { Fault::User } else { Fault::File };
        failed(fault, error.to_string())
    };
    // Asked before it is opened: a pipe may wait for ever, and a device may never end.
    let found = std::fs::metadata(path).map_err(unreadable)?;
    if !found.is_file() {
        return Err(failed(Fault::File, "it is not a file".into()));
    }
    let limit = crate::syntax::MAX_TEXT_BYTES;
    if found.len() > limit as u64 {
        return Err(failed(Fault::Limit, format!("it is longer than {limit} bytes")));
    }
    std::fs::read_to_string(path).map_err(unreadable)
}

impl Unit {
    fn timed<T>(&mut self, stage: &'static str, work: impl FnOnce(&mut Self) -> T) -> T {
        let started = Instant::now();
        let result = work(self);
        self.times.push((stage, started.elapsed()));
        result
    }

    /// What is right as far as it is known, and is mostly meant otherwise.
    pub fn warnings(&self) -> Vec<Diagnostic> {
        let inputs = &self.program.signature.inputs;
        self.program.checks.iter().filter_map(|check| check.to_warning(inputs)).collect()
    }

    fn error(&self, diagnostics: Vec<Diagnostic>) -> Error {
        Error { sources: self.sources.clone(), diagnostics }
    }

    /// Runs the passes, up to and including `last`. Debug builds verify after each.
    ///
    /// # Errors
    /// A fault of a pass: our own.
    pub fn optimise(&mut self, last: Option<&str>) -> Result<(), Error> {
        let result = self.timed("passes", |unit| {
            crate::passes::run(&mut unit.program, last, &mut |pass, program| {
                if cfg!(debug_assertions) { verify_after(pass.name, program) } else { Ok(()) }
            })
        });
        result.map_err(|fault| self.error(vec![fault.to_diagnostic()]))
    }

    /// The loop nests.
    ///
    /// # Errors
    /// Reads that are outside for all sizes, and limits.
    pub fn lower(&mut self) -> Result<LoopProgram, Error> {
        let result = self.timed("loops", |unit| crate::loops::lower::lower(&unit.program));
        let loops = result.map_err(|diagnostics| self.error(diagnostics))?;
        if cfg!(debug_assertions)
            && let Err(fault) = crate::loops::verify::verify(&loops)
        {
            let diagnostic = Diagnostic::error("internal-loops", fault.to_string()).fault(Fault::Internal);
            return Err(self.error(vec![diagnostic]));
        }
        Ok(loops)
    }

    /// The code of the unit's options, if the compiler's cache has it.
    fn cached(&mut self) -> Option<Compiled> {
        let started = Instant::now();
        let found = self.kept.as_ref().and_then(|(slot, _)| slot.find(self.options))?;
        self.times.push(("cache", started.elapsed()));
        Some(found.compiled)
    }

    /// Native code; `text` keeps the printed CLIF.
    ///
    /// # Errors
    /// Limits, and processors that lack what the code needs.
    pub fn generate(&mut self, loops: LoopProgram, text: bool) -> Result<Compiled, Error> {
        let result =
            self.timed("codegen", |unit| Compiled::with(loops, unit.options, text.then_some(&unit.sources)));
        result.map_err(|error| self.error(vec![error.to_diagnostic()]))
    }

    /// Native code, which goes to the compiler's cache as well. The loops are what all passes made of the program.
    fn generate_kept(&mut self, loops: LoopProgram) -> Result<Compiled, Error> {
        let Some((slot, outline)) = self.kept.clone() else { return self.generate(loops, false) };
        let result = self.timed("codegen", |unit| {
            let (compiled, stored) = Compiled::storable(loops, unit.options)?;
            if let Some(stored) = stored {
                slot.keep(unit.options, &unit.sources, &outline, stored);
            }
            Ok::<_, CompileError>(compiled)
        });
        result.map_err(|error| self.error(vec![error.to_diagnostic()]))
    }
}
