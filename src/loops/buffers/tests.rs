use super::*;
use crate::graph::fixture::{Fixture, at, axes, map, reduce, sym};
use crate::loops::lower::lower;
use crate::ops::reduce::Reducer;
use crate::ops::scalar::BinaryOp;

/// Two tenants of one frame that are live at once and share bytes, found by brute force.
pub(crate) fn overlapping(
    plan: &Plan,
    dims: &dyn Fn(&Symbol) -> Option<i64>,
) -> Result<Option<String>, LimitError> {
    let evaluated = plan.evaluate(dims)?;
    for (at, frame) in plan.functions.iter().enumerate() {
        let mut blocks = Vec::new();
        let found = &evaluated.functions[at];
        assert_eq!(found.size_bytes as i64, frame.size_bytes.eval(dims)?);
        for tenant in &frame.tenants {
            let from = match tenant.what {
                Occupant::Buffer(id) => found.offsets[id.0 as usize].unwrap(),
                Occupant::Frame(callee) => found.callees[&callee],
            };
            let (from, size) = (from as i64, tenant.size_bytes.eval(dims)?);
            assert_eq!(from % ALIGN_BYTES, 0, "offsets are aligned");
            assert!(from + size <= frame.size_bytes.eval(dims)?, "a tenant lies inside its frame");
            blocks.push((tenant, from, from + size));
        }
        for (k, (a, a_from, a_to)) in blocks.iter().enumerate() {
            for (b, b_from, b_to) in &blocks[..k] {
                let together = a.live.0 <= b.live.1 && b.live.0 <= a.live.1;
                if together && a_from < b_to && b_from < a_to {
                    return Ok(Some(format!("function {at}: {:?} and {:?}", a.what, b.what)));
                }
            }
        }
    }
    Ok(None)
}

/// A chain of values of these sizes, each of which reads all of the one before; the last is copied
/// to the result.
fn chain(sizes: &[Dim]) -> LoopProgram {
    let mut f = Fixture::new();
    let mut value = f.input("x", DType::F32, &sizes[..1]);
    let mut before = &sizes[0];
    for size in sizes {
        let over = axes(&[("j", before.clone())]);
        let sum = reduce(axes(&[("i", size.clone())]), Reducer::Sum, over, |e| {
            let (x, i) = (at(e, 0, DType::F32, &[1]), e.index(0));
            let i = e.cast(i, DType::F32);
            e.binary(BinaryOp::Mul, x, i)
        });
        value = f.index(sum, &[value]);
        before = size;
    }
    let last = map(axes(&[("i", before.clone())]), |e| at(e, 0, DType::F32, &[0]));
    let value = f.index(last, &[value]);
    lower(&f.program(&[value])).unwrap()
}

#[test]
fn buffers_of_known_size_share_room_when_they_are_not_live_together() {
    let sizes: Vec<Dim> = [100, 300, 200, 100].map(Dim::from).to_vec();
    let plan = plan(&chain(&sizes)).unwrap();
    let evaluated = plan.evaluate(&|_| None).unwrap();
    // 300 and 200 floats are live at once; each is rounded up to 64 bytes.
    assert_eq!(evaluated.lower_bound_bytes, 1216 + 832);
    assert_eq!(evaluated.entry_bytes, 1216 + 832 + 64);
    assert_eq!(overlapping(&plan, &|_| None), Ok(None));
}

#[test]
fn buffers_of_free_size_share_slots_and_sizes_are_checked() {
    let sizes = [sym("B"), sym("T"), sym("B"), sym("T")];
    let plan = plan(&chain(&sizes)).unwrap();
    let of = |b: i64, t: i64| move |s: &Symbol| Some(if s.name() == "B" { b } else { t });
    let evaluated = plan.evaluate(&of(16, 32)).unwrap();
    assert_eq!((evaluated.lower_bound_bytes, evaluated.entry_bytes), (192, 192 + 64));
    assert_eq!(overlapping(&plan, &of(5, 70)), Ok(None));
    assert_eq!(plan.evaluate(&of(i64::MAX, 1)), Err(LimitError(DimError::Overflow)));
    assert_eq!(plan.evaluate(&of(0, 0)).unwrap().entry_bytes, 64);
}
