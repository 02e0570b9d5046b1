//! The invariants of the graph, stated and checked.
//!
//! Takes a [`Program`] and says the first invariant that does not hold; every pass relies on all
//! of them and must leave all of them true.
//!
//! - **Programs.** Callees come before callers. The entry takes the signature's inputs, then its
//!   weights, or the results of `bind` where there is one; `bind` takes the weights. The entry
//!   gives the signature's outputs. Every dimension is made of the signature's symbols.
//! - **Graphs.** Edges make a DAG. The operands of a node have ports `0..n`, and each edge names
//!   a result that its source has. `args` lists the argument nodes in order; results exist.
//! - **Types.** No tensor has more than [`MAX_RANK`] axes or half-precision elements. Two shapes
//!   agree when their difference is zero, or cannot be decided and the program has checks.
//! - **Expressions** ([`mod@expr`]): one type per expression, legal for its op; indices within the
//!   op's axes; reads with one index per axis of the operand; positions inside their regions.
//! - **Index ops.** The product of the iterate extents is the size of the result. Guards and
//!   `otherwise` use iterate indices only; guards and filters are bool.
//! - **Segments.** There is a reduction; the key is i64 and does not use the selected index.
//! - **Products.** Two f32 operands or more; one role per iterate axis, one stride per axis in each
//!   view, none over n axes on the left nor over m axes on the right.
//! - **Recurrences, regions, calls.** Operands, region arguments, region results and node results
//!   agree as described at [`super::ir`]; a position is defined once in a program.
//!
//! Only what is reachable from an op's roots is checked of its expressions. The cost is linear in
//! the program.

mod expr;
mod op;
#[cfg(test)]
mod tests;

use super::expr::VarId;
use super::ir::{Function, Graph, Op, Program, TensorType, Value};
use super::print::{number, type_text};
use crate::diag::{Diagnostic, Fault};
use crate::dim::{Dim, Truth};
use crate::dtype::DType;
use crate::span::Span;
use crate::tensor::MAX_RANK;
use petgraph::stable_graph::NodeIndex;
use petgraph::visit::EdgeRef;
use std::collections::BTreeSet;
use std::fmt;

/// An invariant that does not hold: a fault of ours, never the user's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifyError {
    /// The pass that ran last.
    pub pass: Option<String>,
    /// The function; empty for the program as a whole.
    pub function: String,
    /// The node, by the number that its first result prints under.
    pub node: Option<String>,
    /// What it comes from.
    pub span: Option<Span>,
    /// The invariant, and what was found.
    pub message: String,
}

impl VerifyError {
    /// The same, naming the pass that ran last.
    pub fn after(mut self, pass: &str) -> Self {
        self.pass = Some(pass.to_string());
        self
    }

    /// As a diagnostic: an internal error.
    pub fn to_diagnostic(&self) -> Diagnostic {
        let diagnostic = Diagnostic::error("internal-graph", self.to_string()).fault(Fault::Internal);
        match self.span {
            Some(span) => diagnostic.at(span, "this came out wrong"),
            None => diagnostic,
        }
    }
}

impl fmt::Display for VerifyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the graph is not valid")?;
        if let Some(pass) = &self.pass {
            write!(f, " after pass `{pass}`")?;
        }
        if !self.function.is_empty() {
            write!(f, ", in `{}`", self.function)?;
        }
        if let Some(node) = &self.node {
            write!(f, ", at {node}")?;
        }
        write!(f, ": {}", self.message)
    }
}

impl std::error::Error for VerifyError {}

/// Checks all invariants of a program.
///
/// # Errors
/// The first that does not hold.
pub fn verify(program: &Program) -> Result<(), VerifyError> {
    Verifier::new(program).program()
}

/// [`verify`], naming the pass that ran last.
///
/// # Errors
/// As [`verify`].
pub fn verify_after(pass: &str, program: &Program) -> Result<(), VerifyError> {
    verify(program).map_err(|error| error.after(pass))
}

/// What is wrong, before it is known where.
type Check<T = ()> = Result<T, String>;

macro_rules! ensure {
    ($condition:expr, $($message:tt)*) => {
        if !$condition {
            return Err(format!($($message)*));
        }
    };
}
use ensure;

struct Verifier<'a> {
    program: &'a Program,
    /// The positions whose regions are being checked.
    scope: Vec<VarId>,
    /// All positions seen.
    vars: BTreeSet<VarId>,
    symbols: BTreeSet<&'a crate::dim::Symbol>,
    /// The nodes being checked, outermost first.
    path: Vec<NodeIndex>,
    function: Option<usize>,
    span: Option<Span>,
}

impl<'a> Verifier<'a> {
    fn new(program: &'a Program) -> Self {
        Verifier {
            program,
            scope: Vec::new(),
            vars: BTreeSet::new(),
            symbols: program.signature.dims.iter().collect(),
            path: Vec::new(),
            function: None,
            span: None,
        }
    }

    fn program(mut self) -> Result<(), VerifyError> {
        self.signature().map_err(|message| self.error(message))?;
        for (k, function) in self.program.functions.iter().enumerate() {
            self.function = Some(k);
            self.graph(&function.graph).map_err(|message| self.error(message))?;
        }
        Ok(())
    }

    fn error(&self, message: String) -> VerifyError {
        let function = self.function.and_then(|k| self.program.functions.get(k));
        let node = self.path.last().map(|last| {
            let number = function.and_then(|f: &Function| number(&f.graph, &self.path));
            number.map_or_else(|| format!("node {}", last.index()), |number| format!("%{number}"))
        });
        VerifyError {
            pass: None,
            function: function.map_or_else(String::new, |f| f.name.to_string()),
            node,
            span: self.span,
            message,
        }
    }

    fn signature(&mut self) -> Check {
        let Program { functions, entry, bind, signature, .. } = self.program;
        let get = |id: &super::ir::FuncId| functions.get(id.0 as usize);
        let entry = get(entry).ok_or("the entry does not exist")?;
        let inputs = signature.inputs.iter().map(|port| port.ty.clone());
        let weights: Vec<TensorType> = signature.weights.iter().map(|weight| weight.ty.clone()).collect();
        let parts = match bind {
            Some(bind) => {
                let bind = get(bind).ok_or("the bind function does not exist")?;
                self.types("argument of bind", &arg_types(&bind.graph)?, &weights)?;
                result_types(&bind.graph)?
            }
            None => weights,
        };
        let expected: Vec<TensorType> = inputs.chain(parts).collect();
        self.types("argument of the entry", &arg_types(&entry.graph)?, &expected)?;
        let outputs: Vec<TensorType> = signature.outputs.iter().map(|port| port.ty.clone()).collect();
        self.types("result of the entry", &result_types(&entry.graph)?, &outputs)
    }

    fn graph(&mut self, graph: &Graph) -> Check {
        for (k, arg) in graph.args.iter().enumerate() {
            let node = graph.dag.node_weight(*arg).ok_or_else(|| format!("argument {k} does not exist"))?;
            ensure!(
                matches!(node.op, Op::Arg(n) if n as usize == k),
                "argument {k} is not an `Arg({k})` node"
            );
        }
        let order = graph.topological();
        if order.len() != graph.dag.node_count() {
            let reached: BTreeSet<_> = order.iter().copied().collect();
            self.path.extend(graph.dag.node_indices().find(|id| !reached.contains(id)));
            return Err("the graph has a cycle".into());
        }
        for id in order {
            self.path.push(id);
            self.span = Some(graph.node(id).span);
            self.node(graph, id)?;
            self.path.pop();
            self.span = None;
        }
        result_types(graph).map(|_| ())
    }

    fn node(&mut self, graph: &Graph, id: NodeIndex) -> Check {
        let node = graph.node(id);
        for ty in &node.results {
            self.tensor_type(ty)?;
        }
        let mut ports: Vec<u32> = Vec::new();
        for edge in graph.dag.edges_directed(id, petgraph::Direction::Incoming) {
            let (port, result) = (edge.weight().port, edge.weight().result);
            let exists = graph.node(edge.source()).results.len() > result as usize;
            ensure!(exists, "operand {port} is result {result} of a node that has no such result");
            ports.push(port);
        }
        ports.sort_unstable();
        let contiguous = ports.iter().enumerate().all(|(k, port)| *port == k as u32);
        ensure!(contiguous, "operand ports are {ports:?}, not contiguous from 0");
        let operands: Vec<&TensorType> = graph.operands(id).iter().map(|value| graph.ty(*value)).collect();
        self.op(graph, id, &operands)
    }

    fn tensor_type(&self, ty: &TensorType) -> Check {
        let half = matches!(ty.dtype, DType::F16 | DType::BF16);
        ensure!(!half, "{} is not computed with", ty.dtype);
        let rank = ty.shape.len();
        ensure!(rank <= MAX_RANK, "{} has {rank} axes, more than {MAX_RANK}", type_text(ty));
        ty.shape.iter().try_for_each(|dim| self.dim(dim))
    }

    /// Every symbol is one of the signature's.
    fn dim(&self, dim: &Dim) -> Check {
        if dim.as_const().is_some() {
            return Ok(());
        }
        for symbol in dim.symbols() {
            let known = self.symbols.contains(&symbol);
            ensure!(known, "`{}` is no dimension of the signature", symbol.name());
        }
        Ok(())
    }

    /// Whether two sizes agree as far as can be known.
    fn same_dim(&self, a: &Dim, b: &Dim) -> bool {
        a == b
            || match a.compare(b) {
                Ok(Truth::Yes) => true,
                Ok(Truth::No) => false,
                Ok(Truth::Unknown) | Err(_) => !self.program.checks.is_empty(),
            }
    }

    fn same_shape(&self, a: &[Dim], b: &[Dim]) -> bool {
        a.len() == b.len() && a.iter().zip(b).all(|(a, b)| self.same_dim(a, b))
    }

    fn same_type(&self, what: &str, found: &TensorType, expected: &TensorType) -> Check {
        let same = found.dtype == expected.dtype && self.same_shape(&found.shape, &expected.shape);
        ensure!(same, "{what} is {}, expected {}", type_text(found), type_text(expected));
        Ok(())
    }

    fn types(&self, what: &str, found: &[TensorType], expected: &[TensorType]) -> Check {
        let (n, wanted) = (found.len(), expected.len());
        ensure!(n == wanted, "there are {n} of {what}, expected {wanted}");
        for (k, (found, expected)) in found.iter().zip(expected).enumerate() {
            self.same_type(&format!("{what} {k}"), found, expected)?;
        }
        Ok(())
    }
}

/// The types of a graph's arguments.
fn arg_types(graph: &Graph) -> Check<Vec<TensorType>> {
    let types = graph.args.iter().enumerate().map(|(k, arg)| {
        let node = graph.dag.node_weight(*arg).ok_or_else(|| format!("argument {k} does not exist"))?;
        node.results.first().cloned().ok_or_else(|| format!("argument {k} has no type"))
    });
    types.collect()
}

/// The types of a graph's results.
fn result_types(graph: &Graph) -> Check<Vec<TensorType>> {
    let types = graph.results.iter().enumerate().map(|(k, value)| {
        let ty = value_type(graph, *value);
        ty.cloned().ok_or_else(|| format!("result {k} of the graph does not exist"))
    });
    types.collect()
}

fn value_type(graph: &Graph, value: Value) -> Option<&TensorType> {
    graph.dag.node_weight(value.node)?.results.get(value.result as usize)
}
