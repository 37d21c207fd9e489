"""What a model that is fitted in rounds loses after each of them.

In: losses and accuracy, as training sees them and at the natural class mix. Out: which
round is kept (`tabular_adapter`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np

from metrics import scores as metrics
from models.window_tables import ClassMix, Table


def learning_curves(
    sampled: Table,
    monitored: Table,
    staged: Callable[[np.ndarray], Iterable[np.ndarray]],
    *,
    mix: ClassMix | None,
) -> dict[str, list[float]]:
    """Returns scores of each round: `loss` as training sees it, `val_loss` not.

    Args:
        sampled: Rows of training.
        monitored: Rows of validation.
        staged: Says what a fitted model says of inputs after each round.
        mix: Of classes; None where the target is a number.
    """
    curves: dict[str, list[float]] = {}
    rounds = zip(staged(sampled.inputs), staged(monitored.inputs), strict=True)
    for before, after in rounds:
        if mix is not None:
            before, after = mix.training(before), mix.natural(after)
        scores = _scores(sampled.targets, before, sampled.weights) | {
            f"val_{name}": value
            for name, value in _scores(monitored.targets, after).items()
        }
        for name, value in scores.items():
            curves.setdefault(name, []).append(value)
    return curves


def _scores(
    targets: np.ndarray, outputs: np.ndarray, weights: np.ndarray | None = None
) -> dict[str, float]:
    """Returns loss and accuracy of probabilities, or the squared error of numbers."""
    if outputs.ndim == 1:
        return {"loss": float(np.square(outputs - targets).mean())}
    losses = metrics.row_log_loss(targets, outputs)
    hits = outputs.argmax(axis=1) == targets
    return {
        "accuracy": float(np.average(hits, weights=weights)),
        "loss": float(np.average(losses, weights=weights)),
    }
