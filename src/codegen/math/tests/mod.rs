//! Error bounds of the math functions, and the agreement of emitted code with the host.
//!
//! `MDLC_EXHAUSTIVE=1 cargo test --release codegen::math` visits every f32 instead of a sample;
//! `MDLC_MATH_VECTORS=FILE` takes the f64 results from a longer file made by `vectors.py`.

mod accuracy32;
mod accuracy64;
mod agreement;
mod jit;
mod special;

/// Arguments that a sample by bit pattern could miss: boundaries of every branch, and neighbours.
fn boundaries_f32() -> Vec<f32> {
    let anchors = [
        0.0,
        1.0,
        0.5,
        2.0,
        0.55,
        10.0,
        4.0,
        88.722_84,
        88.0,
        89.0,
        103.972_08,
        104.0,
        87.336_55,
        126.0,
        127.0,
        128.0,
        129.0,
        149.0,
        150.0,
        151.0,
        20.0,
        17.328_68,
        0.346_573_6,
        1.039_720_8,
        65536.0,
        std::f32::consts::FRAC_PI_2,
        std::f32::consts::PI,
        std::f32::consts::FRAC_PI_4,
        8_388_608.0,
        16_777_216.0,
        12_582_912.0,
        2_147_483_648.0,
        f32::MIN_POSITIVE,
        f32::MAX,
        std::f32::consts::FRAC_1_SQRT_2,
        std::f32::consts::SQRT_2,
        1.490_116_1e-8,
        f32::EPSILON,
    ];
    let mut values = vec![f32::INFINITY, f32::NEG_INFINITY, f32::NAN, -f32::NAN];
    for anchor in anchors {
        let bits = anchor.to_bits();
        for near in bits.saturating_sub(40)..=bits.saturating_add(40).min(f32::INFINITY.to_bits()) {
            values.push(f32::from_bits(near));
            values.push(-f32::from_bits(near));
        }
    }
    values
}

/// The same number, zeros told apart, or both NaN.
fn same_f32(x: f32, y: f32) -> bool {
    x.to_bits() == y.to_bits() || (x.is_nan() && y.is_nan())
}

/// The same number, zeros told apart, or both NaN.
fn same_f64(x: f64, y: f64) -> bool {
    x.to_bits() == y.to_bits() || (x.is_nan() && y.is_nan())
}

/// A small generator of bits for random arguments (splitmix64).
fn random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (*state ^ (*state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
