//! The graphs under construction: frames, imports between them, and emission of nodes.
//!
//! A frame is a function or the region of a recurrence. A value of an outer frame becomes an
//! argument of the inner one on first use (a *capture*), so the rest of the elaborator may use
//! any value anywhere. Every node is emitted through [`Elaborator::emit`].

use super::Elaborator;
use super::errors::Eval;
use super::limits::MAX_NODES;
use super::scalar::{IndexVar, Scalar, ScalarKind, ScalarRead};
use super::value::{NodeRef, Repr, TensorValue, type_text};
use crate::diag::Diagnostic;
use crate::dim::{Dim, DimError};
use crate::dtype::DType;
use crate::graph::expr::{ExprId, Exprs, Read};
use crate::graph::ir::{self, Axis, Graph, Node, Op, TensorType};
use crate::ops::reduce::Reducer;
use crate::span::Span;
use crate::tensor::{MAX_RANK, Tensor};
use indexmap::IndexMap;
use std::collections::HashMap;
use std::sync::Arc;

/// A graph under construction.
#[derive(Debug)]
pub struct Frame {
    /// Its number, unique in an elaboration.
    pub id: u32,
    /// What has been emitted.
    pub graph: Graph,
    /// Values of outer frames and the arguments that stand for them.
    pub captures: IndexMap<NodeRef, ir::Value>,
    /// Weights and the arguments that stand for them; numbers are relative to the frame's
    /// instance. Regions have none: they capture the function's.
    pub weights: IndexMap<u32, ir::Value>,
    /// The first weight of the instance the function belongs to; `None` for a region.
    pub base: Option<u32>,
}

/// A reduction to emit.
#[derive(Clone, Debug)]
pub struct Reduction {
    /// Which.
    pub reducer: Reducer,
    /// Bound indices, slowest first.
    pub axes: Vec<IndexVar>,
    /// Points that take part.
    pub filter: Option<Scalar>,
    /// The value over nothing.
    pub otherwise: Option<Scalar>,
}

/// What to emit as one node.
#[derive(Debug)]
pub struct Emission<'a> {
    /// The result's own axes, slowest first.
    pub axes: &'a [IndexVar],
    /// The logical shape where it is coarser than the axes.
    pub shape: Option<Vec<Dim>>,
    /// The reduction, if it is one.
    pub reduce: Option<Reduction>,
    /// The element, or the term.
    pub body: Scalar,
    /// Where it is written.
    pub span: Span,
    /// The user's name for it.
    pub name: Option<&'a str>,
}

impl Elaborator<'_> {
    /// Opens a frame; `base` is the first weight of a function's instance, `None` for a region.
    pub fn push_frame(&mut self, base: Option<u32>) {
        self.frame_count += 1;
        self.frames.push(Frame {
            id: self.frame_count,
            graph: Graph::new(),
            captures: IndexMap::new(),
            weights: IndexMap::new(),
            base,
        });
    }

    /// Closes the innermost frame.
    pub fn pop_frame(&mut self) -> Frame {
        self.frames.pop().expect("invariant: frames are pushed and popped in pairs")
    }

    /// The innermost frame.
    pub fn frame(&mut self) -> &mut Frame {
        self.frames.last_mut().expect("invariant: something is being built while expressions are evaluated")
    }

    /// Adds an argument to the innermost frame.
    pub fn add_arg(&mut self, dtype: DType, shape: Vec<Dim>, span: Span, name: Option<&str>) -> TensorValue {
        let frame = self.frame();
        let ty = TensorType::new(dtype, shape.clone());
        let value = frame.graph.add_arg(ty, span, name.map(Into::into));
        TensorValue::node(NodeRef { frame: frame.id, value }, dtype, shape, Vec::new())
    }

    /// The value of the innermost frame that stands for `node`.
    pub fn import(&mut self, node: NodeRef) -> ir::Value {
        let depth = self.frames.len();
        self.import_at(node, depth.saturating_sub(1))
    }

    fn import_at(&mut self, node: NodeRef, depth: usize) -> ir::Value {
        let frame = &self.frames[depth];
        if frame.id == node.frame || depth == 0 {
            return node.value;
        }
        if let Some(value) = frame.captures.get(&node) {
            return *value;
        }
        let outer = self.import_at(node, depth - 1);
        let owner = &self.frames[depth - 1].graph;
        let (ty, origin) = (owner.ty(outer).clone(), owner.node(outer.node));
        let (span, name) = (origin.span, origin.name.clone());
        let frame = &mut self.frames[depth];
        let value = frame.graph.add_arg(ty, span, name);
        frame.captures.insert(node, value);
        value
    }

    /// The value of a weight, by its number among all weights, as an argument of the function.
    pub fn weight_value(&mut self, weight: u32) -> TensorValue {
        let (dtype, shape, span) = {
            let w = &self.weights[weight as usize];
            (w.ty.dtype, w.ty.shape.clone(), w.span)
        };
        let depth = self.frames.iter().rposition(|f| f.base.is_some()).unwrap_or(0);
        let name: Arc<str> = self.weights[weight as usize].path.as_str().into();
        let frame = &mut self.frames[depth];
        let relative = weight - frame.base.unwrap_or(0);
        let id = frame.id;
        let ty = TensorType::new(dtype, shape.clone());
        let value =
            *frame.weights.entry(relative).or_insert_with(|| frame.graph.add_arg(ty, span, Some(name)));
        TensorValue::node(NodeRef { frame: id, value }, dtype, shape, Vec::new())
    }

    /// A new index variable.
    pub fn fresh_index(&mut self, name: &str, extent: Dim) -> IndexVar {
        self.index_count += 1;
        IndexVar::new(self.index_count, name, extent)
    }

    /// The element of a tensor at a position given by one i64 scalar per logical axis.
    pub fn element(&self, tensor: &TensorValue, position: &[Scalar], span: Span) -> Scalar {
        self.element_or(tensor, position, None, span)
    }

    /// The same with a value outside.
    pub fn element_or(
        &self,
        tensor: &TensorValue,
        position: &[Scalar],
        otherwise: Option<Scalar>,
        span: Span,
    ) -> Scalar {
        match &tensor.repr {
            Repr::Lazy(scalar) => scalar.clone(),
            Repr::Node(source) => {
                let index = tensor.mapped.iter().map(Scalar::index).chain(position.iter().cloned()).collect();
                Scalar::read(ScalarRead { source: *source, index, otherwise, span }, tensor.dtype)
            }
        }
    }

    /// Refuses what is computed at run time where nothing is being built.
    ///
    /// # Errors
    /// No frame is open.
    pub fn refuse_static(&mut self, span: Span) -> Eval<()> {
        if !self.frames.is_empty() {
            return Ok(());
        }
        let title = "a tensor is computed here, where everything is evaluated at compile time";
        let mut diagnostic = Diagnostic::error("not-static", title)
            .at(span, "")
            .help("members and arguments of modules are static; compute tensors in an entry");
        if let Some((place, _)) = self.call_places.last().zip(self.nesting.get(1)) {
            diagnostic = diagnostic.at(*place, "asked for here");
        }
        Err(self.report(diagnostic))
    }

    /// Refuses a tensor whose bytes 64 bits cannot count, where its sizes are known.
    ///
    /// # Errors
    /// There are too many.
    pub fn refuse_huge(&mut self, dtype: DType, shape: &[Dim], span: Span) -> Eval<()> {
        let bytes = Dim::product(shape).and_then(|n| n.mul(&Dim::from(dtype.size_bytes() as i64)));
        if bytes == Err(DimError::Overflow) {
            let title = format!("a tensor {} has more bytes than 64 bits count", type_text(dtype, shape));
            return self.limit(title, span);
        }
        Ok(())
    }

    /// Counts a node that is about to be added to the innermost frame.
    ///
    /// # Errors
    /// Nothing is being built, or there are too many.
    pub fn charge_node(&mut self, span: Span) -> Eval<()> {
        self.refuse_static(span)?;
        self.node_count += 1;
        if self.node_count > MAX_NODES {
            return self.limit(format!("the program has more than {MAX_NODES} operations"), span);
        }
        Ok(())
    }

    /// Emits one `Index` node. The result is mapped over the index variables that occur and are
    /// neither its axes nor bound by its reduction.
    ///
    /// # Errors
    /// A rank above the limit; as [`Elaborator::charge_node`].
    pub fn emit(&mut self, emission: Emission<'_>) -> Eval<TensorValue> {
        let Emission { axes, shape, reduce, body, span, name } = emission;
        self.charge_node(span)?;
        let bound = reduce.as_ref().map_or(&[][..], |r| &r.axes);
        let mut mapped: Vec<IndexVar> = body.free().to_vec();
        if let Some(r) = &reduce {
            mapped.extend(r.filter.iter().chain(&r.otherwise).flat_map(|s| s.free().iter().cloned()));
        }
        let guard = self.guard_of(&body, reduce.as_ref(), &mut mapped, axes);
        mapped.retain(|v| !axes.contains(v) && !bound.contains(v));
        mapped.sort_by_key(IndexVar::id);
        mapped.dedup();
        let shape = shape.unwrap_or_else(|| axes.iter().map(|a| a.extent().clone()).collect());
        if mapped.len() + shape.len() > MAX_RANK {
            let title =
                format!("a tensor may have {MAX_RANK} axes; this one has {}", mapped.len() + shape.len());
            return self.error("rank", title, span);
        }
        let iterate: Vec<IndexVar> = mapped.iter().chain(axes).cloned().collect();
        let mut writer = BodyWriter { exprs: Exprs::new(), operands: Vec::new(), memo: HashMap::new() };
        let order: Vec<u32> = iterate.iter().chain(bound).map(IndexVar::id).collect();
        let guard = guard.map(|g| writer.write(self, &g, &order));
        let body_id = writer.write(self, &body, &order);
        let reduce = reduce.map(|r| ir::Reduce {
            reducer: r.reducer,
            axes: r.axes.iter().map(axis).collect(),
            filter: r.filter.map(|s| writer.write(self, &s, &order)),
            otherwise: r.otherwise.map(|s| writer.write(self, &s, &order)),
        });
        let BodyWriter { exprs, operands, .. } = writer;
        let index =
            ir::Index { iterate: iterate.iter().map(axis).collect(), guard, reduce, exprs, body: body_id };
        let dtype = index.result_dtype();
        let physical: Vec<Dim> =
            mapped.iter().map(|v| v.extent().clone()).chain(shape.iter().cloned()).collect();
        self.refuse_huge(dtype, &physical, span)?;
        let frame = self.frame();
        let value = frame.graph.add_index(index, physical, &operands, span, name.map(Into::into));
        Ok(TensorValue::node(NodeRef { frame: frame.id, value }, dtype, shape, mapped))
    }

    /// The condition under which an element is evaluated: what the open selections say, where
    /// the element could otherwise fail or where it costs no further axes.
    fn guard_of(
        &self,
        body: &Scalar,
        reduce: Option<&Reduction>,
        mapped: &mut Vec<IndexVar>,
        axes: &[IndexVar],
    ) -> Option<Scalar> {
        let reads = body.reads() || reduce.and_then(|r| r.filter.as_ref()).is_some_and(Scalar::reads);
        if !reads {
            return None;
        }
        let bound = reduce.map_or(&[][..], |r| &r.axes);
        let mut guard: Option<Scalar> = None;
        for condition in &self.guards {
            if condition.free().iter().any(|v| bound.contains(v)) {
                continue;
            }
            for var in condition.free() {
                if !axes.contains(var) && !mapped.contains(var) {
                    mapped.push(var.clone());
                }
            }
            guard = Some(match guard {
                Some(g) => g.and(condition.clone()),
                None => condition.clone(),
            });
        }
        guard
    }

    /// The tensor as a node whose physical axes are its own: a lazy scalar is emitted.
    ///
    /// # Errors
    /// As [`Elaborator::emit`].
    pub fn materialise(&mut self, tensor: &TensorValue, span: Span) -> Eval<TensorValue> {
        match &tensor.repr {
            Repr::Node(_) => Ok(tensor.clone()),
            Repr::Lazy(scalar) => {
                let body = scalar.clone();
                let mut emitted =
                    self.emit(Emission { axes: &[], shape: None, reduce: None, body, span, name: None })?;
                emitted.exact = tensor.exact;
                Ok(emitted)
            }
        }
    }

    /// A constant of the graph.
    ///
    /// # Errors
    /// As [`Elaborator::charge_node`].
    pub fn constant(&mut self, tensor: Tensor, span: Span) -> Eval<TensorValue> {
        self.charge_node(span)?;
        let shape: Vec<Dim> = tensor.shape().iter().map(|n| Dim::from(*n as i64)).collect();
        let dtype = tensor.dtype();
        let results = vec![TensorType::new(dtype, shape.clone())];
        let node = Node { op: Op::Const(Arc::new(tensor)), results, span, name: None };
        let frame = self.frame();
        let value = ir::Value { node: frame.graph.add(node, &[]), result: 0 };
        Ok(TensorValue::node(NodeRef { frame: frame.id, value }, dtype, shape, Vec::new()))
    }

    /// Gives the node of a value of the innermost frame its name, if it has none.
    pub fn name_value(&mut self, tensor: &TensorValue, name: &str) {
        let Repr::Node(node) = &tensor.repr else { return };
        let frame = self.frame();
        if frame.id == node.frame {
            let target = &mut frame.graph.dag[node.value.node];
            if target.name.is_none() && !matches!(target.op, Op::Arg(_)) {
                target.name = Some(name.into());
            }
        }
    }
}

fn axis(var: &IndexVar) -> Axis {
    Axis::new(var.extent().clone(), var.name())
}

/// Writes lazy scalars into the expressions of one node.
struct BodyWriter {
    exprs: Exprs,
    operands: Vec<ir::Value>,
    memo: HashMap<*const (), ExprId>,
}

impl BodyWriter {
    fn write(&mut self, elaborator: &mut Elaborator<'_>, scalar: &Scalar, order: &[u32]) -> ExprId {
        if let Some(id) = self.memo.get(&scalar.address()) {
            return *id;
        }
        let id = match scalar.kind() {
            ScalarKind::Const(literal) => {
                self.exprs.add(crate::graph::expr::Expr::Const(*literal), scalar.dtype())
            }
            ScalarKind::Index(var) => {
                let position = order.iter().position(|id| *id == var.id());
                self.exprs.index(position.expect("invariant: every free index is an axis of the node"))
            }
            ScalarKind::Var(var) => self.exprs.add(crate::graph::expr::Expr::Var(*var), DType::I64),
            ScalarKind::Dim(dim) => self.exprs.dim(dim),
            ScalarKind::Read(read) => self.write_read(elaborator, read, scalar.dtype(), order),
            ScalarKind::Unary(op, a) => {
                let a = self.write(elaborator, a, order);
                self.exprs.unary(*op, a)
            }
            ScalarKind::Binary(op, a, b) => {
                let (a, b) = (self.write(elaborator, a, order), self.write(elaborator, b, order));
                self.exprs.binary(*op, a, b)
            }
            ScalarKind::Select(c, a, b) => {
                let c = self.write(elaborator, c, order);
                let (a, b) = (self.write(elaborator, a, order), self.write(elaborator, b, order));
                self.exprs.select(c, a, b)
            }
            ScalarKind::Cast(a) => {
                let a = self.write(elaborator, a, order);
                self.exprs.cast(a, scalar.dtype())
            }
        };
        self.memo.insert(scalar.address(), id);
        id
    }

    fn write_read(
        &mut self,
        elaborator: &mut Elaborator<'_>,
        read: &ScalarRead,
        dtype: DType,
        order: &[u32],
    ) -> ExprId {
        let value = elaborator.import(read.source);
        let port = self.operands.iter().position(|v| *v == value).unwrap_or_else(|| {
            self.operands.push(value);
            self.operands.len() - 1
        });
        let index = read.index.iter().map(|s| self.write(elaborator, s, order)).collect();
        let otherwise = read.otherwise.as_ref().map(|s| self.write(elaborator, s, order));
        let read = Read { port: port as u32, index, otherwise, span: read.span };
        self.exprs.add(crate::graph::expr::Expr::Read(read), dtype)
    }
}
