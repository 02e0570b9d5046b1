//! Scalar expressions of one op at one point of its loops.
//!
//! Turns lazy graph expressions into eager and safe loop expressions. Reads become loads: proved
//! inside, or predicated (`select(ok, address, 0)`), with the read's `otherwise` or a
//! [`Stmt::Fail`] for where they are outside.

use super::bounds::{Bounds, Fact, Known, Verdict};
use super::demand::{Demand, DemandId, Demands};
use super::place::Place;
use super::{FuncCx, LowerError, Lowered};
use crate::dim::Dim;
use crate::dtype::DType;
use crate::graph::affine::{Affine, Leaf, Ranges, affine};
use crate::graph::expr::{Expr, ExprId, Exprs, Literal, Read};
use crate::loops::ir::{Scalar, ScalarId, Stmt};
use crate::ops::scalar::BinaryOp;
use crate::span::Span;
use std::collections::BTreeMap;
use std::ops::Range;

/// What the leaves of an op's expressions are.
#[derive(Clone)]
pub(super) struct Env<'a> {
    pub exprs: &'a Exprs,
    /// Value of each index.
    pub index: Vec<ScalarId>,
    /// Extent of each index.
    pub extents: Vec<Dim>,
    /// Indices from the outermost loop to the innermost.
    pub order: Vec<usize>,
    pub ports: &'a [Place],
    /// The accumulator of an epilogue.
    pub accumulator: Option<ScalarId>,
    /// Conditions that hold wherever the expressions are evaluated.
    pub known: Vec<Fact>,
    /// Whether not every point of all extents is evaluated.
    pub conditional: bool,
    /// Whether failures are somebody else's to report: reads are made safe and nothing more.
    pub quiet: bool,
    /// Adjacent indices that one loop spells.
    pub groups: Vec<Group>,
}

/// Adjacent indices that are the digits of one loop's variable.
#[derive(Clone)]
pub(super) struct Group {
    pub axes: Range<usize>,
    pub value: ScalarId,
}

/// Expressions and what must be checked before they are used.
pub(super) struct Evaluated {
    pub values: Vec<ScalarId>,
    pub fails: Vec<Stmt>,
}

impl Evaluated {
    /// The value of a single root; its checks go to `out`.
    pub(super) fn checked(mut self, out: &mut Vec<Stmt>) -> ScalarId {
        for fail in self.fails {
            push_fail(out, fail);
        }
        self.values.pop().expect("invariant: one root")
    }
}

/// A read that may be outside at axis `axis`.
struct Doubt {
    read: ExprId,
    axis: usize,
    outside: ScalarId,
}

/// How sure a read is at one axis.
pub(super) struct Judged {
    /// What the loops and known conditions prove.
    pub plain: Verdict,
    /// Whether the demand of the read proves the rest.
    pub demanded: bool,
    /// Whether the index has bounds.
    pub bounded: bool,
    /// What must not wrap for that.
    pub assumed: Vec<Dim>,
}

impl Judged {
    /// Whether a plain load is safe at this axis.
    pub(super) fn is_inside(&self) -> bool {
        self.plain == Verdict::Inside
    }
}

impl<'a> Env<'a> {
    /// An environment over the axes of an op; every index has a value already.
    pub(super) fn new(exprs: &'a Exprs, index: Vec<ScalarId>, extents: Vec<Dim>, ports: &'a [Place]) -> Self {
        let order = (0..extents.len()).collect();
        Env {
            exprs,
            index,
            extents,
            order,
            ports,
            accumulator: None,
            known: Vec::new(),
            conditional: false,
            quiet: false,
            groups: Vec::new(),
        }
    }

    /// The environment outside the loops of all but the first indices.
    pub(super) fn of_first(&self, count: usize) -> Self {
        let mut outer = self.clone();
        outer.index.truncate(count);
        outer.extents.truncate(count);
        outer
    }

    pub(super) fn is_accumulator(&self, read: &Read) -> bool {
        self.accumulator.is_some() && read.port == 0 && read.index.is_empty()
    }
}

impl FuncCx<'_> {
    pub(super) fn bounds<'a>(&self, env: &Env<'a>) -> Bounds<'a> {
        let ranges = Ranges { indices: env.extents.clone(), vars: self.ranges.clone() };
        Bounds { exprs: env.exprs, ranges }
    }

    /// Judges every axis of a read.
    pub(super) fn judge(&self, env: &Env<'_>, demands: &Demands, id: ExprId, read: &Read) -> Vec<Judged> {
        let place = &env.ports[read.port as usize];
        if place.trusted || env.is_accumulator(read) {
            return Vec::new();
        }
        let bounds = self.bounds(env);
        let known = bounds.known(&env.known);
        let mut paths: Option<Vec<Known>> = None;
        let axes = read.index.iter().zip(&place.shape);
        axes.map(|(index, extent)| {
            let (plain, mut assumed, bounded) = bounds.judge(*index, extent, &known);
            assumed.extend(known.assumed.iter().cloned());
            if plain == Verdict::Inside {
                return Judged { plain, demanded: true, bounded, assumed };
            }
            let paths = paths.get_or_insert_with(|| {
                let paths = demands.paths(demands.of(id)).unwrap_or_default();
                let all = paths.into_iter().map(|facts| [env.known.as_slice(), &facts].concat());
                all.map(|facts| bounds.known(&facts)).collect()
            });
            let proved = |known: &Known| bounds.judge(*index, extent, known).0 == Verdict::Inside;
            Judged { plain, demanded: !paths.is_empty() && paths.iter().all(proved), bounded, assumed }
        })
        .collect()
    }

    /// Whether evaluation needs no check at all.
    pub(super) fn cannot_fail(&self, env: &Env<'_>, roots: &[ExprId]) -> bool {
        let demands = Demands::new(env.exprs, roots);
        let needed = env.exprs.reachable(roots);
        let bounds = self.bounds(env);
        let known = bounds.known(&env.known);
        env.exprs.iter().filter(|(id, _, _)| needed[id.0 as usize]).all(|(id, expr, _)| match expr {
            Expr::Read(read) if read.otherwise.is_none() => {
                self.judge(env, &demands, id, read).iter().all(|j| j.demanded)
            }
            Expr::Binary(BinaryOp::FloorDiv | BinaryOp::Mod, _, b) => bounds.is_nonzero(*b, &known).is_some(),
            _ => true,
        })
    }

    /// The values of expressions.
    pub(super) fn eval(&mut self, env: &Env<'_>, roots: &[ExprId]) -> Lowered<Evaluated> {
        let demands = Demands::new(env.exprs, roots);
        let needed = env.exprs.reachable(roots);
        let mut values: Vec<Option<ScalarId>> = vec![None; env.exprs.len()];
        let (mut doubts, mut divisors) = (Vec::new(), Vec::new());
        for (id, expr, dtype) in env.exprs.iter() {
            if !needed[id.0 as usize] {
                continue;
            }
            let at = |id: ExprId| values[id.0 as usize].expect("invariant: operands precede users");
            let value = match expr {
                Expr::Const(literal) => self.scalar(Scalar::Const(*literal), dtype),
                Expr::Index(k) => env.index[*k as usize],
                Expr::Var(var) => self.positions[var].scalar,
                Expr::Dim(dim) => self.dim(dim),
                Expr::Unary(op, a) => {
                    let a = at(*a);
                    self.scalar(Scalar::Unary(*op, a), dtype)
                }
                Expr::Binary(op @ (BinaryOp::FloorDiv | BinaryOp::Mod), a, b) => {
                    let (a, b_value) = (at(*a), at(*b));
                    let divisor = self.divisor(env, id, *b, b_value, &mut divisors);
                    self.binary(*op, a, divisor)
                }
                Expr::Binary(op, a, b) => self.binary(*op, at(*a), at(*b)),
                Expr::Select(c, a, b) => self.select(at(*c), at(*a), at(*b)),
                Expr::Cast(a) => self.cast(at(*a), dtype),
                Expr::Read(read) if env.is_accumulator(read) => {
                    env.accumulator.expect("invariant: is_accumulator")
                }
                Expr::Read(read) => self.read(env, &demands, id, read, &values, &mut doubts)?,
            };
            values[id.0 as usize] = Some(value);
        }
        let mut fails = Vec::new();
        let mut memo = BTreeMap::new();
        divisors.retain(|_| !env.quiet);
        for (id, zero) in divisors {
            let demand = self.demand(&demands, demands.of(id), &values, &mut memo);
            let condition = self.and(demand, zero);
            let site = self.site("division-by-zero", "the divisor is zero".into(), self.span);
            push_fail(&mut fails, Stmt::Fail { condition, site, values: Vec::new() });
        }
        for doubt in doubts {
            let demand = self.demand(&demands, demands.of(doubt.read), &values, &mut memo);
            let condition = self.and(demand, doubt.outside);
            self.fail_outside(env, &doubt, condition, &values, &mut fails);
        }
        let values = roots.iter().map(|id| values[id.0 as usize].expect("invariant: roots are reachable"));
        Ok(Evaluated { values: values.collect(), fails })
    }

    fn fail_outside(
        &mut self,
        env: &Env<'_>,
        doubt: &Doubt,
        condition: ScalarId,
        values: &[Option<ScalarId>],
        fails: &mut Vec<Stmt>,
    ) {
        if self.as_bool(condition) == Some(false) {
            return;
        }
        let Expr::Read(read) = env.exprs.get(doubt.read) else { return };
        let place = &env.ports[read.port as usize];
        let site = self.outside_site(place, doubt.axis, read.span);
        let index = values[read.index[doubt.axis].0 as usize].expect("invariant: operands precede users");
        let extent = self.dim(&place.shape[doubt.axis]);
        push_fail(fails, Stmt::Fail { condition, site, values: vec![index, extent] });
    }

    pub(super) fn outside_site(
        &mut self,
        place: &Place,
        axis: usize,
        span: Span,
    ) -> crate::loops::ir::SiteId {
        let name = place.name.as_deref().map_or_else(|| "a value".to_owned(), |name| format!("`{name}`"));
        let message = format!("{name} is read at {{0}} on axis {axis}, which has {{1}} elements");
        self.site("index-out-of-range", message, span)
    }

    fn divisor(
        &mut self,
        env: &Env<'_>,
        id: ExprId,
        b: ExprId,
        value: ScalarId,
        divisors: &mut Vec<(ExprId, ScalarId)>,
    ) -> ScalarId {
        let bounds = self.bounds(env);
        let known = bounds.known(&env.known);
        if let Some(assumed) = bounds.is_nonzero(b, &known) {
            self.assume(assumed.into_iter().chain(known.assumed));
            return value;
        }
        let dtype = self.func.scalars.dtype(value);
        let nothing = self.zero(dtype);
        let one = self.scalar(Scalar::Const(Literal::Int(1)), dtype);
        let is_zero = self.binary(BinaryOp::Eq, value, nothing);
        divisors.push((id, is_zero));
        self.select(is_zero, one, value)
    }

    pub(super) fn cast(&mut self, a: ScalarId, dtype: DType) -> ScalarId {
        let known = match (self.func.scalars.get(a), dtype) {
            (Scalar::Const(Literal::Real(bits)), DType::F32) => Some(f64::from(f64::from_bits(*bits) as f32)),
            (Scalar::Const(Literal::Real(bits)), DType::F64) => Some(f64::from_bits(*bits)),
            (Scalar::Const(Literal::Int(value)), DType::F32) => Some(f64::from(*value as f32)),
            (Scalar::Const(Literal::Int(value)), DType::F64) => Some(*value as f64),
            _ => None,
        };
        match known {
            Some(value) => self.scalar(Scalar::Const(Literal::Real(value.to_bits())), dtype),
            None if self.func.scalars.dtype(a) == dtype => a,
            None => self.scalar(Scalar::Cast(a), dtype),
        }
    }

    /// The condition of a demand.
    pub(super) fn demand(
        &mut self,
        demands: &Demands,
        id: DemandId,
        values: &[Option<ScalarId>],
        memo: &mut BTreeMap<u32, ScalarId>,
    ) -> ScalarId {
        if let Some(known) = memo.get(&id.number()) {
            return *known;
        }
        let value = match demands.get(id) {
            Demand::Always => self.bool(true),
            Demand::And(inner, (condition, holds)) => {
                let inner = self.demand(demands, inner, values, memo);
                let condition = values[condition.0 as usize].expect("invariant: conditions are evaluated");
                let condition = if holds { condition } else { self.not(condition) };
                self.and(inner, condition)
            }
            Demand::Or(a, b) => {
                let (a, b) = (self.demand(demands, a, values, memo), self.demand(demands, b, values, memo));
                self.or(a, b)
            }
        };
        memo.insert(id.number(), value);
        value
    }

    fn read(
        &mut self,
        env: &Env<'_>,
        demands: &Demands,
        id: ExprId,
        read: &Read,
        values: &[Option<ScalarId>],
        doubts: &mut Vec<Doubt>,
    ) -> Lowered<ScalarId> {
        let place = &env.ports[read.port as usize];
        let at = |id: ExprId| values[id.0 as usize].expect("invariant: operands precede users");
        let judged = self.judge(env, demands, id, read);
        let mut ok = self.bool(true);
        for (axis, judged) in judged.into_iter().enumerate() {
            self.assume(judged.assumed);
            let (index, extent) = (read.index[axis], place.shape[axis].clone());
            let (below, above) = match judged.plain {
                Verdict::Inside => continue,
                Verdict::Open { below, above } => (below, above),
                Verdict::Outside if read.otherwise.is_some() => {
                    return Ok(at(read.otherwise.expect("invariant: just seen")));
                }
                Verdict::Outside => (true, true),
            };
            let always = demands.of(id) == Demands::ALWAYS;
            let doubtful = read.otherwise.is_none() && !judged.demanded && !env.quiet;
            let settled = doubtful
                && ((always && self.settle_at_call(env, read, axis)?)
                    || self.settle_for_inputs(env, demands, id, read, axis)?);
            if settled && always {
                continue;
            }
            self.wraps |= !judged.bounded;
            let inside = self.inside(at(index), &extent, below, above);
            ok = self.and(ok, inside);
            if doubtful && !settled {
                let outside = self.not(inside);
                doubts.push(Doubt { read: id, axis, outside });
            }
        }
        let address = self.address(env, read, place, values)?;
        let zero = self.int(0);
        let address = self.select(ok, address, zero);
        let load = self.load(place.buffer, address);
        Ok(match read.otherwise {
            Some(otherwise) => self.select(ok, load, at(otherwise)),
            None => load,
        })
    }

    /// Has bounds checked at every call: none of them may wrap, nor come near it, so that two of them
    /// can be added.
    pub(super) fn assume(&mut self, bounds: impl IntoIterator<Item = Dim>) {
        let twice = |bound: Dim| bound.mul(&Dim::from(2)).unwrap_or(bound);
        let block = self.block.as_ref();
        // A formula that does not fit stays: nothing has its value, so no call passes the check.
        let whole = |bound: Dim| block.and_then(|block| block.most(&bound).ok()).unwrap_or(bound);
        self.shared.assumed.extend(bounds.into_iter().map(whole).map(twice));
    }

    pub(super) fn inside(&mut self, index: ScalarId, extent: &Dim, below: bool, above: bool) -> ScalarId {
        let mut ok = self.bool(true);
        if below {
            let zero = self.int(0);
            ok = self.binary(BinaryOp::Ge, index, zero);
        }
        if above {
            let extent = self.dim(extent);
            let fits = self.binary(BinaryOp::Lt, index, extent);
            ok = self.and(ok, fits);
        }
        ok
    }

    /// Where an element lies. Terms are added from the outermost loop inwards, so that what an
    /// inner loop does not change is a prefix of the sum.
    fn address(
        &mut self,
        env: &Env<'_>,
        read: &Read,
        place: &Place,
        values: &[Option<ScalarId>],
    ) -> Lowered<ScalarId> {
        let at = |id: ExprId| values[id.0 as usize].expect("invariant: operands precede users");
        let forms = read.index.iter().zip(&place.strides);
        let flat = forms
            .map(|(index, stride)| affine(env.exprs, *index)?.scale(stride))
            .try_fold(Affine::constant(Dim::ZERO), |sum, form| sum.add(&form?));
        let Some(mut flat) = flat else {
            let mut sum = place.offset;
            for (index, stride) in read.index.iter().zip(&place.strides) {
                sum = self.stepped(sum, at(*index), stride);
            }
            return Ok(sum);
        };
        let mut terms: Vec<(usize, ScalarId, Dim)> = Vec::new();
        for group in &env.groups {
            if let Some(step) = take_group(&mut flat, group, &env.extents) {
                terms.push((1 + depth(env, group.axes.start), group.value, step));
            }
        }
        for (leaf, coefficient) in &flat.terms {
            let (depth, value) = match leaf {
                Leaf::Var(var) => (0, self.positions[var].scalar),
                Leaf::Index(k) => (1 + depth(env, *k as usize), env.index[*k as usize]),
                Leaf::Opaque(id) => (usize::MAX, at(*id)),
            };
            terms.push((depth, value, coefficient.clone()));
        }
        terms.sort_by_key(|(depth, value, _)| (*depth, *value));
        let constant = self.dim(&flat.constant);
        let mut sum = self.add(place.offset, constant);
        for (_, value, coefficient) in terms {
            let coefficient = self.dim(&coefficient);
            let term = self.mul(value, coefficient);
            sum = self.add(sum, term);
        }
        Ok(sum)
    }

    /// Emits one check at the start of the function for an index that only sizes decide.
    /// Returns whether that settles it.
    fn settle_at_call(&mut self, env: &Env<'_>, read: &Read, axis: usize) -> Lowered<bool> {
        self.as_one_block(|cx| cx.settle_by_sizes(env, read, axis))
    }

    fn settle_by_sizes(&mut self, env: &Env<'_>, read: &Read, axis: usize) -> Lowered<bool> {
        if env.conditional || !env.known.is_empty() {
            return Ok(false);
        }
        let place = &env.ports[read.port as usize];
        let extent = &place.shape[axis];
        let Some(form) = affine(env.exprs, read.index[axis]) else { return Ok(false) };
        let range = self.bounds(env).ranges.of_affine(env.exprs, &form);
        let (Some(low), Some(high), true) = (range.low, range.high, form.is_transparent()) else {
            return Ok(false);
        };
        let around: Vec<Dim> =
            env.extents.iter().cloned().chain(self.positions.values().map(|p| p.extent.clone())).collect();
        let runs = self.none_empty(&around);
        let (least, greatest, zero, size) = (self.dim(&low), self.dim(&high), self.int(0), self.dim(extent));
        let below = self.binary(BinaryOp::Lt, least, zero);
        let above = self.binary(BinaryOp::Ge, greatest, size);
        let outside = self.or(below, above);
        let condition = self.and(runs, outside);
        if self.as_bool(condition) == Some(true) {
            let operand = place.name.as_deref().unwrap_or("a value").to_owned();
            let error = LowerError::OutOfRange { operand, axis, low, high, extent: extent.clone() };
            self.shared.errors.push(error.at(read.span));
            return Ok(true);
        }
        let site = self.outside_site(place, axis, read.span);
        let index = self.select(below, least, greatest);
        let check = Stmt::Fail { condition, site, values: vec![index, size] };
        push_fail(&mut self.prologue, check);
        Ok(true)
    }
}

fn depth(env: &Env<'_>, axis: usize) -> usize {
    env.order.iter().position(|k| *k == axis).unwrap_or(axis)
}

/// Takes the terms of a group out of a form if they are the digits of one number, and returns
/// what one step of it adds.
fn take_group(flat: &mut Affine, group: &Group, extents: &[Dim]) -> Option<Dim> {
    let last = group.axes.end.checked_sub(1)?;
    let step = flat.coefficient(Leaf::Index(last as u32));
    let mut expected = step.clone();
    for k in group.axes.clone().rev() {
        if flat.coefficient(Leaf::Index(k as u32)) != expected {
            return None;
        }
        expected = expected.mul(&extents[k]).ok()?;
    }
    for k in group.axes.clone() {
        flat.terms.remove(&Leaf::Index(k as u32));
    }
    (!step.is(0)).then_some(step)
}

/// Adds a check unless it can never fail or stands there already.
pub(super) fn push_fail(fails: &mut Vec<Stmt>, fail: Stmt) {
    let Stmt::Fail { condition, site, .. } = &fail else { return };
    let same = |other: &Stmt| match other {
        Stmt::Fail { condition: c, site: s, .. } => c == condition && s == site,
        _ => false,
    };
    if !fails.iter().any(same) {
        fails.push(fail);
    }
}
