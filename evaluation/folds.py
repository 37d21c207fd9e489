"""Cross-validated runs: each fold trained and scored, and what they say together.

In: the folds of a run one after another, the summary of their results. Out: the rows of
each fold (`preprocessing.parts`), the run (`trainer`).
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import utils
from artifacts import metadata
from artifacts.run_folder import RunFolder
from config import Config, build_config
from data_loader import TrainingData, TrainingDataLoader
from dataset.training_file import Rows
from evaluation.backtest import backtest_part, daily_net, trading_problem
from evaluation.evaluate import judge, predictions_table, task_of
from evaluation.part_scores import Judged
from evaluation.policies import Policy, policy_from_dict
from evaluation.results import HEADLINES
from evaluation.trials import looks_planned, planned_looks
from executors.kinds import open_executor
from executors.tasks import Task, do_all
from executors.worker import GRACE_SECONDS
from files import tables
from files.progress import track
from files.strict import read_json, to_jsonable, write_json
from metrics.intervals import Length, cosine_interval
from models import costs
from models.adapter import ModelAdapter
from models.families import fit_adapter
from preprocessing.parts import (
    Ranges,
    create_splitter,
    development_targets,
    fold_ranges,
)
from preprocessing.shared_bars import count_lookback_rows
from preprocessing.splits import CombinatorialPurgedSplit
from settings.data_fields import NO_FOLDS

logger = logging.getLogger(__name__)

_NEVER_RETRAINED = ("never_retrained", ".parquet")


def train_folds(
    run: RunFolder,
    folds: Sequence[Ranges],
    rows: Rows | None,
    parallel_folds: int | None = None,
) -> list[dict[str, Any]]:
    """Trains and scores each fold; one that an earlier process finished stays.

    Args:
        run: The run, with a folder of its own for each fold.
        folds: Row ranges of the parts of each.
        rows: What all folds are cut from; None reads the file for each.
        parallel_folds: As many side by side, each in a process of its own, which reads
            the file; None: one after another, in this one.

    Returns:
        The results of each; their `test` is the fold's test block.

    Raises:
        DataError: If the rows of a fold cannot be learned from; it names the fold.
        ConfigError: If there is no file that other processes could read.
    """
    if parallel_folds is not None:
        _train_side_by_side(run, folds, rows, parallel_folds)
    results = []
    for number in track(range(1, len(folds) + 1), "fold", len(folds)):
        logger.info("fold %d of %d", number, len(folds))
        _finish_fold(run, folds, number, rows)
        results.append(read_json(_results_of(run, number)))
    return results


def _results_of(run: RunFolder, number: int) -> Path:
    return run.fold(number).path / "results.json"


def _finish_fold(
    run: RunFolder, folds: Sequence[Ranges], number: int, rows: Rows | None
) -> None:
    """Trains a fold, unless that is done."""
    if _results_of(run, number).is_file():
        return
    try:
        found = train_fold(run, folds, number, rows)
    except utils.DataError as error:
        text = f"fold {number} of {len(folds)}: {error}"
        raise utils.DataError(text) from error
    write_json(_results_of(run, number), found)  # last: a fold with it is done
    utils.return_freed_memory(collect=True)


def _train_side_by_side(
    run: RunFolder, folds: Sequence[Ranges], rows: Rows | None, parallel_folds: int
) -> None:
    source = {} if rows is None else rows.source
    if source.get("path") is None:
        raise utils.ConfigError(
            "parallel folds: expected a training file, which each process reads. "
            "Received: a table in memory. Write it into a file, or train folds one "
            "after another."
        )
    memory = costs.rough_memory(run.config, *rows.features.shape) if rows else 0
    values = {
        "config": run.config.to_dict(),
        "run_id": run.run_id,
        "folds": to_jsonable(folds),
        "sha256": source["sha256"],
        "planned": looks_planned(),
    }
    tasks = [
        Task(
            name=f"fold {number}",
            function="evaluation.folds:fold_task",
            values=values | {"number": number},
            num_threads=run.config.num_threads,
            memory_bytes=memory,
        )
        for number in range(1, len(folds) + 1)
        if not _results_of(run, number).is_file()
    ]
    executor = open_executor(
        "processes", max_workers=parallel_folds, log_folder=run.fold(1).path.parent
    )
    with executor:
        for ended in track(do_all(executor, tasks), "fold", len(tasks)):
            if ended.error is not None:
                failure = utils.UserError(ended.error)
                failure.exit_code = ended.exit_code
                raise failure


def fold_task(values: Mapping[str, Any]) -> dict[str, Any]:
    """Trains a fold in a worker.

    Args:
        values: `config` and `run_id` of the run, `folds`, the `number` of one of them,
            `sha256` of the training file, and `planned`, see `trials.planned_looks`.

    Raises:
        InUseError: If another process still trains it.
        DataError: If the training file is another one by now.
    """
    run = RunFolder(build_config(values["config"]), values["run_id"])
    folder = run.fold(values["number"])
    folder.path.mkdir(parents=True, exist_ok=True)
    # The worker of a driver that was killed has a minute to save what it has.
    if not folder.lock(patience_seconds=2 * GRACE_SECONDS):
        raise folder.in_use()
    rows = TrainingDataLoader(config=run.config).read_rows()
    if rows.source["sha256"] != values["sha256"]:
        raise utils.DataError(
            f"{rows.source['path']}: expected the training file that the run began "
            "with. Received: another one, or the same after a change. Bring it back, "
            "or start without --resume."
        )
    with planned_looks(values["planned"]):
        _finish_fold(run, values["folds"], values["number"], rows)
    return {}


def train_fold(
    run: RunFolder, folds: Sequence[Ranges], number: int, rows: Rows | None
) -> dict[str, Any]:
    """Trains one fold, counted from 1, as a run of its own; returns its results."""
    folder, parts = run.fold(number), folds[number - 1]
    config = run.config.replace(**NO_FOLDS)
    loader = TrainingDataLoader(config=config)
    data = loader.load_training_data(parts, rows=rows)
    logger.info("%s", metadata.format_data(data, config))
    adapter = fit_adapter(config, data, folder)
    _, results = judge(folder, data, adapter)
    if number == 1 and config.cv != "combinatorial":
        tested = {**parts, "test": [each["test"] for each in folds]}
        later = loader.load_training_data(tested, rows=rows)
        keep_never_retrained(folder, later, adapter)
    if run.config.keep_folds:
        metadata.save_run(folder, data, adapter)
        folder.keep()
    return {**results, "lookback_rows": count_lookback(data)}


def out_of_fold(run: RunFolder, num_folds: int) -> pd.DataFrame:
    """Keeps what the folds said of their tests in one file; returns it."""
    parts = []
    for number in range(1, num_folds + 1):
        table = pd.read_parquet(run.fold(number).file("predictions", ".parquet"))
        table = table[table["part"] == "test"].drop(columns="part")
        parts.append(table.assign(fold=number))
    table = pd.concat(parts, ignore_index=True)
    tables.write_parquet(run.file("oof_predictions", ".parquet"), table)
    return table


def gather(
    run: RunFolder,
    table: pd.DataFrame,
    results: Sequence[Mapping[str, Any]],
    data: TrainingData,
) -> dict[str, Any]:
    """Returns the folds' summary.

    It has `trading`, what the trades of all folds came to in one simulation, and, of
    its first model alone, `never_retrained`, with the interval of what retraining
    gained (`gain_bps_per_day`). Combinatorial folds have `paths` instead,
    what `summarise` says of them, and `lookback_rows` each.

    Args:
        run: The run, with a folder of its own for each fold.
        table: From `out_of_fold`.
        results: Each fold's results; their `test` is the fold's test block.
        data: Of the run.
    """
    config, ranges = run.config, fold_ranges(data.timeline, run.config)
    summary: dict[str, Any] = {
        "cv": config.cv,
        "num_folds": len(results),
        "metrics": summarise([headline(item["test"], HEADLINES) for item in results]),
        "folds": [
            {key: item["test"][key] for key in ("first", "last", "num_samples")}
            | {"verdict": item["verdict"], "rows": rows}
            for item, rows in zip(results, ranges, strict=True)
        ],
    }
    splitter = create_splitter(config)
    policy = policy_from_dict(read_json(run.fold(1).file("calibrator", ".json")))
    if not isinstance(splitter, CombinatorialPurgedSplit):
        fixed = pd.read_parquet(run.fold(1).file(*_NEVER_RETRAINED))
        summary |= {
            "trading": _earned(table, policy, data, config),
            "never_retrained": {
                "trading": _earned(fixed, policy, data, config),
                "intervals": _gains(table, fixed, policy, data, config),
            },
        }
    else:
        for fold, item in zip(summary["folds"], results, strict=True):
            fold["lookback_rows"] = item["lookback_rows"]
        summary["paths"] = summarise(
            [
                headline(to_jsonable(_judge(path, policy, data, config)), HEADLINES)
                for path in paths_of(
                    table, splitter, development_targets(data.timeline, config)
                )
            ]
        )
    return summary


def keep_never_retrained(
    folder: RunFolder, data: TrainingData, adapter: ModelAdapter
) -> None:
    """Keeps what the model and the policy of the first fold say of every fold's test.

    Args:
        folder: Of the first fold, judged.
        data: Scaled as the first fold's, its `test` all of the folds' tests.
        adapter: The first fold's model.
    """
    policy = policy_from_dict(read_json(folder.file("calibrator", ".json")))
    outputs = {"test": adapter.predict_rows(data, data.parts["test"].targets)}
    table = policy.add_signals(predictions_table(data, outputs))
    tables.write_parquet(folder.file(*_NEVER_RETRAINED), table.drop(columns="part"))


def _earned(
    table: pd.DataFrame, policy: Policy, data: TrainingData, config: Config
) -> dict[str, Any]:
    """Returns what the signals of all folds came to, one position at a time."""
    table = table.assign(part="test")
    scores = policy.scores(policy.answers_of(table))
    return backtest_part(table, scores, data, config, num_trials=1)


def _gains(
    table: pd.DataFrame,
    fixed: pd.DataFrame,
    policy: Policy,
    data: TrainingData,
    config: Config,
) -> dict[str, Any]:
    """Returns what a day earned more than without retraining, with its interval."""
    if trading_problem(table):
        return {}
    days = [
        daily_net(each, policy.scores(policy.answers_of(each)), data, config)
        for each in (table, fixed)
    ]
    count = max(map(len, days))  # a last trade may end on another day
    ours, theirs = (np.pad(each, (0, count - len(each))) for each in days)
    length = Length.of(
        len(table), horizon_bars=data.future_window, bar_seconds=config.bar_seconds
    )
    found = cosine_interval(1e4 * (ours - theirs), length=length)
    return {"gain_bps_per_day": found}


def count_lookback(data: TrainingData) -> int | None:
    """Returns how many training targets of a fold saw bars of its test as inputs.

    None where nothing says how far the slowest feature of the file looks back.
    """
    known = data.source.get("warm_up_bars")
    if known is None:
        return None
    return count_lookback_rows(
        data.parts["train"].targets,
        data.parts["test"].targets,
        lookback_bars=known,
        window_bars=data.window_bars,
        future_window=data.future_window,
    )


def paths_of(
    table: pd.DataFrame, splitter: CombinatorialPurgedSplit, num_targets: int
) -> list[pd.DataFrame]:
    """Returns the out-of-fold predictions of each backtest path, in time order.

    A path has every block once, each as one of the folds that tested it predicted it.

    Args:
        table: Predictions of all folds, with the number of the `fold`, from 1.
        splitter: What made the folds.
        num_targets: Target rows that it split.
    """
    blocks = splitter.get_block_ranges(num_targets)
    return [
        pd.concat(
            [
                table[(table["fold"] == fold + 1) & table["row"].between(a, b - 1)]
                for fold, (a, b) in zip(path, blocks, strict=True)
            ],
            ignore_index=True,
        ).assign(part="test")
        for path in splitter.get_paths()
    ]


def _judge(
    path: pd.DataFrame,
    policy: Policy,
    data: TrainingData,
    config: Config,
) -> dict[str, Any]:
    """Scores a path as a test part; signals and calibration are those of its folds."""
    judged = Judged(table=path, policy=policy, choice={})
    return task_of(data.target).part_scores(judged, data, config).results()


def headline(result: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """Returns the named numbers of a part's results, and those of its trades."""
    trades = result.get("trading") or {}
    chosen = {name: result[name] for name in names if name in result}
    return chosen | {
        f"trading_{name}": value
        for name, value in trades.items()
        if value is None or isinstance(value, int | float)
    }


def summarise(results: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Returns mean, spread and every fold's value of each number the folds share.

    Args:
        results: Each fold's results of its test block.

    Returns:
        For each metric: `mean`, `std` (sample standard deviation; None for one fold)
        and `folds`, the values in order. None counts as not measured.
    """
    summary = {}
    for name in dict.fromkeys(name for fold in results for name in fold):
        values = [fold.get(name) for fold in results]
        known = [value for value in values if value is not None]
        if not known or not all(_is_number(value) for value in known):
            continue
        summary[name] = {
            "mean": float(np.mean(known)),
            "std": float(np.std(known, ddof=1)) if len(known) > 1 else None,
            "folds": values,
        }
    return summary


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | np.number) and not isinstance(value, bool)
