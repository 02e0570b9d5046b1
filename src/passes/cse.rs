//! Common subexpressions: nodes with equal ops and operands become one.

use super::Changed;
use super::walk::for_each_graph;
use crate::graph::ir::{Axis, Graph, Index, Op, Program, Reduce, Value};
use petgraph::stable_graph::NodeIndex;
use std::collections::HashMap;

/// Merges equal nodes within each graph.
pub fn cse(program: &mut Program) -> Changed {
    let mut changed = false;
    for_each_graph(program, &mut |graph, _| changed |= merge(graph));
    Changed::from(changed)
}

fn merge(graph: &mut Graph) -> bool {
    // Looked up by key only, never iterated, so its order cannot show.
    let mut seen: HashMap<Vec<Value>, Vec<NodeIndex>> = HashMap::new();
    let mut changed = false;
    for id in graph.topological() {
        if matches!(graph.node(id).op, Op::Arg(_)) {
            continue;
        }
        let known = seen.entry(graph.operands(id)).or_default();
        let equal = known.iter().copied().find(|other| same(graph, *other, id));
        match equal {
            Some(first) => {
                for result in 0..graph.node(id).results.len() as u32 {
                    graph.replace_value(Value { node: id, result }, Value { node: first, result });
                }
                graph.dag.remove_node(id);
                changed = true;
            }
            None => known.push(id),
        }
    }
    changed
}

fn same(graph: &Graph, a: NodeIndex, b: NodeIndex) -> bool {
    let (a, b) = (graph.node(a), graph.node(b));
    a.results == b.results
        && match (&a.op, &b.op) {
            (Op::Const(x), Op::Const(y)) => x == y,
            (Op::Index(x), Op::Index(y)) => same_index(x, y),
            (Op::TopK(x), Op::TopK(y)) => x == y,
            (Op::Scan(x), Op::Scan(y)) => x == y,
            (Op::Call(x), Op::Call(y)) => x == y,
            _ => false,
        }
}

fn same_axes(a: &[Axis], b: &[Axis]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(x, y)| x.extent == y.extent)
}

fn same_index(a: &Index, b: &Index) -> bool {
    let same_reduce = |x: &Reduce, y: &Reduce| {
        x.reducer == y.reducer
            && x.filter == y.filter
            && x.otherwise == y.otherwise
            && same_axes(&x.axes, &y.axes)
    };
    let reductions = match (&a.reduce, &b.reduce) {
        (None, None) => true,
        (Some(x), Some(y)) => same_reduce(x, y),
        _ => false,
    };
    reductions
        && same_axes(&a.iterate, &b.iterate)
        && (a.guard, a.body) == (b.guard, b.body)
        && a.exprs == b.exprs
}
