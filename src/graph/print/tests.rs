use super::super::expr::{Expr, Exprs};
use super::super::fixture::*;
use super::super::ir::*;
use super::*;
use crate::dtype::DType;
use crate::ops::reduce::Reducer;
use crate::ops::scalar::{BinaryOp, UnaryOp};

const F: DType = DType::F32;
const I: DType = DType::I64;

fn text(program: &Program, cost: bool) -> String {
    super::super::verify::verify(program).unwrap();
    print(program, &sources(), Options { cost })
}

#[test]
fn a_linear_layer_with_its_cost() {
    let mut f = Fixture::new();
    let x = f.input("x", F, &[sym("B"), sym("T"), sym("D")]);
    let w = f.input("w", F, &[k(64), sym("D")]);
    let iterate = axes(&[("b", sym("B")), ("t", sym("T")), ("o", k(64))]);
    let sum = reduce(iterate.clone(), Reducer::Sum, axes(&[("i", sym("D"))]), |e| {
        let (x, w) = (at(e, 0, F, &[0, 1, 3]), at(e, 1, F, &[2, 3]));
        e.binary(BinaryOp::Mul, x, w)
    });
    let h = f.graph.add_index(sum, vec![sym("B"), sym("T"), k(64)], &[x, w], span(), Some("h".into()));
    let gelu = map(iterate, |e| {
        let (x, half, one, root) =
            (at(e, 0, F, &[0, 1, 2]), e.real(0.5, F), e.real(1.0, F), e.real(2f64.sqrt(), F));
        let scaled = e.binary(BinaryOp::Div, x, root);
        let erf = e.unary(UnaryOp::Erf, scaled);
        let sum = e.binary(BinaryOp::Add, one, erf);
        let left = e.binary(BinaryOp::Mul, x, half);
        e.binary(BinaryOp::Mul, left, sum)
    });
    let y = f.index(gelu, &[h]);
    insta::assert_snapshot!(text(&f.program(&[y]), true));
}

#[test]
fn operators_have_minimal_parentheses() {
    let mut f = Fixture::new();
    let x = f.input("x", F, &[sym("B")]);
    let index = map(axes(&[("B", sym("B"))]), |e| {
        let x = at(e, 0, F, &[0]);
        let two = e.real(-2.0, F);
        let difference = e.binary(BinaryOp::Sub, x, two);
        let nested = e.binary(BinaryOp::Sub, two, difference);
        let power = e.binary(BinaryOp::Pow, nested, two);
        let negated = e.unary(UnaryOp::Neg, power);
        let ratio = e.binary(BinaryOp::Div, x, negated);
        let below = e.binary(BinaryOp::Lt, x, two);
        let not = e.unary(UnaryOp::Not, below);
        let either = e.binary(BinaryOp::Or, not, below);
        let both = e.binary(BinaryOp::And, either, not);
        let i = e.index(0);
        let size = e.dim(&sym("B").add(&k(1)).unwrap());
        let rest = e.binary(BinaryOp::Mod, i, size);
        let rest = e.cast(rest, F);
        e.select(both, ratio, rest)
    });
    let y = f.index(index, &[x]);
    insta::assert_snapshot!(text(&f.program(&[y]), false));
}

#[test]
fn shared_expressions_are_bound_once() {
    let mut f = Fixture::new();
    let x = f.input("x", F, &[sym("B")]);
    let index = map(axes(&[("b", sym("B"))]), |e| {
        let x = at(e, 0, F, &[0]);
        (0..12).fold(x, |x, _| {
            let exp = e.unary(UnaryOp::Exp, x);
            e.binary(BinaryOp::Mul, exp, x)
        })
    });
    let y = f.index(index, &[x]);
    insta::assert_snapshot!(text(&f.program(&[y]), false));
}

#[test]
fn deep_expressions_stay_linear() {
    let mut f = Fixture::new();
    let x = f.input("x", F, &[]);
    let index = map(vec![], |e| {
        let x = at(e, 0, F, &[]);
        (0..50_000).fold(x, |x, _| e.unary(UnaryOp::Sin, x))
    });
    let y = f.index(index, &[x]);
    assert!(text(&f.program(&[y]), false).len() < 1_500_000);
}

#[test]
fn reductions_show_guard_filter_and_else() {
    let mut f = Fixture::new();
    let x = f.input("x", F, &[sym("E"), sym("D")]);
    let key = f.input("dst", I, &[sym("E")]);
    let iterate = axes(&[("n", sym("B")), ("h", k(2)), ("d", k(8))]);
    let mut index = reduce(iterate, Reducer::Sum, axes(&[("e", sym("E"))]), |e| {
        let (row, h, d, eight, zero) = (e.index(3), e.index(1), e.index(2), e.int(8), e.real(0.0, F));
        let column = e.binary(BinaryOp::Mul, h, eight);
        let column = e.binary(BinaryOp::Add, column, d);
        let x = read(e, 0, F, &[row, column], Some(zero));
        e.binary(BinaryOp::Add, x, x)
    });
    let key_expr = at(&mut index.exprs, 1, I, &[3]);
    let (n, d, one) = (index.exprs.index(0), index.exprs.index(2), index.exprs.int(1));
    let guard = index.exprs.binary(BinaryOp::Ge, d, one);
    let otherwise = index.exprs.real(-1.0, F);
    let shape = vec![sym("B"), k(16)];
    let segment = Segment { index: index.clone(), axis: 0, key: key_expr };
    let filter = index.exprs.binary(BinaryOp::Eq, key_expr, n);
    index.guard = Some(guard);
    let reduce = index.reduce.as_mut().unwrap();
    (reduce.filter, reduce.otherwise) = (Some(filter), Some(otherwise));
    let y = f.graph.add_index(index, shape.clone(), &[x, key], span(), Some("y".into()));
    let z = f.op(Op::Segment(Box::new(segment)), vec![ty(F, &shape)], &[x, key])[0];
    insta::assert_snapshot!(text(&f.program(&[y, z]), true));
}

/// A recurrence, a region, a product, a call, constants and `top_k` in one program.
fn everything() -> Program {
    let mut f = Fixture::new();
    let x = f.input("x", F, &[sym("T"), k(4)]);
    let h0 = f.input("h0", F, &[k(4)]);
    f.vars = 2;
    let time = sym("T").add(&k(1)).unwrap();
    let mut body = Graph::new();
    let xs = body.add_arg(ty(F, &[sym("T"), k(4)]), span(), None);
    let hs = body.add_arg(ty(F, &[time.clone(), k(4)]), span(), None);
    let step = map(axes(&[("t", k(4))]), |e| {
        let (t, d) = (e.add(Expr::Var(VarId(0)), I), e.index(0));
        let (x, h) = (read(e, 0, F, &[t, d], None), read(e, 1, F, &[t, d], None));
        let sum = e.binary(BinaryOp::Add, x, h);
        e.unary(UnaryOp::Tanh, sum)
    });
    let h = body.add_index(step, vec![k(4)], &[xs, hs], span(), None);
    body.results = vec![h];
    let recur = Recur {
        var: VarId(0),
        name: "t".into(),
        start: k(0),
        extent: sym("T"),
        reverse: false,
        captures: 1,
        sequences: vec![Sequence { name: "h".into(), axis: 0, lags: 1 }],
        body,
    };
    let h = f.op(Op::Recur(Box::new(recur)), vec![ty(F, &[time.clone(), k(4)])], &[x, h0])[0];
    let weight = f32s(&[3, 4], &[0.5; 12]);
    let w = f.op(Op::Const(weight.into()), vec![ty(F, &[k(3), k(4)])], &[])[0];
    let mut exprs = Exprs::new();
    let acc = read(&mut exprs, 0, F, &[], None);
    let body = exprs.unary(UnaryOp::Sigmoid, acc);
    let product = MatMul {
        iterate: axes(&[("t", time.clone()), ("o", k(3))]),
        roles: vec![Role::M, Role::N],
        contract: axes(&[("d", k(4))]),
        lhs: View { offset: k(0), vars: vec![], iterate: vec![k(4), k(0)], contract: vec![k(1)] },
        rhs: View { offset: k(0), vars: vec![], iterate: vec![k(0), k(4)], contract: vec![k(1)] },
        pick: None,
        epilogue: Some(Epilogue { exprs, body }),
    };
    let scores = ty(F, &[time.clone(), k(3)]);
    let p = f.op(Op::MatMul(Box::new(product)), vec![scores.clone()], &[h, w])[0];
    let mut body = Graph::new();
    let ps = body.add_arg(scores.clone(), span(), None);
    let greatest = reduce(vec![], Reducer::Max, axes(&[("o", k(3))]), |e| {
        let (t, o) = (e.add(Expr::Var(VarId(1)), I), e.index(0));
        read(e, 0, F, &[t, o], None)
    });
    let m = body.add_index(greatest, vec![], &[ps], span(), Some("m".into()));
    let shifted = map(axes(&[("o", k(3))]), |e| {
        let (t, o) = (e.add(Expr::Var(VarId(1)), I), e.index(0));
        let (p, m) = (read(e, 0, F, &[t, o], None), read(e, 1, F, &[], None));
        e.binary(BinaryOp::Sub, p, m)
    });
    let s = body.add_index(shifted, vec![k(3)], &[ps, m], span(), None);
    body.results = vec![s];
    let region = Region {
        kind: RegionKind::Rows,
        axes: axes(&[("t", time.clone())]),
        vars: vec![VarId(1)],
        body,
        places: vec![vec![Place::Loop(0), Place::Slice(0)]],
    };
    let s = f.op(Op::Region(Box::new(region)), vec![scores], &[p])[0];
    let top = f.op(Op::TopK(k(1)), vec![ty(F, &[time.clone(), k(1)]), ty(I, &[time.clone(), k(1)])], &[s]);
    let mut callee = Graph::new();
    let a = callee.add_arg(ty(I, &[time.clone(), k(1)]), span(), None);
    callee.results = vec![a];
    f.functions = vec![Function { name: "Id.forward".into(), graph: callee }];
    let y = f.op(Op::Call(FuncId(0)), vec![ty(I, &[time, k(1)])], &top[1..])[0];
    f.checks.push(DimCheck {
        condition: DimCondition::Not(Box::new(DimCondition::Eq(sym("T"), k(0)))),
        code: DimCheck::REQUIRED,
        message: "there is a step".into(),
        span: span(),
    });
    f.program(&[top[0], y])
}

#[test]
fn every_op_is_readable() {
    insta::assert_snapshot!(text(&everything(), false));
}

#[test]
fn numbers_are_those_printed() {
    let program = everything();
    let printed = text(&program, false);
    let graph = &program.function(program.entry).graph;
    for id in graph.topological() {
        let first = number(graph, &[id]).unwrap();
        assert!(printed.contains(&format!("%{first}")), "%{first}");
        if let Op::Region(region) = &graph.node(id).op {
            let inner = region.body.results[0].node;
            let last = number(graph, &[id, inner]).unwrap();
            assert!(printed.contains(&format!("yield %{last} at")));
        }
    }
}
