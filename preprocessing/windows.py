"""Rows -> windows, and windows -> statistics, in NumPy.

In: which rows are read together, what a window says in a few numbers. Out: feeding
windows to a network (`sequence_generator`), which rows are targets (`data_loader`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

STATISTIC_BARS = (5, 15, 60)
_BITS = 24
"""Bits of a number in the statistics' sums, as many as a float32 has; fewer in windows
of more than 128 bars, whose sums of squares must fit into 64 bits."""


def evenly_spaced(rows: np.ndarray, count: int | None) -> np.ndarray:
    """Returns at most `count` of `rows`, evenly spread; all of them for None."""
    if count is None or count >= len(rows):
        return rows
    return rows[(np.arange(count, dtype=np.int64) * 2 + 1) * len(rows) // (2 * count)]


def cut_windows(
    features: np.ndarray, rows: np.ndarray, *, window_bars: int
) -> np.ndarray:
    """Returns each row's window: (num_rows, window_bars, num_features)."""
    return features[rows[:, None] + np.arange(1 - window_bars, 1, dtype=np.int32)]


def window_statistics(
    features: np.ndarray,
    rows: np.ndarray,
    *,
    window_bars: int,
    limits: np.ndarray | None = None,
) -> np.ndarray:
    """Returns mean and standard deviation of each feature over the last bars.

    Over 5, 15, 60 and `window_bars` rows that end at the row itself; lengths beyond the
    window are left out, so nothing outside a target's own window is read. Sums are of
    whole numbers, so that with `limits` a window's statistics are the same bits
    wherever it lies: in a training file, or alone, as live data has it.

    Args:
        features: (num_rows, num_features).
        rows: Rows with a whole window before them (num_targets,).
        window_bars: Bars of a window.
        limits: (num_features,) largest absolute value of each feature, from
            `value_limits`; larger ones are cut off. None takes that of `features`.

    Returns:
        (num_targets, num_features * num_lengths * 2) float32, in the order of
        `statistic_names`.
    """
    sizes = window_sizes(window_bars)
    ends = rows.astype(np.int64) + 1
    if len(rows):
        # Only the rows that are read: a part of a long file needs its own sums alone.
        first = int(ends.min()) - window_bars
        features = features[first : int(ends.max())]
        ends = ends - first
    result = np.empty((len(rows), features.shape[1] * len(sizes) * 2), np.float32)
    columns = iter(range(result.shape[1]))
    for j, column in enumerate(features.T):
        values, center = column.astype(np.float64), 0.0
        if limits is None:
            center = float(values.mean()) if len(values) else 0.0
            values -= center
            limit = float(value_limits(values[:, None])[0])
        else:
            limit = float(limits[j])
            np.clip(values, -limit, limit, out=values)
        unit = statistic_units(limit, window_bars)
        whole = np.rint(values / unit).astype(np.int64)
        # Sums may pass 64 bits and wrap; their differences do not, and are exact.
        sums = np.concatenate([[0], np.cumsum(whole)])
        squares = np.concatenate([[0], np.cumsum(whole * whole)])
        for size in sizes:
            total = sums[ends] - sums[ends - size]
            square = squares[ends] - squares[ends - size]
            result[:, next(columns)] = total * (unit / size) + center
            spread = np.sqrt((size * square - total * total).astype(np.float64))
            result[:, next(columns)] = spread * (unit / size)
    return result


def change_spread(close: Any, rows: np.ndarray, *, window_bars: int) -> np.ndarray:
    """Returns the deviation of the log changes of the closes in each row's window.

    Args:
        close: Closes of all rows (all_rows,).
        rows: Rows whose windows end there (num_rows,).
        window_bars: Bars of a window, which hold one change less.

    Returns:
        (num_rows,) float32, of one bar.
    """
    changes = np.diff(np.log(close), prepend=np.nan)
    changes[0] = 0.0  # outside every window of changes
    return window_statistics(changes[:, None], rows, window_bars=window_bars - 1)[:, -1]


def statistic_units(limits: Any, window_bars: int) -> Any:
    """Returns what a value is counted in, of each limit: n squares fit into 63 bits."""
    return limits / 2 ** min(_BITS, 31 - int(window_bars - 1).bit_length())


def value_limits(features: np.ndarray) -> np.ndarray:
    """Returns a power of two above each feature's absolute values (num_features,)."""
    largest = np.abs(features).max(axis=0, initial=0.0).astype(np.float64)
    _, exponent = np.frexp(np.where(largest > 0, largest, 0.5))
    return np.ldexp(1.0, exponent)


def window_sizes(window_bars: int) -> list[int]:
    """Returns the lengths that statistics are of, shortest first."""
    return sorted({size for size in STATISTIC_BARS if size < window_bars}) + [
        window_bars
    ]


def statistic_names(names: Sequence[str], window_bars: int) -> list[str]:
    """Returns the name of each column of `window_statistics`."""
    return [
        f"{name}_{statistic}{size}"
        for name in names
        for size in window_sizes(window_bars)
        for statistic in ("mean", "std")
    ]


def chunks(count: int, size: int) -> Iterator[slice]:
    """Yields slices of at most `size` that cover `count`."""
    return (slice(start, start + size) for start in range(0, count, size))


def whole_batches(rows: np.ndarray, size: int) -> np.ndarray:
    """Returns rows, and after them the first ones again, to fill batches of `size`.

    Fewer rows than that are filled up to a power of two: a step is compiled anew for
    each number of windows, which takes as long as a dozen steps.
    """
    count = -(-len(rows) // size) * size
    if len(rows) < size:
        count = min(size, 1 << (len(rows) - 1).bit_length())
    return np.resize(rows, (count, *rows.shape[1:]))
