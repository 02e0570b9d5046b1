"""One peer in a process of its own, asked for rounds as `mdlc bench --on-request` is.

Prints a line of JSON when the model is ready, then measures a round of calls for each line `go` on
standard input and answers with the seconds of every call, until the input ends.

usage: engines.py ENGINE WORKLOAD VARIANT --folder F --threads N --seconds S --output FILE
"""

import argparse
import gc
import json
import os
import sys
import time
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

WARM_UP, MAX_WARM_UP, MAX_RUNS = 0.2, 20, 10_000


class Torch:
    """PyTorch eager."""

    def __init__(self, args):
        import torch
        from workloads import WORKLOADS, select

        torch.set_num_threads(args.threads)
        self.torch = torch
        self.workload = WORKLOADS[args.workload]
        self.variant = args.variant
        self.select = select

    def build(self):
        self.module, inputs = self.workload.build()
        self.inputs = tuple(inputs.values())

    def compile(self):
        self.select(self.module, self.variant)

    def call(self):
        with self.torch.inference_mode():
            self.result = self.module(*self.inputs)

    def outputs(self):
        result = self.result if isinstance(self.result, tuple) else (self.result,)
        return {name: value.numpy() for name, value in zip(self.workload.outputs, result)}


class FromOnnx:
    """What ONNX Runtime and OpenVINO share: a model file and inputs from the folder."""

    def __init__(self, args):
        self.threads = args.threads
        self.path = args.folder / f"{args.variant}.onnx"
        self.folder = args.folder

    def build(self):
        self.inputs = load_file(self.folder / "inputs.safetensors")


class OnnxRuntime(FromOnnx):
    """ONNX Runtime on the CPU, with inputs bound once."""

    def __init__(self, args):
        super().__init__(args)
        import onnxruntime

        self.ort = onnxruntime

    def compile(self):
        options = self.ort.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = self.threads, 1
        options.log_severity_level = 3
        self.session = self.ort.InferenceSession(self.path, options, providers=["CPUExecutionProvider"])
        self.binding = self.session.io_binding()
        for port in self.session.get_inputs():
            value = self.ort.OrtValue.ortvalue_from_numpy(self.inputs[port.name])
            self.binding.bind_ortvalue_input(port.name, value)
        self.names = [port.name for port in self.session.get_outputs()]
        for name in self.names:
            self.binding.bind_output(name)

    def call(self):
        self.session.run_with_iobinding(self.binding)

    def outputs(self):
        return dict(zip(self.names, self.binding.copy_outputs_to_cpu()))


class OpenVino(FromOnnx):
    """OpenVINO on the CPU in f32 (it would take bf16 where the processor has it), tuned for latency."""

    def __init__(self, args):
        super().__init__(args)
        import openvino

        self.openvino = openvino

    def compile(self):
        core = self.openvino.Core()
        options = {
            "INFERENCE_NUM_THREADS": self.threads,
            "INFERENCE_PRECISION_HINT": "f32",
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": 1,
        }
        self.model = core.compile_model(core.read_model(self.path), "CPU", options)
        self.request = self.model.create_infer_request()
        for port in self.model.inputs:
            name = port.get_any_name()
            self.request.set_tensor(name, self.openvino.Tensor(self.inputs[name], shared_memory=True))

    def call(self):
        self.request.infer()

    def outputs(self):
        return {port.get_any_name(): self.request.get_tensor(port).data for port in self.model.outputs}


ENGINES = {"torch": Torch, "ort": OnnxRuntime, "openvino": OpenVino}


def status_bytes(field):
    """A field of this process's status, in bytes; `None` where the system has none."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    found = [line for line in lines if line.startswith(field + ":")]
    return int(found[0].split()[1]) * 1024 if found else None


def forget_peak():
    """The peak of resident memory is counted anew from here on, where the system allows it."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        pass


def measure(call, seconds, last_call):
    """Seconds of each call of a round. Calls that are long need no warming up."""
    started = time.perf_counter()
    for _ in range(MAX_WARM_UP if last_call < WARM_UP * seconds else 0):
        call()
        if time.perf_counter() - started >= WARM_UP * seconds:
            break
    times = []
    gc.disable()
    started = time.perf_counter()
    while not times or (time.perf_counter() - started < seconds and len(times) < MAX_RUNS):
        before = time.perf_counter()
        call()
        times.append(time.perf_counter() - before)
    gc.enable()
    return times


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("engine", choices=ENGINES)
    parser.add_argument("workload")
    parser.add_argument("variant")
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--output", type=Path, required=True)
    args = parser.parse_args()
    # What libraries print does not get between the answers.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def answer(value):
        print(json.dumps(value), file=answers, flush=True)

    engine = ENGINES[args.engine](args)
    base_bytes = status_bytes("VmRSS")
    forget_peak()
    engine.build()
    started = time.perf_counter()
    engine.compile()
    compiled = time.perf_counter()
    engine.call()
    first_call = time.perf_counter() - compiled
    outputs = {name: np.ascontiguousarray(value) for name, value in engine.outputs().items()}
    save_file(outputs, args.output)
    answer({"compile_seconds": compiled - started, "first_call_seconds": first_call, "base_bytes": base_bytes})
    last_call = first_call
    for line in sys.stdin:
        if line.strip() == "go":
            times = measure(engine.call, args.seconds, last_call)
            last_call = times[-1]
            answer({"seconds": times, "peak_bytes": status_bytes("VmHWM")})


if __name__ == "__main__":
    main()
