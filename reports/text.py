"""Tables of numbers, moments and long lines as text for a terminal.

In: columns that stand below each other. Out: which numbers (`class_forecasts`,
`number_forecasts`, `comparison`), the text of one (`metrics.wording`).
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from metrics.wording import number
from reports.blocks import Numbers, Rows

WIDTH = 100
TRADES: Rows = {
    "trades": ("trading.num_trades", "{:,}"),
    "net/trade": ("trading.mean_net_return_bps", "{:+.1f} bp"),
    "net": ("trading.total_return_pct", "{:+.1f}%"),
}
"""The last columns of a table of baselines."""


def format_table(
    rows: Iterable[Sequence[str]], *, left: int = 1, width: int = 0, indent: int = 2
) -> list[str]:
    """Returns a line for each row, its columns two spaces apart.

    Args:
        rows: The head, if there is one, and what stands below it. A row may be short.
        left: Columns that are aligned to the left; the others are to the right.
        width: Least width of the columns to the right.
        indent: Spaces before each line.
    """
    table = [list(row) for row in rows]
    columns = range(max(map(len, table), default=0))
    widths = [
        max(len(row[k]) for row in table if k < len(row))
        if k < left
        else max(width, *(len(row[k]) for row in table if k < len(row)))
        for k in columns
    ]
    lines = []
    for row in table:
        cells = (
            cell.ljust(widths[k]) if k < left else cell.rjust(widths[k])
            for k, cell in enumerate(row)
        )
        lines.append((" " * indent + "  ".join(cells)).rstrip())
    return lines


def number_table(
    rows: Iterable[tuple[str, Mapping[str, Any]]], columns: Rows
) -> list[str]:
    """Returns a head and a line for each row, with what each column's key leads to.

    A row is a name and the tree that its numbers stand in.
    """
    cells = [
        [name, *(number(Numbers(tree).find(k), form) for k, form in columns.values())]
        for name, tree in rows
    ]
    return format_table([["", *columns], *cells])


def chosen_thresholds(
    results: Mapping[str, Any], short: str, long: str, *, scale: float = 1.0
) -> str:
    """Returns the thresholds that validation chose, each in its format, and how."""
    search, limits = results["thresholds"], []
    for side, pattern in (("short", short), ("long", long)):
        limit = search.get(f"{side}_threshold")
        limits.append("never" if limit is None else pattern.format(scale * limit))
    chosen = f"SHORT {limits[0]}, LONG {limits[1]}: "
    found = "" if "skipped" in search else chosen
    return f"thresholds {found}{search['statement']}"


def spread(found: Mapping[str, Any] | None, pattern: str = "{:+.3f}") -> str:
    """Returns mean and standard deviation over folds: `+0.031 ± 0.012`."""
    if not found or found["mean"] is None:
        return "-"
    text = pattern.format(found["mean"])
    std = found["std"]
    return text if std is None else f"{text} ± {pattern.format(std).lstrip('+')}"


def wrap(text: str, *, width: int = WIDTH, indent: int = 0) -> str:
    """Returns text in lines, those below the first two spaces further in."""
    first = " " * indent
    return textwrap.fill(
        text, width, initial_indent=first, subsequent_indent=first + "  "
    )


def day(moment: Any) -> str:
    """Returns a moment as date and minute."""
    return f"{pd.Timestamp(moment):%Y-%m-%d %H:%M}"
