//! Loops, branches, reductions, checks and calls.

use super::{Kit, for_loop, noise};
use crate::codegen::target::Kernels;
use crate::dim::Dim;
use crate::dtype::DType;
use crate::loops::ir::{BufferKind, LoopKind, Pointer, Scalar, Stmt};
use crate::ops::scalar::{BinaryOp, UnaryOp};
use crate::runtime::{CallError, Compiled, Weights};
use crate::tensor::Tensor;
use std::sync::Arc;

/// `out = reduce(x[i])` for sizes around the lanes and turns of the main loop.
#[test]
fn reductions_in_lanes_agree_with_a_plain_sum() {
    for n in [0usize, 1, 3, 4, 5, 15, 16, 17, 20, 35, 64] {
        for free in [false, true] {
            for op in [BinaryOp::Add, BinaryOp::Mul, BinaryOp::Max, BinaryOp::Min] {
                let mut kit = Kit::new("reduce");
                let size = if free { kit.symbol("n") } else { Dim::from(n as i64) };
                let x = kit.input("x", DType::F32, vec![size.clone()]);
                let out = kit.output("out", DType::F32, vec![Dim::from(2)]);
                let (light, heavy) = (kit.local("light", DType::F32), kit.local("heavy", DType::F32));
                let (i, iv) = kit.var("i");
                let start = kit.real(0.5);
                let element = kit.load(x, iv);
                let function = kit.unary(UnaryOp::Tanh, element);
                let (extent, zero, one) = (kit.dim(&size), kit.int(0), kit.int(1));
                let reduce = |local, value| Stmt::Reduce { local, op, value };
                let body = vec![
                    Stmt::Set { local: light.0, value: start },
                    Stmt::Set { local: heavy.0, value: start },
                    for_loop(i, extent, LoopKind::Vector, vec![reduce(light.0, element)]),
                    for_loop(i, extent, LoopKind::Vector, vec![reduce(heavy.0, function)]),
                    Stmt::Store { buffer: out, index: zero, value: light.1 },
                    Stmt::Store { buffer: out, index: one, value: heavy.1 },
                ];
                let values = noise(n, 7);
                let tensor = Tensor::new([n], values.clone()).unwrap();
                let outputs = kit.run(body, &[("x", &tensor)]).unwrap();
                let found = outputs.get("out").unwrap().as_f32().unwrap();
                let fold = |value: &dyn Fn(f32) -> f64| {
                    values.iter().fold(0.5f64, |a, x| match op {
                        BinaryOp::Add => a + value(*x),
                        BinaryOp::Mul => a * value(*x),
                        BinaryOp::Max => a.max(value(*x)),
                        _ => a.min(value(*x)),
                    })
                };
                for (k, wanted) in
                    [fold(&|x| f64::from(x)), fold(&|x| f64::from(x).tanh())].iter().enumerate()
                {
                    assert!(
                        (f64::from(found[k]) - wanted).abs() < 1e-5,
                        "{op:?} of {n}: {wanted}, not {}",
                        found[k]
                    );
                }
            }
        }
    }
}

/// `out[i] = x[i] + out[i + 1]`, from the last down, with a free extent.
#[test]
fn reverse_loops_run_backwards() {
    for n in [0usize, 1, 5] {
        let mut kit = Kit::new("reverse");
        let size = kit.symbol("n");
        let x = kit.input("x", DType::I64, vec![size.clone()]);
        let out = kit.output("out", DType::I64, vec![size.clone()]);
        let (sum, sum_value) = kit.local("sum", DType::I64);
        let (i, iv) = kit.var("i");
        let (zero, extent) = (kit.int(0), kit.dim(&size));
        let value = kit.load(x, iv);
        let body = vec![
            Stmt::Reduce { local: sum, op: BinaryOp::Add, value },
            Stmt::Store { buffer: out, index: iv, value: sum_value },
        ];
        let body = vec![
            Stmt::Set { local: sum, value: zero },
            Stmt::For { var: i, extent, reverse: true, kind: LoopKind::Serial, body },
        ];
        let tensor = Tensor::new([n], (1..=n as i64).collect::<Vec<_>>()).unwrap();
        let outputs = kit.run(body, &[("x", &tensor)]).unwrap();
        let wanted: Vec<i64> = (1..=n as i64).map(|k| (k..=n as i64).sum()).collect();
        assert_eq!(outputs.get("out").unwrap().as_i64().unwrap(), wanted);
    }
}

/// Gathers, strides, causal masks and uniform conditions inside one loop in lanes.
#[test]
fn indices_and_masks_in_lanes_are_right() {
    let (n, at) = (21usize, 9i64);
    let mut kit = Kit::new("masks");
    let x = kit.input("x", DType::F32, vec![Dim::from(2 * n as i64)]);
    let ids = kit.input("ids", DType::I64, vec![Dim::from(n as i64)]);
    let keep = kit.input("keep", DType::Bool, vec![Dim::from(n as i64)]);
    let out = kit.output("out", DType::F32, vec![Dim::from(n as i64)]);
    let spread = kit.output("spread", DType::F32, vec![Dim::from(2 * n as i64)]);
    let (i, iv) = kit.var("i");
    let (t, tv) = kit.var("t");
    let (two, limit, one, extent, rows) =
        (kit.int(2), kit.int(at), kit.int(1), kit.int(n as i64), kit.int(3));
    let twice = kit.binary(BinaryOp::Mul, iv, two);
    let next = kit.binary(BinaryOp::Add, twice, one);
    let strided = kit.load(x, next);
    let id = kit.load(ids, iv);
    let gathered = kit.load(x, id);
    let causal = kit.binary(BinaryOp::Le, iv, limit);
    let masked = kit.load(keep, iv);
    let both = kit.binary(BinaryOp::And, causal, masked);
    let uniform = kit.binary(BinaryOp::Eq, tv, two);
    let inner = kit.select(both, strided, gathered);
    let negated = kit.unary(UnaryOp::Neg, inner);
    let value = kit.select(uniform, inner, negated);
    let body = vec![
        Stmt::Store { buffer: out, index: iv, value },
        Stmt::Store { buffer: spread, index: next, value },
    ];
    let lanes = for_loop(i, extent, LoopKind::Vector, body);
    let body = vec![for_loop(t, rows, LoopKind::Serial, vec![lanes])];
    let values = noise(2 * n, 4);
    let picks: Vec<i64> = (0..n as i64).map(|k| (k * 17 + 5) % (2 * n as i64)).collect();
    let kept: Vec<bool> = (0..n).map(|k| k % 3 != 1).collect();
    let tensors = [
        Tensor::new([2 * n], values.clone()).unwrap(),
        Tensor::new([n], picks.clone()).unwrap(),
        Tensor::new([n], kept.clone()).unwrap(),
    ];
    let given = [("x", &tensors[0]), ("ids", &tensors[1]), ("keep", &tensors[2])];
    let outputs = kit.run(body, &given).unwrap();
    for k in 0..n {
        let wanted = if k as i64 <= at && kept[k] { values[2 * k + 1] } else { values[picks[k] as usize] };
        assert_eq!(outputs.get("out").unwrap().as_f32().unwrap()[k], wanted, "{k}");
        assert_eq!(outputs.get("spread").unwrap().as_f32().unwrap()[2 * k + 1], wanted, "{k}");
    }
}

/// A check inside a callee ends the whole call and reports its values.
#[test]
fn failures_pass_through_calls() {
    let mut inner = Kit::new("inner");
    let x = inner.input("x", DType::I64, vec![Dim::ONE]);
    let out = inner.output("out", DType::I64, vec![Dim::ONE]);
    let (zero, limit) = (inner.int(0), inner.int(10));
    let value = inner.load(x, zero);
    let condition = inner.binary(BinaryOp::Ge, value, limit);
    let doubled = inner.binary(BinaryOp::Add, value, value);
    let mut kit = Kit::new("outer");
    let site = kit.site("index-out-of-range", "the index {0} is not below {1}");
    inner.func.body = vec![
        Stmt::Fail { condition, site, values: vec![value, limit] },
        Stmt::Store { buffer: out, index: zero, value: doubled },
    ];
    kit.callees.push(inner.func);
    let x = kit.input("x", DType::I64, vec![Dim::from(3)]);
    let out = kit.output("out", DType::I64, vec![Dim::from(3)]);
    let temp = kit.buffer("temp", DType::I64, Dim::ONE, BufferKind::Temp);
    let (i, iv) = kit.var("i");
    let (zero, three) = (kit.int(0), kit.int(3));
    let result = kit.load(temp, zero);
    let call = Stmt::Call {
        func: 0,
        args: vec![Pointer { buffer: x, offset: iv }],
        results: vec![Pointer { buffer: temp, offset: zero }],
    };
    let store = Stmt::Store { buffer: out, index: iv, value: result };
    let body = vec![for_loop(i, three, LoopKind::Serial, vec![call, store])];
    let model = kit.compile(body).bind(&Weights::new()).unwrap();
    let good = Tensor::new([3], vec![1i64, 2, 9]).unwrap();
    let outputs = model.call([("x", good.view())]).unwrap();
    assert_eq!(outputs.get("out").unwrap().as_i64().unwrap(), [2, 4, 18]);
    let bad = Tensor::new([3], vec![1i64, 12, 9]).unwrap();
    let error = model.call([("x", bad.view())]).unwrap_err();
    let CallError::Failed(failed) = error else { panic!("{error}") };
    assert_eq!(
        (failed.code, failed.message.as_str()),
        ("index-out-of-range", "the index 12 is not below 10")
    );
}

/// Branches set locals; constants are data of the module.
#[test]
fn branches_and_constants() {
    let mut kit = Kit::new("branches");
    let table = Arc::new(Tensor::new([4], vec![10.0f64, 20.0, 30.0, 40.0]).unwrap());
    let table = kit.buffer("table", DType::F64, Dim::from(4), BufferKind::Const(table));
    let out = kit.output("out", DType::F64, vec![Dim::from(4)]);
    let (local, local_value) = kit.local("v", DType::F64);
    let (i, iv) = kit.var("i");
    let (two, four) = (kit.int(2), kit.int(4));
    let element = kit.load(table, iv);
    let low = kit.binary(BinaryOp::Lt, iv, two);
    let negated = kit.unary(UnaryOp::Neg, element);
    let body = vec![
        Stmt::Set { local, value: element },
        Stmt::If { condition: low, then: vec![Stmt::Set { local, value: negated }], otherwise: vec![] },
        Stmt::Store { buffer: out, index: iv, value: local_value },
    ];
    let outputs = kit.run(vec![for_loop(i, four, LoopKind::Serial, body)], &[]).unwrap();
    assert_eq!(outputs.get("out").unwrap().as_f64().unwrap(), [-10.0, -20.0, 30.0, 40.0]);
}

/// Sizes are polynomials, quotients and extremes of the free dimensions.
#[test]
fn sizes_have_their_values() {
    let mut kit = Kit::new("sizes");
    let n = kit.symbol("n");
    kit.input("x", DType::Bool, vec![n.clone()]);
    let three = Dim::from(3);
    let formulas = [
        n.mul(&n).unwrap().sub(&n.mul(&Dim::from(2)).unwrap()).unwrap(),
        n.floor_div(&three).unwrap(),
        n.modulo(&three).unwrap(),
        n.minimum(&Dim::from(5)).unwrap(),
        n.maximum(&Dim::from(5)).unwrap(),
        n.sub(&Dim::from(9)).unwrap().floor_div(&Dim::from(4)).unwrap(),
    ];
    let out = kit.output("out", DType::I64, vec![Dim::from(formulas.len() as i64)]);
    let mut body = Vec::new();
    for (k, formula) in formulas.iter().enumerate() {
        let (index, value) =
            (kit.int(k as i64), kit.func.scalars.add(Scalar::Dim(formula.clone()), DType::I64));
        body.push(Stmt::Store { buffer: out, index, value });
    }
    let x = Tensor::zeros(DType::Bool, [7]).unwrap();
    let outputs = kit.run(body, &[("x", &x)]).unwrap();
    assert_eq!(outputs.get("out").unwrap().as_i64().unwrap(), [35, 2, 1, 5, 7, -1]);
}

/// `count` statements, each of which stores a sum in the same place.
fn stores(kit: &mut Kit, count: usize) -> Vec<Stmt> {
    let buffer = kit.output("out", DType::F32, vec![Dim::from(4)]);
    let index = kit.int(0);
    let mut store = |k: usize| {
        let (a, b) = (kit.real(k as f32), kit.real(k as f32 + 0.5));
        Stmt::Store { buffer, index, value: kit.binary(BinaryOp::Add, a, b) }
    };
    (0..count).map(&mut store).collect()
}

/// A statement of more values than the back end holds is refused, not attempted.
#[test]
fn statements_that_are_too_large_are_refused() {
    let mut kit = Kit::new("large");
    let then = stores(&mut kit, 400_000);
    let (zero, one) = (kit.int(0), kit.int(1));
    let condition = kit.binary(BinaryOp::Lt, zero, one);
    let body = vec![Stmt::If { condition, then, otherwise: Vec::new() }];
    let error = Compiled::new(kit.program(body)).unwrap_err();
    assert_eq!(error.to_diagnostic().code, "function-too-large");
}

/// A function of many statements runs in parts, in order, with the sizes of the whole.
#[test]
fn long_functions_run_in_parts() {
    let mut kit = Kit::new("long");
    let n = kit.symbol("n");
    kit.input("x", DType::Bool, vec![n.clone()]);
    let out = kit.output("rows", DType::I64, vec![n.clone(), Dim::from(1000)]);
    let body = (0..1000).map(|k| {
        let row = kit.dim(&n.sub(&Dim::ONE).unwrap());
        let width = kit.int(1000);
        let (row, column) = (kit.binary(BinaryOp::Mul, row, width), kit.int(k));
        Stmt::Store { buffer: out, index: kit.binary(BinaryOp::Add, row, column), value: column }
    });
    let body: Vec<Stmt> = body.collect();
    let x = Tensor::zeros(DType::Bool, [3]).unwrap();
    let outputs = kit.run(body, &[("x", &x)]).unwrap();
    let last: Vec<i64> = (0..1000).collect();
    assert_eq!(outputs.get("rows").unwrap().as_i64().unwrap()[2000..], last);
}

/// The printed form names the statements and their source lines.
#[test]
fn printed_code_names_its_source() {
    let mut sources = crate::source::SourceMap::new();
    sources.add("small.mdl", "let out = 1");
    let mut kit = Kit::new("small");
    let out = kit.output("out", DType::F32, vec![Dim::ONE]);
    let (index, value) = (kit.int(0), kit.real(1.0));
    let program = kit.program(vec![Stmt::Store { buffer: out, index, value }]);
    let compiled = Compiled::with(program, Kernels::None, Some(&sources)).unwrap();
    let text = compiled.functions()[0].text.clone().unwrap();
    assert!(text.starts_with("; small, small.mdl:1\n"), "{text}");
    assert!(text.contains("; store out, small.mdl:1\n"), "{text}");
}

/// Code is freed with its last handle.
#[test]
fn memory_stays_flat_over_many_programs() {
    let resident = || {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let line =
            status.lines().find(|line| line.starts_with("VmSize")).unwrap_or("VmSize: 0 kB").to_string();
        line.split_whitespace().nth(1).and_then(|n| n.parse::<u64>().ok()).unwrap_or(0)
    };
    let compile = || {
        let mut kit = Kit::new("small");
        let out = kit.output("out", DType::F32, vec![Dim::ONE]);
        let (index, value) = (kit.int(0), kit.real(1.0));
        kit.compile(vec![Stmt::Store { buffer: out, index, value }])
    };
    drop(compile());
    let before = resident();
    for _ in 0..50 {
        drop(compile());
    }
    // Each program reserves 16 MiB of addresses; other tests run beside this one.
    assert!(resident() < before + 50 * 8 * 1024, "{before} kB before, {} kB after", resident());
}
