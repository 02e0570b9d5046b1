//! The product kernel: odd sizes and every layout against a naive product.

use super::{Kit, noise};
use crate::codegen::target::Kernels;
use crate::dim::Dim;
use crate::dtype::DType;
use crate::loops::ir::{Contracted, Gemm, GemmEpilogue, Kernel, Matrix, Pointer, ScalarId, Stmt};
use crate::ops::scalar::{BinaryOp, UnaryOp};
use crate::tensor::Tensor;

/// Which axis of a matrix is contiguous; `Neither` leaves a gap of one element.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Layout {
    Rows,
    Columns,
    Neither,
}

impl Layout {
    const ALL: [Layout; 3] = [Layout::Rows, Layout::Columns, Layout::Neither];

    /// Strides and number of elements of an `m x n` matrix.
    fn strides(self, m: usize, n: usize) -> (usize, usize, usize) {
        match self {
            Layout::Rows => (n, 1, m * n),
            Layout::Columns => (1, m, m * n),
            Layout::Neither => (2 * n + 1, 2, m * (2 * n + 1)),
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Tail {
    None,
    /// `relu(acc + bias[j]) + i`
    Light,
    /// `max(acc + bias[j], 0) * gate[i] + gate[0]`
    Bias,
    /// `tanh(acc) * bias[j]`
    Heavy,
}

#[derive(Clone, Copy, Debug)]
struct Case {
    size: (usize, usize, usize),
    layouts: (Layout, Layout, Layout),
    tail: Tail,
    /// Sizes and strides as free dimensions.
    free: bool,
    /// Whether the contracted axis, of a multiple of six, comes as three axes.
    split: bool,
}

/// Points of the two outer ones.
const SPLIT: [usize; 2] = [2, 3];

fn run(case: Case) {
    let (m, n, k) = case.size;
    let mut kit = Kit::new("gemm");
    let [a, b, c] =
        [case.layouts.0.strides(m, k), case.layouts.1.strides(k, n), case.layouts.2.strides(m, n)];
    let lens = [a.2, b.2].map(|len| Dim::from(len as i64));
    let lhs = kit.input("lhs", DType::F32, vec![lens[0].clone()]);
    let rhs = kit.input("rhs", DType::F32, vec![lens[1].clone()]);
    let bias = kit.input("bias", DType::F32, vec![Dim::from(n as i64)]);
    let gates = kit.input("gates", DType::F32, vec![Dim::from(m.max(1) as i64)]);
    let mut sizes: Vec<ScalarId> = Vec::new();
    let mut fed = Vec::new();
    let inner = if case.split { k / (SPLIT[0] * SPLIT[1]) } else { k };
    for (name, size) in [("m", m), ("n", n), ("k", inner)] {
        sizes.push(if case.free {
            let dim = kit.symbol(name);
            kit.input(name, DType::Bool, vec![dim.clone()]);
            fed.push((name, Tensor::zeros(DType::Bool, [size]).unwrap()));
            kit.dim(&dim)
        } else {
            kit.int(size as i64)
        });
    }
    let out = kit.output("out", DType::F32, vec![Dim::from(c.2 as i64)]);
    let zero = kit.int(0);
    let matrix = |kit: &mut Kit, buffer, strides: (usize, usize, usize)| Matrix {
        at: Pointer { buffer, offset: zero },
        strides: (kit.int(strides.0 as i64), kit.int(strides.1 as i64)),
    };
    let matrices = [matrix(&mut kit, lhs, a), matrix(&mut kit, rhs, b), matrix(&mut kit, out, c)];
    let (row, row_value) = kit.var("row");
    let (column, column_value) = kit.var("column");
    let (acc, acc_value) = kit.local("acc", DType::F32);
    let by = kit.load(bias, column_value);
    let value = match case.tail {
        Tail::None => None,
        Tail::Light => {
            let sum = kit.binary(BinaryOp::Add, acc_value, by);
            let nothing = kit.real(0.0);
            let relu = kit.binary(BinaryOp::Max, sum, nothing);
            let row = kit.cast(row_value, DType::F32);
            Some(kit.binary(BinaryOp::Add, relu, row))
        }
        Tail::Bias => {
            let sum = kit.binary(BinaryOp::Add, acc_value, by);
            let nothing = kit.real(0.0);
            let relu = kit.binary(BinaryOp::Max, sum, nothing);
            let gate = kit.load(gates, row_value);
            let gated = kit.binary(BinaryOp::Mul, relu, gate);
            let fixed = kit.load(gates, zero);
            Some(kit.binary(BinaryOp::Add, gated, fixed))
        }
        Tail::Heavy => {
            let value = kit.unary(UnaryOp::Tanh, acc_value);
            Some(kit.binary(BinaryOp::Mul, value, by))
        }
    };
    let epilogue = value.map(|value| GemmEpilogue { row, column, acc, value });
    let [lhs, rhs, out] = matrices;
    let steps = if case.split { vec![SPLIT[1] * inner, inner] } else { Vec::new() };
    let outer = SPLIT.into_iter().zip(steps).map(|(points, step)| Contracted {
        extent: kit.int(points as i64),
        lhs: kit.int((step * a.1) as i64),
        rhs: kit.int((step * b.0) as i64),
    });
    let outer = outer.collect();
    let gemm = Gemm { m: sizes[0], n: sizes[1], k: sizes[2], outer, lhs, rhs, out, epilogue };
    let inputs = [noise(a.2, 1), noise(b.2, 2), noise(n, 3), noise(m.max(1), 4)];
    let tensors = inputs.clone().map(|v| Tensor::new([v.len()], v).unwrap());
    let mut given: Vec<(&str, &Tensor)> = ["lhs", "rhs", "bias", "gates"].into_iter().zip(&tensors).collect();
    given.extend(fed.iter().map(|(name, tensor)| (*name, tensor)));
    let body = vec![Stmt::Kernel(Box::new(Kernel::Gemm(gemm)))];
    let all = kit.run_all(body, &given);
    let found: Vec<(Kernels, &[f32])> =
        all.iter().map(|(kernels, o)| (*kernels, o.get("out").unwrap().as_f32().unwrap())).collect();
    for (kernels, found) in &found {
        check(case, *kernels, found, &inputs);
    }
    // Sums in order of the contracted axis have the same bits everywhere.
    if b.1 == 1 && n > 1 {
        let bits = |values: &[f32]| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
        for (kernels, other) in &found[1..] {
            assert_eq!(bits(found[0].1), bits(other), "{case:?} with {kernels:?}");
        }
    }
}

fn check(case: Case, kernels: Kernels, found: &[f32], [x, y, bias, gates]: &[Vec<f32>; 4]) {
    let (m, n, k) = case.size;
    let [a, b, c] =
        [case.layouts.0.strides(m, k), case.layouts.1.strides(k, n), case.layouts.2.strides(m, n)];
    let mut written = vec![false; c.2];
    for i in 0..m {
        for j in 0..n {
            let terms = (0..k).map(|p| f64::from(x[i * a.0 + p * a.1]) * f64::from(y[p * b.0 + j * b.1]));
            let (sum, size) = terms.fold((0.0, 0.0), |(s, t): (f64, f64), x| (s + x, t + x.abs()));
            let bound = (k + 8) as f64 * f64::from(f32::EPSILON) * (size + 1.0);
            let wanted = match case.tail {
                Tail::None => sum,
                Tail::Light => (sum + f64::from(bias[j])).max(0.0) + i as f64,
                Tail::Bias => {
                    let relu = (sum + f64::from(bias[j])).max(0.0);
                    relu * f64::from(gates[i]) + f64::from(gates[0])
                }
                Tail::Heavy => sum.tanh() * f64::from(bias[j]),
            };
            let at = i * c.0 + j * c.1;
            written[at] = true;
            let error = (f64::from(found[at]) - wanted).abs();
            let bound = bound * (1.0 + wanted.abs());
            assert!(error <= bound, "{case:?} with {kernels:?}: [{i}, {j}] is {wanted}, not {}", found[at]);
        }
    }
    for (at, written) in written.into_iter().enumerate() {
        assert!(written || found[at] == 0.0, "{case:?} with {kernels:?}: wrote between the rows");
    }
}

#[test]
fn every_layout_of_odd_sizes_is_right() {
    let sizes = [(1, 77, 19), (5, 1, 9), (7, 13, 6), (3, 4, 8), (9, 50, 3)];
    for (at, size) in sizes.into_iter().enumerate() {
        for lhs in Layout::ALL {
            for rhs in Layout::ALL {
                for out in Layout::ALL {
                    let tail = [Tail::None, Tail::Light, Tail::Heavy][(at + lhs as usize + out as usize) % 3];
                    run(Case {
                        size,
                        layouts: (lhs, rhs, out),
                        tail,
                        free: (at + rhs as usize).is_multiple_of(2),
                        split: size.2.is_multiple_of(6),
                    });
                }
            }
        }
    }
}

/// Sizes round the tiles of kernels, and lengths round the turns of their loops.
#[test]
fn sizes_around_wide_tiles_are_right() {
    for m in [1usize, 2, 3, 5, 6, 7, 9, 13, 14, 15, 29] {
        for n in [2usize, 7, 8, 15, 16, 17, 31, 33, 48, 130, 300] {
            for k in [0usize, 1, 4, 7, 17] {
                let tail = [Tail::None, Tail::Light, Tail::Bias, Tail::Heavy][(m + n + k) % 4];
                let lhs = if (m + k).is_multiple_of(4) { Layout::Columns } else { Layout::Rows };
                let layouts = (lhs, Layout::Rows, Layout::Rows);
                run(Case { size: (m, n, k), layouts, tail, free: (n + k).is_multiple_of(2), split: false });
            }
        }
    }
}

/// Right operands that are too large to be read in place: in parts, copied and not; and panels that are higher
/// than others.
#[test]
fn parts_of_long_products_are_right() {
    let sizes = [
        (45, 1100, 300),
        (30, 300, 700),
        (60, 500, 600),
        (1, 600, 400),
        (515, 300, 520),
        (1100, 33, 20),
        (3, 2060, 129),
    ];
    for (m, n, k) in sizes {
        for (tail, free) in [(Tail::None, true), (Tail::Bias, false), (Tail::Heavy, true)] {
            let layouts = (Layout::Rows, Layout::Rows, Layout::Rows);
            run(Case { size: (m, n, k), layouts, tail, free, split: false });
        }
    }
}

#[test]
fn sizes_around_the_tiles_are_right() {
    for m in [0usize, 1, 2, 3, 4, 5] {
        for n in [0usize, 1, 3, 4, 8, 12, 16, 33, 70] {
            for k in [0usize, 1, 4, 5, 9] {
                for rhs in [Layout::Rows, Layout::Columns] {
                    let tail = if (m + n).is_multiple_of(2) { Tail::Light } else { Tail::Heavy };
                    let layouts = (Layout::Rows, rhs, Layout::Rows);
                    run(Case {
                        size: (m, n, k),
                        layouts,
                        tail,
                        free: (m + n + k).is_multiple_of(3),
                        split: false,
                    });
                }
            }
        }
    }
}

/// Windows: axes around the contracted one that do not lie evenly with it.
#[test]
fn contracted_axes_around_others_are_right() {
    for m in [1usize, 2, 6, 14, 17] {
        for n in [1usize, 8, 17, 40] {
            for k in [0usize, 6, 30] {
                for lhs in [Layout::Rows, Layout::Columns] {
                    let tail = [Tail::None, Tail::Light, Tail::Bias, Tail::Heavy][(m + n + k) % 4];
                    let layouts = (lhs, Layout::Rows, Layout::Rows);
                    run(Case {
                        size: (m, n, k),
                        layouts,
                        tail,
                        free: (m + n).is_multiple_of(2),
                        split: true,
                    });
                }
            }
        }
    }
}
