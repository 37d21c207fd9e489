"""Text as people and programs lay it out -> text as a CSV has it.

In: columns set apart by spaces, signs for thousands, lines of names that come again.
Out: cutting text into cells, their types (`text`).
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterable, Sequence
from typing import IO

_GROUPED = re.compile(
    r"[+-]?\d{1,3}(?P<sign>[,.' \u2019\u00a0\u202f])\d{3}(?:(?P=sign)\d{3})*"
    r"(?:(?P<decimal>[.,])\d+)?"
)
_PLAIN = re.compile(
    r"[+-]?(?P<whole>\d*)(?P<decimal>[.,])(?P<rest>\d+)(?:[eE][+-]?\d+)?"
)
_CLOCK = re.compile(r"\d{1,2}:\d{2}(:\d{2}([.,]\d+)?)?(Z|[+-]\d{2}:?\d{2})?")
_LEAST_CELLS = 5
_LOOKED_AT = 50


def is_grouped(cell: str) -> bool:
    """Whether a cell is a number with signs for thousands: `1,234.50`, `1 234`."""
    found = _GROUPED.fullmatch(cell.strip())
    return found is not None and found["sign"] != found["decimal"]


def signs_of(cells: Iterable[str]) -> tuple[set[str], set[str], str]:
    """Returns what cells of numbers show: decimal signs, signs for thousands.

    Third is a cell whose comma may be either, where nothing tells.
    """
    decimals: set[str] = set()
    groups: set[str] = set()
    unclear: dict[str, str] = {}
    for cell in map(str.strip, cells):
        grouped = _GROUPED.fullmatch(cell) if is_grouped(cell) else None
        plain = _PLAIN.fullmatch(cell)
        if grouped and (grouped["decimal"] or plain is None):
            groups.add(grouped["sign"])
            decimals |= {grouped["decimal"]} - {None}
        elif plain and (grouped is None or plain["whole"] == "0"):
            decimals.add(plain["decimal"])
        elif plain:
            unclear[plain["decimal"]] = cell
    if len(decimals) == 1:
        groups |= {*unclear} - decimals
        return decimals, groups, ""
    return decimals, groups, "" if groups else unclear.get(",", "")


def rewritten(stream: IO[bytes], change: Callable[[str], str]) -> IO[bytes]:
    """Returns a stream of other text, made of that of one."""
    stream.seek(0)
    text = stream.read().decode("utf-8-sig", errors="replace")
    return io.BytesIO(change(text).encode())


def ungrouped(text: str, delimiter: str, sign: str) -> str:
    """Returns the text of a CSV whose numbers have no signs for thousands."""
    out = io.StringIO()
    writer = csv.writer(out, delimiter=delimiter, lineterminator="\n")
    for row in csv.reader(io.StringIO(text), delimiter=delimiter):
        writer.writerow([ungrouped_cell(cell, sign) for cell in row])
    return out.getvalue()


def ungrouped_cell(cell: str, sign: str) -> str:
    """Returns a number without its signs for thousands, any other cell as it is."""
    found = _GROUPED.fullmatch(cell.strip())
    is_number = found is not None and found["sign"] == sign != found["decimal"]
    return cell.replace(sign, "") if is_number else cell


def without_repeated(stream: IO[bytes], num_above: int) -> tuple[IO[bytes], int]:
    """Leaves out lines that come again of the first ones; returns how many."""
    num_dropped = 0

    def change(text: str) -> str:
        nonlocal num_dropped
        lines = text.splitlines(keepends=True)
        above = {line.strip() for line in lines[:num_above]} - {""}
        below = [line for line in lines[num_above:] if line.strip() not in above]
        num_dropped = len(lines) - num_above - len(below)
        return "".join([*lines[:num_above], *below])

    return rewritten(stream, change), num_dropped


def from_spaces(text: str, delimiters: Sequence[str]) -> str | None:
    """Returns a table whose columns are set apart by spaces, with tabs; None of others.

    A day and a time of day stay one cell where the names say so.
    """
    lines = [line for line in text.splitlines()[:_LOOKED_AT] if line.strip()]
    rows = [line.split() for line in lines if not line.startswith("#")]
    if any(sign in line for line in lines for sign in delimiters) or len(rows) < 2:
        return None
    width, above = len(rows[-1]), len(rows[0])
    if width < _LEAST_CELLS or {len(row) for row in rows[1:]} != {width}:
        return None
    joined = above == width - 1 and _CLOCK.fullmatch(rows[-1][1]) is not None
    if above != width and not joined:
        return None
    cells = (line.split() for line in text.splitlines())
    if joined:
        cells = ([" ".join(x[:2]), *x[2:]] if len(x) == width else x for x in cells)
    return "".join("\t".join(row) + "\n" for row in cells)
