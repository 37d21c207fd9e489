"""Losses of what positions earn: Sharpe ratio, return against volatility.

In: positions of a network's outputs, what they earn after costs, the losses of it.
Out: other losses, names (`losses`), batches of consecutive bars (`sequence_generator`).

`y_true` is what a long earns from this close to the next, (batch,), as
`close[t + 1] / close[t] - 1`, whatever the target's horizon: a position is held for one
bar, and over longer returns, which overlap, each bar's move would be paid many times.
A batch is consecutive bars, in order.

Positions lie between -1, all short, and 1, all long: `P(LONG) - P(SHORT)` of three
probabilities, `tanh(position_scale * y_pred)` of one number, or that number itself.
"""

from __future__ import annotations

import math
from typing import Any

import keras
from keras import ops

from config import LONG, SHORT
from networks.loss_base import NUM_CLASSES, SavableLoss, flat, require


def positions(y_pred: Any, *, scale: float | None = 1.0) -> Any:
    """Returns positions (batch,) in [-1, 1] of a network's outputs.

    Args:
        y_pred: (batch, 3) probabilities, (batch, 1) or (batch,) numbers.
        scale: What numbers are multiplied by before the hyperbolic tangent; None takes
            them as positions.

    Raises:
        ValueError: If the outputs are of another shape.
    """
    if len(y_pred.shape) == 2 and y_pred.shape[-1] == NUM_CLASSES:
        return y_pred[:, LONG] - y_pred[:, SHORT]
    if len(y_pred.shape) > 2 or y_pred.shape[1:] not in ((), (1,)):
        raise ValueError(
            "`y_pred`: expected probabilities (batch, 3), or numbers (batch, 1) or "
            f"(batch,). Received: y_pred.shape={tuple(y_pred.shape)}"
        )
    return flat(y_pred) if scale is None else ops.tanh(scale * flat(y_pred))


def net_returns(
    y_true: Any,
    y_pred: Any,
    *,
    cost_bps: float = 0.0,
    position_scale: float | None = 1.0,
) -> Any:
    """Returns what positions earn bar by bar, after costs, as fractions (batch,).

    `position[i] * y_true[i] - cost_bps / 1e4 * abs(position[i] - position[i - 1])`.
    A batch is cut out of a longer time and the position before it is unknown: its first
    bar pays for no change.

    Args:
        y_true: Simple returns of the next bar (batch,), in order of time.
        y_pred: Outputs of the network, as in `positions`.
        cost_bps: Cost of a change of position by 1, in basis points.
        position_scale: As `scale` in `positions`.
    """
    held = positions(y_pred, scale=position_scale)
    change = ops.concatenate([ops.zeros_like(held[:1]), held[1:] - held[:-1]])
    return held * flat(y_true) - cost_bps / 1e4 * ops.abs(change)


class PositionLoss(SavableLoss):
    """Interface of a loss of a whole batch's net returns: one scalar.

    No sample has a loss of its own: every reduction leaves the scalar as it is, and
    sample weights are refused.

    Args:
        cost_bps: Cost of a change of position by 1, in basis points.
        position_scale: Sharpness of the positions of a single output; None where that
            is a position already.
        epsilon: Floor of the deviation of one bar, a return.
        **base: As in `SavableLoss`.
    """

    def __init__(
        self,
        cost_bps: float = 0.0,
        *,
        position_scale: float | None = 1.0,
        epsilon: float,
        **base: Any,
    ) -> None:
        super().__init__(**base)
        require("cost_bps", cost_bps, cost_bps >= 0, "at least 0")
        is_fit = position_scale is None or position_scale > 0
        require("position_scale", position_scale, is_fit, "above 0")
        require("epsilon", epsilon, epsilon > 0, "above 0")
        self.cost_bps = cost_bps
        self.position_scale = position_scale
        self.epsilon = epsilon

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        """Returns the loss of the batch, a scalar; refuses sample weights."""
        refuse_weights(self, sample_weight)
        return super().__call__(y_true, y_pred)

    def moments(self, y_true: Any, y_pred: Any) -> tuple[Any, Any]:
        """Returns mean and deviation of the net returns; the deviation is never 0.

        `sqrt(variance + epsilon^2)`, the variance being that of n bars, not n - 1:
        finite, with a finite gradient, for equal returns.

        Raises:
            ValueError: If the batch is known to be of fewer than two bars.
        """
        num_bars = y_true.shape[0]
        if num_bars is not None and num_bars < 2:
            raise ValueError(
                f"{self.name}: expected a batch of at least 2 consecutive bars: one "
                f"has no deviation. Received: {num_bars}. Raise batch_size."
            )
        cost, scale = self.cost_bps, self.position_scale
        net = net_returns(y_true, y_pred, cost_bps=cost, position_scale=scale)
        mean = ops.mean(net)
        variance = ops.mean(ops.square(net - mean))
        return mean, ops.sqrt(variance + self.epsilon**2)


@keras.saving.register_keras_serializable(package="trainer")
class SharpeLoss(PositionLoss):
    """Minus the Sharpe ratio of a batch: `-mean(net) / sqrt(var(net) + epsilon^2)`.

    `net` are the `net_returns` of consecutive bars. Without a unit, of one bar: times
    the root of the bars in a year (725 for 1m) it is annual. The ratio of a long time
    is not the mean of the ratios of its batches: longer batches come nearer.
    Source: Sharpe (1994), "The Sharpe ratio"; Lim, Zohren and Roberts (2019),
    "Enhancing time series momentum strategies using deep neural networks", for
    training with it.

    Args:
        cost_bps: As in `PositionLoss`.
        epsilon: Floor of the deviation, a return. All positions scaled down by one
            number have the same ratio; the floor makes no position at all worth 0, so
            that a model which earns less than its costs can leave the market.
        **base: As in `PositionLoss`.
    """

    default_name = "sharpe"

    def __init__(
        self, cost_bps: float = 0.0, *, epsilon: float = 1e-4, **base: Any
    ) -> None:
        super().__init__(cost_bps, epsilon=epsilon, **base)

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Returns the loss of the batch, a scalar."""
        mean, deviation = self.moments(y_true, y_pred)
        return -mean / deviation


@keras.saving.register_keras_serializable(package="trainer")
class ReturnVolatilityLoss(PositionLoss):
    """Volatility against return: `-A * mean(net) + lambda * sqrt(A) * std(net)`.

    `net` are the `net_returns` of consecutive bars, A the `bars_per_year`: both are of
    a year, as fractions, and a position is worth its risk where its annual Sharpe ratio
    is above lambda. With A = 1 they are of one bar, whose ratio is hardly ever that
    high: the best is no position.
    Source: Markowitz (1952), "Portfolio selection", with the deviation in the place of
    the variance.

    Args:
        volatility_lambda: Weight of the deviation, at least 0.
        bars_per_year: A, above 0; 1 takes return and deviation of one bar.
        epsilon: Floor of the deviation of one bar, a return.
        **base: As in `PositionLoss`.
    """

    default_name = "return_volatility"

    def __init__(
        self,
        volatility_lambda: float = 0.5,
        *,
        bars_per_year: float = 1.0,
        epsilon: float = 1e-8,
        **base: Any,
    ) -> None:
        super().__init__(epsilon=epsilon, **base)
        is_weight = volatility_lambda >= 0
        require("volatility_lambda", volatility_lambda, is_weight, "at least 0")
        require("bars_per_year", bars_per_year, bars_per_year > 0, "above 0")
        self.volatility_lambda = volatility_lambda
        self.bars_per_year = bars_per_year

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Returns the loss of the batch, a scalar."""
        mean, deviation = self.moments(y_true, y_pred)
        risk = self.volatility_lambda * math.sqrt(self.bars_per_year) * deviation
        return risk - self.bars_per_year * mean


def refuse_weights(loss: keras.losses.Loss, sample_weight: Any) -> None:
    """Raises ValueError for sample weights where no sample has a loss of its own."""
    if sample_weight is not None:
        raise ValueError(
            f"{loss.name}: expected no sample weights, because the loss is one of the "
            "whole batch. Received: sample weights. Set class_balancing_method 'none'."
        )
