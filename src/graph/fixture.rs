//! Small programs built by hand, for tests.

use super::dims::{DimEnv, bind_dims};
use super::eval::{EvalError, Mode, evaluate};
use super::expr::{Expr, ExprId, Exprs, Read};
use super::ir::*;
use super::verify::verify;
use crate::dim::{Dim, Symbol};
use crate::dtype::DType;
use crate::ops::reduce::Reducer;
use crate::source::SourceMap;
use crate::span::{FileId, Span};
use crate::tensor::Tensor;

/// A program under construction: the graph of its entry, and its signature.
pub(crate) struct Fixture {
    pub graph: Graph,
    pub signature: Signature,
    pub functions: Vec<Function>,
    pub checks: Vec<DimCheck>,
    pub vars: u32,
}

/// Bytes of the one source line that everything comes from.
pub(crate) fn span() -> Span {
    Span::new(FileId(0), 0, 3)
}

/// The source that [`span`] points into.
pub(crate) fn sources() -> SourceMap {
    let mut sources = SourceMap::new();
    sources.add("test.mdl", "let y = x\n");
    sources
}

pub(crate) fn k(value: i64) -> Dim {
    Dim::from(value)
}

/// One of the dimensions B, T, D, S, E of every fixture.
pub(crate) fn sym(name: &str) -> Dim {
    Dim::symbol(symbols().into_iter().find(|s| s.name() == name).unwrap())
}

fn symbols() -> Vec<Symbol> {
    ["B", "T", "D", "S", "E"].iter().zip(0..).map(|(name, id)| Symbol::new(name, id)).collect()
}

pub(crate) fn axes(axes: &[(&str, Dim)]) -> Vec<Axis> {
    axes.iter().map(|(name, extent)| Axis::new(extent.clone(), name)).collect()
}

pub(crate) fn ty(dtype: DType, shape: &[Dim]) -> TensorType {
    TensorType::new(dtype, shape.to_vec())
}

/// A read of a port, at these index expressions.
pub(crate) fn read(
    exprs: &mut Exprs,
    port: u32,
    dtype: DType,
    index: &[ExprId],
    otherwise: Option<ExprId>,
) -> ExprId {
    exprs.add(Expr::Read(Read { port, index: index.to_vec(), otherwise, span: span() }), dtype)
}

/// A read of a port at plain indices.
pub(crate) fn at(exprs: &mut Exprs, port: u32, dtype: DType, index: &[usize]) -> ExprId {
    let index: Vec<_> = index.iter().map(|k| exprs.index(*k)).collect();
    read(exprs, port, dtype, &index, None)
}

/// An index op without guard or reduction.
pub(crate) fn map(iterate: Vec<Axis>, body: impl FnOnce(&mut Exprs) -> ExprId) -> Index {
    let mut exprs = Exprs::new();
    let body = body(&mut exprs);
    Index { iterate, guard: None, reduce: None, exprs, body }
}

/// A reduction without filter.
pub(crate) fn reduce(
    iterate: Vec<Axis>,
    reducer: Reducer,
    axes: Vec<Axis>,
    body: impl FnOnce(&mut Exprs) -> ExprId,
) -> Index {
    let reduce = Some(Reduce { reducer, axes, filter: None, otherwise: None });
    Index { reduce, ..map(iterate, body) }
}

pub(crate) fn f32s(shape: &[usize], data: &[f32]) -> Tensor {
    Tensor::new(shape, data.to_vec()).unwrap()
}

pub(crate) fn i64s(shape: &[usize], data: &[i64]) -> Tensor {
    Tensor::new(shape, data.to_vec()).unwrap()
}

impl Fixture {
    pub fn new() -> Self {
        let signature = Signature { name: "test.forward".into(), dims: symbols(), ..Signature::default() };
        Fixture { graph: Graph::new(), signature, functions: Vec::new(), checks: Vec::new(), vars: 0 }
    }

    pub fn input(&mut self, name: &str, dtype: DType, shape: &[Dim]) -> Value {
        let ty = ty(dtype, shape);
        self.signature.inputs.push(Port { name: name.into(), ty: ty.clone(), span: span() });
        self.graph.add_arg(ty, span(), Some(name.into()))
    }

    pub fn index(&mut self, index: Index, operands: &[Value]) -> Value {
        let shape = index.iterate.iter().map(|axis| axis.extent.clone()).collect();
        self.graph.add_index(index, shape, operands, span(), None)
    }

    pub fn op(&mut self, op: Op, results: Vec<TensorType>, operands: &[Value]) -> Vec<Value> {
        let count = results.len() as u32;
        let node = self.graph.add(Node { op, results, span: span(), name: None }, operands);
        (0..count).map(|result| Value { node, result }).collect()
    }

    /// The program whose entry gives these values.
    pub fn program(mut self, results: &[Value]) -> Program {
        self.graph.results = results.to_vec();
        for (k, value) in results.iter().enumerate() {
            let ty = self.graph.ty(*value).clone();
            self.signature.outputs.push(Port { name: format!("y{k}"), ty, span: span() });
        }
        let entry = FuncId(self.functions.len() as u32);
        self.functions.push(Function { name: "test.forward".into(), graph: self.graph });
        Program {
            functions: self.functions,
            entry,
            bind: None,
            signature: self.signature,
            checks: self.checks,
            vars: self.vars,
        }
    }

    /// Verifies and evaluates; dimensions that no input has are 0.
    pub fn run(self, results: &[Value], inputs: &[Tensor], mode: Mode) -> Result<Vec<Tensor>, EvalError> {
        let program = self.program(results);
        verify(&program).unwrap();
        run(&program, inputs, mode)
    }
}

/// Evaluates a program without weights.
pub(crate) fn run(program: &Program, inputs: &[Tensor], mode: Mode) -> Result<Vec<Tensor>, EvalError> {
    let shapes: Vec<&[usize]> = inputs.iter().map(Tensor::shape).collect();
    let mut signature = program.signature.clone();
    let used: Vec<Symbol> =
        signature.inputs.iter().flat_map(|port| &port.ty.shape).flat_map(Dim::symbols).collect();
    signature.dims.retain(|symbol| used.contains(symbol));
    let dims: DimEnv = bind_dims(&signature, &program.checks, &shapes).unwrap();
    evaluate(program, inputs, &[] as &[Tensor], &dims, mode)
}
