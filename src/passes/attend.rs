//! Attention that can run by tiles: which attention regions never need all their scores at once.
//!
//! Takes the body of an attention region and says, if it is exactly that,
//!
//! ```text
//! s[i, j] = score(sum[d] q[i, d] * k[j, d], i, j)
//! m[i]    = max[j where condition(i, j)] s[i, j]
//! e[i, j] = if condition(i, j) { exp(s[i, j] - m[i]) } else { 0 }
//! l[i]    = sum[j] e[i, j]
//! y[i, c] = sum[j] (e[i, j] / l[i]) * v[j, c]          or the quotient in what follows the sum
//! ```
//!
//! what its parts are: the two products, and the score function and the condition as expressions
//! over the query and key indices. Nothing else may use what lies between the products. What does
//! not match stays an attention region with all its scores; the meaning of both is that of the body.

use super::Changed;
use super::blocks::Blocks;
use super::walk::{Vars, walk};
use crate::dim::Dim;
use crate::dtype::DType;
use crate::graph::expr::{Expr, ExprId, Exprs, Literal, Read};
use crate::graph::ir::{Axis, Graph, Index, MatMul, Op, Program, RegionKind, Role, Value, View};
use crate::ops::reduce::Reducer;
use crate::ops::scalar::{BinaryOp, UnaryOp};
use petgraph::stable_graph::NodeIndex;
use std::collections::BTreeSet;

/// Marks the attention regions whose body is attention and nothing more.
pub fn tile_attention(program: &mut Program) -> Changed {
    let mut changed = false;
    for function in &mut program.functions {
        walk(&mut function.graph, &Vars::new(), &mut |graph, _| {
            for id in graph.topological() {
                if let Op::Region(region) = &mut graph.dag[id].op
                    && region.kind == RegionKind::Attention
                    && let Some(attend) = Attend::find(&region.body)
                    && (!attend.reads_pairs(&region.body) || Blocks::find(&region.body).is_none())
                {
                    region.kind = RegionKind::TiledAttention;
                    changed = true;
                }
            }
        });
    }
    Changed::from(changed)
}

/// Where the sum of the exponentials divides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quotient {
    /// Every exponential; rows without allowed pairs give NaN, as 0 / 0.
    Plain,
    /// The exponentials of allowed pairs; rows without them are zero.
    Masked,
    /// Whoever reads both sums: the product's epilogue.
    After,
}

/// The parts of an attention body.
#[derive(Clone, Debug)]
pub struct Attend {
    /// The product of queries and keys.
    pub scores: NodeIndex,
    /// The product with the values, the body's result.
    pub weighted: NodeIndex,
    /// The sum of the exponentials of each row.
    pub sum: NodeIndex,
    /// Both products and all between them.
    pub core: BTreeSet<NodeIndex>,
    /// Where the sum divides.
    pub quotient: Quotient,
    /// Axes of the pairs: what `Index(k)` is in the expressions.
    pub axes: Vec<Axis>,
    /// Which of them walks over queries; those that are neither are loops.
    pub queries: usize,
    /// Which of them walks over keys.
    pub keys: usize,
    /// Which of them is each axis of the scores of more than one point.
    pub score_axes: Vec<Option<usize>>,
    /// Which of them is each axis of the sums; none for axes of one point.
    pub row_axes: Vec<Option<usize>>,
    /// Which of them is each axis of the result; the others are the values' or have one point.
    pub result_axes: Vec<Option<usize>>,
    /// The operand of the scores that holds the queries: 0 or 1.
    pub query_port: usize,
    /// The operand of the weighted sum that holds the values: 0 or 1.
    pub value_port: usize,
    /// Score function and condition. The product is a read of port 0 without indices.
    pub exprs: Exprs,
    /// What the expressions read, by port; port 0 is the scores.
    pub operands: Vec<Value>,
    /// The score.
    pub score: ExprId,
    /// Which pairs take part; all of them if there is none.
    pub condition: Option<ExprId>,
    /// The score, and minus infinity for pairs that take no part.
    pub masked_score: ExprId,
    /// 1 for pairs that take part, else 0.
    pub taken: ExprId,
}

impl Attend {
    /// Whether the score reads what the body has computed for all pairs, which tiles do not avoid.
    fn reads_pairs(&self, graph: &Graph) -> bool {
        let (queries, keys) = (&self.axes[self.queries].extent, &self.axes[self.keys].extent);
        self.operands.iter().filter(|value| !self.core.contains(&value.node)).any(|value| {
            let mut others = graph.ty(*value).shape.clone();
            let first = others.iter().position(|extent| extent == queries).map(|k| others.remove(k));
            !matches!(graph.node(value.node).op, Op::Arg(_)) && first.is_some() && others.contains(keys)
        })
    }

    /// The parts of a body, if it is attention that can run by tiles.
    pub fn find(graph: &Graph) -> Option<Attend> {
        let [result] = graph.results[..] else { return None };
        let Op::MatMul(weighted) = &graph.node(result.node).op else { return None };
        let operands = graph.operands(result.node);
        (0..2).find_map(|port| {
            let softmax = Softmax::find(graph, operands[port].node)?;
            softmax.attend(result.node, weighted, 1 - port)
        })
    }
}

/// The expressions of several nodes over common indices.
struct Gather<'g> {
    graph: &'g Graph,
    exprs: Exprs,
    operands: Vec<Value>,
    /// What is not substituted: the exponentials and the maximum.
    opaque: Vec<NodeIndex>,
    /// The product, once found.
    scores: Option<NodeIndex>,
    /// What has been substituted.
    inlined: BTreeSet<NodeIndex>,
    /// The indices at which the product is read.
    scored_at: Option<Vec<Option<usize>>>,
}

impl<'g> Gather<'g> {
    fn port(&mut self, value: Value) -> u32 {
        // Port 0 is the accumulator.
        let known = self.operands.iter().position(|v| *v == value);
        let at = known.unwrap_or_else(|| {
            self.operands.push(value);
            self.operands.len() - 1
        });
        at as u32 + 1
    }

    /// Brings an expression of a node here: its indices are `at`, and what depends on scores is
    /// substituted.
    fn import(
        &mut self,
        node: NodeIndex,
        source: &Exprs,
        root: ExprId,
        at: &[ExprId],
        of_product: bool,
    ) -> Option<ExprId> {
        let operands = self.graph.operands(node);
        let mut out = std::mem::take(&mut self.exprs);
        let mut whole = true;
        let moved = out.map(source, &[root], &mut |out, expr, dtype| match expr {
            Expr::Index(k) => at[k as usize],
            Expr::Read(read) if of_product && read.port == 0 && read.index.is_empty() => {
                out.add(Expr::Read(read), dtype)
            }
            Expr::Read(read) => {
                std::mem::swap(&mut self.exprs, out);
                let found = self.read(operands[read.port as usize], &read, dtype);
                std::mem::swap(&mut self.exprs, out);
                whole &= found.is_some();
                found.unwrap_or_else(|| out.add(Expr::Read(read), dtype))
            }
            other => out.add(other, dtype),
        });
        self.exprs = out;
        whole.then_some(moved[0])
    }

    /// A read of a value, whose indices are here already.
    fn read(&mut self, value: Value, read: &Read, dtype: DType) -> Option<ExprId> {
        let node = value.node;
        if self.opaque.contains(&node) || !self.has_scores(node) {
            let port = self.port(value);
            return Some(self.exprs.add(Expr::Read(Read { port, ..read.clone() }), dtype));
        }
        let at = self.axes_of(value, read)?;
        match &self.graph.node(node).op {
            Op::MatMul(product) => {
                if !is_plain(self.graph, value, &product.iterate)
                    || self.scores.replace(node).is_some_and(|known| known != node)
                    || self.scored_at.replace(at.clone()).is_some_and(|known| known != at)
                {
                    return None;
                }
                match &product.epilogue {
                    Some(epilogue) => self.import(node, &epilogue.exprs, epilogue.body, &read.index, true),
                    None => {
                        let plain = Read { port: 0, index: Vec::new(), otherwise: None, span: read.span };
                        Some(self.exprs.add(Expr::Read(plain), DType::F32))
                    }
                }
            }
            Op::Index(index) if index.reduce.is_none() && is_plain(self.graph, value, &index.iterate) => {
                self.inlined.insert(node);
                let body = self.import(node, &index.exprs, index.body, &read.index, false)?;
                let Some(guard) = index.guard else { return Some(body) };
                let guard = self.import(node, &index.exprs, guard, &read.index, false)?;
                let nothing = self.exprs.real(0.0, DType::F32);
                (dtype == DType::F32).then(|| self.exprs.select(guard, body, nothing))
            }
            _ => None,
        }
    }

    /// Whether a value is the product, or computed from it point by point.
    fn has_scores(&self, node: NodeIndex) -> bool {
        match &self.graph.node(node).op {
            // Only what has a row per query and a column per key can be the scores.
            Op::MatMul(_) => self.scores.is_none_or(|known| known == node) && self.is_score_like(node),
            Op::Index(index) if index.reduce.is_none() => {
                self.graph.operands(node).iter().any(|v| v.node != node && self.has_scores(v.node))
            }
            _ => false,
        }
    }

    /// Whether a product has the axes of the exponentials.
    fn is_score_like(&self, node: NodeIndex) -> bool {
        let shape = |id: NodeIndex| -> Vec<&Dim> {
            let shape = &self.graph.node(id).results[0].shape;
            shape.iter().filter(|extent| !extent.is(1)).collect()
        };
        let (mut mine, mut wanted) = (shape(node), shape(self.opaque[0]));
        mine.sort();
        wanted.sort();
        mine == wanted
    }

    /// An expression where a condition holds.
    fn under(&mut self, root: ExprId, condition: Option<ExprId>) -> ExprId {
        let Some(condition) = condition else { return root };
        let source = self.exprs.clone();
        let negated = match source.get(condition) {
            Expr::Unary(UnaryOp::Not, inner) => Some(*inner),
            _ => None,
        };
        self.exprs.map(&source, &[root], &mut |out, expr, dtype| match expr {
            Expr::Select(c, a, _) if c == condition => a,
            Expr::Select(c, _, b) if Some(c) == negated => b,
            other => out.add(other, dtype),
        })[0]
    }

    /// A value that is zero wherever a condition does not hold: the condition and the value.
    fn split(&mut self, root: ExprId) -> (Option<ExprId>, ExprId) {
        match *self.exprs.get(root) {
            Expr::Select(c, a, b) if is_zero(&self.exprs, b) => (Some(c), a),
            Expr::Select(c, a, b) if is_zero(&self.exprs, a) => (Some(self.exprs.unary(UnaryOp::Not, c)), b),
            _ => (None, root),
        }
    }

    /// The value of a pointwise node over the given indices: its condition, and what it is there.
    fn pointwise(
        &mut self,
        node: NodeIndex,
        index: &Index,
        at: &[ExprId],
    ) -> Option<(Option<ExprId>, ExprId)> {
        let body = self.import(node, &index.exprs, index.body, at, false)?;
        match index.guard {
            Some(guard) => {
                let guard = self.import(node, &index.exprs, guard, at, false)?;
                let body = self.under(body, Some(guard));
                Some((Some(guard), body))
            }
            None => {
                let (condition, value) = self.split(body);
                let value = self.under(value, condition);
                Some((condition, value))
            }
        }
    }
}

/// The softmax between the products.
struct Softmax<'g> {
    gather: Gather<'g>,
    axes: Vec<Axis>,
    rows: Vec<Option<usize>>,
    keys: usize,
    exponentials: NodeIndex,
    maximum: NodeIndex,
    sum: NodeIndex,
    /// What the second product reads.
    probabilities: NodeIndex,
    quotient: Quotient,
    condition: Option<ExprId>,
    score: ExprId,
}

impl<'g> Softmax<'g> {
    /// The softmax that a node is the last of.
    fn find(graph: &'g Graph, probabilities: NodeIndex) -> Option<Softmax<'g>> {
        let (exponentials, quotient) = match divided(graph, probabilities) {
            Some(exponentials) => (exponentials, true),
            None => (probabilities, false),
        };
        let index = pointwise_of(graph, exponentials)?;
        let mut gather = Gather {
            graph,
            exprs: Exprs::new(),
            operands: Vec::new(),
            opaque: vec![exponentials],
            scores: None,
            inlined: BTreeSet::new(),
            scored_at: None,
        };
        let axes = index.iterate.clone();
        let mut place =
            |k: usize| if axes[k].extent.is(1) { gather.exprs.int(0) } else { gather.exprs.index(k) };
        let at: Vec<ExprId> = (0..axes.len()).map(&mut place).collect();
        let maximum = maximum_of(graph, exponentials)?;
        gather.opaque.push(maximum);
        let (condition, value) = gather.pointwise(exponentials, index, &at)?;
        let Expr::Unary(UnaryOp::Exp, difference) = *gather.exprs.get(value) else { return None };
        let Expr::Binary(BinaryOp::Sub, score, most) = *gather.exprs.get(difference) else { return None };
        let rows = gather.rows_of(most, maximum)?;
        let keys = key_axis(&axes, &rows)?;
        let row_at = gather.row_places(&rows, &at);
        if !gather.reduces(maximum, Reducer::Max, &row_at, at[keys], condition, score)? {
            return None;
        }
        let sum = gather.sum_of(exponentials, &row_at, at[keys], &at, condition)?;
        let quotient = match quotient {
            false => Quotient::After,
            true => gather.quotient(probabilities, (exponentials, sum), (&at, &row_at), condition)?,
        };
        Some(Softmax {
            gather,
            axes,
            rows,
            keys,
            exponentials,
            maximum,
            sum,
            probabilities,
            quotient,
            condition,
            score,
        })
    }

    /// Everything, if the products fit and nobody else reads what is between them.
    fn attend(self, node: NodeIndex, weighted: &MatMul, value_port: usize) -> Option<Attend> {
        let Softmax { mut gather, axes, rows, keys, condition, .. } = self;
        let graph = gather.graph;
        let scores = gather.scores?;
        let Op::MatMul(product) = &graph.node(scores).op else { return None };
        let score_axes = gather.scored_at.take()?;
        let mut core = gather.inlined.clone();
        core.extend([scores, self.maximum, self.exponentials, self.sum, self.probabilities, node]);
        let read: BTreeSet<NodeIndex> = {
            let needed =
                gather.exprs.reachable(&[self.score].into_iter().chain(condition).collect::<Vec<_>>());
            let ports = gather.exprs.iter().filter(|(id, _, _)| needed[id.0 as usize]);
            let reads = ports.filter_map(|(_, expr, _)| match expr {
                Expr::Read(read) if read.port > 0 => Some(gather.operands[read.port as usize - 1].node),
                _ => None,
            });
            reads.collect()
        };
        let outside = |id: &NodeIndex| {
            *id != node
                && (graph.users(*id).iter().any(|user| !core.contains(user))
                    || graph.results.iter().any(|r| r.node == *id))
        };
        if core.iter().any(outside) || read.iter().any(|id| core.contains(id)) {
            return None;
        }
        let after: Vec<NodeIndex> = graph.operands(node)[2..].iter().map(|v| v.node).collect();
        let allowed =
            |id: &NodeIndex| !core.contains(id) || (self.quotient == Quotient::After && *id == self.sum);
        if !after.iter().all(allowed) || (self.quotient == Quotient::After && !after.contains(&self.sum)) {
            return None;
        }
        let key_role = product.roles[score_axes.iter().position(|k| *k == Some(keys))?];
        let fits = sides_fit(product, &score_axes, keys, key_role)?;
        let result_axes = result_axes(graph, weighted, (self.probabilities, value_port), &axes, keys)?;
        let real = |k: &usize| *k != keys && !axes[*k].extent.is(1);
        let queries = (0..axes.len()).rev().find(real)?;
        let mut exprs = gather.exprs;
        let low = exprs.real(f64::NEG_INFINITY, DType::F32);
        let (one, zero) = (exprs.real(1.0, DType::F32), exprs.real(0.0, DType::F32));
        let condition = condition.map(|condition| spread_magnitudes(&mut exprs, condition));
        let (masked_score, taken) = match condition {
            Some(c) => (exprs.select(c, self.score, low), exprs.select(c, one, zero)),
            None => (self.score, one),
        };
        let score_value = Value { node: scores, result: 0 };
        Some(Attend {
            scores,
            weighted: node,
            sum: self.sum,
            core,
            quotient: self.quotient,
            queries,
            keys,
            axes,
            score_axes,
            row_axes: rows,
            result_axes,
            query_port: fits,
            value_port,
            exprs,
            operands: std::iter::once(score_value).chain(gather.operands).collect(),
            score: self.score,
            condition,
            masked_score,
            taken,
        })
    }
}

impl Gather<'_> {
    /// The axes at which an expression reads a node, if it is such a read.
    fn rows_of(&self, id: ExprId, node: NodeIndex) -> Option<Vec<Option<usize>>> {
        let Expr::Read(read) = self.exprs.get(id) else { return None };
        let value = *self.operands.get((read.port as usize).checked_sub(1)?)?;
        if value.node == node { self.axes_of(value, read) } else { None }
    }

    /// The axis at which each axis of a value is read: each once, and none for axes of one point.
    fn axes_of(&self, value: Value, read: &Read) -> Option<Vec<Option<usize>>> {
        let mut found = Vec::with_capacity(read.index.len());
        for (id, extent) in read.index.iter().zip(&self.graph.ty(value).shape) {
            match self.exprs.get(*id) {
                _ if extent.is(1) => found.push(None),
                Expr::Index(k) if !found.contains(&Some(*k as usize)) => found.push(Some(*k as usize)),
                _ => return None,
            }
        }
        read.otherwise.is_none().then_some(found)
    }

    /// Whether a node reduces a value over the keys of each row where a condition holds.
    fn reduces(
        &mut self,
        node: NodeIndex,
        reducer: Reducer,
        rows: &[ExprId],
        key: ExprId,
        condition: Option<ExprId>,
        value: ExprId,
    ) -> Option<bool> {
        let graph = self.graph;
        let Op::Index(index) = &graph.node(node).op else { return None };
        let reduce = index.reduce.as_ref()?;
        let plain = reduce.reducer == reducer
            && reduce.axes.len() == 1
            && reduce.otherwise.is_none()
            && index.guard.is_none()
            && is_plain(graph, Value { node, result: 0 }, &index.iterate)
            && index.iterate.len() == rows.len();
        if !plain {
            return None;
        }
        let at: Vec<ExprId> = rows.iter().copied().chain([key]).collect();
        let body = self.import(node, &index.exprs, index.body, &at, false)?;
        let filter = match reduce.filter {
            Some(filter) => Some(self.import(node, &index.exprs, filter, &at, false)?),
            None => None,
        };
        // A sum of exponentials, which are zero elsewhere, needs no filter.
        let filtered = filter == condition || (reducer == Reducer::Sum && filter.is_none());
        let body = self.under(body, condition);
        Some(filtered && body == value)
    }

    /// The only sum over the keys of the exponentials.
    fn sum_of(
        &mut self,
        exponentials: NodeIndex,
        rows: &[ExprId],
        key: ExprId,
        at: &[ExprId],
        condition: Option<ExprId>,
    ) -> Option<NodeIndex> {
        let whole = self.whole(exponentials, at);
        let sums = self.graph.users(exponentials);
        sums.into_iter().find(|id| self.reduces(*id, Reducer::Sum, rows, key, condition, whole) == Some(true))
    }

    /// The indices at which rows are read.
    fn row_places(&mut self, rows: &[Option<usize>], at: &[ExprId]) -> Vec<ExprId> {
        let origin = self.exprs.int(0);
        rows.iter().map(|k| k.map_or(origin, |k| at[k])).collect()
    }

    /// A read of a node at all its indices.
    fn whole(&mut self, node: NodeIndex, at: &[ExprId]) -> ExprId {
        let port = self.port(Value { node, result: 0 });
        let read = Read { port, index: at.to_vec(), otherwise: None, span: self.graph.node(node).span };
        self.exprs.add(Expr::Read(read), DType::F32)
    }

    /// Whether a node is the exponentials by their sums, and where.
    fn quotient(
        &mut self,
        node: NodeIndex,
        (exponentials, sum): (NodeIndex, NodeIndex),
        (at, rows): (&[ExprId], &[ExprId]),
        condition: Option<ExprId>,
    ) -> Option<Quotient> {
        let graph = self.graph;
        let index = pointwise_of(graph, node)?;
        self.opaque.push(sum);
        let (masked, value) = self.pointwise(node, index, at)?;
        let whole = self.whole(exponentials, at);
        let Expr::Binary(BinaryOp::Div, above, below) = *self.exprs.get(value) else { return None };
        let summed = self.rows_of(below, sum)?;
        let by_row: Vec<ExprId> = self.row_places(&summed, at);
        if by_row != rows {
            return None;
        }
        let fits = above == whole && index.iterate.len() == at.len();
        match masked {
            _ if !fits => None,
            None => Some(Quotient::Plain),
            Some(_) if masked == condition => Some(Quotient::Masked),
            Some(_) => None,
        }
    }
}

/// The only axis of more than one point that is no row.
fn key_axis(axes: &[Axis], rows: &[Option<usize>]) -> Option<usize> {
    let other = |k: &usize| !axes[*k].extent.is(1) && !rows.contains(&Some(*k));
    let others: Vec<usize> = (0..axes.len()).filter(other).collect();
    match others[..] {
        [keys] => Some(keys),
        _ => None,
    }
}

fn pointwise_of(graph: &Graph, node: NodeIndex) -> Option<&Index> {
    match &graph.node(node).op {
        Op::Index(index)
            if index.reduce.is_none() && is_plain(graph, Value { node, result: 0 }, &index.iterate) =>
        {
            Some(index)
        }
        _ => None,
    }
}

/// Whether a value's axes are its node's.
fn is_plain(graph: &Graph, value: Value, iterate: &[Axis]) -> bool {
    let ty = graph.ty(value);
    ty.dtype == DType::F32
        && ty.shape.len() == iterate.len()
        && ty.shape.iter().zip(iterate).all(|(extent, axis)| *extent == axis.extent)
}

/// The exponentials that a node divides: its operand that has exponentials itself.
fn divided(graph: &Graph, node: NodeIndex) -> Option<NodeIndex> {
    let index = pointwise_of(graph, node)?;
    let divides = index.exprs.iter().any(|(_, e, _)| matches!(e, Expr::Binary(BinaryOp::Div, ..)));
    let exponential = |id: &NodeIndex| {
        pointwise_of(graph, *id)
            .is_some_and(|i| i.exprs.iter().any(|(_, e, _)| matches!(e, Expr::Unary(UnaryOp::Exp, _))))
    };
    let own = index.exprs.iter().any(|(_, e, _)| matches!(e, Expr::Unary(UnaryOp::Exp, _)));
    if own || !divides {
        return None;
    }
    graph.operands(node).iter().map(|v| v.node).find(exponential)
}

/// The maximum that a node reads.
fn maximum_of(graph: &Graph, node: NodeIndex) -> Option<NodeIndex> {
    let is_maximum = |id: &NodeIndex| match &graph.node(*id).op {
        Op::Index(index) => index.reduce.as_ref().is_some_and(|r| r.reducer == Reducer::Max),
        _ => false,
    };
    graph.operands(node).iter().map(|v| v.node).find(is_maximum)
}

fn is_zero(exprs: &Exprs, id: ExprId) -> bool {
    matches!(exprs.get(id), Expr::Const(Literal::Real(bits)) if *bits == 0f64.to_bits())
}

/// The operand of the scores that holds the queries, if keys and rows are apart and one axis is
/// contracted.
fn sides_fit(product: &MatMul, axes: &[Option<usize>], keys: usize, key_role: Role) -> Option<usize> {
    let row_role = match key_role {
        Role::M => Role::N,
        Role::N => Role::M,
        Role::Batch => return None,
    };
    let apart = axes
        .iter()
        .zip(&product.roles)
        .all(|(axis, role)| axis.is_none_or(|axis| axis == keys) || *role == row_role);
    let contracted = product.contract.iter().filter(|axis| !axis.extent.is(1)).count();
    (apart && contracted <= 1).then_some(usize::from(row_role == Role::N))
}

/// Which axis of the pairs each axis of the weighted sum is, if it reads the probabilities whole,
/// contracts the keys and has one axis of values.
fn result_axes(
    graph: &Graph,
    weighted: &MatMul,
    (probabilities, value_port): (NodeIndex, usize),
    axes: &[Axis],
    keys: usize,
) -> Option<Vec<Option<usize>>> {
    let (pairs, values): (&View, &View) = match value_port {
        1 => (&weighted.lhs, &weighted.rhs),
        _ => (&weighted.rhs, &weighted.lhs),
    };
    let iterate = &pointwise_of(graph, probabilities)?.iterate;
    let stride = |k: usize| Dim::product(iterate[k + 1..].iter().map(|axis| &axis.extent)).ok();
    let key = weighted.contract.iter().position(|axis| !axis.extent.is(1)).unwrap_or(0);
    let alone = weighted.contract.iter().enumerate().all(|(k, axis)| k == key || axis.extent.is(1));
    if !pairs.offset.is(0)
        || !pairs.vars.is_empty()
        || !alone
        || weighted.contract.get(key)?.extent != axes[keys].extent
        || pairs.contract[key] != stride(keys)?
    {
        return None;
    }
    let mut found = vec![None; weighted.iterate.len()];
    let mut rows = BTreeSet::new();
    let mut of_values = 0;
    for (k, axis) in weighted.iterate.iter().enumerate() {
        if axis.extent.is(1) {
            continue;
        }
        if pairs.iterate[k].is(0) {
            of_values += 1;
            continue;
        }
        let row = (0..axes.len()).find(|row| {
            *row != keys
                && axes[*row].extent == axis.extent
                && stride(*row).as_ref() == Some(&pairs.iterate[k])
        })?;
        if !values.iterate[k].is(0) || !rows.insert(row) {
            return None;
        }
        found[k] = Some(row);
    }
    let all = (0..axes.len()).all(|k| k == keys || axes[k].extent.is(1) || rows.contains(&k));
    (all && of_values <= 1).then_some(found)
}

/// `|x| <= w` as two comparisons without a magnitude, which kernels compute in lanes.
fn spread_magnitudes(exprs: &mut Exprs, condition: ExprId) -> ExprId {
    let source = exprs.clone();
    exprs.map(&source, &[condition], &mut |out, expr, dtype| {
        let magnitude = |out: &Exprs, id: ExprId| match out.get(id) {
            Expr::Unary(UnaryOp::Abs, x) if out.dtype(*x) == DType::I64 => Some(*x),
            _ => None,
        };
        match expr {
            Expr::Binary(op @ (BinaryOp::Le | BinaryOp::Lt), a, w) => match magnitude(out, a) {
                Some(x) => {
                    let minus = out.unary(UnaryOp::Neg, x);
                    let (below, above) = (out.binary(op, x, w), out.binary(op, minus, w));
                    out.binary(BinaryOp::And, below, above)
                }
                None => out.add(expr, dtype),
            },
            other => out.add(other, dtype),
        }
    })[0]
}
