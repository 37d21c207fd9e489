"""Moments and bar boundaries: any way to write a time -> nanoseconds; timeframes.

In: units, timezones and text forms of timestamps; the distance between bars.
Out: files, and what the bars contain (`formats`, `table`).
"""

from __future__ import annotations

import contextlib
import re
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from utils import ConfigError, DataError, duration_seconds, format_duration

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
_FIRST_DATE_NS = 631_152_000 * SECOND  # 1990-01-01
_ZONE = re.compile(r"(Z| ?UTC|[+-]\d{2}:?\d{2})$")


# Timestamps


def parse_timestamps(column: pa.ChunkedArray) -> tuple[np.ndarray, str]:
    """Converts a column of timestamps, all written in the same way, to UTC.

    Args:
        column: Arrow timestamps or dates, ISO 8601 text, or whole numbers since 1970
            (seconds, milli-, micro- or nanoseconds, told apart by their magnitude).

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
        return _from_integers(_whole_numbers(column))
    if pa.types.is_integer(kind) or pa.types.is_floating(kind):
        return _from_integers(_whole_numbers(column))
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        return _from_arrow(column, getattr(kind, "tz", None))
    raise DataError(
        f"expected timestamps as dates or whole numbers. Received: type {kind}. "
        "Write the open time of each bar in UTC."
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class Timeline:
    """The times of rows whose bars are equidistant but for gaps, in little memory.

    Args:
        starts: First row of each gapless stretch (num_stretches,), ascending from 0.
        times: Its time (num_stretches,) datetime64[ns].
        bar: Length of a bar, timedelta64[ns].
        num_rows: Number of rows.
    """

    starts: np.ndarray
    times: np.ndarray
    bar: np.timedelta64
    num_rows: int

    @classmethod
    def from_array(cls, times: np.ndarray, *, bar_seconds: int) -> Timeline:
        """Takes increasing times (num_rows,) datetime64[ns]."""
        bar = np.timedelta64(bar_seconds, "s").astype("timedelta64[ns]")
        starts = np.concatenate([[0], np.flatnonzero(np.diff(times) != bar) + 1])
        return cls(starts=starts, times=times[starts], bar=bar, num_rows=len(times))

    def at(self, rows: np.ndarray | int) -> np.ndarray:
        """Returns the times datetime64[ns] of the given rows, in their shape."""
        rows = np.asarray(rows)
        stretch = np.searchsorted(self.starts, rows, side="right") - 1
        return self.times[stretch] + (rows - self.starts[stretch]) * self.bar

    def array(self) -> np.ndarray:
        """Returns the times of all rows (num_rows,) datetime64[ns]."""
        return self.at(np.arange(self.num_rows))


def nanoseconds_of(column: pd.Series) -> np.ndarray:
    """Returns a column of dates as int64 nanoseconds since 1970 (num_rows,)."""
    return pd.DatetimeIndex(column).as_unit("ns").asi8


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
            f"expected timestamps. Received: {error}. Check their unit."
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
            f"expected dates from 1990 to 2100. Received: {wrong.sum()} others, first "
            f"{first} in row {row}. Check the unit in which they were written."
        )
    return nanoseconds


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
            f"{(~whole).sum()} others, first {column[row].as_py()!r} in row {row}. "
            "Write all timestamps in the same way."
        )
    return values.astype(np.int64)


def _from_integers(values: np.ndarray) -> tuple[np.ndarray, str]:
    """Returns nanoseconds; the magnitude tells the unit, which all rows must share."""
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
            f"Received: {values[0]} in row 0 and {(~fits).sum()} rows that are not in "
            f"{unit}, first {values[row]} in row {row}. "
            "Convert all rows to one unit, or split the file."
        )
    return values * factor, f"{unit} since 1970"


def _from_text(column: pa.ChunkedArray) -> tuple[np.ndarray, str]:
    match = _ZONE.search(column[0].as_py())
    zone = match.group() if match else ""
    same = pc.ends_with(column, zone)
    if not pc.all(same).as_py():
        raise _mixed_zones(column, int((~same.to_numpy()).argmax()))
    bare = pc.utf8_slice_codeunits(column, 0, -len(zone)) if zone else column
    try:
        parsed = pc.cast(pc.cast(bare, pa.timestamp("ns")), pa.int64()).to_numpy()
    except pa.ArrowException as error:
        zoned = pc.match_substring_regex(bare, _ZONE.pattern).to_numpy()
        if zoned.any():
            raise _mixed_zones(column, int(zoned.argmax())) from error
        bad = pd.to_datetime(bare.to_pandas(), format="ISO8601", errors="coerce").isna()
        row = int(bad.to_numpy().argmax())
        first = column[row].as_py()
        raise DataError(
            "expected timestamps such as '2024-01-31 23:59:00' or whole numbers. "
            f"Received: {bad.sum()} others, first {first!r} in row {row}. "
            "Write them in ISO 8601, in UTC."
        ) from error
    offset_minutes = 0
    if zone.startswith(("+", "-")):
        offset_minutes = int(zone[1:3]) * 60 + int(zone[-2:])
        offset_minutes *= 1 if zone.startswith("+") else -1
    parsed = _plausible(parsed - offset_minutes * 60 * SECOND)
    return parsed, _describe_zone(zone.strip())


def _mixed_zones(column: pa.ChunkedArray, row: int) -> DataError:
    first, other = column[0].as_py(), column[row].as_py()
    return DataError(
        f"expected timestamps in one timezone. Received: {first!r} in row 0 and "
        f"{other!r} in row {row}. Write all of them in UTC."
    )


# Timeframes


def timeframe_nanoseconds(timeframe: str) -> int:
    """Returns the distance of bars in nanoseconds.

    Raises:
        ConfigError: If `timeframe` is not such as `"1m"` or `"4h"`.
    """
    try:
        return duration_seconds(timeframe) * SECOND
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
    return describe_distance(smallest), ""


def describe_distance(nanoseconds: int) -> str:
    """Returns a distance in the largest unit that leaves no rest: `"15m"`."""
    return format_duration(nanoseconds / SECOND)
