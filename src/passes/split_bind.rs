//! Splits what depends on weights alone from what runs at every call.
//!
//! Afterwards `program.bind` maps the weights to the *parts*, everything the entry reads of them,
//! and the entry's arguments are its inputs and the parts. A called function that computes
//! something from its weight arguments is split likewise, into `f` and `f.bind`, so that repeated
//! modules prepare their own weights with shared code.

use super::Changed;
use super::bindtime::{bind_time_args, bind_time_nodes};
use crate::graph::ir::{FuncId, Function, Graph, Op, Program, Value};
use petgraph::stable_graph::NodeIndex;
use std::collections::{BTreeMap, BTreeSet};

/// Splits every function; the entry always.
pub fn split_bind(program: &mut Program) -> Changed {
    if program.bind.is_some() {
        return Changed::No;
    }
    let args = bind_time_args(program);
    let mut splitter = Splitter { functions: Vec::new(), split: BTreeMap::new() };
    let functions = std::mem::take(&mut program.functions);
    let (mut entry, mut bind) = (program.entry, None);
    for (at, mut function) in functions.into_iter().enumerate() {
        let old = FuncId(at as u32);
        splitter.redirect(&mut function.graph);
        if old == program.entry {
            bind = splitter.split_entry(&function, program.signature.inputs.len());
            entry = match bind {
                Some(_) => FuncId(splitter.functions.len() as u32 - 1),
                None => splitter.push(function),
            };
        } else {
            splitter.split_callee(old, function, &args[at]);
        }
    }
    program.functions = splitter.functions;
    program.entry = entry;
    program.bind = bind;
    Changed::Yes
}

/// What became of a function.
struct Split {
    main: FuncId,
    /// The bind half, and which of the old arguments it takes.
    bind: Option<(FuncId, Vec<usize>)>,
    /// The old arguments that the main half still takes.
    kept: Vec<usize>,
    /// Number of parts that follow them.
    parts: usize,
}

struct Splitter {
    functions: Vec<Function>,
    split: BTreeMap<FuncId, Split>,
}

impl Splitter {
    fn push(&mut self, function: Function) -> FuncId {
        self.functions.push(function);
        FuncId(self.functions.len() as u32 - 1)
    }

    /// Makes every call go to the halves of its callee.
    fn redirect(&self, graph: &mut Graph) {
        for id in graph.topological() {
            match &mut graph.dag[id].op {
                Op::Call(callee) => {
                    let callee = *callee;
                    self.redirect_call(graph, id, &self.split[&callee]);
                }
                Op::Recur(recur) => self.redirect(&mut recur.body),
                Op::Region(region) => self.redirect(&mut region.body),
                _ => {}
            }
        }
    }

    fn redirect_call(&self, graph: &mut Graph, id: NodeIndex, split: &Split) {
        let operands = graph.operands(id);
        let mut main: Vec<Value> = split.kept.iter().map(|k| operands[*k]).collect();
        if let Some((bind, taken)) = &split.bind {
            let mut node = graph.node(id).clone();
            node.op = Op::Call(*bind);
            let halves = &self.functions[bind.0 as usize].graph;
            node.results = halves.results.iter().map(|v| halves.ty(*v).clone()).collect();
            node.name = None;
            let weights: Vec<Value> = taken.iter().map(|k| operands[*k]).collect();
            let parts = graph.add(node, &weights);
            main.extend((0..split.parts as u32).map(|result| Value { node: parts, result }));
        }
        graph.dag[id].op = Op::Call(split.main);
        graph.set_operands(id, &main);
    }

    fn split_callee(&mut self, old: FuncId, function: Function, args: &[bool]) {
        let known = bind_time_nodes(&function.graph, args);
        let parts: Vec<Value> = frontier(&function.graph, &known)
            .into_iter()
            .filter(|v| !matches!(function.graph.node(v.node).op, Op::Arg(_)))
            .collect();
        if parts.is_empty() {
            let kept = (0..function.graph.args.len()).collect();
            let main = self.push(function);
            self.split.insert(old, Split { main, bind: None, kept, parts: 0 });
            return;
        }
        let taken: Vec<usize> = (0..args.len()).filter(|k| args[*k]).collect();
        let bind = extract(&function.graph, &known, &taken, &parts);
        let bind = self.push(Function { name: format!("{}.bind", function.name).into(), graph: bind });
        let (main, kept) = remainder(&function.graph, &known, &parts, &|_| true);
        let main = self.push(Function { name: function.name, graph: main });
        let split = Split { main, bind: Some((bind, taken)), kept, parts: parts.len() };
        self.split.insert(old, split);
    }

    /// Pushes the bind half and the main half of the entry; `None` if it reads no weight.
    fn split_entry(&mut self, function: &Function, inputs: usize) -> Option<FuncId> {
        let graph = &function.graph;
        let args: Vec<bool> = (0..graph.args.len()).map(|k| k >= inputs).collect();
        let known = bind_time_nodes(graph, &args);
        let parts = frontier(graph, &known);
        if parts.is_empty() && graph.args.len() == inputs {
            return None;
        }
        let taken: Vec<usize> = (inputs..graph.args.len()).collect();
        let bind = extract(graph, &known, &taken, &parts);
        let bind = self.push(Function { name: format!("{}.bind", function.name).into(), graph: bind });
        let (main, _) = remainder(graph, &known, &parts, &|k| k < inputs);
        self.push(Function { name: function.name.clone(), graph: main });
        Some(bind)
    }
}

/// The bind-time values that something else uses, in canonical order.
fn frontier(graph: &Graph, known: &BTreeSet<NodeIndex>) -> Vec<Value> {
    let mut found = BTreeSet::new();
    for id in graph.dag.node_indices().filter(|id| !known.contains(id)) {
        found.extend(graph.operands(id).into_iter().filter(|v| known.contains(&v.node)));
    }
    found.extend(graph.results.iter().filter(|v| known.contains(&v.node)));
    let order = graph.topological();
    let mut found: Vec<Value> = found.into_iter().collect();
    found.sort_by_key(|v| (order.iter().position(|id| *id == v.node), v.result));
    found
}

/// The bind half: the arguments `taken`, the bind-time nodes, and the parts as results.
fn extract(graph: &Graph, known: &BTreeSet<NodeIndex>, taken: &[usize], parts: &[Value]) -> Graph {
    let mut half = Graph::new();
    let mut moved: BTreeMap<NodeIndex, NodeIndex> = BTreeMap::new();
    for k in taken {
        let arg = graph.args[*k];
        let node = graph.node(arg);
        let value = half.add_arg(node.results[0].clone(), node.span, node.name.clone());
        moved.insert(arg, value.node);
    }
    copy_nodes(graph, &mut half, &mut moved, &|id| known.contains(&id));
    half.results = parts.iter().map(|v| Value { node: moved[&v.node], result: v.result }).collect();
    super::walk::sweep(&mut half);
    half
}

/// The main half: arguments that are still used (or that `always` keeps), then the parts.
fn remainder(
    graph: &Graph,
    known: &BTreeSet<NodeIndex>,
    parts: &[Value],
    always: &dyn Fn(usize) -> bool,
) -> (Graph, Vec<usize>) {
    let mut half = Graph::new();
    let mut moved: BTreeMap<NodeIndex, NodeIndex> = BTreeMap::new();
    let mut kept = Vec::new();
    for (k, arg) in graph.args.iter().enumerate() {
        let used_here = graph.users(*arg).iter().any(|user| !known.contains(user));
        let is_part = parts.iter().any(|part| part.node == *arg);
        let needed = used_here || graph.results.iter().any(|r| r.node == *arg);
        if is_part || !(always(k) && (needed || !known.contains(arg))) {
            continue;
        }
        let node = graph.node(*arg);
        let value = half.add_arg(node.results[0].clone(), node.span, node.name.clone());
        moved.insert(*arg, value.node);
        kept.push(k);
    }
    let mut part_of: BTreeMap<Value, Value> = BTreeMap::new();
    for part in parts {
        let node = graph.node(part.node);
        let ty = graph.ty(*part).clone();
        part_of.insert(*part, half.add_arg(ty, node.span, node.name.clone()));
    }
    for id in graph.topological() {
        let node = graph.node(id);
        if known.contains(&id) || matches!(node.op, Op::Arg(_)) {
            continue;
        }
        let at = |v: &Value| part_of.get(v).copied().unwrap_or_else(|| Value { node: moved[&v.node], ..*v });
        let operands: Vec<Value> = graph.operands(id).iter().map(at).collect();
        let new = half.add(node.clone(), &operands);
        moved.insert(id, new);
    }
    let at = |v: &Value| part_of.get(v).copied().unwrap_or_else(|| Value { node: moved[&v.node], ..*v });
    half.results = graph.results.iter().map(at).collect();
    (half, kept)
}

fn copy_nodes(
    graph: &Graph,
    target: &mut Graph,
    moved: &mut BTreeMap<NodeIndex, NodeIndex>,
    wanted: &dyn Fn(NodeIndex) -> bool,
) {
    for id in graph.topological() {
        let node = graph.node(id);
        if !wanted(id) || matches!(node.op, Op::Arg(_)) {
            continue;
        }
        let at = |v: &Value| Value { node: moved[&v.node], result: v.result };
        let operands: Vec<Value> = graph.operands(id).iter().map(at).collect();
        let new = target.add(node.clone(), &operands);
        moved.insert(id, new);
    }
}
