//! From tree to text: the canonical form of a file.
//!
//! Takes a tree that the parser made and gives source that parses to the same tree, places apart,
//! and prints to itself. Four blanks a level, one statement a line, no parentheses that change
//! nothing. Documentation is kept; other comments are no part of the tree.

mod expressions;

use super::ast::{
    Axis, AxisKind, Bind, BindKind, Block, EntryDecl, Expr, ExprKind, File, FnDecl, IndexDef, Item, ItemKind,
    Let, Member, MemberKind, ModuleDecl, Name, NamePart, Out, Param, Pat, PatKind, PatternDecl, Place,
    PlaceStep, Range, Recur, Require, Ret, SequenceRead, StaticParam, Stmt, StmtKind, TensorType, Type,
    TypeKind, UseDecl, WeightDecl,
};
use crate::dtype::DType;

/// The canonical text of a file.
pub fn print(file: &File) -> String {
    let mut printer = Printer { out: String::new(), indent: 0 };
    let mut before: Option<&Item> = None;
    for item in &file.items {
        let uses = |item: &Item| matches!(item.kind, ItemKind::Use(_)) && item.doc.is_empty();
        if before.is_some_and(|b| !(uses(b) && uses(item))) {
            printer.out.push('\n');
        }
        printer.item(item);
        before = Some(item);
    }
    printer.out
}

struct Printer {
    out: String,
    indent: usize,
}

impl Printer {
    fn put(&mut self, text: &str) {
        self.out.push_str(text);
    }

    /// Begins a line at the current level.
    fn begin(&mut self) {
        for _ in 0..self.indent {
            self.put("    ");
        }
    }

    fn end(&mut self) {
        self.put("\n");
    }

    /// Things with commas between them.
    fn commas<T>(&mut self, things: &[T], mut each: impl FnMut(&mut Self, &T)) {
        for (i, thing) in things.iter().enumerate() {
            if i > 0 {
                self.put(", ");
            }
            each(self, thing);
        }
    }

    /// A word and an expression, if there is one.
    fn clause(&mut self, word: &str, value: Option<&Expr>) {
        if let Some(value) = value {
            self.put(word);
            self.expr(value);
        }
    }

    fn docs(&mut self, docs: &[String]) {
        for line in docs {
            self.begin();
            self.put(if line.is_empty() { "##" } else { "## " });
            self.put(line);
            self.end();
        }
    }

    fn item(&mut self, item: &Item) {
        self.docs(&item.doc);
        match &item.kind {
            ItemKind::Use(decl) => self.use_decl(decl),
            ItemKind::Module(decl) => self.module(decl),
            ItemKind::Fn(decl) => self.function(decl),
            ItemKind::Pattern(decl) => self.pattern(decl),
            ItemKind::Model(decl) => {
                self.put("model ");
                self.name(&decl.name);
                self.clause(" = ", Some(&decl.value));
            }
        }
        self.end();
    }

    fn use_decl(&mut self, decl: &UseDecl) {
        self.put("use ");
        match decl {
            UseDecl::File { path, alias, .. } => {
                self.string(path);
                if let Some(alias) = alias {
                    self.put(" as ");
                    self.name(alias);
                }
            }
            UseDecl::Path { path, names } => {
                for (i, name) in path.iter().enumerate() {
                    self.put(if i > 0 { "." } else { "" });
                    self.name(name);
                }
                if let Some(names) = names {
                    self.put(".{");
                    self.commas(names, Self::name);
                    self.put("}");
                }
            }
        }
    }

    fn module(&mut self, decl: &ModuleDecl) {
        self.put("module ");
        self.name(&decl.name);
        if !decl.statics.is_empty() {
            self.put("(");
            self.commas(&decl.statics, Self::static_param);
            self.put(")");
        }
        self.put(" ");
        self.members(&decl.members);
    }

    fn static_param(&mut self, param: &StaticParam) {
        self.name(&param.name);
        if let Some(kind) = param.kind {
            self.put(": ");
            self.put(kind.name());
        }
        self.clause(" = ", param.default.as_ref());
    }

    fn function(&mut self, decl: &FnDecl) {
        self.put("fn ");
        self.name(&decl.name);
        self.params(&decl.params);
        self.ret(decl.ret.as_ref());
        self.body(&decl.body);
    }

    fn pattern(&mut self, decl: &PatternDecl) {
        self.put("pattern ");
        self.name(&decl.name);
        if !decl.params.is_empty() {
            self.params(&decl.params);
        }
        self.put("[");
        self.commas(&decl.indices, Self::name);
        self.put("]");
        self.body(&decl.body);
    }

    fn params(&mut self, params: &[Param]) {
        self.put("(");
        self.commas(params, |p, param| {
            p.name(&param.name);
            if let Some(ty) = &param.ty {
                p.put(": ");
                p.ty(ty);
            }
            p.clause(" = ", param.default.as_ref());
        });
        self.put(")");
    }

    fn ret(&mut self, ret: Option<&Ret>) {
        let Some(ret) = ret else { return };
        self.put(" -> ");
        if let [out] = &ret.outs[..] {
            return self.output(out);
        }
        self.put("(");
        self.commas(&ret.outs, Self::output);
        self.put(")");
    }

    fn output(&mut self, out: &Out) {
        if let Some(name) = &out.name {
            self.name(name);
            self.put(": ");
        }
        self.ty(&out.ty);
    }

    fn ty(&mut self, ty: &Type) {
        match &ty.kind {
            TypeKind::Tensor(tensor) => self.tensor(tensor),
            TypeKind::Kind(kind) => self.put(kind.name()),
        }
    }

    fn tensor(&mut self, ty: &TensorType) {
        if ty.dtype != DType::F32 {
            self.put(ty.dtype.name());
        }
        self.put("[");
        self.commas(&ty.axes, Self::axis);
        self.put("]");
    }

    fn axis(&mut self, axis: &Axis) {
        match &axis.kind {
            AxisKind::Multi(name) => self.multi(name.as_ref()),
            AxisKind::Dim(size) => self.expr(size),
            AxisKind::Group(axes) => {
                self.put("(");
                self.commas(axes, Self::axis);
                self.put(")");
            }
        }
    }

    fn multi(&mut self, name: Option<&Name>) {
        self.put("..");
        if let Some(name) = name {
            self.name(name);
        }
    }

    fn name(&mut self, name: &Name) {
        self.put(if name.quoted { "`" } else { "" });
        for part in name.parts.iter() {
            match part {
                NamePart::Text(text) => self.put(text),
                NamePart::Hole(value) => {
                    self.put("{");
                    self.expr(value);
                    self.put("}");
                }
            }
        }
        self.put(if name.quoted { "`" } else { "" });
    }

    fn members(&mut self, members: &[Member]) {
        self.put("{\n");
        self.indent += 1;
        for member in members {
            self.docs(&member.doc);
            self.begin();
            self.member(&member.kind);
            self.end();
        }
        self.indent -= 1;
        self.begin();
        self.put("}");
    }

    fn member(&mut self, member: &MemberKind) {
        match member {
            MemberKind::Param(decl) => self.weight("param ", decl),
            MemberKind::Buffer(decl) => self.weight("buffer ", decl),
            MemberKind::Tie { left, right, when } => {
                self.put("tie ");
                self.place(left);
                self.put(" = ");
                self.place(right);
                self.clause(" when ", when.as_ref());
            }
            MemberKind::Require(require) => self.require(require),
            MemberKind::Entry(entry) => self.entry(entry),
            MemberKind::Let(bound) => self.let_(bound),
            MemberKind::Define(definition) => self.define(definition),
            MemberKind::For { pat, range, members } => {
                self.for_head(pat, range);
                self.members(members);
            }
            MemberKind::If { cond, then, otherwise } => {
                self.clause("if ", Some(cond));
                self.put(" ");
                self.members(then);
                if let Some(otherwise) = otherwise {
                    self.put(" else ");
                    match &otherwise[..] {
                        [Member { doc, kind: inner @ MemberKind::If { .. }, .. }] if doc.is_empty() => {
                            self.member(inner);
                        }
                        members => self.members(members),
                    }
                }
            }
            MemberKind::Sub { flat, name, value, when } => {
                self.put(if *flat { "flat " } else { "" });
                self.name(name);
                self.clause(" = ", Some(value));
                self.clause(" when ", when.as_ref());
            }
        }
    }

    fn weight(&mut self, word: &str, decl: &WeightDecl) {
        self.put(word);
        self.name(&decl.name);
        self.put(": ");
        self.tensor(&decl.ty);
        self.clause(" = ", decl.init.as_ref());
        self.clause(" when ", decl.when.as_ref());
    }

    fn place(&mut self, place: &Place) {
        self.name(&place.name);
        for step in &place.steps {
            match step {
                PlaceStep::Field(name) => {
                    self.put(".");
                    self.name(name);
                }
                PlaceStep::Index(index, _) => self.put(&format!("[{index}]")),
            }
        }
    }

    fn entry(&mut self, entry: &EntryDecl) {
        let forward = !entry.name.quoted && entry.name.as_plain() == Some("forward");
        self.put(if forward { "" } else { "entry " });
        self.name(&entry.name);
        self.params(&entry.params);
        self.ret(entry.ret.as_ref());
        self.body(&entry.body);
    }

    /// A body with the blank before it.
    fn body(&mut self, block: &Block) {
        match &block.tail {
            Some(tail) if block.stmts.is_empty() => self.clause(" = ", Some(tail)),
            _ => {
                self.put(" ");
                self.block(block);
            }
        }
    }

    /// A block over several lines.
    fn block(&mut self, block: &Block) {
        self.put("{\n");
        self.indent += 1;
        for stmt in &block.stmts {
            self.begin();
            self.stmt(stmt);
            self.end();
        }
        if let Some(tail) = &block.tail {
            self.begin();
            let start = self.out.len();
            self.expr(tail);
            // A minus at the beginning of a line would continue the line before.
            if self.out[start..].starts_with('-') && !block.stmts.is_empty() {
                self.out.insert(start, '(');
                self.put(")");
            }
            self.end();
        }
        self.indent -= 1;
        self.begin();
        self.put("}");
    }

    fn stmt(&mut self, stmt: &Stmt) {
        match &stmt.kind {
            StmtKind::Let(bound) => self.let_(bound),
            StmtKind::Define(definition) => self.define(definition),
            StmtKind::Recur(recur) => self.recur(recur),
            StmtKind::For { pat, range, body } => {
                self.for_head(pat, range);
                self.block(body);
            }
            StmtKind::If { cond, then, otherwise } => {
                self.clause("if ", Some(cond));
                self.put(" ");
                self.block(then);
                if let Some(otherwise) = otherwise {
                    self.put(" else ");
                    match (&otherwise.stmts[..], &otherwise.tail) {
                        ([inner @ Stmt { kind: StmtKind::If { .. }, .. }], None) => self.stmt(inner),
                        _ => self.block(otherwise),
                    }
                }
            }
            StmtKind::Require(require) => self.require(require),
            StmtKind::Assign { pat, value } => {
                self.pat(pat);
                self.clause(" = ", Some(value));
            }
            StmtKind::Init { target, ty, value } => {
                self.put("init ");
                self.target(target);
                self.annotation(ty.as_ref());
                self.clause(" = ", Some(value));
            }
            StmtKind::Sequence { targets, tuple, value } => {
                self.put(if *tuple { "(" } else { "" });
                self.commas(targets, Self::target);
                self.put(if *tuple { ")" } else { "" });
                self.clause(" = ", Some(value));
            }
        }
    }

    fn let_(&mut self, bound: &Let) {
        self.put("let ");
        self.pat(&bound.pat);
        self.annotation(bound.ty.as_ref());
        self.clause(" = ", Some(&bound.value));
    }

    fn annotation(&mut self, ty: Option<&Type>) {
        if let Some(ty) = ty {
            self.put(": ");
            self.ty(ty);
        }
    }

    fn define(&mut self, definition: &IndexDef) {
        self.put("let ");
        self.name(&definition.name);
        self.put("[");
        self.commas(&definition.binds, Self::bind);
        self.put("]");
        self.clause(" = ", Some(&definition.value));
    }

    fn bind(&mut self, bind: &Bind) {
        match &bind.kind {
            BindKind::Multi(name) => self.multi(name.as_ref()),
            BindKind::Group(binds) => {
                self.put("(");
                self.commas(binds, Self::bind);
                self.put(")");
            }
            BindKind::Index { name, extent } => {
                self.name(name);
                self.clause(": ", extent.as_ref());
            }
        }
    }

    fn recur(&mut self, recur: &Recur) {
        self.put("recur ");
        self.name(&recur.index);
        self.put(" in ");
        self.range(&recur.range);
        self.clause(" by ", recur.by.as_ref());
        self.put(" ");
        self.block(&recur.body);
    }

    fn target(&mut self, target: &SequenceRead) {
        self.name(&target.name);
        self.put("[");
        self.commas(&target.index, Self::ix);
        self.put("]");
    }

    fn for_head(&mut self, pat: &Pat, range: &Range) {
        self.put("for ");
        self.pat(pat);
        self.put(" in ");
        self.range(range);
        self.put(" ");
    }

    fn range(&mut self, range: &Range) {
        self.expr(&range.start);
        self.clause("..", range.end.as_ref());
    }

    fn pat(&mut self, pat: &Pat) {
        match &pat.kind {
            PatKind::Name(name) => self.name(name),
            PatKind::Tuple(names) => {
                self.put("(");
                self.commas(names, Self::name);
                self.put(")");
            }
        }
    }

    fn require(&mut self, require: &Require) {
        self.clause("require ", Some(&require.cond));
        if let Some(message) = &require.message {
            self.put(", ");
            self.string(message);
        }
    }
}

/// Whether a block is nothing but a value, so that it fits on a line.
fn only_tail(block: &Block) -> Option<&Expr> {
    block.tail.as_ref().filter(|_| block.stmts.is_empty())
}

/// Whether an expression is an `if`.
fn is_if(expr: &Expr) -> bool {
    matches!(*expr.kind, ExprKind::If { .. })
}
