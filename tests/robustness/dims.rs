//! Sizes of 0 and 1 on ops of every family, against the reference; and sizes around 2³¹ and up to
//! 2⁶³ − 1, from options, shapes, statics and literals: an error of its kind, in checked arithmetic.

use super::process::{Mdlc, Run};
use mdlc::Compiler;
use mdlc::driver::{Error, Unit};
use mdlc::dtype::DType;
use mdlc::graph::dims::bind_dims;
use mdlc::graph::eval::{Mode, evaluate};
use mdlc::ops::init::{Init, initialise};
use mdlc::runtime::{Compiled, Weights};
use mdlc::tensor::{Data, Tensor};
use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::time::Duration;

/// A family of ops: items, members, the entry, and the sizes that it has.
struct Family {
    name: &'static str,
    members: &'static str,
    entry: &'static str,
    /// Free dimensions.
    dims: &'static [&'static str],
}

const fn family(
    name: &'static str,
    members: &'static str,
    entry: &'static str,
    dims: &'static [&'static str],
) -> Family {
    Family { name, members, entry, dims }
}

const FAMILIES: &[Family] = &[
    family("pointwise", "", "(x: [A, B]) = tanh(x) * 2 + 1", &["A", "B"]),
    family("broadcast", "", "(x: [A, B], y: [B]) = x * y - y", &["A", "B"]),
    family("product", "", "(x: [A, B], y: [B, C]) = x @ y", &["A", "B", "C"]),
    family("batched product", "", "(x: [N, A, B], y: [N, B, C]) = x @ y", &["N", "A", "B", "C"]),
    family("linear", "l = Linear(5, 7)", "(x: [A, B, 5]) = relu(l(x))", &["A", "B"]),
    family(
        "reductions",
        "",
        "(x: [A, B]) -> (a: [A], b: [A], c: [A], d: [A], e: [A], f: [B], g: []) {
            let a[i] = sum[j] x[i, j]      let b[i] = prod[j] x[i, j]
            let c[i] = mean[j] x[i, j]     let d[i] = max[j] x[i, j]
            let e[i] = logsumexp[j] x[i, j] let f[j] = min[i] x[i, j]
            let g = sum[i, j] x[i, j] ** 2
            (a, b, c, d, e, f, g)
        }",
        &["A", "B"],
    ),
    family(
        "truths",
        "",
        "(x: [A, B]) -> (a: bool[A], b: bool[A], c: i64[A], d: i64[B]) {
            let a[i] = any[j] (x[i, j] > 0.0)  let b[i] = all[j] (x[i, j] > 0.0)
            let c[i] = argmax[j] x[i, j]     let d[j] = argmin[i] x[i, j]
            (a, b, c, d)
        }",
        &["A", "B"],
    ),
    family("softmax", "", "(x: [A, B]) { let y[i, j] = softmax[j] x[i, j]  y }", &["A", "B"]),
    family("norm", "n = LayerNorm([6])", "(x: [A, B, 6]) = n(x)", &["A", "B"]),
    family("statistics", "", "(x: [A, B]) = variance(x)", &["A", "B"]),
    family("gather", "", "(t: [A, C], ids: i64[B]) { let y[b, c] = t[ids[b], c]  y }", &["A", "B", "C"]),
    family("embedding", "e = Embedding(4, 3)", "(ids: i64[A, B]) = e(ids)", &["A", "B"]),
    family(
        "segments",
        "",
        "(x: [E, C], to: i64[E], n: [A]) { let y[a: A, c] = sum[e where to[e] == a] x[e, c]  (y, n) }",
        &["A", "C", "E"],
    ),
    family(
        "joins",
        "",
        "(x: [A, B], y: [C, B]) = (concat([x, y], axis = 0), stack([x, x]))",
        &["A", "B", "C"],
    ),
    family("splits", "", "(x: [A, 6]) = (split(x, 3)[1], split(x, [1, 5])[1])", &["A"]),
    family("groups", "", "(x: [A, (G, 4)]) { let y[a, g, c: 4] = x[a, (g, c)]  y }", &["A", "G"]),
    family("top_k", "", "(x: [A, B]) = top_k(x, 1)", &["A", "B"]),
    family("convolution", "c = Conv1d(3, 4, 3, padding = 1)", "(x: [A, 3, B]) = c(x)", &["A", "B"]),
    family("strides", "c = Conv1d(3, 4, 3, stride = 2)", "(x: [A, 3, B]) = c(x)", &["A", "B"]),
    family("transposed", "c = ConvTranspose1d(3, 4, 3, stride = 2)", "(x: [A, 3, B]) = c(x)", &["A", "B"]),
    family("pooling", "", "(x: [A, B, C, C]) = max_pool2d(x, 2)", &["A", "B", "C"]),
    family("adaptive pooling", "", "(x: [A, B]) = adaptive_avg_pool1d(x, 2)", &["A", "B"]),
    family("shifts", "", "(x: [A, B]) { let y[a, b: B] = x[a, b + 1 else 0.5]  y }", &["A", "B"]),
    family("prefix", "", "(x: [A, B]) = cumsum(x)", &["A", "B"]),
    family("windows", "", "(x: [A, B]) = roll(flip(x), 2)", &["A", "B"]),
    family(
        "attention",
        "",
        "(q: [N, H, A, K], k: [N, H, B, K], v: [N, H, B, K]) = attend(q, k, v)",
        &["N", "H", "A", "B", "K"],
    ),
    family(
        "masked",
        "",
        "(q: [N, H, A, K], keep: bool[N, A]) = attend(q, q, q, mask = causal and padding(keep))",
        &["N", "H", "A", "K"],
    ),
    family(
        "recurrence",
        "",
        "(x: [A, T], h0: [A]) {
            recur t in 0..T { init h[:, t - 1] = h0
                h[:, t] = h[:, t - 1] * 0.5 + x[:, t] }
            h
        }",
        &["A", "T"],
    ),
    family("lstm", "l = LSTM(3, 4, bidirectional = true)", "(x: [T, A, 3]) = l(x)[0]", &["A", "T"]),
    family("positions", "", "(x: [A, T, 6]) = x + sinusoidal(T, 6)", &["A", "T"]),
    family("table", "", "(x: [A]) { let y[i: A, j: A] = (i * 3 - j) // 2 % 5  (y, x) }", &["A"]),
    family("diagonal", "", "(x: [A, A]) { let y[i] = x[i, i]  (y, x.T, tril(x)) }", &["A"]),
];

impl Family {
    fn text(&self) -> String {
        format!("module M() {{ {}\nforward{} }}\nmodel m = M()\n", self.members, self.entry)
    }
}

fn unit_of(compiler: &Compiler, text: &str) -> Result<Unit, Error> {
    compiler.elaborate_source("m.mdl", text, Path::new("."))
}

/// Inputs of the given sizes: reals around zero, small integers, truths by turns.
fn inputs_of(unit: &Unit, size: &dyn Fn(&str) -> i64) -> Vec<Tensor> {
    let ports = unit.program.signature.inputs.iter();
    ports
        .map(|port| {
            let shape = port.ty.shape.iter().map(|d| d.eval(&|s| Some(size(s.name()))).unwrap() as usize);
            let shape: Vec<usize> = shape.collect();
            let count: usize = shape.iter().product();
            match port.ty.dtype {
                DType::I64 => Tensor::new(shape, vec![0i64; count]).unwrap(),
                DType::Bool => {
                    Tensor::new(shape, (0..count).map(|k| k % 3 != 1).collect::<Vec<_>>()).unwrap()
                }
                dtype => initialise(&Init::Normal(1.0), dtype, &shape, &port.name, 3).unwrap(),
            }
        })
        .collect()
}

/// The outcome of the reference and of native code; errors by their exit code.
fn outcomes(unit: &Unit, compiled: &Compiled, inputs: &[Tensor]) -> [Result<Vec<Tensor>, u8>; 2] {
    let program = &unit.program;
    let initialised = Weights::initialised(1);
    let weights = initialised.ordered(&program.signature).unwrap();
    let shapes: Vec<&[usize]> = inputs.iter().map(Tensor::shape).collect();
    let reference = bind_dims(&program.signature, &program.checks, &shapes)
        .map_err(|e| e.to_diagnostic().exit_code())
        .and_then(|dims| {
            let result = evaluate(program, inputs, &weights, &dims, Mode::Declared);
            result.map_err(|e| e.to_diagnostic().exit_code())
        });
    let model = compiled.bind(&initialised).unwrap();
    let named = program.signature.inputs.iter().zip(inputs).map(|(p, t)| (p.name.as_str(), t.view()));
    let native = model.call(named).map_err(|e| e.to_diagnostic().exit_code());
    [reference, native.map(|outputs| outputs.into_tensors().into_values().collect())]
}

fn agree(reference: &Tensor, native: &Tensor) -> bool {
    let (Data::F32(want), Data::F32(got)) = (reference.data(), native.data()) else {
        return reference == native;
    };
    let near =
        |w: f32, g: f32| w == g || (w.is_nan() && g.is_nan()) || (w - g).abs() <= 1e-5 * (1.0 + w.abs());
    reference.shape() == native.shape() && want.iter().zip(got).all(|(w, g)| near(*w, *g))
}

/// Every dimension at 0, 1 and 2 while the others are 3, all at 0, and all at 1.
#[test]
fn nothing_and_one_are_sizes_like_others() {
    let mut wrong = String::new();
    let (mut computed, mut refused) = (0, 0);
    for family in FAMILIES {
        let mut unit =
            unit_of(&Compiler::new(), &family.text()).unwrap_or_else(|e| panic!("{}: {e}", family.name));
        let origin = unit_of(&Compiler::new(), &family.text()).unwrap();
        unit.optimise(None).unwrap();
        let loops = unit.lower().unwrap();
        let compiled = unit.generate(loops, false).unwrap();
        let mut choices: Vec<Vec<i64>> = vec![vec![0; family.dims.len()], vec![1; family.dims.len()]];
        for k in 0..family.dims.len() {
            for size in 0..3 {
                let mut sizes = vec![3; family.dims.len()];
                sizes[k] = size;
                choices.push(sizes);
            }
        }
        for sizes in choices {
            let of = |name: &str| family.dims.iter().position(|d| *d == name).map_or(3, |k| sizes[k]);
            let inputs = inputs_of(&origin, &of);
            let place = format!("{} at {:?} = {sizes:?}", family.name, family.dims);
            match outcomes(&origin, &compiled, &inputs) {
                [Ok(want), Ok(got)] => {
                    computed += 1;
                    if !want.iter().zip(&got).all(|(w, g)| agree(w, g)) {
                        let _ = writeln!(wrong, "{place}: {got:?}, expected {want:?}");
                    }
                }
                // A gather from nothing, the greatest of nothing.
                [Err(1), Err(1)] => refused += 1,
                [a, b] => {
                    let _ = writeln!(wrong, "{place}: the reference gives {a:?}, native code {b:?}");
                }
            }
        }
    }
    println!("{computed} calls computed, {refused} refused");
    assert!(computed > 10 * refused, "{refused} calls were refused");
    assert!(wrong.is_empty(), "{wrong}");
}

const HUGE: [i64; 6] = [(1 << 31) - 1, 1 << 31, (1 << 31) + 1, 1 << 32, i64::MAX - 1, i64::MAX];

/// # Units
/// MiB of address space: what needs a size around 2³¹ does not fit, and says so.
const MEMORY: usize = 1500;

/// No run here computes much: it is refused before.
const TIME: Duration = Duration::from_secs(30);

fn judge(run: &Run, codes: &[i32], what: &str, wrong: &mut String) {
    if !codes.contains(&run.code) || run.time > TIME {
        let _ = writeln!(wrong, "{what}: code {} after {:?}\n{}", run.code, run.time, run.stderr);
    }
}

/// `--dim` at huge sizes: everything that is as large as the size is refused as a limit.
#[test]
fn huge_free_dimensions_are_limits() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.mdl");
    let mut wrong = String::new();
    for family in FAMILIES {
        fs::write(&path, family.text()).unwrap();
        for dim in family.dims {
            for size in HUGE {
                let run = Mdlc::new(["run"]).arg(&path).arg("--dim").arg(format!("{dim}={size}"));
                let run = run.address_space(MEMORY).run_unchecked();
                judge(&run, &[1, 4], &format!("{} at {dim} = {size}", family.name), &mut wrong);
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

/// Statics that are sizes, with the text of a module over `N` and what may come out.
const STATICS: &[(&str, &str, &str)] = &[
    ("a weight", "param w: [N] = ones()", "(x: [B, N]) = x * w"),
    ("a matrix", "param w: [N, N] = ones()", "(x: [B, N]) = x @ w"),
    ("a cube", "param w: [N, N, N] = ones()", "(x: [N]) { let y[i] = sum[j, k] w[i, j, k] * x[i]  y }"),
    ("four times", "param w: [4 * N] = ones()", "(x: [B, 4 * N]) = x * w"),
    ("one more", "param w: [N + 1] = ones()", "(x: [B, N + 1]) = x * w"),
    ("one less", "param w: [N - 1] = ones()", "(x: [B, N - 1]) = x * w"),
    ("a quotient", "param w: [12 // N] = ones()", "(x: [B, 12 // N]) = x * w"),
    ("a remainder", "param w: [12 % N + 1] = ones()", "(x: [B, 12 % N + 1]) = x * w"),
    ("a power", "param w: [N ** 3] = ones()", "(x: [B, N ** 3]) = x * w"),
    ("linear", "l = Linear(N, N)", "(x: [B, N]) = l(x)"),
    ("norm", "n = LayerNorm([N])", "(x: [B, N]) = n(x)"),
    ("embedding", "e = Embedding(N, 3)", "(ids: i64[B]) = e(ids)"),
    ("heads", "", "(x: [B, T, 12]) { let y[b, h: N, t, d] = x[b, t, (h, d)]  y }"),
    ("channels", "c = Conv1d(N, N, 3)", "(x: [B, N, L]) = c(x)"),
    ("a kernel", "c = Conv1d(2, 2, N)", "(x: [B, 2, L]) = c(x)"),
    ("a stride", "c = Conv1d(2, 2, 3, stride = N)", "(x: [B, 2, L]) = c(x)"),
    ("padding", "c = Conv1d(2, 2, 3, padding = N)", "(x: [B, 2, L]) = c(x)"),
    ("dilation", "c = Conv1d(2, 2, 3, dilation = N)", "(x: [B, 2, L]) = c(x)"),
    ("groups", "c = Conv1d(4, 4, 3, groups = N)", "(x: [B, 4, L]) = c(x)"),
    ("a list", "l = [Linear(2, 2); N]", "(x: [B, 2]) = l(x)"),
    ("a loop", "for i in 0..N { `l{i}` = Linear(2, 2) }", "(x: [B, 2]) = x"),
    ("turns", "", "(x: [B, 2]) { for i in 0..N { x = x + 1 }  x }"),
    ("an index", "", "(x: [B, 2]) { let y[b, i: N] = x[b, 0] * i  y }"),
    ("an offset", "", "(x: [B, 4]) { let y[b, i: 4] = x[b, i + N else 0.5]  y }"),
    ("an offset without else", "", "(x: [B, 4]) { let y[b, i: 2] = x[b, i + N]  y }"),
    ("a multiple", "", "(x: [B, 4]) { let y[b, i: 4] = x[b, i * N else 0.5]  y }"),
    ("a divided index", "", "(x: [B, 4]) { let y[b, i: 4] = x[b, i // N else 0.5]  y }"),
    ("a split", "", "(x: [B, 12]) = split(x, N)[0]"),
    ("top_k", "", "(x: [B, 4]) = top_k(x, N)"),
    ("a window", "", "(x: [B, 8]) = max_pool1d(x, N)"),
    ("a resize", "use_n = [N]", "(x: [B, 8]) = adaptive_avg_pool1d(x, N)"),
    (
        "a lag",
        "",
        "(x: [B, T]) { recur t in 0..T { init h[:, t - N] = 0  h[:, t] = h[:, t - N] + x[:, t] }  h }",
    ),
    ("an exponent", "", "(x: [B, 4]) = x ** N"),
    ("a number", "", "(x: [B, 4]) = x * N"),
    ("a shift of steps", "", "(x: [B, 4]) = roll(x, N)"),
    ("a diagonal", "", "(x: [A, A]) = tril(x, N)"),
    ("experts", "e = [Linear(2, 2); N]", "(x: [B, 2], c: i64[B]) { let y[b, d] = e[c[b]](x[b, :])[d]  y }"),
    ("a band", "", "(q: [1, 1, T, 4]) = attend(q, q, q, mask = window(N))"),
];

/// Statics at extreme values, from `--set`, from a literal, and from the size of an input.
#[test]
fn extreme_statics_are_computed_or_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.mdl");
    let mut wrong = String::new();
    let extremes = [-1, 0, 1, i64::MIN + 1].into_iter().chain(HUGE);
    for (k, size) in extremes.enumerate() {
        for (name, members, entry) in STATICS {
            let module = format!("module M(N) {{ {members}\nforward{entry} }}\n");
            // Options and literals by turns: the arithmetic behind both is one.
            let run = if k % 2 == 0 {
                fs::write(&path, format!("{module}model m = M(4)\n")).unwrap();
                Mdlc::new(["run"]).arg(&path).arg("--set").arg(format!("N={size}"))
            } else {
                fs::write(&path, format!("{module}model m = M({size})\n")).unwrap();
                Mdlc::new(["run"]).arg(&path)
            };
            let run = run.address_space(MEMORY).run_unchecked();
            judge(&run, &[0, 1, 4], &format!("{name} at N = {size}"), &mut wrong);
            let divides = ["a quotient", "a remainder", "a divided index", "heads"].contains(name);
            if divides && size == 0 && run.code != 1 {
                let _ = writeln!(wrong, "{name}: division by zero gives code {}", run.code);
            }
            if size < 0 && ["a weight", "linear", "a list", "embedding"].contains(name) && run.code == 0 {
                let _ = writeln!(wrong, "{name}: a negative size is accepted");
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

/// `--shape` and `--dim` that are no sizes.
#[test]
fn shapes_that_are_none_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.mdl");
    fs::write(&path, "module M() { forward(x: [.., 3]) = x * 2 }\nmodel m = M()\n").unwrap();
    for (axes, codes) in [
        ("2,3", &[0][..]),
        ("0,3", &[0]),
        ("3", &[0]),
        ("1,1,1,1,1,1,1,3", &[0]),
        ("1,1,1,1,1,1,1,1,3", &[1]),
        ("-1,3", &[1, 2]),
        ("2,4", &[1]),
        ("2,,3", &[1, 2]),
        ("B,B,3", &[0]),
        ("2 + 1,3", &[1, 2]),
        ("9223372036854775807,3", &[4]),
        ("4611686018427387904,4,3", &[4]),
        ("9223372036854775808,3", &[1, 2, 4]),
        ("2147483648,2147483648,3", &[4]),
        ("0,9223372036854775807,3", &[0, 4]),
        ("é,3", &[1, 2]),
    ] {
        let run = Mdlc::new(["run"]).arg(&path).arg("--shape").arg(format!("x={axes}"));
        let run = run.address_space(MEMORY).run();
        assert!(codes.contains(&run.code), "{axes}: code {}\n{}", run.code, run.stderr);
    }
    fs::write(&path, "module M() { forward(x: [B, 3]) = x * 2 }\nmodel m = M()\n").unwrap();
    for (dim, codes) in [
        ("B=0", &[0][..]),
        ("B=-1", &[1, 2]),
        ("B=9223372036854775808", &[2]),
        ("B=", &[2]),
        ("B=1.5", &[2]),
        ("C=1", &[1]),
    ] {
        let run = Mdlc::new(["run"]).arg(&path).arg("--dim").arg(dim).address_space(MEMORY).run();
        assert!(codes.contains(&run.code), "{dim}: code {}\n{}", run.code, run.stderr);
    }
}
