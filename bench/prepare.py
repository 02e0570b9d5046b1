"""Makes what the engines read, in a folder for each workload.

    weights.safetensors   the module's weights under its names, which are those of the model
    inputs.safetensors    the inputs
    expected.safetensors  the outputs of PyTorch eager, the reference of every comparison
    VARIANT.onnx          the module as ONNX, for the engines that read it
    facts.json            what the roofline needs, and what the files were made from

usage: prepare.py WORKLOAD FOLDER [VARIANT ...]     variants to export
"""

import argparse
import hashlib
import json
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from safetensors.torch import save_file
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from workloads import WORKLOADS, Workload, select

HERE = Path(__file__).resolve().parent
OPSET = 17
# A model file of more bytes keeps its weights beside it: 2 GiB is the most that ONNX can hold in one.
MAX_INLINE_BYTES = 1 << 30


def stamp():
    """Tells whether files are still those that this code would make."""
    digest = hashlib.sha256(torch.__version__.encode())
    for path in sorted(HERE.glob("networks/*.py")) + [HERE / "workloads.py", HERE / "prepare.py"]:
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def outputs_of(result, names):
    """The named outputs; a recurrent module gives further ones that are not compared."""
    return dict(zip(names, result if isinstance(result, tuple) else (result,)))


def size_bytes(tensors):
    return float(sum(t.numel() * t.element_size() for t in tensors))


def counted_flops(module, inputs):
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        module(*inputs.values())
    return float(counter.get_total_flops())


def facts(workload: Workload, module, inputs, outputs):
    weights = [t for name, t in module.state_dict().items() if "num_batches_tracked" not in name]
    needed = workload.weight_bytes
    exps = workload.transcendentals
    return {
        "group": workload.group,
        "flops": workload.flops(module) if workload.flops else counted_flops(module, inputs),
        "transcendentals": exps(module) if callable(exps) else exps,
        "weight_bytes": needed(module, inputs) if needed else size_bytes(weights),
        "io_bytes": size_bytes(inputs.values()) + size_bytes(outputs.values()),
        "reread": workload.reread,
    }


def prepare(workload: Workload, folder: Path):
    module, inputs = workload.build()
    with torch.inference_mode():
        outputs = outputs_of(select(module, "default")(*inputs.values()), workload.outputs)
        found = facts(workload, module, inputs, outputs)
    files = {"weights": module.state_dict(), "inputs": inputs, "expected": outputs}
    for name, tensors in files.items():
        tensors = {key: tensor.contiguous().clone() for key, tensor in tensors.items()}
        save_file(tensors, folder / f"{name}.safetensors")
    return found


def save_onnx(path, inputs, outputs, nodes, weights, domains=()):
    """Writes a graph that is built by hand."""
    ports = lambda shapes: [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in shapes.items()]
    constants = [numpy_helper.from_array(np.ascontiguousarray(value), name) for name, value in weights.items()]
    graph = helper.make_graph(nodes, path.stem, ports(inputs), ports(outputs), constants)
    opsets = [helper.make_opsetid("", OPSET), *(helper.make_opsetid(domain, 1) for domain in domains)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=9)
    large = sum(value.nbytes for value in weights.values()) > MAX_INLINE_BYTES
    onnx.save(model, path, save_as_external_data=large, location=f"{path.name}.data")


def export_recurrent(module, inputs, path):
    """The operator of the standard, which engines implement as a whole. Its gates stand in another order."""
    order, attributes = {
        nn.RNN: ([0], {}),
        nn.GRU: ([1, 0, 2], {"linear_before_reset": 1}),
        nn.LSTM: ([0, 3, 1, 2], {}),
    }[type(module)]
    ends = ["l0", "l0_reverse"] if module.bidirectional else ["l0"]
    state = {name: value.numpy() for name, value in module.state_dict().items()}

    def reordered(kind, end):
        gates = np.split(state[f"{kind}_{end}"], len(order))
        return np.concatenate([gates[g] for g in order])

    weights = {
        "W": np.stack([reordered("weight_ih", end) for end in ends]),
        "R": np.stack([reordered("weight_hh", end) for end in ends]),
        "B": np.stack([np.concatenate([reordered("bias_ih", e), reordered("bias_hh", e)]) for e in ends]),
    }
    steps, batch, _ = inputs["x"].shape
    shape = [steps, batch, module.hidden_size * len(ends)]
    weights["shape"] = np.array(shape, np.int64)
    attributes |= {
        "hidden_size": module.hidden_size,
        "direction": "bidirectional" if module.bidirectional else "forward",
    }
    nodes = [
        helper.make_node(type(module).__name__, ["x", "W", "R", "B"], ["by_direction"], **attributes),
        helper.make_node("Transpose", ["by_direction"], ["by_time"], perm=[0, 2, 1, 3]),
        helper.make_node("Reshape", ["by_time", "shape"], ["y"]),
    ]
    save_onnx(path, {"x": list(inputs["x"].shape)}, {"y": shape}, nodes, weights)


def export_moe_operator(module, inputs, path):
    """ONNX Runtime's own operator for mixtures of experts; it wants weights [out, in]."""
    shape = list(inputs["x"].shape)
    weights = {
        "gate": module.gate.weight.t().numpy(),
        "w1": module.w1.mT.numpy(),
        "w2": module.w2.mT.numpy(),
    }
    attributes = {"k": module.chosen, "activation_type": "relu", "normalize_routing_weights": 1}
    nodes = [
        helper.make_node("MatMul", ["x", "gate"], ["logits"]),
        helper.make_node("MoE", ["x", "logits", "w1", "", "w2"], ["y"], domain="com.microsoft", **attributes),
    ]
    save_onnx(path, {"x": shape}, {"y": shape}, nodes, weights, ["com.microsoft"])


def export(workload: Workload, variant, path):
    module, inputs = workload.build()
    if isinstance(module, nn.RNNBase):
        return export_recurrent(module, inputs, path)
    if variant == "operator":
        return export_moe_operator(module, inputs, path)
    with torch.no_grad():
        program = torch.onnx.export(
            select(module, variant),
            tuple(inputs.values()),
            input_names=list(inputs),
            output_names=list(workload.outputs),
            dynamo=True,
            verbose=False,
        )
        large = size_bytes(module.state_dict().values()) > MAX_INLINE_BYTES
        program.save(path, external_data=large)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workload", choices=WORKLOADS)
    parser.add_argument("folder", type=Path)
    parser.add_argument("variants", nargs="*")
    args = parser.parse_args()
    workload, made_from = WORKLOADS[args.workload], stamp()
    args.folder.mkdir(parents=True, exist_ok=True)
    record = args.folder / "facts.json"
    known = json.loads(record.read_text()) if record.exists() else {}
    if known.get("stamp") != made_from:
        for path in args.folder.iterdir():
            path.unlink()
        known = {"stamp": made_from, **prepare(workload, args.folder)}
        record.write_text(json.dumps(known, indent=1))
    for variant in args.variants:
        path = args.folder / f"{variant}.onnx"
        if not path.exists():
            export(workload, variant, path)


if __name__ == "__main__":
    main()
