"""The command line of pipelines: `python -m experiments pipeline`."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import utils
from config import FIELDS, Config, problem_list
from executors.kinds import KINDS, open_executor
from settings import options, sources
from settings.values import list_words
from stages import words
from stages.pipeline import run_pipeline
from stages.plan import OWN_FIELDS, Pipeline, read_pipeline
from stages.tables import format_stages, show_status

logger = logging.getLogger("stages")


def _parser() -> argparse.ArgumentParser:
    parser = options.new_parser(
        "python -m experiments pipeline",
        "Trains stages that build on each other, such as an extractor, an agent, a "
        "hybrid and a stack: those that are finished are taken, and where something "
        "below a stage changed it is trained again.",
        usage="python -m experiments pipeline [run] FILE.yaml [--resume] "
        "[--executor NAME] [--FIELD VALUE ...]",
        epilog="other commands: pipeline status NAME, how far it is; pipeline train "
        "KIND, one stage; pipeline list, info, benchmark, of registered models",
    )
    parser.add_argument(
        "file", metavar="FILE.yaml", help="its stages: name, model, needs, fields"
    )
    parser.add_argument(
        "--resume",
        action="store_true",
        help="go on with interrupted stages from their checkpoints",
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="list the stages, train nothing"
    )
    parser.add_argument(
        "--data-dir",
        metavar="DIR",
        help="candles that training files are built from; without it files that are "
        "there are taken as they are, and others built from those in data",
    )
    parser.add_argument(
        "--executor", default="auto", metavar="NAME", help=", ".join(KINDS)
    )
    parser.add_argument(
        "--max-workers",
        type=int,
        default=1,
        metavar="N",
        help="stages side by side (default: 1)",
    )
    parser.add_argument("--address", metavar="ADDR", help="of a Ray cluster")
    parser.add_argument(
        "--retries",
        type=int,
        default=2,
        metavar="N",
        help="tries after a dead worker, a full disk (default: 2)",
    )
    options.add_config_arguments(parser, [x for x in FIELDS if x not in OWN_FIELDS])
    return parser


def _run(arguments: Sequence[str]) -> int | None:
    parsed, fields, unknown = options.parse_fields(_parser(), arguments)
    utils.configure_logging(verbose=bool(fields.get("verbose_logging")))
    if unknown:
        raise utils.ConfigError("\n".join(unknown))
    pipeline = read_pipeline(parsed.file, fields)
    if parsed.dry_run:
        logger.info("%s", _listed(pipeline))
        return None
    executor = open_executor(
        parsed.executor,
        max_workers=parsed.max_workers,
        retries=parsed.retries,
        address=parsed.address,
    )
    result = run_pipeline(
        pipeline,
        executor=executor,
        data_dir=parsed.data_dir,
        is_resumed=parsed.resume,
    )
    logger.info("\n%s", format_stages(result.stages))
    logger.info("pipeline: %s", result.folder)
    result.require_success()
    return None


def _listed(pipeline: Pipeline) -> str:
    """Returns a line for each stage: what it is, and as what it builds on which."""
    lines = []
    for stage in pipeline.stages:
        words = [f"{role} {need}" for need, role in stage.roles.items()]
        config = stage.config
        share = f"oldest {config.stage_share:.0%} of train" * (config.stage_share < 1)
        about = ", ".join(filter(None, [f"{config.pair} {config.timeframe}", share]))
        lines.append(f"  {stage.name}: {config.model}, {', '.join([about, *words])}")
    total = utils.counted(len(lines), "stage", "stages")
    return "\n".join([f"{pipeline.name}: {total}", *lines])


def _status(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m experiments pipeline status",
        description="Says how a pipeline is doing; ends with 0 where it is finished, "
        "75 while it goes on, 143 where stages wait for --resume, else as they failed.",
    )
    parser.add_argument("name", help="its name, or its file")
    parser.add_argument("--outputs-dir", default=Config().outputs_dir, metavar="DIR")
    parsed = parser.parse_args(arguments)
    return show_status(parsed.outputs_dir, Path(parsed.name).stem)


def _train_parser() -> argparse.ArgumentParser:
    parser = options.new_parser(
        "python -m experiments pipeline train",
        "Trains one stage on candles, or on a training file, and registers it. The "
        "models that it builds on are asked for on a terminal where none is named.",
        usage="python -m experiments pipeline train KIND CANDLES...|FILE "
        "[--cnn-lstm-model ID] [--rl-model ID] [--models A,B,C] "
        "[--optimize --n-trials N] [--FIELD VALUE ...]",
    )
    parser.add_argument("kind", metavar="KIND", help=", ".join(words.KINDS))
    parser.add_argument(
        "paths", nargs="+", metavar="PATH", help="candle files, or one training file"
    )
    parser.add_argument("--config", help="YAML file with the same names as the flags")
    parser.add_argument(
        "--cnn-lstm-model", metavar="ID", help="another word for --base-model"
    )
    parser.add_argument(
        "--models", nargs="+", metavar="ID", help="another word for --members: A,B,C"
    )
    parser.add_argument(
        "--optimize", action="store_true", help="search settings before"
    )
    parser.add_argument(
        "--n-trials", type=int, default=50, metavar="N", help="(default: 50)"
    )
    parser.add_argument(
        "--resume",
        action="store_true",
        help="take a finished run as it is, or go on with an interrupted one",
    )
    options.add_config_arguments(parser, [x for x in FIELDS if x != "model"])
    return parser


def _train(arguments: Sequence[str]) -> None:
    words.refuse_without_source(arguments)
    parsed, fields, problems = options.parse_fields(_train_parser(), arguments)
    utils.configure_logging(verbose=bool(fields.get("verbose_logging")))
    if parsed.cnn_lstm_model is not None:
        fields["base_model"] = parsed.cnn_lstm_model
    if parsed.models is not None:
        fields["members"] = list_words(parsed.models)
    values, found = sources.overlaid(parsed.config, fields)
    if problems := [*problems, *found]:
        raise utils.ConfigError(problem_list(problems))
    with utils.StopSignals():
        words.train_stage(
            parsed.kind,
            parsed.paths,
            values,
            num_trials=parsed.n_trials if parsed.optimize else None,
            resume="newest" if parsed.resume else None,
        )


Act = Callable[[Sequence[str]], int | None]


def command(**others: Act) -> tuple[str, Act]:
    """Returns what the command is and what does it; `others` are words of their own.

    `list`, `info` (`artifacts`) and `benchmark` (`experiments`) are other command
    lines' words, which system 001 has here.
    """
    known: dict[str, Act] = {"run": _run, "status": _status, "train": _train} | others

    def pipeline(arguments: Sequence[str]) -> int | None:
        word = arguments[0] if arguments else ""
        is_word = word in known and not Path(word).is_file()
        return known[word](arguments[1:]) if is_word else _run(arguments)

    return "stages that build on each other, such as extractor and agent", pipeline


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns its exit code."""
    utils.configure_logging()
    given = sys.argv[1:] if arguments is None else arguments
    _, act = command()
    return utils.run_command_line(lambda: act(given))


if __name__ == "__main__":
    sys.exit(main())
