"""One file of candles -> its timestamps and five columns, not yet judged.

In: file formats, truncated and hostile files. Out: names of columns (`columns`), ways
to write a time (`timestamps`), whether the candles make sense (`checks`), and joining
files (`table`).
"""

from __future__ import annotations

import contextlib
import csv
import gzip
import io
import json
import logging
import os
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from candles.columns import (
    COLUMNS,
    FETCH_AGAIN,
    MAX_ROWS,
    VALUES,
    floats_of,
    make_table,
    pick_columns,
    refusal,
)
from candles.hdf5 import read_hdf5
from candles.timestamps import is_number, parse_timestamps
from files import tables
from utils import DataError, MissingInputError, UserError, did_you_mean

logger = logging.getLogger(__name__)

MAX_UNPACKED_BYTES = 2 * 2**30
MAX_UNPACK_RATIO = 100
_MAGIC = {
    b"ARROW1": "a feather (Arrow) file",
    b"FEA1": "a feather file of the old version 1",
    b"PAR1": "a parquet file",
    b"PK\x03\x04": "a zip archive",
    b"\x1f\x8b": "a gzip file",
    b"\x89HDF": "an HDF5 file",
}
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


def read_file(path: str | os.PathLike[str]) -> pd.DataFrame:
    """Reads one file of any known format into the candle columns, unjudged.

    Args:
        path: `.csv`, `.csv.gz`, `.feather`, `.parquet`, `.zip` (Binance public data),
            `.json`, `.json.gz` / `.jsongz` or `.h5` / `.hdf5` (freqtrade).

    Returns:
        Columns `timestamp` (datetime64[ns, UTC]) and open, high, low, close, volume
        (float64, NaN where a cell is empty), rows in file order, at least one.

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
        stamps, values, how = _decode(reader(path), path)
    except UserError:
        raise
    except _BROKEN as error:
        received = f"{error} ({type(error).__name__})"
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
    certain = how.startswith("dates in ")
    level = logging.DEBUG if certain else logging.INFO
    logger.log(level, "%s: timestamps read as %s", path, how)
    return make_table(stamps, values)


def _decode(
    table: pa.Table, path: Path
) -> tuple[np.ndarray, dict[str, np.ndarray], str]:
    """Returns nanoseconds (num_rows,), the five columns, how the times were written."""
    if table.num_rows == 0:
        raise refusal(path, "candles", "a file without rows", FETCH_AGAIN)
    values = {name: floats_of(table.column(name), name, path) for name in VALUES}
    try:
        stamps, how = parse_timestamps(table.column("timestamp"))
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
    return stamps, values, how


def _identity(stat: os.stat_result) -> tuple[int, int, int]:
    return stat.st_size, stat.st_mtime_ns, stat.st_ino


def _reader_for(path: Path) -> tuple[str, Callable[[Path], pa.Table]]:
    name = path.name.lower()
    for suffix in sorted(_READERS, key=len, reverse=True):
        if name.endswith(suffix):
            return suffix, _READERS[suffix]
    raise refusal(
        path,
        "one of " + ", ".join(_READERS),
        f"a file named {path.suffix or 'without a suffix'!r}",
        f"Convert or rename it.{did_you_mean(path.suffix, _READERS)}",
    )


# Text


def _read_csv(path: Path) -> pa.Table:
    with open(path, "rb") as stream:
        stream.seek(-1, os.SEEK_END)
        last = stream.read(1)
        stream.seek(0)
        return _parse_csv(stream, last, path)


def _parse_packed_csv(data: bytes, path: Path) -> pa.Table:
    return _parse_csv(io.BytesIO(data), data[-1:], path)


def _parse_csv(stream: IO[bytes], last: bytes, path: Path) -> pa.Table:
    head = stream.read(2**16)
    stream.seek(0)
    if not head:
        raise refusal(path, "candles", "an empty CSV", FETCH_AGAIN)
    first_line = head.split(b"\n", 1)[0].removeprefix(b"\xef\xbb\xbf")
    try:
        text = first_line.decode().strip("\r")
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        raise refusal(path, "CSV text", _looks_like(head), "Rename or convert it.")
    if last not in b"\r\n":
        raise refusal(
            path,
            "a CSV whose last line ends with a newline",
            "a last line that breaks off: the file is probably truncated",
            "Fetch it again, or add the newline if it is complete.",
        )
    delimiter = max(",;\t", key=text.count)
    fields = next(csv.reader([text], delimiter=delimiter), [])
    headless = len(fields) > 1 and all(is_number(field) for field in fields[1:6])
    if headless and len(fields) not in (6, 12):
        raise refusal(
            path,
            "6 or 12 columns where the CSV has no header",
            f"{len(fields)} columns: {text[:80]!r}",
            "Add a header line.",
        )
    positions = pick_columns(COLUMNS if headless else fields, path)
    # Names of our own: a file's may repeat, which Arrow does not select well.
    chosen = {f"c{i}": column for column, i in positions.items()}
    types = {name: pa.float64() for name in chosen}
    types[f"c{positions['timestamp']}"] = pa.string()
    reading = pa_csv.ReadOptions(
        column_names=[f"c{i}" for i in range(len(fields))], skip_rows=not headless
    )
    table = _convert_csv(stream, path, reading, delimiter=delimiter, types=types)
    return table.rename_columns([chosen[name] for name in table.column_names])


def _convert_csv(
    stream: IO[bytes],
    path: Path,
    reading: pa_csv.ReadOptions,
    *,
    delimiter: str,
    types: dict[str, pa.DataType],
) -> pa.Table:
    def convert(*, use_threads: bool) -> pa.Table:
        stream.seek(0)
        reading.use_threads = use_threads
        return pa_csv.read_csv(
            pa.PythonFile(stream, mode="r"),
            reading,
            pa_csv.ParseOptions(delimiter=delimiter),
            pa_csv.ConvertOptions(column_types=types, include_columns=list(types)),
        )

    try:
        with contextlib.suppress(pa.ArrowInvalid):
            return convert(use_threads=True)
        return convert(use_threads=False)  # fails again, and names the row
    except pa.ArrowInvalid as error:
        expected = "numbers in rows of equal length"
        raise refusal(path, expected, str(error), "Repair the row.") from error


def _parse_json(data: bytes, path: Path) -> pa.Table:
    expected = "freqtrade JSON: a list of [ms, open, high, low, close, volume] rows"
    try:
        values = np.asarray(json.loads(data) or np.empty((0, 6)), dtype=np.float64)
    except (ValueError, TypeError, RecursionError, OverflowError) as error:
        raise refusal(path, expected, str(error), FETCH_AGAIN) from error
    if values.ndim != 2 or values.shape[1] != 6:
        shape = f"values of shape {values.shape}"
        raise refusal(path, expected, shape, "Convert it to rows of six numbers.")
    return pa.table({name: values[:, i] for i, name in enumerate(COLUMNS)})


# Packed files


def _unpack(stream: Any, packed_bytes: int, path: Path) -> bytes:
    """Returns all of `stream`, refusing what grows beyond any candle file."""
    limit = min(MAX_UNPACKED_BYTES, MAX_UNPACK_RATIO * packed_bytes + 2**20)
    data = stream.read(limit + 1)
    if len(data) > limit:
        raise refusal(
            path,
            f"at most {limit} bytes from {packed_bytes} packed bytes",
            "more: this looks like a decompression bomb",
            "Do not use this file.",
        )
    return data


def _unpack_gzip(path: Path) -> bytes:
    _require_magic(path, b"\x1f\x8b")
    with gzip.open(path) as stream:
        return _unpack(stream, path.stat().st_size, path)


def _read_zip(path: Path) -> pa.Table:
    _require_magic(path, b"PK\x03\x04")
    with zipfile.ZipFile(path) as archive:
        members = [item for item in archive.infolist() if not item.is_dir()]
        names = [item.filename for item in members]
        if len(members) != 1 or not names[0].lower().endswith(".csv"):
            received = f"{len(names)} members: {names[:5]}"
            cure = "Pack each CSV by itself."
            raise refusal(path, "a zip with one CSV inside", received, cure)
        with archive.open(members[0]) as stream:
            return _parse_packed_csv(_unpack(stream, path.stat().st_size, path), path)


def _read_hdf5(path: Path) -> pa.Table:
    _require_magic(path, b"\x89HDF")
    return read_hdf5(path)


# Arrow files


def _looks_like(head: bytes) -> str:
    for magic, what in _MAGIC.items():
        if head.startswith(magic):
            return what
    start = head[:40].split(b"\n")[0]
    if start and all(byte == 9 or 32 <= byte < 127 for byte in start.strip(b"\r")):
        return f"text that begins with {start.decode()!r}"
    return f"bytes that begin with {start[:8]!r}"


def _require_magic(path: Path, magic: bytes) -> bytes:
    """Returns the end of a file that begins with `magic`, as many bytes."""
    with open(path, "rb") as stream:
        head = stream.read(64)
        stream.seek(max(0, path.stat().st_size - len(magic)))
        tail = stream.read()
    if not head.startswith(magic):
        cure = "Rename it after what it is."
        raise refusal(path, _MAGIC[magic], _looks_like(head), cure)
    return tail


def _require_plain_arrow(path: Path, magic: bytes) -> None:
    """Refuses Arrow files that are cut off, or whose types may run code."""
    if _require_magic(path, magic) != magic:
        expected = f"{_MAGIC[magic]} with its end"
        raise refusal(path, expected, "a truncated file", FETCH_AGAIN)
    if tables.has_extension_types(path, tail_bytes=len(magic)):
        raise refusal(
            path,
            "plain numbers and timestamps",
            "Arrow extension types in the schema, which may run code",
            "Do not use this file; write it again with plain columns.",
        )


def _read_feather(path: Path) -> pa.Table:
    _require_plain_arrow(path, b"ARROW1")
    tables.refuse_bomb(path, len(COLUMNS))
    with pa.OSFile(str(path)) as source:
        chosen = pick_columns(pa.ipc.open_file(source).schema.names, path)
        options = pa.ipc.IpcReadOptions(included_fields=sorted(chosen.values()))
        table = pa.ipc.open_file(source, options=options).read_all()
    table.validate(full=True)
    return table.rename_columns(sorted(chosen, key=chosen.__getitem__))


def _read_parquet(path: Path) -> pa.Table:
    _require_plain_arrow(path, b"PAR1")
    with pq.ParquetFile(path, page_checksum_verification=True) as file:
        if file.metadata.num_rows > MAX_ROWS:
            received = f"{file.metadata.num_rows} rows"
            raise refusal(path, f"at most {MAX_ROWS} rows", received, "Split it.")
        tables.refuse_bomb(path, len(COLUMNS))
        names = file.schema_arrow.names
        chosen = pick_columns(names, path)
        table = file.read(columns=[names[i] for i in chosen.values()])
    table.validate(full=True)
    table = table.select([names[i] for i in chosen.values()])
    return table.rename_columns(list(chosen))


_READERS: dict[str, Callable[[Path], pa.Table]] = {
    ".csv": _read_csv,
    ".csv.gz": lambda path: _parse_packed_csv(_unpack_gzip(path), path),
    ".feather": _read_feather,
    ".parquet": _read_parquet,
    ".zip": _read_zip,
    ".json": lambda path: _parse_json(path.read_bytes(), path),
    ".json.gz": lambda path: _parse_json(_unpack_gzip(path), path),
    ".jsongz": lambda path: _parse_json(_unpack_gzip(path), path),
    ".h5": _read_hdf5,
    ".hdf5": _read_hdf5,
}
