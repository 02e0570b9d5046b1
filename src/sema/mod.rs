//! Semantic analysis: from trees to a graph.
//!
//! Elaboration is one interpreter over the tree. It evaluates what is static, instantiates
//! modules, carries shapes forwards and emits graph functions; there is no pass before or
//! after it. Takes parsed files and what the user asked for; gives a [`Program`] or all errors
//! found. Shapes are polynomials over the free dimensions of the compiled entry, the same for
//! all functions of the program.
//!
//! Knows nothing of text (see `syntax`) and nothing of how a graph is computed.

mod ascribe;
pub mod build;
pub mod builtins;
pub mod call;
pub mod coerce;
pub mod env;
pub mod errors;
mod eval;
mod exec;
mod index;
mod joins;
pub mod library;
pub mod limits;
mod members;
pub mod names;
mod ops;
pub mod outline;
mod recur;
mod root;
pub mod scalar;
pub mod shapes;
pub mod sizes;
#[cfg(test)]
mod tests;
pub mod value;

use crate::diag::{Diagnostic, Fault};
use crate::dim::{Dim, Symbol};
use crate::graph::ir::{DimCheck, Function, Program, Weight};
use crate::source::SourceMap;
use crate::span::{FileId, Span};
use indexmap::IndexMap;
use std::collections::HashMap;
use std::thread;

/// What the texts of options are called among the sources.
pub const COMMAND_LINE: &str = "the command line";

/// What is to be compiled.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// The root file, in the source map.
    pub file: Option<FileId>,
    /// The model or module; the file's only model where none is named.
    pub model: Option<String>,
    /// The entry; `forward` where none is named.
    pub entry: Option<String>,
    /// Statics of the model's module, `depth=20`; values are expressions.
    pub set: Vec<(String, String)>,
    /// Dimensions that are fixed, `B=1`.
    pub dims: Vec<(String, i64)>,
    /// Optional inputs that will be given.
    pub with: Vec<String>,
    /// Shapes of inputs, `x=B,T,24`; needed where the rank is not declared.
    pub shapes: Vec<(String, Vec<String>)>,
    /// Shapes of tensors that are at hand, by input. An optional input among them is given, and where
    /// the rank of an input is open, its tensor decides the open axes. Names that the entry does not
    /// have are passed over: tensors may be at hand for several entries.
    pub given: Vec<(String, Vec<usize>)>,
    /// Static parameters of the entry, as expressions.
    pub arguments: Vec<(String, String)>,
}

/// Reads files that a source names.
pub trait Loader: Sync {
    /// The text of a file; `path` is relative to the root file's folder, with `/` between its
    /// parts and no part `..`.
    ///
    /// # Errors
    /// Why it cannot be read, as a sentence without a full stop.
    fn load(&self, path: &str) -> Result<String, String>;
}

/// The state of one elaboration.
pub struct Elaborator<'a> {
    pub(crate) sources: &'a mut SourceMap,
    pub(crate) loader: &'a dyn Loader,
    pub(crate) diagnostics: Vec<Diagnostic>,
    /// What each of them was when it was found: code, title and place.
    pub(crate) found: Vec<(&'static str, String, Option<Span>)>,
    /// Number of faults found, also of those that are not kept.
    pub(crate) faults: usize,
    /// Whether a limit was reached, so that nothing more is done.
    pub(crate) fatal: bool,
    pub(crate) frames: Vec<build::Frame>,
    /// Recurrences whose bodies are being executed, innermost last.
    pub(crate) recurs: Vec<recur::OpenRecur>,
    pub(crate) frame_count: u32,
    pub(crate) index_count: u32,
    pub(crate) symbol_count: u32,
    /// Where the names of free dimensions are written first.
    pub(crate) symbol_places: HashMap<Symbol, Span>,
    /// Number of recurrence variables handed out.
    pub(crate) var_count: u32,
    /// Conditions of the selections that are open, outermost first, for emission.
    pub(crate) guards: Vec<scalar::Scalar>,
    /// Equalities of free dimensions that the call checks.
    pub(crate) assumed: IndexMap<Symbol, Dim>,
    pub(crate) checks: Vec<DimCheck>,
    pub(crate) weights: Vec<Weight>,
    /// For each weight, one of lower number that is the same tensor, or itself.
    pub(crate) tied: Vec<u32>,
    pub(crate) weight_paths: HashMap<String, u32>,
    pub(crate) files: Vec<names::FileScope>,
    /// Files whose imports are being read, outermost first.
    pub(crate) open_files: Vec<usize>,
    pub(crate) prelude: Option<usize>,
    /// Functions that are complete, callees before callers.
    pub(crate) functions: Vec<Function>,
    pub(crate) function_names: HashMap<String, u32>,
    pub(crate) outlines: HashMap<Vec<outline::KeyPart>, outline::Outlined>,
    /// The ranges of the loops that are being unrolled, outermost first.
    pub(crate) open_loops: Vec<Span>,
    /// Open calls and modules, by name and declaration.
    pub(crate) nesting: Vec<(String, Span)>,
    /// Where the open calls are written.
    pub(crate) call_places: Vec<Span>,
    /// Keys of the modules whose members are being elaborated.
    pub(crate) open_modules: Vec<Vec<outline::KeyPart>>,
    pub(crate) steps: usize,
    pub(crate) turn_count: usize,
    pub(crate) member_count: usize,
    pub(crate) node_count: usize,
    pub(crate) depth: usize,
}

impl<'a> Elaborator<'a> {
    /// An elaborator that has read nothing.
    pub fn new(sources: &'a mut SourceMap, loader: &'a dyn Loader) -> Self {
        Elaborator {
            sources,
            loader,
            diagnostics: Vec::new(),
            found: Vec::new(),
            faults: 0,
            fatal: false,
            frames: Vec::new(),
            recurs: Vec::new(),
            frame_count: 0,
            index_count: 0,
            symbol_count: 0,
            symbol_places: HashMap::new(),
            var_count: 0,
            guards: Vec::new(),
            assumed: IndexMap::new(),
            checks: Vec::new(),
            weights: Vec::new(),
            tied: Vec::new(),
            weight_paths: HashMap::new(),
            files: Vec::new(),
            open_files: Vec::new(),
            prelude: None,
            functions: Vec::new(),
            function_names: HashMap::new(),
            outlines: HashMap::new(),
            open_loops: Vec::new(),
            nesting: Vec::new(),
            call_places: Vec::new(),
            open_modules: Vec::new(),
            steps: 0,
            turn_count: 0,
            member_count: 0,
            node_count: 0,
            depth: 0,
        }
    }
}

/// Elaborates one entry of one model.
///
/// Runs on a thread of its own, whose stack holds the deepest elaboration that the limits allow.
///
/// # Errors
/// All faults found, in the order found, at most [`errors::MAX_DIAGNOSTICS`].
pub fn elaborate(
    request: &Request,
    sources: &mut SourceMap,
    loader: &dyn Loader,
) -> Result<Program, Vec<Diagnostic>> {
    let failed = |title: String| Err(vec![Diagnostic::error("internal", title).fault(Fault::Internal)]);
    thread::scope(|scope| {
        let worker = thread::Builder::new().name("mdl elaboration".into()).stack_size(limits::STACK_BYTES);
        let spawned = worker.spawn_scoped(scope, || {
            let mut elaborator = Elaborator::new(sources, loader);
            match elaborator.program(request) {
                Ok(program) => Ok(program),
                Err(errors::Reported) => Err(std::mem::take(&mut elaborator.diagnostics)),
            }
        });
        match spawned {
            Ok(handle) => match handle.join() {
                Ok(Err(errors)) if errors.is_empty() => {
                    failed("elaboration failed without saying why".into())
                }
                Ok(result) => result,
                Err(_) => failed("elaboration ended unexpectedly".into()),
            },
            Err(error) => Err(vec![
                Diagnostic::error("limit", format!("no stack for elaboration: {error}")).fault(Fault::Limit),
            ]),
        }
    })
}
