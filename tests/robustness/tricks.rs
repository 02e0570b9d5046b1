//! Index arithmetic that wraps, and conditions that would prove too much if it did not: small programs
//! over integers from a tensor, drawn from the extremes, with every buffer beside a page that faults.
//! What is computed is what the reference computes.

use super::alone::alone;
use super::effort;
use super::guarded::{ALL, Flush, Guarded, Native};
use mdlc::Compiler;
use mdlc::graph::eval::{Mode, evaluate};
use mdlc::tensor::Tensor;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

/// Bodies of an entry of `x: [T], ids: i64[B], off: i64[B]`, where T is 5 and B is 4.
const TRICKS: &[&str] = &[
    // Reads at what comes from a tensor, with and without arithmetic.
    "let y[b] = x[ids[b]]  y",
    "let y[b] = x[ids[b] else 0.5]  y",
    "let y[b] = x[ids[b] + 1 else 0.5]  y",
    "let y[b] = x[ids[b] - 1]  y",
    "let y[b] = x[-ids[b] else 0.5]  y",
    "let y[b] = x[2 * ids[b] + 1 else 0.5]  y",
    "let y[b] = x[ids[b] + off[b] else 0.5]  y",
    "let y[b] = x[ids[b] * off[b] else 0.5]  y",
    "let y[b] = x[ids[b] % 5]  y",
    "let y[b] = x[(ids[b] + 1) % 5]  y",
    "let y[b] = x[ids[b] % T]  y",
    "let y[b] = x[abs(ids[b]) % 5]  y",
    "let y[b] = x[ids[b] // 4 else 0.5]  y",
    "let y[b] = x[(ids[b] + 7) // 4611686018427387904 + 1]  y",
    "let y[b] = x[min(max(ids[b], 0), T - 1)]  y",
    "let y[b] = x[min(max(ids[b] + 5, 0), 4)]  y",
    "let y[b] = x[min(ids[b] + 5, T - 1) else 0.5]  y",
    "let y[b] = x[max(ids[b] - 5, 0) else 0.5]  y",
    "let y[b] = x[max(ids[b] * 4, ids[b]) else 0.5]  y",
    "let y[b] = x[if ids[b] > 0 { ids[b] - 1 } else { 0 } else 0.5]  y",
    "let y[b, t: T] = x[t + ids[b] else 0.5]  y",
    "let y[b, t: T] = x[t - ids[b] else 0.5]  y",
    "let y[b, t: T] = x[ids[b] - t else 0.5]  y",
    "let y[b, t: T] = x[t * ids[b] else 0.5]  y",
    // Under conditions that bound them.
    "let y[b, t: T] = if off[b] <= t { x[t - off[b] else 0.5] } else { 0.25 }  y",
    "let y[b, t: T] = if t < off[b] { x[off[b] - t else 0.5] } else { 0.25 }  y",
    "let y[b, t: T] = if off[b] <= t and t < off[b] + 3 { x[t - off[b]] } else { 0.25 }  y",
    "let y[b, t: T] = if off[b] <= t and t - 3 < off[b] { x[t - off[b]] } else { 0.25 }  y",
    "let y[b] = if ids[b] >= 0 and ids[b] < T { x[ids[b]] } else { 0.25 }  y",
    "let y[b] = if 0 <= ids[b] and ids[b] + 1 < T { x[ids[b] + 1] } else { 0.25 }  y",
    "let y[b] = if ids[b] > off[b] and off[b] >= 0 and ids[b] < T { x[ids[b] - off[b]] } else { 0.25 }  y",
    "let y[b] = if ids[b] - off[b] >= 0 and ids[b] - off[b] < T { x[ids[b] - off[b]] } else { 0.25 }  y",
    "let y[b] = if not (ids[b] < 0 or ids[b] >= 5) { x[ids[b]] } else { 0.25 }  y",
    "let y[b] = if ids[b] == off[b] and off[b] == 2 { x[ids[b]] } else { 0.25 }  y",
    // Sums over ranges that a tensor bounds.
    "let y[b] = sum[t where off[b] <= t and t < ids[b]] x[t]  y",
    "let y[b] = sum[t where t < ids[b]] x[t]  y",
    "let y[b] = sum[t where t <= ids[b]] x[t]  y",
    "let y[b] = sum[t where t >= ids[b]] x[t]  y",
    "let y[b] = sum[t where t > ids[b] - 1] x[t]  y",
    "let y[b] = sum[t where t + 5 < ids[b]] x[t]  y",
    "let y[b] = sum[t where t - 5 < ids[b] and t > off[b]] x[t]  y",
    "let y[b] = sum[t where t == ids[b]] x[t]  y",
    "let y[b] = sum[t: T where off[b] <= t and t < off[b] + 2] x[t - off[b]]  y",
    "let y[b] = sum[s: 3, t: T where s + t == ids[b]] x[t]  y",
    "let y[b, t: T] = sum[s where s <= t + off[b]] x[s]  y",
    "let y[b, t: T] = sum[s where s < t - off[b]] x[s]  y",
    "let y[b, t: T] = max[s where s >= off[b] and s <= t] x[s]  y",
    // Segments.
    "let y[n: 5] = sum[b where ids[b] == n] x[n]  y",
    "let y[n: 5] = sum[b where ids[b] == n + 1] x[n]  y",
    "let y[n: 5] = sum[b where ids[b] + 1 == n] x[n]  y",
    "let y[n: 5] = sum[b where ids[b] * 2 == n] x[n]  y",
    "let y[n: 5] = max[b where ids[b] - off[b] == n else 0.5] x[n]  y",
    "let y[n: T] = prod[b where n == ids[b] // 2] x[n]  y",
    // Constants that wrap.
    "let y[t: T] = x[t * 4611686018427387904 else 0.5]  y",
    "let y[t: T] = x[t * 4611686018427387904 % 5]  y",
    "let y[a: 6, t: T] = x[a * 4611686018427387904 + t else 0.5]  y",
    "let y[a: B, t: T] = x[a * 4611686018427387904 + t else 0.5]  y",
    "let y[t: T] = x[max(t * 4611686018427387904, 0) else 0.5]  y",
    "let y[t: T] = x[min(t * 4611686018427387904, 4) else 0.5]  y",
    "let y[a: 9] = sum[t where t * 4611686018427387904 + a > 3] x[t]  y",
    // Division.
    "let y[b] = ids[b] // off[b]  y",
    "let y[b] = ids[b] % off[b]  y",
    "let y[b] = if off[b] > 0 { ids[b] // off[b] } else { 0 }  y",
    "let y[b] = if off[b] != 0 { ids[b] % off[b] } else { 0 }  y",
    "let y[b] = if off[b] >= 0 { ids[b] // (off[b] + 1) } else { 0 }  y",
    "let y[b, t: T] = ids[b] // ((t + 1) * 4611686018427387904)  y",
    "let y[b, t: T] = ids[b] // ((t + 1) * 2)  y",
    "let y[b] = i32(ids[b]) // i32(off[b])  y",
    // Computed indices.
    "let k = argmax[t] x[t]  let y[b] = x[k + ids[b] else 0.5]  y",
    "let (v, k) = top_k(x, 2)  let y[b, j] = x[k[j] - off[b] else 0.5] + v[j]  y",
    "let s = sum[b] ids[b]  let y[t: T] = x[t + s else 0.5]  y",
    "let s = sum[b] ids[b]  let y[t: T] = sum[u: T where u < s] x[t]  y",
    // Recurrences with lengths.
    "recur t in 0..T { init h[:, t - 1]: [B] = 0
        h[b, t] = if t < ids[b] { h[b, t - 1] + x[t] } else { h[b, t - 1] } }  (h, off)",
    "recur t in 0..T by -1 { init h[:, t + 1]: [B] = 0
        h[b, t] = h[b, t + 1] + x[t + off[b] else 0.5] }  (h, ids)",
    // Patterns.
    "let y[b] = sum[t where near(2)[b, t]] x[t] * f32(ids[b])  y",
    "let a[i, j] = softmax[j where j <= i + off[i]] x[j]  let y[i: B] = sum[j: T] a[i, j] * x[j]  y",
];

/// Indices are exact numbers, so what lies beyond 64 bits has no value that could be compared; these
/// only stay inside.
const BEYOND: &[&str] = &[
    "let y[t: T] = x[(t * 4611686018427387904) // 4611686018427387904 else 0.5]  y",
    "let y[t: T] = x[if t * 4611686018427387904 >= 0 { t } else { 0 - t } else 0.5]  y",
    "let y[b, t: T] = x[(t * 4611686018427387904 + ids[b]) // 2 else 0.5]  y",
];

const EXTREMES: [i64; 18] = [
    0,
    1,
    2,
    3,
    4,
    5,
    -1,
    -2,
    i64::MAX,
    i64::MAX - 1,
    i64::MAX - 4,
    i64::MIN,
    i64::MIN + 1,
    i64::MIN + 5,
    1 << 62,
    -(1 << 62),
    (1 << 61) + 1,
    1 << 32,
];

fn draw(state: &mut u64) -> i64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    EXTREMES[(*state % EXTREMES.len() as u64) as usize]
}

#[test]
fn index_arithmetic_that_wraps_stays_inside() {
    alone("tricks::index_arithmetic_that_wraps_stays_inside", play_tricks);
}

fn play_tricks() {
    let mut wrong: BTreeMap<&str, String> = BTreeMap::new();
    let mut random = 0x9e37_79b9_7f4a_7c15;
    let (mut computed, mut refused) = (0, 0);
    for trick in TRICKS.iter().chain(BEYOND) {
        let text = format!(
            "pattern near(w: int)[i, j] = abs(i - j) <= w
             module M() {{ forward(x: [T], ids: i64[B], off: i64[B]) {{ {trick} }} }}\nmodel m = M()\n"
        );
        let compiler = Compiler::new();
        let mut unit = match compiler.elaborate_source("m.mdl", &text, Path::new(".")) {
            Ok(unit) => unit,
            Err(error) => {
                wrong.insert(trick, error.to_string());
                continue;
            }
        };
        let program = unit.program.clone();
        unit.optimise(None).unwrap();
        let loops = unit.lower().unwrap_or_else(|error| panic!("{trick}\n{error}"));
        let natives = ALL.map(|kernels| Native::new(loops.clone(), kernels));
        for (round, native) in (0..40 * effort()).flat_map(|round| natives.iter().map(move |n| (round, n))) {
            let x = Tensor::new([5], vec![1.0f32, 2.0, 4.0, 8.0, 16.0]).unwrap();
            let mut of = |count: usize| {
                Tensor::new([count], (0..count).map(|_| draw(&mut random)).collect::<Vec<i64>>()).unwrap()
            };
            let inputs = [x, of(4), of(4)];
            // Where sizes make an index wrap that is read without a check, the call is refused.
            let Some(env) = native.dims(&inputs, &[]) else {
                refused += 1;
                continue;
            };
            let want = evaluate(&program, &inputs, &[] as &[Tensor], &env, Mode::Declared);
            let flush = if round % 2 == 0 { Flush::End } else { Flush::Start };
            let called = native.call(trick, &inputs, &[], &env, flush);
            let told = match (&want, called.failed) {
                (Ok(want), None) => {
                    computed += 1;
                    // The order of a sum is the back end's, which shows where the terms are no powers of two.
                    let rounds = trick.contains("softmax");
                    let same = |(w, g): (&Tensor, &[u8])| match w.as_f32().filter(|_| rounds) {
                        Some(w) => w.iter().zip(g.chunks_exact(4)).all(|(w, g)| {
                            let g = f32::from_le_bytes([g[0], g[1], g[2], g[3]]);
                            w.to_bits() == g.to_bits() || (w - g).abs() <= 1e-6 * w.abs()
                        }),
                        None => g.starts_with(&w.to_le_bytes_vec()),
                    };
                    let outputs = called.outputs.iter().map(Guarded::bytes);
                    if want.iter().zip(outputs).all(same) || BEYOND.contains(trick) {
                        continue;
                    }
                    "other values".to_owned()
                }
                (Err(_), Some(_)) => {
                    refused += 1;
                    continue;
                }
                (Ok(_), Some(site)) => format!("fails: {}", native.site(site)),
                (Err(error), None) => format!("no failure: {error}"),
            };
            let (ids, off) = (inputs[1].as_i64().unwrap(), inputs[2].as_i64().unwrap());
            wrong.entry(trick).or_insert_with(|| format!("ids {ids:?}, off {off:?}: {told}"));
        }
    }
    println!("{computed} calls computed, {refused} refused");
    let mut text = String::new();
    for (trick, told) in &wrong {
        let _ = writeln!(text, "{trick}\n    {told}");
    }
    assert!(wrong.is_empty(), "{} of {} tricks\n{text}", wrong.len(), TRICKS.len());
}
