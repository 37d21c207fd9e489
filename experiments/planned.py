"""A sweep before it begins: a new one, or one that goes on.

In: what is asked for, under which name, whether that is what began. Out: the cells of
it (`plan`), the folder (`sweep_folder`), doing it (`sweep`).
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import utils
from config import Config
from experiments import plan
from experiments.plan import Cell, SweepConfig
from experiments.sweep_folder import PLAN, SweepFolder

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class PlannedSweep:
    """A sweep before it begins, or goes on.

    Attributes:
        folder: Its folder.
        cells: What it trains.
        schedule: The limits in force.
        digest: Of what is asked for.
        is_new: Whether none of its name began.
    """

    folder: SweepFolder
    cells: Sequence[Cell]
    schedule: SweepConfig
    digest: str
    is_new: bool

    def begin(self) -> None:
        """Takes the folder, and writes the plan where it is new.

        Raises:
            InUseError: If another process has it.
            ConfigError: If another process began a sweep of this name meanwhile.
            StorageError: If the outputs folder does not take it.
        """
        self.folder.lock()
        if self.is_new:
            self.folder.refuse_taken()
            schedule = asdict(self.schedule)
            self.folder.write_plan(self.cells, digest=self.digest, schedule=schedule)


def plan_sweep(
    bases: Mapping[str, Mapping[str, Any]],
    axes: Mapping[str, Sequence[Any]],
    schedule: SweepConfig,
    *,
    is_resumed: bool = False,
) -> PlannedSweep:
    """Plans a new sweep, or reads the plan of the one that is resumed; writes nothing.

    Args:
        bases: Fields by name, by the label of the base.
        axes: See `plan.make_cells`; with nothing in bases either, a resumed sweep is
            known by its name alone.
        schedule: Its name, its limits.
        is_resumed: Whether one that began is meant; a new one begins where none did.

    Raises:
        ConfigError: If a cell is impossible, the name is taken, or the sweep that is
            resumed began with other cells.
        MissingInputError: If one is resumed by its name alone that did not begin.
    """
    asked = next(iter(bases.values()))
    outputs = str(asked.get("outputs_dir", Config().outputs_dir))
    digest = plan.digest_of(bases, axes)
    name = schedule.name or _usual_name(outputs, digest, is_resumed=is_resumed)
    folder = SweepFolder(outputs, name)
    is_new = not (is_resumed and folder.is_there)
    data_dir = schedule.data_dir and str(Path(schedule.data_dir).absolute())
    is_asked = any(set(base) - plan.FREE for base in bases.values()) or axes
    if is_new:
        if is_resumed and not is_asked:
            raise utils.MissingInputError(
                f"--resume: expected a sweep that began. Received: {name}, of which "
                f"there is nothing in {folder.path.parent}. Check --experiment-name "
                "and --outputs-dir."
            )
        if is_resumed:
            logger.info("nothing to resume; a new sweep begins: %s", name)
        folder.refuse_taken()
        workers = 1 if schedule.executor == "serial" else schedule.max_workers
        cells = plan.make_cells(bases, axes, name=name, max_workers=workers)
    else:
        cells, content = folder.read_plan()
        if is_asked and content["digest"] != digest:
            raise utils.ConfigError(
                f"--resume: expected what the sweep {name} began with, or its name "
                f"alone. Received: other cells. What it has: {folder.path / PLAN}. "
                "Take another --experiment-name for them."
            )
        cells = folder.move(cells, asked.get("inputs_dir"), outputs)
        data_dir = data_dir or content["schedule"]["data_dir"]
    return PlannedSweep(
        folder=folder,
        cells=cells,
        schedule=replace(schedule, data_dir=data_dir),
        digest=digest,
        is_new=is_new,
    )


def _usual_name(outputs: str, digest: str, *, is_resumed: bool) -> str:
    """Returns the name of a sweep that was given none: when, and what was asked."""
    name = f"sweep-{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{digest[:8]}"
    begun = SweepFolder(outputs, name).path.parent.glob(f"sweep-*-{digest[:8]}")
    return max((path.name for path in begun), default=name) if is_resumed else name
