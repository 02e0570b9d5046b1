//! Solving a shape equation for one unknown.

use super::{Atom, Dim, Symbol};

/// The value of `unknown` for which `formula == value`, where `formula` is linear in it.
///
/// The unknown must occur in exactly one term, `c * unknown * rest`, and `value` less the other
/// terms must divide by `c * rest` exactly, for all sizes; otherwise `None`.
pub fn solve_for(formula: &Dim, unknown: &Symbol, value: &Dim) -> Option<Dim> {
    let mut factor = None;
    let mut others = Vec::new();
    for (monomial, coefficient) in formula.term_list() {
        let position = monomial.iter().position(|(atom, _)| is_symbol(atom, unknown));
        match position {
            Some(at) if factor.is_none() && monomial[at].1 == 1 => {
                let mut rest = monomial;
                rest.remove(at);
                factor = Some(Dim::from_terms([(rest, coefficient)]).ok()?);
            }
            Some(_) => return None,
            None => others.push((monomial, coefficient)),
        }
    }
    let others = Dim::from_terms(others).ok()?;
    if others.symbols().contains(unknown) {
        return None;
    }
    value.sub(&others).ok()?.exact_div(&factor?)
}

fn is_symbol(atom: &Atom, symbol: &Symbol) -> bool {
    matches!(atom, Atom::Symbol(s) if s == symbol)
}
