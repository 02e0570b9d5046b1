//! The budget of an elaboration.

use super::Elaborator;
use super::errors::{Eval, Reported};
use super::value::{PatternValue, Value};
use crate::span::Span;
use indexmap::IndexMap;

/// Static steps: expressions, statements, list elements.
pub const MAX_STEPS: usize = 1_000_000;
/// Turns of loops.
pub const MAX_TURNS: usize = 200_000;
/// Members of all instances together.
pub const MAX_MEMBERS: usize = 100_000;
/// Operations of all graphs together.
pub const MAX_NODES: usize = 50_000;
/// Steps that a recurrence may look back.
pub const MAX_LAG: usize = 4096;
/// Calls within calls and modules within modules.
pub const MAX_NESTING: usize = 256;
/// Expressions within expressions, over all open calls.
pub const MAX_DEPTH: usize = 20_000;
/// Elements of one list.
pub const MAX_LIST: usize = 200_000;
/// Parts of one value, counting those of shared lists at each use.
pub const MAX_PARTS: usize = 1_000_000;
/// # Units
/// Bytes of the stack that elaboration runs on; it holds [`MAX_DEPTH`] several times over.
pub const STACK_BYTES: usize = 512 << 20;

impl Elaborator<'_> {
    /// Takes `steps` from the budget.
    ///
    /// # Errors
    /// The budget is spent, or a limit was reached before.
    pub fn charge(&mut self, steps: usize, span: Span) -> Eval<()> {
        if self.fatal {
            return Err(Reported);
        }
        self.steps += steps;
        if self.steps > MAX_STEPS {
            return self.limit(format!("elaboration takes more than {MAX_STEPS} steps"), span);
        }
        Ok(())
    }

    /// A list that has just been made; its elements are taken from the budget. One whose lists within
    /// lists hold too much, counted without sharing, would take forever to walk.
    ///
    /// # Errors
    /// More than [`MAX_PARTS`] parts, or the budget is spent.
    pub fn made(&mut self, values: Vec<Value>, span: Span) -> Eval<Value> {
        self.charge(values.len(), span)?;
        let value = Value::list(values);
        self.refuse_bulk(&value, span)?;
        Ok(value)
    }

    /// Refuses a list, tuple, description of a module or pattern that holds too much.
    ///
    /// # Errors
    /// As [`Elaborator::made`].
    pub fn refuse_bulk(&mut self, value: &Value, span: Span) -> Eval<()> {
        let mut left = MAX_PARTS;
        if !count_parts(value, &mut left, MAX_NESTING) {
            return self.limit(
                format!(
                    "this value holds more than {MAX_PARTS} parts, or is nested more than {MAX_NESTING} deep"
                ),
                span,
            );
        }
        self.charge((MAX_PARTS - left) / 16, span)
    }

    /// Enters a call or module named `name`; must be paired with [`Elaborator::leave`].
    ///
    /// # Errors
    /// Nesting beyond the limit.
    pub fn enter(&mut self, name: String, decl: Span, span: Span) -> Eval<()> {
        if self.nesting.len() >= MAX_NESTING {
            let outer = &self.nesting[self.nesting.len() - 8..];
            let chain: Vec<&str> = outer.iter().map(|(n, _)| n.as_str()).collect();
            let title = format!("calls are nested more than {MAX_NESTING} deep: … {}", chain.join(" > "));
            return self.limit(title, span);
        }
        self.nesting.push((name, decl));
        Ok(())
    }

    /// Leaves what [`Elaborator::enter`] entered.
    pub fn leave(&mut self) {
        self.nesting.pop();
    }

    /// Refuses a call of something that is already open.
    ///
    /// # Errors
    /// It is open; the cycle is named.
    pub fn refuse_recursion(&mut self, what: &str, name: &str, decl: Span, span: Span) -> Eval<()> {
        let Some(first) = self.nesting.iter().position(|(_, d)| *d == decl) else { return Ok(()) };
        let mut cycle: Vec<String> = self.nesting[first..].iter().map(|(n, _)| n.clone()).collect();
        cycle.push(name.to_string());
        self.error_help(
            "recursion",
            format!("{what} `{name}` uses itself: {}", cycle.join(" > ")),
            span,
            "modules, functions and patterns may not recur; use `for`, a list or `recur`",
        )
    }
}

/// Takes the parts of a value from what is left, those of shared parts at each use.
fn count_parts(value: &Value, left: &mut usize, depth: usize) -> bool {
    match value {
        Value::List(items) => count_all(items.iter(), left, depth),
        Value::Tuple(tuple) => count_all(tuple.values.iter(), left, depth),
        Value::Module(module) => count_all(module.statics.iter().flat_map(IndexMap::values), left, depth),
        Value::Pattern(pattern) => count_pattern(pattern, left, depth),
        _ => true,
    }
}

fn count_all<'v>(values: impl Iterator<Item = &'v Value>, left: &mut usize, depth: usize) -> bool {
    let Some(below) = depth.checked_sub(1) else { return false };
    for value in values {
        let Some(less) = left.checked_sub(1) else { return false };
        *left = less;
        if !count_parts(value, left, below) {
            return false;
        }
    }
    true
}

fn count_pattern(pattern: &PatternValue, left: &mut usize, depth: usize) -> bool {
    let (Some(less), Some(below)) = (left.checked_sub(1), depth.checked_sub(1)) else { return false };
    *left = less;
    match pattern {
        PatternValue::Full | PatternValue::Tensor(_) | PatternValue::Unapplied { .. } => true,
        PatternValue::Decl { bindings, .. } => {
            count_all(bindings.iter().map(|(_, binding)| &binding.value), left, below)
        }
        PatternValue::And(a, b) | PatternValue::Or(a, b) => {
            count_pattern(a, left, below) && count_pattern(b, left, below)
        }
        PatternValue::Not(a) => count_pattern(a, left, below),
    }
}
