//! Operators on values: static arithmetic where both sides are known, elementwise nodes else.

use super::Elaborator;
use super::build::{Emission, Reduction};
use super::errors::{Eval, Reported};
use super::scalar::{IndexVar, Scalar, compare_dims};
use super::value::{PatternValue, TensorValue, Value};
use crate::dim::{Dim, Truth};
use crate::dtype::DType;
use crate::ops::reduce::Reducer;
use crate::ops::scalar::{BinaryOp, UnaryOp};
use crate::span::Span;
use crate::syntax::ast;
use std::sync::Arc;

/// Largest exponent that is written out as products.
const MAX_UNROLLED_POWER: i64 = 64;

impl Elaborator<'_> {
    /// `left op right`, both evaluated.
    ///
    /// # Errors
    /// Kinds, types and shapes that do not go together.
    pub fn binary(&mut self, op: ast::BinaryOp, left: &Value, right: &Value, span: Span) -> Eval<Value> {
        use ast::BinaryOp as Op;
        if matches!(left, Value::Poison) || matches!(right, Value::Poison) {
            return Err(Reported);
        }
        match op {
            Op::Concat => return self.join(left, right, span),
            Op::MatMul => {
                let (a, b) = (self.as_tensor(left, span)?, self.as_tensor(right, span)?);
                return self.matmul(&a, &b, span).map(Value::Tensor);
            }
            Op::And | Op::Or => return self.logical(op == Op::And, left, right, span),
            Op::Eq | Op::Ne => {
                self.refuse_bulk(left, span)?;
                if let Some(equal) = static_equal(left, right) {
                    return Ok(Value::Bool(equal == (op == Op::Eq)));
                }
            }
            _ => {}
        }
        match (left, right) {
            (Value::Int(a), Value::Int(b)) => self.int_binary(op, a, b, span),
            (Value::Int(_) | Value::Float(_), Value::Int(_) | Value::Float(_)) => {
                match (known_real(left), known_real(right)) {
                    (Some(a), Some(b)) => self.real_binary(op, a, b, span),
                    _ => self.tensor_binary(op, left, right, span),
                }
            }
            _ => self.tensor_binary(op, left, right, span),
        }
    }

    fn int_binary(&mut self, op: ast::BinaryOp, a: &Dim, b: &Dim, span: Span) -> Eval<Value> {
        use ast::BinaryOp as Op;
        let dim = match op {
            Op::Add => a.add(b),
            Op::Sub => a.sub(b),
            Op::Mul => a.mul(b),
            Op::FloorDiv => a.floor_div(b),
            Op::Rem => a.modulo(b),
            Op::Div => {
                return match (a.as_const(), b.as_const()) {
                    (Some(x), Some(y)) => Ok(Value::Float(x as f64 / y as f64)),
                    _ => self.tensor_binary(op, &Value::Int(a.clone()), &Value::Int(b.clone()), span),
                };
            }
            Op::Pow => match (a.as_const(), b.as_const()) {
                (_, Some(e)) if (0..=MAX_UNROLLED_POWER).contains(&e) => a.pow(e as u32),
                (Some(x), Some(e)) => return Ok(Value::Float((x as f64).powf(e as f64))),
                _ => return self.tensor_binary(op, &Value::Int(a.clone()), &Value::Int(b.clone()), span),
            },
            _ => return Ok(self.int_comparison(scalar_op(op), a, b)),
        };
        self.sized(dim, span).map(Value::Int)
    }

    fn int_comparison(&mut self, op: BinaryOp, a: &Dim, b: &Dim) -> Value {
        let (a, b) = (self.resolved(a), self.resolved(b));
        match compare_dims(op, &a, &b) {
            Some(Truth::Yes) => Value::Bool(true),
            Some(Truth::No) => Value::Bool(false),
            _ => Value::exact(Scalar::binary(op, Scalar::dim(&a), Scalar::dim(&b))),
        }
    }

    fn real_binary(&mut self, op: ast::BinaryOp, a: f64, b: f64, span: Span) -> Eval<Value> {
        use ast::BinaryOp as Op;
        Ok(match op {
            Op::Add => Value::Float(a + b),
            Op::Sub => Value::Float(a - b),
            Op::Mul => Value::Float(a * b),
            Op::Div => Value::Float(a / b),
            Op::Pow => Value::Float(a.powf(b)),
            Op::Eq => Value::Bool(a == b),
            Op::Ne => Value::Bool(a != b),
            Op::Lt => Value::Bool(a < b),
            Op::Le => Value::Bool(a <= b),
            Op::Gt => Value::Bool(a > b),
            Op::Ge => Value::Bool(a >= b),
            _ => return self.integers_only(op, span),
        })
    }

    fn integers_only<T>(&mut self, op: ast::BinaryOp, span: Span) -> Eval<T> {
        let title = format!("`{}` is for integers; one side is a real number", op.symbol());
        self.error_help(
            "type-mismatch",
            title,
            span,
            "`/` divides real numbers; `int(…)`, `floor(…)` round them",
        )
    }

    fn tensor_binary(&mut self, op: ast::BinaryOp, left: &Value, right: &Value, span: Span) -> Eval<Value> {
        use ast::BinaryOp as Op;
        let (a, b) = (self.as_tensor(left, span)?, self.as_tensor(right, span)?);
        let (mut dtype, exact) = self.common_dtype(&[&a, &b], span)?;
        match op {
            Op::Div if exact => dtype = DType::F64,
            Op::Div if dtype.is_int() => {
                let title = format!("`/` gives a real number, but both sides are {dtype}");
                return self.error_help(
                    "type-mismatch",
                    title,
                    span,
                    "convert first: `f32(a) / f32(b)`; `//` divides integers",
                );
            }
            Op::FloorDiv | Op::Rem if !dtype.is_int() => return self.integers_only(op, span),
            Op::Pow => return self.power(&a, right, &b, dtype, exact, span),
            _ => {}
        }
        if dtype == DType::Bool && !matches!(op, Op::Eq | Op::Ne) {
            let title = format!("`{}` is for numbers, but this is a truth value", op.symbol());
            return self.error("type-mismatch", title, span);
        }
        let (a, b) = (self.with_dtype(&a, dtype, exact, span)?, self.with_dtype(&b, dtype, exact, span)?);
        let op = scalar_op(op);
        self.elementwise(&[a, b], span, &mut |s| Scalar::binary(op, s[0].clone(), s[1].clone()))
    }

    /// An operand in the common type; still exact if all operands are.
    pub fn with_dtype(
        &mut self,
        t: &TensorValue,
        dtype: DType,
        exact: bool,
        span: Span,
    ) -> Eval<TensorValue> {
        let mut converted = self.coerce(t, dtype, span)?;
        converted.exact = exact;
        Ok(converted)
    }

    fn power(
        &mut self,
        base: &TensorValue,
        exponent_value: &Value,
        exponent: &TensorValue,
        dtype: DType,
        exact: bool,
        span: Span,
    ) -> Eval<Value> {
        let known = match exponent_value {
            Value::Int(d) => d.as_const(),
            Value::Float(f) if f.fract() == 0.0 && f.abs() < 1e9 => Some(*f as i64),
            _ => None,
        };
        let unrolled = match known {
            Some(e) if dtype.is_int() => (0..=MAX_UNROLLED_POWER).contains(&e).then_some(e),
            Some(e) => (1..=3).contains(&e).then_some(e),
            None => None,
        };
        if let Some(e) = unrolled {
            let base = self.with_dtype(base, dtype, exact, span)?;
            return self.elementwise(&[base], span, &mut |s| {
                let one =
                    if dtype.is_float() { Scalar::real(1.0, dtype) } else { Scalar::int(1).cast(dtype) };
                match e {
                    0 => one,
                    _ => (1..e).fold(s[0].clone(), |p, _| Scalar::binary(BinaryOp::Mul, p, s[0].clone())),
                }
            });
        }
        let dtype = match (dtype.is_float(), exact) {
            (true, _) => dtype,
            (false, true) => DType::F64,
            (false, false) => {
                return self.error_help(
                    "type-mismatch",
                    "a power of integers wants a known exponent that is not negative",
                    span,
                    "convert the base first: `f32(x) ** y`",
                );
            }
        };
        let base = self.with_dtype(base, dtype, exact, span)?;
        let exponent = self.with_dtype(exponent, dtype, exact, span)?;
        self.elementwise(&[base, exponent], span, &mut |s| {
            Scalar::binary(BinaryOp::Pow, s[0].clone(), s[1].clone())
        })
    }

    /// `and` or `or` of two values, patterns among them.
    ///
    /// # Errors
    /// Operands that are no truth values.
    pub fn logical(&mut self, and: bool, left: &Value, right: &Value, span: Span) -> Eval<Value> {
        if let (Value::Bool(a), Value::Bool(b)) = (left, right) {
            return Ok(Value::Bool(if and { *a && *b } else { *a || *b }));
        }
        if matches!(left, Value::Pattern(_)) || matches!(right, Value::Pattern(_)) {
            let (a, b) = (self.as_pattern(left, span)?, self.as_pattern(right, span)?);
            let joined = if and { PatternValue::And(a, b) } else { PatternValue::Or(a, b) };
            let joined = Value::Pattern(Arc::new(joined));
            self.refuse_bulk(&joined, span)?;
            return Ok(joined);
        }
        let (a, b) = (self.truth(left, span)?, self.truth(right, span)?);
        let op = if and { BinaryOp::And } else { BinaryOp::Or };
        self.elementwise(&[a, b], span, &mut |s| Scalar::binary(op, s[0].clone(), s[1].clone()))
    }

    /// A value as a tensor of truth values.
    ///
    /// # Errors
    /// Anything else.
    pub fn truth(&mut self, value: &Value, span: Span) -> Eval<TensorValue> {
        let tensor = self.as_tensor(value, span)?;
        if tensor.dtype == DType::Bool {
            return Ok(tensor);
        }
        let title = format!("a truth value is wanted here, but this is {}", value.kind_text());
        self.error_help("type-mismatch", title, span, "compare it, or convert it: `bool(x)`")
    }

    /// A value as a pattern: patterns and boolean tensors are.
    ///
    /// # Errors
    /// Anything else, and patterns whose arguments are missing.
    pub fn as_pattern(&mut self, value: &Value, span: Span) -> Eval<Arc<PatternValue>> {
        match value {
            Value::Pattern(pattern) => match &**pattern {
                PatternValue::Unapplied { file, decl } => self.apply_pattern(*file, decl, Vec::new(), span),
                _ => Ok(Arc::clone(pattern)),
            },
            Value::Tensor(t) if t.dtype == DType::Bool => Ok(Arc::new(PatternValue::Tensor(t.clone()))),
            Value::Bool(true) => Ok(Arc::new(PatternValue::Full)),
            Value::Bool(false) => Ok(Arc::new(PatternValue::Not(Arc::new(PatternValue::Full)))),
            Value::Poison => Err(Reported),
            other => {
                let title = format!("a pattern is wanted here, but this is {}", other.kind_text());
                let help = "a pattern, or a tensor of truth values: `mask > 0`, `bool(mask)`";
                self.error_help("type-mismatch", title, span, help)
            }
        }
    }

    /// `-x` or `not x`.
    ///
    /// # Errors
    /// Kinds it is not defined for.
    pub fn unary(&mut self, op: ast::UnaryOp, value: &Value, span: Span) -> Eval<Value> {
        match (op, value) {
            (_, Value::Poison) => Err(Reported),
            (ast::UnaryOp::Neg, Value::Int(d)) => self.sized(d.neg(), span).map(Value::Int),
            (ast::UnaryOp::Neg, Value::Float(v)) => Ok(Value::Float(-v)),
            (ast::UnaryOp::Neg, _) => {
                let t = self.as_tensor(value, span)?;
                if t.dtype == DType::Bool {
                    return self.error(
                        "type-mismatch",
                        "`-` is for numbers, but this is a truth value",
                        span,
                    );
                }
                self.elementwise(&[t], span, &mut |s| Scalar::unary(UnaryOp::Neg, s[0].clone()))
            }
            (ast::UnaryOp::Not, Value::Bool(v)) => Ok(Value::Bool(!v)),
            (ast::UnaryOp::Not, Value::Pattern(_)) => {
                let pattern = self.as_pattern(value, span)?;
                let negated = Value::Pattern(Arc::new(PatternValue::Not(pattern)));
                self.refuse_bulk(&negated, span)?;
                Ok(negated)
            }
            (ast::UnaryOp::Not, _) => {
                let t = self.truth(value, span)?;
                self.elementwise(&[t], span, &mut |s| Scalar::unary(UnaryOp::Not, s[0].clone()))
            }
        }
    }

    fn join(&mut self, left: &Value, right: &Value, span: Span) -> Eval<Value> {
        match (left, right) {
            (Value::List(a), Value::List(b)) => self.made(a.iter().chain(b.iter()).cloned().collect(), span),
            (Value::Str(a), Value::Str(b)) => {
                self.charge(a.len() + b.len(), span)?;
                Ok(Value::Str(format!("{a}{b}").into()))
            }
            _ => {
                let title =
                    format!("`++` joins lists, but this is {} and {}", left.kind_text(), right.kind_text());
                self.error_help(
                    "type-mismatch",
                    title,
                    span,
                    "tensors are joined by `concat([a, b], axis = …)`",
                )
            }
        }
    }

    /// A selection whose condition is not known at compile time, elementwise.
    ///
    /// # Errors
    /// Branches whose kinds, types or shapes differ.
    pub fn select(
        &mut self,
        condition: &TensorValue,
        then: &Value,
        otherwise: &Value,
        span: Span,
    ) -> Eval<Value> {
        if let (Value::Tuple(a), Value::Tuple(b)) = (then, otherwise)
            && a.values.len() == b.values.len()
        {
            let pairs = a.values.iter().zip(&b.values);
            let values: Eval<Vec<Value>> = pairs.map(|(x, y)| self.select(condition, x, y, span)).collect();
            return Ok(Value::tuple(values?));
        }
        let (a, b) = (self.as_tensor(then, span)?, self.as_tensor(otherwise, span)?);
        let (dtype, exact) = self.common_dtype(&[&a, &b], span)?;
        let (a, b) = (self.with_dtype(&a, dtype, exact, span)?, self.with_dtype(&b, dtype, exact, span)?);
        let condition = TensorValue { exact, ..condition.clone() };
        self.elementwise(&[condition, a, b], span, &mut |s| {
            Scalar::select(s[0].clone(), s[1].clone(), s[2].clone())
        })
    }

    /// One operation on all elements of operands aligned from the right; lazy scalars stay lazy.
    ///
    /// # Shape
    /// Missing leading axes and literal 1 axes broadcast.
    ///
    /// # Errors
    /// Shapes that do not go together.
    pub fn elementwise(
        &mut self,
        operands: &[TensorValue],
        span: Span,
        f: &mut dyn FnMut(&[Scalar]) -> Scalar,
    ) -> Eval<Value> {
        let exact = operands.iter().all(|t| t.exact);
        let lazy: Option<Vec<Scalar>> = operands.iter().map(|t| t.as_lazy().cloned()).collect();
        if let Some(scalars) = lazy {
            let scalar = f(&scalars);
            return Ok(if exact {
                Value::exact(scalar)
            } else {
                Value::Tensor(TensorValue::lazy(scalar, false))
            });
        }
        let shapes: Vec<Arc<[Dim]>> = operands.iter().map(|t| Arc::clone(&t.shape)).collect();
        let shape = self.broadcast(&shapes, span)?;
        let axes = self.axes_of(&shape);
        let scalars: Vec<Scalar> = operands.iter().map(|t| self.broadcast_element(t, &axes, span)).collect();
        let body = f(&scalars);
        let mut result =
            self.emit(Emission { axes: &axes, shape: None, reduce: None, body, span, name: None })?;
        result.exact = exact;
        result.segments = operands.iter().filter(|t| t.rank() == axes.len()).find_map(|t| t.segments.clone());
        Ok(Value::Tensor(result))
    }

    /// The shape that shapes aligned from the right have together.
    ///
    /// # Errors
    /// Axes that differ and are not the literal 1.
    pub fn broadcast(&mut self, shapes: &[Arc<[Dim]>], span: Span) -> Eval<Vec<Dim>> {
        let rank = shapes.iter().map(|s| s.len()).max().unwrap_or(0);
        let mut result = vec![Dim::ONE; rank];
        for shape in shapes {
            let offset = rank - shape.len();
            for (k, dim) in shape.iter().enumerate() {
                let slot = result[offset + k].clone();
                if dim.is(1) {
                    continue;
                }
                if slot.is(1) {
                    result[offset + k] = dim.clone();
                    continue;
                }
                let all: Vec<String> = shapes
                    .iter()
                    .filter(|s| !s.is_empty())
                    .map(|s| super::value::type_text(DType::F32, s))
                    .collect();
                self.equate(&slot, dim, span, || {
                    Self::shape_mismatch(
                        format!("shapes {} do not go together: {slot} against {dim}", all.join(" and ")),
                        span,
                        None,
                    )
                    .help("axes are aligned from the right; only missing leading axes and literal 1 axes broadcast")
                })?;
            }
        }
        Ok(result)
    }

    /// The element of an operand at a point of a broadcast result.
    pub fn broadcast_element(&self, t: &TensorValue, axes: &[IndexVar], span: Span) -> Scalar {
        let offset = axes.len().saturating_sub(t.rank());
        let position: Vec<Scalar> = t
            .shape
            .iter()
            .zip(&axes[offset..])
            .map(
                |(d, axis)| {
                    if d.is(1) && !axis.extent().is(1) { Scalar::int(0) } else { Scalar::index(axis) }
                },
            )
            .collect();
        self.element(t, &position, span)
    }

    /// `a @ b`.
    ///
    /// # Shape
    /// `[.., M, K] @ [.., K, N] -> [.., M, N]`; either side may be a vector `[K]`.
    ///
    /// # Errors
    /// Scalars, and contracted axes that differ.
    pub fn matmul(&mut self, a: &TensorValue, b: &TensorValue, span: Span) -> Eval<TensorValue> {
        if a.rank() == 0 || b.rank() == 0 {
            let scalar = if a.rank() == 0 { a } else { b };
            let title = format!("`@` contracts an axis, but one side is {}", scalar.kind_text());
            return self.error_help("shape-mismatch", title, span, "`*` multiplies by a scalar");
        }
        let (dtype, _) = self.common_dtype(&[a, b], span)?;
        if dtype == DType::Bool {
            return self.error("type-mismatch", "`@` is for numbers, but this is a truth value", span);
        }
        let (a, b) = (self.coerce(a, dtype, span)?, self.coerce(b, dtype, span)?);
        let (ra, rb) = (a.rank(), b.rank());
        let (ka, kb) = (a.shape[ra - 1].clone(), b.shape[rb.saturating_sub(2)].clone());
        self.equate(&ka, &kb, span, || {
            let title = format!("`@` contracts {ka} against {kb}: {} @ {}", a.type_text(), b.type_text());
            Self::shape_mismatch(title, span, None)
        })?;
        let lead_a: Arc<[Dim]> = a.shape[..ra.saturating_sub(2)].into();
        let lead_b: Arc<[Dim]> = b.shape[..rb.saturating_sub(2)].into();
        let lead = self.broadcast(&[Arc::clone(&lead_a), Arc::clone(&lead_b)], span)?;
        let lead_axes = self.axes_of(&lead);
        let row = (ra > 1).then(|| self.fresh_index("m", a.shape[ra - 2].clone()));
        let column = (rb > 1).then(|| self.fresh_index("n", b.shape[rb - 1].clone()));
        let k = self.fresh_index("k", ka);
        let at = |lead: &[Dim]| -> Vec<Scalar> {
            let offset = lead_axes.len() - lead.len();
            let pairs = lead.iter().zip(&lead_axes[offset..]);
            pairs
                .map(|(d, v)| if d.is(1) && !v.extent().is(1) { Scalar::int(0) } else { Scalar::index(v) })
                .collect()
        };
        let mut left = at(&lead_a);
        left.extend(row.iter().map(Scalar::index));
        left.push(Scalar::index(&k));
        let mut right = at(&lead_b);
        right.push(Scalar::index(&k));
        right.extend(column.iter().map(Scalar::index));
        let body =
            Scalar::binary(BinaryOp::Mul, self.element(&a, &left, span), self.element(&b, &right, span));
        let axes: Vec<IndexVar> = lead_axes.into_iter().chain(row).chain(column).collect();
        let reduce = Some(Reduction { reducer: Reducer::Sum, axes: vec![k], filter: None, otherwise: None });
        self.emit(Emission { axes: &axes, shape: None, reduce, body, span, name: None })
    }

    /// `x.T`: the axes of a matrix swapped.
    ///
    /// # Errors
    /// Anything but a matrix.
    pub fn transpose(&mut self, t: &TensorValue, span: Span) -> Eval<TensorValue> {
        let [rows, columns] = &*t.shape else {
            let title = format!("`.T` swaps the axes of a matrix, but this is {}", t.type_text());
            return self.error_help(
                "shape-mismatch",
                title,
                span,
                "name the axes: `let y[b, j, i] = x[b, i, j]`",
            );
        };
        let j = self.fresh_index("j", columns.clone());
        let i = self.fresh_index("i", rows.clone());
        let body = self.element(t, &[Scalar::index(&i), Scalar::index(&j)], span);
        let mut result =
            self.emit(Emission { axes: &[j, i], shape: None, reduce: None, body, span, name: None })?;
        result.exact = t.exact;
        Ok(result)
    }

    /// A scalar in every place of a shape.
    ///
    /// # Errors
    /// As [`Elaborator::emit`].
    pub fn fill(&mut self, t: &TensorValue, shape: &[Dim], span: Span) -> Eval<TensorValue> {
        if shape.is_empty() {
            return Ok(t.clone());
        }
        let axes = self.axes_of(shape);
        let body = self.element(t, &[], span);
        self.emit(Emission { axes: &axes, shape: None, reduce: None, body, span, name: None })
    }
}

/// The scalar operation of an operator; `and` for those that have none of their own.
pub fn scalar_op(op: ast::BinaryOp) -> BinaryOp {
    use ast::BinaryOp as Op;
    match op {
        Op::Add => BinaryOp::Add,
        Op::Sub => BinaryOp::Sub,
        Op::Mul | Op::MatMul => BinaryOp::Mul,
        Op::Div => BinaryOp::Div,
        Op::FloorDiv => BinaryOp::FloorDiv,
        Op::Rem => BinaryOp::Mod,
        Op::Pow => BinaryOp::Pow,
        Op::Eq => BinaryOp::Eq,
        Op::Ne => BinaryOp::Ne,
        Op::Lt => BinaryOp::Lt,
        Op::Le => BinaryOp::Le,
        Op::Gt => BinaryOp::Gt,
        Op::Ge => BinaryOp::Ge,
        Op::Or => BinaryOp::Or,
        Op::And | Op::Concat => BinaryOp::And,
    }
}

/// The value of a number that is known, as a real.
pub fn known_real(value: &Value) -> Option<f64> {
    match value {
        Value::Int(d) => d.as_const().map(|v| v as f64),
        Value::Float(v) => Some(*v),
        _ => None,
    }
}

/// Whether two static values that are no numbers are equal; `None` where that is not the
/// question (numbers and tensors) or not decided.
fn static_equal(a: &Value, b: &Value) -> Option<bool> {
    match (a, b) {
        (Value::Str(x), Value::Str(y)) => Some(x == y),
        (Value::Bool(x), Value::Bool(y)) => Some(x == y),
        (Value::List(x), Value::List(y)) => all_equal(x, y),
        (Value::Tuple(x), Value::Tuple(y)) => all_equal(&x.values, &y.values),
        _ => None,
    }
}

fn all_equal(a: &[Value], b: &[Value]) -> Option<bool> {
    if a.len() != b.len() {
        return Some(false);
    }
    let mut equal = true;
    for (x, y) in a.iter().zip(b) {
        equal &= match (known_real(x), known_real(y)) {
            (Some(p), Some(q)) => p == q,
            _ => static_equal(x, y)?,
        };
    }
    Some(equal)
}
