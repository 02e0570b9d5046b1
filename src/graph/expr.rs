//! Scalar expressions: hash-consed, typed, reducer-free.

use crate::dim::Dim;
use crate::dtype::DType;
use crate::ops::reduce::Reducer;
use crate::ops::scalar::{BinaryOp, UnaryOp};
use crate::span::Span;
use indexmap::IndexSet;
use rustc_hash::FxBuildHasher;

/// An expression of an [`Exprs`] arena. Operands have smaller ids than what uses them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ExprId(pub u32);

/// The position of a [`super::ir::Recur`] or of one axis of a [`super::ir::Region`],
/// unique in a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct VarId(pub u32);

/// A literal. Reals are kept as bits so that expressions can be hashed; NaNs are equal to
/// themselves here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Literal {
    /// A real of type f32, f64 (the bits of the f64; exactly representable in its type).
    Real(u64),
    /// An integer of type i32 or i64.
    Int(i64),
    /// A truth value.
    Bool(bool),
}

impl Literal {
    /// The value of a reduction over nothing, for terms of a type.
    pub fn over_nothing(reducer: Reducer, term: DType) -> Literal {
        let real = |value: f64| Literal::Real(value.to_bits());
        let (least, greatest) = match term {
            DType::I32 => (i64::from(i32::MIN), i64::from(i32::MAX)),
            _ => (i64::MIN, i64::MAX),
        };
        match reducer {
            Reducer::Any => Literal::Bool(false),
            Reducer::All => Literal::Bool(true),
            Reducer::ArgMax | Reducer::ArgMin => Literal::Int(0),
            Reducer::Sum if term.is_float() => real(0.0),
            Reducer::Sum => Literal::Int(0),
            Reducer::Prod if term.is_float() => real(1.0),
            Reducer::Prod => Literal::Int(1),
            Reducer::Max if term.is_float() => real(f64::NEG_INFINITY),
            Reducer::Max => Literal::Int(least),
            Reducer::Min if term.is_float() => real(f64::INFINITY),
            Reducer::Min => Literal::Int(greatest),
        }
    }
}

/// One scalar operation.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Expr {
    /// A literal.
    Const(Literal),
    /// Index `k`: an iterate axis for `k < iterate.len()`, a reduce axis after that. i64.
    Index(u32),
    /// The position of an enclosing recurrence or region. i64.
    Var(VarId),
    /// A size. i64.
    Dim(Dim),
    /// An element of operand `port`, one index expression (i64) per axis.
    Read(Read),
    /// A unary operation.
    Unary(UnaryOp, ExprId),
    /// A binary operation on equal types.
    Binary(BinaryOp, ExprId, ExprId),
    /// `condition ? then : otherwise`; only the branch taken reads.
    Select(ExprId, ExprId, ExprId),
    /// Conversion: to a float rounds to nearest even; from a float to an integer truncates
    /// towards zero and saturates, NaN gives 0; to bool is `!= 0`.
    Cast(ExprId),
}

/// A read of an operand. Equality ignores the place, so that equal reads are one expression.
#[derive(Clone, Debug)]
pub struct Read {
    /// Which operand of the node.
    pub port: u32,
    /// One per axis of the operand.
    pub index: Vec<ExprId>,
    /// The value where any index is outside; without it that is an error of the call.
    pub otherwise: Option<ExprId>,
    /// Where it is written.
    pub span: Span,
}

impl PartialEq for Read {
    fn eq(&self, other: &Read) -> bool {
        (self.port, &self.index, self.otherwise) == (other.port, &other.index, other.otherwise)
    }
}

impl Eq for Read {}

impl std::hash::Hash for Read {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        (self.port, &self.index, self.otherwise).hash(state);
    }
}

/// An arena of expressions, each with its type.
#[derive(Clone, Debug, Default)]
pub struct Exprs {
    nodes: IndexSet<(Expr, DType), FxBuildHasher>,
}

impl PartialEq for Exprs {
    /// Equal expressions under equal ids: the order counts, since ids are positions.
    fn eq(&self, other: &Exprs) -> bool {
        self.nodes.iter().eq(other.nodes.iter())
    }
}

impl Eq for Exprs {}

impl Exprs {
    /// An empty arena.
    pub fn new() -> Self {
        Self::default()
    }

    /// The id of an expression, new or known.
    pub fn add(&mut self, expr: Expr, dtype: DType) -> ExprId {
        ExprId(self.nodes.insert_full((expr, dtype)).0 as u32)
    }

    /// The expression of an id.
    pub fn get(&self, id: ExprId) -> &Expr {
        &self.nodes[id.0 as usize].0
    }

    /// The type of an expression.
    pub fn dtype(&self, id: ExprId) -> DType {
        self.nodes[id.0 as usize].1
    }

    /// Number of expressions.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// All expressions, operands first.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (ExprId, &Expr, DType)> {
        self.nodes.iter().enumerate().map(|(i, (e, t))| (ExprId(i as u32), e, *t))
    }

    /// An integer literal of type i64.
    pub fn int(&mut self, value: i64) -> ExprId {
        self.add(Expr::Const(Literal::Int(value)), DType::I64)
    }

    /// A truth value.
    pub fn bool(&mut self, value: bool) -> ExprId {
        self.add(Expr::Const(Literal::Bool(value)), DType::Bool)
    }

    /// A real literal of type f32 or f64, rounded to it.
    pub fn real(&mut self, value: f64, dtype: DType) -> ExprId {
        let value = if dtype == DType::F32 { f64::from(value as f32) } else { value };
        self.add(Expr::Const(Literal::Real(value.to_bits())), dtype)
    }

    /// Index `k`.
    pub fn index(&mut self, k: usize) -> ExprId {
        self.add(Expr::Index(k as u32), DType::I64)
    }

    /// A size; constants become integer literals.
    pub fn dim(&mut self, dim: &Dim) -> ExprId {
        match dim.as_const() {
            Some(value) => self.int(value),
            None => self.add(Expr::Dim(dim.clone()), DType::I64),
        }
    }

    /// A unary operation; the type follows from the op.
    pub fn unary(&mut self, op: UnaryOp, a: ExprId) -> ExprId {
        let dtype = op.result(self.dtype(a));
        self.add(Expr::Unary(op, a), dtype)
    }

    /// A binary operation; the type follows from the op.
    pub fn binary(&mut self, op: BinaryOp, a: ExprId, b: ExprId) -> ExprId {
        let dtype = op.result(self.dtype(a));
        self.add(Expr::Binary(op, a, b), dtype)
    }

    /// A selection; both branches have one type.
    pub fn select(&mut self, condition: ExprId, then: ExprId, otherwise: ExprId) -> ExprId {
        let dtype = self.dtype(then);
        self.add(Expr::Select(condition, then, otherwise), dtype)
    }

    /// A conversion, or the expression itself where it has that type already.
    pub fn cast(&mut self, a: ExprId, dtype: DType) -> ExprId {
        if self.dtype(a) == dtype { a } else { self.add(Expr::Cast(a), dtype) }
    }

    /// The direct operands of an expression, in order.
    pub fn operands(&self, id: ExprId) -> Vec<ExprId> {
        match self.get(id) {
            Expr::Const(_) | Expr::Index(_) | Expr::Var(_) | Expr::Dim(_) => Vec::new(),
            Expr::Read(read) => read.index.iter().copied().chain(read.otherwise).collect(),
            Expr::Unary(_, a) | Expr::Cast(a) => vec![*a],
            Expr::Binary(_, a, b) => vec![*a, *b],
            Expr::Select(c, a, b) => vec![*c, *a, *b],
        }
    }

    /// Copies what `roots` reach in `source` into this arena, operands first, and returns the new
    /// roots. `visit` gets every expression with its operands already moved and adds what it
    /// likes in its place; the type must stay.
    pub fn map(
        &mut self,
        source: &Exprs,
        roots: &[ExprId],
        visit: &mut dyn FnMut(&mut Exprs, Expr, DType) -> ExprId,
    ) -> Vec<ExprId> {
        let needed = source.reachable(roots);
        let mut moved: Vec<Option<ExprId>> = vec![None; source.len()];
        for (id, expr, dtype) in source.iter() {
            if !needed[id.0 as usize] {
                continue;
            }
            let at = |id: &ExprId| moved[id.0 as usize].expect("invariant: operands precede users");
            let expr = match expr {
                Expr::Const(_) | Expr::Index(_) | Expr::Var(_) | Expr::Dim(_) => expr.clone(),
                Expr::Read(read) => Expr::Read(Read {
                    port: read.port,
                    index: read.index.iter().map(at).collect(),
                    otherwise: read.otherwise.as_ref().map(at),
                    span: read.span,
                }),
                Expr::Unary(op, a) => Expr::Unary(*op, at(a)),
                Expr::Cast(a) => Expr::Cast(at(a)),
                Expr::Binary(op, a, b) => Expr::Binary(*op, at(a), at(b)),
                Expr::Select(c, a, b) => Expr::Select(at(c), at(a), at(b)),
            };
            moved[id.0 as usize] = Some(visit(self, expr, dtype));
        }
        roots.iter().map(|id| moved[id.0 as usize].expect("invariant: roots are reachable")).collect()
    }

    /// [`Exprs::map`] that replaces leaves only: indices, positions, dimensions and reads for
    /// which `leaf` gives something.
    pub fn import(
        &mut self,
        source: &Exprs,
        roots: &[ExprId],
        leaf: &mut dyn FnMut(&mut Exprs, &Expr, DType) -> Option<ExprId>,
    ) -> Vec<ExprId> {
        self.map(source, roots, &mut |exprs, expr, dtype| {
            let is_leaf = matches!(expr, Expr::Index(_) | Expr::Var(_) | Expr::Dim(_) | Expr::Read(_));
            let replaced = if is_leaf { leaf(exprs, &expr, dtype) } else { None };
            replaced.unwrap_or_else(|| exprs.add(expr, dtype))
        })
    }

    /// The conditions that must all hold for a filter, each once, in order of evaluation: `a and b`, and
    /// `if a { b } else { false }`, whose `b` is only evaluated where `a` holds.
    pub fn conjuncts(&self, filter: Option<ExprId>) -> Vec<ExprId> {
        let mut found = Vec::new();
        let mut pending: Vec<ExprId> = filter.into_iter().collect();
        while let Some(id) = pending.pop() {
            match self.get(id) {
                Expr::Binary(BinaryOp::And, a, b) => pending.extend([*b, *a]),
                Expr::Select(c, a, b) if *self.get(*b) == Expr::Const(Literal::Bool(false)) => {
                    pending.extend([*a, *c]);
                }
                _ if found.contains(&id) => {}
                _ => found.push(id),
            }
        }
        found
    }

    /// Whether what roots use has an expression that is wanted; the roots count.
    pub fn contain(&self, roots: &[ExprId], wanted: impl Fn(&Expr) -> bool) -> bool {
        let needed = self.reachable(roots);
        self.iter().any(|(id, expr, _)| needed[id.0 as usize] && wanted(expr))
    }

    /// For each expression, whether the roots use it.
    pub fn reachable(&self, roots: &[ExprId]) -> Vec<bool> {
        let mut needed = vec![false; self.len()];
        for root in roots {
            needed[root.0 as usize] = true;
        }
        for (id, _, _) in self.iter().rev() {
            if needed[id.0 as usize] {
                for operand in self.operands(id) {
                    needed[operand.0 as usize] = true;
                }
            }
        }
        needed
    }
}
