"""Tuning: a study of trials that never see the test part, and the run that it chose.

In: the winner and the default as ordinary runs, how sure it is that one is better. Out:
the search itself (`search`), showing it (`reports.tuning`).
"""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

import utils
from artifacts.resuming import find_resumable, run_identity
from artifacts.run_folder import MANIFEST
from candles.timestamps import nanoseconds_of
from config import Config
from evaluation.evaluate import task_of
from evaluation.part_scores import Judged
from evaluation.results import PairedTest, Tuning
from evaluation.trials import planned_trials, searched
from evaluation.verdict import MAX_P_VALUE
from executors.tasks import Executor
from experiments.comparison import read_run
from experiments.series import FailedRunsError, require_success, train_all
from files.strict import read_json, to_jsonable, write_json
from metrics.intervals import Length, paired_test
from models.families import create_forecaster
from trainer import train_run
from tuning.search import DEFAULT, Search, TuneConfig
from tuning.study import is_better
from tuning.trial import OBJECTIVES

SUMMARY = "tuning.json"
_RUNS = "runs.json"
"""Runs that a study has trained, by their identity."""
_TUNED = "tuned"


def tune(base: Config, options: TuneConfig, *, executor: Executor) -> dict[str, Any]:
    """Searches, then trains the winner and the default as ordinary runs.

    Args:
        base: The default: the run whose fields are searched.
        options: How.
        executor: Does the trials; entered already.

    Returns:
        `evaluation.results.Tuning`, with the `folders` of both runs: also in
        `tuning.json` in the folder of the study.

    Raises:
        ConfigError: If nothing can be searched, or the study to go on with is another.
        InUseError: If it is still going on.
        FailedRunsError: If the default failed, or every trial did.
        Interrupted: On SIGINT or SIGTERM, or where no trial ended in time; what is
            finished stays.
    """
    create_forecaster(base, "a study")
    search = Search(base, options, executor)
    with search:
        try:
            search.run()
        except utils.Interrupted as stop:
            executor.stop()
            raise utils.Interrupted(stop.signal_number, search.advice()) from None
        return _finish(search)


def _finish(search: Search) -> dict[str, Any]:
    """Trains the default and the winner, compares them, writes the summary."""
    trials, best = search.study.trials(), search.study.best()
    if best is None or search.default_value is None:
        failed = {x["error"]: x["exit_code"] for x in trials if x["error"]}
        if not failed:  # as the time limit of a sweep ends it
            raise utils.Interrupted(signal.SIGTERM, search.advice())
        lines = [f"  - {error}" for error in [*failed][:3]]
        text = "\n".join(["every trial failed:", *lines])
        raise FailedRunsError(text, failed.values())
    configs, maximizes = {DEFAULT: search.base}, search.options.maximizes
    if is_better(best["value"], search.default_value, maximizes=maximizes):
        configs[_TUNED] = search.base.replace(**best["fields"])
    folders: dict[str, Path] = {}

    def tell(config: Config, judged: Judged, results: Any) -> Tuning | None:
        """Says of the winner, while its report is made, how it was found."""
        if config != [*configs.values()][-1]:
            return None
        table, task = judged.of_part("test").table, task_of(config.target)
        _, losses = task.truth_and_losses(lambda name: table[name].to_numpy())
        rows = {"time": nanoseconds_of(table["timestamp"]), "loss": losses}
        return _summary(search, trials, best, rows, folders, results)

    def train_noted(config: Config) -> Path:
        folder = _train_once(search, config)
        folders[_TUNED if DEFAULT in folders else DEFAULT] = folder
        return folder

    looked = _distinct(search.base, trials)
    with planned_trials(looked), searched(tell):
        outcomes = train_all(configs, train_noted)
    require_success(
        [
            {"model": name, "status": "completed"} | (x.failure() if x.error else {})
            for name, x in outcomes.items()
        ]
    )
    winner = read_run(folders[[*configs][-1]])
    found = winner.results.get("tuning")
    # It may have been trained before, without a study or after fewer trials.
    if not (
        found
        and found["study"] == search.folder.name
        and len(found["trials"]) == len(trials)
    ):
        rows = winner.read_part()
        found = _summary(search, trials, best, rows, folders, winner.results)
    found = to_jsonable({**found, "folders": folders})
    write_json(search.folder / SUMMARY, found)
    return found


def _train_once(search: Search, config: Config) -> Path:
    """Trains a run of a study, goes on with it, or finds it published; notes it."""
    notes, key = search.folder / _RUNS, run_identity(config)
    known = read_json(notes) if notes.is_file() else {}
    if key in known and Path(known[key], MANIFEST).is_file():
        return Path(known[key])
    is_begun = search.is_begun and find_resumable(config, "newest", is_probe=True)
    folder = train_run(config, resume="newest" if is_begun else None)
    write_json(notes, known | {key: str(folder.absolute())})
    return folder


def _distinct(base: Config, trials: list[dict[str, Any]]) -> list[Config]:
    """Returns the runs that were tried, each once, as they would be trained."""
    found = {}
    for each in trials:
        with contextlib.suppress(utils.ConfigError):  # it failed by that
            config = base.replace(**each["fields"])
            found[run_identity(config)] = config
    return [*found.values()]


def _summary(
    search: Search,
    trials: list[dict[str, Any]],
    best: Mapping[str, Any],
    rows: Mapping[str, np.ndarray],
    folders: Mapping[str, Path],
    results: Any,
) -> Tuning:
    """Returns what is known of the search; `rows` are the winner's, of its test."""
    is_beaten = is_better(
        best["value"], search.default_value or 0.0, maximizes=search.options.maximizes
    )
    against = None
    if is_beaten and DEFAULT in folders:
        against = against_default(rows, folders[DEFAULT], search.base)
    changes = best["fields"] if is_beaten else {}
    is_shown = _is_shown(against, results)
    return {
        "study": search.folder.name,
        "objective": search.options.objective,
        "objective_words": OBJECTIVES[search.options.objective],
        "maximizes": search.options.maximizes,
        "num_counted": results["trials"]["num_trials"],
        "default_value": search.default_value,
        "best_value": best["value"],
        "best": best["number"] if is_beaten else None,
        "changes": changes,
        "defaults": {name: getattr(search.base, name) for name in changes},
        "trials": trials,  # type: ignore[typeddict-item]
        "importance": search.study.importance(),
        "against_default": against,
        "is_shown": is_shown,
        "statement": _statement(against, is_shown),
    }


def against_default(
    rows: Mapping[str, np.ndarray], folder: Path, base: Config
) -> PairedTest:
    """Returns the paired test of a winner's losses against the default's, on test.

    Args:
        rows: `time` and `loss` of the winner's test rows (num_rows,).
        folder: The default, published.
        base: The default.
    """
    default = read_run(folder).read_part()
    # Of another window the first rows differ.
    _, ours, theirs = np.intersect1d(rows["time"], default["time"], return_indices=True)
    length = Length.of(
        len(ours), horizon_bars=base.future_window, bar_seconds=base.bar_seconds
    )
    found = paired_test(rows["loss"][ours], default["loss"][theirs], length=length)
    return found  # type: ignore[return-value]


def _is_shown(against: PairedTest | None, results: Any) -> bool:
    """Whether test shows that the winner is better, and that it knows anything.

    To lose less than a default that knows nothing is no skill.
    """
    if against is None or against["p_value"] is None or against["estimate"] is None:
        return False
    is_less = against["estimate"] < 0 and against["p_value"] < MAX_P_VALUE
    return is_less and bool(results["claims"].get("skill"))


def _statement(against: PairedTest | None, is_shown: bool) -> str:
    """Returns what the test part says of the tuning, in words."""
    if against is None:
        return "no trial was better than the default, which is the winner"
    if is_shown:
        return "better than the default on the test part"
    if against["p_value"] is None or against["estimate"] is None:
        return "the test part is too short to tell it from the default"
    if against["estimate"] < 0 and against["p_value"] < MAX_P_VALUE:
        return "loses less than the default on the test part, but shows no skill"
    return "not shown to be better than the default on the test part"
