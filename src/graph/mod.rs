//! The graph: what a program computes, before anything is said of how.
//!
//! # Semantics
//!
//! A [`ir::Program`] is a list of [`ir::Function`]s, callees before callers, and one entry. A function
//! is a [`ir::Graph`]: a petgraph DAG whose nodes are ops with typed results and whose edges carry
//! the port of the operand. All functions and regions of a program share one set of dimension
//! symbols: those of the entry's [`ir::Signature`].
//!
//! Almost everything is one op, [`ir::Index`]: *for every point of `iterate`, the value of
//! `body`*, or *the reduction of `body` over the points of `reduce` that pass `filter`*.
//! Elementwise chains, broadcasts, transposes, slices, concatenations, padding, gathers and
//! reductions are all this op; fusing is substitution of one body into another. Bodies are
//! hash-consed scalar DAGs ([`expr::Exprs`]) without reducers: each reducer is a node of its own
//! and carries as `guard` the conditions it stood under.
//!
//! - **Evaluation is lazy where the language is.** Reads in the branch of a `Select` that is not
//!   taken do not happen, nor do reads under a false `guard` or `filter`; a guarded-off element
//!   is zero. `And`/`Or` evaluate both sides unless the right side reads, in which case the
//!   builder writes them as `Select`.
//! - **Layout.** Every value is dense and row-major. `iterate` may be finer than the result's
//!   shape (an axis `(h, d)` of size `H*D` iterates `h` and `d`); only the linear order counts.
//! - **A read outside an operand** gives the read's `otherwise`, or is an error of the call.
//! - **Over nothing**: `sum` 0, `prod` 1, `any` false, `all` true, `max` -inf, `min` +inf (the
//!   least and greatest value for integers), `argmax` and `argmin` 0, unless the reduction has
//!   its own `otherwise`. NaN wins `max`, `min`, `argmax`, `argmin`; ties take the first.
//! - **Types.** Every expression has one element type; nothing converts silently. What the
//!   language calls exact is `i64` and `f64` here, with the one rounding an explicit `Cast`.
//!
//! [`ir::Recur`] runs its region once per position of its sequences; [`ir::Region`] is the same
//! without carries and in any order. [`verify`] states and checks all invariants.

pub mod affine;
pub mod cost;
pub mod dims;
pub mod eval;
pub mod expr;
#[cfg(test)]
pub(crate) mod fixture;
pub mod ir;
pub mod keys;
pub mod print;
pub mod tiles;
pub mod verify;
