//! Loop programs as Cranelift IR.
//!
//! Each function of the program becomes one Cranelift function with the signature of
//! [`super::abi`]; JIT and object modules are filled alike. Nothing is imported by symbol and no
//! address of the compiling process occurs. Mathematical functions that are not worth inlining
//! become local functions of the module, each defined once ([`bodies`]).
//!
//! Where there are wide kernels ([`super::vector`]), [`wide`] calls them for what they can do.
//!
//! [`function`] sets up a function, [`parts`] divides long ones, [`tasks`] what threads may divide, by the model of [`cost`] and
//! the [`units`] of work, [`stmt`] emits statements, [`scalar`] expressions, [`vector`]
//! and [`lanes`] loops that run in lanes, [`gemm`] the product kernel, [`dims`] sizes. The plan
//! of temporaries is taken as given; of the graph nothing is known.

mod backlog;
mod bodies;
mod checked;
mod copy;
mod cost;
mod dims;
mod entry;
mod function;
mod gemm;
mod lanes;
mod parts;
mod scalar;
mod stmt;
mod tasks;
mod text;
mod units;
mod vector;
mod wide;

#[cfg(test)]
pub(crate) mod tests;

pub(crate) use entry::{Exports, check_types, define_exports, exported_names};

use super::error::CodeError;
use super::target::{Compilers, Options};
use super::vector::kernels::{Defined, Kernels};
use crate::dtype::DType;
use crate::loops::buffers::Plan;
use crate::loops::ir::{Buffer, BufferKind, LoopFunc, LoopProgram};
use crate::loops::private::Uses;
use crate::source::SourceMap;
use backlog::Backlog;
use bodies::Bodies;
use cranelift_codegen::Context;
use cranelift_codegen::ir::{AbiParam, Signature, Type, types};
use cranelift_frontend::FunctionBuilderContext;
use cranelift_module::{DataDescription, DataId, FuncId, Linkage, Module};
use function::{Env, Shared, Task};
use tasks::Queued;
use wide::MacroKernels;

/// What became of one function.
#[derive(Clone, Debug)]
pub struct Compiled {
    /// Its name in the program.
    pub name: String,
    /// Its Cranelift id.
    pub(crate) id: FuncId,
    /// Which function of the program it is.
    number: usize,
    /// How large it became.
    pub stats: CodeStats,
    /// Its Cranelift IR before optimisation, if that was asked for.
    pub text: Option<String>,
}

/// The size of a function.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct CodeStats {
    /// Cranelift instructions as emitted.
    pub clif_insts: usize,
    /// # Units
    /// Bytes of machine code.
    pub code_bytes: usize,
    /// Statements that threads may divide.
    pub tasks: usize,
}

/// A [`Compiled`] function without its text.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub(crate) struct Summary {
    name: String,
    id: u32,
    number: usize,
    stats: CodeStats,
}

impl Compiled {
    pub(crate) fn summary(&self) -> Summary {
        let Compiled { name, id, number, stats, .. } = self;
        Summary { name: name.clone(), id: id.as_u32(), number: *number, stats: *stats }
    }

    pub(crate) fn of_summary(summary: Summary) -> Compiled {
        let Summary { name, id, number, stats } = summary;
        Compiled { name, id: FuncId::from_u32(id), number, stats, text: None }
    }
}

/// The functions of a module, and the kernels that they call.
#[derive(Clone, Debug, Default)]
pub(crate) struct Definitions {
    pub functions: Vec<Compiled>,
    pub kernels: Vec<Defined>,
}

/// Compiles all functions of a program into a module of the compilers' target; given sources, also prints them.
///
/// # Errors
/// [`CodeError`]: a limit of the back end, an element type that is not computed with, or a fault
/// of our own.
pub(crate) fn define(
    module: &mut dyn Module,
    compilers: Compilers,
    program: &LoopProgram,
    plan: &Plan,
    options: Options,
    sources: Option<&SourceMap>,
) -> Result<Definitions, CodeError> {
    let mut ids = Vec::with_capacity(program.functions.len());
    for (k, func) in program.functions.iter().enumerate() {
        let signature = entry_signature(module);
        let name = format!("mdlc_{k}_{}", symbol_text(&func.name));
        let id = module.declare_function(&name, Linkage::Local, &signature);
        ids.push(id.map_err(|error| CodeError::of_module(&func.name, &error))?);
    }
    let constants: Vec<Vec<Option<DataId>>> =
        program.functions.iter().map(|func| constants(module, func)).collect::<Result<_, _>>()?;
    let mut definer = Definer {
        bodies: Bodies::default(),
        kernels: Kernels::new(options.kernels.on(options.cpu)?),
        macro_kernels: MacroKernels::default(),
        scratch: FunctionBuilderContext::new(),
        context: module.make_context(),
        backlog: Backlog::new(compilers),
        module,
    };
    let mut compiled = Vec::with_capacity(ids.len());
    for (k, func) in program.functions.iter().enumerate() {
        let (grain, frame, uses) = (options.grain, &plan.functions[k], &Uses::of(func, &func.body));
        let env = Env { program, func, grain, sources, frame, uses, ids: &ids, constants: &constants[k] };
        compiled.push(definer.function(env, k)?);
    }
    let kernels = definer.finish(&mut compiled)?;
    Ok(Definitions { functions: compiled, kernels })
}

/// Defines functions in a module.
struct Definer<'m> {
    module: &'m mut dyn Module,
    bodies: Bodies,
    kernels: Kernels,
    macro_kernels: MacroKernels,
    scratch: FunctionBuilderContext,
    context: Context,
    backlog: Backlog,
}

impl Definer<'_> {
    /// Defines a function of the program, a long one in parts.
    fn function(&mut self, env: Env<'_>, number: usize) -> Result<Compiled, CodeError> {
        let name = env.func.name.to_string();
        let id = env.ids[number];
        let mut compiled = Compiled {
            name,
            id,
            number,
            stats: CodeStats::default(),
            text: env.sources.map(|_| String::new()),
        };
        let parts = parts::cut(env.func);
        if parts.len() == 1 {
            self.task(env, Task::Whole, id, &env.func.name, &mut compiled)?;
            return Ok(compiled);
        }
        let mut signature = entry_signature(self.module);
        signature.params.push(AbiParam::new(types::I64));
        let mut ids = Vec::with_capacity(parts.len());
        for (k, stmts) in parts.into_iter().enumerate() {
            let name = format!("{}.part{k}", env.func.name);
            let part = self.module.declare_anonymous_function(&signature);
            let part = part.map_err(|error| CodeError::of_module(&name, &error))?;
            self.task(env, Task::Part(&env.func.body[stmts]), part, &name, &mut compiled)?;
            ids.push(part);
        }
        self.task(env, Task::Lead(&ids), id, &env.func.name, &mut compiled)?;
        Ok(compiled)
    }

    /// Defines one Cranelift function, then the tasks that it calls.
    fn task(
        &mut self,
        env: Env<'_>,
        task: Task<'_>,
        id: FuncId,
        name: &str,
        compiled: &mut Compiled,
    ) -> Result<(), CodeError> {
        let queue = self.one(env, task, id, name, compiled)?;
        for (k, queued) in queue.iter().enumerate() {
            self.one(env, Task::Divided(queued), queued.id, &format!("{name}.task{k}"), compiled)?;
        }
        Ok(())
    }

    fn one<'a>(
        &mut self,
        env: Env<'a>,
        task: Task<'a>,
        id: FuncId,
        name: &str,
        compiled: &mut Compiled,
    ) -> Result<Vec<Queued<'a>>, CodeError> {
        self.context.func.signature = match task {
            Task::Divided(_) => tasks::signature(self.module),
            _ => entry_signature(self.module),
        };
        if matches!(task, Task::Part(_)) {
            self.context.func.signature.params.push(AbiParam::new(types::I64));
        }
        let shared = Shared {
            module: self.module,
            bodies: &mut self.bodies,
            kernels: &mut self.kernels,
            macro_kernels: &mut self.macro_kernels,
        };
        let emitted = function::emit(env, task, shared, &mut self.scratch, &mut self.context)?;
        if let (Some(text), Some(sources)) = (&mut compiled.text, env.sources) {
            text.push_str(&text::text(
                name,
                &sources.place(env.func.span),
                &self.context.func,
                emitted.notes,
            ));
        }
        let owner = Some(compiled.number);
        compiled.stats.clif_insts += self.backlog.add(self.module, (id, name, owner), &mut self.context)?;
        let (scratch, context) = (&mut self.scratch, &mut self.context);
        let backlog = (&mut self.backlog, owner);
        let products = self.macro_kernels.emit(self.module, &mut self.kernels, scratch, context, backlog)?;
        for (insts, text) in products {
            compiled.stats.clif_insts += insts;
            if let (Some(all), Some(text)) = (&mut compiled.text, text) {
                all.push('\n');
                all.push_str(&text);
            }
        }
        compiled.stats.tasks += emitted.queue.len();
        Ok(emitted.queue)
    }

    /// Defines the functions that the others call, and all machine code; gives the kernels.
    fn finish(mut self, compiled: &mut [Compiled]) -> Result<Vec<Defined>, CodeError> {
        self.bodies.define(self.module, &mut self.scratch, &mut self.context, &mut self.backlog)?;
        self.backlog.define(self.module)?;
        for function in compiled {
            function.stats.code_bytes = self.backlog.code_bytes(function.number);
        }
        Ok(self.kernels.into_defined())
    }
}

/// The signature of every function of a loop program: status of context, dims, arena, pointers.
pub(crate) fn entry_signature(module: &dyn Module) -> Signature {
    let mut signature = module.make_signature();
    signature.params.extend([AbiParam::new(types::I64); 4]);
    signature.returns.push(AbiParam::new(types::I32));
    signature
}

/// Defines the constant buffers of a function as read-only data.
fn constants(module: &mut dyn Module, func: &LoopFunc) -> Result<Vec<Option<DataId>>, CodeError> {
    let mut ids = Vec::with_capacity(func.buffers.len());
    for buffer in &func.buffers {
        let BufferKind::Const(tensor) = &buffer.kind else {
            ids.push(None);
            continue;
        };
        let mut bytes = tensor.to_le_bytes_vec();
        // At least one element of every buffer can be loaded.
        if bytes.is_empty() {
            bytes.resize(buffer.dtype.size_bytes(), 0);
        }
        let mut data = DataDescription::new();
        data.define(bytes.into_boxed_slice());
        data.set_align(64);
        let failed = |error| CodeError::of_module(&func.name, &error);
        let id = module.declare_anonymous_data(false, false).map_err(failed)?;
        module.define_data(id, &data).map_err(failed)?;
        ids.push(Some(id));
    }
    Ok(ids)
}

/// # Units
/// Bytes of data that a buffer needs in the module.
pub(crate) fn constant_bytes(buffer: &Buffer) -> usize {
    match &buffer.kind {
        BufferKind::Const(tensor) => tensor.size_bytes().saturating_add(64),
        _ => 0,
    }
}

/// The type of one element in a register.
pub(crate) fn clif_type(dtype: DType) -> Result<Type, CodeError> {
    match dtype {
        DType::F32 => Ok(types::F32),
        DType::F64 => Ok(types::F64),
        DType::I32 => Ok(types::I32),
        DType::I64 => Ok(types::I64),
        DType::Bool => Ok(types::I8),
        DType::F16 | DType::BF16 => Err(CodeError::Unsupported(dtype)),
    }
}

/// A name with everything but letters, digits and underscores replaced.
fn symbol_text(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect()
}
