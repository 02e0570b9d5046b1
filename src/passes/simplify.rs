//! Algebraic simplification of expressions, exact in every bit.
//!
//! Index arithmetic is brought to the canonical affine form of [`crate::graph::affine`], which is
//! what makes later recognition independent of how an author wrote it; comparisons, minima and
//! quotients that ranges decide disappear; literals fold. Floating-point rewrites are only those
//! that keep every result, signed zeros and NaN included.

use super::Changed;
use super::walk::for_each_graph;
use crate::dim::Dim;
use crate::dtype::DType;
use crate::graph::affine::{Affine, Interval, Ranges, affine, build, divide};
use crate::graph::expr::{Expr, ExprId, Exprs, Literal};
use crate::graph::ir::{Index, Op, Program, TensorType};
use crate::ops::scalar::{BinaryOp, UnaryOp};

/// Simplifies the expressions of every index op and epilogue.
pub fn simplify(program: &mut Program) -> Changed {
    let mut changed = Changed::No;
    for_each_graph(program, &mut |graph, vars| {
        for id in graph.topological() {
            let operands: Vec<TensorType> =
                graph.operands(id).into_iter().map(|v| graph.ty(v).clone()).collect();
            let Op::Index(index) = &mut graph.dag[id].op else { continue };
            let ranges = Ranges { indices: index.extents(), vars: vars.clone() };
            changed |= simplify_index(index, &ranges, &operands);
        }
    });
    changed
}

/// Simplifies one op in place.
pub fn simplify_index(index: &mut Index, ranges: &Ranges, operands: &[TensorType]) -> Changed {
    let before = index.exprs.clone();
    let roots = index.roots();
    let mut exprs = Exprs::new();
    let simplifier = Simplifier { ranges, operands };
    let moved = exprs.map(&before, &roots, &mut |out, expr, dtype| simplifier.add(out, expr, dtype));
    // Rewriting leaves unused operands behind; a plain copy drops them.
    let mut kept = Exprs::new();
    let moved = kept.import(&exprs, &moved, &mut |_, _, _| None);
    index.set_roots(kept, &moved);
    drop_decided(index);
    Changed::from(index.exprs != before)
}

/// Removes guards and filters that always hold.
fn drop_decided(index: &mut Index) {
    let holds = |exprs: &Exprs, id: ExprId| literal(exprs, id) == Some(Literal::Bool(true));
    if index.guard.is_some_and(|g| holds(&index.exprs, g)) {
        index.guard = None;
    }
    if let Some(reduce) = &mut index.reduce
        && reduce.filter.is_some_and(|f| holds(&index.exprs, f))
    {
        reduce.filter = None;
    }
}

struct Simplifier<'a> {
    ranges: &'a Ranges,
    operands: &'a [TensorType],
}

fn literal(exprs: &Exprs, id: ExprId) -> Option<Literal> {
    match exprs.get(id) {
        Expr::Const(literal) => Some(*literal),
        _ => None,
    }
}

fn real(exprs: &Exprs, id: ExprId) -> Option<f64> {
    match literal(exprs, id) {
        Some(Literal::Real(bits)) => Some(f64::from_bits(bits)),
        _ => None,
    }
}

impl Simplifier<'_> {
    /// Adds an expression whose operands are simplified.
    fn add(&self, out: &mut Exprs, expr: Expr, dtype: DType) -> ExprId {
        let simpler = match &expr {
            Expr::Index(k) => self.lone_point(out, *k),
            Expr::Dim(dim) => dim.as_const().map(|value| out.int(value)),
            Expr::Read(read) => self.read(out, read),
            Expr::Unary(op, a) => unary(out, *op, *a),
            Expr::Binary(op, a, b) if out.dtype(*a) == DType::I64 => self.integer(out, *op, *a, *b),
            Expr::Binary(op, a, b) if out.dtype(*a) == DType::Bool => boolean(out, *op, *a, *b),
            Expr::Binary(op, a, b) => float(out, *op, *a, *b),
            Expr::Select(c, a, b) => select(out, *c, *a, *b).or_else(|| self.guarded_read(out, *c, *a, *b)),
            Expr::Cast(a) => cast(out, *a, dtype),
            Expr::Const(_) | Expr::Var(_) => None,
        };
        simpler.unwrap_or_else(|| out.add(expr, dtype))
    }

    /// The index of an axis of one point is 0.
    fn lone_point(&self, out: &mut Exprs, k: u32) -> Option<ExprId> {
        self.ranges.indices.get(k as usize)?.is(1).then(|| out.int(0))
    }

    /// Decides reads whose index is certainly inside or certainly outside.
    fn read(&self, out: &mut Exprs, read: &crate::graph::expr::Read) -> Option<ExprId> {
        let otherwise = read.otherwise?;
        let shape = &self.operands.get(read.port as usize)?.shape;
        let bounds: Vec<Interval> = read.index.iter().map(|i| self.ranges.of(out, *i)).collect();
        if bounds.iter().zip(shape).all(|(b, extent)| b.is_within(extent)) {
            let dtype = out.dtype(otherwise);
            let mut inside = read.clone();
            inside.otherwise = None;
            return Some(out.add(Expr::Read(inside), dtype));
        }
        let outside = |(b, extent): (&Interval, &Dim)| {
            let negative = b.high.as_ref().and_then(|h| h.range().1).is_some_and(|h| h < 0);
            let beyond = b.low.as_ref().and_then(|l| l.sub(extent).ok()).is_some_and(|d| d.is_non_negative());
            negative || beyond
        };
        bounds.iter().zip(shape).any(outside).then_some(otherwise)
    }

    /// `if <the index is inside> { x[..] } else { 0 }` is `x[.. else 0]`: where the condition says of no
    /// more than that read, and of all that is not known anyway, and the index reads nothing itself, which
    /// would no longer stand under the condition.
    fn guarded_read(
        &self,
        out: &mut Exprs,
        condition: ExprId,
        then: ExprId,
        otherwise: ExprId,
    ) -> Option<ExprId> {
        let Expr::Read(read) = out.get(then) else { return None };
        literal(out, otherwise)?;
        let reads = out.contain(&read.index, |expr| matches!(expr, Expr::Read(_)));
        if read.otherwise.is_some() || reads {
            return None;
        }
        let mut read = read.clone();
        let shape = &self.operands.get(read.port as usize)?.shape;
        // What is at least 0 where the read is inside, and whether that is known.
        let mut bounds = Vec::with_capacity(2 * shape.len());
        for (index, extent) in read.index.iter().zip(shape) {
            let form = affine(out, *index)?;
            let range = self.ranges.of_affine(out, &form);
            let (low, high) = (range.low?, range.high?);
            let last = extent.sub(&Dim::ONE).ok()?;
            let room = last.sub(&high).ok()?;
            bounds.push((form.clone(), low.is_non_negative()));
            let to_last = form.scale(&Dim::from(-1))?.add(&Affine::constant(last))?;
            bounds.push((to_last, room.is_non_negative()));
        }
        for fact in self.conditions(out, condition)? {
            bounds.iter_mut().find(|(bound, _)| *bound == fact)?.1 = true;
        }
        read.otherwise = Some(otherwise);
        let dtype = out.dtype(then);
        bounds.iter().all(|(_, known)| *known).then(|| out.add(Expr::Read(read), dtype))
    }

    /// Comparisons whose conjunction a condition is, as what is at least 0; none of it wraps.
    fn conditions(&self, out: &Exprs, condition: ExprId) -> Option<Vec<Affine>> {
        let (mut pending, mut found) = (vec![condition], Vec::new());
        while let Some(id) = pending.pop() {
            let Expr::Binary(op, a, b) = out.get(id) else { return None };
            if *op == BinaryOp::And {
                pending.extend([*a, *b]);
                continue;
            }
            let (a, b) = (affine(out, *a)?, affine(out, *b)?);
            let bounded = |form: &Affine| {
                let range = self.ranges.of_affine(out, form);
                range.low.is_some() && range.high.is_some()
            };
            if !bounded(&a) || !bounded(&b) {
                return None;
            }
            let minus = |x: &Affine, y: &Affine, less: i64| {
                x.add(&y.scale(&Dim::from(-1))?)?.add(&Affine::constant(Dim::from(-less)))
            };
            found.push(match op {
                BinaryOp::Ge => minus(&a, &b, 0),
                BinaryOp::Gt => minus(&a, &b, 1),
                BinaryOp::Le => minus(&b, &a, 0),
                BinaryOp::Lt => minus(&b, &a, 1),
                _ => None,
            }?);
        }
        Some(found)
    }

    fn integer(&self, out: &mut Exprs, op: BinaryOp, a: ExprId, b: ExprId) -> Option<ExprId> {
        let (left, right) = (affine(out, a)?, affine(out, b)?);
        let difference = || right.add(&left.scale(&Dim::from(-1))?);
        match op {
            BinaryOp::Add | BinaryOp::Sub | BinaryOp::Mul => {
                let whole = match op {
                    BinaryOp::Add => left.add(&right),
                    BinaryOp::Sub => left.add(&right.scale(&Dim::from(-1))?),
                    _ if right.terms.is_empty() => left.scale(&right.constant),
                    _ if left.terms.is_empty() => right.scale(&left.constant),
                    _ => None,
                }?;
                Some(build(out, &whole))
            }
            BinaryOp::FloorDiv | BinaryOp::Mod => self.quotient(out, op, &left, &right),
            BinaryOp::Min | BinaryOp::Max => {
                let sign = self.sign(out, &difference()?)?;
                let first = (sign >= Sign::Zero) == (op == BinaryOp::Min);
                Some(if first { a } else { b })
            }
            _ if op.is_comparison() => {
                let answer = compare(op, self.range_of(out, &difference()?))?;
                Some(out.bool(answer))
            }
            _ => None,
        }
    }

    fn quotient(&self, out: &mut Exprs, op: BinaryOp, a: &Affine, b: &Affine) -> Option<ExprId> {
        if !b.terms.is_empty() {
            return None;
        }
        if a.terms.is_empty() {
            let whole = match op {
                BinaryOp::FloorDiv => a.constant.floor_div(&b.constant),
                _ => a.constant.modulo(&b.constant),
            };
            return Some(out.dim(&whole.ok()?));
        }
        let (quotient, rest) = divide(out, self.ranges, a, &b.constant)?;
        Some(build(out, if op == BinaryOp::FloorDiv { &quotient } else { &rest }))
    }

    fn range_of(&self, out: &Exprs, form: &Affine) -> (Option<i64>, Option<i64>) {
        let range = self.ranges.of_affine(out, form);
        (range.low.and_then(|d| d.range().0), range.high.and_then(|d| d.range().1))
    }

    fn sign(&self, out: &Exprs, form: &Affine) -> Option<Sign> {
        match self.range_of(out, form) {
            (Some(low), _) if low >= 0 => Some(Sign::Zero),
            (_, Some(high)) if high <= 0 => Some(Sign::Negative),
            _ => None,
        }
    }
}

/// Whether a difference is never negative, or never positive.
#[derive(PartialEq, PartialOrd)]
enum Sign {
    Negative,
    Zero,
}

/// Decides `a op b` from the bounds of `b - a`.
fn compare(op: BinaryOp, (low, high): (Option<i64>, Option<i64>)) -> Option<bool> {
    let at_least = |v: i64| low.is_some_and(|l| l >= v);
    let at_most = |v: i64| high.is_some_and(|h| h <= v);
    let decide = |yes: bool, no: bool| if yes { Some(true) } else { no.then_some(false) };
    match op {
        BinaryOp::Lt => decide(at_least(1), at_most(0)),
        BinaryOp::Le => decide(at_least(0), at_most(-1)),
        BinaryOp::Gt => decide(at_most(-1), at_least(0)),
        BinaryOp::Ge => decide(at_most(0), at_least(1)),
        BinaryOp::Eq => decide(at_least(0) && at_most(0), at_least(1) || at_most(-1)),
        BinaryOp::Ne => decide(at_least(1) || at_most(-1), at_least(0) && at_most(0)),
        _ => None,
    }
}

fn unary(out: &mut Exprs, op: UnaryOp, a: ExprId) -> Option<ExprId> {
    if let Expr::Unary(inner, x) = out.get(a)
        && *inner == op
        && matches!(op, UnaryOp::Neg | UnaryOp::Not)
    {
        return Some(*x);
    }
    if out.dtype(a) == DType::I64 && op == UnaryOp::Neg {
        let form = affine(out, a)?.scale(&Dim::from(-1))?;
        return Some(build(out, &form));
    }
    if let (UnaryOp::Not, Some(Literal::Bool(value))) = (op, literal(out, a)) {
        return Some(out.bool(!value));
    }
    let (value, dtype) = (real(out, a)?, out.dtype(a));
    // These are exact or correctly rounded in either type, so the order of folding cannot show.
    let folded = match op {
        UnaryOp::Neg => -value,
        UnaryOp::Abs => value.abs(),
        UnaryOp::Sqrt => value.sqrt(),
        UnaryOp::Floor => value.floor(),
        UnaryOp::Ceil => value.ceil(),
        UnaryOp::Trunc => value.trunc(),
        _ => return None,
    };
    Some(out.real(folded, dtype))
}

fn boolean(out: &mut Exprs, op: BinaryOp, a: ExprId, b: ExprId) -> Option<ExprId> {
    let fold = |known: bool, other: ExprId, out: &mut Exprs| match op {
        BinaryOp::And => Some(if known { other } else { out.bool(false) }),
        BinaryOp::Or => Some(if known { out.bool(true) } else { other }),
        _ => None,
    };
    match (literal(out, a), literal(out, b)) {
        (Some(Literal::Bool(known)), _) => fold(known, b, out),
        (_, Some(Literal::Bool(known))) => fold(known, a, out),
        _ if a == b && matches!(op, BinaryOp::And | BinaryOp::Or) => Some(a),
        _ => None,
    }
}

fn float(out: &mut Exprs, op: BinaryOp, a: ExprId, b: ExprId) -> Option<ExprId> {
    let dtype = out.dtype(a);
    if !matches!(dtype, DType::F32 | DType::F64) {
        return None;
    }
    if let (Some(x), Some(y)) = (real(out, a), real(out, b)) {
        // An f32 result by way of f64 is rounded right for these four operations.
        let folded = match op {
            BinaryOp::Add => x + y,
            BinaryOp::Sub => x - y,
            BinaryOp::Mul => x * y,
            BinaryOp::Div => x / y,
            _ => return None,
        };
        return Some(out.real(folded, dtype));
    }
    let is =
        |value: f64, id: ExprId, out: &Exprs| real(out, id).is_some_and(|x| x.to_bits() == value.to_bits());
    match op {
        BinaryOp::Mul if is(1.0, b, out) => Some(a),
        BinaryOp::Mul if is(1.0, a, out) => Some(b),
        BinaryOp::Div if is(1.0, b, out) => Some(a),
        BinaryOp::Sub if is(0.0, b, out) => Some(a),
        BinaryOp::Add if is(-0.0, b, out) => Some(a),
        BinaryOp::Pow if is(1.0, b, out) => Some(a),
        BinaryOp::Pow if is(2.0, b, out) => Some(out.binary(BinaryOp::Mul, a, a)),
        BinaryOp::Div => {
            let by = reciprocal(real(out, b)?, dtype)?;
            let by = out.real(by, dtype);
            Some(out.binary(BinaryOp::Mul, a, by))
        }
        _ => None,
    }
}

/// `1 / value` where multiplying by it is the same as dividing by `value`: powers of two whose
/// reciprocal is a normal number.
fn reciprocal(value: f64, dtype: DType) -> Option<f64> {
    let inverse = 1.0 / value;
    let (mantissa, normal) = match dtype {
        DType::F32 => (value.to_bits() << 12, (inverse as f32).is_normal() && (value as f32).is_normal()),
        _ => (value.to_bits() << 12, inverse.is_normal() && value.is_normal()),
    };
    (mantissa == 0 && normal).then_some(inverse)
}

fn select(out: &mut Exprs, condition: ExprId, then: ExprId, otherwise: ExprId) -> Option<ExprId> {
    if then == otherwise {
        return Some(then);
    }
    if let Some(Literal::Bool(known)) = literal(out, condition) {
        return Some(if known { then } else { otherwise });
    }
    if let Expr::Unary(UnaryOp::Not, inner) = out.get(condition) {
        let inner = *inner;
        return Some(out.select(inner, otherwise, then));
    }
    match (literal(out, then), literal(out, otherwise)) {
        (Some(Literal::Bool(true)), Some(Literal::Bool(false))) => Some(condition),
        _ => None,
    }
}

fn cast(out: &mut Exprs, a: ExprId, dtype: DType) -> Option<ExprId> {
    if out.dtype(a) == dtype {
        return Some(a);
    }
    match (literal(out, a)?, dtype) {
        (Literal::Real(bits), DType::F32 | DType::F64) => Some(out.real(f64::from_bits(bits), dtype)),
        (Literal::Int(value), DType::F64) => Some(out.real(value as f64, dtype)),
        (Literal::Int(value), DType::F32) => Some(out.real(f64::from(value as f32), dtype)),
        (Literal::Bool(value), DType::F32 | DType::F64) => {
            Some(out.real(if value { 1.0 } else { 0.0 }, dtype))
        }
        (Literal::Bool(value), DType::I64) => Some(out.int(i64::from(value))),
        _ => None,
    }
}
