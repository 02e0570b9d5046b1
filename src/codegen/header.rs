//! The C header of an object, and the description that the object carries.

use super::abi::{ABI_VERSION, MAX_VALUES, Status};
use super::target::Cpu;
use crate::dim::Dim;
use crate::graph::ir::{Signature, TensorType};
use crate::graph::print::type_text;
use crate::loops::ir::LoopProgram;
use crate::tensor::MAX_RANK;
use serde_json::{Value, json};

/// What `_abi` returns: version, processor features and signature as JSON.
pub(crate) fn description(signature: &Signature, cpu: Cpu) -> String {
    let port = |name: &str, ty: &TensorType| json!({ "name": name, "dtype": ty.dtype.name(), "shape": shape(&ty.shape) });
    let ports = |ports: &[crate::graph::ir::Port]| -> Vec<Value> {
        ports.iter().map(|p| port(&p.name, &p.ty)).collect()
    };
    let weights: Vec<Value> = signature.weights.iter().map(|w| port(&w.path, &w.ty)).collect();
    let dims: Vec<&str> = signature.dims.iter().map(crate::dim::Symbol::name).collect();
    json!({
        "abi": ABI_VERSION,
        "cpu": cpu.features(),
        "name": signature.name,
        "dims": dims,
        "inputs": ports(&signature.inputs),
        "weights": weights,
        "outputs": ports(&signature.outputs),
    })
    .to_string()
}

/// Known sizes as numbers, others as formulas.
fn shape(dims: &[Dim]) -> Vec<Value> {
    dims.iter()
        .map(|dim| dim.as_const().map_or_else(|| json!(dim.to_string()), |value| json!(value)))
        .collect()
}

/// The header of an object with a prefix.
pub(crate) fn text(program: &LoopProgram, prefix: &str, cpu: Cpu) -> String {
    let signature = &program.signature;
    let mut out = String::new();
    let mut line = |text: &str| {
        out.push_str(text);
        out.push('\n');
    };
    let guard = format!("{}_H", prefix.to_ascii_uppercase());
    line(&format!("/* {}: a compiled model. Written by mdlc; do not edit.", comment(&signature.name)));
    line(" *");
    line(" * 1. init(&context): checks the processor and prepares the context.");
    line(" * 2. sizes(dims, sizes): bytes of blob and scratch, elements of each output.");
    line(" * 3. pack(&context, weights, blob, dims, scratch): once per set of weights.");
    line(" * 4. forward(&context, blob, inputs, outputs, dims, scratch): any number of times.");
    line(" *");
    line(" * Blob and scratch are aligned to 64 bytes. A blob is read only after pack and may be");
    line(" * shared; each call in flight needs a context and a scratch of its own. Tensors are dense,");
    line(" * C order. A bool is one byte, 0 or 1. Where a status is neither OK nor FAILED, nothing has");
    line(" * been written.");
    let features = cpu.features();
    if !features.is_empty() {
        line(" *");
        line(
            " * The code needs a processor with these features; elsewhere init returns MDLC_CPU, and no other",
        );
        line(" * function goes on:");
        features.chunks(12).for_each(|some| line(&format!(" *   {}", some.join(" "))));
    }
    for (title, entries) in tables(signature) {
        line(" *");
        line(&format!(" * {title}:"));
        for (k, entry) in entries.iter().enumerate() {
            line(&format!(" *   [{k}] {}", comment(entry)));
        }
        if entries.is_empty() {
            line(" *   none");
        }
    }
    if !program.sites.is_empty() {
        line(" *");
        line(" * Where a status is FAILED, context.site says which check, with context.values:");
        for (k, site) in program.sites.iter().enumerate() {
            line(&format!(" *   [{k}] {}: {}", site.code, comment(&site.message)));
        }
    }
    line(" */");
    line(&format!("#ifndef {guard}"));
    line(&format!("#define {guard}"));
    line("");
    line("#include <stdint.h>");
    line("");
    line(&types_text());
    line("#ifdef __cplusplus");
    line("extern \"C\" {");
    line("#endif");
    line("");
    line(&format!("#define {prefix}_DIMS {}", signature.dims.len()));
    line(&format!("#define {prefix}_INPUTS {}", signature.inputs.len()));
    line(&format!("#define {prefix}_WEIGHTS {}", signature.weights.len()));
    line(&format!("#define {prefix}_OUTPUTS {}", signature.outputs.len()));
    line(
        "/* sizes[0]: bytes of the blob; sizes[1]: bytes of scratch; sizes[2 + k]: elements of output k. */",
    );
    line(&format!("#define {prefix}_SIZES {}", signature.outputs.len() + 2));
    line("");
    line("/* Prepares a context, or says MDLC_CPU where this processor cannot run the code. */");
    line(&format!("int32_t {prefix}_init(mdlc_context *context);"));
    line("/* Version, processor features and signature, as JSON. */");
    line(&format!("const char *{prefix}_abi(void);"));
    line(&format!("int32_t {prefix}_sizes(const int64_t *dims, int64_t *sizes);"));
    line(&format!("int32_t {prefix}_pack(mdlc_context *context, const mdlc_tensor *weights, void *blob,"));
    line("    const int64_t *dims, void *scratch);");
    line(&format!(
        "int32_t {prefix}_forward(mdlc_context *context, const void *blob, const mdlc_tensor *inputs,"
    ));
    line("    const mdlc_tensor *outputs, const int64_t *dims, void *scratch);");
    line("");
    line("#ifdef __cplusplus");
    line("}");
    line("#endif");
    line("#endif");
    out
}

fn tables(signature: &Signature) -> [(&'static str, Vec<String>); 4] {
    let ports = |ports: &[crate::graph::ir::Port]| -> Vec<String> {
        ports.iter().map(|port| format!("{}: {}", port.name, type_text(&port.ty))).collect()
    };
    let dims = signature.dims.iter().map(|dim| dim.name().to_string()).collect();
    let weights = signature.weights.iter().map(|w| format!("{}: {}", w.path, type_text(&w.ty))).collect();
    [
        ("dims", dims),
        ("inputs", ports(&signature.inputs)),
        ("weights", weights),
        ("outputs", ports(&signature.outputs)),
    ]
}

/// Text that cannot end a C comment.
fn comment(text: &str) -> String {
    text.replace("*/", "* /").replace(['\n', '\r'], " ")
}

/// The types that all headers of this version share.
fn types_text() -> String {
    let statuses = [
        ("OK", Status::Ok),
        ("FAILED", Status::Failed),
        ("VERSION", Status::Version),
        ("NULL", Status::Null),
        ("ALIGNMENT", Status::Alignment),
        ("DTYPE", Status::DType),
        ("RANK", Status::Rank),
        ("SHAPE", Status::Shape),
        ("BYTES", Status::Bytes),
        ("OVERLAP", Status::Overlap),
        ("DIMS", Status::Dims),
        ("CPU", Status::Cpu),
    ];
    let statuses: Vec<String> =
        statuses.iter().map(|(name, status)| format!("    MDLC_{name} = {},\n", *status as i32)).collect();
    format!(
        "#ifndef MDLC_ABI_VERSION
#define MDLC_ABI_VERSION {ABI_VERSION}

enum mdlc_status {{
{}}};

enum mdlc_dtype {{ MDLC_F32 = 1, MDLC_F64 = 2, MDLC_I32 = 3, MDLC_I64 = 4, MDLC_BOOL = 5 }};

typedef struct {{
    void *data;
    int32_t dtype;
    int32_t rank;
    int64_t shape[{MAX_RANK}];
    int64_t bytes;
}} mdlc_tensor;

/* Runs task(data, k) for each k < n once, in any order and on any threads, and returns when all have returned.
 * `workers` counts the calling thread; with 1, nothing is run through this. Threads need 1 MiB of stack. */
typedef struct {{
    void *self;
    uint64_t workers;
    void (*run)(void *self, void (*task)(void *data, uint64_t k), void *data, uint64_t n);
}} mdlc_exec;

typedef struct {{
    uint32_t version;
    uint32_t reserved;
    const mdlc_exec *exec; /* null: serial */
    int64_t site;
    int64_t values[{MAX_VALUES}];
}} mdlc_context;
#endif
",
        statuses.concat()
    )
}
