//! How tightly operators bind: what the parser builds by and the printer puts parentheses by.
//!
//! | level | operators | |
//! | --- | --- | --- |
//! | 1 | `or` | to the left |
//! | 2 | `and` | to the left |
//! | 3 | `not` | prefix |
//! | 4 | `== != <= >= < >` | one only |
//! | 5 | `++` | to the left |
//! | 6 | `+ -` | to the left |
//! | 7 | `* / // % @` | to the left; a reducer takes all of it |
//! | 8 | `-` | prefix |
//! | 9 | `**` | to the right; its right side is of level 8 |
//! | 10 | calls, reads, fields and what is in brackets | |
//!
//! A reducer and a minus may begin any operand of an operator; `not` stands where its level does,
//! so `a + not b` is an error.

use super::ast::BinaryOp;

pub(super) const LOOSEST: u8 = 1;
pub(super) const NOT: u8 = 3;
pub(super) const COMPARISON: u8 = 4;
pub(super) const PRODUCT: u8 = 7;
pub(super) const MINUS: u8 = 8;
pub(super) const OPERAND: u8 = 10;

/// The level of an operator between two operands.
pub(super) fn level(op: BinaryOp) -> u8 {
    match op {
        BinaryOp::Or => LOOSEST,
        BinaryOp::And => 2,
        BinaryOp::Eq | BinaryOp::Ne | BinaryOp::Le | BinaryOp::Ge | BinaryOp::Lt | BinaryOp::Gt => COMPARISON,
        BinaryOp::Concat => 5,
        BinaryOp::Add | BinaryOp::Sub => 6,
        BinaryOp::FloorDiv | BinaryOp::Div | BinaryOp::Mul | BinaryOp::Rem | BinaryOp::MatMul => PRODUCT,
        BinaryOp::Pow => 9,
    }
}
