"""One part of a predictions table -> its scores, each with its interval.

In: what one part says about the model and its baselines. Out: making the table, what
validation decides, the whole of the results (`classes`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from config import CLASS_NAMES, HOLD, Config
from data_loader import TrainingData
from evaluation import calibration
from evaluation.backtest import (
    NUM_SAMPLES,
    backtest,
    backtest_part,
    trade_outcomes,
    trade_rules,
    trading_problem,
)
from evaluation.baselines import Forecast, simple_forecasts
from evaluation.thresholds import SignalPolicy
from evaluation.trading import buy_and_hold_metrics
from metrics import scores as metrics
from metrics import significance

PROBABILITY_COLUMNS = tuple(f"probability_{name.lower()}" for name in CLASS_NAMES)
CALIBRATED_COLUMNS = tuple(f"calibrated_{name.lower()}" for name in CLASS_NAMES)
LOSSES = ("log_loss", "activity_log_loss", "direction_log_loss")
MIN_CALIBRATION_ROWS = 100


class PartJudge:
    """Judges one part of a predictions table; each method answers one question.

    Args:
        part: Name of the part.
        table: Its rows, from `evaluation.add_signals`.
        data: Labels of all rows, the training prior.
        config: The run.
    """

    def __init__(
        self, part: str, table: pd.DataFrame, data: TrainingData, config: Config
    ) -> None:
        self.part, self.table, self.data, self.config = part, table, data, config
        self.labels = table["label"].to_numpy()
        self.raw = probabilities_of(table)
        self.losses = row_losses(self.labels, self.raw)

    def forecasts(self, boosted: pd.DataFrame | None) -> dict[str, Forecast]:
        """Returns every baseline's forecast of the part's rows."""
        forecasts = simple_forecasts(
            self.data,
            self.table["row"].to_numpy(),
            bar_seconds=self.config.bar_seconds,
            seed=self.config.seed,
        )
        if boosted is not None:
            table = boosted[boosted["part"] == self.part]
            forecasts["gradient_boosting"] = Forecast.of(probabilities_of(table))
        return forecasts

    def scores(self, forecasts: Mapping[str, Forecast]) -> dict[str, Any]:
        """Returns scores of the raw probabilities, with intervals."""
        references = _references(forecasts)
        intervals = {
            key: self._skill(row_losses(self.labels, shares)[:, k], k)
            for name, shares in references.items()
            for k, key in enumerate(
                f"{loss.removesuffix('log_loss')}skill_vs_{name}" for loss in LOSSES
            )
        }
        hits = self.raw.argmax(axis=1) == self.labels
        for key, values in (("log_loss", self.losses[:, 0]), ("accuracy", hits)):
            intervals[key] = significance.bootstrap_interval(values, **self._options())
        return metrics.classification_metrics(
            self.labels, self.raw, class_names=CLASS_NAMES, reference=references
        ) | {"intervals": intervals}

    def direction(self) -> dict[str, Any]:
        """Returns the one pre-declared test: does the model know the side of trades?"""
        is_trade = self.labels != HOLD
        test = significance.shuffle_test(
            self.labels,
            metrics.class_losses(self.raw, part="direction_log_loss"),
            is_counted=is_trade,
            block_rows=self._block_rows(int(is_trade.sum())),
            num_permutations=NUM_SAMPLES,
            seed=self.config.seed,
        )
        return {"direction_test": test, "direction_p_value": test["p_value"]}

    def calibrated(
        self, policy: SignalPolicy, forecasts: Mapping[str, Forecast]
    ) -> dict[str, Any]:
        """Returns scores of calibrated probabilities and the reliability of both."""
        values = probabilities_of(self.table, CALIBRATED_COLUMNS)
        fitted_on = "validation"
        if policy.calibrator is None:
            fitted_on = "nothing"
        elif self.part == "validation":
            purge = self.data.window_bars + self.data.future_window - 1
            crossed = cross_fit(self.table, policy.calibrator.name, purge_bars=purge)
            values = values if crossed is None else crossed
            fitted_on = "these very rows" if crossed is None else "the other half"
        scores = metrics.classification_metrics(
            self.labels,
            values,
            class_names=CLASS_NAMES,
            reference=_references(forecasts),
        )
        skills = ("skill_vs_train_prior", "skill_vs_trailing_7d")
        errors = ("expected_calibration_error", "maximum_calibration_error")
        names = ("log_loss", "brier", *skills, *errors)
        kinds = {"raw": self.raw, "calibrated": values}
        return {
            "calibrated": {"fitted_on": fitted_on}
            | {name: scores[name] for name in names},
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
        signals = self.table["signal"].to_numpy()
        matrix = metrics.confusion_matrix(self.labels, signals)
        return metrics.matrix_metrics(matrix, class_names=CLASS_NAMES)

    def trades(self, table: pd.DataFrame, num_tried: int) -> dict[str, Any]:
        """Returns what a table's signals earned, or why that is not known."""
        calibrated = probabilities_of(table, CALIBRATED_COLUMNS)
        return backtest_part(
            table, calibrated, self.data, self.config, num_tried=num_tried
        )

    def baselines(
        self,
        forecasts: Mapping[str, Forecast],
        boosted: pd.DataFrame | None,
        boosted_choice: Mapping[str, Any] | None,
    ) -> dict[str, Any]:
        """Returns scores of every baseline; hard labels have no log-loss."""
        results = {name: self._score(forecasts, name) for name in forecasts}
        if trading_problem(self.table):
            return results
        for name, forecast in forecasts.items():
            if name == "gradient_boosting" and boosted is not None and boosted_choice:
                table = boosted[boosted["part"] == self.part]
                num_tried = boosted_choice["thresholds"]["num_tried"]
                earned = self.trades(table, num_tried)
            else:
                earned = backtest(
                    self.table,
                    forecast.predicted,
                    self.config,
                    horizon_bars=self.data.future_window,
                )
            results[name]["trading"] = {key: earned[key] for key in EARNED}
        held = trade_outcomes(self.table), trade_rules(self.config)
        results["buy_and_hold"] = {
            "trading": buy_and_hold_metrics(held[0], rules=held[1])
        }
        return results

    def comparisons(self, forecasts: Mapping[str, Forecast]) -> dict[str, Any]:
        """Returns the model against the boosting model and the best baseline, paired.

        Best: the lowest log-loss in this very part, so the choice favours the baseline.
        """
        losses = {
            name: row_losses(self.labels, forecast.probabilities)[:, 0]
            for name, forecast in forecasts.items()
            if forecast.probabilities is not None
        }
        best = min(losses, key=lambda name: float(losses[name].mean()))
        pairs = {"best_baseline": best}
        if "gradient_boosting" in losses:
            pairs["gradient_boosting"] = "gradient_boosting"
        return {
            key: {
                "baseline": name,
                "log_loss_difference": significance.paired_bootstrap_test(
                    self.losses[:, 0], losses[name], **self._options()
                ),
                "skill": self._skill(losses[name], 0),
            }
            for key, name in pairs.items()
        }

    def _score(self, forecasts: Mapping[str, Forecast], name: str) -> dict[str, Any]:
        forecast = forecasts[name]
        keys = ("accuracy", "balanced_accuracy", "macro_f1")
        if forecast.probabilities is None:
            matrix = metrics.confusion_matrix(self.labels, forecast.predicted)
            scores = metrics.matrix_metrics(matrix, class_names=CLASS_NAMES)
            return {"kind": "labels"} | {key: scores[key] for key in keys}
        prior = forecasts["train_prior"].probabilities
        scores = metrics.classification_metrics(
            self.labels,
            forecast.probabilities,
            class_names=CLASS_NAMES,
            reference={"train_prior": prior},
        )
        own = row_losses(self.labels, forecast.probabilities)
        reference = row_losses(self.labels, prior)
        prefixes = ("", "activity_", "direction_")
        gains = {
            f"{prefix}skill_vs_train_prior": scores[f"{prefix}skill_vs_train_prior"]
            for prefix in prefixes
        }
        intervals = {
            key: skill_interval(own[:, k], reference[:, k], self._options())
            for k, key in enumerate(gains)
        }
        kept = {key: scores[key] for key in (*keys, "log_loss")}
        return {"kind": "probabilities"} | kept | gains | {"intervals": intervals}

    def _skill(self, reference: np.ndarray, column: int) -> dict[str, Any]:
        return skill_interval(self.losses[:, column], reference, self._options())

    def _block_rows(self, num_rows: int) -> int:
        horizon = self.data.future_window
        return significance.suggest_block_rows(num_rows, horizon_bars=horizon)

    def _options(self) -> dict[str, Any]:
        return {
            "block_rows": self._block_rows(len(self.labels)),
            "num_samples": NUM_SAMPLES,
            "seed": self.config.seed,
        }


EARNED = (
    "num_trades",
    "total_return_pct",
    "mean_net_return_bps",
    "max_drawdown_pct",
    "sharpe",
)
"""What is kept of a baseline's trades."""


def _references(forecasts: Mapping[str, Forecast]) -> dict[str, np.ndarray]:
    names = ("train_prior", "trailing_7d")
    return {name: np.asarray(forecasts[name].probabilities) for name in names}


def row_losses(labels: np.ndarray, probabilities: Any) -> np.ndarray:
    """Returns each row's losses, in the order of `LOSSES` (num_rows, 3)."""
    rows = np.arange(len(labels))
    columns = [
        metrics.class_losses(probabilities, part=part)[rows, labels] for part in LOSSES
    ]
    # Under HOLD direction is 0 but for rounding, which must not count as a trade.
    columns[2][labels == HOLD] = 0.0
    return np.stack(columns, axis=1)


def skill_interval(
    own: np.ndarray, reference: np.ndarray, options: Mapping[str, Any]
) -> dict[str, Any]:
    """Returns the skill of losses against others of the same rows, with its interval.

    Args:
        own: Losses (num_rows,).
        reference: Losses of the reference (num_rows,).
        options: Of `significance.bootstrap_interval`.
    """
    return significance.bootstrap_interval(
        np.stack([own, reference], axis=1),
        lambda means: 1.0 - means[..., 0] / means[..., 1],
        **options,
    )


def probabilities_of(
    table: pd.DataFrame, columns: Sequence[str] = PROBABILITY_COLUMNS
) -> np.ndarray:
    """Returns raw or calibrated probabilities (num_rows, 3), float64."""
    return table[list(columns)].to_numpy(np.float64)


def cross_fit(
    table: pd.DataFrame, method: str, *, purge_bars: int
) -> np.ndarray | None:
    """Returns each half of a part calibrated by what the other half taught.

    Rows that share a bar with the half they would teach for are left out.

    Args:
        table: One part.
        method: Name of the calibration.
        purge_bars: Rows of window and label that two targets may share.

    Returns:
        Calibrated rows (num_rows, 3), or None if a half is too small.
    """
    rows, labels = table["row"].to_numpy(), table["label"].to_numpy()
    raw = probabilities_of(table)
    border = rows[len(rows) // 2]
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
