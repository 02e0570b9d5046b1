//! Printed loops and plans of small programs.

use crate::dtype::DType;
use crate::graph::expr::Exprs;
use crate::graph::fixture::{Fixture, at, axes, k, map, read, reduce, sources, sym};
use crate::graph::ir::Program;
use crate::loops::buffers;
use crate::loops::lower::lower;
use crate::loops::print::print;
use crate::ops::reduce::Reducer;
use crate::ops::scalar::{BinaryOp, UnaryOp};
use crate::passes::PIPELINE;

const F: DType = DType::F32;

fn shown(program: &Program) -> String {
    let loops = lower(program).unwrap();
    let plan = buffers::plan(&loops).unwrap();
    let zero = |_: &crate::dim::Symbol| Some(10);
    let evaluated = plan.evaluate(&zero).unwrap();
    format!("{}\n{}", print(&loops, Some(&sources())), buffers::print(&loops, &plan, Some(&evaluated)))
}

/// `softmax` over the last axis of `[B, 16]`, in three parts.
fn softmax() -> Program {
    let mut f = Fixture::new();
    let x = f.input("x", F, &[sym("B"), k(16)]);
    let rows = || axes(&[("b", sym("B"))]);
    let over = || axes(&[("d", k(16))]);
    let most = f.index(reduce(rows(), Reducer::Max, over(), |e| at(e, 0, F, &[0, 1])), &[x]);
    let power = |e: &mut Exprs| {
        let (x, m) = (at(e, 0, F, &[0, 1]), at(e, 1, F, &[0]));
        let less = e.binary(BinaryOp::Sub, x, m);
        e.unary(UnaryOp::Exp, less)
    };
    let total = f.index(reduce(rows(), Reducer::Sum, over(), power), &[x, most]);
    let y = map(axes(&[("b", sym("B")), ("d", k(16))]), |e| {
        let (part, whole) = (power(e), at(e, 2, F, &[0]));
        e.binary(BinaryOp::Div, part, whole)
    });
    let y = f.index(y, &[x, most, total]);
    f.program(&[y])
}

#[test]
fn softmax_in_parts() {
    insta::assert_snapshot!(shown(&softmax()));
}

#[test]
fn softmax_as_a_region() {
    let mut program = softmax();
    for pass in PIPELINE {
        (pass.run)(&mut program);
    }
    insta::assert_snapshot!(shown(&program));
}

/// `y[c, l] = sum[i, j] x[i, l + j - 1 else 0] * w[c, i, j]`.
#[test]
fn a_padded_convolution() {
    let mut f = Fixture::new();
    let x = f.input("x", F, &[k(3), sym("T")]);
    let w = f.input("w", F, &[k(8), k(3), k(3)]);
    let y =
        reduce(axes(&[("c", k(8)), ("l", sym("T"))]), Reducer::Sum, axes(&[("i", k(3)), ("j", k(3))]), |e| {
            let (l, j, one) = (e.index(1), e.index(3), e.int(1));
            let position = e.binary(BinaryOp::Add, l, j);
            let position = e.binary(BinaryOp::Sub, position, one);
            let (i, nothing) = (e.index(2), e.real(0.0, F));
            let x = read(e, 0, F, &[i, position], Some(nothing));
            let w = at(e, 1, F, &[0, 2, 3]);
            e.binary(BinaryOp::Mul, x, w)
        });
    let y = f.index(y, &[x, w]);
    insta::assert_snapshot!(shown(&f.program(&[y])));
}

/// `c[b, t] = sum[s: T where s <= t] x[b, s]`.
#[test]
fn a_prefix_sum() {
    let mut f = Fixture::new();
    let x = f.input("x", F, &[sym("B"), sym("T")]);
    let t = sym("T");
    let mut sum = reduce(axes(&[("b", sym("B")), ("t", t.clone())]), Reducer::Sum, axes(&[("s", t)]), |e| {
        at(e, 0, F, &[0, 2])
    });
    let (t, s) = (sum.exprs.index(1), sum.exprs.index(2));
    let seen = sum.exprs.binary(BinaryOp::Le, s, t);
    sum.reduce.as_mut().unwrap().filter = Some(seen);
    let y = f.index(sum, &[x]);
    insta::assert_snapshot!(shown(&f.program(&[y])));
}

/// `y[b, d] = table[ids[b], d]`.
#[test]
fn an_embedding() {
    let mut f = Fixture::new();
    let (table, ids) = (f.input("table", F, &[k(50), k(8)]), f.input("ids", DType::I64, &[sym("B")]));
    let y = map(axes(&[("b", sym("B")), ("d", k(8))]), |e| {
        let (id, d) = (at(e, 1, DType::I64, &[0]), e.index(1));
        read(e, 0, F, &[id, d], None)
    });
    let y = f.index(y, &[table, ids]);
    insta::assert_snapshot!(shown(&f.program(&[y])));
}
