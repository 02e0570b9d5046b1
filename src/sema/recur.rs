//! Recurrences.

use super::Elaborator;
use super::env::Env;
use super::errors::Eval;
use crate::span::Span;
use crate::syntax::ast;

impl Elaborator<'_> {
    /// A `recur` statement: builds the region and binds its sequences.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn recurrence(&mut self, _env: &mut Env, _recur: &ast::Recur, span: Span) -> Eval<()> {
        self.error("not-supported", "recurrences are not supported yet", span)
    }

    /// An `init` line or a line that defines a sequence, met while the body is executed.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn recurrence_line(&mut self, _env: &mut Env, stmt: &ast::Stmt) -> Eval<()> {
        self.error("not-supported", "recurrences are not supported yet", stmt.span)
    }
}
