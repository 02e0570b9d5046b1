//! Wide leaf kernels: machine code for what Cranelift's vectors of 128 bits are too narrow for.
//!
//! Takes descriptions of kernels: the shape of a product's tile ([`tile`], [`mod@line`]) or the body
//! of a loop ([`lanes`], [`mod@body`]). Gives functions of one pointer, to an array of 64-bit arguments, in the
//! System V convention; [`kernels`] defines each of them once in a module of Cranelift's, which
//! calls them. They call nothing, hold their constants, and refer to themselves only.
//!
//! A kernel is written with [`build`], one method per operation, over virtual registers ([`ir`]);
//! [`alloc`] assigns machine registers and [`encode`] makes bytes of it, by the tables in
//! [`opcodes`]. One text serves both widths ([`isa`]). [`arith`] gives the math functions, with
//! the bits that Cranelift's code has. The vector back end knows the loop IR's expressions, and
//! of Cranelift only how a function is defined.

mod alloc;
mod arith;
pub(crate) mod body;
mod build;
mod encode;
mod ir;
mod isa;
pub(crate) mod kernels;
pub(crate) mod lanes;
pub(crate) mod line;
mod lower;
mod opcodes;
pub(crate) mod pack;
#[cfg(test)]
mod tests;
mod text;
pub(crate) mod tile;

pub use isa::Isa;
pub(crate) use text::kernel_text;
