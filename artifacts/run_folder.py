"""A run's folder: made, locked, found again, published whole, swept.

In: where files of a run lie while it lasts, and whose they are. Out: what is in them
(`trainer`, `reports.report`), their way into `outputs/models` (`publication`), reading
them again (`artifact`).
"""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import shutil
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import utils
from artifacts import manifest, publication
from config import Config
from files.atomic import atomic_write, fsync_folder, make_folder
from files.locks import FileLock
from files.strict import read_json, write_json

logger = logging.getLogger(__name__)

MANIFEST = "MANIFEST.json"
STATE = "state.json"
STATUS = "status.json"
CELL = "cell.json"
"""In the folder of a run that belongs to a sweep, which alone goes on with it."""
LOCK = ".lock"
CHECKPOINTS = "checkpoints"
FOLDS = "folds"
KEPT_FOLDS = "kept_folds"
_INTERNALS = (CHECKPOINTS, FOLDS, STATE, STATUS, CELL, LOCK)
"""What a run needs to go on, and a published one does not have."""


class RunFolder:
    """The folder of one run while it lasts: `outputs/runs/{run_id}`.

    Args:
        config: The run.
        run_id: UTC time, timeframe and a short digest of the configuration.
    """

    def __init__(self, config: Config, run_id: str) -> None:
        self.config = config
        self.run_id = run_id
        self.path = config.runs_dir / run_id
        self.checkpoints = self.path / CHECKPOINTS
        self._lock = FileLock(self.path / LOCK)

    def lock(self, *, patience_seconds: float = 0.0) -> bool:
        """Marks the run as alive until this process ends; False if another has it."""
        return self._lock.acquire(patience_seconds=patience_seconds)

    def unlock(self) -> None:
        """Lets go of the run."""
        self._lock.release()

    def __del__(self) -> None:
        self.unlock()

    @property
    def published(self) -> Path:
        """Where this run is, or will be, published."""
        return self.config.model_dir / self.run_id

    @classmethod
    def create(cls, config: Config) -> RunFolder:
        """Makes a new folder, this process's alone, with the configuration in it.

        Raises:
            StorageError: If the outputs folder does not take it.
        """
        stem = f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{config.timeframe}"
        run_id = stem = f"{stem}-{config.digest()[:8]}"
        while True:
            run = cls(config, run_id)
            try:
                if run._take():
                    break
            except OSError as error:
                raise utils.StorageError(
                    f"cannot make {run.path}: {error.strerror or error}."
                ) from error
            run_id = f"{stem}-{secrets.token_hex(4)}"
        atomic_write(run.path / "config.yaml", config.to_yaml())
        return run

    def _take(self) -> bool:
        """Makes and locks the folder; False if another process did, or published it."""
        make_folder(self.path.parent)
        try:
            self.path.mkdir()
        except FileExistsError:
            return False
        fsync_folder(self.path.parent)
        if self.published.exists():
            # Not empty where another process looks whether it is dead.
            shutil.rmtree(self.path, ignore_errors=True)
            return False
        try:
            return self.lock()
        except FileNotFoundError:  # swept before it was locked
            return False

    def file(self, kind: str, suffix: str) -> Path:
        """Returns the path of a tagged file, such as `model_{tag}.keras`."""
        return self.path / f"{kind}_{self.config.tag}{suffix}"

    def state(self) -> dict[str, Any]:
        """Returns what the run wrote down when it began, and when it was resumed.

        Raises:
            DataError: If that is not there, or nothing of the kind.
        """
        path = self.path / STATE
        content = read_json(path) if path.is_file() else None
        if not isinstance(content, dict):
            received = "no such file" if content is None else "something else"
            raise utils.DataError(
                f"{path}: expected what this run began with, by name. Received: "
                f"{received}. The run cannot go on: start anew, without --resume."
            )
        return content

    def resumes(self) -> list[dict[str, Any]]:
        """Returns when this run was resumed, and whether exactly."""
        if not (self.path / STATE).is_file():
            return []  # a fold: it begins anew
        notes = self.state().get("resumes", [])
        return notes if isinstance(notes, list) else []

    def recoveries(self) -> list[dict[str, Any]]:
        """Returns how this run went on after steps that did not fit into memory."""
        whole = RunFolder(self.config, self.whole.name)
        has_state = (whole.path / STATE).is_file()
        notes = whole.state().get("recoveries", []) if has_state else []
        return notes if isinstance(notes, list) else []

    def note_recovery(self, note: Mapping[str, Any]) -> None:
        """Writes down how the run goes on."""
        saved = RunFolder(self.config, self.whole.name).state()
        saved["recoveries"] = [*self.recoveries(), dict(note)]
        write_json(self.whole / STATE, saved)

    def is_moved(self) -> bool:
        """Whether it goes on on another device than it began on."""
        return any("moved_to" in note for note in self.recoveries()[-1:])

    @property
    def whole(self) -> Path:
        """The folder of the run, also where this is that of a fold."""
        return self.config.runs_dir / self.run_id.partition("/")[0]

    def fold(self, number: int) -> RunFolder:
        """Returns the folder of one fold, counted from 1."""
        return RunFolder(self.config, f"{self.run_id}/{FOLDS}/fold_{number:02d}")

    def keep(self) -> None:
        """Copies what was saved of a fold into the run, as an artifact of its own."""
        kept = self.path.parents[1] / KEPT_FOLDS / self.path.name
        shutil.rmtree(kept, ignore_errors=True)  # of an interrupted attempt
        kept.mkdir(parents=True)
        kinds = ("model", "scaler", "preprocessor", "calibrator", "metadata", "history")
        for kind in kinds:
            for path in self.path.glob(f"{kind}_{self.config.tag}.*"):
                shutil.copy2(path, kept)
        manifest.write_manifest(kept, MANIFEST, is_internal=is_internal)

    def has_progress(self) -> bool:
        """Whether there is something that a resume need not repeat."""
        # Not *.ckpt: that is also the name of one that was never finished.
        patterns = "**/epoch_*.ckpt **/rounds.ckpt **/agents.ckpt"
        patterns += " folds/*/results.json model_* agent_*"
        with contextlib.suppress(FileNotFoundError):  # published a moment ago
            return any(any(self.path.glob(each)) for each in patterns.split())
        return False

    def is_dead_with_progress(self) -> bool:
        """Whether nobody has the run, and a resume would not begin anew."""
        with contextlib.suppress(FileNotFoundError):
            if self.lock():
                self.unlock()
                return self.has_progress() and not self.published.is_dir()
        return False

    def in_use(self) -> utils.InUseError:
        """Returns the refusal of a run that another process has."""
        return utils.InUseError(
            f"{self.path}: this run is still going on: {self._lock.owner()} has it. "
            "Wait for it, or end that process; where that machine is gone, delete "
            f"{self.path / LOCK}."
        )

    def remove_temporary(self) -> list[Path]:
        """Removes the unfinished files of a dead writer; returns them."""
        return [each for each in self.path.rglob(".tmp-*") if removed_path(each)]

    def publish(self) -> Path:
        """Writes the manifest, moves the folder, switches `latest`; returns where.

        Raises:
            StorageError: If it is not published; it is kept where it is.
        """
        destination = self.published
        try:
            self.remove_temporary()
            manifest.write_manifest(self.path, MANIFEST, is_internal=is_internal)
            for written, _, _ in os.walk(self.path):
                fsync_folder(written)
            is_copied = publication.move_run(
                self.path, destination, internals=_INTERNALS
            )
        except utils.UserError:
            raise
        except OSError as error:
            raise utils.StorageError(
                f"cannot publish {self.path} as {destination}: "
                f"{error.strerror or error}. The run is kept where it is; make room, "
                "then go on with --resume."
            ) from error
        # From here on it is published, whatever else fails.
        for folder in (destination.parent, self.config.runs_dir):
            try:
                fsync_folder(folder)
            except OSError as error:
                logger.warning("%s: not flushed: %s", folder, error.strerror)
        publication.point_latest(latest_link(self.config), self.run_id)
        _remove_internals(destination)
        if is_copied:
            shutil.rmtree(self.path, ignore_errors=True)
        return destination


def advice(run: RunFolder | None) -> str:
    """Returns how to go on with an interrupted run."""
    if run is not None and run.published.is_dir():
        return f"It is finished: {run.published}"
    if run is None or not run.has_progress():
        return "Nothing was saved yet: start the run again."
    return f"To go on: python trainer.py --resume {run.path}"


def latest_link(config: Config) -> Path:
    """Returns the name that stands for the newest published run of a kind."""
    return config.model_dir / config.latest_name


def newest_first(folder: Path) -> list[Path]:
    """Returns the folders in a folder of runs or models, the newest first."""
    if not folder.is_dir():
        return []
    return sorted((path for path in folder.iterdir() if path.is_dir()), reverse=True)


def sweep(config: Config, *, min_age_seconds: float = 60.0) -> list[Path]:
    """Removes what dead runs left behind: temporary files, runs without a checkpoint.

    Younger folders than `min_age_seconds` may be about to be locked: they stay. Returns
    what was removed.
    """
    removed = []

    def is_old(path: Path) -> bool:
        with contextlib.suppress(FileNotFoundError):
            return time.time() - path.lstat().st_mtime >= min_age_seconds
        return False

    for folder in newest_first(config.runs_dir):
        if not publication.RUN_ID.fullmatch(folder.name) or not is_old(folder):
            continue
        run = RunFolder(config, folder.name)
        with contextlib.suppress(FileNotFoundError):  # published a moment ago
            if not run.lock():
                continue  # alive
            if run.has_progress() and not run.published.is_dir():
                removed += run.remove_temporary()
            elif removed_path(folder):
                removed.append(folder)
        run.unlock()
    for folder in newest_first(config.model_dir):
        internal = any((folder / name).exists() for name in _INTERNALS)
        if internal and not folder.is_symlink() and is_old(folder):
            _remove_internals(folder)  # its process died after the rename
            removed.append(folder / CHECKPOINTS)
    for path in (*config.runs_dir.glob(".tmp-*"), *config.model_dir.glob(".tmp-*")):
        run = RunFolder(config, path.name.removeprefix(publication.COPY))
        is_copied = run.path.is_dir() and not run.is_dead_with_progress()
        if is_old(path) and not is_copied and removed_path(path):
            removed.append(path)
    if removed:
        logger.info("removed %d leftovers of dead runs", len(removed))
    return removed


def removed_path(path: Path) -> bool:
    """Removes a file or a folder; False where another process did."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
        return not path.exists()
    with contextlib.suppress(FileNotFoundError):
        path.unlink()
        return True
    return False


def is_internal(name: str) -> bool:
    """Whether a file serves going on with a run, not a published one."""
    return name.split("/")[0] in _INTERNALS


def _remove_internals(folder: Path) -> None:
    """Removes what a published run does not need, its lock last."""
    for name in _INTERNALS:
        shutil.rmtree(folder / name, ignore_errors=True)
        with contextlib.suppress(OSError):
            (folder / name).unlink()
