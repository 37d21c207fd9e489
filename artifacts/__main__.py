"""The command line of the registry: `python -m artifacts --outputs-dir DIR list`."""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import utils
from artifacts import exchange
from artifacts.entries import HIGHER_IS_BETTER, ModelMetadata, ModelSummary
from artifacts.grades import PerformanceGrade
from artifacts.registry import CHAMPION, Registry
from files import kinds
from files.asking import ask
from files.strict import to_jsonable

logger = logging.getLogger("artifacts")

_MARKET = ("model", "pair", "timeframe", "target")
_COLUMNS = ("grade", "skill", "net bps", "created", "status", "model")


_Argument = tuple[str, dict[str, Any]]
_MODEL: _Argument = ("model", {"metavar": "MODEL"})
_TAGS: _Argument = ("--tags", {"nargs": "+", "default": [], "metavar": "TAG"})
_ALIAS: _Argument = (
    "--alias",
    {"default": CHAMPION, "metavar": "NAME", "help": f"(default: {CHAMPION})"},
)
_FILTERS: list[_Argument] = [
    *((f"--{name}", {}) for name in ("family", "pair", "timeframe", "target")),
    ("--least-grade", {"choices": [each.value for each in PerformanceGrade]}),
    _TAGS,
    ("--status", {"choices": ("active", "archived", "all"), "default": "active"}),
]
_ARGUMENTS: dict[str, list[_Argument]] = {
    "register": [
        ("artifact", {"metavar": "FOLDER", "help": "a published run"}),
        ("--alias", {"metavar": "NAME", "help": "also points this alias at it"}),
        ("--depends-on", {"nargs": "+", "default": [], "metavar": "ID"}),
        _TAGS,
        ("--notes", {"default": "", "help": "a line for readers"}),
        ("--mlflow", {"metavar": "URI", "help": "log it to MLflow, too"}),
    ],
    "list": [
        *_FILTERS,
        ("--limit", {"type": int, "metavar": "N"}),
        (
            "--sort",
            {
                "choices": ("created_at", "grade", "skill", *HIGHER_IS_BETTER),
                "default": "created_at",
                "metavar": "NAME",
                "help": "created_at (newest first), grade, skill, a metric: best first",
            },
        ),
    ],
    "best": [
        ("metric", {"choices": HIGHER_IS_BETTER, "metavar": "METRIC"}),
        *_FILTERS,
    ],
    "validate": [
        ("model", {"metavar": "MODEL", "nargs": "?"}),
        ("--all", {"action": "store_true", "help": "every registered model"}),
    ],
    "alias": [
        _MODEL,
        ("alias", {"metavar": "NAME", "help": "champion, challenger, your own"}),
        ("--remove", {"action": "store_true", "help": "take it from the model"}),
    ],
    "promote": [_MODEL, _ALIAS],
    "rollback": [("group", {"metavar": "family/PAIR-timeframe-target"}), _ALIAS],
    "delete": [
        _MODEL,
        ("--with-artifact", {"action": "store_true", "help": "its folder, too"}),
    ],
    "export": [
        _MODEL,
        ("destination", {"help": "a new folder, or a name that ends in .tar"}),
    ],
    "import": [("source", {"metavar": "FOLDER", "help": "or a .tar"})],
    "scan": [("source", {"metavar": "FOLDER"})],
}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m artifacts",
        description="Registered models: versions, grades, aliases, lineage.",
        epilog="MODEL: an id, family/PAIR-timeframe-target@alias, or a part of an id.",
    )
    place: dict[str, Any] = {"metavar": "DIR", "help": "(default: outputs)"}
    parser.add_argument("--outputs-dir", default="outputs", **place)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, (text, _) in _COMMANDS.items():
        command = commands.add_parser(name, help=text, description=text)
        command.add_argument("--json", action="store_true", help="answer as JSON")
        # Also behind the command, where it does not undo what stands before.
        command.add_argument("--outputs-dir", default=argparse.SUPPRESS, **place)
        for argument, rules in _ARGUMENTS.get(name, [_MODEL]):
            command.add_argument(argument, **rules)
    return parser


# What each command does: returns what it says as JSON, and as text


Answer = tuple[Any, str]


def _chosen(registry: Registry, words: str) -> ModelSummary:
    """Returns the model that words mean; where several may, asks on a terminal.

    Raises:
        ConfigError: If several may be meant and there is no terminal, or none is taken.
    """
    found = registry.find(words)
    if len(found) == 1:
        return found[0]
    answer = ask(
        [each.display_name for each in found],
        f"which one, 1 to {len(found)}, new, or quit? ",
        words=("new",),
        piped=f"expected one model. Received: {words!r}, which may be",
    )
    if isinstance(answer, int):
        return found[answer]
    if answer == "new":
        raise utils.ConfigError(f"a new one comes of: {_training_words(found)}")
    raise utils.ConfigError("no model was chosen")


def _training_words(found: Sequence[ModelSummary]) -> str:
    """Returns the command that trains one more of what models have in common."""
    of_each = zip(*((each.model_type, *each.market) for each in found), strict=True)
    flags = [
        f"--{name} {values[0]}"
        for name, values in zip(_MARKET, of_each, strict=True)
        if len(set(values)) == 1
    ]
    return " ".join(["python trainer.py", *flags, "--register"])


def _id(registry: Registry, options: argparse.Namespace) -> str:
    return _chosen(registry, options.model).model_id


def _one(entry: ModelSummary, done: str) -> Answer:
    return entry.to_dict(), f"{entry.model_id}: {done}"


def _register(registry: Registry, options: argparse.Namespace) -> Answer:
    store = None if options.mlflow is None else exchange.MlflowStore(options.mlflow)
    entry = registry.register(
        options.artifact,
        alias=options.alias,
        dependencies=[_chosen(registry, w).model_id for w in options.depends_on],
        tags=options.tags,
        notes=options.notes,
    )
    told, text = _one(entry, f"grade {entry.performance_grade} ({entry.grade_reason})")
    if store is None:
        return told, text
    run_id = store.log(entry, registry.open(entry.model_id))
    return told | {"mlflow_run_id": run_id}, f"{text}\n  MLflow run {run_id}"


def _filters(options: argparse.Namespace) -> dict[str, Any]:
    names = ("family", "pair", "timeframe", "target", "least_grade", "tags")
    status = None if options.status == "all" else options.status
    return {name: getattr(options, name) for name in names} | {"status": status}


def _list(registry: Registry, options: argparse.Namespace) -> Answer:
    found = registry.list(**_filters(options), sort=options.sort, limit=options.limit)
    return [entry.to_dict() for entry in found], _table(found)


def _best(registry: Registry, options: argparse.Namespace) -> Answer:
    entry = registry.best(options.metric, **_filters(options))
    return _one(entry, f"{options.metric} {entry.metrics[options.metric]:g}")


def _table(found: Sequence[ModelSummary]) -> str:
    """Returns one line a model, under names of columns."""
    if not found:
        return "no model"

    def number(value: float | None) -> str:
        return "" if value is None else f"{value:+.2f}"

    rows = [_COLUMNS] + [
        (
            each.performance_grade,
            number(each.skill),
            number(each.metrics.get("trading_mean_net_return_bps")),
            each.created_at[:16].replace("T", " "),
            each.status,
            " ".join([each.model_id, *(f"#{tag}" for tag in each.tags)]),
        )
        for each in found
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(
            word.ljust(width) for word, width in zip(row, widths, strict=True)
        ).rstrip()
        for row in rows
    )


def _get(registry: Registry, options: argparse.Namespace) -> Answer:
    entry = registry.get(_id(registry, options))
    return entry.to_dict(), str(registry.folder_of(entry))


def _info(registry: Registry, options: argparse.Namespace) -> Answer:
    entry = registry.get(_id(registry, options))
    artifact = registry.open(entry.model_id)
    ancestors = registry.dependencies(entry.model_id)  # refuses a circle
    results = artifact.metadata.get("results")
    verdict = results.get("verdict") if isinstance(results, dict) else None
    verdict = verdict if isinstance(verdict, list) else []
    aliases = registry.aliases_of(entry)
    pooled = entry.training_config.get("pooled_pairs") or ()
    lines = [
        entry.display_name,
        f"  grade: {entry.performance_grade}, {entry.grade_reason}",
        *(f"  {line}" for line in verdict),
        f"  run: {entry.run_id}, trained {entry.trained_at or 'at a time not told'}, "
        f"{entry.training_duration or 0:.0f} s",
        *([f"  pairs: {', '.join(pooled)}"] if pooled else []),
        f"  artifact: {registry.outputs / entry.artifact}",
        f"  code: {entry.git_commit or 'commit not known'}",
        f"  hardware: {_machine_words(entry.hardware_info)}",
        f"  aliases: {', '.join(aliases) or 'none'}",
        f"  tags: {', '.join(entry.tags) or 'none'}",
        *([f"  notes: {entry.notes}"] if entry.notes else []),
        "  made from:",
        *(_tree(registry, entry) or ["    no other model"]),
        "  files:",
        *(
            f"    {name}  {utils.format_bytes(each['bytes'])}"
            for name, each in artifact.files.items()
        ),
    ]
    told = entry.to_dict() | {"verdict": verdict, "files": dict(artifact.files)}
    names = ("model_id", "manifest_sha256", "performance_grade", "dependencies")
    lineage = [{name: getattr(each, name) for name in names} for each in ancestors]
    return told | {"aliases": aliases, "lineage": lineage}, "\n".join(lines)


def _machine_words(values: Mapping[str, Any]) -> str:
    told = dict(values)
    if isinstance(size := told.pop("memory_bytes", None), int):
        told["memory"] = utils.format_bytes(size)
    return ", ".join(f"{name} {value}" for name, value in told.items()) or "not known"


def _tree(registry: Registry, entry: ModelSummary) -> list[str]:
    """Returns a line an ancestor, its own below it; those of each are told once."""
    lines, known = [], set()
    pending = [(name, 2) for name in reversed(entry.dependencies)]
    while pending:
        name, depth = pending.pop()
        parent = registry.get(name)
        is_known = name in known
        known.add(name)
        lines.append(
            f"{'  ' * depth}{parent.display_name}  manifest "
            f"{parent.manifest_sha256[:12]}{', as above' if is_known else ''}"
        )
        if not is_known:
            pending += [(each, depth + 1) for each in reversed(parent.dependencies)]
    return lines


def _related(walk: Callable[[Registry, str], list[ModelSummary]]) -> Any:
    def answer(registry: Registry, options: argparse.Namespace) -> Answer:
        found = walk(registry, _id(registry, options))
        names = [each.model_id for each in found]
        return names, "\n".join(names) or "none"

    return answer


def _validate(registry: Registry, options: argparse.Namespace) -> Answer:
    if options.all == (options.model is not None):
        raise utils.ConfigError("validate: expected a MODEL or --all")
    if options.all:
        count = len(registry.entries(skips_broken=True))
        problems = registry.validate_all()
    else:
        count, problems = 1, registry.validate(_id(registry, options))
    if problems and options.json:
        logger.info("%s", _as_json(problems))
    if problems:
        are_gone = {each.exit_code for each in problems} == {utils.EXIT_MISSING_INPUT}
        error = utils.MissingInputError if are_gone else utils.RefusedArtifactError
        raise error("\n".join(problems))
    return [], f"{utils.counted(count, 'model', 'models')}: every file is whole"


def _rollback(registry: Registry, options: argparse.Namespace) -> Answer:
    entry = registry.rollback(options.group, options.alias)
    return _one(entry, f"is {options.alias} again")


def _set_alias(registry: Registry, options: argparse.Namespace) -> Answer:
    if getattr(options, "remove", False):
        entry = registry.remove_alias(_id(registry, options), options.alias)
        return _one(entry, f"is no longer {options.alias}")
    entry = registry.set_alias(_id(registry, options), options.alias)
    return _one(entry, f"is {options.alias}")


def _delete(registry: Registry, options: argparse.Namespace) -> Answer:
    entry = registry.delete(_id(registry, options), with_artifact=options.with_artifact)
    return _one(entry, "deleted; its version is not used again")


def _export(registry: Registry, options: argparse.Namespace) -> Answer:
    name = _id(registry, options)
    made = exchange.export_model(registry, name, options.destination)
    return {"model_id": name, "path": str(made)}, f"{name}: {made}"


def _import(registry: Registry, options: argparse.Namespace) -> Answer:
    found: list[ModelMetadata] = exchange.import_models(registry, options.source)
    return [each.to_dict() for each in found], "\n".join(
        f"{each.model_id}: imported" for each in found
    )


def _scan(registry: Registry, options: argparse.Namespace) -> Answer:
    found = kinds.scan(options.source)
    lines = [
        f"{each['kind']:<12} {each['bytes']:>12,} {each['name']}" for each in found
    ]
    pickles = [each["name"] for each in found if each["kind"] in kinds.PICKLES]
    if pickles:
        lines.append(f"{utils.counted(len(pickles), 'file', 'files')} could run code")
    return found, "\n".join(lines) or "no files"


_COMMANDS: dict[str, tuple[str, Callable[[Registry, argparse.Namespace], Answer]]] = {
    "register": ("register a published run", _register),
    "list": ("list models", _list),
    "get": ("where a model's artifact is; --json: all of its entry", _get),
    "info": ("verdict, lineage, machine, commit, files of a model", _info),
    "best": ("the model with the best value of a metric", _best),
    "dependencies": ("what a model was made from", _related(Registry.dependencies)),
    "dependants": ("what was made from a model", _related(Registry.dependants)),
    "validate": ("verify a model's files and its ancestors'", _validate),
    "alias": ("point an alias at a model, or take it away", _set_alias),
    "promote": ("make a model the champion", _set_alias),
    "rollback": ("point an alias at the model before", _rollback),
    "archive": (
        "take a model out of use",
        lambda r, o: _one(r.archive(_id(r, o)), "archived"),
    ),
    "restore": (
        "take an archived model back into use",
        lambda r, o: _one(r.restore(o.model), "active"),
    ),
    "delete": ("remove a model that nothing depends on", _delete),
    "export": ("copy a model and its ancestors to a folder or a .tar", _export),
    "import": ("take in what was exported, once it is verified", _import),
    "scan": ("kinds of the files in a folder, by their first bytes", _scan),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns its exit code."""
    utils.configure_logging()
    options = _parser().parse_args(arguments)
    return utils.run_command_line(lambda: _run(options))


def _run(options: argparse.Namespace) -> None:
    _, act = _COMMANDS[options.command]
    told, text = act(Registry(options.outputs_dir), options)
    logger.info("%s", _as_json(told) if options.json else text)


def _as_json(told: Any) -> str:
    """Returns JSON in which nothing is left that could steer a terminal."""
    text = json.dumps(to_jsonable(told), indent=2, allow_nan=False)
    return text.replace("\x7f", "\\u007f")


if __name__ == "__main__":
    sys.exit(main())
