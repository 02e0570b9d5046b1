//! Lazy scalars: expressions over index variables that are not yet part of any graph node.
//!
//! What stands in index notation is a [`Scalar`] until a definition or a reducer is emitted;
//! only then does it become the body of a node. A scalar is an immutable, shared tree, so it may
//! pass through function calls and be used at several places. Reads name values of any open
//! graph; emission imports them into the one being built. Constants and sizes are folded here,
//! so that what is known stays visible to those who look at index expressions.

use super::value::NodeRef;
use crate::dim::Dim;
use crate::dtype::DType;
use crate::graph::expr::{Literal, VarId};
use crate::ops::scalar::{BinaryOp, UnaryOp};
use crate::ops::value::{self, apply_unary};
use crate::span::Span;
use std::collections::HashMap;
use std::sync::Arc;

/// An index of a definition or reducer, or a position along an axis.
#[derive(Clone, Debug)]
pub struct IndexVar(Arc<IndexInfo>);

#[derive(Debug)]
struct IndexInfo {
    id: u32,
    name: Arc<str>,
    extent: Dim,
}

impl IndexVar {
    /// An index; `id` is unique in an elaboration and grows with nesting.
    pub fn new(id: u32, name: &str, extent: Dim) -> Self {
        IndexVar(Arc::new(IndexInfo { id, name: name.into(), extent }))
    }

    /// Its number.
    pub fn id(&self) -> u32 {
        self.0.id
    }

    /// The user's name for it.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Its number of positions.
    pub fn extent(&self) -> &Dim {
        &self.0.extent
    }
}

impl PartialEq for IndexVar {
    fn eq(&self, other: &Self) -> bool {
        self.0.id == other.0.id
    }
}

impl Eq for IndexVar {}

/// A typed scalar expression.
#[derive(Clone, Debug)]
pub struct Scalar(Arc<ScalarData>);

#[derive(Debug)]
struct ScalarData {
    kind: ScalarKind,
    dtype: DType,
    /// Index variables that occur, by id.
    free: Arc<[IndexVar]>,
    /// Whether evaluating it may fail or read memory.
    reads: bool,
}

/// What a [`Scalar`] is; operations as in [`crate::graph::expr::Expr`].
#[derive(Debug)]
pub enum ScalarKind {
    /// A literal.
    Const(Literal),
    /// An index.
    Index(IndexVar),
    /// The position of an open recurrence.
    Var(VarId),
    /// A size.
    Dim(Dim),
    /// An element of a value.
    Read(ScalarRead),
    /// A unary operation.
    Unary(UnaryOp, Scalar),
    /// A binary operation on equal types.
    Binary(BinaryOp, Scalar, Scalar),
    /// A selection.
    Select(Scalar, Scalar, Scalar),
    /// A conversion.
    Cast(Scalar),
}

/// A read of an element.
#[derive(Debug)]
pub struct ScalarRead {
    /// The value read.
    pub source: NodeRef,
    /// One i64 expression per physical axis.
    pub index: Vec<Scalar>,
    /// The value outside.
    pub otherwise: Option<Scalar>,
    /// Where it is written.
    pub span: Span,
}

impl Scalar {
    fn new(kind: ScalarKind, dtype: DType) -> Self {
        let (free, reads) = match &kind {
            ScalarKind::Const(_) | ScalarKind::Dim(_) | ScalarKind::Var(_) => (Arc::from([]), false),
            ScalarKind::Index(var) => (Arc::from([var.clone()]), false),
            ScalarKind::Read(read) => (union(read.index.iter().chain(&read.otherwise)), true),
            ScalarKind::Unary(_, a) | ScalarKind::Cast(a) => (Arc::clone(&a.0.free), a.0.reads),
            ScalarKind::Binary(op, a, b) => {
                let divides = matches!(op, BinaryOp::FloorDiv | BinaryOp::Mod) && !b.is_nonzero_const();
                (union([a, b]), a.0.reads || b.0.reads || divides)
            }
            ScalarKind::Select(c, a, b) => (union([c, a, b]), c.0.reads || a.0.reads || b.0.reads),
        };
        Scalar(Arc::new(ScalarData { kind, dtype, free, reads }))
    }

    /// What it is.
    pub fn kind(&self) -> &ScalarKind {
        &self.0.kind
    }

    /// Its element type.
    pub fn dtype(&self) -> DType {
        self.0.dtype
    }

    /// The index variables that occur in it, by id.
    pub fn free(&self) -> &[IndexVar] {
        &self.0.free
    }

    /// Whether evaluating it reads memory or may fail.
    pub fn reads(&self) -> bool {
        self.0.reads
    }

    /// An address that is equal for the same shared expression, for memo tables only.
    pub(super) fn address(&self) -> *const () {
        Arc::as_ptr(&self.0).cast()
    }

    fn is_nonzero_const(&self) -> bool {
        self.as_int().is_some_and(|v| v != 0)
    }

    /// The value of an integer literal or known size.
    pub fn as_int(&self) -> Option<i64> {
        match self.kind() {
            ScalarKind::Const(Literal::Int(v)) => Some(*v),
            ScalarKind::Dim(d) => d.as_const(),
            _ => None,
        }
    }

    /// The size, if it is one (integer literals of type i64 are).
    pub fn as_dim(&self) -> Option<Dim> {
        match self.kind() {
            ScalarKind::Const(Literal::Int(v)) if self.dtype() == DType::I64 => Some(Dim::from(*v)),
            ScalarKind::Dim(d) => Some(d.clone()),
            _ => None,
        }
    }

    /// The value of a real literal.
    pub fn as_real(&self) -> Option<f64> {
        match self.kind() {
            ScalarKind::Const(Literal::Real(bits)) => Some(f64::from_bits(*bits)),
            _ => None,
        }
    }

    /// Whether it is an index variable and nothing else.
    pub fn is_index(&self) -> bool {
        matches!(self.kind(), ScalarKind::Index(_))
    }

    /// The value of a truth literal.
    pub fn as_bool(&self) -> Option<bool> {
        match self.kind() {
            ScalarKind::Const(Literal::Bool(v)) => Some(*v),
            _ => None,
        }
    }

    /// An i64 literal.
    pub fn int(value: i64) -> Self {
        Scalar::new(ScalarKind::Const(Literal::Int(value)), DType::I64)
    }

    /// A truth value.
    pub fn bool(value: bool) -> Self {
        Scalar::new(ScalarKind::Const(Literal::Bool(value)), DType::Bool)
    }

    /// A real literal, rounded to its type.
    pub fn real(value: f64, dtype: DType) -> Self {
        let value = if dtype == DType::F32 { f64::from(value as f32) } else { value };
        Scalar::new(ScalarKind::Const(Literal::Real(value.to_bits())), dtype)
    }

    /// Zero, or `false`.
    pub fn zero(dtype: DType) -> Self {
        match dtype {
            DType::Bool => Scalar::bool(false),
            d if d.is_float() => Scalar::real(0.0, d),
            d => Scalar::new(ScalarKind::Const(Literal::Int(0)), d),
        }
    }

    /// A size.
    pub fn dim(dim: &Dim) -> Self {
        match dim.as_const() {
            Some(value) => Scalar::int(value),
            None => Scalar::new(ScalarKind::Dim(dim.clone()), DType::I64),
        }
    }

    /// An index.
    pub fn index(var: &IndexVar) -> Self {
        Scalar::new(ScalarKind::Index(var.clone()), DType::I64)
    }

    /// The position of a recurrence.
    pub fn var(var: VarId) -> Self {
        Scalar::new(ScalarKind::Var(var), DType::I64)
    }

    /// An element of a value of the given type.
    pub fn read(read: ScalarRead, dtype: DType) -> Self {
        Scalar::new(ScalarKind::Read(read), dtype)
    }

    /// A unary operation; literals are folded where that is exact.
    pub fn unary(op: UnaryOp, a: Scalar) -> Self {
        if op == UnaryOp::Neg {
            if let Some(d) = a.as_dim().and_then(|d| d.neg().ok()) {
                return Scalar::dim(&d);
            }
            if let Some(v) = a.as_real() {
                return Scalar::real(-v, a.dtype());
            }
        }
        if let (UnaryOp::Not, Some(v)) = (op, a.as_bool()) {
            return Scalar::bool(!v);
        }
        if a.dtype() == DType::F64
            && let Some(folded) = a.as_real().and_then(|v| fold_real(op, v))
        {
            return Scalar::real(folded, DType::F64);
        }
        let dtype = op.result(a.dtype());
        Scalar::new(ScalarKind::Unary(op, a), dtype)
    }

    /// A binary operation on equal types; sizes and literals are folded where that is exact.
    /// `And` and `Or` become selections where the right side reads.
    pub fn binary(op: BinaryOp, a: Scalar, b: Scalar) -> Self {
        match op {
            BinaryOp::And | BinaryOp::Or => return Scalar::logical(op, a, b),
            _ => {}
        }
        if let (Some(x), Some(y)) = (a.as_dim(), b.as_dim())
            && let Some(folded) = fold_dims(op, &x, &y)
        {
            return folded;
        }
        match (op, a.as_int(), b.as_int()) {
            (BinaryOp::Add, Some(0), _) | (BinaryOp::Mul, Some(1), _) => return b,
            (BinaryOp::Add | BinaryOp::Sub, _, Some(0)) => return a,
            (BinaryOp::Mul | BinaryOp::FloorDiv, _, Some(1)) => return a,
            _ => {}
        }
        let dtype = op.result(a.dtype());
        Scalar::new(ScalarKind::Binary(op, a, b), dtype)
    }

    fn logical(op: BinaryOp, a: Scalar, b: Scalar) -> Self {
        let neutral = op == BinaryOp::And;
        match (a.as_bool(), b.as_bool()) {
            (Some(v), _) => return if v == neutral { b } else { a },
            (_, Some(v)) if v == neutral => return a,
            _ => {}
        }
        if b.reads() {
            let decided = Scalar::bool(!neutral);
            return if neutral { Scalar::select(a, b, decided) } else { Scalar::select(a, decided, b) };
        }
        Scalar::new(ScalarKind::Binary(op, a, b), DType::Bool)
    }

    /// A selection between branches of one type.
    pub fn select(condition: Scalar, then: Scalar, otherwise: Scalar) -> Self {
        match condition.as_bool() {
            Some(true) => then,
            Some(false) => otherwise,
            None => {
                let dtype = then.dtype();
                Scalar::new(ScalarKind::Select(condition, then, otherwise), dtype)
            }
        }
    }

    /// A conversion; literals are folded, with one rounding.
    pub fn cast(self, dtype: DType) -> Self {
        if self.dtype() == dtype {
            return self;
        }
        if dtype.is_float() {
            if let Some(v) = self.as_real() {
                return Scalar::real(v, dtype);
            }
            if let Some(v) = self.as_int() {
                let value = if dtype == DType::F32 { f64::from(v as f32) } else { v as f64 };
                return Scalar::real(value, dtype);
            }
        }
        if dtype == DType::I32
            && let Some(v) = self.as_int().and_then(|v| i32::try_from(v).ok())
        {
            return Scalar::new(ScalarKind::Const(Literal::Int(i64::from(v))), dtype);
        }
        Scalar::new(ScalarKind::Cast(self), dtype)
    }

    /// The sum of two i64 expressions.
    pub fn plus(self, other: Scalar) -> Self {
        Scalar::binary(BinaryOp::Add, self, other)
    }

    /// The product of two i64 expressions.
    pub fn times(self, other: Scalar) -> Self {
        Scalar::binary(BinaryOp::Mul, self, other)
    }

    /// Both conditions.
    pub fn and(self, other: Scalar) -> Self {
        Scalar::binary(BinaryOp::And, self, other)
    }

    /// This scalar with index variables replaced by i64 expressions.
    pub fn substitute(&self, replace: &dyn Fn(&IndexVar) -> Option<Scalar>) -> Scalar {
        self.substitute_shared(replace, &mut HashMap::new())
    }

    fn substitute_shared(
        &self,
        replace: &dyn Fn(&IndexVar) -> Option<Scalar>,
        done: &mut HashMap<*const (), Scalar>,
    ) -> Scalar {
        if !self.free().iter().any(|v| replace(v).is_some()) {
            return self.clone();
        }
        if let Some(known) = done.get(&self.address()) {
            return known.clone();
        }
        let mut go = |s: &Scalar| s.substitute_shared(replace, done);
        let result = match self.kind() {
            ScalarKind::Const(_) | ScalarKind::Var(_) | ScalarKind::Dim(_) => self.clone(),
            ScalarKind::Index(var) => replace(var).unwrap_or_else(|| self.clone()),
            ScalarKind::Read(read) => Scalar::read(
                ScalarRead {
                    source: read.source,
                    index: read.index.iter().map(&mut go).collect(),
                    otherwise: read.otherwise.as_ref().map(&mut go),
                    span: read.span,
                },
                self.dtype(),
            ),
            ScalarKind::Unary(op, a) => Scalar::unary(*op, go(a)),
            ScalarKind::Binary(op, a, b) => Scalar::binary(*op, go(a), go(b)),
            ScalarKind::Select(c, a, b) => Scalar::select(go(c), go(a), go(b)),
            ScalarKind::Cast(a) => go(a).cast(self.dtype()),
        };
        done.insert(self.address(), result.clone());
        result
    }
}

fn union<'a>(of: impl IntoIterator<Item = &'a Scalar>) -> Arc<[IndexVar]> {
    let mut all: Vec<IndexVar> = Vec::new();
    let mut only: Option<&Arc<[IndexVar]>> = None;
    let mut count = 0;
    for scalar in of {
        if scalar.0.free.is_empty() {
            continue;
        }
        count += 1;
        only = Some(&scalar.0.free);
        all.extend(scalar.0.free.iter().cloned());
    }
    match (count, only) {
        (0, _) => Arc::from([]),
        (1, Some(free)) => Arc::clone(free),
        _ => {
            all.sort_by_key(IndexVar::id);
            all.dedup();
            all.into()
        }
    }
}

fn fold_dims(op: BinaryOp, a: &Dim, b: &Dim) -> Option<Scalar> {
    use crate::dim::Truth;
    let dim = match op {
        BinaryOp::Add => a.add(b),
        BinaryOp::Sub => a.sub(b),
        BinaryOp::Mul => a.mul(b),
        BinaryOp::FloorDiv => a.floor_div(b),
        BinaryOp::Mod => a.modulo(b),
        BinaryOp::Min => a.minimum(b),
        BinaryOp::Max => a.maximum(b),
        _ => {
            let truth = compare_dims(op, a, b)?;
            return match truth {
                Truth::Yes => Some(Scalar::bool(true)),
                Truth::No => Some(Scalar::bool(false)),
                Truth::Unknown => None,
            };
        }
    };
    dim.ok().map(|d| Scalar::dim(&d))
}

/// What a comparison of two sizes gives; `None` for operations that do not compare, and on overflow.
pub fn compare_dims(op: BinaryOp, a: &Dim, b: &Dim) -> Option<crate::dim::Truth> {
    use crate::dim::Truth;
    let not = |t: Truth| match t {
        Truth::Yes => Truth::No,
        Truth::No => Truth::Yes,
        Truth::Unknown => Truth::Unknown,
    };
    let below = |a: &Dim, b: &Dim| -> Option<Truth> {
        let difference = b.sub(a).ok()?;
        Some(match difference.range() {
            (Some(low), _) if low > 0 => Truth::Yes,
            (_, Some(high)) if high <= 0 => Truth::No,
            _ => Truth::Unknown,
        })
    };
    match op {
        BinaryOp::Eq => a.compare(b).ok(),
        BinaryOp::Ne => a.compare(b).ok().map(not),
        BinaryOp::Lt => below(a, b),
        BinaryOp::Gt => below(b, a),
        BinaryOp::Ge => below(a, b).map(not),
        BinaryOp::Le => below(b, a).map(not),
        _ => None,
    }
}

/// The value of a function of an exact real, evaluated in f64.
pub fn fold_real(op: UnaryOp, v: f64) -> Option<f64> {
    match apply_unary(op, value::Scalar::F64(v)) {
        Ok(value::Scalar::F64(result)) => Some(result),
        _ => None,
    }
}
