//! What is known of values that are normalised, recognised by what they compute.
//!
//! - *Centred*: a form less its own mean over some axes.
//! - *Scaled*: a variable over the root of the sum of its own squares. The mean of the squares of
//!   such values is fixed, whatever the variable is, so the sum may be replaced by its mean.
//! - *Softmax*: an exponential over the sum of itself.
//!
//! Each looks for a sum among the factors, reads the sum's terms where the other factors are read,
//! and thereby finds where along the summed axes that is.

use super::coord::{Atom, Coord};
use super::expect::Compact;
use super::form::{Form, Product, Variable};
use super::fun::Fun;
use super::moments::{Axes, Moments, positions};
use super::normal::softmax_square;
use super::world::{Kind, World};
use crate::ops::scalar::UnaryOp;

/// Points of a reader at which a place along summed axes is tried out.
const MAX_POINTS: i64 = 1 << 20;

/// What a sum adds up.
struct Sum {
    /// Its term, over kept and summed axes.
    term: Form,
    /// How many axes are kept.
    kept: usize,
    /// Sizes of all axes.
    inner: Vec<i64>,
}

/// A sum that is read.
struct Read<'a> {
    /// Sizes of all axes.
    inner: &'a [i64],
    /// Where its kept axes are read, and with `None` that a summed axis is not found yet.
    at: Vec<Option<Coord>>,
}

impl Read<'_> {
    /// Finds where along the summed axes `part` of the term is `found`; whether it can be.
    fn unify(&mut self, part: &Variable, found: &Variable, sizes: &[i64]) -> bool {
        part.base == found.base
            && part.at.iter().zip(&found.at).all(|(c, want)| self.unify_one(c, want, sizes))
    }

    fn unify_one(&mut self, c: &Coord, want: &Coord, sizes: &[i64]) -> bool {
        let open = |at: &[Option<Coord>], atom: &Atom| matches!(atom, Atom::Axis(k) if at.get(*k).is_some_and(Option::is_none));
        let unknown: Vec<&(Atom, i64)> = c.terms.iter().filter(|(atom, _)| open(&self.at, atom)).collect();
        match unknown[..] {
            [] => {
                let at: Vec<Coord> = self.at.iter().map(|c| c.clone().unwrap_or_default()).collect();
                c.read_at(&at, sizes) == *want
            }
            [(Atom::Axis(k), times @ (1 | -1))] => {
                let (k, times) = (*k, *times);
                let at: Vec<Coord> = self.at.iter().map(|c| c.clone().unwrap_or_default()).collect();
                let rest = c.plus(&Coord::axis(k), -times);
                self.at[k] = Some(want.plus(&rest.read_at(&at, sizes), -1).times(times));
                true
            }
            _ => false,
        }
    }

    /// The places along all axes, if they are found and never outside.
    fn places(self, sizes: &[i64]) -> Option<Vec<Coord>> {
        let at = self.at.into_iter().collect::<Option<Vec<Coord>>>()?;
        at.iter().zip(self.inner).all(|(c, size)| is_within(c, *size, sizes)).then_some(at)
    }
}

fn is_within(c: &Coord, size: i64, sizes: &[i64]) -> bool {
    if let Some((low, high)) = c.range(sizes)
        && low >= 0
        && high < size
    {
        return true;
    }
    let axes: Vec<usize> = (0..sizes.len()).filter(|k| c.axes() >> k & 1 == 1).collect();
    let count = positions(axes.iter().map(|k| &sizes[*k]));
    let mut point = vec![0; sizes.len()];
    count <= MAX_POINTS
        && (0..count).all(|_| {
            let inside = c.at(&point).is_some_and(|at| (0..size).contains(&at));
            super::expect::advance(&mut point, sizes, &axes);
            inside
        })
}

/// Numbers at which functions are compared, as multiples of a scale.
const PROBES: [f64; 5] = [0.4, 0.75, 1.0, 1.6, 2.5];

/// Whether two numbers agree as far as constants in f32 let them.
fn agree(a: f64, b: f64) -> bool {
    (a - b).abs() <= 1e-6 * (a.abs() + b.abs())
}

impl World {
    /// Brings a form over axes of these sizes into its simplest shape.
    pub fn simplified(&mut self, form: &Form, sizes: &[i64]) -> Form {
        let mut form = self.merge_numbers(form, sizes);
        // Each rule takes a sum away, so this ends.
        while let Some(next) = self.rewritten(&form, sizes) {
            form = self.merge_numbers(&next, sizes);
        }
        form
    }

    fn rewritten(&mut self, form: &Form, sizes: &[i64]) -> Option<Form> {
        for (at, (product, c)) in form.terms.iter().enumerate() {
            for (k, (z, g)) in product.iter().enumerate() {
                let Kind::Sum { form: term, kept, inner } = self.base(z.base).kind.clone() else { continue };
                let sum = Sum { term, kept, inner };
                if *g == Fun::IDENTITY {
                    if product.len() == 1
                        && let Some(next) = self.centred(form, at, z, &sum, sizes)
                    {
                        return Some(next);
                    }
                    continue;
                }
                let mut rest = product.clone();
                rest.remove(k);
                let replaced = match self.scaled(&rest, z, *g, &sum, sizes) {
                    Some(factor) => Some(self.normed(rest, factor, sizes).times(*c)),
                    None => self.softmax(&rest, z, *g, &sum, sizes).map(|form| form.times(*c)),
                };
                if let Some(replaced) = replaced {
                    let mut others = form.clone();
                    others.terms.remove(at);
                    return Some(others.plus(&replaced, 1.0));
                }
            }
        }
        None
    }

    /// `x - mean x`: the term at `at` is the mean.
    fn centred(&mut self, form: &Form, at: usize, z: &Variable, sum: &Sum, sizes: &[i64]) -> Option<Form> {
        let Sum { term, kept, inner } = sum;
        let kept = *kept;
        let count: f64 = inner[kept..].iter().map(|n| *n as f64).product();
        let mean = form.terms[at].1;
        let mut read = Read { inner, at: places_of(z, inner.len()) };
        let mut taken = vec![at];
        for (product, k) in &term.terms {
            let found = form.terms.iter().enumerate().find(|(n, (candidate, c))| {
                let mut trial = Read { inner, at: read.at.clone() };
                !taken.contains(n)
                    && agree(*c, -mean * count * k)
                    && trial.unify_product(product, candidate, sizes)
            });
            let (n, (candidate, _)) = found?;
            if !read.unify_product(product, candidate, sizes) {
                return None;
            }
            taken.push(n);
        }
        let places = read.places(sizes)?;
        let over: Axes = ((1 << inner.len()) - 1) & !((1 << kept) - 1);
        let key = World::key("centred", &Form::of(Variable { base: z.base, at: Vec::new() }), inner, 0);
        let whole = Variable { base: z.base, at: Coord::identity(kept) };
        let own = term.plus(&Form::of(whole), -1.0 / count);
        let base = self.interned(key, |world| {
            let compact = Compact { form: term.clone(), sizes: inner.clone(), axes: Vec::new() };
            let kind = Kind::Of { form: own, f: Fun::IDENTITY };
            world.base_of(&compact, inner, kind, |_, m| m.centred(over, inner))
        });
        let kept_terms = form.terms.iter().enumerate().filter(|(n, _)| !taken.contains(n));
        let rest = Form { terms: kept_terms.map(|(_, term)| term.clone()).collect() };
        Some(rest.plus(&Form::of(Variable { base, at: places }), -mean * count))
    }

    /// `x g(sum x^2)` where `g` is the inverse root of something affine: what `g` is replaced by.
    fn scaled(&mut self, rest: &Product, z: &Variable, g: Fun, sum: &Sum, sizes: &[i64]) -> Option<f64> {
        let Sum { term, inner, .. } = sum;
        let [(squares, k)] = &term.terms[..] else { return None };
        let [(x, square)] = &squares[..] else { return None };
        let sum = self.base(z.base).moments.mean;
        let inverse = |world: &World, z: f64| world.funs.at(g, z).powi(-2);
        let (low, high) = (inverse(self, sum * PROBES[0]), inverse(self, sum * PROBES[4]));
        let slope = (high - low) / (PROBES[4] - PROBES[0]);
        let affine = PROBES.iter().all(|p| agree(inverse(self, sum * p), low + slope * (p - PROBES[0])));
        let is_root = affine && slope > 0.0 && self.funs.at(g, sum) > 0.0;
        let matches = |(v, f): &(Variable, Fun)| {
            let mut read = Read { inner, at: places_of(z, inner.len()) };
            let ratio = |p: f64| k * self.funs.at(*square, p) / self.funs.at(*f, p).powi(2);
            let probes = PROBES.iter().flat_map(|p| [*p, -*p]).filter(|p| self.funs.at(*f, *p) != 0.0);
            let ratios: Vec<f64> = probes.map(ratio).collect();
            ratios.first().is_some_and(|first| *first > 0.0 && ratios.iter().all(|r| agree(*r, *first)))
                && read.unify(x, v, sizes)
                && read.places(sizes).is_some()
        };
        (is_root && rest.iter().any(matches)).then(|| self.funs.at(g, sum))
    }

    /// A product with a factor, as a variable whose squares have a fixed sum.
    fn normed(&mut self, product: Product, factor: f64, sizes: &[i64]) -> Form {
        let compact = self.compact(&Form::product(product, factor), sizes, sizes.len());
        let at = compact.axes.iter().map(|k| Coord::axis(*k)).collect();
        let inner = compact.sizes.clone();
        let key = World::key("normed", &compact.form, &inner, 0);
        let base = self.interned(key, |world| {
            let kind = Kind::Of { form: compact.form.clone(), f: Fun::IDENTITY };
            let mut base = world.base_of(&compact, &inner, kind, |_, m| m);
            base.normed = true;
            base
        });
        Form::of(Variable { base, at })
    }

    /// `e / sum e` for an exponential `e`, perhaps under a condition of the positions.
    fn softmax(&mut self, rest: &Product, z: &Variable, g: Fun, sum: &Sum, sizes: &[i64]) -> Option<Form> {
        let Sum { term, kept, inner } = sum;
        let kept = *kept;
        let [(exponentials, k)] = &term.terms[..] else { return None };
        let scale = self.funs.at(g, 1.0);
        if !PROBES.iter().all(|p| agree(self.funs.at(g, *p) * p, scale)) {
            return None;
        }
        let numbers = |world: &World, p: &Product| -> (Product, Product) {
            p.iter().cloned().partition(|(v, _)| world.is_numbers(v))
        };
        let (mask, inside) = numbers(self, exponentials);
        let (found_mask, found) = numbers(self, rest);
        let [(e, f)] = &inside[..] else { return None };
        let at = found.iter().position(|(v, h)| v.base == e.base && h == f)?;
        let mut read = Read { inner, at: places_of(z, inner.len()) };
        if !read.unify(e, &found[at].0, sizes) {
            return None;
        }
        let places = read.places(sizes)?;
        let score = self.exponent(e, *f, inner)?;
        let mask = mask.first().map(|(v, _)| v.clone());
        let (masked, c) = (mask.is_some(), scale / k);
        if let Some(mask) = &mask {
            let moved = mask.read_at(&places, sizes);
            let axes: Vec<usize> = (0..sizes.len()).collect();
            let (shown, _) = found_mask.first()?;
            let tables = (self.table(&moved, sizes, &axes)?, self.table(shown, sizes, &axes)?);
            if tables.0 != tables.1 {
                return None;
            }
        }
        let key = World::key("softmax", &Form::of(Variable { base: z.base, at: Vec::new() }), inner, 0);
        let base = self.interned(key, |world| {
            let over: Axes = ((1 << inner.len()) - 1) & !((1 << kept) - 1);
            let counts = world.counts(mask.as_ref(), inner, kept);
            // What is the same for all of a row cancels.
            let moving = score.terms.iter().filter(|(p, _)| p.iter().any(|(v, _)| v.axes() & over != 0));
            let form = Form { terms: moving.cloned().collect() };
            let compact = Compact { form, sizes: inner.clone(), axes: Vec::new() };
            let mut base = world.base_of(&compact, inner, Kind::Softmax, |_, m| match &counts {
                Some(counts) => softmax_moments(&m, kept, inner, counts),
                None => Moments::unknown(inner.len()),
            });
            base.notes.normal = true;
            base
        });
        let mut product: Product = found;
        product.remove(at);
        if !masked {
            product.extend(found_mask);
        }
        product.push((Variable { base, at: places }, Fun::IDENTITY));
        product.sort();
        Some(Form::product(product, c))
    }

    /// What a variable is the exponential of.
    fn exponent(&mut self, e: &Variable, f: Fun, inner: &[i64]) -> Option<Form> {
        let exp = self.funs.unary(UnaryOp::Exp, Fun::IDENTITY);
        if f == Fun::IDENTITY {
            let Kind::Of { form, f } = self.base(e.base).kind.clone() else { return None };
            return (f == exp).then(|| form.read_at(&e.at, inner, &mut self.funs));
        }
        let log = |world: &World, x: f64| world.funs.at(f, x).ln();
        let (here, slope) = (log(self, 0.0), log(self, 1.0) - log(self, 0.0));
        let affine = PROBES.iter().all(|p| (log(self, *p) - here - slope * p).abs() < 1e-6);
        affine.then(|| Form::of(e.clone()).times(slope))
    }

    /// How many elements of a row take part, with the share of the rows for which it is so.
    pub(super) fn counts(
        &self,
        mask: Option<&Variable>,
        inner: &[i64],
        kept: usize,
    ) -> Option<Vec<(f64, f64)>> {
        let width = positions(&inner[kept..]);
        let Some(mask) = mask else { return Some(vec![(width as f64, 1.0)]) };
        let table = self.table(mask, inner, &(0..inner.len()).collect::<Vec<_>>())?;
        let mut shares = std::collections::BTreeMap::new();
        let rows = table.len() as f64 / width as f64;
        for row in table.chunks(usize::try_from(width).ok()?) {
            let count = row.iter().filter(|x| **x != 0.0).count();
            *shares.entry(count).or_insert(0.0) += 1.0 / rows;
        }
        Some(shares.into_iter().map(|(count, share)| (count as f64, share)).collect())
    }
}

impl Read<'_> {
    fn unify_product(&mut self, part: &Product, found: &Product, sizes: &[i64]) -> bool {
        part.len() == found.len()
            && part.iter().zip(found).all(|((v, f), (w, g))| f == g && self.unify(v, w, sizes))
    }
}

fn places_of(z: &Variable, rank: usize) -> Vec<Option<Coord>> {
    let mut at: Vec<Option<Coord>> = z.at.iter().cloned().map(Some).collect();
    at.resize(rank, None);
    at
}

/// Counts that are computed one by one; of more, others follow by interpolation.
const MAX_COUNTS: usize = 24;

/// The mean of the square of a weight, by the number of elements that take part.
fn squares_by_count(counts: &[(f64, f64)], variance: f64) -> impl Fn(f64) -> f64 {
    let filled: Vec<f64> = counts.iter().map(|(n, _)| *n).filter(|n| *n > 0.0).collect();
    let (least, most) = filled.iter().fold((f64::MAX, 1.0f64), |(a, b), n| (a.min(*n), b.max(*n)));
    let nodes: Vec<f64> = if filled.len() <= MAX_COUNTS {
        filled
    } else {
        let at = |k: usize| least * (most / least).powf(k as f64 / (MAX_COUNTS - 1) as f64);
        (0..MAX_COUNTS).map(at).collect()
    };
    // Between nodes the square times the count squared is a smooth function of its logarithm.
    let table: Vec<(f64, f64)> =
        nodes.into_iter().map(|n| (n.ln(), (n * n * softmax_square(n, variance)).ln())).collect();
    move |n| {
        let above = table.partition_point(|(at, _)| *at < n.ln()).clamp(1, table.len().max(2) - 1);
        let (Some((a, low)), Some((b, high))) = (table.get(above - 1), table.get(above)) else {
            return table.first().map_or(f64::NAN, |(at, value)| (value - 2.0 * at).exp());
        };
        let value = low + (high - low) * (n.ln() - a) / (b - a);
        (value - 2.0 * n.ln()).exp()
    }
}

/// Moments of a softmax of scores over the axes from `kept` on.
fn softmax_moments(score: &Moments, kept: usize, inner: &[i64], counts: &[(f64, f64)]) -> Moments {
    let over: Axes = ((1 << inner.len()) - 1) & !((1 << kept) - 1);
    let width: f64 = inner[kept..].iter().map(|n| *n as f64).product();
    // The part of the scores in which those of a row differ.
    let own = |differ: Axes| score.cov[(differ & !over) as usize] - score.cov[(differ | over) as usize];
    let filled: f64 = counts.iter().filter(|(n, _)| *n > 0.0).map(|(_, share)| share).sum();
    let mean = filled / width;
    let squares = squares_by_count(counts, own(0));
    let square: f64 =
        counts.iter().filter(|(n, _)| *n > 0.0).map(|(n, share)| share * n / width * squares(*n)).sum();
    let other = if width > 1.0 { (filled - width * square) / (width * (width - 1.0)) } else { 0.0 };
    let cov = (0..score.cov.len() as Axes).map(|differ| {
        let whole = if differ & over == 0 { square } else { other } - mean * mean;
        let likeness = if differ & !over == 0 || own(0) == 0.0 { 1.0 } else { own(differ) / own(0) };
        // To first order weights vary as their scores do.
        if likeness == 0.0 { 0.0 } else { whole * likeness }
    });
    Moments { mean, cov: cov.collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_of_a_softmax_sums_to_one() {
        let score = Moments::independent(0.0, 1.0, 2);
        let softmax = softmax_moments(&score, 1, &[3, 5], &[(5.0, 1.0)]);
        let sum = softmax.summed(1, &[3, 5]);
        assert!((sum.mean - 1.0).abs() < 1e-12 && sum.variance().abs() < 1e-9);
        let even = softmax_moments(&Moments::independent(0.0, 0.0, 2), 1, &[3, 5], &[(5.0, 1.0)]);
        assert!(even.variance().abs() < 1e-9);
    }

    #[test]
    fn many_counts_are_interpolated() {
        let counts: Vec<(f64, f64)> = (1..=100).map(|n| (f64::from(n), 0.01)).collect();
        let squares = squares_by_count(&counts, 1.5);
        for n in [1.0, 2.0, 7.0, 33.0, 100.0] {
            let (got, want) = (squares(n), softmax_square(n, 1.5));
            assert!((got - want).abs() < 5e-3 * want, "{n}: {got} is not {want}");
        }
        let one = squares_by_count(&[(4.0, 1.0)], 0.5);
        assert!((one(4.0) - softmax_square(4.0, 0.5)).abs() < 1e-12);
    }

    #[test]
    fn functions_are_compared_by_their_values() {
        assert!(agree(1.0, 1.0 + 1e-7) && !agree(1.0, 1.001));
    }
}
