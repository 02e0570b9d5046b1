//! Compiled programs apart from the process that compiled them.
//!
//! A [`Stored`] program is what binding and calling need: signature, conditions, sizes of arguments and of the
//! arena, and the code as an image. The bytes of the code are kept beside it. Nothing of the graph or of
//! the loops is in it. Reading one back gives a program that runs as the original, or an error; whoever keeps
//! it sees to it that it comes back as it was and from where it was put.

use super::compiled::{Compiled, Inner};
use super::error::CompileError;
use crate::codegen::jit::{Code, Kept};
use crate::codegen::target::{Cpu, Options};
use crate::dim::Dim;
use crate::dtype::DType;
use crate::graph::ir::{DimCheck, DimCondition, Signature};
use crate::loops::buffers::{self, BlobLayout, FramePlan, Plan};
use crate::loops::ir::{Buffer, BufferKind, LoopFunc, LoopProgram, Scalars, Site};
use crate::span::Span;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

/// A compiled program without the bytes of its code.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Stored {
    signature: Signature,
    checks: Vec<StoredCheck>,
    sites: Vec<StoredSite>,
    functions: Vec<Func>,
    entry: usize,
    bind: Option<usize>,
    plan: StoredPlan,
    blob: BlobLayout,
    code: Kept,
}

#[derive(Debug, Serialize, Deserialize)]
struct StoredCheck {
    condition: DimCondition,
    code: String,
    message: String,
    span: Span,
}

#[derive(Debug, Serialize, Deserialize)]
struct StoredSite {
    code: String,
    message: String,
    span: Span,
}

/// The arguments and results of a function.
#[derive(Debug, Serialize, Deserialize)]
struct Func {
    name: String,
    span: Span,
    buffers: Vec<Argument>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Argument {
    name: String,
    dtype: DType,
    elems: Dim,
    is_result: bool,
    number: u32,
    span: Span,
}

/// What of a plan is asked at calls.
#[derive(Debug, Serialize, Deserialize)]
struct StoredPlan {
    sizes: Vec<Dim>,
    entry_bytes: Dim,
    bind_bytes: Option<Dim>,
    /// Bytes of the fixed part, and of each slot.
    frames: Vec<(i64, Vec<Dim>, Dim)>,
}

impl Compiled {
    /// As [`Compiled::with`] without sources, and what to store of it with the bytes of its code; nothing where
    /// the code has no form apart from its addresses.
    ///
    /// # Errors
    /// As [`Compiled::with`].
    pub(crate) fn storable(
        program: LoopProgram,
        options: Options,
    ) -> Result<(Compiled, Option<(Stored, Vec<u8>)>), CompileError> {
        let (compiled, kept) = Self::build(program, options, None, true)?;
        let stored = kept.map(|(code, bytes)| (Stored::of(&compiled.inner, code), bytes));
        Ok((compiled, stored))
    }
}

impl Stored {
    fn of(inner: &Inner, code: Kept) -> Stored {
        let Inner { program, plan, blob, .. } = inner;
        let check = |check: &DimCheck| StoredCheck {
            condition: check.condition.clone(),
            code: check.code.to_string(),
            message: check.message.clone(),
            span: check.span,
        };
        let site = |site: &Site| StoredSite {
            code: site.code.to_string(),
            message: site.message.clone(),
            span: site.span,
        };
        let frame = |frame: &FramePlan| (frame.fixed_bytes, frame.slots.clone(), frame.size_bytes.clone());
        Stored {
            signature: program.signature.clone(),
            checks: program.checks.iter().map(check).collect(),
            sites: program.sites.iter().map(site).collect(),
            functions: program.functions.iter().map(Func::of).collect(),
            entry: program.entry,
            bind: program.bind,
            plan: StoredPlan {
                sizes: plan.sizes.clone(),
                entry_bytes: plan.entry_bytes.clone(),
                bind_bytes: plan.bind_bytes.clone(),
                frames: plan.functions.iter().map(frame).collect(),
            },
            blob: blob.clone(),
            code,
        }
    }

    /// The program, with its code in the memory of this process. The code may use what `cpu` has.
    ///
    /// # Errors
    /// [`CompileError`]: parts that do not belong together, and no memory.
    pub(crate) fn restore(self, bytes: Vec<u8>, cpu: Cpu) -> Result<Compiled, CompileError> {
        let functions: Vec<LoopFunc> = self.functions.into_iter().map(Func::loop_func).collect();
        let program = LoopProgram {
            functions,
            entry: self.entry,
            bind: self.bind,
            signature: self.signature,
            checks: self.checks.into_iter().map(StoredCheck::check).collect(),
            sites: self.sites.into_iter().map(StoredSite::site).collect(),
            assumed: Vec::new(),
        };
        let frame = |(fixed_bytes, slots, size_bytes)| FramePlan {
            places: Vec::new(),
            callees: BTreeMap::new(),
            fixed_bytes,
            slots,
            size_bytes,
            tenants: Vec::new(),
        };
        let plan = Plan {
            functions: self.plan.frames.into_iter().map(frame).collect(),
            entry: self.entry,
            sizes: self.plan.sizes,
            entry_bytes: self.plan.entry_bytes,
            bind_bytes: self.plan.bind_bytes,
        };
        let wanted = program.functions.len();
        let inside = |number: usize| number < wanted;
        let sound = plan.functions.len() == wanted
            && inside(program.entry)
            && program.bind.is_none_or(inside)
            && self.code.functions() == wanted;
        if !sound {
            return Err(CompileError::Internal("the parts of a stored program do not belong together"));
        }
        let args = buffers::args(&program.functions[program.entry]).len();
        if args != program.signature.inputs.len() + self.blob.parts.len() {
            return Err(CompileError::Internal("a stored entry takes other arguments than its inputs"));
        }
        let code = Code::restore(self.code, bytes, cpu)?;
        Ok(Compiled::of(Inner { program, plan, blob: self.blob, code }))
    }
}

impl Func {
    fn of(func: &LoopFunc) -> Func {
        let argument = |buffer: &Buffer| {
            let (is_result, number) = match buffer.kind {
                BufferKind::Arg(number) => (false, number),
                BufferKind::Result(number) => (true, number),
                BufferKind::Temp | BufferKind::Const(_) => return None,
            };
            Some(Argument {
                name: buffer.name.clone(),
                dtype: buffer.dtype,
                elems: buffer.elems.clone(),
                is_result,
                number,
                span: buffer.span,
            })
        };
        Func {
            name: func.name.to_string(),
            span: func.span,
            buffers: func.buffers.iter().filter_map(argument).collect(),
        }
    }

    fn loop_func(self) -> LoopFunc {
        let buffer = |argument: Argument| Buffer {
            name: argument.name,
            dtype: argument.dtype,
            elems: argument.elems,
            kind: if argument.is_result {
                BufferKind::Result(argument.number)
            } else {
                BufferKind::Arg(argument.number)
            },
            span: argument.span,
        };
        LoopFunc {
            name: self.name.into(),
            buffers: self.buffers.into_iter().map(buffer).collect(),
            scalars: Scalars::default(),
            locals: Vec::new(),
            vars: Vec::new(),
            body: Vec::new(),
            span: self.span,
        }
    }
}

impl StoredCheck {
    fn check(self) -> DimCheck {
        let code = slug(&self.code);
        DimCheck { condition: self.condition, code, message: self.message, span: self.span }
    }
}

impl StoredSite {
    fn site(self) -> Site {
        Site { code: slug(&self.code), message: self.message, span: self.span }
    }
}

/// A slug of an error, of which a program has few: each is kept for the life of the process, once.
fn slug(text: &str) -> &'static str {
    static KNOWN: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(found) = known.get(text) {
        return found;
    }
    let kept: &'static str = Box::leak(text.into());
    known.insert(kept);
    kept
}
