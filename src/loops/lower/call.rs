//! Calls: operands and results are dense, and passed by pointer.

use super::place::Place;
use super::{FuncCx, Lowered, Work};
use crate::graph::ir::FuncId;
use crate::loops::ir::Stmt;

impl FuncCx<'_> {
    pub(super) fn call(
        &mut self,
        work: &Work<'_>,
        callee: FuncId,
        out: &mut Vec<Stmt>,
    ) -> Lowered<Vec<Place>> {
        let mut args = Vec::with_capacity(work.operands.len());
        for operand in &work.operands {
            args.push(self.densified(operand, out)?.pointer());
        }
        let node = work.graph.node(work.node);
        let (mut places, mut pointers, mut copies) = (Vec::new(), Vec::new(), Vec::new());
        for (k, ty) in node.results.iter().enumerate() {
            let dest = self.dest(work, k)?;
            let written = if dest.is_dense() {
                dest.clone()
            } else {
                self.temp(node.name.as_deref(), ty.dtype, &ty.shape)?
            };
            pointers.push(written.pointer());
            if written != dest {
                copies.push((written, dest.clone()));
            }
            places.push(dest);
        }
        out.push(Stmt::Call { func: callee.0 as usize, args, results: pointers });
        for (from, to) in copies {
            self.copy(&from, &to, out)?;
        }
        Ok(places)
    }
}
