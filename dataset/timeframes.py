"""Features of a higher timeframe beside each bar, of its last bar that closed.

In: candles of the higher timeframe, and which of them a bar knows. Out: features of one
timeframe (`features`).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from candles.table import fill_gaps, resample_candles
from candles.timestamps import nanoseconds_of
from utils import DataError, duration_seconds


def higher_candles(
    filled: pd.DataFrame, timeframe: str, higher_timeframe: str
) -> pd.DataFrame:
    """Returns whole bars of a higher timeframe, in segments as the finer ones are.

    Args:
        filled: Bars with `segment`, from `candles.fill_gaps`.
        timeframe: Length of a bar of `filled`.
        higher_timeframe: Length of a bar that is wanted.
    """
    is_first = (filled["segment"].diff() > 0).to_numpy()
    bars = resample_candles(filled, higher_timeframe, source_timeframe=timeframe)
    # A segment ends where one of the finer bars does.
    cuts = nanoseconds_of(filled["timestamp"])[is_first]
    return fill_gaps(bars, higher_timeframe, max_fill_bars=0, cuts=cuts)


def join_higher_timeframe(
    candles: pd.DataFrame,
    higher_features: pd.DataFrame,
    *,
    timeframe: str,
    higher_timeframe: str,
) -> pd.DataFrame:
    """Gives every bar the features of the last higher-timeframe bar that has closed.

    | higher bar (1h) opens | closes | first 1m row that has it (its open) | closes |
    |---|---|---|---|
    | 10:00 | 11:00 | 10:59 | 11:00 |

    A higher bar counts as current until the next one should have closed. Where that
    one is missing (an incomplete bar at a segment's edge) the row has no value.

    Args:
        candles: Candle table with `timestamp`, `(num_bars,)` rows.
        higher_features: A `timestamp` column (open of the higher bar, increasing) and
            the feature columns, `(num_higher_bars, 1 + num_features)`.
        timeframe: Length of a bar of `candles`.
        higher_timeframe: Length of a bar of `higher_features`.

    Returns:
        A table with the index of `candles`; columns are named `{name}_{timeframe}`,
        such as `close_change_1h`. Rows without a current higher bar are NaN.

    Raises:
        ValueError: If `higher_timeframe` is not longer than `timeframe`.
        DataError: If a `timestamp` column is missing or not increasing.
    """
    step, higher_step = map(duration_seconds, (timeframe, higher_timeframe))
    if higher_step <= step:
        raise ValueError(
            "`higher_timeframe`: expected one longer than `timeframe`. "
            f"Received: timeframe={timeframe!r}, higher_timeframe={higher_timeframe!r}"
        )
    closes = open_nanoseconds(candles, "candles") + step * 10**9
    opens = open_nanoseconds(higher_features, "higher_features")
    higher_closes = opens + higher_step * 10**9
    last = np.searchsorted(higher_closes, closes, side="right") - 1
    known = last >= 0
    if len(higher_closes):
        known &= closes - higher_closes[last] < higher_step * 10**9
    table = higher_features.drop(columns="timestamp")
    joined = {}
    for name in table.columns:
        values = table[name].to_numpy()
        column = np.full(len(candles), np.nan, values.dtype)
        column[known] = values[last[known]]
        joined[f"{name}_{higher_timeframe}"] = column
    return pd.DataFrame(joined, index=candles.index)


def open_nanoseconds(table: pd.DataFrame, what: str) -> np.ndarray:
    """Returns the opens of bars (num_bars,) as int64 nanoseconds, increasing.

    Raises:
        DataError: If there are none, or they are not; `what` names the table.
    """
    if "timestamp" not in table.columns:
        raise DataError(
            f"`{what}`: expected a 'timestamp' column (UTC, the open of the bar). "
            f"Received: {', '.join(map(str, table.columns))}."
        )
    times = nanoseconds_of(table["timestamp"])
    if len(times) > 1 and not np.all(np.diff(times) > 0):
        raise DataError(
            f"`{what}`: expected strictly increasing timestamps. "
            "Sort the table and drop repeated bars, or use `candles.read_candles`."
        )
    return times


def segment_ranges(candles: pd.DataFrame, timeframe: str) -> Iterator[tuple[int, int]]:
    """Yields the first row and the row after the last of every gapless stretch."""
    breaks = np.zeros(max(0, len(candles) - 1), bool)
    if "segment" in candles.columns:
        segment = candles["segment"].to_numpy()
        breaks = segment[1:] != segment[:-1]
    elif "timestamp" in candles.columns:
        step = duration_seconds(timeframe) * 10**9
        breaks = np.diff(open_nanoseconds(candles, "candles")) != step
    edges = np.concatenate(([0], np.flatnonzero(breaks) + 1, [len(candles)]))
    yield from zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True)
