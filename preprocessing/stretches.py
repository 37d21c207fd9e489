"""Runs of consecutive bars as batches, for losses that need them in order.

In: which targets make a step of such a loss, what a position held over the next bar
earns. Out: their order in an epoch, cutting windows (`sequence_generator`).
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import numpy as np

from utils import DataError

if TYPE_CHECKING:
    from data_loader import TrainingData

logger = logging.getLogger(__name__)


def next_bar_returns(data: TrainingData) -> np.ndarray:
    """Returns what a long earns from each close to the next (num_rows,) float32.

    Simple returns, as fractions, whatever the horizon of the target. NaN where the next
    bar is missing: at the end, and before a gap.

    Raises:
        DataError: If the rows have no closing prices.
    """
    if "close" not in data.outcomes:
        raise DataError(
            "expected a column 'close' for a loss of what positions earn. Received: "
            f"{', '.join(data.outcomes) or 'no such column'}. Build the file with "
            "dataset_builder.py, or choose a loss that needs no prices."
        )
    close = np.asarray(data.outcomes["close"], np.float64)
    result = np.full(len(close), np.nan, np.float32)
    result[:-1] = close[1:] / close[:-1] - 1.0
    result[data.timeline.starts[1:] - 1] = np.nan
    return result


def consecutive_stretches(rows: np.ndarray, *, longest: int) -> list[np.ndarray]:
    """Cuts runs of consecutive rows into stretches, of equal length within a run.

    Runs of less than half of `longest` are left out: as a batch, some bars would count
    for as much as a whole stretch. So are single bars, which have no deviation.

    Args:
        rows: (num_targets,) ascending rows.
        longest: Most rows of a stretch.

    Returns:
        Stretches (num_bars,) of rows, in order of time.
    """
    runs = np.split(rows, np.flatnonzero(np.diff(rows) != 1) + 1)
    return [
        stretch
        for run in runs
        if len(run) and 2 * len(run) >= longest
        for stretch in np.array_split(run, -(-len(run) // longest))
        if len(stretch) > 1
    ]


def cut_stretches(
    name: str, rows: np.ndarray, longest: int, *, returns: np.ndarray | None
) -> list[np.ndarray]:
    """Returns the stretches of a part's targets whose next bar is there.

    Args:
        name: The part, for messages.
        rows: (num_targets,) ascending rows.
        longest: Most rows of a stretch.
        returns: (num_rows,) from `next_bar_returns`; None where the loss reads none.

    Raises:
        DataError: If there is no stretch.
    """
    if returns is not None:
        rows = rows[np.isfinite(returns[rows])]
    stretches = consecutive_stretches(rows, longest=longest)
    if not stretches:
        raise DataError(
            f"{name}: expected consecutive targets, at least half a batch of "
            f"{longest}. Received: {len(rows)} targets in shorter runs. Lower "
            "batch_size, or choose a loss that needs no consecutive bars."
        )
    if left_out := len(rows) - sum(map(len, stretches)):
        logger.info(
            "%s: %d of %d targets are left out, in runs of under %d bars",
            *(name, left_out, len(rows), -(-longest // 2)),
        )
    return stretches


def whole_stretches(
    stretches: list[np.ndarray], num_windows: int | None
) -> tuple[int, int]:
    """Returns about as many windows as are wanted, and the stretches that they make.

    None wants all.
    """
    total = sum(map(len, stretches))
    if num_windows is None:
        return total, len(stretches)
    count = max(1, round(num_windows * len(stretches) / total))
    return round(count * total / len(stretches)), count
