"""A trained model -> its results: one aligned table in, numbers with references out.

In: predicting validation and test whole, choosing on validation, scoring both. Out:
what classes and numbers do not share (`classes`, `numbers`), formulas
(`metrics.scores`, `trading`), claims (`verdict`), text and pictures (`reports`).

Validation chose the calibrator and the thresholds, so its trades are marked
`in_sample`, and its calibrated numbers are cross-fitted.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd

from artifacts.run_folder import RunFolder
from config import CLASS_TARGETS, Config
from data_loader import TrainingData
from dataset.barriers import barrier_notes, usual_move_pct
from evaluation import thresholds, verdict
from evaluation.backtest import (
    position_sizes,
    trade_outcomes,
    trade_rules,
    trading_problem,
)
from evaluation.baselines import trained_outputs
from evaluation.classes import Classes
from evaluation.numbers import Numbers
from evaluation.part_scores import Judged
from evaluation.policies import Policy
from evaluation.results import Results, Settings, Trials
from evaluation.task import Task
from evaluation.trials import FIRST_LOOK, count_trials
from files import tables
from files.strict import to_jsonable, write_json
from metrics import wording
from models.adapter import ModelAdapter
from preprocessing.training_data import PairRows
from settings.tree_fields import TABULAR_MODELS


def task_of(target: str, quantiles: Sequence[float] = ()) -> Task[Any, Any]:
    """Returns how answers to a target are judged; see `config.TARGETS`."""
    return Classes() if target in CLASS_TARGETS else Numbers(target, quantiles)


def task_of_results(results: Mapping[str, Any]) -> Task[Any, Any]:
    """Returns the same for the results of a run."""
    return task_of(results.get("target", CLASS_TARGETS[0]))


def judge(
    run: RunFolder,
    data: TrainingData,
    adapter: ModelAdapter,
    *,
    calibrate_on: pd.DataFrame | None = None,
) -> tuple[Judged, Results[Any]]:
    """Predicts validation and test, chooses on validation, scores both.

    Writes `calibrator_{tag}.json` and `predictions_{tag}.parquet`.

    Args:
        run: Its folder.
        data: Arrays and parts.
        adapter: The trained model.
        calibrate_on: See `fit_policy`.

    Returns:
        What the model said, and the results of both parts.
    """
    outputs = {
        part: adapter.predict_rows(data, data.parts[part].targets)
        for part in ("validation", "test")
    }
    model = decide(data, outputs, adapter.config, calibrate_on=calibrate_on)
    more = adapter.more_columns(data, outputs)
    model = dataclasses.replace(model, table=model.table.assign(**more))
    write_json(run.file("calibrator", ".json"), model.policy.to_dict())
    tables.write_parquet(run.file("predictions", ".parquet"), model.table)
    trials = count_trials(data, adapter.config)
    notes = training_notes(adapter)
    said = adapter.said_by_parents(data, outputs)
    results = evaluate(
        model, data, adapter.config, trials=trials, notes=notes, parents=said
    )
    return model, results | to_jsonable(adapter.findings(data))


def training_notes(adapter: ModelAdapter) -> list[str]:
    """Returns whether training ended while its loss on validation still fell."""
    config, history = adapter.config, adapter.training_history()
    rounds = len(history[config.monitor])
    if rounds < 2 or adapter.best_round < rounds:
        return []
    verb = "rose" if config.monitor_mode == "max" else "fell"
    return [
        f"training ended while {config.monitor} still {verb}: the last of {rounds} "
        f"{'rounds' if config.model in TABULAR_MODELS else 'epochs'} was the best"
    ]


def decide(
    data: TrainingData,
    outputs: Mapping[str, np.ndarray],
    config: Config,
    *,
    calibrate_on: pd.DataFrame | None = None,
) -> Judged:
    """Returns what the outputs of a model mean, by what validation decides."""
    table = predictions_table(data, outputs, quantiles=config.quantiles)
    policy, choice = fit_policy(table, data, config, calibrate_on=calibrate_on)
    return Judged(table=policy.add_signals(table), policy=policy, choice=choice)


def predictions_table(
    data: TrainingData,
    outputs: Mapping[str, np.ndarray],
    *,
    quantiles: Sequence[float] = (),
) -> pd.DataFrame:
    """Returns one row for each predicted target, in time order.

    The same row number addresses timestamp, target, returns and predictions; nothing is
    paired by its position in another list. Of pooled pairs one after another, which
    `pair` names.

    Columns: `timestamp`, `row`, `part`; of classes `label` and `probability_*`; of
    numbers `actual` and `predicted`, log returns or prices, `quantile_*` where a model
    says several, and `known`, the close at the forecast, where the file has it; the
    outcomes.

    Args:
        data: Arrays and parts.
        outputs: For each part a model's outputs in the order of its targets:
            probabilities (num_targets, 3), or numbers in units of `data.values`
            (num_targets,), of quantiles (num_targets, num_quantiles).
        quantiles: Of a model that says several; others may be among the outputs.

    Raises:
        ValueError: If there are more or fewer outputs than targets, or one is NaN.
    """
    task, made = task_of(data.target, quantiles), []
    for part, values in outputs.items():
        rows = data.parts[part].targets
        columns = {
            "timestamp": pd.DatetimeIndex(data.timeline.at(rows), tz="UTC"),
            "row": rows.astype(np.int64),
            "part": pd.Categorical([part] * len(rows), categories=list(data.parts)),
        }
        if data.pairs:
            names = np.array([pair.name for pair in data.pairs])
            edges = [pair.start for pair in data.pairs]
            own = names[np.searchsorted(edges, rows, side="right") - 1]
            columns["pair"] = pd.Categorical(own, categories=names)
        outcomes = {
            name: column[rows]
            for name, column in data.outcomes.items()
            if name != "target"
        }
        made.append(pd.DataFrame(columns | task.columns(data, part, values) | outcomes))
    return pd.concat(made, ignore_index=True)


def fit_policy(
    predictions: pd.DataFrame,
    data: TrainingData,
    config: Config,
    *,
    calibrate_on: pd.DataFrame | None = None,
) -> tuple[Policy, dict[str, Any]]:
    """Learns on the validation part what turns outputs into answers and signals.

    Args:
        predictions: From `predictions_table`.
        data: The same data.
        config: The same run.
        calibrate_on: Out-of-fold predictions that teach the calibration, those which
            share no bar with validation: thresholds and calibrated scores of validation
            are then held out. None: validation itself teaches it.

    Returns:
        The policy, and how it came about: of classes `calibration` (method, rows, or
        the reason why there is none), and `thresholds` (see `search_thresholds`).
    """
    table = predictions[predictions["part"] == "validation"]
    task = task_of(data.target)
    if calibrate_on is None:
        policy, choice = task.learn_policy(table, data, config)
    else:
        reach = data.window_bars + data.future_window
        is_before = calibrate_on["row"] <= data.parts["validation"].targets[0] - reach
        policy, choice = task.learn_policy(calibrate_on[is_before], data, config)
        choice["calibration"]["fitted_on"] = "out-of-fold predictions"
    problem = trading_problem(predictions)
    if problem:
        statement = f"not searched: {problem}"
        skipped = {"statement": statement, "skipped": problem, "num_tried": 0}
        return policy, choice | {"thresholds": skipped}
    scores = policy.scores(policy.answers_of(policy.add_signals(table)))
    search = thresholds.search_thresholds(
        scores,
        trade_outcomes(table),
        rules=trade_rules(config),
        sizes=position_sizes(scores, data, table["row"].to_numpy(), config),
        objective=config.threshold_objective,
        turnover_penalty_bps=config.turnover_penalty_bps,
        min_trades=config.threshold_min_trades,
    )
    policy = dataclasses.replace(
        policy,
        uses_thresholds=True,
        short_threshold=search["short_threshold"],
        long_threshold=search["long_threshold"],
    )
    return policy, choice | {"thresholds": search}


def evaluate(
    model: Judged,
    data: TrainingData,
    config: Config,
    *,
    trials: Trials | None = None,
    notes: Sequence[str] = (),
    parents: Mapping[str, Mapping[str, np.ndarray]] = MappingProxyType({}),
) -> Results[Any]:
    """Returns the results of each part of what a model said, ready for JSON.

    Args:
        model: From `decide`.
        data: The same data.
        config: The same run.
        trials: How often the test part was looked at; None: never before.
        notes: What a reader has to know of the training.
        parents: Outputs of the models that it builds on, by name and part. Each is
            judged beside it, with thresholds of its own.
    """
    task, parts = task_of(data.target), model.table["part"].unique()
    others = dict(parents)
    has_training = len(data.parts["train"].targets) > 0
    if config.baseline_model and config.report == "full" and has_training:
        asked = [name for name in data.parts if name != "train"]
        others |= trained_outputs(data, asked, seed=config.seed)
    beside = {name: decide(data, said, config) for name, said in others.items()}
    settings = Settings(
        fee_bps=config.fee_bps,
        slippage_bps=config.slippage_bps,
        funding_bps_per_day=config.funding_bps_per_day,
        position_sizing=config.position_sizing,
        bar_seconds=config.bar_seconds,
        seed=config.seed,
        window_bars=data.window_bars,
        horizon_bars=data.future_window,
        confidence_pct=95.0,
    )
    trials = trials or FIRST_LOOK
    results = task.describe(data, config, settings, model.choice) | {"trials": trials}

    def scored(data: TrainingData, pair: PairRows | None = None) -> dict[str, Any]:
        return {
            part: task.part_scores(
                model.of_part(part, pair),
                data,
                config,
                beside={
                    name: each.of_part(part, pair) for name, each in beside.items()
                },
                num_trials=trials["num_trials"],
            ).results()
            for part in parts
        }

    results |= scored(data)
    if data.pairs:
        results["pairs"] = {
            pair.name: scored(data.of_pair(pair), pair) for pair in data.pairs
        }
    if parents and "test" in results:
        results["parents"] = _beside_parents(results["test"], list(parents), task)
    close, moves = data.outcomes.get("close"), list[float | None]()
    if close is not None:
        moves = [
            usual_move_pct(close[start:stop], data.future_window)
            for start, stop in data.parts["train"].spans
        ]
    known = [move for move in moves if move is not None]
    move_pct = sum(known) / len(known) if known else None
    notes = [*notes, *barrier_notes(config, move_pct)]
    return verdict.add_verdict(to_jsonable(results), task, notes=notes)


def _beside_parents(
    test: Mapping[str, Any], names: Sequence[str], task: Task[Any, Any]
) -> dict[str, Any]:
    """Returns how a model does on test beside the best of those that it builds on.

    Best on these very rows, so the choice favours the parent.
    """
    key = task.part_scores.loss_difference
    found = {name: test["comparisons"][name][key] for name in names}
    best = max(found, key=lambda name: found[name]["estimate"])
    estimate, p_value = (found[best][k] for k in ("estimate", "p_value"))
    if p_value is None:
        words = "test is too short to tell it from"
    elif p_value >= verdict.MAX_P_VALUE:
        words = "not told apart on test from"
    else:
        words = f"{'better' if estimate < 0 else 'worse'} on test than"
    beside = f"{task.loss_name} {estimate:+.3g}, {wording.p_value(p_value)}"
    return {
        "names": list(names),
        "best_on_test": best,
        "statement": f"{words} {task.baseline_names[best]}, the best there of those it "
        f"builds on: {beside}",
    }
