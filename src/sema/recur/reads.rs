//! Reads of sequences inside their recurrence: of this step, or of a fixed number of steps before.

use super::super::Elaborator;
use super::super::env::Env;
use super::super::errors::{Eval, Reported};
use super::super::value::{NodeRef, SequenceRef, TensorValue, Value};
use super::{extended_shape, offset_from};
use crate::diag::{Diagnostic, counted};
use crate::dim::Dim;
use crate::dtype::DType;
use crate::graph::ir::TensorType;
use crate::span::Span;
use crate::syntax::ast::{self, IxKind};
use std::sync::Arc;

impl Elaborator<'_> {
    /// The type of a sequence of an open recurrence, time included.
    pub(in super::super) fn sequence_type(&self, sequence: SequenceRef) -> Option<(DType, Vec<Dim>)> {
        let open = self.recurs.get(sequence.recur)?;
        let sequence = open.sequences.get(sequence.sequence)?;
        let mut shape = sequence.slice.clone();
        shape.insert(sequence.axis, open.extent.clone());
        Some((sequence.dtype, shape))
    }

    /// The argument that holds the extended sequence.
    pub(super) fn extended(&mut self, open: usize, k: usize) -> Eval<TensorValue> {
        let sequence = &self.recurs[open].sequences[k];
        if let Some(extended) = &sequence.extended {
            return Ok(extended.clone());
        }
        let (name, span, dtype) = (Arc::clone(&sequence.name), sequence.span, sequence.dtype);
        if let Some(lag) = sequence.inits.iter().position(Option::is_none) {
            let title = format!("`{name}` has no `init` line for lag {}", lag + 1);
            return self.error("recur-init", title, span);
        }
        let shape = extended_shape(&self.recurs[open], sequence);
        let shape = self.sized(shape, span)?;
        // The frame of the recurrence, which may lie outside the innermost one.
        let inner = self.recurs.len() - 1 - open;
        let regions: Vec<usize> = (0..self.frames.len()).filter(|f| self.frames[*f].base.is_none()).collect();
        let at = regions.len().checked_sub(inner + 1).map(|r| regions[r]).ok_or(Reported)?;
        let frame = &mut self.frames[at];
        let value = frame.graph.add_arg(TensorType::new(dtype, shape.clone()), span, Some(name));
        let extended = TensorValue::node(NodeRef { frame: frame.id, value }, dtype, shape, Vec::new());
        self.recurs[open].sequences[k].extended = Some(extended.clone());
        Ok(extended)
    }

    /// A read of a sequence inside its recurrence.
    pub(in super::super) fn read_sequence(
        &mut self,
        env: &mut Env,
        sequence: SequenceRef,
        index: &[ast::Ix],
        otherwise: Option<&ast::Expr>,
        span: Span,
    ) -> Eval<Value> {
        let SequenceRef { recur, sequence: k } = sequence;
        let (var, reverse) = (self.recurs[recur].var, self.recurs[recur].reverse);
        let open = &self.recurs[recur].sequences[k];
        let (axis, name, lags) = (open.axis, Arc::clone(&open.name), open.inits.len());
        let position = match index.get(axis).map(|ix| &ix.kind) {
            Some(IxKind::Index(expr)) => self.position(env, expr)?,
            _ => return self.whole_too_early(sequence, span),
        };
        let Some(offset) = offset_from(&position, var) else {
            return self.whole_too_early(sequence, span);
        };
        let lag = if reverse { offset } else { offset.saturating_neg() };
        let mut rest: Vec<ast::Ix> = index.to_vec();
        if lag == 0 {
            let Some(current) = self.recurs[recur].sequences[k].current.clone() else {
                let line = self.recurs[recur].lines.iter().find(|(n, _)| *n == name).map(|(_, s)| *s);
                let title = format!("`{name}` is read at this position before its line");
                let mut diagnostic = Diagnostic::error("recur-order", title)
                    .at(span, "")
                    .help("move the line up, or read the step before");
                if let Some(line) = line {
                    diagnostic = diagnostic.at(line, "its line is here");
                }
                return Err(self.report(diagnostic));
            };
            rest.remove(axis);
            return if rest.is_empty() && current.rank() == 0 {
                Ok(Value::Tensor(current))
            } else {
                self.read(env, Value::Tensor(current), &rest, otherwise, span)
            };
        }
        if lag < 0 {
            let title = format!(
                "`{name}` is read {} ahead of its position",
                counted(lag.unsigned_abs() as usize, "step", "steps")
            );
            let help = if reverse {
                "this recurrence runs downwards"
            } else {
                "`by -1` runs a recurrence downwards"
            };
            return self.error_help("recur-order", title, span, help);
        }
        if lag as usize > lags {
            let title = format!(
                "`{name}` is read {} back, but has no `init` line for that lag",
                counted(lag as usize, "step", "steps")
            );
            let place = self.recurs[recur].sequences[k].span;
            let read = self.sources.text(span).to_string();
            let diagnostic = Diagnostic::error("recur-init", title)
                .at(span, "")
                .at(place, if lags == 0 { "defined here" } else { "it has this one" })
                .help(format!("add its value before the first step: `init {read} = …`"));
            return Err(self.report(diagnostic));
        }
        let extended = self.extended(recur, k)?;
        let first = if reverse { Dim::ZERO } else { Dim::from(lags as i64) };
        let shift = self.sized(first.sub(&self.recurs[recur].start), span)?;
        self.read_shifted(env, &extended, axis, &shift, index, otherwise, span)
    }

    /// The error for a read of what is not complete yet.
    ///
    /// # Errors
    /// Always.
    pub(in super::super) fn whole_too_early<T>(&mut self, sequence: SequenceRef, span: Span) -> Eval<T> {
        let open = &self.recurs[sequence.recur];
        let (name, t) = (&open.sequences[sequence.sequence].name, &open.index);
        let title = format!("`{name}` is not complete inside its recurrence");
        let help = format!(
            "inside, it is read at `{t}` or a fixed number of steps before; the whole is in scope after the block"
        );
        self.error_help("recur-order", title, span, help)
    }
}
