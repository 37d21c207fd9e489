"""The search that a run came from: as text, figure, and section of the page.

In: showing `tuning` of the results. Out: searching (`tuning`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from metrics.wording import interval, number
from reports.blocks import Block, Material, Number, Rows, Section, TableRow
from reports.blocks import Table as _Table
from reports.plots import BLUE, GREY, INK, new_axes
from reports.text import format_table, wrap

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_FORM = "{:.5f}"
_OPEN_ROWS = 12
_STATES = {
    "complete": "came to an end",
    "pruned": "pruned",
    "fail": "failed",
    "running": "not finished",
}


def format_tuning(tuning: Mapping[str, Any]) -> str:
    """Returns what was searched, what was found, what test says of it."""
    lines = [
        wrap(
            f"tuned by {_counts(tuning)}: {tuning['objective_words']} "
            f"{number(tuning['best_value'], _FORM)}, of the default "
            f"{number(tuning['default_value'], _FORM)}; {tuning['statement']}"
        )
    ]
    if against := tuning["against_default"]:
        lines.append(
            f"  loss on test beside the default's: {interval(against, '{:+.5f}')}, "
            f"p = {number(against['p_value'], '{:.3f}')}"
        )
    lines.append(
        f"  {tuning['num_counted']:,} runs count as looks at test; no trial did"
    )
    if tuning["importance"]:
        rows = [[name, f"{share:.0%}"] for name, share in tuning["importance"].items()]
        lines += ["  what mattered:", *format_table(rows, indent=4)]
    return "\n".join(lines)


def _counts(tuning: Mapping[str, Any]) -> str:
    states = [each["state"] for each in tuning["trials"]]
    counted = {words: states.count(name) for name, words in _STATES.items()}
    parts = [f"{count} {words}" for words, count in counted.items() if count]
    return f"{len(states)} trials ({', '.join(parts)})"


def plot_tuning(tuning: Mapping[str, Any]) -> Figure:
    """Draws what each trial came to, the best so far, and the default."""
    done = [each for each in tuning["trials"] if each["state"] == "complete"]
    numbers = [each["number"] for each in done]
    values = [each["value"] for each in done]
    best = np.maximum if tuning["maximizes"] else np.minimum
    figure, axes = new_axes(6, 3.2)
    axes.plot(numbers, values, "o", color=GREY, markersize=4, label="trial")
    axes.step(
        numbers, best.accumulate(values), where="post", color=BLUE, label="best so far"
    )
    if tuning["default_value"] is not None:
        axes.axhline(
            tuning["default_value"], color=INK, linestyle="--", label="default"
        )
    axes.set(xlabel="trial", ylabel=tuning["objective"])
    axes.locator_params(axis="x", integer=True)
    axes.legend(frameon=False)
    return figure


def tuning_section(material: Material) -> Section | None:
    """What was searched, what it came to, and what the test part says of it."""
    tuning = material.results.get("tuning")
    if not tuning:
        return None
    numbers = material.numbers
    facts: Rows = {
        "study": ("tuning.study", "text"),
        "objective": ("tuning.objective", "word"),
        "of the default": ("tuning.default_value", _FORM),
        "of the best trial": ("tuning.best_value", _FORM),
        "number of the best trial": ("tuning.best", "{:,}"),
        "runs in the deflation": ("tuning.num_counted", "{:,}"),
    }
    if tuning["against_default"]:
        key = "tuning.against_default"
        facts = {
            **facts,
            "loss on test, less the default's": (f"{key}.estimate", "{:+.5f}"),
            "from": (f"{key}.low", "{:+.5f}"),
            "to": (f"{key}.high", "{:+.5f}"),
            "p-value": (f"{key}.p_value", "{:.3f}"),
        }
    blocks: list[Block] = [
        material.picture(
            "tuning", 2.4, f"{tuning['objective_words'].capitalize()}, by trial."
        ),
        numbers.facts("The search", facts),
    ]
    if tuning["changes"]:
        columns = {"default": "tuning.defaults", "chosen": "tuning.changes"}
        rows = [
            (name, [_shown(material, f"{place}.{name}") for place in columns.values()])
            for name in tuning["changes"]
        ]
        head = ["", *columns]
        blocks.append(_Table(caption="What it chose", head=head, rows=rows))
    if tuning["importance"]:
        shares = {
            name: (f"tuning.importance.{name}", "{:.0%}")
            for name in tuning["importance"]
        }
        blocks.append(numbers.facts("How much of the spread each explains", shares))
    blocks.append(_trials(material))
    words = tuning["statement"]
    return Section(
        key="tuning",
        title="Tuning",
        lead=f"{words[0].upper()}{words[1:]}. {_counts(tuning)}, judged on folds or "
        "validation, none on the test part; each counts as a look at it all the same. "
        "Better than the default is claimed where the paired test of the losses has "
        "p < 0.05 and the run shows a skill.",
        blocks=blocks,
    )


def _shown(material: Material, key: str) -> Number:
    """Returns a field's value: a number in four digits, a list or a word as it is."""
    is_number = isinstance(material.numbers.find(key), float)
    return material.numbers.show(key, "{:.4g}" if is_number else "text")


def _trials(material: Material) -> _Table:
    """Returns every trial, the best first, then those without a value."""
    tuning, numbers = material.results["tuning"], material.numbers
    sign = -1 if tuning["maximizes"] else 1
    order = sorted(
        range(len(tuning["trials"])),
        key=lambda k: (
            tuning["trials"][k]["value"] is None,
            sign * (tuning["trials"][k]["value"] or 0),
        ),
    )
    names = [*dict.fromkeys(x for t in tuning["trials"] for x in t["suggested"])]
    rows: list[TableRow] = []
    for k in order:
        place, tried = f"tuning.trials.{k}", tuning["trials"][k]
        cells = [
            numbers.show(f"{place}.value", _FORM),
            numbers.show(f"{place}.state", "word"),
            *(_shown(material, f"{place}.suggested.{name}") for name in names),
        ]
        if tried["error"]:
            cells[1] = numbers.show(f"{place}.error", "text")
        rows.append((f"{tried['number']}", cells))
    return _Table(
        caption="Trials, the best first",
        head=["", tuning["objective"], "state", *names],
        rows=rows,
        is_open=len(rows) <= _OPEN_ROWS,
        is_stacked=True,
        is_wide=True,
    )
