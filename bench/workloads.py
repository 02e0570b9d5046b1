"""What is timed: each workload a function with weights and inputs, as a PyTorch module and as a model of mdlc.

Weights and inputs are drawn by fixed seeds. For the roofline a workload says how much of four things its
function needs, whoever computes it and however:

- FLOPs, a multiply-add being two; pairs, edges and experts that play no part are not counted,
- transcendentals: evaluations of exp, tanh or erf,
- bytes of weights that a call must read (only experts that are chosen), of inputs and of outputs,
- for recurrences of one sequence, the weights that every step reads again.
"""

from dataclasses import dataclass, field
from typing import Callable

import torch
from torch import nn

from networks import Network, attention, convolutional, dense, graphs, sparse

SEED = 1234
DEFAULT = "default"


@dataclass(frozen=True)
class Model:
    """A model for mdlc: a file below the root of the repository, and options."""

    file: str
    name: str
    dims: dict[str, int] = field(default_factory=dict)
    set: dict[str, object] = field(default_factory=dict)
    entry: str = "forward"

    def options(self) -> list[str]:
        options = ["--model", self.name, "--entry", self.entry]
        for option, values in (("--dim", self.dims), ("--set", self.set)):
            for name, value in values.items():
                options += [option, f"{name}={value}"]
        return options


@dataclass(frozen=True)
class Workload:
    name: str
    group: str
    make: Callable[[], nn.Module]
    inputs: Callable[[], dict[str, torch.Tensor]]
    model: Model
    outputs: tuple[str, ...] = ("y",)
    # Formulations to try, by peer; of the fastest one the time is taken.
    variants: dict[str, tuple[str, ...]] = field(default_factory=dict)
    # FLOPs, where counting the operators of the module does not give what the function needs.
    flops: Callable[[nn.Module], float] | None = None
    transcendentals: Callable[[nn.Module], int] | int = 0
    # Bytes of weights that a call must read, where that is not all of them.
    weight_bytes: Callable[[nn.Module, dict], float] | None = None
    # Bytes of weights that each step of a recurrence reads, and steps.
    reread: tuple[int, int] | None = None

    def build(self) -> tuple[nn.Module, dict[str, torch.Tensor]]:
        """The module and its inputs, the same at every call."""
        torch.manual_seed(SEED)
        module = self.make().eval().requires_grad_(False)
        torch.manual_seed(SEED + 1)
        return module, self.inputs()

    def variants_for(self, peer: str) -> tuple[str, ...]:
        return self.variants.get(peer, (DEFAULT,))


def select(module: nn.Module, variant: str) -> nn.Module:
    if isinstance(module, Network):
        module.select(module.variants[0] if variant == DEFAULT else variant)
    return module


def x(*shape, scale=1.0):
    return lambda: {"x": scale * torch.randn(*shape)}


def bench_model(file, name, **dims):
    return Model(f"bench/models/{file}.mdl", name, dims)


# ---- dense


def mlp(batch):
    model = bench_model("dense", "mlp", B=batch)
    return Workload(f"mlp_b{batch}", "dense", dense.Mlp, x(batch, 784), model)


def moe(name, experts, hidden, model, openvino):
    rows, width, chosen = 128, 256, 2

    def weight_bytes(module, inputs):
        _, expert = module.route(inputs["x"])
        return 4.0 * (module.gate.weight.numel() + len(expert.unique()) * 2 * width * hidden)

    return Workload(
        name,
        "mixture",
        lambda: dense.Moe(experts, width, hidden),
        x(rows, width),
        model,
        variants={"torch": ("sorted", "grouped"), "ort": ("operator", "gathered"), "openvino": openvino},
        flops=lambda _: 2.0 * rows * width * (experts + chosen * 2 * hidden),
        weight_bytes=weight_bytes,
    )


# ---- recurrent


def recurrent(name, kind, batch, transcendentals, directions=1):
    steps, width = 128, 256
    gates = {"rnn": 1, "gru": 3, "lstm": 4}[kind]
    module = {"rnn": nn.RNN, "gru": nn.GRU, "lstm": nn.LSTM}[kind]
    model = "rnn" if kind == "rnn" else "bilstm" if directions == 2 else kind
    step_bytes = 4 * directions * gates * width * width
    return Workload(
        name,
        "recurrent",
        lambda: module(width, width, bidirectional=directions == 2),
        x(steps, batch, width),
        Model(f"models/{kind}.mdl", model, {"T": steps, "B": batch}, {"I": width, "H": width}, "time_first"),
        flops=lambda _: 2.0 * steps * batch * directions * gates * width * 2 * width,
        transcendentals=steps * batch * width * transcendentals * directions,
        reread=(step_bytes, steps) if batch == 1 else None,
    )


# ---- convolutional


def classifier(name, file, transcendentals=0):
    return Workload(
        name,
        "convolutional",
        lambda: convolutional.image_classifier(name),
        x(1, 3, 224, 224),
        Model(f"models/{file}.mdl", name, {"B": 1, "H": 224, "W": 224}),
        transcendentals=transcendentals,
    )


# ---- graphs

GRAPH_VARIANTS = {
    "torch": ("csr", "added"),
    "ort": ("scattered", "dense"),
    "openvino": ("scattered", "dense"),
}


def gcn_flops(module):
    edges, hidden, classes = module.src.numel(), 16, 7
    return 2.0 * graphs.NODES * (1433 * hidden + hidden * classes) + 2.0 * edges * (hidden + classes)


def ggnn_flops(module):
    width, steps = 64, 5
    # A step multiplies by one matrix for the messages, and by two times three in the cell.
    return steps * (2.0 * graphs.NODES * 7 * width * width + 2.0 * module.src.numel() * width)


# ---- attention


def additive_inputs():
    batch, length, width = 16, 128, 256
    y = torch.randn(batch, width)
    s = 0.5 * torch.randn(batch, width)
    return {"y": y, "s": s, "keys": torch.randn(batch, length, width), "enc": torch.randn(batch, length, width)}


def decoder_inputs():
    token = torch.randn(1, 1, 768)
    return {"x": token, "past_k": torch.randn(12, 1, 12, 512, 64), "past_v": torch.randn(12, 1, 12, 512, 64)}


def mha(length):
    model = bench_model("attention", "attention", B=1, T=length)
    exps = 8 * length * length
    make = attention.Attention
    return Workload(f"mha_t{length}", "attention", make, x(1, length, 512), model, transcendentals=exps)


def encoder(name, make, model, depth):
    exps_and_erfs = depth * (12 * 128 * 128 + 128 * 3072)
    model = bench_model("attention", model, B=1, T=128)
    return Workload(name, "attention", make, x(1, 128, 768), model, transcendentals=exps_and_erfs)


def sparse_attention(name, make, length, model, torch_variants, exported):
    def flops(module):
        width = 512
        return 2.0 * length * 4 * width * width + 4.0 * module.pairs() * (width // module.heads)

    return Workload(
        name,
        "sparse",
        make,
        x(1, length, 512),
        bench_model("sparse", model, B=1, T=length),
        variants={"torch": torch_variants, "ort": exported, "openvino": exported},
        flops=flops,
        transcendentals=lambda module: module.pairs(),
    )


RELATIVE_VARIANTS = ("expanded", "gathered")

ALL = [
    mlp(1),
    mlp(64),
    Workload(
        "highway10",
        "dense",
        dense.Highway,
        x(32, 512),
        bench_model("dense", "highway", B=32),
        transcendentals=10 * 32 * 512,
    ),
    Workload(
        "gmlp_block",
        "dense",
        dense.Gmlp,
        x(1, 128, 256),
        bench_model("dense", "gmlp", B=1),
        transcendentals=128 * 1536,
    ),
    moe("moe", 64, 1024, bench_model("dense", "moe", N=128), ("gathered", "dense")),
    moe("moe_many_1024", 1024, 256, bench_model("dense", "moe_many", N=128), ("gathered",)),
    moe(
        "moe_many_4096",
        4096,
        256,
        Model("bench/models/dense.mdl", "moe_many", {"N": 128}, {"E": 4096}),
        ("gathered",),
    ),
    recurrent("rnn", "rnn", 1, transcendentals=1),
    recurrent("lstm_b1", "lstm", 1, transcendentals=5),
    recurrent("lstm_b16", "lstm", 16, transcendentals=5),
    recurrent("bilstm", "lstm", 1, transcendentals=5, directions=2),
    recurrent("gru", "gru", 1, transcendentals=3),
    Workload(
        "textcnn",
        "convolutional",
        convolutional.TextCnn,
        x(1, 128, 300),
        bench_model("convolutional", "text_cnn", B=1, L=128),
    ),
    Workload(
        "conv1d_stack",
        "convolutional",
        convolutional.Conv1dStack,
        x(1, 256, 512),
        bench_model("convolutional", "conv1d_stack", B=1, L=512),
    ),
    classifier("mobilenet_v2", "mobilenet"),
    # SiLU of every expanded map, and the sigmoids of the gates.
    classifier("efficientnet_b0", "efficientnet", transcendentals=6166876),
    classifier("resnext50_32x4d", "resnext"),
    classifier("densenet121", "densenet"),
    Workload(
        "unet",
        "convolutional",
        convolutional.unet,
        x(1, 3, 128, 128),
        bench_model("convolutional", "unet", B=1, H=128, W=128),
    ),
    Workload(
        "gcn",
        "graph",
        graphs.Gcn,
        x(graphs.NODES, 1433, scale=0.1),
        bench_model("graphs", "gcn"),
        variants=GRAPH_VARIANTS,
        flops=gcn_flops,
    ),
    Workload(
        "ggnn",
        "graph",
        graphs.Ggnn,
        lambda: {"h": 0.5 * torch.randn(graphs.NODES, 64)},
        bench_model("graphs", "ggnn"),
        variants=GRAPH_VARIANTS,
        flops=ggnn_flops,
        transcendentals=5 * graphs.NODES * 64 * 3,
    ),
    Workload(
        "stgcn_block",
        "graph",
        graphs.StGcn,
        x(1, 64, 12, 207),
        bench_model("graphs", "stgcn", B=1, T=12),
    ),
    Workload(
        "bahdanau",
        "attention",
        attention.Additive,
        additive_inputs,
        bench_model("attention", "additive", B=16, S=128),
        outputs=("state", "attn"),
        transcendentals=16 * 128 * 256,
    ),
    mha(128),
    mha(512),
    encoder("encoder_layer", attention.EncoderLayer, "encoder_layer", 1),
    encoder("bert12", attention.Encoder, "encoder", 12),
    Workload(
        "gpt2_decode12",
        "attention",
        attention.Decoder,
        decoder_inputs,
        bench_model("attention", "decoder", B=1, S=512),
        outputs=("h", "new_k", "new_v"),
        variants={"torch": ("joined", "in_place")},
        flops=lambda _: 12 * (2.0 * 12 * 768 * 768 + 4.0 * 513 * 768),
    ),
    Workload(
        "relpos",
        "attention",
        attention.RelativeAttention,
        x(1, 128, 512),
        bench_model("attention", "relative", B=1, T=128),
        variants={peer: RELATIVE_VARIANTS for peer in ("torch", "ort", "openvino")},
        transcendentals=8 * 128 * 128,
    ),
    sparse_attention(
        "local_t4096", lambda: sparse.Local(4096), 4096, "local", ("dense", "chunked"), ("chunked",)
    ),
    sparse_attention("local_t16384", lambda: sparse.Local(16384), 16384, "local", ("chunked",), ("chunked",)),
    sparse_attention(
        "bigbird_t4096", lambda: sparse.BigBird(4096), 4096, "bigbird", ("dense", "gathered"), ("gathered",)
    ),
    sparse_attention(
        "strided_t4096", lambda: sparse.Strided(4096), 4096, "strided", ("dense",), ("dense",)
    ),
    Workload(
        "primer_block",
        "attention",
        attention.Primer,
        x(1, 128, 512),
        bench_model("attention", "primer", B=1, T=128),
        transcendentals=8 * 128 * 128,
    ),
]
WORKLOADS = {workload.name: workload for workload in ALL}
