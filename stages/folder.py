"""What a pipeline has on disk: how each stage ended, its run, whose the folder is.

In: `{outputs_dir}/pipelines/{name}`, which one process at a time has. Out: what stages
are (`plan`), training them (`pipeline`).
"""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import utils
from artifacts.run_folder import LOCK, RunFolder
from config import Config
from experiments.sweep_folder import is_held, take_folder
from files.locks import FileLock
from files.strict import read_json, write_json
from stages.plan import Stage

FOLDER = "pipelines"
STATUS = "pipeline.json"
FORMAT = 1
DONE, FAILED, STOPPED = "completed", "failed", "stopped"
WAITING, INTERRUPTED = "waiting", "interrupted"

Record = dict[str, Any]
"""How a stage ended: `name`, `model`, `needs`, `status`, `key`, what `train_stage`
returned, `error`, `exit_code`, `attempts`, `seconds`."""


class PipelineFolder:
    """The folder of a pipeline.

    Files: `pipeline.json` (every stage, and how it ended), `runs/{stage}/{key}.json`
    (the run of each, which workers note), `planned/` (looks at the test part).

    Args:
        outputs_dir: Folder of the outputs.
        name: Of the pipeline.
    """

    def __init__(self, outputs_dir: str | os.PathLike[str], name: str) -> None:
        self.name = name
        self.path = Path(outputs_dir, FOLDER, name).absolute()
        self._lock = FileLock(self.path / LOCK)

    def lock(self) -> None:
        """Takes the pipeline until this process ends or `unlock`.

        Raises:
            InUseError: If another process has it.
            StorageError: If the outputs folder does not take it.
        """
        look = f"python -m experiments pipeline status {self.name}"
        take_folder(self.path, self._lock, what="pipeline", look=look)

    def unlock(self) -> None:
        """Lets go of it."""
        self._lock.release()

    def is_alive(self) -> bool:
        """Whether a process has it."""
        return is_held(self.path)

    def read(self) -> dict[str, Any]:
        """Returns what `write` wrote; nothing where no pipeline of this name began.

        Raises:
            DataError: If it is damaged, or of another program.
        """
        path = self.path / STATUS
        if not path.is_file():
            return {"stages": []}
        content = read_json(path)
        names = {"name", "status", "key", "exit_code"}
        if (
            not isinstance(content, dict)
            or content.get("format") != FORMAT
            or not isinstance(stages := content.get("stages"), list)
            or not all(isinstance(x, dict) and names <= x.keys() for x in stages)
        ):
            raise utils.DataError(
                f"{path}: expected the stages of a pipeline, format {FORMAT}. Received "
                "something else. Remove the file: finished runs stay."
            )
        return content

    def write(self, records: Sequence[Mapping[str, Any]], **facts: Any) -> None:
        """Writes how every stage is, and who says so."""
        content = {
            "format": FORMAT,
            "name": self.name,
            **facts,
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "updated": datetime.now(UTC).isoformat(timespec="seconds"),
            "stages": records,
        }
        write_json(self.path / STATUS, content)

    def note_path(self, stage: str, key: str) -> Path:
        """Returns where the worker of a stage notes its run."""
        return self.path / "runs" / stage / f"{key[:16]}.json"

    def planned_path(self, stage: str) -> Path:
        """Returns where the looks at the test part are listed for a stage."""
        return self.path / "planned" / f"{stage}.json"

    def drop_unfinished(
        self, stage: str, config: Config, *, but: str | None = None
    ) -> None:
        """Removes runs of a stage that nobody goes on with.

        Args:
            stage: Its name.
            config: Its run, now.
            but: The key whose run stays.

        Raises:
            InUseError: If one is still going on.
        """
        for note in (self.path / "runs" / stage).glob("*.json"):
            if but is not None and note == self.note_path(stage, but):
                continue
            run = RunFolder(config, read_json(note)["run_id"])
            if not run.path.is_dir():
                continue  # published: whoever asks for it again finds it
            if not run.lock():
                raise run.in_use()
            shutil.rmtree(run.path, ignore_errors=True)
            note.unlink()


def new_record(stage: Stage) -> Record:
    """Returns what stands for a stage before it was trained."""
    return {
        "name": stage.name,
        "model": stage.config.model,
        "needs": [*stage.roles],
        "status": WAITING,
        "key": None,
        "is_taken": False,
        "folder": None,
        "model_id": None,
        "manifest_sha256": None,
        "skill": None,
        "parts": {},
        "error": None,
        "exit_code": None,
        "attempts": 0,
        "seconds": 0.0,
    }
