//! Padding of what windows reach into.
//!
//! `sum[c, u, v] x[b, c, i + u - 1, j + v - 1 else 0] * w[o, c, u, v]` reads each element of `x` many
//! times. Copied once with its border, `x` needs no check, and the sum is a product of views.

use super::Changed;
use super::fuse::compact_ports;
use super::matmul::{factors, is_plain_sum};
use super::walk::{Vars, for_each_graph};
use crate::dim::Dim;
use crate::graph::affine::{Affine, Leaf, Ranges, affine, build};
use crate::graph::expr::{Expr, ExprId, Exprs, Literal, Read};
use crate::graph::ir::{Axis, Graph, Index, Op, Program, TensorType};
use crate::span::Span;
use petgraph::stable_graph::NodeIndex;

/// Borders wider than this have their exact size.
const WIDEST_BORDER: i64 = 16;

/// Gives reductions whose windows reach outside an operand a padded copy of it, in every graph.
pub fn pad_windows(program: &mut Program) -> Changed {
    let mut changed = false;
    for_each_graph(program, &mut |graph, vars| {
        for id in graph.topological() {
            changed |= pad(graph, id, vars);
        }
    });
    Changed::from(changed)
}

fn pad(graph: &mut Graph, id: NodeIndex, vars: &Vars) -> bool {
    let Op::Index(index) = &graph.node(id).op else { return false };
    let Some((read, border)) = window(index) else { return false };
    let mut operands = graph.operands(id);
    let source = operands[read.port as usize];
    let ranges = Ranges { indices: index.extents(), vars: vars.clone() };
    let Some(reach) = reach(index, &read, graph.ty(source), &ranges) else { return false };
    let (copy, shape) = copy(&reach, graph.ty(source), border, read.span);
    let first: Vec<Dim> = reach.into_iter().map(|(first, _)| first).collect();
    let Some(mut reader) = reading(index, &first, operands.len() as u32) else { return false };
    operands.push(graph.add_index(copy, shape, &[source], read.span, Some("padded".into())));
    let operands = compact_ports(&mut reader, &operands);
    graph.dag[id].op = Op::Index(reader);
    graph.set_operands(id, &operands);
    true
}

/// The read of a reduction over windows, or of a product, that has a constant outside its operand, and
/// that constant.
fn window(index: &Index) -> Option<(Read, Literal)> {
    let reduce = index.reduce.as_ref()?;
    if index.guard.is_some() || reduce.filter.is_some() {
        return None;
    }
    let needed = index.exprs.reachable(&index.roots());
    let mut padded = index.exprs.iter().filter_map(|(id, expr, _)| match expr {
        Expr::Read(read) if needed[id.0 as usize] => Some((read, read.otherwise?)),
        _ => None,
    });
    let (read, otherwise) = padded.next().filter(|_| padded.next().is_none())?;
    let Expr::Const(value) = index.exprs.get(otherwise) else { return None };
    let moves = |expr: &ExprId| {
        let form = affine(&index.exprs, *expr);
        let (outer, bound) = form.map(|form| index.walked(&form)).unwrap_or_default();
        !outer.is_empty() && !bound.is_empty()
    };
    // A product reads its operands many times as well, and its kernels check nothing.
    let product = || is_plain_sum(index) && factors(index).is_some();
    (read.index.iter().any(moves) || product()).then(|| (read.clone(), *value))
}

/// Per axis of the operand, the first element that is read and how many there are to the last; `None`
/// where nothing outside is read, or where that cannot be told.
fn reach(index: &Index, read: &Read, ty: &TensorType, ranges: &Ranges) -> Option<Vec<(Dim, Dim)>> {
    let mut outside = false;
    let mut axes = Vec::with_capacity(ty.shape.len());
    for (expr, extent) in read.index.iter().zip(&ty.shape) {
        let form = affine(&index.exprs, *expr).filter(Affine::is_transparent)?;
        let range = ranges.of_affine(&index.exprs, &form);
        axes.push(if range.is_within(extent) {
            (Dim::ZERO, extent.clone())
        } else {
            outside = true;
            let (first, last) = (range.low?, range.high?);
            let count = match borders(&first, &last, extent) {
                Some(borders) => extent.add(&borders).ok()?,
                None => last.sub(&first).and_then(|d| d.add(&Dim::ONE)).ok()?,
            };
            if !is_size(&count, index, &form) {
                return None;
            }
            (first, count)
        });
    }
    outside.then_some(axes)
}

/// The elements before and behind an operand that are read of it, where a small number bounds them for
/// all sizes: then the copy's size is as simple as the operand's.
fn borders(first: &Dim, last: &Dim, extent: &Dim) -> Option<Dim> {
    let before = first.as_const().filter(|first| *first <= 0)?.checked_neg()?;
    let beyond = last.sub(extent).and_then(|d| d.add(&Dim::ONE)).ok()?;
    let bounds = |most: &i64| Dim::from(*most).sub(&beyond).is_ok_and(|room| room.is_non_negative());
    let behind = (0..=WIDEST_BORDER).find(bounds)?;
    Some(Dim::from(before.checked_add(behind)?))
}

/// Whether a number of elements is not negative even where there are no results: windows leave no
/// gaps between them.
fn is_size(count: &Dim, index: &Index, form: &Affine) -> bool {
    let steps = index.iterate.iter().enumerate().try_fold(Dim::ZERO, |sum, (k, axis)| {
        sum.add(&form.coefficient(Leaf::Index(k as u32)).mul(&axis.extent)?)
    });
    let least = steps.and_then(|steps| count.sub(&steps));
    count.as_const().is_some_and(|count| count >= 0) || least.is_ok_and(|least| least.is_non_negative())
}

/// The elements of an operand within reach, `border` where it has none, and the shape of that.
fn copy(reach: &[(Dim, Dim)], ty: &TensorType, border: Literal, span: Span) -> (Index, Vec<Dim>) {
    let mut exprs = Exprs::new();
    let mut index = Vec::with_capacity(reach.len());
    for (k, (first, _)) in reach.iter().enumerate() {
        let at = exprs.index(k);
        let form = affine(&exprs, at).and_then(|form| form.add(&Affine::constant(first.clone())));
        index.push(form.map_or(at, |form| build(&mut exprs, &form)));
    }
    let border = exprs.add(Expr::Const(border), ty.dtype);
    let body = exprs.add(Expr::Read(Read { port: 0, index, otherwise: Some(border), span }), ty.dtype);
    let iterate = reach.iter().map(|(_, count)| Axis::new(count.clone(), "p")).collect();
    let shape = reach.iter().map(|(_, count)| count.clone()).collect();
    (Index { iterate, guard: None, reduce: None, exprs, body }, shape)
}

/// The op with its window read from a copy at `port` that starts at `first`.
fn reading(index: &Index, first: &[Dim], port: u32) -> Option<Index> {
    let mut all_inside = true;
    let mut exprs = Exprs::new();
    let roots = exprs.map(&index.exprs, &index.roots(), &mut |out, expr, dtype| match expr {
        Expr::Read(read) if read.otherwise.is_some() => {
            let moved: Option<Vec<ExprId>> = read
                .index
                .iter()
                .zip(first)
                .map(|(id, first)| {
                    let form = affine(out, *id)?.add(&Affine::constant(first.neg().ok()?))?;
                    Some(build(out, &form))
                })
                .collect();
            all_inside &= moved.is_some();
            let index = moved.unwrap_or_default();
            out.add(Expr::Read(Read { port, index, otherwise: None, span: read.span }), dtype)
        }
        other => out.add(other, dtype),
    });
    let mut reader = index.clone();
    reader.set_roots(exprs, &roots);
    all_inside.then_some(reader)
}
