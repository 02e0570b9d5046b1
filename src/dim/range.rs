//! What can be said of a dimension without knowing its symbols.

use super::{Atom, Dim, DimError, Monomial};

/// The answer to a question about symbolic sizes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Truth {
    /// For all sizes.
    Yes,
    /// For no sizes.
    No,
    /// It depends on the sizes, or cannot be decided.
    Unknown,
}

type Bounds = (Option<i64>, Option<i64>);

impl Dim {
    /// Bounds that hold for all non-negative values of the symbols; `None` is no bound.
    pub fn range(&self) -> (Option<i64>, Option<i64>) {
        if let Some(value) = self.as_const() {
            return (Some(value), Some(value));
        }
        self.terms().iter().fold((Some(0), Some(0)), |(low, high), (monomial, coefficient)| {
            let (l, h) = scale(monomial_range(monomial), *coefficient);
            (add(low, l), add(high, h))
        })
    }

    /// Whether it is at least 0 for all sizes.
    pub fn is_non_negative(&self) -> bool {
        self.range().0.is_some_and(|low| low >= 0)
    }

    /// Whether two dimensions are equal.
    ///
    /// # Errors
    /// Overflow while their difference is formed.
    pub fn compare(&self, other: &Dim) -> Result<Truth, DimError> {
        let difference = self.sub(other)?;
        Ok(match difference.range() {
            (Some(0), Some(0)) => Truth::Yes,
            (Some(low), _) if low > 0 => Truth::No,
            (_, Some(high)) if high < 0 => Truth::No,
            _ => Truth::Unknown,
        })
    }
}

fn add(a: Option<i64>, b: Option<i64>) -> Option<i64> {
    a?.checked_add(b?)
}

fn scale((low, high): Bounds, by: i64) -> Bounds {
    let times = |v: Option<i64>| v.and_then(|v| v.checked_mul(by));
    if by >= 0 { (times(low), times(high)) } else { (times(high), times(low)) }
}

fn monomial_range(monomial: &Monomial) -> Bounds {
    let mut product: Bounds = (Some(1), Some(1));
    for (atom, exponent) in monomial {
        let factor = atom_range(atom);
        for _ in 0..*exponent {
            product = multiply(product, factor);
        }
        if exponent % 2 == 0 && product.0.is_none_or(|low| low < 0) && monomial.len() == 1 {
            product.0 = Some(0);
        }
    }
    product
}

fn multiply(a: Bounds, b: Bounds) -> Bounds {
    if let ((Some(al), Some(ah)), (Some(bl), Some(bh))) = (a, b) {
        let corners = [(al, bl), (al, bh), (ah, bl), (ah, bh)].map(|(x, y)| x.checked_mul(y));
        let low = corners.iter().copied().reduce(|x, y| Some(x?.min(y?))).flatten();
        let high = corners.iter().copied().reduce(|x, y| Some(x?.max(y?))).flatten();
        return (low, high);
    }
    match (a.0, b.0) {
        (Some(x), Some(y)) if x >= 0 && y >= 0 => (x.checked_mul(y).or(Some(0)), None),
        _ => (None, None),
    }
}

fn atom_range(atom: &Atom) -> Bounds {
    match atom {
        Atom::Symbol(_) => (Some(0), None),
        Atom::FloorDiv(a, b) => quotient_range(a.range(), b.range()),
        Atom::Mod(_, b) => match b.range() {
            (Some(low), high) if low > 0 => (Some(0), high.map(|h| h - 1)),
            (Some(0), _) => (Some(0), None),
            _ => (None, None),
        },
        Atom::Min(a, b) => {
            let ((al, ah), (bl, bh)) = (a.range(), b.range());
            let high = match (ah, bh) {
                (Some(x), Some(y)) => Some(x.min(y)),
                (x, y) => x.or(y),
            };
            (al.and_then(|x| bl.map(|y| x.min(y))), high)
        }
        Atom::Max(a, b) => {
            let ((al, ah), (bl, bh)) = (a.range(), b.range());
            let low = match (al, bl) {
                (Some(x), Some(y)) => Some(x.max(y)),
                (x, y) => x.or(y),
            };
            (low, ah.and_then(|x| bh.map(|y| x.max(y))))
        }
    }
}

/// A zero divisor is an error wherever the quotient is evaluated, so bounds may assume that
/// a divisor which is never negative is at least 1.
fn quotient_range((al, ah): Bounds, (bl, bh): Bounds) -> Bounds {
    let Some(bl) = bl.filter(|low| *low >= 0).map(|low| low.max(1)) else {
        return (None, None);
    };
    let low = al.map(|a| if a >= 0 { bh.map_or(0, |b| a.div_euclid(b.max(1))) } else { a.div_euclid(bl) });
    let high = ah.map(|a| if a >= 0 { a.div_euclid(bl) } else { bh.map_or(-1, |b| a.div_euclid(b.max(1))) });
    (low, high)
}
