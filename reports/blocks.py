"""What a page is made of: numbers that know their place, tables, matrices, pictures.

In: the pieces that `templates/report.html` shows, and what they are cut from. Out: what
they say (`class_forecasts`, `trades`, `run_facts`), how they become HTML
(`page`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pandas as pd

from evaluation.evaluate import task_of_results
from settings.tree_fields import TABULAR_MODELS

if TYPE_CHECKING:
    from matplotlib.figure import Figure, SubFigure

NOTHING = "–"
"""Shown where a number does not exist."""

PARTS = ("test", "validation")
"""As the page orders them: what is claimed comes first."""

_NO_WIDTH = 1e-6
"""An interval as narrow is float32's rounding: a reference against itself."""

Rows = Mapping[str, tuple[str, str]]
"""What is shown -> its key, and its format as `Numbers.show` reads it."""


@dataclass(frozen=True, kw_only=True)
class Number:
    """A number as it is shown, with its place and its exact value.

    Args:
        key: Names and positions that lead to it in the results, joined by dots;
            `metadata.`, `history.` and `trades.` lead into those.
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
    """A confusion matrix: a row for each true class, and the shares of its row.

    `counts` and `shares` are (num_classes, num_classes), the others (num_classes,).
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
    """One of `Material.figures`, or a panel of it, and the words below it.

    The whole figure is `height` inches high, a panel `figures.WIDTH_INCHES` wide.
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
    """Finds numbers in a tree, keeps key and exact value beside what is shown."""

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
            pattern: Format of the value; `text`, `word` (never broken), `day` and
                `minute` for what is no number.
            text: Shown instead.
        """
        if "intervals" in key.split("."):
            return self.interval(key, pattern)
        found = self._plain(key, pattern)
        return dataclasses.replace(found, text=text) if text else found

    def _plain(self, key: str, pattern: str) -> Number:
        value = self.find(key)
        is_text = isinstance(value, str)
        if value is None:
            return Number(key=key, value=None, text=NOTHING)
        if pattern in ("text", "word"):
            shown, is_text = str(value), pattern == "text"
        elif pattern in ("day", "minute"):
            moment, is_text = str(value), False
            shown = moment[:10] + (pattern == "minute") * f" {moment[11:16]}"
        else:
            shown = _digits(value, pattern)
        return Number(key=key, value=value, text=shown, is_text=is_text)

    def interval(self, key: str, pattern: str) -> Number:
        """Returns the estimate at `key`, and the ends of an interval with a width."""
        estimate, low, high = (
            self._plain(f"{key}.{name}", pattern)
            for name in ("estimate", "low", "high")
        )
        is_open = low.value is not None and high.value - low.value > _NO_WIDTH
        bounds = (low, high) if is_open else None
        return dataclasses.replace(estimate, bounds=bounds)

    def facts(self, caption: str, rows: Rows) -> Table:
        """Returns a table of two columns: names, and what their keys lead to."""
        return _table(caption, [], {k: [self.show(*v)] for k, v in rows.items()})

    def by_row(
        self, caption: str, places: Mapping[str, str], columns: Rows, **looks: Any
    ) -> Table:
        """Returns a table of a row for each place; `looks` are those of `Table`."""
        rows = {
            name: [self.show(f"{place}.{key}", form) for key, form in columns.values()]
            for name, place in places.items()
        }
        return _table(caption, columns, rows, **looks)

    def by_column(
        self, caption: str, parts: Sequence[str], rows: Rows, *, within: str = ""
    ) -> Table:
        """Returns a wide table: a row for each key (`within` a part's), the parts."""
        cells = {
            name: [self.show(f"{part}.{within}{key}", form) for part in parts]
            for name, (key, form) in rows.items()
        }
        return _table(caption, parts, cells, is_wide=True)


def _table(
    caption: str, head: Iterable[str], rows: Mapping[str, list[Number]], **looks: Any
) -> Table:
    """Returns a table of the rows that have any value."""
    found = [
        (name, cells)
        for name, cells in rows.items()
        if any(cell.value is not None for cell in cells)
    ]
    names = ["", *head] if head else []
    return Table(caption=caption, head=names, rows=found, **looks)


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
        trades: Those of the test part, from `trade_plots.list_trades`: column -> its
            values.
        prices: The test part: `time`, the closes of its bars, UTC; `close`; `signal`.
        label_mix: From `time_plots.label_mix_over_time`; None where there are no
            classes.
        figures: From `figures.draw_figures`, by the name of their file.
    """

    results: Mapping[str, Any]
    history: Mapping[str, Sequence[float]] = field(default_factory=dict)
    metadata: Mapping[str, Any] = field(default_factory=dict)
    trades: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    prices: pd.DataFrame | None = None
    label_mix: pd.DataFrame | None = None
    figures: Mapping[str, Figure] = field(default_factory=dict)

    @property
    def step(self) -> str:
        """What a value of the history stands for."""
        model = self.metadata.get("config", {}).get("model")
        return "round" if model in (*TABULAR_MODELS, "stack") else "epoch"

    @property
    def numbers(self) -> Numbers:
        """Finds numbers in all of it."""
        names = ("metadata", "history", "trades")
        return Numbers({**self.results, **{k: getattr(self, k) for k in names}})

    def parts(self, key: str) -> list[str]:
        """Returns the parts whose results have `key`, the test part first."""
        return [part for part in PARTS if key in self.results.get(part, {})]

    def picture(self, name: str, height: float, caption: str) -> Picture:
        """Returns the figure of that name, so many inches high, and its words."""
        return Picture(figure=self.figures[name], height=height, caption=caption)

    def pictures(
        self, name: str, parts: Sequence[str], height: float, *captions: str
    ) -> list[Picture]:
        """Returns each part's picture, or each of its panels where captions are more.

        A `{}` in a caption stands for the part.
        """
        found = []
        for part in parts:
            figure = self.figures[f"{name}_{part}"]
            panels: list[Any] = [*figure.subfigs] or [figure]
            for panel, text in zip(panels, captions, strict=True):
                caption = text.format(part)
                found.append(Picture(figure=panel, height=height, caption=caption))
        return found

    def forecast_tables(
        self, caption: str, parts: Sequence[str], compared: Rows
    ) -> list[Table]:
        """Returns a table for each part: the model and each baseline, side by side."""
        named = task_of_results(self.results).baseline_names
        tables = []
        for part in parts:
            places = {"this model": part} | {
                named[name]: f"{part}.baselines.{name}"
                for name in self.results[part]["baselines"]
            }
            tables.append(self.numbers.by_row(caption.format(part), places, compared))
        return tables
