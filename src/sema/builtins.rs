//! Functions that the compiler knows.

use super::Elaborator;
use super::call::Argument;
use super::errors::{Eval, Reported};
use super::ops::known_real;
use super::scalar::{Scalar, fold_real};
use super::value::{FnValue, PatternValue, Value};
use crate::diag::{Diagnostic, counted};
use crate::dim::Dim;
use crate::dtype::DType;
use crate::graph::ir::Init;
use crate::ops::scalar::{BinaryOp, UnaryOp};
use crate::span::Span;
use std::sync::Arc;

/// One of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Builtin {
    /// A function of one scalar, elementwise.
    Unary(UnaryOp),
    /// The smaller or larger of several, elementwise.
    Extreme(BinaryOp),
    /// `clamp(x, low, high)`
    Clamp,
    /// `f32(x)`, `i64(x)`, `bool(x)`, …
    Cast(DType),
    /// `int(x)`, static
    Int,
    /// `float(x)`, static
    Float,
    /// `len(list)`
    Len,
    /// `reverse(list)`
    Reverse,
    /// `zip(a, b, …)`
    Zip,
    /// `range(a, b)`
    Range,
    /// `concat(list, axis = -1)`
    Concat,
    /// `stack(list, axis = 0)`
    Stack,
    /// `split(x, n or sizes, axis = -1)`
    Split,
    /// `top_k(x, k)`
    TopK,
    /// An initialiser.
    Init(&'static str),
}

const CASTS: [DType; 7] =
    [DType::F32, DType::F64, DType::F16, DType::BF16, DType::I32, DType::I64, DType::Bool];

const INITS: [&str; 8] =
    ["zeros", "ones", "fill", "normal", "uniform", "kaiming_uniform", "xavier_uniform", "eye"];

const OTHERS: [Builtin; 13] = [
    Builtin::Extreme(BinaryOp::Min),
    Builtin::Extreme(BinaryOp::Max),
    Builtin::Clamp,
    Builtin::Int,
    Builtin::Float,
    Builtin::Len,
    Builtin::Reverse,
    Builtin::Zip,
    Builtin::Range,
    Builtin::Concat,
    Builtin::Stack,
    Builtin::Split,
    Builtin::TopK,
];

impl Builtin {
    fn all() -> impl Iterator<Item = Builtin> {
        // Negation is written as an operator.
        let called = UnaryOp::ALL.into_iter().filter(|op| !matches!(op, UnaryOp::Neg | UnaryOp::Not));
        called
            .map(Builtin::Unary)
            .chain(CASTS.into_iter().map(Builtin::Cast))
            .chain(INITS.into_iter().map(Builtin::Init))
            .chain(OTHERS)
    }

    /// All names that the compiler gives a meaning.
    pub fn names() -> impl Iterator<Item = &'static str> {
        Builtin::all().map(Builtin::name).chain(["inf", "pi", "full"])
    }

    /// The value of a name that the compiler knows.
    pub fn value(name: &str) -> Option<Value> {
        match name {
            "inf" => Some(Value::Float(f64::INFINITY)),
            "pi" => Some(Value::Float(std::f64::consts::PI)),
            "full" => Some(Value::Pattern(Arc::new(PatternValue::Full))),
            _ => Builtin::all().find(|b| b.name() == name).map(|b| Value::Fn(FnValue::Builtin(b))),
        }
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Builtin::Unary(op) => op.name(),
            Builtin::Extreme(op) => op.name(),
            Builtin::Clamp => "clamp",
            Builtin::Cast(dtype) => dtype.name(),
            Builtin::Int => "int",
            Builtin::Float => "float",
            Builtin::Len => "len",
            Builtin::Reverse => "reverse",
            Builtin::Zip => "zip",
            Builtin::Range => "range",
            Builtin::Concat => "concat",
            Builtin::Stack => "stack",
            Builtin::Split => "split",
            Builtin::TopK => "top_k",
            Builtin::Init(name) => name,
        }
    }

    fn params(self) -> (&'static [&'static str], usize) {
        match self {
            Builtin::Unary(_) | Builtin::Cast(_) | Builtin::Int | Builtin::Float => (&["x"], 1),
            Builtin::Extreme(_) | Builtin::Zip => (&[], 1),
            Builtin::Clamp => (&["x", "low", "high"], 3),
            Builtin::Len | Builtin::Reverse => (&["list"], 1),
            Builtin::Range => (&["start", "end"], 1),
            Builtin::Concat | Builtin::Stack => (&["list", "axis"], 1),
            Builtin::Split => (&["x", "sizes", "axis"], 2),
            Builtin::TopK => (&["x", "k"], 2),
            Builtin::Init("fill" | "normal" | "uniform") => (&["value"], 1),
            Builtin::Init(_) => (&[], 0),
        }
    }
}

impl Elaborator<'_> {
    /// Calls a builtin.
    ///
    /// # Errors
    /// Arguments that do not fit.
    pub fn call_builtin(&mut self, builtin: Builtin, args: Vec<Argument>, span: Span) -> Eval<Value> {
        if args.iter().any(|a| matches!(a.value, Value::Poison)) {
            return Err(Reported);
        }
        if let Builtin::Extreme(op) = builtin {
            return self.extreme(op, args, span);
        }
        if builtin == Builtin::Zip {
            return self.zip(&args, span);
        }
        let args = self.builtin_args(builtin, args, span)?;
        let arg = |k: usize| args.get(k).and_then(Option::as_ref);
        let Some(first) = arg(0) else { return self.initialiser(builtin, None, span) };
        match builtin {
            Builtin::Unary(op) => self.unary_builtin(op, &first.value, first.span),
            Builtin::Cast(dtype) => self.cast(dtype, &first.value, first.span),
            Builtin::Int => self.static_int(&first.value, first.span),
            Builtin::Float => match known_real(&first.value) {
                Some(v) => Ok(Value::Float(v)),
                None => {
                    let title =
                        format!("`float` converts static numbers, but this is {}", first.value.kind_text());
                    self.error_help("not-static", title, first.span, "tensors are converted by `f32(x)`")
                }
            },
            Builtin::Clamp => {
                let (Some(low), Some(high)) = (arg(1), arg(2)) else { return Err(Reported) };
                let raised = self.extreme_of(BinaryOp::Max, &first.value, &low.value, span)?;
                self.extreme_of(BinaryOp::Min, &raised, &high.value, span)
            }
            Builtin::Len => match &first.value {
                Value::List(items) => Ok(Value::int(items.len() as i64)),
                Value::Tuple(tuple) => Ok(Value::int(tuple.values.len() as i64)),
                Value::Str(s) => Ok(Value::int(s.chars().count() as i64)),
                other => {
                    let title =
                        format!("`len` counts the elements of a list, but this is {}", other.kind_text());
                    self.error("type-mismatch", title, first.span)
                }
            },
            Builtin::Reverse => {
                let mut items = self.list_of(&first.value, "reverse", first.span)?;
                items.reverse();
                self.made(items, span)
            }
            Builtin::Range => {
                let a = self.int_of(&first.value, "a bound", first.span)?;
                let (a, b) = match arg(1) {
                    Some(end) => (a, self.int_of(&end.value, "a bound", end.span)?),
                    None => (0, a),
                };
                let count = usize::try_from(b.saturating_sub(a)).unwrap_or(0);
                if count > super::limits::MAX_LIST {
                    return self.limit(format!("a list of {count} elements"), span);
                }
                self.made((a..b).map(Value::int).collect(), span)
            }
            Builtin::Concat => {
                let axis = self.axis_arg(arg(1), -1)?;
                let tensors = self.tensor_list(&first.value, "concat", first.span)?;
                self.concat_tensors(&tensors, axis, span).map(Value::Tensor)
            }
            Builtin::Stack => {
                let axis = self.axis_arg(arg(1), 0)?;
                let tensors = self.tensor_list(&first.value, "stack", first.span)?;
                self.stack_tensors(&tensors, axis, span).map(Value::Tensor)
            }
            Builtin::Split => {
                let Some(sizes) = arg(1) else { return Err(Reported) };
                let axis = self.axis_arg(arg(2), -1)?;
                let tensor = self.as_tensor(&first.value, first.span)?;
                self.split_tensor(&tensor, &sizes.value, axis, span)
            }
            Builtin::TopK => {
                let Some(k) = arg(1) else { return Err(Reported) };
                let tensor = self.as_tensor(&first.value, first.span)?;
                let k = self.size_of(&k.value, k.span)?;
                self.top_k(&tensor, &k, span)
            }
            Builtin::Init(_) => self.initialiser(builtin, Some(first), span),
            Builtin::Extreme(_) | Builtin::Zip => Err(Reported),
        }
    }

    fn builtin_args(
        &mut self,
        builtin: Builtin,
        args: Vec<Argument>,
        span: Span,
    ) -> Eval<Vec<Option<Argument>>> {
        let (params, wanted) = builtin.params();
        let mut placed: Vec<Option<Argument>> = vec![None; params.len()];
        for (k, arg) in args.into_iter().enumerate() {
            let at = match &arg.name {
                Some(name) => params.iter().position(|p| *p == &**name),
                None => Some(k),
            };
            let title = match at.and_then(|at| placed.get_mut(at)) {
                Some(slot @ None) => {
                    *slot = Some(arg);
                    continue;
                }
                Some(Some(_)) => format!("an argument of `{}` is given twice", builtin.name()),
                None => match &arg.name {
                    Some(name) => format!("`{}` has no parameter `{name}`", builtin.name()),
                    None => {
                        let most = counted(params.len(), "argument", "arguments");
                        format!("`{}` takes {most}", builtin.name())
                    }
                },
            };
            return self.error_help("arguments", title, arg.place(), form(builtin));
        }
        if let Some(at) = placed.iter().take(wanted).position(Option::is_none) {
            let title = format!("`{}` wants `{}`, which is not given", builtin.name(), params[at]);
            return self.error_help("arguments", title, span, form(builtin));
        }
        Ok(placed)
    }

    fn axis_arg(&mut self, arg: Option<&Argument>, default: i64) -> Eval<i64> {
        match arg {
            Some(arg) => self.int_of(&arg.value, "the axis", arg.span),
            None => Ok(default),
        }
    }

    /// The elements of a list or tuple.
    fn list_of(&mut self, value: &Value, what: &str, span: Span) -> Eval<Vec<Value>> {
        match value {
            Value::List(items) => Ok(items.to_vec()),
            Value::Tuple(tuple) => Ok(tuple.values.clone()),
            other => {
                let title = format!("`{what}` takes a list, but this is {}", other.kind_text());
                self.error("type-mismatch", title, span)
            }
        }
    }

    fn tensor_list(&mut self, value: &Value, what: &str, span: Span) -> Eval<Vec<super::value::TensorValue>> {
        let items = self.list_of(value, what, span)?;
        if items.is_empty() {
            return self.error("arguments", format!("`{what}` of an empty list"), span);
        }
        items.iter().map(|item| self.as_tensor(item, span)).collect()
    }

    fn zip(&mut self, args: &[Argument], span: Span) -> Eval<Value> {
        let lists: Eval<Vec<Vec<Value>>> =
            args.iter().map(|a| self.list_of(&a.value, "zip", a.span)).collect();
        let lists = lists?;
        let count = lists.first().map_or(0, Vec::len);
        if let Some(other) = lists.iter().find(|l| l.len() != count) {
            let title =
                format!("`zip` takes lists of one length, but these have {count} and {}", other.len());
            return self.error("arguments", title, span);
        }
        self.charge(count * lists.len(), span)?;
        let row = |k: usize| Value::tuple(lists.iter().map(|l| l[k].clone()).collect());
        self.made((0..count).map(row).collect(), span)
    }

    /// A function of one scalar, elementwise; exact where it is given an exact number.
    fn unary_builtin(&mut self, op: UnaryOp, value: &Value, span: Span) -> Eval<Value> {
        let rounds = matches!(op, UnaryOp::Floor | UnaryOp::Ceil | UnaryOp::Round | UnaryOp::Trunc);
        match value {
            Value::Float(v) => {
                if let Some(folded) = fold_real(op, *v) {
                    return Ok(Value::Float(folded));
                }
            }
            Value::Int(d) => {
                if rounds {
                    return Ok(value.clone());
                }
                if op == UnaryOp::Abs {
                    let negated = self.sized(d.neg(), span)?;
                    return self.sized(d.maximum(&negated), span).map(Value::Int);
                }
                if let (UnaryOp::Sign, Some(v)) = (op, d.as_const()) {
                    return Ok(Value::int(v.signum()));
                }
                if let Some(folded) = d.as_const().and_then(|v| fold_real(op, v as f64)) {
                    return Ok(Value::Float(folded));
                }
            }
            _ => {}
        }
        let mut t = self.as_tensor(value, span)?;
        if t.dtype.is_int() {
            if rounds {
                return Ok(value.clone());
            }
            if !matches!(op, UnaryOp::Abs | UnaryOp::Sign) {
                if !t.exact {
                    let title = format!("`{}` takes real numbers, but this is {}", op.name(), t.dtype);
                    return self.error_help("type-mismatch", title, span, "convert it first: `f32(x)`");
                }
                t = self.with_dtype(&t, DType::F64, true, span)?;
            }
        } else if t.dtype == DType::Bool {
            let title = format!("`{}` takes numbers, but this is a truth value", op.name());
            return self.error("type-mismatch", title, span);
        }
        self.elementwise(&[t], span, &mut |s| Scalar::unary(op, s[0].clone()))
    }

    fn extreme(&mut self, op: BinaryOp, mut args: Vec<Argument>, span: Span) -> Eval<Value> {
        if let [only] = args.as_slice() {
            let items = self.list_of(&only.value, op.name(), only.span)?;
            args = items.into_iter().map(|v| Argument::positional(v, span)).collect();
        }
        let mut args = args.into_iter();
        let Some(first) = args.next() else {
            return self.error("arguments", format!("`{}` of nothing", op.name()), span);
        };
        args.try_fold(first.value, |best, next| self.extreme_of(op, &best, &next.value, span))
    }

    /// The smaller or larger of two values, elementwise.
    ///
    /// # Errors
    /// As for operators.
    pub fn extreme_of(&mut self, op: BinaryOp, a: &Value, b: &Value, span: Span) -> Eval<Value> {
        if let (Value::Int(x), Value::Int(y)) = (a, b) {
            let dim = if op == BinaryOp::Min { x.minimum(y) } else { x.maximum(y) };
            return self.sized(dim, span).map(Value::Int);
        }
        if let (Some(x), Some(y)) = (known_real(a), known_real(b)) {
            if x.is_nan() || y.is_nan() {
                return Ok(Value::Float(f64::NAN));
            }
            return Ok(Value::Float(if op == BinaryOp::Min { x.min(y) } else { x.max(y) }));
        }
        let (ta, tb) = (self.as_tensor(a, span)?, self.as_tensor(b, span)?);
        let (dtype, exact) = self.common_dtype(&[&ta, &tb], span)?;
        if dtype == DType::Bool {
            let title = format!("`{}` takes numbers, but these are truth values", op.name());
            return self.error("type-mismatch", title, span);
        }
        let (ta, tb) = (self.with_dtype(&ta, dtype, exact, span)?, self.with_dtype(&tb, dtype, exact, span)?);
        self.elementwise(&[ta, tb], span, &mut |s| Scalar::binary(op, s[0].clone(), s[1].clone()))
    }

    fn cast(&mut self, dtype: DType, value: &Value, span: Span) -> Eval<Value> {
        let t = self.as_tensor(value, span)?;
        self.convert(&t, dtype, span).map(Value::Tensor)
    }

    fn static_int(&mut self, value: &Value, span: Span) -> Eval<Value> {
        match value {
            Value::Int(_) => Ok(value.clone()),
            Value::Bool(v) => Ok(Value::int(i64::from(*v))),
            Value::Float(v) if v.is_finite() && v.trunc().abs() < 9.2e18 => Ok(Value::int(v.trunc() as i64)),
            other => {
                let title = format!("`int` converts static numbers, but this is {}", other.kind_text());
                self.error_help("not-static", title, span, "tensors are converted by `i64(x)`")
            }
        }
    }

    fn initialiser(&mut self, builtin: Builtin, arg: Option<&Argument>, span: Span) -> Eval<Value> {
        let value = match arg {
            Some(arg) => match known_real(&arg.value) {
                Some(v) => v,
                None => {
                    let title = format!(
                        "`{}` takes a known number, but this is {}",
                        builtin.name(),
                        arg.value.kind_text()
                    );
                    return self.error("not-static", title, arg.span);
                }
            },
            None => 0.0,
        };
        let Builtin::Init(name) = builtin else {
            return Err(self.report(
                Diagnostic::error("arguments", format!("`{}` of nothing", builtin.name())).at(span, ""),
            ));
        };
        Ok(Value::Init(match name {
            "ones" => Init::Fill(1.0),
            "fill" => Init::Fill(value),
            "normal" => Init::Normal(value),
            "uniform" => Init::Uniform(value),
            "kaiming_uniform" => Init::KaimingUniform,
            "xavier_uniform" => Init::XavierUniform,
            "eye" => Init::Eye,
            _ => Init::Fill(0.0),
        }))
    }

    /// A position among `rank` axes, counted from the end where negative.
    pub(super) fn axis_position(&mut self, axis: i64, rank: usize, span: Span) -> Eval<usize> {
        let at = if axis < 0 { axis + rank as i64 } else { axis };
        match usize::try_from(at).ok().filter(|at| *at < rank) {
            Some(at) => Ok(at),
            None => self.error_help(
                "out-of-range",
                format!("there is no axis {axis} of {}", counted(rank, "axis", "axes")),
                span,
                "axes count from 0, and from the end with -1",
            ),
        }
    }

    /// The size that `n` equal parts of `whole` have.
    pub(super) fn equal_parts(&mut self, whole: &Dim, n: &Dim, span: Span) -> Eval<Dim> {
        let part = match whole.exact_div(n) {
            Some(part) => part,
            None => self.sized(whole.floor_div(n), span)?,
        };
        let product = self.sized(part.mul(n), span)?;
        self.equate(&product, whole, span, || {
            Diagnostic::error("shape-mismatch", format!("{whole} does not fall into {n} equal parts"))
                .at(span, "")
        })?;
        Ok(part)
    }
}

/// How a builtin is called.
fn form(builtin: Builtin) -> String {
    format!("it is called as `{}({})`", builtin.name(), builtin.params().0.join(", "))
}
