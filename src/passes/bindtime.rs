//! Which values depend on weights alone.
//!
//! Such a value has no input, no free dimension and no enclosing position in it, so it can be
//! computed once, when weights are bound. For a called function an argument counts only if every
//! call passes such a value, and calls inside recurrences never count.

use crate::graph::expr::{Expr, Exprs};
use crate::graph::ir::{Graph, Op, Program};
use petgraph::stable_graph::NodeIndex;
use std::collections::BTreeSet;

/// For each function, for each argument, whether it is always a bind-time value.
pub fn bind_time_args(program: &Program) -> Vec<Vec<bool>> {
    let mut args: Vec<Vec<bool>> = program.functions.iter().map(|f| vec![true; f.graph.args.len()]).collect();
    let inputs = program.signature.inputs.len();
    for (k, flag) in args[program.entry.0 as usize].iter_mut().enumerate() {
        *flag = k >= inputs;
    }
    for caller in (0..program.functions.len()).rev() {
        let graph = &program.functions[caller].graph;
        let known = bind_time_nodes(graph, &args[caller]);
        restrict(graph, Some(&known), &mut args);
    }
    args
}

/// Clears the arguments of callees that get something else in some call.
fn restrict(graph: &Graph, known: Option<&BTreeSet<NodeIndex>>, args: &mut [Vec<bool>]) {
    for id in graph.dag.node_indices() {
        match &graph.node(id).op {
            Op::Call(callee) => {
                for (k, value) in graph.operands(id).into_iter().enumerate() {
                    if !known.is_some_and(|known| known.contains(&value.node)) {
                        args[callee.0 as usize][k] = false;
                    }
                }
            }
            Op::Recur(recur) => restrict(&recur.body, None, args),
            Op::Region(region) => restrict(&region.body, None, args),
            _ => {}
        }
    }
}

/// The nodes of a graph whose results are bind-time values, such arguments included.
pub fn bind_time_nodes(graph: &Graph, args: &[bool]) -> BTreeSet<NodeIndex> {
    let mut known = BTreeSet::new();
    for id in graph.topological() {
        let node = graph.node(id);
        let sized = node.results.iter().flat_map(|ty| &ty.shape).all(|d| d.as_const().is_some());
        let itself = match &node.op {
            Op::Arg(k) => args[*k as usize],
            Op::Const(_) | Op::Scan(_) | Op::TopK(_) | Op::Call(_) => true,
            Op::Index(index) => {
                is_closed(&index.exprs) && index.extents().iter().all(|d| d.as_const().is_some())
            }
            Op::MatMul(product) => {
                product.lhs.vars.is_empty()
                    && product.rhs.vars.is_empty()
                    && product.pick.as_ref().is_none_or(|pick| pick.at.vars.is_empty())
                    && product.epilogue.as_ref().is_none_or(|e| is_closed(&e.exprs))
                    && product.contract.iter().all(|axis| axis.extent.as_const().is_some())
            }
            Op::Transform(transform) => {
                transform.source.vars.is_empty()
                    && transform.epilogue.as_ref().is_none_or(|e| is_closed(&e.exprs))
            }
            Op::Segment(segment) => {
                is_closed(&segment.index.exprs)
                    && segment.index.extents().iter().all(|d| d.as_const().is_some())
            }
            Op::Recur(_) | Op::Region(_) => false,
        };
        if itself && sized && graph.operands(id).iter().all(|v| known.contains(&v.node)) {
            known.insert(id);
        }
    }
    known
}

/// Whether expressions mention no free dimension and no position.
fn is_closed(exprs: &Exprs) -> bool {
    exprs.iter().all(|(_, expr, _)| match expr {
        Expr::Var(_) => false,
        Expr::Dim(dim) => dim.as_const().is_some(),
        _ => true,
    })
}
