//! Objects as a C host sees them: compiled against the header, linked, run.

use super::compile;
use crate::codegen::clif::tests::{Kit, for_loop};
use crate::codegen::target::Kernels;
use crate::dim::Dim;
use crate::dtype::DType;
use crate::graph::ir::{TensorType, Weight};
use crate::loops::buffers::plan;
use crate::loops::ir::{Buffer, BufferKind, LoopKind, LoopProgram, Stmt};
use crate::ops::init::Init;
use crate::ops::scalar::BinaryOp;
use std::process::Command;

/// `y[i] = x[i] * scale[0] + t[i]`, with `t` a temporary and `scale` doubled by the bind function.
fn program() -> LoopProgram {
    let mut bind = Kit::new("bind");
    let scale = bind.input("scale", DType::F32, vec![Dim::ONE]);
    let packed = bind.output("packed", DType::F32, vec![Dim::ONE]);
    let zero = bind.int(0);
    let value = bind.load(scale, zero);
    let doubled = bind.binary(BinaryOp::Add, value, value);
    bind.func.body = vec![Stmt::Store { buffer: packed, index: zero, value: doubled }];

    let mut kit = Kit::new("scale.forward");
    let n = kit.symbol("n");
    let x = kit.input("x", DType::F32, vec![n.clone()]);
    let kind = BufferKind::Arg(1);
    let packed = kit.buffer("packed", DType::F32, Dim::ONE, kind);
    let y = kit.output("y", DType::F32, vec![n.clone()]);
    let temp = kit.buffer("t", DType::F32, n.clone(), BufferKind::Temp);
    let (i, iv) = kit.var("i");
    let (zero, extent) = (kit.int(0), kit.dim(&n));
    let (element, factor, one) = (kit.load(x, iv), kit.load(packed, zero), kit.real(1.0));
    let sum = kit.binary(BinaryOp::Add, element, one);
    let first = Stmt::Store { buffer: temp, index: iv, value: sum };
    let product = kit.binary(BinaryOp::Mul, element, factor);
    let plus = kit.load(temp, iv);
    let value = kit.binary(BinaryOp::Add, product, plus);
    let body = vec![
        for_loop(i, extent, LoopKind::Vector, vec![first]),
        for_loop(i, extent, LoopKind::Vector, vec![Stmt::Store { buffer: y, index: iv, value }]),
    ];
    kit.callees.push(bind.func);
    kit.signature.weights.push(Weight {
        path: "scale".into(),
        aliases: vec![],
        ty: TensorType::new(DType::F32, vec![Dim::ONE]),
        buffer: false,
        init: Init::Fill(1.0),
        span: crate::codegen::clif::tests::span(),
    });
    let mut program = kit.program(body);
    program.bind = Some(0);
    let _: &Buffer = &program.functions[1].buffers[0];
    program
}

const HOST: &str = r#"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "model.h"

static mdlc_context context;
static void *blob, *scratch;
static float x[8], y[8];

static mdlc_tensor tensor(float *data, int64_t n) {
    mdlc_tensor t = { data, MDLC_F32, 1, { n }, 4 * n };
    return t;
}

static int call(mdlc_tensor in, mdlc_tensor out, int64_t n) {
    return m_forward(&context, blob, &in, &out, &n, scratch);
}

int main(void) {
    int64_t n = 5, sizes[m_SIZES];
    float scale = 1.5f;
    if (m_sizes(&n, sizes) != MDLC_OK || sizes[2] != 5) return 1;
    blob = aligned_alloc(64, (sizes[0] + 63) / 64 * 64);
    scratch = aligned_alloc(64, (sizes[1] + 63) / 64 * 64);
    mdlc_tensor weight = tensor(&scale, 1);
    if (m_pack(&context, &weight, blob, &n, scratch) != MDLC_VERSION) return 2;
    if (m_init(NULL) != MDLC_NULL || m_init(&context) != MDLC_OK) return 3;
    if (m_pack(&context, &weight, blob, &n, scratch) != MDLC_OK) return 4;
    for (int k = 0; k < 8; k++) x[k] = k, y[k] = -1;
    if (call(tensor(x, 5), tensor(y, 5), 5) != MDLC_OK) return 5;
    for (int k = 0; k < 8; k++) if (y[k] != (k < 5 ? k * 3.0f + (k + 1) : -1)) return 6;

    mdlc_tensor bad;
    for (int k = 0; k < 8; k++) y[k] = -1;
    bad = tensor(x, 5), bad.dtype = MDLC_F64;
    if (call(bad, tensor(y, 5), 5) != MDLC_DTYPE) return 7;
    bad = tensor(x, 5), bad.rank = 2;
    if (call(bad, tensor(y, 5), 5) != MDLC_RANK) return 8;
    bad = tensor(x, 4);
    if (call(bad, tensor(y, 5), 5) != MDLC_SHAPE) return 9;
    bad = tensor(x, 5), bad.bytes = 16;
    if (call(tensor(x, 5), bad, 5) != MDLC_BYTES) return 10;
    bad = tensor(NULL, 5);
    if (call(bad, tensor(y, 5), 5) != MDLC_NULL) return 11;
    bad = tensor((float *)((char *)x + 1), 5);
    if (call(bad, tensor(y, 5), 5) != MDLC_ALIGNMENT) return 12;
    if (call(tensor(y + 3, 5), tensor(y, 5), 5) != MDLC_OVERLAP) return 13;
    if (call(tensor(x, -1), tensor(y, -1), -1) != MDLC_DIMS) return 14;
    n = INT64_MAX / 2;
    if (m_sizes(&n, sizes) != MDLC_DIMS) return 15;
    for (int k = 0; k < 8; k++) if (y[k] != -1) return 16;
    if (call(tensor(NULL, 0), tensor(NULL, 0), 0) != MDLC_OK) return 17;
    if (!strstr(m_abi(), "\"inputs\":[{")) return 18;
    context.version = 99;
    if (call(tensor(x, 5), tensor(y, 5), 5) != MDLC_VERSION) return 19;
    puts("ok");
    return 0;
}
"#;

/// Runs the host linked with what `library` names; where there is no C compiler, nothing.
fn run_host(source: &str, file: &str, bytes: &[u8]) {
    let folder = tempfile::tempdir().unwrap();
    let program = program();
    let object = compile(&program, &plan(&program).unwrap(), Kernels::None.into(), "m").unwrap();
    std::fs::write(folder.path().join("model.h"), &object.header).unwrap();
    std::fs::write(folder.path().join("host.c"), source).unwrap();
    std::fs::write(folder.path().join(file), bytes).unwrap();
    let host = folder.path().join("host");
    let built = Command::new("cc")
        .current_dir(folder.path())
        .args(["-std=c11", "-Wall", "-Werror", "host.c"])
        .arg(folder.path().join(file))
        .args(["-Wl,-rpath,."])
        .arg("-o")
        .arg(&host)
        .output();
    let Ok(built) = built else { return };
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    let ran = Command::new(&host).current_dir(folder.path()).output().unwrap();
    assert_eq!(ran.status.code(), Some(0), "the host failed at a step");
}

#[test]
fn a_c_host_links_and_checks_work() {
    let program = program();
    let object = compile(&program, &plan(&program).unwrap(), Kernels::None.into(), "m").unwrap();
    run_host(HOST, "model.o", &object.bytes);
    run_host(HOST, "libmodel.a", &object.to_archive());
    if Command::new("cc").arg("--version").output().is_ok() {
        run_host(HOST, "libmodel.so", &object.to_shared().unwrap());
    }
}

/// Asks for every feature that `cpuid` could report, as an object for another processor would.
#[test]
#[cfg(target_arch = "x86_64")]
fn an_object_for_another_processor_says_so() {
    let program = program();
    let mut object = compile(&program, &plan(&program).unwrap(), Kernels::None.into(), "m").unwrap();
    // and ecx, mask; cmp ecx, mask
    let at = object.bytes.windows(8).position(|w| w[..2] == [0x81, 0xe1] && w[6..] == [0x81, 0xf9]).unwrap();
    for start in [at + 2, at + 8] {
        object.bytes[start..start + 4].fill(0xff);
    }
    let source = r#"
#include "model.h"
int main(void) {
    mdlc_context context;
    int64_t n = 0, aligned[16];
    context.version = MDLC_ABI_VERSION;
    if (m_init(&context) != MDLC_CPU || context.version != 0) return 1;
    mdlc_tensor none = { 0 };
    return m_forward(&context, aligned, &none, &none, &n, aligned) == MDLC_VERSION ? 0 : 2;
}
"#;
    run_host(source, "model.o", &object.bytes);
}

#[test]
fn objects_are_reproducible() {
    let program = program();
    let make = || compile(&program, &plan(&program).unwrap(), Kernels::None.into(), "m").unwrap();
    assert_eq!(make().bytes, make().bytes);
}
