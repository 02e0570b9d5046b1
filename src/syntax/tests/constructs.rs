//! What each construct parses to, shown by its canonical print.

use super::super::ast::{BinaryOp, ExprKind, ItemKind, IxKind, MemberKind, StmtKind, UnaryOp};
use super::{round_trip, tree};

/// The canonical form of an expression.
fn expression(text: &str) -> String {
    let printed = round_trip(&format!("model m = {text}"));
    printed.trim_start_matches("model m = ").trim_end().to_owned()
}

/// The canonical form of the lines of a body.
fn lines(text: &str) -> String {
    let printed = round_trip(&format!("fn f() {{ {text} }}"));
    let inner = printed.trim_start_matches("fn f() {\n").trim_end().trim_end_matches('}');
    inner
        .lines()
        .map(|l| l.strip_prefix("    ").unwrap_or(l))
        .collect::<Vec<_>>()
        .join("\n")
        .trim_end()
        .to_owned()
}

/// The canonical form of the members of a module.
fn members(text: &str) -> String {
    let printed = round_trip(&format!("module M {{ {text} }}"));
    let inner = printed.trim_start_matches("module M {\n").trim_end().trim_end_matches('}');
    inner
        .lines()
        .map(|l| l.strip_prefix("    ").unwrap_or(l))
        .collect::<Vec<_>>()
        .join("\n")
        .trim_end()
        .to_owned()
}

fn same(texts: &[&str], canonical: fn(&str) -> String) {
    for text in texts {
        assert_eq!(canonical(text), *text);
    }
}

#[test]
fn operators_bind_by_their_levels() {
    for (written, grouped) in [
        ("a or b and c", "a or (b and c)"),
        ("not a == b", "not (a == b)"),
        ("not a and b", "(not a) and b"),
        ("a + b ++ c + d", "(a + b) ++ (c + d)"),
        ("a - b - c", "(a - b) - c"),
        ("a + b * c", "a + (b * c)"),
        ("a // b % c @ d", "((a // b) % c) @ d"),
        ("-x ** 2", "-(x ** 2)"),
        ("2 ** -x ** y", "2 ** (-(x ** y))"),
        ("a ** b ** c", "a ** (b ** c)"),
        ("-a * b", "(-a) * b"),
        ("a < b + c", "a < (b + c)"),
        ("sum[i] a * b + c", "(sum[i] (a * b)) + c"),
        ("2 * sum[i] a * b", "2 * (sum[i] (a * b))"),
        ("-sum[i] a * b", "-(sum[i] (a * b))"),
        ("a ** sum[i] b * c", "a ** (sum[i] (b * c))"),
        ("sum[i] sum[j] a * b", "sum[i] (sum[j] (a * b))"),
        ("-x.T[0]", "-((x.T)[0])"),
    ] {
        assert_eq!(expression(grouped), written, "{grouped}");
        assert_eq!(expression(written), written);
    }
}

#[test]
fn parentheses_that_matter_stay() {
    same(
        &[
            "(a or b) and c",
            "(not a) == b",
            "(a == b) == c",
            "a - (b - c)",
            "(a + b) * c",
            "(-x) ** 2",
            "(a ** b) ** c",
            "(sum[i] a) * b",
            "(x * sum[i] a) * b",
            "(-sum[i] a) * b",
            "sum[i] (a + b)",
            "any[r] (a == b)",
            "(a + b)[i]",
            "(-a).T",
            "(max)[i]",
            "max(a, b)",
            "(a,)",
            "(y = a)",
            "(a, b)",
            "(if a { b } else { c }) + d",
            "d + if a { b } else { c }",
            "- -a".replace(' ', "").as_str(),
        ],
        expression,
    );
}

#[test]
fn operands_of_every_kind() {
    same(
        &[
            "12",
            "0.5",
            "1e-5",
            "1e300",
            "9223372036854775807",
            r#""a \"b\" \\ \n \t é""#,
            "true",
            "false",
            "self",
            "inf",
            "`self`",
            "`denselayer{i + 1}`",
            "`weight_ih_l{l}{to}`",
            "`a{`b{c}`}`",
            "[]",
            "[a, b]",
            "[e; n]",
            "[for (t, c) in table: e]",
            "[for i in 0..n: i * 2]",
            "f()",
            "f(a, b = c)",
            "f(a)(b).c[d]",
            "x[]",
            "x[else 0]",
            "x[i, :, .., ..n, a..b, (h, d), (h: 8, (a, b), c + 1) else -1]",
            "x[b, (0, h, d)]",
            "self.`norm{n}`(x)",
            "experts[choice[n, j]](x[n, :])[d]",
            "if a { b } else if c { d } else { e }",
            "sum[c, k] x[b, c, l * stride + k - pad else 0] * w[o, c, k]",
            "mean[e where dst[e] == n else 0] x[e]",
            "mean[..s] x[..n, ..s]",
            "sum[(h, d: 4), i: N] x[(h, d), i]",
            "max[u: 2, v: 2] x[u, v]",
            "softmax[j where m[j]] (s[j] + b)",
            "log_softmax[j] s[j]",
        ],
        expression,
    );
}

#[test]
fn a_call_binds_only_when_adjacent() {
    assert_eq!(lines("let y = f (x)"), "let y = f\nx");
    assert_eq!(lines("let y = f\n[a, b]"), "let y = f\n[a, b]");
    assert_eq!(lines("x = f\n(a, b) = g"), "x = f\n(a, b) = g");
}

#[test]
fn a_line_that_begins_with_an_operator_continues_the_one_before() {
    assert_eq!(lines("let y = a\n    + b\n    and c y"), "let y = a + b and c\ny");
    assert_eq!(lines("let y = a\n-y"), "let y = a - y");
    assert_eq!(lines("let y = a\n(-y)"), "let y = a\n(-y)");
}

#[test]
fn statements_of_every_kind() {
    same(
        &[
            "let x = a",
            "let (a, b) = f(x)",
            "let x: [B, H] = 0",
            "let c: int = 3",
            "let y[b, h: heads, t, d] = p[b, t, (h, d)]",
            "let y[..n, (h, d: K)] = a",
            "let y[] = a",
            "let `a b`[i] = a",
            "x = a",
            "(a, b) = f(x)",
            "require a == b, \"why\"",
            "require a == b",
            "for i in 0..n {\n    x = f(x)\n}",
            "for (a, b) in zip(p, q) {\n    x = f(a, b)\n}",
            "for layer in layers {\n    x = layer(x)\n}",
            "if a {\n    x = b\n} else if c {\n    x = d\n} else {\n    x = e\n}",
            "recur t in 0..T by -1 {\n    init h[:, t + 1]: [B, H] = 0\n    h[:, t] = f(h[:, t + 1])\n}",
            "recur t in 0..T {\n    (a[:, t], `h{l}`[b, t]) = f(x)\n    for l in 0..n {\n        `h{l}`[t] = x\n    }\n    if c {\n        h[t] = a\n    }\n    z = h[t]\n}",
            "let z = if a {\n    let b = c\n    b\n} else {\n    d\n}",
        ],
        lines,
    );
}

#[test]
fn members_of_every_kind() {
    same(
        &[
            "param weight: [O, I] = kaiming_uniform() when bias",
            "param `weight_l{l}{to}`: [4 * H, if l == 0 { I } else { P }]",
            "buffer n: i64[] = zeros()",
            "tie lm_head.weight = layers[0].`wte`.weight when tied",
            "require D % heads == 0, \"why\"",
            "let K = D // heads",
            "let a[i: N] = i * 2",
            "`denselayer{i + 1}` = Linear(I, O) when i < n",
            "flat encoder = Encoder(D)",
            "mlp = [Linear(D, F), gelu, Linear(F, D)]",
            "for i in 0..n {\n    a = Linear(1, 2)\n}",
            "if a {\n    b = Linear(1, 2)\n} else if c {\n    d = id\n} else {\n}",
            "forward(x: [.., D]) -> [.., D] = x",
            "forward(x: [B, (G, C), ..S, 3], m: pattern = full) -> (y: bool[B], h: list) = f(x)",
            "entry attn(x: f16[], steps: int = 6) {\n    let y = x\n    y\n}",
            "## One line.\n##\n## Another.\nlet a = b",
        ],
        members,
    );
}

#[test]
fn declarations_of_every_kind() {
    let text = "\
use std.nn.{Linear, LSTM}
use std.nn
use \"blocks.mdl\" as blocks
use \"a.mdl\"

## Doc.
module M(D, bias: bool = true, act: fn = relu, S: list) {
}

module N {
}

fn f(x: [B], n: int = 2) -> (a: [B], b: i64[B]) {
    let y = x
    (y, n)
}

fn g() = 1

fn h() -> fn = relu

pattern causal[i, j] = j <= i

pattern p(w: int)[h, i, j] {
    let a = i
    a <= w
}

model m = M(1)
";
    assert_eq!(round_trip(text), text);
}

#[test]
fn documentation_belongs_to_what_follows() {
    let file = tree(
        "# plain\n## a\n##  b\n### ruler\nmodule M { ## x\n let a = 1 ## in between\n ## y\n let b = 2 ## end\n}\n## f\nfn f() = 1 ## tail",
    );
    assert_eq!(file.items[0].doc, ["a", " b"]);
    assert_eq!(file.items[1].doc, ["end", "f"][1..]);
    let ItemKind::Module(module) = &file.items[0].kind else { panic!() };
    assert_eq!(module.members[0].doc, ["x"]);
    assert_eq!(module.members[1].doc, ["in between", "y"]);
}

#[test]
fn places_cover_what_was_written() {
    let text = "fn f() = (a + b) * c  # tail\n\n## d\nfn g(x: [B] ) -> [B]  = x[i , j ].T";
    let file = tree(text);
    let at = |span: crate::span::Span| &text[span.start as usize..span.end as usize];
    assert_eq!(at(file.items[0].span), "fn f() = (a + b) * c");
    let ItemKind::Fn(f) = &file.items[0].kind else { panic!() };
    let tail = f.body.tail.as_ref().unwrap();
    assert_eq!(at(tail.span), "(a + b) * c");
    let ExprKind::Binary { op: BinaryOp::Mul, left, op_span, .. } = &*tail.kind else { panic!() };
    assert_eq!((at(left.span), at(*op_span)), ("a + b", "*"));
    let ItemKind::Fn(g) = &file.items[1].kind else { panic!() };
    assert_eq!(at(g.params[0].span), "x: [B]");
    assert_eq!(at(g.ret.as_ref().unwrap().span), "[B]");
    let tail = g.body.tail.as_ref().unwrap();
    assert_eq!(at(tail.span), "x[i , j ].T");
    let ExprKind::Field { base, .. } = &*tail.kind else { panic!() };
    let ExprKind::Index { index, .. } = &*base.kind else { panic!() };
    assert_eq!(at(index[1].span), "j");
}

#[test]
fn groups_are_whole_indices_only() {
    let file = tree("model m = x[((h, d)), (h + 1) * 2, (a,)]");
    let ItemKind::Model(model) = &file.items[0].kind else { panic!() };
    let ExprKind::Index { index, .. } = &*model.value.kind else { panic!() };
    assert!(matches!(&index[0].kind, IxKind::Group(parts) if parts.len() == 2));
    assert!(matches!(index[1].kind, IxKind::Index(_)));
    assert!(matches!(index[2].kind, IxKind::Index(_)));
}

#[test]
fn an_if_is_a_value_where_its_branches_have_one() {
    let file = tree("fn f() { if a { if b { c } else { d } } else { e } }\nfn g() { if a { x = b } }");
    let ItemKind::Fn(f) = &file.items[0].kind else { panic!() };
    assert!(f.body.stmts.is_empty() && f.body.tail.is_some());
    let ItemKind::Fn(g) = &file.items[1].kind else { panic!() };
    assert!(matches!(g.body.stmts[0].kind, StmtKind::If { .. }) && g.body.tail.is_none());
}

#[test]
fn minus_is_an_operator_on_literals() {
    let file = tree("model m = -1");
    let ItemKind::Model(model) = &file.items[0].kind else { panic!() };
    assert!(matches!(&*model.value.kind, ExprKind::Unary { op: UnaryOp::Neg, .. }));
}

#[test]
fn blanks_of_every_kind_and_a_byte_order_mark() {
    let file = tree("\u{feff}# c\r\nmodule M {\r\n\tlet a = 1 # é\r\n\tforward() = a\r\n}\r\n");
    let ItemKind::Module(module) = &file.items[0].kind else { panic!() };
    assert!(matches!(module.members[1].kind, MemberKind::Entry(_)));
    assert!(tree("").items.is_empty());
    assert!(tree("  # only a comment").items.is_empty());
}
