//! Modules become instances: members are elaborated in order, weights get their paths.

use super::Elaborator;
use super::call::Argument;
use super::env::Env;
use super::errors::{Eval, Reported};
use super::limits::{MAX_LIST, MAX_MEMBERS};
use super::ops::known_real;
use super::value::{Instance, InstanceRef, Member, ModuleValue, Value};
use crate::diag::{Diagnostic, Fault, counted};
use crate::dim::Dim;
use crate::dtype::DType;
use crate::graph::ir::{Init, TensorType, Weight};
use crate::span::Span;
use crate::syntax::ast::{self, MemberKind};
use indexmap::IndexMap;
use std::sync::Arc;

/// An instance whose members are being elaborated.
struct Build {
    env: Env,
    path: String,
    members: IndexMap<Arc<str>, Member>,
    places: IndexMap<Arc<str>, Span>,
    absent: IndexMap<Arc<str>, Span>,
    entries: IndexMap<Arc<str>, Arc<ast::EntryDecl>>,
    ties: Vec<(ast::Place, ast::Place, Span)>,
}

impl Elaborator<'_> {
    /// Binds a module to a path: makes its weights and sub-modules.
    ///
    /// # Errors
    /// Statics without a value, and everything that is wrong with the members.
    pub fn instantiate(&mut self, module: &Arc<ModuleValue>, path: &str, span: Span) -> Eval<Arc<Instance>> {
        let name = module.decl.name.as_plain().unwrap_or("?").to_string();
        let module = match &module.statics {
            Some(_) => Arc::clone(module),
            None => {
                let statics = self.bind_statics(module, Vec::<Argument>::new(), span)?;
                Arc::new(ModuleValue { statics: Some(statics), ..(**module).clone() })
            }
        };
        let key = self.module_key(&module);
        self.charge(key.as_ref().map_or(0, Vec::len), span)?;
        if let Some(key) = &key
            && self.open_modules.contains(key)
        {
            self.refuse_recursion("module", &name, module.decl.span, span)?;
        }
        self.enter(name, module.decl.span, span)?;
        self.open_modules.extend(key.clone());
        let instance = self.called_at(span, |s| s.build(&module, path, key.clone(), span));
        if key.is_some() {
            self.open_modules.pop();
        }
        self.leave();
        instance
    }

    fn build(
        &mut self,
        module: &Arc<ModuleValue>,
        path: &str,
        key: Option<Vec<super::outline::KeyPart>>,
        span: Span,
    ) -> Eval<Arc<Instance>> {
        let mut env = Env::new(module.file);
        env.module = Some(Arc::clone(&module.decl));
        for (name, value) in module.statics.iter().flatten() {
            let place = module.decl.statics.iter().find(|p| p.name.as_plain() == Some(&**name));
            env.bind(Arc::clone(name), value.clone(), place.map_or(module.span, |p| p.span));
        }
        let first = self.weights.len() as u32;
        let mut build = Build {
            env,
            path: path.into(),
            members: IndexMap::new(),
            places: IndexMap::new(),
            absent: IndexMap::new(),
            entries: IndexMap::new(),
            ties: Vec::new(),
        };
        self.build_members(&mut build, &module.decl.members);
        let Build { mut env, members, absent, entries, ties, .. } = build;
        let instance = Arc::new(Instance {
            file: module.file,
            decl: Arc::clone(&module.decl),
            path: path.into(),
            statics: env.blocks.swap_remove(0),
            members,
            absent,
            entries,
            weights: (first, self.weights.len() as u32),
            key,
            span,
        });
        for (left, right, span) in ties {
            let _ = self.tie(&instance, &left, &right, span);
        }
        Ok(instance)
    }

    fn build_members(&mut self, build: &mut Build, members: &[ast::Member]) {
        for member in members {
            if self.charge(1, member.span).is_err() {
                return;
            }
            self.member_count += 1;
            if self.member_count > MAX_MEMBERS {
                let _ = self.too_many_members::<()>(member.span);
                return;
            }
            if self.build_member(build, member).is_err() {
                poison_member(build, member);
            }
        }
    }

    fn too_many_members<T>(&mut self, span: Span) -> Eval<T> {
        let title = format!("the model has more than {MAX_MEMBERS} members");
        let mut diagnostic = Diagnostic::error("limit", title).at(span, "").fault(Fault::Limit);
        // The module that is made so often, from the inside out.
        let mut places: Vec<Span> = self.call_places.iter().rev().copied().collect();
        places.dedup();
        for place in places.into_iter().filter(|p| *p != span).take(3) {
            diagnostic = diagnostic.at(place, "made here");
        }
        Err(self.report(diagnostic))
    }

    fn build_member(&mut self, build: &mut Build, member: &ast::Member) -> Eval<()> {
        match &member.kind {
            MemberKind::Param(decl) => self.build_weight(build, decl, false, member.span),
            MemberKind::Buffer(decl) => self.build_weight(build, decl, true, member.span),
            MemberKind::Tie { left, right, when } => {
                if self.holds(build, when.as_ref())? {
                    build.ties.push((left.clone(), right.clone(), member.span));
                }
                Ok(())
            }
            MemberKind::Require(require) => self.require(&mut build.env, require),
            MemberKind::Entry(entry) => {
                let name: Arc<str> = entry.name.as_plain().unwrap_or_default().into();
                self.claim(build, &name, entry.name.span)?;
                build.entries.insert(name, Arc::clone(entry));
                Ok(())
            }
            MemberKind::Let(def) => self.exec_let(&mut build.env, def),
            MemberKind::Define(def) => self.error_help(
                "not-static",
                "a member `let` is static; a tensor is computed in an entry or function",
                def.name.span,
                "move the definition into the entry that reads it",
            ),
            MemberKind::For { pat, range, members } => {
                let turns = self.turns(&mut build.env, range)?;
                self.open_loops.push(range.span);
                let mut result = Ok(());
                for turn in turns {
                    build.env.push();
                    result = self.bind_pattern(&mut build.env, pat, turn);
                    if result.is_ok() {
                        self.build_members(build, members);
                    }
                    build.env.pop();
                    if result.is_err() || self.fatal {
                        break;
                    }
                }
                self.open_loops.pop();
                if self.fatal { Err(Reported) } else { result }
            }
            MemberKind::If { cond, then, otherwise } => {
                let chosen = self.static_condition(&mut build.env, cond)?;
                let members = if chosen { Some(then) } else { otherwise.as_ref() };
                if let Some(members) = members {
                    self.build_members(build, members);
                }
                Ok(())
            }
            MemberKind::Sub { flat, name, value, when } => {
                self.build_sub(build, *flat, name, value, when.as_ref())
            }
        }
    }

    fn holds(&mut self, build: &mut Build, when: Option<&ast::Expr>) -> Eval<bool> {
        match when {
            None => Ok(true),
            Some(cond) => {
                let value = self.eval(&mut build.env, cond)?;
                self.bool_of(&value, "the condition after `when`", cond.span)
            }
        }
    }

    fn claim(&mut self, build: &mut Build, name: &Arc<str>, span: Span) -> Eval<()> {
        if let Some(old) = build.places.get(name) {
            let diagnostic =
                Diagnostic::error("duplicate-member", format!("two members are called `{name}`"))
                    .at(span, "again here")
                    .at(*old, "first here");
            return Err(self.report(diagnostic));
        }
        build.places.insert(Arc::clone(name), span);
        Ok(())
    }

    fn build_weight(
        &mut self,
        build: &mut Build,
        decl: &ast::WeightDecl,
        buffer: bool,
        span: Span,
    ) -> Eval<()> {
        let holds = self.holds(build, decl.when.as_ref())?;
        let name = self.name_text(&mut build.env, &decl.name)?;
        if !holds {
            build.absent.insert(name, span);
            return Ok(());
        }
        self.claim(build, &name, decl.name.span)?;
        let help = "the sizes of weights are static: make it a parameter of the module";
        let shape = self.advising("unknown-name", help, |s| s.static_shape(&mut build.env, &decl.ty))?;
        let init = match &decl.init {
            None => Init::Fill(0.0),
            Some(expr) => {
                let value = self.eval(&mut build.env, expr)?;
                match (&value, known_real(&value)) {
                    (Value::Init(init), _) => init.clone(),
                    (_, Some(v)) => Init::Fill(v),
                    (other, None) => {
                        let title = format!("an initialiser is wanted, but this is {}", other.kind_text());
                        return self.error_help("type-mismatch", title, expr.span, "such as `zeros()`, `fill(v)`, `normal(s)`, `uniform(b)`, `kaiming_uniform()`, `xavier_uniform()`");
                    }
                }
            }
        };
        let path = joined(&build.path, &name);
        let number = self.add_weight(path, decl.ty.dtype, shape, buffer, init, span)?;
        build.members.insert(name, Member::Weight(number));
        Ok(())
    }

    fn add_weight(
        &mut self,
        path: String,
        dtype: DType,
        shape: Vec<Dim>,
        buffer: bool,
        init: Init,
        span: Span,
    ) -> Eval<u32> {
        if let Some(old) = self.weight_paths.get(&path) {
            let old = self.weights[*old as usize].span;
            let diagnostic =
                Diagnostic::error("duplicate-weight", format!("two weights are called `{path}`"))
                    .at(span, "again here")
                    .at(old, "first here")
                    .help("a `flat` member's weights stand beside the owner's");
            return Err(self.report(diagnostic));
        }
        let elems = Dim::product(&shape);
        let bytes = elems.and_then(|n| n.mul(&Dim::from(dtype.size_bytes() as i64)));
        if bytes.is_err() {
            let text = super::value::type_text(dtype, &shape);
            let title = format!("the weight `{path}` is {text}, more bytes than 64 bits count");
            return Err(self.report(Diagnostic::error("limit", title).at(span, "").fault(Fault::Limit)));
        }
        let number = self.weights.len() as u32;
        self.weight_paths.insert(path.clone(), number);
        let ty = TensorType::new(dtype, shape);
        self.weights.push(Weight { path, aliases: Vec::new(), ty, buffer, init, span });
        self.tied.push(number);
        Ok(number)
    }

    /// The shape of a weight: all its names are statics.
    fn static_shape(&mut self, env: &mut Env, ty: &ast::TensorType) -> Eval<Vec<Dim>> {
        if matches!(ty.dtype, DType::F16 | DType::BF16) {
            return self.unsupported_dtype(ty.dtype, ty.span);
        }
        let mut shape = Vec::new();
        for axis in &ty.axes {
            match &axis.kind {
                ast::AxisKind::Dim(expr) => {
                    let value = self.eval(env, expr)?;
                    shape.push(self.size_of(&value, expr.span)?);
                }
                ast::AxisKind::Group(parts) => {
                    let mut product = Dim::ONE;
                    for part in parts {
                        if let ast::AxisKind::Dim(expr) = &part.kind {
                            let value = self.eval(env, expr)?;
                            let size = self.size_of(&value, expr.span)?;
                            product = self.sized(product.mul(&size), axis.span)?;
                        }
                    }
                    shape.push(product);
                }
                ast::AxisKind::Multi(name) => {
                    let list = match name {
                        Some(name) => self.name_value_of(env, name)?,
                        None => Value::Poison,
                    };
                    let Value::List(items) = list else {
                        return self.error_help(
                            "not-static",
                            "the shape of a weight is known: `..S` needs a static list S",
                            axis.span,
                            "declare `S: list` as a parameter of the module",
                        );
                    };
                    for item in items.iter() {
                        shape.push(self.size_of(item, axis.span)?);
                    }
                }
            }
        }
        if shape.len() > crate::tensor::MAX_RANK {
            let title =
                format!("a tensor may have {} axes; this one has {}", crate::tensor::MAX_RANK, shape.len());
            return self.error("rank", title, ty.span);
        }
        Ok(shape)
    }

    fn build_sub(
        &mut self,
        build: &mut Build,
        flat: bool,
        name: &ast::Name,
        value: &ast::Expr,
        when: Option<&ast::Expr>,
    ) -> Eval<()> {
        let holds = self.holds(build, when)?;
        let text = self.name_text(&mut build.env, name)?;
        if !holds {
            build.absent.insert(text, name.span);
            return Ok(());
        }
        self.claim(build, &text, name.span)?;
        let description = self.eval(&mut build.env, value)?;
        let path = if flat { build.path.clone() } else { joined(&build.path, &text) };
        let bound = self.bind_member(&description, &path, value.span)?;
        build.members.insert(text, Member::Sub(bound));
        Ok(())
    }

    /// Makes the instances of a member's value: a module, a function, or lists of these.
    fn bind_member(&mut self, value: &Value, path: &str, span: Span) -> Eval<Value> {
        match value {
            Value::Module(module) => {
                // Of a list, the element that describes it is the place to show.
                let place = if module.statics.is_some() { module.span } else { span };
                Ok(Value::Instance(InstanceRef::new(self.instantiate(module, path, place)?)))
            }
            Value::List(items) => {
                if items.len() > MAX_LIST {
                    return self.limit(format!("a list of {} members", items.len()), span);
                }
                self.member_count += items.len();
                if self.member_count > MAX_MEMBERS {
                    return self.too_many_members(span);
                }
                let mut bound = Vec::with_capacity(items.len());
                for (k, item) in items.iter().enumerate() {
                    bound.push(self.bind_member(item, &joined(path, &k.to_string()), span)?);
                }
                Ok(Value::list(bound))
            }
            Value::Fn(_) => Ok(value.clone()),
            Value::Poison => Err(Reported),
            other => {
                let title = format!(
                    "a member is a module or a list of modules and functions, but this is {}",
                    other.kind_text()
                );
                self.error_help("type-mismatch", title, span, "static values are named by `let`")
            }
        }
    }

    fn tie(
        &mut self,
        instance: &Arc<Instance>,
        left: &ast::Place,
        right: &ast::Place,
        span: Span,
    ) -> Eval<()> {
        let owner = InstanceRef::new(Arc::clone(instance));
        let (a, b) = (self.place(&owner, left)?, self.place(&owner, right)?);
        let (a, b) = (self.representative(a), self.representative(b));
        let (wa, wb) = (&self.weights[a as usize], &self.weights[b as usize]);
        if wa.ty != wb.ty {
            let text = |w: &Weight| super::value::type_text(w.ty.dtype, &w.ty.shape);
            let title = format!("tied weights have one shape, but these are {} and {}", text(wa), text(wb));
            let what = |w: &Weight| format!("`{}` is {}", w.path, text(w));
            let diagnostic = Diagnostic::error("shape-mismatch", title)
                .at(span, "")
                .at(wa.span, what(wa))
                .at(wb.span, what(wb));
            return Err(self.report(diagnostic));
        }
        let (low, high) = (a.min(b), a.max(b));
        self.tied[high as usize] = low;
        Ok(())
    }

    /// The first of the weights tied to a weight.
    pub fn representative(&self, weight: u32) -> u32 {
        let mut at = weight;
        while self.tied[at as usize] != at {
            at = self.tied[at as usize];
        }
        at
    }

    fn place(&mut self, owner: &InstanceRef, place: &ast::Place) -> Eval<u32> {
        let mut env = Env::of_instance(owner.clone());
        let mut at = Member::Sub(Value::Instance(owner.clone()));
        let first = ast::PlaceStep::Field(place.name.clone());
        for step in std::iter::once(&first).chain(&place.steps) {
            at = match (step, &at) {
                (_, Member::Sub(Value::Poison)) => return Err(Reported),
                (ast::PlaceStep::Field(name), Member::Sub(Value::Instance(i))) => {
                    let text = self.name_text(&mut env, name)?;
                    match i.instance.members.get(&text) {
                        Some(member) => member.clone(),
                        None => {
                            let owner = i.clone();
                            return self.no_member(&owner, &text, name.span).and(Err(Reported));
                        }
                    }
                }
                (ast::PlaceStep::Index(k, span), Member::Sub(Value::List(items))) => {
                    match usize::try_from(*k).ok().and_then(|k| items.get(k)) {
                        Some(item) => Member::Sub(item.clone()),
                        None => {
                            let count = counted(items.len(), "element", "elements");
                            let title = format!("position {k} lies outside a list of {count}");
                            return self.error("out-of-range", title, *span);
                        }
                    }
                }
                _ => return self.error("unknown-member", "there is no weight at this path", place.span),
            };
        }
        match at {
            Member::Weight(number) => Ok(number),
            Member::Sub(Value::Poison) => Err(Reported),
            Member::Sub(value) => {
                let written = self.sources.text(place.span);
                let title = format!("`{written}` is {}, and no weight", value.kind_text());
                let help = "weights are tied one by one: `tie a.weight = b.weight`";
                self.error_help("unknown-member", title, place.span, help)
            }
        }
    }

    /// A weight of a picked instance: the elements' weights stacked and read at the pick.
    ///
    /// # Errors
    /// As [`Elaborator::emit`].
    pub fn picked_weight(
        &mut self,
        pick: &super::value::Pick,
        offset: u32,
        span: Span,
    ) -> Eval<super::value::TensorValue> {
        let weights: Vec<_> = pick.starts.iter().map(|start| self.weight_value(start + offset)).collect();
        let stacked = self.stack_tensors(&weights, 0, span)?;
        let axes = self.axes_of(&stacked.shape[1..]);
        let mut position = vec![pick.index.clone()];
        position.extend(axes.iter().map(super::scalar::Scalar::index));
        let body = self.element(&stacked, &position, pick.span);
        self.emit(super::build::Emission { axes: &axes, shape: None, reduce: None, body, span, name: None })
    }
}

fn poison_member(build: &mut Build, member: &ast::Member) {
    let mut spoil = |name: &ast::Name| {
        if let Some(text) = name.as_plain() {
            build.members.entry(text.into()).or_insert(Member::Sub(Value::Poison));
        }
    };
    match &member.kind {
        MemberKind::Param(d) | MemberKind::Buffer(d) => spoil(&d.name),
        MemberKind::Sub { name, .. } => spoil(name),
        MemberKind::Let(def) => match &def.pat.kind {
            ast::PatKind::Name(name) => {
                if let Some(text) = name.as_plain() {
                    build.env.bind(text, Value::Poison, name.span);
                }
            }
            ast::PatKind::Tuple(names) => {
                for text in names.iter().filter_map(ast::Name::as_plain) {
                    build.env.bind(text, Value::Poison, def.pat.span);
                }
            }
        },
        _ => {}
    }
}

fn joined(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_string() } else { format!("{path}.{name}") }
}
