//! Splitting a loop where a comparison of its index changes.
//!
//! `for l in 0..L` over `select(0 <= l + k - 1 and l + k - 1 < T, x[..], 0)` becomes three loops:
//! before, inside and after the range where the comparisons hold. In each they are known, so the
//! predicates are gone and the loops run in lanes. Only comparisons between what steps by one and
//! what stands still are taken, with one lower and one upper threshold at most.
//!
//! A predicate that the index does not enter becomes a branch around the loop where lanes become
//! possible by that: the rows of a border are copied without a look at each element.

use super::FuncCx;
use super::schedule::Step;
use crate::dtype::DType;
use crate::loops::ir::{LoopKind, LoopVar, Scalar, ScalarId, Stmt};
use crate::loops::walk::{map_roots, roots};
use crate::ops::scalar::{BinaryOp, UnaryOp};
use std::collections::{BTreeMap, BTreeSet};

/// Predicates that a loop is put into branches of, at most.
const UNSWITCHED: usize = 2;

/// The comparisons that decide one end of the range.
#[derive(Default)]
struct End {
    /// First index inside, or first one past it.
    threshold: Option<ScalarId>,
    /// The comparisons, and whether each holds inside the range.
    atoms: Vec<(ScalarId, bool)>,
}

impl FuncCx<'_> {
    /// The loop `for var in 0..extent`, in lanes, split where that makes lanes possible.
    pub(super) fn innermost(&mut self, var: LoopVar, extent: ScalarId, body: Vec<Stmt>) -> Vec<Stmt> {
        if let Some(split) = self.split(var, extent, &body) {
            return split;
        }
        self.unswitched(var, extent, body, UNSWITCHED)
    }

    /// The loop in lanes if that can be, if need be behind branches on up to `depth` predicates.
    fn unswitched(&mut self, var: LoopVar, extent: ScalarId, body: Vec<Stmt>, depth: usize) -> Vec<Stmt> {
        let whole = |kind, body| vec![Stmt::For { var, extent, reverse: false, kind, body }];
        if self.in_lanes(&body, var) {
            return whole(LoopKind::Vector, body);
        }
        let condition = if depth == 0 { None } else { self.standing(&body, var) };
        let Some(condition) = condition else { return whole(LoopKind::Serial, body) };
        let zero = self.int(0);
        let [then, otherwise] = [true, false].map(|holds| {
            let part = self.part(var, zero, &body, &BTreeMap::from([(condition, holds)]));
            self.unswitched(var, extent, part, depth - 1)
        });
        if !then.iter().chain(&otherwise).any(holds_lanes) {
            return whole(LoopKind::Serial, body);
        }
        vec![Stmt::If { condition, then, otherwise }]
    }

    /// A predicate of a load that stays the same along a loop.
    fn standing(&self, body: &[Stmt], var: LoopVar) -> Option<ScalarId> {
        let scalars = &self.func.scalars;
        body.iter().flat_map(roots).flat_map(|root| scalars.unknown(root, |_| false)).find_map(|id| {
            let Scalar::Load(_, index) = scalars.get(id) else { return None };
            let Scalar::Select(condition, ..) = scalars.get(*index) else { return None };
            (self.step(*condition, var) == Step::Zero).then_some(*condition)
        })
    }

    fn split(&mut self, var: LoopVar, extent: ScalarId, body: &[Stmt]) -> Option<Vec<Stmt>> {
        let straight = |s: &Stmt| matches!(s, Stmt::Store { .. } | Stmt::Reduce { .. });
        if !body.iter().all(straight) {
            return None;
        }
        let (lower, upper) = self.ends(body, var);
        if lower.atoms.is_empty() && upper.atoms.is_empty() {
            return None;
        }
        let zero = self.int(0);
        let clamp = |cx: &mut Self, at: Option<ScalarId>, least: ScalarId, otherwise: ScalarId| match at {
            Some(at) => {
                let at = cx.binary(BinaryOp::Min, at, extent);
                cx.binary(BinaryOp::Max, at, least)
            }
            None => otherwise,
        };
        // A negative extent must not make a loop run, so the range ends at the extent or at 0.
        let whole = self.binary(BinaryOp::Max, extent, zero);
        let mut out = Vec::new();
        let first = clamp(self, lower.threshold, zero, zero);
        let first = self.named("first", first, &mut out);
        let end = clamp(self, upper.threshold, first, whole);
        let end = self.named("end", end, &mut out);
        // Before the range the upper comparisons stay: they hold only where it is not empty.
        let before = decided(&lower, false);
        let mut inside = decided(&lower, true);
        let mut after = inside.clone();
        inside.extend(decided(&upper, true));
        after.extend(decided(&upper, false));
        for (from, to, known) in [(zero, first, before), (first, end, inside), (end, whole, after)] {
            let count = self.binary(BinaryOp::Sub, to, from);
            if self.as_int(count).is_some_and(|count| count <= 0) {
                continue;
            }
            let part = self.part(var, from, body, &known);
            out.extend(self.unswitched(var, count, part, UNSWITCHED));
        }
        out.iter().any(holds_lanes).then_some(out)
    }

    /// A local for what is more than a leaf.
    fn named(&mut self, name: &str, value: ScalarId, out: &mut Vec<Stmt>) -> ScalarId {
        if self.func.scalars.operands(value).next().is_none() {
            return value;
        }
        let local = self.new_local(name, DType::I64);
        out.push(Stmt::Set { local, value });
        self.local(local)
    }

    /// The body at indices that begin at `from`, with comparisons known.
    fn part(
        &mut self,
        var: LoopVar,
        from: ScalarId,
        body: &[Stmt],
        known: &BTreeMap<ScalarId, bool>,
    ) -> Vec<Stmt> {
        let mut moved: BTreeMap<ScalarId, ScalarId> = BTreeMap::new();
        for (atom, holds) in known {
            let value = self.bool(*holds);
            moved.insert(*atom, value);
        }
        let at = self.var(var);
        let shifted = self.add(from, at);
        moved.insert(at, shifted);
        let mut part = body.to_vec();
        for stmt in &mut part {
            map_roots(stmt, &mut |root| self.substitute(root, &mut moved, Some((at, from))));
        }
        part
    }

    /// The expression over other leaves, folded. `shift` keeps a shifted index last in sums.
    fn substitute(
        &mut self,
        root: ScalarId,
        moved: &mut BTreeMap<ScalarId, ScalarId>,
        shift: Option<(ScalarId, ScalarId)>,
    ) -> ScalarId {
        for id in self.func.scalars.unknown(root, |id| moved.contains_key(&id)) {
            let dtype = self.func.scalars.dtype(id);
            let new = match self.func.scalars.get(id).clone() {
                Scalar::Binary(BinaryOp::Add, a, b) if shift.is_some_and(|(at, _)| at == b) => {
                    let (at, from) = shift.expect("invariant: just seen");
                    let base = self.add(moved[&a], from);
                    self.add(base, at)
                }
                Scalar::Binary(op, a, b) => self.binary(op, moved[&a], moved[&b]),
                Scalar::Select(c, a, b) => self.select(moved[&c], moved[&a], moved[&b]),
                Scalar::Unary(UnaryOp::Not, a) => self.not(moved[&a]),
                scalar => {
                    let scalar = scalar.map_operands(&mut |id| moved[&id]);
                    self.scalar(scalar, dtype)
                }
            };
            moved.insert(id, new);
        }
        moved[&root]
    }

    /// The comparisons of a body that one lower and one upper threshold decide.
    fn ends(&mut self, body: &[Stmt], var: LoopVar) -> (End, End) {
        let mut seen: BTreeSet<ScalarId> = BTreeSet::new();
        for root in body.iter().flat_map(roots) {
            let more = self.func.scalars.unknown(root, |id| seen.contains(&id));
            seen.extend(more);
        }
        let mut found: Vec<(ScalarId, BinaryOp, ScalarId, ScalarId)> = Vec::new();
        for id in seen {
            let Scalar::Binary(op, a, b) = *self.func.scalars.get(id) else { continue };
            let ordered = matches!(op, BinaryOp::Lt | BinaryOp::Le | BinaryOp::Gt | BinaryOp::Ge);
            if !ordered || self.func.scalars.dtype(a) != DType::I64 {
                continue;
            }
            match (self.step(a, var), self.step(b, var)) {
                (Step::One, Step::Zero) if self.is_free_of_loads(&[a, b]) => found.push((id, op, a, b)),
                (Step::Zero, Step::One) if self.is_free_of_loads(&[a, b]) => {
                    found.push((id, mirrored(op), b, a));
                }
                _ => {}
            }
        }
        self.sorted_ends(found, var)
    }

    /// Sorts comparisons under the first lower and the first upper threshold.
    fn sorted_ends(
        &mut self,
        found: Vec<(ScalarId, BinaryOp, ScalarId, ScalarId)>,
        var: LoopVar,
    ) -> (End, End) {
        let (mut lower, mut upper) = (End::default(), End::default());
        let (at, zero, one) = (self.var(var), self.int(0), self.int(1));
        for (id, op, moving, still) in found {
            let mut moved = BTreeMap::from([(at, zero)]);
            let mut base = self.substitute(moving, &mut moved, None);
            let mut still = still;
            if self.wraps && !(self.is_a_sum(base) && self.is_a_sum(still)) {
                (base, still) = (self.cut_off(base), self.cut_off(still));
            }
            let mut threshold = self.binary(BinaryOp::Sub, still, base);
            if matches!(op, BinaryOp::Gt | BinaryOp::Le) {
                threshold = self.add(threshold, one);
            }
            let is_lower = matches!(op, BinaryOp::Ge | BinaryOp::Gt);
            let (mine, other) = if is_lower { (&mut lower, &mut upper) } else { (&mut upper, &mut lower) };
            if other.threshold == Some(threshold) {
                other.atoms.push((id, false));
            } else if mine.threshold.is_none_or(|known| known == threshold) {
                mine.threshold = Some(threshold);
                mine.atoms.push((id, true));
            }
        }
        (lower, upper)
    }

    /// Whether a value is a sum of positions and sizes, which is checked not to wrap where it matters.
    fn is_a_sum(&self, value: ScalarId) -> bool {
        let reached = self.func.scalars.unknown(value, |_| false);
        reached.iter().all(|id| {
            matches!(
                self.func.scalars.get(*id),
                Scalar::Const(_)
                    | Scalar::Dim(_)
                    | Scalar::Var(_)
                    | Scalar::Binary(BinaryOp::Add | BinaryOp::Sub, ..)
            )
        })
    }

    /// The value, or the nearest that is at most 2⁶¹ in size: far beyond all indices, and sums of two
    /// do not wrap.
    pub(super) fn cut_off(&mut self, value: ScalarId) -> ScalarId {
        if self.as_int(value).is_some_and(|known| known.unsigned_abs() <= 1 << 61) {
            return value;
        }
        let (least, greatest) = (self.int(-(1 << 61)), self.int(1 << 61));
        let value = self.binary(BinaryOp::Min, value, greatest);
        self.binary(BinaryOp::Max, value, least)
    }

    fn is_free_of_loads(&self, roots: &[ScalarId]) -> bool {
        roots.iter().all(|root| {
            let reached = self.func.scalars.unknown(*root, |_| false);
            reached.iter().all(|id| !matches!(self.func.scalars.get(*id), Scalar::Load(..)))
        })
    }
}

fn decided(end: &End, inside: bool) -> BTreeMap<ScalarId, bool> {
    end.atoms.iter().map(|(atom, holds)| (*atom, *holds == inside)).collect()
}

fn mirrored(op: BinaryOp) -> BinaryOp {
    match op {
        BinaryOp::Lt => BinaryOp::Gt,
        BinaryOp::Le => BinaryOp::Ge,
        BinaryOp::Gt => BinaryOp::Lt,
        BinaryOp::Ge => BinaryOp::Le,
        other => other,
    }
}

fn holds_lanes(stmt: &Stmt) -> bool {
    match stmt {
        Stmt::For { kind, .. } => *kind == LoopKind::Vector,
        Stmt::If { then, otherwise, .. } => then.iter().chain(otherwise).any(holds_lanes),
        _ => false,
    }
}
