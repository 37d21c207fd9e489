"""Moments and bar boundaries: any way to write a time -> nanoseconds; timeframes.

In: units, timezones and text forms of timestamps; the distance between bars.
Out: files, and what the bars contain (`formats`, `table`).
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from candles.dates import AmbiguousDates, parse_dates
from files.clocks import with_clock
from utils import ConfigError, DataError, counted, format_duration, timeframe_seconds

SECOND = 10**9
HOUR = 3600 * SECOND
DAY = 24 * HOUR

_MONDAY = 4 * DAY  # 1970-01-05: weeks open on Mondays, the epoch did not
# Integers from 2001-09-09 (10 digits of seconds) to 2100: no unit reaches into another.
_UNITS = {
    "seconds": SECOND,
    "milliseconds": 10**6,
    "microseconds": 10**3,
    "nanoseconds": 1,
}
_FIRST_SECOND, _LAST_SECOND = 10**9, 4_102_444_800
# Days as spreadsheets count them, 1990 to 2100; those since 1970 are fewer until 2059.
_SHEET_DAYS, _UNIX_DAYS = (32_874, 73_415), (7305, 32_874)
_SHEET_EPOCH_DAYS = 25_569  # from 1899-12-30 to 1970
_NAMED_RANKS = 3  # behind these a column of times has a name of many meanings, or none
_FIRST_DATE_NS = 631_152_000 * SECOND  # 1990-01-01
_DIGITS = tuple((19_900_101 * p, 21_000_101 * p) for p in (1, 10**4, 10**6))
"""Numbers that are dates without signs: days, minutes, seconds; no unit reaches in."""


# Timestamps


def parse_timestamps(
    column: pa.ChunkedArray, *, is_named: bool = True
) -> tuple[np.ndarray, str]:
    """Converts a column of timestamps, all written in the same way, to UTC.

    Args:
        column: Arrow timestamps or dates, ISO 8601 text, or whole numbers since 1970
            (seconds, milli-, micro- or nanoseconds, told apart by their magnitude), or
            days, also with fractions.
        is_named: Whether a name says that these are times. Else whole numbers may as
            well count rows, and are no days.

    Returns:
        int64 nanoseconds since 1970 (num_rows,), and how the column was read.

    Raises:
        DataError: If a cell is empty or unreadable, or units or timezones are mixed.
    """
    empty = np.flatnonzero(column.is_null().to_numpy())
    if len(empty):
        raise DataError(
            f"expected a timestamp in every row. Received: {len(empty)} empty cells, "
            f"first in rows {empty[:5].tolist()}. Remove or repair these rows."
        )
    kind = column.type
    if pa.types.is_dictionary(kind):
        column, kind = pc.cast(column, kind.value_type), kind.value_type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        column = pc.utf8_trim_whitespace(column)
        if not is_number(column[0].as_py()):
            return _from_text(column)
        return _from_numbers(column, is_named)
    if pa.types.is_integer(kind) or pa.types.is_floating(kind):
        return _from_numbers(column, is_named)
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        return _from_arrow(column, getattr(kind, "tz", None))
    raise DataError(
        f"expected timestamps as dates or whole numbers. Received: type {kind}. "
        "Write the open time of each bar in UTC."
    )


def choose_times(
    columns: Sequence[tuple[str, int, pa.ChunkedArray]],
) -> tuple[np.ndarray, str]:
    """Converts the times of a file's rows, of which there may be several columns.

    A date and a time of day beside it are one time. Others must agree; times of lower
    rank may also lie within the bar that one of rank 0 opens, or at its end.

    Args:
        columns: Name, rank (0: its name says that it opens the bar) and cells of each.

    Returns:
        As `parse_timestamps`.

    Raises:
        DataError: If none is readable, or two contradict each other.
    """
    given = {name for name, _, _ in columns}
    columns = with_clock(columns) if len(columns) > 1 else columns
    taken: _Time | None = None
    fault: tuple[int, DataError] | None = None
    for name, rank, cells in columns:
        try:
            stamps, how = parse_timestamps(cells, is_named=rank < _NAMED_RANKS)
        except DataError as error:
            if len(columns) == 1:
                raise
            if not isinstance(error, AmbiguousDates):
                names = " and ".join(repr(column[0]) for column in columns)
                raise DataError(
                    f"several columns for 'timestamp': {names}, of which {name!r} is "
                    f"not readable: {error}"
                ) from error
            fault = fault or (rank, error)
            continue
        how += "" if name in given else f", joined of {name}"
        if taken is None:
            taken = name, rank, stamps, how
        else:
            taken = _agreed(taken, (name, rank, stamps, how))
    if fault is not None and (taken is None or fault[0] < taken[1]):
        raise fault[1]
    if taken is None:
        raise DataError("expected a column of times. Received: none.")
    return taken[2], taken[3]


_Time = tuple[str, int, np.ndarray, str]


def _agreed(one: _Time, other: _Time) -> _Time:
    """Returns the one of two columns of times that is the opening time."""
    for coarse, fine in ((one, other), (other, one)):
        days = coarse[2]
        if not (days % DAY).any() and np.array_equal(days, fine[2] - fine[2] % DAY):
            return one if np.array_equal(days, fine[2]) else fine
    late = other[2] - one[2]
    steps = np.abs(np.diff(one[2]))
    bar = int(steps[steps > 0].min(initial=np.iinfo(np.int64).max))
    if not late.any() or one[1] == 0 < other[1] and ((late >= 0) & (late <= bar)).all():
        return one
    row = int((late != 0).argmax())
    moments = [
        str(np.datetime64(int(time[2][row]), "ns"))[:23] for time in (one, other)
    ]
    raise DataError(
        "expected columns of times that agree. Received: "
        f"{one[0]!r} is {moments[0]} and {other[0]!r} is {moments[1]} in row {row}; "
        f"{counted(int((late != 0).sum()), 'row differs', 'rows differ')}. Remove "
        "the column that is not the "
        "opening time in UTC."
    )


def nanoseconds_of(column: pd.Series) -> np.ndarray:
    """Returns a column of dates as int64 nanoseconds since 1970 (num_rows,)."""
    return pd.DatetimeIndex(column).as_unit("ns").asi8


def goes_back(cells: Sequence[str]) -> bool:
    """Whether times written as text end earlier than they begin, as far as they tell.

    Raises:
        DataError: If they are no times.
    """
    try:
        stamps, _ = parse_timestamps(pa.chunked_array([pa.array(cells, pa.string())]))
    except AmbiguousDates:
        return False
    return bool(stamps[-1] < stamps[0])


def is_number(text: str) -> bool:
    """Whether `text` reads as a number."""
    try:
        float(text)
    except ValueError:
        return False
    return True


def _from_arrow(column: pa.ChunkedArray, zone: str | None) -> tuple[np.ndarray, str]:
    try:
        nanoseconds = pc.cast(pc.cast(column, pa.timestamp("ns", zone)), pa.int64())
    except pa.ArrowException as error:
        raise DataError(
            "expected dates from 1990 to 2100. Received: others, beyond what "
            "nanoseconds hold. Check their unit."
        ) from error
    return _plausible(nanoseconds.to_numpy()), _describe_zone(zone)


def _describe_zone(zone: str | None) -> str:
    return f"dates in {zone}" if zone else "dates without a timezone, taken as UTC"


def _plausible(nanoseconds: np.ndarray) -> np.ndarray:
    wrong = (nanoseconds < _FIRST_DATE_NS) | (nanoseconds >= _LAST_SECOND * SECOND)
    if wrong.any():
        row = int(wrong.argmax())
        first = np.datetime64(int(nanoseconds[row]), "ns")
        raise DataError(
            "expected dates from 1990 to 2100. Received: "
            f"{counted(wrong.sum(), 'other', 'others')}, first "
            f"{first} in row {row}. Check the unit in which they were written."
        )
    return nanoseconds


def _from_numbers(column: pa.ChunkedArray, is_named: bool) -> tuple[np.ndarray, str]:
    numbers = pd.to_numeric(column.to_pandas(), errors="coerce").to_numpy(np.float64)
    for (low, high), offset, who in (
        (_SHEET_DAYS, _SHEET_EPOCH_DAYS, "1899-12-30, as spreadsheets count"),
        (_UNIX_DAYS, 0, "1970"),
    ):
        is_told = is_named or (numbers != np.floor(numbers)).any()
        if is_told and ((numbers >= low) & (numbers < high)).all() and _go_on(numbers):
            minutes = np.round(numbers * 1440)
            seconds = np.round(numbers * 86_400)
            # Five decimals of a day are less than a second, four less than a minute.
            if (np.abs(minutes * 60 - numbers * 86_400) < 5).all():
                seconds = minutes * 60
            nanoseconds = (seconds - offset * 86_400).astype(np.int64) * SECOND
            return nanoseconds, f"days since {who}"
    return _from_integers(_whole_numbers(column))


def _go_on(numbers: np.ndarray) -> bool:
    """Whether days go on by whole minutes, nearly all in one direction: no prices."""
    steps = np.diff(numbers) * 1440
    is_whole = np.abs(steps - np.round(steps)) < 0.05
    share = max((steps > 0.5).mean(), (steps < -0.5).mean()) if len(steps) else 0
    return bool(is_whole.all() and share > 0.9)


def _whole_numbers(column: pa.ChunkedArray) -> np.ndarray:
    """Returns int64 (num_rows,), also from whole numbers written as `1.0`."""
    if not pa.types.is_floating(column.type):  # a float may have been rounded
        with contextlib.suppress(pa.ArrowException):
            return pc.cast(column, pa.int64()).to_numpy()
    numbers = pd.to_numeric(column.to_pandas(), errors="coerce")
    values = numbers.to_numpy(np.float64)
    whole = (np.abs(values) < 2**53) & (values == np.floor(values))
    if not whole.all():
        row = int((~whole).argmax())
        raise DataError(
            "expected timestamps that are all whole numbers. Received: "
            f"{counted((~whole).sum(), 'other', 'others')}, first "
            f"{column[row].as_py()!r} in row {row}. "
            "Write all timestamps in the same way."
        )
    return values.astype(np.int64)


def _from_integers(values: np.ndarray) -> tuple[np.ndarray, str]:
    """Returns nanoseconds; the magnitude tells the unit, which all rows must share."""
    if any(low <= values[0] < high for low, high in _DIGITS):
        return _from_digits(values)
    unit, factor = "a known unit", 1
    fits = np.zeros(len(values), bool)
    for name, nanoseconds in _UNITS.items():
        per_second = SECOND // nanoseconds
        low, high = _FIRST_SECOND * per_second, _LAST_SECOND * per_second
        if low <= values[0] < high:
            unit, factor = name, nanoseconds
            fits = (values >= low) & (values < high)
    if not fits.all():
        row = int((~fits).argmax())
        raise DataError(
            "expected epoch timestamps in one unit (10 digits are seconds, 13 "
            "milliseconds, 16 microseconds, 19 nanoseconds; years 2001 to 2100). "
            f"Received: {values[0]} in row 0 and "
            f"{counted((~fits).sum(), 'row that is', 'rows that are')} not in "
            f"{unit}, first {values[row]} in row {row}. "
            "Convert all rows to one unit, or split the file."
        )
    return values * factor, f"{unit} since 1970"


def _from_text(column: pa.ChunkedArray) -> tuple[np.ndarray, str]:
    nanoseconds, how = parse_dates(column)
    return _plausible(nanoseconds), how


def _from_digits(values: np.ndarray) -> tuple[np.ndarray, str]:
    """Returns nanoseconds of `20240131`, `202401312359` or `20240131235900`."""
    text = values.astype(str)
    if len(text[0]) > 8:
        text = np.array([f"{cell[:8]} {cell[8:]}" for cell in text.tolist()])
    return _from_text(pa.chunked_array([pa.array(text)]))


# Timeframes


def timeframe_nanoseconds(timeframe: str) -> int:
    """Returns the distance of bars in nanoseconds.

    Raises:
        ConfigError: If `timeframe` is not such as `"1m"` or `"4h"`, or divides no day.
    """
    try:
        return timeframe_seconds(timeframe) * SECOND
    except ValueError as error:
        raise ConfigError(f"timeframe: {error}") from error


def first_boundary(step: int) -> int:
    """Returns the first boundary since 1970 of bars of `step` nanoseconds, in UTC."""
    return _MONDAY if step % (7 * DAY) == 0 else 0


def find_timeframe(steps: np.ndarray, wanted: str | None) -> tuple[str | None, str]:
    """Returns the timeframe behind distances between bars, and why there is none.

    Args:
        steps: Positive nanoseconds (num_bars - 1,) between consecutive bars.
        wanted: A timeframe that must not be finer than the bars. It also settles the
            case of bars so sparse that the smallest distance is not the most common.
    """
    if len(steps) == 0:
        return None, ""
    smallest = int(steps.min())
    if wanted is not None:
        step = timeframe_nanoseconds(wanted)
        if smallest == step:
            return wanted, ""
        if smallest > step:
            return None, (
                f"expected candles of {wanted} or finer. Received: "
                f"bars {describe_distance(smallest)} apart"
            )
    common = smallest
    if np.count_nonzero(steps == smallest) * 2 <= len(steps):
        distances, counts = np.unique(steps, return_counts=True)
        common = int(distances[counts.argmax()])
    if common != smallest or smallest % SECOND:
        return None, (
            "expected bars of one timeframe. Received: most are "
            f"{describe_distance(common)} apart, the nearest "
            f"{describe_distance(smallest)}. "
            "Name the timeframe if these are sparse candles of the smaller one"
        )
    if DAY % smallest and smallest % DAY:
        return None, (
            "expected bars of a timeframe that divides a day. Received: bars "
            f"{describe_distance(smallest)} apart"
        )
    return describe_distance(smallest), ""


def describe_distance(nanoseconds: int) -> str:
    """Returns a distance in the largest unit that leaves no rest: `"15m"`."""
    return format_duration(nanoseconds / SECOND)
