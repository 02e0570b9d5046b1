//! Bodies of functions that are called rather than inlined, one per module: mathematical ones, and the copy.

use super::super::error::CodeError;
use super::super::math::emit::{define_binary, define_unary, signature};
use super::super::math::{BinaryFn, MathFn};
use super::backlog::Backlog;
use super::copy;
use cranelift_codegen::Context;
use cranelift_codegen::ir::{Signature, Type};
use cranelift_codegen::isa::CallConv;
use cranelift_frontend::FunctionBuilderContext;
use cranelift_module::{FuncId, Linkage, Module};
use std::collections::BTreeMap;

/// A function of the math module at one type, or the one that copies.
#[derive(Clone, Copy, Debug)]
pub(super) enum Body {
    Unary(MathFn, Type),
    Binary(BinaryFn, Type),
    Copy,
}

impl Body {
    fn symbol(self) -> String {
        match self {
            Body::Unary(func, ty) => func.symbol(ty),
            Body::Binary(func, ty) => func.symbol(ty),
            Body::Copy => "mdlc_copy".to_string(),
        }
    }

    fn signature(self, conv: CallConv) -> Signature {
        match self {
            Body::Unary(_, ty) => signature(1, ty, conv),
            Body::Binary(_, ty) => signature(2, ty, conv),
            Body::Copy => copy::signature(conv),
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
        let signature = body.signature(module.isa().default_call_conv());
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
                Body::Copy => copy::define(context, scratch, config, conv),
            }
            backlog.add(module, (id, &symbol, None), context)?;
        }
        Ok(())
    }
}
