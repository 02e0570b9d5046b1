//! What happens to a tile's accumulators: the epilogue, then the store.

use super::super::super::error::CodeError;
use super::super::function::FuncCx;
use super::super::lanes::{Lane, Linear};
use super::{Epilogue, Operand, Product, lanes_of};
use cranelift_codegen::ir::{InstBuilder, MemFlagsData, StackSlotData, StackSlotKind, Value, types};

impl FuncCx<'_, '_> {
    /// Stores a tile whose first element is at `(row, column)`; `sums` holds `across`
    /// accumulators for each of its rows.
    pub(super) fn finish(
        &mut self,
        product: &mut Product<'_>,
        vectors: bool,
        (row, column): (Value, Value),
        sums: &[Value],
        across: usize,
    ) -> Result<(), CodeError> {
        let heavy = product.epilogue.as_ref().is_some_and(|epilogue| epilogue.heavy);
        if heavy && sums.len() > 1 {
            return self.finish_in_loop(product, vectors, (row, column), sums, across);
        }
        for (at, sum) in sums.iter().enumerate() {
            let (r, c) = ((at / across) as i64, (at % across) as i64 * lanes_of(vectors));
            let (row, column) = (self.moved(row, r), self.moved(column, c));
            self.finish_one(product, vectors, (row, column), *sum)?;
        }
        Ok(())
    }

    /// A long epilogue is emitted once per tile: the accumulators go through the stack.
    fn finish_in_loop(
        &mut self,
        product: &mut Product<'_>,
        vectors: bool,
        (row, column): (Value, Value),
        sums: &[Value],
        across: usize,
    ) -> Result<(), CodeError> {
        let (ty, size) = if vectors { (types::F32X4, 16) } else { (types::F32, 4) };
        let bytes = sums.len() as u32 * size;
        let slot = StackSlotData::new(StackSlotKind::ExplicitSlot, bytes, 4);
        let slot = self.builder.create_sized_stack_slot(slot);
        let start = self.builder.ins().stack_addr(types::I64, slot, 0);
        let flags = MemFlagsData::trusted();
        for (k, sum) in sums.iter().enumerate() {
            self.builder.ins().store(flags, *sum, start, k as i32 * size as i32);
        }
        let zero = self.int(0);
        let (rows, across) = (self.int((sums.len() / across) as i64), across as i64);
        self.looped(zero, rows, 1, false, |cx, r| {
            let row = cx.builder.ins().iadd(row, r);
            let line = cx.builder.ins().imul_imm_s(r, across * i64::from(size));
            let line = cx.builder.ins().iadd(start, line);
            let turns = cx.int(across);
            cx.looped(zero, turns, 1, false, |cx, c| {
                let from = cx.builder.ins().imul_imm_s(c, i64::from(size));
                let from = cx.builder.ins().iadd(line, from);
                let sum = cx.builder.ins().load(ty, flags, from, 0);
                let moved = cx.builder.ins().imul_imm_s(c, lanes_of(vectors));
                let column = cx.builder.ins().iadd(column, moved);
                cx.finish_one(product, vectors, (row, column), sum)
            })
        })
    }

    fn finish_one(
        &mut self,
        product: &mut Product<'_>,
        vectors: bool,
        (row, column): (Value, Value),
        sum: Value,
    ) -> Result<(), CodeError> {
        let out = product.sides.out;
        let value = match &mut product.epilogue {
            Some(epilogue) => self.scoped(|cx| {
                if vectors {
                    cx.epilogue_lanes(epilogue, row, column, sum)
                } else {
                    cx.epilogue_scalar(epilogue, row, column, sum)
                }
            })?,
            None => sum,
        };
        let (down, along) = (self.bytes(row, out.slow), self.bytes(column, out.fast));
        let address = self.builder.ins().iadd(out.pointer, down);
        let address = self.builder.ins().iadd(address, along);
        self.store_sums(out, vectors, address, value);
        Ok(())
    }

    fn store_sums(&mut self, out: Operand, vectors: bool, address: Value, value: Value) {
        if !vectors || out.fast.is(1) {
            self.builder.ins().store(out.flags(!vectors), value, address, 0);
            return;
        }
        for (lane, (from, disp)) in self.walk(address, out.fast, 4).into_iter().enumerate() {
            let element = self.builder.ins().extractlane(value, lane as u8);
            self.builder.ins().store(out.flags(true), element, from, disp);
        }
    }

    /// The epilogue of four elements that follow each other in the tile's row.
    fn epilogue_lanes(
        &mut self,
        epilogue: &mut Epilogue<'_>,
        row: Value,
        column: Value,
        sum: Value,
    ) -> Result<Value, CodeError> {
        let of = epilogue.of;
        let (along, fixed) = if epilogue.transposed { (of.row, of.column) } else { (of.column, of.row) };
        let lanes = &mut epilogue.lanes;
        lanes.memo.clear();
        lanes.vars.insert(along, Linear { base: column, plus: 0, step: 1 });
        lanes.locals.insert(of.acc, Lane::F32(sum));
        let outer = self.vars[fixed.0 as usize].replace(row);
        let value = self.lane(lanes, of.value)?;
        self.vars[fixed.0 as usize] = outer;
        Ok(self.packed(value))
    }

    fn epilogue_scalar(
        &mut self,
        epilogue: &Epilogue<'_>,
        row: Value,
        column: Value,
        sum: Value,
    ) -> Result<Value, CodeError> {
        let of = epilogue.of;
        let (row, column) = if epilogue.transposed { (column, row) } else { (row, column) };
        let variable = self.local(of.acc)?;
        self.builder.def_var(variable, sum);
        let outer = (self.vars[of.row.0 as usize], self.vars[of.column.0 as usize]);
        self.vars[of.row.0 as usize] = Some(row);
        self.vars[of.column.0 as usize] = Some(column);
        let value = self.scalar(of.value)?;
        (self.vars[of.row.0 as usize], self.vars[of.column.0 as usize]) = outer;
        Ok(value)
    }

    fn moved(&mut self, value: Value, by: i64) -> Value {
        if by == 0 { value } else { self.builder.ins().iadd_imm_s(value, by) }
    }
}
