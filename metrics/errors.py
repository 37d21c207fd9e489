"""Errors of forecasts of a number, each with an interval.

In: what came, what was forecast, what naming the known value again would have lost.
Out: the formulas of the scores (`scores`), of the intervals (`intervals`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from metrics import scores as formulas
from metrics.intervals import Length, cosine_interval


def error_scores(
    actual: np.ndarray,
    predicted: np.ndarray,
    known: np.ndarray,
    *,
    is_price: bool,
    length: Length,
    by_moment: Callable[[np.ndarray], np.ndarray] = np.asarray,
) -> dict[str, Any]:
    """Returns the keys of `scores.regression_metrics` and `intervals` of most of them.

    Args:
        actual: What happened (num_rows,).
        predicted: The forecast (num_rows,).
        known: The forecast of persistence (num_rows,).
        is_price: Whether errors in percent mean something.
        length: Of the stretch.
        by_moment: Gives columns (num_rows, num_columns) as one row a moment.
    """
    scores = formulas.regression_metrics(
        actual, predicted, persistence=known, is_price=is_price
    )
    table, statistics = _error_statistics(actual, predicted, known)
    scores["intervals"] = {
        name: cosine_interval(by_moment(table), statistic, length=length)
        for name, statistic in statistics.items()
        if scores.get(name) is not None or name != "mape_pct"
    }
    return scores


def _error_statistics(
    actual: np.ndarray, predicted: np.ndarray, known: np.ndarray
) -> tuple[np.ndarray, dict[str, Callable[[np.ndarray], np.ndarray]]]:
    """Returns columns (num_rows, num_columns), and each score from their means."""
    error, naive = actual - predicted, actual - known
    moved = naive != 0
    hits = moved & (np.sign(predicted - known) == np.sign(naive))
    # Deviations from one mean: variances then lose no digits on prices.
    centred = actual - actual.mean()
    columns = {
        "error": np.abs(error),
        "square": np.square(error),
        "naive_error": np.abs(naive),
        "naive_square": np.square(naive),
        "hits": hits,
        "moved": moved,
        "mean": centred,
        "mean_square": np.square(centred),
        "percent": 100.0 * np.abs(error / np.where(actual == 0, 1.0, actual)),
    }
    place = {name: k for k, name in enumerate(columns)}

    def ratio(over: str, under: str) -> Callable[[np.ndarray], np.ndarray]:
        return lambda m: m[..., place[over]] / m[..., place[under]]

    def variance(m: np.ndarray) -> np.ndarray:
        return m[..., place["mean_square"]] - np.square(m[..., place["mean"]])

    statistics = {
        "mae": lambda m: m[..., place["error"]],
        "rmse": lambda m: np.sqrt(m[..., place["square"]]),
        "r2": lambda m: 1.0 - m[..., place["square"]] / variance(m),
        "sign_accuracy": ratio("hits", "moved"),
        "skill_mae_vs_persistence": lambda m: 1.0 - ratio("error", "naive_error")(m),
        "skill_mse_vs_persistence": lambda m: 1.0 - ratio("square", "naive_square")(m),
        "mape_pct": lambda m: m[..., place["percent"]],
    }
    return np.stack(list(columns.values()), axis=1), statistics
