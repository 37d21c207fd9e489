"""CSV text of candles -> its columns: which lines are rows, which above are names.

In: telling rows from headers and comments. Out: how text is cut into cells
(`files.text`), packed files (`formats`), what the columns are (`layouts`).
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import IO

import pyarrow as pa

from candles.columns import FETCH_AGAIN
from candles.layouts import (
    Layout,
    are_numbers,
    layout_of_names,
)
from candles.places import layout_of_rows
from files.plain_text import is_grouped, ungrouped_cell
from files.text import (
    BLANK,
    DELIMITERS,
    Form,
    convert,
    is_number,
    number_signs,
    refusal,
    refuse_broken_off,
    text_lines,
)
from utils import DataError

_SHOWN_LINES = 50


def read_text(stream: IO[bytes], path: Path) -> tuple[pa.Table, Layout]:
    """Returns the columns of a CSV, named by their positions, and what they are.

    Raises:
        DataError: If it is no CSV of candles, or breaks off.
    """
    stream, lines = text_lines(stream, path)
    form = _form_of(lines, path)
    refuse_broken_off(stream, form, path, is_row=_is_row)
    if form.names is None:
        layout = layout_of_rows([_plain(row, form) for row in form.rows], path)
        layout = layout.shifted() if form.counted else layout
    else:
        layout = layout_of_names(form.names, path)
    texts = layout.texts()
    types = {i: pa.string() if i in texts else pa.float64() for i in layout.positions()}
    return convert(stream, form, types, path), layout


def _form_of(lines: Sequence[str], path: Path) -> Form:
    scores = {}
    for delimiter in DELIMITERS:
        cells = list(csv.reader(lines, delimiter=delimiter))
        rows = [row for row in cells if _is_row(row)]
        scores[delimiter] = (len(rows), cells)
    delimiter = max(scores, key=lambda sign: scores[sign][0])
    count, cells = scores[delimiter]
    if not count or len(cells) != len(lines):  # quoted newlines are no candles
        raise _no_rows(lines, path)
    start = next(i for i, row in enumerate(cells) if _is_row(row))
    counted = cells[start][0] == "" and are_numbers(cells[start][1:])
    if (counted or are_numbers(cells[start])) and start + 1 < len(cells):
        start += 1
        names = None
    else:
        names = _names(cells[:start], cells[start])
    rows = [row for row in cells[start:] if row]
    counted = counted or (names is None and _count(rows))
    decimal, thousands = number_signs(rows, path)
    return Form(
        delimiter=delimiter,
        decimal=decimal,
        thousands=thousands,
        names=names,
        skipped=start,
        rows=rows,
        counted=counted,
    )


def _count(rows: Sequence[Sequence[str]]) -> bool:
    """Whether the first cells count the rows, from 0 or 1."""
    firsts = [row[0] for row in rows]
    if len(rows) < 2 or not all(map(is_number, firsts)):
        return False
    if any("," in first or is_grouped(first) for first in firsts):
        return False
    numbers = [float(x) for x in firsts]
    return numbers[0] in (0, 1) and numbers == [
        numbers[0] + i for i in range(len(rows))
    ]


def _no_rows(lines: Sequence[str], path: Path) -> DataError:
    shown = lines[0][:80] if lines else ""
    if len(lines) == 1 and max(map(shown.count, DELIMITERS)) >= 4:
        return refusal(path, "candles", f"a CSV of one line: {shown!r}", FETCH_AGAIN)
    received = f"no such row; it begins with {shown!r}"
    cure = "Check that these are candles, with , ; tab or | between them."
    for number, line in enumerate(lines[:_SHOWN_LINES], 1):
        split = [next(csv.reader([line], delimiter=sign), []) for sign in DELIMITERS]
        cells = [cell.strip() for cell in min(split, key=lambda x: abs(len(x) - 6))]
        words = [cell for cell in cells[1:] if any(map(str.isdigit, cell))]
        words = [cell for cell in words if not is_number(cell) or is_grouped(cell)]
        if len(cells) > 4 and cells[0][:1].isdigit() and words:
            received = f"{', '.join(map(repr, words[:3]))} as numbers in line {number}"
            cure = "Write numbers without signs for thousands, units or currencies."
            break
    expected = "a CSV with rows of a time, four prices and a volume"
    return refusal(path, expected, received, cure)


def _is_row(cells: Sequence[str]) -> bool:
    """Whether a line is a row of candles, not a name, a comment or nothing."""
    if len(cells) < 5:
        return False
    numbers = [is_number(cell) for cell in cells]
    blank = [cell.strip().lower() in BLANK for cell in cells]
    has_time = any(map(str.isdigit, cells[0] + cells[1]))
    is_blank = has_time and sum(map(max, numbers, blank)) >= len(cells) - 1
    return sum(numbers) >= 4 or is_blank


def _names(above: Sequence[list[str]], row: Sequence[str]) -> list[str] | None:
    """Returns the names in the lines above the first row, as many as it has cells."""
    width = len(row)
    headers = []
    for cells in above:
        if len(cells) == width - 1 and row[-1].strip() == "":  # rows end with a comma
            cells = [*cells, " "]
        elif len(cells) == width - 1 >= 6 and is_number(row[0]):
            cells = ["", *cells]  # R writes the numbers of rows without a name
        if len(cells) == width:
            cells = [cells[0].lstrip("#%/ "), *cells[1:]]
            headers.append([cell.strip() for cell in cells])
    if not headers:
        return None
    merged = ["\n".join(filter(None, names)) for names in zip(*headers, strict=True)]
    return merged


def _plain(row: list[str], form: Form) -> list[str]:
    """Returns the cells of a row as programs write them, without its number."""
    cells = [ungrouped_cell(cell, form.thousands) for cell in row[form.counted :]]
    return [cell.replace(",", ".") for cell in cells] if form.decimal == "," else cells
