//! Shapes, parameters and cost of every module instance.
//!
//! A row is a call of the program: an instance of a module at one place of the source. Which
//! instance it is follows from the weights that reach the call. The weights of a row are all that
//! it and what it calls read; FLOPs and bytes are those of all its repetitions, with what it calls
//! included, so that the first row, the model, is the sum.

use super::AnalysisError;
use crate::dim::Dim;
use crate::graph::cost::{Cost, Costs};
use crate::graph::ir::{FuncId, Graph, Op, Program, TensorType, Value};
use std::collections::{BTreeMap, BTreeSet};

/// One instance of a module.
#[derive(Clone, Debug)]
pub struct ModuleRow {
    /// How many calls lie around it.
    pub depth: usize,
    /// Where it is in the model, `layers.0.attn`: what the names of its weights begin with. Empty
    /// for the model and for what has no weights.
    pub path: String,
    /// The function called.
    pub function: FuncId,
    /// How often it runs in one call of the model: the steps of the recurrences around it.
    pub times: Dim,
    /// What it gives.
    pub outputs: Vec<TensorType>,
    /// # Units
    /// Elements of the weights it reads, buffers not counted.
    pub parameters: Dim,
    /// Of all its repetitions.
    pub cost: Cost,
}

/// The weights that a value is made of; `None` where an input has a part in it.
pub(super) type Origins = Option<BTreeSet<usize>>;

/// All instances in the order of execution, the model first.
///
/// # Errors
/// Formulas that overflow or have too many terms.
pub fn modules(program: &Program) -> Result<Vec<ModuleRow>, AnalysisError> {
    let mut walk = Walk { program, costs: Costs::of(program), rows: Vec::new() };
    walk.function(program.entry, entry_origins(program), 0, &Dim::ONE)?;
    Ok(walk.rows)
}

/// What the arguments of the entry are made of.
pub(super) fn entry_origins(program: &Program) -> Vec<Origins> {
    let inputs = program.signature.inputs.iter().map(|_| None);
    let weights = (0..program.signature.weights.len()).map(|k| Some(BTreeSet::from([k])));
    inputs.chain(weights).collect()
}

/// What every value of a graph is made of, for given arguments.
pub(super) fn origins(program: &Program, graph: &Graph, args: &[Origins]) -> BTreeMap<Value, Origins> {
    let mut known: BTreeMap<Value, Origins> = BTreeMap::new();
    for id in graph.topological() {
        let node = graph.node(id);
        let of = |value: &Value| known.get(value).cloned().flatten();
        let results: Vec<Origins> = match &node.op {
            Op::Arg(k) => vec![args.get(*k as usize).cloned().flatten()],
            Op::Call(callee) => {
                let operands: Vec<Origins> = graph.operands(id).iter().map(of).collect();
                let callee = &program.function(*callee).graph;
                let inner = origins(program, callee, &operands);
                callee.results.iter().map(|value| inner.get(value).cloned().flatten()).collect()
            }
            _ => {
                let operands = graph.operands(id);
                let parts: Option<Vec<BTreeSet<usize>>> = operands.iter().map(of).collect();
                let made_of = parts.filter(|p| !p.is_empty()).map(|p| p.into_iter().flatten().collect());
                vec![made_of; node.results.len()]
            }
        };
        for (result, origin) in results.into_iter().enumerate() {
            known.insert(Value { node: id, result: result as u32 }, origin);
        }
    }
    known
}

/// What the arguments of a recurrence's body are made of: the captures, then its sequences.
pub(super) fn body_origins(operands: &[Origins], captures: usize, sequences: usize) -> Vec<Origins> {
    operands.iter().take(captures).cloned().chain(std::iter::repeat_n(None, sequences)).collect()
}

/// The longest path of whole components that all given weights lie below.
pub(super) fn instance_path<'a>(weights: impl Iterator<Item = &'a str>) -> String {
    let mut common: Option<Vec<&str>> = None;
    for path in weights {
        let mut parts: Vec<&str> = path.split('.').collect();
        parts.pop();
        common = Some(match common {
            None => parts,
            Some(before) => before.iter().zip(&parts).take_while(|(a, b)| a == b).map(|(a, _)| *a).collect(),
        });
    }
    common.unwrap_or_default().join(".")
}

struct Walk<'a> {
    program: &'a Program,
    costs: Costs,
    rows: Vec<ModuleRow>,
}

impl Walk<'_> {
    fn function(
        &mut self,
        function: FuncId,
        args: Vec<Origins>,
        depth: usize,
        times: &Dim,
    ) -> Result<(), AnalysisError> {
        let program = self.program;
        let graph = &program.function(function).graph;
        let weights: BTreeSet<usize> = args.iter().flatten().flatten().copied().collect();
        let once = self.costs.function(function)?;
        let declared = &program.signature.weights;
        let params = weights.iter().map(|k| &declared[*k]).filter(|w| !w.buffer);
        let path = match depth {
            0 => String::new(),
            _ => instance_path(weights.iter().map(|k| declared[*k].path.as_str())),
        };
        self.rows.push(ModuleRow {
            depth,
            path,
            function,
            times: times.clone(),
            outputs: graph.results.iter().map(|value| graph.ty(*value).clone()).collect(),
            parameters: params
                .into_iter()
                .try_fold(Dim::ZERO, |sum, w| sum.add(&Dim::product(&w.ty.shape)?))?,
            cost: once.repeat(times)?,
        });
        self.graph(graph, &args, depth, times)
    }

    fn graph(
        &mut self,
        graph: &Graph,
        args: &[Origins],
        depth: usize,
        times: &Dim,
    ) -> Result<(), AnalysisError> {
        let known = origins(self.program, graph, args);
        for id in graph.topological() {
            let operands: Vec<Origins> =
                graph.operands(id).iter().map(|value| known.get(value).cloned().flatten()).collect();
            match &graph.node(id).op {
                Op::Call(callee) => self.function(*callee, operands, depth + 1, times)?,
                Op::Recur(recur) => {
                    let inner = body_origins(&operands, recur.captures, recur.sequences.len());
                    self.graph(&recur.body, &inner, depth, &times.mul(&recur.extent)?)?;
                }
                _ => {}
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::instance_path;

    #[test]
    fn an_instance_is_what_its_weights_have_in_common() {
        assert_eq!(instance_path(["layers.0.a.weight", "layers.0.b.bias"].into_iter()), "layers.0");
        assert_eq!(instance_path(["layers.10.w", "layers.1.w"].into_iter()), "layers");
        assert_eq!(instance_path(["weight"].into_iter()), "");
        assert_eq!(instance_path(std::iter::empty()), "");
    }
}
