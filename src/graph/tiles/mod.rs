//! What a condition over indices allows in a tile: nothing, everything, or a part.
//!
//! A pattern (a mask, the `where` of a reduction) is a boolean expression of an op over its indices.
//! Whole tiles of it are classified from the expression itself, by bounds on every value in it over
//! ranges of the indices; the work for a tile does not depend on its size or on the length of the
//! sequence, and no pair is evaluated on its own unless the bounds leave it open.
//!
//! ```text
//! Condition::new(exprs, id)            steps, once per pattern
//!   .bounds(ranges, scope)             one pass: Empty, Full, or not decided      [domain]
//!   .classify(ranges, scope)           the same, halving what is not decided: exact but for limits
//! symbolic::tests(exprs, id, ranges)   the pass as expressions, for generated code [symbolic]
//! ```
//!
//! # Invariants
//! `Empty` and `Full` are proofs: no point of the tile, or every point, satisfies the condition, for all
//! values that are unknown. `Partial` says that both occur, or that unknown values decide, or that a
//! limit was reached. Where nothing is unknown and [`MAX_BOXES`] suffices, a tile that is all false or
//! all true is never `Partial`.
//!
//! One pass is exact for a comparison of sums in which each index occurs once, of quotients and
//! remainders of such sums. What it loses is at `and` and `or`: parts that hold at different points.

mod domain;
pub mod patterns;
mod steps;
pub mod symbolic;
#[cfg(test)]
mod tests;
pub mod values;

use self::domain::{Domain, Ends, Known, evaluate};
use self::steps::Steps;
use super::expr::{ExprId, Exprs, Read, VarId};
use crate::dim::{Dim, Symbol};
use crate::dtype::DType;
use crate::ops::scalar::BinaryOp;

/// The most parts that a tile is cut into before it is called partial.
pub const MAX_BOXES: usize = 1024;

/// What of a tile a condition allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// No point; also a tile without points.
    Empty,
    /// Some points, or what is not known decides.
    Partial,
    /// All points.
    Full,
}

/// Inclusive bounds of an integer, or of a truth value as 0 and 1; `None` is no bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Least value.
    pub low: Option<i64>,
    /// Greatest value.
    pub high: Option<i64>,
}

impl Bounds {
    /// No bounds.
    pub const UNKNOWN: Bounds = Bounds { low: None, high: None };

    /// `low..=high`.
    pub fn new(low: i64, high: i64) -> Bounds {
        Bounds { low: Some(low), high: Some(high) }
    }

    /// One value.
    pub fn point(value: i64) -> Bounds {
        Bounds::new(value, value)
    }
}

/// What is known around a condition.
pub trait Scope {
    /// The value of a free dimension.
    fn symbol(&self, symbol: &Symbol) -> Option<i64>;

    /// Bounds of an enclosing position.
    fn var(&self, _var: VarId) -> Bounds {
        Bounds::UNKNOWN
    }

    /// What a read gives at positions within `index`.
    fn read(&self, _read: &Read, _index: &[Bounds]) -> Element {
        Element::UNKNOWN
    }
}

/// What is known of an element of an operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Element {
    /// Bounds of its value where the position is inside; truth values are 0 and 1.
    pub value: Bounds,
    /// Whether all positions are inside, or all outside.
    pub is_inside: Option<bool>,
}

impl Element {
    /// Any element, or none.
    pub const UNKNOWN: Element = Element { value: Bounds::UNKNOWN, is_inside: None };
}

/// A boolean expression of an op, ready to be classified.
#[derive(Clone, Debug)]
pub struct Condition {
    steps: Steps,
}

impl Condition {
    /// Prepares an expression, of type bool or i64.
    pub fn new(exprs: &Exprs, id: ExprId) -> Condition {
        Condition { steps: Steps::new(exprs, id) }
    }

    /// Whether the value depends on index `k`.
    pub fn uses(&self, k: usize) -> bool {
        self.steps.depends() & steps::bit(k as u32) != 0
    }

    /// The reads in it, with those that decide others first.
    pub fn reads(&self) -> impl Iterator<Item = &Read> {
        self.steps.reads()
    }

    /// Bounds of the value over a box of indices, by one pass.
    pub fn bounds(&self, ranges: &[(i64, i64)], scope: &dyn Scope) -> Bounds {
        let mut numbers = Numbers { ranges, scope };
        match evaluate(&self.steps, &mut numbers) {
            Known::Int { low, high } => Bounds { low, high },
            Known::Truth { must, may } => Bounds::new(i64::from(must), i64::from(may)),
        }
    }

    /// What of a tile the condition allows: `ranges` are the inclusive ranges of the indices, in order.
    pub fn classify(&self, ranges: &[(i64, i64)], scope: &dyn Scope) -> Class {
        if ranges.iter().any(|(low, high)| low > high) {
            return Class::Empty;
        }
        let (mut is_some, mut is_not_all) = (false, false);
        let mut open = vec![ranges.to_vec()];
        for _ in 0..MAX_BOXES {
            let Some(part) = open.pop() else { break };
            match self.bounds(&part, scope) {
                Bounds { low: Some(1), .. } => is_some = true,
                Bounds { high: Some(0), .. } => is_not_all = true,
                _ => match self.halves(&part) {
                    Some(halves) => open.extend(halves),
                    // What is unknown decides this point, so the tile is neither empty nor full.
                    None => return Class::Partial,
                },
            }
            if is_some && is_not_all {
                return Class::Partial;
            }
        }
        match (open.is_empty(), is_some) {
            (false, _) => Class::Partial,
            (true, true) => Class::Full,
            (true, false) => Class::Empty,
        }
    }

    /// A box cut across its longest side that matters.
    fn halves(&self, part: &[(i64, i64)]) -> Option<[Vec<(i64, i64)>; 2]> {
        let matters = |k: &usize| self.uses(*k) && part[*k].0 < part[*k].1;
        // A range of indices lies within the sizes of tensors, so that its length is an i64.
        let longest = (0..part.len()).filter(matters).max_by_key(|k| part[*k].1.abs_diff(part[*k].0))?;
        let (low, high) = part[longest];
        let middle = low + (high - low) / 2;
        let with = |range| {
            let mut half = part.to_vec();
            half[longest] = range;
            half
        };
        Some([with((low, middle)), with((middle + 1, high))])
    }
}

/// The value of an operation on integers; `None` where it has none, or not in 64 bits.
fn number(op: BinaryOp, a: i64, b: i64) -> Option<i64> {
    match op {
        BinaryOp::Add => a.checked_add(b),
        BinaryOp::Sub => a.checked_sub(b),
        BinaryOp::Mul => a.checked_mul(b),
        BinaryOp::FloorDiv => {
            let (quotient, rest) = (a.checked_div(b)?, a.checked_rem(b)?);
            Some(if rest != 0 && (rest < 0) != (b < 0) { quotient - 1 } else { quotient })
        }
        BinaryOp::Min => Some(a.min(b)),
        BinaryOp::Max => Some(a.max(b)),
        _ => None,
    }
}

/// Bounds as numbers.
struct Numbers<'a> {
    ranges: &'a [(i64, i64)],
    scope: &'a dyn Scope,
}

impl Domain for Numbers<'_> {
    type Int = i64;
    type Truth = bool;

    fn index(&mut self, k: u32) -> Ends<Self> {
        self.ranges.get(k as usize).map_or((None, None), |(low, high)| (Some(*low), Some(*high)))
    }

    fn var(&mut self, var: VarId) -> Ends<Self> {
        let Bounds { low, high } = self.scope.var(var);
        (low, high)
    }

    fn dim(&mut self, dim: &Dim) -> Option<i64> {
        dim.eval(&|symbol| self.scope.symbol(symbol)).ok()
    }

    fn read(&mut self, read: &Read, index: &[Ends<Self>], dtype: DType) -> (Known<Self>, Option<bool>) {
        let index: Vec<Bounds> = index.iter().map(|(low, high)| Bounds { low: *low, high: *high }).collect();
        let Element { value: Bounds { low, high }, is_inside } = self.scope.read(read, &index);
        let value = match dtype {
            DType::Bool => Known::Truth { must: low.is_some_and(|v| v > 0), may: high.is_none_or(|v| v > 0) },
            _ => Known::Int { low, high },
        };
        (value, is_inside)
    }

    fn int(&mut self, value: i64) -> i64 {
        value
    }

    fn binary(&mut self, op: BinaryOp, a: &i64, b: &i64) -> Option<i64> {
        number(op, *a, *b)
    }

    fn at_most(&mut self, a: &i64, b: &i64) -> bool {
        a <= b
    }

    fn truth(&mut self, value: bool) -> bool {
        value
    }

    fn and(&mut self, a: &bool, b: &bool) -> bool {
        *a && *b
    }

    fn or(&mut self, a: &bool, b: &bool) -> bool {
        *a || *b
    }

    fn not(&mut self, a: &bool) -> bool {
        !*a
    }

    fn choose(&mut self, condition: &bool, then: &i64, otherwise: &i64) -> i64 {
        if *condition { *then } else { *otherwise }
    }

    fn non_zero(&mut self, divisor: &i64) -> Option<i64> {
        (*divisor != 0).then_some(*divisor)
    }

    fn decided(&self, truth: &bool) -> Option<bool> {
        Some(*truth)
    }

    fn same(&self, a: &i64, b: &i64) -> bool {
        a == b
    }

    fn is_non_negative(&self, value: &i64) -> Option<bool> {
        Some(*value >= 0)
    }
}
