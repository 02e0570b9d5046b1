//! Recognition of products whose right operand is picked when the program runs.
//!
//! Matches `sum[k..] x[..] * w[.., e, ..]` where `e` is read from an i64 value, or computed from such
//! values, at each result row: the layers of a mixture of experts. What else is asked of both reads is
//! what [`matmul`](super::matmul) asks. The rows may then be taken in any order, so those that pick the
//! same matrix make one product, and matrices that nobody picks are not read. What picks without having
//! columns of its own (a row of a table) is no product of matrices and stays a loop nest.

use super::Changed;
use super::epilogue::is_eager;
use super::matmul::{inner_factors, is_plain_sum, scale_epilogue, view};
use super::walk::{Vars, for_each_graph};
use crate::dim::Dim;
use crate::dtype::DType;
use crate::graph::affine::{Ranges, affine};
use crate::graph::expr::{Expr, ExprId, Exprs, Read};
use crate::graph::ir::{Axis, Graph, Index, MatMul, Op, Pick, PickedRead, Program, Role, Value, View};
use petgraph::stable_graph::NodeIndex;

/// Smaller matrices are not worth sorting rows for.
///
/// # Units
/// Elements.
const MIN_MATRIX_ELEMS: i64 = 64;

/// Turns sums of products with a picked factor into [`Op::MatMul`], in every graph.
pub fn recognise_routes(program: &mut Program) -> Changed {
    let mut changed = false;
    for_each_graph(program, &mut |graph, vars| {
        for id in graph.topological() {
            if let Some(route) = recognise(graph, id, vars) {
                apply(graph, id, route);
                changed = true;
            }
        }
    });
    Changed::from(changed)
}

/// The axes of a sum that are columns of the matrices that its rows pick, if it is such a sum.
pub(super) fn columns(graph: &Graph, id: NodeIndex) -> Option<Vec<usize>> {
    let roles = recognise(graph, id, &Vars::new())?.product.roles;
    Some((0..roles.len()).filter(|k| roles[*k] == Role::N).collect())
}

/// A recognised product. Its operands are the two inner_factors, the picks, and what the epilogue reads.
struct Route {
    product: MatMul,
    operands: Vec<Value>,
    picks: Picks,
}

/// Where the numbers that rows pick are.
enum Picks {
    /// In a value of the graph, operand 2.
    Given,
    /// In one that this op will compute from the operands of the sum.
    Computed { index: Index, shape: Vec<Dim> },
}

fn apply(graph: &mut Graph, id: NodeIndex, route: Route) {
    let Route { product, mut operands, picks } = route;
    if let Picks::Computed { index, shape } = picks {
        let of_sum = graph.operands(id);
        operands[2] = graph.add_index(index, shape, &of_sum, graph.node(id).span, Some("pick".into()));
    }
    graph.dag[id].op = Op::MatMul(Box::new(product));
    graph.set_operands(id, &operands);
}

fn recognise(graph: &Graph, id: NodeIndex, vars: &Vars) -> Option<Route> {
    let Op::Index(index) = &graph.node(id).op else { return None };
    let reduce = index.reduce.as_ref().filter(|_| is_plain_sum(index))?;
    let operands = graph.operands(id);
    let ranges = Ranges { indices: index.extents(), vars: vars.clone() };
    let (reads, scales) = inner_factors(index)?;
    let picking = |read: &Read| picked_axis(index, read);
    let (left, right, (axis, picked)) = match (picking(&reads[0]), picking(&reads[1])) {
        (None, Some(found)) => (&reads[0], &reads[1], found),
        (Some(found), None) => (&reads[1], &reads[0], found),
        _ => return None,
    };
    let of = |read: &Read| operands[read.port as usize];
    let (lhs, _) = view(graph, index, left, of(left), (DType::F32, None), &ranges)?;
    let (rhs, stride) = view(graph, index, right, of(right), (DType::F32, Some(axis)), &ranges)?;
    let (at, picks) = picks(graph, index, &operands, &ranges, picked)?;
    let roles = roles(index, &lhs, &rhs, &at)?;
    if !is_worthwhile(index, &roles) {
        return None;
    }
    let given = match &picks {
        Picks::Given => of(read_of(index, picked)?),
        // Takes its place once it is there.
        Picks::Computed { .. } => of(right),
    };
    let mut all = vec![of(left), of(right), given];
    let epilogue = scale_epilogue(index, &scales, &operands, &mut all);
    let node = graph.node(of(right).node);
    let extent = graph.ty(of(right)).shape[axis].clone();
    let source = PickedRead { name: node.name.clone(), axis, span: right.span };
    let product = MatMul {
        iterate: index.iterate.clone(),
        roles,
        contract: reduce.axes.clone(),
        lhs,
        rhs,
        pick: Some(Pick { at, extent, stride, source }),
        epilogue,
    };
    Some(Route { product, operands: all, picks })
}

/// The one axis of a read whose index is computed from values, and that index.
fn picked_axis(index: &Index, read: &Read) -> Option<(usize, ExprId)> {
    let mut found = None;
    for (axis, id) in read.index.iter().enumerate() {
        let form = affine(&index.exprs, *id)?;
        if form.is_transparent() {
            continue;
        }
        let reads = index.exprs.contain(&[*id], |expr| matches!(expr, Expr::Read(_)));
        if !reads || found.is_some() {
            return None;
        }
        found = Some((axis, *id));
    }
    found
}

fn read_of(index: &Index, id: ExprId) -> Option<&Read> {
    match index.exprs.get(id) {
        Expr::Read(read) => Some(read),
        _ => None,
    }
}

/// How the picks are read at each result point: where they lie, or as a value to be computed.
fn picks(
    graph: &Graph,
    index: &Index,
    operands: &[Value],
    ranges: &Ranges,
    picked: ExprId,
) -> Option<(View, Picks)> {
    let used = indices_of(&index.exprs, picked);
    let outer = index.iterate.len();
    if used.iter().any(|k| *k >= outer) {
        return None;
    }
    if let Some(read) = read_of(index, picked).filter(|read| read.otherwise.is_none())
        && let Some((mut at, _)) =
            view(graph, index, read, operands[read.port as usize], (DType::I64, None), ranges)
    {
        at.contract.clear();
        return Some((at, Picks::Given));
    }
    let mut exprs = Exprs::new();
    let body = exprs.import(&index.exprs, &[picked], &mut |out, leaf, _| match leaf {
        Expr::Index(k) => used.iter().position(|mine| *mine == *k as usize).map(|k| out.index(k)),
        _ => None,
    })[0];
    let iterate: Vec<Axis> = used.iter().map(|k| index.iterate[*k].clone()).collect();
    let shape: Vec<Dim> = iterate.iter().map(|axis| axis.extent.clone()).collect();
    let computed = Index { iterate, guard: None, reduce: None, exprs, body };
    let inner = Ranges { indices: computed.extents(), vars: ranges.vars.clone() };
    let open = computed.exprs.iter().any(|(_, expr, _)| matches!(expr, Expr::Var(_)));
    // Computed for itself it is computed even where no product asks for it.
    if open || !is_eager(graph, &computed, operands, &inner) {
        return None;
    }
    let mut iterate = vec![Dim::ZERO; outer];
    let mut stride = Dim::ONE;
    for k in used.iter().rev() {
        iterate[*k] = stride.clone();
        stride = stride.mul(&index.iterate[*k].extent).ok()?;
    }
    let at = View { offset: Dim::ZERO, vars: Vec::new(), iterate, contract: Vec::new() };
    Some((at, Picks::Computed { index: computed, shape }))
}

/// The indices that an expression uses, in order.
fn indices_of(exprs: &Exprs, id: ExprId) -> Vec<usize> {
    let needed = exprs.reachable(&[id]);
    let mut used: Vec<usize> = exprs
        .iter()
        .filter(|(id, ..)| needed[id.0 as usize])
        .filter_map(|(_, expr, _)| match expr {
            Expr::Index(k) => Some(*k as usize),
            _ => None,
        })
        .collect();
    used.sort_unstable();
    used.dedup();
    used
}

/// Rows are what picks or stands on the left alone, columns what stands on the right alone.
fn roles(index: &Index, lhs: &View, rhs: &View, picks: &View) -> Option<Vec<Role>> {
    let reduce = index.reduce.as_ref()?;
    let contracted = |k: usize| !lhs.contract[k].is(0) && !rhs.contract[k].is(0);
    if !(0..reduce.axes.len()).all(|k| contracted(k) || reduce.axes[k].extent.is(1)) {
        return None;
    }
    let mut roles = Vec::with_capacity(index.iterate.len());
    for (k, axis) in index.iterate.iter().enumerate() {
        let (left, right) = (!lhs.iterate[k].is(0), !rhs.iterate[k].is(0));
        roles.push(match (left, right, !picks.iterate[k].is(0)) {
            (_, false, true) | (true, false, false) => Role::M,
            (true, true, false) => Role::Batch,
            (false, true, false) => Role::N,
            (false, false, false) if axis.extent.is(1) => Role::Batch,
            _ => return None,
        });
    }
    Some(roles)
}

/// Whether there are matrices of some size, and none of their sides may be empty: then every row picks,
/// and fails where what it picks is not there.
fn is_worthwhile(index: &Index, roles: &[Role]) -> bool {
    let reduced = index.reduce.iter().flat_map(|reduce| &reduce.axes);
    let sides = index.iterate.iter().zip(roles).filter(|(_, role)| **role != Role::M).map(|(axis, _)| axis);
    let present = |axis: &Axis| axis.extent.range().0.is_some_and(|low| low > 0);
    let columns = index.iterate.iter().zip(roles).filter(|(_, role)| **role == Role::N);
    let real = |axis: &Axis| !axis.extent.is(1);
    let elems = Dim::product(columns.clone().map(|(axis, _)| axis).chain(reduced.clone()).map(|a| &a.extent));
    sides.chain(reduced.clone()).all(present)
        && columns.into_iter().any(|(axis, _)| real(axis))
        && reduced.into_iter().any(real)
        && elems.is_ok_and(|elems| elems.range().0.is_some_and(|low| low >= MIN_MATRIX_ELEMS))
}
