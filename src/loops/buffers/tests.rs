use super::*;

/// Two tenants of one frame that are live at once and share bytes, found by brute force.
pub(crate) fn overlapping(
    plan: &Plan,
    dims: &dyn Fn(&Symbol) -> Option<i64>,
) -> Result<Option<String>, LimitError> {
    for (at, frame) in plan.functions.iter().enumerate() {
        let mut blocks = Vec::new();
        for tenant in &frame.tenants {
            let (from, size) = (tenant.offset_bytes.eval(dims)?, tenant.size_bytes.eval(dims)?);
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
