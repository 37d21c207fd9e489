"""The command line of tuning: `python -m experiments tune`."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

import utils
from config import Config
from executors.kinds import KINDS, open_executor
from settings import options, sources
from trainer import StandaloneTrainer
from tuning.search import TuneConfig
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
    parser.add_argument("--config", help="YAML file with the same names as the flags")
    parser.add_argument(
        "--n-trials", type=int, default=50, metavar="N", help="(default: 50)"
    )
    parser.add_argument(
        "--space",
        metavar="FILE.yaml",
        help="fields with their choices or ranges (default: those of the family)",
    )
    words = "; ".join(f"{name}: {text}" for name, text in OBJECTIVES.items())
    parser.add_argument(
        "--objective", default="cv_log_loss", metavar="NAME", help=words
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
    options.add_config_arguments(parser)
    return parser


def _tune(arguments: Sequence[str]) -> None:
    parsed, config = options.parse_arguments(_parser(), arguments)
    utils.configure_logging(verbose=config.verbose_logging)
    space = None if parsed.space is None else sources.read_yaml(parsed.space)
    how = TuneConfig(
        n_trials=parsed.n_trials,
        objective=parsed.objective,
        space=space,
        study=parsed.study,
        resume=parsed.resume,
        timeout_minutes=parsed.timeout_minutes,
        allow_target=parsed.allow_target,
    )
    executor = open_executor(
        parsed.executor, max_workers=parsed.max_workers, address=parsed.address
    )
    resume = "newest" if parsed.resume else None

    def train(each: Config) -> Path:
        return StandaloneTrainer(each, resume=resume).run_training()

    with utils.StopSignals(), executor:
        found = tune(config, how, executor=executor, train=train)
    logger.info("winner: %s", [*found["folders"].values()][-1])


COMMAND = ("searches settings without the test part, trains the winner", _tune)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns its exit code."""
    utils.configure_logging()
    words = sys.argv[1:] if arguments is None else arguments
    return utils.run_command_line(lambda: _tune(words))


if __name__ == "__main__":
    sys.exit(main())
