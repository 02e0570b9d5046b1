//! Regions: chains over shared rows run row by row, so that what is between them stays small.
//!
//! Two forms are gathered. *Attention*: a product whose operand comes from a softmax over the
//! scores of another product; its loops are the batch axes of the last product (sample and head),
//! and scores and probabilities exist for one of them at a time. *Rows*: a pointwise op that reads
//! reductions over its own rows (softmax, LayerNorm, RMSNorm); its loops are the rows.
//!
//! A chain is found backwards from its last op. A producer joins when it has all the rows, reads
//! them at the same points, and nobody else needs it. What is gathered is moved as it is: the
//! body of the region is the same graph with the row indices replaced by positions.

use super::Changed;
use super::blocks::BLOCK_QUERIES;
use super::epilogue::points_of;
use super::matmul::is_plain_sum;
use super::walk::{Vars, walk};
use crate::dim::Dim;
use crate::dtype::DType;
use crate::graph::affine::{Affine, Leaf, Ranges, build};
use crate::graph::expr::{Expr, ExprId, Exprs, Read, VarId};
use crate::graph::ir::{
    Axis, Epilogue, Graph, Index, MatMul, Node, Op, Place, Program, Region, RegionKind, Role, TensorType,
    Value, View,
};
use crate::ops::reduce::Reducer;
use crate::ops::scalar::{BinaryOp, UnaryOp};
use petgraph::stable_graph::NodeIndex;
use std::collections::{BTreeMap, BTreeSet};

/// Gathers attention, then rows, in every graph.
pub fn form_regions(program: &mut Program) -> Changed {
    let mut changed = false;
    let mut fresh = program.vars;
    for function in &mut program.functions {
        walk(&mut function.graph, &Vars::new(), &mut |graph, vars| {
            for find in [attention as Finder, rows] {
                let mut order = graph.topological();
                for id in order.clone().into_iter().rev() {
                    if !graph.dag.contains_node(id) {
                        continue;
                    }
                    if let Some(chain) = find(graph, id, &order, vars)
                        && outline(graph, &chain, vars, &mut fresh)
                    {
                        order = graph.topological();
                        changed = true;
                    }
                }
            }
        });
    }
    program.vars = fresh;
    Changed::from(changed)
}

/// Finds a chain that ends in a node; the nodes are given in topological order.
type Finder = fn(&Graph, NodeIndex, &[NodeIndex], &Vars) -> Option<Chain>;

/// Ops over shared rows. For each op, which of its iterate axes is which row.
struct Chain {
    kind: RegionKind,
    axes: Vec<Axis>,
    members: BTreeMap<NodeIndex, Vec<usize>>,
}

/// A weighted sum whose weights are a softmax.
fn attention(graph: &Graph, id: NodeIndex, order: &[NodeIndex], vars: &Vars) -> Option<Chain> {
    let rows: Vec<usize> = match &graph.node(id).op {
        Op::MatMul(product) if product.pick.is_none() => (0..product.iterate.len())
            .filter(|k| product.roles[*k] == Role::Batch && !product.iterate[*k].extent.is(1))
            .collect(),
        Op::Index(index) => weighted_rows(graph, id, index, vars)?,
        _ => return None,
    };
    let chain = gather(graph, (id, order), rows, RegionKind::Attention, vars)?;
    let has = |wanted: &dyn Fn(&Index) -> bool| {
        chain.members.keys().any(|m| matches!(&graph.node(*m).op, Op::Index(index) if wanted(index)))
    };
    let reduces = |reducer: Reducer| move |i: &Index| i.reduce.as_ref().is_some_and(|r| r.reducer == reducer);
    let exponential = |i: &Index| i.exprs.iter().any(|(_, e, _)| matches!(e, Expr::Unary(UnaryOp::Exp, _)));
    let softmax = has(&reduces(Reducer::Max)) && has(&reduces(Reducer::Sum)) && has(&exponential);
    // A lone row of weights, as of a mean over positions, has no queries.
    let is_pairs = |member: &NodeIndex| {
        let shape = &graph.node(*member).results[0].shape;
        *member != id && shape.iter().filter(|extent| !extent.is(1)).count() > 1
    };
    (softmax && chain.members.keys().any(is_pairs)).then_some(chain)
}

/// The rows of a sum that weighs what depends on the query too, as values of relative positions: the
/// axes that it and its weights have, but for the queries, which are the last of them.
fn weighted_rows(graph: &Graph, id: NodeIndex, index: &Index, vars: &Vars) -> Option<Vec<usize>> {
    let reduce = index.reduce.as_ref()?;
    let [keys] = &reduce.axes[..] else { return None };
    // Weights of a few keys are no scores that are worth a region.
    let few = keys.extent.as_const().is_some_and(|keys| keys <= BLOCK_QUERIES);
    if !is_plain_sum(index) || few {
        return None;
    }
    let ranges = Ranges { indices: index.extents(), vars: vars.clone() };
    let weights = graph.operands(id).into_iter().find(|value| is_normalised(graph, value.node))?;
    let mut points = points_at(graph, id, weights, &ranges)?;
    let key = points.pop().filter(|key| lone_index(key) == Some(index.iterate.len()))?;
    let mut rows: Vec<usize> = points.iter().map(lone_index).collect::<Option<_>>()?;
    rows.retain(|k| !index.iterate[*k].extent.is(1));
    rows.pop()?;
    (key.is_transparent() && rows.is_sorted()).then_some(rows)
}

/// Whether an op divides by sums over its rows.
fn is_normalised(graph: &Graph, id: NodeIndex) -> bool {
    let Op::Index(index) = &graph.node(id).op else { return false };
    let divides = index.exprs.iter().any(|(_, e, _)| matches!(e, Expr::Binary(BinaryOp::Div, ..)));
    index.reduce.is_none() && divides && graph.operands(id).iter().any(|v| is_statistic(graph, v.node))
}

/// A pointwise op that reads statistics of its rows.
fn rows(graph: &Graph, id: NodeIndex, order: &[NodeIndex], vars: &Vars) -> Option<Chain> {
    let Op::Index(index) = &graph.node(id).op else { return None };
    if index.reduce.is_some() {
        return None;
    }
    let ranges = Ranges { indices: index.extents(), vars: vars.clone() };
    let mut rows: Option<Vec<usize>> = None;
    for value in graph.operands(id) {
        if !is_statistic(graph, value.node) {
            continue;
        }
        let points = points_at(graph, id, value, &ranges)?;
        let mut mine: Vec<usize> = points.iter().filter_map(lone_index).collect();
        mine.sort_unstable();
        // Each row once: of a diagonal, `s[i, i]`, one index would be two rows.
        let all = mine.len() == points.iter().filter(|p| !p.terms.is_empty()).count();
        let distinct = mine.windows(2).all(|pair| pair[0] != pair[1]);
        if !all || !distinct || rows.as_ref().is_some_and(|known| *known != mine) {
            return None;
        }
        rows = Some(mine);
    }
    let rows = rows?;
    let wider = rows.len() < index.iterate.iter().filter(|axis| !axis.extent.is(1)).count();
    if !wider {
        return None;
    }
    gather(graph, (id, order), rows, RegionKind::Rows, vars)
}

/// Whether an op reduces, or works on what a reduction left: one value a row.
fn is_statistic(graph: &Graph, id: NodeIndex) -> bool {
    let reduces = |id: NodeIndex| match &graph.node(id).op {
        Op::Index(index) => index.reduce.is_some().then_some(index.iterate.len()),
        _ => None,
    };
    let Op::Index(index) = &graph.node(id).op else { return false };
    let of_row = |value: &Value| reduces(value.node) == Some(index.iterate.len());
    index.reduce.is_some() || graph.operands(id).iter().any(of_row)
}

fn lone_index(form: &Affine) -> Option<usize> {
    match form.as_leaf() {
        Some(Leaf::Index(k)) => Some(k as usize),
        _ => None,
    }
}

pub(super) fn iterate_of(op: &Op) -> Option<&[Axis]> {
    match op {
        Op::Index(index) => Some(&index.iterate),
        Op::MatMul(product) => Some(&product.iterate),
        _ => None,
    }
}

/// Collects producers backwards from the last op.
fn gather(
    graph: &Graph,
    (last, order): (NodeIndex, &[NodeIndex]),
    rows: Vec<usize>,
    kind: RegionKind,
    vars: &Vars,
) -> Option<Chain> {
    // Attention without batch and heads is a region of one point; a row has its statistics.
    if rows.is_empty() && kind == RegionKind::Rows {
        return None;
    }
    let iterate = iterate_of(&graph.node(last).op)?;
    let axes: Vec<Axis> = rows.iter().map(|k| iterate[*k].clone()).collect();
    let mut members = BTreeMap::from([(last, rows)]);
    for id in order.iter().rev() {
        let readers: Vec<NodeIndex> =
            graph.users(*id).into_iter().filter(|user| members.contains_key(user)).collect();
        if members.contains_key(id) || readers.is_empty() || stops(graph, *id, &readers, last, kind) {
            continue;
        }
        let probabilities = kind == RegionKind::Attention && readers.contains(&last);
        let shared = graph.users(*id).len() != readers.len() || graph.results.iter().any(|r| r.node == *id);
        if shared && !probabilities {
            continue;
        }
        if let Some(rows) = common_rows(graph, *id, &readers, &members, vars)
            && joins(&graph.node(*id).op, kind)
        {
            members.insert(*id, rows);
        }
    }
    let chain = Chain { kind, axes, members };
    (chain.members.len() > 1 && is_convex(graph, order, &chain)).then_some(chain)
}

fn joins(op: &Op, kind: RegionKind) -> bool {
    match op {
        Op::Index(index) => index.reduce.as_ref().is_none_or(|r| r.otherwise.is_none()),
        // One row at a time would read what it picks anew for each.
        Op::MatMul(product) => kind == RegionKind::Attention && product.pick.is_none(),
        _ => false,
    }
}

/// A chain does not reach back behind its first product: to its factors, that is. What is added to the
/// product, as scores by position, is as large as it.
fn stops(graph: &Graph, id: NodeIndex, readers: &[NodeIndex], last: NodeIndex, kind: RegionKind) -> bool {
    let multiplies = |reader: &NodeIndex| {
        let factors = graph.operands(*reader);
        matches!(graph.node(*reader).op, Op::MatMul(_)) && factors[..2].iter().any(|factor| factor.node == id)
    };
    kind == RegionKind::Attention && readers.iter().any(|reader| *reader != last && multiplies(reader))
}

/// Which iterate axes of a producer are the rows, if all members that read it agree.
fn common_rows(
    graph: &Graph,
    id: NodeIndex,
    readers: &[NodeIndex],
    members: &BTreeMap<NodeIndex, Vec<usize>>,
    vars: &Vars,
) -> Option<Vec<usize>> {
    let value = Value { node: id, result: 0 };
    let mut agreed: Option<Vec<usize>> = None;
    for reader in readers {
        let rows = &members[reader];
        let found = match &graph.node(*reader).op {
            Op::Index(index) => {
                let ranges = Ranges { indices: index.extents(), vars: vars.clone() };
                rows_by_index(graph, *reader, value, rows, &ranges)?
            }
            Op::MatMul(product) if graph.operands(*reader)[..2].contains(&value) => {
                rows_by_stride(graph, *reader, product, value, rows)?
            }
            // What follows the product reads by index, as of a quotient by the sum of a row.
            Op::MatMul(product) => {
                let indices = product.iterate.iter().map(|axis| axis.extent.clone()).collect();
                rows_by_index(graph, *reader, value, rows, &Ranges { indices, vars: vars.clone() })?
            }
            _ => return None,
        };
        if agreed.as_ref().is_some_and(|known| *known != found) {
            return None;
        }
        agreed = Some(found);
    }
    agreed
}

/// The axes of a value that an op reads it along, point by point, where it walks along rows of its own.
pub(super) fn rows_by_index(
    graph: &Graph,
    reader: NodeIndex,
    value: Value,
    rows: &[usize],
    ranges: &Ranges,
) -> Option<Vec<usize>> {
    let points = points_at(graph, reader, value, ranges)?;
    // What is looked up at computed places, as a table over blocks, is no row of the chain.
    if !points.iter().all(Affine::is_transparent) {
        return None;
    }
    rows.iter().map(|row| points.iter().position(|p| lone_index(p) == Some(*row))).collect()
}

/// A product reads its operand by strides: the rows must be the operand's leading axes.
fn rows_by_stride(
    graph: &Graph,
    reader: NodeIndex,
    product: &MatMul,
    value: Value,
    rows: &[usize],
) -> Option<Vec<usize>> {
    let operands = graph.operands(reader);
    let ports: Vec<usize> = (0..operands.len()).filter(|k| operands[*k] == value).collect();
    let view = match ports[..] {
        [0] => &product.lhs,
        [1] => &product.rhs,
        _ => return None,
    };
    let iterate = iterate_of(&graph.node(value.node).op)?;
    let stride = |k: usize| Dim::product(iterate[k + 1..].iter().map(|a| &a.extent)).ok();
    // Axes of one point are neither rows nor in their way.
    let leading: Vec<usize> =
        (0..iterate.len()).filter(|k| !iterate[*k].extent.is(1)).take(rows.len()).collect();
    let mut found = Vec::with_capacity(rows.len());
    for row in rows {
        let at = leading.iter().copied().find(|k| {
            stride(*k).as_ref() == Some(&view.iterate[*row])
                && iterate[*k].extent == product.iterate[*row].extent
        })?;
        found.push(at);
    }
    let distinct: BTreeSet<usize> = found.iter().copied().collect();
    (distinct.len() == rows.len() && view.offset.is(0) && view.vars.is_empty()).then_some(found)
}

/// The affine points at which an index op, or what follows a product, reads a value; all its reads
/// must agree.
fn points_at(graph: &Graph, reader: NodeIndex, value: Value, ranges: &Ranges) -> Option<Vec<Affine>> {
    let exprs = match &graph.node(reader).op {
        Op::Index(index) => &index.exprs,
        Op::MatMul(product) => &product.epilogue.as_ref()?.exprs,
        _ => return None,
    };
    let operands = graph.operands(reader);
    let iterate = iterate_of(&graph.node(value.node).op)?;
    let mut agreed: Option<Vec<Affine>> = None;
    for (_, expr, _) in exprs.iter() {
        let Expr::Read(read) = expr else { continue };
        if operands[read.port as usize] != value {
            continue;
        }
        let points = points_of(iterate, exprs, read, &graph.ty(value).shape, ranges)?;
        if agreed.as_ref().is_some_and(|known| *known != points) {
            return None;
        }
        agreed = Some(points);
    }
    agreed
}

/// Whether no path leaves the chain and comes back.
fn is_convex(graph: &Graph, order: &[NodeIndex], chain: &Chain) -> bool {
    let mut behind: BTreeSet<NodeIndex> = BTreeSet::new();
    for id in order.iter().copied() {
        let inputs = graph.operands(id);
        let member = chain.members.contains_key(&id);
        if member && inputs.iter().any(|v| behind.contains(&v.node)) {
            return false;
        }
        let after = inputs.iter().any(|v| behind.contains(&v.node) || chain.members.contains_key(&v.node));
        if !member && after {
            behind.insert(id);
        }
    }
    true
}

/// Moves a chain into a region node.
fn outline(graph: &mut Graph, chain: &Chain, vars: &Vars, fresh: &mut u32) -> bool {
    let positions: Vec<VarId> = (0..chain.axes.len() as u32).map(|k| VarId(*fresh + k)).collect();
    let order: Vec<NodeIndex> =
        graph.topological().into_iter().filter(|id| chain.members.contains_key(id)).collect();
    let mut builder = Builder {
        graph,
        chain,
        vars,
        positions: &positions,
        body: Graph::new(),
        captured: Vec::new(),
        inside: BTreeMap::new(),
    };
    for id in &order {
        if builder.add(*id).is_none() {
            return false;
        }
    }
    let Builder { mut body, captured, inside, .. } = builder;
    *fresh += positions.len() as u32;
    let leaves = |id: &NodeIndex| {
        graph.users(*id).iter().any(|user| !chain.members.contains_key(user))
            || graph.results.iter().any(|r| r.node == *id)
    };
    let yielded: Vec<NodeIndex> = order.iter().copied().filter(leaves).collect();
    body.results = yielded.iter().map(|id| inside[id]).collect();
    let places = yielded.iter().map(|id| places(graph, chain, *id)).collect();
    let results: Vec<TensorType> = yielded.iter().map(|id| graph.node(*id).results[0].clone()).collect();
    let last = order[order.len() - 1];
    let (span, name) = (graph.node(last).span, graph.node(last).name.clone());
    let region = Region { kind: chain.kind, axes: chain.axes.clone(), vars: positions, body, places };
    let node = graph.add(Node { op: Op::Region(Box::new(region)), results, span, name }, &captured);
    for (result, id) in yielded.iter().enumerate() {
        graph.replace_value(Value { node: *id, result: 0 }, Value { node, result: result as u32 });
    }
    for id in order.iter().rev() {
        graph.dag.remove_node(*id);
    }
    true
}

fn places(graph: &Graph, chain: &Chain, id: NodeIndex) -> Vec<Place> {
    let rows = &chain.members[&id];
    let count = iterate_of(&graph.node(id).op).map_or(0, <[Axis]>::len);
    let mut slice = 0;
    (0..count)
        .map(|k| match rows.iter().position(|row| *row == k) {
            Some(row) => Place::Loop(row),
            None => {
                slice += 1;
                Place::Slice(slice - 1)
            }
        })
        .collect()
}

/// Builds the body of a region.
struct Builder<'a> {
    graph: &'a Graph,
    chain: &'a Chain,
    vars: &'a Vars,
    positions: &'a [VarId],
    body: Graph,
    captured: Vec<Value>,
    inside: BTreeMap<NodeIndex, Value>,
}

impl Builder<'_> {
    /// Adds the row form of a member.
    fn add(&mut self, id: NodeIndex) -> Option<()> {
        let node = self.graph.node(id).clone();
        let operands: Vec<Value> = self.graph.operands(id);
        let values: Vec<Value> = operands.iter().map(|v| self.operand(*v)).collect();
        let rows = &self.chain.members[&id];
        let iterate = iterate_of(&node.op)?;
        let kept: Vec<usize> = (0..iterate.len()).filter(|k| !rows.contains(k)).collect();
        let shape: Vec<Dim> = kept.iter().map(|k| iterate[*k].extent.clone()).collect();
        if shape.len() > 8 {
            return None;
        }
        let op = match &node.op {
            Op::Index(index) => Op::Index(self.index(index, rows, &kept, &operands)?),
            Op::MatMul(product) => Op::MatMul(Box::new(self.product(product, rows, &kept, &operands)?)),
            _ => return None,
        };
        let results = vec![TensorType::new(node.results[0].dtype, shape)];
        let new = self.body.add(Node { op, results, ..node }, &values);
        self.inside.insert(id, Value { node: new, result: 0 });
        Some(())
    }

    /// What an operand is inside: a member's slice, or a capture.
    fn operand(&mut self, value: Value) -> Value {
        if let Some(inside) = self.inside.get(&value.node) {
            return *inside;
        }
        if let Some(k) = self.captured.iter().position(|v| *v == value) {
            return Value { node: self.body.args[k], result: 0 };
        }
        self.captured.push(value);
        let node = self.graph.node(value.node);
        self.body.add_arg(self.graph.ty(value).clone(), node.span, node.name.clone())
    }

    fn index(&self, index: &Index, rows: &[usize], kept: &[usize], operands: &[Value]) -> Option<Index> {
        let ranges = Ranges { indices: index.extents(), vars: self.vars.clone() };
        let (exprs, roots) =
            self.exprs(&index.exprs, &index.roots(), index.iterate.len(), rows, kept, operands, &ranges)?;
        let mut moved = index.clone();
        moved.iterate = kept.iter().map(|k| index.iterate[*k].clone()).collect();
        moved.set_roots(exprs, &roots);
        Some(moved)
    }

    /// Expressions with rows as positions and members read by slice.
    #[expect(clippy::too_many_arguments, reason = "one traversal shared by index ops and epilogues")]
    fn exprs(
        &self,
        source: &Exprs,
        roots: &[ExprId],
        iterate: usize,
        rows: &[usize],
        kept: &[usize],
        operands: &[Value],
        ranges: &Ranges,
    ) -> Option<(Exprs, Vec<ExprId>)> {
        let reads = self.member_reads(source, operands, ranges)?;
        let mut out = Exprs::new();
        let index_at = |out: &mut Exprs, k: usize| match rows.iter().position(|row| *row == k) {
            Some(row) => out.add(Expr::Var(self.positions[row]), DType::I64),
            None if k < iterate => {
                let at = kept.iter().position(|kept| *kept == k).unwrap_or(k);
                out.index(at)
            }
            None => out.index(k - rows.len()),
        };
        // Reads of members are rebuilt from their points in the old indices, which the closure
        // then replaces like all others: two steps, since points hold old indices.
        let mut staged = Exprs::new();
        let staged_roots = staged.map(source, roots, &mut |out, expr, dtype| match &expr {
            Expr::Read(read) if reads.contains_key(&read.port) => {
                let index = reads[&read.port].iter().map(|form| build(out, form)).collect();
                out.add(Expr::Read(Read { index, ..read.clone() }), dtype)
            }
            _ => out.add(expr, dtype),
        });
        let moved = out.import(&staged, &staged_roots, &mut |out, leaf, _| match leaf {
            Expr::Index(k) => Some(index_at(out, *k as usize)),
            _ => None,
        });
        Some((out, moved))
    }

    /// For each port that reads a member: the points at its axes that are not rows.
    fn member_reads(
        &self,
        source: &Exprs,
        operands: &[Value],
        ranges: &Ranges,
    ) -> Option<BTreeMap<u32, Vec<Affine>>> {
        let mut reads = BTreeMap::new();
        for (_, expr, _) in source.iter() {
            let Expr::Read(read) = expr else { continue };
            let value = operands[read.port as usize];
            let Some(rows) = self.chain.members.get(&value.node) else { continue };
            if read.index.is_empty() && !self.graph.ty(value).shape.is_empty() {
                continue;
            }
            let iterate = iterate_of(&self.graph.node(value.node).op)?;
            let points = points_of(iterate, source, read, &self.graph.ty(value).shape, ranges)?;
            if points.iter().any(|p| !p.is_transparent()) {
                return None;
            }
            let slice: Vec<Affine> =
                (0..points.len()).filter(|k| !rows.contains(k)).map(|k| points[k].clone()).collect();
            if reads.insert(read.port, slice.clone()).is_some_and(|known| known != slice) {
                return None;
            }
        }
        Some(reads)
    }

    fn product(
        &self,
        product: &MatMul,
        rows: &[usize],
        kept: &[usize],
        operands: &[Value],
    ) -> Option<MatMul> {
        let view = |view: &View, operand: Value| {
            let mut moved = View { iterate: Vec::new(), ..view.clone() };
            moved.iterate = kept.iter().map(|k| view.iterate[*k].clone()).collect();
            if !self.chain.members.contains_key(&operand.node) {
                for (row, position) in rows.iter().zip(self.positions) {
                    if !view.iterate[*row].is(0) {
                        moved.vars.push((*position, view.iterate[*row].clone()));
                    }
                }
            }
            moved
        };
        let epilogue = match &product.epilogue {
            Some(epilogue) => {
                let indices = product.iterate.iter().map(|axis| axis.extent.clone()).collect();
                let ranges = Ranges { indices, vars: self.vars.clone() };
                let (exprs, roots) = self.exprs(
                    &epilogue.exprs,
                    &[epilogue.body],
                    product.iterate.len(),
                    rows,
                    kept,
                    operands,
                    &ranges,
                )?;
                Some(Epilogue { exprs, body: roots[0] })
            }
            None => None,
        };
        Some(MatMul {
            iterate: kept.iter().map(|k| product.iterate[*k].clone()).collect(),
            roles: kept.iter().map(|k| product.roles[*k]).collect(),
            contract: product.contract.clone(),
            lhs: view(&product.lhs, operands[0]),
            rhs: view(&product.rhs, operands[1]),
            pick: None,
            epilogue,
        })
    }
}
