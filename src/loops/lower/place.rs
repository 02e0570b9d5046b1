//! Places: where the elements of a value lie.

use super::error::LowerError;
use super::{FuncCx, Lowered};
use crate::dim::Dim;
use crate::graph::ir::Axis;
use crate::loops::ir::{BufferId, LoopKind, Pointer, ScalarId, Stmt};
use crate::passes::fuse::axis_groups;
use std::sync::Arc;

/// A strided walk over a buffer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// The buffer.
    pub buffer: BufferId,
    /// Of the first element.
    pub offset: ScalarId,
    /// Sizes, slowest axis first.
    pub shape: Vec<Dim>,
    /// Per axis of the shape, in elements.
    pub strides: Vec<Dim>,
    /// Whether reads of it are known to be inside.
    pub trusted: bool,
    /// The user's name for the value.
    pub name: Option<Arc<str>>,
}

/// Row-major strides of a shape.
pub(super) fn dense_strides<'d>(shape: impl DoubleEndedIterator<Item = &'d Dim>) -> Lowered<Vec<Dim>> {
    let mut stride = Dim::ONE;
    let mut strides = Vec::new();
    for extent in shape.rev() {
        strides.push(stride.clone());
        stride = stride.mul(extent)?;
    }
    strides.reverse();
    Ok(strides)
}

impl Place {
    /// A dense place at an offset.
    pub(super) fn dense(buffer: BufferId, offset: ScalarId, shape: &[Dim]) -> Lowered<Place> {
        let strides = dense_strides(shape.iter())?;
        Ok(Place { buffer, offset, shape: shape.to_vec(), strides, trusted: false, name: None })
    }

    /// Whether the elements lie row-major and without gaps.
    pub(super) fn is_dense(&self) -> bool {
        dense_strides(self.shape.iter()).is_ok_and(|dense| {
            let same = |k: usize| self.shape[k].is(1) || dense[k] == self.strides[k];
            (0..dense.len()).all(same)
        })
    }

    /// Where it begins.
    pub(super) fn pointer(&self) -> Pointer {
        Pointer { buffer: self.buffer, offset: self.offset }
    }

    /// Strides over axes that may be finer than the shape, slowest first.
    pub(super) fn strides_over(&self, iterate: &[Axis]) -> Lowered<Option<Vec<Dim>>> {
        if self.is_dense() {
            return dense_strides(iterate.iter().map(|axis| &axis.extent)).map(Some);
        }
        // Axes of one point stand anywhere.
        let real: Vec<usize> = (0..iterate.len()).filter(|k| !iterate[*k].extent.is(1)).collect();
        let axes: Vec<Axis> = real.iter().map(|k| iterate[*k].clone()).collect();
        let whole = self.shape.iter().zip(&self.strides).filter(|(extent, _)| !extent.is(1));
        let (shape, steps): (Vec<Dim>, Vec<&Dim>) =
            whole.map(|(extent, step)| (extent.clone(), step)).unzip();
        let Some(groups) = axis_groups(&axes, &shape) else { return Ok(None) };
        let mut strides = vec![Dim::ZERO; iterate.len()];
        for (group, stride) in groups.into_iter().zip(steps) {
            let inner = dense_strides(axes[group.clone()].iter().map(|axis| &axis.extent))?;
            for (k, inner) in group.zip(inner) {
                strides[real[k]] = inner.mul(stride)?;
            }
        }
        Ok(Some(strides))
    }

    /// The same elements with one axis taken out and fixed at `position`.
    pub(super) fn slice(&self, cx: &mut FuncCx<'_>, axis: usize, position: ScalarId) -> Place {
        let mut place = self.clone();
        place.shape.remove(axis);
        let stride = place.strides.remove(axis);
        let stride = cx.dim(&stride);
        let step = cx.mul(position, stride);
        place.offset = cx.add(place.offset, step);
        place
    }
}

impl FuncCx<'_> {
    /// An offset some steps along an axis further: `from + steps * stride`.
    pub(super) fn stepped(&mut self, from: ScalarId, steps: ScalarId, stride: &Dim) -> ScalarId {
        let stride = self.dim(stride);
        let term = self.mul(steps, stride);
        self.add(from, term)
    }

    /// Copies all elements; both places have the same shape.
    pub(super) fn copy(&mut self, from: &Place, to: &Place, out: &mut Vec<Stmt>) -> Lowered<()> {
        let (mut shape, mut sources, mut targets) =
            (to.shape.clone(), from.strides.clone(), to.strides.clone());
        if from.is_dense() && to.is_dense() {
            (shape, sources, targets) = (vec![Dim::product(&to.shape)?], vec![Dim::ONE], vec![Dim::ONE]);
        }
        let real: Vec<usize> = (0..shape.len()).filter(|k| !shape[*k].is(1)).collect();
        let (mut source, mut target) = (from.offset, to.offset);
        let mut loops = Vec::new();
        for k in &real {
            let var = self.new_var("i");
            let position = self.var(var);
            source = self.stepped(source, position, &sources[*k]);
            target = self.stepped(target, position, &targets[*k]);
            loops.push((var, self.dim(&shape[*k])));
        }
        let value = self.load(from.buffer, source);
        let mut body = vec![Stmt::Store { buffer: to.buffer, index: target, value }];
        let last_is_unit = real.last().is_some_and(|k| sources[*k].is(1) && targets[*k].is(1));
        for (at, (var, extent)) in loops.into_iter().enumerate().rev() {
            let innermost = at + 1 == real.len();
            let kind = if innermost && last_is_unit { LoopKind::Vector } else { LoopKind::Serial };
            body = vec![Stmt::For { var, extent, reverse: false, kind, body }];
        }
        out.extend(body);
        Ok(())
    }

    /// A dense place with the same elements: the place itself, or a copy.
    pub(super) fn densified(&mut self, place: &Place, out: &mut Vec<Stmt>) -> Result<Place, LowerError> {
        if place.is_dense() {
            return Ok(place.clone());
        }
        let dtype = self.func.buffers[place.buffer.0 as usize].dtype;
        let mut copy = self.temp(place.name.as_deref(), dtype, &place.shape)?;
        copy.name.clone_from(&place.name);
        self.copy(place, &copy, out)?;
        Ok(copy)
    }
}
