//! Where an index op reads, as positions over the axes of its result.
//!
//! Iterate indices are the coordinates, taken apart where several make up one axis. A reduced index
//! ranges over its axis, unless the conditions under which the read happens tie it to others: an
//! affine equality fixes it, an affine inequality bounds it, and `abs(u) <= w` is two of those.
//! Conditions on data are passed over, which can only make the answer larger.

use super::conditions::{Conditions, Constraint, Known};
use super::domain::{Bound, Domain};
use super::positions::{Coord, Notes, Positions};
use crate::dim::Dim;
use crate::graph::affine::{Affine, Leaf, Ranges, affine};
use crate::graph::expr::{Expr, ExprId, Read};
use crate::graph::ir::{Index, TensorType};
use crate::ops::scalar::{BinaryOp, UnaryOp};
use crate::passes::fuse::axis_groups;
use std::collections::BTreeMap;

/// A read of an operand.
#[derive(Debug)]
pub struct Site {
    /// Which operand.
    pub port: u32,
    index: Vec<ExprId>,
    known: Known,
}

/// The reads of one index op.
pub struct Reader<'a> {
    pub(super) index: &'a Index,
    ranges: &'a Ranges,
    points: Vec<Positions>,
}

/// Each iterate index as a function of the axes of the result.
fn points(index: &Index, shape: &[Dim]) -> Vec<Positions> {
    let all = |extent: &Dim| {
        let notes = Notes { bound: true, ..Notes::default() };
        Positions::between(Some(Dim::ZERO), extent.sub(&Dim::ONE).ok()).noting(notes)
    };
    let Some(groups) = axis_groups(&index.iterate, shape) else {
        return index.iterate.iter().map(|axis| all(&axis.extent)).collect();
    };
    let mut points = Vec::new();
    for (axis, group) in groups.into_iter().enumerate() {
        let mut inner = Dim::ONE;
        let mut parts = Vec::new();
        let members = &index.iterate[group];
        let first = members.iter().position(|m| !m.extent.is(1));
        for (k, member) in members.iter().enumerate().rev() {
            let whole = Positions::coord(Coord::Axis(axis));
            let point = match (member.extent.as_const(), inner.as_const()) {
                (Some(1), _) => Some(Positions::constant(&Dim::ZERO)),
                (_, Some(by)) if first == Some(k) => whole.divided(by, false),
                (Some(n), Some(by)) => whole.divided(by, false).and_then(|p| p.divided(n, true)),
                _ => None,
            };
            parts.push(point.unwrap_or_else(|| all(&member.extent)));
            inner = inner.mul(&member.extent).unwrap_or_else(|_| inner.clone());
        }
        points.extend(parts.into_iter().rev());
    }
    points
}

impl<'a> Reader<'a> {
    /// Of an op whose result has this shape.
    pub fn new(index: &'a Index, shape: &[Dim], ranges: &'a Ranges) -> Self {
        Reader { index, ranges, points: points(index, shape) }
    }

    /// All reads; `supports` says for each operand where it may be other than zero.
    pub fn sites(&self, supports: &[&Domain]) -> Vec<Site> {
        let factors = self.factors(supports);
        let site = |(id, conditions): (ExprId, Conditions)| match self.index.exprs.get(id) {
            Expr::Read(Read { port, index, .. }) => {
                let mut known = self.known(&conditions);
                if let Some(factors) = &factors[id.0 as usize] {
                    known.constraints.extend(factors.iter().cloned());
                }
                Some(Site { port: *port, index: index.clone(), known })
            }
            _ => None,
        };
        self.conditions().into_iter().filter_map(site).collect()
    }

    /// What is known, over the axes of the result.
    pub(super) fn over_axes(&self, known: &Known) -> Domain {
        let mut domain = Domain { partial: known.partial, ..Domain::new() };
        for constraint in &known.constraints {
            let (Constraint::Zero(form) | Constraint::NotNegative(form)) = constraint;
            let zero = matches!(constraint, Constraint::Zero(_));
            let range = self.ranges.of_affine(&self.index.exprs, form);
            if !zero && range.low.is_some_and(|low| low.is_non_negative()) {
                continue;
            }
            match self.bound(form, zero) {
                Some(bound) => domain.add(bound),
                // What reduced indices must fulfil is no matter of the result's place.
                None => domain.partial |= !form.terms.keys().any(|leaf| self.is_reduced(*leaf)),
            }
        }
        domain
    }

    fn is_reduced(&self, leaf: Leaf) -> bool {
        match leaf {
            Leaf::Index(k) => k as usize >= self.points.len(),
            Leaf::Var(_) => false,
            Leaf::Opaque(id) => {
                self.has(id, &|expr| matches!(expr, Expr::Index(k) if *k as usize >= self.points.len()))
            }
        }
    }

    /// Where a site reads an operand of a type as far as the operand takes part of an input there,
    /// over the axes of the result; and where in the result that matters. `None` if nowhere.
    pub fn at(&self, site: &Site, ty: &TensorType, domain: &Domain) -> Option<(Vec<Positions>, Domain)> {
        let mut known = site.known.clone();
        known.partial |= domain.partial;
        for bound in &domain.bounds {
            match self.substituted(bound, &site.index) {
                Some(constraint) => known.constraints.push(constraint),
                None => known.partial = true,
            }
        }
        let negative = |d: &Dim| d.neg().and_then(|d| d.sub(&Dim::ONE)).is_ok_and(|d| d.is_non_negative());
        let impossible = |(Constraint::Zero(form) | Constraint::NotNegative(form)): &Constraint| {
            self.ranges.of_affine(&self.index.exprs, form).high.as_ref().is_some_and(negative)
        };
        if known.constraints.iter().any(impossible) {
            return None;
        }
        let axis = |(at, extent): (&ExprId, &Dim)| {
            let positions = self.expr(*at, Some(extent), &known.constraints);
            let positions = positions.unwrap_or_else(Positions::unresolved).clipped(extent);
            let reduced = self.has(*at, &|e| matches!(e, Expr::Index(k) if *k as usize >= self.points.len()));
            positions.noting(Notes { bound: known.partial && reduced, ..Notes::default() })
        };
        let positions: Vec<Positions> = site.index.iter().zip(&ty.shape).map(axis).collect();
        (!positions.iter().any(Positions::is_never)).then(|| (positions, self.over_axes(&known)))
    }

    /// A bound on the axes of an operand where it is read.
    pub(super) fn substituted(&self, bound: &Bound, index: &[ExprId]) -> Option<Constraint> {
        let mut form = Affine::constant(bound.constant.clone());
        for (coord, coefficient) in &bound.terms {
            let leaf = match coord {
                Coord::Axis(axis) => affine(&self.index.exprs, *index.get(*axis)?)?,
                Coord::Var(var) => {
                    Affine { constant: Dim::ZERO, terms: BTreeMap::from([(Leaf::Var(*var), Dim::ONE)]) }
                }
            };
            form = form.add(&leaf.scale(coefficient)?)?;
        }
        Some(if bound.zero { Constraint::Zero(form) } else { Constraint::NotNegative(form) })
    }

    /// A form over the axes of the result, if it is one.
    fn bound(&self, form: &Affine, zero: bool) -> Option<Bound> {
        let mut bound = Bound { terms: BTreeMap::new(), constant: form.constant.clone(), zero };
        for (leaf, coefficient) in &form.terms {
            let coord = match leaf {
                Leaf::Index(k) => self.points.get(*k as usize)?.as_coord()?,
                Leaf::Var(var) => Coord::Var(*var),
                Leaf::Opaque(_) => return None,
            };
            bound.terms.insert(coord, coefficient.clone());
        }
        Some(bound)
    }

    /// The positions that an index expression takes; `extent` is that of the axis it reads.
    fn expr(&self, id: ExprId, extent: Option<&Dim>, constraints: &[Constraint]) -> Option<Positions> {
        self.form(&affine(&self.index.exprs, id)?, extent, constraints)
    }

    fn form(&self, form: &Affine, extent: Option<&Dim>, constraints: &[Constraint]) -> Option<Positions> {
        let mut sum = Positions::constant(&form.constant);
        for (leaf, coefficient) in &form.terms {
            let part = match leaf {
                Leaf::Index(k) => self.point(*k as usize, constraints),
                Leaf::Var(var) => Positions::coord(Coord::Var(*var)),
                Leaf::Opaque(id) => self.opaque(*id, extent, constraints)?,
            };
            sum = sum.sum(&part.scale(coefficient)?)?;
        }
        Some(sum)
    }

    fn opaque(&self, id: ExprId, extent: Option<&Dim>, constraints: &[Constraint]) -> Option<Positions> {
        let exprs = &self.index.exprs;
        let inner = |id: ExprId| self.expr(id, extent, constraints);
        let border = Notes { border: true, ..Notes::default() };
        match exprs.get(id) {
            Expr::Read(_) => Some(Positions::by_data()),
            Expr::Unary(UnaryOp::Abs, a) => Some(inner(*a)?.noting(border)),
            Expr::Binary(op @ (BinaryOp::FloorDiv | BinaryOp::Mod), a, b) => {
                let by = affine(exprs, *b).filter(|by| by.terms.is_empty())?.constant;
                let remainder = *op == BinaryOp::Mod;
                if remainder && extent == Some(&by) && self.wraps(*a, &by) {
                    return Some(inner(*a)?.noting(border));
                }
                if self.ranges.of(exprs, *a).is_within(&by) {
                    return if remainder { inner(*a) } else { Some(Positions::constant(&Dim::ZERO)) };
                }
                let (form, by) = reduced(affine(exprs, *a)?, by, remainder);
                self.form(&form, extent, constraints)?.divided(by.as_const()?, remainder)
            }
            Expr::Binary(BinaryOp::Min | BinaryOp::Max, a, b) => {
                let (a, b) = (inner(*a)?, inner(*b)?);
                let moves = |p: &Positions| !p.linear.is_empty() || p.cycle.is_some();
                Some(match (moves(&a), moves(&b)) {
                    (true, false) => a.noting(border),
                    (false, true) => b.noting(border),
                    _ => a.join(&b)?.noting(Notes { bound: true, ..border }),
                })
            }
            Expr::Select(_, a, b) => inner(*a)?.join(&inner(*b)?),
            _ if self.has_read(id) => Some(Positions::by_data()),
            _ => None,
        }
    }

    /// Whether an expression covers an axis of `by` positions about once, so that its remainder
    /// only folds back what lies beyond the borders.
    fn wraps(&self, id: ExprId, by: &Dim) -> bool {
        let range = self.ranges.of(&self.index.exprs, id);
        let beyond = range.high.zip(range.low).and_then(|(high, low)| high.sub(&low).ok()?.sub(by).ok());
        beyond.is_some_and(|beyond| {
            let by = by.as_const().unwrap_or(i64::MAX);
            beyond.as_const().is_some_and(|beyond| beyond < by)
        })
    }

    pub(super) fn has_read(&self, id: ExprId) -> bool {
        self.has(id, &|expr| matches!(expr, Expr::Read(_)))
    }

    fn has_index(&self, id: ExprId, k: u32) -> bool {
        self.has(id, &|expr| *expr == Expr::Index(k))
    }

    fn has(&self, id: ExprId, wanted: &dyn Fn(&Expr) -> bool) -> bool {
        self.index.exprs.contain(&[id], wanted)
    }

    fn point(&self, k: usize, constraints: &[Constraint]) -> Positions {
        if let Some(point) = self.points.get(k) {
            return point.clone();
        }
        let axes = self.index.reduce.iter().flat_map(|reduce| &reduce.axes);
        let Some(axis) = axes.into_iter().nth(k - self.points.len()) else { return Positions::unresolved() };
        let all = Positions::between(Some(Dim::ZERO), axis.extent.sub(&Dim::ONE).ok());
        let (mut low, mut high) = (None, None);
        let mut notes = Notes::default();
        for constraint in constraints {
            let (Constraint::Zero(form) | Constraint::NotNegative(form)) = constraint;
            let own = Leaf::Index(k as u32);
            let opaque = |read: bool| {
                form.terms.keys().any(|leaf| match leaf {
                    Leaf::Opaque(id) if read => self.has_read(*id),
                    Leaf::Opaque(id) => self.has_index(*id, k as u32),
                    _ => false,
                })
            };
            // What data decide may hold for any of them.
            if opaque(true) {
                continue;
            }
            notes.bound |= opaque(false);
            let Some(by) = form.terms.get(&own) else { continue };
            let mut rest = form.clone();
            rest.terms.remove(&own);
            // Other reduced indices take all their values here.
            let rest = self.form(&rest, None, &[]);
            let (Some(by), Some(rest)) = (by.as_const(), rest) else {
                notes.bound = true;
                continue;
            };
            match constraint {
                Constraint::Zero(_) => {
                    if let Some(exact) = rest.scale(&Dim::from(-1)).and_then(|p| p.divided_exactly(by)) {
                        return exact;
                    }
                }
                Constraint::NotNegative(_) if by > 0 => {
                    let bound = rest.divided(by, false).and_then(|p| p.scale(&Dim::from(-1)));
                    low = tighter(low, bound, true);
                }
                Constraint::NotNegative(_) => {
                    let bound = by.checked_neg().and_then(|by| rest.divided(by, false));
                    high = tighter(high, bound, false);
                }
            }
        }
        let bounded = match (&low, &high) {
            (None, None) => Some(all.clone()),
            _ => Positions::from_to(low.as_ref(), high.as_ref()),
        };
        notes.bound |= bounded.is_none();
        bounded.unwrap_or(all).noting(notes)
    }
}

/// The bound that leaves less, where that can be told; else the first.
fn tighter(known: Option<Positions>, new: Option<Positions>, low: bool) -> Option<Positions> {
    let (Some(a), Some(b)) = (&known, &new) else { return known.or(new) };
    // What lies between the two is empty if the new one is the looser.
    let order = if low { Positions::from_to(Some(b), Some(a)) } else { Positions::from_to(Some(a), Some(b)) };
    let is_looser = |positions: Positions| match positions.hulls() {
        Some(rows) => {
            rows.iter().flatten().all(|hull| {
                let span = hull.high.as_ref().zip(hull.low.as_ref()).and_then(|(h, l)| h.sub(l).ok());
                span.is_some_and(|span| span.is_non_negative())
            }) && !positions.is_never()
        }
        None => true,
    };
    if order.is_none_or(is_looser) { known } else { new }
}

/// A form and a divisor without the formula they have in common: `(H*i)//(2*H)` is `i//2`.
fn reduced(form: Affine, by: Dim, remainder: bool) -> (Affine, Dim) {
    let common = match by.terms() {
        [(_, content)] if !remainder => by.exact_div(&Dim::from(*content)),
        _ => None,
    };
    let divided = common.and_then(|common| {
        let constant = form.constant.exact_div(&common)?;
        let terms = form.terms.iter().map(|(leaf, c)| Some((*leaf, c.exact_div(&common)?)));
        Some((Affine { constant, terms: terms.collect::<Option<_>>()? }, by.exact_div(&common)?))
    });
    divided.unwrap_or((form, by))
}
