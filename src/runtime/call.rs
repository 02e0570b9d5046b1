//! The one call into native code.
//!
//! [`run`] is a safe function: it checks against the loop program what the code relies on, which
//! is the number of pointers, that each is aligned and has at least the bytes of its buffer, and
//! the size of the arena. That arguments and results do not overlap follows from borrowing.
#![expect(unsafe_code, reason = "native code is called here")]

use super::aligned::AlignedBytes;
use super::record::Recorder;
use super::threads::Threads;
use crate::codegen::abi::{Context, Exec, Hook, MAX_VALUES, Recorded, Status};
use crate::codegen::jit::Code;
use crate::graph::dims::DimEnv;
use crate::loops::buffers;
use crate::loops::ir::{BufferId, LoopFunc};
use crate::tensor::{Data, DataView, Tensor};

/// What a call reads.
#[derive(Clone, Copy, Debug)]
pub(super) enum Operand<'a> {
    Elements(DataView<'a>),
    Bytes(&'a [u8]),
}

/// What a call writes.
#[derive(Debug)]
pub(super) enum Output<'a> {
    Tensor(&'a mut Tensor),
    Bytes(&'a mut [u8]),
}

/// A function and the sizes it is called with.
#[derive(Clone, Copy)]
pub(super) struct Target<'a> {
    pub code: &'a Code,
    pub func: &'a LoopFunc,
    /// Which function of the program it is.
    pub index: usize,
    pub env: &'a DimEnv,
    /// The free dimensions in the order of the signature.
    pub dims: &'a [i64],
    /// # Units
    /// Bytes of arena, padding included.
    pub arena_bytes: usize,
    /// What the work is divided between; the calling thread alone without.
    pub threads: Option<&'a Threads>,
}

/// What a function is called with.
type Pointers<'a> = &'a [*mut u8];

/// Why a call gave no result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// A check of the program failed.
    Site { site: i64, values: [i64; MAX_VALUES] },
    /// What was passed is not what the code relies on: a fault of our own.
    Mismatch(&'static str),
}

/// Stands in for an empty tensor: the loop IR lets one element of every buffer be loaded.
#[repr(align(64))]
struct Padding([u64; 8]);
static PADDING: Padding = Padding([0; 8]);

/// Calls a function.
pub(super) fn run(
    target: Target<'_>,
    arena: &mut AlignedBytes,
    operands: &[Operand<'_>],
    outputs: &mut [Output<'_>],
    recorder: Option<&mut Recorder>,
) -> Result<(), Failure> {
    let Target { func, env, arena_bytes, threads, .. } = target;
    if arena.len() < arena_bytes {
        return Err(Failure::Mismatch("the arena is too small"));
    }
    let (args, results) = (buffers::args(func), buffers::results(func));
    if (args.len(), results.len()) != (operands.len(), outputs.len()) {
        return Err(Failure::Mismatch("the number of tensors differs"));
    }
    // Results of no elements are never written.
    let mut pointers: Vec<*mut u8> = Vec::with_capacity(args.len() + results.len());
    for (id, operand) in args.into_iter().zip(operands) {
        pointers.push(checked(func, env, id, operand.start().cast_mut(), operand.len_bytes())?);
    }
    for (id, output) in results.into_iter().zip(outputs) {
        let (start, len_bytes) = output.parts();
        pointers.push(checked(func, env, id, start, len_bytes)?);
    }
    let exec = threads.map(Threads::exec);
    match recorder {
        None => enter(target, arena, &pointers, exec, None),
        Some(recorder) => {
            recorder.around(exec, |exec, hook| enter(target, arena, &pointers, exec, Some(hook)))
        }
    }
}

/// Calls a function whose arguments have been checked.
fn enter(
    target: Target<'_>,
    arena: &mut AlignedBytes,
    pointers: Pointers<'_>,
    exec: Option<Exec>,
    hook: Option<&Hook>,
) -> Result<(), Failure> {
    let exec = exec.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
    let hook = hook.map_or(std::ptr::null(), std::ptr::from_ref);
    let mut recorded = Recorded { context: Context { exec, ..Context::new() }, hook };
    let entry = target.code.entry(target.index);
    let entry = entry.ok_or(Failure::Mismatch("this processor lacks instructions of the code"))?;
    let context = (&raw mut recorded).cast::<Context>();
    // SAFETY: the code is alive and this processor has its instructions; `pointers` are the arguments and results of its
    // function `index`, `func`, in order, aligned, borrowed for the call, and of the bytes that `dims`, in the signature's
    // order, give; the arena is as large as planned; the threads behind `exec` are borrowed for the call, and tasks of the
    // code may run at once; the context is followed by its hook, which is null or borrowed for the call.
    let status = unsafe { entry(context, target.dims.as_ptr(), arena.as_mut_ptr(), pointers.as_ptr()) };
    if status == Status::Ok as i32 {
        Ok(())
    } else {
        Err(Failure::Site { site: recorded.context.site, values: recorded.context.values })
    }
}

fn checked(
    func: &LoopFunc,
    env: &DimEnv,
    id: BufferId,
    start: *mut u8,
    len_bytes: usize,
) -> Result<*mut u8, Failure> {
    let buffer = &func.buffers[id.0 as usize];
    let elems = env.size(&buffer.elems).map_err(|_| Failure::Mismatch("a buffer has no size"))?;
    if elems == 0 {
        return Ok((&raw const PADDING.0).cast_mut().cast());
    }
    let size = buffer.dtype.size_bytes();
    if elems.checked_mul(size).is_none_or(|needed| len_bytes < needed) {
        return Err(Failure::Mismatch("a tensor is too small"));
    }
    if !start.addr().is_multiple_of(size) {
        return Err(Failure::Mismatch("a tensor is not aligned"));
    }
    Ok(start)
}

impl Operand<'_> {
    fn start(&self) -> *const u8 {
        match self {
            Operand::Elements(view) => view.as_ptr(),
            Operand::Bytes(bytes) => bytes.as_ptr(),
        }
    }

    fn len_bytes(&self) -> usize {
        match self {
            Operand::Elements(view) => view.len() * view.dtype().size_bytes(),
            Operand::Bytes(bytes) => bytes.len(),
        }
    }
}

impl Output<'_> {
    fn parts(&mut self) -> (*mut u8, usize) {
        match self {
            Output::Tensor(tensor) => {
                let len_bytes = tensor.size_bytes();
                (start_mut(tensor), len_bytes)
            }
            Output::Bytes(bytes) => (bytes.as_mut_ptr(), bytes.len()),
        }
    }
}

fn start_mut(tensor: &mut Tensor) -> *mut u8 {
    let start = match tensor.data() {
        Data::F32(_) => tensor.as_f32_mut().map(|v| v.as_mut_ptr().cast()),
        Data::F64(_) => tensor.as_f64_mut().map(|v| v.as_mut_ptr().cast()),
        Data::I32(_) => tensor.as_i32_mut().map(|v| v.as_mut_ptr().cast()),
        Data::I64(_) => tensor.as_i64_mut().map(|v| v.as_mut_ptr().cast()),
        // Generated code stores 0 or 1 only.
        Data::Bool(_) => tensor.as_bool_mut().map(|v| v.as_mut_ptr().cast()),
    };
    start.unwrap_or(std::ptr::null_mut())
}
