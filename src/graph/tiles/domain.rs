//! One pass of bounds over the steps of a condition, for numbers and for expressions alike.
//!
//! Takes steps and a [`Domain`] that says what a bound is; gives bounds of the value. The rules are
//! here, once: what is proven for a tile at compile time is what generated code tests.

use super::steps::{Step, Steps, Sum, Term};
use crate::dim::Dim;
use crate::dtype::DType;
use crate::graph::expr::{ExprId, Read, VarId};
use crate::ops::scalar::BinaryOp;

/// What bounds are made of. Operations give `None` where the result cannot be held: it is then no bound.
pub(super) trait Domain: Sized {
    /// An integer.
    type Int: Clone;
    /// A truth value.
    type Truth: Clone;

    /// The value of a whole expression, where it does not change within the tile.
    fn fixed(&mut self, _expr: ExprId, _depends: u64) -> Option<Known<Self>> {
        None
    }
    fn index(&mut self, k: u32) -> Ends<Self>;
    fn var(&mut self, var: VarId) -> Ends<Self>;
    fn dim(&mut self, dim: &Dim) -> Option<Self::Int>;
    /// What a read gives where its position is inside, and whether it is, if that is known.
    fn read(&mut self, read: &Read, index: &[Ends<Self>], dtype: DType) -> (Known<Self>, Option<bool>);

    fn int(&mut self, value: i64) -> Self::Int;
    /// `+ - * // min max`.
    fn binary(&mut self, op: BinaryOp, a: &Self::Int, b: &Self::Int) -> Option<Self::Int>;
    fn choose(&mut self, condition: &Self::Truth, then: &Self::Int, otherwise: &Self::Int) -> Self::Int;
    /// The divisor, or something that can be divided by where it is zero: there the condition itself has
    /// no value.
    fn non_zero(&mut self, divisor: &Self::Int) -> Option<Self::Int>;

    fn at_most(&mut self, a: &Self::Int, b: &Self::Int) -> Self::Truth;
    fn truth(&mut self, value: bool) -> Self::Truth;
    fn and(&mut self, a: &Self::Truth, b: &Self::Truth) -> Self::Truth;
    fn or(&mut self, a: &Self::Truth, b: &Self::Truth) -> Self::Truth;
    fn not(&mut self, a: &Self::Truth) -> Self::Truth;

    /// A truth value that is known now.
    fn decided(&self, truth: &Self::Truth) -> Option<bool>;
    /// Whether two integers are known now to be equal.
    fn same(&self, a: &Self::Int, b: &Self::Int) -> bool;
    /// The sign, where it is known now.
    fn is_non_negative(&self, value: &Self::Int) -> Option<bool>;
}

/// Bounds of a value.
pub(super) enum Known<D: Domain> {
    /// Inclusive; `None` is no bound.
    Int { low: Option<D::Int>, high: Option<D::Int> },
    /// Whether it is true at all points, and whether it may be true at one.
    Truth { must: D::Truth, may: D::Truth },
}

impl<D: Domain> Clone for Known<D> {
    fn clone(&self) -> Self {
        match self {
            Known::Int { low, high } => Known::Int { low: low.clone(), high: high.clone() },
            Known::Truth { must, may } => Known::Truth { must: must.clone(), may: may.clone() },
        }
    }
}

/// Inclusive bounds.
pub(super) type Ends<D> = (Option<<D as Domain>::Int>, Option<<D as Domain>::Int>);

/// Bounds of the last step.
pub(super) fn evaluate<D: Domain>(steps: &Steps, domain: &mut D) -> Known<D> {
    let mut pass = Pass { domain, known: Vec::new() };
    for placed in steps.iter() {
        let value = match pass.domain.fixed(placed.expr, placed.depends) {
            Some(value) => value,
            None => pass.step(&placed.step),
        };
        pass.known.push(value);
    }
    pass.known.pop().unwrap_or(Known::Int { low: None, high: None })
}

struct Pass<'a, D: Domain> {
    domain: &'a mut D,
    known: Vec<Known<D>>,
}

impl<D: Domain> Pass<'_, D> {
    fn step(&mut self, step: &Step) -> Known<D> {
        match step {
            Step::Truth(value) => {
                Known::Truth { must: self.domain.truth(*value), may: self.domain.truth(*value) }
            }
            Step::Sum(sum) => ints(self.sum(sum)),
            Step::Compare(op, sum) => {
                let difference = self.sum(sum);
                self.compare(*op, &difference)
            }
            Step::Abs(a) => {
                let a = self.ends(*a);
                ints(self.absolute(&a))
            }
            Step::Binary(op, a, b) => {
                let (a, b) = (self.ends(*a), self.ends(*b));
                ints(match op {
                    BinaryOp::Mul => self.product(&a, &b),
                    BinaryOp::FloorDiv => self.quotient(&a, &b),
                    BinaryOp::Mod => self.remainder(&a, &b),
                    _ => self.extremum(*op, &a, &b),
                })
            }
            Step::Logic(op, a, b) => {
                let (a, b) = (self.truths(*a), self.truths(*b));
                let is_and = *op == BinaryOp::And;
                let each = |d: &mut D, x, y| if is_and { d.and(x, y) } else { d.or(x, y) };
                let must = each(self.domain, &a.0, &b.0);
                Known::Truth { must, may: each(self.domain, &a.1, &b.1) }
            }
            Step::Not(a) => {
                let a = self.truths(*a);
                self.negated(&a)
            }
            Step::Same(op, a, b) => {
                let equal = self.equal(*a, *b);
                if *op == BinaryOp::Ne { self.negated(&equal) } else { truths(equal) }
            }
            Step::Select(c, a, b) => self.select(*c, *a, *b),
            Step::FromTruth(a) => {
                let (must, may) = self.truths(*a);
                let (zero, one) = (self.domain.int(0), self.domain.int(1));
                let low = self.domain.choose(&must, &one, &zero);
                ints((Some(low), Some(self.domain.choose(&may, &one, &zero))))
            }
            Step::NonZero(a) => {
                let a = self.ends(*a);
                self.compare(BinaryOp::Ne, &a)
            }
            Step::Read { read, index, otherwise, dtype } => {
                let index: Vec<Ends<D>> = index.iter().map(|at| self.ends(*at)).collect();
                let (value, is_inside) = self.domain.read(read, &index, *dtype);
                match (otherwise, is_inside) {
                    (None, _) | (_, Some(true)) => value,
                    (Some(otherwise), Some(false)) => self.known[*otherwise].clone(),
                    (Some(otherwise), None) => {
                        let otherwise = self.known[*otherwise].clone();
                        self.hull(value, otherwise)
                    }
                }
            }
            Step::Unknown(DType::Bool) => {
                Known::Truth { must: self.domain.truth(false), may: self.domain.truth(true) }
            }
            Step::Unknown(_) => Known::Int { low: None, high: None },
        }
    }

    fn ends(&self, at: usize) -> Ends<D> {
        match &self.known[at] {
            Known::Int { low, high } => (low.clone(), high.clone()),
            Known::Truth { .. } => (None, None),
        }
    }

    /// Whether it must be true, and whether it may be.
    fn truths(&mut self, at: usize) -> (D::Truth, D::Truth) {
        match &self.known[at] {
            Known::Truth { must, may } => (must.clone(), may.clone()),
            Known::Int { .. } => (self.domain.truth(false), self.domain.truth(true)),
        }
    }

    fn negated(&mut self, (must, may): &(D::Truth, D::Truth)) -> Known<D> {
        Known::Truth { must: self.domain.not(may), may: self.domain.not(must) }
    }

    /// `a` and `x`, or `b` and `y`.
    fn either(&mut self, (a, x): (&D::Truth, &D::Truth), (b, y): (&D::Truth, &D::Truth)) -> D::Truth {
        let first = self.domain.and(a, x);
        let second = self.domain.and(b, y);
        self.domain.or(&first, &second)
    }

    fn equal(&mut self, a: usize, b: usize) -> (D::Truth, D::Truth) {
        let (a, b) = (self.truths(a), self.truths(b));
        let not = |d: &mut D, pair: &(D::Truth, D::Truth)| (d.not(&pair.1), d.not(&pair.0));
        let (not_a, not_b) = (not(self.domain, &a), not(self.domain, &b));
        let must = self.either((&a.0, &b.0), (&not_a.0, &not_b.0));
        (must, self.either((&a.1, &b.1), (&not_a.1, &not_b.1)))
    }

    fn select(&mut self, c: usize, a: usize, b: usize) -> Known<D> {
        let (must, may) = self.truths(c);
        match (self.domain.decided(&must), self.domain.decided(&may)) {
            (Some(true), _) => return self.known[a].clone(),
            (_, Some(false)) => return self.known[b].clone(),
            _ => {}
        }
        if let Known::Truth { .. } = &self.known[a] {
            let (a, b) = (self.truths(a), self.truths(b));
            let (must_not, may_not) = (self.domain.not(&may), self.domain.not(&must));
            let decided = self.either((&must, &a.0), (&must_not, &b.0));
            let both = self.domain.and(&a.0, &b.0);
            let all = self.domain.or(&decided, &both);
            return Known::Truth { must: all, may: self.either((&may, &a.1), (&may_not, &b.1)) };
        }
        let (a, b) = (self.ends(a), self.ends(b));
        let low = self.chosen(BinaryOp::Min, (&must, &may), &a.0, &b.0);
        ints((low, self.chosen(BinaryOp::Max, (&must, &may), &a.1, &b.1)))
    }

    /// The first where the condition must hold, the second where it cannot, else the outer one.
    fn chosen(
        &mut self,
        outer: BinaryOp,
        (must, may): (&D::Truth, &D::Truth),
        a: &Option<D::Int>,
        b: &Option<D::Int>,
    ) -> Option<D::Int> {
        let (a, b) = (a.as_ref()?, b.as_ref()?);
        let both = self.domain.binary(outer, a, b)?;
        let open = self.domain.choose(may, &both, b);
        Some(self.domain.choose(must, a, &open))
    }

    /// Bounds of a value that is one or the other.
    fn hull(&mut self, a: Known<D>, b: Known<D>) -> Known<D> {
        match (a, b) {
            (Known::Truth { must: a, may: x }, Known::Truth { must: b, may: y }) => {
                Known::Truth { must: self.domain.and(&a, &b), may: self.domain.or(&x, &y) }
            }
            (Known::Int { low: a, high: x }, Known::Int { low: b, high: y }) => {
                ints((self.op(BinaryOp::Min, &a, &b), self.op(BinaryOp::Max, &x, &y)))
            }
            (other, _) => other,
        }
    }

    fn op(&mut self, op: BinaryOp, a: &Option<D::Int>, b: &Option<D::Int>) -> Option<D::Int> {
        self.domain.binary(op, a.as_ref()?, b.as_ref()?)
    }

    fn sum(&mut self, sum: &Sum) -> Ends<D> {
        let constant = self.domain.dim(&sum.constant);
        let mut total = (constant.clone(), constant);
        for (term, coefficient) in &sum.terms {
            let leaf = match term {
                Term::Index(k) => self.domain.index(*k),
                Term::Var(var) => self.domain.var(*var),
                Term::Step(at) => self.ends(*at),
            };
            let term = if coefficient.is(1) {
                leaf
            } else {
                let factor = self.domain.dim(coefficient);
                self.product(&leaf, &(factor.clone(), factor))
            };
            let low = self.op(BinaryOp::Add, &total.0, &term.0);
            total = (low, self.op(BinaryOp::Add, &total.1, &term.1));
        }
        total
    }

    /// Whether all values are at most a constant, and whether one may be.
    fn at_most(&mut self, ends: &Ends<D>, bound: i64) -> (D::Truth, D::Truth) {
        let bound = self.domain.int(bound);
        let must = match &ends.1 {
            Some(high) => self.domain.at_most(high, &bound),
            None => self.domain.truth(false),
        };
        let may = match &ends.0 {
            Some(low) => self.domain.at_most(low, &bound),
            None => self.domain.truth(true),
        };
        (must, may)
    }

    /// `op` of a value and zero.
    fn compare(&mut self, op: BinaryOp, ends: &Ends<D>) -> Known<D> {
        match op {
            BinaryOp::Le => truths(self.at_most(ends, 0)),
            BinaryOp::Lt => truths(self.at_most(ends, -1)),
            BinaryOp::Gt => {
                let opposite = self.at_most(ends, 0);
                self.negated(&opposite)
            }
            BinaryOp::Ge => {
                let opposite = self.at_most(ends, -1);
                self.negated(&opposite)
            }
            _ => {
                let (not_above, below) = (self.at_most(ends, 0), self.at_most(ends, -1));
                let not_below = (self.domain.not(&below.1), self.domain.not(&below.0));
                let must = self.domain.and(&not_above.0, &not_below.0);
                let equal = (must, self.domain.and(&not_above.1, &not_below.1));
                if op == BinaryOp::Ne { self.negated(&equal) } else { truths(equal) }
            }
        }
    }

    fn absolute(&mut self, (low, high): &Ends<D>) -> Ends<D> {
        let zero = Some(self.domain.int(0));
        let minus_low = self.op(BinaryOp::Sub, &zero, low);
        let minus_high = self.op(BinaryOp::Sub, &zero, high);
        // The distance from zero, on whichever side the values lie.
        let away = self.any_side(BinaryOp::Max, low, &minus_high);
        let least = self.any_side(BinaryOp::Max, &away, &zero);
        (least, self.op(BinaryOp::Max, high, &minus_low))
    }

    fn extremum(&mut self, op: BinaryOp, a: &Ends<D>, b: &Ends<D>) -> Ends<D> {
        if op == BinaryOp::Min {
            (self.op(op, &a.0, &b.0), self.any_side(op, &a.1, &b.1))
        } else {
            (self.any_side(op, &a.0, &b.0), self.op(op, &a.1, &b.1))
        }
    }

    /// Of two bounds that both hold, or of the one that there is.
    fn any_side(&mut self, op: BinaryOp, a: &Option<D::Int>, b: &Option<D::Int>) -> Option<D::Int> {
        match (a, b) {
            (Some(a), Some(b)) => self.domain.binary(op, a, b),
            (a, b) => a.clone().or(b.clone()),
        }
    }

    fn product(&mut self, a: &Ends<D>, b: &Ends<D>) -> Ends<D> {
        // A factor that is not negative orders the products.
        for (x, y) in [(a, b), (b, a)] {
            if self.sign(&y.0) == Some(true) {
                return (self.scaled(&x.0, y, BinaryOp::Min), self.scaled(&x.1, y, BinaryOp::Max));
            }
        }
        let corners = [(&a.0, &b.0), (&a.0, &b.1), (&a.1, &b.0), (&a.1, &b.1)];
        let [first, rest @ ..] = corners.map(|(x, y)| self.op(BinaryOp::Mul, x, y));
        let low = rest.iter().fold(first.clone(), |sum, corner| self.op(BinaryOp::Min, &sum, corner));
        (low, rest.iter().fold(first, |sum, corner| self.op(BinaryOp::Max, &sum, corner)))
    }

    /// The outer product of a bound with a factor that is not negative.
    fn scaled(&mut self, x: &Option<D::Int>, by: &Ends<D>, outer: BinaryOp) -> Option<D::Int> {
        if self.is_single(by) {
            return self.op(BinaryOp::Mul, x, &by.0);
        }
        match self.sign(x) {
            // Outwards is away from zero on the side of the bound.
            Some(is_positive) if is_positive == (outer == BinaryOp::Max) => self.op(BinaryOp::Mul, x, &by.1),
            Some(_) => self.op(BinaryOp::Mul, x, &by.0),
            None => {
                let (a, b) = (self.op(BinaryOp::Mul, x, &by.0), self.op(BinaryOp::Mul, x, &by.1));
                self.op(outer, &a, &b)
            }
        }
    }

    fn quotient(&mut self, a: &Ends<D>, by: &Ends<D>) -> Ends<D> {
        let is_positive = self.sign(&by.0) == Some(true);
        let divisor = |d: &mut D, v: &Option<D::Int>| v.as_ref().and_then(|v| d.non_zero(v));
        let least = divisor(self.domain, &by.0);
        match (self.is_single(by), is_positive) {
            (true, true) => {
                (self.op(BinaryOp::FloorDiv, &a.0, &least), self.op(BinaryOp::FloorDiv, &a.1, &least))
            }
            (true, false) => {
                let x = self.op(BinaryOp::FloorDiv, &a.0, &least);
                let y = self.op(BinaryOp::FloorDiv, &a.1, &least);
                (self.op(BinaryOp::Min, &x, &y), self.op(BinaryOp::Max, &x, &y))
            }
            (false, true) => {
                let greatest = divisor(self.domain, &by.1);
                let mut outer = |op, bound: &Option<D::Int>| {
                    let x = self.op(BinaryOp::FloorDiv, bound, &least);
                    let y = self.op(BinaryOp::FloorDiv, bound, &greatest);
                    self.op(op, &x, &y)
                };
                (outer(BinaryOp::Min, &a.0), outer(BinaryOp::Max, &a.1))
            }
            (false, false) => (None, None),
        }
    }

    /// Values with one quotient keep their order in the remainder; others may have any remainder.
    fn remainder(&mut self, a: &Ends<D>, by: &Ends<D>) -> Ends<D> {
        let (zero, one) = (Some(self.domain.int(0)), Some(self.domain.int(1)));
        let sign = self.sign(&by.0);
        let below = self.op(BinaryOp::Sub, &by.1, &one);
        let all = match sign {
            Some(true) => (zero, below),
            _ if self.is_single(by) => {
                let above = self.op(BinaryOp::Add, &by.0, &one);
                (self.op(BinaryOp::Min, &zero, &above), self.op(BinaryOp::Max, &zero, &below))
            }
            _ => (None, None),
        };
        let (Some(divisor), true) = (&by.0, self.is_single(by)) else { return all };
        let Some(divisor) = self.domain.non_zero(divisor) else { return (None, None) };
        let divisor = Some(divisor);
        let first = self.op(BinaryOp::FloorDiv, &a.0, &divisor);
        let last = self.op(BinaryOp::FloorDiv, &a.1, &divisor);
        let start = self.op(BinaryOp::Mul, &first, &divisor);
        let low = self.op(BinaryOp::Sub, &a.0, &start);
        let high = self.op(BinaryOp::Sub, &a.1, &start);
        let (Some(first), Some(last), Some(low), Some(high)) = (first, last, low, high) else { return all };
        // The divisor may be negative: then the quotients run the other way.
        let (up, down) = (self.domain.at_most(&last, &first), self.domain.at_most(&first, &last));
        let is_one = self.domain.and(&up, &down);
        let mut either = |inner: D::Int, outer: Option<D::Int>| match (self.domain.decided(&is_one), outer) {
            (Some(true), _) => Some(inner),
            (_, Some(outer)) => Some(self.domain.choose(&is_one, &inner, &outer)),
            (_, None) => None,
        };
        (either(low, all.0), either(high, all.1))
    }

    fn sign(&self, value: &Option<D::Int>) -> Option<bool> {
        value.as_ref().and_then(|value| self.domain.is_non_negative(value))
    }

    /// Whether both bounds are one and the same.
    fn is_single(&self, ends: &Ends<D>) -> bool {
        matches!(ends, (Some(low), Some(high)) if self.domain.same(low, high))
    }
}

fn ints<D: Domain>((low, high): Ends<D>) -> Known<D> {
    Known::Int { low, high }
}

fn truths<D: Domain>((must, may): (D::Truth, D::Truth)) -> Known<D> {
    Known::Truth { must, may }
}
