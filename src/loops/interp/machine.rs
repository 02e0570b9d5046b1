//! Running statements.

use super::memory::{Home, Memory};
use super::{Failure, Order, RunError};
use crate::dim::{Dim, DimError, Symbol};
use crate::dtype::DType;
use crate::graph::expr::Literal;
use crate::loops::buffers::{Evaluated, LimitError, args, results};
use crate::loops::ir::{
    BufferKind, Gemm, Kernel, LoopFunc, LoopKind, LoopProgram, Matrix, Pointer, Scalar, ScalarId, SiteId,
    Stmt,
};
use crate::ops::value::{self, Scalar as Value, apply_binary, apply_unary};
use crate::tensor::Tensor;
use std::collections::BTreeMap;

/// Calls deeper than this are a cycle.
const MAX_DEPTH: usize = 256;

/// The state of a run.
pub(super) struct Machine<'a> {
    program: &'a LoopProgram,
    frames: &'a Evaluated,
    dims: &'a dyn Fn(&Symbol) -> Option<i64>,
    order: Order,
    memory: Memory,
    /// Constants by function and buffer.
    consts: BTreeMap<(usize, usize), usize>,
}

/// The state of one call.
struct Frame<'a> {
    number: usize,
    func: &'a LoopFunc,
    homes: Vec<Home>,
    /// Region of the arena, and where this frame begins in it.
    arena: (usize, usize),
    depth: usize,
    vars: Vec<i64>,
    locals: Vec<Option<Value>>,
    /// Values of expressions, with the evaluation they belong to.
    values: Vec<(u64, Value)>,
    evaluation: u64,
}

impl<'a> Machine<'a> {
    pub fn new(
        program: &'a LoopProgram,
        frames: &'a Evaluated,
        dims: &'a dyn Fn(&Symbol) -> Option<i64>,
        order: Order,
    ) -> Self {
        Machine { program, frames, dims, order, memory: Memory::default(), consts: BTreeMap::new() }
    }

    /// Calls a function from outside; results have one axis.
    pub fn enter(&mut self, func: usize, tensors: &[Tensor], arena: u64) -> Result<Vec<Tensor>, RunError> {
        let size = usize::try_from(arena).map_err(|_| invalid("an arena beyond the address space"))?;
        let arena = self.memory.allocate(size)?;
        let callee = &self.program.functions[func];
        let formal = args(callee);
        if formal.len() != tensors.len() {
            return Err(invalid("the number of arguments"));
        }
        let mut passed = Vec::with_capacity(tensors.len());
        for (id, tensor) in formal.iter().zip(tensors) {
            let home = Home {
                region: self.memory.hold(tensor),
                base: 0,
                elems: tensor.elems() as i64,
                dtype: tensor.dtype(),
            };
            let buffer = &callee.buffers[id.0 as usize];
            if home.elems != self.dim(&buffer.elems)? || home.dtype != buffer.dtype {
                return Err(RunError::Invalid(format!("argument `{}` has another type", buffer.name)));
            }
            passed.push(home);
        }
        let mut given = Vec::new();
        for id in results(callee) {
            let buffer = &callee.buffers[id.0 as usize];
            let elems = self.dim(&buffer.elems)?;
            let size = usize::try_from(elems).map_err(|_| invalid("a negative size"))?;
            let region = self.memory.allocate(size * buffer.dtype.size_bytes())?;
            given.push(Home { region, base: 0, elems, dtype: buffer.dtype });
        }
        self.call(func, &passed, &given, (arena, 0), 0)?;
        given.into_iter().map(|home| self.memory.tensor(home)).collect()
    }

    fn call(
        &mut self,
        number: usize,
        passed: &[Home],
        given: &[Home],
        arena: (usize, usize),
        depth: usize,
    ) -> Result<(), RunError> {
        if depth > MAX_DEPTH {
            return Err(invalid("calls form a cycle"));
        }
        let func = &self.program.functions[number];
        let mut homes = Vec::with_capacity(func.buffers.len());
        for (id, buffer) in func.buffers.iter().enumerate() {
            let elems = self.dim(&buffer.elems)?;
            let dtype = buffer.dtype;
            homes.push(match &buffer.kind {
                BufferKind::Arg(k) => Home { elems, ..passed[*k as usize] },
                BufferKind::Result(k) => Home { elems, ..given[*k as usize] },
                BufferKind::Const(tensor) => {
                    let memory = &mut self.memory;
                    let region = *self.consts.entry((number, id)).or_insert_with(|| memory.hold(tensor));
                    Home { region, base: 0, elems, dtype }
                }
                BufferKind::Temp => {
                    let offset = self.frames.functions[number].offsets[id].unwrap_or(0) as usize;
                    Home { region: arena.0, base: arena.1 + offset, elems, dtype }
                }
            });
        }
        let mut frame = Frame {
            number,
            func,
            homes,
            arena,
            depth,
            vars: vec![0; func.vars.len()],
            locals: vec![None; func.locals.len()],
            values: vec![(0, Value::Bool(false)); func.scalars.len()],
            evaluation: 0,
        };
        self.list(&mut frame, &func.body)
    }

    fn list(&mut self, frame: &mut Frame<'a>, stmts: &'a [Stmt]) -> Result<(), RunError> {
        stmts.iter().try_for_each(|stmt| self.stmt(frame, stmt))
    }

    fn stmt(&mut self, frame: &mut Frame<'a>, stmt: &'a Stmt) -> Result<(), RunError> {
        frame.evaluation += 1;
        match stmt {
            Stmt::For { var, extent, reverse, kind, body } => {
                let extent = self.int(frame, *extent)?;
                let backwards = *kind != LoopKind::Serial && self.order == Order::Backwards;
                for step in 0..extent {
                    let last_first = *reverse != backwards;
                    frame.vars[var.0 as usize] = if last_first { extent - 1 - step } else { step };
                    self.list(frame, body)?;
                }
            }
            Stmt::Set { local, value } => {
                let value = self.value(frame, *value)?;
                frame.locals[local.0 as usize] = Some(value);
            }
            Stmt::Reduce { local, op, value } => {
                let value = self.value(frame, *value)?;
                let so_far =
                    frame.locals[local.0 as usize].ok_or_else(|| invalid("a local that is not set"))?;
                frame.locals[local.0 as usize] = Some(apply_binary(*op, so_far, value)?);
            }
            Stmt::Store { buffer, index, value } => {
                let (index, value) = (self.int(frame, *index)?, self.value(frame, *value)?);
                let home = frame.homes[buffer.0 as usize];
                self.memory.store(home, index, value).map_err(|e| named(e, frame, buffer.0))?;
            }
            Stmt::If { condition, then, otherwise } => {
                let taken = if self.truth(frame, *condition)? { then } else { otherwise };
                self.list(frame, taken)?;
            }
            Stmt::Fail { condition, site, values } => {
                if self.truth(frame, *condition)? {
                    return Err(self.failed(frame, *site, values));
                }
            }
            Stmt::Call { func, args, results } => self.call_from(frame, *func, args, results)?,
            Stmt::Kernel(kernel) => {
                let Kernel::Gemm(gemm) = kernel.as_ref();
                self.gemm(frame, gemm)?;
            }
            Stmt::Mark { .. } => {}
        }
        Ok(())
    }

    fn failed(&mut self, frame: &mut Frame<'a>, site: SiteId, values: &[ScalarId]) -> RunError {
        let values: Result<Vec<i64>, RunError> = values.iter().map(|id| self.int(frame, *id)).collect();
        let values = match values {
            Ok(values) => values,
            Err(error) => return error,
        };
        let site_of = &self.program.sites[site.0 as usize];
        let message = values.iter().enumerate().fold(site_of.message.clone(), |message, (k, value)| {
            message.replace(&format!("{{{k}}}"), &value.to_string())
        });
        let failure = Failure { site: site.0 as usize, values };
        RunError::Failed { failure, message, code: site_of.code, span: site_of.span }
    }

    fn call_from(
        &mut self,
        frame: &mut Frame<'a>,
        func: usize,
        actual: &[Pointer],
        given: &[Pointer],
    ) -> Result<(), RunError> {
        let callee = &self.program.functions[func];
        let mut homes = [Vec::new(), Vec::new()];
        for (which, (formal, actual)) in [(args(callee), actual), (results(callee), given)].iter().enumerate()
        {
            if formal.len() != actual.len() {
                return Err(invalid("a call with the wrong number of operands"));
            }
            for (id, pointer) in formal.iter().zip(*actual) {
                let home = frame.homes[pointer.buffer.0 as usize];
                let buffer = &callee.buffers[id.0 as usize];
                let (offset, elems) = (self.int(frame, pointer.offset)?, self.dim(&buffer.elems)?);
                if offset < 0 || offset + elems > home.elems || home.dtype != buffer.dtype {
                    let what = format!("an operand of a call of {} outside its buffer", callee.name);
                    return Err(RunError::Invalid(what));
                }
                let base = home.base + offset as usize * home.dtype.size_bytes();
                homes[which].push(Home { base, elems, ..home });
            }
        }
        let at = self.frames.functions[frame.number].callees.get(&func).copied();
        let at = at.ok_or_else(|| invalid("a call without a frame"))? as usize;
        let [passed, given] = homes;
        self.call(func, &passed, &given, (frame.arena.0, frame.arena.1 + at), frame.depth + 1)
    }

    fn gemm(&mut self, frame: &mut Frame<'a>, gemm: &'a Gemm) -> Result<(), RunError> {
        let [m, n, k] = [gemm.m, gemm.n, gemm.k];
        let (m, n, k) = (self.int(frame, m)?, self.int(frame, n)?, self.int(frame, k)?);
        // Where each point of the outer contracted axes lies in both operands.
        let mut outer = vec![(0, 0)];
        for axis in &gemm.outer {
            let extent = self.int(frame, axis.extent)?;
            let (lhs, rhs) = (self.int(frame, axis.lhs)?, self.int(frame, axis.rhs)?);
            let steps = |(a, b): (i64, i64)| (0..extent).map(move |q| (a + q * lhs, b + q * rhs));
            outer = outer.into_iter().flat_map(steps).collect();
        }
        let mut walk = |matrix: &Matrix| -> Result<(Home, i64, i64, i64), RunError> {
            let home = frame.homes[matrix.at.buffer.0 as usize];
            let offset = self.int(frame, matrix.at.offset)?;
            let slow = self.int(frame, matrix.strides.0)?;
            Ok((home, offset, slow, self.int(frame, matrix.strides.1)?))
        };
        let (lhs, rhs, out) = (walk(&gemm.lhs)?, walk(&gemm.rhs)?, walk(&gemm.out)?);
        let element =
            |memory: &Memory, (home, at, slow, fast): (Home, i64, i64, i64), i: i64, j: i64| match memory
                .load(home, at + i * slow + j * fast)?
            {
                Value::F32(x) => Ok(x),
                _ => Err(invalid("a product of another type than f32")),
            };
        for i in 0..m {
            for j in 0..n {
                let mut acc = 0f32;
                for (at_lhs, at_rhs) in &outer {
                    let moved =
                        |(home, at, slow, fast): (Home, i64, i64, i64), by| (home, at + by, slow, fast);
                    let (lhs, rhs) = (moved(lhs, at_lhs), moved(rhs, at_rhs));
                    for p in 0..k {
                        let (x, y) = (element(&self.memory, lhs, i, p)?, element(&self.memory, rhs, p, j)?);
                        acc = x.mul_add(y, acc);
                    }
                }
                let mut value = Value::F32(acc);
                if let Some(epilogue) = &gemm.epilogue {
                    frame.vars[epilogue.row.0 as usize] = i;
                    frame.vars[epilogue.column.0 as usize] = j;
                    frame.locals[epilogue.acc.0 as usize] = Some(value);
                    frame.evaluation += 1;
                    value = self.value(frame, epilogue.value)?;
                }
                let (home, at, slow, fast) = out;
                self.memory.store(home, at + i * slow + j * fast, value)?;
            }
        }
        Ok(())
    }

    /// The value of an expression; all its operands are evaluated, as in compiled code.
    fn value(&mut self, frame: &mut Frame<'a>, root: ScalarId) -> Result<Value, RunError> {
        let mut pending = vec![root];
        while let Some(id) = pending.last().copied() {
            let at = id.0 as usize;
            if frame.values[at].0 == frame.evaluation {
                pending.pop();
                continue;
            }
            let operands = frame.func.scalars.operands(id);
            let missing: Vec<ScalarId> =
                operands.into_iter().filter(|o| frame.values[o.0 as usize].0 != frame.evaluation).collect();
            if missing.is_empty() {
                let value = self.apply(frame, id)?;
                frame.values[at] = (frame.evaluation, value);
                pending.pop();
            } else {
                pending.extend(missing);
            }
        }
        Ok(frame.values[root.0 as usize].1)
    }

    fn apply(&self, frame: &Frame<'a>, id: ScalarId) -> Result<Value, RunError> {
        let at = |id: ScalarId| frame.values[id.0 as usize].1;
        let dtype = frame.func.scalars.dtype(id);
        let value = match frame.func.scalars.get(id) {
            Scalar::Const(literal) => constant(*literal, dtype),
            Scalar::Dim(dim) => Value::I64(self.dim(dim)?),
            Scalar::Var(var) => Value::I64(frame.vars[var.0 as usize]),
            Scalar::Local(local) => {
                frame.locals[local.0 as usize].ok_or_else(|| invalid("a local that is not set"))?
            }
            Scalar::Load(buffer, index) => {
                let index = at(*index).as_i64().ok_or_else(|| invalid("an index that is not i64"))?;
                let home = frame.homes[buffer.0 as usize];
                self.memory.load(home, index).map_err(|e| named(e, frame, buffer.0))?
            }
            Scalar::Unary(op, a) => apply_unary(*op, at(*a))?,
            Scalar::Binary(op, a, b) => apply_binary(*op, at(*a), at(*b))?,
            Scalar::Select(c, a, b) => match at(*c) {
                Value::Bool(true) => at(*a),
                Value::Bool(false) => at(*b),
                _ => return Err(invalid("a condition that is not bool")),
            },
            Scalar::Cast(a) => value::cast(at(*a), dtype),
        };
        Ok(value)
    }

    fn int(&mut self, frame: &mut Frame<'a>, id: ScalarId) -> Result<i64, RunError> {
        self.value(frame, id)?.as_i64().ok_or_else(|| invalid("an index that is not i64"))
    }

    fn truth(&mut self, frame: &mut Frame<'a>, id: ScalarId) -> Result<bool, RunError> {
        self.value(frame, id)?.as_bool().ok_or_else(|| invalid("a condition that is not bool"))
    }

    fn dim(&self, dim: &Dim) -> Result<i64, RunError> {
        match dim.eval(self.dims) {
            Ok(value) => Ok(value),
            // Never used for anything, as the loop IR says.
            Err(DimError::DivisionByZero) => Ok(0),
            Err(error) => Err(LimitError(error).into()),
        }
    }
}

fn invalid(what: &str) -> RunError {
    RunError::Invalid(what.into())
}

/// The error with the name of the buffer.
fn named(error: RunError, frame: &Frame<'_>, buffer: u32) -> RunError {
    match error {
        RunError::Invalid(what) => {
            let name = &frame.func.buffers[buffer as usize].name;
            RunError::Invalid(format!("{what}: `{name}` in {}", frame.func.name))
        }
        other => other,
    }
}

fn constant(literal: Literal, dtype: DType) -> Value {
    let value = match literal {
        Literal::Real(bits) => Value::F64(f64::from_bits(bits)),
        Literal::Int(value) => Value::I64(value),
        Literal::Bool(value) => Value::Bool(value),
    };
    value::cast(value, dtype)
}
