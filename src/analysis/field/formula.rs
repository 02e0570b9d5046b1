//! Windows as formulas that people read.

use super::offsets::gcd;
use super::positions::{Coord, Cycle, Hull, Positions};
use crate::dim::Dim;

/// Longer cycles are not written out remainder by remainder.
const MAX_WRITTEN: usize = 8;

/// A window, both ends included; `name` gives the letter of a coordinate.
pub fn window(positions: &Positions, name: &dyn Fn(Coord) -> String) -> String {
    if positions.is_whole() {
        return "all".into();
    }
    if positions.is_never() {
        return "none".into();
    }
    let Some(hulls) = positions.hulls() else { return "?".into() };
    let end = |pick: &dyn Fn(&Hull) -> Option<Dim>, least: bool| {
        let ends: Vec<Option<Option<Dim>>> = hulls.iter().map(|hull| hull.as_ref().map(pick)).collect();
        if ends.iter().flatten().any(Option::is_none) {
            return None;
        }
        let ends: Vec<Option<Dim>> = ends.into_iter().map(Option::flatten).collect();
        Some(side(positions, &ends, least, name))
    };
    let (low, high) = (end(&|h| h.low.clone(), true), end(&|h| h.high.clone(), false));
    match (low, high) {
        (Some(low), Some(high)) if low == high => low,
        (low, high) => {
            format!("{} .. {}", low.unwrap_or_else(|| "0".into()), high.unwrap_or_else(|| "end".into()))
        }
    }
}

/// One side of the window from its offset in every row that has one.
fn side(positions: &Positions, ends: &[Option<Dim>], least: bool, name: &dyn Fn(Coord) -> String) -> String {
    let mut parts: Vec<String> = positions.linear.iter().map(|(coord, c)| term(c, &name(*coord))).collect();
    match &positions.cycle {
        None => {
            let end = ends.first().and_then(Option::as_ref);
            parts.extend(end.filter(|end| !end.is(0)).map(ToString::to_string));
        }
        Some(cycle) => {
            let name = name(cycle.coord);
            match quotient(cycle, ends, &name) {
                Some(quotient) => parts.push(quotient),
                None => parts.extend(by_remainder(cycle, ends, least, &name)),
            }
        }
    }
    if parts.is_empty() {
        return "0".into();
    }
    parts.join(" + ").replace("+ -", "- ")
}

fn term(coefficient: &Dim, name: &str) -> String {
    match coefficient.as_const() {
        Some(1) => name.to_string(),
        Some(-1) => format!("-{name}"),
        Some(value) => format!("{value}*{name}"),
        None => format!("({coefficient})*{name}"),
    }
}

/// The rows as one floored quotient `(a*p + b)//n`, if they are one.
fn quotient(cycle: &Cycle, ends: &[Option<Dim>], name: &str) -> Option<String> {
    let (advance, period) = (cycle.advance.as_const()?, cycle.period);
    let common = gcd(advance, period).max(1);
    let (a, n) = (advance / common, period / common);
    // Each row `e` at remainder `r` needs `n*e <= a*r + b < n*e + n`.
    let (mut least, mut most) = (i64::MIN, i64::MAX);
    for (r, end) in ends.iter().enumerate() {
        let Some(end) = end else { continue };
        let b = n.checked_mul(end.as_const()?)?.checked_sub(a.checked_mul(r as i64)?)?;
        least = least.max(b);
        most = most.min(b.checked_add(n - 1)?);
    }
    if least > most || least == i64::MIN {
        return None;
    }
    let b = if least <= 0 && most >= 0 { 0 } else { least };
    let product = if a == 1 { name.to_string() } else { format!("{a}*{name}") };
    let sum = match b {
        0 if a == 1 || n == 1 => product,
        0 => format!("({product})"),
        b if b < 0 => format!("({product} - {})", b.unsigned_abs()),
        b => format!("({product} + {b})"),
    };
    Some(if n == 1 { sum } else { format!("{sum}//{n}") })
}

/// The rows one by one, or the outermost of them where they are many.
fn by_remainder(cycle: &Cycle, ends: &[Option<Dim>], least: bool, name: &str) -> Vec<String> {
    let period = cycle.period;
    let whole = term(&cycle.advance, &format!("({name}//{period})"));
    let whole = (!cycle.advance.is(0)).then_some(whole);
    let known: Option<Vec<i64>> = ends.iter().flatten().map(Dim::as_const).collect();
    let outermost = known.and_then(|k| if least { k.into_iter().min() } else { k.into_iter().max() });
    let offset = match outermost {
        Some(end) if ends.len() > MAX_WRITTEN => end.to_string(),
        _ => {
            let rows = ends.iter().map(|end| end.as_ref().map_or_else(|| "none".into(), ToString::to_string));
            format!("[{}][{name} % {period}]", rows.collect::<Vec<_>>().join(", "))
        }
    };
    whole.into_iter().chain([offset]).collect()
}
