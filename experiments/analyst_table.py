"""Runs of groups beside each other: what stands for each, as text and as files.

In: how a run of a timeframe ended. Out: training them (`analysts`), what stands for a
run beside others (`finished`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.finished import read_run, summarise_run
from experiments.series import Outcome
from files.atomic import atomic_write
from files.strict import write_json
from metrics.wording import interval, number
from reports import comparison as comparison_report
from reports.text import format_table, spread

_MOST_FEATURES = 3
SCORES = ("accuracy", "prior_accuracy", "precision", "recall", "f1")
"""Of a test part; those behind the second are of LONG."""


def summarise(name: str, outcome: Outcome) -> dict[str, Any]:
    """Returns what stands for one run of a group.

    Returns:
        `model` (its name here), `timeframe`, `family`, `status` (completed or failed);
        then `error` and `exit_code`, or: the test part's `num_samples`, `accuracy`,
        `prior_accuracy` (of naming the commonest class of training), `precision`,
        `recall`, `f1` (of LONG), the keys of `finished.summarise_run`, and
        `feature_importance`: name -> share, as the library says.
    """
    config = outcome.config
    about = {"model": name, "timeframe": config.timeframe, "family": config.model}
    if outcome.folder is None:
        return about | outcome.failure()
    run = read_run(outcome.folder)
    own = run.results.get("library_importance", [])
    return {
        **about,
        "status": "completed",
        **_classification(run.results["test"]),
        **summarise_run(run),
        "feature_importance": {each["name"]: each["share"] for each in own},
    }


def _classification(test: Mapping[str, Any]) -> dict[str, Any]:
    scores = {"num_samples": test["num_samples"]}
    if "classes" not in test:
        return scores
    scores["accuracy"] = test["accuracy"]
    scores["prior_accuracy"] = test["baselines"]["train_prior"]["accuracy"]
    # Not means over classes: a timeframe with three unchanged closes would have one
    # class more, and lower means, than one without any.
    rising = test["classes"]["LONG"]
    for name in ("precision", "recall", "f1"):
        scores[name] = None if name in rising["undefined"] else rising[name]
    return scores


def format_group(entries: Sequence[Mapping[str, Any]]) -> str:
    """Returns one table of the runs of groups."""
    finished = [entry for entry in entries if entry["status"] == "completed"]
    head = ["", "test bars", "accuracy", "of prior", "precision", "recall", "F1"]
    head += ["skill", "direction p", "accuracy of folds", "skill of folds"]
    rows, notes = [], []
    for entry in finished:
        folds = entry["cross_validation"] or {}
        skills = map(folds.get, ("skill_vs_train_prior", "skill_mse_vs_persistence"))
        row = [entry["model"], f"{entry['num_samples']:,}"]
        row += [number(entry.get(name), "{:.3f}") for name in SCORES]
        row += [interval(entry["skill"]), number(entry["direction_p_value"], "{:.3f}")]
        row += [spread(folds.get("accuracy"), "{:.3f}")]
        rows.append([*row, spread(next(filter(None, skills), None), "{:+.4f}")])
        ranked = sorted(entry["feature_importance"].items(), key=lambda x: -x[1])
        first = ", ".join(f"{k} {v:.0%}" for k, v in ranked[:_MOST_FEATURES])
        notes.append([entry["model"], f"{entry['family']}: {first}"])
        notes.append(["", entry["folder"]])
    lines = []
    if rows:
        lines += format_table([head, *rows])
        lines += ["  of prior: accuracy of the commonest class of training; "]
        lines[-1] += "precision, recall, F1: of LONG"
    lines += format_table(notes, left=2)
    lines += [
        f"  {entry['model']} failed: {entry['error']}"
        for entry in entries
        if entry["status"] == "failed"
    ]
    return "\n".join(lines)


def write_group(folder: Path, entries: Sequence[Mapping[str, Any]]) -> None:
    """Writes `analysts.csv` and, last, `analysts.json`."""
    table = comparison_report.flat_table(entries)
    atomic_write(folder / "analysts.csv", table.to_csv(index=False))
    write_json(folder / "analysts.json", {"models": entries})
