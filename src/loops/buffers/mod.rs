//! Where temporary buffers lie: one arena per call in flight.
//!
//! [`plan`] finds when each temporary is live ([`live`]), lays those of known size out in a fixed
//! part by best fit, and gives the others slots by colouring their interference: two buffers that
//! are live at once never share bytes. Sizes are [`Dim`]s in bytes, so what holds for every call is
//! decided here and [`Plan::evaluate`] only puts numbers in, with overflow checked. The slots of a
//! frame follow its fixed part in order: where one starts is a running sum, not a formula.
//!
//! The arena of a callee is a buffer of its caller, live at the calls of that callee. All offsets
//! are multiples of [`ALIGN_BYTES`]; the whole arena ends with as many bytes of padding, which the
//! loop IR promises for loads of empty buffers.

mod layout;
mod live;
mod print;

#[cfg(test)]
pub(crate) mod tests;

pub use print::print;

use super::ir::{BufferId, BufferKind, LoopFunc, LoopProgram, Scalar};
use crate::dim::{Dim, DimError, Symbol};
use crate::dtype::DType;
use std::collections::{BTreeMap, BTreeSet};

/// # Units
/// Bytes; a cache line, and the widest vector.
pub const ALIGN_BYTES: i64 = 64;

/// How temporary buffers of all functions are laid out.
#[derive(Clone, Debug)]
pub struct Plan {
    /// One frame per function of the program.
    pub functions: Vec<FramePlan>,
    /// The function of the entry.
    pub entry: usize,
    /// Every size and stride that generated code computes, unchecked: checked once per call here.
    pub(crate) sizes: Vec<Dim>,
    /// # Units
    /// Bytes of the arena of the entry, padding included.
    pub entry_bytes: Dim,
    /// # Units
    /// Bytes of the arena of the bind function, padding included.
    pub bind_bytes: Option<Dim>,
}

/// The frame of one function.
#[derive(Clone, Debug)]
pub struct FramePlan {
    /// Where each temporary lies; `None` for other buffers and unused ones.
    pub places: Vec<Option<Place>>,
    /// Where the frame of a called function begins.
    pub callees: BTreeMap<usize, Place>,
    /// # Units
    /// Bytes of the part at the start whose layout is known, a multiple of [`ALIGN_BYTES`].
    pub fixed_bytes: i64,
    /// # Units
    /// Bytes of each slot, multiples of [`ALIGN_BYTES`]. The slots follow the fixed part in order.
    pub slots: Vec<Dim>,
    /// # Units
    /// Bytes of the frame: the fixed part and all slots.
    pub size_bytes: Dim,
    /// What was laid out, for the printed form and the lower bound.
    pub(crate) tenants: Vec<Tenant>,
}

/// Where something lies in a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// # Units
    /// Bytes from the start of the frame.
    Fixed(i64),
    /// At the start of this slot.
    Slot(usize),
}

/// Something that takes up room in a frame while it is live.
#[derive(Clone, Debug)]
pub(crate) struct Tenant {
    pub what: Occupant,
    /// # Units
    /// Bytes, a multiple of [`ALIGN_BYTES`].
    pub size_bytes: Dim,
    /// First and last statement, in preorder, at which it is live.
    pub live: (usize, usize),
    pub place: Place,
}

/// What takes up the room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Occupant {
    Buffer(BufferId),
    /// The frame of a called function.
    Frame(usize),
}

/// A limit that given dimensions exceed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the memory for these dimensions cannot be computed: {0}")]
pub struct LimitError(#[from] pub DimError);

/// A plan for given dimensions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evaluated {
    /// One per function.
    pub functions: Vec<Frame>,
    /// # Units
    /// Bytes of the arena that the entry needs, padding included.
    pub entry_bytes: u64,
    /// # Units
    /// Bytes of the arena that the bind function needs, padding included; 0 without one.
    pub bind_bytes: u64,
    /// # Units
    /// Bytes that are live at once in the entry at its worst statement: no layout needs less.
    pub lower_bound_bytes: u64,
}

/// The frame of one function for given dimensions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Byte offset of each temporary.
    pub offsets: Vec<Option<u64>>,
    /// Byte offset at which the frame of a called function begins.
    pub callees: BTreeMap<usize, u64>,
    /// # Units
    /// Bytes.
    pub size_bytes: u64,
}

/// Lays out the temporaries of a program.
///
/// # Errors
/// A size that no [`Dim`] holds.
pub fn plan(program: &LoopProgram) -> Result<Plan, LimitError> {
    let mut functions: Vec<FramePlan> = Vec::with_capacity(program.functions.len());
    for func in &program.functions {
        let sizes: Vec<Dim> = functions.iter().map(|f| f.size_bytes.clone()).collect();
        functions.push(layout::frame(func, &sizes)?);
    }
    let padded = |at: usize| functions[at].size_bytes.add(&Dim::from(ALIGN_BYTES));
    let entry_bytes = padded(program.entry)?;
    let bind_bytes = program.bind.map(padded).transpose()?;
    Ok(Plan { entry: program.entry, sizes: sizes(program), entry_bytes, bind_bytes, functions })
}

/// All sizes that occur in the code of a program, each once.
fn sizes(program: &LoopProgram) -> Vec<Dim> {
    let mut found: BTreeSet<Dim> = program.assumed.iter().cloned().collect();
    for func in &program.functions {
        found.extend(func.scalars.iter().filter_map(|(_, scalar, _)| match scalar {
            Scalar::Dim(dim) => Some(dim.clone()),
            _ => None,
        }));
        found.extend(func.buffers.iter().map(|b| b.elems.clone()).filter(|d| d.as_const().is_none()));
    }
    found.into_iter().collect()
}

impl Plan {
    /// Puts numbers in.
    ///
    /// # Errors
    /// Overflow, or a symbol without a value.
    pub fn evaluate(&self, dims: &dyn Fn(&Symbol) -> Option<i64>) -> Result<Evaluated, LimitError> {
        let bytes = |dim: &Dim| -> Result<u64, LimitError> {
            let value = dim.eval(dims)?;
            Ok(u64::try_from(value).map_err(|_| DimError::Negative(value))?)
        };
        for size in &self.sizes {
            match size.eval(dims) {
                // The quotient is not used where its divisor is zero, as the loop IR says.
                Ok(_) | Err(DimError::DivisionByZero) => {}
                Err(error) => return Err(error.into()),
            }
        }
        let mut functions = Vec::with_capacity(self.functions.len());
        for frame in &self.functions {
            let mut starts = Vec::with_capacity(frame.slots.len());
            let mut end = frame.fixed_bytes as u64;
            for slot in &frame.slots {
                starts.push(end);
                end = end.checked_add(bytes(slot)?).ok_or(DimError::Overflow)?;
            }
            let at = |place: &Place| match place {
                Place::Fixed(offset) => *offset as u64,
                Place::Slot(slot) => starts[*slot],
            };
            let offsets = frame.places.iter().map(|place| place.as_ref().map(at)).collect();
            let callees = frame.callees.iter().map(|(callee, place)| (*callee, at(place))).collect();
            functions.push(Frame { offsets, callees, size_bytes: end });
        }
        Ok(Evaluated {
            functions,
            entry_bytes: bytes(&self.entry_bytes)?,
            bind_bytes: self.bind_bytes.as_ref().map_or(Ok(0), bytes)?,
            lower_bound_bytes: self.lower_bound(dims)?,
        })
    }

    fn lower_bound(&self, dims: &dyn Fn(&Symbol) -> Option<i64>) -> Result<u64, LimitError> {
        let mut bounds: Vec<u64> = Vec::with_capacity(self.functions.len());
        for frame in &self.functions {
            let mut spans = Vec::with_capacity(frame.tenants.len());
            for tenant in &frame.tenants {
                let size = match tenant.what {
                    Occupant::Frame(callee) => bounds[callee],
                    Occupant::Buffer(_) => {
                        let value = tenant.size_bytes.eval(dims)?;
                        u64::try_from(value).map_err(|_| DimError::Negative(value))?
                    }
                };
                spans.push((tenant.live, size));
            }
            let at = |point: usize| -> u64 {
                let live = spans.iter().filter(|((from, to), _)| (*from..=*to).contains(&point));
                live.fold(0, |sum: u64, (_, size)| sum.saturating_add(*size))
            };
            bounds.push(spans.iter().map(|((from, _), _)| at(*from)).max().unwrap_or(0));
        }
        Ok(bounds[self.entry])
    }
}

/// How the results of the bind function lie in the blob of packed weights.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub struct BlobLayout {
    /// One part per result of the bind function, in order.
    pub parts: Vec<BlobPart>,
    /// # Units
    /// Bytes of the blob, padding at its end included.
    pub size_bytes: Dim,
}

/// A part of the blob.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub struct BlobPart {
    /// # Units
    /// Bytes from the start, a multiple of [`ALIGN_BYTES`].
    pub offset_bytes: Dim,
    /// Number of elements.
    pub elems: Dim,
    /// Element type.
    pub dtype: DType,
}

impl BlobLayout {
    /// The layout of what `bind` gives; empty where there is no bind function.
    ///
    /// # Errors
    /// A size that no [`Dim`] holds.
    pub fn new(program: &LoopProgram) -> Result<BlobLayout, LimitError> {
        let mut parts = Vec::new();
        let mut next = Dim::ZERO;
        if let Some(bind) = program.bind {
            for result in results(&program.functions[bind]) {
                let buffer = &program.functions[bind].buffers[result.0 as usize];
                let (elems, dtype) = (buffer.elems.clone(), buffer.dtype);
                let size = layout::aligned_bytes(&elems, dtype)?;
                parts.push(BlobPart { offset_bytes: next.clone(), elems, dtype });
                next = next.add(&size).map_err(LimitError)?;
            }
        }
        let size_bytes = next.add(&Dim::from(ALIGN_BYTES))?;
        Ok(BlobLayout { parts, size_bytes })
    }
}

/// The result buffers of a function, in order.
pub fn results(func: &LoopFunc) -> Vec<BufferId> {
    in_order(func, |kind| match kind {
        BufferKind::Result(k) => Some(*k),
        _ => None,
    })
}

/// The argument buffers of a function, in order.
pub fn args(func: &LoopFunc) -> Vec<BufferId> {
    in_order(func, |kind| match kind {
        BufferKind::Arg(k) => Some(*k),
        _ => None,
    })
}

fn in_order(func: &LoopFunc, number: impl Fn(&BufferKind) -> Option<u32>) -> Vec<BufferId> {
    let numbered = func.buffers.iter().enumerate();
    let mut found: Vec<(u32, BufferId)> =
        numbered.filter_map(|(id, b)| Some((number(&b.kind)?, BufferId(id as u32)))).collect();
    found.sort_unstable();
    found.into_iter().map(|(_, id)| id).collect()
}
