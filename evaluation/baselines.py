"""Forecasts without a network: what a trained model has to beat.

In: forecasts that use the past alone, on the rows a model is judged on. Out: judging
them (`part_scores`).
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import numpy as np

from artifacts.array_models import ArrayModel
from config import CLASS_TARGETS, HOLD, LONG, SHORT, Config
from data_loader import TrainingData
from files.progress import track
from files.strict import sha256_json
from metrics import scores
from models import conversion
from models import sklearn_adapter as families

MAX_TARGETS = 30_000
"""Neighbouring labels overlap: 100,000 gave boosting the same skill in three times the
time, apart by 0.0005 on average and by 0.003 at most in validation and test of seven
stretches of the demo, BTC and ETH; the linear one needs no more either."""
SECONDS_OF_TRAILING_MIX = 7 * 86_400
BOOSTED, LOGISTIC = "gradient_boosting", "logistic_regression"
RIDGE = "ridge_regression"
"""Names of the baselines that are trained; the last of numbers alone."""

_MONITORED = 5000
"""Windows of validation that rounds of boosting are scored on."""


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

    @classmethod
    def joined(cls, pieces: Sequence[tuple[np.ndarray, Forecast]]) -> Forecast:
        """Returns one forecast of rows of which each piece names its places."""
        order = np.argsort(np.concatenate([places for places, _ in pieces]))
        predicted = np.concatenate([said.predicted for _, said in pieces])[order]
        columns = [s.probabilities for _, s in pieces if s.probabilities is not None]
        return cls(
            predicted=predicted,
            probabilities=np.concatenate(columns)[order] if columns else None,
        )


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
    return {
        "persistence": np.zeros(len(rows)),
        "train_mean": np.full(
            len(rows), data.units.center if data.own_mean is None else data.own_mean
        ),
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


class Boosting(families.GradientBoostingAdapter):
    """The family of boosting on histograms, at the natural class mix.

    Few and wide leaves, because labels of neighbouring bars overlap: 1,000 rows may be
    eight independent ones. On a market without any direction, 15 leaves of 1,000 rows
    had a direction skill of -0.14, 6 of a twentieth each -0.02.

    Whether a trade is hit at all is said after the rounds with the least log-loss on
    validation, mostly activity; which side is, after those with the least log-loss of
    direction.
    """

    _sides: ArrayModel | None = None

    def create_model(self, num_targets: int) -> Any:
        """Returns boosting whose leaves have a twentieth of the targets, and 20."""
        least = max(20, num_targets // 20)
        return super().create_model(num_targets).set_params(min_samples_leaf=least)

    def keep_rounds(self, model: Any, num_rounds: int) -> Any:
        """Keeps those for the side of a trade, too, where they are others."""
        losses = self._history.get("val_direction_loss", [0.0])  # 0 without a trade
        best = losses.index(min(losses)) + 1
        if min(losses) > 0 and best != num_rounds:
            sides = copy.copy(model)
            sides._predictors = model._predictors[:best]
            self._sides = conversion.of_sklearn(sides, family=self.config.model)
        return super().keep_rounds(model, num_rounds)

    def answers(self, inputs: np.ndarray) -> np.ndarray:
        """Returns what the library says; a class that training lacks has 0."""
        outputs = self.raw_outputs(inputs)
        if self.mix is None:
            return outputs
        outputs = self.mix.training(outputs)
        if self._sides is not None:
            sides = self.mix.training(self._sides.predict(inputs))
            long = sides[:, LONG] / (sides[:, SHORT] + sides[:, LONG])
            trade = outputs[:, SHORT] + outputs[:, LONG]
            outputs[:, SHORT], outputs[:, LONG] = trade * (1 - long), trade * long
        return outputs


class Linear(families.LogisticAdapter):
    """Logistic regression of what boosting reads, of numbers ridge regression.

    A weak direction that is linear in the inputs shows here first: boosting spends its
    few leaves on activity.
    """

    def create_model(self, num_targets: int) -> Any:
        """Returns scaled regression; half the squared error for a log-loss."""
        if self.has_classes:
            return super().create_model(num_targets)
        from sklearn.linear_model import Ridge
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        penalty = Ridge(alpha=self.config.logistic_penalty * num_targets)
        return make_pipeline(StandardScaler(), penalty)


_KEPT: ContextVar[dict[str, dict[str, np.ndarray]] | None] = ContextVar(
    "kept", default=None
)


@contextlib.contextmanager
def keeping_forecasts() -> Iterator[None]:
    """Trains these baselines once for all runs on the same data in its block.

    Runs of a series differ in what they do not read, such as the family. What they said
    is kept in memory by the digest of all that they read.
    """
    token = _KEPT.set({})
    try:
        yield
    finally:
        _KEPT.reset(token)


def boosted_outputs(
    data: TrainingData, parts: Iterable[str], *, seed: int
) -> dict[str, np.ndarray]:
    """Returns what `Boosting` says of the targets of some parts, by part.

    It learns from evenly spaced targets of the training part, so at the natural mix.

    Args:
        data: Features, targets, parts.
        parts: Names of the parts.
        seed: Seed of the columns that each split may use.
    """
    return _outputs(
        Boosting,
        data,
        parts,
        model="gradient_boosting",
        num_trees=40,
        boosting_rate=0.1,
        max_leaf_nodes=6,
        max_inputs_share=0.3,
        max_tabular_targets=MAX_TARGETS,
        seed=seed,
    )


def linear_outputs(
    data: TrainingData, parts: Iterable[str], *, seed: int
) -> dict[str, np.ndarray]:
    """Returns what `Linear` says of the targets of parts; see `boosted_outputs`."""
    # Of numbers any family of tables that has them: `create_model` is its own.
    family = "logistic" if data.target in CLASS_TARGETS else "gradient_boosting"
    limit = MAX_TARGETS
    return _outputs(
        Linear, data, parts, model=family, max_tabular_targets=limit, seed=seed
    )


def trained_outputs(
    data: TrainingData, parts: Iterable[str], *, seed: int
) -> dict[str, dict[str, np.ndarray]]:
    """Returns what each trained baseline says of some parts, by name and part."""
    names = tuple(parts)
    linear = LOGISTIC if data.target in CLASS_TARGETS else RIDGE
    learners = {linear: linear_outputs, BOOSTED: boosted_outputs}
    told = track(learners.items(), "baseline", len(learners))
    return {name: learner(data, names, seed=seed) for name, learner in told}


def _outputs(
    kind: type[families.SklearnAdapter],
    data: TrainingData,
    parts: Iterable[str],
    **fields: Any,
) -> dict[str, np.ndarray]:
    """Trains a baseline at the natural mix, or takes what is kept of it."""
    names, train = tuple(parts), data.parts["train"]
    config = Config(
        target=data.target,
        sequence_length=data.window_bars,
        validation_windows=_MONITORED,
        **fields,
    )
    data = dataclasses.replace(
        data,
        train_targets=train.targets,
        row_weights=None,
        class_weights=None,
        class_odds=None,
    )
    kept = _KEPT.get()
    if kept is None:
        return _train(kind(config), data, names)
    what = [data.digest(), config.digest(), train.start, train.stop, names]
    key = sha256_json([kind.__name__, *what])
    if key not in kept:
        kept[key] = _train(kind(config), data, names)
    return dict(kept[key])


def _train(
    adapter: families.SklearnAdapter, data: TrainingData, parts: Iterable[str]
) -> dict[str, np.ndarray]:
    table = adapter.prepare(data)
    adapter.model = adapter.create_model(len(table.targets))
    adapter.learn()
    outputs = {
        part: adapter.predict_rows(data, data.parts[part].targets) for part in parts
    }
    for array in outputs.values():
        array.setflags(write=False)  # others may be given the same
    return outputs
