"""A network that classifies and takes a position, from two trained ones: `hybrid`.

In: which of their layers it begins with, its two heads and their loss, what is learned
when. Out: opening the trained ones (`models.hybrid_adapter`), the loop (`branched`).

A window goes through the layers of a trained classifier up to its last hidden one; two
heads read what these give. The classes' head is the classifier's own. The position's is
the policy of an agent that saw the same numbers, as it acts without a position: the
numbers of its account are 0 then.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import layers, ops

from config import LONG, SHORT
from networks.callbacks import Logs
from networks.families import feature_extractor
from networks.loss_base import NUM_CLASSES
from networks.losses import LossPart
from utils import ConfigError

POSITION_HEAD = "position"

_LEAST_UNIT = 1e-6
"""Of what an agent sees: a description of a network has no larger numbers."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Trunk:
    """Layers between what a classifier sees and a position.

    Attributes:
        layers: Kernel (inputs, units) and bias (units,) of each dense layer, the last
            of one unit, whose tanh is the position.
        activation: Of the layers before it.
        units: What is first taken off each input (inputs,), and what the rest is
            divided by (inputs,); None leaves them.
    """

    layers: Sequence[tuple[np.ndarray, np.ndarray]]
    activation: str
    units: tuple[np.ndarray, np.ndarray] | None = None


def trunk_of(
    policy: keras.Model,
    num_inputs: int,
    *,
    units: tuple[np.ndarray, np.ndarray] | None = None,
) -> Trunk:
    """Returns what a policy does with an embedding while it holds no position.

    Of probabilities of SHORT, FLAT and LONG the position is the tanh of half the
    difference of the logits of LONG and SHORT: their mean, were there no FLAT.

    Args:
        policy: Dense layers from an embedding, followed by numbers of an account, to
            three probabilities or to a position.
        num_inputs: Numbers of the embedding.
        units: See `Trunk`.

    Raises:
        ConfigError: If it is another network.
    """
    dense = [each for each in policy.layers if isinstance(each, layers.Dense)]
    weights = [each.get_weights() for each in dense]
    found = [(np.asarray(kernel), np.asarray(bias)) for kernel, bias in weights]
    outputs = found[-1][1].shape[0] if found else 0
    if outputs not in (1, NUM_CLASSES) or found[0][0].shape[0] < num_inputs:
        raise ConfigError(
            f"rl_model: expected an agent that sees the {num_inputs} numbers that the "
            f"last hidden layer of base_model gives. Received: {policy.name}, from "
            f"{policy.input_shape} to {policy.output_shape}"
        )
    kernel, bias = found[0]
    found[0] = kernel[:num_inputs], bias
    kernel, bias = found[-1]
    if outputs == NUM_CLASSES:
        kernel = (kernel[:, LONG] - kernel[:, SHORT])[:, None] / 2
        found[-1] = kernel, (bias[LONG] - bias[SHORT])[None] / 2
    activation = dense[0].activation.__name__ if len(dense) > 1 else "linear"
    return Trunk(layers=found, activation=activation, units=units)


def hybrid(
    base: keras.Model,
    trunk: Trunk | None,
    *,
    hidden: Sequence[int],
    dtype: str = "float32",
) -> tuple[keras.Model, list[str]]:
    """Returns a network of both, and the names of the layers that were trained before.

    Args:
        base: A classifier that ends in a dense layer; it stays as it is.
        trunk: Between its last hidden layer and a position; None begins with layers
            that say no position.
        hidden: Units of these.
        dtype: Dtype policy of the position's layers.

    Returns:
        Functional model: (batch, bars, features) -> (batch, 4), the probabilities of
        SHORT, HOLD and LONG, and a position in [-1, 1].

    Raises:
        ConfigError: If the classifier is no such network.
    """
    copy = keras.models.clone_model(base)
    copy.set_weights(base.get_weights())
    try:
        seen = feature_extractor(copy).output
    except ValueError as error:
        raise ConfigError(f"base_model: {error}") from error
    if copy.output_shape != (None, NUM_CLASSES) or seen.ndim != 2:
        raise ConfigError(
            "base_model: expected a network that ends in a dense layer of three "
            f"classes. Received: {base.name}, with outputs {copy.output_shape}"
        )
    warm = [layer.name for layer in copy.layers[:-1]]
    x = seen
    if trunk is not None and trunk.units is not None:
        center, scale = trunk.units
        scale = np.maximum(scale, _LEAST_UNIT)
        affine = (1.0 / scale).tolist(), (-center / scale).tolist()
        x = layers.Rescaling(*affine, name="seen_by_agent", dtype=dtype)(x)
    sizes = hidden if trunk is None else [len(bias) for _, bias in trunk.layers[:-1]]
    activation = "tanh" if trunk is None else trunk.activation
    added = [
        layers.Dense(units, activation, name=f"actor_{number}", dtype=dtype)
        for number, units in enumerate(sizes, start=1)
    ]
    zeros = "zeros"  # no position, until training knows a better one
    head = {"kernel_initializer": zeros, "name": POSITION_HEAD, "dtype": "float32"}
    added.append(layers.Dense(1, "tanh", **head))
    for layer in added:
        x = layer(x)
    if trunk is not None:
        for layer, weights in zip(added, trunk.layers, strict=True):
            layer.set_weights(weights)
        warm += [layer.name for layer in added[:-1]]
    join = layers.Concatenate(name="heads", dtype="float32")
    return keras.Model(copy.input, join([copy.output, x]), name="hybrid"), warm


def class_network(network: keras.Model) -> keras.Model:
    """Returns a hybrid up to its classes (batch, 3); the weights are shared."""
    classes, _ = network.get_layer("heads").input
    return keras.Model(network.input, classes, name=f"{network.name}_classes")


# What it learns


def of_classes(y_true: Any, y_pred: Any) -> tuple[Any, Any]:
    """Returns class ids (batch,) and probabilities (batch, 3) of both heads' columns.

    Args:
        y_true: (batch, 2) class id and simple return of the next bar.
        y_pred: (batch, 4) probabilities and position.
    """
    return y_true[:, 0], y_pred[:, :NUM_CLASSES]


def of_position(y_true: Any, y_pred: Any) -> tuple[Any, Any]:
    """Returns returns (batch,) and positions (batch, 1) of both heads' columns."""
    return y_true[:, 1], y_pred[:, NUM_CLASSES:]


class TwoHeadLoss(keras.losses.Loss):
    """Sum of a loss of the classes and one of the position, over consecutive bars.

    `class_weight * class_loss + (1 - class_weight) * position_loss`. The second has no
    loss of a sample, so sample weights are refused.

    Args:
        class_loss: Of class ids and probabilities.
        position_loss: Of returns and positions; one scalar.
        class_weight: Between 0 and 1.
    """

    def __init__(
        self,
        class_loss: keras.losses.Loss,
        position_loss: keras.losses.Loss,
        *,
        class_weight: float,
    ) -> None:
        super().__init__(name="two_heads")
        self.class_loss, self.position_loss = class_loss, position_loss
        self.class_weight = class_weight

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        """Returns the loss of a batch, a scalar."""
        y_true, y_pred = map(ops.convert_to_tensor, (y_true, y_pred))
        classes = self.class_loss(*of_classes(y_true, y_pred))
        earned = self.position_loss(*of_position(y_true, y_pred), sample_weight)
        return self.class_weight * classes + (1.0 - self.class_weight) * earned

    def metrics(self, of_class: Sequence[keras.metrics.Metric]) -> list[HeadMetric]:
        """Returns the metrics of the classes, and both losses before their weights."""
        both = [*of_class, LossPart(self.class_loss, name="class_loss")]
        position = LossPart(self.position_loss, name="position_loss")
        return [
            *(HeadMetric(each, of_classes) for each in both),
            HeadMetric(position, of_position),
        ]


class HeadMetric(keras.metrics.Metric):
    """A metric of one head.

    Args:
        metric: Of the head's truth and prediction; its name is taken.
        head: `of_classes` or `of_position`.
    """

    def __init__(self, metric: keras.metrics.Metric, head: Any) -> None:
        super().__init__(name=metric.name)
        self.metric, self.head = metric, head

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Adds a batch."""
        self.metric.update_state(*self.head(y_true, y_pred), sample_weight)

    def result(self) -> Any:
        """Returns the metric's."""
        return self.metric.result()

    def reset_state(self) -> None:
        """Begins anew."""
        self.metric.reset_state()


class Phases(keras.callbacks.Callback):
    """Lets the heads learn alone first, then all layers together.

    Frozen layers normalise by what they learned before. When they join, the optimizer
    begins anew: its means of their gradients were of none. Which phase it is follows
    from the epoch alone, so that a resumed training is in the same one.

    Must come before what saves the state of an epoch.

    Args:
        epochs: Of the first phase; 0 has none.
        warm: Names of the layers that rest in it.
    """

    def __init__(self, epochs: int, warm: Collection[str]) -> None:
        super().__init__()
        self.epochs, self.warm = epochs, frozenset(warm)
        self._is_frozen = False

    def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:
        """Freezes or frees the layers, where that is not done."""
        is_frozen = epoch < self.epochs
        if is_frozen == self._is_frozen:
            return
        self._is_frozen = is_frozen
        for layer in self.model.network.layers:
            if layer.name in self.warm:
                layer.trainable = not is_frozen
        self.model.make_train_function(force=True)

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        """Lets the optimizer begin anew after the last epoch of the first phase."""
        if epoch + 1 != self.epochs:
            return
        optimizer = self.model.optimizer
        optimizer = getattr(optimizer, "inner_optimizer", optimizer)
        for variable in optimizer.variables:
            if variable is not optimizer.learning_rate:
                variable.assign(np.zeros(variable.shape, variable.dtype))
