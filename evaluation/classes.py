"""Predictions -> results: one aligned table in, numbers with their references out.

In: which rows, labels, probabilities and returns belong together, what they say, and
how sure that is. Out: formulas (`metrics.scores`, `trading`, `metrics.significance`),
claims (`verdict`), pictures and text (`reports.report`).

Order: `predictions_table`, `fit_policy` (learns on validation), `add_signals`,
`evaluate` (judges both parts). Validation chose the calibrator and the thresholds, so
its trades are marked `in_sample`, and its calibrated numbers are cross-fitted.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

import utils
from config import CLASS_NAMES, Config
from data_loader import TrainingData
from evaluation import calibration, thresholds, verdict
from evaluation.backtest import (
    NUM_SAMPLES,
    position_sizes,
    trade_outcomes,
    trade_rules,
    trading_problem,
)
from evaluation.baselines import GradientBoosting
from evaluation.class_scores import (
    CALIBRATED_COLUMNS,
    MIN_CALIBRATION_ROWS,
    PROBABILITY_COLUMNS,
    PartJudge,
    probabilities_of,
)
from evaluation.thresholds import SignalPolicy
from files.strict import to_jsonable
from metrics import scores as metrics
from metrics import significance

KNOWN_WITHOUT_MODEL = {"return": 0.0, "direction": 0.5}
"""What persistence names: no change, and no opinion about the sign. For a price it is
the column `known`, the price at the forecast."""


# The table


def predictions_table(
    data: TrainingData, probabilities: Mapping[str, np.ndarray]
) -> pd.DataFrame:
    """Returns one row for each predicted target, in time order.

    The same row number addresses timestamp, label, returns and probabilities; nothing
    is paired by its position in another list.

    Args:
        data: Arrays and parts.
        probabilities: For each part, (num_targets, 3) in the order of its targets.
    """
    tables = []
    for part, values in probabilities.items():
        rows = data.parts[part].targets
        if values.shape != (len(rows), len(CLASS_NAMES)):
            raise ValueError(
                f"{part}: expected probabilities of shape {(len(rows), 3)}. "
                f"Received: {values.shape}"
            )
        columns = row_columns(data, part) | {"label": data.labels[rows]}
        columns |= dict(zip(PROBABILITY_COLUMNS, values.T, strict=True))
        columns |= {name: column[rows] for name, column in data.outcomes.items()}
        tables.append(pd.DataFrame(columns))
    return pd.concat(tables, ignore_index=True)


def row_columns(data: TrainingData, part: str) -> dict[str, Any]:
    """Returns the columns that say which target rows of `data` a table is about."""
    rows = data.parts[part].targets
    return {
        "timestamp": pd.DatetimeIndex(data.timeline.at(rows), tz="UTC"),
        "row": rows.astype(np.int64),
        "part": pd.Categorical([part] * len(rows), categories=list(data.parts)),
    }


def add_signals(predictions: pd.DataFrame, policy: SignalPolicy) -> pd.DataFrame:
    """Returns the table with calibrated probabilities and the policy's signals."""
    calibrated = policy.calibrate(probabilities_of(predictions))
    # Signals follow from what the table holds, so that a reader can repeat them.
    rounded = calibrated.astype(np.float32)
    columns = dict(zip(CALIBRATED_COLUMNS, rounded.T, strict=True))
    return predictions.assign(**columns, signal=policy.signals(rounded))


# What validation decides


def fit_policy(
    predictions: pd.DataFrame, data: TrainingData, config: Config
) -> tuple[SignalPolicy, dict[str, Any]]:
    """Learns calibration and thresholds on the validation part.

    Returns:
        The policy, and how it came about: `calibration` (method, rows, or the reason
        why there is none) and `thresholds` (see `thresholds.search_thresholds`).
    """
    table = predictions[predictions["part"] == "validation"]
    labels = table["label"].to_numpy()
    calibrator, reason = None, None
    if config.calibration_method == "none":
        reason = "switched off"
    elif len(table) < MIN_CALIBRATION_ROWS:
        reason = f"{len(table)} rows, expected at least {MIN_CALIBRATION_ROWS}"
    else:
        calibrator = calibration.create_calibrator(config.calibration_method)
        calibrator.fit(probabilities_of(table), labels)
    choice: dict[str, Any] = {
        "calibration": {
            "method": config.calibration_method if calibrator else "none",
            "fitted_on": "validation",
            "num_samples": len(table),
            "reason": reason,
        }
    }
    policy = SignalPolicy(calibrator=calibrator)
    problem = trading_problem(predictions)
    if problem:
        choice["thresholds"] = {
            "statement": f"not searched: {problem}",
            "skipped": problem,
            "num_tried": 0,
        }
        return policy, choice
    calibrated = probabilities_of(add_signals(table, policy), CALIBRATED_COLUMNS)
    search = thresholds.search_thresholds(
        calibrated,
        trade_outcomes(table),
        rules=trade_rules(config),
        sizes=position_sizes(calibrated, data, table["row"].to_numpy(), config),
        objective=config.threshold_objective,
        turnover_penalty_bps=config.turnover_penalty_bps,
        min_trades=config.threshold_min_trades,
    )
    choice["thresholds"] = search
    policy = SignalPolicy(
        calibrator=calibrator,
        uses_thresholds=True,
        short_threshold=search["short_threshold"],
        long_threshold=search["long_threshold"],
    )
    return policy, choice


# Judging


def evaluate(
    predictions: pd.DataFrame,
    data: TrainingData,
    config: Config,
    *,
    policy: SignalPolicy,
    choice: Mapping[str, Any],
) -> dict[str, Any]:
    """Returns the results of each part of a predictions table, ready for JSON.

    References of the log-loss skill: the class shares of the training part, those of
    the part itself (unknown beforehand: the strictest), and the label mix of the
    trailing seven days that is known at each target.

    Args:
        predictions: From `add_signals`.
        data: The same data.
        config: The same run.
        policy: From `fit_policy`.
        choice: From `fit_policy`.

    Returns:
        `verdict` (three lines), `claims`, `warnings`, `settings`, `calibration`,
        `thresholds`, and for `validation` and `test` a mapping: the keys of
        `metrics.classification_metrics` (most probable class, raw probabilities),
        `intervals`, `direction_test`, `direction_p_value`, `calibrated`,
        `reliability`, `thresholded`, `trading`, `baselines`, `comparisons`.
    """
    boosted, boosted_choice = None, None
    if config.baseline_model:
        boosted, boosted_choice = _boosted_table(predictions, data, config)
    results: dict[str, Any] = {
        "class_names": list(CLASS_NAMES),
        "train_prior": data.class_prior,
        "settings": describe_settings(data, config),
        **choice,
    }
    for part, table in predictions.groupby("part", observed=True, sort=False):
        judge = PartJudge(str(part), table, data, config)
        forecasts = judge.forecasts(boosted)
        results[str(part)] = {
            "first": table["timestamp"].iloc[0],
            "last": table["timestamp"].iloc[-1],
            **judge.scores(forecasts),
            **judge.direction(),
            **judge.calibrated(policy, forecasts),
            "thresholded": judge.thresholded(),
            "trading": judge.trades(table, choice["thresholds"]["num_tried"]),
            "baselines": judge.baselines(forecasts, boosted, boosted_choice),
            "comparisons": judge.comparisons(forecasts),
        }
    return verdict.add_verdict(to_jsonable(results))


def _boosted_table(
    predictions: pd.DataFrame, data: TrainingData, config: Config
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Returns the same table as a gradient-boosting model would have made it."""
    model = GradientBoosting(seed=config.seed).fit(data)
    probabilities = model.predict_proba(data, predictions["row"].to_numpy())
    columns = dict(zip(PROBABILITY_COLUMNS, probabilities.T, strict=True))
    table = predictions.assign(**columns)
    policy, choice = fit_policy(table, data, config)
    return add_signals(table, policy), choice


def describe_settings(data: TrainingData, config: Config) -> dict[str, Any]:
    """Returns the costs, sizes and seeds that the results rest on."""
    names = ("fee_bps", "slippage_bps", "position_sizing", "bar_seconds", "seed")
    return {name: getattr(config, name) for name in names} | {
        "window_bars": data.window_bars,
        "horizon_bars": data.future_window,
        "num_bootstrap_samples": NUM_SAMPLES,
        "confidence_pct": 95.0,
    }


# Regression targets


def evaluate_regression(
    predictions: pd.DataFrame, *, target: str, horizon_bars: int, seed: int = 0
) -> dict[str, Any]:
    """Returns errors of a regression, each with its interval, beside persistence.

    Args:
        predictions: One row for each predicted target, in time order: `part`, `actual`,
            `predicted`, and for a price `known`, the price at the forecast.
        target: `return`, `price`, or `direction` (`actual` 0 or 1, `predicted` the
            probability of 1; its sign is that of `predicted - 0.5`).
        horizon_bars: Bars that a target looks ahead.
        seed: Seed of the intervals.

    Returns:
        For each part the keys of `metrics.regression_metrics` and `intervals` for
        `mae`, `rmse`, `r2`, `sign_accuracy`, `skill_mae_vs_persistence`,
        `skill_mse_vs_persistence`, and for prices `mape_pct`; ready for JSON.

    Raises:
        ValueError: If the target is unknown or a column is missing.
    """
    if target not in ("return", "price", "direction"):
        raise ValueError(
            "`target` must be 'return', 'price' or 'direction'. "
            f"Received: {target!r}" + utils.did_you_mean(target, ["return", "price"])
        )
    wanted = {"part", "actual", "predicted"}
    wanted |= {"known"} if target == "price" else set()
    missing = sorted(wanted - set(predictions.columns))
    if missing:
        raise ValueError(
            f"`predictions` of a {target} must have the columns "
            f"{', '.join(sorted(wanted))}. Missing: {', '.join(missing)}."
        )
    results = {}
    for part, table in predictions.groupby("part", observed=True, sort=False):
        actual = table["actual"].to_numpy(np.float64)
        predicted = table["predicted"].to_numpy(np.float64)
        if target == "price":
            known = table["known"].to_numpy(np.float64)
        else:
            known = np.full(len(table), KNOWN_WITHOUT_MODEL[target])
        scores = metrics.regression_metrics(
            actual, predicted, persistence=known, is_price=target == "price"
        )
        scores["intervals"] = _regression_intervals(
            actual, predicted, known, horizon_bars=horizon_bars, seed=seed
        )
        if scores.get("mape_pct") is None:
            del scores["intervals"]["mape_pct"]
        results[str(part)] = scores
    return {"target": target} | to_jsonable(results)


def _regression_intervals(
    actual: np.ndarray,
    predicted: np.ndarray,
    known: np.ndarray,
    *,
    horizon_bars: int,
    seed: int,
) -> dict[str, Any]:
    error, naive = actual - predicted, actual - known
    moved = naive != 0
    hits = moved & (np.sign(predicted - known) == np.sign(naive))
    # Deviations from one mean: resampled variances then lose no digits on prices.
    centred = actual - actual.mean()
    columns = {
        "error": np.abs(error),
        "square": np.square(error),
        "naive_error": np.abs(naive),
        "naive_square": np.square(naive),
        "hits": hits,
        "moved": moved,
        "mean": centred,
        "mean_square": np.square(centred),
        "percent": 100.0 * np.abs(error / np.where(actual == 0, 1.0, actual)),
    }
    place = {name: k for k, name in enumerate(columns)}
    block = significance.suggest_block_rows(len(actual), horizon_bars=horizon_bars)

    def ratio(over: str, under: str) -> Any:
        return lambda m: m[..., place[over]] / m[..., place[under]]

    def variance(m: np.ndarray) -> np.ndarray:
        return m[..., place["mean_square"]] - np.square(m[..., place["mean"]])

    statistics = {
        "mae": lambda m: m[..., place["error"]],
        "rmse": lambda m: np.sqrt(m[..., place["square"]]),
        "r2": lambda m: 1.0 - m[..., place["square"]] / variance(m),
        "sign_accuracy": ratio("hits", "moved"),
        "skill_mae_vs_persistence": lambda m: 1.0 - ratio("error", "naive_error")(m),
        "skill_mse_vs_persistence": lambda m: 1.0 - ratio("square", "naive_square")(m),
        "mape_pct": lambda m: m[..., place["percent"]],
    }
    table = np.stack(list(columns.values()), axis=1)
    return {
        name: significance.bootstrap_interval(
            table, statistic, block_rows=block, num_samples=NUM_SAMPLES, seed=seed
        )
        for name, statistic in statistics.items()
    }
