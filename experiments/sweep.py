"""A sweep: every cell of a plan trained, by whoever does tasks, and nothing lost.

In: the order of the work, what is done already, limits of time, interruptions. Out:
which cells there are (`plan`), the work itself (`cells`), who does it (`tasks`,
`executors`), what is on disk (`sweep_folder`), tables (`sweep_report`).
"""

from __future__ import annotations

import logging
import shlex
import signal
import time
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import utils
from config import Config
from executors.kinds import open_executor
from executors.tasks import Executor, Finished, Task, do_all
from experiments import plan, sweep_report
from experiments.cells import cell_task, file_task
from experiments.plan import Cell, SweepConfig
from experiments.planned import PlannedSweep, plan_sweep
from experiments.series import FailedRunsError
from experiments.sweep_folder import SweepFolder, format_work
from files.progress import Progress
from models import costs

logger = logging.getLogger(__name__)

_STOP_SECONDS = 60.0
_LOOK_SECONDS = 2.0


@dataclass(frozen=True, kw_only=True)
class SweepResult:
    """How a sweep ended.

    Attributes:
        folder: What it wrote.
        cells: One mapping a cell, in the order of the plan.
        results: What they came to; see `sweep_report.write_sweep`.
    """

    folder: Path
    cells: Sequence[Mapping[str, Any]]
    results: Mapping[str, Any]

    def require_success(self) -> None:
        """Raises FailedRunsError if a cell failed, Interrupted if one still waits."""
        failed = [cell for cell in self.cells if cell["status"] == "failed"]
        waiting = [c for c in self.cells if c["status"] in ("waiting", "interrupted")]
        total = len(self.cells)
        if failed:
            shown = ", ".join(cell["name"] for cell in failed[:10])
            raise FailedRunsError(
                f"{len(failed)} of {total} cells failed: {shown}"
                f"{', ...' * (len(failed) > 10)}. --resume repeats these alone.",
                (cell["exit_code"] for cell in failed),
            )
        if waiting:
            done = total - len(waiting)
            raise utils.Interrupted(signal.SIGTERM, _advice(self.folder, done, total))


def _advice(folder: Path, done: int, total: int) -> str:
    words = ["python -m experiments sweep --experiment-name", folder.name, "--resume"]
    outputs = folder.parents[1]
    if outputs != Path(Config().outputs_dir).absolute():
        words.append(f"--outputs-dir {shlex.quote(str(outputs))}")
    return (
        f"{done} of {total} cells are finished, and stay. To go on: {' '.join(words)}"
    )


def run_sweep(
    base: Config | Mapping[str, Any],
    axes: Mapping[str, Sequence[Any]],
    *,
    executor: Executor | str | None = None,
    schedule: SweepConfig | None = None,
    is_resumed: bool = False,
) -> SweepResult:
    """Trains every combination of axes.

    Args:
        base: The run that they have in common: a configuration, or fields by name.
        axes: Values by name: pairs, timeframes, models, targets, seeds, or any field.
        executor: Who does it, entered already, or its kind; None takes that of
            `schedule`.
        schedule: When and where.
        is_resumed: Takes finished cells as they are, and goes on with the others.

    Raises:
        ConfigError: Listing every impossible cell, before anything starts.
        Interrupted: On SIGINT or SIGTERM; it says how to go on.

    Example:
        >>> axes = {"pairs": ["BTCUSDT", "ETHUSDT"], "models": ["lightgbm", "gru"]}
        >>> result = run_sweep(Config(epochs=5), axes)
        >>> [cell["status"] for cell in result.cells]
    """
    schedule = schedule or SweepConfig()
    if isinstance(executor, str):
        schedule, executor = replace(schedule, executor=executor), None
    elif executor is not None:
        schedule = replace(schedule, max_workers=executor.slots)
    bases = {"": plan.base_values(base)}
    planned = plan_sweep(bases, axes, schedule, is_resumed=is_resumed)
    return train(planned, executor=executor)


def train(planned: PlannedSweep, *, executor: Executor | None = None) -> SweepResult:
    """Trains the cells that are not finished, and writes how all ended.

    Raises:
        UserError: See `PlannedSweep.begin`, and if the executor does not start.
        Interrupted: On SIGINT or SIGTERM; what is finished stays.
    """
    schedule, folder = planned.schedule, planned.folder
    with utils.StopSignals():
        if executor is not None:
            return _train_with(executor, planned)
        own = open_executor(
            schedule.kind,
            max_workers=schedule.max_workers,
            retries=schedule.retries,
            address=schedule.address,
            log_folder=folder.path / "logs",
        )
        with own:
            return _train_with(own, planned)


def _train_with(executor: Executor, planned: PlannedSweep) -> SweepResult:
    folder = planned.folder
    planned.begin()
    try:
        work = _Sweep(folder, planned.cells, planned.schedule)
        work.run(executor)
        records = work.all_records()
        found = sweep_report.write_sweep(folder.path, records)
    finally:
        folder.unlock()
    return SweepResult(folder=folder.path, cells=records, results=found)


class _Sweep:
    """The cells of a sweep on their way.

    Args:
        folder: Where how they ended is written.
        cells: All of them.
        schedule: Limits.
    """

    def __init__(
        self, folder: SweepFolder, cells: Sequence[Cell], schedule: SweepConfig
    ) -> None:
        self.folder = folder
        self.cells = {cell.name: cell for cell in cells}
        self.schedule = schedule
        self.records = folder.finished_records(cells)
        self.running: dict[str, None] = {}
        self.started = time.monotonic()
        self._said = float("-inf")

    def all_records(self) -> list[dict[str, Any]]:
        """Returns how every cell ended, in the order of the plan."""
        return [
            self.records.get(name) or cell.record() | _WAITING
            for name, cell in self.cells.items()
        ]

    def run(self, executor: Executor) -> None:
        """Does what is left, first the training files, then the longest cells."""
        left = [cell for name, cell in self.cells.items() if name not in self.records]
        try:
            self.folder.write_looks(self.cells.values())
            facts = self._prepare_files(left, executor)
            ready = []
            for cell in left:
                found = facts[plan.file_of(cell.config)]
                if "error" in found:
                    self._note(cell, Finished(name=cell.name, **found))
                else:
                    ready.append((cell, found))
            sizes = [(c.config, x["num_rows"], x["num_features"]) for c, x in ready]
            order = costs.longest_first(sizes)
            self._train([ready[place] for place in order], executor)
        except utils.Interrupted as stop:
            self._stop(executor)
            sweep_report.write_table(self.folder.path, self.all_records())
            done = sum(x["status"] == "completed" for x in self.all_records())
            advice = _advice(self.folder.path, done, len(self.cells))
            raise utils.Interrupted(stop.signal_number, advice) from None

    # Stage 1

    def _prepare_files(
        self, cells: Iterable[Cell], executor: Executor
    ) -> dict[str, dict[str, Any]]:
        """Makes each training file once; returns its facts, or why there is none."""
        known = self.folder.read_files()
        wanted = {plan.file_of(cell.config): cell for cell in cells}
        tasks = [
            file_task(
                cell.config,
                data_dir=self.schedule.data_dir,
                use_cache=self.schedule.cache,
                begun=known.get(path),
            )
            for path, cell in wanted.items()
        ]
        found: dict[str, dict[str, Any]] = {}
        with Progress("file", len(tasks)) as files:
            for ended in do_all(executor, tasks):
                files.advance()
                path = ended.name.removeprefix("file ")
                if ended.result is None:
                    logger.error("%s: %s", path, ended.error)
                    found[path] = {"error": ended.error, "exit_code": ended.exit_code}
                else:
                    found[path] = dict(ended.result)
        good = {path: facts for path, facts in found.items() if "error" not in facts}
        self.folder.write_files(known | good)
        return found

    # Stage 2

    def _train(
        self, cells: Iterable[tuple[Cell, Mapping[str, Any]]], executor: Executor
    ) -> None:
        """Trains cells in this order; a few wait at the executor, the rest here."""
        waiting = deque(cells)
        limit = self.schedule.time_limit_minutes
        end = float("inf") if limit is None else self.started + 60 * limit
        done = len(self.cells) - len(waiting)
        is_alone = executor.slots == 1  # then the line of its step says more
        details = None if is_alone else self._rows
        total = len(self.cells)
        with Progress("cell", total, done=done, details=details) as progress:
            while waiting or self.running:
                if time.monotonic() >= end:
                    logger.warning("the time of the sweep is up: what runs is saved")
                    self._stop(executor)
                    return
                while waiting and len(self.running) < 2 * executor.slots:
                    cell, facts = waiting.popleft()
                    self.running[cell.name] = None
                    executor.submit(self._task(cell, facts))
                self._tell()
                left = min(_LOOK_SECONDS, end - time.monotonic())
                for ended in executor.wait(max(0.0, left)):
                    self._note(self.cells[ended.name], ended)
                    progress.advance()
                progress.tell()

    def _task(self, cell: Cell, facts: Mapping[str, Any]) -> Task:
        minutes = self.schedule.cell_timeout_minutes
        task = cell_task(
            cell.name,
            cell.config,
            facts,
            folder=self.folder.path,
            note=self.folder.note_path(cell.name),
            planned=self.folder.planned_path(cell),
        )
        return replace(task, timeout_seconds=None if minutes is None else 60 * minutes)

    def _note(self, cell: Cell, ended: Finished) -> None:
        """Writes down how a cell ended."""
        self.running.pop(cell.name, None)
        status = "completed" if ended.exit_code == 0 else "failed"
        if ended.exit_code > 128:
            status = "interrupted"
        record = cell.record() | {
            "status": status,
            "exit_code": ended.exit_code,
            "attempts": ended.attempts,
            "folder": (ended.result or {}).get("folder"),
            "seconds": round(ended.seconds, 1),
            "node": ended.node,
            "error": ended.error,
        }
        self.records[cell.name] = record
        if status == "interrupted":
            return
        self.folder.write_record(record)
        if status == "failed":
            logger.error("%s failed: %s", cell.name, ended.error)
        else:
            logger.info("%s: %s", cell.name, record["folder"])

    def _stop(self, executor: Executor) -> None:
        """Has what runs save what it has; takes how it ended."""
        executor.stop()
        while ended := executor.wait(_STOP_SECONDS):
            for each in ended:
                if each.name in self.cells:
                    self._note(self.cells[each.name], each)

    def _rows(self) -> list[str]:
        return format_work(self._in_work())

    def _in_work(self) -> list[dict[str, Any]]:
        return self.folder.in_work(self.cells[name] for name in self.running)

    def _tell(self) -> None:
        """Replaces the status, not more often than anybody looks."""
        if time.monotonic() - self._said < _LOOK_SECONDS:
            return
        self._said = time.monotonic()
        states = [record["status"] for record in self.records.values()]
        self.folder.write_status(
            cells=len(self.cells),
            completed=states.count("completed"),
            failed=states.count("failed"),
            running=self._in_work(),
        )


_WAITING = {
    "status": "waiting",
    "exit_code": None,
    "attempts": 0,
    "folder": None,
    "seconds": 0.0,
    "node": None,
    "error": None,
}
