"""What `--config-test` prints: configuration, files, what a training will take.

In: the words of a dry run. Out: reading the training file (`models.costs`). Imports
nothing heavier than `config` does, so that a configuration is answered for at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

import utils
from config import AGENTS, FIELDS, Config
from settings.feature_fields import FEATURE_SETS
from settings.names import find_training_files


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a run found in its training file, and what training on it will take.

    Args:
        part_rows: Rows of each part.
        num_features: Columns that the model reads.
        first: Open of the first bar, UTC.
        last: Open of the last bar, UTC.
        test_days: Days that the targets of the test part fill.
        test_horizons: Horizons of a label that they fill.
        num_folds: Folds before the final model.
        windows: Windows of an epoch; of trees the targets that they are fitted on, of
            agents the bars that all seeds act on, those of validation included.
        steps: Steps of an epoch; 0 of trees and agents.
        memory: Bytes above the imports, from `settings.sizes`.
        free_bytes: Memory that can still be taken; None where it is not known.
        seconds: Rough time of an epoch, of trees of all of them; None if not known.
        fold_share: What all folds train on, as a multiple of the run.
        source: How the time is known.
        notes: What is doubtful.
    """

    part_rows: Mapping[str, int]
    num_features: int
    first: str
    last: str
    test_days: float
    test_horizons: float
    num_folds: int
    windows: int
    steps: int
    memory: Mapping[str, int]
    free_bytes: int | None
    seconds: float | None
    fold_share: float
    source: str
    notes: tuple[str, ...]


def is_looked_for(config: Config) -> bool:
    """Whether a training file that is not there is an error of a dry run, too.

    It is where it is named, and where nothing builds its features.
    """
    is_built = set(config.feature_sets) <= set(FEATURE_SETS)
    return config.training_file is not None or not is_built


def describe_configuration(
    config: Config, path: Path | None, notes: Iterable[str]
) -> str:
    """Returns the fields that are not their defaults, or all, and the files.

    Args:
        config: The run.
        path: The training file; None where it is not there.
        notes: What is doubtful about the configuration alone.
    """
    values = config.to_dict()
    if not config.verbose_logging:
        usual = {name: item.default for name, item in FIELDS.items()}
        values = {k: v for k, v in values.items() if getattr(config, k) != usual[k]}
    shown = yaml.safe_dump(values, sort_keys=False) if values else ""
    rest = "" if config.verbose_logging else "the other fields: their defaults\n"
    files = {config.expected_path: path}
    if config.pooled_pairs:
        files = find_training_files(config)
    lines = [f"{shown}{rest}"]
    for expected, file in files.items():
        found = "there" if file else "not there (build it with dataset_builder.py)"
        lines.append(f"input:   {file or expected}\n         {found}")
    return "\n".join([*lines, f"output:  {config.model_dir}", *_doubts(notes)])


def describe_plan(config: Config, plan: Plan) -> str:
    """Returns what was found in the training file and what training will take."""
    rows = ", ".join(f"{count:,} {part}" for part, count in plan.part_rows.items())
    lines = [
        f"rows:    {rows}; "
        f"{utils.counted(plan.num_features, 'feature', 'features')}, {plan.first} to "
        f"{plan.last}",
        f"test:    {plan.test_days:.1f} days, {plan.test_horizons:.0f} horizons",
        _describe_work(config, plan),
        f"memory:  {_describe_memory(config, plan)}",
        f"time:    {_describe_time(config, plan)}",
    ]
    return "\n".join([*lines, *_doubts(plan.notes)])


def _describe_work(config: Config, plan: Plan) -> str:
    if config.model in AGENTS:
        seeds = utils.counted(config.agent_seeds, "seed", "seeds")
        return (
            f"agents:  {seeds} of {config.agent_steps:,} steps, {config.agent_envs} "
            f"episodes of {config.agent_episode_bars:,} bars side by side"
        )
    if plan.steps:
        return f"epoch:   {plan.windows:,} windows in {plan.steps:,} steps"
    return f"fit:     on at most {plan.windows:,} targets"


def _doubts(notes: Iterable[str]) -> list[str]:
    """Returns a line for each thing that is doubtful."""
    return [f"doubtful: {note}" for note in notes]


def _describe_memory(config: Config, plan: Plan) -> str:
    shown = {key: utils.format_bytes(size) for key, size in plan.memory.items()}
    free = ""
    if plan.free_bytes is not None:
        free = f", of {utils.format_bytes(plan.free_bytes)} that are free"
    if "total" not in plan.memory:
        return (
            f"not known for {config.model}, beyond the feature array: "
            f"{shown['feature_array']}{free}"
        )
    total = shown.pop("total")
    parts = ", ".join(f"{key.replace('_', ' ')} {size}" for key, size in shown.items())
    return f"{total} above the imports{free}: {parts}"


def _describe_time(config: Config, plan: Plan) -> str:
    if plan.seconds is None:
        return f"not known: {plan.source}"
    text = f"about {_rounded(plan.seconds)}"
    if plan.steps:
        most = _rounded(plan.seconds * config.epochs)
        text += f" an epoch, {most} for all {config.epochs}"
    if plan.num_folds:
        times = f"{plan.fold_share:.1f} times that for "
        times += utils.counted(plan.num_folds, "fold", "folds")
        text += f", and {times}"
    return f"{text} ({plan.source})"


def _rounded(seconds: float) -> str:
    """Returns a rough time in words: `40 s`, `3 min`, `2.5 h`."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
