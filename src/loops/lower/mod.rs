//! Lowering: from graphs to loop nests. A file per family of ops, as in the graph.
//!
//! Takes any verified [`Program`], whatever passes have run: what no pass recognised becomes a
//! plain loop nest. Gives one [`LoopFunc`] per function with every load and integer division
//! proved or guarded (see [`bounds`]). Values map to [`place::Place`]s, so results are written where
//! they belong and pure views are not copied. It knows nothing of the machine: loop kinds say what
//! may run in lanes or threads.

mod assemble;
mod attend;
mod blocks;
mod bounds;
mod call;
mod demand;
mod error;
mod expr;
mod index;
mod levels;
mod masks;
mod matmul;
mod nest;
mod place;
mod precheck;
mod recur;
mod region;
mod route;
mod scalar;
mod scan;
mod schedule;
mod segment;
mod split;
mod tiles;
mod top_k;
mod transform;

#[cfg(test)]
pub(crate) mod tests;

pub use error::LowerError;

use crate::diag::Diagnostic;
use crate::dim::Dim;
use crate::dtype::DType;
use crate::graph::affine::Interval;
use crate::graph::expr::VarId;
use crate::graph::ir::{Function, Graph, Op, Program, Value};
use crate::loops::ir::{
    Buffer, BufferId, BufferKind, Local, LoopFunc, LoopProgram, LoopVar, ScalarId, Scalars, Site, SiteId,
    Stmt,
};
use crate::loops::{hoist, promote};
use crate::passes::attend::Attend;
use crate::span::{FileId, Span};
use crate::tensor::Tensor;
use assemble::Assembly;
use petgraph::stable_graph::NodeIndex;
use place::Place;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

type Lowered<T> = Result<T, LowerError>;

/// Lowers every function of a program.
///
/// # Errors
/// Reads that are outside for all sizes, and sizes beyond 64 bits. All of them are collected.
pub fn lower(program: &Program) -> Result<LoopProgram, Vec<Diagnostic>> {
    let mut shared = Shared::default();
    let mut functions = Vec::with_capacity(program.functions.len());
    for (at, function) in program.functions.iter().enumerate() {
        let inputs = if at == program.entry.0 as usize { program.signature.inputs.len() } else { 0 };
        match FuncCx::new(&mut shared, function, inputs).and_then(|cx| cx.function(function)) {
            Ok(func) => functions.push(func),
            Err((error, span)) => shared.errors.push(error.at(span)),
        }
    }
    if !shared.errors.is_empty() {
        return Err(shared.errors);
    }
    Ok(LoopProgram {
        functions,
        entry: program.entry.0 as usize,
        bind: program.bind.map(|f| f.0 as usize),
        signature: program.signature.clone(),
        checks: program.checks.clone(),
        sites: shared.sites,
        assumed: shared.assumed.into_iter().collect(),
    })
}

/// What all functions of a program share.
#[derive(Default)]
struct Shared {
    sites: Vec<Site>,
    errors: Vec<Diagnostic>,
    /// Sizes that must not wrap, for what was proved of indices.
    assumed: BTreeSet<Dim>,
}

/// An enclosing position, of a recurrence or of one axis of a region.
struct Position {
    scalar: ScalarId,
    start: Dim,
    extent: Dim,
    name: Arc<str>,
}

/// The lowering of one function.
struct FuncCx<'p> {
    shared: &'p mut Shared,
    func: LoopFunc,
    /// Checks that precede everything else.
    prologue: Vec<Stmt>,
    /// How many arguments are inputs of the entry; 0 for other functions.
    inputs: usize,
    positions: BTreeMap<VarId, Position>,
    ranges: BTreeMap<VarId, Interval>,
    consts: Vec<(Arc<Tensor>, BufferId)>,
    /// Buffer names in use, with how often.
    names: BTreeMap<String, usize>,
    /// Rows in order of what they pick, as the statements before this one have sorted them.
    sorted: Vec<route::Sorted>,
    /// The block of queries that is being lowered.
    block: Option<blocks::Block>,
    /// Whether an index is compared that has no bounds, so that thresholds computed from it may wrap.
    wraps: bool,
    /// The op that is being lowered.
    span: Span,
}

/// A node with its operands and where its results must go.
struct Work<'g> {
    graph: &'g Graph,
    node: NodeIndex,
    operands: Vec<Place>,
    /// Per result: where it must be written, if that is settled.
    dests: Vec<Option<Place>>,
}

impl<'p> FuncCx<'p> {
    fn new(shared: &'p mut Shared, function: &Function, inputs: usize) -> Result<Self, (LowerError, Span)> {
        let graph = &function.graph;
        let first = graph.results.first().map(|v| v.node).or(graph.args.first().copied());
        let span = first.map_or(Span::new(FileId(0), 0, 0), |node| graph.node(node).span);
        let func = LoopFunc {
            name: function.name.clone(),
            buffers: Vec::new(),
            scalars: Scalars::default(),
            locals: Vec::new(),
            vars: Vec::new(),
            body: Vec::new(),
            span,
        };
        Ok(FuncCx {
            shared,
            func,
            prologue: Vec::new(),
            inputs,
            positions: BTreeMap::new(),
            ranges: BTreeMap::new(),
            consts: Vec::new(),
            names: BTreeMap::new(),
            sorted: Vec::new(),
            block: None,
            wraps: false,
            span,
        })
    }

    fn function(mut self, function: &Function) -> Result<LoopFunc, (LowerError, Span)> {
        match self.function_body(&function.graph) {
            Ok(body) => {
                self.func.body = std::mem::take(&mut self.prologue);
                self.func.body.extend(body);
                promote::promote(&mut self.func);
                hoist::hoist(&mut self.func);
                Ok(self.func)
            }
            Err(error) => Err((error, self.span)),
        }
    }

    fn function_body(&mut self, graph: &Graph) -> Lowered<Vec<Stmt>> {
        let mut args = Vec::with_capacity(graph.args.len());
        for (k, arg) in graph.args.iter().enumerate() {
            let node = graph.node(*arg);
            self.span = node.span;
            let ty = &node.results[0];
            let name = node.name.clone();
            let mut place = self.buffer(name.as_deref(), ty.dtype, &ty.shape, BufferKind::Arg(k as u32))?;
            place.name = name;
            args.push(place);
        }
        let mut dests = Vec::with_capacity(graph.results.len());
        for (k, value) in graph.results.iter().enumerate() {
            let (ty, node) = (graph.ty(*value), graph.node(value.node));
            self.span = node.span;
            let kind = BufferKind::Result(k as u32);
            dests.push(self.buffer(node.name.as_deref(), ty.dtype, &ty.shape, kind)?);
        }
        let mut out = Vec::new();
        self.graph_with(graph, (None, Assembly::of(graph)), &args, &dests, &mut out)?;
        Ok(out)
    }

    /// Lowers a graph whose results go to `dests`.
    fn graph(&mut self, graph: &Graph, args: &[Place], dests: &[Place], out: &mut Vec<Stmt>) -> Lowered<()> {
        self.graph_with(graph, (None, Assembly::default()), args, dests, out)
    }

    /// Lowers a graph; where parts of it are attention, those go by tiles, and what is put together from other
    /// values by an op of the assembly is written there.
    fn graph_with(
        &mut self,
        graph: &Graph,
        (attend, mut assembly): (Option<&Attend>, Assembly),
        args: &[Place],
        dests: &[Place],
        out: &mut Vec<Stmt>,
    ) -> Lowered<()> {
        let mut wanted: BTreeMap<Value, Place> = BTreeMap::new();
        for (value, dest) in graph.results.iter().zip(dests) {
            wanted.entry(*value).or_insert_with(|| dest.clone());
        }
        let live = live_nodes(graph);
        let sorted_around = self.sorted.len();
        let mut values: BTreeMap<Value, Place> = BTreeMap::new();
        for id in graph.topological().into_iter().filter(|id| live.contains(id)) {
            let node = graph.node(id);
            self.span = node.span;
            if let Op::Arg(k) = node.op {
                values.insert(Value { node: id, result: 0 }, args[k as usize].clone());
                continue;
            }
            if let Some(attend) = attend.filter(|attend| attend.core.contains(&id)) {
                if id == attend.weighted {
                    let value = Value { node: id, result: 0 };
                    let mut place =
                        self.attend(graph, attend, &mut values, wanted.get(&value).cloned(), out)?;
                    place.name = node.name.clone().or(place.name);
                    values.insert(value, place);
                }
                continue;
            }
            let result = |k: usize| Value { node: id, result: k as u32 };
            if let Some(mut place) = self.assembled(&assembly, id, &values, out)? {
                place.name = node.name.clone().or(place.name);
                values.insert(result(0), place);
                continue;
            }
            let operands = graph.operands(id).iter().map(|v| values[v].clone()).collect();
            let mut dests: Vec<Option<Place>> =
                (0..node.results.len()).map(|k| wanted.get(&result(k)).cloned()).collect();
            if let [dest @ None] = dests.as_mut_slice() {
                *dest = self.place_in_box(graph, &mut assembly, &wanted, result(0))?;
            }
            let places = self.node(&Work { graph, node: id, operands, dests }, out)?;
            for (k, mut place) in places.into_iter().enumerate() {
                place.name = node.name.clone().or(place.name);
                values.insert(result(k), place);
            }
        }
        self.sorted.truncate(sorted_around);
        for (value, dest) in graph.results.iter().zip(dests) {
            let from = &values[value];
            if (from.buffer, from.offset) != (dest.buffer, dest.offset) {
                self.copy(&from.clone(), dest, out)?;
            }
        }
        Ok(())
    }

    fn node(&mut self, work: &Work<'_>, out: &mut Vec<Stmt>) -> Lowered<Vec<Place>> {
        match &work.graph.node(work.node).op {
            Op::Arg(_) => Ok(Vec::new()),
            Op::Const(tensor) => Ok(vec![self.constant(work, tensor)?]),
            Op::Index(index) => Ok(vec![self.index(work, index, out)?]),
            Op::TopK(k) => self.top_k(work, k, out),
            Op::Recur(recur) => self.recur(work, recur, out),
            Op::Region(region) => self.region(work, region, out),
            Op::Call(callee) => self.call(work, *callee, out),
            Op::MatMul(product) => Ok(vec![self.matmul(work, product, out)?]),
            Op::Segment(segment) => Ok(vec![self.segment(work, segment, out)?]),
            Op::Scan(scan) => Ok(vec![self.scan(work, scan, out)?]),
            Op::Transform(transform) => Ok(vec![self.transform(work, transform, out)?]),
        }
    }

    fn constant(&mut self, work: &Work<'_>, tensor: &Arc<Tensor>) -> Lowered<Place> {
        let shape = &work.graph.node(work.node).results[0].shape;
        if let Some((_, buffer)) = self.consts.iter().find(|(known, _)| Arc::ptr_eq(known, tensor)) {
            let (buffer, offset) = (*buffer, self.int(0));
            return Place::dense(buffer, offset, shape);
        }
        let name = work.graph.node(work.node).name.as_deref().or(Some("const"));
        let place = self.buffer(name, tensor.dtype(), shape, BufferKind::Const(tensor.clone()))?;
        self.consts.push((tensor.clone(), place.buffer));
        Ok(place)
    }

    /// Where result `result` of a node is to be written: as settled, or a new temporary.
    fn dest(&mut self, work: &Work<'_>, result: usize) -> Lowered<Place> {
        if let Some(place) = &work.dests[result] {
            return Ok(place.clone());
        }
        let node = work.graph.node(work.node);
        let ty = &node.results[result];
        self.temp(node.name.as_deref(), ty.dtype, &ty.shape)
    }

    fn temp(&mut self, name: Option<&str>, dtype: DType, shape: &[Dim]) -> Lowered<Place> {
        self.buffer(name, dtype, shape, BufferKind::Temp)
    }

    fn buffer(
        &mut self,
        name: Option<&str>,
        dtype: DType,
        shape: &[Dim],
        kind: BufferKind,
    ) -> Lowered<Place> {
        let mut elems = Dim::product(shape)?;
        if let Some(block) = &self.block {
            elems = block.most(&elems)?;
        }
        let name = self.unique(name.unwrap_or("t"));
        let id = BufferId(self.func.buffers.len() as u32);
        self.func.buffers.push(Buffer { name, dtype, elems, kind, span: self.span });
        let offset = self.int(0);
        Place::dense(id, offset, shape)
    }

    /// A buffer name that no other buffer of the function has.
    fn unique(&mut self, name: &str) -> String {
        let count = self.names.entry(name.to_owned()).or_insert(0);
        *count += 1;
        let mut suffix = *count;
        if suffix == 1 {
            return name.to_owned();
        }
        loop {
            let candidate = format!("{name}.{suffix}");
            if !self.names.contains_key(&candidate) {
                self.names.insert(candidate.clone(), 1);
                return candidate;
            }
            suffix += 1;
        }
    }

    fn new_var(&mut self, name: &str) -> LoopVar {
        self.func.vars.push(name.to_owned());
        LoopVar(self.func.vars.len() as u32 - 1)
    }

    fn new_local(&mut self, name: &str, dtype: DType) -> Local {
        self.func.locals.push((name.to_owned(), dtype));
        Local(self.func.locals.len() as u32 - 1)
    }

    fn site(&mut self, code: &'static str, message: String, span: Span) -> SiteId {
        let known =
            self.shared.sites.iter().position(|s| s.code == code && s.message == message && s.span == span);
        let at = known.unwrap_or_else(|| {
            self.shared.sites.push(Site { code, message, span });
            self.shared.sites.len() - 1
        });
        SiteId(at as u32)
    }
}

/// The nodes that results depend on.
fn live_nodes(graph: &Graph) -> BTreeSet<NodeIndex> {
    let mut live: BTreeSet<NodeIndex> = BTreeSet::new();
    let mut pending: Vec<NodeIndex> = graph.results.iter().map(|v| v.node).collect();
    while let Some(id) = pending.pop() {
        if live.insert(id) {
            pending.extend(graph.operands(id).iter().map(|v| v.node));
        }
    }
    live
}
