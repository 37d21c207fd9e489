"""Candles -> a report of everything that is wrong with them, and their timeframe.

In: the rules that make candles good candles, counted all at once.
Out: reading files, and mending what is found (`table`).
"""

from __future__ import annotations

import calendar
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from candles.columns import COLUMNS, VALUES
from candles.jumps import find_jumps
from candles.timestamps import (
    DAY,
    HOUR,
    SECOND,
    find_timeframe,
    first_boundary,
    nanoseconds_of,
    timeframe_nanoseconds,
)
from utils import DataError, counted

MOST_MISSING = 1 / 3
"""Share of missing bars from which on `check` refuses candles."""
_LISTED_GAPS = 5


@dataclass(frozen=True, slots=True)
class Finding:
    """How often something was found, and its first row numbers (counted from 0)."""

    count: int = 0
    rows: tuple[int, ...] = ()

    def __bool__(self) -> bool:
        """Whether there is anything to report."""
        return self.count > 0

    def __str__(self) -> str:
        more = ", ..." if self.count > len(self.rows) else ""
        return f"{self.count} (rows {', '.join(map(str, self.rows))}{more})"


@dataclass(frozen=True, slots=True, kw_only=True)
class CandleReport:
    """What `check_candles` found; `problems` are the findings that refuse the table."""

    num_bars: int
    start: pd.Timestamp | None
    end: pd.Timestamp | None
    timeframe: str | None
    """The timeframe checked against; None where it cannot be told."""
    irregular: str
    """Why there is no single timeframe; empty where there is."""
    unordered: Finding
    """Rows earlier than the row before them."""
    duplicates: Finding
    """Rows whose timestamp an earlier row has."""
    misaligned: Finding
    """Rows that do not open on a boundary of the timeframe in UTC."""
    opening_hour: float
    """Hours after the boundary at which every bar opens; 0 where it opens on it."""
    not_finite: dict[str, Finding]
    """By column: NaN or infinite cells."""
    not_positive: dict[str, Finding]
    """By column: prices of zero or below, volumes below zero."""
    range_violations: Finding
    """Rows whose high or low does not enclose open and close."""
    zero_volume: Finding
    gaps: Finding
    """Rows that are preceded by missing bars."""
    missing_bars: int
    longest_gap_bars: int
    longest_gaps: tuple[tuple[pd.Timestamp, int], ...] = ()
    """The longest gaps in time order: the last bar before each, and how many miss."""
    doubts: tuple[str, ...] = ()
    """What the file's columns may mean, and prices that do not go on; a line each."""

    @property
    def problems(self) -> tuple[str, ...]:
        """One line per finding that refuses the table; empty for good candles."""
        lines = [] if self.num_bars else ["no rows"]
        lines += [self.irregular] if self.irregular else []
        step = self.timeframe or "1s"
        for what, finding in (
            ("timestamps earlier than the row before", self.unordered),
            ("duplicate timestamps", self.duplicates),
            (f"timestamps off the {step} boundaries", self.misaligned),
            ("high or low that does not enclose open and close", self.range_violations),
        ):
            lines += [f"{what}: {finding}"] if finding else []
        for what, findings in (
            ("NaN or infinite", self.not_finite),
            ("not positive", self.not_positive),
        ):
            lines += [f"{what} in column {c!r}: {f}" for c, f in findings.items()]
        return tuple(lines)

    @property
    def note(self) -> str:
        """What is unusual and taken as it is; empty for usual candles."""
        if not self.opening_hour:
            return ""
        days, minutes = divmod(round(self.opening_hour * 60), 24 * 60)
        when = f"at {minutes // 60:02d}:{minutes % 60:02d} UTC"
        if self.timeframe == "1w":
            when = f"on {calendar.day_name[days]} {when}"
        elif days:
            when = f"{counted(days, 'day', 'days')} after the boundary, {when}"
        elif timeframe_nanoseconds(self.timeframe or "1d") < DAY:
            when = f"{minutes // 60:02d}:{minutes % 60:02d} hours after the boundary"
        kind = {"1d": "daily", "1w": "weekly"}.get(self.timeframe or "", self.timeframe)
        return f"every {kind} bar opens {when}: taken as it is"

    @property
    def missing_share(self) -> float:
        """Share of the bars from the first to the last one that are missing."""
        return self.missing_bars / max(1, self.num_bars + self.missing_bars)

    @property
    def is_sparse(self) -> bool:
        """Whether so many bars are missing that most of a feature would be filled."""
        return self.missing_share >= MOST_MISSING

    def _gap_lines(self) -> list[str]:
        if not self.gaps:
            return ["gaps: none" if self.timeframe else "gaps: not known without it"]
        first = (
            f"gaps: {self.gaps.count}, {self.missing_bars:,} of "
            f"{self.num_bars + self.missing_bars:,} bars missing "
            f"({self.missing_share:.2%})"
        )
        step = pd.Timedelta(timeframe_nanoseconds(self.timeframe or "1s"), "ns")
        lines = [
            f"  {before + step:%F %R} to {before + step * bars:%F %R} UTC, "
            f"{counted(bars, 'bar', 'bars')}"
            for before, bars in self.longest_gaps
        ]
        rest = self.gaps.count - len(lines)
        return [first, *lines, *[f"  and {rest} more, none longer"] * (rest > 0)]

    def summary(self) -> str:
        """Returns a few lines for a reader: range, gaps, zero volume, problems."""
        lines = [
            f"{counted(self.num_bars, 'bar', 'bars')} of "
            f"{self.timeframe or 'unknown timeframe'}, "
            f"{self.start} to {self.end}",
            *self._gap_lines(),
            f"zero volume: {self.zero_volume or 'none'}",
        ]
        lines += [f"note: {self.note}"] if self.note else []
        found = [f"problem: {line}" for line in self.problems]
        if self.is_sparse:
            found.append(f"problem: {self.missing_share:.0%} of the bars are missing")
        found += [f"doubtful: {line}" for line in self.doubts]
        return "\n".join([*lines, *(found or ["problems: none"])])


def cures_of(reports: Sequence[CandleReport]) -> list[str]:
    """Returns what helps against the findings, a line each; their own text may do."""
    cures = {
        "Sort the rows by time.": any(r.unordered for r in reports),
        "Keep one row of each time: these differ in other columns.": any(
            r.duplicates for r in reports
        ),
        "Write the opening times of the bars, in UTC; bars after an outage of the "
        "exchange are a gap where they are read with those around.": any(
            r.misaligned for r in reports
        ),
        "Repair these rows, or fetch the files again.": any(
            r.range_violations or r.not_finite or r.not_positive for r in reports
        ),
    }
    return [cure for cure, helps in cures.items() if helps]


def check_candles(
    table: pd.DataFrame, *, timeframe: str | None = None, with_doubts: bool = True
) -> CandleReport:
    """Counts everything that can be wrong with candles, in one pass over all rules.

    Args:
        table: Columns `COLUMNS`, in any order of rows.
        timeframe: The timeframe wanted: the candles' own or a coarser one. It also
            settles which one it is where sparse candles leave that open.
        with_doubts: Whether prices are followed from bar to bar (`find_jumps`), too.

    Returns:
        The report. Gaps and zero volume inform, `doubts` warn; all other findings are
        `problems`.

    Raises:
        DataError: If a column is missing.
    """
    if absent := [column for column in COLUMNS if column not in table]:
        raise DataError(
            f"expected the columns {', '.join(COLUMNS)}. Received: no "
            f"{', '.join(absent)} among {[str(c) for c in table.columns]}."
        )
    stamps = _checked_nanoseconds(table)
    steps = np.diff(stamps)
    repeated = np.zeros(0, np.int64)
    sorted_steps = steps
    if len(steps) and steps.min() <= 0:
        repeated = np.flatnonzero(pd.Series(stamps).duplicated().to_numpy())
        sorted_steps = np.diff(np.unique(stamps))
    own, irregular = find_timeframe(sorted_steps, timeframe)
    step = timeframe_nanoseconds(own) if own else SECOND
    opens = (stamps - first_boundary(step)) % step
    hour = _opening_hour(opens) if step > HOUR else 0.0
    missing = np.maximum(steps // step - 1, 0) if own else np.zeros(0, np.int64)
    values = {column: _floats(table, column) for column in VALUES}
    finite = {column: np.isfinite(cells) for column, cells in values.items()}
    top = np.maximum(np.maximum(values["open"], values["close"]), values["low"])
    bottom = np.minimum(values["open"], values["close"])
    floor = {column: cells <= 0 for column, cells in values.items()}
    floor["volume"] = values["volume"] < 0
    doubts = tuple(table.attrs.get("doubts", ()))
    report = CandleReport(
        num_bars=len(table),
        start=table["timestamp"].min() if len(table) else None,
        end=table["timestamp"].max() if len(table) else None,
        timeframe=own,
        irregular=irregular,
        unordered=_finding(np.flatnonzero(steps < 0) + 1),
        duplicates=_finding(repeated),
        misaligned=_finding(np.flatnonzero(opens - int(hour * HOUR))),
        opening_hour=hour,
        not_finite=_by_column({c: ~mask for c, mask in finite.items()}),
        not_positive=_by_column(floor),
        range_violations=_finding(
            np.flatnonzero((values["high"] < top) | (values["low"] > bottom))
        ),
        zero_volume=_finding(np.flatnonzero(values["volume"] == 0)),
        gaps=_finding(np.flatnonzero(missing) + 1),
        missing_bars=int(missing.sum()),
        longest_gap_bars=int(missing.max(initial=0)),
        longest_gaps=tuple(
            (table["timestamp"].iloc[row], int(missing[row]))
            for row in sorted(np.argsort(-missing, kind="stable")[:_LISTED_GAPS])
            if missing[row]
        ),
        doubts=doubts,
    )
    if with_doubts and own and not report.problems:
        return replace(report, doubts=doubts + find_jumps(table, own).doubts)
    return report


def _opening_hour(opens: np.ndarray) -> float:
    """Returns the hours of all opens, in nanoseconds of their bar; else 0."""
    # Zones differ from UTC by quarters of an hour; another minute is no open.
    same = len(opens) and (opens == opens[0]).all() and opens[0] % (HOUR // 4) == 0
    return int(opens[0]) / HOUR if same else 0.0


def _floats(table: pd.DataFrame, column: str) -> np.ndarray:
    try:
        return table[column].to_numpy(np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(
            f"expected numbers in column {column!r}. Received: {error}."
        ) from error


def _finding(rows: np.ndarray) -> Finding:
    return Finding(len(rows), tuple(rows[:5].tolist()))


def _by_column(masks: dict[str, np.ndarray]) -> dict[str, Finding]:
    return {c: _finding(np.flatnonzero(m)) for c, m in masks.items() if m.any()}


def detect_timeframe(table: pd.DataFrame) -> str:
    """Returns the timeframe of a checked table, such as `"1m"`.

    Raises:
        DataError: If there are fewer than two bars, they are unordered, or the most
            common distance between bars is not also the smallest.
    """
    own, irregular = find_timeframe(np.diff(increasing_stamps(table)), None)
    if own is None:
        raise DataError(irregular or f"expected two bars. Received: {len(table)}.")
    return own


def increasing_stamps(table: pd.DataFrame) -> np.ndarray:
    """Returns the timestamps as int64 nanoseconds (num_bars,), strictly increasing.

    Raises:
        DataError: If they are not.
    """
    stamps = _checked_nanoseconds(table)
    wrong = np.flatnonzero(np.diff(stamps) <= 0)
    if len(wrong):
        raise DataError(
            "expected strictly increasing timestamps. Received: "
            f"{_finding(wrong + 1)} that are not later than the row before. "
            "Sort the candles and remove duplicates."
        )
    return stamps


def _checked_nanoseconds(table: pd.DataFrame) -> np.ndarray:
    """Returns the timestamps as int64 nanoseconds (num_bars,)."""
    column = table["timestamp"]
    if not isinstance(column.dtype, pd.DatetimeTZDtype):
        raise DataError(
            "expected timestamps of type datetime64[ns, UTC]. "
            f"Received: {column.dtype}. Use pd.to_datetime(..., utc=True)."
        )
    empty = np.flatnonzero(column.isna())
    if len(empty):
        raise DataError(
            f"expected a timestamp in every row. Received: none in {_finding(empty)}."
        )
    return nanoseconds_of(column)
