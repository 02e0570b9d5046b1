"""Prints the largest relative difference between the outputs of an engine and those expected.

For each output it is the largest absolute difference over the largest absolute value expected; a missing
output, another shape and anything that is not a number count as infinite.

usage: compare.py EXPECTED.safetensors FOUND.safetensors
"""

import sys

import numpy as np
from safetensors.numpy import load_file


def relative_difference(found, expected):
    if found is None or found.shape != expected.shape:
        return float("inf")
    with np.errstate(invalid="ignore"):
        difference = np.abs(found.astype(np.float64) - expected).max(initial=0.0)
    scale = max(float(np.abs(expected).max(initial=0.0)), np.finfo(np.float32).tiny)
    return float(difference / scale) if np.isfinite(difference) else float("inf")


if __name__ == "__main__":
    expected, found = (load_file(path) for path in sys.argv[1:3])
    print(max(relative_difference(found.get(name), value) for name, value in expected.items()))
