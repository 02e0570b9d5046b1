//! Positions along one axis as a function of where a result lies: the closed form of a field.
//!
//! The positions that the result at coordinates `p` takes part of are
//!
//! ```text
//! base + sum(linear[c] * p[c]) + advance * (p[x] // period) + rows[p[x] % period]
//! ```
//!
//! where `x` is the one coordinate whose quotient and remainder matter, if any. `rows` are sets of
//! offsets: exact ones, or hulls whose ends may be formulas or open. An open end means that
//! everything up to that end of the axis takes part. The form is closed under composition wherever
//! strides are numbers, so chains of strided, dilated, pooled and transposed steps stay exact.

use super::apply::{apply, apply_table};
use super::offsets::{Offsets, gcd};
pub use super::rows::{Hull, Rows};
use super::rows::{added, around, closed, repeated, shifted, times};
use crate::dim::Dim;
use crate::graph::expr::VarId;
use std::collections::BTreeMap;

/// Longer cycles are not followed.
pub(super) const MAX_PERIOD: i64 = 4096;

/// What a position is a function of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Coord {
    /// An axis of the value.
    Axis(usize),
    /// The position of an enclosing recurrence.
    Var(VarId),
}

/// Quotient and remainder of one coordinate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cycle {
    /// Of which coordinate.
    pub coord: Coord,
    /// The divisor, at least 2.
    pub period: i64,
    /// What each whole period adds.
    pub advance: Dim,
}

/// What is to be said about a field besides its form.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Notes {
    /// Data decide the position.
    pub data: bool,
    /// The true field may be smaller.
    pub bound: bool,
    /// The form holds away from the borders, where positions are folded back into the axis.
    pub border: bool,
}

impl Notes {
    /// Either's.
    pub fn or(self, other: Notes) -> Notes {
        Notes {
            data: self.data || other.data,
            bound: self.bound || other.bound,
            border: self.border || other.border,
        }
    }
}

/// How far a window moves for one position: a fraction of sizes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Jump {
    /// Positions of the input.
    pub advance: Dim,
    /// For so many positions of the output.
    pub period: i64,
}

impl std::fmt::Display for Jump {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.period, self.advance.as_const()) {
            (1, _) => write!(f, "{}", self.advance),
            (period, Some(advance)) => {
                let common = gcd(advance, period).max(1);
                match period / common {
                    1 => write!(f, "{}", advance / common),
                    period => write!(f, "{}/{period}", advance / common),
                }
            }
            (period, None) => write!(f, "({})/{period}", self.advance),
        }
    }
}

/// Positions along one axis; see the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Positions {
    /// Coefficients, none zero.
    pub linear: BTreeMap<Coord, Dim>,
    /// The part of the offset that is a formula; without a constant, and zero beside hulls.
    pub base: Dim,
    /// The coordinate whose remainder matters.
    pub cycle: Option<Cycle>,
    /// As many as the period.
    pub rows: Rows,
    /// What else is to be said.
    pub notes: Notes,
}

impl Positions {
    pub(super) fn still(rows: Rows) -> Positions {
        let (linear, base, notes) = (BTreeMap::new(), Dim::ZERO, Notes::default());
        Positions { linear, base, cycle: None, rows, notes }
    }

    /// Offsets that depend on no coordinate.
    pub fn offsets(offsets: Offsets) -> Positions {
        Positions::still(Rows::Exact(vec![offsets]))
    }

    /// One position.
    pub fn constant(value: &Dim) -> Positions {
        Positions { base: value.clone(), ..Positions::offsets(Offsets::one(0)) }.normalised()
    }

    /// A coordinate.
    pub fn coord(coord: Coord) -> Positions {
        Positions { linear: BTreeMap::from([(coord, Dim::ONE)]), ..Positions::offsets(Offsets::one(0)) }
    }

    /// From `low` to `high`, both included.
    pub fn between(low: Option<Dim>, high: Option<Dim>) -> Positions {
        let consts = (low.as_ref().and_then(Dim::as_const), high.as_ref().and_then(Dim::as_const));
        match consts {
            (Some(low), Some(high)) => Positions::offsets(Offsets::run(low, high)),
            _ => Positions::still(Rows::Hull(vec![Some(Hull { low, high })])).normalised(),
        }
    }

    /// The whole axis.
    pub fn whole() -> Positions {
        Positions::still(Rows::Hull(vec![Some(Hull::OPEN)]))
    }

    /// Anywhere, because the form is not known.
    pub fn unresolved() -> Positions {
        Positions::whole().noting(Notes { bound: true, ..Notes::default() })
    }

    /// Anywhere, because data decide.
    pub fn by_data() -> Positions {
        Positions::whole().noting(Notes { data: true, ..Notes::default() })
    }

    /// With more notes.
    pub fn noting(mut self, notes: Notes) -> Positions {
        self.notes = self.notes.or(notes);
        self
    }

    /// Whether the whole axis takes part.
    pub fn is_whole(&self) -> bool {
        matches!(&self.rows, Rows::Hull(rows) if rows.iter().all(|row| row.as_ref() == Some(&Hull::OPEN)))
    }

    fn period(&self) -> i64 {
        self.cycle.as_ref().map_or(1, |cycle| cycle.period)
    }

    /// Brings the form to its canonical shape.
    pub(super) fn normalised(mut self) -> Positions {
        if self.is_whole() {
            return Positions::whole().noting(self.notes);
        }
        self.linear.retain(|_, coefficient| !coefficient.is(0));
        let constant = constant_term(&self.base);
        let moved = match &self.rows {
            Rows::Exact(rows) => {
                let rows: Option<Vec<Offsets>> = rows.iter().map(|row| row.shift(constant)).collect();
                rows.zip(self.base.sub(&Dim::from(constant)).ok())
                    .map(|(rows, base)| (Rows::Exact(rows), base))
            }
            Rows::Hull(rows) => shifted(rows, &self.base).map(|rows| (closed(rows), Dim::ZERO)),
        };
        let Some((rows, base)) = moved else { return Positions::unresolved().noting(self.notes) };
        self.rows = rows;
        self.base = base;
        self.shortened()
    }

    /// With the shortest period that says the same.
    fn shortened(mut self) -> Positions {
        let Some(cycle) = self.cycle.clone() else { return self };
        for period in (1..cycle.period).filter(|d| cycle.period % d == 0) {
            let Some(advance) = cycle.advance.exact_div(&Dim::from(cycle.period / period)) else { continue };
            let rows = self.rows.first(period as usize);
            let same = repeated(&rows, &advance, period, cycle.period);
            if same.as_ref() != Some(&self.rows) {
                continue;
            }
            self.rows = rows;
            if period == 1 {
                let sum = self.linear.remove(&cycle.coord).unwrap_or(Dim::ZERO).add(&advance);
                let Ok(sum) = sum else { return Positions::unresolved().noting(self.notes) };
                self.cycle = None;
                if !sum.is(0) {
                    self.linear.insert(cycle.coord, sum);
                }
            } else {
                self.cycle = Some(Cycle { period, advance, ..cycle });
            }
            return self;
        }
        self
    }

    /// The same with a longer period of a coordinate, all of whose part is in the cycle.
    fn stretched(&self, coord: Coord, period: i64) -> Option<Positions> {
        let mut long = self.clone();
        let mut advance = Dim::ZERO;
        if let Some(cycle) = &self.cycle {
            if cycle.coord != coord || period % cycle.period != 0 {
                return None;
            }
            long.rows = repeated(&self.rows, &cycle.advance, cycle.period, period)?;
            advance = cycle.advance.mul(&Dim::from(period / cycle.period)).ok()?;
        } else {
            long.rows = repeated(&self.rows, &Dim::ZERO, 1, period)?;
        }
        if let Some(coefficient) = long.linear.remove(&coord) {
            long.rows = long.rows.tilted(&coefficient)?;
            advance = advance.add(&coefficient.mul(&Dim::from(period)).ok()?).ok()?;
        }
        long.cycle = Some(Cycle { coord, period, advance });
        Some(long)
    }

    /// Two forms over one cycle.
    fn over_one_cycle(&self, other: &Positions) -> Option<(Positions, Positions)> {
        let coord = match (&self.cycle, &other.cycle) {
            (None, None) => return Some((self.clone(), other.clone())),
            (Some(cycle), None) | (None, Some(cycle)) => cycle.coord,
            (Some(a), Some(b)) => (a.coord == b.coord).then_some(a.coord)?,
        };
        let (a, b) = (self.period(), other.period());
        let period = a.checked_mul(b)? / gcd(a, b);
        if period > MAX_PERIOD {
            return None;
        }
        Some((self.stretched(coord, period)?, other.stretched(coord, period)?))
    }

    /// Everything that is in either, if one form holds it.
    pub fn join(&self, other: &Positions) -> Option<Positions> {
        let notes = self.notes.or(other.notes);
        for (a, b) in [(self, other), (other, self)] {
            if a.is_whole() || b.is_never() || a.same_form(b) {
                return Some(a.clone().noting(notes));
            }
        }
        self.joined(other).map(|sum| sum.noting(notes))
    }

    fn same_form(&self, other: &Positions) -> bool {
        (&self.rows, &self.linear, &self.cycle, &self.base)
            == (&other.rows, &other.linear, &other.cycle, &other.base)
    }

    fn joined(&self, other: &Positions) -> Option<Positions> {
        let (mut a, b) = self.over_one_cycle(other)?;
        let advances = |p: &Positions| p.cycle.as_ref().map(|cycle| cycle.advance.clone());
        if a.linear != b.linear || advances(&a) != advances(&b) {
            return None;
        }
        a.rows = match (&a.rows, &b.rows) {
            (Rows::Exact(x), Rows::Exact(y)) if a.base == b.base => {
                Rows::Exact(x.iter().zip(y).map(|(x, y)| x.union(y)).collect::<Option<_>>()?)
            }
            _ => {
                let (x, y) = (a.hulls()?, b.hulls()?);
                a.base = Dim::ZERO;
                Rows::Hull(x.into_iter().zip(y).map(|(x, y)| around(x, y)).collect::<Option<_>>()?)
            }
        };
        Some(a.normalised())
    }

    /// The hulls of the rows, with the base in them.
    pub fn hulls(&self) -> Option<Vec<Option<Hull>>> {
        match &self.rows {
            Rows::Hull(rows) => shifted(rows, &self.base),
            Rows::Exact(rows) => {
                let hull = |row: &Offsets| {
                    let end = |v: Option<i64>| v.map(Dim::from);
                    (!row.is_empty()).then(|| Hull { low: end(row.low()), high: end(row.high()) })
                };
                shifted(&rows.iter().map(hull).collect::<Vec<_>>(), &self.base)
            }
        }
    }

    /// The coordinate and what is added to it, if the form is only that.
    pub fn as_shifted_coord(&self) -> Option<(Coord, Dim)> {
        let (coord, coefficient) = self.linear.first_key_value()?;
        let Rows::Exact(rows) = &self.rows else { return None };
        let plain = self.cycle.is_none() && self.linear.len() == 1 && coefficient.is(1);
        let shift = Dim::from(rows.first()?.single()?).add(&self.base).ok()?;
        plain.then_some((*coord, shift))
    }

    /// The coordinate, if the form is only that.
    pub fn as_coord(&self) -> Option<Coord> {
        self.as_shifted_coord().filter(|(_, shift)| shift.is(0)).map(|(coord, _)| coord)
    }

    /// The axes that the window moves with.
    pub fn drivers(&self) -> Vec<usize> {
        let coords = self.linear.keys().copied().chain(self.cycle.iter().map(|cycle| cycle.coord));
        let axis = |coord| match coord {
            Coord::Axis(axis) => Some(axis),
            Coord::Var(_) => None,
        };
        coords.filter_map(axis).collect()
    }

    /// How far the window moves for one position of an axis.
    pub fn jump(&self, axis: usize) -> Option<Jump> {
        let coord = Coord::Axis(axis);
        let linear = self.linear.get(&coord).cloned().unwrap_or(Dim::ZERO);
        match self.cycle.as_ref().filter(|cycle| cycle.coord == coord) {
            None => Some(Jump { advance: linear, period: 1 }),
            Some(cycle) => {
                let advance =
                    linear.mul(&Dim::from(cycle.period)).and_then(|l| l.add(&cycle.advance)).ok()?;
                Some(Jump { advance, period: cycle.period })
            }
        }
    }

    /// The spans of the window: the least and the greatest; `None` where an end is open.
    pub fn sizes(&self) -> Option<(Dim, Dim)> {
        let mut sizes: Option<(Dim, Dim)> = None;
        for hull in self.hulls()? {
            let size = match hull {
                None => Dim::ZERO,
                Some(hull) => hull.high?.sub(&hull.low?).ok()?.add(&Dim::ONE).ok()?,
            };
            sizes = Some(match sizes {
                None => (size.clone(), size),
                Some((least, most)) => (least.minimum(&size).ok()?, most.maximum(&size).ok()?),
            });
        }
        sizes
    }

    /// Whether nothing is ever read.
    pub fn is_never(&self) -> bool {
        match &self.rows {
            Rows::Exact(rows) => rows.iter().all(Offsets::is_empty),
            Rows::Hull(rows) => rows.iter().all(Option::is_none),
        }
    }

    /// All sums of one of each.
    pub fn sum(&self, other: &Positions) -> Option<Positions> {
        let (mut a, b) = self.over_one_cycle(other)?;
        for (coord, coefficient) in b.linear {
            let sum = a.linear.remove(&coord).unwrap_or(Dim::ZERO).add(&coefficient).ok()?;
            a.linear.insert(coord, sum);
        }
        if let (Some(mine), Some(theirs)) = (&mut a.cycle, &b.cycle) {
            mine.advance = mine.advance.add(&theirs.advance).ok()?;
        }
        a.rows = match (&a.rows, &b.rows) {
            (Rows::Exact(x), Rows::Exact(y)) => {
                a.base = a.base.add(&b.base).ok()?;
                Rows::Exact(x.iter().zip(y).map(|(x, y)| x.sum(y)).collect::<Option<_>>()?)
            }
            _ => {
                let (x, y) = (
                    Positions { rows: a.rows.clone(), base: a.base.clone(), ..Positions::whole() }.hulls()?,
                    Positions { rows: b.rows.clone(), base: b.base.clone(), ..Positions::whole() }.hulls()?,
                );
                a.base = Dim::ZERO;
                Rows::Hull(x.into_iter().zip(y).map(|(x, y)| added(x, y)).collect::<Option<_>>()?)
            }
        };
        Some(a.noting(b.notes).normalised())
    }

    /// Each times a size.
    pub fn scale(&self, by: &Dim) -> Option<Positions> {
        let mut scaled = self.clone();
        for coefficient in scaled.linear.values_mut() {
            *coefficient = coefficient.mul(by).ok()?;
        }
        if let Some(cycle) = &mut scaled.cycle {
            cycle.advance = cycle.advance.mul(by).ok()?;
        }
        scaled.base = self.base.mul(by).ok()?;
        let zero = Offsets::one(0);
        scaled.rows = match (&self.rows, by.as_const()) {
            (Rows::Exact(rows), Some(by)) => {
                Rows::Exact(rows.iter().map(|row| row.scale(by)).collect::<Option<_>>()?)
            }
            (Rows::Exact(rows), None) if rows.iter().all(|row| *row == zero) => self.rows.clone(),
            _ => {
                scaled.base = Dim::ZERO;
                Rows::Hull(self.hulls()?.into_iter().map(|hull| times(hull, by)).collect::<Option<_>>()?)
            }
        };
        Some(scaled.normalised())
    }

    /// The positions of `self` where its coordinates are themselves positions of something else.
    pub fn compose(&self, resolve: &dyn Fn(Coord) -> Option<Positions>) -> Positions {
        if self.is_whole() {
            return self.clone();
        }
        self.composed(resolve).unwrap_or_else(Positions::unresolved).noting(self.notes)
    }

    fn composed(&self, resolve: &dyn Fn(Coord) -> Option<Positions>) -> Option<Positions> {
        let mut sum =
            Positions { base: self.base.clone(), ..Positions::offsets(Offsets::one(0)) }.normalised();
        for (coord, coefficient) in &self.linear {
            sum = sum.sum(&resolve(*coord)?.scale(coefficient)?)?;
        }
        match &self.cycle {
            None => sum.sum(&Positions::still(self.rows.clone())),
            Some(cycle) => sum.sum(&apply(cycle, &self.rows, &resolve(cycle.coord)?)?),
        }
    }

    /// `self // by` for a positive number, or the remainder.
    pub fn divided(&self, by: i64, remainder: bool) -> Option<Positions> {
        if by == 1 && !remainder {
            return Some(self.clone());
        }
        if !(1..=MAX_PERIOD).contains(&by) {
            return None;
        }
        let rows = (0..by).map(|r| Offsets::one(if remainder { r } else { 0 })).collect();
        apply_table(by, if remainder { Dim::ZERO } else { Dim::ONE }, Rows::Exact(rows), self)
    }

    /// `self / by` where that leaves no rest; nothing elsewhere.
    pub fn divided_exactly(&self, by: i64) -> Option<Positions> {
        if by < 0 {
            return self.scale(&Dim::from(-1))?.divided_exactly(by.checked_neg()?);
        }
        if by == 1 {
            return Some(self.clone());
        }
        if !(2..=MAX_PERIOD).contains(&by) {
            return None;
        }
        let rows = (0..by).map(|r| if r == 0 { Offsets::one(0) } else { Offsets::EMPTY }).collect();
        apply_table(by, Dim::ONE, Rows::Exact(rows), self)
    }

    /// Everything from the least of `low` to the greatest of `high`; an end that is not given is
    /// open. `None` where the ends do not move together.
    pub fn from_to(low: Option<&Positions>, high: Option<&Positions>) -> Option<Positions> {
        let open = |p: &Positions, keep_low: bool| {
            let hulls = p.hulls()?.into_iter().map(|hull| {
                hull.map(|h| Hull { low: h.low.filter(|_| keep_low), high: h.high.filter(|_| !keep_low) })
            });
            let rows = Rows::Hull(hulls.collect());
            Some(Positions { rows, base: Dim::ZERO, ..p.clone() }.normalised())
        };
        match (low, high) {
            (None, None) => Some(Positions::whole()),
            (Some(low), None) => open(low, true),
            (None, Some(high)) => open(high, false),
            (Some(low), Some(high)) => {
                let (mut a, b) = low.over_one_cycle(high)?;
                let advances = |p: &Positions| p.cycle.as_ref().map(|cycle| cycle.advance.clone());
                if a.linear != b.linear || advances(&a) != advances(&b) {
                    return None;
                }
                let (x, y) = (a.hulls()?, b.hulls()?);
                let row = |(x, y): (Option<Hull>, Option<Hull>)| {
                    x.zip(y).map(|(x, y)| Hull { low: x.low, high: y.high })
                };
                a.base = Dim::ZERO;
                a.rows = Rows::Hull(x.into_iter().zip(y).map(row).collect());
                Some(a.noting(b.notes).normalised())
            }
        }
    }

    /// With ends open where they reach those of an axis of `extent` positions for every `p`.
    pub fn clipped(self, extent: &Dim) -> Positions {
        if !self.linear.is_empty() || self.cycle.is_some() {
            return self;
        }
        let whole = |row: &Offsets| {
            let last = extent.as_const().map(|n| n - 1);
            last.is_some_and(|last| row.runs().iter().any(|(low, high)| *low <= 0 && *high >= last))
        };
        match &self.rows {
            Rows::Exact(rows) if self.base.is(0) => {
                if rows.iter().all(whole) {
                    Positions::whole().noting(self.notes)
                } else {
                    self
                }
            }
            Rows::Exact(_) => self,
            Rows::Hull(rows) => {
                let last = extent.sub(&Dim::ONE).ok();
                let begins = |low: &Dim| low.neg().is_ok_and(|d| d.is_non_negative());
                let ends = |high: &Dim| {
                    last.as_ref().is_some_and(|last| high.sub(last).is_ok_and(|d| d.is_non_negative()))
                };
                let row = |row: &Option<Hull>| {
                    row.as_ref().map(|hull| Hull {
                        low: hull.low.clone().filter(|low| !begins(low)),
                        high: hull.high.clone().filter(|high| !ends(high)),
                    })
                };
                let rows = Rows::Hull(rows.iter().map(row).collect());
                Positions { rows, ..self }.normalised()
            }
        }
    }

    /// `new` with ends open wherever it goes beyond `self`: what a repetition that has just gone
    /// from one to the other can reach.
    pub fn widened(&self, new: &Positions) -> Positions {
        let beyond = || {
            let (old, new) = self.over_one_cycle(new)?;
            let cycles = |p: &Positions| p.cycle.as_ref().map(|cycle| cycle.advance.clone());
            if old.linear != new.linear || cycles(&old) != cycles(&new) {
                return None;
            }
            let grown = |old: Option<Hull>, new: Option<Hull>| {
                let (Some(old), Some(new)) = (old, new.clone()) else { return new };
                let keep = |a: &Option<Dim>, b: Option<Dim>| if *a == b { b } else { None };
                Some(Hull { low: keep(&old.low, new.low), high: keep(&old.high, new.high) })
            };
            let rows = old.hulls()?.into_iter().zip(new.hulls()?).map(|(a, b)| grown(a, b)).collect();
            Some(Positions { rows: Rows::Hull(rows), base: Dim::ZERO, ..new }.normalised())
        };
        if self == new {
            new.clone()
        } else {
            beyond().unwrap_or_else(Positions::unresolved).noting(new.notes)
        }
    }
}

/// The constant of a polynomial.
fn constant_term(dim: &Dim) -> i64 {
    let constant = dim.term_list().into_iter().find(|(monomial, _)| monomial.is_empty());
    constant.map_or(0, |(_, value)| value)
}

#[cfg(test)]
mod tests;
