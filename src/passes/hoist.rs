//! Hoisting out of recurrences: what no carry reaches is computed for all positions at once.
//!
//! `x[:, t] @ w_ih.T` inside `recur t` becomes one product over the whole sequence, `[T, B, G]`,
//! of which each step reads its slice. Definitions that do not depend on the position at all move
//! out as they are. Only reductions and transcendental functions are worth their storage; plain
//! views stay inside.

use super::Changed;
use super::walk::{Vars, walk, with_recur};
use crate::dim::Dim;
use crate::dtype::DType;
use crate::graph::affine::Ranges;
use crate::graph::expr::{Expr, Exprs, Read, VarId};
use crate::graph::ir::{Axis, Graph, Index, Op, Program, Recur, TensorType, Value};
use crate::ops::cost::{binary_cost_flops, unary_cost_flops};
use crate::ops::scalar::BinaryOp;
use petgraph::stable_graph::NodeIndex;
use std::collections::{BTreeMap, BTreeSet};

/// Hoists from every recurrence, inner ones first.
pub fn hoist(program: &mut Program) -> Changed {
    let mut changed = false;
    for function in &mut program.functions {
        walk(&mut function.graph, &Vars::new(), &mut |graph, vars| {
            for id in graph.topological() {
                if matches!(graph.node(id).op, Op::Recur(_)) {
                    changed |= hoist_from(graph, id, vars);
                }
            }
        });
    }
    Changed::from(changed)
}

/// What a hoisted value became outside.
#[derive(Clone, Copy)]
struct Moved {
    value: Value,
    /// Whether it has the position as a further leading axis.
    stacked: bool,
}

fn hoist_from(graph: &mut Graph, id: NodeIndex, vars: &Vars) -> bool {
    let Op::Recur(recur) = &graph.node(id).op else { return false };
    let mut recur = recur.clone();
    let inner = with_recur(vars, &recur);
    let free = free_of_carries(&recur);
    let wanted = wanted(&recur, &free, &inner);
    if wanted.is_empty() {
        return false;
    }
    let mut operands = graph.operands(id);
    let mut outside: BTreeMap<Value, Moved> = BTreeMap::new();
    for (k, arg) in recur.body.args[..recur.captures].iter().enumerate() {
        outside.insert(Value { node: *arg, result: 0 }, Moved { value: operands[k], stacked: false });
    }
    for node in recur.body.topological() {
        let Op::Index(index) = &recur.body.node(node).op else { continue };
        if !wanted.contains(&node) {
            continue;
        }
        let moved = move_out(graph, &recur, node, index, &outside);
        let value = Value { node, result: 0 };
        outside.insert(value, moved);
        let used_inside = recur.body.users(node).iter().any(|user| !wanted.contains(user));
        if used_inside || recur.body.results.contains(&value) {
            read_inside(graph, &mut recur, value, moved, &mut operands);
        }
    }
    super::walk::sweep(&mut recur.body);
    graph.dag[id].op = Op::Recur(recur);
    graph.set_operands(id, &operands);
    true
}

/// The body's index ops that no sequence reaches.
fn free_of_carries(recur: &Recur) -> BTreeSet<NodeIndex> {
    let mut free = BTreeSet::new();
    let captured: BTreeSet<NodeIndex> = recur.body.args[..recur.captures].iter().copied().collect();
    for id in recur.body.topological() {
        let movable = matches!(recur.body.node(id).op, Op::Index(_));
        let inputs = recur.body.operands(id);
        if movable && inputs.iter().all(|v| captured.contains(&v.node) || free.contains(&v.node)) {
            free.insert(id);
        }
    }
    free
}

/// Of those, the ones worth moving, with what they are computed from.
fn wanted(recur: &Recur, free: &BTreeSet<NodeIndex>, vars: &Vars) -> BTreeSet<NodeIndex> {
    let mut wanted = BTreeSet::new();
    for id in recur.body.topological().into_iter().rev() {
        if !free.contains(&id) {
            continue;
        }
        let feeds = recur.body.users(id).iter().any(|user| wanted.contains(user));
        let Op::Index(index) = &recur.body.node(id).op else { continue };
        if feeds || (is_heavy(index) && cannot_fail(&recur.body, id, index, vars)) {
            wanted.insert(id);
        }
    }
    // Whatever feeds a moved op moves too, so it must not fail either.
    let risky = |id: &NodeIndex| match &recur.body.node(*id).op {
        Op::Index(index) => !cannot_fail(&recur.body, *id, index, vars),
        _ => true,
    };
    if wanted.iter().any(risky) { BTreeSet::new() } else { wanted }
}

fn is_heavy(index: &Index) -> bool {
    let transcendental = |expr: &Expr| match expr {
        Expr::Unary(op, a) => unary_cost_flops(*op, index.exprs.dtype(*a)).transcendentals > 0,
        Expr::Binary(op, a, _) => binary_cost_flops(*op, index.exprs.dtype(*a)).transcendentals > 0,
        _ => false,
    };
    index.reduce.is_some() || index.exprs.iter().any(|(_, expr, _)| transcendental(expr))
}

/// Whether every read is inside or has an `else`. A step that never runs must not fail outside.
fn cannot_fail(body: &Graph, id: NodeIndex, index: &Index, vars: &Vars) -> bool {
    let ranges = Ranges { indices: index.extents(), vars: vars.clone() };
    let operands = body.operands(id);
    index.exprs.iter().all(|(_, expr, _)| match expr {
        Expr::Read(read) if read.otherwise.is_none() => {
            let shape = &body.ty(operands[read.port as usize]).shape;
            let inside = |(i, extent)| ranges.of(&index.exprs, i).is_within(extent);
            read.index.iter().copied().zip(shape).all(inside)
        }
        Expr::Binary(BinaryOp::FloorDiv | BinaryOp::Mod, _, b) => {
            ranges.of(&index.exprs, *b).low.is_some_and(|low| low.range().0.is_some_and(|l| l > 0))
        }
        _ => true,
    })
}

/// Adds the outer form of a body op to the outer graph.
fn move_out(
    graph: &mut Graph,
    recur: &Recur,
    id: NodeIndex,
    index: &Index,
    outside: &BTreeMap<Value, Moved>,
) -> Moved {
    let node = recur.body.node(id);
    let operands: Vec<Moved> = recur.body.operands(id).iter().map(|v| outside[v]).collect();
    let mentions = index.exprs.iter().any(|(_, e, _)| matches!(e, Expr::Var(v) if *v == recur.var));
    let stacked = mentions || operands.iter().any(|m| m.stacked);
    let values: Vec<Value> = operands.iter().map(|m| m.value).collect();
    let mut shape = node.results[0].shape.clone();
    let mut outer = index.clone();
    if stacked {
        outer = stack(index, recur, &operands);
        shape.insert(0, recur.extent.clone());
    }
    let value = graph.add_index(outer, shape, &values, node.span, node.name.clone());
    Moved { value, stacked }
}

/// The op with the position as its first iterate axis.
fn stack(index: &Index, recur: &Recur, operands: &[Moved]) -> Index {
    let mut exprs = Exprs::new();
    let roots = exprs.import(&index.exprs, &index.roots(), &mut |out, leaf, dtype| match leaf {
        Expr::Index(k) => Some(out.index(*k as usize + 1)),
        Expr::Var(var) if *var == recur.var => {
            let (step, start) = (out.index(0), out.dim(&recur.start));
            Some(if recur.start.is(0) { step } else { out.binary(BinaryOp::Add, step, start) })
        }
        Expr::Read(read) if operands[read.port as usize].stacked => {
            let mut read = read.clone();
            read.index.insert(0, out.index(0));
            Some(out.add(Expr::Read(read), dtype))
        }
        _ => None,
    });
    let mut stacked = index.clone();
    stacked.iterate.insert(0, Axis { extent: recur.extent.clone(), name: recur.name.clone() });
    stacked.set_roots(exprs, &roots);
    stacked
}

/// Captures a moved value and reads this step's part of it in place of the old definition.
fn read_inside(graph: &Graph, recur: &mut Recur, old: Value, moved: Moved, operands: &mut Vec<Value>) {
    let (span, name) = (recur.body.node(old.node).span, recur.body.node(old.node).name.clone());
    let ty = recur.body.ty(old).clone();
    let arg = recur.insert_capture(graph.ty(moved.value).clone(), span);
    operands.insert(recur.captures - 1, moved.value);
    let new = if moved.stacked {
        let index = slice_at(recur.var, &recur.start, &ty, span);
        recur.body.add_index(index, ty.shape.clone(), &[arg], span, name)
    } else {
        arg
    };
    recur.body.replace_value(old, new);
}

/// `[..] = stacked[t - start, ..]`.
fn slice_at(var: VarId, start: &Dim, ty: &TensorType, span: crate::span::Span) -> Index {
    let mut exprs = Exprs::new();
    let position = exprs.add(Expr::Var(var), DType::I64);
    let start_expr = exprs.dim(start);
    let step = if start.is(0) { position } else { exprs.binary(BinaryOp::Sub, position, start_expr) };
    let mut index = vec![step];
    index.extend((0..ty.shape.len()).map(|k| exprs.index(k)));
    let body = exprs.add(Expr::Read(Read { port: 0, index, otherwise: None, span }), ty.dtype);
    let iterate = ty.shape.iter().enumerate().map(|(k, d)| Axis::new(d.clone(), &format!("i{k}"))).collect();
    Index { iterate, guard: None, reduce: None, exprs, body }
}
