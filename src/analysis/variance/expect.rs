//! Moments of forms, and the bases that are made from them.

use super::coord::Coord;
use super::form::{Form, Product, Variable};
use super::fun::Fun;
use super::moments::{Axes, Moments, positions};
use super::normal::mehler;
use super::world::{Base, Kind, Notes, Relation, Sources, Why, World};
use crate::ops::scalar::BinaryOp;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Positions that a table of numbers may have.
pub(super) const MAX_TABLE: i64 = 1 << 22;

/// A form over those axes only that it moves with.
pub(super) struct Compact {
    pub form: Form,
    pub sizes: Vec<i64>,
    /// Which axes of the reader they are.
    pub axes: Vec<usize>,
}

/// What the parts of a form assume together, or why its moments are not known.
pub(super) type Checked = Result<Notes, Why>;

impl World {
    /// Renumbers the axes of a form: those below `kept` that it moves with, and all from there on.
    pub fn compact(&mut self, form: &Form, sizes: &[i64], kept: usize) -> Compact {
        let used = form.axes();
        let axes: Vec<usize> = (0..sizes.len()).filter(|k| *k >= kept || used >> k & 1 == 1).collect();
        let place = |k: usize| axes.iter().position(|axis| *axis == k);
        let at: Vec<Coord> =
            (0..sizes.len()).map(|k| place(k).map_or_else(Coord::default, Coord::axis)).collect();
        let compact_sizes: Vec<i64> = axes.iter().map(|k| sizes[*k]).collect();
        let form = form.read_at(&at, &compact_sizes, &mut self.funs);
        Compact { form, sizes: compact_sizes, axes }
    }

    /// Whether moments of a form can be known, and what is assumed for them.
    pub fn check(&self, form: &Form, sizes: &[i64]) -> Checked {
        let mut notes = Notes::default();
        let variables = form.variables();
        for v in &variables {
            let base = self.base(v.base);
            if let Some(why) = &base.why {
                return Err(why.clone());
            }
            notes = notes.or(base.notes);
        }
        for (v, f) in form.terms.iter().flat_map(|(product, _)| product) {
            notes.normal |= *f != Fun::IDENTITY && !self.base(v.base).normal;
            notes.gathered |= v.at.iter().any(Coord::has_data);
        }
        for (product, _) in &form.terms {
            for (k, (v, _)) in product.iter().enumerate() {
                for (w, _) in &product[..k] {
                    match self.relation(v, w, sizes) {
                        Relation::Independent => {}
                        Relation::Uncorrelated => notes.independent = true,
                        Relation::Correlated | Relation::Dependent => {
                            return Err("the factors of a product are not independent".into());
                        }
                    }
                }
            }
        }
        for (k, (p, _)) in form.terms.iter().enumerate() {
            for (q, _) in &form.terms[..k] {
                // Of single variables the covariance is needed and nothing else.
                let plain = |p: &Product| matches!(p[..], [(_, Fun::IDENTITY)]);
                let uncorrelated = self.related_products(p, q, sizes) == Relation::Uncorrelated;
                notes.independent |= uncorrelated && !(plain(p) && plain(q));
            }
        }
        Ok(notes)
    }

    /// The worst relation of a factor of one product to one of the other. What they share is no
    /// obstacle.
    fn related_products(&self, p: &Product, q: &Product, sizes: &[i64]) -> Relation {
        let pairs = p.iter().flat_map(|(v, _)| q.iter().map(move |(w, _)| (v, w)));
        let relations = pairs.filter(|(v, w)| v != w).map(|(v, w)| self.relation(v, w, sizes));
        relations.max().unwrap_or(Relation::Independent)
    }

    /// The mean of the product of the numbers in two products, if both have some.
    fn numbers_of(&mut self, p: &Product, q: &Product, differ: Axes, sizes: &[i64]) -> Option<f64> {
        let v = p.iter().map(|(v, _)| v).find(|v| self.is_numbers(v))?;
        let w = q.iter().map(|(w, _)| w).find(|w| self.is_numbers(w))?;
        Some(self.crossing(v, w, differ, sizes))
    }

    /// The expectation of a function of a variable.
    fn mean_of(&mut self, v: &Variable, f: Fun) -> f64 {
        let (mean, variance) = {
            let moments = &self.base(v.base).moments;
            (moments.mean, moments.variance())
        };
        if f == Fun::IDENTITY { mean } else { self.expansion(f, mean, variance)[0] }
    }

    /// The expectation of two functions of two elements of a base.
    fn pair_of(&mut self, v: (&Variable, Fun), w: (&Variable, Fun), differ: Axes) -> f64 {
        let apart = self.apart(v.0, w.0, differ);
        let moments = &self.base(v.0.base).moments;
        let (mean, variance, cov) = (moments.mean, moments.variance(), moments.cov[apart as usize]);
        if v.1 == Fun::IDENTITY && w.1 == Fun::IDENTITY {
            return cov + mean * mean;
        }
        if cov == 0.0 && apart != 0 {
            return self.mean_of(v.0, v.1) * self.mean_of(w.0, w.1);
        }
        if apart == 0 || cov == variance {
            let both = self.funs.binary(BinaryOp::Mul, v.1, w.1);
            return self.expansion(both, mean, variance)[0];
        }
        let (f, g) = (self.expansion(v.1, mean, variance), self.expansion(w.1, mean, variance));
        mehler(&f, &g, cov / variance)
    }

    /// The expectation of a product; its factors count as independent.
    fn mean_product(&mut self, product: &Product) -> f64 {
        product.iter().fold(1.0, |mean, (v, f)| multiplied(mean, self.mean_of(v, *f)))
    }

    /// The expectation of the product of two products, read at points that differ along `differ`.
    fn pair_product(&mut self, p: &Product, q: &Product, differ: Axes, sizes: &[i64]) -> f64 {
        let mut expected = 1.0;
        let mut rest: Vec<&(Variable, Fun)> = q.iter().collect();
        for (v, f) in p {
            let numbers = self.is_numbers(v);
            let partner = rest.iter().position(|(w, _)| match numbers {
                true => self.is_numbers(w),
                false => {
                    w.base == v.base && {
                        let cov = self.base(v.base).moments.cov[self.apart(v, w, differ) as usize];
                        // Those without covariance count as independent.
                        cov != 0.0 || v == w
                    }
                }
            });
            let factor = match partner.map(|k| rest.remove(k)) {
                None => self.mean_of(v, *f),
                Some((w, _)) if numbers && (v != w || differ != 0) => self.crossing(v, w, differ, sizes),
                Some((w, g)) => self.pair_of((v, *f), (w, *g), differ),
            };
            expected = multiplied(expected, factor);
        }
        rest.into_iter().fold(expected, |expected, (w, g)| multiplied(expected, self.mean_of(w, *g)))
    }

    /// The mean of the product of two numbers, on average over both orders.
    fn crossing(&mut self, v: &Variable, w: &Variable, differ: Axes, sizes: &[i64]) -> f64 {
        let (first, second) = if v <= w { (v, w) } else { (w, v) };
        let key = (first.clone(), second.clone(), sizes.to_vec());
        let known = match self.crossings.get(&key) {
            Some(known) => known.clone(),
            None => {
                let moments = Arc::new(self.crossed(first, second, sizes));
                self.crossings.insert(key, moments.clone());
                moments
            }
        };
        known.cov[differ as usize]
    }

    /// Raw moments of a product of numbers, from those of their sum and difference.
    fn crossed(&self, v: &Variable, w: &Variable, sizes: &[i64]) -> Moments {
        let used = v.axes() | w.axes();
        let axes: Vec<usize> = (0..sizes.len()).filter(|k| used >> k & 1 == 1).collect();
        let inner: Vec<i64> = axes.iter().map(|k| sizes[*k]).collect();
        let (Some(a), Some(b)) = (self.table(v, sizes, &axes), self.table(w, sizes, &axes)) else {
            return Moments::unknown(sizes.len());
        };
        let raw = |sign: f64| {
            let values: Vec<f64> = a.iter().zip(&b).map(|(x, y)| x + sign * y).collect();
            let moments = Moments::of_numbers(&values, &inner);
            let square = moments.mean * moments.mean;
            moments.cov.into_iter().map(|cov| cov + square).collect::<Vec<f64>>()
        };
        let (sum, difference) = (raw(1.0), raw(-1.0));
        let place = |set: Axes| {
            axes.iter().enumerate().filter(|(_, k)| set >> **k & 1 == 1).fold(0, |to, (n, _)| to | 1 << n)
        };
        let cov = (0..1u32 << sizes.len()).map(|set| {
            let at: usize = place(set);
            (sum[at] - difference[at]) / 4.0
        });
        Moments { mean: f64::NAN, cov: cov.collect() }
    }

    /// The mean of a form that was checked.
    pub fn mean(&mut self, form: &Form) -> f64 {
        form.terms.iter().map(|(product, c)| c * self.mean_product(product)).sum()
    }

    /// The covariance of two elements of a form that was checked.
    pub fn covariance(&mut self, form: &Form, differ: Axes, sizes: &[i64]) -> f64 {
        let mut sum = 0.0;
        let means: Vec<f64> = form.terms.iter().map(|(product, _)| self.mean_product(product)).collect();
        for (j, (p, c)) in form.terms.iter().enumerate() {
            for (k, (q, d)) in form.terms.iter().enumerate().take(j + 1) {
                let dependent = j != k && self.related_products(p, q, sizes) == Relation::Dependent;
                let both = match dependent {
                    false => self.pair_product(p, q, differ, sizes),
                    // Where one of them is zero, it does not matter how they hang together.
                    true if self.numbers_of(p, q, differ, sizes).is_some_and(|x| x.abs() < 1e-12) => 0.0,
                    true => f64::NAN,
                };
                let both = both - means[j] * means[k];
                sum += if j == k { c * d * both } else { 2.0 * c * d * both };
            }
        }
        // Rounding leaves traces where there is no covariance.
        let scale: f64 = form.terms.iter().zip(&means).map(|((_, c), mean)| (c * mean).powi(2)).sum();
        if sum.abs() <= 1e-13 * scale { 0.0 } else { sum }
    }

    /// All moments of a form; what is not known is NaN.
    pub fn moments(&mut self, form: &Form, sizes: &[i64]) -> (Moments, Checked) {
        if self.symbolic {
            return (Moments::unknown(sizes.len()), Ok(Notes::default()));
        }
        match self.check(form, sizes) {
            Err(why) => (Moments::unknown(sizes.len()), Err(why)),
            Ok(notes) => {
                let mean = self.mean(form);
                let cov = (0..1 << sizes.len()).map(|differ| self.covariance(form, differ, sizes)).collect();
                (Moments { mean, cov }, Ok(notes))
            }
        }
    }

    /// A base made of a form: moments that follow from the form's, and what it depends on.
    pub(super) fn base_of(
        &mut self,
        compact: &Compact,
        sizes: &[i64],
        kind: Kind,
        follow: impl FnOnce(&mut World, Moments) -> Moments,
    ) -> Base {
        let (moments, checked) = self.moments(&compact.form, &compact.sizes);
        let (sources, mut notes) = self.form_sources(&compact.form, &compact.sizes);
        let linear = match &kind {
            Kind::Sum { .. } => true,
            Kind::Of { f, .. } => *f == Fun::IDENTITY,
            _ => false,
        };
        let linear_in = if linear { self.form_linear_in(&compact.form, &compact.sizes) } else { Vec::new() };
        notes.normal |= !linear;
        let normed = linear && self.has_normed(&compact.form, |f| f == Fun::IDENTITY);
        let mut moments = match &checked {
            Ok(more) if !self.symbolic => {
                notes = notes.or(*more);
                follow(self, moments)
            }
            _ => Moments::unknown(sizes.len()),
        };
        let is_sum = matches!(kind, Kind::Sum { .. });
        if is_sum && self.has_normed(&compact.form, |f| f != Fun::IDENTITY) {
            // The squares of what was normalised are not independent: their mean is all that is known.
            moments.cov.fill(f64::NAN);
        }
        let (why, normed) = (checked.err(), normed && !is_sum);
        Base { sizes: sizes.to_vec(), moments, kind, sources, linear_in, normal: false, normed, notes, why }
    }

    /// Whether a term is such a function of one variable that was normalised.
    fn has_normed(&self, form: &Form, function: impl Fn(Fun) -> bool) -> bool {
        form.terms.iter().any(|(p, _)| matches!(&p[..], [(v, f)] if function(*f) && self.base(v.base).normed))
    }

    /// A function of a form as one variable. The form counts as normal.
    pub fn function(&mut self, f: Fun, form: &Form, sizes: &[i64]) -> Form {
        let compact = self.compact(form, sizes, sizes.len());
        let at: Vec<Coord> = compact.axes.iter().map(|k| Coord::axis(*k)).collect();
        let key = World::key("function", &compact.form, &compact.sizes, f.number());
        let base = self.interned(key, |world| {
            let kind = Kind::Of { form: compact.form.clone(), f };
            world.base_of(&compact, &compact.sizes.clone(), kind, |world, m| world.mapped(f, m))
        });
        Form::of(Variable { base, at })
    }

    /// The moments of a function of what has these.
    fn mapped(&mut self, f: Fun, of: Moments) -> Moments {
        if f == Fun::IDENTITY {
            return of;
        }
        let variance = of.variance();
        let c = self.expansion(f, of.mean, variance);
        let square = self.funs.binary(BinaryOp::Mul, f, f);
        let whole = self.expansion(square, of.mean, variance)[0] - c[0] * c[0];
        let cov = of.cov.iter().enumerate().map(|(differ, cov)| match *cov {
            _ if differ == 0 => whole,
            0.0 => 0.0,
            cov if cov == variance => whole,
            cov => mehler(&c, &c, cov / variance) - c[0] * c[0],
        });
        Moments { mean: c[0], cov: cov.collect() }
    }

    /// The sum of a form over the axes from `kept` on.
    pub fn sum(&mut self, form: &Form, sizes: &[i64], kept: usize) -> Form {
        let count: f64 = sizes[kept..].iter().map(|n| *n as f64).product();
        if let Some(constant) = form.as_constant() {
            return Form::constant(constant * count);
        }
        let compact = self.compact(form, sizes, kept);
        let outer = compact.axes.iter().filter(|k| **k < kept).count();
        let at: Vec<Coord> = compact.axes[..outer].iter().map(|k| Coord::axis(*k)).collect();
        if let [(product, c)] = &compact.form.terms[..]
            && let [(v, Fun::IDENTITY)] = &product[..]
            && self.is_numbers(v)
            && let Some(table) = self.table(v, &compact.sizes, &(0..compact.sizes.len()).collect::<Vec<_>>())
        {
            let inner = count as usize;
            let sums = table.chunks(inner.max(1)).map(|part| c * part.iter().sum::<f64>()).collect();
            return self.numbers(sums, &compact.sizes[..outer], at);
        }
        let key = World::key("sum", &compact.form, &compact.sizes, outer as u64);
        let base = self.interned(key, |world| {
            let kind = Kind::Sum { form: compact.form.clone(), kept: outer, inner: compact.sizes.clone() };
            world.base_of(&compact, &compact.sizes[..outer], kind, |_, m| m.summed(outer, &compact.sizes))
        });
        Form::of(Variable { base, at })
    }

    /// Numbers that nothing random decides, as a form: `at` says where they are read.
    pub fn numbers(&mut self, values: Vec<f64>, sizes: &[i64], at: Vec<Coord>) -> Form {
        let first = values.first().copied().unwrap_or(0.0);
        if values.iter().all(|x| *x == first) {
            return Form::constant(first);
        }
        let key = (sizes.to_vec(), values.iter().map(|x| x.to_bits()).collect());
        let base = match self.tables.get(&key) {
            Some(known) => *known,
            None => {
                let base = self.add(Base {
                    sizes: sizes.to_vec(),
                    moments: Moments::of_numbers(&values, sizes),
                    kind: Kind::Numbers(values.into()),
                    sources: Sources::default(),
                    linear_in: Vec::new(),
                    normal: true,
                    normed: false,
                    notes: Notes::default(),
                    why: None,
                });
                self.tables.insert(key, base);
                base
            }
        };
        Form::of(Variable { base, at })
    }

    /// The numbers that a variable takes over some axes of its reader, in row-major order.
    pub fn table(&self, v: &Variable, sizes: &[i64], axes: &[usize]) -> Option<Vec<f64>> {
        let base = self.base(v.base);
        let Kind::Numbers(values) = &base.kind else { return None };
        let mut point = vec![0; sizes.len()];
        let count = positions(axes.iter().map(|k| &sizes[*k]));
        if count > MAX_TABLE {
            return None;
        }
        let mut table = Vec::with_capacity(usize::try_from(count).ok()?);
        for _ in 0..count {
            let mut at = 0;
            for (c, size) in v.at.iter().zip(&base.sizes) {
                at = at * size + c.at(&point)?.clamp(0, size - 1);
            }
            table.push(*values.get(usize::try_from(at).ok()?)?);
            advance(&mut point, sizes, axes);
        }
        Some(table)
    }

    /// Every variable of numbers in a product made one, over the axes of the reader.
    pub fn merge_numbers(&mut self, form: &Form, sizes: &[i64]) -> Form {
        // Products of numbers with their coefficients, by what they are multiplied with.
        let mut groups: BTreeMap<Product, Vec<(Product, f64)>> = BTreeMap::new();
        for (product, c) in &form.terms {
            let (numbers, rest): (Product, Product) =
                product.iter().cloned().partition(|(v, _)| self.is_numbers(v));
            groups.entry(rest).or_default().push((numbers, *c));
        }
        let mut merged = Form::default();
        for (rest, parts) in groups {
            let simple = |(numbers, _): &(Product, f64)| matches!(numbers[..], [] | [(_, Fun::IDENTITY)]);
            let known = match &parts[..] {
                [part] if simple(part) => Form::product(part.0.clone(), part.1),
                _ => self.numbers_summed(&parts, sizes),
            };
            let product = Form::product(rest, 1.0).by(&known, &mut self.funs);
            merged = merged.plus(&product.unwrap_or_default(), 1.0);
        }
        merged
    }

    /// A sum of products of numbers as one table.
    fn numbers_summed(&mut self, parts: &[(Product, f64)], sizes: &[i64]) -> Form {
        let used = parts.iter().flat_map(|(p, _)| p).fold(0, |axes, (v, _)| axes | v.axes());
        let axes: Vec<usize> = (0..sizes.len()).filter(|k| used >> k & 1 == 1).collect();
        let count = positions(axes.iter().map(|k| &sizes[*k]));
        if count > MAX_TABLE {
            return self.unknown("too many positions to count");
        }
        let mut values = vec![0.0; usize::try_from(count).unwrap_or(0)];
        for (numbers, c) in parts {
            let mut products = vec![*c; values.len()];
            for (v, f) in numbers {
                let factor = match self.table(v, sizes, &axes) {
                    Some(table) => self.funs.tabulate(*f, &table),
                    None => vec![f64::NAN; products.len()],
                };
                products.iter_mut().zip(factor).for_each(|(x, y)| *x *= y);
            }
            values.iter_mut().zip(products).for_each(|(x, y)| *x += y);
        }
        let inner: Vec<i64> = axes.iter().map(|k| sizes[*k]).collect();
        self.numbers(values, &inner, axes.iter().map(|k| Coord::axis(*k)).collect())
    }

    /// A form as a function, not the identity, of a simpler one, where that rises (1) or falls (-1) over
    /// all that matters.
    fn monotone(&mut self, form: &Form, sizes: &[i64]) -> Option<(Form, Fun, f64)> {
        let [v] = form.variables()[..] else { return None };
        let v = v.clone();
        let f = form.univariate(&v, &mut self.funs)?;
        let (inner, f) = match self.base(v.base).kind.clone() {
            Kind::Of { form, f: inner } if inner != Fun::IDENTITY => {
                (form.read_at(&v.at, sizes, &mut self.funs), self.funs.compose(f, inner))
            }
            _ if f != Fun::IDENTITY => (Form::of(v), f),
            _ => return None,
        };
        self.check(&inner, sizes).ok()?;
        let (mean, variance) = (self.mean(&inner), self.covariance(&inner, 0, sizes));
        let reach = 8.0 * variance.sqrt() / 256.0;
        let points: Vec<f64> = (-256..=256).map(|k| mean + f64::from(k) * reach).collect();
        let values = self.funs.tabulate(f, &points);
        let holds = |ordered: fn(f64, f64) -> bool| values.windows(2).all(|pair| ordered(pair[0], pair[1]));
        match (holds(|a, b| a <= b), holds(|a, b| a >= b)) {
            (true, _) => Some((inner, f, 1.0)),
            (_, true) => Some((inner, f, -1.0)),
            _ => None,
        }
    }

    /// The greatest, or with `sign` -1 the least, of a form over the axes from `kept` on, `among` those
    /// for which that is 1. Elements that are alike along those axes are the common part of all plus
    /// independent ones.
    pub fn extreme(
        &mut self,
        form: &Form,
        among: Option<&Form>,
        sizes: &[i64],
        kept: usize,
        sign: f64,
    ) -> Form {
        if let Some(constant) = form.as_constant() {
            return Form::constant(constant);
        }
        if let Some((inner, f, direction)) = self.monotone(form, sizes) {
            // The greatest of a rising function is the function of the greatest.
            let inner = self.extreme(&inner, among, sizes, kept, sign * direction);
            return match (inner.as_variable().cloned(), inner.as_constant()) {
                (Some(v), _) => Form::product(vec![(v, f)], 1.0),
                (None, Some(constant)) => Form::constant(self.funs.at(f, constant)),
                _ => self.unknown("the greatest of several values"),
            };
        }
        let among = among.filter(|among| among.as_constant() != Some(1.0));
        let counts = match among {
            None => Some(vec![(sizes[kept..].iter().map(|n| *n as f64).product(), 1.0)]),
            Some(among) => among.as_variable().and_then(|v| self.counts(Some(v), sizes, kept)),
        };
        let Some(counts) = counts.filter(|counts| counts.iter().all(|(n, _)| *n > 0.0)) else {
            return self.unknown("a reduction that may be over nothing");
        };
        let compact = self.compact(form, sizes, kept);
        let outer = compact.axes.iter().filter(|k| **k < kept).count();
        let at: Vec<Coord> = compact.axes[..outer].iter().map(|k| Coord::axis(*k)).collect();
        let mut keyed = compact.form.clone();
        if let Some(among) = among {
            // Not a sum: only so that the key tells it apart.
            keyed.terms.extend(among.terms.iter().cloned());
        }
        let tag = (outer as u64) << 1 | u64::from(sign < 0.0);
        let key = World::key("extreme", &keyed, &compact.sizes, tag);
        let base = self.interned(key, |world| {
            world.base_of(&compact, &compact.sizes[..outer], Kind::Extreme, |_, m| {
                extreme_moments(&m, outer, &compact.sizes, sign, &counts)
            })
        });
        Form::of(Variable { base, at })
    }
}

/// The product, which is zero where one factor is, known or not: signs of a factor of its own cancel.
fn multiplied(a: f64, b: f64) -> f64 {
    if a == 0.0 || b == 0.0 { 0.0 } else { a * b }
}

/// Moments of the greatest of so many elements, with the share of the rows for which it is so many.
fn extreme_moments(of: &Moments, kept: usize, sizes: &[i64], sign: f64, counts: &[(f64, f64)]) -> Moments {
    let over: Axes = ((1 << sizes.len()) - 1) & !((1 << kept) - 1);
    let common = of.cov[over as usize];
    let alike = super::moments::subsets(over).skip(1).all(|set| {
        let single = sizes.iter().enumerate().all(|(k, n)| set >> k & 1 == 0 || *n == 1);
        single || of.cov[set as usize] == common
    });
    let own = of.variance() - common;
    if !alike || own.is_nan() || own < 0.0 {
        return Moments::unknown(kept);
    }
    let (mut mean, mut square) = (0.0, 0.0);
    for (count, share) in counts {
        let (m, v) = super::normal::greatest(*count);
        mean += share * m;
        square += share * (v + m * m);
    }
    let whole = common + own * (square - mean * mean);
    let cov = (0..1usize << kept).map(|differ| {
        let (here, there) = (of.cov[differ], of.cov[differ | over as usize]);
        match differ {
            0 => whole,
            // Nothing but the common part is shared.
            _ if here == there => here,
            _ if here == of.variance() && there == common => whole,
            _ => f64::NAN,
        }
    });
    Moments { mean: of.mean + sign * own.sqrt() * mean, cov: cov.collect() }
}

/// Moves a point on along some axes, the last one fastest.
pub(super) fn advance(point: &mut [i64], sizes: &[i64], axes: &[usize]) {
    for k in axes.iter().rev() {
        point[*k] += 1;
        if point[*k] < sizes[*k] {
            return;
        }
        point[*k] = 0;
    }
}
