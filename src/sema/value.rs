//! Values of the interpreter: what an expression evaluates to during elaboration.
//!
//! Static values are complete here. A tensor is a reference to a value of one of the graphs
//! under construction, or a rank-0 expression that is not yet part of any.

use super::scalar::{IndexVar, Scalar};
use crate::diag::counted;
use crate::dim::Dim;
use crate::dtype::DType;
use crate::graph::ir;
use crate::span::Span;
use crate::syntax::ast;
use indexmap::IndexMap;
use std::sync::Arc;

/// Most characters of a string that messages show.
const MAX_SHOWN: usize = 32;

/// A value.
#[derive(Clone, Debug)]
pub enum Value {
    /// An exact integer, known or a formula of free dimensions.
    Int(Dim),
    /// An exact real that is known.
    Float(f64),
    /// A truth value that is known.
    Bool(bool),
    /// A string.
    Str(Arc<str>),
    /// A list; elements may differ in kind.
    List(Arc<Vec<Value>>),
    /// A tuple.
    Tuple(Arc<TupleValue>),
    /// A function.
    Fn(FnValue),
    /// A module that has no weights yet: a description.
    Module(Arc<ModuleValue>),
    /// A pattern.
    Pattern(Arc<PatternValue>),
    /// A module bound to a member.
    Instance(InstanceRef),
    /// An initialiser of weights.
    Init(ir::Init),
    /// A run-time value, also exact scalars that depend on indices or free dimensions.
    Tensor(TensorValue),
    /// Several indices at once, the meaning of `..n` in index notation.
    Indices(Arc<[IndexVar]>),
    /// The names of a file, as `use "f.mdl" as f` binds them.
    Namespace(usize),
    /// A sequence of an open recurrence, by its number there.
    Sequence(SequenceRef),
    /// Stands for a value whose computation failed; using it is silent.
    Poison,
}

/// The elements of a tuple.
#[derive(Clone, Debug)]
pub struct TupleValue {
    /// Elements in order.
    pub values: Vec<Value>,
    /// Their names, where they have some; empty if none has one.
    pub names: Vec<Option<Arc<str>>>,
    /// Whether it is written as `(y = a, h = b)`, so that its names decide the order of results;
    /// the results of a call keep their order.
    pub literal: bool,
}

/// A function value.
#[derive(Clone, Debug)]
pub enum FnValue {
    /// A `fn` of the given file.
    User(usize, Arc<ast::FnDecl>),
    /// A function that the compiler knows.
    Builtin(super::builtins::Builtin),
    /// An entry of an instance.
    Entry(InstanceRef, Arc<str>),
}

/// A module description.
#[derive(Clone, Debug)]
pub struct ModuleValue {
    /// The file it is declared in.
    pub file: usize,
    /// The declaration.
    pub decl: Arc<ast::ModuleDecl>,
    /// Values of the static parameters; `None` as long as it is not applied.
    pub statics: Option<IndexMap<Arc<str>, Value>>,
    /// Where it was applied, or declared.
    pub span: Span,
}

/// A pattern.
#[derive(Clone, Debug)]
pub enum PatternValue {
    /// Everything is allowed.
    Full,
    /// A declared pattern with its arguments bound.
    Decl {
        /// The file of the declaration.
        file: usize,
        /// The declaration.
        decl: Arc<ast::PatternDecl>,
        /// Parameters and the dimensions they bind.
        bindings: Arc<super::env::Block>,
    },
    /// A pattern whose parameters are still to be given.
    Unapplied {
        /// The file of the declaration.
        file: usize,
        /// The declaration.
        decl: Arc<ast::PatternDecl>,
    },
    /// A boolean tensor.
    Tensor(TensorValue),
    /// Where both hold.
    And(Arc<PatternValue>, Arc<PatternValue>),
    /// Where either holds.
    Or(Arc<PatternValue>, Arc<PatternValue>),
    /// Where it does not hold.
    Not(Arc<PatternValue>),
}

/// A sequence under definition, for `sema::recur`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SequenceRef {
    /// Which open recurrence, counted from the outermost.
    pub recur: usize,
    /// Which sequence of it.
    pub sequence: usize,
}

/// A value of a graph under construction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct NodeRef {
    /// The number of the graph, unique in an elaboration.
    pub frame: u32,
    /// The value in it.
    pub value: ir::Value,
}

/// A tensor, or an exact run-time scalar.
///
/// Physically its leading axes are the `mapped` ones, in that order; `shape` leaves them out.
#[derive(Clone, Debug)]
pub struct TensorValue {
    /// What it is.
    pub repr: Repr,
    /// Element type.
    pub dtype: DType,
    /// Logical shape.
    pub shape: Arc<[Dim]>,
    /// Whether it takes the type of what it meets: an i64 or f64 made of exact numbers only.
    pub exact: bool,
    /// Indices in scope that a node depends on; always empty for lazy scalars.
    pub mapped: Arc<[IndexVar]>,
    /// Lengths of the runs of axes that `..` and its neighbours stand for in the declared type,
    /// where it had several `..`.
    pub segments: Option<Arc<[usize]>>,
    /// For a sequence of a recurrence, the entries before the first.
    pub prior: Option<Arc<Prior>>,
}

/// Where the initial entries of a finished sequence lie.
#[derive(Debug)]
pub struct Prior {
    /// The extended sequence.
    pub extended: TensorValue,
    /// Its time axis.
    pub axis: usize,
    /// What is added to a position to find it there.
    pub offset: Dim,
}

/// What a [`TensorValue`] is.
#[derive(Clone, Debug)]
pub enum Repr {
    /// A value of a graph.
    Node(NodeRef),
    /// A rank-0 expression.
    Lazy(Scalar),
}

impl TensorValue {
    /// A lazy scalar.
    pub fn lazy(scalar: Scalar, exact: bool) -> Self {
        TensorValue {
            dtype: scalar.dtype(),
            repr: Repr::Lazy(scalar),
            shape: Arc::from([]),
            exact,
            mapped: Arc::from([]),
            segments: None,
            prior: None,
        }
    }

    /// A value of a graph.
    pub fn node(node: NodeRef, dtype: DType, shape: Vec<Dim>, mapped: Vec<IndexVar>) -> Self {
        TensorValue {
            repr: Repr::Node(node),
            dtype,
            shape: shape.into(),
            exact: false,
            mapped: mapped.into(),
            segments: None,
            prior: None,
        }
    }

    /// Number of logical axes.
    pub fn rank(&self) -> usize {
        self.shape.len()
    }

    /// The expression, if it is lazy.
    pub fn as_lazy(&self) -> Option<&Scalar> {
        match &self.repr {
            Repr::Lazy(scalar) => Some(scalar),
            Repr::Node(_) => None,
        }
    }

    /// Index variables it depends on.
    pub fn free(&self) -> &[IndexVar] {
        match &self.repr {
            Repr::Lazy(scalar) => scalar.free(),
            Repr::Node(_) => &self.mapped,
        }
    }

    /// What it is, with its element type, for messages: "a tensor f32[B, T]".
    pub fn kind_text(&self) -> String {
        let axes = type_text(DType::F32, &self.shape);
        match (self.exact, self.dtype) {
            (true, DType::Bool) if self.rank() == 0 => "a truth value".into(),
            (true, DType::F64) if self.rank() == 0 => "a real number".into(),
            (true, _) if self.rank() == 0 => "an integer".into(),
            (_, dtype) if self.rank() == 0 => format!("a scalar {dtype}[]"),
            (_, dtype) => format!("a tensor {dtype}{axes}"),
        }
    }

    /// `[B, T]` of f32 and `i64[B, T]` of others, for messages.
    pub fn type_text(&self) -> String {
        type_text(self.dtype, &self.shape)
    }
}

/// `[B, T]` for f32 and `i64[B, T]` for others, for messages.
pub fn type_text(dtype: DType, shape: &[Dim]) -> String {
    let axes: Vec<String> = shape.iter().map(ToString::to_string).collect();
    let dtype = if dtype == DType::F32 { "" } else { dtype.name() };
    format!("{dtype}[{}]", axes.join(", "))
}

/// A module with weights.
#[derive(Debug)]
pub struct Instance {
    /// The file of the module.
    pub file: usize,
    /// The module.
    pub decl: Arc<ast::ModuleDecl>,
    /// Where its weights lie in files; empty for the root.
    pub path: String,
    /// Statics: parameters and member `let`s.
    pub statics: super::env::Block,
    /// Weights and sub-modules by name.
    pub members: IndexMap<Arc<str>, Member>,
    /// Members whose condition does not hold, and where they are declared.
    pub absent: IndexMap<Arc<str>, Span>,
    /// Entries by name.
    pub entries: IndexMap<Arc<str>, Arc<ast::EntryDecl>>,
    /// First of its weights, and one past the last, in order of declaration. Instances with equal
    /// module and statics number their weights alike.
    pub weights: (u32, u32),
    /// Module and statics, equal for equally built instances; `None` where there is none.
    pub key: Option<Vec<super::outline::KeyPart>>,
    /// Where it was bound.
    pub span: Span,
}

/// A member of an [`Instance`].
#[derive(Clone, Debug)]
pub enum Member {
    /// A weight, by its number.
    Weight(u32),
    /// An instance, a function, or a list of these.
    Sub(Value),
}

/// An instance, or one of several equally built ones picked by a run-time index.
#[derive(Clone, Debug)]
pub struct InstanceRef {
    /// The instance; the first of the list where one is picked.
    pub instance: Arc<Instance>,
    /// The pick.
    pub pick: Option<Arc<Pick>>,
}

/// A choice among equally built instances.
#[derive(Debug)]
pub struct Pick {
    /// For each element of the list, its first weight.
    pub starts: Vec<u32>,
    /// Which, an i64 scalar.
    pub index: Scalar,
    /// Where it is picked.
    pub span: Span,
}

impl InstanceRef {
    /// A lone instance.
    pub fn new(instance: Arc<Instance>) -> Self {
        InstanceRef { instance, pick: None }
    }
}

impl Value {
    /// A known integer.
    pub fn int(value: i64) -> Self {
        Value::Int(Dim::from(value))
    }

    /// A list.
    pub fn list(values: Vec<Value>) -> Self {
        Value::List(Arc::new(values))
    }

    /// A tuple without names.
    pub fn tuple(values: Vec<Value>) -> Self {
        Value::Tuple(Arc::new(TupleValue { values, names: Vec::new(), literal: true }))
    }

    /// An exact run-time integer or real.
    pub fn exact(scalar: Scalar) -> Self {
        match scalar.as_dim() {
            Some(dim) => Value::Int(dim),
            None => match (scalar.as_real(), scalar.as_bool()) {
                (Some(v), _) if scalar.dtype() == DType::F64 => Value::Float(v),
                (_, Some(v)) => Value::Bool(v),
                _ => Value::Tensor(TensorValue::lazy(scalar, true)),
            },
        }
    }

    /// Whether it may be called.
    pub fn is_callable(&self) -> bool {
        matches!(self, Value::Fn(_) | Value::Module(_) | Value::Instance(_))
    }

    /// What it is, with its article, for messages.
    pub fn kind_text(&self) -> String {
        match self {
            Value::Int(d) => format!("the integer {d}"),
            Value::Float(v) => format!("the real number {v:?}"),
            Value::Bool(v) => format!("the truth value `{v}`"),
            Value::Str(s) => match s.char_indices().nth(MAX_SHOWN) {
                Some((end, _)) => format!("the string \"{}…\"", &s[..end]),
                None => format!("the string \"{s}\""),
            },
            Value::List(v) => format!("a list of {}", counted(v.len(), "value", "values")),
            Value::Tuple(t) => format!("a tuple of {}", counted(t.values.len(), "value", "values")),
            Value::Fn(_) => "a function".into(),
            Value::Module(m) => format!("the module {}", m.decl.name.as_plain().unwrap_or("?")),
            Value::Pattern(_) => "a pattern".into(),
            Value::Instance(i) => {
                format!("a sub-module, {}", i.instance.decl.name.as_plain().unwrap_or("?"))
            }
            Value::Init(_) => "an initialiser".into(),
            Value::Tensor(t) => t.kind_text(),
            Value::Indices(_) => "a run of indices".into(),
            Value::Namespace(_) => "a file's names".into(),
            Value::Sequence(_) => "a sequence".into(),
            Value::Poison => "a failed value".into(),
        }
    }
}
