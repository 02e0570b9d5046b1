//! Macro-kernels: the loops around the tiles of a product.
//!
//! A macro-kernel is a function of the module that does a whole product. It takes the array of
//! arguments that its kernels take, with some that do not change already written by the caller, and
//! reads behind them where the operands lie and how large they are ([`frame`]). Products that differ
//! in no more than that share one, in whatever function of the program they are. Where threads divide a
//! product, it does some shares of its units, which are panels over strips.

mod schedule;

pub(super) use schedule::{LINE_COLUMNS, PANEL_ROWS};

use super::super::super::error::CodeError;
use super::super::super::vector::Isa;
use super::super::super::vector::kernels::{Kernels, Shape};
use super::super::super::vector::tile::{Tail, slot};
use super::super::backlog::Backlog;
use super::super::text::{Notes, text};
use cranelift_codegen::Context;
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{
    AbiParam, BlockArg, FuncRef, InstBuilder, InstructionData, MemFlagsData, Opcode, StackSlot,
    StackSlotData, StackSlotKind, Value, types,
};
use cranelift_codegen::isa::CallConv;
use cranelift_frontend::{FunctionBuilder, FunctionBuilderContext};
use cranelift_module::{FuncId, Linkage, Module};
use std::collections::BTreeMap;

/// Slots behind the arguments of the kernels' bodies, where the caller says what the product is.
pub(super) mod frame {
    /// The first element of each operand.
    pub(crate) const LHS: i32 = 0;
    pub(crate) const RHS: i32 = 1;
    pub(crate) const OUT: i32 = 2;
    /// Rows, columns and terms.
    pub(crate) const ROWS: i32 = 3;
    pub(crate) const COLUMNS: i32 = 4;
    pub(crate) const TERMS: i32 = 5;
    /// Bytes between rows of the right operand, and between its columns.
    pub(crate) const RHS_ROW: i32 = 6;
    pub(crate) const RHS_STEP: i32 = 7;
    /// Where not all is to be done: which shares, of how many; each about as much work.
    pub(crate) const FROM: i32 = 8;
    pub(crate) const TO: i32 = 9;
    pub(crate) const SHARES: i32 = 10;
    /// What the moving arguments are in the first row and column, and what they grow by.
    pub(crate) const MOVING: i32 = 11;
}

/// Everything that a macro-kernel's code depends on, besides the width of vectors.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct MacroKernel {
    /// Rows and columns, where they are known; positive.
    pub rows: Option<i64>,
    pub columns: Option<i64>,
    /// How the right operand lies, where that and the number of rows are known.
    pub footprint: Option<Footprint>,
    /// Whether rows of the left operand fall into the same sets of the cache.
    pub crowded: bool,
    /// Whether the left operand is contiguous along the terms.
    pub unit: bool,
    /// Whether the right operand is contiguous along the terms, not along columns.
    pub transposed: bool,
    /// Contracted axes around the terms.
    pub outer: usize,
    /// Whether rows of the right operand lie evenly over all contracted axes.
    pub even: bool,
    /// Whether it does the shares that the frame names, not all.
    pub divided: bool,
    pub tail: Option<Tail>,
    /// Arguments of the body; those that move with the row or column say how.
    pub arguments: Vec<Option<Moving>>,
}

/// How much memory lies between the first and the last element of a right operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Footprint {
    /// So little that it is read as it is.
    Compact,
    /// More, in rows that are near each other.
    Narrow,
    Wide,
}

/// An argument of a body that depends on where the kernel starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Moving {
    /// An address.
    Pointer(Along),
    /// The difference of two indices.
    Bound { left: Along, right: Along },
}

/// What a value that is linear in row and column depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Along {
    pub row: bool,
    pub column: bool,
}

impl Along {
    fn slots(self) -> usize {
        1 + usize::from(self.row) + usize::from(self.column)
    }
}

impl MacroKernel {
    /// The first slot of the [`frame`].
    pub(super) fn frame(&self) -> i32 {
        slot::BODY + self.arguments.len() as i32
    }

    /// Slots that a caller provides.
    pub(super) fn slots(&self) -> usize {
        let moving = self.arguments.iter().flatten().map(|moving| match moving {
            Moving::Pointer(along) => along.slots(),
            Moving::Bound { left, right } => left.slots() + right.slots(),
        });
        (self.frame() + frame::MOVING) as usize + moving.sum::<usize>()
    }
}

/// The macro-kernels of a module, declared at their first use and emitted behind the function that
/// uses them.
#[derive(Debug, Default)]
pub(in super::super) struct MacroKernels {
    declared: BTreeMap<MacroKernel, FuncId>,
    pending: Vec<(FuncId, MacroKernel, Option<String>)>,
}

impl MacroKernels {
    /// The function of a macro-kernel; the place is that of its product in the source.
    pub(super) fn function(
        &mut self,
        module: &mut dyn Module,
        kernel: MacroKernel,
        place: Option<String>,
    ) -> Result<FuncId, CodeError> {
        if let Some(id) = self.declared.get(&kernel) {
            return Ok(*id);
        }
        let name = format!("mdlc_product_{}", self.declared.len());
        let declared = module.declare_function(&name, Linkage::Local, &signature(module));
        let id = declared.map_err(|error| CodeError::of_module(&name, &error))?;
        self.declared.insert(kernel.clone(), id);
        self.pending.push((id, kernel, place));
        Ok(id)
    }

    /// Emits those that were declared since the last time, for a function of the program; gives the number of
    /// their instructions, and their Cranelift IR where the place of the first use was given.
    ///
    /// # Errors
    /// Limits of the back end, and faults of our own.
    pub(in super::super) fn emit(
        &mut self,
        module: &mut dyn Module,
        kernels: &mut Kernels,
        scratch: &mut FunctionBuilderContext,
        context: &mut Context,
        (backlog, owner): (&mut Backlog, Option<usize>),
    ) -> Result<Vec<(usize, Option<String>)>, CodeError> {
        let mut emitted = Vec::with_capacity(self.pending.len());
        for (id, kernel, place) in std::mem::take(&mut self.pending) {
            let name = format!("product {}", id.as_u32());
            context.func.signature = signature(module);
            emit(&kernel, &name, place.as_deref(), module, kernels, (&mut *scratch, &mut *context))?;
            let text = place.map(|place| text(&name, &place, &context.func, Notes::default()));
            emitted.push((backlog.add(module, (id, &name, owner), context)?, text));
        }
        Ok(emitted)
    }
}

fn signature(module: &dyn Module) -> cranelift_codegen::ir::Signature {
    let mut signature = module.make_signature();
    signature.call_conv = CallConv::SystemV;
    signature.params.push(AbiParam::new(types::I64));
    signature
}

fn emit(
    kernel: &MacroKernel,
    name: &str,
    place: Option<&str>,
    module: &mut dyn Module,
    kernels: &mut Kernels,
    (scratch, context): (&mut FunctionBuilderContext, &mut Context),
) -> Result<(), CodeError> {
    let fault = |reason: &str| CodeError::Internal { function: name.to_string(), reason: reason.into() };
    let Some(isa) = kernels.isa() else { return Err(fault("there are no kernels")) };
    let config = module.target_config();
    let mut builder = FunctionBuilder::new(&mut context.func, scratch);
    let entry = builder.create_block();
    builder.append_block_params_for_function_params(entry);
    builder.switch_to_block(entry);
    builder.seal_block(entry);
    let block = builder.block_params(entry)[0];
    let mut cx = MacroCx {
        builder,
        module,
        kernels,
        name,
        place,
        imported: BTreeMap::new(),
        packing: None,
        isa,
        block,
    };
    let product = cx.product(kernel);
    cx.schedule(&product)?;
    cx.builder.ins().return_(&[]);
    cx.builder.seal_all_blocks();
    cx.builder.finalize(config);
    Ok(())
}

/// The state of emission.
struct MacroCx<'a, 'b> {
    builder: FunctionBuilder<'b>,
    module: &'a mut dyn Module,
    kernels: &'a mut Kernels,
    name: &'a str,
    place: Option<&'a str>,
    imported: BTreeMap<FuncId, FuncRef>,
    /// Memory for strips, and its size in bytes.
    packing: Option<(StackSlot, i64)>,
    isa: Isa,
    /// The arguments of the kernels.
    block: Value,
}

/// A product, as the frame says.
struct Product<'k> {
    of: &'k MacroKernel,
    lhs: Value,
    rhs: Value,
    out: Value,
    m: Value,
    n: Value,
    k: Value,
    lhs_row: Value,
    lhs_step: Value,
    rhs_row: Value,
    rhs_step: Value,
    out_row: Value,
    /// The slots of arguments that move, and how.
    moving: Vec<(i32, Moved)>,
}

#[derive(Clone, Copy)]
enum Moved {
    Pointer(Linear),
    Bound { left: Linear, right: Linear },
}

/// A value that is linear in the row and the column where a kernel starts.
#[derive(Clone, Copy)]
struct Linear {
    base: Value,
    by_row: Option<Value>,
    by_column: Option<Value>,
}

impl MacroCx<'_, '_> {
    fn product<'k>(&mut self, of: &'k MacroKernel) -> Product<'k> {
        let first = of.frame();
        let [lhs, rhs, out] = [frame::LHS, frame::RHS, frame::OUT].map(|at| self.read(first + at));
        let [m, n] = [(of.rows, frame::ROWS), (of.columns, frame::COLUMNS)].map(|(known, at)| match known {
            Some(size) => self.int(size),
            None => self.read(first + at),
        });
        let [k, rhs_row] = [frame::TERMS, frame::RHS_ROW].map(|at| self.read(first + at));
        let rhs_step = if of.transposed { self.read(first + frame::RHS_STEP) } else { self.int(4) };
        let lhs_step = if of.unit { self.int(4) } else { self.read(slot::LHS_STEP) };
        let [lhs_row, out_row] = [slot::LHS_ROW, slot::OUT_ROW].map(|at| self.read(at));
        let mut next = first + frame::MOVING;
        let mut linear = |cx: &mut Self, along: Along| {
            let mut word = || {
                next += 1;
                cx.read(next - 1)
            };
            let base = word();
            let by_row = along.row.then(&mut word);
            Linear { base, by_row, by_column: along.column.then(&mut word) }
        };
        let mut moving = Vec::new();
        for (at, argument) in of.arguments.iter().enumerate() {
            let moved = match argument {
                None => continue,
                Some(Moving::Pointer(along)) => Moved::Pointer(linear(self, *along)),
                Some(Moving::Bound { left, right }) => {
                    let left = linear(self, *left);
                    Moved::Bound { left, right: linear(self, *right) }
                }
            };
            moving.push((slot::BODY + at as i32, moved));
        }
        Product { of, lhs, rhs, out, m, n, k, lhs_row, lhs_step, rhs_row, rhs_step, out_row, moving }
    }

    fn int(&mut self, value: i64) -> Value {
        self.builder.ins().iconst(types::I64, value)
    }

    fn read(&mut self, slot: i32) -> Value {
        self.builder.ins().load(types::I64, MemFlagsData::trusted(), self.block, 8 * slot)
    }

    fn pass(&mut self, slot: i32, value: Value) {
        self.builder.ins().store(MemFlagsData::trusted(), value, self.block, 8 * slot);
    }

    /// Passes the arguments of the body that depend on where the kernel starts.
    fn pass_moving(&mut self, product: &Product<'_>, row: Value, column: Value) {
        for (slot, moved) in &product.moving {
            let value = match moved {
                Moved::Pointer(pointer) => self.linear(*pointer, row, column),
                Moved::Bound { left, right } => {
                    let [right, left] = [*right, *left].map(|side| {
                        let side = self.linear(side, row, column);
                        super::clamped(&mut self.builder, side)
                    });
                    self.builder.ins().isub(right, left)
                }
            };
            self.pass(*slot, value);
        }
    }

    fn linear(&mut self, of: Linear, row: Value, column: Value) -> Value {
        let mut total = of.base;
        for (by, at) in [(of.by_row, row), (of.by_column, column)] {
            if let Some(by) = by {
                let moved = self.builder.ins().imul(at, by);
                total = self.builder.ins().iadd(total, moved);
            }
        }
        total
    }

    /// `start + index * step`.
    fn moved(&mut self, start: Value, index: Value, step: Value) -> Value {
        let by = self.builder.ins().imul(index, step);
        self.builder.ins().iadd(start, by)
    }

    fn kernel(&mut self, shape: Shape) -> Result<Option<FuncRef>, CodeError> {
        let id = self.kernels.function(self.module, shape, self.place.map(str::to_string))?;
        Ok(id.map(|id| {
            let import = || self.module.declare_func_in_func(id, self.builder.func);
            *self.imported.entry(id).or_insert_with(import)
        }))
    }

    fn call(&mut self, kernel: FuncRef, block: Value) {
        self.builder.ins().call(kernel, &[block]);
    }

    fn fault(&self, reason: &str) -> CodeError {
        CodeError::Internal { function: self.name.to_string(), reason: reason.into() }
    }

    /// A loop over `from, from + step, ..` below `to`.
    fn looped(
        &mut self,
        (from, to, step): (Value, Value, Value),
        body: impl FnOnce(&mut Self, Value) -> Result<(), CodeError>,
    ) -> Result<(), CodeError> {
        let (head, exit) = (self.builder.create_block(), self.builder.create_block());
        let at = self.builder.append_block_param(head, types::I64);
        let runs = self.builder.ins().icmp(IntCC::SignedLessThan, from, to);
        self.builder.ins().brif(runs, head, &[BlockArg::Value(from)], exit, &[]);
        self.builder.switch_to_block(head);
        body(self, at)?;
        let next = self.builder.ins().iadd(at, step);
        let again = self.builder.ins().icmp(IntCC::SignedLessThan, next, to);
        self.builder.ins().brif(again, head, &[BlockArg::Value(next)], exit, &[]);
        self.builder.seal_block(head);
        self.builder.seal_block(exit);
        self.builder.switch_to_block(exit);
        Ok(())
    }

    /// `body` for `0..count`, without a loop where the count is known to be 1.
    fn times(
        &mut self,
        count: Value,
        body: impl FnOnce(&mut Self, Value) -> Result<(), CodeError>,
    ) -> Result<(), CodeError> {
        let (zero, one) = (self.int(0), self.int(1));
        match self.known(count) {
            Some(1) => body(self, zero),
            _ => self.looped((zero, count, one), body),
        }
    }

    fn block(&mut self, slots: usize) -> Value {
        let slot = StackSlotData::new(StackSlotKind::ExplicitSlot, 8 * slots as u32, 3);
        let slot = self.builder.create_sized_stack_slot(slot);
        self.builder.ins().stack_addr(types::I64, slot, 0)
    }

    /// The value of a constant.
    fn known(&self, value: Value) -> Option<i64> {
        let dfg = &self.builder.func.dfg;
        match dfg.insts[dfg.value_def(value).inst()?] {
            InstructionData::UnaryImm { opcode: Opcode::Iconst, imm } => Some(imm.bits()),
            _ => None,
        }
    }

    /// Memory that the function has for strips, aligned to a cache line.
    fn packing_space(&mut self, bytes: i64) -> Value {
        let slot = match self.packing {
            Some((slot, room)) if room >= bytes => slot,
            _ => {
                let data = StackSlotData::new(StackSlotKind::ExplicitSlot, bytes as u32 + 64, 3);
                let slot = self.builder.create_sized_stack_slot(data);
                self.packing = Some((slot, bytes));
                slot
            }
        };
        let address = self.builder.ins().stack_addr(types::I64, slot, 0);
        let above = self.builder.ins().iadd_imm_s(address, 63);
        self.builder.ins().band_imm_s(above, -64)
    }
}
