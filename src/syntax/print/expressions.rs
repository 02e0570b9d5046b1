//! Expressions, with the parentheses that their precedence needs and no others.

use super::super::ast::{
    Arg, BinaryOp, Block, Expr, ExprKind, GroupPart, GroupPartKind, Ix, IxKind, Reduce, UnaryOp,
};
use super::super::precedence::{COMPARISON, LOOSEST, MINUS, NOT, OPERAND, PRODUCT, level};
use super::{Printer, is_if, only_tail};

impl Printer {
    pub(super) fn expr(&mut self, expr: &Expr) {
        self.operand(expr, LOOSEST);
    }

    /// An expression where only operators of level `min` or tighter may stand.
    fn operand(&mut self, expr: &Expr, min: u8) {
        match &*expr.kind {
            ExprKind::Binary { op, left, right, .. } => {
                self.parens(level(*op) < min, |p| p.binary(*op, left, right));
            }
            ExprKind::Unary { op: UnaryOp::Not, operand } => {
                self.parens(min > NOT, |p| {
                    p.put("not ");
                    p.operand(operand, NOT);
                });
            }
            ExprKind::Unary { op: UnaryOp::Neg, operand } => {
                self.parens(min == OPERAND, |p| {
                    p.put("-");
                    p.operand(operand, MINUS);
                });
            }
            ExprKind::Reduce(reduce) => self.parens(min == OPERAND, |p| p.reduce(reduce)),
            ExprKind::If { cond, then, otherwise } => {
                self.parens(min == OPERAND, |p| p.if_(cond, then, otherwise));
            }
            _ => self.primary(expr),
        }
    }

    fn parens(&mut self, wanted: bool, inner: impl FnOnce(&mut Self)) {
        self.put(if wanted { "(" } else { "" });
        inner(self);
        self.put(if wanted { ")" } else { "" });
    }

    fn binary(&mut self, op: BinaryOp, left: &Expr, right: &Expr) {
        let level = level(op);
        let (left_min, right_min) = match op {
            BinaryOp::Pow => (OPERAND, MINUS),
            _ if level == COMPARISON => (level + 1, level + 1),
            _ => (level, level + 1),
        };
        // A reducer at the end of the left side would take this product too.
        let taken = level == PRODUCT && ends_in_reducer(left);
        self.operand(left, if taken || is_if(left) { OPERAND } else { left_min });
        self.put(" ");
        self.put(op.symbol());
        self.put(" ");
        self.operand(right, right_min);
    }

    fn reduce(&mut self, reduce: &Reduce) {
        self.put(reduce.reducer.name());
        self.put("[");
        self.commas(&reduce.binds, Self::bind);
        self.clause(" where ", reduce.filter.as_ref());
        self.clause(" else ", reduce.otherwise.as_ref());
        self.put("] ");
        self.operand(&reduce.term, PRODUCT);
    }

    fn if_(&mut self, cond: &Expr, then: &Block, otherwise: &Block) {
        let flat = fits_a_line(then, otherwise);
        let (mut cond, mut then, mut otherwise) = (cond, then, otherwise);
        loop {
            self.clause("if ", Some(cond));
            self.put(" ");
            self.branch(then, flat);
            self.put(" else ");
            match only_tail(otherwise).map(|tail| &*tail.kind) {
                Some(ExprKind::If { cond: c, then: t, otherwise: o }) => (cond, then, otherwise) = (c, t, o),
                _ => return self.branch(otherwise, flat),
            }
        }
    }

    fn branch(&mut self, block: &Block, flat: bool) {
        match only_tail(block) {
            Some(tail) if flat => {
                self.put("{ ");
                self.expr(tail);
                self.put(" }");
            }
            _ => self.block(block),
        }
    }

    /// What needs no parentheses anywhere.
    fn primary(&mut self, expr: &Expr) {
        match &*expr.kind {
            ExprKind::Int(value) => self.put(&value.to_string()),
            ExprKind::Float(value) => self.put(&format!("{value:?}")),
            ExprKind::Str(text) => self.string(text),
            ExprKind::Bool(value) => self.put(if *value { "true" } else { "false" }),
            ExprKind::SelfRef => self.put("self"),
            ExprKind::Name(name) => self.name(name),
            ExprKind::List(values) => {
                self.put("[");
                self.commas(values, Self::expr);
                self.put("]");
            }
            ExprKind::Repeat { value, count } => {
                self.clause("[", Some(value));
                self.clause("; ", Some(count));
                self.put("]");
            }
            ExprKind::Comprehension { pat, range, value } => {
                self.put("[for ");
                self.pat(pat);
                self.put(" in ");
                self.range(range);
                self.clause(": ", Some(value));
                self.put("]");
            }
            ExprKind::Tuple(elements) => {
                self.put("(");
                self.commas(elements, Self::arg);
                let single = matches!(&elements[..], [Arg { name: None, .. }]);
                self.put(if single { ",)" } else { ")" });
            }
            ExprKind::Call { callee, args } => {
                self.base(callee, false);
                self.put("(");
                self.commas(args, Self::arg);
                self.put(")");
            }
            ExprKind::Index { base, index, otherwise } => {
                self.base(base, true);
                self.put("[");
                self.commas(index, Self::ix);
                self.clause(if index.is_empty() { "else " } else { " else " }, otherwise.as_ref());
                self.put("]");
            }
            ExprKind::Field { base, name } => {
                self.base(base, false);
                self.put(".");
                self.name(name);
            }
            // These have levels of their own and never come here.
            ExprKind::Unary { .. } | ExprKind::Binary { .. } | ExprKind::Reduce(_) | ExprKind::If { .. } => {
                self.parens(true, |p| p.expr(expr));
            }
        }
    }

    /// What is called or read; before `[`, the names `max` and `min` would be reducers.
    fn base(&mut self, expr: &Expr, read: bool) {
        let reducer = match &*expr.kind {
            ExprKind::Name(name) => read && !name.quoted && matches!(name.as_plain(), Some("max" | "min")),
            _ => false,
        };
        self.parens(reducer, |p| p.operand(expr, OPERAND));
    }

    fn arg(&mut self, arg: &Arg) {
        if let Some(name) = &arg.name {
            self.name(name);
            self.put(" = ");
        }
        self.expr(&arg.value);
    }

    pub(super) fn ix(&mut self, ix: &Ix) {
        match &ix.kind {
            IxKind::Multi(name) => self.multi(name.as_ref()),
            IxKind::Full => self.put(":"),
            IxKind::Group(parts) => self.group(parts),
            IxKind::Index(value) => self.expr(value),
            IxKind::Range(start, end) => {
                self.expr(start);
                self.clause("..", Some(end));
            }
        }
    }

    fn group(&mut self, parts: &[GroupPart]) {
        self.put("(");
        self.commas(parts, |p, part| match &part.kind {
            GroupPartKind::Sized(name, extent) => {
                p.name(name);
                p.clause(": ", Some(extent));
            }
            GroupPartKind::Group(parts) => p.group(parts),
            GroupPartKind::Index(value) => p.expr(value),
        });
        self.put(")");
    }

    pub(super) fn string(&mut self, text: &str) {
        self.put("\"");
        for c in text.chars() {
            match c {
                '"' => self.put("\\\""),
                '\\' => self.put("\\\\"),
                '\n' => self.put("\\n"),
                '\t' => self.put("\\t"),
                c => self.out.push(c),
            }
        }
        self.put("\"");
    }
}

/// Whether what is printed of an expression ends in the term of a reducer.
fn ends_in_reducer(mut expr: &Expr) -> bool {
    loop {
        match &*expr.kind {
            ExprKind::Reduce(_) => return true,
            ExprKind::Unary { operand, .. } => expr = operand,
            ExprKind::Binary { right, .. } => expr = right,
            _ => return false,
        }
    }
}

/// Whether all branches of an `if` are nothing but values.
fn fits_a_line<'t>(then: &'t Block, mut otherwise: &'t Block) -> bool {
    let mut then = then;
    loop {
        if only_tail(then).is_none() {
            return false;
        }
        match only_tail(otherwise).map(|tail| &*tail.kind) {
            Some(ExprKind::If { then: t, otherwise: o, .. }) => (then, otherwise) = (t, o),
            other => return other.is_some(),
        }
    }
}
