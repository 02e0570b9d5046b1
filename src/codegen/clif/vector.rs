//! Loops that run in lanes.
//!
//! Four iterations run as one where that pays; what is left over runs one by one. A reduction
//! keeps one or four vectors of partial values, four where the body is so short that the latency
//! of the combining operation would show. They are combined in a fixed order, so the bits of a
//! result depend on the extent alone.

use super::super::error::CodeError;
use super::super::vector::lanes::identity;
use super::function::FuncCx;
use super::lanes::{LANES, Lanes, Linear};
#[cfg(doc)]
use super::units::LANE_UNIT;
use super::units::Span;
use crate::dtype::DType;
use crate::loops::ir::{Local, LoopVar, Scalar, ScalarId, Stmt};
use crate::loops::walk::roots;
use crate::ops::scalar::{BinaryOp, UnaryOp};
use cranelift_codegen::ir::{InstBuilder, Value, types};
use cranelift_frontend::Variable;
use std::collections::{BTreeMap, BTreeSet};

/// Bodies of more expressions stay scalar: four copies of what has no vector form add up.
const MAX_BODY_NODES: usize = 400;
/// Reducing bodies of at most this many expressions keep four partial vectors.
const LIGHT_BODY_NODES: usize = 12;
/// Partial vectors of a light reduction.
const LIGHT_PARTS: usize = 4;

/// A loop that will run in lanes.
struct Laned<'s> {
    var: LoopVar,
    body: &'s [Stmt],
    lanes: Lanes,
    partials: BTreeMap<Local, Partial>,
    /// Vectors of iterations per turn of the main loop.
    parts: usize,
}

/// The partial values of a reduction.
struct Partial {
    op: BinaryOp,
    vectors: Vec<Variable>,
}

impl<'a> FuncCx<'a, '_> {
    /// Emits a loop in lanes, all of it or some iterations that begin at a multiple of [`LANE_UNIT`], or says
    /// that it should be emitted as a scalar loop.
    pub(super) fn vector_loop(
        &mut self,
        var: LoopVar,
        extent: ScalarId,
        body: &'a [Stmt],
        part: Option<Span>,
    ) -> Result<bool, CodeError> {
        if self.wide_loop(var, extent, body, part)? {
            return Ok(true);
        }
        let known = self.int_const(extent);
        if known.is_some_and(|extent| extent < LANES) {
            return Ok(false);
        }
        let Some(mut laned) = self.laned(var, body, known) else { return Ok(false) };
        let (from, size) = match part {
            Some(part) => (part.from, part.to),
            None => {
                let extent = self.scalar(extent)?;
                let zero = self.builder.ins().iconst(types::I64, 0);
                // A negative extent is an empty one, whose multiple of any step must be zero too.
                (zero, if known.is_some() { extent } else { self.builder.ins().smax(extent, zero) })
            }
        };
        self.declare_partials(&mut laned);
        let turn = laned.parts as i64 * LANES;
        self.looped(from, size, turn, false, |cx, at| cx.turn(&mut laned, at, laned_parts(turn)))?;
        // Where a part begins is a multiple of any step.
        let mut done = self.builder.ins().band_imm_s(size, -turn);
        if laned.parts > 1 && known.is_none_or(|extent| extent % turn >= LANES) {
            self.looped(done, size, LANES, false, |cx, at| cx.turn(&mut laned, at, 1))?;
            done = self.builder.ins().band_imm_s(size, -LANES);
        }
        self.combine_partials(&laned)?;
        if known.is_none_or(|extent| extent % LANES != 0) {
            self.looped(done, size, 1, false, |cx, at| {
                let outer = cx.vars[var.0 as usize].replace(at);
                cx.stmts(body)?;
                cx.vars[var.0 as usize] = outer;
                Ok(())
            })?;
        }
        Ok(true)
    }

    /// Whether and how a body runs in lanes.
    fn laned<'s>(&self, var: LoopVar, body: &'s [Stmt], extent: Option<i64>) -> Option<Laned<'s>> {
        let scalars = &self.env.func.scalars;
        let (mut set, mut reduced) = (BTreeSet::new(), BTreeMap::new());
        for stmt in body {
            match stmt {
                Stmt::Set { local, .. } => {
                    set.insert(*local);
                }
                Stmt::Reduce { local, op, value } => {
                    let partial = scalars.dtype(*value) == DType::F32 && identity(*op).is_some();
                    if !partial || reduced.insert(*local, *op).is_some_and(|other| other != *op) {
                        return None;
                    }
                }
                Stmt::Store { .. } => {}
                _ => return None,
            }
        }
        let all: Vec<ScalarId> = body.iter().flat_map(roots).collect();
        let mut lanes = Lanes::default();
        let found = lanes.classify(self, &all, &[var], &set);
        let reads_reduced = found
            .iter()
            .any(|id| matches!(scalars.get(*id), Scalar::Local(local) if reduced.contains_key(local)));
        let varying: Vec<ScalarId> = found.iter().copied().filter(|id| lanes.varying[id]).collect();
        let in_vectors = varying.iter().any(|id| scalars.dtype(*id) == DType::F32);
        if reads_reduced || !in_vectors || varying.len() > MAX_BODY_NODES {
            return None;
        }
        let heavy = varying.iter().any(|id| is_function(scalars.get(*id)));
        let light = !heavy && varying.len() <= LIGHT_BODY_NODES && !reduced.is_empty();
        let turn = LIGHT_PARTS as i64 * LANES;
        let parts = if light && extent.is_none_or(|extent| extent >= turn) { LIGHT_PARTS } else { 1 };
        let partials = reduced.into_iter().map(|(local, op)| (local, Partial { op, vectors: Vec::new() }));
        Some(Laned { var, body, lanes, partials: partials.collect(), parts })
    }

    fn declare_partials(&mut self, laned: &mut Laned<'_>) {
        for partial in laned.partials.values_mut() {
            let identity = self.builder.ins().f32const(identity(partial.op).unwrap_or(0.0));
            let identity = self.builder.ins().splat(types::F32X4, identity);
            for _ in 0..laned.parts {
                let vector = self.builder.declare_var(types::F32X4);
                self.builder.def_var(vector, identity);
                partial.vectors.push(vector);
            }
        }
    }

    /// `parts` vectors of iterations from `at` on.
    fn turn(&mut self, laned: &mut Laned<'_>, at: Value, parts: usize) -> Result<(), CodeError> {
        for part in 0..parts {
            let linear = Linear { base: at, plus: part as i64 * LANES, step: 1 };
            laned.lanes.vars.insert(laned.var, linear);
            laned.lanes.locals.clear();
            for stmt in laned.body {
                self.memo.clear();
                laned.lanes.memo.clear();
                self.check_size()?;
                match stmt {
                    Stmt::Set { local, value } => {
                        let value = self.lane(&mut laned.lanes, *value)?;
                        laned.lanes.locals.insert(*local, value);
                    }
                    Stmt::Store { buffer, index, value } => {
                        let value = self.lane(&mut laned.lanes, *value)?;
                        self.lane_store(&mut laned.lanes, *buffer, *index, value)?;
                    }
                    Stmt::Reduce { local, op, value } => {
                        let value = self.lane(&mut laned.lanes, *value)?;
                        let value = self.packed(value);
                        if let Some(partial) = laned.partials.get(local) {
                            let vector = partial.vectors[part];
                            let old = self.builder.use_var(vector);
                            let new = self.binary(*op, DType::F32, old, value)?;
                            self.builder.def_var(vector, new);
                        }
                    }
                    _ => {}
                }
            }
        }
        Ok(())
    }

    /// Combines the partial vectors pairwise, then their lanes pairwise, into the local.
    fn combine_partials(&mut self, laned: &Laned<'_>) -> Result<(), CodeError> {
        for (local, partial) in &laned.partials {
            let mut vectors: Vec<Value> =
                partial.vectors.iter().map(|vector| self.builder.use_var(*vector)).collect();
            while vectors.len() > 1 {
                let half = vectors.len() / 2;
                for k in 0..half {
                    vectors[k] = self.binary(partial.op, DType::F32, vectors[k], vectors[k + half])?;
                }
                vectors.truncate(half);
            }
            let lanes = [0, 1, 2, 3].map(|k| self.builder.ins().extractlane(vectors[0], k));
            let low = self.binary(partial.op, DType::F32, lanes[0], lanes[2])?;
            let high = self.binary(partial.op, DType::F32, lanes[1], lanes[3])?;
            let all = self.binary(partial.op, DType::F32, low, high)?;
            let variable = self.local(*local)?;
            let old = self.builder.use_var(variable);
            let new = self.binary(partial.op, DType::F32, old, all)?;
            self.builder.def_var(variable, new);
        }
        Ok(())
    }
}

fn laned_parts(turn: i64) -> usize {
    (turn / LANES) as usize
}

/// Whether an expression is a function of many instructions.
pub(super) fn is_function(scalar: &Scalar) -> bool {
    match scalar {
        Scalar::Unary(op, _) => !matches!(
            op,
            UnaryOp::Neg
                | UnaryOp::Not
                | UnaryOp::Abs
                | UnaryOp::Floor
                | UnaryOp::Ceil
                | UnaryOp::Round
                | UnaryOp::Trunc
        ),
        Scalar::Binary(op, ..) => matches!(op, BinaryOp::Pow | BinaryOp::FloorDiv | BinaryOp::Mod),
        _ => false,
    }
}
