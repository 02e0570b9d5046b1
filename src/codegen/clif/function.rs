//! One function: its parameters, where its buffers lie, and the state of emission.

use super::super::error::CodeError;
use super::super::target::Grain;
use super::super::vector::kernels::Kernels;
use super::bodies::{Bodies, Body};
use super::clif_type;
use super::dims::Sizes;
use super::parts::Uses;
use super::tasks::{self, Queued};
use super::text::Notes;
use super::wide::MacroKernels;
use crate::dim::Dim;
use crate::dtype::DType;
use crate::loops::buffers::{ALIGN_BYTES, FramePlan, Place};
use crate::loops::ir::{BufferId, BufferKind, Local, LoopFunc, LoopProgram, LoopVar, Scalar, ScalarId, Stmt};
use crate::loops::private;
use crate::source::SourceMap;
use cranelift_codegen::Context;
use cranelift_codegen::ir::{
    AliasRegion, AliasRegionData, Block, FuncRef, Inst, InstBuilder, MemFlagsData, StackSlotData,
    StackSlotKind, Value, types,
};
use cranelift_frontend::{FunctionBuilder, FunctionBuilderContext, Variable};
use cranelift_module::{DataId, FuncId, Module};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Cranelift packs values in 24 bits and its register allocator in 21; stop well before either.
const MAX_FUNCTION_VALUES: usize = 1 << 20;

/// What a function is compiled from.
#[derive(Clone, Copy)]
pub(super) struct Env<'a> {
    pub program: &'a LoopProgram,
    pub func: &'a LoopFunc,
    /// The least work of a task.
    pub grain: Grain,
    /// For comments in the printed form, if there is to be one.
    pub sources: Option<&'a SourceMap>,
    pub frame: &'a FramePlan,
    /// How often the function uses each buffer.
    pub uses: &'a private::Uses,
    /// The functions of the program.
    pub ids: &'a [FuncId],
    /// Per buffer: its data, if it is a constant.
    pub constants: &'a [Option<DataId>],
}

/// Which statements a Cranelift function runs.
#[derive(Clone, Copy)]
pub(super) enum Task<'a> {
    /// All of the function.
    Whole,
    /// These functions in order, which are its parts.
    Lead(&'a [FuncId]),
    /// Some of them.
    Part(&'a [Stmt]),
    /// A part of what one of them does, for a thread.
    Divided(&'a Queued<'a>),
}

/// What emission leaves behind.
pub(super) struct Emitted<'a> {
    /// Comments for the printed form.
    pub notes: Notes,
    /// Tasks that the function calls.
    pub queue: Vec<Queued<'a>>,
}

/// What the functions of a module share.
pub(super) struct Shared<'m> {
    pub module: &'m mut dyn Module,
    pub bodies: &'m mut Bodies,
    pub kernels: &'m mut Kernels,
    pub macro_kernels: &'m mut MacroKernels,
}

/// Where a buffer starts.
#[derive(Clone, Copy)]
pub(super) struct Base {
    pub pointer: Value,
    /// # Units
    /// Bytes to add.
    pub disp: i64,
    pub region: AliasRegion,
}

/// The state of emission.
pub(super) struct FuncCx<'a, 'b> {
    pub builder: FunctionBuilder<'b>,
    pub env: Env<'a>,
    pub module: &'b mut dyn Module,
    pub bodies: &'b mut Bodies,
    pub kernels: &'b mut Kernels,
    pub macro_kernels: &'b mut MacroKernels,
    /// The parameters that calls hand on.
    pub context: Value,
    pub dims: Value,
    pub arena: Value,
    pub pointers: Value,
    /// Whether this is a task, in which nothing is divided.
    pub in_task: bool,
    /// Tasks that are called and have yet to be emitted.
    pub queue: Vec<Queued<'a>>,
    pub sizes: Sizes<'a>,
    /// Where the slots of the frame begin.
    slots: BTreeMap<usize, Value>,
    /// Where the frame of a callee begins.
    pub callee_frames: BTreeMap<usize, Value>,
    /// The value of each enclosing loop.
    pub vars: Vec<Option<Value>>,
    /// Expressions without loads and locals that have been emitted, by scope; the values of an
    /// outer scope dominate all inner ones.
    pub scopes: Vec<HashMap<ScalarId, Value>>,
    /// The other expressions that the current statement has emitted.
    pub memo: HashMap<ScalarId, Value>,
    /// Per expression: whether it has neither loads nor locals.
    pub pure: Vec<bool>,
    locals: Vec<Option<Variable>>,
    bases: Vec<Option<Base>>,
    imported: BTreeMap<FuncId, FuncRef>,
    failed: Option<Block>,
    pub notes: Notes,
}

/// Emits a task of a function into `context`, whose signature is set.
pub(super) fn emit<'a>(
    env: Env<'a>,
    task: Task<'a>,
    shared: Shared<'_>,
    scratch: &mut FunctionBuilderContext,
    context: &mut Context,
) -> Result<Emitted<'a>, CodeError> {
    let Shared { module, bodies, kernels, macro_kernels } = shared;
    let config = module.target_config();
    let mut builder = FunctionBuilder::new(&mut context.func, scratch);
    let entry = builder.create_block();
    builder.append_block_params_for_function_params(entry);
    builder.switch_to_block(entry);
    builder.seal_block(entry);
    let params = builder.block_params(entry).to_vec();
    let [ctx, dims, arena, pointers] = match *params {
        [record, _] => tasks::parameters(&mut builder, record),
        [ctx, dims, arena, pointers] | [ctx, dims, arena, pointers, _] => [ctx, dims, arena, pointers],
        _ => return Err(internal(env.func, "a function has two, four or five parameters")),
    };
    let mut cx = FuncCx {
        sizes: Sizes::new(&env.program.signature.dims, dims),
        builder,
        env,
        module,
        bodies,
        kernels,
        macro_kernels,
        context: ctx,
        dims,
        arena,
        pointers,
        in_task: matches!(task, Task::Divided(_)),
        queue: Vec::new(),
        slots: BTreeMap::new(),
        callee_frames: BTreeMap::new(),
        vars: vec![None; env.func.vars.len()],
        scopes: vec![HashMap::new()],
        memo: HashMap::new(),
        pure: pure(env.func),
        locals: vec![None; env.func.locals.len()],
        bases: vec![None; env.func.buffers.len()],
        imported: BTreeMap::new(),
        failed: None,
        notes: Notes::default(),
    };
    match task {
        Task::Whole => {
            cx.sizes();
            cx.bases(pointers, &|_| true);
            cx.stmts(&env.func.body)?;
        }
        Task::Lead(parts) => {
            cx.sizes();
            cx.lead(pointers, parts);
        }
        Task::Part(stmts) => {
            let table = *params.get(4).ok_or_else(|| internal(env.func, "a part has no table"))?;
            let uses = Uses::of(env.func, stmts);
            cx.take_from_table(table, &uses);
            cx.bases(pointers, &|buffer| uses.buffers.contains(&buffer));
            cx.stmts(stmts)?;
        }
        Task::Divided(queued) => {
            if let Some(sources) = env.sources {
                cx.notes.add(cx.builder.func.dfg.num_insts(), env.program, env.func, sources, queued.stmt);
            }
            cx.task(queued, params[0], params[1])?;
        }
    }
    if cx.in_task {
        cx.builder.ins().return_(&[]);
    } else {
        let ok = cx.builder.ins().iconst(types::I32, 0);
        cx.builder.ins().return_(&[ok]);
        cx.failure_exit();
    }
    cx.builder.seal_all_blocks();
    let (notes, queue) = (std::mem::take(&mut cx.notes), std::mem::take(&mut cx.queue));
    cx.builder.finalize(config);
    Ok(Emitted { notes, queue })
}

/// An error of our own.
pub(super) fn internal(func: &LoopFunc, reason: impl Into<String>) -> CodeError {
    CodeError::Internal { function: func.name.to_string(), reason: reason.into() }
}

/// Which expressions have neither loads nor locals.
fn pure(func: &LoopFunc) -> Vec<bool> {
    let mut pure = Vec::with_capacity(func.scalars.len());
    for (id, scalar, _) in func.scalars.iter() {
        let own = !matches!(scalar, Scalar::Load(..) | Scalar::Local(_));
        let all = own && func.scalars.operands(id).all(|operand| pure[operand.0 as usize]);
        pure.push(all);
    }
    pure
}

impl FuncCx<'_, '_> {
    /// The start of every slot, and all sizes that expressions name.
    fn sizes(&mut self) {
        for (_, scalar, _) in self.env.func.scalars.iter() {
            if let Scalar::Dim(dim) = scalar {
                self.sizes.emit(&mut self.builder, dim);
            }
        }
        let frame = self.env.frame;
        let mut next = None;
        for (slot, size) in frame.slots.iter().enumerate() {
            let start = match next {
                Some(start) => start,
                None => self.builder.ins().iadd_imm_s(self.arena, frame.fixed_bytes),
            };
            self.slots.insert(slot, start);
            let size = self.sizes.emit(&mut self.builder, size);
            next = Some(self.builder.ins().iadd(start, size));
        }
        let callees: Vec<usize> = frame.callees.keys().copied().collect();
        self.callee_frames(&callees);
    }

    fn callee_frames(&mut self, callees: &[usize]) {
        for callee in callees {
            let start = match self.env.frame.callees.get(callee) {
                Some(Place::Fixed(offset)) => Some(self.builder.ins().iadd_imm_s(self.arena, *offset)),
                Some(Place::Slot(slot)) => self.slots.get(slot).copied(),
                None => None,
            };
            if let Some(start) = start {
                self.callee_frames.insert(*callee, start);
            }
        }
    }

    /// The sizes that expressions name and that only a call decides, in the order of the table.
    fn table_sizes(&self) -> Vec<Dim> {
        let named = self.env.func.scalars.iter().filter_map(|(_, scalar, _)| match scalar {
            Scalar::Dim(dim) if dim.as_const().is_none() => Some(dim.clone()),
            _ => None,
        });
        named.collect::<BTreeSet<Dim>>().into_iter().collect()
    }

    /// Writes the table, slots first, and runs the parts.
    fn lead(&mut self, pointers: Value, parts: &[FuncId]) {
        let sizes = self.table_sizes();
        let sizes = sizes.iter().map(|dim| self.sizes.emit(&mut self.builder, dim));
        let sizes: Vec<Value> = sizes.collect();
        let entries: Vec<Value> = self.slots.values().copied().chain(sizes).collect();
        let bytes = 8 * entries.len().max(1) as u32;
        let slot = StackSlotData::new(StackSlotKind::ExplicitSlot, bytes, 3);
        let slot = self.builder.create_sized_stack_slot(slot);
        let table = self.builder.ins().stack_addr(types::I64, slot, 0);
        for (k, entry) in entries.into_iter().enumerate() {
            self.builder.ins().store(MemFlagsData::trusted(), entry, table, 8 * k as i32);
        }
        for part in parts {
            let reference = self.import(*part);
            let args = [self.context, self.dims, self.arena, pointers, table];
            let call = self.builder.ins().call(reference, &args);
            self.leave_if_failed(call);
        }
    }

    /// Leaves if a call failed.
    pub fn leave_if_failed(&mut self, call: Inst) {
        let status = self.builder.inst_results(call)[0];
        let (on, failed) = (self.builder.create_block(), self.failed());
        self.builder.ins().brif(status, failed, &[], on, &[]);
        self.builder.seal_block(on);
        self.builder.switch_to_block(on);
    }

    /// What a part uses of the table that [`Self::lead`] wrote.
    fn take_from_table(&mut self, table: Value, uses: &Uses) {
        let flags = MemFlagsData::trusted().with_readonly().with_can_move();
        let frame = self.env.frame;
        let places = uses.buffers.iter().filter_map(|buffer| frame.places[buffer.0 as usize].as_ref());
        let places = places.chain(uses.callees.iter().filter_map(|callee| frame.callees.get(callee)));
        let slots: BTreeSet<usize> = places
            .filter_map(|place| match place {
                Place::Slot(slot) => Some(*slot),
                Place::Fixed(_) => None,
            })
            .collect();
        for slot in slots {
            let start = self.builder.ins().load(types::I64, flags, table, 8 * slot as i32);
            self.slots.insert(slot, start);
        }
        for (k, dim) in self.table_sizes().into_iter().enumerate() {
            if uses.sizes.contains(&dim) {
                let at = 8 * (frame.slots.len() + k) as i32;
                let value = self.builder.ins().load(types::I64, flags, table, at);
                self.sizes.know(dim, value);
            }
        }
        for dim in uses.sizes.iter().filter(|dim| dim.as_const().is_some()) {
            self.sizes.emit(&mut self.builder, dim);
        }
        let callees: Vec<usize> = uses.callees.iter().copied().collect();
        self.callee_frames(&callees);
    }

    /// Where the buffers that are used lie. Temporaries and results are one alias region, since temporaries
    /// share memory; what is only read is another.
    pub(super) fn bases(&mut self, pointers: Value, used: &dyn Fn(BufferId) -> bool) {
        let regions = &mut self.builder.func.dfg.alias_regions;
        let read = regions.insert(AliasRegionData { user_id: 0, description: "read".into() });
        let written = regions.insert(AliasRegionData { user_id: 1, description: "written".into() });
        let func = self.env.func;
        let args = func.buffers.iter().filter(|b| matches!(b.kind, BufferKind::Arg(_))).count() as u32;
        for (at, buffer) in func.buffers.iter().enumerate() {
            if !used(BufferId(at as u32)) {
                continue;
            }
            let base = match &buffer.kind {
                BufferKind::Arg(k) => {
                    Some(Base { pointer: self.pointer(pointers, *k), disp: 0, region: read })
                }
                BufferKind::Result(k) => {
                    Some(Base { pointer: self.pointer(pointers, args + k), disp: 0, region: written })
                }
                BufferKind::Const(_) => self.env.constants[at].map(|data| {
                    let global = self.module.declare_data_in_func(data, self.builder.func);
                    let pointer = self.builder.ins().symbol_value(types::I64, global);
                    Base { pointer, disp: 0, region: read }
                }),
                BufferKind::Temp => self.env.frame.places[at].and_then(|place| match place {
                    Place::Fixed(disp) if disp < 1 << 30 => {
                        Some(Base { pointer: self.arena, disp, region: written })
                    }
                    Place::Fixed(offset) => {
                        let pointer = self.builder.ins().iadd_imm_s(self.arena, offset);
                        Some(Base { pointer, disp: 0, region: written })
                    }
                    Place::Slot(slot) => {
                        let pointer = self.slots.get(&slot).copied();
                        pointer.map(|pointer| Base { pointer, disp: 0, region: written })
                    }
                }),
            };
            self.bases[at] = base;
        }
    }

    /// Puts a buffer on the stack of this function.
    pub(super) fn on_stack(&mut self, buffer: BufferId) -> Result<(), CodeError> {
        let known = private::known_bytes(self.env.func, buffer)
            .and_then(|bytes| u32::try_from(bytes + ALIGN_BYTES).ok());
        let bytes = known.ok_or_else(|| internal(self.env.func, "a private temporary has no known size"))?;
        let slot = StackSlotData::new(StackSlotKind::ExplicitSlot, bytes, 3);
        let slot = self.builder.create_sized_stack_slot(slot);
        let address = self.builder.ins().stack_addr(types::I64, slot, 0);
        let above = self.builder.ins().iadd_imm_s(address, ALIGN_BYTES - 1);
        let pointer = self.builder.ins().band_imm_s(above, -ALIGN_BYTES);
        let data = AliasRegionData { user_id: 1, description: "written".into() };
        let region = self.builder.func.dfg.alias_regions.insert(data);
        self.bases[buffer.0 as usize] = Some(Base { pointer, disp: 0, region });
        Ok(())
    }

    fn pointer(&mut self, pointers: Value, k: u32) -> Value {
        let flags = MemFlagsData::trusted().with_readonly().with_can_move();
        self.builder.ins().load(types::I64, flags, pointers, k as i32 * 8)
    }

    /// Where a buffer lies.
    pub fn base(&self, buffer: BufferId) -> Result<Base, CodeError> {
        self.bases[buffer.0 as usize].ok_or_else(|| {
            let name = &self.env.func.buffers[buffer.0 as usize].name;
            internal(self.env.func, format!("the buffer `{name}` has no place in the arena"))
        })
    }

    /// The element type of a buffer.
    pub fn buffer_dtype(&self, buffer: BufferId) -> DType {
        self.env.func.buffers[buffer.0 as usize].dtype
    }

    /// The Cranelift variable of a local.
    pub fn local(&mut self, local: Local) -> Result<Variable, CodeError> {
        if let Some(variable) = self.locals[local.0 as usize] {
            return Ok(variable);
        }
        let ty = clif_type(self.env.func.locals[local.0 as usize].1)?;
        let variable = self.builder.declare_var(ty);
        self.locals[local.0 as usize] = Some(variable);
        Ok(variable)
    }

    /// Whether a local has been declared in this function.
    pub fn has_local(&self, local: Local) -> bool {
        self.locals[local.0 as usize].is_some()
    }

    /// Where a slot of the frame begins.
    pub fn slot(&self, slot: usize) -> Result<Value, CodeError> {
        let start = self.slots.get(&slot).copied();
        start.ok_or_else(|| internal(self.env.func, "a slot that is used has no place"))
    }

    /// Takes the place of a slot from elsewhere.
    pub fn know_slot(&mut self, slot: usize, start: Value) {
        self.slots.insert(slot, start);
    }

    /// The value of an enclosing loop.
    pub fn var(&self, var: LoopVar) -> Result<Value, CodeError> {
        self.vars[var.0 as usize].ok_or_else(|| {
            let name = &self.env.func.vars[var.0 as usize];
            internal(self.env.func, format!("the loop variable `{name}` is used outside its loop"))
        })
    }

    /// A function of the module, callable from here.
    pub fn import(&mut self, id: FuncId) -> FuncRef {
        if let Some(known) = self.imported.get(&id) {
            return *known;
        }
        let reference = self.module.declare_func_in_func(id, self.builder.func);
        self.imported.insert(id, reference);
        reference
    }

    /// Calls the body of a mathematical function.
    pub fn call_body(&mut self, body: Body, args: &[Value]) -> Result<Value, CodeError> {
        let id = self.bodies.id(self.module, body)?;
        let reference = self.import(id);
        let call = self.builder.ins().call(reference, args);
        Ok(self.builder.inst_results(call)[0])
    }

    /// The block that ends the function with a failure status.
    pub fn failed(&mut self) -> Block {
        if let Some(block) = self.failed {
            return block;
        }
        let block = self.builder.create_block();
        self.builder.set_cold_block(block);
        self.failed = Some(block);
        block
    }

    fn failure_exit(&mut self) {
        if let Some(block) = self.failed {
            self.builder.switch_to_block(block);
            let status = self.builder.ins().iconst(types::I32, 1);
            self.builder.ins().return_(&[status]);
        }
    }

    /// Refuses a function before Cranelift's own limits are reached.
    pub fn check_size(&self) -> Result<(), CodeError> {
        let values = self.builder.func.dfg.num_values();
        if values <= MAX_FUNCTION_VALUES {
            return Ok(());
        }
        let reason = format!("it has more than {MAX_FUNCTION_VALUES} values");
        Err(CodeError::TooLarge { function: self.env.func.name.to_string(), reason })
    }
}
