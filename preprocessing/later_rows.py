"""Rows that a finished model is judged on later: scaled as its own, none learned from.

In: what its training learned and where in time it looked, which rows share bars with
that. Out: reading and checking rows (`data_loader`), judging (`evaluation`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from config import Config
from dataset.training_file import Rows
from preprocessing.parts import Timeline
from preprocessing.pipelines import PreprocessingPipeline
from preprocessing.scaling import TargetScaler
from preprocessing.targets import segment_starts_of, window_fits
from preprocessing.training_data import Part, TrainingData
from utils import DataError

_NOTHING = Part(spans=((0, 0),), targets=np.empty(0, np.int32))


@dataclass(frozen=True, kw_only=True)
class LearnedPart:
    """Where a part of a finished run lay.

    Args:
        start: First row, in the rows that were used.
        num_rows: Rows.
        num_targets: Targets among them.
        first: Time of the first target, UTC.
        last: Time of the last one.
    """

    start: int
    num_rows: int
    num_targets: int
    first: np.datetime64
    last: np.datetime64

    @classmethod
    def of(cls, described: Mapping[str, Any]) -> LearnedPart:
        """Takes what the metadata of a run say under `split`."""
        first, last = (
            np.datetime64(described[end].removesuffix("Z"), "ns")
            for end in ("first", "last")
        )
        start, num_rows, num_targets = (
            int(described[name]) for name in ("first_row", "rows", "targets")
        )
        return cls(
            start=start,
            num_rows=num_rows,
            num_targets=num_targets,
            first=first,
            last=last,
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class Learned:
    """What a finished run learned, and from where.

    Args:
        pipeline: What features go through.
        target_scaler: Units of a number; None for classes.
        class_prior: (3,) class shares of the training part; (0,) for numbers.
        parts: `train`, `validation`, `test`.
        first_validation_row: Row of the first target of the validation part.
    """

    pipeline: PreprocessingPipeline
    target_scaler: TargetScaler | None
    class_prior: np.ndarray
    parts: Mapping[str, LearnedPart]
    first_validation_row: int


def usable_rows(rows: Rows, config: Config) -> np.ndarray:
    """Returns which rows have a known outcome and a whole window (num_rows,)."""
    starts = segment_starts_of(rows.segment_ids)
    fits = window_fits(starts, len(rows.timestamps), config.sequence_length)
    return rows.is_target & fits


def share_bars(times: np.ndarray, part: LearnedPart, config: Config) -> np.ndarray:
    """Returns which samples share a bar with a part, by their times (num_rows,).

    A sample is the bars of its window and of its label, whose fixed horizon counts.
    What lies between the first and the last target of the part counts as the part's.

    Args:
        times: Opens of the samples' rows (num_rows,), datetime64[ns].
        part: The part.
        config: Window, horizon, and the length of a bar.
    """
    bars = config.sequence_length + config.future_window - 1
    reach = bars * np.timedelta64(config.bar_seconds, "s")
    return (times >= part.first - reach) & (times <= part.last + reach)


def by_name(rows: Rows, names: tuple[str, ...]) -> np.ndarray:
    """Returns the features (num_rows, num_features) of the given names, in order.

    Raises:
        DataError: If one is missing.
    """
    missing = [name for name in names if name not in rows.feature_names]
    if missing:
        raise DataError(
            f"expected the model's features {', '.join(names)}. Received: no "
            f"{', '.join(missing)} among {', '.join(rows.feature_names)}. Build the "
            "file with the features of the model's training file."
        )
    if rows.feature_names == names:
        return rows.features
    return rows.features[:, [rows.feature_names.index(name) for name in names]]


def later_data(
    rows: Rows, learned: Learned, config: Config, targets: np.ndarray
) -> TrainingData:
    """Returns data whose part `test` are the given targets.

    Where the rows hold the model's own training and validation part bit for bit, and no
    target shares a bar with them, these are there, too: what is trained for comparison
    is then what the run compared with. Elsewhere `train` is empty.

    Args:
        rows: Checked rows.
        learned: What the run learned.
        config: The run.
        targets: Row numbers (num_targets,), int32, ascending, out of `usable_rows`.
    """
    features = by_name(rows, learned.pipeline.feature_names)
    known: dict[str, Part] = {}
    times = rows.timestamps[targets]
    used = [learned.parts[name] for name in ("train", "validation")]
    if not any(share_bars(times, part, config).any() for part in used):
        known = _own_parts(rows, features, learned, config)
    first = max(0, int(targets[0]) - config.sequence_length + 1)
    test = Part(spans=((first, int(targets[-1]) + 1),), targets=targets)
    values = None
    if learned.target_scaler is not None and rows.log_returns is not None:
        values = learned.target_scaler.transform(rows.log_returns)
    train = known.get("train", _NOTHING)
    return TrainingData(
        features=learned.pipeline.scaled(features),
        labels=rows.labels,
        timeline=Timeline.from_array(rows.timestamps, bar_seconds=config.bar_seconds),
        outcomes=rows.outcomes,
        parts={"train": train, **known, "test": test},
        train_targets=train.targets,
        class_weights=None,
        class_odds=None,
        class_prior=learned.class_prior,
        pipeline=learned.pipeline,
        window_bars=config.sequence_length,
        future_window=config.future_window,
        source=rows.source | {"rows_used": len(features)},
        values=values,
        target_scaler=learned.target_scaler,
        target=config.target,
    )


def _own_parts(
    rows: Rows, features: np.ndarray, learned: Learned, config: Config
) -> dict[str, Part]:
    """Returns the model's training and validation part; nothing where they differ."""
    times, usable = rows.timestamps, usable_rows(rows, config)
    begun = int(np.searchsorted(times, learned.parts["validation"].first))
    offset, found = begun - learned.first_validation_row, {}
    for name in ("train", "validation"):
        part = learned.parts[name]
        start, stop = part.start + offset, part.start + part.num_rows + offset
        if start < 0 or stop > len(times):
            return {}
        inside = slice(start + config.sequence_length - 1, stop - config.future_window)
        row = np.arange(len(times), dtype=np.int32)[inside]
        targets = row[usable[inside]]
        ends = [times[k] for k in targets[[0, -1]]] if len(targets) else []
        if len(targets) != part.num_targets or ends != [part.first, part.last]:
            return {}
        found[name] = Part(spans=((start, stop),), targets=targets)
    again = learned.pipeline.fit(found["train"].take(features))
    return found if again == learned.pipeline else {}
