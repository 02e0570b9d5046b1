//! Statements: loops, branches, checks, calls.

use super::super::abi::{MAX_VALUES, hook, offset};
use super::super::error::CodeError;
use super::function::{FuncCx, internal};
use crate::loops::buffers;
use crate::loops::ir::{Edge, Kernel, LoopKind, LoopVar, MarkId, Pointer, ScalarId, SiteId, Stmt};
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{
    AbiParam, BlockArg, InstBuilder, MemFlagsData, StackSlotData, StackSlotKind, Value, types,
};
use std::collections::HashMap;

impl<'a> FuncCx<'a, '_> {
    /// Emits statements in order.
    pub(super) fn stmts(&mut self, stmts: &'a [Stmt]) -> Result<(), CodeError> {
        for stmt in stmts {
            self.check_size()?;
            self.memo.clear();
            if let Some(sources) = self.env.sources {
                let at = self.builder.func.dfg.num_insts();
                self.notes.add(at, self.env.program, self.env.func, sources, stmt);
            }
            self.stmt(stmt)?;
        }
        Ok(())
    }

    fn stmt(&mut self, stmt: &'a Stmt) -> Result<(), CodeError> {
        match stmt {
            Stmt::For { var, extent, reverse, kind, body } => {
                let in_lanes = *kind == LoopKind::Vector && !reverse;
                if in_lanes && self.copied(*var, *extent, body)? || self.divided(stmt)? {
                    return Ok(());
                }
                if in_lanes && self.vector_loop(*var, *extent, body, None)? {
                    return Ok(());
                }
                let extent = self.scalar(*extent)?;
                let zero = self.builder.ins().iconst(types::I64, 0);
                self.counted(*var, zero, extent, *reverse, body)
            }
            Stmt::Set { local, value } => {
                let value = self.scalar(*value)?;
                let variable = self.local(*local)?;
                self.builder.def_var(variable, value);
                Ok(())
            }
            Stmt::Reduce { local, op, value } => {
                let dtype = self.env.func.scalars.dtype(*value);
                let value = self.scalar(*value)?;
                let variable = self.local(*local)?;
                let old = self.builder.use_var(variable);
                let new = self.binary(*op, dtype, old, value)?;
                self.builder.def_var(variable, new);
                Ok(())
            }
            Stmt::Store { buffer, index, value } => {
                let value = self.scalar(*value)?;
                let place = self.place(*buffer, *index)?;
                self.store(place, value);
                Ok(())
            }
            Stmt::If { condition, then, otherwise } => self.branch(*condition, then, otherwise),
            Stmt::Fail { condition, site, values } => self.fail(*condition, *site, values),
            Stmt::Call { func, args, results } => self.call(*func, args, results),
            Stmt::Kernel(kernel) => {
                let Kernel::Gemm(gemm) = kernel.as_ref();
                if self.divided(stmt)? { Ok(()) } else { self.gemm(gemm, None) }
            }
            Stmt::Mark { mark, edge } => {
                self.mark(*mark, *edge);
                Ok(())
            }
        }
    }

    /// A scope for expressions whose values do not dominate what follows.
    pub(super) fn scoped<T>(
        &mut self,
        emit: impl FnOnce(&mut Self) -> Result<T, CodeError>,
    ) -> Result<T, CodeError> {
        self.scopes.push(HashMap::new());
        self.memo.clear();
        let result = emit(self);
        self.memo.clear();
        self.scopes.pop();
        result
    }

    /// `for var in from..to`, in order or backwards. The condition is tested at the end, with one
    /// test before the loop.
    pub(super) fn counted(
        &mut self,
        var: LoopVar,
        from: Value,
        to: Value,
        reverse: bool,
        body: &'a [Stmt],
    ) -> Result<(), CodeError> {
        self.looped(from, to, 1, reverse, |cx, at| {
            let outer = cx.vars[var.0 as usize].replace(at);
            cx.stmts(body)?;
            cx.vars[var.0 as usize] = outer;
            Ok(())
        })
    }

    /// A loop over `from, from + step, ..` while `at + step <= to`, or for `step == 1` backwards.
    pub(super) fn looped(
        &mut self,
        from: Value,
        to: Value,
        step: i64,
        reverse: bool,
        body: impl FnOnce(&mut Self, Value) -> Result<(), CodeError>,
    ) -> Result<(), CodeError> {
        let (head, exit) = (self.builder.create_block(), self.builder.create_block());
        let at = self.builder.append_block_param(head, types::I64);
        let (first, runs) = if reverse {
            let first = self.builder.ins().iadd_imm_s(to, -1);
            (first, self.builder.ins().icmp(IntCC::SignedGreaterThanOrEqual, first, from))
        } else {
            let end = if step == 1 { from } else { self.builder.ins().iadd_imm_s(from, step - 1) };
            (from, self.builder.ins().icmp(IntCC::SignedLessThan, end, to))
        };
        self.builder.ins().brif(runs, head, &[BlockArg::Value(first)], exit, &[]);
        self.builder.switch_to_block(head);
        self.scoped(|cx| body(cx, at))?;
        let (next, again) = if reverse {
            let again = self.builder.ins().icmp(IntCC::SignedGreaterThan, at, from);
            (self.builder.ins().iadd_imm_s(at, -1), again)
        } else {
            let next = self.builder.ins().iadd_imm_s(at, step);
            let end = if step == 1 { next } else { self.builder.ins().iadd_imm_s(at, 2 * step - 1) };
            (next, self.builder.ins().icmp(IntCC::SignedLessThan, end, to))
        };
        self.builder.ins().brif(again, head, &[BlockArg::Value(next)], exit, &[]);
        self.builder.seal_block(head);
        self.builder.seal_block(exit);
        self.builder.switch_to_block(exit);
        Ok(())
    }

    fn branch(
        &mut self,
        condition: ScalarId,
        then: &'a [Stmt],
        otherwise: &'a [Stmt],
    ) -> Result<(), CodeError> {
        let condition = self.scalar(condition)?;
        let blocks = [(); 3].map(|()| self.builder.create_block());
        let [yes, no, done] = blocks;
        let no = if otherwise.is_empty() { done } else { no };
        self.builder.ins().brif(condition, yes, &[], no, &[]);
        self.builder.seal_block(yes);
        self.builder.switch_to_block(yes);
        self.scoped(|cx| cx.stmts(then))?;
        self.builder.ins().jump(done, &[]);
        if !otherwise.is_empty() {
            self.builder.seal_block(no);
            self.builder.switch_to_block(no);
            self.scoped(|cx| cx.stmts(otherwise))?;
            self.builder.ins().jump(done, &[]);
        }
        self.builder.seal_block(done);
        self.builder.switch_to_block(done);
        Ok(())
    }

    /// Records the site and its values in the context and leaves, where the condition holds.
    fn fail(&mut self, condition: ScalarId, site: SiteId, values: &[ScalarId]) -> Result<(), CodeError> {
        let condition = self.scalar(condition)?;
        let (record, on) = (self.builder.create_block(), self.builder.create_block());
        self.builder.set_cold_block(record);
        self.builder.ins().brif(condition, record, &[], on, &[]);
        self.builder.seal_block(record);
        self.builder.switch_to_block(record);
        let flags = MemFlagsData::trusted();
        let id = self.builder.ins().iconst(types::I64, i64::from(site.0));
        self.builder.ins().store(flags, id, self.context, offset::SITE);
        self.scoped(|cx| {
            for (k, value) in values.iter().take(MAX_VALUES).enumerate() {
                let value = cx.scalar(*value)?;
                cx.builder.ins().store(flags, value, cx.context, offset::VALUES + 8 * k as i32);
            }
            Ok(())
        })?;
        let failed = self.failed();
        self.builder.ins().jump(failed, &[]);
        self.builder.seal_block(on);
        self.builder.switch_to_block(on);
        Ok(())
    }

    /// Calls the hook of the context, if there is one.
    fn mark(&mut self, mark: MarkId, edge: Edge) {
        let flags = MemFlagsData::trusted();
        let (passes, on) = (self.builder.create_block(), self.builder.create_block());
        let hook = self.builder.ins().load(types::I64, flags, self.context, offset::HOOK);
        self.builder.ins().brif(hook, passes, &[], on, &[]);
        self.builder.seal_block(passes);
        self.builder.switch_to_block(passes);
        let mut signature = self.module.make_signature();
        signature.params.extend([AbiParam::new(types::I64); 2]);
        let signature = self.builder.import_signature(signature);
        let callee = self.builder.ins().load(types::I64, flags, hook, hook::MARK);
        let this = self.builder.ins().load(types::I64, flags, hook, hook::THIS);
        let event = 2 * i64::from(mark.0) + i64::from(edge == Edge::End);
        let event = self.builder.ins().iconst(types::I64, event);
        self.builder.ins().call_indirect(signature, callee, &[this, event]);
        self.builder.ins().jump(on, &[]);
        self.builder.seal_block(on);
        self.builder.switch_to_block(on);
    }

    /// Calls a function of the program and leaves if it fails.
    fn call(&mut self, callee: usize, args: &[Pointer], results: &[Pointer]) -> Result<(), CodeError> {
        let program = self.env.program;
        let target = &program.functions[callee];
        if (args.len(), results.len()) != (buffers::args(target).len(), buffers::results(target).len()) {
            return Err(internal(self.env.func, format!("a call of `{}` has other arguments", target.name)));
        }
        let slots = args.len() + results.len();
        let slot = StackSlotData::new(StackSlotKind::ExplicitSlot, 8 * slots.max(1) as u32, 3);
        let slot = self.builder.create_sized_stack_slot(slot);
        let pointers = self.builder.ins().stack_addr(types::I64, slot, 0);
        for (k, pointer) in args.iter().chain(results).enumerate() {
            let place = self.place(pointer.buffer, pointer.offset)?;
            let address = self.builder.ins().iadd_imm_s(place.address, i64::from(place.disp));
            self.builder.ins().store(MemFlagsData::trusted(), address, pointers, 8 * k as i32);
        }
        let frame = self.callee_frames.get(&callee).copied().unwrap_or(self.arena);
        let reference = self.import(self.env.ids[callee]);
        let call = self.builder.ins().call(reference, &[self.context, self.dims, frame, pointers]);
        self.leave_if_failed(call);
        Ok(())
    }
}
