"""An executor by its name.

In: a kind by its name. Out: what a task is (`tasks`), each kind (`process_executor`,
`ray_executor`).
"""

from __future__ import annotations

from pathlib import Path

import utils
from executors.process_executor import ProcessExecutor
from executors.tasks import Executor, SerialExecutor

KINDS = ("auto", "serial", "processes", "ray")


def open_executor(
    kind: str = "auto",
    *,
    max_workers: int | None = None,
    retries: int = 2,
    address: str | None = None,
    log_folder: Path | None = None,
) -> Executor:
    """Returns what does tasks, to be used as a context.

    Args:
        kind: One of KINDS; auto is ray where there is an address, serial for one
            worker, processes otherwise.
        max_workers: Tasks side by side; None is one a core, of a cluster what it has
            room for.
        retries: How often a task is tried again whose worker died, whose time was up,
            or whose storage failed; any other error is final.
        address: Of a Ray cluster.
        log_folder: Where each worker of this machine writes its log; None for nowhere.

    Raises:
        ConfigError: If there is no such kind, or an address that it does not take.
        DependencyError: If Ray is not installed, as the context is entered.
    """
    workers = utils.available_cores() if max_workers is None else max_workers
    if kind not in KINDS or workers < 1:
        raise utils.ConfigError(
            f"executor: expected one of {', '.join(KINDS)}, and a worker or more. "
            f"Received: {kind!r}, {workers}.{utils.did_you_mean(kind, KINDS)}"
        )
    if address is not None and kind not in ("auto", "ray"):
        raise utils.ConfigError(
            f"address: expected with the executor ray. Received: {address!r} with "
            f"{kind!r}."
        )
    if kind == "ray" or address is not None:
        from executors.ray_executor import RayExecutor

        return RayExecutor(address, max_workers=max_workers, retries=retries)
    if kind == "serial" or (kind == "auto" and workers == 1):
        return SerialExecutor()
    return ProcessExecutor(workers, retries=retries, log_folder=log_folder)
