//! What initialisers mean: which numbers fill a weight when no file is given.
//!
//! Element `k` of a weight is a function of the seed, the weight's path and `k` alone, so that
//! weights can be filled in any order, and renaming or adding one changes no other.
//!
//! # Numerics
//! The generator is counter-based. The path is hashed with FNV-1a to 64 bits; the state of draw
//! `n` is `hash + seed*C + (n + 1)*GAMMA`, mixed by the finaliser of SplitMix64. The top 53 bits
//! make a real in `(0, 1)`. A normal number takes two draws (Box and Muller 1958, the cosine
//! branch). All of it is computed in f64 and rounded once to the weight's type.
//!
//! # Source
//! Steele, Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014.

use super::value::{Scalar, cast};
use crate::dtype::DType;
use crate::tensor::{Data, Tensor, TensorError};

/// An initialiser: what fills a weight when no file is given.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub enum Init {
    /// One value.
    Fill(#[serde(with = "bits")] f64),
    /// Uniform on `(-bound, bound)`.
    Uniform(#[serde(with = "bits")] f64),
    /// Normal with mean 0 and this standard deviation.
    Normal(#[serde(with = "bits")] f64),
    /// Uniform with bound `1 / sqrt(fan_in)`: what PyTorch's Linear and convolutions use
    /// (He et al. 2015 with a = sqrt(5)).
    KaimingUniform,
    /// Uniform with bound `sqrt(6 / (fan_in + fan_out))` (Glorot and Bengio 2010).
    XavierUniform,
    /// The identity matrix.
    Eye,
}

/// Reals by their bits, which no text form rounds.
mod bits {
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(value.to_bits())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
        u64::deserialize(deserializer).map(f64::from_bits)
    }
}

/// Fills a weight.
///
/// # Shape
/// `fan_in` is the product of all axes but the first, `fan_out` of all but the second; of a
/// vector, and of a scalar, both are its size. That is PyTorch's `[out, in, kernel..]`.
///
/// # Errors
/// [`TensorError`] where the shape is not valid or memory is short.
pub fn initialise(
    init: &Init,
    dtype: DType,
    shape: &[usize],
    path: &str,
    seed: u64,
) -> Result<Tensor, TensorError> {
    let (axes, mut data) = Tensor::zeros(dtype, shape)?.into_parts();
    let draws = Draws::new(path, seed);
    let (fan_in, fan_out) = fans(shape);
    let uniform = |bound: f64, k: usize| bound * (2.0 * draws.unit(k as u64) - 1.0);
    let value = |k: usize| match init {
        Init::Fill(value) => *value,
        Init::Uniform(bound) => uniform(*bound, k),
        Init::Normal(deviation) => deviation * draws.normal(k as u64),
        Init::KaimingUniform => uniform(1.0 / fan_in.sqrt(), k),
        Init::XavierUniform => uniform((6.0 / (fan_in + fan_out)).sqrt(), k),
        Init::Eye => match shape {
            [_, columns] => f64::from(u8::from(k / columns == k % columns)),
            _ => 1.0,
        },
    };
    fill(&mut data, &value);
    Tensor::new(axes, data)
}

impl Init {
    /// The variance of an element of a weight of this shape, where the elements are drawn: their mean
    /// is then 0. `None` for fixed values.
    pub fn variance(&self, shape: &[usize]) -> Option<f64> {
        let (fan_in, fan_out) = fans(shape);
        // Uniform on (-b, b): b^2 / 3.
        match self {
            Init::Fill(_) | Init::Eye => None,
            Init::Uniform(bound) => Some(bound * bound / 3.0),
            Init::Normal(deviation) => Some(deviation * deviation),
            Init::KaimingUniform => Some(1.0 / (3.0 * fan_in)),
            Init::XavierUniform => Some(2.0 / (fan_in + fan_out)),
        }
    }
}

fn fill(data: &mut Data, value: &dyn Fn(usize) -> f64) {
    let at = |k: usize, dtype: DType| cast(Scalar::F64(value(k)), dtype);
    match data {
        Data::F32(v) => v.iter_mut().enumerate().for_each(|(k, x)| *x = value(k) as f32),
        Data::F64(v) => v.iter_mut().enumerate().for_each(|(k, x)| *x = value(k)),
        Data::I32(v) => v.iter_mut().enumerate().for_each(|(k, x)| *x = value(k) as i32),
        Data::I64(v) => v.iter_mut().enumerate().for_each(|(k, x)| *x = value(k) as i64),
        Data::Bool(v) => {
            v.iter_mut().enumerate().for_each(|(k, x)| *x = at(k, DType::Bool).as_bool().unwrap_or(false));
        }
    }
}

/// Fan-in and fan-out, at least 1 so that empty weights have a bound.
fn fans(shape: &[usize]) -> (f64, f64) {
    let product = |skip: usize| {
        let kept = shape.iter().enumerate().filter(|(k, _)| *k != skip || shape.len() < 2);
        kept.map(|(_, n)| *n as f64).product::<f64>().max(1.0)
    };
    (product(0), product(1))
}

/// The random numbers of one weight.
struct Draws {
    key: u64,
}

const GAMMA: u64 = 0x9E37_79B9_7F4A_7C15;

impl Draws {
    fn new(path: &str, seed: u64) -> Self {
        let hash = path
            .bytes()
            .fold(0xCBF2_9CE4_8422_2325_u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01B3));
        Draws { key: hash.wrapping_add(seed.wrapping_mul(0xD1B5_4A32_D192_ED03)) }
    }

    /// 64 random bits.
    fn bits(&self, n: u64) -> u64 {
        let mut z = self.key.wrapping_add(n.wrapping_add(1).wrapping_mul(GAMMA));
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A real in `(0, 1)`, both ends excluded.
    fn unit(&self, n: u64) -> f64 {
        ((self.bits(n) >> 11) as f64 + 0.5) / (1u64 << 53) as f64
    }

    /// A standard normal number.
    fn normal(&self, n: u64) -> f64 {
        let (u, v) = (self.unit(n.wrapping_mul(2)), self.unit(n.wrapping_mul(2).wrapping_add(1)));
        (-2.0 * u.ln()).sqrt() * (2.0 * std::f64::consts::PI * v).cos()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn f32s(init: &Init, shape: &[usize], path: &str, seed: u64) -> Vec<f32> {
        initialise(init, DType::F32, shape, path, seed).unwrap().into_f32().unwrap()
    }

    #[test]
    fn seed_and_path_decide_the_numbers() {
        let draw = |path, seed| f32s(&Init::Uniform(1.0), &[16], path, seed);
        assert_eq!(draw("a.weight", 1), draw("a.weight", 1));
        assert_ne!(draw("a.weight", 1), draw("a.weight", 2));
        assert_ne!(draw("a.weight", 1), draw("b.weight", 1));
    }

    #[test]
    fn distributions_have_their_moments() {
        let n = 100_000usize;
        let moments = |v: &[f32]| {
            let mean = v.iter().map(|x| f64::from(*x)).sum::<f64>() / n as f64;
            let square = v.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>() / n as f64;
            (mean, (square - mean * mean).sqrt())
        };
        let (mean, deviation) = moments(&f32s(&Init::Normal(2.0), &[n], "w", 0));
        assert!(mean.abs() < 0.03 && (deviation - 2.0).abs() < 0.03);
        let uniform = f32s(&Init::Uniform(0.5), &[n], "w", 0);
        let (mean, deviation) = moments(&uniform);
        assert!(mean.abs() < 0.01 && (deviation - 0.5 / 3f64.sqrt()).abs() < 0.01);
        assert!(uniform.iter().all(|x| x.abs() <= 0.5));
    }

    #[test]
    fn variances_are_those_of_the_draws() {
        let shape = [200, 300];
        for init in [Init::Uniform(0.7), Init::Normal(1.5), Init::KaimingUniform, Init::XavierUniform] {
            let drawn = f32s(&init, &shape, "w", 1);
            let measured = drawn.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>() / drawn.len() as f64;
            let ratio = measured / init.variance(&shape).unwrap();
            assert!((ratio - 1.0).abs() < 0.02, "{init:?}: {ratio}");
        }
        assert_eq!((Init::Eye.variance(&shape), Init::Fill(2.0).variance(&shape)), (None, None));
    }

    #[test]
    fn fans_are_those_of_linear_layers_and_convolutions() {
        assert_eq!(fans(&[8, 3]), (3.0, 8.0));
        assert_eq!(fans(&[8, 4, 3, 3]), (36.0, 72.0));
        assert_eq!(fans(&[5]), (5.0, 5.0));
        assert_eq!(fans(&[8, 0]), (1.0, 8.0));
        let bound = 1.0 / 36f32.sqrt();
        let weight = f32s(&Init::KaimingUniform, &[8, 4, 3, 3], "conv.weight", 3);
        assert!(weight.iter().all(|x| x.abs() <= bound) && weight.iter().any(|x| x.abs() > 0.9 * bound));
    }

    #[test]
    fn fills_and_identities_are_exact() {
        assert_eq!(f32s(&Init::Eye, &[2, 3], "w", 0), [1.0, 0.0, 0.0, 0.0, 1.0, 0.0]);
        assert_eq!(f32s(&Init::Fill(0.1), &[2], "w", 0), [0.1f32; 2]);
        let count = initialise(&Init::Fill(3.0), DType::I64, &[], "n", 0).unwrap();
        assert_eq!(count.as_i64(), Some(&[3i64][..]));
    }
}
