//! What a process sees of compiled models: threads that agree, memory that is never both writable and
//! executable, and memory that comes back.

use super::alone::alone;
use super::corpus::root;
use super::effort;
use mdlc::driver::cases::{Check, Prepared};
use mdlc::driver::table::{Case, Table};
use mdlc::loops::ir::LoopProgram;
use mdlc::runtime::{Compiled, Weights};
use mdlc::tensor::Tensor;
use std::fs;

/// The cases that call a model; some only ask for tables of sizes.
fn table() -> Vec<Case> {
    let text = fs::read_to_string(root().join("tests/oracles/cases.toml")).unwrap();
    let mut cases = toml::from_str::<Table>(&text).unwrap().cases;
    cases.retain(|case| !Check::of_case(case, &root().join("tests/oracles")).unwrap().calls.is_empty());
    cases
}

/// The loop nests of the first call of a case, its weights, and its inputs by name.
fn lowered(case: &Case) -> (LoopProgram, Weights, Vec<(String, Tensor)>) {
    let check = Check::of_case(case, &root().join("tests/oracles")).unwrap();
    let Prepared { mut unit, inputs, .. } = check.prepare(&check.calls[0]).unwrap();
    unit.optimise(None).unwrap();
    let loops = unit.lower().unwrap();
    let ports = unit.program.signature.inputs.iter();
    let named = ports.zip(inputs).map(|(port, (_, tensor))| (port.name.clone(), tensor)).collect();
    (loops, check.weights, named)
}

/// One model, sixteen threads, calls that overlap: every thread gets the bits that one call alone gets.
/// Each thread also compiles the program for itself once, while the others call.
#[test]
fn sixteen_threads_get_the_same_bits() {
    for name in
        ["s22_lstm_2layer", "s60_encoder_stack", "s42_gat_conv", "s12_moe_top2of8", "s35_densenet_small"]
    {
        let case = table().into_iter().find(|case| case.name == name).unwrap();
        let (loops, weights, inputs) = lowered(&case);
        let model = Compiled::new(loops.clone()).unwrap().bind(&weights).unwrap();
        let call = |model: &mdlc::Model| {
            let outputs = model.call(inputs.iter().map(|(name, t)| (name.as_str(), t.view()))).unwrap();
            outputs.into_tensors()
        };
        let wanted = call(&model);
        let same = |other: &indexmap::IndexMap<String, Tensor>| {
            wanted.iter().zip(other).all(|((a, x), (b, y))| a == b && x.same_bits(y))
        };
        std::thread::scope(|scope| {
            for k in 0..16 {
                let (call, same, model, loops, weights) = (&call, &same, &model, &loops, &weights);
                scope.spawn(move || {
                    for round in 0..4 {
                        assert!(same(&call(model)), "{name}: thread {k}, round {round}");
                    }
                    let own = Compiled::new(loops.clone()).unwrap().bind(weights).unwrap();
                    assert!(same(&call(&own)), "{name}: thread {k} with code of its own");
                });
            }
        });
    }
}

/// Mappings of this process that are writable and executable at once.
fn writable_code() -> Vec<String> {
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    let both = |line: &&str| line.split(' ').nth(1).is_some_and(|p| p.contains('w') && p.contains('x'));
    maps.lines().filter(both).map(str::to_owned).collect()
}

/// Mappings that are executable and belong to no file.
fn compiled_code() -> usize {
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    let code = |line: &&str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        fields[1].contains('x') && fields.len() == 5
    };
    maps.lines().filter(code).count()
}

#[test]
fn code_is_never_writable_and_goes_with_its_last_handle() {
    alone("processes::code_is_never_writable_and_goes_with_its_last_handle", || {
        assert_eq!(compiled_code(), 0);
        for case in table() {
            let (loops, weights, _) = lowered(&case);
            let compiled = Compiled::new(loops).unwrap();
            assert_eq!(writable_code(), [""; 0], "{}", case.name);
            assert!(compiled_code() > 0, "{}: the code is not where this test looks", case.name);
            let model = compiled.bind(&weights).unwrap();
            drop(compiled);
            assert!(compiled_code() > 0, "{}: the model holds the code", case.name);
            drop(model);
            assert_eq!(compiled_code(), 0, "{}: the code stays", case.name);
        }
    });
}

/// # Units
/// KiB of this process in memory, and the number of its mappings.
fn footprint() -> (u64, usize) {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap();
    let kibibytes = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    (kibibytes, fs::read_to_string("/proc/self/maps").unwrap().lines().count())
}

/// Compiling, binding, calling and dropping leaves nothing behind: 1,000 rounds, or as many thousand as
/// `MDLC_ROBUSTNESS` says.
#[test]
fn loading_and_unloading_takes_no_memory() {
    alone("processes::loading_and_unloading_takes_no_memory", || {
        let case = table().into_iter().find(|case| case.name == "s11_ffn_gelu").unwrap();
        let (loops, weights, inputs) = lowered(&case);
        let round = || {
            let model = Compiled::new(loops.clone()).unwrap().bind(&weights).unwrap();
            model.call(inputs.iter().map(|(name, t)| (name.as_str(), t.view()))).unwrap();
        };
        (0..100).for_each(|_| round());
        let (before, maps) = footprint();
        let rounds = 1000 * effort();
        (0..rounds).for_each(|_| round());
        let (after, maps_after) = footprint();
        println!("{rounds} rounds: from {before} to {after} KiB, from {maps} to {maps_after} mappings");
        assert!(after < before + 4096, "memory grew from {before} to {after} KiB");
        assert!(maps_after <= maps + 8, "mappings grew from {maps} to {maps_after}");
    });
}

/// The same from text to outputs, with errors in between: a compiler that lives long stays small.
#[test]
fn compiling_over_and_over_takes_no_memory() {
    alone("processes::compiling_over_and_over_takes_no_memory", || {
        let good = "module M(D) { l = Linear(D, D)\n forward(x: [B, D]) = tanh(l(x)) }\nmodel m = M(5)";
        let bad = "module M(D) { l = Linear(D, 7)\n forward(x: [B, D]) = l(l(x)) }\nmodel m = M(5)";
        let x = Tensor::new([2, 5], vec![0.5f32; 10]).unwrap();
        let round = || {
            let compiled = mdlc::Compiler::new().compile_source("m.mdl", good).unwrap();
            let model = compiled.bind(&Weights::initialised(0)).unwrap();
            model.call([("x", x.view())]).unwrap();
            assert!(mdlc::Compiler::new().compile_source("m.mdl", bad).is_err());
        };
        (0..20).for_each(|_| round());
        let (before, maps) = footprint();
        (0..150 * effort()).for_each(|_| round());
        let (after, maps_after) = footprint();
        println!("from {before} to {after} KiB, from {maps} to {maps_after} mappings");
        assert!(after < before + 4096, "memory grew from {before} to {after} KiB");
        assert!(maps_after <= maps + 8, "mappings grew from {maps} to {maps_after}");
    });
}
