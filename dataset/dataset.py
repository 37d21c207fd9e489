"""A dataset in memory: its columns, its statistics, and all that is wrong with it.

In: a training file's or a built dataset's rows, described and validated. Out: making
rows (`dataset_builder`), showing them (`reports.dataset`), the checks at the door of a
training, which stop at the first fault (`training_file`).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import utils
from candles.timestamps import SECOND, nanoseconds_of
from config import CLASS_NAMES, CLASS_TARGETS, HOLD
from dataset import training_file
from dataset.columns import (
    BESIDE,
    NOT_FEATURES,
    ONE_HOT,
    describe_left_out,
    feature_columns,
)
from dataset.label_columns import LABEL_CURE, label_classes
from dataset.sidecar import read_sidecar
from files.locks import folder_lock
from files.tables import Columns
from settings import names as file_names
from utils import DataError

MIN_ROWS = 1000
"""Fewer rows than this are reported: no part of them would say much."""

# Below this a column is constant for float32 arithmetic.
_CONSTANT_STD = 1e-6


class Dataset:
    """Rows of one pair and timeframe: features, outcomes, and where they came from.

    Args:
        frame: A training file's columns, `(num_rows,)` rows (docs/contracts.md), or
            a function that gives those of the given names, or all for None.
        metadata: What the sidecar says: parameters, counts, statistics, digests.
    """

    def __init__(
        self,
        *,
        frame: pd.DataFrame | Callable[[Sequence[str] | None], pd.DataFrame],
        metadata: Mapping[str, Any],
    ) -> None:
        self.metadata = metadata
        self._frame = frame

    @property
    def frame(self) -> pd.DataFrame:
        """All columns, read from the cache once where that is their origin."""
        if not isinstance(self._frame, pd.DataFrame):
            self._frame = self._frame(None)
        return self._frame

    def columns(self, names: Sequence[str]) -> pd.DataFrame:
        """Returns the named columns; of a cached dataset no other is read.

        Raises:
            KeyError: If there is no such column.
        """
        if isinstance(self._frame, pd.DataFrame):
            return self._frame[list(names)]
        return self._frame(names)

    @property
    def feature_names(self) -> tuple[str, ...]:
        """Names of the feature columns, in file order."""
        if not isinstance(self._frame, pd.DataFrame) and "features" in self.metadata:
            return tuple(self.metadata["features"])
        return tuple(n for n in self.frame.columns if n not in NOT_FEATURES)

    @property
    def features(self) -> pd.DataFrame:
        """The feature columns, unscaled, `(num_rows, num_features)`."""
        return self.columns(self.feature_names)

    @property
    def timestamps(self) -> pd.Series:
        """Open of each bar, UTC, `(num_rows,)`."""
        return self.columns(["timestamp"])["timestamp"]

    @property
    def target(self) -> np.ndarray:
        """Class ids int8 (`signal`, `direction`) or float64 numbers, `(num_rows,)`.

        Raises:
            DataError: If the rows have none.
        """
        if isinstance(self._frame, pd.DataFrame):
            frame = self._frame
        else:
            is_class = self.metadata["parameters"]["target"] in CLASS_TARGETS
            frame = self.columns(["label" if is_class else "target"])
        if "target" in frame:
            return frame["target"].to_numpy(np.float64)
        if (ids := label_ids(frame)) is not None:
            return ids.astype(np.int8)
        raise DataError(
            "expected a column 'label', label_0 to label_2, or 'target'. "
            f"Received: {', '.join(frame.columns)}. {LABEL_CURE}"
        )

    @property
    def timeframe(self) -> str | None:
        """Length of a bar; None where nothing says it and the rows do not show it."""
        stated = self.metadata.get("parameters", {}).get("timeframe")
        if stated or len(self.frame) < 2:
            return stated
        steps = np.diff(nanoseconds_of(self.timestamps))
        # Repeated and unordered rows are a finding of their own.
        smallest = min(steps[steps > 0].tolist(), default=0)
        minutes, rest = divmod(smallest, 60 * SECOND)
        return utils.format_duration(60 * minutes) if minutes and not rest else None


def read_dataset(path: str | os.PathLike[str]) -> Dataset:
    """Reads a training file of any origin, with its sidecar where there is one.

    Raises:
        MissingInputError: If there is no file.
        DataError: If it is damaged, unsafe, or has no times.
    """
    path = Path(path)
    with folder_lock(path.parent, is_shared=True):
        columns = training_file.open_training_file(path)
        sidecar = read_sidecar(path, digest=columns.digest)
    metadata = dict(sidecar or {})
    with training_file.naming_the_file(path):
        times = training_file.read_times(columns)
        names, left_out = feature_columns(columns)
    frame = {"timestamp": pd.Series(pd.to_datetime(times, utc=True))}
    for name in columns.names:
        if name in names or name in NOT_FEATURES - {"timestamp"}:
            frame[name] = columns.read(name).to_pandas()
    if noted := {why: found for why, found in left_out.items() if why != BESIDE}:
        metadata["left_out"] = noted
    if "label" in frame:
        with training_file.naming_the_file(path):
            _map_labels(frame, columns)
    named = file_names.parse_training_filename(path.name)
    if named is not None:
        metadata.setdefault(
            "parameters", {key: named[key] for key in ("pair", "timeframe")}
        )
    return Dataset(frame=pd.DataFrame(frame), metadata=metadata)


def _map_labels(frame: dict[str, pd.Series], columns: Columns) -> None:
    """Puts class ids in the place of words, signs and empty cells, as a run reads them.

    Numbers that are no classes stay, for `find_problems` to name.
    """
    is_target = np.ones(len(frame["label"]), bool)
    if "is_target" in frame:
        is_target = frame["is_target"].to_numpy(bool)
    try:
        classes = label_classes(columns, ~is_target)
    except DataError:
        if frame["label"].dtype.kind not in "iuf":
            raise
        return
    lacks = np.isnan(classes)
    frame["label"] = pd.Series(np.where(lacks, HOLD, classes).astype(np.int8))


def label_ids(frame: pd.DataFrame) -> np.ndarray | None:
    """Returns the (num_rows,) class ids of `label` or one-hot columns; None without."""
    if "label" in frame:
        return frame["label"].to_numpy()
    if all(name in frame for name in ONE_HOT):
        return frame[list(ONE_HOT)].to_numpy().argmax(axis=1)
    return None


# Statistics


def describe_frame(frame: pd.DataFrame) -> dict[str, Any]:
    """Returns counts, range, label mix in all and by month, feature statistics."""
    names = [name for name in frame.columns if name not in NOT_FEATURES]
    count = len(frame)
    result: dict[str, Any] = {
        "num_rows": count,
        "num_targets": int(frame["is_target"].sum()) if "is_target" in frame else count,
        "first": frame["timestamp"].iloc[0],
        "last": frame["timestamp"].iloc[-1],
    }
    times = nanoseconds_of(frame["timestamp"]).view("datetime64[ns]")
    months = times.astype("datetime64[M]")
    starts = np.flatnonzero(np.diff(months.astype(np.int64), prepend=-(10**6)))
    spans = list(zip(starts, [*starts[1:], count], strict=True))
    labels = label_ids(frame)
    if labels is not None and np.isin(labels, range(len(CLASS_NAMES))).all():
        result["label_shares"] = _shares(labels)
        result["label_mix_by_month"] = {
            str(months[a]): {"rows": int(b - a)} | _shares(labels[a:b])
            for a, b in spans
        }
    if "target" in frame:
        values = frame["target"].to_numpy(np.float64)
        result["target_statistics"] = column_statistics(values)
        result["target_by_month"] = {
            str(months[a]): {"rows": int(b - a)} | column_statistics(values[a:b])
            for a, b in spans
        }
    result["feature_statistics"] = {
        name: column_statistics(frame[name].to_numpy()) for name in names
    }
    return result


def column_statistics(values: np.ndarray) -> dict[str, float]:
    """Returns share of NaN or infinite values, and what the finite ones are like."""
    if values.dtype.kind != "f":
        values = values.astype(np.float64)
    # One sum finds whether anything is not finite, without a mask of all rows.
    with np.errstate(all="ignore"):
        whole = bool(np.isfinite(values.sum(dtype=np.float64)))
    known = values if whole else values[np.isfinite(values)]
    if not len(known):
        return {"null_share": 1.0}
    mean = float(known.mean(dtype=np.float64))
    # Around a value near the mean: float32 squares keep their digits.
    centred = known - known.dtype.type(mean)
    shift = float(centred.mean(dtype=np.float64))
    square = float(np.einsum("i,i->", centred, centred, dtype=np.float64))
    return {
        "null_share": 1 - len(known) / len(values),
        "min": float(known.min()),
        "max": float(known.max()),
        "mean": mean,
        "std": max(0.0, square / len(known) - shift**2) ** 0.5,
    }


def _shares(labels: np.ndarray) -> dict[str, float]:
    counts = np.bincount(labels.astype(np.int64), minlength=len(CLASS_NAMES))
    shares = counts / max(1, len(labels))
    return dict(zip(CLASS_NAMES, shares.tolist(), strict=True))


# Validation


def find_problems(dataset: Dataset) -> list[str]:
    """Returns one line for everything that is wrong or doubtful; empty for a good one.

    Reported together: times, features, label or target, outcomes, segments, and
    whether the metadata speak of these rows.
    """
    frame = dataset.frame
    if "timestamp" not in frame or not len(frame):
        return ["timestamp: expected a column with rows. Received: none"]
    problems = _time_problems(dataset)
    for name in dataset.feature_names:
        problems += _feature_problems(name, frame[name])
    if not dataset.feature_names:
        problems.append("features: expected columns beside time and label. None")
    problems += _label_problems(dataset) + _outcome_problems(frame)
    stated = dataset.metadata
    problems += training_file.other_label_rule(stated)
    if "left_out" in stated:
        problems.append(describe_left_out(stated["left_out"]))
    if stated.get("num_rows", len(frame)) != len(frame):
        problems.append(
            f"metadata: expected {stated['num_rows']} rows. Received: {len(frame)}"
        )
    if list(stated.get("features", dataset.feature_names)) != [*dataset.feature_names]:
        problems.append(
            f"metadata: expected the features {', '.join(stated['features'])}. "
            f"Received: {', '.join(dataset.feature_names)}"
        )
    if len(frame) < MIN_ROWS:
        problems.append(f"rows: expected at least {MIN_ROWS}. Received: {len(frame)}")
    return problems


def _time_problems(dataset: Dataset) -> list[str]:
    frame, problems = dataset.frame, []
    times = nanoseconds_of(frame["timestamp"])
    late = np.flatnonzero(np.diff(times) <= 0) + 1
    if len(late):
        problems.append(
            f"timestamp: expected strictly increasing times. Received: {_rows(late)}"
        )
    if dataset.timeframe is None:
        return [*problems, "timestamp: expected bars of whole minutes"]
    # Bars are judged in time order; those beside a late row were told with it.
    order = np.argsort(times, kind="stable")
    steps, rows = np.diff(times[order]), order[1:]
    usable = ~np.isin(rows, [*(late - 1), *late, *(late + 1)])
    bar = utils.duration_seconds(dataset.timeframe) * 10**9
    wrong = rows[usable & (steps % bar != 0)]
    if len(wrong):
        problems.append(
            f"timestamp: expected bars of {dataset.timeframe}. "
            f"Received others: {_rows(wrong)}"
        )
    if "segment" in frame:
        same = np.diff(frame["segment"].to_numpy()[order]) == 0
        wrong = rows[usable & same & (steps != bar)]
        if len(wrong):
            problems.append(
                f"segment: expected no gap inside one. Received: {_rows(wrong)}"
            )
    return problems


def _feature_problems(name: str, column: pd.Series) -> list[str]:
    if column.dtype.kind not in "fiub":
        return [f"{name}: expected numbers. Received: {column.dtype}"]
    values = column.to_numpy()
    facts = column_statistics(values)
    if facts["null_share"]:
        bad = np.flatnonzero(~np.isfinite(values))
        return [f"{name}: expected finite numbers. Received: {_rows(bad)}"]
    # A ratio near 1 that never moves is as constant as a change that is always 0.
    if facts["std"] < _CONSTANT_STD * max(1.0, abs(facts["mean"])):
        return [f"{name}: expected values that differ. Received: {facts['mean']:g}"]
    return []


def _label_problems(dataset: Dataset) -> list[str]:
    frame = dataset.frame
    problems = []
    if "is_target" in frame and not frame["is_target"].any():
        problems.append("is_target: expected rows that are targets. Received: none")
    if "target" in frame:
        bad = np.flatnonzero(~np.isfinite(dataset.target))
        if len(bad):
            problems.append(f"target: expected finite numbers. Received: {_rows(bad)}")
        return problems
    labels = label_ids(frame)
    if labels is None:
        return [*problems, "label: expected a column 'label', or label_0 to label_2"]
    bad = np.flatnonzero(~np.isin(labels, range(len(CLASS_NAMES))))
    if len(bad):
        problems.append(
            f"label: expected 0 (SHORT), 1 (HOLD), 2 (LONG). Received others: "
            f"{_rows(bad)}"
        )
    # A direction without a dead zone has HOLD only where the price stood still.
    target = dataset.metadata.get("parameters", {}).get("target")
    needed = (0, 2) if target == "direction" else (0, 1, 2)
    absent = [CLASS_NAMES[k] for k in needed if not (labels == k).any()]
    if absent:
        problems.append(f"label: expected every class. Missing: {', '.join(absent)}")
    return problems


def _outcome_problems(frame: pd.DataFrame) -> list[str]:
    problems = []
    for name in ("close", "long_return", "short_return"):
        if name in frame:
            values = frame[name].to_numpy(np.float64)
            least = 0 if name == "close" else -np.inf
            bad = np.flatnonzero(~(np.isfinite(values) & (values > least)))
            if len(bad):
                problems.append(
                    f"{name}: expected finite values. Received: {_rows(bad)}"
                )
    for name in ("label_end", "long_exit_bars", "short_exit_bars"):
        if name in frame:
            bad = np.flatnonzero(frame[name].to_numpy() < 1)
            if len(bad):
                problems.append(f"{name}: expected at least 1 bar. {_rows(bad)}")
    return problems


def _rows(rows: np.ndarray) -> str:
    more = ", ..." if len(rows) > 3 else ""
    count = utils.counted(len(rows), "row", "rows")
    return f"{count} ({', '.join(map(str, rows[:3].tolist()))}{more})"
