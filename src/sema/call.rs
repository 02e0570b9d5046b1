//! Calls: arguments to parameters, and what each callable does with them.

use super::Elaborator;
use super::env::{Block, Env, Unknowns};
use super::errors::{Eval, Reported};
use super::shapes::Match;
use super::value::{FnValue, InstanceRef, ModuleValue, PatternValue, TensorValue, Value};
use crate::diag::{Diagnostic, counted, nearest};
use crate::dim::{Dim, Symbol};
use crate::span::Span;
use crate::syntax::ast;
use indexmap::IndexMap;
use std::sync::Arc;

/// An evaluated argument.
#[derive(Clone, Debug)]
pub struct Argument {
    /// Its name, if it was given by name.
    pub name: Option<Arc<str>>,
    /// Where that name is written.
    pub name_span: Option<Span>,
    /// Its value.
    pub value: Value,
    /// Where it is written.
    pub span: Span,
}

impl Argument {
    /// A positional argument.
    pub fn positional(value: Value, span: Span) -> Self {
        Argument { name: None, name_span: None, value, span }
    }

    /// Where it is told apart from other arguments: at its name, if it has one.
    pub(super) fn place(&self) -> Span {
        self.name_span.unwrap_or(self.span)
    }
}

impl Elaborator<'_> {
    /// Calls a value.
    ///
    /// # Errors
    /// What cannot be called, and everything that is wrong with the call.
    pub fn call(&mut self, callee: &Value, args: Vec<Argument>, span: Span) -> Eval<Value> {
        match callee {
            Value::Fn(FnValue::User(file, decl)) => self.call_fn(*file, decl, args, span),
            Value::Fn(FnValue::Builtin(builtin)) => self.call_builtin(*builtin, args, span),
            Value::Fn(FnValue::Entry(owner, entry)) => self.call_entry(owner, entry, args, span),
            Value::Instance(owner) => self.call_entry(owner, "forward", args, span),
            Value::Module(module) => self.apply_module(module, args, span),
            Value::Pattern(pattern) => match &**pattern {
                PatternValue::Unapplied { file, decl } => {
                    self.apply_pattern(*file, decl, args, span).map(Value::Pattern)
                }
                _ => self.error_help(
                    "not-callable",
                    "this pattern has its arguments already",
                    span,
                    "a pattern is read like a tensor: `mask[i, j]`",
                ),
            },
            Value::List(items) => self.call_list(items, args, span),
            Value::Poison => Err(Reported),
            other => {
                let title = format!("this cannot be called: it is {}", other.kind_text());
                let help = match other {
                    Value::Tensor(_) => "a tensor is read by `x[…]` and multiplied by `*` or `@`",
                    Value::Namespace(_) => "name what is meant: `file.name(…)`",
                    _ => return self.error("not-callable", title, span),
                };
                self.error_help("not-callable", title, span, help)
            }
        }
    }

    /// A list of modules and functions applies them in order.
    fn call_list(&mut self, items: &[Value], mut args: Vec<Argument>, span: Span) -> Eval<Value> {
        if items.is_empty() {
            return match args.pop() {
                Some(only) if args.is_empty() => Ok(only.value),
                _ => self.error("arguments", "an empty list is the identity of one argument", span),
            };
        }
        for item in items {
            let value = self.call(item, args, span)?;
            args = vec![Argument::positional(value, span)];
        }
        args.pop().map(|a| a.value).ok_or(Reported)
    }

    fn call_fn(
        &mut self,
        file: usize,
        decl: &Arc<ast::FnDecl>,
        args: Vec<Argument>,
        span: Span,
    ) -> Eval<Value> {
        let name = decl.name.as_plain().unwrap_or("?").to_string();
        let higher = args.iter().any(|a| a.value.is_callable() || matches!(a.value, Value::List(_)));
        if !higher {
            self.refuse_recursion("function", &name, decl.span, span)?;
        }
        self.enter(name.clone(), decl.span, span)?;
        let result = self.called_at(span, |s| {
            let mut env = Env::new(file);
            s.bind_params(&mut env, &name, &decl.params, args, decl.name.span, span)?;
            let value = s.eval_block(&mut env, &decl.body)?;
            s.ascribe_result(&mut env, decl.ret.as_ref(), value, result_span(&decl.body))
        });
        self.leave();
        result
    }

    /// A pattern with its arguments bound.
    ///
    /// # Errors
    /// Arguments that do not fit.
    pub fn apply_pattern(
        &mut self,
        file: usize,
        decl: &Arc<ast::PatternDecl>,
        args: Vec<Argument>,
        span: Span,
    ) -> Eval<Arc<PatternValue>> {
        let name = decl.name.as_plain().unwrap_or("?").to_string();
        let mut env = Env::new(file);
        self.bind_params(&mut env, &name, &decl.params, args, decl.name.span, span)?;
        let bindings = Arc::new(env.blocks.swap_remove(0));
        let pattern = Arc::new(PatternValue::Decl { file, decl: Arc::clone(decl), bindings });
        self.refuse_bulk(&Value::Pattern(Arc::clone(&pattern)), span)?;
        Ok(pattern)
    }

    fn apply_module(&mut self, module: &Arc<ModuleValue>, args: Vec<Argument>, span: Span) -> Eval<Value> {
        let name = module.decl.name.as_plain().unwrap_or("?");
        if module.statics.is_some() {
            let title = format!("{name} has its arguments already and no weights yet");
            let diagnostic = Diagnostic::error("not-callable", title)
                .at(span, "")
                .at(module.span, "described here")
                .help("bind it to a member of a module first; then it can be called");
            return Err(self.report(diagnostic));
        }
        let statics = self.bind_statics(module, args, span)?;
        let (file, decl) = (module.file, Arc::clone(&module.decl));
        let value = Value::Module(Arc::new(ModuleValue { file, decl, statics: Some(statics), span }));
        self.refuse_bulk(&value, span)?;
        Ok(value)
    }

    /// Values of all static parameters of a module.
    ///
    /// # Errors
    /// Arguments that do not fit, and parameters without a value.
    pub fn bind_statics(
        &mut self,
        module: &ModuleValue,
        args: Vec<Argument>,
        span: Span,
    ) -> Eval<IndexMap<Arc<str>, Value>> {
        let name = module.decl.name.as_plain().unwrap_or("?").to_string();
        let params = &module.decl.statics;
        let names: Vec<Arc<str>> =
            params.iter().map(|p| p.name.as_plain().unwrap_or_default().into()).collect();
        let given = self.place_arguments(&name, &names, args, module.decl.name.span, span)?;
        let mut env = Env::new(module.file);
        env.module = Some(Arc::clone(&module.decl));
        let mut values = IndexMap::new();
        for ((param, text), given) in params.iter().zip(names).zip(given) {
            let (value, place) = match (given, &param.default) {
                (Some(argument), _) => (argument.value, argument.span),
                (None, Some(default)) => (self.eval(&mut env, default)?, span),
                (None, None) => return self.missing(&name, &text, param.span, span),
            };
            let kind = param.kind.unwrap_or(ast::Kind::Int);
            let what = format!("`{text}` of `{name}`");
            let help = match &value {
                Value::Tensor(t) if !t.exact => {
                    "the arguments of a module are static; a member made of it is called with tensors"
                }
                _ => "",
            };
            let value = self.advising("type-mismatch", help, |s| {
                s.of_kind(value, kind, &what, place, Some(param.span))
            })?;
            env.bind(Arc::clone(&text), value.clone(), place);
            values.insert(text, value);
        }
        Ok(values)
    }

    fn missing<T>(&mut self, callee: &str, param: &str, declared: Span, span: Span) -> Eval<T> {
        let diagnostic =
            Diagnostic::error("arguments", format!("`{callee}` wants `{param}`, which has no default"))
                .at(span, "not given here")
                .at(declared, "declared here");
        Err(self.report(diagnostic))
    }

    /// Arguments in the order of the parameters.
    fn place_arguments(
        &mut self,
        callee: &str,
        params: &[Arc<str>],
        args: Vec<Argument>,
        declared: Span,
        span: Span,
    ) -> Eval<Vec<Option<Argument>>> {
        let mut placed: Vec<Option<Argument>> = vec![None; params.len()];
        let mut next = 0;
        let count = args.len();
        for arg in args {
            let at = match &arg.name {
                None => {
                    next += 1;
                    next - 1
                }
                Some(name) => match params.iter().position(|p| p == name) {
                    Some(at) => at,
                    None => {
                        let mut diagnostic =
                            Diagnostic::error("arguments", format!("`{callee}` has no parameter `{name}`"))
                                .at(arg.place(), "")
                                .at(declared, "declared here");
                        if let Some(near) = nearest(name, params.iter().map(|p| &**p)) {
                            diagnostic = diagnostic.help(format!("did you mean `{near}`?"));
                        } else if !params.is_empty() {
                            let names: Vec<&str> = params.iter().map(|p| &**p).collect();
                            diagnostic = diagnostic.help(format!("its parameters are {}", names.join(", ")));
                        }
                        return Err(self.report(diagnostic));
                    }
                },
            };
            match placed.get_mut(at) {
                Some(slot @ None) => *slot = Some(arg),
                Some(Some(first)) => {
                    let title = format!("`{}` is given twice to `{callee}`", params[at]);
                    let diagnostic = Diagnostic::error("arguments", title)
                        .at(arg.place(), "again here")
                        .at(first.place(), "first here");
                    return Err(self.report(diagnostic));
                }
                None => {
                    let most = counted(params.len(), "argument", "arguments");
                    let title = format!("`{callee}` takes {most}, but {count} are given");
                    let diagnostic = Diagnostic::error("arguments", title)
                        .at(arg.place(), "the first that is too many")
                        .at(declared, "declared here");
                    return Err(self.report(diagnostic));
                }
            }
        }
        let _ = span;
        Ok(placed)
    }

    /// Binds the parameters of a function, pattern or entry in the innermost block of `env`,
    /// with the dimensions that their shapes name.
    ///
    /// # Errors
    /// Arguments that do not fit.
    pub fn bind_params(
        &mut self,
        env: &mut Env,
        callee: &str,
        params: &[ast::Param],
        args: Vec<Argument>,
        declared: Span,
        span: Span,
    ) -> Eval<()> {
        let names: Vec<Arc<str>> =
            params.iter().map(|p| p.name.as_plain().unwrap_or_default().into()).collect();
        let placed = self.place_arguments(callee, &names, args, declared, span)?;
        env.unknowns = Some(Unknowns::new());
        let bound = self.bind_placed(env, callee, params, &names, placed, span);
        env.unknowns = None;
        bound
    }

    fn bind_placed(
        &mut self,
        env: &mut Env,
        callee: &str,
        params: &[ast::Param],
        names: &[Arc<str>],
        placed: Vec<Option<Argument>>,
        span: Span,
    ) -> Eval<()> {
        let block = env.blocks.len() - 1;
        let mut tensors: Vec<(usize, Option<TensorValue>, Span)> = Vec::new();
        let mut provisional: Vec<(usize, Value, Span)> = Vec::new();
        for (k, (param, given)) in params.iter().zip(placed).enumerate() {
            let what = format!("`{}` of `{callee}`", names[k]);
            let kind = match param.ty.as_ref().map(|t| &t.kind) {
                Some(ast::TypeKind::Tensor(ty)) => {
                    match given {
                        Some(arg) if self.is_static_call(&arg.value, ty) => {
                            env.bind(Arc::clone(&names[k]), arg.value, arg.span);
                        }
                        Some(arg) => {
                            let tensor = self.as_tensor(&arg.value, arg.span)?;
                            tensors.push((k, Some(tensor), arg.span));
                        }
                        None if param.default.is_some() => tensors.push((k, None, param.span)),
                        None => return self.missing(callee, &names[k], param.span, span),
                    }
                    continue;
                }
                Some(ast::TypeKind::Kind(kind)) => Some(*kind),
                None => None,
            };
            let (value, place, default) = match (given, &param.default) {
                (Some(arg), _) => (arg.value, arg.span, false),
                (None, Some(default)) => (self.default_value(env, default, kind)?, param.span, true),
                (None, None) => return self.missing(callee, &names[k], param.span, span),
            };
            let value = match kind {
                Some(kind) => self.of_kind(value, kind, &what, place, Some(param.span))?,
                None => value,
            };
            if default {
                provisional.push((k, value.clone(), place));
            }
            env.bind(Arc::clone(&names[k]), value, place);
        }
        self.bind_tensors(env, callee, params, names, tensors, &provisional, block)
    }

    /// A default. Only integers and lists may name dimensions that the call has yet to bind.
    fn default_value(&mut self, env: &mut Env, default: &ast::Expr, kind: Option<ast::Kind>) -> Eval<Value> {
        if matches!(kind, None | Some(ast::Kind::Int | ast::Kind::List)) {
            return self.eval(env, default);
        }
        let unknowns = env.unknowns.take();
        let value = self.eval(env, default);
        env.unknowns = unknowns;
        value
    }

    #[expect(clippy::too_many_arguments, reason = "one step of `bind_placed`")]
    fn bind_tensors(
        &mut self,
        env: &mut Env,
        callee: &str,
        params: &[ast::Param],
        names: &[Arc<str>],
        tensors: Vec<(usize, Option<TensorValue>, Span)>,
        provisional: &[(usize, Value, Span)],
        block: usize,
    ) -> Eval<()> {
        let mut matches = Vec::new();
        for (k, tensor, span) in &tensors {
            let Some(ast::TypeKind::Tensor(ty)) = params[*k].ty.as_ref().map(|t| &t.kind) else { continue };
            let Some(tensor) = tensor else { continue };
            let actual = (tensor.rank() > 0 || ty.axes.is_empty()).then(|| tensor.shape.to_vec());
            let what = format!("`{}` of `{callee}`", names[*k]);
            matches.push(Match { ty, actual, dtype: tensor.dtype, span: *span, what });
        }
        let matched = self.match_shapes(env, &matches, block)?;
        for (k, value, span) in provisional {
            let value = substituted(value, &matched.solved);
            self.refuse_open(&value, &matched.open, &names[*k], *span)?;
            env.bind(Arc::clone(&names[*k]), value, *span);
        }
        env.unknowns = None;
        let mut shapes = matched.shapes.iter();
        for (k, tensor, span) in tensors {
            let Some(ast::TypeKind::Tensor(ty)) = params[k].ty.as_ref().map(|t| &t.kind) else { continue };
            let what = format!("`{}` of `{callee}`", names[k]);
            let value = match (tensor, &params[k].default) {
                (Some(tensor), _) => {
                    let shape = shapes.next().ok_or(Reported)?;
                    let shape = shape.as_ref().map(|(s, _)| s.as_slice()).map_err(Vec::as_slice);
                    Value::Tensor(self.conform(env, &tensor, ty, shape, span, &what)?)
                }
                (None, Some(default)) => {
                    let value = self.eval(env, default)?;
                    let mut values = self.ascribe_all(env, vec![(ty, value, default.span, what)])?;
                    values.pop().ok_or(Reported)?
                }
                (None, None) => continue,
            };
            let tensor = self.as_tensor(&value, span)?;
            env.bind(Arc::clone(&names[k]), Value::Tensor(tensor), span);
        }
        Ok(())
    }

    /// Refuses a default that names dimensions which no argument binds.
    fn refuse_open(&mut self, value: &Value, open: &[Symbol], name: &str, span: Span) -> Eval<()> {
        let found = match value {
            Value::Int(dim) => dim.symbols().into_iter().find(|s| open.contains(s)),
            Value::List(items) => {
                for item in items.iter() {
                    self.refuse_open(item, open, name, span)?;
                }
                None
            }
            _ => None,
        };
        match found {
            Some(symbol) => {
                let title = format!("the default of `{name}` names `{symbol}`, which no argument binds");
                self.error("shape-unsolved", title, span)
            }
            None => Ok(()),
        }
    }

    /// Calls an entry of an instance.
    ///
    /// # Errors
    /// Instances without that entry, and everything that is wrong with the call.
    pub fn call_entry(
        &mut self,
        owner: &InstanceRef,
        entry: &str,
        args: Vec<Argument>,
        span: Span,
    ) -> Eval<Value> {
        let Some(decl) = owner.instance.entries.get(entry).cloned() else {
            let module = owner.instance.decl.name.as_plain().unwrap_or("?");
            let mut diagnostic =
                Diagnostic::error("not-callable", format!("{module} has no entry `{entry}`"))
                    .at(span, "called here")
                    .at(owner.instance.decl.name.span, "declared here");
            let known: Vec<&str> = owner.instance.entries.keys().map(|k| &**k).collect();
            if !known.is_empty() {
                let place = if known.len() == 1 { "its only entry is" } else { "its entries are" };
                diagnostic = diagnostic.help(format!("{place} {}", known.join(", ")));
            }
            return Err(self.report(diagnostic));
        };
        let name = format!("{}.{entry}", owner.instance.decl.name.as_plain().unwrap_or("?"));
        let higher = args.iter().any(|a| a.value.is_callable() || matches!(a.value, Value::List(_)));
        if !higher && self.nesting.iter().filter(|(_, d)| *d == decl.span).count() > 8 {
            self.refuse_recursion("entry", &name, decl.span, span)?;
        }
        self.enter(name.clone(), decl.span, span)?;
        let result = self.called_at(span, |s| s.outlined(owner, &name, &decl, args, span));
        self.leave();
        result
    }

    /// The body of an entry with its arguments bound, in the graph that is open.
    pub(super) fn entry_body(
        &mut self,
        owner: &InstanceRef,
        name: &str,
        decl: &ast::EntryDecl,
        args: Vec<Argument>,
        span: Span,
    ) -> Eval<Value> {
        let mut env = Env::of_instance(owner.clone());
        self.bind_params(&mut env, name, &decl.params, args, decl.name.span, span)?;
        let value = self.eval_block(&mut env, &decl.body)?;
        self.ascribe_result(&mut env, decl.ret.as_ref(), value, result_span(&decl.body))
    }
}

/// Where a block's value is written.
pub(super) fn result_span(block: &ast::Block) -> Span {
    block.tail.as_ref().map_or(block.span, |t| t.span)
}

/// A value with symbols replaced in its sizes.
fn substituted(value: &Value, solved: &IndexMap<Symbol, Dim>) -> Value {
    match value {
        Value::Int(d) => Value::Int(d.substitute(&|s| solved.get(s).cloned()).unwrap_or_else(|_| d.clone())),
        Value::List(items) => Value::list(items.iter().map(|v| substituted(v, solved)).collect()),
        other => other.clone(),
    }
}

/// All bindings of a block as arguments would see them, for keys.
pub(super) fn block_values(block: &Block) -> impl Iterator<Item = (&Arc<str>, &Value)> {
    block.iter().map(|(n, b)| (n, &b.value))
}
