//! Every operation on every type it has, in scalars and in lanes, against the reference values.

use super::{Kit, for_loop, noise};
use crate::dtype::DType;
use crate::loops::ir::{LoopKind, Stmt};
use crate::ops::scalar::{BinaryOp, UnaryOp};
use crate::ops::value::{self, Scalar};
use crate::tensor::{Data, Tensor};

const BINARY: [BinaryOp; 17] = [
    BinaryOp::Add,
    BinaryOp::Sub,
    BinaryOp::Mul,
    BinaryOp::Div,
    BinaryOp::FloorDiv,
    BinaryOp::Mod,
    BinaryOp::Pow,
    BinaryOp::Min,
    BinaryOp::Max,
    BinaryOp::Eq,
    BinaryOp::Ne,
    BinaryOp::Lt,
    BinaryOp::Le,
    BinaryOp::Gt,
    BinaryOp::Ge,
    BinaryOp::And,
    BinaryOp::Or,
];

const TYPES: [DType; 5] = [DType::F32, DType::F64, DType::I32, DType::I64, DType::Bool];

/// An odd number of elements, so that lanes leave a remainder.
const N: usize = 23;

fn sample(dtype: DType, seed: u64) -> Tensor {
    let mut reals: Vec<f64> = noise(N, seed).iter().map(|x| f64::from(*x * 4.0)).collect();
    let special = [0.0, -0.0, f64::INFINITY, f64::NEG_INFINITY, f64::NAN, 1.0, -1.0];
    let turn = seed as usize;
    for k in 0..special.len() {
        reals[2 * k] = special[(k + turn) % special.len()];
    }
    let ints = noise(N, seed).into_iter().map(|x| (x * 9.0) as i64);
    let ints = ints.map(|x| if x == 0 && seed > 1 { 3 } else { x });
    match dtype {
        DType::F32 => Tensor::new([N], reals.iter().map(|x| *x as f32).collect::<Vec<_>>()),
        DType::F64 => Tensor::new([N], reals),
        DType::I32 => Tensor::new([N], ints.map(|x| x as i32).collect::<Vec<_>>()),
        DType::I64 => Tensor::new([N], ints.collect::<Vec<_>>()),
        _ => Tensor::new([N], ints.map(|x| x % 2 == 0).collect::<Vec<_>>()),
    }
    .unwrap()
}

fn at(tensor: &Tensor, k: usize) -> Scalar {
    match tensor.data() {
        Data::F32(v) => Scalar::F32(v[k]),
        Data::F64(v) => Scalar::F64(v[k]),
        Data::I32(v) => Scalar::I32(v[k]),
        Data::I64(v) => Scalar::I64(v[k]),
        Data::Bool(v) => Scalar::Bool(v[k]),
    }
}

/// Two ulp for functions, nothing for anything else.
fn close(a: Scalar, b: Scalar) -> bool {
    match (a, b) {
        (Scalar::F32(a), Scalar::F32(b)) => {
            (a.is_nan() && b.is_nan()) || a == b || (a - b).abs() <= 2.5 * f32::EPSILON * b.abs()
        }
        (Scalar::F64(a), Scalar::F64(b)) => {
            (a.is_nan() && b.is_nan()) || a == b || (a - b).abs() <= 4.0 * f64::EPSILON * b.abs()
        }
        _ => a == b,
    }
}

#[test]
fn unary_operations_have_their_values() {
    for kind in [LoopKind::Serial, LoopKind::Vector] {
        for dtype in TYPES {
            let x = sample(dtype, 1);
            let mut kit = Kit::new("unary");
            let input = kit.input("x", dtype, vec![(N as i64).into()]);
            let (mut body, mut ops) = (Vec::new(), Vec::new());
            let (i, iv) = kit.var("i");
            let a = kit.load(input, iv);
            for op in UnaryOp::ALL {
                let defined = value::apply_unary(op, at(&x, 0)).is_ok();
                if !defined {
                    continue;
                }
                let out = kit.output(op.name(), op.result(dtype), vec![(N as i64).into()]);
                let value = kit.unary(op, a);
                body.push(Stmt::Store { buffer: out, index: iv, value });
                ops.push(op);
            }
            let extent = kit.int(N as i64);
            let outputs = kit.run(vec![for_loop(i, extent, kind, body)], &[("x", &x)]).unwrap();
            for op in ops {
                for k in 0..N {
                    let (found, wanted) =
                        (at(outputs.get(op.name()).unwrap(), k), value::apply_unary(op, at(&x, k)).unwrap());
                    assert!(close(found, wanted), "{op:?} {:?} is {wanted:?}, not {found:?}", at(&x, k));
                }
            }
        }
    }
}

#[test]
fn binary_operations_have_their_values() {
    for kind in [LoopKind::Serial, LoopKind::Vector] {
        for dtype in TYPES {
            let (x, y) = (sample(dtype, 1), sample(dtype, 2));
            let mut kit = Kit::new("binary");
            let inputs = ["x", "y"].map(|name| kit.input(name, dtype, vec![(N as i64).into()]));
            let (mut body, mut ops) = (Vec::new(), Vec::new());
            let (i, iv) = kit.var("i");
            let [a, b] = inputs.map(|input| kit.load(input, iv));
            for op in BINARY {
                if value::apply_binary(op, at(&x, 0), at(&y, 0)).is_err() {
                    continue;
                }
                let out = kit.output(op.name(), op.result(dtype), vec![(N as i64).into()]);
                let value = kit.binary(op, a, b);
                body.push(Stmt::Store { buffer: out, index: iv, value });
                ops.push(op);
            }
            let extent = kit.int(N as i64);
            let outputs = kit.run(vec![for_loop(i, extent, kind, body)], &[("x", &x), ("y", &y)]).unwrap();
            for op in ops {
                for k in 0..N {
                    let found = at(outputs.get(op.name()).unwrap(), k);
                    let wanted = value::apply_binary(op, at(&x, k), at(&y, k)).unwrap();
                    let operands = (at(&x, k), at(&y, k));
                    assert!(close(found, wanted), "{op:?} {operands:?} is {wanted:?}, not {found:?}");
                }
            }
        }
    }
}

#[test]
fn casts_and_selections_have_their_values() {
    for kind in [LoopKind::Serial, LoopKind::Vector] {
        for from in TYPES {
            let (x, c) = (sample(from, 1), sample(DType::Bool, 3));
            let mut kit = Kit::new("casts");
            let input = kit.input("x", from, vec![(N as i64).into()]);
            let condition = kit.input("c", DType::Bool, vec![(N as i64).into()]);
            let (i, iv) = kit.var("i");
            let (a, condition) = (kit.load(input, iv), kit.load(condition, iv));
            let mut body = Vec::new();
            for to in TYPES {
                let out = kit.output(to.name(), to, vec![(N as i64).into()]);
                let value = if to == from { a } else { kit.cast(a, to) };
                body.push(Stmt::Store { buffer: out, index: iv, value });
            }
            let out = kit.output("select", from, vec![(N as i64).into()]);
            let value =
                if from == DType::Bool { kit.unary(UnaryOp::Not, a) } else { kit.unary(UnaryOp::Neg, a) };
            let other = value;
            let value = kit.select(condition, a, value);
            body.push(Stmt::Store { buffer: out, index: iv, value });
            let _ = other;
            let extent = kit.int(N as i64);
            let outputs = kit.run(vec![for_loop(i, extent, kind, body)], &[("x", &x), ("c", &c)]).unwrap();
            for k in 0..N {
                for to in TYPES {
                    let (found, wanted) =
                        (at(outputs.get(to.name()).unwrap(), k), value::cast(at(&x, k), to));
                    assert!(close(found, wanted), "{:?} as {to} is {wanted:?}, not {found:?}", at(&x, k));
                }
                let op = if from == DType::Bool { UnaryOp::Not } else { UnaryOp::Neg };
                let negated = value::apply_unary(op, at(&x, k)).unwrap();
                let wanted = if at(&c, k) == Scalar::Bool(true) { at(&x, k) } else { negated };
                assert!(close(at(outputs.get("select").unwrap(), k), wanted));
            }
        }
    }
}
