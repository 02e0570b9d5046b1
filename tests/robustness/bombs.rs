//! Small sources that ask for much: each is refused early, in bounded memory.

use super::process::Mdlc;
use Outcome::{Errs, Limits, May, Says};
use std::fmt::Write;
use std::fs;

/// # Units
/// MiB of address space: the stacks of the parser and of elaboration (576, reserved and not used),
/// the program with its libraries, and 64 to work with.
const MEMORY: usize = 576 + 24 + 64;

/// # Units
/// The same for what is long rather than deep: a megabyte of text, and as many operations as there
/// may be, take their share.
const MEMORY_OF_LONG: usize = MEMORY + 448;

/// Of a processor, so that other work on the machine does not count. Release builds take a tenth of a
/// second at most; the rest is for debug builds.
///
/// # Units
/// Seconds.
const TIME: u32 = if cfg!(debug_assertions) { 10 } else { 1 };

/// What a bomb comes to.
#[derive(Clone, Copy, Debug)]
enum Outcome {
    /// Code 4.
    Limits,
    /// Code 1 or 4.
    Errs,
    /// Code 1 or 4, with these words.
    Says(&'static str),
    /// Code 0 or 4: it is large, and not wrong.
    May,
}

type Bomb = (&'static str, Outcome, String);

/// A module around a static computation, which is what its default argument computes.
fn of_static(items: &str, value: &str) -> String {
    format!("{items}\nmodule M(v = {value}) {{ forward(x: [B, 4]) = x }}\nmodel m = M()\n")
}

/// A module whose argument is what a function of this body computes.
fn of_function(body: &str) -> String {
    of_static(&format!("fn f() {{ {body} }}"), "f()")
}

/// A module with the given statements in its entry.
fn of_body(items: &str, body: &str) -> String {
    format!("{items}\nmodule M() {{ forward(x: [B, 4]) {{\n{body}\n}} }}\nmodel m = M()\n")
}

/// A module with the given members.
fn of_members(items: &str, members: &str) -> String {
    format!("{items}\nmodule M() {{ {members}\nforward(x: [B, 4]) = x }}\nmodel m = M()\n")
}

/// `bottom`, then levels that each name the one `BELOW` it.
fn tower(levels: usize, bottom: &str, level: &str) -> String {
    let mut text = format!("{bottom}\n");
    for k in 1..=levels {
        let line = level.replace("HERE", &k.to_string()).replace("BELOW", &(k - 1).to_string());
        let _ = writeln!(text, "{line}");
    }
    text
}

fn instances(members: &str) -> String {
    let bottom = "module L0() { param w: [2] = zeros()\n forward(x: [B, 4]) = x }";
    let level = format!("module LHERE() {{ {members} forward(x: [B, 4]) = x }}");
    of_members(&tower(64, bottom, &level), "top = L64()")
}

/// A function that does something to a value over and over.
fn repeated(kind: &str, first: &str, step: &str) -> String {
    format!("fn f(n: int) -> {kind} {{ let l = {first}\n for i in 0..n {{ l = {step} }}\n l }}")
}

fn exponential() -> Vec<Bomb> {
    let module = "module L0() { param w: [2] = zeros()\n forward(x: [B, 4]) = x + 1 }";
    let applied = "module LHERE() { a = LBELOW()\n forward(x: [B, 4]) = a(a(x)) }";
    let calls = "fn fHERE(x: int) -> int = fBELOW(x) + fBELOW(x + 1)";
    let tensors = "fn fHERE(x: [..]) -> [..] = fBELOW(fBELOW(x))";
    let wrap = "module W(a: module, b: module) { c = a }";
    let causal = "let p = f(64)\nlet y[b, i] = if p[b, i] { x[b, i] } else { 0 }\ny";
    vec![
        ("2^64 instances by members", Limits, instances("a = LBELOW()\n b = LBELOW()\n")),
        ("2^64 instances by lists", Limits, instances("a = [LBELOW(); 2]\n")),
        ("2^64 instances by loops", Limits, instances("for i in 0..2 { `a{i}` = LBELOW() }\n")),
        ("2^64 calls", Limits, of_static(&tower(64, "fn f0(x: int) -> int = x", calls), "f64(1)")),
        (
            "2^64 applications of shared modules",
            May,
            of_members(&tower(64, module, applied), "a = L64()")
                .replace(") = x }\nmodel", ") = a(x) }\nmodel"),
        ),
        (
            "2^40 applications of functions",
            Limits,
            of_body(&tower(40, "fn f0(x: [..]) -> [..] = x * 2", tensors), "f40(x)"),
        ),
        ("a list that doubles", Limits, of_static(&repeated("list", "[1]", "l ++ l"), "f(64)")),
        ("lists in lists", Limits, of_static(&repeated("list", "[1]", "[l, l]"), "f(64)")),
        ("tuples in tuples", Limits, of_static(&repeated("list", "(1, 1)", "(l, l)"), "f(64)")),
        ("a text that doubles", Limits, of_static(&repeated("str", "\"ab\"", "l ++ l"), "f(64)")),
        (
            "descriptions of modules that double",
            Limits,
            of_members(&format!("{wrap}\n{}", repeated("module", "Linear(1, 1)", "W(l, l)")), "l = f(64)"),
        ),
        ("patterns that double", Limits, of_body(&repeated("pattern", "causal", "l and not l"), causal)),
        ("a shared exact real", May, of_body("", "let s = sqrt(B)\nfor i in 0..64 { s = s * s + s }\nx * s")),
        ("a shared index", May, shared("k % 4", "let y[b: B, i: 4] = x[b, f(i)]\ny")),
        ("a shared condition", May, shared("k % 4 == 0", "let y[b: B] = sum[i: 4 where f(i)] x[b, i]\ny")),
        ("a shared element", May, shared("k", "let y[b, i] = f(x[b, i])\ny")),
        ("a size that squares", Says("too complex"), of_size("n * n", 40)),
        ("a size of shared parts", Says("too complex"), of_size("min(n * 2, n + i)", 64)),
    ]
}

/// A function whose value holds itself twice at every of 64 levels.
fn shared(result: &str, body: &str) -> String {
    of_body(&format!("fn f(k) {{ for i in 0..64 {{ k = k * k + k }}\n {result} }}"), body)
}

/// A size that starts as `B` and goes through `step`.
fn of_size(step: &str, turns: usize) -> String {
    of_body("", &format!("let n = B\nfor i in 0..{turns} {{ n = {step} }}\nlet y[i: n] = 0.0\ny"))
}

fn recursive() -> Vec<Bomb> {
    let long =
        tower(400, "module L0() { forward(x) = x }", "module LHERE() { a = LBELOW()\n forward(x) = a(x) }");
    vec![
        ("a module in itself", Says("M > M"), of_members("", "a = M()")),
        (
            "modules in each other",
            Says("A > B > C > A"),
            of_members("module A() { b = B() }\nmodule B() { c = C() }\nmodule C() { a = A() }", "a = A()"),
        ),
        ("a module in its argument", Errs, of_members("module A(m: module) { a = m(m) }", "a = A(A)")),
        ("a module that grows", Errs, of_members("module A(n) { a = A(n + 1) }", "a = A(0)")),
        ("a function in itself", Says("f > f"), of_static("fn f(x: int) -> int = f(x + 1)", "f(1)")),
        (
            "functions in each other",
            Says("f > g > h > f"),
            of_static("fn f(x) = g(x)\nfn g(x) = h(x)\nfn h(x) = f(x)", "f(1)"),
        ),
        ("a function that is its argument", Says("f > f"), of_static("fn f(g: fn) = g(g)", "f(f)")),
        ("a function of a tensor in itself", Says("f > f"), of_body("fn f(x: [..]) -> [..] = f(x)", "f(x)")),
        (
            "a pattern in itself",
            Says("p > p"),
            of_body(
                "pattern p(w: int)[i, j] = p(w)[i, j]",
                "let y[b, i] = if p(1)[b, i] { 1.0 } else { x[b, i] }\ny",
            ),
        ),
        (
            "an entry in itself",
            Errs,
            of_members("", "entry e(x: [B, 4]) = self.e(x)").replace(") = x }", ") = e(x) }"),
        ),
        (
            "a long chain of functions",
            Limits,
            of_static(&tower(400, "fn f0(x) = x", "fn fHERE(x) = fBELOW(x)"), "f400(1)"),
        ),
        ("a long chain of modules", Limits, of_members(&long, "top = L400()")),
    ]
}

fn long() -> Vec<Bomb> {
    let range = "let l = range(100000)\n";
    let doubled = repeated("str", "\"ab\"", "l ++ l");
    vec![
        ("a list of huge length", Limits, of_static("", "[0; 9223372036854775807]")),
        ("lists of lists of lists", Limits, of_static("", "[[[0; 100000]; 100000]; 100000]")),
        ("a comprehension over much", Limits, of_static("", "[for i in 0..1000000000000: i]")),
        (
            "comprehensions in comprehensions",
            Limits,
            of_static("", "[for i in 0..1000: [for j in 0..1000: [for k in 0..1000: k]]]"),
        ),
        ("a loop over much", Limits, of_function("for i in 0..9223372036854775807 { let n = i }\n 1")),
        (
            "a loop from the least number",
            Limits,
            of_function("for i in -9223372036854775807..9223372036854775807 { let n = i }\n 1"),
        ),
        (
            "loops in loops",
            Limits,
            of_function("for i in 0..100000 { for j in 0..100000 { let n = j } }\n 1"),
        ),
        ("a loop over members", Limits, of_members("", "for i in 0..100000000 { `l{i}` = Linear(1, 1) }")),
        (
            "loops over members",
            Limits,
            of_members("", "for i in 0..1000 { for j in 0..1000 { `l{i}_{j}` = Linear(1, 1) } }"),
        ),
        ("a list of members", Limits, of_members("", "l = [Linear(1, 1); 200000]")),
        ("a loop over tensors", Limits, of_body("", "for i in 0..199999 { x = x + 1 }\nx")),
        (
            "slices of a long list",
            Limits,
            of_function(&format!("{range}for i in 0..100000 {{ let k = l[0..100000] }}\n 1")),
        ),
        (
            "reverses of a long list",
            Limits,
            of_function(&format!("{range}for i in 0..100000 {{ l = reverse(l) }}\n 1")),
        ),
        (
            "zips of long lists",
            Limits,
            of_function(&format!("{range}for i in 0..100000 {{ let k = zip(l, l) }}\n 1")),
        ),
        (
            "loops over long lists",
            Limits,
            of_function(&format!("{range}for i in 0..100000 {{ for k in l {{ }} }}\n 1")),
        ),
        (
            "comparisons of long lists",
            Limits,
            of_function(&format!("{range}for i in 0..100000 {{ let k = l == l }}\n 1")),
        ),
        (
            "long lists as arguments",
            May,
            of_static(
                &format!("fn g(l: list) = 1\nfn f() {{ {range}for i in 0..100000 {{ let k = g(l) }}\n 1 }}"),
                "f()",
            ),
        ),
        (
            "long names in a loop",
            Limits,
            of_members(&doubled, "let s = f(15)\nfor i in 0..100000 { `{s}{i}` = Linear(1, 1) }"),
        ),
        (
            "modules with long lists",
            Limits,
            of_members("module W(l: list) { }", "l = [W(range(10000)); 10000]"),
        ),
        (
            "entries with long lists",
            Limits,
            of_body(
                "module W() { forward(x: [B, 4], l: list) = x }",
                "for i in 0..10000 { x = w(x, range(10000)) }\nx",
            )
            .replace("module M() {", "module M() { w = W()\n"),
        ),
        ("a huge name", May, of_members("", &format!("`{}` = Linear(1, 1)", "a".repeat(100_000)))),
        ("many lines", Limits, of_body("", &("let y = x + 1\nx = y * 2\n".repeat(30_000) + "x"))),
        ("many lines that double", May, of_body("", &("x = x + x\n".repeat(10_000) + "x"))),
        ("many indices", May, of_body("", &many_indices())),
        ("many terms", Says("too complex"), of_size("n + B // (i + 2)", 10_000)),
        ("a product of sums", Errs, of_size("n * (B + i)", 100)),
    ]
}

fn many_indices() -> String {
    let names: Vec<String> = (0..200).map(|k| format!("i{k}: 1")).collect();
    format!("let y[b] = sum[{}] x[b, i0]\ny", names.join(", "))
}

fn deep() -> Vec<Bomb> {
    let wrap = "module W(a: module) { c = a }";
    let element = "fn deep(v) { for i in 0..100000 { v = v * 2 + 1 }\n v }";
    let causal = "let p = f(100000)\nlet y[b, i] = if p[b, i] { x[b, i] } else { 0 }\ny";
    let lets = format!("{} x {}", "if true { let y = x + 1\n".repeat(100), "} else { x }".repeat(100));
    vec![
        ("deep lists", Limits, of_static(&repeated("list", "[1]", "[l]"), "f(100000)")),
        (
            "a deep description",
            Limits,
            of_members(&format!("{wrap}\n{}", repeated("module", "Linear(1, 1)", "W(l)")), "l = f(100000)"),
        ),
        ("a deep pattern", Limits, of_body(&repeated("pattern", "causal", "not l"), causal)),
        (
            "a deep exact real",
            May,
            of_body("", "let s = sqrt(B)\nfor i in 0..100000 { s = sqrt(s + 1) }\nx * s"),
        ),
        ("a deep element", May, of_body(element, "let y[b, i] = deep(x[b, i])\ny")),
        ("a deep index", May, of_body(element, "let y[b: B, i: 4] = x[b, deep(i) % 4]\ny")),
        ("a deep size", Errs, of_size("(n * 3 + 1) // 2", 100_000)),
        ("a deep sum", Limits, of_body("", &format!("x{}", " + x".repeat(3_000)))),
        ("deep lets", May, of_body("", &lets)),
        ("ranks by stacking", Says("8 axes"), of_body("", "for i in 0..100 { x = stack([x, x]) }\nx")),
        (
            "a rank that is too high",
            Errs,
            of_body("", "let y[a: 1, b: 1, c: 1, d: 1, e: 1, f: 1, g: 1, h: 1, i: 1] = 0.0\ny"),
        ),
        ("a sequence of too high rank", Says("8 axes"), of_body("", &ranked_sequence())),
    ]
}

fn ranked_sequence() -> String {
    let bound = "let y[a: 1, b: 1, c: 1, d: 1, e: 1, f: 1, g: 1, h: 1] = 0.0\n";
    format!("{bound}recur t in 0..B {{ init s[t - 1] = y\n s[t] = s[t - 1] + 1 }}\ns")
}

fn numbers() -> Vec<Bomb> {
    let least = "(-9223372036854775807 - 1)";
    let recur =
        |lag: &str| format!("recur t in 0..B {{ init h[t - {lag}] = x[0]\n h[t] = h[t - {lag}] }}\nh");
    let gap = "recur t in 0..B { init h[t - 2] = x[0]\n h[t] = x[t] }\nh";
    vec![
        ("a product that overflows", Errs, of_static("", "9223372036854775807 * 9223372036854775807")),
        ("a tower of powers", Errs, of_static("", "9 ** 9 ** 9 ** 9 ** 9")),
        ("a huge power", Errs, of_static("", "2 ** 9223372036854775807")),
        ("a size to a huge power", Errs, of_body("", "let y[i: B ** 4000000000] = 0.0\ny")),
        ("a huge literal", Errs, of_static("", &"9".repeat(100_000))),
        ("a long fraction", May, of_static("", &format!("int(0.{})", "9".repeat(100_000)))),
        ("a huge exponent", Errs, of_static("", "1e99999999999999999999")),
        ("an infinite integer", Errs, of_static("", "int(inf)")),
        ("no number as an integer", Errs, of_static("", "int(0.0 / 0.0)")),
        ("the least number over minus one", Errs, of_static("", &format!("{least} // -1"))),
        ("its remainder", Errs, of_static("", &format!("{least} % -1"))),
        ("its absolute value", Errs, of_static("", &format!("abs({least})"))),
        ("its negative", Errs, of_static("fn f(n: int) -> int = -n", &format!("f({least})"))),
        ("a loop below it", May, of_function(&format!("for i in {least}..{least} {{ }}\n 1"))),
        ("division by zero", Errs, of_static("", "7 // 0")),
        ("a remainder of zero", Errs, of_static("", "7 % 0")),
        ("a size over zero", Errs, of_body("", "let y[i: B // 0] = 0.0\ny")),
        ("a size over nothing", Errs, of_body("", "let y[i: 4 // (B - B)] = 0.0\ny")),
        ("an axis far out", Errs, of_body("", "concat([x, x], axis = 9223372036854775807)")),
        ("an axis far below", Errs, of_body("", &format!("stack([x, x], axis = {least})"))),
        ("an index far out", Errs, of_static("", "[1, 2][9223372036854775807]")),
        ("an index below", Errs, of_static("", &format!("[1, 2][{least}]"))),
        ("a slice far out", Errs, of_static("", "[1, 2][-9223372036854775807..9223372036854775807]")),
        ("a read far out", May, of_body("", "x[9223372036854775807]")),
        ("a read far below", Errs, of_body("", &format!("x[{least}]"))),
        ("a recurrence that looks far back", Limits, of_body("", &recur("4611686018427387904"))),
        ("one that looks back too far", Limits, of_body("", &recur("100000000"))),
        ("one that looks ahead", Errs, of_body("", &recur(least))),
        (
            "an `init` line with a gap",
            Says("no `init` line for lag 1"),
            of_body("", &gap.replace("x[t]", "h[t - 2]")),
        ),
        ("a gap that is not read", Says("no `init` line for lag 1"), of_body("", gap)),
        ("a split into many", Errs, of_body("", "split(x, 9223372036854775807)")),
        (
            "a split into huge parts",
            Errs,
            of_body("", "split(x, [9223372036854775807, 9223372036854775807])"),
        ),
        ("a huge top_k", Errs, of_body("", "top_k(x, 9223372036854775807)")),
        ("a huge constant", May, of_body("", "let y[i: 4611686018427387904] = 1.0\ny")),
        ("a huge sum", May, of_body("", "let y[b] = sum[i: 9223372036854775807] x[b, i % 4]\ny")),
        ("a tensor among statics", Says("not-static"), of_static("", "sum[i: 300000] i")),
        ("a list of numbers among statics", Says("not-static"), of_static("", "[1, 2, 3] + 1")),
        (
            "a recurrence among statics",
            Says("not-static"),
            of_function("recur t in 0..4 { init h[t - 1] = 0\n h[t] = h[t - 1] + 1 }\n h"),
        ),
    ]
}

fn defuse(bombs: Vec<Bomb>, memory: usize) {
    let folder = tempfile::tempdir().unwrap();
    let mut wrong = String::new();
    for (name, wanted, text) in bombs {
        let path = folder.path().join("bomb.mdl");
        fs::write(&path, &text).unwrap();
        let run = Mdlc::new(["check"]).arg(&path).address_space(memory).processor(TIME).run_unchecked();
        let first = run.stderr.lines().next().unwrap_or_default();
        println!("{:8.1?} code {} {name}: {first:.120}", run.time, run.code);
        let fits = match wanted {
            Limits => run.code == 4,
            Errs => matches!(run.code, 1 | 4),
            Says(words) => matches!(run.code, 1 | 4) && run.stderr.contains(words),
            May => matches!(run.code, 0 | 4),
        };
        if !fits {
            let _ = writeln!(
                wrong,
                "{name}: code {} after {:?}, wanted {wanted:?}\n{}",
                run.code, run.time, run.stderr
            );
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn what_doubles_ends_early() {
    defuse(exponential(), MEMORY);
}

#[test]
fn what_recurs_is_named() {
    defuse(recursive(), MEMORY);
}

#[test]
fn what_is_long_ends_early() {
    defuse(long(), MEMORY_OF_LONG);
}

#[test]
fn what_is_deep_ends_early() {
    defuse(deep(), MEMORY_OF_LONG);
}

#[test]
fn extreme_numbers_are_refused() {
    defuse(numbers(), MEMORY);
}
