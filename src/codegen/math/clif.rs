//! The arithmetic as Cranelift instructions: F32, F32X4, F64, F64X2.
//!
//! `fma` is emitted as the instruction; the target must have it, since Cranelift would otherwise
//! call a library function. Constants are immediates or lie in the function's constant pool, so
//! no data symbols are needed.

use std::marker::PhantomData;

use cranelift_codegen::ir::condcodes::{FloatCC, IntCC};
use cranelift_codegen::ir::{ConstantData, Endianness, InstBuilder, MemFlagsData, Type, Value, types};
use cranelift_frontend::FunctionBuilder;

use super::arith::{Arith, Wide};
use super::format::Format;

/// Emits operations of the format `S` on values of one type.
pub(super) struct Clif<'a, 'b, S> {
    pub builder: &'a mut FunctionBuilder<'b>,
    float: Type,
    int: Type,
    format: PhantomData<S>,
}

impl<'a, 'b, S: Format> Clif<'a, 'b, S> {
    /// An emitter for `float`, whose lanes must be of the format `S`.
    pub fn new(builder: &'a mut FunctionBuilder<'b>, float: Type) -> Self {
        let lane = if float.lane_type() == types::F32 { types::I32 } else { types::I64 };
        let int = if float.is_vector() { lane.by(float.lane_count()).unwrap_or(lane) } else { lane };
        Self { builder, float, int, format: PhantomData }
    }

    fn vector_constant(&mut self, ty: Type, bits: i64) -> Value {
        let bytes = ty.lane_type().bytes() as usize;
        let lane = &bits.to_le_bytes()[..bytes];
        let data: ConstantData = lane.repeat(ty.lane_count() as usize).into();
        let constant = self.builder.func.dfg.constants.insert(data);
        self.builder.ins().vconst(ty, constant)
    }

    fn cast(&mut self, ty: Type, x: Value) -> Value {
        let flags = MemFlagsData::new().with_endianness(Endianness::Little);
        self.builder.ins().bitcast(ty, flags, x)
    }

    fn compare(&mut self, cc: FloatCC, x: Value, y: Value) -> Value {
        self.builder.ins().fcmp(cc, x, y)
    }
}

/// The bits of an integer constant as Cranelift wants them: zero-extended from the lane.
fn lane_bits(ty: Type, c: i64) -> i64 {
    if ty.lane_bits() == 32 { i64::from(c as u32) } else { c }
}

impl<S: Format> Arith for Clif<'_, '_, S> {
    type S = S;
    type F = Value;
    type I = Value;
    type M = Value;

    fn f(&mut self, c: S) -> Value {
        let bits = c.bits();
        if self.float.is_vector() {
            self.vector_constant(self.float, bits)
        } else if self.float == types::F32 {
            self.builder.ins().f32const(f32::from_bits(bits as u32))
        } else {
            self.builder.ins().f64const(f64::from_bits(bits.cast_unsigned()))
        }
    }

    fn i(&mut self, c: i64) -> Value {
        let bits = lane_bits(self.int, c);
        if self.int.is_vector() {
            self.vector_constant(self.int, bits)
        } else {
            self.builder.ins().iconst(self.int, bits)
        }
    }

    fn add(&mut self, x: Value, y: Value) -> Value {
        self.builder.ins().fadd(x, y)
    }
    fn sub(&mut self, x: Value, y: Value) -> Value {
        self.builder.ins().fsub(x, y)
    }
    fn mul(&mut self, x: Value, y: Value) -> Value {
        self.builder.ins().fmul(x, y)
    }
    fn div(&mut self, x: Value, y: Value) -> Value {
        self.builder.ins().fdiv(x, y)
    }
    fn fma(&mut self, x: Value, y: Value, z: Value) -> Value {
        self.builder.ins().fma(x, y, z)
    }
    fn neg(&mut self, x: Value) -> Value {
        self.builder.ins().fneg(x)
    }
    fn abs(&mut self, x: Value) -> Value {
        self.builder.ins().fabs(x)
    }
    fn sqrt(&mut self, x: Value) -> Value {
        self.builder.ins().sqrt(x)
    }
    fn nearest(&mut self, x: Value) -> Value {
        self.builder.ins().nearest(x)
    }
    fn floor(&mut self, x: Value) -> Value {
        self.builder.ins().floor(x)
    }
    fn ceil(&mut self, x: Value) -> Value {
        self.builder.ins().ceil(x)
    }
    fn trunc(&mut self, x: Value) -> Value {
        self.builder.ins().trunc(x)
    }

    fn lt(&mut self, x: Value, y: Value) -> Value {
        self.compare(FloatCC::LessThan, x, y)
    }
    fn eq(&mut self, x: Value, y: Value) -> Value {
        self.compare(FloatCC::Equal, x, y)
    }
    fn ieq(&mut self, x: Value, y: Value) -> Value {
        self.builder.ins().icmp(IntCC::Equal, x, y)
    }
    fn both(&mut self, p: Value, q: Value) -> Value {
        self.builder.ins().band(p, q)
    }
    fn either(&mut self, p: Value, q: Value) -> Value {
        self.builder.ins().bor(p, q)
    }
    fn not(&mut self, p: Value) -> Value {
        if self.float.is_vector() {
            self.builder.ins().bnot(p)
        } else {
            // A scalar comparison gives 0 or 1.
            let one = self.builder.ins().iconst(types::I8, 1);
            self.builder.ins().bxor(p, one)
        }
    }
    fn select(&mut self, p: Value, x: Value, y: Value) -> Value {
        if self.float.is_vector() {
            let mask = self.cast(self.float, p);
            self.builder.ins().bitselect(mask, x, y)
        } else {
            self.builder.ins().select(p, x, y)
        }
    }

    fn to_bits(&mut self, x: Value) -> Value {
        self.cast(self.int, x)
    }
    fn of_bits(&mut self, x: Value) -> Value {
        self.cast(self.float, x)
    }
    fn iadd(&mut self, x: Value, y: Value) -> Value {
        self.builder.ins().iadd(x, y)
    }
    fn isub(&mut self, x: Value, y: Value) -> Value {
        self.builder.ins().isub(x, y)
    }
    fn iand(&mut self, x: Value, y: Value) -> Value {
        self.builder.ins().band(x, y)
    }
    fn ior(&mut self, x: Value, y: Value) -> Value {
        self.builder.ins().bor(x, y)
    }
    fn ishl(&mut self, x: Value, by: u32) -> Value {
        let by = self.builder.ins().iconst(types::I32, i64::from(by));
        self.builder.ins().ishl(x, by)
    }
    fn ushr(&mut self, x: Value, by: u32) -> Value {
        let by = self.builder.ins().iconst(types::I32, i64::from(by));
        self.builder.ins().ushr(x, by)
    }
}

/// Only meaningful for scalar F64, which is all that the exact reduction is emitted for.
impl Wide for Clif<'_, '_, f64> {
    fn imul(&mut self, x: Value, y: Value) -> Value {
        self.builder.ins().imul(x, y)
    }
    fn umulhi(&mut self, x: Value, y: Value) -> Value {
        self.builder.ins().umulhi(x, y)
    }
    fn ishl_by(&mut self, x: Value, by: Value) -> Value {
        self.builder.ins().ishl(x, by)
    }
    fn ushr_by(&mut self, x: Value, by: Value) -> Value {
        self.builder.ins().ushr(x, by)
    }
    fn ult(&mut self, x: Value, y: Value) -> Value {
        self.builder.ins().icmp(IntCC::UnsignedLessThan, x, y)
    }
    fn iselect(&mut self, p: Value, x: Value, y: Value) -> Value {
        self.builder.ins().select(p, x, y)
    }
    fn of_int(&mut self, x: Value) -> Value {
        self.builder.ins().fcvt_from_sint(types::F64, x)
    }
}
