"""What a page is made of: numbers that know their place, tables, matrices, pictures.

In: the pieces that `templates/report.html` shows, and what they are cut from. Out: what
they say (`class_forecasts`, `trades`, `run_facts`), how they become HTML
(`page`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd
from matplotlib.figure import Figure, SubFigure

from evaluation.evaluate import task_of_results
from settings.tree_fields import TABULAR_MODELS

NOTHING = "–"
"""Shown where a number does not exist."""

PARTS = ("test", "validation")
"""As the page orders them: what is claimed comes first."""

Rows = Mapping[str, tuple[str, str]]
"""What is shown -> its key, and its format as `Numbers.show` reads it."""


@dataclass(frozen=True, kw_only=True)
class Number:
    """A number as it is shown, with its place and its exact value.

    Args:
        key: Names and positions that lead to it in the results, joined by dots;
            `metadata.` and `history.` lead into those.
        value: As it stands there.
        text: As it is shown.
        is_text: May be broken anywhere, as a path or a digest.
        bounds: Lower and upper end of its interval.
    """

    key: str
    value: Any
    text: str
    is_text: bool = False
    bounds: tuple[Number, Number] | None = None


Cell = Number | str | None
"""None is an empty cell."""

TableRow = tuple[str, Sequence[Cell]]


@dataclass(frozen=True, kw_only=True)
class Table:
    """Rows of a name and its cells.

    Args:
        head: Heading of the names, then of each column; none for a list of facts.
        rows: (name, cells) pairs.
        caption: What it is.
        note: How to read it.
        is_open: False folds it away behind its caption.
        is_stacked: On a phone each row becomes a block: its cells are wide.
        is_wide: Takes the whole width of the page.
    """

    head: Sequence[str]
    rows: Sequence[TableRow]
    caption: str
    note: str = ""
    is_open: bool = True
    is_stacked: bool = False
    is_wide: bool = False
    kind: str = "table"


@dataclass(frozen=True, kw_only=True)
class Matrix:
    """A confusion matrix: a row for each true class.

    Args:
        names: Name of each class.
        counts: Rows of numbers (num_classes, num_classes).
        shares: Each count's share of its row (num_classes, num_classes).
        recall: Of each class.
        precision: Of each class.
        caption: What it is.
    """

    names: Sequence[str]
    counts: Sequence[Sequence[Number]]
    shares: Sequence[Sequence[float]]
    recall: Sequence[Number]
    precision: Sequence[Number]
    caption: str
    kind: str = "matrix"


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A figure and the words below it.

    Args:
        figure: One of `Material.figures`, or a panel of it.
        height: Inches of the whole figure, a panel of which is
            `figures.WIDTH_INCHES` wide.
        caption: What it shows and how to read it.
    """

    figure: Figure | SubFigure
    height: float
    caption: str
    kind: str = "picture"


Block = Table | Matrix | Picture


@dataclass(frozen=True, kw_only=True)
class Section:
    """A heading, what its numbers mean, and blocks side by side where there is room."""

    key: str
    title: str
    lead: str
    blocks: Sequence[Block] = ()


class Numbers:
    """Finds numbers by key, and keeps key and exact value beside what is shown.

    Args:
        tree: Nested mappings and sequences.
    """

    def __init__(self, tree: Mapping[str, Any]) -> None:
        self._tree = tree

    def find(self, key: str) -> Any:
        """Returns what a key leads to; None where it leads nowhere."""
        found: Any = self._tree
        for name in key.split("."):
            if isinstance(found, Mapping):
                found = found.get(name)
            elif isinstance(found, list | tuple) and int(name) < len(found):
                found = found[int(name)]
            else:
                return None
        return found

    def show(self, key: str, pattern: str, *, text: str = "") -> Number:
        """Returns what a key leads to, as it is shown.

        Args:
            key: Names and positions joined by dots. One with `intervals` in it leads to
                an estimate with the ends of its interval.
            pattern: Format of the value; `text`, `day` and `minute` for what is no
                number.
            text: Shown instead.
        """
        if "intervals" in key.split("."):
            return self.interval(key, pattern)
        value = self.find(key)
        if value is None:
            return Number(key=key, value=None, text=text or NOTHING)
        if pattern == "text":
            return Number(key=key, value=value, text=text or str(value), is_text=True)
        if pattern in ("day", "minute"):
            moment = str(value)
            shown = moment[:10]
            if pattern == "minute":
                shown = f"{shown} {moment[11:16]}"
            return Number(key=key, value=value, text=text or shown)
        shown, is_text = text or _digits(value, pattern), isinstance(value, str)
        return Number(key=key, value=value, text=shown, is_text=is_text)

    def interval(self, key: str, pattern: str) -> Number:
        """Returns the estimate at `key` with the ends of its interval, where it has."""
        estimate = self._part(key, "estimate", pattern)
        low, high = (self._part(key, end, pattern) for end in ("low", "high"))
        return Number(
            key=estimate.key,
            value=estimate.value,
            text=estimate.text,
            bounds=None if low.value is None else (low, high),
        )

    def _part(self, key: str, name: str, pattern: str) -> Number:
        value = self.find(f"{key}.{name}")
        shown = NOTHING if value is None else _digits(value, pattern)
        return Number(key=f"{key}.{name}", value=value, text=shown)

    def facts(self, rows: Rows) -> list[TableRow]:
        """Returns a row for each of the keys that lead somewhere."""
        cells = {name: self.show(*place) for name, place in rows.items()}
        return [
            (name, [cell]) for name, cell in cells.items() if cell.value is not None
        ]

    def by_row(self, places: Mapping[str, str], columns: Rows) -> list[TableRow]:
        """Returns a row for each place, where any of the columns' keys is there."""
        rows = {
            name: [self.show(f"{place}.{key}", form) for key, form in columns.values()]
            for name, place in places.items()
        }
        return [
            (name, list(cells))
            for name, cells in rows.items()
            if any(cell.value is not None for cell in cells)
        ]

    def by_column(self, places: Sequence[str], rows: Rows) -> list[TableRow]:
        """Returns a row for each key that is there, and a column for each place."""
        cells = {
            name: [self.show(f"{place}.{key}", form) for place in places]
            for name, (key, form) in rows.items()
        }
        return [
            (name, list(found))
            for name, found in cells.items()
            if any(cell.value is not None for cell in found)
        ]


def _digits(value: Any, pattern: str) -> str:
    """Returns a number in its format, and what a file falsely calls one as it is."""
    if not isinstance(value, int | float):
        return str(value)
    text = pattern.format(value)
    if "+" not in pattern and not text.strip("-0."):
        text = text.removeprefix("-")
    return text.replace("-", "\N{MINUS SIGN}")


@dataclass(frozen=True, kw_only=True, eq=False)
class Material:
    """All that a page is made from.

    Args:
        results: From `evaluation.evaluate`, ready for JSON.
        history: Metric name -> one value an epoch; empty where nothing is learnt so.
        metadata: Sections of the run's metadata; empty where there are none.
        label_mix: From `time_plots.label_mix_over_time`; None where there are no
            classes.
        figures: From `figures.draw_figures`, by the name of their file.
    """

    results: Mapping[str, Any]
    history: Mapping[str, Sequence[float]] = field(default_factory=dict)
    metadata: Mapping[str, Any] = field(default_factory=dict)
    label_mix: pd.DataFrame | None = None
    figures: Mapping[str, Figure] = field(default_factory=dict)

    @property
    def step(self) -> str:
        """What a value of the history stands for."""
        model = self.metadata.get("config", {}).get("model")
        return "round" if model in TABULAR_MODELS else "epoch"

    @property
    def numbers(self) -> Numbers:
        """Finds numbers in all of it."""
        extra = {"metadata": self.metadata, "history": self.history}
        return Numbers({**self.results, **extra})

    def parts(self, key: str) -> list[str]:
        """Returns the parts whose results have `key`, the test part first."""
        return [part for part in PARTS if key in self.results.get(part, {})]


def forecast_tables(
    material: Material, parts: Sequence[str], compared: Rows
) -> list[Table]:
    """Returns a table for each part: the model and each baseline, side by side."""
    return [
        Table(
            caption=f"Forecasts of {part}",
            head=["", *compared],
            rows=material.numbers.by_row(forecast_places(material, part), compared),
        )
        for part in parts
    ]


def score_table(
    material: Material, parts: Sequence[str], scores: Rows, *, caption: str
) -> Table:
    """Returns one table of the model's scores, a column for each part."""
    return Table(
        caption=caption,
        head=["", *parts],
        rows=material.numbers.by_column(parts, scores),
        is_wide=True,
    )


def forecast_places(material: Material, part: str) -> dict[str, str]:
    """Returns where the numbers of the model and of each baseline are."""
    result = material.results[part]
    named = task_of_results(material.results).baseline_names
    return {"this model": part} | {
        named[name]: f"{part}.baselines.{name}" for name in result["baselines"]
    }
