//! Expectations of functions of normal variables.
//!
//! # Numerics
//! `E f(Z)` is the composite Gauss-Legendre rule of eight points on panels of 1/16 over nine standard
//! deviations to both sides, with a further border where the variable is 0, since that is where
//! activations have their kinks. It is exact to about 1e-12 for smooth functions and for kinks at
//! zero, and to about 1e-5 for kinks elsewhere. Where a function is not defined, such as the root of a
//! sum of squares that counts as normal, the variable is cut off, if little of it lies there. `E f(Y) g(Z)` of two variables with correlation `r`
//! is Mehler's sum over the Hermite coefficients of both functions, `sum c_k d_k r^k`, cut off behind
//! 64 terms.

use super::fun::{Fun, Funs};
use crate::ops::scalar::UnaryOp;

/// Terms of a Hermite expansion.
pub(super) const TERMS: usize = 64;
/// Standard deviations on each side that an expectation looks at.
const REACH: f64 = 9.0;
/// The share of a variable that may lie where a function is not defined.
const UNDEFINED: f64 = 0.02;
/// Panels for each standard deviation.
const PANELS: usize = 16;
/// Positive nodes of the Gauss-Legendre rule of eight points on (-1, 1), with their weights.
const LEGENDRE: [(f64, f64); 4] = [
    (0.183_434_642_495_649_8, 0.362_683_783_378_362),
    (0.525_532_409_916_329, 0.313_706_645_877_887_3),
    (0.796_666_477_413_626_7, 0.222_381_034_453_374_48),
    (0.960_289_856_497_536_3, 0.101_228_536_290_376_26),
];

/// Nodes and weights of a rule: the standard normal density is in the weights.
pub(super) struct Rule {
    nodes: Vec<(f64, f64)>,
}

/// The standard normal density.
fn density(z: f64) -> f64 {
    (-0.5 * z * z).exp() / (2.0 * std::f64::consts::PI).sqrt()
}

/// The standard normal distribution function.
fn distribution(z: f64) -> f64 {
    0.5 * (1.0 + super::fun::unary(UnaryOp::Erf, z / std::f64::consts::SQRT_2))
}

impl Rule {
    /// A rule with a border at `kink`.
    pub fn new(kink: f64) -> Self {
        let steps = (2.0 * REACH) as usize * PANELS;
        let mut borders: Vec<f64> = (0..=steps).map(|k| k as f64 / PANELS as f64 - REACH).collect();
        if kink.abs() < REACH {
            borders.push(kink);
            borders.sort_by(f64::total_cmp);
        }
        let mut nodes = Vec::with_capacity(8 * borders.len());
        for pair in borders.windows(2) {
            let (middle, half) = (0.5 * (pair[0] + pair[1]), 0.5 * (pair[1] - pair[0]));
            for (node, weight) in LEGENDRE {
                for z in [middle - half * node, middle + half * node] {
                    nodes.push((z, half * weight * density(z)));
                }
            }
        }
        Rule { nodes }
    }

    fn sum(&self, f: impl Fn(f64) -> f64) -> f64 {
        self.nodes.iter().map(|(z, weight)| weight * f(*z)).sum()
    }
}

/// The Hermite coefficients of a function of a normal variable, for orthonormal polynomials: the
/// first is its mean.
pub(super) fn expansion(funs: &Funs, f: Fun, mean: f64, variance: f64) -> Vec<f64> {
    let deviation = variance.max(0.0).sqrt();
    if deviation == 0.0 {
        let mut constant = vec![0.0; TERMS];
        constant[0] = funs.at(f, mean);
        return constant;
    }
    if !(mean.is_finite() && deviation.is_finite()) {
        return vec![f64::NAN; TERMS];
    }
    let rule = Rule::new(-mean / deviation);
    let points: Vec<f64> = rule.nodes.iter().map(|(z, _)| mean + deviation * z).collect();
    let mut coefficients = vec![0.0; TERMS];
    let mut defined = 0.0;
    for (value, (z, weight)) in funs.tabulate(f, &points).into_iter().zip(&rule.nodes) {
        if value.is_nan() {
            continue;
        }
        defined += weight;
        // h_0 = 1, h_1 = z, h_k = (z h_{k-1} - sqrt(k - 1) h_{k-2}) / sqrt(k).
        let (mut last, mut this) = (0.0, 1.0);
        for (k, coefficient) in coefficients.iter_mut().enumerate() {
            *coefficient += weight * value * this;
            let next = (z * this - (k as f64).sqrt() * last) / ((k + 1) as f64).sqrt();
            (last, this) = (this, next);
        }
    }
    if defined < 1.0 - UNDEFINED {
        return vec![f64::NAN; TERMS];
    }
    if defined < 1.0 - 1e-9 {
        coefficients.iter_mut().for_each(|c| *c /= defined);
    }
    coefficients
}

/// `E f(Y) g(Z)` of variables with a correlation, of which these are the expansions.
pub(super) fn mehler(f: &[f64], g: &[f64], correlation: f64) -> f64 {
    f.iter().zip(g).rev().fold(0.0, |sum, (c, d)| sum * correlation + c * d)
}

/// Mean and variance of the greatest of `n` independent standard normal variables.
pub(super) fn greatest(n: f64) -> (f64, f64) {
    if n <= 1.0 {
        return (0.0, 1.0);
    }
    let rule = Rule::new(0.0);
    let weight = |z: f64| n * distribution(z).powf(n - 1.0);
    let (mean, square) = (rule.sum(|z| z * weight(z)), rule.sum(|z| z * z * weight(z)));
    (mean, square - mean * mean)
}

/// Deviation of scores beyond which a softmax is nearly one-hot.
const STEEP: f64 = 20.0;
/// Step of the sums over logarithms.
const STEP: f64 = 0.2;

/// `E a^2` of an element of a softmax over `n` independent normal scores of some variance.
///
/// From `1/S^2 = integral of t exp(-t S)` the expectation becomes
/// `integral t E[e^2s exp(-t e^s)] E[exp(-t e^s)]^(n-1) dt`, with `t = e^u` a function of `u` that is
/// analytic in a strip of half-width pi/2, so that the trapezoidal rule with this step is exact to 1e-10.
pub(super) fn softmax_square(n: f64, variance: f64) -> f64 {
    let deviation = variance.max(0.0).sqrt();
    if n <= 1.0 || !deviation.is_finite() {
        return if n <= 1.0 { 1.0 } else { f64::NAN };
    }
    if deviation > STEEP {
        // Nearly one-hot: what is missing of 1 is the chance that the two greatest are close.
        let missing = (1.0 - n * softmax_square(n, STEEP * STEEP)) * STEEP / deviation;
        return (1.0 - missing) / n;
    }
    let reach = 8.0 * deviation;
    let points = 96 + (2.0 * reach / STEP) as usize;
    let scores: Vec<(f64, f64)> = match deviation {
        0.0 => vec![(0.0, 1.0)],
        _ => {
            let step = 2.0 * reach / points as f64;
            let at = |k: usize| (k as f64 + 0.5) * step - reach;
            (0..points).map(|k| (at(k), step / deviation * density(at(k) / deviation))).collect()
        }
    };
    let (low, high) = (-reach - n.ln() - 20.0, reach + 5.0);
    let steps = ((high - low) / STEP) as usize;
    let step = (high - low) / steps as f64;
    let mut sum = 0.0;
    for k in 0..=steps {
        let u = low + k as f64 * step;
        let (mut all, mut weighted) = (0.0, 0.0);
        // Beyond 7 the outer exponential is nothing, and the inner one may overflow.
        for (score, weight) in scores.iter().filter(|(score, _)| u + score < 7.0) {
            let inner = (u + score).exp();
            let e = (-inner).exp() * weight;
            all += e;
            weighted += e * inner * inner;
        }
        sum += weighted * all.powf(n - 1.0);
    }
    sum * step
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::scalar::BinaryOp;

    fn close(got: f64, want: f64, tolerance: f64) {
        assert!((got - want).abs() <= tolerance, "{got} is not {want}");
    }

    fn relu(funs: &mut Funs) -> Fun {
        let zero = funs.constant(0.0);
        funs.binary(BinaryOp::Max, Fun::IDENTITY, zero)
    }

    #[test]
    fn relu_has_its_closed_forms() {
        let mut funs = Funs::new();
        let f = relu(&mut funs);
        let square = funs.binary(BinaryOp::Mul, f, f);
        let c = expansion(&funs, f, 0.0, 4.0);
        close(c[0], 2.0 / (2.0 * std::f64::consts::PI).sqrt(), 1e-12);
        close(expansion(&funs, square, 0.0, 4.0)[0], 2.0, 1e-12);
        // The arc-cosine kernel of degree one (Cho and Saul 2009).
        let r: f64 = 0.6;
        let kernel =
            ((1.0 - r * r).sqrt() + r * (std::f64::consts::PI - r.acos())) / (2.0 * std::f64::consts::PI);
        close(mehler(&c, &c, r), 4.0 * kernel, 1e-6);
    }

    #[test]
    fn smooth_functions_are_exact() {
        let mut funs = Funs::new();
        let exp = funs.unary(UnaryOp::Exp, Fun::IDENTITY);
        let c = expansion(&funs, exp, 0.5, 0.25);
        close(c[0], (0.5f64 + 0.125).exp(), 1e-11);
        close(mehler(&c, &c, 0.3), (1.0f64 + 0.25 + 0.25 * 0.3).exp(), 1e-10);
        let point = expansion(&funs, exp, 2.0, 0.0);
        close(point[0], 2f64.exp(), 1e-12);
        assert!(expansion(&funs, exp, f64::NAN, 1.0)[0].is_nan());
        // A root needs what it is applied to above zero, but for a little.
        let root = funs.unary(UnaryOp::Sqrt, Fun::IDENTITY);
        close(expansion(&funs, root, 10.0, 9.0)[0], 10f64.sqrt() * (1.0 - 0.09 / 8.0), 2e-2);
        assert!(expansion(&funs, root, 1.0, 1.0)[0].is_nan());
    }

    #[test]
    fn the_greatest_of_two_and_three_is_known() {
        let pi = std::f64::consts::PI;
        close(greatest(2.0).0, 1.0 / pi.sqrt(), 1e-10);
        close(greatest(2.0).1, 1.0 - 1.0 / pi, 1e-10);
        close(greatest(3.0).0, 1.5 / pi.sqrt(), 1e-10);
        assert_eq!(greatest(1.0), (0.0, 1.0));
    }

    #[test]
    fn softmax_goes_from_even_to_one_hot() {
        close(softmax_square(8.0, 0.0), 1.0 / 64.0, 1e-9);
        // Nearly one-hot: the sum of the squares tends to 1.
        assert!(8.0 * softmax_square(8.0, 1e4) > 0.97);
        // Of two, the weight is the logistic function of a difference with twice the variance.
        let mut funs = Funs::new();
        let sigmoid = funs.unary(UnaryOp::Sigmoid, Fun::IDENTITY);
        let square = funs.binary(BinaryOp::Mul, sigmoid, sigmoid);
        close(softmax_square(2.0, 0.7), expansion(&funs, square, 0.0, 1.4)[0], 1e-8);
        assert_eq!(softmax_square(1.0, 3.0), 1.0);
        // It goes on smoothly where it is continued.
        let (below, above) =
            (softmax_square(5.0, STEEP * STEEP), softmax_square(5.0, STEEP * STEEP * 1.0001));
        close(above, below, 1e-5);
        close(softmax_square(2.0, 2500.0), expansion(&funs, square, 0.0, 5000.0)[0], 1e-4);
    }
}
