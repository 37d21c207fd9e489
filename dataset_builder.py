"""Candles -> training files: the builder, the demo market, the command line.

In: the words of the command. Out: building (`dataset.builder`), what `describe` shows
(`reports.dataset`).
"""

from __future__ import annotations

import argparse
import logging
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import utils
from candles.columns import EXTRAS
from candles.sources import CandleSource, pair_of_files, timeframe_of_files
from config import DATASET_FIELDS, Config
from dataset import features
from dataset.builder import (
    DEMO_PAIR,
    DatasetBuilder,
    build_training_file,
    demo_candles,
    write_training_file,
)
from dataset.context_files import parse_context
from files import tables
from files.atomic import require_creatable
from settings import options, sources
from utils import ConfigError

__all__ = ["DatasetBuilder", "build_training_file", "demo_candles", "main"]

logger = logging.getLogger(__name__)

Describe = Callable[[str, str | None], None]

_COMMANDS = {
    "multi": "build training files of several pairs, or none of them",
    "describe": "print a summary of training files, and draw them",
    "cache": "list the cache, or empty it",
}


def _parser(
    program: str, description: str, fields: Sequence[str], epilog: str | None = None
) -> argparse.ArgumentParser:
    parser = options.new_parser(
        program,
        description,
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--config", help="YAML file with the same names as the flags")
    parser.add_argument(
        "--cache",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="read and write the cache, or neither",
    )
    parser.add_argument(
        "--cache-dir", help="its folder (default: .cache in inputs-dir)"
    )
    names = ("timeframe", "timezone", "start_date", "end_date", *fields)
    names += ("inputs_dir", "verbose_logging")
    options.add_config_arguments(parser, (*names, *DATASET_FIELDS))
    return parser


def main(
    arguments: Sequence[str] | None = None, *, describe: Describe | None = None
) -> int:
    """Runs the command line; returns its exit code.

    Args:
        arguments: The words; None takes the process's.
        describe: What `describe` calls with the file and the picture to write:
            `reports.dataset.describe_file`, which stands above this module.
    """
    utils.configure_logging()
    words = list(sys.argv[1:] if arguments is None else arguments)
    name = words[0] if words else ""
    if name == "describe" and describe is not None:
        return utils.run_command_line(lambda: _describe(words[1:], describe))
    commands = {"multi": _build_multi, "cache": _cache}
    if name in commands:
        return utils.run_command_line(lambda: commands[name](words[1:]))
    return utils.run_command_line(lambda: _build(words))


def _refuse_mistyped_command(words: Sequence[str]) -> None:
    """Refuses a first word that is nearly a command and no file."""
    near = utils.did_you_mean(words[0], _COMMANDS) if words else ""
    if near and not Path(words[0]).exists():
        raise ConfigError(
            f"expected a command or candle files. Received: {words[0]}.{near}"
        )


def _build(arguments: Sequence[str]) -> None:
    parser = _parser(
        "dataset_builder.py",
        "Builds a training file from candles.",
        ("pair", "training_file"),
        "Candles before --start-date are warm-up; none after --end-date is read.\n\n"
        "other commands, each with its --help:\n"
        + "".join(f"  {name:<10}{text}\n" for name, text in _COMMANDS.items()),
    )
    parser.add_argument(
        "candles",
        nargs="*",
        help="candle files, joined in time order; their names, such as "
        "ETHUSDT-1m.parquet, give pair and timeframe where no flag does",
    )
    parser.add_argument(
        "--context",
        nargs="+",
        default=(),
        metavar="PAIR=FILE",
        help="candles of context pairs, PAIR=FILE[,FILE] (default: beside the pair's "
        "own files, or in the folder data); funding_rate=FILE or open_interest=FILE",
    )
    parser.add_argument(
        "--demo", action="store_true", help="build the embedded demo market"
    )
    parser.add_argument(
        "--demo-strength",
        type=float,
        default=1.0,
        help="strength of the planted direction signal; 0 is none (default: 1)",
    )
    _refuse_mistyped_command(arguments)
    parsed, config = options.parse_arguments(parser, arguments)
    utils.configure_logging(verbose=config.verbose_logging)
    if not 0 <= parsed.demo_strength < float("inf"):
        raise ConfigError(
            "--demo-strength: expected a finite number of at least 0 (no signal). "
            f"Received: {parsed.demo_strength:g}."
        )
    if bool(parsed.candles) == parsed.demo:
        raise ConfigError(
            "expected candle files, or --demo. "
            f"Received: {'both' if parsed.demo else 'neither'}"
        )
    if not parsed.demo:
        config = _with_stated_words(parsed, config)
    elif config.pair == Config().pair:
        config = config.replace(pair=DEMO_PAIR)
    context = parse_context(parsed.context)
    pairs = tuple(name for name in context if name not in EXTRAS)
    if pairs and not config.context_pairs:
        config = config.replace(context_pairs=pairs)
    builder, started = _builder(parsed, config), time.perf_counter()
    source = demo_candles(strength=parsed.demo_strength) if parsed.demo else None
    tables.require_suffix(config.expected_path, "training_file")
    require_creatable(config.expected_path.parent)
    source = parsed.candles if source is None else source
    built = builder.build_dataset(candles=source, context=context)
    write_training_file(builder, built)
    logger.info("  built in %.1f s", time.perf_counter() - started)


def _with_stated_words(parsed: argparse.Namespace, config: Config) -> Config:
    """Takes the pair and the timeframe that the files state where the user does not."""
    if not all(Path(path).exists() for path in parsed.candles):
        return config  # what is not there is refused later, by its name
    given = sources.read_yaml(parsed.config) if parsed.config is not None else {}
    if not (hasattr(parsed, "pair") or "pair" in given):
        config = config.replace(pair=pair_of_files(parsed.candles))
    if not (hasattr(parsed, "timeframe") or "timeframe" in given):
        timeframe = timeframe_of_files(
            parsed.candles, timezone=config.timezone, default=config.timeframe
        )
        config = config.replace(timeframe=timeframe)
    return config


def _builder(parsed: argparse.Namespace, config: Config) -> DatasetBuilder:
    features.find_feature_sets(config.feature_sets)
    return DatasetBuilder(
        config,
        data_dir=getattr(parsed, "data_dir", "data"),
        cache_dir=parsed.cache_dir,
        use_cache=parsed.cache,
    )


def _build_multi(arguments: Sequence[str]) -> None:
    parser = _parser(
        "dataset_builder.py multi",
        "Builds a training file for each of several pairs, or none of them.",
        (),
    )
    parser.add_argument(
        "pairs",
        nargs="+",
        metavar="PAIR[=FILE[,FILE]]",
        help="a pair; without files they are looked for in --data-dir",
    )
    parser.add_argument("--data-dir", default="data", help="(default: data)")
    parsed, config = options.parse_arguments(parser, arguments)
    utils.configure_logging(verbose=config.verbose_logging)
    if config.training_file is not None:
        raise ConfigError("training_file: expected none, each pair has its own file.")
    items: list[tuple[str, CandleSource]] = []
    for word in parsed.pairs:
        pair, _, files = word.partition("=")
        items.append((pair, files.split(",") if files else None))
    builder = _builder(parsed, config)
    require_creatable(config.inputs_dir)
    built = builder.build_multi_symbol_dataset(items)
    for dataset in built.values():
        write_training_file(builder, dataset)


def _describe(arguments: Sequence[str], describe: Describe) -> None:
    parser = argparse.ArgumentParser(
        prog="dataset_builder.py describe",
        description="Prints a summary of training files and draws each.",
    )
    parser.add_argument(
        "files", nargs="+", metavar="FILE", help="training file: feather, parquet, CSV"
    )
    parser.add_argument(
        "--output",
        help="PNG to write, its folder made where missing (default: beside the file)",
    )
    parsed = parser.parse_args(arguments)
    if parsed.output is not None and len(parsed.files) > 1:
        raise ConfigError(
            "--output: expected one file with it; several are drawn beside themselves. "
            f"Received: {len(parsed.files)} files."
        )
    for file in parsed.files:
        describe(file, parsed.output)


def _cache(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(
        prog="dataset_builder.py cache", description="Lists or empties the cache."
    )
    parser.add_argument("--inputs-dir", default=Config().inputs_dir)
    parser.add_argument("--cache-dir", help="(default: .cache in inputs-dir)")
    parser.add_argument("--clear", action="store_true", help="remove every table")
    parsed = parser.parse_args(arguments)
    builder = DatasetBuilder(inputs_dir=parsed.inputs_dir, cache_dir=parsed.cache_dir)
    if parsed.clear:
        removed = utils.counted(builder.clear_cache(), "table", "tables")
        logger.info("%s removed", removed)
    info = builder.get_cache_info()
    total, cap = map(utils.format_bytes, (info["bytes"], info["max_bytes"]))
    logger.info(
        "%s: %s, %s of %s",
        info["folder"],
        utils.counted(len(info["tables"]), "table", "tables"),
        total,
        cap,
    )
    for entry in info["tables"]:
        size = utils.format_bytes(entry["bytes"])
        logger.info("  %-44s %10s  used %s", entry["name"], size, entry["used"][:19])


if __name__ == "__main__":

    def _draw(file: str, output: str | None) -> None:
        from reports.dataset import describe_file

        describe_file(file, output)

    sys.exit(main(describe=_draw))
