"""One file of candles -> its timestamps and five columns, not yet judged.

In: packed, Arrow, truncated and hostile files, folders. Out: text (`text`), JSON
(`documents`), which columns become the candles (`layouts`, `reading`), whether these
make sense (`checks`), joining files (`table`).
"""

from __future__ import annotations

import csv
import io
import logging
import os
import struct
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from candles.columns import (
    COLUMNS,
    FETCH_AGAIN,
    MAX_ROWS,
    extra_columns,
)
from candles.documents import read_document
from candles.hdf5 import read_hdf5
from candles.layouts import Layout, are_numbers, layout_of_names, names_prices
from candles.places import layout_of_rows
from candles.rows import read_columns, tidy_rows
from candles.text import read_text
from files import packed, tables
from files.plain_names import refuse_unsafe_names, refuse_unsafe_schema
from files.text import MAGIC, refusal
from settings.names import parse_candle_filename, plain_pair, stated_contents
from utils import DataError, MissingInputError, UserError, counted, did_you_mean

logger = logging.getLogger(__name__)

Part = tuple[pa.Table, Layout]
"""Columns named by their positions, and what they are."""

_PACKED_TEXT = (".csv", ".txt")
_FIRST_TIME = 10**9  # an index that counts from less counts rows
# What parsers raise on broken bytes; RuntimeError: an encrypted or unknown zip member.
_BROKEN = (
    pa.ArrowException,
    zipfile.BadZipFile,
    zlib.error,
    csv.Error,
    struct.error,
    EOFError,
    KeyError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
)


def read_file(
    path: str | os.PathLike[str], *, timezone: str | None = None
) -> pd.DataFrame:
    """Reads one file of any known format into the candle columns, unjudged.

    Args:
        path: A file with one of the suffixes of `_READERS`: CSV, JSON, both packed or
            not, feather, parquet, HDF5 of freqtrade, a zip of CSV files.
        timezone: Zone of times that state none, such as `Europe/Berlin`; None is UTC.

    Returns:
        Columns `timestamp` (datetime64[ns, UTC]) and open, high, low, close, volume
        (float64, NaN where a cell is empty), at least one row, in order of time where
        that is certain (see `rows.tidy_rows`). Its `attrs` have what is doubtful
        (`doubts`) and the market that a column states (`symbol`).

    Raises:
        MissingInputError: If there is no such file.
        DataError: If its content is not what its name says, or it changed meanwhile.
        DependencyError: If the format needs a package that is not installed.
    """
    path = Path(path)
    if not path.is_file():
        what = "a folder" if path.is_dir() else "nothing there"
        raise MissingInputError(
            f"{path}: expected a candle file. Received: {what}. Check the path."
        )
    suffix, reader = _reader_for(path)
    with open(path, "rb") as stream:  # a file that may not be read fails here
        before = os.fstat(stream.fileno())
    if before.st_size == 0:
        raise refusal(path, "candles", "an empty file (0 bytes)", FETCH_AGAIN)
    try:
        made = before.st_mtime_ns
        parts = [
            read_columns(*part, path, timezone=timezone, made=made)
            for part in reader(path)
        ]
    except UserError:
        raise
    except _BROKEN as error:
        words = " ".join(str(error).split())[:200] or type(error).__name__
        received = f"damaged content ({words})"
        raise refusal(
            path, f"an intact {suffix} file", received, FETCH_AGAIN
        ) from error
    after = os.stat(path)
    if _identity(before) != _identity(after):
        raise refusal(
            path,
            "a file that rests while it is read",
            f"{before.st_size} bytes before and {after.st_size} bytes after reading, "
            "or a new modification time",
            "Wait until its writer is done, then try again.",
        )
    return parts[0] if len(parts) == 1 else _in_order(parts, path)


def read_frame(frame: pd.DataFrame, *, timezone: str | None = None) -> pd.DataFrame:
    """Reads a DataFrame as a file of the same columns is read; the index is one, too.

    A column `is_filled` and those of `columns.extra_columns` are kept.

    Raises:
        DataError: If a column is missing or is not what its name says.
    """
    path = Path("the frame")
    if not len(frame):
        raise refusal(path, "candles", "no rows", "Give it rows.")
    extras = extra_columns(frame)
    kept = {name: frame[name].to_numpy(np.float64) for name in extras}
    frame = frame.drop(columns=extras)
    names = _column_names(frame.columns, path)
    columns = [frame.iloc[:, i] for i in range(len(names))]
    index = frame.index
    counts = isinstance(index, pd.RangeIndex) and index.start < _FIRST_TIME
    index = index.to_timestamp() if isinstance(index, pd.PeriodIndex) else index
    has_places = are_numbers(names)
    if not counts or index.name is not None:
        for level, name in enumerate(index.names):
            names.append("index" if name is None else str(name))
            columns.append(index.get_level_values(level).to_series())
    if has_places:
        layout = layout_of_rows(frame.head(1000).values.tolist(), path)
    else:
        refuse_unsafe_names(names, path)
        layout = layout_of_names(names, path)
    table = pa.table({str(i): _arrow_column(columns[i]) for i in layout.positions()})
    if "is_filled" in frame:
        kept["is_filled"] = frame["is_filled"].to_numpy(bool)
    return read_columns(table, layout, path, timezone=timezone, kept=kept)


def as_table(frame: pd.DataFrame) -> pd.DataFrame:
    """Returns a candle table as it is, and reads another DataFrame."""
    is_table = {*COLUMNS} <= {*frame.columns} and isinstance(
        frame["timestamp"].dtype, pd.DatetimeTZDtype
    )
    return frame if is_table else read_frame(frame)


def _column_names(columns: pd.Index, path: Path) -> list[str]:
    """Returns the columns' names; of yfinance's price and ticker the price."""
    levels = [
        columns.get_level_values(i).map(str).tolist() for i in range(columns.nlevels)
    ]
    prices = next((i for i, names in enumerate(levels) if names_prices(names)), 0)
    for level, others in enumerate(levels):
        found = [*dict.fromkeys(filter(None, others))]
        if level != prices and len(found) > 1:
            received = f"columns of {', '.join(map(repr, found[:5]))}"
            cure = f"Take those of one: frame.xs({found[0]!r}, axis=1, level={level})."
            raise refusal(path, "candles of one market", received, cure)
    return levels[prices]


def _arrow_column(cells: pd.Series) -> pa.Array:
    try:
        return pa.Array.from_pandas(cells)
    except (pa.ArrowException, TypeError, ValueError, OverflowError):
        # Texts and numbers, or moments of several kinds, in one column.
        return pa.array([None if pd.isna(cell) else str(cell) for cell in cells])


def candle_files(path: str | os.PathLike[str]) -> list[Path]:
    """Returns a file as it is, or the candle files of a folder, by their names.

    Raises:
        MissingInputError: If there is neither, or the folder has none.
    """
    path = Path(path)
    if path.is_file():
        return [path]
    files = sorted(path.iterdir()) if path.is_dir() else []
    files = [f for f in files if f.is_file() and f.name.lower().endswith(_SUFFIXES)]
    hidden = [file.name.startswith(".") for file in files]
    others = [stated_contents(file.name) is not None for file in files]
    files = [f for f, *out in zip(files, hidden, others, strict=True) if not any(out)]
    if not files:
        what = "a folder without any" if path.is_dir() else "nothing there"
        raise MissingInputError(
            f"{path}: expected a candle file, or a folder of them. Received: {what}. "
            "Check the path, or fetch candles: python -m candles download --help"
        )
    return files


def refuse_mixed_pairs(filenames: Sequence[str]) -> None:
    """Raises DataError where the names of files state several pairs."""
    names = [parse_candle_filename(name) for name in filenames]
    pairs = {plain_pair(name[0]): name[0] for name in names if name}
    if len(pairs) > 1:
        raise DataError(
            "expected files of one pair. Received, by their names: "
            f"{', '.join(sorted(pairs.values()))}. Read each pair by itself."
        )


def _identity(stat: os.stat_result) -> tuple[int, int, int]:
    return stat.st_size, stat.st_mtime_ns, stat.st_ino


def _reader_for(path: Path) -> tuple[str, Callable[[Path], Iterator[Part]]]:
    name = path.name.lower()
    for suffix in sorted(_READERS, key=len, reverse=True):
        if name.endswith(suffix):
            return suffix, _READERS[suffix]
    raise refusal(
        path,
        "one of " + ", ".join(_READERS),
        f"a file named {path.suffix or 'without a suffix'!r}",
        "Save a spreadsheet as CSV; convert or rename another file."
        + did_you_mean(path.suffix, _READERS),
    )


# Packed files


def _read_zip(path: Path) -> Iterator[Part]:
    """Yields each CSV inside; what programs of a desktop add is passed over."""
    members = packed.zip_members(path)
    names = [item.filename for item in members]
    others = [name for name in names if not name.lower().endswith(_PACKED_TEXT)]
    if others or not names:
        received = f"{counted(len(names), 'member', 'members')}: {names[:5]}"
        cure = "Pack the candles by themselves."
        raise refusal(path, "a zip of CSV files", received, cure)
    refuse_mixed_pairs([name.rsplit("/", 1)[-1] for name in names])
    for data in packed.unpack_members(path, members):
        yield read_text(io.BytesIO(data), path)


def _in_order(parts: list[pd.DataFrame], path: Path) -> pd.DataFrame:
    """Joins the files of a zip in time order; what overlaps is merged or refused."""
    parts.sort(key=lambda part: part["timestamp"].iloc[0])
    joined = pd.concat(parts, ignore_index=True)
    joined = joined.sort_values("timestamp", kind="stable", ignore_index=True)
    table, notes = tidy_rows(joined)
    for note in [counted(len(parts), "file", "files") + " inside, joined", *notes]:
        logger.info("%s: %s", path, note)
    return table


def _read_hdf5(path: Path) -> Iterator[Part]:
    packed.require_magic(path, b"\x89HDF")
    yield read_hdf5(path)


# Arrow files


def _require_plain_arrow(path: Path, magic: bytes) -> None:
    """Refuses Arrow files that are cut off, or whose types may run code."""
    if packed.require_magic(path, magic) != magic:
        expected = f"{MAGIC[magic]} with its end"
        raise refusal(path, expected, "a truncated file", FETCH_AGAIN)
    if tables.has_extension_types(path, tail_bytes=len(magic)):
        raise refusal(
            path,
            "plain numbers and timestamps",
            "Arrow extension types in the schema, which may run code",
            "Do not use this file; write it again with plain columns.",
        )


def _read_feather(path: Path) -> Iterator[Part]:
    _require_plain_arrow(path, b"ARROW1")
    with pa.OSFile(str(path)) as source:
        layout = _layout_of_schema(pa.ipc.open_file(source).schema, path)
        tables.refuse_bomb(path, len(COLUMNS))
        options = pa.ipc.IpcReadOptions(included_fields=layout.positions())
        table = pa.ipc.open_file(source, options=options).read_all()
    table.validate(full=True)
    yield table.rename_columns([str(i) for i in layout.positions()]), layout


def _read_parquet(path: Path) -> Iterator[Part]:
    _require_plain_arrow(path, b"PAR1")
    with pq.ParquetFile(path, page_checksum_verification=True) as file:
        if file.metadata.num_rows > MAX_ROWS:
            received = f"{file.metadata.num_rows} rows"
            raise refusal(path, f"at most {MAX_ROWS} rows", received, "Split it.")
        layout = _layout_of_schema(file.schema_arrow, path)
        tables.refuse_bomb(path, len(COLUMNS))
        names = [file.schema_arrow.names[i] for i in layout.positions()]
        table = file.read(columns=names)
    table.validate(full=True)
    yield (
        table.select(names).rename_columns([str(i) for i in layout.positions()]),
        layout,
    )


def _layout_of_schema(schema: pa.Schema, path: Path) -> Layout:
    refuse_unsafe_schema(schema, path)
    if twice := [name for name, n in Counter(schema.names).items() if n > 1]:
        those = ", ".join(map(repr, twice[:5]))
        cure = "Rename or remove columns."
        raise refusal(path, "one column of each name", f"twice: {those}", cure)
    layout = layout_of_names(schema.names, path)
    plain = {k: i for k, i in layout.sides.items() if schema.types[i].num_fields == 0}
    return replace(layout, sides=plain)


def _read_csv(path: Path) -> Iterator[Part]:
    with open(path, "rb") as stream:
        yield read_text(stream, path)


def _read_packed_csv(path: Path) -> Iterator[Part]:
    yield read_text(io.BytesIO(packed.unpack_gzip(path)), path)


_READERS: dict[str, Callable[[Path], Iterator[Part]]] = {
    ".csv": _read_csv,
    ".txt": _read_csv,
    ".tsv": _read_csv,
    ".csv.gz": _read_packed_csv,
    ".feather": _read_feather,
    ".parquet": _read_parquet,
    ".zip": _read_zip,
    ".json": lambda path: iter([read_document(path.read_bytes(), path)]),
    ".jsonl": lambda path: iter([read_document(path.read_bytes(), path)]),
    ".json.gz": lambda path: iter([read_document(packed.unpack_gzip(path), path)]),
    ".jsongz": lambda path: iter([read_document(packed.unpack_gzip(path), path)]),
    ".h5": _read_hdf5,
    ".hdf5": _read_hdf5,
}
_SUFFIXES = tuple(suffix for suffix in _READERS if suffix != ".txt")  # readme.txt
