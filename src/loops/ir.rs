//! The loop IR.
//!
//! # Semantics
//!
//! A [`LoopProgram`] mirrors the graph program: one [`LoopFunc`] per function, callees first.
//! A function is a list of statements over buffers and scalar expressions. Expressions live in
//! one hash-consed arena per function and are evaluated anew by each statement that uses them,
//! in its place: loads see what earlier statements stored. All expressions are *eager and safe*:
//! the lowering has proved or guarded every load (an address outside its buffer is never
//! evaluated, not even in the branch of a `Select` that is not taken) and every integer division
//! (the divisor is never zero).
//!
//! Index arithmetic is i64. Offsets and strides count elements. A loop whose extent is negative
//! does not run. A floored quotient by zero *inside* a [`Dim`] is never used for anything, but a
//! back end must not trap on it.
//!
//! A [`LoopKind::Vector`] loop promises: iterations may run in lanes; what the body stores at one
//! iteration no other iteration loads or stores; locals declared outside are changed by
//! [`Stmt::Reduce`] only; the body holds nothing but [`Stmt::Set`], [`Stmt::Reduce`] and
//! [`Stmt::Store`]. A [`LoopKind::Parallel`] loop promises the same for whole iterations, with
//! any statement but a call inside, and never reduces into or sets an outer local, so a task range
//! may be given to each thread. Temporaries that nothing outside uses are excepted: iterations share them, and whoever
//! runs several at once gives each its own. Both are permissions.
//!
//! **Failure.** A [`Stmt::Fail`] whose condition holds ends the function at once, as does a call
//! whose callee failed: later statements may rely on what it checked. Inside a parallel loop it
//! ends the task, and the function once all tasks have ended.
//!
//! **Padding.** At least one element of every buffer can be loaded, even of an empty one: what a
//! predicated load reads at index 0 where its predicate is false. Whoever enters the entry
//! function replaces the pointer of an empty argument by one to padding; arenas end with padding.
//!
//! **Scopes.** A local lives to the end of the list that sets it first. A loop variable names one
//! loop at a time: loops behind each other may share one, loops inside each other do not.
//!
//! **Temporaries.** Results may be loaded once stored. A temporary whose uses all lie inside
//! one iteration of a loop carries nothing from one iteration to the next.

use crate::dim::Dim;
use crate::dtype::DType;
use crate::graph::expr::Literal;
use crate::graph::ir::{DimCheck, Signature};
use crate::ops::scalar::{BinaryOp, UnaryOp};
use crate::span::Span;
use crate::tensor::Tensor;
use indexmap::IndexSet;
use rustc_hash::{FxBuildHasher, FxHashSet};
use std::sync::Arc;

/// A buffer of a [`LoopFunc`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BufferId(pub u32);

/// An expression of a [`LoopFunc`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ScalarId(pub u32);

/// A loop variable of a [`LoopFunc`], i64.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LoopVar(pub u32);

/// A scalar variable of a [`LoopFunc`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Local(pub u32);

/// An entry of [`LoopProgram::sites`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SiteId(pub u32);

/// A pair of marks; see [`super::marks`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MarkId(pub u32);

/// Which of a pair of marks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Edge {
    /// The work begins.
    Begin,
    /// It has ended.
    End,
}

/// A scalar expression.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Scalar {
    /// A literal.
    Const(Literal),
    /// A size, from the dims argument of the call.
    Dim(Dim),
    /// The value of an enclosing loop.
    Var(LoopVar),
    /// The value of a variable.
    Local(Local),
    /// Element `index` of a buffer.
    Load(BufferId, ScalarId),
    /// A unary operation.
    Unary(UnaryOp, ScalarId),
    /// A binary operation.
    Binary(BinaryOp, ScalarId, ScalarId),
    /// Both sides are evaluated.
    Select(ScalarId, ScalarId, ScalarId),
    /// A conversion, as [`crate::graph::expr::Expr::Cast`].
    Cast(ScalarId),
}

impl Scalar {
    /// The expression over other operands.
    pub fn map_operands(self, map: &mut dyn FnMut(ScalarId) -> ScalarId) -> Scalar {
        match self {
            Scalar::Const(_) | Scalar::Dim(_) | Scalar::Var(_) | Scalar::Local(_) => self,
            Scalar::Load(buffer, index) => Scalar::Load(buffer, map(index)),
            Scalar::Unary(op, a) => Scalar::Unary(op, map(a)),
            Scalar::Cast(a) => Scalar::Cast(map(a)),
            Scalar::Binary(op, a, b) => Scalar::Binary(op, map(a), map(b)),
            Scalar::Select(c, a, b) => Scalar::Select(map(c), map(a), map(b)),
        }
    }
}

/// The expressions of a function, operands first.
#[derive(Clone, Debug, Default)]
pub struct Scalars {
    nodes: IndexSet<(Scalar, DType), FxBuildHasher>,
}

impl Scalars {
    /// The id of an expression, new or known.
    pub fn add(&mut self, scalar: Scalar, dtype: DType) -> ScalarId {
        ScalarId(self.nodes.insert_full((scalar, dtype)).0 as u32)
    }

    /// The expression of an id.
    pub fn get(&self, id: ScalarId) -> &Scalar {
        &self.nodes[id.0 as usize].0
    }

    /// The type of an expression.
    pub fn dtype(&self, id: ScalarId) -> DType {
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
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (ScalarId, &Scalar, DType)> {
        self.nodes.iter().enumerate().map(|(i, (s, t))| (ScalarId(i as u32), s, *t))
    }

    /// What `root` reaches and `known` does not hold yet, operands first; nothing behind what it
    /// holds. Walks without recursion, however deep the expression.
    pub fn unknown(&self, root: ScalarId, known: impl Fn(ScalarId) -> bool) -> Vec<ScalarId> {
        let mut seen = FxHashSet::default();
        let (mut found, mut pending) = (Vec::new(), vec![root]);
        while let Some(id) = pending.pop() {
            if !known(id) && seen.insert(id) {
                found.push(id);
                pending.extend(self.operands(id));
            }
        }
        found.sort_unstable();
        found
    }

    /// The direct operands of an expression, in order.
    pub fn operands(&self, id: ScalarId) -> impl DoubleEndedIterator<Item = ScalarId> + use<> {
        let operands = match *self.get(id) {
            Scalar::Const(_) | Scalar::Dim(_) | Scalar::Var(_) | Scalar::Local(_) => [None; 3],
            Scalar::Load(_, a) | Scalar::Unary(_, a) | Scalar::Cast(a) => [Some(a), None, None],
            Scalar::Binary(_, a, b) => [Some(a), Some(b), None],
            Scalar::Select(c, a, b) => [Some(c), Some(a), Some(b)],
        };
        operands.into_iter().flatten()
    }
}

/// How a loop's iterations may be run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LoopKind {
    /// In order.
    Serial,
    /// In lanes; see the module docs.
    Vector,
    /// In any order, by any thread; see the module docs.
    Parallel,
}

/// A statement; its fields are named by what they hold.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the fields say what they are; the variants say what they do")]
pub enum Stmt {
    /// `for var in 0..extent`, or from `extent - 1` down when `reverse`.
    For { var: LoopVar, extent: ScalarId, reverse: bool, kind: LoopKind, body: Vec<Stmt> },
    /// Declares a variable, or assigns it anew in the scope where it was declared.
    Set { local: Local, value: ScalarId },
    /// `local = reducer(local, value)`; the order of a Vector loop's lanes is fixed but not given.
    Reduce { local: Local, op: BinaryOp, value: ScalarId },
    /// `buffer[index] = value`.
    Store { buffer: BufferId, index: ScalarId, value: ScalarId },
    /// A branch.
    If { condition: ScalarId, then: Vec<Stmt>, otherwise: Vec<Stmt> },
    /// Where `condition` holds, records the site with `values` (i64, at most 8) as the error of
    /// the call and makes the whole call return a failure status.
    Fail { condition: ScalarId, site: SiteId, values: Vec<ScalarId> },
    /// Calls function `func` of the program with a pointer per argument and result.
    Call { func: usize, args: Vec<Pointer>, results: Vec<Pointer> },
    /// A leaf kernel.
    Kernel(Box<Kernel>),
    /// Tells whoever records the call that a piece of work begins or ends; nothing otherwise.
    Mark { mark: MarkId, edge: Edge },
}

/// Element `offset` of a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Pointer {
    /// The buffer.
    pub buffer: BufferId,
    /// Offset in elements, i64.
    pub offset: ScalarId,
}

/// A leaf kernel: a unit of work that a back end may emit by special means.
///
/// Its meaning is that of the loop nest in its documentation; the interpreter runs that nest.
#[derive(Clone, Debug)]
pub enum Kernel {
    /// See [`Gemm`].
    Gemm(Gemm),
}

/// `for i in 0..m, j in 0..n: acc = sum over q in outer, p in 0..k of lhs[i, q, p] * rhs[q, p, j];`
/// `out[i, j] = epilogue(i, j, acc)`, all f32, with fused multiply-add.
///
/// The sum runs in order of `q` and `p` or, where there is no `q` and both operands are contiguous
/// along `p`, over lanes, in an order that depends on `k` and the strides alone; which of both
/// depends on what of the sizes and strides is known when the product is compiled, and not on their
/// values in a call.
///
/// The result does not overlap the operands or what the epilogue loads.
#[derive(Clone, Debug)]
pub struct Gemm {
    /// Rows.
    pub m: ScalarId,
    /// Columns.
    pub n: ScalarId,
    /// Contracted size.
    pub k: ScalarId,
    /// Further contracted axes around it, slowest first: the window of a convolution.
    pub outer: Vec<Contracted>,
    /// `lhs[i, p]` lies at `offset + i * strides.0 + p * strides.1`.
    pub lhs: Matrix,
    /// `rhs[p, j]` lies at `offset + p * strides.0 + j * strides.1`.
    pub rhs: Matrix,
    /// `out[i, j]` lies at `offset + i * strides.0 + j * strides.1`.
    pub out: Matrix,
    /// Applied to the accumulator.
    pub epilogue: Option<GemmEpilogue>,
}

/// A contracted axis that does not lie evenly behind the next one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Contracted {
    /// Number of points.
    pub extent: ScalarId,
    /// What a step adds to the left operand's offset, in elements.
    pub lhs: ScalarId,
    /// The same of the right operand.
    pub rhs: ScalarId,
}

/// A strided matrix in a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Matrix {
    /// Where its first element lies.
    pub at: Pointer,
    /// Strides in elements, slow axis first.
    pub strides: (ScalarId, ScalarId),
}

/// A function of the accumulator at row `i` and column `j`.
#[derive(Clone, Debug)]
pub struct GemmEpilogue {
    /// Stands for `i`.
    pub row: LoopVar,
    /// Stands for `j`.
    pub column: LoopVar,
    /// Stands for the accumulator.
    pub acc: Local,
    /// What is stored.
    pub value: ScalarId,
}

/// Where a buffer lives.
#[derive(Clone, Debug)]
pub enum BufferKind {
    /// Argument `k` of the function: read only, passed by pointer.
    Arg(u32),
    /// Result `k` of the function, passed by pointer.
    Result(u32),
    /// In the arena of the call, at an offset that `buffers` assigns.
    Temp,
    /// Data known at compile time.
    Const(Arc<Tensor>),
}

/// A buffer.
#[derive(Clone, Debug)]
pub struct Buffer {
    /// Printed name: the user's name for the value, made unique.
    pub name: String,
    /// Element type.
    pub dtype: DType,
    /// Number of elements.
    pub elems: Dim,
    /// Where it lives.
    pub kind: BufferKind,
    /// The source line of the value.
    pub span: Span,
}

/// One function.
#[derive(Clone, Debug)]
pub struct LoopFunc {
    /// The graph function's name.
    pub name: Arc<str>,
    /// Buffers, arguments and results included.
    pub buffers: Vec<Buffer>,
    /// Expressions.
    pub scalars: Scalars,
    /// Name and type of each local.
    pub locals: Vec<(String, DType)>,
    /// Name of each loop variable.
    pub vars: Vec<String>,
    /// What it does.
    pub body: Vec<Stmt>,
    /// Which function the comments of the printed form name: statement to source line.
    pub span: Span,
}

/// What a failed call reports.
#[derive(Clone, Debug)]
pub struct Site {
    /// A stable slug, `index-out-of-range`.
    pub code: &'static str,
    /// Message with `{0}`, `{1}`, ... for the recorded values.
    pub message: String,
    /// Where in the source.
    pub span: Span,
}

/// All functions of a program.
#[derive(Clone, Debug)]
pub struct LoopProgram {
    /// Callees before callers.
    pub functions: Vec<LoopFunc>,
    /// The function of the entry: arguments are the inputs, then the packed weights' parts;
    /// results are the outputs.
    pub entry: usize,
    /// From weights to the parts of the blob; `None` where nothing is read of the weights.
    pub bind: Option<usize>,
    /// What a user sees.
    pub signature: Signature,
    /// Checked once per call, before anything else.
    pub checks: Vec<DimCheck>,
    /// Sites of [`Stmt::Fail`].
    pub sites: Vec<Site>,
    /// Sizes that must fit in 64 bits at every call, beside those that occur: indices that are read
    /// without a check rest on them.
    pub assumed: Vec<Dim>,
}
