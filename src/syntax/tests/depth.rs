//! Every construct at the limits of nesting, and long ones: an error or a tree, never a crash, and
//! time that does not explode.

use super::super::{MAX_NESTING, MAX_TEXT_BYTES, MAX_TREE_DEPTH, ast, parse, print};
use crate::diag::{Diagnostic, Fault};
use crate::span::FileId;
use std::time::{Duration, Instant};

/// A construct that holds itself: `before`, then the inner one, then `after`, around a core.
struct Nest {
    /// What stands around all of it, with `@` for the construct.
    file: &'static str,
    before: &'static str,
    core: &'static str,
    after: &'static str,
    /// Brackets that one level opens, and those that the file opens around all.
    per_level: usize,
    around: usize,
}

const fn nest(before: &'static str, core: &'static str, after: &'static str, per_level: usize) -> Nest {
    Nest { file: "fn f() = @", before, core, after, per_level, around: 0 }
}

/// Nestings of brackets, which the scan counts.
const BRACKETS: &[Nest] = &[
    nest("(", "a", ")", 1),
    nest("(a, ", "a", ")", 1),
    nest("(a = ", "a", ")", 1),
    nest("[", "a", "]", 1),
    nest("[", "a", "; 2]", 1),
    nest("[a, ", "a", ", b]", 1),
    nest("[for a in b: ", "a", "]", 1),
    nest("f(", "a", ")", 1),
    nest("f(a = ", "a", ")", 1),
    nest("x[", "a", "]", 1),
    nest("x[a..", "a", "]", 1),
    nest("x[(i + ", "a", ") * 2]", 2),
    nest("x[(i, ", "a", ")]", 2),
    nest("x[i else ", "a", "]", 1),
    nest("x[(h: ", "a", ", d)]", 2),
    nest("`a{", "a", "}`", 1),
    nest("f(`a{", "a", "}`)", 2),
    nest("if a { ", "a", " } else { b }", 1),
    nest("if a { b } else { ", "a", " }", 1),
    nest("if ", "a", " { b } else { c }", 0),
    nest("if a { x = ", "a", " x } else { b }", 1),
    nest("sum[i: ", "a", "] x", 1),
    nest("sum[i where ", "a", "] x", 1),
    nest("max[i: ", "a", "] x", 1),
    nest("max[i else ", "a", "] x", 1),
    Nest { file: "fn f(x: @) = x", around: 1, ..nest("[(a, ", "b", ")]", 2) },
    Nest { file: "fn f(x: [@]) = x", around: 2, ..nest("(a, ", "b", ")", 1) },
    Nest { file: "fn f() { let y[@] = a }", around: 2, ..nest("(a, ", "b", ")", 1) },
    Nest { file: "fn f() { @ }", around: 1, ..nest("for i in 0..n { ", "let a = b", " }", 1) },
    Nest { file: "fn f() { @ }", around: 1, ..nest("if a { ", "let a = b", " }", 1) },
    Nest { file: "fn f() { @ }", around: 1, ..nest("if a { ", "let a = b", " } else { let a = b }", 1) },
    Nest { file: "fn f() { @ }", around: 1, ..nest("if a { let a = b } else { ", "let a = b", " }", 1) },
    Nest { file: "fn f() { @ }", around: 1, ..nest("recur t in 0..n { ", "let a = b", " }", 1) },
    Nest { file: "fn f() { @ }", around: 1, ..nest("let x = if a { ", "let z = q", " x } else { b }", 1) },
    Nest {
        file: "fn f() { @ }",
        around: 1,
        ..nest("let y[i: if a { ", "let z = q", " y } else { b }] = b", 2)
    },
    Nest { file: "module M { @ }", around: 1, ..nest("for i in 0..n { ", "let a = b", " }", 1) },
    Nest { file: "module M { @ }", around: 1, ..nest("if a { ", "let a = b", " } else { let a = b }", 1) },
    Nest { file: "module M { @ }", around: 1, ..nest("if a { let a = b } else { ", "let a = b", " }", 1) },
];

/// Nestings without brackets, which the builder counts.
const CHAINS: &[Nest] = &[
    nest("not ", "a", "", 1),
    nest("- ", "a", "", 1),
    nest("sum[i] ", "a", "", 1),
    nest("a ** ", "a", "", 1),
    nest("a ** -", "a", "", 2),
    Nest { file: "fn f() = @ else { b }", ..nest("if a { b } else ", "if a { b }", "", 1) },
    Nest { file: "fn f() { @ }", ..nest("if a { let a = b } else ", "if a { let a = b }", "", 1) },
    Nest { file: "module M { @ }", ..nest("if a { let a = b } else ", "if a { let a = b }", "", 1) },
];

impl Nest {
    fn text(&self, levels: usize) -> String {
        let inner = format!("{}{}{}", self.before.repeat(levels), self.core, self.after.repeat(levels));
        self.file.replace('@', &inner)
    }
}

fn outcome(text: &str) -> Result<ast::File, Vec<Diagnostic>> {
    let start = Instant::now();
    let result = parse(FileId(0), text);
    let limit = if cfg!(debug_assertions) { 3000 } else { 500 };
    assert!(start.elapsed() < Duration::from_millis(limit), "{:?} for {:.60}…", start.elapsed(), text);
    result
}

fn is_limit(result: &Result<ast::File, Vec<Diagnostic>>) -> bool {
    matches!(result, Err(errors) if errors.iter().any(|e| e.fault == Fault::Limit))
}

#[test]
fn brackets_nest_to_the_limit_and_no_further() {
    for nest in BRACKETS.iter().filter(|n| n.per_level > 0) {
        let inside = (MAX_NESTING - nest.around) / nest.per_level;
        for levels in [1, 2, inside - 1, inside] {
            let result = outcome(&nest.text(levels));
            assert!(result.is_ok(), "{levels} of {}: {:?}", nest.before, result.err());
        }
        for levels in [inside + 1, inside + 2, 4000] {
            assert!(is_limit(&outcome(&nest.text(levels))), "{levels} of {}", nest.before);
        }
    }
}

#[test]
fn conditions_within_conditions_nest_to_the_limit_and_no_further() {
    // `if if if …`: no bracket is open where the next one begins.
    let nest = BRACKETS.iter().find(|n| n.per_level == 0).unwrap();
    for levels in [1, 10, 127, 128] {
        assert!(outcome(&nest.text(levels)).is_ok(), "{levels}");
    }
    for levels in [129, 130, 10_000] {
        assert!(is_limit(&outcome(&nest.text(levels))), "{levels}");
    }
}

#[test]
fn prefixes_powers_and_else_if_chain_to_the_limit_and_no_further() {
    for nest in CHAINS {
        let inside = MAX_NESTING / nest.per_level
            - usize::from(nest.file.contains("if") || nest.before.contains("if"));
        for levels in [1, 2, inside - 1, inside] {
            let result = outcome(&nest.text(levels));
            assert!(result.is_ok(), "{levels} of {}: {:?}", nest.before, result.err());
        }
        for levels in [inside + 1, inside + 2, 2000] {
            assert!(is_limit(&outcome(&nest.text(levels))), "{levels} of {}", nest.before);
        }
    }
}

#[test]
fn a_million_levels_are_a_limit() {
    for open in
        ["(", "[", "{", "f(", "x[", "`{", "-", "- ", "not ", "if ", "if a {", "sum[i] ", "a**", "`", "\""]
    {
        for file in ["fn f() = ", "fn f() { ", "module M { "] {
            let levels = (MAX_TEXT_BYTES - file.len()) / open.len();
            let start = Instant::now();
            assert!(parse(FileId(0), &format!("{file}{}", open.repeat(levels))).is_err());
            assert!(start.elapsed() < Duration::from_secs(20), "{open}: {:?}", start.elapsed());
        }
    }
    let long = "(".repeat(1_000_000 + MAX_TEXT_BYTES);
    assert_eq!(parse(FileId(0), &long).unwrap_err()[0].fault, Fault::Limit);
}

#[test]
fn faulty_nests_take_no_longer() {
    for nest in BRACKETS {
        let levels = 60;
        let text = nest.text(levels);
        let core = text.find(nest.core).unwrap_or(0);
        for wrong in ["?", "let", "= =", ")", ""] {
            let broken = format!("{}{wrong}{}", &text[..core], &text[core + nest.core.len()..]);
            let _ = outcome(&broken);
        }
    }
}

#[test]
fn long_flat_texts_are_trees_or_limits() {
    let joined = |operand: &str, op: &str, n: usize| vec![operand; n].join(op);
    for op in [" + ", " - ", " * ", " and ", " or ", " ++ ", " // "] {
        let text = format!("fn f() = {}", joined("a", op, MAX_TREE_DEPTH - 1));
        let file = parse(FileId(0), &text).unwrap();
        // Cloning, printing and dropping are bounded too.
        assert!(print(&file.clone()).len() >= text.len());
        let errors = parse(FileId(0), &format!("fn f() = {}", joined("a", op, 100_000))).unwrap_err();
        assert_eq!((errors[0].fault, errors[0].code), (Fault::Limit, "expression-too-long"));
    }
    for postfix in [".T", "(x)", "[i]"] {
        assert!(parse(FileId(0), &format!("fn f() = a{}", postfix.repeat(MAX_TREE_DEPTH - 2))).is_ok());
        let errors = parse(FileId(0), &format!("fn f() = a{}", postfix.repeat(100_000))).unwrap_err();
        assert_eq!((errors[0].fault, errors[0].code), (Fault::Limit, "expression-too-long"));
    }
    assert!(parse(FileId(0), &format!("fn f() = [{}]", joined("a", ", ", 100_000))).is_ok());
    assert!(parse(FileId(0), &format!("fn f() {{ {} a }}", "let a = b\n".repeat(50_000))).is_ok());
}
