"""The command line of tuning: `python -m experiments tune`."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from functools import partial

import utils
from config import Config, build_config
from executors.kinds import KINDS, open_executor
from files.hooks import Hooks
from networks import allocator
from settings import options, sources
from tuning.search import TuneConfig, begun_with
from tuning.trial import OBJECTIVES
from tuning.tune import tune

logger = logging.getLogger("tuning")


def _parser() -> argparse.ArgumentParser:
    parser = options.new_parser(
        "python -m experiments tune",
        "Searches settings by folds before the test part, then trains the winner and "
        "the default, and compares them on it.",
        usage="python -m experiments tune [--model MODEL] [--n-trials N] "
        "[--space FILE.yaml] [--objective NAME] [--study NAME] [--resume] "
        "[--timeout-minutes M] [--config FILE.yaml] [--FIELD VALUE ...]",
    )
    parser.add_argument(
        "--config",
        nargs="+",
        action="extend",
        metavar="FILE",
        help="YAML files with the same names as the flags; a later one wins",
    )
    parser.add_argument(
        "--n-trials",
        type=int,
        metavar="N",
        help="of the whole study (default: 50, or as many as it began with)",
    )
    parser.add_argument(
        "--space",
        metavar="FILE.yaml",
        help="fields with their choices or ranges (default: those of the family)",
    )
    words = "; ".join(f"{name}: {text}" for name, text in OBJECTIVES.items())
    parser.add_argument(
        "--objective", metavar="NAME", help=f"(default: cv_log_loss) {words}"
    )
    parser.add_argument("--study", metavar="NAME", help="what it is called")
    parser.add_argument(
        "--max-workers", type=int, default=1, metavar="N", help="side by side"
    )
    parser.add_argument(
        "--executor", default="auto", metavar="NAME", help=", ".join(KINDS)
    )
    parser.add_argument("--address", metavar="ADDR", help="of a Ray cluster")
    parser.add_argument("--resume", action="store_true", help="go on with a study")
    parser.add_argument(
        "--timeout-minutes",
        type=float,
        metavar="M",
        help="begin no trial after so long",
    )
    parser.add_argument(
        "--allow-target",
        action="store_true",
        help="search fields that change the question, too: target, horizon, levels, "
        "costs; their files must be there",
    )
    Hooks.add_options(parser)
    options.add_config_arguments(parser)
    return parser


def _tune(arguments: Sequence[str], *, is_program: bool = False) -> None:
    parsed, fields, problems = options.parse_fields(_parser(), arguments)
    hooks = Hooks.of(parsed)
    values, found = sources.overlaid(parsed.config, fields)
    asked = {name: getattr(parsed, name) for name in _WORDS}
    given = {
        k: each for k, each in asked.items() if each is not None and each is not False
    }
    if parsed.space is not None:
        given["space"] = sources.read_yaml(parsed.space)
    if parsed.resume and parsed.study:  # then its name is enough
        place = values.get("outputs_dir", Config().outputs_dir)
        began = begun_with(place, parsed.study)
        values = {**began["config"], "outputs_dir": place, **values}
        given = {name: began[name] for name in _ASKED if name in began} | given
    config = build_config(values, [*problems, *found])
    utils.configure_logging(verbose=config.verbose_logging)
    how = TuneConfig(**given)
    if is_program:
        allocator.prepare_process(config, can_restart=False)
    executor = open_executor(
        parsed.executor, max_workers=parsed.max_workers, address=parsed.address
    )
    with hooks.telling("study") as told, utils.StopSignals(), executor:
        ended = tune(config, how, executor=executor)
        told |= {"study": how.study, "folders": ended["folders"]}
    logger.info("winner: %s", [*ended["folders"].values()][-1])


_ASKED = ("n_trials", "objective", "space", "allow_target")
_WORDS = ("n_trials", "objective", "study", "resume", "timeout_minutes", "allow_target")

COMMAND = (
    "searches settings without the test part, trains the winner",
    partial(_tune, is_program=True),
)


def main(arguments: Sequence[str] | None = None, *, is_program: bool = False) -> int:
    """Runs the command line; returns its exit code.

    Where it `is_program`, it may start the process anew with another allocator.
    """
    utils.configure_logging()
    words = sys.argv[1:] if arguments is None else arguments
    return utils.run_command_line(lambda: _tune(words, is_program=is_program))


if __name__ == "__main__":
    sys.exit(main(is_program=True))
