"""Forecasts without a network: what a trained model has to beat.

In: forecasts that use the past alone, on the rows a model is judged on. Out: judging
them (`part_scores`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

import utils
from config import HOLD
from data_loader import TrainingData
from metrics import scores
from preprocessing.windows import (
    evenly_spaced,
    value_limits,
    window_sizes,
    window_statistics,
)

MAX_TARGETS = 100_000
"""Neighbouring labels overlap: twice as many made no better trees, of 577,000."""
SECONDS_OF_TRAILING_MIX = 7 * 86_400
BOOSTED = "gradient_boosting"
"""Name of the one baseline that is trained."""

_MAX_CELLS = 40_000_000
_CHUNK_ROWS = 50_000


@dataclass(frozen=True, kw_only=True, eq=False)
class Forecast:
    """A baseline's forecast of some rows.

    Args:
        predicted: Class ids (num_rows,).
        probabilities: Rows that sum to 1 (num_rows, 3); None for a hard label, which
            has no log-loss.
    """

    predicted: np.ndarray
    probabilities: np.ndarray | None = None

    @classmethod
    def of(cls, probabilities: np.ndarray) -> Forecast:
        """Predicts the most probable class."""
        return cls(predicted=probabilities.argmax(axis=1), probabilities=probabilities)


def simple_forecasts(
    data: TrainingData, rows: np.ndarray, *, bar_seconds: int, seed: int
) -> dict[str, Forecast]:
    """Returns the forecasts that nothing is fitted for, by name.

    `train_prior`: class shares of the training part. `trailing_7d`: label mix of the
    trailing seven days. `last_known_label`: the newest label known at t, that of row
    t - future_window (HOLD before there is one). `always_hold`. `stratified_random`:
    drawn from the train prior.

    Args:
        data: Labels of all rows, the training prior.
        rows: Target rows (num_rows,).
        bar_seconds: Length of a bar.
        seed: Seed of the random baseline.
    """
    prior = np.asarray(data.class_prior, dtype=np.float64)
    trailing = scores.trailing_mix(
        data.labels,
        rows,
        horizon_bars=data.future_window,
        window_bars=max(1, SECONDS_OF_TRAILING_MIX // bar_seconds),
    )
    known = rows.astype(np.int64) - data.future_window
    last = np.where(known >= 0, data.labels[np.maximum(known, 0)], HOLD)
    drawn = np.random.Generator(np.random.PCG64(seed)).random(len(rows))
    random = np.searchsorted(np.cumsum(prior)[:-1], drawn, side="right")
    return {
        "train_prior": Forecast.of(np.broadcast_to(prior, (len(rows), len(prior)))),
        "trailing_7d": Forecast.of(trailing),
        "last_known_label": Forecast(predicted=last.astype(np.int64)),
        "always_hold": Forecast(predicted=np.full(len(rows), HOLD)),
        "stratified_random": Forecast(predicted=random),
    }


def simple_return_forecasts(
    data: TrainingData, rows: np.ndarray, *, bar_seconds: int
) -> dict[str, np.ndarray]:
    """Returns the log returns that nothing is fitted for, by name, (num_rows,) each.

    `persistence`: none, the price stays. `train_mean`: the mean of the training part.
    `trailing_7d`: the mean of the returns of the trailing seven days that are over at
    t. `last_known_return`: the newest of them, that of row t - future_window.

    Args:
        data: Returns of all rows.
        rows: Target rows (num_rows,).
        bar_seconds: Length of a bar.
    """
    returns = data.log_returns(np.arange(data.num_rows))
    options = {"horizon_bars": data.future_window}
    week = max(1, SECONDS_OF_TRAILING_MIX // bar_seconds)
    mean = float(returns[data.parts["train"].targets].mean())
    return {
        "persistence": np.zeros(len(rows)),
        "train_mean": np.full(len(rows), mean),
        "trailing_7d": trailing_mean(returns, rows, window_bars=week, **options),
        "last_known_return": trailing_mean(returns, rows, window_bars=1, **options),
    }


def trailing_mean(
    values: np.ndarray, targets: np.ndarray, *, horizon_bars: int, window_bars: int
) -> np.ndarray:
    """Returns the mean of the recent values that are known at each target.

    The value of row r looks at bars r+1 .. r+horizon_bars, so at the close of t the
    newest known one is that of row t - horizon_bars.

    Args:
        values: Value of every row of the file, in time order (num_rows,); NaN marks a
            row without one, which is not counted.
        targets: Rows to forecast (num_targets,).
        horizon_bars: Bars that a value looks ahead.
        window_bars: Rows of values to average.

    Returns:
        Means (num_targets,); 0 where no value is known yet.
    """
    is_value = np.isfinite(values)
    sums = np.concatenate([[0.0], np.cumsum(np.where(is_value, values, 0.0))])
    counts = np.concatenate([[0], np.cumsum(is_value)])
    end = np.clip(targets.astype(np.int64) - horizon_bars + 1, 0, None)
    start = np.clip(end - window_bars, 0, None)
    known = counts[end] - counts[start]
    return np.where(known > 0, sums[end] - sums[start], 0.0) / np.maximum(known, 1)


def boosted_outputs(
    data: TrainingData, parts: Iterable[str], *, seed: int
) -> dict[str, np.ndarray]:
    """Returns what `GradientBoosting` says of the targets of some parts, by part."""
    model = GradientBoosting(seed=seed).fit(data)
    predict = model.predict_values if data.is_regression else model.predict_proba
    return {part: predict(data, data.parts[part].targets) for part in parts}


class GradientBoosting:
    """scikit-learn's histogram gradient boosting on statistics of each window.

    Trained on evenly spaced targets of the training part, so at the natural class mix.
    A target that is a number is learned by squared error.

    Args:
        seed: Seed of the columns that each split may use.
        max_targets: Most training targets.

    Attributes:
        num_targets_: Targets trained on.
    """

    def __init__(self, *, seed: int = 0, max_targets: int = MAX_TARGETS) -> None:
        self.seed = seed
        self.max_targets = max_targets
        self.num_targets_ = 0

    def fit(self, data: TrainingData) -> GradientBoosting:
        """Learns from the training part.

        Few and wide leaves, because labels of neighbouring bars overlap: 1,000 rows may
        be eight independent ones. On a market without any direction, 15 leaves of
        1,000 rows had a direction skill of -0.14, 6 of a twentieth each -0.02.
        """
        from sklearn.ensemble import (
            HistGradientBoostingClassifier,
            HistGradientBoostingRegressor,
        )

        targets = data.parts["train"].targets
        columns = 2 * data.num_features * len(window_sizes(data.window_bars))
        # Many features: fewer targets, so that memory stays below 200 MB.
        count = min(self.max_targets, len(targets), max(1000, _MAX_CELLS // columns))
        rows = evenly_spaced(targets, count)
        self.num_targets_ = count
        part = data.parts["train"]
        self._limits = value_limits(data.features[part.start : part.stop])
        kind = HistGradientBoostingClassifier
        if data.is_regression:
            kind = HistGradientBoostingRegressor
        self._trees = kind(
            max_iter=40,
            learning_rate=0.1,
            max_leaf_nodes=6,
            min_samples_leaf=max(20, count // 20),
            max_features=0.3,
            early_stopping=False,  # its random split would share bars with training
            random_state=self.seed,
        )
        inputs = self._inputs(data, rows)
        with utils.one_thread():
            self._trees.fit(inputs, data.supervision(rows))
        return self

    def predict_proba(self, data: TrainingData, rows: np.ndarray) -> np.ndarray:
        """Returns rows that sum to 1 (num_rows, 3); an unseen class has 0."""
        result = np.zeros((len(rows), 3))
        for start in range(0, len(rows), _CHUNK_ROWS):
            chunk = slice(start, start + _CHUNK_ROWS)
            inputs = self._inputs(data, rows[chunk])
            classes = self._trees.classes_.astype(np.int64)
            with utils.one_thread():
                result[chunk, classes] = self._trees.predict_proba(inputs)
        return result

    def predict_values(self, data: TrainingData, rows: np.ndarray) -> np.ndarray:
        """Returns values in the units of `data.values` (num_rows,)."""
        result = np.zeros(len(rows))
        for start in range(0, len(rows), _CHUNK_ROWS):
            chunk = slice(start, start + _CHUNK_ROWS)
            inputs = self._inputs(data, rows[chunk])
            with utils.one_thread():
                result[chunk] = self._trees.predict(inputs)
        return result

    def _inputs(self, data: TrainingData, rows: np.ndarray) -> np.ndarray:
        return window_statistics(
            data.features, rows, window_bars=data.window_bars, limits=self._limits
        )
