//! Functions of a quotient and remainder, where their argument is itself a form.

use super::offsets::{Offsets, gcd};
use super::positions::{Coord, Cycle, MAX_PERIOD, Positions};
use super::rows::{Hull, Rows};
use crate::dim::Dim;

/// The function `advance * (q // period) + rows[q % period]` at the positions `q`.
pub(super) fn apply(cycle: &Cycle, rows: &Rows, q: &Positions) -> Option<Positions> {
    apply_table(cycle.period, cycle.advance.clone(), rows.clone(), q)
}

pub(super) fn apply_table(period: i64, advance: Dim, rows: Rows, q: &Positions) -> Option<Positions> {
    if let Rows::Hull(hulls) = &rows {
        return open_side(hulls, |rows| apply_table(period, advance.clone(), rows, q));
    }
    if let Rows::Hull(hulls) = &q.rows {
        let whole = q.is_whole();
        let sided = |exact| {
            apply_table(period, advance.clone(), rows.clone(), &Positions { rows: exact, ..q.clone() })
        };
        return if whole { Some(q.clone()) } else { open_side(hulls, sided) };
    }
    let (Rows::Exact(table), Rows::Exact(taken)) = (&rows, &q.rows) else { return None };
    let (by, step) = (Dim::from(period), advance.as_const()?);
    let mut result =
        Positions { base: q.base.exact_div(&by)?.mul(&advance).ok()?, notes: q.notes, ..Positions::whole() };
    let mut moving: Option<(Coord, i64)> = q.cycle.as_ref().map(|cycle| (cycle.coord, 0));
    for (coord, coefficient) in &q.linear {
        let own = q.cycle.as_ref().is_some_and(|cycle| cycle.coord == *coord);
        if let (false, Some(whole)) = (own, coefficient.exact_div(&by)) {
            result.linear.insert(*coord, whole.mul(&advance).ok()?);
        } else if moving.is_none_or(|(known, _)| known == *coord) {
            moving = Some((*coord, coefficient.as_const()?));
        } else {
            return None;
        }
    }
    let at =
        |q: i64| table.get(q.rem_euclid(period) as usize)?.shift(step.checked_mul(q.div_euclid(period))?);
    let all = |set: &Offsets, shift: i64| {
        let values: Option<Vec<Offsets>> = set.shift(shift)?.iter()?.map(at).collect();
        Offsets::union_of(values?)
    };
    let Some((coord, slope)) = moving else {
        result.rows = Rows::Exact(vec![all(taken.first()?, 0)?]);
        return Some(result.normalised());
    };
    let (own, own_step) = match &q.cycle {
        Some(cycle) => (cycle.period, cycle.advance.as_const()?),
        None => (1, 0),
    };
    let round = slope.checked_mul(own)?.checked_add(own_step)?;
    let turns = period / gcd(round, period).max(1);
    let long = own.checked_mul(turns).filter(|n| *n <= MAX_PERIOD)?;
    let row = |r: i64| {
        let shift = slope.checked_mul(r)?.checked_add(own_step.checked_mul(r / own)?)?;
        all(taken.get((r % own) as usize)?, shift)
    };
    result.rows = Rows::Exact((0..long).map(row).collect::<Option<_>>()?);
    let whole = round.checked_mul(turns)? / period;
    if long == 1 {
        let sum = result.linear.remove(&coord).unwrap_or(Dim::ZERO);
        result.linear.insert(coord, sum.add(&advance.mul(&Dim::from(whole)).ok()?).ok()?);
    } else {
        result.cycle = Some(Cycle { coord, period: long, advance: advance.mul(&Dim::from(whole)).ok()? });
    }
    Some(result.normalised())
}

/// Works with the closed ends of hulls as exact rows and opens the other ends again. The table is
/// taken to be monotone, as quotients and the fields made of them are.
pub(super) fn open_side(
    hulls: &[Option<Hull>],
    work: impl Fn(Rows) -> Option<Positions>,
) -> Option<Positions> {
    let side = |pick: &dyn Fn(&Hull) -> Option<Dim>| -> Option<Option<Positions>> {
        let ends: Vec<Option<Dim>> = hulls.iter().map(|hull| hull.as_ref().and_then(pick)).collect();
        let filled = hulls.iter().filter(|hull| hull.is_some()).count();
        match ends.iter().flatten().count() {
            0 => Some(None),
            n if n == filled => {
                let rows = ends.iter().map(|end| match end {
                    Some(end) => end.as_const().map(Offsets::one),
                    None => Some(Offsets::EMPTY),
                });
                work(Rows::Exact(rows.collect::<Option<_>>()?)).map(Some)
            }
            _ => None,
        }
    };
    let (low, high) = (side(&|h| h.low.clone())?, side(&|h| h.high.clone())?);
    Positions::from_to(low.as_ref(), high.as_ref())
}
