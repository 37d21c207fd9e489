"""Finished models, and the rows that they may be judged on.

In: reading candles or a training file as a model's own run did, the rows that several
models have in common, refusing those that are no later data. Out: which rows are the
model's own past (`preprocessing.later_rows`), judging (`evaluations`).
"""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from artifacts import run_folder
from artifacts.artifact import Artifact, load_artifact
from artifacts.evaluations import RowCounts
from artifacts.manifest import refuse_broken
from artifacts.publication import followed
from artifacts.registry import names_registered
from candles.sources import CandleSource
from config import Config
from data_loader import STATED_FACTS, TrainingDataLoader
from dataset.builder import DatasetBuilder
from dataset.columns import has_labels
from dataset.training_file import Rows, open_training_file
from evaluation.policies import ReturnPolicy
from files import tables
from predictor import Predictor
from preprocessing.later_rows import (
    Learned,
    LearnedPart,
    by_name,
    share_bars,
    usable_rows,
)
from reports import report
from utils import ConfigError, DataError

IN_SAMPLE = "IN SAMPLE"
"""What stands before every line about rows that a model was trained or chosen on."""

QUESTION = (
    *("pair", "timeframe", "target", "future_window", "accept_jumps", "tie_policy"),
    *("long_tp_pct", "long_sl_pct", "short_tp_pct", "short_sl_pct", "dead_zone_pct"),
)
"""Fields of `Config` in which models that are compared must agree."""

TEST_ROWS = (
    *("start_date", "end_date", "train_end", "validation_end", "test_split"),
    *("embargo_bars", "sequence_length"),
)
"""Fields that decide which rows of a file are its test part."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Candidate:
    """A finished model, and the rows that it could be judged on.

    Args:
        predictor: The opened model.
        results: Of its own report.
        config: Of its run, with what is in force here.
        rows: Checked rows.
        learned: What its training learned, and from where.
    """

    predictor: Predictor
    results: Mapping[str, Any]
    config: Config
    rows: Rows
    learned: Learned

    @functools.cached_property
    def is_usable(self) -> np.ndarray:
        """Which rows have a known outcome and a whole window (num_rows,)."""
        return usable_rows(self.rows, self.config)

    def count(self, times: np.ndarray) -> RowCounts:
        """Returns how many samples at the given times are no later data."""
        parts = self.learned.parts
        shared = {
            name: share_bars(times, part, self.config) for name, part in parts.items()
        }
        seen = shared["train"] | shared["validation"]
        return RowCounts(
            evaluated=len(times),
            in_sample=int(seen.sum()),
            shared_with_train=int(shared["train"].sum()),
            shared_with_validation=int(shared["validation"].sum()),
            shared_with_test=int(shared["test"].sum()),
            before_training=int(np.count_nonzero(times < parts["train"].first)),
        )

    def first_later(self, names: Sequence[str]) -> np.datetime64:
        """Returns the first time whose sample shares no bar with parts of its run."""
        bars = self.config.sequence_length + self.config.future_window
        bar = np.timedelta64(self.config.bar_seconds, "s")
        return max(self.learned.parts[name].last for name in names) + bars * bar


def is_model(path: str) -> bool:
    """Whether a path leads to a published artifact, or to what names one."""
    if names_registered(path):
        return True
    return (followed(Path(path)) / run_folder.MANIFEST).is_file()


def require_one_question(models: Sequence[tuple[str, Config]]) -> None:
    """Refuses models, (name, run) each, whose answers are about different things."""
    names = [name for name, _ in models]
    wrong = differences(models, QUESTION)
    wrong += [f"model: {each} twice" for each in {*names} if names.count(each) > 1]
    if wrong:
        lines = "".join(f"\n  - {line}" for line in wrong)
        raise ConfigError(
            f"expected models that answer the same question. Received:{lines}\n"
            "Evaluate them one by one."
        )


def differences(
    models: Sequence[tuple[str, Config]], fields: Sequence[str]
) -> list[str]:
    """Returns in which fields runs differ from the first one, in words."""
    return [
        f"{field}: {getattr(models[0][1], field)} of {models[0][0]}, "
        f"{getattr(config, field)} of {name}"
        for name, config in models[1:]
        for field in fields
        if getattr(models[0][1], field) != getattr(config, field)
    ]


def open_candidate(
    predictor: Predictor, source: CandleSource, fields: Mapping[str, Any]
) -> Candidate:
    """Reads what a model needs of its report, and the rows that it is judged on."""
    artifact = load_artifact(predictor.path)
    places = predictor.path.parents  # outputs/models/{PAIR}/{model}/{run_id}
    is_usual = len(places) > 3 and places[2].name == "models"
    used: dict[str, Any] = {
        "outputs_dir": str(places[3]) if is_usual else "outputs",
        **dict.fromkeys(("start_date", "end_date", "training_file")),
    }
    config = predictor.config.replace(**used | dict(fields))
    return Candidate(
        predictor=predictor,
        results=artifact.read_listed_json(report.NUMBERS),
        config=config,
        rows=_read_rows(predictor, source, config),
        learned=_learned(predictor, artifact),
    )


def _learned(predictor: Predictor, artifact: Artifact) -> Learned:
    """Returns what the artifact says of its training."""
    said, policy = predictor.metadata, predictor.policy
    with refuse_broken(f"{predictor.path}: expected the metadata of a finished run"):
        head = artifact.open_table("predictions").head(1)
        if head is None or head.column("part")[0].as_py() != "validation":
            raise ValueError("predictions that do not begin with validation")
        names = ("train", "validation", "test")
        return Learned(
            pipeline=predictor.pipeline,
            target_scaler=policy.scaler if isinstance(policy, ReturnPolicy) else None,
            class_prior=np.array(said["data"].get("train_prior", ()), np.float64),
            parts={name: LearnedPart.of(said["split"][name]) for name in names},
            first_validation_row=head.column("row")[0].as_py(),
        )


def _read_rows(predictor: Predictor, source: CandleSource, config: Config) -> Rows:
    """Returns the checked rows of a training file, or of candles as our builder does.

    Raises:
        DataError: If they are of another market, or lack a feature.
        RefusedArtifactError: If a feature set is not the one of the training.
    """
    if (file := training_file_in(source)) is not None:
        loader = TrainingDataLoader(file, config=config)
        rows = loader.read_rows()
    else:
        predictor.pipeline.require_candles()
        builder = DatasetBuilder(config, use_cache=False)
        built = builder.build_dataset(candles=source)
        rows = TrainingDataLoader.from_frame(built.frame, config=config).read_rows()
        given = [source] if isinstance(source, str | os.PathLike) else source
        names = None if isinstance(source, pd.DataFrame) else given
        rows.source.update(
            path=names and ", ".join(map(str, names)),
            built_by_us=True,
            **{k: v for k, v in built.metadata.items() if k in STATED_FACTS},
        )
    by_name(rows, predictor.feature_names)
    return rows


def training_file_in(source: CandleSource) -> Path | None:
    """Returns the path where one training file is given, not candles."""
    if isinstance(source, Sequence) and not isinstance(source, str):
        source = source[0] if len(source) == 1 else None
    if not isinstance(source, str | os.PathLike):
        return None
    path = Path(source)
    if not path.is_file() or not path.name.endswith(tables.READ_SUFFIXES):
        return None
    try:
        columns = open_training_file(path)
    except DataError:
        return None  # the reader of candles says what is wrong with it
    return path if has_labels(columns.names) else None


def common_times(
    found: Sequence[Candidate], start: str | None, end: str | None
) -> np.ndarray:
    """Returns the times at which every model can be judged (num_rows,)."""
    first, last = _moment(start, "start"), _moment(end, "end")
    times = found[0].rows.timestamps[found[0].is_usable]
    for other in found[1:]:
        times = np.intersect1d(
            times, other.rows.timestamps[other.is_usable], assume_unique=True
        )
    is_inside = np.ones(len(times), bool)
    if first is not None:
        is_inside &= times >= first
    if last is not None:
        is_inside &= times <= last
    if not is_inside.any():
        rows = found[0].rows.timestamps
        raise DataError(
            "expected rows with a whole window and a known outcome from "
            f"{start or 'the start'} to {end or 'the end'}. Received: none; rows are "
            f"from {rows[0]} to {rows[-1]}, and a row needs "
            f"{found[0].config.sequence_length} bars before it and "
            f"{found[0].config.future_window} after it. Choose another stretch, or "
            "give more candles."
        )
    return times[is_inside]


def _moment(text: str | None, name: str) -> np.datetime64 | None:
    """Returns a moment, UTC; the end of a day where it ends something."""
    if text is None:
        return None
    try:
        moment = pd.Timestamp(text)
        if pd.isna(moment) or not re.match(r"\d{4}-\d\d-\d\d", text):
            raise ValueError("no date in front")
    except ValueError as error:
        raise ConfigError(
            f"--{name}: expected a moment such as 2024-07-27 or 2024-07-27T05:59, UTC. "
            f"Received: {text!r:.99}"
        ) from error
    moment = moment.tz_convert("UTC").tz_localize(None) if moment.tzinfo else moment
    if name == "end" and len(text) == len("2024-07-27"):
        moment += pd.Timedelta(1, "D") - pd.Timedelta(1, "ns")
    return moment.to_datetime64()


def refuse_overlap(
    found: Sequence[Candidate], times: np.ndarray, *, allow_overlap: bool
) -> bool:
    """Returns whether training or validation of a model saw some rows, or refuses them.

    Raises:
        DataError: If they did, and that is not allowed.
    """
    wrong = []
    for each in found:
        rows, name = each.count(times), each.predictor.model_id
        seen = [
            f"{rows[f'shared_with_{part}']:,} with its {part} part"  # type: ignore[literal-required]
            for part in ("train", "validation")
            if rows[f"shared_with_{part}"]  # type: ignore[literal-required]
        ]
        if seen:
            wrong.append(
                f"{name}: of {len(times):,} rows share bars {' and '.join(seen)}"
            )
    if wrong and not allow_overlap:
        first = max(each.first_later(("train", "validation")) for each in found)
        later = max(each.first_later(tuple(each.learned.parts)) for each in found)
        lines = "".join(f"\n  - {line}" for line in wrong)
        raise DataError(
            f"expected rows that no model was trained or chosen on. Received:{lines}\n"
            f"Later data begin at --start {_shown(later)}, the models' own test parts "
            f"at --start {_shown(first)}; --allow-overlap judges all rows, {IN_SAMPLE}."
        )
    return bool(wrong)


def not_later(rows: RowCounts) -> list[str]:
    """Returns what to know of rows that were looked at before, or are older."""
    reasons = {
        "shared_with_test": "share bars with the model's own test part: they were "
        "looked at when it was published",
        "before_training": "are older than the model's training, which knew what came "
        "after them",
    }
    return [
        f"{rows[name]:,} of {rows['evaluated']:,} rows {reason}"  # type: ignore[literal-required]
        for name, reason in reasons.items()
        if rows[name]  # type: ignore[literal-required]
    ]


def _shown(moment: np.datetime64) -> str:
    return str(moment.astype("datetime64[s]"))
