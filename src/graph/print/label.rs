//! The numbers that values print under, for whoever names a value without printing all.

use super::super::ir::{Graph, Op};
use petgraph::stable_graph::NodeIndex;

/// The number of the first result of the node at the end of `path`: a node of `graph`, then a
/// node of its region, and so on. `None` where the path does not lead to a node that the
/// canonical order reaches.
pub fn number(graph: &Graph, path: &[NodeIndex]) -> Option<usize> {
    let mut count = 0;
    find(graph, path, true, &mut count)
}

fn find(graph: &Graph, path: &[NodeIndex], outermost: bool, count: &mut usize) -> Option<usize> {
    let (first, rest) = path.split_first()?;
    if outermost {
        if let Some(position) = graph.args.iter().position(|arg| arg == first) {
            return Some(position);
        }
        *count += graph.args.len();
    }
    for id in order(graph) {
        let node = graph.node(id);
        let number = *count;
        *count += node.results.len();
        if id == *first {
            return match (rest, body(&node.op)) {
                ([], _) => Some(number),
                (_, Some(body)) => find(body, rest, false, count),
                _ => None,
            };
        }
        if let Some(body) = body(&node.op) {
            *count += numbered(body);
        }
    }
    None
}

/// The nodes that are printed, in canonical order: all but the arguments.
pub(super) fn order(graph: &Graph) -> impl Iterator<Item = NodeIndex> {
    graph.topological().into_iter().filter(|id| !matches!(graph.node(*id).op, Op::Arg(_)))
}

fn body(op: &Op) -> Option<&Graph> {
    match op {
        Op::Recur(recur) => Some(&recur.body),
        Op::Region(region) => Some(&region.body),
        _ => None,
    }
}

/// How many numbers the nodes of a region take.
fn numbered(graph: &Graph) -> usize {
    order(graph).map(|id| graph.node(id).results.len() + body(&graph.node(id).op).map_or(0, numbered)).sum()
}
