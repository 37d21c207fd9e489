"""Work that can be done anywhere: what a worker is given, and what it gives back.

In: values and paths, one function by its name, how it ended. Out: who does it, when
and on which machine (`kinds`), what it is (packages above this one).
"""

from __future__ import annotations

import importlib
import logging
import os
import socket
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import utils
from files.strict import to_jsonable

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Task:
    """One piece of work: plain values in, plain values out, never an array.

    Attributes:
        name: Unlike that of any other task of an executor.
        function: `"package.module:function"`, which takes `values` and returns a
            mapping that is ready for JSON. It may be called again after its worker
            died: it goes on from what it finds on disk.
        values: Ready for JSON; paths are absolute.
        num_threads: Threads of TensorFlow, which takes them once in a process; None
            where any worker will do.
        settings: What else a process takes once, in any words, such as its device: a
            worker is used again for as many threads and the same words alone.
        memory_bytes: Estimated peak above the imports.
        num_gpus: Of its own; a cluster gives a task no GPU that it does not ask for.
        timeout_seconds: Of one try; None waits.
    """

    name: str
    function: str
    values: Mapping[str, Any]
    num_threads: int | None = None
    settings: str = ""
    memory_bytes: int = 0
    num_gpus: int = 0
    timeout_seconds: float | None = None


@dataclass(frozen=True, kw_only=True)
class Finished:
    """How a task ended: with a result, or with an error and its exit code."""

    name: str
    result: Mapping[str, Any] | None = None
    error: str | None = None
    exit_code: int = 0
    attempts: int = 1
    seconds: float = 0.0
    node: str = field(default_factory=socket.gethostname)
    pid: int = field(default_factory=os.getpid)


class Executor(Protocol):
    """Does tasks; a context that leaves no worker behind.

    `submit` queues, `wait` returns what ended since (nothing after `timeout` seconds),
    in any order. `stop` asks running tasks to save what they have, as a signal does,
    and drops the waiting ones.
    """

    slots: int
    """Tasks that can run side by side."""

    def __enter__(self) -> Executor:
        """Starts."""

    def __exit__(self, *_: object) -> None:
        """Ends every worker."""

    def submit(self, task: Task) -> None:
        """Queues a task."""

    def wait(self, timeout: float) -> list[Finished]:
        """Returns what ended."""

    def stop(self) -> None:
        """Interrupts what runs."""


def perform(task: Task) -> Finished:
    """Does a task in this process; an error is a value, with its exit code.

    Raises:
        Interrupted: On a signal.
    """
    started = time.perf_counter()
    ended: dict[str, Any] = {}
    try:
        ended["result"] = to_jsonable(_function(task.function)(dict(task.values)))
    except utils.UserError as problem:
        ended = {"error": str(problem), "exit_code": problem.exit_code}
    except Exception as problem:
        logger.exception("%s failed: this is a defect, please report it", task.name)
        error = f"{type(problem).__name__}: {problem}"
        ended = {"error": error, "exit_code": utils.exit_code_of(problem)}
    return Finished(name=task.name, seconds=time.perf_counter() - started, **ended)


def _function(name: str) -> Callable[[dict[str, Any]], Mapping[str, Any]]:
    module, _, function = name.partition(":")
    return getattr(importlib.import_module(module), function)


class SerialExecutor:
    """Does one task after another in this process. An `Executor`."""

    slots = 1

    def __init__(self) -> None:
        self._waiting: deque[Task] = deque()

    def __enter__(self) -> SerialExecutor:
        """Needs no start."""
        return self

    def __exit__(self, *_: object) -> None:
        """Has no workers."""

    def submit(self, task: Task) -> None:
        """Queues a task."""
        self._waiting.append(task)

    def wait(self, timeout: float) -> list[Finished]:
        """Does the next task, however long it takes."""
        return [perform(self._waiting.popleft())] if self._waiting else []

    def stop(self) -> None:
        """Drops what waits; what runs is interrupted by the signal itself."""
        self._waiting.clear()


def do_all(executor: Executor, tasks: Iterable[Task]) -> Iterator[Finished]:
    """Yields how each task ended, in the order of their ends."""
    left = 0
    for task in tasks:
        executor.submit(task)
        left += 1
    while left:
        for ended in executor.wait(timeout=60.0):
            left -= 1
            yield ended
