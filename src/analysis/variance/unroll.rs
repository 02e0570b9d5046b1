//! Recurrences of the walk: followed step by step, or looked at one step long.

use super::coord::Coord;
use super::elements::Meaning;
use super::form::{Form, Variable};
use super::moments::Moments;
use super::probe::State;
use super::walk::{Module, Walk};
use crate::analysis::modules::{Origins, body_origins};
use crate::analysis::recurrence::{Recurrence, Step};
use crate::graph::ir::{Node, Recur, Value};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

/// Steps that are followed where the state does not come to rest.
const MAX_STEPS: i64 = 1024;
/// Entries of a sequence.
const MAX_ENTRIES: i64 = 1 << 16;

/// A recurrence that is looked at.
struct Looked<'a> {
    operands: &'a [Meaning],
    from: &'a [Origins],
    this: Value,
    /// Its first position.
    start: i64,
    /// The leaf of its first sequence; those of the others are below it.
    leaf: u32,
}

impl Walk<'_> {
    pub(super) fn recur(
        &mut self,
        recur: &Recur,
        node: &Node,
        operands: &[Meaning],
        from: &[Origins],
        this: Value,
    ) -> Vec<Meaning> {
        let (start, extent) = (self.dims.eval(&recur.start), self.dims.eval(&recur.extent));
        let shapes: Option<Vec<Vec<i64>>> = node.results.iter().map(|ty| self.sizes(&ty.shape)).collect();
        let (Ok(start), Ok(extent), Some(shapes)) = (start, extent, shapes) else {
            return node.results.iter().map(|_| self.unknown("an empty recurrence")).collect();
        };
        self.fresh += 1;
        // Numbers of leaves and of data are apart, so that this is no leaf's.
        let recurrence = u32::MAX - self.fresh;
        self.fresh += recur.sequences.len() as u32;
        let slices: Vec<Vec<i64>> = recur
            .sequences
            .iter()
            .zip(&shapes)
            .map(|(sequence, shape)| {
                let mut slice = shape.clone();
                slice.remove(sequence.axis);
                slice
            })
            .collect();
        if self.found.is_some() {
            let looked = Looked { operands, from, this, start, leaf: recurrence };
            return self.looked_at(recur, &looked, &slices, &shapes);
        }
        let weights = self.leaves()..self.leaves() + self.program.signature.weights.len() as u32;
        self.at.push(this);
        let fed = self.fed(recur, operands, from, (start, extent), (&weights, recurrence), &slices);
        let mut inits = operands[recur.captures..].iter();
        let mut entries: Vec<BTreeMap<i64, Form>> = Vec::new();
        for (sequence, slice) in recur.sequences.iter().zip(&slices) {
            let mut own = BTreeMap::new();
            for (lag, init) in (1..=sequence.lags as i64).zip(&mut inits) {
                let entry = if recur.reverse { extent + lag - 1 } else { sequence.lags as i64 - lag };
                let form = match init {
                    Meaning::Real(form) => form.clone(),
                    _ => self.world.unknown("data as numbers"),
                };
                let keep = |leaf| !weights.contains(&leaf) || fed.contains(&leaf);
                own.insert(entry, self.world.state(&form, slice, &keep, recurrence));
            }
            entries.push(own);
        }
        let mut step = 0;
        let mut last: Option<Vec<Moments>> = None;
        while step < extent {
            let states = self.one_step(recur, operands, from, (start, extent, step), &entries);
            let keep = |leaf| !weights.contains(&leaf) || fed.contains(&leaf);
            let states: Vec<Form> = states
                .iter()
                .zip(&slices)
                .map(|(form, slice)| self.world.state(form, slice, &keep, recurrence))
                .collect();
            let moments: Vec<Moments> = states.iter().map(|form| self.world.state_moments(form)).collect();
            let offset = if recur.reverse { extent - 1 - step } else { step };
            for ((own, state), sequence) in entries.iter_mut().zip(states).zip(&recur.sequences) {
                own.insert(offset + if recur.reverse { 0 } else { sequence.lags as i64 }, state);
            }
            step += 1;
            let stands =
                last.as_ref().is_some_and(|last| last.iter().zip(&moments).all(|(a, b)| a.is_near(b)));
            if stands && step + 1 < extent {
                // The steps that are left are like the next one, which stands for all of them.
                let outer = self.repeat;
                self.repeat *= (extent - step) as f64;
                self.one_step(recur, operands, from, (start, extent, step), &entries);
                self.repeat = outer;
                break;
            }
            if step >= MAX_STEPS {
                self.at.pop();
                self.vars.remove(&recur.var);
                let why = format!("more than {MAX_STEPS} steps");
                return node.results.iter().map(|_| self.unknown(&why)).collect();
            }
            last = Some(moments);
        }
        self.vars.remove(&recur.var);
        self.at.pop();
        let mut results = Vec::new();
        for ((sequence, own), (slice, shape)) in
            recur.sequences.iter().zip(entries).zip(slices.iter().zip(&shapes))
        {
            let count = shape[sequence.axis].min(MAX_ENTRIES);
            let near =
                |at: i64| own.range(..=at).next_back().or(own.range(at..).next()).map(|(_, f)| f.clone());
            let backwards =
                |at: i64| own.range(at..).next().or(own.range(..=at).next_back()).map(|(_, f)| f.clone());
            let forms: Vec<Form> =
                (0..count).filter_map(|at| if recur.reverse { backwards(at) } else { near(at) }).collect();
            if shape[sequence.axis] > MAX_ENTRIES {
                results.push(self.unknown("a sequence that is too long"));
                continue;
            }
            let base = self.world.sequence(forms, sequence.axis, slice);
            results.push(Meaning::Real(Form::of(Variable { base, at: Coord::identity(shape.len()) })));
        }
        results
    }

    /// The weights that what is fed into a recurrence is multiplied by, and that its state is not.
    fn fed(
        &mut self,
        recur: &Recur,
        operands: &[Meaning],
        from: &[Origins],
        (start, extent): (i64, i64),
        (weights, recurrence): (&Range<u32>, u32),
        slices: &[Vec<i64>],
    ) -> BTreeSet<u32> {
        let is_weight = |leaf: u32| weights.contains(&leaf);
        let mut fed = BTreeSet::new();
        // What was multiplied before it was captured.
        for meaning in &operands[..recur.captures] {
            let Meaning::Real(form) = meaning else { continue };
            for v in form.variables() {
                let sources = &self.world.base(v.base).sources;
                if sources.have_others(is_weight) {
                    fed.extend(sources.leaves().filter(|leaf| is_weight(*leaf)));
                }
            }
        }
        // A trial: states that are zero at first would hide what depends on them.
        let mut entries = Vec::new();
        for (sequence, slice) in recur.sequences.iter().zip(slices) {
            let first = if recur.reverse { extent } else { 0 };
            let own = (0..sequence.lags as i64)
                .map(|k| (first + k, self.world.blank_state(slice, recurrence)))
                .collect::<BTreeMap<i64, Form>>();
            entries.push(own);
        }
        let (before, first) = (std::mem::replace(&mut self.repeat, 0.0), self.world.len());
        self.one_step(recur, operands, from, (start, extent, 0), &entries);
        self.repeat = before;
        let (inner, recurrent) = self.world.multiplied_weights(first, is_weight, recurrence);
        fed.extend(inner);
        &fed - &recurrent
    }

    /// The next states.
    fn one_step(
        &mut self,
        recur: &Recur,
        operands: &[Meaning],
        from: &[Origins],
        (start, extent, step): (i64, i64, i64),
        entries: &[BTreeMap<i64, Form>],
    ) -> Vec<Form> {
        let offset = if recur.reverse { extent - 1 - step } else { step };
        self.vars.insert(recur.var, start + offset);
        let sequences = recur.sequences.iter().zip(entries);
        let sequences = sequences.map(|(sequence, own)| {
            let first = if recur.reverse { offset + 1 } else { offset };
            let read = own.range(first..first + sequence.lags as i64);
            Meaning::Steps(sequence.axis, read.map(|(at, form)| (*at, form.clone())).collect())
        });
        let args: Vec<Meaning> = operands[..recur.captures].iter().cloned().chain(sequences).collect();
        let inner = body_origins(from, recur.captures, recur.sequences.len());
        let results = self.graph(&recur.body, &args, &inner);
        let real = results.into_iter().map(|result| match result {
            Meaning::Real(form) => form,
            _ => self.world.unknown("data as numbers"),
        });
        real.collect()
    }

    /// A step with states of its own, to see what it is.
    fn looked_at(
        &mut self,
        recur: &Recur,
        looked: &Looked<'_>,
        slices: &[Vec<i64>],
        shapes: &[Vec<i64>],
    ) -> Vec<Meaning> {
        let leaf = |k: usize| looked.leaf - k as u32;
        self.vars.insert(recur.var, looked.start);
        let mut args: Vec<Meaning> = looked.operands[..recur.captures].to_vec();
        for (k, (sequence, slice)) in recur.sequences.iter().zip(slices).enumerate() {
            let mut entries = BTreeMap::new();
            for lag in 1..=sequence.lags as i64 {
                let entry = if recur.reverse { lag } else { sequence.lags as i64 - lag };
                entries.insert(entry, self.leaf(leaf(k) as usize, slice, 1.0, true));
            }
            args.push(Meaning::Steps(sequence.axis, entries));
        }
        let inner = body_origins(looked.from, recur.captures, recur.sequences.len());
        self.at.push(looked.this);
        let results = self.graph(&recur.body, &args, &inner);
        self.at.pop();
        self.vars.remove(&recur.var);
        let carried: Vec<usize> =
            (0..recur.sequences.len()).filter(|k| recur.sequences[*k].lags > 0).collect();
        let kind = match (&carried[..], carried.first().map(|k| &results[*k])) {
            ([k], Some(Meaning::Real(form))) if recur.sequences[*k].lags == 1 => {
                let state = State { leaf: leaf(*k), slice: &slices[*k], inputs: self.leaves() };
                self.world.step(form, &state)
            }
            ([], _) => Step::Other("no state is carried from step to step".into()),
            ([_], Some(Meaning::Real(_))) => {
                Step::Other("a step reads the state of several steps before".into())
            }
            ([_], _) => Step::Other("the state is not real".into()),
            _ => Step::Other("several states are carried together".into()),
        };
        let states = carried.iter().map(|k| recur.sequences[*k].name.to_string()).collect();
        let Module { function, path, .. } = self.module.clone();
        if let Some(found) = &mut self.found {
            found.push(Recurrence { function, path, states, reverse: recur.reverse, kind });
        }
        // What reads the sequences sees something new.
        let whole = shapes.iter().enumerate();
        whole.map(|(k, shape)| Meaning::Real(self.leaf(leaf(k) as usize, shape, 1.0, true))).collect()
    }

    fn leaves(&self) -> u32 {
        self.program.signature.inputs.len() as u32
    }
}
