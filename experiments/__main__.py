"""The command line of several runs: `python -m experiments analysts`."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Callable, Sequence

import utils
from candles.sources import pair_of_files
from config import FIELDS
from experiments import analysts, page, series
from settings import options
from settings.presets import GROUPS

logger = logging.getLogger("experiments")


def _analysts_parser() -> argparse.ArgumentParser:
    parser = options.new_parser(
        "python -m experiments analysts",
        "Builds a training file of each timeframe from one file of "
        "candles, trains a model on each, and prints one table.",
        usage="python -m experiments analysts CANDLES... [--pair PAIR] "
        "[--groups NAME ...] [--timeframes TF ...] [--FIELD VALUE ...] [--resume]",
    )
    parser.add_argument(
        "candles",
        nargs="+",
        help="candle files of one pair, joined in time order; without --pair their "
        "names, such as ETHUSDT-1m.parquet, give the pair",
    )
    parser.add_argument(
        "--groups",
        nargs="+",
        default=list(GROUPS),
        metavar="NAME",
        help=f"{' and '.join(GROUPS)} (default: both)",
    )
    parser.add_argument(
        "--timeframes", nargs="+", metavar="TF", help="only these of them"
    )
    parser.add_argument(
        "--resume",
        action="store_true",
        help="take finished runs as they are, and go on with interrupted ones",
    )
    names = [name for name in FIELDS if name not in analysts.OWN_FIELDS]
    options.add_config_arguments(parser, names)
    return parser


def _analysts(arguments: Sequence[str]) -> None:
    parsed, config = options.parse_arguments(_analysts_parser(), arguments)
    utils.configure_logging(verbose=config.verbose_logging)
    given = {name: getattr(config, name) for name in vars(parsed) if name in FIELDS}
    if "pair" not in given:
        given["pair"] = pair_of_files(parsed.candles)
    frames, resume = parsed.timeframes, "newest" if parsed.resume else None
    configs = analysts.group_configs(parsed.groups, timeframes=frames, **given)
    with utils.StopSignals():
        entries = analysts.train_group(parsed.candles, configs, resume=resume)
    folder = series.new_folder(next(iter(configs.values())), "analysts")
    analysts.write_group(folder, entries)
    logger.info("\n%s", analysts.format_group(entries))
    logger.info("table: %s", folder)
    series.require_success(entries)


def _page(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m experiments page",
        description="Writes every published run and registered model on one HTML page.",
    )
    parser.add_argument("--outputs-dir", default="outputs", metavar="DIR")
    parser.add_argument(
        "--output", metavar="FILE", help=f"(default: {page.NAME} in that folder)"
    )
    options = parser.parse_args(arguments)
    logger.info("page: %s", page.write_page(options.outputs_dir, options.output))


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns its exit code."""
    utils.configure_logging()
    words = list(sys.argv[1:] if arguments is None else arguments)
    parser = argparse.ArgumentParser(
        prog="python -m experiments",
        description="Several runs that answer one question.",
        epilog="A comparison of models: python trainer.py --compare MODEL MODEL ...",
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, (text, _) in _COMMANDS.items():
        commands.add_parser(name, help=text, add_help=False)
    _, act = _COMMANDS[parser.parse_args(words[:1]).command]
    return utils.run_command_line(lambda: act(words[1:]))


_COMMANDS: dict[str, tuple[str, Callable[[Sequence[str]], None]]] = {
    "analysts": ("a model for each timeframe, from one file of candles", _analysts),
    "page": ("every run and registered model on one HTML page", _page),
}


if __name__ == "__main__":
    sys.exit(main())
