"""Tasks on a Ray cluster, or on one that is started on this machine.

In: Ray's tasks and resources, from ray core alone. Out: what a task is (`tasks`), what
is done around it (`worker`), retries (`task_queue`): Ray itself tries a task without
end whose worker died for want of memory, and never one whose storage failed.
"""

from __future__ import annotations

import importlib
import json
import logging
import os
import re
import socket
import threading
import time
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import asdict
from pathlib import Path
from typing import Any

import utils
from executors.task_queue import Job, TaskQueue
from executors.tasks import Finished, Task
from executors.worker import (
    GRACE_SECONDS,
    TASKS_PER_WORKER,
    do_task,
    prepare,
    thread_environment,
)

logger = logging.getLogger(__name__)

START_SECONDS = 120.0
"""A start takes 2 to 20 s, by load; with nobody there, Ray itself waits for minutes."""
_CONNECT_SECONDS = 10.0
_SAY_SECONDS = 60.0
_STORE_BYTES = 100 * 2**20
"""Results are a few hundred bytes, and do not even go there."""
_PROJECT = Path(__file__).parents[1]


def _do(text: str) -> str:
    prepare()
    return do_task(text)


class RayExecutor:
    """Does tasks where a Ray cluster has room for them. An `Executor`.

    The nodes need this program and the folders of the tasks under the same paths.

    Args:
        address: `HOST:PORT` of the cluster, or `auto`; None takes RAY_ADDRESS from the
            environment, or else starts one on this machine.
        max_workers: Tasks side by side; None is what the cluster has room for.
        retries: See `kinds.open_executor`.
    """

    def __init__(
        self,
        address: str | None = None,
        *,
        max_workers: int | None = None,
        retries: int = 2,
    ) -> None:
        self.address = address or os.environ.get("RAY_ADDRESS") or "local"
        self.max_workers = max_workers
        self.slots = max_workers or utils.available_cores()
        self._queue = TaskQueue(retries)
        self._running: dict[Any, Job] = {}
        self._session: _Session | None = None
        self._said = time.monotonic()

    def __enter__(self) -> RayExecutor:
        """Connects, or starts a cluster.

        Raises:
            DependencyError: If Ray is not installed.
            ConfigError: If that fails or takes too long.
        """
        self._ray = _import_ray(self.address)
        if not self._ray.is_initialized():
            self._session = _Session(self._ray, self.address)
        often = self._ray.remote(max_calls=TASKS_PER_WORKER, max_retries=0)
        self._function = often(_do)  # once: each is exported to every node
        if self.max_workers is None:
            cores = self._ray.cluster_resources().get("CPU", 1)
            self.slots = max(1, int(cores))
        return self

    def __exit__(self, *_: object) -> None:
        """Ends every task, as `stop` does; kills one that takes too long."""
        self.stop()
        end = time.monotonic() + GRACE_SECONDS
        while self._running and time.monotonic() < end:
            self.wait(timeout=1.0)
        for reference in self._running:
            self._ray.cancel(reference, force=True)
        self._running.clear()
        if self._session is not None:
            self._session.close()

    def submit(self, task: Task) -> None:
        """Queues a task; one that no node has room for, even if idle, is refused."""
        job = Job(task)
        if problem := self._no_node_for(job):
            advice = "Ask for fewer threads, a smaller batch, or add a node."
            self._queue.refuse(job, f"{problem}. {advice}")
        else:
            self._queue.waiting.append(job)

    def wait(self, timeout: float) -> list[Finished]:
        """Returns what ended, as soon as something did."""
        end = time.monotonic() + timeout
        while not self._queue.has_ended():
            self._start_waiting()
            left = max(0.0, end - time.monotonic())
            ready: list[Any] = []
            if self._running:
                ready, _ = self._ray.wait(list(self._running), timeout=left)
            for reference in ready:
                self._take(reference)
            if not ready:
                self._tell_what_waits()
                break
        return self._queue.take_ended()

    def stop(self) -> None:
        """Tells what runs to save and end, and drops what waits."""
        if not self._queue.is_stopping:  # once, because a second signal kills
            self._queue.stop()
            for reference in self._running:
                self._ray.cancel(reference, force=False)

    def _no_node_for(self, job: Job) -> str | None:
        """Returns what is missing where no node could take a job, even if idle."""
        wanted = _resources(job)
        nodes = [each["Resources"] for each in self._ray.nodes() if each["Alive"]]
        if any(_fit(wanted, node) for node in nodes):
            return None
        found = " or ".join(sorted({_words(node) for node in nodes})) or "none"
        return (
            f"expected a node of the cluster with {_words(wanted)}. Received: {found}"
        )

    def _tell_what_waits(self) -> None:
        """Says once a minute what waits for a node that is lost; Ray does not."""
        if (now := time.monotonic()) - self._said < _SAY_SECONDS:
            return
        self._said = now
        for job in self._running.values():
            if problem := self._no_node_for(job):
                logger.warning("%s waits: %s", job.task.name, problem)

    def _start_waiting(self) -> None:
        waiting = self._queue.waiting
        most = self.max_workers or float("inf")
        while waiting and len(self._running) < most:
            job = waiting.popleft()
            self._running[self._start(job)] = job

    def _start(self, job: Job) -> Any:
        wanted = _resources(job)
        # Where the environment is another, Ray takes another worker.
        variables = thread_environment(job.task.num_threads)
        variables["TASK_SETTINGS"] = job.task.settings
        path = [str(_PROJECT), os.environ.get("PYTHONPATH", "")]
        variables["PYTHONPATH"] = os.pathsep.join(filter(None, path))
        function = self._function.options(
            name=job.task.name,
            num_cpus=wanted["CPU"],
            num_gpus=wanted["GPU"],
            memory=wanted["memory"],
            runtime_env={"env_vars": variables},
        )
        return function.remote(json.dumps(asdict(job.task)))

    def _take(self, reference: Any) -> None:
        """Takes how a task ended, or what Ray says of a worker or a node that died."""
        job = self._running.pop(reference)
        errors = self._ray.exceptions
        is_lost = False
        try:
            ended = Finished(**json.loads(self._ray.get(reference)))
        except errors.TaskCancelledError:
            ended, is_lost = job.lost("interrupted", pid=0, node=""), True
        except (errors.RayTaskError, errors.RuntimeEnvSetupError) as error:
            ended = job.lost(f"a node cannot run it: {_last(error)}", pid=0, node="")
        except errors.RayError as error:
            what = f"its worker is lost ({type(error).__name__}): {_first(error)}"
            ended, is_lost = job.lost(what, pid=0, node=""), True
        self._queue.settle(job, ended, is_lost=is_lost)


class _Session:
    """A connection to Ray, which a thread of its own has.

    The thread is there to be given up where a start hangs; and it must last, because
    processes that Ray starts end with the thread that started them.
    """

    def __init__(self, ray: Any, address: str) -> None:
        self._over = threading.Event()
        self._started: Future[None] = Future()
        self._thread = threading.Thread(target=self._hold, args=[ray, address])
        self._thread.daemon = True
        try:
            _require_answer(address)
            self._thread.start()
            self._started.result(timeout=START_SECONDS)
        except (Exception, SystemExit) as error:
            self._over.set()
            why = _first(error) or f"not done within {START_SECONDS:.0f} s"
            raise utils.ConfigError(
                f"executor ray: expected a cluster at {address!r}. Received: {why}. "
                "Check the address and the token (docs/cluster.md), or use "
                "--executor processes, which needs this machine alone."
            ) from error

    def _hold(self, ray: Any, address: str) -> None:
        try:
            ray.init(**_start_words(address))
        except BaseException as error:
            self._started.set_exception(error)
            return
        self._started.set_result(None)
        self._over.wait()
        ray.shutdown()

    def close(self) -> None:
        """Ends the connection, and the cluster where it was started for it."""
        self._over.set()
        self._thread.join(GRACE_SECONDS)


def _import_ray(address: str) -> Any:
    if address != "local" and _has_token():
        # Ray finds the token, too, but too late for a connection to a cluster.
        os.environ.setdefault("RAY_AUTH_MODE", "token")
    try:
        ray = importlib.import_module("ray")
    except ImportError as error:
        raise utils.DependencyError(
            "executor ray: expected the package ray. Received: none. "
            "pip install -r requirements-ray.txt, or use --executor processes."
        ) from error
    logging.getLogger("ray").setLevel(logging.ERROR)
    return ray


def _has_token() -> bool:
    is_named = {"RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"} & set(os.environ)
    return bool(is_named) or Path.home().joinpath(".ray", "auth_token").is_file()


def _start_words(address: str) -> dict[str, Any]:
    words: dict[str, Any] = {
        "address": address,
        "log_to_driver": False,
        "configure_logging": False,
        "logging_level": logging.ERROR,
    }
    if address == "local":
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        words |= {
            "num_cpus": utils.available_cores(),
            "include_dashboard": False,
            "object_store_memory": _STORE_BYTES,
        }
    return words


def _require_answer(address: str) -> None:
    """Asks whether anybody listens, which Ray finds out in 20 to 200 s."""
    if found := re.fullmatch(r"(?:ray://)?\[?([^/]+?)\]?:(\d+)", address):
        place = (found[1], int(found[2]))
        socket.create_connection(place, timeout=_CONNECT_SECONDS).close()


def _resources(job: Job) -> dict[str, int]:
    task = job.task
    cores = task.num_threads or 1
    return {"CPU": cores, "GPU": task.num_gpus, "memory": job.bytes_needed}


def _fit(wanted: Mapping[str, int], node: Mapping[str, float]) -> bool:
    return all(node.get(name, 0) >= number for name, number in wanted.items())


def _words(resources: Mapping[str, float]) -> str:
    cores, gpus = resources.get("CPU", 0), resources.get("GPU", 0)
    memory = utils.format_bytes(resources.get("memory", 0))
    return f"{cores:.0f} CPU, {gpus:.0f} GPU, {memory}"


def _first(error: BaseException) -> str:
    return next(iter(str(error).strip().splitlines()), "")


def _last(error: BaseException) -> str:
    return ([*str(error).strip().splitlines()] or [""])[-1]
