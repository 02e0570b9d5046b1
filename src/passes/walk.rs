//! Walking all graphs of a program, regions included, and copying graphs into others.

use crate::graph::affine::Interval;
use crate::graph::expr::{Expr, Exprs, VarId};
use crate::graph::ir::{Graph, Node, Op, Program, Value};
use petgraph::stable_graph::NodeIndex;
use std::collections::BTreeMap;

/// Ranges of the enclosing positions.
pub type Vars = BTreeMap<VarId, Interval>;

/// Visits every graph, inner regions before the graph that holds them.
pub fn for_each_graph(program: &mut Program, visit: &mut dyn FnMut(&mut Graph, &Vars)) {
    for function in &mut program.functions {
        walk(&mut function.graph, &Vars::new(), visit);
    }
}

/// [`for_each_graph`] below one graph, itself last.
pub fn walk(graph: &mut Graph, vars: &Vars, visit: &mut dyn FnMut(&mut Graph, &Vars)) {
    let ids: Vec<NodeIndex> = graph.dag.node_indices().collect();
    for id in ids {
        match &mut graph.dag[id].op {
            Op::Recur(recur) => {
                let inner = with_recur(vars, recur);
                walk(&mut recur.body, &inner, visit);
            }
            Op::Region(region) => {
                let mut inner = vars.clone();
                for (var, axis) in region.vars.iter().zip(&region.axes) {
                    inner.insert(*var, Interval::below(&axis.extent));
                }
                walk(&mut region.body, &inner, visit);
            }
            _ => {}
        }
    }
    visit(graph, vars);
}

/// The ranges seen inside a recurrence.
pub fn with_recur(vars: &Vars, recur: &crate::graph::ir::Recur) -> Vars {
    let mut inner = vars.clone();
    let last = recur.start.add(&recur.extent).and_then(|d| d.sub(&crate::dim::Dim::ONE));
    inner.insert(recur.var, Interval { low: Some(recur.start.clone()), high: last.ok() });
    inner
}

/// Copies all nodes of `source` but its arguments into `target`, with `args` in their place.
/// Returns what the results of `source` are in `target`. Positions bound inside are renamed.
pub fn splice(source: &Graph, target: &mut Graph, args: &[Value], fresh: &mut u32) -> Vec<Value> {
    let mut moved: BTreeMap<NodeIndex, NodeIndex> = BTreeMap::new();
    let value_of = |moved: &BTreeMap<NodeIndex, NodeIndex>, value: Value| match source.node(value.node).op {
        Op::Arg(k) => args[k as usize],
        _ => Value { node: moved[&value.node], result: value.result },
    };
    for id in source.topological() {
        let node = source.node(id);
        if matches!(node.op, Op::Arg(_)) {
            continue;
        }
        let operands: Vec<Value> = source.operands(id).into_iter().map(|v| value_of(&moved, v)).collect();
        let mut node: Node = node.clone();
        rename_bound(&mut node.op, fresh);
        moved.insert(id, target.add(node, &operands));
    }
    source.results.iter().map(|v| value_of(&moved, *v)).collect()
}

/// Gives the positions that an op binds new names.
fn rename_bound(op: &mut Op, fresh: &mut u32) {
    let mut renamed = BTreeMap::new();
    let mut next = |var: &mut VarId| {
        renamed.insert(*var, VarId(*fresh));
        *var = VarId(*fresh);
        *fresh += 1;
    };
    let body = match op {
        Op::Recur(recur) => {
            next(&mut recur.var);
            &mut recur.body
        }
        Op::Region(region) => {
            region.vars.iter_mut().for_each(&mut next);
            &mut region.body
        }
        _ => return,
    };
    substitute_vars(body, &renamed);
    let ids: Vec<NodeIndex> = body.dag.node_indices().collect();
    for id in ids {
        rename_bound(&mut body.dag[id].op, fresh);
    }
}

/// Renames positions in all expressions and views of a graph and its regions.
pub fn substitute_vars(graph: &mut Graph, renamed: &BTreeMap<VarId, VarId>) {
    let rename = |exprs: &Exprs, roots: &[crate::graph::expr::ExprId]| {
        let mut out = Exprs::new();
        let roots = out.import(exprs, roots, &mut |out, leaf, dtype| match leaf {
            Expr::Var(var) => renamed.get(var).map(|new| out.add(Expr::Var(*new), dtype)),
            _ => None,
        });
        (out, roots)
    };
    walk(graph, &Vars::new(), &mut |graph, _| {
        let ids: Vec<NodeIndex> = graph.dag.node_indices().collect();
        for id in ids {
            match &mut graph.dag[id].op {
                Op::Index(index) => {
                    let (exprs, roots) = rename(&index.exprs, &index.roots());
                    index.set_roots(exprs, &roots);
                }
                Op::Segment(segment) => {
                    let mut roots = segment.index.roots();
                    roots.push(segment.key);
                    let (exprs, roots) = rename(&segment.index.exprs, &roots);
                    segment.key = roots[roots.len() - 1];
                    segment.index.set_roots(exprs, &roots[..roots.len() - 1]);
                }
                Op::MatMul(product) => {
                    let picks = product.pick.as_mut().map(|pick| &mut pick.at);
                    for view in [&mut product.lhs, &mut product.rhs].into_iter().chain(picks) {
                        for (var, _) in &mut view.vars {
                            *var = renamed.get(var).copied().unwrap_or(*var);
                        }
                    }
                    if let Some(epilogue) = &mut product.epilogue {
                        let (exprs, roots) = rename(&epilogue.exprs, &[epilogue.body]);
                        (epilogue.exprs, epilogue.body) = (exprs, roots[0]);
                    }
                }
                Op::Transform(transform) => {
                    for (var, _) in &mut transform.source.vars {
                        *var = renamed.get(var).copied().unwrap_or(*var);
                    }
                    if let Some(epilogue) = &mut transform.epilogue {
                        let (exprs, roots) = rename(&epilogue.exprs, &[epilogue.body]);
                        (epilogue.exprs, epilogue.body) = (exprs, roots[0]);
                    }
                }
                _ => {}
            }
        }
    });
}

/// Removes nodes that nothing uses; arguments stay. Returns whether any went.
pub fn sweep(graph: &mut Graph) -> bool {
    let mut any = false;
    for id in graph.topological().into_iter().rev() {
        let used = graph.results.iter().any(|r| r.node == id) || !graph.users(id).is_empty();
        if !used && !matches!(graph.node(id).op, Op::Arg(_)) {
            graph.dag.remove_node(id);
            any = true;
        }
    }
    any
}
