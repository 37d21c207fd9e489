#!/usr/bin/env bash
# What a GPU does for training, in under ten minutes: speed against stock Keras and
# PyTorch, whole runs, the same predictions as on the CPU.
#
#   make .venv/bench.stamp && benchmarks/gpu_check.sh [FOLDER for the figures]
set -euo pipefail
cd "$(dirname "$0")/.."
out=${1:-outputs/gpu_check}
python=.venv/bin/python
mkdir -p "$out"
nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader |
  tee "$out/gpu.txt"
export TF_CPP_MIN_LOG_LEVEL=3

echo "== windows a second, one process after another"
$python benchmarks/bench_training.py --repeats 1 --json "$out/training.json" \
  --only ours "ours, mixed precision" "ours, deterministic ops" "stock Keras" \
  "stock Keras, mixed precision" PyTorch "PyTorch, mixed precision"

echo "== a whole run: on the GPU, mixed, deterministic twice, on the CPU"
$python dataset_builder.py --demo >/dev/null
run() { # NAME FLAGS...: the seconds of a run, its artifact under $out/NAME
  local name=$1 started=$SECONDS
  shift
  $python trainer.py --config demo.yaml --output-dir "$out/$name" "$@" \
    >"$out/$name.txt" 2>&1 || { tail -n 20 "$out/$name.txt"; return 1; }
  echo "$name: $((SECONDS - started)) s"
}
run gpu
run mixed --mixed-precision
run repeat1 --deterministic-ops --epochs 2
run repeat2 --deterministic-ops --epochs 2
CUDA_VISIBLE_DEVICES='' run cpu --epochs 2

echo "== two runs side by side"
started=$SECONDS
run side1 & first=$!
run side2 --seed 43 & second=$!
wait $first && wait $second
echo "both: $((SECONDS - started)) s"

echo "== the same bits twice; the same forecasts on CPU and GPU"
$python - "$out" <<'PYTHON'
import os
import sys
from pathlib import Path

import numpy as np

out = Path(sys.argv[1])


def weights(name):
    import zipfile

    (path,) = out.glob(f"{name}/models/*/*/*/*.keras")
    with zipfile.ZipFile(path) as file:
        return file.read("model.weights.h5")


print("deterministic runs are equal:", weights("repeat1") == weights("repeat2"))
import keras
import tensorflow as tf

(path,) = out.glob("gpu/models/*/*/*/*.keras")
model = keras.saving.load_model(path, compile=False, safe_mode=True)
windows = np.random.default_rng(0).standard_normal((512, *model.input_shape[1:]))
found = []
for device in ("/CPU:0", "/GPU:0"):
    with tf.device(device):
        found.append(np.asarray(model(tf.constant(windows, tf.float32))))
print("largest difference of a probability:", np.abs(found[0] - found[1]).max())
PYTHON
