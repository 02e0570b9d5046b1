//! The loops of a reduction with its filter among them.
//!
//! A filter is a conjunction. Each conjunct takes effect at the outermost loop where all its
//! indices are known: as a bound of that loop where it is a comparison that is linear in the loop's
//! index (`s <= t`), as a mask of the term where the term is safe to evaluate anyway, and as a
//! branch otherwise. A conjunct that may itself fail keeps its place in the order of evaluation.

use super::bounds::Fact;
use super::expr::Env;
use super::schedule::uses_any;
use super::{FuncCx, Lowered};
use crate::dim::Dim;
use crate::graph::affine::{Affine, Leaf};
use crate::graph::expr::{Expr, ExprId};
use crate::loops::ir::{LoopKind, LoopVar, ScalarId, Stmt};
use crate::ops::scalar::BinaryOp;

/// What the innermost loop does, given the masks that it is to apply.
pub(super) type Inner<'f> = dyn FnMut(&mut FuncCx<'_>, &Env<'_>, &[ExprId]) -> Lowered<Vec<Stmt>> + 'f;

/// A conjunct as bounds of one loop, both inclusive.
struct Bound {
    condition: ExprId,
    least: Vec<Affine>,
    greatest: Vec<Affine>,
    /// Sizes that must not wrap for that.
    assumed: Vec<Dim>,
}

impl FuncCx<'_> {
    /// Loops over `levels`, outermost first, with the conditions `pending`. `mask` is the term
    /// that a condition may mask; without it conditions are branches.
    pub(super) fn levels(
        &mut self,
        env: &mut Env<'_>,
        levels: &[usize],
        vars: &[Option<LoopVar>],
        pending: &[ExprId],
        mask: Option<ExprId>,
        inner: &mut Inner<'_>,
    ) -> Lowered<Vec<Stmt>> {
        let ready = self.ready(env, levels, pending);
        if let Some(first) = ready.first() {
            let all_safe = self.cannot_fail(env, &ready) && ready.len() == pending.len();
            if levels.is_empty() && all_safe && mask.is_some_and(|term| self.cannot_fail(env, &[term])) {
                return inner(self, env, &ready);
            }
            let rest: Vec<ExprId> = pending.iter().copied().filter(|c| c != first).collect();
            let mut out = Vec::new();
            let condition = self.eval(env, &[*first])?.checked(&mut out);
            env.known.push((*first, true));
            let then = self.levels(env, levels, vars, &rest, mask, inner)?;
            env.known.pop();
            match self.as_bool(condition) {
                Some(true) => out.extend(then),
                Some(false) => {}
                None => out.push(Stmt::If { condition, then, otherwise: Vec::new() }),
            }
            return Ok(out);
        }
        let Some((axis, rest)) = levels.split_first() else { return inner(self, env, &[]) };
        let Some(var) = vars[*axis] else { return self.levels(env, rest, vars, pending, mask, inner) };
        self.level(env, (*axis, var), rest, vars, pending, mask, inner)
    }

    /// One loop, with the conditions that bound it.
    fn level(
        &mut self,
        env: &mut Env<'_>,
        (axis, var): (usize, LoopVar),
        rest: &[usize],
        vars: &[Option<LoopVar>],
        pending: &[ExprId],
        mask: Option<ExprId>,
        inner: &mut Inner<'_>,
    ) -> Lowered<Vec<Stmt>> {
        // What may fail is evaluated where it stands, so nothing behind it may decide earlier.
        let sure = pending.iter().take_while(|c| self.cannot_fail(env, &[**c]));
        let bounds: Vec<Bound> = sure.filter_map(|c| self.bound(env, *c, axis, rest)).collect();
        let extent = env.extents[axis].clone();
        let (first, count) = self.trip(env, &bounds, &extent)?;
        let saved = env.index[axis];
        let step = self.var(var);
        env.index[axis] = self.add(first, step);
        let facts = env.known.len();
        env.known.extend(bounds.iter().map(|b| (b.condition, true) as Fact));
        let left: Vec<ExprId> =
            pending.iter().copied().filter(|c| bounds.iter().all(|b| b.condition != *c)).collect();
        let body = self.levels(env, rest, vars, &left, mask, inner)?;
        env.known.truncate(facts);
        env.index[axis] = saved;
        if rest.is_empty() {
            return Ok(self.innermost(var, count, body));
        }
        Ok(vec![Stmt::For { var, extent: count, reverse: false, kind: LoopKind::Serial, body }])
    }

    /// The conditions that involve none of the loops to come, as far as their order allows.
    fn ready(&self, env: &Env<'_>, levels: &[usize], pending: &[ExprId]) -> Vec<ExprId> {
        let mut ready = Vec::new();
        let (mut waits, mut may_fail) = (false, false);
        let runs = levels.iter().all(|k| env.extents[*k].range().0.is_some_and(|low| low > 0));
        for condition in pending {
            let free = !uses_any(env, *condition, levels);
            let sure = self.cannot_fail(env, &[*condition]);
            // Over nothing no condition is evaluated, so none may fail.
            if free && (if sure { !may_fail } else { !waits && runs }) {
                ready.push(*condition);
            } else {
                waits = true;
                may_fail = may_fail || !sure;
            }
        }
        ready
    }

    /// A condition as bounds of the loop over `axis`, if it is linear in it and safe to evaluate
    /// outside that loop.
    fn bound(&self, env: &Env<'_>, condition: ExprId, axis: usize, inside: &[usize]) -> Option<Bound> {
        let Expr::Binary(op, a, b) = env.exprs.get(condition) else { return None };
        let linear = matches!(op, BinaryOp::Lt | BinaryOp::Le | BinaryOp::Gt | BinaryOp::Ge | BinaryOp::Eq);
        if !linear || uses_any(env, condition, inside) || !self.cannot_fail(env, &[*a, *b]) {
            return None;
        }
        let known = self.bounds(env).known(&[(condition, true)]);
        let mut bound = Bound { condition, least: Vec::new(), greatest: Vec::new(), assumed: known.assumed };
        for mut form in known.forms {
            let coefficient = form.terms.remove(&Leaf::Index(axis as u32))?;
            let opaque = |leaf: &Leaf| match leaf {
                Leaf::Opaque(id) => uses_any(env, *id, &[axis]) || !self.cannot_fail(env, &[*id]),
                _ => false,
            };
            if form.terms.keys().any(opaque) {
                return None;
            }
            match coefficient.as_const()? {
                1 => bound.least.push(form.scale(&Dim::from(-1))?),
                -1 => bound.greatest.push(form),
                _ => return None,
            }
        }
        (!bound.least.is_empty() || !bound.greatest.is_empty()).then_some(bound)
    }

    /// First index and number of points of a bounded loop.
    fn trip(&mut self, env: &Env<'_>, bounds: &[Bound], extent: &Dim) -> Lowered<(ScalarId, ScalarId)> {
        let (mut first, mut end) = (self.int(0), self.dim(extent));
        for bound in bounds {
            self.assume(bound.assumed.iter().cloned());
            for form in &bound.least {
                let least = self.affine_value(env, form)?;
                first = self.binary(BinaryOp::Max, first, least);
            }
            for form in &bound.greatest {
                let greatest = self.affine_value(env, form)?;
                let one = self.int(1);
                let after = self.add(greatest, one);
                end = self.binary(BinaryOp::Min, end, after);
            }
        }
        let count = self.binary(BinaryOp::Sub, end, first);
        Ok((first, count))
    }

    /// A bound of a loop. What has no bounds itself is cut off far beyond all indices, so that nothing
    /// that is computed from it wraps.
    fn affine_value(&mut self, env: &Env<'_>, form: &Affine) -> Lowered<ScalarId> {
        let mut sum = self.dim(&form.constant);
        for (leaf, coefficient) in &form.terms {
            let value = match leaf {
                Leaf::Index(k) => env.index[*k as usize],
                Leaf::Var(var) => self.positions[var].scalar,
                Leaf::Opaque(id) => {
                    let value = self.eval(env, &[*id])?.values[0];
                    if self.bounds(env).is_bounded(*leaf) { value } else { self.cut_off(value) }
                }
            };
            let coefficient = self.dim(coefficient);
            let term = self.mul(value, coefficient);
            sum = self.add(sum, term);
        }
        Ok(sum)
    }
}
