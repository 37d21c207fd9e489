"""Folders of evaluations: a finished model judged on later data, published whole.

In: where such a folder lies, what `evaluation.json` says, reading it again. Out:
judging (`experiments.evaluations`), the numbers (`evaluation.results`).

    {outputs_dir}/evaluations/{model_id}/{time}/
        evaluation.json                 what was judged: `Evaluation`
        confusion_matrix_report.json    the numbers: `evaluation.results`, part `test`
        predictions_{tag}.parquet, trades_{tag}.csv, report.html, plots/
        MANIFEST.json                   size and sha256 of each file
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import secrets
import shutil
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypedDict

import utils
from artifacts import manifest, publication, run_folder
from files.atomic import fsync_folder, make_folder
from utils import RefusedArtifactError

logger = logging.getLogger(__name__)

FOLDER, ABOUT = "evaluations", "evaluation.json"
FORMAT = 1

_ASIDE, _OLD_SECONDS = ".tmp-", 3600.0
_MAX_BYTES = 16 * 2**20
_MODEL_ID = re.compile(r"[A-Za-z0-9][\w.@+-]{0,199}", re.ASCII)


class RowCounts(TypedDict):
    """How many rows were judged, and how many of them are no later data.

    A row shares bars with a part where its window or its label do.
    """

    evaluated: int
    in_sample: int  # share bars with training or validation
    shared_with_train: int
    shared_with_validation: int
    shared_with_test: int  # the model's own: looked at when it was published
    before_training: int  # older than the first training target


class Evaluation(TypedDict):
    """What `evaluation.json` says; its names are those of a run's metadata."""

    format: int
    model_id: str
    created_at: str  # UTC
    lineage: dict[str, Any]  # artifact, manifest_sha256, training_file_sha256
    config: dict[str, Any]  # of the model's run
    costs: dict[str, float]  # in force here: fee_bps, slippage_bps, funding_bps_per_day
    data: dict[str, Any]  # the rows: path, digests, counts, as in a run's metadata
    split: dict[str, dict[str, Any]]  # the run's parts, and `evaluated`
    rows: RowCounts
    days: float  # that the evaluated rows fill
    in_sample: bool  # a row shares bars with training or validation
    # Whether the rows are later than all that the model was published with, long enough
    # for intervals, and every range that its report promised holds, at its own costs;
    # better than promised is no failure.
    is_confirmed: bool
    results: dict[str, Any]  # verdict, claims, warnings, promised; headlines of `test`
    files: dict[str, str]  # kind -> name


def is_later(rows: RowCounts) -> bool:
    """Whether all rows are later than everything that the model was published with."""
    return not any(count for name, count in rows.items() if name != "evaluated")


def folder_of(outputs_dir: str | os.PathLike[str], model_id: str) -> Path:
    """Returns where the evaluations of a model are.

    Raises:
        RefusedArtifactError: If its name is none of a folder.
    """
    if not _MODEL_ID.fullmatch(model_id):
        raise RefusedArtifactError(
            f"expected a run_id of letters, digits, -_.@+. Received: {model_id!r:.99}"
        )
    return Path(outputs_dir) / FOLDER / model_id


def publish(parent: Path, write: Callable[[Path], None]) -> Path:
    """Makes a folder named after the time appear below `parent`, whole or not at all.

    Args:
        parent: From `folder_of`.
        write: Writes its files into a folder aside.

    Returns:
        The published folder, with a manifest.

    Raises:
        StorageError: If the disk does not take it.
    """
    aside = parent / f"{_ASIDE}{secrets.token_hex(6)}"
    try:
        make_folder(parent)
        _sweep(parent)
        aside.mkdir()
        write(aside)
        manifest.write_manifest(aside, run_folder.MANIFEST, is_internal=lambda _: False)
        for folder, _, _ in os.walk(aside):
            fsync_folder(folder)
        name = f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
        if (parent / name).exists():
            name += f"-{secrets.token_hex(4)}"
        publication.move_run(aside, parent / name, internals=())
        fsync_folder(parent)
    except utils.UserError:
        raise
    except OSError as error:
        raise utils.StorageError(
            f"cannot write an evaluation into {parent}: {error.strerror or error}. "
            f"{utils.CHOOSE_A_FOLDER}"
        ) from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return parent / name


def _sweep(parent: Path) -> None:
    """Removes what writers left that died long ago."""
    for path in parent.glob(f"{_ASIDE}*"):
        with contextlib.suppress(OSError):
            if time.time() - path.stat().st_mtime > _OLD_SECONDS:
                shutil.rmtree(path, ignore_errors=True)


def read_evaluation(folder: Path) -> Evaluation:
    """Returns what an evaluation says of itself, as it was published.

    Raises:
        RefusedArtifactError: If it is not what its manifest says.
    """
    files = manifest.read_manifest(folder, run_folder.MANIFEST)
    if ABOUT not in files:
        raise RefusedArtifactError(f"{folder}: expected {ABOUT} in the manifest.")
    data = manifest.read_listed(folder, ABOUT, files[ABOUT], max_bytes=_MAX_BYTES)
    content: Any = manifest.parse_json(data, folder / ABOUT)
    known = content if isinstance(content, Mapping) else {}
    if known.get("format") != FORMAT or not Evaluation.__annotations__.keys() <= {
        *known
    }:
        raise RefusedArtifactError(
            f"{folder / ABOUT}: expected an evaluation, format {FORMAT}."
        )
    return content


def read_evaluations(
    outputs_dir: str | os.PathLike[str], model_id: str
) -> list[Evaluation]:
    """Returns the evaluations of a model, the oldest first; damaged ones are told.

    `grades.grade_of` takes them as they are.
    """
    found = []
    parent = folder_of(outputs_dir, model_id)
    there = sorted(parent.iterdir()) if parent.is_dir() else []
    for folder in there:
        if folder.name.startswith(_ASIDE) or not folder.is_dir():
            continue
        try:
            found.append(read_evaluation(folder))
        except RefusedArtifactError as error:
            logger.warning("not counted: %s", error)
    return sorted(found, key=lambda each: each["created_at"])
