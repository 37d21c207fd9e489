"""JSON of exchanges, vendors and programs -> its columns, wherever they are wrapped.

In: lists of rows, lists of records, columns as arrays, pandas' forms, lines of records,
all of these inside `{"data": ...}` or deeper. Out: what the columns are (`layouts`).
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from candles.columns import FETCH_AGAIN
from candles.layouts import (
    SYMBOLS,
    Layout,
    are_numbers,
    layout_of_names,
    names_prices,
    plain_name,
)
from candles.places import layout_of_rows
from files.text import looks_like, refusal
from utils import DataError, counted

_SAMPLE_ROWS = 1000
_MAX_DEPTH = 8
_TAKEN = ("time", "serverTime", "timestamp", "retrievedAt", "fetchedAt", "usOut")
"""Names beside the candles of an answer that say when it was given."""
_SERIES = frozenset([*SYMBOLS.split(), *"i interval topic stream channel".split()])
_EXPECTED = (
    "JSON of candles: a list of rows [time, open, high, low, close, volume, ...], a "
    "list of records, or an array for each column"
)

Table = tuple[list[str] | None, list[Sequence[Any]]]
"""Names, None where there are none, and the cells of each column."""


def read_document(data: bytes, path: Path) -> tuple[pa.Table, Layout]:
    """Returns the columns of a JSON file, named by their positions, and what they are.

    Raises:
        DataError: If it is no JSON, or has not exactly one table of candles.
    """
    document = _load(data, path)
    if document == [] or document == {}:
        raise refusal(path, "candles", "a file without rows", FETCH_AGAIN)
    try:
        found = list(_tables(document, 0))
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
    series = [each for each in found if len(each[1][0]) > 1]
    found = series if len(series) == 1 else found  # beside it may be a last price
    if len(found) != 1:
        received = f"{len(found)} tables" if found else _shown(document)
        cure = (
            "Keep one table of one pair in a file."
            if found
            else "Check that these are candles, not an error or another answer."
        )
        raise refusal(path, _EXPECTED, received, cure)
    ((names, columns),) = found
    if not columns or not len(columns[0]):
        raise refusal(path, "candles", "a file without rows", FETCH_AGAIN)
    if names is None or are_numbers(names):
        head = (column[:_SAMPLE_ROWS] for column in columns)
        layout = layout_of_rows([*zip(*head, strict=True)], path)
    else:
        layout = layout_of_names(names, path)
    for side, moment in _own_times(document).items():
        layout.sides[side] = len(columns)
        columns.append([moment] * len(columns[0]))
    return pa.table(
        {
            str(i): _arrow(columns[i], path, is_text=i in layout.texts())
            for i in layout.positions()
        }
    ), layout


def _own_times(document: Any) -> dict[str, str]:
    """Returns when an answer was given, and the last bar that it calls committed."""
    if not isinstance(document, dict):
        return {}
    found = {"taken": next((document[k] for k in _TAKEN if k in document), None)}
    if isinstance(result := document.get("result"), dict):
        found["committed"] = result.get("last")  # Kraken
    return {k: str(v) for k, v in found.items() if isinstance(v, int | str)}


def _load(data: bytes, path: Path) -> Any:
    try:
        text = data.decode("utf-8-sig")
        try:
            return json.loads(text)
        except json.JSONDecodeError as error:
            lines = text.splitlines()
            if "Extra data" not in str(error) or len(lines) < 2:
                raise
            return [json.loads(line) for line in lines if line.strip()]
    except (ValueError, RecursionError) as error:
        found = looks_like(data)
        if found.startswith("text") and data.lstrip()[:1] not in (b"[", b"{"):
            raise refusal(
                path, _EXPECTED, found, "Rename it after what it is."
            ) from error
        raise refusal(path, _EXPECTED, f"broken JSON: {error}", FETCH_AGAIN) from error


def _tables(node: Any, depth: int) -> Iterator[Table]:
    """Yields the tables of candles in a document, wherever they are.

    Raises:
        DataError: If rows are not of one length, or pages are of two series.
    """
    if depth > _MAX_DEPTH or not node:
        return
    if isinstance(node, list):
        if all(isinstance(row, list) for row in node):
            yield from _tables_of_rows(node)
            return
        if all(isinstance(row, dict) for row in node):
            names = [*dict.fromkeys(name for row in node for name in row)]
            if names_prices(names) and names_prices([*node[-1]]):
                yield names, [[row.get(name) for row in node] for name in names]
                return
        found = [each for item in node for each in _tables(item, depth + 1)]
        yield from [_joined(found)] if _are_messages(node, found) else found
    elif isinstance(node, dict):
        if table := _columns(node) or _records_by_time(node) or _record(node):
            yield table
            return
        for item in node.values():
            yield from _tables(item, depth + 1)


def _tables_of_rows(rows: list[list[Any]]) -> Iterator[Table]:
    """Yields rows of cells, or of pages of them, as one table."""
    if rows[0] and isinstance(rows[0][0], list):
        firsts = [page[0][:1] for page in rows if page and isinstance(page[0], list)]
        if len(firsts) > 1 and all(first == firsts[0] for first in firsts):
            raise DataError(
                f"expected candles of one market. Received: {len(firsts)} tables of "
                "the same times, without names. Keep one of them in a file."
            )
        rows = [row for page in rows for row in page if isinstance(row, list)]
    width, others = len(rows[0]), Counter(map(len, rows))
    if width < 5 and max(others) < 5:
        return
    if len(others) > 1:
        usual = others.most_common(1)[0][0]
        odd = next(i for i, row in enumerate(rows) if len(row) != usual)
        raise DataError(
            f"expected rows of equal length. Received: "
            f"{counted(len(rows[odd]), 'cell', 'cells')} in row {odd}, and {usual} "
            f"in {others[usual]} of {len(rows)} rows. Repair the "
            "row, or fetch it again."
        )
    yield None, [*zip(*rows, strict=True)]


def _record(node: dict[str, Any]) -> Table | None:
    """Returns the one candle that a message has, such as one of a stream."""
    cells = {k: v for k, v in node.items() if not isinstance(v, list | dict)}
    return ([*cells], [[v] for v in cells.values()]) if names_prices([*cells]) else None


def _are_messages(items: list[Any], found: list[Table]) -> bool:
    """Whether several items have a table each, of one series and the same columns."""
    if len(found) < 2 or any(names != found[0][0] for names, _ in found):
        return False
    said: dict[str, set[str]] = {}
    for item in items:
        for name, text in _words(item, 0):
            said.setdefault(name, set()).add(text)
    return all(len(texts) == 1 for texts in said.values())


def _words(node: Any, depth: int) -> Iterator[tuple[str, str]]:
    """Yields what a message says in words about its series."""
    for name, value in node.items() if isinstance(node, dict) else ():
        if isinstance(value, str) and plain_name(name) in _SERIES:
            yield name, value
        elif depth < _MAX_DEPTH:
            yield from _words(value, depth + 1)


def _joined(found: Sequence[Table]) -> Table:
    names, columns = found[0]
    parts = (table for _, table in found)
    cells = zip(*parts, strict=True)
    return names, [[x for part in column for x in part] for column in cells]


def _columns(node: dict[str, Any]) -> Table | None:
    """Returns columns that stand as arrays under their names, side by side or nested.

    Pandas writes names and rows (`orient="split"`), or a mapping from the index to the
    cells for each name (`orient="columns"`).
    """
    names, rows, index = (node.get(key) for key in ("columns", "data", "index"))
    if isinstance(names, list) and isinstance(rows, list) and rows:
        if not all(isinstance(row, list) and len(row) == len(names) for row in rows):
            return None
        cells = dict(zip(map(str, names), zip(*rows, strict=True), strict=True))
        arrays: dict[str, Sequence[Any]] = {**cells}
        if isinstance(index, list) and not are_numbers(index):
            arrays["index"] = index
    elif names_prices([*node]) and all(isinstance(x, dict) for x in node.values()):
        arrays = {name: [*cells.values()] for name, cells in node.items()}
        keys = [*next(iter(node.values()))]
        arrays |= {} if are_numbers(keys) else {"index": keys}
    else:
        arrays = dict(_arrays(node, 0))
    lengths = Counter(map(len, arrays.values()))
    length = max(lengths, key=lengths.__getitem__, default=0)
    arrays = {name: cells for name, cells in arrays.items() if len(cells) == length}
    return ([*arrays], [*arrays.values()]) if names_prices([*arrays]) else None


def _records_by_time(node: dict[str, Any]) -> Table | None:
    records = list(node.values())
    if not all(isinstance(row, dict) for row in records):
        return None
    names = list(records[0])
    if not names_prices(names):
        return None
    cells: list[Sequence[Any]] = [[row.get(n) for row in records] for n in names]
    index = [] if are_numbers([*node]) else [[*node]]
    return ["index"] * len(index) + names, index + cells


def _arrays(node: dict[str, Any], depth: int) -> Iterator[tuple[str, Sequence[Any]]]:
    """Yields arrays of cells under their names, also a few levels deeper."""
    for name, value in node.items():
        if isinstance(value, list) and len(value) == 1 and isinstance(value[0], dict):
            value = value[0]
        if isinstance(value, dict) and depth < _MAX_DEPTH:
            yield from _arrays(value, depth + 1)
        elif isinstance(value, list) and not _is_nested(value):
            yield name, value


def _is_nested(cells: Sequence[Any]) -> bool:
    return any(isinstance(cell, list | dict) for cell in cells[:1])


def _arrow(cells: Sequence[Any], path: Path, *, is_text: bool) -> pa.Array:
    try:
        if not is_text and not isinstance(cells[0], str):
            return pa.array(cells, pa.float64())
        return pa.array(cells)
    except (pa.ArrowException, OverflowError, TypeError):
        pass
    texts = [None if cell is None else str(cell) for cell in cells]
    return pa.array(texts)


def _shown(document: Any) -> str:
    text = json.dumps(document)
    return text if len(text) <= 80 else f"{text[:80]}..."
