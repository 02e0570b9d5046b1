//! Semantic analysis: from trees to a graph.
//!
//! Elaboration is one interpreter over the tree. It evaluates what is static, instantiates
//! modules, carries shapes forwards and emits graph functions; there is no pass before or
//! after it. Takes parsed files and what the user asked for; gives a [`Program`] or all errors
//! found. Shapes are polynomials over the free dimensions of the compiled entry, the same for
//! all functions of the program.
//!
//! Knows nothing of text (see `syntax`) and nothing of how a graph is computed.

pub mod build;
pub mod builtins;
pub mod coerce;
pub mod env;
pub mod errors;
mod index;
mod recur;
pub mod scalar;
pub mod sizes;
pub mod value;

use crate::diag::Diagnostic;
use crate::dim::{Dim, Symbol};
use crate::graph::ir::{DimCheck, Program, Weight};
use crate::source::SourceMap;
use crate::span::FileId;
use indexmap::IndexMap;

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
    /// Static parameters of the entry, as expressions.
    pub arguments: Vec<(String, String)>,
}

/// Reads files that a source names.
pub trait Loader {
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
    /// Whether a limit was reached, so that nothing more is done.
    pub(crate) fatal: bool,
    pub(crate) frames: Vec<build::Frame>,
    pub(crate) frame_count: u32,
    pub(crate) index_count: u32,
    pub(crate) symbol_count: u32,
    /// Number of recurrence variables handed out.
    pub(crate) var_count: u32,
    /// Conditions of the selections that are open, outermost first, for emission.
    pub(crate) guards: Vec<scalar::Scalar>,
    /// Equalities of free dimensions that the call checks.
    pub(crate) assumed: IndexMap<Symbol, Dim>,
    pub(crate) checks: Vec<DimCheck>,
    pub(crate) weights: Vec<Weight>,
}

/// Elaborates one entry of one model.
///
/// # Errors
/// All faults found, in the order found, at most [`errors::MAX_DIAGNOSTICS`].
pub fn elaborate(
    request: &Request,
    sources: &mut SourceMap,
    loader: &dyn Loader,
) -> Result<Program, Vec<Diagnostic>> {
    let _ = (request, sources, loader);
    Err(vec![Diagnostic::error("not-supported", "elaboration is not complete yet")])
}
