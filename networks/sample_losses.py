"""Losses that each sample has: of three probabilities, of a predicted number.

In: formulas and their options. Out: names (`losses`), what `y_true` is there, losses of
a whole batch (`position_losses`), weights of classes in a batch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops
from keras.config import epsilon

from networks.loss_base import NUM_CLASSES, SavableLoss, flat, require

ORDINAL_COSTS = ((0.0, 1.0, 2.0), (1.0, 0.0, 1.0), (2.0, 1.0, 0.0))
"""Costs (true, predicted): the wrong side is twice as bad as HOLD."""

_register = keras.saving.register_keras_serializable(package="trainer")


@_register
class FocalLoss(SavableLoss):
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
        **base: As in `SavableLoss`.
    """

    default_name = "focal"

    def __init__(
        self, gamma: float = 2.0, *, alpha: Sequence[float] | None = None, **base: Any
    ) -> None:
        super().__init__(**base)
        require("gamma", gamma, gamma >= 0, "at least 0")
        is_known = alpha is None or (len(alpha) == NUM_CLASSES and min(alpha) > 0)
        require("alpha", alpha, is_known, "three numbers above 0, or None")
        self.gamma = gamma
        self.alpha = None if alpha is None else tuple(float(value) for value in alpha)

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Returns each sample's loss (batch,)."""
        is_true, p = _truth(y_true, y_pred)
        loss = -ops.power(1.0 - p, self.gamma) * ops.log(p)
        if self.alpha is not None:
            weights = ops.convert_to_tensor(self.alpha, dtype=y_pred.dtype)
            loss = loss * ops.sum(is_true * weights, axis=-1)
        return loss


@_register
class CostSensitiveCrossentropy(SavableLoss):
    """Cross-entropy plus expected cost: `-ln(p_y) + w * sum_j costs[y][j] * p_j`.

    In nats and units of cost. Its minimum is not the true probability: outputs shy away
    from costly errors, and want calibration.
    Source: Galdran, Dolz, Chakor, Lombaert and Ben Ayed (2020), "Cost-sensitive
    regularization for diabetic retinopathy grading from eye fundus images", eq. 2.

    Args:
        costs: (3, 3) cost of predicting j where y is true, at least 0; 0 where j is y.
        cost_weight: w, at least 0.
        **base: As in `SavableLoss`.
    """

    default_name = "cost_sensitive"

    def __init__(
        self,
        costs: Sequence[Sequence[float]] = ORDINAL_COSTS,
        *,
        cost_weight: float = 1.0,
        **base: Any,
    ) -> None:
        super().__init__(**base)
        table = np.asarray(costs, dtype=np.float64)
        is_table = table.shape == (NUM_CLASSES, NUM_CLASSES) and table.min() >= 0
        is_table = bool(is_table and not table.diagonal().any())
        require("costs", costs, is_table, "3 rows of 3 numbers >= 0, diagonal 0")
        require("cost_weight", cost_weight, cost_weight >= 0, "at least 0")
        self.costs = tuple(map(tuple, table.tolist()))
        self.cost_weight = cost_weight

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Returns each sample's loss (batch,)."""
        is_true, p = _truth(y_true, y_pred)
        costs = ops.matmul(is_true, ops.convert_to_tensor(self.costs, y_pred.dtype))
        return self.cost_weight * ops.sum(costs * y_pred, axis=-1) - ops.log(p)


@_register
class HuberLoss(SavableLoss):
    """Squared, then absolute error: `e^2 / 2`, from `|e| = d` on `d * (|e| - d / 2)`.

    With `e = y_true - y_pred`, in units of `y_true` squared. Keras's own forgets its
    delta when it is saved.
    Source: Huber (1964), "Robust estimation of a location parameter".

    Args:
        delta: d, above 0, in units of `y_true`.
        **base: As in `SavableLoss`.
    """

    default_name = "huber"

    def __init__(self, delta: float = 1.0, **base: Any) -> None:
        super().__init__(**base)
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
        quantile: q, between 0 and 1; of several, each of which is an output, the mean
            loss counts.
        **base: As in `SavableLoss`.
    """

    default_name = "quantile"

    def __init__(self, quantile: float | Sequence[float] = 0.5, **base: Any) -> None:
        super().__init__(**base)
        levels = [quantile] if isinstance(quantile, float | int) else list(quantile)
        is_good = len(levels) > 0 and all(0 < each < 1 for each in levels)
        require("quantile", quantile, is_good, "between 0 and 1")
        self.quantile = levels[0] if len(levels) == 1 else levels

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Returns each sample's loss (batch,)."""
        if not isinstance(self.quantile, list):
            error, level = flat(y_true) - flat(y_pred), self.quantile
            return ops.maximum(level * error, (level - 1.0) * error)
        expected = f"{len(self.quantile)} outputs of each sample"
        is_fit = tuple(y_pred.shape[1:]) == (len(self.quantile),)
        require("y_pred", tuple(y_pred.shape), is_fit, expected)
        error = ops.expand_dims(flat(y_true), 1) - y_pred
        levels = ops.convert_to_tensor(self.quantile, error.dtype)
        return ops.mean(ops.maximum(levels * error, (levels - 1.0) * error), axis=1)


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
        **base: As in `SavableLoss`.
    """

    default_name = "directional"

    def __init__(
        self,
        mse_weight: float = 0.6,
        *,
        sharpness: float = 1.0,
        scale: float = 1.0,
        **base: Any,
    ) -> None:
        super().__init__(**base)
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


def _truth(y_true: Any, y_pred: Any) -> tuple[Any, Any]:
    """Returns class ids as (batch, 3) of 0 and 1, and their clipped probabilities."""
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
    # Clipped as Keras clips them, so that they have a logarithm.
    ids = ops.cast(flat(y_true), "int32")
    is_true, least = ops.one_hot(ids, NUM_CLASSES, dtype=y_pred.dtype), epsilon()
    return is_true, ops.clip(ops.sum(is_true * y_pred, axis=-1), least, 1.0 - least)
