"""One part of a table of probabilities -> its scores, each with its interval.

In: what one part says about the model and its baselines. Out: trades and comparisons
(`part_scores`), what validation decides and the results as a whole (`evaluate`).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from config import CLASS_NAMES, HOLD
from evaluation import calibration
from evaluation.baselines import Forecast, simple_forecasts
from evaluation.part_scores import PartScores
from evaluation.policies import CALIBRATED_COLUMNS, SignalPolicy, probabilities_of
from metrics import scores as metrics
from metrics.classification import (
    classification_metrics,
    confusion_matrix,
    matrix_metrics,
)
from metrics.intervals import log_loss_interval

SKILLS = ("skill", "activity_skill", "direction_skill")
REFERENCES = ("train_prior", "trailing_7d")
"""Forecasts without a model that skill is measured against."""

MIN_CALIBRATION_ROWS = 100
_OF_CALIBRATED = (
    "log_loss",
    "brier",
    "skill_vs_train_prior",
    "skill_vs_trailing_7d",
    "expected_calibration_error",
    "maximum_calibration_error",
)


class ClassScores(PartScores):
    """Scores of raw and calibrated probabilities."""

    loss_difference = "log_loss_difference"
    negligible_loss = 2 * metrics.EPSILON  # clipping leaves as much of a loss of 0
    forecasts: dict[str, Forecast]

    def prepare(self) -> tuple[np.ndarray, dict[str, Any]]:
        """Returns the log-loss of each row (num_rows,), and a `Forecast` by name."""
        self.labels = self.table["label"].to_numpy()
        self.raw = probabilities_of(self.table)
        self.all_losses = metrics.row_losses(self.labels, self.raw)
        options = {"bar_seconds": self.config.bar_seconds, "seed": self.config.seed}
        found = [
            (places, simple_forecasts(data, rows, **options))
            for places, rows, data in self.pairs()
        ]
        forecasts = found[0][1]
        if self.data.pairs:
            forecasts = {
                name: Forecast.joined([(places, said[name]) for places, said in found])
                for name in forecasts
            }
        for name, judged in self.beside.items():
            forecasts[name] = Forecast.of(probabilities_of(judged.table))
        self.references = {
            name: np.asarray(forecasts[name].probabilities) for name in REFERENCES
        }
        return self.all_losses[:, 0], forecasts

    def results(self) -> dict[str, Any]:
        """Returns the keys of `results.ClassPart`."""
        return {
            **self.span(),
            **self.scores(),
            **self.direction(),
            **self.calibrated(),
            "thresholded": self.thresholded(),
            **self.money(),
        }

    def scores(self) -> dict[str, Any]:
        """Returns scores of the raw probabilities, with intervals."""
        intervals = {}
        for name, shares in self.references.items():
            known = metrics.row_losses(self.labels, shares)
            for k, key in enumerate(SKILLS):
                own = self.all_losses[:, k]
                intervals[f"{key}_vs_{name}"] = self.skill_interval(own, known[:, k])
        hits = self.raw.argmax(axis=1) == self.labels
        intervals["accuracy"] = self.interval(hits)
        intervals["log_loss"] = log_loss_interval(
            self.by_moment(self.losses),
            length=self.length,
            num_classes=len(CLASS_NAMES),
        )
        return self._metrics(self.raw) | {"intervals": intervals}

    def direction(self) -> dict[str, Any]:
        """Returns the one pre-declared test: does the model know the side of trades?"""
        losses = metrics.class_losses(self.raw, part="direction_log_loss")
        test = self.shuffle(self.labels, losses, self.labels != HOLD)
        return {"direction_test": test, "direction_p_value": test["p_value"]}

    def calibrated(self) -> dict[str, Any]:
        """Returns scores of calibrated probabilities and the reliability of both.

        Those of validation are cross-fitted where it taught the calibration.
        """
        values = probabilities_of(self.table, CALIBRATED_COLUMNS)
        learned, policy = self.model.choice.get("calibration"), self.model.policy
        fitted_on = learned["fitted_on"] if learned else "validation"
        if not isinstance(policy, SignalPolicy) or policy.calibrator is None:
            fitted_on = "nothing"
        elif self.part == fitted_on:
            purge = self.data.window_bars + self.data.future_window - 1
            crossed = cross_fit(self.table, policy.calibrator.name, purge_bars=purge)
            values = values if crossed is None else crossed
            fitted_on = "these very rows" if crossed is None else "the other half"
        scores = self._metrics(values)
        kinds = {"raw": self.raw, "calibrated": values}
        return {
            "calibrated": {"fitted_on": fitted_on}
            | {name: scores[name] for name in _OF_CALIBRATED},
            "reliability": {
                kind: {
                    name: metrics.reliability_table(self.labels == k, table[:, k])
                    for k, name in enumerate(CLASS_NAMES)
                }
                for kind, table in kinds.items()
            },
        }

    def thresholded(self) -> dict[str, Any]:
        """Returns the confusion matrix of the signals and its scores."""
        return self._matrix(self.table["signal"].to_numpy())

    def baseline_losses(self) -> dict[str, np.ndarray]:
        """Returns the log-loss of each row (num_rows,); hard labels have none."""
        return {
            name: metrics.row_losses(self.labels, forecast.probabilities)[:, 0]
            for name, forecast in self.forecasts.items()
            if forecast.probabilities is not None
        }

    def baseline_signals(self, name: str) -> np.ndarray:
        """Returns a baseline's classes (num_rows,)."""
        return self.forecasts[name].predicted

    def baseline_scores(self, name: str) -> dict[str, Any]:
        """Returns scores of a baseline: its kind, hits, and skill where it has one."""
        forecast = self.forecasts[name]
        keys = ("accuracy", "balanced_accuracy", "macro_f1")
        if forecast.probabilities is None:
            scores = self._matrix(forecast.predicted)
            return {"kind": "labels"} | {key: scores[key] for key in keys}
        scores = self._metrics(forecast.probabilities)
        own = metrics.row_losses(self.labels, forecast.probabilities)
        known = metrics.row_losses(self.labels, self.references["train_prior"])
        gains = [f"{key}_vs_train_prior" for key in SKILLS]
        intervals = {
            key: self.skill_interval(own[:, k], known[:, k])
            for k, key in enumerate(gains)
        }
        kept = {key: scores[key] for key in (*keys, "log_loss", *gains)}
        return {"kind": "probabilities"} | kept | {"intervals": intervals}

    def _metrics(self, probabilities: np.ndarray) -> dict[str, Any]:
        return classification_metrics(
            self.labels,
            probabilities,
            class_names=CLASS_NAMES,
            reference=self.references | self.own_mixes(),
        )

    def own_mixes(self) -> dict[str, np.ndarray]:
        """Returns the class shares of each row's own pair in the part, of a pool."""
        if not self.data.pairs:
            return {}
        shares = np.empty(self.raw.shape)
        for places, _, _ in self.pairs():
            shares[places] = metrics.class_prior(self.labels[places])
        return {"own_mix": shares}

    def _matrix(self, predicted: np.ndarray) -> dict[str, Any]:
        matrix = confusion_matrix(self.labels, predicted)
        return matrix_metrics(matrix, class_names=CLASS_NAMES)


def cross_fit(
    table: pd.DataFrame, method: str, *, purge_bars: int
) -> np.ndarray | None:
    """Returns each half of a part calibrated by what the other half taught.

    Rows that share a bar with the half they would teach for are left out. Pooled pairs
    are halved at the same moment.

    Args:
        table: One part.
        method: Name of the calibration.
        purge_bars: Rows of window and label that two targets may share.

    Returns:
        Calibrated rows (num_rows, 3), or None if a half is too small.
    """
    rows, labels = table["row"].to_numpy(), table["label"].to_numpy()
    if "pair" in table:
        rows = np.unique(table["timestamp"], return_inverse=True)[1]
    raw = probabilities_of(table)
    border = np.sort(rows)[len(rows) // 2]
    older = rows < border
    result = np.empty(raw.shape)
    for judged, teaches in (
        (older, rows >= border + purge_bars),
        (~older, rows < border - purge_bars),
    ):
        if teaches.sum() < MIN_CALIBRATION_ROWS or not judged.any():
            return None
        fitted = calibration.create_calibrator(method)
        fitted.fit(raw[teaches], labels[teaches])
        result[judged] = fitted.predict_proba(raw[judged])
    return result
