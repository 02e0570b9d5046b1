//! Text to tree: what MDL looks like.
//!
//! Takes the text of one file and gives an [`ast::File`] or diagnostics; [`parse()`] is the way in
//! and [`print()`] the way back. Nothing outside this module knows the parser generator, and nothing in it knows what a name means.

pub mod ast;
mod parse;
mod precedence;
mod print;
mod scan;

pub use parse::{MAX_ERRORS, MAX_TEXT_BYTES, parse};
pub use print::print;
pub use scan::MAX_NESTING;

/// Deepest tree of expressions that is accepted. Later stages recurse over the tree, so this
/// bounds their stacks.
pub const MAX_TREE_DEPTH: usize = 1000;

#[cfg(test)]
mod tests;
