"""A process that does one task after another, for an executor at its pipe's other end.

In: tasks and their ends as JSON, signals, the end of the driver. Out: which task comes
next, and again (`executors`).
"""

from __future__ import annotations

import dataclasses
import faulthandler
import gc
import json
import logging
import os
import signal
import sys
import threading
import time
from multiprocessing.connection import Connection
from queue import SimpleQueue

import utils
from experiments.tasks import Finished, Task, perform

logger = logging.getLogger(__name__)

BEGUN = b"begun"
"""What a worker says when it begins a task; what it says next is how that ended."""
GRACE_SECONDS = 60.0
"""What a task that is told to stop has to save what it has."""
IMPORT_BYTES = 1_000_000_000
"""What a worker needs beside its task: TensorFlow and all else that it imports."""
TASKS_PER_WORKER = 20
"""A reused worker saves 10 CPU s of imports a task, and grows by 13 to 20 MB."""
_LOOK_SECONDS = 5.0


def task_environment(num_threads: int | None) -> dict[str, str]:
    """Returns what a worker has in its environment where the user set nothing.

    The threads are those of BLAS and OpenMP: each worker would take all cores for them.
    """
    from networks.allocator import with_tcmalloc

    threads = {} if num_threads is None else {"OMP_NUM_THREADS": str(num_threads)}
    wanted = {"TF_CPP_MIN_LOG_LEVEL": "3"} | threads
    wanted = {name: text for name, text in wanted.items() if name not in os.environ}
    return wanted | with_tcmalloc()


def do_interruptibly(task: Task) -> Finished:
    """Does a task; an interruption is a value, too, and memory is given back."""
    try:
        with utils.StopSignals():
            ended = perform(task)
    except utils.Interrupted as stop:
        code = utils.exit_code_of(stop)
        ended = Finished(name=task.name, error=str(stop), exit_code=code)
    utils.return_freed_memory(collect=True)
    return ended


class _Worker:
    """Reads tasks in a thread of its own, which notices when the driver is gone."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.driver = os.getppid()
        self.tasks: SimpleQueue[Task | None] = SimpleQueue()
        self.is_busy = False

    def run(self) -> None:
        """Does tasks until there is no driver, or one is interrupted."""
        threading.Thread(target=self._read, daemon=True).start()
        while (task := self.tasks.get()) is not None:
            logger.info("\ntask %s", task.name)
            self.connection.send_bytes(BEGUN)
            ended = do_interruptibly(task)
            self.is_busy = False
            self.connection.send_bytes(json.dumps(dataclasses.asdict(ended)).encode())
            if ended.exit_code > 128:
                return

    def _read(self) -> None:
        try:
            while os.getppid() == self.driver:
                if self.connection.poll(_LOOK_SECONDS):
                    task = Task(**json.loads(self.connection.recv_bytes()))
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
    utils.configure_logging()
    gc.set_threshold(1_000_000)  # as `networks.allocator.prepare_process`
    try:
        _Worker(Connection(descriptor)).run()
    except BrokenPipeError:
        logger.error("the driver is gone")
    logging.shutdown()
    sys.stdout.flush()
    os._exit(0)  # libraries take a second to put themselves away


if __name__ == "__main__":
    main(int(sys.argv[1]))
