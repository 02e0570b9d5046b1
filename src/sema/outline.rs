//! Entries as functions: elaborated once for equal modules and arguments, called with other
//! weights.
//!
//! The key of a function is its module with statics, the entry, and the structure of the
//! arguments with their types. Tensors anywhere in the arguments (in lists, tuples, patterns)
//! become parameters. Calls that depend on index variables, and calls with values that have no
//! key, are elaborated in place.

use super::Elaborator;
use super::build::Frame;
use super::call::{Argument, block_values};
use super::errors::{Eval, Reported};
use super::value::{
    FnValue, InstanceRef, ModuleValue, NodeRef, PatternValue, Repr, TensorValue, TupleValue, Value,
};
use crate::dim::Dim;
use crate::dtype::DType;
use crate::graph::ir::{self, FuncId, Function, Node, Op, TensorType};
use crate::span::Span;
use crate::syntax::ast;
use std::sync::Arc;

/// A piece of a key.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum KeyPart {
    /// A tag or text.
    Text(Arc<str>),
    /// A size.
    Dim(Dim),
    /// The bits of a real.
    Real(u64),
    /// A declaration.
    Decl(Span),
    /// The `k`-th distinct tensor, with its type and whether it is exact.
    Tensor(usize, DType, Vec<Dim>, bool, Option<Arc<[usize]>>),
}

/// What an argument of a function is at a call.
#[derive(Clone, Copy, Debug)]
enum Source {
    /// The `k`-th tensor of the arguments.
    Operand(usize),
    /// A weight, relative to the instance.
    Weight(u32),
    /// A value of an outer graph.
    Capture(NodeRef),
}

/// A function that has been elaborated.
#[derive(Clone, Debug)]
pub struct Outlined {
    function: FuncId,
    sources: Vec<Source>,
    results: Vec<TensorType>,
    /// The value it gives; nodes are results by number.
    template: Value,
}

/// Number of the pretended graph whose nodes are results of a function.
const TEMPLATE: u32 = u32::MAX;

impl Elaborator<'_> {
    /// Calls an entry as a function where that is possible, in place otherwise.
    pub(super) fn outlined(
        &mut self,
        owner: &InstanceRef,
        name: &str,
        decl: &Arc<ast::EntryDecl>,
        args: Vec<Argument>,
        span: Span,
    ) -> Eval<Value> {
        let Some(statics) = owner.instance.key.clone().filter(|_| owner.pick.is_none()) else {
            return self.entry_body(owner, name, decl, args, span);
        };
        let mut key = statics;
        key.push(KeyPart::Decl(decl.span));
        let mut tensors = Vec::new();
        for arg in &args {
            key.push(KeyPart::Text(arg.name.clone().unwrap_or_else(|| "".into())));
            if !self.key_of(&arg.value, &mut key, &mut tensors) {
                return self.entry_body(owner, name, decl, args, span);
            }
        }
        self.charge(key.len() / 4, span)?;
        for tensor in &mut tensors {
            *tensor = self.materialise(tensor, span)?;
        }
        if let Some(known) = self.outlines.get(&key).cloned() {
            return self.call_outlined(&known, owner, &tensors, span);
        }
        let outlined = self.outline(owner, name, decl, &args, &tensors, span);
        // What failed is not kept: it may have been a look ahead, whose faults are forgotten.
        if let Ok(known) = &outlined
            && !known.sources.iter().any(|s| matches!(s, Source::Capture(_)))
        {
            self.outlines.insert(key, known.clone());
        }
        self.call_outlined(&outlined?, owner, &tensors, span)
    }

    fn outline(
        &mut self,
        owner: &InstanceRef,
        name: &str,
        decl: &ast::EntryDecl,
        args: &[Argument],
        tensors: &[TensorValue],
        span: Span,
    ) -> Eval<Outlined> {
        self.charge_node(span)?;
        let guards = std::mem::take(&mut self.guards);
        self.push_frame(Some(owner.instance.weights.0));
        let mut params = Vec::new();
        for (k, t) in tensors.iter().enumerate() {
            let label = decl.params.get(k).and_then(|p| p.name.as_plain());
            let mut param = self.add_arg(t.dtype, t.shape.to_vec(), span, label);
            param.exact = t.exact;
            param.segments = t.segments.clone();
            params.push(param);
        }
        let mut seen = Vec::new();
        let inner: Vec<Argument> = args
            .iter()
            .map(|a| Argument { value: with_tensors(&a.value, &mut seen, &params), ..a.clone() })
            .collect();
        let body = self.entry_body(owner, name, decl, inner, span);
        let template = body.and_then(|value| {
            let mut results = Vec::new();
            let template = self.templated(&value, &mut results, span)?;
            Ok((template, results))
        });
        let mut frame = self.pop_frame();
        self.guards = guards;
        let (template, results) = template?;
        frame.graph.results = results;
        let types: Vec<TensorType> = frame.graph.results.iter().map(|r| frame.graph.ty(*r).clone()).collect();
        let sources = sources_of(&frame, params.len());
        let function = self.add_function(name, frame.graph);
        Ok(Outlined { function, sources, results: types, template })
    }

    /// Adds a finished function under a unique name.
    pub(super) fn add_function(&mut self, name: &str, graph: ir::Graph) -> FuncId {
        let uses = self.function_names.entry(name.into()).or_insert(0);
        *uses += 1;
        let unique = if *uses == 1 { name.to_string() } else { format!("{name}.{uses}") };
        self.functions.push(Function { name: unique.into(), graph });
        FuncId(self.functions.len() as u32 - 1)
    }

    fn call_outlined(
        &mut self,
        outlined: &Outlined,
        owner: &InstanceRef,
        tensors: &[TensorValue],
        span: Span,
    ) -> Eval<Value> {
        self.charge_node(span)?;
        let mut operands = Vec::new();
        for source in &outlined.sources {
            let node = match source {
                Source::Operand(k) => tensors.get(*k).and_then(node_of),
                Source::Weight(relative) => {
                    let weight = self.weight_value(owner.instance.weights.0 + relative);
                    node_of(&weight)
                }
                Source::Capture(node) => Some(*node),
            };
            let node = node.ok_or(Reported)?;
            operands.push(self.import(node));
        }
        let node =
            Node { op: Op::Call(outlined.function), results: outlined.results.clone(), span, name: None };
        let frame = self.frame();
        let call = frame.graph.add(node, &operands);
        let id = frame.id;
        Ok(instantiated(&outlined.template, &|result| NodeRef {
            frame: id,
            value: ir::Value { node: call, result },
        }))
    }

    /// Appends what identifies a value to a key and collects its tensors, each once; `false` if
    /// the value has no key.
    pub(super) fn key_of(
        &self,
        value: &Value,
        key: &mut Vec<KeyPart>,
        tensors: &mut Vec<TensorValue>,
    ) -> bool {
        let tag = |text: &str| KeyPart::Text(text.into());
        match value {
            Value::Int(d) => key.extend([tag("int"), KeyPart::Dim(self.resolved(d))]),
            Value::Float(v) => key.extend([tag("real"), KeyPart::Real(v.to_bits())]),
            Value::Bool(v) => key.push(tag(if *v { "true" } else { "false" })),
            Value::Str(s) => key.extend([tag("str"), KeyPart::Text(Arc::clone(s))]),
            Value::List(items) => {
                key.push(tag("["));
                let known = items.iter().all(|v| self.key_of(v, key, tensors));
                key.push(tag("]"));
                return known;
            }
            Value::Tuple(tuple) => {
                key.push(tag("("));
                let known = tuple.values.iter().all(|v| self.key_of(v, key, tensors));
                key.push(tag(")"));
                return known;
            }
            Value::Fn(FnValue::User(_, decl)) => key.push(KeyPart::Decl(decl.span)),
            Value::Fn(FnValue::Builtin(b)) => key.extend([tag("builtin"), tag(b.name())]),
            Value::Module(module) => {
                key.push(KeyPart::Decl(module.decl.span));
                key.push(tag(if module.statics.is_some() { "applied" } else { "module" }));
                let before = tensors.len();
                let mut statics = module.statics.iter().flat_map(|s| s.values());
                return statics.all(|v| self.key_of(v, key, tensors)) && tensors.len() == before;
            }
            Value::Pattern(pattern) => return self.pattern_key(pattern, key, tensors),
            Value::Tensor(t) => {
                if !t.free().is_empty() {
                    return false;
                }
                let same = |a: &TensorValue| match (&a.repr, &t.repr) {
                    (Repr::Node(x), Repr::Node(y)) => x == y && a.exact == t.exact,
                    (Repr::Lazy(x), Repr::Lazy(y)) => x.address() == y.address(),
                    _ => false,
                };
                let at = tensors.iter().position(same).unwrap_or_else(|| {
                    tensors.push(t.clone());
                    tensors.len() - 1
                });
                let shape = t.shape.iter().map(|d| self.resolved(d)).collect();
                key.push(KeyPart::Tensor(at, t.dtype, shape, t.exact, t.segments.clone()));
            }
            _ => return false,
        }
        true
    }

    fn pattern_key(
        &self,
        pattern: &PatternValue,
        key: &mut Vec<KeyPart>,
        tensors: &mut Vec<TensorValue>,
    ) -> bool {
        let tag = |text: &str| KeyPart::Text(text.into());
        match pattern {
            PatternValue::Full => key.push(tag("full")),
            PatternValue::Unapplied { decl, .. } => key.push(KeyPart::Decl(decl.span)),
            PatternValue::Decl { decl, bindings, .. } => {
                key.extend([tag("pattern"), KeyPart::Decl(decl.span)]);
                for (name, value) in block_values(bindings) {
                    key.push(KeyPart::Text(Arc::clone(name)));
                    if !self.key_of(value, key, tensors) {
                        return false;
                    }
                }
            }
            PatternValue::Tensor(t) => return self.key_of(&Value::Tensor(t.clone()), key, tensors),
            PatternValue::And(a, b) | PatternValue::Or(a, b) => {
                key.push(tag(if matches!(pattern, PatternValue::And(..)) { "and" } else { "or" }));
                return self.pattern_key(a, key, tensors) && self.pattern_key(b, key, tensors);
            }
            PatternValue::Not(a) => {
                key.push(tag("not"));
                return self.pattern_key(a, key, tensors);
            }
        }
        true
    }

    /// The key of a module with its statics; `None` if one of them has none.
    pub(super) fn module_key(&self, module: &ModuleValue) -> Option<Vec<KeyPart>> {
        let mut key = Vec::new();
        let mut tensors = Vec::new();
        let value = Value::Module(Arc::new(module.clone()));
        (self.key_of(&value, &mut key, &mut tensors) && tensors.is_empty()).then_some(key)
    }

    /// A function's value with its nodes numbered as results.
    fn templated(&mut self, value: &Value, results: &mut Vec<ir::Value>, span: Span) -> Eval<Value> {
        Ok(match value {
            Value::Tensor(t) => {
                let t = self.materialise(t, span)?;
                let node = node_of(&t).ok_or(Reported)?;
                let value = self.import(node);
                let at = results.iter().position(|r| *r == value).unwrap_or_else(|| {
                    results.push(value);
                    results.len() - 1
                });
                // Initial entries of a sequence stay inside the function.
                Value::Tensor(TensorValue { repr: Repr::Node(template_node(at)), prior: None, ..t })
            }
            Value::List(items) => {
                let items: Eval<Vec<Value>> =
                    items.iter().map(|v| self.templated(v, results, span)).collect();
                Value::list(items?)
            }
            Value::Tuple(tuple) => {
                let values: Eval<Vec<Value>> =
                    tuple.values.iter().map(|v| self.templated(v, results, span)).collect();
                Value::Tuple(Arc::new(TupleValue {
                    values: values?,
                    names: tuple.names.clone(),
                    literal: tuple.literal,
                }))
            }
            Value::Pattern(_) | Value::Instance(_) => {
                return self.error(
                    "type-mismatch",
                    format!("an entry cannot give {}", value.kind_text()),
                    span,
                );
            }
            other => other.clone(),
        })
    }
}

fn template_node(result: usize) -> NodeRef {
    NodeRef { frame: TEMPLATE, value: ir::Value { node: Default::default(), result: result as u32 } }
}

/// The graph value that a tensor is.
pub(super) fn node_of(tensor: &TensorValue) -> Option<NodeRef> {
    match &tensor.repr {
        Repr::Node(node) => Some(*node),
        Repr::Lazy(_) => None,
    }
}

fn sources_of(frame: &Frame, operands: usize) -> Vec<Source> {
    let find = |k: usize, node| {
        if k < operands {
            return Some(Source::Operand(k));
        }
        let weight = frame.weights.iter().find(|(_, v)| v.node == node).map(|(w, _)| Source::Weight(*w));
        weight
            .or_else(|| frame.captures.iter().find(|(_, v)| v.node == node).map(|(n, _)| Source::Capture(*n)))
    };
    frame.graph.args.iter().enumerate().filter_map(|(k, node)| find(k, *node)).collect()
}

/// A value with its tensors replaced, in the order `key_of` met them.
fn with_tensors(value: &Value, seen: &mut Vec<TensorValue>, params: &[TensorValue]) -> Value {
    match value {
        Value::Tensor(t) => Value::Tensor(replaced(t, seen, params)),
        Value::List(items) => Value::list(items.iter().map(|v| with_tensors(v, seen, params)).collect()),
        Value::Tuple(tuple) => Value::Tuple(Arc::new(TupleValue {
            values: tuple.values.iter().map(|v| with_tensors(v, seen, params)).collect(),
            names: tuple.names.clone(),
            literal: tuple.literal,
        })),
        Value::Pattern(pattern) => Value::Pattern(pattern_with(pattern, seen, params)),
        other => other.clone(),
    }
}

fn replaced(t: &TensorValue, seen: &mut Vec<TensorValue>, params: &[TensorValue]) -> TensorValue {
    let same = |a: &TensorValue| match (&a.repr, &t.repr) {
        (Repr::Node(x), Repr::Node(y)) => x == y && a.exact == t.exact,
        (Repr::Lazy(x), Repr::Lazy(y)) => x.address() == y.address(),
        _ => false,
    };
    let at = seen.iter().position(same).unwrap_or_else(|| {
        seen.push(t.clone());
        seen.len() - 1
    });
    params.get(at).cloned().unwrap_or_else(|| t.clone())
}

fn pattern_with(
    pattern: &Arc<PatternValue>,
    seen: &mut Vec<TensorValue>,
    params: &[TensorValue],
) -> Arc<PatternValue> {
    Arc::new(match &**pattern {
        PatternValue::Full | PatternValue::Unapplied { .. } => return Arc::clone(pattern),
        PatternValue::Tensor(t) => PatternValue::Tensor(replaced(t, seen, params)),
        PatternValue::And(a, b) => {
            let a = pattern_with(a, seen, params);
            PatternValue::And(a, pattern_with(b, seen, params))
        }
        PatternValue::Or(a, b) => {
            let a = pattern_with(a, seen, params);
            PatternValue::Or(a, pattern_with(b, seen, params))
        }
        PatternValue::Not(a) => PatternValue::Not(pattern_with(a, seen, params)),
        PatternValue::Decl { file, decl, bindings } => {
            let mut bindings = (**bindings).clone();
            for (_, binding) in bindings.iter_mut() {
                binding.value = with_tensors(&binding.value, seen, params);
            }
            PatternValue::Decl { file: *file, decl: Arc::clone(decl), bindings: Arc::new(bindings) }
        }
    })
}

fn instantiated(template: &Value, node: &dyn Fn(u32) -> NodeRef) -> Value {
    match template {
        Value::Tensor(t) => match &t.repr {
            Repr::Node(n) if n.frame == TEMPLATE => {
                Value::Tensor(TensorValue { repr: Repr::Node(node(n.value.result)), ..t.clone() })
            }
            _ => template.clone(),
        },
        Value::List(items) => Value::list(items.iter().map(|v| instantiated(v, node)).collect()),
        Value::Tuple(tuple) => Value::Tuple(Arc::new(TupleValue {
            values: tuple.values.iter().map(|v| instantiated(v, node)).collect(),
            names: tuple.names.clone(),
            literal: tuple.literal,
        })),
        other => other.clone(),
    }
}
