"""Other pairs' bars beside a pair's own: joined, carried for a while, described.

In: columns such as `close@BTCUSDT` in a candle table: which bar of the other pair is in
which row, and for how long an older one stands for it. Out: where their candles are
(`context_files`), their features (`blocks`), the columns' names (`candles.columns`).

A row has the bar of the other pair that closed with it, never one that closes later.
Where there is none, the last one stands as a filled bar does (its close, no volume),
for as many rows as missing bars of the pair itself are filled (`max_fill_bars`); behind
them, and before the first one, the row has no value. This looks at nothing later: a
table that ends at any row has the same in it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from candles.columns import PRICES, VALUES, beside_column
from candles.table import longest_fill, resample_candles
from candles.timestamps import nanoseconds_of, timeframe_nanoseconds
from config import Config
from dataset.timeframes import open_nanoseconds
from utils import DataError

_CARRIED_SHARE = 0.01  # of the bars, beyond which it is told


def columns_of(pairs: Sequence[str]) -> tuple[str, ...]:
    """Returns the candle columns of other pairs, in order."""
    return tuple(beside_column(name, pair) for pair in pairs for name in VALUES)


def require_context(
    table: Mapping[str, Any] | pd.DataFrame | pd.Series, config: Config
) -> None:
    """Raises a `DataError` where candles lack the columns of the context pairs."""
    wanted = columns_of(config.context_pairs)
    if missing := [name for name in wanted if name not in table]:
        raise DataError(
            f"expected the candles of {', '.join(config.context_pairs)} beside those "
            f"of {config.pair}. Received: none in {', '.join(missing[:2])}, ... Give "
            f"them: context={{{config.context_pairs[0]!r}: candles}}, or "
            "--context PAIR=FILE."
        )


# Joining


def join_context(
    candles: pd.DataFrame, others: Mapping[str, pd.DataFrame], timeframe: str
) -> pd.DataFrame:
    """Returns candles with the bars of other pairs that close with theirs.

    Args:
        candles: Candle table or filled bars, `(num_bars,)`; a filled one has none.
        others: Checked candle tables by pair, of `timeframe` or finer.
        timeframe: Length of a bar.

    Returns:
        The table, with columns such as `close@BTCUSDT` (float64), NaN where the other
        pair has no bar of that time.
    """
    if not others:
        return candles
    opens = open_nanoseconds(candles, "candles")
    is_real = np.ones(len(candles), bool)
    if "is_filled" in candles:
        is_real = ~candles["is_filled"].to_numpy(bool)
    joined = {}
    for pair, table in others.items():
        times = open_nanoseconds(table, f"context of {pair}")
        bars, step = table, timeframe_nanoseconds(timeframe)
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
    breaks = np.diff(filled["segment"].to_numpy(), prepend=0) != 0
    breaks |= ~is_there
    table["segment"] = np.cumsum(breaks)[rows].astype(np.int32)
    return pd.DataFrame(table, index=filled.index[rows])


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


def most_carried(config: Config) -> int:
    """Returns for how many rows a bar that is not followed stands."""
    return longest_fill(config.max_fill_bars, config.timeframe)


# Saying what there is


def describe_context(filled: pd.DataFrame, config: Config) -> dict[str, Any]:
    """Returns `first`, `last`, `bars`, `carried_bars`, `missing_bars` of each pair."""
    found = {}
    for pair in config.context_pairs:
        table = context_candles(filled, pair, most_carried=most_carried(config))
        real = table[~table["is_filled"]]
        ends = real["timestamp"].iloc[[0, -1]].tolist() if len(real) else [None, None]
        found[pair] = {
            **dict(zip(("first", "last"), ends, strict=True)),
            "bars": len(real),
            "carried_bars": int(table["is_filled"].sum()),
            "missing_bars": len(filled) - len(table),
        }
    return found


def require_reached(facts: Mapping[str, Mapping[str, Any]], config: Config) -> None:
    """Raises a `DataError` where a pair has no bar at any time of the candles."""
    for pair, fact in facts.items():
        if not fact["bars"]:
            raise DataError(
                f"context_pairs: expected candles of {pair} at the times of those of "
                f"{config.pair}. Received: none. Give those of the same days."
            )


def doubts_of_context(facts: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Returns what to say of pairs whose bars are often carried or missing."""
    found = []
    for pair, fact in facts.items():
        absent = fact["carried_bars"] + fact["missing_bars"]
        if absent > _CARRIED_SHARE * (absent + fact["bars"]):
            found.append(
                f"context {pair}: {fact['carried_bars']:,} bars without one of its own "
                f"have its last close, {fact['missing_bars']:,} more have no row"
            )
    return found


def suffix_of(pair: str) -> str:
    """Returns what names of another pair's features end with."""
    return "_" + re.sub(r"[^A-Za-z0-9]", "", pair).upper()
