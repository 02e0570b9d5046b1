//! Index notation: definitions, reducers, reads.

use super::Elaborator;
use super::env::Env;
use super::errors::Eval;
use super::value::Value;
use crate::span::Span;
use crate::syntax::ast;

impl Elaborator<'_> {
    /// `let y[b, h: heads, t, (h, d)] = expr`: evaluates the definition and binds its name.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn index_definition(&mut self, _env: &mut Env, _def: &ast::IndexDef, span: Span) -> Eval<()> {
        self.error("not-supported", "index notation is not supported yet", span)
    }

    /// A reducer or normaliser, in index notation or over static lists.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn reduction(&mut self, _env: &mut Env, _reduce: &ast::Reduce, span: Span) -> Eval<Value> {
        self.error("not-supported", "reducers are not supported yet", span)
    }

    /// `base[index else otherwise]` of anything but a static list read at static positions.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn read(
        &mut self,
        _env: &mut Env,
        _base: Value,
        _index: &[ast::Ix],
        _otherwise: Option<&ast::Expr>,
        span: Span,
    ) -> Eval<Value> {
        self.error("not-supported", "reads are not supported yet", span)
    }
}
