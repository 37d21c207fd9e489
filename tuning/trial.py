"""One trial of a study: an ordinary run as far as its folds, without its test part.

In: training and judging folds before the test part, telling each epoch, stopping where
the study says so. Out: which point is tried (`study`), when and where (`tasks`).

A trial and its study speak through two files in the trial's folder, wherever either
runs: the trial appends a line an epoch, the study writes `prune`.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import utils
from artifacts import resuming, run_folder
from artifacts.run_folder import RunFolder
from config import Config, build_config
from data_loader import TrainingData, TrainingDataLoader, used_rows
from dataset.training_file import Rows
from evaluation.backtest import daily_net, trading_problem
from evaluation.evaluate import decide, predictions_table, task_of
from files.atomic import atomic_write, make_folder
from files.progress import track
from files.strict import read_json, to_json, write_json
from models.adapter import ModelAdapter
from models.families import fit_adapter
from preprocessing.parts import (
    Ranges,
    Timeline,
    chronological_ranges,
    fold_ranges,
    require_windows,
    spans_of,
)
from settings.data_fields import NO_FOLDS
from settings.network_fields import NETWORKS

OBJECTIVES = {
    "cv_log_loss": "mean out-of-fold loss",
    "val_log_loss": "mean loss on validation",
    "cv_net": "mean net return a day of the folds' tests, in basis points",
}
"""What a study goes by; the loss is the log-loss, of a number the squared error."""

VALUES = "values.jsonl"
PRUNE = "prune"
_DONE = "results.json"


class Pruned(Exception):  # noqa: N818 - no error: the study has seen enough
    """The study stops the trial."""


@dataclass(frozen=True, kw_only=True)
class TrialValues:
    """What a worker is given, ready for JSON.

    Attributes:
        folder: Of the trial, absolute.
        config: Every field of its run.
        objective: One of OBJECTIVES.
        window_bars: The longest window of the study: all trials are judged on the rows
            that it leaves.
        file_sha256: Of the training file that the study began with; None takes any.
    """

    folder: str
    config: Mapping[str, Any]
    objective: str
    window_bars: int
    file_sha256: str | None = None


def run_trial(values: dict[str, Any]) -> dict[str, Any]:
    """Does a trial; the function of its `Task`.

    Called again after its worker died, it goes on from its last checkpoint. However it
    ends, nothing is left that a resume would take, unless it was interrupted.

    Returns:
        `state`, complete or pruned; `value`, the objective, None where pruned; `folds`,
        what each came to; `file_sha256` of the training file.
    """
    given = TrialValues(**values)
    config = build_config({**given.config, "outputs_dir": given.folder})
    told = _Told(Path(given.folder))
    try:
        found = _judge(given, config, told)
    except Pruned:
        found = {"state": "pruned", "value": None, "folds": []}
    except Exception:
        shutil.rmtree(config.runs_dir, ignore_errors=True)
        raise
    shutil.rmtree(config.runs_dir, ignore_errors=True)
    return found


def _judge(given: TrialValues, config: Config, told: _Told) -> dict[str, Any]:
    rows = TrainingDataLoader(config=config).read_rows()
    digest = rows.source.get("sha256")
    if given.file_sha256 not in (None, digest):
        raise utils.DataError(
            f"{rows.source.get('path')}: expected the training file that the study "
            "began with. Received: another one, or the same after a change. Begin "
            "another study: --study NAME."
        )
    resume = "newest" if config.runs_dir.is_dir() else None
    run, is_new = resuming.open_run(config, resume)
    if is_new:
        write_json(run.path / run_folder.STATE, {"data": digest})
    try:
        folds = []
        parts = judged_parts(rows, config, given)
        for number in track(range(1, len(parts) + 1), "fold", len(parts)):
            done = run.fold(number).path / _DONE
            if not done.is_file():
                make_folder(done.parent)
                write_json(done, _judge_fold(run, number, parts, rows, given, told))
                utils.return_freed_memory(collect=True)
            folds.append(read_json(done))
    finally:
        run.unlock()
    is_of_rows = given.objective != "cv_net"
    weights = [each["num_rows"] if is_of_rows else 1 for each in folds]
    value = float(np.average([each["value"] for each in folds], weights=weights))
    return {
        "state": "complete",
        "value": value,
        "folds": folds,
        "file_sha256": digest,
    }


def judged_parts(rows: Rows, config: Config, given: TrialValues) -> list[Ranges]:
    """Returns the row ranges of the folds, or of the run itself for `val_log_loss`."""
    longest = config.replace(sequence_length=given.window_bars)
    times = rows.timestamps[used_rows(rows.timestamps, config)]
    timeline = Timeline.from_array(times, bar_seconds=config.bar_seconds)
    if given.objective == "val_log_loss":
        return [{**chronological_ranges(timeline, longest)}]
    folds = fold_ranges(timeline, longest)
    require_windows(folds, longest)
    return folds


def _judge_fold(
    run: RunFolder,
    number: int,
    folds: list[Ranges],
    rows: Rows,
    given: TrialValues,
    told: _Told,
) -> dict[str, Any]:
    """Trains a fold and returns what it came to: `value`, `num_rows`, `best_round`."""
    parts, config = folds[number - 1], run.config.replace(**NO_FOLDS)
    data = TrainingDataLoader(config=config).load_training_data(parts, rows=rows)
    callbacks = []
    if config.model in NETWORKS:
        from keras.callbacks import LambdaCallback

        def tell(epoch: int, logs: Mapping[str, Any]) -> None:
            step = (number - 1) * config.epochs + epoch + 1
            told.say(number, step, logs["val_loss"])

        callbacks.append(LambdaCallback(on_epoch_end=tell))
    adapter = fit_adapter(config, data, run.fold(number), callbacks=callbacks)
    if not callbacks:
        history = adapter.training_history()
        told.say(number, number, min(history.get("val_loss", history["loss"])))
    part = "validation" if given.objective == "val_log_loss" else "test"
    value, num_rows = _score(data, adapter, part, parts[part], given)
    return {
        "value": value,
        "num_rows": num_rows,
        "best_round": adapter.best_round,
    }


def _score(
    data: TrainingData,
    adapter: ModelAdapter,
    part: str,
    judged: Any,
    given: TrialValues,
) -> tuple[float, int]:
    """Returns the objective of a part, and on how many rows, those of every trial."""
    wanted = ("validation", part) if given.objective == "cv_net" else (part,)
    outputs = {
        name: adapter.predict_rows(data, data.parts[name].targets) for name in wanted
    }
    table, judge = predictions_table(data, outputs), None
    if given.objective == "cv_net":
        if problem := trading_problem(table):
            raise utils.DataError(f"objective cv_net: not judged, {problem}")
        judge = decide(data, outputs, adapter.config).of_part(part)
        table = judge.table
    rows = table["row"].to_numpy()
    is_judged = np.zeros(len(rows), bool)
    for start, stop in spans_of(judged):
        is_judged |= (start + given.window_bars - 1 <= rows) & (rows < stop)
    if judge is not None:
        days = daily_net(
            table[is_judged], judge.scores()[is_judged], data, adapter.config
        )
        return float(1e4 * days.mean()) if len(days) else 0.0, int(is_judged.sum())
    _, losses = task_of(data.target).truth_and_losses(lambda key: table[key].to_numpy())
    return float(losses[is_judged].mean()), int(is_judged.sum())


# What is said meanwhile


class _Told:
    """Appends what an epoch came to, and raises `Pruned` where the study says so.

    An epoch stands for all folds so far: the mean of the best loss of each.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._best: dict[int, float] = {}
        for line in read_values(folder):
            self._note(line["fold"], line["loss"])

    def _note(self, fold: int, loss: float) -> float:
        self._best[fold] = min(loss, self._best.get(fold, loss))
        return float(np.mean([*self._best.values()]))

    def say(self, fold: int, step: int, loss: float) -> None:
        """Tells the study a step, counted from 1 over all folds."""
        value = self._note(fold, float(loss))
        line = {"fold": fold, "step": step, "loss": float(loss), "value": value}
        with open(self._folder / VALUES, "a", encoding="utf-8") as stream:
            # A line that a killed worker left torn ends here.
            stream.write(f"\n{json.dumps(line)}\n")
        if _watcher is not None and _watcher[0] == os.getpid():
            _watcher[1]()
        if (self._folder / PRUNE).exists():
            raise Pruned


_watcher: tuple[int, Callable[[], None]] | None = None


@contextlib.contextmanager
def watched(look: Callable[[], None]) -> Iterator[None]:
    """Calls the study itself after an epoch of a trial that runs in its process."""
    global _watcher
    _watcher = (os.getpid(), look)
    try:
        yield
    finally:
        _watcher = None


def read_values(folder: Path) -> list[dict[str, Any]]:
    """Returns the whole lines that a trial has told so far."""
    path, found = folder / VALUES, []
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    for line in filter(None, text.split("\n")[:-1]):
        with contextlib.suppress(ValueError):
            found.append(json.loads(line))
    return found


def prune(folder: Path) -> None:
    """Tells a trial to stop after its epoch."""
    atomic_write(folder / PRUNE, to_json({}))
