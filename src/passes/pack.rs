//! Packing: weights on the right of a product are laid out as the kernels read them.
//!
//! A product wants its right operand with the N axes contiguous. A weight that lies the other way
//! round (`[out, in]`, as published checkpoints have it) is rearranged into `[batch, k, n]` by an
//! ordinary index op; since it depends on weights alone, it runs once, when weights are bound.

use super::Changed;
use super::bindtime::{bind_time_args, bind_time_nodes};
use crate::dim::Dim;
use crate::dtype::DType;
use crate::graph::affine::{Affine, Leaf, Ranges, build, divide};
use crate::graph::expr::{Expr, Exprs, Read};
use crate::graph::ir::{Axis, Graph, Index, MatMul, Op, Program, Recur, Role, TensorType, Value};
use crate::span::Span;
use petgraph::stable_graph::NodeIndex;

/// Packs right operands that are bind-time values, also inside recurrences.
pub fn pack(program: &mut Program) -> Changed {
    let args = bind_time_args(program);
    let mut changed = false;
    for (function, args) in program.functions.iter_mut().zip(&args) {
        changed |= pack_graph(&mut function.graph, args);
    }
    Changed::from(changed)
}

/// An operand in packed form.
struct Packed {
    index: Index,
    shape: Vec<Dim>,
    strides: Strides,
}

/// How a product walks its right operand.
struct Strides {
    iterate: Vec<Dim>,
    contract: Vec<Dim>,
    /// Between one picked matrix and the next.
    pick: Dim,
}

/// What the right operand is walked by.
enum Walked {
    /// The matrix that is picked.
    Pick,
    /// A result axis.
    Iterate(usize),
    /// A contracted axis.
    Contract(usize),
}

impl Walked {
    /// The axis, and its stride in the right operand.
    fn of(&self, product: &MatMul) -> Option<(Axis, Dim)> {
        Some(match self {
            Walked::Pick => {
                let pick = product.pick.as_ref()?;
                (Axis::new(pick.extent.clone(), "e"), pick.stride.clone())
            }
            Walked::Iterate(k) => (product.iterate[*k].clone(), product.rhs.iterate[*k].clone()),
            Walked::Contract(k) => (product.contract[*k].clone(), product.rhs.contract[*k].clone()),
        })
    }
}

fn pack_graph(graph: &mut Graph, args: &[bool]) -> bool {
    let mut changed = false;
    let known = bind_time_nodes(graph, args);
    for id in graph.topological() {
        let operands = graph.operands(id);
        match &graph.node(id).op {
            Op::MatMul(product) if known.contains(&operands[1].node) => {
                let span = graph.node(id).span;
                let Some(packed) = pack_right(product, graph.ty(operands[1]), span) else { continue };
                let value =
                    graph.add_index(packed.index, packed.shape, &operands[1..2], span, Some("packed".into()));
                let mut operands = operands;
                operands[1] = value;
                set_right(graph, id, packed.strides);
                graph.set_operands(id, &operands);
                changed = true;
            }
            Op::Recur(recur) => {
                let captured: Vec<bool> =
                    operands[..recur.captures].iter().map(|v| known.contains(&v.node)).collect();
                changed |= pack_recur(graph, id, recur.as_ref().clone(), operands, &captured);
            }
            _ => {}
        }
    }
    changed
}

fn set_right(graph: &mut Graph, id: NodeIndex, strides: Strides) {
    if let Op::MatMul(product) = &mut graph.dag[id].op {
        product.rhs.offset = Dim::ZERO;
        product.rhs.iterate = strides.iterate;
        product.rhs.contract = strides.contract;
        if let Some(pick) = &mut product.pick {
            pick.stride = strides.pick;
        }
    }
}

/// Packs captures outside, so that it happens once and not at each step.
fn pack_recur(
    graph: &mut Graph,
    id: NodeIndex,
    mut recur: Recur,
    mut operands: Vec<Value>,
    captured: &[bool],
) -> bool {
    let mut changed = false;
    for inner in recur.body.topological() {
        let Op::MatMul(product) = &recur.body.node(inner).op else { continue };
        let mut inputs = recur.body.operands(inner);
        let Op::Arg(k) = recur.body.node(inputs[1].node).op else { continue };
        let k = k as usize;
        if !captured.get(k).copied().unwrap_or(false) {
            continue;
        }
        let span = recur.body.node(inner).span;
        let Some(packed) = pack_right(product, graph.ty(operands[k]), span) else { continue };
        let value = graph.add_index(packed.index, packed.shape, &[operands[k]], span, Some("packed".into()));
        let ty = graph.ty(value).clone();
        inputs[1] = recur.insert_capture(ty, span);
        operands.insert(recur.captures - 1, value);
        set_right(&mut recur.body, inner, packed.strides);
        recur.body.set_operands(inner, &inputs);
        changed = true;
    }
    if changed {
        graph.dag[id].op = Op::Recur(Box::new(recur));
        graph.set_operands(id, &operands);
    }
    changed
}

/// The packed form of the right operand; `None` where the axis that lanes run along is contiguous
/// already, or where its elements cannot be told from strides.
fn pack_right(product: &MatMul, ty: &TensorType, span: Span) -> Option<Packed> {
    let real = |k: &usize| !product.iterate[*k].extent.is(1);
    let of_role = |role: Role| (0..product.iterate.len()).filter(move |k| product.roles[*k] == role);
    let mut n_axes: Vec<usize> = of_role(Role::N).collect();
    if !n_axes.iter().any(real) {
        // A product for each element of an axis that is contiguous on the left: lanes run along it.
        n_axes.extend(of_role(Role::Batch).filter(|k| real(k) && product.lhs.iterate[*k].is(1)));
    }
    let contiguous = n_axes.iter().rfind(|k| real(k)).is_some_and(|k| product.rhs.iterate[*k].is(1));
    if contiguous || !n_axes.iter().any(real) || !product.rhs.vars.is_empty() {
        return None;
    }
    let batch = of_role(Role::Batch).filter(|k| !n_axes.contains(k) && !product.rhs.iterate[*k].is(0));
    let order: Vec<Walked> = product
        .pick
        .iter()
        .map(|_| Walked::Pick)
        .chain(batch.map(Walked::Iterate))
        .chain((0..product.contract.len()).map(Walked::Contract))
        .chain(n_axes.iter().copied().map(Walked::Iterate))
        .collect();
    let mut axes = Vec::with_capacity(order.len());
    let mut flat = Affine::constant(product.rhs.offset.clone());
    for (position, walked) in order.iter().enumerate() {
        let (axis, old) = walked.of(product)?;
        axes.push(axis);
        if !old.is(0) {
            flat.terms.insert(Leaf::Index(position as u32), old);
        }
    }
    let index = gather(axes.clone(), flat, ty, span)?;
    let mut strides = Strides {
        iterate: vec![Dim::ZERO; product.iterate.len()],
        contract: vec![Dim::ZERO; product.contract.len()],
        pick: Dim::ZERO,
    };
    let mut stride = Dim::ONE;
    for (walked, axis) in order.iter().zip(&axes).rev() {
        let slot = match walked {
            Walked::Pick => &mut strides.pick,
            Walked::Iterate(k) => &mut strides.iterate[*k],
            Walked::Contract(k) => &mut strides.contract[*k],
        };
        *slot = stride.clone();
        stride = stride.mul(&axis.extent).ok()?;
    }
    Some(Packed { index, shape: merge_shape(&axes)?, strides })
}

/// Shapes have rank 8 at most; a packed operand is one row of numbers to everything else.
fn merge_shape(axes: &[Axis]) -> Option<Vec<Dim>> {
    Some(vec![Dim::product(axes.iter().map(|a| &a.extent)).ok()?])
}

/// The op that reads element `flat` of the operand at every point of `axes`.
pub(super) fn gather(axes: Vec<Axis>, flat: Affine, ty: &TensorType, span: Span) -> Option<Index> {
    let mut exprs = Exprs::new();
    let ranges = Ranges { indices: axes.iter().map(|a| a.extent.clone()).collect(), ..Ranges::default() };
    let mut rest = flat;
    let mut index = Vec::with_capacity(ty.shape.len());
    for k in 0..ty.shape.len() {
        let stride = Dim::product(&ty.shape[k + 1..]).ok()?;
        let (position, remainder) = divide(&exprs, &ranges, &rest, &stride)?;
        index.push(build(&mut exprs, &position));
        rest = remainder;
    }
    let body = exprs.add(Expr::Read(Read { port: 0, index, otherwise: None, span }), DType::F32);
    Some(Index { iterate: axes, guard: None, reduce: None, exprs, body })
}
