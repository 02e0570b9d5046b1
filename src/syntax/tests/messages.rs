//! What a user reads when the text is wrong.

use super::super::{MAX_ERRORS, parse};
use super::rendered;
use crate::span::FileId;

/// Codes, titles and advice of all errors, a line for each, with the place as `line:column`.
fn errors(text: &str) -> Vec<String> {
    let mut sources = crate::source::SourceMap::new();
    sources.add("test.mdl", text);
    let errors = parse(FileId(0), text).expect_err(text);
    assert!(!rendered(text, &errors).is_empty());
    errors
        .iter()
        .map(|e| {
            let (line, column) = sources.line_column(e.labels[0].span);
            let help: String = e.help.iter().map(|h| format!("; {h}")).collect();
            format!("{line}:{column} {}: {}{help}", e.code, e.title)
        })
        .collect()
}

#[track_caller]
fn check(text: &str, expected: &[&str]) {
    assert_eq!(errors(text), expected, "{text}");
}

#[test]
fn words_that_cannot_stand_there() {
    check(
        "fn f() { let in = 3 }",
        &["1:14 reserved-word: `in` is a reserved word; as a name it stands in back-quotes: `` `in` ``"],
    );
    check(
        "fn f() { sum(x) }",
        &[
            "1:10 reserved-word: `sum` is a reducer and wants its indices; write `sum[i] x[i]`, with no blank before `[`",
        ],
    );
    check(
        "fn f() = sum [i] x",
        &[
            "1:10 reserved-word: `sum` is a reducer and wants its indices; write `sum[i] x[i]`, with no blank before `[`",
        ],
    );
}

#[test]
fn numbers_and_strings() {
    check(
        "fn f() = 12abc",
        &[
            "1:12 bad-number: this is not a number; numbers are written `12`, `0.5`, `1e-5`; no name begins with a digit",
        ],
    );
    check(
        "fn f() = 1.",
        &[
            "1:11 bad-number: this is not a number; a number has digits on both sides of its point; `0..n` is a range",
        ],
    );
    check(
        "fn f() = .5",
        &["1:10 bad-number: this is not a number; a number has digits on both sides of its point: `0.5`"],
    );
    check(
        "fn f() = 1.2.3",
        &[
            "1:14 bad-number: this is not a number; a number has digits on both sides of its point; `0..n` is a range",
        ],
    );
    check(
        "fn f() = 99999999999999999999",
        &["1:10 bad-number: 99999999999999999999 is not a whole number from 0 to 9223372036854775807"],
    );
    check("fn f() = 1e999", &["1:10 bad-number: 1e999 is larger than any number; `inf` is a constant"]);
    check(
        "fn f() = \"a\\q\"",
        &["1:10 bad-escape: unknown escape `\\q`; the escapes are `\\\"`, `\\\\`, `\\n` and `\\t`"],
    );
    check(
        "fn f() = \"abc\n",
        &[
            "1:10 unterminated-string: this string does not end on its line; a string ends with `\"`; `\\\"` is a quote within it, `\\n` a new line",
        ],
    );
    check("fn f() = `abc\n", &["1:10 unterminated-name: this back-quoted name does not end on its line"]);
}

#[test]
fn brackets() {
    check("fn f( = 3", &["1:5 unclosed-delimiter: `(` is never closed"]);
    check("fn f() = (a, [b)", &["1:16 unclosed-delimiter: `[` is not closed before this `)`"]);
    check("fn f() = a)", &["1:11 unclosed-delimiter: this `)` closes nothing"]);
    check("module M {\n forward() = a\n\nfn g() = 3", &["1:10 unclosed-delimiter: `{` is never closed"]);
    check(
        "fn f() = a\nfn g( = 3\nfn h() = )\nfn i() = 3",
        &["2:5 unclosed-delimiter: `(` is never closed", "3:10 unclosed-delimiter: this `)` closes nothing"],
    );
    check("fn f() = x[1, 2", &["1:11 unclosed-delimiter: `[` is never closed"]);
}

#[test]
fn expected_and_found() {
    check("fn f() = ", &["1:8 syntax: expected an expression, found the end of the declaration"]);
    check("fn f() { let = 3 }", &["1:14 syntax: expected a name or `(`, found `=`"]);
    check("fn f() { let x 3 }", &["1:16 syntax: expected `:` or `=`, found `3`"]);
    check("module M { param w [3] }", &["1:20 syntax: expected `:`, found `[`"]);
    check("module M { param w: 3 }", &["1:21 syntax: expected a type, found `3`"]);
    check("module M { 3 }", &["1:12 syntax: expected a member or `}`, found `3`"]);
    check("module M { x }", &["1:14 syntax: expected `=`, found `}`"]);
    check("fn f() { if a = b { c } else { d } }", &["1:15 syntax: expected `{`, found `=`; `==` compares"]);
    check(
        "fn f(x: f32) = x",
        &["1:12 syntax: expected `[`, found `)`; a scalar tensor is written `f32[]`, `i64[]`"],
    );
    check("fn f(x: foo) = x", &["1:9 syntax: expected a type, found `foo`"]);
    check("model = 3", &["1:7 syntax: expected a name, found `=`"]);
    check("model m 3", &["1:9 syntax: expected `=`, found `3`"]);
    check("use 3", &["1:5 syntax: expected a string, found `3`"]);
    check("pattern p = a", &["1:11 syntax: expected `(` or `[`, found `=`"]);
    check("fn f() { recur t 0..T { } }", &["1:18 syntax: expected `in`, found `0`"]);
    check("fn f() = sum[i where] x", &["1:21 syntax: expected an expression, found `]`"]);
    check("fn f() = max[] x", &["1:14 syntax: expected a name, `(` or `..`, found `]`"]);
    check("fn f() = [for i 0..n: 3]", &["1:17 syntax: expected `in`, found `0`"]);
}

#[test]
fn forms_that_mean_nothing() {
    check(
        "fn f() = é",
        &[
            "1:10 syntax: the character `é` cannot stand here; plain names are of ASCII letters, digits and `_`; back-quotes make any text a name",
        ],
    );
    check(
        "fn f() = a < b < c",
        &["1:16 syntax: comparisons do not chain; join two of them: `a < b and b < c`"],
    );
    check(
        "fn f() = a + not b",
        &[
            "1:14 syntax: `not` cannot stand behind an operator that binds tighter; put it in parentheses: `(not a)`",
        ],
    );
    check(
        "fn f() { h[t] = a }",
        &[
            "1:10 syntax: only the lines of a `recur` define a sequence; outside, a tensor is defined in index notation with `let`, and no element is changed later",
        ],
    );
    check("fn f() { init h[t - 1] = a }", &["1:10 syntax: `init` stands in a `recur` only"]);
    check(
        "fn f() { a b }",
        &[
            "1:10 syntax: the value of this line is not used; only the last line of a block is its value; `let name = …` names one",
        ],
    );
    check(
        "fn f() { for i in 0..n { a } }",
        &[
            "1:26 syntax: the value of this line is not used; the block of a `for`, `recur` or `if` statement has no value; `x = …` gives an existing name a new one",
        ],
    );
    check(
        "fn f() = f(a = b, c)",
        &[
            "1:19 syntax: a positional argument cannot follow a named one; name this one too, or move it forward",
        ],
    );
    check("fn f() = f(a + b = c)", &["1:12 syntax: only a name can stand left of `=` here; `==` compares"]);
    check(
        "fn f() { a + b = c }",
        &[
            "1:10 syntax: this cannot stand left of `=`; `=` rebinds a name, `(a, b)`, or in a `recur` defines `h[:, t]`; `==` compares",
        ],
    );
    check(
        "fn f() { (a, h[t]) = c }",
        &[
            "1:10 syntax: a line defines sequences or rebinds names, not both; take the tuple apart with `let`, then define the sequence on a line of its own",
            "1:10 syntax: only the lines of a `recur` define a sequence; outside, a tensor is defined in index notation with `let`, and no element is changed later",
        ],
    );
    check(
        "fn f() = if a { b }",
        &[
            "1:10 syntax: an `if` that is used as a value has an `else`; write the value where the condition does not hold: `if c { a } else { b }`",
        ],
    );
    check(
        "fn f() = (h: 8, d)",
        &[
            "1:12 syntax: an extent cannot stand here; a group `(h: 8, d)` is a whole index of a read; a tuple names an element with `=`",
        ],
    );
    check(
        "fn f() = x[(h = 8, d)]",
        &["1:15 syntax: `=` cannot stand in an index; `:` gives a part its extent: `(h: 8, d)`"],
    );
    check(
        "fn f(`a{b}`: int) = 3",
        &[
            "1:6 syntax: a name with `{…}` cannot stand here; only members, sequences of a `recur` and what follows `self.` have computed names",
        ],
    );
    check(
        "fn f() { let y[i]: [B] = 3 }",
        &[
            "1:18 syntax: a definition in index notation has no type; its axes are the indices, its element type is that of its value",
        ],
    );
}

#[test]
fn habits_of_other_languages() {
    check(
        "fn f() { x = ; }",
        &[
            "1:14 syntax: expected an expression, found `;`; a new line begins a statement; `;` stands in `[value; count]` only",
        ],
    );
    check(
        "fn f() { x = 3; }",
        &[
            "1:15 syntax: expected a statement or `}`, found `;`; a new line begins a statement; `;` stands in `[value; count]` only",
        ],
    );
    check(
        "fn f() { // comment\n x }",
        &[
            "1:10 syntax: expected a statement or `}`, found `//`; `#` begins a comment; `//` is floor division",
        ],
    );
    check(
        "fn f() { x = a // comment text\n x }",
        &["1:27 syntax: the value of this line is not used; `#` begins a comment; `//` is floor division"],
    );
    check(
        "def f() = 3",
        &[
            "1:1 syntax: expected a declaration, found `def`; a file holds `use`, `module`, `fn`, `pattern` and `model` declarations; a function is written `fn name(x: [..]) -> [..] = …`, an entry of a module `entry name(…)`",
        ],
    );
    check(
        "class M {}",
        &[
            "1:1 syntax: expected a declaration, found `class`; a file holds `use`, `module`, `fn`, `pattern` and `model` declarations; a module begins with `module Name(statics) {`",
        ],
    );
    check("fn f() = a && b", &["1:12 syntax: there is no operator `&&`; write `and`"]);
    check("fn f() = !a", &["1:10 syntax: there is no operator `!`; write `not`"]);
    check("fn f() = a ^ b", &["1:12 syntax: there is no operator `^`; a power is written `**`"]);
    check(
        "fn f() = 'a'",
        &["1:10 syntax: expected an expression, found `'`; strings stand in double quotes"],
    );
    check(
        "fn f() { return x }",
        &[
            "1:10 syntax: the value of this line is not used; there is no `return`: the last line of a block is its value",
        ],
    );
    check("fn f() { x += 1 }", &["1:12 syntax: there is no `+=`; write `x = x + …`"]);
    check(
        "hello",
        &[
            "1:1 syntax: expected a declaration, found `hello`; a file holds `use`, `module`, `fn`, `pattern` and `model` declarations",
        ],
    );
}

#[test]
fn errors_in_several_declarations_come_together_in_order() {
    check(
        "module A {\n    x\n}\nfn f() = 1 < 2 < 3\nfn g() = 3\nfn h() { let 3 }",
        &[
            "3:1 syntax: expected `=`, found `}`",
            "4:16 syntax: comparisons do not chain; join two of them: `a < b and b < c`",
            "6:14 syntax: expected a name or `(`, found `3`",
        ],
    );
    let many = "fn f() = )\n".repeat(100);
    assert_eq!(errors(&many).len(), MAX_ERRORS);
}

#[test]
fn errors_point_into_the_text() {
    let text = "fn f() = (a, [b)\n";
    let errors = parse(FileId(0), text).unwrap_err();
    assert_eq!(
        rendered(text, &errors),
        "\
error[unclosed-delimiter]: `[` is not closed before this `)`
  ┌─ test.mdl:1:16
  │
1 │ fn f() = (a, [b)
  │              - ^ expected `]` first
  │              │  
  │              opened here

"
    );
}
