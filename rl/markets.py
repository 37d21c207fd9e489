"""The market that a training file describes, for agents: `market_of`.

In: scaled rows, or what a trained network sees in their windows, and close-to-close
returns. Out: episodes of it (`simulator`), the rows and parts themselves
(`preprocessing.training_data`).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from preprocessing.training_data import TrainingData
from preprocessing.windows import chunks, cut_windows
from rl.simulator import Market
from utils import DataError

_CHUNK_ROWS = 2048


def market_of(
    data: TrainingData, *, embed: Callable[[np.ndarray], np.ndarray] | None = None
) -> Market:
    """Returns the rows of a training file as a market.

    A return is known where the label of a target looks at it: so none crosses a
    segment, a jump of the price or the edge of a part, and what parts purge stays
    purged.

    Args:
        data: Arrays and parts, with the closes of their bars.
        embed: From windows (num_windows, window_bars, num_features) to what an agent
            sees of them (num_windows, num_numbers), such as a network's extractor; None
            shows the scaled last row.

    Raises:
        DataError: If the file has no `close`, or the training part no return.
    """
    close = data.outcomes.get("close")
    if close is None:
        raise DataError(
            "expected a training file with a column close, which an agent's position "
            "earns by. Received: none. Build one with dataset_builder.py"
        )
    seen = known_rows(data)
    returns = np.full(data.num_rows, np.nan)
    rows = np.flatnonzero(seen)
    returns[rows] = np.log(close[rows + 1] / close[rows].astype(np.float64))
    train = returns[data.parts["train"].start : data.parts["train"].stop]
    train = train[np.isfinite(train)]
    if len(train) < 2 or not train.std() > 0:
        raise DataError(
            "expected a training part whose price moves. Received: "
            f"{len(train)} returns that do not"
        )
    features = data.features if embed is None else _embedded(data, rows, embed)
    return Market(features=features, returns=returns, scale=float(train.std()))


def known_rows(data: TrainingData) -> np.ndarray:
    """Returns the rows (num_rows,) whose next close some target's label looks at."""
    edges = np.zeros(data.num_rows + data.future_window + 1, np.int64)
    for part in data.parts.values():
        np.add.at(edges, part.targets, 1)
        np.add.at(edges, part.targets + data.future_window, -1)
    seen = np.cumsum(edges)[: data.num_rows] > 0
    seen[data.timeline.starts[1:] - 1] = False  # the next row is not the next bar
    seen[-1:] = False
    return seen


def _embedded(
    data: TrainingData, rows: np.ndarray, embed: Callable[[np.ndarray], np.ndarray]
) -> np.ndarray:
    """Returns what `embed` says of the window of each row, 0 for the other rows.

    In units of its deviation over the training part, as the scaled features are.
    """
    found: np.ndarray | None = None
    for piece in chunks(len(rows), _CHUNK_ROWS):
        windows = cut_windows(data.features, rows[piece], window_bars=data.window_bars)
        said = np.asarray(embed(windows), np.float32)
        if found is None:
            found = np.zeros((data.num_rows, said.shape[1]), np.float32)
        found[rows[piece]] = said
    if found is None:
        raise DataError("expected targets. Received: none")
    part = data.parts["train"]
    train = found[rows[(rows >= part.start) & (rows < part.stop)]]
    center, spread = train.mean(axis=0), train.std(axis=0)
    found[rows] = (found[rows] - center) / np.where(spread > 0, spread, 1.0)
    return found
