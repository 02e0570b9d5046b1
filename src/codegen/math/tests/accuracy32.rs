//! Errors of the f32 functions against f64 ones of another library.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use cranelift_codegen::ir::types;

use super::super::{BinaryFn, MathFn, host};
use super::jit::{Compiled, Func};
use super::{boundaries_f32, random};

/// The distance of `y` from the exact result in units in the last place of the result; the
/// overflow threshold counts as the power of two beyond the largest number.
pub fn ulps(y: f32, exact: f64) -> f64 {
    if exact.is_nan() || y.is_nan() {
        return if exact.is_nan() && y.is_nan() { 0.0 } else { f64::INFINITY };
    }
    if (exact as f32).to_bits() == y.to_bits() && exact.is_infinite() {
        return 0.0;
    }
    let exponent = ((exact.abs().to_bits() >> 52) as i32 - 1023).clamp(-126, 127);
    let ulp = f64::from_bits(((exponent - 23 + 1023) as u64) << 52);
    let limit = 128f64.exp2();
    let y = if y.is_infinite() { limit.copysign(f64::from(y)) } else { f64::from(y) };
    let exact = exact.clamp(-limit, limit);
    if exact == 0.0 && y == 0.0 && exact.is_sign_negative() != y.is_sign_negative() {
        return f64::INFINITY;
    }
    (y - exact).abs() / ulp
}

/// The function in double precision from the standard library, or `libm` where it has none.
fn reference(func: MathFn, x: f64) -> f64 {
    match func {
        MathFn::Abs => x.abs(),
        MathFn::Neg => -x,
        MathFn::Sign if x == 0.0 || x.is_nan() => x,
        MathFn::Sign => x.signum(),
        MathFn::Floor => x.floor(),
        MathFn::Ceil => x.ceil(),
        MathFn::Round => x.round_ties_even(),
        MathFn::Trunc => x.trunc(),
        MathFn::Sqrt => x.sqrt(),
        MathFn::Rsqrt => 1.0 / x.sqrt(),
        MathFn::Exp => x.exp(),
        MathFn::Exp2 => x.exp2(),
        MathFn::Expm1 => x.exp_m1(),
        MathFn::Log => x.ln(),
        MathFn::Log2 => x.log2(),
        MathFn::Log1p => x.ln_1p(),
        MathFn::Tanh => x.tanh(),
        MathFn::Sigmoid => 1.0 / (1.0 + (-x).exp()),
        MathFn::Erf => libm::erf(x),
        MathFn::Sin => x.sin(),
        MathFn::Cos => x.cos(),
        MathFn::Tan => x.tan(),
    }
}

/// The bound that the documentation of [`MathFn`] states.
fn bound(func: MathFn) -> f64 {
    match func {
        MathFn::Abs | MathFn::Neg | MathFn::Sign => 0.0,
        MathFn::Floor | MathFn::Ceil | MathFn::Round | MathFn::Trunc => 0.0,
        MathFn::Sqrt => 0.500_001,
        MathFn::Rsqrt => 1.5,
        MathFn::Exp => 1.0,
        MathFn::Exp2 => 1.0,
        MathFn::Expm1 => 1.4,
        MathFn::Log => 0.9,
        MathFn::Log2 => 1.1,
        MathFn::Log1p => 1.0,
        MathFn::Tanh => 1.5,
        MathFn::Sigmoid => 1.5,
        MathFn::Erf => 1.25,
        MathFn::Sin => 0.9,
        MathFn::Cos => 0.9,
        MathFn::Tan => 1.25,
    }
}

/// The worst error and where, over `chunks` of bit patterns taken with `stride`.
fn worst(code: &Compiled, func: MathFn, stride: u64) -> (f64, f32) {
    const CHUNK: u64 = 1 << 16;
    let total = (1u64 << 32).div_ceil(stride);
    let next = AtomicU64::new(0);
    let worst = Mutex::new((0.0, 0.0));
    let work = || {
        let (mut out, mut own) = (vec![0f32; CHUNK as usize], (0.0, 0.0));
        loop {
            let start = next.fetch_add(CHUNK, Ordering::Relaxed);
            if start >= total {
                break;
            }
            let x: Vec<f32> =
                (start..start + CHUNK).map(|i| f32::from_bits((i.min(total - 1) * stride) as u32)).collect();
            code.apply(&x, &x, &mut out);
            for (&x, &y) in x.iter().zip(&out) {
                let error = ulps(y, reference(func, f64::from(x)));
                if error > own.0 {
                    own = (error, x);
                }
            }
        }
        let mut worst = worst.lock().unwrap();
        if own.0 > worst.0 {
            *worst = own;
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(work);
        scope.spawn(work);
    });
    worst.into_inner().unwrap()
}

#[test]
fn every_function_keeps_its_bound_in_vectors() {
    let stride = if std::env::var_os("MDLC_EXHAUSTIVE").is_some() { 1 } else { 4093 };
    for func in MathFn::ALL {
        let code = Compiled::new(Func::Unary(func), types::F32X4);
        let (error, at) = worst(&code, func, stride);
        eprintln!(
            "{:8} {error:.3} ulp at {at:e} ({:#010x}), {} instructions",
            func.name(),
            at.to_bits(),
            code.insts
        );
        assert!(error <= bound(func), "{func:?}: {error} ulp at {at:e}");
    }
}

#[test]
fn every_function_keeps_its_bound_at_boundaries() {
    for func in MathFn::ALL {
        for x in boundaries_f32() {
            let y = host::unary_f32(func, x);
            let error = ulps(y, reference(func, f64::from(x)));
            assert!(error <= bound(func), "{func:?}({x:e} = {:#010x}) = {y:e}: {error} ulp", x.to_bits());
        }
    }
}

#[test]
fn powers_keep_their_bound() {
    let code = Compiled::new(Func::Binary(BinaryFn::Pow), types::F32X4);
    let count = if std::env::var_os("MDLC_EXHAUSTIVE").is_some() { 1 << 14 } else { 1 << 6 };
    let (mut state, mut out, mut worst) = (1, vec![0f32; 1 << 14], (0.0, 0.0, 0.0));
    for round in 0..count {
        let (x, y): (Vec<f32>, Vec<f32>) = (0..out.len()).map(|_| power_arguments(&mut state, round)).unzip();
        code.apply(&x, &y, &mut out);
        for ((&x, &y), &z) in x.iter().zip(&y).zip(&out) {
            let error = ulps(z, f64::from(x).powf(f64::from(y)));
            if error > worst.0 {
                worst = (error, x, y);
            }
        }
    }
    eprintln!("pow      {:.3} ulp at {:e} ^ {:e}, {} instructions", worst.0, worst.1, worst.2, code.insts);
    assert!(worst.0 <= 1.1, "{worst:?}");
}

/// Any two bit patterns; or a base and an exponent whose power is finite; or a base near one.
fn power_arguments(state: &mut u64, round: usize) -> (f32, f32) {
    let bits = random(state);
    let any = f32::from_bits(bits as u32);
    let unit = (bits >> 40) as f32 / (1 << 24) as f32;
    match round % 4 {
        0 => (any, f32::from_bits((bits >> 32) as u32)),
        1 => (any.abs(), (unit * 280.0 - 150.0) / any.abs().log2()),
        2 => (any, (unit * 64.0 - 32.0).round()),
        _ => (f32::from_bits(0x3f80_0000 - 0x1000 + (bits as u32 & 0x1fff)), (unit - 0.5) * 400_000.0),
    }
}
