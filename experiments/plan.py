"""What a sweep trains: the product of its axes, without what is equal or impossible.

In: bases and axes -> cells, each a whole configuration; their names, the training files
that they need; the words of scheduling, which are none of a run. Out: doing it by these
words (`sweep`). Imports no TensorFlow.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import utils
from artifacts.resuming import run_identity
from candles.sources import find_candles
from config import FIELDS, LABELS, Config, build_config
from executors.kinds import KINDS
from files.strict import sha256_json, to_jsonable
from models.families import create_forecaster
from settings.label_fields import CLASS_TARGETS
from settings.names import find_training_file, require_one_pair
from settings.run_fields import ALONE, WORD
from settings.tree_fields import CLASS_MODELS

AXES = {
    "pairs": "pair",
    "timeframes": "timeframe",
    "models": "model",
    "targets": "target",
    "seeds": "seed",
}
"""Axes by the words that list their values, and the fields that they set."""
ALL = "all"
"""Of models: each that builds on no other, and that target and machine have."""
DATA_DIR = "data"
"""Where candles are looked for that no folder was given for."""
_MOST_LINES = 100
FREE = {*LABELS, "inputs_dir", "outputs_dir", "verbose_logging"}
"""Fields that are no part of what a sweep is asked for."""


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One run of a sweep.

    Attributes:
        name: Unlike that of any other cell; a file name, too.
        config: The whole run, with its threads.
        label: The configuration file or base that it is of; empty where there is one.
    """

    name: str
    config: Config
    label: str = ""

    def record(self) -> dict[str, Any]:
        """Returns what stands for the cell in tables, before it ran."""
        config = self.config
        return {
            "name": self.name,
            **{name: getattr(config, name) for name in AXES.values()},
            "config": self.label,
            "config_digest": config.digest(),
        }


@dataclass(frozen=True, kw_only=True)
class SweepConfig:
    """When and where the cells of a sweep are trained, which decides nothing of them.

    Attributes:
        name: Of the sweep, a word; None takes the time and a digest of what is asked.
        executor: Who trains: auto, serial, processes, ray.
        max_workers: Cells side by side; None is one a core.
        address: Of a Ray cluster.
        retries: How often a cell is tried again whose worker died, whose time was up,
            or whose storage failed.
        cell_timeout_minutes: Of one try of a cell.
        time_limit_minutes: Of the sweep: then what runs saves what it has, and the rest
            waits for `--resume`.
        data_dir: Folder of candles that training files are built from; None takes files
            that are there as they are, and looks in `data` for the others.
        cache: Whether features of candles are kept for the next training file.

    Raises:
        ConfigError: If a value is none of those.
    """

    name: str | None = None
    executor: str = "auto"
    max_workers: int | None = None
    address: str | None = None
    retries: int = 2
    cell_timeout_minutes: float | None = None
    time_limit_minutes: float | None = None
    data_dir: str | None = None
    cache: bool = True

    def __post_init__(self) -> None:
        """Refuses all problems together."""
        problems = []
        names = ("max_workers", "retries", "cell_timeout_minutes", "time_limit_minutes")
        for name in names:
            value, least = getattr(self, name), int(name == "max_workers")
            if value is not None and not least <= value < float("inf"):
                problems.append(f"{name}: expected {least} or more. Received: {value}")
        if self.executor not in KINDS:
            problems.append(
                f"executor: expected one of {', '.join(KINDS)}. "
                f"Received: {self.executor!r:.100}"
            )
        if self.name is not None and not WORD.fullmatch(self.name):
            problems.append(
                "experiment_name: expected up to 64 letters, digits, '.', '_' and '-', "
                f"the first a letter or a digit. Received: {self.name!r:.100}"
            )
        if self.cell_timeout_minutes is not None and self.executor == "serial":
            problems.append(
                "cell_timeout_minutes: expected an executor whose workers can be "
                "stopped. Received: 'serial'. Take processes, with --max-workers 1."
            )
        if problems:
            lines = "\n".join(f"  - {problem}" for problem in problems)
            raise utils.ConfigError(f"the sweep cannot be run:\n{lines}")

    @property
    def kind(self) -> str:
        """The executor: only processes of their own can be stopped for their time."""
        is_open = self.executor == "auto" and self.address is None
        is_limited = self.cell_timeout_minutes is not None
        return "processes" if is_open and is_limited else self.executor


def words_of(values: Mapping[str, Any]) -> str:
    """Returns a combination of axes for a reader: `BTCUSDT 5m lstm`."""
    words = [str(values[name]) for name in ("pair", "timeframe", "model", "target")]
    return " ".join([*words, f"seed {values['seed']}"])


def base_values(base: Config | Mapping[str, Any]) -> dict[str, Any]:
    """Returns the fields of a base that are not as usual, by name."""
    values = base.to_dict() if isinstance(base, Config) else dict(base)
    usual = {name: item.default for name, item in FIELDS.items()}
    found = to_jsonable(values)
    return {
        name: value
        for name, value in found.items()
        if name not in usual or value != to_jsonable(usual[name])
    }


def digest_of(
    bases: Mapping[str, Mapping[str, Any]], axes: Mapping[str, Sequence[Any]]
) -> str:
    """Returns a digest of what is asked for; where outputs go is no part of it."""
    asked = [
        {name: value for name, value in base.items() if name not in FREE}
        for base in bases.values()
    ]
    return sha256_json([asked, {**axes}])


def make_cells(
    bases: Mapping[str, Mapping[str, Any]],
    axes: Mapping[str, Sequence[Any]],
    *,
    name: str,
    max_workers: int | None = None,
) -> list[Cell]:
    """Returns the cells of every base and every combination of the axes.

    Those that would train the same are one. Threads are part of what is trained: where
    a base gives none, each cell has its share of the cores.

    Args:
        bases: Fields by name, by the label of the base.
        axes: Values by a word of `AXES` or any field; what has none is the base's.
        name: Of the sweep, which its runs have as `experiment_name`.
        max_workers: Cells side by side; None is one a core.

    Raises:
        ConfigError: Listing every impossible cell.
    """
    places = {str(base.get("outputs_dir")) for base in bases.values()}
    if len(places) > 1:
        raise utils.ConfigError(
            "outputs_dir: expected one for all cells. Received: "
            f"{', '.join(sorted(places))}"
        )
    combinations = list(_combinations(bases, axes))
    cores = utils.available_cores()
    workers = min(max_workers or cores, len(combinations))
    own = {"experiment_name": name}
    threads = max(1, cores // max(1, workers))
    impossible: dict[str, list[str]] = {}
    cells: dict[tuple[str, int], Cell] = {}
    for label, values in combinations:
        if values.get("num_threads") is None:
            values = values | {"num_threads": threads}
        try:
            config = build_config(values | own)
            _require_family(config)
        except (utils.ConfigError, utils.DependencyError) as error:
            usual = {key: FIELDS[key].default for key in AXES.values()}
            words = f"{label} {words_of(usual | values)}".strip()
            _, *lines = str(error).splitlines()
            for line in lines or [str(error)]:
                impossible.setdefault(line.removeprefix("  - "), []).append(words)
            continue
        identity = run_identity(config)
        cell = Cell(name=_name_of(config, identity), config=config, label=label)
        cells.setdefault((identity, config.epochs), cell)
    if impossible:
        raise utils.ConfigError(_impossible_message(impossible, len(combinations)))
    found = _with_names_of_their_own(cells.values())
    _require_own_files(found)
    return found


def _combinations(
    bases: Mapping[str, Mapping[str, Any]], axes: Mapping[str, Sequence[Any]]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields the label of a base and its fields with those of the axes."""
    unknown = [word for word in axes if AXES.get(word, word) not in FIELDS]
    empty = [f"no {word}" for word in axes if not axes[word]]
    if words := unknown + empty:
        raise utils.ConfigError(
            f"axes: expected values of some of {', '.join(AXES)}, or of a field. "
            f"Received: {', '.join(words)}."
            f"{utils.did_you_mean(words[0], [*AXES, *FIELDS])}"
        )
    names = [AXES.get(word, word) for word in axes]
    for label, base in bases.items():
        for chosen in itertools.product(*axes.values()):
            values = {**base, **dict(zip(names, chosen, strict=True))}
            if values.get("model") != ALL:
                yield label, values
                continue
            for model in _all_models(values.get("target", FIELDS["target"].default)):
                yield label, values | {"model": model}


def _all_models(target: Any) -> list[str]:
    """Returns built-in families that learn on their own, with target and library."""
    models = []
    for model in ALONE:
        if model in CLASS_MODELS and target not in CLASS_TARGETS:
            continue
        try:
            _require_family(Config(model=model))
        except utils.DependencyError:
            continue
        models.append(model)
    return models


def _require_family(config: Config) -> None:
    """Refuses a family that is not there; its library is looked for once."""
    key = (config.model, config.target, config.loss)
    if key not in _KNOWN:
        create_forecaster(config, "a sweep")
        _KNOWN.add(key)


_KNOWN: set[tuple[str, str, str | None]] = set()


def _name_of(config: Config, identity: str) -> str:
    words = [config.pair, config.timeframe, config.model, config.target]
    return "-".join([*words, f"s{config.seed}", identity[:8]])


def _with_names_of_their_own(cells: Iterable[Cell]) -> list[Cell]:
    """Adds a number to names that are given twice: cells may differ in epochs alone."""
    found: dict[str, Cell] = {}
    for cell in cells:
        name, number = cell.name, 1
        while name in found:
            name, number = f"{cell.name}-{number + 1}", number + 1
        found[name] = replace(cell, name=name)
    return list(found.values())


def _impossible_message(impossible: Mapping[str, Sequence[str]], total: int) -> str:
    lines = []
    for problem, cells in impossible.items():
        shown = cells if len(cells) < total or total == 1 else ["every cell"]
        lines += [f"  - {problem}", *(f"      {words}" for words in shown)]
    if more := lines[_MOST_LINES:]:
        lines = [*lines[:_MOST_LINES], f"  and {len(more):,} more lines"]
    return "\n".join(["the sweep has cells that cannot be run:", *lines])


def format_cells(cells: Sequence[Cell], *, data_dir: str | None = None) -> str:
    """Returns the cells of a plan for a reader, and which have no data to train on."""
    files = {file_of(cell.config): cell.config for cell in cells}
    threads = sorted({cell.config.num_threads or 1 for cell in cells})
    head = f"{utils.counted(len(cells), 'cell', 'cells')}, "
    head += utils.counted(len(files), "training file", "training files")
    head += f", {' or '.join(map(str, threads))} thread{'s'[: threads != [1]]} each"
    lines = [f"  {cell.name}" for cell in cells[:_MOST_LINES]]
    if more := cells[_MOST_LINES:]:
        lines.append(f"  and {len(more):,} more")
    for path, config in files.items():
        if find_training_file(config) is None and config.training_file is None:
            try:
                find_candles(Path(data_dir or DATA_DIR), config.pair, config.timeframe)
            except utils.UserError as problem:
                lines.append(f"  {path} cannot be built: {problem}")
    return "\n".join([head, *lines])


def file_of(config: Config) -> str:
    """Returns where a cell's training file is expected; cells of one name share it."""
    return str(require_one_pair(config, "a sweep").expected_path.absolute())


def _require_own_files(cells: Iterable[Cell]) -> None:
    """Refuses cells that want files of other content under one name."""
    first: dict[str, Cell] = {}
    problems = []
    for cell in cells:
        path, ours = file_of(cell.config), cell.config.dataset_parameters
        other = first.setdefault(path, cell)
        theirs = other.config.dataset_parameters
        if ours != theirs:
            names = [key for key in ours if ours[key] != theirs.get(key)]
            problems.append(f"  - {cell.name} and {other.name}: {', '.join(names)}")
    if problems:
        lines = "\n".join(problems[:_MOST_LINES])
        raise utils.ConfigError(
            "expected cells whose training files have names of their own. Received, "
            f"for one file, other contents:\n{lines}\nStart a sweep for each, with "
            "another inputs_dir, or leave training_file out."
        )


# To and from a file


def to_values(cells: Sequence[Cell]) -> dict[str, Any]:
    """Returns cells ready for JSON: the fields that all share, and those of each."""
    values = [absolute(cell.config) for cell in cells]
    common = {
        name: value
        for name, value in values[0].items()
        if all(each[name] == value for each in values)
    }
    own = [
        {
            "name": cell.name,
            "config": cell.label,
            "values": {k: v for k, v in each.items() if k not in common},
        }
        for cell, each in zip(cells, values, strict=True)
    ]
    return {"common": common, "cells": own}


def from_values(content: Mapping[str, Any]) -> list[Cell]:
    """Returns the cells that `to_values` wrote down.

    Raises:
        ConfigError: If a value is none that a run takes.
        LookupError: If something is missing.
    """
    return [
        Cell(
            name=each["name"],
            config=build_config(content["common"] | each["values"]),
            label=each["config"],
        )
        for each in content["cells"]
    ]


def moved(
    cells: Sequence[Cell], *, inputs_dir: str | None, outputs_dir: str
) -> list[Cell]:
    """Returns cells whose files are elsewhere by now; None leaves a folder."""
    given = {"outputs_dir": outputs_dir, "inputs_dir": inputs_dir}
    places = {k: str(Path(v).absolute()) for k, v in given.items() if v is not None}
    return [
        cell
        if all(getattr(cell.config, name) == place for name, place in places.items())
        else replace(cell, config=cell.config.replace(**places))
        for cell in cells
    ]


def absolute(config: Config) -> dict[str, Any]:
    """Returns the fields of a run with paths that hold in any folder."""
    values = config.to_dict()
    for name in ("inputs_dir", "outputs_dir", "training_file"):
        if values[name] is not None:
            values[name] = str(Path(values[name]).absolute())
    return values
