//! Convolutions with windows of three by three by transformed tiles (Winograd's minimal filtering).
//!
//! A tile of `m x m` results needs `n x n` elements, `n = m + 2`. With small matrices `B`, `G` and `A` that
//! are known, `A' (G w G' . B' x B) A` is what the sums over the window are, `.` being taken element by
//! element; summed over channels, each of the `n * n` elements is a product of matrices of its own. So
//! a product over `9 C` terms for each result becomes `n * n / (m * m)` products over `C` terms: 4
//! where `m` is 2, 2.25 where it is 4.
//!
//! Takes products that [`super::pad`] and [`super::matmul`] have made of convolutions with stride 1 whose
//! planes are whole tiles, and gives a region over blocks of rows of tiles, with [`Transform`]s around a
//! batched product in it; weights are transformed when they are bound.
//!
//! **When it pays.** [`time_ns`] weighs what a core does at once: multiply-adds, what is
//! transformed, and matrices that do not stay in its cache and are read anew for each block or row.
//!
//! **Rounding.** Elements of `B' x B` are sums of up to 4 (`m = 2`) or 16 elements weighed by up to 25
//! (`m = 4`), which the last transform takes away again: with random weights of equal sizes the greatest
//! error over the greatest result is about that of the direct sum for `m = 2`, ten times it for `m = 4`.

use super::Changed;
use super::bindtime::{bind_time_args, bind_time_nodes};
use super::pack::gather;
use crate::dim::Dim;
use crate::dtype::DType;
use crate::graph::affine::{Affine, Leaf, build};
use crate::graph::expr::{Expr, ExprId, Exprs, VarId};
use crate::graph::ir::{
    Axis, Epilogue, Graph, MatMul, Node, Op, Place, Program, Region, RegionKind, Role, SmallMatrix,
    TensorType, Transform, Value, View,
};
use crate::span::Span;
use petgraph::stable_graph::NodeIndex;
use std::collections::BTreeMap;

/// Columns that vectors have at least, and terms that are worth a transform.
const MIN_CHANNELS: i64 = 16;
/// Columns of a strip of weights.
const STRIP_COLUMNS: i64 = 32;
/// The part of the time of the direct product that tiles may take.
const MAX_SHARE: f64 = 0.85;
/// # Units
/// Bytes of the transformed tiles of a block: they are written, then read, and should stay in a cache.
const BLOCK_BYTES: i64 = 1 << 20;
/// # Units
/// Bytes of a matrix that stay in the cache of a core from one use to the next.
const CACHE_BYTES: i64 = 1 << 20;
/// # Units
/// Of a core with wide vectors: multiply-adds in a nanosecond, nanoseconds for each element that is made
/// before and taken apart after the product, bytes in a nanosecond from beyond the cache.
const MULTIPLY_ADDS: f64 = 90.0;
const TRANSFORMED_NS: f64 = 0.12;
const FAR_BYTES: f64 = 20.0;

/// The matrices of one size of tiles.
struct Tiling {
    /// Results along one side of a tile.
    results: i64,
    /// `B'`.
    elements: SmallMatrix,
    /// `G`.
    weights: SmallMatrix,
    /// `A'`.
    sums: SmallMatrix,
}

/// From the points 0, 1, -1 and infinity.
const TWO: Tiling = Tiling {
    results: 2,
    elements: SmallMatrix {
        columns: 4,
        elements: &[
            1.0, 0.0, -1.0, 0.0, //
            0.0, 1.0, 1.0, 0.0, //
            0.0, -1.0, 1.0, 0.0, //
            0.0, 1.0, 0.0, -1.0,
        ],
    },
    weights: SmallMatrix {
        columns: 3,
        elements: &[
            1.0, 0.0, 0.0, //
            0.5, 0.5, 0.5, //
            0.5, -0.5, 0.5, //
            0.0, 0.0, 1.0,
        ],
    },
    sums: SmallMatrix {
        columns: 4,
        elements: &[
            1.0, 1.0, 1.0, 0.0, //
            0.0, 1.0, -1.0, -1.0,
        ],
    },
};

/// From the points 0, 1, -1, 2, -2 and infinity.
const FOUR: Tiling = Tiling {
    results: 4,
    elements: SmallMatrix {
        columns: 6,
        elements: &[
            4.0, 0.0, -5.0, 0.0, 1.0, 0.0, //
            0.0, -4.0, -4.0, 1.0, 1.0, 0.0, //
            0.0, 4.0, -4.0, -1.0, 1.0, 0.0, //
            0.0, -2.0, -1.0, 2.0, 1.0, 0.0, //
            0.0, 2.0, -1.0, -2.0, 1.0, 0.0, //
            0.0, 4.0, 0.0, -5.0, 0.0, 1.0,
        ],
    },
    weights: SmallMatrix {
        columns: 3,
        elements: &[
            1.0 / 4.0,
            0.0,
            0.0, //
            -1.0 / 6.0,
            -1.0 / 6.0,
            -1.0 / 6.0, //
            -1.0 / 6.0,
            1.0 / 6.0,
            -1.0 / 6.0, //
            1.0 / 24.0,
            1.0 / 12.0,
            1.0 / 6.0, //
            1.0 / 24.0,
            -1.0 / 12.0,
            1.0 / 6.0, //
            0.0,
            0.0,
            1.0,
        ],
    },
    sums: SmallMatrix {
        columns: 6,
        elements: &[
            1.0, 1.0, 1.0, 1.0, 1.0, 0.0, //
            0.0, 1.0, -1.0, 2.0, -2.0, 0.0, //
            0.0, 1.0, 1.0, 4.0, 4.0, 0.0, //
            0.0, 1.0, -1.0, 8.0, -8.0, 1.0,
        ],
    },
};

/// Computes convolutions by tiles where that pays and weights can be transformed when they are bound.
pub fn transform_windows(program: &mut Program) -> Changed {
    let args = bind_time_args(program);
    let mut changed = false;
    let mut fresh = program.vars;
    for (function, args) in program.functions.iter_mut().zip(&args) {
        let graph = &mut function.graph;
        let known = bind_time_nodes(graph, args);
        for id in graph.topological() {
            if graph.operands(id).get(1).is_some_and(|weights| known.contains(&weights.node)) {
                changed |= transform(graph, id, &mut fresh);
            }
        }
    }
    program.vars = fresh;
    Changed::from(changed)
}

fn transform(graph: &mut Graph, id: NodeIndex, fresh: &mut u32) -> bool {
    let Op::MatMul(product) = &graph.node(id).op else { return false };
    let Some(window) = Window::of(product) else { return false };
    let Some((tiling, rows)) = choose(&window) else { return false };
    let product = product.as_ref().clone();
    let Some(made) = Blocks::new(graph, id, product, window, tiling, rows, fresh) else { return false };
    let Some((region, operands)) = made.region(graph) else { return false };
    graph.dag[id].op = Op::Region(Box::new(region));
    graph.set_operands(id, &operands);
    true
}

/// A product over the channels and a window of three by three, moved by ones over planes.
struct Window {
    /// The axes of the result along which the window moves, and those of the window.
    plane: [usize; 2],
    along: [usize; 2],
    /// The contracted axis of channels, and that of the result.
    channel: usize,
    output: usize,
    /// Their extents.
    sizes: [i64; 2],
    inputs: i64,
    outputs: i64,
}

impl Window {
    fn of(product: &MatMul) -> Option<Window> {
        if product.pick.is_some() || product.contract.len() != 3 || !product.lhs.vars.is_empty() {
            return None;
        }
        let real = |k: &usize| !product.iterate[*k].extent.is(1);
        let axes: Vec<usize> = (0..product.iterate.len()).filter(real).collect();
        let [around @ .., row, column, output] = axes.as_slice() else { return None };
        let roles_fit = product.roles[*output] == Role::N
            && around.iter().chain([row, column]).all(|k| product.roles[*k] == Role::M);
        let moves = |k: usize| {
            (0..3).find(|c| {
                product.contract[*c].extent.is(3) && product.lhs.contract[*c] == product.lhs.iterate[k]
            })
        };
        let along = [moves(*row)?, moves(*column)?];
        let channel = (0..3).find(|c| !along.contains(c)).filter(|_| along[0] != along[1])?;
        let fits = roles_fit && product.lhs.contract[channel].is(1) && product.rhs.vars.is_empty();
        let known = |axis: &Axis| axis.extent.as_const();
        let sizes = [known(&product.iterate[*row])?, known(&product.iterate[*column])?];
        let inputs = known(&product.contract[channel])?;
        let outputs = known(&product.iterate[*output])?;
        let (plane, output) = ([*row, *column], *output);
        fits.then_some(Window { plane, along, channel, output, sizes, inputs, outputs })
    }
}

/// The tiles that take least time by the model, and the rows of tiles of a block; `None` where the
/// direct product does.
fn choose(window: &Window) -> Option<(&'static Tiling, i64)> {
    if window.inputs.min(window.outputs) < MIN_CHANNELS {
        return None;
    }
    let mut best: Option<(f64, &'static Tiling, i64)> = None;
    for tiling in [&FOUR, &TWO] {
        if window.sizes.iter().any(|size| size % tiling.results != 0) {
            continue;
        }
        let rows = block_rows(window, tiling);
        let time = time_ns(window, tiling, rows);
        if best.as_ref().is_none_or(|(least, ..)| time < *least) {
            best = Some((time, tiling, rows));
        }
    }
    let (time, tiling, rows) = best?;
    (time < MAX_SHARE * direct_ns(window)).then_some((tiling, rows))
}

/// The most rows of tiles whose transformed elements stay in the cache, at least one; whole blocks of them
/// make up the plane.
fn block_rows(window: &Window, tiling: &Tiling) -> i64 {
    let [height, width] = window.sizes.map(|size| size / tiling.results);
    let each = 4 * tiling.points() * width * (window.inputs + window.outputs);
    (1..=height)
        .filter(|rows| height % rows == 0 && (*rows == 1 || rows * each <= BLOCK_BYTES))
        .max()
        .unwrap_or(1)
}

/// Time of one plane by tiles.
fn time_ns(window: &Window, tiling: &Tiling, rows: i64) -> f64 {
    let [height, width] = window.sizes.map(|size| size / tiling.results);
    let points = (tiling.points() * height * width) as f64;
    let (inputs, outputs) = (window.inputs as f64, window.outputs as f64);
    let matrices = 4 * tiling.points() * window.inputs * window.outputs;
    let times = if matrices > CACHE_BYTES { height / rows } else { 0 };
    points * inputs * outputs / MULTIPLY_ADDS
        + points * (inputs + outputs) * TRANSFORMED_NS
        + (times * matrices) as f64 / FAR_BYTES
}

/// Time of one plane by the product over the whole window, which reads the weights for each row.
fn direct_ns(window: &Window) -> f64 {
    let terms = 9 * window.inputs * window.outputs;
    let [height, width] = window.sizes;
    let times = if 4 * terms > CACHE_BYTES { height } else { 0 };
    (height * width * terms) as f64 / MULTIPLY_ADDS + (times * 4 * terms) as f64 / FAR_BYTES
}

impl Tiling {
    /// Products of matrices: elements of a tile.
    fn points(&self) -> i64 {
        (self.elements.columns * self.elements.columns) as i64
    }
}

/// A product that becomes a region over blocks of rows of tiles.
struct Blocks {
    product: MatMul,
    window: Window,
    tiling: &'static Tiling,
    /// Rows of tiles in a block, and tiles in a row.
    rows: i64,
    columns: i64,
    /// The region's axes: those around the plane, then blocks. With what each moves the left operand by.
    axes: Vec<(Axis, VarId, Dim)>,
    /// For each axis of the product that is a loop of the region, which.
    loops: BTreeMap<usize, usize>,
    operands: Vec<Value>,
    span: Span,
}

impl Blocks {
    fn new(
        graph: &mut Graph,
        id: NodeIndex,
        product: MatMul,
        window: Window,
        tiling: &'static Tiling,
        rows: i64,
        fresh: &mut u32,
    ) -> Option<Blocks> {
        let span = graph.node(id).span;
        let mut operands = graph.operands(id);
        operands[1] = weights(graph, &product, &window, tiling, operands[1], span)?;
        let mut next = || {
            *fresh += 1;
            VarId(*fresh - 1)
        };
        let (mut axes, mut loops) = (Vec::new(), BTreeMap::new());
        for k in 0..window.plane[0] {
            let axis = product.iterate[k].clone();
            if !axis.extent.is(1) {
                loops.insert(k, axes.len());
                axes.push((axis, next(), product.lhs.iterate[k].clone()));
            }
        }
        let [height, columns] = window.sizes.map(|size| size / tiling.results);
        let passed = Dim::from(rows * tiling.results).mul(&product.lhs.iterate[window.plane[0]]).ok()?;
        axes.push((Axis::new(Dim::from(height / rows), "block"), next(), passed));
        Some(Blocks { product, window, tiling, rows, columns, axes, loops, operands, span })
    }

    /// The region, and its operands.
    fn region(&self, graph: &Graph) -> Option<(Region, Vec<Value>)> {
        let mut body = Graph::new();
        let mut captured = Vec::with_capacity(self.operands.len());
        for value in &self.operands {
            let node = graph.node(value.node);
            captured.push(body.add_arg(graph.ty(*value).clone(), node.span, node.name.clone()));
        }
        let elements = self.elements(&mut body, captured[0])?;
        let products = self.products(&mut body, elements, captured[1])?;
        let sums = self.sums(&mut body, products, &captured)?;
        body.results = vec![sums];
        let blocks = self.axes.len() - 1;
        let places = (0..=blocks).map(Place::Loop).chain((0..3).map(Place::Slice)).collect();
        let region = Region {
            kind: RegionKind::Tiles,
            axes: self.axes.iter().map(|(axis, ..)| axis.clone()).collect(),
            vars: self.axes.iter().map(|(_, var, _)| *var).collect(),
            body,
            places: vec![places],
        };
        Some((region, self.operands.clone()))
    }

    /// `B' x B` of each tile of a block: `[a, b, rows, columns, channels]`.
    fn elements(&self, body: &mut Graph, from: Value) -> Option<Value> {
        let lhs = &self.product.lhs;
        let plane = self.window.plane.map(|k| lhs.iterate[k].clone());
        let side = Dim::from(self.tiling.results);
        let steps = [plane[0].mul(&side).ok()?, plane[1].mul(&side).ok()?];
        let source = View {
            offset: lhs.offset.clone(),
            vars: self.axes.iter().map(|(_, var, step)| (*var, step.clone())).collect(),
            iterate: [&Dim::ZERO, &Dim::ZERO, &steps[0], &steps[1], &Dim::ONE].map(Clone::clone).to_vec(),
            contract: plane.to_vec(),
        };
        let n = self.tiling.elements.columns as i64;
        let iterate =
            axes(&[("a", n), ("b", n), ("r", self.rows), ("s", self.columns), ("c", self.window.inputs)]);
        let shape = iterate.iter().map(|axis| axis.extent.clone()).collect();
        let transform =
            Transform { iterate, made: [0, 1], matrix: self.tiling.elements, source, epilogue: None };
        Some(add(body, transform, shape, &[from], self.span, "elements"))
    }

    /// A product of matrices for each element of the tiles: `[elements, tiles, outputs]`.
    fn products(&self, body: &mut Graph, elements: Value, weights: Value) -> Option<Value> {
        let (inputs, outputs) = (self.window.inputs, self.window.outputs);
        let tiles = self.rows * self.columns;
        let dims = |numbers: [i64; 4]| numbers.map(Dim::from).to_vec();
        let view = |iterate, contract: i64| View {
            offset: Dim::ZERO,
            vars: Vec::new(),
            iterate: dims(iterate),
            contract: vec![Dim::from(contract)],
        };
        let strip = strip(outputs);
        let iterate =
            axes(&[("e", self.tiling.points()), ("t", tiles), ("strip", outputs / strip), ("o", strip)]);
        let shape = [self.tiling.points(), tiles, outputs].map(Dim::from).to_vec();
        let product = MatMul {
            iterate,
            roles: vec![Role::Batch, Role::M, Role::N, Role::N],
            contract: axes(&[("c", inputs)]),
            lhs: view([tiles * inputs, inputs, 0, 0], 1),
            rhs: view([inputs * outputs, 0, inputs * strip, 1], strip),
            pick: None,
            epilogue: None,
        };
        let results = vec![TensorType::new(DType::F32, shape)];
        let node = Node {
            op: Op::MatMul(Box::new(product)),
            results,
            span: self.span,
            name: Some("products".into()),
        };
        Some(Value { node: body.add(node, &[elements, weights]), result: 0 })
    }

    /// `A' .. A` of each tile, then the epilogue: `[block's rows, columns, outputs]`.
    fn sums(&self, body: &mut Graph, products: Value, captured: &[Value]) -> Option<Value> {
        let outputs = self.window.outputs;
        let all = self.rows * self.columns * outputs;
        let (side, n) = (self.tiling.results, self.tiling.elements.columns as i64);
        let source = View {
            offset: Dim::ZERO,
            vars: Vec::new(),
            iterate: [self.columns * outputs, 0, outputs, 0, 1].map(Dim::from).to_vec(),
            contract: [n * all, all].map(Dim::from).to_vec(),
        };
        let iterate =
            axes(&[("r", self.rows), ("p", side), ("s", self.columns), ("q", side), ("o", outputs)]);
        let shape = [self.rows * side, self.columns * side, outputs].map(Dim::from).to_vec();
        // Further operands keep their ports, less one for the weights.
        let operands: Vec<Value> = [products].into_iter().chain(captured[2..].iter().copied()).collect();
        let epilogue = match &self.product.epilogue {
            Some(epilogue) => Some(self.epilogue(epilogue)?),
            None => None,
        };
        let dtype = epilogue.as_ref().map_or(DType::F32, |epilogue| epilogue.exprs.dtype(epilogue.body));
        let transform = Transform { iterate, made: [1, 3], matrix: self.tiling.sums, source, epilogue };
        let results = vec![TensorType::new(dtype, shape)];
        let node = Node { op: Op::Transform(Box::new(transform)), results, span: self.span, name: None };
        Some(Value { node: body.add(node, &operands), result: 0 })
    }

    /// The epilogue of the product at the points of the last transform.
    fn epilogue(&self, epilogue: &Epilogue) -> Option<Epilogue> {
        let side = Dim::from(self.tiling.results);
        let (_, block, _) = self.axes.last()?;
        let index = |k: u32, by: &Dim| Affine::leaf(Leaf::Index(k)).scale(by);
        let tall = Affine::leaf(Leaf::Var(*block)).scale(&Dim::from(self.rows * self.tiling.results))?;
        let row = tall.add(&index(0, &side)?)?.add(&index(1, &Dim::ONE)?)?;
        let column = index(2, &side)?.add(&index(3, &Dim::ONE)?)?;
        let output = index(4, &Dim::ONE)?;
        let point = |k: usize| match self.loops.get(&k) {
            Some(at) => Affine::leaf(Leaf::Var(self.axes[*at].1)),
            None if k == self.window.plane[0] => row.clone(),
            None if k == self.window.plane[1] => column.clone(),
            None if k == self.window.output => output.clone(),
            None => Affine::constant(Dim::ZERO),
        };
        let mut exprs = Exprs::new();
        let roots = exprs.map(&epilogue.exprs, &[epilogue.body], &mut |out, expr, dtype| -> ExprId {
            match expr {
                Expr::Index(k) => build(out, &point(k as usize)),
                // Port 0 is the accumulator as before.
                Expr::Read(mut read) => {
                    read.port = read.port.saturating_sub(1);
                    out.add(Expr::Read(read), dtype)
                }
                other => out.add(other, dtype),
            }
        });
        Some(Epilogue { exprs, body: roots[0] })
    }
}

/// Columns of weights that lie together: as many as a tile of the product's kernel has, so that each strip is
/// read from one end to the other.
fn strip(outputs: i64) -> i64 {
    if outputs % STRIP_COLUMNS == 0 { STRIP_COLUMNS } else { outputs }
}

/// `G w G'` for each pair of channels: `[a, b, strips, inputs, columns of a strip]`.
fn weights(
    graph: &mut Graph,
    product: &MatMul,
    window: &Window,
    tiling: &Tiling,
    from: Value,
    span: Span,
) -> Option<Value> {
    let rhs = &product.rhs;
    let (inputs, outputs) = (window.inputs, window.outputs);
    let mut flat = Affine::constant(rhs.offset.clone());
    let strides = [window.along[0], window.along[1], window.channel].map(|c| &rhs.contract[c]);
    for (k, stride) in strides.into_iter().chain([&rhs.iterate[window.output]]).enumerate() {
        if !stride.is(0) {
            flat.terms.insert(Leaf::Index(k as u32), stride.clone());
        }
    }
    let gathered = axes(&[("u", 3), ("v", 3), ("c", inputs), ("o", outputs)]);
    let index = gather(gathered, flat, graph.ty(from), span)?;
    let packed =
        graph.add_index(index, vec![Dim::from(9 * inputs * outputs)], &[from], span, Some("packed".into()));
    let strip = strip(outputs);
    let source = View {
        offset: Dim::ZERO,
        vars: Vec::new(),
        iterate: [0, 0, strip, outputs, 1].map(Dim::from).to_vec(),
        contract: [3 * inputs * outputs, inputs * outputs].map(Dim::from).to_vec(),
    };
    let n = tiling.elements.columns as i64;
    let strips = outputs / strip;
    let iterate = axes(&[("a", n), ("b", n), ("strip", strips), ("c", inputs), ("o", strip)]);
    let shape = vec![Dim::from(tiling.points() * inputs * outputs)];
    let transform = Transform { iterate, made: [0, 1], matrix: tiling.weights, source, epilogue: None };
    Some(add(graph, transform, shape, &[packed], span, "filters"))
}

fn add(
    graph: &mut Graph,
    transform: Transform,
    shape: Vec<Dim>,
    operands: &[Value],
    span: Span,
    name: &str,
) -> Value {
    let results = vec![TensorType::new(DType::F32, shape)];
    let node = Node { op: Op::Transform(Box::new(transform)), results, span, name: Some(name.into()) };
    Value { node: graph.add(node, operands), result: 0 }
}

fn axes(named: &[(&str, i64)]) -> Vec<Axis> {
    named.iter().map(|(name, extent)| Axis::new(Dim::from(*extent), name)).collect()
}

#[cfg(test)]
mod tests;
