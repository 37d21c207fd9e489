"""A Keras network as a TensorFlow Lite model of one window, of builtin operators alone.

In: an unrolled copy of a network, its conversion by Keras's own export. Out: scaling
and calibration, which stay outside: TensorFlow Lite computes no doubles.
"""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from live.onnx_networks import require_float32


def network_to_tflite(network: Any) -> bytes:
    """Returns the file: (1, window_bars, num_features) float32, scaled, to outputs.

    Raises:
        ConfigError: If the network computes in another precision than float32.
    """
    import tensorflow as tf

    require_float32(network)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.tflite"
        unrolled(network).export(
            path,
            format="litert",
            input_signature=[tf.TensorSpec((1, *network.input_shape[1:]))],
            target_spec={"supported_ops": [tf.lite.OpsSet.TFLITE_BUILTINS]},
            verbose=False,
        )
        return path.read_bytes()


def unrolled(network: Any) -> Any:
    """Returns a copy whose recurrent layers are one step after another.

    Lists of tensors, which a loop over bars needs, have no builtin operators.
    """
    import keras

    copy = keras.Model.from_config(_without_loops(network.get_config()))
    copy.set_weights(network.get_weights())
    return copy


def _without_loops(value: Any) -> Any:
    """Returns a configuration whose recurrent layers, members' too, are unrolled."""
    if isinstance(value, dict):
        return {k: k == "unroll" or _without_loops(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(map(_without_loops, value))
    return value


def runner(content: bytes) -> Callable[[np.ndarray], np.ndarray]:
    """Returns what answers one scaled window (1, window_bars, num_features)."""
    import tensorflow as tf

    with warnings.catch_warnings():
        # It points to ai_edge_litert, a package with the same interpreter.
        warnings.filterwarnings("ignore", r"\s*Warning: tf.lite.Interpreter is deprec")
        interpreter = tf.lite.Interpreter(model_content=content, num_threads=1)
    interpreter.allocate_tensors()
    [given], [found] = interpreter.get_input_details(), interpreter.get_output_details()

    def answer(window: np.ndarray) -> np.ndarray:
        interpreter.set_tensor(given["index"], window)
        interpreter.invoke()
        return interpreter.get_tensor(found["index"])

    return answer
