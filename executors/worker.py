"""A process that does one task after another, for an executor at its pipe's other end.

In: tasks and their ends as JSON, signals, limits to time, the end of the driver. Out:
which task comes next, and again (`task_queue`).
"""

from __future__ import annotations

import contextlib
import faulthandler
import gc
import json
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from multiprocessing.connection import Connection
from queue import SimpleQueue

import utils
from executors.tasks import Finished, Task, perform

logger = logging.getLogger(__name__)

GRACE_SECONDS = 60.0
"""What a task that is told to stop has to save what it has."""
IMPORT_BYTES = 1_000_000_000
"""What a worker needs beside its task: TensorFlow and all else that it imports."""
TASKS_PER_WORKER = 20
"""A reused worker saves 10 CPU s of imports a task, and grows by 13 to 20 MB."""
_LOOK_SECONDS = 5.0


def thread_environment(num_threads: int | None) -> dict[str, str]:
    """Returns the environment of a worker: else each takes all cores for BLAS."""
    quiet = {"TF_CPP_MIN_LOG_LEVEL": os.environ.get("TF_CPP_MIN_LOG_LEVEL", "3")}
    if num_threads is None:
        return quiet
    names = ("OMP_NUM_THREADS", "TF_NUM_INTEROP_THREADS")
    return quiet | dict.fromkeys(names, str(num_threads))


def prepare() -> None:
    """Does what a worker must before its first task."""
    utils.configure_logging()
    gc.set_threshold(1_000_000)  # as `networks.allocator.prepare_process`


def do_task(text: str) -> str:
    """Does a task, from JSON to JSON; an interruption is a value, too.

    What is not done in time is interrupted, to save what it has.
    """
    task = Task(**json.loads(text))
    logger.info("\ntask %s", task.name)
    with _time_limit(task.timeout_seconds) as is_over:
        try:
            with utils.StopSignals():
                ended = perform(task)
        except utils.Interrupted as stop:
            code = utils.exit_code_of(stop)
            ended = Finished(name=task.name, error=str(stop), exit_code=code)
    if is_over.is_set() and ended.error is not None:
        limit = utils.format_duration(task.timeout_seconds or 0)
        ended = replace(ended, error=f"not done within {limit}")
    utils.return_freed_memory(collect=True)
    return json.dumps(asdict(ended))


@contextlib.contextmanager
def _time_limit(seconds: float | None) -> Iterator[threading.Event]:
    """Interrupts its block after some time; one that does not heed it is ended."""
    is_over = threading.Event()
    if seconds is None:
        yield is_over
        return

    def interrupt() -> None:
        is_over.set()
        os.kill(os.getpid(), signal.SIGTERM)

    timer = threading.Timer(seconds, interrupt)
    timer.start()
    # This one needs no turn of the interpreter, and leaves in the log what hangs.
    faulthandler.dump_traceback_later(seconds + GRACE_SECONDS, exit=True, file=2)
    try:
        yield is_over
    finally:
        timer.cancel()
        faulthandler.cancel_dump_traceback_later()


class _Worker:
    """Reads tasks in a thread of its own, which notices when the driver is gone."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.driver = os.getppid()
        self.tasks: SimpleQueue[str | None] = SimpleQueue()
        self.is_busy = False

    def run(self) -> None:
        """Does tasks until there is no driver, or one is interrupted."""
        threading.Thread(target=self._read, daemon=True).start()
        while (task := self.tasks.get()) is not None:
            ended = do_task(task)
            self.is_busy = False
            self.connection.send_bytes(ended.encode())

    def _read(self) -> None:
        try:
            while os.getppid() == self.driver:
                if self.connection.poll(_LOOK_SECONDS):
                    task = self.connection.recv_bytes().decode()
                    self.is_busy = True
                    self.tasks.put(task)
        except (EOFError, OSError):
            pass  # the driver closed its end, or died
        self.tasks.put(None)
        if self.is_busy:
            logger.error("the driver is gone")
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(GRACE_SECONDS)
            os._exit(utils.EXIT_INTERNAL)


def main(descriptor: int) -> None:
    """Serves the executor that has the other end of a pipe.

    Args:
        descriptor: This end, as the process inherited it.
    """
    faulthandler.enable()
    for number in (signal.SIGINT, signal.SIGTERM):  # a shell may have had them ignored
        signal.signal(number, signal.SIG_DFL)
    os.set_inheritable(descriptor, False)
    prepare()
    try:
        _Worker(Connection(descriptor)).run()
    except BrokenPipeError:
        logger.error("the driver is gone")
    logging.shutdown()
    sys.stdout.flush()
    os._exit(0)  # libraries take a second to put themselves away


if __name__ == "__main__":
    main(int(sys.argv[1]))
