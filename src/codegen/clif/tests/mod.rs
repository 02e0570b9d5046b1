//! Hand-built loop programs, run natively and compared with what they mean.

mod control;
mod gemm;
mod pointwise;
mod speed;
mod tasks;

use crate::codegen::target::{Grain, Kernels, Options};
use crate::codegen::vector::Isa;
use crate::dim::{Dim, Symbol};
use crate::dtype::DType;
use crate::graph::expr::Literal;
use crate::graph::ir::{Port, Signature, TensorType};
use crate::loops::ir::{
    Buffer, BufferId, BufferKind, Local, LoopFunc, LoopKind, LoopProgram, LoopVar, Scalar, ScalarId, Site,
    Stmt,
};
use crate::ops::scalar::{BinaryOp, UnaryOp};
use crate::runtime::{CallError, Compiled, Outputs, Threads, Weights};
use crate::span::{FileId, Span};
use crate::tensor::Tensor;
use std::sync::OnceLock;

pub(crate) fn span() -> Span {
    Span::new(FileId(0), 0, 0)
}

/// A function under construction, with the ports of a program that has it as entry.
pub(crate) struct Kit {
    pub func: LoopFunc,
    pub signature: Signature,
    pub sites: Vec<Site>,
    pub callees: Vec<LoopFunc>,
}

impl Kit {
    pub fn new(name: &str) -> Self {
        Kit {
            func: LoopFunc {
                name: name.into(),
                buffers: Vec::new(),
                scalars: Default::default(),
                locals: Vec::new(),
                vars: Vec::new(),
                body: Vec::new(),
                span: span(),
            },
            signature: Signature { name: name.into(), ..Signature::default() },
            sites: Vec::new(),
            callees: Vec::new(),
        }
    }

    /// A free dimension.
    pub fn symbol(&mut self, name: &str) -> Dim {
        let symbol = Symbol::new(name, self.signature.dims.len() as u32);
        self.signature.dims.push(symbol.clone());
        Dim::symbol(symbol)
    }

    pub fn buffer(&mut self, name: &str, dtype: DType, elems: Dim, kind: BufferKind) -> BufferId {
        self.func.buffers.push(Buffer { name: name.into(), dtype, elems, kind, span: span() });
        BufferId(self.func.buffers.len() as u32 - 1)
    }

    pub fn input(&mut self, name: &str, dtype: DType, shape: Vec<Dim>) -> BufferId {
        let elems = shape.iter().fold(Dim::ONE, |n, d| n.mul(d).unwrap());
        let kind = BufferKind::Arg(self.signature.inputs.len() as u32);
        let ty = TensorType::new(dtype, shape);
        self.signature.inputs.push(Port { name: name.into(), ty, span: span() });
        self.buffer(name, dtype, elems, kind)
    }

    pub fn output(&mut self, name: &str, dtype: DType, shape: Vec<Dim>) -> BufferId {
        let elems = shape.iter().fold(Dim::ONE, |n, d| n.mul(d).unwrap());
        let kind = BufferKind::Result(self.signature.outputs.len() as u32);
        let ty = TensorType::new(dtype, shape);
        self.signature.outputs.push(Port { name: name.into(), ty, span: span() });
        self.buffer(name, dtype, elems, kind)
    }

    pub fn var(&mut self, name: &str) -> (LoopVar, ScalarId) {
        self.func.vars.push(name.into());
        let var = LoopVar(self.func.vars.len() as u32 - 1);
        (var, self.func.scalars.add(Scalar::Var(var), DType::I64))
    }

    pub fn local(&mut self, name: &str, dtype: DType) -> (Local, ScalarId) {
        self.func.locals.push((name.into(), dtype));
        let local = Local(self.func.locals.len() as u32 - 1);
        (local, self.func.scalars.add(Scalar::Local(local), dtype))
    }

    pub fn int(&mut self, value: i64) -> ScalarId {
        self.func.scalars.add(Scalar::Const(Literal::Int(value)), DType::I64)
    }

    pub fn real(&mut self, value: f32) -> ScalarId {
        self.func.scalars.add(Scalar::Const(Literal::Real(f64::from(value).to_bits())), DType::F32)
    }

    pub fn dim(&mut self, dim: &Dim) -> ScalarId {
        match dim.as_const() {
            Some(value) => self.int(value),
            None => self.func.scalars.add(Scalar::Dim(dim.clone()), DType::I64),
        }
    }

    pub fn load(&mut self, buffer: BufferId, index: ScalarId) -> ScalarId {
        let dtype = self.func.buffers[buffer.0 as usize].dtype;
        self.func.scalars.add(Scalar::Load(buffer, index), dtype)
    }

    pub fn unary(&mut self, op: UnaryOp, a: ScalarId) -> ScalarId {
        let dtype = op.result(self.func.scalars.dtype(a));
        self.func.scalars.add(Scalar::Unary(op, a), dtype)
    }

    pub fn binary(&mut self, op: BinaryOp, a: ScalarId, b: ScalarId) -> ScalarId {
        let dtype = op.result(self.func.scalars.dtype(a));
        self.func.scalars.add(Scalar::Binary(op, a, b), dtype)
    }

    pub fn select(&mut self, c: ScalarId, a: ScalarId, b: ScalarId) -> ScalarId {
        let dtype = self.func.scalars.dtype(a);
        self.func.scalars.add(Scalar::Select(c, a, b), dtype)
    }

    pub fn cast(&mut self, a: ScalarId, dtype: DType) -> ScalarId {
        self.func.scalars.add(Scalar::Cast(a), dtype)
    }

    pub fn site(&mut self, code: &'static str, message: &str) -> crate::loops::ir::SiteId {
        self.sites.push(Site { code, message: message.into(), span: span() });
        crate::loops::ir::SiteId(self.sites.len() as u32 - 1)
    }

    pub fn program(self, body: Vec<Stmt>) -> LoopProgram {
        let mut func = self.func;
        func.body = body;
        let mut functions = self.callees;
        functions.push(func);
        LoopProgram {
            entry: functions.len() - 1,
            functions,
            bind: None,
            signature: self.signature,
            checks: Vec::new(),
            sites: self.sites,
            assumed: Vec::new(),
        }
    }

    pub fn compile(self, body: Vec<Stmt>) -> Compiled {
        Compiled::new(self.program(body)).unwrap()
    }

    /// Runs by Cranelift's code alone, whose results are given, and with each kind of kernels that
    /// this processor has, which must agree.
    pub fn run(self, body: Vec<Stmt>, inputs: &[(&str, &Tensor)]) -> Result<Outputs, CallError> {
        let program = self.program(body);
        let wanted = run_with(program.clone(), Kernels::None, inputs);
        for kernels in &back_ends()[1..] {
            match (&wanted, run_with(program.clone(), *kernels, inputs)) {
                (Ok(wanted), Ok(found)) => agree(wanted, &found, *kernels),
                (wanted, found) => assert_eq!(wanted.is_err(), found.is_err(), "with {kernels:?}"),
            }
        }
        wanted
    }

    /// Runs by Cranelift's code alone, then with each kind of kernels that this processor has.
    pub fn run_all(self, body: Vec<Stmt>, inputs: &[(&str, &Tensor)]) -> Vec<(Kernels, Outputs)> {
        let program = self.program(body);
        let run = |kernels| (kernels, run_with(program.clone(), kernels, inputs).unwrap());
        back_ends().into_iter().map(run).collect()
    }
}

/// Runs in one thread, and divided between three as far as can be, which must give the same bits.
fn run_with(
    program: LoopProgram,
    kernels: Kernels,
    inputs: &[(&str, &Tensor)],
) -> Result<Outputs, CallError> {
    let call = |compiled: Compiled| {
        let model = compiled.bind(&Weights::new()).unwrap();
        model.call(inputs.iter().map(|(name, tensor)| (*name, tensor.view())))
    };
    let compiled = |grain| {
        Compiled::with(program.clone(), Options { kernels, grain, ..Options::default() }, None).unwrap()
    };
    let alone = call(compiled(Grain::NEVER));
    let divided = call(compiled(Grain::FINEST).with_threads(&three_threads()));
    // As text, in which NaN equals NaN and the zeros differ.
    assert_eq!(format!("{alone:?}"), format!("{divided:?}"), "three threads with {kernels:?}");
    alone
}

fn three_threads() -> Threads {
    static THREADS: OnceLock<Threads> = OnceLock::new();
    THREADS.get_or_init(|| Threads::new(3).unwrap()).clone()
}

/// The order of reductions may differ, and with it their last bits.
fn agree(wanted: &Outputs, found: &Outputs, kernels: Kernels) {
    for (name, wanted) in wanted.iter() {
        let found = found.get(name).unwrap();
        let (Some(a), Some(b)) = (wanted.as_f32(), found.as_f32()) else {
            // As text, in which NaN equals NaN.
            assert_eq!(format!("{wanted:?}"), format!("{found:?}"), "`{name}` with {kernels:?}");
            continue;
        };
        for (k, (a, b)) in a.iter().zip(b).enumerate() {
            let close = a.to_bits() == b.to_bits()
                || (a.is_nan() && b.is_nan())
                || (a != &0.0 && (a - b).abs() <= 1e-5 * a.abs());
            assert!(close, "`{name}`[{k}] is {a}, with {kernels:?} {b}");
        }
    }
}

/// Cranelift alone, and the kinds of kernels of this processor; says which it lacks.
pub(crate) fn back_ends() -> Vec<Kernels> {
    let mut found = vec![Kernels::None];
    for isa in Isa::ALL {
        match Kernels::Of(isa).isa() {
            Ok(_) => found.push(Kernels::Of(isa)),
            Err(error) => eprintln!("{} is skipped: {error}", isa.name()),
        }
    }
    found
}

pub(crate) fn for_loop(var: LoopVar, extent: ScalarId, kind: LoopKind, body: Vec<Stmt>) -> Stmt {
    Stmt::For { var, extent, reverse: false, kind, body }
}

/// Numbers without a pattern, in `(-1, 1)`.
pub(crate) fn noise(n: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    (0..n)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
        })
        .collect()
}
