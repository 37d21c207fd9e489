"""The command line of the audit: `python -m audit` takes the flags of `trainer.py`."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import utils
from audit.run import run_command
from settings import options


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns its exit code."""
    utils.configure_logging()
    return utils.run_command_line(lambda: _run(arguments))


def _run(arguments: Sequence[str] | None) -> None:
    words = sys.argv[1:] if arguments is None else arguments
    parsed, config = options.parse(["--audit", *words], program="python -m audit")
    utils.configure_logging(verbose=config.verbose_logging)
    run_command(config, **options.audit_options(parsed))


if __name__ == "__main__":
    sys.exit(main())
