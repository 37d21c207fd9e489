"""A day and a time of day in columns of their own -> one column.

In: telling which columns these are, and hours, 930, 93000 or minutes of the day apart.
Out: reading the text of what is joined (`candles.dates`).
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

PIECES = ("year", "month", "day", "hour", "minute", "second")
"""Columns that are a time together, and their names."""
PIECE_RANK = 9
"""Rank of a column that is one of these."""
_DATE = re.compile(r"\d{8}|\d{4}([-/.])\d{1,2}\1\d{1,2}|\d{1,2}([-/.])\d{1,2}\2\d{4}")
_TIME = re.compile(r"\d{1,2}:\d{2}(:\d{2}([.,]\d+)?)?( ?[AaPp][Mm])?|\d{1,6}")

Times = Sequence[tuple[str, int, pa.ChunkedArray]]
"""Name, rank and cells of columns of times; of pieces the name is one of `PIECES`."""


def with_clock(columns: Times) -> list[tuple[str, int, pa.ChunkedArray]]:
    """Joins the columns of `find_clock`; clocks beside a whole time are left out."""
    columns = _with_days(columns)
    found = find_clock(columns)
    if found is None:
        return [
            each
            for each in columns
            if each[1] != PIECE_RANK
            and not (":" in (head := _first_text(each[2])) and _TIME.fullmatch(head))
        ]
    day, clocks = columns[found[0]], [columns[i] for i in found[1]]
    clock = pc.cast(clocks[0][2], pa.string())
    if (seconds := _seconds_of_day(clocks, day[2])) is not None:
        times = pa.array(seconds.astype(np.int32)).cast(pa.time32("s"))
        clock = pa.chunked_array([times.cast(pa.string())])
    joined = pc.binary_join_element_wise(pc.cast(day[2], pa.string()), clock, " ")
    name = " ".join(each[0] for each in (day, *clocks))
    rest = [
        each
        for i, each in enumerate(columns)
        if i not in (found[0], *found[1]) and each[1] != PIECE_RANK
    ]
    return [(name, day[1], joined), *rest]


def find_clock(columns: Times) -> tuple[int, list[int]] | None:
    """Returns a column of days and those of the time of day; None without both.

    An hour is one where the days alone are of several rows each.
    """
    heads = [_first_text(_as_days(cells)) for _, _, cells in columns]
    whole = [i for i, (_, rank, _) in enumerate(columns) if rank != PIECE_RANK]
    days = [i for i in whole if _DATE.fullmatch(heads[i])]
    clocks = [i for i in whole if _TIME.fullmatch(heads[i]) and i not in days]
    if len(days) != 1:
        return None
    if len(clocks) == 1:
        if ":" in heads[clocks[0]]:
            return days[0], clocks
        cells = [columns[clocks[0]]]
        is_told = _seconds_of_day(cells, columns[days[0]][2]) is not None
        return (days[0], clocks) if is_told else None
    pieces = {columns[i][0]: i for i in range(len(columns)) if i not in whole}
    names = [name for name in PIECES[3:] if name in pieces]
    if clocks or names != [*PIECES[3:]][: len(names)] or not names:
        return None
    found = [pieces[name] for name in names]
    is_needed = len(pc.unique(columns[days[0]][2])) < len(columns[days[0]][2])
    is_told = _seconds_of_day([columns[i] for i in found], None) is not None
    return (days[0], found) if is_needed and is_told else None


def _with_days(columns: Times) -> list[tuple[str, int, pa.ChunkedArray]]:
    """Returns midnights as days, and one column for a year, a month and a day."""
    columns = [(name, rank, _as_days(cells)) for name, rank, cells in columns]
    pieces = {name: cells for name, rank, cells in columns if rank == PIECE_RANK}
    heads = [_first_text(x) for _, rank, x in columns if rank != PIECE_RANK]
    if {*PIECES[:3]} <= {*pieces} and all(map(_TIME.fullmatch, heads)):
        texts = [
            pc.cast(_whole_cells(pieces[name]), pa.string()) for name in PIECES[:3]
        ]
        day = pc.binary_join_element_wise(*texts, "-")
        columns.insert(0, (" ".join(PIECES[:3]), 0, day))
    return columns


def _as_days(cells: pa.ChunkedArray) -> pa.ChunkedArray:
    """Returns midnights as dates, and `20240131.0` without its point."""
    if pa.types.is_floating(cells.type):
        with contextlib.suppress(pa.ArrowException):
            return pc.cast(cells, pa.int64())
    if not pa.types.is_timestamp(cells.type):
        return cells
    days = pc.cast(cells, pa.date32())
    return days if pc.all(pc.equal(pc.cast(days, cells.type), cells)).as_py() else cells


def _first_text(cells: pa.ChunkedArray) -> str:
    with contextlib.suppress(OverflowError, ValueError, IndexError):
        return str(cells[0].as_py()).strip()
    return ""


def _whole_cells(cells: pa.ChunkedArray) -> pa.ChunkedArray:
    return pc.cast(pc.cast(cells, pa.float64()), pa.int64())


def _seconds_of_day(clocks: Times, days: pa.ChunkedArray | None) -> np.ndarray | None:
    """Returns seconds since midnight (num_rows,); None of what is no time of day.

    Whole numbers are hours, 930 for 09:30, 93000 for 09:30:00, minutes or seconds of
    the day: what all rows can be, in the most even steps.
    """
    try:
        numbers = [_whole_cells(cells).to_numpy() for _, _, cells in clocks]
    except pa.ArrowException:
        return None
    if clocks[0][1] == PIECE_RANK:
        units = zip(numbers, (24, 60, 60), (3600, 60, 1), strict=False)
        parts = [(n, n * size, most) for n, most, size in units]
        good = all(((n >= 0) & (n < most)).all() for n, _, most in parts)
        return np.sum([size for _, size, _ in parts], axis=0) if good else None
    (n,) = numbers
    readings = [
        (n < 24, n * 3600),
        ((n // 100 < 24) & (n % 100 < 60), n // 100 * 3600 + n % 100 * 60),
        (
            (n // 10_000 < 24) & (n // 100 % 100 < 60) & (n % 100 < 60),
            n // 10_000 * 3600 + n // 100 % 100 * 60 + n % 100,
        ),
        (n < 1440, n * 60),
        (n < 86_400, n),
    ]
    fitting = [seconds for fits, seconds in readings if (fits & (n >= 0)).all()]
    padded = _zero_padded_width(clocks[0][2])
    fitting = [readings[padded // 2 - 1][1]] if padded in (2, 4, 6) else fitting
    if days is not None and len(n) > 1 and fitting:
        row = days.combine_chunks().dictionary_encode().indices.to_numpy() * 86_400
        row = row if np.median(np.diff(n)) >= 0 else -row  # newest first
        even, bars = [], []
        for seconds in fitting:
            steps = np.abs(np.diff(row + seconds))
            bars.append(float(np.median(steps)))
            even.append(int((steps == bars[-1]).sum()))
        most = [bar >= 60 and e == max(even) for bar, e in zip(bars, even, strict=True)]
        fitting = [s for s, is_most in zip(fitting, most, strict=True) if is_most]
    same = all(np.array_equal(fitting[0], other) for other in fitting[1:])
    return fitting[0] if fitting and same else None


def _zero_padded_width(cells: pa.ChunkedArray) -> int:
    """Returns the one length of text of which some begins with 0; else 0."""
    if not pa.types.is_string(cells.type):
        return 0
    lengths = pc.min_max(pc.utf8_length(cells)).as_py()
    padded = pc.any(pc.match_substring_regex(cells, "^0[0-9]")).as_py()
    return lengths["min"] if padded and lengths["min"] == lengths["max"] else 0
