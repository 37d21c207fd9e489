"""The work of a sweep, as workers do it: a training file, a cell.

In: tasks; plain values -> a file that is there, a published run, which belongs to the
sweep until then. Out: which cells there are (`plan`), who does them when (`sweep`).
"""

from __future__ import annotations

import contextlib
import logging
import shutil
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import utils
from artifacts.run_folder import CELL, MANIFEST, RunFolder
from config import Config, build_config
from dataset.builder import DatasetBuilder, build_memory, write_training_file
from dataset.columns import shape_of
from dataset.training_file import open_training_file
from evaluation.trials import planned_looks
from executors.tasks import Task
from experiments import plan
from files.atomic import sha256_file
from files.locks import folder_lock
from files.strict import read_json, write_json
from models import costs
from settings.names import find_training_file
from trainer import StandaloneTrainer

logger = logging.getLogger(__name__)

_PATIENCE_SECONDS = 90.0
"""A worker looks for its driver every few seconds, and then has a minute to save."""


def file_task(
    config: Config,
    *,
    data_dir: str | None,
    use_cache: bool = True,
    begun: Mapping[str, Any] | None = None,
) -> Task:
    """Returns the task of `prepare_file`, under the path that is wanted."""
    return Task(
        name=f"file {plan.file_of(config)}",
        function="experiments.cells:prepare_file",
        values={
            "config": plan.absolute(config),
            "data_dir": data_dir,
            "use_cache": use_cache,
            "begun": begun,
        },
        memory_bytes=build_memory(config, Path(data_dir or plan.DATA_DIR)),
    )


def cell_task(
    name: str,
    config: Config,
    facts: Mapping[str, Any],
    *,
    folder: Path,
    note: Path,
    planned: Path,
) -> Task:
    """Returns the task of `train_cell`; see its values.

    Args:
        name: Of the cell.
        config: Its run.
        facts: Of its training file, from `prepare_file`.
        folder: Of the sweep.
        note: File that names the cell's run.
        planned: File that lists looks at the test part.
    """
    return Task(
        name=name,
        function="experiments.cells:train_cell",
        values={
            "config": plan.absolute(config),
            "cell": name,
            "sweep": str(folder),
            "note": str(note),
            "sha256": facts["sha256"],
            "planned": str(planned),
        },
        num_threads=config.num_threads,
        settings=f"{config.device}, deterministic {config.deterministic_ops}",
        num_gpus=int(config.device == "gpu"),
        memory_bytes=costs.rough_memory(
            config, facts["num_rows"], facts["num_features"]
        ),
    )


def prepare_file(values: Mapping[str, Any]) -> dict[str, Any]:
    """Makes a training file where it is wanted; returns what is there.

    Args:
        values: `config`; `data_dir`, the folder of candles: where it is given the file
            is built of them, else one that is there is taken as it is; `use_cache`;
            `begun`, `path` and `sha256` of the file that a sweep began with, or None.

    Returns:
        `path`, `sha256`, `num_rows`, `num_features`.

    Raises:
        MissingInputError: If there is neither a file nor candles.
        DataError: If the candles make none, or it is not the one the sweep began with.
    """
    config, begun = build_config(values["config"]), values["begun"]
    path, data_dir = find_training_file(config), values["data_dir"]
    is_wanted = data_dir is not None and begun is None and config.training_file is None
    if is_wanted or (path is None and config.training_file is None):
        builder = DatasetBuilder(
            config, data_dir=data_dir or plan.DATA_DIR, use_cache=values["use_cache"]
        )
        try:
            path = write_training_file(builder, builder.build_dataset())
        except utils.MissingInputError as error:
            if begun is None:
                raise
            raise utils.MissingInputError(
                f"{begun['path']}: expected the training file that the sweep began "
                f"with. Received: no such file any more on node {socket.gethostname()},"
                " and nothing to build it of. Bring it back, or set inputs_dir to its "
                f"folder. Of candles: {error}"
            ) from error
    if path is None:
        raise _missing(config.expected_path, "inputs_dir")
    with folder_lock(path.parent, is_shared=True):
        columns = open_training_file(path)
        digest = columns.digest
        num_rows, num_features = shape_of(columns)
    _require_digest(path, begun["sha256"] if begun else digest, digest)
    return {
        "path": str(path),
        "sha256": digest,
        "num_rows": num_rows,
        "num_features": num_features,
    }


def train_cell(values: Mapping[str, Any]) -> dict[str, Any]:
    """Trains a cell, or goes on with what an earlier try of it began.

    Args:
        values: `config`; `cell`, its name; `sweep`, its folder; `note`, the file that
            names the cell's run; `sha256` of the training file; `planned`, a file that
            lists the looks at the test part that the whole sweep has planned.

    Returns:
        `folder` of the published run.

    Raises:
        MissingInputError: If this machine does not have the training file, or the
            folder of the sweep.
        DataError: If it is another one by now.
        InUseError: If what an earlier try left is still going on.
    """
    if not Path(values["sweep"]).is_dir():
        raise _missing(values["sweep"], "outputs_dir")
    config, note = build_config(values["config"]), Path(values["note"])
    begun = RunFolder(config, read_json(note)["run_id"]) if note.is_file() else None
    if begun and begun.path.is_dir():
        _wait_for_its_worker(begun)
    if begun and (begun.published / MANIFEST).is_file():
        return {"folder": begun.published}
    if (path := find_training_file(config)) is None:
        raise _missing(config.expected_path, "inputs_dir")
    _require_digest(path, values["sha256"], sha256_file(path))
    is_resumed = begun is not None and begun.path.is_dir() and begun.has_progress()
    if begun is not None and not is_resumed:
        shutil.rmtree(begun.path, ignore_errors=True)  # dead, and nobody's from here on
    trainer = _CellTrainer(config, resume=begun.path if begun and is_resumed else None)
    trainer.note = note
    trainer.cell = {"sweep": values["sweep"], "cell": values["cell"]}
    with planned_looks(read_json(values["planned"])), _nothing_resumable_left(trainer):
        return {"folder": trainer.run_training()}


class _CellTrainer(StandaloneTrainer):
    """A run that belongs to a cell of a sweep.

    Attributes:
        note: Where the sweep finds the run again.
        cell: What keeps every other command from going on with it.
    """

    note: Path
    cell: Mapping[str, Any]

    def setup_callbacks(self) -> list[Any]:
        """Step 5; then, before anything is saved that looks resumable, whose it is."""
        found = super().setup_callbacks()
        write_json(self.run.path / CELL, self.cell)
        write_json(self.note, {"run_id": self.run.run_id})
        return found


def _wait_for_its_worker(run: RunFolder) -> None:
    """Waits until a worker whose driver died has saved what it has."""
    with contextlib.suppress(FileNotFoundError):  # published a moment ago
        if not run.lock(patience_seconds=_PATIENCE_SECONDS):
            raise run.in_use()
        run.unlock()


def _missing(path: str | Path, field: str) -> utils.MissingInputError:
    return utils.MissingInputError(
        f"{path}: not on node {socket.gethostname()}: share the folder or set {field}"
    )


def _require_digest(path: Path, wanted: str | None, found: str | None) -> None:
    if wanted != found:
        raise utils.DataError(
            f"{path}: expected the file that the sweep began with, sha256 {wanted}. "
            f"Received on node {socket.gethostname()}: {found}. Bring that file back, "
            "or begin another sweep."
        )


@contextlib.contextmanager
def _nothing_resumable_left(trainer: StandaloneTrainer) -> Iterator[None]:
    """Removes the run of a cell that failed for good.

    What may end well in another try stays: storage that failed, a run in use, memory
    that was short, an interruption.
    """
    try:
        yield
    except Exception as error:
        passing = (utils.EXIT_STORAGE, utils.EXIT_IN_USE)
        is_passing = isinstance(error, MemoryError)
        is_passing |= utils.exit_code_of(error) in passing
        run = getattr(trainer, "run", None)
        if run is not None and not is_passing:
            shutil.rmtree(run.path, ignore_errors=True)
        raise
