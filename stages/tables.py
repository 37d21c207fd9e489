"""A pipeline for a reader: what each stage learned from, and how it ended.

In: records of stages. Out: where they lie (`folder`), how they came about (`pipeline`).
"""

from __future__ import annotations

import logging
import signal
from collections.abc import Mapping, Sequence
from typing import Any

import utils
from reports.text import format_table
from stages.folder import DONE, FAILED, STATUS, PipelineFolder

logger = logging.getLogger(__name__)


def parts_of(record: Mapping[str, Any]) -> list[str]:
    """Returns a line for each part of a stage: when it begins and ends, its targets."""
    words = {"train": "learned", "validation": "chose", "test": "tested"}
    rows = [
        [word, _minute(part["first"]), _minute(part["last"]), f"{part['targets']:,}"]
        for name, word in words.items()
        if (part := record["parts"].get(name)) is not None
    ]
    return format_table(rows, left=3, indent=4)


def _minute(moment: str) -> str:
    return moment[:16].replace("T", " ")


def format_stages(records: Sequence[Mapping[str, Any]]) -> str:
    """Returns a table of how the stages of a pipeline ended."""
    rows = [
        ["stage", "family", "status", "model", "learned from", "to", "targets", "skill"]
    ]
    for each in records:
        train = each["parts"].get("train", {})
        rows.append(
            [
                *(each["name"], each["model"]),
                each["status"] + ", taken" * each["is_taken"],
                each["model_id"] or "",
                *(_minute(train.get(key, "")) for key in ("first", "last")),
                f"{train['targets']:,}" if train else "",
                "" if each["skill"] is None else f"{each['skill']:+.3f}",
            ]
        )
    return "\n".join(format_table(rows, left=6))


def show_status(outputs_dir: str, name: str) -> int:
    """Prints how a pipeline is doing; returns its exit code.

    Raises:
        MissingInputError: If there is none of this name.
    """
    folder = PipelineFolder(outputs_dir, name)
    if not (records := folder.read()["stages"]):
        raise utils.MissingInputError(
            f"{folder.path / STATUS}: expected a pipeline that began. Received: no "
            "such file. Check the name and --outputs-dir."
        )
    is_alive = folder.is_alive()
    logger.info("%s: %s", folder.path, "going on" if is_alive else "not going on")
    logger.info("%s", format_stages(records))
    for each in records:
        if each["error"] is not None:
            logger.info("  %s: %s", each["name"], each["error"])
    return exit_code_of(records, is_alive=is_alive)


def exit_code_of(records: Sequence[Mapping[str, Any]], *, is_alive: bool) -> int:
    """Returns 0 finished, 75 going on, 143 to be resumed, else the stages' own."""
    if is_alive:
        return utils.EXIT_IN_USE
    codes = {each["exit_code"] for each in records if each["status"] == FAILED}
    if codes:
        return int(codes.pop()) if len(codes) == 1 else utils.EXIT_INTERNAL
    done = all(each["status"] == DONE for each in records)
    return 0 if done else 128 + signal.SIGTERM
