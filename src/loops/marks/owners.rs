//! Whose weights a marked statement reads, instance by instance.
//!
//! A function that several instances of a module share is told apart by what it is called with: its
//! arguments are followed back to the entry's, those to the results of the bind function, and these to the weights that
//! they are packed from.

use super::super::buffers::{args, results};
use super::super::ir::{BufferId, BufferKind, LoopFunc, LoopProgram, MarkId, Scalar, Stmt};
use super::super::walk::{Defined, bodies, roots};
use super::{products, statements};
use std::collections::{BTreeMap, BTreeSet};

/// Weights, as numbers in the signature.
pub type Weights = BTreeSet<usize>;

/// Finds the weights behind arguments.
pub struct Owners<'a> {
    program: &'a LoopProgram,
    statements: Vec<(usize, &'a Stmt)>,
    entry: Vec<Weights>,
}

impl<'a> Owners<'a> {
    /// Of a marked program.
    pub fn new(program: &'a LoopProgram) -> Self {
        let inputs = vec![Weights::new(); program.signature.inputs.len()];
        let parts = program.bind.map_or_else(Vec::new, |bind| sources(program, bind));
        let entry = inputs.into_iter().chain(parts).collect();
        Owners { program, statements: statements(program), entry }
    }

    /// The weights that the last mark of a path reads; the others are the calls that lead to it, outermost
    /// first. Where it reads none, those of the innermost call that takes some.
    pub fn weights(&self, path: &[MarkId]) -> Weights {
        let mut arguments = self.entry.clone();
        let mut found = Weights::new();
        for mark in path {
            let Some((number, stmt)) = self.statements.get(mark.0 as usize) else { break };
            let func = &self.program.functions[*number];
            let of = |buffer: &BufferId| match func.buffers[buffer.0 as usize].kind {
                BufferKind::Arg(k) => arguments.get(k as usize).cloned().unwrap_or_default(),
                _ => Weights::new(),
            };
            let read: Weights = loaded(func, stmt).iter().flat_map(of).collect();
            if !read.is_empty() {
                found = read;
            }
            if let Stmt::Call { args, .. } = stmt {
                arguments = args.iter().map(|pointer| of(&pointer.buffer)).collect();
            }
        }
        found
    }
}

/// The arguments that each result of a function is made from: of the bind function, the weights in each part of
/// the blob.
fn sources(program: &LoopProgram, number: usize) -> Vec<Weights> {
    let func = &program.functions[number];
    let mut held: BTreeMap<BufferId, Weights> = BTreeMap::new();
    for (k, buffer) in args(func).into_iter().enumerate() {
        held.insert(buffer, Weights::from([k]));
    }
    for stmt in &func.body {
        let of = |buffers: &mut dyn Iterator<Item = BufferId>| -> Weights {
            buffers.filter_map(|buffer| held.get(&buffer)).flatten().copied().collect()
        };
        let made: Vec<(BufferId, Weights)> = if let Stmt::Call { func, args, results } = stmt {
            let taken = |k: &usize| args.get(*k).map(|pointer| pointer.buffer);
            let from = sources(program, *func).into_iter();
            let from = from.map(|numbers| of(&mut numbers.iter().filter_map(taken)));
            results.iter().map(|pointer| pointer.buffer).zip(from).collect()
        } else {
            let from = of(&mut loaded(func, stmt).into_iter());
            let mut defined = Defined::default();
            defined.add(std::slice::from_ref(stmt));
            defined.stored.into_iter().map(|buffer| (buffer, from.clone())).collect()
        };
        for (buffer, weights) in made {
            held.entry(buffer).or_default().extend(weights);
        }
    }
    results(func).iter().map(|buffer| held.get(buffer).cloned().unwrap_or_default()).collect()
}

/// The buffers that a statement reads, at any depth.
fn loaded(func: &LoopFunc, stmt: &Stmt) -> BTreeSet<BufferId> {
    let mut found = BTreeSet::new();
    let mut pending = vec![stmt];
    while let Some(stmt) = pending.pop() {
        for id in roots(stmt).into_iter().flat_map(|root| func.scalars.unknown(root, |_| false)) {
            if let Scalar::Load(buffer, _) = func.scalars.get(id) {
                found.insert(*buffer);
            }
        }
        if let Stmt::Call { args, .. } = stmt {
            found.extend(args.iter().map(|pointer| pointer.buffer));
        }
        pending.extend(bodies(stmt).flatten());
    }
    found.extend(products(stmt).iter().flat_map(|gemm| [gemm.lhs.at.buffer, gemm.rhs.at.buffer]));
    found
}

/// The module that weights have in common: `layers.3.attn` for two of its weights, `layers.3` for some of
/// two modules in it, nothing where they have nothing in common.
pub fn module_of<'p>(paths: impl IntoIterator<Item = &'p str>) -> String {
    let mut common: Option<Vec<&str>> = None;
    for path in paths {
        let mut names: Vec<&str> = path.split('.').collect();
        names.pop();
        let kept = common
            .as_ref()
            .map_or(names.len(), |common| common.iter().zip(&names).take_while(|(a, b)| a == b).count());
        names.truncate(kept);
        common = Some(names);
    }
    common.unwrap_or_default().join(".")
}
