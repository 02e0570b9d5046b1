//! Products with matrices that rows pick: any order of axes, any routes, and what they cost.

use super::ops::{after_passes, numbers, shuffled};
use super::random::Random;
use super::{agree, agree_with};
use crate::dim::Dim;
use crate::dtype::DType;
use crate::graph::expr::{ExprId, Exprs, Literal};
use crate::graph::fixture::{Fixture, at, axes, i64s, k, map, read, reduce, sym};
use crate::graph::ir::{Axis, Op, Program};
use crate::loops::ir::{Kernel, LoopFunc, LoopKind, Scalar, Stmt};
use crate::loops::lower::lower;
use crate::loops::walk::bodies;
use crate::ops::reduce::Reducer;
use crate::ops::scalar::BinaryOp;
use crate::tensor::Tensor;

const F: DType = DType::F32;
const I: DType = DType::I64;

fn is_pick(op: &Op) -> bool {
    matches!(op, Op::MatMul(product) if product.pick.is_some())
}

/// Sizes of what is routed.
struct Sizes {
    tokens: usize,
    picks: usize,
    experts: usize,
}

/// `max(sum[d] x[t, (j), d] * w[e[t, j], f, d] + bias[t, f], 0)` with the axes of all values in any order,
/// in parts of one or two axes, and perhaps for each of some heads.
fn route(random: &mut Random, sizes: &Sizes, experts: Dim) -> (Program, Vec<Tensor>) {
    let heads = random.chance(30);
    let (tall, deep) = (random.chance(50), random.chance(50));
    let per_pick = random.chance(30);
    // t, j, head, columns, terms.
    let columns: &[i64] = if tall { &[3, 6] } else { &[17] };
    let terms: &[i64] = if deep { &[5, 4] } else { &[9] };
    let mut extents = vec![(sym("T"), sizes.tokens), (k(sizes.picks as i64), sizes.picks)];
    let mut group = |sides: &[i64]| -> Vec<usize> {
        let first = extents.len();
        extents.extend(sides.iter().map(|side| (k(*side), *side as usize)));
        (first..extents.len()).collect()
    };
    let head = if heads { group(&[2]) } else { Vec::new() };
    let (columns, terms) = (group(columns), group(terms));
    let order = shuffled(random, [vec![0, 1], head.clone(), columns.clone()].concat());
    let rows = if per_pick { vec![0, 1] } else { vec![0] };
    let left = shuffled(random, [rows, head.clone(), terms.clone()].concat());
    let picks = shuffled(random, vec![0, 1]);
    let matrix = shuffled(random, [head, columns, terms.clone()].concat());
    let picked_axis = random.below(matrix.len() + 1);
    let all: Vec<usize> = order.iter().chain(&terms).copied().collect();
    let place = |axis: &usize| all.iter().position(|other| other == axis).unwrap();
    let dims = |axes: &[usize]| axes.iter().map(|a| extents[*a].0.clone()).collect::<Vec<Dim>>();
    let shape = |axes: &[usize]| axes.iter().map(|a| extents[*a].1).collect::<Vec<usize>>();
    let named = |axes: &[usize]| -> Vec<Axis> {
        axes.iter().map(|a| Axis::new(extents[*a].0.clone(), &format!("i{a}"))).collect()
    };
    let (mut matrices, mut matrices_shape) = (dims(&matrix), shape(&matrix));
    matrices.insert(picked_axis, experts);
    matrices_shape.insert(picked_axis, sizes.experts);
    let mut f = Fixture::new();
    let (x, e) = (f.input("x", F, &dims(&left)), f.input("e", I, &dims(&picks)));
    let w = f.input("w", F, &matrices);
    let y = reduce(named(&order), Reducer::Sum, named(&terms), |exprs| {
        let at_axes = |axes: &[usize]| axes.iter().map(place).collect::<Vec<usize>>();
        let pick = at(exprs, 1, I, &at_axes(&picks));
        let mut index: Vec<ExprId> = at_axes(&matrix).into_iter().map(|k| exprs.index(k)).collect();
        index.insert(picked_axis, pick);
        let (x, w) = (at(exprs, 0, F, &at_axes(&left)), read(exprs, 2, F, &index, None));
        exprs.binary(BinaryOp::Mul, w, x)
    });
    let y = f.index(y, &[x, e, w]);
    let bias_axes: Vec<usize> = order.iter().copied().filter(|a| *a == 0 || *a > 1).collect();
    let bias = f.input("bias", F, &dims(&bias_axes));
    let z = map(named(&order), |exprs| {
        let every: Vec<usize> = (0..order.len()).collect();
        let of_bias: Vec<usize> = bias_axes.iter().map(place).collect();
        let (y, bias) = (at(exprs, 0, F, &every), at(exprs, 1, F, &of_bias));
        let sum = exprs.binary(BinaryOp::Add, y, bias);
        let nothing = exprs.real(0.0, F);
        exprs.binary(BinaryOp::Max, sum, nothing)
    });
    let z = f.index(z, &[y, bias]);
    let numbers_of = |random: &mut Random, shape: &[usize]| numbers(random, shape);
    let inputs = vec![
        numbers_of(random, &shape(&left)),
        routes(random, &shape(&picks), sizes.experts),
        numbers_of(random, &matrices_shape),
        numbers_of(random, &shape(&bias_axes)),
    ];
    (f.program(&[z]), inputs)
}

/// Spread over all experts, over a few of them, or all the same.
fn routes(random: &mut Random, shape: &[usize], experts: usize) -> Tensor {
    let few = *random.pick(&[1, 2, experts]);
    let first = random.below(experts);
    let count: usize = shape.iter().product();
    let picks: Vec<i64> = (0..count).map(|_| ((first + random.below(few)) % experts) as i64).collect();
    i64s(shape, &picks)
}

#[test]
fn routes_agree_whatever_they_are() {
    for seed in 0..120 {
        let mut random = Random::new(seed);
        let sizes = Sizes {
            tokens: *random.pick(&[0, 1, 2, 7, 20]),
            picks: *random.pick(&[1, 2, 3]),
            experts: *random.pick(&[1, 3, 8]),
        };
        let experts = if random.chance(50) { sym("E") } else { k(sizes.experts as i64) };
        let (program, inputs) = route(&mut random, &sizes, experts);
        let (changed, found) = after_passes(&program, is_pick);
        assert_eq!(found, 1, "seed {seed}");
        agree(&program, &inputs, &[]).unwrap();
        agree_with(&program, &changed, &inputs, &[]).unwrap();
    }
}

#[test]
fn a_pick_that_is_not_there_fails_the_call() {
    for bad in [-1, 3, i64::MAX, i64::MIN] {
        let mut random = Random::new(5);
        let sizes = Sizes { tokens: 4, picks: 2, experts: 3 };
        let (program, mut inputs) = route(&mut random, &sizes, k(3));
        let mut picks = inputs[1].as_i64().unwrap().to_vec();
        picks[5] = bad;
        inputs[1] = i64s(inputs[1].shape(), &picks);
        let (changed, _) = after_passes(&program, is_pick);
        let failed = agree_with(&program, &changed, &inputs, &[]);
        assert_eq!(failed.unwrap_err(), "index-out-of-range");
    }
}

/// Two layers with the same picks: `y[t, j, d] = sum[f] v[e[t, j], f, d] * sum[d2] w[e[t, j], f, d2] * x[t, d2]`.
fn two_layers(experts: Dim) -> Program {
    let (t, j) = (("t", sym("T")), ("j", k(2)));
    let mut f = Fixture::new();
    let x = f.input("x", F, &[sym("T"), k(8)]);
    let e = f.input("e", I, &[sym("T"), k(2)]);
    let w = f.input("w", F, &[experts.clone(), k(16), k(8)]);
    let v = f.input("v", F, &[experts, k(16), k(8)]);
    let layer = |side: &'static str, n: i64, depth: i64, build: &dyn Fn(&mut Exprs) -> [ExprId; 2]| {
        reduce(axes(&[t.clone(), j.clone(), (side, k(n))]), Reducer::Sum, axes(&[("k", k(depth))]), |exprs| {
            let [a, b] = build(exprs);
            exprs.binary(BinaryOp::Mul, a, b)
        })
    };
    let hidden = layer("f", 16, 8, &|exprs| {
        let (pick, f, d) = (at(exprs, 1, I, &[0, 1]), exprs.index(2), exprs.index(3));
        [at(exprs, 0, F, &[0, 3]), read(exprs, 2, F, &[pick, f, d], None)]
    });
    let hidden = f.index(hidden, &[x, e, w]);
    let y = layer("d", 8, 16, &|exprs| {
        let (pick, d, f) = (at(exprs, 1, I, &[0, 1]), exprs.index(2), exprs.index(3));
        [at(exprs, 0, F, &[0, 1, 3]), read(exprs, 2, F, &[pick, f, d], None)]
    });
    let y = f.index(y, &[hidden, e, v]);
    f.program(&[y])
}

/// Everything in a function that is a loop, or a product.
fn walk<'f>(stmts: &'f [Stmt], visit: &mut dyn FnMut(&'f Stmt)) {
    for stmt in stmts {
        visit(stmt);
        bodies(stmt).for_each(|body| walk(body, visit));
    }
}

/// The loops that run once for each expert there is: of these, which are more than a store.
fn loops_over_experts(func: &LoopFunc, experts: i64) -> (usize, usize) {
    let (mut all, mut more) = (0, 0);
    walk(&func.body, &mut |stmt| {
        if let Stmt::For { extent, body, kind, .. } = stmt
            && *func.scalars.get(*extent) == Scalar::Const(Literal::Int(experts))
        {
            all += 1;
            let clears = matches!(body.as_slice(), [Stmt::Store { .. }]) && *kind == LoopKind::Vector;
            more += usize::from(!clears);
        }
    });
    (all, more)
}

#[test]
fn layers_that_pick_alike_sort_their_rows_once_and_nothing_but_a_counter_is_spent_on_others() {
    let (changed, found) = after_passes(&two_layers(k(4099)), is_pick);
    assert_eq!(found, 2);
    let loops = lower(&changed).unwrap();
    let func = &loops.functions[loops.entry];
    assert_eq!(loops_over_experts(func, 4099), (1, 0), "{}", crate::loops::print::print(&loops, None));
    let mut products = 0;
    walk(&func.body, &mut |stmt| {
        if let Stmt::Kernel(kernel) = stmt {
            let Kernel::Gemm(_) = kernel.as_ref();
            products += 1;
        }
    });
    assert_eq!(products, 2);
}

#[test]
fn two_layers_agree() {
    let program = two_layers(sym("E"));
    let (changed, _) = after_passes(&program, is_pick);
    for (tokens, experts) in [(0, 4), (1, 4), (5, 1), (9, 30)] {
        let mut random = Random::new(tokens as u64);
        let inputs = vec![
            numbers(&mut random, &[tokens, 8]),
            routes(&mut random, &[tokens, 2], experts),
            numbers(&mut random, &[experts, 16, 8]),
            numbers(&mut random, &[experts, 16, 8]),
        ];
        agree_with(&program, &changed, &inputs, &[]).unwrap();
    }
}
