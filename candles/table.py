"""Exchange files -> the one candle table: read, check, fill, resample.

The table: `timestamp` (datetime64[ns, UTC], the open of the bar), `open`, `high`,
`low`, `close`, `volume` (float64, base units), strictly increasing, one timeframe.

In: joining files, filling, resampling. Out: file formats (`formats`), what makes
candles good candles (`checks`), remote archives (`archives`), made-up markets
(`synthetic`), and anything computed from candles.
"""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from candles.checks import (
    CandleReport,
    check_candles,
    cures_of,
    increasing_stamps,
)
from candles.columns import EXTRAS, VALUES, base_of, extra_columns, make_table
from candles.formats import (
    as_table,
    candle_files,
    read_file,
    read_frame,
    refuse_mixed_pairs,
)
from candles.timestamps import (
    DAY,
    HOUR,
    find_timeframe,
    first_boundary,
    timeframe_nanoseconds,
)
from files.progress import track
from settings.label_fields import MAX_FILL_BARS
from settings.names import plain_pair, stated_contents
from utils import ConfigError, DataError, counted

logger = logging.getLogger(__name__)

MAX_FILL_TIME = 6 * HOUR


# Reading


def read_candles(
    path: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | pd.DataFrame,
    *,
    timeframe: str | None = None,
    expected_timeframe: str | None = None,
    timezone: str | None = None,
) -> pd.DataFrame:
    """Reads one file of candles, or joins several, and refuses what is not right.

    Several files are joined in time order. Rows that are in two files are merged where
    they are identical and refused where they differ.

    Args:
        path: A file of any format of `formats.read_file`, a folder of one pair's files,
            a sequence of them, or a DataFrame of the same columns.
        timeframe: The timeframe wanted, such as `"5m"`. Finer candles are resampled to
            it (see `resample_candles`); None keeps the candles' own.
        expected_timeframe: The candles' own timeframe where they are so sparse that
            their distances leave it open; nothing is resampled for it.
        timezone: Zone of times that state none, such as `Europe/Berlin`; None is UTC.

    Returns:
        The candle table; gaps are still gaps (see `fill_gaps`).

    Raises:
        MissingInputError: If a file is missing.
        DataError: If a file breaks its format or the candles their contract (one
            message with all findings), or they are coarser than `timeframe`.
    """
    if isinstance(path, pd.DataFrame):
        files, tables = [Path("the frame")], iter([read_frame(path, timezone=timezone)])
    else:
        paths = [path] if isinstance(path, str | os.PathLike) else list(path)
        files = [file for item in paths for file in candle_files(item)]
        _refuse_mixed_files(files)
        tables = (read_file(file, timezone=timezone) for file in files)
    table = _join(files, tables, timeframe=timeframe, expected=expected_timeframe)
    if timeframe is not None:
        table = resample_candles(table, timeframe)
    return table


def _join(
    files: Sequence[Path],
    read: Iterator[pd.DataFrame],
    *,
    timeframe: str | None,
    expected: str | None,
) -> pd.DataFrame:
    found: list[_Read] = []
    for file, table in zip(files, track(read, "file", len(files)), strict=True):
        report = check_candles(table, timeframe=timeframe, with_doubts=False)
        if report.irregular and expected is not None:
            settled = check_candles(table, timeframe=expected, with_doubts=False)
            report = report if settled.irregular else settled
        found.append((file, table, report))
    found = _without_strays(found)
    files = [file for file, _, _ in found]
    tables = [table for _, table, _ in found]
    reports = [report for _, _, report in found]
    bad = [
        f"{file}: {problem}"
        for file, report in zip(files, reports, strict=True)
        for problem in report.problems
    ]
    doubts = tuple(doubt for each in tables for doubt in each.attrs.get("doubts", ()))
    if bad:
        raise DataError(
            "expected candles that keep their contract. Received: "
            + "".join(f"\n  {line}" for line in bad)
            + "".join(f"\n  doubtful: {line}" for line in doubts)
            + "".join(f"\n{cure}" for cure in cures_of(reports))
        )
    kinds = {
        (r.timeframe, r.opening_hour): file
        for file, r in zip(files, reports, strict=True)
        if r.timeframe
    }
    if len(kinds) > 1:
        raise DataError(
            "expected files of one timeframe. Received: "
            + ", ".join(
                f"{step} in {file}"
                + f" from {int(hour % 24):02d}:{int(hour % 1 * 60):02d} UTC"
                * (hour > 0)
                for (step, hour), file in kinds.items()
            )
            + ". Resample them to one timeframe first."
        )
    if notes := {report.note for report in reports if report.note}:
        logger.info("%s", ", ".join(sorted(notes)))
    symbols = {
        each.attrs["symbol"]: file
        for each, file in zip(tables, files, strict=True)
        if each.attrs.get("symbol")
    }
    if len({plain_pair(symbol) for symbol in symbols}) > 1:
        raise DataError(
            "expected files of one market. Received, by their columns: "
            + " and ".join(f"{symbol} in {file}" for symbol, file in symbols.items())
            + ". Read each market by itself."
        )
    table = tables[0] if len(tables) == 1 else _merge(tables, files)
    table.attrs = {"doubts": doubts, "symbol": next(iter(symbols), None)}
    return table


_Read = tuple[Path, pd.DataFrame, CandleReport]


def _without_strays(found: Sequence[_Read]) -> list[_Read]:
    """Leaves out files of which every bar opens off the boundaries of the others.

    So do archives of a day after an outage; see `rows.tidy_rows` for rows of a file.
    """
    whole = {report.timeframe for _, _, report in found if not report.problems}
    kept = []
    for file, table, report in found:
        is_stray = len(report.problems) == 1 and report.timeframe in whole
        if is_stray and report.misaligned.count == report.num_bars:
            bars = counted(report.num_bars, "bar", "bars")
            what = f"off the {report.timeframe} boundaries of the other files"
            logger.info("%s: %s, all %s: left out, a gap", file, bars, what)
        else:
            kept.append((file, table, report))
    return kept


def _refuse_mixed_files(files: Sequence[Path]) -> None:
    """Refuses no file, one given twice, and by names: no trades, files of two pairs."""
    if not files:
        raise ConfigError("expected at least one candle file. Received: none.")
    twice = [str(f) for f, n in Counter(f.resolve() for f in files).items() if n > 1]
    if twice:
        raise DataError(
            f"expected each file once. Received: {', '.join(twice)} more than once. "
            "Remove the repetition."
        )
    for file in files:
        if contents := stated_contents(file.name):
            raise DataError(
                f"{file}: expected candles of trades. Received: a file that is named "
                f"after {contents}. Take the one in -futures, or without such a word."
            )
    refuse_mixed_pairs([file.name for file in files])


def _merge(tables: list[pd.DataFrame], files: Sequence[Path]) -> pd.DataFrame:
    """Joins checked tables in time order; identical shared rows are kept once."""
    order = sorted(range(len(tables)), key=lambda i: tables[i]["timestamp"].iloc[0])
    joined = pd.concat([tables[i] for i in order], ignore_index=True)
    source = np.repeat(order, [len(tables[i]) for i in order])
    stamps = pd.DatetimeIndex(joined["timestamp"]).asi8
    if (np.diff(stamps) > 0).all():
        return joined
    rows = np.argsort(stamps, kind="stable")
    joined, source = joined.iloc[rows].reset_index(drop=True), source[rows]
    shared = np.flatnonzero(np.diff(stamps[rows]) == 0)
    for column in VALUES:
        values = joined[column].to_numpy()
        wrong = shared[values[shared] != values[shared + 1]]
        if len(wrong):
            row = int(wrong[0])
            raise DataError(
                "expected equal candles where files overlap. Received: "
                f"{column} at {joined['timestamp'].iloc[row]} is "
                f"{values[row]!s} in {files[source[row]]} and "
                f"{values[row + 1]!s} in {files[source[row + 1]]} "
                f"({len(wrong)} of {len(shared)} shared rows differ in it). "
                "Remove the file that is wrong."
            )
    logger.info("%s found in two files and merged", counted(len(shared), "row", "rows"))
    keep = np.ones(len(joined), bool)
    keep[shared + 1] = False
    return joined[keep].reset_index(drop=True)


# Filling and resampling


def longest_fill(max_fill_bars: int, timeframe: str) -> int:
    """Returns the longest run of missing bars that is carried forward.

    The default of 60 bars is also at most six hours: at least one bar below 1d, none
    from there on. Another number counts as it is.
    """
    if max_fill_bars != MAX_FILL_BARS:
        return max_fill_bars
    step = timeframe_nanoseconds(timeframe)
    return 0 if step >= DAY else min(max_fill_bars, max(1, MAX_FILL_TIME // step))


def fill_gaps(
    table: pd.DataFrame,
    timeframe: str,
    *,
    max_fill_bars: int = MAX_FILL_BARS,
    cuts: np.ndarray | None = None,
) -> pd.DataFrame:
    """Fills short gaps with the last close and cuts the table at long ones.

    Args:
        table: A checked candle table; a column `is_filled` of its own is kept.
        timeframe: The distance of its bars.
        max_fill_bars: The longest run of missing bars that is filled, where it is 60
            bounded in time (`longest_fill`).
        cuts: int64 nanoseconds (num_cuts,) at which the table is cut, too: before the
            bar that opens then; a bar that holds one inside is a segment by itself, and
            missing bars are not filled across one.

    Returns:
        The candle columns plus `is_filled` (bool; such a bar has open = high = low =
        close = the last close and volume 0) and `segment` (int32, from 0). What else
        a table may have (`columns.extra_columns`) is NaN in a filled bar.

    Raises:
        DataError: If the bars are not whole multiples of `timeframe` apart.
    """
    if max_fill_bars < 0:
        raise ConfigError(
            f"max_fill_bars: expected at least 0. Received: {max_fill_bars}."
        )
    step = timeframe_nanoseconds(timeframe)
    table = as_table(table)
    stamps = increasing_stamps(table)
    distance = np.diff(stamps)
    wrong = np.flatnonzero(distance % step)
    if len(wrong):
        raise DataError(
            f"expected bars whole multiples of {timeframe} apart. Received: "
            f"{counted(len(wrong), 'other', 'others')}, first in row {wrong[0] + 1}. "
            "Resample the candles first."
        )
    missing = np.append(distance // step - 1, 0)[: len(table)]
    ends = missing > longest_fill(max_fill_bars, timeframe)
    if cuts is not None and len(table):
        ends |= _ends_before(stamps, step, cuts)
    copies = np.where(ends, 0, missing) + 1
    rows = np.repeat(np.arange(len(table)), copies)
    offset = np.arange(len(rows)) - (np.cumsum(copies) - copies)[rows]
    added = offset > 0
    close = table["close"].to_numpy()[rows]
    columns = {
        name: np.where(added, close, table[name].to_numpy()[rows])
        for name in ("open", "high", "low")
    }
    columns["close"] = close
    columns["volume"] = np.where(added, 0.0, table["volume"].to_numpy()[rows])
    for name in extra_columns(table):
        columns[name] = np.where(added, np.nan, table[name].to_numpy()[rows])
    if "is_filled" in table:
        added = added | table["is_filled"].to_numpy(bool)[rows]
    columns["is_filled"] = added
    breaks = np.cumsum(ends)
    columns["segment"] = np.append(0, breaks)[: len(table)].astype(np.int32)[rows]
    return make_table(stamps[rows] + offset * step, columns)


def _ends_before(stamps: np.ndarray, step: int, cuts: np.ndarray) -> np.ndarray:
    """Returns whether a segment ends with each bar (num_bars,), because of `cuts`."""
    cuts = cuts[cuts > stamps[0]]
    holder = np.searchsorted(stamps, cuts, side="right") - 1
    inside = cuts < stamps[holder] + step
    begins = np.concatenate(
        [
            np.where(inside, holder, holder + 1),
            holder[inside & (cuts > stamps[holder])] + 1,
        ]
    )
    ends = np.zeros(len(stamps), bool)
    ends[begins[(begins > 0) & (begins < len(stamps))] - 1] = True
    return ends


def resample_candles(
    table: pd.DataFrame, timeframe: str, *, source_timeframe: str | None = None
) -> pd.DataFrame:
    """Builds coarser bars on exact UTC boundaries (weeks open on Mondays).

    Weeks of daily bars that open at another hour open at that hour, too.

    A bar is kept only when every source bar inside it is there; any missing one, at the
    edges or within, drops it. Candles without rows for minutes without a trade keep
    more bars when they pass `fill_gaps` first: a filled bar counts as present, and the
    result is `is_filled` where all of its source bars are.

    Args:
        table: A checked candle table, or the result of `fill_gaps`.
        timeframe: A whole multiple of the candles' own, or the same.
        source_timeframe: The candles' own timeframe; None detects it.

    Returns:
        The candle columns, and what else `table` has of `fill_gaps`' columns.

    Raises:
        DataError: If `timeframe` is finer than the candles or no multiple of theirs.
    """
    target = timeframe_nanoseconds(timeframe)
    table = as_table(table)
    stamps = increasing_stamps(table)
    own, irregular = find_timeframe(np.diff(stamps), source_timeframe or timeframe)
    if own is None:
        raise DataError(irregular or f"expected two bars. Received: {len(table)}.")
    source = timeframe_nanoseconds(own)
    if target % source:
        raise DataError(
            f"expected candles of which {timeframe} is a whole multiple. "
            f"Received: candles of {own}. "
            "Choose a coarser timeframe, or fetch finer candles."
        )
    origin = first_boundary(target) + (stamps[0] - first_boundary(source)) % source
    bins = (stamps - origin) // target
    starts = np.flatnonzero(np.diff(bins, prepend=bins[:1] - 1))
    counts = np.diff(np.append(starts, len(bins)))
    whole = counts == target // source
    if not whole.all():
        logger.info(
            "resampling %s to %s: %d of %d bars are incomplete and dropped",
            own, timeframe, np.count_nonzero(~whole), len(whole),
        )  # fmt: skip
    rules: dict[str, np.ufunc] = {
        "high": np.maximum,
        "low": np.minimum,
        "volume": np.add,
        "is_filled": np.logical_and,
    }
    columns = {}
    for name in (*VALUES, *extra_columns(table), "is_filled"):
        if name in table:
            values, base = table[name].to_numpy(), base_of(name)
            if base in rules:
                columns[name] = rules[base].reduceat(values, starts)[whole]
            else:
                place = starts if base == "open" else starts + counts - 1
                place = _last_known(values, starts, place) if name in EXTRAS else place
                columns[name] = values[place[whole]]
    opens = bins[starts[whole]] * target + origin
    return make_table(opens, columns)


def _last_known(values: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """Returns the last row of each bar that has a value; its last row without one."""
    known = np.where(np.isfinite(values), np.arange(len(values)), -1)
    last = np.maximum.accumulate(known)[ends]
    return np.where(last >= starts, last, ends)
