"""A pipeline on its way: every stage trained behind those that it needs.

In: what is finished already, what can begin, failures, interruptions. Out: which stages
there are (`plan`), the work itself (`work`), who does it (`executors`), what is on disk
(`folder`), what is said of it (`tables`).

A stage is known by its key: a digest of its configuration, of its training file, and of
the manifests of what it needs. Who has the same key is the same model, and is not
trained again; where something below it changed, it is.
"""

from __future__ import annotations

import graphlib
import logging
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import utils
from artifacts.registry import Registry
from artifacts.resuming import run_identity
from config import Config
from evaluation.trials import look_of
from executors.tasks import Executor, Finished, SerialExecutor, Task, do_all
from experiments import plan as sweeps
from experiments.cells import cell_task, file_task
from experiments.series import FailedRunsError
from files.progress import Progress
from files.strict import sha256_json, write_json
from stages import tables
from stages.folder import (
    DONE,
    FAILED,
    INTERRUPTED,
    STOPPED,
    WAITING,
    PipelineFolder,
    Record,
    new_record,
)
from stages.plan import Pipeline, Stage

logger = logging.getLogger(__name__)

_STOP_SECONDS = 60.0
_LOOK_SECONDS = 5.0


@dataclass(frozen=True, kw_only=True)
class PipelineResult:
    """How a pipeline ended.

    Attributes:
        folder: What it wrote.
        stages: How each stage ended, in the order of their training.
    """

    folder: Path
    stages: Sequence[Record]

    def __getitem__(self, name: str) -> Record:
        """Returns how a stage ended."""
        return next(each for each in self.stages if each["name"] == name)

    def require_success(self) -> None:
        """Raises FailedRunsError if a stage failed."""
        names = {
            status: [each["name"] for each in self.stages if each["status"] == status]
            for status in (FAILED, STOPPED)
        }
        if names[FAILED]:
            waiting = f", which {', '.join(names[STOPPED])} would need"
            raise FailedRunsError(
                f"{len(names[FAILED])} of {len(self.stages)} stages failed: "
                f"{', '.join(names[FAILED])}{waiting * bool(names[STOPPED])}. The same "
                "command repeats these alone.",
                (x["exit_code"] for x in self.stages if x["status"] == FAILED),
            )


def run_pipeline(
    pipeline: Pipeline,
    *,
    executor: Executor | None = None,
    data_dir: str | None = None,
    is_resumed: bool = False,
) -> PipelineResult:
    """Trains every stage that is not finished.

    Args:
        pipeline: The stages.
        executor: Who does it, not entered yet; None: one after another, in this
            process. Stages that need nothing of each other go side by side.
        data_dir: Folder of candles that training files are built from; None takes
            files that are there, and looks in `data` for the others.
        is_resumed: Whether interrupted stages go on from their checkpoints; else they
            begin anew.

    Raises:
        InUseError: If another process has the pipeline.
        Interrupted: On SIGINT or SIGTERM; what is finished stays.

    Example:
        >>> result = run_pipeline(read_pipeline("pipeline.yaml"))
        >>> result["ensemble"]["model_id"]
    """
    folder = PipelineFolder(pipeline.outputs_dir, pipeline.name)
    with utils.StopSignals():
        folder.lock()
        try:
            with executor or SerialExecutor() as own:
                work = _Work(pipeline, folder, own.slots, data_dir, is_resumed)
                work.run(own)
        finally:
            folder.unlock()
    return PipelineResult(folder=folder.path, stages=work.all_records())


class _Work:
    """The stages of a pipeline on their way."""

    def __init__(
        self,
        pipeline: Pipeline,
        folder: PipelineFolder,
        slots: int,
        data_dir: str | None,
        is_resumed: bool,
    ) -> None:
        self.pipeline, self.folder = pipeline, folder
        self.data_dir, self.is_resumed = data_dir, is_resumed
        before = folder.read()
        self.before = {each["name"]: each for each in before["stages"]}
        # Threads decide bits: who goes on elsewhere goes on with as many.
        own = None if slots == 1 else max(1, utils.available_cores() // slots)
        self.num_threads = before.get("num_threads", own) if is_resumed else own
        self.stages = {stage.name: stage for stage in pipeline.stages}
        self.configs = {k: self._threaded(x.config) for k, x in self.stages.items()}
        self.records = {k: new_record(x) for k, x in self.stages.items()}
        self.registry = Registry(pipeline.outputs_dir)

    def _threaded(self, config: Config) -> Config:
        if config.num_threads is not None or self.num_threads is None:
            return config
        return config.replace(num_threads=self.num_threads)

    def all_records(self) -> list[Record]:
        """Returns how every stage ended, in the order of their training."""
        return [*self.records.values()]

    def run(self, executor: Executor) -> None:
        """Trains what is not finished, each stage as soon as what it needs is there."""
        order = graphlib.TopologicalSorter({k: x.roles for k, x in self.stages.items()})
        order.prepare()
        self._write()
        try:
            facts = self._prepare_files(executor)
            with Progress("stage", len(self.stages)) as progress:
                while order.is_active():
                    ready = order.get_ready()
                    ended = [k for k in ready if self._is_settled(k, facts, executor)]
                    if not ended:
                        found = executor.wait(_LOOK_SECONDS)
                        ended = [self._note(each) for each in found]
                    order.done(*ended)
                    for _ in ended:
                        progress.advance()
        except utils.Interrupted as stop:
            self._stop(executor)
            raise utils.Interrupted(stop.signal_number, self._advice()) from None
        finally:
            self._write()

    def _prepare_files(self, executor: Executor) -> dict[str, Mapping[str, Any]]:
        """Makes each training file once; returns its facts, or why there is none."""
        wanted = {sweeps.file_of(config): config for config in self.configs.values()}
        tasks = [file_task(each, data_dir=self.data_dir) for each in wanted.values()]
        return {
            ended.name.removeprefix("file "): ended.result
            or {"error": ended.error, "exit_code": ended.exit_code}
            for ended in do_all(executor, tasks)
        }

    def _is_settled(
        self, name: str, facts: Mapping[str, Mapping[str, Any]], executor: Executor
    ) -> bool:
        """Begins a stage; returns whether it ended at once: taken, or impossible."""
        stage, record = self.stages[name], self.records[name]
        needs = [self.records[need] for need in stage.roles]
        missing = [each["name"] for each in needs if each["status"] != DONE]
        file = facts[sweeps.file_of(self.configs[name])]
        if missing:
            error = f"not trained, without {', '.join(missing)}"
            self._settle(name, status=STOPPED, error=error)
        elif "error" in file:
            self._settle(name, status=FAILED, **file)
        else:
            outputs = Path(self.pipeline.outputs_dir).absolute()
            models = {each["name"]: f"{outputs}/{each['model_id']}" for each in needs}
            record["key"] = self._key(stage, file["sha256"], needs)
            # Of taken ones, too: who looked at the test part is counted by it.
            self.configs[name] = self._threaded(stage.config_with(models))
            if self._is_finished(record):
                record.update(self.before[name] | _about(record))
                self._settle(name)
            else:
                executor.submit(self._task(name, file))
                return False
        return True

    def _key(self, stage: Stage, sha256: str, needs: Sequence[Record]) -> str:
        """Returns what is equal of two stages that would be the same model."""
        config = self._threaded(stage.config)
        below = {each["name"]: each["manifest_sha256"] for each in needs}
        roles = [[role, below[need]] for need, role in stage.roles.items()]
        return sha256_json([run_identity(config), config.epochs, sha256, roles])

    def _is_finished(self, record: Record) -> bool:
        name, key = record["name"], record["key"]
        before = self.before.get(name)
        if before is None or before["key"] != key or before["status"] != DONE:
            return False
        try:
            self.registry.open(before["model_id"])
        except utils.MissingInputError:
            return False
        except utils.RefusedArtifactError as error:
            logger.warning("%s: trained again. %s", name, error)
            self.folder.note_path(name, key).unlink(missing_ok=True)
            return False
        return True

    def _task(self, name: str, file: Mapping[str, Any]) -> Task:
        config, key = self.configs[name], self.records[name]["key"]
        own = key if self.is_resumed else None
        self.folder.drop_unfinished(name, config, but=own)
        planned = self.folder.planned_path(name)
        write_json(planned, [look_of(each) for each in self.configs.values()])
        task = cell_task(
            name,
            config,
            file,
            folder=self.folder.path,
            note=self.folder.note_path(name, key),
            planned=planned,
        )
        return replace(task, function="stages.work:train_stage")

    def _note(self, ended: Finished) -> str:
        """Writes down how a stage ended; returns its name."""
        status = DONE if ended.exit_code == 0 else FAILED
        if ended.exit_code > 128:
            status = INTERRUPTED
        self._settle(
            ended.name,
            status=status,
            error=ended.error,
            exit_code=ended.exit_code,
            attempts=ended.attempts,
            seconds=round(ended.seconds, 1),
            **(ended.result or {}),
        )
        return ended.name

    def _settle(self, name: str, **facts: Any) -> None:
        record = self.records[name]
        record.update(facts)
        if record["status"] == DONE:
            told = "finished before" if record["is_taken"] else record["folder"]
            logger.info("%s: %s\n%s", name, told, "\n".join(tables.parts_of(record)))
        elif record["status"] != INTERRUPTED:
            logger.error("%s %s: %s", name, record["status"], record["error"])
        self._write()

    def _stop(self, executor: Executor) -> None:
        """Has what runs save what it has; takes how it ended."""
        executor.stop()
        while ended := executor.wait(_STOP_SECONDS):
            for each in ended:
                if each.name in self.records:
                    self._note(each)

    def _advice(self) -> str:
        words, file = "run_pipeline(..., is_resumed=True)", self.pipeline.file
        if file is not None:
            words = f"python -m experiments pipeline {shlex.quote(file)} --resume"
        states = [each["status"] for each in self.records.values()]
        return (
            f"{states.count(DONE)} of {len(states)} stages are finished, and stay. To "
            f"go on: {words}"
        )

    def _write(self) -> None:
        """Writes how far it is; what is not reached yet keeps what was known of it."""
        records = [
            self.before[each["name"]]
            if each["status"] == WAITING and each["name"] in self.before
            else each
            for each in self.records.values()
        ]
        facts = {"file": self.pipeline.file, "num_threads": self.num_threads}
        self.folder.write(records, **facts)


def _about(record: Record) -> Record:
    """Returns what is said anew of a stage that is taken as it is."""
    names = ("name", "model", "needs", "key")
    return {name: record[name] for name in names} | {"is_taken": True}
