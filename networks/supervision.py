"""A command under `ulimit -v`, which TensorFlow may end where memory is short.

In: a process that runs it, and goes on with its run in smaller pieces after an abort.
Out: errors that Python sees (`models.keras_adapter`). Loads no TensorFlow.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import subprocess
import sys

import utils
from artifacts.run_folder import STATUS, RunFolder
from config import Config
from files.strict import read_json
from settings.network_fields import KERAS_MODELS
from settings.sizes import next_pieces

logger = logging.getLogger(__name__)

_SUPERVISED = "TRAINER_SUPERVISED"


def supervise(config: Config) -> None:
    """Runs the command of this process in another, and ends as that one does.

    Returns where there is nothing to do: in the other process, for other models than
    networks, without a limit on the address space, without `recovery`.
    """
    is_limited = utils.address_space_left() is not None and config.recovery
    if not is_limited or config.model not in KERAS_MODELS or _SUPERVISED in os.environ:
        return
    words: list[str] = []
    while True:
        child = subprocess.Popen(  # noqa: S603 -- what runs this, once more
            [sys.executable, *sys.orig_argv[1:], *words],
            env=os.environ | {_SUPERVISED: "1"},
            process_group=0,  # else a terminal would interrupt it twice
        )
        code = _ended(child)
        run = _run_of(config, child.pid) if code == -signal.SIGABRT else None
        pieces = next_pieces(config, run.recoveries()) if run else None
        if run is None or pieces is None:
            raise SystemExit(code if code >= 0 else 128 - code)
        logger.warning(
            "the process ended for want of memory: going on in pieces of %d windows",
            -(-config.batch_size // pieces),
        )
        run.note_recovery({"micro_batches": pieces, "checkpoint": None})
        words = ["--resume", str(run.path)]


def _ended(child: subprocess.Popen[bytes]) -> int:
    """Waits, and hands signals on; returns the code, negative of a signal."""
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [
        signal.signal(number, lambda each, _: child.send_signal(each))
        for number in numbers
    ]
    try:
        return child.wait()
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


def _run_of(config: Config, pid: int) -> RunFolder | None:
    """Returns the unfinished run of a process."""
    for path in config.runs_dir.glob(f"*/{STATUS}"):
        with contextlib.suppress(utils.UserError, OSError):
            status = read_json(path)
            if isinstance(status, dict) and status.get("pid") == pid:
                return RunFolder(config, path.parent.name)
    return None
