"""What stands beside a pair's prices: joined, carried for a while, described.

In: columns such as `close@BTCUSDT` and `funding_rate` in a candle table: which value is
in which row, and for how long an older one stands for it. Out: where their candles are
(`context_files`), their features (`blocks`), the columns' names (`candles.columns`).

A row has the bar of the other pair that closed with it, never one that closes later.
Where there is none, the last one stands as a filled bar does (its close, no volume),
for as many rows as missing bars of the pair itself are filled (`max_fill_bars`); behind
them, and before the first one, the row has no value. A funding rate stands until the
next is due. This looks at nothing later: a table that ends at any row has the same in
it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from candles.columns import EXTRAS, PRICES, VALUES, beside_column
from candles.table import longest_fill, resample_candles
from candles.timestamps import nanoseconds_of, timeframe_nanoseconds
from config import Config
from dataset.beside_prices import funding_bars
from dataset.timeframes import open_nanoseconds
from utils import DataError

FUNDING = "funding_rate"

_CARRIED_SHARE = 0.01  # of the bars, beyond which it is told


def columns_of(pairs: Sequence[str]) -> tuple[str, ...]:
    """Returns the candle columns of other pairs, in order."""
    return tuple(beside_column(name, pair) for pair in pairs for name in VALUES)


# Joining


def join_context(
    candles: pd.DataFrame, others: Mapping[str, pd.DataFrame], timeframe: str
) -> pd.DataFrame:
    """Returns candles with the bars of other pairs that close with theirs.

    Args:
        candles: Candle table or filled bars, `(num_bars,)`; a filled one has none.
        others: Checked candle tables by pair, of `timeframe` or finer; by the name of
            one of `EXTRAS` its values and their times (`context_files.read_series`).
        timeframe: Length of a bar.

    Returns:
        The table, with columns such as `close@BTCUSDT` (float64), NaN where the other
        pair has no bar of that time; `funding_rate`, where such a value came in the bar
        or, without one, before it.
    """
    if not others:
        return candles
    opens = open_nanoseconds(candles, "candles")
    is_real = np.ones(len(candles), bool)
    if "is_filled" in candles:
        is_real = ~candles["is_filled"].to_numpy(bool)
    joined = {}
    step = timeframe_nanoseconds(timeframe)
    for pair, table in others.items():
        if pair in EXTRAS:
            joined[pair] = _join_series(opens + step, is_real, table, pair)
            continue
        times = open_nanoseconds(table, f"context of {pair}")
        bars = table
        if np.diff(times).min(initial=step) < step:
            bars = resample_candles(table, timeframe)
            times = nanoseconds_of(bars["timestamp"])
        at = np.minimum(np.searchsorted(times, opens), max(0, len(times) - 1))
        known = is_real & (times[at] == opens) if len(times) else is_real & False
        for name in VALUES:
            column = np.full(len(candles), np.nan)
            column[known] = bars[name].to_numpy()[at[known]]
            joined[beside_column(name, pair)] = column
    return candles.assign(**joined)


def _join_series(
    closes: np.ndarray, is_real: np.ndarray, series: pd.DataFrame, name: str
) -> np.ndarray:
    """Returns the last value that came up to each close (num_bars,), NaN without.

    Each stands in the first bar that closes with it or later, however long that is: the
    bars behind are for `carry`.
    """
    column = np.full(len(closes), np.nan)
    rows = np.flatnonzero(is_real)
    times = nanoseconds_of(series["timestamp"])
    at = np.searchsorted(closes[rows], times)
    known = at < len(rows)
    # Of several in a bar the last one is written last.
    column[rows[at[known]]] = series[name].to_numpy()[known]
    return column


# Bars that a row knows


def context_candles(
    filled: pd.DataFrame, pair: str, *, most_carried: int
) -> pd.DataFrame:
    """Returns the other pair's bars that the rows of a table know, as filled bars.

    Args:
        filled: Bars with `segment`, and the columns of `join_context`.
        pair: The other pair.
        most_carried: Rows for which the last bar stands where there is none.

    Returns:
        Candle columns, `is_filled` and `segment` of the rows that know one; the index
        is that of `filled`. A segment ends with one of the pair itself, and where the
        other pair is missing for longer.
    """
    values = {name: filled[beside_column(name, pair)].to_numpy() for name in VALUES}
    is_known = np.logical_and.reduce([np.isfinite(v) for v in values.values()])
    last, is_there = carry(is_known, filled["segment"].to_numpy(), most_carried)
    rows = np.flatnonzero(is_there)
    last = last[rows]
    added = last < rows
    close = values["close"][last]
    table: dict[str, Any] = {"timestamp": filled["timestamp"].iloc[rows]}
    for name in PRICES:
        table[name] = np.where(added, close, values[name][last])
    table["volume"] = np.where(added, 0.0, values["volume"][last])
    table["is_filled"] = added
    table["segment"] = _segments(filled, is_there)[rows]
    return pd.DataFrame(table, index=filled.index[rows])


def rows_with(
    filled: pd.DataFrame, names: Sequence[str], config: Config
) -> pd.DataFrame:
    """Returns the bars that know a value of each named column, carried where it is old.

    Args:
        filled: Bars with `segment` and the columns.
        names: Of `EXTRAS`.
        config: Timeframe, and what is filled.
    """
    segment, columns = filled["segment"].to_numpy(), {}
    is_there = np.ones(len(filled), bool)
    for name in names:
        values = filled[name].to_numpy(np.float64)
        most = most_carried(config, name)
        last, is_known = carry(np.isfinite(values), segment, most)
        columns[name], is_there = values[last], is_there & is_known
    table = filled.assign(**columns, segment=_segments(filled, is_there))
    return table[is_there]


def _segments(filled: pd.DataFrame, is_there: np.ndarray) -> np.ndarray:
    """Returns the number of each row's stretch of rows that are there (num_rows,)."""
    breaks = np.diff(filled["segment"].to_numpy(), prepend=0) != 0
    return np.cumsum(breaks | ~is_there).astype(np.int32)


def carry(
    is_known: np.ndarray, segment: np.ndarray, most_carried: int
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the last row that is known, and whether it may stand, (num_rows,) each.

    Args:
        is_known: Rows with a value (num_rows,).
        segment: Segment of each row (num_rows,); none is carried into another.
        most_carried: Rows for which a value stands beyond its own.
    """
    rows = np.arange(len(is_known))
    last = np.maximum.accumulate(np.where(is_known, rows, -1))
    starts = np.maximum.accumulate(
        np.where(np.diff(segment, prepend=segment[:1]) != 0, rows, 0)
    )
    return last, (last >= starts) & (last >= 0) & (rows - last <= most_carried)


def most_carried(config: Config, name: str | None = None) -> int:
    """Returns for how many rows a bar, or a value of a column, that is the last stands.

    A funding rate stands until the next is due, eight hours later at most.
    """
    bars = longest_fill(config.max_fill_bars, config.timeframe)
    return max(bars, funding_bars(config.bar_seconds)) if name == FUNDING else bars


# Saying what there is


def describe_context(
    filled: pd.DataFrame, config: Config, names: Sequence[str]
) -> dict[str, Any]:
    """Returns `first`, `last`, `bars`, `carried_bars`, `missing_bars` of each.

    Args:
        filled: Bars with `segment` and the columns.
        config: Context pairs, timeframe, and what is filled.
        names: Of `EXTRAS`, those that are read.
    """
    closes = {pair: beside_column("close", pair) for pair in config.context_pairs}
    found = {}
    for each, column in (closes | {name: name for name in names}).items():
        is_known = np.isfinite(filled[column].to_numpy())
        most = most_carried(config, column)
        _, is_there = carry(is_known, filled["segment"].to_numpy(), most)
        times = filled["timestamp"][is_known]
        ends = times.iloc[[0, -1]].tolist() if len(times) else [None, None]
        found[each] = {
            **dict(zip(("first", "last"), ends, strict=True)),
            "bars": len(times),
            "carried_bars": int(np.count_nonzero(is_there & ~is_known)),
            "missing_bars": int(np.count_nonzero(~is_there)),
        }
    return found


def require_reached(facts: Mapping[str, Mapping[str, Any]], config: Config) -> None:
    """Raises a `DataError` where a pair has no bar at any time of the candles."""
    for pair, fact in facts.items():
        if not fact["bars"]:
            what = pair if pair in EXTRAS else f"candles of {pair}"
            raise DataError(
                f"context: expected {what} at the times of candles of {config.pair}. "
                "Received: none. Give those of the same days."
            )


def doubts_of_context(facts: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Returns what to say of what is often carried or missing."""
    found = []
    for pair, fact in facts.items():
        num_bars = fact["bars"] + fact["carried_bars"] + fact["missing_bars"]
        absent = fact["missing_bars"]
        if pair not in EXTRAS:  # a rate is carried from settlement to settlement
            absent += fact["carried_bars"]
        if absent > _CARRIED_SHARE * num_bars:
            found.append(
                f"context {pair}: an older value stands in {fact['carried_bars']:,} of "
                f"{num_bars:,} bars, {fact['missing_bars']:,} have none"
            )
    return found


def suffix_of(pair: str) -> str:
    """Returns what names of another pair's features end with."""
    return "_" + re.sub(r"[^A-Za-z0-9]", "", pair).upper()
