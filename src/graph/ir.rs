//! The data structures of the graph. Their meaning is in the module docs of [`super`].

use super::affine::{Affine, Leaf};
use super::expr::{ExprId, Exprs, VarId};
use crate::dim::{Dim, Symbol};
use crate::dtype::DType;
pub use crate::ops::init::Init;
use crate::ops::reduce::Reducer;
use crate::span::Span;
use crate::tensor::Tensor;
use petgraph::Direction;
use petgraph::stable_graph::{NodeIndex, StableDiGraph};
use petgraph::visit::EdgeRef;
use std::sync::Arc;

/// Element type and shape of a value.
#[derive(Clone, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct TensorType {
    /// Element type.
    pub dtype: DType,
    /// Sizes, slowest axis first; empty for a scalar.
    pub shape: Vec<Dim>,
}

impl TensorType {
    /// A type.
    pub fn new(dtype: DType, shape: Vec<Dim>) -> Self {
        TensorType { dtype, shape }
    }
}

/// Result `result` of node `node`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Value {
    /// The node.
    pub node: NodeIndex,
    /// Which of its results.
    pub result: u32,
}

/// What an edge says: which result of its source is which operand of its target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Edge {
    /// Result of the source node.
    pub result: u32,
    /// Operand position at the target node.
    pub port: u32,
}

/// One op with its typed results.
#[derive(Clone, Debug)]
pub struct Node {
    /// What it computes.
    pub op: Op,
    /// Types of its results.
    pub results: Vec<TensorType>,
    /// The source it comes from.
    pub span: Span,
    /// The user's name for the value (`h`, `score`), for printing.
    pub name: Option<Arc<str>>,
}

/// What a node computes.
#[derive(Clone, Debug)]
pub enum Op {
    /// Argument `k` of the function or region.
    Arg(u32),
    /// A tensor known at compile time.
    Const(Arc<Tensor>),
    /// The index-notation op.
    Index(Index),
    /// `k` greatest of the last axis, descending, ties by lower index, NaN first:
    /// results are values and i64 indices. The operand's last axis is at least `k`.
    TopK(Dim),
    /// A recurrence.
    Recur(Box<Recur>),
    /// A loop without carries.
    Region(Box<Region>),
    /// A call of another function: operands are its arguments, results its results.
    Call(FuncId),
    /// A recognised matrix product.
    MatMul(Box<MatMul>),
    /// A recognised reduction by key.
    Segment(Box<Segment>),
    /// A recognised running reduction.
    Scan(Scan),
    /// A small matrix applied from both sides.
    Transform(Box<Transform>),
}

/// An axis: its extent and the name it prints under.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Axis {
    /// Number of points.
    pub extent: Dim,
    /// The user's index name.
    pub name: Arc<str>,
}

impl Axis {
    /// An axis.
    pub fn new(extent: Dim, name: &str) -> Self {
        Axis { extent, name: name.into() }
    }
}

/// For every point of `iterate`: `body`, or the reduction of `body`.
#[derive(Clone, Debug)]
pub struct Index {
    /// Result points, slowest first; their product is the result's size.
    pub iterate: Vec<Axis>,
    /// Condition over `iterate` under which the element is evaluated at all; zero elsewhere.
    pub guard: Option<ExprId>,
    /// The reduction, if any.
    pub reduce: Option<Reduce>,
    /// All expressions of this op.
    pub exprs: Exprs,
    /// The value, or the term under the reduction.
    pub body: ExprId,
}

/// A reduction of an [`Index`] op.
#[derive(Clone, Debug)]
pub struct Reduce {
    /// What it does.
    pub reducer: Reducer,
    /// Bound indices, slowest first.
    pub axes: Vec<Axis>,
    /// Condition over `iterate` and `axes`: points that fail it take no part.
    pub filter: Option<ExprId>,
    /// Value over nothing, over `iterate`, in place of the reducer's own. Reducer result type.
    pub otherwise: Option<ExprId>,
}

/// A recurrence over one position.
///
/// Steps run `start, start + 1, ..` (or backwards from `start + extent - 1` when `reverse`).
/// A sequence with `lags = K` is held *extended*: its time axis has `K + extent` entries in
/// order of position, the `K` initial ones before the first step's (forward) or after (reverse).
/// Position `p` lies at `p - start + K` forward and at `p - start` in reverse.
///
/// Operands: `captures` values, then for each sequence in order its initial slices by lag
/// (lag 1 first, `lags` of them). Region arguments: the captures, then one per sequence, the
/// extended sequence, of which a step may read lags `1..=K` only. Region results: one slice
/// per sequence. Results of the node: the extended sequences.
#[derive(Clone, Debug)]
pub struct Recur {
    /// The position, as expressions of the region see it.
    pub var: VarId,
    /// The user's name for it.
    pub name: Arc<str>,
    /// First (lowest) position.
    pub start: Dim,
    /// Number of steps.
    pub extent: Dim,
    /// Whether it runs from the highest position down.
    pub reverse: bool,
    /// Number of captured operands.
    pub captures: usize,
    /// The sequences it defines.
    pub sequences: Vec<Sequence>,
    /// One step.
    pub body: Graph,
}

impl Recur {
    /// Adds an argument behind the captures; the caller inserts the operand at
    /// `captures - 1`.
    pub fn insert_capture(&mut self, ty: TensorType, span: Span) -> Value {
        let value = self.body.add_arg(ty, span, None);
        self.body.args.pop();
        self.body.args.insert(self.captures, value.node);
        self.captures += 1;
        for (k, arg) in self.body.args.iter().enumerate() {
            self.body.dag[*arg].op = Op::Arg(k as u32);
        }
        value
    }
}

/// One sequence of a [`Recur`].
#[derive(Clone, Debug)]
pub struct Sequence {
    /// The user's name for it.
    pub name: Arc<str>,
    /// Which axis is time.
    pub axis: usize,
    /// How many positions back it is read; 0 if it carries nothing.
    pub lags: usize,
}

/// A loop nest without carries around a graph: row statistics, attention.
///
/// Operands are the region's arguments, captured whole. For each point of `axes` the body is
/// evaluated with `vars` at that point; result `r` is placed by `places[r]`.
#[derive(Clone, Debug)]
pub struct Region {
    /// What was recognised.
    pub kind: RegionKind,
    /// The loops, outermost first.
    pub axes: Vec<Axis>,
    /// Their positions, as expressions of the body see them.
    pub vars: Vec<VarId>,
    /// The work of one point.
    pub body: Graph,
    /// Per result: the axes of the whole result, slowest first, at `iterate` granularity.
    pub places: Vec<Vec<Place>>,
}

/// What a [`Region`] was recognised as; it decides the schedule, never the meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RegionKind {
    /// Row statistics and what uses them: norms, softmax.
    Rows,
    /// Masked softmax and the weighted sum that follows.
    Attention,
    /// The same, and nothing between the products is used by anything else: queries and keys go by
    /// tiles, and no more than a tile of scores exists at a time.
    TiledAttention,
    /// Attention that is not by tiles, but whose ops have a row for each query: they run for a block
    /// of queries at a time.
    BlockedAttention,
    /// A convolution by transformed tiles of planes.
    Tiles,
}

/// One axis of a region's whole result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// Loop `k` of the region.
    Loop(usize),
    /// Axis `k` of the slice that the body yields.
    Slice(usize),
}

/// `out[batch, m, n] = epilogue(sum[k] lhs[batch, m, k] * rhs[batch, n, k])`, f32, over views.
///
/// Each of the four axis groups may have any number of axes. Operand 0 is `lhs`, operand 1
/// `rhs`; operands from 2 on are read by the epilogue, but for a [`Pick`]'s, which comes first.
#[derive(Clone, Debug)]
pub struct MatMul {
    /// Result points in result order; each is a batch, m or n axis.
    pub iterate: Vec<Axis>,
    /// Role of each `iterate` axis.
    pub roles: Vec<Role>,
    /// Contracted axes, slowest first.
    pub contract: Vec<Axis>,
    /// How operand 0 is read: strides over `iterate` (0 for n axes) and `contract`.
    pub lhs: View,
    /// How operand 1 is read: strides over `iterate` (0 for m axes) and `contract`.
    pub rhs: View,
    /// Which of many matrices operand 1 is at each row, where that is only known when it runs.
    pub pick: Option<Pick>,
    /// Applied to each element before it is stored.
    pub epilogue: Option<Epilogue>,
}

/// The part an axis plays in a product.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// In both operands and the result.
    Batch,
    /// In the left operand and the result.
    M,
    /// In the right operand and the result.
    N,
}

/// An affine walk over an operand's elements.
///
/// # Units
/// Elements.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    /// Of the first point.
    pub offset: Dim,
    /// What each enclosing position adds to the offset.
    pub vars: Vec<(VarId, Dim)>,
    /// Per `iterate` axis.
    pub iterate: Vec<Dim>,
    /// Per contracted axis.
    pub contract: Vec<Dim>,
}

/// A right operand that each row picks anew: `rhs[e[m], n, k]`, as of a mixture of experts.
///
/// `e` is operand 2 of the product, i64. A number outside `0..extent` fails the call, as the read
/// that it comes from would.
#[derive(Clone, Debug)]
pub struct Pick {
    /// How operand 2 is read: strides over `iterate`, 0 for batch and n axes; none are contracted.
    pub at: View,
    /// How many matrices there are.
    pub extent: Dim,
    /// What lies between one and the next in operand 1.
    ///
    /// # Units
    /// Elements.
    pub stride: Dim,
    /// The read that picks.
    pub source: PickedRead,
}

/// What a failure says of a [`Pick`].
#[derive(Clone, Debug)]
pub struct PickedRead {
    /// The user's name for what is read.
    pub name: Option<Arc<str>>,
    /// The axis of it that the pick selects from.
    pub axis: usize,
    /// Where it stands.
    pub span: Span,
}

/// A scalar function of the accumulator and of further operands.
///
/// In `exprs`, `Index(k)` is `iterate` axis `k`, and the accumulator is a
/// [`super::expr::Expr::Read`] of port 0 with no indices; other reads use the node's ports.
#[derive(Clone, Debug)]
pub struct Epilogue {
    /// Expressions.
    pub exprs: Exprs,
    /// The value stored.
    pub body: ExprId,
}

/// A reduction by key: `out[.., n, ..] = reduce[e where key(e) == n and filter] body`, as one
/// pass over the reduced points instead of the product of both ranges.
///
/// The wrapped op is the definition, unchanged: `index.reduce.filter` is the *rest* of the
/// condition. `key` is an i64 expression over the reduce axes (and iterate axes other than
/// `axis`); points whose key lies outside the extent take no part.
#[derive(Clone, Debug)]
pub struct Segment {
    /// The definition, less the key equality.
    pub index: Index,
    /// The iterate axis that the key selects.
    pub axis: usize,
    /// The key, in `index.exprs`.
    pub key: ExprId,
}

/// A running reduction along an axis: element `t` of the result is the reduction of the elements up to `t`
/// of the operand, or from `t` on where it runs in reverse; each step adds one term to the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scan {
    /// Not that of a position.
    pub reducer: Reducer,
    /// The axis of operand and result.
    pub axis: usize,
    /// Whether it begins with the last element.
    pub reverse: bool,
}

/// `out[.., a, .., b, ..] = epilogue(sum[u, v] matrix[a, u] * matrix[b, v] * x[.., u, v])`, f32, over a view
/// of operand 0; operands from 1 on are read by the epilogue.
#[derive(Clone, Debug)]
pub struct Transform {
    /// Result points in result order.
    pub iterate: Vec<Axis>,
    /// Which axes of the result are `a` and `b`: their extents are the matrix's rows.
    pub made: [usize; 2],
    /// The matrix.
    pub matrix: SmallMatrix,
    /// How operand 0 is read: strides over `iterate` (0 for `a` and `b`), and over `u` and `v`.
    pub source: View,
    /// Applied to each element before it is stored.
    pub epilogue: Option<Epilogue>,
}

/// A matrix of few constants, row by row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SmallMatrix {
    /// Columns of each row.
    pub columns: usize,
    /// All elements.
    pub elements: &'static [f64],
}

impl SmallMatrix {
    /// The rows.
    pub fn rows(&self) -> impl ExactSizeIterator<Item = &'static [f64]> {
        self.elements.chunks_exact(self.columns)
    }
}

/// A function of a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FuncId(pub u32);

/// A named graph.
#[derive(Clone, Debug)]
pub struct Function {
    /// `Module.entry`, unique in the program by a numeric suffix where needed.
    pub name: Arc<str>,
    /// What it computes.
    pub graph: Graph,
}

/// A DAG of ops with arguments and results.
#[derive(Clone, Debug, Default)]
pub struct Graph {
    /// Nodes and operand edges.
    pub dag: StableDiGraph<Node, Edge>,
    /// The [`Op::Arg`] nodes, in order.
    pub args: Vec<NodeIndex>,
    /// What it returns.
    pub results: Vec<Value>,
}

impl Graph {
    /// An empty graph.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an argument and returns its value.
    pub fn add_arg(&mut self, ty: TensorType, span: Span, name: Option<Arc<str>>) -> Value {
        let op = Op::Arg(self.args.len() as u32);
        let node = self.dag.add_node(Node { op, results: vec![ty], span, name });
        self.args.push(node);
        Value { node, result: 0 }
    }

    /// Adds a node with its operands in port order and returns it.
    pub fn add(&mut self, node: Node, operands: &[Value]) -> NodeIndex {
        let id = self.dag.add_node(node);
        self.connect(id, operands);
        id
    }

    /// Adds an [`Op::Index`] node with one result.
    pub fn add_index(
        &mut self,
        index: Index,
        shape: Vec<Dim>,
        operands: &[Value],
        span: Span,
        name: Option<Arc<str>>,
    ) -> Value {
        let dtype = index.result_dtype();
        let results = vec![TensorType { dtype, shape }];
        Value { node: self.add(Node { op: Op::Index(index), results, span, name }, operands), result: 0 }
    }

    fn connect(&mut self, id: NodeIndex, operands: &[Value]) {
        for (port, value) in operands.iter().enumerate() {
            self.dag.add_edge(value.node, id, Edge { result: value.result, port: port as u32 });
        }
    }

    /// Replaces all operands of a node.
    pub fn set_operands(&mut self, id: NodeIndex, operands: &[Value]) {
        let old: Vec<_> = self.dag.edges_directed(id, Direction::Incoming).map(|e| e.id()).collect();
        for edge in old {
            self.dag.remove_edge(edge);
        }
        self.connect(id, operands);
    }

    /// The operands of a node, by port.
    pub fn operands(&self, id: NodeIndex) -> Vec<Value> {
        let mut edges: Vec<_> = self
            .dag
            .edges_directed(id, Direction::Incoming)
            .map(|e| (e.weight().port, Value { node: e.source(), result: e.weight().result }))
            .collect();
        edges.sort_unstable_by_key(|(port, _)| *port);
        edges.into_iter().map(|(_, value)| value).collect()
    }

    /// The nodes that use any result of a node, each once, by id.
    pub fn users(&self, id: NodeIndex) -> Vec<NodeIndex> {
        let mut users: Vec<_> = self.dag.neighbors_directed(id, Direction::Outgoing).collect();
        users.sort_unstable();
        users.dedup();
        users
    }

    /// Makes every user of `old`, and the results, use `new` instead.
    pub fn replace_value(&mut self, old: Value, new: Value) {
        let mut moved: Vec<_> = self
            .dag
            .edges_directed(old.node, Direction::Outgoing)
            .filter(|e| e.weight().result == old.result)
            .map(|e| (e.id(), e.target(), e.weight().port))
            .collect();
        moved.sort_unstable();
        for (edge, target, port) in moved {
            self.dag.remove_edge(edge);
            self.dag.add_edge(new.node, target, Edge { result: new.result, port });
        }
        for result in &mut self.results {
            if *result == old {
                *result = new;
            }
        }
    }

    /// The node of an id.
    pub fn node(&self, id: NodeIndex) -> &Node {
        &self.dag[id]
    }

    /// The type of a value.
    pub fn ty(&self, value: Value) -> &TensorType {
        &self.dag[value.node].results[value.result as usize]
    }

    /// Nodes with operands first, ties by id: the canonical order of everything deterministic.
    pub fn topological(&self) -> Vec<NodeIndex> {
        let mut missing: Vec<usize> =
            vec![0; self.dag.node_indices().map(|n| n.index() + 1).max().unwrap_or(0)];
        let mut ready = std::collections::BTreeSet::new();
        for id in self.dag.node_indices() {
            missing[id.index()] = self.dag.edges_directed(id, Direction::Incoming).count();
            if missing[id.index()] == 0 {
                ready.insert(id);
            }
        }
        let mut order = Vec::with_capacity(self.dag.node_count());
        while let Some(id) = ready.pop_first() {
            order.push(id);
            for target in self.dag.neighbors_directed(id, Direction::Outgoing) {
                missing[target.index()] -= 1;
                if missing[target.index()] == 0 {
                    ready.insert(target);
                }
            }
        }
        order
    }
}

impl Index {
    /// All roots in `exprs`, in the order of [`Index::set_roots`].
    pub fn roots(&self) -> Vec<ExprId> {
        let reduce = self.reduce.iter().flat_map(|r| [r.filter, r.otherwise]);
        [Some(self.body), self.guard].into_iter().chain(reduce).flatten().collect()
    }

    /// Replaces the expressions: `roots` are what [`Index::roots`] gave, moved to `exprs`.
    pub fn set_roots(&mut self, exprs: Exprs, roots: &[ExprId]) {
        let mut roots = roots.iter().copied();
        let mut next = || roots.next().expect("invariant: as many roots as before");
        self.exprs = exprs;
        self.body = next();
        if self.guard.is_some() {
            self.guard = Some(next());
        }
        if let Some(reduce) = &mut self.reduce {
            if reduce.filter.is_some() {
                reduce.filter = Some(next());
            }
            if reduce.otherwise.is_some() {
                reduce.otherwise = Some(next());
            }
        }
    }

    /// Extents of all indices, iterate axes first.
    pub fn extents(&self) -> Vec<Dim> {
        let reduce = self.reduce.iter().flat_map(|r| &r.axes);
        self.iterate.iter().chain(reduce).map(|axis| axis.extent.clone()).collect()
    }

    /// The indices of a form that have more than one point: of the result, and bound ones.
    pub fn walked(&self, form: &Affine) -> (Vec<usize>, Vec<usize>) {
        let extents = self.extents();
        let used = form.terms.keys().filter_map(|leaf| match leaf {
            Leaf::Index(k) => Some(*k as usize),
            _ => None,
        });
        used.filter(|k| !extents[*k].is(1)).partition(|k| *k < self.iterate.len())
    }

    /// The element type of the result.
    pub fn result_dtype(&self) -> DType {
        let body = self.exprs.dtype(self.body);
        self.reduce.as_ref().map_or(body, |r| r.reducer.result(body))
    }
}

/// A whole program: the compiled entry and all it calls.
#[derive(Clone, Debug)]
pub struct Program {
    /// Callees before callers.
    pub functions: Vec<Function>,
    /// The function that computes the outputs: its arguments are the inputs, then the weights,
    /// as in the signature; after `split_bind`, the inputs, then the results of `bind`.
    pub entry: FuncId,
    /// The function from weights to what the entry reads of them, once split off.
    pub bind: Option<FuncId>,
    /// What a user sees.
    pub signature: Signature,
    /// Conditions on free dimensions, checked once per call.
    pub checks: Vec<DimCheck>,
    /// Number of [`VarId`]s handed out.
    pub vars: u32,
}

impl Program {
    /// The function of an id.
    pub fn function(&self, id: FuncId) -> &Function {
        &self.functions[id.0 as usize]
    }

    /// A fresh variable.
    pub fn fresh_var(&mut self) -> VarId {
        self.vars += 1;
        VarId(self.vars - 1)
    }
}

/// What the compiled entry takes and gives.
#[derive(Clone, Debug, Default, serde::Serialize, serde::Deserialize)]
pub struct Signature {
    /// Model and entry, `lstm.forward`.
    pub name: String,
    /// Inputs in order; optional ones that were left out do not appear.
    pub inputs: Vec<Port>,
    /// Weights in declaration order, tied names once.
    pub weights: Vec<Weight>,
    /// Outputs in order, lists flattened.
    pub outputs: Vec<Port>,
    /// Free dimensions, in order of first sight.
    pub dims: Vec<Symbol>,
    /// Optional inputs that were left out, for messages and help.
    pub omitted: Vec<String>,
}

/// A named input or output.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub struct Port {
    /// The user's name.
    pub name: String,
    /// Its type.
    pub ty: TensorType,
    /// Where it is declared.
    pub span: Span,
}

/// A weight tensor.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub struct Weight {
    /// Its key in a weights file: `layers.0.plain.weight`.
    pub path: String,
    /// Further names of the same tensor (`tie`).
    pub aliases: Vec<String>,
    /// Its type; the shape is known unless it depends on a free dimension.
    pub ty: TensorType,
    /// Whether it is a buffer.
    pub buffer: bool,
    /// How it is made when no file is given.
    pub init: Init,
    /// Where it is declared.
    pub span: Span,
}

/// A condition on dimensions that could not be decided at compile time.
#[derive(Clone, Debug)]
pub struct DimCheck {
    /// What must hold.
    pub condition: DimCondition,
    /// The slug of the error when it does not.
    pub code: &'static str,
    /// What to say when it does not, in the user's names.
    pub message: String,
    /// Where it comes from.
    pub span: Span,
}

impl DimCheck {
    /// The slug of what the user requires, where the message is the user's own.
    pub const REQUIRED: &'static str = "require";
}

/// A truth value over sizes.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum DimCondition {
    /// Equal.
    Eq(Dim, Dim),
    /// At most.
    Le(Dim, Dim),
    /// Below.
    Lt(Dim, Dim),
    /// Not.
    Not(Box<DimCondition>),
    /// Both.
    And(Box<DimCondition>, Box<DimCondition>),
    /// Either.
    Or(Box<DimCondition>, Box<DimCondition>),
}

impl DimCondition {
    /// Adds the dimensions that occur in it, some perhaps more than once.
    pub fn symbols(&self, found: &mut Vec<Symbol>) {
        match self {
            DimCondition::Eq(a, b) | DimCondition::Le(a, b) | DimCondition::Lt(a, b) => {
                found.extend(a.symbols());
                found.extend(b.symbols());
            }
            DimCondition::Not(a) => a.symbols(found),
            DimCondition::And(a, b) | DimCondition::Or(a, b) => {
                a.symbols(found);
                b.symbols(found);
            }
        }
    }
}
