//! Sizes: polynomials of the free dimensions, computed once at the start of a function.
//!
//! The caller has checked that the sizes of buffers fit; other formulas wrap, and a division by
//! zero gives what the math module says, since such a size is never used.

use super::super::math::integer::{emit_floor_div, emit_floor_mod};
use crate::dim::{Atom, Dim, Symbol};
use cranelift_codegen::ir::{InstBuilder, MemFlagsData, Value, types};
use cranelift_frontend::FunctionBuilder;
use std::collections::BTreeMap;

/// The sizes of one function.
pub(crate) struct Sizes<'a> {
    order: &'a [Symbol],
    dims: Value,
    known: BTreeMap<Dim, Value>,
}

impl<'a> Sizes<'a> {
    /// Sizes over `dims`, an array with one value for each symbol of `order`.
    pub(crate) fn new(order: &'a [Symbol], dims: Value) -> Self {
        Sizes { order, dims, known: BTreeMap::new() }
    }

    /// The value of a size that has been emitted.
    pub(crate) fn get(&self, dim: &Dim) -> Option<Value> {
        self.known.get(dim).copied()
    }

    /// Takes a value that was computed elsewhere for a size.
    pub(crate) fn know(&mut self, dim: Dim, value: Value) {
        self.known.insert(dim, value);
    }

    /// Emits a size at the current place, or gives the value that an earlier call emitted.
    pub(crate) fn emit(&mut self, builder: &mut FunctionBuilder, dim: &Dim) -> Value {
        if let Some(value) = self.known.get(dim) {
            return *value;
        }
        let value = match dim.as_const() {
            Some(value) => builder.ins().iconst(types::I64, value),
            None => self.sum(builder, dim),
        };
        self.known.insert(dim.clone(), value);
        value
    }

    fn sum(&mut self, builder: &mut FunctionBuilder, dim: &Dim) -> Value {
        let mut sum: Option<Value> = None;
        for (monomial, coefficient) in dim.terms() {
            let mut product: Option<Value> = None;
            for (atom, exponent) in monomial {
                let factor = self.atom(builder, atom);
                for _ in 0..*exponent {
                    product = Some(match product {
                        Some(product) => builder.ins().imul(product, factor),
                        None => factor,
                    });
                }
            }
            let term = match product {
                Some(product) if *coefficient == 1 => product,
                Some(product) => builder.ins().imul_imm_s(product, *coefficient),
                None => builder.ins().iconst(types::I64, *coefficient),
            };
            sum = Some(match sum {
                Some(sum) => builder.ins().iadd(sum, term),
                None => term,
            });
        }
        sum.unwrap_or_else(|| builder.ins().iconst(types::I64, 0))
    }

    fn atom(&mut self, builder: &mut FunctionBuilder, atom: &Atom) -> Value {
        let (a, b) = match atom {
            Atom::Symbol(symbol) => return self.symbol(builder, symbol),
            Atom::FloorDiv(a, b) | Atom::Mod(a, b) | Atom::Min(a, b) | Atom::Max(a, b) => {
                (self.emit(builder, a), self.emit(builder, b))
            }
        };
        match atom {
            Atom::Symbol(_) => a,
            Atom::FloorDiv(..) => emit_floor_div(builder, a, b),
            Atom::Mod(..) => emit_floor_mod(builder, a, b),
            Atom::Min(..) => builder.ins().smin(a, b),
            Atom::Max(..) => builder.ins().smax(a, b),
        }
    }

    fn symbol(&self, builder: &mut FunctionBuilder, symbol: &Symbol) -> Value {
        match self.order.iter().position(|known| known == symbol) {
            Some(at) => {
                let flags = MemFlagsData::trusted().with_readonly().with_can_move();
                builder.ins().load(types::I64, flags, self.dims, at as i32 * 8)
            }
            // The verifier of the loop IR refuses such a symbol; an empty size is harmless.
            None => builder.ins().iconst(types::I64, 0),
        }
    }
}
