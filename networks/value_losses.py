"""Losses of a predicted number: Huber, quantile, direction.

In: formulas and their options. Out: names (`losses`), what `y_true` is there.
"""

from __future__ import annotations

import math
from typing import Any

import keras
from keras import ops

from networks.loss_base import SavableLoss, flat, require

_register = keras.saving.register_keras_serializable(package="trainer")


@_register
class HuberLoss(SavableLoss):
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
        super().__init__(name=name, **base)
        require("delta", delta, delta > 0, "above 0")
        self.delta = delta

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Returns each sample's loss (batch,)."""
        pair = flat(y_true)[:, None], flat(y_pred)[:, None]
        return keras.losses.huber(*pair, delta=self.delta)


@_register
class QuantileLoss(SavableLoss):
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


@_register
class DirectionalLoss(SavableLoss):
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
