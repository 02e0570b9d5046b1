//! Fields of whole graphs: reads composed along operands, calls and recurrences.

use super::domain::{Domain, Fields, renamed};
use super::positions::{Coord, Positions};
use super::reads::Reader;
use super::union::Union;
use crate::dim::Dim;
use crate::graph::affine::{Interval, Ranges};
use crate::graph::expr::VarId;
use crate::graph::ir::{Graph, Index, Node, Op, Program, Recur, TensorType, Value};
use std::collections::BTreeMap;

/// The walk over a program.
pub struct Flow<'a> {
    program: &'a Program,
    vars: BTreeMap<VarId, Interval>,
}

impl<'a> Flow<'a> {
    /// A walk.
    pub fn new(program: &'a Program) -> Self {
        Flow { program, vars: BTreeMap::new() }
    }

    /// The fields of the entry's outputs.
    pub fn outputs(&mut self) -> Vec<Fields> {
        let signature = &self.program.signature;
        let own = |(k, port): (usize, &crate::graph::ir::Port)| {
            let axes = 0..port.ty.shape.len();
            Fields::of(k, axes.map(|axis| Union::of(Positions::coord(Coord::Axis(axis)))).collect())
        };
        let inputs = signature.inputs.iter().enumerate().map(own);
        let args = inputs.chain(signature.weights.iter().map(|_| Fields::new())).collect::<Vec<_>>();
        let program = self.program;
        self.graph(&program.function(program.entry).graph, &args)
    }

    fn graph(&mut self, graph: &Graph, args: &[Fields]) -> Vec<Fields> {
        let mut known: BTreeMap<Value, Fields> = BTreeMap::new();
        for id in graph.topological() {
            let values = graph.operands(id);
            let operands: Vec<Fields> =
                values.iter().map(|value| known.get(value).cloned().unwrap_or_default()).collect();
            let types: Vec<TensorType> = values.iter().map(|value| graph.ty(*value).clone()).collect();
            let results = match &graph.node(id).op {
                Op::Arg(k) => vec![args.get(*k as usize).cloned().unwrap_or_default()],
                _ => self.node(graph.node(id), &operands, &types),
            };
            for (result, fields) in results.into_iter().enumerate() {
                known.insert(Value { node: id, result: result as u32 }, fields);
            }
        }
        graph.results.iter().map(|value| known.get(value).cloned().unwrap_or_default()).collect()
    }

    fn node(&mut self, node: &Node, operands: &[Fields], types: &[TensorType]) -> Vec<Fields> {
        match &node.op {
            Op::Arg(_) | Op::Const(_) => vec![Fields::new()],
            Op::Index(index) => {
                let shape = node.results.first().map_or(&[][..], |ty| &ty.shape);
                vec![self.index(index, shape, operands, types)]
            }
            Op::TopK(_) => {
                let at = |axis, axes| {
                    if axis + 1 == axes { Positions::whole() } else { Positions::coord(Coord::Axis(axis)) }
                };
                vec![self.everywhere(operands, types, &at); node.results.len()]
            }
            Op::Call(callee) => {
                let program = self.program;
                self.graph(&program.function(*callee).graph, operands)
            }
            Op::Recur(recur) => self.recur(recur, operands, types),
            // Passes make these of the ops above; what they read is not taken apart again.
            Op::MatMul(_) | Op::Segment(_) | Op::Scan(_) | Op::Transform(_) | Op::Region(_) => {
                vec![self.everywhere(operands, types, &|_, _| Positions::unresolved()); node.results.len()]
            }
        }
    }

    fn index(&self, index: &Index, shape: &[Dim], operands: &[Fields], types: &[TensorType]) -> Fields {
        let ranges = Ranges { indices: index.extents(), vars: self.vars.clone() };
        let reader = Reader::new(index, shape, &ranges);
        let supports: Vec<&Domain> = operands.iter().map(|operand| &operand.support).collect();
        let mut fields = Fields::new();
        fields.support = reader.result_support(&supports);
        for site in reader.sites(&supports) {
            let Some((operand, ty)) = operands.get(site.port as usize).zip(types.get(site.port as usize))
            else {
                continue;
            };
            let mut known: BTreeMap<&Domain, Option<(Vec<Positions>, Domain)>> = BTreeMap::new();
            for (input, domain, axes) in operand.iter() {
                let at = known.entry(domain).or_insert_with(|| reader.at(&site, ty, domain));
                if let Some((at, domain)) = at {
                    fields.add(input, domain.clone(), self.composed(input, axes, at));
                }
            }
        }
        fields
    }

    /// What operands contribute that are read by a rule for each axis, whatever their domains.
    fn everywhere(
        &self,
        operands: &[Fields],
        types: &[TensorType],
        at: &dyn Fn(usize, usize) -> Positions,
    ) -> Fields {
        let mut fields = Fields::new();
        for (operand, ty) in operands.iter().zip(types) {
            let axes = ty.shape.len();
            let at: Vec<Positions> = (0..axes).map(|axis| at(axis, axes)).collect();
            for (input, _, axes) in operand.iter() {
                fields.add(input, Domain::new(), self.composed(input, axes, &at));
            }
        }
        fields
    }

    /// An operand's unions where it is read `at`.
    fn composed(&self, input: usize, axes: &[Union], at: &[Positions]) -> Vec<Union> {
        let resolve = |coord: Coord| match coord {
            Coord::Axis(axis) => at.get(axis).cloned(),
            Coord::Var(_) => Some(Positions::coord(coord)),
        };
        let composed =
            axes.iter().enumerate().map(|(axis, union)| union.compose(&resolve, self.extent(input, axis)));
        composed.collect()
    }

    fn extent(&self, input: usize, axis: usize) -> Option<&Dim> {
        self.program.signature.inputs.get(input)?.ty.shape.get(axis)
    }

    /// Steps are repeated until nothing grows; what still grows after as many as any chain of lags
    /// can explain goes on to the end of its axis.
    fn recur(&mut self, recur: &Recur, operands: &[Fields], types: &[TensorType]) -> Vec<Fields> {
        let last = recur.start.add(&recur.extent).and_then(|end| end.sub(&Dim::ONE)).ok();
        self.vars.insert(recur.var, Interval { low: Some(recur.start.clone()), high: last });
        let mut next = recur.captures;
        let mut begin: Vec<Fields> = Vec::new();
        for sequence in &recur.sequences {
            let end = (next + sequence.lags).min(operands.len());
            let at = |axis, _| Positions::coord(Coord::Axis(axis + usize::from(axis >= sequence.axis)));
            begin.push(self.everywhere(&operands[next..end], &types[next..end], &at));
            next = end;
        }
        let mut sequences = begin.clone();
        let lags: usize = recur.sequences.iter().map(|sequence| sequence.lags + 1).sum();
        // Each axis of each sequence can be widened twice.
        let enough = 2 * lags + 8 * recur.sequences.len() + 16;
        let mut direct: Option<Vec<Fields>> = None;
        for round in 0.. {
            let args: Vec<Fields> = operands.iter().take(recur.captures).chain(&sequences).cloned().collect();
            let slices = self.graph(&recur.body, &args);
            let mut next = begin.clone();
            for ((fields, slice), sequence) in next.iter_mut().zip(&slices).zip(&recur.sequences) {
                place(fields, slice, recur, sequence.axis, sequence.lags);
            }
            if next == sequences {
                break;
            }
            if round > 2 * enough {
                sequences = next.iter().map(anywhere).collect();
                break;
            }
            if round > lags {
                next =
                    sequences.iter().zip(next).map(|(old, new)| widened(old, new, round > enough)).collect();
            }
            direct.get_or_insert_with(|| next.clone());
            sequences = next;
        }
        self.vars.remove(&recur.var);
        let direct = direct.unwrap_or_default();
        let steps = recur.sequences.iter().zip(sequences).enumerate();
        let noted = steps.map(|(k, (sequence, fields))| {
            let lags = if recur.reverse { Dim::ZERO } else { Dim::from(sequence.lags as i64) };
            let last = lags.add(&recur.extent).and_then(|end| end.sub(&Dim::ONE)).ok();
            fields.with(&mut |input, domain, axis, union| {
                let before = direct.get(k).and_then(|fields| fields.get(input, domain, axis));
                let reached = |part: &Positions| {
                    let extent = self.extent(input, axis);
                    before.zip(extent).zip(last.as_ref()).is_some_and(|((before, extent), last)| {
                        before.reaches(part, Coord::Axis(sequence.axis), &lags, last, extent)
                    })
                };
                union.noting_unless(&reached)
            })
        });
        noted.collect()
    }
}

/// Adds a slice's fields over the axes of the extended sequence.
fn place(fields: &mut Fields, slice: &Fields, recur: &Recur, time: usize, lags: usize) {
    let step = || {
        let lags = if recur.reverse { Dim::ZERO } else { Dim::from(lags as i64) };
        let first = recur.start.sub(&lags).ok()?;
        Positions::coord(Coord::Axis(time)).sum(&Positions::constant(&first))
    };
    let resolve = |coord: Coord| match coord {
        Coord::Axis(axis) => Some(Positions::coord(Coord::Axis(axis + usize::from(axis >= time)))),
        Coord::Var(var) if var == recur.var => step(),
        Coord::Var(_) => Some(Positions::coord(coord)),
    };
    for (input, domain, axes) in slice.iter() {
        let axes = axes.iter().map(|union| union.compose(&resolve, None)).collect();
        fields.add(input, renamed(domain, &resolve), axes);
    }
}

/// The same inputs, of which anything may be taken.
fn anywhere(fields: &Fields) -> Fields {
    let mut all = Fields::new();
    for (input, _, axes) in fields.iter() {
        all.add(input, Domain::new(), vec![Union::of(Positions::unresolved()); axes.len()]);
    }
    all
}

/// What has grown from `old` to `new`, with its ends open; `give_up` opens all that differs.
fn widened(old: &Fields, new: Fields, give_up: bool) -> Fields {
    new.with(&mut |input, domain, axis, union| match old.get(input, domain, axis) {
        Some(before) if before == union => union.clone(),
        Some(before) if !give_up => before.widened(union),
        _ if !give_up => union.clone(),
        _ => Union::of(Positions::unresolved()),
    })
}
