"""Prints the workloads, or the versions of the peers, as JSON: what run.py needs to know of them without PyTorch."""

import json
import platform
import sys
from importlib.metadata import version

PACKAGES = ["torch", "torchvision", "onnx", "onnxscript", "onnxruntime", "openvino", "numpy"]


def workloads():
    from run import PEERS
    from workloads import ALL

    return [
        {
            "name": w.name,
            "group": w.group,
            "file": w.model.file,
            "options": w.model.options(),
            "variants": {peer: w.variants_for(peer) for peer in PEERS},
        }
        for w in ALL
    ]


if __name__ == "__main__":
    if "--versions" in sys.argv:
        print(json.dumps({"python": platform.python_version()} | {name: version(name) for name in PACKAGES}))
    else:
        print(json.dumps(workloads()))
