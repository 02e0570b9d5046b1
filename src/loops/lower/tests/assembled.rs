//! Values in boxes of others, and small matrices from both sides.

use super::agree;
use super::ops::numbers;
use super::random::Random;
use crate::dtype::DType;
use crate::graph::expr::{ExprId, Exprs};
use crate::graph::fixture::{Fixture, at, axes, k, map, read, reduce, sym, ty};
use crate::graph::ir::{Op, Program, SmallMatrix, Transform, Value, View};
use crate::loops::ir::BufferKind;
use crate::loops::lower::lower;
use crate::ops::reduce::Reducer;
use crate::ops::scalar::BinaryOp;

const F: DType = DType::F32;

/// Temporaries of the entry.
fn temporaries(program: &Program) -> usize {
    let loops = lower(program).unwrap();
    let buffers = &loops.functions[loops.entry].buffers;
    buffers.iter().filter(|buffer| matches!(buffer.kind, BufferKind::Temp)).count()
}

fn moved(e: &mut Exprs, axis: usize, by: i64) -> ExprId {
    let (index, by) = (e.index(axis), e.int(by));
    e.binary(BinaryOp::Add, index, by)
}

/// Twice an input.
fn twice(f: &mut Fixture, name: &str, channels: i64) -> Value {
    let shape = [sym("B"), k(3), k(channels)];
    let x = f.input(name, F, &shape);
    let named = axes(&[("b", sym("B")), ("i", k(3)), ("c", k(channels))]);
    let doubled = map(named, |e| {
        let (x, two) = (at(e, 0, F, &[0, 1, 2]), e.real(2.0, F));
        e.binary(BinaryOp::Mul, x, two)
    });
    f.index(doubled, &[x])
}

/// Two values behind each other along the last axis.
fn joined(f: &mut Fixture, [x, y]: [Value; 2], [first, second]: [i64; 2]) -> Value {
    let named = axes(&[("b", sym("B")), ("i", k(3)), ("c", k(first + second))]);
    let join = map(named, |e| {
        let (c, end) = (e.index(2), e.int(first));
        let inside = e.binary(BinaryOp::Lt, c, end);
        let x = at(e, 0, F, &[0, 1, 2]);
        let (b, i, c) = (e.index(0), e.index(1), moved(e, 2, -first));
        let y = read(e, 1, F, &[b, i, c], None);
        e.select(inside, x, y)
    });
    f.index(join, &[x, y])
}

/// Sums of three neighbours, the value having a border of zeros.
fn windows(f: &mut Fixture, x: Value, channels: i64) -> Value {
    let named = axes(&[("b", sym("B")), ("i", k(5)), ("c", k(channels))]);
    let padded = map(named, |e| {
        let (b, i, c, zero) = (e.index(0), moved(e, 1, -1), e.index(2), e.real(0.0, F));
        read(e, 0, F, &[b, i, c], Some(zero))
    });
    let padded = f.index(padded, &[x]);
    let named = axes(&[("b", sym("B")), ("i", k(3)), ("c", k(channels))]);
    let sums = reduce(named, Reducer::Sum, axes(&[("u", k(3))]), |e| {
        let (b, i, c, u) = (e.index(0), e.index(1), e.index(2), e.index(3));
        let i = e.binary(BinaryOp::Add, i, u);
        read(e, 0, F, &[b, i, c], None)
    });
    f.index(sums, &[padded])
}

fn check(program: &Program, channels: &[usize], expected: usize) {
    assert_eq!(
        temporaries(program),
        expected,
        "{}",
        crate::loops::print::print(&lower(program).unwrap(), None)
    );
    for batch in [0, 1, 2] {
        let mut random = Random::new(batch as u64 + 1);
        let inputs: Vec<_> = channels.iter().map(|c| numbers(&mut random, &[batch, 3, *c])).collect();
        agree(program, &inputs, &[]).unwrap();
    }
}

#[test]
fn what_is_joined_and_padded_is_computed_in_place() {
    let mut f = Fixture::new();
    let parts = [twice(&mut f, "x", 4), twice(&mut f, "y", 20)];
    let join = joined(&mut f, parts, [4, 20]);
    let out = windows(&mut f, join, 24);
    // Both parts lie in the padded value.
    check(&f.program(&[out]), &[4, 20], 1);
}

#[test]
fn others_that_read_a_part_find_it_in_its_box() {
    let mut f = Fixture::new();
    let parts = [twice(&mut f, "x", 6), twice(&mut f, "y", 6)];
    let join = joined(&mut f, parts, [6, 6]);
    let out = windows(&mut f, join, 12);
    let sums = windows(&mut f, parts[0], 6);
    // The first part is in the box of the join, and is copied for its own border.
    check(&f.program(&[out, sums]), &[6, 6], 2);
}

#[test]
fn a_value_stands_twice_in_a_join() {
    let mut f = Fixture::new();
    let part = twice(&mut f, "x", 5);
    let join = joined(&mut f, [part, part], [5, 5]);
    let out = windows(&mut f, join, 10);
    check(&f.program(&[out]), &[5], 1);
}

#[test]
fn results_and_arguments_are_copied() {
    let mut f = Fixture::new();
    let part = twice(&mut f, "x", 4);
    let argument = f.input("y", F, &[sym("B"), k(3), k(4)]);
    let join = joined(&mut f, [part, argument], [4, 4]);
    let out = windows(&mut f, join, 8);
    check(&f.program(&[part, out]), &[4, 4], 1);
    // The join itself is the user's: its part is computed there.
    let mut f = Fixture::new();
    let parts = [twice(&mut f, "x", 4), twice(&mut f, "y", 4)];
    let join = joined(&mut f, parts, [4, 4]);
    check(&f.program(&[join]), &[4, 4], 0);
}

#[test]
fn transforms_agree_with_their_definition() {
    const ELEMENTS: &[f64] =
        &[4.0, 0.0, -5.0, 0.0, 1.0, 0.0, 0.0, -4.0, -4.0, 1.0, 1.0, 0.0, 0.0, 4.0, -4.0, -1.0, 1.0, 0.0];
    const SUMS: &[f64] = &[1.0, 1.0, 1.0, 0.0, 0.0, 1.0, -1.0, -1.0];
    const LONE: &[f64] = &[0.0, -2.0, 0.0, 0.5];
    for (columns, elements) in [(6, ELEMENTS), (4, SUMS), (2, LONE)] {
        let matrix = SmallMatrix { columns, elements };
        let (side, rows) = (columns as i64, matrix.rows().len() as i64);
        for channels in [1, 7, 40] {
            let mut f = Fixture::new();
            let x = f.input("x", F, &[sym("B"), k(side), k(side), k(channels)]);
            let transform = Transform {
                iterate: axes(&[("p", k(rows)), ("b", sym("B")), ("q", k(rows)), ("c", k(channels))]),
                made: [0, 2],
                matrix,
                source: View {
                    offset: k(0),
                    vars: vec![],
                    iterate: [0, side * side * channels, 0, 1].map(k).to_vec(),
                    contract: [side * channels, channels].map(k).to_vec(),
                },
                epilogue: None,
            };
            let shape = [k(rows), sym("B"), k(rows), k(channels)];
            let y = f.op(Op::Transform(Box::new(transform)), vec![ty(F, &shape)], &[x]);
            let program = f.program(&y);
            for batch in [0, 1, 3] {
                let mut random = Random::new(batch as u64 + 5);
                let shape = [batch, columns, columns, channels as usize];
                agree(&program, &[numbers(&mut random, &shape)], &[]).unwrap();
            }
        }
    }
}
