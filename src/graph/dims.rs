//! The sizes of one call: free dimensions from the shapes of what is passed in.
//!
//! Takes a [`Signature`] and actual shapes, gives a [`DimEnv`] in which every dimension of the
//! signature has a value, or says which tensor does not fit and which other one it contradicts.
//! Used by the reference evaluator and by the runtime alike; knows nothing of elements.

use super::ir::{DimCheck, DimCondition, Port, Signature, TensorType};
use super::print::type_text;
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
    #[error("`{tensor}` wants {expected}, its shape is {}", ShapeText(.found))]
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
    #[error("{at} wants {formula} = {expected}, it is {found}")]
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
    #[error("{at} is {found}, which is {formula} for no size `{symbol}`")]
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
        /// What the program says.
        message: String,
        /// The dimensions that occur, with their values.
        values: Vec<(String, i64)>,
        /// Where it comes from.
        span: Span,
    },
    /// A size that cannot be computed, or is negative.
    #[error("`{tensor}` of type {ty} has no size: {error}")]
    Formula {
        /// Name of the tensor, or the condition's text.
        tensor: String,
        /// Its type.
        ty: String,
        /// Why.
        error: DimError,
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
                let diagnostic = Diagnostic::error("shape-mismatch", title).at(*span, "declared here");
                set_by.iter().fold(diagnostic, |d, (symbol, value, at)| {
                    d.help(format!("`{symbol}` is {value}, set by {at}"))
                })
            }
            BindError::Unsolvable { span, .. } => {
                Diagnostic::error("shape-mismatch", title).at(*span, "declared here")
            }
            BindError::Undecided { symbol } => Diagnostic::error("undecided-dimension", title)
                .help(format!("give it when compiling: `--dim {symbol}=N`")),
            BindError::Check { values, span, .. } => {
                let diagnostic = Diagnostic::error("requirement", title).at(*span, "required here");
                values.iter().fold(diagnostic, |d, (symbol, value)| d.help(format!("`{symbol}` is {value}")))
            }
            BindError::Formula { span, .. } => {
                Diagnostic::error("invalid-size", title).at(*span, "declared here")
            }
            BindError::TooLarge { span, .. } => {
                Diagnostic::error("too-large", title).fault(Fault::Limit).at(*span, "declared here")
            }
        }
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
            let formula =
                |error| BindError::Formula { tensor: name.clone(), ty: type_text(ty), error, span: *span };
            check_count(name, &self.env.shape(&ty.shape).map_err(formula)?, *span)?;
        }
        Ok(self.env)
    }

    /// Decides one equation, or gives it back.
    fn solve(&mut self, equation: Equation) -> Result<Option<Equation>, BindError> {
        let Equation { at, formula, found, span } = equation;
        let failed =
            |error| BindError::Formula { tensor: at.tensor.clone(), ty: formula.to_string(), error, span };
        let rest = formula.substitute(&|s| self.env.get(s).map(Dim::from)).map_err(failed)?;
        if let Some(expected) = rest.as_const() {
            if expected != found {
                let set_by = self.origins(&formula);
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

    fn origins(&self, formula: &Dim) -> Vec<(String, i64, AxisOf)> {
        let origin = |symbol: Symbol| {
            let value = self.env.get(&symbol)?;
            Some((symbol.name().to_string(), value, self.origins.get(&symbol)?.clone()))
        };
        formula.symbols().into_iter().filter_map(origin).collect()
    }

    fn check(&self, check: &DimCheck) -> Result<(), BindError> {
        let failed = |error| BindError::Formula {
            tensor: check.message.clone(),
            ty: super::print::condition_text(&check.condition),
            error,
            span: check.span,
        };
        if self.env.holds(&check.condition).map_err(failed)? {
            return Ok(());
        }
        let mut symbols = Vec::new();
        check.condition.symbols(&mut symbols);
        symbols.sort();
        symbols.dedup();
        let values = symbols.iter().filter_map(|s| Some((s.name().to_string(), self.env.get(s)?)));
        Err(BindError::Check { message: check.message.clone(), values: values.collect(), span: check.span })
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
        assert_eq!(error.to_string(), "axis 1 of `y` wants B = 3, it is 4");
        assert_eq!(error.to_diagnostic().help, ["`B` is 3, set by axis 0 of `x`"]);
        let error = bind_dims(&signature(), &[], &[&[3, 12], &[5, 3]]).unwrap_err();
        assert_eq!(error.to_string(), "axis 1 of `x` wants 2*T + 1 = 11, it is 12");
    }

    #[test]
    fn sizes_without_a_solution_are_refused() {
        let mut alone = signature();
        alone.inputs.truncate(1);
        for size in [12, 0] {
            let error = bind_dims(&alone, &[], &[&[3, size]]).unwrap_err();
            assert_eq!(
                error.to_string(),
                format!("axis 1 of `x` is {size}, which is 2*T + 1 for no size `T`")
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
        assert_eq!(of(&[&[3], &[5, 3]]).to_string(), "`x` wants f32[B, 2*T + 1], its shape is [3]");
        assert!(matches!(of(&[&[1 << 30, (1 << 20) + 1], &[5, 3]]), BindError::TooLarge { .. }));
        assert!(matches!(of(&[&[usize::MAX, 3], &[1, 3]]), BindError::TooLarge { .. }));
    }

    #[test]
    fn conditions_are_checked_with_their_values() {
        let t = Dim::symbol(symbol("T", 1));
        let check = DimCheck {
            condition: DimCondition::Not(Box::new(DimCondition::Lt(t, Dim::from(4)))),
            message: "T is at least 4".into(),
            span: span(),
        };
        assert!(bind_dims(&signature(), std::slice::from_ref(&check), &[&[3, 9], &[4, 3]]).is_ok());
        let error = bind_dims(&signature(), &[check], &[&[3, 5], &[2, 3]]).unwrap_err();
        assert_eq!(error.to_diagnostic().help, ["`T` is 2"]);
    }
}
