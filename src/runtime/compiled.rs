//! A compiled program, and binding it to weights.

use super::aligned::AlignedBytes;
use super::call::{Failure, Operand, Output, Target, run};
use super::error::{BindError, CompileError, FailedSite, WeightFault};
use super::model::Model;
use super::weights::Weights;
use crate::codegen::clif::Compiled as CompiledFunction;
use crate::codegen::jit::Code;
use crate::dim::DimError;
use crate::graph::dims::DimEnv;
use crate::graph::ir::{Signature, Weight};
use crate::graph::print::type_text;
use crate::loops::buffers::{self, BlobLayout, LimitError, Plan};
use crate::loops::ir::LoopProgram;
use crate::ops::init::initialise;
use crate::source::SourceMap;
use crate::tensor::{Tensor, TensorView};
use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

/// Code and signature of a program: what weights are bound to.
#[derive(Clone)]
pub struct Compiled {
    pub(super) inner: Arc<Inner>,
}

pub(super) struct Inner {
    pub program: LoopProgram,
    pub plan: Plan,
    pub blob: BlobLayout,
    pub code: Code,
}

impl fmt::Debug for Compiled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Compiled").field("code", &self.inner.code).finish_non_exhaustive()
    }
}

impl Compiled {
    /// Compiles a loop program for this processor.
    ///
    /// # Errors
    /// [`CompileError`]: this processor cannot run the code, or a limit is exceeded.
    pub fn new(program: LoopProgram) -> Result<Self, CompileError> {
        Self::with_text(program, None)
    }

    /// As [`Compiled::new`]; given sources, keeps the printed Cranelift IR of each function.
    ///
    /// # Errors
    /// As [`Compiled::new`].
    pub fn with_text(program: LoopProgram, sources: Option<&SourceMap>) -> Result<Self, CompileError> {
        let plan = buffers::plan(&program)?;
        let blob = BlobLayout::new(&program)?;
        let entry = &program.functions[program.entry];
        if buffers::args(entry).len() != program.signature.inputs.len() + blob.parts.len() {
            return Err(CompileError::Internal(
                "the entry takes other arguments than its inputs and the blob",
            ));
        }
        let code = Code::new(&program, &plan, sources)?;
        Ok(Compiled { inner: Arc::new(Inner { program, plan, blob, code }) })
    }

    /// What the program takes and gives.
    pub fn signature(&self) -> &Signature {
        &self.inner.program.signature
    }

    /// The compiled functions, with their sizes.
    pub fn functions(&self) -> &[CompiledFunction] {
        self.inner.code.functions()
    }

    /// Checks the weights and packs them, once.
    ///
    /// # Errors
    /// [`BindError`]; all differences between these weights and the model's are found at once.
    pub fn bind(&self, weights: &Weights) -> Result<Model, BindError> {
        let inner = &self.inner;
        let signature = &inner.program.signature;
        let found = self.resolve(weights)?;
        let views: Vec<TensorView<'_>> = found.iter().map(|tensor| tensor.view()).collect();
        let (env, faults) = weight_dims(signature, &views);
        if !faults.is_empty() {
            return Err(BindError::Weights { model: signature.name.clone(), faults });
        }
        let blob = self.pack(&env, &views)?;
        let symbolic = signature.weights.iter().zip(&views);
        let symbolic = symbolic.filter(|(w, _)| w.ty.shape.iter().any(|d| d.as_const().is_none()));
        let shapes = symbolic.map(|(weight, view)| (weight.clone(), view.shape().to_vec())).collect();
        Ok(Model::new(self.clone(), env, shapes, blob))
    }

    /// The tensor of each weight of the signature, in order.
    fn resolve<'a>(&self, weights: &'a Weights) -> Result<Vec<Cow<'a, Tensor>>, BindError> {
        let signature = self.signature();
        let (mut found, mut faults, mut used) = (Vec::new(), Vec::new(), BTreeSet::new());
        for weight in &signature.weights {
            let names = std::iter::once(&weight.path).chain(&weight.aliases);
            let mut given = names.filter_map(|name| weights.tensors.get_key_value(name));
            let first = given.next();
            if let Some((name, tensor)) = first {
                used.insert(name.as_str());
                for (alias, other) in given {
                    used.insert(alias);
                    if !same_bits(other, tensor) {
                        let (path, alias) = (name.clone(), alias.clone());
                        faults.push(WeightFault::Tied { path, alias });
                    }
                }
                if tensor.dtype() != weight.ty.dtype {
                    let (expected, found) = (weight.ty.dtype, tensor.dtype());
                    faults.push(WeightFault::DType { path: name.clone(), expected, found });
                }
                found.push(Cow::Borrowed(tensor));
            } else if let Some(tensor) = weights.seed.map(|seed| filled(weight, seed)).transpose()?.flatten()
            {
                found.push(Cow::Owned(tensor));
            } else {
                let expected = type_text(&weight.ty);
                faults.push(WeightFault::Missing { path: weight.path.clone(), expected });
                // Keeps the order; shapes are reported of what is there.
                found.push(Cow::Owned(Tensor::scalar_f32(0.0)));
            }
        }
        if !weights.extra {
            let unknown = weights.tensors.keys().filter(|name| !used.contains(name.as_str()));
            faults.extend(unknown.map(|name| WeightFault::Unexpected { name: name.clone() }));
        }
        if faults.is_empty() {
            return Ok(found);
        }
        self.add_shape_faults(&found, &mut faults);
        Err(BindError::Weights { model: signature.name.clone(), faults })
    }

    /// Adds the wrong shapes, so that all differences are reported at once.
    fn add_shape_faults(&self, found: &[Cow<'_, Tensor>], faults: &mut Vec<WeightFault>) {
        let missing: BTreeSet<String> = faults
            .iter()
            .filter_map(|fault| match fault {
                WeightFault::Missing { path, .. } => Some(path.clone()),
                _ => None,
            })
            .collect();
        let views: Vec<TensorView<'_>> = found.iter().map(|tensor| tensor.view()).collect();
        let (_, shapes) = weight_dims(self.signature(), &views);
        faults.extend(shapes.into_iter().filter(|fault| match fault {
            WeightFault::Shape { path, .. } => !missing.contains(path),
            _ => true,
        }));
    }

    /// Runs the bind function into a fresh blob.
    fn pack(&self, env: &DimEnv, weights: &[TensorView<'_>]) -> Result<AlignedBytes, BindError> {
        let inner = &self.inner;
        let size = |dim| env.size(dim).map_err(LimitError);
        let size_bytes = size(&inner.blob.size_bytes)?;
        let mut blob = AlignedBytes::zeroed(size_bytes).ok_or(BindError::OutOfMemory { size_bytes })?;
        let Some(bind) = inner.program.bind else { return Ok(blob) };
        let arena_bytes = match &inner.plan.bind_bytes {
            Some(bytes) => size(bytes)?,
            None => 0,
        };
        let mut arena =
            AlignedBytes::zeroed(arena_bytes).ok_or(BindError::OutOfMemory { size_bytes: arena_bytes })?;
        let (mut outputs, mut rest, mut at) = (Vec::new(), blob.bytes_mut(), 0);
        for part in &inner.blob.parts {
            let start = size(&part.offset_bytes)?;
            let len = size(&part.elems)?.saturating_mul(part.dtype.size_bytes());
            let gap = start.checked_sub(at).filter(|gap| *gap <= rest.len());
            let (_, from) = rest.split_at_mut(gap.ok_or(BindError::Internal("the blob's parts overlap"))?);
            if len > from.len() {
                return Err(BindError::Internal("the blob is too small"));
            }
            let (part, after) = from.split_at_mut(len);
            outputs.push(Output::Bytes(part));
            (rest, at) = (after, start + len);
        }
        let dims: Vec<i64> =
            inner.program.signature.dims.iter().map(|symbol| env.get(symbol).unwrap_or(0)).collect();
        let func = &inner.program.functions[bind];
        let target = Target { code: &inner.code, func, index: bind, env, dims: &dims, arena_bytes };
        let operands: Vec<Operand<'_>> = weights.iter().map(|view| Operand::Elements(view.data())).collect();
        run(target, &mut arena, &operands, &mut outputs).map_err(|failure| match failure {
            Failure::Mismatch(reason) => BindError::Internal(reason),
            Failure::Site { site, values } => {
                BindError::Failed(FailedSite::new(&inner.program.sites, site, &values))
            }
        })?;
        Ok(blob)
    }
}

/// The weight as its initialiser fills it; `None` where its shape is not known.
fn filled(weight: &Weight, seed: u64) -> Result<Option<Tensor>, BindError> {
    let Ok(shape) = DimEnv::new().shape(&weight.ty.shape) else { return Ok(None) };
    initialise(&weight.init, weight.ty.dtype, &shape, &weight.path, seed)
        .map(Some)
        .map_err(|error| BindError::Init { path: weight.path.clone(), error })
}

fn same_bits(a: &Tensor, b: &Tensor) -> bool {
    a.dtype() == b.dtype() && a.shape() == b.shape() && a.to_le_bytes_vec() == b.to_le_bytes_vec()
}

/// The free dimensions that axes of weights decide, and the shapes that do not fit.
fn weight_dims(signature: &Signature, views: &[TensorView<'_>]) -> (DimEnv, Vec<WeightFault>) {
    let mut env = DimEnv::new();
    let pairs = || signature.weights.iter().zip(views);
    for (weight, view) in pairs() {
        for (dim, found) in weight.ty.shape.iter().zip(view.shape()) {
            if let (Some(symbol), Ok(found)) = (dim.as_symbol(), i64::try_from(*found))
                && env.get(symbol).is_none()
            {
                env.set(symbol.clone(), found);
            }
        }
    }
    let fits = |weight: &Weight, view: &TensorView<'_>| match env.shape(&weight.ty.shape) {
        Ok(shape) => shape == view.shape(),
        // Decided by the inputs of each call, and checked there.
        Err(DimError::Unbound(_)) => weight.ty.shape.len() == view.shape().len(),
        Err(_) => false,
    };
    let wrong = pairs().filter(|(weight, view)| !fits(weight, view));
    let faults = wrong.map(|(weight, view)| WeightFault::Shape {
        path: weight.path.clone(),
        expected: type_text(&weight.ty),
        found: view.shape().to_vec(),
    });
    let faults = faults.collect();
    (env, faults)
}
