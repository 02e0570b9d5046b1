//! Sizes for the free dimensions that no input decides.
//!
//! They are small, and different from each other, so that mixed-up axes show. Where a model refuses
//! them they are repaired: for the first condition that does not hold, one of its dimensions takes the
//! least size under which it does, if possible without breaking another, and so on until all hold. Conditions are the program's checks and,
//! where that can be had, that no tensor is empty, for a mean over nothing says nothing of a model.

use crate::dim::{Dim, Symbol};
use crate::driver::Outline;
use crate::files::NamedTensors;
use crate::graph::dims::DimEnv;
use crate::graph::ir::DimCondition;
use std::collections::BTreeSet;

/// A choice of sizes.
#[derive(Clone, Debug)]
pub struct Sizes {
    /// All dimensions, also those that inputs decide.
    pub env: DimEnv,
    /// Those that were chosen.
    pub chosen: Vec<(Symbol, i64)>,
}

/// Where the search begins: the first choice, and what to fall back on where a call still fails.
const STARTS: [[i64; 5]; 5] = [[2, 5, 3, 4, 7], [4; 5], [3, 9, 6, 8, 11], [8; 5], [16; 5]];
/// What a dimension may become.
const LADDER: [i64; 30] = [
    1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 14, 15, 16, 20, 24, 28, 32, 40, 48, 64, 80, 96, 128, 160, 192,
    224, 256, 512,
];
/// Repairs of one choice.
const MAX_REPAIRS: usize = 64;
/// Elements of all inputs together.
const MAX_ELEMS: usize = 1 << 26;

/// Choices in order of preference, at least one. If only one is left, no other has any chance: nothing
/// is open, or nothing that was tried is accepted.
pub fn choices(program: &Outline, inputs: &NamedTensors) -> Vec<Sizes> {
    let known = given(program, inputs);
    let dims = &program.signature.dims;
    let open: Vec<&Symbol> = dims.iter().filter(|symbol| known.get(symbol).is_none()).collect();
    let starts = STARTS.iter().map(|start| {
        let sizes = open.iter().enumerate().map(|(k, symbol)| ((*symbol).clone(), start[k % start.len()]));
        with(&known, sizes.collect())
    });
    let starts: Vec<Sizes> = if open.is_empty() { starts.take(1).collect() } else { starts.collect() };
    let mut checks: Vec<DimCondition> = Vec::new();
    program.checks.iter().for_each(|check| conjuncts(&check.condition, &mut checks));
    let filled: Vec<DimCondition> = checks.iter().cloned().chain(nothing_empty(program)).collect();
    for conditions in [&filled, &checks] {
        let repaired = starts.iter().filter_map(|start| repair(start.clone(), conditions));
        let mut accepted: Vec<Sizes> = Vec::new();
        for sizes in repaired.filter(|sizes| is_moderate(program, &sizes.env)) {
            if accepted.iter().all(|other| other.chosen != sizes.chosen) {
                accepted.push(sizes);
            }
        }
        if !accepted.is_empty() {
            return accepted;
        }
    }
    starts.into_iter().take(1).collect()
}

/// What the shapes of the inputs say.
fn given(program: &Outline, inputs: &NamedTensors) -> DimEnv {
    let mut known = DimEnv::new();
    for port in &program.signature.inputs {
        let Some(tensor) = inputs.get(&port.name) else { continue };
        for (dim, size) in port.ty.shape.iter().zip(tensor.shape()) {
            if let (Some(symbol), Ok(size)) = (dim.as_symbol(), i64::try_from(*size)) {
                known.set(symbol.clone(), size);
            }
        }
    }
    known
}

fn with(known: &DimEnv, chosen: Vec<(Symbol, i64)>) -> Sizes {
    let mut env = known.clone();
    for (symbol, size) in &chosen {
        env.set(symbol.clone(), *size);
    }
    Sizes { env, chosen }
}

/// That every axis of every tensor is at least 1.
fn nothing_empty(program: &Outline) -> impl Iterator<Item = DimCondition> {
    program.axes.iter().map(|axis| DimCondition::Le(Dim::ONE, axis.clone()))
}

fn conjuncts(condition: &DimCondition, found: &mut Vec<DimCondition>) {
    match condition {
        DimCondition::And(a, b) => {
            conjuncts(a, found);
            conjuncts(b, found);
        }
        other => found.push(other.clone()),
    }
}

/// Sizes under which all conditions hold.
fn repair(mut sizes: Sizes, conditions: &[DimCondition]) -> Option<Sizes> {
    let holds = |env: &DimEnv, condition: &DimCondition| env.holds(condition).unwrap_or(false);
    for _ in 0..MAX_REPAIRS {
        let (kept, failing): (Vec<_>, Vec<_>) = conditions.iter().partition(|c| holds(&sizes.env, c));
        let Some(failing) = failing.first() else { return Some(sizes) };
        let mut symbols = Vec::new();
        failing.symbols(&mut symbols);
        let changes = LADDER.iter().flat_map(|size| (0..sizes.chosen.len()).map(move |k| (k, *size)));
        let changes = changes.filter(|(k, _)| symbols.contains(&sizes.chosen[*k].0));
        let changed = changes.map(|(k, size)| {
            let mut changed = sizes.clone();
            changed.chosen[k].1 = size;
            changed.env.set(changed.chosen[k].0.clone(), size);
            changed
        });
        let mended: Vec<Sizes> = changed.filter(|changed| holds(&changed.env, failing)).collect();
        let breaks_none = |changed: &&Sizes| kept.iter().all(|condition| holds(&changed.env, condition));
        let harmless: Vec<&Sizes> = mended.iter().filter(breaks_none).collect();
        let best = harmless.iter().copied().find(|changed| are_different(changed));
        sizes = best.or(harmless.first().copied()).or(mended.first())?.clone();
    }
    None
}

fn are_different(sizes: &Sizes) -> bool {
    let different: BTreeSet<i64> = sizes.chosen.iter().map(|(_, size)| *size).collect();
    different.len() == sizes.chosen.len()
}

/// Whether the inputs can be made.
fn is_moderate(program: &Outline, env: &DimEnv) -> bool {
    let elems = |shape: &[Dim]| env.shape(shape).ok()?.into_iter().try_fold(1usize, usize::checked_mul);
    let all = program.signature.inputs.iter().map(|port| elems(&port.ty.shape));
    let sum = all.reduce(|sum, elems| sum?.checked_add(elems?));
    sum.is_none_or(|sum| sum.is_some_and(|sum| sum <= MAX_ELEMS))
}
