"""freqtrade's HDF5 layout, read through h5py, which runs no pickles.

In: one table of candles in a tree of nodes. Out: every other format (`formats`).
"""

from __future__ import annotations

import contextlib
import importlib
from pathlib import Path
from typing import Any

import pyarrow as pa

from candles.columns import MAX_ROWS, VALUES, refusal
from candles.layouts import Layout, layout_of_names
from utils import DependencyError

MAX_BYTES_PER_BYTE = 100
"""Bytes of a table that a byte of its file may stand for: packed candles have ten."""


def read_hdf5(path: Path) -> tuple[pa.Table, Layout]:
    """Returns the columns of a file, named by their positions, and what they are.

    Raises:
        DataError: If it has not exactly one such table.
        DependencyError: If h5py or the filter of the file is not installed.
    """
    needs = (
        f"{path}: reading HDF5 needs h5py and hdf5plugin. "
        "Install them with: pip install -r requirements-data.txt"
    )
    try:
        h5py = importlib.import_module("h5py")
    except ImportError as error:
        raise DependencyError(needs) from error
    with contextlib.suppress(ImportError):
        importlib.import_module("hdf5plugin")  # the blosc filter that freqtrade uses
    expected = "one freqtrade table with 'date' and five float columns"
    nodes: list[Any] = []
    with h5py.File(path, "r") as file:
        file.visititems(lambda _, node: nodes.append(node))
        tables = [n for n in nodes if isinstance(n, h5py.Dataset) and n.dtype.names]
        tables = [n for n in tables if n.name.endswith("/table")]
        if len(tables) != 1:
            received = f"{len(tables)} tables"
            raise refusal(path, expected, received, "Keep one pair per file.")
        if problem := _oddness(tables[0], path.stat().st_size):
            raise refusal(path, expected, problem, "Do not use this file.")
        filters = tables[0].id.get_create_plist()
        codes = [filters.get_filter(i)[0] for i in range(filters.get_nfilters())]
        if not all(h5py.h5z.filter_avail(code) for code in codes):
            raise DependencyError(needs)
        rows = tables[0][:]
        kinds = bytes(tables[0].attrs.get("values_block_0_kind", b""))
    names = list(rows.dtype.names)
    if "values_block_0" in names and "date" in names:
        # The column names are a pickle; their order can be seen without running it.
        block = rows["values_block_0"]
        once = all(kinds.count(name.encode()) == 1 for name in VALUES)
        if not once or block.shape != (len(rows), len(VALUES)):
            raise refusal(path, expected, "other columns", "Convert it to feather.")
        order = sorted(VALUES, key=lambda name: kinds.find(name.encode()))
        names = ["timestamp", *order]
        columns = [rows["date"], *(block[:, i].copy() for i in range(len(order)))]
    else:
        columns = [rows[name] for name in names]
    layout = layout_of_names(names, path)
    return pa.table({str(i): columns[i] for i in layout.positions()}), layout


def _oddness(table: Any, file_bytes: int) -> str | None:
    """Returns why a table is not read: what it is, or how much it would take."""
    if table.ndim != 1 or table.external or table.is_virtual or len(table) > MAX_ROWS:
        return f"a table of shape {table.shape}, in one piece or in other files"
    kinds = {table.dtype[name].base.kind for name in table.dtype.names}
    if not kinds <= set("iuf"):
        return "columns that are no numbers"
    # A few bytes may say that they stand for any number of rows, or be one large chunk.
    held = max(len(table), *(table.chunks or (0,))) * table.dtype.itemsize
    limit = MAX_BYTES_PER_BYTE * file_bytes + 2**24
    return f"{held} bytes in a file of {file_bytes}" if held > limit else None
