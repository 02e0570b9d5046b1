//! What a node costs, as polynomials of the free dimensions.
//!
//! FLOPs count what one evaluation of the definition does: every point of a reduction is counted
//! whether or not its filter passes, but result indices that the filter fixes are no points of
//! their own ([`keys`]); both branches of a selection count, and what does not depend on the reduced
//! indices counts once per result. Bytes are those that must move at least once:
//! for every read, one element per distinct point of the indices that it uses, and the result.
//! Nothing here knows how a node is computed.

use super::expr::{Expr, ExprId, Exprs};
use super::ir::{Axis, FuncId, Graph, Index, MatMul, Op, Program, TensorType, Transform, View};
use super::keys::keys;
use crate::dim::{Dim, DimError};
use crate::ops::cost::{ScalarCost, binary_cost_flops, unary_cost_flops};
use crate::ops::reduce::Reducer;
use crate::ops::scalar::BinaryOp;
use petgraph::stable_graph::NodeIndex;
use std::collections::BTreeSet;
use std::fmt;

/// The cost of a node or a graph.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Cost {
    /// # Units
    /// FLOPs, as defined in [`crate::ops::cost`].
    pub flops: Dim,
    /// Points of sums of products: what papers give as the multiply-adds (or MACs) of a network.
    /// They are also among the FLOPs, as two each.
    pub multiply_adds: Dim,
    /// Evaluations of functions that are computed by polynomials.
    pub transcendentals: Dim,
    /// # Units
    /// Bytes read and written.
    pub size_bytes: Dim,
}

impl Cost {
    /// No cost.
    pub const ZERO: Cost = Cost {
        flops: Dim::ZERO,
        multiply_adds: Dim::ZERO,
        transcendentals: Dim::ZERO,
        size_bytes: Dim::ZERO,
    };

    /// Both after another.
    ///
    /// # Errors
    /// As [`Dim::add`].
    pub fn add(&self, other: &Cost) -> Result<Cost, DimError> {
        Ok(Cost {
            flops: self.flops.add(&other.flops)?,
            multiply_adds: self.multiply_adds.add(&other.multiply_adds)?,
            transcendentals: self.transcendentals.add(&other.transcendentals)?,
            size_bytes: self.size_bytes.add(&other.size_bytes)?,
        })
    }

    /// `times` repetitions.
    ///
    /// # Errors
    /// As [`Dim::mul`].
    pub fn repeat(&self, times: &Dim) -> Result<Cost, DimError> {
        Ok(Cost {
            flops: self.flops.mul(times)?,
            multiply_adds: self.multiply_adds.mul(times)?,
            transcendentals: self.transcendentals.mul(times)?,
            size_bytes: self.size_bytes.mul(times)?,
        })
    }
}

impl fmt::Display for Cost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} FLOP", self.flops)?;
        if !self.transcendentals.is(0) {
            write!(f, ", {} transcendental", self.transcendentals)?;
        }
        write!(f, ", {} bytes", self.size_bytes)
    }
}

/// The cost of one call of the entry.
///
/// # Errors
/// Polynomials that overflow or have too many terms, as for all functions here.
pub fn program(program: &Program) -> Result<Cost, DimError> {
    Costs::of(program).function(program.entry)
}

/// What the functions of a program cost, each worked out once however often it is called.
#[derive(Debug)]
pub struct Costs {
    functions: Vec<Result<Cost, DimError>>,
}

impl Costs {
    /// The costs of all functions, callees first.
    pub fn of(program: &Program) -> Costs {
        let mut costs = Costs { functions: Vec::with_capacity(program.functions.len()) };
        for function in &program.functions {
            costs.functions.push(costs.graph(&function.graph));
        }
        costs
    }

    /// The cost of one call of a function.
    ///
    /// # Errors
    /// As [`program`].
    pub fn function(&self, id: FuncId) -> Result<Cost, DimError> {
        self.functions[id.0 as usize].clone()
    }

    fn graph(&self, graph: &Graph) -> Result<Cost, DimError> {
        let mut sum = Cost::ZERO;
        for id in graph.topological() {
            sum = sum.add(&self.node(graph, id)?)?;
        }
        Ok(sum)
    }

    /// The cost of one node; of a recurrence, all its steps; of a call, the callee.
    ///
    /// # Errors
    /// As [`program`].
    pub fn node(&self, graph: &Graph, id: NodeIndex) -> Result<Cost, DimError> {
        let node = graph.node(id);
        let operand = |port: u32| graph.operands(id).get(port as usize).map(|value| graph.ty(*value).clone());
        match &node.op {
            Op::Arg(_) | Op::Const(_) => Ok(Cost::ZERO),
            Op::Index(index) => with_traffic(
                index_flops(index, &[], true)?,
                index_reads(index, &index.roots(), &operand)?,
                &node.results,
            ),
            Op::Segment(segment) => {
                let mut roots = segment.index.roots();
                roots.push(segment.key);
                let flops = index_flops(&segment.index, &[segment.axis], false)?;
                with_traffic(flops, index_reads(&segment.index, &roots, &operand)?, &node.results)
            }
            Op::MatMul(product) => matmul(product, &operand, &node.results),
            Op::Transform(transform) => self::transform(transform, &operand, &node.results),
            Op::Scan(_) | Op::TopK(_) => {
                let ty = operand(0).into_iter().collect::<Vec<_>>();
                let elems = ty.first().map_or(Ok(Dim::ZERO), |ty| Dim::product(&ty.shape))?;
                let flops = Cost { flops: elems, ..Cost::ZERO };
                with_traffic(flops, size_bytes(&ty)?, &node.results)
            }
            Op::Call(callee) => self.function(*callee),
            Op::Recur(recur) => self.graph(&recur.body)?.repeat(&recur.extent),
            Op::Region(region) => {
                let points = Dim::product(region.axes.iter().map(|axis| &axis.extent))?;
                self.graph(&region.body)?.repeat(&points)
            }
        }
    }
}

fn with_traffic(mut cost: Cost, read_bytes: Dim, results: &[TensorType]) -> Result<Cost, DimError> {
    cost.size_bytes = read_bytes.add(&size_bytes(results)?)?;
    Ok(cost)
}

fn size_bytes(types: &[TensorType]) -> Result<Dim, DimError> {
    types.iter().try_fold(Dim::ZERO, |sum, ty| {
        sum.add(&Dim::product(&ty.shape)?.mul(&Dim::from(ty.dtype.size_bytes() as i64))?)
    })
}

fn points(axes: &[Axis]) -> Result<Dim, DimError> {
    Dim::product(axes.iter().map(|axis| &axis.extent))
}

/// FLOPs of an index op. The axes `fixed` of the result, and those that the filter fixes, have one
/// index for each point of the others. `split` is whether what the reduced indices do not reach is
/// computed once per result; otherwise all is computed at every point.
fn index_flops(index: &Index, fixed: &[usize], split: bool) -> Result<Cost, DimError> {
    let outer = points(&index.iterate)?;
    let Some(reduce) = &index.reduce else {
        return scalars(&index.exprs, &index.roots(), &|_| true)?.repeat(&outer);
    };
    let mut free = index.iterate.clone();
    let mut fixed: Vec<usize> =
        fixed.iter().copied().chain(keys(index, fixed, &|_| true).map(|key| key.axis)).collect();
    fixed.sort_unstable();
    for axis in fixed.into_iter().rev() {
        free.remove(axis);
    }
    let all = points(&free)?.mul(&points(&reduce.axes)?)?;
    let reduced = depends_on(&index.exprs, &|k| !split || k as usize >= index.iterate.len());
    let roots = index.roots();
    let inner = scalars(&index.exprs, &roots, &|id| reduced[id.0 as usize])?;
    let once = scalars(&index.exprs, &roots, &|id| !reduced[id.0 as usize])?;
    let combine = match reduce.reducer {
        Reducer::Any | Reducer::All => 0,
        _ => i64::from(index.exprs.dtype(index.body).is_float()),
    };
    let product = reduce.reducer == Reducer::Sum && is_product(&index.exprs, index.body);
    let combine =
        Cost { flops: Dim::from(combine), multiply_adds: Dim::from(i64::from(product)), ..Cost::ZERO };
    inner.add(&combine)?.repeat(&all)?.add(&once.repeat(&outer)?)
}

/// Whether an expression multiplies two floats neither of which is a literal.
fn is_product(exprs: &Exprs, id: ExprId) -> bool {
    let factor = |id: ExprId| !matches!(exprs.get(id), Expr::Const(_));
    match exprs.get(id) {
        Expr::Binary(BinaryOp::Mul, a, b) => exprs.dtype(id).is_float() && factor(*a) && factor(*b),
        _ => false,
    }
}

/// One evaluation of every expression that the roots reach and `counted` accepts.
fn scalars(exprs: &Exprs, roots: &[ExprId], counted: &dyn Fn(ExprId) -> bool) -> Result<Cost, DimError> {
    let needed = exprs.reachable(roots);
    let mut sum = ScalarCost::default();
    for (_, expr, _) in exprs.iter().filter(|(id, ..)| needed[id.0 as usize] && counted(*id)) {
        let cost = match expr {
            Expr::Unary(op, a) => unary_cost_flops(*op, exprs.dtype(*a)),
            Expr::Binary(op, a, _) => binary_cost_flops(*op, exprs.dtype(*a)),
            _ => continue,
        };
        sum.flops += cost.flops;
        sum.transcendentals += cost.transcendentals;
    }
    Ok(Cost { flops: Dim::from(sum.flops), transcendentals: Dim::from(sum.transcendentals), ..Cost::ZERO })
}

/// For each expression, whether it uses an index that `wanted` accepts.
fn depends_on(exprs: &Exprs, wanted: &dyn Fn(u32) -> bool) -> Vec<bool> {
    let mut depends: Vec<bool> = Vec::with_capacity(exprs.len());
    for (id, expr, _) in exprs.iter() {
        let own = matches!(expr, Expr::Index(k) if wanted(*k));
        let inherited = exprs.operands(id).iter().any(|operand| depends[operand.0 as usize]);
        depends.push(own || inherited);
    }
    depends
}

/// Bytes that the reads of an index op move: reads of one port over the same indices count once.
fn index_reads(
    index: &Index,
    roots: &[ExprId],
    operand: &dyn Fn(u32) -> Option<TensorType>,
) -> Result<Dim, DimError> {
    reads(&index.exprs, roots, &index.extents(), operand)
}

fn reads(
    exprs: &Exprs,
    roots: &[ExprId],
    extents: &[Dim],
    operand: &dyn Fn(u32) -> Option<TensorType>,
) -> Result<Dim, DimError> {
    let needed = exprs.reachable(roots);
    let mut used: Vec<BTreeSet<u32>> = Vec::with_capacity(exprs.len());
    let mut seen = BTreeSet::new();
    for (id, expr, _) in exprs.iter() {
        let mut set = BTreeSet::new();
        if let Expr::Index(k) = expr {
            set.insert(*k);
        }
        for operand in exprs.operands(id) {
            set.extend(&used[operand.0 as usize]);
        }
        if let (true, Expr::Read(read)) = (needed[id.0 as usize], expr) {
            let indices: BTreeSet<u32> =
                read.index.iter().flat_map(|i| used[i.0 as usize].iter().copied()).collect();
            seen.insert((read.port, indices));
        }
        used.push(set);
    }
    let mut sum = Dim::ZERO;
    for (port, indices) in seen {
        let Some(ty) = operand(port) else { continue };
        let count = Dim::product(indices.iter().filter_map(|k| extents.get(*k as usize)))?;
        let whole = Dim::product(&ty.shape)?;
        // Overlapping windows read no more than there is, where that can be told.
        let count = if count.minimum(&whole)? == whole { whole } else { count };
        sum = sum.add(&count.mul(&Dim::from(ty.dtype.size_bytes() as i64))?)?;
    }
    Ok(sum)
}

fn matmul(
    product: &MatMul,
    operand: &dyn Fn(u32) -> Option<TensorType>,
    results: &[TensorType],
) -> Result<Cost, DimError> {
    let outer = points(&product.iterate)?;
    let depth = points(&product.contract)?;
    let multiply_adds = outer.mul(&depth)?;
    let mut cost = Cost { flops: multiply_adds.mul(&Dim::from(2))?, multiply_adds, ..Cost::ZERO };
    let mut bytes = Dim::ZERO;
    let read = |view: &View, elem_bytes: i64| {
        let axes =
            product.iterate.iter().zip(&view.iterate).chain(product.contract.iter().zip(&view.contract));
        let walked = axes.filter(|(_, stride)| !stride.is(0)).map(|(axis, _)| &axis.extent);
        Dim::product(walked)?.mul(&Dim::from(elem_bytes))
    };
    let mut matrix_bytes = read(&product.rhs, 4)?;
    if let Some(pick) = &product.pick {
        // Each matrix that is picked is read once.
        let picks = read(&pick.at, 1)?;
        matrix_bytes = matrix_bytes.mul(&picks.minimum(&pick.extent)?)?;
        bytes = bytes.add(&picks.mul(&Dim::from(8))?)?;
    }
    bytes = bytes.add(&read(&product.lhs, 4)?)?.add(&matrix_bytes)?;
    if let Some(epilogue) = &product.epilogue {
        let extents: Vec<Dim> = product.iterate.iter().map(|axis| axis.extent.clone()).collect();
        cost = cost.add(&scalars(&epilogue.exprs, &[epilogue.body], &|_| true)?.repeat(&outer)?)?;
        // Port 0 is the accumulator.
        let first = if product.pick.is_some() { 3 } else { 2 };
        let further = |port: u32| if port < first { None } else { operand(port) };
        bytes = bytes.add(&reads(&epilogue.exprs, &[epilogue.body], &extents, &further)?)?;
    }
    with_traffic(cost, bytes, results)
}

/// A transform one side after the other: a multiply-add for each element of the matrix that is not zero.
fn transform(
    transform: &Transform,
    operand: &dyn Fn(u32) -> Option<TensorType>,
    results: &[TensorType],
) -> Result<Cost, DimError> {
    let Transform { iterate, made, matrix, .. } = transform;
    let around = iterate.iter().enumerate().filter(|(k, _)| !made.contains(k)).map(|(_, axis)| &axis.extent);
    let tiles = Dim::product(around)?;
    let nonzero = matrix.elements.iter().filter(|element| **element != 0.0).count();
    let each = 2 * nonzero * (matrix.columns + matrix.rows().len());
    let mut cost = Cost { flops: tiles.mul(&Dim::from(each as i64))?, ..Cost::ZERO };
    let whole = operand(0).map_or(Ok(Dim::ZERO), |ty| size_bytes(&[ty]))?;
    let read = tiles.mul(&Dim::from(4 * (matrix.columns * matrix.columns) as i64))?;
    let mut bytes = if read.minimum(&whole)? == whole { whole } else { read };
    if let Some(epilogue) = &transform.epilogue {
        let extents: Vec<Dim> = iterate.iter().map(|axis| axis.extent.clone()).collect();
        let outer = points(iterate)?;
        cost = cost.add(&scalars(&epilogue.exprs, &[epilogue.body], &|_| true)?.repeat(&outer)?)?;
        let further = |port: u32| if port < 1 { None } else { operand(port) };
        bytes = bytes.add(&reads(&epilogue.exprs, &[epilogue.body], &extents, &further)?)?;
    }
    with_traffic(cost, bytes, results)
}
