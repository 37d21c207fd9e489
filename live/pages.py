"""Pages of models in use: tables and pictures below each other, in the reports' looks.

In: what a page is made of. Out: what it says (`watch_report`, `simulation_report`), the
looks (`reports/templates/live.html`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from files.atomic import atomic_write
from reports import plots
from reports.figures import STYLE
from reports.page import template
from reports.time_plots import name_moments

RED = plots.CLASS_COLORS["SHORT"]


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A figure with its height in inches, and what it shows."""

    drawn: Figure
    caption: str
    height: float = 2.6


@dataclass(frozen=True, kw_only=True)
class Section:
    """A part of a page.

    Args:
        key: A word unlike that of any other.
        title: Its headline.
        lead: A sentence before everything else.
        rows: A table, its head first.
        figures: Pictures below it.
    """

    key: str
    title: str
    lead: str = ""
    rows: Sequence[Sequence[object]] = ()
    figures: Sequence[Picture] = ()

    @property
    def numeric(self) -> list[int]:
        """Places of columns whose cells are numbers."""
        head, *body = self.rows or [()]
        columns = {k: [str(row[k]) for row in body] for k in range(1, len(head))}
        return [
            k
            for k, cells in columns.items()
            if all(cell and cell[0] in "+-0123456789" for cell in cells)
        ]


def write_page(
    path: Path, title: str, lead: Sequence[str], sections: Sequence[Section]
) -> Path:
    """Writes a page that needs nothing else; returns where."""
    text = template("live.html").render(title=title, lead=lead, sections=sections)
    atomic_write(path, text.encode())
    return path


def plot_days(
    lines: Sequence[tuple[str, Sequence[str], Sequence[float], str]],
    levels: Sequence[tuple[str, float, str]] = (),
    *,
    ylabel: str = "",
) -> Figure:
    """Draws numbers over days: label, days, values, colour; and levels across."""
    with mpl.rc_context(STYLE):
        figure, axes = plots.new_axes(4.0, 2.6)
        for label, days, values, color in lines:
            moments = pd.to_datetime(list(days)).tz_localize(None)
            numbers = np.array(values, dtype=np.float64)
            style = {"marker": "o", "markersize": 2} if len(numbers) < 60 else {}
            axes.plot(
                moments, numbers, color=color, label=label, linewidth=1.2, **style
            )
        for label, value, color in levels:
            axes.axhline(value, color=color, linewidth=0.9, linestyle="--", label=label)
        axes.set_ylabel(ylabel)
        name_moments(axes)
        plots.legend_below(figure, 2)
    return figure
