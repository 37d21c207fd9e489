"""What a network says of windows that are in memory: `CompiledNetwork`.

In: one window through XLA, many in steps of equal size. Out: windows of a training
file's rows, what their outputs mean (`keras_adapter`).
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import Any

import numpy as np

from preprocessing.windows import chunks, whole_batches

BATCH_WINDOWS = 512


class CompiledNetwork:
    """Answers windows by functions that are traced once.

    Args:
        network: From (batch, window_bars, num_features).
        say: What it says of many windows, where that is traced already.
    """

    def __init__(self, network: Any, *, say: Any = None) -> None:
        self.network = network
        self._traced = say

    def __call__(self, windows: np.ndarray) -> np.ndarray:
        """Returns the outputs (num_windows, num_outputs) of scaled windows."""
        if len(windows) == 1:
            return self._say_one(windows).numpy()
        return self.of_batches(windows[s] for s in chunks(len(windows), BATCH_WINDOWS))

    def of_batches(self, batches: Iterable[np.ndarray]) -> np.ndarray:
        """Returns the outputs of batches of windows, one after the other."""
        say, size = self._say_many, BATCH_WINDOWS
        said = [say(whole_batches(each, size)).numpy()[: len(each)] for each in batches]
        return np.concatenate(said)

    @functools.cached_property
    def _say_one(self) -> Any:
        # To find the traced function for each window takes as long as a small network.
        return self._compiled(1).get_concrete_function()

    @functools.cached_property
    def _say_many(self) -> Any:
        return self._traced or self._compiled(None)

    def _compiled(self, num_windows: int | None) -> Any:
        import tensorflow as tf

        from networks.fused_lstm import FusedLSTM

        network, is_one = self.network, num_windows == 1
        model = network if is_one else FusedLSTM.of(network) or network

        def say(windows: Any) -> Any:
            return model(windows, training=False)

        spec = tf.TensorSpec((num_windows, *network.input_shape[1:]))
        options = {"input_signature": [spec], "jit_compile": is_one or None}
        # Layers have no Python to translate into a graph: it takes half a second.
        return tf.function(say, autograph=False, **options)
