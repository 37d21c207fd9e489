"""What a sweep has on disk: its plan, how each cell ended, how far it is.

In: `{outputs_dir}/experiments/{name}`, which one process at a time has. Out: what cells
are (`plan`), doing them (`sweep`), tables and the page (`sweep_report`).
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import utils
from artifacts import run_record
from artifacts.run_folder import LOCK, MANIFEST
from evaluation.trials import look_of
from experiments import plan
from experiments.plan import Cell
from files import progress
from files.locks import FileLock
from files.strict import read_json, to_json, write_json
from reports.text import format_table

logger = logging.getLogger(__name__)

FOLDER = "experiments"
PLAN = "sweep.json"
STATUS = "status.json"
FILES = "files.json"
FORMAT = 1


class SweepFolder:
    """The folder of a sweep.

    Files: `sweep.json` (what is trained, written first and never again), `files.json`
    (the training files), `cells/` (how each ended), `runs/` (the run of each, which
    workers note), `planned/` (looks at the test part), `status.json`.

    Args:
        outputs_dir: Folder of the outputs.
        name: Of the sweep.
    """

    def __init__(self, outputs_dir: str | os.PathLike[str], name: str) -> None:
        self.name = name
        self.path = Path(outputs_dir, FOLDER, name).absolute()
        self._lock = FileLock(self.path / LOCK)
        self._moved: dict[str, str] = {}

    @property
    def is_there(self) -> bool:
        """Whether a sweep of this name began."""
        return (self.path / PLAN).is_file()

    def refuse_taken(self) -> None:
        """Raises ConfigError where a sweep of this name began."""
        if self.is_there:
            raise utils.ConfigError(
                "--experiment-name: expected a name that no sweep has. Received: "
                f"{self.name}, which is in {self.path}. Go on with it by --resume, or "
                "take another."
            )

    def lock(self) -> None:
        """Takes the sweep until this process ends or `unlock`.

        Raises:
            InUseError: If another process has it.
            StorageError: If the outputs folder does not take it.
        """
        look = f"python -m experiments status {self.name}"
        take_folder(self.path, self._lock, what="sweep", look=look)

    def unlock(self) -> None:
        """Lets go of the sweep."""
        self._lock.release()

    def is_alive(self) -> bool:
        """Whether a process has the sweep."""
        return is_held(self.path)

    def write_plan(
        self, cells: Sequence[Cell], *, digest: str, schedule: Mapping[str, Any]
    ) -> None:
        """Writes what the sweep trains, before anything is."""
        content = {
            "format": FORMAT,
            "name": self.name,
            "digest": digest,
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "schedule": schedule,
            **plan.to_values(cells),
        }
        write_json(self.path / PLAN, content)

    def read_plan(self) -> tuple[list[Cell], dict[str, Any]]:
        """Returns the cells that a sweep began with, and what else its plan says.

        Returns:
            The cells; `digest` of what was asked, `schedule`, `created`.

        Raises:
            MissingInputError: If there is no such sweep.
            DataError: If its plan is damaged.
        """
        if not self.is_there:
            raise utils.MissingInputError(
                f"{self.path / PLAN}: expected a sweep that began. Received: no such "
                "file. Check the name and --outputs-dir."
            )
        content = read_json(self.path / PLAN)
        try:
            if content["format"] != FORMAT:
                raise LookupError(f"format {content['format']!r}")
            return plan.from_values(content), content
        except (LookupError, TypeError, utils.ConfigError) as error:
            raise utils.DataError(
                f"{self.path / PLAN}: expected the plan of a sweep, format {FORMAT}. "
                f"Received: {error}"
            ) from error

    # How cells ended

    def read_records(self, cells: Sequence[Cell]) -> dict[str, dict[str, Any]]:
        """Returns how cells ended, by name; those that did not are missing.

        A cell whose published run is gone did not.
        """
        found = {}
        for cell in cells:
            path = self._record_path(cell.name)
            if not path.is_file():
                continue
            record = read_json(path)
            folder = record["folder"]
            is_gone = folder is not None and not Path(folder, MANIFEST).is_file()
            if not is_gone:
                found[cell.name] = record
        return found

    def finished_records(self, cells: Sequence[Cell]) -> dict[str, dict[str, Any]]:
        """Returns those of completed cells; what others left here is forgotten."""
        found = self.read_records(cells)
        for name in [name for name in found if found[name]["status"] != "completed"]:
            self._record_path(name).unlink(missing_ok=True)
            del found[name]
        return found

    def write_record(self, record: Mapping[str, Any]) -> None:
        """Writes how a cell ended."""
        write_json(self._record_path(record["name"]), record)

    def note_path(self, name: str) -> Path:
        """Returns where the worker of a cell notes its run."""
        return self.path / "runs" / f"{name}.json"

    def _record_path(self, name: str) -> Path:
        return self.path / "cells" / f"{name}.json"

    # Training files, and looks at test parts

    def move(
        self, cells: Sequence[Cell], inputs_dir: str | None, outputs_dir: str
    ) -> list[Cell]:
        """Returns cells whose files are elsewhere by now; None leaves the inputs."""
        moved = plan.moved(cells, inputs_dir=inputs_dir, outputs_dir=outputs_dir)
        self._moved = {
            plan.file_of(before.config): plan.file_of(now.config)
            for before, now in zip(cells, moved, strict=True)
        }
        return moved

    def read_files(self) -> dict[str, dict[str, Any]]:
        """Returns the facts of each training file that the sweep began with."""
        path = self.path / FILES
        known = read_json(path) if path.is_file() else {}
        return {self._moved.get(each, each): facts for each, facts in known.items()}

    def write_files(self, facts: Mapping[str, Mapping[str, Any]]) -> None:
        """Writes them."""
        write_json(self.path / FILES, facts)

    def planned_path(self, cell: Cell) -> Path:
        """Returns where the looks at the market of a cell are listed."""
        config = cell.config
        return self.path / "planned" / f"{config.pair}-{config.timeframe}.json"

    def write_looks(self, cells: Iterable[Cell]) -> None:
        """Writes down, for each market, every look that the sweep has at its tests."""
        looks: dict[Path, list[str]] = {}
        for cell in cells:
            looks.setdefault(self.planned_path(cell), []).append(look_of(cell.config))
        for path, each in looks.items():
            if not path.is_file():
                write_json(path, each)

    # How far it is

    def in_work(self, cells: Iterable[Cell]) -> list[dict[str, Any]]:
        """Returns what the runs of cells say of themselves, of those that do by now.

        Returns:
            `cell`, `node`, `step`, `part` (of it, in words), `eta_seconds`,
            `memory_bytes`.
        """
        found = []
        for cell in cells:
            said: Mapping[str, Any] = {}
            with contextlib.suppress(OSError, LookupError, utils.DataError):
                run_id = read_json(self.note_path(cell.name))["run_id"]
                said = run_record.read_status(cell.config.runs_dir / run_id)
            if "step" not in said:
                continue
            parts = [
                f"{each['what']} {each['number']} of {each['total']}"
                for each in said["progress"]
            ]
            found.append(
                {
                    "cell": cell.name,
                    "node": said["host"],
                    "step": said["step"],
                    "part": ", ".join(parts),
                    "eta_seconds": said["eta_seconds"],
                    "memory_bytes": said.get("memory_bytes"),
                }
            )
        return found

    def write_status(self, **facts: Any) -> None:
        """Replaces the status, whole; after a power cut it tells nobody anything."""
        content = facts | {
            "name": self.name,
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "updated": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        temporary = self.path / f".tmp-{STATUS}"
        with contextlib.suppress(OSError):
            temporary.write_text(to_json(content), encoding="utf-8")
            os.replace(temporary, self.path / STATUS)


def take_folder(path: Path, lock: FileLock, *, what: str, look: str) -> None:
    """Makes the folder of several runs and takes its lock; `look` says how far it is.

    Raises:
        InUseError: If another process has it.
        StorageError: If the outputs folder does not take it.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        is_mine = lock.acquire(patience_seconds=0.5)
    except OSError as error:
        raise utils.StorageError(
            f"cannot make {path}: {error.strerror or error}. {utils.CHOOSE_A_FOLDER}"
        ) from error
    if not is_mine:
        raise utils.InUseError(
            f"{path}: this {what} is still going on: {lock.owner()} has it. Wait for "
            f"it, or end that process; how far it is: {look}"
        )


def is_held(path: Path) -> bool:
    """Whether a process has the folder of several runs."""
    with contextlib.suppress(OSError):
        probe = FileLock(path / LOCK)
        is_free = probe.acquire()
        probe.release()
        return not is_free
    return False


def format_work(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Returns a table of what `SweepFolder.in_work` found; nothing of none."""
    table = [["in work", "node", "step", "part", "left", "memory"]]
    for row in rows:
        left, memory = row["eta_seconds"], row["memory_bytes"]
        words = [row[key] for key in ("cell", "node", "step", "part")]
        words.append("" if left is None else progress.in_words(left))
        table.append([*words, utils.format_bytes(memory) if memory else ""])
    return format_table(table, left=4) if rows else []


def show_status(outputs_dir: str, name: str) -> int:
    """Prints how a sweep is doing; returns 0 finished, 75 going on, else its code.

    Where cells failed that is theirs, if it is one; where some wait, 143.

    Raises:
        MissingInputError: If there is no such sweep.
    """
    folder = SweepFolder(outputs_dir, name)
    cells, _ = folder.read_plan()
    records = folder.read_records(cells)
    states = Counter(record["status"] for record in records.values())
    waiting = len(cells) - len(records)
    is_alive = folder.is_alive()
    now = read_json(folder.path / STATUS) if (folder.path / STATUS).is_file() else {}
    running = now.get("running", []) if is_alive else []
    states["in work"] = len(running)
    states["waiting"] = waiting - len(running)
    counts = ", ".join(
        f"{number} {state}" for state, number in states.items() if number
    )
    what = "going on" if is_alive else "not finished" if waiting else "finished"
    logger.info("%s: %s, %d cells: %s", folder.path, what, len(cells), counts)
    for line in format_work(running):
        logger.info("%s", line)
    for record in records.values():
        if record["status"] == "failed":
            logger.info("  %s failed: %s", record["name"], record["error"])
    if is_alive:
        return utils.EXIT_IN_USE
    codes = {record["exit_code"] for record in records.values()} - {0}
    if waiting:
        return 128 + signal.SIGTERM
    return min(codes) if len(codes) == 1 else utils.EXIT_INTERNAL if codes else 0
