"""Which tasks wait, which ended, and which are tried again.

In: the rule of retries, one for every executor that has workers. Out: the workers.
"""

from __future__ import annotations

import logging
import signal
from collections import deque
from dataclasses import dataclass, replace
from typing import Any

import utils
from executors.tasks import Finished, Task
from executors.worker import IMPORT_BYTES

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Job:
    """A task, and which try of it is the next or the present one."""

    task: Task
    attempts: int = 1

    @property
    def bytes_needed(self) -> int:
        """What a worker needs for the task, with all that it imports."""
        return self.task.memory_bytes + IMPORT_BYTES

    def lost(self, error: str, **where: Any) -> Finished:
        """Returns the end of a try whose worker, at `node`, `pid`, cannot tell."""
        name, code = self.task.name, utils.EXIT_INTERNAL
        return Finished(name=name, error=error, exit_code=code, **where)


class TaskQueue:
    """What waits and what ended.

    Args:
        retries: How often a task is tried again whose worker died, whose time was up,
            that was interrupted, or whose storage failed; any other error is final.
    """

    def __init__(self, retries: int) -> None:
        self.retries = retries
        self.waiting: deque[Job] = deque()
        self.is_stopping = False
        self._ended: list[Finished] = []

    def refuse(self, job: Job, error: str) -> None:
        """Ends a task that was not tried."""
        code = utils.EXIT_USAGE
        name = job.task.name
        self._ended.append(Finished(name=name, error=error, exit_code=code, attempts=0))

    def settle(self, job: Job, ended: Finished, *, is_lost: bool = False) -> None:
        """Notes how a try ended, or queues the task again.

        Args:
            job: What was tried.
            ended: How it ended.
            is_lost: Whether its worker died before it could tell.
        """
        is_interrupted = ended.exit_code > 128
        ended = replace(ended, attempts=job.attempts)
        if is_lost or is_interrupted or ended.exit_code == utils.EXIT_STORAGE:
            if self.is_stopping:
                code = ended.exit_code if is_interrupted else 128 + signal.SIGTERM
                ended = replace(ended, error="interrupted", exit_code=code)
            elif is_interrupted and job.attempts > self.retries:
                ended = replace(ended, exit_code=utils.EXIT_INTERNAL)  # nobody stopped
            elif job.attempts <= self.retries:
                logger.warning("%s is tried again: %s", job.task.name, ended.error)
                self.waiting.append(replace(job, attempts=job.attempts + 1))
                return
        self._ended.append(ended)

    def stop(self) -> None:
        """Drops what waits; nothing is tried again from here on."""
        self.is_stopping = True
        self.waiting.clear()

    def has_ended(self) -> bool:
        """Whether something ended that nobody was told of."""
        return bool(self._ended)

    def take_ended(self) -> list[Finished]:
        """Returns what ended, once."""
        ended, self._ended = self._ended, []
        return ended
