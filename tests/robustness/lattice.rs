//! Special values through every op and every reducer: native code against the reference, which follows
//! IEEE 754 in the declared types. Zeros keep their sign, NaN and infinity go where they should, in full
//! vectors and in what is left over at their end.

use mdlc::Compiler;
use mdlc::graph::dims::bind_dims;
use mdlc::graph::eval::{Mode, evaluate};
use mdlc::runtime::Weights;
use mdlc::tensor::{Data, Tensor};
use std::fmt::Write;
use std::path::Path;

/// Reals at the edges of everything, and some in between. Their number leaves a rest at any width.
const REALS: [f32; 37] = [
    0.0,
    -0.0,
    1.0,
    -1.0,
    0.5,
    -0.5,
    1.5,
    -1.5,
    2.5,
    -2.5,
    f32::INFINITY,
    f32::NEG_INFINITY,
    f32::NAN,
    -f32::NAN,
    f32::MAX,
    f32::MIN,
    f32::MIN_POSITIVE,
    -f32::MIN_POSITIVE,
    f32::from_bits(1),
    -f32::from_bits(1),
    f32::from_bits(0x007f_ffff),
    f32::EPSILON,
    -f32::EPSILON,
    0.999_999_94,
    1.000_000_1,
    16_777_216.0,
    -16_777_217.0,
    2_147_483_648.0,
    -2_147_483_648.0,
    9_223_372_036_854_775_807.0,
    -9_223_372_036_854_775_808.0,
    1e-30,
    88.722_84,
    -87.336_55,
    104.0,
    -104.0,
    1e30,
];

const INTEGERS: [i64; 19] = [
    0,
    1,
    -1,
    2,
    -2,
    3,
    -3,
    7,
    -7,
    i32::MAX as i64,
    i32::MIN as i64,
    1 << 31,
    1 << 32,
    -(1 << 32) - 1,
    1 << 53,
    i64::MAX,
    i64::MAX - 1,
    i64::MIN,
    i64::MIN + 1,
];

/// How near native code must be.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Near {
    /// The same bits, but for the kind of NaN.
    Exact,
    /// So many units in the last place; zeros, infinities and NaN are exact.
    Ulps(u32),
    /// Sums and products, whose order is free.
    Sum,
}

fn near_f32(want: f32, got: f32, near: Near) -> bool {
    if want.is_nan() || got.is_nan() {
        return want.is_nan() && got.is_nan();
    }
    if want.to_bits() == got.to_bits() {
        return true;
    }
    match near {
        Near::Exact => false,
        // A sum of nothing but zeros may have either sign: the first addend is free.
        Near::Sum => want == got || (want - got).abs() <= 1e-5 * want.abs(),
        Near::Ulps(ulps) => {
            let ordered =
                |x: f32| if x < 0.0 { -f64::from(x.abs().to_bits()) } else { f64::from(x.to_bits()) };
            want != 0.0 && want.is_finite() && (ordered(want) - ordered(got)).abs() <= f64::from(ulps)
        }
    }
}

/// The first element that differs.
fn difference(want: &Tensor, got: &Tensor, near: Near) -> Option<String> {
    if want.shape() != got.shape() || want.dtype() != got.dtype() {
        return Some(format!("{:?}, expected {:?}", got.shape(), want.shape()));
    }
    match (want.data(), got.data()) {
        (Data::F32(want), Data::F32(got)) => {
            let at = want.iter().zip(got).position(|(w, g)| !near_f32(*w, *g, near))?;
            Some(format!("element {at} is {:?}, expected {:?}", got[at], want[at]))
        }
        (Data::F64(want), Data::F64(got)) => {
            let same = |w: &f64, g: &f64| w.to_bits() == g.to_bits() || (w.is_nan() && g.is_nan());
            let at = want.iter().zip(got).position(|(w, g)| !same(w, g))?;
            Some(format!("element {at} is {:?}, expected {:?}", got[at], want[at]))
        }
        (want, got) if want == got => None,
        (want, got) => Some(format!("{got:?}\nexpected {want:?}")),
    }
}

/// Runs a program both ways and tells the first difference.
fn check(what: &str, entry: &str, inputs: &[Tensor], near: Near, wrong: &mut String) {
    let text = format!("module M() {{ forward{entry} }}\nmodel m = M()\n");
    let compiler = Compiler::new();
    let mut unit =
        compiler.elaborate_source("m.mdl", &text, Path::new(".")).unwrap_or_else(|e| panic!("{what}: {e}"));
    let program = unit.program.clone();
    let shapes: Vec<&[usize]> = inputs.iter().map(Tensor::shape).collect();
    let dims = bind_dims(&program.signature, &program.checks, &shapes).unwrap();
    let want = evaluate(&program, inputs, &[] as &[Tensor], &dims, Mode::Declared);
    unit.optimise(None).unwrap();
    let loops = unit.lower().unwrap();
    let model = unit.generate(loops, false).unwrap().bind(&Weights::new()).unwrap();
    let named = program.signature.inputs.iter().zip(inputs).map(|(p, t)| (p.name.as_str(), t.view()));
    let told = match (want, model.call(named)) {
        (Ok(want), Ok(got)) => {
            let pairs = want.iter().zip(got.iter());
            pairs.filter_map(|(w, (name, g))| Some(format!("`{name}`: {}", difference(w, g, near)?))).next()
        }
        (Err(_), Err(_)) => None,
        (want, got) => Some(format!("the reference gives {want:?}, native code {got:?}")),
    };
    if let Some(told) = told {
        let _ = writeln!(wrong, "{what}: {told}");
    }
}

fn reals() -> Tensor {
    Tensor::new([REALS.len()], REALS.to_vec()).unwrap()
}

fn integers() -> Tensor {
    Tensor::new([INTEGERS.len()], INTEGERS.to_vec()).unwrap()
}

#[test]
fn functions_of_one_real() {
    let mut wrong = String::new();
    for exact in [
        "-x", "abs(x)", "sign(x)", "sqrt(x)", "floor(x)", "ceil(x)", "round(x)", "trunc(x)", "relu(x)",
        "x ** 2",
    ] {
        check(exact, &format!("(x: [N]) = {exact}"), &[reals()], Near::Exact, &mut wrong);
    }
    for function in ["exp", "expm1", "log", "log1p", "sin", "cos", "tan", "tanh", "sigmoid", "erf", "rsqrt"] {
        check(function, &format!("(x: [N]) = {function}(x)"), &[reals()], Near::Ulps(4), &mut wrong);
    }
    for cast in ["i64", "i32", "bool", "f64"] {
        check(cast, &format!("(x: [N]) = {cast}(x)"), &[reals()], Near::Exact, &mut wrong);
    }
    check("f64 and back", "(x: [N]) = f32(f64(x) * f64(x))", &[reals()], Near::Exact, &mut wrong);
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn functions_of_one_integer() {
    let mut wrong = String::new();
    for op in [
        "-x",
        "abs(x)",
        "sign(x)",
        "f32(x)",
        "f64(x)",
        "i32(x)",
        "bool(x)",
        "x * x",
        "x + 1",
        "x - 1",
        "i64(i32(x))",
    ] {
        check(op, &format!("(x: i64[N]) = {op}"), &[integers()], Near::Exact, &mut wrong);
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn operations_of_two_reals() {
    let mut wrong = String::new();
    let both = [reals(), reals()];
    for op in ["a + b", "a - b", "a * b", "a / b", "min(a, b)", "max(a, b)", "if a < b { a } else { b }"] {
        let entry = format!("(x: [N], y: [M]) {{ let z[i, j] = {}  z }}", of_elements(op));
        check(op, &entry, &both, Near::Exact, &mut wrong);
    }
    for op in ["a == b", "a != b", "a < b", "a <= b", "a > b", "a >= b", "not a < b", "a < b or a > b"] {
        let entry = format!("(x: [N], y: [M]) {{ let z[i, j] = {}  z }}", of_elements(op));
        check(op, &entry, &both, Near::Exact, &mut wrong);
    }
    let entry = "(x: [N], y: [M]) { let z[i, j] = x[i] ** y[j]  z }";
    check("a ** b", entry, &both, Near::Ulps(8), &mut wrong);
    assert!(wrong.is_empty(), "{wrong}");
}

fn of_elements(op: &str) -> String {
    op.split(' ')
        .map(|word| word.replace('a', "x[i]").replace('b', "y[j]"))
        .collect::<Vec<_>>()
        .join(" ")
        .replace("mx[i]x", "max")
}

#[test]
fn operations_of_two_integers() {
    let mut wrong = String::new();
    let both = [integers(), integers()];
    let nonzero: Vec<i64> = INTEGERS.iter().copied().filter(|v| *v != 0).collect();
    let divisors = [integers(), Tensor::new([nonzero.len()], nonzero).unwrap()];
    for op in ["a + b", "a - b", "a * b", "min(a, b)", "max(a, b)", "a == b", "a < b", "a >= b"] {
        let entry = format!("(x: i64[N], y: i64[M]) {{ let z[i, j] = {}  z }}", of_elements(op));
        check(op, &entry, &both, Near::Exact, &mut wrong);
    }
    for op in ["a // b", "a % b"] {
        let entry = format!("(x: i64[N], y: i64[M]) {{ let z[i, j] = {}  z }}", of_elements(op));
        check(op, &entry, &divisors, Near::Exact, &mut wrong);
        // A zero among the divisors is an error in both.
        check(op, &entry, &both, Near::Exact, &mut wrong);
        let narrow = format!("(x: i64[N], y: i64[M]) {{ let z[i, j] = {}  z }}", of_elements(op))
            .replace("x[i]", "i32(x[i])")
            .replace("y[j]", "i32(2 * (y[j] % 5) + 1)");
        check(&format!("{op} of i32"), &narrow, &divisors, Near::Exact, &mut wrong);
    }
    assert!(wrong.is_empty(), "{wrong}");
}

/// Rows of `width` elements: an ordinary one everywhere but at one place, where each special value
/// stands in turn; the places include the ends of vectors and what is left over.
fn rows(width: usize) -> Tensor {
    let places = [0, 3, 4, 7, 8, 15, 16, 31, 32, width - 1];
    let mut elements = Vec::new();
    for value in REALS {
        for place in places.iter().filter(|place| **place < width) {
            let mut row: Vec<f32> = (0..width).map(|k| 0.25 * (k as f32 % 5.0)).collect();
            row[*place] = value;
            elements.extend(row);
        }
    }
    Tensor::new([elements.len() / width, width], elements).unwrap()
}

/// Rows of three special values each, all of them.
fn triples() -> Tensor {
    let few: Vec<f32> =
        REALS.iter().copied().filter(|v| v.is_nan() || v.abs() != f32::MAX).step_by(2).collect();
    let mut elements = Vec::new();
    for a in &few {
        for b in &few {
            for c in &few {
                elements.extend([*a, *b, *c]);
            }
        }
    }
    Tensor::new([elements.len() / 3, 3], elements).unwrap()
}

/// Rows of zeros among which one has the other sign.
fn zeros() -> Tensor {
    let mut elements = Vec::new();
    for sign in [0.0f32, -0.0] {
        for place in 0..37 {
            elements.extend((0..37).map(|k| if k == place { -sign } else { sign }));
        }
    }
    Tensor::new([74, 37], elements).unwrap()
}

#[test]
fn reducers_of_rows_with_special_values() {
    let mut wrong = String::new();
    let inputs = [("triples", triples()), ("37 wide", rows(37)), ("64 wide", rows(64)), ("zeros", zeros())];
    for (name, input) in inputs {
        for (reducer, near) in [
            ("max", Near::Exact),
            ("min", Near::Exact),
            ("argmax", Near::Exact),
            ("argmin", Near::Exact),
            ("sum", Near::Sum),
            ("mean", Near::Sum),
        ] {
            let entry = format!("(x: [A, B]) {{ let y[i] = {reducer}[j] x[i, j]  y }}");
            check(&format!("{reducer} of {name}"), &entry, std::slice::from_ref(&input), near, &mut wrong);
        }
        for test in ["any", "all"] {
            let entry = format!("(x: [A, B]) {{ let y[i] = {test}[j] (x[i, j] > 0.0)  y }}");
            check(
                &format!("{test} of {name}"),
                &entry,
                std::slice::from_ref(&input),
                Near::Exact,
                &mut wrong,
            );
        }
        let entry = "(x: [A, B]) { let y[j] = max[i] x[i, j]  let z[j] = min[i where x[i, j] == x[i, j]] x[i, j]  (y, z) }";
        check(&format!("columns of {name}"), entry, std::slice::from_ref(&input), Near::Exact, &mut wrong);
    }
    assert!(wrong.is_empty(), "{wrong}");
}

/// Softmax and its kin: infinities and NaN in a row, rows of them alone, rows that are masked out.
#[test]
fn normalisers_of_rows_with_special_values() {
    let mut wrong = String::new();
    for (name, input) in [("triples", triples()), ("37 wide", rows(37))] {
        for entry in [
            "(x: [A, B]) { let y[i, j] = softmax[j] x[i, j]  y }",
            "(x: [A, B]) { let y[i, j] = log_softmax[j] x[i, j]  y }",
            "(x: [A, B]) { let y[i] = logsumexp[j] x[i, j]  y }",
            "(x: [A, B]) { let y[i, j] = softmax[j where x[i, j] > 0.0] x[i, j]  y }",
            "(x: [A, B]) { let y[i, j] = softmax[j where i % 2 == 0] x[i, j]  y }",
        ] {
            check(&format!("{entry} of {name}"), entry, std::slice::from_ref(&input), Near::Sum, &mut wrong);
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

/// A product in which each special value meets zeros, infinities and ordinary numbers: 0 * inf is NaN, and
/// nothing else of the row or column is disturbed. Padded and packed operands bring nothing in.
#[test]
fn products_with_special_values() {
    let mut wrong = String::new();
    let special = |rows: usize, columns: usize, step: usize| {
        let element = |k: usize| {
            if k.is_multiple_of(step) { REALS[(k / step) % REALS.len()] } else { 0.25 * (k % 7) as f32 }
        };
        let all: Vec<f32> = (0..rows * columns)
            .map(element)
            .map(|v| if v.is_nan() || v.abs() < 1e20 || v.is_infinite() { v } else { 1.0 })
            .collect();
        Tensor::new([rows, columns], all).unwrap()
    };
    for (m, k, n) in [(1, 5, 9), (3, 17, 5), (5, 33, 37), (19, 8, 16)] {
        let inputs = [special(m, k, 11), special(k, n, 13)];
        for entry in [
            "(x: [A, B], y: [B, C]) = x @ y",
            "(x: [A, B], y: [B, C]) { let z[a, c] = relu((sum[b] x[a, b] * y[b, c]) + 1.0)  z }",
        ] {
            check(&format!("{m} x {k} x {n}: {entry}"), entry, &inputs, Near::Sum, &mut wrong);
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}
