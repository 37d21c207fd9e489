"""A configuration from YAML and from the command line.

In: reading YAML, what overlays what, presets and resumed runs below both, the flags
that repeat a configuration. Out: the fields themselves, what contradicts what
(`config`), one value by itself (`values`).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

import utils
from config import ALIASES, FIELDS, Config, build_config
from settings.presets import preset_values
from settings.run_fields import ALIAS
from settings.values import list_words
from utils import ConfigError

if TYPE_CHECKING:
    import argparse

MAX_YAML_BYTES = 2**17


def load_config(
    path: str | Sequence[str] | None = None,
    overrides: Mapping[str, Any] | None = None,
    *,
    base: Mapping[str, Any] | None = None,
    problems: Sequence[str] = (),
) -> Config:
    """Returns `base`, overlaid by the YAML at `path`, overlaid by `overrides`.

    Of several files a later one wins. `problems` are refused together with those of the
    values.

    Raises:
        MissingInputError: If there is no file at `path`.
        ConfigError: If the file is not a flat YAML mapping, or a value is refused.
    """
    values, found = overlaid(path, overrides, base=base)
    return build_config(values, [*problems, *found])


def overlaid(
    path: str | Sequence[str] | None,
    overrides: Mapping[str, Any] | None = None,
    *,
    base: Mapping[str, Any] | None = None,
) -> tuple[dict[str, Any], list[str]]:
    """Returns the values that `load_config` makes a run of, and what is wrong already.

    Raises:
        UserError: If there is no file at `path`, or it is no flat YAML mapping.
    """
    found, given = [], dict[str, Any]()
    for file in [path] if isinstance(path, str) else path or ():
        values = read_yaml(file)
        for alias, name in ALIASES.items():
            if alias in values and name in values:
                found.append(f"{alias}: another word for {name}. Received: both")
            if alias in values:
                values[name] = values.pop(alias)
        given |= values
    values = {**(base or {}), **given, **(overrides or {})}
    for name, cure in _ONE_EACH.items():
        words = values.get(name)
        words = list_words([words]) if isinstance(words, str) else words
        if isinstance(words, list) and len(words) == 1:
            values[name] = words[0]
        elif isinstance(words, list) and words:
            shown = " ".join(map(str, words))
            found.append(f"{name}: one run takes one {name}. Received: {shown}. {cure}")
            del values[name]
    return values, found


_ONE_EACH = {
    "pair": "`python -m experiments sweep --pairs A B` builds their files and trains "
    "each; `dataset_builder.py multi` builds the files alone",
    "model": "`--compare A B` compares them on the same rows; `python -m experiments "
    "sweep --models A B` trains each, on every core",
}
"""Fields that have one value in a run, and what to do where several are wanted."""


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


# Numbers as YAML 1.2 has them: 1e-3 is one, 0x10 and 1:30 are text.
_StrictLoader.yaml_implicit_resolvers = {
    first: [item for item in items if not item[0].endswith((":int", ":float"))]
    for first, items in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
for _kind, _form in {
    "int": r"[-+]?(0|[1-9][0-9_]*)",
    "float": r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|nan)",
}.items():
    _StrictLoader.add_implicit_resolver(
        f"tag:yaml.org,2002:{_kind}", re.compile(f"({_form})$"), list("-+.0123456789")
    )


def read_yaml(path: str) -> dict[str, Any]:
    """Reads a flat YAML mapping of field names to values; dates become text."""
    file = Path(path)
    if not file.is_file():
        what = "a folder" if file.is_dir() else "not there"
        raise utils.MissingInputError(
            f"expected a YAML file. Received: {path!r}, which is {what}. Check the "
            "path."
        )
    if file.stat().st_size > MAX_YAML_BYTES:
        raise ConfigError(f"{path}: expected at most {MAX_YAML_BYTES} bytes of YAML.")
    try:
        content = yaml.load(file.read_text(encoding="utf-8"), Loader=_StrictLoader)  # noqa: S506
    except OSError:
        raise
    except Exception as error:  # constructors of numbers and dates raise anything
        raise ConfigError(
            f"{path}: expected valid YAML. Received: {error!s:.300}"
        ) from error
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


def base_values(parsed: argparse.Namespace) -> dict[str, Any]:
    """Returns what YAML and flags overlay: the preset, the run that is resumed."""
    _refuse_idle_options(parsed)
    return preset_values(parsed.preset) | _resumed_config(parsed)


def _refuse_idle_options(parsed: argparse.Namespace) -> None:
    """Refuses options that what is asked for would not read."""
    wanted = ("audit_candles", "audit_features", "audit_json", "audit_strict")
    parsed.audit = parsed.audit or any(getattr(parsed, name) for name in wanted)
    if parsed.resume_anyway and not parsed.resume:
        raise ConfigError("--resume-anyway: expected --resume with it.")
    if parsed.alias and not parsed.register:
        raise ConfigError("--alias: expected --register with it.")
    if parsed.alias and not ALIAS.fullmatch(parsed.alias):  # not after the training
        raise ConfigError(
            "--alias: expected up to 64 letters, digits, '.', '_' and '-', the first a "
            f"letter or a digit, no version. Received: {parsed.alias!r:.100}"
        )
    if parsed.compare and parsed.compare_configs:
        raise ConfigError("--compare-configs: expected no --compare with it.")
    if parsed.max_workers is not None and not (
        parsed.compare or parsed.compare_configs
    ):
        raise ConfigError(
            "--max-workers: expected a comparison with it. Many runs: python -m "
            "experiments sweep"
        )
    for name in (
        "compare",
        "compare_configs",
        "config_test",
        "resume_anyway",
        "register",
    ):
        if parsed.audit and getattr(parsed, name):
            flag = "--" + name.replace("_", "-")
            raise ConfigError(
                f"{flag}: expected no audit with it, which trains nothing."
            )


def _resumed_config(parsed: argparse.Namespace) -> dict[str, Any]:
    """Returns the values of the run that is resumed by its folder, where one is."""
    if parsed.resume in (None, "newest"):
        return {}
    if parsed.compare or parsed.compare_configs:
        raise ConfigError(
            "--resume: expected no folder with a comparison, which takes every "
            f"finished run. Received: {parsed.resume}"
        )
    folder, run = Path(parsed.resume), Path(parsed.resume).absolute()
    for family in run.parent.parent.glob("models/*/*"):  # where a finished run is
        if not folder.exists() and (family / run.name / "config.yaml").is_file():
            parsed.resume = folder = family / run.name
    if not (folder / "config.yaml").is_file():
        raise utils.MissingInputError(
            f"--resume: expected the folder of a run. Received: {folder}"
        )
    values = read_yaml(str(folder / "config.yaml"))
    if folder.resolve().parent.name == "runs":
        values["outputs_dir"] = str(folder.resolve().parents[1])
    return values
