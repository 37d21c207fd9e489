"""What a pipeline trains: stages, each an ordinary run, and what each builds on.

In: YAML and flags -> stages in an order in which they can be trained, or everything
that is wrong with them, before anything starts. Out: training them (`pipeline`).
"""

from __future__ import annotations

import graphlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import utils
from config import ALIASES, Config, build_config
from experiments.candidates import QUESTION, differences
from models.families import create_adapter
from rl.adapter import register
from settings import sources
from settings.network_fields import HYBRID, NETWORKS
from settings.run_fields import WORD
from settings.stage_fields import AGENTS, STACK

STAGE_SHARE = 0.5
"""Share of the training part that an extractor learns from: the older half. What builds
on it learns from the newer one, and so from numbers that are not too good."""

EXTRACTORS = tuple(each for each in NETWORKS if each != "ensemble")
"""Networks that end in one dense layer."""

PARENTS: dict[str, dict[str, tuple[str, ...] | None]] = {
    **dict.fromkeys(AGENTS, {"base_model": EXTRACTORS}),
    HYBRID: {"base_model": EXTRACTORS, "rl_model": AGENTS},
    STACK: {"members": None},
}
"""Family -> field of what it builds on -> families that will do; None: all others."""
NEEDED = {HYBRID: ("base_model",), STACK: ("members",)}
"""What a family cannot be trained without."""
OWN_FIELDS = ("model", "base_model", "rl_model", "members")
"""Fields of a stage that neither the pipeline nor a flag sets for all of them."""

_SAME_ROWS = (
    *("start_date", "end_date", "train_end", "validation_end"),
    *("validation_split", "test_split", "training_file", "inputs_dir", "feature_sets"),
)
_KEYS = ("name", "model", "needs", "fields")
_MOST_PROBLEMS = 40


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One run of a pipeline.

    Attributes:
        name: Unlike that of any other stage.
        config: The run, without the models that it builds on.
        roles: The stages that it builds on -> field of `Config` that names them.
    """

    name: str
    config: Config
    roles: Mapping[str, str]

    def config_with(self, models: Mapping[str, str]) -> Config:
        """Returns the run that builds on models, given by the names of the stages."""
        fields: dict[str, Any] = {}
        for need, role in self.roles.items():
            if role == "members":
                fields[role] = (*fields.get(role, ()), models[need])
            else:
                fields[role] = models[need]
        return self.config.replace(**fields)


@dataclass(frozen=True, kw_only=True)
class Pipeline:
    """Stages, each behind those that it needs.

    Attributes:
        name: Of the pipeline, a word.
        stages: All of them.
        file: Where it was read; None where it was not.
    """

    name: str
    stages: Sequence[Stage]
    file: str | None = None

    @property
    def outputs_dir(self) -> str:
        """Folder of the outputs of all stages."""
        return self.stages[0].config.outputs_dir


def read_pipeline(path: str, flags: Mapping[str, Any] | None = None) -> Pipeline:
    """Reads a pipeline from YAML; see `make_pipeline`.

    Raises:
        MissingInputError: If there is no such file.
        ConfigError: Listing everything that cannot be trained.
    """
    return make_pipeline(
        sources.read_yaml(path), name=Path(path).stem, flags=flags, file=path
    )


def make_pipeline(
    content: Mapping[str, Any],
    *,
    name: str = "pipeline",
    flags: Mapping[str, Any] | None = None,
    file: str | None = None,
) -> Pipeline:
    """Returns the stages that are asked for, in the order of their training.

    Args:
        content: `stages`, a list of `name`, `model`, `needs` (names of other stages)
            and `fields` (of `Config`); beside it fields that all stages have.
        name: What it is called where no `experiment_name` says so.
        flags: Fields that win over those of the pipeline and of its stages.
        file: Where that was read.

    Raises:
        ConfigError: Listing everything that cannot be trained.

    Example:
        >>> first = {"name": "first", "model": "cnn_lstm"}
        >>> then = {"name": "then", "model": "ppo", "needs": ["first"]}
        >>> [s.name for s in make_pipeline({"stages": [then, first]}).stages]
        ['first', 'then']
    """
    register()
    problems = _Problems()
    common = {ALIASES.get(key, key): value for key, value in content.items()}
    entries = _entries(common.pop("stages", None), problems)
    common, found = sources.overlaid(None, flags, base=common)
    for line in found:
        problems.add(line)
    for key in OWN_FIELDS:
        if key in common:
            problems.add(f"{key}: each stage has its own")
    name = str(common.setdefault("experiment_name", name))
    if not WORD.fullmatch(name):
        problems.add(
            "experiment_name: expected up to 64 letters, digits, '.', '_' and '-', the "
            f"first a letter or a digit. Received: {name!r:.100}"
        )
    order = _in_order(entries, problems)
    stages = _stages(entries, common, dict(flags or {}), problems)
    problems.refuse()
    return Pipeline(name=name, stages=[stages[each] for each in order], file=file)


class _Problems:
    """What is wrong, each line once, with the stages that have it."""

    def __init__(self) -> None:
        self._found: dict[str, list[str]] = {}

    def add(self, line: str, stage: str | None = None) -> None:
        names = self._found.setdefault(line, [])
        if stage is not None:
            names.append(stage)

    def refuse(self) -> None:
        """Raises ConfigError that lists all of them."""
        lines = []
        for line, names in self._found.items():
            kind = "stage " if len(names) == 1 else "stages "
            lines.append(f"  - {(kind + ', '.join(names) + ': ') * bool(names)}{line}")
        if more := lines[_MOST_PROBLEMS:]:
            lines = [*lines[:_MOST_PROBLEMS], f"  and {len(more):,} more"]
        if lines:
            raise utils.ConfigError("\n".join(["the pipeline cannot be run:", *lines]))


def _entries(given: Any, problems: _Problems) -> dict[str, dict[str, Any]]:
    """Returns `model`, `needs` and `fields` of each stage, by its name."""
    if not isinstance(given, list) or not given:
        problems.add(
            "stages: expected a list of name, model, needs, fields. Received: "
            f"{given!r:.100}"
        )
        return {}
    entries: dict[str, dict[str, Any]] = {}
    for number, each in enumerate(given, 1):
        each = each if isinstance(each, dict) else {"name": each}
        name, needs = each.get("name"), each.get("needs") or []
        if not isinstance(name, str) or not WORD.fullmatch(name) or name in entries:
            problems.add(
                f"stage {number}: expected a name of its own, up to 64 letters, "
                f"digits, '.', '_' and '-'. Received: {name!r:.100}"
            )
            continue
        for key in each:
            if key not in _KEYS:
                near = utils.did_you_mean(str(key), _KEYS)
                problems.add(f"unknown key {key!r:.100}.{near}", name)
        needs = [needs] if isinstance(needs, str) else needs
        needs = needs if isinstance(needs, list) else [needs]
        entry: dict[str, Any] = {
            "model": each.get("model"),
            # What is no word, such as a list, names no stage.
            "needs": [x if isinstance(x, str) else repr(x) for x in needs],
            "fields": each.get("fields") or {},
        }
        for key, kind in (("model", str), ("fields", dict)):
            if not isinstance(entry[key], kind):
                what = "a model family" if kind is str else "names and values"
                problems.add(f"{key}: expected {what}. Received: {entry[key]!r}", name)
                entry[key] = kind()
        entry["fields"] = {
            str(k): v.isoformat() if isinstance(v, date) else v
            for k, v in entry["fields"].items()
        }
        entries[name] = entry
    for name, entry in entries.items():
        for need in entry["needs"]:
            if need not in entries:
                near = utils.did_you_mean(str(need), entries)
                problems.add(
                    f"needs: expected names of stages. Received: {need!r:.100}.{near}",
                    name,
                )
        entry["needs"] = [x for x in dict.fromkeys(entry["needs"]) if x in entries]
    return entries


def _in_order(
    entries: Mapping[str, Mapping[str, Any]], problems: _Problems
) -> list[str]:
    """Returns the names, each behind those that it needs."""
    order = graphlib.TopologicalSorter({k: x["needs"] for k, x in entries.items()})
    try:
        return [*order.static_order()]
    except graphlib.CycleError as error:
        words = " needs ".join(reversed(error.args[1]))
        problems.add(f"needs: expected no circle. Received: {words}")
        return []


def _stages(
    entries: Mapping[str, Mapping[str, Any]],
    common: Mapping[str, Any],
    flags: Mapping[str, Any],
    problems: _Problems,
) -> dict[str, Stage]:
    roles = {name: _roles(name, entries, problems) for name in entries}
    extractors = {
        need
        for each in roles.values()
        for need, role in each.items()
        if role == "base_model"
    }
    stages: dict[str, Stage] = {}
    for name, entry in entries.items():
        fields = {
            ALIASES.get(key, key): value for key, value in entry["fields"].items()
        }
        usual = {"stage_share": STAGE_SHARE} if name in extractors else {}
        values = {**usual, **common, **fields, **flags, "model": entry["model"]}
        try:
            config = build_config(values)
            create_adapter(config)
        except (utils.ConfigError, utils.DependencyError) as error:
            _, *lines = str(error).splitlines()
            for line in lines or [str(error)]:
                problems.add(line.removeprefix("  - "), name)
            continue
        stages[name] = Stage(name=name, config=config, roles=roles[name])
    for stage in stages.values():
        _require_parents(stage, stages, problems)
    if len({stage.config.outputs_dir for stage in stages.values()}) > 1:
        problems.add("outputs_dir: expected one for all stages")
    return stages


def _roles(
    name: str, entries: Mapping[str, Mapping[str, Any]], problems: _Problems
) -> dict[str, str]:
    """Returns what a stage needs -> the field that names it, by their families."""
    model, needs = entries[name]["model"], entries[name]["needs"]
    wanted = PARENTS.get(model, {})
    found: dict[str, str] = {}
    for need in needs:
        family = entries[need]["model"]
        fitting = [
            role
            for role, known in wanted.items()
            if (family != model if known is None else family in known)
        ]
        if not fitting:
            others = (f"models other than {model}",)
            kinds = " or ".join(", ".join(x or others) for x in wanted.values())
            problems.add(
                f"needs: expected {kinds or 'none'} for model {model!r}. Received: "
                f"{need}, of model {family!r}",
                name,
            )
        elif fitting[0] in found.values() and wanted[fitting[0]] is not None:
            problems.add(f"needs: expected one {fitting[0]}. Received: {needs}", name)
        else:
            found[need] = fitting[0]
    return found


def _require_parents(
    stage: Stage, stages: Mapping[str, Stage], problems: _Problems
) -> None:
    """Adds what keeps a stage from building on what it needs."""
    config, roles = stage.config, [*stage.roles.values()]
    for role in {*roles, *NEEDED.get(config.model, ())}:
        given = getattr(config, role)
        if given and role in roles:
            problems.add(f"{role}: expected from needs or fields, not both", stage.name)
        least = 2 if role == "members" else 1
        if not given and roles.count(role) < least:
            problems.add(
                f"needs: expected {least} or more as {role} of model {config.model!r}. "
                f"Received: {roles.count(role)}",
                stage.name,
            )
    for need, role in stage.roles.items():
        if need not in stages:
            continue
        other = stages[need].config
        if role == "base_model" and other.stage_share == 1:
            problems.add(
                "stage_share: expected below 1, so that rows are left to "
                f"{stage.name}. Received: 1",
                need,
            )
        below = [*stages[need].roles, *filter(None, [other.base_model])]
        if role == "rl_model" and not (set(below) & {*stage.roles, config.base_model}):
            problems.add(
                f"needs: expected an rl_model on the same base_model. Received: {need}"
                f", on {', '.join(below) or 'none'}",
                stage.name,
            )
        fields = [*QUESTION, *_SAME_ROWS]
        if role != "members":
            fields.append("sequence_length")
        elif other.sequence_length > config.sequence_length:
            problems.add(
                f"sequence_length: expected at least {other.sequence_length}, which "
                f"{need} reads. Received: {config.sequence_length}",
                stage.name,
            )
        pair = [(need, other), (stage.name, config)]
        for line in differences(pair, fields):
            problems.add(f"needs: expected the same data and question. Received {line}")
