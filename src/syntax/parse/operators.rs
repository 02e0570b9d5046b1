//! Operators: a flat list of operands, prefixes and infixes becomes a tree by
//! precedence.

use super::super::ast::{BinaryOp, Expr, ExprKind, Reduce, UnaryOp};
use super::super::precedence::{COMPARISON, LOOSEST, MINUS, NOT, PRODUCT, level};
use super::super::scan::{MAX_NESTING, too_deep};
use super::{Builder, Pair, Rule};
use crate::diag::{Diagnostic, Fault};
use crate::span::Span;
use crate::syntax::MAX_TREE_DEPTH;

fn infix(symbol: &str) -> BinaryOp {
    use BinaryOp::{Add, And, Concat, Div, Eq, FloorDiv, Ge, Gt, Le, Lt, MatMul, Mul, Ne, Or, Pow, Rem, Sub};
    let all = [Or, And, Eq, Ne, Le, Ge, Lt, Gt, Concat, Add, Sub, FloorDiv, Div, Mul, Rem, MatMul, Pow];
    let found = all.into_iter().find(|op| op.symbol() == symbol);
    found.expect("invariant: the grammar knows the same operators")
}

/// One element of the flat list.
enum Token {
    Minus(Span),
    Not(Span),
    /// A reducer that still wants its term.
    Reducer(Box<dyn FnOnce(Expr) -> Reduce>, Span),
    Infix(BinaryOp, Span),
    /// An operand; the place includes parentheses that are gone from it.
    Operand(Expr, Span),
}

/// An expression and its place with the parentheses around it.
type Placed = (Expr, Span);

impl Builder<'_> {
    pub(super) fn expr(&mut self, pair: Pair<'_>) -> Expr {
        let span = self.span(&pair);
        let list: Vec<Pair<'_>> = pair.into_inner().collect();
        let operators = list.iter().filter(|p| p.as_rule() != Rule::postfix).count();
        let outer = self.depth;
        self.depth += operators + 1;
        if self.depth > MAX_TREE_DEPTH {
            self.depth = outer;
            return self.too_long(span);
        }
        let mut tokens = Vec::with_capacity(list.len());
        for pair in list {
            let span = self.span(&pair);
            tokens.push(match pair.as_rule() {
                Rule::neg => Token::Minus(span),
                Rule::not => Token::Not(span),
                Rule::redhead => Token::Reducer(self.reducer(pair), span),
                Rule::infix => Token::Infix(infix(pair.as_str()), span),
                _ => Token::Operand(self.postfix(pair), span),
            });
        }
        self.depth = outer;
        let mut climb = Climb { tokens: tokens.into_iter().peekable(), nested: 0, errors: Vec::new() };
        let (value, _) = climb.operators(LOOSEST, span);
        self.errors.append(&mut climb.errors);
        value
    }

    /// The limit on the depth of the tree, reported once.
    pub(super) fn too_long(&mut self, span: Span) -> Expr {
        let code = "expression-too-long";
        if !self.errors.iter().any(|e| e.code == code) {
            self.errors.push(
                Diagnostic::error(
                    code,
                    format!("an expression may hold {MAX_TREE_DEPTH} operators in a row"),
                )
                .fault(Fault::Limit)
                .at(span, "")
                .help("give parts of it names with `let`, or sum a list"),
            );
        }
        Expr::new(ExprKind::Bool(false), span)
    }
}

/// Precedence climbing over the flat list.
struct Climb {
    tokens: std::iter::Peekable<std::vec::IntoIter<Token>>,
    /// Prefixes and powers that the current operand stands under.
    nested: usize,
    errors: Vec<Diagnostic>,
}

impl Climb {
    fn error(&mut self, span: Span, title: &str, help: &str) {
        self.errors.push(Diagnostic::error("syntax", title).at(span, "").help(help));
    }

    /// An expression whose operators are all of level `min` or tighter.
    fn operators(&mut self, min: u8, place: Span) -> Placed {
        let (mut left, mut span) = self.operand(min, place);
        let mut compared = false;
        while let Some(&Token::Infix(op, op_span)) = self.tokens.peek() {
            let level = level(op);
            if level < min {
                break;
            }
            self.tokens.next();
            if level == COMPARISON {
                if compared {
                    self.error(op_span, "comparisons do not chain", "join two of them: `a < b and b < c`");
                }
                compared = true;
            }
            let (right, right_span) = match op {
                BinaryOp::Pow => self.nested(MINUS, op_span),
                _ => self.operators(level + 1, op_span),
            };
            span = span.to(right_span);
            left = Expr::new(ExprKind::Binary { op, left, right, op_span }, span);
        }
        (left, span)
    }

    fn operand(&mut self, min: u8, place: Span) -> Placed {
        match self.tokens.next() {
            Some(Token::Operand(value, span)) => (value, span),
            Some(Token::Minus(span)) => {
                let (operand, end) = self.nested(MINUS, span);
                let span = span.to(end);
                (Expr::new(ExprKind::Unary { op: UnaryOp::Neg, operand }, span), span)
            }
            Some(Token::Not(span)) => {
                if min > NOT {
                    self.error(
                        span,
                        "`not` cannot stand behind an operator that binds tighter",
                        "put it in parentheses: `(not a)`",
                    );
                }
                let (operand, end) = self.nested(NOT, span);
                let span = span.to(end);
                (Expr::new(ExprKind::Unary { op: UnaryOp::Not, operand }, span), span)
            }
            Some(Token::Reducer(make, span)) => {
                let (term, end) = self.nested(PRODUCT, span);
                let span = span.to(end);
                (Expr::new(ExprKind::Reduce(make(term)), span), span)
            }
            // The grammar puts an operand here; it is missing only where a limit cut the list short.
            Some(Token::Infix(..)) | None => (Expr::new(ExprKind::Bool(false), place), place),
        }
    }

    /// What stands behind a prefix or a `**`.
    fn nested(&mut self, min: u8, place: Span) -> Placed {
        self.nested += 1;
        if self.nested > MAX_NESTING {
            if self.nested == MAX_NESTING + 1 {
                self.errors.push(too_deep(place, "operators are nested"));
            }
            self.tokens = Vec::new().into_iter().peekable();
        }
        let found = self.operators(min, place);
        self.nested -= 1;
        found
    }
}
