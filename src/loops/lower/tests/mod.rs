//! The same programs evaluated as graphs and run as loops give the same values.

mod assembled;
mod ops;
mod random;
mod routes;
mod shown;

use crate::dim::{Dim, Symbol};
use crate::graph::dims::{self, DimEnv, bind_dims};
use crate::graph::eval::{EvalError, Mode, evaluate};
use crate::graph::ir::Program;
use crate::loops::buffers::plan;
use crate::loops::buffers::tests::overlapping;
use crate::loops::interp::{Order, RunError, run};
use crate::loops::ir::LoopProgram;
use crate::loops::lower::lower;
use crate::loops::verify::verify;
use crate::ops::value::Scalar;
use crate::runtime::{CallError, Compiled, Weights};
use crate::tensor::{Data, Tensor};

/// Lowers, lays out, and runs in both orders, and compares with the graph's evaluation. Gives the
/// outputs, or the code of the failure that both report.
pub(crate) fn agree(program: &Program, inputs: &[Tensor], weights: &[Tensor]) -> Result<Vec<Tensor>, String> {
    agree_with(program, program, inputs, weights)
}

/// [`agree`] of a program with the evaluation of the one it was made from.
pub(crate) fn agree_with(
    origin: &Program,
    program: &Program,
    inputs: &[Tensor],
    weights: &[Tensor],
) -> Result<Vec<Tensor>, String> {
    crate::graph::verify::verify(program).unwrap();
    let dims = dims(program, inputs);
    let expected = evaluate(origin, inputs, weights, &dims, Mode::Declared);
    let loops = match lower(program) {
        Ok(loops) => loops,
        Err(errors) => {
            assert!(expected.is_err(), "{errors:?}");
            return Err(errors[0].code.into());
        }
    };
    let shown = || crate::loops::print::print(&loops, None);
    verify(&loops).unwrap_or_else(|error| panic!("{error}\n{}", shown()));
    let lookup = |symbol: &Symbol| dims.get(symbol).or(Some(0));
    let plan = plan(&loops).unwrap();
    assert_eq!(overlapping(&plan, &lookup).unwrap(), None, "{}", shown());
    let mut found = Err(String::new());
    for order in [Order::Forwards, Order::Backwards] {
        let given = run(&loops, &plan, inputs, weights, &lookup, order);
        match (&expected, given) {
            (Ok(expected), Ok(given)) => {
                for (expected, given) in expected.iter().zip(&given) {
                    assert_same(expected, given, &shown());
                }
                found = Ok(given);
            }
            (Err(expected), Err(RunError::Failed { code, .. })) if is_failure(expected) => {
                found = Err(code.into());
            }
            (expected, given) => panic!("expected {expected:?}\nfound {given:?}\n{}", shown()),
        }
    }
    if let Some(given) = native(&loops, inputs, weights) {
        match (&expected, given) {
            (Ok(expected), Ok(given)) => {
                for (expected, given) in expected.iter().zip(&given) {
                    assert_same(expected, given, &shown());
                }
            }
            (Err(expected), Err(code)) if is_failure(expected) => assert_eq!(found, Err(code)),
            (expected, given) => panic!("expected {expected:?}\nfound natively {given:?}\n{}", shown()),
        }
    }
    found
}

/// What the compiled program gives, or the code of its failure; nothing where the program reads
/// weights that were not split off, or has dimensions that no input decides.
fn native(
    program: &LoopProgram,
    inputs: &[Tensor],
    weights: &[Tensor],
) -> Option<Result<Vec<Tensor>, String>> {
    if program.bind.is_none() && !program.signature.weights.is_empty() {
        return None;
    }
    let named = program.signature.weights.iter().map(|weight| weight.path.clone());
    let named = Weights::from_tensors(named.zip(weights.iter().cloned()));
    let model = Compiled::new(program.clone()).unwrap().bind(&named).unwrap();
    let names = program.signature.inputs.iter().map(|port| port.name.as_str());
    match model.call(names.zip(inputs.iter().map(Tensor::view))) {
        Ok(outputs) => Some(Ok(outputs.into_tensors().into_values().collect())),
        Err(CallError::Failed(failed)) => Some(Err(failed.code.to_string())),
        Err(CallError::Shape(dims::BindError::Undecided { .. })) => None,
        Err(error) => panic!("{error}"),
    }
}

/// The sizes of a call; what no input mentions is left out.
pub(crate) fn dims(program: &Program, inputs: &[Tensor]) -> DimEnv {
    let shapes: Vec<&[usize]> = inputs.iter().map(Tensor::shape).collect();
    let mut signature = program.signature.clone();
    let ports = signature.inputs.iter().flat_map(|port| &port.ty.shape);
    let used: Vec<Symbol> = ports.flat_map(Dim::symbols).collect();
    signature.dims.retain(|symbol| used.contains(symbol));
    bind_dims(&signature, &program.checks, &shapes).unwrap()
}

/// Whether a call fails so, and not for a fault of the program.
fn is_failure(error: &EvalError) -> bool {
    matches!(error, EvalError::OutOfRange { .. } | EvalError::DivisionByZero { .. })
}

fn assert_same(expected: &Tensor, found: &Tensor, shown: &str) {
    assert_eq!(expected.shape(), found.shape(), "{shown}");
    for at in 0..expected.elems() {
        let (a, b) = (element(expected, at), element(found, at));
        let close = match (a, b) {
            (Scalar::F32(x), Scalar::F32(y)) => near(f64::from(x), f64::from(y), 1e-4),
            (Scalar::F64(x), Scalar::F64(y)) => near(x, y, 1e-9),
            _ => a == b,
        };
        assert!(close, "element {at}: expected {a:?}, found {b:?}\n{shown}");
    }
}

fn near(x: f64, y: f64, tolerance: f64) -> bool {
    x == y || (x.is_nan() && y.is_nan()) || (x - y).abs() <= tolerance * (1.0 + x.abs().max(y.abs()))
}

fn element(tensor: &Tensor, at: usize) -> Scalar {
    match tensor.data() {
        Data::F32(v) => Scalar::F32(v[at]),
        Data::F64(v) => Scalar::F64(v[at]),
        Data::I32(v) => Scalar::I32(v[at]),
        Data::I64(v) => Scalar::I64(v[at]),
        Data::Bool(v) => Scalar::Bool(v[at]),
    }
}
