"""A network in training: one graph branch per core, at the mix that training sees.

In: how a batch is divided, weighed by class and saved; what tells two networks apart.
Out: layers (`networks.families`), the fused loop (`networks.fused_lstm`).
"""

from __future__ import annotations

import functools
import hashlib
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from files.atomic import atomic_path
from networks.fused_lstm import FusedLSTM
from networks.micro_batches import MicroBatches


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

    Attributes:
        micro_batches: Pieces of a batch that are computed one after another, for less
            memory (`networks.micro_batches`); to be set before the first step.
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
        self.micro_batches = 1
        self.fused = FusedLSTM.of(network)
        self.odds = None if odds is None else tuple(float(value) for value in odds)

    def call(self, x: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """Returns (batch, num_classes) probabilities for (batch, bars, features)."""
        compute = self._compute(True) if training else self.say
        if self.micro_batches > 1:
            compute = self._pieces(training).outputs
        parts = [compute(each) for each in self._slices(x)]
        y = parts[0] if len(parts) == 1 else tf.concat(parts, axis=0)
        y = tf.ensure_shape(y, [None, *self.network.output_shape[1:]])
        return self._at_training_mix(y) if training else y

    def train_step(self, data: Any) -> dict[str, Any]:
        """Takes a step, in pieces where there are micro-batches."""
        if self.micro_batches == 1:
            return super().train_step(data)
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        pieces = self._pieces(True)
        weights = [variable.value for variable in self.trainable_weights]
        before = [tf.identity(variable) for variable in pieces.state]
        slices = self._slices(x)
        outputs = [pieces.outputs(each) for each in slices]
        with tf.GradientTape() as tape:
            tape.watch(outputs)
            predicted = self._at_training_mix(tf.concat(outputs, axis=0))
            predicted = tf.ensure_shape(
                predicted, [None, *self.network.output_shape[1:]]
            )
            loss = self.compute_loss(x, y, predicted, sample_weight, training=True)
            scaled = self.optimizer.scale_loss(loss)
        zero = tf.UnconnectedGradients.ZERO
        upstream, sums = tape.gradient(
            scaled, (outputs, weights), unconnected_gradients=zero
        )
        for variable, value in zip(pieces.state, before, strict=True):
            variable.assign(value)
        for windows, each in zip(slices, upstream, strict=True):
            sums = pieces.gradients(windows, each, sums, weights)
        self.optimizer.apply_gradients(zip(sums, self.trainable_weights, strict=True))
        # Keras divides a loss by the devices that it is then summed over.
        devices = tf.distribute.get_strategy().num_replicas_in_sync
        self.metrics[0].update_state(loss * devices, sample_weight=tf.shape(x)[0])
        return self.compute_metrics(x, y, predicted, sample_weight=sample_weight)

    def _slices(self, x: tf.Tensor) -> list[tf.Tensor]:
        rows, n = tf.shape(x)[0], self.num_branches
        edges = [rows * i // n for i in range(n + 1)]
        return [x[a:b] for a, b in itertools.pairwise(edges)]

    @functools.cached_property
    def say(self) -> Callable[[Any], tf.Tensor]:
        """Returns the network's (batch, outputs) for (batch, bars, features).

        One graph, traced once: what validates, predicts and asks for importance calls.
        """
        return tf.function(
            self._compute(False),
            input_signature=[tf.TensorSpec(self.network.input_shape)],
            autograph=False,
        )

    def _compute(self, training: bool | None) -> Callable[[tf.Tensor], tf.Tensor]:
        return functools.partial(self.fused or self.network, training=training)

    def _pieces(self, training: bool | None) -> MicroBatches:
        state = self.network.non_trainable_variables
        if not training:  # recurrent dropout takes a seed all the same
            state = [each for each in state if "int" in str(each.dtype)]
        return MicroBatches(
            self._compute(training),
            num_pieces=-(-self.micro_batches // self.num_branches),
            state=state,
        )

    def _at_training_mix(self, y: tf.Tensor) -> tf.Tensor:
        """Returns outputs as training sees them."""
        if self.odds is None:
            return y
        y = y * tf.constant(self.odds, y.dtype)
        return y / tf.reduce_sum(y, axis=-1, keepdims=True)

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


def describe_network(network: keras.Model) -> dict[str, Any]:
    """Returns name, sizes, Keras's table of layers and the digest of the weights."""
    lines: list[str] = []
    network.summary(line_length=88, print_fn=lines.append)
    trainable = [int(np.prod(each.shape)) for each in network.trainable_weights]
    return {
        "name": network.name,
        "total_parameters": network.count_params(),
        "trainable_parameters": sum(trainable),
        "summary": "\n".join(lines),
        "weights_sha256": weights_digest(network),
    }
