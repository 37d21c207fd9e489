"""Tasks in processes of this machine.

In: which tasks run now, retries, limits to time and memory, workers that die. Out: what
a task is (`tasks`), what a worker does (`worker`).

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
from collections import deque
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from multiprocessing.connection import Pipe, wait
from pathlib import Path
from typing import Any

import utils
from experiments.tasks import Finished, Task
from experiments.worker import (
    BEGUN,
    GRACE_SECONDS,
    IMPORT_BYTES,
    TASKS_PER_WORKER,
    task_environment,
)

logger = logging.getLogger(__name__)

_SAY_SECONDS = 60.0
_LOOK_SECONDS = 2.0
_PROJECT = Path(__file__).parents[1]


@dataclass(frozen=True)
class _Job:
    """A task, and which try of it is the next or the present one."""

    task: Task
    attempts: int = 1

    @property
    def bytes_needed(self) -> int:
        return self.task.memory_bytes + IMPORT_BYTES


class _Process:
    """A worker as its executor sees it."""

    def __init__(self, slot: int, num_threads: int | None, log: Path | None) -> None:
        self.slot = slot
        self.num_threads = num_threads
        self.log = log
        self.job: _Job | None = None
        self.num_given = 0
        self.due = float("inf")
        self.is_late = self.is_told = False
        self.connection, theirs = Pipe()
        environment = os.environ | task_environment(num_threads)
        environment["PYTHONPATH"] = os.pathsep.join(
            [str(_PROJECT), *map(os.path.abspath, sys.path)]
        )
        with theirs, open(log or os.devnull, "ab") as stream:
            number = theirs.fileno()
            self.process = subprocess.Popen(  # noqa: S603 -- this very program
                [sys.executable, "-P", "-m", "experiments.worker", str(number)],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
                pass_fds=[number],
                process_group=0,  # else a terminal would interrupt it, too
            )

    def give(self, job: _Job) -> None:
        """Hands a job over; a worker that is dead by now is found out as any is."""
        self.job = job
        self.num_given += 1
        with contextlib.suppress(OSError):
            self.connection.send_bytes(json.dumps(asdict(job.task)).encode())

    def begin(self) -> None:
        """Its time counts from now: the worker itself has started."""
        if self.job is not None and self.job.task.timeout_seconds is not None:
            self.due = time.monotonic() + self.job.task.timeout_seconds

    def interrupt(self) -> None:
        """Tells the worker to save and end; once, because a second signal kills."""
        if not self.is_told:
            self.is_told = True
            self.due = time.monotonic() + GRACE_SECONDS
            self.process.terminate()

    def act_when_due(self) -> None:
        """Ends a task that takes too long; a worker that is told and does not end."""
        if time.monotonic() < self.due:
            return
        if self.is_told:
            self.due = float("inf")
            self.process.kill()
        else:
            self.is_late = True
            self.interrupt()

    def end(self) -> int:
        """Ends a worker that has nothing to do; returns how it ended."""
        self.connection.close()
        try:
            return self.process.wait(GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()

    def how_it_ended(self, code: int) -> str:
        """Returns why a worker is no more, with the last line of its log."""
        how = f"signal {-code}" if code < 0 else f"exit code {code}"
        hint = ", as for want of memory" if code == -signal.SIGKILL else ""
        return f"its worker ended by {how}{hint}; log: {self.log or 'none'}"


class ProcessExecutor:
    """Does tasks in processes of this machine. An `Executor`.

    A worker is used again as long as the number of threads is the same. As many run as
    there are slots, and memory: a task waits until what it needs is free.

    Args:
        slots: Tasks side by side.
        retries: See `executors.open_executor`.
        log_folder: See `executors.open_executor`.
    """

    def __init__(
        self, slots: int, *, retries: int = 2, log_folder: Path | None = None
    ) -> None:
        self.slots = slots
        self.retries = retries
        self.log_folder = log_folder
        self._most = utils.available_memory_bytes()
        self._waiting: deque[_Job] = deque()
        self._workers: list[_Process] = []
        self._ended: list[Finished] = []
        self._is_stopping = False
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
        job = _Job(task)
        if self._most is not None and job.bytes_needed > self._most:
            error = (
                f"memory: expected at most {utils.format_bytes(self._most)}, what was "
                f"free at the start. Received: {utils.format_bytes(job.bytes_needed)}, "
                "with imports. Make the batch smaller, or free some memory."
            )
            self._ended.append(_failed(job, error, utils.EXIT_USAGE, attempts=0))
        else:
            self._waiting.append(job)

    def wait(self, timeout: float) -> list[Finished]:
        """Returns what ended, as soon as something did."""
        end = time.monotonic() + timeout
        while not self._ended:
            self._start_waiting()
            left = end - time.monotonic()
            if left <= 0 or not (self._waiting or any(self._busy())):
                break
            self._listen(min(left, _LOOK_SECONDS))
        ended, self._ended = self._ended, []
        return ended

    def stop(self) -> None:
        """Tells what runs to save and end, and drops what waits."""
        self._is_stopping = True
        self._waiting.clear()
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
        while self._waiting and sum(1 for _ in self._busy()) < self.slots:
            job = self._waiting[0]
            if not self._fits(job):
                return
            worker = self._worker_for(job.task)
            self._waiting.popleft()
            worker.give(job)

    def _fits(self, job: _Job) -> bool:
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
            free_now = utils.format_bytes(free)
            text = "%s waits for memory: it needs %s, %s are free"
            logger.warning(text, job.task.name, needed, free_now)
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
            if task.num_threads in (None, worker.num_threads):
                return worker
        if len(self._workers) >= self.slots:
            self._retire(idle[0])
        taken = {worker.slot for worker in self._workers}
        slot = next(each for each in range(1, self.slots + 1) if each not in taken)
        folder = self.log_folder
        log = None if folder is None else folder / f"worker-{slot:02d}.log"
        worker = _Process(slot, task.num_threads, log)
        self._workers.append(worker)
        return worker

    def _retire(self, worker: _Process) -> None:
        self._workers.remove(worker)
        worker.end()

    # Ending

    def _listen(self, seconds: float) -> None:
        """Takes what workers say within so many seconds, and ends those out of time."""
        due = min((worker.due for worker in self._workers), default=float("inf"))
        workers: dict[Any, _Process] = {each.connection: each for each in self._workers}
        left = max(0.0, min(seconds, due - time.monotonic()))
        for connection in wait(list(workers), left):
            self._take(workers[connection])
        for worker in self._workers:
            worker.act_when_due()

    def _take(self, worker: _Process) -> None:
        """Takes what a worker says of its job, or that it died."""
        try:
            said = worker.connection.recv_bytes()
        except (EOFError, OSError):
            self._bury(worker)
            return
        if said == BEGUN:
            worker.begin()
            return
        job, worker.job, worker.due = worker.job, None, float("inf")
        ended = Finished(**json.loads(said))
        is_interrupted = ended.exit_code > 128
        if is_interrupted or worker.is_told or worker.num_given >= TASKS_PER_WORKER:
            self._retire(worker)
        if job is not None:
            is_unlucky = is_interrupted or ended.exit_code == utils.EXIT_STORAGE
            ended = replace(ended, attempts=job.attempts)
            self._settle(job, ended, is_unlucky=is_unlucky, is_late=worker.is_late)

    def _bury(self, worker: _Process) -> None:
        self._workers.remove(worker)
        code = worker.end()
        if worker.job is not None:
            error = worker.how_it_ended(code)
            failed = _failed(worker.job, error, utils.EXIT_INTERNAL)
            failed = replace(failed, pid=worker.process.pid)
            self._settle(worker.job, failed, is_unlucky=True, is_late=worker.is_late)

    def _settle(
        self, job: _Job, ended: Finished, *, is_unlucky: bool, is_late: bool
    ) -> None:
        """Notes how a job ended, or queues it again where another try may end well."""
        if is_unlucky and is_late:
            limit = utils.format_duration(job.task.timeout_seconds or 0)
            late = f"not done within {limit}"
            ended = replace(ended, error=late, exit_code=utils.EXIT_INTERNAL)
        if is_unlucky and self._is_stopping:
            code = 128 + signal.SIGTERM
            ended = replace(ended, error="interrupted", exit_code=code)
        elif is_unlucky and job.attempts <= self.retries:
            logger.warning("%s is tried again: %s", job.task.name, ended.error)
            self._waiting.append(replace(job, attempts=job.attempts + 1))
            return
        self._ended.append(ended)


def _failed(
    job: _Job, error: str, exit_code: int, attempts: int | None = None
) -> Finished:
    tried = job.attempts if attempts is None else attempts
    return Finished(
        name=job.task.name, error=error, exit_code=exit_code, attempts=tried
    )
