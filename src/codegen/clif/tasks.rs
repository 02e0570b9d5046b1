//! Work that is divided between threads.
//!
//! A statement that allows it and may cost enough ([`super::cost`]) becomes a function of its own,
//! `void task(record, k)`, which computes the `k`-th part of its [`super::units`]. The record lies on the
//! stack of who brings the task, and holds what the statement takes from around it: the parameters of the
//! function, sizes, the starts of slots, loop variables, locals, and how many units there are in a part.
//! Where there are threads, and the work is worth it at the sizes of the call, the host's `run` calls the
//! task for each part; otherwise the code calls it once, with all units in one part. So the code is there
//! once, and what is computed does not depend on how it is divided.
//!
//! Statements that may fail are not divided, so that which failure is reported does not depend on threads, and
//! what is in a task is not divided again.

use super::super::abi::{exec, offset};
use super::super::error::CodeError;
use super::super::target::Grain;
use super::clif_type;
use super::function::FuncCx;
use super::gemm::Extent;
use super::parts::Uses;
use super::units::{LANE_UNIT, Span, part_of_row, rows_of};
use crate::dim::Dim;
use crate::loops::buffers::Place;
use crate::loops::ir::{BufferId, Gemm, Kernel, Local, LoopKind, LoopVar, ScalarId, Stmt};
use crate::loops::private;
use crate::loops::walk::{Defined, bodies};
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{
    AbiParam, InstBuilder, MemFlagsData, Signature, StackSlotData, StackSlotKind, Type, Value, types,
};
use cranelift_frontend::FunctionBuilder;
use cranelift_module::{FuncId, Module};
use std::collections::BTreeSet;

/// Parts for each thread, so that one that was kept from working does not keep the others waiting.
const PARTS_PER_THREAD: i64 = 4;
/// More threads than this are taken for so many.
const MAX_THREADS: i64 = 1024;
/// A loop in lanes of fewer iterations is not divided where a loop around it is.
const MIN_DIVIDED_LANES: i64 = 16 * LANE_UNIT;

/// What a record begins with; 64 bits each.
mod slot {
    pub(super) const CONTEXT: i32 = 0;
    pub(super) const DIMS: i32 = 1;
    pub(super) const ARENA: i32 = 2;
    pub(super) const POINTERS: i32 = 3;
    pub(super) const UNITS: i32 = 4;
    /// Units of a part.
    pub(super) const PART: i32 = 5;
    pub(super) const CAPTURED: i32 = 6;
}

/// A statement whose units may be computed by several threads: loops inside each other around the last.
pub(super) struct Divisible<'a> {
    loops: Vec<Level<'a>>,
    inside: Inside<'a>,
}

/// A loop whose iterations may be divided, with what its body sets before the next one.
#[derive(Clone, Copy)]
struct Level<'a> {
    var: LoopVar,
    extent: ScalarId,
    sets: &'a [Stmt],
}

#[derive(Clone, Copy)]
enum Inside<'a> {
    /// One unit.
    Stmts(&'a [Stmt]),
    /// A loop in lanes, in units of [`LANE_UNIT`] iterations.
    Lanes(LoopVar, ScalarId, &'a [Stmt]),
    Product(&'a Gemm),
}

/// What a task takes from around it, in the order of the record.
struct Captured {
    slots: Vec<usize>,
    sizes: Vec<Dim>,
    vars: Vec<LoopVar>,
    locals: Vec<Local>,
    /// Temporaries of which each task has its own; not in the record.
    private: Vec<BufferId>,
}

/// A task that is called and has yet to be emitted.
pub(super) struct Queued<'a> {
    pub id: FuncId,
    pub stmt: &'a Stmt,
    of: Divisible<'a>,
    captured: Captured,
}

/// The signature of a task.
pub(super) fn signature(module: &dyn Module) -> Signature {
    let mut signature = module.make_signature();
    signature.params.extend([AbiParam::new(types::I64); 2]);
    signature
}

/// The parameters of the function that a task belongs to, as its record has them: context, dims, arena and
/// pointers.
pub(super) fn parameters(builder: &mut FunctionBuilder<'_>, record: Value) -> [Value; 4] {
    let flags = MemFlagsData::trusted().with_readonly().with_can_move();
    [slot::CONTEXT, slot::DIMS, slot::ARENA, slot::POINTERS]
        .map(|at| builder.ins().load(types::I64, flags, record, 8 * at))
}

/// Whether statements may fail or call, at any depth.
fn may_fail(stmts: &[Stmt]) -> bool {
    stmts.iter().any(|stmt| {
        matches!(stmt, Stmt::Fail { .. } | Stmt::Call { .. }) || bodies(stmt).any(|body| may_fail(body))
    })
}

impl<'a> FuncCx<'a, '_> {
    /// Emits a statement that threads may divide, or says that it is to be emitted as it stands.
    pub(super) fn divided(&mut self, stmt: &'a Stmt) -> Result<bool, CodeError> {
        if self.in_task || self.env.grain == Grain::NEVER {
            return Ok(false);
        }
        let Some(divisible) = self.divisible(stmt) else { return Ok(false) };
        // Only what is inside one iteration belongs to it alone.
        let private = if divisible.loops.is_empty() {
            Vec::new()
        } else {
            self.env.uses.only_in(self.env.func, std::slice::from_ref(stmt))
        };
        if !private::fit(self.env.func, &private) {
            return Ok(false);
        }
        let work = self.cost_of(stmt)?;
        let Some(tasks) = self.tasks_of(work) else { return Ok(false) };
        let units = self.units_within(&divisible.loops, divisible.inside)?;
        if units.known.is_some_and(|units| units < 2) {
            return Ok(false);
        }
        let id = self.module.declare_anonymous_function(&signature(self.module));
        let id = id.map_err(|error| CodeError::of_module(&self.env.func.name, &error))?;
        let captured = self.captured(stmt, private);
        let record = self.record(&captured, units)?;
        self.queue.push(Queued { id, stmt, of: divisible, captured });
        self.fork(id, record, units, tasks);
        Ok(true)
    }

    /// The loops inside each other whose units can be counted in front of them, and what is in the last.
    fn divisible(&self, stmt: &'a Stmt) -> Option<Divisible<'a>> {
        let mut loops = Vec::new();
        let mut at = stmt;
        let inside = loop {
            let fixed = |id: ScalarId| loops.is_empty() || self.is_known_here(id);
            match at {
                Stmt::Kernel(kernel) => {
                    let Kernel::Gemm(gemm) = kernel.as_ref();
                    if fixed(gemm.m) && fixed(gemm.n) {
                        break Inside::Product(gemm);
                    }
                }
                Stmt::For { var, extent, reverse: false, kind: LoopKind::Vector, body } => {
                    let small = self.int_const(*extent).is_some_and(|extent| extent < MIN_DIVIDED_LANES);
                    let reduces = body.iter().any(|stmt| matches!(stmt, Stmt::Reduce { .. }));
                    if !reduces && fixed(*extent) && (loops.is_empty() || !small) {
                        break Inside::Lanes(*var, *extent, body);
                    }
                }
                Stmt::For { var, extent, reverse: false, kind: LoopKind::Parallel, body }
                    if fixed(*extent) =>
                {
                    let (var, extent) = (*var, *extent);
                    let is_set = |stmt: &Stmt| matches!(stmt, Stmt::Set { .. });
                    match body.split_last() {
                        Some((last, sets)) if sets.iter().all(is_set) && !is_set(last) => {
                            loops.push(Level { var, extent, sets });
                            at = last;
                            continue;
                        }
                        _ => {
                            loops.push(Level { var, extent, sets: &[] });
                            break Inside::Stmts(body);
                        }
                    }
                }
                _ => {}
            }
            if loops.is_empty() {
                return None;
            }
            break Inside::Stmts(std::slice::from_ref(at));
        };
        match inside {
            Inside::Stmts(body) if may_fail(body) => None,
            _ => Some(Divisible { loops, inside }),
        }
    }

    /// What a statement takes from around it.
    fn captured(&self, stmt: &Stmt, private: Vec<BufferId>) -> Captured {
        let stmts = std::slice::from_ref(stmt);
        let uses = Uses::of(self.env.func, stmts);
        let mut own = Defined::default();
        own.add(stmts);
        let slots: BTreeSet<usize> = uses
            .buffers
            .iter()
            .filter(|buffer| !private.contains(buffer))
            .filter_map(|buffer| match self.env.frame.places[buffer.0 as usize] {
                Some(Place::Slot(slot)) => Some(slot),
                _ => None,
            })
            .collect();
        let vars = uses.vars.iter().filter(|var| self.vars[var.0 as usize].is_some());
        let locals = uses.locals.difference(&own.locals);
        Captured {
            slots: slots.into_iter().collect(),
            sizes: uses.sizes.iter().filter(|dim| dim.as_const().is_none()).cloned().collect(),
            vars: vars.copied().collect(),
            locals: locals.filter(|local| self.has_local(**local)).copied().collect(),
            private,
        }
    }

    /// Writes the record of a task, but for how many units are in a part.
    fn record(&mut self, captured: &Captured, units: Extent) -> Result<Value, CodeError> {
        let mut values = vec![self.context, self.dims, self.arena, self.pointers, units.value, units.value];
        for slot in &captured.slots {
            values.push(self.slot(*slot)?);
        }
        for dim in &captured.sizes {
            values.push(self.sizes.emit(&mut self.builder, dim));
        }
        for var in &captured.vars {
            values.push(self.var(*var)?);
        }
        for local in &captured.locals {
            let variable = self.local(*local)?;
            values.push(self.builder.use_var(variable));
        }
        let data = StackSlotData::new(StackSlotKind::ExplicitSlot, 8 * values.len() as u32, 3);
        let data = self.builder.create_sized_stack_slot(data);
        let record = self.builder.ins().stack_addr(types::I64, data, 0);
        for (k, value) in values.into_iter().enumerate().filter(|(k, _)| *k != slot::PART as usize) {
            self.builder.ins().store(MemFlagsData::trusted(), value, record, 8 * k as i32);
        }
        Ok(record)
    }

    /// Calls a task: as many times as is worth it where there are threads, else once.
    fn fork(&mut self, id: FuncId, record: Value, units: Extent, tasks: Extent) {
        let flags = MemFlagsData::trusted();
        let task = self.import(id);
        let blocks = [(); 4].map(|()| self.builder.create_block());
        let [asks, forks, alone, done] = blocks;
        let host = self.builder.ins().load(types::I64, flags, self.context, offset::EXEC);
        self.builder.ins().brif(host, asks, &[], alone, &[]);
        self.builder.seal_block(asks);
        self.builder.switch_to_block(asks);
        let threads = self.builder.ins().load(types::I64, flags, host, exec::WORKERS);
        let most = self.int(MAX_THREADS);
        let threads = self.builder.ins().umin(threads, most);
        let several = self.builder.ins().icmp_imm_s(IntCC::SignedGreaterThan, threads, 1);
        let parts = self.builder.ins().imul_imm_s(threads, PARTS_PER_THREAD);
        let parts = self.builder.ins().smin(parts, tasks.value);
        let parts = self.builder.ins().smin(parts, units.value);
        let worth = self.builder.ins().icmp_imm_s(IntCC::SignedGreaterThan, parts, 1);
        let worth = self.builder.ins().band(several, worth);
        self.builder.ins().brif(worth, forks, &[], alone, &[]);
        self.builder.seal_block(forks);
        self.builder.switch_to_block(forks);
        let part = self.divided_up(units.value, parts);
        self.builder.ins().store(flags, part, record, 8 * slot::PART);
        let count = self.divided_up(units.value, part);
        let mut run = self.module.make_signature();
        run.params.extend([AbiParam::new(types::I64); 4]);
        let run = self.builder.import_signature(run);
        let callee = self.builder.ins().load(types::I64, flags, host, exec::RUN);
        let this = self.builder.ins().load(types::I64, flags, host, exec::THIS);
        let address = self.builder.ins().func_addr(types::I64, task);
        self.builder.ins().call_indirect(run, callee, &[this, address, record, count]);
        self.builder.ins().jump(done, &[]);
        self.builder.seal_block(alone);
        self.builder.switch_to_block(alone);
        self.builder.ins().store(flags, units.value, record, 8 * slot::PART);
        let first = self.int(0);
        self.builder.ins().call(task, &[record, first]);
        self.builder.ins().jump(done, &[]);
        self.builder.seal_block(done);
        self.builder.switch_to_block(done);
    }

    /// `a / b`, rounded up, for `b` of at least one.
    fn divided_up(&mut self, a: Value, b: Value) -> Value {
        let above = self.builder.ins().iadd(a, b);
        let above = self.builder.ins().iadd_imm_s(above, -1);
        self.builder.ins().udiv(above, b)
    }

    /// The number of units of loops inside each other.
    fn units_within(&mut self, loops: &[Level<'a>], inside: Inside<'a>) -> Result<Extent, CodeError> {
        let mut total = self.units_inside(inside)?;
        for level in loops {
            let extent = self.extent(level.extent)?;
            let extent = self.in_units(extent, 1);
            total = self.times(total, extent);
        }
        Ok(total)
    }

    fn units_inside(&mut self, inside: Inside<'a>) -> Result<Extent, CodeError> {
        match inside {
            Inside::Stmts(_) => Ok(self.fixed(1)),
            Inside::Lanes(_, extent, _) => {
                let extent = self.extent(extent)?;
                Ok(self.in_units(extent, LANE_UNIT))
            }
            Inside::Product(gemm) => self.gemm_units(gemm),
        }
    }

    /// Takes out of a record what a task needs of it, and emits the part that the task computes.
    pub(super) fn task(&mut self, queued: &Queued<'a>, record: Value, k: Value) -> Result<(), CodeError> {
        let uses = Uses::of(self.env.func, std::slice::from_ref(queued.stmt));
        let Captured { slots, sizes, vars, locals, private } = &queued.captured;
        let mut at = slot::CAPTURED;
        for slot in slots {
            let start = self.recorded(types::I64, record, &mut at);
            self.know_slot(*slot, start);
        }
        for dim in sizes {
            let value = self.recorded(types::I64, record, &mut at);
            self.sizes.know(dim.clone(), value);
        }
        for dim in uses.sizes.iter().filter(|dim| dim.as_const().is_some()) {
            self.sizes.emit(&mut self.builder, dim);
        }
        for var in vars {
            self.vars[var.0 as usize] = Some(self.recorded(types::I64, record, &mut at));
        }
        for local in locals {
            let ty = clif_type(self.env.func.locals[local.0 as usize].1)?;
            let value = self.recorded(ty, record, &mut at);
            let variable = self.local(*local)?;
            self.builder.def_var(variable, value);
        }
        self.bases(self.pointers, &|buffer| uses.buffers.contains(&buffer) && !private.contains(&buffer));
        for buffer in private {
            self.on_stack(*buffer)?;
        }
        let units = self.recorded(types::I64, record, &mut { slot::UNITS });
        let part = self.recorded(types::I64, record, &mut { slot::PART });
        let from = self.builder.ins().imul(k, part);
        let to = self.builder.ins().iadd(from, part);
        let to = self.builder.ins().smin(to, units);
        self.part(&queued.of.loops, queued.of.inside, Span { from, to })
    }

    fn recorded(&mut self, ty: Type, record: Value, at: &mut i32) -> Value {
        let flags = MemFlagsData::trusted().with_readonly().with_can_move();
        *at += 1;
        self.builder.ins().load(ty, flags, record, 8 * (*at - 1))
    }

    /// Some units of the loops from the first of `loops` on: each runs over its iterations that have any.
    fn part(&mut self, loops: &[Level<'a>], inside: Inside<'a>, span: Span) -> Result<(), CodeError> {
        let Some((level, within)) = loops.split_first() else { return self.part_inside(inside, span) };
        let own = self.units_within(within, inside)?;
        let (rows, own) =
            if own.is(1) { (span, own.value) } else { rows_of(&mut self.builder, span, own.value) };
        self.looped(rows.from, rows.to, 1, false, |cx, row| {
            let outer = cx.vars[level.var.0 as usize].replace(row);
            cx.stmts(level.sets)?;
            let part = part_of_row(&mut cx.builder, span, own, row);
            cx.part(within, inside, part)?;
            cx.vars[level.var.0 as usize] = outer;
            Ok(())
        })
    }

    fn part_inside(&mut self, inside: Inside<'a>, span: Span) -> Result<(), CodeError> {
        match inside {
            Inside::Stmts(body) => self.stmts(body),
            Inside::Product(gemm) => self.gemm(gemm, Some(span)),
            Inside::Lanes(var, extent, body) => {
                let size = self.scalar(extent)?;
                let turns = self.span_of(span, LANE_UNIT, size);
                if self.vector_loop(var, extent, body, Some(turns))? {
                    return Ok(());
                }
                self.counted(var, turns.from, turns.to, false, body)
            }
        }
    }
}
