//! Recurrences: a region that is elaborated once, and the sequences it defines.
//!
//! The body is executed in a frame of its own. An `init` line is evaluated in the frame around
//! it; a line `h[.., t, ..] = e` gives the slice of this step; a read at an earlier position
//! reads the extended sequence (see [`crate::graph::ir::Recur`]), which is an argument of the
//! region. Afterwards each sequence is a tensor, which remembers its initial entries so that
//! they can be read across the first position.

mod reads;

use super::Elaborator;
use super::build::{Emission, Frame};
use super::coerce::fits;
use super::env::Env;
use super::errors::{Eval, Reported};
use super::limits::MAX_LAG;
use super::scalar::{IndexVar, Scalar, ScalarKind};
use super::value::{NodeRef, Prior, Repr, SequenceRef, TensorValue, Value};
use crate::diag::{Diagnostic, counted};
use crate::dim::Dim;
use crate::dtype::DType;
use crate::graph::expr::{Literal, VarId};
use crate::graph::ir::{self, Node, Op, TensorType};
use crate::ops::scalar::BinaryOp;
use crate::span::Span;
use crate::syntax::ast::{self, IxKind, StmtKind};
use petgraph::stable_graph::NodeIndex;
use std::sync::Arc;

/// A recurrence whose body is being executed.
#[derive(Debug)]
pub struct OpenRecur {
    var: VarId,
    /// The name of the position.
    index: Arc<str>,
    start: Dim,
    extent: Dim,
    reverse: bool,
    /// Which block of the environment the sequences are bound in.
    block: usize,
    /// The names that lines of the body define, and where.
    lines: Vec<(Arc<str>, Span)>,
    sequences: Vec<OpenSequence>,
}

/// A sequence of an [`OpenRecur`].
#[derive(Debug)]
struct OpenSequence {
    name: Arc<str>,
    span: Span,
    dtype: DType,
    /// The shape of one step.
    slice: Vec<Dim>,
    /// Which axis of the whole is time.
    axis: usize,
    /// Initial slices by lag, lag 1 first, values of the frame around the region.
    inits: Vec<Option<TensorValue>>,
    /// The argument that holds the extended sequence, once it is read.
    extended: Option<TensorValue>,
    /// This step's slice, once its line is behind.
    current: Option<TensorValue>,
    /// That line.
    line: Option<Span>,
}

impl Elaborator<'_> {
    /// A `recur` statement: builds the region and binds its sequences.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn recurrence(&mut self, env: &mut Env, recur: &ast::Recur, span: Span) -> Eval<()> {
        let Some(end) = &recur.range.end else {
            return self.error_help(
                "syntax",
                "a recurrence runs over positions",
                recur.range.span,
                "write `recur t in 0..T`",
            );
        };
        let (start, stop) = (self.eval(env, &recur.range.start)?, self.eval(env, end)?);
        let (start, stop) = (self.size_of(&start, recur.range.start.span)?, self.size_of(&stop, end.span)?);
        let extent = self.sized(stop.sub(&start), span)?;
        let step = match &recur.by {
            Some(by) => self.known_int(env, by, "the step of a recurrence")?,
            None => 1,
        };
        if step != 1 && step != -1 {
            let place = recur.by.as_ref().map_or(span, |b| b.span);
            return self.error_help(
                "recur-step",
                format!("a recurrence steps by 1 or -1, not by {step}"),
                place,
                "run over fewer positions and read at a multiple: `x[:, 2 * t]`",
            );
        }
        self.charge_node(span)?;
        let index = self.name_text(env, &recur.index)?;
        let var = VarId(self.var_count);
        self.var_count += 1;
        self.push_frame(None);
        env.push();
        self.recurs.push(OpenRecur {
            var,
            index: Arc::clone(&index),
            start,
            extent,
            reverse: step < 0,
            block: env.blocks.len() - 1,
            lines: lines_of(&recur.body),
            sequences: Vec::new(),
        });
        env.bind(index, Value::exact(Scalar::var(var)), recur.index.span);
        let faults = self.faults;
        let guards = std::mem::take(&mut self.guards);
        self.exec_stmts(env, &recur.body.stmts);
        self.guards = guards;
        let complete = self.faults == faults;
        let finished = self.finish_steps(complete);
        env.pop();
        let frame = self.pop_frame();
        let open = self.recurs.pop().ok_or(Reported)?;
        finished?;
        let sequences = self.emit_recur(open, frame, span)?;
        for (name, value, place) in sequences {
            env.bind(name, Value::Tensor(value), place);
        }
        Ok(())
    }

    /// Makes each sequence's step a value of the region and lists them as its results.
    fn finish_steps(&mut self, complete: bool) -> Eval<()> {
        if !complete {
            return Err(Reported);
        }
        let count = self.recurs.last().map_or(0, |r| r.sequences.len());
        if count == 0 {
            return Ok(());
        }
        let mut results = Vec::with_capacity(count);
        for k in 0..count {
            let sequence = &self.recurs[self.recurs.len() - 1].sequences[k];
            let (name, span) = (Arc::clone(&sequence.name), sequence.span);
            let Some(current) = sequence.current.clone() else {
                return self.error_help(
                    "recur-no-line",
                    format!("sequence `{name}` has an `init` but no line that defines it"),
                    span,
                    format!("add a line `{name}[…, t] = …`"),
                );
            };
            let node = self.materialise(&current, span)?;
            let Repr::Node(node) = node.repr else { return Err(Reported) };
            results.push(self.import(node));
        }
        for k in 0..count {
            self.extended(self.recurs.len() - 1, k)?;
        }
        self.frame().graph.results = results;
        Ok(())
    }

    /// Adds the node around a finished region and gives the sequences it defines.
    fn emit_recur(
        &mut self,
        open: OpenRecur,
        frame: Frame,
        span: Span,
    ) -> Eval<Vec<(Arc<str>, TensorValue, Span)>> {
        let Frame { mut graph, captures, .. } = frame;
        let mut args: Vec<NodeIndex> = captures.values().map(|v| v.node).collect();
        let capture_count = args.len();
        for sequence in &open.sequences {
            if let Some(TensorValue { repr: Repr::Node(node), .. }) = &sequence.extended {
                args.push(node.value.node);
            }
        }
        for (k, arg) in args.iter().enumerate() {
            graph.dag[*arg].op = Op::Arg(k as u32);
        }
        graph.args = args;
        let mut operands: Vec<ir::Value> = captures.keys().map(|node| self.import(*node)).collect();
        let mut results = Vec::new();
        let mut sequences = Vec::new();
        for sequence in &open.sequences {
            for init in &sequence.inits {
                let Some(init) = init else { return Err(Reported) };
                let init = self.materialise(init, sequence.span)?;
                let Repr::Node(node) = init.repr else { return Err(Reported) };
                operands.push(self.import(node));
            }
            let shape = extended_shape(&open, sequence);
            let shape = self.sized(shape, sequence.span)?;
            self.refuse_huge(sequence.dtype, &shape, sequence.span)?;
            results.push(TensorType::new(sequence.dtype, shape));
            let (name, axis, lags) = (Arc::clone(&sequence.name), sequence.axis, sequence.inits.len());
            sequences.push(ir::Sequence { name, axis, lags });
        }
        let node = ir::Recur {
            var: open.var,
            name: Arc::clone(&open.index),
            start: open.start.clone(),
            extent: open.extent.clone(),
            reverse: open.reverse,
            captures: capture_count,
            sequences,
            body: graph,
        };
        let node = Node { op: Op::Recur(Box::new(node)), results, span, name: None };
        let outer = self.frame();
        let (id, frame_id) = (outer.graph.add(node, &operands), outer.id);
        let mut whole = Vec::new();
        for (k, sequence) in open.sequences.iter().enumerate() {
            let value = ir::Value { node: id, result: k as u32 };
            let value = self.whole(&open, sequence, NodeRef { frame: frame_id, value })?;
            whole.push((Arc::clone(&sequence.name), value, sequence.span));
        }
        Ok(whole)
    }

    /// The sequence without its initial entries, which are remembered.
    fn whole(&mut self, open: &OpenRecur, sequence: &OpenSequence, node: NodeRef) -> Eval<TensorValue> {
        let lags = sequence.inits.len() as i64;
        let shape = extended_shape(open, sequence);
        let shape = self.sized(shape, sequence.span)?;
        let extended = TensorValue::node(node, sequence.dtype, shape, Vec::new());
        if lags == 0 {
            return Ok(extended);
        }
        let first = if open.reverse { Dim::ZERO } else { Dim::from(lags) };
        let mut shape = sequence.slice.clone();
        shape.insert(sequence.axis, open.extent.clone());
        let axes = self.axes_of(&shape);
        let at = |(k, v): (usize, &IndexVar)| {
            let position = Scalar::index(v);
            if k == sequence.axis { position.plus(Scalar::dim(&first)) } else { position }
        };
        let position: Vec<Scalar> = axes.iter().enumerate().map(at).collect();
        let body = self.element(&extended, &position, sequence.span);
        let name = Some(&*sequence.name);
        let mut view =
            self.emit(Emission { axes: &axes, shape: None, reduce: None, body, span: sequence.span, name })?;
        let offset = self.sized(first.sub(&open.start), sequence.span)?;
        view.prior = Some(Arc::new(Prior { extended, axis: sequence.axis, offset }));
        Ok(view)
    }

    /// An `init` line or a line that defines a sequence, met while the body is executed.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn recurrence_line(&mut self, env: &mut Env, stmt: &ast::Stmt) -> Eval<()> {
        match &stmt.kind {
            StmtKind::Init { target, ty, value } => self.init_line(env, target, ty.as_ref(), value),
            StmtKind::Sequence { targets, tuple, value } => {
                if let ([target], false) = (targets.as_slice(), tuple) {
                    return self.step_line(env, target, value, stmt.span);
                }
                let whole = self.eval(env, value)?;
                let parts = self.parts(&whole, targets.len(), stmt.span)?;
                for (target, part) in targets.iter().zip(parts) {
                    self.slice_line(env, target, &part, value.span)?;
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn innermost(&self) -> Eval<usize> {
        self.recurs.len().checked_sub(1).ok_or(Reported)
    }

    fn init_line(
        &mut self,
        env: &mut Env,
        target: &ast::SequenceRead,
        ty: Option<&ast::Type>,
        value: &ast::Expr,
    ) -> Eval<()> {
        let open = self.innermost()?;
        let name = self.name_text(env, &target.name)?;
        let (axis, lag) = self.init_position(env, target)?;
        // The value belongs to the frame around the region.
        let region = self.pop_frame();
        let result = self.init_value(env, target, axis, ty, value);
        self.frames.push(region);
        let init = result?;
        if init.rank() + 1 < target.index.len() {
            let beside = counted(target.index.len() - 1, "axis", "axes");
            let title = format!(
                "the first value of `{name}` is {}, but {beside} stand{} beside the position",
                init.kind_text(),
                if target.index.len() == 2 { "s" } else { "" },
            );
            let help = "a scalar fills a declared shape: `init h[:, t - 1]: [B, H] = 0`";
            return self.error_help("rank", title, value.span, help);
        }
        let known = self.recurs[open].sequences.iter().position(|s| s.name == name);
        let k = match known {
            Some(k) => k,
            None => self.open_sequence(env, open, &name, target.span, &init, axis),
        };
        let sequence = &mut self.recurs[open].sequences[k];
        if sequence.extended.is_some() {
            return self.error(
                "recur-init",
                "an `init` line stands before all reads of its sequence",
                target.span,
            );
        }
        if sequence.inits.len() < lag {
            sequence.inits.resize(lag, None);
        }
        if sequence.inits[lag - 1].is_some() {
            let diagnostic =
                Diagnostic::error("recur-init", format!("lag {lag} of `{name}` has two `init` lines"))
                    .at(target.span, "again here")
                    .at(sequence.span, "first here");
            return Err(self.report(diagnostic));
        }
        let sequence = (open, k);
        let init = self.same_slice(&init, sequence, "this first value", value.span)?;
        self.recurs[open].sequences[k].inits[lag - 1] = Some(init);
        Ok(())
    }

    fn init_value(
        &mut self,
        env: &mut Env,
        target: &ast::SequenceRead,
        axis: usize,
        ty: Option<&ast::Type>,
        value: &ast::Expr,
    ) -> Eval<TensorValue> {
        let binds = binds_of(target, axis);
        let tensor = match (binds, ty) {
            (Some(binds), None) => self.defined(env, &binds, value, None, value.span)?,
            _ => {
                let mut first = self.eval(env, value)?;
                if let Some(ty) = ty {
                    first = self.ascribe(env, ty, first, value.span)?;
                }
                let tensor = self.as_tensor(&first, value.span)?;
                self.stored(&tensor, value.span)?
            }
        };
        self.refuse_mapped(&tensor, value.span)?;
        self.materialise(&tensor, value.span)
    }

    /// Inside index notation a sequence would need axes for the indices around it.
    fn refuse_mapped(&mut self, tensor: &TensorValue, span: Span) -> Eval<()> {
        if tensor.free().is_empty() {
            return Ok(());
        }
        let title = "a recurrence cannot depend on the indices of a definition around it";
        let mut diagnostic = Diagnostic::error("not-supported", title)
            .at(span, "")
            .help("call it with whole tensors, outside index notation");
        if let Some(place) = self.call_places.last() {
            diagnostic = diagnostic.at(*place, "called here");
        }
        Err(self.report(diagnostic))
    }

    /// Which axis of an `init` line is time, and how far back it lies.
    fn init_position(&mut self, env: &mut Env, target: &ast::SequenceRead) -> Eval<(usize, usize)> {
        let open = self.innermost()?;
        let (var, reverse, index) =
            (self.recurs[open].var, self.recurs[open].reverse, Arc::clone(&self.recurs[open].index));
        for (axis, ix) in target.index.iter().enumerate() {
            let IxKind::Index(expr) = &ix.kind else { continue };
            if let ast::ExprKind::Name(name) = &*expr.kind
                && name.as_plain() != Some(&index)
                && env.local(name.as_plain().unwrap_or("")).is_none()
            {
                continue;
            }
            let scalar = self.position(env, expr)?;
            let Some(offset) = offset_from(&scalar, var) else { continue };
            let lag = if reverse { offset } else { offset.saturating_neg() };
            return match usize::try_from(lag) {
                Ok(lag) if lag > MAX_LAG => self
                    .limit(format!("an `init` line lies {lag} steps back, at most {MAX_LAG} can"), ix.span),
                Ok(lag) if lag > 0 => Ok((axis, lag)),
                _ => self.error_help(
                    "recur-init",
                    format!("an `init` line gives a position before the first, such as `{index} - 1`"),
                    ix.span,
                    "the positions before the first lie against the direction of the recurrence",
                ),
            };
        }
        self.error_help(
            "recur-init",
            format!("an `init` line names a position before the first, such as `{index} - 1`"),
            target.span,
            "one axis of a sequence is its time axis",
        )
    }

    fn open_sequence(
        &mut self,
        env: &mut Env,
        open: usize,
        name: &Arc<str>,
        span: Span,
        slice: &TensorValue,
        axis: usize,
    ) -> usize {
        let recur = &mut self.recurs[open];
        recur.sequences.push(OpenSequence {
            name: Arc::clone(name),
            span,
            dtype: slice.dtype,
            slice: slice.shape.to_vec(),
            axis,
            inits: Vec::new(),
            extended: None,
            current: None,
            line: None,
        });
        let sequence = recur.sequences.len() - 1;
        let value = Value::Sequence(SequenceRef { recur: open, sequence });
        env.blocks[recur.block].bind(Arc::clone(name), value, span);
        sequence
    }

    /// `h[:, t] = e` or `h[b, t, k] = e`.
    fn step_line(
        &mut self,
        env: &mut Env,
        target: &ast::SequenceRead,
        value: &ast::Expr,
        span: Span,
    ) -> Eval<()> {
        let axis = self.time_axis(target)?;
        match binds_of(target, axis) {
            Some(binds) => {
                let name = self.name_text(env, &target.name)?;
                let tensor = self.defined(env, &binds, value, Some(&name), span)?;
                self.set_step(env, target, axis, &tensor, value.span)
            }
            None => {
                let whole = self.eval(env, value)?;
                self.slice_line(env, target, &whole, value.span)
            }
        }
    }

    fn slice_line(
        &mut self,
        env: &mut Env,
        target: &ast::SequenceRead,
        value: &Value,
        span: Span,
    ) -> Eval<()> {
        let axis = self.time_axis(target)?;
        let tensor = self.as_tensor(value, span)?;
        let tensor = self.stored(&tensor, span)?;
        self.set_step(env, target, axis, &tensor, span)
    }

    /// Where the position stands bare.
    fn time_axis(&mut self, target: &ast::SequenceRead) -> Eval<usize> {
        let open = self.innermost()?;
        let index = Arc::clone(&self.recurs[open].index);
        let is_time = |ix: &ast::Ix| match &ix.kind {
            IxKind::Index(expr) => {
                matches!(&*expr.kind, ast::ExprKind::Name(name) if name.as_plain() == Some(&index))
            }
            _ => false,
        };
        let places: Vec<usize> = (0..target.index.len()).filter(|k| is_time(&target.index[*k])).collect();
        match places[..] {
            [axis] => Ok(axis),
            _ => self.error_help(
                "recur-time",
                format!("`{index}` stands bare in exactly one place of a line that defines a sequence"),
                target.span,
                "that place is the time axis",
            ),
        }
    }

    fn set_step(
        &mut self,
        env: &mut Env,
        target: &ast::SequenceRead,
        axis: usize,
        tensor: &TensorValue,
        span: Span,
    ) -> Eval<()> {
        self.refuse_mapped(tensor, span)?;
        let open = self.innermost()?;
        let name = self.name_text(env, &target.name)?;
        let groups = target.index.iter().any(|ix| matches!(ix.kind, IxKind::Group(_) | IxKind::Multi(_)));
        if tensor.rank() + 1 < target.index.len() && !groups {
            let title = format!(
                "this step is {}, but {} axes stand beside the position",
                tensor.type_text(),
                target.index.len() - 1
            );
            return self.error("rank", title, span);
        }
        let known = self.recurs[open].sequences.iter().position(|s| s.name == name);
        let k = match known {
            Some(k) => k,
            None => self.open_sequence(env, open, &name, target.span, tensor, axis),
        };
        let sequence = &self.recurs[open].sequences[k];
        if let Some(first) = sequence.line {
            let diagnostic =
                Diagnostic::error("recur-twice", format!("sequence `{name}` is defined twice in one step"))
                    .at(target.span, "again here")
                    .at(first, "first here")
                    .help("give the first a name of its own with `let`");
            return Err(self.report(diagnostic));
        }
        if sequence.axis != axis {
            let title = format!("the time of `{name}` is at axis {axis}, but was at axis {}", sequence.axis);
            let diagnostic = Diagnostic::error("recur-time", title)
                .at(target.span, format!("axis {axis} here"))
                .at(sequence.span, format!("axis {} here", sequence.axis));
            return Err(self.report(diagnostic));
        }
        let tensor = self.same_slice(tensor, (open, k), "this step", span)?;
        self.name_value(&tensor, &name);
        let sequence = &mut self.recurs[open].sequences[k];
        (sequence.current, sequence.line) = (Some(tensor), Some(target.span));
        Ok(())
    }

    /// A slice in the type and shape of its sequence; `what` it is.
    fn same_slice(
        &mut self,
        tensor: &TensorValue,
        (open, k): (usize, usize),
        what: &str,
        span: Span,
    ) -> Eval<TensorValue> {
        let sequence = &self.recurs[open].sequences[k];
        let (dtype, slice, first) = (sequence.dtype, sequence.slice.clone(), sequence.span);
        let carried = super::value::type_text(dtype, &slice);
        let title = format!("`{}` carries {carried}, but {what} is {}", sequence.name, tensor.kind_text());
        let differs = |code| {
            let diagnostic = Diagnostic::error(code, title.clone()).at(span, "");
            if first == span { diagnostic } else { diagnostic.at(first, format!("{carried} from here")) }
        };
        if tensor.dtype != dtype && !(tensor.exact && fits(tensor.dtype, dtype)) {
            let diagnostic = differs("type-mismatch").help(format!("convert it: `{dtype}(…)`"));
            return Err(self.report(diagnostic));
        }
        let tensor = self.coerce(tensor, dtype, span)?;
        if tensor.rank() != slice.len() {
            return Err(self.report(differs("shape-mismatch")));
        }
        for (found, wanted) in tensor.shape.to_vec().iter().zip(&slice) {
            self.equate(wanted, found, span, || differs("shape-mismatch"))?;
        }
        Ok(tensor)
    }

    /// The line of an open recurrence that will define a name, if no sequence has it yet.
    pub(super) fn pending_sequence(&self, name: &str) -> Option<Span> {
        self.recurs.iter().rev().find_map(|open| {
            let line = open.lines.iter().find(|(n, _)| **n == *name)?;
            open.sequences.iter().all(|s| *s.name != *name).then_some(line.1)
        })
    }
}

/// The names that the lines of a body define.
fn lines_of(body: &ast::Block) -> Vec<(Arc<str>, Span)> {
    let mut lines = Vec::new();
    for stmt in &body.stmts {
        if let StmtKind::Sequence { targets, .. } = &stmt.kind {
            lines.extend(targets.iter().filter_map(|t| Some((t.name.as_plain()?.into(), t.span))));
        }
    }
    lines
}

/// The shape of an extended sequence.
fn extended_shape(open: &OpenRecur, sequence: &OpenSequence) -> Result<Vec<Dim>, crate::dim::DimError> {
    let mut shape = sequence.slice.clone();
    shape.insert(sequence.axis, open.extent.add(&Dim::from(sequence.inits.len() as i64))?);
    Ok(shape)
}

/// The axes beside time as binds of a definition, if they are written in index notation.
fn binds_of(target: &ast::SequenceRead, axis: usize) -> Option<Vec<ast::Bind>> {
    let others = || target.index.iter().enumerate().filter(|(k, _)| *k != axis).map(|(_, ix)| ix);
    if others().all(|ix| matches!(ix.kind, IxKind::Full)) {
        return None;
    }
    others().map(bind_of).collect()
}

fn bind_of(ix: &ast::Ix) -> Option<ast::Bind> {
    let kind = match &ix.kind {
        IxKind::Multi(name) => ast::BindKind::Multi(name.clone()),
        IxKind::Index(expr) => {
            let ast::ExprKind::Name(name) = &*expr.kind else { return None };
            ast::BindKind::Index { name: name.clone(), extent: None }
        }
        IxKind::Group(parts) => ast::BindKind::Group(parts.iter().map(bind_of_part).collect::<Option<_>>()?),
        IxKind::Full | IxKind::Range(..) => return None,
    };
    Some(ast::Bind { kind, span: ix.span })
}

fn bind_of_part(part: &ast::GroupPart) -> Option<ast::Bind> {
    let kind = match &part.kind {
        ast::GroupPartKind::Sized(name, size) => {
            ast::BindKind::Index { name: name.clone(), extent: Some(size.clone()) }
        }
        ast::GroupPartKind::Group(parts) => {
            ast::BindKind::Group(parts.iter().map(bind_of_part).collect::<Option<_>>()?)
        }
        ast::GroupPartKind::Index(expr) => {
            let ast::ExprKind::Name(name) = &*expr.kind else { return None };
            ast::BindKind::Index { name: name.clone(), extent: None }
        }
    };
    Some(ast::Bind { kind, span: part.span })
}

/// `c` where the scalar is `var + c`.
fn offset_from(scalar: &Scalar, var: VarId) -> Option<i64> {
    let known = |s: &Scalar| match s.kind() {
        ScalarKind::Const(Literal::Int(v)) => Some(*v),
        _ => None,
    };
    match scalar.kind() {
        ScalarKind::Var(v) if *v == var => Some(0),
        ScalarKind::Binary(BinaryOp::Add, a, b) => match (known(a), known(b)) {
            (Some(c), _) => offset_from(b, var)?.checked_add(c),
            (_, Some(c)) => offset_from(a, var)?.checked_add(c),
            _ => None,
        },
        ScalarKind::Binary(BinaryOp::Sub, a, b) => offset_from(a, var)?.checked_sub(known(b)?),
        _ => None,
    }
}
