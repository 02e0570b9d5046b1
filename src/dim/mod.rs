//! Symbolic dimensions: integer polynomials in a normal form.
//!
//! A [`Dim`] is a sum of integer multiples of products of [`Atom`]s. Atoms are symbols (`B`,
//! `T`) and the operations that polynomials are not closed under: floored division and modulo,
//! minimum and maximum, each over normalised arguments. Two dimensions that are equal as
//! polynomials have one representation, so `==` decides equality up to what the opaque atoms
//! hide, and [`Dim::compare`] says *no* or *unknown* for the rest.
//!
//! Symbols stand for sizes, so they are never negative. All arithmetic is checked 64-bit. A formula
//! has a bounded number of terms and atoms and bounded exponents, counted at each use of a shared
//! part, so that whatever walks one is bounded too, in time and in depth.

mod divide;
mod range;
mod solve;

pub use range::Truth;
pub use solve::solve_for;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// A named size that is unknown at compile time.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub struct Symbol {
    name: Arc<str>,
    id: u32,
}

impl Symbol {
    /// A symbol; `id` tells apart symbols of one name.
    pub fn new(name: &str, id: u32) -> Self {
        Symbol { name: name.into(), id }
    }

    /// The name the user gave it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its number among the symbols of a compilation.
    pub fn id(&self) -> u32 {
        self.id
    }
}

impl fmt::Display for Symbol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl fmt::Debug for Symbol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}#{}", self.name, self.id)
    }
}

/// Why a dimension cannot be computed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DimError {
    /// A value left the 64-bit range.
    #[error("the result does not fit in 64 bits")]
    Overflow,
    /// A size that came out negative.
    #[error("a size cannot be negative, but this one is {0}")]
    Negative(i64),
    /// A divisor is zero.
    #[error("division by a dimension that is zero")]
    DivisionByZero,
    /// A symbol has no value in the environment.
    #[error("dimension `{0}` has no value")]
    Unbound(String),
    /// The polynomial has too many terms or atoms, or too high exponents, to be handled.
    #[error("the size formula is too complex")]
    TooComplex,
}

/// A factor of a monomial.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub enum Atom {
    /// A named size.
    Symbol(Symbol),
    /// Floored quotient.
    FloorDiv(Dim, Dim),
    /// Floored remainder.
    Mod(Dim, Dim),
    /// The smaller.
    Min(Dim, Dim),
    /// The larger.
    Max(Dim, Dim),
}

/// A product of atoms with positive exponents, sorted by atom; empty for 1.
pub type Monomial = Vec<(Atom, u32)>;

const MAX_TERMS: usize = 256;

/// Atoms of one formula, those within atoms included.
const MAX_ATOMS: u32 = 2048;

/// Greatest exponent. Any size above 1 to a higher one leaves the 64-bit range.
const MAX_EXPONENT: u32 = 64;

/// A size, known or symbolic.
///
/// # Units
/// Elements; index expressions reuse it for positions, so values may be negative.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub struct Dim(Repr);

/// Constants are kept apart because almost every dimension is one.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
enum Repr {
    Const(i64),
    Poly(Arc<Poly>),
}

#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
struct Poly {
    /// Terms sorted by monomial, coefficients non-zero, not a lone constant.
    terms: Vec<(Monomial, i64)>,
    /// Number of atoms, those within atoms included.
    atoms: u32,
}

impl Atom {
    /// Number of atoms that it is made of.
    fn atoms(&self) -> u32 {
        match self {
            Atom::Symbol(_) => 1,
            Atom::FloorDiv(a, b) | Atom::Mod(a, b) | Atom::Min(a, b) | Atom::Max(a, b) => {
                a.atoms().saturating_add(b.atoms()).saturating_add(1)
            }
        }
    }
}

impl Dim {
    /// The constant 0.
    pub const ZERO: Dim = Dim(Repr::Const(0));
    /// The constant 1.
    pub const ONE: Dim = Dim(Repr::Const(1));

    /// A symbol as a dimension.
    pub fn symbol(symbol: Symbol) -> Dim {
        Dim(Repr::Poly(Arc::new(Poly { terms: vec![(vec![(Atom::Symbol(symbol), 1)], 1)], atoms: 1 })))
    }

    fn atom(atom: Atom) -> Result<Dim, DimError> {
        Dim::from_terms([(vec![(atom, 1)], 1)])
    }

    fn atoms(&self) -> u32 {
        match &self.0 {
            Repr::Const(_) => 0,
            Repr::Poly(poly) => poly.atoms,
        }
    }

    /// The value, if it is known.
    pub fn as_const(&self) -> Option<i64> {
        match self.0 {
            Repr::Const(value) => Some(value),
            Repr::Poly(_) => None,
        }
    }

    /// Whether this is the constant `value`.
    pub fn is(&self, value: i64) -> bool {
        self.as_const() == Some(value)
    }

    /// The symbol, if this is a lone one.
    pub fn as_symbol(&self) -> Option<&Symbol> {
        match self.terms() {
            [(monomial, 1)] => match monomial.as_slice() {
                [(Atom::Symbol(symbol), 1)] => Some(symbol),
                _ => None,
            },
            _ => None,
        }
    }

    /// The terms of the normal form, sorted; empty for constants (see [`Dim::as_const`]).
    pub fn terms(&self) -> &[(Monomial, i64)] {
        match &self.0 {
            Repr::Const(_) => &[],
            Repr::Poly(poly) => &poly.terms,
        }
    }

    pub(crate) fn term_list(&self) -> Vec<(Monomial, i64)> {
        match &self.0 {
            Repr::Const(0) => Vec::new(),
            Repr::Const(value) => vec![(Vec::new(), *value)],
            Repr::Poly(poly) => poly.terms.clone(),
        }
    }

    pub(crate) fn from_terms(terms: impl IntoIterator<Item = (Monomial, i64)>) -> Result<Dim, DimError> {
        let mut sum: BTreeMap<Monomial, i64> = BTreeMap::new();
        for (monomial, coefficient) in terms {
            let slot = sum.entry(monomial).or_insert(0);
            *slot = slot.checked_add(coefficient).ok_or(DimError::Overflow)?;
        }
        sum.retain(|_, c| *c != 0);
        if sum.len() > MAX_TERMS {
            return Err(DimError::TooComplex);
        }
        if sum.is_empty() {
            return Ok(Dim::ZERO);
        }
        if let (1, Some((monomial, value))) = (sum.len(), sum.first_key_value())
            && monomial.is_empty()
        {
            return Ok(Dim(Repr::Const(*value)));
        }
        let atoms = sum.keys().flatten().fold(0u32, |n, (atom, _)| n.saturating_add(atom.atoms()));
        if atoms > MAX_ATOMS {
            return Err(DimError::TooComplex);
        }
        Ok(Dim(Repr::Poly(Arc::new(Poly { terms: sum.into_iter().collect(), atoms }))))
    }

    /// The sum.
    ///
    /// # Errors
    /// [`DimError::Overflow`] and [`DimError::TooComplex`], as for all arithmetic here.
    pub fn add(&self, other: &Dim) -> Result<Dim, DimError> {
        if let (Some(a), Some(b)) = (self.as_const(), other.as_const()) {
            return a.checked_add(b).map(Dim::from).ok_or(DimError::Overflow);
        }
        Dim::from_terms(self.term_list().into_iter().chain(other.term_list()))
    }

    /// The difference.
    ///
    /// # Errors
    /// As [`Dim::add`].
    pub fn sub(&self, other: &Dim) -> Result<Dim, DimError> {
        self.add(&other.neg()?)
    }

    /// The negation.
    ///
    /// # Errors
    /// As [`Dim::add`].
    pub fn neg(&self) -> Result<Dim, DimError> {
        self.mul(&Dim::from(-1))
    }

    /// The product.
    ///
    /// # Errors
    /// As [`Dim::add`].
    pub fn mul(&self, other: &Dim) -> Result<Dim, DimError> {
        if let (Some(a), Some(b)) = (self.as_const(), other.as_const()) {
            return a.checked_mul(b).map(Dim::from).ok_or(DimError::Overflow);
        }
        let (left, right) = (self.term_list(), other.term_list());
        if left.len().saturating_mul(right.len()) > MAX_TERMS * 4 {
            return Err(DimError::TooComplex);
        }
        let mut terms = Vec::with_capacity(left.len() * right.len());
        for (ma, ca) in &left {
            for (mb, cb) in &right {
                let coefficient = ca.checked_mul(*cb).ok_or(DimError::Overflow)?;
                terms.push((monomial_mul(ma, mb)?, coefficient));
            }
        }
        Dim::from_terms(terms)
    }

    /// `self ** exponent`.
    ///
    /// # Errors
    /// As [`Dim::add`].
    pub fn pow(&self, exponent: u32) -> Result<Dim, DimError> {
        if let Some(base) = self.as_const() {
            return base.checked_pow(exponent).map(Dim::from).ok_or(DimError::Overflow);
        }
        if exponent > MAX_EXPONENT {
            return Err(DimError::TooComplex);
        }
        let mut result = Dim::ONE;
        for _ in 0..exponent {
            result = result.mul(self)?;
        }
        Ok(result)
    }

    /// The smaller of two.
    ///
    /// # Errors
    /// As [`Dim::add`].
    pub fn minimum(&self, other: &Dim) -> Result<Dim, DimError> {
        match other.sub(self)?.range() {
            (Some(low), _) if low >= 0 => Ok(self.clone()),
            (_, Some(high)) if high <= 0 => Ok(other.clone()),
            _ => {
                let (a, b) = if self <= other { (self, other) } else { (other, self) };
                Dim::atom(Atom::Min(a.clone(), b.clone()))
            }
        }
    }

    /// The larger of two.
    ///
    /// # Errors
    /// As [`Dim::add`].
    pub fn maximum(&self, other: &Dim) -> Result<Dim, DimError> {
        match self.sub(other)?.range() {
            (Some(low), _) if low >= 0 => Ok(self.clone()),
            (_, Some(high)) if high <= 0 => Ok(other.clone()),
            _ => {
                let (a, b) = if self <= other { (self, other) } else { (other, self) };
                Dim::atom(Atom::Max(a.clone(), b.clone()))
            }
        }
    }

    /// The product of several.
    ///
    /// # Errors
    /// As [`Dim::add`].
    pub fn product<'a>(dims: impl IntoIterator<Item = &'a Dim>) -> Result<Dim, DimError> {
        dims.into_iter().try_fold(Dim::ONE, |acc, d| acc.mul(d))
    }

    /// All symbols that occur, each once, sorted.
    pub fn symbols(&self) -> Vec<Symbol> {
        let mut found = Vec::new();
        self.visit_symbols(&mut |s| found.push(s.clone()));
        found.sort();
        found.dedup();
        found
    }

    fn visit_symbols(&self, visit: &mut dyn FnMut(&Symbol)) {
        for (monomial, _) in self.terms() {
            for (atom, _) in monomial {
                match atom {
                    Atom::Symbol(symbol) => visit(symbol),
                    Atom::FloorDiv(a, b) | Atom::Mod(a, b) | Atom::Min(a, b) | Atom::Max(a, b) => {
                        a.visit_symbols(visit);
                        b.visit_symbols(visit);
                    }
                }
            }
        }
    }

    /// The dimension with symbols replaced where `lookup` gives a value.
    ///
    /// # Errors
    /// As [`Dim::add`], and [`DimError::DivisionByZero`].
    pub fn substitute(&self, lookup: &dyn Fn(&Symbol) -> Option<Dim>) -> Result<Dim, DimError> {
        if self.as_const().is_some() {
            return Ok(self.clone());
        }
        let mut sum = Dim::ZERO;
        for (monomial, coefficient) in self.terms() {
            let mut product = Dim::from(*coefficient);
            for (atom, exponent) in monomial {
                let value = match atom {
                    Atom::Symbol(s) => lookup(s).unwrap_or_else(|| Dim::symbol(s.clone())),
                    Atom::FloorDiv(a, b) => a.substitute(lookup)?.floor_div(&b.substitute(lookup)?)?,
                    Atom::Mod(a, b) => a.substitute(lookup)?.modulo(&b.substitute(lookup)?)?,
                    Atom::Min(a, b) => a.substitute(lookup)?.minimum(&b.substitute(lookup)?)?,
                    Atom::Max(a, b) => a.substitute(lookup)?.maximum(&b.substitute(lookup)?)?,
                };
                product = product.mul(&value.pow(*exponent)?)?;
            }
            sum = sum.add(&product)?;
        }
        Ok(sum)
    }

    /// The value for given symbol values.
    ///
    /// # Errors
    /// Overflow, a zero divisor, or a symbol that `lookup` does not know.
    pub fn eval(&self, lookup: &dyn Fn(&Symbol) -> Option<i64>) -> Result<i64, DimError> {
        let value = self.substitute(&|s| lookup(s).map(Dim::from))?;
        value.as_const().ok_or_else(|| {
            DimError::Unbound(value.symbols().first().map_or_else(String::new, |s| s.name().into()))
        })
    }
}

fn monomial_mul(a: &Monomial, b: &Monomial) -> Result<Monomial, DimError> {
    let mut factors: BTreeMap<Atom, u32> = a.iter().cloned().collect();
    for (atom, exponent) in b {
        let slot = factors.entry(atom.clone()).or_insert(0);
        *slot = slot.saturating_add(*exponent);
        if *slot > MAX_EXPONENT {
            return Err(DimError::TooComplex);
        }
    }
    Ok(factors.into_iter().collect())
}

impl From<i64> for Dim {
    fn from(value: i64) -> Dim {
        Dim(Repr::Const(value))
    }
}

impl fmt::Debug for Dim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Dim {
    /// Higher terms first, the constant last: `2*T - 1`, `(L + 2)//2`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(value) = self.as_const() {
            return write!(f, "{value}");
        }
        for (i, (monomial, coefficient)) in self.terms().iter().rev().enumerate() {
            match (i, *coefficient < 0) {
                (0, true) => f.write_str("-")?,
                (0, false) => {}
                (_, true) => f.write_str(" - ")?,
                (_, false) => f.write_str(" + ")?,
            }
            let magnitude = coefficient.unsigned_abs();
            if monomial.is_empty() {
                write!(f, "{magnitude}")?;
                continue;
            }
            if magnitude != 1 {
                write!(f, "{magnitude}*")?;
            }
            for (k, (atom, exponent)) in monomial.iter().enumerate() {
                if k > 0 {
                    f.write_str("*")?;
                }
                write!(f, "{atom}")?;
                if *exponent > 1 {
                    write!(f, "**{exponent}")?;
                }
            }
        }
        Ok(())
    }
}

struct Operand<'a>(&'a Dim);

impl fmt::Display for Operand<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let simple = self.0.as_const().is_some_and(|v| v >= 0) || self.0.as_symbol().is_some();
        if simple { write!(f, "{}", self.0) } else { write!(f, "({})", self.0) }
    }
}

impl fmt::Display for Atom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Atom::Symbol(symbol) => f.write_str(symbol.name()),
            Atom::FloorDiv(a, b) => write!(f, "({}//{})", Operand(a), Operand(b)),
            Atom::Mod(a, b) => write!(f, "({} % {})", Operand(a), Operand(b)),
            Atom::Min(a, b) => write!(f, "min({a}, {b})"),
            Atom::Max(a, b) => write!(f, "max({a}, {b})"),
        }
    }
}

#[cfg(test)]
mod tests;
