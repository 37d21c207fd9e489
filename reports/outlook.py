"""What to expect on a next stretch, as lines and as a table of the page.

In: how a range is worded, and what became of it. Out: what it is
(`evaluation.outlook`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from artifacts.evaluations import is_later
from metrics.intervals import Length
from reports.blocks import Block, Material, Rows, Section, Table, TableRow
from reports.text import wrap

_FORMATS = {"net": "{:+.1f}", "net_a_bar": "{:+.3f}"}
_NAMES = {"net": "net a trade, bps", "net_a_bar": "net a bar, bps"}
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


_ROWS: Rows = {
    "model": ("metadata.model_id", "text"),
    "rows": ("metadata.rows.evaluated", "{:,}"),
    "share bars with its training part": ("metadata.rows.shared_with_train", "{:,}"),
    "with its validation part": ("metadata.rows.shared_with_validation", "{:,}"),
    "with its test part": ("metadata.rows.shared_with_test", "{:,}"),
    "older than its training": ("metadata.rows.before_training", "{:,}"),
    "fee a side, bps": ("metadata.costs.fee_bps", "{:g}"),
    "slippage a side, bps": ("metadata.costs.slippage_bps", "{:g}"),
    "funding a day, bps": ("metadata.costs.funding_bps_per_day", "{:g}"),
}
"""What an evaluation on later data says of its rows."""


def promised_text(results: Mapping[str, Any]) -> str:
    """Returns what became of the ranges that a report promised; nothing without any."""
    said = [
        f"{_NAMES.get(name, name)} {_range(name, found)}, here {_found(name, found)}"
        for name, found in results.get("promised", {}).items()
        if found["low"] is not None
    ]
    return wrap("promised by its report: " + "; ".join(said)) if said else ""


def _found(name: str, found: Mapping[str, Any]) -> str:
    if found["outcome"] is None:
        return "not known"
    return f"{_FORMATS.get(name, '{:+.2f}').format(found['found'])}, {found['outcome']}"


def confirmation(results: Mapping[str, Any], about: Mapping[str, Any]) -> str:
    """Returns whether later rows confirm what a report promised, or why they do not.

    Args:
        results: Of the rows, with `promised`.
        about: `artifacts.evaluations.Evaluation`.
    """
    promised = {
        _NAMES.get(name, name): found["outcome"] or "not known"
        for name, found in results["promised"].items()
        if found["low"] is not None
    }
    if not promised:
        return "its report gave no range for a next stretch"
    if about["is_confirmed"]:
        return "its report's ranges hold"
    if not is_later(about["rows"]):
        reason = "not all rows are later than what it was published with"
    elif Length(**results["test"]["length"]).is_too_short:
        reason = "the stretch is too short"
    else:
        reason = ", ".join(f"{name} {word}" for name, word in promised.items())
    return f"its report's ranges are not confirmed: {reason}"


def promised_section(material: Material) -> Section | None:
    """What was promised and what later data show; which rows these are."""
    numbers, rows = material.numbers, list[TableRow]()
    if "rows" not in material.metadata:
        return None
    for name, found in material.results.get("promised", {}).items():
        if found["low"] is not None:
            form, ends = _FORMATS.get(name, "{:+.3f}"), ("estimate", "low", "high")
            cells = [
                numbers.show(f"promised.{name}.{e}", form) for e in (*ends, "found")
            ]
            outcome = numbers.show(f"promised.{name}.outcome", "word")
            rows.append((_NAMES.get(name, name), [*cells, outcome]))
    blocks: list[Block] = [numbers.facts("Rows that were judged", _ROWS)]
    if rows:
        head = ["", "its test", "from", "to", "here", "which is"]
        caption = "The report's ranges"
        table = Table(caption=caption, head=head, rows=rows, is_stacked=True)
        blocks.insert(0, table)
    words = confirmation(material.results, material.metadata)
    lead = f"{words[0].upper()}{words[1:]}."
    if rows:
        lead += f" {_WHAT.capitalize()}. Ranges are confirmed by rows that came after "
        lead += "all that the model was published with, fill a stretch long enough for "
        lead += "intervals and are charged its own costs, where no number is below."
    return Section(key="promised", title="What was promised", lead=lead, blocks=blocks)


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
