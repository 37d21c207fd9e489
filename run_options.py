"""The main command line: its words -> what to do, and the configuration of the run.

In: options of `trainer.py`, the values of a preset, and of a run that is resumed by its
folder.
Out: flags of the fields (`config_sources`), doing it (`trainer`).
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import config_sources
import presets
import utils
from config import Config


def parse(arguments: Sequence[str] | None) -> tuple[argparse.Namespace, Config]:
    """Returns the options and the configuration of a command line.

    Args:
        arguments: The words; None takes the process's.

    Raises:
        ConfigError: Listing unknown flags and impossible values together.
        MissingInputError: If there is no run in the folder to resume.
    """
    return config_sources.parse_arguments(_parser(), arguments, base=_base_values)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="trainer.py",
        usage="trainer.py [--config FILE.yaml] [--FIELD VALUE ...] [--config-test] "
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
        help="Python file that registers feature sets of your own, for the audit",
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
    config_sources.add_config_arguments(parser)
    return parser


def _base_values(parsed: argparse.Namespace) -> dict[str, Any]:
    """Returns what YAML and flags overlay: the preset, the run that is resumed."""
    return presets.preset_values(parsed.preset) | _resumed_config(parsed)


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
    values = config_sources.read_yaml(str(folder / "config.yaml"))
    if folder.resolve().parent.name == "runs":
        values["outputs_dir"] = str(folder.resolve().parents[1])
    return values
