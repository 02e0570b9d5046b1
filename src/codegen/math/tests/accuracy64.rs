//! Errors of the f64 functions against results of twice the precision.

use std::collections::BTreeMap;

use super::super::{BinaryFn, MathFn, host};

/// The error of `y` against `hi + lo` in units in the last place of `hi`.
fn ulps(y: f64, hi: f64, lo: f64) -> f64 {
    if y.is_infinite() || y.is_nan() {
        return f64::INFINITY;
    }
    let exponent = ((hi.abs().to_bits() >> 52) as i32).max(1);
    // The unit may be subnormal, so scale both by a power of two first.
    let unscale = f64::from_bits(((2046 - exponent) as u64) << 52);
    (((y - hi) * unscale - lo * unscale) * 52f64.exp2()).abs()
}

#[test]
fn every_function_keeps_its_bound() {
    let longer = std::env::var_os("MDLC_MATH_VECTORS").map(|path| std::fs::read_to_string(path).unwrap());
    let text = longer.as_deref().unwrap_or(include_str!("../vectors64.txt"));
    let mut worst: BTreeMap<&str, (f64, f64)> = BTreeMap::new();
    for line in text.lines() {
        let mut fields = line.split(' ');
        let name = fields.next().unwrap();
        let numbers: Vec<f64> = fields.map(|f| f64::from_bits(u64::from_str_radix(f, 16).unwrap())).collect();
        let (x, y, exact) = match MathFn::ALL.into_iter().find(|f| f.name() == name) {
            Some(func) => (numbers[0], host::unary_f64(func, numbers[0]), &numbers[1..]),
            None => (numbers[0], host::binary_f64(BinaryFn::Pow, numbers[0], numbers[1]), &numbers[2..]),
        };
        let error = ulps(y, exact[0], exact[1]);
        let entry = worst.entry(name).or_default();
        if error > entry.0 {
            *entry = (error, x);
        }
    }
    assert_eq!(worst.len(), 13);
    for (name, (error, at)) in &worst {
        eprintln!("{name:8} {error:.3} ulp at {at:e}");
    }
    for (name, (error, at)) in worst {
        assert!(error <= 1.5, "{name}: {error} ulp at {at:e}");
    }
}
