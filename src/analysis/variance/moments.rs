//! Means and covariances of tensors whose elements are alike along every axis.
//!
//! A tensor is described by the mean of an element and by the covariance of two elements for each set
//! of axes along which they differ: that of no axis is the variance. This is all that sums need, it
//! is exact where elements are exchangeable along each axis, and elsewhere an average over positions.
//! NaN is what is not known; it stays where it is needed only.

/// A set of axes, by bits.
pub(super) type Axes = u32;

/// Mean and covariances.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Moments {
    pub mean: f64,
    /// By the set of axes along which two elements differ.
    pub cov: Vec<f64>,
}

/// The number of positions along some axes, at most what an i64 holds.
pub(super) fn positions<'a>(sizes: impl IntoIterator<Item = &'a i64>) -> i64 {
    sizes.into_iter().fold(1, |count, size| count.saturating_mul(*size))
}

/// `weight * value`, where a weight of zero needs no value.
fn weighted(weight: f64, value: f64) -> f64 {
    if weight == 0.0 { 0.0 } else { weight * value }
}

/// The subsets of a set, the set itself last.
pub(super) fn subsets(of: Axes) -> impl Iterator<Item = Axes> {
    (0..=of).filter(move |set| set & !of == 0)
}

/// The product of `size - 1` over a set of axes: how many elements differ along exactly those.
fn others(axes: Axes, sizes: &[i64]) -> f64 {
    sizes.iter().enumerate().filter(|(k, _)| axes >> k & 1 == 1).map(|(_, n)| (n - 1) as f64).product()
}

impl Moments {
    /// Elements that are independent along all axes.
    pub fn independent(mean: f64, variance: f64, rank: usize) -> Self {
        let mut cov = vec![0.0; 1 << rank];
        cov[0] = variance;
        Moments { mean, cov }
    }

    /// Nothing.
    pub fn unknown(rank: usize) -> Self {
        Moments { mean: f64::NAN, cov: vec![f64::NAN; 1 << rank] }
    }

    /// Whether a state with these moments has come to rest.
    pub fn is_near(&self, other: &Moments) -> bool {
        let near = |a: f64, b: f64| {
            (a - b).abs() <= 1e-9 * (a.abs() + b.abs()) + 1e-15 || (a.is_nan() && b.is_nan())
        };
        self.cov.len() == other.cov.len()
            && near(self.mean, other.mean)
            && self.cov.iter().zip(&other.cov).all(|(a, b)| near(*a, *b))
    }

    /// The variance of an element.
    pub fn variance(&self) -> f64 {
        self.cov[0]
    }

    /// Those of the sums over the axes from `kept` on.
    pub fn summed(&self, kept: usize, sizes: &[i64]) -> Moments {
        let over: Axes = ((1 << sizes.len()) - 1) & !((1 << kept) - 1);
        let count: f64 = sizes[kept..].iter().map(|n| *n as f64).product();
        let cov = (0..1 << kept).map(|differ| {
            let parts = subsets(over).map(|u| weighted(others(u, sizes), self.cov[(differ | u) as usize]));
            weighted(count, parts.sum())
        });
        Moments { mean: weighted(count, self.mean), cov: cov.collect() }
    }

    /// Those of the elements less their mean over some axes.
    pub fn centred(&self, over: Axes, sizes: &[i64]) -> Moments {
        let count = others_and_self(over, sizes);
        let cov = (0..self.cov.len() as Axes).map(|differ| {
            let rest = differ & !over;
            let mean: f64 =
                subsets(over).map(|u| weighted(others(u, sizes), self.cov[(rest | u) as usize])).sum::<f64>()
                    / count;
            self.cov[differ as usize] - mean
        });
        Moments { mean: 0.0, cov: cov.collect() }
    }

    /// Those of given numbers, at a random position.
    pub fn of_numbers(values: &[f64], sizes: &[i64]) -> Moments {
        let rank = sizes.len();
        let total = values.len().max(1) as f64;
        let mean = values.iter().sum::<f64>() / total;
        // Mean of the product of two elements whose positions along a set of axes are drawn apart.
        let mut apart = vec![0.0; 1 << rank];
        squares_of_means(values, sizes, 0, 0, &mut apart);
        let mut exact = vec![0.0; 1 << rank];
        for set in 0..1u32 << rank {
            let inner: f64 = subsets(set)
                .filter(|u| *u != set)
                .map(|u| weighted(others(u, sizes), exact[u as usize]))
                .sum();
            let differing = others(set, sizes);
            // Along an axis of one position nothing differs, and nobody asks.
            let product = apart[set as usize] * others_and_self(set, sizes) - inner;
            exact[set as usize] = if differing == 0.0 { mean * mean } else { product / differing };
        }
        Moments { mean, cov: exact.into_iter().map(|product| product - mean * mean).collect() }
    }
}

/// The product of the sizes of a set of axes.
fn others_and_self(axes: Axes, sizes: &[i64]) -> f64 {
    sizes.iter().enumerate().filter(|(k, _)| axes >> k & 1 == 1).map(|(_, n)| *n as f64).product()
}

/// The mean of the squares of the means over each set of axes, added to `over`. The first `axis` axes
/// are decided: `values` has those that are kept.
fn squares_of_means(values: &[f64], sizes: &[i64], axis: usize, over: Axes, found: &mut [f64]) {
    if axis == sizes.len() {
        let squares: f64 = values.iter().map(|x| x * x).sum();
        found[over as usize] = squares / values.len().max(1) as f64;
        return;
    }
    squares_of_means(values, sizes, axis + 1, over, found);
    let inner = sizes[axis + 1..].iter().product::<i64>().max(1) as usize;
    let size = sizes[axis].max(1) as usize;
    let means: Vec<f64> = values
        .chunks(inner * size)
        .flat_map(|rows| {
            (0..inner)
                .map(|k| rows.iter().skip(k).step_by(inner).sum::<f64>() / size as f64)
                .collect::<Vec<_>>()
        })
        .collect();
    squares_of_means(&means, sizes, axis + 1, over | 1 << axis, found);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(got: f64, want: f64) {
        assert!((got - want).abs() < 1e-12, "{got} is not {want}");
    }

    #[test]
    fn sums_of_independent_elements_add_and_equal_ones_square() {
        let sizes = [3, 5];
        let apart = Moments::independent(2.0, 1.5, 2).summed(1, &sizes);
        assert_eq!((apart.mean, apart.cov[0], apart.cov[1]), (10.0, 7.5, 0.0));
        let equal = Moments { mean: 0.0, cov: vec![1.0, 0.0, 1.0, 0.0] }.summed(1, &sizes);
        assert_eq!(equal.cov, [25.0, 0.0]);
    }

    #[test]
    fn a_covariance_that_nothing_needs_may_be_unknown() {
        let mut moments = Moments::independent(0.0, 1.0, 2);
        moments.cov[2] = f64::NAN;
        assert!(moments.summed(1, &[3, 5]).cov[0].is_nan());
        assert_eq!(moments.summed(1, &[3, 1]).cov[0], 1.0);
    }

    #[test]
    fn centring_takes_one_freedom() {
        let centred = Moments::independent(3.0, 2.0, 1).centred(1, &[4]);
        assert_eq!(centred.mean, 0.0);
        close(centred.cov[0], 1.5);
        close(centred.cov[1], -0.5);
        close(centred.summed(0, &[4]).cov[0], 0.0);
    }

    #[test]
    fn numbers_have_the_moments_of_a_random_position() {
        // The identity matrix.
        let eye = Moments::of_numbers(&[1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0], &[3, 3]);
        close(eye.mean, 1.0 / 3.0);
        close(eye.cov[0], 1.0 / 3.0 - 1.0 / 9.0);
        close(eye.cov[1], 0.0 - 1.0 / 9.0);
        close(eye.cov[3], 1.0 / 6.0 - 1.0 / 9.0);
        // What is the same along an axis is fully correlated there.
        let rows = Moments::of_numbers(&[1.0, 1.0, -1.0, -1.0], &[2, 2]);
        close(rows.cov[2], 1.0);
        close(rows.cov[1], -1.0);
    }
}
