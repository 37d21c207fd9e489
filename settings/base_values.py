"""Options of `trainer.py` -> the values that YAML and flags overlay.

In: options that contradict each other, a preset, the run that is resumed. Out: the
options themselves (`options`), overlaying (`sources`).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import utils
from settings import presets, sources
from settings.run_fields import ALIAS
from utils import ConfigError

if TYPE_CHECKING:
    import argparse


def base_values(parsed: argparse.Namespace) -> dict[str, Any]:
    """Returns what YAML and flags overlay: the preset, the run that is resumed."""
    _refuse_idle_options(parsed)
    return presets.preset_values(parsed.preset) | _resumed_config(parsed)


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
        raise utils.ConfigError(
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
    values = sources.read_yaml(str(folder / "config.yaml"))
    if folder.resolve().parent.name == "runs":
        values["outputs_dir"] = str(folder.resolve().parents[1])
    return values
