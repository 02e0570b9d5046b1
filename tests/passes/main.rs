//! Every pass of the table from outside: a snippet on which it fires, near misses on which it must
//! not, and that no pass changes what a program computes.
//!
//! All snippets go through [`harness::trace`], which runs the whole table, verifies the graph
//! after each pass and compares the outputs with those of the graph as elaborated.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod harness;
mod pointwise;
mod recognition;
mod recurrences;
mod routes;
mod scales;
mod size;
mod transposed;
mod weights;
mod windows;
mod winograd;
