"""Which rows each part of a run and of each fold has, as ranges; their times.

In: a configuration and the times or the number of rows. Out: the splitters' index
arrays (`splits`), training a fold (`trainer`).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from config import Config
from preprocessing import splits
from preprocessing.splits import PurgedSplitter
from settings.data_fields import MAX_FOLDS, DataFields, day_after
from utils import DataError

_DAY_SECONDS = 86_400
PART_NAMES = ("train", "validation", "test")

Range = tuple[int, int]
Ranges = dict[str, Range | list[Range]]
"""First row and row after the last of each part; of combinatorial folds several."""


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
    def from_array(
        cls, times: np.ndarray, *, bar_seconds: int, cuts: Sequence[int] = ()
    ) -> Timeline:
        """Takes increasing times (num_rows,) datetime64[ns].

        Several series stand one after another; `cuts` are their first rows.
        """
        bar = np.timedelta64(bar_seconds, "s").astype("timedelta64[ns]")
        gaps = np.flatnonzero(np.diff(times) != bar) + 1
        starts = np.union1d([0, *cuts], gaps).astype(np.int64)
        return cls(starts=starts, times=times[starts], bar=bar, num_rows=len(times))

    def at(self, rows: np.ndarray | int) -> np.ndarray:
        """Returns the times datetime64[ns] of the given rows, in their shape."""
        rows = np.asarray(rows)
        stretch = np.searchsorted(self.starts, rows, side="right") - 1
        return self.times[stretch] + (rows - self.starts[stretch]) * self.bar

    def array(self) -> np.ndarray:
        """Returns the times of all rows (num_rows,) datetime64[ns]."""
        return self.at(np.arange(self.num_rows))

    def between(self, start: int, stop: int) -> Timeline:
        """Returns the times of the rows from `start` to before `stop`."""
        inside = (self.starts > start) & (self.starts < stop)
        starts = np.concatenate([[start], self.starts[inside]])
        return Timeline(
            starts=starts - start,
            times=self.at(starts),
            bar=self.bar,
            num_rows=stop - start,
        )


def chronological_ranges(rows: Timeline | int, config: DataFields) -> dict[str, Range]:
    """Returns first row and row after the last of train | validation | test.

    Args:
        rows: The times of the rows; where parts are shares, their number will do.
        config: The last days of the parts, or their shares; the share of the training
            part that is learned from.

    Raises:
        DataError: If a part that ends on a given day has no row.
    """
    num_rows = rows if isinstance(rows, int) else rows.num_rows
    num_test = round(num_rows * config.test_split)
    num_validation = round(num_rows * config.validation_split)
    edges = [0, num_rows - num_test - num_validation, num_rows - num_test, num_rows]
    if config.train_end is not None and config.validation_end is not None:
        if isinstance(rows, int):
            raise ValueError("`rows`: expected times for parts by date, not a number.")
        times = rows.array()
        days = [day_after(config.train_end), day_after(config.validation_end)]
        edges[1:3] = np.searchsorted(times, np.array(days, times.dtype)).tolist()
        if not edges[0] < edges[1] < edges[2] < edges[3]:
            raise DataError(
                "train_end, validation_end: expected rows in every part. Received: "
                f"{config.train_end} and {config.validation_end} for rows from "
                f"{times[0]} to {times[-1]}. Choose days inside the file, or a longer "
                "file."
            )
    ranges = dict(zip(PART_NAMES, itertools.pairwise(edges), strict=True))
    return ranges | {"train": (0, round(edges[1] * config.stage_share))}


def spans_of(rows: Any) -> list[Range]:
    """Returns the ranges of a part of `Ranges`, as it is or read from JSON."""
    many = rows if isinstance(rows[0], Sequence) else [rows]
    return [(start, stop) for start, stop in many]


def create_splitter(config: Config) -> PurgedSplitter:
    """Returns the splitter that `cv` names, with this run's window and horizon."""
    options: dict[str, Any] = {
        "window_bars": config.sequence_length,
        "future_window": config.future_window,
        "embargo_bars": config.embargo_bars,
    }
    if config.n_splits is None:
        return splits.PurgedTimeSeriesSplit(
            None,
            max_train_size=_bars("train", config),
            expanding=config.cv == "expanding",
            test_size=_bars("test", config),
            gap=math.ceil(config.cv_gap_days * _DAY_SECONDS / config.bar_seconds),
            **options,
        )
    count = config.n_splits
    if config.cv == "combinatorial":
        return splits.CombinatorialPurgedSplit(count, config.cv_test_blocks, **options)
    if config.cv == "purged":
        return splits.PurgedTimeSeriesSplit(count, **options)
    if config.cv == "blocking":
        return splits.BlockingTimeSeriesSplit(count, **options)
    expanding = config.cv != "rolling"
    return splits.WalkForwardSplit(count, expanding=expanding, **options)


def fold_ranges(rows: Timeline | int, config: Config) -> list[Ranges]:
    """Returns the parts of each fold as row ranges, oldest fold first.

    Folds lie in the rows before the run's test part, which none of them sees. The
    newest rows of a fold's training block become its validation part, in the
    proportion that the run's own validation part has to its training part. No folds
    where the configuration asks for none.

    Args:
        rows: Times or number of the rows used, as `chronological_ranges` takes them.
        config: Number and kind of folds, window, horizon, splits.

    Raises:
        DataError: If there are too few rows, or so many that they make more folds
            than `MAX_FOLDS`.
    """
    if not config.has_folds:
        return []
    start, stop = chronological_ranges(rows, config)["validation"]
    share = (stop - start) / stop
    folds: list[Ranges] = []
    found = _fold_targets(rows, config)
    if len(found) > MAX_FOLDS:
        raise DataError(
            f"cv_train_days, cv_test_days: expected at most {MAX_FOLDS} folds. "
            f"Received: {len(found)} of {stop} rows before the test. Use longer tests."
        )
    for train, test in found:
        blocks = [_rows_of(each, config) for each in train]
        edge = sum(stop - start for start, stop in blocks)
        edge -= round(edge * share)
        parts = {
            "train": _cut(blocks, 0, edge),
            "validation": _cut(blocks, edge, None),
            "test": [_rows_of(each, config) for each in test],
        }
        several = config.cv == "combinatorial"
        folds.append({k: v if several else v[0] for k, v in parts.items()})
    return folds


def _fold_targets(
    rows: Timeline | int, config: Config
) -> list[tuple[list[Range], list[Range]]]:
    """Returns the target rows that each fold trains on and is tested on.

    Days are those of the calendar: a gap in the rows does not lengthen a fold.
    """
    splitter, count = create_splitter(config), development_targets(rows, config)
    in_days = config.cv_train_days is not None or config.cv_test_days is not None
    if isinstance(rows, int) or not in_days:
        return splitter.get_ranges(count)
    times = rows.at(np.arange(count))
    bars = (times - times[0]) // rows.bar
    folds = []
    for [train], [test] in splitter.get_ranges(int(bars[-1]) + 1):
        (start, stop), (first, last) = np.searchsorted(bars, [train, test]).tolist()
        # Windows and labels reach over gaps: what is purged are rows.
        folds.append(
            ([(start, min(stop, first - splitter.purge_bars))], [(first, last)])
        )
    return folds


def require_windows(folds: Sequence[Ranges], config: Config) -> None:
    """Refuses folds of which a part has no target, before anything is trained.

    Raises:
        DataError: If a part is shorter than a window and a label.
    """
    least = config.sequence_length + config.future_window
    for number, fold in enumerate(folds, 1):
        for part, rows in fold.items():
            most = max((b - a for a, b in spans_of(rows)), default=0) if rows else 0
            if most < least:
                raise DataError(
                    f"fold {number} of {len(folds)}: expected at least {least} rows of "
                    f"{part}, a window and a label. Received: {most}. Use fewer or "
                    "longer folds, or a shorter sequence_length or future_window."
                )


def development_targets(rows: Timeline | int, config: Config) -> int:
    """Returns how many target rows, from the first row on, folds are made of."""
    start, _ = chronological_ranges(rows, config)["test"]
    return start - config.future_window


def _bars(part: str, config: Config) -> int | None:
    """Returns how long a part of a walk-forward fold is; days are rounded up."""
    days = getattr(config, f"cv_{part}_days")
    if days is None:
        return getattr(config, f"cv_{part}_bars")
    return math.ceil(days * _DAY_SECONDS / config.bar_seconds)


def _rows_of(targets: Range, config: Config) -> Range:
    """Adds to a range of targets the rows of its first window and its last label."""
    first, stop = targets
    return max(0, first - config.sequence_length + 1), stop + config.future_window


def _cut(blocks: list[Range], first: int, stop: int | None) -> list[Range]:
    """Returns the rows from the `first` to before the `stop`-th of all blocks."""
    found, passed = [], 0
    for start, end in blocks:
        low = start + max(0, first - passed)
        high = end if stop is None else min(end, start + stop - passed)
        if low < high:
            found.append((low, high))
        passed += end - start
    return found
