//! Recurrences: one serial loop whose steps write into the extended sequences.
//!
//! The code of a step exists once, whatever the number of steps. Captured values are read where
//! they lie; what a step computes goes straight into its slot of the sequence.

use super::place::Place;
use super::{FuncCx, Lowered, Position, Work};
use crate::dim::Dim;
use crate::graph::affine::Interval;
use crate::graph::ir::Recur;
use crate::loops::ir::{LoopKind, Stmt};

impl FuncCx<'_> {
    pub(super) fn recur(
        &mut self,
        work: &Work<'_>,
        recur: &Recur,
        out: &mut Vec<Stmt>,
    ) -> Lowered<Vec<Place>> {
        let mut sequences = Vec::with_capacity(recur.sequences.len());
        let mut next = recur.captures;
        for (k, sequence) in recur.sequences.iter().enumerate() {
            let mut place = self.dest(work, k)?;
            place.name = Some(sequence.name.clone());
            for lag in 1..=sequence.lags {
                let slot = initial_slot(recur, sequence.lags, lag)?;
                let slot = self.dim(&slot);
                let target = place.slice(self, sequence.axis, slot);
                self.copy(&work.operands[next].clone(), &target, out)?;
                next += 1;
            }
            sequences.push(place);
        }
        let body = self.steps(work, recur, &sequences)?;
        out.extend(body);
        Ok(sequences)
    }

    fn steps(&mut self, work: &Work<'_>, recur: &Recur, sequences: &[Place]) -> Lowered<Vec<Stmt>> {
        let var = self.new_var(&recur.name);
        let (step, start) = (self.var(var), self.dim(&recur.start));
        let scalar = self.add(start, step);
        let last = recur.start.add(&recur.extent)?.sub(&Dim::ONE)?;
        let (start, extent, name) = (recur.start.clone(), recur.extent.clone(), recur.name.clone());
        self.ranges.insert(recur.var, Interval { low: Some(start.clone()), high: Some(last) });
        self.positions.insert(recur.var, Position { scalar, start, extent, name });
        let mut dests = Vec::with_capacity(sequences.len());
        for (place, sequence) in sequences.iter().zip(&recur.sequences) {
            let ahead = if recur.reverse { 0 } else { sequence.lags as i64 };
            let ahead = self.int(ahead);
            let slot = self.add(step, ahead);
            dests.push(place.slice(self, sequence.axis, slot));
        }
        let mut args = work.operands[..recur.captures].to_vec();
        args.extend(sequences.iter().cloned());
        let mut body = Vec::new();
        self.graph(&recur.body, &args, &dests, &mut body)?;
        self.positions.remove(&recur.var);
        self.ranges.remove(&recur.var);
        let extent = self.dim(&recur.extent);
        Ok(vec![Stmt::For { var, extent, reverse: recur.reverse, kind: LoopKind::Serial, body }])
    }
}

/// Where the initial slice of a lag lies in the extended sequence.
fn initial_slot(recur: &Recur, lags: usize, lag: usize) -> Lowered<Dim> {
    if recur.reverse {
        Ok(recur.extent.add(&Dim::from(lag as i64 - 1))?)
    } else {
        Ok(Dim::from((lags - lag) as i64))
    }
}
