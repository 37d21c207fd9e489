"""Several runs, one after another: how each ended, and nothing lost.

In: training the runs of a mapping, those that fail among them, the folder of what they
give together. Out: a run (`trainer`, which hands it in), judging several (`compare`).
"""

from __future__ import annotations

import gc
import logging
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import utils
from config import Config

logger = logging.getLogger(__name__)

Train = Callable[[Config], Path]
"""Runs one configuration; returns its published folder."""


class FailedRunsError(utils.UserError):
    """Runs that failed among others that did not; what there is was written."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How one of several runs ended.

    Args:
        config: The run.
        folder: Its published folder; None where it failed.
        error: Why it failed; None where it did not.
        seconds: How long it took here: nearly nothing where it was finished before.
    """

    config: Config
    folder: Path | None
    error: str | None
    seconds: float


def train_all(
    configs: Mapping[str, Config],
    train: Train,
    *,
    fatal: tuple[type[Exception], ...] = (OSError,),
) -> dict[str, Outcome]:
    """Trains one run after another; one that fails does not stop the others.

    Args:
        configs: The runs by name.
        train: Trains one.
        fatal: Errors that would meet the next run, too, such as a full disk: raised.

    Raises:
        Interrupted: On SIGINT or SIGTERM; what is finished stays.
    """
    outcomes: dict[str, Outcome] = {}
    try:
        for number, (name, config) in enumerate(configs.items(), 1):
            logger.info("\n%s: run %d of %d", name, number, len(configs))
            outcomes[name] = _train_one(name, config, train, fatal)
            gc.collect()  # a network and its data hold each other
            utils.return_freed_memory()
    except utils.Interrupted as stop:
        finished = sum(outcome.folder is not None for outcome in outcomes.values())
        raise utils.Interrupted(
            stop.signal_number,
            f"{finished} of {len(configs)} runs are finished, and stay. "
            "To go on: the same command with --resume",
        ) from None
    return outcomes


def _train_one(
    name: str, config: Config, train: Train, fatal: tuple[type[Exception], ...]
) -> Outcome:
    started = time.perf_counter()
    folder, error = None, None
    try:
        folder = train(config)
    except fatal:
        raise
    except utils.UserError as problem:
        error = str(problem)
        logger.error("%s failed: %s", name, problem)
    except Exception as problem:
        error = f"{type(problem).__name__}: {problem}"
        logger.exception("%s failed: this is a defect, please report it", name)
    return Outcome(
        config=config,
        folder=folder,
        error=error,
        seconds=time.perf_counter() - started,
    )


def new_folder(config: Config, kind: str) -> Path:
    """Makes and returns `{outputs_dir}/{kind}/{PAIR}/{time}-{digest}`.

    Raises:
        StorageError: If the outputs folder does not take it.
    """
    parent = Path(config.outputs_dir) / kind / config.pair
    stem = f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{config.digest()[:8]}"
    try:
        parent.mkdir(parents=True, exist_ok=True)
        for name in (stem, f"{stem}-{secrets.token_hex(2)}"):
            folder = parent / name
            if not folder.exists():
                break
        folder.mkdir()
    except OSError as error:
        raise utils.StorageError(
            f"cannot make a folder in {parent}: {error.strerror or error}."
        ) from error
    return folder


def require_success(entries: Sequence[Mapping[str, Any]]) -> None:
    """Raises FailedRunsError where one of `models` failed, after all was written."""
    failed = [entry["model"] for entry in entries if entry["status"] == "failed"]
    if failed:
        raise FailedRunsError(
            f"{len(failed)} of {len(entries)} runs failed: {', '.join(failed)}. "
            "--resume repeats these alone."
        )
