//! The order in which the axes of intermediate values lie in memory.
//!
//! A convolution over `x[b, c, i + u, j + v]` with weights `w[o, c, u, v]` runs best where channels are
//! contiguous: then each step takes whole vectors of `c` or `o`, whatever the size of the plane, the
//! stride and the window. The text decides only the order of axes that a user sees. So values that no
//! user sees get their axes in the order batch, plane, channels: from windows the kinds of axes spread
//! to whatever computes point by point from or for them, into and out of functions that are called, and
//! what an axis is comes from how it is used, never from where it stands.
//!
//! Rows that pick a matrix each ([`route`](super::route)) want its columns next to each other, so the
//! columns of what they compute become its last axes.

use super::Changed;
use super::fuse::axis_groups;
use super::route::columns;
use crate::dim::{Dim, DimError};
use crate::graph::affine::{Affine, Leaf, affine};
use crate::graph::expr::{Expr, Exprs, Read};
use crate::graph::ir::{Graph, Index, Op, Program, Value};
use crate::ops::reduce::Reducer;
use petgraph::stable_graph::NodeIndex;
use std::collections::BTreeMap;
use std::ops::Range;

/// What an axis is to the windows; its order is that in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    /// Neither of the others.
    Batch,
    /// Windows move along it.
    Plane,
    /// Weights have it too, or it is summed over.
    Channel,
}

/// A value of a function.
type Place = (usize, Value);

/// Values that share a layout because they are one value, seen from inside and outside a call.
#[derive(Default)]
struct Classes {
    of: BTreeMap<Place, usize>,
    /// The class that a class became part of, or itself.
    parent: Vec<usize>,
    /// Whether all its values may be laid out anew.
    free: Vec<bool>,
    kinds: Vec<Option<Vec<Kind>>>,
}

impl Classes {
    fn add(&mut self, place: Place, free: bool) {
        self.of.insert(place, self.parent.len());
        self.parent.push(self.parent.len());
        self.free.push(free);
        self.kinds.push(None);
    }

    fn root(&self, place: Place) -> usize {
        let mut at = self.of[&place];
        while self.parent[at] != at {
            at = self.parent[at];
        }
        at
    }

    fn join(&mut self, a: Place, b: Place) {
        let (a, b) = (self.root(a), self.root(b));
        if a != b {
            self.free[a] &= self.free[b];
            self.parent[b] = a;
        }
    }

    fn fix(&mut self, place: Place) {
        let root = self.root(place);
        self.free[root] = false;
    }

    fn kinds(&self, place: Place) -> Option<&Vec<Kind>> {
        self.kinds[self.root(place)].as_ref()
    }

    /// Takes the kinds of axes for a class that has none; whether it did.
    fn vote(&mut self, place: Place, kinds: Vec<Option<Kind>>) -> bool {
        let any = |kind| kinds.contains(&Some(kind));
        any(Kind::Plane) && any(Kind::Channel) && self.settle(place, kinds)
    }

    /// Takes the kinds of axes for a class that has none, whatever they are; whether it did.
    fn settle(&mut self, place: Place, kinds: Vec<Option<Kind>>) -> bool {
        let root = self.root(place);
        if !self.free[root] || self.kinds[root].is_some() {
            return false;
        }
        self.kinds[root] = Some(kinds.into_iter().map(|kind| kind.unwrap_or(Kind::Batch)).collect());
        true
    }

    /// The old axes in their new order, where that is another one.
    fn order(&self, place: Place) -> Option<Vec<usize>> {
        let kinds = self.kinds(place)?;
        let mut order: Vec<usize> = (0..kinds.len()).collect();
        order.sort_by_key(|axis| kinds[*axis]);
        (!order.is_sorted()).then_some(order)
    }
}

/// Lays values out for the windows that read and write them.
pub fn choose_layouts(program: &mut Program) -> Changed {
    let mut classes = classes(program);
    let mut voted = false;
    for_each_index(program, &mut |function, graph, id, index| {
        voted |= windows(&mut classes, function, graph, id, index);
        if let Some(columns) = columns(graph, id) {
            let place = (function, Value { node: id, result: 0 });
            let kind = |k: usize| Some(if columns.contains(&k) { Kind::Channel } else { Kind::Batch });
            let kinds: Vec<Option<Kind>> = (0..index.iterate.len()).map(kind).collect();
            voted |= classes.settle(place, of_shape(graph, id, index, &kinds));
        }
    });
    if !voted {
        return Changed::No;
    }
    while voted {
        voted = false;
        for_each_index(program, &mut |function, graph, id, index| {
            voted |= spread(&mut classes, function, graph, id, index);
        });
    }
    let mut changed = false;
    for (function, of) in program.functions.iter_mut().enumerate() {
        changed |= rewrite(function, &mut of.graph, &classes);
    }
    Changed::from(changed)
}

fn for_each_index(program: &Program, visit: &mut dyn FnMut(usize, &Graph, NodeIndex, &Index)) {
    for (function, of) in program.functions.iter().enumerate() {
        for id in of.graph.topological() {
            if let Op::Index(index) = &of.graph.node(id).op {
                visit(function, &of.graph, id, index);
            }
        }
    }
}

/// All values, and which of them a layout may be chosen for: results of index ops, and what goes into
/// and comes out of functions, unless something else reads them or they are the user's.
fn classes(program: &Program) -> Classes {
    let mut classes = Classes::default();
    let entry = program.entry.0 as usize;
    for (function, of) in program.functions.iter().enumerate() {
        let graph = &of.graph;
        for id in graph.topological() {
            let node = graph.node(id);
            let free = match &node.op {
                Op::Index(index) => axis_groups(&index.iterate, &node.results[0].shape).is_some(),
                Op::Arg(_) => function != entry,
                Op::Call(_) => true,
                _ => false,
            };
            for result in 0..node.results.len() as u32 {
                classes.add((function, Value { node: id, result }), free);
            }
        }
        if function == entry {
            graph.results.iter().for_each(|value| classes.fix((function, *value)));
        }
    }
    for (function, of) in program.functions.iter().enumerate() {
        let graph = &of.graph;
        for id in graph.topological() {
            let operands = graph.operands(id);
            match &graph.node(id).op {
                Op::Index(_) => {}
                Op::Call(callee) => {
                    let (callee, inner) = (callee.0 as usize, &program.function(*callee).graph);
                    for (operand, arg) in operands.iter().zip(&inner.args) {
                        classes.join((function, *operand), (callee, Value { node: *arg, result: 0 }));
                    }
                    for (result, inner) in inner.results.iter().enumerate() {
                        let outer = Value { node: id, result: result as u32 };
                        classes.join((function, outer), (callee, *inner));
                    }
                }
                _ => operands.iter().for_each(|value| classes.fix((function, *value))),
            }
        }
    }
    classes
}

/// The reads of an op, with the affine form of each index.
fn reads(index: &Index) -> Vec<(&Read, Vec<Option<Affine>>)> {
    let needed = index.exprs.reachable(&index.roots());
    let all = index.exprs.iter().filter(|(id, ..)| needed[id.0 as usize]);
    all.filter_map(|(_, expr, _)| match expr {
        Expr::Read(read) => {
            let forms = read.index.iter().map(|id| affine(&index.exprs, *id)).collect();
            Some((read, forms))
        }
        _ => None,
    })
    .collect()
}

/// For each axis of the result, the axes of the op that make it up; none where they do not.
fn groups(graph: &Graph, id: NodeIndex, index: &Index) -> Vec<Range<usize>> {
    axis_groups(&index.iterate, &graph.node(id).results[0].shape).unwrap_or_default()
}

/// Kinds of the result's axes from those of the op's. Phases of a plane are part of the plane.
fn of_shape(graph: &Graph, id: NodeIndex, index: &Index, axes: &[Option<Kind>]) -> Vec<Option<Kind>> {
    let kind = |group: Range<usize>| {
        let kinds: Vec<Kind> = axes[group].iter().flatten().copied().collect();
        if kinds.contains(&Kind::Plane) { Some(Kind::Plane) } else { kinds.first().copied() }
    };
    groups(graph, id, index).into_iter().map(kind).collect()
}

/// Lets a reduction over windows vote on what it reads and on its result.
fn windows(classes: &mut Classes, function: usize, graph: &Graph, id: NodeIndex, index: &Index) -> bool {
    let (operands, reads) = (graph.operands(id), reads(index));
    let is_window = |form: &Affine| slides(index, form);
    let mut voted = false;
    for (at, (read, forms)) in reads.iter().enumerate() {
        if !forms.iter().flatten().any(is_window) {
            continue;
        }
        let others: Vec<usize> = reads
            .iter()
            .enumerate()
            .filter(|(other, (second, _))| *other != at && second.port != read.port)
            .flat_map(|(_, (_, forms))| forms.iter().flatten())
            .flat_map(|form| index.walked(form).0)
            .collect();
        let mut axes = vec![None; index.iterate.len()];
        let mut kinds = Vec::with_capacity(forms.len());
        for form in forms {
            let (outer, bound) = form.as_ref().map(|form| index.walked(form)).unwrap_or_default();
            let kind = match form {
                Some(form) if is_window(form) => Kind::Plane,
                _ if !bound.is_empty() || outer.iter().any(|k| others.contains(k)) => Kind::Channel,
                _ => Kind::Batch,
            };
            outer.into_iter().for_each(|k| axes[k] = Some(kind));
            kinds.push(Some(kind));
        }
        for k in others {
            axes[k].get_or_insert(Kind::Channel);
        }
        voted |= classes.vote((function, operands[read.port as usize]), kinds);
        voted |= classes.vote((function, Value { node: id, result: 0 }), of_shape(graph, id, index, &axes));
    }
    voted
}

/// Whether windows move along an axis that is read: neighbouring points read the same elements. Those
/// of `i + u` do; `h * 64 + d` over 64 `d` has two digits, and no two `h` share an element.
fn slides(index: &Index, form: &Affine) -> bool {
    let (outer, bound) = index.walked(form);
    if outer.is_empty() || bound.is_empty() {
        return false;
    }
    let extents = index.extents();
    let step = |k: usize| {
        let step = &form.terms[&Leaf::Index(k as u32)];
        if step.range().1.is_some_and(|high| high < 0) { step.neg() } else { Ok(step.clone()) }
    };
    let reach = bound.iter().try_fold(Dim::ZERO, |reach, k| {
        let last = extents[*k].sub(&Dim::ONE)?;
        reach.add(&last.mul(&step(*k)?)?)
    });
    let apart = |k: usize| -> Result<bool, DimError> {
        let room = step(k)?.sub(reach.as_ref().map_err(Clone::clone)?)?;
        Ok(room.range().0.is_some_and(|low| low > 0))
    };
    !outer.into_iter().all(|k| apart(k).unwrap_or(false))
}

/// Takes the kinds of axes from what an op reads to its result, and back.
fn spread(classes: &mut Classes, function: usize, graph: &Graph, id: NodeIndex, index: &Index) -> bool {
    let (operands, reads) = (graph.operands(id), reads(index));
    let result = (function, Value { node: id, result: 0 });
    let mut axes: Vec<Option<Kind>> = vec![None; index.iterate.len()];
    for (read, forms) in &reads {
        let Some(kinds) = classes.kinds((function, operands[read.port as usize])) else { continue };
        for (form, kind) in forms.iter().zip(kinds) {
            for k in form.iter().flat_map(|form| index.walked(form).0) {
                axes[k].get_or_insert(*kind);
            }
        }
    }
    if axes.contains(&Some(Kind::Plane)) {
        axes.iter_mut().for_each(|kind| {
            kind.get_or_insert(Kind::Channel);
        });
    }
    let mut voted = classes.vote(result, of_shape(graph, id, index, &axes));
    let Some(of_result) = classes.kinds(result) else { return voted };
    let axes: Vec<Kind> = groups(graph, id, index)
        .into_iter()
        .zip(of_result)
        .flat_map(|(group, kind)| group.map(|_| *kind))
        .collect();
    for (read, forms) in &reads {
        let kind = |form: &Option<Affine>| {
            let outer = form.as_ref().map(|form| index.walked(form).0).unwrap_or_default();
            Some(outer.first().map_or(Kind::Channel, |k| axes[*k]))
        };
        let kinds = forms.iter().map(kind).collect();
        voted |= classes.vote((function, operands[read.port as usize]), kinds);
    }
    voted
}

fn rewrite(function: usize, graph: &mut Graph, classes: &Classes) -> bool {
    let mut changed = false;
    for id in graph.topological() {
        let orders: Vec<Option<Vec<usize>>> = (0..graph.node(id).results.len() as u32)
            .map(|result| classes.order((function, Value { node: id, result })))
            .collect();
        let read: Vec<Option<Vec<usize>>> =
            graph.operands(id).into_iter().map(|value| classes.order((function, value))).collect();
        let of_op = match (&graph.node(id).op, &orders[..]) {
            (Op::Index(index), [Some(order)]) => {
                let groups = groups(graph, id, index);
                Some(order.iter().flat_map(|axis| groups[*axis].clone()).collect::<Vec<usize>>())
            }
            _ => None,
        };
        let node = &mut graph.dag[id];
        for (ty, order) in node.results.iter_mut().zip(&orders) {
            if let Some(order) = order {
                ty.shape = order.iter().map(|axis| ty.shape[*axis].clone()).collect();
                changed = true;
            }
        }
        if let Op::Index(index) = &mut node.op {
            let bound = bound_order(index, &read);
            reorder(index, of_op.as_deref(), &bound, &read);
        }
    }
    changed
}

/// The order of bound indices in which they walk what is read: where the order of terms is free, that of
/// the first operand that is laid out anew.
fn bound_order(index: &Index, read: &[Option<Vec<usize>>]) -> Vec<usize> {
    let Some(reduce) = &index.reduce else { return Vec::new() };
    let mut order: Vec<usize> = (0..reduce.axes.len()).collect();
    if !matches!(reduce.reducer, Reducer::Sum | Reducer::Max | Reducer::Min) {
        return order;
    }
    let first = index.iterate.len();
    for (read, axes) in
        reads(index).iter().filter_map(|(r, forms)| Some((forms, read[r.port as usize].as_ref()?)))
    {
        let place = |k: &usize| {
            axes.iter().position(|axis| {
                read[*axis]
                    .as_ref()
                    .is_some_and(|form| form.terms.contains_key(&Leaf::Index((first + k) as u32)))
            })
        };
        if order.iter().any(|k| place(k).is_some()) {
            order.sort_by_key(place);
            break;
        }
    }
    order
}

/// Reorders the axes of an op, its bound indices and the indices of its reads.
fn reorder(index: &mut Index, iterate: Option<&[usize]>, bound: &[usize], read: &[Option<Vec<usize>>]) {
    let outer = index.iterate.len();
    let iterate: Vec<usize> = iterate.map_or_else(|| (0..outer).collect(), <[usize]>::to_vec);
    // The new place of each index.
    let mut places = vec![0; outer + bound.len()];
    for (new, old) in iterate.iter().copied().chain(bound.iter().map(|k| outer + k)).enumerate() {
        places[old] = new;
    }
    let mut exprs = Exprs::new();
    let roots = exprs.map(&index.exprs, &index.roots(), &mut |out, expr, dtype| {
        let expr = match expr {
            Expr::Index(k) => Expr::Index(places[k as usize] as u32),
            Expr::Read(mut moved) => {
                if let Some(order) = &read[moved.port as usize] {
                    moved.index = order.iter().map(|axis| moved.index[*axis]).collect();
                }
                Expr::Read(moved)
            }
            other => other,
        };
        out.add(expr, dtype)
    });
    index.set_roots(exprs, &roots);
    index.iterate = iterate.into_iter().map(|k| index.iterate[k].clone()).collect();
    if let Some(reduce) = &mut index.reduce {
        reduce.axes = bound.iter().map(|k| reduce.axes[*k].clone()).collect();
    }
}
