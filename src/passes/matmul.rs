//! Recognition of matrix products.
//!
//! Matches `sum[k..] a[..] * b[..]` where both reads are affine and inside, every contracted axis
//! occurs in both and every result axis in one (M, N) or both (batch). Axes may come in any order
//! and in groups: what matters is the stride of each axis in each operand. Factors that do not
//! depend on a contracted axis move across the sum into the epilogue. A sum with a `where`, a
//! third factor, or a read with `else` is not a product and stays a loop nest. A factor that is computed,
//! as `(q[i, d] + u[d]) * k[j, d]`, becomes a definition first, which is computed once for each of its own
//! points and not for each of the product's.

use super::Changed;
use super::fuse::compact_ports;
use super::segment::cannot_fail;
use super::walk::{Vars, for_each_graph};
use crate::dim::Dim;
use crate::dtype::DType;
use crate::graph::affine::{Leaf, Ranges, affine};
use crate::graph::expr::{Expr, ExprId, Exprs, Read};
use crate::graph::ir::{Axis, Epilogue, Graph, Index, MatMul, Op, Program, Role, TensorType, Value, View};
use crate::ops::reduce::Reducer;
use crate::ops::scalar::BinaryOp;
use petgraph::stable_graph::NodeIndex;
use std::collections::BTreeSet;

/// Turns sums of products into [`Op::MatMul`], in every graph.
pub fn recognise_products(program: &mut Program) -> Changed {
    let mut changed = false;
    for_each_graph(program, &mut |graph, vars| {
        for id in graph.topological() {
            changed |= define_factors(graph, id, vars);
            if let Some((product, operands)) = recognise(graph, id, vars) {
                graph.dag[id].op = Op::MatMul(Box::new(product));
                graph.set_operands(id, &operands);
                changed = true;
            }
        }
    });
    Changed::from(changed)
}

fn recognise(graph: &Graph, id: NodeIndex, vars: &Vars) -> Option<(MatMul, Vec<Value>)> {
    let Op::Index(index) = &graph.node(id).op else { return None };
    let reduce = index.reduce.as_ref().filter(|_| is_plain_sum(index))?;
    let operands = graph.operands(id);
    let ranges = Ranges { indices: index.extents(), vars: vars.clone() };
    let (reads, scales) = inner_factors(index)?;
    let view = |read: &Read| {
        let operand = operands[read.port as usize];
        view(graph, index, read, operand, (DType::F32, None), &ranges).map(|(view, _)| view)
    };
    let (mut left, mut right) = (&reads[0], &reads[1]);
    let (mut left_view, mut right_view) = (view(left)?, view(right)?);
    if belongs_on_the_right(index, &left_view, &right_view) {
        std::mem::swap(&mut left, &mut right);
        std::mem::swap(&mut left_view, &mut right_view);
    }
    let roles = roles(index, &left_view, &right_view)?;
    let mut all = vec![operands[left.port as usize], operands[right.port as usize]];
    let epilogue = scale_epilogue(index, &scales, &operands, &mut all);
    let product = MatMul {
        iterate: index.iterate.clone(),
        roles,
        contract: reduce.axes.clone(),
        lhs: left_view,
        rhs: right_view,
        pick: None,
        epilogue,
    };
    Some((product, all))
}

/// Fewer points of the result than these are no reason to compute a factor before it.
const MIN_READERS: i64 = 4;

/// Makes definitions of the computed factors of a sum of products, where each factor has an axis of the
/// result that the other does not have.
fn define_factors(graph: &mut Graph, id: NodeIndex, vars: &Vars) -> bool {
    let Op::Index(index) = &graph.node(id).op else { return false };
    let (inner, scales) = split_factors(index);
    let ([a, b], true) = (&inner[..], is_plain_sum(index)) else { return false };
    let (mut all, index) = (graph.operands(id), index.clone());
    let axes = [indices_of(&index, *a), indices_of(&index, *b)];
    let extents = index.extents();
    let alone = |k: usize, other: &[usize]| {
        let many = extents[k].as_const().is_none_or(|known| known >= MIN_READERS);
        k < index.iterate.len() && many && !other.contains(&k)
    };
    let apart = axes[0].iter().any(|k| alone(*k, &axes[1])) && axes[1].iter().any(|k| alone(*k, &axes[0]));
    let is_read = |id: &ExprId| matches!(index.exprs.get(*id), Expr::Read(_));
    let types: Vec<&TensorType> = all.iter().map(|value| graph.ty(*value)).collect();
    let ranges = Ranges { indices: index.extents(), vars: vars.clone() };
    let fits = |id: &ExprId| is_read(id) || is_definable(&index, *id, &types, &ranges);
    if !apart || inner.iter().all(is_read) || !inner.iter().all(fits) {
        return false;
    }
    let span = graph.node(id).span;
    let mut exprs = Exprs::new();
    let mut factors = Vec::with_capacity(2 + scales.len());
    for (factor, axes) in inner.iter().zip(&axes) {
        if is_read(factor) {
            factors.extend(exprs.import(&index.exprs, &[*factor], &mut |_, _, _| None));
            continue;
        }
        let value = define(graph, id, &index, *factor, axes);
        let read = axes.iter().map(|k| exprs.index(*k)).collect();
        let port = all.len() as u32;
        all.push(value);
        let read = Expr::Read(Read { port, index: read, otherwise: None, span });
        factors.push(exprs.add(read, DType::F32));
    }
    factors.extend(exprs.import(&index.exprs, &scales, &mut |_, _, _| None));
    let body = factors.into_iter().reduce(|all, factor| exprs.binary(BinaryOp::Mul, all, factor));
    let Some(body) = body else { return false };
    let mut product = index;
    product.set_roots(exprs, &[body]);
    let all = compact_ports(&mut product, &all);
    graph.dag[id].op = Op::Index(product);
    graph.set_operands(id, &all);
    true
}

/// A factor over the axes that it uses, as an op of its own.
fn define(graph: &mut Graph, id: NodeIndex, index: &Index, factor: ExprId, axes: &[usize]) -> Value {
    let mut exprs = Exprs::new();
    let body = exprs.import(&index.exprs, &[factor], &mut |out, leaf, _| match leaf {
        Expr::Index(k) => axes.iter().position(|axis| *axis == *k as usize).map(|at| out.index(at)),
        _ => None,
    })[0];
    let whole: Vec<Axis> =
        index.iterate.iter().chain(index.reduce.iter().flat_map(|reduce| &reduce.axes)).cloned().collect();
    let iterate: Vec<Axis> = axes.iter().map(|k| whole[*k].clone()).collect();
    let shape = iterate.iter().map(|axis| axis.extent.clone()).collect();
    let mut definition = Index { iterate, guard: None, reduce: None, exprs, body };
    let operands = compact_ports(&mut definition, &graph.operands(id));
    let span = graph.node(id).span;
    graph.add_index(definition, shape, &operands, span, None)
}

/// The indices that an expression uses, in order.
fn indices_of(index: &Index, id: ExprId) -> Vec<usize> {
    let needed = index.exprs.reachable(&[id]);
    let used: BTreeSet<usize> = index
        .exprs
        .iter()
        .filter(|(id, ..)| needed[id.0 as usize])
        .filter_map(|(_, expr, _)| match expr {
            Expr::Index(k) => Some(*k as usize),
            _ => None,
        })
        .collect();
    used.into_iter().collect()
}

/// Whether a factor may become an op of its own: it cannot fail, and reads no element for several of
/// its points, as overlapping windows would.
fn is_definable(index: &Index, factor: ExprId, types: &[&TensorType], ranges: &Ranges) -> bool {
    let needed = index.exprs.reachable(&[factor]);
    let lone = |at: &ExprId| {
        affine(&index.exprs, *at).is_some_and(|form| {
            let indices = form.terms.keys().filter(|leaf| matches!(leaf, Leaf::Index(_))).count();
            form.is_transparent() && indices <= 1
        })
    };
    let plain = index.exprs.iter().filter(|(id, ..)| needed[id.0 as usize]).all(|(_, expr, _)| match expr {
        Expr::Read(read) => read.index.iter().all(lone),
        _ => true,
    });
    plain && index.exprs.dtype(factor) == DType::F32 && cannot_fail(index, factor, types, ranges)
}

/// Whether an op is a sum of f32 without conditions.
pub(super) fn is_plain_sum(index: &Index) -> bool {
    let Some(reduce) = &index.reduce else { return false };
    let plain = index.guard.is_none() && reduce.filter.is_none() && reduce.otherwise.is_none();
    plain && reduce.reducer == Reducer::Sum && index.result_dtype() == DType::F32
}

/// The two reads under the sum, and the factors that do not depend on a contracted axis.
pub(super) fn factors(index: &Index) -> Option<([Read; 2], Vec<ExprId>)> {
    let (inner, scales) = split_factors(index);
    let reads = inner.into_iter().map(|id| match index.exprs.get(id) {
        Expr::Read(read) => Some(read.clone()),
        _ => None,
    });
    let reads: [Read; 2] = reads.collect::<Option<Vec<Read>>>()?.try_into().ok()?;
    Some((reads, scales))
}

/// The factors under a sum that depend on a contracted axis, and those that do not.
fn split_factors(index: &Index) -> (Vec<ExprId>, Vec<ExprId>) {
    let mut pending = vec![index.body];
    let (mut inner, mut scales) = (Vec::new(), Vec::new());
    while let Some(id) = pending.pop() {
        match index.exprs.get(id) {
            Expr::Binary(BinaryOp::Mul, a, b) => pending.extend([*b, *a]),
            _ if !depends_on_reduction(index, id) => scales.push(id),
            _ => inner.push(id),
        }
    }
    (inner, scales)
}

/// The factors of a product that reads its operands inside only.
pub(super) fn inner_factors(index: &Index) -> Option<([Read; 2], Vec<ExprId>)> {
    factors(index).filter(|(reads, _)| reads.iter().all(|read| read.otherwise.is_none()))
}

fn depends_on_reduction(index: &Index, id: ExprId) -> bool {
    let first = index.iterate.len() as u32;
    index.exprs.contain(&[id], |expr| matches!(expr, Expr::Index(k) if *k >= first))
}

/// The read of an operand of a type as strides over the operand's elements, if it is affine and inside
/// along all axes but `beside`; and the stride of that one.
pub(super) fn view(
    graph: &Graph,
    index: &Index,
    read: &Read,
    operand: Value,
    (dtype, beside): (DType, Option<usize>),
    ranges: &Ranges,
) -> Option<(View, Dim)> {
    let ty = graph.ty(operand);
    if ty.dtype != dtype {
        return None;
    }
    let mut stride_beside = Dim::ZERO;
    let all = index.extents();
    let mut strides = vec![Dim::ZERO; all.len()];
    let (mut offset, mut vars) = (Dim::ZERO, Vec::new());
    let mut stride = Dim::ONE;
    for (axis, (expr, extent)) in read.index.iter().zip(&ty.shape).enumerate().rev() {
        if beside == Some(axis) {
            stride_beside = stride.clone();
            stride = stride.mul(extent).ok()?;
            continue;
        }
        let form = affine(&index.exprs, *expr)?;
        if !form.is_transparent() || !ranges.of_affine(&index.exprs, &form).is_within(extent) {
            return None;
        }
        offset = offset.add(&form.constant.mul(&stride).ok()?).ok()?;
        for (leaf, coefficient) in &form.terms {
            let step = coefficient.mul(&stride).ok()?;
            match leaf {
                Leaf::Index(k) => strides[*k as usize] = strides[*k as usize].add(&step).ok()?,
                Leaf::Var(var) => vars.push((*var, step)),
                Leaf::Opaque(_) => return None,
            }
        }
        stride = stride.mul(extent).ok()?;
    }
    let contract = strides.split_off(index.iterate.len());
    Some((View { offset, vars, iterate: strides, contract }, stride_beside))
}

/// Whether the left operand walks the fastest result axis and the right one does not: then it
/// should be the right operand, so that N is contiguous in the result.
fn belongs_on_the_right(index: &Index, left: &View, right: &View) -> bool {
    let fastest = (0..index.iterate.len()).rev().find(|k| !index.iterate[*k].extent.is(1));
    fastest.is_some_and(|k| !left.iterate[k].is(0) && right.iterate[k].is(0))
}

fn roles(index: &Index, left: &View, right: &View) -> Option<Vec<Role>> {
    let reduce = index.reduce.as_ref()?;
    let contracted = |k: usize| !left.contract[k].is(0) && !right.contract[k].is(0);
    if !(0..reduce.axes.len()).all(|k| contracted(k) || reduce.axes[k].extent.is(1)) {
        return None;
    }
    let mut roles = Vec::with_capacity(index.iterate.len());
    for (k, axis) in index.iterate.iter().enumerate() {
        roles.push(match (!left.iterate[k].is(0), !right.iterate[k].is(0)) {
            (true, true) => Role::Batch,
            (true, false) => Role::M,
            (false, true) => Role::N,
            (false, false) if axis.extent.is(1) => Role::Batch,
            (false, false) => return None,
        });
    }
    roles.iter().any(|role| *role != Role::Batch).then_some(roles)
}

/// `acc * scale..`, reading further operands, which are appended to `all`.
pub(super) fn scale_epilogue(
    index: &Index,
    scales: &[ExprId],
    operands: &[Value],
    all: &mut Vec<Value>,
) -> Option<Epilogue> {
    if scales.is_empty() {
        return None;
    }
    let mut exprs = Exprs::new();
    let mut body = accumulator(&mut exprs, index);
    let moved = exprs.import(&index.exprs, scales, &mut |out, leaf, dtype| match leaf {
        Expr::Read(read) => {
            let value = operands[read.port as usize];
            let mut read = read.clone();
            read.port = all.len() as u32;
            all.push(value);
            Some(out.add(Expr::Read(read), dtype))
        }
        _ => None,
    });
    for scale in moved {
        body = exprs.binary(BinaryOp::Mul, body, scale);
    }
    Some(Epilogue { exprs, body })
}

/// The expression that stands for the accumulator: a read of operand 0 without indices.
fn accumulator(exprs: &mut Exprs, index: &Index) -> ExprId {
    let span = index.exprs.iter().find_map(|(_, expr, _)| match expr {
        Expr::Read(read) => Some(read.span),
        _ => None,
    });
    let span = span.expect("invariant: a product reads");
    exprs.add(Expr::Read(Read { port: 0, index: Vec::new(), otherwise: None, span }), DType::F32)
}
