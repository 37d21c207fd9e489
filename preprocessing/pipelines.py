"""`PreprocessingPipeline`: the steps from candles to what a model reads, as data.

In: the order of steps, fitting them, running them, their strict-JSON form. Out: one
step (`steps`), what its kind does (`candle_kinds`, `row_kinds`), versions of pipelines
(`artifacts.model_registry`).
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Self, cast

import numpy as np
import pandas as pd

from candles.table import longest_fill
from candles.timestamps import timeframe_nanoseconds
from config import Config
from dataset import blocks
from files.strict import to_jsonable
from preprocessing.candle_kinds import ComputeFeatures, vars_of
from preprocessing.row_kinds import FeatureRows
from preprocessing.scaling import FeatureScaler
from preprocessing.schemas import Schema, compatibility_hash
from preprocessing.steps import BUILT_IN, CANDLE_STEPS, Step
from utils import ConfigError, DataError, RefusedArtifactError

logger = logging.getLogger(__name__)

FORMAT = 1
_MOST_NOTES = 20
_STAGES = ("candles", "rows", "windows")


class PreprocessingPipeline:
    """Steps from candles, or from rows of features, to what a model reads.

    The rows of a training file are what stands between `compute_features` and the
    steps behind it: training enters there, a prediction at the first step.

    Args:
        steps: In order: those on candles, or none of them, on rows, on windows.
        input_schema: Columns that the first step takes; None takes those of candles.

    Attributes:
        notes: What was unusual about tables that were transformed, a line each.

    Raises:
        ConfigError: If the steps stand in another order.

    Example:
        >>> pipeline = PreprocessingPipeline(steps_of("cnn_lstm", config)).fit(candles)
        >>> rows = pipeline.transform(newer_candles)
        >>> windows = rows.windows(rows.ok_rows)
    """

    def __init__(
        self, steps: Sequence[Step], *, input_schema: Schema | None = None
    ) -> None:
        self.steps = tuple(steps)
        self.notes: list[str] = []
        stages = [_STAGES.index(step.reads) for step in self.steps]
        kinds = [step.kind for step in self.steps]
        candle_kinds = kinds[: stages.count(0)]
        wanted = list(CANDLE_STEPS) if candle_kinds else []
        ends = kinds[len(kinds) - stages.count(2) :]
        if (
            stages != sorted(stages)
            or candle_kinds != wanted
            or ends != ["windows", "final_check"]
            or len({step.name for step in self.steps}) < len(kinds)
        ):
            raise ConfigError(
                f"expected the steps {', '.join(CANDLE_STEPS)} or none of these, then "
                "steps on rows, then windows and final_check, each name once. "
                f"Received: {', '.join(kinds)}."
            )
        if input_schema is None:
            timeframe = self.step("validate_data").parameters["timeframe"]
            input_schema = Schema.of_candles(timeframe)
        self.input_schema = input_schema

    # What it is

    def step(self, kind: str) -> Step:
        """Returns the first step of a kind; ConfigError where there is none."""
        for step in self.steps:
            if step.kind == kind:
                return step
        raise ConfigError(f"expected a step {kind!r}. Received: none in the pipeline.")

    @property
    def takes_candles(self) -> bool:
        """Whether it begins with candles; else with rows of features."""
        return self.steps[0].kind == CANDLE_STEPS[0]

    @functools.cached_property
    def feature_schema(self) -> Schema:
        """Columns of a training file's features, which the steps on rows take."""
        if not self.takes_candles:
            return self.input_schema
        state, timeframe = self.step("compute_features").state, self.timeframe
        names = self._compute.feature_names if state is None else state["feature_names"]
        return Schema.of_features(names, timeframe, types={})

    @property
    def output_schema(self) -> Schema:
        """What a model reads."""
        names = (self.step("final_check").state or {})["feature_names"]
        given = Schema.of_features(names, self.timeframe, types={}, has_nulls=False)
        return replace(given, window_bars=self.window_bars)

    @property
    def compatibility_hash(self) -> str:
        """Equal to that of every pipeline with the same columns on both ends."""
        return compatibility_hash(self.input_schema, self.output_schema)

    @property
    def feature_names(self) -> tuple[str, ...]:
        """Names of a training file's features, in order."""
        return self.feature_schema.names

    @property
    def timeframe(self) -> str:
        """Length of a bar."""
        return self.input_schema.timeframe

    @property
    def window_bars(self) -> int:
        """Bars of a window."""
        return int(self.step("windows").parameters["bars"])

    @functools.cached_property
    def scaler(self) -> FeatureScaler:
        """Its steps `scale` and `clip`, in the form of `scaler_{tag}.json`."""
        scale, clip = self.step("scale"), self.step("clip")
        return FeatureScaler.from_dict(
            {
                **(scale.state or {}),
                "kind": scale.parameters["method"],
                "clip_limit": clip.parameters["limit"],
            }
        )

    def with_scaler(self, scaler: FeatureScaler) -> Self:
        """Returns it with a scaler's centers, scales and limit, and its columns."""
        names = list(scaler.feature_names)
        state = {
            "feature_names": names,
            "center": list(scaler.center),
            "scale": list(scaler.scale),
            "num_rows": scaler.num_rows,
        }
        return self._changed(
            scale={"parameters": {"method": scaler.kind}, "state": state},
            clip={"parameters": {"limit": scaler.clip_limit}, "state": {}},
            windows={"state": {}},
            final_check={"state": {"feature_names": names}},
        )

    def for_pair(self, pair: str) -> Self:
        """Returns it for the candles of a pair."""
        market = {"pair": pair, "timeframe": self.timeframe}
        return self._changed(validate_data={"parameters": market})

    def _changed(self, **changes: Any) -> Self:
        return self._with([replace(x, **changes.get(x.kind, {})) for x in self.steps])

    def _with(self, steps: Sequence[Step]) -> Self:
        return type(self)(steps, input_schema=self.input_schema)

    # Fitting and running

    def fit(self, given: pd.DataFrame | np.ndarray) -> Self:
        """Returns it fitted.

        Args:
            given: Training rows alone: candles, or features as a table by name or
                (num_rows, num_features) in the training file's order.

        Raises:
            DataError: If they are not what it takes.
        """
        rows: Any = given
        steps, begin = list(self.steps), 0
        if not (self.takes_candles and isinstance(given, pd.DataFrame)):
            rows, begin = self._rows(given), [x.reads for x in steps].count("candles")
        last = max((k for k, step in enumerate(steps) if step.acting.learns), default=0)
        for k in range(begin, len(steps)):
            steps[k] = steps[k].fitted(rows)
            if k >= last and isinstance(rows, FeatureRows):
                rows = rows.tail(1, 1)  # the others learn nothing but columns
            rows = steps[k].run(rows)
        return self._with(steps)

    def transform(
        self, given: pd.DataFrame | np.ndarray, *, last: int | None = None
    ) -> FeatureRows:
        """Returns what a model reads of candles, or features, and the status of rows.

        Args:
            given: As in `fit`, of any rows.
            last: Bars that are asked for, of candles; None asks for all.

        Raises:
            DataError: If a column is missing, of a type that loses bits, or of another
                timeframe; if there are too few for a window.
            RefusedArtifactError: If features are made otherwise here.
        """
        if self.takes_candles and isinstance(given, pd.DataFrame):
            return self.finish(self.features(given, last=last))
        return self.finish(self._rows(given))

    def finish(self, rows: FeatureRows) -> FeatureRows:
        """Runs the steps behind `compute_features`."""
        return self._run("windows", self._run("rows", rows))

    def scaled(self, values: np.ndarray, *, may_overwrite: bool = False) -> np.ndarray:
        """Runs the steps on rows, on features (num_rows, num_features) float32."""
        rows = FeatureRows(
            names=self.feature_names, values=values, is_own=may_overwrite
        )
        return self._run("rows", rows).values

    def _rows(self, given: pd.DataFrame | np.ndarray) -> FeatureRows:
        schema = self.feature_schema
        if isinstance(given, pd.DataFrame):
            values = schema.take(given)
        else:
            values = schema.read(given)
        return FeatureRows(names=schema.names, values=values)

    def _run(self, stage: str, rows: FeatureRows) -> FeatureRows:
        for step in self.steps:
            if step.reads == stage:
                rows = step.run(rows)
        return rows

    # Candles

    def features(self, table: pd.DataFrame, *, last: int | None = None) -> FeatureRows:
        """Returns the features of candles as they are, not scaled; see `transform`.

        Of the `last` bars only the candles that these need are looked at, so that a
        table of years takes no longer than one of the fewest candles.
        """
        return self.compute(self.checked(table), last=last)

    def compute(self, candles: pd.DataFrame, *, last: int | None = None) -> FeatureRows:
        """Returns the features of a table that `checked` gave; see `features`."""
        tail = candles if last is None else self.tail(candles, last)
        filled = self.step("fill_gaps").run(tail)
        if len(tail) == len(candles) and len(filled) < self.min_candles:
            raise DataError(
                f"expected at least {self.min_candles} candles of {self.timeframe}: "
                f"{self.warm_up_bars} before the first value of "
                f"{'+'.join(self.config.feature_sets)} and a window of "
                f"{self.window_bars}. Received: {len(candles)}."
            )
        return self.describe(filled, last=last)

    def checked(self, table: pd.DataFrame) -> pd.DataFrame:
        """Returns a candle table of the pipeline's market, or refuses another.

        Raises:
            DataError: If it is of another pair or timeframe, unsorted, not good, of
                types that lose bits, or without the columns of context pairs.
        """
        self.require_candles()
        if isinstance(table, pd.DataFrame):
            for note in self.input_schema.look_at_candles(table):
                if note not in self.notes and len(self.notes) < _MOST_NOTES:
                    self.notes.append(note)
                    logger.info("%s", note)
        blocks.require_beside(table, self.config)
        return cast(pd.DataFrame, self.step("validate_data").run(table))

    def require_candles(self) -> None:
        """Refuses a pipeline that cannot make its features of candles here.

        Raises:
            DataError: If its training file did not say how they are made.
            RefusedArtifactError: If they are made otherwise here.
        """
        _ = self._compute

    @functools.cached_property
    def _compute(self) -> ComputeFeatures:
        """The step that computes features, known to make them as in training."""
        if not self.takes_candles:
            raise DataError(
                "expected a model whose training file was built by dataset_builder.py, "
                "which says how its features are made. Received: one of a file, or a "
                "DataFrame, without that description. Compute its features where the "
                "file was made, and give them to predict_window or predict_windows."
            )
        step = self.step("compute_features")
        acting = step.acting
        assert isinstance(acting, ComputeFeatures)  # noqa: S101
        if step.state is not None:
            acting.require_known_sets(step.state)
        return acting

    @functools.cached_property
    def config(self) -> Config:
        """A configuration that makes candles and windows as the steps do."""
        values: dict[str, Any] = {}
        for kind in reversed(CANDLE_STEPS):
            values |= vars_of(self.step(kind).acting)
        return Config(**values, sequence_length=self.window_bars)

    @property
    def warm_up_bars(self) -> int:
        """Bars before the first one that has every feature, wherever candles begin."""
        return self._compute.warm_up_bars

    @property
    def min_candles(self) -> int:
        """Consecutive bars that end at one with a whole window."""
        return self.warm_up_bars + self.window_bars

    def tail(self, candles: pd.DataFrame, last: int = 1) -> pd.DataFrame:
        """Returns the candles that the last bars need, with any gaps in them."""
        config = self.config
        reach = self.min_candles + last - 1
        # One that is missing at the edge is filled from a candle before it.
        reach += longest_fill(config.max_fill_bars, config.timeframe)
        times = candles["timestamp"]
        span = pd.Timedelta(config.bar_seconds, "s") * (reach - 1)
        first = int((times < times.iloc[-1] - span).to_numpy().sum())
        # One more tells a gap, however long, from the first candles there are.
        return candles.iloc[max(0, first - 1) :].reset_index(drop=True)

    def describe(self, filled: pd.DataFrame, *, last: int | None = None) -> FeatureRows:
        """Returns the features of filled bars: of all, or of the last ones' windows."""
        rows: FeatureRows = self.step("compute_features").run(filled)
        return rows.tail(self.window_bars, last)

    # As data

    def __eq__(self, other: object) -> bool:
        """Whether steps, states and columns are the same."""
        if not isinstance(other, PreprocessingPipeline):
            return NotImplemented
        return self.to_dict() == other.to_dict()

    __hash__ = None  # type: ignore[assignment]

    def to_dict(self) -> dict[str, Any]:
        """Returns strict JSON of a fitted pipeline; numbers come back bit for bit."""
        return {
            "format": FORMAT,
            "steps": [to_jsonable(step.to_dict()) for step in self.steps],
            "input_schema": self.input_schema.to_dict(),
            "output_schema": self.output_schema.to_dict(),
            "compatibility_hash": self.compatibility_hash,
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], where: object) -> Self:
        """Restores a pipeline from `to_dict`.

        Raises:
            RefusedArtifactError: If the values are not those of a fitted pipeline, or
                the hash is not that of its columns.
        """
        try:
            if values["format"] != FORMAT:
                raise ValueError(f"format {values['format']!r:.50}")
            schema = Schema.from_dict(values["input_schema"])
            found = cls([Step(**each) for each in values["steps"]], input_schema=schema)
            if any(not isinstance(step.state, dict) for step in found.steps):
                raise ValueError("steps that are not fitted")
            found._try_out()
            if found.to_dict() != values:
                raise ValueError("a hash or columns that are not those of its steps")
        except Exception as error:
            raise RefusedArtifactError(
                f"{where}: expected a preprocessor of format {FORMAT}. "
                f"Received: {error!s:.300}"
            ) from error
        return found

    def _try_out(self) -> None:
        """Raises something where parameters or states do not fit each other."""
        kinds = {step.kind for step in self.steps}
        timeframe_nanoseconds(self.timeframe)
        if self.takes_candles:
            _, state = self.config, self.step("compute_features").state or {}
            timeframes = {self.step(k).parameters["timeframe"] for k in CANDLE_STEPS}
            if timeframes != {self.timeframe} or type(state["digests"]) is not dict:
                raise ValueError("steps of several timeframes, or no digests")
        if {"scale", "clip"} <= kinds:
            _ = self.scaler
        if kinds <= {*BUILT_IN}:  # others may need what is not open yet
            row = np.zeros((self.window_bars, len(self.feature_names)), np.float32)
            self.transform(row)
