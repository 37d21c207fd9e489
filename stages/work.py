"""The work of a pipeline, as workers do it: a stage, trained and registered.

In: plain values -> a registered model, and which rows it learned from. Out: training it
so that nothing is lost (`experiments.cells`), when (`pipeline`).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from artifacts.artifact import load_artifact
from artifacts.model_registry import register_run
from config import build_config
from experiments.cells import train_cell

_TOLD = ("first", "last", "rows", "targets")


def train_stage(values: Mapping[str, Any]) -> dict[str, Any]:
    """Trains a stage, or goes on with what was begun of it, and registers it.

    Args:
        values: Those of `experiments.cells.train_cell`.

    Returns:
        `folder`, `run_id`, `model_id`, `manifest_sha256`, `skill`, and `parts`: of each
        the times of its first and last target, its rows and targets.

    Raises:
        UserError: See `train_cell` and `Registry.register`.
    """
    folder = Path(train_cell(values)["folder"])
    entry = register_run(build_config(values["config"]), folder, alias=None)
    split = load_artifact(folder).metadata["split"]
    return {
        "folder": str(folder.absolute()),
        "run_id": entry.run_id,
        "model_id": entry.model_id,
        "manifest_sha256": entry.manifest_sha256,
        "skill": entry.skill,
        "parts": {
            name: {key: part[key] for key in _TOLD} for name, part in split.items()
        },
    }
