//! The tree of an MDL source file.
//!
//! Takes nothing but what `syntax::parse` puts in; every later stage reads it. Each node names
//! its place in the source. The tree is owned and cheap to clone: an [`Expr`] shares its kind,
//! and blocks and declarations are behind `Arc`.
//!
//! Invariants of a tree that the parser made:
//! - it is at most [`super::MAX_TREE_DEPTH`] expressions deep, so recursion over it is bounded;
//! - parentheses that only group are gone: the tree is the grouping;
//! - a body `= e` is a block that has only the tail `e`, and `else if` is an `else` block that
//!   holds only that `if`;
//! - [`StmtKind::Init`] and [`StmtKind::Sequence`] stand only inside a `recur`, directly or under
//!   its `for` and `if` statements, and the blocks there have no tail;
//! - both branches of [`ExprKind::If`] have a tail; those of [`StmtKind::If`] have none;
//! - names of declarations, parameters, locals and indices have no holes; names of members,
//!   sequences and fields may.
//!
//! It knows nothing of what names mean.

mod expr;
mod op;

pub use expr::{
    Arg, Bind, BindKind, Expr, ExprKind, GroupPart, GroupPartKind, Ix, IxKind, Name, NamePart, Reduce,
};
pub use op::{BinaryOp, Reducer, UnaryOp};

use crate::dtype::DType;
use crate::span::Span;
use std::sync::Arc;

/// One source file.
#[derive(Clone, Debug)]
pub struct File {
    /// Declarations in the order written.
    pub items: Vec<Item>,
    /// The whole text.
    pub span: Span,
}

/// A declaration at the top level.
#[derive(Clone, Debug)]
pub struct Item {
    /// Lines of the `##` comments before it, without the marks.
    pub doc: Vec<String>,
    /// What it declares.
    pub kind: ItemKind,
    /// From its keyword to its end.
    pub span: Span,
}

/// What an [`Item`] declares.
#[derive(Clone, Debug)]
pub enum ItemKind {
    /// `use …`
    Use(UseDecl),
    /// `module …`
    Module(Arc<ModuleDecl>),
    /// `fn …`
    Fn(Arc<FnDecl>),
    /// `pattern …`
    Pattern(Arc<PatternDecl>),
    /// `model …`
    Model(Arc<ModelDecl>),
}

/// An import.
#[derive(Clone, Debug)]
pub enum UseDecl {
    /// `use "blocks.mdl" as blocks`
    File {
        /// The text between the quotes, escapes resolved.
        path: String,
        /// Place of the string.
        path_span: Span,
        /// The name after `as`.
        alias: Option<Name>,
    },
    /// `use std.nn.{Linear, LSTM}`
    Path {
        /// `std`, `nn`.
        path: Vec<Name>,
        /// The names in braces; `None` without braces.
        names: Option<Vec<Name>>,
    },
}

/// `module name(statics) { members }`
#[derive(Clone, Debug)]
pub struct ModuleDecl {
    /// Its name.
    pub name: Name,
    /// Static parameters.
    pub statics: Vec<StaticParam>,
    /// Members in the order written.
    pub members: Vec<Member>,
    /// The whole declaration.
    pub span: Span,
}

/// A static parameter of a module.
#[derive(Clone, Debug)]
pub struct StaticParam {
    /// Its name.
    pub name: Name,
    /// Its kind; none written means `int`.
    pub kind: Option<Kind>,
    /// The value where the caller gives none.
    pub default: Option<Expr>,
    /// From the name to the default.
    pub span: Span,
}

/// `fn name(params) -> ret body`
#[derive(Clone, Debug)]
pub struct FnDecl {
    /// Its name.
    pub name: Name,
    /// Static and run-time parameters, in order.
    pub params: Vec<Param>,
    /// Declared outputs.
    pub ret: Option<Ret>,
    /// What it computes.
    pub body: Arc<Block>,
    /// The whole declaration.
    pub span: Span,
}

/// `pattern name(params)[indices] body`
#[derive(Clone, Debug)]
pub struct PatternDecl {
    /// Its name.
    pub name: Name,
    /// Static and run-time parameters.
    pub params: Vec<Param>,
    /// Index names, at least one; the last two are query and key.
    pub indices: Vec<Name>,
    /// The condition.
    pub body: Arc<Block>,
    /// The whole declaration.
    pub span: Span,
}

/// `model name = value`
#[derive(Clone, Debug)]
pub struct ModelDecl {
    /// Its name.
    pub name: Name,
    /// A module value.
    pub value: Expr,
    /// The whole declaration.
    pub span: Span,
}

/// A parameter of a function, pattern or entry.
#[derive(Clone, Debug)]
pub struct Param {
    /// Its name.
    pub name: Name,
    /// Its type; none written means a static `int`.
    pub ty: Option<Type>,
    /// The value where the caller gives none.
    pub default: Option<Expr>,
    /// From the name to the default.
    pub span: Span,
}

/// A declared result: `-> [B]`, `-> y: [B]` or `-> (y: [B], h: [B])`.
#[derive(Clone, Debug)]
pub struct Ret {
    /// Outputs, at least one.
    pub outs: Vec<Out>,
    /// What stands after the arrow.
    pub span: Span,
}

/// One declared output.
#[derive(Clone, Debug)]
pub struct Out {
    /// Its name, if it has one.
    pub name: Option<Name>,
    /// Its type.
    pub ty: Type,
    /// Name and type.
    pub span: Span,
}

/// One member of a module.
#[derive(Clone, Debug)]
pub struct Member {
    /// Lines of the `##` comments before it, without the marks.
    pub doc: Vec<String>,
    /// What it is.
    pub kind: MemberKind,
    /// From its first word to its end.
    pub span: Span,
}

/// What a [`Member`] is.
#[derive(Clone, Debug)]
pub enum MemberKind {
    /// `param name: tensor = init when cond`
    Param(WeightDecl),
    /// `buffer name: tensor = init when cond`
    Buffer(WeightDecl),
    /// `tie left = right when cond`
    Tie {
        /// One name of the tensor.
        left: Place,
        /// The other.
        right: Place,
        /// Holds only if this is true.
        when: Option<Expr>,
    },
    /// `require cond, "why"`
    Require(Require),
    /// `forward(…) …` or `entry name(…) …`
    Entry(Arc<EntryDecl>),
    /// `let …`
    Let(Let),
    /// `let name[binds] = value`
    Define(IndexDef),
    /// `for pat in range { members }`
    For {
        /// The loop's variables.
        pat: Pat,
        /// What it runs over.
        range: Range,
        /// Members repeated.
        members: Arc<Vec<Member>>,
    },
    /// `if cond { members } else { members }`
    If {
        /// The static condition.
        cond: Expr,
        /// Members if it holds.
        then: Arc<Vec<Member>>,
        /// Members if it does not; `else if` is one `If` member here.
        otherwise: Option<Arc<Vec<Member>>>,
    },
    /// `flat? name = value when cond`: a sub-module or a list of them.
    Sub {
        /// Whether the name is left out of the weights' paths.
        flat: bool,
        /// Its name, which may have holes.
        name: Name,
        /// A module value.
        value: Expr,
        /// Exists only if this is true.
        when: Option<Expr>,
    },
}

/// A weight of a module, learnt or not.
#[derive(Clone, Debug)]
pub struct WeightDecl {
    /// Its name, which may have holes.
    pub name: Name,
    /// Element type and shape.
    pub ty: TensorType,
    /// Initialiser used where no weights are given.
    pub init: Option<Expr>,
    /// Exists only if this is true.
    pub when: Option<Expr>,
}

/// A path to a weight, as in `tie`.
#[derive(Clone, Debug)]
pub struct Place {
    /// The first name.
    pub name: Name,
    /// What follows it.
    pub steps: Vec<PlaceStep>,
    /// The whole path.
    pub span: Span,
}

/// One step of a [`Place`].
#[derive(Clone, Debug)]
pub enum PlaceStep {
    /// `.name`
    Field(Name),
    /// `[3]`
    Index(i64, Span),
}

/// `forward(params) -> ret body` or `entry name(params) -> ret body`
#[derive(Clone, Debug)]
pub struct EntryDecl {
    /// `forward`, or the name after `entry`.
    pub name: Name,
    /// Tensors and statics, in order.
    pub params: Vec<Param>,
    /// Declared outputs.
    pub ret: Option<Ret>,
    /// What it computes.
    pub body: Arc<Block>,
    /// The whole entry.
    pub span: Span,
}

/// Statements and the value they end in.
#[derive(Clone, Debug)]
pub struct Block {
    /// Statements in order.
    pub stmts: Vec<Stmt>,
    /// The value; none in the block of a statement.
    pub tail: Option<Expr>,
    /// With the braces; for a body `= e`, that of `e`.
    pub span: Span,
}

/// One statement.
#[derive(Clone, Debug)]
pub struct Stmt {
    /// What it does.
    pub kind: StmtKind,
    /// The whole statement.
    pub span: Span,
}

/// What a [`Stmt`] does.
#[derive(Clone, Debug)]
pub enum StmtKind {
    /// `let pat: type = value`
    Let(Let),
    /// `let name[binds] = value`
    Define(IndexDef),
    /// `recur t in range by step { … }`
    Recur(Recur),
    /// `for pat in range { … }`
    For {
        /// The loop's variables.
        pat: Pat,
        /// What it runs over.
        range: Range,
        /// Statements repeated.
        body: Arc<Block>,
    },
    /// `if cond { … } else { … }` whose branches have no value.
    If {
        /// The condition.
        cond: Expr,
        /// Done if it holds.
        then: Arc<Block>,
        /// Done if it does not.
        otherwise: Option<Arc<Block>>,
    },
    /// `require cond, "why"`
    Require(Require),
    /// `pat = value`: rebinds existing locals.
    Assign {
        /// What is rebound.
        pat: Pat,
        /// The new value.
        value: Expr,
    },
    /// `init name[…, t - 1]: type = value`, in a `recur` only.
    Init {
        /// The sequence and the position before the first.
        target: SequenceRead,
        /// The carried type.
        ty: Option<Type>,
        /// The first value.
        value: Expr,
    },
    /// `name[…, t] = value` or `(a[…, t], b[…, t]) = value`, in a `recur` only.
    Sequence {
        /// The sequences defined, at least one.
        targets: Vec<SequenceRead>,
        /// Whether the left side is in parentheses and so takes a tuple apart.
        tuple: bool,
        /// The value at this position.
        value: Expr,
    },
}

/// `let pat: type = value`
#[derive(Clone, Debug)]
pub struct Let {
    /// The names bound.
    pub pat: Pat,
    /// The declared type.
    pub ty: Option<Type>,
    /// The value.
    pub value: Expr,
}

/// `let name[binds] = value`: a tensor written in index notation.
#[derive(Clone, Debug)]
pub struct IndexDef {
    /// The tensor's name.
    pub name: Name,
    /// Its axes in order; may be empty (a scalar).
    pub binds: Vec<Bind>,
    /// The element.
    pub value: Expr,
}

/// `require cond, "why"`
#[derive(Clone, Debug)]
pub struct Require {
    /// What must hold.
    pub cond: Expr,
    /// What to say if it does not.
    pub message: Option<String>,
}

/// `recur index in range by step { … }`
#[derive(Clone, Debug)]
pub struct Recur {
    /// The time index.
    pub index: Name,
    /// Its positions.
    pub range: Range,
    /// The static step, 1 where none is written.
    pub by: Option<Expr>,
    /// The body, without a tail.
    pub body: Arc<Block>,
}

/// The left side of a line that defines a sequence: `h[:, t]`.
#[derive(Clone, Debug)]
pub struct SequenceRead {
    /// The sequence, which may have holes.
    pub name: Name,
    /// Its axes.
    pub index: Vec<Ix>,
    /// Name and axes.
    pub span: Span,
}

/// Names bound by `let`, `for` and `=`.
#[derive(Clone, Debug)]
pub struct Pat {
    /// One name or several.
    pub kind: PatKind,
    /// The whole pattern.
    pub span: Span,
}

/// The form of a [`Pat`].
#[derive(Clone, Debug)]
pub enum PatKind {
    /// `a`
    Name(Name),
    /// `(a, b)`: a tuple or a list of that length, at least 1.
    Tuple(Vec<Name>),
}

impl Pat {
    /// The names it binds, in order.
    pub fn names(&self) -> &[Name] {
        match &self.kind {
            PatKind::Name(name) => std::slice::from_ref(name),
            PatKind::Tuple(names) => names,
        }
    }
}

/// What `for` and `recur` run over.
#[derive(Clone, Debug)]
pub struct Range {
    /// The first position, or the list where `end` is absent.
    pub start: Expr,
    /// One past the last position.
    pub end: Option<Expr>,
    /// The whole range.
    pub span: Span,
}

/// A type as written.
#[derive(Clone, Debug)]
pub struct Type {
    /// A tensor type or a static kind.
    pub kind: TypeKind,
    /// The whole type.
    pub span: Span,
}

/// The form of a [`Type`].
#[derive(Clone, Debug)]
pub enum TypeKind {
    /// `i64[B, T]`
    Tensor(TensorType),
    /// `int`
    Kind(Kind),
}

/// Element type and shape as written.
#[derive(Clone, Debug)]
pub struct TensorType {
    /// The element type, `f32` where none is written.
    pub dtype: DType,
    /// Axes from slow to fast; empty for a scalar.
    pub axes: Vec<Axis>,
    /// The whole type.
    pub span: Span,
}

/// One axis of a shape as written.
#[derive(Clone, Debug)]
pub struct Axis {
    /// What stands there.
    pub kind: AxisKind,
    /// Its place.
    pub span: Span,
}

/// The form of an [`Axis`].
#[derive(Clone, Debug)]
pub enum AxisKind {
    /// `..` or `..N`: any number of axes.
    Multi(Option<Name>),
    /// `(G, C)`: one axis of that product, the first slow. At least two parts, no `Multi` within.
    Group(Vec<Axis>),
    /// A dimension.
    Dim(Expr),
}

/// A kind of static value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// `int`
    Int,
    /// `float`
    Float,
    /// `bool`
    Bool,
    /// `str`
    Str,
    /// `list`
    List,
    /// `fn`
    Fn,
    /// `module`
    Module,
    /// `pattern`
    Pattern,
}

impl Kind {
    /// The word that is written for it.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Int => "int",
            Kind::Float => "float",
            Kind::Bool => "bool",
            Kind::Str => "str",
            Kind::List => "list",
            Kind::Fn => "fn",
            Kind::Module => "module",
            Kind::Pattern => "pattern",
        }
    }
}
