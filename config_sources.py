"""A configuration from YAML and from the command line.

In: reading YAML, a flag for each field, what overlays what, the text of `--help`.
Out: the fields themselves, what contradicts what (`config`), one value by itself
(`field_values`).
"""

from __future__ import annotations

import argparse
import ast
import functools
import inspect
import re
import typing
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import yaml

import utils
from config import FIELDS, Config, build_config, field_types, problem_list
from field_values import parse_text
from utils import ConfigError

MAX_YAML_BYTES = 2**17


def load_config(
    path: str | None = None,
    overrides: Mapping[str, Any] | None = None,
    *,
    base: Mapping[str, Any] | None = None,
) -> Config:
    """Returns `base`, overlaid by the YAML at `path`, overlaid by `overrides`.

    Raises:
        MissingInputError: If there is no file at `path`.
        ConfigError: If the file is not a flat YAML mapping, or a value is refused.
    """
    values = read_yaml(path) if path is not None else {}
    return build_config(dict(base or {}) | values | dict(overrides or {}))


class _StrictLoader(yaml.SafeLoader):
    """Safe YAML without aliases (they can explode) and without repeated keys."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.events.AliasEvent):
            raise yaml.YAMLError("aliases (*name) are not allowed")
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        keys = [repr(self.construct_object(key, deep=True)) for key, _ in node.value]
        repeated = sorted(key for key, n in Counter(keys).items() if n > 1)
        if repeated:
            raise yaml.YAMLError(f"key {', '.join(repeated[:5])} appears twice")
        return super().construct_mapping(node, deep)


def read_yaml(path: str) -> dict[str, Any]:
    """Reads a flat YAML mapping of field names to values; dates become text."""
    file = Path(path)
    if not file.is_file():
        raise utils.MissingInputError(
            f"expected a YAML file. Received: {path!r}, which is not there. Check the "
            "path, or leave --config out."
        )
    if file.stat().st_size > MAX_YAML_BYTES:
        raise ConfigError(f"{path}: expected at most {MAX_YAML_BYTES} bytes of YAML.")
    try:
        content = yaml.load(file.read_text(encoding="utf-8"), Loader=_StrictLoader)  # noqa: S506
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: expected valid YAML. Received: {error}") from error
    if content is None:
        return {}
    if not isinstance(content, dict) or not all(isinstance(k, str) for k in content):
        raise ConfigError(f"{path}: expected `name: value` lines, one for each field.")
    return {k: v.isoformat() if isinstance(v, date) else v for k, v in content.items()}


# Command line: the flags are the fields


def command_flags(config: Config, names: Sequence[str]) -> list[str]:
    """Returns the flags that set each of `names` that is not its default."""
    words: list[str] = []
    for name in names:
        value, flag = getattr(config, name), name.replace("_", "-")
        if value == FIELDS[name].default:
            continue
        if isinstance(value, bool):
            words.append(f"--{flag}" if value else f"--no-{flag}")
        else:
            items = value if isinstance(value, tuple) else (value,)
            words += [f"--{flag}", *map(str, items)]
    return words


def add_config_arguments(
    parser: argparse.ArgumentParser, names: Sequence[str] | None = None
) -> None:
    """Adds a flag for each field (or each of `names`), documented by its docstring."""
    documentation, sections = field_documentation(), field_sections()
    groups: dict[str, Any] = {}
    for name, annotation in field_types().items():
        if names is not None and name not in names:
            continue
        section = sections[name]
        if section not in groups:
            groups[section] = parser.add_argument_group(section)
        default = FIELDS[name].default
        shown: Any = default
        if isinstance(default, tuple):
            shown = " ".join(map(str, default)) or "none"
        options: dict[str, Any] = {
            "dest": name,
            "default": argparse.SUPPRESS,
            "help": f"{documentation[name]} (default: {shown})".replace("%", "%%"),
        }
        if annotation is bool:
            options["action"] = argparse.BooleanOptionalAction
        else:
            options["metavar"] = name.split("_")[-1].upper()
            if "tuple" in str(annotation):
                options["nargs"] = "*"
        flags = (
            "--" + name.replace("_", "-"),
            *FIELDS[name].metadata.get("aliases", ()),
        )
        groups[section].add_argument(*flags, **options)


def parse_arguments(
    parser: argparse.ArgumentParser,
    arguments: Sequence[str] | None,
    *,
    base: Callable[[argparse.Namespace], Mapping[str, Any]] | None = None,
) -> tuple[argparse.Namespace, Config]:
    """Parses a command line made with `add_config_arguments`; returns it and its run.

    Args:
        parser: The parser.
        arguments: The words; None takes the process's.
        base: Gives values that YAML and command line overlay.

    Raises:
        ConfigError: Listing unknown flags and impossible values together.
    """
    parsed, rest = parser.parse_known_args(arguments)
    kinds = field_types()
    overrides = {}
    for name in FIELDS:
        if not hasattr(parsed, name):
            continue
        value = getattr(parsed, name)
        if isinstance(value, list) and value != ["none"]:
            value = [parse_text(item, kinds[name]) for item in value]
        elif isinstance(value, str | list):
            text = value if isinstance(value, str) else value[0]
            value = parse_text(text, kinds[name])
        overrides[name] = value
    flags = [option for action in parser._actions for option in action.option_strings]
    # A lone negative number is a stray value, a word with a dash a misspelt flag.
    unknown = [
        f"unknown argument {word!r}." + utils.did_you_mean(word.split("=")[0], flags)
        for word in rest
        if word.startswith("--") or not any(r.startswith("--") for r in rest)
    ]
    try:
        below = dict(base(parsed)) if base is not None else {}
        config = load_config(getattr(parsed, "config", None), overrides, base=below)
    except ConfigError as error:
        if not unknown or "cannot be run" not in str(error):
            raise
        raise ConfigError(problem_list(unknown, str(error))) from None
    if unknown:
        raise ConfigError(problem_list(unknown))
    return parsed, config


@functools.cache
def field_documentation() -> dict[str, str]:
    """Returns the docstring under each field, on one line."""
    tree = ast.parse(inspect.getsource(Config))
    body = typing.cast(ast.ClassDef, tree.body[0]).body
    result = {}
    for item, following in zip(body, body[1:], strict=False):
        if isinstance(item, ast.AnnAssign) and isinstance(following, ast.Expr):
            text = typing.cast(ast.Constant, following.value).value
            result[typing.cast(ast.Name, item.target).id] = " ".join(str(text).split())
    return result


@functools.cache
def field_sections() -> dict[str, str]:
    """Returns the section comment that each field stands below."""
    lines = inspect.getsource(Config).splitlines()
    section, result = "", {}
    for line, following in zip(lines, lines[1:], strict=False):
        field_line = re.match(r" {4}(\w+): ", line)
        if line.startswith("    # ") and not following:
            section = line.removeprefix("    # ")
        elif field_line and field_line[1] in FIELDS:
            result[field_line[1]] = section
    return result
