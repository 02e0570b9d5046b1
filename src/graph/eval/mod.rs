//! The reference evaluator: what a program computes, one definition at a time.
//!
//! Takes a verified [`Program`], tensors and the sizes of the call, and gives the outputs. It is
//! written to be obvious and is the oracle that everything compiled is compared with, so it
//! shares nothing with the loop IR or code generation: scalar operations are those of
//! [`crate::ops::value`], and every op is evaluated as its documentation defines it.
//!
//! # Numerics
//! [`Mode::Declared`] rounds each operation in its declared type and accumulates a reduction in
//! that type, starting from the reducer's identity, in row-major order of the reduced indices.
//! [`Mode::F64`] stores and computes every real in f64, so that a cast to f32 rounds nothing;
//! integers and truth values are the same in both.

mod control;
mod error;
mod index;
mod matmul;
mod point;
mod store;
#[cfg(test)]
mod tests;
mod transform;

pub use error::EvalError;

use super::dims::DimEnv;
use super::expr::VarId;
use super::ir::{Graph, Node, Op, Program, TensorType, Value};
use super::print::type_text;
use crate::dim::Dim;
use crate::dtype::DType;
use crate::ops::top_k::top_k;
use crate::ops::value::Scalar;
use crate::span::Span;
use crate::tensor::{ShapeText, Tensor, TensorError};
use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::sync::Arc;

/// In which types reals are computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// All in f64: the truth that tolerances are measured from.
    F64,
    /// Each in its declared type: what thresholds, ties, overflow and special values do.
    Declared,
}

impl Mode {
    /// The type in which values of a declared type are held.
    pub fn stored(self, declared: DType) -> DType {
        match self {
            Mode::F64 if declared.is_float() => DType::F64,
            _ => declared,
        }
    }
}

/// The outputs of a program, in the order of its signature.
///
/// Weights come in the signature's order; `bind` is evaluated too where the program has one.
/// In [`Mode::F64`] outputs declared as f32 are returned as f64.
///
/// # Errors
/// [`EvalError`]: tensors that do not fit the signature, reads out of range, integer division by
/// zero, sizes that cannot be computed.
pub fn evaluate(
    program: &Program,
    inputs: &[impl Borrow<Tensor>],
    weights: &[impl Borrow<Tensor>],
    dims: &DimEnv,
    mode: Mode,
) -> Result<Vec<Tensor>, EvalError> {
    evaluate_watched(program, inputs, weights, dims, mode, None)
}

/// Is shown every value of a run as it is computed: the calls and recurrences around its node,
/// outermost first, each by its first result; the value; and what it is. Steps of a recurrence are
/// shown one by one.
pub type Watch<'a> = &'a dyn Fn(&[Value], Value, &Tensor);

/// [`evaluate`], with somebody who looks on.
///
/// # Errors
/// As [`evaluate`].
pub fn evaluate_watched(
    program: &Program,
    inputs: &[impl Borrow<Tensor>],
    weights: &[impl Borrow<Tensor>],
    dims: &DimEnv,
    mode: Mode,
    watch: Option<Watch<'_>>,
) -> Result<Vec<Tensor>, EvalError> {
    let (vars, consts, around) = (BTreeMap::new(), BTreeMap::new(), Vec::new());
    let mut machine = Machine { program, dims, mode, vars, consts, watch, around };
    let signature = &program.signature;
    let inputs =
        machine.passed("input", inputs, signature.inputs.iter().map(|p| (p.name.as_str(), &p.ty, p.span)))?;
    let mut parts = machine.passed(
        "weight",
        weights,
        signature.weights.iter().map(|w| (w.path.as_str(), &w.ty, w.span)),
    )?;
    if let Some(bind) = program.bind {
        parts = machine.graph(&program.function(bind).graph, parts)?;
    }
    let args = inputs.into_iter().chain(parts).collect();
    let outputs = machine.graph(&program.function(program.entry).graph, args)?;
    let spans = signature.outputs.iter().map(|port| port.span);
    let owned = outputs.into_iter().zip(spans).map(|(output, span)| {
        // One that is named twice, or is an input, is still held elsewhere.
        let shared = |output: Arc<Tensor>| output.try_clone();
        Arc::try_unwrap(output).or_else(shared).map_err(|error| EvalError::Tensor { error, span })
    });
    owned.collect()
}

/// The state of an evaluation.
struct Machine<'a> {
    program: &'a Program,
    dims: &'a DimEnv,
    mode: Mode,
    /// Where the enclosing recurrences and regions are.
    vars: BTreeMap<VarId, i64>,
    /// Constants as stored, by the address of the original, so that a step does not copy them.
    consts: BTreeMap<usize, Arc<Tensor>>,
    /// Who looks on.
    watch: Option<Watch<'a>>,
    /// The calls and recurrences around the graph under evaluation.
    around: Vec<Value>,
}

impl Machine<'_> {
    /// What is passed in, as stored, once it is known to fit.
    fn passed<'x>(
        &self,
        kind: &'static str,
        tensors: &[impl Borrow<Tensor>],
        ports: impl ExactSizeIterator<Item = (&'x str, &'x TensorType, Span)>,
    ) -> Result<Vec<Arc<Tensor>>, EvalError> {
        let (expected, found) = (ports.len(), tensors.len());
        if expected != found {
            return Err(EvalError::Count { kind, expected, found });
        }
        let mut passed = Vec::with_capacity(found);
        for ((name, ty, span), tensor) in ports.zip(tensors) {
            let tensor = tensor.borrow();
            let shape = self.shape(&ty.shape, span)?;
            if tensor.dtype() != ty.dtype || tensor.shape() != shape {
                let found = format!("{} of shape {}", tensor.dtype(), ShapeText(tensor.shape()));
                let name = format!("{kind} `{name}`");
                return Err(EvalError::Passed { name, expected: type_text(ty), found, span });
            }
            passed.push(Arc::new(store::converted(tensor, self.mode.stored(ty.dtype), span)?));
        }
        Ok(passed)
    }

    /// The results of a graph for given arguments.
    fn graph(&mut self, graph: &Graph, args: Vec<Arc<Tensor>>) -> Result<Vec<Arc<Tensor>>, EvalError> {
        let order = graph.topological();
        let mut uses: BTreeMap<Value, usize> = BTreeMap::new();
        for value in order.iter().flat_map(|id| graph.operands(*id)).chain(graph.results.iter().copied()) {
            *uses.entry(value).or_insert(0) += 1;
        }
        let mut values: BTreeMap<Value, Arc<Tensor>> = BTreeMap::new();
        let mut take = |values: &mut BTreeMap<Value, Arc<Tensor>>, value: Value| {
            let left = uses.get_mut(&value).map(|n| {
                *n -= 1;
                *n
            });
            // The last use takes the value, so that memory is given back early.
            let found = if left == Some(0) { values.remove(&value) } else { values.get(&value).cloned() };
            found.expect("invariant: operands are evaluated before their users")
        };
        for id in order {
            let node = graph.node(id);
            let results = match node.op {
                Op::Arg(k) => vec![args[k as usize].clone()],
                _ => {
                    let operands = graph.operands(id).iter().map(|value| take(&mut values, *value)).collect();
                    self.around.push(Value { node: id, result: 0 });
                    let results = self.node(node, operands)?;
                    self.around.pop();
                    results
                }
            };
            for (k, result) in results.into_iter().enumerate() {
                if let Some(watch) = self.watch {
                    watch(&self.around, Value { node: id, result: k as u32 }, &result);
                }
                values.insert(Value { node: id, result: k as u32 }, result);
            }
        }
        Ok(graph.results.iter().map(|value| take(&mut values, *value)).collect())
    }

    fn node(&mut self, node: &Node, operands: Vec<Arc<Tensor>>) -> Result<Vec<Arc<Tensor>>, EvalError> {
        let one = |tensor: Tensor| vec![Arc::new(tensor)];
        match &node.op {
            Op::Arg(_) => Ok(operands),
            Op::Const(tensor) => self.constant(tensor, node.span).map(|tensor| vec![tensor]),
            Op::Index(index) => self.index(index, &operands, node).map(one),
            Op::Segment(segment) => self.segment(segment, &operands, node).map(one),
            Op::MatMul(product) => self.matmul(product, &operands, node).map(one),
            Op::Scan(scan) => self.scan(*scan, &operands, node).map(one),
            Op::Transform(transform) => self.transform(transform, &operands, node).map(one),
            Op::TopK(k) => self.top_k(k, &operands, node),
            Op::Call(callee) => {
                let program = self.program;
                self.graph(&program.function(*callee).graph, operands)
            }
            Op::Recur(recur) => self.recur(recur, operands, node),
            Op::Region(region) => self.region(region, operands, node),
        }
    }

    fn constant(&mut self, tensor: &Arc<Tensor>, span: Span) -> Result<Arc<Tensor>, EvalError> {
        let stored = self.mode.stored(tensor.dtype());
        if stored == tensor.dtype() {
            return Ok(tensor.clone());
        }
        let address = Arc::as_ptr(tensor).addr();
        if let Some(known) = self.consts.get(&address) {
            return Ok(known.clone());
        }
        let converted = Arc::new(store::converted(tensor, stored, span)?);
        self.consts.insert(address, converted.clone());
        Ok(converted)
    }

    fn top_k(&self, k: &Dim, operands: &[Arc<Tensor>], node: &Node) -> Result<Vec<Arc<Tensor>>, EvalError> {
        let operand = &operands[0];
        let k = self.size(k, node.span)?;
        let last = operand.shape().last().copied().unwrap_or(1);
        if k > last {
            return Err(EvalError::TopK { k, elems: last, span: node.span });
        }
        let mut values = self.zeros(&node.results[0], node.span)?;
        let mut indices = self.zeros(&node.results[1], node.span)?;
        let rows = operand.elems().checked_div(last).unwrap_or(0);
        for row in 0..rows {
            let elements: Vec<Scalar> = (0..last).map(|j| store::read(operand, row * last + j)).collect();
            for (at, position) in top_k(&elements, k).into_iter().enumerate() {
                store::write(&mut values, row * k + at, elements[position]);
                store::write(&mut indices, row * k + at, Scalar::I64(position as i64));
            }
        }
        Ok(vec![Arc::new(values), Arc::new(indices)])
    }

    fn size(&self, dim: &Dim, span: Span) -> Result<usize, EvalError> {
        self.dims.size(dim).map_err(|error| EvalError::Size { error, span })
    }

    fn position(&self, dim: &Dim, span: Span) -> Result<i64, EvalError> {
        self.dims.eval(dim).map_err(|error| EvalError::Size { error, span })
    }

    fn shape(&self, shape: &[Dim], span: Span) -> Result<Vec<usize>, EvalError> {
        self.dims.shape(shape).map_err(|error| EvalError::Size { error, span })
    }

    /// A tensor of zeros of a declared type, as stored.
    fn zeros(&self, ty: &TensorType, span: Span) -> Result<Tensor, EvalError> {
        let shape = self.shape(&ty.shape, span)?;
        Tensor::zeros(self.mode.stored(ty.dtype), shape).map_err(|error| EvalError::Tensor { error, span })
    }
}

/// The number of points of a loop nest.
fn points(extents: &[usize], span: Span) -> Result<usize, EvalError> {
    if extents.contains(&0) {
        return Ok(0);
    }
    extents.iter().try_fold(1usize, |n, extent| n.checked_mul(*extent)).ok_or_else(|| {
        let error = TensorError::TooLarge { shape: extents.to_vec() };
        EvalError::Tensor { error, span }
    })
}

/// Moves `index` to the next point in row-major order; false behind the last one.
fn advance(index: &mut [i64], extents: &[usize]) -> bool {
    for (position, extent) in index.iter_mut().zip(extents).rev() {
        *position += 1;
        if (*position as usize) < *extent {
            return true;
        }
        *position = 0;
    }
    false
}
