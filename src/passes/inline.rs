//! Puts functions in place of their calls.
//!
//! A function is inlined where it has one call site in the whole program, or where it is so small
//! that a call would cost more than it saves. Larger functions with several call sites stay: they
//! are compiled once and called, so compile time and code size do not grow with depth.

use super::Changed;
use super::walk::splice;
use crate::graph::ir::{FuncId, Graph, Op, Program, Value};
use petgraph::stable_graph::NodeIndex;
use std::collections::BTreeMap;

/// Functions of at most this many nodes are inlined wherever they are called.
const SMALL_NODES: usize = 10;

/// Inlines calls, callees first, and drops functions that are no longer called.
pub fn inline(program: &mut Program) -> Changed {
    let mut sites: BTreeMap<FuncId, usize> = BTreeMap::new();
    for function in &program.functions {
        count_calls(&function.graph, &mut sites);
    }
    let mut fresh = program.vars;
    let mut changed = false;
    for at in 0..program.functions.len() {
        let (callees, rest) = program.functions.split_at_mut(at);
        let wanted = |id: FuncId| {
            sites.get(&id) == Some(&1) || node_count(&callees[id.0 as usize].graph) <= SMALL_NODES
        };
        let body = |id: FuncId| wanted(id).then(|| &callees[id.0 as usize].graph);
        changed |= inline_calls(&mut rest[0].graph, &body, &mut fresh);
    }
    program.vars = fresh;
    changed |= drop_unused(program);
    Changed::from(changed)
}

fn inline_calls<'a>(graph: &mut Graph, body: &dyn Fn(FuncId) -> Option<&'a Graph>, fresh: &mut u32) -> bool {
    let mut changed = false;
    for id in graph.topological() {
        match &mut graph.dag[id].op {
            Op::Recur(recur) => changed |= inline_calls(&mut recur.body, body, fresh),
            Op::Region(region) => changed |= inline_calls(&mut region.body, body, fresh),
            Op::Call(callee) => {
                let Some(callee) = body(*callee) else { continue };
                let args = graph.operands(id);
                let results = splice(callee, graph, &args, fresh);
                for (k, new) in results.into_iter().enumerate() {
                    graph.replace_value(Value { node: id, result: k as u32 }, new);
                }
                graph.dag.remove_node(id);
                changed = true;
            }
            _ => {}
        }
    }
    changed
}

fn count_calls(graph: &Graph, sites: &mut BTreeMap<FuncId, usize>) {
    for node in graph.dag.node_weights() {
        match &node.op {
            Op::Call(callee) => *sites.entry(*callee).or_insert(0) += 1,
            Op::Recur(recur) => count_calls(&recur.body, sites),
            Op::Region(region) => count_calls(&region.body, sites),
            _ => {}
        }
    }
}

/// Nodes of a graph and its regions, arguments not counted.
fn node_count(graph: &Graph) -> usize {
    let inner = |op: &Op| match op {
        Op::Arg(_) => 0,
        Op::Recur(recur) => 1 + node_count(&recur.body),
        Op::Region(region) => 1 + node_count(&region.body),
        _ => 1,
    };
    graph.dag.node_weights().map(|node| inner(&node.op)).sum()
}

/// Removes functions that the entry and bind do not reach, and renumbers the rest.
pub fn drop_unused(program: &mut Program) -> bool {
    let mut used = vec![false; program.functions.len()];
    let mut pending: Vec<FuncId> = [Some(program.entry), program.bind].into_iter().flatten().collect();
    while let Some(id) = pending.pop() {
        if std::mem::replace(&mut used[id.0 as usize], true) {
            continue;
        }
        let mut calls = BTreeMap::new();
        count_calls(&program.function(id).graph, &mut calls);
        pending.extend(calls.into_keys());
    }
    if used.iter().all(|u| *u) {
        return false;
    }
    let mut renumbered = BTreeMap::new();
    for (old, _) in used.iter().enumerate().filter(|(_, used)| **used) {
        renumbered.insert(FuncId(old as u32), FuncId(renumbered.len() as u32));
    }
    let mut keep = used.into_iter();
    program.functions.retain(|_| keep.next().unwrap_or(false));
    for function in &mut program.functions {
        renumber_calls(&mut function.graph, &renumbered);
    }
    program.entry = renumbered[&program.entry];
    program.bind = program.bind.map(|bind| renumbered[&bind]);
    true
}

fn renumber_calls(graph: &mut Graph, renumbered: &BTreeMap<FuncId, FuncId>) {
    let ids: Vec<NodeIndex> = graph.dag.node_indices().collect();
    for id in ids {
        match &mut graph.dag[id].op {
            Op::Call(callee) => *callee = renumbered[callee],
            Op::Recur(recur) => renumber_calls(&mut recur.body, renumbered),
            Op::Region(region) => renumber_calls(&mut region.body, renumbered),
            _ => {}
        }
    }
}
