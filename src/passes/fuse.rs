//! Fusion by substitution: a pointwise definition replaces the reads of it.
//!
//! What decides is the work done again. A definition that only moves elements (a view: slice,
//! transpose, split) costs nothing and is always substituted. One that selects or computes is
//! substituted where each of its elements is read about once; where a reader broadcasts it (reads
//! it for more points than it has) it stays, so that a matrix product reads plain matrices and
//! sums of biases are computed once, when weights are bound. What computes also stays where windows
//! that overlap read it. Reductions are never recomputed. What
//! is left as a mere copy of a value that was computed here gives way to that value.

use super::Changed;
use super::simplify::simplify_index;
use super::walk::{for_each_graph, sweep};
use crate::dim::Dim;
use crate::dtype::DType;
use crate::graph::affine::{Affine, Leaf, Ranges, affine, build, divide};
use crate::graph::expr::{Expr, ExprId, Exprs, Read};
use crate::graph::ir::{Axis, Graph, Index, Op, Program, TensorType, Value};
use crate::ops::scalar::{BinaryOp, UnaryOp};
use petgraph::stable_graph::NodeIndex;

/// Bodies do not grow beyond this many expressions.
const MAX_EXPRS: usize = 400;
/// What at most may be computed again for each further reader.
const CHEAP_OPS: usize = 4;
/// Readers that may each compute a cheap definition for themselves.
const CHEAP_READERS: usize = 3;

/// Substitutes pointwise definitions into their readers, in every graph.
pub fn fuse(program: &mut Program) -> Changed {
    let mut changed = false;
    for_each_graph(program, &mut |graph, vars| {
        for id in graph.topological() {
            // A substitution brings in the operands of what it replaced, which may go next.
            while fuse_into(graph, id, vars) {
                changed = true;
            }
            changed |= forward_copy(graph, id);
        }
        sweep(graph);
    });
    Changed::from(changed)
}

/// Substitutes one operand of a node; returns whether it did.
fn fuse_into(graph: &mut Graph, id: NodeIndex, vars: &super::walk::Vars) -> bool {
    let Op::Index(consumer) = &graph.node(id).op else { return false };
    let ranges = Ranges { indices: consumer.extents(), vars: vars.clone() };
    let operands = graph.operands(id);
    for (port, value) in operands.iter().enumerate() {
        let Op::Index(producer) = &graph.node(value.node).op else { continue };
        if !worthwhile(graph, *value, producer, consumer, port as u32) {
            continue;
        }
        let base = operands.len() as u32;
        let ty = graph.ty(*value);
        let Some(mut fused) = substitute(consumer, port as u32, producer, ty, base, &ranges) else {
            continue;
        };
        let mut all = operands.clone();
        all.extend(graph.operands(value.node));
        let all = compact_ports(&mut fused, &all);
        let types: Vec<TensorType> = all.iter().map(|v| graph.ty(*v).clone()).collect();
        simplify_index(&mut fused, &ranges, &types);
        let all = compact_ports(&mut fused, &all);
        graph.dag[id].op = Op::Index(fused);
        graph.set_operands(id, &all);
        return true;
    }
    false
}

/// Replaces a definition that is its operand, element by element, by the operand, which takes its
/// name. An argument of the function stays apart from its results.
fn forward_copy(graph: &mut Graph, id: NodeIndex) -> bool {
    let Op::Index(copy) = &graph.node(id).op else { return false };
    let [source] = graph.operands(id)[..] else { return false };
    let copied = Value { node: id, result: 0 };
    let fits = !matches!(graph.node(source.node).op, Op::Arg(_)) && graph.ty(source) == graph.ty(copied);
    if !fits || !is_identity(copy) || graph.results.contains(&source) {
        return false;
    }
    let name = graph.node(id).name.clone();
    let node = &mut graph.dag[source.node];
    if node.name.is_none() && node.results.len() == 1 {
        node.name = name;
    }
    graph.replace_value(copied, source);
    true
}

fn is_identity(index: &Index) -> bool {
    let Expr::Read(read) = index.exprs.get(index.body) else { return false };
    let own = |(axis, at): (usize, &ExprId)| *index.exprs.get(*at) == Expr::Index(axis as u32);
    index.reduce.is_none()
        && index.guard.is_none()
        && read.otherwise.is_none()
        && read.index.len() == index.iterate.len()
        && read.index.iter().enumerate().all(own)
}

/// What a definition does, by what it costs to do again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Work {
    /// Moves elements by affine indices only, or makes them from indices alone.
    View,
    /// Selects elements.
    Select,
    /// Casts, or computes a little.
    Cheap,
    /// Computes.
    Costly,
}

fn worthwhile(graph: &Graph, value: Value, producer: &Index, consumer: &Index, port: u32) -> bool {
    if producer.reduce.is_some() || producer.exprs.len() + consumer.exprs.len() > MAX_EXPRS {
        return false;
    }
    let work = classify(producer);
    if work == Work::View {
        return true;
    }
    let stays = graph.results.contains(&value);
    let readers = graph.users(value.node).len();
    if stays || broadcasts(consumer, port) || (work != Work::Select && has_windows(consumer, port)) {
        return false;
    }
    match work {
        Work::View => true,
        Work::Select | Work::Cheap => readers <= CHEAP_READERS,
        Work::Costly => readers == 1 && reads_of(consumer, port).count() == 1,
    }
}

fn classify(producer: &Index) -> Work {
    let (mut ops, mut selects, mut reads) = (0, 0, 0);
    let mut transcendental = false;
    for (_, expr, dtype) in producer.exprs.iter() {
        let counts = dtype.is_float();
        match expr {
            Expr::Read(read) => {
                reads += 1;
                selects += usize::from(read.otherwise.is_some());
                let plain = |i: &ExprId| affine(&producer.exprs, *i).is_some_and(|f| f.is_transparent());
                selects += usize::from(!read.index.iter().all(plain));
            }
            Expr::Unary(op, _) => {
                ops += usize::from(counts);
                transcendental |= is_transcendental(*op);
            }
            Expr::Binary(op, ..) => {
                ops += usize::from(counts || op.is_comparison());
                transcendental |= matches!(op, BinaryOp::Pow) || (*op == BinaryOp::Div && counts);
            }
            Expr::Select(..) => selects += 1,
            Expr::Cast(_) => ops += 1,
            Expr::Const(_) | Expr::Index(_) | Expr::Var(_) | Expr::Dim(_) => {}
        }
    }
    selects += usize::from(producer.guard.is_some());
    let work = if transcendental { CHEAP_OPS + 1 } else { ops };
    match (reads, work, selects) {
        (0 | 1, 0, 0) => Work::View,
        (0, w, _) if w <= CHEAP_OPS => Work::View,
        (_, 0, _) => Work::Select,
        (_, w, _) if w <= CHEAP_OPS => Work::Cheap,
        _ => Work::Costly,
    }
}

fn is_transcendental(op: UnaryOp) -> bool {
    !matches!(
        op,
        UnaryOp::Neg
            | UnaryOp::Not
            | UnaryOp::Abs
            | UnaryOp::Sign
            | UnaryOp::Floor
            | UnaryOp::Ceil
            | UnaryOp::Round
            | UnaryOp::Trunc
    )
}

fn reads_of(index: &Index, port: u32) -> impl Iterator<Item = &Read> {
    index.exprs.iter().filter_map(move |(_, expr, _)| match expr {
        Expr::Read(read) if read.port == port => Some(read),
        _ => None,
    })
}

/// Whether a reader may read one element of the operand for several of its own points.
fn broadcasts(consumer: &Index, port: u32) -> bool {
    let extents = consumer.extents();
    reads_of(consumer, port).any(|read| {
        let mut seen = vec![false; extents.len()];
        for index in &read.index {
            let Some(form) = affine(&consumer.exprs, *index) else { return true };
            for leaf in form.terms.keys() {
                match leaf {
                    Leaf::Index(k) => seen[*k as usize] = true,
                    Leaf::Var(_) => {}
                    // A quotient and remainder of one index together read each element once.
                    Leaf::Opaque(id) => mark_indices(&consumer.exprs, *id, &mut seen),
                }
            }
        }
        seen.iter().zip(&extents).any(|(seen, extent)| !seen && !extent.is(1))
    })
}

/// Whether a reader may read one element for several points because one axis is walked by several
/// indices together: `i + u`, but not `i * 2 + u` for two `u`.
fn has_windows(consumer: &Index, port: u32) -> bool {
    let extents = consumer.extents();
    reads_of(consumer, port).flat_map(|read| &read.index).any(|index| {
        let Some(form) = affine(&consumer.exprs, *index) else { return true };
        let walked = form.terms.iter().filter_map(|(leaf, step)| match leaf {
            Leaf::Index(k) => Some((step.as_const().map(i64::abs), &extents[*k as usize])),
            Leaf::Var(_) | Leaf::Opaque(_) => None,
        });
        let mut walked: Vec<(Option<i64>, &Dim)> = walked.collect();
        if walked.len() < 2 {
            return false;
        }
        // From the finest step on, each must reach beyond all before it.
        walked.sort();
        let mut reach = Dim::ZERO;
        for (step, extent) in walked {
            let beyond = step.and_then(|step| Dim::from(step - 1).sub(&reach).ok());
            if !beyond.is_some_and(|beyond| beyond.is_non_negative()) {
                return true;
            }
            let last = extent.sub(&Dim::ONE).and_then(|last| last.mul(&Dim::from(step.unwrap_or(0))));
            let Ok(further) = last.and_then(|last| reach.add(&last)) else { return true };
            reach = further;
        }
        false
    })
}

fn mark_indices(exprs: &Exprs, id: ExprId, seen: &mut [bool]) {
    match exprs.get(id) {
        Expr::Index(k) => seen[*k as usize] = true,
        // What is gathered may be gathered often.
        Expr::Read(_) => {}
        _ => exprs.operands(id).into_iter().for_each(|operand| mark_indices(exprs, operand, seen)),
    }
}

/// `consumer` with every read of `port` replaced by the producer's body, whose operands become
/// ports from `base` on; `None` where a read might be an error, which must stay one.
fn substitute(
    consumer: &Index,
    port: u32,
    producer: &Index,
    ty: &TensorType,
    base: u32,
    ranges: &Ranges,
) -> Option<Index> {
    let mut exprs = Exprs::new();
    let mut possible = true;
    let roots = exprs.map(&consumer.exprs, &consumer.roots(), &mut |out, expr, dtype| {
        let Expr::Read(read) = &expr else { return out.add(expr, dtype) };
        if read.port != port {
            return out.add(expr, dtype);
        }
        match inline_read(out, read, producer, ty, base, ranges) {
            Some(value) => value,
            None => {
                possible = false;
                out.add(expr, dtype)
            }
        }
    });
    let mut fused = consumer.clone();
    fused.set_roots(exprs, &roots);
    possible.then_some(fused)
}

fn inline_read(
    out: &mut Exprs,
    read: &Read,
    producer: &Index,
    ty: &TensorType,
    base: u32,
    ranges: &Ranges,
) -> Option<ExprId> {
    let inside = inside_condition(out, read, &ty.shape, ranges);
    if inside.is_some() && read.otherwise.is_none() {
        return None;
    }
    let points = split_axes(out, read, producer, &ty.shape, ranges)?;
    let roots: Vec<ExprId> = [Some(producer.body), producer.guard].into_iter().flatten().collect();
    let moved = out.import(&producer.exprs, &roots, &mut |out, leaf, dtype| match leaf {
        Expr::Index(k) => Some(points[*k as usize]),
        Expr::Read(inner) => {
            let mut inner = inner.clone();
            inner.port += base;
            Some(out.add(Expr::Read(inner), dtype))
        }
        _ => None,
    });
    let mut value = moved[0];
    if let Some(guard) = moved.get(1) {
        let zero = zero(out, ty.dtype);
        value = out.select(*guard, value, zero);
    }
    Some(match (inside, read.otherwise) {
        (Some(inside), Some(otherwise)) => out.select(inside, value, otherwise),
        _ => value,
    })
}

/// The literal zero of a type.
pub fn zero(out: &mut Exprs, dtype: DType) -> ExprId {
    use crate::graph::expr::Literal;
    let literal = match dtype {
        DType::Bool => Literal::Bool(false),
        DType::I32 | DType::I64 => Literal::Int(0),
        _ => Literal::Real(0),
    };
    out.add(Expr::Const(literal), dtype)
}

/// The condition that a read is inside; `None` if it always is.
fn inside_condition(out: &mut Exprs, read: &Read, shape: &[Dim], ranges: &Ranges) -> Option<ExprId> {
    let mut condition = None;
    for (index, extent) in read.index.iter().zip(shape) {
        if ranges.of(out, *index).is_within(extent) {
            continue;
        }
        let zero = out.int(0);
        let size = out.dim(extent);
        let above = out.binary(BinaryOp::Ge, *index, zero);
        let below = out.binary(BinaryOp::Lt, *index, size);
        let both = out.binary(BinaryOp::And, above, below);
        condition = Some(match condition {
            Some(so_far) => out.binary(BinaryOp::And, so_far, both),
            None => both,
        });
    }
    condition
}

/// The producer's iterate indices at the element that a read names.
///
/// The result's axes may group several iterate axes; each group is taken apart by division.
fn split_axes(
    out: &mut Exprs,
    read: &Read,
    producer: &Index,
    shape: &[Dim],
    ranges: &Ranges,
) -> Option<Vec<ExprId>> {
    let mut points = Vec::with_capacity(producer.iterate.len());
    for (axes, index) in axis_groups(&producer.iterate, shape)?.into_iter().zip(&read.index) {
        let mut rest = affine(out, *index)?;
        for k in axes.clone() {
            let inner = Dim::product(producer.iterate[k + 1..axes.end].iter().map(|a| &a.extent)).ok()?;
            if k + 1 == axes.end {
                points.push(build(out, &rest));
                break;
            }
            let (point, remainder) = quotient(out, ranges, &rest, &inner)?;
            points.push(point);
            rest = remainder;
        }
    }
    (points.len() == producer.iterate.len()).then_some(points)
}

fn quotient(out: &mut Exprs, ranges: &Ranges, form: &Affine, by: &Dim) -> Option<(ExprId, Affine)> {
    if let Some((quotient, rest)) = divide(out, ranges, form, by) {
        return Some((build(out, &quotient), rest));
    }
    let (whole, size) = (build(out, form), out.dim(by));
    let point = out.binary(BinaryOp::FloorDiv, whole, size);
    let rest = out.binary(BinaryOp::Mod, whole, size);
    Some((point, affine(out, rest)?))
}

/// For each axis of the result's shape, the iterate axes that make it up.
pub fn axis_groups(iterate: &[Axis], shape: &[Dim]) -> Option<Vec<std::ops::Range<usize>>> {
    let mut groups = Vec::with_capacity(shape.len());
    let mut next = 0;
    for (position, extent) in shape.iter().enumerate() {
        let start = next;
        let mut product = Dim::ONE;
        while next < iterate.len() && (product != *extent || next == start) {
            product = product.mul(&iterate[next].extent).ok()?;
            next += 1;
        }
        // Axes of one point at the end of the last group belong to it.
        if position + 1 == shape.len() {
            while next < iterate.len() && iterate[next].extent.is(1) {
                next += 1;
            }
        }
        if product != *extent {
            return None;
        }
        groups.push(start..next);
    }
    (next == iterate.len()).then_some(groups)
}

/// Renumbers the ports so that each operand occurs once and is read; returns the operands.
pub fn compact_ports(index: &mut Index, operands: &[Value]) -> Vec<Value> {
    let roots = index.roots();
    let needed = index.exprs.reachable(&roots);
    let mut kept: Vec<Value> = Vec::new();
    let mut ports = vec![0; operands.len()];
    for (id, expr, _) in index.exprs.iter() {
        let Expr::Read(read) = expr else { continue };
        if !needed[id.0 as usize] {
            continue;
        }
        let value = operands[read.port as usize];
        let at = kept.iter().position(|v| *v == value).unwrap_or_else(|| {
            kept.push(value);
            kept.len() - 1
        });
        ports[read.port as usize] = at as u32;
    }
    let mut exprs = Exprs::new();
    let moved = exprs.import(&index.exprs, &roots, &mut |out, leaf, dtype| match leaf {
        Expr::Read(read) => {
            let mut read = read.clone();
            read.port = ports[read.port as usize];
            Some(out.add(Expr::Read(read), dtype))
        }
        _ => None,
    });
    index.set_roots(exprs, &moved);
    kept
}
