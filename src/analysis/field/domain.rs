//! Where in a value a dependence holds: bounds on its coordinates.
//!
//! A score is masked by writing zero where a key may not be seen; the sum over all keys that follows
//! has no condition any more. That it takes no part of what is masked is known from the bounds that
//! the dependence carries along.

use super::positions::{Coord, Positions};
use super::union::Union;
use crate::dim::Dim;
use std::collections::{BTreeMap, BTreeSet};

/// More bounds than this are not carried along.
const MAX_BOUNDS: usize = 6;
/// With more domains than this, an input counts for all of the value.
const MAX_DOMAINS: usize = 6;

/// `constant + sum(terms[c] * p[c])` is zero, or not negative.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bound {
    /// Coefficients by coordinate.
    pub terms: BTreeMap<Coord, Dim>,
    /// The rest.
    pub constant: Dim,
    /// Whether it is zero rather than not negative.
    pub zero: bool,
}

impl Bound {
    /// As a comparison: `p3 <= p2`.
    pub fn text(&self, name: &dyn Fn(Coord) -> String) -> String {
        let (mut above, mut below) = (Vec::new(), Vec::new());
        let mut side = |coefficient: &Dim, name: Option<String>| {
            let negative = coefficient.range().1.is_some_and(|high| high < 0);
            let size = if negative {
                coefficient.neg().unwrap_or_else(|_| coefficient.clone())
            } else {
                coefficient.clone()
            };
            let text = match name {
                None => size.to_string(),
                Some(name) if size.is(1) => name,
                Some(name) => format!("{size}*{name}"),
            };
            if negative { below.push(text) } else { above.push(text) }
        };
        self.terms.iter().for_each(|(coord, coefficient)| side(coefficient, Some(name(*coord))));
        if !self.constant.is(0) {
            side(&self.constant, None);
        }
        let sum = |terms: Vec<String>| if terms.is_empty() { "0".into() } else { terms.join(" + ") };
        let (low, high) = (sum(below), sum(above));
        match (self.zero, low.starts_with('p')) {
            (true, _) => format!("{low} == {high}"),
            (false, true) => format!("{low} <= {high}"),
            (false, false) => format!("{high} >= {low}"),
        }
    }
}

/// Where all of the bounds hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Domain {
    /// The bounds.
    pub bounds: BTreeSet<Bound>,
    /// Whether it is only a part of that, which cannot be said.
    pub partial: bool,
}

impl Domain {
    /// Everywhere.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a bound; one too many makes it partial.
    pub fn add(&mut self, bound: Bound) {
        if self.bounds.len() < MAX_BOUNDS || self.bounds.contains(&bound) {
            self.bounds.insert(bound);
        } else {
            self.partial = true;
        }
    }

    /// Whether it holds `other`, and says no less of it.
    fn contains(&self, other: &Domain) -> bool {
        self.bounds.is_subset(&other.bounds) && self.partial <= other.partial
    }
}

/// What a value takes of the inputs that have a part in it: for each input, and each domain of the
/// value, one union per axis of the input, over the axes of the value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fields {
    /// Where the value may be other than zero.
    pub support: Domain,
    parts: BTreeMap<(usize, Domain), Vec<Union>>,
}

impl Fields {
    /// Of no input.
    pub fn new() -> Self {
        Self::default()
    }

    /// Of one input, everywhere.
    pub fn of(input: usize, axes: Vec<Union>) -> Self {
        Fields { support: Domain::new(), parts: BTreeMap::from([((input, Domain::new()), axes)]) }
    }

    /// Input, domain and unions.
    pub fn iter(&self) -> impl Iterator<Item = (usize, &Domain, &Vec<Union>)> {
        self.parts.iter().map(|((input, domain), axes)| (*input, domain, axes))
    }

    /// Adds what is taken of an input.
    pub fn add(&mut self, input: usize, domain: Domain, axes: Vec<Union>) {
        let contained = self.iter().any(|(known, wider, all)| {
            let mut both = all.clone();
            join(&mut both, &axes);
            known == input && wider.contains(&domain) && both == *all
        });
        if contained {
            return;
        }
        match self.parts.get_mut(&(input, domain.clone())) {
            Some(known) => join(known, &axes),
            None => {
                self.parts.insert((input, domain), axes);
            }
        }
        if self.parts.keys().filter(|(known, _)| *known == input).count() > MAX_DOMAINS {
            let axes = self.everywhere().remove(&input).unwrap_or_default();
            self.parts.retain(|(known, _), _| *known != input);
            self.parts.insert((input, Domain { partial: true, ..Domain::new() }), axes);
        }
    }

    /// By input alone, for all of the value.
    fn everywhere(&self) -> BTreeMap<usize, Vec<Union>> {
        let mut all: BTreeMap<usize, Vec<Union>> = BTreeMap::new();
        for (input, _, axes) in self.iter() {
            match all.get_mut(&input) {
                Some(known) => join(known, axes),
                None => {
                    all.insert(input, axes.clone());
                }
            }
        }
        all
    }

    /// With every union replaced.
    pub fn with(mut self, change: &mut dyn FnMut(usize, &Domain, usize, &Union) -> Union) -> Self {
        for ((input, domain), axes) in &mut self.parts {
            for (axis, union) in axes.iter_mut().enumerate() {
                *union = change(*input, domain, axis, union);
            }
        }
        self
    }

    /// The union of an axis of an input in a domain.
    pub fn get(&self, input: usize, domain: &Domain, axis: usize) -> Option<&Union> {
        self.parts.get(&(input, domain.clone()))?.get(axis)
    }
}

fn join(known: &mut [Union], axes: &[Union]) {
    known.iter_mut().zip(axes).for_each(|(a, b)| a.join(b));
}

/// A domain over other coordinates; bounds that cannot be said over them are left out.
pub fn renamed(domain: &Domain, resolve: &dyn Fn(Coord) -> Option<Positions>) -> Domain {
    let bound = |bound: &Bound| {
        let mut renamed = Bound { terms: BTreeMap::new(), ..bound.clone() };
        for (coord, coefficient) in &bound.terms {
            let (to, shift) = resolve(*coord)?.as_shifted_coord()?;
            let sum = renamed.terms.remove(&to).unwrap_or(Dim::ZERO).add(coefficient).ok()?;
            renamed.terms.insert(to, sum);
            renamed.constant = renamed.constant.add(&shift.mul(coefficient).ok()?).ok()?;
        }
        Some(renamed)
    };
    let bounds: Vec<Option<Bound>> = domain.bounds.iter().map(bound).collect();
    let partial = domain.partial || bounds.iter().any(Option::is_none);
    Domain { bounds: bounds.into_iter().flatten().collect(), partial }
}
