"""What a run says while it lasts: `run.log` for later, `status.json` for who asks now.

In: writing both into a run's folder, and reading the second again. Out: what is shown
on the terminal (`utils`, `files.progress`), the folder's life (`run_folder`).
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import utils
from artifacts.publication import RUN_ID
from artifacts.run_folder import MANIFEST, STATUS, RunFolder, advice
from config import Config
from files import progress
from files.strict import read_json, to_json

logger = logging.getLogger(__name__)

LOG = "run.log"

_WRITE_SECONDS = 2.0
_NUMBER = int | float | None
_KINDS: dict[str, Any] = {"step": str, "progress": list, "metrics": dict, "pid": int}
_KINDS |= {"host": str, "updated": str, "eta_seconds": _NUMBER, "exit_code": int | None}
_PART_KINDS = {"what": str, "number": int, "total": int}


class RunRecord(logging.Handler):
    """Keeps what is logged, and how far the run is, in the folder of the run.

    What is said before there is a folder is kept until it is there. The state is told
    by a thread, also while a step counts nothing. A file that cannot be written is no
    fault of the run: what it needs itself refuses a full disk.
    """

    def __init__(self) -> None:
        super().__init__()
        words = ("%(asctime)s %(levelname)s %(message)s", "%Y-%m-%dT%H:%M:%SZ")
        form = logging.Formatter(*words)
        form.converter = time.gmtime
        self.setFormatter(form)
        self._folder: Path | None = None
        self._config: Config | None = None
        self._early: list[str] = []
        self._step = "initialize_components"
        self._parts: list[dict[str, Any]] = []
        self._metrics: dict[str, float] = {}
        self._begun = datetime.now(UTC)
        self._ended = threading.Event()
        self._teller = threading.Thread(target=self._tell, daemon=True)

    @classmethod
    def start(cls) -> RunRecord:
        """Begins to listen; the record of an earlier run of this process ends."""
        root = logging.getLogger()
        for other in [each for each in root.handlers if isinstance(each, cls)]:
            other.close()
        record = cls()
        root.addHandler(record)
        return record

    def open(self, run: RunFolder) -> None:
        """Takes the folder of the run; the run itself holds the lock, this does not."""
        self._folder, self._config = run.path, run.config
        self._append("".join(self._early))
        self._step = "setup_callbacks"
        self._write()
        self._teller.start()

    @contextlib.contextmanager
    def noted(self, step: str | None = None, *, on_failure: str = "") -> Iterator[None]:
        """Notes a step and how it ends; an interruption says how to go on.

        A step that fails says `on_failure`, too.
        """
        self._step, self._parts = step or self._step, []
        try:
            yield
        except BaseException as error:
            self._end(utils.exit_code_of(error))
            if on_failure:
                logger.error("%s", on_failure)
            if not isinstance(error, utils.Interrupted):
                raise
            raise utils.Interrupted(error.signal_number, self._advice()) from None

    def _advice(self) -> str:
        if self._folder is None or self._config is None:
            return advice(None)
        return advice(RunFolder(self._config, self._folder.name))

    def emit(self, record: logging.LogRecord) -> None:
        """Adds a line to the log."""
        line = self.format(record) + "\n"
        if self._folder is None:
            self._early.append(line)
        else:
            self._append(line)

    def _tell(self) -> None:
        while not self._ended.wait(_WRITE_SECONDS):
            self._write()

    def _stop(self) -> None:
        self._ended.set()
        if self._teller.is_alive():
            self._teller.join()

    def _end(self, exit_code: int) -> None:
        """Notes with which code the run ends; why is logged after it."""
        self._stop()
        self._write(exit_code)

    def close(self) -> None:
        """Ends the record: from here on the folder has another owner, or none."""
        self._stop()
        logging.getLogger().removeHandler(self)
        super().close()

    def _append(self, text: str) -> None:
        with contextlib.suppress(OSError):
            if self._folder is not None and self._folder.is_dir():
                with open(self._folder / LOG, "a", encoding="utf-8") as stream:
                    stream.write(text)

    def _write(self, exit_code: int | None = None) -> None:
        """Replaces the status, whole; after a power cut it tells nobody anything."""
        if self._folder is None or not self._folder.is_dir():
            return
        temporary = self._folder / f".tmp-{STATUS}"
        with contextlib.suppress(OSError):
            temporary.write_text(to_json(self._status(exit_code)), encoding="utf-8")
            os.replace(temporary, self._folder / STATUS)

    def _status(self, exit_code: int | None) -> dict[str, Any]:
        now = progress.snapshot()
        self._metrics |= now["metrics"]
        # What ends a run has ended its counted parts before: those told last.
        self._parts = now["steps"] or (self._parts if exit_code else [])
        numbers = {each["what"]: each["number"] for each in self._parts}
        return {
            "step": self._step,
            **{what: numbers.get(what) for what in ("fold", "epoch", "batch")},
            "progress": self._parts,
            "metrics": self._metrics,
            "eta_seconds": now["eta_seconds"],
            "memory_bytes": utils.resident_bytes(),
            "peak_memory_bytes": utils.peak_resident_bytes(),
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "process_started": _start_of(os.getpid()),
            "started": self._begun.isoformat(timespec="seconds"),
            "updated": datetime.now(UTC).isoformat(timespec="seconds"),
            "exit_code": exit_code,
        }


def _start_of(pid: int) -> int | None:
    """Returns when a process began, in ticks since boot: numbers are used again."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return None if fields[0] == "Z" else int(fields[19])
    return None


# Asking


def show_status(config: Config, name: str) -> int:
    """Prints how a run is doing; returns 0 finished, 75 running, else how it ended.

    Args:
        config: Where the outputs are.
        name: A run by its folder or its name, or "latest".

    Raises:
        MissingInputError: If there is no such run.
    """
    folder = _find(config, name)
    if (folder / MANIFEST).is_file() and folder.parent.name != config.runs_dir.name:
        logger.info("finished: %s", folder)
        return 0
    status = read_status(folder)
    code = status.get("exit_code")
    is_here = status.get("host") == socket.gethostname()
    is_alive = code is None and (not is_here or _is_alive(status))
    ended = "dead" if code is None else "interrupted" if code > 128 else "failed"
    logger.info("%s: %s", "running" if is_alive else ended, folder)
    for line in _describe(status, is_alive=is_alive):
        logger.info("  %s", line)
    if is_alive:
        return utils.EXIT_IN_USE
    own = config.replace(outputs_dir=str(folder.absolute().parents[1]))
    logger.info("  %s", advice(RunFolder(own, folder.name)))
    return utils.EXIT_INTERNAL if code is None else int(code)


def _find(config: Config, name: str) -> Path:
    models = Path(config.outputs_dir) / "models"
    if name != "latest" and Path(name).is_dir():
        return Path(name).resolve()
    places = [*config.runs_dir.glob("*"), *models.glob("*/*/*")]
    runs = [each for each in places if RUN_ID.match(each.name) and each.is_dir()]
    if name != "latest":
        runs = [each for each in runs if each.name == Path(name).name]
    if not runs:
        wanted = "a run" if name == "latest" else f"the run {name}"
        raise utils.MissingInputError(
            f"--status: expected {wanted} in {config.runs_dir} or {models}. Received: "
            "none. Check --outputs-dir."
        )
    return max(runs, key=lambda each: each.name)


def read_status(folder: Path) -> Mapping[str, Any]:
    """Returns the status of a folder, empty where there is none that can be read."""
    with contextlib.suppress(OSError, utils.DataError):
        status = read_json(folder / STATUS)
        if (
            _fits(status, _KINDS)
            and all(_fits(each, _PART_KINDS) for each in status["progress"])
            and _fits(status["metrics"], dict.fromkeys(status["metrics"], _NUMBER))
            and 0 < status["pid"] < 2**31
            and 0 <= (status["exit_code"] or 0) < 256
        ):
            return status
    return {"host": socket.gethostname(), "pid": 0}


def _fits(found: Any, kinds: Mapping[str, Any]) -> bool:
    """Whether something is a mapping that has values of these kinds."""
    return isinstance(found, dict) and all(
        name in found and isinstance(found[name], kind) for name, kind in kinds.items()
    )


def _is_alive(status: Mapping[str, Any]) -> bool:
    if (started := _start_of(status["pid"])) is not None:
        return started == status.get("process_started")
    try:  # of another system, without /proc
        os.kill(status["pid"], 0)
    except OSError as error:
        return isinstance(error, PermissionError)
    return not Path("/proc/self").exists()


def _describe(status: Mapping[str, Any], *, is_alive: bool) -> Iterator[str]:
    if "step" not in status:
        yield "it said nothing of its state"
        return
    parts = [f"{p['what']} {p['number']} of {p['total']}" for p in status["progress"]]
    yield ", ".join([f"step {status['step']}", *parts])
    numbers = {k: v for k, v in status["metrics"].items() if v is not None}
    if numbers:
        yield ", ".join(f"{name} {value:.4g}" for name, value in numbers.items())
    if is_alive and (left := status["eta_seconds"]) is not None:
        yield f"about {progress.in_words(left)} left"
    memory = status.get("memory_bytes")
    held = f", {utils.format_bytes(memory)} of memory" if memory else ""
    yield f"process {status['pid']} on {status['host']}{held}, {status['updated']}"
