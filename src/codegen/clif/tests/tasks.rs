//! What is divided between threads, by the cost model, and that it really is.

use super::{Kit, for_loop, three_threads};
use crate::codegen::target::{Grain, Options};
use crate::dim::Dim;
use crate::dtype::DType;
use crate::loops::ir::{BufferKind, Gemm, Kernel, LoopKind, LoopProgram, Matrix, Pointer, Stmt};
use crate::ops::scalar::{BinaryOp, UnaryOp};
use crate::runtime::{Compiled, Weights};
use crate::tensor::Tensor;

/// How many statements threads may divide.
fn tasks(program: LoopProgram, grain: Grain) -> usize {
    let compiled = Compiled::with(program, Options { grain, ..Options::default() }, None).unwrap();
    compiled.functions().iter().map(|function| function.stats.tasks).sum()
}

fn by_default(program: LoopProgram) -> usize {
    tasks(program, Grain::default())
}

/// `y[i] = tanh(x[i])` or `y[i] = 2 x[i]`, in lanes.
fn lanes(size: Option<i64>, function: bool) -> LoopProgram {
    let mut kit = Kit::new("lanes");
    let size = size.map_or_else(|| kit.symbol("n"), Dim::from);
    let x = kit.input("x", DType::F32, vec![size.clone()]);
    let y = kit.output("y", DType::F32, vec![size.clone()]);
    let ((i, index), extent, two) = (kit.var("i"), kit.dim(&size), kit.real(2.0));
    let element = kit.load(x, index);
    let value =
        if function { kit.unary(UnaryOp::Tanh, element) } else { kit.binary(BinaryOp::Mul, element, two) };
    let store = Stmt::Store { buffer: y, index, value };
    kit.program(vec![for_loop(i, extent, LoopKind::Vector, vec![store])])
}

/// A square product.
fn product(size: Option<i64>) -> LoopProgram {
    let mut kit = Kit::new("product");
    let size = size.map_or_else(|| kit.symbol("n"), Dim::from);
    let shape = vec![size.clone(), size.clone()];
    let [a, b] = ["a", "b"].map(|name| kit.input(name, DType::F32, shape.clone()));
    let c = kit.output("c", DType::F32, shape);
    let (zero, one, extent) = (kit.int(0), kit.int(1), kit.dim(&size));
    let matrix = |buffer| Matrix { at: Pointer { buffer, offset: zero }, strides: (extent, one) };
    let (lhs, rhs, out) = (matrix(a), matrix(b), matrix(c));
    let (m, n, k) = (extent, extent, extent);
    let gemm = Gemm { m, n, k, outer: Vec::new(), lhs, rhs, out, epilogue: None };
    kit.program(vec![Stmt::Kernel(Box::new(Kernel::Gemm(gemm)))])
}

#[test]
fn work_of_less_than_two_grains_is_not_divided() {
    // Some 0.2 and 0.4 ns an element, and 12 ps a term of a product: against 20 microseconds.
    for (program, divided) in [
        (lanes(Some(10_000), false), 0),
        (lanes(Some(1_000_000), false), 1),
        (lanes(Some(10_000), true), 0),
        (lanes(Some(100_000), true), 1),
        (product(Some(64)), 0),
        (product(Some(256)), 1),
    ] {
        assert_eq!(by_default(program), divided);
    }
}

#[test]
fn sizes_of_the_call_decide_where_they_are_free() {
    assert_eq!(by_default(lanes(None, true)), 1);
    assert_eq!(by_default(product(None)), 1);
}

#[test]
fn never_is_never_and_the_finest_grain_divides_whatever_has_two_units() {
    for size in [None, Some(1000)] {
        assert_eq!(tasks(lanes(size, true), Grain::NEVER), 0);
        assert_eq!(tasks(lanes(size, true), Grain::FINEST), 1);
    }
    assert_eq!(tasks(lanes(Some(64), true), Grain::FINEST), 0, "one unit");
}

/// A loop of a kind over rows whose body is one statement made of the row.
fn rows(
    kind: LoopKind,
    statement: impl Fn(&mut Kit, crate::loops::ir::ScalarId) -> Vec<Stmt>,
) -> LoopProgram {
    let mut kit = Kit::new("rows");
    let n = kit.symbol("n");
    let y = kit.output("y", DType::I64, vec![n.clone()]);
    let ((i, index), extent) = (kit.var("i"), kit.dim(&n));
    let mut body = statement(&mut kit, index);
    body.push(Stmt::Store { buffer: y, index, value: index });
    kit.program(vec![for_loop(i, extent, kind, body)])
}

#[test]
fn what_may_fail_or_depends_on_order_is_not_divided() {
    let nothing = |_: &mut Kit, _| Vec::new();
    assert_eq!(tasks(rows(LoopKind::Parallel, nothing), Grain::FINEST), 1);
    assert_eq!(tasks(rows(LoopKind::Serial, nothing), Grain::FINEST), 0);
    let fails = |kit: &mut Kit, index| {
        let (site, limit) = (kit.site("too-far", "{0}"), kit.int(7));
        let condition = kit.binary(BinaryOp::Gt, index, limit);
        vec![Stmt::Fail { condition, site, values: vec![index] }]
    };
    assert_eq!(tasks(rows(LoopKind::Parallel, fails), Grain::FINEST), 0);
}

#[test]
fn a_reduction_is_not_divided() {
    let mut kit = Kit::new("sum");
    let n = Dim::from(1 << 20);
    let x = kit.input("x", DType::F32, vec![n.clone()]);
    let y = kit.output("y", DType::F32, vec![Dim::ONE]);
    let ((i, index), (local, sum)) = (kit.var("i"), kit.local("sum", DType::F32));
    let (extent, zero, nothing) = (kit.dim(&n), kit.int(0), kit.real(0.0));
    let value = kit.load(x, index);
    let reduce = Stmt::Reduce { local, op: BinaryOp::Add, value };
    let program = kit.program(vec![
        Stmt::Set { local, value: nothing },
        for_loop(i, extent, LoopKind::Vector, vec![reduce]),
        Stmt::Store { buffer: y, index: zero, value: sum },
    ]);
    assert_eq!(tasks(program, Grain::FINEST), 0);
}

/// Sizes of the call below and above the threshold, with threads and without.
#[test]
fn the_same_code_serves_all_sizes() {
    let compiled = Compiled::new(lanes(None, true)).unwrap();
    let alone = compiled.bind(&Weights::new()).unwrap();
    let model = compiled.with_threads(&three_threads()).bind(&Weights::new()).unwrap();
    for n in [0, 1, 63, 64, 65, 1000, 100_000, 1_000_003] {
        let x = Tensor::new([n], super::noise(n, 3)).unwrap();
        let [one, three] = [&alone, &model].map(|model| model.call([("x", x.view())]).unwrap());
        assert_eq!(one, three, "{n} elements");
    }
}

/// `y[i] = sum of (t[j] = 2 x[i, j])` over rows of `width`, with a temporary `t` that rows share.
fn rows_with_a_temporary(width: i64) -> (Kit, Vec<Stmt>) {
    let mut kit = Kit::new("rows");
    let (n, width) = (kit.symbol("n"), Dim::from(width));
    let x = kit.input("x", DType::F32, vec![n.clone(), width.clone()]);
    let t = kit.buffer("t", DType::F32, width.clone(), BufferKind::Temp);
    let y = kit.output("y", DType::F32, vec![n.clone()]);
    let ((i, row), (j, column), (local, sum)) = (kit.var("i"), kit.var("j"), kit.local("sum", DType::F32));
    let (rows, columns, two, nothing) = (kit.dim(&n), kit.dim(&width), kit.real(2.0), kit.real(0.0));
    let line = kit.binary(BinaryOp::Mul, row, columns);
    let index = kit.binary(BinaryOp::Add, line, column);
    let element = kit.load(x, index);
    let value = kit.binary(BinaryOp::Mul, element, two);
    let twice = kit.load(t, column);
    let body = vec![
        for_loop(j, columns, LoopKind::Vector, vec![Stmt::Store { buffer: t, index: column, value }]),
        Stmt::Set { local, value: nothing },
        for_loop(j, columns, LoopKind::Vector, vec![Stmt::Reduce { local, op: BinaryOp::Add, value: twice }]),
        Stmt::Store { buffer: y, index: row, value: sum },
    ];
    (kit, vec![for_loop(i, rows, LoopKind::Parallel, body)])
}

#[test]
fn each_task_has_its_own_small_temporaries() {
    for (n, width) in [(1usize, 7i64), (5, 100), (200, 1000)] {
        let (kit, body) = rows_with_a_temporary(width);
        let x = Tensor::new([n, width as usize], super::noise(n * width as usize, 9)).unwrap();
        // Divided between three threads and undivided, by each kind of kernels, each with its order of sums.
        assert!(!kit.run_all(body, &[("x", &x)]).is_empty());
    }
    let divided = |width| {
        let (kit, body) = rows_with_a_temporary(width);
        tasks(kit.program(body), Grain::FINEST)
    };
    assert_eq!(divided(1000), 1);
    // Half a MiB is too much for a stack: what is divided is the loop in lanes inside.
    assert_eq!(divided(1 << 17), 1);
}
