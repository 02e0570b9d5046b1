use super::super::expr::{Expr, Exprs};
use super::super::fixture::*;
use super::super::ir::*;
use super::*;
use crate::ops::reduce::Reducer;
use crate::ops::scalar::{BinaryOp, UnaryOp};

const F: DType = DType::F32;
const I: DType = DType::I64;

/// `y[b] = reducer[d] x[b, d]`, changed by `edit`, of rows of `x`.
fn rows(reducer: Reducer, x: Tensor, edit: impl FnOnce(&mut Index)) -> Tensor {
    let mut f = Fixture::new();
    let dtype = x.dtype();
    let input = f.input("x", dtype, &[sym("B"), sym("D")]);
    let mut index =
        reduce(axes(&[("b", sym("B"))]), reducer, axes(&[("d", sym("D"))]), |e| at(e, 0, dtype, &[0, 1]));
    edit(&mut index);
    let y = f.index(index, &[input]);
    f.run(&[y], &[x], Mode::Declared).unwrap().remove(0)
}

fn f32_rows(reducer: Reducer, shape: [usize; 2], data: &[f32]) -> Vec<f32> {
    rows(reducer, f32s(&shape, data), |_| {}).into_f32().unwrap()
}

#[test]
fn each_reducer_combines_rows() {
    let x = [1.0, 4.0, 2.0, -3.0, 0.5, 2.0];
    assert_eq!(f32_rows(Reducer::Sum, [2, 3], &x), [7.0, -0.5]);
    assert_eq!(f32_rows(Reducer::Prod, [2, 3], &x), [8.0, -3.0]);
    assert_eq!(f32_rows(Reducer::Max, [2, 3], &x), [4.0, 2.0]);
    assert_eq!(f32_rows(Reducer::Min, [2, 3], &x), [1.0, -3.0]);
    let args = |reducer| rows(reducer, f32s(&[2, 3], &x), |_| {}).into_i64().unwrap();
    assert_eq!(args(Reducer::ArgMax), [1, 2]);
    assert_eq!(args(Reducer::ArgMin), [0, 0]);
    let truth = Tensor::new([2, 2], vec![true, false, false, false]).unwrap();
    assert_eq!(rows(Reducer::Any, truth.clone(), |_| {}).as_bool(), Some(&[true, false][..]));
    assert_eq!(rows(Reducer::All, truth, |_| {}).as_bool(), Some(&[false, false][..]));
}

#[test]
fn over_nothing_each_reducer_has_its_value() {
    assert_eq!(f32_rows(Reducer::Sum, [1, 0], &[]), [0.0]);
    assert_eq!(f32_rows(Reducer::Prod, [1, 0], &[]), [1.0]);
    assert_eq!(f32_rows(Reducer::Max, [1, 0], &[]), [f32::NEG_INFINITY]);
    assert_eq!(f32_rows(Reducer::Min, [1, 0], &[]), [f32::INFINITY]);
    let arg = rows(Reducer::ArgMax, f32s(&[1, 0], &[]), |_| {});
    assert_eq!(arg.as_i64(), Some(&[0i64][..]));
    let least = rows(Reducer::Max, i64s(&[1, 0], &[]), |_| {});
    assert_eq!(least.as_i64(), Some(&[i64::MIN][..]));
    let none = Tensor::new([1, 0], Vec::<bool>::new()).unwrap();
    assert_eq!(rows(Reducer::Any, none.clone(), |_| {}).as_bool(), Some(&[false][..]));
    assert_eq!(rows(Reducer::All, none, |_| {}).as_bool(), Some(&[true][..]));
}

#[test]
fn otherwise_replaces_the_value_over_nothing_only() {
    let with_else = |x: Tensor| {
        rows(Reducer::Sum, x, |index| {
            let index_value = index.exprs.index(1);
            let (one, nine) = (index.exprs.int(1), index.exprs.real(9.0, F));
            let filter = index.exprs.binary(BinaryOp::Ge, index_value, one);
            let reduce = index.reduce.as_mut().unwrap();
            (reduce.filter, reduce.otherwise) = (Some(filter), Some(nine));
        })
    };
    assert_eq!(with_else(f32s(&[1, 1], &[5.0])).as_f32(), Some(&[9.0f32][..]));
    assert_eq!(with_else(f32s(&[1, 2], &[5.0, 0.0])).as_f32(), Some(&[0.0f32][..]));
}

#[test]
fn the_first_nan_wins_and_ties_take_the_first() {
    let x = [1.0, f32::NAN, 3.0, f32::NAN];
    assert!(f32_rows(Reducer::Max, [1, 4], &x)[0].is_nan());
    assert!(f32_rows(Reducer::Min, [1, 4], &x)[0].is_nan());
    for reducer in [Reducer::ArgMax, Reducer::ArgMin] {
        assert_eq!(rows(reducer, f32s(&[1, 4], &x), |_| {}).as_i64(), Some(&[1i64][..]));
        assert_eq!(rows(reducer, f32s(&[1, 2], &[2.0, 2.0]), |_| {}).as_i64(), Some(&[0i64][..]));
    }
}

#[test]
fn declared_mode_rounds_each_sum_and_f64_mode_none() {
    let mut data = vec![1.0f32];
    data.extend([1e-8f32; 100]);
    let run = |mode| {
        let mut f = Fixture::new();
        let x = f.input("x", F, &[sym("D")]);
        let y = f.index(reduce(vec![], Reducer::Sum, axes(&[("d", sym("D"))]), |e| at(e, 0, F, &[0])), &[x]);
        f.run(&[y], &[f32s(&[101], &data)], mode).unwrap().remove(0)
    };
    assert_eq!(run(Mode::Declared).as_f32(), Some(&[1.0f32][..]));
    let exact = run(Mode::F64).into_f64().unwrap()[0];
    assert!((exact - 1.000001).abs() < 1e-12);
}

#[test]
fn a_guarded_off_element_is_zero_and_not_evaluated() {
    let mut f = Fixture::new();
    let x = f.input("x", F, &[sym("B")]);
    let mut index = map(axes(&[("b", sym("B"))]), |e| {
        let next = e.index(0);
        let one = e.int(1);
        let next = e.binary(BinaryOp::Add, next, one);
        read(e, 0, F, &[next], None)
    });
    let (b, two) = (index.exprs.index(0), index.exprs.int(2));
    index.guard = Some(index.exprs.binary(BinaryOp::Lt, b, two));
    let y = f.index(index, &[x]);
    let out = f.run(&[y], &[f32s(&[3], &[1.0, 2.0, 3.0])], Mode::Declared).unwrap();
    assert_eq!(out[0].as_f32(), Some(&[2.0f32, 3.0, 0.0][..]));
}

/// `y[b] = x[ids[b]]`, with or without an `else`.
fn gather(ids: &[i64], otherwise: Option<f64>) -> Result<Tensor, EvalError> {
    let mut f = Fixture::new();
    let x = f.input("x", F, &[sym("D")]);
    let i = f.input("ids", I, &[sym("B")]);
    let index = map(axes(&[("b", sym("B"))]), |e| {
        let id = at(e, 1, I, &[0]);
        let otherwise = otherwise.map(|value| e.real(value, F));
        read(e, 0, F, &[id], otherwise)
    });
    let y = f.index(index, &[x, i]);
    f.run(&[y], &[f32s(&[2], &[5.0, 6.0]), i64s(&[ids.len()], ids)], Mode::Declared).map(|mut y| y.remove(0))
}

#[test]
fn a_read_outside_gives_its_else_or_fails_with_its_place() {
    let all = [1, -1, 2, i64::MIN, i64::MAX];
    assert_eq!(gather(&all, Some(9.0)).unwrap().as_f32(), Some(&[6.0f32, 9.0, 9.0, 9.0, 9.0][..]));
    let error = gather(&[0, -1], None).unwrap_err();
    assert_eq!(error, EvalError::OutOfRange { index: vec![-1], extents: vec![2], span: span() });
    assert_eq!(error.to_string(), "the index [-1] is outside the shape [2]");
}

#[test]
fn the_branch_not_taken_is_not_evaluated() {
    // if i < 1 { 7 // x[i] } else { x[i + 9] }, of x = [2]
    let mut f = Fixture::new();
    let x = f.input("x", I, &[sym("B")]);
    let index = map(axes(&[("b", sym("B"))]), |e| {
        let (b, one, nine, seven) = (e.index(0), e.int(1), e.int(9), e.int(7));
        let first = e.binary(BinaryOp::Lt, b, one);
        let value = at(e, 0, I, &[0]);
        let quotient = e.binary(BinaryOp::FloorDiv, seven, value);
        let far = e.binary(BinaryOp::Add, b, nine);
        let outside = read(e, 0, I, &[far], None);
        e.select(first, quotient, outside)
    });
    let y = f.index(index, &[x]);
    let program = f.program(&[y]);
    let of = |data: &[i64]| run(&program, &[i64s(&[data.len()], data)], Mode::Declared);
    assert_eq!(of(&[2]).unwrap()[0].as_i64(), Some(&[3i64][..]));
    assert_eq!(of(&[0]).unwrap_err(), EvalError::DivisionByZero { span: span() });
    assert!(matches!(of(&[2, 2]).unwrap_err(), EvalError::OutOfRange { .. }));
}

#[test]
fn a_very_deep_expression_is_evaluated() {
    let mut f = Fixture::new();
    let x = f.input("x", F, &[]);
    let index = map(vec![], |e| {
        let one = e.real(1.0, F);
        let x = at(e, 0, F, &[]);
        (0..100_000).fold(x, |sum, _| e.binary(BinaryOp::Add, sum, one))
    });
    let y = f.index(index, &[x]);
    let out = f.run(&[y], &[f32s(&[], &[0.5])], Mode::F64).unwrap();
    assert_eq!(out[0].as_f64(), Some(&[100_000.5f64][..]));
}

/// A recurrence over T: `h[t] = x[t] + 10 * h[t - 1] + 100 * h[t - 2]` (or `t + 1`, `t + 2`).
fn recurrence(reverse: bool, steps: usize) -> Vec<f32> {
    let mut f = Fixture::new();
    let x = f.input("x", F, &[sym("T")]);
    let first = f.input("h1", F, &[]);
    let second = f.input("h2", F, &[]);
    let time = sym("T").add(&k(2)).unwrap();
    let (var, start) = (VarId(0), k(5));
    f.vars = 1;
    let mut body = Graph::new();
    let xs = body.add_arg(ty(F, &[sym("T")]), span(), None);
    let h = body.add_arg(ty(F, std::slice::from_ref(&time)), span(), None);
    let step = map(vec![], |e| {
        let t = e.add(Expr::Var(var), I);
        let first = e.int(5);
        let now = e.binary(BinaryOp::Sub, t, first);
        let back = |e: &mut Exprs, lag: i64| {
            // Position p lies at p - start + 2 forward and at p - start in reverse.
            let shift = e.int(if reverse { lag } else { 2 - lag });
            let position = e.binary(BinaryOp::Add, now, shift);
            read(e, 1, F, &[position], None)
        };
        let (h1, h2) = (back(e, 1), back(e, 2));
        let (ten, hundred) = (e.real(10.0, F), e.real(100.0, F));
        let x = read(e, 0, F, &[now], None);
        let h1 = e.binary(BinaryOp::Mul, h1, ten);
        let h2 = e.binary(BinaryOp::Mul, h2, hundred);
        let sum = e.binary(BinaryOp::Add, x, h1);
        e.binary(BinaryOp::Add, sum, h2)
    });
    let h_t = body.add_index(step, vec![], &[xs, h], span(), None);
    body.results = vec![h_t];
    let recur = Recur {
        var,
        name: "t".into(),
        start,
        extent: sym("T"),
        reverse,
        captures: 1,
        sequences: vec![Sequence { name: "h".into(), axis: 0, lags: 2 }],
        body,
    };
    let out = f.op(Op::Recur(Box::new(recur)), vec![ty(F, &[time])], &[x, first, second]);
    let x = f32s(&[steps], &[1.0, 2.0, 3.0][..steps]);
    let out = f.run(&out, &[x, f32s(&[], &[0.5]), f32s(&[], &[0.25])], Mode::Declared).unwrap();
    out[0].as_f32().unwrap().to_vec()
}

#[test]
fn a_recurrence_runs_forward_and_in_reverse_with_lags() {
    // 1 + 5 + 25 = 31; 2 + 310 + 50 = 362; 3 + 3620 + 3100 = 6723.
    assert_eq!(recurrence(false, 3), [0.25, 0.5, 31.0, 362.0, 6723.0]);
    // 3 + 5 + 25 = 33; 2 + 330 + 50 = 382; 1 + 3820 + 3300 = 7121.
    assert_eq!(recurrence(true, 3), [7121.0, 382.0, 33.0, 0.5, 0.25]);
    assert_eq!(recurrence(false, 0), [0.25, 0.5]);
    assert_eq!(recurrence(true, 0), [0.5, 0.25]);
}

#[test]
fn a_region_places_its_slices() {
    // For each b: slice[d] = x[b, d] * 2, placed as y[d, b] and as z[b, d].
    let mut f = Fixture::new();
    let x = f.input("x", F, &[sym("B"), sym("D")]);
    f.vars = 1;
    let mut body = Graph::new();
    let xs = body.add_arg(ty(F, &[sym("B"), sym("D")]), span(), None);
    let slice = map(axes(&[("d", sym("D"))]), |e| {
        let (b, d, two) = (e.add(Expr::Var(VarId(0)), I), e.index(0), e.real(2.0, F));
        let x = read(e, 0, F, &[b, d], None);
        e.binary(BinaryOp::Mul, x, two)
    });
    let slice = body.add_index(slice, vec![sym("D")], &[xs], span(), None);
    body.results = vec![slice, slice];
    let region = Region {
        kind: RegionKind::Rows,
        axes: axes(&[("b", sym("B"))]),
        vars: vec![VarId(0)],
        body,
        places: vec![vec![Place::Slice(0), Place::Loop(0)], vec![Place::Loop(0), Place::Slice(0)]],
    };
    let types = vec![ty(F, &[sym("D"), sym("B")]), ty(F, &[sym("B"), sym("D")])];
    let out = f.op(Op::Region(Box::new(region)), types, &[x]);
    let out = f.run(&out, &[f32s(&[2, 3], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0])], Mode::Declared).unwrap();
    assert_eq!(out[0].as_f32(), Some(&[2.0f32, 8.0, 4.0, 10.0, 6.0, 12.0][..]));
    assert_eq!(out[1].as_f32(), Some(&[2.0f32, 4.0, 6.0, 8.0, 10.0, 12.0][..]));
}

/// `y[b, d] = reducer[e where key[e] == b else 9] x[e, d]`, as a segment and by definition.
fn segments(reducer: Reducer, recognised: bool) -> Vec<f32> {
    let mut f = Fixture::new();
    let x = f.input("x", F, &[sym("E"), sym("D")]);
    let key = f.input("key", I, &[sym("E")]);
    let shape = f.input("b", F, &[sym("B")]);
    let iterate = axes(&[("b", sym("B")), ("d", sym("D"))]);
    let mut index = reduce(iterate, reducer, axes(&[("e", sym("E"))]), |e| at(e, 0, F, &[2, 1]));
    let key_expr = at(&mut index.exprs, 1, I, &[2]);
    index.reduce.as_mut().unwrap().otherwise = Some(index.exprs.real(9.0, F));
    let types = vec![ty(F, &[sym("B"), sym("D")])];
    let y = if recognised {
        f.op(Op::Segment(Box::new(Segment { index, axis: 0, key: key_expr })), types, &[x, key])[0]
    } else {
        let b = index.exprs.index(0);
        index.reduce.as_mut().unwrap().filter = Some(index.exprs.binary(BinaryOp::Eq, key_expr, b));
        f.index(index, &[x, key])
    };
    let x = f32s(&[4, 2], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]);
    let inputs = [x, i64s(&[4], &[2, 0, 2, -1]), f32s(&[3], &[0.0; 3])];
    let _ = shape;
    f.run(&[y], &inputs, Mode::Declared).unwrap()[0].as_f32().unwrap().to_vec()
}

#[test]
fn a_segment_is_its_definition() {
    assert_eq!(segments(Reducer::Sum, true), [3.0, 4.0, 9.0, 9.0, 6.0, 8.0]);
    for reducer in [Reducer::Sum, Reducer::Prod, Reducer::Max, Reducer::Min] {
        assert_eq!(segments(reducer, true), segments(reducer, false));
    }
}

/// `y[b, t] = relu(sum[d] x[b, d] * w[t, d] + bias[t])` as a product with an epilogue.
fn product(f: &mut Fixture) -> Value {
    let x = f.input("x", F, &[sym("B"), sym("D")]);
    let w = f.input("w", F, &[sym("T"), sym("D")]);
    let bias = f.input("bias", F, &[sym("T")]);
    let mut exprs = Exprs::new();
    let acc = read(&mut exprs, 0, F, &[], None);
    let bias_t = at(&mut exprs, 2, F, &[1]);
    let zero = exprs.real(0.0, F);
    let sum = exprs.binary(BinaryOp::Add, acc, bias_t);
    let body = exprs.binary(BinaryOp::Max, sum, zero);
    let view = |iterate: [Dim; 2]| View {
        offset: k(0),
        vars: vec![],
        iterate: iterate.to_vec(),
        contract: vec![k(1)],
    };
    let product = MatMul {
        iterate: axes(&[("b", sym("B")), ("t", sym("T"))]),
        roles: vec![Role::M, Role::N],
        contract: axes(&[("d", sym("D"))]),
        lhs: view([sym("D"), k(0)]),
        rhs: view([k(0), sym("D")]),
        pick: None,
        epilogue: Some(Epilogue { exprs, body }),
    };
    f.op(Op::MatMul(Box::new(product)), vec![ty(F, &[sym("B"), sym("T")])], &[x, w, bias])[0]
}

#[test]
fn a_product_applies_its_epilogue() {
    let mut f = Fixture::new();
    let y = product(&mut f);
    let inputs = [
        f32s(&[2, 2], &[1.0, 2.0, 3.0, 4.0]),
        f32s(&[3, 2], &[1.0, 0.0, 0.0, 1.0, -1.0, -1.0]),
        f32s(&[3], &[0.5, -2.0, 3.0]),
    ];
    for (mode, wanted) in [(Mode::Declared, F), (Mode::F64, DType::F64)] {
        let mut f = Fixture::new();
        let y2 = product(&mut f);
        assert_eq!(y2, y);
        let out = f.run(&[y], &inputs, mode).unwrap().remove(0);
        assert_eq!(out.dtype(), wanted);
        let out = store::converted(&out, F, span()).unwrap();
        assert_eq!(out.as_f32(), Some(&[1.5f32, 0.0, 0.0, 3.5, 2.0, 0.0][..]));
    }
}

#[test]
fn top_k_gives_values_and_positions() {
    let mut f = Fixture::new();
    let x = f.input("x", F, &[sym("B"), sym("D")]);
    let types = vec![ty(F, &[sym("B"), k(2)]), ty(I, &[sym("B"), k(2)])];
    let out = f.op(Op::TopK(k(2)), types, &[x]);
    let program = f.program(&out);
    let of = |x: Tensor| run(&program, &[x], Mode::Declared);
    let out = of(f32s(&[2, 3], &[1.0, 3.0, 3.0, 0.0, f32::NAN, 5.0])).unwrap();
    assert_eq!(out[1].as_i64(), Some(&[1i64, 2, 1, 2][..]));
    assert_eq!(out[0].as_f32().unwrap()[..2], [3.0, 3.0]);
    assert_eq!(of(f32s(&[1, 1], &[1.0])).unwrap_err(), EvalError::TopK { k: 2, elems: 1, span: span() });
}

#[test]
fn calls_and_bind_pass_values_on() {
    let mut f = Fixture::new();
    let x = f.input("x", F, &[sym("B")]);
    let unary = |op: UnaryOp| {
        let mut graph = Graph::new();
        let a = graph.add_arg(ty(F, &[sym("B")]), span(), None);
        let index = map(axes(&[("b", sym("B"))]), |e| {
            let x = at(e, 0, F, &[0]);
            e.unary(op, x)
        });
        let y = graph.add_index(index, vec![sym("B")], &[a], span(), None);
        graph.results = vec![y];
        Function { name: op.name().into(), graph }
    };
    f.functions = vec![unary(UnaryOp::Neg), unary(UnaryOp::Abs)];
    let vector = || vec![ty(F, &[sym("B")])];
    let negated = f.op(Op::Call(FuncId(0)), vector(), &[x]);
    let y = f.op(Op::Call(FuncId(1)), vector(), &negated);
    let w = f.graph.add_arg(ty(F, &[sym("B")]), span(), None);
    let sum = map(axes(&[("b", sym("B"))]), |e| {
        let (a, b) = (at(e, 0, F, &[0]), at(e, 1, F, &[0]));
        e.binary(BinaryOp::Add, a, b)
    });
    let y = f.index(sum, &[y[0], w]);
    let mut program = f.program(&[y]);
    program.bind = Some(FuncId(0));
    program.signature.weights.push(Weight {
        path: "w".into(),
        aliases: vec![],
        ty: ty(F, &[sym("B")]),
        buffer: false,
        init: Init::Fill(0.0),
        span: span(),
    });
    super::super::verify::verify(&program).unwrap();
    let mut dims = DimEnv::new();
    dims.set(sym("B").as_symbol().unwrap().clone(), 2);
    let (x, w) = (f32s(&[2], &[1.0, -2.0]), f32s(&[2], &[10.0, 20.0]));
    let out = evaluate(&program, std::slice::from_ref(&x), &[w], &dims, Mode::Declared).unwrap();
    assert_eq!(out[0].as_f32(), Some(&[-9.0f32, -18.0][..]));
    let error = evaluate(&program, std::slice::from_ref(&x), &[f32s(&[3], &[0.0; 3])], &dims, Mode::Declared);
    assert_eq!(error.unwrap_err().to_string(), "weight `w` wants f32[B], it is f32 of shape [3]");
}

#[test]
fn loops_of_too_many_points_are_refused() {
    let mut f = Fixture::new();
    let x = f.input("x", F, &[k(1)]);
    let huge = axes(&[("i", k(1 << 40)), ("j", k(1 << 40))]);
    let y = f.index(reduce(vec![], Reducer::Sum, huge, |e| e.real(1.0, F)), &[x]);
    let error = f.run(&[y], &[f32s(&[1], &[0.0])], Mode::F64).unwrap_err();
    assert!(matches!(error, EvalError::Tensor { .. }));
}
