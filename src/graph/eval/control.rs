//! Recurrences and regions.

use super::super::ir::{Node, Place, Recur, Region, Sequence};
use super::{EvalError, Machine, advance, store};
use crate::tensor::Tensor;
use std::sync::Arc;

impl Machine<'_> {
    pub(super) fn recur(
        &mut self,
        recur: &Recur,
        mut operands: Vec<Arc<Tensor>>,
        node: &Node,
    ) -> Result<Vec<Arc<Tensor>>, EvalError> {
        let start = self.position(&recur.start, node.span)?;
        let extent = self.size(&recur.extent, node.span)?;
        let mut inits = operands.split_off(recur.captures).into_iter();
        let mut sequences = Vec::with_capacity(recur.sequences.len());
        for (sequence, ty) in recur.sequences.iter().zip(&node.results) {
            let mut whole = self.zeros(ty, node.span)?;
            for (lag, init) in (1..=sequence.lags).zip(&mut inits) {
                // The positions before the first step's, in the direction of the steps.
                let entry = if recur.reverse { extent + lag - 1 } else { sequence.lags - lag };
                place_slice(&mut whole, sequence, entry, &init);
            }
            sequences.push(Arc::new(whole));
        }
        for step in 0..extent {
            let offset = if recur.reverse { extent - 1 - step } else { step };
            self.vars.insert(recur.var, start + offset as i64);
            let args = operands.iter().chain(&sequences).cloned().collect();
            let slices = self.graph(&recur.body, args)?;
            for ((sequence, whole), slice) in recur.sequences.iter().zip(&mut sequences).zip(&slices) {
                let entry = if recur.reverse { offset } else { offset + sequence.lags };
                // Nothing else holds the sequence between steps, so this does not copy it.
                place_slice(Arc::make_mut(whole), sequence, entry, slice);
            }
        }
        self.vars.remove(&recur.var);
        Ok(sequences)
    }

    pub(super) fn region(
        &mut self,
        region: &Region,
        operands: Vec<Arc<Tensor>>,
        node: &Node,
    ) -> Result<Vec<Arc<Tensor>>, EvalError> {
        let extents = self.extents(&region.axes, node.span)?;
        let mut wholes = Vec::with_capacity(node.results.len());
        for ty in &node.results {
            wholes.push(self.zeros(ty, node.span)?);
        }
        let mut point = vec![0; extents.len()];
        for _ in 0..super::points(&extents, node.span)? {
            self.vars.extend(region.vars.iter().copied().zip(point.iter().copied()));
            let slices = self.graph(&region.body, operands.clone())?;
            for ((whole, slice), places) in wholes.iter_mut().zip(&slices).zip(&region.places) {
                place_block(whole, slice, places, &extents, &point);
            }
            advance(&mut point, &extents);
        }
        for var in &region.vars {
            self.vars.remove(var);
        }
        Ok(wholes.into_iter().map(Arc::new).collect())
    }
}

/// Writes entry `entry` of a sequence's time axis.
fn place_slice(whole: &mut Tensor, sequence: &Sequence, entry: usize, slice: &Tensor) {
    let shape = whole.shape();
    let entries = shape[sequence.axis];
    let inner: usize = shape[sequence.axis + 1..].iter().product();
    for at in 0..slice.elems() {
        let (outer, rest) = (at / inner, at % inner);
        store::write(whole, (outer * entries + entry) * inner + rest, store::read(slice, at));
    }
}

/// Writes what a region yields at one point.
fn place_block(whole: &mut Tensor, slice: &Tensor, places: &[Place], loops: &[usize], point: &[i64]) {
    let mut index = vec![0; slice.shape().len()];
    for at in 0..slice.elems() {
        let to = places.iter().fold(0, |to, place| match place {
            Place::Loop(k) => to * loops[*k] + point[*k] as usize,
            Place::Slice(k) => to * slice.shape()[*k] + index[*k] as usize,
        });
        store::write(whole, to, store::read(slice, at));
        advance(&mut index, slice.shape());
    }
}
