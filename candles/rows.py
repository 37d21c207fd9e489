"""Columns of a file or a frame, and what they are -> rows in order, not yet judged.

In: putting times, prices and volume together; what is certain is done and said: newest
first, exact duplicates, minutes without a trade, bars that open off the boundaries
after an outage; prices under each other's names. Out: what the names say (`layouts`),
what times mean (`moments`), what makes candles good candles (`checks`).
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from candles.columns import FETCH_AGAIN, PRICES, floats_of, make_table, refusal
from candles.layouts import Layout, encloses, is_price
from candles.moments import market_of, place_bars
from candles.timestamps import (
    DAY,
    HOUR,
    SECOND,
    describe_distance,
    first_boundary,
    nanoseconds_of,
)
from candles.volumes import choose_volume
from utils import counted

logger = logging.getLogger(__name__)

_MAX_CUTS = 20
_MAX_OFF = 0.8
_MAX_MISFITS = 0.5
_MIN_ROWS = 5
_NO_VOLUME = "volume is 0 in every bar: prices of an index or a mark have none"


def read_columns(
    table: pa.Table,
    layout: Layout,
    path: Path,
    *,
    timezone: str | None = None,
    kept: Mapping[str, np.ndarray] | None = None,
    made: int | None = None,
) -> pd.DataFrame:
    """Returns the candles in columns that are named by their positions in the file.

    Args:
        table: At least the columns of `layout.positions()`.
        layout: What they are.
        path: The file, for errors and notes.
        timezone: Zone of times that state none; None is UTC.
        kept: Columns (num_rows,) that are taken along as they are.
        made: When the file was written, nanoseconds since 1970; None where unknown.
    """
    if table.num_rows == 0:
        raise refusal(path, "candles", "a file without rows", FETCH_AGAIN)
    rounded = _rounding_of(table, layout, path)
    moments = place_bars(table, layout, path, timezone=timezone, made=made)
    stamps, at_one_hour = _at_one_hour(moments.opens)
    symbol = market_of(table, layout, path)
    numbers = {
        i: floats_of(table.column(str(i)), name, path)
        for name, i in [
            *layout.prices.items(),
            *((volume.name, volume.position) for volume in layout.volumes),
        ]
    }
    values = {name: numbers[i] for name, i in layout.prices.items()}
    if layout.names is not None:
        back = bool(stamps[-1] < stamps[0])
        require_order(numbers, layout, path, newest_first=back)
    volume = choose_volume(
        layout.volumes,
        [numbers[volume.position] for volume in layout.volumes],
        low=values["low"],
        high=values["high"],
    )
    if volume is None:
        those = " and ".join(repr(volume.name) for volume in layout.volumes)
        raise refusal(
            path,
            "one volume in base units",
            f"{those}, which the prices do not tell apart",
            "Rename the one in base units to 'volume', and remove the others.",
        )
    extras, odd = _extras_of(table, layout)
    columns = {**values, "volume": volume.values, **extras, **(kept or {})}
    candles = make_table(stamps, columns)
    if not moments.is_over.all():
        candles = candles[moments.is_over].reset_index(drop=True)
    candles, notes = tidy_rows(candles)
    certain = moments.how.startswith("dates in ")
    level = logging.DEBUG if certain else logging.INFO
    logger.log(level, "%s: timestamps read as %s", path, moments.how)
    for note in filter(None, [*moments.notes, at_one_hour, volume.note, odd, *notes]):
        logger.info("%s: %s", path, note)
    traded = "" if (volume.values != 0).any() else _NO_VOLUME
    doubts = [*moments.doubts, layout.doubt, volume.doubt, traded, rounded]
    candles.attrs = {"doubts": tuple(filter(None, doubts)), "symbol": symbol}
    return candles


def _extras_of(table: pa.Table, layout: Layout) -> tuple[dict[str, np.ndarray], str]:
    """Returns rates and contracts, NaN in empty cells, and what to say of others."""
    found, odd = {}, []
    for name, place in layout.extras.items():
        column = table.column(str(place))
        try:
            if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
                cells = pc.utf8_trim_whitespace(column)
                column = pc.if_else(pc.equal(cells, ""), None, cells)
            values = pc.cast(column, pa.float64()).to_numpy()
        except pa.ArrowException:
            odd.append(name)
        else:
            found[name] = np.where(np.isfinite(values), values, np.nan)
    return found, f"{', '.join(odd)}: no numbers, left out" if odd else ""


def _rounding_of(table: pa.Table, layout: Layout, path: Path) -> str:
    """Returns what to say of prices that a narrow type has rounded; empty for none."""
    types = {table.column(str(place)).type for place in layout.prices.values()}
    if pa.float16() in types:
        received = "float16, which keeps three digits"
        raise refusal(path, "whole prices", received, "Write them as float64.")
    if pa.float32() in types:
        return (
            "prices are of float32, which keeps seven digits: features, and what a "
            "model says, are not those of whole prices to the bit. Write float64"
        )
    return ""


# What is certain


def _at_one_hour(opens: np.ndarray) -> tuple[np.ndarray, str]:
    """Returns opens of days in a zone that changes its clocks, at the later hour.

    So no bar is known before it was over.
    """
    hours = opens % DAY
    kinds = np.unique(hours)
    if len(kinds) != 2 or np.abs(np.diff(opens)).min() < DAY - HOUR:
        return opens, ""
    apart, changes = int(kinds[1] - kinds[0]), np.count_nonzero(np.diff(hours))
    years = np.ptp(opens) / (365 * DAY)
    if apart not in (HOUR, DAY - HOUR) or changes > 2 * years + 2:
        return opens, ""
    early, late = kinds if apart == HOUR else kinds[::-1]  # 23:00 is before 00:00
    shown = " and ".join(f"{pd.Timestamp(kind):%H:%M}" for kind in (early, late))
    note = (
        f"days of a zone that changes its clocks, from {shown} UTC on: all are placed "
        f"at {pd.Timestamp(late):%H:%M} UTC"
    )
    return np.where(hours == early, opens + HOUR, opens), note


def tidy_rows(table: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """Returns the rows in order of time, and a line for all that was done to them.

    Rows that contradict each other, or are in no order, stay as they are.

    Args:
        table: The candle columns, others beside them.
    """
    notes = []
    steps: tuple[Callable[[pd.DataFrame], tuple[np.ndarray, str]], ...] = (
        _without_empty,
        _without_copies,
        _oldest_first,
        _without_strays,
    )
    for step in steps:
        rows, note = step(table)
        if note:
            table = table.iloc[rows].reset_index(drop=True)
            notes.append(note)
    return table, notes


def _without_empty(table: pd.DataFrame) -> tuple[np.ndarray, str]:
    """Leaves out rows without any price: a bar that is not there, a gap."""
    empty = np.logical_and.reduce([np.isnan(table[name]) for name in PRICES])
    volume = table["volume"].to_numpy()
    empty &= ~(volume > 0)
    if not empty.any() or empty.all():
        return empty, ""
    count = counted(int(empty.sum()), "row", "rows")
    return np.flatnonzero(~empty), f"{count} without prices left out: gaps"


def _without_copies(table: pd.DataFrame) -> tuple[np.ndarray, str]:
    stamps = nanoseconds_of(table["timestamp"])
    steps = np.diff(stamps)
    if not len(steps) or (steps > 0).all() or (steps < 0).all():
        return stamps, ""
    copies = table.duplicated().to_numpy()
    if not copies.any():
        return stamps, ""
    count = counted(int(copies.sum()), "exact duplicate", "exact duplicates")
    return np.flatnonzero(~copies), f"{count} dropped"


def _oldest_first(table: pd.DataFrame) -> tuple[np.ndarray, str]:
    steps = np.diff(nanoseconds_of(table["timestamp"]))
    if not len(steps) or not (steps < 0).all():
        return steps, ""
    note = "newest first: turned round, so that row 0 is the oldest"
    return np.arange(len(table))[::-1], note


def _without_strays(table: pd.DataFrame) -> tuple[np.ndarray, str]:
    """Cuts runs of bars that open off the boundaries after an outage.

    Exchanges that came back have opened bars at whatever moment that was, one timeframe
    apart, until they were on the boundaries again. A fifth must be on them.
    """
    stamps = nanoseconds_of(table["timestamp"])
    steps = np.diff(stamps)
    if len(steps) < 3 or not (steps > 0).all():
        return stamps, ""
    lengths, counts = np.unique(steps, return_counts=True)
    step = int(lengths[counts.argmax()])
    if step % SECOND:
        return stamps, ""
    offsets = (stamps - first_boundary(step)) % step
    off = offsets != 0
    starts = np.flatnonzero(off & ~np.append(False, off[:-1]))
    if not off.any() or off.mean() > _MAX_OFF or len(starts) > _MAX_CUTS:
        return stamps, ""
    stops = np.flatnonzero(off & ~np.append(off[1:], False)) + 1
    after_outage = [start == 0 or steps[start - 1] >= 2 * step for start in starts]
    even = [
        (offsets[start:stop] == offsets[start]).all()
        for start, stop in zip(starts, stops, strict=True)
    ]
    if not all(after_outage) or not all(even):
        return stamps, ""
    runs = ", ".join(
        f"{table['timestamp'].iloc[start]} to {table['timestamp'].iloc[stop - 1]}"
        for start, stop in zip(starts, stops, strict=True)
    )
    count = counted(int(off.sum()), "bar opens", "bars open")
    note = (
        f"{count} off the {describe_distance(step)} boundaries after an outage "
        f"({runs}): left out, a gap"
    )
    return np.flatnonzero(~off), note


# The order of columns


def fitting_order(
    columns: Sequence[np.ndarray], *, newest_first: bool
) -> list[str] | None:
    """Returns which of four columns are open, high, low, close, where all rows tell.

    A close is next to the open of the next bar, which tells these two.
    """
    fitting = []
    for order in itertools.permutations(PRICES):
        prices = [columns[order.index(name)] for name in PRICES]
        if encloses(prices).all():
            opens, closes = (x[::-1] if newest_first else x for x in prices[::3])
            steps = np.abs(opens[1:] - closes[:-1])
            steps = steps[~np.isnan(steps)]
            jump = steps.mean() if len(steps) > _MIN_ROWS else 0
            fitting.append((float(jump), list(order)))
    fitting.sort(key=lambda item: item[0])
    if not fitting or len(fitting) > 2:
        return None
    is_clear = len(fitting) == 1 or fitting[0][0] * 3 < fitting[1][0]
    return fitting[0][1] if is_clear else None


def require_order(
    columns: Mapping[int, np.ndarray],
    layout: Layout,
    path: Path,
    *,
    newest_first: bool,
) -> None:
    """Refuses prices whose columns are in another order than the layout says.

    Args:
        columns: The numbers (num_rows,) at each position; all of the first rows where
            the file has no names.
        layout: What they are said to be.
        path: The file, for the error.
        newest_first: Whether its rows go back in time.

    Raises:
        DataError: If all rows fit one other order, with that order.
    """
    fits = encloses([columns[layout.prices[name]] for name in PRICES])
    if fits.all() and layout.names is not None:
        return
    for window in _windows(len(columns), layout):
        order = fitting_order([columns[i] for i in window], newest_first=newest_first)
        if order is not None:
            break
    else:
        if (~fits).mean() > _MAX_MISFITS:
            raise refusal(
                path,
                "open, high, low, close in "
                + ", ".join(_spoken(layout, layout.prices[name]) for name in PRICES),
                f"{np.count_nonzero(~fits)} of {len(fits)} rows whose high or low does "
                "not enclose the others, in any order of these",
                "Check which columns these are.",
            )
        return
    found = dict(zip(order, window, strict=True))
    if found == layout.prices:
        return
    wrong = f"{np.count_nonzero(~fits)} of {len(fits)} rows that do not fit"
    if fits.all():
        wrong = "opens that follow the closes only in another order"
    if layout.names is not None:
        those = ", ".join(f"{_spoken(layout, i)} is the {n}" for n, i in found.items())
        raise refusal(
            path,
            "open, high, low and close under their names",
            f"{wrong}; all rows fit where {those}",
            "Rename these columns.",
        )
    header = _fitting_header(columns, found)
    more = "" if "volume" in header else " with volume in its place"
    raise refusal(
        path,
        "timestamp, open, high, low, close, volume where a file has no names",
        f"{wrong}; all rows fit the order {', '.join(header)}",
        f"If these are the columns, name them in a first line of CSV{more}: "
        + ",".join(header),
    )


def _fitting_header(
    columns: Mapping[int, np.ndarray], prices: Mapping[str, int]
) -> list[str]:
    """Returns names for the columns of a file without any: prices, volume, `x3`."""
    header = ["timestamp", *(f"x{i}" for i in range(1, len(columns)))]
    for name, i in prices.items():
        header[i] = name
    rest = [i for i in range(1, len(columns)) if i not in prices.values()]
    if len(rest) == 1:
        header[rest[0]] = "volume"
    high, low = columns[prices["high"]] * 1.001, columns[prices["low"]] / 1.001
    for base, quote in itertools.permutations(rest, 2):
        with np.errstate(invalid="ignore", divide="ignore"):
            if is_price(columns[quote] / columns[base], high=high, low=low):
                header[base], header[quote] = "volume", "turnover"
    return header


def _spoken(layout: Layout, position: int) -> str:
    names = layout.names
    return f"column {position + 1}" if names is None else repr(names[position])


def _windows(width: int, layout: Layout) -> list[list[int]]:
    """Returns where the four prices may be; where they should be comes first."""
    said = sorted(layout.prices.values())
    if layout.names is not None:
        return [said]
    starts = [i for i in range(1, width - 3) if i != said[0]]
    return [said, *([*range(start, start + 4)] for start in starts)]
