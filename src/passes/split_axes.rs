//! Axes that reads take apart into digits.
//!
//! Heads that lie behind each other are read as `o[b, k // 64, t, k % 64]`. Over two axes in place of
//! `k` the read is `o[b, h, t, d]`, affine like any other, so that sums over it are matrix products and
//! loops need no division. The result's points keep their order. What conditions look up, such as
//! which blocks of pairs take part, is no part of a product, and its axes stay.

use super::Changed;
use super::simplify::simplify_index;
use super::walk::for_each_graph;
use crate::dim::Dim;
use crate::dtype::DType;
use crate::graph::affine::Ranges;
use crate::graph::expr::{Expr, ExprId, Exprs, Literal};
use crate::graph::ir::{Axis, Index, Op, Program, TensorType};
use crate::ops::scalar::BinaryOp;

/// Splits axes whose digits are indices of reads, in every graph.
pub fn split_axes(program: &mut Program) -> Changed {
    let mut changed = false;
    for_each_graph(program, &mut |graph, vars| {
        for id in graph.topological() {
            let types: Vec<TensorType> =
                graph.operands(id).into_iter().map(|value| graph.ty(value).clone()).collect();
            let Op::Index(index) = &mut graph.dag[id].op else { continue };
            while let Some((axis, outer, inner)) = digits(index) {
                split(index, axis, outer, inner);
                let ranges = Ranges { indices: index.extents(), vars: vars.clone() };
                simplify_index(index, &ranges, &types);
                changed = true;
            }
        }
    });
    Changed::from(changed)
}

/// An axis that a read divides evenly, and the extents of both digits.
fn digits(index: &Index) -> Option<(usize, Dim, Dim)> {
    let (exprs, extents) = (&index.exprs, index.extents());
    let live = exprs.reachable(&index.roots());
    let reads =
        exprs.iter().filter(|(id, ..)| live[id.0 as usize]).filter_map(|(_, expr, dtype)| match expr {
            Expr::Read(read) if dtype.is_float() => Some(read.index.as_slice()),
            _ => None,
        });
    let indices: Vec<ExprId> = reads.flatten().copied().collect();
    let used = exprs.reachable(&indices);
    exprs.iter().filter(|(id, ..)| used[id.0 as usize]).find_map(|(_, expr, _)| {
        let Expr::Binary(BinaryOp::FloorDiv | BinaryOp::Mod, a, b) = expr else { return None };
        let Expr::Index(k) = exprs.get(*a) else { return None };
        let inner = match exprs.get(*b) {
            Expr::Const(Literal::Int(value)) if *value > 1 => Dim::from(*value),
            Expr::Dim(dim) => dim.clone(),
            _ => return None,
        };
        let outer = extents[*k as usize].exact_div(&inner).filter(|outer| !outer.is(1))?;
        Some((*k as usize, outer, inner))
    })
}

/// Makes two axes of one, of which the second is the faster.
pub(super) fn split(index: &mut Index, axis: usize, outer: Dim, inner: Dim) {
    let mut exprs = Exprs::new();
    let roots = exprs.import(&index.exprs, &index.roots(), &mut |out, leaf, _| match leaf {
        Expr::Index(k) if *k as usize == axis => {
            let (high, low, by) = (out.index(axis), out.index(axis + 1), out.dim(&inner));
            let high = out.binary(BinaryOp::Mul, high, by);
            Some(out.binary(BinaryOp::Add, high, low))
        }
        Expr::Index(k) if *k as usize > axis => Some(out.add(Expr::Index(k + 1), DType::I64)),
        _ => None,
    });
    index.set_roots(exprs, &roots);
    let count = index.iterate.len();
    let (axes, at) = match &mut index.reduce {
        Some(reduce) if axis >= count => (&mut reduce.axes, axis - count),
        _ => (&mut index.iterate, axis),
    };
    axes[at].extent = outer;
    let name = axes[at].name.clone();
    axes.insert(at + 1, Axis::new(inner, &name));
}
