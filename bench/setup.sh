#!/bin/sh
# Installs the peers into a virtual environment:  bench/setup.sh FOLDER
# It needs Python 3.11 or later, and about 7 GB: PyTorch's wheel brings libraries for GPUs that no one asks for here. Where
# PyTorch's own index can be reached, `TORCH_INDEX=https://download.pytorch.org/whl/cpu` fetches the small wheel.
set -eu
folder=${1:?usage: bench/setup.sh FOLDER}
bench=$(cd "$(dirname "$0")" && pwd)
test -x "$folder/bin/python" || python3 -m venv "$folder"
if test -n "${TORCH_INDEX:-}"; then
    grep '^torch' "$bench/requirements.txt" | xargs "$folder/bin/pip" install --index-url "$TORCH_INDEX"
fi
"$folder/bin/pip" install -r "$bench/requirements.txt"
"$folder/bin/python" -c 'import onnxruntime, openvino, torch, torchvision'
