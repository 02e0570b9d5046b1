//! The index-notation op: a view of its operand where it is one, else a nest.

use super::expr::Env;
use super::nest::Nest;
use super::place::Place;
use super::{FuncCx, Lowered, Work};
use crate::dim::Dim;
use crate::graph::affine::{Leaf, affine};
use crate::graph::expr::Expr;
use crate::graph::ir::Index;
use crate::loops::ir::Stmt;
use crate::loops::lower::demand::Demands;
use crate::passes::fuse::axis_groups;

impl FuncCx<'_> {
    pub(super) fn index(&mut self, work: &Work<'_>, index: &Index, out: &mut Vec<Stmt>) -> Lowered<Place> {
        if work.dests[0].is_none()
            && let Some(view) = self.view(work, index)?
        {
            return Ok(view);
        }
        let dest = self.dest(work, 0)?;
        let nest = Nest {
            iterate: &index.iterate,
            guard: index.guard,
            reduce: index.reduce.as_ref(),
            exprs: &index.exprs,
            body: index.body,
            ports: &work.operands,
            finish: None,
        };
        self.nest(&nest, &dest, out)?;
        Ok(dest)
    }

    /// The place of an op that only reads its operand at affine points that are inside.
    fn view(&mut self, work: &Work<'_>, index: &Index) -> Lowered<Option<Place>> {
        let Expr::Read(read) = index.exprs.get(index.body) else { return Ok(None) };
        if index.guard.is_some() || index.reduce.is_some() || read.otherwise.is_some() {
            return Ok(None);
        }
        let source = &work.operands[read.port as usize];
        let nothing = self.int(0);
        let values = vec![nothing; index.iterate.len()];
        let env = Env::new(&index.exprs, values, index.extents(), &work.operands);
        let demands = Demands::new(&index.exprs, &[index.body]);
        if self.judge(&env, &demands, index.body, read).iter().any(|judged| !judged.is_inside()) {
            return Ok(None);
        }
        let mut strides = vec![Dim::ZERO; index.iterate.len()];
        let mut offset = source.offset;
        for (position, stride) in read.index.iter().zip(&source.strides) {
            let Some(form) = affine(&index.exprs, *position) else { return Ok(None) };
            let constant = form.constant.mul(stride)?;
            let constant = self.dim(&constant);
            offset = self.add(offset, constant);
            for (leaf, coefficient) in &form.terms {
                let step = coefficient.mul(stride)?;
                match leaf {
                    Leaf::Index(k) => strides[*k as usize] = strides[*k as usize].add(&step)?,
                    Leaf::Var(var) => {
                        let step = self.dim(&step);
                        let term = self.mul(self.positions[var].scalar, step);
                        offset = self.add(offset, term);
                    }
                    Leaf::Opaque(_) => return Ok(None),
                }
            }
        }
        let shape = &work.graph.node(work.node).results[0].shape;
        let Some(strides) = collapse_to(index, &strides, shape)? else { return Ok(None) };
        let (buffer, trusted) = (source.buffer, source.trusted);
        Ok(Some(Place { buffer, offset, shape: shape.clone(), strides, trusted, name: source.name.clone() }))
    }
}

/// Strides over the axes of a shape from strides over finer axes, where each group steps evenly.
fn collapse_to(index: &Index, strides: &[Dim], shape: &[Dim]) -> Lowered<Option<Vec<Dim>>> {
    let Some(groups) = axis_groups(&index.iterate, shape) else { return Ok(None) };
    let mut found = Vec::with_capacity(shape.len());
    for group in groups {
        let mut inner: Option<(Dim, Dim)> = None;
        for k in group.rev().filter(|k| !index.iterate[*k].extent.is(1)) {
            let next = match &inner {
                None => (strides[k].clone(), strides[k].mul(&index.iterate[k].extent)?),
                Some((step, span)) if strides[k] == *span => {
                    (step.clone(), span.mul(&index.iterate[k].extent)?)
                }
                Some(_) => return Ok(None),
            };
            inner = Some(next);
        }
        found.push(inner.map_or(Dim::ZERO, |(step, _)| step));
    }
    Ok(Some(found))
}
