//! Regions: loops around a graph whose slices go straight into the whole results.
//!
//! What the body computes for itself exists for one point at a time. Points may run in threads if
//! that is little enough for each to have its own, which [`crate::loops::promote`] decides; otherwise
//! they share storage and the loops are serial, and what is inside them may run in threads.

use super::assemble::Assembly;
use super::matmul::dense_over;
use super::place::Place;
use super::{FuncCx, Lowered, Position, Work};
use crate::dim::Dim;
use crate::graph::affine::Interval;
use crate::graph::ir::{Axis, Place as Axes, Region, RegionKind};
use crate::loops::ir::{LoopKind, ScalarId, Stmt};
use crate::passes::attend::Attend;
use crate::passes::blocks::Blocks;

impl FuncCx<'_> {
    pub(super) fn region(
        &mut self,
        work: &Work<'_>,
        region: &Region,
        out: &mut Vec<Stmt>,
    ) -> Lowered<Vec<Place>> {
        let mut loops = Vec::new();
        let mut index = Vec::new();
        for (var, axis) in region.vars.iter().zip(&region.axes) {
            let scalar = if axis.extent.is(1) {
                self.int(0)
            } else {
                let loop_var = self.new_var(&axis.name);
                loops.push((loop_var, self.dim(&axis.extent)));
                self.var(loop_var)
            };
            index.push(scalar);
            let (extent, name) = (axis.extent.clone(), axis.name.clone());
            self.ranges.insert(*var, Interval::below(&axis.extent));
            self.positions.insert(*var, Position { scalar, start: Dim::ZERO, extent, name });
        }
        let (mut wholes, mut slices) = (Vec::new(), Vec::new());
        for k in 0..region.places.len() {
            let whole = self.dest(work, k)?;
            let axes = whole_axes(region, k);
            let (written, strides) = self.whole(work, k, &whole, &axes)?;
            slices.push(self.slice_of(region, k, (&written, &strides), &index));
            wholes.push((whole, written));
        }
        let mut body = Vec::new();
        let blocks = match region.kind {
            RegionKind::BlockedAttention => Blocks::find(&region.body),
            _ => None,
        };
        let attend = match region.kind {
            RegionKind::TiledAttention => Attend::find(&region.body),
            _ => None,
        };
        match blocks {
            Some(blocks) => self.by_blocks(&region.body, &blocks, &work.operands, &slices, &mut body)?,
            None => {
                let plan = (attend.as_ref(), Assembly::default());
                self.graph_with(&region.body, plan, &work.operands, &slices, &mut body)?;
            }
        }
        for var in &region.vars {
            self.positions.remove(var);
            self.ranges.remove(var);
        }
        for (var, extent) in loops.into_iter().rev() {
            body = vec![Stmt::For { var, extent, reverse: false, kind: LoopKind::Parallel, body }];
        }
        out.extend(body);
        for (whole, written) in &wholes {
            if whole != written {
                self.copy(written, whole, out)?;
            }
        }
        Ok(wholes.into_iter().map(|(whole, _)| whole).collect())
    }

    /// Where a whole result is written, with strides over its axes: at its destination where they can be
    /// followed there.
    fn whole(
        &mut self,
        work: &Work<'_>,
        result: usize,
        dest: &Place,
        axes: &[Axis],
    ) -> Lowered<(Place, Vec<Dim>)> {
        if let Some(strides) = dest.strides_over(axes)? {
            return Ok((dest.clone(), strides));
        }
        let node = work.graph.node(work.node);
        let ty = &node.results[result];
        let dense = self.temp(node.name.as_deref(), ty.dtype, &ty.shape)?;
        Ok((dense, dense_over(axes)?))
    }

    /// The part of a whole result that the current point yields.
    fn slice_of(
        &mut self,
        region: &Region,
        result: usize,
        (whole, strides): (&Place, &[Dim]),
        index: &[ScalarId],
    ) -> Place {
        let shape = region.body.ty(region.body.results[result]).shape.clone();
        let mut slice = Place { strides: vec![Dim::ZERO; shape.len()], shape, ..whole.clone() };
        for (place, stride) in region.places[result].iter().zip(strides) {
            match place {
                Axes::Loop(k) => slice.offset = self.stepped(slice.offset, index[*k], stride),
                Axes::Slice(k) => slice.strides[*k] = stride.clone(),
            }
        }
        slice
    }
}

/// The axes of a whole result of a region, slowest first.
fn whole_axes(region: &Region, result: usize) -> Vec<Axis> {
    let shape = &region.body.ty(region.body.results[result]).shape;
    let axis = |place: &Axes| match place {
        Axes::Loop(k) => region.axes[*k].clone(),
        Axes::Slice(k) => Axis::new(shape[*k].clone(), "s"),
    };
    region.places[result].iter().map(axis).collect()
}
