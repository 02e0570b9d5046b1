//! Scales and shifts that depend on weights alone, such as a batch norm at inference.
//!
//! Where an expression is a chain of additions, subtractions, multiplications and divisions of one
//! value with others that are known when weights are bound, it is an affine function of that value:
//! `(x - m[c]) / sqrt(v[c] + e) * w[c] + b[c]` becomes `x * scale[c] + shift[c]`, and `scale` and
//! `shift` are computed once, when weights are bound. Where `x` is a sum of products with a weight,
//! each element of the scale belongs to one slice of that weight, and nothing else reads the sum, the
//! scale moves into the weight: `sum[..] (w * scale[c]) * x` and the shift remain.

use super::Changed;
use super::bindtime::{bind_time_args, bind_time_nodes};
use super::epilogue::points_of;
use super::fuse::compact_ports;
use crate::dim::Dim;
use crate::dtype::DType;
use crate::graph::affine::{Affine, Leaf, Ranges, affine};
use crate::graph::expr::{Expr, ExprId, Exprs, Read};
use crate::graph::ir::{Axis, Graph, Index, Op, Program, Value};
use crate::ops::reduce::Reducer;
use crate::ops::scalar::{BinaryOp, UnaryOp};
use petgraph::stable_graph::NodeIndex;
use std::collections::{BTreeMap, BTreeSet};

/// Folds in every function; inside recurrences and regions nothing is known to be a weight.
pub fn fold_scales(program: &mut Program) -> Changed {
    let args = bind_time_args(program);
    let mut changed = false;
    for (function, args) in program.functions.iter_mut().zip(&args) {
        let graph = &mut function.graph;
        let mut known = bind_time_nodes(graph, args);
        for id in graph.topological() {
            changed |= !known.contains(&id) && fold_node(graph, id, &mut known);
        }
    }
    Changed::from(changed)
}

/// An affine function of an expression: `base * scale + shift`, with 1 and 0 left out.
#[derive(Clone, Copy, Debug)]
struct Line {
    base: ExprId,
    scale: Option<ExprId>,
    shift: Option<ExprId>,
}

/// A line that no other goes on from everywhere.
#[derive(Clone, Copy, Debug)]
struct End {
    root: ExprId,
    line: Line,
    /// Whether the base is used for this line alone.
    alone: bool,
}

fn fold_node(graph: &mut Graph, id: NodeIndex, known: &mut BTreeSet<NodeIndex>) -> bool {
    let Op::Index(index) = &graph.node(id).op else { return false };
    let operands = graph.operands(id);
    let lines = Lines::of(graph, index, &operands, known);
    let ends = lines.ends(index);
    if ends.is_empty() {
        return false;
    }
    let mut work = Rewrite { id, index: index.clone(), exprs: lines.exprs, operands };
    let mut rewritten = BTreeMap::new();
    for end in ends {
        let Some((mut line, mut better)) = work.stored(graph, end.line, known) else { continue };
        if end.alone && work.fold_into_weight(graph, line, known) {
            (line.scale, better) = (None, true);
        }
        if better {
            rewritten.insert(end.root, line);
        }
    }
    let changed = !rewritten.is_empty();
    if changed {
        work.finish(graph, &rewritten);
    }
    changed
}

/// The lines of the expressions of an op.
struct Lines {
    /// Those of the op, then scales and shifts.
    exprs: Exprs,
    /// Per expression of the op: whether it is known when weights are bound.
    fixed: Vec<bool>,
    lines: Vec<Option<Line>>,
}

impl Lines {
    fn of(graph: &Graph, index: &Index, operands: &[Value], known: &BTreeSet<NodeIndex>) -> Self {
        let ranges = Ranges { indices: index.extents(), ..Ranges::default() };
        let count = index.exprs.len();
        let mut found = Lines { exprs: index.exprs.clone(), fixed: Vec::new(), lines: Vec::new() };
        for (id, expr, dtype) in index.exprs.iter() {
            let of_fixed = index.exprs.operands(id).iter().all(|operand| found.fixed[operand.0 as usize]);
            let itself = match expr {
                Expr::Var(_) => false,
                Expr::Dim(dim) => dim.as_const().is_some(),
                Expr::Read(read) => {
                    let shape = &graph.ty(operands[read.port as usize]).shape;
                    let inside = |(i, extent): (&ExprId, &Dim)| ranges.of(&index.exprs, *i).is_within(extent);
                    known.contains(&operands[read.port as usize].node)
                        && read.otherwise.is_none()
                        && read.index.iter().zip(shape).all(inside)
                }
                _ => true,
            };
            found.fixed.push(itself && of_fixed);
            let line = (dtype.is_float() && !(itself && of_fixed)).then(|| found.line(id, expr));
            found.lines.push(line);
        }
        debug_assert_eq!(found.lines.len(), count);
        found
    }

    /// The line of a float that is not fixed; of itself where it is no sum or product with a fixed one.
    fn line(&mut self, id: ExprId, expr: &Expr) -> Line {
        let itself = Line { base: id, scale: None, shift: None };
        let fixed = |id: &ExprId| self.fixed[id.0 as usize];
        let line = |id: &ExprId| self.lines[id.0 as usize];
        match expr {
            Expr::Unary(UnaryOp::Neg, a) => line(a).map(|line| self.negated(line)),
            Expr::Binary(op, a, b) => match (line(a), line(b)) {
                (Some(line), None) if fixed(b) => self.combined(*op, line, *b),
                (None, Some(line)) if fixed(a) => match op {
                    BinaryOp::Add | BinaryOp::Mul => self.combined(*op, line, *a),
                    BinaryOp::Sub => {
                        let negated = self.negated(line);
                        self.combined(BinaryOp::Add, negated, *a)
                    }
                    _ => None,
                },
                _ => None,
            },
            _ => None,
        }
        .unwrap_or(itself)
    }

    fn negated(&mut self, line: Line) -> Line {
        let dtype = self.exprs.dtype(line.base);
        let scale = match line.scale {
            Some(scale) => self.exprs.unary(UnaryOp::Neg, scale),
            None => self.exprs.real(-1.0, dtype),
        };
        let shift = line.shift.map(|shift| self.exprs.unary(UnaryOp::Neg, shift));
        Line { scale: Some(scale), shift, ..line }
    }

    fn combined(&mut self, op: BinaryOp, line: Line, by: ExprId) -> Option<Line> {
        let exprs = &mut self.exprs;
        match op {
            BinaryOp::Add | BinaryOp::Sub => {
                let shift = match (line.shift, op) {
                    (Some(shift), op) => exprs.binary(op, shift, by),
                    (None, BinaryOp::Add) => by,
                    (None, _) => exprs.unary(UnaryOp::Neg, by),
                };
                Some(Line { shift: Some(shift), ..line })
            }
            BinaryOp::Mul | BinaryOp::Div => {
                let scale = match (line.scale, op) {
                    (Some(scale), op) => exprs.binary(op, scale, by),
                    (None, BinaryOp::Mul) => by,
                    (None, _) => {
                        let one = exprs.real(1.0, exprs.dtype(by));
                        exprs.binary(BinaryOp::Div, one, by)
                    }
                };
                let shift = line.shift.map(|shift| exprs.binary(op, shift, by));
                Some(Line { scale: Some(scale), shift, ..line })
            }
            _ => None,
        }
    }

    /// The longest lines that are scaled by a weight.
    fn ends(&self, index: &Index) -> Vec<End> {
        let roots = index.roots();
        let needed = index.exprs.reachable(&roots);
        let line = |id: ExprId| self.lines[id.0 as usize];
        let mut ends: BTreeSet<ExprId> = roots.into_iter().collect();
        for (user, _, _) in index.exprs.iter().filter(|(id, ..)| needed[id.0 as usize]) {
            let base = line(user).filter(|line| line.base != user).map(|line| line.base);
            let goes_on = |operand: &ExprId| base.is_some() && line(*operand).map(|l| l.base) == base;
            ends.extend(index.exprs.operands(user).into_iter().filter(|operand| !goes_on(operand)));
        }
        let ends: Vec<(ExprId, Line)> = ends.into_iter().filter_map(|id| Some((id, line(id)?))).collect();
        let with_base = |base: ExprId| ends.iter().filter(|(_, line)| line.base == base).count();
        let scaled = ends.iter().filter(|(_, line)| line.scale.is_some_and(|scale| self.reads(scale)));
        scaled
            .map(|(root, line)| End { root: *root, line: *line, alone: with_base(line.base) == 1 })
            .collect()
    }

    fn reads(&self, root: ExprId) -> bool {
        self.exprs.contain(&[root], |expr| matches!(expr, Expr::Read(_)))
    }
}

/// One op as it is rewritten.
struct Rewrite {
    id: NodeIndex,
    index: Index,
    exprs: Exprs,
    operands: Vec<Value>,
}

impl Rewrite {
    /// The line with its scale and shift as mere reads or literals, and whether that took anything;
    /// `None` where they cannot be tensors.
    fn stored(
        &mut self,
        graph: &mut Graph,
        line: Line,
        known: &mut BTreeSet<NodeIndex>,
    ) -> Option<(Line, bool)> {
        let is_stored = |id: ExprId| matches!(self.exprs.get(id), Expr::Read(_) | Expr::Const(_));
        let parts = [line.scale, line.shift];
        let open = parts.map(|part| part.filter(|id| !is_stored(*id)));
        let tensors = open.map(|part| part.map(|id| self.tensor(id, graph)));
        if tensors.iter().flatten().any(Option::is_none) {
            return None;
        }
        let better = open.iter().any(Option::is_some);
        let mut parts = parts;
        for ((part, tensor), name) in parts.iter_mut().zip(tensors).zip(["scale", "shift"]) {
            if let Some((axes, tensor, operands)) = tensor.flatten() {
                let value = self.store(graph, tensor, &operands, name);
                known.insert(value.node);
                *part = Some(self.read(graph, value, axes));
            }
        }
        Some((Line { scale: parts[0], shift: parts[1], ..line }, better))
    }

    /// A fixed expression as a definition over the indices that it uses; `None` where it would have
    /// more elements than what it reads, or a size that is not known.
    fn tensor(&self, root: ExprId, graph: &Graph) -> Option<(Vec<u32>, Index, Vec<Value>)> {
        let needed = self.exprs.reachable(&[root]);
        let (mut axes, mut largest) = (BTreeSet::new(), 0);
        for (id, expr, _) in self.exprs.iter() {
            match expr {
                Expr::Index(k) if needed[id.0 as usize] => {
                    axes.insert(*k);
                }
                Expr::Read(read) if needed[id.0 as usize] => {
                    let shape = &graph.ty(self.operands[read.port as usize]).shape;
                    largest = largest.max(Dim::product(shape).ok()?.as_const()?);
                }
                _ => {}
            }
        }
        let axes: Vec<u32> = axes.into_iter().collect();
        let reduced = self.index.reduce.iter().flat_map(|reduce| &reduce.axes);
        let all: Vec<&Axis> = self.index.iterate.iter().chain(reduced).collect();
        let iterate: Vec<Axis> = axes.iter().map(|k| all[*k as usize].clone()).collect();
        let points = Dim::product(iterate.iter().map(|axis| &axis.extent)).ok()?.as_const()?;
        if points > largest || iterate.len() > crate::tensor::MAX_RANK {
            return None;
        }
        let mut exprs = Exprs::new();
        let moved = exprs.import(&self.exprs, &[root], &mut |out, leaf, _| match leaf {
            Expr::Index(k) => axes.iter().position(|axis| axis == k).map(|at| out.index(at)),
            _ => None,
        });
        let mut index = Index { iterate, guard: None, reduce: None, exprs, body: moved[0] };
        let operands = compact_ports(&mut index, &self.operands);
        Some((axes, index, operands))
    }

    fn store(&self, graph: &mut Graph, tensor: Index, operands: &[Value], name: &str) -> Value {
        let shape = tensor.extents();
        graph.add_index(tensor, shape, operands, graph.node(self.id).span, Some(name.into()))
    }

    /// An expression that reads a further operand over indices of the op.
    fn read(&mut self, graph: &Graph, value: Value, axes: Vec<u32>) -> ExprId {
        self.operands.push(value);
        let port = self.operands.len() as u32 - 1;
        let index = axes.into_iter().map(|k| self.exprs.index(k as usize)).collect();
        let read = Read { port, index, otherwise: None, span: graph.node(self.id).span };
        self.exprs.add(Expr::Read(read), graph.ty(value).dtype)
    }

    /// Moves the scale into a weight of the sum that the line is of.
    fn fold_into_weight(&self, graph: &mut Graph, line: Line, known: &mut BTreeSet<NodeIndex>) -> bool {
        let Some(Foldable { producer, mut sum, mut operands, weight }) = self.foldable(graph, line, known)
        else {
            return false;
        };
        let Some(Expr::Read(scale)) = line.scale.map(|scale| self.exprs.get(scale)) else { return false };
        let value = operands[weight.read.port as usize];
        let factors = [value, self.operands[scale.port as usize]];
        let (shape, name) = (graph.ty(value).shape.clone(), graph.node(value.node).name.clone());
        let scaled = graph.add_index(weight.scaled(&shape), shape, &factors, graph.node(producer).span, name);
        known.insert(scaled.node);
        operands.push(scaled);
        let port = operands.len() as u32 - 1;
        let (mut exprs, roots) = (Exprs::new(), sum.roots());
        let roots = exprs.import(&sum.exprs, &roots, &mut |out, leaf, dtype| match leaf {
            Expr::Read(read) if *read == weight.read => {
                Some(out.add(Expr::Read(Read { port, ..read.clone() }), dtype))
            }
            _ => None,
        });
        sum.set_roots(exprs, &roots);
        let operands = compact_ports(&mut sum, &operands);
        graph.dag[producer].op = Op::Index(sum);
        graph.set_operands(producer, &operands);
        true
    }

    /// The sum of products that a line is of, if this op alone reads it and it has a weight of which
    /// each element meets one element of the scale.
    fn foldable(&self, graph: &Graph, line: Line, known: &BTreeSet<NodeIndex>) -> Option<Foldable> {
        let Expr::Read(read) = self.exprs.get(line.base) else { return None };
        let Expr::Read(scale) = self.exprs.get(line.scale?) else { return None };
        let value = self.operands[read.port as usize];
        let Op::Index(sum) = &graph.node(value.node).op else { return None };
        let is_sum = sum.reduce.as_ref().is_some_and(|r| r.reducer == Reducer::Sum && r.otherwise.is_none());
        let only_here = graph.users(value.node) == [self.id] && !graph.results.contains(&value);
        if read.otherwise.is_some() || !is_sum || sum.guard.is_some() || !only_here || !self.reads_once(read)
        {
            return None;
        }
        let mut sum = sum.clone();
        let operands = compact_ports(&mut sum, &graph.operands(value.node));
        let ranges = Ranges { indices: self.index.extents(), ..Ranges::default() };
        let points = points_of(&sum.iterate, &self.exprs, read, &graph.ty(value).shape, &ranges)?;
        let scale_shape = &graph.ty(self.operands[scale.port as usize]).shape;
        let weight = factors(&sum).into_iter().find_map(|factor| {
            let operand = operands[factor.port as usize];
            let shape = &graph.ty(operand).shape;
            let axes = scale.index.iter().zip(scale_shape).map(|(at, extent)| {
                let at = joined(&self.exprs, affine(&self.exprs, *at)?)?;
                (0..shape.len()).find(|k| {
                    let of_weight = || {
                        let form = substituted(affine(&sum.exprs, factor.index[*k])?, &points)?;
                        joined(&self.exprs, form)
                    };
                    shape[*k] == *extent && of_weight().is_some_and(|form| form == at)
                })
            });
            let axes = axes.collect::<Option<Vec<usize>>>()?;
            known.contains(&operand.node).then_some(Weight { read: factor, axes })
        })?;
        Some(Foldable { producer: value.node, sum, operands, weight })
    }

    /// Whether no other read of the same operand occurs.
    fn reads_once(&self, read: &Read) -> bool {
        let needed = self.index.exprs.reachable(&self.index.roots());
        let same = self.index.exprs.iter().filter(|(id, expr, _)| {
            needed[id.0 as usize] && matches!(expr, Expr::Read(other) if other.port == read.port)
        });
        same.count() == 1
    }

    /// Writes the op back, with lines in place of what they are equal to.
    fn finish(mut self, graph: &mut Graph, lines: &BTreeMap<ExprId, Line>) {
        let roots = self.index.roots();
        let needed = self.exprs.reachable(&roots);
        let mut ids = self.exprs.iter().map(|(id, ..)| id).filter(|id| needed[id.0 as usize]);
        let mut moved: BTreeMap<ExprId, ExprId> = BTreeMap::new();
        let mut out = Exprs::new();
        let roots = out.map(&self.exprs, &roots, &mut |out, expr, dtype| {
            let id = ids.next().expect("invariant: each expression in use is moved once, in order");
            let new = match lines.get(&id) {
                None => out.add(expr, dtype),
                Some(line) => [(BinaryOp::Mul, line.scale), (BinaryOp::Add, line.shift)].into_iter().fold(
                    moved[&line.base],
                    |value, (op, part)| match part {
                        None => value,
                        Some(part) => {
                            let part = out.import(&self.exprs, &[part], &mut |_, _, _| None)[0];
                            out.binary(op, value, part)
                        }
                    },
                ),
            };
            moved.insert(id, new);
            new
        });
        self.index.set_roots(out, &roots);
        let operands = compact_ports(&mut self.index, &self.operands);
        graph.dag[self.id].op = Op::Index(self.index);
        graph.set_operands(self.id, &operands);
    }
}

/// A sum that can take a scale up.
struct Foldable {
    producer: NodeIndex,
    /// The sum; all its expressions are in use, so that copying them keeps their ids.
    sum: Index,
    operands: Vec<Value>,
    weight: Weight,
}

/// A weight in a sum of products.
struct Weight {
    read: Read,
    /// For each axis of the scale, the axis of the weight that it goes with.
    axes: Vec<usize>,
}

impl Weight {
    /// The weight, operand 0, times the scale, operand 1.
    fn scaled(&self, shape: &[Dim]) -> Index {
        let mut exprs = Exprs::new();
        let iterate = shape.iter().map(|extent| Axis::new(extent.clone(), "w")).collect();
        let own: Vec<ExprId> = (0..shape.len()).map(|k| exprs.index(k)).collect();
        let by: Vec<ExprId> = self.axes.iter().map(|k| own[*k]).collect();
        let span = self.read.span;
        let [weight, scale] = [(0, own), (1, by)].map(|(port, index)| {
            exprs.add(Expr::Read(Read { port, index, otherwise: None, span }), DType::F32)
        });
        let body = exprs.binary(BinaryOp::Mul, weight, scale);
        Index { iterate, guard: None, reduce: None, exprs, body }
    }
}

/// The reads that a body is a product of, at least two factors.
fn factors(sum: &Index) -> Vec<Read> {
    let (mut pending, mut found) = (vec![sum.body], Vec::new());
    while let Some(id) = pending.pop() {
        match sum.exprs.get(id) {
            Expr::Binary(BinaryOp::Mul, a, b) => pending.extend([*b, *a]),
            Expr::Read(read)
                if read.otherwise.is_none() && sum.exprs.dtype(id) == DType::F32 && id != sum.body =>
            {
                found.push(read.clone());
            }
            _ => {}
        }
    }
    found
}

/// A form over the axes of a sum at given points; `None` where anything else occurs in it.
fn substituted(form: Affine, points: &[Affine]) -> Option<Affine> {
    form.terms.iter().try_fold(Affine::constant(form.constant), |sum, (leaf, coefficient)| match leaf {
        Leaf::Index(k) => sum.add(&points.get(*k as usize)?.scale(coefficient)?),
        _ => None,
    })
}

/// `x // n * n + x % n` is `x`.
fn joined(exprs: &Exprs, mut form: Affine) -> Option<Affine> {
    let parts = |op: BinaryOp, leaf: &Leaf| match leaf {
        Leaf::Opaque(id) => match exprs.get(*id) {
            Expr::Binary(found, a, n) if *found == op => Some((*a, *n)),
            _ => None,
        },
        _ => None,
    };
    while let Some((quotient, rest, whole)) = form.terms.iter().find_map(|(leaf, coefficient)| {
        let (a, n) = parts(BinaryOp::Mod, leaf)?;
        let by = affine(exprs, n).filter(|by| by.terms.is_empty())?.constant;
        let quotient = form.terms.iter().find(|(leaf, of_quotient)| {
            parts(BinaryOp::FloorDiv, leaf) == Some((a, n))
                && coefficient.mul(&by).is_ok_and(|expected| expected == **of_quotient)
        })?;
        Some((*quotient.0, *leaf, affine(exprs, a)?.scale(coefficient)?))
    }) {
        form.terms.remove(&quotient);
        form.terms.remove(&rest);
        form = form.add(&whole)?;
    }
    Some(form)
}
