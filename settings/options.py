"""Words of a command line -> what to do, and the configuration of the run.

In: a flag for each field, options of `trainer.py`, the values of a preset, and of a run
that is resumed by its folder. Out: YAML, what overlays what (`sources`), doing it
(`trainer`).
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import utils
from config import FIELDS, PARTS, Config, field_types
from settings import presets, sources
from settings.sources import load_config
from settings.values import parse_text
from utils import ConfigError


def parse(
    arguments: Sequence[str] | None, *, program: str = "trainer.py"
) -> tuple[argparse.Namespace, Config]:
    """Returns the options and the configuration of a command line; see its parts.

    Raises:
        MissingInputError: If there is no run in the folder to resume.
    """
    return parse_arguments(_parser(program), arguments, base=_base_values)


def _parser(program: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=program,
        usage=f"{program} [--config FILE.yaml] [--FIELD VALUE ...] [--config-test] "
        "[--preset NAME] [--compare MODEL MODEL ...] [--audit] [--resume [RUN_DIR]]",
        description="Trains a model of SHORT / HOLD / LONG signals.",
        allow_abbrev=False,
    )
    parser.add_argument("--config", help="YAML file with the same names as the flags")
    parser.add_argument(
        "--config-test",
        action="store_true",
        help="check and print the configuration, train nothing",
    )
    parser.add_argument(
        "--resume",
        nargs="?",
        const="newest",
        metavar="RUN_DIR",
        help="go on with RUN_DIR, or with the newest unfinished run of this "
        "configuration; start afresh where there is none",
    )
    parser.add_argument(
        "--resume-anyway",
        action="store_true",
        help="resume although data, configuration or environment differ",
    )
    parser.add_argument(
        "--audit",
        action="store_true",
        help="look for leaks in the training file and its feature functions, train "
        "nothing; ends with 65 where one is found",
    )
    parser.add_argument(
        "--audit-candles",
        nargs="+",
        metavar="FILE",
        help="candles that the file was made from: the audit computes it again",
    )
    parser.add_argument(
        "--audit-features",
        metavar="FILE.py",
        help="Python file that registers feature sets of your own, for the audit; it "
        "is run",
    )
    parser.add_argument(
        "--audit-json",
        metavar="FILE",
        help="write the findings here, too: check, outcome, columns, words",
    )
    parser.add_argument(
        "--audit-strict",
        action="store_true",
        help="end with 65 where a check of the audit is doubtful or was not done, too",
    )
    parser.add_argument(
        "--preset",
        metavar="NAME",
        help=f"settings under one name, below those of --config and of the flags: "
        f"{', '.join(presets.PRESETS)}",
    )
    parser.add_argument(
        "--compare",
        nargs="+",
        metavar="MODEL",
        help="train these models one after another instead of `model`, and compare "
        "them on the same test rows",
    )
    add_config_arguments(parser)
    return parser


def _base_values(parsed: argparse.Namespace) -> dict[str, Any]:
    """Returns what YAML and flags overlay: the preset, the run that is resumed."""
    _refuse_idle_options(parsed)
    return presets.preset_values(parsed.preset) | _resumed_config(parsed)


def _refuse_idle_options(parsed: argparse.Namespace) -> None:
    """Refuses options that what is asked for would not read."""
    wanted = ("audit_candles", "audit_features", "audit_json", "audit_strict")
    parsed.audit = parsed.audit or any(getattr(parsed, name) for name in wanted)
    if parsed.resume_anyway and not parsed.resume:
        raise ConfigError("--resume-anyway: expected --resume with it.")
    for name in ("compare", "config_test", "resume_anyway"):
        if parsed.audit and getattr(parsed, name):
            flag = "--" + name.replace("_", "-")
            raise ConfigError(
                f"{flag}: expected no audit with it, which trains nothing."
            )


def _resumed_config(parsed: argparse.Namespace) -> dict[str, Any]:
    """Returns the values of the run that is resumed by its folder, where one is."""
    if parsed.resume in (None, "newest"):
        return {}
    if parsed.compare:
        raise utils.ConfigError(
            "--resume: expected no folder with --compare, which takes every finished "
            f"run. Received: {parsed.resume}"
        )
    folder = Path(parsed.resume)
    if not (folder / "config.yaml").is_file():
        raise utils.MissingInputError(
            f"--resume: expected the folder of a run. Received: {folder}"
        )
    values = sources.read_yaml(str(folder / "config.yaml"))
    if folder.resolve().parent.name == "runs":
        values["outputs_dir"] = str(folder.resolve().parents[1])
    return values


def add_config_arguments(
    parser: argparse.ArgumentParser, names: Sequence[str] | None = None
) -> None:
    """Adds a flag for each field (or each of `names`), in the groups of the parts."""
    for part in PARTS:
        items = dataclasses.fields(part)
        items = tuple(x for x in items if names is None or x.name in names)
        if not items:
            continue
        group, texts = parser.add_argument_group(part.title()), part.documentation()
        for item in items:
            flags = ["--" + item.name.replace("_", "-")]
            flags += item.metadata.get("aliases", ())
            group.add_argument(*flags, **_options(item, texts.get(item.name, "")))


def _options(item: dataclasses.Field[Any], text: str) -> dict[str, Any]:
    """Returns what `add_argument` is told of a field."""
    shown, annotation = item.default, field_types()[item.name]
    if isinstance(shown, tuple):
        shown = " ".join(map(str, shown)) or "none"
    options: dict[str, Any] = {
        "dest": item.name,
        "default": argparse.SUPPRESS,
        "help": f"{text} (default: {shown})".replace("%", "%%"),
    }
    if annotation is bool:
        return options | {"action": argparse.BooleanOptionalAction}
    options["metavar"] = item.name.split("_")[-1].upper()
    if "tuple" in str(annotation):
        options["nargs"] = "*"
    return options


def parse_arguments(
    parser: argparse.ArgumentParser,
    arguments: Sequence[str] | None,
    *,
    base: Callable[[argparse.Namespace], Mapping[str, Any]] | None = None,
) -> tuple[argparse.Namespace, Config]:
    """Parses a command line made with `add_config_arguments`; returns it and its run.

    `base` gives values that YAML and command line overlay.

    Raises:
        ConfigError: Listing unknown flags and impossible values together.
    """
    parsed, rest = parser.parse_known_args(arguments)
    kinds = field_types()
    overrides = {}
    for name in [name for name in FIELDS if hasattr(parsed, name)]:
        value = getattr(parsed, name)
        value = "none" if value == ["none"] else value
        if isinstance(value, list):
            value = [parse_text(item, kinds[name]) for item in value]
        elif isinstance(value, str):
            value = parse_text(value, kinds[name])
        overrides[name] = value
    flags = [option for action in parser._actions for option in action.option_strings]
    # A lone negative number is a stray value, a word with a dash a misspelt flag.
    unknown = [
        f"unknown argument {word!r}." + utils.did_you_mean(word.split("=")[0], flags)
        for word in rest
        if word.startswith("--") or not any(r.startswith("--") for r in rest)
    ]
    below = base(parsed) if base is not None else {}
    file = getattr(parsed, "config", None)
    return parsed, load_config(file, overrides, base=below, problems=unknown)
