//! Indices that come straight from the entry's inputs (ids, edges) are checked before anything
//! else happens, so that a bad one is found before any output is written.
//!
//! A read qualifies if its index, and every condition it stands under, is made of inputs, sizes,
//! loop indices and enclosing positions only. Its check is a loop nest of its own over the indices
//! that occur; afterwards the read counts as proved.

use super::bounds::Fact;
use super::demand::Demands;
use super::expr::{Env, push_fail};
use super::{FuncCx, Lowered};
use crate::dim::Dim;
use crate::graph::expr::{Expr, ExprId, Read, VarId};
use crate::loops::ir::{BufferKind, LoopKind, LoopVar, ScalarId, Stmt};
use std::collections::{BTreeMap, BTreeSet};

/// The leaves that a set of expressions is made of.
struct Leaves {
    indices: BTreeSet<usize>,
    vars: BTreeSet<VarId>,
}

impl FuncCx<'_> {
    /// Emits the check of one axis of a read, if it qualifies.
    pub(super) fn settle_for_inputs(
        &mut self,
        env: &Env<'_>,
        demands: &Demands,
        id: ExprId,
        read: &Read,
        axis: usize,
    ) -> Lowered<bool> {
        self.as_one_block(|cx| cx.settle_in_loops(env, demands, id, read, axis))
    }

    fn settle_in_loops(
        &mut self,
        env: &Env<'_>,
        demands: &Demands,
        id: ExprId,
        read: &Read,
        axis: usize,
    ) -> Lowered<bool> {
        if self.inputs == 0 || env.conditional {
            return Ok(false);
        }
        let conditions = demands.conditions(demands.of(id));
        let known = env.known.iter().map(|(condition, _)| *condition);
        let roots: Vec<ExprId> = [read.index[axis]].into_iter().chain(conditions.iter().copied()).collect();
        let all: Vec<ExprId> = roots.iter().copied().chain(known).collect();
        let Some(leaves) = self.leaves_if_inputs(env, &all) else { return Ok(false) };
        let mut inner = Env { known: Vec::new(), quiet: true, groups: Vec::new(), ..env.clone() };
        let unused = |k: &usize| !leaves.indices.contains(k);
        let mut around: Vec<Dim> =
            (0..env.extents.len()).filter(unused).map(|k| env.extents[k].clone()).collect();
        let mut loops: Vec<(LoopVar, ScalarId)> = Vec::new();
        let mut saved: BTreeMap<VarId, ScalarId> = BTreeMap::new();
        let positions: Vec<VarId> = self.positions.keys().copied().collect();
        for var in positions {
            if leaves.vars.contains(&var) {
                saved.insert(var, self.positions[&var].scalar);
                loops.push(self.loop_over_position(var));
            } else {
                around.push(self.positions[&var].extent.clone());
            }
        }
        for k in &leaves.indices {
            let var = self.new_var("i");
            let extent = self.dim(&env.extents[*k]);
            inner.index[*k] = self.var(var);
            loops.push((var, extent));
        }
        let runs = self.none_empty(&around);
        let body = self.check_under(&mut inner, &env.known, demands, id, read, axis, &roots)?;
        self.wrap_check(runs, loops, body);
        for (var, scalar) in saved {
            if let Some(position) = self.positions.get_mut(&var) {
                position.scalar = scalar;
            }
        }
        Ok(true)
    }

    fn loop_over_position(&mut self, id: VarId) -> (LoopVar, ScalarId) {
        let (name, start, extent) = {
            let position = &self.positions[&id];
            (position.name.clone(), position.start.clone(), position.extent.clone())
        };
        let var = self.new_var(&name);
        let (step, start) = (self.var(var), self.dim(&start));
        let scalar = self.add(start, step);
        let extent = self.dim(&extent);
        if let Some(position) = self.positions.get_mut(&id) {
            position.scalar = scalar;
        }
        (var, extent)
    }

    /// The check under the known conditions, one branch inside the other.
    fn check_under(
        &mut self,
        env: &mut Env<'_>,
        known: &[Fact],
        demands: &Demands,
        id: ExprId,
        read: &Read,
        axis: usize,
        roots: &[ExprId],
    ) -> Lowered<Vec<Stmt>> {
        if let Some((fact, rest)) = known.split_first() {
            let value = self.eval(env, &[fact.0])?.values[0];
            let condition = if fact.1 { value } else { self.not(value) };
            env.known.push(*fact);
            let then = self.check_under(env, rest, demands, id, read, axis, roots)?;
            return Ok(vec![Stmt::If { condition, then, otherwise: Vec::new() }]);
        }
        let evaluated = self.eval(env, roots)?;
        let mut values = vec![None; env.exprs.len()];
        for (root, value) in roots.iter().zip(&evaluated.values) {
            values[root.0 as usize] = Some(*value);
        }
        let demand = self.demand(demands, demands.of(id), &values, &mut BTreeMap::new());
        let place = &env.ports[read.port as usize];
        let (index, extent) = (evaluated.values[0], place.shape[axis].clone());
        let inside = self.inside(index, &extent, true, true);
        let outside = self.not(inside);
        let condition = self.and(demand, outside);
        let site = self.outside_site(place, axis, read.span);
        let extent = self.dim(&extent);
        let mut body = Vec::new();
        push_fail(&mut body, Stmt::Fail { condition, site, values: vec![index, extent] });
        Ok(body)
    }

    fn wrap_check(&mut self, runs: ScalarId, loops: Vec<(LoopVar, ScalarId)>, mut body: Vec<Stmt>) {
        for (var, extent) in loops.into_iter().rev() {
            body = vec![Stmt::For { var, extent, reverse: false, kind: LoopKind::Serial, body }];
        }
        match self.as_bool(runs) {
            Some(true) => self.prologue.extend(body),
            Some(false) => {}
            None => self.prologue.push(Stmt::If { condition: runs, then: body, otherwise: Vec::new() }),
        }
    }

    /// The leaves of expressions, if all they read is inputs and they read at all.
    fn leaves_if_inputs(&self, env: &Env<'_>, roots: &[ExprId]) -> Option<Leaves> {
        let needed = env.exprs.reachable(roots);
        let mut leaves = Leaves { indices: BTreeSet::new(), vars: BTreeSet::new() };
        let mut reads = false;
        for (id, expr, _) in env.exprs.iter() {
            if !needed[id.0 as usize] {
                continue;
            }
            match expr {
                Expr::Index(k) => {
                    leaves.indices.insert(*k as usize);
                }
                Expr::Var(var) => {
                    leaves.vars.insert(*var);
                }
                Expr::Read(read) if env.is_accumulator(read) => return None,
                Expr::Read(read) => {
                    let buffer = env.ports[read.port as usize].buffer;
                    match self.func.buffers[buffer.0 as usize].kind {
                        BufferKind::Arg(k) if (k as usize) < self.inputs => reads = true,
                        _ => return None,
                    }
                }
                _ => {}
            }
        }
        reads.then_some(leaves)
    }
}
