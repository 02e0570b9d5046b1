//! What is known of a program from outside: enough to choose inputs and to rate a call, without its graph.

use crate::dim::Dim;
use crate::graph::cost::{self, Cost};
use crate::graph::ir::{DimCheck, Program, Signature};
use std::collections::BTreeSet;

/// The outside of a program.
#[derive(Clone, Debug)]
pub struct Outline {
    /// What it takes and gives.
    pub signature: Signature,
    /// Conditions on its dimensions.
    pub checks: Vec<DimCheck>,
    /// The axes of all tensors in it whose sizes are not known, each once.
    pub axes: Vec<Dim>,
    /// What a call computes and moves by the definitions; `None` where the formulas are too large.
    pub cost: Option<Cost>,
}

impl Outline {
    /// Of a program before any pass: those change what is computed, not what the model asks for.
    pub fn of(program: &Program) -> Outline {
        let mut axes: BTreeSet<Dim> = BTreeSet::new();
        for function in &program.functions {
            let graph = &function.graph;
            let types = graph.topological().into_iter().flat_map(|id| graph.node(id).results.clone());
            axes.extend(types.flat_map(|ty| ty.shape).filter(|dim| dim.as_const().is_none()));
        }
        Outline {
            signature: program.signature.clone(),
            checks: program.checks.clone(),
            axes: axes.into_iter().collect(),
            cost: cost::program(program).ok(),
        }
    }
}
