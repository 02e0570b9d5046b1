//! The layout of one frame.
//!
//! Tenants of known size go into the fixed part, largest first, each into the smallest gap left by
//! those that are live at the same time (best fit). Tenants of symbolic size have no order, so they
//! share *slots*: a tenant takes a slot none of whose tenants is live with it, preferring one of its
//! size, then one that is known to be larger or smaller; the slot is as large as the largest of them.

use super::live::live;
use super::{ALIGN_BYTES, FramePlan, LimitError, Occupant, Place, Tenant};
use crate::dim::Dim;
use crate::dtype::DType;
use crate::loops::ir::{BufferKind, LoopFunc};
use std::collections::BTreeMap;

/// # Units
/// Bytes of a buffer, rounded up to a multiple of [`ALIGN_BYTES`].
pub(crate) fn aligned_bytes(elems: &Dim, dtype: DType) -> Result<Dim, LimitError> {
    let bytes = elems.mul(&Dim::from(dtype.size_bytes() as i64))?;
    let unit = Dim::from(ALIGN_BYTES);
    if bytes.exact_div(&unit).is_some() {
        return Ok(bytes);
    }
    Ok(bytes.add(&Dim::from(ALIGN_BYTES - 1))?.floor_div(&unit)?.mul(&unit)?)
}

/// Lays out a function whose callees have the given frame sizes.
pub(crate) fn frame(func: &LoopFunc, callee_bytes: &[Dim]) -> Result<FramePlan, LimitError> {
    let mut tenants = tenants(func, callee_bytes)?;
    let fixed_bytes = fixed_part(&mut tenants)?;
    let slots = slots(&mut tenants)?;
    let mut size_bytes = Dim::from(fixed_bytes);
    for slot in &slots {
        size_bytes = size_bytes.add(slot)?;
    }
    let mut places = vec![None; func.buffers.len()];
    let mut callees = BTreeMap::new();
    for tenant in &tenants {
        match tenant.what {
            Occupant::Buffer(id) => places[id.0 as usize] = Some(tenant.place),
            Occupant::Frame(callee) => {
                callees.insert(callee, tenant.place);
            }
        }
    }
    Ok(FramePlan { places, callees, fixed_bytes, slots, size_bytes, tenants })
}

fn tenants(func: &LoopFunc, callee_bytes: &[Dim]) -> Result<Vec<Tenant>, LimitError> {
    let live = live(func);
    let mut found = Vec::new();
    for (id, span) in live.buffers {
        let buffer = &func.buffers[id.0 as usize];
        if matches!(buffer.kind, BufferKind::Temp) {
            let size_bytes = aligned_bytes(&buffer.elems, buffer.dtype)?;
            let what = Occupant::Buffer(id);
            found.push(Tenant { what, size_bytes, live: span, place: Place::Fixed(0) });
        }
    }
    for (callee, span) in live.callees {
        let size_bytes = callee_bytes[callee].clone();
        found.push(Tenant { what: Occupant::Frame(callee), size_bytes, live: span, place: Place::Fixed(0) });
    }
    Ok(found)
}

pub(crate) fn overlap(a: (usize, usize), b: (usize, usize)) -> bool {
    a.0 <= b.1 && b.0 <= a.1
}

/// Places the tenants of known size; gives the bytes they take.
fn fixed_part(tenants: &mut [Tenant]) -> Result<i64, LimitError> {
    let mut order: Vec<(i64, usize)> =
        (0..tenants.len()).filter_map(|k| Some((tenants[k].size_bytes.as_const()?, k))).collect();
    order.sort_by_key(|(size, k)| (-size, tenants[*k].live, *k));
    let mut placed: Vec<(i64, i64, (usize, usize))> = Vec::with_capacity(order.len());
    let mut end = 0;
    for (size, k) in order {
        let live = tenants[k].live;
        let mut taken: Vec<(i64, i64)> =
            placed.iter().filter(|(_, _, other)| overlap(live, *other)).map(|(a, b, _)| (*a, *b)).collect();
        taken.sort_unstable();
        let offset = best_gap(&taken, size);
        let after = offset.checked_add(size).ok_or(crate::dim::DimError::Overflow)?;
        tenants[k].place = Place::Fixed(offset);
        placed.push((offset, after, live));
        end = end.max(after);
    }
    Ok(end)
}

/// The start of the smallest gap that holds `size`, or the end of all.
fn best_gap(taken: &[(i64, i64)], size: i64) -> i64 {
    let (mut best, mut cursor) = (None, 0);
    for (from, to) in taken {
        let room = from - cursor;
        if room >= size && best.is_none_or(|(known, _)| room < known) {
            best = Some((room, cursor));
        }
        cursor = cursor.max(*to);
    }
    best.map_or(cursor, |(_, at)| at)
}

struct Slot {
    /// The sizes that count: none is known to be at least another.
    sizes: Vec<Dim>,
    members: Vec<usize>,
}

/// How well a tenant fits a slot, best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fit {
    /// There is a tenant of its size.
    Same,
    /// The slot is never smaller.
    Inside,
    /// The slot is never larger, and grows to its size.
    Grown,
    /// Which is larger depends on the sizes of a call.
    Unordered,
}

impl Slot {
    fn fit(&self, size: &Dim) -> Fit {
        if self.sizes.contains(size) {
            Fit::Same
        } else if self.sizes.iter().any(|known| covers(known, size)) {
            Fit::Inside
        } else if self.sizes.iter().all(|known| covers(size, known)) {
            Fit::Grown
        } else {
            Fit::Unordered
        }
    }

    fn take(&mut self, tenant: usize, size: &Dim) {
        self.members.push(tenant);
        if !self.sizes.iter().any(|known| covers(known, size)) {
            self.sizes.retain(|known| !covers(size, known));
            self.sizes.push(size.clone());
        }
    }
}

/// Whether a size is at least another for all values of the dimensions.
fn covers(size: &Dim, other: &Dim) -> bool {
    size.sub(other).is_ok_and(|room| room.is_non_negative())
}

/// Gives the tenants of symbolic size their slots, and the sizes of these.
fn slots(tenants: &mut [Tenant]) -> Result<Vec<Dim>, LimitError> {
    let mut order: Vec<usize> =
        (0..tenants.len()).filter(|k| tenants[*k].size_bytes.as_const().is_none()).collect();
    order.sort_by_key(|k| (tenants[*k].live, *k));
    let mut slots: Vec<Slot> = Vec::new();
    for k in order {
        let free = |slot: &Slot| slot.members.iter().all(|m| !overlap(tenants[*m].live, tenants[k].live));
        let size = &tenants[k].size_bytes;
        let best = slots.iter_mut().filter(|slot| free(slot)).min_by_key(|slot| slot.fit(size));
        match best {
            Some(slot) => slot.take(k, size),
            None => slots.push(Slot { sizes: vec![size.clone()], members: vec![k] }),
        }
    }
    for (at, slot) in slots.iter().enumerate() {
        for member in &slot.members {
            tenants[*member].place = Place::Slot(at);
        }
    }
    let largest = |sizes: Vec<Dim>| sizes.iter().try_fold(Dim::ZERO, |most, size| most.maximum(size));
    slots.into_iter().map(|slot| largest(slot.sizes).map_err(LimitError)).collect()
}
