"""What to expect on a next stretch, as lines and as a table of the page.

In: how a range is worded. Out: what it is (`evaluation.outlook`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from reports.blocks import Material, Table, TableRow
from reports.text import wrap

_FORMATS = {"net": "{:+.1f}"}
_NAMES = {"net": "net a trade, bps"}
_WHAT = "about 85 to 90 of 100 stretches as long as test should lie within"


def outlook_text(results: Mapping[str, Any]) -> str:
    """Returns the ranges of a next stretch as text; nothing where none is known."""
    said = [
        f"{_NAMES.get(name, name)} {_range(name, found)}"
        for name, found in results.get("outlook", {}).items()
        if found["low"] is not None
    ]
    return wrap(f"next: {_WHAT}: " + "; ".join(said)) if said else ""


def outlook_table(material: Material) -> list[Table]:
    """Returns a table of this test and of the ranges beside it, where there is one."""
    numbers, rows = material.numbers, list[TableRow]()
    for name, found in material.results.get("outlook", {}).items():
        if found["low"] is not None:
            form, ends = _FORMATS.get(name, "{:+.3f}"), ("estimate", "low", "high")
            cells = [numbers.show(f"outlook.{name}.{end}", form) for end in ends]
            rows.append((_NAMES.get(name, name), [*cells, _reading(found)]))
    if not rows:
        return []
    return [
        Table(
            caption="To expect next",
            head=["", "this test", "from", "to", ""],
            rows=rows,
            note=f"{_WHAT.capitalize()}.",
            is_wide=True,
        )
    ]


def _range(name: str, found: Mapping[str, Any]) -> str:
    form, reading = _FORMATS.get(name, "{:+.2f}"), _reading(found)
    text = f"{form.format(found['low'])} to {form.format(found['high'])}"
    return f"{text} ({reading})" if reading else text


def _reading(found: Mapping[str, Any]) -> str:
    """Returns what made a range wide, and whether it says anything."""
    reasons = {"drift": "drift from validation", "folds": "spread of folds"}
    words = [reasons[found["widened_by"]]] if found["widened_by"] else []
    if found["low"] < 0 < found["high"]:
        words.append("too wide to say its sign")
    return ", ".join(words)
