//! Drops nodes, captured operands and functions that nothing uses.

use super::Changed;
use super::inline::drop_unused;
use super::walk::{for_each_graph, sweep};
use crate::graph::ir::{Graph, Op, Program};
use petgraph::stable_graph::NodeIndex;

/// Removes what does not reach a result.
pub fn dce(program: &mut Program) -> Changed {
    let mut changed = false;
    for_each_graph(program, &mut |graph, _| {
        changed |= sweep(graph);
        for id in graph.topological() {
            changed |= drop_captures(graph, id);
        }
        // Captures that went may have been the last use of what they captured.
        changed |= sweep(graph);
    });
    changed |= drop_unused(program);
    Changed::from(changed)
}

/// Removes captures that a region never reads.
fn drop_captures(graph: &mut Graph, id: NodeIndex) -> bool {
    let mut operands = graph.operands(id);
    let mut all;
    let (body, captures) = match &mut graph.dag[id].op {
        Op::Recur(recur) => (&mut recur.body, &mut recur.captures),
        Op::Region(region) => {
            all = operands.len();
            (&mut region.body, &mut all)
        }
        _ => return false,
    };
    let is_result = |body: &Graph, arg: NodeIndex| body.results.iter().any(|r| r.node == arg);
    let unused: Vec<usize> = (0..*captures)
        .filter(|k| body.users(body.args[*k]).is_empty() && !is_result(body, body.args[*k]))
        .collect();
    for k in unused.iter().rev() {
        let arg = body.args.remove(*k);
        body.dag.remove_node(arg);
        operands.remove(*k);
    }
    *captures -= unused.len();
    for (k, arg) in body.args.iter().enumerate() {
        body.dag[*arg].op = Op::Arg(k as u32);
    }
    if unused.is_empty() {
        return false;
    }
    graph.set_operands(id, &operands);
    true
}
