//! The walk over the graphs of a program: a form for every value, a row for every named one.

use super::coord::Coord;
use super::elements::{Meaning, Setting, element};
use super::form::{Form, Variable};
use super::fun::real;
use super::moments::Moments;
use super::world::{Base, Kind, Notes, Source, Sources, World};
use super::{Row, Site, Spread};
use crate::analysis::modules::{Origins, entry_origins, instance_path, origins};
use crate::analysis::recurrence::Recurrence;
use crate::dim::Dim;
use crate::dtype::DType;
use crate::graph::dims::DimEnv;
use crate::graph::expr::VarId;
use crate::graph::ir::{FuncId, Graph, Index, Init, Node, Op, Port, Program, TensorType, Value, Weight};
use crate::ops::scalar::BinaryOp;
use crate::tensor::{Data, Tensor};
use indexmap::IndexMap;
use std::collections::BTreeMap;

/// Axes that an op may have.
const MAX_AXES: usize = 12;

/// Where a walk is.
pub(super) struct Walk<'a> {
    pub(super) program: &'a Program,
    pub(super) dims: &'a DimEnv,
    pub(super) world: World,
    pub(super) vars: BTreeMap<VarId, i64>,
    pub(super) fresh: u32,
    /// The calls and recurrences around.
    pub(super) at: Vec<Value>,
    /// The module around.
    pub(super) module: Module,
    /// By whether they are the model's outputs, and where they are.
    rows: IndexMap<(bool, Site), Sum>,
    /// For how many steps of the recurrences around this one stands; 0 for a trial.
    pub(super) repeat: f64,
    /// Where steps are looked at instead of being followed: what was found.
    pub(super) found: Option<Vec<Recurrence>>,
}

/// The module whose values are looked at.
#[derive(Clone)]
pub(super) struct Module {
    pub function: FuncId,
    depth: usize,
    pub path: String,
    /// Mean of the squares and mean of its first input of reals.
    input: Option<f64>,
}

/// A row under way: a value inside a recurrence is seen at every step.
struct Sum {
    row: Row,
    seen: f64,
    mean: f64,
    square: f64,
    inputs: f64,
}

/// The rows of a program.
pub(super) fn rows(program: &Program, dims: &DimEnv) -> Vec<Row> {
    let mut walk = Walk::new(program, dims, None);
    walk.run();
    walk.rows.into_values().map(Sum::finished).collect()
}

impl<'a> Walk<'a> {
    fn new(program: &'a Program, dims: &'a DimEnv, found: Option<Vec<Recurrence>>) -> Self {
        Walk {
            program,
            dims,
            world: World::new(found.is_some()),
            vars: BTreeMap::new(),
            fresh: program.signature.inputs.len() as u32,
            at: Vec::new(),
            module: Module { function: program.entry, depth: 0, path: String::new(), input: None },
            rows: IndexMap::new(),
            repeat: if found.is_some() { 0.0 } else { 1.0 },
            found,
        }
    }

    /// What the recurrences of a program are.
    pub(super) fn probe(program: &Program, dims: &DimEnv) -> Vec<Recurrence> {
        let mut walk = Walk::new(program, dims, Some(Vec::new()));
        walk.run();
        walk.found.unwrap_or_default()
    }

    fn run(&mut self) {
        let program = self.program;
        let signature = &program.signature;
        let mut args = Vec::new();
        for (k, port) in signature.inputs.iter().enumerate() {
            args.push(self.input(k, port));
        }
        for (k, weight) in signature.weights.iter().enumerate() {
            args.push(self.weight(k, weight));
        }
        let graph = &program.function(program.entry).graph;
        self.enter(program.entry, graph, &args, entry_origins(program), None);
    }
}

impl Walk<'_> {
    pub(super) fn sizes(&self, shape: &[Dim]) -> Option<Vec<i64>> {
        shape.iter().map(|dim| self.dims.eval(dim).ok().filter(|n| *n > 0)).collect()
    }

    pub(super) fn unknown(&mut self, why: &str) -> Meaning {
        Meaning::Real(self.world.unknown(why))
    }

    /// An input: standard normal, truths all true, integers whatever they are.
    fn input(&mut self, k: usize, port: &Port) -> Meaning {
        match port.ty.dtype {
            DType::Bool => Meaning::Real(Form::constant(1.0)),
            dtype if dtype.is_int() => Meaning::Data(k as u32),
            _ => {
                let Some(sizes) = self.sizes(&port.ty.shape) else { return self.unknown("an empty tensor") };
                Meaning::Real(self.leaf(k, &sizes, 1.0, true))
            }
        }
    }

    fn weight(&mut self, k: usize, weight: &Weight) -> Meaning {
        let Some(sizes) = self.sizes(&weight.ty.shape) else { return self.unknown("an empty tensor") };
        if self.found.is_some() {
            let leaf = self.program.signature.inputs.len() + k;
            return Meaning::Real(self.leaf(leaf, &sizes, 1.0, true));
        }
        if let Init::Fill(value) = weight.init {
            return Meaning::Real(Form::constant(value));
        }
        let shape: Vec<usize> = sizes.iter().map(|n| *n as usize).collect();
        let leaf = self.program.signature.inputs.len() + k;
        match weight.init.variance(&shape) {
            Some(variance) => {
                let normal = matches!(weight.init, Init::Normal(_));
                Meaning::Real(self.leaf(leaf, &sizes, variance, normal))
            }
            None => match crate::ops::init::initialise(&weight.init, DType::F64, &shape, "", 0) {
                Ok(tensor) => self.constant(&tensor),
                Err(_) => self.unknown("a weight that is too large"),
            },
        }
    }

    pub(super) fn leaf(&mut self, leaf: usize, sizes: &[i64], variance: f64, normal: bool) -> Form {
        let part = sizes.iter().map(|n| (0, n - 1)).collect();
        let source = Source { leaf: leaf as u32, part, rows: Vec::new() };
        let mut sources = Sources::default();
        sources.add(&source);
        let base = self.world.add(Base {
            sizes: sizes.to_vec(),
            moments: Moments::independent(0.0, variance, sizes.len()),
            kind: Kind::Leaf,
            sources,
            linear_in: vec![source],
            normal,
            normed: false,
            notes: Notes::default(),
            why: None,
        });
        Form::of(Variable { base, at: Coord::identity(sizes.len()) })
    }

    fn constant(&mut self, tensor: &Tensor) -> Meaning {
        let values: Vec<f64> = match tensor.data() {
            Data::F32(v) => v.iter().map(|x| f64::from(*x)).collect(),
            Data::F64(v) => v.to_vec(),
            Data::I32(v) => v.iter().map(|x| f64::from(*x)).collect(),
            Data::I64(v) => v.iter().map(|x| *x as f64).collect(),
            Data::Bool(v) => v.iter().map(|x| real(crate::ops::value::Scalar::Bool(*x))).collect(),
        };
        let sizes: Vec<i64> = tensor.shape().iter().map(|n| *n as i64).collect();
        if values.is_empty() || sizes.len() > MAX_AXES {
            return self.unknown("an empty tensor");
        }
        Meaning::Real(self.world.numbers(values, &sizes, Coord::identity(sizes.len())))
    }

    /// A call: the module's outputs, then what happens inside.
    fn enter(
        &mut self,
        function: FuncId,
        graph: &Graph,
        args: &[Meaning],
        from: Vec<Origins>,
        call: Option<Value>,
    ) -> Vec<Meaning> {
        let program = self.program;
        let outer = self.module.clone();
        let declared = &program.signature.weights;
        if call.is_some() {
            let weights: std::collections::BTreeSet<usize> =
                from.iter().flatten().flatten().copied().collect();
            self.module.path = instance_path(weights.iter().map(|k| declared[*k].path.as_str()));
            self.module.depth += 1;
            self.module.function = function;
        }
        // The module's input is the first argument of reals in which an input has a part.
        let first = (0..graph.args.len()).find(|k| {
            let ty = &graph.node(graph.args[*k]).results[0];
            from[*k].is_none() && ty.dtype.is_float()
        });
        self.module.input = first.filter(|_| self.found.is_none()).and_then(|k| {
            let Meaning::Real(form) = &args[k] else { return None };
            let ty = graph.node(graph.args[k]).results[0].clone();
            Some(self.spread(form, &ty).0.deviation)
        });
        if call.is_none() {
            for (id, meaning) in graph.args.iter().zip(args) {
                self.name(graph.node(*id), Value { node: *id, result: 0 }, meaning);
            }
        }
        let inside = self.module.clone();
        let sites: Vec<(bool, Site)> = (0..graph.results.len())
            .map(|k| {
                let value = call.map_or(graph.results[k], |call| Value { node: call.node, result: k as u32 });
                (call.is_none(), Site { at: self.at.clone(), value })
            })
            .collect();
        for (k, (value, key)) in graph.results.iter().zip(&sites).enumerate() {
            if graph.ty(*value).dtype.is_float() {
                let mut row = self.row(key.1.clone());
                row.output = Some(k);
                self.rows.entry(key.clone()).or_insert(Sum::new(row));
            }
        }
        self.at.extend(call);
        let results = self.graph(graph, args, &from);
        if call.is_some() {
            self.at.pop();
        }
        self.module = inside;
        for ((value, meaning), key) in graph.results.iter().zip(&results).zip(&sites) {
            self.see(key, meaning, graph.ty(*value));
        }
        self.module = outer;
        results
    }

    fn row(&self, site: Site) -> Row {
        Row {
            function: self.module.function,
            depth: self.module.depth,
            path: self.module.path.clone(),
            name: String::new(),
            output: None,
            site,
            spread: Spread::default(),
            ratio: None,
            notes: Notes::default(),
            why: None,
        }
    }

    /// Adds what is known of a value to its row, which is there already for outputs.
    fn see(&mut self, key: &(bool, Site), meaning: &Meaning, ty: &TensorType) {
        let Meaning::Real(form) = meaning else { return };
        if !self.rows.contains_key(key) || self.repeat == 0.0 {
            return;
        }
        let (spread, notes, why) = self.spread(form, ty);
        let input = self.module.input;
        if let Some(sum) = self.rows.get_mut(key) {
            let times = self.repeat;
            sum.seen += times;
            sum.mean += times * spread.mean;
            sum.square += times * (spread.deviation.powi(2) + spread.mean.powi(2));
            sum.inputs += times * input.unwrap_or(f64::NAN).powi(2);
            sum.row.notes = sum.row.notes.or(notes);
            sum.row.why = sum.row.why.take().or(why);
        }
    }

    fn spread(&mut self, form: &Form, ty: &TensorType) -> (Spread, Notes, Option<String>) {
        let Some(sizes) = self.sizes(&ty.shape) else {
            return (Spread::default(), Notes::default(), Some("an empty tensor".into()));
        };
        match self.world.check(form, &sizes) {
            Err(why) => (Spread::default(), Notes::default(), Some(why.to_string())),
            Ok(notes) => {
                let (mean, variance) = (self.world.mean(form), self.world.covariance(form, 0, &sizes));
                let why = match (mean.is_nan(), variance.is_nan()) {
                    (true, _) => Some("a function that is not defined for all values"),
                    (_, true) => Some("its summands are not independent"),
                    _ => None,
                };
                let why = why.map(str::to_string);
                (Spread { mean, deviation: variance.max(0.0).sqrt() }.or_nan(variance), notes, why)
            }
        }
    }

    pub(super) fn graph(&mut self, graph: &Graph, args: &[Meaning], from: &[Origins]) -> Vec<Meaning> {
        let known_origins = origins(self.program, graph, from);
        let order = graph.topological();
        let mut uses: BTreeMap<Value, usize> = BTreeMap::new();
        for value in order.iter().flat_map(|id| graph.operands(*id)).chain(graph.results.iter().copied()) {
            *uses.entry(value).or_insert(0) += 1;
        }
        let mut known: BTreeMap<Value, Meaning> = BTreeMap::new();
        for id in order {
            let node = graph.node(id);
            let values = graph.operands(id);
            let operands: Vec<Meaning> =
                values.iter().map(|v| known.get(v).cloned().unwrap_or(Meaning::Data(u32::MAX))).collect();
            let this = Value { node: id, result: 0 };
            let results = match &node.op {
                Op::Arg(k) => vec![args[*k as usize].clone()],
                Op::Call(callee) => {
                    let program = self.program;
                    let from = values.iter().map(|v| known_origins.get(v).cloned().flatten()).collect();
                    let operands = self.gathered(operands, &values, graph);
                    self.enter(*callee, &program.function(*callee).graph, &operands, from, Some(this))
                }
                Op::Recur(recur) => {
                    let from: Vec<Origins> =
                        values.iter().map(|v| known_origins.get(v).cloned().flatten()).collect();
                    let operands = self.gathered(operands, &values, graph);
                    self.recur(recur, node, &operands, &from, this)
                }
                _ => {
                    let types: Vec<&TensorType> = values.iter().map(|v| graph.ty(*v)).collect();
                    self.node(node, &operands, &types)
                }
            };
            for (k, meaning) in results.into_iter().enumerate() {
                let value = Value { node: id, result: k as u32 };
                let several = uses.get(&value).is_some_and(|n| *n > 1);
                let meaning = if several { self.one(meaning, &node.results[k]) } else { meaning };
                if !matches!(node.op, Op::Arg(_)) {
                    self.name(node, value, &meaning);
                }
                known.insert(value, meaning);
            }
        }
        graph.results.iter().map(|v| known.get(v).cloned().unwrap_or(Meaning::Data(u32::MAX))).collect()
    }

    /// A row for a value with a name.
    fn name(&mut self, node: &Node, value: Value, meaning: &Meaning) {
        let ty = &node.results[value.result as usize];
        let is_weight = matches!(node.op, Op::Arg(_)) && (!self.at.is_empty() || self.is_weight(node));
        let Some(name) = node.name.as_ref().filter(|_| ty.dtype.is_float() && !is_weight) else { return };
        let site = Site { at: self.at.clone(), value };
        let key = (false, site.clone());
        let outputs = [key.clone(), (true, site.clone())];
        if outputs.iter().any(|k| self.rows.get(k).is_some_and(|sum| sum.row.output.is_some())) {
            return;
        }
        let mut row = self.row(site);
        row.name = name.to_string();
        self.rows.entry(key.clone()).or_insert(Sum::new(row));
        self.see(&key, meaning, ty);
    }

    fn is_weight(&self, node: &Node) -> bool {
        matches!(node.op, Op::Arg(k) if k as usize >= self.program.signature.inputs.len())
    }

    /// A sum of several variables as one variable, so that what reads it twice stays small.
    fn one(&mut self, meaning: Meaning, ty: &TensorType) -> Meaning {
        match meaning {
            Meaning::Real(form) if form.terms.len() > 1 && form.variables().len() > 1 => match self
                .sizes(&ty.shape)
            {
                Some(sizes) => Meaning::Real(self.world.function(super::fun::Fun::IDENTITY, &form, &sizes)),
                None => self.unknown("an empty tensor"),
            },
            other => other,
        }
    }

    fn gathered(&mut self, operands: Vec<Meaning>, values: &[Value], graph: &Graph) -> Vec<Meaning> {
        operands.into_iter().zip(values).map(|(meaning, value)| self.one(meaning, graph.ty(*value))).collect()
    }

    fn node(&mut self, node: &Node, operands: &[Meaning], types: &[&TensorType]) -> Vec<Meaning> {
        match &node.op {
            Op::Const(tensor) => vec![self.constant(tensor)],
            Op::Index(index) => vec![self.index(index, node, operands, types)],
            Op::TopK(_) => vec![self.unknown("no rule for `top_k`"), self.data()],
            _ => node.results.iter().map(|_| self.unknown("an op that passes make")).collect(),
        }
    }

    fn data(&mut self) -> Meaning {
        self.fresh += 1;
        Meaning::Data(self.fresh)
    }

    fn index(&mut self, index: &Index, node: &Node, operands: &[Meaning], types: &[&TensorType]) -> Meaning {
        let extents = index.extents();
        let shapes: Option<Vec<Vec<i64>>> = types.iter().map(|ty| self.sizes(&ty.shape)).collect();
        let all = (self.sizes(&extents), self.sizes(&node.results[0].shape), shapes);
        let (Some(sizes), Some(shape), Some(shapes)) = all else { return self.unknown("an empty tensor") };
        if sizes.len().max(shape.len()) > MAX_AXES {
            return self.unknown("too many axes");
        }
        let setting = Setting {
            world: &mut self.world,
            dims: self.dims,
            vars: &self.vars,
            operands,
            shapes: &shapes,
            fresh: &mut self.fresh,
        };
        let Some(form) = element(index, &sizes, setting) else { return self.data() };
        let iterate = &sizes[..index.iterate.len()];
        if iterate == shape {
            return Meaning::Real(form);
        }
        let form = form.read_at(&ungrouped(iterate, &shape), &shape, &mut self.world.funs);
        Meaning::Real(self.world.simplified(&form, &shape))
    }
}

/// Where the iterate axes of a result with groups are, by the result's own axes.
fn ungrouped(iterate: &[i64], shape: &[i64]) -> Vec<Coord> {
    let strides = |sizes: &[i64]| {
        let mut stride = 1;
        let mut all: Vec<i64> = sizes
            .iter()
            .rev()
            .map(|n| {
                stride *= n;
                stride / n
            })
            .collect();
        all.reverse();
        all
    };
    let place = strides(shape)
        .into_iter()
        .enumerate()
        .fold(Coord::default(), |sum, (axis, stride)| sum.plus(&Coord::axis(axis), stride));
    let part = |(size, stride): (&i64, i64)| {
        let above = Coord::op(BinaryOp::FloorDiv, &place, &Coord::fixed(stride), shape);
        Coord::op(BinaryOp::Mod, &above, &Coord::fixed(*size), shape)
    };
    iterate.iter().zip(strides(iterate)).map(part).collect()
}

impl Sum {
    fn new(row: Row) -> Self {
        Sum { row, seen: 0.0, mean: 0.0, square: 0.0, inputs: 0.0 }
    }

    fn finished(mut self) -> Row {
        let (mean, square) = (self.mean / self.seen, self.square / self.seen);
        let deviation = (square - mean * mean).max(0.0).sqrt();
        self.row.spread = Spread { mean, deviation }.or_nan(square);
        let input = (self.inputs / self.seen).sqrt();
        let ratio = self.row.spread.deviation / input;
        self.row.ratio = Some(ratio).filter(|r| r.is_finite());
        self.row
    }
}

impl Spread {
    /// The same, or nothing where this is not known.
    fn or_nan(self, known: f64) -> Spread {
        if known.is_nan() { Spread::default() } else { self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_of_a_result_come_apart() {
        let at = ungrouped(&[2, 3, 4], &[2, 12]);
        assert_eq!(at[0], Coord::axis(0));
        assert_eq!((at[1].at(&[1, 7]), at[2].at(&[1, 7])), (Some(1), Some(3)));
        assert_eq!(at[1].times(4).plus(&at[2], 1), Coord::axis(1));
    }
}
