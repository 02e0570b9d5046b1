//! Nothing outside a buffer is touched, whatever the sizes, and whatever the indices in the inputs.

use super::alone::alone;
use super::corpus::root;
use super::guarded::{ALL, Called, Flush, Native};
use mdlc::codegen::target::Kernels;
use mdlc::driver::cases::{Check, Prepared};
use mdlc::driver::table::Table;
use mdlc::runtime::Compiled;
use mdlc::tensor::{Data, Tensor};
use std::collections::BTreeSet;
use std::fs;

/// One call of a third-party case, compiled.
struct Case {
    name: String,
    kernels: Kernels,
    native: Native,
    inputs: Vec<Tensor>,
    weights: Vec<Tensor>,
    /// What the runtime gives.
    outputs: Vec<Tensor>,
}

/// Does something with every call of every case, by both kinds of code.
fn for_each_case(mut work: impl FnMut(Case)) {
    let base = root().join("tests/oracles");
    let table: Table = toml::from_str(&fs::read_to_string(base.join("cases.toml")).unwrap()).unwrap();
    for case in &table.cases {
        let check = Check::of_case(case, &base).unwrap();
        for call in &check.calls {
            let Prepared { mut unit, inputs, weights } = check.prepare(call).unwrap();
            unit.optimise(None).unwrap();
            let loops = unit.lower().unwrap();
            for kernels in ALL {
                let model =
                    Compiled::with(loops.clone(), kernels, None).unwrap().bind(&check.weights).unwrap();
                let ports = unit.program.signature.inputs.iter();
                let named = ports.zip(&inputs).map(|(port, (_, t))| (port.name.as_str(), t.view()));
                let outputs = model.call(named).unwrap().into_tensors().into_values().collect();
                work(Case {
                    name: case.name.clone(),
                    kernels,
                    native: Native::new(loops.clone(), kernels),
                    inputs: inputs.iter().map(|(_, tensor)| tensor.clone()).collect(),
                    weights: weights.clone(),
                    outputs,
                });
            }
        }
    }
}

impl Case {
    /// `what` tells calls of a case apart in the report of a fault.
    fn call(&self, what: &str, inputs: &[Tensor], flush: Flush) -> Called {
        let env = self.native.dims(inputs, &self.weights).unwrap();
        self.native.call(
            &format!("{} {what}, kernels {:?}", self.name, self.kernels),
            inputs,
            &self.weights,
            &env,
            flush,
        )
    }
}

/// All cases with every buffer flush with a guard page, behind it or before it. Buffers are aligned to
/// their elements only, and the bits are those that the runtime gives.
#[test]
fn every_case_stays_in_its_buffers() {
    alone("indices::every_case_stays_in_its_buffers", stay_in_buffers);
}

fn stay_in_buffers() {
    let mut calls = 0;
    for_each_case(|case| {
        for flush in [Flush::End, Flush::Start] {
            let called = case.call("as it is", &case.inputs, flush);
            assert_eq!(called.failed, None, "{}", case.name);
            for (k, (guarded, tensor)) in called.outputs.iter().zip(&case.outputs).enumerate() {
                let wanted = tensor.to_le_bytes_vec();
                assert!(guarded.bytes().starts_with(&wanted), "{}: output {k} has other bits", case.name);
            }
        }
        calls += 1;
    });
    println!("{calls} calls");
}

/// The tensor with one integer replaced.
fn with_index(tensor: &Tensor, at: usize, index: i64) -> Tensor {
    let mut changed = tensor.clone();
    changed.as_i64_mut().unwrap()[at] = index;
    changed
}

/// Inputs whose elements are indices only after something was computed, which is when a wrong one is
/// found: `ends` has a loop added at every node, and where a bag stops is computed from the offsets.
const COMPUTED: [(&str, usize); 2] = [("s42_gat_conv", 1), ("op_embedding", 1)];

/// Indices that come from inputs: extremes, and the last one that is right beside the first that is
/// wrong. A wrong one is found before an output is written.
#[test]
fn wrong_indices_are_found_and_nothing_is_written() {
    alone("indices::wrong_indices_are_found_and_nothing_is_written", refuse_wrong_indices);
}

fn refuse_wrong_indices() {
    let (mut wrong, mut inputs_tried, mut refused) = (BTreeSet::new(), 0, 0);
    for_each_case(|case| {
        for (k, input) in case.inputs.iter().enumerate() {
            let Data::I64(values) = input.data() else { continue };
            if values.is_empty() {
                continue;
            }
            inputs_tried += 1;
            for at in [0, values.len() / 2, values.len() - 1] {
                let mut fails = |index: i64, flush: Flush| -> bool {
                    let mut inputs = case.inputs.clone();
                    inputs[k] = with_index(input, at, index);
                    let called = case.call(&format!("with input {k}[{at}] = {index}"), &inputs, flush);
                    let Some(site) = called.failed else { return false };
                    refused += 1;
                    let written = called.outputs.iter().any(|output| !output.is_untouched());
                    if written && !COMPUTED.contains(&(case.name.as_str(), k)) {
                        let message = case.native.site(site);
                        wrong.insert(format!("{}: input {k}: written before {message}", case.name));
                    }
                    true
                };
                let extremes = [-1, i64::MIN, i64::MAX, 1 << 32, -(1 << 32)];
                let mut any = false;
                for index in extremes {
                    any |= fails(index, Flush::End) | fails(index, Flush::Start);
                }
                if !any {
                    // It is no index: a label that is compared, or a length.
                    continue;
                }
                // The first index above that is refused, by bisection.
                let (mut right, mut above) = (values[at].max(0), 1 << 32);
                while above - right > 1 {
                    let middle = right + (above - right) / 2;
                    if fails(middle, Flush::End) { above = middle } else { right = middle }
                }
                fails(right, Flush::Start);
                fails(above, Flush::Start);
            }
        }
    });
    println!("{inputs_tried} inputs of integers, {refused} calls refused");
    assert!(refused > 100, "only {refused} calls were refused: the cases hold too few indices");
    assert!(wrong.is_empty(), "{wrong:#?}");
}
