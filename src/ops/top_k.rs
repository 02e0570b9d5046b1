//! What `top_k` means.

use super::value::{Scalar, order};
use std::cmp::Ordering;

/// Positions of the `k` greatest elements of a row, descending; NaN is greatest, ties go to the
/// lower position. A row of fewer than `k` elements gives all of its positions.
pub fn top_k(row: &[Scalar], k: usize) -> Vec<usize> {
    let mut positions: Vec<usize> = (0..row.len()).collect();
    // The sort is stable, so that ties stay in order.
    positions.sort_by(|a, b| descending(row[*a], row[*b]));
    positions.truncate(k);
    positions
}

fn descending(a: Scalar, b: Scalar) -> Ordering {
    match (a.is_nan(), b.is_nan()) {
        (false, false) => order(b, a).unwrap_or(Ordering::Equal),
        (a, b) => b.cmp(&a),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ties_take_the_lower_position_and_nan_comes_first() {
        let row = [1.0, f32::NAN, 2.0, -0.0, 2.0, 0.0, f32::NAN].map(Scalar::F32);
        assert_eq!(top_k(&row, 7), [1, 6, 2, 4, 0, 3, 5]);
        assert_eq!(top_k(&row, 3), [1, 6, 2]);
        assert_eq!(top_k(&row, 0), [0usize; 0]);
    }
}
