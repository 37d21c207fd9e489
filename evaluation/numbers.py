"""Targets that are a number: a return or a price.

In: the answers of `Task` for numbers. Out: their scores (`number_scores`), the order of
judging (`evaluate`).

A model learns log returns in units of its training part, for a price too: a price level
has no stable scale. A price is reported back as `close * exp(predicted return)`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from config import Config
from data_loader import TrainingData
from evaluation import verdict
from evaluation.number_scores import NumberScores
from evaluation.policies import ReturnPolicy, log_returns
from evaluation.results import (
    PARTS,
    NumberPart,
    NumberResults,
    NumberSettings,
    Settings,
)
from evaluation.task import Names, Task
from metrics import scores, wording
from metrics.conformal import SpreadInterval
from metrics.quantiles import column_of, middle_of
from preprocessing.training_data import Part
from preprocessing.windows import change_spread
from settings.evaluation_fields import EvaluationFields

UNITS = {"return": "log return", "price": "price"}
LEAST_WINDOW = 10
"""Bars of a window that has a volatility, as in `Config.position_sizing`."""
_NUM_PERIODS = 120
_SPREAD_DRIFT = 1.5
_LEAST_SPREAD = 0.01


class Numbers(Task[NumberResults, NumberPart]):
    """A model names a number; skill is that of its squared error.

    References: persistence (a return of 0, today's price), the mean of the training
    part, and the mean of the trailing seven days that is known at each target.

    Args:
        target: `return` or `price`.
        quantiles: That a model names at once; empty for one number.
    """

    part_scores = NumberScores
    claimed = {
        "skill": (
            "skill_mse_vs_persistence",
            "skill_mse_vs_train_mean",
            "skill_mse_vs_trailing_7d",
        ),
        "direction": ("sign_excess",),
    }
    p_value = "sign_p_value"
    baseline_names = Names(
        {
            "persistence": "persistence",
            "train_mean": "train mean",
            "trailing_7d": "trailing 7-day mean",
            "last_known_return": "last known return",
            "ridge_regression": "ridge regression",
            "gradient_boosting": "gradient boosting",
            "buy_and_hold": "buy and hold",
        }
    )
    loss_name = "squared error"
    measures = {
        "skill": "skill_mse_vs_persistence",
        "skill_vs_trailing": "skill_mse_vs_trailing_7d",
        "correlation": "correlation",
        "direction": "sign_excess",
    }
    skill_name = "squared-error skill against the training mean"

    def __init__(self, target: str, quantiles: Sequence[float] = ()) -> None:
        self.target = target
        self.quantiles = quantiles

    def columns(
        self, data: TrainingData, part: str, outputs: np.ndarray
    ) -> dict[str, Any]:
        """Returns what came and what was predicted, and the close at the forecast.

        Raises:
            ValueError: If there is no finite number for each target.
        """
        rows = data.parts[part].targets
        if len(outputs) != len(rows) or not np.isfinite(outputs).all():
            raise ValueError(
                f"{part}: expected {len(rows)} finite numbers, one for each target. "
                f"Received: shape {np.shape(outputs)}, "
                f"{int((~np.isfinite(outputs)).sum())} of them not finite"
            )
        policy = self._policy(data)
        columns = {
            "actual": data.outcomes["target"][rows],
            "predicted": policy.calibrate(outputs),
        }
        said = ["predicted"]
        if np.shape(outputs)[1:] == (len(self.quantiles),):
            names = [column_of(level) for level in self.quantiles]
            columns |= dict(zip(names, policy.quantiles(outputs).T, strict=True))
            said += names
        if "close" in data.outcomes:
            close = data.outcomes["close"]
            columns["known"] = close[rows]
            if data.window_bars >= LEAST_WINDOW:
                spread = change_spread(close, rows, window_bars=data.window_bars)
                columns["volatility"] = spread
        if self.target == "price":
            columns |= {name: columns["known"] * np.exp(columns[name]) for name in said}
        return columns

    def learn_policy(
        self, validation: pd.DataFrame, data: TrainingData, config: EvaluationFields
    ) -> tuple[ReturnPolicy, dict[str, Any]]:
        """Returns the units that training learned, and an interval by validation.

        How it came about: `interval`, its values, or None where it is not known.
        """
        policy, interval = self._policy(data), None
        if "volatility" in validation:
            said = policy.answers_of(validation)
            interval = SpreadInterval.fit(
                log_returns(validation, self.target, "actual"),
                *(said, said),
                validation["volatility"].to_numpy(np.float64),
                level=config.interval_level,
            )
        found = None if interval is None else interval.to_dict()
        return dataclasses.replace(policy, interval=interval), {"interval": found}

    def _policy(self, data: TrainingData) -> ReturnPolicy:
        return ReturnPolicy(target=self.target, scaler=data.units)

    def describe(
        self,
        data: TrainingData,
        config: Config,
        settings: Settings,
        choice: Mapping[str, Any],
    ) -> dict[str, Any]:
        """Returns units, what a prediction means, the targets' spread over time."""
        is_quantile, units = (
            config.losses_of(config.target) == ("quantile",),
            data.units,
        )
        return {
            "target": self.target,
            "unit": UNITS[self.target],
            "settings": {
                **settings,
                "loss": config.loss,  # None: the family's own
                "reads": config.loss_traits.y_true,
                "quantile": config.quantile if is_quantile else None,
            },
            "target_scaler": units.to_dict(),
            "train": {
                "mean_bps": 1e4 * units.center,
                "std_bps": 1e4 * units.scale,
                "num_targets": units.num_rows,
            },
            **choice,
            "target_over_time": target_over_time(data),
        }

    def warnings(self, results: NumberResults) -> list[str]:
        """Returns what the loss means, odd sizes, drift of the spread, a short test."""
        found = _of_loss(results["settings"])
        for part in PARTS:
            if part in results:
                has_sizes = results["settings"]["reads"] == "value"
                found += _of_sizes(part, results[part], has_sizes=has_sizes)
        if "test" in results:
            test, before = results["test"], results["train"]["std_bps"]
            ratio = test["actual_std_bps"] / before
            if not 1 / _SPREAD_DRIFT <= ratio <= _SPREAD_DRIFT:
                found.append(
                    f"the spread of the returns drifted: deviation {before:.1f} bps in "
                    f"training, {test['actual_std_bps']:.1f} in test"
                )
            found += verdict.of_length(test["length"])
            found += _of_coverage(test, "coverage", "coverage", "intervals")
            names = ("quantiles", "quantile_coverage", "outer quantiles")
            found += _of_coverage(test, *names)
        return found

    def source_line(self, test: NumberPart, claims: verdict.Claims) -> str:
        """Returns whether the sign is known."""
        if test["sign_accuracy"] is None:
            return "In what: direction no, the price did not move"
        return (
            f"In what: direction {verdict.YES[claims['direction']]}, "
            f"{test['sign_accuracy']:.1%} of signs right, "
            f"{wording.interval(test['intervals']['sign_excess'])} beyond chance, "
            f"{wording.p_value(test['sign_p_value'])}"
        )

    def truth_and_losses(
        self, column: Callable[[str], np.ndarray]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Returns what came, and the squared error of each row (num_rows,)."""
        actual = column("actual")
        return actual, np.square(actual - column("predicted").astype(np.float64))

    def reference_losses(
        self,
        truth: np.ndarray,
        results: NumberResults,
        column: Callable[[str], np.ndarray],
    ) -> np.ndarray:
        """Returns the squared error of persistence (num_rows,)."""
        known = column("known") if self.target == "price" else 0.0
        return np.square(truth - np.asarray(known, dtype=np.float64))

    def mean_loss(self, part: NumberPart) -> float:
        """Returns the mean squared error of a part."""
        return part["rmse"] ** 2

    def skills(
        self, outputs: np.ndarray, targets: np.ndarray, data: TrainingData
    ) -> dict[str, float | None]:
        """Returns the squared-error skill of `all`."""
        # In units of the target's scaler the training mean is 0.
        error = np.square(middle_of(outputs).astype(np.float64) - targets).mean()
        reference = np.square(targets.astype(np.float64)).mean()
        return {"all": scores.skill(float(error), float(reference))}


def _of_loss(settings: NumberSettings) -> list[str]:
    """Returns a warning where a loss predicts no mean."""
    if settings["reads"] != "value":
        return [
            f"loss {settings['loss']} trains positions: signs and trades count, the "
            "size of a predicted return means nothing"
        ]
    if settings["quantile"] is None:
        return []
    if settings["quantile"] == 0.5:
        return [f"loss {settings['loss']} predicts the median, not the mean"]
    return [
        f"loss {settings['loss']} predicts the {settings['quantile']:g} quantile, "
        "not the mean: more actual values lie on one side by design"
    ]


def _of_sizes(part: str, result: NumberPart, *, has_sizes: bool) -> list[str]:
    """Returns warnings of predictions that hardly differ, or differ too much."""
    found, slope = [], result["intervals"]["slope"]
    predicted, actual = result["predicted_std_bps"], result["actual_std_bps"]
    if predicted < _LEAST_SPREAD * actual:
        found.append(
            f"{part}: the predictions hardly differ (deviation {predicted:.2f} bps, "
            f"actual {actual:.1f}): the model names a constant"
        )
    too_large = slope["high"] is not None and slope["high"] < 1
    skill = result["skill_mse_vs_persistence"]
    if has_sizes and too_large and skill is not None and skill < 0:
        found.append(
            f"{part}: the predictions are too large, what followed was "
            f"{wording.interval(slope, '{:+.2f}')} of them"
        )
    return found


def _of_coverage(test: Mapping[str, Any], key: str, name: str, words: str) -> list[str]:
    """Returns a warning where intervals did not hold what they were to hold."""
    if key not in test:
        return []
    level, found = test[key]["level"], test["intervals"][name]
    low, high = found["low"], found["high"]
    if low is None or high is None or low <= level <= high:
        return []
    held = wording.interval(found, "{:.1%}")
    return [f"{words} of {level:.0%} held {held} of what came in test"]


def target_over_time(
    data: TrainingData, parts: Mapping[str, Part] | None = None
) -> dict[str, Any]:
    """Returns quantiles of the log returns of all targets, in stretches of time.

    Args:
        data: Returns of all rows.
        parts: Of the data; None takes all that have targets.

    Returns:
        `time` (start of each stretch), `quantiles_bps` by percent, and `parts`: where
        each part starts.
    """
    parts = parts or {k: v for k, v in data.parts.items() if len(v.targets)}
    rows = np.concatenate([part.targets for part in parts.values()])
    if data.pairs:  # one after another
        rows = rows[np.argsort(data.timeline.at(rows), kind="stable")]
    returns = 1e4 * data.log_returns(rows)
    stretches = np.array_split(np.arange(len(rows)), min(_NUM_PERIODS, len(rows)))
    levels = (5, 25, 50, 75, 95)
    found = np.array(
        [np.quantile(returns[k], np.array(levels) / 100) for k in stretches]
    )
    starts = [data.timeline.at(rows[k[0]]) for k in stretches]
    return {
        "time": [f"{moment.astype('datetime64[s]')}Z" for moment in starts],
        "quantiles_bps": {
            f"{level}": found[:, k].tolist() for k, level in enumerate(levels)
        },
        "parts": {
            name: f"{data.first_time(part).astype('datetime64[s]')}Z"
            for name, part in parts.items()
        },
    }
