//! Loop nests of pointwise ops and reductions.
//!
//! The forms of a reduction are chosen in [`super::schedule`]; filters are placed among the loops
//! by [`super::levels`].

use super::expr::Env;
use super::place::Place;
use super::scalar::combiner;
use super::schedule::{Candidate, Form, SMALL_NEST_POINTS};
use super::{FuncCx, Lowered};
use crate::dim::Dim;
use crate::dtype::DType;
use crate::graph::expr::{ExprId, Exprs, Literal};
use crate::graph::ir::{Axis, Epilogue, Reduce};
use crate::loops::ir::{BufferId, Local, LoopKind, LoopVar, Pointer, Scalar, ScalarId, Stmt};
use crate::ops::reduce::Reducer;
use crate::ops::scalar::BinaryOp;

/// A pointwise op or reduction over places.
pub(super) struct Nest<'a> {
    pub iterate: &'a [Axis],
    pub guard: Option<ExprId>,
    pub reduce: Option<&'a Reduce>,
    pub exprs: &'a Exprs,
    pub body: ExprId,
    pub ports: &'a [Place],
    /// Applied to the reduced value.
    pub finish: Option<&'a Epilogue>,
}

/// Where the element of each result point goes.
#[derive(Clone)]
pub(super) struct Target {
    pub buffer: BufferId,
    pub offset: ScalarId,
    /// Per iterate axis.
    pub strides: Vec<Dim>,
}

impl FuncCx<'_> {
    /// Emits a nest that writes to `dest`.
    pub(super) fn nest(&mut self, nest: &Nest<'_>, dest: &Place, out: &mut Vec<Stmt>) -> Lowered<()> {
        let Some(strides) = dest.strides_over(nest.iterate)? else {
            let dtype = self.func.buffers[dest.buffer.0 as usize].dtype;
            let dense = self.temp(dest.name.as_deref(), dtype, &dest.shape)?;
            self.nest(nest, &dense, out)?;
            return self.copy(&dense, dest, out);
        };
        let target = Target { buffer: dest.buffer, offset: dest.offset, strides };
        let (mut env, vars) = self.env(nest);
        let body = match nest.reduce {
            None => self.pointwise(nest, &mut env, &vars, &target)?,
            Some(reduce) => self.reduction(nest, reduce, &mut env, &vars, &target)?,
        };
        out.extend(body);
        Ok(())
    }

    /// An environment with a loop variable for each axis of more than one point.
    pub(super) fn env<'a>(&mut self, nest: &Nest<'a>) -> (Env<'a>, Vec<Option<LoopVar>>) {
        let axes: Vec<&Axis> = nest.iterate.iter().chain(nest.reduce.iter().flat_map(|r| &r.axes)).collect();
        let mut vars = Vec::with_capacity(axes.len());
        let mut index = Vec::with_capacity(axes.len());
        for axis in &axes {
            if axis.extent.is(1) {
                vars.push(None);
                index.push(self.int(0));
            } else {
                let var = self.new_var(&axis.name);
                vars.push(Some(var));
                index.push(self.var(var));
            }
        }
        let extents = axes.iter().map(|axis| axis.extent.clone()).collect();
        (Env::new(nest.exprs, index, extents, nest.ports), vars)
    }

    /// The element of the current result point.
    pub(super) fn target_index(&mut self, env: &Env<'_>, target: &Target) -> ScalarId {
        let mut axes: Vec<usize> = (0..target.strides.len()).collect();
        axes.sort_by_key(|k| env.order.iter().position(|o| o == k));
        let mut sum = target.offset;
        for k in axes {
            sum = self.stepped(sum, env.index[k], &target.strides[k]);
        }
        sum
    }

    fn pointwise(
        &mut self,
        nest: &Nest<'_>,
        env: &mut Env<'_>,
        vars: &[Option<LoopVar>],
        target: &Target,
    ) -> Lowered<Vec<Stmt>> {
        let index = self.target_index(env, target);
        let store = |value| Stmt::Store { buffer: target.buffer, index, value };
        let mut body = Vec::new();
        match nest.guard {
            None => {
                let value = self.eval(env, &[nest.body])?.checked(&mut body);
                body.push(store(value));
            }
            Some(guard) => {
                let condition = self.eval(env, &[guard])?.checked(&mut body);
                let nothing = self.zero(nest.exprs.dtype(nest.body));
                if self.cannot_fail(env, &[nest.body]) {
                    let value = self.eval(env, &[nest.body])?.checked(&mut body);
                    let value = self.select(condition, value, nothing);
                    body.push(store(value));
                } else {
                    env.known.push((guard, true));
                    let mut then = Vec::new();
                    let value = self.eval(env, &[nest.body])?.checked(&mut then);
                    then.push(store(value));
                    body.push(Stmt::If { condition, then, otherwise: vec![store(nothing)] });
                }
            }
        }
        let axes: Vec<usize> = (0..nest.iterate.len()).collect();
        Ok(self.wrap(&axes, env, vars, body))
    }

    /// Puts loops over whole axes around a body, outermost first. They may run in threads, and
    /// the innermost in lanes.
    pub(super) fn wrap(
        &mut self,
        axes: &[usize],
        env: &Env<'_>,
        vars: &[Option<LoopVar>],
        mut body: Vec<Stmt>,
    ) -> Vec<Stmt> {
        let real: Vec<(usize, LoopVar)> = axes.iter().filter_map(|k| Some((*k, vars[*k]?))).collect();
        for (at, (axis, var)) in real.iter().enumerate().rev() {
            let extent = self.dim(&env.extents[*axis]);
            if at + 1 == real.len() && !holds_loop(&body) {
                body = self.innermost(*var, extent, body);
                continue;
            }
            let kind =
                if worth_threads(env) && holds_loop(&body) { LoopKind::Parallel } else { LoopKind::Serial };
            body = vec![Stmt::For { var: *var, extent, reverse: false, kind, body }];
        }
        body
    }

    fn reduction(
        &mut self,
        nest: &Nest<'_>,
        reduce: &Reduce,
        env: &mut Env<'_>,
        vars: &[Option<LoopVar>],
        target: &Target,
    ) -> Lowered<Vec<Stmt>> {
        let count = nest.iterate.len();
        let looped = |range: std::ops::Range<usize>| range.filter(|k| vars[*k].is_some()).collect::<Vec<_>>();
        let (iterate, reduced) = (looped(0..count), looped(count..vars.len()));
        let candidate = Candidate {
            body: nest.body,
            iterate: &iterate,
            last_stride: iterate.last().map(|k| target.strides[*k].clone()),
            reduce: &reduced,
            reorder: combiner(reduce.reducer).is_some(),
            across: nest.guard.is_none() && reduce.otherwise.is_none(),
            plain: reduce.filter.is_none() && self.cannot_fail(env, &[nest.body]),
        };
        match self.form(env, &candidate) {
            Form::Local(order) => {
                env.order = iterate.iter().chain(&order).copied().collect();
                let body = self.local_form(nest, reduce, env, vars, target, &order)?;
                Ok(self.wrap(&iterate, env, vars, body))
            }
            Form::Unrolled(order) => {
                env.order = iterate.iter().chain(&order).copied().collect();
                let body = self.unrolled_form(nest, reduce, env, target, &order)?;
                Ok(self.wrap(&iterate, env, vars, body))
            }
            Form::Across(order, lane) => {
                let outer: Vec<usize> = iterate.iter().copied().filter(|k| *k != lane).collect();
                env.order = outer.iter().chain(&order).copied().chain([lane]).collect();
                let body = self.across_form(nest, reduce, env, vars, target, &order, lane)?;
                Ok(self.wrap(&outer, env, vars, body))
            }
        }
    }

    /// One result point: the guard, and the reduction into a local.
    fn local_form(
        &mut self,
        nest: &Nest<'_>,
        reduce: &Reduce,
        env: &mut Env<'_>,
        vars: &[Option<LoopVar>],
        target: &Target,
        order: &[usize],
    ) -> Lowered<Vec<Stmt>> {
        let index = self.target_index(env, target);
        let at = Pointer { buffer: target.buffer, offset: index };
        let mut body = Vec::new();
        let Some(guard) = nest.guard else {
            self.local_point(nest, reduce, env, vars, at, order, &mut body)?;
            return Ok(body);
        };
        let condition = self.eval(&env.of_first(nest.iterate.len()), &[guard])?.checked(&mut body);
        let nothing = self.zero(reduce.reducer.result(nest.exprs.dtype(nest.body)));
        env.known.push((guard, true));
        let mut then = Vec::new();
        self.local_point(nest, reduce, env, vars, at, order, &mut then)?;
        env.known.pop();
        let otherwise = vec![Stmt::Store { buffer: target.buffer, index, value: nothing }];
        body.push(Stmt::If { condition, then, otherwise });
        Ok(body)
    }

    fn local_point(
        &mut self,
        nest: &Nest<'_>,
        reduce: &Reduce,
        env: &mut Env<'_>,
        vars: &[Option<LoopVar>],
        at: Pointer,
        order: &[usize],
        out: &mut Vec<Stmt>,
    ) -> Lowered<()> {
        let has_filter = reduce.otherwise.is_some() && reduce.filter.is_some();
        let seen = has_filter.then(|| self.declare("seen", DType::Bool, Literal::Bool(false), out));
        let acc = match combiner(reduce.reducer) {
            Some(op) => self.accumulate(nest, reduce, env, vars, order, op, seen, out)?,
            None => self.arg_reduce(nest, reduce, env, vars, order, seen, out)?,
        };
        let acc = self.local(acc);
        let mut store = Vec::new();
        let value = self.finished(nest, env, acc, &mut store)?;
        store.push(Stmt::Store { buffer: at.buffer, index: at.offset, value });
        let Some(otherwise) = reduce.otherwise else {
            out.extend(store);
            return Ok(());
        };
        let condition = match seen {
            Some(seen) => self.local(seen),
            None => self.none_empty(reduce.axes.iter().map(|axis| &axis.extent)),
        };
        if self.as_bool(condition) == Some(true) {
            out.extend(store);
            return Ok(());
        }
        let outer = Env { conditional: true, ..env.clone() };
        let mut empty = Vec::new();
        let value = self.eval(&outer, &[otherwise])?.checked(&mut empty);
        empty.push(Stmt::Store { buffer: at.buffer, index: at.offset, value });
        out.push(Stmt::If { condition, then: store, otherwise: empty });
        Ok(())
    }

    fn declare(&mut self, name: &str, dtype: DType, value: Literal, out: &mut Vec<Stmt>) -> Local {
        let local = self.new_local(name, dtype);
        let value = self.scalar(Scalar::Const(value), dtype);
        out.push(Stmt::Set { local, value });
        local
    }

    /// Reduces into a local with an operation.
    fn accumulate(
        &mut self,
        nest: &Nest<'_>,
        reduce: &Reduce,
        env: &mut Env<'_>,
        vars: &[Option<LoopVar>],
        order: &[usize],
        op: BinaryOp,
        seen: Option<Local>,
        out: &mut Vec<Stmt>,
    ) -> Lowered<Local> {
        let term = nest.exprs.dtype(nest.body);
        let identity = self.identity(reduce.reducer, term);
        let acc = self.new_local("acc", term);
        out.push(Stmt::Set { local: acc, value: identity });
        let pending = nest.exprs.conjuncts(reduce.filter);
        let mask = seen.is_none().then_some(nest.body);
        let body = self.levels(env, order, vars, &pending, mask, &mut |cx, env, masks| {
            let mut body = Vec::new();
            let value = cx.masked(env, nest.body, masks, identity, &mut body)?;
            body.push(Stmt::Reduce { local: acc, op, value });
            if let Some(seen) = seen {
                let value = cx.bool(true);
                body.push(Stmt::Reduce { local: seen, op: BinaryOp::Or, value });
            }
            Ok(body)
        })?;
        out.extend(body);
        Ok(acc)
    }

    /// The term, or the identity where a mask does not hold.
    fn masked(
        &mut self,
        env: &Env<'_>,
        term: ExprId,
        masks: &[ExprId],
        identity: ScalarId,
        out: &mut Vec<Stmt>,
    ) -> Lowered<ScalarId> {
        let value = self.eval(env, &[term])?.checked(out);
        let mut all = self.bool(true);
        for mask in masks {
            let mask = self.eval(env, &[*mask])?.checked(out);
            all = self.and(all, mask);
        }
        Ok(self.select(all, value, identity))
    }

    /// The position of the first greatest or least term; NaN wins.
    fn arg_reduce(
        &mut self,
        nest: &Nest<'_>,
        reduce: &Reduce,
        env: &mut Env<'_>,
        vars: &[Option<LoopVar>],
        order: &[usize],
        seen: Option<Local>,
        out: &mut Vec<Stmt>,
    ) -> Lowered<Local> {
        let term = nest.exprs.dtype(nest.body);
        let nothing = self.zero(term);
        let best = self.new_local("best", term);
        out.push(Stmt::Set { local: best, value: nothing });
        let position = self.declare("position", DType::I64, Literal::Int(0), out);
        let seen = seen.unwrap_or_else(|| self.declare("seen", DType::Bool, Literal::Bool(false), out));
        let pending = nest.exprs.conjuncts(reduce.filter);
        let first = nest.iterate.len();
        let better = if reduce.reducer == Reducer::ArgMax { BinaryOp::Gt } else { BinaryOp::Lt };
        let body = self.levels(env, order, vars, &pending, None, &mut |cx, env, _| {
            let mut body = Vec::new();
            let value = cx.eval(env, &[nest.body])?.checked(&mut body);
            let (so_far, any) = (cx.local(best), cx.local(seen));
            let wins = cx.wins(better, value, so_far);
            let none = cx.not(any);
            let take = cx.or(none, wins);
            let mut linear = cx.int(0);
            for k in first..env.extents.len() {
                let extent = cx.dim(&env.extents[k]);
                linear = cx.mul(linear, extent);
                linear = cx.add(linear, env.index[k]);
            }
            let yes = cx.bool(true);
            let taken = vec![
                Stmt::Set { local: best, value },
                Stmt::Set { local: position, value: linear },
                Stmt::Set { local: seen, value: yes },
            ];
            body.push(Stmt::If { condition: take, then: taken, otherwise: Vec::new() });
            Ok(body)
        })?;
        out.extend(body);
        Ok(position)
    }

    /// Whether a value comes strictly before another: by `better`, or as the first NaN.
    pub(super) fn wins(&mut self, better: BinaryOp, value: ScalarId, other: ScalarId) -> ScalarId {
        let wins = self.binary(better, value, other);
        if !self.func.scalars.dtype(value).is_float() {
            return wins;
        }
        let is_nan = self.binary(BinaryOp::Ne, value, value);
        let other_is_number = self.binary(BinaryOp::Eq, other, other);
        let first_nan = self.and(is_nan, other_is_number);
        self.or(wins, first_nan)
    }

    /// The reduced value after the epilogue.
    fn finished(
        &mut self,
        nest: &Nest<'_>,
        env: &Env<'_>,
        acc: ScalarId,
        out: &mut Vec<Stmt>,
    ) -> Lowered<ScalarId> {
        let Some(finish) = nest.finish else { return Ok(acc) };
        let count = nest.iterate.len();
        let env =
            Env { exprs: &finish.exprs, accumulator: Some(acc), known: Vec::new(), ..env.of_first(count) };
        Ok(self.eval(&env, &[finish.body])?.checked(out))
    }

    /// One result point: all terms, first to last.
    fn unrolled_form(
        &mut self,
        nest: &Nest<'_>,
        reduce: &Reduce,
        env: &mut Env<'_>,
        target: &Target,
        order: &[usize],
    ) -> Lowered<Vec<Stmt>> {
        let op = combiner(reduce.reducer).expect("invariant: positions are reduced locally");
        let extents: Vec<i64> = order.iter().map(|k| env.extents[*k].as_const().unwrap_or(1)).collect();
        let mut body = Vec::new();
        let mut sum = None;
        for point in 0..extents.iter().product() {
            let mut rest = point;
            for (k, extent) in order.iter().zip(&extents).rev() {
                env.index[*k] = self.int(rest % extent);
                rest /= extent;
            }
            let term = self.eval(env, &[nest.body])?.checked(&mut body);
            sum = Some(match sum {
                Some(sum) => self.binary(op, sum, term),
                None => term,
            });
        }
        let sum = sum.expect("invariant: there is a term");
        let value = self.finished(nest, env, sum, &mut body)?;
        let index = self.target_index(env, target);
        body.push(Stmt::Store { buffer: target.buffer, index, value });
        Ok(body)
    }

    /// All points of the lane axis: accumulation is in the result.
    fn across_form(
        &mut self,
        nest: &Nest<'_>,
        reduce: &Reduce,
        env: &mut Env<'_>,
        vars: &[Option<LoopVar>],
        target: &Target,
        order: &[usize],
        lane: usize,
    ) -> Lowered<Vec<Stmt>> {
        let op = combiner(reduce.reducer).expect("invariant: positions are reduced locally");
        let identity = self.identity(reduce.reducer, nest.exprs.dtype(nest.body));
        let index = self.target_index(env, target);
        let init = vec![Stmt::Store { buffer: target.buffer, index, value: identity }];
        let mut body = self.wrap(&[lane], env, vars, init);
        let pending = nest.exprs.conjuncts(reduce.filter);
        let levels: Vec<usize> = order.iter().copied().chain([lane]).collect();
        body.extend(self.levels(env, &levels, vars, &pending, Some(nest.body), &mut |cx, env, masks| {
            let mut body = Vec::new();
            let value = cx.masked(env, nest.body, masks, identity, &mut body)?;
            let index = cx.target_index(env, target);
            let so_far = cx.load(target.buffer, index);
            let value = cx.binary(op, so_far, value);
            body.push(Stmt::Store { buffer: target.buffer, index, value });
            Ok(body)
        })?);
        if nest.finish.is_some() {
            let acc = self.load(target.buffer, index);
            let mut last = Vec::new();
            let value = self.finished(nest, env, acc, &mut last)?;
            last.push(Stmt::Store { buffer: target.buffer, index, value });
            body.extend(self.wrap(&[lane], env, vars, last));
        }
        Ok(body)
    }
}

fn holds_loop(body: &[Stmt]) -> bool {
    body.iter().any(|stmt| match stmt {
        Stmt::For { .. } => true,
        Stmt::If { then, otherwise, .. } => holds_loop(then) || holds_loop(otherwise),
        _ => false,
    })
}

/// Whether a nest may have so many points that threads are worth it; what they cost is for back ends to say.
fn worth_threads(env: &Env<'_>) -> bool {
    let points = Dim::product(&env.extents);
    points.is_ok_and(|points| points.as_const().is_none_or(|points| points >= SMALL_NEST_POINTS))
}
