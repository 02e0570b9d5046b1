//! mdlc: a declarative model compiler.
//!
//! A `.mdl` file states what a module computes in index notation; mdlc checks its shapes, fuses and
//! orders the computation, and compiles it to a native function. Weights are bound by the names that
//! published checkpoints use.
//!
//! ```
//! use mdlc::{Compiler, Tensor, Weights};
//!
//! let source = "
//!     module Scale(C) {
//!         param weight: [C] = fill(1.0)
//!         forward(x: [B, C]) -> [B, C] = weight * x
//!     }
//! ";
//! let compiled = Compiler::new().set("C", "3").compile_source("scale.mdl", source)?;
//! let weight = Tensor::new([3], vec![1.0_f32, 2.0, 3.0])?;
//! let model = compiled.bind(&Weights::from_tensors([("weight".to_string(), weight)]))?;
//! let x = Tensor::new([2, 3], vec![1.0_f32; 6])?;
//! let outputs = model.call([("x", x.view())])?;
//! let y = outputs.get("y").ok_or("no output")?;
//! assert_eq!(y.as_f32(), Some([1.0, 2.0, 3.0, 1.0, 2.0, 3.0].as_slice()));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! [`Compiler`] gives a [`Compiled`]: code and signature. Binding [`Weights`] checks and packs them
//! once and gives a [`Model`], which any number of threads may call at once. A call works in the thread
//! it is made in, or divides its work between [`Threads`] that it is given.

/// The README's example is compiled and run.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

pub mod analysis;
pub mod cli;
pub mod codegen;
pub mod diag;
pub mod dim;
pub mod driver;
pub mod dtype;
pub mod files;
pub mod graph;
pub mod loops;
pub mod ops;
pub mod passes;
pub mod runtime;
pub mod sema;
pub mod source;
pub mod span;
pub mod syntax;
pub mod tensor;

pub use driver::{Cache, Compiler, Error};
pub use dtype::DType;
pub use files::rename::NameMap;
pub use runtime::{BindError, CallError, Compiled, Model, Outputs, Threads, ThreadsError, Weights};
pub use tensor::{Data, Tensor, TensorView};
