//! Whole published networks: their sizes against the figures that their authors and torchvision
//! give, and native code against the reference on smaller relatives of the same source.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use mdlc::dim::{Dim, Symbol};
use mdlc::driver::{Compiler, Unit};
use mdlc::dtype::DType;
use mdlc::graph::cost;
use mdlc::graph::dims::bind_dims;
use mdlc::graph::eval::{Mode, evaluate};
use mdlc::graph::ir::Weight;
use mdlc::graph::print::type_text;
use mdlc::ops::init::{Init, initialise};
use mdlc::runtime::Weights;
use mdlc::tensor::{Data, Tensor};
use std::collections::BTreeSet;
use std::path::Path;

fn elaborated(file: &str, compiler: &Compiler) -> Unit {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("models").join(file);
    compiler.elaborate_file(&path).unwrap_or_else(|error| panic!("{error}"))
}

/// File, model, parameters as torchvision counts them, and multiply-adds of one image of 224 x 224:
/// convolutions and linear layers, in millions.
const PUBLISHED: [(&str, &str, i64, f64); 6] = [
    ("mobilenet.mdl", "mobilenet_v2", 3_504_872, 300.8),
    ("mobilenet.mdl", "mobilenet_v3_large", 5_483_032, 216.6),
    ("mobilenet.mdl", "mobilenet_v3_small", 2_542_856, 56.5),
    ("efficientnet.mdl", "efficientnet_b0", 5_288_548, 385.8),
    ("resnext.mdl", "resnext50_32x4d", 25_028_904, 4_230.5),
    ("densenet.mdl", "densenet121", 7_978_856, 2_834.2),
];

#[test]
fn parameters_and_multiply_adds_are_the_published_ones() {
    for (file, model, parameters, millions) in PUBLISHED {
        let unit = elaborated(file, &Compiler::new().model(model));
        let signature = &unit.program.signature;
        assert_eq!(signature.inputs.len(), 1);
        assert_eq!(type_text(&signature.inputs[0].ty), "f32[B, 3, H, W]");
        assert_eq!(type_text(&signature.outputs[0].ty), "f32[B, 1000]");
        let counted = signature.weights.iter().filter(|weight| !weight.buffer);
        let counted: i64 = counted.map(|w| Dim::product(&w.ty.shape).unwrap().as_const().unwrap()).sum();
        assert_eq!(counted, parameters, "{model}");
        let cost = cost::program(&unit.program).unwrap();
        let size = |symbol: &Symbol| Some(if symbol.name() == "B" { 1 } else { 224 });
        let found = cost.multiply_adds.eval(&size).unwrap() as f64 / 1e6;
        assert!((found - millions).abs() < 0.1, "{model}: {found} million multiply-adds");
        // Norms, activations and residuals come on top of two for every multiply-add.
        let flops = cost.flops.eval(&size).unwrap() as f64 / 1e6;
        assert!(flops > 2.0 * found && flops < 2.6 * found, "{model}: {flops} million FLOPs");
    }
}

/// A weight that hides no fault: norms neither centre nor scale trivially, variances are positive.
fn drawn(weight: &Weight) -> Tensor {
    let shape: Vec<usize> = weight.ty.shape.iter().map(|d| d.as_const().unwrap() as usize).collect();
    if weight.ty.dtype != DType::F32 {
        return Tensor::zeros(weight.ty.dtype, shape).unwrap();
    }
    let around = |centre: f32, bound: f64| {
        let Data::F32(values) =
            initialise(&Init::Uniform(bound), DType::F32, &shape, &weight.path, 3).unwrap().data().clone()
        else {
            unreachable!("an f32 tensor")
        };
        Tensor::new(shape.clone(), values.iter().map(|v| v + centre).collect::<Vec<f32>>()).unwrap()
    };
    match weight.path.rsplit('.').next().unwrap() {
        "running_mean" | "bias" => around(0.0, 0.2),
        "running_var" => around(0.3, 0.2),
        "weight" if shape.len() == 1 => around(1.0, 0.3),
        _ => initialise(&weight.init, DType::F32, &shape, &weight.path, 3).unwrap(),
    }
}

/// Native code on images of `size`, against the reference in f64; relative to the largest logit.
fn native_agrees(file: &str, compiler: &Compiler, size: [usize; 3]) {
    let mut unit = elaborated(file, compiler);
    let program = unit.program.clone();
    let weights: Vec<Tensor> = program.signature.weights.iter().map(drawn).collect();
    let [batch, height, width] = size;
    let x = initialise(&Init::Normal(1.0), DType::F32, &[batch, 3, height, width], "x", 5).unwrap();
    let dims = bind_dims(&program.signature, &program.checks, &[x.shape()]).unwrap();
    let want = evaluate(&program, std::slice::from_ref(&x), &weights, &dims, Mode::F64).unwrap();
    unit.optimise(None).unwrap();
    let loops = unit.lower().unwrap();
    let compiled = unit.generate(loops, false).unwrap();
    let named = program.signature.weights.iter().map(|w| w.path.clone()).zip(weights);
    let model = compiled.bind(&Weights::from_tensors(named)).unwrap();
    let got = model.call([("x", x.view())]).unwrap();
    let (Data::F64(want), Some(got)) = (want[0].data(), got.get("y").and_then(|y| y.as_f32())) else {
        panic!("f64 and f32 logits");
    };
    let scale = want.iter().fold(0.0f64, |m, v| m.max(v.abs()));
    assert!(scale > 1e-3 && scale.is_finite(), "the logits say nothing: {scale}");
    for (want, got) in want.iter().zip(got) {
        assert!((want - f64::from(*got)).abs() <= 1e-4 * scale, "{want} and {got}, of at most {scale}");
    }
}

#[test]
fn mobilenet_v2_agrees() {
    let compiler = Compiler::new().model("mobilenet_v2").set("classes", "10");
    native_agrees("mobilenet.mdl", &compiler, [1, 32, 40]);
}

#[test]
fn mobilenet_v3_agrees() {
    native_agrees("mobilenet.mdl", &Compiler::new().model("mobilenet_v3_small"), [2, 33, 32]);
}

#[test]
fn efficientnet_agrees() {
    let compiler = Compiler::new().model("efficientnet_b0").set("width", "0.5").set("depth", "0.5");
    native_agrees("efficientnet.mdl", &compiler, [1, 40, 32]);
}

#[test]
fn resnext_agrees() {
    let compiler = Compiler::new()
        .model("resnext50_32x4d")
        .set("layers", "[2, 1, 3, 1]")
        .set("planes", "[16, 32, 48, 64]")
        .set("stem", "16")
        .set("classes", "10");
    native_agrees("resnext.mdl", &compiler, [2, 32, 48]);
}

#[test]
fn densenet_agrees() {
    let compiler =
        Compiler::new().model("densenet121").set("config", "[2, 3, 2, 2]").set("stem", "24").set("g", "12");
    native_agrees("densenet.mdl", &compiler, [1, 64, 33]);
}

/// Files and models whose weights are a published implementation's, and what precedes the names here: its
/// complete `state_dict` is in `tests/fixtures/state_dicts`, a name, type and shape a line, as torchvision 0.29,
/// torch 2.15, transformers 5.24, `torch_geometric` and timm give it at the same sizes.
const STATE_DICTS: [(&str, &str, &str); 27] = [
    ("bert.mdl", "bert_base", ""),
    ("densenet.mdl", "densenet121", ""),
    ("efficientnet.mdl", "efficientnet_b0", ""),
    ("gmlp.mdl", "gmlp_timm", ""),
    ("gpt2.mdl", "gpt2", ""),
    ("graph.mdl", "cheb_conv", ""),
    ("graph.mdl", "gat_conv", ""),
    ("graph.mdl", "gated_graph", ""),
    ("graph.mdl", "gcn_conv", ""),
    ("graph.mdl", "graph_conv", ""),
    ("graph.mdl", "sage_conv", ""),
    ("mixture_of_experts.mdl", "mixtral_moe", ""),
    ("mobilenet.mdl", "mobilenet_v2", ""),
    ("mobilenet.mdl", "mobilenet_v3_large", ""),
    ("mobilenet.mdl", "mobilenet_v3_small", ""),
    ("multihead_attention.mdl", "multihead_attention", ""),
    ("relative_positions.mdl", "relative_key", ""),
    ("relative_positions.mdl", "rotary_attention", "attn."),
    ("relative_positions.mdl", "t5_attention", ""),
    ("relative_positions.mdl", "transformer_xl", ""),
    ("resnext.mdl", "resnext50_32x4d", ""),
    ("sparse_attention.mdl", "bigbird", ""),
    ("sparse_attention.mdl", "longformer", ""),
    ("transformer.mdl", "decoder_layer", ""),
    ("transformer.mdl", "encoder", ""),
    ("transformer.mdl", "encoder_layer", ""),
    ("transformer.mdl", "transformer", ""),
];

#[test]
fn weights_are_those_of_the_published_implementations() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/state_dicts");
    for (file, model, prefix) in STATE_DICTS {
        let text = std::fs::read_to_string(folder.join(format!("{model}.txt"))).unwrap();
        let mut published: BTreeSet<String> = text.lines().map(|line| format!("{prefix}{line}")).collect();
        // One weight under two names, of which the model has the first.
        published.retain(|line| (model, line.as_str()) != ("gpt2", "lm_head.weight float32 50257,768"));
        let unit = elaborated(file, &Compiler::new().model(model));
        let found: BTreeSet<String> = unit.program.signature.weights.iter().map(line_of).collect();
        assert!(!found.is_empty(), "{model}");
        let differ: Vec<&String> = published.symmetric_difference(&found).collect();
        assert!(differ.is_empty(), "{model}: {differ:?}");
    }
    let lists = std::fs::read_dir(folder).unwrap().count();
    assert_eq!(lists, STATE_DICTS.len(), "every list belongs to a model");
}

/// A weight as a list has it.
fn line_of(weight: &Weight) -> String {
    let dtype = match weight.ty.dtype {
        DType::F32 => "float32",
        DType::I64 => "int64",
        other => panic!("{}: {other:?}", weight.path),
    };
    let shape: Vec<String> = weight.ty.shape.iter().map(ToString::to_string).collect();
    format!("{} {dtype} {}", weight.path, shape.join(","))
}
