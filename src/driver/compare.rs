//! Comparing computed tensors with expected ones.

use crate::tensor::{Data, Tensor};
use serde::Serialize;

/// How close is close enough: `|got - want| <= atol + rtol * |want|`, or exactly equal.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, serde::Deserialize)]
pub struct Tolerance {
    /// Relative part.
    pub rtol: f64,
    /// Absolute part.
    pub atol: f64,
}

/// The outcome for one output of one back end.
#[derive(Clone, Debug, Serialize)]
pub struct Comparison {
    /// The output.
    pub output: String,
    /// `reference` or `clif`.
    pub backend: &'static str,
    /// Largest difference divided by what is allowed at that element; at most 1 passes.
    pub tolerances: f64,
    /// Largest difference in units of the last place of f32; `None` for exact types.
    pub ulps: Option<u64>,
    /// Why it fails, if it does.
    pub failure: Option<String>,
}

/// Compares one output.
///
/// # Numerics
/// Non-finite values must be equal in kind and sign. Integers and booleans must be equal.
pub fn compare(
    output: &str,
    backend: &'static str,
    got: &Tensor,
    want: &Tensor,
    allowed: Tolerance,
) -> Comparison {
    let mut result =
        Comparison { output: output.to_string(), backend, tolerances: 0.0, ulps: None, failure: None };
    if got.dtype() != want.dtype() || got.shape() != want.shape() {
        result.tolerances = f64::INFINITY;
        result.failure = Some(format!(
            "is {} {:?}, expected {} {:?}",
            got.dtype(),
            got.shape(),
            want.dtype(),
            want.shape()
        ));
        return result;
    }
    let exact = |equal: bool, at: usize, result: &mut Comparison| {
        if !equal && result.failure.is_none() {
            result.tolerances = f64::INFINITY;
            result.failure = Some(format!("differs at element {at}, where it must be equal"));
        }
    };
    match (got.data(), want.data()) {
        (Data::F32(got), Data::F32(want)) => floats(
            got.iter().map(|x| f64::from(*x)).zip(want.iter().map(|x| f64::from(*x))),
            allowed,
            &mut result,
        ),
        (Data::F64(got), Data::F64(want)) => {
            floats(got.iter().copied().zip(want.iter().copied()), allowed, &mut result);
        }
        (Data::I64(got), Data::I64(want)) => {
            got.iter().zip(want).enumerate().for_each(|(k, (a, b))| exact(a == b, k, &mut result));
        }
        (Data::I32(got), Data::I32(want)) => {
            got.iter().zip(want).enumerate().for_each(|(k, (a, b))| exact(a == b, k, &mut result));
        }
        (Data::Bool(got), Data::Bool(want)) => {
            got.iter().zip(want).enumerate().for_each(|(k, (a, b))| exact(a == b, k, &mut result));
        }
        _ => exact(false, 0, &mut result),
    }
    result
}

fn floats(pairs: impl Iterator<Item = (f64, f64)>, allowed: Tolerance, result: &mut Comparison) {
    let mut worst = (0.0, 0, 0.0, 0.0);
    let mut ulps = 0;
    for (at, (got, want)) in pairs.enumerate() {
        let ratio = if got == want || (got.is_nan() && want.is_nan()) {
            0.0
        } else if !got.is_finite() || !want.is_finite() {
            f64::INFINITY
        } else {
            (got - want).abs() / (allowed.atol + allowed.rtol * want.abs())
        };
        if ratio > worst.0 {
            worst = (ratio, at, got, want);
        }
        ulps = ulps.max(ulp_distance(got as f32, want as f32));
    }
    result.tolerances = worst.0;
    result.ulps = Some(ulps);
    if worst.0 > 1.0 {
        let (_, at, got, want) = worst;
        result.failure = Some(format!("element {at} is {got}, expected {want}"));
    }
}

/// The number of f32 values from one to the other; NaNs are equal.
pub fn ulp_distance(a: f32, b: f32) -> u64 {
    if a.is_nan() && b.is_nan() {
        return 0;
    }
    if a.is_nan() || b.is_nan() {
        return u64::MAX;
    }
    // Order-preserving integers: negative floats are mirrored.
    let ordered = |x: f32| {
        let bits = i64::from(x.to_bits() & 0x7fff_ffff);
        if x.is_sign_negative() { -bits } else { bits }
    };
    ordered(a).abs_diff(ordered(b))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tensor(values: &[f32]) -> Tensor {
        Tensor::new(vec![values.len()], Data::F32(values.to_vec())).unwrap()
    }

    const TIGHT: Tolerance = Tolerance { rtol: 1e-5, atol: 1e-6 };

    #[test]
    fn equal_non_finite_values_pass_and_others_fail() {
        let special = [f32::INFINITY, f32::NEG_INFINITY, f32::NAN];
        assert!(compare("y", "clif", &tensor(&special), &tensor(&special), TIGHT).failure.is_none());
        let flipped = [f32::NEG_INFINITY, f32::INFINITY, f32::NAN];
        assert!(compare("y", "clif", &tensor(&flipped), &tensor(&special), TIGHT).failure.is_some());
        assert!(compare("y", "clif", &tensor(&[f32::NAN]), &tensor(&[1.0]), TIGHT).failure.is_some());
    }

    #[test]
    fn the_tolerance_is_per_element() {
        let want = tensor(&[1000.0, 0.0]);
        assert!(compare("y", "clif", &tensor(&[1000.009, 0.0]), &want, TIGHT).failure.is_none());
        assert!(compare("y", "clif", &tensor(&[1000.0, 0.009]), &want, TIGHT).failure.is_some());
    }

    #[test]
    fn shapes_and_types_must_be_equal() {
        let want = tensor(&[1.0, 2.0]);
        assert!(compare("y", "clif", &tensor(&[1.0]), &want, TIGHT).failure.is_some());
    }

    #[test]
    fn ulps_cross_zero() {
        assert_eq!(ulp_distance(-0.0, 0.0), 0);
        assert_eq!(ulp_distance(f32::from_bits(1), -f32::from_bits(1)), 2);
        assert_eq!(ulp_distance(1.0, 1.0 + f32::EPSILON), 1);
    }
}
