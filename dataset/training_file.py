"""The training file's contract: columns, reading with checks, writing.

In: what the columns of a training file mean, whoever made it. Out: its description
(`dataset.sidecar`), how features and labels come about (`dataset_builder`), splitting
and scaling (`data_loader`).
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pyarrow.feather
import pyarrow.parquet

import utils
from candles.timestamps import describe_distance, parse_timestamps
from config import CLASS_TARGETS
from dataset import sidecar
from dataset.columns import (
    OUTCOMES,
    describe_left_out,
    feature_columns,
    name_columns,
    order_rows,
    read_time_cells,
)
from dataset.label_columns import read_labels
from dataset.labels import LABEL_VERSION
from files import tables
from files.atomic import atomic_path
from files.locks import folder_lock
from files.strict import write_json
from files.tables import Columns
from utils import DataError

logger = logging.getLogger(__name__)

MAX_TARGET_DEVIATION = 1e-4
"""Largest distance of a target to the log return of the closes, one basis point: more
than rounded prices make, less than another horizon does."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Rows:
    """A training file's rows, checked: finite features, one label each, ordered times.

    Args:
        features: (num_rows, num_features) float32, as in the file.
        feature_names: Name of each column.
        labels: (num_rows,) int8 class ids; (0,) where the target is a number.
        log_returns: (num_rows,) float64 `ln(close[t + future_window] / close[t])`,
            where the target is a number, NaN in rows without one; else None.
        timestamps: (num_rows,) datetime64[ns], UTC.
        segment_ids: (num_rows,) int32; equal while the bars are gapless.
        is_target: (num_rows,) bool; False where a row must not be predicted.
        outcomes: The columns of `OUTCOMES` that the file has, and `target` as it stands
            there where it is a number.
        source: Path, digest, counts.
    """

    features: np.ndarray
    feature_names: tuple[str, ...]
    labels: np.ndarray
    log_returns: np.ndarray | None
    timestamps: np.ndarray
    segment_ids: np.ndarray
    is_target: np.ndarray
    outcomes: dict[str, np.ndarray]
    source: dict[str, Any]


def write_training_file(
    path: str | os.PathLike[str], frame: pd.DataFrame, description: Mapping[str, Any]
) -> Path:
    """Writes `frame` in its suffix's format, `description` with its sha256 beside it.

    Both are whole before either takes its name, and a lock on the folder keeps other
    writers and readers out until both have. The table comes first: a crash in between
    leaves a digest that does not match, which a reader notices.

    Raises:
        ConfigError: If the suffix is of no format that is read back.
    """
    tables.require_suffix(path, "training_file")
    path = Path(path)
    with (
        contextlib.ExitStack() as held,
        atomic_path(sidecar.sidecar_path(path)) as note,
        atomic_path(path) as table,
    ):
        tables.write_table(table, frame)
        write_json(note, sidecar.describe_file(table, description))
        held.enter_context(folder_lock(path.parent))
    return path


def other_label_rule(description: Mapping[str, Any]) -> list[str]:
    """Returns what to know of labels that our builder made by another rule, if so."""
    stated = description.get("label_version", "1")
    has_labels = description.get("parameters", {}).get("target") in CLASS_TARGETS
    is_built = "feature_version" in description
    if not (has_labels and is_built) or stated == LABEL_VERSION:
        return []
    return [
        f"labels: made by rule {stated}, not by rule {LABEL_VERSION}, in which a bar's "
        "open decides before its extremes (docs/contracts.md). Build the file again to "
        "have them so"
    ]


@contextlib.contextmanager
def naming_the_file(path: Path | None) -> Iterator[None]:
    """Puts the file before a `DataError` of its content that does not name it."""
    try:
        yield
    except DataError as error:
        if path is None or str(error).startswith(f"{path}:"):
            raise
        raise DataError(f"{path}: {error}") from error


def read_rows(
    columns: Columns,
    *,
    bar_seconds: int,
    future_window: int,
    source: Mapping[str, Any],
    target: str = "signal",
    window_bars: int = 1,
    pair: str | None = None,
) -> Rows:
    """Reads and checks every column that training or evaluation uses.

    Args:
        columns: The file or frame.
        bar_seconds: Length of a bar.
        future_window: Bars that a label or a target looks ahead.
        source: Where the columns come from.
        target: What is predicted (`label_fields`): a class is read from the label, a
            number from the column `target`.
        window_bars: Rows that a target's window reads.
        pair: The market that a column of markets must name.

    Raises:
        DataError: Naming the file, the column and the first rows that break the
            contract.
    """
    with naming_the_file(columns.path):
        timestamps = _read_timestamps(columns, bar_seconds)
        names, left_out = feature_columns(columns, pair)
        if left_out:
            logger.info("%s", describe_left_out(left_out))
        if not names:
            raise DataError(
                "expected feature columns beside the timestamp and the label. "
                f"Received: {', '.join(columns.names)}"
            )
        # Arrow keeps what it frees; the training that follows needs the memory.
        pa.default_memory_pool().release_unused()
        count = len(timestamps)
        features = np.empty((count, len(names)), np.float32)
        is_number = target not in CLASS_TARGETS
        wanted = OUTCOMES | ({"target": np.float64} if is_number else {})
        outcomes = {
            name: np.empty(count, dtype)
            for name, dtype in wanted.items()
            if name in columns.names
        }
        by_name = {name: features[:, j] for j, name in enumerate(names)}
        columns.read_numbers(by_name | outcomes)
        for name, column in by_name.items():
            refuse_non_finite(name, column)
        segment_ids = _segment_ids(columns, timestamps, bar_seconds)
        is_target = _read_targets(columns, count, future_window)
        may_lack = ~is_target
        if "is_target" not in columns.names:
            may_lack |= _without_window(segment_ids, window_bars, future_window)
        labels, log_returns = np.empty(0, np.int8), None
        if is_number:
            log_returns = _log_returns(outcomes, target, may_lack)
            _refuse_other_horizon(log_returns, outcomes, segment_ids, future_window)
            is_target &= np.isfinite(log_returns)
        else:
            labels, lacks = read_labels(columns, may_lack)
            is_target &= ~lacks
        return Rows(
            features=features,
            feature_names=tuple(names),
            labels=labels,
            log_returns=log_returns,
            timestamps=timestamps,
            segment_ids=segment_ids,
            is_target=is_target,
            outcomes=outcomes,
            source=dict(source) | {"rows": count, "features": len(names)},
        )


def refuse_non_finite(name: str, values: np.ndarray) -> None:
    """Raises a `DataError` that names the column and the first NaN or infinite rows."""
    bad = np.flatnonzero(~np.isfinite(values))
    if 0 < len(bad) == len(values):
        raise DataError(
            f"{name}: expected finite numbers. Received: none in "
            f"{utils.counted(len(bad), 'row', 'rows')}. "
            "Remove the column, or repair it where the file is made."
        )
    if len(bad):
        shown = ", ".join(f"row {row}: {values[row]}" for row in bad[:3])
        raise DataError(
            f"{name}: expected finite numbers. Received: {len(bad)} that are not "
            f"({shown}). Drop or repair these rows where the file is made."
        )


def open_training_file(path: str | os.PathLike[str]) -> Columns:
    """Opens a training file; its columns have the names of the contract.

    Raises:
        MissingInputError: If there is no file.
        DataError: If it is of another format, damaged, unsafe, or names a column twice.
    """
    with naming_the_file(Path(path)):
        return name_columns(tables.open_table(path))


def read_times(columns: Columns) -> np.ndarray:
    """Returns the column `timestamp` (num_rows,) datetime64[ns].

    `columns` have their rows ordered, as far as that is certain; see `order_rows`.

    Raises:
        DataError: If there is none, without rows, or no time in one.
    """
    if "timestamp" not in columns.names:
        raise DataError(
            "expected a column 'timestamp'. "
            f"Received: {', '.join(columns.names)}."
            f"{utils.did_you_mean('timestamp', columns.names)} "
            "Name the column with the open of each bar (UTC) so."
        )
    column = read_time_cells(columns)
    if not len(column):
        raise DataError("expected rows. Received: an empty table. Make the file again.")
    try:
        nanoseconds, _ = parse_timestamps(column)
    except DataError as error:
        raise DataError(f"timestamp: {error}") from error
    return order_rows(columns, nanoseconds).copy().view("datetime64[ns]")


def _read_timestamps(columns: Columns, bar_seconds: int) -> np.ndarray:
    times = read_times(columns)
    steps = np.diff(times)
    no_time = np.timedelta64(0, "ns")
    wrong = np.flatnonzero(steps <= no_time)
    if len(wrong):
        row = int(wrong[0]) + 1
        kind = "repeats" if steps[row - 1] == no_time else "goes back"
        raise DataError(
            f"timestamp: expected strictly increasing times. Received: {len(wrong)} "
            f"that are not; row {row} {kind} ({times[row]} after {times[row - 1]}). "
            "Sort the file and remove the repeated rows."
        )
    bar = np.timedelta64(bar_seconds, "s")
    # Gaps are longer than a bar; where every step is, these are other bars.
    if len(steps) and (steps.min() != bar or (steps % bar != no_time).any()):
        wanted, nearest = (
            describe_distance(int(step.astype("timedelta64[ns]").astype(np.int64)))
            for step in (bar, steps.min())
        )
        raise DataError(
            f"timestamp: expected bars of {wanted}. Received: bars {nearest} apart. "
            f"Choose the right timeframe (--timeframe {nearest}), or another file."
            if nearest != wanted
            else f"timestamp: expected whole multiples of {wanted} between bars. "
            "Received: others. Repair the times where the file is made."
        )
    return times


def _log_returns(
    outcomes: Mapping[str, np.ndarray], target: str, may_lack: np.ndarray
) -> np.ndarray:
    """Returns the forward log return (num_rows,) that a `return` or `price` says.

    It is NaN in rows without one, all of which are among `may_lack` (num_rows,).
    """
    needed = ["target", "close"] if target == "price" else ["target"]
    missing = [name for name in needed if name not in outcomes]
    if missing:
        raise DataError(
            f"expected the column {' and '.join(map(repr, needed))} of a {target}. "
            f"Received: no {', '.join(missing)}. "
            f"Build the file with dataset_builder.py --target {target}."
        )
    values = outcomes["target"]
    if target == "price":
        close = outcomes["close"]
        wrong = ~may_lack & ~((values > 0) & (close > 0))
        if wrong.any():
            row = int(np.argmax(wrong))
            raise DataError(
                "target, close: expected prices above 0. Received: "
                f"{utils.counted(wrong.sum(), 'row', 'rows')} without, the first is "
                f"row {row}: "
                f"{values[row]} after {close[row]}"
            )
        with np.errstate(divide="ignore", invalid="ignore"):
            values = np.log(values / close)
    refuse_non_finite("target", np.where(may_lack, 0.0, values))
    return np.where(np.isfinite(values), values, np.nan)


def _refuse_other_horizon(
    log_returns: np.ndarray,
    outcomes: Mapping[str, np.ndarray],
    segment_ids: np.ndarray,
    future_window: int,
) -> None:
    """Holds the targets against the closes, where the file has them.

    A longer horizon would let a part's targets look into the next part.
    """
    if "close" not in outcomes or len(log_returns) <= future_window:
        return
    close = outcomes["close"]
    now, ahead = close[:-future_window], close[future_window:]
    with np.errstate(divide="ignore", invalid="ignore"):
        moved = np.log(ahead / now)
    is_known = segment_ids[:-future_window] == segment_ids[future_window:]
    is_known &= np.isfinite(moved) & np.isfinite(log_returns[:-future_window])
    distance = np.abs(log_returns[:-future_window] - moved)
    wrong = is_known & (distance > MAX_TARGET_DEVIATION)
    if wrong.any():
        row = int(np.argmax(wrong))
        raise DataError(
            f"target: expected what the close does over {future_window} bars (a log "
            f"return, or that price). Received: "
            f"{utils.counted(wrong.sum(), 'row that differs', 'rows that differ')}, "
            f"the first is row {row}: a log return of {log_returns[row]:.6f} instead "
            f"of {moved[row]:.6f}. Set future_window to the file's horizon, or repair "
            "the column."
        )


def _segment_ids(
    columns: Columns, timestamps: np.ndarray, bar_seconds: int
) -> np.ndarray:
    """Returns (num_rows,) ids; a gap in the times always starts a new segment."""
    # Whole numbers: memory refused in arithmetic of times ends the process.
    times, bar = timestamps.view(np.int64), bar_seconds * 1_000_000_000
    breaks = np.diff(times, prepend=times[0] - bar) != bar
    if "segment" in columns.names:
        given = np.empty(len(timestamps), np.int64)
        columns.read_numbers({"segment": given})
        breaks |= np.diff(given, prepend=given[0]) != 0
    return np.cumsum(breaks, dtype=np.int32)


def _without_window(
    segment_ids: np.ndarray, window_bars: int, future_window: int
) -> np.ndarray:
    """Returns rows whose window or label bars are not in their segment (num_rows,)."""
    breaks, num_rows = np.flatnonzero(np.diff(segment_ids)) + 1, len(segment_ids)
    lacks = np.zeros(num_rows, bool)
    for first, stop in itertools.pairwise([0, *breaks.tolist(), num_rows]):
        lacks[first : min(first + window_bars - 1, stop)] = True
        lacks[max(first, stop - future_window) : stop] = True
    return lacks


def _read_targets(columns: Columns, count: int, future_window: int) -> np.ndarray:
    targets = np.ones(count, bool)
    if "is_target" in columns.names:
        columns.read_numbers({"is_target": targets})
    if "is_filled" in columns.names:
        filled = np.empty(count, bool)
        columns.read_numbers({"is_filled": filled})
        targets &= ~filled
    if "is_target" not in columns.names and "label_end" not in columns.names:
        # Nothing says that the last rows' future was there: V3 called them HOLD.
        targets[max(0, count - future_window) :] = False
        logger.info(
            "the file does not say when outcomes are known: "
            "its last %s not used as targets",
            utils.counted(min(count, future_window), "row is", "rows are"),
        )
    return targets
