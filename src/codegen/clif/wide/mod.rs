//! Calls of wide kernels.
//!
//! A kernel takes the address of an array of 64-bit arguments, which lies in a slot of the stack.
//! What does not change between the calls of one place is written once. The bodies of kernels are
//! taken out of the expressions of the function; whatever has none is emitted as everywhere else.

mod lanes;
mod macro_kernel;
mod product;

pub(super) use macro_kernel::MacroKernels;

use super::super::error::CodeError;
use super::super::vector::body::{Affine, Argument, Poly};
use super::super::vector::kernels::Shape;
use super::function::FuncCx;
use crate::dtype::DType;
use crate::loops::ir::BufferId;
use cranelift_codegen::ir::{FuncRef, InstBuilder, MemFlagsData, StackSlotData, StackSlotKind, Value, types};
use cranelift_frontend::FunctionBuilder;

/// Beyond every index that a loop reaches.
const MAX_INDEX: i64 = 1 << 61;

/// The arguments of a kernel's calls, on the stack.
#[derive(Clone, Copy)]
pub(super) struct Block {
    address: Value,
}

/// Where a kernel starts: a row and a column, zero where there is none.
#[derive(Clone, Copy, Default)]
pub(super) struct Start {
    pub row: Option<Value>,
    pub column: Option<Value>,
}

impl FuncCx<'_, '_> {
    /// The function of a kernel, callable from here; `None` where there is none for this shape.
    fn kernel(&mut self, shape: Shape, of: Option<BufferId>) -> Result<Option<FuncRef>, CodeError> {
        let place = of.and_then(|of| self.place_of(of));
        let id = self.kernels.function(self.module, shape, place)?;
        Ok(id.map(|id| self.import(id)))
    }

    /// Emits what happens only where a condition holds.
    fn only_if(
        &mut self,
        condition: Value,
        emit: impl FnOnce(&mut Self) -> Result<(), CodeError>,
    ) -> Result<(), CodeError> {
        let (on, done) = (self.builder.create_block(), self.builder.create_block());
        self.builder.ins().brif(condition, on, &[], done, &[]);
        self.builder.seal_block(on);
        self.builder.switch_to_block(on);
        self.scoped(emit)?;
        self.builder.ins().jump(done, &[]);
        self.builder.seal_block(done);
        self.builder.switch_to_block(done);
        Ok(())
    }

    fn block(&mut self, slots: usize) -> Block {
        let slot = StackSlotData::new(StackSlotKind::ExplicitSlot, 8 * slots as u32, 3);
        let slot = self.builder.create_sized_stack_slot(slot);
        Block { address: self.builder.ins().stack_addr(types::I64, slot, 0) }
    }

    fn pass(&mut self, block: Block, slot: i32, value: Value) {
        self.builder.ins().store(MemFlagsData::trusted(), value, block.address, 8 * slot);
    }

    fn call_kernel(&mut self, kernel: FuncRef, block: Block) {
        self.builder.ins().call(kernel, &[block.address]);
    }

    /// Passes the arguments that are the same wherever the kernel starts.
    fn pass_fixed(&mut self, block: Block, first: i32, arguments: &[Argument]) -> Result<(), CodeError> {
        for (k, argument) in arguments.iter().enumerate() {
            let value = match argument {
                Argument::Scalar(id) => {
                    let value = self.scalar(*id)?;
                    match self.env.func.scalars.dtype(*id) {
                        DType::F32 => {
                            let bits = self.builder.ins().bitcast(types::I32, MemFlagsData::new(), value);
                            self.builder.ins().uextend(types::I64, bits)
                        }
                        _ => self.builder.ins().uextend(types::I64, value),
                    }
                }
                Argument::Stride { of, element_bytes } => {
                    let elems = self.poly(of)?;
                    self.builder.ins().imul_imm_s(elems, *element_bytes)
                }
                Argument::BoundStride(of) => self.poly(of)?,
                Argument::Pointer { .. } | Argument::Bound { .. } => continue,
            };
            self.pass(block, first + k as i32, value);
        }
        Ok(())
    }

    /// Passes the arguments that depend on where the kernel starts.
    fn pass_moving(
        &mut self,
        block: Block,
        first: i32,
        arguments: &[Argument],
        start: Start,
    ) -> Result<(), CodeError> {
        for (k, argument) in arguments.iter().enumerate() {
            let value = match argument {
                Argument::Pointer { buffer, at } => {
                    let index = self.affine(at, start)?;
                    let place = self.place_at(*buffer, Some(index), 0)?;
                    self.builder.ins().iadd_imm_s(place.address, i64::from(place.disp))
                }
                Argument::Bound { left, right } => {
                    let sides = [self.affine(right, start)?, self.affine(left, start)?];
                    let [right, left] = sides.map(|side| clamped(&mut self.builder, side));
                    self.builder.ins().isub(right, left)
                }
                _ => continue,
            };
            self.pass(block, first + k as i32, value);
        }
        Ok(())
    }

    fn affine(&mut self, affine: &Affine, start: Start) -> Result<Value, CodeError> {
        let mut total = self.poly(&affine.base)?;
        for (by, at) in [(&affine.by_row, start.row), (&affine.by_column, start.column)] {
            let (Some(at), false) = (at, by.known() == Some(0)) else { continue };
            let moved = match by.known() {
                Some(by) => self.builder.ins().imul_imm_s(at, by),
                None => {
                    let by = self.poly(by)?;
                    self.builder.ins().imul(at, by)
                }
            };
            total = self.builder.ins().iadd(total, moved);
        }
        Ok(total)
    }

    fn poly(&mut self, poly: &Poly) -> Result<Value, CodeError> {
        let mut total = None;
        for (term, factor) in &poly.terms {
            let mut product = None;
            for id in term {
                let value = self.scalar(*id)?;
                product = Some(match product {
                    Some(product) => self.builder.ins().imul(product, value),
                    None => value,
                });
            }
            let Some(product) = product else { continue };
            let product =
                if *factor == 1 { product } else { self.builder.ins().imul_imm_s(product, *factor) };
            total = Some(match total {
                Some(total) => self.builder.ins().iadd(total, product),
                None => product,
            });
        }
        Ok(match total {
            Some(total) if poly.constant == 0 => total,
            Some(total) => self.builder.ins().iadd_imm_s(total, poly.constant),
            None => self.int(poly.constant),
        })
    }
}

/// An index kept so near to zero that differences do not wrap.
fn clamped(builder: &mut FunctionBuilder<'_>, index: Value) -> Value {
    let low = builder.ins().iconst(types::I64, -MAX_INDEX);
    let high = builder.ins().iconst(types::I64, MAX_INDEX);
    let index = builder.ins().smax(index, low);
    builder.ins().smin(index, high)
}
