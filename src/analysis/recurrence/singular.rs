//! The greatest singular value of a matrix, by one-sided Jacobi rotations in f64.
//!
//! # Numerics
//! Rotations make the columns orthogonal, pair by pair in a fixed order, until the cosine between any
//! two is below 1e-14; the norms of the columns are then the singular values (Hestenes 1958). They are
//! exact to a small multiple of the size of the matrix times 2^-53. The result depends on nothing but
//! the matrix.

/// Cosine between columns below which they count as orthogonal.
const ORTHOGONAL: f64 = 1e-14;
/// Passes over all pairs; ten are plenty.
const MAX_SWEEPS: usize = 60;

/// The greatest singular value of a matrix in row-major order; `None` where it does not converge,
/// which it does for all finite numbers.
pub(super) fn greatest(matrix: &[f64], columns: usize) -> Option<f64> {
    if !matrix.iter().all(|x| x.is_finite()) {
        return None;
    }
    let scale = matrix.iter().fold(0.0f64, |most, x| most.max(x.abs()));
    if scale == 0.0 || columns == 0 {
        return Some(0.0);
    }
    let mut vectors: Vec<Vec<f64>> =
        (0..columns).map(|k| matrix.iter().skip(k).step_by(columns).map(|x| x / scale).collect()).collect();
    for _ in 0..MAX_SWEEPS {
        if !sweep(&mut vectors) {
            let norms = vectors.iter().map(|v| dot(v, v).sqrt());
            return Some(scale * norms.fold(0.0, f64::max));
        }
    }
    None
}

/// Rotates every pair once; whether any was not orthogonal.
fn sweep(vectors: &mut [Vec<f64>]) -> bool {
    let mut rotated = false;
    for j in 1..vectors.len() {
        let (before, rest) = vectors.split_at_mut(j);
        let b = &mut rest[0];
        for a in before {
            let (aa, bb, ab) = (dot(a, a), dot(b, b), dot(a, b));
            if ab.abs() <= ORTHOGONAL * (aa * bb).sqrt() || ab == 0.0 {
                continue;
            }
            rotated = true;
            let zeta = (bb - aa) / (2.0 * ab);
            let tangent = zeta.signum() / (zeta.abs() + zeta.hypot(1.0));
            let cosine = 1.0 / tangent.hypot(1.0);
            let sine = cosine * tangent;
            for (x, y) in a.iter_mut().zip(b.iter_mut()) {
                (*x, *y) = (cosine * *x - sine * *y, sine * *x + cosine * *y);
            }
        }
    }
    rotated
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(x, y)| x * y).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(got: Option<f64>, want: f64) {
        let got = got.unwrap();
        assert!((got - want).abs() <= 1e-14 * want, "{got} is not {want}");
    }

    #[test]
    fn known_matrices() {
        close(greatest(&[3.0, 0.0, 0.0, -5.0], 2), 5.0);
        // The golden ratio.
        close(greatest(&[1.0, 1.0, 0.0, 1.0], 2), 0.5 * (1.0 + 5f64.sqrt()));
        // Rank one: the product of the norms.
        close(greatest(&[1.0, 2.0, 2.0, 2.0, 4.0, 4.0], 3), 3.0 * 5f64.sqrt());
        close(greatest(&[1e-200, 0.0, 0.0, 1e-201], 2), 1e-200);
        assert_eq!(greatest(&[0.0; 9], 3), Some(0.0));
        assert_eq!(greatest(&[f64::NAN, 1.0], 2), None);
    }

    /// A rotation has all singular values 1, however it is scaled and however close they are.
    #[test]
    fn equal_values_converge() {
        let (c, s) = (0.6, 0.8);
        close(greatest(&[c, -s, 0.0, s, c, 0.0, 0.0, 0.0, 1.0], 3), 1.0);
    }
}
