"""Feather, Parquet and CSV files -> columns, read in batches, refused when unsafe.

In: opening a file of columns of any of these formats, with one clear error. Out: how
text is written (`text`), what the columns mean (`dataset.columns`), files of candles
(`candles.formats`).
"""

from __future__ import annotations

import base64
import contextlib
import functools
import hashlib
import io
import os
import re
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.dataset
import pyarrow.feather
import pyarrow.parquet

from files import packed, text
from files.atomic import atomic_path
from files.plain_names import refuse_unsafe_schema
from utils import ConfigError, DataError, MissingInputError

SUFFIXES = (".feather", ".parquet", ".csv")
"""Formats that are written and read."""

_TEXTS = (".csv", ".tsv", ".txt", ".csv.gz", ".zip")
READ_SUFFIXES = tuple(dict.fromkeys((*SUFFIXES, *_TEXTS)))
BATCH_ROWS = 65_536
MAX_FOOTER_BYTES = 64 * 2**20
MAX_CELLS = 20_000_000_000
MAX_CELLS_PER_BYTE = 100
"""Cells that a byte of a file may stand for: measured files have less than one."""


# What parsers raise on broken bytes; RuntimeError: an encrypted or unknown zip member.
_BROKEN = (
    pa.ArrowException,
    EOFError,
    OSError,
    RuntimeError,
    UnicodeDecodeError,
    zipfile.BadZipFile,
    zlib.error,
)


class Columns:
    """The columns of one file or frame; a file is read when a column is asked for.

    A file is opened once: its digest and every column are of the same bytes, also when
    another file takes its name meanwhile.

    Args:
        schema: Names and types of the columns, whose `names` are in this order.
        table: A whole table, or None when `stream` is read in batches.
        path: The file; None for a frame.
        stream: The open file; None for a frame.
    """

    def __init__(
        self,
        *,
        schema: pa.Schema,
        table: pa.Table | None,
        path: Path | None = None,
        stream: pa.NativeFile | None = None,
    ) -> None:
        self.schema = schema
        self.names: list[str] = list(schema.names)
        self.path = path
        self._table = table
        self._stream = stream
        self._names_in_file: dict[str, str] = {}
        refuse_extension_types(schema, path or "the frame")
        refuse_unsafe_schema(schema, path or "the frame")
        repeated = [name for name, n in Counter(schema.names).items() if n > 1]
        if repeated:
            raise DataError(
                f"{path or 'the frame'}: expected one column of each name. "
                f"Received twice: {', '.join(sorted(repeated)[:5])}"
            )

    @functools.cached_property
    def digest(self) -> str | None:
        """SHA-256 of the file's bytes; None for a frame."""
        if self._stream is None:
            return None
        with _refuse_broken(self.path):
            self._stream.seek(0)
            return hashlib.file_digest(self._stream, "sha256").hexdigest()

    def rename(self, new_names: Mapping[str, str]) -> None:
        """Gives columns other names, under which they are read from now on."""
        self._names_in_file = {
            new_names.get(name, name): self._names_in_file.get(name, name)
            for name in self.names
        }
        self.names = list(self._names_in_file)

    def take(self, rows: np.ndarray) -> pa.Table:
        """Returns the given rows of all columns, under their names."""
        with _refuse_broken(self.path):
            return pa.Table.from_batches(self._batches(self.names)).take(rows)

    def keep(self, rows: np.ndarray) -> None:
        """Has the given rows alone, in that order; they are in memory from now on."""
        self._table, self._names_in_file = self.take(rows), {}
        self.schema = self._table.schema

    def kind(self, name: str) -> pa.DataType:
        """Returns the type of one column."""
        return self.schema.field(self._names_in_file.get(name, name)).type

    def head(self, num_rows: int) -> pa.RecordBatch | None:
        """Returns the first rows of all columns; None of an empty table."""
        with _refuse_broken(self.path):
            batch = next(self._batches(self.names, rows=num_rows), None)
        return None if batch is None else batch.slice(0, num_rows)

    def read(self, name: str) -> pa.ChunkedArray:
        """Returns one whole column."""
        with _refuse_broken(self.path):
            chunks = [_detached(batch.column(0)) for batch in self._batches([name])]
        return pa.chunked_array(chunks, type=self.kind(name))

    def read_numbers(self, outputs: Mapping[str, np.ndarray]) -> None:
        """Fills arrays with numeric columns in one pass, nulls as NaN.

        A batch of rows is in memory at a time, never the file.

        Args:
            outputs: Column name -> (num_rows,) array that receives it.

        Raises:
            DataError: If a column is not numeric, has an empty cell that its array
                cannot hold, or has another length.
        """
        checks = (pa.types.is_integer, pa.types.is_floating, pa.types.is_boolean)
        for name in outputs:
            kind = self.kind(name)
            if not any(check(kind) for check in checks):
                raise DataError(
                    f"{name}: expected numbers. Received: a column of type {kind}, "
                    f"{self._first_value(name)}. Write numbers as 1234.5 where the "
                    "file is made, or remove the column."
                )
        position = 0
        with _refuse_broken(self.path):
            for batch in self._batches(list(outputs)):
                stop = position + len(batch)
                for name, out in outputs.items():
                    if stop > len(out):
                        raise DataError(f"{name}: expected {len(out)} rows, not more.")
                    column = batch.column(name)
                    if column.null_count and out.dtype.kind != "f":
                        raise DataError(f"{name}: expected no empty cell.")
                    values = column.to_numpy(zero_copy_only=False)
                    _fill(name, values, out[position:stop])
                position = stop
        for name, out in outputs.items():
            if position != len(out):
                raise DataError(
                    f"{name}: expected {len(out)} rows. Received: {position}"
                )

    def _first_value(self, name: str) -> str:
        """Returns the first value of a column that is not empty, in words."""
        values = self.read(name).drop_null()
        return f"first {values[0].as_py()!r:.60}" if len(values) else "all empty"

    def _batches(
        self, names: Sequence[str], *, rows: int = BATCH_ROWS
    ) -> Iterator[pa.RecordBatch]:
        """Yields the named columns, some ten thousand rows at a time."""
        given = {self._names_in_file.get(name, name): name for name in names}
        for batch in self._batches_of_file(list(given), rows):
            yield batch.select(list(given)).rename_columns(list(given.values()))

    def _batches_of_file(self, names: list[str], rows: int) -> Iterator[pa.RecordBatch]:
        if self._table is not None:
            yield from self._table.select(names).to_batches(max_chunksize=rows)
        elif self.path is not None and self.path.suffix.lower() == ".parquet":
            file = pa.parquet.ParquetFile(self._stream, page_checksum_verification=True)
            yield from file.iter_batches(rows, columns=names)
        else:
            fields = [self.schema.get_field_index(name) for name in names]
            options = pa.ipc.IpcReadOptions(included_fields=fields)
            reader = pa.ipc.open_file(self._stream, options=options)
            for index in range(reader.num_record_batches):
                yield reader.get_batch(index)


def _detached(column: pa.Array) -> pa.Array:
    """Returns a copy of a column; a slice keeps its whole batch in memory."""
    kind = column.type
    is_plain = pa.types.is_primitive(kind) and not pa.types.is_boolean(kind)
    if column.null_count or not is_plain:
        return column.take(pa.array(np.arange(len(column), dtype=np.int32)))
    bits = column.view(
        {8: pa.int8(), 16: pa.int16(), 32: pa.int32()}.get(kind.bit_width, pa.int64())
    )
    return pa.array(bits.to_numpy(zero_copy_only=True).copy()).view(kind)


def _fill(name: str, values: np.ndarray, out: np.ndarray) -> None:
    with np.errstate(invalid="ignore", over="ignore"):
        out[:] = values
    if out.dtype.kind != "f" and not np.array_equal(out, values):
        raise DataError(
            f"{name}: expected numbers that {out.dtype} holds. "
            f"Received: {values[out != values][0]}, among others."
        )


def open_table(path: str | os.PathLike[str]) -> Columns:
    """Opens a feather, parquet or CSV file, perhaps packed, by its suffix.

    Raises:
        MissingInputError: If there is no file.
        DataError: If it is empty, of another format, damaged or unsafe.
    """
    path = Path(path)
    if not path.is_file():
        raise MissingInputError(f"expected a file. Received: {path}")
    suffix = next((s for s in READ_SUFFIXES if path.name.lower().endswith(s)), None)
    if suffix is None:
        raise DataError(
            f"{path}: expected a name ending in {', '.join(READ_SUFFIXES)}. "
            f"Received: {path.suffix or 'no suffix'!r}. Save the table as CSV where it "
            "was made, or convert it."
        )
    if path.stat().st_size == 0:
        raise DataError(
            f"{path}: expected a {suffix[1:]} file. Received: 0 bytes. "
            "Make the file again, or fetch it again."
        )
    with _refuse_broken(path):
        stream = pa.OSFile(str(path))
        if suffix in _TEXTS:
            table = _read_text(path, suffix)
            return Columns(schema=table.schema, table=table, path=path, stream=stream)
        is_parquet = suffix == ".parquet"
        if has_extension_types(path, tail_bytes=4 if is_parquet else 6):
            raise DataError(
                f"{path}: expected plain columns. Received: Arrow extension types. "
                "Such a file can run code when it is read."
            )
        if is_parquet:
            schema = pa.parquet.read_schema(stream)
        else:
            schema = pa.ipc.open_file(stream).schema
        refuse_bomb(path, len(schema.names))
        return Columns(schema=schema, table=None, path=path, stream=stream)


def _read_text(path: Path, suffix: str) -> pa.Table:
    if suffix in (".csv", ".tsv", ".txt"):
        with open(path, "rb") as file:
            return text.read_csv(file, path)
    if suffix == ".csv.gz":
        return text.read_csv(io.BytesIO(packed.unpack_gzip(path)), path)
    members = packed.zip_members(path)
    names = [item.filename for item in members]
    if len(members) != 1 or not names[0].lower().endswith(".csv"):
        raise text.refusal(
            path, "a zip with one CSV inside", f"{names[:5]}", "Pack the CSV by itself."
        )
    (content,) = packed.unpack_members(path, members)
    return text.read_csv(io.BytesIO(content), path)


def has_extension_types(path: Path, *, tail_bytes: int) -> bool:
    """Whether the schema of an Arrow or Parquet file has them, by its bytes alone.

    Arrow builds registered types, which may run code, as soon as it opens a file; so
    this looks before it does. Parquet carries the Arrow schema as base64 text.
    The footer's length stands before the magic at its end, of `tail_bytes`.

    Raises:
        DataError: If there is no footer where it should be.
    """
    with open(path, "rb") as stream:
        end = stream.seek(0, os.SEEK_END)
        stream.seek(max(0, end - tail_bytes - 4))
        length = int.from_bytes(stream.read(4), "little")
        if not 0 < length <= min(end - tail_bytes - 4, MAX_FOOTER_BYTES):
            raise DataError(
                f"{path}: expected a whole {path.suffix[1:]} file. Received: a footer "
                f"length of {length} bytes in a file of {end}. Make the file again."
            )
        stream.seek(end - tail_bytes - 4 - length)
        footer = stream.read(length)
    places = [footer]
    for run in re.findall(rb"[A-Za-z0-9+/]{40,}", footer):
        places += [
            base64.b64decode(run[start:][: (len(run) - start) // 4 * 4])
            for start in range(4)
        ]
    return any(b"ARROW:extension:name" in place for place in places)


def refuse_bomb(path: Path, num_columns: int) -> None:
    """Raises DataError if an Arrow or Parquet file unpacks to far more than it is."""
    kind = "parquet" if path.suffix.lower() == ".parquet" else "feather"
    cells = pa.dataset.dataset(str(path), format=kind).count_rows() * num_columns
    limit = min(MAX_CELLS, MAX_CELLS_PER_BYTE * path.stat().st_size + 10**6)
    if not 0 <= cells <= limit:
        raise DataError(
            f"{path}: expected at most {limit} cells. Received: {cells}. This looks "
            "like a decompression bomb: do not use this file."
        )


def require_suffix(path: str | os.PathLike[str], what: str) -> str:
    """Returns the suffix of a file that is written; `what` names it.

    Raises:
        ConfigError: If it is of no format that is read back.
    """
    suffix = Path(path).suffix
    if suffix not in SUFFIXES:
        raise ConfigError(
            f"{what}: expected a name in {', '.join(SUFFIXES)}. "
            f"Received: {path}. Rename it."
        )
    return suffix


def write_table(path: str | os.PathLike[str], frame: Any) -> None:
    """Writes a DataFrame in the format of its suffix, whole or not at all."""
    suffix = require_suffix(path, "file")
    table = pa.Table.from_pandas(frame, preserve_index=False)
    with atomic_path(path) as temporary:
        if suffix == ".parquet":
            pa.parquet.write_table(table, temporary, write_page_checksum=True)
        elif suffix == ".csv":
            pa.csv.write_csv(table, temporary)
        else:
            pa.feather.write_feather(table, str(temporary), compression="lz4")


def write_parquet(path: str | os.PathLike[str], frame: Any) -> None:
    """Writes a DataFrame whole or not at all, with checksums against flipped bits."""
    with atomic_path(path) as temporary:
        frame.to_parquet(
            temporary, index=False, engine="pyarrow", write_page_checksum=True
        )


def from_pandas(frame: Any) -> Columns:
    """Takes a DataFrame; an index other than row numbers is a column, as in a file."""
    frame = frame.set_axis([str(name) for name in frame.columns], axis=1)
    try:
        table = pa.Table.from_pandas(frame)
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise DataError(f"expected plain columns. Received: {error}") from error
    return Columns(schema=table.schema, table=table)


def refuse_extension_types(schema: pa.Schema, where: object) -> None:
    """Raises DataError for Arrow extension types: some run code when they are read."""
    unsafe = [
        field.name
        for field in schema
        if isinstance(field.type, pa.BaseExtensionType)
        or b"ARROW:extension:name" in (field.metadata or {})
    ]
    if unsafe:
        raise DataError(
            f"{where}: expected plain columns. Received Arrow extension types in: "
            f"{', '.join(unsafe)}. Such a file can run code when it is read."
        )


@contextlib.contextmanager
def _refuse_broken(path: Path | None) -> Iterator[None]:
    """Turns Arrow's errors about one file into a `DataError` that names it."""
    try:
        yield
    except DataError:
        raise
    except _BROKEN as error:
        suffix = path.suffix[1:] if path else "table"
        detail = str(error).splitlines()[0][:300]
        raise DataError(
            f"{path}: expected a whole {suffix} file. Received: {detail}. "
            "Check the format, or make the file again."
        ) from error
