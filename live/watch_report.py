"""What a watch saw -> text, `watch.json`, one page.

In: words, order, the folder. Out: what was seen (`watching`), the page's looks
(`reports`).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from files.atomic import require_creatable
from files.strict import write_json
from live.pages import RED, Picture, Section, plot_days, write_page
from live.watching import MAX_P_VALUE, Watch
from predictor import Predictor
from reports.plots import BLUE, GREY
from reports.text import format_table, wrap

_SHOWN_FEATURES = 8


def format_watch(found: Watch) -> str:
    """Returns level, numbers, features and ranges as text."""
    lines = [*lead_lines(found), "", *format_table(number_rows(found))]
    if found.features:
        rows = feature_rows(found)
        lines += ["", feature_lead(found), *format_table(rows[: _SHOWN_FEATURES + 1])]
    if len(rows := range_rows(found)) > 1:
        lines += ["", "promised by its report", *format_table(rows)]
    return "\n".join([*lines, *(wrap(f"note: {text}") for text in found.notes)])


def lead_lines(found: Watch) -> list[str]:
    """Returns what is watched, and the mixes of answers and of what came."""
    about = found.about
    lines = [
        f"{found.level}: {found.model_id}, {about['judged_rows']:,} judged rows of "
        f"{about['first']} to {about['last']}, {about['age_days']:.1f} days after what "
        "it learned and chose on",
        f"missing bars {about['missing_share']:.2%}, clipped feature values "
        f"{about['clip_share']:.2%}",
    ]
    for name in ("signals", "labels"):
        if about[name] is not None:
            now, usual = (_shares(about[key]) for key in (name, f"{name}_usual"))
            lines.append(f"{name} SHORT, HOLD, LONG {now}; in the report {usual}")
    return lines


def number_rows(found: Watch) -> list[list[str]]:
    """Returns a table of the watched numbers, its head first."""
    head = ["", "usual day", "now", "sum", "warning", "alarm", "level", "since"]
    keys = ("usual", "now", "sum", "warning", "alarm")
    return [head] + [
        [
            each["words"],
            *(_number(each[key]) for key in keys),
            each["level"],
            each["since"] if each["level"] != "ok" else "",
        ]
        for each in found.numbers.values()
    ]


def feature_lead(found: Watch) -> str:
    """Returns how many features lie apart."""
    each = found.features["features"].values()
    count = sum(one["p_value"] < MAX_P_VALUE for one in each)
    return (
        f"features of the last {found.features['days']} days: {count} of {len(each)} "
        "apart"
    )


def feature_rows(found: Watch) -> list[list[str]]:
    """Returns a table of the features, the farthest first below its head."""
    worst = sorted(
        found.features["features"].items(), key=lambda item: item[1]["p_value"]
    )
    keys = ("distance", "usual", "p_value")
    head = ["", "index", "95 % of training", "p (Holm)"]
    return [head] + [[name, *(_number(one[k]) for k in keys)] for name, one in worst]


def range_rows(found: Watch) -> list[list[str]]:
    """Returns a table of what the report promised, its head first."""
    rows = [["", "from", "to", "here", ""]]
    for name, each in found.promised.items():
        if each["low"] is not None:
            cells = (_number(each[key]) for key in ("low", "high", "found"))
            rows.append([name, *cells, each["outcome"] or "not known"])
    return rows


def short(found: Watch) -> dict[str, Any]:
    """Returns what a hook is told: no series of days."""
    keys = ("words", "level", "since", "usual", "now")
    numbers = {
        name: {key: each[key] for key in keys} for name, each in found.numbers.items()
    }
    return found.to_dict() | {"event": "watch", "numbers": numbers}


def write_watch(
    found: Watch, folder: str | os.PathLike[str] | None, predictor: Predictor
) -> Path:
    """Writes `watch.json` and `watch.html`; returns the folder."""
    if folder is None:
        outputs = predictor.config.outputs_dir
        folder = Path(outputs) / "watches" / predictor.model_id
    folder = Path(folder)
    require_creatable(folder)
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "watch.json", found.to_dict())
    state, *lead = lead_lines(found)
    sections = [
        Section(
            key="numbers",
            title="Numbers of a day",
            lead="A sum adds up how far days lie from usual ones. How seldom a market "
            "that stays as it was passes the levels is measured in docs/live.md. Rows "
            "whose horizon is not over are left out.",
            rows=number_rows(found),
            figures=[_picture(each) for each in found.numbers.values() if each["days"]],
        )
    ]
    if found.features:
        lead_of = f"{feature_lead(found)}: farther than training blocks as long."
        sections.append(
            Section(
                key="features",
                title="Features",
                lead=lead_of,
                rows=feature_rows(found),
            )
        )
    if len(rows := range_rows(found)) > 1:
        sections.append(
            Section(key="ranges", title="Promised by its report", rows=rows)
        )
    write_page(
        folder / "watch.html",
        f"{found.about['pair']} {found.about['timeframe']}: {found.level}",
        [state, *lead, *found.notes],
        sections,
    )
    return folder


def _picture(each: Mapping[str, Any]) -> Picture:
    levels = [("warning", each["warning"], GREY), ("alarm", each["alarm"], RED)]
    drawn = plot_days([("sum", each["days"], each["sums"], BLUE)], levels)
    return Picture(drawn=drawn, caption=f"{each['words']}: {each['level']}")


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"


def _shares(shares: list[float]) -> str:
    return ", ".join(f"{share:.1%}" for share in shares)
