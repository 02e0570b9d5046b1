//! Floored division and modulo of polynomials.
//!
//! `a // b` splits off every term of `a` that `b` divides exactly, which is sound for floored
//! division by a non-zero `b`: `(q*b + r) // b == q + r // b`. What is left stays opaque.

use super::{Atom, Dim, DimError, Monomial};

impl Dim {
    /// The quotient, rounded down.
    ///
    /// # Errors
    /// [`DimError::DivisionByZero`] when the divisor is the constant 0, and overflow.
    pub fn floor_div(&self, divisor: &Dim) -> Result<Dim, DimError> {
        let (quotient, rest) = self.split_by(divisor)?;
        let constants = self.as_const().is_some() && divisor.as_const().is_some();
        if rest == Dim::ZERO || constants {
            return Ok(quotient);
        }
        if let Some((inner, first, offset)) = nested_quotient(&rest, divisor) {
            let whole = inner.add(&first.mul(&offset)?)?;
            return quotient.add(&whole.floor_div(&first.mul(divisor)?)?);
        }
        quotient.add(&rest.opaque_quotient(divisor)?)
    }

    /// The remainder of floored division; it has the divisor's sign.
    ///
    /// # Errors
    /// As [`Dim::floor_div`].
    pub fn modulo(&self, divisor: &Dim) -> Result<Dim, DimError> {
        let (_, rest) = self.split_by(divisor)?;
        if let (Some(_), Some(_)) = (rest.as_const(), divisor.as_const()) {
            return Ok(rest);
        }
        if rest == Dim::ZERO || rest.is_below(divisor) {
            return Ok(rest);
        }
        Dim::atom(Atom::Mod(rest, divisor.clone()))
    }

    /// The quotient where the division leaves no rest for any values of the symbols.
    pub fn exact_div(&self, divisor: &Dim) -> Option<Dim> {
        match self.split_by(divisor) {
            Ok((quotient, rest)) if rest == Dim::ZERO => Some(quotient),
            _ => None,
        }
    }

    fn opaque_quotient(&self, divisor: &Dim) -> Result<Dim, DimError> {
        if self.is_below(divisor) {
            Ok(Dim::ZERO)
        } else {
            Dim::atom(Atom::FloorDiv(self.clone(), divisor.clone()))
        }
    }

    /// Whether `0 <= self < divisor` holds for all sizes.
    fn is_below(&self, divisor: &Dim) -> bool {
        let above = divisor.sub(self).and_then(|d| d.sub(&Dim::ONE));
        self.is_non_negative() && above.is_ok_and(|d| d.is_non_negative())
    }

    /// `self == quotient * divisor + rest`, with as much in the quotient as divides exactly.
    fn split_by(&self, divisor: &Dim) -> Result<(Dim, Dim), DimError> {
        if divisor.is(0) {
            return Err(DimError::DivisionByZero);
        }
        if let (Some(a), Some(b)) = (self.as_const(), divisor.as_const()) {
            let (q, r) = floored(a, b).ok_or(DimError::Overflow)?;
            return Ok((Dim::from(q), Dim::from(r)));
        }
        let divisor_terms = divisor.term_list();
        if let [(monomial, coefficient)] = divisor_terms.as_slice() {
            return self.split_by_term(monomial, *coefficient);
        }
        self.split_by_polynomial(divisor, &divisor_terms)
    }

    fn split_by_term(&self, by: &Monomial, coefficient: i64) -> Result<(Dim, Dim), DimError> {
        let (mut quotient, mut rest) = (Vec::new(), Vec::new());
        for (monomial, c) in self.term_list() {
            match monomial_div(&monomial, by) {
                Some(m) => {
                    let (q, r) = floored(c, coefficient).ok_or(DimError::Overflow)?;
                    quotient.push((m, q));
                    rest.push((monomial, r));
                }
                None => rest.push((monomial, c)),
            }
        }
        Ok((Dim::from_terms(quotient)?, Dim::from_terms(rest)?))
    }

    /// Long division by the leading (greatest) term; all or nothing, so that the rest of a
    /// division that fails is the dividend itself.
    fn split_by_polynomial(&self, divisor: &Dim, terms: &[(Monomial, i64)]) -> Result<(Dim, Dim), DimError> {
        let Some((lead, lead_coefficient)) = terms.iter().max_by_key(|(m, _)| degree_key(m)) else {
            return Err(DimError::DivisionByZero);
        };
        let (mut quotient, mut rest) = (Dim::ZERO, self.clone());
        for _ in 0..64 {
            let top = rest.term_list().into_iter().max_by_key(|(m, _)| degree_key(m));
            let Some((monomial, coefficient)) = top else {
                return Ok((quotient, Dim::ZERO));
            };
            let Some(m) = monomial_div(&monomial, lead) else { break };
            // `None` where the quotient leaves the 64-bit range.
            if coefficient.checked_rem(*lead_coefficient) != Some(0) {
                break;
            }
            let step = Dim::from_terms([(m, coefficient / lead_coefficient)])?;
            quotient = quotient.add(&step)?;
            rest = rest.sub(&step.mul(divisor)?)?;
        }
        if rest == Dim::ZERO { Ok((quotient, rest)) } else { Ok((Dim::ZERO, self.clone())) }
    }
}

/// A graded order, which long division needs.
fn degree_key(monomial: &Monomial) -> (u32, Monomial) {
    (monomial.iter().map(|(_, e)| e).sum(), monomial.clone())
}

fn monomial_div(a: &Monomial, b: &Monomial) -> Option<Monomial> {
    let mut result = a.clone();
    for (atom, exponent) in b {
        let slot = result.iter_mut().find(|(x, _)| x == atom)?;
        slot.1 = slot.1.checked_sub(*exponent)?;
    }
    result.retain(|(_, e)| *e > 0);
    Some(result)
}

/// `rest == inner // first + offset` with both divisors positive constants. Then
/// `rest // divisor == (inner + offset * first) // (first * divisor)`, so that the sizes of maps
/// halved again and again with padding stay quotients of one size.
fn nested_quotient<'a>(rest: &'a Dim, divisor: &Dim) -> Option<(&'a Dim, &'a Dim, Dim)> {
    let (monomial, offset) = match rest.terms() {
        [(monomial, 1)] => (monomial, 0),
        [(one, offset), (monomial, 1)] if one.is_empty() => (monomial, *offset),
        _ => return None,
    };
    let [(Atom::FloorDiv(inner, first), 1)] = monomial.as_slice() else { return None };
    let positive = |d: &Dim| d.as_const().is_some_and(|v| v > 0);
    (positive(first) && positive(divisor)).then(|| (inner, first, Dim::from(offset)))
}

/// Floored quotient and remainder; `None` on overflow or a zero divisor.
pub(crate) fn floored(a: i64, b: i64) -> Option<(i64, i64)> {
    let quotient = a.checked_div_euclid(b)?;
    let remainder = a.checked_rem_euclid(b)?;
    if remainder != 0 && b < 0 { Some((quotient - 1, remainder + b)) } else { Some((quotient, remainder)) }
}
