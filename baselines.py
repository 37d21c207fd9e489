"""Forecasts without a network: what a trained model has to beat.

In: forecasts that use the past alone, on the rows a model is judged on. Out: judging
them (`evaluation`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

import metrics
from data_loader import TrainingData
from metrics import HOLD

MAX_TARGETS = 200_000
STATISTIC_BARS = (5, 15, 60)
SECONDS_OF_TRAILING_MIX = 7 * 86_400
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
    trailing = metrics.trailing_mix(
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


class GradientBoosting:
    """scikit-learn's histogram gradient boosting on statistics of each window.

    Trained on evenly spaced targets of the training part, so at the natural class mix.

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
        from sklearn.ensemble import HistGradientBoostingClassifier

        targets = data.parts["train"].targets
        columns = 2 * data.num_features * len(_window_sizes(data.window_bars))
        # Many features: fewer targets, so that memory stays below 200 MB.
        count = min(self.max_targets, len(targets), max(1000, _MAX_CELLS // columns))
        rows = targets[(np.arange(count) * 2 + 1) * len(targets) // (2 * count)]
        self.num_targets_ = count
        self._classifier = HistGradientBoostingClassifier(
            max_iter=40,
            learning_rate=0.1,
            max_leaf_nodes=6,
            min_samples_leaf=max(20, count // 20),
            max_features=0.3,
            early_stopping=False,  # its random split would share bars with training
            random_state=self.seed,
        )
        inputs = self._inputs(data, rows)
        with _one_thread():
            self._classifier.fit(inputs, data.labels[rows])
        return self

    def predict_proba(self, data: TrainingData, rows: np.ndarray) -> np.ndarray:
        """Returns rows that sum to 1 (num_rows, 3); an unseen class has 0."""
        result = np.zeros((len(rows), 3))
        for start in range(0, len(rows), _CHUNK_ROWS):
            chunk = slice(start, start + _CHUNK_ROWS)
            inputs = self._inputs(data, rows[chunk])
            classes = self._classifier.classes_.astype(np.int64)
            with _one_thread():
                result[chunk, classes] = self._classifier.predict_proba(inputs)
        return result

    def _inputs(self, data: TrainingData, rows: np.ndarray) -> np.ndarray:
        return window_statistics(data.features, rows, window_bars=data.window_bars)


def _one_thread() -> Any:
    """Returns a context of one thread: trees this small wait for threads, not for work.

    On two busy cores 200,000 targets take 7 s with one thread and 24 s with two; and
    the sums do not depend on the machine.
    """
    from threadpoolctl import threadpool_limits

    return threadpool_limits(limits=1, user_api="openmp")


def window_statistics(
    features: np.ndarray, rows: np.ndarray, *, window_bars: int
) -> np.ndarray:
    """Returns mean and standard deviation of each feature over the last bars.

    Over 5, 15, 60 and `window_bars` rows that end at the row itself; lengths beyond the
    window are left out, so nothing outside a target's own window is read.

    Args:
        features: (num_rows, num_features).
        rows: Rows with a whole window before them (num_targets,).
        window_bars: Bars of a window.

    Returns:
        (num_targets, num_features * num_lengths * 2) float32.
    """
    sizes = _window_sizes(window_bars)
    ends = rows.astype(np.int64) + 1
    if len(rows):
        # Only the rows that are read: a part of a long file needs its own sums alone.
        first = int(ends.min()) - window_bars
        features = features[first : int(ends.max())]
        ends = ends - first
    result = np.empty((len(rows), features.shape[1] * len(sizes) * 2), np.float32)
    columns = iter(range(result.shape[1]))
    for column in features.T:
        values = column.astype(np.float64)
        values -= values.mean()  # keeps the difference of squares exact
        sums = np.concatenate([[0.0], np.cumsum(values)])
        squares = np.concatenate([[0.0], np.cumsum(values * values)])
        centre = float(column.mean(dtype=np.float64))
        for size in sizes:
            mean = (sums[ends] - sums[ends - size]) / size
            square = (squares[ends] - squares[ends - size]) / size
            result[:, next(columns)] = mean + centre
            spread = np.sqrt(np.maximum(square - mean * mean, 0.0))
            result[:, next(columns)] = spread
    return result


def _window_sizes(window_bars: int) -> list[int]:
    return sorted({size for size in STATISTIC_BARS if size < window_bars}) + [
        window_bars
    ]
