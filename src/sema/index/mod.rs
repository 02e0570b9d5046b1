//! Index notation: definitions, reducers, normalisers and reads.
//!
//! A definition binds its indices, finds their ranges ([`ranges`]), evaluates its element as a
//! lazy scalar over them and emits one node. Reducers and normalisers inside become nodes of
//! their own, mapped over the outer indices they depend on.

mod ranges;
mod reads;
mod reduce;

pub(super) use ranges::names_in;

use super::Elaborator;
use super::build::Emission;
use super::env::Env;
use super::errors::Eval;
use super::scalar::{IndexVar, Scalar};
use super::value::{TensorValue, Value};
use crate::diag::Diagnostic;
use crate::dim::Dim;
use crate::span::Span;
use crate::syntax::ast::{self, BindKind};
use std::sync::Arc;

/// The name under which an unnamed `..` is bound.
pub(super) const REST: &str = "..";

/// Indices that a definition or reducer binds, before and after their ranges are known.
pub(super) struct Bound {
    pub(super) singles: Vec<Single>,
    pub(super) multis: Vec<Multi>,
    tree: Vec<Tree>,
}

/// One index.
pub(super) struct Single {
    pub(super) name: Arc<str>,
    pub(super) span: Span,
    pub(super) extent: Option<Dim>,
    /// Whether the range is written; bare uses then do not have to agree.
    pub(super) explicit: bool,
}

/// A `..n`.
pub(super) struct Multi {
    pub(super) name: Arc<str>,
    pub(super) span: Span,
    pub(super) extents: Option<Vec<Dim>>,
}

enum Tree {
    Single(usize),
    Multi(usize),
    Group(Vec<Tree>),
}

/// Bound indices with their variables.
pub(super) struct Opened {
    /// All variables, slowest first.
    pub(super) axes: Vec<IndexVar>,
    /// The axes of the result they make up.
    pub(super) shape: Vec<Dim>,
    /// Number of axes of each bind, where there are several `..`.
    segments: Option<Arc<[usize]>>,
}

impl Elaborator<'_> {
    /// `let y[b, h: heads, t, (h, d)] = expr`: evaluates the definition and binds its name.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn index_definition(&mut self, env: &mut Env, def: &ast::IndexDef, span: Span) -> Eval<()> {
        let name = self.name_text(env, &def.name)?;
        let value = self.defined(env, &def.binds, &def.value, Some(&name), span)?;
        env.bind(name, Value::Tensor(value), def.name.span);
        Ok(())
    }

    /// The tensor with the given axes and element.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub(super) fn defined(
        &mut self,
        env: &mut Env,
        binds: &[ast::Bind],
        element: &ast::Expr,
        name: Option<&str>,
        span: Span,
    ) -> Eval<TensorValue> {
        let mut bound = self.bound(env, binds)?;
        self.infer(env, &mut bound, &[element])?;
        env.push();
        let result = self.open(env, &bound).and_then(|opened| {
            let value = self.eval(env, element)?;
            let body = self.scalar_of(&value, element.span)?;
            let (axes, shape) = (&opened.axes[..], Some(opened.shape.clone()));
            let mut tensor = self.emit(Emission { axes, shape, reduce: None, body, span, name })?;
            tensor.segments = opened.segments;
            Ok(tensor)
        });
        env.pop();
        result
    }

    /// A value as the stored element of a definition.
    pub(super) fn scalar_of(&mut self, value: &Value, span: Span) -> Eval<Scalar> {
        let tensor = self.as_tensor(value, span)?;
        if tensor.rank() != 0 {
            let title = format!("an element is wanted here, but this is {}", tensor.kind_text());
            return self.error_help(
                "rank",
                title,
                span,
                "in index notation every axis is given: `x[i, j]`, not `x`",
            );
        }
        let tensor = self.stored(&tensor, span)?;
        Ok(self.element(&tensor, &[], span))
    }

    /// The indices of binds, with the ranges that are written.
    pub(super) fn bound(&mut self, env: &mut Env, binds: &[ast::Bind]) -> Eval<Bound> {
        let mut bound = Bound { singles: Vec::new(), multis: Vec::new(), tree: Vec::new() };
        for bind in binds {
            let tree = self.bind_tree(env, bind, &mut bound)?;
            bound.tree.push(tree);
        }
        Ok(bound)
    }

    fn bind_tree(&mut self, env: &mut Env, bind: &ast::Bind, bound: &mut Bound) -> Eval<Tree> {
        match &bind.kind {
            BindKind::Multi(name) => {
                let name = multi_name(name.as_ref());
                if bound.multis.iter().any(|m| m.name == name) {
                    return self.error("duplicate-index", format!("`{name}` is bound twice"), bind.span);
                }
                bound.multis.push(Multi { name, span: bind.span, extents: None });
                Ok(Tree::Multi(bound.multis.len() - 1))
            }
            BindKind::Group(parts) => {
                let parts: Eval<Vec<Tree>> = parts.iter().map(|p| self.bind_tree(env, p, bound)).collect();
                Ok(Tree::Group(parts?))
            }
            BindKind::Index { name, extent } => {
                let text = self.name_text(env, name)?;
                if let Some(first) = bound.singles.iter().find(|s| s.name == text) {
                    let diagnostic =
                        Diagnostic::error("duplicate-index", format!("index `{text}` is bound twice"))
                            .at(name.span, "again here")
                            .at(first.span, "first here")
                            .help("a diagonal is written with one index: `let d[i] = x[i, i]`");
                    return Err(self.report(diagnostic));
                }
                let explicit = extent.is_some();
                let extent = match extent {
                    Some(expr) => {
                        let value = self.eval(env, expr)?;
                        Some(self.size_of(&value, expr.span)?)
                    }
                    None => None,
                };
                bound.singles.push(Single { name: text, span: bind.span, extent, explicit });
                Ok(Tree::Single(bound.singles.len() - 1))
            }
        }
    }

    /// Makes the variables and binds their names in the innermost block.
    pub(super) fn open(&mut self, env: &mut Env, bound: &Bound) -> Eval<Opened> {
        let mut singles = Vec::with_capacity(bound.singles.len());
        for single in &bound.singles {
            let Some(extent) = &single.extent else {
                let title = format!("index `{}` has no range", single.name);
                return self.error_help(
                    "index-without-range",
                    title,
                    single.span,
                    format!(
                        "only a bare use in a read, `x[…, {0}, …]`, gives a range; or write it: `{0}: N`",
                        single.name
                    ),
                );
            };
            let var = self.fresh_index(&single.name, extent.clone());
            env.bind(Arc::clone(&single.name), Value::exact(Scalar::index(&var)), single.span);
            singles.push(var);
        }
        let mut multis: Vec<Vec<IndexVar>> = Vec::with_capacity(bound.multis.len());
        for multi in &bound.multis {
            let Some(extents) = &multi.extents else {
                let title = format!("`{}` stands for no axes that are known", multi.name);
                return self.error_help(
                    "index-without-range",
                    title,
                    multi.span,
                    "use it in a read of a tensor whose other axes are given",
                );
            };
            let label = multi.name.trim_start_matches("..");
            let label = if label.is_empty() { "r" } else { label };
            let vars: Vec<IndexVar> = extents
                .iter()
                .enumerate()
                .map(|(k, d)| self.fresh_index(&format!("{label}{k}"), d.clone()))
                .collect();
            env.bind(Arc::clone(&multi.name), Value::Indices(vars.clone().into()), multi.span);
            multis.push(vars);
        }
        self.opened(bound, &singles, &multis)
    }

    fn opened(&mut self, bound: &Bound, singles: &[IndexVar], multis: &[Vec<IndexVar>]) -> Eval<Opened> {
        let (mut axes, mut shape, mut segments) = (Vec::new(), Vec::new(), Vec::new());
        for tree in &bound.tree {
            let start = axes.len();
            flatten(tree, singles, multis, &mut axes);
            match tree {
                Tree::Single(_) | Tree::Multi(_) => {
                    segments.push(axes.len() - start);
                    shape.extend(axes[start..].iter().map(|v| v.extent().clone()));
                }
                Tree::Group(_) => {
                    segments.push(1);
                    let span = bound.singles.first().map_or_else(|| bound.multis[0].span, |s| s.span);
                    let product = Dim::product(axes[start..].iter().map(IndexVar::extent));
                    shape.push(self.sized(product, span)?);
                }
            }
        }
        let segments = (bound.multis.len() > 1).then(|| segments.into());
        Ok(Opened { axes, shape, segments })
    }
}

fn flatten(tree: &Tree, singles: &[IndexVar], multis: &[Vec<IndexVar>], axes: &mut Vec<IndexVar>) {
    match tree {
        Tree::Single(k) => axes.push(singles[*k].clone()),
        Tree::Multi(k) => axes.extend(multis[*k].iter().cloned()),
        Tree::Group(parts) => parts.iter().for_each(|part| flatten(part, singles, multis, axes)),
    }
}

/// The name that a `..` or `..n` is bound under.
pub(super) fn multi_name(name: Option<&ast::Name>) -> Arc<str> {
    match name.and_then(ast::Name::as_plain) {
        Some(text) => format!("{REST}{text}").into(),
        None => REST.into(),
    }
}
