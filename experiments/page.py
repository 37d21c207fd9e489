"""Every run and registered model of a folder of outputs, on one static page.

In: published runs and the registry, read; what a row says. Out: the looks
(`reports/templates/runs.html`), the grade (`artifacts.grades`).
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import utils
from artifacts.entries import ModelSummary
from artifacts.evaluations import read_evaluations
from artifacts.grades import Graded, grade_of
from artifacts.publication import RUN_ID
from artifacts.registry import Registry
from files.atomic import atomic_write
from files.strict import read_json
from reports.page import script_digest, template
from utils import MissingInputError, counted

logger = logging.getLogger(__name__)

NAME = "runs.html"
_REPORT = "confusion_matrix_report.json"
_FILTERS = (
    ("pair", "pair"),
    ("timeframe", "bars"),
    ("target", "target"),
    ("family", "model"),
    ("letter", "grade"),
    ("experiment", "experiment"),
)
_COLUMNS = (
    ("pair", "pair", False),
    ("timeframe", "bars", False),
    ("target", "target", False),
    ("family", "model", False),
    ("trained", "trained", False),
    ("grade", "grade", False),
    ("skill", "skill", True),
    ("", "so far", False),
    ("direction", "direction", True),
    ("net", "net bps", True),
    ("trades", "trades", True),
    ("model", "registered as", False),
    ("experiment", "words", False),
)
_SPARK = (88.0, 22.0)


def write_page(
    outputs_dir: str | os.PathLike[str], path: str | os.PathLike[str] | None = None
) -> Path:
    """Writes the page of all published runs; returns where.

    Args:
        outputs_dir: The folder of outputs.
        path: The file; None is `runs.html` in that folder.

    Raises:
        MissingInputError: If no run was published there.
    """
    outputs = Path(outputs_dir)
    target = outputs / NAME if path is None else Path(path)
    rows = gather_rows(outputs, links_from=target.parent)
    if not rows:
        raise MissingInputError(f"{outputs}: expected published runs. Received: none.")
    registered = sum(len(row["models"]) for row in rows)
    atomic_write(
        target,
        template("runs.html").render(
            rows=rows,
            filters=_FILTERS,
            columns=_COLUMNS,
            summary=f"{counted(len(rows), 'run', 'runs')}, {registered} registered",
            script_sha256=script_digest("runs.js"),
        ),
    )
    return target


def gather_rows(outputs: Path, *, links_from: Path) -> list[dict[str, Any]]:
    """Returns what the page says of each run and registered model, the newest first."""
    registry, by_place = Registry(outputs), dict[str, list[ModelSummary]]()
    for folder in outputs.glob("models/*/*/*"):
        if RUN_ID.fullmatch(folder.name) and not folder.is_symlink():
            by_place[folder.relative_to(outputs).as_posix()] = []
    for entry in registry.entries(skips_broken=True):
        by_place.setdefault(entry.artifact, []).append(entry)
    rows = []
    for place in sorted(by_place, key=lambda each: each.rpartition("/")[2]):
        entries, row = by_place[place], _row(outputs, place)
        row["models"] = [
            {
                "name": entry.model_id,
                "aliases": registry.aliases_of(entry),
                "parents": list(entry.dependencies),
            }
            for entry in entries
        ]
        row["fault"] = _fault_of(registry, entries) or row["fault"]
        report = outputs / place / "report.html"
        link = Path(os.path.relpath(report, links_from)).as_posix()
        row["report"] = link if report.is_file() else None
        row["data"]["model"] = entries[0].model_id if entries else ""
        rows.append(row)
    _draw_sparks(rows)
    return rows[::-1]


def _fault_of(registry: Registry, entries: Sequence[ModelSummary]) -> str:
    """Returns what is wrong with a registered artifact, or an empty string."""
    for entry in entries:
        try:
            registry.folder_of(entry)
        except utils.UserError as error:
            return str(error)
    return ""


_UNREADABLE = (
    *(utils.UserError, OSError, AttributeError),
    *(KeyError, TypeError, ValueError),
)
"""What reading and telling raise of files that are no run's."""


def _row(outputs: Path, place: str) -> dict[str, Any]:
    """Returns a run's cells as text, and what they sort and filter by."""
    folder = outputs / place
    try:
        [path] = folder.glob("metadata_*.json")
        config, results = read_json(path)["config"], read_json(folder / _REPORT)
        graded = grade_of(results, evaluations=read_evaluations(outputs, folder.name))
        return _cells(place, config, results, graded)
    except _UNREADABLE as error:
        graded = grade_of({}, is_whole=False)
        fault = f"cannot be read: {error!s:.200}"
        return _cells(place, {}, {}, graded) | {"fault": fault}


def _cells(
    place: str, config: Mapping[str, Any], results: Mapping[str, Any], graded: Graded
) -> dict[str, Any]:
    pair, family, run_id = ["", "", *place.split("/")][-3:]
    test = results.get("test") or {}
    is_class = "class_names" in results
    name = "skill_vs_train_prior" if is_class else "skill_mse_vs_persistence"
    found = (test.get("intervals") or {}).get(name) or {}
    direction = test.get("direction_skill_vs_train_prior", test.get("sign_excess"))
    trades = test.get("trading") or {}
    net, num_trades = trades.get("mean_net_return_bps"), trades.get("num_trades")
    experiment = config.get("experiment_name") or ""
    bars, trained = "", run_id
    if RUN_ID.fullmatch(run_id):
        time, bars = run_id.split("-")[:2]
        trained = f"{time[:4]}-{time[4:6]}-{time[6:8]} {time[9:11]}:{time[11:13]}"
    row = {
        "pair": pair,
        "timeframe": config.get("timeframe", bars),
        "target": config.get("target", ""),
        "family": family,
        "trained": trained,
        "grade": str(graded.grade),
        "reason": graded.reason,
        "skill": _told(test.get(name), "{:+.3f}"),
        "interval": _interval(found),
        "direction": _told(direction, "{:+.3f}"),
        "net": _told(net, "{:+.1f}"),
        "trades": _told(num_trades, "{:,}"),
        "fault": "",
        "words": " ".join([experiment, *(f"#{t}" for t in config.get("tags", ()))]),
        "spark": None,
    }
    shared = ("pair", "timeframe", "target", "family")
    row["data"] = {key: row[key] for key in shared} | {
        "trained": run_id,
        "letter": row["grade"],
        "grade": -graded.grade.rank,
        "skill": _told(test.get(name), "{!r}"),
        "direction": _told(direction, "{!r}"),
        "net": _told(net, "{!r}"),
        "trades": _told(num_trades, "{!r}"),
        "experiment": experiment,
    }
    return row


def _told(value: float | None, form: str) -> str:
    return "" if value is None else form.format(value)


def _interval(found: Mapping[str, Any]) -> str:
    low, high = found.get("low"), found.get("high")
    return "" if low is None or high is None else f"[{low:+.2f}, {high:+.2f}]"


def _draw_sparks(rows: Sequence[dict[str, Any]]) -> None:
    """Gives each row the skill of its group's runs up to it, the oldest left."""
    width, height = _SPARK
    groups: dict[tuple[str, ...], list[float]] = {}
    for row in rows:
        text = row["data"]["skill"]
        if not text:
            continue
        key = tuple(row[name] for name in ("pair", "timeframe", "target", "family"))
        seen = groups.setdefault(key, [])
        seen.append(float(text))
        shown = seen[-20:]
        low, high = min(0.0, *shown), max(0.0, *shown)
        scale = (height - 4.0) / (high - low) if high > low else 0.0
        heights = [height - 2.0 - scale * (value - low) for value in shown]
        step = width / max(len(shown) - 1, 1)
        row["spark"] = {
            "count": len(shown),
            "points": " ".join(
                f"{k * step:.1f},{y:.1f}" for k, y in enumerate(heights)
            ),
            "x": f"{(len(shown) - 1) * step:.1f}",
            "y": f"{heights[-1]:.1f}",
            "zero": f"{height - 2.0 + scale * low:.1f}",
        }
