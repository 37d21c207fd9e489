"""Several runs, one after another or side by side: how each ended, and nothing lost.

In: training the runs of a mapping, those that fail among them, the folder of what they
give together. Out: a run (`trainer`, which hands it in), judging several
(`comparison`).
"""

from __future__ import annotations

import contextlib
import logging
import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import utils
from config import Config, build_config
from evaluation.baselines import keeping_forecasts
from evaluation.trials import look_of, planned_looks, planned_trials
from executors.kinds import open_executor
from executors.tasks import Executor, Finished, Task, do_all
from files.progress import track
from models import costs
from trainer import train_run

logger = logging.getLogger(__name__)

Train = Callable[[Config], Path]
"""Runs one configuration; returns its published folder."""


class FailedRunsError(utils.UserError):
    """Some of several runs failed; what there is was written.

    Where all of them would have ended with one code alone, this ends with it.
    """

    def __init__(self, message: str, exit_codes: Iterable[int]) -> None:
        super().__init__(message)
        codes = set(exit_codes)
        self.exit_code = codes.pop() if len(codes) == 1 else utils.EXIT_INTERNAL


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How one of several runs ended: in a folder, or with an error and its exit code.

    The seconds are nearly none where it was finished before.
    """

    config: Config
    folder: Path | None = None
    error: str | None = None
    seconds: float
    exit_code: int = 0

    @classmethod
    def of(cls, config: Config, ended: Finished) -> Outcome:
        """Returns how a run ended that a worker trained."""
        result = ended.result
        return cls(
            config=config,
            folder=None if result is None else Path(result["folder"]),
            error=ended.error,
            seconds=ended.seconds,
            exit_code=ended.exit_code,
        )

    def failure(self) -> dict[str, Any]:
        """Returns what stands for a run that failed, ready for JSON."""
        return {"status": "failed", "error": self.error, "exit_code": self.exit_code}


def train_all(
    configs: Mapping[str, Config],
    train: Train,
    *,
    fatal: tuple[type[Exception], ...] = (OSError,),
    executor: Executor | None = None,
) -> dict[str, Outcome]:
    """Trains one run after another; one that fails does not stop the others.

    Args:
        configs: The runs by name.
        train: Trains one. With an executor a `partial` of `trainer.train_run`.
        fatal: Errors that would meet the next run, too, such as a full disk: raised;
            with an executor an ordinary end.
        executor: Does them side by side, see `share_cores`; None: one after another,
            in this process.

    Raises:
        Interrupted: On SIGINT or SIGTERM; what is finished stays.
    """
    outcomes: dict[str, Outcome] = {}
    try:
        if executor is not None:
            words = getattr(train, "keywords", {})
            for ended in do_all(executor, _tasks(configs, words)):
                outcomes[ended.name] = Outcome.of(configs[ended.name], ended)
                if ended.error is not None:
                    logger.error("%s failed: %s", ended.name, ended.error)
            return {name: outcomes[name] for name in configs}
        with keeping_forecasts(), planned_trials(configs.values()):
            named = track(configs.items(), "run", len(configs))
            for number, (name, config) in enumerate(named, 1):
                logger.info("\n%s: run %d of %d", name, number, len(configs))
                outcomes[name] = attempt(name, config, train, fatal)
                utils.return_freed_memory(collect=True)
    except utils.Interrupted as stop:
        finished = sum(outcome.folder is not None for outcome in outcomes.values())
        raise utils.Interrupted(
            stop.signal_number,
            f"{finished} of {len(configs)} runs are finished, and stay. "
            "To go on: the same command with --resume",
        ) from None
    return outcomes


def attempt(
    name: str,
    config: Config,
    act: Train,
    fatal: tuple[type[Exception], ...] = (OSError,),
) -> Outcome:
    """Does something for a run, such as training it; returns how that ended."""
    started = time.perf_counter()
    ended: dict[str, Any] = {}
    try:
        ended["folder"] = act(config)
    except fatal:
        raise
    except utils.UserError as problem:
        ended = {"error": str(problem), "exit_code": problem.exit_code}
        logger.error("%s failed: %s", name, problem)
    except Exception as problem:
        error = f"{type(problem).__name__}: {problem}"
        ended = {"error": error, "exit_code": utils.EXIT_INTERNAL}
        logger.exception("%s failed: this is a defect, please report it", name)
    return Outcome(config=config, seconds=time.perf_counter() - started, **ended)


def share_cores(config: Config, executor: Executor | None) -> Config:
    """Returns a run with its share of the cores, where none are given to it.

    Threads decide bits: the runs are those of one after another with as many threads.
    """
    if executor is None or config.num_threads is not None:
        return config
    return config.replace(num_threads=max(1, utils.available_cores() // executor.slots))


def open_workers(max_workers: int | None) -> AbstractContextManager[Executor | None]:
    """Returns processes that train side by side, as a context; None has none.

    Raises:
        ConfigError: If there is no worker.
    """
    if max_workers is None:
        return contextlib.nullcontext()
    return open_executor("processes", max_workers=max_workers)


def _tasks(configs: Mapping[str, Config], words: Mapping[str, Any]) -> Iterator[Task]:
    planned = [*map(look_of, configs.values())]
    for name, config in configs.items():
        yield Task(
            name=name,
            function="experiments.series:train_task",
            values={"config": config.to_dict(), "planned": planned, "words": words},
            num_threads=config.num_threads,
            memory_bytes=costs.run_memory(config),
        )


def train_task(values: Mapping[str, Any]) -> dict[str, Any]:
    """Trains a run of a series in a worker; returns its `folder`.

    Args:
        values: `config`, `planned` (`look_of` all runs of the series), and `words`,
            which `trainer.train_run` is told.
    """
    with planned_looks(values["planned"]):
        folder = train_run(build_config(values["config"]), **values["words"])
    return {"folder": folder}


def new_folder(config: Config, kind: str) -> Path:
    """Makes and returns `{outputs_dir}/{kind}/{PAIR}/{time}-{digest}`.

    Raises:
        StorageError: If the outputs folder does not take it.
    """
    parent = Path(config.outputs_dir) / kind / config.pair
    stem = f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{config.digest()[:8]}"
    try:
        parent.mkdir(parents=True, exist_ok=True)
        if (folder := parent / stem).exists():
            folder = parent / f"{stem}-{secrets.token_hex(2)}"
        folder.mkdir()
    except OSError as error:
        raise utils.StorageError(
            f"cannot make a folder in {parent}: {error.strerror or error}."
        ) from error
    return folder


def require_success(entries: Sequence[Mapping[str, Any]]) -> None:
    """Raises FailedRunsError where one of `models` failed, after all was written."""
    failed = [entry for entry in entries if entry["status"] == "failed"]
    if failed:
        names = ", ".join(entry["model"] for entry in failed)
        raise FailedRunsError(
            f"{len(failed)} of {len(entries)} runs failed: {names}. "
            "--resume repeats these alone.",
            (entry["exit_code"] for entry in failed),
        )
