//! Where an element is read: one coordinate for each axis of what is read.
//!
//! A coordinate is an integer combination of axes of the reader and of what is not affine in them:
//! quotients, remainders, and numbers that come from data. Sizes are numbers here. The form is
//! canonical, so that equal positions are equal coordinates.

use super::moments::Axes;
use crate::ops::scalar::BinaryOp;
use crate::ops::value::{Scalar, apply_binary};

/// What a coordinate adds up.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Atom {
    /// An axis of the reader.
    Axis(usize),
    /// An integer operation that is not affine.
    Op(BinaryOp, Box<Coord>, Box<Coord>),
    /// A number that data decide: which, and where it is read.
    Data(u32, Vec<Coord>),
}

/// `offset + sum(coefficient * atom)`; coefficients are not zero, atoms in order.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Coord {
    pub terms: Vec<(Atom, i64)>,
    pub offset: i64,
}

impl Coord {
    /// A position.
    pub fn fixed(offset: i64) -> Self {
        Coord { terms: Vec::new(), offset }
    }

    /// An axis of the reader.
    pub fn axis(axis: usize) -> Self {
        Coord::atom(Atom::Axis(axis))
    }

    /// The first axes of the reader, one by one.
    pub fn identity(rank: usize) -> Vec<Coord> {
        (0..rank).map(Coord::axis).collect()
    }

    pub fn atom(atom: Atom) -> Self {
        Coord { terms: vec![(atom, 1)], offset: 0 }
    }

    /// The position, if it is the same everywhere.
    pub fn as_fixed(&self) -> Option<i64> {
        self.terms.is_empty().then_some(self.offset)
    }

    /// The sum with a multiple of another.
    pub fn plus(&self, other: &Coord, times: i64) -> Coord {
        let mut terms: std::collections::BTreeMap<Atom, i64> = self.terms.iter().cloned().collect();
        for (atom, coefficient) in &other.terms {
            let entry = terms.entry(atom.clone()).or_insert(0);
            *entry = entry.wrapping_add(coefficient.wrapping_mul(times));
        }
        let terms: Vec<(Atom, i64)> = terms.into_iter().filter(|(_, c)| *c != 0).collect();
        let offset = self.offset.wrapping_add(other.offset.wrapping_mul(times));
        Coord { terms, offset }.rejoined()
    }

    /// A multiple.
    pub fn times(&self, factor: i64) -> Coord {
        Coord::default().plus(self, factor)
    }

    /// Quotients and remainders of one number put together: `(c // k) * k + c % k` is `c`.
    fn rejoined(self) -> Coord {
        let parts = self.terms.iter().enumerate().find_map(|(at, (atom, times))| match atom {
            Atom::Op(BinaryOp::Mod, whole, by) => {
                let quotient = Atom::Op(BinaryOp::FloorDiv, whole.clone(), by.clone());
                let wanted = by.as_fixed()?.checked_mul(*times)?;
                let other = self.terms.iter().position(|(a, c)| *a == quotient && *c == wanted)?;
                Some((at, other, (**whole).clone(), *times))
            }
            _ => None,
        });
        let Some((first, second, whole, times)) = parts else { return self };
        let kept = self.terms.iter().enumerate().filter(|(k, _)| *k != first && *k != second);
        let rest = Coord { terms: kept.map(|(_, term)| term.clone()).collect(), offset: self.offset };
        rest.plus(&whole, times)
    }

    /// An operation on coordinates of a reader with axes of these sizes.
    pub fn op(op: BinaryOp, a: &Coord, b: &Coord, sizes: &[i64]) -> Coord {
        match (op, a.as_fixed(), b.as_fixed()) {
            (BinaryOp::Add, ..) => a.plus(b, 1),
            (BinaryOp::Sub, ..) => a.plus(b, -1),
            (BinaryOp::Mul, Some(k), _) => b.times(k),
            (BinaryOp::Mul, _, Some(k)) => a.times(k),
            (_, Some(x), Some(y)) => match apply_binary(op, Scalar::I64(x), Scalar::I64(y)) {
                Ok(Scalar::I64(value)) => Coord::fixed(value),
                _ => Coord::atom(Atom::Op(op, Box::new(a.clone()), Box::new(b.clone()))),
            },
            (BinaryOp::FloorDiv | BinaryOp::Mod, _, Some(by)) if by > 0 => {
                let (quotient, rest) = a.divided(by, sizes);
                if op == BinaryOp::Mod { rest } else { quotient }
            }
            _ => Coord::atom(Atom::Op(op, Box::new(a.clone()), Box::new(b.clone()))),
        }
    }

    /// Quotient and remainder.
    fn divided(&self, by: i64, sizes: &[i64]) -> (Coord, Coord) {
        let (whole, rest): (Vec<_>, Vec<_>) = self.terms.iter().cloned().partition(|(_, c)| c % by == 0);
        let rest = Coord { terms: rest, offset: self.offset.rem_euclid(by) };
        let quotient = Coord {
            terms: whole.into_iter().map(|(atom, c)| (atom, c / by)).collect(),
            offset: self.offset.div_euclid(by),
        };
        if rest.range(sizes).is_some_and(|(low, high)| low >= 0 && high < by) {
            return (quotient, rest);
        }
        let part = |op| Coord::atom(Atom::Op(op, Box::new(rest.clone()), Box::new(Coord::fixed(by))));
        (quotient.plus(&part(BinaryOp::FloorDiv), 1), part(BinaryOp::Mod))
    }

    /// The least and the greatest value; `None` where that is not known.
    pub fn range(&self, sizes: &[i64]) -> Option<(i64, i64)> {
        self.terms.iter().try_fold((self.offset, self.offset), |(low, high), (atom, times)| {
            let (from, to) = match atom {
                Atom::Axis(axis) => (0, sizes.get(*axis)? - 1),
                Atom::Op(BinaryOp::Mod, _, by) => (0, by.as_fixed().filter(|by| *by > 0)? - 1),
                Atom::Op(BinaryOp::FloorDiv, whole, by) => {
                    let (by, (low, high)) = (by.as_fixed().filter(|by| *by > 0)?, whole.range(sizes)?);
                    (low.div_euclid(by), high.div_euclid(by))
                }
                _ => return None,
            };
            let (from, to) = (from.checked_mul(*times)?, to.checked_mul(*times)?);
            Some((low.checked_add(from.min(to))?, high.checked_add(from.max(to))?))
        })
    }

    /// The coordinate where the reader's own axes are read at `at`, by a reader with these sizes.
    pub fn read_at(&self, at: &[Coord], sizes: &[i64]) -> Coord {
        self.terms.iter().fold(Coord::fixed(self.offset), |sum, (atom, times)| {
            let part = match atom {
                Atom::Axis(axis) => at.get(*axis).cloned().unwrap_or_default(),
                Atom::Op(op, a, b) => Coord::op(*op, &a.read_at(at, sizes), &b.read_at(at, sizes), sizes),
                Atom::Data(id, index) => {
                    Coord::atom(Atom::Data(*id, index.iter().map(|c| c.read_at(at, sizes)).collect()))
                }
            };
            sum.plus(&part, *times)
        })
    }

    /// The axes of the reader that it moves with.
    pub fn axes(&self) -> Axes {
        self.terms.iter().fold(0, |axes, (atom, _)| {
            axes | match atom {
                Atom::Axis(axis) => 1 << axis,
                Atom::Op(_, a, b) => a.axes() | b.axes(),
                Atom::Data(_, index) => index.iter().fold(0, |axes, c| axes | c.axes()),
            }
        })
    }

    /// Whether data decide it.
    pub fn has_data(&self) -> bool {
        self.terms.iter().any(|(atom, _)| match atom {
            Atom::Axis(_) => false,
            Atom::Op(_, a, b) => a.has_data() || b.has_data(),
            Atom::Data(..) => true,
        })
    }

    /// The value at a point; `None` where data decide.
    pub fn at(&self, point: &[i64]) -> Option<i64> {
        self.terms.iter().try_fold(self.offset, |sum, (atom, times)| {
            let value = match atom {
                Atom::Axis(axis) => *point.get(*axis)?,
                Atom::Op(op, a, b) => {
                    let (a, b) = (Scalar::I64(a.at(point)?), Scalar::I64(b.at(point)?));
                    apply_binary(*op, a, b).ok()?.as_i64()?
                }
                Atom::Data(..) => return None,
            };
            sum.checked_add(value.checked_mul(*times)?)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn divide(a: &Coord, by: i64, sizes: &[i64]) -> (Coord, Coord) {
        let by = Coord::fixed(by);
        (Coord::op(BinaryOp::FloorDiv, a, &by, sizes), Coord::op(BinaryOp::Mod, a, &by, sizes))
    }

    #[test]
    fn groups_come_apart_and_together() {
        let sizes = [3, 4];
        let joined = Coord::axis(0).times(4).plus(&Coord::axis(1), 1);
        assert_eq!(divide(&joined, 4, &sizes), (Coord::axis(0), Coord::axis(1)));
        let (quotient, rest) = divide(&Coord::axis(0), 4, &[12]);
        assert_ne!(quotient, Coord::axis(0));
        assert_eq!(quotient.times(4).plus(&rest, 1), Coord::axis(0));
        assert_eq!((quotient.range(&[12]), rest.at(&[7])), (Some((0, 2)), Some(3)));
        // A remainder of another divisor stays.
        let (_, other) = divide(&Coord::axis(0), 3, &[12]);
        assert_ne!(quotient.times(4).plus(&other, 1), Coord::axis(0));
    }

    #[test]
    fn reads_compose() {
        let shifted = Coord::axis(0).plus(&Coord::fixed(2), 1);
        let at = [Coord::axis(1).times(3)];
        assert_eq!(shifted.read_at(&at, &[5, 5]), Coord::axis(1).times(3).plus(&Coord::fixed(2), 1));
        let data = Coord::atom(Atom::Data(4, vec![Coord::axis(0)]));
        assert_eq!(data.read_at(&at, &[5, 5]).axes(), 2);
        assert_eq!((data.at(&[1]), data.range(&[5])), (None, None));
    }
}
