//! The sizes of one call: free dimensions from the shapes of what is passed in.
//!
//! Takes a [`Signature`] and actual shapes, gives a [`DimEnv`] in which every dimension of the
//! signature has a value, or says which tensor does not fit and which other one it contradicts.
//! Used by the reference evaluator and by the runtime alike; knows nothing of elements.

use super::ir::{DimCheck, DimCondition, Port, Signature, TensorType};
use super::print::{condition_text, type_text};
use crate::diag::{Diagnostic, Fault};
use crate::dim::{Dim, DimError, Symbol, solve_for};
use crate::span::Span;
use crate::tensor::{ShapeText, elems};
use std::collections::BTreeMap;

/// The most elements a tensor of a call may have.
pub const MAX_ELEMS: usize = 1 << 40;

/// Values of the free dimensions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DimEnv {
    values: BTreeMap<Symbol, i64>,
}

impl DimEnv {
    /// No values.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the value of a dimension.
    pub fn set(&mut self, symbol: Symbol, value: i64) {
        self.values.insert(symbol, value);
    }

    /// The value of a dimension.
    pub fn get(&self, symbol: &Symbol) -> Option<i64> {
        self.values.get(symbol).copied()
    }

    /// The value of a formula.
    ///
    /// # Errors
    /// As [`Dim::eval`].
    pub fn eval(&self, dim: &Dim) -> Result<i64, DimError> {
        match dim.as_const() {
            Some(value) => Ok(value),
            None => dim.eval(&|symbol| self.get(symbol)),
        }
    }

    /// The value of a size, which is not negative.
    ///
    /// # Errors
    /// As [`Dim::eval`], and [`DimError::Negative`].
    pub fn size(&self, dim: &Dim) -> Result<usize, DimError> {
        let value = self.eval(dim)?;
        usize::try_from(value).map_err(|_| DimError::Negative(value))
    }

    /// The values of a shape.
    ///
    /// # Errors
    /// As [`DimEnv::size`].
    pub fn shape(&self, shape: &[Dim]) -> Result<Vec<usize>, DimError> {
        shape.iter().map(|dim| self.size(dim)).collect()
    }

    /// Whether a condition holds.
    ///
    /// # Errors
    /// As [`Dim::eval`].
    pub fn holds(&self, condition: &DimCondition) -> Result<bool, DimError> {
        Ok(match condition {
            DimCondition::Eq(a, b) => self.eval(a)? == self.eval(b)?,
            DimCondition::Le(a, b) => self.eval(a)? <= self.eval(b)?,
            DimCondition::Lt(a, b) => self.eval(a)? < self.eval(b)?,
            DimCondition::Not(a) => !self.holds(a)?,
            DimCondition::And(a, b) => self.holds(a)? && self.holds(b)?,
            DimCondition::Or(a, b) => self.holds(a)? || self.holds(b)?,
        })
    }

    /// The values, in the order of the signature's dimensions.
    pub fn ordered(&self, signature: &Signature) -> Option<Vec<i64>> {
        signature.dims.iter().map(|symbol| self.get(symbol)).collect()
    }
}

/// An axis of an input or weight, as messages name it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AxisOf {
    /// Name of the tensor.
    pub tensor: String,
    /// Which axis, counted from 0.
    pub axis: usize,
}

impl std::fmt::Display for AxisOf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "axis {} of `{}`", self.axis, self.tensor)
    }
}

/// Why shapes do not fit a signature.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BindError {
    /// Not as many tensors as the signature has.
    #[error("`{entry}` takes {expected} inputs, {found} were given")]
    Count {
        /// Name of the entry.
        entry: String,
        /// Inputs of the signature.
        expected: usize,
        /// Inputs given.
        found: usize,
    },
    /// A tensor with another number of axes.
    #[error("`{tensor}` is {expected}, but the shape given is {}", ShapeText(.found))]
    Rank {
        /// Name of the tensor.
        tensor: String,
        /// The declared type.
        expected: String,
        /// The shape given.
        found: Vec<usize>,
        /// The declaration.
        span: Span,
    },
    /// A size that differs from the one its formula has.
    #[error("{at} has size {found}, but {}", expected_text(.formula, *.expected))]
    Size {
        /// The axis.
        at: AxisOf,
        /// Its declared size.
        formula: Dim,
        /// The value of that.
        expected: i64,
        /// The size given.
        found: i64,
        /// Where the dimensions of the formula were set.
        set_by: Vec<(String, i64, AxisOf)>,
        /// The declaration.
        span: Span,
    },
    /// A size that its formula cannot have for any value of the dimension.
    #[error("{at} has size {found}, which is {formula} for no size `{symbol}`")]
    Unsolvable {
        /// The axis.
        at: AxisOf,
        /// Its declared size.
        formula: Dim,
        /// The dimension that was solved for.
        symbol: String,
        /// The size given.
        found: i64,
        /// The declaration.
        span: Span,
    },
    /// A dimension that no shape decides.
    #[error("the shapes do not decide the dimension `{symbol}`")]
    Undecided {
        /// The dimension.
        symbol: String,
    },
    /// A condition of the program does not hold.
    #[error("{message}")]
    Check {
        /// Its slug.
        code: &'static str,
        /// What the program says.
        message: String,
        /// What holds where there is no message of the user's: `T == 3`.
        condition: Option<String>,
        /// The dimensions that occur, with their values and where those were set.
        set_by: Vec<(String, i64, AxisOf)>,
        /// Where it comes from.
        span: Span,
    },
    /// A size that cannot be computed, or is negative.
    #[error("`{tensor}` of type {ty} cannot be made: {error}")]
    Formula {
        /// Name of the tensor, or the condition's text.
        tensor: String,
        /// Its type.
        ty: String,
        /// Why.
        error: DimError,
        /// The dimensions that occur, with their values and where those were set.
        set_by: Vec<(String, i64, AxisOf)>,
        /// The declaration.
        span: Span,
    },
    /// A tensor of too many elements.
    #[error("`{tensor}` would have the shape {}, more than 2^40 elements", ShapeText(.shape))]
    TooLarge {
        /// Name of the tensor.
        tensor: String,
        /// Its shape.
        shape: Vec<usize>,
        /// The declaration.
        span: Span,
    },
}

impl BindError {
    /// As a diagnostic.
    pub fn to_diagnostic(&self) -> Diagnostic {
        let title = self.to_string();
        match self {
            BindError::Count { .. } => Diagnostic::error("input-count", title),
            BindError::Rank { span, .. } => {
                Diagnostic::error("shape-mismatch", title).at(*span, "declared here")
            }
            BindError::Size { set_by, span, .. } => {
                with_origins(Diagnostic::error("shape-mismatch", title).at(*span, "declared here"), set_by)
            }
            BindError::Unsolvable { span, .. } => {
                Diagnostic::error("shape-mismatch", title).at(*span, "declared here")
            }
            BindError::Undecided { symbol } => Diagnostic::error("undecided-dimension", title)
                .help(format!("give it when compiling: `--dim {symbol}=N`")),
            BindError::Check { code, condition, set_by, span, .. } => {
                let label = match condition {
                    Some(condition) => format!("holds only where {condition}"),
                    None => "required here".into(),
                };
                with_origins(Diagnostic::error(code, title).at(*span, label), set_by)
            }
            BindError::Formula { set_by, span, .. } => {
                with_origins(Diagnostic::error("invalid-size", title).at(*span, "made here"), set_by)
            }
            BindError::TooLarge { span, .. } => {
                Diagnostic::error("too-large", title).fault(Fault::Limit).at(*span, "declared here")
            }
        }
    }
}

fn expected_text(formula: &Dim, expected: i64) -> String {
    match formula.as_const() {
        Some(_) => format!("the model has {expected}"),
        None => format!("{formula} is {expected}"),
    }
}

fn with_origins(diagnostic: Diagnostic, set_by: &[(String, i64, AxisOf)]) -> Diagnostic {
    set_by
        .iter()
        .fold(diagnostic, |d, (symbol, value, at)| d.note(format!("`{symbol}` is {value}, set by {at}")))
}

impl DimCheck {
    /// The check as a warning, where it makes one named dimension a number or another one: what is
    /// so narrow is mostly meant otherwise.
    pub fn to_warning(&self, inputs: &[Port]) -> Option<Diagnostic> {
        let DimCondition::Eq(a, b) = &self.condition else { return None };
        let named = |dim: &Dim| dim.as_symbol().is_some();
        let narrow = (named(a) || a.as_const().is_some()) && (named(b) || b.as_const().is_some());
        if !narrow || self.code == Self::REQUIRED {
            return None;
        }
        let (a, b) = if named(a) { (a, b) } else { (b, a) };
        let title = format!("this is right only where {a} is {b}, which each call checks");
        let mut warning = Diagnostic::warning("assumed-size", title).at(self.span, self.message.clone());
        for symbol in a.symbols().into_iter().chain(b.symbols()) {
            let axis = inputs.iter().find_map(|port| {
                let axis = port.ty.shape.iter().position(|dim| dim.as_symbol() == Some(&symbol))?;
                Some((port, axis))
            });
            if let Some((port, axis)) = axis {
                warning = warning.at(port.span, format!("`{symbol}` is axis {axis} of `{}`", port.name));
            }
        }
        Some(warning.help(format!("say so where that is meant: `require {a} == {b}`")))
    }
}

/// The free dimensions of a call with inputs of these shapes, in the signature's order.
///
/// # Errors
/// [`BindError`]: the first shape that does not fit, a dimension that stays open, a condition of
/// the program that does not hold, or an output that is too large.
pub fn bind_dims(
    signature: &Signature,
    checks: &[DimCheck],
    shapes: &[&[usize]],
) -> Result<DimEnv, BindError> {
    let (expected, found) = (signature.inputs.len(), shapes.len());
    if expected != found {
        return Err(BindError::Count { entry: signature.name.clone(), expected, found });
    }
    let mut binder = DimBinder::new();
    for (Port { name, ty, span }, shape) in signature.inputs.iter().zip(shapes) {
        binder.tensor(name, ty, shape, *span)?;
    }
    binder.finish(signature, checks)
}

/// Collects the equations of several tensors, weights included, and solves them.
#[derive(Debug, Default)]
pub struct DimBinder {
    env: DimEnv,
    origins: BTreeMap<Symbol, AxisOf>,
    open: Vec<Equation>,
}

#[derive(Debug)]
struct Equation {
    at: AxisOf,
    formula: Dim,
    found: i64,
    span: Span,
}

impl DimBinder {
    /// No equations.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds the axes of one tensor.
    ///
    /// # Errors
    /// [`BindError::Rank`], and [`BindError::TooLarge`] where the shape is.
    pub fn tensor(
        &mut self,
        name: &str,
        ty: &TensorType,
        shape: &[usize],
        span: Span,
    ) -> Result<(), BindError> {
        if ty.shape.len() != shape.len() {
            let (tensor, expected) = (name.to_string(), type_text(ty));
            return Err(BindError::Rank { tensor, expected, found: shape.to_vec(), span });
        }
        check_count(name, shape, span)?;
        for (axis, (formula, found)) in ty.shape.iter().zip(shape).enumerate() {
            let at = AxisOf { tensor: name.to_string(), axis };
            // The count has been checked, but an axis beside a zero may still be anything.
            let found = i64::try_from(*found).unwrap_or(i64::MAX);
            self.open.push(Equation { at, formula: formula.clone(), found, span });
        }
        Ok(())
    }

    /// Solves the equations and checks the conditions of the program.
    ///
    /// # Errors
    /// As [`bind_dims`].
    pub fn finish(mut self, signature: &Signature, checks: &[DimCheck]) -> Result<DimEnv, BindError> {
        // Plain axes first, so that a contradiction is reported where the formula is compound.
        self.open.sort_by_key(|equation| equation.formula.as_symbol().is_none());
        while !self.open.is_empty() {
            let before = self.open.len();
            for equation in std::mem::take(&mut self.open) {
                if let Some(undecided) = self.solve(equation)? {
                    self.open.push(undecided);
                }
            }
            if self.open.len() == before {
                break;
            }
        }
        if let Some(symbol) = signature.dims.iter().find(|symbol| self.env.get(symbol).is_none()) {
            return Err(BindError::Undecided { symbol: symbol.name().to_string() });
        }
        for check in checks {
            self.check(check)?;
        }
        for Port { name, ty, span } in &signature.outputs {
            let formula = |error| BindError::Formula {
                tensor: name.clone(),
                ty: type_text(ty),
                error,
                set_by: self.origins(ty.shape.iter().flat_map(Dim::symbols)),
                span: *span,
            };
            check_count(name, &self.env.shape(&ty.shape).map_err(formula)?, *span)?;
        }
        Ok(self.env)
    }

    /// Decides one equation, or gives it back.
    fn solve(&mut self, equation: Equation) -> Result<Option<Equation>, BindError> {
        let Equation { at, formula, found, span } = equation;
        let failed = |error| {
            let set_by = self.origins(formula.symbols());
            BindError::Formula { tensor: at.tensor.clone(), ty: formula.to_string(), error, set_by, span }
        };
        let rest = formula.substitute(&|s| self.env.get(s).map(Dim::from)).map_err(failed)?;
        if let Some(expected) = rest.as_const() {
            if expected != found {
                let set_by = self.origins(formula.symbols());
                return Err(BindError::Size { at, formula, expected, found, set_by, span });
            }
            return Ok(None);
        }
        let symbols = rest.symbols();
        let [symbol] = symbols.as_slice() else {
            return Ok(Some(Equation { at, formula, found, span }));
        };
        let solved = solve_for(&rest, symbol, &Dim::from(found)).and_then(|d| d.as_const());
        match solved.filter(|value| *value >= 0) {
            Some(value) => {
                self.env.set(symbol.clone(), value);
                self.origins.insert(symbol.clone(), at);
                Ok(None)
            }
            // A formula that is not linear in the symbol may be decided by another axis.
            None if !is_linear(&rest) => Ok(Some(Equation { at, formula, found, span })),
            None => {
                let symbol = symbol.name().to_string();
                Err(BindError::Unsolvable { at, formula, symbol, found, span })
            }
        }
    }

    fn origins(&self, symbols: impl IntoIterator<Item = Symbol>) -> Vec<(String, i64, AxisOf)> {
        let symbols: std::collections::BTreeSet<Symbol> = symbols.into_iter().collect();
        let origin = |symbol: Symbol| {
            let value = self.env.get(&symbol)?;
            Some((symbol.name().to_string(), value, self.origins.get(&symbol)?.clone()))
        };
        symbols.into_iter().filter_map(origin).collect()
    }

    fn check(&self, check: &DimCheck) -> Result<(), BindError> {
        let mut symbols = Vec::new();
        check.condition.symbols(&mut symbols);
        let failed = |error| BindError::Formula {
            tensor: check.message.clone(),
            ty: condition_text(&check.condition),
            error,
            set_by: self.origins(symbols.clone()),
            span: check.span,
        };
        if self.env.holds(&check.condition).map_err(failed)? {
            return Ok(());
        }
        let condition = (check.code != DimCheck::REQUIRED).then(|| condition_text(&check.condition));
        let (code, message, span) = (check.code, check.message.clone(), check.span);
        Err(BindError::Check { code, message, condition, set_by: self.origins(symbols), span })
    }
}

/// Whether the one symbol of a formula occurs only as itself: once, to the first power.
fn is_linear(formula: &Dim) -> bool {
    let mut terms = formula.terms().iter().filter(|(monomial, _)| !monomial.is_empty());
    let single = |(monomial, coefficient): &(crate::dim::Monomial, i64)| {
        *coefficient == 0 || matches!(monomial.as_slice(), [(crate::dim::Atom::Symbol(_), 1)])
    };
    terms.next().is_some_and(single) && terms.next().is_none()
}

fn check_count(name: &str, shape: &[usize], span: Span) -> Result<(), BindError> {
    match elems(shape) {
        Ok(count) if count <= MAX_ELEMS => Ok(()),
        _ => Err(BindError::TooLarge { tensor: name.to_string(), shape: shape.to_vec(), span }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dtype::DType;
    use crate::span::FileId;

    fn span() -> Span {
        Span::new(FileId(0), 0, 0)
    }

    fn symbol(name: &str, id: u32) -> Symbol {
        Symbol::new(name, id)
    }

    fn port(name: &str, shape: Vec<Dim>) -> Port {
        Port { name: name.into(), ty: TensorType::new(DType::F32, shape), span: span() }
    }

    /// `x: [B, 2*T + 1], y: [T, B] -> [B]`
    fn signature() -> Signature {
        let (b, t) = (Dim::symbol(symbol("B", 0)), Dim::symbol(symbol("T", 1)));
        let compound = t.mul(&Dim::from(2)).unwrap().add(&Dim::ONE).unwrap();
        Signature {
            name: "m.forward".into(),
            inputs: vec![port("x", vec![b.clone(), compound]), port("y", vec![t, b.clone()])],
            outputs: vec![port("z", vec![b])],
            dims: vec![symbol("B", 0), symbol("T", 1)],
            ..Signature::default()
        }
    }

    #[test]
    fn symbols_are_solved_and_ordered() {
        let env = bind_dims(&signature(), &[], &[&[3, 11], &[5, 3]]).unwrap();
        assert_eq!(env.ordered(&signature()), Some(vec![3, 5]));
        let mut alone = signature();
        alone.inputs.truncate(1);
        let env = bind_dims(&alone, &[], &[&[0, 11]]).unwrap();
        assert_eq!(env.ordered(&alone), Some(vec![0, 5]));
    }

    #[test]
    fn contradictions_name_both_inputs() {
        let error = bind_dims(&signature(), &[], &[&[3, 11], &[5, 4]]).unwrap_err();
        assert_eq!(error.to_string(), "axis 1 of `y` has size 4, but B is 3");
        assert_eq!(error.to_diagnostic().notes, ["`B` is 3, set by axis 0 of `x`"]);
        let error = bind_dims(&signature(), &[], &[&[3, 12], &[5, 3]]).unwrap_err();
        assert_eq!(error.to_string(), "axis 1 of `x` has size 12, but 2*T + 1 is 11");
    }

    #[test]
    fn sizes_without_a_solution_are_refused() {
        let mut alone = signature();
        alone.inputs.truncate(1);
        for size in [12, 0] {
            let error = bind_dims(&alone, &[], &[&[3, size]]).unwrap_err();
            assert_eq!(
                error.to_string(),
                format!("axis 1 of `x` has size {size}, which is 2*T + 1 for no size `T`")
            );
        }
        alone.inputs[0].ty.shape.truncate(1);
        let error = bind_dims(&alone, &[], &[&[3]]).unwrap_err();
        assert_eq!(error, BindError::Undecided { symbol: "T".into() });
    }

    #[test]
    fn counts_ranks_and_limits_are_checked() {
        let of = |shapes: &[&[usize]]| bind_dims(&signature(), &[], shapes).unwrap_err();
        assert!(matches!(of(&[&[3, 11]]), BindError::Count { expected: 2, found: 1, .. }));
        assert_eq!(of(&[&[3], &[5, 3]]).to_string(), "`x` is f32[B, 2*T + 1], but the shape given is [3]");
        assert!(matches!(of(&[&[1 << 30, (1 << 20) + 1], &[5, 3]]), BindError::TooLarge { .. }));
        assert!(matches!(of(&[&[usize::MAX, 3], &[1, 3]]), BindError::TooLarge { .. }));
    }

    #[test]
    fn conditions_are_checked_with_their_values() {
        let t = Dim::symbol(symbol("T", 1));
        let check = DimCheck {
            condition: DimCondition::Not(Box::new(DimCondition::Lt(t, Dim::from(4)))),
            code: DimCheck::REQUIRED,
            message: "T is at least 4".into(),
            span: span(),
        };
        assert!(bind_dims(&signature(), std::slice::from_ref(&check), &[&[3, 9], &[4, 3]]).is_ok());
        let error = bind_dims(&signature(), &[check], &[&[3, 5], &[2, 3]]).unwrap_err();
        assert_eq!(error.to_diagnostic().notes, ["`T` is 2, set by axis 0 of `y`"]);
    }
}
