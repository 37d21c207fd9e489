"""Which run a resume means: the same training, dead, and where it began; or a refusal.

In: what makes two runs the same, what differs, what is finished. Out: the folder, its
lock, its publication (`run_folder`), the state of a training (`networks.checkpoints`).
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import utils
from artifacts import publication
from artifacts.publication import RUN_ID
from artifacts.run_folder import (
    CELL,
    MANIFEST,
    STATE,
    RunFolder,
    latest_link,
    newest_first,
)
from config import LABELS, Config
from files.atomic import atomic_write
from files.locks import folder_lock
from files.strict import sha256_json, to_jsonable, write_json
from settings.sources import load_config

logger = logging.getLogger(__name__)

_SWEEP_SECONDS = 0.5
"""Longest wait for a lock that a sweep may have for a moment."""

_PLACES = {"inputs_dir", "outputs_dir", "training_file"}
FREE_FIELDS = _PLACES | {
    "epochs",
    "tensorboard",
    "verbose_logging",
    "checkpoint_minutes",
}
FREE_FIELDS |= {"allocator", "device", "recovery", "allow_swap", *LABELS}
"""Fields that decide nothing about what is trained."""


def same_run(first: Config, second: Config) -> bool:
    """Whether two configurations train the same: all but epochs and folders."""
    return run_identity(first) == run_identity(second)


def run_identity(config: Config) -> str:
    """Returns a digest of the fields that decide what is trained."""
    free = _free_fields(config)
    return sha256_json({k: v for k, v in config.to_dict().items() if k not in free})


def _free_fields(config: Config) -> set[str]:
    # The whole course of a cosine hangs on the last epoch.
    return FREE_FIELDS - {"epochs"} if config.lr_schedule == "cosine" else FREE_FIELDS


def changed_fields(
    saved: Config, asked: Config, *, is_finished: bool = False
) -> list[str]:
    """Returns the fields that make two runs differ; epochs of a finished one, too."""
    free = FREE_FIELDS - {"epochs"} if is_finished else _free_fields(asked)
    before, now = saved.to_dict(), asked.to_dict()
    return [
        f"{name}: began with {value}, now {now[name]}"
        for name, value in before.items()
        if name not in free and value != now[name]
    ]


def config_of(folder: Path) -> Config | None:
    """Returns the configuration in a run's folder; None where it is no run of ours."""
    with contextlib.suppress(utils.UserError, OSError):
        return load_config(str(folder / "config.yaml"))
    return None


def differences(
    run: RunFolder, saved: Mapping[str, Any], identity: Mapping[str, Any]
) -> list[str]:
    """Returns what is not as a run began: its name, the run's value, this one."""
    now, lines = to_jsonable(identity), []
    if saved.get("configuration") != now["configuration"]:
        lines.append("the configuration is not the one it began with")
        lines += changed_fields(config_of(run.path) or run.config, run.config)
    if saved.get("data") != now["data"]:
        lines.append("the data is not the one it began with")
    if saved.get("parents") != now.get("parents"):
        lines.append("the models that it builds on are not those it began with")
    environment = saved.get("environment")
    before = environment if isinstance(environment, dict) else {}
    for key, value in now["environment"].items():
        if before.get(key) != value:
            lines.append(f"{key}: began with {before.get(key)!s:.200}, now {value}")
    return lines


def refuse_difference(
    run: RunFolder, identity: Mapping[str, Any], *, is_forced: bool
) -> None:
    """Raises ConfigError that names each difference, unless `is_forced`."""
    found = differences(run, run.state(), identity)
    if found and not (is_forced or run.is_moved()):
        run.unlock()
        raise utils.ConfigError(
            f"{run.path}: this run cannot go on exactly:\n{_lines(found)}\n"
            "Use --resume-anyway to go on all the same; the metadata will say so."
        )
    logger.info("resuming %s", run.path)


def note_resume(
    run: RunFolder, identity: Mapping[str, Any], *, epochs_done: int
) -> None:
    """Writes down that the run went on, and whether exactly.

    After a recovery of memory it does not: sums in pieces have other last bits.
    """
    saved = run.state()
    found = differences(run, saved, identity)
    for each in run.recoveries()[-1:]:
        if (pieces := each.get("micro_batches", 1)) > 1:
            found.append(f"batches: began whole, now in {pieces} pieces, for memory")
    note = {"after_epochs": epochs_done, "differences": found}
    saved["resumes"] = [*run.resumes(), note | {"is_exact": not found}]
    write_json(run.path / STATE, saved)
    atomic_write(run.path / "config.yaml", run.config.to_yaml())


def _lines(problems: list[str]) -> str:
    return "\n".join(f"  - {problem}" for problem in problems)


# Which run is meant


def open_run(
    config: Config, resume: str | os.PathLike[str] | None
) -> tuple[RunFolder, bool]:
    """Returns the run to go on with, or a new one, locked, and whether it is new.

    Of processes that resume at once, one takes or begins the run; the others are told.

    Raises:
        UserError: See `find_resumable` and `RunFolder.create`.
    """
    with contextlib.suppress(OSError):  # `create` says what is wrong with it
        config.runs_dir.mkdir(parents=True, exist_ok=True)
    with folder_lock(config.runs_dir):
        if run := find_resumable(config, resume):
            return run, False
        run = RunFolder.create(config)
    if resume is not None:
        logger.info("nothing to resume; a new run begins: %s", run.path)
    return run, True


def find_resumable(
    config: Config, resume: str | os.PathLike[str] | None, *, is_probe: bool = False
) -> RunFolder | None:
    """Returns the dead run to go on with, locked; None where there is none.

    Args:
        config: The run that is wanted.
        resume: None for none, "newest" for the newest run of this configuration that
            has a checkpoint and belongs to no sweep, or the folder of one run.
        is_probe: Only look: the returned run is not locked.

    Raises:
        InUseError: If the run is still going on.
        MissingInputError: If there is no such folder.
        ConfigError: If it was moved from where its run began.
    """
    if resume is None:
        return None
    if resume != "newest":
        _refuse_moved(config, Path(resume))
        run = RunFolder(config, Path(resume).resolve().name)
        if not run.lock(patience_seconds=_SWEEP_SECONDS):
            raise run.in_use()
        return _taken(run, is_probe=is_probe)
    alive = None
    for folder, _ in _same_runs(config.runs_dir, config):
        run = RunFolder(config, folder.name)
        try:
            is_dead = run.lock(patience_seconds=_SWEEP_SECONDS)
        except FileNotFoundError:
            continue  # published, or swept, a moment ago
        if is_dead and run.has_progress() and not run.published.is_dir():
            return _taken(run, is_probe=is_probe)
        run.unlock()
        alive = alive or (None if is_dead else run)
    if alive is not None:
        raise alive.in_use()
    return None


def _taken(run: RunFolder, *, is_probe: bool) -> RunFolder:
    """Returns a run that was locked: without half-written files, or as it was."""
    if is_probe:
        run.unlock()
    else:
        run.remove_temporary()
    return run


def _same_runs(parent: Path, config: Config) -> Iterator[tuple[Path, Config]]:
    """Yields folders of runs that train the same, the newest first."""
    for folder, found in _all_runs(parent):
        if same_run(found, config):
            yield folder, found


def _all_runs(parent: Path) -> Iterator[tuple[Path, Config]]:
    for folder in newest_first(parent):
        is_other = folder.is_symlink() or (folder / CELL).exists()
        found = None if is_other else config_of(folder)
        if found is not None:
            yield folder, found


def _refuse_moved(config: Config, folder: Path) -> None:
    """Refuses an unfinished run that is not where its run began."""
    where, home = folder.resolve(), config.runs_dir.resolve()
    if not where.is_dir():
        raise utils.MissingInputError(
            f"--resume: expected the folder of a run. Received: {folder}"
        )
    if where.parent != home or not RUN_ID.fullmatch(where.name):
        raise utils.ConfigError(
            f"{folder}: expected a run in {home}, under the name that it began with. "
            "Received: a folder that was moved, renamed or copied; its lock and its "
            "publication would go to another place. Move it back, or start anew, "
            "without --resume."
        )


def finished_run(config: Config, resume: str | os.PathLike[str] | None) -> Path | None:
    """Returns the published run that a resume finds done; None where there is none.

    Raises:
        ConfigError: If the named run is finished, and of another configuration; if
            "newest" would begin anew although a run that differs may be meant.
        InUseError: If the run is still going on.
    """
    if resume is None:
        return None
    if resume == "newest":
        if find_resumable(config, "newest", is_probe=True):
            return None
        finished = find_finished(config)
        if finished is None:
            _refuse_beginning_anew(config)
        return finished
    folder = Path(resume)
    is_at_home = folder.resolve().parent == config.runs_dir.resolve()
    published = RunFolder(config, folder.resolve().name).published
    if is_at_home and (published / MANIFEST).is_file():
        return published
    # A run that died while it was published has a manifest, too.
    if is_at_home or not (folder / MANIFEST).is_file():
        find_resumable(config, folder, is_probe=True)
        return None
    found = config_of(folder)
    if found and not (same_run(found, config) and found.epochs >= config.epochs):
        changed = changed_fields(found, config, is_finished=True)
        raise utils.ConfigError(
            f"{folder}: expected the configuration of this run, which is finished. "
            f"Received another: {'; '.join(changed)}. Start anew, without --resume."
        )
    return folder


def _refuse_beginning_anew(config: Config) -> None:
    """Refuses, of "newest", what would train beside a run that differs.

    Meant may be an unfinished run of the same pair, bars, model and target, or a
    finished one with fewer epochs.
    """
    same = ("pair", "timeframe", "model", "target")
    near = [
        (folder, found)
        for folder, found in _all_runs(config.runs_dir)
        if all(getattr(found, name) == getattr(config, name) for name in same)
        and RunFolder(config, folder.name).is_dead_with_progress()
    ]
    done = [each for each in _same_runs(config.model_dir, config) if not near]
    for folder, found in (near or done)[:1]:
        changed = _lines(changed_fields(found, config, is_finished=not near))
        go_on = f"go on with it (--resume {folder}), or " if near else ""
        raise utils.ConfigError(
            f"--resume: expected a run of this configuration. Received {folder}, which "
            f"is {'unfinished' if near else 'finished'} and differs:\n{changed}\n"
            f"Undo that, {go_on}start anew, without --resume."
        )


def find_finished(config: Config) -> Path | None:
    """Returns the newest published run of a configuration with as many epochs.

    Where its process died between the publication and the link to it, the link follows.
    """
    for folder, found in _same_runs(config.model_dir, config):
        if found.epochs >= config.epochs:
            link = latest_link(found)
            if (publication.named_by(link) or "") < folder.name:
                publication.point_latest(link, folder.name)
            return folder
    return None
