//! Which loop runs where: what may run in lanes, and how a reduction is nested.
//!
//! A reduction has three forms. *Local*: for each result point a local accumulates, and the
//! innermost loop is a reduced axis; it runs in lanes if all reads step by one along it. *Across*:
//! the fastest result axis is innermost, accumulation is in the result itself, and the reduced
//! axes run outside it; this is the form of sums over a slow axis and of short filters. *Unrolled*: the
//! same with all terms in one expression, where they are few; this is the form of windows.

use super::FuncCx;
use super::expr::Env;
use crate::dim::Dim;
use crate::graph::affine::{Leaf, affine};
use crate::graph::expr::{Expr, ExprId, Read};
use crate::loops::ir::{LoopVar, Scalar, ScalarId, Stmt};
use crate::ops::scalar::BinaryOp;
use std::collections::{BTreeMap, BTreeSet};

/// A reduced axis shorter than this is not worth lanes of its own.
const SHORT_AXIS: i64 = 32;
/// A result axis shorter than this is not worth lanes.
const TINY_AXIS: i64 = 4;
/// The most terms that are written out.
const UNROLLED_TERMS: i64 = 27;
/// Loop nests of known size below this many points are not worth threads.
pub(super) const SMALL_NEST_POINTS: i64 = 1 << 15;

/// How far an address moves as one loop index grows by one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Zero,
    One,
    Other,
}

impl Step {
    fn plus(self, other: Step) -> Step {
        match (self, other) {
            (Step::Zero, step) | (step, Step::Zero) => step,
            _ => Step::Other,
        }
    }
}

/// The form of a reduction.
pub(super) enum Form {
    /// Reduced axes, outermost first.
    Local(Vec<usize>),
    /// Reduced axes, outermost first, and the result axis inside them.
    Across(Vec<usize>, usize),
    /// Reduced axes, outermost first, that have few points together.
    Unrolled(Vec<usize>),
}

/// What decides the form of a reduction.
pub(super) struct Candidate<'a> {
    pub body: ExprId,
    /// Result axes that are loops, and how the result steps along the last.
    pub iterate: &'a [usize],
    pub last_stride: Option<Dim>,
    /// Reduced axes that are loops.
    pub reduce: &'a [usize],
    /// Whether terms may be taken in any order.
    pub reorder: bool,
    /// Whether the result may hold partial values.
    pub across: bool,
    /// Whether every term counts and none needs a check.
    pub plain: bool,
}

impl FuncCx<'_> {
    /// Chooses the form of a reduction.
    pub(super) fn form(&self, env: &Env<'_>, candidate: &Candidate<'_>) -> Form {
        let mut order = candidate.reduce.to_vec();
        if !candidate.reorder {
            return Form::Local(order);
        }
        let long = |k: usize| env.extents[k].as_const().is_none_or(|e| e >= SHORT_AXIS);
        let unit = order.iter().rposition(|k| step_along(env, candidate.body, *k) == Step::One);
        if let Some(at) = unit
            && at + 1 != order.len()
            && (long(order[at]) || !long(order[order.len() - 1]))
        {
            let axis = order.remove(at);
            order.push(axis);
        }
        let in_lanes = order.last().is_some_and(|k| step_along(env, candidate.body, *k) == Step::One);
        let across = candidate.iterate.last().copied().filter(|v| {
            candidate.across
                && candidate.last_stride.as_ref().is_some_and(|stride| stride.is(1))
                && env.extents[*v].as_const().is_none_or(|e| e >= TINY_AXIS)
                && step_along(env, candidate.body, *v) != Step::Other
        });
        match (across, in_lanes) {
            (Some(_), true) if order.last().is_some_and(|k| long(*k)) => Form::Local(order),
            (Some(_), _) if candidate.plain && few(env, &order) => Form::Unrolled(order),
            (Some(v), _) => Form::Across(order, v),
            (None, _) => Form::Local(order),
        }
    }

    /// Whether a loop may and should run in lanes.
    pub(super) fn in_lanes(&self, body: &[Stmt], var: LoopVar) -> bool {
        body.iter().all(|stmt| match stmt {
            Stmt::Store { index, value, .. } => {
                self.step(*index, var) == Step::One && self.loads_in_lanes(*value, var)
            }
            Stmt::Reduce { value, .. } => self.loads_in_lanes(*value, var),
            _ => false,
        })
    }

    pub(super) fn loads_in_lanes(&self, root: ScalarId, var: LoopVar) -> bool {
        let mut seen = BTreeSet::new();
        let mut pending = vec![root];
        while let Some(id) = pending.pop() {
            if !seen.insert(id) {
                continue;
            }
            match self.func.scalars.get(id) {
                Scalar::Load(_, index) => {
                    if self.step(*index, var) == Step::Other {
                        return false;
                    }
                    continue;
                }
                Scalar::Binary(BinaryOp::FloorDiv | BinaryOp::Mod, ..)
                    if self.step(id, var) != Step::Zero =>
                {
                    return false;
                }
                _ => {}
            }
            pending.extend(self.func.scalars.operands(id));
        }
        true
    }

    /// How an expression moves along a loop variable.
    pub(super) fn step(&self, root: ScalarId, var: LoopVar) -> Step {
        let scalars = &self.func.scalars;
        let mut steps: BTreeMap<ScalarId, Step> = BTreeMap::new();
        for id in scalars.unknown(root, |_| false) {
            let step = match scalars.get(id) {
                Scalar::Var(other) if *other == var => Step::One,
                Scalar::Binary(BinaryOp::Add, a, b) => steps[a].plus(steps[b]),
                Scalar::Binary(BinaryOp::Sub, a, b) if steps[b] == Step::Zero => steps[a],
                _ if scalars.operands(id).all(|id| steps[&id] == Step::Zero) => Step::Zero,
                _ => Step::Other,
            };
            steps.insert(id, step);
        }
        steps[&root]
    }
}

/// Whether axes have so few points that all terms can be written out.
fn few(env: &Env<'_>, axes: &[usize]) -> bool {
    let points = Dim::product(axes.iter().map(|k| &env.extents[*k]));
    points.is_ok_and(|points| points.as_const().is_some_and(|points| (2..=UNROLLED_TERMS).contains(&points)))
}

/// How the reads of a body step along an axis: by one somewhere and nowhere else by more, not at
/// all, or otherwise.
fn step_along(env: &Env<'_>, body: ExprId, axis: usize) -> Step {
    let needed = env.exprs.reachable(&[body]);
    let mut found = Step::Zero;
    for (id, expr, _) in env.exprs.iter() {
        let Expr::Read(read) = expr else { continue };
        if !needed[id.0 as usize] || env.is_accumulator(read) {
            continue;
        }
        match read_step(env, read, axis) {
            Step::Zero => {}
            Step::One => found = Step::One,
            Step::Other => return Step::Other,
        }
    }
    found
}

fn read_step(env: &Env<'_>, read: &Read, axis: usize) -> Step {
    let place = &env.ports[read.port as usize];
    let mut step = Dim::ZERO;
    for (index, stride) in read.index.iter().zip(&place.strides) {
        let Some(form) = affine(env.exprs, *index) else { return Step::Other };
        let hidden = form.terms.keys().any(|leaf| match leaf {
            Leaf::Opaque(id) => uses_any(env, *id, &[axis]),
            _ => false,
        });
        let moved = form.coefficient(Leaf::Index(axis as u32)).mul(stride).and_then(|d| step.add(&d));
        match moved {
            Ok(sum) if !hidden => step = sum,
            _ => return Step::Other,
        }
    }
    match step.as_const() {
        Some(0) => Step::Zero,
        Some(1) => Step::One,
        _ => Step::Other,
    }
}

/// Whether an expression involves any of some indices.
pub(super) fn uses_any(env: &Env<'_>, id: ExprId, axes: &[usize]) -> bool {
    env.exprs.contain(&[id], |expr| matches!(expr, Expr::Index(k) if axes.contains(&(*k as usize))))
}
