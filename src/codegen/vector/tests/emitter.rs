//! The emitter: operations, constants, masks, and values that do not find a register.

use super::super::build::Builder;
use super::super::encode::assemble;
use super::super::ir::{Binary, Compare, Logic, Mem, Op, Operand, Reg, Shift, Unary};
use super::super::isa::Isa;
use super::run::{Kernel, same, samples, widths};
use crate::codegen::math::{BinaryFn, MathFn, host, power, straight_line};
use crate::ops::scalar::BinaryOp;

/// Runs `out[lane] = of(x[lane], y[lane], z[lane])` over one vector.
fn lanes(isa: Isa, inputs: [&[f32]; 3], of: impl Fn(&mut Builder, [Operand; 3]) -> Operand) -> Vec<f32> {
    let mut b = Builder::new(isa);
    let args = b.argument();
    let values = [0, 1, 2].map(|k| {
        let pointer = b.load_int(Mem::at(args, 8 * k));
        Operand::Reg(b.load(Mem::at(pointer, 0), None))
    });
    let out = b.load_int(Mem::at(args, 24));
    let value = of(&mut b, values);
    b.store(Mem::at(out, 0), value, None);
    let kernel = Kernel::new(&assemble(b.code, isa).unwrap());
    let mut all = Vec::new();
    let chunks = inputs.map(|input| input.chunks_exact(isa.lanes()).collect::<Vec<_>>());
    for k in 0..chunks[0].len() {
        let mut out = vec![0.0f32; isa.lanes()];
        let pointers = chunks.each_ref().map(|chunks| chunks[k].as_ptr() as i64);
        let mut arguments = [pointers[0], pointers[1], pointers[2], out.as_mut_ptr() as i64];
        kernel.call(&mut arguments);
        all.extend(out);
    }
    all
}

fn check(name: &str, of: impl Fn(&mut Builder, [Operand; 3]) -> Operand, model: impl Fn([f32; 3]) -> f32) {
    let (x, y, z) = (samples(1024, 1), samples(1024, 2), samples(1024, 3));
    for isa in widths() {
        for (k, found) in lanes(isa, [&x, &y, &z], &of).into_iter().enumerate() {
            let wanted = model([x[k], y[k], z[k]]);
            let given = (x[k], y[k], z[k]);
            assert!(same(found, wanted), "{name} of {given:?} is {wanted}, with {} {found}", isa.name());
        }
    }
}

#[test]
fn math_functions_have_the_bits_of_the_host() {
    for func in MathFn::ALL {
        if matches!(func, MathFn::Sin | MathFn::Cos | MathFn::Tan) {
            continue;
        }
        let model = |[x, ..]: [f32; 3]| host::unary_f32(func, x);
        check(func.name(), |b, [x, ..]| straight_line(b, func, x), model);
    }
    check("pow", |b, [x, y, _]| power(b, x, y), |[x, y, _]| host::binary_f32(BinaryFn::Pow, x, y));
}

#[test]
fn minimum_and_maximum_know_nan_and_signs() {
    let reduced = |op: BinaryOp, func: BinaryFn| {
        let model = move |[x, y, _]: [f32; 3]| host::binary_f32(func, x, y);
        check(func.name(), |b, [x, y, _]| b.reduce(op, x, y), model);
        for constant in [0.0f32, -0.0, 2.5, f32::NEG_INFINITY, f32::NAN] {
            let operand = Builder::real(constant);
            let model = move |[x, ..]: [f32; 3]| host::binary_f32(func, x, constant);
            check(func.name(), |b, [x, ..]| b.reduce(op, x, operand), model);
            check(func.name(), |b, [x, ..]| b.reduce(op, operand, x), model);
        }
    };
    reduced(BinaryOp::Min, BinaryFn::Min);
    reduced(BinaryOp::Max, BinaryFn::Max);
}

#[test]
fn every_place_of_a_fused_operand_may_be_kept_or_constant() {
    let two = Builder::real(2.0);
    // Which of the operands live on decides on the form of the instruction.
    for kept in 0..8 {
        for constant in 0..4 {
            let of = |b: &mut Builder, mut v: [Operand; 3]| {
                let live = v;
                if constant < 3 {
                    v[constant] = two;
                }
                let mut sum = b.fma(v[0], v[1], v[2]);
                for (k, value) in live.into_iter().enumerate() {
                    if kept & (1 << k) != 0 {
                        sum = b.binary(Binary::Sub, sum, value);
                    }
                }
                sum
            };
            let model = |mut v: [f32; 3]| {
                let live = v;
                if constant < 3 {
                    v[constant] = 2.0;
                }
                let sum = v[0].mul_add(v[1], v[2]);
                (0..3).filter(|k| kept & (1 << k) != 0).fold(sum, |sum, k| sum - live[k])
            };
            check("fma", of, model);
        }
    }
}

#[test]
fn comparisons_choose_lanes() {
    let how: [(Compare, fn(f32, f32) -> bool); 5] = [
        (Compare::Equal, |x, y| x == y),
        (Compare::Less, |x, y| x < y),
        (Compare::LessEqual, |x, y| x <= y),
        (Compare::NotEqual, |x, y| x != y),
        (Compare::Unordered, |x, y| x.is_nan() || y.is_nan()),
    ];
    for (compare, model) in how {
        let of = |b: &mut Builder, [x, y, z]: [Operand; 3]| {
            let one = b.compare(compare, x, y);
            let other = b.compare(Compare::Less, z, Builder::real(0.5));
            let both = b.logic(Logic::And, one, other);
            let either = b.logic(Logic::Or, one, other);
            let neither = b.not(either);
            let inner = b.select(neither, y, Builder::real(7.0));
            b.select(both, x, inner)
        };
        check("comparison", of, |[x, y, z]| match (model(x, y), z < 0.5) {
            (true, true) => x,
            (false, false) => y,
            _ => 7.0,
        });
    }
}

/// An operation of a random program.
#[derive(Clone, Copy)]
enum Step {
    Binary(Binary, usize, usize),
    Fma(usize, usize, usize),
    Shift(Shift, usize),
    Root(usize),
    Constant(f32, usize),
}

fn program(length: usize, seed: u64) -> Vec<Step> {
    let mut state = seed | 1;
    let mut draw = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 33) as usize % below
    };
    const OPS: [Binary; 8] = [
        Binary::Add,
        Binary::Sub,
        Binary::Mul,
        Binary::And,
        Binary::Or,
        Binary::Xor,
        Binary::AddInt,
        Binary::SubInt,
    ];
    (3..length + 3)
        .map(|known| match draw(8) {
            0 => Step::Fma(draw(known), draw(known), draw(known)),
            1 => Step::Shift(if draw(2) == 0 { Shift::Left } else { Shift::Right }, draw(known)),
            2 => Step::Root(draw(known)),
            3 => Step::Constant(draw(100) as f32 - 50.0, draw(known)),
            _ => Step::Binary(OPS[draw(OPS.len())], draw(known), draw(known)),
        })
        .collect()
}

fn step(values: &[f32], step: Step) -> f32 {
    let bits = |k: usize| values[k].to_bits();
    match step {
        Step::Binary(op, x, y) => match op {
            Binary::Add => values[x] + values[y],
            Binary::Sub => values[x] - values[y],
            Binary::Mul => values[x] * values[y],
            Binary::And => f32::from_bits(bits(x) & bits(y)),
            Binary::Or => f32::from_bits(bits(x) | bits(y)),
            Binary::Xor => f32::from_bits(bits(x) ^ bits(y)),
            Binary::AddInt => f32::from_bits(bits(x).wrapping_add(bits(y))),
            _ => f32::from_bits(bits(x).wrapping_sub(bits(y))),
        },
        Step::Fma(x, y, z) => values[x].mul_add(values[y], values[z]),
        Step::Shift(Shift::Left, x) => f32::from_bits(bits(x) << 3),
        Step::Shift(Shift::Right, x) => f32::from_bits(bits(x) >> 3),
        Step::Root(x) => values[x].abs().sqrt(),
        Step::Constant(c, x) => c - values[x],
    }
}

fn emit(b: &mut Builder, values: &[Operand], step: Step) -> Operand {
    match step {
        Step::Binary(op, x, y) => b.binary(op, values[x], values[y]),
        Step::Fma(x, y, z) => b.fma(values[x], values[y], values[z]),
        Step::Shift(shift, x) => b.shift(Op::Shift(shift, 3), values[x]),
        Step::Root(x) => {
            let x = b.absolute(values[x]);
            b.unary(Unary::Sqrt, x)
        }
        Step::Constant(c, x) => b.binary(Binary::Sub, Builder::real(c), values[x]),
    }
}

/// Programs whose values outnumber the registers: NaN payloads apart, the model's bits.
#[test]
fn values_without_a_register_are_kept_in_memory() {
    for seed in 1..40 {
        let steps = program(8 + seed as usize, seed * 7919);
        // Every value is used again at the end, so all are live at once.
        let of = |b: &mut Builder, given: [Operand; 3]| {
            let mut values = given.to_vec();
            for step in &steps {
                let value = emit(b, &values, *step);
                values.push(value);
            }
            let mut total = values[0];
            for value in &values[1..] {
                let held = b.maximum(*value, Builder::real(-1e30));
                total = b.binary(Binary::Sub, total, held);
            }
            total
        };
        let model = |given: [f32; 3]| {
            let mut values = given.to_vec();
            for one in &steps {
                let value = step(&values, *one);
                values.push(value);
            }
            let held = |x: f32| host::binary_f32(BinaryFn::Max, x, -1e30);
            values[1..].iter().fold(values[0], |total, value| total - held(*value))
        };
        let finite = |count: usize, seed: u64| -> Vec<f32> {
            samples(count, seed).into_iter().map(|x| if x.abs() < 1e9 { x } else { 0.5 }).collect()
        };
        let (x, y, z) = (finite(64, seed), finite(64, seed + 1), finite(64, seed + 2));
        for isa in widths() {
            for (k, found) in lanes(isa, [&x, &y, &z], of).into_iter().enumerate() {
                let wanted = model([x[k], y[k], z[k]]);
                // Integer operations see the payload of a NaN, which is the processor's choice.
                assert!(
                    same(found, wanted) || wanted.is_nan() || has_nan(&steps, [x[k], y[k], z[k]]),
                    "program {seed}, lane {k}: {wanted}, with {} {found}",
                    isa.name()
                );
            }
        }
    }
}

fn has_nan(steps: &[Step], given: [f32; 3]) -> bool {
    let mut values = given.to_vec();
    for one in steps {
        let value = step(&values, *one);
        values.push(value);
    }
    values.iter().any(|value| value.is_nan())
}

/// More pointers than there are registers for them, in a loop that moves them all.
#[test]
fn addresses_without_a_register_are_kept_in_memory() {
    const POINTERS: usize = 30;
    for isa in widths() {
        let mut b = Builder::new(isa);
        let args = b.argument();
        let pointers: Vec<Reg> = (0..POINTERS).map(|k| b.load_int(Mem::at(args, 8 * k as i32))).collect();
        let out = b.load_int(Mem::at(args, 8 * POINTERS as i32));
        let turns = b.move_int(Operand::Imm(3));
        b.repeat(turns, 1, |b| {
            let mut sum = Operand::Reg(b.carried(Operand::Splat(0)));
            for (k, pointer) in pointers.iter().enumerate() {
                let value = b.load(Mem::at(*pointer, 0), None);
                let scaled = b.binary(Binary::Mul, value.into(), Builder::real(k as f32));
                sum = b.binary(Binary::Add, sum, scaled);
                b.update_int(Op::AddInt, *pointer, Operand::Imm(isa.bytes()));
            }
            b.store(Mem::at(out, 0), sum, None);
            b.update_int(Op::AddInt, out, Operand::Imm(isa.bytes()));
        });
        let kernel = Kernel::new(&assemble(b.code, isa).unwrap());
        let inputs: Vec<Vec<f32>> =
            (0..POINTERS).map(|k| (0..3 * isa.lanes()).map(|i| (k * i) as f32 - 5.0).collect()).collect();
        let mut out = vec![0.0f32; 3 * isa.lanes()];
        let mut arguments: Vec<i64> = inputs.iter().map(|input| input.as_ptr() as i64).collect();
        arguments.push(out.as_mut_ptr() as i64);
        kernel.call(&mut arguments);
        for (i, found) in out.iter().enumerate() {
            let wanted = inputs.iter().enumerate().fold(0.0f32, |sum, (k, x)| sum + x[i] * k as f32);
            assert_eq!(*found, wanted, "element {i} with {}", isa.name());
        }
    }
}

/// A kernel that needs more memory than one may have is refused, not wrong.
#[test]
fn kernels_that_are_too_large_are_refused() {
    for isa in widths() {
        let mut b = Builder::new(isa);
        let args = b.argument();
        let values: Vec<Reg> = (0..200).map(|k| b.load(Mem::at(args, 64 * k), None)).collect();
        for value in values.into_iter().rev() {
            b.store(Mem::at(args, 0), value.into(), None);
        }
        assert!(assemble(b.code, isa).is_err());
    }
}
