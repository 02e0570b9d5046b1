//! A condition as steps: what [`super::domain`] runs over bounds.
//!
//! Takes an expression of an arena, gives the operations that it needs, operands first. Sums are kept
//! as affine forms, so that an index that occurs twice is one term, and a comparison is one of a
//! difference with zero. What bounds say nothing about (floats, i32) is unknown.

use crate::dim::Dim;
use crate::dtype::DType;
use crate::graph::affine::{Affine, Leaf, affine};
use crate::graph::expr::{Expr, ExprId, Exprs, Literal, Read, VarId};
use crate::ops::scalar::{BinaryOp, UnaryOp};

/// One operation; numbers are those of earlier steps.
#[derive(Clone, Debug)]
pub(super) enum Step {
    /// A truth value.
    Truth(bool),
    /// A sum.
    Sum(Sum),
    /// `op` of a sum and zero: a comparison of what the sum is the difference of.
    Compare(BinaryOp, Sum),
    /// The absolute value.
    Abs(usize),
    /// Product, quotient, remainder, minimum or maximum.
    Binary(BinaryOp, usize, usize),
    /// Both, or either.
    Logic(BinaryOp, usize, usize),
    /// Negation.
    Not(usize),
    /// `==` or `!=` of two truth values.
    Same(BinaryOp, usize, usize),
    /// A choice of integers or truth values.
    Select(usize, usize, usize),
    /// 0 or 1.
    FromTruth(usize),
    /// Whether an integer is not zero.
    NonZero(usize),
    /// An element of an operand, or another value where the position is outside.
    Read { read: Read, index: Vec<usize>, otherwise: Option<usize>, dtype: DType },
    /// Anything.
    Unknown(DType),
}

/// `constant + sum(coefficient * leaf)`.
#[derive(Clone, Debug)]
pub(super) struct Sum {
    pub constant: Dim,
    pub terms: Vec<(Term, Dim)>,
}

/// A leaf of a sum.
#[derive(Clone, Copy, Debug)]
pub(super) enum Term {
    Index(u32),
    Var(VarId),
    Step(usize),
}

/// A step with where it comes from.
#[derive(Clone, Debug)]
pub(super) struct Placed {
    pub step: Step,
    /// The expression that it is the value of.
    pub expr: ExprId,
    /// The indices that it depends on, one bit each.
    pub depends: u64,
}

/// The steps of a condition, operands first; the last one is its value.
#[derive(Clone, Debug)]
pub(super) struct Steps {
    list: Vec<Placed>,
}

/// The bit of an index; indices past the width of the set share its last bit.
pub(super) fn bit(k: u32) -> u64 {
    1 << k.min(63)
}

impl Steps {
    pub fn new(exprs: &Exprs, root: ExprId) -> Steps {
        let reachable = exprs.reachable(&[root]);
        let mut builder = Builder { exprs, of: vec![usize::MAX; exprs.len()], list: Vec::new() };
        for (id, _, _) in exprs.iter().filter(|(id, ..)| reachable[id.0 as usize]) {
            let step = builder.step(id);
            builder.of[id.0 as usize] = builder.list.len();
            let depends = builder.depends(&step);
            builder.list.push(Placed { step, expr: id, depends });
        }
        let root = builder.of[root.0 as usize];
        Steps { list: needed(builder.list, root) }
    }

    pub fn iter(&self) -> impl Iterator<Item = &Placed> {
        self.list.iter()
    }

    /// The indices that the value depends on.
    pub fn depends(&self) -> u64 {
        self.list.last().map_or(0, |placed| placed.depends)
    }

    pub fn reads(&self) -> impl Iterator<Item = &Read> {
        self.list.iter().filter_map(|placed| match &placed.step {
            Step::Read { read, .. } => Some(read),
            _ => None,
        })
    }
}

struct Builder<'a> {
    exprs: &'a Exprs,
    /// The step of each expression.
    of: Vec<usize>,
    list: Vec<Placed>,
}

impl Builder<'_> {
    fn at(&self, id: ExprId) -> usize {
        self.of[id.0 as usize]
    }

    fn step(&self, id: ExprId) -> Step {
        match self.exprs.dtype(id) {
            DType::I64 => match affine(self.exprs, id) {
                Some(form) if form.as_leaf() != Some(Leaf::Opaque(id)) => Step::Sum(self.sum(&form)),
                Some(_) => self.opaque(id),
                None => Step::Unknown(DType::I64),
            },
            DType::Bool => self.truth(id),
            other => Step::Unknown(other),
        }
    }

    /// An integer that is no sum.
    fn opaque(&self, id: ExprId) -> Step {
        match self.exprs.get(id) {
            Expr::Unary(UnaryOp::Abs, a) => Step::Abs(self.at(*a)),
            Expr::Binary(
                op @ (BinaryOp::Mul | BinaryOp::FloorDiv | BinaryOp::Mod | BinaryOp::Min | BinaryOp::Max),
                a,
                b,
            ) => Step::Binary(*op, self.at(*a), self.at(*b)),
            Expr::Select(c, a, b) => Step::Select(self.at(*c), self.at(*a), self.at(*b)),
            Expr::Cast(a) if self.exprs.dtype(*a) == DType::Bool => Step::FromTruth(self.at(*a)),
            Expr::Read(read) => self.read(read, DType::I64),
            _ => Step::Unknown(DType::I64),
        }
    }

    fn truth(&self, id: ExprId) -> Step {
        match self.exprs.get(id) {
            Expr::Const(Literal::Bool(value)) => Step::Truth(*value),
            Expr::Unary(UnaryOp::Not, a) => Step::Not(self.at(*a)),
            Expr::Binary(op @ (BinaryOp::And | BinaryOp::Or), a, b) => {
                Step::Logic(*op, self.at(*a), self.at(*b))
            }
            Expr::Binary(op, a, b) if op.is_comparison() => self.comparison(*op, *a, *b),
            Expr::Select(c, a, b) => Step::Select(self.at(*c), self.at(*a), self.at(*b)),
            Expr::Cast(a) if self.exprs.dtype(*a) == DType::I64 => Step::NonZero(self.at(*a)),
            Expr::Read(read) => self.read(read, DType::Bool),
            _ => Step::Unknown(DType::Bool),
        }
    }

    fn comparison(&self, op: BinaryOp, a: ExprId, b: ExprId) -> Step {
        let difference = || {
            let (left, right) = (affine(self.exprs, a)?, affine(self.exprs, b)?);
            left.add(&right.scale(&Dim::from(-1))?)
        };
        match (self.exprs.dtype(a), op) {
            (DType::I64, _) => match difference() {
                Some(form) => Step::Compare(op, self.sum(&form)),
                None => Step::Unknown(DType::Bool),
            },
            (DType::Bool, BinaryOp::Eq | BinaryOp::Ne) => Step::Same(op, self.at(a), self.at(b)),
            _ => Step::Unknown(DType::Bool),
        }
    }

    fn read(&self, read: &Read, dtype: DType) -> Step {
        Step::Read {
            read: read.clone(),
            index: read.index.iter().map(|id| self.at(*id)).collect(),
            otherwise: read.otherwise.map(|id| self.at(id)),
            dtype,
        }
    }

    fn sum(&self, form: &Affine) -> Sum {
        let term = |leaf: &Leaf| match leaf {
            Leaf::Index(k) => Term::Index(*k),
            Leaf::Var(var) => Term::Var(*var),
            Leaf::Opaque(id) => Term::Step(self.at(*id)),
        };
        let terms = form.terms.iter().map(|(leaf, coefficient)| (term(leaf), coefficient.clone()));
        Sum { constant: form.constant.clone(), terms: terms.collect() }
    }

    fn depends(&self, step: &Step) -> u64 {
        let own = match step {
            Step::Sum(sum) | Step::Compare(_, sum) => sum.terms.iter().fold(0, |set, (term, _)| match term {
                Term::Index(k) => set | bit(*k),
                Term::Var(_) | Term::Step(_) => set,
            }),
            _ => 0,
        };
        operands(step).into_iter().fold(own, |set, at| set | self.list[at].depends)
    }
}

fn operands(step: &Step) -> Vec<usize> {
    match step {
        Step::Truth(_) | Step::Unknown(_) => Vec::new(),
        Step::Sum(sum) | Step::Compare(_, sum) => {
            let steps = sum.terms.iter().filter_map(|(term, _)| match term {
                Term::Step(at) => Some(*at),
                Term::Index(_) | Term::Var(_) => None,
            });
            steps.collect()
        }
        Step::Abs(a) | Step::Not(a) | Step::FromTruth(a) | Step::NonZero(a) => vec![*a],
        Step::Binary(_, a, b) | Step::Logic(_, a, b) | Step::Same(_, a, b) => vec![*a, *b],
        Step::Select(c, a, b) => vec![*c, *a, *b],
        Step::Read { index, otherwise, .. } => index.iter().copied().chain(*otherwise).collect(),
    }
}

/// Without the steps that sums have taken in.
fn needed(list: Vec<Placed>, root: usize) -> Vec<Placed> {
    let mut used = vec![false; list.len()];
    used[root] = true;
    // Operands come first, so that one pass from the end sees every user before its operands.
    for at in (0..=root).rev() {
        if used[at] {
            operands(&list[at].step).into_iter().for_each(|operand| used[operand] = true);
        }
    }
    let mut numbers = vec![usize::MAX; list.len()];
    let mut kept = Vec::new();
    for (at, placed) in list.into_iter().enumerate().filter(|(at, _)| used[*at]) {
        numbers[at] = kept.len();
        kept.push(Placed { step: renumbered(placed.step, &numbers), ..placed });
    }
    kept
}

fn renumbered(step: Step, numbers: &[usize]) -> Step {
    let at = |old: usize| numbers[old];
    let sum = |sum: Sum| Sum {
        terms: sum
            .terms
            .into_iter()
            .map(|(term, c)| (if let Term::Step(old) = term { Term::Step(at(old)) } else { term }, c))
            .collect(),
        ..sum
    };
    match step {
        Step::Truth(_) | Step::Unknown(_) => step,
        Step::Sum(s) => Step::Sum(sum(s)),
        Step::Compare(op, s) => Step::Compare(op, sum(s)),
        Step::Abs(a) => Step::Abs(at(a)),
        Step::Not(a) => Step::Not(at(a)),
        Step::FromTruth(a) => Step::FromTruth(at(a)),
        Step::NonZero(a) => Step::NonZero(at(a)),
        Step::Binary(op, a, b) => Step::Binary(op, at(a), at(b)),
        Step::Logic(op, a, b) => Step::Logic(op, at(a), at(b)),
        Step::Same(op, a, b) => Step::Same(op, at(a), at(b)),
        Step::Select(c, a, b) => Step::Select(at(c), at(a), at(b)),
        Step::Read { read, index, otherwise, dtype } => Step::Read {
            read,
            index: index.into_iter().map(at).collect(),
            otherwise: otherwise.map(at),
            dtype,
        },
    }
}
