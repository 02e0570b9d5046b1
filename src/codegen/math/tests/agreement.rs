//! Emitted code gives the bits of the host, for every function and type.

use cranelift_codegen::ir::{Endianness, InstBuilder, MemFlagsData, types};

use super::super::integer::{self, emit_float_to_int, emit_floor_div, emit_floor_mod};
use super::super::{BinaryFn, MathFn, host};
use super::jit::{Compiled, Func};
use super::{boundaries_f32, random, same_f32, same_f64};

fn samples_f32() -> Vec<f32> {
    let mut state = 3;
    let mut x = boundaries_f32();
    x.extend((0..20_000).map(|_| f32::from_bits(random(&mut state) as u32)));
    x.truncate(x.len() / 4 * 4);
    x
}

fn samples_f64() -> Vec<f64> {
    let mut state = 4;
    let mut x: Vec<f64> = boundaries_f32().into_iter().map(f64::from).collect();
    x.extend((0..10_000).map(|_| f64::from_bits(random(&mut state))));
    x.extend((0..10_000).map(|_| (random(&mut state) as f64 / 9e18 - 1.0) * 800.0));
    x.truncate(x.len() / 4 * 4);
    x
}

#[test]
fn unary_f32_code_agrees_with_the_host() {
    let x = samples_f32();
    let mut out = vec![0.0; x.len()];
    for func in MathFn::ALL {
        for ty in [types::F32, types::F32X4] {
            Compiled::new(Func::Unary(func), ty).apply(&x, &x, &mut out);
            for (&x, &y) in x.iter().zip(&out) {
                let expected = host::unary_f32(func, x);
                assert!(same_f32(y, expected), "{func:?} {ty} at {x:e}: {y:e}, host {expected:e}");
            }
        }
    }
}

#[test]
fn unary_f64_code_agrees_with_the_host() {
    let x = samples_f64();
    let mut out = vec![0.0; x.len()];
    for func in MathFn::ALL {
        for ty in [types::F64, types::F64X2] {
            let code = Compiled::new(Func::Unary(func), ty);
            code.apply(&x, &x, &mut out);
            for (&x, &y) in x.iter().zip(&out) {
                let expected = host::unary_f64(func, x);
                assert!(same_f64(y, expected), "{func:?} {ty} at {x:e}: {y:e}, host {expected:e}");
            }
        }
    }
}

#[test]
fn binary_code_agrees_with_the_host() {
    let x = samples_f32();
    let y: Vec<f32> = x.iter().enumerate().map(|(i, _)| x[(i * 7919 + 5) % x.len()]).collect();
    let (x64, mut y64) = (samples_f64(), samples_f64());
    y64.rotate_left(4097);
    let (mut out, mut out64) = (vec![0.0; x.len()], vec![0.0; x64.len()]);
    for func in [BinaryFn::Pow, BinaryFn::Min, BinaryFn::Max] {
        for ty in [types::F32, types::F32X4] {
            Compiled::new(Func::Binary(func), ty).apply(&x, &y, &mut out);
            for ((&x, &y), &z) in x.iter().zip(&y).zip(&out) {
                let expected = host::binary_f32(func, x, y);
                assert!(same_f32(z, expected), "{func:?} {ty} at {x:e}, {y:e}: {z:e}, host {expected:e}");
            }
        }
        for ty in [types::F64, types::F64X2] {
            Compiled::new(Func::Binary(func), ty).apply(&x64, &y64, &mut out64);
            for ((&x, &y), &z) in x64.iter().zip(&y64).zip(&out64) {
                let expected = host::binary_f64(func, x, y);
                assert!(same_f64(z, expected), "{func:?} {ty} at {x:e}, {y:e}: {z:e}, host {expected:e}");
            }
        }
    }
}

/// Pairs of integers around zero and the ends of the range.
fn integer_pairs() -> Vec<(i64, i64)> {
    let values = [i64::MIN, i64::MIN + 1, -7, -3, -2, -1, 0, 1, 2, 3, 7, i64::MAX - 1, i64::MAX];
    let small = values.map(|v| v.clamp(i64::from(i32::MIN), i64::from(i32::MAX)));
    let all: Vec<i64> = values.into_iter().chain(small).collect();
    all.iter().flat_map(|&x| all.iter().map(move |&y| (x, y))).collect()
}

#[test]
fn integer_division_code_agrees_with_the_host() {
    let (x, y): (Vec<i64>, Vec<i64>) = integer_pairs().into_iter().unzip();
    let (mut q, mut r) = (vec![0; x.len()], vec![0; x.len()]);
    Compiled::inline(types::I64, emit_floor_div).apply(&x, &y, &mut q);
    Compiled::inline(types::I64, emit_floor_mod).apply(&x, &y, &mut r);
    for i in 0..x.len() {
        let expected = (integer::floor_div_i64(x[i], y[i]), integer::floor_mod_i64(x[i], y[i]));
        assert_eq!((q[i], r[i]), expected, "{} by {}", x[i], y[i]);
    }

    let narrow = |v: &[i64]| v.iter().map(|&v| v as i32).collect::<Vec<i32>>();
    let (x, y) = (narrow(&x), narrow(&y));
    let (mut q, mut r) = (vec![0; x.len()], vec![0; x.len()]);
    Compiled::inline(types::I32, emit_floor_div).apply(&x, &y, &mut q);
    Compiled::inline(types::I32, emit_floor_mod).apply(&x, &y, &mut r);
    for i in 0..x.len() {
        let expected = (integer::floor_div_i32(x[i], y[i]), integer::floor_mod_i32(x[i], y[i]));
        assert_eq!((q[i], r[i]), expected, "{} by {}", x[i], y[i]);
    }
}

#[test]
fn casts_to_integers_saturate() {
    let x = samples_f32();
    let mut out = vec![0f32; x.len()];
    for (float, int) in [(types::F32, types::I32), (types::F32X4, types::I32X4)] {
        // The loop stores floats, so the integers travel as their bits.
        let code = Compiled::inline(float, |b, x, _| {
            let cast = emit_float_to_int(b, int, x);
            b.ins().bitcast(float, MemFlagsData::new().with_endianness(Endianness::Little), cast)
        });
        code.apply(&x, &x, &mut out);
        for (&x, &y) in x.iter().zip(&out) {
            assert_eq!(y.to_bits().cast_signed(), x as i32, "{float} {x:e}");
        }
    }
    let (x, mut out) = (samples_f64(), vec![0f64; samples_f64().len()]);
    let code = Compiled::inline(types::F64, |b, x, _| {
        let cast = emit_float_to_int(b, types::I64, x);
        b.ins().bitcast(types::F64, MemFlagsData::new(), cast)
    });
    code.apply(&x, &x, &mut out);
    for (&x, &y) in x.iter().zip(&out) {
        assert_eq!(y.to_bits().cast_signed(), x as i64, "{x:e}");
    }
}
