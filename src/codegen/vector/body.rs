//! What a kernel computes for each element, apart from the program it comes from.
//!
//! A [`Body`] is a list of operations on lanes, with numbered arguments in place of everything
//! that is known before the kernel runs: pointers, strides, scalars. Two places in a program with
//! equal bodies share a kernel. [`Extraction`] takes a body out of the expressions of a function
//! and says what the caller must compute for the arguments; it fails where an expression is none
//! that kernels compute, and the place is then emitted otherwise.

use crate::dtype::DType;
use crate::graph::expr::Literal;
use crate::loops::ir::{BufferId, Local, LoopFunc, LoopVar, Scalar, ScalarId};
use crate::ops::scalar::{BinaryOp, UnaryOp};
use std::collections::{BTreeMap, BTreeSet};

/// Bodies of more operations than this are left to others.
const MAX_NODES: usize = 400;
/// Elements that a load or store may lie behind the element that its argument points to.
const MAX_BEHIND: i64 = 1 << 26;
/// Steps between lanes up to this size are compared in 32 bits.
const MAX_COMPARED_STEP: i64 = 1 << 12;

/// The position of an operation in its body.
pub(crate) type NodeId = u32;

/// An operation on lanes: f32, or truth values.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Node {
    /// An f32, by its bits.
    Const(u32),
    /// A truth value.
    Truth(bool),
    /// A scalar argument, f32 or truth value.
    Uniform {
        argument: u32,
        truth: bool,
    },
    /// The accumulator of a product.
    Accumulator,
    /// Elements of a buffer, f32 or truth values.
    Load(Access),
    Unary(UnaryOp, NodeId),
    /// On f32, with an f32 or truth value as its result.
    Binary(BinaryOp, NodeId, NodeId),
    /// On truth values.
    Logic(BinaryOp, NodeId, NodeId),
    Not(NodeId),
    Select(NodeId, NodeId, NodeId),
    /// A truth value as 1 or 0.
    ToFloat(NodeId),
    /// Whether an f32 is not zero.
    ToTruth(NodeId),
    /// Whether the lane's number times `step` fulfils a condition with a bound, an argument that
    /// moves with rows (its stride is the argument behind it) and by `-step` with columns.
    Bound {
        op: BinaryOp,
        step: i32,
        argument: u32,
        by_row: bool,
    },
    /// Stores an f32 or truth value.
    Store(Access, NodeId),
    /// Folds an f32 into the partial values of reduction `k`.
    Reduce(u32, BinaryOp, NodeId),
}

/// How elements are addressed: from a pointer, an argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Access {
    pub argument: u32,
    /// Elements between the pointer and the first one.
    pub behind: i32,
    /// Whether neighbouring lanes have neighbouring elements, or all the same.
    pub along: bool,
    /// Whether rows have other elements; the stride in bytes is the argument behind the pointer.
    pub by_row: bool,
    pub truth: bool,
}

/// Operations in the order in which they run.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Body {
    pub nodes: Vec<Node>,
}

impl Body {
    /// Whether it has one of the functions that take many instructions.
    pub fn is_heavy(&self) -> bool {
        let functions = |node: &Node| match node {
            Node::Unary(op, _) => is_function(*op),
            Node::Binary(op, ..) => *op == BinaryOp::Pow,
            _ => false,
        };
        self.nodes.iter().any(functions)
    }

    /// Whether lanes that are not wanted can be kept from loads and stores of truth values.
    pub fn has_truth_access(&self) -> bool {
        self.nodes.iter().any(|node| match node {
            Node::Load(access) | Node::Store(access, _) => access.truth && access.along,
            _ => false,
        })
    }
}

/// Whether a function takes many instructions.
fn is_function(op: UnaryOp) -> bool {
    !matches!(
        op,
        UnaryOp::Neg
            | UnaryOp::Not
            | UnaryOp::Abs
            | UnaryOp::Sqrt
            | UnaryOp::Floor
            | UnaryOp::Ceil
            | UnaryOp::Round
            | UnaryOp::Trunc
    )
}

/// What a caller computes for an argument, 64 bits each.
#[derive(Clone, Debug)]
pub(crate) enum Argument {
    /// An f32 or truth value.
    Scalar(ScalarId),
    /// The address of an element; for the row and column where the kernel starts.
    Pointer { buffer: BufferId, at: Affine },
    /// The bytes between rows of the pointer before.
    Stride { of: Poly, element_bytes: i64 },
    /// How far the right side of a comparison is above the left where the kernel starts.
    Bound { left: Affine, right: Affine },
    /// What the bound before grows by from row to row.
    BoundStride(Poly),
}

/// A sum of integers and products of expressions that the kernel does not change.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Poly {
    pub constant: i64,
    pub terms: BTreeMap<Vec<ScalarId>, i64>,
}

impl Poly {
    fn constant(value: i64) -> Self {
        Poly { constant: value, terms: BTreeMap::new() }
    }

    /// The value, if no expression has a part in it.
    pub fn known(&self) -> Option<i64> {
        self.terms.is_empty().then_some(self.constant)
    }

    fn plus(&self, other: &Poly, sign: i64) -> Option<Poly> {
        let mut sum = self.clone();
        sum.constant = sum.constant.checked_add(other.constant.checked_mul(sign)?)?;
        for (term, factor) in &other.terms {
            let entry = sum.terms.entry(term.clone()).or_insert(0);
            *entry = entry.checked_add(factor.checked_mul(sign)?)?;
        }
        sum.terms.retain(|_, factor| *factor != 0);
        Some(sum)
    }

    fn times(&self, other: &Poly) -> Option<Poly> {
        let mut product = Poly::constant(self.constant.checked_mul(other.constant)?);
        let one = [(Vec::new(), 1)];
        let all = |poly: &Poly| -> Vec<(Vec<ScalarId>, i64)> {
            let constant = one.iter().map(|(term, _)| (term.clone(), poly.constant));
            constant.chain(poly.terms.iter().map(|(term, factor)| (term.clone(), *factor))).collect()
        };
        for (a, x) in all(self) {
            for (b, y) in all(other) {
                let mut term = [a.clone(), b].concat();
                if term.is_empty() {
                    continue;
                }
                term.sort();
                let entry = product.terms.entry(term).or_insert(0);
                *entry = entry.checked_add(x.checked_mul(y)?)?;
            }
        }
        product.terms.retain(|_, factor| *factor != 0);
        Some(product)
    }
}

/// `base + row * by_row + column * by_column`
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Affine {
    pub base: Poly,
    pub by_row: Poly,
    pub by_column: Poly,
}

impl Affine {
    fn plus(&self, other: &Affine, sign: i64) -> Option<Affine> {
        Some(Affine {
            base: self.base.plus(&other.base, sign)?,
            by_row: self.by_row.plus(&other.by_row, sign)?,
            by_column: self.by_column.plus(&other.by_column, sign)?,
        })
    }

    fn times(&self, by: &Poly) -> Option<Affine> {
        Some(Affine {
            base: self.base.times(by)?,
            by_row: self.by_row.times(by)?,
            by_column: self.by_column.times(by)?,
        })
    }

    fn uniform(&self) -> Option<&Poly> {
        let fixed = self.by_row.known() == Some(0) && self.by_column.known() == Some(0);
        fixed.then_some(&self.base)
    }
}

/// Takes a body out of the expressions of a function.
pub(crate) struct Extraction<'f> {
    func: &'f LoopFunc,
    /// The variable that differs between rows.
    row: Option<LoopVar>,
    /// The variable that differs between lanes.
    column: LoopVar,
    pub body: Body,
    pub arguments: Vec<Argument>,
    /// Locals that the body sets.
    locals: BTreeMap<Local, NodeId>,
    accumulator: Option<Local>,
    known: BTreeMap<ScalarId, NodeId>,
    varying: BTreeMap<ScalarId, bool>,
    fixed_locals: Vec<Local>,
    /// Locals that expressions seen so far read.
    read_locals: BTreeSet<Local>,
}

impl<'f> Extraction<'f> {
    pub fn new(
        func: &'f LoopFunc,
        row: Option<LoopVar>,
        column: LoopVar,
        accumulator: Option<Local>,
    ) -> Self {
        Extraction {
            func,
            row,
            column,
            body: Body::default(),
            arguments: Vec::new(),
            locals: BTreeMap::new(),
            accumulator,
            known: BTreeMap::new(),
            varying: BTreeMap::new(),
            fixed_locals: Vec::new(),
            read_locals: BTreeSet::new(),
        }
    }

    /// Locals whose values differ between lanes though the body has not set them yet.
    pub fn sets(&mut self, local: Local) {
        self.fixed_locals.push(local);
    }

    /// Names the value of an expression as that of a local.
    pub fn set(&mut self, local: Local, value: ScalarId) -> Option<()> {
        let node = self.node(value)?;
        // What has read the local so far has read another value.
        if self.reads(local) {
            self.known.clear();
        }
        self.locals.insert(local, node);
        Some(())
    }

    /// Adds a store.
    pub fn store(&mut self, buffer: BufferId, index: ScalarId, value: ScalarId) -> Option<()> {
        let node = self.node(value)?;
        let access = self.access(buffer, index)?;
        // Lanes that share an element would have to be stored in order.
        if !access.along {
            return None;
        }
        self.push(Node::Store(access, node))?;
        self.known.clear();
        Some(())
    }

    /// Adds a step of reduction `k`.
    pub fn reduce(&mut self, k: u32, op: BinaryOp, value: ScalarId) -> Option<()> {
        let node = self.node(value)?;
        self.push(Node::Reduce(k, op, node))?;
        Some(())
    }

    /// Whether an expression that the body or its arguments hold reads a local.
    pub fn reads(&self, local: Local) -> bool {
        self.read_locals.contains(&local)
    }

    /// A buffer that the body loads from.
    pub fn loads(&self) -> Option<BufferId> {
        self.arguments.iter().find_map(|argument| match argument {
            Argument::Pointer { buffer, .. } => Some(*buffer),
            _ => None,
        })
    }

    fn push(&mut self, node: Node) -> Option<NodeId> {
        if self.body.nodes.len() >= MAX_NODES {
            return None;
        }
        self.body.nodes.push(node);
        Some(self.body.nodes.len() as u32 - 1)
    }

    fn argument(&mut self, argument: Argument) -> u32 {
        self.arguments.push(argument);
        self.arguments.len() as u32 - 1
    }

    /// Whether an expression differs between rows or lanes.
    fn varies(&mut self, root: ScalarId) -> bool {
        let known = &self.varying;
        for id in self.func.scalars.unknown(root, |id| known.contains_key(&id)) {
            if let Scalar::Local(local) = self.func.scalars.get(id) {
                self.read_locals.insert(*local);
            }
            let varies = match self.func.scalars.get(id) {
                Scalar::Var(var) => *var == self.column || Some(*var) == self.row,
                Scalar::Local(local) => Some(*local) == self.accumulator || self.fixed_locals.contains(local),
                _ => self.func.scalars.operands(id).any(|operand| self.varying[&operand]),
            };
            self.varying.insert(id, varies);
        }
        self.varying[&root]
    }

    /// The operation for an expression; adds what it needs.
    pub fn node(&mut self, root: ScalarId) -> Option<NodeId> {
        let mut pending = vec![root];
        while let Some(id) = pending.last().copied() {
            if self.known.contains_key(&id) {
                pending.pop();
                continue;
            }
            if pending.len() > MAX_NODES {
                return None;
            }
            let wanted: Vec<ScalarId> = self.inputs(id)?;
            let missing: Vec<ScalarId> =
                wanted.into_iter().filter(|operand| !self.known.contains_key(operand)).collect();
            if missing.is_empty() {
                let node = self.lower(id)?;
                self.known.insert(id, node);
                pending.pop();
            } else {
                pending.extend(missing);
            }
        }
        self.known.get(&root).copied()
    }

    /// The operands of an expression that are operations of their own.
    fn inputs(&mut self, id: ScalarId) -> Option<Vec<ScalarId>> {
        let scalars = &self.func.scalars;
        if !self.varies(id) {
            return Some(Vec::new());
        }
        Some(match scalars.get(id) {
            Scalar::Unary(..) | Scalar::Select(..) | Scalar::Cast(_) => scalars.operands(id).collect(),
            Scalar::Binary(_, a, _) if matches!(scalars.dtype(*a), DType::F32 | DType::Bool) => {
                scalars.operands(id).collect()
            }
            _ => Vec::new(),
        })
    }

    fn lower(&mut self, id: ScalarId) -> Option<NodeId> {
        let scalars = &self.func.scalars;
        let dtype = scalars.dtype(id);
        if !matches!(dtype, DType::F32 | DType::Bool) {
            return None;
        }
        let truth = dtype == DType::Bool;
        match scalars.get(id) {
            Scalar::Const(Literal::Real(bits)) if !truth => {
                return self.push(Node::Const((f64::from_bits(*bits) as f32).to_bits()));
            }
            Scalar::Const(Literal::Bool(value)) if truth => return self.push(Node::Truth(*value)),
            _ => {}
        }
        if !self.varies(id) {
            let argument = self.argument(Argument::Scalar(id));
            return self.push(Node::Uniform { argument, truth });
        }
        let of = |id: &ScalarId| self.known.get(id).copied();
        let node = match scalars.get(id) {
            Scalar::Local(local) if Some(*local) == self.accumulator => Node::Accumulator,
            Scalar::Local(local) => return self.locals.get(local).copied(),
            Scalar::Load(buffer, index) => Node::Load(self.access(*buffer, *index)?),
            Scalar::Unary(UnaryOp::Not, a) if truth => Node::Not(of(a)?),
            Scalar::Unary(UnaryOp::Sin | UnaryOp::Cos | UnaryOp::Tan, _) => return None,
            Scalar::Unary(op, a) if !truth => Node::Unary(*op, of(a)?),
            Scalar::Binary(op, a, b) => match scalars.dtype(*a) {
                DType::F32 => Node::Binary(*op, of(a)?, of(b)?),
                DType::Bool => self.logic(*op, of(a)?, of(b)?)?,
                DType::I64 => return self.bound(*op, *a, *b),
                _ => return None,
            },
            Scalar::Select(c, a, b) => Node::Select(of(c)?, of(a)?, of(b)?),
            Scalar::Cast(a) => match (scalars.dtype(*a), truth) {
                (DType::Bool, false) => Node::ToFloat(of(a)?),
                (DType::F32, true) => Node::ToTruth(of(a)?),
                _ => return None,
            },
            _ => return None,
        };
        self.push(node)
    }

    fn logic(&self, op: BinaryOp, a: NodeId, b: NodeId) -> Option<Node> {
        match op {
            BinaryOp::And | BinaryOp::Min | BinaryOp::Mul => Some(Node::Logic(BinaryOp::And, a, b)),
            BinaryOp::Or | BinaryOp::Max => Some(Node::Logic(BinaryOp::Or, a, b)),
            BinaryOp::Eq | BinaryOp::Ne => Some(Node::Logic(op, a, b)),
            _ => None,
        }
    }

    /// `a op b` as a condition on the number of the lane.
    fn bound(&mut self, op: BinaryOp, a: ScalarId, b: ScalarId) -> Option<NodeId> {
        if !op.is_comparison() {
            return None;
        }
        let (x, y) = (self.affine(a)?, self.affine(b)?);
        let step = x.by_column.plus(&y.by_column, -1)?.known()?;
        if step.abs() > MAX_COMPARED_STEP {
            return None;
        }
        // Index arithmetic wraps. What a kernel counts up must not; sizes and loop variables are
        // far from it, values that are loaded may not be.
        let fixed = |side: &Affine| side.uniform().is_some();
        if (!fixed(&x) && !self.is_small(a)) || (!fixed(&y) && !self.is_small(b)) {
            return None;
        }
        let by_row = y.by_row.plus(&x.by_row, -1)?;
        let moves = by_row.known() != Some(0);
        let argument = self.argument(Argument::Bound { left: x, right: y });
        if moves {
            self.argument(Argument::BoundStride(by_row));
        }
        self.push(Node::Bound { op, step: step as i32, argument, by_row: moves })
    }

    /// Whether an index is made of sizes, loop variables and constants alone.
    fn is_small(&self, root: ScalarId) -> bool {
        let scalars = &self.func.scalars;
        scalars
            .unknown(root, |_| false)
            .into_iter()
            .all(|id| !matches!(scalars.get(id), Scalar::Load(..) | Scalar::Local(_) | Scalar::Cast(_)))
    }

    fn access(&mut self, buffer: BufferId, index: ScalarId) -> Option<Access> {
        let dtype = self.func.buffers[buffer.0 as usize].dtype;
        if !matches!(dtype, DType::F32 | DType::Bool) {
            return None;
        }
        let at = self.affine(index)?;
        let along = match at.by_column.known()? {
            0 => false,
            1 => true,
            _ => return None,
        };
        let by_row = at.by_row.clone();
        let moves = by_row.known() != Some(0);
        let element_bytes = dtype.size_bytes() as i64;
        let truth = dtype == DType::Bool;
        if let Some((argument, behind)) = self.near(buffer, &at) {
            return Some(Access { argument, behind, along, by_row: moves, truth });
        }
        let argument = self.argument(Argument::Pointer { buffer, at });
        if moves {
            self.argument(Argument::Stride { of: by_row, element_bytes });
        }
        Some(Access { argument, behind: 0, along, by_row: moves, truth })
    }

    /// A pointer that there is already and that an element lies a known number of elements behind.
    fn near(&self, buffer: BufferId, at: &Affine) -> Option<(u32, i32)> {
        self.arguments.iter().enumerate().find_map(|(k, argument)| {
            let Argument::Pointer { buffer: other, at: from } = argument else { return None };
            if *other != buffer || from.by_row != at.by_row || from.by_column != at.by_column {
                return None;
            }
            if from.base.terms != at.base.terms {
                return None;
            }
            let behind = at.base.constant.checked_sub(from.base.constant)?;
            let near = (-MAX_BEHIND..=MAX_BEHIND).contains(&behind);
            near.then_some((k as u32, behind as i32))
        })
    }

    /// An index as a function of row and column, if it is an even one.
    fn affine(&mut self, root: ScalarId) -> Option<Affine> {
        let mut found: BTreeMap<ScalarId, Affine> = BTreeMap::new();
        // Operands first; what does not vary is not looked into.
        let mut needed = BTreeSet::new();
        let mut pending = vec![root];
        while let Some(id) = pending.pop() {
            if needed.insert(id) && self.varies(id) {
                pending.extend(self.func.scalars.operands(id));
            }
            if needed.len() > MAX_NODES {
                return None;
            }
        }
        for id in needed {
            let affine = self.affine_node(id, &found);
            if let Some(affine) = affine {
                found.insert(id, affine);
            }
        }
        found.remove(&root)
    }

    fn affine_node(&mut self, id: ScalarId, found: &BTreeMap<ScalarId, Affine>) -> Option<Affine> {
        let scalars = &self.func.scalars;
        let fixed = |base| Affine { base, ..Affine::default() };
        let known = match scalars.get(id) {
            Scalar::Const(Literal::Int(value)) => Some(*value),
            Scalar::Dim(dim) => dim.as_const(),
            _ => None,
        };
        if let Some(value) = known {
            return Some(fixed(Poly::constant(value)));
        }
        if !self.varies(id) {
            return Some(fixed(Poly { constant: 0, terms: BTreeMap::from([(vec![id], 1)]) }));
        }
        let one = Poly::constant(1);
        match scalars.get(id) {
            Scalar::Var(var) if *var == self.column => Some(Affine { by_column: one, ..Affine::default() }),
            Scalar::Var(_) => Some(Affine { by_row: one, ..Affine::default() }),
            Scalar::Binary(op, a, b) => {
                let (a, b) = (found.get(a)?, found.get(b)?);
                match op {
                    BinaryOp::Add => a.plus(b, 1),
                    BinaryOp::Sub => a.plus(b, -1),
                    BinaryOp::Mul => match (a.uniform(), b.uniform()) {
                        (_, Some(by)) => a.times(by),
                        (Some(by), _) => b.times(by),
                        _ => None,
                    },
                    _ => None,
                }
            }
            _ => None,
        }
    }
}
