//! Epilogues: what follows a product is applied to its accumulators before they are stored.
//!
//! A pointwise op that is the only reader of a product, at the same points in any order, becomes
//! the product's epilogue; its own result takes the product's place. A product's axis may be taken
//! apart by the reader (`(h, d)` read as `h` and `d`): the strides follow.

use super::Changed;
use super::fuse::axis_groups;
use super::simplify::simplify_index;
use super::split_axes::split;
use super::walk::{Vars, for_each_graph};
use crate::dim::Dim;
use crate::dtype::DType;
use crate::graph::affine::{Affine, Leaf, Ranges, affine, build, divide};
use crate::graph::expr::{Expr, ExprId, Exprs, Read};
use crate::graph::ir::{Axis, Epilogue, Graph, Index, MatMul, Op, Program, Role, TensorType, Value, View};
use crate::ops::scalar::BinaryOp;
use petgraph::stable_graph::NodeIndex;

/// Fuses pointwise readers into products, in every graph.
pub fn fuse_epilogues(program: &mut Program) -> Changed {
    let mut changed = false;
    for_each_graph(program, &mut |graph, vars| {
        for id in graph.topological() {
            // The reader may itself be read by one more; readers that were fused are gone.
            while graph.dag.contains_node(id) && fuse_reader(graph, id, vars) {
                changed = true;
            }
        }
    });
    Changed::from(changed)
}

fn fuse_reader(graph: &mut Graph, id: NodeIndex, vars: &Vars) -> bool {
    let found = match_reader(graph, id, vars).or_else(|| match_split_reader(graph, id, vars));
    let Some((reader, product, operands)) = found else { return false };
    let node = graph.node(reader).clone();
    let results = node.results;
    graph.set_operands(id, &operands);
    graph.replace_value(Value { node: reader, result: 0 }, Value { node: id, result: 0 });
    graph.dag.remove_node(reader);
    let target = &mut graph.dag[id];
    target.op = Op::MatMul(Box::new(product));
    target.results = results;
    target.name = node.name.or_else(|| target.name.clone());
    true
}

/// The only reader of a product, and the product with it as epilogue.
fn match_reader(graph: &Graph, id: NodeIndex, vars: &Vars) -> Option<(NodeIndex, MatMul, Vec<Value>)> {
    let Op::MatMul(product) = &graph.node(id).op else { return None };
    let value = Value { node: id, result: 0 };
    let [reader] = graph.users(id)[..] else { return None };
    if graph.results.contains(&value) {
        return None;
    }
    let Op::Index(index) = &graph.node(reader).op else { return None };
    let pointwise = index.reduce.is_none() && index.guard.is_none() && index.result_dtype() == DType::F32;
    let operands = graph.operands(reader);
    let ranges = Ranges { indices: index.extents(), vars: vars.clone() };
    if !pointwise || !is_eager(graph, index, &operands, &ranges) {
        return None;
    }
    let port = operands.iter().position(|v| *v == value)? as u32;
    let points = reads_at(graph, product, index, value, port, &ranges)?;
    let refined = refine(product, index, &points)?;
    let (epilogue, all) = compose(graph, id, product, index, &operands, &points)?;
    // An operand of the epilogue must not wait for the product itself.
    Some((reader, MatMul { epilogue: Some(epilogue), ..refined }, all))
}

/// The same where the product has two axes for one of the reader's, which is split for it.
fn match_split_reader(
    graph: &mut Graph,
    id: NodeIndex,
    vars: &Vars,
) -> Option<(NodeIndex, MatMul, Vec<Value>)> {
    let [reader] = graph.users(id)[..] else { return None };
    let (Op::MatMul(product), Op::Index(index)) = (&graph.node(id).op, &graph.node(reader).op) else {
        return None;
    };
    let operands = graph.operands(reader);
    let types: Vec<TensorType> = operands.iter().map(|value| graph.ty(*value).clone()).collect();
    let shape = &graph.node(id).results[0].shape;
    let mut split_index = index.clone();
    let mut any = false;
    while let Some((axis, outer, inner)) = merged_axis(product, shape, &split_index, &operands, id) {
        split(&mut split_index, axis, outer, inner);
        let ranges = Ranges { indices: split_index.extents(), vars: vars.clone() };
        simplify_index(&mut split_index, &ranges, &types);
        any = true;
    }
    if !any {
        return None;
    }
    let before = std::mem::replace(&mut graph.dag[reader].op, Op::Index(split_index));
    let found = match_reader(graph, id, vars);
    if found.is_none() {
        graph.dag[reader].op = before;
    }
    found
}

/// An axis of the reader that walks two axes of the product as one, and their extents.
fn merged_axis(
    product: &MatMul,
    shape: &[Dim],
    index: &Index,
    operands: &[Value],
    id: NodeIndex,
) -> Option<(usize, Dim, Dim)> {
    let groups = axis_groups(&product.iterate, shape)?;
    index.exprs.iter().find_map(|(_, expr, _)| {
        let Expr::Read(read) = expr else { return None };
        if operands[read.port as usize].node != id {
            return None;
        }
        groups.iter().zip(&read.index).find_map(|(group, at)| {
            let real = |k: &usize| !product.iterate[*k].extent.is(1);
            let [outer, inner] = group.clone().filter(real).collect::<Vec<_>>()[..] else { return None };
            let Some(Leaf::Index(axis)) = affine(&index.exprs, *at)?.as_leaf() else { return None };
            let extents = [outer, inner].map(|k| product.iterate[k].extent.clone());
            let whole = extents[0].mul(&extents[1]).ok()?;
            let [outer, inner] = extents;
            let axis = axis as usize;
            (index.iterate.get(axis)?.extent == whole).then_some((axis, outer, inner))
        })
    })
}

/// Whether every read is inside and no division can fail, so that all can be evaluated eagerly.
pub(super) fn is_eager(graph: &Graph, index: &Index, operands: &[Value], ranges: &Ranges) -> bool {
    index.exprs.iter().all(|(_, expr, _)| match expr {
        Expr::Read(read) => {
            let shape = &graph.ty(operands[read.port as usize]).shape;
            let inside = |(i, extent): (&ExprId, &Dim)| ranges.of(&index.exprs, *i).is_within(extent);
            read.index.iter().zip(shape).all(inside)
        }
        Expr::Binary(BinaryOp::FloorDiv | BinaryOp::Mod, _, b) => {
            ranges.of(&index.exprs, *b).low.is_some_and(|low| low.range().0.is_some_and(|l| l > 0))
        }
        _ => true,
    })
}

/// For each iterate axis of the product, the reader's affine index for it. All reads must agree.
fn reads_at(
    graph: &Graph,
    product: &MatMul,
    index: &Index,
    value: Value,
    port: u32,
    ranges: &Ranges,
) -> Option<Vec<Affine>> {
    let mut agreed: Option<Vec<Affine>> = None;
    let shape = &graph.ty(value).shape;
    for (_, expr, _) in index.exprs.iter() {
        let Expr::Read(read) = expr else { continue };
        if read.port != port {
            continue;
        }
        let points = points_of(&product.iterate, &index.exprs, read, shape, ranges)?;
        if agreed.as_ref().is_some_and(|known| *known != points) {
            return None;
        }
        agreed = Some(points);
    }
    agreed
}

/// The affine point, per iterate axis of what is read, at which a read of it lies.
pub fn points_of(
    iterate: &[Axis],
    exprs: &Exprs,
    read: &Read,
    shape: &[Dim],
    ranges: &Ranges,
) -> Option<Vec<Affine>> {
    let mut points = Vec::with_capacity(iterate.len());
    for (axes, expr) in axis_groups(iterate, shape)?.into_iter().zip(&read.index) {
        let mut rest = affine(exprs, *expr)?;
        for k in axes.clone() {
            if k + 1 == axes.end {
                points.push(rest);
                break;
            }
            let inner = Dim::product(iterate[k + 1..axes.end].iter().map(|a| &a.extent)).ok()?;
            let (point, remainder) = divide(exprs, ranges, &rest, &inner)?;
            points.push(point);
            rest = remainder;
        }
    }
    (points.len() == iterate.len()).then_some(points)
}

/// The product over the reader's axes: each of its axes is the mixed-radix number that the
/// reader's indices spell.
fn refine(product: &MatMul, index: &Index, points: &[Affine]) -> Option<MatMul> {
    let count = index.iterate.len();
    let mut roles = vec![None; count];
    let mut lhs = View { iterate: vec![Dim::ZERO; count], ..product.lhs.clone() };
    let mut rhs = View { iterate: vec![Dim::ZERO; count], ..product.rhs.clone() };
    let mut pick = product.pick.clone();
    if let Some(pick) = &mut pick {
        pick.at.iterate = vec![Dim::ZERO; count];
    }
    for (k, point) in points.iter().enumerate() {
        if !spells(point, index, &product.iterate[k].extent)? {
            return None;
        }
        for (leaf, coefficient) in &point.terms {
            let Leaf::Index(axis) = leaf else { return None };
            let axis = *axis as usize;
            if roles[axis].replace(product.roles[k]).is_some() {
                return None;
            }
            lhs.iterate[axis] = product.lhs.iterate[k].mul(coefficient).ok()?;
            rhs.iterate[axis] = product.rhs.iterate[k].mul(coefficient).ok()?;
            if let (Some(new), Some(old)) = (&mut pick, &product.pick) {
                new.at.iterate[axis] = old.at.iterate[k].mul(coefficient).ok()?;
            }
        }
    }
    let lone = |axis: usize| index.iterate[axis].extent.is(1).then_some(Role::Batch);
    let roles = (0..count).map(|k| roles[k].or_else(|| lone(k))).collect::<Option<Vec<_>>>()?;
    let iterate = index.iterate.clone();
    Some(MatMul { iterate, roles, contract: product.contract.clone(), lhs, rhs, pick, epilogue: None })
}

/// Whether the form takes each value of `0..extent` exactly once over its indices.
fn spells(point: &Affine, index: &Index, extent: &Dim) -> Option<bool> {
    if !point.constant.is(0) {
        return Some(false);
    }
    let mut terms: Vec<(usize, &Dim)> = Vec::new();
    for (leaf, coefficient) in &point.terms {
        let Leaf::Index(axis) = leaf else { return Some(false) };
        terms.push((*axis as usize, coefficient));
    }
    let mut radix = Dim::ONE;
    while !terms.is_empty() {
        let Some(at) = terms.iter().position(|(_, coefficient)| **coefficient == radix) else {
            return Some(false);
        };
        let (axis, _) = terms.remove(at);
        radix = radix.mul(&index.iterate.get(axis)?.extent).ok()?;
    }
    Some(radix == *extent)
}

/// The reader's body over the accumulator, after the product's own epilogue.
fn compose(
    graph: &Graph,
    id: NodeIndex,
    product: &MatMul,
    index: &Index,
    operands: &[Value],
    points: &[Affine],
) -> Option<(Epilogue, Vec<Value>)> {
    let mut all = graph.operands(id);
    let mut exprs = Exprs::new();
    let value = Value { node: id, result: 0 };
    let roots = exprs.import(&index.exprs, &[index.body], &mut |out, leaf, dtype| match leaf {
        Expr::Read(read) if operands[read.port as usize] == value => {
            Some(accumulated(out, product, points, read))
        }
        Expr::Read(read) => {
            let operand = operands[read.port as usize];
            let mut read = read.clone();
            read.port = all.len() as u32;
            all.push(operand);
            Some(out.add(Expr::Read(read), dtype))
        }
        _ => None,
    });
    Some((Epilogue { body: roots[0], exprs }, all))
}

fn accumulated(out: &mut Exprs, product: &MatMul, points: &[Affine], read: &Read) -> ExprId {
    let plain = Read { port: 0, index: Vec::new(), otherwise: None, span: read.span };
    let Some(inner) = &product.epilogue else { return out.add(Expr::Read(plain), DType::F32) };
    let at: Vec<ExprId> = points.iter().map(|point| build(out, point)).collect();
    let roots = out.import(&inner.exprs, &[inner.body], &mut |_, leaf, _| match leaf {
        Expr::Index(k) => Some(at[*k as usize]),
        _ => None,
    });
    roots[0]
}
