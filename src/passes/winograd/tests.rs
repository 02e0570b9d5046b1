//! The matrices do what they are for, and what they cost in rounding.

use super::{FOUR, SmallMatrix, TWO, Tiling, Window, block_rows, choose, direct_ns, time_ns};

/// `matrix * tile * matrix'`, in f32 or f64.
fn both_sides<T>(matrix: SmallMatrix, tile: &[Vec<T>]) -> Vec<Vec<T>>
where
    T: Copy + From<f32> + std::ops::Add<Output = T> + std::ops::Mul<Output = T>,
{
    let times = |row: &[f64], values: &[T]| {
        row.iter().zip(values).fold(T::from(0.0), |sum, (by, value)| sum + T::from(*by as f32) * *value)
    };
    let halves: Vec<Vec<T>> =
        tile.iter().map(|row| matrix.rows().map(|by| times(by, row)).collect()).collect();
    let column = |b: usize| halves.iter().map(|row| row[b]).collect::<Vec<T>>();
    let rows = matrix.rows().len();
    (0..rows)
        .map(|a| {
            (0..rows)
                .map(|b| times(matrix.elements.chunks(matrix.columns).nth(a).unwrap(), &column(b)))
                .collect()
        })
        .collect()
}

/// Numbers of about the normal distribution.
struct Draws(u64);

impl Draws {
    fn next(&mut self) -> f32 {
        let mut sum = 0.0;
        for _ in 0..12 {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            sum += (self.0 >> 40) as f32 / (1u64 << 24) as f32 - 0.5;
        }
        sum
    }

    fn square(&mut self, side: usize) -> Vec<Vec<f32>> {
        (0..side).map(|_| (0..side).map(|_| self.next()).collect()).collect()
    }
}

fn doubles(tile: &[Vec<f32>]) -> Vec<Vec<f64>> {
    tile.iter().map(|row| row.iter().map(|x| f64::from(*x)).collect()).collect()
}

/// The sums of a window over tiles of several channels, exactly; directly in f32; by tiles in f32.
fn sums(tiling: &Tiling, channels: usize, draws: &mut Draws) -> [Vec<f64>; 3] {
    let (m, n) = (tiling.results as usize, tiling.elements.columns);
    let elements: Vec<_> = (0..channels).map(|_| draws.square(n)).collect();
    let weights: Vec<_> = (0..channels).map(|_| draws.square(3)).collect();
    let (mut exact, mut direct) = (vec![0f64; m * m], vec![0f32; m * m]);
    let mut products = vec![vec![0f32; n]; n];
    for (x, w) in elements.iter().zip(&weights) {
        for (i, j, u, v) in (0..m * m * 9).map(|k| (k / 9 / m, k / 9 % m, k % 9 / 3, k % 3)) {
            exact[i * m + j] += f64::from(x[i + u][j + v]) * f64::from(w[u][v]);
            direct[i * m + j] = x[i + u][j + v].mul_add(w[u][v], direct[i * m + j]);
        }
        let (x, w) = (both_sides(tiling.elements, x), both_sides(tiling.weights, w));
        for (a, b) in (0..n * n).map(|k| (k / n, k % n)) {
            products[a][b] = x[a][b].mul_add(w[a][b], products[a][b]);
        }
    }
    let tiled = both_sides(tiling.sums, &products);
    let direct = direct.iter().map(|x| f64::from(*x)).collect();
    [exact, direct, doubles(&tiled).concat()]
}

#[test]
fn the_transforms_are_the_sums_of_a_window() {
    let mut draws = Draws(1);
    for tiling in [&TWO, &FOUR] {
        let (m, n) = (tiling.results as usize, tiling.elements.columns);
        let (x, w) = (doubles(&draws.square(n)), doubles(&draws.square(3)));
        let (e, f) = (both_sides(tiling.elements, &x), both_sides(tiling.weights, &w));
        let products: Vec<Vec<f64>> =
            e.iter().zip(&f).map(|(e, f)| e.iter().zip(f).map(|(e, f)| e * f).collect()).collect();
        let found = both_sides(tiling.sums, &products);
        for (i, j) in (0..m * m).map(|k| (k / m, k % m)) {
            let wanted: f64 = (0..9).map(|k| x[i + k / 3][j + k % 3] * w[k / 3][k % 3]).sum();
            // A sixth has no f32, which is what the test multiplies by.
            assert!((found[i][j] - wanted).abs() < 1e-5, "{} {wanted}", found[i][j]);
        }
    }
}

/// The greatest error over the greatest result, directly and by tiles.
fn errors(tiling: &Tiling) -> [f64; 2] {
    let mut draws = Draws(7);
    let (mut greatest, mut found) = (0f64, [0f64; 2]);
    for _ in 0..200 {
        let [exact, direct, tiled] = sums(tiling, 64, &mut draws);
        for (k, wanted) in exact.iter().enumerate() {
            greatest = greatest.max(wanted.abs());
            for (error, given) in found.iter_mut().zip([direct[k], tiled[k]]) {
                *error = error.max((given - wanted).abs());
            }
        }
    }
    found.map(|error| error / greatest)
}

#[test]
fn rounding_of_tiles_is_as_documented() {
    for (tiling, bound) in [(&TWO, 1e-6), (&FOUR, 5e-6)] {
        let [direct, tiled] = errors(tiling);
        eprintln!("m = {}: {direct:.1e} directly, {tiled:.1e} by tiles", tiling.results);
        assert!(direct < 1e-6 && tiled < bound, "m = {}: {direct:e}, {tiled:e}", tiling.results);
    }
}

fn window(sizes: [i64; 2], inputs: i64, outputs: i64) -> Window {
    Window { plane: [0, 1], along: [0, 1], channel: 2, output: 2, sizes, inputs, outputs }
}

#[test]
fn the_model_chooses_by_plane_and_channels() {
    let side = |window: Window| choose(&window).map(|(tiling, _)| tiling.results);
    assert_eq!(side(window([128, 128], 32, 32)), Some(4));
    assert_eq!(side(window([14, 14], 128, 32)), Some(2));
    // Few tiles do not pay for weights of four times the size.
    assert_eq!(side(window([8, 8], 512, 512)), Some(2));
    assert_eq!(side(window([7, 7], 512, 512)), None);
    assert_eq!(side(window([64, 64], 3, 32)), None);
    let wide = window([64, 64], 64, 64);
    assert!(time_ns(&wide, &FOUR, 1) < time_ns(&wide, &TWO, 1) && time_ns(&wide, &TWO, 1) < direct_ns(&wide));
}

#[test]
fn blocks_are_whole_and_fit() {
    for tiling in [&TWO, &FOUR] {
        for (size, channels) in [(16, 16), (56, 64), (128, 32), (32, 512)] {
            let rows = block_rows(&window([size, size], channels, channels), tiling);
            assert!(rows >= 1 && size / tiling.results % rows == 0);
            let bytes = 8 * tiling.points() * rows * size / tiling.results * channels;
            assert!(rows == 1 || bytes <= super::BLOCK_BYTES, "{rows} rows are {bytes} bytes");
        }
    }
}
