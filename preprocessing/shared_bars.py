"""How many bars two sets of samples share: what a split promises, counted.

In: target rows. Out: where samples lie (`splits`, `parts`).

A sample is a target row t: its window rows t-window_bars+1 .. t and its label bars
t+1 .. t+future_window.
"""

from __future__ import annotations

import numpy as np


def count_shared_bars(
    a: np.ndarray, b: np.ndarray, *, window_bars: int, future_window: int
) -> int:
    """Returns the number of bars that samples of `a` and samples of `b` both use.

    Args:
        a: Target rows (num_a,).
        b: Target rows (num_b,).
        window_bars: Rows that a sample's window reads.
        future_window: Bars that a sample's label looks ahead.
    """
    a, b = np.asarray(a), np.asarray(b)
    if a.size == 0 or b.size == 0:
        return 0
    last = max(int(a.max()), int(b.max()))
    sizes = {"window_bars": window_bars, "future_window": future_window}
    used, also_used = (_used_bars(rows, last, **sizes) for rows in (a, b))
    return int(np.count_nonzero(used & also_used))


def count_lookback_rows(
    train: np.ndarray,
    test: np.ndarray,
    *,
    lookback_bars: int,
    window_bars: int,
    future_window: int,
) -> int:
    """Returns how many training samples have features that look back into the test.

    The features of row r read the bars r-lookback_bars .. r, and a sample's window
    begins at t-window_bars+1. Reading the past is no leak when training comes first;
    where training follows a test block, these samples have seen its bars as inputs.

    Args:
        train: Target rows (num_train,).
        test: Target rows (num_test,).
        lookback_bars: Bars that the slowest feature looks back, beyond its own.
        window_bars: Rows that a sample's window reads.
        future_window: Bars that a sample's label looks ahead.
    """
    train, test = np.asarray(train), np.asarray(test)
    if train.size == 0 or test.size == 0:
        return 0
    last = max(int(train.max()), int(test.max()))
    used = _used_bars(test, last, window_bars=window_bars, future_window=future_window)
    seen = np.concatenate([[0], np.cumsum(used)])
    offset = window_bars - 1
    end = train + offset + 1
    start = np.clip(train - lookback_bars, 0, None)
    return int(np.count_nonzero(seen[end] > seen[start]))


def _used_bars(
    rows: np.ndarray, last: int, *, window_bars: int, future_window: int
) -> np.ndarray:
    """Returns which bars the samples use; index 0 is bar -(window_bars - 1)."""
    length = last + window_bars + future_window
    changes = np.zeros(length + 1, np.int8)
    changes[rows] += 1  # a row that repeats counts once, here and there
    changes[window_bars + future_window :][rows] -= 1
    return np.cumsum(changes, dtype=np.int32)[:length] > 0
