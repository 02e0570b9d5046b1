//! One family of ops at a time, as the passes make them.

use super::random::Random;
use super::{agree, agree_with};
use crate::dim::Dim;
use crate::dtype::DType;
use crate::graph::expr::{Expr, ExprId, Exprs, VarId};
use crate::graph::fixture::{Fixture, at, axes, f32s, i64s, k, map, read, reduce, span, sym, ty};
use crate::graph::ir::{
    Axis, FuncId, Function, Graph, Index, Op, Program, Recur, Reduce, Region, Segment, Sequence, Value,
};
use crate::ops::reduce::Reducer;
use crate::ops::scalar::{BinaryOp, UnaryOp};
use crate::passes::PIPELINE;
use crate::tensor::Tensor;

const F: DType = DType::F32;
const I: DType = DType::I64;

/// The program after all passes, and how many ops of a kind they made.
pub(super) fn after_passes(program: &Program, wanted: fn(&Op) -> bool) -> (Program, usize) {
    let mut changed = program.clone();
    for pass in PIPELINE {
        (pass.run)(&mut changed);
    }
    let found = changed.functions.iter().map(|f| count(&f.graph, wanted)).sum();
    (changed, found)
}

fn count(graph: &Graph, wanted: fn(&Op) -> bool) -> usize {
    let inner = |op: &Op| match op {
        Op::Recur(recur) => count(&recur.body, wanted),
        Op::Region(region) => count(&region.body, wanted),
        _ => 0,
    };
    graph.dag.node_weights().map(|n| usize::from(wanted(&n.op)) + inner(&n.op)).sum()
}

pub(super) fn numbers(random: &mut Random, shape: &[usize]) -> Tensor {
    let data: Vec<f32> = (0..shape.iter().product()).map(|_| random.below(9) as f32 * 0.25 - 1.0).collect();
    f32s(shape, &data)
}

pub(super) fn shuffled(random: &mut Random, mut items: Vec<usize>) -> Vec<usize> {
    for at in (1..items.len()).rev() {
        items.swap(at, random.below(at + 1));
    }
    items
}

/// A product over axes in any order on both sides, with a bias and a rectifier behind it.
fn product(random: &mut Random) -> (Program, Vec<Tensor>) {
    let pool = [("B", 2), ("T", 3), ("D", 4)];
    let mut extents: Vec<(Dim, usize)> = Vec::new();
    let mut group = |random: &mut Random, most: usize| -> Vec<usize> {
        (0..random.below(most + 1))
            .map(|_| {
                extents.push(if random.chance(50) {
                    let (name, size) = *random.pick(&pool);
                    (sym(name), size)
                } else {
                    let size = *random.pick(&[1usize, 2, 3, 5]);
                    (k(size as i64), size)
                });
                extents.len() - 1
            })
            .collect()
    };
    let (batch, m) = (group(random, 1), group(random, 2));
    let (n, contract) = (group(random, 2), group(random, 2));
    let order = shuffled(random, [batch.clone(), m.clone(), n.clone()].concat());
    let left = shuffled(random, [batch.clone(), m, contract.clone()].concat());
    let right = shuffled(random, [batch, n, contract.clone()].concat());
    let all: Vec<usize> = order.iter().chain(&contract).copied().collect();
    let dims = |axes: &[usize]| axes.iter().map(|a| extents[*a].0.clone()).collect::<Vec<Dim>>();
    let sizes = |axes: &[usize]| axes.iter().map(|a| extents[*a].1).collect::<Vec<usize>>();
    let named = |axes: &[usize]| -> Vec<Axis> {
        axes.iter().map(|a| Axis::new(extents[*a].0.clone(), &format!("i{a}"))).collect()
    };
    let mut f = Fixture::new();
    let sized = f.input("sized", F, &[sym("B"), sym("T"), sym("D")]);
    let (a, b) = (f.input("a", F, &dims(&left)), f.input("b", F, &dims(&right)));
    let place = |axes: &[usize]| -> Vec<usize> {
        axes.iter().map(|x| all.iter().position(|y| y == x).unwrap()).collect()
    };
    let body = |e: &mut Exprs| {
        let (x, y) = (at(e, 0, F, &place(&left)), at(e, 1, F, &place(&right)));
        e.binary(BinaryOp::Mul, x, y)
    };
    let y = f.index(reduce(named(&order), Reducer::Sum, named(&contract), body), &[a, b]);
    let z = map(named(&order), |e| {
        let all: Vec<usize> = (0..order.len()).collect();
        let (y, bias) = (at(e, 0, F, &all), at(e, 1, F, &all));
        let sum = e.binary(BinaryOp::Add, y, bias);
        let nothing = e.real(0.0, F);
        e.binary(BinaryOp::Max, sum, nothing)
    });
    let bias = f.input("bias", F, &dims(&order));
    let z = f.index(z, &[y, bias]);
    let _ = sized;
    let inputs = vec![
        numbers(random, &[2, 3, 4]),
        numbers(random, &sizes(&left)),
        numbers(random, &sizes(&right)),
        numbers(random, &sizes(&order)),
    ];
    (f.program(&[z]), inputs)
}

#[test]
fn products_agree_whatever_the_order_of_their_axes() {
    let mut products = 0;
    for seed in 0..300 {
        let mut random = Random::new(seed);
        let (program, inputs) = product(&mut random);
        let (changed, found) = after_passes(&program, |op| matches!(op, Op::MatMul(_)));
        products += found;
        agree(&program, &inputs, &[]).unwrap();
        agree_with(&program, &changed, &inputs, &[]).unwrap();
    }
    assert!(products > 100, "{products} products were recognised");
}

#[test]
fn a_product_over_nothing_is_zero() {
    let mut f = Fixture::new();
    let (a, b) = (f.input("a", F, &[k(2), sym("D")]), f.input("b", F, &[k(3), sym("D")]));
    let iterate = axes(&[("m", k(2)), ("n", k(3))]);
    let y = reduce(iterate, Reducer::Sum, axes(&[("d", sym("D"))]), |e| {
        let (x, y) = (at(e, 0, F, &[0, 2]), at(e, 1, F, &[1, 2]));
        e.binary(BinaryOp::Mul, x, y)
    });
    let y = f.index(y, &[a, b]);
    let (changed, found) = after_passes(&f.program(&[y]), |op| matches!(op, Op::MatMul(_)));
    assert_eq!(found, 1);
    let out = agree(&changed, &[f32s(&[2, 0], &[]), f32s(&[3, 0], &[])], &[]).unwrap();
    assert_eq!(out[0].as_f32(), Some(&[0.0f32; 6][..]));
}

/// `h[b, t, d] = tanh(sum[e] x[b, t, e] * w[d, e] + sum[e] h[b, t - lag, e] * u[d, e])`, of which
/// the result is `h` from the first step on.
fn recurrence(reverse: bool, lag: i64, middle: bool) -> Program {
    let mut f = Fixture::new();
    let (b, t, d) = (sym("B"), sym("T"), k(3));
    let whole = t.add(&k(lag)).unwrap();
    let placed = |time: &Dim| {
        if middle {
            vec![b.clone(), time.clone(), d.clone()]
        } else {
            vec![time.clone(), b.clone(), d.clone()]
        }
    };
    let x = f.input("x", F, &placed(&t));
    let (w, u) = (f.input("w", F, &[d.clone(), d.clone()]), f.input("u", F, &[d.clone(), d.clone()]));
    let inits: Vec<Value> = (0..lag).map(|n| f.input(&format!("h{n}"), F, &[b.clone(), d.clone()])).collect();
    f.vars = 1;
    let var = VarId(0);
    let mut body = Graph::new();
    let args = [(placed(&t)), vec![d.clone(), d.clone()], vec![d.clone(), d.clone()], placed(&whole)]
        .map(|shape| body.add_arg(ty(F, &shape), span(), None));
    let rows = axes(&[("b", b.clone()), ("d", d.clone())]);
    let sum_over = |time: fn(&mut Exprs, i64) -> ExprId, shift: i64| {
        reduce(rows.clone(), Reducer::Sum, axes(&[("e", k(3))]), |e| {
            let time = time(e, shift);
            let (b, inner) = (e.index(0), e.index(2));
            let index = if middle { [b, time, inner] } else { [time, b, inner] };
            let value = read(e, 0, F, &index, None);
            let weight = at(e, 1, F, &[1, 2]);
            e.binary(BinaryOp::Mul, value, weight)
        })
    };
    let at_step = |e: &mut Exprs, shift: i64| {
        let (t, shift) = (e.add(Expr::Var(VarId(0)), I), e.int(shift));
        e.binary(BinaryOp::Add, t, shift)
    };
    let shape = vec![b.clone(), d.clone()];
    let now = body.add_index(sum_over(at_step, 0), shape.clone(), &[args[0], args[1]], span(), None);
    let back = sum_over(at_step, if reverse { lag } else { 0 });
    let back = body.add_index(back, shape.clone(), &[args[3], args[2]], span(), None);
    let h = map(rows.clone(), |e| {
        let (a, b) = (at(e, 0, F, &[0, 1]), at(e, 1, F, &[0, 1]));
        let sum = e.binary(BinaryOp::Add, a, b);
        e.unary(UnaryOp::Tanh, sum)
    });
    let h = body.add_index(h, shape, &[now, back], span(), Some("h".into()));
    body.results = vec![h];
    let sequence = Sequence { name: "h".into(), axis: usize::from(middle), lags: lag as usize };
    let recur = Recur {
        var,
        name: "t".into(),
        start: k(0),
        extent: t.clone(),
        reverse,
        captures: 3,
        sequences: vec![sequence],
        body,
    };
    let operands: Vec<Value> = [x, w, u].into_iter().chain(inits).collect();
    let h = f.op(Op::Recur(Box::new(recur)), vec![ty(F, &placed(&whole))], &operands)[0];
    let named: Vec<(&str, Dim)> = ["i", "j", "k"].into_iter().zip(placed(&t)).collect();
    let steps = map(axes(&named), |e| {
        let mut index: Vec<ExprId> = (0..3).map(|k| e.index(k)).collect();
        let first = e.int(if reverse { 0 } else { lag });
        let time = usize::from(middle);
        index[time] = e.binary(BinaryOp::Add, index[time], first);
        read(e, 0, F, &index, None)
    });
    let y = f.index(steps, &[h]);
    f.program(&[y])
}

#[test]
fn recurrences_agree_with_time_anywhere_in_both_directions() {
    for (reverse, lag, middle) in
        [(false, 1, false), (false, 1, true), (true, 1, true), (true, 2, false), (false, 3, true)]
    {
        let program = recurrence(reverse, lag, middle);
        let (changed, found) = after_passes(&program, |op| matches!(op, Op::MatMul(_)));
        assert!(found >= 1, "the step's product is recognised");
        for (b, t) in [(2, 4), (1, 1), (3, 0), (0, 2)] {
            let mut random = Random::new(7);
            let x = if middle { [b, t, 3] } else { [t, b, 3] };
            let mut inputs = vec![numbers(&mut random, &x)];
            inputs.extend((0..2).map(|_| numbers(&mut random, &[3, 3])));
            inputs.extend((0..lag).map(|_| numbers(&mut random, &[b, 3])));
            agree(&program, &inputs, &[]).unwrap();
            agree_with(&program, &changed, &inputs, &[]).unwrap();
        }
    }
}

/// `softmax[s where s <= t] (sum[d] q[h, t, d] * k[h, s, d])` times `v[h, s, d]`, in parts.
fn attention() -> Program {
    let mut f = Fixture::new();
    let (heads, t, s, d) = (sym("B"), sym("T"), sym("S"), k(4));
    let q = f.input("q", F, &[heads.clone(), t.clone(), d.clone()]);
    let [keys, values] = ["k", "v"].map(|n| f.input(n, F, &[heads.clone(), s.clone(), d.clone()]));
    let hts = axes(&[("h", heads.clone()), ("t", t.clone()), ("s", s.clone())]);
    let ht = axes(&[("h", heads.clone()), ("t", t.clone())]);
    let over_s = axes(&[("s", s)]);
    let scores = reduce(hts.clone(), Reducer::Sum, axes(&[("d", d.clone())]), |e| {
        let (q, k) = (at(e, 0, F, &[0, 1, 3]), at(e, 1, F, &[0, 2, 3]));
        e.binary(BinaryOp::Mul, q, k)
    });
    let scores = f.index(scores, &[q, keys]);
    let causal = |index: &mut Index| {
        let (t, s) = (index.exprs.index(1), index.exprs.index(2));
        let seen = index.exprs.binary(BinaryOp::Le, s, t);
        index.reduce.as_mut().unwrap().filter = Some(seen);
    };
    let mut most = reduce(ht.clone(), Reducer::Max, over_s.clone(), |e| at(e, 0, F, &[0, 1, 2]));
    causal(&mut most);
    let most = f.index(most, &[scores]);
    let power = |e: &mut Exprs| {
        let (x, m) = (at(e, 0, F, &[0, 1, 2]), at(e, 1, F, &[0, 1]));
        let less = e.binary(BinaryOp::Sub, x, m);
        e.unary(UnaryOp::Exp, less)
    };
    let mut total = reduce(ht, Reducer::Sum, over_s.clone(), power);
    causal(&mut total);
    let total = f.index(total, &[scores, most]);
    let weights = map(hts, |e| {
        let (t, s) = (e.index(1), e.index(2));
        let seen = e.binary(BinaryOp::Le, s, t);
        let (part, whole) = (power(e), at(e, 2, F, &[0, 1]));
        let (share, nothing) = (e.binary(BinaryOp::Div, part, whole), e.real(0.0, F));
        e.select(seen, share, nothing)
    });
    let weights = f.index(weights, &[scores, most, total]);
    let htd = axes(&[("h", heads), ("t", t), ("d", d)]);
    let y = reduce(htd, Reducer::Sum, over_s, |e| {
        let (p, v) = (at(e, 0, F, &[0, 1, 3]), at(e, 1, F, &[0, 3, 2]));
        e.binary(BinaryOp::Mul, p, v)
    });
    let y = f.index(y, &[weights, values]);
    f.program(&[y])
}

#[test]
fn attention_agrees_as_a_region() {
    let program = attention();
    let (changed, found) = after_passes(&program, |op| matches!(op, Op::Region(_)));
    assert_eq!(found, 1);
    for (heads, t, s) in [(2, 3, 5), (1, 4, 4), (2, 1, 1), (3, 0, 2), (0, 2, 2)] {
        let mut random = Random::new(3);
        let q = numbers(&mut random, &[heads, t, 4]);
        let (keys, values) = (numbers(&mut random, &[heads, s, 4]), numbers(&mut random, &[heads, s, 4]));
        let inputs = [q, keys, values];
        agree(&program, &inputs, &[]).unwrap();
        agree_with(&program, &changed, &inputs, &[]).unwrap();
    }
}

/// A reduction by key onto axis `axis` of `[D, B, 3]`, as a segment.
fn segment(reducer: Reducer, axis: usize, filtered: bool, otherwise: bool) -> (Program, Program) {
    let build = |recognised: bool| {
        let mut f = Fixture::new();
        let x = f.input("x", F, &[sym("E"), k(3)]);
        let key = f.input("key", I, &[sym("E")]);
        let sized = f.input("sized", F, &[sym("B"), sym("D")]);
        let _ = sized;
        let mut order = vec![("d", sym("D")), ("three", k(3))];
        order.insert(axis, ("b", sym("B")));
        let three = order.iter().position(|(name, _)| *name == "three").unwrap();
        let mut index = reduce(axes(&order), reducer, axes(&[("e", sym("E"))]), |e| at(e, 0, F, &[3, three]));
        let key_at = at(&mut index.exprs, 1, I, &[3]);
        let mut filter = filtered.then(|| {
            let (e, one) = (index.exprs.index(3), index.exprs.int(1));
            index.exprs.binary(BinaryOp::Ge, e, one)
        });
        if !recognised {
            let b = index.exprs.index(axis);
            let equal = index.exprs.binary(BinaryOp::Eq, key_at, b);
            filter = Some(match filter {
                Some(rest) => index.exprs.binary(BinaryOp::And, equal, rest),
                None => equal,
            });
        }
        let other = otherwise.then(|| {
            let d = index.exprs.index(0);
            index.exprs.cast(d, index.result_dtype())
        });
        let reduce: &mut Reduce = index.reduce.as_mut().unwrap();
        (reduce.filter, reduce.otherwise) = (filter, other);
        let y = if recognised {
            let shape: Vec<Dim> = order.iter().map(|(_, d)| d.clone()).collect();
            let types = vec![ty(index.result_dtype(), &shape)];
            f.op(Op::Segment(Box::new(Segment { index, axis, key: key_at })), types, &[x, key])[0]
        } else {
            f.index(index, &[x, key])
        };
        f.program(&[y])
    };
    (build(false), build(true))
}

#[test]
fn segments_agree_for_every_reducer() {
    let inputs = |e: usize| {
        let keys: Vec<i64> = [2, 0, 2, -1, 7, 0][..e].to_vec();
        [numbers(&mut Random::new(5), &[e, 3]), i64s(&[e], &keys), f32s(&[3, 2], &[0.0; 6])]
    };
    for reducer in [Reducer::Sum, Reducer::Prod, Reducer::Max, Reducer::Min, Reducer::ArgMax, Reducer::ArgMin]
    {
        for (axis, filtered, otherwise) in
            [(0, false, false), (1, true, false), (2, false, true), (1, true, true)]
        {
            let (plain, recognised) = segment(reducer, axis, filtered, otherwise);
            for e in [0, 1, 6] {
                agree(&plain, &inputs(e), &[]).unwrap();
                agree_with(&plain, &recognised, &inputs(e), &[]).unwrap();
            }
        }
    }
}

/// `reduce[s: S where s op t + ahead] x[.., s, ..]` onto axis `axis` of `[B, D]`.
fn running(reducer: Reducer, axis: usize, op: BinaryOp, ahead: i64) -> Program {
    let mut f = Fixture::new();
    let mut shape = vec![sym("B"), sym("D")];
    shape.insert(axis, sym("S"));
    let x = f.input("x", F, &shape);
    let mut order = vec![("b", sym("B")), ("d", sym("D"))];
    order.insert(axis, ("t", sym("S")));
    let mut read_at = [0, 1, 2];
    read_at[axis] = 3;
    let mut index = reduce(axes(&order), reducer, axes(&[("s", sym("S"))]), |e| at(e, 0, F, &read_at));
    let (s, t, by) = (index.exprs.index(3), index.exprs.index(axis), index.exprs.int(ahead));
    let limit = index.exprs.binary(BinaryOp::Add, t, by);
    let filter = index.exprs.binary(op, s, limit);
    index.reduce.as_mut().unwrap().filter = Some(filter);
    let y = f.index(index, &[x]);
    f.program(&[y])
}

#[test]
fn running_reductions_agree_for_every_reducer() {
    let bounds = [
        (BinaryOp::Le, 0),
        (BinaryOp::Lt, 0),
        (BinaryOp::Lt, -1),
        (BinaryOp::Lt, 1),
        (BinaryOp::Ge, 0),
        (BinaryOp::Gt, 0),
        (BinaryOp::Gt, 2),
    ];
    for reducer in [Reducer::Sum, Reducer::Prod, Reducer::Max, Reducer::Min] {
        for (axis, (op, ahead)) in (0..3).flat_map(|axis| bounds.map(|bound| (axis, bound))) {
            let program = running(reducer, axis, op, ahead);
            let (changed, found) = after_passes(&program, |op| matches!(op, Op::Scan(_)));
            assert_eq!(found, 1, "{op:?} {ahead}");
            for (b, s, d) in [(2, 5, 3), (1, 1, 1), (2, 0, 2), (0, 3, 1), (1, 4, 17)] {
                let mut shape = vec![b, d];
                shape.insert(axis, s);
                let inputs = [numbers(&mut Random::new(11), &shape)];
                agree(&program, &inputs, &[]).unwrap();
                agree_with(&program, &changed, &inputs, &[]).unwrap();
            }
        }
    }
}

#[test]
fn top_k_agrees_with_ties_nan_and_nothing() {
    for (dtype, k_size) in [(F, 0), (F, 1), (F, 3), (F, 5), (I, 4)] {
        let mut f = Fixture::new();
        let x = f.input("x", dtype, &[sym("B"), sym("D")]);
        let types = vec![ty(dtype, &[sym("B"), k(k_size)]), ty(I, &[sym("B"), k(k_size)])];
        let out = f.op(Op::TopK(k(k_size)), types, &[x]);
        let program = f.program(&out);
        let rows: [f32; 10] = [1.0, 3.0, 3.0, f32::NAN, -1.0, 2.0, f32::NAN, 2.0, f32::INFINITY, 2.0];
        let x = match dtype {
            F => f32s(&[2, 5], &rows),
            _ => i64s(&[2, 5], &rows.map(|x| x as i64)),
        };
        agree(&program, &[x], &[]).unwrap();
    }
}

/// A region that calls a function on a column of its operand, which is not dense.
#[test]
fn calls_take_copies_of_what_is_not_dense() {
    let mut f = Fixture::new();
    let x = f.input("x", F, &[k(4), sym("B")]);
    let mut callee = Graph::new();
    let a = callee.add_arg(ty(F, &[k(4)]), span(), Some("a".into()));
    let doubled = map(axes(&[("i", k(4))]), |e| {
        let a = at(e, 0, F, &[0]);
        e.binary(BinaryOp::Add, a, a)
    });
    let sum = reduce(vec![], Reducer::Sum, axes(&[("i", k(4))]), |e| at(e, 0, F, &[0]));
    let doubled = callee.add_index(doubled, vec![k(4)], &[a], span(), None);
    let sum = callee.add_index(sum, vec![], &[doubled], span(), None);
    callee.results = vec![doubled, sum];
    f.functions.push(Function { name: "twice".into(), graph: callee });
    f.vars = 1;
    let mut body = Graph::new();
    let whole = body.add_arg(ty(F, &[k(4), sym("B")]), span(), None);
    let column = map(axes(&[("i", k(4))]), |e| {
        let (i, b) = (e.index(0), e.add(Expr::Var(VarId(0)), I));
        read(e, 0, F, &[i, b], None)
    });
    let column = body.add_index(column, vec![k(4)], &[whole], span(), None);
    let results = vec![ty(F, &[k(4)]), ty(F, &[])];
    let node = crate::graph::ir::Node { op: Op::Call(FuncId(0)), results, span: span(), name: None };
    let call = body.add(node, &[column]);
    body.results = vec![Value { node: call, result: 0 }, Value { node: call, result: 1 }];
    use crate::graph::ir::Place::{Loop, Slice};
    let region = Region {
        kind: crate::graph::ir::RegionKind::Rows,
        axes: axes(&[("b", sym("B"))]),
        vars: vec![VarId(0)],
        body,
        places: vec![vec![Slice(0), Loop(0)], vec![Loop(0)]],
    };
    let types = vec![ty(F, &[k(4), sym("B")]), ty(F, &[sym("B")])];
    let out = f.op(Op::Region(Box::new(region)), types, &[x]);
    let program = f.program(&out);
    for b in [0, 1, 3] {
        agree(&program, &[numbers(&mut Random::new(1), &[4, b])], &[]).unwrap();
    }
}

#[test]
fn bad_indices_from_inputs_are_found_before_anything_is_written() {
    let mut f = Fixture::new();
    let (x, ids) = (f.input("x", F, &[k(3), k(2)]), f.input("ids", I, &[sym("B")]));
    let first = f.index(map(axes(&[("d", k(2))]), |e| e.real(1.0, F)), &[]);
    let rows = map(axes(&[("b", sym("B")), ("d", k(2))]), |e| {
        let (id, d) = (at(e, 1, I, &[0]), e.index(1));
        read(e, 0, F, &[id, d], None)
    });
    let y = f.index(rows, &[x, ids]);
    let program = f.program(&[first, y]);
    let loops = crate::loops::lower::lower(&program).unwrap();
    let body = &loops.functions[0].body;
    let stores = |stmt: &crate::loops::ir::Stmt| {
        let mut defined = crate::loops::walk::Defined::default();
        defined.add(std::slice::from_ref(stmt));
        !defined.stored.is_empty()
    };
    assert!(!stores(&body[0]), "the check comes first");
    let x = numbers(&mut Random::new(1), &[3, 2]);
    for ids in [&[0i64, 2][..], &[0, 3], &[-1], &[], &[i64::MAX], &[i64::MIN]] {
        let _ = agree(&program, &[x.clone(), i64s(&[ids.len()], ids)], &[]);
    }
}

#[test]
fn what_is_outside_for_all_sizes_is_an_error_with_its_place() {
    let mut f = Fixture::new();
    let x = f.input("x", F, &[k(3)]);
    let y = map(axes(&[("i", k(2))]), |e| {
        let (i, two) = (e.index(0), e.int(2));
        let at = e.binary(BinaryOp::Add, i, two);
        read(e, 0, F, &[at], None)
    });
    let y = f.index(y, &[x]);
    let errors = crate::loops::lower::lower(&f.program(&[y])).unwrap_err();
    assert_eq!(errors[0].code, "index-out-of-range");
    assert_eq!(errors[0].title, "`x` is read at 2 to 3 on axis 0, which has 3 elements");
}

#[test]
fn a_very_deep_expression_is_lowered() {
    let mut f = Fixture::new();
    let x = f.input("x", F, &[sym("B")]);
    let deep = map(axes(&[("b", sym("B"))]), |e| {
        let one = e.real(1.0, F);
        let x = at(e, 0, F, &[0]);
        (0..20_000).fold(x, |sum, _| e.binary(BinaryOp::Add, sum, one))
    });
    let y = f.index(deep, &[x]);
    let program = f.program(&[y]);
    let out = agree(&program, &[f32s(&[1], &[0.5])], &[]).unwrap();
    assert_eq!(out[0].as_f32(), Some(&[20_000.5f32][..]));
    let loops = crate::loops::lower::lower(&program).unwrap();
    assert!(crate::loops::print::print(&loops, None).lines().count() > 100);
}
