"""Targets with classes: SHORT, HOLD, LONG.

In: the answers of `Task` for probabilities. Out: their scores (`class_scores`), the
order of judging (`evaluate`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from config import CLASS_NAMES, Config
from data_loader import TrainingData
from evaluation import calibration, verdict
from evaluation.class_scores import (
    MIN_CALIBRATION_ROWS,
    ClassScores,
    cross_fit,
)
from evaluation.policies import PROBABILITY_COLUMNS, SignalPolicy, probabilities_of
from evaluation.results import PARTS, ClassPart, ClassResults, Settings
from evaluation.task import Names, Task
from metrics import scores, wording
from settings.evaluation_fields import EvaluationFields

MOST_OF_PREDICTIONS, FEWEST_OF_PREDICTIONS = 0.9, 0.01
_DRIFT = 0.1
_LEAST_HARM = 0.001
"""Share of a log-loss that calibration may add before it is worth a word."""


class Classes(Task[ClassResults, ClassPart]):
    """A model gives each class a probability; skill is that of its log-loss.

    References: the class shares of the training part, those of the part itself (unknown
    beforehand: the strictest), and the label mix of the trailing seven days that is
    known at each target.
    """

    part_scores = ClassScores
    claimed = {
        "skill": ("skill_vs_train_prior", "skill_vs_trailing_7d"),
        "activity": ("activity_skill_vs_train_prior", "activity_skill_vs_trailing_7d"),
        "direction": ("direction_skill_vs_train_prior",),
    }
    p_value = "direction_p_value"
    baseline_names = Names(
        {
            "train_prior": "train prior",
            "trailing_7d": "trailing 7-day mix",
            "last_known_label": "last known label",
            "always_hold": "always HOLD",
            "stratified_random": "stratified random",
            "logistic_regression": "logistic regression",
            "gradient_boosting": "gradient boosting",
            "buy_and_hold": "buy and hold",
        }
    )
    loss_name = "log-loss"
    measures = {
        "skill": "skill_vs_train_prior",
        "skill_vs_trailing": "skill_vs_trailing_7d",
        "activity": "activity_skill_vs_train_prior",
        "direction": "direction_skill_vs_train_prior",
    }
    skill_name = "log-loss skill against the train prior"

    def columns(
        self, data: TrainingData, part: str, outputs: np.ndarray
    ) -> dict[str, Any]:
        """Returns the labels and the probability of each class.

        Raises:
            ValueError: If there is no row of probabilities for each target.
        """
        rows = data.parts[part].targets
        if outputs.shape != (len(rows), len(CLASS_NAMES)):
            raise ValueError(
                f"{part}: expected probabilities of shape {(len(rows), 3)}. "
                f"Received: {outputs.shape}"
            )
        said = dict(zip(PROBABILITY_COLUMNS, outputs.T, strict=True))
        return {"label": data.labels[rows]} | said

    def learn_policy(
        self, validation: pd.DataFrame, data: TrainingData, config: EvaluationFields
    ) -> tuple[SignalPolicy, dict[str, Any]]:
        """Fits the calibration, or says why there is another, or none."""
        calibrator, reason = None, None
        if config.calibration_method == "none":
            reason = "switched off"
        elif len(validation) < MIN_CALIBRATION_ROWS:
            reason = f"{len(validation)} rows, expected at least {MIN_CALIBRATION_ROWS}"
        else:
            calibrator, reason = _fit_calibration(
                config.calibration_method,
                validation,
                purge_bars=data.window_bars + data.future_window - 1,
            )
        choice = {
            "method": calibrator.name if calibrator else "none",
            "fitted_on": "validation",
            "num_samples": len(validation),
            "reason": reason,
        }
        return SignalPolicy(calibrator=calibrator), {"calibration": choice}

    def describe(
        self,
        data: TrainingData,
        config: Config,
        settings: Settings,
        choice: Mapping[str, Any],
    ) -> dict[str, Any]:
        """Returns the classes and their shares in training, before what was given."""
        return {
            "target": data.target,
            "class_names": list(CLASS_NAMES),
            "train_prior": data.class_prior,
            "settings": settings,
            **choice,
        }

    def warnings(self, results: ClassResults) -> list[str]:
        """Returns collapse, drift, a short test, a calibration that did not last."""
        found = []
        for part in PARTS:
            if part in results:
                found += _collapse(part, results[part])
        if "test" in results:
            test = results["test"]
            prior, shares = results["train_prior"], test["true_share"].items()
            for share, (name, true) in zip(prior, shares, strict=True):
                if abs(true - share) > _DRIFT:
                    found.append(
                        f"the class mix drifted: {name} {share:.0%} in training, "
                        f"{true:.0%} in test"
                    )
            found += verdict.of_length(test["length"])
        fitted = results["calibration"]
        if fitted["reason"] not in (None, "switched off"):
            instead = "not calibrated"
            if fitted["method"] != "none":
                instead = "calibrated by the class mix alone"
            found.append(f"{instead}: {fitted['reason']}")
        if "validation" in results:
            found += _harm(results["validation"])
        return found

    def source_line(self, test: ClassPart, claims: verdict.Claims) -> str:
        """Returns whether activity and direction are known."""
        intervals, yes = test["intervals"], verdict.YES
        activity, against = intervals["activity_skill_vs_train_prior"], ""
        if claims["activity"] is False and verdict.is_above(activity):
            activity = intervals["activity_skill_vs_trailing_7d"]
            against = " vs 7d mix"
        direction = wording.interval(intervals["direction_skill_vs_train_prior"])
        return (
            f"In what: activity {yes[claims['activity']]} {verdict.short(activity)}"
            f"{against}; direction {yes[claims['direction']]} {direction} "
            f"{wording.p_value(test['direction_p_value'])}"
        )

    def unanswerable(self, results: ClassResults) -> str:
        """Returns which classes occur in test and never in training."""
        shares = results["test"]["true_share"].items()
        unseen = [
            name
            for prior, (name, share) in zip(results["train_prior"], shares, strict=True)
            if prior == 0 and share > 0
        ]
        words = " and ".join(unseen)
        return f"training has no {words}, which test has" if unseen else ""

    def truth_and_losses(
        self, column: Callable[[str], np.ndarray]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Returns labels, and the log-loss of the raw probabilities (num_rows,)."""
        labels = column("label")
        said = np.stack([column(name) for name in PROBABILITY_COLUMNS], axis=1)
        return labels, scores.row_losses(labels, said.astype(np.float64))[:, 0]

    def reference_losses(
        self,
        truth: np.ndarray,
        results: ClassResults,
        column: Callable[[str], np.ndarray],
    ) -> np.ndarray:
        """Returns the log-loss of naming the class shares of training (num_rows,)."""
        said = np.tile(results["train_prior"], (len(truth), 1))
        return scores.row_losses(truth, said)[:, 0]

    def mean_loss(self, part: ClassPart) -> float:
        """Returns the log-loss of a part."""
        return part["log_loss"]

    def skills(
        self, outputs: np.ndarray, targets: np.ndarray, data: TrainingData
    ) -> dict[str, float | None]:
        """Returns the log-loss skill of `all`, and of the `direction` of trades."""
        prior = np.broadcast_to(data.class_prior, (len(targets), len(CLASS_NAMES)))
        found = scores.log_loss_parts(targets, outputs)
        known = scores.log_loss_parts(targets, prior)
        skills: dict[str, float | None] = {"all": None, "direction": None}
        for name, key in (("all", "log_loss"), ("direction", "direction_log_loss")):
            loss, reference = found[key], known[key]
            if loss is not None and reference is not None:
                skills[name] = scores.skill(loss, reference)
        return skills


def _fit_calibration(
    method: str, validation: pd.DataFrame, *, purge_bars: int
) -> tuple[calibration.Calibrator | None, str | None]:
    """Returns the calibration, or another than `method`, or none, and why.

    A map that ended at its bound, or that gives the other half of validation no better
    log-loss than the uniform forecast, is not used: then the class mix alone is mended,
    if that helps the other half, too.
    """
    labels, raw = validation["label"].to_numpy(), probabilities_of(validation)
    fitted = calibration.create_calibrator(method).fit(raw, labels)

    def held_out_loss(name: str) -> float:
        said = cross_fit(validation, name, purge_bars=purge_bars)
        if said is None:  # a half is too small
            whole = calibration.create_calibrator(name).fit(raw, labels)
            said = whole.predict_proba(raw)
        return scores.log_loss(labels, said)

    reason = fitted.bound()
    if reason is None:
        loss = held_out_loss(method)
        if loss < math.log(len(CLASS_NAMES)):
            return fitted, None
        reason = f"a log-loss of {loss:.3f} is no better than the uniform forecast's"
    reason = f"{method} is not used, {reason}"
    mended = calibration.create_calibrator("bias").fit(raw, labels)
    if held_out_loss("bias") < scores.log_loss(labels, raw):
        return mended, reason
    return None, reason


def _collapse(part: str, result: ClassPart) -> list[str]:
    """Returns a warning where the most probable class is nearly always the same."""
    most, fewest = MOST_OF_PREDICTIONS, FEWEST_OF_PREDICTIONS
    true, predicted = result["true_share"], result["predicted_share"]
    for name, share in predicted.items():
        if share > most > true[name]:
            return [
                f"{part}: the most probable class is {name} in {share:.1%} of the rows "
                f"(true share {true[name]:.1%})"
            ]
    return [
        f"{part}: {name} is the most probable class in {share:.1%} of the rows "
        f"(true share {true[name]:.1%})"
        for name, share in predicted.items()
        if share < fewest <= true[name]
    ]


def _harm(validation: ClassPart) -> list[str]:
    """Returns a warning where cross-fitted calibration made the log-loss worse."""
    raw, crossed = validation["log_loss"], validation["calibrated"]
    is_worse = crossed["log_loss"] > raw * (1 + _LEAST_HARM)
    if crossed["fitted_on"] != "the other half" or not is_worse:
        return []
    return [
        "calibration did not last: fitted on one half of validation, it turned the "
        f"log-loss of the other from {raw:.4f} to {crossed['log_loss']:.4f}"
    ]
