//! Bounds against evaluation at every point: known patterns, and conditions drawn at random.

use super::symbolic::tests as symbolic_tests;
use super::*;
use crate::graph::expr::{Expr, Literal};
use crate::ops::scalar::UnaryOp;
use crate::span::FileId;
use proptest::prelude::*;
use std::collections::BTreeMap;

const UNKNOWN_PORT: u32 = 0;
const TABLE_PORT: u32 = 1;

/// Port 0 holds anything, port 1 the table 2, 1, 3 of which the position is known.
struct Sizes {
    t: i64,
}

fn table(at: i64) -> i64 {
    [2, 1, 3][at.rem_euclid(3) as usize]
}

impl Scope for Sizes {
    fn symbol(&self, symbol: &Symbol) -> Option<i64> {
        (symbol.name() == "T").then_some(self.t)
    }

    fn read(&self, read: &Read, index: &[Bounds]) -> Element {
        match (read.port, index[0]) {
            (TABLE_PORT, Bounds { low: Some(low), high: Some(high) }) => {
                let values = (low..=high).map(table);
                let value = Bounds { low: values.clone().min(), high: values.max() };
                Element { value, is_inside: Some(true) }
            }
            _ => Element::UNKNOWN,
        }
    }
}

fn size() -> Dim {
    Dim::symbol(Symbol::new("T", 0))
}

fn read(exprs: &mut Exprs, port: u32, index: ExprId, dtype: DType) -> ExprId {
    let span = crate::span::Span::new(FileId(0), 0, 0);
    let otherwise = Some(if dtype == DType::Bool { exprs.bool(false) } else { exprs.int(0) });
    exprs.add(Expr::Read(Read { port, index: vec![index], otherwise, span }), dtype)
}

/// The value at one point, truths as 0 and 1; what is unknown is decided by `coin`.
fn value(exprs: &Exprs, id: ExprId, at: &[i64], t: i64, coin: bool) -> i64 {
    let of = |id: &ExprId| value(exprs, *id, at, t, coin);
    match exprs.get(id) {
        Expr::Const(Literal::Int(value)) => *value,
        Expr::Const(Literal::Bool(value)) => i64::from(*value),
        Expr::Index(k) => at[*k as usize],
        Expr::Dim(dim) => dim.eval(&|_| Some(t)).unwrap(),
        Expr::Read(read) if read.port == TABLE_PORT => table(of(&read.index[0])),
        Expr::Read(_) => i64::from(coin),
        Expr::Unary(UnaryOp::Neg, a) => -of(a),
        Expr::Unary(UnaryOp::Abs, a) => of(a).abs(),
        Expr::Unary(UnaryOp::Not, a) => 1 - of(a),
        Expr::Select(c, a, b) => {
            if of(c) != 0 {
                of(a)
            } else {
                of(b)
            }
        }
        Expr::Cast(a) => match (exprs.dtype(*a), exprs.dtype(id)) {
            (DType::I64, DType::Bool) => i64::from(of(a) != 0),
            _ => of(a),
        },
        Expr::Binary(op, a, b) => {
            let (a, b) = (of(a), of(b));
            let truth = i64::from;
            match op {
                BinaryOp::Mod => a - number(BinaryOp::FloorDiv, a, b).unwrap() * b,
                BinaryOp::Eq => truth(a == b),
                BinaryOp::Ne => truth(a != b),
                BinaryOp::Lt => truth(a < b),
                BinaryOp::Le => truth(a <= b),
                BinaryOp::Gt => truth(a > b),
                BinaryOp::Ge => truth(a >= b),
                BinaryOp::And => a & b,
                BinaryOp::Or => a | b,
                op => number(*op, a, b).unwrap(),
            }
        }
        other => panic!("{other:?}"),
    }
}

fn points(ranges: &[(i64, i64)]) -> Vec<Vec<i64>> {
    ranges.iter().fold(vec![Vec::new()], |found, (low, high)| {
        let extended = found.iter().flat_map(|point: &Vec<i64>| {
            (*low..=*high).map(move |k| point.iter().copied().chain([k]).collect())
        });
        extended.collect()
    })
}

/// What the points say.
fn exact(exprs: &Exprs, id: ExprId, ranges: &[(i64, i64)], t: i64) -> Class {
    let truths: Vec<bool> = points(ranges).iter().map(|at| value(exprs, id, at, t, false) != 0).collect();
    match (truths.iter().any(|v| *v), truths.iter().all(|v| *v)) {
        (false, _) => Class::Empty,
        (_, true) => Class::Full,
        _ => Class::Partial,
    }
}

/// An expression as text; indices `h i j`, the size `T`, the unknown `u` and the table `d`.
#[derive(Clone, Debug)]
enum Tree {
    Int(i64),
    Index(usize),
    Size,
    Table(Box<Tree>),
    Unknown,
    Unary(UnaryOp, Box<Tree>),
    Binary(BinaryOp, Box<Tree>, Box<Tree>),
    /// By a divisor that is not zero.
    Divide(BinaryOp, Box<Tree>, Divisor),
    Select(Box<Tree>, Box<Tree>, Box<Tree>),
    Cast(DType, Box<Tree>),
}

#[derive(Clone, Debug)]
enum Divisor {
    Int(i64),
    Size,
    Table,
}

fn build(exprs: &mut Exprs, tree: &Tree) -> ExprId {
    match tree {
        Tree::Int(value) => exprs.int(*value),
        Tree::Index(k) => exprs.index(*k),
        Tree::Size => exprs.dim(&size()),
        Tree::Table(at) => {
            let at = build(exprs, at);
            read(exprs, TABLE_PORT, at, DType::I64)
        }
        Tree::Unknown => {
            let at = exprs.index(1);
            read(exprs, UNKNOWN_PORT, at, DType::Bool)
        }
        Tree::Unary(op, a) => {
            let a = build(exprs, a);
            exprs.unary(*op, a)
        }
        Tree::Binary(op, a, b) => {
            let (a, b) = (build(exprs, a), build(exprs, b));
            exprs.binary(*op, a, b)
        }
        Tree::Divide(op, a, by) => {
            let a = build(exprs, a);
            let by = match by {
                Divisor::Int(value) => exprs.int(*value),
                Divisor::Size => exprs.dim(&size()),
                Divisor::Table => {
                    let at = exprs.index(0);
                    read(exprs, TABLE_PORT, at, DType::I64)
                }
            };
            exprs.binary(*op, a, by)
        }
        Tree::Select(c, a, b) => {
            let (c, a, b) = (build(exprs, c), build(exprs, a), build(exprs, b));
            exprs.select(c, a, b)
        }
        Tree::Cast(dtype, a) => {
            let a = build(exprs, a);
            exprs.cast(a, *dtype)
        }
    }
}

fn int() -> impl Strategy<Value = Tree> {
    let leaf = prop_oneof![
        (-4_i64..6).prop_map(Tree::Int),
        (0_usize..3).prop_map(Tree::Index),
        (1_usize..3).prop_map(Tree::Index),
        Just(Tree::Size),
    ];
    leaf.prop_recursive(4, 12, 2, |inner| {
        let pair = || (inner.clone(), inner.clone());
        let two = |op: BinaryOp| pair().prop_map(move |(a, b)| Tree::Binary(op, Box::new(a), Box::new(b)));
        let divisor = prop_oneof![
            prop::sample::select(vec![1, 2, 3, 4, 5, 7, -1, -2, -3]).prop_map(Divisor::Int),
            Just(Divisor::Size),
            Just(Divisor::Table),
        ];
        let divide = prop::sample::select(vec![BinaryOp::FloorDiv, BinaryOp::Mod]);
        prop_oneof![
            2 => two(BinaryOp::Add),
            3 => two(BinaryOp::Sub),
            1 => two(BinaryOp::Mul),
            1 => two(BinaryOp::Min),
            1 => two(BinaryOp::Max),
            1 => inner.clone().prop_map(|a| Tree::Unary(UnaryOp::Neg, Box::new(a))),
            1 => inner.clone().prop_map(|a| Tree::Unary(UnaryOp::Abs, Box::new(a))),
            1 => inner.clone().prop_map(|a| Tree::Table(Box::new(a))),
            4 => (divide, inner.clone(), divisor).prop_map(|(op, a, by)| Tree::Divide(op, Box::new(a), by)),
        ]
    })
}

fn truth(with_unknown: bool) -> impl Strategy<Value = Tree> {
    let ops = vec![BinaryOp::Eq, BinaryOp::Ne, BinaryOp::Lt, BinaryOp::Le, BinaryOp::Gt, BinaryOp::Ge];
    let compare = (prop::sample::select(ops), int(), int())
        .prop_map(|(op, a, b)| Tree::Binary(op, Box::new(a), Box::new(b)));
    let leaf = prop_oneof![
        9 => compare,
        1 => int().prop_map(|a| Tree::Cast(DType::Bool, Box::new(a))),
        1 => if with_unknown { Just(Tree::Unknown) } else { Just(Tree::Cast(DType::Bool, Box::new(Tree::Int(1)))) },
    ];
    leaf.prop_recursive(3, 8, 2, |inner| {
        let two = |op: BinaryOp| {
            (inner.clone(), inner.clone()).prop_map(move |(a, b)| Tree::Binary(op, Box::new(a), Box::new(b)))
        };
        prop_oneof![
            two(BinaryOp::And),
            two(BinaryOp::Or),
            two(BinaryOp::Eq),
            two(BinaryOp::Ne),
            inner.clone().prop_map(|a| Tree::Unary(UnaryOp::Not, Box::new(a))),
            (inner.clone(), inner.clone(), inner).prop_map(|(c, a, b)| Tree::Select(
                Box::new(c),
                Box::new(a),
                Box::new(b)
            )),
        ]
    })
}

/// Ranges of h, i and j.
fn ranges() -> impl Strategy<Value = Vec<(i64, i64)>> {
    let range = |most: i64| (0_i64..20, 0_i64..most).prop_map(|(low, more)| (low, low + more));
    (range(2), range(6), range(6)).prop_map(|(h, i, j)| vec![h, i, j])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    /// Where all is known, a tile has the class that its points have.
    #[test]
    fn classes_are_those_of_the_points(tree in truth(false), ranges in ranges(), t in 1_i64..9) {
        let mut exprs = Exprs::new();
        let id = build(&mut exprs, &tree);
        let class = Condition::new(&exprs, id).classify(&ranges, &Sizes { t });
        prop_assert_eq!(class, exact(&exprs, id, &ranges, t));
    }

    /// Whatever unknown values are, an empty tile has no point and a full one all.
    #[test]
    fn classes_hold_for_all_unknown_values(tree in truth(true), ranges in ranges(), t in 1_i64..9, seed: u64) {
        let mut exprs = Exprs::new();
        let id = build(&mut exprs, &tree);
        let class = Condition::new(&exprs, id).classify(&ranges, &Sizes { t });
        for (n, at) in points(&ranges).iter().enumerate() {
            let holds = value(&exprs, id, at, t, (seed >> (n % 64)) & 1 == 1) != 0;
            match class {
                Class::Empty => prop_assert!(!holds),
                Class::Full => prop_assert!(holds),
                Class::Partial => {}
            }
        }
    }

    /// Bounds of an integer hold at every point.
    #[test]
    fn bounds_hold(tree in int(), ranges in ranges(), t in 1_i64..9) {
        let mut exprs = Exprs::new();
        let id = build(&mut exprs, &tree);
        let Bounds { low, high } = Condition::new(&exprs, id).bounds(&ranges, &Sizes { t });
        for at in points(&ranges) {
            let value = value(&exprs, id, &at, t, false);
            prop_assert!(low.is_none_or(|low| low <= value) && high.is_none_or(|high| value <= high));
        }
    }

    /// The tests that generated code makes are as true as the classes, for any place of the tile.
    #[test]
    fn symbolic_tests_hold(tree in truth(true), ranges in ranges(), t in 1_i64..9, seed: u64) {
        let mut exprs = Exprs::new();
        let id = build(&mut exprs, &tree);
        // The ends of i and j are indices of their own; h does not vary.
        let ends: Vec<ExprId> = (3..7).map(|k| exprs.index(k)).collect();
        let tile = BTreeMap::from([(1, (ends[0], ends[1])), (2, (ends[2], ends[3]))]);
        let tests = symbolic_tests(&mut exprs, id, &tile);
        let ((i0, i1), (j0, j1)) = (ranges[1], ranges[2]);
        for h in ranges[0].0..=ranges[0].1 {
            let at = [h, 0, 0, i0, i1, j0, j1];
            for coin in [false, true] {
                let any = value(&exprs, tests.any, &at, t, coin) != 0;
                let all = value(&exprs, tests.all, &at, t, coin) != 0;
                for (n, at) in points(&[(h, h), ranges[1], ranges[2]]).iter().enumerate() {
                    let holds = value(&exprs, id, at, t, (seed >> (n % 64)) & 1 == 1) != 0;
                    prop_assert!(any || !holds, "any is false at {:?}", at);
                    prop_assert!(!all || holds, "all is true at {:?}", at);
                }
            }
        }
    }
}

fn binary(exprs: &mut Exprs, op: BinaryOp, a: ExprId, b: ExprId) -> ExprId {
    exprs.binary(op, a, b)
}

#[test]
fn one_pass_decides_a_band() {
    let mut exprs = Exprs::new();
    let (i, j, w) = (exprs.index(0), exprs.index(1), exprs.int(4));
    let apart = binary(&mut exprs, BinaryOp::Sub, i, j);
    let apart = exprs.unary(UnaryOp::Abs, apart);
    let near = binary(&mut exprs, BinaryOp::Le, apart, w);
    let condition = Condition::new(&exprs, near);
    let bounds = |i, j| condition.bounds(&[i, j], &Sizes { t: 1 });
    assert_eq!(bounds((0, 2), (0, 2)), Bounds::point(1));
    assert_eq!(bounds((0, 2), (2, 5)), Bounds::new(0, 1));
    assert_eq!(bounds((1_000_000, 1_000_015), (16, 31)), Bounds::point(0));
}

#[test]
fn work_does_not_grow_with_the_tile() {
    /// Counts the passes.
    struct Counting(std::cell::Cell<usize>);
    impl Scope for Counting {
        fn symbol(&self, _: &Symbol) -> Option<i64> {
            self.0.set(self.0.get() + 1);
            Some(1 << 40)
        }
    }
    let mut exprs = Exprs::new();
    let (i, j, t) = (exprs.index(0), exprs.index(1), exprs.dim(&size()));
    // j <= i and (i - j) % T == 0: the diagonal alone, within T.
    let causal = binary(&mut exprs, BinaryOp::Le, j, i);
    let apart = binary(&mut exprs, BinaryOp::Sub, i, j);
    let rest = binary(&mut exprs, BinaryOp::Mod, apart, t);
    let zero = exprs.int(0);
    let multiple = binary(&mut exprs, BinaryOp::Eq, rest, zero);
    let both = binary(&mut exprs, BinaryOp::And, causal, multiple);
    let condition = Condition::new(&exprs, both);
    let most = (1 << 40) - 1;
    for (i, j, class) in [
        ((0, most), (0, most), Class::Partial),
        ((1 << 30, most), (0, (1 << 30) - 1), Class::Empty),
        ((7, 7), (7, 7), Class::Full),
        ((0, most), (most, most), Class::Partial),
    ] {
        let scope = Counting(std::cell::Cell::default());
        assert_eq!(condition.classify(&[i, j], &scope), class, "{i:?} {j:?}");
        assert!(scope.0.get() < 200, "{i:?} {j:?} took {} passes", scope.0.get());
    }
}

#[test]
fn a_tile_without_points_is_empty_and_an_unknown_one_partial() {
    let mut exprs = Exprs::new();
    let yes = exprs.bool(true);
    assert_eq!(Condition::new(&exprs, yes).classify(&[(0, -1)], &Sizes { t: 1 }), Class::Empty);
    assert_eq!(Condition::new(&exprs, yes).classify(&[(0, 0)], &Sizes { t: 1 }), Class::Full);
    let at = exprs.index(0);
    let unknown = read(&mut exprs, UNKNOWN_PORT, at, DType::Bool);
    let condition = Condition::new(&exprs, unknown);
    assert_eq!(condition.classify(&[(3, 3)], &Sizes { t: 1 }), Class::Partial);
    assert_eq!(condition.classify(&[(0, i64::MAX - 1)], &Sizes { t: 1 }), Class::Partial);
    // A dimension without a value is unknown too.
    let other = exprs.dim(&Dim::symbol(Symbol::new("S", 1)));
    let within = binary(&mut exprs, BinaryOp::Lt, at, other);
    assert_eq!(Condition::new(&exprs, within).classify(&[(3, 3)], &Sizes { t: 1 }), Class::Partial);
}

#[test]
fn values_at_the_ends_of_the_range_do_not_overflow() {
    let mut exprs = Exprs::new();
    let (i, far) = (exprs.index(0), exprs.int(i64::MAX));
    let sum = binary(&mut exprs, BinaryOp::Mul, i, i);
    let sum = binary(&mut exprs, BinaryOp::Add, sum, far);
    let large = binary(&mut exprs, BinaryOp::Gt, sum, i);
    // Whether it wraps is not asked: bounds that cannot be held are none.
    assert_eq!(Condition::new(&exprs, large).classify(&[(2, 3)], &Sizes { t: 1 }), Class::Partial);
    assert_eq!(Condition::new(&exprs, sum).bounds(&[(2, 3)], &Sizes { t: 1 }), Bounds::UNKNOWN);
}

#[test]
fn generated_tests_of_a_band_are_a_few_comparisons() {
    let mut exprs = Exprs::new();
    let (i, j) = (exprs.index(0), exprs.index(1));
    let causal = binary(&mut exprs, BinaryOp::Le, j, i);
    let ends: Vec<ExprId> = (2..6).map(|k| exprs.index(k)).collect();
    let tile = BTreeMap::from([(0, (ends[0], ends[1])), (1, (ends[2], ends[3]))]);
    let before = exprs.len();
    let tests = symbolic_tests(&mut exprs, causal, &tile);
    assert!(exprs.len() - before < 24, "{} new expressions", exprs.len() - before);
    for (i0, j0) in [(0, 0), (0, 4), (4, 0), (8, 3)] {
        let at = [0, 0, i0, i0 + 3, j0, j0 + 3];
        let of = |id| value(&exprs, id, &at, 1, false) != 0;
        let class = exact(&exprs, causal, &[(i0, i0 + 3), (j0, j0 + 3)], 1);
        assert_eq!((of(tests.any), of(tests.all)), (class != Class::Empty, class == Class::Full));
    }
}

/// The pattern of a module whose one boolean tensor is `text`, over T positions of h, i and j.
fn elaborated(text: &str) -> (Exprs, ExprId) {
    let source = format!(
        "use std.attend.{{causal, window, strided, fixed}}
         pattern blocks(l: int)[i, j] = i // l == j // l
         pattern near(l: int)[i, j] = j <= i and i - j <= l
         module M {{ forward(x: [T]) -> (m: bool[T, T, T]) {{ let m[h: T, i: T, j: T] = ({text})[h, i, j] m }} }}"
    );
    let folder = std::path::Path::new(".");
    let unit = crate::driver::Compiler::new().elaborate_source("m.mdl", &source, folder).unwrap();
    let found = patterns::patterns(&unit.program);
    assert_eq!(found.len(), 1, "{text}");
    (found[0].op.exprs.clone(), found[0].condition)
}

/// What generated code tests is exact for these patterns on tiles that are aligned.
#[test]
fn generated_tests_of_known_patterns_are_exact() {
    const TILE: i64 = 8;
    for text in [
        "causal",
        "window(3)",
        "window(20)",
        "blocks(4)",
        "blocks(16)",
        "near(5)",
        "strided(8)",
        "not window(9)",
    ] {
        let (mut exprs, condition) = elaborated(text);
        let ends: Vec<ExprId> = (3..7).map(|k| exprs.index(k)).collect();
        let tile = BTreeMap::from([(1, (ends[0], ends[1])), (2, (ends[2], ends[3]))]);
        let tests = symbolic_tests(&mut exprs, condition, &tile);
        for (row, column) in (0..8).flat_map(|row| (0..8).map(move |column| (row * TILE, column * TILE))) {
            let ranges = [(0, 0), (row, row + TILE - 1), (column, column + TILE - 1)];
            let class = exact(&exprs, condition, &ranges, 64);
            let at = [0, 0, 0, ranges[1].0, ranges[1].1, ranges[2].0, ranges[2].1];
            let of = |id| value(&exprs, id, &at, 64, false) != 0;
            let found = (of(tests.any), of(tests.all));
            assert_eq!(found, (class != Class::Empty, class == Class::Full), "{text} at {row}, {column}");
        }
    }
}
