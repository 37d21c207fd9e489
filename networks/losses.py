"""Keras losses of classes and of numbers, their sums, and all by name: `create_loss`.

In: formulas, their options, what is reported of a sum. Out: losses of what positions
earn (`position_losses`), which loss suits which target and what it reads
(`settings.loss_fields`), batches in the order that a loss needs (`sequence_generator`).

What `y_true` is depends on the loss (`settings.loss_fields.LOSSES[name].y_true`):

- "class": (batch,) class ids, 0 SHORT, 1 HOLD, 2 LONG; `y_pred` (batch, 3)
  probabilities.
- "value": (batch,) the number that is predicted, a log return in units of
  `preprocessing.scaling.TargetScaler`; `y_pred` (batch, 1) or (batch,).
- "return": (batch,) simple returns of the next bar, in order; see `position_losses`.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from config import Config
from networks.position_losses import (
    NUM_CLASSES,
    PositionLoss,
    ReturnVolatilityLoss,
    SharpeLoss,
    flat,
    refuse_weights,
    require,
)
from settings.loss_fields import LOSS_NAMES, LOSS_PRESETS, LOSSES
from utils import ConfigError, did_you_mean

SECONDS_PER_YEAR = 365 * 86_400

ORDINAL_COSTS = ((0.0, 1.0, 2.0), (1.0, 0.0, 1.0), (2.0, 1.0, 0.0))
"""Costs (true, predicted): the wrong side is twice as bad as HOLD."""

_register = keras.saving.register_keras_serializable(package="trainer")


# Of a predicted number


@_register
class HuberLoss(keras.losses.Huber):
    """Squared, then absolute error: `e^2 / 2`, from `|e| = d` on `d * (|e| - d / 2)`.

    With `e = y_true - y_pred`, in units of `y_true` squared. Keras's own forgets its
    delta when it is saved.
    Source: Huber (1964), "Robust estimation of a location parameter".

    Args:
        delta: d, above 0, in units of `y_true`.
        name: Name of the loss.
        **base: `reduction` and `dtype` of `keras.losses.Loss`.
    """

    def __init__(self, delta: float = 1.0, *, name: str = "huber", **base: Any) -> None:
        require("delta", delta, delta > 0, "above 0")
        super().__init__(delta=delta, name=name, **base)
        self.delta = delta

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return super().get_config() | {"delta": self.delta}


@_register
class QuantileLoss(keras.losses.Loss):
    """Pinball loss, whose minimum is a quantile: `max(q * e, (q - 1) * e)`.

    With `e = y_true - y_pred`, in units of `y_true`. At 0.9 a value above the
    prediction costs nine times one below.
    Source: Koenker and Bassett (1978), "Regression quantiles".

    Args:
        quantile: q, between 0 and 1.
        name: Name of the loss.
        **base: `reduction` and `dtype` of `keras.losses.Loss`.
    """

    def __init__(
        self, quantile: float = 0.5, *, name: str = "quantile", **base: Any
    ) -> None:
        super().__init__(name=name, **base)
        require("quantile", quantile, 0 < quantile < 1, "between 0 and 1")
        self.quantile = quantile

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Returns each sample's loss (batch,)."""
        error = flat(y_true) - flat(y_pred)
        return ops.maximum(self.quantile * error, (self.quantile - 1.0) * error)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return super().get_config() | {"quantile": self.quantile}


@_register
class DirectionalLoss(keras.losses.Loss):
    """Squared error and wrong signs: `w * e^2 + (1 - w) * softplus(-k * m) / ln 2`.

    `e = (y_pred - y_true) / scale`, margin `m = y_pred * y_true / scale^2`, both
    without a unit: a prediction of 0 costs 1 in the part of the sign, and about 1 in
    that of the error if `scale` is the deviation of `y_true`. The sign part is the
    logistic loss of the margin: unlike the share of wrong signs it has a gradient
    wherever something moved, and a large move counts for more. A sign is meant against
    0 of `y_true`: the training mean, if that was subtracted.
    Source: Friedman, Hastie and Tibshirani (2000), "Additive logistic regression", for
    the logistic loss of a margin.

    Args:
        mse_weight: w, in [0, 1].
        sharpness: k, above 0.
        scale: Size of a usual move in units of `y_true`, above 0.
        name: Name of the loss.
        **base: `reduction` and `dtype` of `keras.losses.Loss`.
    """

    def __init__(
        self,
        mse_weight: float = 0.6,
        *,
        sharpness: float = 1.0,
        scale: float = 1.0,
        name: str = "directional",
        **base: Any,
    ) -> None:
        super().__init__(name=name, **base)
        require("mse_weight", mse_weight, 0 <= mse_weight <= 1, "in [0, 1]")
        require("sharpness", sharpness, sharpness > 0, "above 0")
        require("scale", scale, scale > 0, "above 0")
        self.mse_weight = mse_weight
        self.sharpness = sharpness
        self.scale = scale

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Returns each sample's loss (batch,)."""
        true, predicted = flat(y_true) / self.scale, flat(y_pred) / self.scale
        squared = ops.square(predicted - true)
        sign = ops.softplus(-self.sharpness * predicted * true) / math.log(2.0)
        return self.mse_weight * squared + (1.0 - self.mse_weight) * sign

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return super().get_config() | {
            "mse_weight": self.mse_weight,
            "sharpness": self.sharpness,
            "scale": self.scale,
        }


# Of classes


@_register
class FocalLoss(keras.losses.Loss):
    """Cross-entropy that cares less for what is right: `a_y * (1 - p_y)^g * -ln(p_y)`.

    `p_y` is the probability of the true class; in nats. With g = 0 and no weights it is
    the cross-entropy. Its minimum is not the true probability: outputs are less sure
    than they should be, and want calibration. Keras's own takes one-hot labels, this
    one class ids.
    Source: Lin, Goyal, Girshick, He and Dollar (2017), "Focal loss for dense object
    detection", eq. 5.

    Args:
        gamma: g, at least 0.
        alpha: (3,) weight of each true class; None weighs them equally.
        name: Name of the loss.
        **base: `reduction` and `dtype` of `keras.losses.Loss`.
    """

    def __init__(
        self,
        gamma: float = 2.0,
        *,
        alpha: Sequence[float] | None = None,
        name: str = "focal",
        **base: Any,
    ) -> None:
        super().__init__(name=name, **base)
        require("gamma", gamma, gamma >= 0, "at least 0")
        is_known = alpha is None or (len(alpha) == NUM_CLASSES and min(alpha) > 0)
        require("alpha", alpha, is_known, "three numbers above 0, or None")
        self.gamma = gamma
        self.alpha = None if alpha is None else tuple(float(value) for value in alpha)

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Returns each sample's loss (batch,)."""
        is_true = _one_hot(y_true, y_pred)
        p = _clipped(ops.sum(is_true * y_pred, axis=-1))
        loss = -ops.power(1.0 - p, self.gamma) * ops.log(p)
        if self.alpha is not None:
            weights = ops.convert_to_tensor(self.alpha, dtype=y_pred.dtype)
            loss = loss * ops.sum(is_true * weights, axis=-1)
        return loss

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return super().get_config() | {"gamma": self.gamma, "alpha": self.alpha}


@_register
class CostSensitiveCrossentropy(keras.losses.Loss):
    """Cross-entropy plus expected cost: `-ln(p_y) + w * sum_j costs[y][j] * p_j`.

    In nats and units of cost. Its minimum is not the true probability: outputs shy away
    from costly errors, and want calibration.
    Source: Galdran, Dolz, Chakor, Lombaert and Ben Ayed (2020), "Cost-sensitive
    regularization for diabetic retinopathy grading from eye fundus images", eq. 2.

    Args:
        costs: (3, 3) cost of predicting j where y is true, at least 0; 0 where j is y.
        cost_weight: w, at least 0.
        name: Name of the loss.
        **base: `reduction` and `dtype` of `keras.losses.Loss`.
    """

    def __init__(
        self,
        costs: Sequence[Sequence[float]] = ORDINAL_COSTS,
        *,
        cost_weight: float = 1.0,
        name: str = "cost_sensitive",
        **base: Any,
    ) -> None:
        super().__init__(name=name, **base)
        table = np.asarray(costs, dtype=np.float64)
        is_table = table.shape == (NUM_CLASSES, NUM_CLASSES) and table.min() >= 0
        is_table = bool(is_table and not table.diagonal().any())
        require("costs", costs, is_table, "3 rows of 3 numbers >= 0, diagonal 0")
        require("cost_weight", cost_weight, cost_weight >= 0, "at least 0")
        self.costs = tuple(map(tuple, table.tolist()))
        self.cost_weight = cost_weight

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Returns each sample's loss (batch,)."""
        is_true = _one_hot(y_true, y_pred)
        p = _clipped(ops.sum(is_true * y_pred, axis=-1))
        costs = ops.matmul(is_true, ops.convert_to_tensor(self.costs, y_pred.dtype))
        return self.cost_weight * ops.sum(costs * y_pred, axis=-1) - ops.log(p)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return super().get_config() | {
            "costs": self.costs,
            "cost_weight": self.cost_weight,
        }


# Combined


@_register
class CombinedLoss(keras.losses.Loss):
    """Weighted sum of losses: `sum_k w_k * loss_k` with weights that sum to 1.

    All parts are compared with the same `y_true`. Each keeps its unit: the weights are
    of the numbers as they are, and `part_metrics` shows them while training. With a
    part that has one loss for the whole batch, sample weights are refused.

    Args:
        losses: Losses, or names of `create_loss`; each name once.
        weights: Weight of each, at least 0, not all 0; None weighs them equally.
        name: Name of the loss.
        **base: `reduction` and `dtype` of `keras.losses.Loss`.
    """

    def __init__(
        self,
        losses: Sequence[keras.losses.Loss | str],
        weights: Sequence[float] | None = None,
        *,
        name: str = "combined",
        **base: Any,
    ) -> None:
        super().__init__(name=name, **base)
        self.losses = tuple(
            create_loss(item) if isinstance(item, str) else item for item in losses
        )
        names = [loss.name for loss in self.losses]
        is_list = 0 < len(names) == len(set(names))
        require("losses", names, is_list, "at least one loss, each name once")
        given = [1.0] * len(names) if weights is None else [float(w) for w in weights]
        is_fit = len(given) == len(names) and min(given) >= 0 and sum(given) > 0
        require("weights", weights, is_fit, "a number >= 0 for each loss, one above 0")
        self.weights = tuple(weight / sum(given) for weight in given)

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        """Returns the reduced loss.

        Raises:
            ValueError: If there are sample weights and a part has none to weigh.
        """
        if any(isinstance(loss, PositionLoss) for loss in self.losses):
            refuse_weights(self, sample_weight)
        return super().__call__(y_true, y_pred, sample_weight)

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Returns each sample's loss (batch,), a scalar if every part's is one."""
        parts = zip(self.weights, self.losses, strict=True)
        return sum(weight * loss.call(y_true, y_pred) for weight, loss in parts)

    def get_individual_losses(self, y_true: Any, y_pred: Any) -> dict[str, Any]:
        """Returns name -> loss of each part, reduced, before its weight."""
        return {loss.name: loss(y_true, y_pred) for loss in self.losses}

    def part_metrics(self) -> list[keras.metrics.Metric]:
        """Returns a metric of each part's name, before its weight, for `compile`."""
        return [LossPart(loss) for loss in self.losses]

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        serialize = keras.saving.serialize_keras_object
        return super().get_config() | {
            "losses": [serialize(loss) for loss in self.losses],
            "weights": self.weights,
        }

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> CombinedLoss:
        """Rebuilds from `get_config`."""
        rebuild = keras.saving.deserialize_keras_object
        parts = [rebuild(loss) for loss in config["losses"]]
        return cls(**dict(config) | {"losses": parts})


@_register
class LossPart(keras.metrics.Mean):
    """Mean of a loss over the samples of an epoch, as a metric of its name.

    Args:
        loss: The loss.
        name: Name of the metric; None takes the loss's.
        dtype: As in `keras.metrics.Metric`.
    """

    def __init__(
        self, loss: keras.losses.Loss, *, name: str | None = None, dtype: Any = None
    ) -> None:
        super().__init__(name=name or loss.name, dtype=dtype)
        self.loss = loss

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Adds a batch; one loss of a whole batch counts once for each sample."""
        y_true = ops.convert_to_tensor(y_true, dtype=self.dtype)
        y_pred = ops.convert_to_tensor(y_pred, dtype=self.dtype)
        values = self.loss.call(y_true, y_pred) + ops.zeros_like(flat(y_true))
        super().update_state(values, sample_weight)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        loss = keras.saving.serialize_keras_object(self.loss)
        return {"loss": loss, "name": self.name, "dtype": self.dtype}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> LossPart:
        """Rebuilds from `get_config`."""
        loss = keras.saving.deserialize_keras_object(config["loss"])
        return cls(**dict(config) | {"loss": loss})


# By name

_CLASSES: dict[str, Callable[..., keras.losses.Loss]] = {
    "cross_entropy": keras.losses.SparseCategoricalCrossentropy,
    "focal": FocalLoss,
    "cost_sensitive": CostSensitiveCrossentropy,
    "mse": keras.losses.MeanSquaredError,
    "mae": keras.losses.MeanAbsoluteError,
    "huber": HuberLoss,
    "quantile": QuantileLoss,
    "directional": DirectionalLoss,
    "sharpe": SharpeLoss,
    "return_volatility": ReturnVolatilityLoss,
    "combined": CombinedLoss,
}

_KERAS_DOCUMENTED = {
    "cross_entropy": "Cross-entropy of class ids, in nats: `-ln(p_y)`.",
    "mse": "Squared error, in units of `y_true` squared: `(y_true - y_pred)^2`.",
    "mae": "Absolute error, in units of `y_true`: `|y_true - y_pred|`.",
}


def create_loss(name: str, **options: Any) -> keras.losses.Loss:
    """Returns a loss, or a preset, by its name.

    Args:
        name: One of `loss_names()`.
        **options: Arguments of its class, over those of the preset.

    Raises:
        ConfigError: If there is no such loss or option.

    Example:
        >>> create_loss("sharpe", cost_bps=15).cost_bps
        15
    """
    if name not in LOSS_NAMES:
        raise ConfigError(
            f"loss: expected one of {', '.join(LOSS_NAMES)}. Received: {name!r}."
            + did_you_mean(str(name), LOSS_NAMES)
        )
    kind, preset = LOSS_PRESETS.get(name, (name, {}))
    known = _option_names(kind)
    for option in options:
        if option not in known:
            raise ConfigError(
                f"loss {name!r}: expected options among {', '.join(known)}. "
                f"Received: {option!r}." + did_you_mean(option, known)
            )
    return _CLASSES[kind](**{"name": name} | preset | options)


def loss_names() -> tuple[str, ...]:
    """Returns the names that `create_loss` takes, presets last."""
    return LOSS_NAMES


def describe(name: str) -> str:
    """Returns a loss's formula, targets, `y_true` and order of batches, as text."""
    kind, preset = LOSS_PRESETS.get(name, (name, {}))
    text = _KERAS_DOCUMENTED.get(kind) or (inspect.getdoc(_CLASSES[kind]) or "")
    lines = [text.split("\n\nArgs:")[0]]
    if preset:
        shown = ", ".join(f"{key}={value}" for key, value in preset.items())
        lines.append(f"Preset: {kind} with {shown}.")
    if kind in LOSSES:
        traits = LOSSES[kind]
        order = "consecutive bars" if traits.is_sequential else "any samples"
        targets = ", ".join(traits.targets)
        lines.append(f"Targets: {targets}. y_true: {traits.y_true}. Batch: {order}.")
    return "\n".join(lines)


def loss_from_config(config: Config) -> keras.losses.Loss:
    """Returns the loss that a configuration asks for."""
    if config.loss != "combined":
        return _configured(config.resolved_loss, config)
    return CombinedLoss(
        [_configured(name, config) for name in config.loss_parts], config.loss_weights
    )


def metrics_from_config(config: Config, loss: keras.losses.Loss) -> list[Any]:
    """Returns the metrics that go with a loss: accuracy of classes, parts of a sum."""
    parts = loss.part_metrics() if isinstance(loss, CombinedLoss) else []
    if config.loss_traits.y_true != "class":
        return parts
    # By its name Keras would make it in the first step, and trace that twice.
    return [keras.metrics.SparseCategoricalAccuracy(name="accuracy"), *parts]


def _configured(name: str, config: Config) -> keras.losses.Loss:
    """Returns one loss with its options of the configuration."""
    kind = LOSS_PRESETS.get(name, (name, {}))[0]
    cost = config.loss_cost_bps
    costs = config.misclassification_costs
    fields: dict[str, dict[str, Any]] = {
        "focal": {"gamma": config.focal_gamma, "alpha": config.focal_alpha},
        "cost_sensitive": {
            "costs": None if costs is None else (costs[:3], costs[3:6], costs[6:])
        },
        "huber": {"delta": config.huber_delta},
        "quantile": {"quantile": config.quantile},
        "directional": {"mse_weight": config.directional_mse_weight},
        "sharpe": {},
        "return_volatility": {
            "volatility_lambda": config.volatility_lambda,
            "bars_per_year": SECONDS_PER_YEAR / config.bar_seconds,
        },
    }
    options = fields.get(kind, {})
    if LOSSES[kind].y_true == "return":
        total = config.fee_bps + config.slippage_bps
        options["cost_bps"] = total if cost is None else cost
    given = {key: value for key, value in options.items() if value is not None}
    return create_loss(name, **given)


def _option_names(kind: str) -> list[str]:
    """Returns the arguments of a loss's constructor, those of Keras's base included."""
    own = inspect.signature(_CLASSES[kind]).parameters.values()
    names = [item.name for item in own if item.kind is not item.VAR_KEYWORD]
    return list(dict.fromkeys([*names, "name", "reduction", "dtype"]))


# Shared


def _one_hot(y_true: Any, y_pred: Any) -> Any:
    """Returns class ids as (batch, 3) of 0 and 1, of the type of `y_pred`.

    Raises:
        ValueError: If the labels are not ids, or the outputs no three probabilities.
    """
    if len(y_pred.shape) != 2 or y_pred.shape[-1] != NUM_CLASSES:
        raise ValueError(
            "`y_pred`: expected probabilities (batch, 3). "
            f"Received: y_pred.shape={tuple(y_pred.shape)}"
        )
    if len(y_true.shape) == 2 and y_true.shape[-1] == NUM_CLASSES:
        raise ValueError(
            "`y_true`: expected class ids (batch,). Received: y_true.shape="
            f"{tuple(y_true.shape)}; turn one-hot labels into ids by argmax."
        )
    ids = ops.cast(flat(y_true), "int32")
    return ops.one_hot(ids, NUM_CLASSES, dtype=y_pred.dtype)


def _clipped(p: Any) -> Any:
    """Returns probabilities that have a logarithm, clipped as Keras clips them."""
    return ops.clip(p, keras.config.epsilon(), 1.0 - keras.config.epsilon())
