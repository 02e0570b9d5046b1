//! Elements of operands by bounds: what the reads of a pattern give before a call.
//!
//! A read of a constant, or of what index ops make of constants, sizes and positions, has bounds that
//! the ops themselves decide; what an argument holds is unknown. So the blocks that a model lists by a
//! formula are known, and those that are given at run time are not.

use super::{Bounds, Condition, Element, Scope};
use crate::dim::{Dim, Symbol};
use crate::dtype::DType;
use crate::graph::expr::Read;
use crate::graph::ir::{Graph, Index, Op, Reduce, Value};
use crate::ops::reduce::Reducer;
use crate::tensor::{Data, Tensor};
use petgraph::stable_graph::NodeIndex;
use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};
use std::rc::Rc;

/// How many ops a read is followed through.
const MAX_DEPTH: usize = 16;
/// The most elements of a constant that are looked at for one read.
const MAX_ELEMENTS: usize = 4096;

/// The operands of a graph at given sizes.
pub struct Values<'a> {
    graph: &'a Graph,
    symbols: &'a dyn Fn(&Symbol) -> Option<i64>,
    prepared: RefCell<HashMap<NodeIndex, Rc<Prepared>>>,
}

/// The expressions of an index op, ready to be bounded.
struct Prepared {
    body: Condition,
    guard: Option<Condition>,
    filter: Option<Condition>,
}

/// What is known around the expressions of one node.
pub struct NodeScope<'a> {
    values: &'a Values<'a>,
    operands: Vec<Value>,
    depth: usize,
}

impl<'a> Values<'a> {
    /// The values of a graph; `symbols` are the sizes of free dimensions.
    pub fn new(graph: &'a Graph, symbols: &'a dyn Fn(&Symbol) -> Option<i64>) -> Values<'a> {
        Values { graph, symbols, prepared: RefCell::default() }
    }

    /// The scope of the expressions of a node.
    pub fn scope(&'a self, node: NodeIndex) -> NodeScope<'a> {
        NodeScope { values: self, operands: self.graph.operands(node), depth: 0 }
    }

    fn size(&self, dim: &Dim) -> Option<i64> {
        dim.eval(self.symbols).ok()
    }

    /// What is known of the elements of a value at positions within `index`.
    fn element(&self, value: Value, index: &[Bounds], depth: usize) -> Element {
        let ty = self.graph.ty(value);
        let Some(extents) = ty.shape.iter().map(|dim| self.size(dim)).collect::<Option<Vec<i64>>>() else {
            return Element::UNKNOWN;
        };
        let pairs = || index.iter().zip(&extents);
        let within = |(at, extent): (&Bounds, &i64)| {
            at.low.is_some_and(|low| low >= 0) && at.high.is_some_and(|high| high < *extent)
        };
        let without = |(at, extent): (&Bounds, &i64)| {
            at.high.is_some_and(|high| high < 0) || at.low.is_some_and(|low| low >= *extent)
        };
        if pairs().any(without) {
            return Element { value: Bounds::UNKNOWN, is_inside: Some(false) };
        }
        let is_inside = pairs().all(within).then_some(true);
        let clamped = |(at, extent): (&Bounds, &i64)| {
            (at.low.unwrap_or(0).max(0), at.high.unwrap_or(i64::MAX).min(extent - 1))
        };
        let ranges: Vec<(i64, i64)> = pairs().map(clamped).collect();
        let value = match &self.graph.node(value.node).op {
            Op::Const(tensor) => constant(tensor, &ranges),
            Op::Index(op) if depth < MAX_DEPTH => self.index_op(value.node, op, &extents, ranges, depth + 1),
            _ => Bounds::UNKNOWN,
        };
        Element { value, is_inside }
    }

    /// Bounds of the elements of an index op.
    fn index_op(
        &self,
        node: NodeIndex,
        op: &Index,
        extents: &[i64],
        mut ranges: Vec<(i64, i64)>,
        depth: usize,
    ) -> Bounds {
        let is_exact = matches!(op.exprs.dtype(op.body), DType::I64 | DType::Bool);
        let iterate: Option<Vec<i64>> = op.iterate.iter().map(|axis| self.size(&axis.extent)).collect();
        // Axes finer than those of the result are indexed otherwise than the result is.
        if !is_exact || iterate.as_deref() != Some(extents) {
            return Bounds::UNKNOWN;
        }
        let mut count: Option<i64> = Some(1);
        for axis in op.reduce.iter().flat_map(|reduce| &reduce.axes) {
            let Some(extent) = self.size(&axis.extent) else { return Bounds::UNKNOWN };
            count = count.and_then(|count| count.checked_mul(extent));
            ranges.push((0, extent - 1));
        }
        let prepared = self.prepare(node, op);
        let scope = NodeScope { values: self, operands: self.graph.operands(node), depth };
        let value = match &op.reduce {
            None => prepared.body.bounds(&ranges, &scope),
            // Over nothing the reducers have values of their own.
            Some(_) if count.is_none_or(|count| count <= 0) => Bounds::UNKNOWN,
            Some(reduce) => {
                let filter = prepared.filter.as_ref().map_or(Bounds::point(1), |f| f.bounds(&ranges, &scope));
                reduced(reduce, prepared.body.bounds(&ranges, &scope), filter, count)
            }
        };
        match prepared.guard.as_ref().map(|guard| guard.bounds(&ranges, &scope)) {
            None | Some(Bounds { low: Some(1), .. }) => value,
            // Zero where the guard does not hold.
            Some(_) => Bounds { low: value.low.map(|v| v.min(0)), high: value.high.map(|v| v.max(0)) },
        }
    }

    fn prepare(&self, node: NodeIndex, op: &Index) -> Rc<Prepared> {
        let mut known = self.prepared.borrow_mut();
        let make = || {
            let condition = |id| Condition::new(&op.exprs, id);
            Rc::new(Prepared {
                body: condition(op.body),
                guard: op.guard.map(condition),
                filter: op.reduce.as_ref().and_then(|reduce| reduce.filter).map(condition),
            })
        };
        Rc::clone(known.entry(node).or_insert_with(make))
    }
}

impl Scope for NodeScope<'_> {
    fn symbol(&self, symbol: &Symbol) -> Option<i64> {
        (self.values.symbols)(symbol)
    }

    fn read(&self, read: &Read, index: &[Bounds]) -> Element {
        match self.operands.get(read.port as usize) {
            Some(value) => self.values.element(*value, index, self.depth),
            None => Element::UNKNOWN,
        }
    }
}

/// Bounds of a reduction over at least one point, by bounds of the terms and of the filter.
fn reduced(reduce: &Reduce, term: Bounds, filter: Bounds, count: Option<i64>) -> Bounds {
    let (is_all, is_none) = (filter.low == Some(1), filter.high == Some(0));
    if reduce.otherwise.is_some() && !is_all {
        return Bounds::UNKNOWN;
    }
    let times = |bound: Option<i64>| bound?.checked_mul(count?);
    match reduce.reducer {
        Reducer::Sum if is_none => Bounds::point(0),
        Reducer::Sum if is_all => Bounds { low: times(term.low), high: times(term.high) },
        Reducer::Sum => {
            let (low, high) = (term.low.map(|v| v.min(0)), term.high.map(|v| v.max(0)));
            Bounds { low: times(low), high: times(high) }
        }
        Reducer::Any => {
            let must = is_all && term.low == Some(1);
            let may = !is_none && term.high != Some(0);
            Bounds::new(i64::from(must), i64::from(may))
        }
        Reducer::All => {
            let must = is_none || term.low == Some(1);
            let may = !is_all || term.high != Some(0);
            Bounds::new(i64::from(must), i64::from(may))
        }
        Reducer::Max | Reducer::Min if is_all => term,
        _ => Bounds::UNKNOWN,
    }
}

/// The least and greatest element of a part of a constant.
fn constant(tensor: &Tensor, ranges: &[(i64, i64)]) -> Bounds {
    let sides = ranges.iter().map(|(low, high)| usize::try_from(high - low + 1).ok());
    let count = sides.clone().try_fold(1usize, |n, side| n.checked_mul(side?));
    if !count.is_some_and(|count| (1..=MAX_ELEMENTS).contains(&count)) {
        return Bounds::UNKNOWN;
    }
    let value = |at: usize| match tensor.data() {
        Data::I64(values) => values.get(at).copied(),
        Data::Bool(values) => values.get(at).map(|v| i64::from(*v)),
        _ => None,
    };
    let mut at: Vec<i64> = ranges.iter().map(|(low, _)| *low).collect();
    let mut found = Bounds { low: Some(i64::MAX), high: Some(i64::MIN) };
    for _ in 0..count.unwrap_or(0) {
        let flat = at.iter().zip(tensor.shape()).fold(0, |flat, (k, extent)| flat * extent + *k as usize);
        let Some(element) = value(flat) else { return Bounds::UNKNOWN };
        found = Bounds {
            low: found.low.map(|low| low.min(element)),
            high: found.high.map(|high| high.max(element)),
        };
        for (k, (low, high)) in at.iter_mut().zip(ranges).rev() {
            if *k < *high {
                *k += 1;
                break;
            }
            *k = *low;
        }
    }
    found
}

/// The names of the arguments whose elements the expressions of a node may depend on through these
/// reads: what bounds cannot know.
pub fn unknown<'a>(
    graph: &'a Graph,
    node: NodeIndex,
    reads: impl Iterator<Item = &'a Read>,
) -> BTreeSet<String> {
    let operands = graph.operands(node);
    let mut open: Vec<NodeIndex> =
        reads.filter_map(|read| operands.get(read.port as usize)).map(|value| value.node).collect();
    let (mut seen, mut names) = (BTreeSet::new(), BTreeSet::new());
    while let Some(id) = open.pop() {
        if !seen.insert(id) {
            continue;
        }
        let found = graph.node(id);
        match &found.op {
            Op::Const(_) => {}
            Op::Index(_) => open.extend(graph.operands(id).iter().map(|value| value.node)),
            _ => {
                let name = found.name.as_deref().unwrap_or("a computed value");
                names.insert(name.to_string());
            }
        }
    }
    names
}
