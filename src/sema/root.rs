//! The compiled entry: which model, which inputs, what comes out.

use super::call::Argument;
use super::env::{Block, Env, Unknowns};
use super::errors::{Eval, Reported};
use super::names::{Item, item_span};
use super::outline::node_of;
use super::value::{Instance, InstanceRef, ModuleValue, TensorValue, Value};
use super::{Elaborator, Request};
use crate::diag::{Diagnostic, nearest};
use crate::dim::{Dim, Symbol};
use crate::graph::ir::{Port, Program, Signature, TensorType};
use crate::span::{FileId, Span};
use crate::syntax::{self, ast};
use crate::tensor::MAX_RANK;
use indexmap::IndexMap;
use std::sync::Arc;

/// A tensor parameter of the compiled entry that is given.
struct Input {
    param: usize,
    name: String,
    tensor: TensorValue,
    span: Span,
}

impl Elaborator<'_> {
    /// The program of a request.
    ///
    /// # Errors
    /// Everything that is wrong.
    pub(super) fn program(&mut self, request: &Request) -> Eval<Program> {
        let id = request.file.unwrap_or(FileId(0));
        let path = self.sources.file(id).name.clone();
        let name = path.rsplit(['/', '\\']).next().unwrap_or(&path).to_string();
        let file = self.load_text(&name, id, false)?;
        if !self.diagnostics.is_empty() {
            return Err(Reported);
        }
        let (model, module) = self.chosen_model(file, request, Span::new(id, 0, 0))?;
        let span = module.span;
        let instance = self.instantiate(&module, "", span)?;
        if self.fatal {
            return Err(Reported);
        }
        let entry_name = request.entry.as_deref().unwrap_or("forward");
        let entry = self.chosen_entry(&instance, entry_name)?;
        let functions = self.root_function(request, &instance, &entry, &format!("{model}.{entry_name}"))?;
        if self.diagnostics.is_empty() { Ok(functions) } else { Err(Reported) }
    }

    fn chosen_model(
        &mut self,
        file: usize,
        request: &Request,
        place: Span,
    ) -> Eval<(String, Arc<ModuleValue>)> {
        let items: Vec<(Arc<str>, Item)> =
            self.files[file].items.iter().map(|(n, i)| (Arc::clone(n), i.clone())).collect();
        let models: Vec<&str> =
            items.iter().filter(|(_, i)| matches!(i, Item::Model(_))).map(|(n, _)| &**n).collect();
        let modules: Vec<&str> =
            items.iter().filter(|(_, i)| matches!(i, Item::Module(_))).map(|(n, _)| &**n).collect();
        let name = match (&request.model, models.as_slice(), modules.as_slice()) {
            (Some(name), ..) => name.clone(),
            (None, [only], _) | (None, [], [only]) => (*only).to_string(),
            (None, [], []) => {
                let title = "the file declares no model and no module";
                return self.error_help(
                    "unknown-model",
                    title,
                    place,
                    "declare one: `model m = Linear(3, 4)`",
                );
            }
            (None, [], many) | (None, many, _) => {
                let what = if models.is_empty() { "modules" } else { "models" };
                let title = format!("the file declares several {what}; choose one with --model");
                let mut diagnostic = Diagnostic::error("unknown-model", title);
                for (name, item) in items.iter().filter(|(n, _)| many.contains(&&**n)).take(8) {
                    diagnostic = diagnostic.at(item_span(item), format!("--model {name}"));
                }
                return Err(self.report(diagnostic));
            }
        };
        let overrides = self.parsed_all(&request.set, "--set")?;
        let item = items.iter().find(|(n, _)| **n == *name).map(|(_, i)| i.clone());
        let module = match item {
            Some(Item::Model(decl)) => self.model_module(file, &decl, overrides)?,
            Some(Item::Module(decl)) => {
                let span = decl.name.span;
                let module = ModuleValue { file, decl, statics: None, span };
                let help = "give the statics of a module with --set NAME=VALUE";
                let statics =
                    self.advising("arguments", help, |s| s.bind_statics(&module, overrides, span))?;
                Arc::new(ModuleValue { statics: Some(statics), ..module })
            }
            _ => {
                let all: Vec<&str> = models.iter().chain(&modules).copied().collect();
                let mut diagnostic =
                    Diagnostic::error("unknown-model", format!("the file has no model `{name}`"));
                if let Some(near) = nearest(&name, all.iter().copied()) {
                    let item = items.iter().find(|(n, _)| **n == *near).map(|(_, i)| item_span(i));
                    diagnostic = diagnostic.at(item.unwrap_or(place), format!("did you mean `{near}`?"));
                } else {
                    diagnostic = diagnostic.at(place, "");
                }
                if !models.is_empty() {
                    diagnostic = diagnostic.help(format!("its models are {}", models.join(", ")));
                } else if !modules.is_empty() {
                    diagnostic = diagnostic.help(format!("its modules are {}", modules.join(", ")));
                }
                return Err(self.report(diagnostic));
            }
        };
        Ok((name, module))
    }

    /// The module of a model, with statics replaced before its defaults are evaluated.
    fn model_module(
        &mut self,
        file: usize,
        decl: &ast::ModelDecl,
        overrides: Vec<Argument>,
    ) -> Eval<Arc<ModuleValue>> {
        let mut env = Env::new(file);
        let value = match (&*decl.value.kind, overrides.is_empty()) {
            (ast::ExprKind::Call { callee, args }, false) => {
                let callee = self.eval(&mut env, callee)?;
                let params: Vec<Arc<str>> = match &callee {
                    Value::Module(m) => {
                        m.decl.statics.iter().filter_map(|p| p.name.as_plain()).map(Into::into).collect()
                    }
                    _ => Vec::new(),
                };
                let mut given = Vec::new();
                for (k, arg) in args.iter().enumerate() {
                    let name = match &arg.name {
                        Some(name) => Some(self.name_text(&mut env, name)?),
                        None => params.get(k).cloned(),
                    };
                    if overrides.iter().any(|o| o.name == name) {
                        continue;
                    }
                    let value = self.eval(&mut env, &arg.value)?;
                    let name_span = arg.name.as_ref().map(|n| n.span);
                    given.push(Argument { name, name_span, value, span: arg.value.span });
                }
                given.extend(overrides);
                self.call(&callee, given, decl.value.span)?
            }
            (_, false) => {
                let callee = self.eval(&mut env, &decl.value)?;
                self.call(&callee, overrides, decl.value.span)?
            }
            (_, true) => self.eval(&mut env, &decl.value)?,
        };
        match value {
            Value::Module(module) => Ok(module),
            other => {
                let title = format!("a model is a module, but this is {}", other.kind_text());
                self.error("type-mismatch", title, decl.value.span)
            }
        }
    }

    fn parsed_all(&mut self, texts: &[(String, String)], option: &str) -> Eval<Vec<Argument>> {
        let mut arguments = Vec::new();
        for (name, text) in texts {
            // What is parsed is a model of one name, as long as the option that a user sees.
            let id = self.sources.add(super::COMMAND_LINE, format!("{option} {name}={text}"));
            let mask = format!("model {}={text}", "_".repeat(name.len()));
            let tree = match syntax::parse(id, &mask) {
                Ok(tree) => tree,
                Err(errors) => {
                    for error in errors {
                        self.report(error);
                    }
                    return Err(Reported);
                }
            };
            let start = option.len() + 1;
            let [ast::Item { kind: ast::ItemKind::Model(decl), .. }] = tree.items.as_slice() else {
                let span = Span::new(id, start, mask.len());
                return self.error("syntax", "one expression is wanted here", span);
            };
            let value = self.eval(&mut Env::new(0), &decl.value)?;
            let name_span = Some(Span::new(id, start, start + name.len()));
            let span = decl.value.span;
            arguments.push(Argument { name: Some(name.as_str().into()), name_span, value, span });
        }
        Ok(arguments)
    }

    fn chosen_entry(&mut self, instance: &Arc<Instance>, name: &str) -> Eval<Arc<ast::EntryDecl>> {
        match instance.entries.get(name) {
            Some(entry) => Ok(Arc::clone(entry)),
            None => {
                let known: Vec<&str> = instance.entries.keys().map(|k| &**k).collect();
                let module = instance.decl.name.as_plain().unwrap_or("?");
                let title = format!("{module} has no entry `{name}`");
                let mut diagnostic = Diagnostic::error("unknown-entry", title);
                let near = nearest(name, known.iter().copied());
                diagnostic = match near.and_then(|n| Some((n, instance.entries.get(n)?.name.span))) {
                    Some((near, place)) => diagnostic.at(place, format!("did you mean `{near}`?")),
                    None => diagnostic.at(instance.decl.name.span, ""),
                };
                if !known.is_empty() {
                    diagnostic = diagnostic.help(format!("its entries are {}", known.join(", ")));
                }
                Err(self.report(diagnostic))
            }
        }
    }

    fn root_function(
        &mut self,
        request: &Request,
        instance: &Arc<Instance>,
        entry: &Arc<ast::EntryDecl>,
        signature_name: &str,
    ) -> Eval<Program> {
        let owner = InstanceRef::new(Arc::clone(instance));
        let statics = self.parsed_all(&request.arguments, "--arg")?;
        self.push_frame(Some(0));
        let mut env = Env::of_instance(owner.clone());
        let mut omitted = Vec::new();
        for arg in &statics {
            if let Some(name) = &arg.name {
                env.bind(Arc::clone(name), arg.value.clone(), arg.span);
            }
        }
        self.check_names(request, entry)?;
        let (inputs, dims) = self.inputs(&mut env, request, entry, &mut omitted)?;
        self.root_weights();
        let mut args = statics;
        for input in &inputs {
            let name = entry.params[input.param].name.as_plain().unwrap_or_default();
            let value = Value::Tensor(input.tensor.clone());
            args.push(Argument { name: Some(name.into()), name_span: None, value, span: input.span });
        }
        let name = format!(
            "{}.{}",
            instance.decl.name.as_plain().unwrap_or("?"),
            entry.name.as_plain().unwrap_or("?")
        );
        let span = entry.name.span;
        self.enter(name.clone(), entry.span, span)?;
        let value = self.entry_body(&owner, &name, entry, args, span);
        self.leave();
        let outputs = self.outputs(&value?, entry)?;
        let mut frame = self.pop_frame();
        let mut ports = Vec::new();
        for (name, tensor, span) in outputs {
            let node = node_of(&tensor).ok_or(Reported)?;
            let ty = frame.graph.ty(node.value).clone();
            frame.graph.results.push(node.value);
            ports.push(Port { name, ty, span });
        }
        let entry_id = self.add_function(&name, frame.graph);
        let weights = (0..self.weights.len() as u32)
            .filter(|w| self.representative(*w) == *w)
            .map(|w| self.weights[w as usize].clone())
            .collect();
        let signature = Signature {
            name: signature_name.into(),
            inputs: inputs.into_iter().map(input_port).collect(),
            weights,
            outputs: ports,
            dims,
            omitted,
        };
        Ok(Program {
            functions: std::mem::take(&mut self.functions),
            entry: entry_id,
            bind: None,
            signature,
            checks: std::mem::take(&mut self.checks),
            vars: self.var_count,
        })
    }

    /// Refuses names in the request that the entry does not have.
    fn check_names(&mut self, request: &Request, entry: &ast::EntryDecl) -> Eval<()> {
        let params: Vec<&str> = entry.params.iter().filter_map(|p| p.name.as_plain()).collect();
        let named = request.with.iter().chain(request.shapes.iter().map(|(n, _)| n));
        for name in named.chain(request.arguments.iter().map(|(n, _)| n)) {
            if !params.contains(&name.as_str()) {
                let title = format!("the entry has no parameter `{name}`");
                let mut diagnostic =
                    Diagnostic::error("unknown-input", title).at(entry.name.span, "this is compiled");
                if let Some(near) = nearest(name, params.iter().copied()) {
                    diagnostic = diagnostic.help(format!("did you mean `{near}`?"));
                }
                let known = if params.is_empty() { "it has none".into() } else { params.join(", ") };
                return Err(self.report(diagnostic.help(format!("its parameters: {known}"))));
            }
        }
        Ok(())
    }

    /// Arguments for the inputs that are given, and the free dimensions.
    fn inputs(
        &mut self,
        env: &mut Env,
        request: &Request,
        entry: &ast::EntryDecl,
        omitted: &mut Vec<String>,
    ) -> Eval<(Vec<Input>, Vec<Symbol>)> {
        self.root_statics(env, entry)?;
        env.unknowns = Some(Unknowns::new());
        let mut shapes = Vec::new();
        for (k, param) in entry.params.iter().enumerate() {
            let name = param.name.as_plain().unwrap_or_default();
            let ty = match param.ty.as_ref().map(|t| &t.kind) {
                Some(ast::TypeKind::Tensor(ty)) => ty,
                Some(ast::TypeKind::Kind(_)) => continue,
                None => {
                    return self.error_help(
                        "unknown-shape",
                        format!("`{name}` has no declared type, so this entry cannot be compiled by itself"),
                        param.span,
                        "give it a tensor type, or compile a module that calls this one",
                    );
                }
            };
            let written = request.shapes.iter().find(|(n, _)| n == name).map(|(_, s)| s);
            let at_hand = request.given.iter().find(|(n, _)| n == name).map(|(_, s)| s.as_slice());
            let is_given = request.with.iter().any(|w| w == name) || written.is_some() || at_hand.is_some();
            if param.default.is_some() && !is_given {
                omitted.push(name.to_string());
                continue;
            }
            let shape = match written {
                Some(texts) => self.given_shape(env, texts, param.span)?,
                None => self.root_shape(env, ty, name, at_hand)?,
            };
            if shape.len() > MAX_RANK {
                return self.error("rank", format!("a tensor may have {MAX_RANK} axes"), param.span);
            }
            shapes.push((k, name.to_string(), ty, shape, param.span));
        }
        let unknowns = env.unknowns.take().unwrap_or_default();
        let fixed = self.fixed_dims(request, &unknowns, &env.statics, entry.name.span)?;
        let mut inputs = Vec::new();
        for (param, name, ty, shape, span) in shapes {
            let mut dims = Vec::new();
            for dim in shape {
                let dim = dim.substitute(&|s| fixed.get(s).cloned());
                let dim = self.sized(dim, span)?;
                dims.push(self.size_of(&Value::Int(dim), span)?);
            }
            if matches!(ty.dtype, crate::dtype::DType::F16 | crate::dtype::DType::BF16) {
                return self.unsupported_dtype(ty.dtype, span);
            }
            self.refuse_huge(ty.dtype, &dims, span)?;
            let tensor = self.add_arg(ty.dtype, dims, span, Some(&name));
            inputs.push(Input { param, name, tensor, span });
        }
        let free = unknowns.values().map(|(s, _)| s.clone()).filter(|s| !fixed.contains_key(s)).collect();
        Ok((inputs, free))
    }

    /// Static parameters of the compiled entry, so that shapes may name them.
    fn root_statics(&mut self, env: &mut Env, entry: &ast::EntryDecl) -> Eval<()> {
        for param in &entry.params {
            let Some(ast::TypeKind::Kind(kind)) = param.ty.as_ref().map(|t| &t.kind) else { continue };
            let name = param.name.as_plain().unwrap_or_default();
            if env.local(name).is_some() {
                continue;
            }
            let Some(default) = &param.default else {
                let title = format!("the static parameter `{name}` of the compiled entry has no default");
                return self.error_help(
                    "arguments",
                    title,
                    param.span,
                    format!("give it with --arg {name}=…"),
                );
            };
            if matches!(kind, ast::Kind::Int | ast::Kind::List | ast::Kind::Bool) {
                let value = self.eval(env, default)?;
                env.bind(name, value, param.span);
            }
        }
        Ok(())
    }

    /// The declared shape of an input; the tensor at hand, if there is one, decides the axes that `..`
    /// leaves open.
    fn root_shape(
        &mut self,
        env: &mut Env,
        ty: &ast::TensorType,
        name: &str,
        at_hand: Option<&[usize]>,
    ) -> Eval<Vec<Dim>> {
        let open = ty.axes.iter().position(|axis| is_open(env, axis));
        let (Some(open), Some(sizes)) = (open, at_hand) else {
            return self.root_axes(env, &ty.axes, name, &ty.axes);
        };
        let mut shape = self.root_axes(env, &ty.axes[..open], name, &ty.axes)?;
        let after = self.root_axes(env, &ty.axes[open + 1..], name, &ty.axes)?;
        let span = ty.axes[open].span;
        let end = sizes.len().checked_sub(after.len()).filter(|end| *end >= shape.len());
        let Some(end) = end else {
            let (least, found) = (shape.len() + after.len(), sizes.len());
            let title = format!("`{name}` has at least {least} axes, the tensor given has {found}");
            return self.error("rank", title, span);
        };
        for size in &sizes[shape.len()..end] {
            let size = i64::try_from(*size)
                .map_err(|_| Reported)
                .or_else(|Reported| self.error("size", format!("an axis of `{name}` is too long"), span))?;
            shape.push(self.size_of(&Value::int(size), span)?);
        }
        shape.extend(after);
        Ok(shape)
    }

    /// The sizes of some of the axes of a declaration, `all` of which are shown where one is open.
    fn root_axes(
        &mut self,
        env: &mut Env,
        axes: &[ast::Axis],
        name: &str,
        all: &[ast::Axis],
    ) -> Eval<Vec<Dim>> {
        let mut shape = Vec::new();
        for axis in axes {
            self.root_axis(env, axis, name, all, &mut shape)?;
        }
        Ok(shape)
    }

    /// A shape that fits a declaration: two axes for each `..`, and the others as they are.
    fn example_shape(&mut self, env: &mut Env, axes: &[ast::Axis]) -> String {
        let mut parts = Vec::new();
        for axis in axes {
            match &axis.kind {
                ast::AxisKind::Multi(_) => parts.push("B,T".to_string()),
                ast::AxisKind::Dim(expr) => {
                    let size = self.tentatively(|s| s.eval(env, expr));
                    parts.push(match size {
                        Ok(Value::Int(dim)) => dim.to_string(),
                        _ => self.sources.text(axis.span).to_string(),
                    });
                }
                ast::AxisKind::Group(_) => parts.push("N".to_string()),
            }
        }
        parts.join(",")
    }

    fn root_axis(
        &mut self,
        env: &mut Env,
        axis: &ast::Axis,
        name: &str,
        all: &[ast::Axis],
        shape: &mut Vec<Dim>,
    ) -> Eval<()> {
        match &axis.kind {
            ast::AxisKind::Dim(expr) => {
                let value = self.eval(env, expr)?;
                shape.push(self.size_of(&value, expr.span)?);
            }
            ast::AxisKind::Group(parts) => {
                let mut inner = Vec::new();
                for part in parts {
                    self.root_axis(env, part, name, all, &mut inner)?;
                }
                let product = Dim::product(&inner);
                shape.push(self.sized(product, axis.span)?);
            }
            ast::AxisKind::Multi(multi) => {
                if let Some(items) = spelled(env, multi.as_ref()) {
                    for item in items.iter() {
                        shape.push(self.size_of(item, axis.span)?);
                    }
                    return Ok(());
                }
                let title = format!("the number of axes of `{name}` is not declared");
                let mut diagnostic = Diagnostic::error("unknown-rank", title).at(axis.span, "");
                if let Some(owner) = &env.owner
                    && owner.instance.span.file != axis.span.file
                {
                    diagnostic = diagnostic.at(owner.instance.span, "this is compiled");
                }
                let example = self.example_shape(env, all);
                diagnostic = diagnostic.help(format!("give its shape, such as --shape {name}={example}"));
                return Err(self.report(diagnostic));
            }
        }
        Ok(())
    }

    fn given_shape(&mut self, env: &mut Env, texts: &[String], span: Span) -> Eval<Vec<Dim>> {
        let mut shape = Vec::new();
        for text in texts {
            let text = text.trim();
            if let Ok(value) = text.parse::<i64>() {
                shape.push(self.size_of(&Value::int(value), span)?);
                continue;
            }
            let is_name = text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
                && text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
            if !is_name {
                return self.error(
                    "usage",
                    format!("`{text}` in a shape is neither a number nor a name"),
                    span,
                );
            }
            let value = match env.local_or_static(text).map(|b| b.value.clone()) {
                Some(value @ Value::Int(_)) => value,
                _ => self.open_size(env, text, span),
            };
            shape.push(self.size_of(&value, span)?);
        }
        Ok(shape)
    }

    fn fixed_dims(
        &mut self,
        request: &Request,
        unknowns: &Unknowns,
        statics: &Block,
        span: Span,
    ) -> Eval<IndexMap<Symbol, Dim>> {
        let mut fixed = IndexMap::new();
        for (name, value) in &request.dims {
            let Some((symbol, _)) = unknowns.get(name.as_str()) else {
                let known: Vec<&str> = unknowns.keys().map(|k| &**k).collect();
                let title = format!("no input has a free dimension `{name}`");
                let diagnostic = Diagnostic::error("unknown-dimension", title).at(span, "this is compiled");
                let diagnostic = match statics.get(name) {
                    Some(binding) => diagnostic
                        .at(binding.span, "this is a static of the module")
                        .help(format!("statics are set by --set {name}={value}")),
                    None if known.is_empty() => diagnostic.help("all its dimensions are numbers"),
                    None => diagnostic.help(format!("its free dimensions are {}", known.join(", "))),
                };
                return Err(self.report(diagnostic));
            };
            if *value < 0 {
                return self.error("size", format!("the dimension {name} cannot be {value}"), span);
            }
            fixed.insert(symbol.clone(), Dim::from(*value));
        }
        Ok(fixed)
    }

    /// Makes all weights arguments of the entry, in order of declaration; tied ones once.
    fn root_weights(&mut self) {
        for number in 0..self.weights.len() as u32 {
            let first = self.representative(number);
            let value = if first == number {
                let weight = self.weights[number as usize].clone();
                let name: Arc<str> = weight.path.as_str().into();
                self.frame().graph.add_arg(weight.ty, weight.span, Some(name))
            } else {
                let path = self.weights[number as usize].path.clone();
                self.weights[first as usize].aliases.push(path);
                self.frame().weights[&first]
            };
            self.frame().weights.insert(number, value);
        }
    }

    /// The outputs by name, lists flattened.
    fn outputs(&mut self, value: &Value, entry: &ast::EntryDecl) -> Eval<Vec<(String, TensorValue, Span)>> {
        let span = super::call::result_span(&entry.body);
        let outs = entry.ret.as_ref().map_or(&[][..], |r| &r.outs);
        let name_of = |k: usize, only: bool, names: &[Option<Arc<str>>]| -> String {
            let declared = outs.get(k).and_then(|o| o.name.as_ref()).and_then(ast::Name::as_plain);
            let written = names.get(k).and_then(|n| n.as_deref());
            match declared.or(written) {
                Some(name) => name.to_string(),
                None if only => "y".into(),
                None => format!("y_{k}"),
            }
        };
        let mut found = Vec::new();
        match value {
            Value::Tuple(tuple) if outs.len() != 1 => {
                for (k, part) in tuple.values.iter().enumerate() {
                    let name = name_of(k, tuple.values.len() == 1, &tuple.names);
                    self.flatten_output(part, name, span, &mut found)?;
                }
            }
            other => self.flatten_output(other, name_of(0, true, &[]), span, &mut found)?,
        }
        for (k, (name, ..)) in found.iter().enumerate() {
            if found[..k].iter().any(|(n, ..)| n == name) {
                let title = format!("two outputs are called `{name}`");
                return self.error("duplicate-name", title, entry.name.span);
            }
        }
        Ok(found)
    }

    fn flatten_output(
        &mut self,
        value: &Value,
        name: String,
        span: Span,
        found: &mut Vec<(String, TensorValue, Span)>,
    ) -> Eval<()> {
        let parts = match value {
            Value::List(items) => items.to_vec(),
            Value::Tuple(tuple) => tuple.values.clone(),
            other => {
                let tensor = self.as_tensor(other, span)?;
                let stored = self.stored(&tensor, span)?;
                let mut stored = self.materialise(&stored, span)?;
                if let Some(node) = node_of(&stored) {
                    let value = self.import(node);
                    let frame = self.frame().id;
                    stored.repr = super::value::Repr::Node(super::value::NodeRef { frame, value });
                }
                found.push((name, stored, span));
                return Ok(());
            }
        };
        for (k, part) in parts.iter().enumerate() {
            self.flatten_output(part, format!("{name}_{k}"), span, found)?;
        }
        Ok(())
    }
}

/// The sizes that a static list spells for `..name`.
fn spelled(env: &Env, multi: Option<&ast::Name>) -> Option<Arc<Vec<Value>>> {
    match env.local_or_static(multi?.as_plain()?).map(|b| b.value.clone()) {
        Some(Value::List(items)) => Some(items),
        _ => None,
    }
}

/// Whether an axis stands for any number of axes.
fn is_open(env: &Env, axis: &ast::Axis) -> bool {
    matches!(&axis.kind, ast::AxisKind::Multi(multi) if spelled(env, multi.as_ref()).is_none())
}

fn input_port(input: Input) -> Port {
    let ty = TensorType::new(input.tensor.dtype, input.tensor.shape.to_vec());
    Port { name: input.name, ty, span: input.span }
}
