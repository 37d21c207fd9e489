"""A model for each timeframe, from one file of candles.

In: the training files of a group of `settings.presets.GROUPS`, their runs, one table of
them. Out: what the groups are (`settings.presets`), building a file
(`dataset_builder`), a run (`trainer`).
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import utils
from candles.sources import CandleSource
from config import Config, build_config
from dataset.builder import DatasetBuilder
from experiments import series
from experiments.finished import read_run, summarise_run
from experiments.series import Outcome
from files.atomic import atomic_write
from files.strict import to_jsonable, write_json
from metrics.wording import interval, number
from reports import comparison as comparison_report
from reports.text import format_table, spread
from settings.presets import GROUPS, PRESETS
from trainer import StandaloneTrainer

logger = logging.getLogger(__name__)

OWN_FIELDS = ("model", "timeframe", "training_file")
"""Fields that the groups decide."""

_MOST_FEATURES = 3
_SCORES = ("accuracy", "prior_accuracy", "precision", "recall", "f1")


def group_configs(
    groups: Sequence[str],
    *,
    timeframes: Sequence[str] | None = None,
    **fields: Any,
) -> dict[str, Config]:
    """Returns the runs of some groups by name, such as `analysts 15m`.

    Args:
        groups: Names out of `presets.GROUPS`.
        timeframes: Those of them that are wanted; None takes all.
        **fields: Fields of `Config`, over those of the presets.

    Raises:
        ConfigError: If a group or a timeframe is unknown, or a value impossible.
    """
    known = dict.fromkeys(tf for _, each in GROUPS.values() for tf in each)
    for words, choices, name in (
        (groups, GROUPS, "groups"),
        (timeframes or (), known, "timeframes"),
    ):
        unknown = [word for word in words if word not in choices]
        if unknown or len(set(words)) < len(words) or words == []:
            raise utils.ConfigError(
                f"--{name}: expected some of {', '.join(choices)}, each once. "
                f"Received: {' '.join(words) or 'none'}"
            )
    configs = {}
    for group in groups:
        preset, own = GROUPS[group]
        for timeframe in own:
            if timeframes is None or timeframe in timeframes:
                values = PRESETS[preset] | fields | {"timeframe": timeframe}
                name = f"{group} {timeframe}"
                configs[name] = build_config(values)
    if not configs:
        raise utils.ConfigError(
            f"--timeframes: expected one that {' or '.join(groups)} have. "
            f"Received: {' '.join(timeframes or ())}"
        )
    return configs


def train_group(
    candles: CandleSource,
    configs: Mapping[str, Config],
    *,
    resume: str | os.PathLike[str] | None = None,
) -> list[dict[str, Any]]:
    """Builds each run's training file, trains one after another, summarises them.

    Args:
        candles: Candles of the pair, of the shortest timeframe or finer.
        configs: From `group_configs`.
        resume: "newest" takes finished runs as they are, and goes on with others.

    Returns:
        One mapping a run, ready for JSON; see `summarise`.
    """

    def train(config: Config) -> Path:
        builder = DatasetBuilder(config)
        built = builder.build_dataset(candles=candles)
        path = builder.write_dataset(built)
        rows = utils.counted(built.metadata["num_rows"], "row", "rows")
        logger.info("%s: %s", path, rows)
        return StandaloneTrainer(config, resume=resume).run_training()

    outcomes = series.train_all(configs, train)
    return to_jsonable([summarise(*item) for item in outcomes.items()])


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
        row += [number(entry.get(name), "{:.3f}") for name in _SCORES]
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
