"""Several quantiles of one forecast: their order, their middle, what each loses.

In: arrays of one column a quantile. Out: learning them (`networks.sample_losses`),
which of them a run has (`settings.loss_fields`), their scores (`evaluation`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np


def in_order(outputs: Any) -> np.ndarray:
    """Returns quantiles (num_rows, num_quantiles) of which none crosses another.

    Sorting a row moves no quantile farther from the truth on average: Chernozhukov,
    Fernandez-Val and Galichon (2010), "Quantile and probability curves without
    crossing".

    Args:
        outputs: The same shape, or one forecast a row (num_rows,).
    """
    table = np.asarray(outputs)
    return np.sort(table[:, None] if table.ndim == 1 else table, axis=1)


def middle_of(outputs: Any) -> np.ndarray:
    """Returns the middle quantile (num_rows,), or a forecast that is alone."""
    table = in_order(outputs)
    return table[:, table.shape[1] // 2]


def column_of(level: float) -> str:
    """Returns the name of a quantile's column: `quantile_2.5` for 0.025."""
    return f"quantile_{100 * level:g}"


def pinball(actual: Any, quantiles: Any, levels: Sequence[float]) -> np.ndarray:
    """Returns what each quantile loses (num_rows, num_quantiles), in its unit.

    Koenker and Bassett (1978), "Regression quantiles".

    Args:
        actual: What came (num_rows,).
        quantiles: Predicted (num_rows, num_quantiles), or the same for all rows
            (num_quantiles,).
        levels: Of the quantiles, between 0 and 1.
    """
    error = np.asarray(actual)[:, None] - quantiles
    return np.maximum(np.multiply(levels, error), np.subtract(levels, 1) * error)
