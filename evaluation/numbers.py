"""Predictions of a return or a price -> results: what `classes` is for classes.

In: which rows, values, forecasts and closes belong together, what they say beside
forecasts without a model, and how sure that is. Out: the errors of one forecast
(`classes.evaluate_regression`), trades (`backtest`), claims (`verdict`), text and
pictures (`reports.number_plots`).

A model learns log returns in units of its training part, for a price too: a price level
has no stable scale. A price is reported back as `close * exp(predicted return)`.

Order, as in `classes`: `predictions_table`, `fit_policy` (learns on validation),
`add_signals`, `evaluate` (judges both parts).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from config import Config
from data_loader import TrainingData
from evaluation import classes, thresholds, verdict
from evaluation.backtest import (
    position_sizes,
    trade_outcomes,
    trade_rules,
    trading_problem,
)
from evaluation.baselines import GradientBoosting
from evaluation.number_scores import RegressionJudge, log_returns
from evaluation.thresholds import ReturnPolicy
from files.strict import to_jsonable

UNITS = {"return": "log return", "price": "price"}
_NUM_PERIODS = 120


# The table


def predictions_table(
    data: TrainingData, outputs: Mapping[str, np.ndarray]
) -> pd.DataFrame:
    """Returns one row for each predicted target, in time order.

    Columns: `timestamp`, `row`, `part`; `actual` and `predicted`, log returns or
    prices; `known`, the close at the forecast, where the file has it; the outcomes.

    Args:
        data: Arrays and parts.
        outputs: For each part a model's outputs in the order of its targets, in units
            of `data.values`, (num_targets,) or (num_targets, 1).

    Raises:
        ValueError: If there are more or fewer outputs than targets, or one is NaN.
    """
    policy = _untrained_policy(data)
    tables = []
    for part, values in outputs.items():
        rows = data.parts[part].targets
        if np.size(values) != len(rows) or not np.isfinite(values).all():
            raise ValueError(
                f"{part}: expected {len(rows)} finite numbers, one for each target. "
                f"Received: shape {np.shape(values)}, "
                f"{int((~np.isfinite(values)).sum())} of them not finite"
            )
        columns = classes.row_columns(data, part) | {
            "actual": data.outcomes["target"][rows],
            "predicted": policy.calibrate(values),
        }
        if "close" in data.outcomes:
            columns["known"] = data.outcomes["close"][rows]
        if data.target == "price":
            columns["predicted"] = columns["known"] * np.exp(columns["predicted"])
        columns |= {
            name: column[rows]
            for name, column in data.outcomes.items()
            if name != "target"
        }
        tables.append(pd.DataFrame(columns))
    return pd.concat(tables, ignore_index=True)


def add_signals(predictions: pd.DataFrame, policy: ReturnPolicy) -> pd.DataFrame:
    """Returns the table with the policy's signals."""
    returns = log_returns(predictions, policy.target)
    return predictions.assign(signal=policy.signals(returns))


def _untrained_policy(data: TrainingData) -> ReturnPolicy:
    if data.target_scaler is None:
        raise ValueError("expected a target that is a number. Received: classes.")
    return ReturnPolicy(target=data.target, scaler=data.target_scaler)


# What validation decides


def fit_policy(
    predictions: pd.DataFrame, data: TrainingData, config: Config
) -> tuple[ReturnPolicy, dict[str, Any]]:
    """Chooses on the validation part from which predicted return on to trade.

    Returns:
        The policy, and how it came about: `thresholds` (see
        `thresholds.search_thresholds`; the thresholds are log returns).
    """
    table = predictions[predictions["part"] == "validation"]
    policy = _untrained_policy(data)
    problem = trading_problem(predictions)
    if problem:
        statement = f"not searched: {problem}"
        skipped = {"statement": statement, "skipped": problem, "num_tried": 0}
        return policy, {"thresholds": skipped}
    scores = thresholds.return_scores(log_returns(table, data.target))
    search = thresholds.search_thresholds(
        scores,
        trade_outcomes(table),
        rules=trade_rules(config),
        sizes=position_sizes(scores, data, table["row"].to_numpy(), config),
        objective=config.threshold_objective,
        turnover_penalty_bps=config.turnover_penalty_bps,
        min_trades=config.threshold_min_trades,
    )
    policy = ReturnPolicy(
        target=policy.target,
        scaler=policy.scaler,
        uses_thresholds=True,
        short_threshold=search["short_threshold"],
        long_threshold=search["long_threshold"],
    )
    return policy, {"thresholds": search}


# Judging


def evaluate(
    predictions: pd.DataFrame,
    data: TrainingData,
    config: Config,
    *,
    policy: ReturnPolicy,
    choice: Mapping[str, Any],
) -> dict[str, Any]:
    """Returns the results of each part of a predictions table, ready for JSON.

    References of the squared-error skill: persistence (a return of 0, today's price),
    the mean of the training part, and the mean of the trailing seven days that is
    known at each target.

    Args:
        predictions: From `add_signals`.
        data: The same data.
        config: The same run.
        policy: From `fit_policy`.
        choice: From `fit_policy`.

    Returns:
        `verdict` (three lines), `claims`, `warnings`, `target`, `unit`, `settings`,
        `target_scaler`, `train` (moments of its targets, basis points), `thresholds`,
        `target_over_time`,
        and for `validation` and `test` a mapping: the keys of
        `evaluation.evaluate_regression`, those of `RegressionJudge.skill` and `.signs`,
        `bins`, `errors`, `residuals`, `trading`, `baselines`, `comparisons`.
    """
    boosted, boosted_choice = None, None
    if config.baseline_model:
        boosted, boosted_choice = _boosted_table(predictions, data, config)
    scores = classes.evaluate_regression(
        predictions,
        target=data.target,
        horizon_bars=data.future_window,
        seed=config.seed,
    )
    results: dict[str, Any] = {
        "target": data.target,
        "unit": UNITS[data.target],
        "settings": classes.describe_settings(data, config) | _loss_settings(config),
        "target_scaler": policy.scaler.to_dict(),
        "train": data.return_moments(data.parts["train"].targets)
        | {"num_targets": len(data.parts["train"].targets)},
        **choice,
        "target_over_time": target_over_time(data),
    }
    for part, table in predictions.groupby("part", observed=True, sort=False):
        judge = RegressionJudge(str(part), table, data, config)
        judge.add_forecasts(boosted)
        found = scores[str(part)]
        skill = judge.skill()
        found["intervals"] |= skill.pop("intervals")
        signs = judge.signs()
        found["intervals"] |= signs.pop("intervals")
        results[str(part)] = {
            "target": data.target,
            "first": table["timestamp"].iloc[0],
            "last": table["timestamp"].iloc[-1],
            **found,
            **skill,
            **signs,
            "bins": judge.bins(),
            "errors": judge.errors(),
            "residuals": judge.residuals(),
            "trading": judge.trades(table, choice["thresholds"]["num_tried"]),
            "baselines": judge.baselines(boosted, boosted_choice),
            "comparisons": judge.comparisons(),
        }
    return verdict.add_verdict(to_jsonable(results))


def _loss_settings(config: Config) -> dict[str, Any]:
    """Returns what decides what a prediction means: mean, quantile or position."""
    is_quantile = config.used_losses == ("quantile",)
    return {
        "loss": config.loss,  # None: the family's own
        "reads": config.loss_traits.y_true,
        "quantile": config.quantile if is_quantile else None,
    }


def _boosted_table(
    predictions: pd.DataFrame, data: TrainingData, config: Config
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Returns the same table as a gradient-boosting model would have made it."""
    model = GradientBoosting(seed=config.seed).fit(data)
    outputs = {
        str(part): model.predict_values(data, table["row"].to_numpy())
        for part, table in predictions.groupby("part", observed=True, sort=False)
    }
    table = predictions_table(data, outputs)
    policy, choice = fit_policy(table, data, config)
    return add_signals(table, policy), choice


def target_over_time(data: TrainingData) -> dict[str, Any]:
    """Returns quantiles of the log returns of all targets, in stretches of time.

    Returns:
        `time` (start of each stretch), `quantiles_bps` by percent, and `parts`: where
        each part starts.
    """
    rows = np.concatenate([part.targets for part in data.parts.values()])
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
            name: f"{data.timeline.at(part.start).astype('datetime64[s]')}Z"
            for name, part in data.parts.items()
        },
    }
