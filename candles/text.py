"""CSV text -> its columns: encodings, separators, header lines, decimal commas.

In: how a file of text is cut into rows and cells. Out: packed files (`formats`), what
the columns are (`layouts`).
"""

from __future__ import annotations

import contextlib
import csv
import io
import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv

from candles.columns import FETCH_AGAIN, looks_like, refusal
from candles.layouts import (
    Layout,
    are_numbers,
    layout_of_names,
    layout_of_places,
)
from candles.rows import require_order
from candles.timestamps import goes_back
from utils import DataError, counted

logger = logging.getLogger(__name__)

_HEAD_BYTES = 2**17
_DELIMITERS = (",", ";", "\t", "|")
_DECIMAL_COMMA = re.compile(r"[+-]?\d+,\d+(?:[eE][+-]?\d+)?")
_BLANK = ("", "nan", "null", "none", "na", "n/a", "-")
_MARKS = {b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Form:
    """How a file of text is written.

    Args:
        delimiter: Between cells.
        decimal: The decimal sign.
        names: Of the columns, those of several header lines parted by newlines; None
            where there are none.
        skipped: Lines above the first row, comments and header.
        rows: Cells of the first rows.
    """

    delimiter: str
    decimal: str
    names: list[str] | None
    skipped: int
    rows: list[list[str]]
    counted: bool
    """Whether the first column counts rows, in a file without names."""


def read_text(stream: IO[bytes], path: Path) -> tuple[pa.Table, Layout]:
    """Returns the columns of a CSV, named by their positions, and what they are.

    Raises:
        DataError: If it is no CSV of candles, or breaks off.
    """
    head = stream.read(_HEAD_BYTES)
    if encoding := _MARKS.get(head[:2]):
        with contextlib.suppress(UnicodeError):
            text = (head + stream.read()).decode(encoding)
            stream, head = io.BytesIO(text.encode()), text.encode()[:_HEAD_BYTES]
    is_whole = len(head) < _HEAD_BYTES
    lines = _lines(head, path, is_whole=is_whole)
    form = _form_of(lines, path)
    _refuse_broken_off(stream, form, path)
    if form.names is None:
        columns = _numbers(form)[form.counted :]
        layout = layout_of_places(columns, path)
        places = [i + form.counted for i, _, _ in layout.times]
        back = goes_back([" ".join(row[i] for i in places) for row in form.rows])
        require_order(dict(enumerate(columns)), layout, path, newest_first=back)
        layout = layout.shifted() if form.counted else layout
    else:
        layout = layout_of_names(form.names, path)
    return _convert(stream, form, layout, path), layout


def _lines(head: bytes, path: Path, *, is_whole: bool) -> list[str]:
    """Returns the first lines, without the one that the limit cuts."""
    start = head.removeprefix(b"\xef\xbb\xbf")
    if not is_whole:  # the last cut character and line
        start = start[: max(start.rfind(b"\n"), start.rfind(b"\r")) + 1] or start
    try:
        text = start.decode()
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        raise refusal(path, "CSV text", looks_like(head), "Rename or convert it.")
    lines = re.split(r"\r\n|\n|\r", text)
    return lines[:-1] if lines and not lines[-1] else lines


def _form_of(lines: Sequence[str], path: Path) -> _Form:
    scores = {}
    for delimiter in _DELIMITERS:
        cells = list(csv.reader(lines, delimiter=delimiter))
        rows = [row for row in cells if _is_row(row, delimiter)]
        scores[delimiter] = (len(rows), cells)
    delimiter = max(scores, key=lambda sign: scores[sign][0])
    count, cells = scores[delimiter]
    if not count or len(cells) != len(lines):  # quoted newlines are no candles
        raise _no_rows(lines, path)
    start = next(i for i, row in enumerate(cells) if _is_row(row, delimiter))
    counted = cells[start][0] == "" and are_numbers(cells[start][1:])
    if (counted or are_numbers(cells[start])) and start + 1 < len(cells):
        start += 1
        names = None
    else:
        names = _names(cells[:start], cells[start])
    rows = [row for row in cells[start:] if row]
    flat = (cell for row in rows[:50] for cell in row[1:])
    has_comma = delimiter != "," and any(map(_DECIMAL_COMMA.fullmatch, flat))
    return _Form(
        delimiter=delimiter,
        decimal="," if has_comma else ".",
        names=names,
        skipped=start,
        rows=rows,
        counted=counted,
    )


def _no_rows(lines: Sequence[str], path: Path) -> DataError:
    shown = lines[0][:80] if lines else ""
    if len(lines) == 1 and max(map(shown.count, _DELIMITERS)) >= 4:
        return refusal(path, "candles", f"a CSV of one line: {shown!r}", FETCH_AGAIN)
    return refusal(
        path,
        "a CSV with rows of a time, four prices and a volume",
        f"no such row; it begins with {shown!r}",
        "Check that these are candles, with , ; tab or | between them.",
    )


def _is_row(cells: Sequence[str], delimiter: str) -> bool:
    """Whether a line is a row of candles, not a name, a comment or nothing."""
    if len(cells) < 5 or not any(map(str.isdigit, cells[0] + cells[1])):
        return False
    numbers = [_is_number(cell, delimiter) for cell in cells]
    blank = [cell.strip().lower() in _BLANK for cell in cells]
    return sum(numbers) >= 4 or sum(map(max, numbers, blank)) >= len(cells) - 1


def _is_number(cell: str, delimiter: str) -> bool:
    if delimiter != "," and _DECIMAL_COMMA.fullmatch(cell.strip()):
        return True
    try:
        float(cell)
    except ValueError:
        return False
    return cell.strip().lower() != "nan"


def _names(above: Sequence[list[str]], row: Sequence[str]) -> list[str] | None:
    """Returns the names in the lines above the first row, as many as it has cells."""
    width = len(row)
    headers = []
    for cells in above:
        if len(cells) == width - 1 and row[-1].strip() == "":  # rows end with a comma
            cells = [*cells, " "]
        elif len(cells) == width - 1 >= 6 and _is_number(row[0], ","):
            cells = ["", *cells]  # R writes the numbers of rows without a name
        if len(cells) == width:
            cells = [cells[0].lstrip("#%/ "), *cells[1:]]
            headers.append([cell.strip() for cell in cells])
    if not headers:
        return None
    merged = ["\n".join(filter(None, names)) for names in zip(*headers, strict=True)]
    return merged


def _numbers(form: _Form) -> list[np.ndarray]:
    """Returns the columns of the first rows as numbers, NaN where they are none."""
    width = len(form.rows[0])

    def number(cell: str) -> float:
        try:
            return float(cell.replace(",", ".") if form.decimal == "," else cell)
        except ValueError:
            return np.nan

    rows = [row for row in form.rows if len(row) == width]
    return [np.array([number(row[i]) for row in rows]) for i in range(width)]


def _refuse_broken_off(stream: IO[bytes], form: _Form, path: Path) -> None:
    """Refuses a last line that lacks cells; says that one lacks its newline."""
    size = stream.seek(0, io.SEEK_END)
    stream.seek(max(0, size - 2**16))
    tail = stream.read()
    if tail[-1:] in b"\r\n":
        return
    last = re.split(rb"\r\n|\n|\r", tail)[-1].decode(errors="replace")
    cells = next(csv.reader([last], delimiter=form.delimiter), [])
    if len(cells) < len(form.rows[0]) or not _is_row(cells, form.delimiter):
        raise refusal(
            path,
            "a CSV whose last line is whole",
            "a last line that breaks off: the file is probably truncated",
            "Fetch it again, or remove the line.",
        )
    logger.info("%s: its last line has all cells and no newline: taken", path)


def _convert(stream: IO[bytes], form: _Form, layout: Layout, path: Path) -> pa.Table:
    width = len(form.rows[0])
    types = {
        f"{i}": pa.string() if i in layout.texts() else pa.float64()
        for i in layout.positions()
    }
    reading = pa_csv.ReadOptions(
        column_names=[str(i) for i in range(width)], skip_rows=form.skipped
    )
    converting = pa_csv.ConvertOptions(
        column_types=types,
        include_columns=list(types),
        decimal_point=form.decimal,
        null_values=["", "NaN", "nan", "null", "NULL", "None", "NA", "N/A", "n/a", "-"],
    )

    def convert(*, use_threads: bool) -> pa.Table:
        stream.seek(0)
        reading.use_threads = use_threads
        parsing = pa_csv.ParseOptions(delimiter=form.delimiter)
        file = pa.PythonFile(stream, mode="r")
        return pa_csv.read_csv(file, reading, parsing, converting)

    try:
        with contextlib.suppress(pa.ArrowInvalid):
            return convert(use_threads=True)
        return convert(use_threads=False)  # fails again, and names the row
    except pa.ArrowInvalid as error:
        stream.seek(0)
        received = _first_fault(stream, form, layout) or str(error)
        expected = "numbers in rows of equal length"
        raise refusal(path, expected, received, "Repair the line.") from error


def _first_fault(stream: IO[bytes], form: _Form, layout: Layout) -> str:
    """Returns which line is not as the others are; empty where none is found."""
    width = len(form.rows[0])
    numbers = [i for i in layout.positions() if i not in layout.texts()]
    text = io.TextIOWrapper(stream, encoding="utf-8-sig", errors="replace")
    try:
        for number, cells in enumerate(csv.reader(text, delimiter=form.delimiter), 1):
            if number <= form.skipped or not cells:
                continue
            if len(cells) != width:
                had = counted(len(cells), "cell", "cells")
                return f"line {number} has {had}, the first row {width}"
            for i in numbers:
                cell = cells[i].strip()
                is_number = _is_number(cell, form.delimiter)
                if not is_number and cell.lower() not in _BLANK:
                    name = form.names[i] if form.names else f"column {i + 1}"
                    return f"line {number} has {cell[:40]!r} in {name!r}"
    except csv.Error:
        pass
    finally:
        text.detach()
    return ""
