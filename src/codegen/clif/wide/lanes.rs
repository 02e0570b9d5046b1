//! Loops in lanes by wide kernels.

use super::super::super::error::CodeError;
use super::super::super::vector::body::Extraction;
use super::super::super::vector::kernels::Shape;
use super::super::super::vector::lanes::{COUNT_SLOT, LaneLoop, identity};
use super::super::function::FuncCx;
use super::super::units::Span;
use super::Start;
use crate::dtype::DType;
use crate::loops::ir::{BufferId, Local, LoopVar, ScalarId, Stmt};
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{InstBuilder, MemFlagsData, types};

/// Loops of fewer vectors than this do not pay for the call, unless they compute functions.
const MIN_VECTORS: i64 = 2;
/// Iterations from which on a loop of functions pays.
const MIN_FUNCTIONS: i64 = 4;

impl<'a> FuncCx<'a, '_> {
    /// Emits a loop by a kernel, all of it or some iterations that begin at a multiple of
    /// [`super::super::units::LANE_UNIT`], or says that there is none for it.
    pub(in super::super) fn wide_loop(
        &mut self,
        var: LoopVar,
        extent: ScalarId,
        body: &'a [Stmt],
        part: Option<Span>,
    ) -> Result<bool, CodeError> {
        let Some(isa) = self.kernels.isa() else { return Ok(false) };
        let lanes = isa.lanes() as i64;
        let known = self.int_const(extent);
        let mut extraction = Extraction::new(self.env.func, None, var, None);
        let Some((reduced, of)) = extract(&mut extraction, self, body) else { return Ok(false) };
        let (body_of, arguments) = (extraction.body, extraction.arguments);
        let least = if body_of.is_heavy() { MIN_FUNCTIONS } else { MIN_VECTORS * lanes };
        if known.is_some_and(|extent| extent < least) {
            return Ok(false);
        }
        let reductions = reduced.iter().map(|(_, op)| *op).collect();
        let shape = LaneLoop { body: body_of, reductions };
        let (first, whole) = (shape.body_slot(), shape.is_whole(isa));
        let Some(kernel) = self.kernel(Shape::Lanes(shape), of)? else { return Ok(false) };
        let (size, from) = match part {
            None => (self.scalar(extent)?, None),
            Some(part) => (self.builder.ins().isub(part.to, part.from), Some(part.from)),
        };
        let some = self.builder.ins().icmp_imm_s(IntCC::SignedGreaterThan, size, 0);
        self.only_if(some, |cx| {
            let block = cx.block(first as usize + arguments.len());
            cx.pass(block, COUNT_SLOT, size);
            cx.pass_fixed(block, first, &arguments)?;
            cx.pass_moving(block, first, &arguments, Start { row: None, column: from })?;
            cx.call_kernel(kernel, block);
            for (k, (local, op)) in reduced.iter().enumerate() {
                let disp = 8 * LaneLoop::result_slot(k);
                let flags = MemFlagsData::trusted();
                let partial = cx.builder.ins().load(types::F32, flags, block.address, disp);
                let variable = cx.local(*local)?;
                let old = cx.builder.use_var(variable);
                let new = cx.binary(*op, DType::F32, old, partial)?;
                cx.builder.def_var(variable, new);
            }
            if whole || known.is_some_and(|extent| extent % lanes == 0) {
                return Ok(());
            }
            let full = cx.builder.ins().band_imm_s(size, -lanes);
            let [full, to] =
                [full, size].map(|end| from.map_or(end, |from| cx.builder.ins().iadd(from, end)));
            cx.looped(full, to, 1, false, |cx, at| {
                let outer = cx.vars[var.0 as usize].replace(at);
                cx.stmts(body)?;
                cx.vars[var.0 as usize] = outer;
                Ok(())
            })
        })?;
        Ok(true)
    }
}

/// The locals that are reduced into, with their operations, and a buffer to name the kernel by.
fn extract(
    extraction: &mut Extraction<'_>,
    cx: &FuncCx<'_, '_>,
    body: &[Stmt],
) -> Option<(Vec<(Local, crate::ops::scalar::BinaryOp)>, Option<BufferId>)> {
    for stmt in body {
        if let Stmt::Set { local, .. } = stmt {
            extraction.sets(*local);
        }
    }
    let mut reduced: Vec<(Local, crate::ops::scalar::BinaryOp)> = Vec::new();
    let mut of = None;
    for stmt in body {
        match stmt {
            Stmt::Set { local, value } => extraction.set(*local, *value)?,
            Stmt::Store { buffer, index, value } => {
                of = Some(*buffer);
                extraction.store(*buffer, *index, *value)?;
            }
            Stmt::Reduce { local, op, value } => {
                if cx.env.func.scalars.dtype(*value) != DType::F32 {
                    return None;
                }
                identity(*op)?;
                let known = reduced.iter().position(|(other, _)| other == local);
                if known.is_some_and(|k| reduced[k].1 != *op) {
                    return None;
                }
                let k = known.unwrap_or_else(|| {
                    reduced.push((*local, *op));
                    reduced.len() - 1
                });
                extraction.reduce(k as u32, *op, *value)?;
            }
            _ => return None,
        }
    }
    // What is reduced into is not read by the loop itself.
    if reduced.iter().any(|(local, _)| extraction.reads(*local)) {
        return None;
    }
    Some((reduced, of.or_else(|| extraction.loads())))
}
