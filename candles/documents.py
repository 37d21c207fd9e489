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
    Layout,
    are_numbers,
    layout_of_names,
    names_prices,
)
from candles.places import layout_of_rows
from files.text import looks_like, refusal

_SAMPLE_ROWS = 1000
_MAX_DEPTH = 8
_TAKEN = ("time", "serverTime", "timestamp", "retrievedAt", "fetchedAt", "usOut")
"""Names beside the candles of an answer that say when it was given."""
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
    found = list(_tables(document, 0))
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
    """Yields the tables of candles in a document, wherever they are."""
    if depth > _MAX_DEPTH or not node:
        return
    if isinstance(node, list):
        if all(isinstance(row, list) for row in node):
            if node[0] and isinstance(node[0][0], list):  # pages of rows
                node = [row for page in node for row in page if isinstance(row, list)]
            width = len(node[0])
            if width >= 5 and all(len(row) == width for row in node):
                yield None, [*zip(*node, strict=True)]
            return
        if all(isinstance(row, dict) for row in node) and names_prices([*node[0]]):
            yield [*node[0]], [[row.get(name) for row in node] for name in node[0]]
            return
        items = node
    elif isinstance(node, dict):
        if table := _columns(node) or _records_by_time(node):
            yield table
            return
        items = list(node.values())
    else:
        return
    for item in items:
        yield from _tables(item, depth + 1)


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
