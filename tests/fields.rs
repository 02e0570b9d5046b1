//! Receptive fields against what the reference evaluator does. Each input element in turn is changed:
//! the outputs that differ take part of it, so it must lie in what the analysis says. It is also made
//! NaN: an output that stays what it is takes no part of it, so where the analysis claims to be exact,
//! it must say no more than that.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use mdlc::analysis::field::{AxisField, Coord, Domain, Positions, Rows, fields};
use mdlc::driver::Compiler;
use mdlc::dtype::DType;
use mdlc::graph::dims::{DimEnv, bind_dims};
use mdlc::graph::eval::{Mode, evaluate};
use mdlc::ops::init::{Init, initialise};
use mdlc::tensor::{Data, Tensor};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// A model and the sizes at which it is probed.
struct Probe<'a> {
    file: &'a str,
    model: &'a str,
    set: &'a [(&'a str, &'a str)],
    dims: &'a [(&'a str, i64)],
}

fn drawn(shape: &[usize], name: &str) -> Tensor {
    initialise(&Init::Normal(0.5), DType::F64, shape, name, 1).unwrap()
}

fn values(tensor: &Tensor) -> Vec<f64> {
    match tensor.data() {
        Data::F64(values) => values.clone(),
        Data::I64(values) => values.iter().map(|v| *v as f64).collect(),
        Data::Bool(values) => values.iter().map(|v| f64::from(u8::from(*v))).collect(),
        _ => panic!("another type"),
    }
}

/// The positions on an axis of an input by output, element of the output, input and axis.
type Touched = BTreeMap<(usize, usize, usize, usize), BTreeSet<i64>>;

fn touch(
    touched: &mut Touched,
    before: &[Vec<f64>],
    after: &[Tensor],
    input: usize,
    at: &[i64],
    differs: &dyn Fn(f64, f64) -> bool,
) {
    for (output, (before, after)) in before.iter().zip(after).enumerate() {
        for (element, (a, b)) in before.iter().zip(values(after)).enumerate() {
            if differs(*a, b) {
                for (axis, position) in at.iter().enumerate() {
                    touched.entry((output, element, input, axis)).or_default().insert(*position);
                }
            }
        }
    }
}

fn unravel(mut at: usize, shape: &[usize]) -> Vec<i64> {
    let mut point = vec![0; shape.len()];
    for (k, n) in shape.iter().enumerate().rev() {
        point[k] = (at % n) as i64;
        at /= n;
    }
    point
}

/// The positions of a window for one point, on an axis of `extent`; and whether they are all inside.
fn window(positions: &Positions, point: &[i64], dims: &DimEnv, extent: i64) -> (BTreeSet<i64>, bool) {
    let coord = |coord: Coord| match coord {
        Coord::Axis(axis) => point[axis],
        Coord::Var(_) => panic!("a position of a recurrence is left"),
    };
    let number = |dim: &mdlc::dim::Dim| dims.eval(dim).unwrap();
    let mut base = number(&positions.base);
    base += positions.linear.iter().map(|(at, c)| number(c) * coord(*at)).sum::<i64>();
    let mut row = 0;
    if let Some(cycle) = &positions.cycle {
        row = coord(cycle.coord).rem_euclid(cycle.period) as usize;
        base += number(&cycle.advance) * coord(cycle.coord).div_euclid(cycle.period);
    }
    let all: Vec<i64> = match &positions.rows {
        Rows::Exact(rows) => rows[row].iter().unwrap().map(|v| v + base).collect(),
        Rows::Hull(rows) => match &rows[row] {
            None => Vec::new(),
            Some(hull) => {
                let low = hull.low.as_ref().map_or(0, |low| number(low) + base);
                let high = hull.high.as_ref().map_or(extent - 1, |high| number(high) + base);
                (low..=high).collect()
            }
        },
    };
    let inside = all.iter().all(|v| (0..extent).contains(v));
    (all.into_iter().filter(|v| (0..extent).contains(v)).collect(), inside)
}

/// Probes a model; returns how many windows were found equal to what is touched.
fn probe(probe: &Probe) -> usize {
    let mut compiler = Compiler::new().model(probe.model);
    for (name, value) in probe.set {
        compiler = compiler.set(*name, *value);
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(probe.file);
    let program = compiler.elaborate_file(&path).unwrap().program;
    let signature = &program.signature;
    let mut dims = DimEnv::new();
    for (name, size) in probe.dims {
        dims.set(signature.dims.iter().find(|s| s.name() == *name).unwrap().clone(), *size);
    }
    let shape = |shape: &[mdlc::dim::Dim]| dims.shape(shape).unwrap();
    let as_declared = |tensor: Tensor, dtype: DType| match (dtype, tensor.data()) {
        (DType::F32, Data::F64(v)) => {
            Tensor::new(tensor.shape().to_vec(), v.iter().map(|x| *x as f32).collect::<Vec<_>>()).unwrap()
        }
        (DType::F32 | DType::F64, _) => tensor,
        (dtype, _) => Tensor::zeros(dtype, tensor.shape().to_vec()).unwrap(),
    };
    let inputs: Vec<Tensor> = signature
        .inputs
        .iter()
        .map(|p| as_declared(drawn(&shape(&p.ty.shape), &p.name), p.ty.dtype))
        .collect();
    let weights: Vec<Tensor> = signature
        .weights
        .iter()
        .map(|w| as_declared(drawn(&shape(&w.ty.shape), &w.path), w.ty.dtype))
        .collect();
    let shapes: Vec<&[usize]> = inputs.iter().map(Tensor::shape).collect();
    let bound = bind_dims(signature, &program.checks, &shapes).unwrap();
    let run = |inputs: &[Tensor]| evaluate(&program, inputs, &weights, &bound, Mode::F64).unwrap();
    let before: Vec<Vec<f64>> = run(&inputs).iter().map(values).collect();
    let (mut changed, mut poisoned) = (Touched::new(), Touched::new());
    for (k, input) in inputs.iter().enumerate().filter(|(_, tensor)| tensor.dtype() == DType::F32) {
        for element in 0..input.elems() {
            let at = unravel(element, input.shape());
            for value in [f32::NAN, -9.0, 9.0] {
                let mut numbers = input.clone().into_f32().unwrap();
                numbers[element] = value;
                let mut inputs = inputs.clone();
                inputs[k] = Tensor::new(input.shape().to_vec(), numbers).unwrap();
                let after = run(&inputs);
                if value.is_nan() {
                    touch(&mut poisoned, &before, &after, k, &at, &|a, b| a != b);
                } else {
                    touch(&mut changed, &before, &after, k, &at, &|a, b| a != b);
                }
            }
        }
    }
    let said = fields(&program);
    let mut equal = 0;
    for (output, port) in signature.outputs.iter().enumerate() {
        let size = bound.shape(&port.ty.shape).unwrap();
        for result in 0..size.iter().product() {
            let point = unravel(result, &size);
            for (k, input) in inputs.iter().enumerate() {
                for (axis, extent) in input.shape().iter().enumerate() {
                    let key = (output, result, k, axis);
                    let found = [&changed, &poisoned].map(|t| t.get(&key).cloned().unwrap_or_default());
                    let here = said.iter().filter(|f| (f.output, f.input, f.axis) == (output, k, axis));
                    let here: Vec<&AxisField> = here.filter(|f| holds(&f.domain, &point, &bound)).collect();
                    let place =
                        format!("{}: output {output} at {point:?}, input {k}, axis {axis}", probe.model);
                    equal += usize::from(agrees(&here, &found, &point, &bound, *extent as i64, &place));
                }
            }
        }
    }
    equal
}

/// Whether a point lies in a domain.
fn holds(domain: &Domain, point: &[i64], dims: &DimEnv) -> bool {
    domain.bounds.iter().all(|bound| {
        let terms = bound.terms.iter().map(|(coord, c)| match coord {
            Coord::Axis(axis) => dims.eval(c).unwrap() * point[*axis],
            Coord::Var(_) => panic!("a position of a recurrence is left"),
        });
        let sum = terms.sum::<i64>() + dims.eval(&bound.constant).unwrap();
        if bound.zero { sum == 0 } else { sum >= 0 }
    })
}

/// Whether windows were found to be exactly what is touched; panics where they are wrong.
fn agrees(
    fields: &[&AxisField],
    [changed, poisoned]: &[BTreeSet<i64>; 2],
    point: &[i64],
    dims: &DimEnv,
    extent: i64,
    place: &str,
) -> bool {
    let (mut said, mut exact) = (BTreeSet::new(), true);
    let mut border = false;
    for field in fields {
        for part in field.windows.parts() {
            let (positions, inside) = window(part, point, dims, extent);
            said.extend(positions);
            exact &= inside;
        }
        let notes = field.notes();
        exact &= !notes.bound && !notes.data && !notes.border;
        border |= notes.border;
    }
    assert!(border || changed.is_subset(&said), "{place}: {changed:?} matters, {said:?} is said");
    // What is masked depends on nothing.
    if !exact || changed.is_empty() {
        return false;
    }
    assert!(said.is_subset(poisoned), "{place}: {poisoned:?} is touched, {said:?} is said");
    said == *changed
}

#[test]
fn fields_are_what_is_touched() {
    let convolution = "models/convolution.mdl";
    let set = |text: &'static [(&str, &str)]| text;
    let probes = [
        Probe {
            file: convolution,
            model: "conv1d_layer",
            set: set(&[("I", "2"), ("O", "2"), ("stride", "2"), ("dilation", "3")]),
            dims: &[("B", 2), ("L", 15)],
        },
        Probe {
            file: convolution,
            model: "conv1d_layer",
            set: set(&[("I", "4"), ("O", "6"), ("groups", "2")]),
            dims: &[("B", 1), ("L", 6)],
        },
        Probe {
            file: convolution,
            model: "conv_transpose1d",
            set: set(&[("I", "2"), ("O", "2"), ("stride", "3"), ("dilation", "2")]),
            dims: &[("B", 1), ("L", 6)],
        },
        Probe {
            file: convolution,
            model: "conv_transpose1d",
            set: set(&[("I", "1"), ("O", "1"), ("k", "2"), ("dilation", "2"), ("padding", "0")]),
            dims: &[("B", 1), ("L", 5)],
        },
        Probe {
            file: convolution,
            model: "wavenet",
            set: set(&[("C", "1"), ("layers", "[(3, 1, 1), (2, 1, 4), (2, 2, 3), (3, 2, 1)]")]),
            dims: &[("B", 1), ("L", 31)],
        },
        Probe { file: convolution, model: "conv_matrix", set: &[], dims: &[("B", 1), ("L", 9), ("M", 5)] },
        Probe {
            file: "models/ops/pooling.mdl",
            model: "pool1d",
            set: &[],
            dims: &[("B", 1), ("C", 2), ("L", 12)],
        },
        Probe {
            file: "models/ops/pooling.mdl",
            model: "paddings",
            set: &[],
            dims: &[("B", 1), ("C", 2), ("H", 5), ("W", 8)],
        },
        Probe {
            file: "models/unet.mdl",
            model: "basic_unet_small",
            set: set(&[("I", "1"), ("f", "[1, 1, 1, 1, 1, 1]")]),
            dims: &[("B", 1), ("H", 16), ("W", 16)],
        },
        Probe {
            file: "models/attention.mdl",
            model: "self_attention",
            set: set(&[("D", "2")]),
            dims: &[("B", 2), ("T", 3)],
        },
        Probe {
            file: "models/primer.mdl",
            model: "primer",
            set: set(&[("D", "4"), ("heads", "2"), ("F", "3")]),
            dims: &[("B", 1), ("T", 6)],
        },
        Probe {
            file: "models/multihead_attention.mdl",
            model: "headwise_attention_causal",
            set: set(&[("D", "4"), ("heads", "2")]),
            dims: &[("B", 1), ("T", 5)],
        },
        Probe {
            file: "models/sparse_attention.mdl",
            model: "sparse_strided",
            set: set(&[("D", "4"), ("heads", "2")]),
            dims: &[("B", 1), ("T", 8)],
        },
        Probe {
            file: "models/lstm.mdl",
            model: "lstm",
            set: set(&[("I", "2"), ("H", "2"), ("layers", "2")]),
            dims: &[("B", 2), ("T", 4)],
        },
        Probe {
            file: "models/rnn.mdl",
            model: "birnn",
            set: set(&[("I", "2"), ("H", "2")]),
            dims: &[("B", 1), ("T", 4)],
        },
        Probe {
            file: "models/jacobian.mdl",
            model: "jacobian_tanh",
            set: set(&[("I", "2"), ("H", "2")]),
            dims: &[("T", 4)],
        },
    ];
    let mut table = Vec::new();
    for one in &probes {
        let equal = probe(one);
        assert!(equal > 0, "{}: nothing was compared", one.model);
        table.push(format!("{:<28}{equal}", one.model));
    }
}
