//! Names, expressions, reads and the indices they bind.

use super::{BinaryOp, Block, Pat, Range, Reducer, UnaryOp};
use crate::span::Span;
use std::sync::Arc;

/// A name, plain or in back-quotes.
#[derive(Clone, Debug)]
pub struct Name {
    /// Text and holes in order; a plain name is one text. Never empty.
    pub parts: Arc<[NamePart]>,
    /// Whether it was written in back-quotes.
    pub quoted: bool,
    /// With the back-quotes.
    pub span: Span,
}

/// A piece of a [`Name`].
#[derive(Clone, Debug)]
pub enum NamePart {
    /// Text, taken as it stands.
    Text(String),
    /// `{expr}`: a static int or string.
    Hole(Expr),
}

impl Name {
    /// A name without holes.
    pub fn plain(text: impl Into<String>, span: Span) -> Self {
        Name { parts: Arc::new([NamePart::Text(text.into())]), quoted: false, span }
    }

    /// The text, if there are no holes.
    pub fn as_plain(&self) -> Option<&str> {
        match &*self.parts {
            [NamePart::Text(text)] => Some(text),
            _ => None,
        }
    }
}

/// An expression; cloning shares its kind.
#[derive(Clone, Debug)]
pub struct Expr {
    /// What it is.
    pub kind: Arc<ExprKind>,
    /// Its place, without parentheses that only group.
    pub span: Span,
}

impl Expr {
    /// An expression at a place.
    pub fn new(kind: ExprKind, span: Span) -> Self {
        Expr { kind: Arc::new(kind), span }
    }
}

/// What an [`Expr`] is.
#[derive(Clone, Debug)]
pub enum ExprKind {
    /// A whole number.
    Int(i64),
    /// A finite number with a point or an exponent.
    Float(f64),
    /// A string, escapes resolved.
    Str(String),
    /// `true`, `false`
    Bool(bool),
    /// `self`
    SelfRef,
    /// A name.
    Name(Name),
    /// `[a, b]`
    List(Vec<Expr>),
    /// `[value; count]`
    Repeat {
        /// Evaluated once for each element.
        value: Expr,
        /// How many.
        count: Expr,
    },
    /// `[for pat in range: value]`
    Comprehension {
        /// The loop's variables.
        pat: Pat,
        /// What it runs over.
        range: Range,
        /// The element.
        value: Expr,
    },
    /// `(a, b)`, `(y = a, h = b)`, `(a,)`. At least one element.
    Tuple(Vec<Arg>),
    /// `f(a, b = c)`
    Call {
        /// What is called.
        callee: Expr,
        /// Arguments in order; positional ones may not follow named ones.
        args: Vec<Arg>,
    },
    /// `x[ix, ix else e]`
    Index {
        /// What is read.
        base: Expr,
        /// One index for an axis; may be empty (`x[]`).
        index: Vec<Ix>,
        /// The value outside.
        otherwise: Option<Expr>,
    },
    /// `x.name`
    Field {
        /// The owner.
        base: Expr,
        /// The member, which may have holes.
        name: Name,
    },
    /// `if cond { a } else { b }`
    If {
        /// The condition.
        cond: Expr,
        /// The value if it holds.
        then: Arc<Block>,
        /// The value if it does not.
        otherwise: Arc<Block>,
    },
    /// `-a`, `not a`
    Unary {
        /// The operator.
        op: UnaryOp,
        /// Its operand.
        operand: Expr,
    },
    /// `a + b`
    Binary {
        /// The operator.
        op: BinaryOp,
        /// Left operand.
        left: Expr,
        /// Right operand.
        right: Expr,
        /// Place of the operator.
        op_span: Span,
    },
    /// `sum[i: N where c else e] term`
    Reduce(Reduce),
}

/// An argument of a call or element of a tuple.
#[derive(Clone, Debug)]
pub struct Arg {
    /// Before `=`, if it is named.
    pub name: Option<Name>,
    /// Its value.
    pub value: Expr,
}

/// A reducer or normaliser with its term.
#[derive(Clone, Debug)]
pub struct Reduce {
    /// Which.
    pub reducer: Reducer,
    /// Place of its word.
    pub reducer_span: Span,
    /// Indices bound, or named in the case of a normaliser. At least one.
    pub binds: Vec<Bind>,
    /// Entries taken.
    pub filter: Option<Expr>,
    /// The value over nothing.
    pub otherwise: Option<Expr>,
    /// The product it takes.
    pub term: Expr,
}

/// An index that a definition or a reducer binds.
#[derive(Clone, Debug)]
pub struct Bind {
    /// Its form.
    pub kind: BindKind,
    /// Its place.
    pub span: Span,
}

/// The form of a [`Bind`].
#[derive(Clone, Debug)]
pub enum BindKind {
    /// `..` or `..n`: several indices at once.
    Multi(Option<Name>),
    /// `(h, d)`: one axis made of several indices, the first slow. At least two parts.
    Group(Vec<Bind>),
    /// `i` or `i: N`
    Index {
        /// The index.
        name: Name,
        /// Its extent.
        extent: Option<Expr>,
    },
}

/// What stands for one axis of a read.
#[derive(Clone, Debug)]
pub struct Ix {
    /// Its form.
    pub kind: IxKind,
    /// Its place.
    pub span: Span,
}

/// The form of an [`Ix`].
#[derive(Clone, Debug)]
pub enum IxKind {
    /// `..` or `..n`
    Multi(Option<Name>),
    /// `:`, which keeps the axis
    Full,
    /// `(h, d)`, which takes an axis apart. At least two parts.
    Group(Vec<GroupPart>),
    /// A position.
    Index(Expr),
    /// `a..b`, half open
    Range(Expr, Expr),
}

/// One part of a group on a read.
#[derive(Clone, Debug)]
pub struct GroupPart {
    /// Its form.
    pub kind: GroupPartKind,
    /// Its place.
    pub span: Span,
}

/// The form of a [`GroupPart`].
#[derive(Clone, Debug)]
pub enum GroupPartKind {
    /// `h: 8`, an index with the extent of its part
    Sized(Name, Expr),
    /// A group within the group.
    Group(Vec<GroupPart>),
    /// A position.
    Index(Expr),
}
