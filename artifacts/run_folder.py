"""A run's folder: made, locked, found again, published whole, swept.

In: where files of a run lie while it lasts, and its way into `outputs/models`. Out:
what is in them (`trainer`, `reports.report`), reading them again (`artifact`).
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import utils
from artifacts import manifest
from config import Config
from files.atomic import atomic_write, fsync_path
from files.strict import read_json, sha256_json, to_jsonable, write_json
from settings.run_fields import RunFields
from settings.sources import load_config

logger = logging.getLogger(__name__)

_PLACES = {"inputs_dir", "outputs_dir", "training_file"}
_FREE = _PLACES | {"epochs", "tensorboard", "verbose_logging", "checkpoint_minutes"}
"""Fields that decide nothing about what is trained."""
_RUN_ID = re.compile(r"\d{8}T\d{6}Z-\w+-[0-9a-f]{8}")
MANIFEST = "MANIFEST.json"
STATE = "state.json"
LOCK = ".lock"
CHECKPOINTS = "checkpoints"
FOLDS = "folds"
KEPT_FOLDS = "kept_folds"
_INTERNALS = (CHECKPOINTS, FOLDS, STATE, LOCK)
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
        self._lock: int | None = None

    def lock(self) -> bool:
        """Marks the run as alive until this process ends; False if another has it."""
        self.path.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self.path / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return False
        self._lock = descriptor
        return True

    def unlock(self) -> None:
        """Lets go of the run."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def __del__(self) -> None:
        self.unlock()

    @classmethod
    def create(cls, config: Config) -> RunFolder:
        """Makes a new folder with the resolved configuration in it.

        Raises:
            StorageError: If the outputs folder does not take it.
        """
        stem = f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{config.timeframe}"
        run_id = stem = f"{stem}-{config.digest()[:8]}"
        parents = (config.runs_dir, config.model_dir)
        while any((parent / run_id).exists() for parent in parents):
            run_id = f"{stem}-{secrets.token_hex(2)}"
        run = cls(config, run_id)
        try:
            run.lock()
        except OSError as error:
            raise utils.StorageError(
                f"cannot make {run.path}: {error.strerror or error}."
            ) from error
        atomic_write(run.path / "config.yaml", config.to_yaml())
        return run

    def file(self, kind: str, suffix: str) -> Path:
        """Returns the path of a tagged file, such as `model_{tag}.keras`."""
        return self.path / f"{kind}_{self.config.tag}{suffix}"

    def resumes(self) -> list[dict[str, Any]]:
        """Returns when this run was resumed, and whether exactly."""
        if not (self.path / STATE).is_file():
            return []  # a fold: it begins anew
        return list(read_json(self.path / STATE).get("resumes", []))

    def fold(self, number: int) -> RunFolder:
        """Returns the folder of one fold, counted from 1."""
        return RunFolder(self.config, f"{self.run_id}/{FOLDS}/fold_{number:02d}")

    def keep(self) -> None:
        """Copies what was saved of a fold into the run, as an artifact of its own."""
        kept = self.path.parents[1] / KEPT_FOLDS / self.path.name
        shutil.rmtree(kept, ignore_errors=True)  # of an interrupted attempt
        kept.mkdir(parents=True)
        for kind in ("model", "scaler", "calibrator", "metadata", "history"):
            for path in self.path.glob(f"{kind}_{self.config.tag}.*"):
                shutil.copy2(path, kept)
        manifest.write_manifest(kept, MANIFEST, is_internal=is_internal)

    def has_progress(self) -> bool:
        """Whether there is something that a resume need not repeat."""
        # Not *.ckpt: that is also the name of one that was never finished.
        patterns = ("**/epoch_*.ckpt", "folds/*/results.json", "model_*")
        return any(any(self.path.glob(pattern)) for pattern in patterns)

    def refuse_difference(
        self, identity: Mapping[str, Any], *, is_forced: bool
    ) -> None:
        """Raises ConfigError that names each difference, unless `is_forced`."""
        differences = self._differences(identity)
        if differences and not is_forced:
            self.unlock()
            lines = "\n".join(f"  - {line}" for line in differences)
            raise utils.ConfigError(
                f"{self.path}: this run cannot go on exactly:\n{lines}\n"
                "Use --resume-anyway to go on all the same; the metadata will say so."
            )

    def _differences(self, identity: Mapping[str, Any]) -> list[str]:
        """Returns what is not as the run began: its name, the run's value, this one."""
        saved, now = read_json(self.path / STATE), to_jsonable(identity)
        lines = []
        if saved.get("configuration") != now["configuration"]:
            lines.append("the configuration is not the one it began with")
            found, free = _config_of(self.path), _free_fields(self.config)
            lines += _changed_fields(found or self.config, self.config, free=free)
        if saved.get("data") != now["data"]:
            lines.append("the data is not the one it began with")
        before = saved.get("environment", {})
        for key, value in now["environment"].items():
            if before.get(key) != value:
                lines.append(f"{key}: began with {before.get(key)}, now {value}")
        return lines

    def note_resume(self, identity: Mapping[str, Any], *, epochs_done: int) -> None:
        """Writes down that the run went on, and whether exactly."""
        saved, differences = read_json(self.path / STATE), self._differences(identity)
        note = {"after_epochs": epochs_done, "differences": differences}
        note["is_exact"] = not differences
        saved["resumes"] = [*saved.get("resumes", []), note]
        write_json(self.path / STATE, saved)
        atomic_write(self.path / "config.yaml", self.config.to_yaml())

    def publish(self) -> Path:
        """Writes the manifest, renames the folder, switches `latest`; returns where."""
        destination = self.config.model_dir / self.run_id
        try:
            _remove_temporary(self.path)
            manifest.write_manifest(self.path, MANIFEST, is_internal=is_internal)
            for folder, _, _ in os.walk(self.path):
                fsync_path(folder)
            destination.parent.mkdir(parents=True, exist_ok=True)
            os.rename(self.path, destination)
            fsync_path(destination.parent)
            fsync_path(self.config.runs_dir)
            _switch_link(_latest_link(self.config), self.run_id)
        except utils.UserError:
            raise
        except OSError as error:
            where = "where it is" if self.path.exists() else f"in {destination}"
            raise utils.StorageError(
                f"cannot publish {self.path} as {destination}: "
                f"{error.strerror or error}. The run is kept {where}; make room, then "
                "go on with --resume."
            ) from error
        # Only now: until it was renamed, a run must be resumable.
        _remove_internals(destination)
        with contextlib.suppress(OSError):
            self.config.runs_dir.rmdir()  # only when no other run is in it
        return destination


def advice(run: RunFolder | None) -> str:
    """Returns how to go on with an interrupted run."""
    if run is None or not run.has_progress():
        return "Nothing was saved yet: start the run again."
    return f"To go on: python trainer.py --resume {run.path}"


def same_run(first: Config, second: Config) -> bool:
    """Whether two configurations train the same: all but epochs and folders."""
    return run_identity(first) == run_identity(second)


def run_identity(config: Config) -> str:
    """Returns a digest of the fields that decide what is trained."""
    free = _free_fields(config)
    return sha256_json({k: v for k, v in config.to_dict().items() if k not in free})


def _free_fields(config: Config) -> set[str]:
    # The whole course of a cosine hangs on the last epoch.
    return _FREE - {"epochs"} if config.lr_schedule == "cosine" else _FREE


def _changed_fields(saved: Config, asked: Config, *, free: set[str]) -> list[str]:
    before, now = saved.to_dict(), asked.to_dict()
    return [
        f"{name}: began with {value}, now {now[name]}"
        for name, value in before.items()
        if name not in free and value != now[name]
    ]


def _config_of(folder: Path) -> Config | None:
    with contextlib.suppress(utils.UserError, OSError):
        return load_config(str(folder / "config.yaml"))
    return None  # not a run of this version


def _same_runs(parent: Path, config: Config) -> Iterator[tuple[Path, Config]]:
    """Yields folders of runs that train the same, the newest first."""
    for folder in _newest_first(parent):
        found = _config_of(folder)
        if found is not None and same_run(found, config):
            yield folder, found


def find_resumable(
    config: Config, resume: str | os.PathLike[str] | None, *, is_probe: bool = False
) -> RunFolder | None:
    """Returns the dead run to go on with, locked; None where there is none.

    Args:
        config: The run that is wanted.
        resume: None for none, "newest" for the newest run of this configuration that
            has a checkpoint, or the folder of one run.
        is_probe: Only look: the returned run is not locked.

    Raises:
        ConfigError: If the named run is still alive.
    """
    if resume is None:
        return None
    if resume != "newest":
        run = RunFolder(config, Path(resume).resolve().name)
        if not run.lock():
            raise utils.ConfigError(f"{run.path}: this run is still going on.")
        _remove_temporary(run.path)
        return run
    for folder, _ in _same_runs(config.runs_dir, config):
        run = RunFolder(config, folder.name)
        if run.has_progress() and run.lock():
            if is_probe:
                run.unlock()
            else:
                _remove_temporary(run.path)
            return run
    return None


def finished_run(config: Config, resume: str | os.PathLike[str] | None) -> Path | None:
    """Returns the published run that a resume finds done; None where there is none.

    Raises:
        ConfigError: If the named run is finished, and of another configuration.
    """
    if resume is None:
        return None
    if resume != "newest":
        folder = Path(resume)
        # A run that died while it was published has a manifest, too.
        is_published = folder.resolve().parent.name != config.runs_dir.name
        if not is_published or not (folder / MANIFEST).is_file():
            return None
        found = _config_of(folder)
        if found and not (same_run(found, config) and found.epochs >= config.epochs):
            changed = _changed_fields(found, config, free=_FREE - {"epochs"})
            raise utils.ConfigError(
                f"{folder}: expected the configuration of this run, which is finished. "
                f"Received another: {'; '.join(changed)}. Start anew, without --resume."
            )
        return folder
    if find_resumable(config, "newest", is_probe=True):
        return None
    return find_finished(config)


def find_finished(config: Config) -> Path | None:
    """Returns the newest published run of a configuration with as many epochs.

    Where its process died between the publication and the link to it, the link follows.
    """
    for folder, found in _same_runs(config.model_dir, config):
        if not folder.is_symlink() and found.epochs >= config.epochs:
            link = _latest_link(found)
            if not link.exists() or os.readlink(link) < folder.name:
                _switch_link(link, folder.name)
            return folder
    return None


def _latest_link(config: RunFields) -> Path:
    return config.model_dir / f"latest-{config.timeframe}"


def _newest_first(folder: Path) -> list[Path]:
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
        return time.time() - path.lstat().st_mtime >= min_age_seconds

    for folder in _newest_first(config.runs_dir):
        if not _RUN_ID.match(folder.name) or not is_old(folder):
            continue
        run = RunFolder(config, folder.name)
        if not run.lock():
            continue  # alive
        if not run.has_progress():
            shutil.rmtree(folder, ignore_errors=True)
            removed.append(folder)
        else:
            removed += _remove_temporary(folder)
        run.unlock()
    for folder in _newest_first(config.model_dir):
        internal = any((folder / name).exists() for name in _INTERNALS)
        if internal and not folder.is_symlink() and is_old(folder):
            _remove_internals(folder)  # its process died after the rename
            removed.append(folder / CHECKPOINTS)
    for path in config.model_dir.glob(".tmp-*"):
        if is_old(path):
            path.unlink(missing_ok=True)
            removed.append(path)
    if removed:
        logger.info("removed %d leftovers of dead runs", len(removed))
    return removed


def _remove_temporary(folder: Path) -> list[Path]:
    """Removes the unfinished files of a dead writer; returns them."""
    leftovers = list(folder.rglob(".tmp-*"))
    for path in leftovers:
        path.unlink(missing_ok=True)
    return leftovers


def is_internal(name: str) -> bool:
    """Whether a file serves going on with a run, not a published one."""
    return name.split("/")[0] in _INTERNALS


def _remove_internals(folder: Path) -> None:
    """Removes what a published run does not need, its lock last."""
    for name in _INTERNALS:
        shutil.rmtree(folder / name, ignore_errors=True)
        with contextlib.suppress(OSError):
            (folder / name).unlink()


def _switch_link(link: Path, target: str) -> None:
    temporary = link.with_name(f".tmp-{secrets.token_hex(6)}-{link.name}")
    try:
        temporary.symlink_to(target, target_is_directory=True)
        os.replace(temporary, link)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()
    fsync_path(link.parent)
