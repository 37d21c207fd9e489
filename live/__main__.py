"""The command line of models in use: `python -m live export`."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence

import utils
from live import export

logger = logging.getLogger("live")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns its exit code."""
    utils.configure_logging()
    return utils.run_command_line(lambda: _run(arguments))


def _run(arguments: Sequence[str] | None) -> None:
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
    parsed = parser.parse_args(arguments)
    parsed.run(parsed)


def _export(parsed: argparse.Namespace) -> None:
    folder = export.export_model(
        parsed.model,
        file_format=parsed.format,
        output_dir=parsed.output_dir,
        training_file=parsed.training_file,
    )
    logger.info("exported: %s", folder)


if __name__ == "__main__":
    sys.exit(main())
