"""Tasks in processes of this machine.

In: which of them run now, memory, workers that die. Out: what a task is (`tasks`), what
a worker does (`worker`), retries (`task_queue`).

`concurrent.futures` and loky give up all tasks when one worker dies, and neither they
nor pebble tell which environment a worker needs or stop one with time to save.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from multiprocessing.connection import Pipe, wait
from pathlib import Path
from typing import Any

import utils
from executors.preloading import with_tcmalloc
from executors.task_queue import Job, TaskQueue
from executors.tasks import Finished, Task
from executors.worker import GRACE_SECONDS, TASKS_PER_WORKER, thread_environment

logger = logging.getLogger(__name__)

_SAY_SECONDS = 60.0
_LOOK_SECONDS = 2.0
_PROJECT = Path(__file__).parents[1]


class _Process:
    """A worker as its executor sees it."""

    def __init__(self, slot: int, task: Task, log: Path | None) -> None:
        self.slot = slot
        self.settings = (task.num_threads, task.settings)
        self.log = log
        self.job: Job | None = None
        self.num_given = 0
        self.kill_at = float("inf")
        self.connection, theirs = Pipe()
        environment = (
            os.environ | thread_environment(task.num_threads) | with_tcmalloc()
        )
        environment["PYTHONPATH"] = os.pathsep.join(
            [str(_PROJECT), *map(os.path.abspath, sys.path)]
        )
        with theirs, open(log or os.devnull, "ab") as stream:
            number = theirs.fileno()
            self.process = subprocess.Popen(  # noqa: S603 -- this very program
                [sys.executable, "-P", "-m", "executors.worker", str(number)],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
                pass_fds=[number],
                process_group=0,  # else a terminal would interrupt it, too
            )

    def suits(self, task: Task) -> bool:
        """Whether a task can have this process, which has settings since its first."""
        return task.num_threads is None or self.settings == (
            task.num_threads,
            task.settings,
        )

    def give(self, job: Job) -> None:
        """Hands a job over; a worker that is dead by now is found out as any is."""
        self.job = job
        self.num_given += 1
        with contextlib.suppress(OSError):
            self.connection.send_bytes(json.dumps(asdict(job.task)).encode())

    def interrupt(self) -> None:
        """Tells the worker to save and end; once, because a second signal kills."""
        if self.kill_at == float("inf"):
            self.kill_at = time.monotonic() + GRACE_SECONDS
            self.process.terminate()

    def end(self) -> int:
        """Ends a worker that has nothing to do; returns how it ended."""
        self.connection.close()
        try:
            return self.process.wait(GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()

    def how_it_ended(self, code: int) -> str:
        """Returns why a worker is no more, and where it may have said so."""
        how = f"signal {-code}" if code < 0 else f"exit code {code}"
        hint = ", as for want of memory" if code == -signal.SIGKILL else ""
        return f"its worker ended by {how}{hint}; log: {self.log or 'none'}"


class ProcessExecutor:
    """Does tasks in processes of this machine. An `Executor`.

    A worker is used again as long as threads and settings are the same. As many run as
    there are slots, and memory: a task waits until what it needs is free.

    Args:
        slots: Tasks side by side.
        retries: See `kinds.open_executor`.
        log_folder: See `kinds.open_executor`.
    """

    def __init__(
        self, slots: int, *, retries: int = 2, log_folder: Path | None = None
    ) -> None:
        self.slots = slots
        self.log_folder = log_folder
        self._most = utils.available_memory_bytes()
        self._queue = TaskQueue(retries)
        self._workers: list[_Process] = []
        self._said = float("-inf")

    def __enter__(self) -> ProcessExecutor:
        """Starts nothing: workers start with the first tasks."""
        if self.log_folder is not None:
            self.log_folder.mkdir(parents=True, exist_ok=True)
        return self

    def __exit__(self, *_: object) -> None:
        """Ends every worker, as `stop` does; kills one that takes too long."""
        self.stop()
        while self._workers:
            self._listen(_LOOK_SECONDS)

    def submit(self, task: Task) -> None:
        """Queues a task; one that this machine has no memory for is refused."""
        job = Job(task)
        if self._most is None or job.bytes_needed <= self._most:
            self._queue.waiting.append(job)
            return
        self._queue.refuse(
            job,
            f"memory: expected at most {utils.format_bytes(self._most)}, what was free "
            f"at the start. Received: {utils.format_bytes(job.bytes_needed)}, with "
            "imports. Make the batch smaller, or free some memory.",
        )

    def wait(self, timeout: float) -> list[Finished]:
        """Returns what ended, as soon as something did."""
        end = time.monotonic() + timeout
        while not self._queue.has_ended():
            self._start_waiting()
            left = end - time.monotonic()
            if left <= 0 or not (self._queue.waiting or any(self._busy())):
                break
            self._listen(min(left, _LOOK_SECONDS))
        return self._queue.take_ended()

    def stop(self) -> None:
        """Tells what runs to save and end, and drops what waits."""
        self._queue.stop()
        for worker in list(self._workers):
            if worker.job is None:
                self._retire(worker)
            else:
                worker.interrupt()

    # Starting

    def _busy(self) -> Iterator[_Process]:
        return (worker for worker in self._workers if worker.job is not None)

    def _start_waiting(self) -> None:
        """Starts waiting tasks in their order, while there are slots and memory."""
        waiting = self._queue.waiting
        while waiting and sum(1 for _ in self._busy()) < self.slots:
            if not self._fits(waiting[0]):
                return
            worker = self._worker_for(waiting[0].task)
            worker.give(waiting.popleft())

    def _fits(self, job: Job) -> bool:
        """Whether memory is free for a job; idle workers give theirs back before."""
        if (free := self._free_bytes()) is None or job.bytes_needed <= free:
            return True
        for worker in [each for each in self._workers if each.job is None]:
            self._retire(worker)
        free = self._free_bytes() or 0
        is_alone = not self._workers
        if is_alone and (now := time.monotonic()) - self._said > _SAY_SECONDS:
            self._said = now
            needed = utils.format_bytes(job.bytes_needed)
            text = "%s waits for memory: it needs %s, %s are free"
            logger.warning(text, job.task.name, needed, utils.format_bytes(free))
        return job.bytes_needed <= free

    def _free_bytes(self) -> int | None:
        """Returns what no task has, nor was promised; None where it is not known."""
        free = utils.available_memory_bytes()
        if free is None:
            return None
        for worker in self._busy():
            needed = worker.job.bytes_needed if worker.job else 0
            held = utils.resident_bytes(worker.process.pid) or 0
            free -= max(0, needed - held)
        return free

    def _worker_for(self, task: Task) -> _Process:
        idle = [worker for worker in self._workers if worker.job is None]
        for worker in idle:
            if worker.suits(task):
                return worker
        if len(self._workers) >= self.slots:
            self._retire(idle[0])
        taken = {worker.slot for worker in self._workers}
        slot = next(each for each in range(1, self.slots + 1) if each not in taken)
        folder = self.log_folder
        log = None if folder is None else folder / f"worker-{slot:02d}.log"
        worker = _Process(slot, task, log)
        self._workers.append(worker)
        return worker

    def _retire(self, worker: _Process) -> int:
        self._workers.remove(worker)
        return worker.end()

    # Ending

    def _listen(self, seconds: float) -> None:
        """Takes what workers say in so many seconds; kills those that do not end."""
        workers: dict[Any, _Process] = {each.connection: each for each in self._workers}
        for connection in wait(list(workers), seconds):
            self._take(workers[connection])
        for worker in self._workers:
            if time.monotonic() > worker.kill_at:
                worker.process.kill()

    def _take(self, worker: _Process) -> None:
        """Takes how a worker's job ended, or that the worker died."""
        job, worker.job = worker.job, None
        try:
            ended = Finished(**json.loads(worker.connection.recv_bytes()))
        except (EOFError, OSError):
            code = self._retire(worker)
            if job is not None:
                lost = job.lost(worker.how_it_ended(code), pid=worker.process.pid)
                self._queue.settle(job, lost, is_lost=True)
            return
        if ended.exit_code > 128 or worker.num_given >= TASKS_PER_WORKER:
            self._retire(worker)
        if job is not None:
            self._queue.settle(job, ended)
