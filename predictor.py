"""A published artifact -> probabilities or returns, and signals, for new candles.

In: opening an artifact once and answering fast, for candles or for windows of features.
Out: features of candles (`dataset.newest`), rows of signals (`signals.answers`),
training (`trainer`).
"""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import numpy as np
import pandas as pd

from artifacts.registry import open_model
from config import Config
from dataset.newest import OK, FeatureRecipe, NewestBars
from evaluation.policies import policy_from_dict
from models.families import load_adapter
from preprocessing.windows import chunks, cut_windows
from signals.answers import AnswerRules, moment_of
from signals.stream import SignalStream
from utils import ConfigError, DataError, RefusedArtifactError

_CHUNK_WINDOWS = 2048


class Predictor:
    """Answers with the model, scaler, calibration and thresholds of one artifact.

    A single window of a network goes through a function compiled by XLA, which takes a
    small part of what `model.predict` needs for one; the first call after opening is as
    fast as the others. One predictor serves several threads.

    Args:
        where: A published artifact, such as `outputs/models/ETHUSDT/lstm/latest-1m`, or
            a registered one, `lstm/ETHUSDT-1m-signal@champion` (docs/registry.md).
        expect: What the model must be, such as `{"target": "signal"}`: properties of
            this class, `family`, or fields of its configuration, by name.
        feature_file: Python file that registers feature sets of one's own.
        max_age_days: Days after `trained_until` from which on bars are `stale`.

    Raises:
        MissingInputError: If there is no folder.
        RefusedArtifactError: If a file is not what the manifest says, or the model not
            what is expected.

    Example:
        >>> predictor = Predictor("outputs/models/ETHUSDT/lstm/latest-1m")
        >>> predictor.predict_candles(candles.read_candles("ETHUSDT-1m.parquet"))
    """

    def __init__(
        self,
        where: str | os.PathLike[str],
        *,
        expect: Mapping[str, Any] | None = None,
        feature_file: str | os.PathLike[str] | None = None,
        max_age_days: float | None = None,
    ) -> None:
        artifact = open_model(where)
        self.path = artifact.path
        self.metadata = artifact.metadata
        self.policy = policy_from_dict(artifact.read_json("calibrator"))
        self.scaler = artifact.scaler
        self.adapter = load_adapter(artifact)
        self.window_bars = self.adapter.window_bars
        self.num_features = self.adapter.num_features
        self._artifact = artifact
        self._max_age_days = max_age_days
        if feature_file is not None:
            from audit.feature_files import load_feature_file

            load_feature_file(os.fspath(feature_file))
        self._require(expect or {})
        self.predict_window(np.zeros((self.window_bars, self.num_features), np.float32))

    # What it is

    @functools.cached_property
    def config(self) -> Config:
        """The configuration of the run that trained it."""
        return self._artifact.config

    @property
    def pair(self) -> str:
        """Trading pair."""
        return self.config.pair

    @property
    def timeframe(self) -> str:
        """Length of a bar."""
        return self.config.timeframe

    @property
    def target(self) -> str:
        """What is predicted; see `config.TARGETS`."""
        return self.config.target

    @property
    def family(self) -> str:
        """Model family."""
        return str(self.metadata["model"]["family"])

    @property
    def horizon_bars(self) -> int:
        """Bars after the close of a bar that its answer is about."""
        return self.config.future_window

    @property
    def feature_names(self) -> tuple[str, ...]:
        """Names of the features, in the model's order."""
        return self.scaler.feature_names

    @property
    def min_candles(self) -> int:
        """Consecutive candles that an answer needs: warm-up and window."""
        return self.recipe.min_candles

    @property
    def trained_until(self) -> pd.Timestamp:
        """Open of the last bar that training or choosing looked at.

        That of the last label of the validation part, UTC.
        """
        last = pd.Timestamp(self.metadata["split"]["validation"]["last"])
        bars = pd.Timedelta(self.horizon_bars * self.config.bar_seconds, "s")
        return (last if last.tzinfo else last.tz_localize("UTC")) + bars

    @property
    def model_id(self) -> str:
        """Name of the run that trained it."""
        return str(self.metadata.get("run_id", self.path.name))

    @functools.cached_property
    def recipe(self) -> FeatureRecipe:
        """How its features are made of candles.

        Raises:
            DataError: If its training file does not say.
            RefusedArtifactError: If they cannot be made here as they were then.
        """
        return FeatureRecipe.of(self.metadata["data"], self.config, self.feature_names)

    def _require(self, expected: Mapping[str, Any]) -> None:
        """Refuses another model than the expected one."""
        wrong = []
        for name, value in expected.items():
            is_own = isinstance(getattr(type(self), name, None), property)
            if not is_own and name not in self.config.to_dict():
                raise ConfigError(
                    "expect: expected names such as pair, timeframe, target or "
                    f"horizon_bars. Received: {name!r}"
                )
            found = getattr(self if is_own else self.config, name)
            value = tuple(value) if isinstance(value, list) else value
            if found != value:
                wrong.append(f"{name} {value!r}, found {found!r}")
        if wrong:
            raise RefusedArtifactError(
                f"{self.path}: expected a model of {'; '.join(wrong)}. Open another."
            )

    # Candles

    def predict_candles(
        self, table: pd.DataFrame, *, last: int = 1, now: datetime | str | None = None
    ) -> pd.DataFrame:
        """Returns a row for each of the last bars, in order of time.

        Args:
            table: Candles of the model's pair and timeframe, at least `min_candles`.
            last: Bars that are asked for.
            now: The time, UTC where it states no zone; None asks the clock.

        Returns:
            `timestamp` (open of the bar), `close`, `status`; of classes calibrated
            `p_short`, `p_hold`, `p_long`, of a number `log_return`; `signal` (0 SHORT,
            1 HOLD, 2 LONG), the `threshold` that it reached, `tp_price`, `sl_price`,
            `expires_at`, `size` (fraction of equity), `unlikeness`, `model_id`. Where
            `status` is not `ok` there is no answer: NaN, and HOLD (docs/live.md).

        Raises:
            DataError: If the candles are of another market, unsorted, or too few.
            RefusedArtifactError: If a feature set is not the one of the training.
        """
        if last < 1:
            raise DataError(f"last: expected at least 1 bar. Received: {last}")
        newest = self.recipe.newest(self.recipe.checked(table), last=last)
        return pd.DataFrame(self._columns(newest, now))

    def stream(self, history: pd.DataFrame | None = None) -> SignalStream:
        """Returns what answers to one new bar after another, in a few milliseconds.

        Args:
            history: Candles before the first one; with `min_candles` of them the first
                answer has no need to warm up. None begins cold.

        Raises:
            DataError: If they are not candles of the model's market, in order.
        """
        if history is not None and len(history):
            history = self.recipe.checked(history)
        return SignalStream(self.recipe, self._columns, history)

    def _columns(
        self, newest: NewestBars, now: datetime | str | None
    ) -> dict[str, Any]:
        """Returns the columns of the bars that are asked for."""
        rules = self._rules
        unlikeness = np.full(len(newest.status), np.nan)
        status = rules.status_of(newest, moment_of(now))
        rows = newest.first + np.flatnonzero(status == OK)
        scaled = self.scaler.transform(newest.features)
        outputs = [
            self.adapter.predict_windows(
                cut_windows(scaled, rows[s], window_bars=self.window_bars)
            )
            for s in chunks(len(rows), _CHUNK_WINDOWS)
        ]
        nothing = np.empty((0, 3) if rules.has_classes else 0, np.float32)
        said = np.concatenate(outputs) if outputs else nothing
        return rules.columns(newest, status, said, unlikeness)

    @functools.cached_property
    def _rules(self) -> AnswerRules:
        age, until = self._max_age_days, self.trained_until
        return AnswerRules(
            config=self.config,
            policy=self.policy,
            model_id=self.model_id,
            stale_after=None if age is None else until + pd.Timedelta(age, "D"),
        )

    # Windows of features

    def predict_window(self, window: np.ndarray | pd.DataFrame) -> np.ndarray:
        """Returns calibrated probabilities (3,) of SHORT, HOLD, LONG.

        Where the target is a return or a price: the predicted log return, a number; a
        price is `close * exp(log return)`.

        Args:
            window: (window_bars, num_features) features as in the training file, the
                newest row last; those of a DataFrame are taken by their names.
        """
        return self._answers(self._checked(window, one=True)[None])[0]

    def predict_windows(self, windows: np.ndarray | pd.DataFrame) -> np.ndarray:
        """Returns calibrated probabilities (num_windows, 3), or log returns.

        These are (num_windows,), as in `predict_window`.

        Args:
            windows: (num_windows, window_bars, num_features) features as in the
                training file; or a DataFrame of consecutive bars, of which every one
                but the first `window_bars - 1` ends a window.
        """
        if isinstance(windows, pd.DataFrame):
            rows = self._by_name(windows)
            ends = np.arange(self.window_bars - 1, len(rows))
            windows = cut_windows(rows, ends, window_bars=self.window_bars)
        return self._answers(self._checked(windows))

    def signals(self, probabilities: np.ndarray) -> np.ndarray:
        """Returns class ids (num_windows,): 0 SHORT, 1 HOLD, 2 LONG.

        Args:
            probabilities: Calibrated rows (num_windows, 3), or log returns
                (num_windows,).
        """
        return self.policy.signals(probabilities)

    def _answers(self, windows: np.ndarray) -> np.ndarray:
        rows = self.scaler.transform(windows.reshape(-1, self.num_features))
        scaled = rows.reshape(windows.shape)
        return self.policy.calibrate(self.adapter.predict_windows(scaled))

    def _by_name(self, table: pd.DataFrame) -> np.ndarray:
        """Returns the features of a DataFrame in the model's order."""
        if missing := [name for name in self.feature_names if name not in table]:
            raise DataError(
                f"expected the columns {', '.join(self.feature_names)}. Received: "
                f"{', '.join(map(str, table.columns))}; missing {', '.join(missing)}."
            )
        return table[list(self.feature_names)].to_numpy(np.float32)

    def _checked(self, given: Any, *, one: bool = False) -> np.ndarray:
        """Returns windows, or one, as float32."""
        rows, features = shape = (self.window_bars, self.num_features)
        many = "" if one else "num_windows, "
        wanted = (
            f"expected {'a window' if one else 'windows'} of {rows} rows and "
            f"{features} features, numbers of shape ({many}{rows}, {features})"
        )
        if isinstance(given, pd.DataFrame):
            given = self._by_name(given)
        try:
            windows = np.asarray(given, np.float32)
        except (TypeError, ValueError) as error:
            raise DataError(f"{wanted}. Received: {error!s:.200}.") from error
        if windows.shape[1 - one :] != shape or not windows.size:
            raise DataError(
                f"{wanted}. Received: shape {windows.shape}. Take the features of "
                "consecutive bars, the newest row last; predict_window reads one "
                "window, predict_windows several."
            )
        if not np.isfinite(windows).all():
            raise DataError(
                "expected finite features. Received: NaN or infinity. Leave out "
                "windows that reach into the warm-up of a feature, or over a gap."
            )
        return windows
