//! The rows of a form: sets of offsets, exact or by their ends, one for each remainder.

use super::offsets::Offsets;
use crate::dim::Dim;

/// A range whose ends may be open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hull {
    /// The least offset; none where everything from the beginning of the axis counts.
    pub low: Option<Dim>,
    /// The greatest; none where everything to its end counts.
    pub high: Option<Dim>,
}

impl Hull {
    pub(super) const OPEN: Hull = Hull { low: None, high: None };
}

/// Offsets for each remainder of the cycle; one row where there is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rows {
    /// All that are touched.
    Exact(Vec<Offsets>),
    /// Where they lie; `None` where there are none.
    Hull(Vec<Option<Hull>>),
}

impl Rows {
    pub(super) fn first(&self, count: usize) -> Rows {
        match self {
            Rows::Exact(rows) => Rows::Exact(rows.iter().take(count).cloned().collect()),
            Rows::Hull(rows) => Rows::Hull(rows.iter().take(count).cloned().collect()),
        }
    }

    /// Row `r` plus `r` times a coefficient.
    pub(super) fn tilted(&self, coefficient: &Dim) -> Option<Rows> {
        match (self, coefficient.as_const()) {
            (Rows::Exact(rows), Some(by)) => {
                let row = |(r, row): (usize, &Offsets)| row.shift(by.checked_mul(r as i64)?);
                Some(Rows::Exact(rows.iter().enumerate().map(row).collect::<Option<_>>()?))
            }
            (Rows::Hull(rows), _) => {
                let row = |(r, row): (usize, &Option<Hull>)| {
                    let by = coefficient.mul(&Dim::from(r as i64)).ok()?;
                    shifted(std::slice::from_ref(row), &by)?.pop()
                };
                Some(Rows::Hull(rows.iter().enumerate().map(row).collect::<Option<_>>()?))
            }
            _ => None,
        }
    }
}

/// Rows of a period written out for a longer one.
pub(super) fn repeated(rows: &Rows, advance: &Dim, period: i64, long: i64) -> Option<Rows> {
    let turns = 0..long / period;
    match (rows, advance.as_const()) {
        (Rows::Exact(rows), Some(by)) => {
            let all = turns.flat_map(|k| rows.iter().map(move |row| row.shift(by.checked_mul(k)?)));
            Some(Rows::Exact(all.collect::<Option<_>>()?))
        }
        (Rows::Exact(rows), None) if turns.end == 1 => Some(Rows::Exact(rows.clone())),
        (Rows::Hull(rows), _) => {
            let mut all = Vec::new();
            for k in turns {
                all.extend(shifted(rows, &advance.mul(&Dim::from(k)).ok()?)?);
            }
            Some(Rows::Hull(all))
        }
        _ => None,
    }
}

pub(super) fn shifted(rows: &[Option<Hull>], by: &Dim) -> Option<Vec<Option<Hull>>> {
    let end = |end: &Option<Dim>| match end {
        Some(end) => end.add(by).map(Some).ok(),
        None => Some(None),
    };
    let row = |row: &Option<Hull>| match row {
        Some(hull) => Some(Some(Hull { low: end(&hull.low)?, high: end(&hull.high)? })),
        None => Some(None),
    };
    rows.iter().map(row).collect()
}

/// Hulls whose ends are all numbers as what they are.
pub(super) fn closed(rows: Vec<Option<Hull>>) -> Rows {
    let run = |hull: &Option<Hull>| match hull {
        None => Some(Offsets::EMPTY),
        Some(Hull { low, high }) => Some(Offsets::run(low.as_ref()?.as_const()?, high.as_ref()?.as_const()?)),
    };
    let runs: Option<Vec<Offsets>> = rows.iter().map(run).collect();
    runs.map_or(Rows::Hull(rows), Rows::Exact)
}

pub(super) fn around(a: Option<Hull>, b: Option<Hull>) -> Option<Option<Hull>> {
    let (Some(a), Some(b)) = (a.clone(), b.clone()) else { return Some(a.or(b)) };
    let low = match (a.low, b.low) {
        (Some(x), Some(y)) => Some(x.minimum(&y).ok()?),
        _ => None,
    };
    let high = match (a.high, b.high) {
        (Some(x), Some(y)) => Some(x.maximum(&y).ok()?),
        _ => None,
    };
    Some(Some(Hull { low, high }))
}

pub(super) fn added(a: Option<Hull>, b: Option<Hull>) -> Option<Option<Hull>> {
    let (Some(a), Some(b)) = (a, b) else { return Some(None) };
    let end = |x: Option<Dim>, y: Option<Dim>| match (x, y) {
        (Some(x), Some(y)) => x.add(&y).map(Some).ok(),
        _ => Some(None),
    };
    Some(Some(Hull { low: end(a.low, b.low)?, high: end(a.high, b.high)? }))
}

pub(super) fn times(hull: Option<Hull>, by: &Dim) -> Option<Option<Hull>> {
    let Some(hull) = hull else { return Some(None) };
    let end = |end: Option<Dim>| match end {
        Some(end) => end.mul(by).map(Some).ok(),
        None => Some(None),
    };
    let (low, high) = (end(hull.low)?, end(hull.high)?);
    if by.is_non_negative() {
        Some(Some(Hull { low, high }))
    } else if by.neg().is_ok_and(|d| d.is_non_negative()) {
        Some(Some(Hull { low: high, high: low }))
    } else {
        None
    }
}
