"""What a watch saw -> text, `watch.json`, one page.

In: words, order, the folder. Out: what was seen (`watching`), the page's looks
(`reports`).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from files.strict import write_json
from live.watching import MAX_P_VALUE, Watch
from predictor import Predictor
from reports.text import format_table, wrap

_SHOWN_FEATURES = 8


def format_watch(found: Watch) -> str:
    """Returns level, numbers, features and ranges as text."""
    about = found.about
    lines = [
        f"{found.level}: {found.model_id}, {about['judged_rows']:,} judged rows of "
        f"{about['first']} to {about['last']}, {about['age_days']:.1f} days after what "
        "it learned and chose on",
        f"  missing bars {about['missing_share']:.2%}, clipped feature values "
        f"{about['clip_share']:.2%}",
    ]
    for name in ("signals", "labels"):
        if about[name] is not None:
            now, usual = (_shares(about[key]) for key in (name, f"{name}_usual"))
            lines.append(f"  {name} SHORT, HOLD, LONG {now}; in the report {usual}")
    head = ["", "usual day", "now", "sum", "warning", "alarm", "level", "since"]
    rows = [
        [
            each["words"],
            *(
                _number(each[key])
                for key in ("usual", "now", "sum", "warning", "alarm")
            ),
            each["level"],
            each["since"] if each["level"] != "ok" else "",
        ]
        for each in found.numbers.values()
    ]
    lines += ["", *format_table([head, *rows])]
    lines += _feature_lines(found.features)
    ranges = [
        f"{name} {each['low']:+.3g} to {each['high']:+.3g}, here "
        + ("not known" if each["found"] is None else f"{each['found']:+.3g}, ")
        + f"{each['outcome'] or ''}"
        for name, each in found.promised.items()
        if each["low"] is not None
    ]
    if ranges:
        lines += ["", wrap(f"promised by its report: {'; '.join(ranges)}")]
    return "\n".join([*lines, *(wrap(f"note: {text}") for text in found.notes)])


def _feature_lines(features: Mapping[str, Any]) -> list[str]:
    if not features:
        return []
    worst = sorted(features["features"].items(), key=lambda item: item[1]["p_value"])
    rows = [
        [name, *(_number(each[key]) for key in ("distance", "usual", "p_value"))]
        for name, each in worst[:_SHOWN_FEATURES]
    ]
    head = ["", "index", "95 % of training", "p (Holm)"]
    count = sum(each["p_value"] < MAX_P_VALUE for _, each in worst)
    what = (
        f"features of the last {features['days']} days: {count} of {len(worst)} apart"
    )
    return ["", what, *format_table([head, *rows])]


def short(found: Watch) -> dict[str, Any]:
    """Returns what a hook is told: no series of days."""
    numbers = {
        name: {k: each[k] for k in ("words", "level", "since", "usual", "now")}
        for name, each in found.numbers.items()
    }
    told = found.to_dict() | {"event": "watch", "numbers": numbers}
    return told


def write_watch(
    found: Watch, folder: str | os.PathLike[str] | None, predictor: Predictor
) -> Path:
    """Writes `watch.json` and `watch.html`; returns the folder."""
    if folder is None:
        outputs = predictor.config.outputs_dir
        folder = Path(outputs) / "watches" / predictor.model_id
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "watch.json", found.to_dict())
    return folder


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"


def _shares(shares: list[float]) -> str:
    return ", ".join(f"{share:.1%}" for share in shares)
