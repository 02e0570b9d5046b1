//! A compiled program, and binding it to weights.

use super::aligned::AlignedBytes;
use super::call::{Failure, Operand, Output, Target, run};
use super::error::{BindError, CompileError, FailedSite};
use super::model::Model;
use super::resolve::resolve;
use super::threads::Threads;
use super::weights::Weights;
use crate::codegen::clif::Compiled as CompiledFunction;
use crate::codegen::jit::{Code, Kept};
use crate::codegen::target::Options;
use crate::codegen::vector::kernel_text;
use crate::graph::dims::DimEnv;
use crate::graph::ir::{DimCheck, Signature};
use crate::loops::buffers::{self, BlobLayout, LimitError, Plan};
use crate::loops::ir::LoopProgram;
use crate::source::SourceMap;
use crate::tensor::TensorView;
use std::fmt;
use std::sync::Arc;

/// Code and signature of a program: what weights are bound to.
#[derive(Clone)]
pub struct Compiled {
    pub(super) inner: Arc<Inner>,
    threads: Option<Threads>,
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
    /// [`CompileError`]: this processor lacks what all code needs, or a limit is exceeded.
    pub fn new(program: LoopProgram) -> Result<Self, CompileError> {
        Self::with(program, Options::default(), None)
    }

    /// As [`Compiled::new`] with options, which may say that the code is for another processor: then it can be
    /// looked at and not be bound. Given sources, keeps the printed Cranelift IR
    /// of each function.
    ///
    /// # Errors
    /// As [`Compiled::new`].
    pub fn with(
        program: LoopProgram,
        options: impl Into<Options>,
        sources: Option<&SourceMap>,
    ) -> Result<Self, CompileError> {
        Self::build(program, options.into(), sources, false).map(|(compiled, _)| compiled)
    }

    /// As [`Compiled::with`]; where the code is to be kept, also gives what to keep, with its bytes.
    pub(super) fn build(
        program: LoopProgram,
        options: Options,
        sources: Option<&SourceMap>,
        keep: bool,
    ) -> Result<(Self, Option<(Kept, Vec<u8>)>), CompileError> {
        let plan = buffers::plan(&program)?;
        let blob = BlobLayout::new(&program)?;
        let entry = &program.functions[program.entry];
        if buffers::args(entry).len() != program.signature.inputs.len() + blob.parts.len() {
            return Err(CompileError::Internal(
                "the entry takes other arguments than its inputs and the blob",
            ));
        }
        let (code, kept) = Code::build(&program, &plan, options, sources, keep)?;
        Ok((Self::of(Inner { program, plan, blob, code }), kept))
    }

    pub(super) fn of(inner: Inner) -> Self {
        Compiled { inner: Arc::new(inner), threads: None }
    }

    /// The same code, where binding and the calls of its models divide their work between `threads`.
    #[must_use]
    pub fn with_threads(self, threads: &Threads) -> Self {
        Compiled { threads: Some(threads.clone()), ..self }
    }

    /// What work is divided between.
    pub(super) fn threads(&self) -> Option<&Threads> {
        self.threads.as_ref()
    }

    /// What the program takes and gives.
    pub fn signature(&self) -> &Signature {
        &self.inner.program.signature
    }

    /// What calls check of the free dimensions.
    pub(crate) fn checks(&self) -> &[DimCheck] {
        &self.inner.program.checks
    }

    /// The compiled functions, with their sizes.
    pub fn functions(&self) -> &[CompiledFunction] {
        self.inner.code.functions()
    }

    /// The wide kernels as assembly, each with where it comes from; empty where there are none.
    pub fn kernels_text(&self) -> String {
        self.inner.code.kernels().iter().map(kernel_text).collect::<Vec<_>>().join("\n")
    }

    /// Checks the weights and packs them, once.
    ///
    /// # Errors
    /// [`BindError`]: code for another processor; all differences between these weights and the model's are found at once.
    pub fn bind(&self, weights: &Weights) -> Result<Model, BindError> {
        let inner = &self.inner;
        if !inner.code.missing().is_empty() {
            return Err(BindError::Cpu { missing: inner.code.missing().to_vec() });
        }
        let signature = &inner.program.signature;
        let found = resolve(signature, weights)?;
        let views: Vec<TensorView<'_>> = found.tensors.iter().map(|tensor| tensor.view()).collect();
        if !found.faults.is_empty() {
            return Err(BindError::Weights { model: signature.name.clone(), faults: found.faults });
        }
        let env = found.dims;
        let blob = self.pack(&env, &views)?;
        let symbolic = signature.weights.iter().zip(&views);
        let symbolic = symbolic.filter(|(w, _)| w.ty.shape.iter().any(|d| d.as_const().is_none()));
        let shapes = symbolic.map(|(weight, view)| (weight.clone(), view.shape().to_vec())).collect();
        Ok(Model::new(self.clone(), env, shapes, blob))
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
        let (code, threads) = (&inner.code, self.threads());
        let target = Target { code, func, index: bind, env, dims: &dims, arena_bytes, threads };
        let operands: Vec<Operand<'_>> = weights.iter().map(|view| Operand::Elements(view.data())).collect();
        run(target, &mut arena, &operands, &mut outputs, None).map_err(|failure| match failure {
            Failure::Mismatch(reason) => BindError::Internal(reason),
            Failure::Site { site, values } => {
                BindError::Failed(FailedSite::new(&inner.program.sites, site, &values))
            }
        })?;
        Ok(blob)
    }
}
