"""Finished runs, read to be compared: what they are called, what stands for one.

In: a published run's own report and predictions, verified. Out: who is better
(`comparison`, `ranking`), judging a model on other rows (`evaluations`).
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from artifacts.registry import open_model
from candles.timestamps import nanoseconds_of
from config import Config
from evaluation.evaluate import task_of_results
from evaluation.task import Task
from evaluation.trials import NO_CHOICE
from experiments.candidates import QUESTION
from files import tables
from files.strict import read_json, sha256_json

NO_FORECASTS = "the outputs are positions, and models are compared by forecasts"
_LONGEST_NAME = 60


@dataclass(frozen=True, kw_only=True)
class FinishedRun:
    """A published run: what its metadata and its report say, the model file's size."""

    folder: Path
    config: Config
    metadata: Mapping[str, Any]
    results: Mapping[str, Any]
    model_bytes: int
    label: str = ""
    """What a sweep calls its settings."""

    @property
    def has_positions(self) -> bool:
        """Whether its outputs are positions, which no loss of forecasts compares."""
        return self.config.loss_traits.y_true == "return"

    @property
    def task(self) -> Task[Any, Any]:
        """What its model was asked for."""
        return task_of_results(self.results)

    def lightened(self, *, label: str) -> FinishedRun:
        """Returns the run by another label, and without most tables and all curves."""
        test, validation = (self.results[part] for part in ("test", "validation"))
        trading = _numbers_of(test["trading"], ("intervals", "daily"))
        results = {
            **_numbers_of(self.results, ("train_prior",)),
            "validation": _numbers_of(validation),
            "test": _numbers_of(test, ("intervals", "length")) | {"trading": trading},
        }
        return dataclasses.replace(self, results=results, label=label)

    def read_part(
        self, part: str = "test", *, has_reference: bool = False
    ) -> dict[str, np.ndarray]:
        """Returns columns of a part's predicted rows (num_rows,), with their `loss`.

        `time` (ns since 1970), `truth` (class or number), `loss`: log-loss of the raw
        probabilities, or the squared error; where it is wanted, that of the `reference`
        of skill.
        """
        path = self.folder / self.metadata["files"]["predictions"]
        columns = tables.open_table(path)

        def numbers(name: str) -> np.ndarray:
            return columns.read(name).to_numpy()[is_inside]

        is_inside = columns.read("part").to_numpy() == part
        truth, loss = self.task.truth_and_losses(numbers)
        moments = columns.read("timestamp").to_pandas()[is_inside]
        times = nanoseconds_of(moments)
        table = {"time": times, "truth": truth, "loss": loss}
        if has_reference:
            known = self.task.reference_losses(truth, self.results, numbers)
            table["reference"] = known
        return table


def _numbers_of(tree: Mapping[str, Any], kept: Sequence[str] = ()) -> dict[str, Any]:
    """Returns what is no table, and those that are `kept`."""
    return {
        key: value
        for key, value in tree.items()
        if key in kept or not isinstance(value, Mapping | list)
    }


def read_run(where: str | os.PathLike[str]) -> FinishedRun:
    """Reads a published run, by its folder or the name it is registered by.

    Raises:
        MissingInputError: If there is none.
        RefusedArtifactError: If a file is not what its manifest says.
    """
    artifact = open_model(where)
    folder = artifact.path
    return FinishedRun(
        folder=folder,
        config=artifact.config,
        metadata=artifact.metadata,
        results=read_json(folder / "confusion_matrix_report.json"),
        model_bytes=artifact.files[artifact.metadata["files"]["model"]]["bytes"],
    )


def name_models(runs: Sequence[FinishedRun]) -> list[str]:
    """Returns the name of each run's model: its family, and what tells it from others.

    That is its label, or the fields in which runs of one family differ in some market,
    without those of the seed and of where things lie.
    """
    configs = [run.config.to_dict() for run in runs]
    seen: dict[tuple[str, ...], dict[str, set[str]]] = {}
    for config in configs:
        alike = tuple(str(config.get(key)) for key in ("model", *QUESTION))
        fields = seen.setdefault(alike, {})
        for key, value in config.items():
            if key not in NO_CHOICE and key != "seed":
                fields.setdefault(key, set()).add(_told(value))
    different: dict[str, dict[str, None]] = {}
    for (family, *_), fields in seen.items():
        named = different.setdefault(family, {})
        named |= {key: None for key, values in fields.items() if len(values) > 1}
    return [
        f"{run.config.model} {run.label}"
        if run.label
        else _name(config, different[run.config.model])
        for run, config in zip(runs, configs, strict=True)
    ]


def _name(config: Mapping[str, Any], different: Iterable[str]) -> str:
    values = {key: _told(config.get(key)) for key in different}
    told = ", ".join(f"{key} {value}" for key, value in values.items())
    if len(told) > _LONGEST_NAME:
        told = f"{told[: _LONGEST_NAME - 12]}... {sha256_json(values)[:8]}"
    return f"{config['model']} {told}".strip()


def _told(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def by_name(
    runs: Sequence[FinishedRun], model_ids: Sequence[str]
) -> dict[str, FinishedRun]:
    """Returns runs by family; where these are alike, by settings, seed or id, too."""
    families, models = [run.config.model for run in runs], name_models(runs)
    pairs = zip(models, runs, strict=True)
    seeds = [f"{name} seed {run.config.seed}" for name, run in pairs]
    for names in (families, models, seeds):
        if len({*names}) == len(runs):
            return dict(zip(names, runs, strict=True))
    return dict(zip(model_ids, runs, strict=True))


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
