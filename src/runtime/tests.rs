//! Binding and calling: what is refused, with which words, and that threads agree.

use super::{BindError, CallError, Compiled, WeightFault, Weights};
use crate::codegen::clif::tests::{Kit, for_loop, noise, span};
use crate::dim::Dim;
use crate::dtype::DType;
use crate::graph::ir::{TensorType, Weight};
use crate::loops::ir::{BufferKind, LoopKind, Stmt};
use crate::ops::init::Init;
use crate::ops::scalar::BinaryOp;
use crate::tensor::Tensor;

fn weight(path: &str, aliases: &[&str]) -> Weight {
    Weight {
        path: path.into(),
        aliases: aliases.iter().map(ToString::to_string).collect(),
        ty: TensorType::new(DType::F32, vec![Dim::from(3)]),
        buffer: false,
        init: Init::Fill(2.0),
        span: span(),
    }
}

/// `y[i, j] = x[i, j] * (a[j] + b[j])`, the sum packed at bind.
fn compiled() -> Compiled {
    let three = Dim::from(3);
    let mut bind = Kit::new("bind");
    let [a, b] = ["a", "b"].map(|name| bind.input(name, DType::F32, vec![three.clone()]));
    let packed = bind.output("packed", DType::F32, vec![three.clone()]);
    let (j, jv) = bind.var("j");
    let (left, right, extent) = (bind.load(a, jv), bind.load(b, jv), bind.int(3));
    let value = bind.binary(BinaryOp::Add, left, right);
    let store = Stmt::Store { buffer: packed, index: jv, value };
    bind.func.body = vec![for_loop(j, extent, LoopKind::Vector, vec![store])];

    let mut kit = Kit::new("net.forward");
    let n = kit.symbol("N");
    let x = kit.input("x", DType::F32, vec![n.clone(), three.clone()]);
    let packed = kit.buffer("packed", DType::F32, three.clone(), BufferKind::Arg(1));
    let y = kit.output("y", DType::F32, vec![n.clone(), three]);
    let ((i, iv), (j, jv)) = (kit.var("i"), kit.var("j"));
    let (rows, columns) = (kit.dim(&n), kit.int(3));
    let line = kit.binary(BinaryOp::Mul, iv, columns);
    let index = kit.binary(BinaryOp::Add, line, jv);
    let (element, factor) = (kit.load(x, index), kit.load(packed, jv));
    let value = kit.binary(BinaryOp::Mul, element, factor);
    let inner = for_loop(j, columns, LoopKind::Vector, vec![Stmt::Store { buffer: y, index, value }]);
    kit.callees.push(bind.func);
    kit.signature.weights = vec![weight("a", &["tied.a"]), weight("b", &[])];
    let mut program = kit.program(vec![for_loop(i, rows, LoopKind::Parallel, vec![inner])]);
    program.bind = Some(0);
    Compiled::new(program).unwrap()
}

fn tensor(values: &[f32]) -> Tensor {
    Tensor::new([values.len()], values.to_vec()).unwrap()
}

fn weights() -> Weights {
    Weights::from_tensors([
        ("a".to_string(), tensor(&[1.0, 2.0, 3.0])),
        ("b".into(), tensor(&[1.0, 1.0, 1.0])),
    ])
}

fn faults(weights: &Weights) -> Vec<WeightFault> {
    match compiled().bind(weights) {
        Err(BindError::Weights { faults, .. }) => faults,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_model_computes_with_packed_weights() {
    let model = compiled().bind(&weights()).unwrap();
    let x = Tensor::new([2, 3], vec![1.0f32, 1.0, 1.0, 2.0, 2.0, 2.0]).unwrap();
    let outputs = model.call([("x", x.view())]).unwrap();
    assert_eq!(outputs.get("y").unwrap().as_f32().unwrap(), [2.0, 3.0, 4.0, 4.0, 6.0, 8.0]);
    let none = Tensor::zeros(DType::F32, [0, 3]).unwrap();
    assert_eq!(model.call([("x", none.view())]).unwrap().get("y").unwrap().shape(), [0, 3]);
}

#[test]
fn all_differences_of_weights_are_told_at_once() {
    let mut wrong = Weights::new();
    wrong.insert("a", Tensor::zeros(DType::F64, [4]).unwrap());
    wrong.insert("c", tensor(&[1.0]));
    let found = faults(&wrong);
    let texts: Vec<String> = found.iter().map(ToString::to_string).collect();
    assert_eq!(
        texts,
        [
            "missing     b: f32[3]",
            "unexpected  c: f32[1]",
            "differs     a: the model has f32[3], given is f64[4]",
        ]
    );
    assert!(compiled().bind(&weights().allow_extra()).is_ok());
}

#[test]
fn tied_names_may_both_be_given_if_equal() {
    let mut both = weights();
    both.insert("tied.a", tensor(&[1.0, 2.0, 3.0]));
    assert!(compiled().bind(&both).is_ok());
    both.insert("tied.a", tensor(&[1.0, 2.0, 4.0]));
    assert_eq!(faults(&both), [WeightFault::Tied { path: "a".into(), alias: "tied.a".into() }]);
}

#[test]
fn initialisers_fill_what_is_missing() {
    let model = compiled().bind(&Weights::initialised(1)).unwrap();
    let x = Tensor::new([1, 3], vec![1.0f32; 3]).unwrap();
    assert_eq!(model.call([("x", x.view())]).unwrap().get("y").unwrap().as_f32().unwrap(), [4.0; 3]);
}

#[test]
fn calls_refuse_what_does_not_fit() {
    let model = compiled().bind(&weights()).unwrap();
    let x = Tensor::zeros(DType::F32, [2, 3]).unwrap();
    let call = |inputs: &[(&str, &Tensor)]| {
        model.call(inputs.iter().map(|(name, tensor)| (*name, tensor.view()))).unwrap_err()
    };
    assert!(matches!(call(&[]), CallError::Missing(names) if names == ["x"]));
    assert!(matches!(call(&[("z", &x)]), CallError::UnknownInput { .. }));
    assert!(matches!(call(&[("x", &x), ("x", &x)]), CallError::Duplicate(_)));
    let wide = Tensor::zeros(DType::F32, [2, 4]).unwrap();
    assert!(matches!(call(&[("x", &wide)]), CallError::Shape(_)));
    let long = Tensor::zeros(DType::I64, [2, 3]).unwrap();
    assert!(matches!(call(&[("x", &long)]), CallError::DType { .. }));
}

#[test]
fn sixteen_threads_get_the_same_bits() {
    let model = compiled().bind(&weights()).unwrap();
    let inputs: Vec<Tensor> =
        (0..16).map(|k| Tensor::new([k + 1, 3], noise(3 * (k + 1), k as u64)).unwrap()).collect();
    let alone: Vec<_> = inputs.iter().map(|x| model.call([("x", x.view())]).unwrap()).collect();
    std::thread::scope(|scope| {
        for (x, wanted) in inputs.iter().zip(&alone) {
            let model = &model;
            scope.spawn(move || {
                for _ in 0..50 {
                    assert_eq!(&model.call([("x", x.view())]).unwrap(), wanted);
                }
            });
        }
    });
}
