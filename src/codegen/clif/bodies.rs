//! Bodies of mathematical functions that are called rather than inlined, one per module.

use super::super::error::CodeError;
use super::super::math::emit::{define_binary, define_unary, signature};
use super::super::math::{BinaryFn, MathFn};
use super::backlog::Backlog;
use cranelift_codegen::Context;
use cranelift_codegen::ir::Type;
use cranelift_frontend::FunctionBuilderContext;
use cranelift_module::{FuncId, Linkage, Module};
use std::collections::BTreeMap;

/// A function of the math module at one type.
#[derive(Clone, Copy, Debug)]
pub(super) enum Body {
    Unary(MathFn, Type),
    Binary(BinaryFn, Type),
}

impl Body {
    fn symbol(self) -> String {
        match self {
            Body::Unary(func, ty) => func.symbol(ty),
            Body::Binary(func, ty) => func.symbol(ty),
        }
    }

    fn shape(self) -> (usize, Type) {
        match self {
            Body::Unary(_, ty) => (1, ty),
            Body::Binary(_, ty) => (2, ty),
        }
    }
}

/// The bodies that the functions emitted so far call.
#[derive(Debug, Default)]
pub(super) struct Bodies {
    declared: BTreeMap<String, (FuncId, Body)>,
}

impl Bodies {
    /// The id of a body, declared at its first use.
    pub(super) fn id(&mut self, module: &mut dyn Module, body: Body) -> Result<FuncId, CodeError> {
        let symbol = body.symbol();
        if let Some((id, _)) = self.declared.get(&symbol) {
            return Ok(*id);
        }
        let (arity, ty) = body.shape();
        let signature = signature(arity, ty, module.isa().default_call_conv());
        let id = module
            .declare_function(&symbol, Linkage::Local, &signature)
            .map_err(|error| CodeError::of_module(&symbol, &error))?;
        self.declared.insert(symbol, (id, body));
        Ok(id)
    }

    /// Defines all bodies that were asked for.
    pub(super) fn define(
        self,
        module: &mut dyn Module,
        scratch: &mut FunctionBuilderContext,
        context: &mut Context,
        backlog: &mut Backlog,
    ) -> Result<(), CodeError> {
        let conv = module.isa().default_call_conv();
        let config = module.target_config();
        for (symbol, (id, body)) in self.declared {
            match body {
                Body::Unary(func, ty) => define_unary(context, scratch, config, func, ty, conv),
                Body::Binary(func, ty) => define_binary(context, scratch, config, func, ty, conv),
            }
            backlog.add(module, (id, &symbol, None), context)?;
        }
        Ok(())
    }
}
