//! Recurrences: the moments of a state, step by step.
//!
//! The state that a step begins with is a new base each time. Its moments are those of the step
//! before. It depends on the inputs and on the weights that they are multiplied by, and not on those
//! that the state itself is multiplied by, nor on biases, as if these were drawn anew at each step; the
//! notes of what follows say so. So a gate fed by inputs that are independent from step to step is
//! known, and one fed by another recurrence is not.

use super::coord::Coord;
use super::expect::Compact;
use super::form::{BaseId, Form, Variable};
use super::fun::Fun;
use super::moments::{Axes, Moments};
use super::world::{Base, Kind, Notes, Source, Sources, World};

impl World {
    /// What a step gives, as the state that later ones begin with; `keep` says which leaves it is known
    /// to depend on.
    pub fn state(&mut self, form: &Form, sizes: &[i64], keep: &dyn Fn(u32) -> bool, recurrence: u32) -> Form {
        if form.as_constant().is_some() {
            return form.clone();
        }
        let Compact { form, sizes: inner, axes } = self.compact(form, sizes, sizes.len());
        let (moments, checked) = self.moments(&form, &inner);
        let (sources, mut notes) = self.form_sources(&form, &inner);
        let mut kept = sources.only(keep);
        notes.steps |= sources.have_others(|leaf| keep(leaf) || leaf == recurrence);
        kept.add(&Source { leaf: recurrence, part: Vec::new(), rows: Vec::new() });
        if let Ok(more) = &checked {
            notes = notes.or(*more);
        }
        let base = self.add(Base {
            sizes: inner,
            moments,
            kind: Kind::State,
            sources: kept,
            linear_in: Vec::new(),
            normal: false,
            normed: false,
            notes,
            why: checked.err(),
        });
        Form::of(Variable { base, at: axes.into_iter().map(Coord::axis).collect() })
    }

    /// The moments of a state, which is one variable or a number.
    pub fn state_moments(&self, form: &Form) -> Moments {
        match form.as_variable() {
            Some(v) => self.base(v.base).moments.clone(),
            None => Moments { mean: form.as_constant().unwrap_or(f64::NAN), cov: vec![0.0] },
        }
    }

    /// A sequence of entries along an axis. How two entries hang together is not known.
    pub fn sequence(&mut self, entries: Vec<Form>, axis: usize, slice: &[i64]) -> BaseId {
        let rank = slice.len() + 1;
        let mut sizes = slice.to_vec();
        sizes.insert(axis, entries.len() as i64);
        let mut sum = Moments { mean: 0.0, cov: vec![0.0; 1 << slice.len()] };
        let (mut sources, mut notes, mut why) = (Sources::default(), Notes::default(), None);
        for form in &entries {
            let (moments, checked) = self.moments(form, slice);
            let (of, more) = self.form_sources(form, slice);
            sources.join(&of);
            notes = notes.or(more);
            match checked {
                Ok(more) => notes = notes.or(more),
                Err(reason) => why = why.or(Some(reason)),
            }
            sum.mean += moments.mean / entries.len() as f64;
            for (total, cov) in sum.cov.iter_mut().zip(moments.cov) {
                *total += (cov + moments.mean * moments.mean) / entries.len() as f64;
            }
        }
        let cov = (0..1u32 << rank).map(|differ| {
            let (low, high) = (differ & ((1 << axis) - 1), differ >> (axis + 1));
            let rest: Axes = low | high << axis;
            let along = differ >> axis & 1 == 1;
            if along { f64::NAN } else { sum.cov[rest as usize] - sum.mean * sum.mean }
        });
        let moments = Moments { mean: sum.mean, cov: cov.collect() };
        let kind = Kind::Steps { axis, entries };
        let linear_in = Vec::new();
        self.add(Base { sizes, moments, kind, sources, linear_in, normal: false, normed: false, notes, why })
    }

    /// Sequences of which one entry, or a part, is read are replaced by it.
    pub fn resolved(&mut self, form: &Form, sizes: &[i64]) -> Form {
        let mut resolved = Form::default();
        for (product, c) in &form.terms {
            let mut whole = Form::constant(*c);
            for (v, f) in product {
                let part = match (&self.base(v.base).kind, *f) {
                    (Kind::Steps { axis, entries }, Fun::IDENTITY) => {
                        let (axis, entries) = (*axis, entries.clone());
                        self.entries(v, axis, &entries, sizes)
                    }
                    _ => None,
                };
                let part = part.unwrap_or_else(|| Form::product(vec![(v.clone(), *f)], 1.0));
                whole = whole.by(&part, &mut self.funs).unwrap_or_default();
            }
            resolved = resolved.plus(&whole, 1.0);
        }
        resolved
    }

    fn entries(&mut self, v: &Variable, axis: usize, entries: &[Form], sizes: &[i64]) -> Option<Form> {
        let time = &v.at[axis];
        let (low, high) = time.range(sizes)?;
        let (first, last) = (usize::try_from(low).ok()?, usize::try_from(high).ok()?);
        let part = entries.get(first..=last).filter(|part| part.len() < entries.len())?;
        let mut at = v.at.clone();
        if let [form] = part {
            at.remove(axis);
            return Some(form.read_at(&at, sizes, &mut self.funs));
        }
        at[axis] = time.plus(&Coord::fixed(low), -1);
        let mut slice = self.base(v.base).sizes.clone();
        slice.remove(axis);
        let key = World::key("entries", &Form::of(v.clone()), &[low, high], axis as u64);
        let base = match self.parts.get(&key) {
            Some(known) => *known,
            None => {
                let base = self.sequence(part.to_vec(), axis, &slice);
                self.parts.insert(key, base);
                base
            }
        };
        Some(Form::of(Variable { base, at }))
    }
}
