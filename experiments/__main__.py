"""The command line of several runs: `python -m experiments COMMAND`."""

from __future__ import annotations

import argparse
import collections
import dataclasses
import itertools
import logging
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import utils
from candles.sources import pair_of_files
from config import FIELDS, field_types, problem_list
from experiments import (
    analyst_table,
    analysts,
    candidates,
    comparison,
    evaluations,
    page,
    plan,
    planned,
    series,
    sweep,
    sweep_folder,
    sweep_report,
)
from files.hooks import Hooks
from settings import options, presets, sources
from settings.presets import GROUPS
from settings.values import list_words, parse_text

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
    options.add_workers_argument(parser, "models side by side")
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
    with utils.StopSignals(), series.open_workers(parsed.max_workers) as executor:
        entries = analysts.train_group(
            parsed.candles, configs, resume=resume, executor=executor
        )
    folder = series.new_folder(next(iter(configs.values())), "analysts")
    analyst_table.write_group(folder, entries)
    logger.info("\n%s", analyst_table.format_group(entries))
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


def _evaluate_parser(command: str = "evaluate") -> argparse.ArgumentParser:
    parser = options.new_parser(
        f"python -m experiments {command}",
        "Judges a finished model on later data, with everything frozen; several models "
        "are judged on the same rows, and compared.",
        usage=f"python -m experiments {command} MODEL... CANDLES...|FILE "
        "[--start MOMENT] [--end MOMENT] [--fee-bps BPS] [--allow-overlap] "
        "[--FIELD VALUE ...]",
    )
    parser.add_argument(
        "paths",
        nargs="+",
        metavar="PATH",
        help="folders of models, or names of registered ones; then candle files of "
        "their pair, with the bars that features look back on, or one training file",
    )
    for name, which in (("start", "first"), ("end", "last")):
        text = f"{which} moment whose bar is judged, such as 2024-07-27 or "
        text += "2024-07-27T05:59, UTC" + "; a day counts whole" * (name == "end")
        parser.add_argument(f"--{name}", metavar="MOMENT", help=text)
    parser.add_argument(
        "--allow-overlap",
        action="store_true",
        help="judge rows that share bars with training or validation, too, IN SAMPLE",
    )
    parser.add_argument(
        "--features",
        metavar="FILE.py",
        help="Python file that registers feature sets of your own; it is run",
    )
    options.add_config_arguments(parser, evaluations.OWN_FIELDS)
    return parser


def _compare(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m experiments compare",
        description="Compares finished runs on their equal test rows; trains nothing.",
    )
    parser.add_argument(
        "runs",
        nargs="+",
        metavar="ARTIFACT",
        help="folders of published runs, or names of registered ones",
    )
    parser.add_argument(
        "--outputs-dir",
        metavar="DIR",
        help="where the comparison goes (default: that of the first run)",
    )
    options = parser.parse_args(arguments)
    comparison.compare_artifacts(options.runs, outputs_dir=options.outputs_dir)


def _benchmark(arguments: Sequence[str]) -> None:
    """Compares finished models: `--models A B CANDLES` or the same without the flag."""
    _evaluate([word for word in arguments if word != "--models"], "benchmark")


def _evaluate(arguments: Sequence[str], command: str = "evaluate") -> None:
    parser = _evaluate_parser(command)
    parsed, config = options.parse_arguments(parser, arguments)
    utils.configure_logging(verbose=config.verbose_logging)
    given = {name: getattr(config, name) for name in vars(parsed) if name in FIELDS}
    models = list(itertools.takewhile(candidates.is_model, parsed.paths))
    models = models or parsed.paths[:1]  # refused where it is opened
    if command == "benchmark" and len(models) < 2:
        raise utils.ConfigError(
            f"--models: expected two models or more. Received: {' '.join(models)}"
        )
    source = parsed.paths[len(models) :]
    if not source:
        raise utils.ConfigError(
            "expected candles, or a training file, behind the models. Received: "
            f"{' '.join(map(str, parsed.paths))}"
        )
    with utils.StopSignals():
        evaluations.evaluate_models(
            models,
            source,
            start=parsed.start,
            end=parsed.end,
            allow_overlap=parsed.allow_overlap,
            feature_file=parsed.features,
            **given,
        )


OF_THE_SWEEP = "time_limit_minutes"
"""A word of a sweep and of a run: on the command line it is the sweep's, in a file of
`--configs` each run's own."""


def _sweep_parser() -> argparse.ArgumentParser:
    parser = options.new_parser(
        "python -m experiments sweep",
        "Trains every combination of pairs, timeframes, models, targets and seeds.",
        usage="python -m experiments sweep --pairs PAIR ... --models MODEL ... "
        "[--timeframes TF ...] [--seeds N ...] [--configs FILE.yaml ...] "
        "[--FIELD VALUE ...] [--max-workers N] [--dry-run] [--resume]",
        epilog="How far a sweep is: python -m experiments status NAME",
    )
    for word, aliases, text in (
        ("pairs", ("--symbols", "--pair"), "trading pairs"),
        ("timeframes", ("--timeframe", "--interval"), "lengths of bars"),
        ("models", ("--model",), "model families; all is every one that is there"),
        ("targets", ("--target", "--target-type"), "what is learned"),
        ("seeds", ("--seed",), "seeds"),
    ):
        flags = [f"--{word}", *aliases]
        parser.add_argument(*flags, dest=word, nargs="+", metavar="WORD", help=text)
    parser.add_argument(
        "--configs",
        "--config",
        nargs="+",
        metavar="FILE",
        help="YAML files; each is a base of its own",
    )
    parser.add_argument("--preset", metavar="NAME", help="settings below those of all")
    parser.add_argument(
        "--data-dir",
        metavar="DIR",
        help="candles that training files are built from; without it files that are "
        "there are taken as they are, and others built from those in data",
    )
    parser.add_argument(
        "--cache",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="keep the features of candles for the next training file, or do not",
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="list the cells, train nothing"
    )
    parser.add_argument(
        "--resume",
        action="store_true",
        help="take finished cells as they are, and go on with the others",
    )
    for name, kind, text in (
        ("executor", str, "auto, serial, processes or ray"),
        ("max_workers", int, "cells side by side (default: one a core)"),
        ("address", str, "of a Ray cluster"),
        ("retries", int, "tries after a dead worker, a timeout, a full disk"),
        ("cell_timeout_minutes", float, "of one try of a cell"),
        ("time_limit_minutes", float, "of the whole; --resume does the rest"),
    ):
        flag = "--" + name.replace("_", "-")
        parser.add_argument(flag, type=kind, help=text, default=argparse.SUPPRESS)
    Hooks.add_options(parser)
    taken = {*plan.AXES.values(), OF_THE_SWEEP}
    options.add_config_arguments(parser, [name for name in FIELDS if name not in taken])
    return parser


def _sweep(arguments: Sequence[str]) -> int | None:
    if arguments[:1] == ["status"]:
        return _status(arguments[1:])
    parsed, fields, problems = options.parse_fields(_sweep_parser(), arguments)
    fields.pop(OF_THE_SWEEP, None)
    hooks = Hooks.of(parsed)
    utils.configure_logging(verbose=bool(fields.get("verbose_logging")))
    preset = presets.preset_values(parsed.preset)
    bases = {}
    stems = [Path(file).stem for file in parsed.configs or ()]
    for file in parsed.configs or [None]:
        values, found = sources.overlaid(file, fields, base=preset)
        label = Path(file or "").stem
        label = label if stems.count(label) < 2 else str(file)
        bases[label] = plan.base_values(values)
        problems += found
    if problems:
        raise utils.ConfigError(problem_list(problems))
    axes = {
        word: [parse_text(each, field_types()[field]) for each in list_words(given)]
        for word, field in plan.AXES.items()
        if (given := getattr(parsed, word)) is not None
    }
    words = {item.name for item in dataclasses.fields(plan.SweepConfig)}
    given = {name: value for name, value in vars(parsed).items() if name in words}
    name = next(iter(bases.values())).get("experiment_name")
    schedule = plan.SweepConfig(name=name, **given)
    asked = planned.plan_sweep(bases, axes, schedule, is_resumed=parsed.resume)
    if parsed.dry_run:
        data_dir = asked.schedule.data_dir
        logger.info("%s", plan.format_cells(asked.cells, data_dir=data_dir))
        return None
    with hooks.telling("sweep") as told:
        told["cells"] = len(asked.cells)
        result = sweep.train(asked)
        states = collections.Counter(cell["status"] for cell in result.cells)
        told |= {"folder": str(result.folder), "counts": dict(states)}
        logger.info("\n%s", sweep_report.format_sweep(result.results))
        logger.info("sweep: %s", result.folder)
        result.require_success()
    return None


def _status(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m experiments status",
        description="Says how a sweep is doing; ends with 0 where it is finished, 75 "
        "while it goes on, 143 where cells wait for --resume, else as they failed.",
    )
    parser.add_argument("name", help="its --experiment-name")
    parser.add_argument("--outputs-dir", default="outputs", metavar="DIR")
    parsed = parser.parse_args(arguments)
    return sweep_folder.show_status(parsed.outputs_dir, parsed.name)


Command = tuple[str, Callable[[Sequence[str]], int | None]]
"""What a command does, in words, and what does it."""


def main(arguments: Sequence[str] | None = None, **above: Command) -> int:
    """Runs the command line; `above` are commands of packages that stand above."""
    utils.configure_logging()
    words = list(sys.argv[1:] if arguments is None else arguments)
    parser = argparse.ArgumentParser(
        prog="python -m experiments",
        description="Several runs that answer one question.",
        epilog="A comparison of models: python trainer.py --compare MODEL MODEL ...",
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    known = _COMMANDS | above
    for name, (text, _) in known.items():
        commands.add_parser(name, help=text, add_help=False)
    _, act = known[parser.parse_args(words[:1]).command]
    return utils.run_command_line(lambda: act(words[1:]))


_COMMANDS: dict[str, Command] = {
    "analysts": ("a model for each timeframe, from one file of candles", _analysts),
    "benchmark": ("finished models on the same rows: skill, speed, size", _benchmark),
    "compare": ("finished runs on their equal test rows, without training", _compare),
    "evaluate": ("finished models on later data, everything frozen", _evaluate),
    "sweep": ("every combination of pairs, models, seeds, on every core", _sweep),
    "status": ("how a sweep is doing", _status),
    "page": ("every run and registered model on one HTML page", _page),
}


if __name__ == "__main__":
    from artifacts.__main__ import main as _registry
    from stages.__main__ import command
    from tuning.__main__ import COMMAND

    pipeline = command(
        list=lambda words: _registry(["list", *words]),
        info=lambda words: _registry(["info", *words]),
        benchmark=_benchmark,
    )
    sys.exit(main(tune=COMMAND, pipeline=pipeline))
