"""Several runs of one configuration, judged on the same test rows.

In: which models can be compared, the proof that they answered for the same rows, who is
best and how sure that is. Out: training one after another (`series`), the scores of one
run (`evaluation.evaluate`), showing the comparison
(`reports.comparison`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import utils
from artifacts.artifact import load_artifact
from candles.timestamps import nanoseconds_of
from config import Config
from evaluation.evaluate import task_of_results
from evaluation.task import Task
from experiments.series import Outcome, Train, new_folder, require_success, train_all
from files import tables
from files.strict import read_json, to_jsonable
from metrics import significance
from metrics.intervals import Length, paired_test
from models.families import create_adapter
from reports import comparison as comparison_report

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class FinishedRun:
    """A published run: what its metadata and its report say, the model file's size."""

    folder: Path
    config: Config
    metadata: Mapping[str, Any]
    results: Mapping[str, Any]
    model_bytes: int

    @property
    def task(self) -> Task[Any, Any]:
        """What its model was asked for."""
        return task_of_results(self.results)

    def read_part(self, part: str = "test") -> dict[str, np.ndarray]:
        """Returns columns of a part's predicted rows (num_rows,), with their `loss`.

        `time` (ns since 1970), `truth` (class or number), and `loss`: log-loss
        of the raw probabilities, or the squared error.
        """
        path = self.folder / self.metadata["files"]["predictions"]
        columns = tables.open_table(path)

        def numbers(name: str) -> np.ndarray:
            return columns.read(name).to_numpy()[is_inside]

        is_inside = columns.read("part").to_numpy() == part
        truth, loss = self.task.truth_and_losses(numbers)
        moments = columns.read("timestamp").to_pandas()[is_inside]
        times = nanoseconds_of(moments)
        return {"time": times, "truth": truth, "loss": loss}


def read_run(folder: Path) -> FinishedRun:
    """Reads a published run.

    Raises:
        RefusedArtifactError: If a file is not what its manifest says.
    """
    artifact = load_artifact(folder)
    return FinishedRun(
        folder=folder,
        config=artifact.config,
        metadata=artifact.metadata,
        results=read_json(folder / "confusion_matrix_report.json"),
        model_bytes=artifact.files[artifact.metadata["files"]["model"]]["bytes"],
    )


# Training


def model_configs(config: Config, models: Sequence[str]) -> dict[str, Config]:
    """Returns the run of each model, by its name; nothing is trained yet.

    Raises:
        ConfigError: Listing every model that cannot be trained or compared.
    """
    problems = []
    if len(set(models)) < max(2, len(models)):
        problems.append(
            f"expected two models or more, each once. Received: {' '.join(models)}"
        )
    if config.loss_traits.y_true == "return":
        problems.append(
            "loss: expected one of forecasts, because models are compared by the loss "
            f"of their forecasts. Received: {config.resolved_loss!r}, whose outputs "
            "are positions"
        )
    configs = {}
    for name in dict.fromkeys(models):
        try:
            configs[name] = config.replace(model=name)
            create_adapter(configs[name])
        except (utils.ConfigError, utils.DependencyError) as error:
            lines = str(error).splitlines()
            listed = [x[4:] for x in lines if x.startswith("  - ")] or lines
            problems += [f"{name}: {line}" for line in listed]
    if problems:
        lines = [f"  - {problem}" for problem in problems]
        raise utils.ConfigError("\n".join(["these cannot be compared:", *lines]))
    return configs


def compare_models(
    config: Config, models: Sequence[str], *, train: Train
) -> dict[str, Any]:
    """Trains models one after another, each as an ordinary run, and compares them.

    See `model_configs` for what is refused, `compare_runs` for what is returned.

    Example:
        >>> train = lambda config: StandaloneTrainer(config).run_training()
        >>> found = compare_models(config, ["lstm", "lightgbm"], train=train)
        >>> print(comparison_report.format_comparison(found))
    """
    configs = model_configs(config, models)
    return compare_runs(train_all(configs, train, fatal=(OSError, utils.DataError)))


# Comparing


def compare_runs(outcomes: Mapping[str, Outcome]) -> dict[str, Any]:
    """Compares finished runs row by row of their test parts.

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
                f"one, or the same after a change. {_cure(runs, known[0], name)}"
            )


def _cure(runs: Mapping[str, FinishedRun], first: str, second: str) -> str:
    return (
        f"One of {runs[first].folder} and {runs[second].folder} was trained on other "
        "data: compare again, without --resume."
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
            raise utils.DataError(
                f"{name}: expected the {len(first['time']):,} test rows of "
                f"{first_name}. Received: {len(table['time']):,} rows that differ in "
                f"{', '.join(different)}. {_cure(runs, first_name, name)}"
            )


def summarise_run(run: FinishedRun) -> dict[str, Any]:
    """Returns what stands for a run beside others: its test part, its cost.

    Returns:
        `loss`; an interval for each of `Task.measures`; `direction_p_value`;
        `trading` (the number of trades, an interval of the net return a trade, total
        return; or why there are none); `training_seconds`, `is_resumed` (then of its
        last process alone); `parameters`, `model_bytes`; `cross_validation` (mean and
        spread of the folds; None without any); `folder`.
    """
    test, task = run.results["test"], run.task
    training = run.metadata["training"]
    trades = test["trading"]
    earned = {"skipped": trades.get("skipped")}
    if "skipped" not in trades:
        keys = ("num_trades", "mean_net_return_bps", "total_return_pct")
        net = _three(trades["intervals"]["mean_net_return_bps"])
        earned = {key: trades[key] for key in keys} | {"mean_net_return_bps": net}
    folds = run.results.get("cross_validation")
    if folds is not None:
        kept = (task.measures["skill"], "accuracy", "sign_accuracy")
        folds = {
            key: {part: folds["metrics"][key][part] for part in ("mean", "std")}
            for key in kept
            if key in folds["metrics"]
        }
    return {
        "folder": run.folder,
        "loss": task.mean_loss(test),
        **{name: _three(test["intervals"][key]) for name, key in task.measures.items()},
        "direction_p_value": test[task.p_value],
        "trading": earned,
        "training_seconds": training["seconds"],
        "is_resumed": bool(training["resumes"]),
        "parameters": run.metadata["model"]["total_parameters"],
        "model_bytes": run.model_bytes,
        "cross_validation": folds,
    }


def _three(found: Mapping[str, Any]) -> dict[str, Any]:
    return {key: found[key] for key in ("estimate", "low", "high")}


# Files


def run_command(
    config: Config,
    models: Sequence[str],
    *,
    train: Train,
    dry_run: Callable[[Config], None] | None = None,
) -> Path | None:
    """Trains, compares, writes and prints; returns the folder of the comparison.

    Given a `dry_run` it prints what each run would do instead, and returns None.

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
    with utils.StopSignals():
        comparison = compare_models(config, models, train=train)
    folder = new_folder(config, "comparisons")
    comparison_report.write_comparison(folder, comparison)
    logger.info("\n%s", comparison_report.format_comparison(comparison))
    logger.info("comparison: %s", folder)
    require_success(comparison["models"])
    return folder
