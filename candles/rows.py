"""Rows as a file has them -> rows in order: what is certain is done, and said.

In: newest first, exact duplicates, minutes without a trade as empty rows, bars that
open off the boundaries after an outage. Out: what makes candles good candles
(`checks`).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd

from candles.columns import PRICES
from candles.timestamps import (
    SECOND,
    describe_distance,
    first_boundary,
    nanoseconds_of,
)
from utils import counted

_MAX_CUTS = 20


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
    return np.arange(len(table))[::-1], "newest first: turned round"


def _without_strays(table: pd.DataFrame) -> tuple[np.ndarray, str]:
    """Cuts runs of bars that open off the boundaries after an outage.

    Exchanges that came back have opened bars at whatever moment that was, one timeframe
    apart, until they were on the boundaries again. Most bars must be on them.
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
    if not off.any() or off.sum() * 2 >= len(off):
        return stamps, ""
    starts = np.flatnonzero(off & ~np.append(False, off[:-1]))
    stops = np.flatnonzero(off & ~np.append(off[1:], False)) + 1
    after_outage = [start == 0 or steps[start - 1] > step for start in starts]
    even = [
        (offsets[start:stop] == offsets[start]).all()
        for start, stop in zip(starts, stops, strict=True)
    ]
    if len(starts) > _MAX_CUTS or not all(after_outage) or not all(even):
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
