//! Files, imports and what names mean.
//!
//! A bare name is, in order: local, static, member of `self`, declaration or import of its file,
//! name of the prelude, builtin.

use super::Elaborator;
use super::builtins::Builtin;
use super::env::Env;
use super::errors::{Eval, Reported};
use super::scalar::Scalar;
use super::value::{FnValue, InstanceRef, Member, ModuleValue, PatternValue, Value};
use super::{library, value::Repr};
use crate::diag::{Diagnostic, Fault, nearest};
use crate::span::{FileId, Span};
use crate::syntax::{self, ast};
use indexmap::IndexMap;
use std::sync::Arc;

/// The top level of a file.
#[derive(Debug)]
pub struct FileScope {
    /// Its path as imports name it: `std/nn.mdl`, or relative to the root file's folder.
    pub path: String,
    /// Whether it is part of the embedded library.
    pub library: bool,
    /// What its names mean.
    pub items: IndexMap<Arc<str>, Item>,
}

/// What a name at the top level means.
#[derive(Clone, Debug)]
pub enum Item {
    /// A module.
    Module(Arc<ast::ModuleDecl>),
    /// A function.
    Fn(Arc<ast::FnDecl>),
    /// A pattern.
    Pattern(Arc<ast::PatternDecl>),
    /// A model.
    Model(Arc<ast::ModelDecl>),
    /// All names of another file.
    File(usize),
    /// One name of another file, and where it is imported.
    Import(usize, Arc<str>, Span),
    /// One name of a file of the library, for another of its files: read where it is first used.
    Library(Arc<str>, Arc<str>, Span),
}

impl Elaborator<'_> {
    /// Reads a parsed text's declarations and imports.
    ///
    /// # Errors
    /// Syntax errors and imports that cannot be read. Faults in single declarations are recorded
    /// and leave the others usable.
    pub fn load_text(&mut self, path: &str, id: FileId, is_library: bool) -> Eval<usize> {
        let number = self.files.len();
        self.files.push(FileScope { path: path.into(), library: is_library, items: IndexMap::new() });
        let text = self.sources.file(id).text.clone();
        let tree = match syntax::parse(id, &text) {
            Ok(tree) => tree,
            Err(errors) => {
                for error in errors {
                    self.report(error);
                }
                return Err(Reported);
            }
        };
        self.open_files.push(number);
        for item in &tree.items {
            let _ = self.declare(number, item);
        }
        self.open_files.pop();
        Ok(number)
    }

    fn declare(&mut self, file: usize, item: &ast::Item) -> Eval<()> {
        match &item.kind {
            ast::ItemKind::Use(decl) => self.import_decl(file, decl, item.span),
            ast::ItemKind::Module(d) => {
                let distinct = self.distinct("parameters", d.statics.iter().map(|p| &p.name));
                self.define(file, &d.name, Item::Module(Arc::clone(d)))?;
                self.distinct_in_members(&d.members)?;
                distinct
            }
            ast::ItemKind::Fn(d) => {
                let distinct = self.distinct("parameters", d.params.iter().map(|p| &p.name));
                self.define(file, &d.name, Item::Fn(Arc::clone(d)))?;
                distinct
            }
            ast::ItemKind::Pattern(d) => {
                let params = self.distinct("parameters", d.params.iter().map(|p| &p.name));
                let indices = self.distinct("indices", d.indices.iter());
                self.define(file, &d.name, Item::Pattern(Arc::clone(d)))?;
                params.and(indices)
            }
            ast::ItemKind::Model(d) => self.define(file, &d.name, Item::Model(Arc::clone(d))),
        }
    }

    /// Refuses two names of one list that are equal.
    fn distinct<'d>(&mut self, what: &str, names: impl Iterator<Item = &'d ast::Name>) -> Eval<()> {
        let mut seen: Vec<&ast::Name> = Vec::new();
        let mut result = Ok(());
        for name in names {
            match seen.iter().find(|n| n.as_plain().is_some() && n.as_plain() == name.as_plain()) {
                None => seen.push(name),
                Some(first) => {
                    let text = name.as_plain().unwrap_or_default();
                    let title = format!("two {what} are called `{text}`");
                    let diagnostic = Diagnostic::error("duplicate-name", title)
                        .at(name.span, "again here")
                        .at(first.span, "first here");
                    result = Err(self.report(diagnostic));
                }
            }
        }
        result
    }

    fn distinct_in_members(&mut self, members: &[ast::Member]) -> Eval<()> {
        let mut result = Ok(());
        for member in members {
            let found = match &member.kind {
                ast::MemberKind::Entry(d) => {
                    let params = self.distinct("parameters", d.params.iter().map(|p| &p.name));
                    let outs = d.ret.iter().flat_map(|r| r.outs.iter()).filter_map(|o| o.name.as_ref());
                    params.and(self.distinct("outputs", outs))
                }
                ast::MemberKind::For { members, .. } => self.distinct_in_members(members),
                ast::MemberKind::If { then, otherwise, .. } => {
                    let then = self.distinct_in_members(then);
                    then.and(otherwise.as_ref().map_or(Ok(()), |m| self.distinct_in_members(m)))
                }
                _ => Ok(()),
            };
            result = result.and(found);
        }
        result
    }

    fn define(&mut self, file: usize, name: &ast::Name, item: Item) -> Eval<()> {
        let text: Arc<str> = name.as_plain().unwrap_or_default().into();
        let old = self.files[file].items.get(&text).map(item_span);
        if let Some(old) = old {
            let diagnostic = Diagnostic::error("duplicate-name", format!("`{text}` is declared twice"))
                .at(name.span, "again here")
                .at(old, "first here");
            return Err(self.report(diagnostic));
        }
        self.files[file].items.insert(text, item);
        Ok(())
    }

    fn import_decl(&mut self, file: usize, decl: &ast::UseDecl, span: Span) -> Eval<()> {
        match decl {
            ast::UseDecl::File { path, path_span, alias } => {
                let target = self.load_path(path, *path_span)?;
                match alias {
                    Some(alias) => self.define(file, alias, Item::File(target)),
                    None => {
                        let names: Vec<Arc<str>> = self.files[target].items.keys().cloned().collect();
                        for name in names {
                            if !self.files[file].items.contains_key(&name) {
                                self.files[file]
                                    .items
                                    .insert(Arc::clone(&name), Item::Import(target, name, span));
                            }
                        }
                        Ok(())
                    }
                }
            }
            ast::UseDecl::Path { path, names } => {
                let parts: Vec<&str> = path.iter().filter_map(ast::Name::as_plain).collect();
                let library = format!("{}.mdl", parts.join("/"));
                if let (true, Some(names)) = (self.files[file].library, names) {
                    let library: Arc<str> = library.into();
                    for name in names {
                        let text = name.as_plain().unwrap_or_default().into();
                        self.define(file, name, Item::Library(Arc::clone(&library), text, name.span))?;
                    }
                    return Ok(());
                }
                let target = self.load_library(&library, span)?;
                let Some(names) = names else {
                    return match path.last() {
                        Some(last) => self.define(file, last, Item::File(target)),
                        None => Ok(()),
                    };
                };
                for name in names {
                    let text: Arc<str> = name.as_plain().unwrap_or_default().into();
                    if !self.open_files.contains(&target) && !self.files[target].items.contains_key(&text) {
                        let known: Vec<String> =
                            self.files[target].items.keys().map(ToString::to_string).collect();
                        let title = format!("`{}` has no `{text}`", parts.join("."));
                        let mut diagnostic = Diagnostic::error("unknown-name", title).at(name.span, "");
                        if let Some(near) = nearest(&text, known.iter().map(String::as_str)) {
                            diagnostic = diagnostic.help(format!("did you mean `{near}`?"));
                        }
                        self.report(diagnostic);
                        continue;
                    }
                    let _ = self.define(file, name, Item::Import(target, text, name.span));
                }
                Ok(())
            }
        }
    }

    fn load_library(&mut self, path: &str, span: Span) -> Eval<usize> {
        if let Some(number) = self.files.iter().position(|f| f.library && f.path == path) {
            return Ok(number);
        }
        let Some(text) = library::text(path) else {
            let known = library::FILES.iter().map(|(p, _)| p.trim_end_matches(".mdl").replace('/', "."));
            let known: Vec<String> = known.collect();
            let name = path.trim_end_matches(".mdl").replace('/', ".");
            let mut diagnostic =
                Diagnostic::error("unknown-import", format!("there is no library `{name}`")).at(span, "");
            if let Some(near) = nearest(&name, known.iter().map(String::as_str)) {
                diagnostic = diagnostic.help(format!("did you mean `{near}`?"));
            }
            return Err(self.report(diagnostic.help("files of your own are imported by `use \"path.mdl\"`")));
        };
        let id = self.sources.add(path, text);
        self.load_text(path, id, true)
    }

    fn load_path(&mut self, path: &str, span: Span) -> Eval<usize> {
        let parts: Vec<&str> = path.split('/').filter(|p| *p != ".").collect();
        let bad = path.starts_with('/')
            || path.contains('\\')
            || path.contains(':')
            || parts.iter().any(|p| p.is_empty() || *p == "..");
        if bad {
            return self.error_help(
                "import-outside",
                format!("the import \"{path}\" leaves the root file's folder"),
                span,
                "imports are paths below the folder of the root file, without `..`",
            );
        }
        let path = parts.join("/");
        if let Some(number) = self.files.iter().position(|f| !f.library && f.path == path) {
            if let Some(at) = self.open_files.iter().position(|f| *f == number) {
                let mut cycle: Vec<&str> =
                    self.open_files[at..].iter().map(|f| self.files[*f].path.as_str()).collect();
                cycle.push(&path);
                let title = format!("files import one another: {}", cycle.join(" > "));
                return self.error_help(
                    "import-cycle",
                    title,
                    span,
                    "move what both need into a file that imports neither",
                );
            }
            return Ok(number);
        }
        match self.loader.load(&path) {
            Ok(text) => {
                let id = self.sources.add(path.clone(), text);
                self.load_text(&path, id, false)
            }
            Err(why) => {
                let title = format!("cannot read \"{path}\": {why}");
                let diagnostic = Diagnostic::error("import", title)
                    .at(span, "")
                    .help("imports are paths below the folder of the root file")
                    .fault(Fault::File);
                Err(self.report(diagnostic))
            }
        }
    }

    /// The prelude's number, read on first use.
    ///
    /// # Errors
    /// Faults in the library itself.
    pub fn prelude(&mut self) -> Eval<usize> {
        if let Some(number) = self.prelude {
            return Ok(number);
        }
        let span = Span::new(FileId(0), 0, 0);
        let number = self.load_library("std/prelude.mdl", span)?;
        self.prelude = Some(number);
        Ok(number)
    }

    /// A name of a file's top level as a value; `None` if the file has none of that name.
    ///
    /// # Errors
    /// A model that cannot be evaluated.
    pub fn item(&mut self, file: usize, name: &str, span: Span) -> Eval<Option<Value>> {
        let Some(item) = self.files[file].items.get(name).cloned() else { return Ok(None) };
        Ok(Some(match item {
            Item::Module(decl) => {
                Value::Module(Arc::new(ModuleValue { file, span: decl.span, decl, statics: None }))
            }
            Item::Fn(decl) => Value::Fn(FnValue::User(file, decl)),
            Item::Pattern(decl) => Value::Pattern(Arc::new(PatternValue::Unapplied { file, decl })),
            Item::Model(decl) => {
                self.refuse_recursion("model", name, decl.span, span)?;
                self.enter(name.to_string(), decl.span, span)?;
                let value = self.eval(&mut Env::new(file), &decl.value);
                self.leave();
                value?
            }
            Item::File(target) => Value::Namespace(target),
            Item::Import(target, name, _) => {
                self.charge(1, span)?;
                return self.item(target, &name, span);
            }
            Item::Library(path, name, _) => {
                self.charge(1, span)?;
                let target = self.load_library(&path, span)?;
                return self.item(target, &name, span);
            }
        }))
    }

    /// A name of a file, the prelude or the compiler.
    ///
    /// # Errors
    /// As [`Elaborator::item`].
    pub fn global(&mut self, file: usize, name: &str, span: Span) -> Eval<Option<Value>> {
        if let Some(value) = self.item(file, name, span)? {
            return Ok(Some(value));
        }
        if let Some(value) = Builtin::value(name) {
            return Ok(Some(value));
        }
        let prelude = self.prelude()?;
        self.item(prelude, name, span)
    }

    /// What a bare name stands for.
    ///
    /// # Errors
    /// Unknown names, with the nearest known one; names whose definition failed, silently.
    pub fn name_value_of(&mut self, env: &mut Env, name: &ast::Name) -> Eval<Value> {
        let text = self.name_text(env, name)?;
        if let Some(binding) = env.local_or_static(&text) {
            let is_size = !matches!(binding.value, Value::Tensor(_) | Value::Sequence(_));
            if env.unknowns.is_none() || is_size {
                return match &binding.value {
                    Value::Poison => Err(Reported),
                    value => Ok(value.clone()),
                };
            }
        }
        if env.unknowns.is_some() {
            return Ok(self.open_size(env, &text, name.span));
        }
        if let Some(owner) = env.owner.clone()
            && let Some(value) = self.member(&owner, &text, name.span)?
        {
            return Ok(value);
        }
        if let Some(value) = self.global(env.file, &text, name.span)? {
            return Ok(value);
        }
        self.unknown_name(env, &text, name.span)
    }

    /// A name that is called: dimensions that are not bound yet are not meant.
    ///
    /// # Errors
    /// As [`Elaborator::name_value_of`].
    pub fn callee_value(&mut self, env: &mut Env, name: &ast::Name) -> Eval<Value> {
        let unknowns = env.unknowns.take();
        let value = self.name_value_of(env, name);
        env.unknowns = unknowns;
        value
    }

    /// The size that an open dimension name stands for, new or met before.
    pub(super) fn open_size(&mut self, env: &mut Env, name: &str, span: Span) -> Value {
        let known = env.unknowns.as_ref().and_then(|u| u.get(name)).map(|(s, _)| s.clone());
        let symbol = known.unwrap_or_else(|| {
            let symbol = self.fresh_symbol(name);
            self.symbol_places.insert(symbol.clone(), span);
            if let Some(unknowns) = &mut env.unknowns {
                unknowns.insert(name.into(), (symbol.clone(), span));
            }
            symbol
        });
        Value::Int(crate::dim::Dim::symbol(symbol))
    }

    fn unknown_name(&mut self, env: &Env, name: &str, span: Span) -> Eval<Value> {
        let mut known: Vec<String> = Vec::new();
        for block in env.blocks.iter().rev().chain([&env.statics]) {
            known.extend(block.iter().map(|(n, _)| n.to_string()));
        }
        if let Some(owner) = &env.owner {
            known.extend(owner.instance.members.keys().map(ToString::to_string));
        }
        known.extend(self.files[env.file].items.keys().map(ToString::to_string));
        if let Some(prelude) = self.prelude {
            known.extend(self.files[prelude].items.keys().map(ToString::to_string));
        }
        known.extend(Builtin::names().map(ToString::to_string));
        let mut diagnostic =
            Diagnostic::error("unknown-name", format!("`{name}` is not known here")).at(span, "");
        let owner = env.owner.as_ref().map(|o| &o.instance);
        if owner.is_some_and(|o| o.entries.contains_key(name)) {
            diagnostic = diagnostic.help(format!("an entry is reached by `self.{name}`"));
        } else if let Some(place) = owner.and_then(|o| o.absent.get(name)) {
            return Err(self.report(absent_member(name, span, *place)));
        } else if let Some((place, help)) = env.module.as_ref().and_then(|m| later_or_member(m, name)) {
            diagnostic = diagnostic.at(place, "declared here").help(help);
        } else if let Some(line) = self.pending_sequence(name) {
            return Err(self.report(sequence_without_init(name, span, line)));
        } else if let Some(binding) = env.closed(name) {
            let index =
                matches!(&binding.value, Value::Tensor(t) if t.as_lazy().is_some_and(Scalar::is_index));
            let help = if index {
                "a reducer binds its index for the product that follows; a sum behind it stands in \
                 parentheses: `sum[i] (a[i] + b[i])`"
            } else {
                "a local ends with its block"
            };
            diagnostic = diagnostic.at(binding.span, "bound here, in a scope that has ended").help(help);
        } else if matches!(name, "step" | "backward") {
            let title = format!("entries cannot be derived by `{name}` yet");
            diagnostic = Diagnostic::error("not-supported", title)
                .at(span, "")
                .help("write the entry out, with its parameters and a body");
        } else if let Some(near) = nearest(name, known.iter().map(String::as_str)) {
            diagnostic = diagnostic.help(format!("did you mean `{near}`?"));
        }
        Err(self.report(diagnostic))
    }

    /// The text of a name, its holes filled.
    ///
    /// # Errors
    /// Holes that are no known integer or string.
    pub fn name_text(&mut self, env: &mut Env, name: &ast::Name) -> Eval<Arc<str>> {
        if let Some(text) = name.as_plain() {
            return Ok(text.into());
        }
        let mut text = String::new();
        for part in name.parts.iter() {
            match part {
                ast::NamePart::Text(t) => text.push_str(t),
                ast::NamePart::Hole(e) => match self.eval(env, e)? {
                    Value::Str(s) => text.push_str(&s),
                    Value::Int(d) if d.as_const().is_some() => text.push_str(&d.to_string()),
                    other => {
                        let title = format!(
                            "a name is made of known integers and strings, not of {}",
                            other.kind_text()
                        );
                        return self.error("name-hole", title, e.span);
                    }
                },
            }
        }
        // Long names are made of long strings, over and over.
        self.charge(text.len() / 16, name.span)?;
        Ok(text.into())
    }

    /// A member or entry of an instance; `None` if it has none of that name.
    ///
    /// # Errors
    /// Weights that cannot be picked.
    pub fn member(&mut self, owner: &InstanceRef, name: &str, span: Span) -> Eval<Option<Value>> {
        match owner.instance.members.get(name) {
            Some(Member::Weight(number)) => {
                self.refuse_static(span)?;
                let weight = match &owner.pick {
                    None => self.weight_value(*number),
                    Some(pick) => {
                        let pick = Arc::clone(pick);
                        let offset = number - pick.starts.first().copied().unwrap_or(0);
                        self.picked_weight(&pick, offset, span)?
                    }
                };
                Ok(Some(Value::Tensor(weight)))
            }
            Some(Member::Sub(Value::Poison)) => Err(Reported),
            Some(Member::Sub(value)) => Ok(Some(match &owner.pick {
                None => value.clone(),
                Some(pick) => with_pick(value, pick),
            })),
            None => Ok(None),
        }
    }

    /// `base.name`.
    ///
    /// # Errors
    /// Members that do not exist, with the nearest that does.
    pub fn field(&mut self, env: &mut Env, base: &Value, name: &ast::Name, span: Span) -> Eval<Value> {
        let text = self.name_text(env, name)?;
        match base {
            Value::Poison => Err(Reported),
            Value::Instance(owner) => {
                if let Some(value) = self.member(owner, &text, span)? {
                    return Ok(value);
                }
                if owner.instance.entries.contains_key(&text) {
                    return Ok(Value::Fn(FnValue::Entry(owner.clone(), text)));
                }
                if let Some(binding) = owner.instance.statics.get(&text)
                    && !owner.instance.absent.contains_key(&text)
                {
                    return Ok(binding.value.clone());
                }
                self.no_member(owner, &text, name.span)
            }
            Value::Namespace(file) => match self.item(*file, &text, span)? {
                Some(value) => Ok(value),
                None => {
                    let known: Vec<String> =
                        self.files[*file].items.keys().map(ToString::to_string).collect();
                    let title = format!("\"{}\" has no `{text}`", self.files[*file].path);
                    let mut diagnostic = Diagnostic::error("unknown-name", title).at(name.span, "");
                    if let Some(near) = nearest(&text, known.iter().map(String::as_str)) {
                        diagnostic = diagnostic.help(format!("did you mean `{near}`?"));
                    }
                    Err(self.report(diagnostic))
                }
            },
            Value::Tensor(t) if &*text == "T" => self.transpose(t, span).map(Value::Tensor),
            Value::Tuple(tuple) => {
                let at = tuple.names.iter().position(|n| n.as_deref() == Some(&*text));
                match at {
                    Some(k) => Ok(tuple.values[k].clone()),
                    None => self.error("unknown-name", format!("the tuple has no part `{text}`"), name.span),
                }
            }
            other => {
                let title = format!("{} has no `.{text}`", other.kind_text());
                self.error("unknown-name", title, name.span)
            }
        }
    }

    pub(super) fn no_member(&mut self, owner: &InstanceRef, name: &str, span: Span) -> Eval<Value> {
        let module = owner.instance.decl.name.as_plain().unwrap_or("?");
        let members = owner.instance.members.keys().chain(owner.instance.entries.keys());
        let known: Vec<String> = members.map(ToString::to_string).collect();
        let mut diagnostic = Diagnostic::error("unknown-member", format!("{module} has no member `{name}`"))
            .at(span, "")
            .at(owner.instance.decl.name.span, "declared here");
        if let Some(place) = owner.instance.absent.get(name) {
            diagnostic = absent_member(name, span, *place);
        } else if let Some(near) = nearest(name, known.iter().map(String::as_str)) {
            diagnostic = diagnostic.help(format!("did you mean `{near}`?"));
        }
        Err(self.report(diagnostic))
    }

    /// Whether a value is a lazy scalar.
    pub fn is_lazy(value: &Value) -> bool {
        matches!(value, Value::Tensor(t) if matches!(t.repr, Repr::Lazy(_)))
    }
}

fn with_pick(value: &Value, pick: &Arc<super::value::Pick>) -> Value {
    match value {
        Value::Instance(i) => {
            Value::Instance(InstanceRef { instance: Arc::clone(&i.instance), pick: Some(Arc::clone(pick)) })
        }
        Value::List(items) => Value::list(items.iter().map(|v| with_pick(v, pick)).collect()),
        other => other.clone(),
    }
}

/// A name of a module that those of its parameters and members which stand elsewhere do not see.
fn later_or_member(module: &ast::ModuleDecl, name: &str) -> Option<(Span, &'static str)> {
    let is = |n: &ast::Name| n.as_plain() == Some(name);
    if let Some(param) = module.statics.iter().find(|p| is(&p.name)) {
        return Some((param.span, "a parameter sees those before it"));
    }
    module.members.iter().find_map(|member| match &member.kind {
        ast::MemberKind::Let(def) => {
            let found = def.pat.names().iter().find(|n| is(n))?.span;
            Some((found, "members are elaborated in order, and see what stands above them"))
        }
        ast::MemberKind::Param(d) | ast::MemberKind::Buffer(d) if is(&d.name) => {
            Some((d.name.span, "weights are read in entries; what makes a member is static"))
        }
        ast::MemberKind::Sub { name, .. } if is(name) => {
            Some((name.span, "members are called in entries; what makes a member is static"))
        }
        _ => None,
    })
}

fn absent_member(name: &str, span: Span, place: Span) -> Diagnostic {
    Diagnostic::error("unknown-member", format!("the member `{name}` does not exist here"))
        .at(span, "")
        .at(place, "its condition does not hold")
        .help("read it only where the same condition holds: `if c { … } else { … }`")
}

fn sequence_without_init(name: &str, span: Span, line: Span) -> Diagnostic {
    Diagnostic::error("recur-init", format!("`{name}` is read before its line and has no first value"))
        .at(span, "")
        .at(line, "its line is here")
        .help(format!("give the value before the first step: `init {name}[…, t - 1] = …`"))
}

pub(super) fn item_span(item: &Item) -> Span {
    match item {
        Item::Module(d) => d.name.span,
        Item::Fn(d) => d.name.span,
        Item::Pattern(d) => d.name.span,
        Item::Model(d) => d.name.span,
        Item::Import(_, _, span) | Item::Library(_, _, span) => *span,
        Item::File(_) => Span::new(FileId(0), 0, 0),
    }
}
