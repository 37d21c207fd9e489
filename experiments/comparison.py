"""Several runs of one configuration, judged on the same test rows.

In: which models can be compared, the proof that they answered for the same rows, who is
best and how sure that is. Out: training one after another (`series`), the scores of one
run (`evaluation.evaluate`), showing the comparison
(`reports.comparison`).
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import utils
from config import Config
from executors.tasks import Executor
from experiments.candidates import (
    QUESTION,
    TEST_ROWS,
    differences,
    require_one_question,
)
from experiments.finished import (
    NO_FORECASTS,
    FinishedRun,
    by_name,
    read_run,
    summarise_run,
)
from experiments.series import (
    Outcome,
    Train,
    new_folder,
    open_workers,
    require_success,
    share_cores,
    train_all,
)
from files.strict import to_jsonable
from metrics import significance
from metrics.intervals import Length, paired_test
from models.families import create_forecaster
from reports import comparison as comparison_report

logger = logging.getLogger(__name__)

_CURE = (
    "Train again on the same rows, without --resume, or judge finished models on those "
    "that all can be judged on: python -m experiments evaluate MODEL MODEL CANDLES"
)


# Training


def model_configs(
    config: Config, models: Sequence[str] | Mapping[str, Config]
) -> dict[str, Config]:
    """Returns the run of each model, by its name; nothing is trained yet.

    Args:
        config: The run that families have in common.
        models: Families, or runs by name.

    Raises:
        ConfigError: Listing every model that cannot be trained or compared.
    """
    runs = models if isinstance(models, Mapping) else dict.fromkeys(models, config)
    problems = []
    if len(runs) < max(2, len(models)):
        problems.append(
            f"expected two models or more, each once. Received: {' '.join(models)}"
        )
    configs: dict[str, Config] = {}
    for name, run in runs.items():
        if run.loss_traits.y_true == "return":
            problems.append(
                f"{name}: loss: expected one of forecasts, because models are compared "
                f"by what these lose. Received: {run.resolved_loss!r}, whose outputs "
                "are positions"
            )
        try:
            own = run if isinstance(models, Mapping) else run.replace(model=name)
            create_forecaster(own, "a comparison")
        except (utils.ConfigError, utils.DependencyError) as error:
            lines = str(error).splitlines()
            listed = [x[4:] for x in lines if x.startswith("  - ")] or lines
            problems += [f"{name}: {line}" for line in listed]
            continue
        if twin := next((k for k, x in configs.items() if x == own), None):
            problems.append(f"{name}: expected other settings than those of {twin}")
        configs[name] = own
    problems += differences([*configs.items()], (*QUESTION, *TEST_ROWS))
    if problems:
        lines = [f"  - {problem}" for problem in problems]
        raise utils.ConfigError("\n".join(["these cannot be compared:", *lines]))
    return configs


def compare_models(
    config: Config,
    models: Sequence[str] | Mapping[str, Config],
    *,
    train: Train,
    executor: Executor | None = None,
) -> dict[str, Any]:
    """Trains models one after another, each as an ordinary run, and compares them.

    See `model_configs` for what is refused, `series.train_all` for an executor,
    `compare_runs` for what is returned.

    Example:
        >>> train = lambda config: StandaloneTrainer(config).run_training()
        >>> found = compare_models(config, ["lstm", "lightgbm"], train=train)
        >>> print(comparison_report.format_comparison(found))
    """
    configs = {
        name: share_cores(run, executor)
        for name, run in model_configs(config, models).items()
    }
    fatal = (OSError, utils.DataError)
    return compare_runs(train_all(configs, train, fatal=fatal, executor=executor))


# Comparing


def compare_runs(outcomes: Mapping[str, Outcome]) -> dict[str, Any]:
    """Compares runs that a series has trained, row by row of their test parts.

    Args:
        outcomes: How each run ended, by name; failed ones are listed as such.

    Returns:
        Ready for JSON: `loss` (its name), `test` (first, last, rows, length), `best`
        (None where no run finished), `num_samples`, and `models`, the best first: for
        each its scores (`summarise_run`), and in `against_best` the difference of the
        mean loss with its interval, `p_value`, and `adjusted_p_value` (Holm, over the
        finished models but the best).

    Raises:
        DataError: If two runs read other files, or answered for other rows.
    """
    runs = {
        name: read_run(outcome.folder)
        for name, outcome in outcomes.items()
        if outcome.folder is not None
    }
    _require_same_file(runs)
    comparison = compare_finished(runs)
    for entry in comparison["models"]:
        entry["run_seconds"] = round(outcomes[entry["model"]].seconds, 1)
    comparison["models"] += [
        {"model": name} | outcome.failure()
        for name, outcome in outcomes.items()
        if outcome.folder is None
    ]
    return to_jsonable(comparison)


def compare_finished(runs: Mapping[str, FinishedRun]) -> dict[str, Any]:
    """Compares runs, or evaluations, row by row of their test parts, by name.

    See `compare_runs`.
    """
    rows = {name: run.read_part() for name, run in runs.items()}
    _require_same_rows(rows, runs)
    order = sorted(rows, key=lambda name: float(rows[name]["loss"].mean()))
    models = [
        {"model": name, "status": "completed"}
        | summarise_run(runs[name])
        | {"against_best": None}
        for name in order
    ]
    comparison: dict[str, Any] = {"best": order[0] if order else None}
    if order:
        first = runs[order[0]]
        losses = [rows[name]["loss"] for name in order]
        length = Length(**first.results["test"]["length"])
        against = loss_tests(losses[1:], losses[0], length)
        for entry, found in zip(models[1:], against, strict=True):
            entry["against_best"] = found
        comparison |= {
            "loss": first.task.loss_name,
            "test": {
                key: first.results["test"][key]
                for key in ("first", "last", "num_samples", "length")
            },
        }
    return to_jsonable(comparison | {"models": models})


def loss_tests(
    losses: Iterable[np.ndarray], reference: np.ndarray, length: Length
) -> list[dict[str, Any]]:
    """Returns `paired_test` of each model's losses against those of one model.

    Args:
        losses: Loss of each row (num_rows,), of each of the others.
        reference: The same of the one.
        length: Of the rows.

    Returns:
        For each also `adjusted_p_value` (Holm, over all of them).
    """
    found = [paired_test(each, reference, length=length) for each in losses]
    adjusted = significance.adjust_p_values([each["p_value"] for each in found])
    for each, p_value in zip(found, adjusted, strict=True):
        each["adjusted_p_value"] = p_value
    return found


def _require_same_file(runs: Mapping[str, FinishedRun]) -> None:
    """Refuses runs of different files: equal test rows may have other features."""
    digests = {name: run.metadata["data"].get("sha256") for name, run in runs.items()}
    known = [name for name, digest in digests.items() if digest is not None]
    for name in known[1:]:
        if digests[name] != digests[known[0]]:
            raise utils.DataError(
                f"{name}: expected the training file of {known[0]}. Received: another "
                f"one, or the same after a change. {_CURE}"
            )


def _require_same_rows(
    rows: Mapping[str, Mapping[str, np.ndarray]], runs: Mapping[str, FinishedRun]
) -> None:
    """Refuses runs whose test rows, or what happened in them, differ."""
    for name, table in rows.items():
        first_name, first = next(iter(rows.items()))
        different = [
            key
            for key in ("time", "truth")
            if not np.array_equal(table[key], first[key])
        ]
        if different:
            pair = [(each, runs[each].config) for each in (first_name, name)]
            settings = [f"{x}. " for x in differences(pair, TEST_ROWS)]
            raise utils.DataError(
                f"{name}: expected the {len(first['time']):,} test rows of "
                f"{first_name}. Received: {len(table['time']):,} rows that differ in "
                f"{', '.join(different)}. {''.join(settings)}{_CURE}"
            )


# Files


def run_command(
    config: Config,
    models: Sequence[str] | Mapping[str, Config],
    *,
    train: Train,
    dry_run: Callable[[Config], None] | None = None,
    max_workers: int | None = None,
) -> Path | None:
    """Trains, compares, writes and prints; returns the folder of the comparison.

    Given a `dry_run` it prints what each run would do instead, and returns None;
    `max_workers` trains as many side by side.

    It has `comparison.json`, `comparison.csv` and `comparison.png`, in
    `{outputs_dir}/comparisons/{PAIR}/`.

    Raises:
        ConfigError: Before anything is trained, listing every problem.
        FailedRunsError: At the end, if a run failed.
    """
    if dry_run is not None:
        for each in model_configs(config, models).values():
            dry_run(each)
        return None
    with utils.StopSignals(), open_workers(max_workers) as executor:
        comparison = compare_models(config, models, train=train, executor=executor)
    folder = _write(config, comparison)
    require_success(comparison["models"])
    return folder


def compare_artifacts(
    paths: Sequence[str | os.PathLike[str]], *, outputs_dir: str | None = None
) -> Path:
    """Compares finished runs as they are, trains nothing; returns where it wrote.

    Args:
        paths: Published runs, or names of registered ones.
        outputs_dir: Where the comparison goes; None is that of the first run.

    Raises:
        MissingInputError: If there is no such run.
        RefusedArtifactError: If a file is not what its manifest says.
        ConfigError: If two answer different questions.
        DataError: If two answered for different test rows; it says what differs.
    """
    if len(paths) < 2:
        shown = " ".join(map(str, paths)) or "none"
        raise utils.ConfigError(f"expected two runs or more. Received: {shown}")
    runs = [read_run(path) for path in paths]
    ids = [run.folder.name for run in runs]
    require_one_question([(k, run.config) for k, run in zip(ids, runs, strict=True)])
    for run in runs:
        if run.has_positions:
            raise utils.ConfigError(f"{run.folder}: {NO_FORECASTS}.")
    place = outputs_dir or str(runs[0].folder.parents[3])
    named = by_name(runs, ids)
    return _write(runs[0].config.replace(outputs_dir=place), compare_finished(named))


def _write(config: Config, comparison: Mapping[str, Any]) -> Path:
    folder = new_folder(config, "comparisons")
    comparison_report.write_comparison(folder, comparison)
    logger.info("\n%s", comparison_report.format_comparison(comparison))
    logger.info("comparison: %s", folder)
    return folder
