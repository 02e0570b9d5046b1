//! Integer division towards minus infinity, and casts from floats, for generated code and host.
//!
//! All are total, so no generated code can trap: a zero divisor gives 0 for the quotient and the
//! remainder, and the one overflow, `MIN // -1`, wraps to `MIN` with remainder 0. Programs in
//! which a divisor can be zero are guarded before this point; the value only keeps the machine
//! from trapping in lanes that are not selected.

use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{InstBuilder, Type, Value};
use cranelift_frontend::FunctionBuilder;

/// `floor(x / y)`.
pub fn floor_div_i64(x: i64, y: i64) -> i64 {
    if y == 0 {
        return 0;
    }
    let q = x.wrapping_div(y);
    if x.wrapping_rem(y) != 0 && (x < 0) != (y < 0) { q - 1 } else { q }
}

/// `x - y floor(x / y)`: the remainder with the sign of the divisor.
pub fn floor_mod_i64(x: i64, y: i64) -> i64 {
    if y == 0 {
        return 0;
    }
    let r = x.wrapping_rem(y);
    if r != 0 && (r < 0) != (y < 0) { r + y } else { r }
}

/// `floor(x / y)`.
pub fn floor_div_i32(x: i32, y: i32) -> i32 {
    // Wraps for MIN // -1, as documented.
    floor_div_i64(i64::from(x), i64::from(y)) as i32
}

/// The remainder with the sign of the divisor.
pub fn floor_mod_i32(x: i32, y: i32) -> i32 {
    floor_mod_i64(i64::from(x), i64::from(y)) as i32
}

/// A divisor that cannot trap, and where the given one was zero.
fn safe_divisor(builder: &mut FunctionBuilder, ty: Type, x: Value, y: Value) -> (Value, Value) {
    let zero = builder.ins().iconst(ty, 0);
    let one = builder.ins().iconst(ty, 1);
    let (min, minus_one) =
        if ty.bits() == 64 { (i64::MIN, -1) } else { (i64::from(1u32 << 31), i64::from(u32::MAX)) };
    let min = builder.ins().iconst(ty, min);
    let minus_one = builder.ins().iconst(ty, minus_one);
    let by_zero = builder.ins().icmp(IntCC::Equal, y, zero);
    let at_min = builder.ins().icmp(IntCC::Equal, x, min);
    let by_minus_one = builder.ins().icmp(IntCC::Equal, y, minus_one);
    let overflow = builder.ins().band(at_min, by_minus_one);
    let unsafe_divisor = builder.ins().bor(by_zero, overflow);
    // MIN / 1 is the wrapped quotient, with remainder 0.
    (builder.ins().select(unsafe_divisor, one, y), by_zero)
}

/// The truncated quotient and remainder by a safe divisor, and where they need a step down.
fn divide(builder: &mut FunctionBuilder, ty: Type, x: Value, y: Value) -> (Value, Value, Value) {
    let zero = builder.ins().iconst(ty, 0);
    let q = builder.ins().sdiv(x, y);
    let product = builder.ins().imul(q, y);
    let r = builder.ins().isub(x, product);
    let inexact = builder.ins().icmp(IntCC::NotEqual, r, zero);
    let signs = builder.ins().bxor(r, y);
    let opposite = builder.ins().icmp(IntCC::SignedLessThan, signs, zero);
    (q, r, builder.ins().band(inexact, opposite))
}

/// Emits `floor(x / y)` for scalar I32 or I64.
pub fn emit_floor_div(builder: &mut FunctionBuilder, x: Value, y: Value) -> Value {
    let ty = builder.func.dfg.value_type(x);
    let (divisor, by_zero) = safe_divisor(builder, ty, x, y);
    let (q, _, step) = divide(builder, ty, x, divisor);
    let step = builder.ins().uextend(ty, step);
    let q = builder.ins().isub(q, step);
    let zero = builder.ins().iconst(ty, 0);
    builder.ins().select(by_zero, zero, q)
}

/// Emits the floored remainder for scalar I32 or I64.
pub fn emit_floor_mod(builder: &mut FunctionBuilder, x: Value, y: Value) -> Value {
    let ty = builder.func.dfg.value_type(x);
    let (divisor, _) = safe_divisor(builder, ty, x, y);
    let (_, r, step) = divide(builder, ty, x, divisor);
    let moved = builder.ins().iadd(r, divisor);
    builder.ins().select(step, moved, r)
}

/// Emits the cast of a float to I32, I64 or I32X4: towards zero, saturating, NaN to 0, as Rust's `as`.
pub fn emit_float_to_int(builder: &mut FunctionBuilder, to: Type, x: Value) -> Value {
    builder.ins().fcvt_to_sint_sat(to, x)
}
