//! Recognition of matrix products.
//!
//! Matches `sum[k..] a[..] * b[..]` where both reads are affine and inside, every contracted axis
//! occurs in both and every result axis in one (M, N) or both (batch). Axes may come in any order
//! and in groups: what matters is the stride of each axis in each operand. Factors that do not
//! depend on a contracted axis move across the sum into the epilogue. A sum with a `where`, a
//! third factor, or a read with `else` is not a product and stays a loop nest.

use super::Changed;
use super::walk::{Vars, for_each_graph};
use crate::dim::Dim;
use crate::dtype::DType;
use crate::graph::affine::{Leaf, Ranges, affine};
use crate::graph::expr::{Expr, ExprId, Exprs, Read};
use crate::graph::ir::{Epilogue, Graph, Index, MatMul, Op, Program, Role, Value, View};
use crate::ops::reduce::Reducer;
use crate::ops::scalar::BinaryOp;
use petgraph::stable_graph::NodeIndex;

/// Turns sums of products into [`Op::MatMul`], in every graph.
pub fn recognise_products(program: &mut Program) -> Changed {
    let mut changed = false;
    for_each_graph(program, &mut |graph, vars| {
        for id in graph.topological() {
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

/// Whether an op is a sum of f32 without conditions.
pub(super) fn is_plain_sum(index: &Index) -> bool {
    let Some(reduce) = &index.reduce else { return false };
    let plain = index.guard.is_none() && reduce.filter.is_none() && reduce.otherwise.is_none();
    plain && reduce.reducer == Reducer::Sum && index.result_dtype() == DType::F32
}

/// The two reads under the sum, and the factors that do not depend on a contracted axis.
pub(super) fn factors(index: &Index) -> Option<([Read; 2], Vec<ExprId>)> {
    let mut pending = vec![index.body];
    let (mut reads, mut scales) = (Vec::new(), Vec::new());
    while let Some(id) = pending.pop() {
        match index.exprs.get(id) {
            Expr::Binary(BinaryOp::Mul, a, b) => pending.extend([*b, *a]),
            _ if !depends_on_reduction(index, id) => scales.push(id),
            Expr::Read(read) => reads.push(read.clone()),
            _ => return None,
        }
    }
    let reads: [Read; 2] = reads.try_into().ok()?;
    Some((reads, scales))
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
