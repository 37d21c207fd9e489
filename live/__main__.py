"""The command line of models in use: export, serve, watch, retrain, simulate."""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

import utils
from artifacts.registry import open_model
from candles.sources import resolve_candles
from config import Config
from dataset.context_files import read_with_context
from files.hooks import Hooks
from live import export
from predictor import Predictor

logger = logging.getLogger("live")

TOKEN_VARIABLE = "LIVE_TOKEN"  # noqa: S105 - the name of one
MIN_TOKEN_CHARACTERS = 16


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns its exit code."""
    utils.configure_logging()
    return utils.run_command_line(lambda: _run(arguments))


def _run(arguments: Sequence[str] | None) -> int | None:
    parser = argparse.ArgumentParser(
        prog="python -m live", description="A trained model in other programs."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    text = "write the model for another program, proved on its test rows"
    command = commands.add_parser("export", help=text, description=text)
    command.set_defaults(run=_export)
    command.add_argument(
        "model", metavar="MODEL", help="folder: outputs/models/ETHUSDT/lstm/latest-1m"
    )
    command.add_argument(
        "--format",
        choices=list(export.FORMATS),
        default="onnx",
        help="onnx: features go in, probabilities come out; tflite: the network alone, "
        "one window at a time (default: %(default)s)",
    )
    command.add_argument(
        "--output-dir",
        help="folder that is not there yet (default: outputs/exports/RUN_ID-FORMAT)",
    )
    command.add_argument(
        "--training-file", help="where the run's training file is now, if it was moved"
    )
    _add_serve(commands)
    _add_watch(commands)
    _add_retrain(commands)
    _add_simulate(commands)
    parsed = parser.parse_args(arguments)
    code: int | None = parsed.run(parsed)
    return code


def _export(parsed: argparse.Namespace) -> None:
    folder = export.export_model(
        parsed.model,
        file_format=parsed.format,
        output_dir=parsed.output_dir,
        training_file=parsed.training_file,
    )
    logger.info("exported: %s", folder)


def _add_serve(commands: Any) -> None:
    text = "answer posted candles with signals, over HTTP"
    command = commands.add_parser("serve", help=text, description=text)
    command.set_defaults(run=_serve)
    command.add_argument("model", metavar="MODEL", help="folder of a published run")
    command.add_argument(
        "--host",
        default="127.0.0.1",
        help="address to listen on; beyond this machine a token must be set "
        "(default: %(default)s)",
    )
    command.add_argument(
        "--port", type=int, default=8000, help="0 takes a free one (default: 8000)"
    )
    command.add_argument(
        "--history",
        nargs="+",
        metavar="CANDLES",
        help="candle files before the first candle that is posted, so that nothing has "
        "to warm up",
    )
    command.add_argument(
        "--token-file",
        metavar="FILE",
        help="its one line is what a request must show, as the header Authorization: "
        f"Bearer TOKEN; or the environment's {TOKEN_VARIABLE}",
    )
    command.add_argument(
        "--max-body-bytes",
        type=int,
        default=4 * 2**20,
        help="largest body of a request (default: 4 MiB, about 30,000 candles)",
    )
    command.add_argument(
        "--feature-file", help="Python file that registers feature sets of your own"
    )
    command.add_argument(
        "--max-age-days",
        type=float,
        help="days after the training from which on bars are stale (default: never)",
    )


def _add_watch(commands: Any) -> None:
    text = "hold later candles against what the report promised"
    command = commands.add_parser("watch", help=text, description=text)
    command.set_defaults(run=_watch)
    command.add_argument("model", metavar="MODEL", help="folder of a published run")
    command.add_argument(
        "candles", nargs="+", metavar="CANDLES", help="files, with the look-back"
    )
    command.add_argument(
        "--since",
        help="first moment that is watched, UTC (default: behind the report's rows)",
    )
    command.add_argument(
        "--output-dir",
        metavar="DIR",
        help="folder for watch.json and watch.html (default: outputs/watches/RUN_ID)",
    )
    command.add_argument(
        "--feature-file", help="Python file that registers feature sets of your own"
    )
    Hooks.add_options(command)


def _watch(parsed: argparse.Namespace) -> int:
    from live import watch_report
    from live.watching import EXIT_CODES, watch

    hooks = Hooks.of(parsed)
    _prepare_threads(parsed.model)
    predictor = Predictor(parsed.model, feature_file=parsed.feature_file)
    found = watch(predictor, parsed.candles, since=parsed.since)
    logger.info("%s", watch_report.format_watch(found))
    folder = watch_report.write_watch(found, parsed.output_dir, predictor)
    logger.info("watch: %s", folder)
    if found.level != "ok":
        hooks.send(watch_report.short(found) | {"folder": str(folder)})
    return EXIT_CODES[found.level]


def _add_retrain(commands: Any) -> None:
    text = "train a challenger when it is due; it must win on rows that neither read"
    command = commands.add_parser("retrain", help=text, description=text)
    command.set_defaults(run=_retrain)
    command.add_argument("schedule", metavar="SCHEDULE.yaml", help="what, when, how")
    how = command.add_mutually_exclusive_group()
    how.add_argument("--once", action="store_true", help="look once (the default)")
    how.add_argument("--follow", action="store_true", help="look again every minute")
    how.add_argument(
        "--rollback", action="store_true", help="go back to the champion before"
    )


def _retrain(parsed: argparse.Namespace) -> None:
    from live import decisions
    from live.schedule import read_schedule

    schedule = read_schedule(parsed.schedule)
    with decisions.owned(schedule) as folder:
        if parsed.follow:
            with contextlib.suppress(utils.Interrupted):
                decisions.follow(schedule)
            return
        now = pd.Timestamp.now(tz="UTC")
        if parsed.rollback:
            found = decisions.rollback(schedule, now)
        else:
            found = decisions.look(schedule, decisions.read_now(schedule))
        logger.info("%s", decisions.words(found))
        logger.info("decisions: %s", folder / decisions.DECISIONS)


def _add_simulate(commands: Any) -> None:
    text = "follow a schedule on history, beside never retraining and always"
    command = commands.add_parser("simulate", help=text, description=text)
    command.set_defaults(run=_simulate)
    command.add_argument("schedule", metavar="SCHEDULE.yaml", help="what, when, how")
    command.add_argument("candles", nargs="+", metavar="CANDLES", help="the history")
    command.add_argument(
        "--start",
        metavar="DAY",
        help="where the first model's candles end (default: the middle)",
    )


def _simulate(parsed: argparse.Namespace) -> None:
    from live import decisions, simulation, simulation_report
    from live.schedule import read_schedule

    schedule = read_schedule(parsed.schedule)
    candles = decisions.read_candles_of(schedule, parsed.candles)
    found = simulation.simulate(schedule, candles, start=parsed.start)
    logger.info("%s", simulation_report.format_simulation(found))
    page = simulation_report.write_simulation(found, simulation.folder_of(schedule))
    logger.info("simulation: %s", page)


def _prepare_threads(where: str) -> None:
    """Gives the kernels of a network one thread each, as its training did.

    With more of them an answer outside the main thread takes twice as long.
    """
    if any(name.endswith(".keras") for name in open_model(where).files):
        from networks.runtime import configure_runtime

        configure_runtime(Config())


def _serve(parsed: argparse.Namespace) -> None:
    try:
        from live import service
    except ImportError as error:
        raise utils.DependencyError(
            "expected the package tornado for a service. Received: none. Install it: "
            "pip install -r requirements-serve.txt"
        ) from error
    token = read_token(parsed.token_file)
    if token is None and not service.is_loopback(parsed.host):
        raise utils.ConfigError(
            f"host: expected a token where others than this machine are heard. "
            f"Received: {parsed.host} and none. Set --token-file FILE, or "
            f"{TOKEN_VARIABLE} in the environment."
        )
    _prepare_threads(parsed.model)
    predictor = Predictor(
        parsed.model,
        feature_file=parsed.feature_file,
        max_age_days=parsed.max_age_days,
    )
    history = None
    if parsed.history:
        files = resolve_candles(parsed.history, predictor.config, data_dir=Path())
        history = read_with_context(files, predictor.config)
        history = closed_bars(history, predictor)
    names = ("model_id", "pair", "timeframe", "target", "horizon_bars", "min_candles")
    signals = service.Signals(
        predictor.stream(history), {name: getattr(predictor, name) for name in names}
    )
    if history is not None and len(history) >= predictor.min_candles:
        signals.row = service.to_row(predictor.predict_candles(history).iloc[-1])
    application = service.make_application(
        signals, token=token, max_body_bytes=parsed.max_body_bytes
    )
    service.run(application, host=parsed.host, port=parsed.port)


def read_token(file: str | None) -> str | None:
    """Returns the token of a file, else of the environment; None without one.

    Raises:
        ConfigError: If it is short, or has other than plain characters.
        MissingInputError: If there is no such file.
    """
    token, where = os.environ.get(TOKEN_VARIABLE), TOKEN_VARIABLE
    if file is not None:
        if not Path(file).is_file():
            raise utils.MissingInputError(f"expected a file. Received: {file}")
        token, where = Path(file).read_text("utf-8", "replace").strip(), file
    if token is None:
        return None
    is_plain = token.isascii() and token.isprintable() and " " not in token
    if len(token) < MIN_TOKEN_CHARACTERS or not is_plain:
        raise utils.ConfigError(
            f"{where}: expected a token of at least {MIN_TOKEN_CHARACTERS} letters, "
            f"digits or signs. Received: {len(token)} characters. Make one: "
            "openssl rand -hex 32"
        )
    return token


def closed_bars(candles: pd.DataFrame, predictor: Predictor) -> pd.DataFrame:
    """Returns candles without a last one that goes on: it comes again, and whole."""
    ends = candles["timestamp"] + pd.Timedelta(predictor.config.bar_seconds, "s")
    return candles[ends <= pd.Timestamp.now(tz="UTC")]


if __name__ == "__main__":
    sys.exit(main())
