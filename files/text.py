"""CSV text -> columns: encodings, line ends, separators, decimal commas.

In: how text is cut into lines and cells, and converted; a table below one line of names
(`read_csv`). Out: packed files (`packed`), tables whose names and places tell what they
are (`candles.text`).
"""

from __future__ import annotations

import contextlib
import csv
import io
import logging
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import pyarrow as pa
import pyarrow.csv as pa_csv

from files.plain_text import (
    from_spaces,
    is_grouped,
    rewritten,
    signs_of,
    ungrouped,
    without_repeated,
)
from utils import DataError, counted

logger = logging.getLogger(__name__)

DELIMITERS = (",", ";", "\t", "|")
BLANK = ("", "nan", "null", "none", "na", "n/a", "-")
"""Cells that say that there is no value, in small letters."""

MAGIC = {
    b"ARROW1": "a feather (Arrow) file",
    b"FEA1": "a feather file of the old version 1",
    b"PAR1": "a parquet file",
    b"PK\x03\x04": "a zip archive",
    b"\x1f\x8b": "a gzip file",
    b"\x89HDF": "an HDF5 file",
}

_HEAD_BYTES = 2**17
_DECIMAL_COMMA = re.compile(r"[+-]?\d+,\d+(?:[eE][+-]?\d+)?")
_MARKS = {b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}
_NULLS = ["", "NaN", "nan", "null", "NULL", "None", "NA", "N/A", "n/a", "-"]
_MAX_EXACT_DIGITS = 15


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """How a file of text is written.

    Args:
        delimiter: Between cells.
        decimal: The decimal sign.
        names: Of the columns, those of several header lines parted by newlines; None
            where there are none.
        thousands: The sign between thousands; empty without one.
        skipped: Lines above the first row, comments and header.
        rows: Cells of the first rows, at least one.
        counted: Whether the first column counts rows, in a file without names.
    """

    delimiter: str
    decimal: str
    names: list[str] | None
    skipped: int
    rows: list[list[str]]
    counted: bool = False
    thousands: str = ""

    @property
    def width(self) -> int:
        """Number of columns."""
        return len(self.rows[0])


def refusal(path: Path, expected: str, received: str, cure: str) -> DataError:
    """Returns the error of a file that is not read, with the cure."""
    return DataError(f"{path}: expected {expected}. Received: {received}. {cure}")


def looks_like(head: bytes) -> str:
    """Returns what the first bytes of a file say that it is."""
    for magic, what in MAGIC.items():
        if head.startswith(magic):
            return what
    start = head[:40].split(b"\n")[0]
    if start and all(byte == 9 or 32 <= byte < 127 for byte in start.strip(b"\r")):
        return f"text that begins with {start.decode()!r}"
    return f"bytes that begin with {start[:8]!r}"


# A table below one line of names


def read_csv(stream: IO[bytes], path: Path) -> pa.Table:
    """Returns the columns of a CSV whose first line that says something names them.

    Numbers become float64, or int64 where float64 would round them. A column without
    a name is called as pandas calls it, `Unnamed: 0`.

    Raises:
        DataError: If it is no text, has no names, or breaks off.
    """
    stream, lines = text_lines(stream, path)
    form = _form_below_names(lines, path)
    names = form.names or []
    if not form.rows:
        return pa.table({name: pa.array([], pa.float64()) for name in names})
    columns = [*zip(*_even(form.rows), strict=True)]
    above = [*zip(*_even(form.rows[:-1] or form.rows), strict=True)]
    refuse_broken_off(stream, form, path, is_row=lambda cells: _goes_on(cells, above))
    types = dict(enumerate(map(_type_of, columns)))
    try:
        table = convert(stream, form, types, path)
    except DataError:
        # A type that Arrow told from the first rows need not be that of all.
        types = {i: kind or pa.string() for i, kind in types.items()}
        table = convert(stream, form, types, path)
    return table.rename_columns(names)


def _form_below_names(lines: Sequence[str], path: Path) -> Form:
    start = 0
    while start < len(lines) and _says_nothing(lines[start]):
        start += 1
    if start == len(lines):
        raise refusal(path, "a CSV", "no line with names", "Make the file again.")
    delimiter = max(DELIMITERS, key=lambda sign: len(_cells(lines[start], sign)))
    names = _cells(lines[start], delimiter)
    if start and len(above := _cells(lines[start - 1], delimiter)) == len(names):
        start, names = start - 1, [above[0].lstrip("#%/ "), *above[1:]]
    names = [name.strip() for name in names]
    if len(names) > 1 and all(is_number(name) for name in names):
        raise refusal(
            path,
            "names of the columns in the first line",
            f"numbers: {lines[start][:60]!r}",
            "Write a line of names above the rows.",
        )
    below = [
        line for line in lines[start + 1 :] if line.strip() != lines[start].strip()
    ]
    rows = [row for row in csv.reader(below, delimiter=delimiter) if row]
    if rows and len(rows[0]) == len(names) + 1:
        # Rows may end with a separator; R has no name for the numbers of rows.
        names = [*names, ""] if not rows[0][-1].strip() else ["", *names]
    decimal, thousands = number_signs(rows, path)
    return Form(
        delimiter=delimiter,
        decimal=decimal,
        thousands=thousands,
        names=[name or f"Unnamed: {i}" for i, name in enumerate(names)],
        skipped=start + 1,
        rows=rows,
    )


def _says_nothing(line: str) -> bool:
    return not line.strip() or line.startswith("#") or line.startswith("sep=")


def _cells(line: str, delimiter: str) -> list[str]:
    return next(csv.reader([line], delimiter=delimiter), [])


def _even(rows: Sequence[list[str]]) -> list[list[str]]:
    return [row for row in rows if len(row) == len(rows[0])]


def _goes_on(cells: Sequence[str], columns: Sequence[Sequence[str]]) -> bool:
    """Whether cells could be a whole row: numbers where they are, words as long."""
    return len(cells) == len(columns) and all(
        is_number(cell) or len(cell) in set(map(len, column))
        for cell, column in zip(cells, columns, strict=True)
    )


def _type_of(cells: Sequence[str]) -> pa.DataType | None:
    """Returns the type of a column of numbers, None for another one."""
    known = [cell.strip() for cell in cells if cell.strip().lower() not in BLANK]
    if not known or not all(is_number(cell) for cell in known):
        return None
    longest = max(sum(map(str.isdigit, cell)) for cell in known)
    are_whole = all(cell.lstrip("+-").isdigit() for cell in known)
    if are_whole and longest > _MAX_EXACT_DIGITS:
        return pa.int64()
    return pa.float64()


# Lines and cells


def text_lines(stream: IO[bytes], path: Path) -> tuple[IO[bytes], list[str]]:
    """Returns a stream of UTF-8, and its first lines without one that a limit cuts.

    Raises:
        DataError: If it is no text.
    """
    head = stream.read(_HEAD_BYTES)
    if encoding := _MARKS.get(head[:2]) or _unmarked_encoding(head):
        with contextlib.suppress(UnicodeError):
            text = (head + stream.read()).decode(encoding)
            stream, head = io.BytesIO(text.encode()), text.encode()[:_HEAD_BYTES]
    start = head.removeprefix(b"\xef\xbb\xbf")
    if len(head) == _HEAD_BYTES:  # the last cut character and line
        start = start[: max(start.rfind(b"\n"), start.rfind(b"\r")) + 1] or start
    cure, found = "Rename or convert it.", looks_like(head)
    if b"\0" in start:
        found += ", with NUL bytes in it" if found.startswith("text") else ""
        raise refusal(path, "CSV text", found, cure)
    try:
        text = start.decode()
    except UnicodeDecodeError as error:
        plain = sum(byte in b"\t\r\n" or 32 <= byte < 127 for byte in start[:1000])
        if plain > 0.9 * len(start[:1000]):
            found = f"another encoding than UTF-8, at byte {error.start}"
            cure = "Save it as UTF-8."
        raise refusal(path, "CSV text", found, cure) from error
    if text.lstrip()[:1] in ("[", "{"):
        raise refusal(path, "CSV text", "JSON", "Name it .json.")
    if (spaced := from_spaces(text, DELIMITERS)) is not None:
        logger.info("%s: cells read as set apart by spaces", path)
        stream = rewritten(stream, lambda text: from_spaces(text, DELIMITERS) or text)
        text = spaced
    lines = re.split(r"\r\n|\n|\r", text)
    return stream, lines[:-1] if lines and not lines[-1] else lines


def _unmarked_encoding(head: bytes) -> str:
    """Returns the kind of UTF-16 that ASCII text without a mark is in, else nothing."""
    first, second = head[:64:2], head[1:64:2]
    if any(first) and not any(second):
        return "utf-16-le"
    return "utf-16-be" if any(second) and not any(first) else ""


def is_number(cell: str) -> bool:
    """Whether a cell reads as a number, also with a decimal comma."""
    if _DECIMAL_COMMA.fullmatch(cell.strip()) or is_grouped(cell):  # or was quoted
        return True
    try:
        float(cell)
    except ValueError:
        return False
    return cell.strip().lower() != "nan"


def number_signs(rows: Sequence[Sequence[str]], path: Path) -> tuple[str, str]:
    """Returns the signs of decimals and of thousands in the first rows' cells.

    Those of times are left aside; of thousands there may be none.

    Raises:
        DataError: If a sign may stand for either.
    """
    decimals, groups, unclear = signs_of(cell for row in rows for cell in row[1:])
    if unclear:
        raise refusal(
            path,
            "numbers that can be read in one way",
            f"{unclear!r} and the like, whose comma may stand for thousands",
            "Write decimals with a point.",
        )
    if len(decimals) > 1 or len(groups) > 1 or decimals & groups:
        raise refusal(
            path,
            "one sign for decimals, another one for thousands",
            " and ".join(map(repr, sorted(decimals | groups))) + " in turns",
            "Write decimals with a point, thousands without a sign.",
        )
    return min(decimals, default="."), min(groups, default="")


def refuse_broken_off(
    stream: IO[bytes],
    form: Form,
    path: Path,
    *,
    is_row: Callable[[Sequence[str]], bool],
) -> None:
    """Refuses a last line that lacks cells; says that one lacks its newline."""
    size = stream.seek(0, io.SEEK_END)
    stream.seek(max(0, size - 2**16))
    tail = stream.read()
    if tail[-1:] in b"\r\n":
        return
    last = re.split(rb"\r\n|\n|\r", tail)[-1].decode(errors="replace")
    cells = _cells(last, form.delimiter)
    if len(cells) < form.width or not is_row(cells):
        raise refusal(
            path,
            "a CSV whose last line is whole",
            "a last line that breaks off: the file is probably truncated",
            "Fetch it again, or remove the line.",
        )
    logger.info("%s: its last line has all cells and no newline: taken", path)


def convert(
    stream: IO[bytes], form: Form, types: Mapping[int, pa.DataType | None], path: Path
) -> pa.Table:
    """Returns columns named by their positions.

    Args:
        stream: The text.
        form: How it is written.
        types: Position -> type of the columns to read; None tells it from the rows.
        path: The file, for errors.
    """
    reading = pa_csv.ReadOptions(
        column_names=[str(i) for i in range(form.width)], skip_rows=form.skipped
    )
    converting = pa_csv.ConvertOptions(
        column_types={str(i): kind for i, kind in types.items() if kind is not None},
        include_columns=[str(i) for i in types],
        decimal_point=form.decimal,
        null_values=_NULLS,
    )

    if form.thousands:
        logger.info("%s: %r read as the sign for thousands", path, form.thousands)
        signs = form.delimiter, form.thousands
        stream = rewritten(stream, lambda text: ungrouped(text, *signs))

    def parse(*, use_threads: bool) -> pa.Table:
        reading.use_threads = use_threads
        parsing = pa_csv.ParseOptions(delimiter=form.delimiter)
        with _native(stream) as source:
            return pa_csv.read_csv(source, reading, parsing, converting)

    try:
        with contextlib.suppress(pa.ArrowInvalid):
            return parse(use_threads=True)
        if form.names is not None:
            stream, count = without_repeated(stream, form.skipped)
            if count:
                what = counted(count, "line repeats", "lines repeat")
                logger.info("%s: %s the names: left out", path, what)
        return parse(use_threads=False)  # fails again, and names the row
    except pa.ArrowInvalid as error:
        stream.seek(0)
        numbers = [i for i, kind in types.items() if kind not in (None, pa.string())]
        received = _first_fault(stream, form, numbers) or str(error)
        expected = "numbers in rows of equal length"
        raise refusal(path, expected, received, "Repair the line.") from error


def _native(stream: IO[bytes]) -> pa.NativeFile:
    """Returns a stream without Python in it: Arrow's threads may outlive its calls.

    One that asks for the interpreter while that ends takes the process down with it.
    """
    if isinstance(name := getattr(stream, "name", None), str | os.PathLike):
        return pa.OSFile(os.fspath(name))
    size = stream.seek(0, io.SEEK_END)
    stream.seek(0)
    buffer = pa.allocate_buffer(size)
    memoryview(buffer).cast("B")[:] = stream.read()
    return pa.BufferReader(buffer)


def _first_fault(stream: IO[bytes], form: Form, numbers: Sequence[int]) -> str:
    """Returns which line is not as the others are; empty where none is found."""
    text = io.TextIOWrapper(stream, encoding="utf-8-sig", errors="replace")
    try:
        for number, cells in enumerate(csv.reader(text, delimiter=form.delimiter), 1):
            if number <= form.skipped or not cells:
                continue
            if form.names and cells == form.names:
                return f"line {number} is the header again"
            if len(cells) != form.width:
                had = counted(len(cells), "cell", "cells")
                return f"line {number} has {had}, the first row {form.width}"
            for i in numbers:
                cell = cells[i].strip()
                if cell.lower() not in BLANK and not is_number(cell):
                    name = form.names[i] if form.names else f"column {i + 1}"
                    return f"line {number} has {cell[:40]!r} in {name!r}"
    except csv.Error:
        pass
    finally:
        text.detach()
    return ""
