//! Names in scope.

use super::value::{InstanceRef, Value};
use crate::span::Span;
use crate::syntax::ast;
use indexmap::IndexMap;
use std::sync::Arc;

/// The names that one block binds.
#[derive(Clone, Debug, Default)]
pub struct Block {
    names: IndexMap<Arc<str>, Binding>,
}

/// A bound name.
#[derive(Clone, Debug)]
pub struct Binding {
    /// Its value.
    pub value: Value,
    /// Where it was bound.
    pub span: Span,
}

impl Block {
    /// No names.
    pub fn new() -> Self {
        Self::default()
    }

    /// Binds a name, hiding what it was.
    pub fn bind(&mut self, name: impl Into<Arc<str>>, value: Value, span: Span) {
        self.names.insert(name.into(), Binding { value, span });
    }

    /// What a name is bound to.
    pub fn get(&self, name: &str) -> Option<&Binding> {
        self.names.get(name)
    }

    /// Names in the order they were first bound.
    pub fn iter(&self) -> impl Iterator<Item = (&Arc<str>, &Binding)> {
        self.names.iter()
    }

    /// The same, to change them.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (&Arc<str>, &mut Binding)> {
        self.names.iter_mut()
    }
}

/// Where an expression is evaluated.
#[derive(Clone, Debug)]
pub struct Env {
    /// The file whose top level is in scope.
    pub file: usize,
    /// What `self` is.
    pub owner: Option<InstanceRef>,
    /// Statics of the module, below all locals.
    pub statics: Block,
    /// Blocks of locals, innermost last; never empty.
    pub blocks: Vec<Block>,
    /// The module whose parameters or members are being elaborated, for messages about its names.
    pub module: Option<Arc<ast::ModuleDecl>>,
    /// The blocks that were closed last, for messages about names that were known in them.
    closed: Vec<Block>,
    /// Names that unknown dimensions are given while a signature is matched.
    pub unknowns: Option<Unknowns>,
}

/// Most closed blocks that are remembered.
const MAX_CLOSED: usize = 16;

/// Dimension names met in a shape that are not bound yet, each with the symbol it stands for.
pub type Unknowns = IndexMap<Arc<str>, (crate::dim::Symbol, Span)>;

impl Env {
    /// An environment of a file with no locals.
    pub fn new(file: usize) -> Self {
        Env {
            file,
            owner: None,
            statics: Block::new(),
            blocks: vec![Block::new()],
            module: None,
            closed: Vec::new(),
            unknowns: None,
        }
    }

    /// The environment of an entry of an instance, with no locals.
    pub fn of_instance(owner: InstanceRef) -> Self {
        let statics = owner.instance.statics.clone();
        Env { owner: Some(owner.clone()), statics, ..Env::new(owner.instance.file) }
    }

    /// Opens a block.
    pub fn push(&mut self) {
        self.blocks.push(Block::new());
    }

    /// Closes the innermost block.
    pub fn pop(&mut self) {
        if self.blocks.len() > 1
            && let Some(block) = self.blocks.pop()
            && !block.names.is_empty()
        {
            if self.closed.len() == MAX_CLOSED {
                self.closed.remove(0);
            }
            self.closed.push(block);
        }
    }

    /// What a name was bound to in a block that has been closed.
    pub fn closed(&self, name: &str) -> Option<&Binding> {
        self.closed.iter().rev().find_map(|b| b.get(name))
    }

    /// Binds a local in the innermost block.
    pub fn bind(&mut self, name: impl Into<Arc<str>>, value: Value, span: Span) {
        if let Some(block) = self.blocks.last_mut() {
            block.bind(name, value, span);
        }
    }

    /// Gives an existing local a new value; `false` if there is none of that name.
    pub fn assign(&mut self, name: &str, value: Value, span: Span) -> bool {
        for block in self.blocks.iter_mut().rev() {
            if let Some(binding) = block.names.get_mut(name) {
                *binding = Binding { value, span };
                return true;
            }
        }
        false
    }

    /// What a local is bound to.
    pub fn local(&self, name: &str) -> Option<&Binding> {
        self.blocks.iter().rev().find_map(|b| b.get(name))
    }

    /// What a local or static is bound to.
    pub fn local_or_static(&self, name: &str) -> Option<&Binding> {
        self.local(name).or_else(|| self.statics.get(name))
    }
}
