"""A network in training: one graph branch per core, at the mix that training sees.

In: how a batch is divided, weighed by class and saved; what tells two networks apart.
Out: layers (`networks.families`), the fused loop (`networks.fused_lstm`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from files.atomic import atomic_path
from networks.fused_lstm import FusedLSTM


@keras.saving.register_keras_serializable(package="trainer")
class BranchedTraining(keras.Model):
    """Trains `network`: one graph branch per core, at the mix that training sees.

    What is saved is `network` alone; it loads without this class. Every branch is the
    same layers on a slice of the batch, so loss and gradient are the whole batch's. On
    a CPU a stack of LSTM layers is computed in one loop (`networks.fused_lstm`).

    Args:
        network: Model from windows to class probabilities.
        num_branches: Slices of a batch. 1 for networks with batch normalisation, which
            would see one slice only.
        odds: (num_classes,) kept / natural share of each class (`TrainingData`). The
            network learns natural probabilities; only training sees the odds.
    """

    def __init__(
        self,
        network: keras.Model,
        *,
        num_branches: int = 1,
        odds: Sequence[float] | np.ndarray | None = None,
    ) -> None:
        super().__init__(name="branched_training")
        self.network = network
        self.num_branches = num_branches
        self.fused = FusedLSTM.of(network)
        self.odds = None if odds is None else tuple(float(value) for value in odds)

    def call(self, x: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """Returns (batch, num_classes) probabilities for (batch, bars, features)."""
        rows, n = tf.shape(x)[0], self.num_branches
        edges = [rows * i // n for i in range(n + 1)]
        slices = [x[a:b] for a, b in zip(edges, edges[1:], strict=False)]
        network = self.network if self.fused is None else self.fused
        parts = [network(each, training=training) for each in slices]
        y = parts[0] if n == 1 else tf.concat(parts, axis=0)
        if training and self.odds is not None:
            y = y * tf.constant(self.odds, y.dtype)
            y = y / tf.reduce_sum(y, axis=-1, keepdims=True)
        return y

    def save(self, filepath: Any, overwrite: bool = True, **kwargs: Any) -> None:
        """Saves the network, whole or not at all: Keras alone writes in place."""
        with atomic_path(filepath) as temporary:
            self.network.save(temporary, overwrite=overwrite, **kwargs)

    def save_weights(self, filepath: Any, overwrite: bool = True) -> None:
        """Saves the network's weights."""
        with atomic_path(filepath) as temporary:
            self.network.save_weights(temporary, overwrite=overwrite)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {
            "network": keras.saving.serialize_keras_object(self.network),
            "num_branches": self.num_branches,
            "odds": self.odds,
        }

    @classmethod
    def from_config(cls, config: Mapping[str, Any], **_: Any) -> BranchedTraining:
        """Rebuilds from `get_config`."""
        values = dict(config)
        network = keras.saving.deserialize_keras_object(values.pop("network"))
        return cls(network, **values)


def weights_digest(model: keras.Model) -> str:
    """Returns the SHA-256 of a model's weights: equal bytes, equal digest."""
    digest = hashlib.sha256()
    for variable in model.variables:
        value = np.ascontiguousarray(variable.numpy())
        digest.update(f"{value.dtype}{value.shape}".encode())
        digest.update(value.tobytes())
    return digest.hexdigest()
