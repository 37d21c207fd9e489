"""The command line of the registry: `python -m artifacts --outputs-dir DIR list`."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Callable, Sequence
from typing import Any

import utils
from artifacts import exchange
from artifacts.entries import HIGHER_IS_BETTER, ModelMetadata, ModelSummary
from artifacts.grades import PerformanceGrade
from artifacts.registry import CHAMPION, Registry
from files.strict import to_json, to_jsonable

logger = logging.getLogger("artifacts")

_MARKET = ("model", "pair", "timeframe", "target")
_COLUMNS = ("grade", "skill", "net bps", "created", "status", "model")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m artifacts",
        description="Registered models: versions, grades, aliases, lineage.",
        epilog="MODEL: an id, family/PAIR-timeframe-target@alias, or a part of an id.",
    )
    parser.add_argument(
        "--outputs-dir", default="outputs", metavar="DIR", help="(default: outputs)"
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, (text, _) in _COMMANDS.items():
        command = commands.add_parser(name, help=text, description=text)
        command.add_argument("--json", action="store_true", help="answer as JSON")
        _ARGUMENTS.get(name, _add_model)(command)
    return parser


def _add_model(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL")


def _add_register(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("artifact", metavar="FOLDER", help="a published run")
    parser.add_argument("--alias", help="also points this alias at it")
    parser.add_argument(
        "--depends-on", nargs="+", default=[], metavar="ID", help="what it is made from"
    )
    parser.add_argument("--tags", nargs="+", default=[], metavar="TAG")
    parser.add_argument("--notes", default="", help="a line for readers")
    parser.add_argument(
        "--mlflow",
        metavar="URI",
        help="also log it to MLflow there, such as sqlite:///mlflow.db",
    )


def _add_filters(parser: argparse.ArgumentParser) -> None:
    for name in ("family", "pair", "timeframe", "target"):
        parser.add_argument(f"--{name}")
    parser.add_argument(
        "--least-grade", choices=[each.value for each in PerformanceGrade]
    )
    parser.add_argument("--tags", nargs="+", default=[], metavar="TAG")
    parser.add_argument(
        "--status", choices=("active", "archived", "all"), default="active"
    )


def _add_list(parser: argparse.ArgumentParser) -> None:
    _add_filters(parser)
    parser.add_argument("--limit", type=int, default=None, metavar="N")
    sorts = ("created_at", "grade", "skill", *HIGHER_IS_BETTER)
    parser.add_argument(
        "--sort",
        choices=sorts,
        default="created_at",
        metavar="NAME",
        help="created_at (newest first), grade, skill or a metric (best first)",
    )


def _add_best(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("metric", choices=HIGHER_IS_BETTER, metavar="METRIC")
    _add_filters(parser)


def _add_validate(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", nargs="?")
    parser.add_argument("--all", action="store_true", help="every registered model")


def _add_alias(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL")
    parser.add_argument("alias", metavar="NAME", help="champion, challenger, your own")


def _add_promote(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL")
    parser.add_argument("--alias", default=CHAMPION, help=f"(default: {CHAMPION})")


def _add_rollback(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("group", metavar="family/PAIR-timeframe-target")
    parser.add_argument("--alias", default=CHAMPION, help=f"(default: {CHAMPION})")


def _add_delete(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL")
    parser.add_argument(
        "--with-artifact", action="store_true", help="remove its folder, too"
    )


def _add_export(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL")
    parser.add_argument("destination", help="a new folder, or a name that ends in .tar")


def _add_source(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", metavar="FOLDER", help="for import also a .tar")


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
    told = "\n".join(f"  {k} {each.display_name}" for k, each in enumerate(found, 1))
    if not sys.stdin.isatty():
        raise utils.ConfigError(
            f"expected one model. Received: {words!r}, which may be\n{told}"
        )
    question = f"which one, 1 to {len(found)}, new, or quit? "
    # Not into the answer, which another program may read.
    sys.stderr.write(f"{told}\n{question}")
    while word := sys.stdin.readline().strip().lower():
        if word.isdecimal() and 1 <= int(word) <= len(found):
            return found[int(word) - 1]
        if word == "new":
            raise utils.ConfigError(f"a new one comes of: {_training_words(found)}")
        if word in ("q", "quit"):
            break
        sys.stderr.write(question)
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
    store = exchange.MlflowStore(options.mlflow) if options.mlflow else None
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


def _info(registry: Registry, options: argparse.Namespace) -> Answer:
    entry = registry.get(_id(registry, options))
    artifact = registry.open(entry.model_id)
    verdict = (artifact.metadata.get("results") or {}).get("verdict") or []
    lines = [
        entry.display_name,
        f"  grade: {entry.performance_grade}, {entry.grade_reason}",
        *(f"  {line}" for line in verdict),
        f"  run: {entry.run_id}, trained {entry.trained_at or 'at a time not told'}, "
        f"{entry.training_duration or 0:.0f} s",
        f"  artifact: {registry.outputs / entry.artifact}",
        f"  code: {entry.git_commit or 'commit not known'}",
        f"  hardware: {_told(entry.hardware_info)}",
        f"  aliases: {', '.join(registry.aliases_of(entry)) or 'none'}",
        f"  tags: {', '.join(entry.tags) or 'none'}",
        "  made from:",
        *(_tree(registry, entry, "    ") or ["    no other model"]),
        "  files:",
        *(
            f"    {name}  {utils.format_bytes(each['bytes'])}"
            for name, each in artifact.files.items()
        ),
    ]
    told = entry.to_dict() | {"verdict": verdict, "files": dict(artifact.files)}
    return told | {"aliases": registry.aliases_of(entry)}, "\n".join(lines)


def _told(values: Any) -> str:
    return ", ".join(f"{k} {v}" for k, v in dict(values).items()) or "not known"


def _tree(registry: Registry, entry: ModelSummary, indent: str) -> list[str]:
    registry.dependencies(entry.model_id)  # refuses a circle
    lines = []
    for name in entry.dependencies:
        parent = registry.get(name)
        lines += [f"{indent}{parent.display_name}"]
        lines += _tree(registry, parent, indent + "  ")
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
    entries = registry.list(status=None) if options.all else []
    names = [each.model_id for each in entries] or (
        [] if options.all else [_id(registry, options)]
    )
    problems = [line for name in names for line in registry.validate(name)]
    problems = list(dict.fromkeys(problems))
    if problems:
        raise utils.RefusedArtifactError("\n".join(problems))
    return [], f"{utils.counted(len(names), 'model', 'models')}: every file is whole"


def _rollback(registry: Registry, options: argparse.Namespace) -> Answer:
    entry = registry.rollback(options.group, options.alias)
    return _one(entry, f"is {options.alias} again")


def _set_alias(registry: Registry, options: argparse.Namespace) -> Answer:
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
    found = exchange.scan(options.source)
    lines = [
        f"{each['kind']:<12} {each['bytes']:>12,} {each['name']}" for each in found
    ]
    pickles = [each["name"] for each in found if each["kind"] in exchange.PICKLES]
    if pickles:
        lines.append(f"{utils.counted(len(pickles), 'file', 'files')} could run code")
    return found, "\n".join(lines) or "no files"


_COMMANDS: dict[str, tuple[str, Callable[[Registry, argparse.Namespace], Answer]]] = {
    "register": ("register a published run", _register),
    "list": ("list models", _list),
    "info": ("verdict, lineage, machine, commit, files of a model", _info),
    "best": ("the model with the best value of a metric", _best),
    "dependencies": ("what a model was made from", _related(Registry.dependencies)),
    "dependants": ("what was made from a model", _related(Registry.dependants)),
    "validate": ("verify a model's files and its ancestors'", _validate),
    "alias": ("point an alias at a model", _set_alias),
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
_ARGUMENTS = {
    "register": _add_register,
    "list": _add_list,
    "best": _add_best,
    "validate": _add_validate,
    "alias": _add_alias,
    "promote": _add_promote,
    "rollback": _add_rollback,
    "delete": _add_delete,
    "export": _add_export,
    "import": _add_source,
    "scan": _add_source,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns its exit code."""
    utils.configure_logging()
    options = _parser().parse_args(arguments)
    return utils.run_command_line(lambda: _run(options))


def _run(options: argparse.Namespace) -> None:
    _, act = _COMMANDS[options.command]
    told, text = act(Registry(options.outputs_dir), options)
    logger.info("%s", to_json(to_jsonable(told)).rstrip() if options.json else text)


if __name__ == "__main__":
    sys.exit(main())
