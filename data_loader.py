"""Training file -> checked, split, scaled arrays: `TrainingDataLoader`.

In: reading a training file or frame, holding it against the configuration, splitting it
into parts, fitting the scaler on the training rows, choosing the training targets.
Out: what these arrays promise (`preprocessing.training_data`), making features or
labels (`dataset_builder`), cutting windows (`sequence_generator`).
"""

from __future__ import annotations

import logging
import shlex
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import utils
from candles.sources import refuse_candles
from config import DATASET_FIELDS, Config
from dataset import training_file
from dataset.columns import has_labels, name_columns
from dataset.features import find_feature_sets
from dataset.sidecar import read_sidecar, sidecar_path
from files import tables
from files.locks import folder_lock
from preprocessing.balance import class_fields, value_fields
from preprocessing.inheritance import Inherited
from preprocessing.parts import (
    Ranges,
    Timeline,
    fold_ranges,
    require_windows,
)
from preprocessing.pooling import (
    PooledRows,
    member_config,
    pool_rows,
    pooled_ranges,
    require_targets,
    scale_pairs,
)
from preprocessing.sample_weights import sample_weights
from preprocessing.targets import (
    refusal_words,
    segment_starts_of,
    split_targets,
    tell_few_targets,
    tell_silent_features,
)
from preprocessing.templates import run_pipeline
from preprocessing.training_data import PairRows, Part, TrainingData, golden_targets
from preprocessing.windows import cut_windows
from settings import names as file_names
from settings import sources
from settings.data_fields import DataFields, day_after
from utils import ConfigError, DataError

__all__ = ["TrainingData", "TrainingDataLoader"]

logger = logging.getLogger(__name__)

STATED_FACTS = (
    "candles",
    "context",
    "digests",
    "doubts",
    "feature_digests",
    "label_version",
    "num_candles",
    "num_filled_bars",
    "num_segments",
    "timezone",
    "warm_up_bars",
)
"""What the description beside a training file says about the quality of its data."""


class TrainingDataLoader:
    """Reads one training file for one configuration.

    Args:
        path: The training file; None looks for the standard name (config.py).
        pair: Trading pair; None keeps the configuration's.
        config: The run; None means defaults.
        inherited: What models that it builds on leave to it.
        **fields: Configuration fields by name, which win over `config`.

    Example:
        >>> loader = TrainingDataLoader("inputs/mine.feather", "ETHUSDT")
        >>> data = loader.load_training_data()
    """

    def __init__(
        self,
        path: str | Path | None = None,
        pair: str | None = None,
        *,
        config: Config | None = None,
        inherited: Inherited | None = None,
        **fields: Any,
    ) -> None:
        self._inherited = inherited or Inherited()
        explicit = {"training_file": path and str(path), "pair": pair}
        fields |= {key: value for key, value in explicit.items() if value is not None}
        self.config = (config or Config()).replace(**fields)
        self._frame: pd.DataFrame | None = None

    @classmethod
    def from_frame(
        cls,
        frame: pd.DataFrame,
        pair: str | None = None,
        *,
        config: Config | None = None,
        inherited: Inherited | None = None,
        **fields: Any,
    ) -> TrainingDataLoader:
        """Takes a frame with a training file's columns, as a notebook has it.

        A `DatetimeIndex` stands for a missing `timestamp` column.
        """
        loader = cls(None, pair, config=config, inherited=inherited, **fields)
        loader._frame = frame
        return loader

    def load_training_data(
        self,
        ranges: Mapping[str, Any] | None = None,
        *,
        rows: training_file.Rows | None = None,
    ) -> TrainingData:
        """Reads, checks, splits, scales and chooses.

        Args:
            ranges: First row and row after the last of `train`, `validation` and
                `test`, as a fold has them; None splits as configured.
            rows: What `read_rows` returned, which stays as it is; None reads the file.

        Raises:
            MissingInputError: If there is no training file.
            DataError: If the file breaks its contract or is for another run.
        """
        data = self._prepare(ranges, rows)
        utils.return_freed_memory()
        return data

    def _prepare(
        self,
        ranges: Mapping[str, Any] | None,
        given: training_file.Rows | None,
    ) -> TrainingData:
        config = self.config
        rows = given or self.read_rows()
        pool = rows if isinstance(rows, PooledRows) else None
        kept = slice(0, len(rows.timestamps))  # of pools, cut where they were joined
        if pool is None:
            kept = used_rows(rows.timestamps, config)
        features = rows.features[kept]
        timeline = Timeline.from_array(
            rows.timestamps[kept],
            bar_seconds=config.bar_seconds,
            cuts=[start for start, _ in pool.stretches.values()] if pool else (),
        )
        parts = self._parts(rows, kept, timeline, ranges)
        if ranges is None:  # of folds it would be said again and again
            tell_silent_features(parts["train"].take(features), rows.feature_names)
        pipeline = run_pipeline(config, rows.feature_names, rows.source)
        pipeline = self._inherited.fitted(pipeline, parts["train"].take(features))
        train, width = parts["train"].targets, config.sequence_length
        golden = cut_windows(features, golden_targets(parts), window_bars=width)
        outcomes = {name: column[kept] for name, column in rows.outcomes.items()}
        weigh = partial(
            sample_weights, timeline=timeline, outcomes=outcomes, config=config
        )
        if rows.log_returns is None:
            learned = class_fields(rows.labels[kept], train, config, weigh)
        else:
            learned = value_fields(rows.log_returns[kept], train, weigh)
        pairs: tuple[PairRows, ...] = ()
        if pool is None:
            features = pipeline.scaled(features, may_overwrite=given is None)
        else:
            features = features if given is None else features.copy()
            features, pairs = scale_pairs(pool, features, parts["train"], config)
        return TrainingData(
            features=features,
            pairs=pairs,
            timeline=timeline,
            outcomes=outcomes,
            parts=parts,
            pipeline=pipeline,
            window_bars=config.sequence_length,
            future_window=config.future_window,
            source=rows.source | {"rows_used": len(features)} | self._inherited.source,
            target=config.target,
            golden_windows=golden,
            **learned,
        )

    def _parts(
        self,
        rows: training_file.Rows,
        kept: slice,
        timeline: Timeline,
        ranges: Mapping[str, Any] | None,
    ) -> dict[str, Part]:
        """Gives each part of the rows that are used its targets."""
        config, is_whole_run = self.config, ranges is None
        breaks, eligible = (
            segment_starts_of(rows.segment_ids[kept]),
            rows.is_target[kept],
        )
        pool = rows if isinstance(rows, PooledRows) else None
        # What follows the file's last row is in no part; a date cut has rows behind it.
        ends = [len(eligible)] if kept.stop == len(rows.timestamps) else []
        if pool is not None:
            ranges, ends = pooled_ranges(pool, timeline, config), [*pool.open_ends]
        elif ranges is None:
            ranges = self._inherited.rows_left(timeline, config)
        try:
            parts = split_targets(ranges, breaks, eligible, config, open_ends=ends)
            if pool is not None:
                require_targets(pool, parts)
        except DataError as error:
            text = refusal_words(error, ranges, rows.source, config)
            raise DataError(text) from error
        if is_whole_run:
            tell_few_targets(breaks, eligible, config.sequence_length)
        return parts

    def load_with_folds(
        self,
    ) -> tuple[TrainingData, list[Ranges], training_file.Rows | None]:
        """Loads the data of a run, its folds, and the rows that these are cut from.

        Raises:
            MissingInputError: If there is no training file.
            DataError: As `load_training_data`, or if a fold has no room for a window.
        """
        rows = self.read_rows() if self.config.has_folds else None
        data = self.load_training_data(rows=rows)
        folds = fold_ranges(data.timeline, self.config)
        require_windows(folds, self.config)
        return data, folds, rows

    def read_rows(self) -> training_file.Rows:
        """Reads and checks the rows of the file, as they stand there.

        Raises:
            MissingInputError: If there is no training file.
            DataError: If the file breaks its contract or is for another run.
        """
        config = self.config
        if config.pooled_pairs:
            return self._read_pool()
        if self._frame is not None:
            columns = name_columns(tables.from_pandas(self._frame))
            if not has_labels(columns.names):
                _refuse_candles(self._frame, config)
            source: dict[str, Any] = {"path": None, "sha256": None}
        else:
            path = file_names.find_training_file(config)
            if path is None:
                find_feature_sets(config.feature_sets)  # one that is built at all
                raise utils.MissingInputError(_missing_message(config))
            columns, source = _open_checked(path, config)
        rows = training_file.read_rows(
            columns,
            bar_seconds=config.bar_seconds,
            future_window=config.future_window,
            source=source,
            target=config.target,
            window_bars=config.sequence_length,
            pair=config.pair,
        )
        kinds = {name: columns.kind(name) for name in rows.feature_names}
        types = {k: np.dtype(v.to_pandas_dtype()).name for k, v in kinds.items()}
        if others := {k: v for k, v in types.items() if v != "float32"}:
            rows.source["feature_types"] = others
        return rows

    def _read_pool(self) -> PooledRows:
        """Reads the file of each pair."""
        if self._frame is not None:
            raise ConfigError(
                "pooled_pairs: expected training files. Received: a DataFrame. Write "
                "one for each pair, and name them by training_file with {pair}."
            )
        config = self.config
        runs = {pair: member_config(config, pair) for pair in config.pooled_pairs}
        found = {
            pair: TrainingDataLoader(config=run).read_rows()
            for pair, run in runs.items()
        }
        return pool_rows(found, lambda times: used_rows(times, config))


def _open_checked(path: Path, config: Config) -> tuple[tables.Columns, dict[str, Any]]:
    """Opens a training file whose name and description are those of this run."""
    with folder_lock(path.parent, is_shared=True):
        try:
            columns = training_file.open_training_file(path)
        except DataError:
            _refuse_candles(path, config)
            raise
        if not has_labels(columns.names):
            _refuse_candles(path, config)
        description = read_sidecar(path, digest=columns.digest)
    stated = description or {}
    built_with = stated.get("parameters", {})
    problems = [
        f"{name}: the configuration says {getattr(config, name)}, "
        f"{sidecar_path(path).name} says {built_with[name]}"
        for name in ("pair", "timeframe", *DATASET_FIELDS)
        if name in built_with and built_with[name] != getattr(config, name)
    ]
    # The name says the same again, in fewer words.
    if problems := problems or file_names.filename_mismatches(path.name, config):
        lines = "\n".join(f"  - {problem}" for problem in problems)
        raise DataError(
            f"{path}: the file was made for another run:\n{lines}\n"
            "Change the configuration, or build the file for it."
        )
    for note in training_file.other_label_rule(stated):
        logger.warning("%s: %s", path.name, note)
    source = {
        "path": str(path),
        "sha256": stated.get("sha256", columns.digest),
        "built_by_us": description is not None,
    }
    return columns, source | {
        name: stated[name] for name in STATED_FACTS if name in stated
    }


def _refuse_candles(source: Path | pd.DataFrame, config: Config) -> None:
    """Says what to do with candles that are given in the place of a training file."""
    cure = "dataset.builder.build_training_frame(candles, config)"
    if isinstance(source, Path):
        names = ("timeframe", "inputs_dir", *DATASET_FIELDS)
        flags = sources.command_flags(config, names)
        given = [shlex.quote(str(source)), "--pair", config.pair, *flags]
        cure = f"python dataset_builder.py {' '.join(given)}"
    cure = f"Build a training file from them, and train on that one: {cure}"
    refuse_candles(source, cure)


def _missing_message(config: Config) -> str:
    expected = config.expected_path
    folder = expected.parent
    there = sorted(folder.iterdir()) if folder.is_dir() else []
    files = [path.name for path in there if path.is_file()]
    fitting = [name for name in files if name.endswith(tables.READ_SUFFIXES)][:20]
    listing = "\n".join(f"    {name}" for name in fitting) or "    (no training file)"
    names = ("timeframe", "inputs_dir", "training_file", "start_date", "end_date")
    flags = sources.command_flags(config, (*names, *DATASET_FIELDS))
    command = " ".join(["--pair", config.pair, *flags])
    cut = ""
    for name in files if config.training_file is None else ():
        days = file_names.stated_days(name).items()
        if days and not file_names.filename_mismatches(name, config):
            flags = [f"--{field.replace('_', '-')} {day}" for field, day in days]
            cut = f"\n  to take {name}: {' '.join(flags)}"
    return (
        f"no training file.\n  expected: {expected}\n"
        f"  there is, in {folder}:\n{listing}"
        f"\n  to build it: python dataset_builder.py CANDLES {command}"
        f"{cut}"
    )


def used_rows(timestamps: np.ndarray, config: DataFields) -> slice:
    """Returns the rows from the start day to the end of the end day, UTC.

    Raises:
        DataError: If there are none.
    """
    first, last = 0, len(timestamps)
    if config.start_date is not None:
        first = int(np.searchsorted(timestamps, np.datetime64(config.start_date, "ns")))
    if config.end_date is not None:
        after = np.datetime64(day_after(config.end_date), "ns")
        last = int(np.searchsorted(timestamps, after))
    if first >= last:
        span = f"{timestamps[0]} to {timestamps[-1]}"
        first_day, last_day = config.start_date or "the start", config.end_date
        raise DataError(
            f"expected rows from {first_day} to {last_day or 'the end'}. "
            f"Received: a file from {span}. Change start_date or end_date."
        )
    return slice(first, last)
