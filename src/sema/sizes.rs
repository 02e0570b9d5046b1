//! Equality of sizes: what is decided, what is assumed and checked once per call.

use super::Elaborator;
use super::errors::Eval;
use super::scalar::{Scalar, ScalarKind};
use crate::diag::Diagnostic;
use crate::dim::{Dim, Symbol, Truth};
use crate::graph::ir::{DimCheck, DimCondition};
use crate::ops::scalar::{BinaryOp, UnaryOp};
use crate::span::Span;

impl Elaborator<'_> {
    /// A symbol that is no other.
    pub fn fresh_symbol(&mut self, name: &str) -> Symbol {
        self.symbol_count += 1;
        Symbol::new(name, self.symbol_count)
    }

    /// A size with everything that has been assumed put in.
    pub fn resolved(&self, dim: &Dim) -> Dim {
        if self.assumed.is_empty() || dim.as_const().is_some() {
            return dim.clone();
        }
        let mut dim = dim.clone();
        for _ in 0..8 {
            let next = dim.substitute(&|s| self.assumed.get(s).cloned()).unwrap_or_else(|_| dim.clone());
            if next == dim {
                break;
            }
            dim = next;
        }
        dim
    }

    /// Whether two sizes are equal, as far as it is known.
    pub fn same(&self, a: &Dim, b: &Dim) -> Truth {
        if a == b {
            return Truth::Yes;
        }
        self.resolved(a).compare(&self.resolved(b)).unwrap_or(Truth::Unknown)
    }

    /// Makes two sizes equal: refuted ones are the error that `diagnostic` describes, undecided
    /// ones become a check of the call, and are equal from here on.
    ///
    /// # Errors
    /// The refuted equality.
    pub fn equate(
        &mut self,
        a: &Dim,
        b: &Dim,
        span: Span,
        diagnostic: impl FnOnce() -> Diagnostic,
    ) -> Eval<()> {
        match self.same(a, b) {
            Truth::Yes => Ok(()),
            Truth::No => {
                let mut symbols = a.symbols();
                symbols.extend(b.symbols());
                symbols.dedup();
                let diagnostic = self.with_origins(diagnostic(), &symbols);
                Err(self.report(diagnostic))
            }
            Truth::Unknown => {
                let Diagnostic { code, title: message, .. } = diagnostic();
                let (a, b) = (self.resolved(a), self.resolved(b));
                self.assume_equal(&a, &b);
                self.check(DimCondition::Eq(a, b), code, message, span);
                Ok(())
            }
        }
    }

    /// Records a condition on free dimensions, checked once per call.
    pub fn check(&mut self, condition: DimCondition, code: &'static str, message: String, span: Span) {
        let turned = match &condition {
            DimCondition::Eq(a, b) => Some(DimCondition::Eq(b.clone(), a.clone())),
            _ => None,
        };
        let known = |c: &DimCheck| c.condition == condition || Some(&c.condition) == turned.as_ref();
        if !self.checks.iter().any(known) {
            self.checks.push(DimCheck { condition, code, message, span });
        }
    }

    /// Takes the equalities of a condition that the call checks as given.
    pub(super) fn assume(&mut self, condition: &DimCondition) {
        match condition {
            DimCondition::Eq(a, b) => {
                let (a, b) = (self.resolved(a), self.resolved(b));
                self.assume_equal(&a, &b);
            }
            DimCondition::And(a, b) => {
                self.assume(a);
                self.assume(b);
            }
            _ => {}
        }
    }

    fn assume_equal(&mut self, a: &Dim, b: &Dim) {
        for (symbol, value) in [(b.as_symbol(), a), (a.as_symbol(), b)] {
            if let Some(symbol) = symbol
                && !value.symbols().contains(symbol)
            {
                self.assumed.insert(symbol.clone(), value.clone());
                return;
            }
        }
    }

    /// A truth about sizes as a condition; `None` if anything else occurs in it.
    pub fn dim_condition(scalar: &Scalar) -> Option<DimCondition> {
        let boxed = |s: &Scalar| Self::dim_condition(s).map(Box::new);
        match scalar.kind() {
            ScalarKind::Const(_) => {
                let holds = scalar.as_bool()?;
                Some(DimCondition::Eq(Dim::ZERO, if holds { Dim::ZERO } else { Dim::ONE }))
            }
            ScalarKind::Unary(UnaryOp::Not, a) => Some(DimCondition::Not(boxed(a)?)),
            ScalarKind::Binary(BinaryOp::And, a, b) => Some(DimCondition::And(boxed(a)?, boxed(b)?)),
            ScalarKind::Binary(BinaryOp::Or, a, b) => Some(DimCondition::Or(boxed(a)?, boxed(b)?)),
            ScalarKind::Binary(op, a, b) => {
                let (a, b) = (a.as_dim()?, b.as_dim()?);
                Some(match op {
                    BinaryOp::Eq => DimCondition::Eq(a, b),
                    BinaryOp::Ne => DimCondition::Not(Box::new(DimCondition::Eq(a, b))),
                    BinaryOp::Lt => DimCondition::Lt(a, b),
                    BinaryOp::Le => DimCondition::Le(a, b),
                    BinaryOp::Gt => DimCondition::Lt(b, a),
                    BinaryOp::Ge => DimCondition::Le(b, a),
                    _ => return None,
                })
            }
            _ => None,
        }
    }
}
