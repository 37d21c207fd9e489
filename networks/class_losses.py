"""Losses of three probabilities: focal, cost-sensitive.

In: formulas and their options. Out: names (`losses`), weights of classes in a batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

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
