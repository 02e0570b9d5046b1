//! A model: a compiled program with packed weights, ready to be called.

use super::aligned::AlignedBytes;
use super::arenas::Arenas;
use super::call::{Failure, Operand, Output, Target, run};
use super::compiled::Compiled;
use super::error::{CallError, FailedSite};
use super::record::Recorder;
use super::threads::Threads;
use crate::dim::{Dim, DimError};
use crate::graph::dims::{DimBinder, DimEnv};
use crate::graph::ir::{Port, Signature, Weight};
use crate::loops::buffers::LimitError;
use crate::tensor::{Tensor, TensorView};
use indexmap::IndexMap;
use std::sync::{Mutex, PoisonError};

/// A program bound to weights.
///
/// Calls take `&self` and may run on any number of threads at once.
#[derive(Debug)]
pub struct Model {
    compiled: Compiled,
    /// Dimensions that the weights decided.
    weight_env: DimEnv,
    /// Weights with symbolic shapes, whose sizes take part in deciding dimensions.
    symbolic: Vec<(Weight, Vec<usize>)>,
    blob: AlignedBytes,
    arenas: Arenas,
    /// The last dimensions and the bytes of arena they need.
    sized: Mutex<Option<(Vec<i64>, usize)>>,
}

/// The outputs of a call, in the order of the signature.
#[derive(Clone, Debug, PartialEq)]
pub struct Outputs {
    tensors: IndexMap<String, Tensor>,
}

impl Model {
    pub(super) fn new(
        compiled: Compiled,
        weight_env: DimEnv,
        symbolic: Vec<(Weight, Vec<usize>)>,
        blob: AlignedBytes,
    ) -> Self {
        let (arenas, sized) = (Arenas::default(), Mutex::new(None));
        Model { compiled, weight_env, symbolic, blob, arenas, sized }
    }

    /// What the model takes and gives.
    pub fn signature(&self) -> &Signature {
        self.compiled.signature()
    }

    /// The same model, whose calls divide their work between `threads` where that takes less time. The results
    /// have the same bits for any number of threads.
    #[must_use]
    pub fn with_threads(self, threads: &Threads) -> Self {
        Model { compiled: self.compiled.with_threads(threads), ..self }
    }

    /// # Units
    /// Bytes of packed weights.
    pub fn weight_bytes(&self) -> usize {
        self.blob.len()
    }

    /// Computes the outputs for inputs given by name, in any order.
    ///
    /// # Errors
    /// [`CallError`]: a name, element type or shape that is not the model's, a limit, or a check
    /// that fails on the values, such as an index out of range.
    pub fn call<'a, N: AsRef<str>>(
        &self,
        inputs: impl IntoIterator<Item = (N, TensorView<'a>)>,
    ) -> Result<Outputs, CallError> {
        self.run(inputs, None)
    }

    /// As [`Model::call`], and records what the marks of the code say; of code without marks, how long the call
    /// takes, and its tasks.
    ///
    /// # Errors
    /// As [`Model::call`].
    pub fn call_recorded<'a, N: AsRef<str>>(
        &self,
        inputs: impl IntoIterator<Item = (N, TensorView<'a>)>,
        recorder: &mut Recorder,
    ) -> Result<Outputs, CallError> {
        self.run(inputs, Some(recorder))
    }

    fn run<'a, N: AsRef<str>>(
        &self,
        inputs: impl IntoIterator<Item = (N, TensorView<'a>)>,
        recorder: Option<&mut Recorder>,
    ) -> Result<Outputs, CallError> {
        let views = self.ordered(inputs)?;
        let env = self.dims(&views)?;
        let inner = &self.compiled.inner;
        let signature = &inner.program.signature;
        let dims = env.ordered(signature).ok_or(CallError::Internal("a dimension has no value"))?;
        let arena_bytes = self.arena_bytes(&env, &dims)?;
        let mut tensors = IndexMap::with_capacity(signature.outputs.len());
        for port in &signature.outputs {
            tensors.insert(port.name.clone(), allocated(port, &env)?);
        }
        let mut operands: Vec<Operand<'_>> = views.iter().map(|v| Operand::Elements(v.data())).collect();
        for part in &inner.blob.parts {
            let at = |dim: &Dim| env.size(dim).map_err(LimitError);
            let start = at(&part.offset_bytes)?;
            let len = at(&part.elems)?.saturating_mul(part.dtype.size_bytes());
            let bytes = self.blob.bytes().get(start..start.saturating_add(len));
            operands.push(Operand::Bytes(bytes.ok_or(CallError::Internal("the blob is too small"))?));
        }
        let mut outputs: Vec<Output<'_>> = tensors.values_mut().map(Output::Tensor).collect();
        let index = inner.program.entry;
        let func = &inner.program.functions[index];
        let (code, threads) = (&inner.code, self.compiled.threads());
        let target = Target { code, func, index, env: &env, dims: &dims, arena_bytes, threads };
        let call = |arena: &mut AlignedBytes| run(target, arena, &operands, &mut outputs, recorder);
        let result = self.arenas.with(arena_bytes, call);
        match result.ok_or(CallError::OutOfMemory { size_bytes: arena_bytes })? {
            Ok(()) => Ok(Outputs { tensors }),
            Err(Failure::Mismatch(reason)) => Err(CallError::Internal(reason)),
            Err(Failure::Site { site, values }) => {
                Err(CallError::Failed(FailedSite::new(&inner.program.sites, site, &values)))
            }
        }
    }

    /// The inputs in the order of the signature.
    fn ordered<'a, N: AsRef<str>>(
        &self,
        inputs: impl IntoIterator<Item = (N, TensorView<'a>)>,
    ) -> Result<Vec<TensorView<'a>>, CallError> {
        let signature = self.signature();
        let mut views: Vec<Option<TensorView<'a>>> = vec![None; signature.inputs.len()];
        for (name, view) in inputs {
            let name = name.as_ref();
            let Some(at) = signature.inputs.iter().position(|port| port.name == name) else {
                return Err(CallError::UnknownInput {
                    model: signature.name.clone(),
                    name: name.to_string(),
                    inputs: signature.inputs.iter().map(|port| port.name.clone()).collect(),
                    omitted: signature.omitted.iter().any(|omitted| omitted == name),
                });
            };
            let expected = signature.inputs[at].ty.dtype;
            if view.dtype() != expected {
                return Err(CallError::DType { name: name.into(), expected, found: view.dtype() });
            }
            if views[at].replace(view).is_some() {
                return Err(CallError::Duplicate(name.to_string()));
            }
        }
        let absent = signature.inputs.iter().zip(&views).filter(|(_, view)| view.is_none());
        let absent: Vec<String> = absent.map(|(port, _)| port.name.clone()).collect();
        if absent.is_empty() {
            Ok(views.into_iter().flatten().collect())
        } else {
            Err(CallError::Missing(absent))
        }
    }

    fn dims(&self, views: &[TensorView<'_>]) -> Result<DimEnv, CallError> {
        let program = &self.compiled.inner.program;
        let mut binder = DimBinder::new();
        for (weight, shape) in &self.symbolic {
            binder.tensor(&weight.path, &weight.ty, shape, weight.span)?;
        }
        for (port, view) in program.signature.inputs.iter().zip(views) {
            binder.tensor(&port.name, &port.ty, view.shape(), port.span)?;
        }
        let env = binder.finish(&program.signature, &program.checks)?;
        let decided = program.signature.dims.iter().filter(|symbol| self.weight_env.get(symbol).is_some());
        for symbol in decided {
            if env.get(symbol) != self.weight_env.get(symbol) {
                return Err(CallError::Internal("weights and inputs disagree on a dimension"));
            }
        }
        Ok(env)
    }

    /// Bytes of arena for these dimensions; every size of the plan is computed with overflow
    /// checked before it is believed.
    fn arena_bytes(&self, env: &DimEnv, dims: &[i64]) -> Result<usize, CallError> {
        let mut sized = self.sized.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((known, bytes)) = sized.as_ref()
            && known == dims
        {
            return Ok(*bytes);
        }
        let evaluated = self.compiled.inner.plan.evaluate(&|symbol| env.get(symbol))?;
        let bytes = usize::try_from(evaluated.entry_bytes).map_err(|_| LimitError(DimError::Overflow))?;
        *sized = Some((dims.to_vec(), bytes));
        Ok(bytes)
    }
}

fn allocated(port: &Port, env: &DimEnv) -> Result<Tensor, CallError> {
    let shape = env.shape(&port.ty.shape).map_err(LimitError)?;
    Tensor::zeros(port.ty.dtype, shape).map_err(|error| CallError::Output { name: port.name.clone(), error })
}

impl Outputs {
    /// The output of a name.
    pub fn get(&self, name: &str) -> Option<&Tensor> {
        self.tensors.get(name)
    }

    /// Names and tensors, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Tensor)> {
        self.tensors.iter().map(|(name, tensor)| (name.as_str(), tensor))
    }

    /// Gives up the tensors, in order.
    pub fn into_tensors(self) -> IndexMap<String, Tensor> {
        self.tensors
    }
}
